"""Where images come from: the packaged sample, a `tensorflow_datasets` name, or a folder of class folders."""

import concurrent.futures
import hashlib
import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from auxzoo.data.image_set import ImageSet, checked_classes, decode
from auxzoo.data.sample_files import read_sample
from auxzoo.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
# Pictures of one size are kept decoded up to here; beyond it, or of several sizes, encoded.
LARGEST_DECODED_BYTES = 2 * 2**30
# Of a folder without `train` and `test` folders.
FOLDER_TEST_SHARE = 0.2


def open_images(source, split="train", data_dir=None, skip_broken=False, download=False):
    """Returns the labelled images of a source.

    Every picture is decoded once, so a broken one is found now and not in the middle of a training.

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
            Classes are the folders' names, sorted. JPEG, PNG, BMP, GIF.
        split: `"train"` or `"test"`, and whatever else a source has.
        data_dir: folder of prepared `tensorflow_datasets`; their own default if `None`.
        skip_broken: leave pictures out that cannot be decoded, and name them in `skipped`.
        download: let `tensorflow_datasets` fetch and prepare a set that is not there.

    Returns:
        `ImageSet`.

    Raises:
        UserError: if the source, split or folder is not there or empty, a picture is broken, a class is none of
            the labels, or a set cannot be fetched or read; each is named.

    Example:
        >>> open_images("sample", "test").size
        2000
    """
    kind, _, rest = source.partition(":")
    if source == "sample":
        images, classes, labels = read_sample(split)
        return ImageSet.from_arrays(images, classes, labels, name=f"sample/{split}")
    if kind == "tfds" and rest:
        return _open_tfds(rest, split, data_dir, skip_broken, download)
    if kind == "folder" and rest:
        return _open_folder(Path(rest).expanduser(), split, skip_broken)
    raise UserError(f"`source` must be sample, tfds:NAME or folder:PATH. Received: source={source!r}")


def read_image(path):
    """Returns a picture file as uint8 `[height, width, 3]`.

    Raises:
        UserError: if it is missing or no picture.
    """
    try:
        return decode(str(path)).numpy()
    except (tf.errors.OpError, OSError) as error:
        raise UserError(f"`{path}` is not a readable picture: {_first_line(error)}") from None


def _open_tfds(name, split, data_dir, skip_broken, download):
    os.environ.setdefault("TFDS_DISABLE_PROGRESS_BAR", "1")
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    directory = data_dir or tfds.core.constants.DATA_DIR
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.registered.DatasetNotFoundError, ValueError, AttributeError, OSError) as error:
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
    if not ("image" in features and isinstance(features.get("label"), tfds.features.ClassLabel)):
        raise UserError(f"`tfds:{name}` must have an image and a label. Received: {', '.join(features)}")
    try:
        dataset = builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()}, shuffle_files=False)
        examples = [(example["image"], example["label"]) for example in dataset.as_numpy_iterator()]
    except (tf.errors.OpError, OSError) as error:
        raise UserError(
            f"`tfds:{name}` in `{directory}` is damaged, its split {split!r} cannot be read: {_first_line(error)}. "
            "Prepare it again."
        ) from None
    return _image_set(
        f"tfds:{name}/{split}",
        records=[image for image, _ in examples],
        names=[f"image {place}" for place in range(len(examples))],
        classes=[label for _, label in examples],
        labels=tuple(features["label"].names),
        skip_broken=skip_broken,
    )


def _open_folder(folder, split, skip_broken):
    if not folder.is_dir():
        raise UserError(f"`folder:` must be followed by an existing folder. Received: `{folder}`")
    divided = (folder / "train").is_dir() and (folder / "test").is_dir()
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
        classes=classes,
        labels=labels,
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


def _class_folders(folder):
    try:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"`{folder}` cannot be read: {error.strerror}") from None
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


def _image_set(name, records, names, classes, labels, skip_broken, source=None):
    """Decodes every picture once, to find the broken ones, and keeps them decoded where that is small."""
    if not records:
        raise UserError(f"{name} must hold at least one image. Received: none")
    classes = checked_classes(np.asarray(classes), len(records), labels, name)

    def try_to_decode(record):
        try:
            return decode(record).numpy(), None
        except (tf.errors.OpError, OSError) as error:
            return None, _first_line(error)

    good, decoded, skipped, sizes, total_bytes = [], [], [], [], 0
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for place, (picture, problem) in enumerate(pool.map(try_to_decode, records)):
            if picture is None:
                if not skip_broken:
                    raise UserError(
                        f"{name}: {names[place]} is not a readable picture: {problem}. "
                        "Remove it, or give --skip-broken."
                    )
                skipped.append(names[place])
                continue
            good.append(place)
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
        classes=classes[good],
        labels=labels,
        indices=np.asarray(good, dtype=np.int64),
        skipped=tuple(skipped),
        source=source or name,
        sizes=sizes,
    )


def _first_line(error):
    lines = (getattr(error, "message", None) or str(error)).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
