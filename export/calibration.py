"""The real images that int8 conversion finds the ranges of activations by."""

import hashlib

import numpy as np
import tensorflow as tf

from auxzoo.data import ImageSet
from auxzoo.errors import UserError

COUNT = 200
SEED = 0


def choose_calibration(images, input_shape, preprocessing=None):
    """Returns preprocessed images for calibration, and what a record says of them.

    Args:
        images: an `ImageSet`, of which 200 are taken by a fixed seed; a `tf.data.Dataset` of preprocessed
            `(images, ...)` batches, of which the first 200 are taken; or such an array `[count, height, width, 3]`.
        input_shape: `(height, width, channels)` of the network.
        preprocessing: `auxzoo.models.Preprocessing`, for an `ImageSet`.

    Returns:
        `(array, manifest)`: float32 `[count, height, width, 3]`; `dict` with source, count, SHA-256 and preprocessing.

    Raises:
        UserError: if there are none, or they are not finite numbers of the network's input shape.
    """
    if images is None:
        raise UserError("`calibration` must be real images for int8. Received: none")
    if isinstance(images, ImageSet):
        chosen = images.sample(min(COUNT, images.size), SEED)
        array = np.concatenate([batch for batch, _ in chosen.batches(preprocessing, 100)])
        return array, chosen.manifest() | {"preprocessing": vars(preprocessing)}
    try:
        array = _from_dataset(images) if isinstance(images, tf.data.Dataset) else _from_array(images)
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
    return array, {
        "source": type(images).__name__,
        "count": len(array),
        "sha256": hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest(),
        "preprocessing": "as received",
    }


def _from_dataset(dataset):
    batches, count = [], 0
    for element in dataset:
        batches.append(np.asarray(element[0] if isinstance(element, tuple) else element, np.float32))
        count += len(batches[-1])
        if count >= COUNT:
            break
    return np.concatenate(batches)[:COUNT] if batches else np.zeros((0,))


def _from_array(images):
    array = np.asarray(images, np.float32)
    order = np.random.default_rng(SEED).permutation(len(array))
    return array[np.sort(order[:COUNT])]
