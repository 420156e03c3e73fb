"""`train`: carry out a recipe in a folder; the same call continues a run that was killed."""

import contextlib
import dataclasses
import errno
import hashlib
import itertools
import json
import os
import platform
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from absl import logging

import auxzoo
from auxzoo.auxiliary import Structure, attach
from auxzoo.data import Augmentation
from auxzoo.data.targets import check_some_truth
from auxzoo.errors import UserError
from auxzoo.files import move_together, numbered_folder, read_json, sha256, temporary_folder, write_json
from auxzoo.machine import processor_name
from auxzoo.metrics import VOID
from auxzoo.tasks import Task

from .. import models
from ..models import zoo
from .compilation import COMPUTE_FILE
from .compute import apply_compute, check_precision, describe_compute, device_line
from .evaluation import evaluate
from .loop import RUN_STATE_FILE, fit
from .outputs import check_same_classes, fitting_images
from .recipe import Recipe, read_recipe
from .run_folder import METRICS_FILE, STRUCTURE_FILE, TENSORBOARD_FOLDER, claim_folder, hold_folder
from .run_state import read_progress

# More are not told one by one.
_MOST_CLASSES_TOLD, _MOST_LOST_TOLD = 20, 5
_LARGEST_EVALUATION_BATCH = 250


def train(recipe, folder=None, *, overwrite=False, measured=None, callbacks=(), progress=None, verbose="auto"):
    """Carries out a recipe and leaves the compact network in a folder that `auxzoo.load` reads.

    Args:
        recipe: `Recipe`, or what `read_recipe` takes.
        folder: where the run goes. An unfinished run of the same recipe there is continued; a finished one or
            one of another recipe is refused. A new numbered folder under `runs/` if `None`.
        overwrite: delete a finished or foreign run in `folder` first.
        measured: what `measure_compute` returned, for a recipe that leaves oneDNN to measurement.
        callbacks: Keras callbacks beside TensorBoard's, which writes to `folder/tensorboard`.
        progress: function of a line of text, told before the training which device trains, and how many pictures there
            are of each class, of 20 at most; or `None`.
        verbose: as of `keras.Model.fit`.

    Returns:
        `Path` of the folder. In it: `recipe.yaml`, `config.json`, `model.weights.h5` (the compact network
        only), `structure.json` (if an auxiliary was attached), `metrics.json`, `run_state.npz`, `run.json`,
        `tensorboard/`.

    Raises:
        UserError: if the recipe, its data or the folder are not right.
        TrainingDiverged: if the loss becomes NaN or infinite.

    Example:
        >>> folder = auxzoo.train("resnet18_025_cifar10", "runs/first")
    """
    if not isinstance(recipe, Recipe):
        recipe = read_recipe(recipe)
    apply_compute(recipe.compute)
    keras.utils.set_random_seed(recipe.seed)
    train_images, validation_images, test_images = open_data(recipe)
    compact = build_compact(recipe, train_images.tasks)
    check_precision(compact)
    pretrained_sha256 = pretrained_checksum(recipe)
    structure = build_structure(recipe, compact)
    network = compact if structure is None else attach(compact, structure)
    augmentation = Augmentation(**recipe.data.augmentation)
    preprocessing = models.describe(compact).preprocessing
    # Looked at before the folder is claimed: images that do not fit the network leave nothing behind.
    train_images.check_training(preprocessing, recipe.batch_size, augmentation)
    fitting = []
    for name, images in (("training", train_images), ("validation", validation_images), ("test", test_images)):
        if images is not None:
            images = fitting_images(compact, images, f"the {name} images")
            images.check_sizes(preprocessing)
            check_some_truth(images, f"the {name} images")
            check_same_classes(fitting[0] if fitting else images, images, f"the {name} images")
        fitting.append(images)
    # From here on as the network names them: what a set keeps of its pictures is made once.
    train_images, validation_images, test_images = fitting
    folder = Path(folder or numbered_folder("runs", recipe.name))
    with hold_folder(folder):
        claim_folder(
            *(folder, recipe, overwrite),
            structure=structure,
            pretrained_sha256=pretrained_sha256,
            images_sha256=checksum_of_sets(train_images, validation_images),
        )
        if measured is not None:
            write_json(folder / COMPUTE_FILE, measured)
        for line in (device_line(), *_lines_of_classes(train_images)) if progress is not None else ():
            progress(line)
        with _naming_where_full(folder / TENSORBOARD_FOLDER):
            fit(
                network,
                train_images,
                validation_images,
                **recipe.fit_arguments(),
                epochs=recipe.epochs,
                validation_every=recipe.validation_every,
                folder=folder,
                compilation=recipe.compute.compilation if measured is None else measured["compilation"],
                callbacks=[keras.callbacks.TensorBoard(folder / TENSORBOARD_FOLDER), *callbacks],
                verbose=verbose,
            )
        with temporary_folder() as made:  # h5py, where the disk is full, prints tracebacks that nobody can catch
            zoo.save_entry(compact, made, name=recipe.name)
            move_together({made / name: folder / name for name in (zoo.CONFIG_FILE, zoo.WEIGHTS_FILE)})
        done, batch_size = read_progress(folder / RUN_STATE_FILE), min(recipe.batch_size, _LARGEST_EVALUATION_BATCH)
        metrics = {
            "title": recipe.data.title or recipe.public().data.source,
            "auxiliary": structure is not None,
            "images": {
                "train": train_images.size,
                "validation": validation_images.size,
                "test": test_images.size if test_images else 0,
            },
            # Once each: a part that was held out tells of those of the whole, too.
            "broken_images_left_out": list(
                dict.fromkeys(
                    name
                    for images in (train_images, validation_images, test_images)
                    if images
                    for name in images.skipped
                )
            ),
            "validation": evaluate(network, validation_images, batch_size=batch_size),
            "test": evaluate(network, test_images, batch_size=batch_size) if test_images else None,
            "training_seconds": round(done.seconds, 1),
            "history": done.history,
            "made_with": {
                "auxzoo": auxzoo.__version__,
                "keras": keras.__version__,
                "tensorflow": tf.__version__,
                "python": platform.python_version(),
                "processor": processor_name(),
                "compilation": done.settings["compilation"],
                **describe_compute(),
            },
            "pretrained_sha256": pretrained_sha256,
            "weights_sha256": sha256(folder / zoo.WEIGHTS_FILE),
        }
        write_json(folder / METRICS_FILE, metrics)  # last: it marks the run as finished
    return folder


@contextlib.contextmanager
def _naming_where_full(path):
    """Lets TensorFlow's error of a full disk, on which TensorBoard's files are, be one that names `path`."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:  # of memory that is exhausted, too
        if os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None


def open_data(recipe):
    """Returns the training, validation and test images of a recipe; `None` for the last if it names no test split.

    It warns of classes of which no training picture is left by what the recipe holds out or leaves out, and of those
    that no mask of the training images shows.

    Raises:
        UserError: if they cannot be opened, there are fewer than two classes, or masks that show one alone, or fewer
            images than the recipe wants, or two have a picture in common.
    """
    data = recipe.data
    train_images = data.open(data.train_split)
    if train_images.is_labelled and len(train_images.labels) < 2:
        raise UserError(
            f"`data.source` must have pictures of 2 classes or more. Received: {train_images.name}, "
            f"with {', '.join(train_images.labels)} alone"
        )
    if data.validation_split is None:
        whole, count = train_images, data.validation_count or max(train_images.size // 5, 1)
        if whole.size < 2:
            raise UserError(f"`data.source` must have 2 training images or more. Received: {whole.name}, with 1")
        _check_count("validation_count", count, whole.size - 1)
        train_images, validation_images = whole.split(count, seed=data.validation_seed)
        _warn_of_lost_classes(whole, train_images, f"a lower `data.validation_count` than {count}")
    else:
        validation_images = data.open(data.validation_split)
    if data.train_count is not None:
        _check_count("train_count", data.train_count, train_images.size)
        whole = train_images
        train_images = whole.sample(data.train_count, seed=data.validation_seed)
        _warn_of_lost_classes(whole, train_images, f"a higher `data.train_count` than {data.train_count}")
    if recipe.batch_size > train_images.size:
        raise UserError(
            f"`batch_size` must be at most the number of training images, {train_images.size}. "
            f"Received: batch_size={recipe.batch_size}"
        )
    _check_masks(train_images, recipe.network.tasks)
    test_images = data.open(data.test_split) if data.test_split else None
    parts = {"train_split": train_images, "validation_split": validation_images, "test_split": test_images}
    for (one, images), (other, others) in itertools.combinations(parts.items(), 2):
        if others is not None and images.overlaps(others):
            raise UserError(
                f"`data.{one}` and `data.{other}` must have no picture in common. "
                f"Received: {images.name} and {others.name}"
            )
    return train_images, validation_images, test_images


def checksum_of_sets(*sets):
    """Returns the SHA-256 of several sets of images, and of what their classes are called."""
    contents = [[images.manifest()["sha256"], *(task.labels for task in images.tasks)] for images in sets]
    return hashlib.sha256(json.dumps(contents).encode()).hexdigest()


def _check_count(name, count, largest):
    if count > largest:
        raise UserError(f"`data.{name}` must be at most {largest}, of the images there are. Received: {name}={count}")


def _count_classes(images):
    """Returns how many pictures there are of each class of a labelled set."""
    return np.bincount(images.classes, minlength=len(images.labels))


def _check_masks(images, names):
    """Warns of classes of masks of which no pixel is trained on, and refuses masks that show one class alone.

    Args:
        images: `ImageSet` that is trained on.
        names: of the tasks that are trained, all if `None`.
    """
    for task in images.tasks:
        if task.kind != "segmentation" or (names is not None and task.name not in names):
            continue
        counts = sum(np.bincount(np.ravel(mask), minlength=VOID + 1) for mask in images.targets[task.name])
        seen = [label for label, count in zip(task.labels, counts, strict=False) if count]
        if len(seen) == 1 < len(task.labels):
            raise UserError(
                f"Masks of {task.name!r} must show 2 classes or more in the training images, each by the number of its "
                f"place among the labels. Received: {seen[0]} alone, and {counts[VOID]:,} pixels of {VOID}, which "
                "means that there is no truth"
            )
        missing = [label for label in task.labels if label not in seen]
        if seen and missing:
            logging.warning("No pixel of the training images is %s, of %s.", _in_words(missing), task.name)


def _lines_of_classes(images):
    """Returns a line that tells how many pictures there are of each class, if that is one an image and they are few."""
    if not images.is_labelled or len(images.labels) > _MOST_CLASSES_TOLD:
        return []
    counts = zip(images.labels, _count_classes(images), strict=True)
    return [f"Training pictures: {', '.join(f'{label} {count:,}' for label, count in counts)}"]


def _warn_of_lost_classes(whole, part, remedy):
    """Warns of classes of which the training part of a labelled set has no picture, though the whole has some."""
    if not whole.is_labelled:
        return
    is_lost = (_count_classes(whole) > 0) & (_count_classes(part) == 0)
    lost = [label for label, lost in zip(whole.labels, is_lost, strict=True) if lost]
    if lost:
        logging.warning("No picture is left to train on of the classes %s: give %s.", _in_words(lost), remedy)


def _in_words(labels):
    """Returns the first of some names, and how many more there are."""
    more = f" and {len(labels) - _MOST_LOST_TOLD} more" if len(labels) > _MOST_LOST_TOLD else ""
    return f"{', '.join(labels[:_MOST_LOST_TOLD])}{more}"


def pretrained_checksum(recipe):
    """Returns the SHA-256 of a recipe's file of pretrained weights, `None` if there is none.

    It is that of `network.arguments.weights`, or of an entry that is a folder. What goes out has the file's name alone.
    """
    entry = recipe.network.entry
    if entry is not None:
        return None if entry in zoo.read_index() else sha256(Path(entry) / zoo.WEIGHTS_FILE)
    pretrained = recipe.network.arguments.get("weights")
    return None if pretrained in (None, "imagenet") else sha256(Path(pretrained).expanduser())


def build_compact(recipe, tasks=None):
    """Returns the compact network of a recipe; that of an entry has its own head where its classes are the images'.

    Args:
        recipe: `Recipe`.
        tasks: those of its images; if `None` the ones that the recipe names, with ten classes where it has no labels.
    """
    settings = recipe.network
    tasks = _placeholders(recipe) if tasks is None else tasks
    if settings.tasks is not None:
        known = {task.name: task for task in tasks}
        for name in settings.tasks:
            if name not in known:
                raise UserError(f"`network.tasks` must be among the data's, {', '.join(known)}. Received: {name!r}")
        tasks = [known[name] for name in settings.tasks]
    if settings.entry is not None:
        if settings.arguments:
            raise UserError("`network.arguments` must be empty where `network.entry` is set.")
        if recipe.data.targets:
            raise UserError("`data.targets` may be set only where `network.architecture` is, not with an entry.")
        return _load_entry(settings.entry, tasks[0].labels, settings.preprocessing_fit)
    if settings.preprocessing_fit is not None:
        raise UserError("`network.preprocessing_fit` may be set only with `network.entry`; else it is an argument.")
    constructor = getattr(models, settings.architecture)
    head = {} if recipe.data.targets else {"num_classes": len(tasks[0].labels), "labels": tasks[0].labels}
    try:
        network = constructor(**settings.arguments, **head)
    except TypeError as error:
        raise UserError(f"`network.arguments` must be arguments of {settings.architecture}: {error}") from None
    if not recipe.data.targets:
        return network
    return models.MultiTask(network, tasks, settings.head_channels, settings.low_level, recipe.name)


def _load_entry(entry, labels, preprocessing_fit):
    """Returns the network of an entry for some classes: with a new head, unless it is for the very same classes."""
    config = read_json(zoo.entry_folder(entry) / zoo.CONFIG_FILE)
    # First, since it tells what is wrong with an entry.
    fresh = models.load(entry, num_classes=len(labels), labels=labels, preprocessing_fit=preprocessing_fit)
    (task,) = models.Description.from_dict(config["description"]).tasks
    return fresh if task.labels != tuple(labels) else models.load(entry, preprocessing_fit=preprocessing_fit)


def _placeholders(recipe):
    """Returns tasks like those of the recipe's images, which are not opened."""
    labels = tuple(f"class {index}" for index in range(10))
    tasks = [target.task for target in recipe.data.all_targets or ()]
    return [
        task if task.labels or task.kind == "regression" else dataclasses.replace(task, labels=labels, colours=())
        for task in tasks or [Task("classification", "classification")]
    ]


def build_structure(recipe, compact):
    """Returns the structure of the auxiliary of a recipe, or `None` for plain training."""
    settings = recipe.auxiliary
    if settings.structure == "none":
        return None
    if settings.structure == "published":
        if recipe.network.entry is None:
            raise UserError('`auxiliary.structure` may be "published" only where `network.entry` is set.')
        return Structure.read(zoo.entry_folder(recipe.network.entry) / STRUCTURE_FILE)
    if settings.structure != "default":
        return Structure.read(settings.structure)
    options = {
        "width_multiplier": settings.width_multiplier,
        "supervision": settings.supervision,
        "tasks": settings.tasks,
    }
    return Structure.default(compact, **{name: value for name, value in options.items() if value is not None})
