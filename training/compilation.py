"""Whether a training step is faster compiled by XLA, by measurement.

On processors XLA made some steps a little faster and those of depthwise convolutions five to eight times slower
(`benchmarks/training_step.json`); nothing but a measurement tells. It runs in a child process, on a copy: weights,
optimiser, batch-norm statistics and seeds of the caller stay untouched, and oneDNN, which must be set before TensorFlow
is imported, can be tried there too.
"""

import contextlib
import importlib
import json
import sys
from pathlib import Path

from absl import logging

from auxzoo.child_process import ChildFailed, run_module
from auxzoo.files import temporary_folder

COMPUTE_FILE = "compute.json"  # where a run keeps what was measured


def choose_compilation(network, batch_size, objective, optimization, description=None):
    """Returns `"xla"` or `"graph"`, whichever moves more images a second on this machine.

    Where the copy cannot be made or timed (a network with layers that only the caller's process knows), the
    answer is `"graph"` and the log says why.
    """
    try:
        rates = measure_compilations(network, batch_size, objective, optimization, description)
    except (ChildFailed, ValueError) as error:
        logging.warning("Steps could not be timed in a child process, so they are not compiled: %s", error)
        return "graph"
    logging.info("Images a second by compilation: %s", rates)
    return max(rates, key=rates.get)


def measure_compilations(network, batch_size, objective, optimization, description=None):
    """Times training steps of a copy of `network` in a child process, with as many threads as this one has.

    Args:
        network: functional Keras model, compact or joint.
        batch_size: `int`, images a step.
        objective: `Objective`.
        optimization: `Optimization`.
        description: `Description` of a network that carries none, or `None`.

    Returns:
        `dict`: images a second of `"graph"` and `"xla"`.

    Raises:
        ChildFailed: if the network cannot be copied, or the child fails.
    """
    import tensorflow as tf

    job = {
        "threads": tf.config.threading.get_intra_op_parallelism_threads() or None,
        "batch_size": batch_size,
        "objective": objective.model_dump(),
        "optimization": optimization.model_dump(),
        "description": None if description is None else description.to_dict(),
    }
    with temporary_folder() as folder:
        try:
            network.save(folder / "network.keras")
        except (NotImplementedError, TypeError, ValueError, OSError) as error:
            raise ChildFailed(f"A copy of {network.name!r} could not be saved: {error}") from error
        return _run_child(folder, job, {})


def measure_compute(settings):
    """Times training steps of a recipe with and without oneDNN and XLA, before TensorFlow is imported here.

    Args:
        settings: `dict`, the recipe as `read_settings` returned it.

    Returns:
        `dict`: the fastest `compilation` and `onednn`, and `images_per_second` of all that were allowed.

    Raises:
        ChildFailed: if a child fails.
    """
    compute = settings.get("compute", {})
    choices = [compute["onednn"]] if isinstance(compute.get("onednn"), bool) else [True, False]
    rates = {}
    for onednn in choices:
        with temporary_folder() as folder:
            measured = _run_child(folder, {"recipe": settings}, {"TF_ENABLE_ONEDNN_OPTS": str(int(onednn))})
        for compilation, rate in measured.items():
            if compute.get("compilation", "auto") in ("auto", compilation):
                rates[compilation, onednn] = rate
    compilation, onednn = max(rates, key=rates.get)
    return {
        "compilation": compilation,
        "onednn": onednn,
        "images_per_second": {
            f"{compilation}, oneDNN {'on' if onednn else 'off'}": rate for (compilation, onednn), rate in rates.items()
        },
    }


def _run_child(folder, job, environment):
    (folder / "job.json").write_text(json.dumps(job))
    run_module("auxzoo.training.compilation", folder, environment)
    return json.loads((folder / "rates.json").read_text())


def _measure(folder):
    """Runs in the child: steps of both kinds in turn."""
    import keras

    from ..models.description import Description
    from .compute import set_threads
    from .objective import Objective
    from .optimization import Optimization
    from .step_cost import seconds_of_fastest, training_step

    job = json.loads((folder / "job.json").read_text())
    if "recipe" in job:
        job = _save_network_of_recipe(job["recipe"], folder)
    else:
        set_threads(job["threads"])
    objective, optimization = Objective(**job["objective"]), Optimization(**job["optimization"])
    description = None if job.get("description") is None else Description.from_dict(job["description"])
    compilations = ("graph", "xla")
    with contextlib.ExitStack() as stack:
        functions = []
        for compilation in compilations:
            network = keras.models.load_model(folder / "network.keras", compile=False)
            stack.enter_context(optimization.frozen(network, description))
            functions.append(training_step(network, job["batch_size"], objective, optimization, compilation))
        seconds = seconds_of_fastest(functions, rounds=4, steps=1)
    rates = {kind: round(job["batch_size"] / one, 1) for kind, one in zip(compilations, seconds, strict=True)}
    (folder / "rates.json").write_text(json.dumps(rates))


def _save_network_of_recipe(settings, folder):
    from auxzoo.auxiliary import attach

    from .compute import apply_compute
    from .recipe import Recipe
    from .run import build_compact, build_structure

    recipe = Recipe.parse(settings, "The recipe")
    apply_compute(recipe.compute)
    compact = build_compact(recipe)
    structure = build_structure(recipe, compact)
    network = compact if structure is None else attach(compact, structure)
    network.save(folder / "network.keras")
    return {
        "batch_size": recipe.batch_size,
        "objective": recipe.objective.model_dump(),
        "optimization": recipe.optimization.model_dump(),
    }


if __name__ == "__main__":
    # The class of described networks must be known to Keras before one is loaded.
    importlib.import_module("auxzoo.models.description")
    _measure(Path(sys.argv[1]))
