"""The custom training loop: one step function, written as the `train_step` of a Keras model."""

import keras
import tensorflow as tf

from auxzoo.errors import UserError

from ..models.names import is_joint
from .objective import predictions


class Trainer(keras.Model):
    """Wraps a compact or joint network for training; owns no weights but the network's.

    The loop is custom because the loss is that of two networks with a schedule between them. As a Keras model
    it works with `fit`, every callback and TensorBoard; `train_step(batch)` can be called by itself too.

    Metrics: `loss` and `accuracy` (of the compact network, in either case); for a joint network also
    `compact_loss`, `auxiliary_loss`, `distillation_loss`, `auxiliary_accuracy` and `joint_accuracy` (of the
    mean of all heads).

    Args:
        network: functional `keras.Model` with logits as output, or a joint network.
        objective: `Objective`.
        total_steps: `int`, steps of the whole training, for the schedule of the auxiliary loss.

    Example:
        >>> trainer = Trainer(joint, Objective(), total_steps=1000)
        >>> trainer.compile(optimizer=Optimization().build(1000, joint.trainable_variables))
        >>> trainer.fit(batches, epochs=1)
    """

    def __init__(self, network, objective, total_steps):
        super().__init__(name=f"{network.name}_trainer")
        self.network = network
        self.objective = objective
        self.total_steps = total_steps
        names = ["loss"]
        heads = ["accuracy"]
        if is_joint(network):
            names += ["compact_loss", "auxiliary_loss"]
            names += ["distillation_loss"] if objective.distillation_weight else []
            heads += ["auxiliary_accuracy", "joint_accuracy"]
        self._loss_metrics = {name: keras.metrics.Mean(name=name) for name in names}
        self._accuracy_metrics = {name: keras.metrics.SparseCategoricalAccuracy(name=name) for name in heads}
        self.build(network.input_shape)

    def build(self, input_shape):
        """Marks the trainer as built: the network inside it is."""
        self.built = True

    @property
    def metrics(self):
        """Every metric, in the order of the progress bar."""
        return [*self._loss_metrics.values(), *self._accuracy_metrics.values()]

    def call(self, inputs, training=None):
        """Returns the network's output."""
        return self.network(inputs, training=training)

    def train_step(self, batch):
        """Moves the weights once.

        Args:
            batch: `(images, labels)`: float32 `[batch, height, width, 3]`, integers `[batch]`.

        Returns:
            `dict` of metric name to its mean since the start of the epoch.
        """
        images, labels = _images_and_labels(batch)
        with tf.GradientTape() as tape:
            outputs = self.network(images, training=True)
            losses = self._all_losses(labels, outputs, self.progress())
            scaled_loss = self.optimizer.scale_loss(losses["loss"])
        self.optimizer.apply(tape.gradient(scaled_loss, self.trained_variables), self.trained_variables)
        return self._update_metrics(labels, outputs, losses)

    @property
    def trained_variables(self):
        """What the optimiser moves: the trainable variables of the network."""
        return self.network.trainable_variables

    @property
    def state(self):
        """All that a run state keeps: `dict` of owner to the list of its variables."""
        return {"network": self.network.variables, "optimizer": self.optimizer.variables}

    def progress(self):
        """Returns how much of the training is done, a scalar tensor 0 to 1."""
        return tf.cast(self.optimizer.iterations, tf.float32) / self.total_steps

    def test_step(self, batch):
        """Measures one batch without training; the arguments and results of `train_step`."""
        images, labels = _images_and_labels(batch)
        outputs = self.network(images, training=False)
        return self._update_metrics(labels, outputs, self._all_losses(labels, outputs, progress=1.0))

    def _all_losses(self, labels, outputs, progress, detached=keras.ops.stop_gradient):
        losses = self.objective.losses(labels, outputs, progress, detached)
        # What the network adds of its own: regularisers of a foreign one.
        return losses | {"loss": losses["loss"] + sum(self.network.losses)} if self.network.losses else losses

    def _update_metrics(self, labels, outputs, losses):
        batch_size = tf.shape(labels)[0]
        for name, metric in self._loss_metrics.items():
            metric.update_state(losses[name], sample_weight=batch_size)
        for name, logits in predictions(outputs).items():
            self._accuracy_metrics[name].update_state(labels, logits)
        return {metric.name: metric.result() for metric in self.metrics}


def _images_and_labels(batch):
    """Returns the parts of a batch, to which Keras' `train_on_batch` adds empty sample weights."""
    images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    if sample_weight is not None:
        raise UserError("`batch` must be a pair (images, labels). Received: sample weights beside them")
    return images, labels
