"""Runs of recipes: what they leave behind, that they resume bit-identically, and what they refuse."""

import dataclasses
import shutil
import signal
import subprocess
import sys
import time

import filelock
import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import auxzoo
from auxzoo import models
from auxzoo.data import open_images
from auxzoo.files import read_json, sha256
from auxzoo.models import zoo
from auxzoo.models.arguments import finish
from auxzoo.tasks import Task
from auxzoo.training import loop, read_recipe, run, run_folder, train
from auxzoo.training.compilation import measure_compute
from auxzoo.training.compute import apply_compute, describe_compute, device_line
from auxzoo.training.evaluation import evaluate
from auxzoo.training.recipe import ComputeSettings
from auxzoo.training.recipe_file import read_settings
from auxzoo.training.run import build_compact, open_data, pretrained_checksum
from auxzoo.training.run_folder import claim_folder, hold_folder
from auxzoo.training.run_state import Progress, read_progress


@pytest.fixture
def recipe(recipe_file):
    return read_recipe(recipe_file)


@pytest.fixture(params=["auxiliary", "plain"])
def finished_run(request, finished_runs):
    return finished_runs[request.param]


def weights_in(folder):
    """Returns every array of a run's weights file by its path in it."""
    arrays = {}
    with h5py.File(folder / "model.weights.h5") as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return arrays


def assert_same_run(folder, other):
    """Checks that two runs ended the same, bit for bit."""
    weights, other_weights = weights_in(folder), weights_in(other)
    assert weights.keys() == other_weights.keys()
    for name in weights:
        np.testing.assert_array_equal(weights[name], other_weights[name], err_msg=name)
    metrics, other_metrics = read_json(folder / "metrics.json"), read_json(other / "metrics.json")
    for key in ("history", "validation", "test", "images", "auxiliary"):
        assert metrics[key] == other_metrics[key], key


def interrupted(*arguments, **options):
    """Stands in for `fit` where only what comes before it is looked at."""
    raise KeyboardInterrupt


class StopAt(keras.callbacks.Callback):
    """Ends the process's work in a step, as a kill would; epoch and step count from 0."""

    def __init__(self, epoch, step):
        super().__init__()
        self.epoch, self.step = epoch, step

    def on_epoch_begin(self, epoch, logs=None):
        self.current = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.current, batch) == (self.epoch, self.step):
            raise KeyboardInterrupt


class TestFinishedRun:
    def test_leaves_its_files_and_no_others(self, finished_run):
        expected = {
            *("recipe.yaml", "config.json", "model.weights.h5", "metrics.json"),
            *("run_state.npz", "run.json", "tensorboard", ".lock"),
        }
        if finished_run.name == "auxiliary":
            expected.add("structure.json")
        assert {path.name for path in finished_run.iterdir()} == expected
        assert list((finished_run / "tensorboard").rglob("events.*"))

    def test_keeps_its_recipe(self, finished_run, recipe_file):
        overrides = [] if finished_run.name == "auxiliary" else ["auxiliary.structure=none"]
        assert read_recipe(finished_run / "recipe.yaml") == read_recipe(recipe_file, overrides)

    def test_keeps_the_structure_that_was_attached(self, finished_runs):
        compact = auxzoo.load(finished_runs["auxiliary"])
        structure = auxzoo.Structure.read(finished_runs["auxiliary"] / "structure.json")
        assert structure == auxzoo.Structure.default(compact)

    def test_tells_what_was_measured(self, finished_run, recipe):
        metrics = read_json(finished_run / "metrics.json")
        assert metrics["title"] == "folder:pictures", "no folder of this machine"
        assert metrics["auxiliary"] is (finished_run.name == "auxiliary")
        assert metrics["images"] == {"train": 36, "validation": 12, "test": 24}
        assert metrics["weights_sha256"] == sha256(finished_run / "model.weights.h5")
        assert metrics["pretrained_sha256"] is None
        assert metrics["training_seconds"] > 0
        assert metrics["broken_images_left_out"] == []
        made_with = metrics["made_with"]
        assert {"auxzoo", "keras", "tensorflow", "python", "processor", "threads", "onednn", "gpus"} < set(made_with)
        assert made_with["compilation"] == "graph"
        heads = {"images", "accuracy"}
        if metrics["auxiliary"]:
            # The joint network's accuracy is reported beside the compact one's.
            heads |= {"auxiliary_accuracy", "joint_accuracy"}
        for split, count in (("validation", 12), ("test", 24)):
            assert set(metrics[split]) == heads
            assert metrics[split]["images"] == count
        assert {"loss", "accuracy", "val_accuracy"} <= set(metrics["history"])
        assert {len(values) for values in metrics["history"].values()} == {recipe.epochs}

    def test_loads_and_has_the_accuracy_it_reports(self, finished_run, recipe):
        # Measured again on the file that is there, as a reader of the figures would.
        compact, metrics = auxzoo.load(finished_run), read_json(finished_run / "metrics.json")
        _, validation, test = open_data(recipe)
        assert auxzoo.describe(compact).tasks[0].labels == ("dark", "grey", "light")
        assert evaluate(compact, validation)["accuracy"] == metrics["validation"]["accuracy"]
        assert evaluate(compact, test)["accuracy"] == metrics["test"]["accuracy"]

    def test_moved_the_weights(self, finished_run):
        keras.utils.set_random_seed(0)
        fresh = models.ResNet18((16, 16, 3), 0.125, "small", num_classes=3)
        for trained, first in zip(auxzoo.load(finished_run).trainable_weights, fresh.trainable_weights, strict=True):
            assert not np.array_equal(trained.numpy(), first.numpy()), trained.path

    def test_keeps_no_auxiliary_tensor(self, finished_run):
        with h5py.File(finished_run / "model.weights.h5") as file:
            names = []
            file.visit(names.append)
        assert not [name for name in names if "auxiliary" in name]
        compact = models.ResNet18((16, 16, 3), 0.125, "small", num_classes=3)
        assert sum(array.size for array in weights_in(finished_run).values()) == compact.count_params()

    def test_the_auxiliary_changed_what_was_learnt(self, finished_runs):
        # Otherwise every comparison of both runs in this file would be empty.
        plain, joint = (weights_in(finished_runs[arm]) for arm in ("plain", "auxiliary"))
        assert plain.keys() == joint.keys()
        assert not any(np.array_equal(plain[name], joint[name]) for name in plain if "predictions" in name)


class TestResuming:
    def test_a_killed_run_ends_bit_identical(self, finished_runs, recipe_file, tmp_path, monkeypatch):
        # The first part measures how steps are computed; the second must not, as the other way differs in the
        # last digits.
        recipe = read_recipe(recipe_file, ["compute.compilation=auto"])
        monkeypatch.setattr(loop, "STEPS_WORTH_MEASURING", 1)
        monkeypatch.setattr(loop, "choose_compilation", lambda *arguments: "graph")
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "run", callbacks=[StopAt(epoch=1, step=1)], verbose=0)
        assert not (tmp_path / "run" / "metrics.json").exists()
        seconds = read_progress(tmp_path / "run" / "run_state.npz").seconds

        monkeypatch.setattr(loop, "choose_compilation", lambda *arguments: pytest.fail("measured again"))
        train(recipe, tmp_path / "run", verbose=0)
        assert_same_run(tmp_path / "run", finished_runs["auxiliary"])
        metrics = read_json(tmp_path / "run" / "metrics.json")
        assert metrics["made_with"]["compilation"] == "graph"
        assert metrics["training_seconds"] > round(seconds, 1), "both parts count"

    @pytest.mark.slow  # three processes, each with its own TensorFlow
    def test_a_command_killed_by_the_system_ends_bit_identical(self, recipe_file, tmp_path):
        # Small batches and many epochs: time enough to be killed between two checkpoints.
        # A plain network: those of a study that is killed have an auxiliary.
        overrides = ["--set", "batch_size=2", "--set", "epochs=10", "--set", "compute.threads=1", "--structure", "none"]

        def start(folder):
            command = [sys.executable, "-m", "auxzoo.command_line", "train", recipe_file, *overrides, "--to", folder]
            with open(tmp_path / "log.txt", "ab") as log:
                return subprocess.Popen([*map(str, command), "--verbose", "0"], stdout=log, stderr=log, cwd=tmp_path)

        killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
        processes = [start(killed), start(undisturbed)]
        try:
            deadline = time.monotonic() + 300
            while not (killed / "run_state.npz").exists() and processes[0].poll() is None:
                assert time.monotonic() < deadline, "no checkpoint"
                time.sleep(0.01)
            processes[0].send_signal(signal.SIGKILL)
            assert processes[0].wait() == -signal.SIGKILL, (tmp_path / "log.txt").read_text()
            assert not (killed / "metrics.json").exists()
            assert 1 <= read_progress(killed / "run_state.npz").epoch < 10
            processes.append(start(killed))
            assert [process.wait(300) for process in processes[1:]] == [0, 0], (tmp_path / "log.txt").read_text()
        finally:
            for process in processes:
                process.kill()
                process.wait()
        assert_same_run(killed, undisturbed)

    def test_what_the_command_measured_is_taken_and_kept(self, recipe_file, tmp_path, monkeypatch):
        recipe, taken = read_recipe(recipe_file, ["compute.onednn=auto"]), []

        def stop(*arguments, compilation, **options):
            taken.append(compilation)
            raise KeyboardInterrupt

        monkeypatch.setattr(run, "fit", stop)
        measured = {"compilation": "xla", "onednn": True, "images_per_second": {}}
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "run", measured=measured)
        assert taken == ["xla"]
        assert read_json(tmp_path / "run" / "compute.json") == measured


class TestFolders:
    @pytest.fixture
    def copied_run(self, finished_runs, tmp_path):
        return shutil.copytree(finished_runs["auxiliary"], tmp_path / "run")

    def content(self, folder):
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def test_a_finished_run_is_refused_and_untouched(self, recipe, copied_run):
        before = self.content(copied_run)
        with pytest.raises(auxzoo.UserError, match=r"run` holds a finished run; .* --overwrite"):
            train(recipe, copied_run)
        assert self.content(copied_run) == before

    @pytest.mark.parametrize("finished", [True, False])
    def test_a_run_of_another_recipe_is_refused_and_untouched(self, recipe_file, copied_run, finished):
        if not finished:
            (copied_run / "metrics.json").unlink()
        before = self.content(copied_run)
        with pytest.raises(auxzoo.UserError, match=r"run` holds a run of another recipe; .* --overwrite"):
            train(read_recipe(recipe_file, ["seed=1"]), copied_run)
        assert self.content(copied_run) == before

    @pytest.mark.parametrize("overwrite", [True, False])
    def test_a_folder_of_other_things_is_refused_and_untouched(self, recipe, tmp_path, overwrite):
        (tmp_path / "thesis.txt").write_text("three years")
        with pytest.raises(auxzoo.UserError, match="is not empty and holds no run; nothing there is overwritten"):
            train(recipe, tmp_path, overwrite=overwrite)
        assert self.content(tmp_path).keys() == {(tmp_path / "thesis.txt").relative_to(tmp_path)}

    @pytest.mark.parametrize("overwrite", [True, False])
    def test_a_file_is_refused_and_untouched(self, recipe, tmp_path, overwrite):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(auxzoo.UserError, match=r"must be a folder. Received: `.*file`, a file"):
            train(recipe, tmp_path / "file", overwrite=overwrite)
        assert (tmp_path / "file").read_text() == "mine"

    @pytest.mark.parametrize("overwrite", [True, False])
    def test_a_folder_that_another_process_works_in_is_refused(self, recipe_file, copied_run, overwrite):
        other = read_recipe(recipe_file, ["seed=1"])
        with filelock.FileLock(copied_run / ".lock"):
            before = self.content(copied_run)
            with pytest.raises(auxzoo.UserError, match="is in use by another process; wait for it, or choose another"):
                train(other, copied_run, overwrite=overwrite)
            assert self.content(copied_run) == before
        with pytest.raises(auxzoo.UserError, match="holds a run of another recipe"):
            train(other, copied_run)

    @pytest.mark.parametrize("names", [[], [".lock"]])
    def test_an_empty_folder_is_held(self, tmp_path, names):
        for name in names:
            (tmp_path / name).touch()
        with hold_folder(tmp_path), pytest.raises(auxzoo.UserError, match="in use"), hold_folder(tmp_path):
            pytest.fail("held twice")

    def test_what_is_no_run_is_not_touched_by_holding_it(self, tmp_path):
        (tmp_path / "thesis.txt").write_text("three years")
        with hold_folder(tmp_path):
            assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]

    @pytest.mark.parametrize("overwrite", [True, False])
    def test_files_of_the_user_that_are_called_as_leftovers_are_kept(self, recipe, tmp_path, overwrite):
        names = (".config.20240101.json", ".model.20240101.h5", ".model.20240101.weights.h5", ".run.20240101.json")
        for name in (*names, "thesis.txt"):
            (tmp_path / name).write_text("mine")
        before = self.content(tmp_path)
        with pytest.raises(auxzoo.UserError, match="is not empty and holds no run"):
            claim_folder(tmp_path, recipe, overwrite)
        assert self.content(tmp_path) == before
        (tmp_path / "thesis.txt").unlink()
        with pytest.raises(auxzoo.UserError, match="is not empty and holds no run"):
            claim_folder(tmp_path, recipe, overwrite)
        assert self.content(tmp_path).keys() | {(tmp_path / "thesis.txt").relative_to(tmp_path)} == before.keys()

    def test_a_run_that_was_killed_before_it_had_a_marker_leaves_its_folder_free(self, recipe, tmp_path):
        for name in (".lock", ".run.0a1b2c3d.json"):
            (tmp_path / name).touch()
        with hold_folder(tmp_path):
            claim_folder(tmp_path, recipe)
        assert {path.name for path in tmp_path.iterdir()} == {".lock", "recipe.yaml", "run.json"}

    def test_an_empty_folder_is_taken(self, recipe, tmp_path):
        assert claim_folder(tmp_path, recipe) == tmp_path
        assert read_recipe(tmp_path / "recipe.yaml") == recipe

    def test_a_recipe_made_in_python_claims_its_folder_again(self, recipe, tmp_path):
        # Its shape is a tuple, the one that was written is a list; it is the same run nevertheless.
        arguments = recipe.network.arguments | {"input_shape": (16, 16, 3)}
        recipe = recipe.model_copy(update={"network": recipe.network.model_copy(update={"arguments": arguments})})
        claim_folder(tmp_path, recipe)
        assert claim_folder(tmp_path, recipe) == tmp_path

    def test_overwriting_deletes_the_run_and_nothing_else(self, recipe_file, copied_run, monkeypatch):
        (copied_run / "thesis.txt").write_text("three years")
        recipe = read_recipe(recipe_file, ["auxiliary.structure=none", "seed=1"])
        monkeypatch.setattr(run, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, copied_run, overwrite=True)
        assert {path.name for path in copied_run.iterdir()} == {".lock", "recipe.yaml", "run.json", "thesis.txt"}
        assert read_recipe(copied_run / "recipe.yaml") == recipe

    def test_overwriting_continues_an_unfinished_run_of_the_same_recipe(self, recipe, copied_run):
        (copied_run / "metrics.json").unlink()
        state = (copied_run / "run_state.npz").read_bytes()
        claim_folder(copied_run, recipe, overwrite=True)
        assert (copied_run / "run_state.npz").read_bytes() == state

    def test_what_overwriting_has_not_deleted_when_it_is_killed_is_of_no_other_recipe(
        self, recipe, recipe_file, copied_run, monkeypatch
    ):
        other = read_recipe(recipe_file, ["seed=1"])
        monkeypatch.setattr(run_folder.shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            claim_folder(copied_run, other, overwrite=True)
        monkeypatch.undo()
        assert not (copied_run / "metrics.json").exists()
        with pytest.raises(auxzoo.UserError, match="holds a run of another recipe"):
            claim_folder(copied_run, other)
        claim_folder(copied_run, other, overwrite=True)
        assert not (copied_run / "tensorboard").exists()

    def test_a_run_goes_on_where_its_data_lie_elsewhere(self, recipe_file, copied_run):
        (copied_run / "metrics.json").unlink()
        moved = read_recipe(recipe_file, ["data.data_dir=there", "data.download=true", "data.source=folder:/moved"])
        claim_folder(copied_run, moved)
        assert read_recipe(copied_run / "recipe.yaml") == moved
        assert (copied_run / "run_state.npz").exists()

    def test_a_run_does_not_go_on_with_data_of_another_kind(self, recipe_file, copied_run):
        with pytest.raises(auxzoo.UserError, match="holds a run of another recipe"):
            claim_folder(copied_run, read_recipe(recipe_file, ["data.source=sample"]))

    def test_a_run_does_not_go_on_with_other_pictures_that_lie_where_its_own_lay(
        self, recipe_file, copied_run, pictures, tmp_path, monkeypatch
    ):
        (copied_run / "metrics.json").unlink()
        others = shutil.copytree(pictures, tmp_path / "others")
        recipe = read_recipe(recipe_file, [f"data.source=folder:{others}"])
        monkeypatch.setattr(run, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):  # the same pictures in another folder
            train(recipe, copied_run)
        assert (copied_run / "run_state.npz").exists()
        for name in ("dark", "light"):
            shutil.copyfile(others / "train" / "grey" / "00.png", others / "train" / name / "00.png")
        before = self.content(copied_run)
        with pytest.raises(auxzoo.UserError, match="holds a run of another set of images; choose"):
            train(recipe, copied_run)
        assert self.content(copied_run) == before
        with pytest.raises(KeyboardInterrupt):
            train(recipe, copied_run, overwrite=True)
        assert not (copied_run / "run_state.npz").exists()

    def test_a_run_goes_on_where_its_entry_lies_elsewhere(self, recipe_file, finished_runs, tmp_path):
        recipes = []
        for name in ("here", "there"):
            entry = shutil.copytree(finished_runs["plain"], tmp_path / name)
            recipes.append(read_recipe(recipe_file, [f"network={{entry: {entry}}}"]))
        first, second = map(pretrained_checksum, recipes)
        assert first == second == sha256(finished_runs["plain"] / "model.weights.h5")
        for recipe in recipes:
            claim_folder(tmp_path / "run", recipe, pretrained_sha256=first)
        shutil.copyfile(finished_runs["auxiliary"] / "model.weights.h5", tmp_path / "there" / "model.weights.h5")
        with pytest.raises(auxzoo.UserError, match="holds a run of another file of pretrained weights"):
            claim_folder(tmp_path / "run", recipes[1], pretrained_sha256=pretrained_checksum(recipes[1]))

    def test_a_published_entry_needs_no_checksum_and_is_no_folder(self, recipe_file, finished_runs, tmp_path):
        published = read_recipe("fine_tune")
        assert pretrained_checksum(published) is None
        claim_folder(tmp_path, published)
        with pytest.raises(auxzoo.UserError, match="holds a run of another recipe"):
            claim_folder(tmp_path, read_recipe("fine_tune", [f"network={{entry: {finished_runs['plain']}}}"]))

    def test_a_recipe_that_is_none_any_more_may_be_overwritten(self, recipe, copied_run):
        (copied_run / "recipe.yaml").write_text("name: tiny\ncolour: red\n")
        with pytest.raises(auxzoo.UserError, match="holds a run of another recipe"):
            claim_folder(copied_run, recipe)
        claim_folder(copied_run, recipe, overwrite=True)
        assert read_recipe(copied_run / "recipe.yaml") == recipe
        assert not (copied_run / "run_state.npz").exists()

    def test_other_pretrained_weights_make_another_run(self, recipe, tmp_path):
        claim_folder(tmp_path, recipe, pretrained_sha256="abc")
        claim_folder(tmp_path, recipe, pretrained_sha256="abc")
        with pytest.raises(auxzoo.UserError, match="holds a run of another file of pretrained weights; choose"):
            claim_folder(tmp_path, recipe, pretrained_sha256="def")
        claim_folder(tmp_path, recipe, overwrite=True, pretrained_sha256="def")
        assert read_json(tmp_path / "run.json")["pretrained_sha256"] == "def"

    def test_a_pulled_entry_is_no_run(self, recipe, copied_run):
        # It holds a recipe and metrics as a run does, but was not made by one.
        (copied_run / "run.json").unlink()
        before = self.content(copied_run)
        for overwrite in (True, False):
            with pytest.raises(auxzoo.UserError, match="is not empty and holds no run"):
                claim_folder(copied_run, recipe, overwrite)
        assert self.content(copied_run) == before

    def test_what_a_kill_left_half_written_is_removed(self, recipe, copied_run):
        (copied_run / "metrics.json").unlink()
        leftovers = [".run_state.0a1b2c3d.npz", ".recipe.0a1b2c3d.yaml", ".model.0a1b2c3d.weights.h5"]
        of_the_user = [".notes.txt", ".model.0a1b2c3d.h5", ".config.2024-1-1.json", ".recipe.0a1b2c3d.yaml.txt"]
        for name in (*leftovers, *of_the_user):
            (copied_run / name).write_text("half, or the user's")
        claim_folder(copied_run, recipe)
        assert not any((copied_run / name).exists() for name in leftovers)
        assert all((copied_run / name).exists() for name in of_the_user)

    def test_overwriting_waits_until_the_recipe_is_known_to_be_right(self, recipe_file, copied_run):
        before = self.content(copied_run)
        with pytest.raises(auxzoo.UserError, match="`data.validation_count` must be at most 47"):
            train(read_recipe(recipe_file, ["data.validation_count=48"]), copied_run, overwrite=True)
        assert self.content(copied_run) == before

    def test_without_a_folder_every_run_gets_the_next_number(self, recipe, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(run, "fit", interrupted)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                train(recipe)
        assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["tiny-001", "tiny-002"]
        assert read_recipe(tmp_path / "runs" / "tiny-002" / "recipe.yaml") == recipe


class TestNothingIsLeftBehind:
    """A run that cannot start leaves no folder: a corrected recipe would be refused there as another's."""

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("data.source=folder:nowhere", "`folder:` must be followed by an existing folder"),
            ("data.train_split=middle", "`split` must be a folder in"),
            ("data.validation_count=48", "`data.validation_count` must be at most 47.*Received: validation_count=48"),
            ("data.train_count=37", "`data.train_count` must be at most 36.*Received: train_count=37"),
            ("network.arguments.width=0.3", "`width` must be one of"),
            ("network.arguments.depth=3", "`network.arguments` must be arguments of ResNet18: .*depth"),
            ("network.arguments.num_classes=4", "`network.arguments` must be arguments of ResNet18: .*num_classes"),
            ("network.arguments.input_shape=[4, 4, 3]", "`input_shape` must be"),
            (
                "network={entry: nothing}",
                "`name` must be one of .*, or a folder with a config.json. Received: 'nothing'",
            ),
            ("auxiliary.structure=nowhere.json", "nowhere.json` does not exist"),
            ("auxiliary.structure=published", '`auxiliary.structure` may be "published" only where'),
            ("network.preprocessing_fit=pad", "`network.preprocessing_fit` may be set only with `network.entry`"),
            ("batch_size=37", "`batch_size` must be at most the number of training images, 36"),
        ],
    )
    def test_by_a_wrong_recipe(self, recipe_file, tmp_path, override, message):
        with pytest.raises(auxzoo.UserError, match=message):
            train(read_recipe(recipe_file, [override]), tmp_path / "run", verbose=0)
        assert list(tmp_path.iterdir()) == []

    def test_by_arguments_beside_an_entry(self, recipe_file, finished_runs, tmp_path):
        # The recipe in the file names an architecture with arguments.
        overrides = [f"network.entry={finished_runs['plain']}", "network.architecture=null"]
        with pytest.raises(auxzoo.UserError, match="`network.arguments` must be empty where `network.entry` is set"):
            train(read_recipe(recipe_file, overrides), tmp_path / "run", verbose=0)
        assert list(tmp_path.iterdir()) == []

    def test_by_a_recipe_that_cannot_be_written(self, recipe, tmp_path, monkeypatch):
        def fail(self, path):
            path.write_text("name: ti")
            raise OSError("no space left on device")

        monkeypatch.setattr(type(recipe), "save", fail)
        with pytest.raises(OSError, match="no space"):
            train(recipe, tmp_path / "run", verbose=0)
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [".lock"]
        # What is left does not stand in the way of the next try.
        monkeypatch.undo()
        assert claim_folder(tmp_path / "run", recipe).is_dir()

    def test_by_half_precision(self, recipe, tmp_path):
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            with pytest.raises(auxzoo.UserError, match="must not compute in half precision.*computes in bfloat16"):
                train(recipe, tmp_path / "run", verbose=0)
        finally:
            keras.config.set_dtype_policy("float32")
        assert list(tmp_path.iterdir()) == []

    def test_by_a_folder_of_one_class(self, recipe_file, pictures, tmp_path):
        folder = tmp_path / "folder"
        for split in ("train", "test"):
            shutil.copytree(pictures / split / "dark", folder / split / "dark")
        with pytest.raises(auxzoo.UserError, match="`data.source` must have pictures of 2 classes .*, with dark alone"):
            train(read_recipe(recipe_file, [f"data.source=folder:{folder}"]), tmp_path / "run", verbose=0)
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]

    def test_by_a_test_split_that_is_trained_on(self, recipe_file, pictures, tmp_path):
        undivided = [f"data.source=folder:{pictures / 'train'}", "data.train_split=all"]
        with pytest.raises(auxzoo.UserError, match="`data.train_split` and `data.test_split` must have no picture in"):
            train(read_recipe(recipe_file, undivided), tmp_path / "run", verbose=0)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("place", [1, 2])
    def test_by_images_of_other_classes_than_those_of_the_training(self, recipe, tmp_path, monkeypatch, place):
        sets = list(open_data(recipe))
        task = dataclasses.replace(sets[place].tasks[0], labels=("dark", "grey", "white"))
        sets[place] = dataclasses.replace(sets[place], tasks=(task,))
        monkeypatch.setattr(run, "open_data", lambda recipe: sets)
        named = ("training", "validation", "test")[place]
        with pytest.raises(auxzoo.UserError, match=f"`the {named} images` must .* is 'light' there. Received: 'white'"):
            train(recipe, tmp_path / "run", verbose=0)
        assert list(tmp_path.iterdir()) == []


class TestWhatIsTold:
    def test_a_fifth_is_held_out_where_no_number_is_given(self, recipe_file):
        train_images, validation_images, _ = open_data(read_recipe(recipe_file, ["data.validation_count=null"]))
        assert (train_images.size, validation_images.size) == (39, 9)

    @pytest.mark.parametrize(
        ("override", "remedy"),
        [
            ("data.validation_count=47", "give a lower `data.validation_count` than 47."),
            ("data.train_count=1", "give a higher `data.train_count` than 1."),
        ],
    )
    def test_classes_without_a_picture_to_train_on(self, recipe_file, caplog, override, remedy):
        train_images, _, _ = open_data(read_recipe(recipe_file, [override, "batch_size=1"]))
        (left,) = train_images.classes
        lost = ", ".join(name for place, name in enumerate(("dark", "grey", "light")) if place != left)
        assert f"No picture is left to train on of the classes {lost}: {remedy}" in caplog.text
        caplog.clear()
        open_data(read_recipe(recipe_file))
        assert caplog.text == ""

    def test_five_of_many_classes_are_named(self, caplog):
        images = open_images("sample", "test")
        run._warn_of_lost_classes(images, images.part([0], "one"), "more")
        lost = [name for place, name in enumerate(images.labels) if place != images.classes[0]]
        assert f"of the classes {', '.join(lost[:5])} and 4 more: give more." in caplog.text

    @pytest.mark.parametrize("most", [3, 2])
    def test_the_device_and_the_pictures_of_each_class(self, recipe, tmp_path, monkeypatch, most):
        monkeypatch.setattr(run, "fit", interrupted)
        monkeypatch.setattr(run, "_MOST_CLASSES_TOLD", most)
        lines = []
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "run", progress=lines.append)
        counts = np.bincount(open_data(recipe)[0].classes)
        assert lines[0] == device_line()
        dark, grey, light = counts
        expected = [f"Training pictures: dark {dark}, grey {grey}, light {light}"] if most == 3 else []
        assert lines[1:] == expected


@pytest.mark.parametrize(("largest", "expected"), [(250, 12), (7, 7)])
def test_batches_are_no_larger_when_it_is_measured_than_those_it_was_trained_with(
    recipe, tmp_path, monkeypatch, largest, expected
):
    sizes = []
    monkeypatch.setattr(run, "_LARGEST_EVALUATION_BATCH", largest)
    monkeypatch.setattr(run, "fit", lambda *arguments, **options: None)
    monkeypatch.setattr(run, "read_progress", lambda path: Progress({"compilation": "graph"}))
    monkeypatch.setattr(run, "evaluate", lambda *arguments, batch_size: sizes.append(batch_size))
    train(recipe, tmp_path / "run")
    assert sizes == [expected, expected]


def test_pretrained_weights_are_told_by_their_checksum(recipe_file, tmp_path, monkeypatch):
    trunk = tmp_path / "trunk.weights.h5"
    keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, include_top=False, weights=None).save_weights(trunk)
    arguments = f"{{input_shape: [16, 16, 3], alpha: 0.35, total_stride: 8, weights: {trunk}}}"
    overrides = [
        "network.architecture=MobileNetV2",
        f"network.arguments={arguments}",
        "auxiliary.structure=none",
    ]
    monkeypatch.setattr(run, "fit", lambda *arguments, **options: None)
    monkeypatch.setattr(run, "read_progress", lambda path: Progress({"compilation": "graph"}))
    monkeypatch.setattr(run, "evaluate", lambda *arguments, **options: None)
    folder = train(read_recipe(recipe_file, overrides), tmp_path / "run", verbose=0)
    assert read_json(folder / "metrics.json")["pretrained_sha256"] == sha256(trunk)


@pytest.fixture(scope="module")
def tuned(recipe_file, finished_runs, tmp_path_factory):
    """A run that starts from a finished one, so slowly that its weights stay where they were."""
    overrides = [
        f"network={{entry: {finished_runs['auxiliary']}, preprocessing_fit: resize}}",
        *("auxiliary.structure=published", "epochs=1", "seed=5"),
        *("optimization.learning_rate=1e-9", "optimization.ema_momentum=null"),
    ]
    return train(read_recipe(recipe_file, overrides), tmp_path_factory.mktemp("tuned") / "run", verbose=0)


class TestFineTuning:
    def test_starts_from_the_weights_of_the_entry(self, tuned, finished_runs):
        entry, compact = auxzoo.load(finished_runs["auxiliary"]), auxzoo.load(tuned)
        for old, new in zip(entry.layers, compact.layers, strict=True):
            assert old.name == new.name
            if isinstance(old, keras.layers.Conv2D):
                np.testing.assert_allclose(old.kernel.numpy(), new.kernel.numpy(), atol=1e-6)

    def test_keeps_its_head_where_the_classes_are_the_same(self, tuned, finished_runs):
        old, new = (auxzoo.load(folder).layers[-1].kernel.numpy() for folder in (finished_runs["auxiliary"], tuned))
        np.testing.assert_allclose(old, new, atol=1e-6)
        assert read_json(tuned / "metrics.json")["pretrained_sha256"] == sha256(
            finished_runs["auxiliary"] / "model.weights.h5"
        )

    @pytest.mark.parametrize("labels", [("light", "grey", "dark"), ("dark", "grey", "white")])
    def test_has_a_fresh_head_for_other_classes(self, recipe_file, finished_runs, labels):
        entry = finished_runs["plain"]
        recipe = read_recipe(recipe_file, [f"network={{entry: {entry}, preprocessing_fit: pad}}"])
        compact = build_compact(recipe, [Task("classification", "classification", labels)])
        old, new = (network.layers[-1].kernel.numpy() for network in (auxzoo.load(entry), compact))
        assert old.shape == new.shape
        assert np.abs(old - new).max() > 0.01
        assert auxzoo.describe(compact).tasks[0].labels == labels
        kept = build_compact(recipe, auxzoo.describe(auxzoo.load(entry)).tasks)
        np.testing.assert_array_equal(old, kept.layers[-1].kernel.numpy())
        assert auxzoo.describe(kept).preprocessing.fit == "pad"

    def test_attaches_the_auxiliary_that_the_entry_was_trained_with(self, tuned, finished_runs):
        structures = [(folder / "structure.json").read_text() for folder in (tuned, finished_runs["auxiliary"])]
        assert structures[0] == structures[1]
        assert read_json(tuned / "metrics.json")["auxiliary"] is True

    def test_an_entry_without_an_auxiliary_is_told(self, recipe_file, finished_runs, tmp_path):
        overrides = [f"network={{entry: {finished_runs['plain']}}}", "auxiliary.structure=published"]
        with pytest.raises(auxzoo.UserError, match=r"structure.json` does not exist"):
            train(read_recipe(recipe_file, overrides), tmp_path / "run", verbose=0)
        assert list(tmp_path.iterdir()) == []


def test_a_structure_in_a_file_is_attached_and_kept(recipe_file, finished_runs, tmp_path, monkeypatch):
    compact = auxzoo.load(finished_runs["plain"])
    structure = auxzoo.Structure.default(compact, taps=["stage2", "stage4"], width_multiplier=2)
    structure.save(tmp_path / "mine.json")

    def stop(network, *arguments, **options):
        assert set(network.output) == {"compact", "auxiliary_stage2", "auxiliary_stage4"}
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "fit", stop)
    with pytest.raises(KeyboardInterrupt):
        train(read_recipe(recipe_file, [f"auxiliary.structure={tmp_path / 'mine.json'}"]), tmp_path / "run")
    assert auxzoo.Structure.read(tmp_path / "run" / "structure.json") == structure


def test_a_run_goes_on_with_the_structure_it_began_with_or_not_at_all(
    recipe_file, finished_runs, tmp_path, monkeypatch
):
    compact = auxzoo.load(finished_runs["plain"])
    first, second = (auxzoo.Structure.default(compact, taps=["stage2", tap]) for tap in ("stage3", "stage4"))
    first.save(tmp_path / "mine.json")
    monkeypatch.setattr(run, "fit", interrupted)
    recipe = read_recipe(recipe_file, [f"auxiliary.structure={tmp_path / 'mine.json'}"])
    for _ in range(2):  # begun, and continued
        with pytest.raises(KeyboardInterrupt):
            train(recipe, tmp_path / "run")
    second.save(tmp_path / "mine.json")
    with pytest.raises(auxzoo.UserError, match="run` holds a run of another structure of the auxiliary; choose"):
        train(recipe, tmp_path / "run")
    assert auxzoo.Structure.read(tmp_path / "run" / "structure.json") == first
    moved = tmp_path / "moved.json"
    first.save(moved)
    state = tmp_path / "run" / "run_state.npz"
    state.touch()
    with pytest.raises(KeyboardInterrupt):  # the same one, from another file
        train(read_recipe(recipe_file, [f"auxiliary.structure={moved}"]), tmp_path / "run")
    assert state.exists()
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "run", overwrite=True)
    assert auxzoo.Structure.read(tmp_path / "run" / "structure.json") == second
    assert not state.exists()


def test_the_name_of_a_file_is_taken_for_the_recipe_in_it(recipe_file, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "fit", interrupted)
    with pytest.raises(auxzoo.UserError, match="`recipe` must be a YAML file"):
        auxzoo.train(str(tmp_path / "nowhere.yaml"))
    with pytest.raises(KeyboardInterrupt):
        auxzoo.train(str(recipe_file), tmp_path / "run")
    assert read_recipe(tmp_path / "run" / "recipe.yaml") == read_recipe(recipe_file)


class TestCompute:
    @pytest.fixture
    def threads(self, monkeypatch):
        """What was set, instead of setting it: TensorFlow has started here."""
        counts = {}
        for kind in ("intra", "inter"):
            setter = f"set_{kind}_op_parallelism_threads"
            monkeypatch.setattr(tf.config.threading, setter, lambda count, kind=kind: counts.update({kind: count}))
        return counts

    def test_threads_are_those_of_the_recipe(self, threads):
        apply_compute(ComputeSettings())
        assert threads == {"intra": 0, "inter": 1}, "all cores are TensorFlow's own choice"
        apply_compute(ComputeSettings(threads=3))
        assert threads == {"intra": 3, "inter": 1}

    def test_a_gpu_is_told_and_takes_no_more_memory_than_it_needs(self, threads, monkeypatch):
        """There is none here: what TensorFlow tells of one stands in its place."""
        assert describe_compute()["gpus"] == []
        assert device_line().startswith("Training on ")
        assert "GPU" not in device_line()
        gpus = [tf.config.PhysicalDevice(f"/physical_device:GPU:{number}", "GPU") for number in range(2)]
        grown = []
        monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus if kind == "GPU" else [])
        monkeypatch.setattr(
            tf.config.experimental, "get_device_details", lambda gpu: {"device_name": f"Fast {gpu.name}"}
        )
        monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda *arguments: grown.append(arguments))
        apply_compute(ComputeSettings())
        assert grown == [(gpu, True) for gpu in gpus]
        assert describe_compute()["gpus"] == [f"Fast {gpu.name}" for gpu in gpus]
        assert device_line() == f"Training on a GPU, Fast {gpus[0].name}"

    @pytest.mark.slow  # a published network
    def test_gradients_are_summed_in_one_order(self):
        # Three reach what a batch-norm reads. On two cores every third step was another without `set_threads`.
        network = auxzoo.load("mobilenet_v2_050_cifar10")
        images = np.random.default_rng(0).normal(size=(128, 32, 32, 3)).astype("float32")

        @tf.function
        def gradients():
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(network(images, training=True) ** 2)
            return tape.gradient(loss, network.trainable_variables)

        weights = network.get_weights()  # with the moving averages
        first = gradients()
        for _ in range(20):
            network.set_weights(weights)
            assert all(np.array_equal(*pair) for pair in zip(first, gradients(), strict=True))

    def test_what_comes_too_late_is_told(self, monkeypatch, caplog):
        # Threads after TensorFlow's first operation, oneDNN after its import: the figures may differ.
        monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
        apply_compute(ComputeSettings(onednn=True))
        assert "TF_ENABLE_ONEDNN_OPTS=1, which must be set before TensorFlow is imported" in caplog.text
        caplog.clear()
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
        apply_compute(ComputeSettings(onednn=True))
        assert caplog.text == ""

    @pytest.mark.slow  # a process that compiles
    def test_measuring_times_what_the_recipe_leaves_open(self, recipe_file, tmp_path):
        image = keras.Input((16, 16, 3))
        features = keras.layers.Conv2D(4, 3, activation="relu")(image)  # one layer: XLA takes its time
        network = finish(image, features, {"stage1": features}, 3, (), "resize", "small")
        zoo.save_entry(network, tmp_path / "small", name="small")
        overrides = [f"network={{entry: {tmp_path / 'small'}}}", "compute.compilation=auto", "compute.onednn=off"]
        settings = read_settings(recipe_file, overrides)
        measured = measure_compute(settings)
        assert set(measured["images_per_second"]) == {"graph, oneDNN off", "xla, oneDNN off"}
        assert measured["onednn"] is False
        best = max(measured["images_per_second"], key=measured["images_per_second"].get)
        assert best == f"{measured['compilation']}, oneDNN off"
