"""What a network costs: multiplications, parameters and memory of activations, counted from its graph."""

import dataclasses
import math

import keras

_BYTES = 4  # float32
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
        output_shape: without the batch.
        parameters: all its weights, batch-norm statistics among them.
        macs: multiply-accumulate operations of its kernels; `None` for a kind that is not known here.
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
            last reader, batch-norm and activation functions in place.
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

    Args:
        model: functional `keras.Model` with static shapes but for the batch.

    Returns:
        `Costs`.

    Example:
        >>> measure_costs(auxzoo.models.ResNet18(num_classes=1000)).trainable_parameters
        11689512
    """
    rows = tuple(
        LayerCosts(
            name=layer.name,
            kind=type(layer).__name__,
            output_shape=tuple(layer.output.shape[1:]),
            parameters=layer.count_params(),
            macs=_macs(layer),
        )
        for layer in model.layers
    )
    return Costs(
        parameters=model.count_params(),
        trainable_parameters=sum(math.prod(weight.shape) for weight in model.trainable_weights),
        macs=sum(row.macs or 0 for row in rows),
        activation_bytes=_peak_activation_bytes(model),
        rows=rows,
    )


def _macs(layer):
    """Returns the multiplications of one layer's kernels, `None` if it has weights and its kind is not known."""
    output_shape = layer.output.shape[1:]
    positions = math.prod(output_shape[:-1])
    if isinstance(layer, keras.layers.SeparableConv2D):
        return positions * (math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape))
    if isinstance(layer, keras.layers.Conv2DTranspose):
        return math.prod(layer.input.shape[1:-1]) * math.prod(layer.kernel.shape)
    # A kernel of any of these is used once at every position of the output.
    if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)):
        return positions * math.prod(layer.kernel.shape)
    known_without = (keras.layers.BatchNormalization, keras.layers.Normalization)
    return None if layer.weights and not isinstance(layer, known_without) else 0


def _peak_activation_bytes(model):
    layers = model.layers
    memory_of = {}  # id of a tensor -> id of the tensor whose memory it uses
    sizes, last_reader = {}, {}
    for place, layer in enumerate(layers):
        inputs = [tensor for tensor in _tensors(layer, "input") if id(tensor) in memory_of]
        for tensor in inputs:
            last_reader[memory_of[id(tensor)]] = place
        for tensor in _tensors(layer, "output"):
            if isinstance(layer, _IN_PLACE) and len(inputs) == 1:
                memory_of[id(tensor)] = memory_of[id(inputs[0])]
            else:
                memory_of[id(tensor)] = id(tensor)
                sizes[id(tensor)] = (place, math.prod(tensor.shape[1:]) * _BYTES)
                last_reader[id(tensor)] = place
    for tensor in model.outputs:
        last_reader[memory_of[id(tensor)]] = len(layers)
    return max(
        sum(size for memory, (made, size) in sizes.items() if made <= place <= last_reader[memory])
        for place in range(len(layers))
    )


def _tensors(layer, role):
    return [
        tensor
        for node in layer._inbound_nodes
        for tensor in (node.input_tensors if role == "input" else node.output_tensors)
    ]
