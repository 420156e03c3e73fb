"""Publishing: an entry of the zoo from two finished runs, every figure in it from the runs and the files."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import auxzoo
from auxzoo import models, publish
from auxzoo.export import DEFAULT_FORMATS
from auxzoo.files import read_json, sha256, write_json
from auxzoo.models import zoo
from auxzoo.training import read_recipe

LABELS = ("dark", "grey", "light")
NOTE = "Made by the tests."
# With so few images one of them is worth more than a point.
INT8_REASON = "There are 24 test images."


def make_shelf(folder):
    folder.mkdir()
    write_json(folder / zoo.INDEX_FILE, {})
    return folder


class TestEntry:
    """One entry, made once; it exports in every format."""

    pytestmark = pytest.mark.slow

    @pytest.fixture(scope="class")
    @classmethod
    def shelf(cls, finished_runs, tmp_path_factory):
        shelf = make_shelf(tmp_path_factory.mktemp("published") / "shelf")
        publish.publish(finished_runs["auxiliary"], finished_runs["plain"], shelf, [NOTE], INT8_REASON)
        return shelf

    @pytest.fixture
    def metrics(self, shelf):
        return read_json(shelf / "tiny" / "metrics.json")

    def test_every_file_is_in_the_index_and_checks(self, shelf, finished_runs):
        row = zoo.read_index(shelf)["tiny"]
        assert set(row["files"]) == set(zoo.ENTRY_FILES) == {path.name for path in (shelf / "tiny").iterdir()}
        zoo.check_files(shelf / "tiny", row["files"])
        for file, expected in row["files"].items():
            assert expected == {
                "bytes": (shelf / "tiny" / file).stat().st_size,
                "sha256": sha256(shelf / "tiny" / file),
            }

    def test_the_summary_is_that_of_the_network(self, shelf, finished_runs):
        network, summary = auxzoo.load("tiny", shelf=shelf), zoo.read_index(shelf)["tiny"]["summary"]
        costs = models.measure_costs(network)
        run = read_json(finished_runs["auxiliary"] / "metrics.json")
        files = read_json(shelf / "tiny" / "metrics.json")["files"]
        (int8,) = [record for record in files if record["format"] == "tflite_int8"]
        assert summary == {
            "data": run["title"],
            "input": [16, 16, 3],
            "parameters": costs.parameters,
            "macs": costs.macs,
            "accuracy": run["test"]["accuracy"],
            "int8_accuracy": int8["accuracy"]["accuracy"],
            "int8_bytes": int8["bytes"],
        }

    def test_the_network_is_the_compact_one_of_the_run_with_the_auxiliary(self, shelf, finished_runs):
        published, trained = auxzoo.load("tiny", shelf=shelf), auxzoo.load(finished_runs["auxiliary"])
        for one, other in zip(published.variables, trained.variables, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy())
        assert auxzoo.describe(published).tasks[0].labels == LABELS

    def test_the_auxiliary_can_be_attached_again(self, shelf):
        structure = auxzoo.Structure.read(shelf / "tiny" / "structure.json")
        joint = auxzoo.attach(auxzoo.load("tiny", num_classes=5, shelf=shelf), structure)
        assert {output.shape for output in joint.output.values()} == {(None, 5)}

    def test_the_recipe_names_no_folder_of_this_machine(self, shelf, finished_runs):
        recipe = read_recipe(finished_runs["auxiliary"] / "recipe.yaml")
        assert recipe.data.data_dir is not None, "nothing to leave out"
        public = read_recipe(shelf / "tiny" / "recipe.yaml")
        assert public.data.data_dir is None
        source = f"folder:{Path(recipe.data.source.partition(':')[2]).name}"
        data = recipe.data.model_copy(update={"data_dir": None, "source": source})
        assert recipe.model_copy(update={"data": data}) == public

    def test_the_figures_are_those_of_the_runs_and_files(self, metrics, finished_runs):
        assert metrics["runs"] == {arm: read_json(run / "metrics.json") for arm, run in finished_runs.items()}
        assert [record["format"] for record in metrics["files"]] == list(DEFAULT_FORMATS)
        for record in metrics["files"]:
            assert record["accuracy"]["images"] == metrics["runs"]["auxiliary"]["images"]["test"]
            assert record["keras_accuracy"] == metrics["runs"]["auxiliary"]["test"]["accuracy"]

    def test_the_card_shows_the_figures_of_both_runs(self, shelf, metrics):
        card = (shelf / "tiny" / "README.md").read_text()
        for title, arm in (("with auxiliary (published)", "auxiliary"), ("plain", "plain")):
            run = metrics["runs"][arm]
            (row,) = [line for line in card.splitlines() if line.startswith(f"| {title} ")]
            cells = [cell.strip() for cell in row.split("|")[2:-1]]
            assert cells == [
                f"{100 * run['validation']['accuracy']:.2f}",
                f"{100 * run['test']['accuracy']:.2f}",
                f"{run['training_seconds'] / 60:.0f}",
            ]
        validation = metrics["runs"]["auxiliary"]["validation"]
        for name in ("joint_accuracy", "auxiliary_accuracy", "accuracy"):
            assert f" {100 * validation[name]:.2f} %" in card

    def test_the_card_shows_the_figures_of_every_file_beside_its_checksum(self, shelf, metrics):
        card = (shelf / "tiny" / "README.md").read_text()
        for record in metrics["files"]:
            (row,) = [line for line in card.splitlines() if line.startswith(f"| {record['file']} ")]
            cells = [cell.strip() for cell in row.split("|")[2:-1]]
            assert cells == [
                f"{record['bytes'] / 1000:,.0f}",
                f"{100 * record['accuracy']['accuracy']:.2f}",
                f"{record['parity']['largest_difference']:.1e}",
                f"{record['latency']['median_ms']:.2f}",
                f"`{record['sha256'][:16]}…`",
            ]

    def test_the_card_tells_what_a_reader_needs(self, shelf, metrics):
        card, network = (shelf / "tiny" / "README.md").read_text(), auxzoo.load("tiny", shelf=shelf)
        for text in (
            f"{models.measure_costs(network).parameters:,} parameters",
            "input 16x16x3",
            'auxzoo.load("tiny", num_classes=5)',
            f"{metrics['runs']['auxiliary']['images']['train']:,} training images",
            f"TensorFlow {metrics['runs']['auxiliary']['made_with']['tensorflow']}",
            "Apache-2.0",
            NOTE,
            INT8_REASON,
        ):
            assert text in card

    def test_what_is_cut_off_leaves_the_entry_of_before(self, shelf, metrics, finished_runs, tmp_path, monkeypatch):
        from auxzoo import export

        def cut_off(*arguments):
            raise KeyboardInterrupt

        copy = shutil.copytree(shelf, tmp_path / "shelf")
        before = {path.relative_to(copy): sha256(path) for path in copy.rglob("*") if path.is_file()}
        monkeypatch.setattr(export, "export_files", lambda *arguments, **options: metrics["files"], raising=False)
        monkeypatch.setattr(publish, "_write_index", cut_off)
        with pytest.raises(KeyboardInterrupt):
            publish.publish(finished_runs["auxiliary"], finished_runs["plain"], copy, ["Another."], INT8_REASON)
        assert {path.relative_to(copy): sha256(path) for path in copy.rglob("*") if path.is_file()} == before

    def test_renewed_it_has_other_files_of_the_same_weights(self, shelf, metrics, finished_runs, tmp_path, monkeypatch):
        from auxzoo import export

        copy, asked = shutil.copytree(shelf, tmp_path / "shelf"), {}
        files = [record | {"bytes": 1_234_567} for record in metrics["files"]]

        def export_files(network, folder, **options):
            asked.update(options)
            return files

        monkeypatch.setattr(export, "export_files", export_files, raising=False)
        pictures = Path(read_recipe(finished_runs["auxiliary"] / "recipe.yaml").data.source.partition(":")[2])
        assert publish.renew("tiny", copy, ["Renewed."], INT8_REASON, pictures.parent) == copy / "tiny"
        assert read_json(copy / "tiny" / "metrics.json") == {"runs": metrics["runs"], "files": files}
        for file in ("config.json", "model.weights.h5", "structure.json", "recipe.yaml"):
            assert sha256(copy / "tiny" / file) == sha256(shelf / "tiny" / file)
        zoo.check_files(copy / "tiny", zoo.read_index(copy)["tiny"]["files"])
        card = (copy / "tiny" / "README.md").read_text()
        for text in ("| 1,235 |", "Renewed."):
            assert text in card
        assert NOTE not in card
        assert (asked["evaluation"].size, asked["name"]) == (metrics["runs"]["auxiliary"]["images"]["test"], "tiny")

    def test_what_is_not_on_the_shelf_or_was_changed_is_not_renewed(self, shelf, tmp_path):
        copy = shutil.copytree(shelf, tmp_path / "shelf")
        with pytest.raises(auxzoo.UserError, match=r"`name` must be one of tiny. Received: 'huge'"):
            publish.renew("huge", copy)
        (copy / "tiny" / "model.weights.h5").write_bytes(b"other")
        with pytest.raises(auxzoo.UserError, match=r"model.weights.h5` was changed"):
            publish.renew("tiny", copy)

    def test_it_is_listed_and_pulled_like_any_other(self, command, use_shelf, shelf, tmp_path):
        use_shelf(shelf)
        assert "tiny" in command("list").output
        assert command("pull", "tiny", "--to", tmp_path).code == 0
        assert {path.name for path in (tmp_path / "tiny").iterdir()} == set(zoo.ENTRY_FILES)


class TestRefused:
    """Before anything is exported, which takes a minute, and before anything is on the shelf."""

    @pytest.fixture
    def runs(self, finished_runs, tmp_path, monkeypatch):
        from auxzoo import export

        monkeypatch.setattr(
            export, "export_files", lambda *arguments, **options: pytest.fail("exported"), raising=False
        )
        return {arm: shutil.copytree(folder, tmp_path / arm) for arm, folder in finished_runs.items()}

    def assert_refused(self, auxiliary_run, plain_run, folder, message):
        shelf = make_shelf(folder / "shelf")
        with pytest.raises(auxzoo.UserError, match=message):
            publish.publish(auxiliary_run, plain_run, shelf)
        assert [path.name for path in shelf.iterdir()] == [zoo.INDEX_FILE]
        assert read_json(shelf / zoo.INDEX_FILE) == {}

    @pytest.mark.parametrize(
        "override", ["seed=1", "epochs=4", "data.validation_count=11", "objective.label_smoothing=0"]
    )
    def test_runs_that_differ_in_more_than_the_auxiliary(self, runs, tmp_path, override):
        path = runs["plain"] / "recipe.yaml"
        read_recipe(path, [override]).save(path)
        self.assert_refused(
            runs["auxiliary"], runs["plain"], tmp_path, "must be of the recipe of .* but for the auxiliary"
        )

    def test_runs_that_are_swapped(self, runs, tmp_path):
        self.assert_refused(runs["plain"], runs["auxiliary"], tmp_path, "plain` must be the run with the auxiliary")

    def test_the_same_run_twice(self, runs, tmp_path):
        self.assert_refused(
            runs["auxiliary"], runs["auxiliary"], tmp_path, "auxiliary` must be the run without the auxiliary"
        )

    @pytest.mark.parametrize("arm", ["auxiliary", "plain"])
    def test_a_run_that_is_not_finished(self, runs, tmp_path, arm):
        (runs[arm] / "metrics.json").unlink()
        self.assert_refused(runs["auxiliary"], runs["plain"], tmp_path, rf"{arm}/metrics.json` does not exist")

    def test_a_run_whose_weights_were_changed_since_they_were_measured(self, runs, tmp_path):
        models.ResNet18((16, 16, 3), 0.125, "small", num_classes=3).save_weights(runs["auxiliary"] / zoo.WEIGHTS_FILE)
        self.assert_refused(
            runs["auxiliary"],
            runs["plain"],
            tmp_path,
            r"model.weights.h5` is not the file that .*metrics.json speaks of",
        )

    def test_a_run_without_a_test_split(self, runs, tmp_path):
        path = runs["plain"] / "metrics.json"
        path.write_text(json.dumps(read_json(path) | {"test": None}))
        self.assert_refused(runs["auxiliary"], runs["plain"], tmp_path, "must be measured on a test split")


def test_a_large_loss_of_int8_wants_a_reason(finished_runs, tmp_path, monkeypatch):
    from auxzoo import export

    # In place of real files, which lose what they lose.
    accuracy = {"tflite_float32": 0.95, "tflite_int8": 0.93}
    records = [{"format": form, "accuracy": {"accuracy": value}} for form, value in accuracy.items()]
    monkeypatch.setattr(export, "export_files", lambda *arguments, **options: records, raising=False)
    shelf = make_shelf(tmp_path / "shelf")
    with pytest.raises(auxzoo.UserError, match=r"`int8_reason` must say why int8 loses 2.00 points, more than 1"):
        publish.publish(finished_runs["auxiliary"], finished_runs["plain"], shelf)
    assert [path.name for path in shelf.iterdir()] == [zoo.INDEX_FILE]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["one", "other"], "`recipe` must be a YAML file"),
        (["one"], "give two runs, or --renew NAME"),
        (["one", "other", "--renew", "tiny"], "give two runs, or --renew NAME"),
        (["one", "other", "--data-dir", "sets"], "--data-dir may be given only with --renew. Received: "),
        (["--renew", "tiny"], "index.json` does not exist"),
    ],
)
def test_as_a_program_it_tells_a_mistake_without_a_traceback(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["publish", *arguments, "--to", "shelf"])
    # As a module of its own name it is loaded already.
    monkeypatch.delitem(sys.modules, "auxzoo.publish")
    with pytest.raises(SystemExit) as stop:
        runpy.run_module("auxzoo.publish", run_name="__main__")
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
