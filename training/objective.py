"""What training minimises: the loss of two networks and the schedule between them."""

from typing import Literal

import keras
import pydantic

from ..models.names import COMPACT_OUTPUT, auxiliary_outputs
from .settings import Settings


class Objective(Settings):
    """The loss of a compact or joint network for classification.

    For a joint network `loss = compact + weight(t) * auxiliary + distillation_weight * distillation`, one
    backward pass, nothing but the teacher detached. Of several auxiliary heads the mean of their losses counts. Without
    an auxiliary only the first term is left, so the same objective serves both arms of a comparison.

    Source: an auxiliary loss beside the main one, removed at inference: arXiv:1909.02214, 1:1 in
    arXiv:1903.11236. Distillation with temperature: arXiv:1503.02531; the teacher is the mean of all heads.

    Example:
        >>> Objective(auxiliary_schedule="decay_to_zero").auxiliary_weight
        1.0
    """

    label_smoothing: float = pydantic.Field(0.1, ge=0, lt=1)
    """Share of the probability spread over all classes, 0 to below 1."""

    auxiliary_weight: float = pydantic.Field(1.0, ge=0)
    """Weight of the auxiliary loss at its height."""

    auxiliary_schedule: Literal["constant", "warm_up", "decay_to_zero"] = "constant"
    """`warm_up`: linear from 0 over `auxiliary_warm_up` of the training; `decay_to_zero`: linear to 0 at the end."""

    auxiliary_warm_up: float = pydantic.Field(0.2, gt=0, le=1)
    """Fraction of the training that `warm_up` takes."""

    distillation_weight: float = pydantic.Field(1.0, ge=0)
    """Weight of the distillation of the joint prediction into the compact head; 0 turns it off."""

    distillation_temperature: float = pydantic.Field(2.0, gt=0)
    """Divides the logits of teacher and student; the term is multiplied by its square (arXiv:1503.02531)."""

    def auxiliary_weight_at(self, progress):
        """Returns the weight of the auxiliary loss at `progress`, 0 (start) to 1 (end of training)."""
        if self.auxiliary_schedule == "warm_up":
            return self.auxiliary_weight * keras.ops.minimum(progress / self.auxiliary_warm_up, 1.0)
        if self.auxiliary_schedule == "decay_to_zero":
            return self.auxiliary_weight * keras.ops.maximum(1.0 - progress, 0.0)
        return self.auxiliary_weight

    def losses(self, labels, outputs, progress, detached=keras.ops.stop_gradient):
        """Returns the terms of the loss, each a scalar, with their sum as `"loss"`.

        Args:
            labels: integers, shape `[batch]`, 0 to classes - 1.
            outputs: logits, shape `[batch, classes]`, of a compact network, or the dict of a joint one.
            progress: scalar, 0 to 1.
            detached: function that cuts the teacher's prediction off the gradient.
        """
        if not isinstance(outputs, dict):
            return {"loss": self.cross_entropy(labels, outputs)}
        compact, heads = outputs[COMPACT_OUTPUT], auxiliary_outputs(outputs)
        terms = {
            "compact_loss": self.cross_entropy(labels, compact),
            "auxiliary_loss": _mean([self.cross_entropy(labels, head) for head in heads]),
        }
        loss = terms["compact_loss"] + self.auxiliary_weight_at(progress) * terms["auxiliary_loss"]
        if self.distillation_weight:
            terms["distillation_loss"] = self._distillation(compact, detached(joint_logits(outputs)))
            loss = loss + self.distillation_weight * terms["distillation_loss"]
        return {"loss": loss, **terms}

    def cross_entropy(self, labels, logits):
        """Returns the mean cross-entropy of logits `[batch, classes]` with integers `[batch]`, labels smoothed."""
        targets = keras.ops.one_hot(labels, logits.shape[-1], dtype="float32")
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=self.label_smoothing)
        return loss(targets, logits)

    def _distillation(self, student_logits, teacher_logits):
        temperature = self.distillation_temperature
        teacher = keras.ops.softmax(teacher_logits / temperature)
        student = keras.ops.log_softmax(student_logits / temperature)
        # Cross-entropy less the teacher's own entropy: the divergence is zero where both agree.
        divergence = keras.ops.sum(teacher * (keras.ops.log(teacher + 1e-12) - student), axis=-1)
        return temperature**2 * keras.ops.mean(divergence)


def joint_logits(outputs):
    """Returns the joint prediction of a joint network's output dict: the mean of all heads' logits."""
    return _mean([outputs[COMPACT_OUTPUT], *auxiliary_outputs(outputs)])


def predictions(outputs):
    """Returns metric name -> logits of every head that is measured: one of a compact network, three of a joint one."""
    if not isinstance(outputs, dict):
        return {"accuracy": outputs}
    return {
        "accuracy": outputs[COMPACT_OUTPUT],
        "auxiliary_accuracy": _mean(auxiliary_outputs(outputs)),
        "joint_accuracy": joint_logits(outputs),
    }


def _mean(tensors):
    """Returns the mean of tensors of a shape, by one operation: TensorFlow would reorder a chain of additions."""
    return keras.ops.mean(keras.ops.stack(tensors), axis=0)
