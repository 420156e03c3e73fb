"""`train`: carry out a recipe in a folder; the same call continues a run that was killed."""

import platform
import shutil
import time
from pathlib import Path

import keras
import tensorflow as tf

import auxzoo
from auxzoo.auxiliary import Structure, attach
from auxzoo.data import Augmentation, open_images
from auxzoo.errors import UserError
from auxzoo.files import numbered_folder, read_json, sha256, write_json, written_aside
from auxzoo.machine import processor_name

from .. import models
from ..models import zoo
from .compilation import COMPUTE_FILE, measure_compilations
from .evaluation import evaluate
from .loop import RUN_STATE_FILE, fit, number_of_classes
from .recipe import Recipe, read_recipe

METRICS_FILE = "metrics.json"
RECIPE_FILE = "recipe.yaml"
STRUCTURE_FILE = "structure.json"


def train(recipe, folder=None, *, overwrite=False, measured=None, callbacks=(), verbose="auto"):
    """Carries out a recipe and leaves the compact network in a folder that `auxzoo.load` reads.

    Args:
        recipe: `Recipe`, or what `read_recipe` takes.
        folder: where the run goes. An unfinished run of the same recipe there is continued; a finished one or
            one of another recipe is refused. A new numbered folder under `runs/` if `None`.
        overwrite: delete a finished or foreign run in `folder` first.
        measured: what `measure_compute` returned, for a recipe that leaves the choice to measurement; measured here
            (without oneDNN, which is chosen before TensorFlow is imported) if `None`.
        callbacks: Keras callbacks beside TensorBoard's, which writes to `folder/tensorboard`.
        verbose: as of `keras.Model.fit`.

    Returns:
        `Path` of the folder. In it: `recipe.yaml`, `config.json`, `model.weights.h5` (the compact network
        only), `structure.json` (if an auxiliary was attached), `metrics.json`, `run_state.npz`, `tensorboard/`.

    Raises:
        UserError: if the recipe, its data or the folder are not right.
        TrainingDiverged: if the loss becomes NaN or infinite.

    Example:
        >>> folder = auxzoo.train("fashion_mnist_quick", "runs/first")
    """
    if not isinstance(recipe, Recipe):
        recipe = read_recipe(recipe)
    keras.utils.set_random_seed(recipe.seed)
    train_images, validation_images, test_images = open_data(recipe)
    compact = build_compact(recipe, train_images.labels)
    structure = build_structure(recipe, compact)
    network = compact if structure is None else attach(compact, structure)
    folder = claim_folder(folder, recipe, overwrite)
    if structure is not None:
        structure.save(folder / STRUCTURE_FILE)

    started = time.time()
    history = fit(
        network,
        train_images,
        validation_images,
        epochs=recipe.epochs,
        batch_size=recipe.batch_size,
        objective=recipe.objective,
        optimization=recipe.optimization,
        augmentation=Augmentation(**recipe.data.augmentation),
        seed=recipe.seed,
        folder=folder,
        compilation=_kept_compilation(recipe, network, folder, measured),
        callbacks=[keras.callbacks.TensorBoard(folder / "tensorboard"), _Clock(folder), *callbacks],
        verbose=verbose,
    )
    zoo.save_entry(compact, folder, name=recipe.name)
    metrics = {
        "title": recipe.data.title or recipe.data.source,
        "auxiliary": structure is not None,
        "images": {
            "train": train_images.size,
            "validation": validation_images.size,
            "test": test_images.size,
        },
        "validation": evaluate(network, validation_images),
        "test": evaluate(network, test_images),
        "training_seconds": round(read_json(folder / "seconds.json")["seconds"], 1),
        "seconds_of_last_part": round(time.time() - started, 1),
        "history": history,
        "made_with": {
            "auxzoo": auxzoo.__version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "python": platform.python_version(),
            "processor": processor_name(),
        },
        "weights_sha256": sha256(folder / zoo.WEIGHTS_FILE),
    }
    write_json(folder / METRICS_FILE, metrics)  # last: it marks the run as finished
    return folder


def open_data(recipe):
    """Returns the training, validation and test images of a recipe."""
    data = recipe.data
    options = {"data_dir": data.data_dir, "skip_broken": data.skip_broken, "download": data.download}
    images = open_images(data.source, data.train_split, **options)
    train_images, validation_images = images.split(data.validation_count, seed=data.validation_seed)
    if data.train_count is not None:
        train_images = train_images.sample(data.train_count, seed=data.validation_seed)
    return train_images, validation_images, open_images(data.source, data.test_split, **options)


def build_compact(recipe, labels):
    """Returns the compact network of a recipe, with a head for `labels`."""
    settings = recipe.network
    if settings.entry is not None:
        if settings.arguments:
            raise UserError("`network.arguments` must be empty where `network.entry` is set.")
        return models.load(
            settings.entry, num_classes=len(labels), labels=labels, preprocessing_fit=settings.preprocessing_fit
        )
    constructor = getattr(models, settings.architecture)
    try:
        return constructor(**settings.arguments, num_classes=len(labels), labels=labels)
    except TypeError as error:
        raise UserError(f"`network.arguments` must be arguments of {settings.architecture}: {error}") from None


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
    if settings.width_multiplier is None:
        return Structure.default(compact)
    return Structure.default(compact, width_multiplier=settings.width_multiplier)


def claim_folder(folder, recipe, overwrite=False):
    """Makes or checks the folder of a run, so that no other run is ever lost or mixed in.

    Returns:
        `Path` of the folder, with the recipe in it.

    Raises:
        UserError: if it holds a finished run, a run of another recipe, or anything else.
    """
    if folder is None:
        folder = numbered_folder("runs", recipe.name)
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"The output folder must be a folder. Received: `{folder}`, a file")
    recipe_file = folder / RECIPE_FILE
    if folder.exists() and any(folder.iterdir()):
        if not recipe_file.exists():
            raise UserError(f"`{folder}` is not empty and holds no run; nothing there is overwritten.")
        if overwrite:
            shutil.rmtree(folder)
        elif read_recipe(recipe_file) != recipe:
            raise UserError(f"`{folder}` holds a run of another recipe; choose another folder or give --overwrite.")
        elif (folder / METRICS_FILE).exists():
            raise UserError(f"`{folder}` holds a finished run; choose another folder or give --overwrite.")
    folder.mkdir(parents=True, exist_ok=True)
    if not recipe_file.exists():
        with written_aside(recipe_file) as temporary:
            recipe.save(temporary)
    return folder


def _kept_compilation(recipe, network, folder, measured):
    """Returns the compilation of the recipe, or the measured one, which is kept in the run for its resumption."""
    if recipe.compute.compilation != "auto" and measured is None:
        return recipe.compute.compilation
    kept = folder / COMPUTE_FILE
    if not kept.exists():
        if measured is None:
            batch_shape = (recipe.batch_size, *network.input_shape[1:])
            rates = measure_compilations(
                network, batch_shape, number_of_classes(network), recipe.objective, recipe.optimization
            )
            measured = {"compilation": max(rates, key=rates.get), "images_per_second": rates}
        write_json(kept, measured)
    return read_json(kept)["compilation"]


class _Clock(keras.callbacks.Callback):
    """Adds up the seconds of training over the parts of a resumed run."""

    def __init__(self, folder):
        super().__init__()
        self.file = folder / "seconds.json"
        self.before = read_json(self.file)["seconds"] if (folder / RUN_STATE_FILE).exists() else 0.0

    def on_train_begin(self, logs=None):
        self.start = time.monotonic()
        self._save()

    def on_epoch_end(self, epoch, logs=None):
        self._save()

    def _save(self):
        write_json(self.file, {"seconds": self.before + time.monotonic() - self.start})


def configure_compute(compute):
    """Sets the threads of TensorFlow; must run before its first operation (oneDNN is set by the command line)."""
    if compute.threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(compute.threads)
        tf.config.threading.set_inter_op_parallelism_threads(compute.threads)
