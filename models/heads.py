"""Heads: what turns the features of a trunk into logits, or into numbers at every pixel."""

import keras

# Atrous rates of the separable branches at output stride 16; doubled at 8 (arXiv:1706.05587, table 4, of which
# the light version keeps two rates).
RATES = (6, 12)
# Rows and columns of the features that they are for, of images of 513 px at output stride 16.
RATES_ARE_FOR = 33
CHANNELS = 128


def classification_head(features, classes, prefix=""):
    """Returns logits `[batch, classes]`: global average pooling and a dense layer."""
    pooled = keras.layers.GlobalAveragePooling2D(name=f"{prefix}global_average_pooling")(features)
    return keras.layers.Dense(classes, name=f"{prefix}predictions")(pooled)


def pyramid(features, output_stride, channels, prefix=""):
    """Returns a light atrous spatial pyramid with image pooling, `[batch, rows, columns, channels]`.

    Branches: 1x1 convolution, separable 3x3 convolutions at two atrous rates, image pooling; concatenated, and
    projected by 1x1.

    Args:
        features: symbolic tensor `[batch, rows, columns, any]`.
        output_stride: 16 or 8; at 8 the rates are doubled. On features smaller than those of an image of 513 px they
            are smaller in proportion, and where both are the same there is one branch: the taps of a rate near the
            features' size would lie outside, and learn nothing (arXiv:1706.05587, figure 4).
        channels: `int`, width of every branch.
        prefix: `str`, begins the layers' names.

    Source: arXiv:1706.05587, figure 5; separable branches as in arXiv:1802.02611.
    """
    rows, columns = features.shape[1:3]
    branches = [_convolution(features, channels, f"{prefix}aspp_pointwise")]
    for rate in _rates(min(rows, columns), output_stride):
        name = f"{prefix}aspp_rate{rate}"
        x = keras.layers.SeparableConv2D(channels, 3, padding="same", dilation_rate=rate, use_bias=False, name=name)(
            features
        )
        branches.append(_normalized(x, name))
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{prefix}aspp_image_pooling")(features)
    # Without batch-norm, which would see one value an image: with few images a batch its statistics are noise.
    pooled = keras.layers.Conv2D(
        channels, 1, activation="relu", kernel_initializer="he_normal", name=f"{prefix}aspp_image"
    )(pooled)
    # Bilinear though there is one pixel to repeat: phones' accelerators resize, but have no TILE.
    upsampling = keras.layers.UpSampling2D(
        (rows, columns), interpolation="bilinear", name=f"{prefix}aspp_image_upsampling"
    )
    branches.append(upsampling(pooled))
    x = keras.layers.Concatenate(name=f"{prefix}aspp_concatenate")(branches)
    return _convolution(x, channels, f"{prefix}aspp_projection")


def _rates(size, output_stride):
    """Returns the atrous rates for features of which the smaller of rows and columns is `size`."""
    strides = 16 // output_stride
    share = min(1.0, size / (RATES_ARE_FOR * strides))
    return tuple(dict.fromkeys(max(1, round(rate * strides * share)) for rate in RATES))


def dense_head(features, size, channels, scale=1.0, prefix="", low_level=None):
    """Returns predictions at every pixel, upsampled bilinearly to the size of the input.

    Args:
        features: symbolic tensor `[batch, rows, columns, channels]`.
        size: `(height, width)` of the input.
        channels: `int`, number of classes; 1 for a regression.
        scale: what the numbers of a regression are multiplied by, so that they come out in the task's unit.
        prefix: `str`, begins the layers' names.
        low_level: symbolic tensor of more rows and columns, whose own predictions are added at its resolution: what is
            smaller than a cell of the features is seen there. None are added if `None`.

    Source: predictions of low-level features, added: arXiv:1905.02244, figure 10.
    """
    x = keras.layers.Conv2D(channels, 1, name=f"{prefix}predictions")(features)
    if low_level is not None:
        name = f"{prefix}low_level"
        x = upsampled(x, low_level.shape[1:3], f"{name}_upsampling")
        added = keras.layers.Conv2D(channels, 1, name=f"{name}_predictions")(low_level)
        x = keras.layers.Add(name=f"{name}_sum")([x, added])
    x = upsampled(x, size, f"{prefix}upsampling")
    if scale != 1:
        x = keras.layers.Rescaling(scale, name=f"{prefix}rescaling")(x)
    return x


def upsampled(x, size, name):
    """Returns a feature map resized bilinearly to `(rows, columns)`, every cell where it was seen.

    180 rows have 12 cells at a stride of 16, which are 192 rows: stretched over 180, the last would lie 12 rows off.
    """
    strides = strides_between(x.shape[1:3], size)
    if None in strides:
        return keras.layers.Resizing(*size, interpolation="bilinear", name=name)(x)
    # Not `Resizing` here: called without `training`, it lets every layer after it train, batch-norm's averages too.
    covered = [cells * stride for cells, stride in zip(x.shape[1:3], strides, strict=True)]
    x = keras.layers.UpSampling2D(strides, interpolation="bilinear", name=name)(x)
    if covered == list(size):
        return x
    beyond = tuple((0, most - pixels) for most, pixels in zip(covered, size, strict=True))
    return keras.layers.Cropping2D(beyond, name=f"{name}_cropping")(x)


def strides_between(cells, pixels):
    """Returns the power of two that makes so many cells of so many pixels, or `None`, for rows and for columns."""
    return [
        next((2**power for power in range(many.bit_length() + 1) if -(-many // 2**power) == few), None)
        for few, many in zip(cells, pixels, strict=True)
    ]


def _convolution(x, channels, name):
    x = keras.layers.Conv2D(channels, 1, use_bias=False, kernel_initializer="he_normal", name=name)(x)
    return _normalized(x, name)


def _normalized(x, name):
    x = keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"{name}_normalization")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)
