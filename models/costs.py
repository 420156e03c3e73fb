"""What a network costs: multiplications, parameters and memory of activations, counted from its graph."""

import collections
import dataclasses
import math

import keras

from auxzoo.errors import UserError

BYTES = 4  # of a number in float32
# Layers that a runtime fuses with the one before or carries out in place: their output is the same memory.
_IN_PLACE = (
    keras.layers.Activation,
    keras.layers.BatchNormalization,
    keras.layers.Dropout,
    keras.layers.ReLU,
    keras.layers.Flatten,
    keras.layers.Reshape,
)


@dataclasses.dataclass(frozen=True)
class LayerCosts:
    """Costs of one layer for one image.

    Attributes:
        name: of the layer.
        kind: its class.
        output_shape: without the batch; of a layer with several outputs or calls, the first.
        parameters: all its weights, batch-norm statistics among them.
        macs: multiply-accumulate operations of its kernels, once for every call of a shared layer; `None` for a
            kind or size that is not known here.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    macs: int | None


@dataclasses.dataclass(frozen=True)
class Costs:
    """Costs of a network for one image.

    Attributes:
        parameters: all weights, batch-norm statistics among them.
        trainable_parameters: those that training moves by gradient.
        macs: multiply-accumulate operations of all kernels. Batch-norm counts none: an export folds it.
        activation_bytes: the most memory that activations take at one time in float32, each freed after its
            last reader, batch-norm and activation functions in place where nobody else reads their input.
        rows: one `LayerCosts` a layer.
    """

    parameters: int
    trainable_parameters: int
    macs: int
    activation_bytes: int
    rows: tuple[LayerCosts, ...]

    @property
    def uncounted(self):
        """Names of the layers with weights whose multiplications are not known here and not in `macs`."""
        return tuple(row.name for row in self.rows if row.macs is None)


def measure_costs(model):
    """Counts what a functional Keras model costs for one image.

    A functional model inside it counts as one layer: with all its multiplications, and its output's memory alone.

    Args:
        model: functional `keras.Model` with static shapes but for the batch; a tensor of another open size counts
            no memory, and a layer with weights that makes one is among the uncounted.

    Returns:
        `Costs`.

    Raises:
        UserError: if `model` is not functional.

    Example:
        >>> measure_costs(auxzoo.models.ResNet18(num_classes=1000)).trainable_parameters
        11689512
    """
    calls = calls_of(model)
    of_layer = collections.defaultdict(list)
    for call in calls:
        of_layer[id(call.operation)].append(call)
    rows = tuple(_layer_costs(layer, of_layer[id(layer)]) for layer in model.layers)
    return Costs(
        parameters=model.count_params(),
        trainable_parameters=sum(math.prod(weight.shape) for weight in model.trainable_weights),
        macs=sum(row.macs or 0 for row in rows),
        activation_bytes=_peak_activation_bytes(calls, model.outputs),
        rows=rows,
    )


def calls_of(model):
    """Returns the calls of a model's operations (Keras: nodes) in the order in which they are carried out.

    A layer's own `output` tells of its first call alone, which may even have been in another model.
    """
    graph = getattr(model, "_functional", None) or model  # a Sequential model keeps its graph inside
    if not hasattr(graph, "_nodes_by_depth"):
        raise UserError(f"`model` must be a functional keras.Model. Received: {getattr(model, 'name', model)!r}")
    return [call for depth in sorted(graph._nodes_by_depth, reverse=True) for call in graph._nodes_by_depth[depth]]


def tensor_of(model, layer_name):
    """Returns what a layer gives in a model, by its first call there: a symbolic tensor, or a list of several."""
    call = next(call for call in calls_of(model) if call.operation.name == layer_name)
    return call.output_tensors[0] if len(call.output_tensors) == 1 else call.output_tensors


def _layer_costs(layer, calls):
    macs = [_macs(layer, call) for call in calls]
    return LayerCosts(
        name=layer.name,
        kind=type(layer).__name__,
        output_shape=tuple(calls[0].output_tensors[0].shape[1:]),
        parameters=layer.count_params(),
        macs=None if None in macs else sum(macs),
    )


def _macs(layer, call):
    """Returns the multiplications of one call of a layer, `None` if it has weights and its kind is not known."""
    if not layer.weights:
        return 0
    if isinstance(layer, keras.Model) and (hasattr(layer, "_nodes_by_depth") or getattr(layer, "_functional", None)):
        inner = measure_costs(layer)
        return None if inner.uncounted else inner.macs
    of_pixels = slice(2, None) if getattr(layer, "data_format", None) == "channels_first" else slice(1, -1)
    input_sizes, output_sizes = (tensors[0].shape[of_pixels] for tensors in (call.input_tensors, call.output_tensors))
    if isinstance(layer, (keras.layers.BatchNormalization, keras.layers.Normalization)):
        return 0
    if None in input_sizes or None in output_sizes:
        return None
    positions = math.prod(output_sizes)
    if isinstance(layer, keras.layers.SeparableConv2D):
        return positions * (math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape))
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return math.prod(input_sizes) * math.prod(layer.kernel.shape)
    # A kernel of any of these is used once at every position of the output.
    if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)):
        return positions * math.prod(layer.kernel.shape)
    return None


def _peak_activation_bytes(calls, outputs):
    # How often each tensor is read; the caller of the model reads its outputs.
    readers = collections.Counter(id(tensor) for call in calls for tensor in call.input_tensors)
    readers.update(id(tensor) for tensor in outputs)
    memory_of = {}  # id of a tensor -> id of the tensor whose memory it uses
    sizes, last_reader = {}, {}
    for place, call in enumerate(calls):
        inputs = call.input_tensors
        for tensor in inputs:
            last_reader[memory_of[id(tensor)]] = place
        in_place = isinstance(call.operation, _IN_PLACE) and len(inputs) == 1 and readers[id(inputs[0])] == 1
        for tensor in call.output_tensors:
            if in_place:
                memory_of[id(tensor)] = memory_of[id(inputs[0])]
            else:
                memory_of[id(tensor)] = id(tensor)
                sizes[id(tensor)] = (place, _bytes(tensor))
                last_reader[id(tensor)] = place
    for tensor in outputs:
        last_reader[memory_of[id(tensor)]] = len(calls)
    return max(
        sum(size for memory, (made, size) in sizes.items() if made <= place <= last_reader[memory])
        for place in range(len(calls))
    )


def _bytes(tensor):
    sizes = tensor.shape[1:]
    return 0 if None in sizes else math.prod(sizes) * BYTES
