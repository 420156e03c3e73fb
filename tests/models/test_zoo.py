"""The published zoo: loading, pulling, checking every byte."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import auxzoo
from auxzoo import models
from auxzoo.auxiliary import SearchSpace
from auxzoo.files import read_json, write_json
from auxzoo.models import zoo
from auxzoo.training.outputs import tasks_of


@pytest.fixture(scope="module")
def shelf(tmp_path_factory, make_random):
    """A shelf with one small entry."""
    shelf = tmp_path_factory.mktemp("shelf")
    network = models.ResNet18((16, 16, 3), 0.125, "small", num_classes=3, labels=("a", "b", "c"))
    zoo.save_entry(make_random(network), shelf / "tiny", name="tiny")
    row = zoo.index_entry(shelf / "tiny", {"accuracy": 0.5})
    (shelf / zoo.INDEX_FILE).write_text(json.dumps({"tiny": row}))
    return shelf


@pytest.fixture
def copied_shelf(shelf, tmp_path):
    return shutil.copytree(shelf, tmp_path / "shelf")


def test_an_entry_comes_back_as_it_was_saved(shelf):
    network = auxzoo.load("tiny", shelf=shelf)
    assert auxzoo.describe(network).tasks[0].labels == ("a", "b", "c")
    assert network.name == "resnet18"
    assert network.output.shape == (None, 3)


def test_a_fresh_head_sits_on_the_published_trunk(shelf):
    published, fresh = auxzoo.load("tiny", shelf=shelf), auxzoo.load("tiny", num_classes=5, shelf=shelf)
    assert fresh.output.shape == (None, 5)
    assert [layer.name for layer in fresh.layers] == [layer.name for layer in published.layers]
    assert auxzoo.describe(fresh).tasks[0].labels == ()
    for old, new in zip(published.layers[:-1], fresh.layers[:-1], strict=True):
        for old_weight, new_weight in zip(old.get_weights(), new.get_weights(), strict=True):
            np.testing.assert_array_equal(old_weight, new_weight)


class TestSameName:
    """A folder of the user's that is called as a published entry is."""

    def test_of_other_weights_is_not_mistaken_for_it(self, shelf, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        mine = models.ResNet18((16, 16, 3), 0.125, "small", num_classes=2)
        zoo.save_entry(mine, tmp_path / "tiny", name="tiny")
        with pytest.raises(auxzoo.UserError, match=r"`name` must tell which network is meant.*'\./tiny'"):
            auxzoo.load("tiny", shelf=shelf)
        assert auxzoo.load("./tiny", shelf=shelf).output.shape == (None, 2)
        assert auxzoo.load(Path("tiny"), shelf=shelf).output.shape == (None, 2)

    def test_of_the_same_weights_is_it(self, shelf, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        zoo.pull("tiny", tmp_path, shelf=shelf)
        assert zoo.entry_folder("tiny", shelf) == shelf / "tiny"


class TestKerasFile:
    @pytest.fixture(scope="class")
    @classmethod
    def network(cls):
        return models.ResNet18((16, 16, 3), 0.125, "small", num_classes=3, labels=("a", "b", "c"))

    def test_of_a_super_network_opens_in_a_fresh_process(self, network, tmp_path):
        """Keras knows our classes there only if opening makes them known."""
        auxzoo.attach(network, SearchSpace.default(network)).save(tmp_path / "joint.keras")
        code = "import sys, auxzoo; print(auxzoo.detach(auxzoo.load(sys.argv[1])).description.tasks[0].labels)"
        command = [sys.executable, "-c", code, tmp_path / "joint.keras"]
        told = subprocess.run(command, capture_output=True, text=True, check=True)
        assert told.stdout.strip() == "('a', 'b', 'c')"

    def test_a_clone_of_keras_has_no_description_and_is_saved(self, network, tmp_path):
        # With a function, Keras makes the copy without the configuration of the network.
        clone = keras.models.clone_model(
            network, clone_function=lambda layer: type(layer).from_config(layer.get_config())
        )
        clone.save(tmp_path / "clone.keras")
        loaded = auxzoo.load(tmp_path / "clone.keras")
        assert loaded.description is None
        assert loaded.output.shape == network.output.shape
        structure = auxzoo.Structure.default(loaded, ["stage2_block2_relu2"])
        assert auxzoo.detach(auxzoo.attach(loaded, structure)).output.shape == network.output.shape
        assert [task.kind for task in tasks_of(loaded)] == ["classification"]

    @pytest.mark.parametrize("arguments", [{"num_classes": 3}, {"labels": ("a",)}, {"preprocessing_fit": "pad"}])
    def test_takes_no_other_argument(self, arguments):
        with pytest.raises(auxzoo.UserError, match=r"Only `name` may be given for a \.keras file"):
            auxzoo.load("any.keras", **arguments)


def test_the_way_of_fitting_pictures_can_be_chosen(shelf):
    network = auxzoo.load("tiny", num_classes=2, preprocessing_fit="pad", shelf=shelf)
    assert auxzoo.describe(network).preprocessing.fit == "pad"


def test_pulling_gives_a_folder_that_loads(shelf, tmp_path):
    folder = zoo.pull("tiny", tmp_path, shelf=shelf)
    network = auxzoo.load(folder)
    images = np.ones((1, 16, 16, 3), "float32")
    np.testing.assert_array_equal(network(images), auxzoo.load("tiny", shelf=shelf)(images))


def test_the_licence_goes_with_the_weights(shelf, copied_shelf, tmp_path):
    folder = zoo.pull("tiny", tmp_path, shelf=shelf)
    assert zoo.licence_of("tiny", shelf) == zoo.licence_of(folder, shelf) == zoo.LICENCE
    (folder / zoo.WEIGHTS_FILE).write_bytes(b"fine-tuned")
    assert zoo.licence_of(folder, shelf) is None
    assert zoo.licence_of("flowers.keras", shelf) is None


@pytest.mark.parametrize("file", ["model.weights.h5", "config.json"])
def test_a_changed_byte_is_refused(copied_shelf, tmp_path, file):
    path = copied_shelf / "tiny" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(auxzoo.UserError, match=rf"{file}` was changed"):
        auxzoo.load("tiny", shelf=copied_shelf)
    with pytest.raises(auxzoo.UserError, match=rf"{file}` was changed"):
        zoo.pull("tiny", tmp_path / "target", shelf=copied_shelf)
    assert not (tmp_path / "target" / "tiny").exists()


def test_a_missing_file_is_named(copied_shelf):
    (copied_shelf / "tiny" / "model.weights.h5").unlink()
    with pytest.raises(auxzoo.UserError, match=r"model.weights.h5` is missing"):
        auxzoo.load("tiny", shelf=copied_shelf)


def test_pulling_overwrites_nothing(shelf, tmp_path):
    zoo.pull("tiny", tmp_path, shelf=shelf)
    with pytest.raises(auxzoo.UserError, match="exists; nothing there is overwritten"):
        zoo.pull("tiny", tmp_path, shelf=shelf)


def test_weights_of_another_network_are_refused(shelf, tmp_path):
    folder = zoo.pull("tiny", tmp_path, shelf=shelf)
    models.ResNet18((16, 16, 3), 0.25, "small", num_classes=3).save_weights(folder / "model.weights.h5")
    with pytest.raises(auxzoo.UserError, match=r"model.weights.h5` does not fit 'resnet18'"):
        auxzoo.load(folder)


def test_a_truncated_weights_file_is_refused(shelf, tmp_path):
    folder = zoo.pull("tiny", tmp_path, shelf=shelf)
    path = folder / "model.weights.h5"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(auxzoo.UserError, match="does not fit"):
        auxzoo.load(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"description": {}, "network": {}}', "\xff"])
def test_a_foreign_configuration_is_refused(shelf, tmp_path, text):
    folder = zoo.pull("tiny", tmp_path, shelf=shelf)
    (folder / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(auxzoo.UserError, match=r"config.json"):
        auxzoo.load(folder)


@pytest.mark.parametrize(("part", "value"), [("layers", []), ("output_layers", [["nope", 0, 0]])])
def test_a_configuration_of_no_network_is_refused(shelf, tmp_path, part, value):
    folder = zoo.pull("tiny", tmp_path, shelf=shelf)
    config = read_json(folder / "config.json")
    config["network"][part] = value
    write_json(folder / "config.json", config)
    with pytest.raises(auxzoo.UserError, match=r"config.json` is not the configuration of a network"):
        auxzoo.load(folder)


def test_an_unknown_name_is_told_what_there_is(shelf):
    with pytest.raises(auxzoo.UserError, match="`name` must be one of tiny, or a folder.*Received: 'large'"):
        auxzoo.load("large", shelf=shelf)
    with pytest.raises(auxzoo.UserError, match="`name` must be one of tiny"):
        zoo.pull("large", "somewhere", shelf=shelf)


def test_labels_without_a_fresh_head_are_refused(shelf):
    with pytest.raises(auxzoo.UserError, match="`labels` may be given only with `num_classes`"):
        auxzoo.load("tiny", labels=("a",), shelf=shelf)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", None])
def test_a_broken_keras_file_is_refused(tmp_path, content):
    path = tmp_path / "network.keras"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(auxzoo.UserError, match="cannot be loaded"):
        models.load_keras_file(path)


class TestPublishedEntries:
    """What is on the shelf of this project, whatever it is."""

    @pytest.fixture(scope="class", params=zoo.read_index())
    @classmethod
    def name(cls, request):
        return request.param

    def test_loads_and_matches_its_summary(self, name):
        network, summary = auxzoo.load(name), zoo.read_index()[name]["summary"]
        costs = models.measure_costs(network)
        assert (costs.parameters, costs.macs) == (summary["parameters"], summary["macs"])
        assert list(network.input_shape[1:]) == summary["input"]
        files = read_json(zoo.entry_folder(name) / zoo.METRICS_FILE)["files"]
        (int8,) = [record for record in files if record["format"] == "tflite_int8"]
        assert (int8["accuracy"]["accuracy"], int8["bytes"]) == (summary["int8_accuracy"], summary["int8_bytes"])

    def test_weights_hold_no_auxiliary(self, name):
        import h5py

        names = []
        with h5py.File(zoo.entry_folder(name) / zoo.WEIGHTS_FILE) as file:
            file.visit(names.append)
        assert names
        assert not [path for path in names if "auxiliary" in path]

    def test_is_what_its_constructor_builds_today(self, name):
        """The published network is built from its configuration: a constructor that drifts would not show there."""
        from auxzoo.training import read_recipe
        from auxzoo.training.run import build_compact

        published, built = auxzoo.load(name), build_compact(read_recipe(name))
        built.set_weights(published.get_weights())
        images = np.random.default_rng(0).normal(size=(2, *published.input_shape[1:])).astype("float32")
        np.testing.assert_array_equal(built(images), published(images))
        momenta = [
            [layer.momentum for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
            for network in (built, published)
        ]
        assert momenta[0] == momenta[1]

    def test_structure_attaches_again(self, name):
        structure = auxzoo.Structure.read(zoo.entry_folder(name) / "structure.json")
        joint = auxzoo.attach(auxzoo.load(name, num_classes=4), structure)
        assert {output.shape for output in joint.output.values()} == {(None, 4)}

    def test_card_shows_the_figures_of_the_measured_files(self, name):
        folder = zoo.entry_folder(name)
        card, metrics = (folder / "README.md").read_text(), json.loads((folder / "metrics.json").read_text())
        for record in metrics["files"]:
            row = next(line for line in card.splitlines() if line.startswith(f"| {record['file']} "))
            assert f"{100 * record['accuracy']['accuracy']:.2f}" in row
            assert record["sha256"][:16] in row

    def test_int8_loses_at_most_a_point(self, name):
        metrics = json.loads((zoo.entry_folder(name) / "metrics.json").read_text())
        accuracy = {record["format"]: record["accuracy"]["accuracy"] for record in metrics["files"]}
        assert accuracy["tflite_float32"] - accuracy["tflite_int8"] <= 0.01

    def test_recipe_is_readable_and_of_this_entry(self, name):
        from auxzoo.training import read_recipe

        recipe = read_recipe(zoo.entry_folder(name) / "recipe.yaml")
        assert recipe.name == name
        assert recipe.data.data_dir is None
        assert recipe == read_recipe(name), "the packaged recipe is another"

    def test_its_recipe_gives_the_structure_that_it_was_trained_with(self, name):
        from auxzoo.training import read_recipe
        from auxzoo.training.run import build_compact, build_structure

        # Whatever has become the default since.
        recipe = read_recipe(zoo.entry_folder(name) / "recipe.yaml")
        structure = build_structure(recipe, build_compact(recipe))
        assert structure == auxzoo.Structure.read(zoo.entry_folder(name) / "structure.json")

    def test_weights_are_those_that_were_measured(self, name):
        metrics = json.loads((zoo.entry_folder(name) / "metrics.json").read_text())
        assert (
            metrics["runs"]["auxiliary"]["weights_sha256"]
            == zoo.read_index()[name]["files"][zoo.WEIGHTS_FILE]["sha256"]
        )


def test_a_keras_file_with_a_layer_of_its_own_is_refused_by_the_layers_name(tmp_path):
    class Sharpen(keras.layers.Layer):
        def call(self, images):
            return images * 2

    inputs = keras.Input((4, 4, 3))
    keras.Model(inputs, Sharpen()(inputs)).save(tmp_path / "own.keras")
    with pytest.raises(auxzoo.UserError, match="own.keras` cannot be loaded: Could not locate class 'Sharpen'") as told:
        auxzoo.models.load_keras_file(tmp_path / "own.keras")
    assert len(str(told.value)) < 500


def test_keras_file_of_ours_keeps_its_description(tmp_path):
    network = models.ResNet18((16, 16, 3), 0.125, "small", num_classes=2)
    network.save(tmp_path / "network.keras")
    assert auxzoo.describe(models.load_keras_file(tmp_path / "network.keras")) == auxzoo.describe(network)
    assert isinstance(models.load_keras_file(tmp_path / "network.keras"), keras.Model)
