"""Batches of noise, to time training steps with: what they learn is of no use."""

import numpy as np

from .outputs import by_task, compact_output, tasks_of


def noise_batch(network, batch_size):
    """Returns a batch that a compact or joint network could be trained on.

    Args:
        network: functional `keras.Model`.
        batch_size: `int`.

    Returns:
        `(images, truth)` as `Trainer.train_step` takes it, NumPy arrays.
    """
    generator, tasks = np.random.default_rng(0), tasks_of(network)
    images = generator.standard_normal((batch_size, *network.input_shape[1:]), dtype=np.float32)
    outputs, truth = by_task(tasks, compact_output(network)), {}
    for task in tasks:
        *shape, channels = outputs[task.name].shape[1:]
        if task.kind == "regression":
            truth[task.name] = generator.standard_normal((batch_size, *shape), dtype=np.float32) * task.scale
        else:
            truth[task.name] = generator.integers(0, channels, (batch_size, *shape))
    return images, truth if len(tasks) > 1 else truth[tasks[0].name]


def without_frequencies(objective):
    """Returns an objective for noise, in which no class is frequent or rare: its class weights are left out."""
    return objective.model_copy(update={"class_weights": {}})
