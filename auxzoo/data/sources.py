"""Where images come from: the packaged sample, a `tensorflow_datasets` name, or a folder of pictures."""

import contextlib
import dataclasses
import hashlib
import itertools
import os
import re
import unicodedata
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import tensorflow as tf

from auxzoo.data.decoding import SUFFIXES, UNREAD, in_order, printable, read, reason_of
from auxzoo.data.image_set import LARGEST_DECODED_BYTES, ImageSet
from auxzoo.data.sample_files import read_sample
from auxzoo.data.targets import Target, has_truth
from auxzoo.errors import UserError
from auxzoo.metrics import MISSING_CLASS
from auxzoo.tasks import Task

TRUTH_SUFFIXES = (".png", ".bmp", ".gif", ".tif", ".tiff", ".npy")
PICTURES_FOLDER = "images"
_SPLIT_WORDS = {"train", "training", "test", "testing", "val", "valid", "validation"}
# Of a folder without `train` and `test` folders: how much of it is the test split, and what all of it is called.
FOLDER_TEST_SHARE = 0.2
WHOLE = "all"
_OTHER_SPLITS = "A recipe may set `data.test_split=null` and `data.validation_split=NAME`."


def open_images(source, split="train", data_dir=None, skip_broken=False, download=False, targets=None):
    """Returns the images of a source, labelled or with the truth of other tasks.

    Every picture and mask of the split is decoded once, so a broken one is found now, not in the middle of a training.

    With `targets`, a folder has pictures and one folder a target beside them: `PATH/SPLIT/images/NAME.jpg` and
    `PATH/SPLIT/FEATURE/NAME.png`, or the same without `SPLIT`. The truth is a picture file of one value a pixel, the
    index where it has a palette, of 8 or 16 bits, or a NumPy file (`NAME.npy`). Where a task has no labels, they are
    the lines of `PATH/FEATURE.txt`; where it has no colours, they are those of the palette. Of a `tensorflow_datasets`
    set the truth is a feature, and so are the labels if it names them. Truth stays decoded in memory.

    Of a folder that is not divided, the SHA-256 of `CLASS/FILENAME` (with the folders between, if any, in Unicode's
    composed form NFC), read as a number from 0 to 1, tells where a picture belongs: below 0.2 to the test split, else
    to the training split. So every command divides the folder alike, and a picture that is added or removed moves no
    other. Only where that leaves a side empty, which is likely in a folder of a few pictures alone, a picture is chosen
    by its rank:

    - of a class of two or more pictures that would all be test, the one of the largest number trains (of a
      folder in which every class has a single picture: of the folder);
    - if no picture of the folder would be test, the one of the smallest number is, of those whose class has
      another.

    Such a picture goes back to its own side as soon as another one fills the gap.

    Args:
        source: `"sample"` (packaged: 10,000 + 2,000 of Fashion-MNIST), `"tfds:NAME"` (any
            `tensorflow_datasets` set with an image and a label) or `"folder:PATH"`: `PATH/train/CLASS/*` and
            `PATH/test/CLASS/*`, or `PATH/CLASS/*`, of which about a fifth is the test split.
            Classes are the folders' names, sorted; only the training split must show each. Folders in a class's are
            looked through, what is hidden is passed over. JPEG, PNG, BMP, GIF, WebP, TIFF, turned as their EXIF data
            tell; a picture in another format, such as HEIC or raw, counts as a broken one.
        split: `"train"` or `"test"`, and whatever else a source has: of a folder that is not divided `"all"`, every
            picture; of a `tensorflow_datasets` set also a slice such as `"train[:80%]"`, the pictures that
            `tensorflow_datasets` gives for it.
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
        return read(str(path)).numpy()
    except OSError as error:
        raise UserError(f"`{printable(path)}` is not a readable picture: {error}") from None


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
            f"`tfds:{name}` is neither known to tensorflow_datasets nor prepared in `{directory}`: {reason_of(error)}"
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
                f"{type(error).__name__}: {reason_of(error)}"
            ) from error
    base, numbers = _slice_of(name, split, builder.info.splits)
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
                split=base,
                decoders=tfds.decode.PartialDecoding(
                    dict.fromkeys(["image", *(target.source for target in targets)], True),
                    decoders={"image": tfds.decode.SkipDecoding()},
                ),
                read_config=tfds.ReadConfig(add_tfds_id=numbers is not None),
                shuffle_files=False,
            )
        # A slice counts the examples file after file, but several files are read in turn.
        number_of = None if numbers is None else _numbering(builder.info.splits[base])
        examples = {
            index: example
            for index, example in enumerate(dataset.as_numpy_iterator())
            if numbers is None or number_of(example) in numbers
        }
    except (tf.errors.OpError, OSError) as error:
        raise UserError(
            f"`tfds:{name}` in `{directory}` is damaged, its split {split!r} cannot be read: {reason_of(error)}. "
            "Prepare it again."
        ) from None
    indices = list(examples)
    return _image_set(
        f"tfds:{name}/{split}",
        records=[example["image"] for example in examples.values()],
        names=[f"image {index}" for index in indices],
        targets=targets,
        truth_of=lambda target, place: examples[indices[place]][target.source],
        skip_broken=skip_broken,
        source=f"tfds:{name}/{base}",
        indices=indices,
    )


def _slice_of(name, split, splits):
    """Returns a split of a set, and the numbers of the examples in a slice of it, `None` for all.

    Args:
        name: of the set.
        split: `str`, a split or a slice of one, as `tensorflow_datasets` writes it.
        splits: those of the set, by name.

    Raises:
        UserError: if there is no such split, or it is a sum.
    """
    import tensorflow_datasets as tfds

    if split in splits:
        return split, None
    try:
        instructions, reason = tfds.core.ReadInstruction.from_spec(split).to_absolute(splits), ""
    except Exception as error:  # of what is no slice it raises this and that
        instructions, reason = [], f" ({str(error).splitlines()[-1].rstrip('.')})" if "[" in str(split) else ""
    if len(instructions) != 1:
        raise UserError(
            f"`split` of tfds:{name} must be one of {', '.join(splits)}, or a slice of one as in 'train[:80%]', no "
            f"sum. Received: split={split!r}{reason}. {_OTHER_SPLITS}"
        )
    (one,) = instructions
    size = splits[one.splitname].num_examples
    return one.splitname, range(one.from_ or 0, size if one.to is None else one.to)


def _numbering(split):
    """Returns a function of an example with its `tfds_id`, file and number in it, to its number in the split."""
    files = (os.path.basename(path) for path in split.filenames)
    starts = dict(zip(files, itertools.accumulate(split.shard_lengths, initial=0), strict=False))

    def number(example):
        file, _, number_in_file = example["tfds_id"].decode().rpartition("__")
        return starts[os.path.basename(file)] + int(number_in_file)

    return number


@contextlib.contextmanager
def _quiet_absl():
    """Keeps warnings of tensorflow_datasets for its own developers, of names that it deprecates and uses, off."""
    from absl import logging

    logger = tf.get_logger()
    verbosity, level = logging.get_verbosity(), logger.level
    logging.set_verbosity(logging.ERROR)
    logger.setLevel("ERROR")
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        logger.setLevel(level)


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
    labels = _without_void(labels, target)
    if not (task.labels or labels):
        raise UserError(f"`labels` of task {task.name!r} must name its classes. Received: none")
    labels = task.labels or tuple(labels)
    colours = task.colours or tuple(colours)[: len(labels)]
    if len(colours) != len(labels):
        colours = ()
    return dataclasses.replace(target, task=dataclasses.replace(task, labels=labels, colours=colours))


def _without_void(labels, target):
    """Returns names of classes without those at the end that are void."""
    count = len(labels)
    while count and count - 1 in target.void:
        count -= 1
    return labels[:count]


def _labelled_by_files(target, folder, files):
    """Returns a target with what a folder says of its classes: a file of text their names, a palette colours."""
    if target.task.kind == "regression":
        return target
    labels = () if target.task.labels else read_labels(folder / f"{target.source}.txt")
    count = len(target.task.labels or _without_void(labels, target))
    return _labelled(target, labels, _palette(files, count))


def _open_pairs(folder, split, skip_broken, targets):
    """Opens a folder of pictures with a folder of truth a target beside them."""
    _check_folder(folder)
    divided = not (folder / PICTURES_FOLDER).is_dir()
    if divided and not (folder / split / PICTURES_FOLDER).is_dir():
        raise UserError(
            f"`{folder}` must hold `{PICTURES_FOLDER}`, or `{split}/{PICTURES_FOLDER}`. Received: split={split!r}, "
            f"folders {_told(_folders_in(folder))}. {_OTHER_SPLITS}"
        )
    if not divided:
        _check_undivided(split)
    base = folder / split if divided else folder
    paths = [entry for entry in _entries_of(base / PICTURES_FOLDER) if _is_picture(entry)]
    _check_some(paths, base / PICTURES_FOLDER)
    files = {target.source: _truth_files(base / target.source, paths) for target in targets}
    targets = [_labelled_by_files(target, folder, files[target.source]) for target in targets]
    name, places = f"folder:{printable(folder)}/{split}", np.arange(len(paths))
    if not divided:
        names = [f"{PICTURES_FOLDER}/{path.name}" for path in paths]
        name, places = _part_of_undivided(folder, split, names, np.zeros(len(names), np.int64))
    return _image_set(
        name,
        source=f"folder:{base.resolve()}",
        records=[str(paths[place]) for place in places],
        names=[printable(paths[place]) for place in places],
        targets=targets,
        truth_of=lambda target, place: _read_truth(files[target.source][places[place]]),
        skip_broken=skip_broken,
        indices=places,
        truth_names=lambda target, place: printable(files[target.source][places[place]]),
    )


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
                f"`{folder}` must hold the truth of every picture, a file of the same name "
                f"({', '.join(picture.stem + suffix for suffix in TRUTH_SUFFIXES)}). Received: none of `{picture}`"
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
        raise OSError(f"`{path}`: {reason_of(error)}") from None


def _palette(paths, count):
    """Returns the colours of the first palette of so many among pictures, red, green and blue each; none if none has.

    Programs that make files small leave out what a picture's own pixels do not need.
    """
    for path in paths:
        try:
            with PIL.Image.open(path) as picture:
                values = picture.getpalette("RGB") if picture.mode == "P" else []
        except Exception:  # no picture, or as in `_read_truth`, which tells of it when its turn comes
            continue
        if values and len(values) >= 3 * count:
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
    """Opens a folder of class folders."""
    _check_folder(folder)
    divided = _is_divided(folder)
    if divided and not (folder / split).is_dir():
        raise UserError(
            f"`split` must be a folder in `{folder}`: {_told(_folders_in(folder))}. Received: split={split!r}. "
            f"{_OTHER_SPLITS}"
        )
    if not divided:
        _check_undivided(split)
        _check_not_splits(folder)
    first, base = folder / "train" if divided else folder, folder / split if divided else folder
    labels, folders = tuple(_class_folders(first)), _class_folders(base)
    unknown = sorted(set(folders) - set(labels))
    if unknown:
        raise UserError(f"`{base}` has classes that the training split lacks: {', '.join(unknown)}")
    pictures = {label: _pictures_under(folders[label]) if label in folders else [] for label in labels}
    if base == first and split != WHOLE:
        for label in labels:
            _check_some(pictures[label], folders[label])
    _check_some([path for paths in pictures.values() for path in paths], base)
    paths = [path for label in labels for path in pictures[label]]
    names = [f"{label}/{path.relative_to(folders[label]).as_posix()}" for label in labels for path in pictures[label]]
    classes = np.repeat(np.arange(len(labels)), [len(of_class) for of_class in pictures.values()])
    name, places = f"folder:{printable(folder)}/{split}", np.arange(len(paths))
    if not divided:
        name, places = _part_of_undivided(folder, split, names, classes)
    return _image_set(
        name,
        source=f"folder:{base.resolve()}",
        records=[str(paths[place]) for place in places],
        names=[printable(paths[place]) for place in places],
        targets=[Target(Task("classification", "classification", labels))],
        truth_of=lambda target, place: classes[places[place]],
        skip_broken=skip_broken,
        indices=places,
    )


def _check_folder(folder):
    if not folder.is_dir():
        raise UserError(f"`folder:` must be followed by an existing folder. Received: `{folder}`")


def _check_undivided(split):
    if split not in ("train", "test", WHOLE):
        raise UserError(
            f'`split` of a folder that is not divided must be "train", "test" or, for both, "{WHOLE}". '
            f"Received: split={split!r}. {_OTHER_SPLITS}"
        )


def _told(names):
    return ", ".join(names) or "none"


def _part_of_undivided(folder, split, names, classes):
    """Returns what a split of a folder that is not divided is called, and the places of its pictures.

    Args:
        folder: `Path`.
        split: `str`.
        names: what `_are_test` takes, one a picture of the folder, broken ones too.
        classes: whole numbers, one a picture.
    """
    if split == WHOLE:
        return f"folder:{printable(folder)}", np.arange(len(names))
    if len(names) < 2:
        raise UserError(f"folder:{folder} must hold at least 2 pictures, to be divided. Received: {len(names)}")
    return f"folder:{printable(folder)} ({split})", np.flatnonzero(_are_test(names, classes) == (split == "test"))


def _are_test(names, classes):
    """Tells which pictures of an undivided folder are its test split; the rule is in `open_images`.

    Args:
        names: list of `str`, `CLASS/FILENAME` each, at least two.
        classes: whole numbers, one a name.

    Returns:
        `bool` array, neither all true nor all false.
    """
    numbers = np.array([_number(name) for name in names])
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


def _number(name):
    """Returns the SHA-256 of `CLASS/FILENAME` as a number from 0 to 1."""
    digest = hashlib.sha256(_composed(name).encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _composed(name):
    """Returns a name in the one form that is sorted and hashed: macOS takes letters and their accents apart."""
    return unicodedata.normalize("NFC", name)


def _entries_of(folder):
    """Returns what is in a folder, sorted, without hidden entries; nothing if there is no such folder."""
    try:
        entries = list(folder.iterdir()) if folder.exists() else []
    except OSError as error:
        raise UserError(f"`{printable(folder)}` cannot be read: {error.strerror}") from None
    shown = [entry for entry in entries if not entry.name.startswith(".")]
    return sorted(shown, key=lambda entry: (_composed(entry.name), entry.name))


def _folders_in(folder):
    """Returns the names of the folders in a folder, sorted, without hidden ones."""
    return [printable(entry.name) for entry in _entries_of(folder) if entry.is_dir()]


def _is_divided(folder):
    """Returns whether a folder of class folders holds those of splits; raises a `UserError` if nobody can tell."""
    train = folder / "train"
    if not train.is_dir():
        return False
    if (folder / "test").is_dir():
        return True
    # Other splits may be there, which hold folders alone, as `train` does then. Or it is a class: all hold pictures.
    others = [entry for entry in _entries_of(folder) if entry.is_dir()]
    with_pictures = [entry.name for entry in others if any(_is_picture(path) for path in _entries_of(entry))]
    if not _folders_in(train) or len(with_pictures) == len(others):
        return False
    if with_pictures:
        raise UserError(
            f"`{printable(folder)}` must hold a folder a split, or a folder a class: `train` holds folders. "
            f"Received: pictures in {_told(map(printable, with_pictures))}, and none in others"
        )
    return True


def _check_not_splits(folder):
    """Raises a `UserError` where folders of classes are called like splits, and hold folders alone, as splits do."""
    found = [
        printable(entry.name)
        for entry in _entries_of(folder)
        if entry.is_dir()
        and _SPLIT_WORDS & set(re.split(r"[^a-z]+", entry.name.casefold()))
        and not any(_is_picture(path) for path in _entries_of(entry))
    ]
    if len(found) > 1:
        raise UserError(
            f"`{printable(folder)}` must hold `train` and `test`, called so, or a folder a class. "
            f"Received: {_told(found)}, which hold folders and no pictures"
        )


def _class_folders(folder):
    """Returns the folders of classes by their names, sorted."""
    folders = {}
    for entry in _entries_of(folder):
        if entry.is_dir():
            label = _composed(entry.name)
            if printable(label) != label:
                raise UserError(f"`{printable(entry)}` must have a name in UTF-8, as a class has.")
            if label in folders:
                raise UserError(f"`{folder}` must hold one folder a class. Received: {label!r} twice, in two encodings")
            folders[label] = entry
    if not folders:
        raise UserError(f"`{folder}` must hold a folder a class. Received: none")
    return folders


def _pictures_under(folder):
    """Returns the picture files in a folder and in those in it, sorted; links to folders are not followed."""
    paths = []
    for entry in _entries_of(folder):
        if not entry.is_dir():
            paths += [entry] if _is_picture(entry) else []
        elif not entry.is_symlink():
            paths += _pictures_under(entry)
    return paths


def _is_picture(path):
    return path.suffix.lower() in (*SUFFIXES, *UNREAD)


def _check_some(pictures, folder):
    if not pictures:
        raise UserError(f"`{printable(folder)}` must hold at least one picture ({', '.join(SUFFIXES)}). Received: none")


def _image_set(name, records, names, targets, truth_of, skip_broken, source, indices, truth_names=None):
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
        indices: as of `ImageSet`, one a record.
        truth_names: function of a target and a place to what messages call that truth; `None` if it has no file.
    """
    if not records:
        raise UserError(f"{name} must hold at least one image. Received: none")

    is_labelled = [target.task.kind for target in targets] == ["classification"]

    def try_to_read(place):
        try:
            picture = read(records[place]).numpy()
            truths = [truth_of(target, place) for target in targets]
        except OSError as error:
            return None, None, reason_of(error)
        where = f"{name}: {names[place]}"
        truths = [
            _read(target, truth, picture, where if truth_names is None else f"{where}, {truth_names(target, place)}")
            for target, truth in zip(targets, truths, strict=True)
        ]
        if is_labelled and truths[0] == MISSING_CLASS:
            raise UserError(f"{where} must have a class. Received: {MISSING_CLASS}")
        return picture, truths, ""

    good, decoded, skipped, sizes = [], None, [], []
    truths_of_good = []
    for place, (picture, truths, problem) in enumerate(in_order(try_to_read, len(records))):
        if picture is None:
            if not skip_broken:
                raise UserError(
                    f"{name}: {names[place]} is not a readable picture: {problem}. Remove it, or give --skip-broken."
                )
            skipped.append(names[place])
            continue
        if not good:
            most = min(len(records), LARGEST_DECODED_BYTES // picture.nbytes)
            decoded = np.empty((most, *picture.shape), np.uint8)
        if decoded is not None and len(good) < len(decoded) and picture.shape == decoded.shape[1:]:
            decoded[len(good)] = picture
        else:
            decoded = None
        good.append(place)
        truths_of_good.append(truths)
        sizes.append(picture.shape[:2])
    if not good:
        raise UserError(f"{name}: none of {len(records)} pictures is readable.")
    if decoded is not None:
        kept, sizes = decoded[: len(good)], None
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
        indices=np.asarray([indices[place] for place in good], dtype=np.int64),
        skipped=tuple(skipped),
        source=source,
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
