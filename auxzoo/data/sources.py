"""Where images come from: the packaged sample, a `tensorflow_datasets` name, or a folder of class folders."""

import concurrent.futures
import os
from pathlib import Path

import numpy as np
import tensorflow as tf

from auxzoo.data.image_set import ImageSet, decode
from auxzoo.data.sample_files import read_sample
from auxzoo.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
# Pictures of one size are kept decoded up to here; beyond it, or of several sizes, encoded.
LARGEST_DECODED_BYTES = 2 * 2**30
# A folder without `train` and `test` folders is divided by this seed, so that every command divides it alike.
FOLDER_SPLIT_SEED = 0
FOLDER_TEST_SHARE = 0.2


def open_images(source, split="train", data_dir=None, skip_broken=False, download=False):
    """Returns the labelled images of a source.

    Every picture is decoded once, so a broken one is found now and not in the middle of a training.

    Args:
        source: `"sample"` (packaged: 10,000 + 2,000 of Fashion-MNIST), `"tfds:NAME"` (any
            `tensorflow_datasets` set with an image and a label) or `"folder:PATH"`: `PATH/train/CLASS/*` and
            `PATH/test/CLASS/*`, or `PATH/CLASS/*`, of which a fifth, chosen by a fixed seed, is the test split.
            Classes are the folders' names, sorted. JPEG, PNG, BMP, GIF.
        split: `"train"` or `"test"`, and whatever else a source has.
        data_dir: folder of prepared `tensorflow_datasets`; their own default if `None`.
        skip_broken: leave pictures out that cannot be decoded, and name them in `skipped`.
        download: let `tensorflow_datasets` fetch and prepare a set that is not there.

    Returns:
        `ImageSet`.

    Raises:
        UserError: if the source, split or folder is not there or empty, or a picture is broken; each is named.

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
        builder.download_and_prepare()
    if split not in builder.info.splits:
        raise UserError(f"`split` of tfds:{name} must be one of {', '.join(builder.info.splits)}. Received: {split!r}")
    features = dict(builder.info.features or {})
    if not ("image" in features and isinstance(features.get("label"), tfds.features.ClassLabel)):
        raise UserError(f"`tfds:{name}` must have an image and a label. Received: {', '.join(features)}")
    dataset = builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()}, shuffle_files=False)
    examples = [(example["image"], example["label"]) for example in dataset.as_numpy_iterator()]
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
    train, test = images.split(max(1, int(images.size * FOLDER_TEST_SHARE)), seed=FOLDER_SPLIT_SEED)
    return train if split == "train" else test


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


def _image_set(name, records, names, classes, labels, skip_broken):
    """Decodes every picture once, to find the broken ones, and keeps them decoded where that is small."""
    if not records:
        raise UserError(f"{name} must hold at least one image. Received: none")

    def try_to_decode(record):
        try:
            return decode(record).numpy(), None
        except (tf.errors.OpError, OSError) as error:
            return None, _first_line(error)

    good, decoded, skipped, shapes, total_bytes = [], [], [], set(), 0
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
            shapes.add(picture.shape)
            total_bytes += picture.nbytes
            if len(shapes) == 1 and total_bytes <= LARGEST_DECODED_BYTES:
                decoded.append(picture)
            else:
                decoded.clear()
    if not good:
        raise UserError(f"{name}: none of {len(records)} pictures is readable.")
    if len(decoded) == len(good):
        kept = np.stack(decoded)
    else:
        kept = np.empty(len(good), dtype=object)
        kept[:] = [records[place] for place in good]
    classes = np.asarray(classes, dtype=np.int64)[good]
    return ImageSet(name, kept, classes, labels, np.asarray(good, dtype=np.int64), tuple(skipped))


def _first_line(error):
    return (getattr(error, "message", None) or str(error)).strip().splitlines()[0][:200]
