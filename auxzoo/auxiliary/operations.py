"""The operations that a node of the auxiliary may choose from, each made of stock Keras layers."""

import keras

from ..models.layers import convolution, normalization


def _residual(transform):
    """Wraps a convolution as `ReLU(x + normalise(convolution(x)))`, so that the node's input goes on unhindered."""

    def operation(x, name):
        y = normalization(transform(x, x.shape[-1], name), f"{name}_normalization")
        y = keras.layers.Add(name=f"{name}_add")([x, y])
        return keras.layers.ReLU(name=f"{name}_relu")(y)

    return operation


def _separable(x, channels, kernel, name):
    return keras.layers.SeparableConv2D(
        channels, kernel, padding="same", use_bias=False, depthwise_initializer="he_normal", name=name
    )(x)


def _average_pooling(x, name):
    return keras.layers.AveragePooling2D(3, strides=1, padding="same", name=name)(x)


def _identity(x, name):
    return x


# Name in a structure -> function of the node's merged input `[batch, rows, columns, channels]` and the prefix
# of its layers' names; the result has the same shape.
OPERATIONS = {
    "convolution_1x1": _residual(lambda x, channels, name: convolution(x, channels, 1, name)),
    "convolution_3x3": _residual(lambda x, channels, name: convolution(x, channels, 3, name)),
    "dilated_3x3": _residual(lambda x, channels, name: convolution(x, channels, 3, name, dilation=2)),
    "separable_3x3": _residual(lambda x, channels, name: _separable(x, channels, 3, name)),
    "separable_5x5": _residual(lambda x, channels, name: _separable(x, channels, 5, name)),
    "average_pooling": _average_pooling,
    "identity": _identity,
}
