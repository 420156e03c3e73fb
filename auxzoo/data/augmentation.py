"""Random changes of training images: scale, colour, flip, shift, erasing; all from a seed."""

import dataclasses

import tensorflow as tf

from auxzoo.checks import is_real, is_whole
from auxzoo.data.targets import no_truth
from auxzoo.errors import UserError

# Random erasing, the paper's settings but for the largest area, which is 0.4 there (arXiv:1708.04896, section 4):
# small pictures do not bear that.
ERASED_AREA = (0.02, 0.25)
ERASED_ASPECT = (0.3, 1 / 0.3)
# What a picture that is made smaller is surrounded with: grey, about 0 once it is preprocessed.
SURROUNDING = 127


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random changes of images in training, and of the truth at their pixels alike.

    Attributes:
        scale: smallest and largest factor by which the picture is scaled, numbers above 0; equally probable on a
            logarithmic scale. At more than 1 a random part of it fills the input; at less it lies at a random place in
            grey without truth. The numbers of a regression stay what they are: right for heights, wrong for distances
            from a camera. For pictures that are resized to the input, not padded.
        colour: 0 to 1: brightness, contrast and (of colour pictures) saturation change by up to this share.
        flip: whether half of the images are mirrored left to right.
        shift: largest shift in pixels, in each direction; the border is mirrored.
        erase: probability, 0 to 1, that a rectangle of 2 to 25 % of the image becomes 0 (arXiv:1708.04896).

    Example:
        >>> augmented = Augmentation(flip=True, shift=4)(images, seed=(0, 17))
    """

    flip: bool = False
    shift: int = 0
    erase: float = 0.0
    scale: tuple[float, float] | None = None
    colour: float = 0.0

    def __post_init__(self):
        if self.scale is not None:
            if (
                not isinstance(self.scale, (list, tuple))
                or len(self.scale) != 2
                or not all(is_real(factor) and 0.1 <= factor <= 10 for factor in self.scale)
                or self.scale[0] > self.scale[1]
            ):
                raise UserError(
                    f"`scale` must be the smallest and the largest factor, 0.1 to 10. Received: scale={self.scale!r}"
                )
            object.__setattr__(self, "scale", tuple(map(float, self.scale)))
        if not (is_real(self.colour) and 0 <= self.colour <= 1):
            raise UserError(f"`colour` must be 0 to 1. Received: colour={self.colour!r}")
        if not isinstance(self.flip, bool):
            raise UserError(f"`flip` must be true or false. Received: flip={self.flip!r}")
        if not (is_whole(self.shift) and self.shift >= 0):
            raise UserError(f"`shift` must be 0 pixels or more. Received: shift={self.shift!r}")
        if not (is_real(self.erase) and 0 <= self.erase <= 1):
            raise UserError(f"`erase` must be a probability, 0 to 1. Received: erase={self.erase!r}")

    def __call__(self, images, seed):
        """Returns the batch, changed.

        Args:
            images: float32 `[batch, height, width, channels]`.
            seed: two integers; the same pair changes the same batch in the same way.

        Raises:
            UserError: if `shift` is not less than the images' height and width, where those are known.
        """
        return self.together(images, {}, seed)[0]

    def together(self, images, maps, seed):
        """Returns a batch of preprocessed images and of maps over their pixels, flipped and shifted alike.

        Args:
            images: float32 `[batch, height, width, channels]`.
            maps: `dict` of any name to a tensor `[batch, height, width]`; none of them is erased.
            seed: two integers; the same pair changes the same batch in the same way.

        Raises:
            UserError: as of a call.
        """
        self.check_size(*images.shape[1:3])
        seeds = tf.unstack(tf.random.split(seed, 3))
        if self.flip:
            images = _flipped(images, seeds[0])
            maps = {name: _flipped(values[..., None], seeds[0])[..., 0] for name, values in maps.items()}
        if self.shift:
            images = _shifted(images, self.shift, seeds[1])
            maps = {name: _shifted(values[..., None], self.shift, seeds[1])[..., 0] for name, values in maps.items()}
        if self.erase:
            images = _erased(images, self.erase, seeds[2])
        return images, maps

    @property
    def varies(self):
        """Whether pictures are changed one by one before they are preprocessed, by `varied`."""
        return self.scale is not None or self.colour > 0

    def varied(self, picture, targets, seed):
        """Returns a picture and the truth at its pixels, scaled, and in other colours.

        Args:
            picture: uint8 `[height, width, channels]`, of any size.
            targets: `dict` of `Task` to the truth of the picture; the dense ones `[height, width]`.
            seed: two integers.
        """
        seeds = tf.unstack(tf.random.split(seed, 2))
        if self.scale is not None:
            picture, targets = _scaled(picture, targets, self.scale, seeds[0])
        if self.colour:
            picture = _coloured(picture, self.colour, seeds[1])
        return picture, targets

    def check_fit(self, preprocessing):
        """Raises a `UserError` unless pictures are fitted to the input in a way that bears the changes."""
        if self.scale is not None and preprocessing.fit != "resize":
            raise UserError(f"`scale` may be set only where pictures are resized. Received: fit={preprocessing.fit!r}")

    def check_size(self, height, width):
        """Raises a `UserError` unless images of that size can be shifted; a size that is `None` is not checked."""
        # The border is mirrored without its outermost pixels, so there is nothing to mirror beyond the size less 1.
        if any(size is not None and self.shift >= size for size in (height, width)):
            raise UserError(
                f"`shift` must be less than the images' height and width, {height}x{width}. "
                f"Received: shift={self.shift}"
            )


def _scaled(picture, targets, scale, seed):
    """Cuts a part of the size of the picture divided by a random factor out of it, or puts the whole into one."""
    low, high = tf.math.log(scale[0]), tf.math.log(scale[1])
    chances = tf.random.stateless_uniform([3], seed)
    factor = tf.exp(low + chances[0] * (high - low))
    size = tf.shape(picture)[:2]
    part = tf.maximum(tf.cast(tf.round(tf.cast(size, tf.float32) / factor), tf.int32), 1)
    # At once for parts that are smaller and for those that are larger: a cut, then a border.
    cut, border = tf.maximum(size - part, 0), tf.maximum(part - size, 0)
    start = tf.cast(tf.floor(chances[1:] * tf.cast(cut + 1, tf.float32)), tf.int32)
    before = tf.cast(tf.floor(chances[1:] * tf.cast(border + 1, tf.float32)), tf.int32)
    kept, after = size - cut, border - before

    def changed(values, constant):
        values = values[start[0] : start[0] + kept[0], start[1] : start[1] + kept[1]]
        padding = [[before[0], after[0]], [before[1], after[1]], *[[0, 0]] * (values.shape.rank - 2)]
        return tf.pad(values, padding, constant_values=constant)

    return changed(picture, tf.cast(SURROUNDING, picture.dtype)), {
        task: changed(truth, no_truth(task, truth.dtype)) if task.is_dense else truth for task, truth in targets.items()
    }


def _coloured(picture, strength, seed):
    seeds = tf.unstack(tf.random.split(seed, 3))
    picture = tf.cast(picture[..., :3], tf.float32) / 255.0  # without alpha, which no network takes
    picture *= tf.random.stateless_uniform([], seeds[0], 1 - strength, 1 + strength)
    picture = tf.image.stateless_random_contrast(picture, 1 - strength, 1 + strength + 1e-6, seeds[1])
    if picture.shape[-1] == 3:
        picture = tf.image.stateless_random_saturation(
            tf.clip_by_value(picture, 0.0, 1.0), 1 - strength, 1 + strength + 1e-6, seeds[2]
        )
    return tf.clip_by_value(picture, 0.0, 1.0) * 255.0


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
