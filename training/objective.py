"""What training minimises: the loss of two networks and the schedule between them."""

from typing import Literal

import keras
import pydantic

from auxzoo.tasks import Task

from ..models.names import COMPACT_OUTPUT, auxiliary_outputs
from .outputs import by_task, compact_prediction, is_joint_output, mean
from .settings import Settings
from .task_losses import distillation_loss, has_any_truth, task_loss

ops = keras.ops
CLASSIFICATION = Task("classification", "classification")


class Objective(Settings):
    """The loss of a compact or joint network, of one task or several.

    For a joint network `loss = compact + weight(t) * auxiliary + distillation_weight * distillation`, one
    backward pass, nothing but the teacher detached. Of several auxiliary heads the mean of their losses counts. Without
    an auxiliary only the first term is left, so the same objective serves both arms of a comparison.

    Source: an auxiliary loss beside the main one, removed at inference: arXiv:1909.02214, 1:1 in
    arXiv:1903.11236. Distillation with temperature: arXiv:1503.02531; the teacher is the mean of all heads, and only
    what has truth is taught.

    Example:
        >>> Objective(auxiliary_schedule="decay_to_zero").auxiliary_weight
        1.0
    """

    label_smoothing: float = pydantic.Field(0.1, ge=0, lt=1)
    """Share of the probability spread over all classes, 0 to below 1, of classifications and segmentations."""

    class_weights: dict[str, list[float] | Literal["median_frequency"]] = pydantic.Field(default_factory=dict)
    """Of a task with classes, by its name: a weight of every class; `median_frequency` takes those that make a class as
    frequent in the training images as the median one (arXiv:1411.4734, section 6.3.2). 1 each if not named. They hold
    for every head and for distillation."""

    task_weights: dict[str, float] = pydantic.Field(default_factory=dict)
    """Weight of a task's losses, by its name; 1 if not named."""

    task_weighting: Literal["fixed", "uncertainty"] = "fixed"
    """Whether the weights stay as they are, or are multiplied by learned ones (arXiv:1705.07115). A batch without truth
    for a task has no gradient for its learned weight."""

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

    @pydantic.field_validator("class_weights", "task_weights")
    @classmethod
    def _not_negative(cls, value):
        for name, weights in value.items():
            numbers = [] if isinstance(weights, str) else weights if isinstance(weights, list) else [weights]
            if any(number < 0 for number in numbers) or (isinstance(weights, list) and not sum(numbers)):
                raise ValueError(f"weights of {name!r} must be 0 or more, and not all 0")
        return value

    def auxiliary_weight_at(self, progress):
        """Returns the weight of the auxiliary loss at `progress`, 0 (start) to 1 (end of training)."""
        if self.auxiliary_schedule == "warm_up":
            return self.auxiliary_weight * ops.minimum(progress / self.auxiliary_warm_up, 1.0)
        if self.auxiliary_schedule == "decay_to_zero":
            return self.auxiliary_weight * ops.maximum(1.0 - progress, 0.0)
        return self.auxiliary_weight

    def losses(
        self,
        truth,
        outputs,
        progress,
        tasks=(CLASSIFICATION,),
        detached=ops.stop_gradient,
        uncertainty=None,
        presence=None,
    ):
        """Returns the terms of the loss, each a scalar, with their sum as `"loss"`.

        Args:
            truth: of one task the tensor that `task_loss` takes, integers `[batch]` of a classification; of several a
                dict of task name to them.
            outputs: what a compact network returns, a prediction or a dict of task to prediction, or the dict of a
                joint one.
            progress: scalar, 0 to 1.
            tasks: tuple of `Task`.
            detached: function that cuts the teacher's prediction off the gradient.
            uncertainty: numbers `[tasks]`, the logarithms of the tasks' variances, which weigh them (arXiv:1705.07115);
                `None` where the weights are fixed.
            presence: `dict` of the key of a head in the output to how much of it there is, a scalar 0 to 1, as of
                `heads_present`; `None` where all heads are whole.

        Returns:
            `dict`: `loss`; of a joint network also `compact_loss`, `auxiliary_loss` and `distillation_loss`, sums over
            the tasks; of several tasks `TASK_loss` of the compact network too, not weighted; and `TASK_weight` where
            the weights are learned.
        """
        weights = {task.name: self.task_weights.get(task.name, 1.0) for task in tasks}
        taken_over = dict(weights)
        if uncertainty is not None:
            for index, task in enumerate(tasks):
                # arXiv:1705.07115, equation 10: a regression has half the factor of a classification.
                factor = (0.5 if task.kind == "regression" else 1.0) * ops.exp(-uncertainty[index])
                weights[task.name] *= factor
                # Learned of the compact network alone, as without an auxiliary: its terms take the weights over.
                taken_over[task.name] *= ops.stop_gradient(factor)
        truth = by_task(tasks, truth)

        def losses_of(output):
            return {
                task.name: task_loss(
                    task,
                    truth[task.name],
                    by_task(tasks, output)[task.name],
                    self.label_smoothing,
                    self.class_weights.get(task.name),
                )
                for task in tasks
            }

        def weighted(losses, weights):
            return _sum([weights[name] * loss for name, loss in losses.items()])

        penalty = [] if uncertainty is None else [self._penalty(tasks, truth, uncertainty)]
        is_joint = is_joint_output(outputs)
        compact = losses_of(compact_prediction(outputs))
        of_tasks = {f"{name}_loss": loss for name, loss in compact.items()} if len(tasks) > 1 else {}
        if uncertainty is not None:
            of_tasks |= {f"{name}_weight": weight for name, weight in weights.items()}
        if not is_joint:
            return {"loss": _sum([weighted(compact, weights), *penalty]), **of_tasks}
        heads, present, teachers = auxiliary_outputs(outputs), None, None
        if presence is not None:
            present = [presence[name] for name in outputs if name != COMPACT_OUTPUT]
            teachers = [ops.ones_like(present[0]), *present]
        terms = {
            "compact_loss": weighted(compact, weights),
            "auxiliary_loss": mean([weighted(losses_of(head), taken_over) for head in heads], present),
        }
        parts = [terms["compact_loss"], self.auxiliary_weight_at(progress) * terms["auxiliary_loss"], *penalty]
        if self.distillation_weight:
            student = by_task(tasks, outputs[COMPACT_OUTPUT])
            teacher = by_task(tasks, mean([outputs[COMPACT_OUTPUT], *heads], teachers))
            divergences = {
                task.name: distillation_loss(
                    task,
                    truth[task.name],
                    student[task.name],
                    detached(teacher[task.name]),
                    self.distillation_temperature,
                    self.class_weights.get(task.name),
                )
                for task in tasks
            }
            terms["distillation_loss"] = weighted(divergences, taken_over)
            parts.append(self.distillation_weight * terms["distillation_loss"])
        return {"loss": _sum(parts), **terms, **of_tasks}

    def _penalty(self, tasks, truth, uncertainty):
        """Returns what keeps learned weights from falling to nothing: half of every logarithm of a variance.

        Weighted as the loss that it stands beside: else the learned weight would undo the given one, and that of a task
        whose loss is 0 in a batch, for want of truth or by its weight, would run away.
        """
        terms = [
            self.task_weights.get(task.name, 1.0)
            * has_any_truth(task, truth[task.name], self.class_weights.get(task.name))
            * uncertainty[index]
            for index, task in enumerate(tasks)
        ]
        return 0.5 * _sum(terms)


def _sum(losses):
    """Returns the sum of scalars, by one operation as in `mean`."""
    return ops.sum(ops.stack(losses)) if len(losses) > 1 else losses[0]
