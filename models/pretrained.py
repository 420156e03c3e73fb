"""Weights of a trunk that was trained on other images."""

from pathlib import Path

import keras

from auxzoo.errors import UserError, first_line

IMAGENET = "imagenet"


def load_mobilenet_v2(network, weights, alpha):
    """Puts pretrained weights into a MobileNetV2 without head.

    Args:
        network: functional model with the weights of `keras.applications.MobileNetV2(include_top=False)`, in its order.
        weights: `"imagenet"`, those of `keras.applications`, fetched once into Keras' cache; or a path of such a file
            (`.weights.h5` or `.h5`).
        alpha: width multiplier.

    Raises:
        UserError: if the weights cannot be had, or are those of another network.
    """
    if weights == IMAGENET:
        try:
            original = keras.applications.MobileNetV2((224, 224, 3), alpha=alpha, include_top=False, weights=IMAGENET)
        except Exception as error:  # `get_file` raises a bare one where there is no network
            raise UserError(f'`weights` "{IMAGENET}" could not be fetched: {error}') from None
        network.set_weights(original.get_weights())
        return
    if not isinstance(weights, (str, Path)) or not Path(weights).expanduser().is_file():
        raise UserError(f'`weights` must be None, "{IMAGENET}" or a file. Received: weights={weights!r}')
    try:
        network.load_weights(Path(weights).expanduser())
    except (ValueError, KeyError, OSError) as error:
        reason = first_line(error, longest=200)
        raise UserError(
            f"`weights` must be a file of a MobileNetV2 {alpha} without head. Received: `{weights}`: {reason}"
        ) from None
