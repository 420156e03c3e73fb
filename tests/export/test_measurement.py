"""What is measured on a file, against values computed by hand with a network whose logits are channel means."""

import dataclasses
import types

import keras
import numpy as np
import pytest

from auxzoo.data import ImageSet
from auxzoo.errors import UserError
from auxzoo.export import evaluate_file, measurement, open_file
from auxzoo.export.apart import FileApart
from auxzoo.export.fitting import images_for_outputs
from auxzoo.export.measurement import measure_latency, measure_parity
from auxzoo.export.outputs import outputs_of
from auxzoo.models import Description, Preprocessing, described
from auxzoo.tasks import Task

ALL = ["tflite_float32", "tflite_float16", "tflite_dynamic", "tflite_int8", "tflite_int8_float_io", "onnx"]


def pictures_of(colours, classes):
    """Returns an `ImageSet` of pictures of one colour each."""
    images = np.ones((len(colours), 4, 6, 3), "uint8") * np.array(colours, "uint8")[:, None, None]
    return ImageSet.from_arrays(images, classes, ("red", "green", "blue"), "colours")


@pytest.mark.parametrize("form", ALL)
def test_accuracy_is_the_share_of_right_answers(tiny, form):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 90, 10), (10, 90, 30)]
    images = pictures_of(colours, [0, 1, 2, 0, 2])  # the last is green: 4 of 5 are right
    result = evaluate_file(tiny.files[form], images, tiny.preprocessing)
    assert result == {"images": 5, "accuracy": 0.8, "source": "colours"}


def test_accuracy_uses_the_preprocessing(tiny):
    red = pictures_of([(255, 0, 0)], [0])
    inverted = dataclasses.replace(tiny.preprocessing, scale=(-1 / 127.5,) * 3, offset=(1.0,) * 3)
    assert evaluate_file(tiny.files["onnx"], red, tiny.preprocessing)["accuracy"] == 1
    assert evaluate_file(tiny.files["onnx"], red, inverted)["accuracy"] == 0


def test_every_batch_is_compared_with_its_own_truth(tiny):
    """The pictures are red but for the last 100, which are in the third batch."""
    colours, classes = [(9, 0, 0)] * 500 + [(0, 9, 0)] * 100, [0] * 500 + [1] * 100
    result = evaluate_file(tiny.files["tflite_float32"], pictures_of(colours, classes), tiny.preprocessing)
    assert (result["images"], result["accuracy"]) == (600, 1.0)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (("red", "blue", "green"), [0, 2, 1, -1]),  # in another order
        (("blue", "green"), [2, 1, 2, -1]),  # some alone
        (("rot", "blau", "gruen"), [0, 1, 2, -1]),  # others
        (("red", "blue", "blue"), [0, 1, 2, -1]),  # no name of its own
    ],
)
def test_classes_are_found_by_their_names(labels, expected):
    inputs = keras.Input((4, 6, 3))
    logits = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
    size = Preprocessing.by_convention("unit", 4, 6)
    colours = Task("colour", "classification", ("red", "green", "blue"))
    network = described(inputs, logits, Description((), size, (colours,)), "colours")
    classes = [0, 1, len(labels) - 1 if len(labels) > 2 else 0, -1]
    task = Task("sort", "classification", labels)
    number = Task("number", "regression")
    images = ImageSet.from_targets(
        np.zeros((4, 4, 6, 3), "uint8"), [task, number], {"sort": classes, "number": np.zeros((4, 4, 6))}
    ).with_tasks({"sort": "sort"})
    fitted = images_for_outputs(network, outputs_of(network), images)
    (numbers,) = fitted.targets.values()
    assert numbers.tolist() == expected


def test_one_task_is_taken_from_images_of_several_by_its_name():
    inputs = keras.Input((4, 6, 3))
    surface = Task("surface", "segmentation", ("red", "green", "blue"))
    description = Description((), Preprocessing.by_convention("unit", 4, 6), (surface,))
    network = described(inputs, keras.layers.Conv2D(3, 1)(inputs), description, "surfaces")
    tasks = [Task("number", "regression"), dataclasses.replace(surface, labels=("blue", "red"))]
    masks = np.random.default_rng(0).integers(0, 2, (2, 4, 6))
    images = ImageSet.from_targets(
        np.zeros((2, 4, 6, 3), "uint8"), tasks, {"number": np.zeros((2, 4, 6)), "surface": masks}
    )
    fitted = images_for_outputs(network, outputs_of(network), images)
    assert list(fitted.targets) == [task.name for task in fitted.tasks] == ["logits"]
    np.testing.assert_array_equal(fitted.targets["logits"], np.where(masks == 0, 2, 0))


@pytest.mark.parametrize("form", ["tflite_float32", "onnx"])
def test_parity_is_the_difference_to_what_is_expected(tiny, form):
    images = np.zeros((4, 4, 6, 3), "float32")
    images[0, ..., 0], images[1, ..., 1], images[2, ..., 2], images[3, ..., 0] = 1, 1, 1, 0.5
    expected = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0, 0]], "float32")
    outputs = outputs_of(tiny.network)
    exact = measure_parity(open_file(tiny.files[form]), images, {"logits": expected}, outputs)
    assert exact == {
        "images": 4,
        "largest_difference": pytest.approx(0, abs=1e-6),
        "mean_difference": pytest.approx(0, abs=1e-6),
        "same_prediction": 1.0,
    }
    expected[3] = [0.5, 0.75, -0.25]  # differences 0, 0.75, 0.25, and green instead of red
    assert measure_parity(open_file(tiny.files[form]), images, {"logits": expected}, outputs) == {
        "images": 4,
        "largest_difference": pytest.approx(0.75, abs=1e-6),
        "mean_difference": pytest.approx(1 / 12, abs=1e-6),
        "same_prediction": 0.75,
    }


def test_parity_images_are_the_first_256(tiny):
    images = pictures_of([(number % 256, 0, 0) for number in range(300)], [0] * 300)
    chosen = measurement.parity_images(images, tiny.preprocessing)
    assert chosen.shape == (256, 4, 6, 3)
    np.testing.assert_allclose(chosen[:, 0, 0, 0], np.arange(256) / 127.5 - 1, atol=1e-6)
    few = measurement.parity_images(pictures_of([(0, 0, 0)] * 3, [0] * 3), tiny.preprocessing)
    assert few.shape == (3, 4, 6, 3)
    assert measurement.parity_images(images, tiny.preprocessing, most=7).shape == (7, 4, 6, 3)


def test_latency_is_told_of_all_runs():
    file = types.SimpleNamespace(time_runs=lambda runs, warm_up: [1, 2, 4, 3, 10][:runs])
    # 95 % of the way through five sorted values: 0.8 from the fourth, 4, to the fifth, 10.
    assert measure_latency(file, runs=5) == {"median_ms": 3.0, "p95_ms": 8.8, "runs": 5, "threads": 1}


@pytest.mark.parametrize("form", ALL)
def test_latency_is_measured_on_every_kind_of_file(tiny, form):
    with FileApart(tiny.files[form]) as file:
        latency = measure_latency(file, runs=20, warm_up=1)
    # A run of so small a network may be shorter than a tick of the clock.
    assert 0 <= latency["median_ms"] <= latency["p95_ms"] < 1000
    assert (latency["runs"], latency["threads"]) == (20, 1)


class TestBadInput:
    def test_images_of_more_classes_than_logits(self, tiny):
        images = ImageSet.from_arrays(np.zeros((2, 4, 6, 3), "uint8"), np.array([0, 3]), ("a", "b", "c", "d"))
        with pytest.raises(UserError, match="must be of the images' 4 classes at least. Received: 3"):
            evaluate_file(tiny.files["onnx"], images, tiny.preprocessing)

    def test_preprocessing_of_another_network(self, tiny):
        wider = dataclasses.replace(tiny.preprocessing, width=7)
        for form in ("tflite_float32", "onnx"):
            with pytest.raises(UserError, match=r"`images` must be of shape \[count, 4, 6, 3\]"):
                evaluate_file(tiny.files[form], pictures_of([(0, 0, 0)], [0]), wider)

    def test_missing_file(self, tiny, tmp_path):
        with pytest.raises(UserError, match="is not a file"):
            evaluate_file(tmp_path / "gone.onnx", pictures_of([(0, 0, 0)], [0]), tiny.preprocessing)

    def test_file_changed_after_opening_does_not_matter(self, tiny, tmp_path):
        """The bytes that were opened are those that are measured."""
        image = np.random.default_rng(0).uniform(-1, 1, (1, 4, 6, 3)).astype("float32")
        for form in ("tflite_float32", "onnx"):
            path = tmp_path / tiny.files[form].name
            path.write_bytes(tiny.files[form].read_bytes())
            file = open_file(path)
            before = file.predict(image)
            path.write_bytes(b"")
            np.testing.assert_array_equal(file.predict(image), before)
