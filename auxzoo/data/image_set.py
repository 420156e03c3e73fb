"""A set of images with the truth of one task or several, in memory, and the batches made from it."""

import dataclasses
import functools
import hashlib
import itertools
import math
import os

import numpy as np
import tensorflow as tf

from auxzoo.checks import is_whole
from auxzoo.data.augmentation import Augmentation
from auxzoo.data.decoding import decode, decode_turned, encoded_in, in_order, printable, read
from auxzoo.data.preprocessing import check_padding, preprocess
from auxzoo.data.targets import checked_targets, fitted
from auxzoo.errors import UserError
from auxzoo.metrics import MISSING_CLASS, VOID
from auxzoo.tasks import Task, checked_tasks

# Pictures of one size are kept decoded up to here, and encoded ones at the size of an input.
LARGEST_DECODED_BYTES = 2 * 2**30
# A picture of 12 megapixels takes 200 MB while it is made smaller.
_MOST_THREADS = 8
# Pictures with more pixels than so many inputs are made smaller one by one.
_LARGEST_RATIO = 4
_ENDLESS = 2**31 - 1


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with the truth of one task or several, with random access; every order derives from a seed.

    Pictures that are encoded, or have more than four times the pixels of the input, are preprocessed when batches are
    first asked for, and kept so for later batches, while all of them take at most 2 GiB at the size of the input; not
    where an augmentation changes them before.

    Attributes:
        name: where they come from, such as `"tfds:cifar10/train"`; parts chosen from them add how.
        records: uint8 `[size, height, width, channels]`; or, where sizes differ or are large, an array of
            encoded pictures (`bytes`) or of paths (`str`) that are decoded when needed.
        tasks: what there is the truth of, `Task` each.
        targets: `dict` of task name to array `[size, ...]`: of a classification int64, -1 where there is no truth; of a
            segmentation uint8 `[size, rows, columns]`, 255 where there is none; of a regression float32 of such a
            shape, NaN where there is none. Where the sizes of pictures differ, an object array of such arrays.
        indices: int64 `[size]`, the place of each image in the whole of its source: tells whether parts overlap.
        skipped: names of broken images that were left out.
        source: the whole that `indices` count in; equal for all parts of it, and for nothing else. `name` if empty.
        sizes: int `[size, 2]`, height and width of each picture, where `records` are encoded; they are
            decoded to find out if `None`.
    """

    name: str
    records: np.ndarray
    tasks: tuple[Task, ...]
    targets: dict[str, np.ndarray]
    indices: np.ndarray
    skipped: tuple[str, ...] = ()
    source: str = ""
    sizes: np.ndarray | None = None

    _kept = None  # a preprocessing, and what `_reader_of_kept` made with it

    def __post_init__(self):
        object.__setattr__(self, "source", self.source or self.name)

    @classmethod
    def from_arrays(cls, images, classes, labels, name="arrays"):
        """Returns a set of labelled images; its source is their content, so equal images overlap under any name.

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
        images = _checked_pictures(images)
        classes = _checked_classes(np.asarray(classes), len(images), labels)
        task = Task("classification", "classification", tuple(labels))
        return cls._of_arrays(images, (task,), {task.name: classes}, name)

    @classmethod
    def from_targets(cls, images, tasks, targets, name="arrays"):
        """Returns a set of images with the truth of any tasks; its source is the images' content.

        Args:
            images: uint8 `[size, height, width, channels]`, 1, 3 or 4 channels.
            tasks: list of `Task`; those with classes have labels.
            targets: `dict` of task name to array, as of the attribute; of any whole or other numbers.
            name: `str`, for messages and records.

        Raises:
            UserError: if a shape, number type or value is not so; the first wrong image is named by its place.

        Example:
            >>> depth = auxzoo.Task("depth", "regression", unit="m")
            >>> images = np.zeros((4, 28, 28, 3), "uint8")
            >>> ImageSet.from_targets(images, [depth], {"depth": np.ones((4, 28, 28))}).size
            4
        """
        images, tasks = _checked_pictures(images), checked_tasks(tasks)
        targets = checked_targets(targets, tasks, len(images), name)
        for task in tasks:
            if task.is_dense and targets[task.name].shape[1:] != images.shape[1:3]:
                raise UserError(
                    f"`targets` of {name}: {task.name!r} must be of the images' size, {images.shape[1:3]}. "
                    f"Received: {targets[task.name].shape[1:]}"
                )
        return cls._of_arrays(images, tasks, targets, name)

    @classmethod
    def _of_arrays(cls, images, tasks, targets, name):
        content = hashlib.sha256(str(images.shape).encode())
        content.update(np.ascontiguousarray(images).reshape(-1))
        source = f"arrays:{content.hexdigest()}"
        return cls(name, images, tasks, targets, np.arange(len(images)), source=source)

    @property
    def size(self):
        """Number of images."""
        return len(self.indices)

    @property
    def is_labelled(self):
        """Whether there is one class an image and no other truth."""
        return [task.kind for task in self.tasks] == ["classification"]

    @property
    def labels(self):
        """Names of the classes of a labelled set.

        Raises:
            UserError: if the set is for other tasks.
        """
        return self._classification().labels

    @property
    def classes(self):
        """Classes of a labelled set, int64 `[size]`; raises a `UserError` if the set is for other tasks."""
        return self.targets[self._classification().name]

    def _classification(self):
        if not self.is_labelled:
            kinds = ", ".join(task.kind for task in self.tasks)
            raise UserError(f"{self.name} must have one class an image. Received: a set for {kinds}")
        return self.tasks[0]

    def batches(self, preprocessing, batch_size):
        """Returns a `tf.data.Dataset` of the images in order, each once; the last batch may be smaller.

        Args:
            preprocessing: `auxzoo.models.Preprocessing`.
            batch_size: `int`, 1 or more.

        Returns:
            batches of `(float32 [batch, height, width, 3], truth)`. The truth is an array as in `targets`, dense ones
            at the size of the input; of several tasks a dict of them.

        Raises:
            UserError: if `batch_size` is not so, a picture that shall be padded is too large, or a file can no longer
                be read; the first is named.
        """
        if not (is_whole(batch_size) and batch_size >= 1):
            raise UserError(f"`batch_size` must be 1 or more. Received: batch_size={batch_size!r}")
        self.check_sizes(preprocessing)
        read = self._reader(preprocessing)

        def make_batch(places):
            images, targets = read(places, tf.zeros([tf.size(places), 2], tf.int64))
            return images, self._as_truth(targets)

        dataset = tf.data.Dataset.range(self.size).batch(batch_size)
        return self._prepared(dataset.map(make_batch, num_parallel_calls=2, deterministic=True))

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
            UserError: if `batch_size` is not so, a picture that shall be padded is too large or a file can no longer
                be read (the first is named), or the augmentation does not fit the input.
        """
        augmentation = augmentation or Augmentation()
        self.check_training(preprocessing, batch_size, augmentation)
        steps = self.size // batch_size
        read = self._reader(preprocessing, augmentation)
        dense = {task.name for task in self.tasks if task.is_dense}

        def epoch_batches(epoch):
            order = tf.random.experimental.stateless_shuffle(
                tf.range(self.size, dtype=tf.int64), seed=tf.stack([tf.cast(seed, tf.int64), epoch])
            )
            places = tf.reshape(order[: steps * batch_size], [steps, batch_size])
            steps_of_run = epoch * steps + tf.range(steps, dtype=tf.int64)
            return tf.data.Dataset.from_tensor_slices((places, steps_of_run))

        def make_batch(places, step):
            # The order's seed must not be the first batch's as well.
            seed_of_batch = tf.stack([tf.cast(seed, tf.int64) + 2**32, step])
            seeds = tf.random.split(seed_of_batch + tf.constant([2**32, 0], tf.int64), batch_size)
            images, targets = read(places, seeds)
            maps = {name: target for name, target in targets.items() if name in dense}
            images, maps = augmentation.together(images, maps, seed_of_batch)
            return images, self._as_truth(targets | maps)

        epochs = tf.data.Dataset.range(first_epoch, _ENDLESS)
        dataset = epochs.flat_map(epoch_batches)
        return self._prepared(dataset.map(make_batch, num_parallel_calls=2, deterministic=True))

    def check_training(self, preprocessing, batch_size, augmentation):
        """Raises the `UserError` of `training_batches`, and makes nothing; arguments as there."""
        if not (is_whole(batch_size) and 1 <= batch_size <= self.size):
            raise UserError(f"`batch_size` must be 1 to {self.size}. Received: batch_size={batch_size!r}")
        augmentation.check_size(preprocessing.height, preprocessing.width)
        self.check_sizes(preprocessing)
        augmentation.check_fit(preprocessing)

    def check_sizes(self, preprocessing):
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
            check_padding(height, width, preprocessing, self._name_of(place))

    def sample(self, count, seed, apart_from=()):
        """Returns `count` images chosen by `seed`.

        Args:
            count: `int`, 1 to `size`.
            seed: `int`.
            apart_from: list of `ImageSet`: pictures that these hold as well, pixel by pixel, are passed over, from
                whatever files they are; the next ones of the order are taken, while there are any.

        Returns:
            `ImageSet`, or `None` if all pictures are passed over.

        Raises:
            UserError: if `count` is not 1 to `size`.
        """
        order = self._permutation(count, self.size, seed)
        if not apart_from:
            return self.part(order[:count], f"{count} by seed {seed}")
        known = {images._checksum(place) for images in apart_from for place in range(images.size)}
        others = (place for place in order if self._checksum(place) not in known)
        kept = list(itertools.islice(others, count))
        if kept == list(order[:count]):
            return self.part(kept, f"{count} by seed {seed}")
        names = " and ".join(images.name for images in apart_from)
        return self.part(kept, f"{len(kept)} by seed {seed}, none of {names}") if kept else None

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
            targets={name: values[places] for name, values in self.targets.items()},
            indices=self.indices[places],
            sizes=None if self.sizes is None else self.sizes[places],
        )

    def with_tasks(self, names):
        """Returns the set with some of its tasks, under other names.

        Args:
            names: `dict` of the new name to that of a task here, in the order wanted.
        """
        known = {task.name: task for task in self.tasks}
        if list(names.items()) == [(name, name) for name in known]:
            return self  # with what it keeps of its pictures
        return dataclasses.replace(
            self,
            tasks=tuple(dataclasses.replace(known[old], name=new) for new, old in names.items()),
            targets={new: self.targets[old] for new, old in names.items()},
        )

    def for_tasks(self, tasks, classes, name, argument):
        """Returns the set with truth for the tasks of a network and no others, named as they are.

        Classes that are all among those of the task, by their names, get the numbers that they have there: a set may
        lack some, or have them in another order.

        Args:
            tasks: `Task` each. Where both have one task alone the names may differ.
            classes: `dict` of task name to the number of its classes, where there are any and the number is known.
            name: `str`, what has the tasks, for messages.
            argument: `str`, what messages call the set.

        Raises:
            UserError: if the set lacks a task, or a task is of another kind, in another unit or has another number of
                classes.
        """
        known = {task.name: task for task in self.tasks}
        if len(tasks) == len(self.tasks) == 1:
            known = {tasks[0].name: self.tasks[0]}
        for task in tasks:
            if task.name not in known or known[task.name].kind != task.kind:
                received = ", ".join(f"{one.name} ({one.kind})" for one in self.tasks)
                raise UserError(
                    f"`{argument}` must have truth for {task.name}, a {task.kind}, as {name!r} has. "
                    f"Received: {received} in {self.name}"
                )
            if task.unit and known[task.name].unit and task.unit != known[task.name].unit:
                raise UserError(
                    f"`{argument}` must have {task.name} in {task.unit}, as {name!r} has; `factor` of a target "
                    f"converts. Received: {known[task.name].unit} in {self.name}"
                )
        images = self.with_tasks({task.name: known[task.name].name for task in tasks})
        for task in tasks:
            count = classes.get(task.name, len(task.labels))
            if count == len(task.labels):
                images = images.numbered_as(task)
            labels = next(one.labels for one in images.tasks if one.name == task.name)
            if task.name in classes and len(labels) != count:
                raise UserError(
                    f"`{argument}` must have as many classes as the network has logits, {count}. "
                    f"Received: {len(labels)} classes in {self.name}"
                )
        return images

    def numbered_as(self, task):
        """Returns the set with the classes of a task numbered as `task` has them, and its labels.

        Its colours are those of `task`, or else the set's own, where it has one for every class.

        Where a class of the set is, by its name, none of the task's, or names are none or not all different, it is the
        set itself.

        Args:
            task: `Task`, called as one of the set is.
        """
        (own,) = (one for one in self.tasks if one.name == task.name)
        are_different = all(len(set(names)) == len(names) > 0 for names in (own.labels, task.labels))
        if own.labels == task.labels or not are_different or not set(own.labels) <= set(task.labels):
            return self
        none, dtype = (VOID, np.uint8) if task.is_dense else (MISSING_CLASS, np.int64)
        table = np.full(max(len(own.labels), VOID) + 1, none, dtype)  # the last is of class -1, too
        table[: len(own.labels)] = [task.labels.index(label) for label in own.labels]
        values = self.targets[task.name]
        if values.dtype == object:  # pictures of several sizes
            targets = np.empty(len(values), object)
            for place, value in enumerate(values):
                targets[place] = table[value]
        else:
            targets = table[values]
        colours = task.colours
        if not colours and own.colours and len(own.labels) == len(task.labels):
            colours = tuple(own.colours[own.labels.index(label)] for label in task.labels)
        numbered = dataclasses.replace(own, labels=task.labels, colours=colours)
        return dataclasses.replace(
            self,
            tasks=tuple(numbered if one is own else one for one in self.tasks),
            targets=self.targets | {task.name: targets},
        )

    def overlaps(self, other):
        """Returns whether both hold the same image of the same source."""
        return self.source == other.source and bool(np.intersect1d(self.indices, other.indices).size)

    def _checksum(self, place):
        """Returns a checksum of a picture's size and colours, whatever file it is in."""
        picture = self.picture(place)
        colours = np.broadcast_to(picture[..., :3], (*picture.shape[:2], 3))  # a grey one has three alike, too
        return hashlib.sha256(repr(colours.shape).encode() + colours.tobytes()).digest()

    def manifest(self):
        """Returns what a record says of a set: source, number of images, and a SHA-256 of content and order.

        Raises:
            UserError: if a file is no longer there; it is named.
        """
        return {"source": self.name, "count": self.size, "sha256": self._content_sha256}

    @functools.cached_property  # every file is read
    def _content_sha256(self):
        digest = hashlib.sha256()
        for record in self.records:
            if isinstance(record, str):
                try:
                    record = encoded_in(record)
                except OSError as error:
                    raise UserError(f"A picture of {self.name} cannot be read: {error}") from None
            digest.update(record if isinstance(record, bytes) else np.ascontiguousarray(record).tobytes())
        for task in self.tasks:
            for target in self.targets[task.name]:
                digest.update(np.ascontiguousarray(target, np.asarray(target).dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()

    def picture(self, place):
        """Returns the unprocessed picture at `place`, uint8 `[height, width, channels]`.

        Raises:
            UserError: if an encoded one cannot be read; it is named.
        """
        record = self.records[place]
        if isinstance(record, np.ndarray):
            return record
        try:
            return read(record).numpy()
        except OSError as error:
            raise UserError(f"{self._name_of(place)} is not a readable picture: {error}") from None

    def _name_of(self, place):
        """Returns what messages call the picture at `place`."""
        record = self.records[place]
        return printable(record) if isinstance(record, str) else f"image {self.indices[place]} of {self.name}"

    def _permutation(self, count, largest, seed):
        if not (is_whole(count) and 1 <= count <= largest):
            raise UserError(f"`count` must be 1 to {largest} for {self.name}. Received: count={count!r}")
        return np.random.default_rng(seed).permutation(self.size)

    def _reader(self, preprocessing, augmentation=None):
        """Returns a function of places `[batch]` and seeds `[batch, 2]` to preprocessed images and targets.

        For use inside `tf.data`. Pictures are read one by one where they are varied by the augmentation, or encoded or
        far larger than the input and too many to be kept at its size.
        """
        varies = augmentation is not None and augmentation.varies
        are_arrays = all(values.dtype != object for values in (self.records, *self.targets.values()))
        # A batch of large ones at full size would take far more memory than what it is made for.
        pixels, of_input = math.prod(self.records.shape[1:3]), preprocessing.height * preprocessing.width
        in_batches = are_arrays and pixels <= _LARGEST_RATIO * of_input and not varies
        if not varies and not in_batches and self._kept_bytes(preprocessing) <= LARGEST_DECODED_BYTES:
            return self._reader_of_kept(preprocessing)
        pick = self._picks

        def fit(picture, truths):
            return preprocess(picture, preprocessing), {
                task.name: fitted(truth, task, preprocessing) if task.is_dense else truth
                for task, truth in truths.items()
            }

        def read_one(place, seed):
            picture, truths = pick[None](place), {task: pick[task.name](place) for task in self.tasks}
            if varies:
                picture, truths = augmentation.varied(picture, truths, seed)
            return fit(picture, truths)

        def read_batch(places, seeds):
            if in_batches:
                image, truths = fit(pick[None](places), {task: pick[task.name](places) for task in self.tasks})
            else:
                image, truths = tf.map_fn(
                    lambda one: read_one(*one), (places, seeds), fn_output_signature=self._signature(preprocessing)
                )
            return image, truths

        return read_batch

    @functools.cached_property
    def _picks(self):
        """Functions of a place to what there is, by the task's name, of pictures by `None`; their tensors made once."""
        with tf.device("CPU:0"):
            return {name: _picked(values) for name, values in {None: self.records, **self.targets}.items()}

    def _reader_of_kept(self, preprocessing):
        """Returns a reader of pictures that are all preprocessed now, in several threads, and kept."""
        if self._kept is None or self._kept[0] != preprocessing:
            object.__setattr__(self, "_kept", None)  # one at a time: it may be large
            made = list(in_order(lambda place: self._made(place, preprocessing), self.size, _threads()))
            with tf.device("CPU:0"):
                # As `tf.stack`, which looks at each tensor first, and of thousands that takes long.
                kept = [tf.raw_ops.Pack(values=list(values)) for values in zip(*made, strict=True)]
            object.__setattr__(self, "_kept", (preprocessing, kept))
        _, (images, *maps) = self._kept
        dense = (task.name for task in self.tasks if task.is_dense)
        targets = {task.name: self.targets[task.name] for task in self.tasks} | dict(zip(dense, maps, strict=True))
        return lambda places, seeds: (
            tf.gather(images, places),
            {name: tf.gather(values, places) for name, values in targets.items()},
        )

    def _made(self, place, preprocessing):
        """Returns a preprocessed picture, and its truth for each dense task at that size."""
        with tf.device("CPU:0"):  # where `tf.data` computes: a GPU rounds otherwise
            return preprocess(self.picture(place), preprocessing), *(
                fitted(tf.constant(self.targets[task.name][place]), task, preprocessing)
                for task in self.tasks
                if task.is_dense
            )

    def _kept_bytes(self, preprocessing):
        """Returns how large all pictures are at the size of an input, with the truth of dense tasks."""
        images, targets = self._signature(preprocessing)
        specs = [images, *(targets[task.name] for task in self.tasks if task.is_dense)]
        return self.size * sum(spec.shape.num_elements() * spec.dtype.size for spec in specs)

    def _signature(self, preprocessing):
        """Returns the types of one preprocessed image and its targets."""
        size = [preprocessing.height, preprocessing.width]
        kinds = {"classification": ([], tf.int64), "segmentation": (size, tf.uint8), "regression": (size, tf.float32)}
        targets = {task.name: tf.TensorSpec(*kinds[task.kind]) for task in self.tasks}
        return tf.TensorSpec([*size, 3], tf.float32), targets

    def _as_truth(self, targets):
        """Returns targets as a network with these tasks has its output: of one task alone, not in a dict."""
        return targets if len(self.tasks) > 1 else targets[self.tasks[0].name]

    def _prepared(self, dataset):
        options = tf.data.Options()
        options.deterministic = True
        return dataset.with_options(options).prefetch(2)


def _threads():
    return min(os.cpu_count() or 1, _MOST_THREADS)


def _checked_pictures(images):
    """Returns pictures as an array."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3, 4):
        raise UserError(
            "`images` must be uint8 of shape [size, height, width, channels] with 1, 3 or 4 channels. "
            f"Received: {images.dtype} of shape {images.shape}"
        )
    if len(images) == 0:
        raise UserError(f"`images` must hold at least one image. Received: shape {images.shape}")
    return images


def _picked(values):
    """Returns a function of a place, or of several, to what is kept there, decoded; for use inside `tf.data`."""
    if values.dtype != object:
        tensor = tf.constant(values)
        return lambda places: tf.gather(tensor, places)
    if isinstance(values[0], np.ndarray):
        # One after the other in a flat tensor: a ragged one would be copied for every place.
        flat = tf.constant(np.concatenate([value.reshape(-1) for value in values]))
        shapes = tf.constant([value.shape for value in values], tf.int64)
        ends = tf.cumsum(tf.reduce_prod(shapes, axis=1))

        def pick(place):
            shape = shapes[place]
            end = ends[place]
            return tf.reshape(flat[end - tf.reduce_prod(shape) : end], shape)

        return pick
    if isinstance(values[0], str):
        paths = tf.constant([os.fsencode(path) for path in values])
        return lambda place: decode_turned(tf.io.read_file(paths[place]))
    records = tf.constant(list(values))
    return lambda place: decode(records[place])


def _checked_classes(classes, size, labels):
    """Returns the classes of a set as int64; the first wrong one is named by its place."""
    if classes.shape != (size,) or not np.issubdtype(classes.dtype, np.integer):
        raise UserError(
            f"`classes` must be {size} whole numbers, one an image. Received: {classes.dtype} of shape {classes.shape}"
        )
    wrong = np.flatnonzero((classes < 0) | (classes >= len(labels)))
    if wrong.size:
        raise UserError(
            f"`classes` must be 0 to {len(labels) - 1}. Received: {classes[wrong[0]]} at place {wrong[0]}, "
            f"{wrong.size} wrong in all"
        )
    return classes.astype(np.int64)
