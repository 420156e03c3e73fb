"""Images: sources, preprocessing, order and augmentation."""

import dataclasses
import itertools
import pathlib
import shutil

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import auxzoo
from auxzoo.data import Augmentation, ImageSet, open_images, preprocess, read_image
from auxzoo.data.sample_files import make_sample
from auxzoo.data.sources import _are_test as are_test
from auxzoo.data.sources import _image_set as image_set
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
        paths = [pathlib.Path(label, name) for label in names for name in sorted(names[label])]
        if len(paths) < 2:
            return
        classes = np.array(["abc".index(path.parent.name) for path in paths])
        is_test = are_test(paths, classes)
        assert 0 < is_test.sum() < len(paths)
        for label in set(classes):
            if (classes == label).sum() > 1:
                assert not is_test[classes == label].all()

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

    def test_pictures_of_several_sizes_are_decoded_when_needed(self, folder):
        write_picture(folder / "dog" / "large.png", size=(30, 20))
        images = open_images(f"folder:{folder}", "train")
        assert images.records.dtype == object
        batch, _ = next(iter(images.training_batches(SMALL, 4, seed=0)))
        assert batch.shape == (4, 8, 8, 3)
        assert images.picture(0).dtype == np.uint8
        assert images.manifest()["sha256"] == open_images(f"folder:{folder}", "train").manifest()["sha256"]

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
            open_images(f"folder:{tmp_path}", skip_broken=True)

    def test_an_unknown_class_in_the_test_folder_is_named(self, folder, tmp_path):
        folder.rename(tmp_path / "train")
        write_picture(tmp_path / "test" / "emu" / "a.png")
        with pytest.raises(auxzoo.UserError, match="classes that the training split lacks: emu"):
            open_images(f"folder:{tmp_path}", "test")

    def test_a_file_that_is_no_picture(self, tmp_path):
        (tmp_path / "a.png").write_text("no picture")
        with pytest.raises(auxzoo.UserError, match=r"a.png` is not a readable picture"):
            read_image(tmp_path / "a.png")


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
            image_set("tfds:digits/test", [picture] * 2, ["image 0", "image 1"], [target], lambda _, at: classes[at], 0)

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


@pytest.mark.parametrize("source", ["", "samples", "tfds:", "folder:", "http://example.org"])
def test_an_unknown_source_is_named(source):
    with pytest.raises(auxzoo.UserError, match="`source` must be sample, tfds:NAME or folder:PATH"):
        open_images(source)
