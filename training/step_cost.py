"""What a step of training costs: networks, or parts of one, timed in turn in one process."""

import contextlib
import dataclasses
import math
import time

import keras
import tensorflow as tf

from auxzoo.auxiliary import switches

from ..models.names import AUXILIARY_OUTPUT, AUXILIARY_PREFIX
from .noise import noise_batch, without_frequencies
from .normalization import fused_normalization
from .trainer import Trainer

ROUNDS, STEPS = 8, 3
# Of short steps more rounds are made, till the fastest network was timed so long: what disturbs may last for seconds.
_SECONDS, _MOST_ROUNDS = 2.0, 40


def seconds_per_step(cases, rounds=None, steps=STEPS):
    """Times training steps of several networks in turn.

    Args:
        cases: list of pairs `(network, recipe)`: a compact or joint network, which is trained on noise and of no use
            after, and the `Recipe` whose batch size, objective, optimiser and compilation it is trained with.
        rounds: `int`; in each, every network makes some steps. If `None` 8 to 40, as many as take two seconds of the
            fastest network if 40 are enough.
        steps: `int`, of each network in a round, after one that is not counted.

    Returns:
        list of floats: seconds a step of the fastest round, since whatever else the machine does only slows.

    Example:
        >>> plain, joint = seconds_per_step([(compact, recipe), (auxzoo.attach(compact, structure), recipe)])
    """
    with contextlib.ExitStack() as stack:
        for network, recipe in cases:
            stack.enter_context(recipe.optimization.frozen(network))
        functions = [
            training_step(network, recipe.batch_size, recipe.objective, recipe.optimization, recipe.compute.compilation)
            for network, recipe in cases
        ]
        if rounds is None:
            shortest = min(seconds_of_fastest(functions, 1, steps))  # the first round traces them
            rounds = min(max(math.ceil(_SECONDS / (shortest * steps)), ROUNDS), _MOST_ROUNDS)
        return seconds_of_fastest(functions, rounds, steps)


@dataclasses.dataclass(frozen=True)
class StepParts:
    """What every link and every operation of a super-network takes: seconds, or shares of a budget of step time.

    Attributes:
        links: `dict` of pair `(node, tap)` to number.
        operations: `dict` of node to `dict` of operation to number, with the node's head where it has one.
    """

    links: dict
    operations: dict


def seconds_of_parts(network, batch_size):
    """Times every link, operation and head of a super-network by itself, forward and backward, in turn.

    Args:
        network: what `attach(compact, SearchSpace)` returned; its batch-norm statistics are of no use after.
        batch_size: `int`.

    Returns:
        `StepParts`, seconds.
    """
    gates, choices = switches(network)
    heads = {choice.node: _head(network, choice) for choice in choices}
    heads = {node: head for node, head in heads.items() if head is not None}
    parts = [_link(gate) for gate in gates] + [branch for choice in choices for branch in choice.branches]
    seconds = iter(seconds_of_fastest([_pass(part, batch_size) for part in (*parts, *heads.values())]))
    links = {gate.link: next(seconds) for gate in gates}
    operations = {choice.node: {name: next(seconds) for name in choice.operations} for choice in choices}
    for node in heads:
        of_head = next(seconds)
        operations[node] = {name: value + of_head for name, value in operations[node].items()}
    return StepParts(links, operations)


def _link(gate):
    """Returns the network from a gate's tap to the gate: pooling, adapter, normalisation."""
    tensor = gate.input
    while (operation := tensor._keras_history.operation).name.startswith(AUXILIARY_PREFIX):
        tensor = operation.input
    return keras.Model(tensor, gate.input)


def _head(network, choice):
    """Returns the network from a node to what its heads predict; `None` where it has none."""
    predictions = network.output.get(f"{AUXILIARY_OUTPUT}_{choice.node}")
    return None if predictions is None else keras.Model(choice.output, keras.tree.flatten(predictions))


def seconds_of_fastest(functions, rounds=ROUNDS, steps=STEPS):
    """Returns the seconds a call of each function's fastest round; in every round all are called in turn."""
    fastest = [float("inf")] * len(functions)
    for _ in range(rounds):
        for place, function in enumerate(functions):
            function()  # lets what ran before come to rest
            start = time.perf_counter()
            for _ in range(steps):
                function()
            fastest[place] = min(fastest[place], (time.perf_counter() - start) / steps)
    return fastest


def _pass(part, batch_size):
    """Returns a function that runs a part of a network forward and backward on noise."""
    inputs = tf.random.stateless_normal((batch_size, *part.input_shape[1:]), seed=(0, 0))

    @tf.function
    def forward_and_backward():
        with fused_normalization(part), tf.GradientTape() as tape:
            tape.watch(inputs)
            result = tf.add_n([tf.reduce_sum(output) for output in keras.tree.flatten(part(inputs, training=True))])
        return tape.gradient(result, [inputs, *[variable.value for variable in part.trainable_variables]])

    return forward_and_backward


def training_step(network, batch_size, objective, optimization, compilation):
    """Returns a function that trains the network for a step, on noise; `compilation` is `"xla"` or another."""
    trainer = Trainer(network, without_frequencies(objective), total_steps=1000)
    optimizer = optimization.build(1000, trainer.trained_variables)
    trainer.compile(optimizer=optimizer, jit_compile=compilation == "xla")
    images, truth = noise_batch(network, batch_size)
    return lambda: trainer.train_on_batch(images, truth)
