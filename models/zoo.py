"""The published zoo: its shelf `published/`, one folder an entry, and an index with checksums."""

import dataclasses
import os
import shutil
import zipfile
from pathlib import Path

from auxzoo.errors import UserError, first_line
from auxzoo.files import read_json, sha256, write_json, written_aside

SHELF = Path(__file__).parent / "published"
LICENCE = "Apache-2.0"  # of the weights of every published entry, like the code
INDEX_FILE = "index.json"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.weights.h5"
METRICS_FILE = "metrics.json"  # of a run written last: it marks it as finished
RECIPE_FILE = "recipe.yaml"
STRUCTURE_FILE = "structure.json"
# What belongs to an entry; the structure is there if it was trained with an auxiliary.
ENTRY_FILES = (CONFIG_FILE, WEIGHTS_FILE, STRUCTURE_FILE, METRICS_FILE, RECIPE_FILE, "README.md")


def read_index(shelf=SHELF):
    """Returns the index: entry name to `{"files": {file: {"bytes": ..., "sha256": ...}}, "summary": ...}`."""
    return read_json(Path(shelf) / INDEX_FILE)


def entry_folder(name, shelf=SHELF):
    """Returns the folder of an entry, of a published one with every byte checked against the index.

    Args:
        name: name of a published entry, or the path of a folder of one (a pulled entry or a finished run); a `Path` is
            one where there is such a folder.

    Raises:
        UserError: if there is no such entry or folder, a published file is missing or changed, or a folder of other
            weights has the name of a published entry.
    """
    shelf, folder = Path(shelf), Path(name)
    index = read_index(shelf)
    if str(name) in index:
        files = index[str(name)]["files"]
        own = folder / WEIGHTS_FILE
        if isinstance(name, Path) and own.is_file():
            return folder
        if own.is_file() and sha256(own) != files[WEIGHTS_FILE]["sha256"]:
            raise UserError(
                "`name` must tell which network is meant, since a folder of other weights has a published one's name: "
                f"give the folder as {os.path.join(os.curdir, folder)!r}, or rename it. Received: {str(name)!r}"
            )
        check_files(shelf / str(name), files)
        return shelf / str(name)
    if (folder / CONFIG_FILE).is_file():
        return folder
    raise UserError(
        f"`name` must be one of {', '.join(index)}, or a folder with a {CONFIG_FILE}. Received: {str(name)!r}"
    )


def check_files(folder, files):
    """Raises a `UserError` that names the first file of an entry that is missing or changed."""
    for file, expected in files.items():
        path = folder / file
        if not path.is_file():
            raise UserError(f"`{path}` is missing.")
        received = sha256(path)
        if received != expected["sha256"]:
            raise UserError(f"`{path}` was changed: its SHA-256 must be {expected['sha256']}. Received: {received}")


def pull(name, folder, shelf=SHELF):
    """Copies a published entry, checked, to a new folder.

    Args:
        name: name of the entry.
        folder: folder to put it in; `folder/name` must not exist.

    Returns:
        `Path` of `folder/name`.

    Raises:
        UserError: if there is no such entry, a byte of it was changed, or the folder exists.
    """
    index = read_index(shelf)
    if name not in index:
        raise UserError(f"`name` must be one of {', '.join(index)}. Received: {name!r}")
    source = entry_folder(name, shelf)
    target = Path(folder) / name
    if target.exists():
        raise UserError(f"`{target}` exists; nothing there is overwritten. Choose another folder.")
    with written_aside(target) as temporary:
        temporary.mkdir()
        for file in index[name]["files"]:
            shutil.copyfile(source / file, temporary / file)
        check_files(temporary, index[name]["files"])
    return target


def licence_of(name, shelf=SHELF):
    """Returns the licence of the weights of a published entry, or of a folder of one that was pulled; else `None`.

    Args:
        name: as of `entry_folder`.
    """
    weights = Path(name) / WEIGHTS_FILE
    index = read_index(shelf)
    published = {entry["files"][WEIGHTS_FILE]["sha256"] for entry in index.values()}
    if weights.is_file():
        return LICENCE if sha256(weights) in published else None
    return LICENCE if str(name) in index else None


def load(name, num_classes=None, labels=(), preprocessing_fit=None, shelf=SHELF):
    """Returns a compact network with its published weights.

    Args:
        name: name of a published entry (`auxzoo list` shows them), a folder (a pulled entry or a finished run), or the
            `.keras` file of a network.
        num_classes: `int`, to put a fresh head of so many logits on the pretrained trunk; the published head
            if `None`.
        labels: names of the classes of the fresh head, or none.
        preprocessing_fit: `"resize"` or `"pad"`, how pictures of another size are fitted; as published if `None`.

    Returns:
        `Network`, with its description; of a `.keras` file the model in it, with its own if it has one.

    Raises:
        UserError: if there is no such entry, a byte of it was changed, or the weights are of another network; or an
            argument is given that is not for a `.keras` file.

    Example:
        >>> compact = auxzoo.load("resnet18_025_cifar10", num_classes=5)
        >>> compact.output.shape
        (None, 5)
    """
    import keras

    from .description import Description, Network, described

    if str(name).endswith(".keras"):
        if num_classes is not None or labels or preprocessing_fit is not None:
            raise UserError("Only `name` may be given for a .keras file.")
        return load_keras_file(name)
    folder = entry_folder(name, shelf)
    config = read_json(folder / CONFIG_FILE)
    try:
        description = Description.from_dict(config["description"])
        network = Network.from_config({**config["network"], "description": config["description"]})
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        raise UserError(f"`{folder / CONFIG_FILE}` is not the configuration of a network: {error}") from None
    if preprocessing_fit is not None:
        preprocessing = dataclasses.replace(description.preprocessing, fit=preprocessing_fit)
        description = network.description = dataclasses.replace(description, preprocessing=preprocessing)
    try:
        network.load_weights(folder / WEIGHTS_FILE)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"`{folder / WEIGHTS_FILE}` does not fit {network.name!r}: {error}") from None
    if num_classes is None:
        if labels:
            raise UserError("`labels` may be given only with `num_classes`.")
        return network

    from .arguments import check_classes

    check_classes(num_classes, labels)
    if not description.is_classifier:
        raise UserError(
            f"`num_classes` may be given only for a classifier. Received: {folder.name}, {description.kinds}"
        )
    head = network.layers[-1]
    logits = keras.layers.Dense(num_classes, name=head.name)(head.input)
    task = dataclasses.replace(description.tasks[0], labels=tuple(labels), colours=())
    fresh = dataclasses.replace(description, tasks=(task,))
    return described(network.input, logits, fresh, network.name)


def load_keras_file(path):
    """Returns the network in a `.keras` file, with its description if it is one of ours.

    Raises:
        UserError: if the file is missing, damaged, or holds layers that Keras does not know.
    """
    import keras

    # Makes the classes of described networks and of gates known to Keras.
    from auxzoo.auxiliary import gates  # noqa: F401

    from . import description  # noqa: F401

    try:
        return keras.models.load_model(path, compile=False)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        # Keras puts the whole network's configuration before what is wrong, and the layer's behind it.
        reason = str(error).rpartition("Exception encountered: ")[2].partition(" Full object config")[0]
        raise UserError(f"`{path}` cannot be loaded: {first_line(error, reason)}") from None


def save_entry(network, folder, name):
    """Writes `config.json` and `model.weights.h5` of a compact network, each aside and renamed.

    Args:
        network: `Network`.
        folder: `Path`, made if it is missing.
        name: `str`, name of the entry.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = network.get_config()
    description = config.pop("description")
    with written_aside(folder / WEIGHTS_FILE) as temporary:
        network.save_weights(temporary)
    write_json(folder / CONFIG_FILE, {"name": name, "description": description, "network": config})


def index_entry(folder, summary):
    """Returns the row of the index for the files of an entry.

    Args:
        folder: `Path` of the entry.
        summary: `dict` of what `auxzoo list` shows.
    """
    files = {}
    for file in ENTRY_FILES:
        path = Path(folder) / file
        if path.is_file():
            files[file] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    return {"summary": summary, "files": files}
