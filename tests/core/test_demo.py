"""The demo, on fewer images and a small entry: the whole road, twice."""

import re
import socket

import pytest
import tensorflow as tf

import auxzoo
from auxzoo.export import DEFAULT_FORMATS, FORMATS, open_file
from auxzoo.files import read_json, sha256
from auxzoo.metrics import Accuracy

pytestmark = pytest.mark.slow

TRAIN_COUNT, TEST_COUNT = 256, 60


@pytest.fixture(scope="module")
def demos(command, shelf, tmp_path_factory):
    """How two runs of `auxzoo demo` ended, one after the other in the same folder, and that folder."""
    from auxzoo import demo
    from auxzoo.data import open_images

    def few_images(source, split):
        return open_images(source, split).sample(TRAIN_COUNT if split == "train" else TEST_COUNT, seed=0)

    def refuse(*arguments):
        raise OSError("the demo needs no network connection")

    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(demo, "EPOCHS", 1)
        patch.setattr(demo, "open_images", few_images)
        patch.setattr(socket.socket, "connect", refuse)
        for function in (auxzoo.models.zoo.entry_folder, auxzoo.models.zoo.load, auxzoo.models.zoo.read_index):
            *defaults, _ = function.__defaults__
            patch.setattr(function, "__defaults__", (*defaults, shelf))
        return folder, [command("demo"), command("demo")]


@pytest.fixture(params=[0, 1], ids=["first", "second"])
def ended(request, demos):
    """How one of the two ended, and its folder."""
    folder, outcomes = demos
    return outcomes[request.param], folder / "runs" / f"demo-00{request.param + 1}"


def table_of(outcome):
    """Returns the cells of the final table by the first cell of their row."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in outcome.output.splitlines()]
    return {row[0]: row[1:] for row in rows if row}


def test_it_ends_well_without_a_network_connection(ended):
    outcome, folder = ended
    assert outcome.code == 0, outcome
    assert str(folder.relative_to(folder.parents[1])) in outcome.output
    assert re.search(r"\d+ s on \d+ cores of ", outcome.output.splitlines()[-1])


def test_it_says_what_it_is_worth(ended):
    assert "one seed: an illustration, not evidence" in " ".join(ended[0].output.split())


def test_it_leaves_every_file_with_its_record_and_the_pictures(ended):
    _, folder = ended
    files = {f"fashion_mnist{form.suffix}" for form in (FORMATS[name] for name in DEFAULT_FORMATS)}
    pages = {"fashion_mnist.html", "predictions.png"}
    assert {path.name for path in folder.iterdir()} == files | {f"{file}.json" for file in files} | pages


def test_the_page_tells_every_file_and_shows_what_it_predicts(ended):
    _, folder = ended
    page = (folder / "fashion_mnist.html").read_text("utf-8")
    for form in (FORMATS[name] for name in DEFAULT_FORMATS):
        assert f"fashion_mnist{form.suffix}, 24 images" in page
    assert page.count("data:image/png;base64,") == len(DEFAULT_FORMATS)


def test_the_table_has_both_arms_and_every_file(ended):
    outcome, folder = ended
    table = table_of(outcome)
    parameters = {table[f"fine-tuned {arm} auxiliary (Keras)"][0] for arm in ("without", "with")}
    assert len(parameters) == 1, "the auxiliary changed the compact network"
    for form in (FORMATS[name] for name in DEFAULT_FORMATS):
        record = read_json(folder / f"fashion_mnist{form.suffix}.json")
        assert table[record["file"]] == [
            *("", "", f"{record['bytes'] / 1000:,.0f}"),
            f"{100 * record['accuracy']['accuracy']:.2f}",
            f"{record['latency']['median_ms']:.2f}",
        ]
    with_auxiliary = table["fine-tuned with auxiliary (Keras)"][3]
    assert with_auxiliary == f"{100 * record['keras_accuracy']:.2f}", "another network was exported"
    assert max(len(line) for line in outcome.output.splitlines() if "│" in line) <= 100


def test_a_pipe_gets_no_progress_bar(ended):
    outcome, _ = ended
    assert not {"\x1b", "\r", "\b"} & set(outcome.output)
    assert outcome.error == ""
    assert "accuracy: " in outcome.output, "the epochs are not told"


def test_the_figures_are_those_of_the_files_that_are_there(ended):
    _, folder = ended
    test = auxzoo.data.open_images("sample", "test").sample(TEST_COUNT, seed=0)
    preprocessing = auxzoo.models.Preprocessing(32, 32, fit="pad")
    for form in (FORMATS[name] for name in DEFAULT_FORMATS):
        path = folder / f"fashion_mnist{form.suffix}"
        record = read_json(f"{path}.json")
        assert record["sha256"] == sha256(path)
        accuracy = Accuracy()
        for images, classes in test.batches(preprocessing, 20):
            accuracy.update(open_file(path).predict(images.numpy()), classes.numpy())
        assert record["accuracy"]["accuracy"] == accuracy.result()
        assert record["accuracy"]["images"] == TEST_COUNT


def test_the_pictures_are_a_picture(ended):
    _, folder = ended
    picture = tf.io.decode_png((folder / "predictions.png").read_bytes(), channels=3).numpy()
    height, width, _ = picture.shape
    assert height > 400
    assert width > 800
    assert picture.std() > 20, "nothing is drawn"


def test_both_runs_gave_the_same_network(demos):
    # One seed: only the latencies may differ.
    folder, _ = demos
    for form in (FORMATS[name] for name in DEFAULT_FORMATS):
        records = [read_json(folder / "runs" / f"demo-00{n}" / f"fashion_mnist{form.suffix}.json") for n in (1, 2)]
        assert records[0]["accuracy"] == records[1]["accuracy"]
        assert records[0]["keras_accuracy"] == records[1]["keras_accuracy"]


def test_both_arms_are_worth_the_same_in_both_runs(demos):
    _, outcomes = demos
    first, second = (
        [line for line in outcome.output.splitlines() if re.search(r"loss: |auxiliary \(Keras\)", line)]
        for outcome in outcomes
    )
    seconds = re.compile(r"\d+(s|ms)\b(/step)?")
    assert [seconds.sub("", line) for line in first] == [seconds.sub("", line) for line in second]
