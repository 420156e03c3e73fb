"""The real images by which the ranges of activations are found, for files that compute in whole numbers."""

import hashlib

import numpy as np
import tensorflow as tf

from auxzoo.checks import is_whole
from auxzoo.data import ImageSet
from auxzoo.errors import UserError

COUNT = 200
FEWEST, MOST = 100, 500
SEED = 0
# Correlation of neighbouring values below which images are noise: that of photographs is 0.8 and more, that of
# independent numbers 0 within a hundredth.
_LEAST_CORRELATION = 0.1
_LOOKED_AT = 20  # pictures, to tell noise
_RANGE_SLACK = 0.05  # of the range; resizing by other rules may overshoot


def choose_calibration(images, input_shape, preprocessing=None, count=COUNT, source=None, apart_from=()):
    """Returns preprocessed images for calibration, and what a record says of them.

    Args:
        images: an `ImageSet`, of which `count` are taken by a fixed seed; a `tf.data.Dataset` of preprocessed
            `(images, ...)` batches, of which the first are taken; or such an array `[size, height, width, 3]`. Of a
            smaller set all are taken, and the record tells how many; 100 or more are advised.
        input_shape: `(height, width, channels)` of the network.
        preprocessing: `auxzoo.models.Preprocessing`, for an `ImageSet`; of others the range is checked by it.
        count: `int`, 100 to 500.
        source: `str`, where the images of a `tf.data.Dataset` or an array are from; an `ImageSet` tells itself.
        apart_from: list of `ImageSet` that accuracy is measured on, or layers are chosen by; pictures that are among
            them are passed over, from whatever files they are.

    Returns:
        `(array, manifest)`: float32 `[count, height, width, 3]`; `dict` with source, count, SHA-256 and preprocessing.

    Raises:
        UserError: if there are none, or none but copies; they are not finite numbers of the network's input shape; they
            are noise or of one colour; their range is not that of preprocessed ones; or nothing tells where they are
            from.
    """
    check_count(count)
    if images is None:
        raise UserError("`calibration` must be real images for int8. Received: none")
    if isinstance(images, ImageSet):
        chosen = sample_apart(images, count, apart_from)
        _refuse_noise([chosen.picture(place) for place in range(min(chosen.size, _LOOKED_AT))])
        array = np.concatenate([batch for batch, _ in chosen.batches(preprocessing, 100)])
        _check_pictures(array)
        return array, chosen.manifest() | {"preprocessing": vars(preprocessing)}
    try:
        is_dataset = isinstance(images, tf.data.Dataset)
        array = _from_dataset(images, count) if is_dataset else _from_array(images, count)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"`calibration` must be an ImageSet, a tf.data.Dataset or an array. Received: {error}"
        ) from None
    if array.shape[1:] != tuple(input_shape) or len(array) == 0:
        raise UserError(
            f"`calibration` must be images of shape [count, {', '.join(map(str, input_shape))}]. "
            f"Received: shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise UserError("`calibration` must be finite numbers. Received: NaN or infinity")
    _check_pictures(array)
    if preprocessing is not None:
        _check_range(array, preprocessing)
    if not isinstance(source, str) or not source:
        raise UserError(
            f"`calibration_source` must tell where the images of a {type(images).__name__} are from. "
            f"Received: {source!r}"
        )
    return array, {
        "source": source,
        "count": len(array),
        "sha256": hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest(),
        "preprocessing": "as received",
    }


def sample_apart(images, count, apart_from):
    """Returns `count` images, or all if there are fewer, by the fixed seed; none of those that other sets hold too.

    Args:
        images: `ImageSet`.
        count: `int`, 1 or more.
        apart_from: list of `ImageSet`.

    Raises:
        UserError: if they hold all of them.
    """
    chosen = images.sample(min(count, images.size), SEED, apart_from)
    if chosen is None:
        raise UserError(
            f"`calibration` must be other images than accuracy is measured on. Received: {images.name}, all of whose "
            f"pictures are in {' or '.join(other.name for other in apart_from)} too"
        )
    return chosen


def check_count(count):
    """Raises a `UserError` unless `count` is a number of images that calibration may take."""
    if not (is_whole(count) and FEWEST <= count <= MOST):
        raise UserError(f"`calibration_count` must be {FEWEST} to {MOST}. Received: {count!r}")


def _check_pictures(array):
    """Raises a `UserError` if the array holds what no camera gives: noise, or nothing.

    It knows independent random numbers alone; that images are the right ones is for the caller to know.
    """
    if float(array.var(axis=(0, 1, 2)).mean()) < 1e-12:
        raise UserError("`calibration` must be real images. Received: one colour all over")
    _refuse_noise(array)


def _refuse_noise(pictures):
    """Raises a `UserError` if neighbouring pixels of all pictures together have little to do with each other.

    Pictures must be as they came: resizing makes neighbours of noise alike.

    Args:
        pictures: list of arrays `[rows, columns, channels]`, of any sizes.
    """
    below, beside, variance = 0.0, 0.0, 0.0
    # Of all: a picture of one colour differs from its own mean by the noise of a camera alone.
    mean = np.mean([picture.mean(dtype=np.float64) for picture in pictures])
    for picture in pictures:
        centred = picture - mean
        variance += float((centred**2).mean())
        below += float((centred[1:] * centred[:-1]).mean()) if len(centred) > 1 else 0.0
        beside += float((centred[:, 1:] * centred[:, :-1]).mean()) if centred.shape[1] > 1 else 0.0
    if variance > 0 and max(below, beside) < _LEAST_CORRELATION * variance:
        raise UserError(
            "`calibration` must be real images, not random numbers: ranges found on noise are wrong for pictures. "
            f"Received: neighbouring pixels that correlate by {max(below, beside) / variance:.2f}"
        )


def _check_range(array, preprocessing):
    """Raises a `UserError` if values are not what pixels become, as those of other preprocessing are not.

    Outside of it, or all in its upper half: there lie values of 0 to 1 where -1 to 1 is right, and those of -1 to 1
    seen in 0 to 255 span next to nothing of it.
    """
    ends = np.outer([0, 255], preprocessing.scale) + preprocessing.offset
    low, high = float(ends.min()), float(ends.max())
    slack = _RANGE_SLACK * (high - low)
    is_outside = array.min() < low - slack or array.max() > high + slack
    is_a_part = array.min() >= (low + high) / 2 or array.max() - array.min() < slack
    if is_outside or is_a_part:
        raise UserError(
            f"`calibration` must be preprocessed images, with values from {low:.4g} to {high:.4g}"
            f"{', dark ones and bright ones' * (not is_outside)}. "
            f"Received: values from {array.min():.4g} to {array.max():.4g}"
        )


def _from_dataset(dataset, wanted):
    batches, count = [], 0
    for element in dataset:
        batches.append(np.asarray(element[0] if isinstance(element, tuple) else element, np.float32))
        count += len(batches[-1])
        if count >= wanted:
            break
    return np.concatenate(batches)[:wanted] if batches else np.zeros((0,))


def _from_array(images, count):
    array = np.asarray(images, np.float32)
    order = np.random.default_rng(SEED).permutation(len(array))
    return array[np.sort(order[:count])]
