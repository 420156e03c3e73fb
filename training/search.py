"""`search`: find the structure of the auxiliary for a recipe, in a folder; the same call continues a killed search."""

import dataclasses
from pathlib import Path

import keras
import tensorflow as tf

import auxzoo
from auxzoo.auxiliary import attach, switches
from auxzoo.auxiliary.drawing import draw_structure, parse_series, plot_gates, series_name
from auxzoo.data.decoding import printable
from auxzoo.files import numbered_folder, write_json
from auxzoo.machine import processor_name

from .black_box import search_by_evolution, search_by_halving
from .class_weights import with_class_weights
from .compilation import COMPUTE_FILE
from .compute import apply_compute, describe_compute
from .gate_trainer import GateTrainer, gate_steps
from .loop import RUN_STATE_FILE, run_trainer
from .perturbation import KeptRounds, Perturbation, choose_links, links_to_measure, number_of_trainings
from .run import checksum_of_sets
from .run_folder import (
    GATES_PICTURE,
    METRICS_FILE,
    PERTURBATION_FILE,
    STEP_COSTS_FILE,
    STRUCTURE_FILE,
    STRUCTURE_PICTURES,
    claim_folder,
    hold_folder,
)
from .run_state import read_progress
from .search_case import SearchCase
from .unrolled import exact_second_derivatives

METHODS = {"halving": search_by_halving, "evolution": search_by_evolution}


def search(recipe, folder=None, *, overwrite=False, measured=None, callbacks=(), progress=print, verbose="auto"):
    """Searches a structure and leaves it in a folder, for `auxzoo train --structure`.

    Args:
        recipe: `SearchRecipe`.
        folder: where the search goes; as of `train`. A new numbered one under `runs/` if `None`.
        overwrite: delete a finished or foreign run or search in `folder` first.
        measured: as of `train`; of it only oneDNN matters here.
        callbacks: Keras callbacks of the gradient search.
        progress: function of a line of text.
        verbose: as of `keras.Model.fit`.

    Returns:
        `Path` of the folder. In it: `structure.json` with its provenance (space, settings, seed, data, versions, what
        the search cost, what was found of every link and operation), `structure.png` and `.svg`, `metrics.json`,
        `recipe.yaml`; of the gradient search `gates.png`, of the others every candidate's record. The seconds that it
        cost are without those of timing steps.

    Raises:
        UserError: if the recipe, its data or the folder are not right, or the budget cannot be met.
        TrainingDiverged: if a loss, a weight or a gate becomes NaN or infinite.

    Example:
        >>> recipe = SearchRecipe.parse(read_settings("resnet18_025_cifar10"), "The recipe")
        >>> structure = auxzoo.Structure.read(search(recipe, "found") / "structure.json")
    """
    apply_compute(recipe.compute)
    folder = Path(folder or numbered_folder("runs", f"{recipe.name}_search"))
    starts_anew = overwrite and (folder / METRICS_FILE).exists()
    case = SearchCase(recipe, folder / STEP_COSTS_FILE, continues=not starts_anew)
    with hold_folder(folder):
        claim_folder(
            *(folder, recipe, overwrite, "search"),
            pretrained_sha256=case.checksums.get("pretrained"),
            images_sha256=checksum_of_sets(case.train, case.gates),
        )
        case.keep_step_costs()
        if measured is not None:
            write_json(folder / COMPUTE_FILE, measured)
        if recipe.search.method == "gradient":
            structure, found, cost = _search_by_gradient(case, folder, callbacks, progress, verbose)
        else:
            structure, found, cost = METHODS[recipe.search.method](case, folder, progress)
        public = recipe.public()  # a structure goes out with the weights that it was trained with
        parts = {"train": case.train, "gates": case.gates}
        provenance = {
            "made_by": "auxzoo search",
            "recipe": public.record(),
            "space": case.space.to_dict(),
            "data": {name: _manifest(part, recipe.data.source, public.data.source) for name, part in parts.items()},
            "pretrained_sha256": case.checksums.get("pretrained"),
            "found": found,
            "cost": cost,
            "links": sum(len(node.links) for node in structure.nodes),
            "step_cost": case.step_cost(structure),
            "made_with": {
                "auxzoo": auxzoo.__version__,
                "keras": keras.__version__,
                "tensorflow": tf.__version__,
                "processor": processor_name(),
                **describe_compute(),
            },
        }
        structure = dataclasses.replace(structure, provenance=provenance)
        for name in STRUCTURE_PICTURES:
            draw_structure(structure, folder / name, title=recipe.name)
        structure.save(folder / STRUCTURE_FILE)
        keys = ("cost", "links", "step_cost", "found")
        # Last: it marks the search as finished.
        write_json(folder / METRICS_FILE, {key: provenance[key] for key in keys})
    return folder


def _manifest(images, source, public_source):
    """Returns the manifest of a set of images without the path of its folder."""
    manifest = images.manifest()
    if source.startswith("folder:"):
        folder = printable(Path(source.removeprefix("folder:")).expanduser())
        manifest["source"] = manifest["source"].replace(f"folder:{folder}", public_source, 1)
    return manifest


class _Batches:
    """The data of a `GateTrainer`: pairs of a batch to train on and a batch to judge by."""

    def __init__(self, case):
        self.case = case
        self.steps_per_epoch = case.train.size // case.recipe.batch_size

    def training_batches(self, first_epoch):
        """Returns the endless pairs from an epoch on; a batch to judge by comes again until the gates have moved."""
        case, recipe = self.case, self.case.recipe
        every = recipe.search.every
        train = case.train.training_batches(
            case.preprocessing, recipe.batch_size, recipe.seed, case.augmentation, first_epoch
        )
        gates = case.gates.training_batches(
            case.preprocessing, min(recipe.batch_size, case.gates.size), recipe.seed + 1, case.augmentation
        )
        gates = gates.flat_map(lambda *batch: tf.data.Dataset.from_tensors(batch).repeat(every))
        return tf.data.Dataset.zip(train, gates.skip(first_epoch * self.steps_per_epoch))

    def validation_batches(self):
        """Returns `None`: the accuracy of a super-network says nothing, and chooses nothing."""
        return None


class _GateHistory(keras.callbacks.Callback):
    """Adds every gate's probability to the history of the run, at the end of each epoch."""

    def __init__(self, progress):
        super().__init__()
        self.progress = progress

    def on_epoch_end(self, epoch, logs=None):
        """Adds a value to each series."""
        for name, value in gate_probabilities(self.model.network).items():
            self.progress.history.setdefault(name, []).append(value)


def gate_probabilities(network):
    """Returns series name -> probability of every link and operation of a super-network, 0 to 1."""
    gates, choices = switches(network)
    values = {series_name("link", *gate.link): gate.probability_open() for gate in gates}
    for choice in choices:
        for operation, value in zip(choice.operations, choice.probabilities(), strict=True):
            values[series_name("operation", choice.node, operation)] = value
    return {name: round(float(value), 5) for name, value in values.items()}


def _search_by_gradient(case, folder, callbacks, progress, verbose):
    """Returns `(structure, what was found, what it cost)`."""
    recipe = case.recipe
    network = attach(case.compact(), case.space)
    batches = _Batches(case)
    steps = batches.steps_per_epoch * recipe.epochs
    objective = with_class_weights(recipe.own_objective, network, case.train)
    trainer = GateTrainer(network, objective, steps, recipe.search, case.shares)
    state_file = folder / RUN_STATE_FILE
    with exact_second_derivatives(network), recipe.optimization.frozen(network):
        run_trainer(
            trainer,
            recipe.optimization.model_copy(update={"ema_momentum": None}),
            batches,
            epochs=recipe.epochs,
            settings={"recipe": recipe.without_places(), "compilation": case.compilation, "images": case.checksums},
            state_file=state_file,
            averaging=None,
            callbacks=lambda progress: [_GateHistory(progress), *callbacks],
            validation_every=1,
            verbose=verbose,
            rates=recipe.optimization.rates(network),
        )
    run_progress = read_progress(state_file)
    history = {name: values for name, values in run_progress.history.items() if parse_series(name)}
    plot_gates(history, folder / GATES_PICTURE, title=recipe.name, warm_up=recipe.search.warm_up * recipe.epochs)
    operations = {
        choice.node: choice.operations[int(keras.ops.argmax(choice.logits))] for choice in trainer.gates.choices
    }
    budget = recipe.search.links
    probabilities = {gate.link: float(gate.probability_open()) for gate in trainer.gates.links}
    links = links_to_measure(probabilities, budget, case.space)
    steps_each = int(recipe.search.perturbation * steps / number_of_trainings(len(links), budget))
    with recipe.optimization.frozen(network):
        uncertainty = None if trainer.uncertainty is None else trainer.uncertainty.numpy()
        perturbation = Perturbation(network, operations, case, objective, max(steps_each, 1), uncertainty)
        kept = KeptRounds(perturbation, folder / PERTURBATION_FILE)
        links, rounds = choose_links(kept, links, budget, case.space, progress)
    structure = case.within_budget(links, operations, progress)
    cost = {
        "steps": steps + kept.steps,
        "gate_steps": len(gate_steps(steps, recipe.search)),
        "perturbation_steps": kept.steps,
        "seconds": round(run_progress.seconds + kept.seconds, 1),
    }
    found = {
        "link_worths": [
            [{"node": node, "tap": tap, "worth": worth} for (node, tap), worth in worths.items()] for worths in rounds
        ],
        "gate_history": history,
    }
    return structure, found, cost
