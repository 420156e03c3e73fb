"""Networks that auxzoo did not make, `.keras` files of any origin: the command line tells what they do not."""

import sys
from pathlib import Path

from auxzoo.errors import UserError


def add_foreign_arguments(parser):
    """Adds the arguments that describe a `.keras` file which auxzoo did not make."""
    group = parser.add_argument_group("a .keras file that auxzoo did not make")
    group.add_argument(
        "--preprocessing",
        metavar="MODE",
        help="what it takes: tf (-1 to 1), torch (0 to 1, less ImageNet's mean, by its deviation), unit (0 to 1) or "
        "none (0 to 255; it scales them itself)",
    )
    group.add_argument("--labels", metavar="FILE", help="text file of its classes, a line each, in their order")
    group.add_argument(
        "--task", metavar="KIND", help="of an output at every pixel: segmentation (of classes) or regression"
    )


def load_exportable(arguments):
    """Returns the network that a command names, checked and with a description, and whether it ended in a soft-max.

    A foreign network gets its description from `add_foreign_arguments`; it may be `keras.Sequential`. A soft-max at its
    end is taken off, as all other networks give logits; the files may have it again.

    Raises:
        UserError: if the network cannot be exported, or an argument is missing, does not fit it, or was given though it
            describes itself.
    """
    from auxzoo import models
    from auxzoo.export.checks import exportable

    network = exportable(models.load(arguments.name))
    return (network, False) if _tells_of_itself(network, arguments) else _described(network, arguments)


def load_described(arguments):
    """Returns the network that a command names, with a description, as of `load_exportable`; it gives logits.

    Raises:
        UserError: as of `load_exportable`; but one that describes itself need not be fit for export.
    """
    from auxzoo import models
    from auxzoo.export.checks import exportable

    network = models.load(arguments.name)
    return network if _tells_of_itself(network, arguments) else _described(exportable(network), arguments)[0]


def check_none_given(arguments):
    """Raises a `UserError` if an argument of `add_foreign_arguments` is given, for another file or network."""
    given = [f"--{name}" for name in ("preprocessing", "labels", "task") if getattr(arguments, name) is not None]
    if given:
        raise UserError(
            f"`{given[0]}` may be given only for a .keras file that auxzoo did not make. Received: {arguments.name}"
        )


def _tells_of_itself(network, arguments):
    from auxzoo.models.description import is_described

    if not is_described(network):
        return False
    check_none_given(arguments)
    return True


def _described(network, arguments):
    """Returns a foreign network with the description that the arguments give, and whether it ended in a soft-max."""
    from auxzoo.models.description import Description, described
    from auxzoo.models.preprocessing import CONVENTIONS, Preprocessing

    if arguments.preprocessing not in CONVENTIONS:
        raise UserError(
            f"`--preprocessing` must be one of {', '.join(CONVENTIONS)} for {arguments.name}, which auxzoo did not "
            f"make. Received: {arguments.preprocessing or 'none given'}"
        )
    size = network.inputs[0].shape[1:]
    if len(size) != 3 or size[-1] != 3:
        raise UserError(f"The input of {arguments.name} must be pictures, (rows, columns, 3). Received: {tuple(size)}")
    network, had_softmax = _without_softmax(network, arguments.name)
    description = Description(
        (), Preprocessing.by_convention(arguments.preprocessing, *size[:2]), _tasks(network, arguments)
    )
    return described(network.inputs[0], network.outputs[0], description, network.name), had_softmax


def _tasks(network, arguments):
    if isinstance(network.output, dict):
        raise UserError(
            f"The output of {arguments.name} must be one tensor. Received: {', '.join(network.output)}; several are "
            "exported by `auxzoo.export.export_files(..., description=...)`"
        )
    from auxzoo.tasks import Task

    shape = network.outputs[0].shape[1:]
    kinds = {1: ("classification",), 3: ("segmentation", "regression")}.get(len(shape))
    if kinds is None:
        raise UserError(
            f"The output of {arguments.name} must be (classes) or (rows, columns, channels). Received: {tuple(shape)}"
        )
    kind = arguments.task or (kinds[0] if len(kinds) == 1 else None)
    if kind not in kinds:
        raise UserError(
            f"`--task` must be {' or '.join(kinds)} for an output of shape {tuple(shape)}. "
            f"Received: {arguments.task or 'none given'}"
        )
    if kind != "regression":
        _check_logits(network, shape[-1], arguments.name)
    labels = () if arguments.labels is None else _read_labels(arguments.labels, kind, shape[-1])
    return (Task(kind, kind, labels),)


def _check_logits(network, count, name):
    from auxzoo.training.outputs import last_activation

    if count < 2:
        raise UserError(
            f"The output of {name} must be of 2 classes or more, a number each. Received: 1; a network that gives one "
            "probability must end in two logits in its place"
        )
    activation = last_activation(network.outputs[0]._keras_history)
    if activation is not None and "sigmoid" in activation.lower():
        print(
            f"Warning: {name} ends in a {activation}; its outputs are taken for logits, of which one class is right.",
            file=sys.stderr,
        )


def _read_labels(path, kind, count):
    if kind == "regression":
        raise UserError("`--labels` may be given only for a network with classes. Received: --task regression")
    from auxzoo.data.sources import read_labels

    if not Path(path).is_file():
        raise UserError(f"`--labels` must be a text file of names, one a line. Received: `{path}`")
    labels = read_labels(Path(path))
    if len(labels) != count:
        raise UserError(
            f"`--labels` must have a line for each of {count} classes. Received: `{path}`, {len(labels)} lines"
        )
    return labels


def _without_softmax(network, name):
    """Returns the network that gives logits, and whether it gave probabilities; `name` is for messages."""
    import keras

    if isinstance(network.output, dict):
        return network, False
    last, is_nested = network.outputs[0]._keras_history.operation, False
    while isinstance(last, keras.Model):
        last, is_nested = last.outputs[0]._keras_history.operation, True
    activation = getattr(last, "activation", None)
    if activation is keras.activations.softmax:
        last.activation = keras.activations.linear
        return network, True
    softmax = activation if isinstance(activation, keras.layers.Softmax) else last
    if type(softmax).__name__ != "Softmax":  # a layer, or the bare operation
        return network, False
    if softmax.axis not in (-1, len(last.output.shape) - 1):
        raise UserError(
            f"The soft-max at the end of {name} must be over the last axis. "
            f"Received: {last.name!r}, axis={softmax.axis}"
        )
    if softmax is activation:
        last.activation = keras.activations.linear
        return network, True
    if is_nested:
        raise UserError(
            f"The soft-max at the end of {name} must be a layer of its own, or be taken off. "
            f"Received: {last.name!r}, inside a network that is a layer"
        )
    return keras.Model(network.inputs[0], last.input, name=network.name), True
