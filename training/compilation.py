"""Whether a training step is faster compiled by XLA, by measurement.

On processors XLA made steps of dense convolutions 1.5 times faster and of depthwise convolutions four times
slower; nothing but a measurement tells. It runs in a child process, on a copy: weights, optimiser, batch-norm
statistics and seeds of the caller stay untouched, and oneDNN, which must be set before TensorFlow is
imported, can be tried there too.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import logging


def choose_compilation(network, batch_shape, classes, objective, optimization):
    """Returns `"xla"` or `"graph"`, whichever moves more images a second on this machine.

    Where the copy cannot be made or timed (a network with layers that only the caller's process knows), the
    answer is `"graph"` and the log says why.
    """
    try:
        rates = measure_compilations(network, batch_shape, classes, objective, optimization)
    except (subprocess.CalledProcessError, ValueError) as error:
        logging.warning("Steps could not be timed in a child process, so they are not compiled: %s", error)
        return "graph"
    logging.info("Images a second by compilation: %s", rates)
    return max(rates, key=rates.get)


def measure_compilations(network, batch_shape, classes, objective, optimization, environment=None):
    """Times training steps of a copy of `network` in a child process.

    Args:
        network: functional Keras model, compact or joint.
        batch_shape: `(batch, height, width, channels)`.
        classes: `int`, number of logits.
        objective: `Objective`.
        optimization: `Optimization`.
        environment: `dict`, added to the child's environment variables (`TF_ENABLE_ONEDNN_OPTS`).

    Returns:
        `dict`: images a second of `"graph"` and `"xla"`.

    Raises:
        subprocess.CalledProcessError: if the child fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        network.save(Path(folder) / "network.keras")
        job = {
            "batch_shape": list(batch_shape),
            "classes": classes,
            "objective": objective.model_dump(),
            "optimization": optimization.model_dump(),
        }
        (Path(folder) / "job.json").write_text(json.dumps(job))
        subprocess.run(
            [sys.executable, "-m", "auxzoo.training.compilation", folder],
            env={**os.environ, **(environment or {})},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        return json.loads((Path(folder) / "rates.json").read_text())


def _measure(folder):
    """Runs in the child: two steps to warm up, then the fastest of three groups of steps."""
    import keras
    import numpy as np

    from .objective import Objective
    from .optimization import Optimization
    from .trainer import Trainer

    job = json.loads((folder / "job.json").read_text())
    generator = np.random.default_rng(0)
    images = generator.standard_normal(job["batch_shape"], dtype=np.float32)
    labels = generator.integers(0, job["classes"], job["batch_shape"][0])
    rates = {}
    for compilation in ("graph", "xla"):
        network = keras.models.load_model(folder / "network.keras", compile=False)
        trainer = Trainer(network, Objective(**job["objective"]), total_steps=1000)
        optimizer = Optimization(**job["optimization"]).build(1000, network.trainable_variables)
        trainer.compile(optimizer=optimizer, jit_compile=compilation == "xla")
        for _ in range(2):
            trainer.train_on_batch(images, labels)
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            trainer.train_on_batch(images, labels)
            seconds.append(time.perf_counter() - start)
        rates[compilation] = round(len(images) / min(seconds), 1)
    (folder / "rates.json").write_text(json.dumps(rates))


if __name__ == "__main__":
    _measure(Path(sys.argv[1]))
