"""Truth of tasks at every pixel: how it is read, checked, fitted and kept beside its pictures in training."""

import dataclasses
import hashlib
import io
import itertools
import pathlib
import struct
import tempfile
import zlib

import numpy as np
import PIL.Image
import pytest
import scipy.ndimage
import tensorflow as tf
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st

import auxzoo
from auxzoo.data import Augmentation, ImageSet, Target, image_set, open_images, preprocess, sources
from auxzoo.data.targets import fitted, has_truth, median_frequency_weights, no_truth
from auxzoo.metrics import MISSING_CLASS, VOID
from auxzoo.models import Preprocessing
from auxzoo.tasks import Task

NAN = float("nan")
GREY = 127  # about 0 once a picture is preprocessed
LABELS = ("water", "grass", "rock")
MASK = Task("mask", "segmentation", LABELS)
HEIGHT = Task("height", "regression", unit="m")
KIND = Task("kind", "classification", ("near", "far"))
TYPES = {"mask": np.uint8, "height": np.float32, "kind": np.int64}


def unscaled(height, width, fit="resize"):
    """Returns a preprocessing that leaves the numbers of a picture as they are."""
    return Preprocessing(height, width, fit, (1.0,) * 3, (0.0,) * 3)


def as_arrays(dataset):
    return list(tf.nest.map_structure(lambda tensor: tensor.numpy(), list(dataset)))


def assert_same(batches, others):
    """Asserts that batches are equal, bit for bit; NaN equals NaN."""
    flat, other_flat = tf.nest.flatten(batches), tf.nest.flatten(others)
    assert len(flat) == len(other_flat) > 0
    for value, other in zip(flat, other_flat, strict=True):
        np.testing.assert_array_equal(value, other, strict=True)


def differ(batches, others):
    return any(not np.array_equal(image, other) for (image, _), (other, _) in zip(batches, others, strict=True))


def nearest(values, height, width):
    """Returns a map at another size: every pixel the one whose middle lies nearest."""
    rows, columns = (
        (np.arange(size) + 0.5) * old / size for size, old in zip((height, width), values.shape, strict=True)
    )
    return values[rows.astype(int)][:, columns.astype(int)]


def surrounded(values, height, width, filling):
    """Returns a map in the middle of a larger one."""
    result = np.full((height, width), filling, values.dtype)
    above, left = (height - values.shape[0]) // 2, (width - values.shape[1]) // 2
    result[above : above + values.shape[0], left : left + values.shape[1]] = values
    return result


# --- folders of pairs -------------------------------------------------------------------------------------------------


def picture_of(place, shape):
    return np.full((*shape, 3), 5 * place + 1, "uint8")


def write_picture(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(picture).save(path)


def write_palette(path, mask, colours=((9, 8, 7), (0, 200, 0), (1, 2, 3), (4, 5, 6))):
    image = PIL.Image.fromarray(mask)
    image.putpalette([part for colour in colours for part in colour])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, optimize=False)  # a GIF's numbers would be changed


def png_of(values, bits):
    """Returns a grey PNG of few bits a pixel, which Pillow does not write."""
    rows, columns = values.shape
    shifted = values.astype("uint8")[..., None] >> np.arange(bits - 1, -1, -1) & 1
    lines = np.packbits(shifted.reshape(rows, -1).astype("uint8"), axis=1)
    content = b"".join(b"\0" + line.tobytes() for line in lines)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", columns, rows, bits, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(content)),
        (b"IEND", b""),
    ]
    made = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def tiff_of(values, bits):
    """Returns a grey TIFF of few bits a pixel, which Pillow does not write."""
    rows, columns = values.shape
    shifted = values.astype("uint8")[..., None] >> np.arange(bits - 1, -1, -1) & 1
    content = np.packbits(shifted.reshape(rows, -1).astype("uint8"), axis=1).tobytes()
    tags = [(256, columns), (257, rows), (258, bits), (259, 1), (262, 1), (273, 8)]
    tags += [(277, 1), (278, rows), (279, len(content))]
    content += b"\0" * (len(content) % 2)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return (
        struct.pack("<2sHI", b"II", 42, 8 + len(content)) + content + struct.pack("<H", len(tags)) + entries + b"\0" * 4
    )


def write_array(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


def write_pairs(base, stored, feature="mask", suffix=".png", write=write_picture):
    """Writes truth, and a picture of its size to each, whose brightness tells its place."""
    for place, values in enumerate(stored):
        write_picture(base / "images" / f"{place:02d}.png", picture_of(place, np.shape(values)[:2] or (4, 5)))
        write(base / feature / f"{place:02d}{suffix}", values)
    return base


def some_classes(shape, seed=0):
    """Returns a mask of three classes, of pixels of 3 and of `VOID`; the first two pixels are of these."""
    mask = np.random.default_rng(seed).choice(np.array([0, 1, 2, 3, VOID], "uint8"), shape)
    mask.flat[:2] = 3, VOID
    return mask


def some_classes_in_16_bits(shape, seed=0):
    return some_classes(shape, seed).astype("uint16")


def some_classes_of_64_bits(shape, seed=0):
    return some_classes(shape, seed).astype("int64")


def some_heights(shape, seed=0):
    heights = np.random.default_rng(seed).integers(0, 2**16, shape).astype("uint16")
    heights.flat[:2] = 0, 65535
    return heights


def some_numbers(shape, seed=0):
    numbers = np.random.default_rng(seed).normal(0, 1000, shape).astype("float32")
    numbers.flat[0] = NAN
    return numbers


THREE_IS_VOID = Target(MASK, void=(3,))
HALF_METRES = Target(HEIGHT, factor=0.5, missing=0)
FORMATS = {
    "PNG of 8 bits": (THREE_IS_VOID, some_classes, ".png", write_picture),
    "PNG of 16 bits": (THREE_IS_VOID, some_classes_in_16_bits, ".png", write_picture),
    "PNG with a palette": (THREE_IS_VOID, some_classes, ".png", write_palette),
    "GIF with a palette": (THREE_IS_VOID, some_classes, ".gif", write_palette),
    "whole numbers of NumPy": (THREE_IS_VOID, some_classes_of_64_bits, ".npy", write_array),
    "heights in a PNG": (HALF_METRES, some_heights, ".png", write_picture),
    "heights in a TIFF": (Target(HEIGHT, factor=-2.0), some_numbers, ".tif", write_picture),
    "heights of NumPy": (Target(HEIGHT), some_numbers, ".npy", write_array),
}


def meant_by(target, stored):
    """Returns what stored numbers of `FORMATS` mean."""
    if target.task.kind == "segmentation":
        return np.where(stored >= 3, VOID, stored).astype("uint8")
    meant = stored.astype("float64") * target.factor
    if target.missing is not None:
        meant[stored == target.missing] = NAN
    return meant.astype("float32")


class TestFolder:
    @pytest.mark.parametrize("name", FORMATS)
    def test_what_a_file_holds_comes_out_of_batches(self, name, tmp_path):
        target, make, suffix, write = FORMATS[name]
        stored = [make((6, 5), seed) for seed in range(3)]
        write_pairs(tmp_path / "train", stored, target.source, suffix, write)
        images = open_images(f"folder:{tmp_path}", targets=[target])
        batches = as_arrays(images.batches(unscaled(6, 5), 2))
        np.testing.assert_array_equal(
            np.concatenate([truth for _, truth in batches]),
            np.stack([meant_by(target, values) for values in stored]),
            strict=True,
        )
        np.testing.assert_array_equal(
            np.concatenate([pictures for pictures, _ in batches]),
            np.stack([picture_of(place, (6, 5)) for place in range(3)]),
        )

    @pytest.mark.parametrize("fit", ["resize", "pad"])
    @pytest.mark.parametrize("name", FORMATS)
    def test_pictures_of_several_sizes_keep_their_truth(self, name, fit, tmp_path):
        target, make, suffix, write = FORMATS[name]
        # The same height twice and the same width twice: numpy must not take them for one array.
        stored = [make(shape, seed) for seed, shape in enumerate([(3, 4), (3, 5), (7, 5)])]
        write_pairs(tmp_path / "train", stored, target.source, suffix, write)
        images = open_images(f"folder:{tmp_path}", targets=[target])
        assert images.records.dtype == images.targets[target.task.name].dtype == object
        (batch,) = as_arrays(images.batches(unscaled(11, 13, fit), 3))
        for place, values in enumerate(stored):
            meant = meant_by(target, values)
            if fit == "resize":
                expected = nearest(meant, 11, 13)
            else:
                expected = surrounded(meant, 11, 13, VOID if target.task.kind == "segmentation" else NAN)
                inside = surrounded(np.ones(values.shape, bool), 11, 13, False)
                np.testing.assert_array_equal(batch[0][place, ..., 0], np.where(inside, 5 * place + 1, 0))
            np.testing.assert_array_equal(batch[1][place], expected, strict=True)

    @settings(derandomize=True, deadline=None, max_examples=8)
    @given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=4), st.integers(0, 99))
    def test_pictures_of_any_sizes_keep_their_truth(self, shapes, seed):
        generator = np.random.default_rng(seed)
        masks = [generator.integers(0, 3, shape).astype("uint8") for shape in shapes]
        heights = [generator.normal(size=shape).astype("float32") for shape in shapes]
        with tempfile.TemporaryDirectory() as folder:
            base = write_pairs(pathlib.Path(folder, "train"), masks)
            write_pairs(base, heights, "height", ".npy", write_array)
            images = open_images(f"folder:{folder}", targets=[Target(HEIGHT), Target(MASK)])
            (batch,) = as_arrays(images.batches(unscaled(6, 6, "pad"), len(shapes)))
        for place, (mask, height) in enumerate(zip(masks, heights, strict=True)):
            np.testing.assert_array_equal(batch[1]["mask"][place], surrounded(mask, 6, 6, VOID))
            np.testing.assert_array_equal(batch[1]["height"][place], surrounded(height, 6, 6, NAN))

    def test_a_folder_that_is_not_divided_keeps_pictures_and_truth_together(self, tmp_path):
        count = 30
        write_pairs(tmp_path, [np.full((2, 2), place, "uint8") for place in range(count)])
        target = Target(Task("mask", "segmentation", tuple(map(str, range(count)))))
        parts = [open_images(f"folder:{tmp_path}", split, targets=[target]) for split in ("train", "test")]
        places = []
        for part in parts:
            ((pictures, masks),) = as_arrays(part.batches(unscaled(2, 2), count))
            np.testing.assert_array_equal(pictures[..., 0], 5.0 * masks + 1)
            places += masks[:, 0, 0].tolist()
        assert sorted(places) == list(range(count))
        assert 0 < parts[1].size < parts[0].size
        assert not parts[0].overlaps(parts[1])

    def test_all_of_a_folder_that_is_not_divided(self, tmp_path):
        write_pairs(tmp_path, [np.full((2, 2), place % 3, "uint8") for place in range(10)])
        write_picture(tmp_path / "images" / "folder" / "10.png", picture_of(10, (2, 2)))  # not looked at
        images = open_images(f"folder:{tmp_path}", "all", targets=[Target(MASK)])
        np.testing.assert_array_equal(images.targets["mask"][:, 0, 0], np.arange(10) % 3)
        np.testing.assert_array_equal(images.records[:, 0, 0, 0], 5 * np.arange(10) + 1)
        assert images.overlaps(open_images(f"folder:{tmp_path}", "test", targets=[Target(MASK)]))

    def test_a_picture_that_is_not_read_is_left_out_with_its_truth(self, tmp_path):
        base = write_pairs(tmp_path / "train", [np.full((2, 2), place, "uint8") for place in range(3)])
        (base / "images" / "01.png").rename(base / "images" / "01.heic")
        with pytest.raises(auxzoo.UserError, match="images/01.heic is not a readable picture: HEIC is not read"):
            open_images(f"folder:{tmp_path}", targets=[Target(MASK)])
        images = open_images(f"folder:{tmp_path}", targets=[Target(MASK)], skip_broken=True)
        np.testing.assert_array_equal(images.targets["mask"][:, 0, 0], [0, 2])

    def test_every_split_of_a_divided_folder_has_its_own_truth(self, tmp_path):
        for value, split in enumerate(("train", "test", "validation")):
            write_pairs(tmp_path / split, [np.full((2, 3), value, "uint8")])
            images = open_images(f"folder:{tmp_path}", split, targets=[Target(MASK)])
            np.testing.assert_array_equal(images.targets["mask"], np.full((1, 2, 3), value))

    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    def test_grey_masks_of_few_bits_hold_what_they_store(self, bits, tmp_path):
        mask = np.random.default_rng(bits).integers(0, min(2**bits, 3), (4, 16)).astype("uint8")
        write_pairs(tmp_path / "train", [mask])
        (tmp_path / "train" / "mask" / "00.png").write_bytes(png_of(mask, bits))
        images = open_images(f"folder:{tmp_path}", targets=[Target(MASK)])
        np.testing.assert_array_equal(images.targets["mask"][0], mask)

    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    def test_tiff_masks_of_few_bits_hold_what_they_store(self, bits, tmp_path):
        mask = np.random.default_rng(bits).integers(0, min(2**bits, 3), (4, 16)).astype("uint8")
        write_pairs(tmp_path / "train", [mask])
        (tmp_path / "train" / "mask" / "00.png").unlink()
        (tmp_path / "train" / "mask" / "00.tif").write_bytes(tiff_of(mask, bits))
        images = open_images(f"folder:{tmp_path}", targets=[Target(MASK)])
        np.testing.assert_array_equal(images.targets["mask"][0], mask)

    def test_a_mask_is_turned_by_exif_data_of_its_own(self, tmp_path):
        mask = np.arange(20, dtype="uint8").reshape(4, 5) % 3
        exif = PIL.Image.Exif()
        exif[PIL.ExifTags.Base.Orientation] = 6  # a quarter to the right, when shown
        write_pairs(tmp_path / "train", [np.rot90(mask, -1)])  # the picture is of the size that is shown
        PIL.Image.fromarray(mask).save(tmp_path / "train" / "mask" / "00.png", exif=exif)
        images = open_images(f"folder:{tmp_path}", targets=[Target(MASK)])
        np.testing.assert_array_equal(images.targets["mask"][0], np.rot90(mask, -1))

    def test_names_of_classes_are_the_lines_of_a_file(self, tmp_path):
        write_pairs(tmp_path / "train", [some_classes((4, 5))], "surface")
        (tmp_path / "surface.txt").write_text("water\n  green grass \nrock\n\n", encoding="utf-8")
        target = Target(Task("mask", "segmentation"), feature="surface", void=(3,))
        images = open_images(f"folder:{tmp_path}", targets=[target])
        assert images.tasks == (Task("mask", "segmentation", ("water", "green grass", "rock")),)

    def test_names_of_the_task_go_before_those_of_a_file(self, tmp_path):
        write_pairs(tmp_path / "train", [some_classes((4, 5))])
        (tmp_path / "mask.txt").write_text("one\ntwo\nthree\nfour\n")
        assert open_images(f"folder:{tmp_path}", targets=[THREE_IS_VOID]).tasks[0].labels == LABELS

    @pytest.mark.parametrize(
        ("palette", "own", "expected"),
        [
            ([(9, 8, 7), (0, 200, 0), (1, 2, 3)], (), ((9, 8, 7), (0, 200, 0), (1, 2, 3))),
            ([(9, 8, 7), (0, 200, 0), (1, 2, 3), (4, 5, 6)], (), ((9, 8, 7), (0, 200, 0), (1, 2, 3))),
            ([(9, 8, 7), (0, 200, 0)], (), ()),
            ([(9, 8, 7), (0, 200, 0), (1, 2, 3)], ((1, 1, 1),) * 3, ((1, 1, 1),) * 3),
        ],
        ids=["as many", "more than classes", "fewer than classes", "the task has its own"],
    )
    def test_colours_are_those_of_the_palette(self, palette, own, expected, tmp_path):
        mask = np.array([[0, 1], [1, 0]], "uint8")
        write_pairs(tmp_path / "train", [mask], write=lambda path, values: write_palette(path, values, palette))
        target = Target(dataclasses.replace(MASK, colours=own))
        assert open_images(f"folder:{tmp_path}", targets=[target]).tasks[0].colours == expected

    def test_colours_are_not_lost_with_a_mask_that_is_left_out(self, tmp_path):
        base = write_pairs(tmp_path / "train", [some_classes((4, 5))] * 3, write=write_palette)
        (base / "mask" / "00.png").write_bytes(b"no picture")
        images = open_images(f"folder:{tmp_path}", targets=[THREE_IS_VOID], skip_broken=True)
        assert images.size == 2
        assert images.tasks[0].colours == ((9, 8, 7), (0, 200, 0), (1, 2, 3))

    def test_colours_are_those_of_the_first_palette_with_one_a_class(self, tmp_path):
        base = write_pairs(tmp_path / "train", [np.zeros((4, 5), "uint8")] * 3, write=write_palette)
        write_palette(base / "mask" / "00.png", np.zeros((4, 5), "uint8"), [(7, 7, 7), (8, 8, 8)])
        images = open_images(f"folder:{tmp_path}", targets=[THREE_IS_VOID])
        assert images.tasks[0].colours == ((9, 8, 7), (0, 200, 0), (1, 2, 3))

    @pytest.mark.parametrize("task", [HEIGHT, MASK], ids=["a regression", "a task with labels of its own"])
    def test_notes_beside_a_folder_are_no_names_where_none_are_asked_for(self, task, tmp_path):
        suffix, write = (".npy", write_array) if task is HEIGHT else (".png", write_palette)
        write_pairs(tmp_path / "train", [np.zeros((4, 5), "uint8")] * 2, task.name, suffix, write)
        (tmp_path / f"{task.name}.txt").write_bytes(b"measured in\n\n\xff 2024\n")
        assert open_images(f"folder:{tmp_path}", targets=[Target(task)]).tasks[0].labels == task.labels

    def test_a_classification_may_stand_beside_maps_and_lack_truth(self, tmp_path):
        write_pairs(tmp_path / "train", [np.zeros((4, 5), "uint8")] * 3)
        write_pairs(tmp_path / "train", np.array([1, -1, 0]), "kind", ".npy", write_array)
        images = open_images(f"folder:{tmp_path}", targets=[Target(KIND), Target(MASK)])
        ((_, truth),) = as_arrays(images.batches(unscaled(4, 5), 3))
        np.testing.assert_array_equal(truth["kind"], [1, MISSING_CLASS, 0])

    def test_a_class_alone_must_not_lack(self, tmp_path):
        write_pairs(tmp_path / "train", np.array([1, -1, 0]), "kind", ".npy", write_array)
        with pytest.raises(auxzoo.UserError, match=r"01.png must have a class. Received: -1"):
            open_images(f"folder:{tmp_path}", targets=[Target(KIND)])

    def test_a_map_is_no_class(self, tmp_path):
        write_pairs(tmp_path / "train", [np.zeros((4, 5), "uint8")], "kind")
        with pytest.raises(auxzoo.UserError, match=r"'kind' must be a whole number. Received: shape \(4, 5\)"):
            open_images(f"folder:{tmp_path}", targets=[Target(KIND)])

    def test_two_tasks_may_read_one_folder(self, tmp_path):
        write_pairs(tmp_path / "train", [some_classes((4, 5))])
        tasks = Task("coarse", "segmentation", ("a", "b", "c")), Task("fine", "segmentation", ("a", "b", "c", "d"))
        targets = [Target(tasks[0], "mask", void=(3,)), Target(tasks[1], "mask")]
        images = open_images(f"folder:{tmp_path}", targets=targets)
        stored = some_classes((1, 4, 5)).reshape(1, 4, 5)
        np.testing.assert_array_equal(images.targets["fine"], stored)
        np.testing.assert_array_equal(images.targets["coarse"], np.where(stored == 3, VOID, stored))


def damaged_files():
    """Returns the content of files of truth that no reader gets on with, by their names."""
    file = io.BytesIO()
    np.save(file, np.zeros((4, 5), "uint8"))
    huge = io.BytesIO()
    PIL.Image.new("P", (5, 4)).save(huge, "bmp")
    huge = bytearray(huge.getvalue())
    huge[18:26] = (60_000).to_bytes(4, "little") * 2  # width and height
    return {
        "header.npy": file.getvalue().replace(b"(4, 5)", b"(4, 5 "),
        "zip.npy": b"PK\x03\x04 and no more",
        "huge.bmp": bytes(huge),
    }


DAMAGED = damaged_files()


class TestFolderThatIsWrong:
    @pytest.fixture
    def folder(self, tmp_path):
        """A divided folder of three pictures with masks and heights."""
        base = write_pairs(tmp_path / "pairs" / "train", [np.full((4, 5), value, "uint8") for value in range(3)])
        write_pairs(base, [np.full((4, 5), 1.5)] * 3, "height", ".npy", write_array)
        return tmp_path / "pairs"

    def open(self, folder, *targets, **arguments):
        return open_images(f"folder:{folder}", targets=list(targets or [Target(MASK)]), **arguments)

    @pytest.mark.parametrize("skip_broken", [False, True])
    @pytest.mark.parametrize(
        ("target", "values", "message"),
        [
            (MASK, np.zeros((5, 4), "uint8"), r"'mask' must be of the picture's size, 4x5. Received: 5x4"),
            (HEIGHT, np.zeros((4, 6)), r"'height' must be of the picture's size, 4x5. Received: 4x6"),
            (MASK, np.full((4, 5), 3), r"'mask' must be 0 to 2, or \(255,\) where .*Received: 3, 20 wrong in all"),
            (MASK, np.full((4, 5), 256), r"'mask' must be 0 to 2.*Received: 256"),
            (MASK, np.full((4, 5), -1), r"'mask' must be 0 to 2.*Received: -1"),
            (MASK, np.zeros((4, 5)), r"'mask' must be whole numbers. Received: float64"),
            (MASK, np.zeros((4, 5), bool), r"'mask' must be whole numbers. Received: bool"),
            (MASK, np.zeros((4, 5, 3), "uint8"), r"'mask' must have one value a pixel. Received: shape \(4, 5, 3\)"),
            (HEIGHT, np.zeros((4, 5, 3)), r"'height' must have one value a pixel. Received: shape \(4, 5, 3\)"),
            (HEIGHT, np.zeros(20), r"'height' must have one value a pixel. Received: shape \(20,\)"),
            (HEIGHT, np.full((4, 5), -np.inf), r"'height' must be finite, or NaN where .*Received: inf"),
        ],
    )
    def test_truth_that_does_not_fit_is_named(self, folder, target, values, message, skip_broken):
        for file in (folder / "train" / target.name).glob("01.*"):
            file.unlink()
        write_array(folder / "train" / target.name / "01.npy", values)
        with pytest.raises(auxzoo.UserError, match=rf"images/01.png, .*/{target.name}/01.npy: " + message):
            self.open(folder, Target(target), skip_broken=skip_broken)

    @pytest.mark.parametrize(
        ("mode", "shape"), [("RGB", r"\(4, 5, 3\)"), ("RGBA", r"\(4, 5, 4\)"), ("LA", r"\(4, 5, 2\)")]
    )
    def test_a_mask_in_colours_is_named(self, folder, mode, shape):
        PIL.Image.new(mode, (5, 4)).save(folder / "train" / "mask" / "02.png")
        with pytest.raises(auxzoo.UserError, match=f"02.png: 'mask' must have one value a pixel. Received: .*{shape}"):
            self.open(folder)

    def test_allowed_void_values_are_named(self, folder):
        write_picture(folder / "train" / "mask" / "02.png", np.full((4, 5), 9, "uint8"))
        with pytest.raises(auxzoo.UserError, match=r"'mask' must be 0 to 2, or \(7, 8, 255\) where there is none"):
            self.open(folder, Target(MASK, void=(7, 8)))

    @pytest.mark.parametrize("task", [MASK, HEIGHT], ids=lambda task: task.name)
    def test_a_set_without_any_truth_is_refused(self, task, folder):
        for place in range(3):
            (folder / "train" / "mask" / f"{place:02d}.png").unlink()
            write_array(folder / "train" / "mask" / f"{place:02d}.npy", np.full((4, 5), VOID))
            write_array(folder / "train" / "height" / f"{place:02d}.npy", np.full((4, 5), NAN))
        with pytest.raises(auxzoo.UserError, match=f"no pixel of 3 .*images/00.png on, has truth for '{task.name}'"):
            self.open(folder, Target(task))

    def test_one_pixel_of_truth_is_enough(self, folder):
        for place in range(3):
            write_picture(folder / "train" / "mask" / f"{place:02d}.png", np.full((4, 5), VOID, "uint8"))
        mask = np.full((4, 5), VOID, "uint8")
        mask[3, 4] = 0
        write_picture(folder / "train" / "mask" / "02.png", mask)
        assert self.open(folder).size == 3

    def test_a_picture_without_a_mask_is_named(self, folder):
        (folder / "train" / "mask" / "01.png").unlink()
        with pytest.raises(
            auxzoo.UserError, match=r"must hold the truth of every picture, .*01.npy.*none of `.*01.png`"
        ):
            self.open(folder, skip_broken=True)

    def test_two_masks_of_one_picture_are_named(self, folder):
        write_array(folder / "train" / "mask" / "01.npy", np.zeros((4, 5), "uint8"))
        with pytest.raises(auxzoo.UserError, match=r"one file a picture. Received: `01.npy` and `01.png`"):
            self.open(folder)

    def test_two_pictures_of_one_mask_are_named(self, folder):
        write_picture(folder / "train" / "images" / "01.bmp", picture_of(7, (4, 5)))
        with pytest.raises(
            auxzoo.UserError, match=r"names of their own, as their truth has. Received: .*01.bmp.*01.png"
        ):
            self.open(folder)

    def test_a_blank_line_among_the_labels_is_named(self, folder):
        (folder / "mask.txt").write_text("ocean\n\nland\n\n")
        with pytest.raises(auxzoo.UserError, match=r"mask.txt` must have a name in every line. Received: line 2"):
            self.open(folder, Target(Task("mask", "segmentation")))

    def test_a_mask_without_a_picture_is_not_looked_at(self, folder):
        (folder / "train" / "images" / "01.png").unlink()
        images = self.open(folder)
        np.testing.assert_array_equal(images.targets["mask"][:, 0, 0], [0, 2])

    def test_a_missing_folder_of_truth_is_named(self, folder):
        with pytest.raises(auxzoo.UserError, match=r"train/depth` must hold the truth of every picture. Received: No "):
            self.open(folder, Target(HEIGHT, feature="depth"))

    def test_a_missing_folder_is_named(self, folder):
        with pytest.raises(auxzoo.UserError, match=r"followed by an existing folder. Received: `.*nowhere`"):
            self.open(folder / "nowhere")

    def test_a_folder_without_pictures_is_named(self, folder):
        message = (
            r"must hold `images`, or `test/images`. Received: split='test', folders train. .*`data.test_split=null`"
        )
        with pytest.raises(auxzoo.UserError, match=message):
            self.open(folder, split="test")

    def test_an_unknown_split_of_a_folder_that_is_not_divided_is_refused(self, folder):
        message = "`split` of a folder that is not divided must be .*Received: split='valid'.*`data.test_split=null`"
        with pytest.raises(auxzoo.UserError, match=message):
            self.open(folder / "train", split="valid")

    def test_one_picture_cannot_be_divided(self, folder):
        for name in ("01", "02"):
            (folder / "train" / "images" / f"{name}.png").unlink()
        with pytest.raises(auxzoo.UserError, match="must hold at least 2 pictures, to be divided. Received: 1"):
            self.open(folder / "train")

    def test_classes_without_a_name_are_refused(self, folder):
        with pytest.raises(auxzoo.UserError, match="`labels` of task 'mask' must name its classes. Received: none"):
            self.open(folder, Target(Task("mask", "segmentation")))

    @pytest.mark.parametrize(
        ("void", "labels"), [((), ("a", "b", "c", "d")), ((3,), ("a", "b", "c")), ((2, 3), ("a", "b")), ((0,), "abcd")]
    )
    def test_names_of_what_is_void_at_the_end_are_no_classes(self, folder, void, labels):
        (folder / "mask.txt").write_text("a\nb\nc\nd\n")
        images = self.open(folder, Target(Task("mask", "segmentation"), void=void))
        assert images.tasks[0].labels == tuple(labels)

    @pytest.mark.parametrize("content", [b"\xff\xfe\xfa", None], ids=["no text", "a folder"])
    def test_names_that_cannot_be_read_are_told(self, folder, content):
        path = folder / "mask.txt"
        path.mkdir() if content is None else path.write_bytes(content)
        with pytest.raises(auxzoo.UserError, match=r"mask.txt` cannot be read as names, one a line"):
            self.open(folder, Target(Task("mask", "segmentation")))

    @pytest.mark.parametrize("name", ["01.png", "01.npy"])
    def test_a_broken_mask_is_named(self, folder, name):
        (folder / "train" / "mask" / "01.png").unlink()
        (folder / "train" / "mask" / name).write_bytes(b"no picture")
        message = rf"images/01.png is not a readable picture: .*mask/{name}.*--skip-broken"
        with pytest.raises(auxzoo.UserError, match=message):
            self.open(folder)

    @pytest.mark.parametrize("name", ["01.png", "01.npy"])
    def test_a_broken_mask_can_be_left_out_with_its_picture(self, folder, name):
        (folder / "train" / "mask" / "01.png").unlink()
        (folder / "train" / "mask" / name).write_bytes(b"no picture")
        images = self.open(folder, Target(MASK), Target(HEIGHT), skip_broken=True)
        assert [pathlib.Path(name).name for name in images.skipped] == ["01.png"]
        np.testing.assert_array_equal(images.indices, [0, 2])
        np.testing.assert_array_equal(images.targets["mask"][:, 0, 0], [0, 2])
        np.testing.assert_array_equal(images.records[:, 0, 0, 0], [1, 11])
        assert images.targets["height"].shape == (2, 4, 5)

    def test_masks_that_are_all_broken_are_told(self, folder):
        for file in (folder / "train" / "mask").iterdir():
            file.write_bytes(b"no picture")
        with pytest.raises(auxzoo.UserError, match="none of 3 pictures is readable"):
            self.open(folder, skip_broken=True)

    def test_a_mask_that_ends_too_soon_is_named(self, folder):
        noise = np.random.default_rng(0).integers(0, 3, (100, 100)).astype("uint8")
        write_pairs(folder / "train", [noise] * 3)
        path = folder / "train" / "mask" / "01.png"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(auxzoo.UserError, match=r"mask/01.png"):
            self.open(folder)

    @settings(derandomize=True, deadline=None, max_examples=60)
    @given(
        st.booleans(),
        st.one_of(st.none(), st.integers(0, 120)),
        st.dictionaries(st.integers(0, 120), st.integers(0, 255), max_size=3),
        st.booleans(),
    )
    def test_no_damage_to_a_png_is_worse_than_told(self, has_palette, length, changes, skip_broken):
        mask = some_classes((5, 6))
        with tempfile.TemporaryDirectory() as folder:
            write_pairs(
                pathlib.Path(folder, "train"), [mask, mask], write=write_palette if has_palette else write_picture
            )
            path = pathlib.Path(folder, "train", "mask", "00.png")
            content = bytearray(path.read_bytes())[:length]
            for place, value in changes.items():
                if place < len(content):
                    content[place] = value
            path.write_bytes(content)
            try:
                images = self.open(folder, THREE_IS_VOID, skip_broken=skip_broken)
            except auxzoo.UserError as error:
                images, told = None, str(error)
        if images is None:
            assert "00.png" in told
            return
        assert images.size + len(images.skipped) == 2
        assert set(np.unique(images.targets["mask"])) <= {0, 1, 2, VOID}
        np.testing.assert_array_equal(images.targets["mask"][-1], meant_by(THREE_IS_VOID, mask))

    @pytest.mark.parametrize("name", DAMAGED)
    def test_other_damage_is_told_too(self, folder, name):
        (folder / "train" / "mask" / "00.png").unlink()
        (folder / "train" / "mask" / f"00{pathlib.Path(name).suffix}").write_bytes(DAMAGED[name])
        with pytest.raises(auxzoo.UserError, match=r"images/00.png is not a readable picture"):
            self.open(folder)


class TestOpen:
    @pytest.mark.parametrize(
        "targets", [[], Target(MASK), [MASK], "mask", {"mask": Target(MASK)}, [Target(MASK), None]]
    )
    def test_what_is_no_list_of_targets_is_named(self, targets, tmp_path):
        with pytest.raises(
            auxzoo.UserError, match="`targets` must be a list of one Target or more.*Received: targets="
        ):
            open_images(f"folder:{tmp_path}", targets=targets)

    def test_two_tasks_of_one_name_are_refused(self, tmp_path):
        targets = [Target(MASK), Target(HEIGHT), Target(Task("mask", "regression"))]
        message = r"`targets` must have a name each. Received: \['mask', 'height', 'mask'\]"
        with pytest.raises(auxzoo.UserError, match=message):
            open_images(f"folder:{tmp_path}", targets=targets)

    def test_the_sample_has_no_targets(self):
        with pytest.raises(auxzoo.UserError, match="`targets` of the sample must be None"):
            open_images("sample", targets=[Target(MASK)])


def read_directly(data_dir, name, split, count):
    """Returns the first examples of a prepared set, read without our code."""
    import tensorflow_datasets as tfds

    dataset = tfds.builder(name, data_dir=str(data_dir)).as_dataset(split=split, shuffle_files=False)
    return list(itertools.islice(dataset.as_numpy_iterator(), count))


class TestTensorFlowDatasets:
    SURFACE = Target(Task("surface", "segmentation", LABELS), feature="segmentation_mask")

    def test_masks_of_camvid_come_out_of_batches(self, shared_data):
        task = Task("street", "segmentation", tuple(f"class {index}" for index in range(11)))
        targets = [Target(task, feature="segmentation_mask", void=(11,))]
        images = open_images("tfds:camvid", "validation", data_dir=str(shared_data), targets=targets)
        (batch,) = as_arrays(images.part([0, 1, 2], "first three").batches(unscaled(360, 480), 3))
        examples = read_directly(shared_data, "camvid", "validation", 3)
        masks = np.stack([example["segmentation_mask"][..., 0] for example in examples])
        assert (masks == 11).any()
        np.testing.assert_array_equal(batch[1], np.where(masks == 11, VOID, masks).astype("uint8"), strict=True)
        np.testing.assert_array_equal(batch[0], np.stack([example["image"] for example in examples]))

    def test_masks_and_heights_of_blue_marble_come_out_of_batches(self, shared_data):
        targets = [self.SURFACE, Target(HEIGHT, factor=0.001, missing=0)]
        images = open_images("tfds:blue_marble", "validation", data_dir=str(shared_data), targets=targets)
        ((pictures, truth),) = as_arrays(images.batches(unscaled(128, 128), images.size))
        examples = read_directly(shared_data, "blue_marble", "validation", images.size)
        heights = np.stack([example["height"][..., 0] for example in examples])
        assert (heights == 0).any()
        np.testing.assert_array_equal(pictures, np.stack([example["image"] for example in examples]))
        np.testing.assert_array_equal(truth["surface"], [example["segmentation_mask"][..., 0] for example in examples])
        np.testing.assert_allclose(truth["height"], np.where(heights == 0, NAN, heights * 0.001), rtol=1e-6)

    def test_no_warnings_of_what_others_deprecate(self, shared_data, monkeypatch, caplog):
        from absl import logging

        told_always = lambda level, text, times, *arguments: logging.log(level, text, *arguments)  # noqa: E731
        monkeypatch.setattr(logging, "log_first_n", told_always)
        logging.warning("this is")  # or the test could see none
        verbosity, targets = logging.get_verbosity(), [self.SURFACE, Target(HEIGHT)]
        open_images("tfds:blue_marble", "validation", data_dir=str(shared_data), targets=targets)
        assert [record.getMessage() for record in caplog.records if record.name == "absl"] == ["this is"]
        assert logging.get_verbosity() == verbosity

    def test_encoded_pictures_give_the_same_batches(self, shared_data, monkeypatch):
        def open_first():
            targets = [self.SURFACE, Target(HEIGHT)]
            images = open_images("tfds:blue_marble", "validation", data_dir=str(shared_data), targets=targets)
            return images.part(np.arange(4), "first four")

        decoded = open_first()
        monkeypatch.setattr(sources, "LARGEST_DECODED_BYTES", 0)
        encoded = open_first()
        assert decoded.records.dtype == np.uint8
        assert isinstance(encoded.records[0], bytes)
        assert_same(*(as_arrays(images.batches(unscaled(128, 128), 3)) for images in (decoded, encoded)))

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            (Target(Task("depth", "regression")), "must have 'depth'. Received: .*height"),
            (Target(HEIGHT, feature="depth"), "must have 'depth'. Received: .*height"),
            (Target(HEIGHT, feature="row"), "image 0: 'height' must have one value a pixel. Received: shape"),
            (Target(Task("height", "segmentation", LABELS)), "image 0: 'height' must be 0 to 2.* wrong in all"),
            (Target(Task("segmentation_mask", "segmentation")), "`labels` of task 'segmentation_mask' must name its"),
            (Target(Task("segmentation_mask", "segmentation", ("one",))), "'segmentation_mask' must be 0 to 0, or"),
            (Target(Task("row", "classification", ("one",))), "'row' must be 0 to 0"),
        ],
    )
    def test_a_target_that_the_set_does_not_have_is_named(self, shared_data, target, message):
        with pytest.raises(auxzoo.UserError, match=message):
            open_images("tfds:blue_marble", "validation", data_dir=str(shared_data), targets=[target])


class Streets(tfds.core.GeneratorBasedBuilder):
    """Two pictures with masks; `names` are what their classes are called, a list, their number or `None`."""

    VERSION, names = "1.0.0", None

    def _info(self):
        features = {"image": tfds.features.Image(), "mask": tfds.features.LabeledImage(labels=self.names)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for key in range(2):
            mask = np.full((4, 5, 1), key, "uint8")
            yield key, {"image": np.zeros((4, 5, 3), "uint8"), "mask": mask}


class TestClassNamesOfTensorFlowDatasets:
    def open(self, folder, names, labels=()):
        Streets.names = names
        Streets(data_dir=str(folder)).download_and_prepare()
        targets = [Target(Task("mask", "segmentation", labels))]
        return open_images("tfds:streets", data_dir=str(folder), targets=targets).tasks[0].labels

    @pytest.mark.parametrize(
        ("names", "labels"), [(["road", "sky"], ("road", "sky")), (3, ("0", "1", "2"))], ids=["names", "a number"]
    )
    def test_they_are_the_labels(self, tmp_path, names, labels):
        assert self.open(tmp_path, names) == labels
        assert self.open(tmp_path, names, ("a", "b")) == ("a", "b")

    def test_without_them_the_target_must_have_labels(self, tmp_path):
        assert self.open(tmp_path, None, ("a", "b")) == ("a", "b")
        with pytest.raises(auxzoo.UserError, match="`labels` of task 'mask' must name its classes. Received: none"):
            self.open(tmp_path, None)


# --- arrays -----------------------------------------------------------------------------------------------------------


def coded_images(count=10, height=12, width=10, seed=0, block=1):
    """Returns a set whose pictures tell their truth: red the class, green the height, blue the kind of the picture.

    Red is 40 times the class, 200 where there is none; green the height and 100, 250 where there is none; blue 50 or
    150. The pixels are in square blocks.
    """
    generator = np.random.default_rng(seed)
    shape = (count, height // block, width // block)
    red = np.repeat(np.repeat(generator.choice([0, 40, 80, 200], shape), block, 1), block, 2)
    green = np.repeat(np.repeat(generator.choice([30, 90, 150, 250], shape), block, 1), block, 2)
    blue = np.broadcast_to(generator.choice([50, 150], count)[:, None, None], red.shape)
    targets = {
        "mask": np.where(red == 200, VOID, red // 40),
        "height": np.where(green == 250, NAN, green - 100.0),
        "kind": (blue[:, 0, 0] == 150).astype(int),
    }
    pictures = np.stack([red, green, blue], axis=-1).astype("uint8")
    return ImageSet.from_targets(pictures, [MASK, HEIGHT, KIND], targets)


def training_batches(images, count, augmentation=None, **arguments):
    options = {"preprocessing": unscaled(12, 10), "batch_size": 4, "seed": 5} | arguments
    return as_arrays(images.training_batches(augmentation=augmentation, **options).take(count))


@pytest.fixture(scope="module")
def coded():
    return coded_images()


@pytest.fixture(scope="module")
def coded_of_several_sizes(tmp_path_factory):
    """A set like `coded_images` whose pictures are of several sizes, so that all is read one by one."""
    folder = tmp_path_factory.mktemp("several")
    for place in range(10):
        images = coded_images(1, 8 + place, 14 - place, seed=place)
        write_picture(folder / "train" / "images" / f"{place}.png", images.records[0])
        for name, values in images.targets.items():
            write_array(folder / "train" / name / f"{place}.npy", values[0])
    return open_images(f"folder:{folder}", targets=[Target(MASK), Target(HEIGHT), Target(KIND)])


class TestFromTargets:
    @settings(derandomize=True, deadline=None, max_examples=8)
    @given(
        st.tuples(st.integers(1, 4), st.integers(1, 7), st.integers(1, 7)),
        st.sampled_from([1, 3, 4]),
        st.lists(st.sampled_from(["mask", "height", "kind"]), min_size=1, max_size=3, unique=True),
        st.integers(1, 5),
        st.integers(0, 99),
    )
    def test_what_goes_in_comes_out_of_batches(self, shape, channels, names, batch_size, seed):
        generator = np.random.default_rng(seed)
        pictures = generator.integers(0, 256, (*shape, channels)).astype("uint8")
        truth = {
            "mask": generator.choice([0, 1, 2, VOID], shape),
            "height": generator.choice([NAN, -3.25, 0, 1e6], shape),
            "kind": generator.choice([MISSING_CLASS, 0, 1], shape[0]) if len(names) > 1 else np.ones(shape[0], int),
        }
        tasks = [task for task in (MASK, HEIGHT, KIND) if task.name in names]
        images = ImageSet.from_targets(pictures, tasks, {name: truth[name] for name in names})
        batches = as_arrays(images.batches(unscaled(*shape[1:]), batch_size))
        assert [len(pictures) for pictures, _ in batches[:-1]] == [batch_size] * (len(batches) - 1)
        seen = np.concatenate([pictures for pictures, _ in batches])
        np.testing.assert_array_equal(seen, np.broadcast_to(pictures[..., : min(channels, 3)], seen.shape))
        for name in names:
            values = np.concatenate([part[name] if len(names) > 1 else part for _, part in batches])
            np.testing.assert_array_equal(values, truth[name].astype(TYPES[name]), strict=True)

    @pytest.mark.parametrize("preprocessing", [unscaled(16, 9), unscaled(12, 10), unscaled(17, 14, "pad")])
    def test_what_is_kept_is_what_is_read_one_by_one(self, coded_of_several_sizes, preprocessing, monkeypatch):
        def batches(most):
            monkeypatch.setattr(image_set, "LARGEST_DECODED_BYTES", most)
            images = dataclasses.replace(coded_of_several_sizes)
            trained = training_batches(images, 5, Augmentation(True, 2, 0.5), preprocessing=preprocessing)
            return trained + as_arrays(images.batches(preprocessing, 4)), images._kept is not None

        # Three numbers of float32, one of uint8 for the mask, one of float32 for the height, at every pixel.
        needed = 10 * preprocessing.height * preprocessing.width * (3 * 4 + 1 + 4)
        (kept, is_kept), (read, is_read_again) = batches(needed), batches(needed - 1)
        assert (is_kept, is_read_again) == (True, False)
        assert_same(kept, read)

    @pytest.mark.parametrize("name", TYPES)
    def test_of_one_task_the_truth_is_no_dict(self, coded, name):
        one = coded.with_tasks({name: name})
        for (_, truth), (_, all_truth) in zip(
            as_arrays(one.batches(unscaled(12, 10), 4)), as_arrays(coded.batches(unscaled(12, 10), 4)), strict=True
        ):
            np.testing.assert_array_equal(truth, all_truth[name], strict=True)

    @pytest.mark.parametrize("kind", ["batches", "training_batches"])
    @pytest.mark.parametrize("which", ["coded", "coded_of_several_sizes"])
    def test_of_several_tasks_the_truth_is_a_dict_of_these_number_types(self, which, kind, request):
        images = request.getfixturevalue(which)
        arguments = {"seed": 0, "augmentation": Augmentation(True, 2)} if kind == "training_batches" else {}
        dataset = getattr(images, kind)(unscaled(16, 9), 4, **arguments)
        pictures, truth = dataset.element_spec
        assert {name: spec.dtype.as_numpy_dtype for name, spec in truth.items()} == TYPES
        pictures, truth = as_arrays(dataset.take(1))[0]
        assert {name: values.dtype for name, values in truth.items()} == TYPES
        assert {name: values.shape for name, values in truth.items()} == {
            "mask": (4, 16, 9),
            "height": (4, 16, 9),
            "kind": (4,),
        }
        assert (pictures.shape, pictures.dtype) == ((4, 16, 9, 3), np.float32)

    def test_maps_of_a_resized_picture_are_those_of_the_nearest_pixels(self, coded):
        ((_, truth),) = as_arrays(coded.batches(unscaled(7, 23), 10))
        for name in ("mask", "height"):
            expected = [nearest(values, 7, 23) for values in coded.targets[name]]
            np.testing.assert_array_equal(truth[name], expected)

    def test_maps_of_a_padded_picture_are_surrounded_by_no_truth(self, coded):
        ((pictures, truth),) = as_arrays(coded.batches(unscaled(15, 14, "pad"), 10))
        for name, filling in (("mask", VOID), ("height", NAN)):
            expected = [surrounded(values, 15, 14, filling) for values in coded.targets[name]]
            np.testing.assert_array_equal(truth[name], expected)
        np.testing.assert_array_equal(pictures[:, 1:13, 2:12], coded.records)

    @pytest.mark.parametrize(
        ("task", "values", "message"),
        [
            (MASK, np.zeros((2, 4, 4), int), r"'mask' must be of the images' size, \(4, 5\). Received: \(4, 4\)"),
            (HEIGHT, np.zeros((2, 5, 4)), r"'height' must be of the images' size, \(4, 5\). Received: \(5, 4\)"),
            (MASK, np.zeros((3, 4, 5), int), r"'mask' must be whole numbers \[2, rows, columns\]. .*\(3, 4, 5\)"),
            (MASK, np.zeros((2, 4, 5)), r"'mask' must be whole numbers \[2, rows, columns\]. Received: float64"),
            (MASK, np.zeros((2, 4, 5), bool), r"'mask' must be whole numbers .*Received: bool"),
            (MASK, np.zeros((2, 4, 5, 1), int), r"'mask' must be whole numbers .*\(2, 4, 5, 1\)"),
            (MASK, np.full((2, 4, 5), 3), r"'mask' must be 0 to 2, or 255 .*Received: 3 in image 0, 40 wrong in all"),
            (MASK, np.full((2, 4, 5), -1, "int8"), r"'mask' must be 0 to 2, or 255 .*Received: -1 in image 0"),
            (HEIGHT, np.full((2, 4, 5), np.inf), r"'height' must be finite, or NaN where .*Received: infinity"),
            (HEIGHT, np.zeros(2), r"'height' must be numbers \[2, rows, columns\]"),
            (KIND, [0, 2], r"'kind' must be 0 to 1. Received: 2 in image 1, 1 wrong in all"),
            (KIND, [0, -2], r"'kind' must be 0 to 1. Received: -2 in image 1"),
            (KIND, [0.0, 1.0], r"'kind' must be whole numbers \[2\]"),
            (KIND, np.zeros((2, 4, 5), int), r"'kind' must be whole numbers \[2\]"),
        ],
    )
    def test_truth_that_does_not_fit_is_named(self, task, values, message):
        with pytest.raises(auxzoo.UserError, match="`targets` of mine: " + message):
            ImageSet.from_targets(np.zeros((2, 4, 5, 3), "uint8"), [task], {task.name: values}, name="mine")

    @pytest.mark.parametrize("value", [2, -2])
    def test_a_class_beside_maps_may_lack_and_be_nothing_else(self, value):
        truth = {"kind": [MISSING_CLASS, value], "mask": np.zeros((2, 4, 5), int)}
        message = f"'kind' must be 0 to 1, or -1 where there is no truth. Received: {value} in image 1, 1 wrong"
        with pytest.raises(auxzoo.UserError, match=message):
            ImageSet.from_targets(np.zeros((2, 4, 5, 3), "uint8"), [KIND, MASK], truth)

    @pytest.mark.parametrize("targets", [{}, {"masks": 0}, {"mask": 0, "height": 0}, None, [np.zeros((2, 4, 5), int)]])
    def test_truth_of_other_tasks_is_refused(self, targets):
        with pytest.raises(auxzoo.UserError, match="`targets` of mine must be a dict of mask. Received: "):
            ImageSet.from_targets(np.zeros((2, 4, 5, 3), "uint8"), [MASK], targets, name="mine")

    @pytest.mark.parametrize("name", ["labels", "classes"])
    @pytest.mark.parametrize("tasks", [["mask"], ["height"], ["mask", "kind"], ["kind", "height"]])
    def test_only_a_labelled_set_has_labels_and_classes(self, coded, name, tasks):
        part = coded.with_tasks({task: task for task in tasks})
        assert not part.is_labelled
        with pytest.raises(auxzoo.UserError, match="arrays must have one class an image. Received: a set for .*"):
            getattr(part, name)

    def test_a_class_alone_makes_a_labelled_set(self, coded):
        part = coded.with_tasks({"place": "kind"})
        assert part.is_labelled
        assert part.labels == KIND.labels
        np.testing.assert_array_equal(part.classes, coded.targets["kind"])

    def test_tasks_get_other_names_and_another_order(self, coded):
        part = coded.with_tasks({"depth": "height", "surface": "mask"})
        assert part.tasks == (dataclasses.replace(HEIGHT, name="depth"), dataclasses.replace(MASK, name="surface"))
        ((_, truth),) = as_arrays(part.batches(unscaled(12, 10), 10))
        np.testing.assert_array_equal(truth["depth"], coded.targets["height"])
        np.testing.assert_array_equal(truth["surface"], coded.targets["mask"])

    def test_a_class_alone_must_not_lack(self):
        with pytest.raises(auxzoo.UserError, match="'kind' must be 0 to 1. Received: -1 in image 1, 1 wrong in all"):
            ImageSet.from_targets(np.zeros((2, 4, 5, 3), "uint8"), [KIND], {"kind": [0, -1]})

    def test_two_tasks_of_one_name_are_refused(self):
        tasks = [MASK, Task("mask", "regression")]
        with pytest.raises(auxzoo.UserError, match="`tasks` must have a name each. Received: mask, mask"):
            ImageSet.from_targets(np.zeros((2, 4, 5, 3), "uint8"), tasks, {"mask": np.zeros((2, 4, 5), int)})

    def test_no_task_at_all_is_refused(self):
        with pytest.raises(auxzoo.UserError, match=r"`tasks` must be a list of Task, 1 or more. Received: tasks=\[\]"):
            ImageSet.from_targets(np.zeros((2, 4, 5, 3), "uint8"), [], {})


def take_in(task, values, way):
    """Takes the truth of one picture in, as a file holds it or as an array."""
    if way == "file":
        return Target(task).read(values, "picture")
    return ImageSet.from_targets(np.zeros((1, 4, 5, 3), "uint8"), [task], {task.name: values[None]})


class TestNumbersThatDoNotFitTheirType:
    """What is kept in fewer bits than it came in."""

    def test_more_classes_than_a_byte_holds_are_refused(self):
        labels = tuple(map(str, range(256)))
        with pytest.raises(auxzoo.UserError, match="`labels` of task 'mask' must be 255 at most.* Received: 256"):
            Task("mask", "segmentation", labels)
        assert len(Task("kind", "classification", labels).labels) == 256

    def test_more_names_in_a_file_than_a_byte_holds_are_refused(self, tmp_path):
        write_pairs(tmp_path / "train", [np.full((4, 5), 300, "uint16")])
        (tmp_path / "mask.txt").write_text("\n".join(map(str, range(400))))
        with pytest.raises(auxzoo.UserError, match="`labels` of task 'mask' must be 255 at most.* Received: 400"):
            open_images(f"folder:{tmp_path}", targets=[Target(Task("mask", "segmentation"))])

    @pytest.mark.parametrize("way", ["file", "arrays"])
    def test_the_last_class_of_a_byte_is_kept(self, way):
        task = Task("mask", "segmentation", tuple(map(str, range(255))))
        taken = take_in(task, np.full((4, 5), 254, "uint16"), way)
        values = taken if way == "file" else taken.targets["mask"][0]
        np.testing.assert_array_equal(values, np.full((4, 5), 254, "uint8"), strict=True)

    @pytest.mark.parametrize("way", ["file", "arrays"])
    def test_the_largest_number_of_float32_is_kept(self, way):
        largest = np.full((4, 5), np.finfo("float32").max, "float64")
        taken = take_in(HEIGHT, largest, way)
        values = taken if way == "file" else taken.targets["height"][0]
        np.testing.assert_array_equal(values, largest.astype("float32"), strict=True)

    @pytest.mark.parametrize("way", ["file", "arrays"])
    def test_a_number_beyond_float32_is_refused(self, way):
        numbers = np.full((4, 5), 1e39)
        with pytest.raises(auxzoo.UserError, match="'height' must be finite"):
            take_in(HEIGHT, numbers, way)

    @pytest.mark.parametrize("way", ["file", "arrays"])
    @pytest.mark.parametrize("values", [np.full((4, 5), 1j), np.full((4, 5), "1"), np.zeros((4, 5), "M8[s]")])
    def test_what_is_no_real_number_is_refused(self, values, way):
        with pytest.raises(auxzoo.UserError, match="'height' must be numbers"):
            take_in(HEIGHT, values, way)


class TestTarget:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"task": "mask"}, "`task` must be a Task. Received: task='mask'"),
            ({"feature": ""}, "`feature` of 'mask' must be a name or None. Received: feature=''"),
            ({"feature": 3}, "`feature` of 'mask' must be a name or None. Received: feature=3"),
            ({"void": 11}, "`void` of 'mask' must be a list of whole numbers of less than .* Received: void=11"),
            ({"void": (2**64,)}, r"`void` of 'mask' must be a list .*void=\(18446744073709551616,\)"),
            ({"void": (1.0,)}, r"`void` of 'mask' must be a list .*void=\(1.0,\)"),
            ({"void": (True,)}, r"`void` of 'mask' must be a list .*void=\(True,\)"),
            ({"task": HEIGHT, "void": (1,)}, "`void` may be set only of a segmentation. Received: 'height', a regres"),
            ({"task": HEIGHT, "factor": 0}, "`factor` of 'height' must be a number other than 0. Received: factor=0"),
            ({"task": HEIGHT, "factor": NAN}, "`factor` of 'height' must be a number .*factor=nan"),
            ({"task": HEIGHT, "factor": True}, "`factor` of 'height' must be a number .*factor=True"),
            ({"task": HEIGHT, "factor": "2"}, "`factor` of 'height' must be a number .*factor='2'"),
            ({"task": HEIGHT, "missing": "no"}, "`missing` of 'height' must be a number or None. .*missing='no'"),
            ({"task": HEIGHT, "missing": False}, "`missing` of 'height' must be a number or None. .*missing=False"),
            ({"factor": 2.0}, "`factor` and `missing` may be set only of a regression. Received: 'mask', a segm"),
            ({"task": KIND, "missing": 0}, "`factor` and `missing` may be set only of a regression. Received: 'kind'"),
        ],
    )
    def test_bad_settings_are_named(self, arguments, message):
        with pytest.raises(auxzoo.UserError, match=message):
            Target(**{"task": MASK} | arguments)

    def test_classes_without_names_are_refused(self):
        unnamed = Task("mask", "segmentation")
        with pytest.raises(auxzoo.UserError, match="`targets` of arrays: task 'mask' must have labels, a name for ev"):
            ImageSet.from_targets(np.zeros((1, 4, 5, 3), "uint8"), [unnamed], {"mask": np.zeros((1, 4, 5), int)})

    def test_the_feature_is_called_as_the_task_by_default(self):
        assert Target(MASK).source == "mask"
        assert Target(MASK, feature="label").source == "label"

    @settings(derandomize=True, deadline=None)
    @given(
        st.sampled_from(["uint8", "int16", ">u2", "int32", "uint64"]),
        st.lists(st.one_of(st.integers(0, VOID), st.sampled_from([-1, 65535, -(2**40)])), max_size=3),
        st.integers(1, 6),
        st.lists(st.integers(0, VOID), min_size=1, max_size=8),
    )
    def test_void_and_255_become_void_and_no_class_changes(self, dtype, void, classes, values):
        target = Target(Task("mask", "segmentation", tuple("abcdef"[:classes])), void=void)
        wrong = [value for value in values if value >= classes and value not in (*void, VOID)]
        stored = np.array(values, dtype)[None, :, None]
        if wrong:
            with pytest.raises(
                auxzoo.UserError, match=rf"here: 'mask' must be .*Received: {wrong[0]}, {len(wrong)} wr"
            ):
                target.read(stored, "here")
        else:
            expected = np.array([[VOID if value in void else value for value in values]], "uint8")
            np.testing.assert_array_equal(target.read(stored, "here"), expected, strict=True)

    @pytest.mark.parametrize(("dtype", "void"), [("int8", -1), ("int16", -1), ("uint16", 65535), ("int64", -(2**40))])
    def test_void_may_be_what_no_byte_holds(self, dtype, void):
        stored = np.array([[0, void, 2]], dtype)
        expected = np.array([[0, VOID, 2]], "uint8")
        np.testing.assert_array_equal(Target(MASK, void=[void]).read(stored, "here"), expected, strict=True)
        with pytest.raises(auxzoo.UserError, match=f"'mask' must be 0 to 2, or .* Received: {void}, 1 wrong in all"):
            Target(MASK).read(stored, "here")

    @settings(derandomize=True, deadline=None)
    @given(
        st.sampled_from(["uint8", "uint16", "float32", "float64"]),
        st.sampled_from([1.0, -0.5, 1000]),
        st.sampled_from([None, 0, 7, 70_000, NAN]),
        st.lists(st.sampled_from([0, 1, 7, 200, NAN]), min_size=1, max_size=8),
    )
    def test_missing_becomes_nan_and_the_rest_is_multiplied(self, dtype, factor, missing, values):
        if dtype.startswith("uint"):
            values = [0 if np.isnan(value) else value for value in values]
        read = Target(HEIGHT, factor=factor, missing=missing).read(np.array([values], dtype), "here")
        expected = np.array([[NAN if value == missing else value * factor for value in values]], "float32")
        np.testing.assert_array_equal(read, expected, strict=True)

    @pytest.mark.parametrize("value", [np.inf, -np.inf])
    def test_infinity_may_stand_for_no_truth(self, value):
        read = Target(HEIGHT, missing=value).read(np.array([[value, 2.0]]), "here")
        np.testing.assert_array_equal(read, [[NAN, 2]])

    def test_what_was_read_is_not_changed(self):
        stored = np.array([[0.0, 2.0]])
        Target(HEIGHT, missing=0, factor=3).read(stored, "here")
        np.testing.assert_array_equal(stored, [[0, 2]])

    @pytest.mark.parametrize("value", [np.int64(1), np.uint8(0), 1, -1])
    def test_a_class_is_a_number(self, value):
        assert Target(KIND).read(value, "here") == value

    @pytest.mark.parametrize("value", [1.0, True, [1], "near"])
    def test_what_is_no_class_is_named(self, value):
        with pytest.raises(auxzoo.UserError, match="here: 'kind' must be a whole number. Received: "):
            Target(KIND).read(value, "here")


class TestFitted:
    @settings(derandomize=True, deadline=None, max_examples=60)
    @given(
        st.integers(1, 20),
        st.integers(1, 20),
        st.integers(1, 20),
        st.integers(1, 20),
        st.sampled_from([(), (1,), (3,)]),
    )
    def test_every_pixel_is_the_nearest(self, rows, columns, height, width, batch):
        for length, new_length, axis in ((rows, height, 0), (columns, width, 1)):
            places = np.indices((rows, columns))[axis]
            maps = tf.constant(np.broadcast_to(places, (*batch, rows, columns)).astype("float32"))
            result = fitted(maps, HEIGHT, Preprocessing(height, width)).numpy()
            assert result.shape == (*batch, height, width)
            wanted = (np.arange(new_length) + 0.5) * length / new_length - 0.5
            wanted = np.broadcast_to(wanted[:, None] if axis == 0 else wanted, result.shape)
            assert np.abs(result - wanted).max() <= 0.5 + 1e-4

    @settings(derandomize=True, deadline=None, max_examples=60)
    @given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 9), st.integers(0, 9), st.sampled_from([MASK, HEIGHT]))
    def test_padding_surrounds_with_no_truth_where_the_picture_is_padded(self, rows, columns, more, wider, task):
        values = np.arange(rows * columns).reshape(1, rows, columns).astype(TYPES[task.name]) % VOID
        preprocessing = unscaled(rows + more, columns + wider, "pad")
        result = fitted(tf.constant(values), task, preprocessing).numpy()
        picture = preprocess(np.ones((1, rows, columns, 3)), preprocessing).numpy()
        np.testing.assert_array_equal(has_truth(result, task), picture[..., 0] == 1)
        np.testing.assert_array_equal(result[has_truth(result, task)], values.ravel())
        assert result.dtype == values.dtype

    @pytest.mark.parametrize(
        ("task", "values", "expected"),
        [
            (MASK, np.array([[0, VOID], [254, 2]], "uint8"), [[True, False], [True, True]]),
            (HEIGHT, np.array([[0, NAN], [-1, 255]], "float32"), [[True, False], [True, True]]),
            (KIND, np.array([0, MISSING_CLASS, 255]), [True, False, True]),
        ],
    )
    def test_truth_is_told_from_none(self, task, values, expected):
        np.testing.assert_array_equal(has_truth(values, task), expected)

    @pytest.mark.parametrize(("task", "dtype"), [(MASK, tf.uint8), (HEIGHT, tf.float32)])
    def test_no_truth_is_none(self, task, dtype):
        value = no_truth(task, dtype)
        assert value.dtype == dtype
        assert not has_truth(value.numpy(), task)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(st.lists(st.sampled_from([0, 1, 2, VOID]), min_size=4, max_size=4), min_size=1, max_size=4))
def test_weights_by_median_frequency_are_those_of_the_definition(masks):
    targets = np.array(masks, "uint8").reshape(-1, 2, 2)
    frequencies = {}
    for label in range(3):
        showing = [mask for mask in masks if label in mask]
        if showing:
            with_truth = sum(value != VOID for mask in showing for value in mask)
            frequencies[label] = sum(mask.count(label) for mask in showing) / with_truth
    if frequencies:
        median = np.median(list(frequencies.values()))
        expected = [median / frequencies[label] if label in frequencies else 0 for label in range(3)]
        np.testing.assert_allclose(median_frequency_weights(targets, MASK, 3), expected)
    else:
        with pytest.raises(auxzoo.UserError, match="`class_weights` of 'mask' cannot be taken"):
            median_frequency_weights(targets, MASK, 3)


class TestParts:
    def test_one_pixel_changes_the_manifest(self):
        pictures, mask = np.zeros((2, 3, 4, 3), "uint8"), np.zeros((2, 3, 4), int)
        before = ImageSet.from_targets(pictures, [MASK], {"mask": mask}).manifest()
        assert ImageSet.from_targets(pictures, [MASK], {"mask": mask.copy()}).manifest() == before
        for value in (1, VOID):
            changed = mask.copy()
            changed[1, 2, 3] = value
            after = ImageSet.from_targets(pictures, [MASK], {"mask": changed}).manifest()
            assert after["sha256"] != before["sha256"]

    def test_one_pixel_of_a_file_changes_the_manifest(self, tmp_path):
        masks = [np.zeros((3, 4), "uint8"), np.zeros((5, 4), "uint8")]
        write_pairs(tmp_path / "train", masks)
        before = open_images(f"folder:{tmp_path}", targets=[Target(MASK)]).manifest()
        assert open_images(f"folder:{tmp_path}", targets=[Target(MASK)]).manifest() == before
        masks[1][4, 3] = 2
        write_pairs(tmp_path / "train", masks)
        assert open_images(f"folder:{tmp_path}", targets=[Target(MASK)]).manifest()["sha256"] != before["sha256"]

    @pytest.mark.parametrize(("name", "place"), [("mask", (9, 11, 9)), ("height", (0, 0, 0)), ("kind", (5,))])
    def test_every_task_counts_in_the_manifest(self, coded, name, place):
        values = coded.targets[name].copy()
        values[place] = 1 if values[place] != 1 else 0
        changed = dataclasses.replace(coded, targets=coded.targets | {name: values})
        assert changed.manifest()["sha256"] != coded.manifest()["sha256"]

    def test_the_manifest_of_a_labelled_set_is_of_pictures_and_then_classes(self, make_images):
        images = make_images(10)
        content = images.records.tobytes() + images.classes.astype("<i8").tobytes()
        assert images.manifest()["sha256"] == hashlib.sha256(content).hexdigest()

    @pytest.mark.parametrize("which", ["coded", "coded_of_several_sizes"])
    def test_parts_keep_pictures_and_truth_together(self, which, request):
        images = request.getfixturevalue(which)
        parts = [*images.split(4, seed=1), images.part([7, 0, 3], "three"), images.sample(5, seed=2)]
        assert [part.size for part in parts] == [6, 4, 3, 5]
        assert sorted([*parts[0].indices, *parts[1].indices]) == list(range(10))
        for part in parts:
            for place, index in enumerate(part.indices):
                np.testing.assert_array_equal(part.picture(place), images.picture(index))
                for name, values in part.targets.items():
                    np.testing.assert_array_equal(values[place], images.targets[name][index])

    def test_a_part_of_several_sizes_makes_batches(self, coded_of_several_sizes):
        part = coded_of_several_sizes.part([1, 4], "two")
        ((pictures, truth),) = as_arrays(part.batches(unscaled(17, 14, "pad"), 2))
        assert_codes_agree(pictures, truth, padded=True)


# --- augmentation -----------------------------------------------------------------------------------------------------


def assert_codes_agree(pictures, truth, padded=False):
    """Asserts that the pixels of coded pictures tell the truth that lies beside them."""
    red, green, blue = np.moveaxis(pictures, -1, 0)
    inside = blue > 0 if padded else np.ones(red.shape, bool)
    assert inside.any()
    mask, height = truth["mask"], truth["height"]
    np.testing.assert_array_equal(np.where(mask == VOID, 200.0, 40.0 * mask)[inside], red[inside])
    np.testing.assert_array_equal(np.where(np.isnan(height), 250, height + 100)[inside], green[inside])
    np.testing.assert_array_equal(np.where(inside, 50 + 100 * truth["kind"][:, None, None], 0), blue)
    assert (mask[~inside] == VOID).all()
    assert np.isnan(height[~inside]).all()


class TestAugmentation:
    @pytest.mark.parametrize(
        "augmentation",
        [Augmentation(flip=True), Augmentation(shift=3), Augmentation(flip=True, shift=9)],
        ids=["flip", "shift", "both"],
    )
    def test_maps_move_with_their_picture(self, coded, augmentation):
        batches = training_batches(coded, 6, augmentation)
        assert differ(batches, training_batches(coded, 6))
        for pictures, truth in batches:
            assert_codes_agree(pictures, truth)

    def test_maps_move_with_a_padded_picture(self, coded):
        batches = training_batches(coded, 3, Augmentation(flip=True), preprocessing=unscaled(16, 15, "pad"))
        assert differ(batches, training_batches(coded, 3, preprocessing=unscaled(16, 15, "pad")))
        for pictures, truth in batches:
            assert_codes_agree(pictures, truth, padded=True)

    @settings(derandomize=True, deadline=None, max_examples=40)
    @given(st.integers(2, 9), st.integers(2, 9), st.booleans(), st.integers(0, 1), st.integers(0, 2**31 - 1))
    def test_together_moves_all_alike(self, height, width, flip, shift, seed):
        places = np.broadcast_to(np.arange(height * width).reshape(height, width), (5, height, width))
        images = tf.constant(np.stack([places] * 3, axis=-1), tf.float32)
        maps = {"bytes": tf.constant(places, tf.uint8), "numbers": tf.constant(places, tf.float32)}
        moved, moved_maps = Augmentation(flip=flip, shift=shift).together(images, maps, (seed, 1))
        for name, values in maps.items():
            assert moved_maps[name].dtype == values.dtype
            np.testing.assert_array_equal(moved_maps[name], moved[..., 1])

    @settings(derandomize=True, deadline=None, max_examples=150)
    @given(
        st.integers(1, 20),
        st.integers(1, 20),
        st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)).map(sorted),
        st.integers(0, 2**31 - 1),
    )
    def test_scaling_shows_a_part_or_surrounds_the_whole(self, height, width, scale, seed):
        places = np.arange(height * width).reshape(height, width)
        picture = np.stack([places % 127, places // 127, np.zeros_like(places)], axis=-1).astype("uint8")
        truth = {
            MASK: tf.constant(places % 127, tf.uint8),
            HEIGHT: tf.constant(places, tf.float32),
            KIND: tf.constant(1, tf.int64),
        }
        changed, maps = Augmentation(scale=tuple(scale)).varied(tf.constant(picture), truth, (seed, 0))
        changed, mask, numbers = changed.numpy(), maps[MASK].numpy(), maps[HEIGHT].numpy()
        for new, old in zip(changed.shape, (height, width), strict=False):
            assert max(old / scale[1] - 0.51, 1) <= new <= max(old / scale[0] + 0.51, 1)
        assert changed.shape[:2] == mask.shape == numbers.shape
        rows, columns = np.nonzero(~np.isnan(numbers))
        inside = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        # Row by row one longer than the picture is surrounded, one shorter is cut.
        assert numbers[inside].shape == tuple(np.minimum(mask.shape, (height, width)))
        first = int(numbers[inside][0, 0])
        part = np.s_[first // width :, first % width :]
        part = tuple(slice(s.start, s.start + length) for s, length in zip(part, numbers[inside].shape, strict=True))
        np.testing.assert_array_equal(numbers[inside], places[part])
        np.testing.assert_array_equal(mask[inside], places[part] % 127)
        np.testing.assert_array_equal(changed[inside], picture[part])
        outside = np.isnan(numbers)
        np.testing.assert_array_equal(mask == VOID, outside)
        assert (changed[outside] == GREY).all()
        assert maps[KIND] == 1

    def test_factors_are_equally_probable_on_a_logarithmic_scale(self):
        picture, augmentation = tf.zeros([1000, 1, 1], tf.uint8), Augmentation(scale=(0.5, 2))

        def rows(seed):
            return tf.shape(augmentation.varied(picture, {}, tf.stack([seed, 0]))[0])[0]

        factors = 1000 / np.array(as_arrays(tf.data.Dataset.range(1000).map(rows)))
        quarters = np.quantile(np.log2(factors), [0, 0.25, 0.5, 0.75, 1])
        np.testing.assert_allclose(quarters, [-1, -0.5, 0, 0.5, 1], atol=0.1)

    def test_a_factor_of_one_changes_nothing(self, coded, coded_of_several_sizes):
        for images in (coded, coded_of_several_sizes):
            assert_same(training_batches(images, 3, Augmentation(scale=(1, 1))), training_batches(images, 3))

    def test_below_one_the_whole_lies_in_grey_without_truth(self):
        images = coded_images(8, 16, 16, block=4)
        ((pictures, truth),) = training_batches(
            images, 1, Augmentation(scale=(0.5, 0.5)), preprocessing=unscaled(32, 32), batch_size=8
        )
        surrounding = (pictures == GREY).all(-1)
        assert (surrounding.sum((1, 2)) == 32 * 32 - 16 * 16).all()
        assert (truth["mask"][surrounding] == VOID).all()
        assert np.isnan(truth["height"][surrounding]).all()
        corners = set()
        for picture in ~surrounding:
            rows, columns = picture.any(1), picture.any(0)
            assert (rows.sum(), columns.sum()) == (16, 16)
            corners.add((rows.argmax(), columns.argmax()))
        assert len(corners) > 4  # at a random place
        inside = [values[~outside].reshape(16, 16, -1) for values, outside in zip(pictures, surrounding, strict=True)]
        originals = {picture.tobytes() for picture in images.records}
        assert {picture.astype("uint8").tobytes() for picture in inside} == originals

    def test_above_one_a_part_fills_the_input(self):
        rows = np.broadcast_to(np.arange(16)[None, :, None], (8, 16, 16))
        pictures = np.zeros((8, 16, 16, 3), "uint8")
        images = ImageSet.from_targets(pictures, [HEIGHT], {"height": rows})
        ((_, heights),) = training_batches(
            images, 1, Augmentation(scale=(2, 2)), preprocessing=unscaled(16, 16), batch_size=8
        )
        starts = heights[:, 0, 0]
        np.testing.assert_array_equal(
            heights, np.broadcast_to(starts[:, None, None] + (np.arange(16) // 2)[:, None], (8, 16, 16))
        )
        assert len(set(starts)) > 2  # a random part

    @pytest.mark.parametrize("size", [(32, 32), (48, 40)])
    def test_scaled_pictures_agree_with_their_maps(self, size):
        images = coded_images(8, 64, 64, block=32, seed=3)
        augmentation = Augmentation(flip=True, scale=(0.5, 2))
        batches = training_batches(images, 4, augmentation, preprocessing=unscaled(*size), batch_size=8)
        # Away from the edges of blocks and of the picture, where resizing mixes colours.
        window = {"size": (1, 5, 5), "mode": "constant"}
        checked = 0
        for pictures, truth in batches:
            codes = [(truth["mask"], VOID, 40.0 * truth["mask"])]
            codes += [(np.nan_to_num(truth["height"], nan=999), 999, truth["height"] + 100)]
            for channel, (values, missing, colours) in enumerate(codes):
                even = scipy.ndimage.maximum_filter(values + 1.0, cval=np.inf, **window) == values + 1
                even &= scipy.ndimage.minimum_filter(values + 1.0, cval=-np.inf, **window) == values + 1
                even &= values != missing
                np.testing.assert_allclose(pictures[..., channel][even], colours[even], atol=1e-2)
                checked += even.sum()
            grey = (np.abs(pictures - GREY) < 1e-2).all(-1)
            grey = scipy.ndimage.minimum_filter(grey, cval=False, **window)
            assert grey.any()
            assert (truth["mask"][grey] == VOID).all()
            assert np.isnan(truth["height"][grey]).all()
        assert checked > 2000

    def test_colour_changes_pictures_and_never_their_truth(self, coded, coded_of_several_sizes):
        for images in (coded, coded_of_several_sizes):
            plain, coloured = training_batches(images, 3), training_batches(images, 3, Augmentation(colour=0.3))
            assert_same([truth for _, truth in plain], [truth for _, truth in coloured])
            for (pictures, _), (changed, _) in zip(plain, coloured, strict=True):
                assert (np.abs(pictures - changed).max((1, 2, 3)) > 1).all()

    @pytest.mark.parametrize("channels", [1, 3, 4])
    @pytest.mark.parametrize("strength", [0.2, 1.0])
    def test_colours_stay_within_their_bounds(self, strength, channels):
        # Of an even grey, contrast and saturation change nothing.
        picture = tf.fill([4, 5, channels], tf.constant(100, tf.uint8))
        seen = [
            Augmentation(colour=strength).varied(picture, {}, (seed, 0))[0][..., : min(channels, 3)].numpy()
            for seed in range(20)
        ]
        for values in seen:
            np.testing.assert_allclose(values, values[0, 0, 0], atol=1e-3)
        levels = [values[0, 0, 0] for values in seen]
        assert 100 * (1 - strength) - 1e-3 <= min(levels) < 100 < max(levels) <= 100 * (1 + strength) + 1e-3
        assert len(set(levels)) == 20

    def test_brightness_contrast_and_saturation_change_each_for_itself(self):
        # Contrast changes how far two greys are from each other, and saturation nothing of them; of an even colour it
        # is the other way round. Brightness changes neither of these ratios.
        greys = tf.constant(np.repeat([[60] * 3, [120] * 3], 2, axis=0)[None], tf.uint8)
        even = tf.fill([2, 2, 3], tf.constant(1, tf.uint8)) * tf.constant([120, 80, 60], tf.uint8)
        found = []
        for seed in range(40):
            one, other = (
                Augmentation(colour=0.25).varied(picture, {}, (seed, 0))[0].numpy() for picture in (greys, even)
            )
            low, high = one[0, 0, 0], one[0, -1, 0]
            found.append((other.max() / 120, 3 * (high - low) / (high + low), 2 * (1 - other.min() / other.max())))
        for factors in np.transpose(found):
            assert 0.75 - 1e-3 <= factors.min() < 0.85
            assert 1.15 < factors.max() <= 1.25 + 1e-3
        assert np.abs(np.corrcoef(np.transpose(found)) - np.eye(3)).max() < 0.6

    def test_colours_stay_colours(self):
        picture = tf.constant(np.random.default_rng(0).integers(0, 256, (6, 7, 3)), tf.uint8)
        for seed in range(20):
            values = Augmentation(colour=1.0).varied(picture, {}, (seed, 0))[0].numpy()
            assert values.shape == (6, 7, 3)
            assert values.min() >= 0
            assert values.max() <= 255

    ALL = Augmentation(flip=True, shift=2, erase=0.5, scale=(0.5, 2), colour=0.4)

    @pytest.mark.parametrize("which", ["coded", "coded_of_several_sizes"])
    def test_the_same_seed_gives_the_same_batches_and_another_other_ones(self, which, request):
        images = request.getfixturevalue(which)
        batches = training_batches(images, 4, self.ALL)
        assert_same(batches, training_batches(images, 4, self.ALL))
        assert differ(batches, training_batches(images, 4, self.ALL, seed=6))

    @pytest.mark.parametrize("name", ["scale", "colour"])
    def test_another_seed_changes_pictures_otherwise(self, name):
        one = coded_images(1)
        augmentation = Augmentation(**{name: {"scale": (0.5, 2), "colour": 0.4}[name]})
        first, other = (training_batches(one, 1, augmentation, seed=seed, batch_size=1) for seed in (0, 1))
        assert differ(first, other)

    def test_a_picture_is_changed_otherwise_in_every_epoch(self):
        batches = training_batches(coded_images(1), 3, Augmentation(scale=(0.5, 2), colour=0.4), batch_size=1)
        assert all(differ([first], [second]) for first, second in itertools.combinations(batches, 2))

    def test_pictures_of_a_batch_are_changed_each_in_its_way(self):
        images = coded_images(1)
        images = ImageSet.from_targets(np.repeat(images.records, 4, 0), [KIND], {"kind": [0] * 4})
        ((pictures, _),) = training_batches(images, 1, Augmentation(colour=0.4))
        assert all(not np.array_equal(one, other) for one, other in itertools.combinations(pictures, 2))

    @pytest.mark.parametrize("first_epoch", [1, 3])
    @pytest.mark.parametrize("which", ["coded", "coded_of_several_sizes"])
    def test_a_later_start_gives_what_an_undisturbed_run_gives(self, which, first_epoch, request):
        images = request.getfixturevalue(which)  # 2 whole batches an epoch
        whole = training_batches(images, 8, self.ALL)
        part = training_batches(images, 8 - 2 * first_epoch, self.ALL, first_epoch=first_epoch)
        assert_same(whole[2 * first_epoch :], part)

    def test_erasing_never_changes_truth(self, coded):
        plain, erased = (
            training_batches(coded, 3, Augmentation(True, 2)),
            training_batches(coded, 3, Augmentation(True, 2, 1.0)),
        )
        assert_same([truth for _, truth in plain], [truth for _, truth in erased])
        for (pictures, _), (changed, _) in zip(plain, erased, strict=True):
            assert ((changed == 0).all(-1).sum((1, 2)) > 0).all()
            kept = (changed != 0).any(-1)
            np.testing.assert_array_equal(changed[kept], pictures[kept])

    def test_scale_is_refused_where_pictures_are_padded(self, coded):
        message = "`scale` may be set only where pictures are resized. Received: fit='pad'"
        with pytest.raises(auxzoo.UserError, match=message):
            coded.training_batches(unscaled(12, 10, "pad"), 4, 0, Augmentation(scale=(1, 1)))

    def test_colour_may_be_set_where_pictures_are_padded(self, coded):
        ((pictures, truth),) = training_batches(
            coded, 1, Augmentation(colour=0.2), preprocessing=unscaled(14, 10, "pad")
        )
        assert (pictures[:, [0, -1]] == 0).all()
        assert (truth["mask"][:, [0, -1]] == VOID).all()

    @pytest.mark.parametrize(
        "scale",
        [1.0, (1,), (1, 2, 3), (2, 1), (0, 1), (0.05, 1), (1, 11), (NAN, 1), (1, NAN), ("a", "b"), "12", {1, 2}],
    )
    def test_a_bad_scale_is_named(self, scale):
        with pytest.raises(auxzoo.UserError, match="`scale` must be the smallest and the largest.*Received: scale="):
            Augmentation(scale=scale)

    @pytest.mark.parametrize("colour", [-0.1, 1.1, NAN, True])
    def test_a_bad_colour_is_named(self, colour):
        with pytest.raises(auxzoo.UserError, match=f"`colour` must be 0 to 1. Received: colour={colour}"):
            Augmentation(colour=colour)


class TestLabelledSet:
    """A set of one class an image gives the batches that it gave before there were other tasks."""

    @pytest.mark.parametrize("size", [8, 11], ids=["as it is", "resized"])
    def test_batches_are_those_of_order_and_augmentation_alone(self, make_images, size):
        images, augmentation, seed = make_images(10), Augmentation(True, 2, 0.5), 5
        batches = training_batches(images, 6, augmentation, preprocessing=unscaled(size, size))
        for step, (pictures, classes) in enumerate(batches):
            order = tf.random.experimental.stateless_shuffle(
                tf.range(10, dtype=tf.int64), seed=tf.constant([seed, step // 2], tf.int64)
            )
            places = order.numpy()[step % 2 * 4 :][:4]
            plain = preprocess(images.records[places], unscaled(size, size))
            expected = augmentation(plain, tf.constant([seed + 2**32, step], tf.int64))
            np.testing.assert_array_equal(pictures, expected)
            np.testing.assert_array_equal(classes, images.classes[places], strict=True)

    def test_reading_one_by_one_gives_the_same_batches(self, make_images):
        images = make_images(10)
        for size in (8, 11):
            plain, varied = (
                training_batches(images, 4, Augmentation(True, 2, 0.5, scale), preprocessing=unscaled(size, size))
                for scale in (None, (1, 1))
            )
            assert_same(plain, varied)

    def test_scale_and_colour_change_no_class(self, make_images):
        images = make_images(10)
        plain, varied = (
            training_batches(images, 4, augmentation, preprocessing=unscaled(8, 8))
            for augmentation in (None, Augmentation(scale=(0.5, 2), colour=0.5))
        )
        assert differ(plain, varied)
        assert_same([classes for _, classes in plain], [classes for _, classes in varied])

    def test_from_targets_makes_the_same_set(self, make_images):
        images = make_images(10)
        task = Task("classification", "classification", images.labels)
        other = ImageSet.from_targets(images.records, [task], {"classification": images.classes}, images.name)
        assert other.manifest() == images.manifest()
        assert other.overlaps(images)
        assert_same(*(training_batches(one, 3, preprocessing=unscaled(8, 8)) for one in (images, other)))

    def test_copies_are_passed_over_in_whatever_files_they_are(self, make_images, tmp_path):
        images = make_images(10)
        for place, number in enumerate((2, 7)):
            write_picture(tmp_path / "train" / "a" / f"{place}.png", images.records[number])
        write_picture(tmp_path / "train" / "b" / "0.png", 255 - images.records[4])
        write_picture(tmp_path / "test" / "b" / "0.png", images.records[5])
        encoded = open_images(f"folder:{tmp_path}")
        left = images.sample(10, 0, apart_from=[encoded])
        assert list(left.indices) == [0, 1, 3, 4, 5, 6, 8, 9]
        assert left.name.endswith(f"(8 by seed 0, none of {encoded.name})")
        assert list(encoded.sample(3, 0, apart_from=[images]).classes) == [1]
        assert images.part([2, 7], "two").sample(2, 0, apart_from=[encoded]) is None
        # Of other rows and columns it is another picture, if the same bytes.
        turned = ImageSet.from_arrays(images.records.reshape(10, 4, 16, 3), images.classes, images.labels)
        assert turned.sample(10, 0, apart_from=[images]).size == 10

    @pytest.mark.parametrize("seed", range(5))
    def test_others_take_the_place_of_copies(self, make_images, seed):
        images = make_images(10)
        copies = ImageSet.from_arrays(images.records[:3], images.classes[:3], images.labels)
        chosen, plain = images.sample(5, seed, apart_from=[copies]), images.sample(5, seed)
        assert chosen.size == 5
        assert not {0, 1, 2} & set(chosen.indices)
        assert {*plain.indices} - {0, 1, 2} <= {*chosen.indices}
        # Where there is nothing to pass over it is the same set, its name and so its record too.
        others = ImageSet.from_arrays(255 - images.records, images.classes, images.labels)
        assert images.sample(5, seed, apart_from=[others]).manifest() == plain.manifest()

    def test_grey_copies_are_copies(self, make_images):
        grey = make_images(4).records[..., :1]
        of_one, of_three = (
            ImageSet.from_arrays(pictures, [0, 1, 2, 3], "abcd") for pictures in (grey, np.repeat(grey, 3, axis=-1))
        )
        assert of_one.sample(4, 0, apart_from=[of_three]) is None
