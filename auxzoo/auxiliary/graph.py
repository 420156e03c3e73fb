"""Attaching an auxiliary to a compact network, and detaching it."""

import keras

from auxzoo.auxiliary.gates import LinkGate, OperationChoice
from auxzoo.auxiliary.operations import OPERATIONS
from auxzoo.auxiliary.search_space import SearchSpace
from auxzoo.auxiliary.structure import Structure, tap_tensor
from auxzoo.errors import UserError

from ..models.description import described, is_described
from ..models.heads import classification_head, dense_head, strides_between, upsampled
from ..models.layers import convolution, normalization
from ..models.names import AUXILIARY_OUTPUT, AUXILIARY_PREFIX, COMPACT_OUTPUT, is_joint

JOINT_SUFFIX = "_joint"


def attach(compact, structure):
    """Returns the joint network: the compact one with an auxiliary that reads its taps.

    The joint network shares the compact one's layers and weights: training it trains `compact`. Nothing in the
    compact network reads the auxiliary, so its outputs are bit-identical before and after.

    Args:
        compact: functional `keras.Model` whose output is a prediction, or a dict of task to prediction: `[batch,
            classes]`, or `[batch, rows, columns, classes]` at every pixel.
        structure: `Structure`; its taps name layers of `compact`. Or a `SearchSpace`: then every link that it allows
            is there, behind a `LinkGate`, and every node has an `OperationChoice`.

    Returns:
        functional `keras.Model` with outputs `{"compact": ..., "auxiliary": ...}`, each what the compact network's
        output is, a prediction or a dict; where every node has a head, `"auxiliary_NODE"` for each. It carries the
        compact network's description if there is one.

    Raises:
        UserError: if `structure` is neither, or `compact` is not functional, has no head, is a joint network, or lacks
            a tap of the structure, or a node reads what has fewer rows or columns, and not by powers of two.

    Source: arXiv:1909.02214 (an auxiliary over the hidden layers, removed at inference); the nodes are those of
    arXiv:1903.11236 with an operation of their own.

    Example:
        >>> compact = auxzoo.models.ResNet18((32, 32, 3), width=0.25, stem="small", num_classes=10)
        >>> joint = attach(compact, Structure.default(compact))
        >>> list(joint.output)
        ['compact', 'auxiliary_stage1', 'auxiliary_stage2', 'auxiliary_stage3', 'auxiliary_stage4']
    """
    _check_compact(compact)
    if not isinstance(structure, (Structure, SearchSpace)):
        raise UserError(
            "`structure` must be a Structure or a SearchSpace; Structure.read reads a file. "
            f"Received: structure={structure!r}"
        )
    taps = {
        tap: tap_tensor(compact, tap, layer)
        for tap, layer in structure.taps
        if any(tap in (*node.links, node.resolution) for node in structure.nodes)
    }
    name = f"{compact.name}{JOINT_SUFFIX}"
    try:
        return _functional(compact, _outputs(compact, structure, taps), name)
    except UserError:  # a ValueError too
        raise
    except ValueError:
        # Keras refuses two layers of one name: both nodes `a` and `a_operation` have an `a_operation_relu`.
        # No node's name begins with a digit, so numbers keep them apart; all other structures keep their names.
        return _functional(compact, _outputs(compact, structure, taps, numbered=True), name)


def detach(joint):
    """Returns the compact network inside a joint one: the same layers and weights, without the auxiliary.

    Args:
        joint: what `attach` returned, or such a network loaded from a `.keras` file.

    Raises:
        UserError: if `joint` is not a joint network.

    Example:
        >>> compact = auxzoo.detach(joint)
    """
    if not is_joint(joint):
        raise UserError(
            f"`joint` must be a joint network made by `attach`. Received: {getattr(joint, 'name', joint)!r}"
        )
    return _functional(joint, joint.output[COMPACT_OUTPUT], joint.name.removesuffix(JOINT_SUFFIX))


def _functional(model, outputs, name):
    inputs = model.input
    if is_described(model):
        return described(inputs, outputs, model.description, name)
    return keras.Model(inputs=inputs, outputs=outputs, name=name)


def _check_compact(compact):
    if not (isinstance(compact, keras.Model) and hasattr(compact, "operations")):
        hint = (
            "; keras.Model(model.inputs, model.outputs[0]) makes one" if isinstance(compact, keras.Sequential) else ""
        )
        raise UserError(
            f"`compact` must be a functional keras.Model{hint}. Received: {getattr(compact, 'name', compact)!r}"
        )
    if any(layer.name.startswith(AUXILIARY_PREFIX) for layer in compact.layers):
        raise UserError(f"`compact` has an auxiliary already; detach it first. Received: {compact.name!r}")
    if is_described(compact) and not compact.description.tasks:
        raise UserError(f"`compact` must have a head; give it one with `num_classes=...`. Received: {compact.name!r}")
    outputs = list(compact.output.values()) if isinstance(compact.output, dict) else [compact.output]
    for output in outputs:
        shape = getattr(output, "shape", None)
        if shape is None or len(shape) not in (2, 4) or None in shape[1:]:
            raise UserError(
                "`compact` must have an output of a fixed size, [batch, classes] or [batch, rows, columns, classes], "
                f"or a dict of such; give it a head. Received: {compact.name!r} with output {compact.output}"
            )


def _outputs(compact, structure, taps, numbered=False):
    """Returns the outputs of the joint network, having built the auxiliary; `taps` are tap name to tensor."""
    if not isinstance(compact.output, dict):
        return {COMPACT_OUTPUT: compact.output} | _auxiliary(compact, structure, taps, numbered, [None])[None]
    tasks = list(compact.output)
    if structure.tasks == "shared":
        of_task = _auxiliary(compact, structure, taps, numbered, tasks)
    else:
        of_task = {}
        for task in tasks:
            of_task |= _auxiliary(compact, structure, taps, numbered, [task], f"{task}_")
    heads = {head: {task: of_task[task][head] for task in tasks} for head in of_task[tasks[0]]}
    return {COMPACT_OUTPUT: compact.output} | heads


def _auxiliary(compact, structure, taps, numbered, tasks, infix=""):
    """Builds one auxiliary; returns task to `dict` of key in the output to prediction.

    Args:
        compact: the compact network.
        structure: `Structure` or `SearchSpace`.
        taps: `dict` of tap to tensor.
        numbered: whether names of layers have the node's number.
        tasks: keys of the compact network's output that it serves, or `[None]` where that is a tensor.
        infix: `str`, of its layers' names, where there are several auxiliaries.
    """
    outputs, features = {task: {} for task in tasks}, None
    for place, node in enumerate(structure.nodes):
        prefix = f"{AUXILIARY_PREFIX}{infix}{f'{place}_' if numbered else ''}{node.name}"
        previous = features if structure.is_chained else None
        links = [(tap, taps[tap]) for tap in node.links]
        features = _node(node, prefix, previous, links, taps.get(node.resolution), structure)
        if structure.has_head_each:
            for task in tasks:
                outputs[task][f"{AUXILIARY_OUTPUT}_{node.name}"] = _head(features, compact, task, f"{prefix}_")
    if not structure.has_head_each:
        for task in tasks:
            outputs[task][AUXILIARY_OUTPUT] = _head(features, compact, task, f"{AUXILIARY_PREFIX}{infix}")
    return outputs


def _node(node, prefix, previous, links, size, structure):
    """Adds up the previous node and the links, each adapted to the node's shape, and applies its operation.

    `size` is the tensor whose rows and columns the node has, or `None` for the lowest of its sources. What has more is
    averaged, what has fewer is upsampled.
    """
    sources = list(links)
    if previous is not None:
        source = "previous"
        while source in node.links:  # a tap may be called so
            source += "_"
        sources.append((source, previous))
    sizes = [tensor.shape[1:3] for _, tensor in sources]
    rows, columns = size.shape[1:3] if size is not None else map(min, zip(*sizes, strict=True))
    is_searched = isinstance(structure, SearchSpace)
    terms = []
    for source, tensor in sources:
        name, term, (height, width) = f"{prefix}_from_{source}", tensor, tensor.shape[1:3]
        is_smaller = height < rows or width < columns
        if is_smaller and None in strides_between((height, width), (rows, columns)):
            raise UserError(
                f"`resolution` of node {node.name!r} must be that of what it reads, lower, or higher by powers of two. "
                f"Received: {node.resolution!r} of {rows}x{columns}, reading {source!r} of {height}x{width}"
            )
        # The previous node of the same shape is added as it is: the identity of the published structure.
        if tensor is not previous or tensor.shape[1:] != (rows, columns, node.channels):
            term = term if is_smaller else _pooled(term, rows, columns, f"{name}_pooling")
            term = convolution(term, node.channels, 1, f"{name}_adapter")
            term = normalization(term, f"{name}_normalization")
            if is_smaller:  # afterwards: it is the dearer the more pixels there are
                term = upsampled(term, (rows, columns), f"{name}_upsampling")
        if is_searched and tensor is not previous:
            term = LinkGate(structure.relaxation, link=(node.name, source), name=f"{name}_gate")(term)
        terms.append(term)
    merged = terms[0] if len(terms) == 1 else keras.layers.Add(name=f"{prefix}_sum")(terms)
    merged = keras.layers.ReLU(name=f"{prefix}_relu")(merged)
    if is_searched:
        return OperationChoice(node.operations, node=node.name, name=f"{prefix}_operation")(merged)
    return OPERATIONS[node.operation](merged, f"{prefix}_operation")


def _pooled(tensor, rows, columns, name):
    """Averages a feature map down to exactly `rows` and `columns`, which are not larger than its own."""
    sizes = tensor.shape[1:3]
    if tuple(sizes) == (rows, columns):
        return tensor
    strides = [-(-size // target) for size, target in zip(sizes, (rows, columns), strict=True)]
    if all(-(-size // stride) == target for size, stride, target in zip(sizes, strides, (rows, columns), strict=True)):
        return keras.layers.AveragePooling2D(strides, strides=strides, padding="same", name=name)(tensor)
    # Sizes that no "same" stride reaches, such as 35 to 17: whole windows only, the last ending at the border.
    strides = [size // target for size, target in zip(sizes, (rows, columns), strict=True)]
    windows = [
        size - (target - 1) * stride for size, target, stride in zip(sizes, (rows, columns), strides, strict=True)
    ]
    return keras.layers.AveragePooling2D(windows, strides=strides, padding="valid", name=name)(tensor)


def _head(features, compact, task, prefix):
    """Returns the auxiliary's own prediction, of the shape of the compact network's; `task` as of `_auxiliary`."""
    output = compact.output if task is None else compact.output[task]
    if task is not None:
        prefix = f"{prefix}{task}_"
    if len(output.shape) == 2:
        return classification_head(features, output.shape[-1], prefix)
    return dense_head(features, output.shape[1:3], output.shape[-1], _scale(compact, task), prefix)


def _scale(compact, task):
    """Returns the scale of a compact network's task, 1 of a network that carries no description."""
    tasks = compact.description.tasks if is_described(compact) else ()
    return {None if len(tasks) == 1 else known.name: known.scale for known in tasks}.get(task, 1.0)
