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

    def applied(self, values):
        """Returns what the file gives of a tensor of the network's: that, its soft-max, or its classes."""
        import tensorflow as tf

        if self.is_classes:
            return tf.argmax(values, axis=-1, output_type=tf.int32)
        return tf.nn.softmax(values) if self.activation == "softmax" else tf.identity(values)


def outputs_of(model, activation=None, description=None):
    """Returns the outputs of a network's files, a list of `Output`.

    Args:
        model: checked network. If nothing tells its tasks, several outputs are called by their keys.
        activation: of every task with classes.
        description: `Description` of the tasks, the network's own if `None`.

    Raises:
        UserError: if it is unknown, no task has classes, or the description does not fit the outputs.
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
    _check_tasks(model, tasks)
    if activation is not None and all(task.kind == "regression" for task in tasks):
        raise UserError(f"`activation` may be set only of a network with classes. Received: {activation!r}")
    outputs = []
    for task in tasks:
        of_task = None if task.kind == "regression" else activation
        name = task.name if len(tasks) > 1 or task.kind == "regression" else _NAMES[of_task]
        outputs.append(Output(name, task, task.name if len(tasks) > 1 else None, of_task))
    return outputs


def _check_tasks(model, tasks):
    """Raises a `UserError` unless there is an output for each task, of its rank and with as many numbers as it has."""
    shapes = {tasks[0].name: model.outputs[0].shape}
    if isinstance(model.output, dict):
        shapes = {key: tensor.shape for key, tensor in model.output.items()}
    if len(tasks) > 1 or len(shapes) > 1:
        names = [task.name for task in tasks]
        if set(names) != set(shapes) or not isinstance(model.output, dict):
            outputs = ", ".join(shapes) if isinstance(model.output, dict) else "one that is no dict"
            raise UserError(
                f"`description` must tell of each output of {model.name!r}, {outputs}. Received: {', '.join(names)}"
            )
    for task in tasks:
        shape = shapes[task.name] if len(tasks) > 1 else next(iter(shapes.values()))
        wanted = 1 if task.kind == "regression" else len(task.labels) or shape[-1]
        if len(shape) != (4 if task.is_dense else 2) or shape[-1] != wanted:
            raise UserError(
                f"`description` must fit the output of shape {tuple(shape[1:])} for {task.name!r}. "
                f"Received: a {task.kind}" + (f" of {wanted} classes" if task.labels else "")
            )


_NAMES = {None: OUTPUT_NAME, "softmax": "probabilities", "argmax": "classes"}
