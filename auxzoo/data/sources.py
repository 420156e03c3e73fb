"""Where images come from: the packaged sample, a `tensorflow_datasets` name, or a folder of pictures."""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import os
import re
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import tensorflow as tf

from auxzoo.data.image_set import ImageSet, pixels_of
from auxzoo.data.sample_files import read_sample
from auxzoo.data.targets import Target, has_truth
from auxzoo.errors import UserError
from auxzoo.metrics import MISSING_CLASS
from auxzoo.tasks import Task

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
TRUTH_SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff", ".npy")
PICTURES_FOLDER = "images"
# Pictures of one size are kept decoded up to here; beyond it, or of several sizes, encoded.
LARGEST_DECODED_BYTES = 2 * 2**30
# Of a folder without `train` and `test` folders.
FOLDER_TEST_SHARE = 0.2


def open_images(source, split="train", data_dir=None, skip_broken=False, download=False, targets=None):
    """Returns the images of a source, labelled or with the truth of other tasks.

    Every picture and mask is decoded once, so a broken one is found now and not in the middle of a training.

    With `targets`, a folder has pictures and one folder a target beside them: `PATH/SPLIT/images/NAME.jpg` and
    `PATH/SPLIT/FEATURE/NAME.png`, or the same without `SPLIT`. The truth is a picture file of one value a pixel, the
    index where it has a palette, of 8 or 16 bits, or a NumPy file (`NAME.npy`). Where a task has no labels, they are
    the lines of `PATH/FEATURE.txt`; where it has no colours, they are those of the palette. Of a `tensorflow_datasets`
    set the truth is a feature, and so are the labels if it names them. Truth stays decoded in memory.

    Of a folder that is not divided, the SHA-256 of `CLASS/FILENAME`, read as a number from 0 to 1, tells where a
    picture belongs: below 0.2 to the test split, else to the training split. So every command divides the folder
    alike, and a picture that is added or removed moves no other. Only where that leaves a side empty, which is
    likely in a folder of a few pictures alone, a picture is chosen by its rank:

    - of a class of two or more pictures that would all be test, the one of the largest number trains (of a
      folder in which every class has a single picture: of the folder);
    - if no picture of the folder would be test, the one of the smallest number is, of those whose class has
      another.

    Such a picture goes back to its own side as soon as another one fills the gap.

    Args:
        source: `"sample"` (packaged: 10,000 + 2,000 of Fashion-MNIST), `"tfds:NAME"` (any
            `tensorflow_datasets` set with an image and a label) or `"folder:PATH"`: `PATH/train/CLASS/*` and
            `PATH/test/CLASS/*`, or `PATH/CLASS/*`, of which about a fifth is the test split.
            Classes are the folders' names, sorted. JPEG, PNG, BMP, GIF, turned as their EXIF data tell.
        split: `"train"` or `"test"`, and whatever else a source has.
        data_dir: folder of prepared `tensorflow_datasets`; their own default if `None`.
        skip_broken: leave pictures out that cannot be decoded, and name them in `skipped`.
        download: let `tensorflow_datasets` fetch and prepare a set that is not there.
        targets: list of `Target`, what there is the truth of; one class an image if `None`.

    Returns:
        `ImageSet`.

    Raises:
        UserError: if the source, split or folder is not there or empty, a picture or mask is broken, a picture has no
            mask or one of another size, a class is none of the labels, no pixel of a whole set has truth, or a set
            cannot be fetched or read; each is named.

    Example:
        >>> open_images("sample", "test").size
        2000
    """
    kind, _, rest = source.partition(":")
    targets = _checked(targets)
    if source == "sample":
        if targets is not None:
            raise UserError("`targets` of the sample must be None: it has one class an image.")
        images, classes, labels = read_sample(split)
        return ImageSet.from_arrays(images, classes, labels, name=f"sample/{split}")
    if kind == "tfds" and rest:
        return _open_tfds(rest, split, data_dir, skip_broken, download, targets)
    if kind == "folder" and rest:
        folder = Path(rest).expanduser()
        if targets is not None:
            return _open_pairs(folder, split, skip_broken, targets)
        return _open_folder(folder, split, skip_broken)
    raise UserError(f"`source` must be sample, tfds:NAME or folder:PATH. Received: source={source!r}")


def read_image(path):
    """Returns a picture file as uint8 `[height, width, 3]`, turned as its EXIF data tell.

    Raises:
        UserError: if it is missing or no picture.
    """
    try:
        return pixels_of(str(path))
    except (tf.errors.OpError, OSError) as error:
        raise UserError(f"`{path}` is not a readable picture: {_first_line(error)}") from None


def _checked(targets):
    """Returns targets as a list, or `None`."""
    if targets is None:
        return None
    if not isinstance(targets, (list, tuple)) or not targets or not all(isinstance(one, Target) for one in targets):
        raise UserError(f"`targets` must be a list of one Target or more, or None. Received: targets={targets!r}")
    names = [target.task.name for target in targets]
    if len(set(names)) != len(names):
        raise UserError(f"`targets` must have a name each. Received: {names}")
    return list(targets)


def _open_tfds(name, split, data_dir, skip_broken, download, targets):
    os.environ.setdefault("TFDS_DISABLE_PROGRESS_BAR", "1")
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    directory = data_dir or tfds.core.constants.DATA_DIR
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except Exception as error:  # of a version that is not there, or damaged files, it raises what its readers do
        raise UserError(
            f"`tfds:{name}` is neither known to tensorflow_datasets nor prepared in `{directory}`: {_first_line(error)}"
        ) from None
    if not builder.is_prepared():
        if not download:
            raise UserError(
                f"`tfds:{name}` is not prepared in `{directory}`. Give --data-dir, or --download to fetch it."
            )
        try:
            builder.download_and_prepare()
        except Exception as error:  # the set's own script may raise anything: no network, package or disk, a checksum
            raise UserError(
                f"`tfds:{name}` could not be fetched and prepared in `{directory}`: "
                f"{type(error).__name__}: {_first_line(error)}"
            ) from error
    if split not in builder.info.splits:
        raise UserError(f"`split` of tfds:{name} must be one of {', '.join(builder.info.splits)}. Received: {split!r}")
    features = dict(builder.info.features or {})
    if targets is None:
        if not isinstance(features.get("label"), tfds.features.ClassLabel):
            raise UserError(
                f"`tfds:{name}` must have an image and a label, or `targets` must say what else. "
                f"Received: {', '.join(features)}"
            )
        targets = [Target(Task("classification", "classification"), feature="label")]
    for wanted in ("image", *(target.source for target in targets)):
        if wanted not in features:
            raise UserError(f"`tfds:{name}` must have {wanted!r}. Received: {', '.join(features)}")
    targets = [_labelled(target, _class_names(features[target.source])) for target in targets]
    try:
        with _quiet_absl():
            dataset = builder.as_dataset(
                split=split, decoders={"image": tfds.decode.SkipDecoding()}, shuffle_files=False
            )
        examples = list(dataset.as_numpy_iterator())
    except (tf.errors.OpError, OSError) as error:
        raise UserError(
            f"`tfds:{name}` in `{directory}` is damaged, its split {split!r} cannot be read: {_first_line(error)}. "
            "Prepare it again."
        ) from None
    return _image_set(
        f"tfds:{name}/{split}",
        records=[example["image"] for example in examples],
        names=[f"image {place}" for place in range(len(examples))],
        targets=targets,
        truth_of=lambda target, place: examples[place][target.source],
        skip_broken=skip_broken,
    )


@contextlib.contextmanager
def _quiet_absl():
    """Keeps warnings of tensorflow_datasets for its own developers, of names that it deprecates and uses, off."""
    from absl import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _class_names(feature):
    """Returns what a feature of a set calls its classes: numbers where it knows how many alone, nothing where neither.

    `ClassLabel` and `LabeledImage` have both, and fail on the names where neither was given.
    """
    return feature.names if getattr(feature, "num_classes", None) else ()


def _labelled(target, labels, colours=()):
    """Returns a target whose task has labels and colours of its own, or else these.

    Sets name what is void too, as a rule at the end: there it is no class.

    Raises:
        UserError: if neither has names for its classes.
    """
    task = target.task
    if task.kind == "regression":
        return target
    count = len(labels)
    while count and count - 1 in target.void:
        count -= 1
    labels = labels[:count]
    if not (task.labels or labels):
        raise UserError(f"`labels` of task {task.name!r} must name its classes. Received: none")
    labels = task.labels or tuple(labels)
    colours = task.colours or tuple(colours)[: len(labels)]
    if len(colours) != len(labels):
        colours = ()
    return dataclasses.replace(target, task=dataclasses.replace(task, labels=labels, colours=colours))


def _open_pairs(folder, split, skip_broken, targets):
    """Opens a folder of pictures with a folder of truth a target beside them."""
    if not folder.is_dir():
        raise UserError(f"`folder:` must be followed by an existing folder. Received: `{folder}`")
    divided = not (folder / PICTURES_FOLDER).is_dir()
    if divided and not (folder / split / PICTURES_FOLDER).is_dir():
        raise UserError(
            f"`{folder}` must hold `{PICTURES_FOLDER}`, or `{split}/{PICTURES_FOLDER}`. Received: split={split!r}"
        )
    if not divided and split not in ("train", "test"):
        raise UserError(f'`split` must be "train" or "test". Received: split={split!r}')
    base = folder / split if divided else folder
    paths = _pictures(base / PICTURES_FOLDER)
    files = {target.source: _truth_files(base / target.source, paths) for target in targets}
    targets = [
        _labelled(target, read_labels(folder / f"{target.source}.txt"), _palette(files[target.source]))
        for target in targets
    ]
    images = _image_set(
        f"folder:{folder}/{split}" if divided else f"folder:{folder}",
        source=f"folder:{base.resolve()}",
        records=[str(path) for path in paths],
        names=[str(path) for path in paths],
        targets=targets,
        truth_of=lambda target, place: _read_truth(files[target.source][place]),
        skip_broken=skip_broken,
    )
    if divided:
        return images
    if images.size < 2:
        raise UserError(f"`{folder}` must hold at least 2 pictures, to be divided. Received: {images.size}")
    is_test = _are_test([paths[index] for index in images.indices], np.zeros(images.size, np.int64))
    return images.part(np.flatnonzero(is_test == (split == "test")), split)


# Start of Pillow's raw mode of a grey picture of few bits -> factor by which Pillow multiplies its values.
_SPREAD = {"L;2": 85, "L;4": 17}


def _truth_files(folder, pictures):
    """Returns the file of truth of every picture, the one of its name."""
    try:
        files = sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in TRUTH_SUFFIXES)
    except OSError as error:
        raise UserError(f"`{folder}` must hold the truth of every picture. Received: {error.strerror}") from None
    stems = {}
    for picture in pictures:
        if (other := stems.setdefault(picture.stem, picture)) is not picture:
            raise UserError(
                f"Pictures must have names of their own, as their truth has. Received: `{other}`, `{picture}`"
            )
    entries = {}
    for entry in files:
        if (other := entries.setdefault(entry.stem, entry)) is not entry:
            raise UserError(f"`{folder}` must hold one file a picture. Received: `{other.name}` and `{entry.name}`")
    for picture in pictures:
        if picture.stem not in entries:
            raise UserError(
                f"`{folder}` must hold the truth of every picture ({', '.join(TRUTH_SUFFIXES)}). "
                f"Received: none of `{picture}`"
            )
    return [entries[picture.stem] for picture in pictures]


def _read_truth(path):
    """Returns a file of truth as an array: of a picture with a palette the indices, of a grey one the values it stores.

    It is turned by EXIF data of its own, as its picture is by those of the picture.

    Raises:
        OSError: if it cannot be read.
    """
    try:
        if path.suffix.lower() == ".npy":
            return np.load(path, allow_pickle=False)
        with PIL.Image.open(path) as picture:
            # Pillow spreads the values of 2 or 4 bits over those of 8; of PNG and TIFF it says so here.
            stored = picture.tile[0][3] if picture.format in ("PNG", "TIFF") and picture.tile else ""
            stored = stored if isinstance(stored, str) else str(stored[0])
            values = np.asarray(PIL.ImageOps.exif_transpose(picture))
            if stored[:3] in _SPREAD:
                return values // _SPREAD[stored[:3]]
            return values.astype(np.uint8) if values.dtype == bool else values
    except Exception as error:  # of a damaged file the readers raise whatever it was that they stumbled over
        raise OSError(f"`{path}`: {_first_line(error)}") from None


def _palette(paths):
    """Returns the colours of the first palette among pictures, red, green and blue each; none if there is none."""
    for path in paths:
        try:
            with PIL.Image.open(path) as picture:
                values = picture.getpalette("RGB") if picture.mode == "P" else []
        except Exception:  # no picture, or as in `_read_truth`, which tells of it when its turn comes
            continue
        if values:
            return tuple(zip(values[::3], values[1::3], values[2::3], strict=True))
    return ()


def read_labels(path):
    """Returns the lines of a file of names; none if there is no such file.

    Raises:
        UserError: if it cannot be read, or a line between two names is blank: the classes are numbered by line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines() if path.exists() else []
    except (OSError, ValueError) as error:
        raise UserError(f"`{path}` cannot be read as names, one a line: {error}") from None
    labels = tuple(line.strip() for line in lines)
    if "" in labels:
        raise UserError(f"`{path}` must have a name in every line. Received: line {labels.index('') + 1} is blank")
    return labels


def _open_folder(folder, split, skip_broken):
    if not folder.is_dir():
        raise UserError(f"`folder:` must be followed by an existing folder. Received: `{folder}`")
    # Without `test` too: other splits may be there, and a class called `train` holds pictures, not folders.
    train = folder / "train"
    divided = train.is_dir() and ((folder / "test").is_dir() or bool(_folders_in(train)))
    if divided and not (folder / split).is_dir():
        raise UserError(f"`split` must be a folder in `{folder}`. Received: split={split!r}")
    if not divided and split not in ("train", "test"):
        raise UserError(f'`split` must be "train" or "test". Received: split={split!r}')
    labels = _class_folders(folder / "train" if divided else folder)
    base = folder / split if divided else folder
    unknown = sorted(set(_class_folders(base)) - set(labels))
    if unknown:
        raise UserError(f"`{base}` has classes that the training split lacks: {', '.join(unknown)}")
    paths, classes = [], []
    for label_index, label in enumerate(labels):
        files = _pictures(base / label)
        paths += files
        classes += [label_index] * len(files)
    images = _image_set(
        f"folder:{folder}/{split}" if divided else f"folder:{folder}",
        source=f"folder:{base.resolve()}",
        records=[str(path) for path in paths],
        names=[str(path) for path in paths],
        targets=[Target(Task("classification", "classification", labels))],
        truth_of=lambda target, place: np.int64(classes[place]),
        skip_broken=skip_broken,
    )
    if divided:
        return images
    if images.size < 2:
        raise UserError(f"`{folder}` must hold at least 2 pictures, to be divided. Received: {images.size}")
    is_test = _are_test([paths[index] for index in images.indices], images.classes)
    return images.part(np.flatnonzero(is_test == (split == "test")), split)


def _are_test(paths, classes):
    """Tells which pictures of an undivided folder are its test split; the rule is in `open_images`.

    Args:
        paths: list of `Path`, at least two.
        classes: whole numbers, one a path.

    Returns:
        `bool` array, neither all true nor all false.
    """
    numbers = np.array([_number(path) for path in paths])
    is_test = numbers < FOLDER_TEST_SHARE
    is_alone = np.bincount(classes)[classes] == 1
    for label in np.unique(classes):
        of_class = np.flatnonzero(classes == label)
        if len(of_class) > 1 and is_test[of_class].all():
            is_test[of_class[np.argmax(numbers[of_class])]] = False
    if is_test.all():
        is_test[np.argmax(numbers)] = False
    if not is_test.any():
        is_test[np.argmin(numbers + is_alone)] = True
    return is_test


def _number(path):
    """Returns the SHA-256 of `CLASS/FILENAME` as a number from 0 to 1."""
    digest = hashlib.sha256(os.fsencode(f"{path.parent.name}/{path.name}")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _folders_in(folder):
    """Returns the names of the folders in a folder, sorted, without hidden ones."""
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"`{folder}` cannot be read: {error.strerror}") from None


def _class_folders(folder):
    names = _folders_in(folder)
    if not names:
        raise UserError(f"`{folder}` must hold a folder a class. Received: none")
    return tuple(names)


def _pictures(folder):
    """Returns the picture files of one class, sorted."""
    try:
        entries = sorted(folder.iterdir()) if folder.exists() else []
    except OSError as error:
        raise UserError(f"`{folder}` cannot be read: {error.strerror}") from None
    files = [entry for entry in entries if entry.suffix.lower() in SUFFIXES and not entry.name.startswith(".")]
    if not files:
        raise UserError(f"`{folder}` must hold at least one picture ({', '.join(SUFFIXES)}). Received: none")
    return files


def _image_set(name, records, names, targets, truth_of, skip_broken, source=None):
    """Decodes every picture once, to find the broken ones, and keeps them decoded where that is small.

    Args:
        name: `str`, of the set.
        records: list of encoded pictures, or of paths.
        names: list of `str`, what messages call them.
        targets: list of `Target`.
        truth_of: function of a target and a place to what is to be read by the target; an `OSError` tells that it is
            broken.
        skip_broken: as of `open_images`.
        source: as of `ImageSet`.
    """
    if not records:
        raise UserError(f"{name} must hold at least one image. Received: none")

    is_labelled = [target.task.kind for target in targets] == ["classification"]

    def try_to_read(place):
        try:
            picture = pixels_of(records[place])
            truths = [truth_of(target, place) for target in targets]
        except (tf.errors.OpError, OSError) as error:
            return None, None, _first_line(error)
        where = f"{name}: {names[place]}"
        truths = [_read(target, truth, picture, where) for target, truth in zip(targets, truths, strict=True)]
        if is_labelled and truths[0] == MISSING_CLASS:
            raise UserError(f"{where} must have a class. Received: {MISSING_CLASS}")
        return picture, truths, ""

    good, decoded, skipped, sizes, total_bytes = [], [], [], [], 0
    truths_of_good = []
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for place, (picture, truths, problem) in enumerate(pool.map(try_to_read, range(len(records)))):
            if picture is None:
                if not skip_broken:
                    raise UserError(
                        f"{name}: {names[place]} is not a readable picture: {problem}. "
                        "Remove it, or give --skip-broken."
                    )
                skipped.append(names[place])
                continue
            good.append(place)
            truths_of_good.append(truths)
            sizes.append(picture.shape[:2])
            total_bytes += picture.nbytes
            if sizes[-1] == sizes[0] and len(decoded) == len(good) - 1 and total_bytes <= LARGEST_DECODED_BYTES:
                decoded.append(picture)
            else:
                decoded.clear()
    if not good:
        raise UserError(f"{name}: none of {len(records)} pictures is readable.")
    if len(decoded) == len(good):
        kept, sizes = np.stack(decoded), None
    else:
        kept, sizes = np.empty(len(good), dtype=object), np.asarray(sizes)
        kept[:] = [records[place] for place in good]
    return ImageSet(
        name,
        records=kept,
        tasks=tuple(target.task for target in targets),
        targets={
            target.task.name: _together(target.task, [truths[index] for truths in truths_of_good], name, names[good[0]])
            for index, target in enumerate(targets)
        },
        indices=np.asarray(good, dtype=np.int64),
        skipped=tuple(skipped),
        source=source or name,
        sizes=sizes,
    )


def _read(target, values, picture, where):
    """Returns the truth of one picture; raises a `UserError` that names it if that is of another size."""
    truth = target.read(values, where)
    if target.task.is_dense and truth.shape != picture.shape[:2]:
        raise UserError(
            f"{where}: {target.task.name!r} must be of the picture's size, {picture.shape[0]}x{picture.shape[1]}. "
            f"Received: {truth.shape[0]}x{truth.shape[1]}"
        )
    return truth


def _together(task, truths, name, first):
    """Returns the truth of all pictures as `ImageSet` keeps it; the set and its first picture are named in messages."""
    if not task.is_dense:
        return np.asarray(truths, np.int64)
    if not any(has_truth(truth, task).any() for truth in truths):
        raise UserError(f"{name}: no pixel of {len(truths)} pictures, from {first} on, has truth for {task.name!r}.")
    if len({truth.shape for truth in truths}) == 1:
        return np.stack(truths)
    kept = np.empty(len(truths), dtype=object)
    kept[:] = truths
    return kept


def _first_line(error):
    # TensorFlow names the operation before and behind what is wrong.
    text = re.sub(r"\{\{[^}]*\}\}|\[Op:\w+\]", "", getattr(error, "message", None) or str(error))
    lines = text.strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
