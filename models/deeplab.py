"""DeepLab-lite: semantic segmentation with a light atrous spatial pyramid (arXiv:1706.05587, arXiv:1802.02611)."""

import dataclasses

import keras

from auxzoo.errors import UserError

from .arguments import check_classes, check_count, check_name
from .description import describe, described

# Atrous rates of the separable branches at output stride 16; doubled at 8 (arXiv:1706.05587, table 4, of which
# the light version keeps two rates).
RATES = (6, 12)
CHANNELS = 128


def DeepLabLite(backbone, num_classes, labels=(), channels=CHANNELS, name="deeplab_lite"):
    """A segmentation head over a backbone: a light ASPP with image pooling, and bilinear upsampling.

    Branches: 1x1 convolution, separable 3x3 convolutions at two atrous rates, image pooling; concatenated,
    projected by 1x1, classified by 1x1, and upsampled to the size of the input.

    Args:
        backbone: `Network` without head whose features have an output stride of 16 or 8, such as
            `MobileNetV2(..., output_stride=16)`; its layers and weights are shared.
        num_classes: `int`, 1 or more.
        labels: names of the classes, `num_classes` of them, or none.
        channels: `int`, width of the ASPP's branches.
        name: `str`, name of the network.

    Returns:
        `Network`: functional, float32 images `[batch, height, width, 3]` to logits
        `[batch, height, width, num_classes]`. Taps: those of the backbone, and `aspp`.

    Raises:
        UserError: if `backbone` has a head or another output stride, or an argument is wrong.

    Source: arXiv:1706.05587, figure 5; separable branches as in arXiv:1802.02611.

    Example:
        >>> backbone = auxzoo.models.MobileNetV2((96, 96, 3), alpha=0.35, output_stride=16)
        >>> DeepLabLite(backbone, num_classes=11).output.shape
        (None, 96, 96, 11)
    """
    description = describe(backbone)
    if description.task != "features":
        raise UserError(f"`backbone` must have no head. Received: {backbone.name!r}, task {description.task}")
    check_count("num_classes", num_classes)
    check_classes(num_classes, labels)
    check_count("channels", channels)
    check_name(name)
    height, width = backbone.input_shape[1:3]
    # The last tap, not the output: MobileNetV2's 1280 channels are for its classifier only (arXiv:1801.04381, 6.3).
    features = backbone.get_layer(description.taps[-1][1]).output
    rows, columns = features.shape[1:3]
    output_stride = next(
        (stride for stride in (16, 8) if (-(-height // stride), -(-width // stride)) == (rows, columns)), None
    )
    if output_stride is None:
        raise UserError(
            "`backbone` must have an output stride of 16 or 8; build it with output_stride=16. "
            f"Received: features of {rows}x{columns} for an input of {height}x{width}"
        )

    branches = [_convolution(features, channels, "aspp_pointwise")]
    for rate in RATES:
        rate = rate * 16 // output_stride
        x = keras.layers.SeparableConv2D(
            channels, 3, padding="same", dilation_rate=rate, use_bias=False, name=f"aspp_rate{rate}"
        )(features)
        branches.append(_normalized(x, f"aspp_rate{rate}"))
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=True, name="aspp_image_pooling")(features)
    pooled = _convolution(pooled, channels, "aspp_image")
    branches.append(keras.layers.UpSampling2D((rows, columns), name="aspp_image_upsampling")(pooled))
    x = keras.layers.Concatenate(name="aspp_concatenate")(branches)
    x = _convolution(x, channels, "aspp_projection")
    logits = keras.layers.Conv2D(num_classes, 1, name="predictions")(x)
    logits = keras.layers.Resizing(height, width, interpolation="bilinear", name="upsampling")(logits)

    head = dataclasses.replace(
        description,
        taps=(*description.taps, ("aspp", "aspp_projection_relu")),
        task="segmentation",
        labels=tuple(labels),
    )
    return described(backbone.input, logits, head, name)


def _convolution(x, channels, name):
    x = keras.layers.Conv2D(channels, 1, use_bias=False, kernel_initializer="he_normal", name=name)(x)
    return _normalized(x, name)


def _normalized(x, name):
    x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_normalization")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)
