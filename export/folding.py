"""Batch normalisation folded into the convolution before it, in Keras, so that no converter has to."""

import keras

from .inlining import copy_weights, inline_networks

# The weight that the factor of each output channel goes into, and its axis of output channels.
_SCALED_WEIGHT = {
    keras.layers.Conv2D: ("kernel", (1, 1, 1, -1)),
    keras.layers.DepthwiseConv2D: ("kernel", None),  # channels and their multiples are two axes
    keras.layers.SeparableConv2D: ("pointwise_kernel", (1, 1, 1, -1)),
    keras.layers.Dense: ("kernel", (1, -1)),
}


def fold_batch_normalization(model):
    """Returns a copy of a network in inference form: each batch-norm that follows a convolution is in its kernel.

    tf2onnx leaves some of those behind dilated depthwise convolutions, and the TFLite converter folds on its
    own rules; done here, every format holds the same network.

    Args:
        model: functional Keras model.

    Returns:
        plain functional `keras.Model` with equal outputs up to rounding, with the layers of networks that
        were layers of it (`inline_networks`). A batch-norm that follows anything else stays.

    Example:
        >>> folded = fold_batch_normalization(compact)
    """
    model = inline_networks(model)
    folded = _foldable(model)  # batch-norm name -> the convolution before it
    convolutions = {convolution.name: name for name, convolution in folded.items()}

    def clone_layer(layer):
        config = layer.get_config()
        if layer.name in convolutions:
            config["use_bias"] = True
        return type(layer).from_config(config)

    def call_layer(layer, *args, **kwargs):
        if layer.name in folded:
            return args[0] if args else kwargs["inputs"]
        return layer(*args, **kwargs)

    # The name goes into the files: one given by Keras would change with whatever was built before.
    outputs = model.output if len(model.outputs) > 1 else model.outputs[0]
    plain = keras.Model(model.inputs[0], outputs, name=model.name)
    copy = keras.models.clone_model(plain, clone_function=clone_layer, call_function=call_layer)
    for layer in copy.layers:
        if isinstance(layer, keras.layers.InputLayer):
            continue  # cloning renames it where the original was built around a tensor
        original = model.get_layer(layer.name)
        if layer.name in convolutions:
            layer.set_weights(_folded_weights(original, model.get_layer(convolutions[layer.name])))
        else:
            copy_weights(original, layer)
    return copy


def _foldable(model):
    """Returns batch-norm name -> convolution, for every batch-norm that alone reads a linear convolution."""
    folded = {}
    for layer in model.layers:
        if not isinstance(layer, keras.layers.BatchNormalization) or len(layer._inbound_nodes) != 1:
            continue
        convolution = layer.input._keras_history.operation
        if (
            type(convolution) in _SCALED_WEIGHT
            and len(convolution._inbound_nodes) == 1
            and _readers(model, convolution) == [layer]
            and convolution.activation is keras.activations.linear
            and layer.axis in (-1, len(layer.input.shape) - 1)
        ):
            folded[layer.name] = convolution
    return folded


def _readers(model, layer):
    """Returns what reads a layer's output: layers, bare operations, and `None` for the model's own output."""
    readers = [
        reader
        for reader in model.operations
        for node in reader._inbound_nodes
        if any(tensor._keras_history.operation is layer for tensor in node.input_tensors)
    ]
    is_output = any(tensor._keras_history.operation is layer for tensor in model.outputs)
    return readers + [None] * is_output


def _folded_weights(convolution, normalization):
    mean = normalization.moving_mean.numpy()
    factor = (normalization.moving_variance.numpy() + normalization.epsilon) ** -0.5
    if normalization.scale:
        factor = factor * normalization.gamma.numpy()
    shift = normalization.beta.numpy() if normalization.center else 0.0
    bias = convolution.bias.numpy() if convolution.use_bias else 0.0
    weight_name, shape = _SCALED_WEIGHT[type(convolution)]
    scaled = getattr(convolution, weight_name)
    weights = []
    for weight in convolution.weights:
        if weight is scaled:
            factors = factor.reshape(weight.shape[-2:] if shape is None else shape)
            weights.append(weight.numpy() * factors)
        elif weight is not convolution.bias:
            weights.append(weight.numpy())
    return [*weights, (bias - mean) * factor + shift]
