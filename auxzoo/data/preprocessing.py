"""The one function that turns pictures into a network's input."""

import numpy as np
import tensorflow as tf

from auxzoo.errors import UserError


def preprocess(images, preprocessing):
    """Returns pictures as the input of a network; training, calibration, evaluation and prediction all use it.

    Grey becomes three equal channels, an alpha channel is dropped; then the picture is fitted to the input's
    size, and scaled.

    Args:
        images: `[height, width, channels]` or `[batch, height, width, channels]`, values 0 to 255 of any number
            type, 1 (grey), 3 (red, green, blue) or 4 (with alpha) channels.
        preprocessing: `auxzoo.models.Preprocessing`.

    Returns:
        float32 tensor, `[preprocessing.height, preprocessing.width, 3]` with the batch before it if there was one.

    Raises:
        UserError: if the rank or the number of channels is another, or a picture that shall be padded is too large.

    Example:
        >>> preprocess(np.zeros((28, 28, 1)), auxzoo.models.Preprocessing(32, 32, fit="pad")).shape
        TensorShape([32, 32, 3])
    """
    images = tf.convert_to_tensor(images)
    if images.shape.rank not in (3, 4) or images.shape[-1] not in (1, 3, 4):
        raise UserError(
            "`images` must be [height, width, channels] or [batch, height, width, channels] with 1, 3 or 4 "
            f"channels. Received: shape {tuple(images.shape)}"
        )
    images = tf.cast(images, tf.float32)
    if images.shape[-1] == 1:
        images = tf.repeat(images, 3, axis=-1)
    images = images[..., :3]
    size = (preprocessing.height, preprocessing.width)
    if tuple(images.shape[-3:-1]) != size:
        images = _resized(images, size) if preprocessing.fit == "resize" else _padded(images, preprocessing)
    return images * preprocessing.scale + preprocessing.offset


def check_padding(height, width, preprocessing, picture=None):
    """Raises a `UserError` if a picture is larger than the input that it shall be padded to.

    Args:
        height: of the picture.
        width: of the picture.
        preprocessing: `auxzoo.models.Preprocessing`.
        picture: `str` that tells which picture it is; the message does not say if `None`.
    """
    if preprocessing.fit == "pad" and (height > preprocessing.height or width > preprocessing.width):
        raise UserError(
            f"`images`: {_padding_rule(preprocessing)}. Received: {height}x{width}"
            + (f", {picture}" if picture else "")
        )


def at_picture_size(prediction, size, preprocessing):
    """Returns a dense prediction at the size of the picture, without what was put round that.

    Args:
        prediction: array at the size of the network's input: numbers `[rows, columns, channels]`, resized bilinearly,
            or classes `[rows, columns]`, of which the nearest are taken.
        size: `(height, width)` of the picture.
        preprocessing: `auxzoo.models.Preprocessing`.
    """
    if preprocessing.fit == "pad":
        above, left = (preprocessing.height - size[0]) // 2, (preprocessing.width - size[1]) // 2
        prediction = prediction[above : above + size[0], left : left + size[1]]
    if prediction.shape[:2] == size:
        return prediction
    if prediction.ndim == 2:
        return tf.image.resize(prediction[..., None], size, method="nearest").numpy()[..., 0]
    return tf.image.resize(prediction, size, method="bilinear").numpy()


def classes_at_picture_size(logits, size, preprocessing):
    """Returns the class of every pixel of a picture, as `at_picture_size` and the arg-max give it.

    Class after class: the logits of a photograph of many megapixels would take gigabytes.

    Args:
        logits: array at the size of the network's input, `[rows, columns, classes]`.
        size: as of `at_picture_size`.
        preprocessing: as of `at_picture_size`.
    """
    highest = at_picture_size(logits[..., :1], size, preprocessing)
    classes = np.zeros(highest.shape, np.int64)
    for one in range(1, logits.shape[-1]):
        values = at_picture_size(logits[..., one : one + 1], size, preprocessing)
        is_higher = values > highest  # of equals the first, as of an arg-max
        classes[is_higher] = one
        highest = np.where(is_higher, values, highest)
    return classes[..., 0]


def _resized(images, size):
    # Without the filter a large photograph made small would flicker.
    return tf.image.resize(images, size, method="bilinear", antialias=True)


def _padded(images, preprocessing):
    size = (preprocessing.height, preprocessing.width)
    height, width = images.shape[-3:-1]
    if height is None or width is None:
        # Inside `tf.data`, where no `UserError` comes through: an `ImageSet` has checked before.
        height, width = tf.shape(images)[-3], tf.shape(images)[-2]
        message = _padding_rule(preprocessing)
        with tf.control_dependencies(
            [
                tf.debugging.assert_less_equal(height, size[0], message),
                tf.debugging.assert_less_equal(width, size[1], message),
            ]
        ):
            images = tf.identity(images)
    else:
        check_padding(height, width, preprocessing)
    return tf.image.pad_to_bounding_box(images, (size[0] - height) // 2, (size[1] - width) // 2, *size)


def _padding_rule(preprocessing):
    return (
        f"a picture that is padded must be at most {preprocessing.height}x{preprocessing.width} pixels (height x width)"
    )
