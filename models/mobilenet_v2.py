"""MobileNetV2: inverted residuals and linear bottlenecks (Sandler et al. 2018, arXiv:1801.04381)."""

import keras

from .arguments import check_choice, check_input_shape, check_momentum, check_name, finish
from .pretrained import load_mobilenet_v2

# Table 2 of the paper. t: expansion of the channels inside a block, c: channels, n: blocks, s: stride of the
# first of them. The rightmost columns are the first stride at a total stride of 16 and of 8: on small images
# the stem (stride 2 at 32) gives way first, then the 24-channel row.
ROWS = (
    # t,   c, n, s,  s at 16, s at 8
    (1, 16, 1, 1, 1, 1),
    (6, 24, 2, 2, 2, 1),
    (6, 32, 3, 2, 2, 2),
    (6, 64, 4, 2, 2, 2),
    (6, 96, 3, 1, 1, 1),
    (6, 160, 3, 2, 2, 2),
    (6, 320, 1, 1, 1, 1),
)
ALPHAS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
TOTAL_STRIDES = (32, 16, 8)


def MobileNetV2(
    input_shape=(224, 224, 3),
    alpha=1.0,
    total_stride=32,
    output_stride=None,
    num_classes=None,
    labels=(),
    batch_normalization_momentum=0.9,
    preprocessing_fit="resize",
    weights=None,
    name="mobilenet_v2",
):
    """MobileNetV2, with the layer names and the weight order of `keras.applications.MobileNetV2`.

    Weight files of the original load unchanged. Taps: `stem` and `stage1` to `stage7`, one a row of the
    paper's table 2.

    Args:
        input_shape: `(height, width, 3)`, pixels; height and width at least `total_stride`.
        alpha: width multiplier: 0.35, 0.5, 0.75, 1.0, 1.3 or 1.4.
        total_stride: 32, as in the paper, or 16 or 8 for images of 28 to 64 pixels: then the stem, and at 8
            the 24-channel row as well, keeps its resolution.
        output_stride: 16 or 8 for dense prediction: strides beyond it become dilations (arXiv:1706.05587);
            the weights are the same. `None` for none.
        num_classes: `int`, adds global average pooling and a dense layer of logits (no soft-max);
            `None` for the bare backbone.
        labels: names of the classes, `num_classes` of them, or none.
        batch_normalization_momentum: 0 to less than 1. With 0.999, as the original has it, a training of less than
            some thousand steps leaves statistics of the first weights behind.
        preprocessing_fit: `"resize"` or `"pad"`, how pictures of another size are fitted.
        weights: of all but the head: `"imagenet"`, as `keras.applications` has them (fetched once), or the path of a
            file in its format; random if `None`. Their input is the same, -1 to 1.
        name: `str`, name of the network.

    Returns:
        `Network`: functional, float32 images `[batch, height, width, 3]` (values -1 to 1) to features
        `[batch, rows, columns, channels]` or logits `[batch, num_classes]`.

    Raises:
        UserError: if an argument is not one of those allowed.

    Source: arXiv:1801.04381, table 2 and figure 4d; layer names from `keras.applications`.

    Example:
        >>> network = MobileNetV2(input_shape=(96, 96, 3), alpha=0.5)
        >>> network.output.shape
        (None, 3, 3, 1280)
    """
    check_choice("alpha", alpha, ALPHAS)
    check_choice("total_stride", total_stride, TOTAL_STRIDES)
    check_choice("output_stride", output_stride, (None, 16, 8))
    check_momentum("batch_normalization_momentum", batch_normalization_momentum)
    check_name(name)
    input_shape = check_input_shape(input_shape, smallest=total_stride)
    stride_column = 3 + TOTAL_STRIDES.index(total_stride)

    inputs = keras.Input(input_shape, name="image")
    stem_stride = 2 if total_stride == 32 else 1
    x = keras.layers.Conv2D(
        _divisible(32 * alpha), 3, strides=stem_stride, padding="same", use_bias=False, name="Conv1"
    )(inputs)
    x = _normalization(batch_normalization_momentum, "bn_Conv1")(x)
    x = keras.layers.ReLU(6.0, name="Conv1_relu")(x)
    taps = {"stem": x}

    reached_stride, dilation, block_index = stem_stride, 1, 0
    for stage, row in enumerate(ROWS, start=1):
        expansion, channels, blocks, row_stride = row[0], row[1], row[2], row[stride_column]
        next_dilation = dilation
        if output_stride is not None and reached_stride * row_stride > output_stride:
            next_dilation, row_stride = dilation * row_stride, 1
        reached_stride *= row_stride
        for block in range(blocks):
            x = _inverted_residual(
                x,
                channels=_divisible(channels * alpha),
                expansion=expansion,
                stride=row_stride if block == 0 else 1,
                # The first block of a stage whose stride was taken away still sees the resolution before it.
                dilation=dilation if block == 0 else next_dilation,
                momentum=batch_normalization_momentum,
                prefix=f"block_{block_index}_" if block_index else "expanded_conv_",
            )
            block_index += 1
        dilation = next_dilation
        taps[f"stage{stage}"] = x

    last_channels = _divisible(1280 * max(alpha, 1.0))
    x = keras.layers.Conv2D(last_channels, 1, use_bias=False, name="Conv_1")(x)
    x = _normalization(batch_normalization_momentum, "Conv_1_bn")(x)
    x = keras.layers.ReLU(6.0, name="out_relu")(x)
    if weights is not None:
        load_mobilenet_v2(keras.Model(inputs, x), weights, alpha)
    return finish(inputs, x, taps, num_classes, labels, preprocessing_fit, name)


def _inverted_residual(x, channels, expansion, stride, dilation, momentum, prefix):
    """Expands by 1x1, convolves each channel by 3x3, projects by 1x1 without activation (figure 4d)."""
    shortcut = x
    if expansion > 1:
        x = keras.layers.Conv2D(expansion * x.shape[-1], 1, padding="same", use_bias=False, name=f"{prefix}expand")(x)
        x = _normalization(momentum, f"{prefix}expand_BN")(x)
        x = keras.layers.ReLU(6.0, name=f"{prefix}expand_relu")(x)
    if stride == 2:
        # The original pads an even size by (0, 1) and an odd one by (1, 1), so that its weights fit.
        padding = tuple((size % 2, 1) for size in x.shape[1:3])
        x = keras.layers.ZeroPadding2D(padding, name=f"{prefix}pad")(x)
    x = keras.layers.DepthwiseConv2D(
        3,
        strides=stride,
        padding="same" if stride == 1 else "valid",
        dilation_rate=dilation,
        use_bias=False,
        name=f"{prefix}depthwise",
    )(x)
    x = _normalization(momentum, f"{prefix}depthwise_BN")(x)
    x = keras.layers.ReLU(6.0, name=f"{prefix}depthwise_relu")(x)
    x = keras.layers.Conv2D(channels, 1, padding="same", use_bias=False, name=f"{prefix}project")(x)
    x = _normalization(momentum, f"{prefix}project_BN")(x)
    if stride == 1 and shortcut.shape[-1] == channels:
        x = keras.layers.Add(name=f"{prefix}add")([shortcut, x])
    return x


def _normalization(momentum, name):
    return keras.layers.BatchNormalization(epsilon=1e-3, momentum=momentum, name=name)


def _divisible(channels, divisor=8):
    """Rounds to a multiple of `divisor`, never down by more than a tenth, as the original does."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
