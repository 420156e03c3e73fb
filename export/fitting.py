"""What must fit a network before its files are made and measured: its description, and images with their truth."""

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


def images_for_outputs(model, outputs, images, argument="evaluation"):
    """Returns the images with truth for the tasks of the outputs alone, in their order; `None` if a backbone has none.

    They are called as the outputs are. `argument` is what messages call the images.

    Raises:
        UserError: if they are no `ImageSet`, or do not fit, as of `ImageSet.for_tasks`.
    """
    if not isinstance(images, ImageSet):
        raise UserError(f"`{argument}` must be an ImageSet. Received: {type(images).__name__}")
    known, tasks, classes = {task.name: task for task in images.tasks}, [], {}
    for output in outputs:
        task, shape = output.task, (model.output[output.key] if output.key else model.outputs[0]).shape
        if task is None:
            # Where both have one the names may differ.
            task = images.tasks[0] if len(outputs) == len(known) == 1 else known.get(output.name)
            if task is None or task.is_dense != (len(shape) == 4):
                return None  # features, or nothing that the images tell of
        tasks.append(task)
        if task.kind != "regression":
            classes[task.name] = shape[-1]
    images = images.for_tasks(tasks, classes, model.name, argument)
    return images.with_tasks({output.name: task.name for output, task in zip(outputs, tasks, strict=True)})
