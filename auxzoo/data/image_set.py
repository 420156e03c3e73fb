"""A set of labelled images in memory, and the batches made from it."""

import dataclasses
import hashlib

import numpy as np
import tensorflow as tf

from auxzoo.data.augmentation import Augmentation
from auxzoo.data.preprocessing import check_padding, preprocess
from auxzoo.errors import UserError

_ENDLESS = 2**31 - 1


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images with random access, from which every order derives from a seed.

    Attributes:
        name: where they come from, such as `"tfds:cifar10/train"`; parts chosen from them add how.
        records: uint8 `[size, height, width, channels]`; or, where sizes differ or are large, an array of
            encoded pictures (`bytes`) or of paths (`str`) that are decoded when needed.
        classes: int64 `[size]`, 0 to `len(labels) - 1`.
        labels: names of the classes.
        indices: int64 `[size]`, the place of each image in the whole of its source: tells whether parts overlap.
        skipped: names of broken images that were left out.
        source: the whole that `indices` count in; equal for all parts of it, and for nothing else. `name` if empty.
        sizes: int `[size, 2]`, height and width of each picture, where `records` are encoded; they are
            decoded to find out if `None`.
    """

    name: str
    records: np.ndarray
    classes: np.ndarray
    labels: tuple[str, ...]
    indices: np.ndarray
    skipped: tuple[str, ...] = ()
    source: str = ""
    sizes: np.ndarray | None = None

    def __post_init__(self):
        object.__setattr__(self, "source", self.source or self.name)

    @classmethod
    def from_arrays(cls, images, classes, labels, name="arrays"):
        """Returns an image set of arrays; its source is their content, so equal images overlap under any name.

        Args:
            images: uint8 `[size, height, width, channels]`, 1, 3 or 4 channels.
            classes: integers `[size]`, 0 to `len(labels) - 1`.
            labels: names of the classes.
            name: `str`, for messages and records.

        Raises:
            UserError: if a shape, number type or class is not so; the first wrong class is named by its place.

        Example:
            >>> ImageSet.from_arrays(np.zeros((4, 28, 28, 1), "uint8"), [0, 1, 1, 0], ("cat", "dog")).size
            4
        """
        images, classes = np.asarray(images), np.asarray(classes)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3, 4):
            raise UserError(
                "`images` must be uint8 of shape [size, height, width, channels] with 1, 3 or 4 channels. "
                f"Received: {images.dtype} of shape {images.shape}"
            )
        if len(images) == 0:
            raise UserError(f"`images` must hold at least one image. Received: shape {images.shape}")
        classes = checked_classes(classes, len(images), labels)
        content = hashlib.sha256(str(images.shape).encode())
        content.update(np.ascontiguousarray(images).reshape(-1))
        source = f"arrays:{content.hexdigest()}"
        return cls(name, images, classes, tuple(labels), np.arange(len(images)), source=source)

    @property
    def size(self):
        """Number of images."""
        return len(self.classes)

    def batches(self, preprocessing, batch_size):
        """Returns a `tf.data.Dataset` of the images in order, each once; the last batch may be smaller.

        Args:
            preprocessing: `auxzoo.models.Preprocessing`.
            batch_size: `int`.

        Returns:
            batches of `(float32 [batch, height, width, 3], int64 [batch])`.

        Raises:
            UserError: if a picture that shall be padded is too large; the first is named.
        """
        self._check_sizes(preprocessing)
        dataset = tf.data.Dataset.range(self.size).batch(batch_size)
        return self._prepared(dataset.map(self._reader(preprocessing), num_parallel_calls=2, deterministic=True))

    def training_batches(self, preprocessing, batch_size, seed, augmentation=None, first_epoch=0):
        """Returns an endless `tf.data.Dataset`, epoch after epoch of `size // batch_size` whole batches.

        The order of an epoch derives from `(seed, epoch)`, the augmentation of a batch from
        `(seed, epoch, step)`: what comes from `first_epoch` on is the same, bit for bit, as what comes from
        there on in a run that began at 0.

        Args:
            preprocessing: `auxzoo.models.Preprocessing`.
            batch_size: `int`, at most `size`.
            seed: `int`.
            augmentation: `Augmentation`; none if `None`.
            first_epoch: `int`, epochs to leave out.

        Raises:
            UserError: if `batch_size` is not so, a picture that shall be padded is too large (the first is named),
                or the augmentation's shift is not less than the input's height and width.
        """
        if not 1 <= batch_size <= self.size:
            raise UserError(f"`batch_size` must be 1 to {self.size}. Received: batch_size={batch_size}")
        augmentation = augmentation or Augmentation()
        augmentation.check_size(preprocessing.height, preprocessing.width)
        self._check_sizes(preprocessing)
        steps = self.size // batch_size
        read = self._reader(preprocessing)

        def epoch_batches(epoch):
            order = tf.random.experimental.stateless_shuffle(
                tf.range(self.size, dtype=tf.int64), seed=tf.stack([tf.cast(seed, tf.int64), epoch])
            )
            places = tf.reshape(order[: steps * batch_size], [steps, batch_size])
            steps_of_run = epoch * steps + tf.range(steps, dtype=tf.int64)
            return tf.data.Dataset.from_tensor_slices((places, steps_of_run))

        def make_batch(places, step):
            images, classes = read(places)
            # The order's seed must not be the first batch's as well.
            return augmentation(images, seed=tf.stack([tf.cast(seed, tf.int64) + 2**32, step])), classes

        epochs = tf.data.Dataset.range(first_epoch, _ENDLESS)
        dataset = epochs.flat_map(epoch_batches)
        return self._prepared(dataset.map(make_batch, num_parallel_calls=2, deterministic=True))

    def sample(self, count, seed):
        """Returns `count` images chosen by `seed`.

        Raises:
            UserError: if `count` is not 1 to `size`.
        """
        return self.part(self._permutation(count, self.size, seed)[:count], f"{count} by seed {seed}")

    def split(self, count, seed):
        """Returns `(rest, held_out)`: `count` images chosen by `seed`, and all others.

        Raises:
            UserError: if `count` is not 1 to `size - 1`.
        """
        order = self._permutation(count, self.size - 1, seed)
        return (
            self.part(order[count:], f"without {count} by seed {seed}"),
            self.part(order[:count], f"{count} by seed {seed}"),
        )

    def part(self, places, how):
        """Returns the images at `places`, in the order they have here.

        Args:
            places: whole numbers, 0 to `size - 1`, each once.
            how: `str`, how they were chosen; the part's name tells it.
        """
        places = np.sort(places)
        return dataclasses.replace(
            self,
            name=f"{self.name} ({how})",
            records=self.records[places],
            classes=self.classes[places],
            indices=self.indices[places],
            sizes=None if self.sizes is None else self.sizes[places],
        )

    def overlaps(self, other):
        """Returns whether both hold the same image of the same source."""
        return self.source == other.source and bool(np.intersect1d(self.indices, other.indices).size)

    def manifest(self):
        """Returns what a record says of a set: source, number of images, and a SHA-256 of content and order."""
        digest = hashlib.sha256()
        for record in self.records:
            if isinstance(record, str):
                record = tf.io.read_file(record).numpy()
            digest.update(record if isinstance(record, bytes) else np.ascontiguousarray(record).tobytes())
        digest.update(self.classes.astype("<i8").tobytes())
        return {"source": self.name, "count": self.size, "sha256": digest.hexdigest()}

    def picture(self, place):
        """Returns the unprocessed picture at `place`, uint8 `[height, width, channels]`."""
        record = self.records[place]
        return record if isinstance(record, np.ndarray) else decode(record).numpy()

    def _permutation(self, count, largest, seed):
        if not 1 <= count <= largest:
            raise UserError(f"`count` must be 1 to {largest} for {self.name}. Received: count={count}")
        return np.random.default_rng(seed).permutation(self.size)

    def _check_sizes(self, preprocessing):
        """Raises a `UserError` that names the first picture that is too large to be padded.

        It must be found before any batch is made: an error inside `tf.data` comes out as another one.
        """
        if preprocessing.fit != "pad":
            return
        if self.records.dtype == np.uint8:
            sizes = [self.records.shape[1:3]]
        elif self.sizes is not None:
            sizes = self.sizes
        else:
            sizes = [self.picture(place).shape[:2] for place in range(self.size)]
        for place, (height, width) in enumerate(sizes):
            record = self.records[place]
            picture = record if isinstance(record, str) else f"image {self.indices[place]} of {self.name}"
            check_padding(height, width, preprocessing, picture)

    def _reader(self, preprocessing):
        """Returns a function of places `[batch]` to preprocessed images and classes, for use inside `tf.data`."""
        classes = tf.constant(self.classes, tf.int64)
        if self.records.dtype == np.uint8:
            pictures = tf.constant(self.records)
            return lambda places: (
                preprocess(tf.gather(pictures, places), preprocessing),
                tf.gather(classes, places),
            )
        records = tf.constant(list(self.records))
        are_paths = isinstance(self.records[0], str)

        def read_one(record):
            return preprocess(decode(tf.io.read_file(record) if are_paths else record), preprocessing)

        shape = tf.TensorSpec([preprocessing.height, preprocessing.width, 3], tf.float32)
        return lambda places: (
            tf.map_fn(read_one, tf.gather(records, places), fn_output_signature=shape),
            tf.gather(classes, places),
        )

    def _prepared(self, dataset):
        options = tf.data.Options()
        options.deterministic = True
        return dataset.with_options(options).prefetch(2)


def decode(record):
    """Returns an encoded picture (or the one at a path) as uint8 `[height, width, 3]`; of a GIF the first frame."""
    if isinstance(record, str):
        record = tf.io.read_file(record)
    return tf.io.decode_image(record, channels=3, expand_animations=False)


def checked_classes(classes, size, labels, name=None):
    """Returns the classes of a set as int64.

    Args:
        classes: array of integers `[size]`, 0 to `len(labels) - 1`.
        size: number of images.
        labels: names of the classes.
        name: `str`, name of the set for the message, or `None`.

    Raises:
        UserError: if they are not so; the first wrong one is named by its place.
    """
    argument = f"`classes` of {name}" if name else "`classes`"
    if classes.shape != (size,) or not np.issubdtype(classes.dtype, np.integer):
        raise UserError(
            f"{argument} must be {size} whole numbers, one an image. Received: {classes.dtype} of shape {classes.shape}"
        )
    wrong = np.flatnonzero((classes < 0) | (classes >= len(labels)))
    if wrong.size:
        raise UserError(
            f"{argument} must be 0 to {len(labels) - 1}. Received: {classes[wrong[0]]} at place {wrong[0]}, "
            f"{wrong.size} wrong in all"
        )
    return classes.astype(np.int64)
