"""What a file gives: its outputs, what they are called, and what is done to logits."""

import dataclasses
from typing import Literal, get_args

from auxzoo.errors import UserError
from auxzoo.tasks import Task

from .formats import OUTPUT_NAME

Activation = Literal["softmax", "argmax"]


@dataclasses.dataclass(frozen=True)
class Output:
    """One output of an exported file.

    Attributes:
        name: in the file; of a network with several tasks the task's, else what it is.
        task: `Task`, or `None` of a network that does not tell.
        key: of the network's output dict, or `None` where that is a tensor.
        activation: what is done to logits: `None`, `"softmax"`, or `"argmax"` (int32 classes).
    """

    name: str
    task: Task | None = None
    key: str | None = None
    activation: Activation | None = None

    @property
    def is_classes(self):
        """Whether the file gives classes and no numbers."""
        return self.activation == "argmax"


def outputs_of(model, activation=None, description=None):
    """Returns the outputs of a network's files, a list of `Output`.

    Args:
        model: checked network. If nothing tells its tasks, several outputs are called by their keys.
        activation: of every task with classes.
        description: `Description` of the tasks, the network's own if `None`.

    Raises:
        UserError: if it is unknown, or no task has classes.
    """
    if activation is not None and activation not in get_args(Activation):
        raise UserError(
            f"`activation` must be one of {', '.join(get_args(Activation))} or None. Received: {activation!r}"
        )
    description = description or getattr(model, "description", None)
    tasks = description.tasks if description is not None else ()
    if not tasks and len(model.outputs) > 1:
        if activation is not None:
            raise UserError(
                f"`activation` of several outputs may be set only where a description tells the tasks. "
                f"Received: {activation!r}"
            )
        return [Output(key, key=key) for key in model.output]
    if not tasks:
        if activation is not None:
            return [Output(_NAMES[activation], activation=activation)]
        return [Output(OUTPUT_NAME)]
    if activation is not None and all(task.kind == "regression" for task in tasks):
        raise UserError(f"`activation` may be set only of a network with classes. Received: {activation!r}")
    outputs = []
    for task in tasks:
        of_task = None if task.kind == "regression" else activation
        name = task.name if len(tasks) > 1 or task.kind == "regression" else _NAMES[of_task]
        outputs.append(Output(name, task, task.name if len(tasks) > 1 else None, of_task))
    return outputs


_NAMES = {None: OUTPUT_NAME, "softmax": "probabilities", "argmax": "classes"}
