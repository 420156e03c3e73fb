"""What a network predicts: its tasks, checked against its outputs, and the predictions that are measured."""

import keras

from auxzoo.errors import UserError
from auxzoo.metric_names import MAIN_METRICS, is_error
from auxzoo.tasks import Task

from ..models.description import is_described
from ..models.names import COMPACT_OUTPUT, auxiliary_outputs, is_joint

# Rank of an output -> kind of the task of a network that carries no description.
_KINDS = {2: "classification", 4: "segmentation"}


def tasks_of(network):
    """Returns the tasks of a compact or joint network, in the order of its outputs.

    Args:
        network: functional `keras.Model`. One that carries no description has a classification where its output is
            `[batch, classes]`, and a segmentation where it is `[batch, rows, columns, classes]`.

    Returns:
        tuple of `Task`.

    Raises:
        UserError: if an output is not of such a shape.

    Example:
        >>> [task.kind for task in tasks_of(auxzoo.load("resnet18_025_cifar10"))]
        ['classification']
    """
    outputs = compact_output(network)
    has_description = is_described(network)
    described = network.description.tasks if has_description else ()
    if not isinstance(outputs, dict):
        outputs = {described[0].name if len(described) == 1 else None: outputs}
    known = {task.name: task for task in described}
    tasks = []
    for name, output in outputs.items():
        shape = getattr(output, "shape", ())
        task = known.get(name)
        if not has_description and len(shape) in _KINDS:
            task = Task(name or _KINDS[len(shape)], _KINDS[len(shape)])
        if task is None or len(shape) != (4 if task.is_dense else 2) or (task.kind == "regression" and shape[-1] != 1):
            raise UserError(
                "`network` must have logits of shape [batch, classes] or [batch, rows, columns, classes] as output, or "
                "numbers [batch, rows, columns, 1] for a regression; give it a head with `num_classes=...`. "
                f"Received: {network.name!r} with output {output}"
            )
        tasks.append(task)
    return tuple(tasks)


def trainable_tasks_of(network):
    """Returns the tasks of a network as `tasks_of` does, if its classes have logits, as the losses want them.

    Raises:
        UserError: as of `tasks_of`, or if there is a soft-max or the like at the end.
    """
    tasks = tasks_of(network)
    outputs = by_task(tasks, compact_output(network))
    for task in tasks:
        activation = last_activation(outputs[task.name]._keras_history)
        if activation is not None and task.kind != "regression":
            raise UserError(
                "`network` must have logits as output, without soft-max: build it with classifier_activation=None "
                f"or the like. Received: {network.name!r} with activation {activation}"
            )
    return tasks


def last_activation(history):
    """Returns what is applied to an output at last, `None` if nothing is.

    Args:
        history: of a symbolic tensor, Keras' record of the operation that made it.
    """
    operation = history.operation
    if isinstance(operation, keras.Model) and hasattr(operation, "outputs"):  # a network used as a layer
        return last_activation(operation.outputs[history.tensor_index]._keras_history)
    if type(operation).__name__ in ("Softmax", "Sigmoid", "LogSoftmax", "LogSigmoid"):  # layers, or bare operations
        return type(operation).__name__
    activation = getattr(operation, "activation", keras.activations.linear)
    if activation is keras.activations.linear:
        return None
    return getattr(activation, "__name__", type(activation).__name__)  # it may be a layer


def compact_output(network):
    """Returns the output of a compact network, or of the one inside a joint network: a tensor, or a dict of task."""
    return network.output[COMPACT_OUTPUT] if is_joint(network) else network.output


def by_task(tasks, values):
    """Returns the values of an output, a truth or a prediction as a `dict` of task name.

    Args:
        tasks: tuple of `Task`.
        values: of one task alone the value itself or a dict with it, of several a dict of them and perhaps more.
    """
    if isinstance(values, dict):
        return {task.name: values[task.name] for task in tasks}
    return {tasks[0].name: values}


def number_of_classes(network, task):
    """Returns how many logits a network has for a task; 1 for a regression."""
    return by_task(tasks_of(network), compact_output(network))[task.name].shape[-1]


def compact_prediction(outputs):
    """Returns what the compact network predicts, of what it or a joint network returned."""
    return outputs[COMPACT_OUTPUT] if is_joint_output(outputs) else outputs


def measured_outputs(outputs):
    """Returns prefix of a metric's name -> what is measured: of a joint network three predictions, else one.

    Args:
        outputs: what a compact or joint network returns.
    """
    if not is_joint_output(outputs):
        return {"": outputs}
    heads = auxiliary_outputs(outputs)
    return {"": outputs[COMPACT_OUTPUT], "auxiliary_": mean(heads), "joint_": mean([outputs[COMPACT_OUTPUT], *heads])}


def is_joint_output(outputs):
    """Returns whether outputs are those of a joint network. No task is called as their keys are."""
    return isinstance(outputs, dict) and COMPACT_OUTPUT in outputs


def mean(outputs, weights=None):
    """Returns the mean of outputs of one structure, by one operation: TensorFlow would reorder a chain of additions.

    Args:
        outputs: list of tensors, or of dicts of them.
        weights: scalars 0 or more, one for each output; 0 is returned where all are 0. All weigh the same if `None`.
    """
    if weights is None:
        return keras.tree.map_structure(lambda *tensors: keras.ops.mean(keras.ops.stack(tensors), axis=0), *outputs)
    weights = keras.ops.stack(weights)
    shares = weights / keras.ops.maximum(keras.ops.sum(weights), keras.config.epsilon())

    def weighted(*tensors):
        stacked = keras.ops.stack(tensors)
        factors = keras.ops.reshape(keras.ops.cast(shares, stacked.dtype), (-1, *[1] * (len(stacked.shape) - 1)))
        return keras.ops.sum(factors * stacked, axis=0)

    return keras.tree.map_structure(weighted, *outputs)


def fitting_images(network, images, argument):
    """Returns a set of images with truth for the tasks of a network and no others, as of `ImageSet.for_tasks`.

    Args:
        network: compact or joint network.
        images: `ImageSet`.
        argument: `str`, what messages call the set.

    Raises:
        UserError: as of `ImageSet.for_tasks`.
    """
    tasks = tasks_of(network)
    outputs = by_task(tasks, compact_output(network))
    classes = {task.name: outputs[task.name].shape[-1] for task in tasks if task.kind != "regression"}
    return images.for_tasks(tasks, classes, network.name, argument)


def check_same_classes(train, images, argument):
    """Raises a `UserError` if a set has other classes than the training images, by their names, where both have some.

    Args:
        train: `ImageSet`, of which `fitting_images` returned both.
        images: `ImageSet`.
        argument: `str`, what the message calls it.
    """
    for task, of_train in zip(images.tasks, train.tasks, strict=True):
        for number, (label, expected) in enumerate(zip(task.labels, of_train.labels, strict=False)):
            if label != expected:
                raise UserError(
                    f"`{argument}` must have the classes of the training images: number {number} of {task.name} is "
                    f"{expected!r} there. Received: {label!r} in {images.name}"
                )


def main_metric(tasks):
    """Returns the one figure by which networks with these tasks are ranked.

    It is the metric of the task, or of several tasks their summed losses, since points and metres have no sum.

    Returns:
        `(name, parts, whether higher is better)`: what it is called, and the names in a history whose sum it is.
    """
    if len(tasks) > 1:
        return "summed_loss", tuple(f"{task.name}_loss" for task in tasks), False
    metric = MAIN_METRICS[tasks[0].kind]
    return metric, (metric,), not is_error(metric)
