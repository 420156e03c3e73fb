"""Several tasks on one trunk: hard parameter sharing."""

import dataclasses

from auxzoo.errors import UserError
from auxzoo.tasks import checked_tasks

from .arguments import check_choice, check_count, check_name, layer_name_of
from .costs import tensor_of
from .description import describe, described
from .heads import CHANNELS, classification_head, dense_head, pyramid
from .names import branch_tap


def MultiTask(backbone, tasks, channels=CHANNELS, low_level=True, name="multi_task"):
    """A head for every task over one backbone: classification, segmentation, dense regression, in any mix.

    A segmentation has the head of `DeepLabLite`, and a dense regression the same with one number a pixel.

    Args:
        backbone: `Network` without head; for tasks at every pixel its features must have an output stride of 16 or
            8, such as those of `MobileNetV2(..., output_stride=16)`. Its layers and weights are shared.
        tasks: list of `Task`, each with a name of its own; those with classes must have labels.
        channels: `int`, width of the branches of a dense head.
        low_level: as of `DeepLabLite`, for every dense head.
        name: `str`, name of the network.

    Returns:
        `Network`: functional, float32 images `[batch, height, width, 3]` to a dict of task name to logits
        `[batch, classes]`, logits `[batch, height, width, classes]`, or numbers `[batch, height, width, 1]` in the
        task's unit. Of one task alone to the tensor itself. Taps: those of the backbone, and `TASK_aspp` of every
        dense task (`aspp` where there is one task).

    Raises:
        UserError: if `backbone` has a head or another output stride, or an argument is wrong.

    Source: hard parameter sharing, Caruana 1997; heads: arXiv:1706.05587, figure 5.

    Example:
        >>> backbone = auxzoo.models.MobileNetV2((96, 96, 3), alpha=0.35, output_stride=16)
        >>> tasks = [
        ...     auxzoo.Task("surface", "segmentation", ("ocean", "land", "lake")),
        ...     auxzoo.Task("height", "regression", unit="m", scale=1000.0),
        ... ]
        >>> {task: output.shape for task, output in MultiTask(backbone, tasks).output.items()}
        {'surface': (None, 96, 96, 3), 'height': (None, 96, 96, 1)}
    """
    names = [task.name for task in checked_tasks(tasks)]
    for task in tasks:
        if task.kind != "regression" and not task.labels:
            raise UserError(f"`labels` of task {task.name!r} must name its classes. Received: none")
        if task.kind == "segmentation" and len(task.labels) == 1:
            raise UserError(f"`labels` of task {task.name!r} must be 2 or more, one for all else. Received: 1")
        for other in names:  # layers, or metrics, of both could have one name
            if task.name in (f"{other}_low_level", f"{other}_pixel"):
                raise UserError(f"`tasks` must not be called so, one beside the other: {other!r}, {task.name!r}")
        if task.kind == "classification" and len(names) > 1 and task.name.rpartition("_")[2] == "pixel":
            # Its accuracy would be called as that of a segmentation's pixels is.
            raise UserError(f"`tasks` must call no classification `pixel`, one of several. Received: {task.name!r}")
    return with_heads(backbone, {task: len(task.labels) or None for task in tasks}, channels, low_level, name)


def with_heads(backbone, tasks, channels, low_level, name):
    """Returns the network of a backbone and a head for every task.

    Args:
        backbone: as of `MultiTask`.
        tasks: `dict` of `Task` to its number of classes; of a regression `None`.
        channels: `int`, width of the branches of a dense head.
        low_level: `bool`, as of `DeepLabLite`.
        name: `str`, name of the network.
    """
    description = describe(backbone)
    if description.tasks:
        raise UserError(f"`backbone` must have no head. Received: {backbone.name!r} for {description.kinds}")
    if not description.taps:
        raise UserError(f"`backbone` must have taps, the last of which the heads read. Received: {backbone.name!r}")
    check_count("channels", channels)
    check_choice("low_level", low_level, (True, False))
    check_name(name)
    size = backbone.input_shape[1:3]
    # The last tap, not the output: MobileNetV2's 1280 channels are for its classifier only (arXiv:1801.04381, 6.3).
    features = tensor_of(backbone, description.taps[-1][1])
    outputs, taps = {}, {}
    for task, classes in tasks.items():
        prefix = f"{task.name}_" if len(tasks) > 1 else ""
        if task.is_dense:
            x = pyramid(features, _output_stride(size, features), channels, prefix)
            taps[branch_tap(task.name if prefix else None)] = x
            finer = _low_level_features(backbone, features) if low_level else None
            outputs[task.name] = dense_head(x, size, classes or 1, task.scale, prefix, finer)
        else:
            outputs[task.name] = classification_head(backbone.output, classes, prefix)
    is_all_dense = all(task.is_dense for task in tasks)
    described_heads = dataclasses.replace(
        description,
        taps=(*description.taps, *((tap, layer_name_of(tensor)) for tap, tensor in taps.items())),
        tasks=tuple(tasks),
        trunk=layer_name_of(features) if is_all_dense else description.trunk,
    )
    outputs = outputs if len(outputs) > 1 else next(iter(outputs.values()))
    try:
        return described(backbone.input, outputs, described_heads, name)
    except UserError:  # a ValueError too
        raise
    except ValueError as error:  # such as tasks `x` and `x_aspp_image`
        raise UserError(f"`backbone` and `tasks` must have names of which no two layers become one: {error}") from None


def _low_level_features(backbone, features):
    """Returns the features of the last tap that has more rows and columns than `features`."""
    for _, layer in reversed(describe(backbone).taps):
        tensor = tensor_of(backbone, layer)
        if tensor.shape[1] > features.shape[1] and tensor.shape[2] > features.shape[2]:
            return tensor
    raise UserError(
        f"`low_level` must be False for a backbone without a tap of more than {features.shape[1]}x{features.shape[2]}. "
        "Received: low_level=True"
    )


def _output_stride(size, features):
    """Returns the output stride of features for an input of `(height, width)`: 16 or 8."""
    (height, width), (rows, columns) = size, features.shape[1:3]
    for stride in (16, 8):
        if (-(-height // stride), -(-width // stride)) == (rows, columns):
            return stride
    raise UserError(
        "`backbone` must have an output stride of 16 or 8; build it with output_stride=16. "
        f"Received: features of {rows}x{columns} for an input of {height}x{width}"
    )
