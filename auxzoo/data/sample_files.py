"""The packaged sample: 10,000 + 2,000 images of Fashion-MNIST, and the script that cuts it.

The files beside this one, in `sample/`, were made from Debian's package `dataset-fashion-mnist` by

    python -m auxzoo.data.sample_files --source /usr/share/datasets/fashion-mnist --to auxzoo/data/sample

A split is one lossless PNG, in which the images stand below each other, ordered by class.
"""

import gzip
import importlib.resources
from pathlib import Path

import numpy as np
import tensorflow as tf

from auxzoo.errors import UserError
from auxzoo.files import sha256, written_aside

# Names as the authors give them (github.com/zalandoresearch/fashion-mnist, "Labels").
LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
SIZE = 28
SEED = 0
# split -> images a class, prefix of the original's files
SPLITS = {"train": (1000, "train"), "test": (200, "t10k")}


def read_sample(split):
    """Returns `(images uint8 [size, 28, 28, 1], classes int64 [size], labels)` of a packaged split.

    Raises:
        UserError: if there is no such split.
    """
    if split not in SPLITS:
        raise UserError(f"`split` of the sample must be one of {', '.join(SPLITS)}. Received: {split!r}")
    per_class = SPLITS[split][0]
    file = importlib.resources.files("auxzoo.data") / "sample" / f"fashion_mnist_{split}.png"
    strip = tf.io.decode_png(file.read_bytes(), channels=1).numpy()
    images = _unstacked(strip, per_class * len(LABELS))
    return images, np.repeat(np.arange(len(LABELS)), per_class), LABELS


def make_sample(source, folder):
    """Cuts the sample from the original IDX files; the same bytes each time.

    Args:
        source: folder of `train-images-idx3-ubyte.gz` and its three companions.
        folder: where the PNG files go.

    Returns:
        `dict` of split to the SHA-256 of its file.
    """
    checksums = {}
    for split, (per_class, prefix) in SPLITS.items():
        images = _read_idx(Path(source) / f"{prefix}-images-idx3-ubyte.gz")
        classes = _read_idx(Path(source) / f"{prefix}-labels-idx1-ubyte.gz")
        generator = np.random.default_rng(SEED)
        chosen = np.concatenate(
            [
                np.sort(generator.choice(np.flatnonzero(classes == label), per_class, replace=False))
                for label in range(len(LABELS))
            ]
        )
        path = Path(folder) / f"fashion_mnist_{split}.png"
        with written_aside(path) as temporary:
            temporary.write_bytes(tf.io.encode_png(_stacked(images[chosen]), compression=9).numpy())
        checksums[split] = sha256(path)
    return checksums


def _stacked(images):
    """Lays images out ten a row, since a picture of 280,000 rows is more than some readers take."""
    rows = images.reshape(-1, 10, SIZE, SIZE).transpose(0, 2, 1, 3)
    return rows.reshape(-1, 10 * SIZE)[:, :, None]


def _unstacked(strip, count):
    rows = strip.reshape(count // 10, SIZE, 10, SIZE).transpose(0, 2, 1, 3)
    return rows.reshape(count, SIZE, SIZE, 1)


def _read_idx(path):
    """Reads Yann LeCun's IDX format: two zeros, number type, rank, big-endian sizes, values."""
    try:
        content = gzip.decompress(path.read_bytes())
    except OSError as error:
        raise UserError(f"`{path}` cannot be read: {error}") from None
    rank = content[3]
    shape = np.frombuffer(content, ">i4", rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description=make_sample.__doc__.splitlines()[0])
    parser.add_argument("--source", required=True, help="folder of the original IDX files")
    parser.add_argument("--to", required=True, help="folder of the sample")
    arguments = parser.parse_args()
    for made_split, checksum in make_sample(arguments.source, arguments.to).items():
        print(f"{made_split}: {checksum}")
