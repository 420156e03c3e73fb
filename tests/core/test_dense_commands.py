"""The commands on a network with masks and heights: train, evaluate, export, predict, as a user types them."""

import json
import os
import re
import shutil

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
import yaml

import auxzoo
from auxzoo import models
from auxzoo.commands import predict
from auxzoo.data.preprocessing import at_picture_size, classes_at_picture_size
from auxzoo.export import open_file
from auxzoo.files import read_json
from auxzoo.models import zoo
from auxzoo.prediction import Predictor, draw_some

LABELS = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def folder(shallow_networks, tmp_path_factory):
    """A folder of pictures with masks and heights beside them, a recipe, and a finished run of it."""
    folder = tmp_path_factory.mktemp("dense")
    generator = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        for name in ("images", "surface", "height"):
            (folder / "tiles" / split / name).mkdir(parents=True)
        for number in range(count):
            colours = generator.integers(0, 256, (3, 4, 3)).astype("uint8")
            picture = colours.repeat(8, axis=0).repeat(6, axis=1)  # 24 x 24
            base = folder / "tiles" / split
            PIL.Image.fromarray(picture).save(base / "images" / f"{number}.png")
            PIL.Image.fromarray(picture.argmax(axis=-1).astype("uint8")).save(base / "surface" / f"{number}.png")
            np.save(base / "height" / f"{number}.npy", picture.mean(axis=-1))
    recipe = {
        "name": "tiles",
        "network": {
            "architecture": "ResNet18",
            "arguments": {"input_shape": [16, 16, 3], "width": 0.125, "stem": "small_stride2", "output_stride": 8},
            "head_channels": 8,
        },
        "data": {
            "source": f"folder:{folder / 'tiles'}",
            "validation_count": 3,
            "targets": {
                "surface": {"kind": "segmentation", "labels": LABELS},
                "height": {"kind": "regression", "unit": "m", "scale": 50},
            },
        },
        "compute": {"compilation": "graph"},
        "epochs": 2,
        "batch_size": 4,
    }
    (folder / "tiles.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
    auxzoo.train(folder / "tiles.yaml", folder / "run", verbose=0)
    return folder


@pytest.fixture
def work(folder, monkeypatch, tmp_path):
    """The command's working folder, with the run and the tiles in it."""
    for name in ("run", "tiles", "tiles.yaml"):
        (tmp_path / name).symlink_to(folder / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def exported(command, folder):
    """The folder of exported files, and how the command ended."""
    files = folder / "files"
    formats = ("--formats", "tflite_float32,tflite_int8,onnx")
    return files, command("export", folder / "run", "--data", f"folder:{folder / 'tiles'}", "--to", files, *formats)


def test_training_tells_every_task(command, work):
    outcome = command("train", "tiles.yaml", "--to", "again", "--verbose", "0")
    assert outcome.code == 0, outcome
    for name in ("surface_mean_iou", "joint_surface_mean_iou", "height_root_mean_squared_error"):
        assert name in outcome.output
    assert "iou_of_classes" not in outcome.output
    assert (work / "again" / "model.weights.h5").read_bytes() == (work / "run" / "model.weights.h5").read_bytes()


def test_evaluation_tells_what_the_run_reports_class_by_class(command, work):
    outcome = command("evaluate", "run", "--data", "folder:tiles", "--pictures", "sheet.png", "--count", "3")
    assert outcome.code == 0, outcome
    test = read_json(work / "run" / "metrics.json")["test"]
    assert f"{100 * test['surface_mean_iou']:.2f} %" in outcome.output
    for label, iou in test["surface_iou_of_classes"].items():
        assert any(f"iou of {label}" in line and f"{100 * iou:.2f}" in line for line in outcome.output.splitlines())
    (row,) = [line for line in outcome.output.splitlines() if "height_mean_absolute_error" in line]
    assert row.endswith(" m │"), "the unit"
    assert "3 predictions beside the truth are in sheet.png" in outcome.output
    with PIL.Image.open("sheet.png") as picture:
        assert min(picture.size) > 100


@pytest.mark.parametrize("size", [(61, 83), (20, 31), (24, 32)])
@pytest.mark.parametrize("fit", ["resize", "pad"])
def test_classes_of_a_photograph_are_those_of_all_logits_at_its_size(size, fit):
    preprocessing = auxzoo.models.Preprocessing(64, 96, fit=fit)
    logits = np.random.default_rng(0).integers(-2, 3, (64, 96, 5)).astype("float32")  # with equals among them
    expected = at_picture_size(logits, size, preprocessing).argmax(axis=-1)
    np.testing.assert_array_equal(classes_at_picture_size(logits, size, preprocessing), expected)


def test_classes_without_names_are_drawn_by_those_of_the_images(monkeypatch):
    drawn = []
    monkeypatch.setattr("auxzoo.prediction.draw_contact_sheet", lambda *arguments: drawn.append(arguments[4]))
    images = auxzoo.data.ImageSet.from_arrays(np.zeros((2, 8, 8, 3), "uint8"), [0, 1], ("dark", "light"))
    for labels, expected in (((), ("dark", "light")), (("a", "b"), ("a", "b"))):
        task = auxzoo.Task(images.tasks[0].name, "classification", labels)
        description = auxzoo.models.Description((), auxzoo.models.Preprocessing(8, 8), (task,))
        predictor = Predictor(lambda pixels: np.zeros((len(pixels), 2), "float32"), description)
        draw_some(predictor, images, 2, "unused.png")
        assert drawn[-1][0].labels == expected


@pytest.mark.parametrize("labels", [(), ("sea", "ground")], ids=["no names", "names of its own"])
def test_classes_without_colours_are_drawn_in_those_of_the_images(labels, monkeypatch):
    drawn = []
    monkeypatch.setattr("auxzoo.prediction.draw_contact_sheet", lambda *arguments: drawn.append(arguments[4]))
    palette = ((0, 0, 200), (0, 100, 0))
    surface = auxzoo.Task("segmentation", "segmentation", ("water", "land"), palette)
    pictures, masks = np.zeros((2, 32, 32, 3), "uint8"), np.zeros((2, 32, 32), "uint8")
    images = auxzoo.data.ImageSet.from_targets(pictures, [surface], {"segmentation": masks})
    backbone = models.MobileNetV2((32, 32, 3), alpha=0.35, output_stride=16)
    for own, expected in (((), palette), (((9, 9, 9), (8, 8, 8)), ((9, 9, 9), (8, 8, 8)))):
        network = models.DeepLabLite(backbone, 2, labels, channels=8, colours=own)
        draw_some(Predictor(network.predict_on_batch, models.describe(network)), images, 1, "unused.png")
        assert drawn[-1][0].colours == expected
        assert drawn[-1][0].labels == (labels or surface.labels)


def test_files_are_exported_with_the_scores_of_every_task(exported):
    files, outcome = exported
    assert outcome.code == 0, outcome
    for name in ("run_float32.tflite", "run_int8.tflite", "run.onnx"):
        record = json.loads((files / f"{name}.json").read_text())
        assert f"{100 * record['accuracy']['surface_mean_iou']:.2f} %" in outcome.output
        assert record["accuracy"]["images"] == 4
    assert "Keras network: surface mean IoU " in outcome.output
    conversion = record["conversion"]
    assert 0 < conversion["seconds"] < 600
    assert 1e7 < conversion["peak_bytes"] < 1e11
    told = (
        f"Converted in {conversion['seconds']:.0f} s, with {conversion['peak_bytes'] / 1e6:,.0f} MB of memory at most."
    )
    assert told in outcome.output.splitlines()


@pytest.mark.parametrize("name", ["run", "run_float32.tflite", "run_int8.tflite", "run.onnx"])
def test_photographs_are_predicted_by_networks_and_files(command, work, exported, name):
    arguments = [name] if name == "run" else [exported[0] / name]
    outcome = command("predict", *arguments, "tiles/test/images/0.png", "tiles/test/images/1.png", "--to", "drawn")
    assert outcome.code == 0, outcome
    assert sorted(path.name for path in (work / "drawn").iterdir()) == ["0.png", "1.png"]
    network = models.load(work / "run")
    for number, line in enumerate(outcome.output.splitlines()[:2]):
        answers = network(inputs_of(work, number))
        logits = tf.image.resize(answers["surface"], (24, 24)).numpy()[0]
        shares = np.bincount(logits.argmax(axis=-1).ravel(), minlength=3) / 24**2
        heights = tf.image.resize(answers["height"], (24, 24)).numpy()[0]
        assert line.startswith(f"{number}.png: ")
        told = {label: float(share) / 100 for label, share in re.findall(r"(red|green|blue) ([\d.]+) %", line)}
        # Of eight bits classes that are all but even may change places, and heights are steps.
        near = 0.25 if "int8" in name else 0.01
        assert [told.get(label, 0.0) for label in LABELS] == pytest.approx(list(shares), abs=near)
        lowest, highest = map(float, re.search(r"height (\S+) to (\S+) m$", line).groups())
        assert [lowest, highest] == pytest.approx([heights.min(), heights.max()], abs=near * float(heights.max()))


def test_a_photograph_whose_name_is_no_text_is_told(command, work, monkeypatch):
    photograph = os.fsdecode(b"caf\xe9.png")
    shutil.copy("tiles/test/images/0.png", photograph)
    outcome = command("predict", "run", photograph, "--to", "named")
    assert outcome.code == 0, outcome.error
    assert outcome.output.startswith("caf\\xe9.png: ")
    monkeypatch.setattr(Predictor, "__call__", lambda self, photograph: {"surface": np.full(photograph.shape[:2], 99)})
    outcome = command("predict", "run", photograph, "--no-pictures")
    assert outcome.code == 2
    assert "The predictions for `caf\\xe9.png` of task 'surface' must be 0 to 2, or 255" in outcome.error


def test_what_is_predicted_goes_out_as_json(command, work):
    arguments = ("predict", "run", "tiles/test/images/0.png", "tiles/test/images/1.png")
    told = command(*arguments, "--no-pictures")
    assert len(told.output.splitlines()) == 2
    outcome = command(*arguments, "--no-pictures", "--json")
    assert not (work / "predicted").exists()
    found = json.loads(outcome.output)
    assert [one["image"] for one in found] == list(arguments[2:])
    for one, line in zip(found, told.output.splitlines(), strict=True):
        surface, height = one["predictions"]["surface"], one["predictions"]["height"]
        shares = ", ".join(f"{part['class']} {100 * part['share']:.2f} %" for part in surface)
        numbers = "height {lowest:.4g} to {highest:.4g} {unit}".format(**height)
        assert line == f"{one['image'].rpartition('/')[2]}: {shares}; {numbers}"
        assert sum(part["share"] for part in surface) == pytest.approx(1)
    outcome = command(*arguments, "--json", "--to", "drawn_too")
    assert json.loads(outcome.output) == found
    assert "The pictures are in drawn_too" in outcome.error
    outcome = command(*arguments, "--no-pictures", "--to", "drawn_too")
    assert (outcome.code, outcome.output) == (2, "")
    assert "`--to` and `--overwrite` may be given only where pictures are drawn" in outcome.error


def inputs_of(work, number):
    """Returns a photograph of the test split as the network takes it, a batch of one."""
    photograph = np.asarray(PIL.Image.open(work / "tiles" / "test" / "images" / f"{number}.png"))
    return auxzoo.data.preprocess(photograph, models.describe(models.load(work / "run")).preprocessing)[None]


@pytest.mark.parametrize("option", ["--argmax", "--softmax"])
def test_classes_and_probabilities_in_place_of_logits_say_the_same(command, work, option):
    arguments = ("run", "--no-accuracy", "--formats", "tflite_float32", "--to", "classes", option)
    assert command("export", *arguments).code == 0
    record = read_json(work / "classes" / "run_float32.tflite.json")
    kinds = {output["name"]: output["type"] for output in record["outputs"]}
    assert kinds == {"surface": "int32" if option == "--argmax" else "float32", "height": "float32"}
    inputs, photograph = inputs_of(work, 0), "tiles/test/images/0.png"
    answers, received = models.load(work / "run")(inputs), open_file(work / "classes" / "run_float32.tflite")
    received = received.predict(inputs.numpy())
    np.testing.assert_allclose(received["height"], answers["height"], rtol=1e-3, atol=1e-3)
    if option == "--argmax":
        np.testing.assert_array_equal(received["surface"], np.argmax(answers["surface"], axis=-1))
    else:
        np.testing.assert_allclose(received["surface"], tf.nn.softmax(answers["surface"]), atol=1e-4)
    outcome = command("predict", "classes/run_float32.tflite", "--network", "run", photograph, "--to", "of_file")
    assert outcome.code == 0, outcome
    likeliest = LABELS[np.bincount(np.ravel(np.argmax(answers["surface"], axis=-1)), minlength=3).argmax()]
    assert likeliest in outcome.output.splitlines()[0]


def test_a_sheet_shows_each_photograph_with_its_own_truth_and_prediction(folder, monkeypatch):
    drawn = []
    monkeypatch.setattr("auxzoo.prediction.draw_contact_sheet", lambda *arguments: drawn.extend(arguments))
    targets = [
        auxzoo.data.Target(auxzoo.Task("surface", "segmentation", tuple(LABELS))),
        auxzoo.data.Target(auxzoo.Task("height", "regression", unit="m")),
    ]
    images = auxzoo.data.open_images(f"folder:{folder / 'tiles'}", "test", targets=targets)
    network = models.load(folder / "run")
    draw_some(Predictor(network.predict_on_batch, models.describe(network)), images, 4, "unused.png", seed=3)
    _, photographs, truths, predictions, *_ = drawn
    assert len({photograph.tobytes() for photograph in photographs}) == 4
    for photograph, truth, prediction in zip(photographs, truths, predictions, strict=True):
        # A tile's classes are its strongest colour, its heights the mean of its colours.
        np.testing.assert_array_equal(truth["surface"], photograph.argmax(axis=-1))
        np.testing.assert_allclose(truth["height"], photograph.mean(axis=-1), rtol=1e-6)
        answers = network(auxzoo.data.preprocess(photograph, models.describe(network).preprocessing)[None])
        expected = tf.image.resize(answers["surface"], (24, 24)).numpy()[0].argmax(axis=-1)
        assert (prediction["surface"] == expected).mean() > 0.99
        heights = tf.image.resize(answers["height"], (24, 24)).numpy()[0, ..., 0]
        np.testing.assert_allclose(prediction["height"], heights, rtol=1e-3, atol=1e-3)


def test_a_prediction_has_the_size_of_the_photograph(folder):
    network = models.load(folder / "run")
    predictor = Predictor(network.predict_on_batch, models.describe(network))
    photograph = np.random.default_rng(1).integers(0, 256, (31, 47, 3)).astype("uint8")
    found = predictor(photograph)
    assert {name: values.shape for name, values in found.items()} == {"surface": (31, 47), "height": (31, 47)}
    assert found["surface"].max() < 3


def test_padding_is_no_part_of_a_prediction():
    preprocessing = models.Preprocessing(8, 10, fit="pad")
    description = models.Description((), preprocessing, (auxzoo.Task("surface", "segmentation", tuple(LABELS)),))
    predictor = Predictor(lambda images: images, description)  # the highest channel is the class
    photograph = np.random.default_rng(1).integers(0, 256, (5, 7, 3)).astype("uint8")
    np.testing.assert_array_equal(predictor(photograph)["surface"], photograph.argmax(axis=-1))


def test_photographs_of_one_name_get_numbers(command, work):
    names = ["tiles/test/images/0.png", "tiles/train/images/0.png", "tiles/test/images/1.png"]
    outcome = command("predict", "run", *names, "--to", "numbered")
    assert (outcome.code, outcome.error) == (0, "")
    assert sorted(path.name for path in (work / "numbered").iterdir()) == ["0-2.png", "0.png", "1.png"]
    said = [line.partition(":")[0] for line in outcome.output.splitlines()[:3]]
    assert said == [*names[:2], "1.png"]
    (work / "own").mkdir()
    for name, place in (("0.png", 0), ("0-2.png", 1)):
        shutil.copyfile(work / names[place], work / "own" / name)
    before = (work / "own" / "0-2.png").read_bytes()
    outcome = command("predict", "run", names[0], "own/0.png", "own/0-2.png", "--to", "own", "--overwrite")
    assert outcome.code == 2
    assert "`--to` must be a folder in which no photograph is replaced" in outcome.error
    assert (work / "own" / "0-2.png").read_bytes() == before


def test_numbers_are_taken_once():
    assert predict._different(["a", "a", "a-2", "a", "b"]) == ["a", "a-2", "a-2-2", "a-3", "b"]


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["run"], "the following arguments are required: IMAGE"),
            (["run", "nothing.png"], "`nothing.png` is not a readable picture: nothing.png; No such file or directory"),
            (["run", "tiles.yaml"], "`tiles.yaml` is not a readable picture"),
            (["run", "tiles/test/images/0.png", "--to", "run"], "0.png` exists already; give --overwrite"),
            (["nothing", "tiles/test/images/0.png"], "`name` must be one of"),
            (["net.onnx", "tiles/test/images/0.png"], "`net.onnx` is not a file"),
        ],
    )
    def test_of_predict(self, command, work, arguments, message):
        (work / "run" / "0.png").write_bytes(b"") if "--to" in arguments else None
        outcome = command("predict", *arguments)
        assert outcome.code == 2, outcome
        assert message in outcome.error, outcome
        assert not (work / "predicted").exists()

    @pytest.mark.parametrize("to", ["tiles/test/images", "tiles/test/../test/images/"])
    @pytest.mark.parametrize("options", [[], ["--overwrite"]], ids=["", "overwrite"])
    def test_a_photograph_is_never_replaced(self, command, work, to, options):
        photograph = work / "tiles" / "test" / "images" / "0.png"
        before = photograph.read_bytes()
        outcome = command("predict", "run", "tiles/test/images/0.png", "--to", to, *options)
        assert outcome.code == 2, outcome
        assert "`--to` must be a folder in which no photograph is replaced. Received: `tiles/test" in outcome.error
        assert photograph.read_bytes() == before

    def test_of_evaluate(self, command, work, folder):
        assert "must end in .png" in command("evaluate", "run", "--data", "folder:tiles", "--pictures", "a.jpg").error
        (work / "alone").mkdir()
        zoo.save_entry(models.load(folder / "run"), work / "alone", "alone")
        outcome = command("evaluate", "alone", "--data", "folder:tiles")
        assert outcome.code == 2
        assert "`--recipe` must name one whose data have the truth for segmentation, regression" in outcome.error
        assert command("evaluate", "alone", "--data", "folder:tiles", "--recipe", "tiles.yaml").code == 0

    def test_of_a_mask_that_is_missing(self, command, folder, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        base = tmp_path / "tiles" / "test"
        for name in ("images", "surface", "height"):
            (base / name).mkdir(parents=True)
        (base / "images" / "0.png").write_bytes((folder / "tiles" / "test" / "images" / "0.png").read_bytes())
        outcome = command("evaluate", folder / "run", "--data", "folder:tiles")
        assert outcome.code == 2
        assert "must hold the truth of every picture" in outcome.error
        assert "images/0.png" in outcome.error


def test_a_record_tells_of_a_file_of_weights_its_name_alone(folder):
    from auxzoo.training import read_recipe

    recipe = read_recipe(folder / "tiles.yaml", ["network.arguments.weights=a/folder/of/this/machine/trunk.h5"])
    assert recipe.record()["network"]["arguments"]["weights"] == "trunk.h5"
    assert recipe.network.arguments["weights"] == "a/folder/of/this/machine/trunk.h5"
