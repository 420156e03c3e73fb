"""Which heads of a super-network count: in the structure that a search returns, a node without links has none."""

import contextlib
import functools

import keras

from auxzoo.auxiliary import switches
from auxzoo.auxiliary.structure import SUPERVISIONS

from ..models.names import AUXILIARY_OUTPUT


@contextlib.contextmanager
def heads_present(network, supervision):
    """Tells how much of every head there is in a call of a super-network.

    Where nodes read taps alone a node without links is not in the structure, nor is its head. In the super-network both
    are: with all its gates closed the head predicts the same for every image, and would still be supervised, and teach.

    Args:
        network: super-network; its layers are as before when the block ends.
        supervision: of its nodes, a name among `SUPERVISIONS`.

    Yields:
        function that returns, of the latest call of the network inside the block, a `dict`: key of a head in the output
        to a scalar, 0 where all gates of its node are closed, 1 where one is open. Where nodes read each other it
        returns `None`: all heads are there, whatever the gates are.

    Example:
        >>> with heads_present(network, "deep") as presence:
        ...     outputs = network(images, training=True)
        ...     losses = objective.losses(truth, outputs, progress, presence=presence())
    """
    layers, _ = switches(network)
    gates = {}

    def presence():
        if SUPERVISIONS[supervision].is_chained:
            return None
        closed = {}
        for (node, _), gate in gates.items():
            closed.setdefault(f"{AUXILIARY_OUTPUT}_{node}", []).append(1 - gate)
        return {head: 1 - keras.ops.prod(keras.ops.stack(values)) for head, values in closed.items()}

    for layer in layers:
        layer.call = functools.partial(_call, layer, gates)
    try:
        yield presence
    finally:
        for layer in layers:
            del layer.call


def _call(layer, gates, inputs, training=None):
    """Takes the place of `LinkGate.call`, and keeps the gate that was drawn."""
    gates[layer.link] = gate = layer.value(bool(training))
    return inputs * keras.ops.cast(gate, inputs.dtype)
