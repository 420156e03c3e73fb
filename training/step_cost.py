"""What a step of training costs: networks timed in turn in one process."""

import time

import numpy as np

from .loop import number_of_classes
from .trainer import Trainer

ROUNDS, STEPS = 8, 3


def seconds_per_step(cases, rounds=ROUNDS, steps=STEPS):
    """Times training steps of several networks in turn.

    Args:
        cases: list of pairs `(network, recipe)`: a compact or joint network, which is trained on noise and of no use
            after, and the `Recipe` whose batch size, objective, optimiser and compilation it is trained with.
        rounds: `int`; in each, every network makes some steps.
        steps: `int`, of each network in a round, after one that is not counted.

    Returns:
        list of floats: seconds a step of the fastest round, since whatever else the machine does only slows.

    Example:
        >>> plain, joint = seconds_per_step([(compact, recipe), (auxzoo.attach(compact, structure), recipe)])
    """
    functions = [_step(network, recipe) for network, recipe in cases]
    fastest = [float("inf")] * len(functions)
    for _ in range(rounds):
        for place, step in enumerate(functions):
            step()  # lets what ran before come to rest
            start = time.perf_counter()
            for _ in range(steps):
                step()
            fastest[place] = min(fastest[place], (time.perf_counter() - start) / steps)
    return fastest


def _step(network, recipe):
    """Returns a function that trains the network for a step, on noise."""
    trainer = Trainer(network, recipe.objective, total_steps=1000)
    optimizer = recipe.optimization.build(1000, trainer.trained_variables)
    trainer.compile(optimizer=optimizer, jit_compile=recipe.compute.compilation == "xla")
    generator = np.random.default_rng(0)
    images = generator.standard_normal((recipe.batch_size, *network.input_shape[1:]), dtype=np.float32)
    labels = generator.integers(0, number_of_classes(network), recipe.batch_size)
    return lambda: trainer.train_on_batch(images, labels)
