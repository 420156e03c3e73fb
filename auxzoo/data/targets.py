"""Targets: where a set of images has the truth of a task, how it is read, and how it is fitted to a network."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from auxzoo.checks import is_real, is_whole
from auxzoo.errors import UserError
from auxzoo.metrics import MISSING_CLASS, VOID
from auxzoo.tasks import Task


@dataclasses.dataclass(frozen=True)
class Target:
    """Where a set of images has the truth of a task, and what the numbers there mean.

    Attributes:
        task: `Task`; its labels may be empty where the set itself names the classes.
        feature: name of the feature of a `tensorflow_datasets` set, or of the folder beside `images`; the task's name
            if `None`.
        void: whole numbers that are no class in a mask, such as -1 or 65535; 255 is none in any case.
        factor: what a number of a regression is multiplied by to be in the task's unit.
        missing: number, before it is multiplied, that stands for no truth; NaN does in any case.

    Raises:
        UserError: if a value is not so.

    Example:
        >>> surface = Target(auxzoo.Task("surface", "segmentation", ("ocean", "land")), feature="mask", void=(2,))
    """

    task: Task
    feature: str | None = None
    void: tuple[int, ...] = ()
    factor: float = 1.0
    missing: float | None = None

    def __post_init__(self):
        if not isinstance(self.task, Task):
            raise UserError(f"`task` must be a Task. Received: task={self.task!r}")
        name = self.task.name
        if not isinstance(self.feature, str | None) or self.feature == "":
            raise UserError(f"`feature` of {name!r} must be a name or None. Received: feature={self.feature!r}")
        if not isinstance(self.void, (list, tuple)) or not all(
            is_whole(value) and abs(value) < 2**63 for value in self.void
        ):
            raise UserError(
                f"`void` of {name!r} must be a list of whole numbers of less than 2**63 in size. "
                f"Received: void={self.void!r}"
            )
        object.__setattr__(self, "void", tuple(self.void))
        if self.void and self.task.kind != "segmentation":
            raise UserError(f"`void` may be set only of a segmentation. Received: {name!r}, a {self.task.kind}")
        if not (is_real(self.factor) and math.isfinite(self.factor) and self.factor != 0):
            raise UserError(f"`factor` of {name!r} must be a number other than 0. Received: factor={self.factor!r}")
        if not (self.missing is None or is_real(self.missing)):
            raise UserError(f"`missing` of {name!r} must be a number or None. Received: missing={self.missing!r}")
        if (self.factor != 1 or self.missing is not None) and self.task.kind != "regression":
            raise UserError(
                f"`factor` and `missing` may be set only of a regression. Received: {name!r}, a {self.task.kind}"
            )

    @property
    def source(self):
        """Name of the feature or folder."""
        return self.feature or self.task.name

    def read(self, values, where):
        """Returns what a file or feature holds as the truth of one picture.

        Args:
            values: array `[rows, columns]` or `[rows, columns, 1]`; of a classification one whole number.
            where: `str`, names the picture in messages.

        Returns:
            of a segmentation uint8 `[rows, columns]`, `VOID` where there is no truth; of a regression float32
            `[rows, columns]` in the task's unit, NaN where there is none; of a classification the number, which may be
            -1 where there is no truth.

        Raises:
            UserError: if the shape is another, a class is none of the labels, or a number is infinite.
        """
        values, task = np.asarray(values), self.task
        if task.kind == "classification":
            if values.shape != () or not np.issubdtype(values.dtype, np.integer):
                raise UserError(f"{where}: {task.name!r} must be a whole number. Received: shape {values.shape}")
            if values != MISSING_CLASS:
                check_classes(values.reshape(1), task, where)
            return int(values)
        if values.ndim == 3 and values.shape[-1] == 1:
            values = values[..., 0]
        if values.ndim != 2:
            hint = "; of a picture in colours make one of numbers" if values.shape[2:] in ((3,), (4,)) else ""
            raise UserError(f"{where}: {task.name!r} must have one value a pixel. Received: shape {values.shape}{hint}")
        if task.kind == "segmentation":
            return self._classes(values, where)
        _check_real(values, f"{where}: {task.name!r}")
        numbers_in_unit = values.astype(np.float64) * self.factor
        if self.missing is not None:
            numbers_in_unit[values == self.missing] = np.nan
        return _as_float32(numbers_in_unit, f"{where}: {task.name!r}")

    def _classes(self, values, where):
        if not np.issubdtype(values.dtype, np.integer):
            raise UserError(f"{where}: {self.task.name!r} must be whole numbers. Received: {values.dtype}")
        is_void = np.isin(values, (*self.void, VOID))
        none = tuple(dict.fromkeys((*self.void, VOID)))  # a recipe may name 255 itself
        check_classes(values[~is_void], self.task, where, or_else=f", or {none} where there is none")
        classes = values.astype(np.uint8)  # first: not every type of whole numbers holds 255
        classes[is_void] = VOID
        return classes


def check_classes(values, task, where, or_else=""):
    """Raises a `UserError` that names the first of some whole numbers that is no class of a task."""
    wrong = values[(values < 0) | (values >= len(task.labels))]
    if wrong.size:
        raise UserError(
            f"{where}: {task.name!r} must be 0 to {len(task.labels) - 1}{or_else}. Received: {wrong[0]}, "
            f"{wrong.size} wrong in all"
        )


def checked_targets(targets, tasks, size, name):
    """Returns the targets of a set as arrays of the number types that `ImageSet` keeps.

    Args:
        targets: `dict` of task name to array: of a classification whole numbers `[size]`, -1 where there is no truth;
            of a segmentation whole numbers `[size, rows, columns]`, `VOID` where there is none; of a regression
            numbers of such a shape, NaN where there is none.
        tasks: tuple of `Task`.
        size: `int`, number of images.
        name: `str`, name of the set, for messages.

    Raises:
        UserError: if a target is missing or not so; the first wrong image is named by its place.
    """
    if not isinstance(targets, dict) or set(targets) != {task.name for task in tasks}:
        raise UserError(
            f"`targets` of {name} must be a dict of {', '.join(task.name for task in tasks)}. "
            f"Received: {list(targets) if isinstance(targets, dict) else targets!r}"
        )
    return {task.name: _checked(np.asarray(targets[task.name]), task, size, name, len(tasks) > 1) for task in tasks}


def _checked(values, task, size, name, beside_others):
    if task.kind == "regression":
        _check_real(values, f"`targets` of {name}: {task.name!r}")
    rank = 3 if task.is_dense else 1
    is_whole = task.kind != "regression"
    if values.ndim != rank or len(values) != size or (is_whole and not np.issubdtype(values.dtype, np.integer)):
        shape = f"[{size}, rows, columns]" if task.is_dense else f"[{size}]"
        raise UserError(
            f"`targets` of {name}: {task.name!r} must be {'whole ' if is_whole else ''}numbers {shape}. "
            f"Received: {values.dtype} of shape {values.shape}"
        )
    if task.kind == "regression":
        return _as_float32(values, f"`targets` of {name}: {task.name!r}")
    # A set with one class an image and nothing else has a class for every image.
    none = VOID if task.is_dense else MISSING_CLASS if beside_others else None
    if not task.labels:
        raise UserError(f"`targets` of {name}: task {task.name!r} must have labels, a name for every class.")
    wrong = (values < 0) | (values >= len(task.labels))
    if none is not None:
        wrong &= values != none
    if wrong.any():
        place = np.argwhere(wrong)[0]
        or_else = "" if none is None else f", or {none} where there is no truth"
        raise UserError(
            f"`targets` of {name}: {task.name!r} must be 0 to {len(task.labels) - 1}{or_else}. "
            f"Received: {values[tuple(place)]} in image {place[0]}, {int(wrong.sum())} wrong in all"
        )
    return values.astype(np.uint8 if task.is_dense else np.int64)


def _check_real(values, what):
    if not np.can_cast(values.dtype, np.float64, "same_kind"):
        raise UserError(f"{what} must be numbers. Received: {values.dtype}")


def _as_float32(values, what):
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is told
        values = values.astype(np.float32)
    if np.isinf(values).any():
        raise UserError(f"{what} must be finite, or NaN where there is no truth. Received: infinity")
    return values


def fitted(target, task, preprocessing):
    """Returns dense targets at the size of a network's input, as `preprocess` fits the pictures.

    Args:
        target: tensor `[..., rows, columns]`.
        task: `Task`, a dense one.
        preprocessing: `auxzoo.models.Preprocessing`.

    Returns:
        tensor `[..., height, width]` of the same type. Resized to the nearest, since classes have no mean; padded with
        no truth.
    """
    size = (preprocessing.height, preprocessing.width)
    if tuple(target.shape[-2:]) == size:
        return target
    if preprocessing.fit == "resize":
        return tf.image.resize(target[..., None], size, method="nearest")[..., 0]
    rows, columns = tf.unstack(tf.shape(target)[-2:])
    above, left = (size[0] - rows) // 2, (size[1] - columns) // 2
    padding = [[0, 0]] * (target.shape.rank - 2)
    padding += [[above, size[0] - rows - above], [left, size[1] - columns - left]]
    return tf.ensure_shape(
        tf.pad(target, padding, constant_values=no_truth(task, target.dtype)), [*target.shape[:-2], *size]
    )


def no_truth(task, dtype):
    """Returns what stands for no truth in the dense targets of a task: a scalar of the number type."""
    return tf.cast(VOID if task.kind == "segmentation" else float("nan"), dtype)


def has_truth(values, task):
    """Returns where there is truth among targets of a task, an array of `bool`."""
    if task.kind == "regression":
        return ~np.isnan(values)
    return values != (VOID if task.is_dense else MISSING_CLASS)


def check_some_truth(images, argument):
    """Raises a `UserError` if an `ImageSet` has a task without truth in any image; `argument` is what it is called."""
    for task in images.tasks:
        if not any(np.any(has_truth(np.asarray(truth), task)) for truth in images.targets[task.name]):
            raise UserError(f"`{argument}` must have truth for {task.name} somewhere. Received: none in {images.name}")


def median_frequency_weights(targets, task, classes):
    """Returns a weight of every class, by which each counts as much as the one of median frequency.

    The frequency of a class is its share of the pixels with truth in the images that show it; of a classification its
    share of the images.

    Args:
        targets: array of a task with classes, as `ImageSet` keeps it.
        task: `Task`.
        classes: `int`, number of classes.

    Returns:
        list of floats, 0 of a class that is nowhere.

    Raises:
        UserError: if there is no truth at all.

    Source: arXiv:1411.4734, section 6.3.2.
    """
    pixels, of_images = np.zeros(classes), np.zeros(classes)
    for target in targets:
        target = np.asarray(target)
        counts = np.bincount(target[has_truth(target, task)].reshape(-1), minlength=classes)
        pixels += counts
        of_images += counts.sum() * (counts > 0 if task.is_dense else 1)
    frequencies = np.divide(pixels, of_images, out=np.zeros(classes), where=of_images > 0)
    if not frequencies.any():
        raise UserError(f"`class_weights` of {task.name!r} cannot be taken from images without any truth for it.")
    median = np.median(frequencies[frequencies > 0])
    return np.divide(median, frequencies, out=np.zeros(classes), where=frequencies > 0).tolist()
