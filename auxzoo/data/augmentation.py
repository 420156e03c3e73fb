"""Random changes of training images: flip, shift, erasing; all from a seed, a batch at a time."""

import dataclasses

import tensorflow as tf

from auxzoo.errors import UserError

# Random erasing, the paper's settings but for the largest area, which is 0.4 there (arXiv:1708.04896, section 4):
# small pictures do not bear that.
ERASED_AREA = (0.02, 0.25)
ERASED_ASPECT = (0.3, 1 / 0.3)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random changes of preprocessed images in training.

    Attributes:
        flip: whether half of the images are mirrored left to right.
        shift: largest shift in pixels, in each direction; the border is mirrored.
        erase: probability, 0 to 1, that a rectangle of 2 to 25 % of the image becomes 0 (arXiv:1708.04896).

    Example:
        >>> augmented = Augmentation(flip=True, shift=4)(images, seed=(0, 17))
    """

    flip: bool = False
    shift: int = 0
    erase: float = 0.0

    def __post_init__(self):
        if not isinstance(self.flip, bool):
            raise UserError(f"`flip` must be true or false. Received: flip={self.flip!r}")
        if not isinstance(self.shift, int) or self.shift < 0:
            raise UserError(f"`shift` must be 0 pixels or more. Received: shift={self.shift!r}")
        if not 0 <= self.erase <= 1:
            raise UserError(f"`erase` must be a probability, 0 to 1. Received: erase={self.erase!r}")

    def __call__(self, images, seed):
        """Returns the batch, changed.

        Args:
            images: float32 `[batch, height, width, channels]`.
            seed: two integers; the same pair changes the same batch in the same way.

        Raises:
            UserError: if `shift` is not less than the images' height and width, where those are known.
        """
        self.check_size(*images.shape[1:3])
        seeds = tf.unstack(tf.random.split(seed, 3))
        if self.flip:
            images = _flipped(images, seeds[0])
        if self.shift:
            images = _shifted(images, self.shift, seeds[1])
        if self.erase:
            images = _erased(images, self.erase, seeds[2])
        return images

    def check_size(self, height, width):
        """Raises a `UserError` unless images of that size can be shifted; a size that is `None` is not checked."""
        # The border is mirrored without its outermost pixels, so there is nothing to mirror beyond the size less 1.
        if any(size is not None and self.shift >= size for size in (height, width)):
            raise UserError(
                f"`shift` must be less than the images' height and width, {height}x{width}. "
                f"Received: shift={self.shift}"
            )


def _flipped(images, seed):
    chosen = tf.random.stateless_uniform([tf.shape(images)[0], 1, 1, 1], seed) < 0.5
    return tf.where(chosen, tf.reverse(images, [2]), images)


def _shifted(images, shift, seed):
    batch, height, width = tf.unstack(tf.shape(images)[:3])
    padded = tf.pad(images, [[0, 0], [shift, shift], [shift, shift], [0, 0]], mode="REFLECT")
    offsets = tf.random.stateless_uniform([2, batch, 1], seed, maxval=2 * shift + 1, dtype=tf.int32)
    rows = tf.gather(padded, offsets[0] + tf.range(height), axis=1, batch_dims=1)
    return tf.gather(rows, offsets[1] + tf.range(width), axis=2, batch_dims=1)


def _erased(images, probability, seed):
    batch, height, width = tf.unstack(tf.shape(images)[:3])
    chances = tf.random.stateless_uniform([5, batch, 1], seed)
    area = ERASED_AREA[0] + chances[0] * (ERASED_AREA[1] - ERASED_AREA[0])
    low, high = tf.math.log(ERASED_ASPECT[0]), tf.math.log(ERASED_ASPECT[1])
    aspect = tf.exp(low + chances[1] * (high - low))

    def inside(size, share, chance):
        """Tells which of `size` positions lie in a stretch of that share of them, at a random place."""
        length = tf.round(tf.minimum(share, 1.0) * tf.cast(size, tf.float32))
        start = tf.floor(chance * (tf.cast(size, tf.float32) - length + 1))
        positions = tf.range(size, dtype=tf.float32)
        return (positions >= start) & (positions < start + length)

    rows = inside(height, tf.sqrt(area * aspect), chances[2])[:, :, None, None]
    columns = inside(width, tf.sqrt(area / aspect), chances[3])[:, None, :, None]
    chosen = (chances[4] < probability)[:, :, None, None]
    return tf.where(rows & columns & chosen, 0.0, images)
