"""The training loop of the gradient search: one optimiser for the weights, another for the gates."""

import keras
import tensorflow as tf

from auxzoo.auxiliary import detach, switches
from auxzoo.auxiliary.structure import SUPERVISIONS

from .outputs import compact_prediction
from .presence import heads_present
from .trainer import Trainer
from .unrolled import unrolled_gradient

# Of the running mean square by which gate gradients are scaled: they shrink as the training goes on, while the pull of
# the budget does not.
_SCALE_MOMENTUM = 0.95


def warm_up_steps(total_steps, settings):
    """Returns in how many steps of a search the gates are fixed."""
    return int(total_steps * settings.warm_up)


def gate_steps(total_steps, settings):
    """Returns the steps of a search that move its gates, a `range`: every so manieth after the warm-up."""
    first = -(-warm_up_steps(total_steps, settings) // settings.every) * settings.every
    return range(first, total_steps, settings.every)


class Gates:
    """The gates of a super-network and what moves them.

    Args:
        network: what `attach(compact, SearchSpace)` returned.
        settings: `SearchSettings`.
        shares: `StepParts`, shares of the budget of step time, or `None` if there is none.

    Attributes:
        links: list of its `LinkGate` layers.
        choices: list of its `OperationChoice` layers.
        variables: list of `keras.Variable`, the logits of both.
    """

    def __init__(self, network, settings, shares=None):
        self.settings, self.shares = settings, shares
        self.links, self.choices = switches(network)
        self.variables = [gate.logit for gate in self.links] + [choice.logits for choice in self.choices]
        self.optimizer = keras.optimizers.Adam(settings.gate_learning_rate, beta_1=0.5)
        self.optimizer.build(self.variables)
        self.mean_square = keras.Variable(0.0, trainable=False, name="mean_square")
        self._first_temperatures = [float(layer.temperature) for layer in (*self.links, *self.choices)]
        for gate in self.links:
            gate.drop.assign(settings.drop)

    @property
    def state(self):
        """Variables that a run state keeps beside those of the network."""
        return [*self.optimizer.variables, self.mean_square]

    def set_switches(self, is_fixed, share):
        """Fixes the gates while the weights warm up, and lowers the temperature after that.

        Args:
            is_fixed: scalar tensor, whether the gates are fixed.
            share: scalar tensor, how much of the time after the warm-up is over, 0 to 1.
        """
        fall = self.settings.final_temperature**share
        for layer, first in zip((*self.links, *self.choices), self._first_temperatures, strict=True):
            layer.is_fixed.assign(tf.cast(is_fixed, tf.float32))
            layer.temperature.assign(first * fall)

    def move(self, unrolled):
        """Moves the gates by the unrolled gradient, scaled to a mean square of one, and the gradient of the penalty."""
        mean_square = tf.reduce_mean(tf.concat([tf.reshape(gradient, [-1]) ** 2 for gradient in unrolled], axis=0))
        running = _SCALE_MOMENTUM * self.mean_square + (1 - _SCALE_MOMENTUM) * mean_square
        self.mean_square.assign(tf.where(tf.equal(self.mean_square.value, 0.0), mean_square, running))
        with tf.GradientTape() as tape:
            penalty = self.penalty()
        values = [variable.value for variable in self.variables]
        pulls = tape.gradient(penalty, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        scale = tf.math.rsqrt(self.mean_square.value + 1e-30)
        gradients = [scale * gradient + pull for gradient, pull in zip(unrolled, pulls, strict=True)]
        self.optimizer.apply(gradients, self.variables)

    def penalty(self):
        """Returns what the expected links beyond their budget cost, and the expected step time beyond its own.

        Time beyond its budget by a share of it costs as much as links beyond theirs by the same share.

        `sigmoid` gates pay for standing in the middle, too.
        """
        settings = self.settings
        probabilities = tf.stack([gate.probability_open() for gate in self.links])
        penalty = settings.budget_weight * tf.nn.relu(tf.reduce_sum(probabilities) - settings.links)
        if self.shares is not None:
            expected = sum(self.shares.links[gate.link] * gate.probability_open() for gate in self.links)
            for choice in self.choices:
                shares = [self.shares.operations[choice.node][operation] for operation in choice.operations]
                share = tf.reduce_sum(tf.constant(shares, tf.float32) * choice.probabilities())
                expected += self._probability_kept(choice.node) * share
            penalty += settings.budget_weight * settings.links * tf.nn.relu(expected - 1.0)
        if settings.relaxation == "sigmoid":
            # arXiv:1911.12126, equation 5
            penalty -= settings.zero_one_weight * tf.reduce_sum((probabilities - 0.5) ** 2)
        return penalty

    def _probability_kept(self, node):
        """Returns how likely a node is part of the structure: where nodes read taps alone, one without links is not."""
        if SUPERVISIONS[self.settings.supervision].is_chained:
            return 1.0
        closed = [1.0 - gate.probability_open() for gate in self.links if gate.link[0] == node]
        return 1.0 - tf.reduce_prod(tf.stack(closed))


class GateTrainer(Trainer):
    """Trains a super-network; every few steps moves its gates.

    The weights are moved by the images that are trained on; the gates by the gradient of the compact network's loss on
    other images, one unrolled step of the weights later (`unrolled_gradient`), and by the pull of the budget. Trace it
    under `exact_second_derivatives`.

    Args:
        network: super-network, what `attach(compact, SearchSpace)` returned.
        objective: `Objective` of the weights.
        total_steps: `int`.
        settings: `SearchSettings`.
        shares: as of `Gates`.

    Attributes:
        gates: `Gates`.
        warm_up_steps: `int`, steps in which the gates are fixed.
    """

    def __init__(self, network, objective, total_steps, settings, shares=None):
        super().__init__(network, objective, total_steps)
        self.gates = Gates(network, settings, shares)
        self.warm_up_steps = warm_up_steps(total_steps, settings)
        self._presence = None
        compact = detach(network)
        # A function: as an attribute of its own the network would be tracked a second time.
        self._compact_output = lambda images: compact(images, training=True)

    @property
    def trained_variables(self):
        """The weights: all trainable variables but the gates."""
        gates = {id(variable) for variable in self.gates.variables}
        return [variable for variable in super().trained_variables if id(variable) not in gates]

    @property
    def state(self):
        """As of `Trainer`, with the gates' optimiser."""
        return super().state | {"gates": self.gates.state}

    def train_step(self, batch):
        """Moves the weights, and in every so manieth step after the warm-up the gates.

        Args:
            batch: `((images, truth), (images, truth))`, to train on and to judge by.
        """
        with heads_present(self.network, self.gates.settings.supervision) as self._presence:
            metrics = self._train_step(*batch)
        self._presence = None
        return metrics

    def _all_losses(self, truth, outputs, progress, detached=keras.ops.stop_gradient):
        presence = None if self._presence is None else self._presence()
        return super()._all_losses(truth, outputs, progress, detached, presence)

    def _train_step(self, batch, gate_batch):
        (images, truth), (gate_images, gate_truth) = batch, gate_batch
        step = tf.cast(self.optimizer.iterations, tf.int32)
        steps_with_gates = max(self.total_steps - self.warm_up_steps, 1)
        share = tf.clip_by_value(tf.cast(step - self.warm_up_steps, tf.float32) / steps_with_gates, 0.0, 1.0)
        self.gates.set_switches(step < self.warm_up_steps, share)
        # The seeds of this step's gates, operations and dropout: what looks at the step again must draw alike.
        state = [(variable, tf.identity(variable.value)) for variable in self.network.non_trainable_variables]
        outputs, losses, gradients = self._forward_and_backward(images, truth)

        def train_loss(detached):
            outputs = self.network(images, training=True)
            return self._all_losses(truth, outputs, self.progress(), detached)["loss"]

        def validation_loss():
            # Learned weights of tasks weigh here too, but no gate is paid for moving them.
            uncertainty = None if self.uncertainty is None else tf.stop_gradient(self.uncertainty.value)
            outputs = self._compact_output(gate_images)
            return self.objective.losses(gate_truth, outputs, 1.0, self.tasks, uncertainty=uncertainty)["loss"]

        def move_gates():
            learning_rate = tf.cast(self.optimizer.learning_rate, tf.float32)
            unrolled = unrolled_gradient(
                self.trained_variables,
                self.gates.variables,
                train_loss,
                validation_loss,
                learning_rate,
                gradients,
                state,
                self.optimizer.rates or None,
            )
            # A unit of learning rate: else the gates would be deaf to the data when the schedule ends.
            self.gates.move([gradient / tf.maximum(learning_rate, 1e-8) for gradient in unrolled])
            return True

        moves_gates = tf.logical_and(step >= self.warm_up_steps, step % self.gates.settings.every == 0)
        tf.cond(moves_gates, move_gates, lambda: False)
        self.optimizer.apply(gradients, self.trained_variables)
        return self._update_metrics(truth, {"": compact_prediction(outputs)}, losses)
