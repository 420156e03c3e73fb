"""Studies: what their files may say, that every run is done once and survives a kill, and what the table says."""

import contextlib
import dataclasses
import io
import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import filelock
import numpy as np
import pytest
import tensorflow as tf
import yaml
from hypothesis import given
from hypothesis import strategies as st

import auxzoo
from auxzoo.child_process import ChildFailed, run_module
from auxzoo.command_line import main
from auxzoo.files import read_json, write_json
from auxzoo.metrics import paired_interval
from auxzoo.training import read_recipe, study_runner
from auxzoo.training.run import build_compact
from auxzoo.training.run_folder import claim_folder
from auxzoo.training.study import Study, StudySettings, make_record
from auxzoo.training.study_report import (
    as_json,
    caption,
    comparison_lines,
    header,
    improvement_lines,
    improvements,
    plot,
    summarize,
    table_rows,
    write_markdown,
)
from auxzoo.training.study_runner import StudyFailed, run_study

WIDTH = 100  # columns of a table in a pipe
ARMS = {
    "plain": {"auxiliary.structure": "none"},
    "plain_long": {"auxiliary.structure": "none", "epochs": 4},
    "hierarchical": {"auxiliary.structure": "structures/default.json"},
}
RUNS = ["plain-seed0", "plain_long-seed0", "hierarchical-seed0"]  # of one seed, in their order
# Those of which runs are really made.
REAL = {"arms": {arm: ARMS[arm] for arm in ("plain", "hierarchical")}, "baselines": ["plain"], "keep_networks": True}


@pytest.fixture(scope="module", autouse=True)
def networks_built_once():
    """Lets studies that are read here share their networks, which are only looked at."""
    built = {}

    def build(recipe):
        key = repr((recipe.network, recipe.data.targets, recipe.name))
        if key not in built:
            built[key] = build_compact(recipe)
        return built[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("auxzoo.training.study.build_compact", build)
        yield


@pytest.fixture
def write_study(recipe_file, finished_runs, tmp_path):
    """A function that writes a study of the tiny recipe, with its recipe and structure beside it."""
    return lambda folder=tmp_path / "study", **changes: write_files(folder, recipe_file, finished_runs, changes)


def write_files(folder, recipe_file, finished_runs, changes):
    """Writes a study's file, the recipe and the structure that it names; returns the study's file."""
    (folder / "structures").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(recipe_file, folder / "tiny.yaml")
    shutil.copyfile(finished_runs["auxiliary"] / "structure.json", folder / "structures" / "default.json")
    settings = {"name": "tiny_study", "recipe": "tiny.yaml", "seeds": [0], "baselines": ["plain", "plain_long"]}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(settings | {"arms": ARMS} | changes, sort_keys=False))
    return path


def study_command(*arguments):
    """Runs `auxzoo study ARGUMENTS` in this process; returns its exit code, output and errors."""
    output, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(error):
        code = main(["study", *map(str, arguments)])
    return types.SimpleNamespace(code=code, output=output.getvalue(), error=error.getvalue())


def records_in(folder):
    return {path.stem: read_json(path) for path in sorted((folder / "records").glob("*.json"))}


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def made_up_metrics(accuracy, test=True, **heads):
    """Returns what a run would have measured, as far as studies look at it."""
    measured = {"images": 24, "accuracy": accuracy, **heads}
    return {
        "images": {"train": 38, "validation": 12, "test": 24 if test else 0},
        "validation": measured | {"images": 12},
        "test": measured if test else None,
        "training_seconds": 60.0,
        "history": {"loss": [1.123456789, 0.5], "accuracy": [0.25, 0.5]},
    }


class Children:
    """Stands in for the child processes: claims the run's folder as they do, and trains nothing.

    Attributes:
        started: names of the runs that were started, `"costs"` for the timing of steps, in order.
        failing: names of those that shall fail.
        killed_after: name of the run after which everything shall be as if the study were killed.
        environments: what was set for the timing of steps.
        most: largest number that ran side by side.
    """

    def __init__(self):
        self.started, self.failing, self.killed_after = [], set(), None
        self.environments, self.running, self.most = [], 0, 0
        self.lock = threading.Lock()

    def run_module(self, module, folder, environment=None, arguments=None):
        name = "costs" if module == "auxzoo.training.study_runner" else folder.name
        with self.lock:
            self.started.append(name)
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            if name == "costs":
                self.environments.append(environment)
                jobs = read_json(folder / "jobs.json")
                write_json(folder / "seconds.json", [0.1 * (place + 1) for place in range(len(jobs))])
            else:
                self.train(name, *arguments)
        finally:
            with self.lock:
                self.running -= 1

    def train(self, name, command, recipe_path, to, run_folder, *options):
        assert (command, to) == ("train", "--to")
        time.sleep(0.05)  # time for others to start beside it
        recipe = read_recipe(recipe_path)
        try:
            claim_folder(run_folder, recipe)
        except auxzoo.UserError as error:
            raise ChildFailed(f"The child process failed. The end of its log:\n{error}") from None
        if name in self.failing:
            raise ChildFailed("The child process failed. The end of its log:\nThe loss is NaN")
        write_json(Path(run_folder) / "metrics.json", made_up_metrics(recipe.epochs / 100 + recipe.seed / 1000))
        if name == self.killed_after:
            raise KeyboardInterrupt

    def take(self):
        """Returns the names of those that were started since the last call."""
        started, self.started = self.started, []
        return started


@pytest.fixture
def children(monkeypatch):
    children = Children()
    monkeypatch.setattr(study_runner, "run_module", children.run_module)
    return children


@pytest.fixture
def folder(tmp_path):
    """Where a study's results go."""
    return tmp_path / "found"


@pytest.fixture
def lines():
    """What was told of a study's progress."""
    return []


@pytest.fixture
def carry_out(folder, lines):
    """A function that runs the study of a file into `folder`, and returns the records and costs."""

    def carry_out(path, overrides=(), **options):
        return run_study(Study(path, overrides), folder, progress=lines.append, **options)

    return carry_out


class TestFile:
    def test_the_runs_go_seed_by_seed(self, write_study):
        # So that pairs are complete early.
        study = Study(write_study(seeds=[3, 0]))
        assert [run.name for run in study.runs] == [
            *("plain-seed3", "plain_long-seed3", "hierarchical-seed3"),
            *("plain-seed0", "plain_long-seed0", "hierarchical-seed0"),
        ]
        assert [run.recipe.seed for run in study.runs] == [3, 3, 3, 0, 0, 0]
        assert [run.recipe.epochs for run in study.runs] == [3, 4, 3, 3, 4, 3]

    def test_structures_are_relative_to_the_file(self, write_study, finished_runs, tmp_path, monkeypatch):
        write_study()
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        *plain, hierarchical = Study("../study/study.yaml").runs
        assert [run.structure for run in plain] == [None, None]
        assert hierarchical.structure == auxzoo.Structure.read(finished_runs["auxiliary"] / "structure.json")
        # The record says it as the study does; the recipe that is run here has a path that holds here.
        assert hierarchical.settings["auxiliary"]["structure"] == "structures/default.json"
        structure = Path(hierarchical.recipe.auxiliary.structure)
        assert structure == (tmp_path / "study" / "structures" / "default.json").resolve()

    def test_the_default_structure_needs_no_file(self, write_study, finished_runs):
        (run,) = Study(write_study(arms={"default": {}}, baselines=["default"])).runs
        assert run.structure == auxzoo.Structure.read(finished_runs["auxiliary"] / "structure.json")

    def test_overrides_hold_for_every_arm_unless_it_says_otherwise(self, write_study):
        study = Study(write_study(), ["epochs=7", "data.data_dir=sets"])
        assert [run.recipe.epochs for run in study.runs] == [7, 4, 7]
        assert {run.recipe.data.data_dir for run in study.runs} == {"sets"}

    def test_arms_that_share_a_part_of_the_file_do_not_share_changes(self, write_study):
        path = write_study(arms={}, baselines=["first"])
        path.write_text(
            path.read_text().replace("arms: {}", "") + "arms:\n"
            "  first: {auxiliary: &shared {structure: structures/default.json}}\n"
            "  second: {auxiliary: *shared, auxiliary.supervision: deep, epochs: 4}\n"
            "  third: {auxiliary: *shared}\n"
        )
        first, second, third = Study(path).runs
        for run in (first, second, third):
            assert run.settings["auxiliary"]["structure"] == "structures/default.json"
        assert [run.settings["auxiliary"]["supervision"] for run in (first, second, third)] == [None, "deep", None]

    def test_a_packaged_recipe_is_found_by_its_name(self, write_study):
        path = write_study(recipe="mobilenet_v2_050_cifar10", arms={"plain": ARMS["plain"]}, baselines=["plain"])
        assert Study(path).runs[0].recipe.network.architecture == "MobileNetV2"

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"seed": [1]}, ["`seed`: no such setting"]),
            ({"name": "Tiny study"}, ["`name`", "'Tiny study'"]),
            ({"name": None}, ["`name`"]),
            ({"seeds": []}, ["`seeds`"]),
            ({"seeds": [0, 1, 0]}, ["`seeds`", "must differ from each other", "[0, 1, 0]"]),
            ({"seeds": ["first"]}, ["`seeds.0`", "'first'"]),
            ({"seeds": [-1]}, ["Arm 'plain'", "`seed`", "-1"]),
            ({"arms": {}}, ["`arms`"]),
            ({"arms": {"plain/2": {}}, "baselines": ["plain/2"]}, ["`arms`", "letters, digits and `_`", "'plain/2'"]),
            ({"arms": {"..": {}}, "baselines": [".."]}, ["`arms`", "'..'"]),
            ({"arms": {"plain": None}}, ["`arms.plain`"]),
            ({"baselines": ["plain", "plane"]}, ["`baselines`", "plain, plain_long, hierarchical", "'plane'"]),
            ({"baselines": []}, ["`baselines`"]),
            ({"designs_tried": -1}, ["`designs_tried`", "-1"]),
            ({"recipe": "nowhere.yaml"}, ["`recipe` must be a YAML file", "nowhere.yaml"]),
            ({"arms": ARMS | {"typo": {"objective.wait": 1}}}, ["Arm 'typo'", "`objective.wait`: no such setting"]),
            ({"arms": ARMS | {"typo": {"epochs": "many"}}}, ["Arm 'typo'", "`epochs`", "'many'"]),
            ({"arms": ARMS | {"typo": {"epochs.many": 1}}}, ["epochs.many"]),
            ({"arms": ARMS | {"typo": {"network.arguments.width": 0.3}}}, ["`width` must be one of", "0.3"]),
            (
                {"arms": ARMS | {"typo": {"auxiliary.structure": "nowhere.json"}}},
                ["study/nowhere.json` does not exist"],
            ),
            ({"arms": ARMS | {"typo": {"auxiliary.structure": "foreign.json"}}}, ["study/foreign.json`", "must have"]),
            pytest.param(
                {"arms": ARMS | {"other": {"auxiliary.structure": "other_network.json"}}},
                ["other", "'another_layer'"],
            ),
            pytest.param({"arms": ARMS | {"lucky": {"seed": 7}}}, ["'lucky'", "`seed`"]),
            ({"comparisons": [{"arm": "plain", "against": ["nothing"]}]}, ["`comparisons`", "plain_long", "'nothing'"]),
            ({"comparisons": [{"arm": "plain", "against": []}]}, ["comparisons.0.against"]),
            pytest.param(
                {"arms": ARMS | {"typo": {"auxiliary": "none"}}},
                ["Arm 'typo'", "`auxiliary`", "'none'"],
            ),
        ],
        ids=lambda value: str(list(value)[-1]) if isinstance(value, dict) else None,
    )
    def test_what_is_wrong_in_it_is_named(self, write_study, tmp_path, changes, words):
        path = write_study(**changes)
        (path.parent / "foreign.json").write_text("{}")
        structure = read_json(path.parent / "structures" / "default.json")
        write_json(
            path.parent / "other_network.json", structure | {"taps": structure["taps"] | {"stage4": "another_layer"}}
        )
        with pytest.raises(auxzoo.UserError) as failure:
            Study(path)
        for word in words:
            assert word in str(failure.value)

    @pytest.mark.parametrize("text", ["name: [", "a: 2020-99-99", "\x00"], ids=["bracket", "date", "control"])
    def test_what_is_no_yaml_is_named(self, tmp_path, text):
        (tmp_path / "broken.yaml").write_text(text)
        with pytest.raises(auxzoo.UserError, match="broken.yaml` cannot be read as YAML"):
            Study(tmp_path / "broken.yaml")

    @pytest.mark.parametrize("text", ["", "- name", "tiny"])
    def test_what_holds_no_settings_is_named(self, tmp_path, text):
        (tmp_path / "other.yaml").write_text(text)
        with pytest.raises(auxzoo.UserError, match="The study `.*other.yaml` is not right"):
            Study(tmp_path / "other.yaml")

    def test_a_missing_one_is_named(self, tmp_path):
        with pytest.raises(auxzoo.UserError, match="`study` must be a YAML file. Received: .*nowhere.yaml"):
            Study(tmp_path / "nowhere.yaml")
        with pytest.raises(auxzoo.UserError, match="cannot be read"):
            Study(tmp_path)

    def test_a_recipe_of_the_current_folder_is_not_taken_for_that_of_the_study(
        self, write_study, tmp_path, monkeypatch
    ):
        path = write_study()
        (path.parent / "tiny.yaml").rename(tmp_path / "tiny.yaml")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(auxzoo.UserError, match="tiny.yaml"):
            Study(path)


class TestGoingOn:
    """What is run and what is not, with children that train nothing."""

    def test_every_run_is_started_once_after_the_costs(self, write_study, carry_out, children, folder, lines):
        records, costs = carry_out(write_study(seeds=[0, 1]))
        names = [*RUNS, *(name.replace("seed0", "seed1") for name in RUNS)]
        first, *others = children.take()
        assert first == "costs", "steps are timed with nothing beside them"
        assert sorted(others) == sorted(names)
        assert [f"{record['arm']}-seed{record['seed']}" for record in records] == names
        assert records_in(folder).keys() == set(names)
        assert list(costs) == list(ARMS)
        assert not list((folder / "runs").iterdir())
        for name in names:
            assert f"{name} starts" in lines
            assert len([line for line in lines if line.startswith(f"{name} ends: ")]) == 1

    def test_arms_that_differ_in_the_schedule_alone_share_a_step(self, write_study, carry_out, children):
        _, costs = carry_out(write_study())
        assert costs == {"plain": 0.1, "plain_long": 0.1, "hierarchical": 0.2}

    @pytest.mark.parametrize("processes", [1, 2])
    def test_so_many_run_side_by_side(self, write_study, carry_out, children, processes):
        carry_out(write_study(seeds=[0, 1]), processes=processes)
        assert children.most == processes

    def test_less_than_one_process_is_refused(self, write_study, carry_out, children, folder):
        with pytest.raises(auxzoo.UserError, match="`processes` must be 1 or more. Received: processes=0"):
            carry_out(write_study(), processes=0)
        assert not folder.exists()

    @pytest.mark.parametrize(("onednn", "expected"), [(True, "1"), (False, "0"), ("auto", None), (None, None)])
    def test_steps_are_timed_with_onednn_as_the_recipe_says(self, write_study, carry_out, children, onednn, expected):
        carry_out(write_study(arms={"plain": ARMS["plain"] | {"compute.onednn": onednn}}, baselines=["plain"]))
        assert [environment.get("TF_ENABLE_ONEDNN_OPTS") for environment in children.environments] == [expected]

    def test_arms_with_and_without_onednn_are_refused(self, write_study, carry_out, children):
        arms = {"plain": ARMS["plain"], "plain_long": {**ARMS["plain_long"], "compute.onednn": False}}
        with pytest.raises(auxzoo.UserError, match="`compute.onednn` must be the same for every arm"):
            carry_out(write_study(arms=arms))
        assert children.take() == []

    def test_arms_with_several_numbers_of_threads_are_refused(self, write_study, carry_out, children):
        arms = {"plain": ARMS["plain"], "plain_long": {**ARMS["plain_long"], "compute.threads": 7}}
        with pytest.raises(auxzoo.UserError, match="`compute.threads` must be the same for every arm .*Received: .*7"):
            carry_out(write_study(arms=arms))
        assert children.take() == []

    def test_the_same_call_starts_nothing(self, write_study, carry_out, children, folder):
        path = write_study()
        first = carry_out(path)
        before, _ = files_in(folder), children.take()
        again = carry_out(path)
        assert children.take() == []
        assert files_in(folder) == before
        assert again == first

    def test_arms_of_one_step_share_its_time(self, write_study, carry_out, children):
        arms = ARMS | {
            "plain_decay": {**ARMS["plain"], "optimization.weight_decay": 0.02, "validation_every": 2},
            "plain_fewer": {**ARMS["plain"], "data.train_count": 24},
            "plain_no_decay": {**ARMS["plain"], "optimization.weight_decay": 0},
        }
        _, costs = carry_out(write_study(arms=arms))
        assert costs["plain"] == costs["plain_decay"] == costs["plain_fewer"] == 0.1
        assert costs["plain_no_decay"] == pytest.approx(0.3)  # nothing is multiplied then

    def test_two_at_once_are_refused(self, write_study, carry_out, children, folder):
        folder.mkdir()
        in_use = pytest.raises(auxzoo.UserError, match="found` is in use by another process")
        with filelock.FileLock(folder / ".lock"), in_use:
            carry_out(write_study())
        assert children.take() == []

    def test_a_lost_record_is_made_again_and_no_other(self, write_study, carry_out, children, folder):
        path = write_study()
        carry_out(path)
        before, _ = files_in(folder), children.take()
        (folder / "records" / "plain_long-seed0.json").unlink()
        carry_out(path)
        assert children.take() == ["plain_long-seed0"]
        assert files_in(folder) == before

    def test_another_arm_is_run_alone_and_all_are_timed(self, write_study, carry_out, children):
        carry_out(write_study())
        children.take()
        records, costs = carry_out(write_study(arms=ARMS | {"large_batch": {"batch_size": 36, **ARMS["plain"]}}))
        assert children.take() == ["costs", "large_batch-seed0"]
        assert [record["arm"] for record in records] == [*ARMS, "large_batch"]
        assert costs == pytest.approx({"plain": 0.1, "plain_long": 0.1, "hierarchical": 0.2, "large_batch": 0.3})

    def test_another_seed_is_run_alone(self, write_study, carry_out, children):
        carry_out(write_study())
        children.take()
        carry_out(write_study(seeds=[0, 5]))
        assert sorted(children.take()) == ["hierarchical-seed5", "plain-seed5", "plain_long-seed5"]

    def test_an_arm_that_is_taken_out_is_in_no_table(self, write_study, carry_out, children):
        carry_out(write_study())
        children.take()
        arms = {name: ARMS[name] for name in ("plain", "hierarchical")}
        records, costs = carry_out(write_study(arms=arms, baselines=["plain"]))
        assert children.take() == ["costs"]
        assert ([record["arm"] for record in records], list(costs)) == (list(arms), list(arms))

    def test_the_data_may_lie_elsewhere(self, write_study, carry_out, children):
        carry_out(write_study(), ["data.data_dir=here"])
        children.take()
        carry_out(write_study(), ["data.data_dir=there", "data.download=true"])
        assert children.take() == []

    def test_a_run_that_was_cut_off_goes_on_wherever_the_data_lie(self, write_study, carry_out, children, folder):
        path = write_study(arms={"hierarchical": ARMS["hierarchical"]}, baselines=["hierarchical"])
        children.killed_after = "hierarchical-seed0"
        with pytest.raises(KeyboardInterrupt):
            carry_out(path, ["data.data_dir=here", "data.download=true"])
        run_folder = folder / "runs" / "hierarchical-seed0" / "run"
        (run_folder / "metrics.json").unlink()  # killed a little sooner
        (run_folder / "run_state.npz").write_text("half of it")
        structure = path.parent / "structures" / "default.json"
        write_json(structure, read_json(structure) | {"provenance": {"made_by": "hand"}})
        children.take()
        with pytest.raises(KeyboardInterrupt):
            carry_out(path, ["data.data_dir=there"])
        assert children.take() == ["hierarchical-seed0"]
        assert (run_folder / "run_state.npz").read_text() == "half of it"
        assert read_recipe(run_folder / "recipe.yaml").data.data_dir == "there"

    def test_numbers_and_names_reach_a_run_as_they_are(self, write_study, carry_out, children, folder):
        targets = {
            "surface": {"kind": "segmentation", "labels": ["🐈", "2024"]},
            "height": {"kind": "regression", "factor": 1e-5},
        }
        children.killed_after = "plain-seed0"
        with pytest.raises(KeyboardInterrupt):
            carry_out(
                write_study(metrics=["surface_mean_iou"]),
                [f"data.targets={yaml.safe_dump(targets, default_flow_style=True)}"],
            )
        assert read_recipe(folder / "runs" / "plain-seed0" / "recipe.yaml").data.targets == targets

    def test_what_a_kill_left_beside_a_record_is_removed(self, write_study, carry_out, children, folder):
        path = write_study()
        carry_out(path)
        left = folder / "runs" / "plain-seed0"
        left.mkdir()
        (left / "job.json").write_text("{}")
        carry_out(path)
        assert not left.exists()

    def test_how_a_structure_came_to_be_does_not_matter(self, write_study, carry_out, children):
        path = write_study()
        carry_out(path)
        children.take()
        structure = path.parent / "structures" / "default.json"
        write_json(structure, read_json(structure) | {"provenance": {"made_by": "hand"}})
        carry_out(path)
        assert children.take() == []

    def test_of_a_search_the_record_keeps_what_it_cost(self, write_study):
        path = write_study()
        file = path.parent / "structures" / "default.json"
        cost = {"steps": 1234, "seconds": 98.5}
        provenance = {"made_by": "auxzoo search", "cost": cost, "found": {"gate_history": [0.5] * 99}}
        write_json(file, read_json(file) | {"provenance": provenance})
        run = next(run for run in Study(path).runs if run.arm == "hierarchical")
        record = make_record(run, {"history": {}})
        assert record["structure"]["provenance"] == {"made_by": "auxzoo search", "cost": cost}

    def test_a_setting_that_recipes_have_got_since_makes_no_other_record(
        self, write_study, carry_out, children, folder
    ):
        carry_out(write_study())
        children.take()
        file = folder / "records" / "plain-seed0.json"
        record = read_json(file)
        del record["settings"]["auxiliary"]["supervision"], record["settings"]["objective"]["label_smoothing"]
        write_json(file, record)
        costs = read_json(folder / "costs.json")
        for cost in costs["arms"].values():
            del cost["job"]["recipe"]["objective"]["label_smoothing"]
        write_json(folder / "costs.json", costs)
        carry_out(write_study())
        assert children.take() == []

    def test_the_record_of_other_settings_is_refused(self, write_study, carry_out, children, folder):
        carry_out(write_study())
        before, _ = files_in(folder), children.take()
        arms = ARMS | {"plain": ARMS["plain"] | {"optimization.learning_rate": 0.01}}
        with pytest.raises(auxzoo.UserError) as failure:
            carry_out(write_study(arms=arms))
        for word in (
            "plain-seed0.json`",
            "other settings than arm 'plain'",
            "`optimization.learning_rate`",
            "0.05",
            "0.01",
        ):
            assert word in str(failure.value)
        assert children.take() == []
        assert files_in(folder) == before

    def test_the_record_of_another_structure_is_refused(self, write_study, carry_out, children, folder):
        path = write_study()
        carry_out(path)
        before, _ = files_in(folder), children.take()
        structure = read_json(path.parent / "structures" / "default.json")
        structure["supervision"] = "both"
        structure["provenance"] = {"made_by": "hand", "history": [0.5]}  # is not what differs
        write_json(path.parent / "structures" / "default.json", structure)
        message = "hierarchical-seed0.json` is the record of other structure than arm .*`supervision` was .*'both'"
        with pytest.raises(auxzoo.UserError, match=message):
            carry_out(path)
        assert children.take() == []
        assert files_in(folder) == before

    @pytest.mark.parametrize("text", ["[]", "{}", "{"])
    def test_a_record_that_is_none_is_refused(self, write_study, carry_out, children, folder, text):
        (folder / "records").mkdir(parents=True)
        (folder / "records" / "plain-seed0.json").write_text(text)
        with pytest.raises(auxzoo.UserError, match="plain-seed0.json`"):
            carry_out(write_study())
        assert children.take() == []

    def test_what_is_no_run_s_fault_is_told_at_once(self, write_study, carry_out, children, lines, monkeypatch):
        def fail(*arguments):
            raise OSError("the disk is full")

        monkeypatch.setattr(study_runner, "make_record", fail)
        with pytest.raises(OSError, match="the disk is full"):
            carry_out(write_study())
        assert any("failed: the disk is full; what still runs is waited for" in line for line in lines)

    def test_all_others_are_kept_if_one_fails(self, write_study, carry_out, children, folder, lines):
        path = write_study(arms={name: ARMS[name] for name in ("plain", "plain_long")}, seeds=[0, 1])
        children.failing = {"plain-seed0"}
        with pytest.raises(StudyFailed) as failure:
            carry_out(path)
        for word in ("1 runs failed", "plain-seed0: The child process failed", "The loss is NaN"):
            assert word in str(failure.value)
        assert "plain-seed0 failed" in lines
        assert records_in(folder).keys() == {"plain-seed1", "plain_long-seed0", "plain_long-seed1"}
        children.take()
        children.failing = set()
        carry_out(path)
        assert children.take() == ["plain-seed0"]

    def test_what_was_measured_just_before_a_kill_is_kept(self, write_study, carry_out, children, folder):
        path = write_study(arms={"plain": ARMS["plain"]}, baselines=["plain"])
        children.killed_after = "plain-seed0"
        with pytest.raises(KeyboardInterrupt):
            carry_out(path)
        assert not records_in(folder)
        children.take()
        (record,), _ = carry_out(path)
        assert children.take() == []
        assert record["metrics"]["test"]["accuracy"] == 0.03

    def test_what_was_measured_with_other_settings_is_not_taken(self, write_study, carry_out, children, folder):
        # Killed between the end of a run and its record; then the arm is changed.
        children.killed_after = "plain-seed0"
        with pytest.raises(KeyboardInterrupt):
            carry_out(write_study(arms={"plain": ARMS["plain"]}, baselines=["plain"]))
        children.killed_after = None
        (record,), _ = carry_out(write_study(arms={"plain": ARMS["plain_long"]}, baselines=["plain"]))
        assert record["settings"]["epochs"] == 4
        assert record["metrics"]["test"]["accuracy"] == 0.04

    @pytest.mark.parametrize(
        ("arm", "overrides"),
        [({"optimization.learning_rate": 0.01}, []), ({}, ["data.data_dir=there"])],
        ids=["another learning rate", "another folder of data"],
    )
    def test_an_arm_that_failed_can_be_corrected(self, write_study, carry_out, children, arm, overrides):
        children.failing = {"plain-seed0"}
        with pytest.raises(StudyFailed):
            carry_out(write_study(arms={"plain": ARMS["plain"]}, baselines=["plain"]))
        children.failing = set()
        records, _ = carry_out(write_study(arms={"plain": ARMS["plain"] | arm}, baselines=["plain"]), overrides)
        assert len(records) == 1

    def test_a_run_whose_measures_cannot_be_read_is_not_told_as_running(
        self, write_study, carry_out, children, monkeypatch
    ):
        def break_measures(name, command, recipe_path, to, run_folder, *options):
            (Path(run_folder)).mkdir(parents=True)
            (Path(run_folder) / "metrics.json").write_text("{")

        monkeypatch.setattr(children, "train", break_measures)
        stopped, stop = [], study_runner._Watch.stop
        monkeypatch.setattr(
            study_runner._Watch, "stop", lambda watch, run: (stopped.append(run.name), stop(watch, run))
        )
        with pytest.raises(StudyFailed, match="metrics.json"):
            carry_out(write_study(arms={"plain": ARMS["plain"]}, baselines=["plain"]))
        assert stopped == ["plain-seed0"]


class TestProgress:
    @pytest.fixture
    def watch(self, write_study, finished_runs, tmp_path, lines):
        """A watch over two runs, of which the first has done all its epochs since and not yet ended."""
        path = write_study(arms={"plain": ARMS["plain"]}, baselines=["plain"], seeds=[0, 1])
        runs = Study(path).runs
        watch = study_runner._Watch(tmp_path, runs, {"plain": 0.1}, lines.append)
        work = tmp_path / "runs" / runs[0].name / "run"
        work.mkdir(parents=True)
        shutil.copyfile(finished_runs["plain"] / "run_state.npz", work / "run_state.npz")
        watch.start(runs[0])
        lines.clear()
        return watch

    def test_is_told_once_a_minute(self, watch, lines):
        watch.look()
        assert lines == []
        watch.told, watch.started = watch.told - 60, watch.started - 60
        watch.look()
        watch.look()
        assert lines == ["plain-seed0 3/3; about 1 minutes left"]  # half of the work took a minute

    def test_what_was_done_before_a_kill_took_no_time_since(self, watch, lines, tmp_path):
        watch = study_runner._Watch(tmp_path, watch.runs, {"plain": 0.1}, lines.append)
        watch.start(watch.runs[0])
        watch.told, watch.started = watch.told - 60, watch.started - 60
        watch.look()
        assert lines[1:] == ["plain-seed0 3/3"]  # nothing was done yet by which to tell

    def test_what_is_left_is_weighed_by_steps_and_epochs(self, write_study, lines, tmp_path):
        costs = {"plain": 1.0, "plain_long": 1.0, "hierarchical": 10.0}
        runs = Study(write_study()).runs
        epochs = {run.arm: run.recipe.epochs for run in runs}
        assert epochs["plain"] < epochs["plain_long"]
        watch = study_runner._Watch(tmp_path, runs, costs, lines.append)
        assert watch.left() == sum(epochs[arm] * costs[arm] for arm in costs)
        for run in runs:
            if run.arm != "hierarchical":
                watch.start(run)
                watch.stop(run)
        assert watch.left() == 10.0 * epochs["hierarchical"]

    def test_a_run_that_ends_meanwhile_does_no_harm(self, watch, lines, tmp_path, monkeypatch):
        def vanish(path):
            shutil.rmtree(tmp_path / "runs", ignore_errors=True)
            return read_progress(path)

        read_progress = study_runner.read_progress
        monkeypatch.setattr(study_runner, "read_progress", vanish)
        watch.told -= 60
        watch.look()
        assert len(lines) == 1


@pytest.fixture(scope="module")
def finished_study(recipe_file, finished_runs, tmp_path_factory):
    """A study of two arms and two seeds that was carried out by the command: its file, folder, and the outcome."""
    parent = tmp_path_factory.mktemp("study")
    changes = {**REAL, "seeds": [0, 1], "designs_tried": 7}
    path = write_files(parent / "study", recipe_file, finished_runs, changes)
    outcome = study_command(path, "--to", parent / "found")
    assert outcome.code == 0, outcome
    return types.SimpleNamespace(path=path, folder=parent / "found", outcome=outcome)


def assert_same_measurements(metrics, other):
    """Checks that two runs, of which one may be a study's record, measured the same, bit for bit."""
    for key in ("validation", "test", "images", "auxiliary"):
        assert metrics[key] == other[key], key
    assert metrics["history"].keys() == other["history"].keys()
    for name, values in metrics["history"].items():
        assert [round(value, 5) for value in values] == [round(value, 5) for value in other["history"][name]], name


def assert_same_weights(folder, other):
    """Checks that the networks of two runs are the same, bit for bit."""
    weights, other_weights = (auxzoo.load(path).get_weights() for path in (folder, other))
    for one, other in zip(weights, other_weights, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow  # real child processes, each with its own TensorFlow
class TestRealRuns:
    def test_leave_records_and_results_and_no_runs(self, finished_study):
        folder = finished_study.folder
        assert {path.name for path in folder.iterdir()} == {
            *("records", "runs", "networks", "costs.json", "results.json", "results.md", "results.png", ".lock")
        }
        assert not list((folder / "runs").iterdir())
        names = {f"{arm}-seed{seed}" for arm, seed in itertools.product(REAL["arms"], (0, 1))}
        assert {path.name for path in (folder / "records").iterdir()} == {f"{name}.json" for name in names}
        assert [name for name in files_in(folder) if Path(name).name.startswith(".")] == [".lock"]

    def test_leave_their_networks_where_they_shall(self, finished_study, finished_runs):
        networks = finished_study.folder / "networks"
        names = {f"{arm}-seed{seed}" for arm in REAL["arms"] for seed in (0, 1)}
        assert {path.name for path in networks.iterdir()} == names
        assert_same_weights(networks / "hierarchical-seed0", finished_runs["auxiliary"])

    @pytest.mark.parametrize(("arm", "run"), [("plain", "plain"), ("hierarchical", "auxiliary")])
    def test_are_what_train_does_with_the_same_settings(self, finished_study, finished_runs, arm, run):
        record, metrics = (
            records_in(finished_study.folder)[f"{arm}-seed0"],
            read_json(finished_runs[run] / "metrics.json"),
        )
        assert_same_measurements(record["metrics"], metrics)

    def test_differ_between_seeds_and_arms(self, finished_study):
        # Otherwise every comparison in this class would be empty.
        losses = [record["metrics"]["history"]["loss"] for record in records_in(finished_study.folder).values()]
        assert len({tuple(values[:3]) for values in losses}) == 4

    def test_are_written_down_whole(self, finished_study, finished_runs):
        for name, record in records_in(finished_study.folder).items():
            assert set(record) == {"arm", "seed", "settings", "structure", "metrics"}
            assert (f"{record['arm']}-seed{record['seed']}", record["settings"]["seed"]) == (name, record["seed"])
            assert record["settings"]["epochs"] == 3
            structure = read_json(finished_runs["auxiliary"] / "structure.json")
            structure["provenance"] = {"made_by": "Structure.default"}
            assert record["structure"] == (structure if record["arm"] == "hierarchical" else None)

    def test_name_no_path_of_this_machine(self, finished_study, pictures):
        for name, text in files_in(finished_study.folder).items():
            if name.endswith((".json", ".md")):
                # The source of the tiny recipe is itself a path: another folder of pictures is another study.
                rest = text.decode().replace(f"folder:{pictures}", "")
                for path in (str(pictures.parents[1]), str(Path.home()), "data_dir", "a/folder/of/this/machine"):
                    assert path not in rest, name

    def test_are_timed_and_summarized(self, finished_study):
        folder = finished_study.folder
        costs, summary = read_json(folder / "costs.json"), read_json(folder / "results.json")
        seconds = {arm: cost["seconds_per_step"] for arm, cost in costs["arms"].items()}
        assert min(seconds.values()) > 0
        assert (summary["split"], summary["images"]) == ("test", 24)
        assert [row["arm"] for row in summary["arms"]] == list(REAL["arms"])
        for row in summary["arms"]:
            records = [record for record in records_in(folder).values() if record["arm"] == row["arm"]]
            assert row["seeds"] == [0, 1]
            accuracies = [100 * record["metrics"]["test"]["accuracy"] for record in records]
            assert row["values"] == pytest.approx(accuracies, abs=1e-3)
            assert row["training_seconds"] == pytest.approx(9 * seconds[row["arm"]])
            assert row["step_cost"] == pytest.approx(seconds[row["arm"]] / seconds["plain"])

    def test_are_printed_in_a_table_that_fits(self, finished_study):
        output = finished_study.outcome.output
        assert finished_study.outcome.error == ""
        lines = [line for line in output.splitlines() if str(finished_study.folder) not in line]
        assert max(map(len, lines)) <= WIDTH
        assert [line.split("│")[1].strip() for line in lines if "│" in line] == list(REAL["arms"])
        assert "7 designs were tried" in " ".join(output.split())

    def test_are_not_done_again(self, finished_study, tmp_path, monkeypatch):
        copy = shutil.copytree(finished_study.folder, tmp_path / "found")
        monkeypatch.setattr(
            study_runner, "run_module", lambda *arguments, **options: pytest.fail("a child was started")
        )
        outcome = study_command(finished_study.path, "--to", copy)
        assert outcome.code == 0, outcome
        assert table_in(outcome.output) == table_in(finished_study.outcome.output)
        before = files_in(finished_study.folder)
        for name, content in files_in(copy).items():
            if not name.endswith(".png"):
                assert content == before[name], name

    def test_of_a_killed_study_go_on(self, finished_study, recipe_file, finished_runs, tmp_path):
        path = write_files(tmp_path / "study", recipe_file, finished_runs, REAL)
        write_json(tmp_path / "found" / "costs.json", read_json(finished_study.folder / "costs.json"))
        command = [sys.executable, "-m", "auxzoo.command_line", "study", str(path), "--to", str(tmp_path / "found")]
        with open(tmp_path / "log.txt", "wb") as log:
            # A session of its own, so that its children can be killed with it, as by the end of the machine.
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path, start_new_session=True)
        try:
            deadline = time.monotonic() + 300
            state = tmp_path / "found" / "runs" / "hierarchical-seed0" / "run" / "run_state.npz"
            while not state.exists() and process.poll() is None:
                assert time.monotonic() < deadline, "no checkpoint"
                time.sleep(0.01)
            assert process.poll() is None, (tmp_path / "log.txt").read_text()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        assert "hierarchical-seed0" not in records_in(tmp_path / "found"), "it was killed too late to show anything"
        outcome = study_command(path, "--to", tmp_path / "found")
        assert outcome.code == 0, outcome
        records, undisturbed = records_in(tmp_path / "found"), records_in(finished_study.folder)
        assert records.keys() == {"plain-seed0", "hierarchical-seed0"}
        for name, record in records.items():
            assert_same_measurements(record["metrics"], undisturbed[name]["metrics"])
            assert record["settings"] == undisturbed[name]["settings"]
            assert record["structure"] == undisturbed[name]["structure"]
            assert_same_weights(*(folder / "networks" / name for folder in (tmp_path / "found", finished_study.folder)))
        assert not list((tmp_path / "found" / "runs").iterdir())

    def test_that_diverge_are_named_and_end_the_command_with_1(self, write_study, children, folder, monkeypatch):
        def run_the_failing_one(module, work, environment=None, arguments=None):
            real = work.name == "diverging-seed0"
            (run_module if real else children.run_module)(module, work, environment, arguments=arguments)

        monkeypatch.setattr(study_runner, "run_module", run_the_failing_one)
        diverging = {"optimization.learning_rate": 1e30, "optimization.ema_momentum": None, **ARMS["plain"]}
        path = write_study(arms={"diverging": diverging, "plain": ARMS["plain"]}, baselines=["plain"])
        outcome = study_command(path, "--to", folder)
        assert outcome.code == 1, outcome
        assert outcome.error.startswith("auxzoo study: 1 runs failed; all others are kept.\ndiverging-seed0: ")
        assert "step 2" in outcome.error
        assert "Traceback" not in outcome.error
        assert records_in(folder).keys() == {"plain-seed0"}
        assert (folder / "runs" / "diverging-seed0" / "log.txt").exists(), "what it said can be read"
        assert not (folder / "results.md").exists(), "a table of half a study would be taken for the whole"


def table_in(output):
    """Returns the lines of a printed table, with its title and caption."""
    lines = output.splitlines()
    (first,) = [place for place, line in enumerate(lines) if line.strip() == "tiny_study"]
    return lines[first:-1]


class TestCommand:
    @pytest.mark.parametrize(
        ("changes", "arguments", "message"),
        [
            ({"seeds": [0, 0]}, [], "seeds must differ from each other"),
            ({}, ["--processes", "0"], "`processes` must be 1 or more"),
            ({"recipe": "nowhere.yaml"}, [], "`recipe` must be a YAML file"),
        ],
    )
    def test_the_users_mistake_ends_with_2(self, write_study, children, folder, changes, arguments, message):
        outcome = study_command(write_study(**changes), "--to", folder, *arguments)
        assert outcome.code == 2, outcome
        assert outcome.error.startswith("auxzoo study: ")
        assert message in outcome.error
        assert "Traceback" not in outcome.error
        assert not folder.exists()

    def test_a_missing_study_ends_with_2(self, tmp_path):
        outcome = study_command(tmp_path / "nowhere.yaml")
        assert (outcome.code, outcome.output) == (2, "")
        assert outcome.error.startswith("auxzoo study: `study` must be a YAML file. Received: ")

    def test_results_go_beside_the_study_if_no_folder_is_named(self, write_study, children):
        path = write_study(seeds=[0, 1])
        assert study_command(path).code == 0
        assert {"records", "costs.json", "results.json", "results.md", "results.png"} < {
            item.name for item in path.parent.iterdir()
        }

    def test_where_the_data_lie_reaches_every_run_and_no_record(self, write_study, children, folder, monkeypatch):
        recipes = []

        def train(name, command, recipe_path, *arguments):
            recipes.append(read_recipe(recipe_path))
            return Children.train(children, name, command, recipe_path, *arguments)

        monkeypatch.setattr(children, "train", train)
        assert study_command(write_study(), "--to", folder, "--data-dir", "sets", "--download").code == 0
        assert [(recipe.data.data_dir, recipe.data.download) for recipe in recipes] == [("sets", True)] * 3
        for record in records_in(folder).values():
            assert not {"data_dir", "download"} & set(record["settings"]["data"])


class TestPairedInterval:
    @pytest.mark.parametrize(
        ("differences", "mean", "half_width"),
        [
            # Student's 97.5 % point: 2.776445 of 4 degrees of freedom, 12.706205 of 1, 4.302653 of 2.
            ([1, 2, 3, 4, 5], 3, 2.776445 * (2.5 / 5) ** 0.5),
            ([0, 2], 1, 12.706205 * (2 / 2) ** 0.5),
            ([-1, 0, 1], 0, 4.302653 * (1 / 3) ** 0.5),
            ([2, 2, 2], 2, 0),
        ],
    )
    def test_is_what_a_hand_computes(self, differences, mean, half_width):
        assert paired_interval(differences) == pytest.approx((mean, half_width), rel=1e-6)

    def test_of_five_is_the_textbooks(self):
        assert paired_interval([1, 2, 3, 4, 5])[1] == pytest.approx(1.963, abs=5e-4)

    def test_one_difference_has_none(self):
        assert paired_interval([1.5]) == (1.5, None)

    @given(
        st.lists(st.floats(-100, 100), min_size=2, max_size=20), st.floats(-100, 100), st.randoms(use_true_random=False)
    )
    def test_a_shift_moves_the_mean_alone_and_order_does_not_count(self, differences, shift, random):
        mean, half_width = paired_interval(differences)
        shifted = [difference + shift for difference in differences]
        random.shuffle(shifted)
        assert paired_interval(shifted) == pytest.approx((mean + shift, half_width), rel=1e-6, abs=1e-9)


def made_up_study(arms=("plain", "plain_long", "hierarchical"), seeds=(0, 1, 2), **changes):
    """Returns what a report reads of a study."""
    value = {
        "name": "made_up",
        "recipe": "tiny.yaml",
        "seeds": list(seeds),
        "arms": {arm: {} for arm in arms},
        "baselines": [arm for arm in arms if "plain" in arm],
    }
    return types.SimpleNamespace(settings=StudySettings.parse(value | changes, "The study"))


def made_up_record(arm, seed, accuracy, epochs=3, structure=None, **metrics):
    return {
        "arm": arm,
        "seed": seed,
        "settings": {"network": {}, "data": {}, "epochs": epochs, "batch_size": 12},
        "structure": structure,
        "metrics": made_up_metrics(accuracy, **metrics),
    }


ACCURACIES = {
    "plain": {0: 0.50, 1: 0.70, 2: 0.60},
    "plain_long": {0: 0.54, 1: 0.62, 2: 0.67},
    "hierarchical": {0: 0.56, 1: 0.65, 2: 0.71},
}
COSTS = {"plain": 0.5, "plain_long": 0.25, "hierarchical": 0.75}


@dataclasses.dataclass
class Report:
    """A made-up study, its records and its summary by arm."""

    study: object
    records: list
    costs: dict = dataclasses.field(default_factory=lambda: dict(COSTS))

    def __post_init__(self):
        self.summary = summarize(self.study, self.records, self.costs)
        self.rows = {row["arm"]: row for row in self.summary["arms"]}


@pytest.fixture
def report():
    records = [made_up_record(arm, seed, value) for arm in ACCURACIES for seed, value in ACCURACIES[arm].items()]
    return Report(made_up_study(), records)


class TestSummary:
    def test_has_the_mean_of_every_arm(self, report):
        assert list(report.rows) == list(ACCURACIES)
        assert [row["mean"] for row in report.rows.values()] == pytest.approx([60, 61, 64])
        assert report.rows["plain"]["values"] == [50, 70, 60]
        assert report.rows["plain"]["seeds"] == [0, 1, 2]

    def test_the_best_baseline_has_the_highest_mean(self, report):
        assert report.summary["best_baseline"] == "plain_long"
        # Not the highest of all: an arm with an auxiliary is no baseline, nor is one lucky seed a mean.
        assert report.rows["hierarchical"]["mean"] > report.rows["plain_long"]["mean"]
        assert max(report.rows["plain"]["values"]) > max(report.rows["plain_long"]["values"])

    def test_differences_are_to_the_best_baseline_alone(self, report):
        for arm in ("plain", "plain_long"):
            assert (report.rows[arm]["difference"], report.rows[arm]["half_width"]) == (None, None)
        difference, half_width = paired_interval([2, 3, 4])
        assert report.rows["hierarchical"]["difference"] == pytest.approx(difference)
        assert report.rows["hierarchical"]["half_width"] == pytest.approx(half_width)

    @pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
    def test_pairs_are_made_by_seed_and_not_by_order(self, report, order):
        # Runs end in any order; the baselines' in another than these.
        hierarchical = [report.records[6 + place] for place in order]
        row = Report(report.study, [*hierarchical, *reversed(report.records[:6])]).rows["hierarchical"]
        assert row["seeds"] == list(order)
        assert row["values"] == pytest.approx([100 * ACCURACIES["hierarchical"][seed] for seed in order])
        for name in ("difference", "half_width"):
            assert row[name] == pytest.approx(report.rows["hierarchical"][name])

    def test_what_else_is_compared_is_paired_by_seed(self, report, tmp_path):
        comparisons = [
            {"arm": "hierarchical", "against": ["plain", "plain_long"]},
            {"arm": "plain", "against": ["plain_long"]},
        ]
        compared = Report(made_up_study(comparisons=comparisons), report.records[::-1])
        found = [(row["difference"], row["half_width"]) for row in compared.summary["comparisons"]]
        assert found == [pytest.approx(paired_interval(values)) for values in ([4, -1, 7.5], [-4, 8, -7])]
        lines = comparison_lines(compared.summary)
        assert lines[0].startswith("hierarchical against the mean of plain, plain_long: +3.50 ± ")
        assert lines[1].startswith("plain against plain_long: -1.00 ± ")
        write_markdown(tmp_path / "results.md", compared.study, [compared.summary])
        assert f"- {lines[0]}\n- {lines[1]}\n" in (tmp_path / "results.md").read_text()
        assert lines[0].endswith(" over the seeds, for these arms")
        assert report.summary["comparisons"] == comparison_lines(report.summary) == []

    def test_arms_that_were_measured_on_other_images_are_refused(self, report):
        report.records[4]["metrics"]["test"]["images"] = 20
        with pytest.raises(auxzoo.UserError, match="on the same test images. Received: 20 of one arm and 24 of anoth"):
            Report(report.study, report.records)

    def test_improvements_are_kept_beside_a_single_metric(self, report):
        assert as_json([report.summary]) is report.summary
        assert as_json([report.summary], [{"arm": "both"}]) == {
            "metrics": [report.summary],
            "improvements": [{"arm": "both"}],
        }

    def test_one_seed_has_a_difference_without_an_interval(self):
        records = [made_up_record(arm, 5, values[0]) for arm, values in ACCURACIES.items()]
        report = Report(made_up_study(seeds=[5]), records)
        assert report.rows["hierarchical"]["difference"] == pytest.approx(2)
        assert report.rows["hierarchical"]["half_width"] is None
        assert table_rows(report.summary)[-1][header("accuracy").index("difference")] == "+2.00"

    def test_a_step_costs_so_much_of_that_of_the_first_baseline(self, report):
        # Of the first, not of the best: that is another at every study.
        assert {arm: row["step_cost"] for arm, row in report.rows.items()} == {
            "plain": 1,
            "plain_long": 0.5,
            "hierarchical": 1.5,
        }

    def test_training_takes_its_steps_times_the_time_of_a_step(self):
        # 38 images are 3 whole batches of 12 an epoch.
        records = [made_up_record(arm, 0, 0.5, epochs=100 if arm == "plain_long" else 40) for arm in ACCURACIES]
        report = Report(made_up_study(seeds=[0]), records)
        seconds = {arm: row["training_seconds"] for arm, row in report.rows.items()}
        assert seconds == {"plain": 120 * 0.5, "plain_long": 300 * 0.25, "hierarchical": 120 * 0.75}
        minutes = [row[header("accuracy").index("minutes")] for row in table_rows(report.summary)]
        assert minutes == ["1.0", "1.2", "1.5"]

    def test_the_search_is_told_beside_the_training(self, report):
        structure = {"provenance": {"cost": {"seconds": 1234.5}}}
        records = report.records[:6] + [
            record | {"structure": structure if record["seed"] else {"provenance": None}}
            for record in report.records[6:]
        ]
        assert Report(report.study, records).rows["hierarchical"]["search_seconds"] is None
        records = report.records[:6] + [record | {"structure": structure} for record in report.records[6:]]
        found = Report(report.study, records)
        assert found.rows["hierarchical"]["search_seconds"] == 1234.5
        assert table_rows(found.summary)[-1][header("accuracy").index("minutes")] == "0.1 + 21"

    @pytest.mark.parametrize("cost", ["2 hours", {"seconds": "many"}, {}, None])
    def test_what_a_structure_by_hand_says_of_its_cost_may_be_anything(self, report, cost):
        for record in report.records[6:]:
            record["structure"] = {"provenance": {"cost": cost}}
        assert Report(report.study, report.records).rows["hierarchical"]["search_seconds"] is None

    def test_other_predictions_are_told_where_there_are_any(self, report):
        heads = {"joint_accuracy": 0.75, "auxiliary_accuracy": 0.25}
        records = report.records[:6] + [made_up_record("hierarchical", seed, 0.5, **heads) for seed in (0, 1, 2)]
        rows = Report(report.study, records).rows
        assert (rows["hierarchical"]["joint_mean"], rows["hierarchical"]["auxiliary_mean"]) == (75, 25)
        assert (rows["plain"]["joint_mean"], rows["plain"]["auxiliary_mean"]) == (None, None)

    def test_validation_stands_in_where_nothing_was_tested(self, report):
        assert (report.summary["split"], report.summary["images"]) == ("test", 24)
        records = [*report.records[:-1], made_up_record("hierarchical", 2, 0.71, test=False)]
        summary = Report(report.study, records).summary
        assert (summary["split"], summary["images"]) == ("validation", 12)


@pytest.fixture
def large_report():
    """The report of as many arms, with names as long, as a study may have."""
    arms = [f"{kind}_{number:03d}" for kind in ("plain_epochs", "hierarchical_by_gradient") for number in range(15)]
    structure = {"provenance": {"cost": {"seconds": 98765.4}}}
    records = [
        made_up_record(
            *(arm, seed, 0.6 + 0.001 * place + 0.01 * seed * place % 0.03, 240),
            structure=None if "plain" in arm else structure,
            joint_accuracy=0.7,
        )
        for seed in (0, 1, 2)
        for place, arm in enumerate(arms)
    ]
    costs = {arm: 0.5 + 0.1 * place for place, arm in enumerate(arms)}
    return Report(made_up_study(arms, designs_tried=123), records, costs)


class TestReport:
    @pytest.fixture(params=["report", "large_report"])
    def any_report(self, request):
        return request.getfixturevalue(request.param)

    def test_the_printed_table_fits(self, any_report, write_study, folder, monkeypatch):
        report = any_report
        arms = {arm: ARMS["plain"] for arm in report.rows}
        path = write_study(arms=arms, baselines=report.study.settings.baselines, designs_tried=123)
        monkeypatch.setattr(study_runner, "run_study", lambda *arguments, **options: (report.records, report.costs))
        # The networks of thirty arms are not needed.
        monkeypatch.setattr(Study, "_arm", lambda study, *arguments: ([None] * len(study.settings.seeds), ["accuracy"]))
        outcome = study_command(path, "--to", folder)
        assert outcome.code == 0, outcome
        lines = [line for line in outcome.output.splitlines() if str(folder) not in line]
        assert max(map(len, lines)) <= WIDTH
        assert "…" not in outcome.output
        cells = [tuple(cell.strip() for cell in line.split("│")[1:-1]) for line in lines if "│" in line]
        assert cells == table_rows(report.summary)

    def test_the_markdown_table_has_a_cell_for_every_column(self, any_report, tmp_path):
        write_markdown(tmp_path / "results.md", any_report.study, [any_report.summary])
        title, *lines = (tmp_path / "results.md").read_text(encoding="utf-8").splitlines()
        assert title == "# made_up"
        table = [line for line in lines if line.startswith("|")]
        assert lines[-len(table) :] == table, "a table is a paragraph of its own"
        assert lines[-len(table) - 1] == ""
        rows = [[cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")] for line in table]
        assert {len(row) for row in rows} == {len(header("accuracy"))}
        assert rows[0] == list(header("accuracy"))
        assert set(rows[1]) == {"---"}
        assert [tuple(row) for row in rows[2:]] == table_rows(any_report.summary)

    def test_the_cells_say_what_was_found(self, report):
        rows = table_rows(report.summary)
        assert rows[0] == ("plain", "3", "60.00", "", "", "1.00", "0.1")
        assert rows[1] == ("plain_long", "3", "61.00", "", "best plain", "0.50", "0.0")
        assert rows[2] == ("hierarchical", "3", "64.00", "", "+3.00 ± 2.48", "1.50", "0.1")

    def test_the_caption_says_what_is_shown(self, report, large_report):
        text = caption(report.study, report.summary)
        for words in ("24 test images", "plain_long", "paired by seed", "95 %", "seeds 0, 1, 2"):
            assert words in text
        assert "designs" not in text
        assert "by the clock" not in text
        report.summary["arms"][2]["search_seconds"] = 60.0
        assert "and with + those of the search by the clock" in caption(report.study, report.summary)
        assert "123 designs were tried" in caption(large_report.study, large_report.summary)

    def test_the_plot_is_a_picture_of_sensible_size(self, any_report, tmp_path):
        plot(tmp_path / "results.png", any_report.study, any_report.summary)
        picture = tf.io.decode_png((tmp_path / "results.png").read_bytes(), channels=3).numpy()
        height, width, _ = picture.shape
        assert 400 <= height <= 2000
        assert 600 <= width <= 3000
        share_of_white = np.mean(picture == 255)
        assert 0.5 < share_of_white < 0.995, "neither black nor empty"


MIOU, RMSE = "surface_mean_iou", "height_root_mean_squared_error"
# What three networks measured for two seeds: shares 0 to 1, errors in metres.
SEVERAL = {
    "both": {0: {MIOU: 0.60, RMSE: 90.0}, 1: {MIOU: 0.50, RMSE: 110.0}},
    "surface": {0: {"mean_iou": 0.50}, 1: {"mean_iou": 0.40}},
    "height": {0: {"root_mean_squared_error": 100.0}, 1: {"root_mean_squared_error": 100.0}},
}
TASKS_OF = {"both": None, "both_plain": None, "surface": ["surface"], "height": ["height"]}


def record_of(arm, seed, scores, tasks=None, test=True):
    """Returns a record of a run with these scores and no accuracy; `tasks` is what the recipe says of its network."""
    record = made_up_record(arm, seed, 0.0, test=test)
    record["settings"]["network"]["tasks"] = tasks
    for split in ("validation", "test") if test else ("validation",):
        record["metrics"][split] = {"images": record["metrics"][split]["images"]} | scores
    return record


def records_of(scores=SEVERAL):
    return [record_of(arm, seed, one, TASKS_OF[arm]) for arm in scores for seed, one in scores[arm].items()]


def several_study(arms=SEVERAL, **changes):
    changes = {"baselines": ["surface", "height"], "metrics": [MIOU, RMSE]} | changes
    return made_up_study(tuple(arms), (0, 1), **changes)


def summary_of(metric, scores=SEVERAL, records=None, **changes):
    """Returns the summary, its costs alike for all arms, and its rows by arm."""
    study = several_study(scores, **changes)
    summary = summarize(study, records or records_of(scores), dict.fromkeys(scores, 1.0), metric)
    return summary, {row["arm"]: row for row in summary["arms"]}


class TestSeveralMetrics:
    ERRORS = types.MappingProxyType(
        {
            "short": {0: {RMSE: 120.0}, 1: {RMSE: 100.0}},
            "long": {0: {RMSE: 104.0}, 1: {RMSE: 108.0}},
            "deep": {0: {RMSE: 94.0}, 1: {RMSE: 100.0}},
        }
    )

    def errors(self):
        study = made_up_study(("short", "long", "deep"), (0, 1), baselines=["short", "long"], metrics=[RMSE])
        records = [record_of(arm, seed, one) for arm in self.ERRORS for seed, one in self.ERRORS[arm].items()]
        return study, summarize(study, records, {"short": 1.0, "long": 2.0, "deep": 3.0}, RMSE)

    def test_small_numbers_keep_their_digits(self, tmp_path):
        relative = "height_absolute_relative_error"
        scores = {"height": {0: {relative: 0.12341}, 1: {relative: 0.12351}}}
        scores["both"] = {0: {relative: 0.12007}, 1: {relative: 0.12013}}
        changes = {
            "baselines": ["height"],
            "metrics": [relative],
            "comparisons": [{"arm": "both", "against": ["height"]}],
        }
        summary, rows = summary_of(relative, scores, **changes)
        write_markdown(tmp_path / "results.md", several_study(scores, **changes), [summary])
        told = (tmp_path / "results.md").read_text()
        assert "| 0.1235 |" in told
        assert told.count("-0.00336 ± 0.0002541") == 2
        assert rows["both"]["values"] == [0.12007, 0.12013]

    def test_of_errors_the_best_baseline_has_the_lowest_mean(self):
        _, summary = self.errors()
        assert [row["mean"] for row in summary["arms"]] == [110, 106, 97]
        assert summary["best_baseline"] == "long"

    def test_of_errors_a_difference_below_zero_is_better(self):
        _, summary = self.errors()
        row = summary["arms"][-1]
        assert (row["difference"], row["half_width"]) == pytest.approx(paired_interval([-10, -8]))

    def test_the_line_of_the_plot_falls_with_the_lowest_error(self, tmp_path, monkeypatch):
        from matplotlib.axes import Axes

        lines = []
        monkeypatch.setattr(Axes, "plot", lambda axes, minutes, values, **options: lines.append(list(values)))
        study, summary = self.errors()
        plot(tmp_path / "results.png", study, summary)
        assert lines == [[110, 106]]

    @pytest.mark.parametrize(
        ("metric", "value", "told", "column"),
        [
            ("mean_iou", 0.625, 62.5, "mean_iou %"),
            ("surface_pixel_accuracy", 0.625, 62.5, "surface_pixel_accuracy %"),
            ("delta_2", 0.625, 62.5, "delta_2 %"),
            ("surface_iou_of_classes", {"water": 0.75, "grass": 0.5}, 62.5, "surface_iou_of_classes %"),
            ("root_mean_squared_error", 62.5, 62.5, "root_mean_squared_error"),
            ("height_absolute_relative_error", 0.625, 0.625, "height_absolute_relative_error"),
        ],
    )
    def test_shares_alone_are_told_in_per_cent(self, metric, value, told, column):
        records = [record_of("plain", 0, {metric: value})]
        study = made_up_study(("plain",), (0,), metrics=[metric])
        summary = summarize(study, records, {"plain": 1.0}, metric)
        assert summary["arms"][0]["mean"] == pytest.approx(told)
        assert header(metric)[2] == column
        assert table_rows(summary)[0][2] == (f"{told:.2f}" if column.endswith("%") else f"{told:.4g}")

    def test_an_arm_with_one_task_alone_is_found_without_the_name_of_the_task(self):
        summary, rows = summary_of(MIOU)
        assert rows["surface"]["values"] == [50, 40]
        assert rows["both"]["values"] == [60, 50]
        assert (summary["metric"], summary["best_baseline"]) == (MIOU, "surface")
        assert rows["both"]["difference"] == pytest.approx(10)

    def test_so_are_its_other_predictions(self):
        records = records_of()
        for record in records:
            prefix = "surface_" if record["arm"] == "both" else ""
            record["metrics"]["test"] |= {f"joint_{prefix}mean_iou": 0.75, f"auxiliary_{prefix}mean_iou": 0.25}
        _, rows = summary_of(MIOU, records=records)
        assert {(row["joint_mean"], row["auxiliary_mean"]) for row in rows.values()} == {(75, 25)}

    def test_an_arm_without_the_metric_is_left_out(self):
        _, rows = summary_of(MIOU)
        assert list(rows) == ["both", "surface"]
        summary, rows = summary_of(RMSE)
        assert list(rows) == ["both", "height"]
        assert summary["best_baseline"] == "height"

    def test_the_metric_of_another_task_is_not_taken_for_its_own(self):
        # Both measured a mean IoU, each of a task that has no name in its scores.
        scores = {"surface": {0: {"mean_iou": 0.5}, 1: {"mean_iou": 0.5}}, "height": {0: {"mean_iou": 0.9}}}
        scores["height"][1] = scores["height"][0]
        _, rows = summary_of(MIOU, scores)
        assert list(rows) == ["surface"]

    def test_comparisons_with_an_arm_that_is_left_out_are_left_out(self):
        comparisons = [{"arm": "both", "against": ["surface"]}, {"arm": "both", "against": ["surface", "height"]}]
        summary, _ = summary_of(MIOU, comparisons=comparisons)
        assert [row["against"] for row in summary["comparisons"]] == [["surface"]]
        assert summary["comparisons"][0]["difference"] == pytest.approx(10)

    def test_a_metric_that_no_baseline_has_is_refused(self):
        with pytest.raises(auxzoo.UserError, match="`metrics` must be among those of a baseline.*'kind_accuracy'"):
            summary_of("kind_accuracy")

    def test_the_message_lists_what_a_baseline_has(self):
        with pytest.raises(auxzoo.UserError) as failure:
            summary_of(RMSE, baselines=["surface"])
        assert f"those of a baseline, images, mean_iou. Received: {RMSE!r}" in str(failure.value)

    CLASSES = types.MappingProxyType({"water": 0.9, "grass": 0.6, "rock": 0.3, "snow": None})

    @pytest.mark.parametrize(
        ("labels", "expected"),
        [(None, 60), (["water", "rock"], 60), (["grass"], 60), (["grass", "rock"], 45), (["water", "snow"], 90)],
        ids=["all", "outer", "one", "two", "one that is nowhere"],
    )
    def test_the_mean_iou_is_of_the_classes_that_are_named(self, labels, expected):
        metric = "surface_iou_of_classes"
        scores = {"surface": {seed: {"iou_of_classes": dict(self.CLASSES)} for seed in (0, 1)}}
        scores["both"] = {seed: {metric: dict(self.CLASSES)} for seed in (0, 1)}
        changes = {"baselines": ["surface"], "metrics": [metric], "iou_classes": labels}
        _, rows = summary_of(metric, scores, **changes)
        assert [row["mean"] for row in rows.values()] == pytest.approx([expected] * 2)

    def test_every_class_has_a_column(self, tmp_path):
        worse = {label: iou and iou - 0.2 for label, iou in self.CLASSES.items()}
        scores = {"surface": {seed: {"mean_iou": 0.5, "iou_of_classes": dict(self.CLASSES)} for seed in (0, 1)}}
        scores["both"] = {
            seed: {MIOU: 0.5, "surface_iou_of_classes": classes} for seed, classes in ((0, self.CLASSES), (1, worse))
        }
        # Where a class is nowhere, what one seed predicts of it has an IoU of 0, and the others have none.
        scores["both"][1]["surface_iou_of_classes"] = {**worse, "snow": 0.0}
        study = several_study(baselines=["surface"], metrics=[MIOU])
        summary, _ = summary_of(MIOU, scores, baselines=["surface"], metrics=[MIOU])
        write_markdown(tmp_path / "results.md", study, [summary, summary])
        lines = (tmp_path / "results.md").read_text().splitlines()
        assert {"| IoU % | water | grass | rock | snow |", "| both | 80.0 | 50.0 | 20.0 | 0.0 |"} < set(lines)
        assert lines.count("| surface | 90.0 | 60.0 | 30.0 |  |") == 1

    def test_a_class_that_no_run_knows_is_refused(self):
        scores = {"surface": {0: {"iou_of_classes": dict(self.CLASSES)}}}
        changes = {"baselines": ["surface"], "metrics": ["iou_of_classes"], "iou_classes": ["lava"]}
        with pytest.raises(auxzoo.UserError, match="`iou_classes` .*'lava'"):
            summary_of("iou_of_classes", scores, **changes)

    def test_classes_that_are_nowhere_have_no_mean(self):
        scores = {"surface": {seed: {"iou_of_classes": dict(self.CLASSES)} for seed in (0, 1)}}
        changes = {"baselines": ["surface"], "metrics": ["iou_of_classes"], "iou_classes": ["snow"]}
        with pytest.raises(auxzoo.UserError, match="`iou_classes` must have one that is .*: snow, which seed 0"):
            summary_of("iou_of_classes", scores, **changes)

    def test_an_arm_whose_data_have_one_target_alone_is_found_too(self):
        records = records_of()
        for record in records:
            if record["arm"] == "surface":
                record["settings"]["network"]["tasks"] = None
                record["settings"]["data"] = {"targets": {"surface": {"kind": "segmentation"}}}
        _, rows = summary_of(MIOU, records=records, baselines=["both"])
        assert list(rows) == ["both", "surface"]

    IMPROVEMENT = types.MappingProxyType({"arm": "both", "against": {MIOU: "surface", RMSE: "height"}})

    def test_the_improvement_is_the_mean_over_tasks_within_a_seed(self):
        study = several_study(improvements=[dict(self.IMPROVEMENT)])
        (found,) = improvements(study, records_of()[::-1])
        # Seed 0: 60 against 50, +20 %, and 90 m against 100, +10 %. Seed 1: 50 against 40, +25 %, and 110 m, -10 %.
        of_seeds = [(20 + 10) / 2, (25 - 10) / 2]
        assert (found["improvement"], found["half_width"]) == pytest.approx(paired_interval(of_seeds))
        assert {"arm": found["arm"], "against": found["against"]} == self.IMPROVEMENT

    def test_of_one_seed_it_has_no_interval(self):
        changes = {"baselines": ["surface"], "metrics": [MIOU, RMSE], "improvements": [dict(self.IMPROVEMENT)]}
        study = made_up_study(tuple(SEVERAL), (0,), **changes)
        (found,) = improvements(study, [record for record in records_of() if record["seed"] == 0])
        assert (found["improvement"], found["half_width"]) == (pytest.approx(15), None)
        assert "±" not in improvement_lines([found])[0]

    def test_without_a_test_split_it_is_of_the_validation_images(self):
        records = [
            record_of(arm, seed, one, TASKS_OF[arm], test=False)
            for arm in SEVERAL
            for seed, one in SEVERAL[arm].items()
        ]
        (found,) = improvements(several_study(improvements=[dict(self.IMPROVEMENT)]), records)
        assert found["improvement"] == pytest.approx((15 + 7.5) / 2)

    def test_an_arm_without_the_task_has_no_improvement(self):
        study = several_study(improvements=[{"arm": "both", "against": {MIOU: "height"}}])
        with pytest.raises(auxzoo.UserError, match=f"`baselines` of task '{MIOU}' must be .*Received: None"):
            improvements(study, records_of())

    def test_what_can_be_told_is_written_where_an_improvement_cannot(self, write_study, folder, monkeypatch):
        arms = {arm: ARMS["plain"] for arm in SEVERAL}
        changes = {"metrics": [MIOU, RMSE], "improvements": [dict(self.IMPROVEMENT)], "seeds": [0, 1]}
        path = write_study(arms=arms, baselines=["surface", "height"], **changes)
        records = records_of(SEVERAL | {"surface": {0: {"mean_iou": 0.5}, 1: {"mean_iou": 0.0}}})
        monkeypatch.setattr(study_runner, "run_study", lambda *_, **__: (records, dict.fromkeys(SEVERAL, 1.0)))
        monkeypatch.setattr(Study, "_arm", lambda study, *arguments: ([None] * len(study.settings.seeds), [MIOU, RMSE]))
        outcome = study_command(path, "--to", folder)
        assert outcome.code == 2
        assert f"`improvements` cannot be told: `baselines` of task '{MIOU}' must be" in outcome.error
        assert read_json(folder / "results.json")["metrics"][0]["arms"][1]["values"] == [50, 0]
        assert (folder / f"results_{RMSE}.png").exists()

    def test_improvements_are_told_in_a_sentence_below_the_tables(self, tmp_path):
        study = several_study(improvements=[dict(self.IMPROVEMENT)])
        found = improvements(study, records_of())
        summaries = [summary_of(metric)[0] for metric in (MIOU, RMSE)]
        (line,) = improvement_lines(found)
        assert line.startswith(
            f"both against height, surface, mean relative improvement over {MIOU}, {RMSE}: +11.25 ± "
        )
        write_markdown(tmp_path / "results.md", study, summaries, found)
        assert (tmp_path / "results.md").read_text().endswith(f"|\n\n- {line}\n")

    def test_every_metric_has_a_table_of_its_own(self, tmp_path):
        summaries = [summary_of(metric)[0] for metric in (MIOU, RMSE)]
        write_markdown(tmp_path / "results.md", several_study(), summaries)
        tables = [
            [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in part.splitlines()]
            for part in (tmp_path / "results.md").read_text().split("\n\n")
            if part.startswith("|")
        ]
        assert [table[0] for table in tables] == [header(MIOU), header(RMSE)]
        assert [table[2:] for table in tables] == [table_rows(summary) for summary in summaries]

    def test_the_caption_says_which_metric_it_is(self):
        summary, _ = summary_of(RMSE)
        assert caption(several_study(), summary).startswith("Height root mean squared error on 24 test images;")

    def test_the_caption_names_the_classes_that_are_compared(self):
        name, scores = "surface_iou_of_classes", {"water": 0.75, "grass": 0.5, "lake": 0.0}
        study = made_up_study(("plain",), (0,), metrics=[name], iou_classes=["water", "grass"])
        summary = summarize(study, [record_of("plain", 0, {name: scores})], {"plain": 1.0}, name)
        assert caption(study, summary).startswith("Surface IoU of classes (mean of water, grass) on 24 test images;")

    @pytest.mark.parametrize(
        ("metric", "scores", "unit", "told"),
        [
            (RMSE, SEVERAL, "m", "Height root mean squared error in m on"),
            ("root_mean_squared_error", {"plain": {0: {"root_mean_squared_error": 4.0}}}, "m", "error in m on"),
            (
                "height_absolute_relative_error",
                {"plain": {0: {"height_absolute_relative_error": 0.5}}},
                "",
                "Height absolute relative error on",
            ),
            (MIOU, SEVERAL, "%", "Surface mean IoU on"),
        ],
    )
    def test_an_error_has_the_unit_that_the_recipe_names(self, metric, scores, unit, told):
        arms = tuple(scores)
        records = [record_of(arm, seed, one, TASKS_OF.get(arm)) for arm in arms for seed, one in scores[arm].items()]
        for record in records:
            record["settings"]["data"] = {"targets": {"surface": {"kind": "segmentation"}, "height": {"unit": "m"}}}
        study = made_up_study(arms, tuple(scores[arms[0]]), metrics=[metric], baselines=list(arms))
        summary = summarize(study, records, dict.fromkeys(arms, 1.0), metric)
        assert summary["unit"] == unit
        assert told in caption(study, summary)

    def test_every_baseline_has_a_mark_of_its_own_in_the_plot(self, tmp_path, monkeypatch):
        from matplotlib.axes import Axes

        marks = {}
        draw = Axes.scatter

        def scatter(axes, *values, **options):
            if "label" in options:
                marks[options["label"]] = options["marker"]
            return draw(axes, *values, **options)

        monkeypatch.setattr(Axes, "scatter", scatter)
        plot(tmp_path / "results.png", several_study(), summary_of(RMSE, baselines=["surface", "height", "both"])[0])
        assert set(marks) == {"height", "both"}
        assert len(set(marks.values())) == 2

    def test_the_command_leaves_every_table_and_a_plot_of_each(self, write_study, folder, monkeypatch):
        arms = {arm: ARMS["plain"] for arm in SEVERAL}
        changes = {"metrics": [MIOU, RMSE], "improvements": [dict(self.IMPROVEMENT)], "seeds": [0, 1]}
        path = write_study(arms=arms, baselines=["surface", "height"], **changes)
        costs = dict.fromkeys(SEVERAL, 1.0)
        monkeypatch.setattr(study_runner, "run_study", lambda *arguments, **options: (records_of(), costs))
        monkeypatch.setattr(Study, "_arm", lambda study, *arguments: ([None] * len(study.settings.seeds), [MIOU, RMSE]))
        outcome = study_command(path, "--to", folder)
        assert outcome.code == 0, outcome
        assert {file.name for file in folder.iterdir()} == {
            *("results.json", "results.md", "results.png", f"results_{RMSE}.png")
        }
        results = read_json(folder / "results.json")
        assert [summary["metric"] for summary in results["metrics"]] == [MIOU, RMSE]
        assert results["improvements"][0]["improvement"] == pytest.approx(11.25)
        assert "mean relative improvement" in outcome.output
        for name in (MIOU, RMSE):
            assert name in outcome.output

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"metrics": []}, ["`metrics`"]),
            ({"metrics": "mean_iou"}, ["`metrics`", "'mean_iou'"]),
            ({"iou_classes": []}, ["`iou_classes`"]),
            (
                {"improvements": [{"arm": "all", "against": {MIOU: "surface"}}]},
                ["`improvements`", "both, surface", "'all'"],
            ),
            ({"improvements": [{"arm": "both", "against": {MIOU: "ground"}}]}, ["`improvements`", "'ground'"]),
            ({"improvements": [{"arm": "both", "against": {"mean_iou": "surface"}}]}, [MIOU, RMSE, "not 'mean_iou'"]),
            ({"improvements": [{"arm": "both", "against": {}}]}, ["`improvements.0.against`"]),
            ({"improvements": [{"arm": "both"}]}, ["`improvements.0.against`"]),
            ({"improvements": [{"arm": "both", "against": {MIOU: "surface"}, "seed": 1}]}, ["improvements.0.seed"]),
        ],
        ids=[
            *("no metric", "no list", "no class", "an unknown arm", "an unknown single arm", "an unknown metric"),
            *("against none", "against nothing", "another setting"),
        ],
    )
    def test_what_is_wrong_is_named(self, changes, words):
        with pytest.raises(auxzoo.UserError) as failure:
            several_study(**changes)
        for word in words:
            assert word in str(failure.value)

    @staticmethod
    def tasks():
        """Settings of an arm with two tasks."""
        return {
            "data.targets": {
                "surface": {"kind": "segmentation", "labels": ["water", "grass"]},
                "height": {"kind": "regression", "scale": 100},
            },
            "network.arguments": {
                "input_shape": [16, 16, 3],
                "width": 0.125,
                "stem": "small_stride2",
                "output_stride": 8,
            },
            "network.head_channels": 8,
        }

    @pytest.mark.parametrize(
        ("changes", "arm", "message"),
        [
            ({"metrics": ["accuracy"]}, {}, "`metrics` must be among those of a baseline, mean_iou, .*'accuracy'"),
            (
                {"improvements": [{"arm": "both", "against": {RMSE: "surface"}}], "metrics": [MIOU, RMSE]},
                {},
                f"`improvements` must be of metrics that both arms have. Received: '{RMSE}', which 'surface' has not",
            ),
            (
                {"metrics": ["surface_iou_of_classes"], "iou_classes": ["water", "gras"]},
                {},
                "`iou_classes` must be among water, grass. Received: 'gras'",
            ),
            ({}, {"objective.task_weights": {"depth": 2.0}}, "`objective.task_weights` must name tasks .*'depth'"),
            ({}, {"objective.class_weights": {"depth": [1.0]}}, "`objective.class_weights` must name .*'depth'"),
        ],
        ids=[
            *("a metric of no baseline", "an improvement of no metric", "a class", "a task's weight"),
            "weights of classes",
        ],
    )
    def test_what_the_end_would_stumble_over_is_told_before(self, write_study, changes, arm, message):
        tasks = self.tasks()
        plain = {**ARMS["plain"], **tasks}
        arms = {
            "both": {**plain, **arm},
            "surface": {**plain, "network.tasks": ["surface"]},
            "height": {**plain, "network.tasks": ["height"]},
        }
        baselines = ["surface", "height"] if changes.get("metrics") == [MIOU, RMSE] else ["surface"]
        with pytest.raises(auxzoo.UserError, match=message):
            Study(write_study(**{"arms": arms, "baselines": baselines, "metrics": [MIOU]} | changes))

    @pytest.mark.parametrize(
        ("labels", "metric"), [([], "surface_iou_of_classes"), (["rock", "ice"], "surface_mean_iou")]
    )
    def test_classes_that_no_recipe_names_or_nobody_compares_are_let_through(self, write_study, labels, metric):
        tasks = self.tasks()
        tasks["data.targets"]["surface"]["labels"] = labels
        arms = {"surface": {**ARMS["plain"], **tasks, "network.tasks": ["surface"]}}
        study = Study(write_study(arms=arms, baselines=["surface"], metrics=[metric], iou_classes=["water"]))
        assert {run.arm for run in study.runs} == {"surface"}

    def test_arms_may_have_some_of_the_tasks(self, write_study):
        tasks = self.tasks()
        arms = {"both": tasks, "surface": {**tasks, **ARMS["plain"], "network.tasks": ["surface"]}}
        both, surface = Study(write_study(arms=arms, baselines=["surface"], metrics=[MIOU])).runs
        assert [tap for tap, _ in both.structure.taps] == ["stem", *(f"stage{number}" for number in range(1, 5))]
        scores = ((both, {MIOU: 0.6}), (surface, {"mean_iou": 0.5}))
        records = [make_record(run, record_of(run.arm, 0, of_run)["metrics"]) for run, of_run in scores]
        study = made_up_study(("both", "surface"), (0,), baselines=["surface"], metrics=[MIOU])
        summary = summarize(study, records, {"both": 2.0, "surface": 1.0}, MIOU)
        assert [row["mean"] for row in summary["arms"]] == pytest.approx([60, 50])

    @pytest.mark.parametrize("arm", SEVERAL)
    def test_progress_is_told_of_runs_without_an_accuracy(self, tmp_path, lines, arm):
        run = types.SimpleNamespace(name=f"{arm}-seed0", arm=arm, recipe=types.SimpleNamespace(epochs=1))
        watch = study_runner._Watch(tmp_path, [run], {arm: 1.0}, lines.append)
        watch.start(run)
        watch.end(run, record_of(arm, 0, SEVERAL[arm][0], TASKS_OF[arm]))
        assert lines[-1].startswith(f"{run.name} ends: ")
