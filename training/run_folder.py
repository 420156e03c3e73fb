"""The folder of a run: claimed so that no other run, and nothing of the user's, is ever lost or mixed in."""

import contextlib
import re
import shutil
from pathlib import Path

import filelock

import auxzoo
from auxzoo.auxiliary import Structure
from auxzoo.errors import UserError
from auxzoo.files import read_json, write_json, written_aside

from ..models.zoo import CONFIG_FILE, METRICS_FILE, RECIPE_FILE, STRUCTURE_FILE, WEIGHTS_FILE
from .compilation import COMPUTE_FILE
from .loop import RUN_STATE_FILE
from .recipe_file import read_settings

MARKER_FILE = "run.json"  # tells a run from a folder of the user's that happens to hold a recipe
LOCK_FILE = ".lock"
TENSORBOARD_FOLDER = "tensorboard"
# What a search writes besides.
GATES_PICTURE = "gates.png"
STRUCTURE_PICTURES = ("structure.png", "structure.svg")
STEP_COSTS_FILE = "step_costs.json"
PERTURBATION_FILE = "perturbation.json"
CANDIDATES_FOLDER = "candidates"
# All that a run or search writes, and so all that `--overwrite` may delete.
_OWN_FILES = (
    *(METRICS_FILE, RUN_STATE_FILE, COMPUTE_FILE, CONFIG_FILE, WEIGHTS_FILE, STRUCTURE_FILE),
    *(GATES_PICTURE, *STRUCTURE_PICTURES, STEP_COSTS_FILE, PERTURBATION_FILE, RECIPE_FILE),
)
_OWN_FOLDERS = (TENSORBOARD_FOLDER, CANDIDATES_FOLDER)


@contextlib.contextmanager
def hold_folder(folder):
    """Keeps other processes out of the folder of a run while the block runs; call it before `claim_folder`.

    Args:
        folder: `Path`; made if it does not exist. What is no folder of a run is left alone: `claim_folder` refuses it.

    Raises:
        UserError: if another process holds it.
    """
    if folder.exists() and not _may_hold_run(folder):
        yield
        return
    with lock(folder):
        yield


@contextlib.contextmanager
def lock(folder):
    """Keeps other processes out of a folder, a `Path`, made if it does not exist, while the block runs.

    Raises:
        UserError: if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / LOCK_FILE, blocking=False):
            yield
    except filelock.Timeout:
        raise UserError(f"`{folder}` is in use by another process; wait for it, or choose another folder.") from None


def _may_hold_run(folder):
    """Returns whether a path is a folder with a run in it, or with nothing but what one leaves that is killed first."""
    if not folder.is_dir():
        return False
    return (folder / MARKER_FILE).is_file() or all(
        path.name == LOCK_FILE or _is_leftover(path, MARKER_FILE) for path in folder.iterdir()
    )


def claim_folder(
    folder,
    recipe,
    overwrite=False,
    kind="training",
    structure=None,
    pretrained_sha256=None,
    images_sha256=None,
):
    """Makes or checks the folder of a run.

    Args:
        folder: `str` or `Path`.
        recipe: `Recipe` of the run, or `SearchRecipe` of a search.
        overwrite: delete a finished run, or one of another recipe. An unfinished one of the same recipe is continued
            all the same.
        kind: `"training"` or `"search"`: what the run is, of which a recipe may serve both.
        structure: `Structure` of the run's auxiliary, kept in the folder; `None` if it has none, or is a search.
        pretrained_sha256: of the file of pretrained weights, `None` if there is none.
        images_sha256: of the images that are trained on and validated; not compared if `None`.

    Returns:
        `Path` of the folder, with the recipe in it.

    Raises:
        UserError: if it holds a finished run, one of another recipe, structure, file of weights or kind, of other
            images, or anything else.
        OSError: if it cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"The output folder must be a folder. Received: `{folder}`, a file")
    if folder.exists() and not _may_hold_run(folder):
        raise UserError(f"`{folder}` is not empty and holds no run; nothing there is overwritten.")
    recipe_file = folder / RECIPE_FILE
    if recipe_file.exists():
        marker, is_finished = read_json(folder / MARKER_FILE), (folder / METRICS_FILE).exists()
        kept_kind = marker.get("kind", "training")
        other = None
        if kept_kind != kind:
            other = f"kind, a {kept_kind}"
        elif not _is_of(recipe, recipe_file):
            other = "recipe"
        elif structure is not None and (folder / STRUCTURE_FILE).exists():
            other = None if Structure.read(folder / STRUCTURE_FILE) == structure else "structure of the auxiliary"
        if other is None and marker.get("pretrained_sha256", pretrained_sha256) != pretrained_sha256:
            other = "file of pretrained weights"
        if other is None and images_sha256 not in (None, marker.get("images_sha256", images_sha256)):
            other = "set of images"
        if overwrite and (is_finished or other):
            _delete_run(folder)
        elif other:
            raise UserError(f"`{folder}` holds a run of another {other}; choose another folder or give --overwrite.")
        elif is_finished:
            raise UserError(f"`{folder}` holds a finished run; choose another folder or give --overwrite.")
    folder.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(folder)
    marker = {
        "auxzoo": auxzoo.__version__,
        "kind": kind,
        "pretrained_sha256": pretrained_sha256,
        "images_sha256": images_sha256,
    }
    write_json(folder / MARKER_FILE, marker)
    try:
        with written_aside(recipe_file) as temporary:
            recipe.save(temporary)
        if structure is not None:
            structure.save(folder / STRUCTURE_FILE)
    except BaseException:
        if not recipe_file.exists():
            (folder / MARKER_FILE).unlink()
        raise
    return folder


def _is_of(recipe, file):
    """Returns whether a kept recipe asks for the same training: where data, weights and structure lie may differ."""
    try:
        kept = type(recipe).parse(read_settings(file), f"The recipe `{file}`")
    except UserError:  # of another version, or changed by hand
        return False
    return kept.without_places() == recipe.without_places()


def _delete_run(folder):
    """Deletes all that a run wrote; cut off in between, what is left is an unfinished run of the same recipe."""
    (folder / METRICS_FILE).unlink(missing_ok=True)  # first: without it the run is unfinished
    for name in _OWN_FOLDERS:
        if (folder / name).exists():
            shutil.rmtree(folder / name)
    for name in (*_OWN_FILES, MARKER_FILE):
        (folder / name).unlink(missing_ok=True)


def _remove_leftovers(folder):
    """Removes what a killed run had begun to write aside; only where `_may_hold_run` said that nothing else can be."""
    for path in list(folder.iterdir()):
        if any(_is_leftover(path, name) for name in (*_OWN_FILES, MARKER_FILE)):
            path.unlink()


def _is_leftover(path, name):
    """Returns whether a path is a file that `written_aside` had begun to write in the place of one called `name`."""
    stem, _, suffix = name.partition(".")
    pattern = rf"\.{re.escape(stem)}\.[0-9a-f]{{8}}\.{re.escape(suffix)}"
    return re.fullmatch(pattern, path.name) is not None and path.is_file()
