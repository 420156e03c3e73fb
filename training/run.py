"""`train`: carry out a recipe in a folder; the same call continues a run that was killed."""

import dataclasses
import platform
from pathlib import Path

import keras
import tensorflow as tf

import auxzoo
from auxzoo.auxiliary import Structure, attach
from auxzoo.data import Augmentation, open_images
from auxzoo.data.targets import check_some_truth
from auxzoo.errors import UserError
from auxzoo.files import numbered_folder, sha256, write_json
from auxzoo.machine import processor_name
from auxzoo.tasks import Task

from .. import models
from ..models import zoo
from .compilation import COMPUTE_FILE
from .compute import apply_compute, describe_compute
from .evaluation import evaluate
from .loop import RUN_STATE_FILE, fit
from .outputs import fitting_images
from .recipe import Recipe, read_recipe
from .run_folder import METRICS_FILE, STRUCTURE_FILE, TENSORBOARD_FOLDER, claim_folder, hold_folder
from .run_state import read_progress


def train(recipe, folder=None, *, overwrite=False, measured=None, callbacks=(), verbose="auto"):
    """Carries out a recipe and leaves the compact network in a folder that `auxzoo.load` reads.

    Args:
        recipe: `Recipe`, or what `read_recipe` takes.
        folder: where the run goes. An unfinished run of the same recipe there is continued; a finished one or
            one of another recipe is refused. A new numbered folder under `runs/` if `None`.
        overwrite: delete a finished or foreign run in `folder` first.
        measured: what `measure_compute` returned, for a recipe that leaves oneDNN to measurement.
        callbacks: Keras callbacks beside TensorBoard's, which writes to `folder/tensorboard`.
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
    pretrained_sha256 = pretrained_checksum(recipe)
    structure = build_structure(recipe, compact)
    network = compact if structure is None else attach(compact, structure)
    augmentation = Augmentation(**recipe.data.augmentation)
    preprocessing = models.describe(compact).preprocessing
    # Made once before the folder is claimed: images that do not fit the network leave nothing behind.
    train_images.training_batches(preprocessing, recipe.batch_size, recipe.seed, augmentation)
    for name, images in (("training", train_images), ("validation", validation_images), ("test", test_images)):
        if images is not None:
            fitting = fitting_images(compact, images, f"the {name} images")
            fitting.batches(preprocessing, recipe.batch_size)
            check_some_truth(fitting, f"the {name} images")
    folder = Path(folder or numbered_folder("runs", recipe.name))
    with hold_folder(folder):
        claim_folder(folder, recipe, overwrite, structure=structure, pretrained_sha256=pretrained_sha256)
        if measured is not None:
            write_json(folder / COMPUTE_FILE, measured)

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
        zoo.save_entry(compact, folder, name=recipe.name)
        progress = read_progress(folder / RUN_STATE_FILE)
        metrics = {
            "title": recipe.data.title or recipe.data.source,
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
            "validation": evaluate(network, validation_images),
            "test": evaluate(network, test_images) if test_images else None,
            "training_seconds": round(progress.seconds, 1),
            "history": progress.history,
            "made_with": {
                "auxzoo": auxzoo.__version__,
                "keras": keras.__version__,
                "tensorflow": tf.__version__,
                "python": platform.python_version(),
                "processor": processor_name(),
                "compilation": progress.settings["compilation"],
                **describe_compute(),
            },
            "pretrained_sha256": pretrained_sha256,
            "weights_sha256": sha256(folder / zoo.WEIGHTS_FILE),
        }
        write_json(folder / METRICS_FILE, metrics)  # last: it marks the run as finished
    return folder


def open_data(recipe):
    """Returns the training, validation and test images of a recipe; `None` for the last if it names no test split."""
    data = recipe.data
    options = {
        "data_dir": data.data_dir,
        "skip_broken": data.skip_broken,
        "download": data.download,
        "targets": data.all_targets,
    }
    train_images = open_images(data.source, data.train_split, **options)
    if data.validation_split is None:
        _check_count("validation_count", data.validation_count, train_images.size - 1)
        train_images, validation_images = train_images.split(data.validation_count, seed=data.validation_seed)
    else:
        validation_images = open_images(data.source, data.validation_split, **options)
    if data.train_count is not None:
        _check_count("train_count", data.train_count, train_images.size)
        train_images = train_images.sample(data.train_count, seed=data.validation_seed)
    if recipe.batch_size > train_images.size:
        raise UserError(
            f"`batch_size` must be at most the number of training images, {train_images.size}. "
            f"Received: batch_size={recipe.batch_size}"
        )
    test_images = open_images(data.source, data.test_split, **options) if data.test_split else None
    return train_images, validation_images, test_images


def _check_count(name, count, largest):
    if count > largest:
        raise UserError(f"`data.{name}` must be at most {largest}, of the images there are. Received: {name}={count}")


def pretrained_checksum(recipe):
    """Returns the SHA-256 of a recipe's file of pretrained weights, or `None`: what goes out has its name alone."""
    pretrained = recipe.network.arguments.get("weights")
    return None if pretrained in (None, "imagenet") else sha256(Path(pretrained).expanduser())


def build_compact(recipe, tasks=None):
    """Returns the compact network of a recipe.

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
        labels = tasks[0].labels
        return models.load(
            settings.entry, num_classes=len(labels), labels=labels, preprocessing_fit=settings.preprocessing_fit
        )
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
