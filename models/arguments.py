"""Checks of the arguments that all compact networks share."""

import keras

from auxzoo.checks import is_real, is_whole
from auxzoo.errors import UserError
from auxzoo.tasks import Task

from .description import Description, Preprocessing, described
from .heads import classification_head


def check_input_shape(input_shape, smallest):
    """Returns `input_shape` as a tuple `(height, width, 3)`.

    Raises:
        UserError: if it is not of three whole numbers, not of three channels or smaller than `smallest`, or Keras is
            set to put channels first.
    """
    if keras.config.image_data_format() != "channels_last":
        raise UserError('`keras.config.image_data_format()` must be "channels_last". Received: "channels_first"')
    try:
        height, width, channels = (int(size) if is_whole(size) else 0 for size in input_shape)
    except (TypeError, ValueError):
        height = width = channels = 0
    if channels != 3 or height < smallest or width < smallest:
        raise UserError(
            f"`input_shape` must be (height, width, 3) with height and width of {smallest} or more. "
            f"Received: input_shape={input_shape}"
        )
    return height, width, channels


def check_choice(argument, value, allowed):
    """Raises a `UserError` unless `value` is one of `allowed`."""
    if value not in allowed:
        choices = ", ".join(repr(choice) for choice in allowed)
        raise UserError(f"`{argument}` must be one of {choices}. Received: {argument}={value!r}")


def check_momentum(argument, value):
    """Raises a `UserError` unless a momentum of batch normalisation is a number from 0 to less than 1."""
    if not (is_real(value) and 0 <= value < 1):
        raise UserError(f"`{argument}` must be a number, 0 or more and less than 1. Received: {argument}={value!r}")


def check_name(name):
    """Raises a `UserError` if Keras would refuse the name of a network; `None` lets Keras choose one."""
    if name is not None and (not isinstance(name, str) or "/" in name):
        raise UserError(f"`name` must be text without `/`. Received: name={name!r}")


def check_count(argument, value):
    """Raises a `UserError` unless `value` is a whole number, 1 or more."""
    if not _is_count(value):
        raise UserError(f"`{argument}` must be 1 or more. Received: {argument}={value!r}")


def check_classes(num_classes, labels):
    """Raises a `UserError` unless `num_classes` is `None` or 1 or more, and `labels` are none or as many."""
    if num_classes is not None and not _is_count(num_classes):
        raise UserError(f"`num_classes` must be None, or 1 or more. Received: num_classes={num_classes!r}")
    if not isinstance(labels, (list, tuple)) or not all(isinstance(label, str) for label in labels):
        raise UserError(f"`labels` must be a list of names. Received: labels={labels!r}")
    if labels and len(labels) != num_classes:
        raise UserError(f"`labels` must be {num_classes} names, one a class. Received: {len(labels)} names")


def finish(inputs, features, taps, num_classes, labels, preprocessing_fit, name):
    """Returns the described network: a backbone, or with `num_classes` a classifier that outputs logits.

    Args:
        inputs: symbolic input, shape `[batch, height, width, 3]`.
        features: symbolic last feature map, shape `[batch, rows, columns, channels]`.
        taps: `dict` of tap name to symbolic tensor.
        num_classes: `int` or `None`.
        labels: names of the classes, or none.
        preprocessing_fit: as of `Preprocessing`.
        name: `str`, name of the network.
    """
    check_classes(num_classes, labels)
    outputs, tasks = features, ()
    if num_classes is not None:
        outputs = classification_head(features, num_classes)
        tasks = (Task("classification", "classification", tuple(labels)),)
    description = Description(
        taps=tuple((tap, layer_name_of(tensor)) for tap, tensor in taps.items()),
        preprocessing=Preprocessing(height=inputs.shape[1], width=inputs.shape[2], fit=preprocessing_fit),
        tasks=tasks,
        trunk=layer_name_of(features),
    )
    return described(inputs, outputs, description, name)


def _is_count(value):
    return is_whole(value) and value >= 1


def layer_name_of(tensor):
    """Returns the name of the layer that made a symbolic tensor."""
    return tensor._keras_history.operation.name
