"""What must fit a network before its files are made and measured: its description, and images with their truth."""

import dataclasses

from auxzoo.data import ImageSet
from auxzoo.errors import UserError

from ..models.description import describe


def fitting_description(model, description=None):
    """Returns a description of a network, its own if `None`.

    Raises:
        UserError: if there is none, or its preprocessing makes images of another size.
    """
    description = description or describe(model)
    check_size(model, description.preprocessing)
    return description


def check_size(model, preprocessing):
    """Raises a `UserError` unless preprocessing makes images of the size of a network's input."""
    size, wanted = (preprocessing.height, preprocessing.width, 3), tuple(model.inputs[0].shape[1:])
    if size != wanted:
        raise UserError(f"`description` must make images of shape {wanted}, the network's input. Received: {size}")


def fitting_images(model, outputs, evaluation):
    """Returns the images with truth for the tasks of the outputs alone, in their order; `None` if a backbone has none.

    Classes that are all among the network's, by their names, get the numbers that they have there.

    Raises:
        UserError: if they are no `ImageSet`, or do not fit.
    """
    if not isinstance(evaluation, ImageSet):
        raise UserError(f"`evaluation` must be an ImageSet. Received: {type(evaluation).__name__}")
    known = {task.name: task for task in evaluation.tasks}
    names = {}
    for output in outputs:
        shape = (model.output[output.key] if output.key else model.outputs[0]).shape
        # Where both have one task the names may differ.
        own = evaluation.tasks[0] if len(outputs) == len(known) == 1 else known.get(output.name)
        if output.task is None and (own is None or own.is_dense != (len(shape) == 4)):
            return None  # features, or nothing that the images tell of
        if own is None or (output.task is not None and output.task.kind != own.kind):
            raise UserError(f"`evaluation` must have truth for {output.name!r}. Received: {', '.join(known)}")
        names[output.name] = own.name
    images = evaluation.with_tasks(names)
    for output in outputs:
        classes = (model.output[output.key] if output.key else model.outputs[0]).shape[-1]
        if output.task is not None and len(output.task.labels) == classes:
            images = images.numbered_as(dataclasses.replace(output.task, name=output.name))
        (own,) = (task for task in images.tasks if task.name == output.name)
        if own.kind != "regression" and len(own.labels) != classes:
            raise UserError(f"`evaluation` must have {classes} classes, as {model.name}. Received: {len(own.labels)}")
    return images
