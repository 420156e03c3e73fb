"""The network as a function of one image, which every converter reads. For the child process that converts."""

import contextlib
import math

from .formats import INPUT_NAME


def dilate_in_one_operator():
    """Lets TensorFlow write a dilated depthwise convolution as one operator, in this process.

    It writes three, of which the converters make one again; but not where two convolutions of one dilation read the
    same tensor, as those of two heads do: then the first of the three is shared, and stays as it is. TensorFlow cannot
    compute the one operator on a processor, so this is for converting alone.
    """
    import tensorflow as tf

    def depthwise_conv2d(input, filter, strides, padding, data_format=None, dilations=None, name=None):
        data_format, dilations = data_format or "NHWC", list(dilations or (1, 1))
        rates = [1, 1, *dilations] if data_format == "NCHW" else [1, *dilations, 1]
        return tf.raw_ops.DepthwiseConv2dNative(
            input=input,
            filter=filter,
            strides=list(strides),
            padding=padding,
            data_format=data_format,
            dilations=rates,
            name=name,
        )

    def separable_conv2d(
        input, depthwise_filter, pointwise_filter, strides, padding, data_format=None, dilations=None, name=None
    ):
        x = depthwise_conv2d(input, depthwise_filter, strides, padding, data_format, dilations)
        return tf.nn.conv2d(x, pointwise_filter, 1, "VALID", data_format=data_format or "NHWC", name=name)

    tf.nn.depthwise_conv2d, tf.nn.separable_conv2d = depthwise_conv2d, separable_conv2d


def crop_in_one_operator():
    """Lets TensorFlow write a crop as a Slice, in this process: LiteRT's 8-bit specification has no StridedSlice."""
    import keras
    import tensorflow as tf

    call_of_keras = keras.layers.Cropping2D.call

    def call(layer, inputs):
        if layer.data_format != "channels_last":
            return call_of_keras(layer, inputs)
        (top, bottom), (left, right) = layer.cropping
        rows, columns = inputs.shape[1:3]
        return tf.slice(inputs, [0, top, left, 0], [-1, rows - top - bottom, columns - left - right, -1])

    keras.layers.Cropping2D.call = call


def inline_compiled_functions():
    """Lets Keras' grouped convolutions stand in the graph as they are, in this process.

    Keras computes them in a function of their own that XLA compiles, since TensorFlow has no gradient of them on a
    processor. tf2onnx cannot read a call of such a function.
    """
    import tensorflow as tf

    make_function = tf.function

    def function(function=None, **arguments):
        if arguments.get("jit_compile"):
            return (lambda one: one) if function is None else function
        return make_function(function, **arguments)

    tf.function = function


@contextlib.contextmanager
def gelu_of_erf():
    """Lets the exact GELU be made of `Erf`: TensorFlow makes it of `Erfc`, which tf2onnx does not know."""
    import tensorflow as tf

    made_by_tensorflow = tf.nn.gelu

    def gelu(features, approximate=False, name=None):
        if approximate:
            return made_by_tensorflow(features, approximate, name)
        return 0.5 * features * (1 + tf.math.erf(features / math.sqrt(2)))

    tf.nn.gelu = gelu
    try:
        yield
    finally:
        tf.nn.gelu = made_by_tensorflow


def image_function(network, outputs, batch=1, channels_first=False):
    """Returns a `tf.function` of images, with named input and outputs, and its signature.

    Args:
        network: Keras model.
        outputs: list of `Output`.
        batch: how many images, `None` for any number.
        channels_first: whether it takes `[batch, channels, height, width]`, and gives whatever has four axes so.
    """
    import tensorflow as tf

    size = network.input_shape[1:]
    if channels_first:
        size = (size[-1], *size[:-1])
    signature = [tf.TensorSpec((batch, *size), tf.float32, name=INPUT_NAME)]

    @tf.function(input_signature=signature)
    def predict(image):
        values = network(tf.transpose(image, (0, 2, 3, 1)) if channels_first else image, training=False)
        results = {}
        for output in outputs:
            value = output.applied(values if output.key is None else values[output.key])
            if channels_first and len(value.shape) == 4:
                value = tf.transpose(value, (0, 3, 1, 2))
            results[output.name] = tf.identity(value, name=output.name)
        return results

    return predict, signature
