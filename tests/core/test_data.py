"""Images: sources, preprocessing, order and augmentation."""

import dataclasses
import hashlib
import io
import itertools
import os
import pathlib
import re
import shutil
import struct
import unicodedata
import warnings

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st

import auxzoo
from auxzoo.data import Augmentation, ImageSet, image_set, open_images, preprocess, read_image, sources
from auxzoo.data.sample_files import make_sample
from auxzoo.data.sources import _are_test as are_test
from auxzoo.data.sources import _image_set as make_image_set
from auxzoo.data.targets import Target
from auxzoo.models import Preprocessing

SMALL = Preprocessing(8, 8)


def write_picture(path, size=(6, 5), value=100, kind="png"):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.full((*size, 3), value, "uint8")
    encode = {"png": tf.io.encode_png, "jpeg": tf.io.encode_jpeg}[kind]
    path.write_bytes(encode(picture).numpy())


class TestPreprocess:
    @settings(derandomize=True, deadline=None, max_examples=30)
    @given(
        st.integers(1, 20),
        st.integers(1, 20),
        st.sampled_from([1, 3, 4]),
        st.booleans(),
        st.sampled_from(["resize", "pad"]),
    )
    def test_any_picture_becomes_the_input(self, height, width, channels, batched, fit):
        shape = ((2,) if batched else ()) + (height, width, channels)
        pictures = np.random.default_rng(height).integers(0, 256, shape).astype("uint8")
        result = preprocess(pictures, Preprocessing(20, 24, fit=fit)).numpy()
        assert result.shape == ((2,) if batched else ()) + (20, 24, 3)
        assert result.dtype == np.float32
        assert result.min() >= -1 - 1e-5
        assert result.max() <= 1 + 1e-5

    def test_padding_keeps_the_pixels_in_the_middle(self):
        picture = np.arange(1, 5).reshape(2, 2, 1).astype("uint8")
        result = preprocess(picture, Preprocessing(4, 4, "pad", (1.0,) * 3, (0.0,) * 3)).numpy()
        np.testing.assert_array_equal(result[1:3, 1:3, 0], [[1, 2], [3, 4]])
        assert result.sum() == 3 * 10

    @staticmethod
    def resizing_by_hand(old, new):
        """Returns the weights `[new, old]` of pixels: triangles, as wide as two pixels of the coarser picture."""
        middles = (np.arange(new) + 0.5) * old / new
        distances = np.abs(np.arange(old) + 0.5 - middles[:, None]) / max(old / new, 1)
        weights = np.maximum(1 - distances, 0)
        return weights / weights.sum(axis=1, keepdims=True)

    @pytest.mark.parametrize(
        ("old", "new"),
        [((6, 8), (12, 24)), ((12, 16), (6, 8)), ((20, 9), (6, 15))],
        ids=["enlarged", "halved", "one of each"],
    )
    def test_pictures_are_resized_between_the_middles_of_pixels_and_made_smaller_by_means(self, old, new):
        picture = np.random.default_rng(0).integers(0, 256, (*old, 3)).astype("uint8")
        rows, columns = (self.resizing_by_hand(*sizes) for sizes in zip(old, new, strict=True))
        expected = np.einsum("rh,hwc,sw->rsc", rows, picture, columns)
        plain = Preprocessing(*new, "resize", (1.0,) * 3, (0.0,) * 3)
        np.testing.assert_allclose(preprocess(picture, plain), expected, atol=1e-3)

    def test_scale_and_offset_are_by_channel(self):
        picture = np.full((2, 2, 3), 10, "uint8")
        result = preprocess(picture, Preprocessing(2, 2, "resize", (1.0, 2.0, 3.0), (0.0, 1.0, 2.0)))
        np.testing.assert_allclose(result[0, 0], [10, 21, 32])

    def test_a_picture_too_large_to_pad_is_refused(self):
        with pytest.raises(auxzoo.UserError, match="must be at most 4x4 pixels.*Received: 5x4"):
            preprocess(np.zeros((5, 4, 3)), Preprocessing(4, 4, "pad"))

    @pytest.mark.parametrize("shape", [(4, 4), (4, 4, 2), (1, 1, 4, 4, 3)])
    def test_other_shapes_are_refused(self, shape):
        with pytest.raises(auxzoo.UserError, match="`images` must be"):
            preprocess(np.zeros(shape), SMALL)


class TestTrainingBatches:
    def batches(self, images, count, **arguments):
        options = {"batch_size": 8, "seed": 5, "augmentation": Augmentation(True, 2, 0.5)} | arguments
        batches = images.training_batches(SMALL, **options)
        return [(x.numpy(), y.numpy()) for x, y in itertools.islice(batches, count)]

    def test_same_seed_same_batches(self, make_images):
        for (x, y), (other_x, other_y) in zip(
            self.batches(make_images(40), 12), self.batches(make_images(40), 12), strict=True
        ):
            np.testing.assert_array_equal(x, other_x)
            np.testing.assert_array_equal(y, other_y)

    def test_another_seed_other_batches(self, make_images):
        first, other = self.batches(make_images(40), 1), self.batches(make_images(40), 1, seed=6)
        assert not np.array_equal(first[0][0], other[0][0])

    @pytest.mark.parametrize("first_epoch", [1, 3])
    def test_a_later_start_gives_what_an_undisturbed_run_gives(self, make_images, first_epoch):
        images = make_images(43)  # 5 whole batches an epoch
        whole = self.batches(images, 25)
        part = self.batches(images, 25 - 5 * first_epoch, first_epoch=first_epoch)
        for (x, y), (other_x, other_y) in zip(whole[5 * first_epoch :], part, strict=True):
            np.testing.assert_array_equal(x, other_x)
            np.testing.assert_array_equal(y, other_y)

    def test_an_epoch_shows_every_image_once(self):
        pictures = np.arange(24, dtype="uint8").reshape(24, 1, 1, 1)
        images = ImageSet.from_arrays(pictures, np.zeros(24, int), ("only",))
        plain = Preprocessing(1, 1, "resize", (1.0,) * 3, (0.0,) * 3)
        seen = [x.numpy()[:, 0, 0, 0] for x, _ in itertools.islice(images.training_batches(plain, 8, seed=0), 6)]
        first, second = np.concatenate(seen[:3]), np.concatenate(seen[3:])
        np.testing.assert_array_equal(np.sort(first), np.arange(24))
        np.testing.assert_array_equal(np.sort(second), np.arange(24))
        assert not np.array_equal(first, second)

    @pytest.mark.parametrize("shift", [8, 9])
    def test_too_large_a_shift_is_refused_at_once(self, make_images, shift):
        with pytest.raises(auxzoo.UserError, match=f"`shift` must be less than .* 8x8. Received: shift={shift}"):
            make_images(10).training_batches(SMALL, 4, seed=0, augmentation=Augmentation(shift=shift))

    @pytest.mark.parametrize("size", [0, 11, 2.0, True])
    def test_a_batch_of_no_such_size_is_refused(self, make_images, size):
        with pytest.raises(auxzoo.UserError, match=f"`batch_size` must be 1 to 10. Received: batch_size={size}"):
            make_images(10).training_batches(SMALL, size, seed=0)
        if size != 11:  # more than there are make one batch
            with pytest.raises(auxzoo.UserError, match=f"`batch_size` must be 1 or more. Received: batch_size={size}"):
                make_images(10).batches(SMALL, size)


class TestAugmentation:
    images = tf.constant(np.random.default_rng(0).uniform(0.5, 1, (64, 16, 12, 3)), tf.float32)

    def test_none_changes_nothing(self):
        np.testing.assert_array_equal(Augmentation()(self.images, (0, 0)), self.images)

    def test_flip_mirrors_about_half(self):
        flipped = Augmentation(flip=True)(self.images, (0, 1)).numpy()
        mirrored = self.images.numpy()[:, :, ::-1]
        same = [np.array_equal(a, b) for a, b in zip(flipped, self.images.numpy(), strict=True)]
        other = [np.array_equal(a, b) for a, b in zip(flipped, mirrored, strict=True)]
        assert all(a != b for a, b in zip(same, other, strict=True))
        assert 16 < sum(other) < 48

    def test_shift_moves_by_at_most_so_many_pixels(self):
        rows = np.broadcast_to(np.arange(16.0)[None, :, None, None], (64, 16, 12, 3)).astype("float32")
        shifted = Augmentation(shift=3)(tf.constant(rows), (0, 2)).numpy()
        moved = shifted[:, 8, 6, 0] - 8
        assert set(moved) <= set(range(-3, 4))
        assert len(set(moved)) > 3

    def test_largest_shift_is_one_less_than_the_smaller_side(self):
        assert Augmentation(shift=11)(self.images, (0, 2)).shape == self.images.shape
        with pytest.raises(auxzoo.UserError, match="`shift` must be less than .* 16x12. Received: shift=12"):
            Augmentation(shift=12)(self.images, (0, 2))

    def test_erasing_blanks_one_rectangle_of_the_promised_size(self):
        erased = Augmentation(erase=1.0)(self.images, (0, 3)).numpy()[..., 0] == 0
        for mask in erased:
            rows, columns = mask.any(1), mask.any(0)
            assert mask.sum() == rows.sum() * columns.sum()
        shares = erased.mean((1, 2))
        assert 0.1 < shares.mean() < 0.16
        assert shares.max() <= 0.3  # a quarter, and rounding to whole pixels

    def test_erasing_spares_by_probability(self):
        erased = (Augmentation(erase=0.5)(self.images, (0, 4)).numpy() == 0).any((1, 2, 3))
        assert 16 < erased.sum() < 48

    @pytest.mark.parametrize(
        "arguments",
        [
            *({"shift": -1}, {"shift": 1.5}, {"shift": True}, {"erase": 1.1}, {"erase": -0.1}, {"erase": "often"}),
            *({"flip": "yes"}, {"colour": "strong"}, {"colour": 1.1}, {"scale": (0.5, "2")}, {"scale": (2, 1)}),
        ],
    )
    def test_bad_settings_are_named(self, arguments):
        (name,) = arguments
        with pytest.raises(auxzoo.UserError, match=f"`{name}` must be.*Received: {name}="):
            Augmentation(**arguments)


class TestParts:
    def test_split_and_sample_are_disjoint_and_reproducible(self, make_images):
        images = make_images(30)
        rest, held_out = images.split(10, seed=1)
        assert (rest.size, held_out.size) == (20, 10)
        assert not rest.overlaps(held_out)
        assert rest.overlaps(images)
        assert sorted([*rest.indices, *held_out.indices]) == list(range(30))
        np.testing.assert_array_equal(images.split(10, seed=1)[1].indices, held_out.indices)
        assert rest.sample(5, seed=0).overlaps(rest)

    @pytest.mark.parametrize("count", [0, 10, 1.0, "3"])
    def test_a_part_of_no_such_size_is_refused(self, make_images, count):
        with pytest.raises(auxzoo.UserError, match=f"`count` must be 1 to 9 for noise 0. Received: count={count!r}"):
            make_images(10).split(count, seed=0)

    def test_other_arrays_of_the_same_name_are_another_source(self, make_images):
        images, other = make_images(10, seed=0), make_images(10, seed=1)
        first, second = (ImageSet.from_arrays(s.records, s.classes, s.labels) for s in (images, other))
        assert first.name == second.name
        assert not first.overlaps(second)
        assert not first.sample(5, seed=0).overlaps(second.sample(5, seed=0))
        assert first.overlaps(images)  # equal pictures, whatever their name

    def test_the_name_does_not_tell_the_source(self, make_images):
        images = make_images(10)
        parts = [
            ImageSet(name, images.records, images.tasks, images.targets, images.indices)
            for name in ("pics (1)", "pics (2)")
        ]
        assert parts[0].overlaps(parts[0].sample(3, seed=0))
        assert not parts[0].overlaps(parts[1])

    def test_manifest_tells_other_content(self, make_images):
        manifests = [make_images(10, seed=seed).manifest() for seed in (0, 0, 1)]
        assert manifests[0] == manifests[1]
        assert manifests[0]["sha256"] != manifests[2]["sha256"]
        assert manifests[0]["count"] == 10

    @pytest.mark.parametrize("count", [0, 31])
    def test_a_part_of_no_size_is_refused(self, make_images, count):
        with pytest.raises(auxzoo.UserError, match="`count` must be 1 to 30"):
            make_images(30).sample(count, seed=0)

    @pytest.mark.parametrize(
        ("images", "classes", "message"),
        [
            (np.zeros((2, 4, 4, 3), "uint8"), [0, 2], "`classes` must be 0 to 1. Received: 2 at place 1"),
            (np.zeros((2, 4, 4, 3), "uint8"), [-1, 0], "`classes` must be 0 to 1. Received: -1 at place 0"),
            (np.zeros((2, 4, 4, 3), "uint8"), [0], "`classes` must be 2 whole numbers"),
            (np.zeros((2, 4, 4, 3), "uint8"), [0.0, 1.0], "`classes` must be 2 whole numbers"),
            (np.zeros((2, 4, 4, 3)), [0, 1], "`images` must be uint8"),
            (np.zeros((2, 4, 4), "uint8"), [0, 1], "`images` must be uint8"),
            (np.zeros((0, 4, 4, 3), "uint8"), [], "`images` must hold at least one"),
        ],
    )
    def test_wrong_arrays_are_named(self, images, classes, message):
        with pytest.raises(auxzoo.UserError, match=message):
            ImageSet.from_arrays(images, classes, ("a", "b"))


class TestSample:
    def test_holds_as_many_of_every_class(self):
        for split, per_class in (("train", 1000), ("test", 200)):
            images = open_images("sample", split)
            assert images.records.shape == (10 * per_class, 28, 28, 1)
            np.testing.assert_array_equal(np.bincount(images.classes), [per_class] * 10)
        assert images.labels[9] == "Ankle boot"

    def test_is_cut_reproducibly(self, tmp_path):
        source = pathlib.Path("/usr/share/datasets/fashion-mnist")
        if not source.is_dir():
            pytest.skip("Debian's dataset-fashion-mnist is not installed")
        checksums = make_sample(source, tmp_path)
        packaged = pathlib.Path(auxzoo.data.__file__).parent / "sample"
        for split, checksum in checksums.items():
            assert auxzoo.files.sha256(packaged / f"fashion_mnist_{split}.png") == checksum
            assert checksum in (packaged / "README.md").read_text()

    def test_another_split_is_refused(self):
        with pytest.raises(auxzoo.UserError, match="`split` of the sample must be one of train, test"):
            open_images("sample", "validation")


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path):
        for label, value in (("cat", 10), ("dog", 200)):
            for number in range(5):
                kind = "jpeg" if number % 2 else "png"
                write_picture(tmp_path / "pictures" / label / f"{number}.{kind}", value=value, kind=kind)
        (tmp_path / "pictures" / "cat" / ".hidden.png").write_text("not looked at")
        (tmp_path / "pictures" / "cat" / "notes.txt").write_text("not looked at")
        return tmp_path / "pictures"

    def test_classes_are_the_folders(self, folder):
        train, test = (open_images(f"folder:{folder}", split) for split in ("train", "test"))
        assert train.labels == ("cat", "dog")
        assert sorted([*train.indices, *test.indices]) == list(range(10))
        assert 1 <= test.size <= 5
        assert not train.overlaps(test)
        images, classes = next(iter(train.batches(SMALL, 10)))
        np.testing.assert_array_equal(images.numpy()[:, 4, 4, 0] > 0, classes.numpy() == 1)

    def test_a_fifth_of_an_undivided_folder_is_test(self, tmp_path):
        for label in ("a", "b"):
            for number in range(100):
                write_picture(tmp_path / label / f"{number}.png", size=(1, 1))
        train, test = (open_images(f"folder:{tmp_path}", split) for split in ("train", "test"))
        assert 25 < test.size < 55
        assert sorted([*train.indices, *test.indices]) == list(range(200))
        assert train.source == test.source
        assert not train.overlaps(test)

    def test_an_added_picture_moves_no_other(self, tmp_path):
        def splits():
            opened = {}
            for split in ("train", "test"):
                images = open_images(f"folder:{tmp_path}", split)
                assert images.records.dtype == object  # so the records are paths
                opened |= {path: split for path in images.records}
            return opened

        for number in range(40):
            write_picture(tmp_path / "ab"[number % 2] / f"{number}.png", size=(1, 1 + number % 3))
        before = splits()
        for added in ("a/0a.png", "a/zzz.png", "b/000.png", "c/first.png", "c/second.png"):
            write_picture(tmp_path / added, size=(2, 2))
            after = splits()
            assert set(after) - set(before) == {str(tmp_path / added)}
            assert before.items() <= after.items()
            before = after

    @settings(derandomize=True, deadline=None, max_examples=200)
    @given(st.dictionaries(st.sampled_from("abc"), st.sets(st.text("xyz", min_size=1), min_size=1), min_size=1))
    def test_both_sides_hold_something_in_the_smallest_folder_too(self, names):
        pictures = [f"{label}/{name}" for label in names for name in sorted(names[label])]
        if len(pictures) < 2:
            return
        classes = np.array(["abc".index(name[0]) for name in pictures])
        is_test = are_test(pictures, classes)
        assert 0 < is_test.sum() < len(pictures)
        for label in set(classes):
            if (classes == label).sum() > 1:
                assert not is_test[classes == label].all()

    def test_where_a_picture_belongs_is_a_hash_of_class_and_name(self, tmp_path):
        names = [f"{label}/{number}.png" for label in "ab" for number in range(20)]
        names += [f"a/{folder}/{number}.png" for folder in ("x", "x/y") for number in range(10)]
        for name in names:
            write_picture(tmp_path / name, size=(1, 1 + len(name)))  # of several sizes, so the records are paths
        numbers = {name: int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64 for name in names}
        for split in ("train", "test"):
            records = {os.path.relpath(path, tmp_path) for path in open_images(f"folder:{tmp_path}", split).records}
            assert records == {name for name in names if (numbers[name] < 0.2) == (split == "test")}

    def test_folders_in_a_class_are_looked_through(self, folder):
        for name in ("b/c/d.png", "b.png", "b/a.jpeg", "a b/1.png", ".hidden/0.png", "b/.hidden/0.png", "b/.0.png"):
            write_picture(folder / "dog" / name, size=(3, len(name)))
        (folder / "dog" / "loop").symlink_to(folder / "dog")
        images = open_images(f"folder:{folder}", "all")
        found = [os.path.relpath(path, folder / "dog") for path in images.records if "/dog/" in path]
        numbered = ["0.png", "1.jpeg", "2.png", "3.jpeg", "4.png"]
        assert found == [*numbered, "a b/1.png", "b/a.jpeg", "b/c/d.png", "b.png"]
        assert images.classes.tolist() == [0] * 5 + [1] * 9

    def test_names_in_any_form_of_unicode_are_the_same(self, tmp_path):
        parts = {}
        for form in ("NFC", "NFD"):
            for label in ("fée", "fzz", "a"):
                for number in range(10):
                    name = unicodedata.normalize(form, f"{label}/é{number}.png")
                    write_picture(tmp_path / form / name, size=(1, 1 + number))
            parts[form] = [open_images(f"folder:{tmp_path / form}", split) for split in ("train", "test")]
        for one, other in zip(*parts.values(), strict=True):
            assert one.labels == other.labels == ("a", "fzz", "fée")
            np.testing.assert_array_equal(one.indices, other.indices)
        assert all(os.path.exists(path) for path in parts["NFD"][0].records)
        shutil.copytree(tmp_path / "NFC" / "fée", tmp_path / "NFD" / "fée")
        with pytest.raises(auxzoo.UserError, match="must hold one folder a class. Received: 'fée' twice"):
            open_images(f"folder:{tmp_path / 'NFD'}")

    def test_a_picture_whose_name_is_no_text_is_read(self, folder):
        name = os.fsdecode(b"\xff.png")
        write_picture(folder / "dog" / name, size=(9, 9), value=7)
        images = open_images(f"folder:{folder}", "all")
        for augmentation in (None, Augmentation(scale=(1, 1))):
            ((batch, _),) = images.training_batches(SMALL, 11, 0, augmentation).take(1)
            assert np.isclose(batch, 7 * 2 / 255 - 1, atol=1e-4).all((1, 2, 3)).sum() == 1
        (folder / "dog" / name).write_bytes(b"no picture")
        with pytest.raises(auxzoo.UserError, match=r"dog/\\xff.png is not a readable picture"):
            open_images(f"folder:{folder}")
        assert open_images(f"folder:{folder}", skip_broken=True).skipped == (f"{folder}/dog/\\xff.png",)
        with pytest.raises(auxzoo.UserError, match=r"`\\xff.png` is not a readable picture: \\xff.png; No such file"):
            read_image(name)

    @pytest.mark.parametrize("split", ["all", "test"])
    @pytest.mark.parametrize("is_divided", [False, True])
    def test_a_set_in_a_folder_whose_name_is_no_text_can_be_told(self, folder, tmp_path, split, is_divided):
        split, place = ("train", "\\xe9/train") if is_divided else (split, "\\xe9")
        named = tmp_path / os.fsdecode(b"\xe9")
        named.mkdir()
        folder.rename(named / "train") if is_divided else folder.rename(named)
        images = open_images(f"folder:{named}", split)
        assert images.name.startswith(f"folder:{tmp_path}/{place}")
        assert images.manifest()["source"].encode()

    def test_a_class_whose_name_is_no_text_is_named(self, folder):
        (folder / "dog").rename(folder / os.fsdecode(b"\xff"))
        with pytest.raises(auxzoo.UserError, match=r"pictures/\\xff` must have a name in UTF-8"):
            open_images(f"folder:{folder}")

    def test_all_of_an_undivided_folder(self, folder):
        images = open_images(f"folder:{folder}", "all")
        assert images.name == f"folder:{folder}"
        np.testing.assert_array_equal(images.indices, np.arange(10))
        assert images.overlaps(open_images(f"folder:{folder}", "test"))
        shutil.rmtree(folder / "cat")
        for number in range(1, 5):
            next((folder / "dog").glob(f"{number}.*")).unlink()
        assert open_images(f"folder:{folder}", "all").size == 1  # which cannot be divided
        (folder / "emu").mkdir()
        assert open_images(f"folder:{folder}", "all").labels == ("dog", "emu")

    def test_all_is_no_split_of_a_divided_folder(self, folder, tmp_path):
        folder.rename(tmp_path / "train")
        write_picture(tmp_path / "val" / "dog" / "a.png")
        message = "must be a folder in .*: train, val. Received: split='all'.*`data.test_split=null`"
        with pytest.raises(auxzoo.UserError, match=message):
            open_images(f"folder:{tmp_path}", "all")

    def test_a_test_split_may_lack_classes(self, folder, tmp_path):
        folder.rename(tmp_path / "train")
        write_picture(tmp_path / "train" / "emu" / "a.png")
        write_picture(tmp_path / "test" / "dog" / "a.png")
        (tmp_path / "test" / "emu").mkdir()
        images = open_images(f"folder:{tmp_path}", "test")
        assert images.labels == ("cat", "dog", "emu")
        assert images.classes.tolist() == [1]
        (tmp_path / "test" / "dog" / "a.png").unlink()
        with pytest.raises(auxzoo.UserError, match="test` must hold at least one picture"):
            open_images(f"folder:{tmp_path}", "test")
        (tmp_path / "train" / "emu" / "a.png").unlink()
        with pytest.raises(auxzoo.UserError, match="train/emu` must hold at least one picture"):
            open_images(f"folder:{tmp_path}", "train")

    def test_brackets_in_the_name_of_a_folder(self, folder, tmp_path):
        for copy in ("pics (1)", "pics (2)"):
            shutil.copytree(folder, tmp_path / copy)
        first, second = (open_images(f"folder:{tmp_path / copy}") for copy in ("pics (1)", "pics (2)"))
        assert not first.overlaps(second)
        assert first.overlaps(first.sample(first.size, seed=0))

    def test_splits_of_a_divided_folder_are_sources_of_their_own(self, folder, tmp_path):
        shutil.copytree(folder, tmp_path / "both" / "train")
        shutil.copytree(folder, tmp_path / "both" / "test")
        train, test = (open_images(f"folder:{tmp_path / 'both'}", split) for split in ("train", "test"))
        assert not train.overlaps(test)
        assert train.overlaps(open_images(f"folder:{tmp_path / 'both'}", "train"))

    def test_a_picture_too_large_to_pad_is_named_before_any_batch(self, folder):
        write_picture(folder / "dog" / "large.png", size=(30, 20))
        write_picture(folder / "dog" / "larger.png", size=(40, 20))
        images = [open_images(f"folder:{folder}", split) for split in ("train", "test")]
        (images,) = [part for part in images if any("large.png" in path for path in part.records)]
        message = r"must be at most 8x8 pixels \(height x width\). Received: 30x20, .*large.png"
        for unknown in (images, dataclasses.replace(images, sizes=None)):
            with pytest.raises(auxzoo.UserError, match=message):
                unknown.batches(Preprocessing(8, 8, "pad"), 2)
            with pytest.raises(auxzoo.UserError, match=message):
                unknown.training_batches(Preprocessing(8, 8, "pad"), 1, seed=0)
        assert len(list(images.batches(Preprocessing(40, 20, "pad"), images.size))) == 1

    def test_pictures_of_one_size_too_large_to_pad_are_refused(self, folder):
        images = open_images(f"folder:{folder}")
        with pytest.raises(auxzoo.UserError, match=r"must be at most 5x5 pixels .*Received: 6x5, image \d of folder:"):
            images.batches(Preprocessing(5, 5, "pad"), 2)

    def test_train_and_test_folders_are_taken_as_they_are(self, folder, tmp_path):
        folder.rename(tmp_path / "train")
        write_picture(tmp_path / "test" / "dog" / "a.png")
        write_picture(tmp_path / "test" / "cat" / "a.png")
        assert open_images(f"folder:{tmp_path}", "train").size == 10
        assert open_images(f"folder:{tmp_path}", "test").labels == ("cat", "dog")

    def test_a_folder_without_a_test_split_may_have_others(self, folder, tmp_path):
        folder.rename(tmp_path / "train")
        for label in ("cat", "dog"):
            write_picture(tmp_path / "val" / label / "a.png")
        assert open_images(f"folder:{tmp_path}", "train").size == 10
        assert open_images(f"folder:{tmp_path}", "val").labels == ("cat", "dog")
        with pytest.raises(auxzoo.UserError, match="`split` must be a folder in .*Received: split='test'"):
            open_images(f"folder:{tmp_path}", "test")

    def test_a_class_may_be_called_train(self, folder):
        (folder / "dog").rename(folder / "train")
        assert open_images(f"folder:{folder}", "train").labels == ("cat", "train")
        write_picture(folder / "train" / "2026" / "late.png")  # classes may have folders of their own
        assert open_images(f"folder:{folder}", "train").labels == ("cat", "train")

    def test_a_folder_that_may_be_divided_or_not_is_told(self, folder):
        (folder / "train").mkdir()
        (folder / "dog").rename(folder / "train" / "2026")
        message = "`train` holds folders. Received: pictures in cat, and none in others"
        with pytest.raises(auxzoo.UserError, match=message):
            open_images(f"folder:{folder}", "train")

    @pytest.mark.parametrize("names", [("Train", "Test"), ("Training", "Testing"), ("seg_train", "seg_val")])
    def test_splits_that_are_called_otherwise_are_no_classes(self, folder, names):
        for name in names:
            shutil.copytree(folder, folder.parent / "both" / name)
        with pytest.raises(auxzoo.UserError, match=f"must hold `train` and `test`, called so.*Received: .*{names[0]}"):
            open_images(f"folder:{folder.parent / 'both'}", "train")

    def test_classes_of_folders_that_are_called_nearly_like_splits_are_classes(self, folder):
        for name, other in (("cat", "train_station"), ("dog", "valley")):
            shutil.copytree(folder / name, folder.parent / "both" / other / "2026")
        assert open_images(f"folder:{folder.parent / 'both'}", "all").labels == ("train_station", "valley")

    def test_classes_that_are_called_like_splits_are_classes(self, folder):
        (folder / "cat").rename(folder / "test")
        (folder / "dog").rename(folder / "trainers")
        assert open_images(f"folder:{folder}", "all").labels == ("test", "trainers")

    def test_pictures_of_several_sizes_are_decoded_when_needed(self, folder):
        write_picture(folder / "dog" / "large.png", size=(30, 20))
        images = open_images(f"folder:{folder}", "all")
        assert images.records.dtype == object
        batch, _ = next(iter(images.training_batches(SMALL, 4, seed=0)))
        assert batch.shape == (4, 8, 8, 3)
        assert images.picture(0).dtype == np.uint8
        assert images.manifest()["sha256"] == open_images(f"folder:{folder}", "all").manifest()["sha256"]

    def test_photographs_are_turned_as_their_exif_data_tell(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 255, (2, 3, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        shown = []
        for orientation in range(1, 9):
            exif = PIL.Image.Exif()
            exif[PIL.ExifTags.Base.Orientation] = orientation
            path = tmp_path / "train" / "cat" / f"{orientation}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(pixels).save(path, exif=exif, quality=100, subsampling=0)
            with PIL.Image.open(path) as picture:
                shown.append(np.asarray(PIL.ImageOps.exif_transpose(picture)).astype(int))
            assert np.abs(read_image(path) - shown[-1]).max() < 3
        write_picture(tmp_path / "test" / "cat" / "a.png")
        images = open_images(f"folder:{tmp_path}", "train")
        preprocessing = dataclasses.replace(SMALL, height=24, width=24, fit="pad", scale=(1.0,) * 3, offset=(0.0,) * 3)
        ((batch, _),) = images.batches(preprocessing, 8)
        for place, picture in enumerate(shown):
            assert np.abs(images.picture(place) - picture).max() < 3
            rows, columns = (slice(4, 20) if size == 16 else slice(0, 24) for size in picture.shape[:2])
            assert np.abs(batch[place, rows, columns].numpy() - picture).max() < 3

    def test_a_broken_picture_is_named_or_skipped(self, folder):
        content = (folder / "dog" / "0.png").read_bytes()
        (folder / "dog" / "broken.png").write_bytes(content[: len(content) // 2])
        with pytest.raises(auxzoo.UserError, match=r"broken.png is not a readable picture.*--skip-broken"):
            open_images(f"folder:{folder}")
        images = open_images(f"folder:{folder}", skip_broken=True)
        assert [name.rpartition("/")[2] for name in images.skipped] == ["broken.png"]

    def test_an_empty_class_is_named(self, folder):
        (folder / "emu").mkdir()
        with pytest.raises(auxzoo.UserError, match=r"emu` must hold at least one picture"):
            open_images(f"folder:{folder}")

    def test_an_empty_folder_is_named(self, tmp_path):
        with pytest.raises(auxzoo.UserError, match="must hold a folder a class"):
            open_images(f"folder:{tmp_path}")

    def test_a_missing_folder_is_named(self, tmp_path):
        with pytest.raises(auxzoo.UserError, match=r"existing folder. Received: `.*nowhere`"):
            open_images(f"folder:{tmp_path / 'nowhere'}")

    def test_nothing_readable_at_all(self, tmp_path):
        for label in ("a", "b"):
            (tmp_path / label).mkdir()
            (tmp_path / label / "x.jpg").write_bytes(b"no picture")
        with pytest.raises(auxzoo.UserError, match="none of 2 pictures is readable"):
            open_images(f"folder:{tmp_path}", "all", skip_broken=True)

    def test_an_unknown_class_in_the_test_folder_is_named(self, folder, tmp_path):
        folder.rename(tmp_path / "train")
        write_picture(tmp_path / "test" / "emu" / "a.png")
        with pytest.raises(auxzoo.UserError, match="classes that the training split lacks: emu"):
            open_images(f"folder:{tmp_path}", "test")

    @pytest.mark.parametrize(
        "name", ["1.heic", "1.HEIF", "1.avif", "1.dng", "1.CR2", "1.jxl", "1.psd", "1.svg", "1.ppm"]
    )
    def test_pictures_that_are_not_read_are_not_lost_unseen(self, folder, name):
        PIL.Image.new("RGB", (4, 4)).save(folder / "dog" / name, "tiff")  # as raw ones are
        with pytest.raises(auxzoo.UserError, match=rf"dog/{name} is not a readable .* is not read; convert it to JPEG"):
            open_images(f"folder:{folder}", "all")
        images = open_images(f"folder:{folder}", "all", skip_broken=True)
        assert (images.size, images.skipped) == (10, (f"{folder}/dog/{name}",))

    def test_pictures_of_one_size_that_are_left_are_kept_decoded(self, folder, monkeypatch):
        (folder / "dog" / "0.png").write_bytes(b"no picture")
        images = open_images(f"folder:{folder}", "all", skip_broken=True)
        assert images.records.shape == (9, 6, 5, 3)
        assert images.indices.tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9]
        assert [int(picture.mean()) for picture in images.records] == [10] * 5 + [200] * 4
        for most, kind in ((9 * 90, np.uint8), (9 * 90 - 1, object)):
            monkeypatch.setattr(sources, "LARGEST_DECODED_BYTES", most)
            assert open_images(f"folder:{folder}", "all", skip_broken=True).records.dtype == kind

    def test_a_file_that_is_no_picture(self, tmp_path):
        (tmp_path / "a.png").write_text("no picture")
        with pytest.raises(auxzoo.UserError, match=r"a.png` is not a readable picture"):
            read_image(tmp_path / "a.png")


def encoded(picture, kind, **arguments):
    """Returns an array, or what `PIL.Image` has made of it, as a file's bytes."""
    file = io.BytesIO()
    (picture if isinstance(picture, PIL.Image.Image) else PIL.Image.fromarray(picture)).save(file, kind, **arguments)
    return file.getvalue()


PIXELS = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype("uint8")
GREY = np.repeat(PIXELS[..., :1], 3, axis=-1)
OTHER = PIL.Image.fromarray(255 - PIXELS)
WITH_ALPHA = np.concatenate([PIXELS, PIXELS[..., :1]], axis=-1)
DEEP = PIXELS[..., 0].astype("uint16") * 256 + 255 - PIXELS[..., 0]
PALETTE = PIL.Image.fromarray(PIXELS).convert("P", palette=PIL.Image.Palette.ADAPTIVE)
# Content -> what is seen.
ENCODED = {
    "png": (encoded(PIXELS, "png"), PIXELS),
    "png with alpha": (encoded(WITH_ALPHA, "png"), PIXELS),
    "png of 16 bits": (encoded(DEEP, "png"), GREY),
    "gif": (encoded(PALETTE, "gif", save_all=True, append_images=[OTHER]), np.asarray(PALETTE.convert("RGB"))),
    "bmp": (encoded(PIXELS, "bmp"), PIXELS),
    "bmp with palette": (encoded(PALETTE, "bmp"), np.asarray(PALETTE.convert("RGB"))),
    "bmp of 1 bit": (encoded(PIL.Image.fromarray(PIXELS[..., 0] > 127), "bmp"), np.where(GREY > 127, 255, 0)),
    "webp": (encoded(PIXELS, "webp", lossless=True), PIXELS),
    "webp with alpha": (encoded(WITH_ALPHA, "webp", lossless=True, exact=True), PIXELS),
    "webp that moves": (encoded(PIXELS, "webp", lossless=True, save_all=True, append_images=[OTHER]), PIXELS),
    "tiff": (encoded(PIXELS, "tiff"), PIXELS),
    "tiff of pages": (encoded(PIXELS, "tiff", save_all=True, append_images=[OTHER]), PIXELS),
    "tiff of 16 bits": (encoded(DEEP, "tiff"), GREY),
}
AS_IT_IS = Preprocessing(6, 5, "resize", (1.0,) * 3, (0.0,) * 3)


def set_of(records, **arguments):
    """Returns a set of encoded pictures (`bytes`) or paths (`str`), all of class 0 of 2."""
    array = np.empty(len(records), object)
    array[:] = records
    task = auxzoo.Task("classification", "classification", ("a", "b"))
    targets = {"classification": np.zeros(len(records), np.int64)}
    return ImageSet("files", array, (task,), targets, np.arange(len(records)), **arguments)


class TestFormats:
    @pytest.mark.parametrize("name", ENCODED)
    def test_pictures_are_those_that_were_encoded(self, name, tmp_path):
        content, expected = ENCODED[name]
        path = tmp_path / "picture.jpg"  # which it is not
        path.write_bytes(content)
        np.testing.assert_array_equal(read_image(path), expected)
        for record in (content, str(path)):
            images = set_of([record])
            np.testing.assert_array_equal(images.picture(0), expected)
            for augmentation in (None, Augmentation(scale=(1, 1))):
                ((batch, _),) = images.training_batches(AS_IT_IS, 1, 0, augmentation).take(1)
                np.testing.assert_array_equal(batch[0], expected)

    @pytest.mark.parametrize("suffix", [".JPG", ".jfif", ".webp", ".tif", ".tiff", ".bmp"])
    def test_suffixes_of_pictures(self, suffix, tmp_path):
        for label in ("a", "b"):
            write_picture(tmp_path / label / f"0{suffix}")
        assert open_images(f"folder:{tmp_path}", "all").size == 2

    @pytest.mark.parametrize("kind", ["webp", "tiff", "png"])
    def test_they_are_turned_as_their_exif_data_tell(self, kind, tmp_path):
        for orientation in range(1, 9):
            exif = PIL.Image.Exif()
            exif[PIL.ExifTags.Base.Orientation] = orientation
            path = tmp_path / f"{orientation}.{kind}"
            path.write_bytes(encoded(PIXELS, kind, exif=exif, **({"lossless": True} if kind == "webp" else {})))
            with PIL.Image.open(path) as picture:
                expected = np.asarray(PIL.ImageOps.exif_transpose(picture).convert("RGB"))
            assert np.array_equal(expected, PIXELS) == (orientation == 1)
            np.testing.assert_array_equal(read_image(path), expected)

    def test_a_large_photograph_is_turned_without_a_warning(self, tmp_path, monkeypatch):
        exif = PIL.Image.Exif()
        exif[PIL.ExifTags.Base.Orientation] = 3
        (tmp_path / "a.png").write_bytes(encoded(PIXELS, "png", exif=exif))
        for most in (20, 2):  # at less than half as many as there are Pillow refuses
            monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", most)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                np.testing.assert_array_equal(read_image(tmp_path / "a.png"), PIXELS[::-1, ::-1])

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"no picture", "it is none of JPEG, PNG, GIF, BMP, WebP, TIFF, or damaged"),
            (b"", "it is none of JPEG"),
            (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC or AVIF is not read; convert it to JPEG"),
            (encoded(PIXELS[..., 0].astype("float32"), "tiff"), "values of 32 bits are not read"),
            (encoded(PIXELS, "bmp")[:-20], "image file is truncated"),
            (encoded(PIXELS, "webp")[:-20], ""),
            (encoded(PIXELS, "tiff")[:-20], ""),
        ],
        ids=["text", "nothing", "heic", "tiff of 32 bits", "bmp", "webp", "tiff"],
    )
    def test_what_cannot_be_read_is_told(self, content, message, tmp_path):
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(auxzoo.UserError, match=f"a.jpg` is not a readable picture: {message}"):
            read_image(tmp_path / "a.jpg")

    def test_a_jpeg_too_large_for_tensorflow_is_told(self, tmp_path):
        content = bytearray(encoded(PIXELS[..., 0], "jpeg"))
        start = content.index(b"\xff\xc0") + 5
        content[start : start + 4] = struct.pack(">HH", 30_000, 40_000)
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(auxzoo.UserError, match="a.jpg` is not a readable picture: 30000x40000 pixels are too many"):
            read_image(tmp_path / "a.jpg")


class TestKept:
    """Encoded pictures are preprocessed once."""

    @pytest.fixture
    def paths(self, tmp_path):
        for number in range(12):
            write_picture(tmp_path / f"{number}.png", size=(3 + number, 20 - number), value=20 * number)
        return [str(tmp_path / f"{number}.png") for number in range(12)]

    @pytest.fixture
    def reads(self, monkeypatch):
        """The records that were read, in no order."""
        records, read = [], image_set.read
        monkeypatch.setattr(image_set, "read", lambda record: records.append(record) or read(record))
        return records

    def test_a_picture_is_read_once(self, paths, reads):
        images = set_of(paths)
        same = images.with_tasks({"classification": "classification"})
        for _ in range(2):
            list(same.batches(SMALL, 5))
            list(images.training_batches(SMALL, 4, 0, Augmentation(flip=True, shift=1)).take(7))
        assert sorted(reads) == sorted(paths)

    def test_pictures_are_kept_at_one_size(self, paths, reads):
        images, other = set_of(paths), Preprocessing(7, 9)
        first = images.batches(SMALL, 12)
        for preprocessing in (SMALL, other, other, SMALL):
            images.batches(preprocessing, 5)
        assert len(reads) == 3 * 12
        ((batch, _),) = first  # goes on with what was kept when it was made
        assert batch.shape == (12, 8, 8, 3)

    def test_more_than_fits_is_not_kept(self, paths, reads, monkeypatch):
        monkeypatch.setattr(image_set, "LARGEST_DECODED_BYTES", 12 * 8 * 8 * 3 * 4)
        set_of(paths).batches(SMALL, 5)
        assert len(reads) == 12
        set_of(paths).batches(Preprocessing(8, 9), 5)
        set_of(paths).training_batches(SMALL, 5, 0, Augmentation(colour=0.1))
        assert len(reads) == 12

    @pytest.mark.parametrize("preprocessing", [SMALL, Preprocessing(33, 21), Preprocessing(15, 20, "pad")])
    def test_batches_are_those_of_reading_one_by_one(self, paths, preprocessing, monkeypatch):
        def batches():
            images = set_of(paths, sizes=None)
            made = [*images.batches(preprocessing, 5)]
            made += images.training_batches(preprocessing, 5, 1, Augmentation(flip=True, shift=2)).take(5)
            return [(picture.numpy(), classes.numpy()) for picture, classes in made]

        kept = batches()
        monkeypatch.setattr(image_set, "LARGEST_DECODED_BYTES", 0)
        for (x, y), (other_x, other_y) in zip(kept, batches(), strict=True):
            np.testing.assert_array_equal(x, other_x, strict=True)
            np.testing.assert_array_equal(y, other_y, strict=True)

    @pytest.mark.parametrize("most", [0, 2**31])
    def test_pictures_far_larger_than_the_input_are_fitted_one_by_one(self, monkeypatch, most):
        monkeypatch.setattr(image_set, "LARGEST_DECODED_BYTES", most)
        fit, ranks = image_set.preprocess, []
        monkeypatch.setattr(
            image_set, "preprocess", lambda images, *a: ranks.append(len(images.shape)) or fit(images, *a)
        )
        pictures = np.random.default_rng(0).integers(0, 256, (6, 17, 16, 3)).astype("uint8")
        images = ImageSet.from_arrays(pictures, [0, 1] * 3, ("cat", "dog"))
        ((batch, classes),) = images.batches(SMALL, 6)
        assert set(ranks) == {3}
        np.testing.assert_array_equal(batch, fit(pictures, SMALL))
        np.testing.assert_array_equal(classes, images.classes)

    def test_a_file_that_is_gone_or_damaged_meanwhile_is_named(self, paths):
        images = set_of(paths)
        pathlib.Path(paths[7]).write_bytes(b"no picture")
        with pytest.raises(auxzoo.UserError, match=r"7.png is not a readable picture"):
            images.batches(SMALL, 5)
        pathlib.Path(paths[7]).unlink()
        with pytest.raises(auxzoo.UserError, match=r"7.png is not a readable picture: .*7.png; No such file"):
            images.training_batches(SMALL, 5, 0)
        with pytest.raises(auxzoo.UserError, match=r"A picture of files cannot be read: .*7.png; No such file"):
            images.manifest()
        with pytest.raises(auxzoo.UserError, match=r"image 1 of files is not a readable picture"):
            set_of([ENCODED["png"][0], b"no picture"]).batches(SMALL, 2)

    def test_tensors_of_a_set_are_made_once(self, make_images, monkeypatch):
        made, picked = [], image_set._picked
        monkeypatch.setattr(image_set, "_picked", lambda values: made.append(values) or picked(values))
        images = make_images(10)
        for _ in range(3):
            images.batches(SMALL, 5)
            images.training_batches(SMALL, 5, 0)
        assert len(made) == 2  # pictures and classes


@pytest.fixture
def damaged_data(shared_data, tmp_path):
    """A copy of a prepared set, and the file of its test split."""
    version = shared_data / "cifar10_jpeg" / "1.0.0"
    copy = tmp_path / "cifar10_jpeg" / "1.0.0"
    shutil.copytree(version, copy, ignore=lambda _, names: [name for name in names if "-train." in name])
    return tmp_path, copy / "cifar10_jpeg-test.tfrecord-00000-of-00001"


class TestTensorFlowDatasets:
    def test_a_truncated_file_is_told_with_the_name_of_the_set(self, damaged_data):
        data_dir, file = damaged_data
        file.write_bytes(file.read_bytes()[:100_000])
        with pytest.raises(auxzoo.UserError, match="`tfds:cifar10_jpeg` in .* is damaged, its split 'test'"):
            open_images("tfds:cifar10_jpeg", "test", data_dir=str(data_dir))

    def test_a_missing_file_is_told_with_the_name_of_the_set(self, damaged_data):
        with pytest.raises(auxzoo.UserError, match="`tfds:cifar10_jpeg` in .* is damaged, its split 'train'"):
            open_images("tfds:cifar10_jpeg", "train", data_dir=str(damaged_data[0]))

    @pytest.mark.parametrize("error", [OSError("no network"), AssertionError("fetch it by hand"), RuntimeError()])
    def test_a_failed_download_is_told_with_the_name_of_the_set(self, tmp_path, monkeypatch, error):
        import tensorflow_datasets as tfds

        def fail(builder):
            raise error

        monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", fail)
        message = f"`tfds:mnist` could not be fetched and prepared in .*: {type(error).__name__}: {error}"
        with pytest.raises(auxzoo.UserError, match=message):
            open_images("tfds:mnist", data_dir=str(tmp_path), download=True)

    def test_a_label_that_is_none_is_named(self):
        picture = tf.io.encode_png(np.zeros((2, 2, 3), "uint8")).numpy()
        target, classes = Target(auxzoo.Task("label", "classification", ("a", "b"))), np.array([0, -1])
        with pytest.raises(auxzoo.UserError, match="tfds:digits/test: image 1 must have a class. Received: -1"):
            make_image_set(
                *("tfds:digits/test", [picture] * 2, ["image 0", "image 1"], [target], lambda _, at: classes[at]),
                *(False, "tfds:digits/test", [0, 1]),
            )

    def test_splits_are_sources_of_their_own(self, shared_data):
        test = open_images("tfds:cifar10_jpeg", "test", data_dir=str(shared_data))
        assert test.source == "tfds:cifar10_jpeg/test"
        assert test.overlaps(test.sample(5, seed=0))

    def test_prepared_set_is_read(self, shared_data):
        images = open_images("tfds:cifar10_jpeg", "test", data_dir=str(shared_data))
        assert (images.size, len(images.labels)) == (10_000, 10)
        assert images.records.shape == (10_000, 32, 32, 3)

    def test_a_set_without_labels_is_refused(self, shared_data):
        with pytest.raises(auxzoo.UserError, match="must have an image and a label"):
            open_images("tfds:camvid", "test", data_dir=str(shared_data))

    def test_an_unknown_split_is_refused(self, shared_data):
        with pytest.raises(auxzoo.UserError, match="`split` of tfds:cifar10_jpeg must be one of"):
            open_images("tfds:cifar10_jpeg", "middle", data_dir=str(shared_data))

    def test_a_set_that_is_not_prepared_is_told_at_once(self, tmp_path):
        with pytest.raises(auxzoo.UserError, match="`tfds:mnist` is not prepared in .*--download"):
            open_images("tfds:mnist", data_dir=str(tmp_path))

    def test_an_unknown_set_is_told_at_once(self, tmp_path):
        with pytest.raises(auxzoo.UserError, match="`tfds:nothing_of_the_kind` is neither known"):
            open_images("tfds:nothing_of_the_kind", data_dir=str(tmp_path))


class Digits(tfds.core.GeneratorBasedBuilder):
    """Forty pictures in two files, each of whose pixels is its number, and what nobody asks for."""

    VERSION = "1.0.0"

    def _info(self):
        features = {"image": tfds.features.Image(), "label": tfds.features.ClassLabel(num_classes=2)}
        features |= {"other": tfds.features.Image(), "text": tfds.features.Text()}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, manager):
        return {"train": self._generate_examples(), "test": self._generate_examples()}

    def _generate_examples(self):
        for key in range(40):
            picture = np.full((4, 5, 3), key, "uint8")
            yield key, {"image": picture, "label": key % 2, "other": picture, "text": "more"}


class TestSlices:
    """Slices of a set whose files are read in turn, so that they are not what is read first."""

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("digits")
        Digits(data_dir=str(folder)).download_and_prepare(download_config=tfds.download.DownloadConfig(num_shards=2))
        return str(folder)

    def open(self, folder, split, **arguments):
        return open_images("tfds:digits", split, data_dir=folder, **arguments)

    @pytest.mark.parametrize("split", ["train[:80%]", "train[80%:]", "train[:17]", "train[-3:]", "train[:1shard]"])
    def test_they_hold_what_tensorflow_datasets_gives(self, folder, split):
        images, whole = self.open(folder, split), self.open(folder, "train")
        dataset = Digits(data_dir=folder).as_dataset(split=split)
        expected = [int(example["image"][0, 0, 0]) for example in dataset.as_numpy_iterator()]
        assert sorted(images.records[:, 0, 0, 0]) == sorted(expected)
        assert len(set(expected)) == len(expected) < 40
        np.testing.assert_array_equal(whole.records[images.indices], images.records)
        np.testing.assert_array_equal(images.classes, images.records[:, 0, 0, 0] % 2)
        assert (images.name, images.source) == (f"tfds:digits/{split}", whole.source)

    def test_the_files_are_read_in_turn(self, folder):
        indices = self.open(folder, "train[:1shard]").indices
        assert indices.tolist() != list(range(20))

    def test_overlaps_are_found(self, folder):
        first, rest, half = (self.open(folder, split) for split in ("train[:80%]", "train[80%:]", "train[50%:]"))
        assert not first.overlaps(rest)
        assert first.overlaps(half)
        assert half.overlaps(rest)

    @pytest.mark.parametrize(
        ("split", "reason"),
        [
            ("train+test", ""),
            ("all", ""),
            ("middle", ""),
            ("middle[:5]", "Unknown split 'middle'"),
            ("train[", "Unrecognized split format"),
            ("train[:41]", "Requested slice .* 40 examples"),
        ],
    )
    def test_what_is_no_slice_is_refused(self, folder, split, reason):
        message = f"must be one of train, test, or a slice of one .*, no sum. Received: split={re.escape(repr(split))}"
        with pytest.raises(auxzoo.UserError, match=rf"{message}.*{reason}.*`data.validation_split=NAME`"):
            self.open(folder, split)

    def test_an_empty_slice_is_refused(self, folder):
        with pytest.raises(auxzoo.UserError, match=r"tfds:digits/train\[5:5\] must hold at least one image"):
            self.open(folder, "train[5:5]")

    def test_nothing_else_of_an_example_is_read(self, folder, monkeypatch):
        read, as_dataset = [], tfds.core.DatasetBuilder.as_dataset

        def spied(*arguments, **options):
            read.append(as_dataset(*arguments, **options))
            return read[-1]

        monkeypatch.setattr(tfds.core.DatasetBuilder, "as_dataset", spied)
        self.open(folder, "train")
        assert set(read[0].element_spec) == {"image", "label"}


@pytest.mark.parametrize("source", ["", "samples", "tfds:", "folder:", "http://example.org"])
def test_an_unknown_source_is_named(source):
    with pytest.raises(auxzoo.UserError, match="`source` must be sample, tfds:NAME or folder:PATH"):
        open_images(source)
