"""Gates: the learnable switches of a super-network, on every link and for the operation of every node."""

import dataclasses
import math

import keras

from auxzoo.auxiliary.operations import OPERATIONS
from auxzoo.checks import is_real
from auxzoo.errors import UserError

# Of the hard-concrete distribution, arXiv:1712.01312, section 4.2: stretched to (LOW, HIGH), then clipped to [0, 1].
LOW, HIGH = -0.1, 1.1
HARD_CONCRETE_TEMPERATURE = 2 / 3


@dataclasses.dataclass(frozen=True)
class Relaxation:
    """How a switch that is on or off becomes a number that a gradient can move.

    Attributes:
        kind: `"hard_concrete"` (random, with true zeros, arXiv:1712.01312), or `"sigmoid"` (no noise; to be used with
            the zero-one term of arXiv:1911.12126, which pushes it off the middle).
        straight_through: the network sees 0 or 1, the gradient sees the relaxed value.
        first_probability: of being open, to begin with, above 0 and below 1.

    Raises:
        UserError: if a value is not allowed.
    """

    kind: str = "hard_concrete"
    straight_through: bool = False
    first_probability: float = 0.8

    def __post_init__(self):
        if self.kind not in ("hard_concrete", "sigmoid"):
            raise UserError(f"`kind` must be hard_concrete or sigmoid. Received: kind={self.kind!r}")
        if not isinstance(self.straight_through, bool):
            raise UserError(f"`straight_through` must be true or false. Received: {self.straight_through!r}")
        value = self.first_probability
        if not (is_real(value) and 0 < value < 1):
            raise UserError(f"`first_probability` must be above 0 and below 1. Received: first_probability={value!r}")


def switches(network):
    """Returns the `LinkGate` layers and the `OperationChoice` layers of a super-network, two lists."""
    return tuple([layer for layer in network.layers if isinstance(layer, kind)] for kind in (LinkGate, OperationChoice))


@keras.saving.register_keras_serializable("auxzoo")
class LinkGate(keras.layers.Layer):
    """Multiplies a link by its gate, 0 (closed) to 1 (open).

    Its `logit` is trainable: leave it out of what the optimiser of the weights moves. Not trained are `temperature`,
    `is_fixed` (1 while the weights warm up: the gate is open whatever its logit) and `drop` (probability that a step of
    training goes without this link, so that a gate that opened early does not stay open for that).

    Args:
        relaxation: `Relaxation`, or the dictionary of one.
        link: pair `(node, tap)` of names that it stands for, or `None`.
        seed: `int`, or `None` for the next of Keras' global one.

    Input and output: float `[batch, ...]`.

    Example:
        >>> round(float(LinkGate(Relaxation(first_probability=0.9))(np.ones((1, 1)))[0, 0]), 3)
        0.674
    """

    def __init__(self, relaxation=None, link=None, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.link = link and tuple(link)
        self.relaxation = Relaxation(**relaxation) if isinstance(relaxation, dict) else relaxation or Relaxation()
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        """Makes the weights, all scalars."""
        first = self.relaxation.first_probability
        logit = math.log(first / (1 - first))
        temperature = HARD_CONCRETE_TEMPERATURE if self.relaxation.kind == "hard_concrete" else 1.0
        self.logit = self.add_weight(name="logit", shape=(), initializer=keras.initializers.Constant(logit))
        for name, value in (("temperature", temperature), ("is_fixed", 0.0), ("drop", 0.0)):
            initializer = keras.initializers.Constant(value)
            setattr(self, name, self.add_weight(name=name, shape=(), initializer=initializer, trainable=False))

    def call(self, inputs, training=None):
        """Returns the input times the gate."""
        return inputs * keras.ops.cast(self.value(bool(training)), inputs.dtype)

    def value(self, training):
        """Returns the gate, a scalar 0 to 1: a random one in training (hard-concrete), else its middle."""
        ops = keras.ops
        if self.relaxation.kind == "sigmoid":
            gate = ops.sigmoid(self.logit / self.temperature)
        else:
            # Shifted so that the probability of being open does not move when the temperature falls.
            score = self.logit + self.temperature * math.log(-LOW / HIGH)
            if training:
                noise = keras.random.uniform((), 1e-6, 1 - 1e-6, dtype=self.logit.dtype, seed=self.seed_generator)
                score = (score + ops.log(noise) - ops.log(1 - noise)) / self.temperature
            gate = ops.clip(ops.sigmoid(score) * (HIGH - LOW) + LOW, 0.0, 1.0)
        if self.relaxation.straight_through:
            # Rounding has no gradient; the difference to the relaxed value is added as a constant.
            gate = gate + ops.stop_gradient(ops.cast(gate > 0.5, gate.dtype) - gate)
        gate = self.is_fixed + (1 - self.is_fixed) * gate
        if training:
            kept = keras.random.uniform((), dtype=self.logit.dtype, seed=self.seed_generator) >= self.drop
            gate = gate * ops.cast(kept, gate.dtype)
        return gate

    def probability_open(self):
        """Returns the probability that the gate is not zero (hard-concrete), or the gate itself (sigmoid)."""
        if self.relaxation.kind == "sigmoid":
            return keras.ops.sigmoid(self.logit / self.temperature)
        return keras.ops.sigmoid(self.logit)  # arXiv:1712.01312, equation 12, with its shift taken out

    def get_config(self):
        """Returns the arguments as plain types."""
        relaxation = dataclasses.asdict(self.relaxation)
        return {**super().get_config(), "relaxation": relaxation, "link": self.link, "seed": self.seed}


@keras.saving.register_keras_serializable("auxzoo")
class OperationChoice(keras.layers.Layer):
    """Applies one operation of several, drawn anew in every step of training: a step costs no more than one of them.

    The draw is by the soft-max of `logits` over `temperature`; the gradient of the one that was drawn reaches the
    logits through its probability. (GDAS, arXiv:1910.04465, which draws so too, takes the gradient through the soft-max
    of the logits with the noise of the draw.) While `is_fixed` is 1 all are drawn equally often. Not in
    training: the most probable one.

    Args:
        operations: names among `OPERATIONS`.
        node: name of the node that it stands for, or `None`.
        seed: `int`, or `None` for the next of Keras' global one.

    Input and output: float `[batch, rows, columns, channels]`.
    """

    def __init__(self, operations, node=None, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.node = node
        self.operations = tuple(operations)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        """Makes the logits, and a small network of every operation."""
        self.branches = []
        for operation in self.operations:
            inputs = keras.Input(input_shape[1:], dtype=self.compute_dtype)
            self.branches.append(keras.Model(inputs, OPERATIONS[operation](inputs, f"{self.name}_{operation}")))
        self.logits = self.add_weight(name="logits", shape=(len(self.operations),), initializer="zeros")
        for name, value in (("temperature", 1.0), ("is_fixed", 0.0)):
            initializer = keras.initializers.Constant(value)
            setattr(self, name, self.add_weight(name=name, shape=(), initializer=initializer, trainable=False))

    def call(self, inputs, training=None):
        """Returns the result of one operation."""
        ops = keras.ops
        probabilities = self.probabilities()
        if training:
            noise = keras.random.uniform(
                (len(self.operations),), 1e-6, 1 - 1e-6, dtype=self.logits.dtype, seed=self.seed_generator
            )
            index = ops.argmax(ops.log(probabilities + 1e-12) - ops.log(-ops.log(noise)))
        else:
            index = ops.argmax(probabilities)
        branches = [lambda branch=branch: branch(inputs, training=training) for branch in self.branches]
        result = ops.switch(index, branches)
        chosen = ops.take(probabilities, index)
        return result * ops.cast(1 + chosen - ops.stop_gradient(chosen), result.dtype)

    def probabilities(self):
        """Returns the probability of every operation, shape `[operations]`."""
        if len(self.operations) == 1:  # of one alone Keras' soft-max warns
            return keras.ops.ones_like(self.logits)
        return keras.ops.softmax((1 - self.is_fixed) * self.logits / self.temperature)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the input."""
        return input_shape

    def get_config(self):
        """Returns the arguments as plain types."""
        return {
            **super().get_config(),
            "operations": list(self.operations),
            "node": self.node,
            "seed": self.seed,
        }
