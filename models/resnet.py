"""ResNet-18: deep residual learning (He et al. 2015, arXiv:1512.03385)."""

import keras

from .arguments import check_choice, check_input_shape, check_momentum, check_name, finish
from .layers import convolution, normalization

# Table 1 of the paper, column "18-layer". c: channels at width 1, n: blocks, s: stride of the first of them.
ROWS = (
    # c, n, s
    (64, 2, 1),
    (128, 2, 2),
    (256, 2, 2),
    (512, 2, 2),
)
# kernel, stride, whether a 3x3 max pooling of stride 2 follows
STEMS = {
    "imagenet": (7, 2, True),
    "small": (3, 1, False),
    "small_stride2": (3, 2, False),
}
WIDTHS = (0.125, 0.25, 0.5, 1.0)


def ResNet18(
    input_shape=(224, 224, 3),
    width=1.0,
    stem="imagenet",
    output_stride=None,
    num_classes=None,
    labels=(),
    batch_normalization_momentum=0.9,
    preprocessing_fit="resize",
    name="resnet18",
):
    """ResNet-18, post-activation, with 1x1 convolutions on the shortcuts where the shape changes.

    11,689,512 trainable parameters at width 1 and 1000 classes. Strided convolutions pad as TensorFlow's
    `"same"` does, not symmetrically. Taps: `stem`, `stage1` to `stage4`.

    Args:
        input_shape: `(height, width, 3)`, pixels, at least 8.
        width: multiplier of all channels: 0.125, 0.25, 0.5 or 1.0.
        stem: `"imagenet"` (7x7 at stride 2, max pooling; total stride 32), `"small"` (3x3 at stride 1;
            total stride 8) or `"small_stride2"` (3x3 at stride 2; total stride 16).
        output_stride: 16 or 8 for dense prediction: strides beyond it become dilations (arXiv:1706.05587);
            the weights are the same. `None` for none.
        num_classes: `int`, adds global average pooling and a dense layer of logits (no soft-max);
            `None` for the bare backbone.
        labels: names of the classes, `num_classes` of them, or none.
        batch_normalization_momentum: 0 to less than 1.
        preprocessing_fit: `"resize"` or `"pad"`, how pictures of another size are fitted.
        name: `str`, name of the network.

    Returns:
        `Network`: functional, float32 images `[batch, height, width, 3]` (values -1 to 1) to features
        `[batch, rows, columns, 512 * width]` or logits `[batch, num_classes]`.

    Raises:
        UserError: if an argument is not one of those allowed.

    Source: arXiv:1512.03385, table 1 (18-layer) and figure 3; small-image stem as in its section 4.2.

    Example:
        >>> network = ResNet18(input_shape=(32, 32, 3), width=0.25, stem="small", num_classes=10)
        >>> network.output.shape
        (None, 10)
    """
    check_choice("width", width, WIDTHS)
    check_choice("stem", stem, tuple(STEMS))
    check_choice("output_stride", output_stride, (None, 16, 8))
    check_momentum("batch_normalization_momentum", batch_normalization_momentum)
    check_name(name)
    input_shape = check_input_shape(input_shape, smallest=8)
    kernel, stem_stride, has_pooling = STEMS[stem]

    inputs = keras.Input(input_shape, name="image")
    x = convolution(inputs, int(64 * width), kernel, "stem_convolution", stem_stride)
    x = normalization(x, "stem_normalization", batch_normalization_momentum)
    x = keras.layers.ReLU(name="stem_relu")(x)
    reached_stride = stem_stride
    if has_pooling:
        x = keras.layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pooling")(x)
        reached_stride *= 2
    taps = {"stem": x}

    dilation = 1
    for stage, (channels, blocks, row_stride) in enumerate(ROWS, start=1):
        next_dilation = dilation
        if output_stride is not None and reached_stride * row_stride > output_stride:
            next_dilation, row_stride = dilation * row_stride, 1
        reached_stride *= row_stride
        for block in range(1, blocks + 1):
            x = _residual_block(
                x,
                channels=int(channels * width),
                stride=row_stride if block == 1 else 1,
                # The first block of a stage whose stride was taken away still sees the resolution before it.
                dilation=dilation if block == 1 else next_dilation,
                momentum=batch_normalization_momentum,
                prefix=f"stage{stage}_block{block}",
            )
        dilation = next_dilation
        taps[f"stage{stage}"] = x
    return finish(inputs, x, taps, num_classes, labels, preprocessing_fit, name)


def _residual_block(x, channels, stride, dilation, momentum, prefix):
    """Two 3x3 convolutions and a shortcut, with the ReLU after the sum (figure 2)."""
    shortcut = x
    if stride != 1 or x.shape[-1] != channels:
        shortcut = convolution(x, channels, 1, f"{prefix}_shortcut_convolution", stride)
        shortcut = normalization(shortcut, f"{prefix}_shortcut_normalization", momentum)
    x = convolution(x, channels, 3, f"{prefix}_convolution1", stride, dilation)
    x = normalization(x, f"{prefix}_normalization1", momentum)
    x = keras.layers.ReLU(name=f"{prefix}_relu1")(x)
    x = convolution(x, channels, 3, f"{prefix}_convolution2", dilation=dilation)
    x = normalization(x, f"{prefix}_normalization2", momentum)
    x = keras.layers.Add(name=f"{prefix}_add")([shortcut, x])
    return keras.layers.ReLU(name=f"{prefix}_relu2")(x)
