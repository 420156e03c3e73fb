"""The images by which layers that stay float are chosen: neither calibrated on nor evaluated on."""

from auxzoo.checks import is_real, is_whole
from auxzoo.errors import UserError

TUNING_COUNT = 1000
_SEED = 1


def tuning_part(images, count=TUNING_COUNT, argument="tuning_count"):
    """Returns `(rest, tuning)`: images for calibration, and those for choosing, at most half of them.

    Args:
        images: `ImageSet`.
        count: `int`, 1 or more.
        argument: `str`, what messages call it.

    Raises:
        UserError: if `count` is not so, or there are fewer than two images.
    """
    if not (is_whole(count) and count >= 1):
        raise UserError(f"`{argument}` must be 1 or more. Received: {count!r}")
    return images.split(min(count, images.size // 2), _SEED)


def checked_drop(max_drop):
    """Returns `max_drop` as `float`.

    Raises:
        UserError: if it is no number from 0 to 100.
    """
    if not (is_real(max_drop) and 0 <= max_drop <= 100):
        raise UserError(f"`max_drop` must be 0 to 100 points. Received: {max_drop!r}")
    return float(max_drop)
