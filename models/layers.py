"""The pair of layers that residual networks and auxiliaries are made of."""

import keras


def convolution(x, channels, kernel, name, stride=1, dilation=1):
    """Returns `x` after a convolution without bias, padding "same"."""
    return keras.layers.Conv2D(
        channels,
        kernel,
        strides=stride,
        padding="same",
        dilation_rate=dilation,
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)


def normalization(x, name, momentum=0.9):
    """Returns `x` after batch normalisation.

    In a process of a few thousand steps the moving averages of Keras' default momentum, 0.99, lag behind.
    """
    return keras.layers.BatchNormalization(momentum=momentum, epsilon=1e-5, name=name)(x)
