"""Every command as a user types it: what it prints, what it leaves behind, and its exit code."""

import functools
import json
import re
import shutil
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

import auxzoo
from auxzoo import models
from auxzoo.child_process import ChildFailed
from auxzoo.commands import evaluate as evaluate_command
from auxzoo.commands import train as train_command
from auxzoo.commands.common import make_table, print_table
from auxzoo.commands.images import choose_images, tell_other_classes
from auxzoo.export import FORMATS, TARGETS
from auxzoo.files import read_json, sha256, write_json
from auxzoo.models import zoo
from auxzoo.training.recipe_file import read_settings

NAME = "mobilenet_v2_050_cifar10"  # the entry on the tests' shelf
WIDTH = 100  # columns of a table in a pipe


@pytest.fixture
def work_folder(tmp_path, monkeypatch, pictures, finished_runs, recipe_file):
    """The folder in which the commands run: beside it pictures, two runs and a recipe, under short names."""
    (tmp_path / "pictures").symlink_to(pictures)
    for arm, folder in finished_runs.items():
        (tmp_path / arm).symlink_to(folder)
    shutil.copyfile(recipe_file, tmp_path / "tiny.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def exported(command, pictures, finished_runs, tmp_path_factory):
    """Two exported files of the run with the auxiliary, and how the command ended."""
    folder = tmp_path_factory.mktemp("exported")
    formats = "tflite_float32,onnx"
    arguments = ["--data", f"folder:{pictures}", "--to", folder, "--formats", formats]
    return folder, command("export", finished_runs["auxiliary"], *arguments)


def test_where_the_truth_of_a_classifier_is_stands_in_its_folder(recipe_file, tmp_path):
    """A set of data may call its classes anything."""
    description = models.Description((), models.Preprocessing(8, 8), (auxzoo.Task("species", "classification"),))

    def targets(data):
        given = types.SimpleNamespace(data=data, recipe=None, data_dir=None, skip_broken=False, download=False)
        return choose_images(given, str(tmp_path), description).options["targets"]

    assert targets("tfds:birds") is None, "no recipe, and nothing to tell"
    settings = read_settings(recipe_file)
    (tmp_path / "recipe.yaml").write_text(json.dumps(settings))
    assert targets("tfds:birds") is None, "one class an image"
    settings["data"] |= {"source": "tfds:birds", "targets": {"species": {"kind": "classification", "feature": "bird"}}}
    settings["network"] = {"architecture": "ResNet18", "arguments": {"input_shape": [8, 8, 3]}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(settings))
    assert targets("folder:pictures") is None, "other images"
    (target,) = targets("tfds:birds")
    assert (target.task.name, target.feature) == ("species", "bird")


def assert_refused(outcome, *parts):
    """Checks that a command told the user's mistake: code 2, one message with these parts, no traceback."""
    assert outcome.code == 2, outcome
    assert outcome.error.startswith("auxzoo "), outcome.error
    assert "Traceback" not in outcome.error
    for part in parts:
        assert part in outcome.error


def assert_fits(outcome):
    """Checks that no printed line is wider than a page, and that no cell of a table was cut off."""
    assert max(map(len, outcome.output.splitlines())) <= WIDTH
    assert "…" not in outcome.output


def rows_of(outcome):
    """Returns the rows of the printed tables, a list of cells each; a cell of several lines is joined by spaces."""
    rows, is_open = [], False
    for line in outcome.output.splitlines():
        cells = [cell.strip() for cell in line.split("│")[1:-1]]
        if cells and is_open and not (cells[0] and any(cells[1:])):
            rows[-1] = [" ".join([*cell.split(), *more.split()]) for cell, more in zip(rows[-1], cells, strict=True)]
        elif cells:
            rows.append(cells)
        is_open = bool(cells)
    return rows


def row_of(outcome, first_cell):
    """Returns the cells of the one row that begins with `first_cell`."""
    (row,) = [row for row in rows_of(outcome) if row[0] == first_cell]
    return row


class TestList:
    def test_shows_every_entry_on_one_line(self, command, use_shelf, shelf):
        use_shelf(shelf)
        outcome = command("list")
        summary = zoo.read_index(shelf)[NAME]["summary"]
        assert row_of(outcome, NAME) == [
            *(NAME, "CIFAR-10 (JPEG copy)", "32x32x3", f"{summary['parameters']:,}"),
            *(f"{summary['macs'] / 1e6:,.1f}", "93.21", "1,235"),
        ]
        assert (outcome.code, outcome.error) == (0, "")
        assert_fits(outcome)

    def test_the_published_entries_fit_as_well(self, command):
        outcome = command("list")
        assert outcome.code == 0
        assert_fits(outcome)
        assert all(row_of(outcome, name) for name in zoo.read_index())

    def test_json_is_the_index(self, command, use_shelf, shelf):
        use_shelf(shelf)
        outcome = command("list", "--json")
        assert (outcome.code, json.loads(outcome.output)) == (0, zoo.read_index(shelf))


class TestPull:
    def test_copies_an_entry_once(self, command, use_shelf, shelf, tmp_path):
        use_shelf(shelf)
        outcome = command("pull", NAME, "--to", tmp_path / "new")
        assert (outcome.code, outcome.output) == (0, f"{tmp_path / 'new' / NAME}\n")
        assert auxzoo.load(tmp_path / "new" / NAME).output.shape == (None, 10)
        pulled = {path.name: sha256(path) for path in (tmp_path / "new" / NAME).iterdir()}
        assert_refused(command("pull", NAME, "--to", tmp_path / "new"), "exists; nothing there is overwritten")
        assert {path.name: sha256(path) for path in (tmp_path / "new" / NAME).iterdir()} == pulled

    def test_an_unknown_name_is_told_what_there_is(self, command, use_shelf, shelf, tmp_path):
        use_shelf(shelf)
        outcome = command("pull", "resnet", "--to", tmp_path / "new")
        assert_refused(outcome, f"`name` must be one of {NAME}. Received: 'resnet'")
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_cannot_be_made_is_named(self, command, use_shelf, shelf, tmp_path):
        use_shelf(shelf)
        (tmp_path / "file").write_text("mine")
        assert_refused(command("pull", NAME, "--to", tmp_path / "file"), str(tmp_path / "file"))
        assert (tmp_path / "file").read_text() == "mine"


class TestShow:
    def test_sizes_may_be_open(self, command, work_folder):
        inputs = keras.Input((None, None, 3))
        keras.Model(inputs, keras.layers.Conv2D(4, 3, name="wide")(inputs)).save("open.keras")
        outcome = command("show", "open.keras", "--layers")
        assert (outcome.code, outcome.error) == (0, "")
        assert "input open" in outcome.output
        assert "Not counted, of an unknown kind: wide" in outcome.output

    SMALL = ("--set", "input_shape=[32, 32, 3]", "--set", "width=0.25", "--set", "stem=small")

    def test_adds_up_the_stages_of_an_architecture(self, command):
        outcome = command("show", "ResNet18", *self.SMALL, "--set", "num_classes=10")
        assert (outcome.code, outcome.error) == (0, "")
        network = models.ResNet18((32, 32, 3), 0.25, "small", num_classes=10)
        costs = models.measure_costs(network)
        stages = [row_of(outcome, tap) for tap in ("stem", "stage1", "stage2", "stage3", "stage4", "output")]
        assert [row[1] for row in stages] == ["32x32x16", "32x32x16", "16x16x32", "8x8x64", "4x4x128", "10"]
        assert sum(int(row[2].replace(",", "")) for row in stages) == costs.parameters
        assert sum(float(row[3].replace(",", "")) for row in stages) == pytest.approx(costs.macs / 1e6, abs=0.03)
        total = row_of(outcome, "total")
        assert total[2:4] == [f"{costs.parameters:,}", f"{costs.macs / 1e6:,.2f}"]
        assert f"{costs.activation_bytes / 1000:,.1f}" in total[4]
        assert f"{costs.trainable_parameters:,} parameters are trainable" in outcome.output

    def test_the_defaults_are_those_of_the_papers(self, command):
        # Table 1 of the paper counts 11,689,512 trainable ones at 1000 classes.
        outcome = command("show", "ResNet18")
        assert "11,689,512" in outcome.output
        assert "input 224x224x3" in outcome.output

    @pytest.mark.parametrize(
        ("arguments", "build"),
        [
            (("ResNet18", *SMALL), lambda: models.ResNet18((32, 32, 3), 0.25, "small", num_classes=1000)),
            (("MobileNetV2", "--set", "alpha=1.4"), lambda: models.MobileNetV2(alpha=1.4, num_classes=1000)),
            (
                ("DeepLabLite", "--set", "alpha=0.35"),
                lambda: models.DeepLabLite(models.MobileNetV2(alpha=0.35, output_stride=16), 21),
            ),
        ],
        ids=["ResNet18", "MobileNetV2", "DeepLabLite"],
    )
    def test_every_layer_is_a_row_if_asked_for(self, command, arguments, build):
        # A name that is cut off names no tap.
        outcome = command("show", *arguments, "--layers")
        assert (outcome.code, outcome.error) == (0, "")
        rows = [["".join(cell.split()) for cell in row[:2]] for row in rows_of(outcome)]
        network = build()
        kinds = [[name, kind.partition(",")[0]] for name, kind in rows[: len(network.layers)]]
        assert kinds == [[layer.name, type(layer).__name__] for layer in network.layers]
        assert_fits(outcome)
        taps = [kind.partition(",")[2] for _, kind in rows if "," in kind]
        assert taps == [*dict(models.describe(network).taps), "output"]

    @pytest.mark.parametrize(
        "arguments",
        [
            ("ResNet18",),
            ("MobileNetV2", "--set", "alpha=1.4", "--set", "num_classes=null"),
            ("DeepLabLite", "--set", "backbone=MobileNetV2", "--set", "alpha=0.35"),
            ("DeepLabLite", "--set", "backbone=ResNet18", "--set", "width=0.25", "--set", "num_classes=11"),
        ],
        ids=" ".join,
    )
    def test_every_table_fits(self, command, arguments):
        outcome = command("show", *arguments)
        assert (outcome.code, outcome.error) == (0, "")
        assert_fits(outcome)

    def test_a_published_entry_and_a_run_are_shown(self, command, use_shelf, shelf, work_folder):
        use_shelf(shelf)
        for name, title in ((NAME, "input 32x32x3"), ("plain", "plain: classification, input 16x16x3")):
            outcome = command("show", name)
            assert outcome.code == 0
            assert title in outcome.output

    def test_any_keras_file_is_shown(self, command, work_folder):
        inputs = keras.Input((8, 8, 3))
        keras.Model(inputs, keras.layers.Conv2D(4, 1, name="mix")(inputs)).save(work_folder / "foreign.keras")
        outcome = command("show", "foreign.keras", "--layers")
        assert outcome.code == 0, outcome
        assert row_of(outcome, "mix")[1:] == ["Conv2D, output", "8x8x4", "16", "0.00", "1.0"]
        assert_refused(command("show", "lost.keras"), "`lost.keras` cannot be loaded")

    def test_a_name_in_brackets_is_printed_as_it_is(self, command, work_folder):
        (work_folder / "[red]:boom:").symlink_to(work_folder / "plain")
        assert "[red]:boom:: classification" in command("show", "[red]:boom:").output

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                ["MobileNetV2", "--set", "alpha=0.3"],
                "`alpha` must be one of 0.35, 0.5, 0.75, 1.0, 1.3, 1.4. Received: alpha=0.3",
            ),
            (["MobileNetV2", "--set", "width=0.5"], "arguments of MobileNetV2: .*width"),
            (["MobileNetV2", "--set", "alpha"], "`--set` must be KEY=VALUE. Received: 'alpha'"),
            (["MobileNetV2", "--set", "alpha=["], "`--set` must have a YAML value. Received: 'alpha=['"),
            (
                ["MobileNetV2", "--set", "alpha=2020-99-99"],
                "`--set` must have a YAML value. Received: 'alpha=2020-99-99'",
            ),
            (["MobileNetV2", "--set", "input_shape=96"], "`input_shape` must be (height, width, 3)"),
            (["MobileNetV2", "--set", "input_shape=[.inf, 32, 3]"], "`input_shape` must be (height, width, 3)"),
            (["ResNet18", "--set", "name=a/b"], "name"),
            (["ResNet18", "--set", "batch_normalization_momentum=much"], "much"),
            (["ResNet18", "--set", "labels=3"], "labels"),
            (
                ["DeepLabLite", "--set", "backbone=VGG"],
                "`backbone` must be one of MobileNetV2, ResNet18. Received: 'VGG'",
            ),
            (["DeepLabLite", "--set", "num_classes=0"], "`num_classes` must be"),
            (["resnet18"], "`name` must be one of"),
            (["resnet18", "--set", "alpha=1"], "`--set` may be given only with an architecture"),
            (["a" * 300], "name"),
        ],
    )
    def test_wrong_arguments_are_named(self, command, arguments, message):
        before, _, after = message.partition(".*")
        assert_refused(command("show", *arguments), before, after)


class TestSearch:
    """Real searches are in tests/training; here is what the command hands over and what it prints."""

    @pytest.fixture
    def searched(self, monkeypatch, work_folder):
        """What `search` was called with; instead of searching it leaves what a search leaves."""
        from auxzoo.auxiliary import SearchSpace
        from auxzoo.training import search as search_module

        network = models.ResNet18((8, 8, 3), 0.125, "small", num_classes=3)
        space = SearchSpace.default(network, taps=["stem", "stage1", "stage2"], width_multiplier=1)
        links = [("stage1", "stage1"), ("stage2", "stem")]
        operations = {"stage1": "identity", "stage2": "separable_3x3"}
        candidate = space.structure(links, operations)

        def worth(node, tap, value):
            return {"node": node, "tap": tap, "worth": value}

        found = {
            "gradient": {
                "gate_history": {
                    **{f"link {node} <- {tap}": [0.5, 0.123] for node, tap in space.links},
                    "operation stage1 identity": [0.2, 0.9],
                },
                "link_worths": [
                    [
                        {"node": "stage1", "tap": "stage1", "worth": 0.5},
                        {"node": "stage2", "tap": "stem", "worth": 0.5},
                    ],
                    [{"node": "stage2", "tap": "stem", "worth": -0.00325}],
                ],
            },
            "halving": {
                "candidates": [
                    {
                        "structure": candidate.to_dict(),
                        "epochs": 7,
                        "metric": "accuracy",
                        "value": 0.4321,
                        "diverged": False,
                    },
                ]
            },
        }
        calls = []

        def leave(recipe, folder, **options):
            calls.append(types.SimpleNamespace(recipe=recipe, folder=folder, **options))
            cost = {"steps": 1234, "seconds": 90}
            facts = {"cost": cost, "links": 2, "step_cost": 1.375, "found": found[recipe.search.method]}
            candidate.save(folder / "structure.json")
            write_json(folder / "metrics.json", facts)

        monkeypatch.setattr(search_module, "search", leave)
        monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
        return calls

    def test_every_argument_reaches_the_recipe(self, command, searched, work_folder):
        outcome = command(
            *("search", "tiny.yaml", "--to", "found", "--data-dir", "my #säts 🐈", "--method", "halving"),
            *("--links", "4"),
            *("--step-cost", "1.5", "--set", "search.every=3", "--skip-broken", "--download", "--overwrite"),
            *("--verbose", "2"),
        )
        assert outcome.code == 0, outcome
        (call,) = searched
        options = call.recipe.search
        assert (options.method, options.links, options.step_cost, options.every) == ("halving", 4, 1.5, 3)
        data = call.recipe.data
        assert (data.data_dir, data.skip_broken, data.download) == ("my #säts 🐈", True, True)  # a path, not YAML
        assert (str(call.folder), call.overwrite, call.verbose, call.measured) == ("found", True, 2, None)

    def test_the_structure_and_every_link_are_told(self, command, searched, work_folder):
        outcome = command("search", "tiny.yaml", "--to", "found")
        assert_fits(outcome)
        rows = rows_of(outcome)
        assert ["stage1", "stage1", "identity", "8"] in rows
        assert ["stage2", "stem", "separable_3x3", "16"] in rows
        # The worth is that of the last round in which the link was looked at.
        assert ["stage2", "stem", "12", "-3.25", "yes"] in rows
        assert ["stage1", "stage1", "12", "+500.00", "yes"] in rows
        assert ["stage2", "stage2", "12", "", ""] in rows
        assert "2 links; a joint step takes 1.38 plain ones" in outcome.output
        assert "The search took 1,234 steps, 1.5 minutes." in outcome.output
        assert "auxzoo train found/recipe.yaml --structure found/structure.json" in outcome.output

    def test_every_structure_that_was_tried_is_told(self, command, searched, work_folder):
        outcome = command("search", "tiny.yaml", "--to", "found", "--method", "halving")
        assert_fits(outcome)
        assert ["1", "stage1: stage1; stage2: stem", "identity, separable_3x3", "7", "43.21 % accuracy"] in rows_of(
            outcome
        )

    def test_a_new_folder_is_numbered(self, command, searched, work_folder):
        assert "The search goes to runs/tiny_search-001" in command("search", "tiny.yaml").output

    def test_what_is_measured_is_of_the_recipe_without_its_search(self, command, searched, work_folder, monkeypatch):
        from auxzoo.training import compilation

        seen = []

        def measure(settings):
            seen.append(settings)
            return {"compilation": "graph", "onednn": True, "images_per_second": {"graph, oneDNN on": 512.5}}

        monkeypatch.setattr(compilation, "measure_compute", measure)
        settings = ("--set", "compute.onednn=auto", "--set", "compute.compilation=auto", "--links", "2")
        outcome = command("search", "tiny.yaml", "--to", "found", *settings)
        assert outcome.code == 0, outcome
        assert (seen[0]["compute"]["compilation"], "search" in seen[0]) == ("graph", False)
        assert searched[0].measured["onednn"] is True

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["nothing.yaml"], ["nothing.yaml"]),
            (["tiny.yaml", "--links", "0"], ["search.links", "0"]),
            (["tiny.yaml", "--step-cost", "1"], ["search.step_cost", "1"]),
            (["tiny.yaml", "--set", "search.supervision=wide"], ["search.supervision", "wide"]),
            (["tiny.yaml", "--set", "search.every=0"], ["search.every", "0"]),
            (["tiny.yaml", "--set", "search.perturbation=0"], ["search.perturbation", "0"]),
            (["tiny.yaml", "--set", "search.gates=3"], ["search.gates"]),
        ],
    )
    def test_wrong_arguments_are_named(self, command, searched, work_folder, arguments, words):
        assert_refused(command("search", *arguments), *words)
        assert searched == []


class TestTrain:
    """Real runs of the command are in tests/training; here is what comes before and after them."""

    @pytest.fixture
    def trained(self, monkeypatch):
        """What `train` was called with, instead of training."""
        from auxzoo.training import run

        calls = []

        def stop(recipe, folder, **options):
            calls.append(types.SimpleNamespace(recipe=recipe, folder=folder, **options))
            raise KeyboardInterrupt

        monkeypatch.setattr(run, "train", stop)
        monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
        return calls

    def test_every_argument_reaches_the_recipe(self, command, trained, work_folder):
        outcome = command(
            *("train", "tiny.yaml", "--to", "run", "--data-dir", "2024", "--structure", "none", "--onednn", "off"),
            *("--compilation", "xla", "--set", "epochs=7", "--set", "optimization.momentum=0.5"),
            *("--skip-broken", "--download", "--overwrite", "--verbose", "2"),
        )
        assert outcome.code == 130, outcome
        (call,) = trained
        recipe = call.recipe
        assert (recipe.epochs, recipe.optimization.momentum, recipe.auxiliary.structure) == (7, 0.5, "none")
        assert (recipe.data.data_dir, recipe.data.skip_broken, recipe.data.download) == ("2024", True, True)
        assert (recipe.compute.compilation, recipe.compute.onednn) == ("xla", False)
        assert (str(call.folder), call.overwrite, call.verbose, call.measured) == ("run", True, 2, None)

    def test_a_log_gets_a_line_an_epoch_and_no_progress_bar(self, command, trained, work_folder):
        command("train", "tiny.yaml")
        command("train", "tiny.yaml", "--verbose", "1")
        assert [call.verbose for call in trained] == [2, 1]

    def test_a_packaged_recipe_is_found_by_its_name(self, command, trained, work_folder):
        assert command("train", NAME, "--set", "epochs=1").code == 130
        assert (trained[0].recipe.name, trained[0].recipe.epochs) == (NAME, 1)

    def test_the_folder_is_told_before_the_training(self, command, trained, work_folder):
        # Whoever's run is cut off must know how to go on.
        outcome = command("train", "tiny.yaml")
        assert "runs/tiny-001" in outcome.output
        assert outcome.error == "auxzoo train: interrupted\n"

    @pytest.mark.parametrize(("value", "expected"), [("true", "1"), ("off", "0"), ("null", None), (None, None)])
    def test_onednn_is_set_before_tensorflow_is_there(
        self, command, trained, work_folder, monkeypatch, value, expected
    ):
        import os

        seen = []
        monkeypatch.setattr(
            train_command, "load_tensorflow", lambda: seen.append(os.environ.get("TF_ENABLE_ONEDNN_OPTS"))
        )
        command("train", "tiny.yaml", *([] if value is None else ["--set", f"compute.onednn={value}"]))
        assert seen == [expected]

    def test_what_is_measured_is_told_used_and_kept(self, command, trained, work_folder, monkeypatch):
        from auxzoo.training import compilation

        measured = {"compilation": "xla", "onednn": True, "images_per_second": {"xla, oneDNN on": 512.5}}
        monkeypatch.setattr(compilation, "measure_compute", lambda settings: measured)
        outcome = command("train", "tiny.yaml", "--onednn", "auto", "--to", "run")
        assert "xla, oneDNN on: 512.5 images/s" in outcome.output
        # The same command again finds the choice in the run's folder.
        (work_folder / "run").mkdir()
        write_json(work_folder / "run" / "compute.json", measured | {"onednn": False})
        monkeypatch.setattr(compilation, "measure_compute", lambda settings: pytest.fail("measured again"))
        outcome = command("train", "tiny.yaml", "--onednn", "auto", "--to", "run")
        assert [call.measured["onednn"] for call in trained] == [True, False]

    @pytest.mark.parametrize(
        ("left", "measured_again"),
        [("unfinished", False), ("finished", True), ("of other settings", True)],
    )
    def test_what_was_measured_is_kept_by_a_run_that_is_not_overwritten(
        self, command, trained, work_folder, monkeypatch, left, measured_again
    ):
        from auxzoo.training import compilation

        measured = {"compilation": "xla", "onednn": True, "images_per_second": {"xla, oneDNN on": 512.5}}
        monkeypatch.setattr(compilation, "measure_compute", lambda settings: dict(measured))
        arguments = ("train", "tiny.yaml", "--onednn", "auto", "--to", "run", "--overwrite")
        command(*arguments)
        (call,) = trained
        run = work_folder / "run"
        write_json(run / "compute.json", call.measured | {"onednn": False})
        if left == "finished":
            write_json(run / "metrics.json", {})
        command(*arguments, *(["--set", "epochs=7"] if left == "of other settings" else []))
        assert [call.measured["onednn"] for call in trained] == [True, measured_again]

    def test_a_wrong_recipe_that_shall_be_measured_is_named(self, command, trained, work_folder, monkeypatch):
        from auxzoo.training import compilation

        def fail(settings):
            raise ChildFailed("The child process failed.")

        monkeypatch.setattr(compilation, "measure_compute", fail)
        for setting, *words in (
            ("epochs=many", "`epochs`", "'many'"),
            ("network.arguments.width=3", "`width` must be", "width=3"),
            ("auxiliary.structure=nowhere.json", "nowhere.json` does not exist"),
        ):
            assert_refused(command("train", "tiny.yaml", "--onednn", "auto", "--set", setting), *words)
        outcome = command("train", "tiny.yaml", "--onednn", "auto")
        assert (outcome.code, outcome.error) == (1, "auxzoo train: The child process failed.\n")
        assert trained == []

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--set", "epoch=3"], "`epoch`: no such setting"),
            (["--set", "epochs"], "`--set` must be KEY=VALUE"),
            (["--set", "epochs=["], "`--set` must have a YAML value"),
            (["--set", "epochs=2020-99-99"], "`--set` must have a YAML value"),
            (["--set", "compute=5"], "`compute`"),
            (["--set", "compute.onednn=perhaps"], "`compute.onednn"),
            (["--set", "compute.onednn=[1]"], "`compute.onednn"),
            (["--set", "seed=99999999999"], "`seed`"),
            (["--set", "data.source=folder:nowhere"], "`folder:` must be followed by an existing folder"),
            (["--set", "data.source=tfds:nothing_of_the_kind"], "`tfds:nothing_of_the_kind` is neither known"),
            (["--set", "network.arguments.width=0.3"], "`width` must be one of"),
            (["--set", "network.arguments={input_shape: [8, 8, 3], preprocessing_fit: pad}"], "at most 8x8 pixels"),
            (["--set", "data.augmentation.shift=16"], "`shift` must be less than"),
            (["--set", "batch_size=128"], "`batch_size` must be at most the number of training images, 36"),
            (["--structure", "nowhere.json"], "nowhere.json` does not exist"),
            (["--structure", "foreign.json"], "foreign.json`: A structure must have the keys"),
            (["--structure", "unknown_tap.json"], "stage9"),
            (["--to", "plain"], "holds a run of another recipe"),
            (["--to", "auxiliary"], "holds a finished run"),
            (["--to", "pictures"], "is not empty and holds no run"),
            (["--to", "tiny.yaml"], "must be a folder"),
        ],
    )
    def test_wrong_input_is_named_and_nothing_is_left_behind(self, command, work_folder, arguments, message):
        (work_folder / "foreign.json").write_text("{}")
        structure = read_json(work_folder / "auxiliary" / "structure.json")
        structure["taps"]["stage9"] = "stage9"
        structure["nodes"][-1]["links"] = ["stage9"]
        write_json(work_folder / "unknown_tap.json", structure)
        before = sorted(work_folder.rglob("*"))
        assert_refused(command("train", "tiny.yaml", "--verbose", "0", *arguments), message)
        assert sorted(work_folder.rglob("*")) == before

    def test_a_missing_recipe_is_told_what_there_is(self, command, work_folder):
        assert_refused(
            command("train", "nowhere.yaml"),
            f"`recipe` must be a YAML file or one of fine_tune, fine_tune_photographs, {NAME}",
        )

    def test_a_loss_that_is_no_number_ends_with_1_and_the_step(self, command, work_folder):
        outcome = command(
            *("train", "tiny.yaml", "--structure", "none", "--to", "run", "--verbose", "0"),
            *("--set", "optimization.learning_rate=1e30", "--set", "optimization.ema_momentum=null"),
        )
        assert outcome.code == 1, outcome
        assert "in epoch 1, step 2 (step 2 of the run)" in outcome.error
        assert "Traceback" not in outcome.error
        assert not (work_folder / "run" / "run_state.npz").exists(), "a state with NaN was saved"
        assert not (work_folder / "run" / "metrics.json").exists()


class TestBrokenPictures:
    @pytest.fixture
    def damaged(self, work_folder, pictures):
        (work_folder / "pictures").unlink()
        shutil.copytree(pictures, work_folder / "pictures")
        for split in ("train", "test"):
            path = work_folder / "pictures" / split / "grey" / "broken.png"
            path.write_bytes((path.parent / "00.png").read_bytes()[:60])
        return work_folder

    @pytest.mark.parametrize(
        "arguments",
        [
            ("evaluate", "plain", "--data", "folder:pictures"),
            ("export", "plain", "--data", "folder:pictures", "--formats", "onnx"),
            ("train", "tiny.yaml", "--set", "data.source=folder:pictures"),
        ],
        ids=lambda arguments: arguments[0],
    )
    def test_one_among_good_ones_is_named(self, command, damaged, arguments):
        before = sorted(damaged.rglob("*"))
        outcome = command(*arguments)
        assert_refused(outcome, "grey/broken.png is not a readable picture", "--skip-broken")
        assert sorted(damaged.rglob("*")) == before

    def test_it_can_be_left_out_and_is_counted(self, command, damaged, finished_runs):
        outcome = command("evaluate", "plain", "--data", "folder:pictures", "--skip-broken")
        accuracy = read_json(finished_runs["plain"] / "metrics.json")["test"]["accuracy"]
        assert outcome.code == 0
        assert "1 broken images of folder:pictures/test left out: pictures/test/grey/broken.png" in outcome.output
        assert f"plain: {100 * accuracy:.2f} % of 24 images" in outcome.output

    def test_training_counts_it_too(self, command, damaged):
        outcome = command(
            *("train", "tiny.yaml", "--skip-broken", "--structure", "none", "--verbose", "0", "--to", "run"),
            *("--set", "data.source=folder:pictures", "--set", "epochs=1", "--set", "optimization.ema_momentum=null"),
        )
        assert outcome.code == 0, outcome
        assert "2 broken images left out: pictures/train/grey/broken.png" in outcome.output
        told = outcome.output.splitlines()[:3]
        assert told[0].startswith("The run goes to run")
        assert told[1].startswith("Training on ")
        assert re.fullmatch(r"Training pictures: dark \d+, grey \d+, light \d+", told[2])
        metrics = read_json(damaged / "run" / "metrics.json")
        assert metrics["images"] == {"train": 36, "validation": 12, "test": 24}
        for split in ("validation", "test"):
            cells = row_of(outcome, f"{metrics[split]['images']} {split}")
            assert cells[1:] == ["compact", f"{100 * metrics[split]['accuracy']:.2f}"]
        assert_fits(outcome)


class TestEvaluate:
    @pytest.mark.parametrize("arm", ["auxiliary", "plain"])
    def test_a_run_has_the_accuracy_that_it_reports(self, command, work_folder, arm):
        metrics = read_json(work_folder / arm / "metrics.json")
        outcome = command("evaluate", arm, "--data", "folder:pictures")
        expected = f"{arm}: {100 * metrics['test']['accuracy']:.2f} % of 24 images of folder:pictures/test"
        assert (outcome.code, outcome.output.splitlines()[0], outcome.error) == (0, expected, "")
        assert_fits(outcome)

    @pytest.fixture
    def mixed(self, work_folder, pictures):
        """A folder of the test pictures in which grey ones lie among the dark, so that not all are told right."""
        shutil.copytree(pictures / "test", work_folder / "mixed" / "train")
        for number in range(4):
            file = work_folder / "mixed" / "train" / "dark" / f"grey{number}.png"
            shutil.copyfile(pictures / "test" / "grey" / f"{number:02d}.png", file)
        return work_folder / "mixed" / "train"

    def predicted(self, folder):
        """Returns what the plain network takes every picture of every class for."""
        network, images = auxzoo.load("plain"), auxzoo.data.open_images(f"folder:{folder.parent}", "train")
        ((batch, classes),) = images.batches(network.description.preprocessing, images.size)
        labels, predicted = network.description.tasks[0].labels, network(batch, training=False).numpy().argmax(1)
        named = np.array([labels.index(label) for label in images.labels])[classes.numpy()]
        return {label: np.array(labels)[predicted[named == place]] for place, label in enumerate(labels)}

    def right(self, folder):
        """Returns whether the plain network is right, of every picture of every class."""
        return {label: of_class == label for label, of_class in self.predicted(folder).items()}

    def mistakes(self, folder):
        """Returns what the plain network takes pictures of every class for, and how often."""
        predicted = self.predicted(folder)
        return {
            label: {other: int((of_class == other).sum()) for other in set(of_class.tolist()) - {label}}
            for label, of_class in predicted.items()
        }

    def test_every_class_is_told(self, command, mixed, monkeypatch):
        arguments = ("evaluate", "plain", "--data", "folder:mixed", "--split", "train")
        outcome, right, mistakes = command(*arguments), self.right(mixed), self.mistakes(mixed)
        assert right["dark"].mean() < right["grey"].mean()
        assert "grey" in mistakes["dark"]
        for label, count in (("dark", 12), ("grey", 8), ("light", 8)):
            cells = row_of(outcome, label)
            assert cells[:3] == [label, str(count), f"{100 * right[label].mean():.2f}"]
            numbers = [int(number) for number in re.findall(r"\((\d+)\)", cells[3])]
            assert numbers == sorted(numbers, reverse=True)
            assert sorted(filter(None, cells[3].split(", "))) == sorted(
                f"{other} ({number})" for other, number in mistakes[label].items()
            )
        mean = 100 * np.mean([of_class.mean() for of_class in right.values()])
        assert f"Mean of 3 classes {mean:.2f} %\n" in outcome.output
        monkeypatch.setattr(evaluate_command, "_MOST_CLASSES", 2)
        assert rows_of(command(*arguments)) == []

    def test_a_folder_may_lack_classes_of_the_network(self, command, mixed):
        shutil.rmtree(mixed / "grey")  # light is the network's third
        outcome, right = command("evaluate", "plain", "--data", "folder:mixed", "--split", "train"), self.right(mixed)
        share = 100 * np.concatenate(list(right.values())).mean()
        assert outcome.output.startswith(f"plain: {share:.2f} % of 20 images of folder:mixed/train\nMean of 2 classes ")
        assert outcome.error == ""
        assert row_of(outcome, "light")[:3] == ["light", "8", f"{100 * right['light'].mean():.2f}"]
        assert row_of(outcome, "grey") == ["grey", "0", "", ""]

    def test_classes_of_other_names_are_warned_of(self, command, mixed):
        for label, other in (("light", "white"), ("grey", "light")):
            (mixed / label).rename(mixed / other)
        outcome = command("evaluate", "plain", "--data", "folder:mixed", "--split", "train")
        assert outcome.code == 0
        assert "Warning: class 'light' is number 1 of the images' and 2 of the network's" in outcome.error

    def test_json_is_all_that_is_printed(self, command, mixed):
        right, mistakes = self.right(mixed), self.mistakes(mixed)
        (mixed / "grey" / "broken.png").write_bytes((mixed / "grey" / "00.png").read_bytes()[:60])
        options = ["--split", "train", "--skip-broken", "--json", "--pictures", "sheet.png", "--count", "1"]
        outcome = command("evaluate", "plain", "--data", "folder:mixed", *options)
        accuracies = {label: of_class.mean() for label, of_class in right.items()}
        assert outcome.code == 0, outcome
        assert json.loads(outcome.output) == {
            "name": "plain",
            "source": "folder:mixed/train",
            "images": 28,
            "accuracy": pytest.approx(np.concatenate(list(right.values())).mean()),
            "mean_accuracy_of_classes": pytest.approx(np.mean(list(accuracies.values()))),
            "accuracy_of_classes": pytest.approx(accuracies),
            "images_of_classes": {"dark": 12, "grey": 8, "light": 8},
            "mistakes_of_classes": mistakes,
        }
        assert "1 broken images of folder:mixed/train left out" in outcome.error
        assert "are in sheet.png" in outcome.error

    def test_a_keras_file_is_measured_too(self, command, work_folder):
        network = auxzoo.load("auxiliary")
        network.save(work_folder / "compact.keras")
        auxzoo.attach(network, auxzoo.Structure.default(network)).save(work_folder / "joint.keras")
        accuracy = read_json(work_folder / "auxiliary" / "metrics.json")["test"]["accuracy"]
        for name in ("compact.keras", "joint.keras"):
            outcome = command("evaluate", name, "--data", "folder:pictures")
            assert f"{name}: {100 * accuracy:.2f} % of 24 images" in outcome.output, outcome

    def test_another_split_is_measured(self, command, work_folder):
        outcome = command("evaluate", "plain", "--data", "folder:pictures", "--split", "train")
        assert "% of 48 images of folder:pictures/train" in outcome.output

    def test_images_are_those_of_the_run_if_none_are_named(self, command, work_folder):
        given = command("evaluate", "plain", "--data", "folder:pictures", "--split", "validation")
        assert_refused(given, "`split` must be a folder in `pictures`")
        shutil.copytree(work_folder / "plain", work_folder / "own")
        recipe = (work_folder / "own" / "recipe.yaml").read_text()
        recipe = recipe.replace("train_split: train", "train_split: validation")
        (work_folder / "own" / "recipe.yaml").write_text(recipe.replace("test_split: test", "test_split: train"))
        written_otherwise = f"folder:{work_folder / 'pictures'}/../pictures"
        for options in ([], ["--data", written_otherwise]):
            outcome = command("evaluate", "own", *options)
            assert "% of 48 images of folder:" in outcome.output, outcome
        (work_folder / "own" / "recipe.yaml").write_text(recipe.replace("test_split: test", "test_split: null"))
        assert_refused(command("evaluate", "own"), "`--split` must name the split to measure, since the recipe")
        formats = ["--formats", "tflite_int8", "--calibration-count", "100", "--to", "files"]
        assert_refused(command("export", "own", *formats), "`--split` must name the split to measure")
        outcome = command("export", "own", "--split", "test", "--calibration-split", "train", *formats)
        assert outcome.code == 0, outcome
        record = read_json(work_folder / "files" / "own_int8.tflite.json")
        assert record["accuracy"]["source"].endswith("/test")
        assert "/train" in record["calibration"]["source"]
        assert_refused(command("evaluate", "resnet18_025_cifar10"), "`--data` must be sample, tfds:NAME or folder:PATH")

    def test_a_network_for_other_classes_is_refused(self, command, work_folder):
        assert_refused(
            command("evaluate", "plain", "--data", "sample"),
            "`--data` must have as many classes as the network has logits, 3",
            "Received: 10",
        )

    def test_a_network_without_classes_is_refused(self, command, work_folder):
        zoo.save_entry(models.ResNet18((8, 8, 3), 0.125, "small"), work_folder / "backbone", "backbone")
        outcome = command("evaluate", "backbone", "--data", "folder:pictures")
        assert_refused(outcome, "must be a network with a head", "features")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["nothing"], "`name` must be one of"),
            (["nothing.tflite"], "`nothing.tflite` is not a file"),
            (["nothing.tflite", "--network", "plain"], "`nothing.tflite` is not a file"),
            (["garbage.tflite", "--network", "plain"], "garbage.tflite` is not a TFLite file"),
            (["garbage.onnx", "--network", "plain"], "garbage.onnx` cannot be run"),
            (["empty.tflite", "--network", "plain"], "`empty.tflite` is empty"),
            (["empty.onnx", "--network", "plain"], "`empty.onnx` is empty"),
            (["plain", "--network", "plain"], "`--network` may be given only with a .tflite or .onnx file"),
            (["plain", "--data", "pictures"], "`source` must be sample, tfds:NAME or folder:PATH"),
            (["plain", "--data", "folder:nowhere"], "existing folder. Received: `nowhere`"),
            (["plain", "--data", "folder:pictures", "--split", "validation"], "`split` must be a folder in `pictures`"),
            (["plain", "--data", "tfds:nothing_of_the_kind"], "`tfds:nothing_of_the_kind` is neither known"),
            (["plain", "--data", "tfds:mnist:9.9.9"], "`tfds:mnist:9.9.9` is neither known"),
            (["damaged"], "model.weights.h5` does not fit"),
        ],
    )
    def test_wrong_input_is_named(self, command, work_folder, arguments, message):
        for kind in ("tflite", "onnx"):
            (work_folder / f"garbage.{kind}").write_bytes(bytes(range(256)) * 8)
            (work_folder / f"empty.{kind}").touch()
        shutil.copytree(work_folder / "plain", work_folder / "damaged")
        content = (work_folder / "plain" / "model.weights.h5").read_bytes()
        (work_folder / "damaged" / "model.weights.h5").write_bytes(content[: len(content) // 2])
        assert_refused(command("evaluate", *arguments), message)


def test_help_names_all_that_may_be_chosen(command):
    texts = {name: "".join(command(name, "--help").output.split()) for name in ("export", "inspect", "evaluate")}
    assert all(name in texts["export"] for name in (*FORMATS, *TARGETS))
    assert all(name in texts["inspect"] for name in TARGETS)
    assert not any("None" in text for text in texts.values())


@pytest.mark.parametrize("name", ["typo", "net.h5", "gone.tflite", "gone.onnx", "empty.onnx", "pictures.zip"])
@pytest.mark.parametrize("arguments", [["evaluate"], ["predict", "picture.png"], ["bench-page"]], ids=" ".join)
def test_a_wrong_name_is_told_before_tensorflow_is_loaded(command, work_folder, arguments, name, monkeypatch):
    """Which takes seconds."""
    for module in ("evaluate", "predict", "bench_page"):
        monkeypatch.setattr(f"auxzoo.commands.{module}.load_tensorflow", lambda: pytest.fail("TensorFlow is loaded"))
    (work_folder / "empty.onnx").touch()
    (work_folder / "pictures.zip").write_bytes(b"PK")
    outcome = command(arguments[0], name, *arguments[1:])
    assert_refused(outcome, name)
    if "." not in name and arguments != ["bench-page"]:
        assert "or a .keras, .tflite or .onnx file. Received: 'typo'" in outcome.error


def test_a_narrow_table_leaves_its_title_whole(capsys):
    table = make_table("a/long/name/of/a_file.tflite: images of tfds:set/test", "measure", "value>", caption="x " * 30)
    table.add_row("accuracy", "1")
    print_table(table)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a/long/name/of/a_file.tflite: images of tfds:set/test"
    assert lines[-1].split() == ["x"] * 30


def test_a_wide_table_is_folded_between_parts_of_names(capsys):
    table = make_table(None, "layer", "kind", "numbers>")
    for row in [("stage_block_" * 6 + "end", "GlobalAveragePooling2D" * 2, "9" * 30), ("short", "Dense", "1")]:
        table.add_row(*row)
    print_table(table)
    outcome = types.SimpleNamespace(output=capsys.readouterr().out)
    assert_fits(outcome)
    assert "9" * 30 in outcome.output
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in outcome.output.splitlines() if "│" in line]
    assert "".join(line[0] for line in lines[:-1]) == "stage_block_" * 6 + "end"
    assert all(line[0].endswith(("_", "end")) for line in lines[:-1] if line[0])


@pytest.mark.slow  # the converters take their own TensorFlow
class TestExportedFiles:
    def test_the_command_tells_every_file_and_no_more(self, exported):
        folder, outcome = exported
        assert (outcome.code, outcome.error) == (0, "")
        assert {path.name for path in folder.iterdir()} == {
            *("auxiliary_float32.tflite", "auxiliary_float32.tflite.json", "auxiliary.onnx", "auxiliary.onnx.json"),
            "auxiliary.html",
        }
        page = (folder / "auxiliary.html").read_text()
        assert page.count("data:image/png;base64,") == 2, "a sheet of predictions for every file"
        for name in ("auxiliary_float32.tflite", "auxiliary.onnx"):
            record = read_json(folder / f"{name}.json")
            assert row_of(outcome, name) == [
                name,
                f"{(folder / name).stat().st_size / 1000:,.0f}",
                f"{100 * record['accuracy']['accuracy']:.2f}",
                f"{record['parity']['largest_difference']:.1e}",
                f"{record['latency']['median_ms']:.2f}",
            ]
            assert record["sha256"] == sha256(folder / name)
        assert f"Keras network: {100 * record['keras_accuracy']:.2f} %" in outcome.output

    @pytest.mark.parametrize("network", [[], ["--network", "auxiliary"]])
    @pytest.mark.parametrize("name", ["auxiliary_float32.tflite", "auxiliary.onnx"])
    def test_a_file_measured_again_has_the_accuracy_of_its_record(self, command, exported, work_folder, name, network):
        shutil.copyfile(exported[0] / name, work_folder / name)
        outcome = command("evaluate", name, *network, "--data", "folder:pictures")
        accuracy = read_json(exported[0] / f"{name}.json")["accuracy"]["accuracy"]
        expected = f"{name}: {100 * accuracy:.2f} % of 24 images of folder:pictures/test"
        assert (outcome.code, outcome.output.splitlines()[0], outcome.error) == (0, expected, "")
        rows = {label: [label, count, share] for label, count, share, _ in rows_of(outcome)}
        assert set(rows) == {"dark", "grey", "light"}
        assert np.mean([float(share) for _, _, share in rows.values()]) == pytest.approx(100 * accuracy, abs=0.01)

    @pytest.mark.slow
    def test_a_file_that_gives_classes_is_drawn(self, command, work_folder):
        arguments = ["--data", "folder:pictures", "--formats", "tflite_float32", "--argmax", "--to", "classes"]
        outcome = command("export", "plain", *arguments)
        assert (outcome.code, outcome.error) == (0, "")
        assert "data:image/png" in (work_folder / "classes" / "plain.html").read_text()
        file, photograph = "classes/plain_float32.tflite", next((work_folder / "pictures" / "test").rglob("*.png"))
        outcome = command("predict", file, photograph, "--to", "predicted")
        assert (outcome.code, outcome.error) == (0, "")
        assert (work_folder / "predicted" / photograph.name).stat().st_size > 1000
        outcome = command("evaluate", file, "--data", "folder:pictures", "--pictures", "sheet.png")
        assert (outcome.code, outcome.error) == (0, "")
        assert {row[0] for row in rows_of(outcome)} == {"dark", "grey", "light"}
        assert_refused(
            command("evaluate", file, "--data", "folder:pictures", "--pictures", "sheet.png", "--count", "500"),
            "`--count` must be 1 to 100. Received: 500",
        )

    @pytest.mark.parametrize("name", ["auxiliary_float32.tflite", "auxiliary.onnx"])
    def test_a_truncated_file_is_refused(self, command, exported, work_folder, name):
        content = (exported[0] / name).read_bytes()
        (work_folder / name).write_bytes(content[: len(content) // 2])
        outcome = command("evaluate", name, "--network", "auxiliary", "--data", "folder:pictures")
        assert_refused(outcome, f"`{name}`")

    @pytest.mark.parametrize("name", ["auxiliary_float32.tflite", "auxiliary.onnx"])
    def test_the_network_of_another_file_is_refused(self, command, exported, work_folder, name):
        zoo.save_entry(models.ResNet18((32, 32, 3), 0.125, "small", num_classes=3), work_folder / "larger", "larger")
        outcome = command("evaluate", exported[0] / name, "--network", "larger", "--data", "folder:pictures")
        assert_refused(outcome, "16, 16, 3", "32, 32, 3")

    def test_files_are_replaced_only_if_asked_for(self, command, exported, work_folder):
        shutil.copytree(exported[0], work_folder / "files")
        before = {path.name: sha256(path) for path in (work_folder / "files").iterdir()}
        arguments = ["export", "auxiliary", "--to", "files", "--formats", "onnx", "--no-accuracy"]
        assert_refused(command(*arguments), "`files` holds auxiliary.onnx already; give --overwrite")
        assert {path.name: sha256(path) for path in (work_folder / "files").iterdir()} == before

        outcome = command(*arguments, "--overwrite")
        assert outcome.code == 0
        # A number that nobody measured is not printed.
        assert row_of(outcome, "auxiliary.onnx")[2] == "not measured"
        assert "Keras network" not in outcome.output
        assert read_json(work_folder / "files" / "auxiliary.onnx.json")["accuracy"] is None
        assert sha256(work_folder / "files" / "auxiliary_float32.tflite") == before["auxiliary_float32.tflite"]
        assert_fits(outcome)

    def test_a_last_stage_of_one_pixel_gives_a_file_that_runs(self, command, make_random, work_folder):
        # Keras adds a branch of the shape [1, 1, 1, channels] as if it were a bias.
        network = make_random(models.ResNet18((8, 8, 3), 0.125, "small", num_classes=3))
        zoo.save_entry(network, work_folder / "pixel", "pixel")
        arguments = ["--formats", "tflite_float32,onnx", "--data", "folder:pictures", "--to", "files"]
        outcome = command("export", "pixel", *arguments)
        assert outcome.code == 0, outcome
        for name in ("pixel_float32.tflite", "pixel.onnx"):
            assert read_json(work_folder / "files" / f"{name}.json")["parity"]["largest_difference"] < 1e-4

    def test_without_a_folder_a_new_one_is_numbered_and_a_backbone_has_no_accuracy(
        self, command, work_folder, monkeypatch
    ):
        zoo.save_entry(models.ResNet18((16, 16, 3), 0.125, "small"), work_folder / "backbone", "backbone")
        monkeypatch.chdir(work_folder / "backbone")
        # `.` is called by the folder's name.
        outcome = command("export", ".", "--data", f"folder:{work_folder / 'pictures'}", "--formats", "onnx")
        assert outcome.code == 0, outcome
        assert (work_folder / "backbone" / "exported" / "backbone-001" / "backbone.onnx").exists()
        assert row_of(outcome, "backbone.onnx")[2] == "not measured"


class TestExport:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["resnet18_025_cifar10"], "`--data` must be sample, tfds:NAME or folder:PATH"),
            (["resnet18_025_cifar10", "--no-accuracy"], "`--data` must be sample, tfds:NAME or folder:PATH"),
            (
                ["plain", "--formats", "tflite_int4"],
                "`--formats` must be among tflite_float32, .*onnx_int8. Received: tflite_int4",
            ),
            (["plain", "--formats", ""], "`--formats` must be among"),
            (["plain", "--formats", "onnx,", "--no-accuracy"], "`--formats` must be among"),
            (["nothing", "--formats", "onnx", "--no-accuracy"], "`name` must be one of"),
            (["nothing.keras", "--formats", "onnx", "--no-accuracy"], "`nothing.keras` cannot be loaded"),
            (["broken.keras", "--formats", "onnx", "--no-accuracy"], "`broken.keras` cannot be loaded"),
            (["plain", "--formats", "onnx", "--no-accuracy", "--to", "tiny.yaml"], "tiny.yaml`, a file"),
            (["plain", "--data", "folder:nowhere"], "existing folder. Received: `nowhere`"),
            (["plain", "--data", "sample", "--formats", "onnx"], "classes"),
        ],
    )
    def test_wrong_input_is_named_and_nothing_is_left_behind(self, command, work_folder, arguments, message):
        (work_folder / "broken.keras").write_bytes(b"PK\x03\x04")
        before = sorted(work_folder.rglob("*"))
        head, _, tail = message.partition(".*")
        assert_refused(command("export", *arguments), head, tail)
        assert sorted(work_folder.rglob("*")) == before

    def test_a_joint_network_is_refused_and_told_what_to_hand_over(self, command, work_folder):
        network = auxzoo.load("plain")
        auxzoo.attach(network, auxzoo.Structure.default(network)).save(work_folder / "joint.keras")
        before = sorted(work_folder.rglob("*"))
        outcome = command("export", "joint.keras", "--formats", "onnx", "--no-accuracy")
        assert_refused(
            outcome, "`model` must be the compact network", "hand over the compact one, `auxzoo.detach(model)`"
        )
        assert sorted(work_folder.rglob("*")) == before

    def test_a_failed_conversion_ends_with_1_and_leaves_no_file(self, command, work_folder, monkeypatch):
        monkeypatch.setattr(sys, "executable", shutil.which("false"))  # what the converter's process runs
        outcome = command("export", "plain", "--formats", "onnx", "--no-accuracy", "--to", "files")
        assert outcome.code == 1, outcome
        assert outcome.error.startswith("auxzoo export: ")
        assert "Traceback" not in outcome.error
        assert not (work_folder / "files" / "plain.onnx").exists()


class TestDemo:
    @pytest.mark.parametrize("target", ["pictures", "tiny.yaml"])
    def test_a_folder_that_is_not_empty_is_refused(self, command, work_folder, target):
        before = sorted(work_folder.rglob("*"))
        assert_refused(command("demo", "--to", target), f"`--to` must be an empty or new folder. Received: `{target}`")
        assert sorted(work_folder.rglob("*")) == before


# Texts that came near to a traceback: YAML that is none, dates and numbers that cannot be, names too long for a
# file, and what a shell, a format string or a table might read in its own way.
NASTY = [
    "[",
    "{",
    "&a",
    "*a",
    "!!python/name:os.system",
    "2020-99-99",
    "0x_",
    ".inf",
    "a" * 300,
    "%s",
    "{0}",
    "[red]",
    "~",
]
# What the process could be given: no NUL, and text that is neither an option nor a valid value.
JUNK = (
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20) | st.sampled_from(NASTY)
).filter(lambda text: not text.startswith("-"))
# `JUNK` stands where the text goes. No recipe below could start a training: its pictures are missing.
TEMPLATES = [
    ["JUNK"],
    ["list", "JUNK"],
    ["pull", "JUNK", "--to", "here"],
    ["show", "JUNK"],
    ["show", "ResNet18", "--set", "JUNK"],
    ["show", "ResNet18", "--set", "JUNK=1"],
    ["show", "ResNet18", "--set", "width=JUNK"],
    ["show", "ResNet18", "--set", "input_shape=JUNK"],
    ["show", "ResNet18", "--set", "stem=JUNK"],
    ["train", "JUNK"],
    ["train", "lost.yaml", "--set", "JUNK"],
    ["train", "lost.yaml", "--set", "JUNK=1"],
    ["train", "lost.yaml", "--set", "epochs=JUNK"],
    ["train", "lost.yaml", "--set", "network=JUNK"],
    ["train", "lost.yaml", "--set", "compute=JUNK"],
    ["train", "lost.yaml", "--set", "compute.onednn=JUNK"],
    ["train", "lost.yaml", "--set", "data.augmentation=JUNK"],
    ["train", "lost.yaml", "--structure", "JUNK"],
    ["evaluate", "JUNK"],
    ["evaluate", "JUNK.onnx", "--network", "plain"],
    ["evaluate", "plain", "--data", "JUNK"],
    ["evaluate", "plain", "--data", "folder:JUNK"],
    ["evaluate", "plain", "--data", "folder:pictures", "--split", "JUNK"],
    ["export", "JUNK", "--formats", "onnx", "--no-accuracy"],
    ["export", "JUNK.keras", "--formats", "onnx", "--no-accuracy"],
    ["export", "plain", "--formats", "JUNK", "--no-accuracy"],
    ["export", "plain", "--data", "JUNK"],
]


@pytest.mark.parametrize("template", TEMPLATES, ids=" ".join)
def test_junk_is_refused_without_a_traceback(command, work_folder, template, monkeypatch):
    # One network for all examples.
    monkeypatch.setattr(models, "load", functools.cache(models.load))
    text = (work_folder / "tiny.yaml").read_text()
    (work_folder / "lost.yaml").write_text(text.replace("folder:", "folder:lost"))
    before = sorted(path for path in work_folder.rglob("*"))

    @settings(derandomize=True, deadline=None, max_examples=6 if "plain" in template else 15)
    @given(JUNK)
    @example("[")
    @example("2020-99-99")
    @example("a" * 300)
    def refuse(junk):
        outcome = command(*[argument.replace("JUNK", junk) for argument in template])
        assert outcome.code == 2, outcome
        assert outcome.error.startswith(("auxzoo ", "usage: auxzoo"))

    refuse()
    assert sorted(path for path in work_folder.rglob("*")) == before


def test_pictures_in_the_tests_are_readable(pictures):
    # Or every refusal above could have another reason.
    files = sorted(pictures.rglob("*.png"))
    assert len(files) == 72
    assert {tf.io.decode_png(path.read_bytes()).shape[2] for path in files} == {3}


@pytest.mark.parametrize(
    ("labels", "warning"),
    [
        (("Cat", "dog", "frog"), ""),
        (("cat", "horse", "boot"), ""),
        (("shirt", "boot", "hat"), "no class of the images (cat, dog, frog, ...) is called as one of the network's"),
        (("cat", "frog", "dog"), ""),
        (
            ("Cat", "frog", "dog"),
            "class 'dog' is number 1 of the images' and 2 of the network's; are these the images that are meant?",
        ),
        (
            ("dog", "horse", "boot"),
            "class 'dog' is number 1 of the images' and 0 of the network's; are these the images that are meant?",
        ),
        (("shirt", "boot"), ""),
        ((), ""),
    ],
    ids=[
        "the same",
        "one of them",
        "none of them",
        "by name",
        "two exchanged",
        "one elsewhere",
        "another number",
        "no names",
    ],
)
def test_images_of_other_classes_are_told(labels, warning, capsys):
    task = auxzoo.Task("classification", "classification", labels)
    images = types.SimpleNamespace(tasks=[auxzoo.Task("other", "classification", ("cat", "dog", "frog"))])
    tell_other_classes(types.SimpleNamespace(tasks=(task,)), images)
    said = capsys.readouterr().err
    assert said.startswith(f"Warning: {warning}" if warning else "")
    assert bool(said) == bool(warning)
    tell_other_classes(types.SimpleNamespace(tasks=(task,)), None)
    assert capsys.readouterr().err == ""
