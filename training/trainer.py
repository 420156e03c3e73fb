"""The custom training loop: one step function, written as the `train_step` of a Keras model."""

import keras
import numpy as np
import tensorflow as tf

from auxzoo.auxiliary import detach
from auxzoo.errors import UserError
from auxzoo.metric_names import MAIN_METRICS, metric_name

from ..models.names import is_joint
from .normalization import fused_normalization
from .outputs import by_task, compact_prediction, measured_outputs, number_of_classes, trainable_tasks_of
from .task_losses import amount_of_truth, task_metric, update_metric


class Trainer(keras.Model):
    """Wraps a compact or joint network for training; owns no weights but the network's.

    The loop is custom because the loss is that of two networks with a schedule between them. As a Keras model
    it works with `fit`, every callback and TensorBoard; `train_step(batch)` can be called by itself too.

    Metrics: `loss` and, of the compact network in either case, `accuracy` (of a classification), `mean_iou` (of a
    segmentation) or `root_mean_squared_error` (of a regression); for a joint network also `compact_loss`,
    `auxiliary_loss`, `distillation_loss`, and in `test_step` the metric as `auxiliary_...` (of the mean of the
    auxiliary's heads) and `joint_...` (of the mean of all heads). With several tasks `TASK_loss`, the mean over all
    images or pixels with truth for it, `TASK_weight` where it is learned, and a metric each: `TASK_accuracy`,
    `joint_TASK_mean_iou`.

    Args:
        network: functional `keras.Model` with logits as output, or a joint network.
        objective: `Objective`.
        total_steps: `int`, steps of the whole training, for the schedule of the auxiliary loss.

    Attributes:
        tasks: tuple of `Task`, those of the network.
        uncertainty: `keras.Variable` `[tasks]`, the logarithms of the tasks' variances, where the objective learns the
            weights of tasks; else `None`.

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
        self.tasks = tasks = trainable_tasks_of(network)
        self.uncertainty = None
        if objective.task_weighting == "uncertainty":
            self.uncertainty = keras.Variable(np.zeros(len(tasks), "float32"), name="uncertainty")
        names, prefixes = ["loss"], [""]
        if is_joint(network):
            names += ["compact_loss", "auxiliary_loss"]
            names += ["distillation_loss"] if objective.distillation_weight else []
            prefixes += ["auxiliary_", "joint_"]
        if len(tasks) > 1:
            names += [f"{task.name}_loss" for task in tasks]
        if self.uncertainty is not None:
            names += [f"{task.name}_weight" for task in tasks]
        self._loss_metrics = {name: keras.metrics.Mean(name=name) for name in names}
        self._task_metrics = {
            (prefix, task.name): task_metric(
                task, number_of_classes(network, task), metric_name(tasks, task, MAIN_METRICS[task.kind], prefix)
            )
            for prefix in prefixes
            for task in tasks
        }
        self.build(network.input_shape)

    def build(self, input_shape):
        """Marks the trainer as built: the network inside it is."""
        self.built = True

    @property
    def metrics(self):
        """Every metric, in the order of the progress bar."""
        return [*self._loss_metrics.values(), *self._task_metrics.values()]

    def call(self, inputs, training=None):
        """Returns the network's output."""
        return self.network(inputs, training=training)

    def save(self, *arguments, **options):
        """Saves the compact network, as `ModelCheckpoint` asks for; the arguments are those of `keras.Model.save`."""
        self._compact().save(*arguments, **options)

    def save_weights(self, *arguments, **options):
        """Saves the weights of the compact network; the arguments are those of `keras.Model.save_weights`."""
        self._compact().save_weights(*arguments, **options)

    def _compact(self):
        return detach(self.network) if is_joint(self.network) else self.network

    def train_step(self, batch):
        """Moves the weights once.

        Args:
            batch: `(images, truth)`: float32 `[batch, height, width, 3]`, and what `Objective.losses` takes.

        Returns:
            `dict` of metric name to its mean since the start of the epoch.
        """
        images, truth = _images_and_truth(batch)
        outputs, losses, gradients = self._forward_and_backward(images, truth)
        self.optimizer.apply(gradients, self.trained_variables)
        # At every pixel the heads' metrics take a part of a step that can be felt: they are left to `test_step`.
        return self._update_metrics(truth, {"": compact_prediction(outputs)}, losses)

    def _forward_and_backward(self, images, truth):
        """Returns outputs, losses and the gradients of the weights, scaled as the optimiser wants them."""
        with fused_normalization(self.network) as means, tf.GradientTape() as tape:
            outputs = self.network(images, training=True)
            losses = self._all_losses(truth, outputs, self.progress())
            scaled_loss = self.optimizer.scale_loss(losses["loss"])
        gradients = tape.gradient(scaled_loss, self.trained_variables)
        # A NaN among the images must be seen in this step, and activations after the fused operation may hide it.
        losses["loss"] += sum(0 * tf.reduce_sum(mean) for mean in means)
        return outputs, losses, gradients

    @property
    def trained_variables(self):
        """What the optimiser moves: the trainable variables of the network, and the weights of tasks if learned."""
        # In the order of Keras' own list, which its optimisers count on when they put averages in.
        return [*self._own_variables, *self.network.trainable_variables]

    @property
    def _own_variables(self):
        return [] if self.uncertainty is None else [self.uncertainty]

    @property
    def state(self):
        """All that a run state keeps: `dict` of owner to the list of its variables."""
        return {
            "network": self.network.variables,
            "optimizer": self.optimizer.variables,
            **({"trainer": self._own_variables} if self._own_variables else {}),
        }

    def progress(self):
        """Returns how much of the training is done, a scalar tensor 0 to 1."""
        return tf.cast(self.optimizer.iterations, tf.float32) / self.total_steps

    def test_step(self, batch):
        """Measures one batch without training; the arguments and results of `train_step`."""
        images, truth = _images_and_truth(batch)
        outputs = self.network(images, training=False)
        losses = self._all_losses(truth, outputs, progress=1.0)
        return self._update_metrics(truth, measured_outputs(outputs), losses)

    def _all_losses(self, truth, outputs, progress, detached=keras.ops.stop_gradient, presence=None):
        uncertainty = None if self.uncertainty is None else self.uncertainty.value
        losses = self.objective.losses(truth, outputs, progress, self.tasks, detached, uncertainty, presence)
        # What the network adds of its own: regularisers of a foreign one.
        return losses | {"loss": losses["loss"] + sum(self.network.losses)} if self.network.losses else losses

    def _update_metrics(self, truth, measured, losses):
        """Adds a batch to the metrics of what is measured, as of `measured_outputs`, and returns all that were."""
        truth = by_task(self.tasks, truth)
        batch_size = tf.shape(truth[self.tasks[0].name])[0]
        counts = dict.fromkeys(self._loss_metrics, batch_size)
        if len(self.tasks) > 1:  # by what each is the mean of: a batch may have no truth for one
            weights = self.objective.class_weights
            counts |= {f"{t.name}_loss": amount_of_truth(t, truth[t.name], weights.get(t.name)) for t in self.tasks}
        for name, metric in self._loss_metrics.items():
            metric.update_state(losses[name], sample_weight=counts[name])
        updated = [*self._loss_metrics.values()]
        for prefix, output in measured.items():
            output = by_task(self.tasks, output)
            for task in self.tasks:
                updated.append(self._task_metrics[prefix, task.name])
                update_metric(updated[-1], task, truth[task.name], output[task.name])
        return {metric.name: metric.result() for metric in updated}


def _images_and_truth(batch):
    """Returns the parts of a batch, to which Keras' `train_on_batch` adds empty sample weights."""
    images, truth, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    if sample_weight is not None:
        raise UserError("`batch` must be a pair (images, truth). Received: sample weights beside them")
    return images, truth
