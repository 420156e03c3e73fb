"""Files with an output a task, and with classes or probabilities in place of logits."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import auxzoo
from auxzoo import models
from auxzoo.export import DEFAULT_FORMATS, FORMATS, export_files, open_file, to_onnx, to_tflite
from auxzoo.scores import Scores

COLOUR = auxzoo.Task("colour", "segmentation", ("red", "green", "blue"))
BRIGHTNESS = auxzoo.Task("brightness", "regression", scale=50.0)
SIZE = (24, 32, 3)
ACTIVATIONS = {None: "logits", "softmax": "probabilities", "argmax": "classes"}


def backbone():
    return models.MobileNetV2(SIZE, 0.35, total_stride=16, output_stride=8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, make_pictures, make_random):
    """A network with two dense tasks, whose heads have branches of the same dilation, and all its files."""
    network = make_random(models.MultiTask(backbone(), [COLOUR, BRIGHTNESS], channels=8))
    calibration, evaluation = (make_pictures(12, seed, tasks=[BRIGHTNESS, COLOUR]) for seed in (1, 2))
    folder = tmp_path_factory.mktemp("exported")
    records = export_files(network, folder, calibration=calibration, evaluation=evaluation, name="net")
    images = next(iter(evaluation.batches(models.describe(network).preprocessing, 12)))[0].numpy()
    return types.SimpleNamespace(
        network=network,
        records={record["format"]: record for record in records},
        files={form: folder / f"net{FORMATS[form].suffix}" for form in DEFAULT_FORMATS},
        evaluation=evaluation,
        images=images,
        expected={task: value.numpy() for task, value in network(images).items()},
    )


class TestSeveralTasks:
    def test_every_format_has_an_output_a_task(self, exported):
        for form, path in exported.files.items():
            tensors = open_file(path).tensors()
            assert {output["name"] for output in tensors["outputs"]} == {"colour", "brightness"}, form
            shapes = {output["name"]: output["shape"] for output in tensors["outputs"]}
            assert shapes == {"colour": [1, 24, 32, 3], "brightness": [1, 24, 32, 1]}, form
            assert exported.records[form]["outputs"] == tensors["outputs"], form

    @pytest.mark.parametrize("form", ["tflite_float32", "onnx"])
    def test_float_files_answer_as_keras(self, exported, form):
        received = open_file(exported.files[form]).predict(exported.images)
        assert received.keys() == exported.expected.keys()
        for task, expected in exported.expected.items():
            np.testing.assert_allclose(received[task], expected, atol=1e-4 * np.abs(expected).max())

    def test_dilated_convolutions_of_both_heads_are_plain_ones(self, exported):
        for form in DEFAULT_FORMATS:
            if form.startswith("tflite"):
                names = set(open_file(exported.files[form]).operators())
                assert "DEPTHWISE_CONV_2D" in names
                assert not {"SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"} & names, form
                assert not [name for name in names if name.startswith("Flex")], form

    def test_recorded_scores_and_parity_are_those_of_the_file(self, exported):
        evaluation = exported.evaluation.with_tasks({"colour": "colour", "brightness": "brightness"})
        for form, path in exported.files.items():
            received, record = open_file(path).predict(exported.images), exported.records[form]
            scores = Scores(evaluation, models.describe(exported.network).preprocessing)
            scores.update(received, 0)
            for name, value in scores.result().items():
                assert record["accuracy"][name] == pytest.approx(value, rel=1e-9), (form, name)
            for task, expected in exported.expected.items():
                difference = np.abs(received[task] - expected)
                # Keras' own answers differ in the last digits with the size of the batch.
                largest = record["parity"][task]["largest_difference"]
                assert largest == pytest.approx(difference.max(), rel=1e-3, abs=1e-4), (form, task)
            assert "same_prediction" in record["parity"]["colour"]
            assert "same_prediction" not in record["parity"]["brightness"]

    def test_images_that_lack_a_task(self, exported, make_pictures, tmp_path):
        with pytest.raises(auxzoo.UserError, match="`evaluation` must have truth for 'brightness'. Received: colour"):
            export_files(
                exported.network, tmp_path, ["onnx"], evaluation=make_pictures(4, seed=3, tasks=[COLOUR]), name="net"
            )
        assert not list(tmp_path.iterdir())

    def test_a_list_of_outputs_is_refused(self):
        inputs = keras.Input((4, 4, 3))
        model = keras.Model(inputs, [inputs[:, 0], inputs[:, 1]])
        with pytest.raises(auxzoo.UserError, match="one output or a dict of them by task. Received: 1 inputs, 2 outp"):
            to_onnx(model, "net.onnx")


class TestActivations:
    @pytest.fixture(scope="class", params=["classifier", "masks"])
    def network(self, request, make_random):
        if request.param == "classifier":
            return make_random(models.MobileNetV2(SIZE, 0.35, total_stride=16, num_classes=3))
        return make_random(models.DeepLabLite(backbone(), 3, channels=8))

    @pytest.fixture(scope="class")
    def images(self, make_pictures):
        preprocessing = models.Preprocessing(*SIZE[:2])
        return next(iter(make_pictures(12, seed=5).batches(preprocessing, 12)))[0].numpy()

    @pytest.mark.parametrize("activation", ACTIVATIONS)
    @pytest.mark.parametrize("form", ["tflite_float32", "tflite_int8", "onnx"])
    def test_the_file_gives_what_is_asked_for(self, network, images, tmp_path, activation, form):
        if form == "onnx":
            path = to_onnx(network, tmp_path / "net.onnx", activation=activation)
        else:
            quantization = FORMATS[form].quantization
            path = to_tflite(
                network,
                tmp_path / "net.tflite",
                quantization,
                calibration=images,
                activation=activation,
                calibration_source="made",
            )
        file = open_file(path)
        assert file.tensors()["output"]["name"] == ACTIVATIONS[activation]
        logits, received = network(images), file.predict(images)
        if activation == "argmax":
            assert received.dtype == np.int32
            assert (received == np.argmax(logits, axis=-1)).mean() > (0.6 if form == "tflite_int8" else 0.999)
            return
        expected = tf.nn.softmax(logits).numpy() if activation else logits.numpy()
        limit = 0.35 * expected.std() if form == "tflite_int8" else 1e-4 * np.abs(expected).max()
        assert np.abs(received - expected).mean() < limit

    def test_another_word(self, network):
        with pytest.raises(auxzoo.UserError, match="`activation` must be one of softmax, argmax or None. Received: 's"):
            to_onnx(network, "net.onnx", activation="sigmoid")

    def test_of_numbers_alone(self):
        network = models.MultiTask(backbone(), [BRIGHTNESS], channels=8)
        with pytest.raises(auxzoo.UserError, match="`activation` may be set only of a network with classes"):
            to_tflite(network, "net.tflite", activation="argmax")


def test_several_outputs_that_nothing_describes_are_called_by_their_keys(tmp_path):
    inputs = keras.Input((6, 8, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    outputs = {"second": keras.layers.Dense(2)(pooled), "first": keras.layers.Conv2D(3, 1)(inputs)}
    network = keras.Model(inputs, outputs, name="foreign")
    images = np.random.default_rng(0).normal(size=(2, 6, 8, 3)).astype("float32")
    for path in (to_tflite(network, tmp_path / "net.tflite"), to_onnx(network, tmp_path / "net.onnx")):
        received = open_file(path).predict(images)
        for key, expected in network(images).items():
            np.testing.assert_allclose(received[key], expected, atol=1e-5)
    with pytest.raises(auxzoo.UserError, match="`activation` of several outputs may be set only where a description"):
        to_onnx(network, tmp_path / "other.onnx", activation="argmax")


def test_a_description_tells_the_task_of_a_foreign_network(tmp_path):
    inputs = keras.Input((6, 8, 3))
    network = keras.Model(inputs, keras.layers.Conv2D(1, 1)(inputs), name="foreign")
    description = models.Description((), models.Preprocessing(6, 8), (BRIGHTNESS,))
    path = to_tflite(network, tmp_path / "net.tflite", description=description)
    assert open_file(path).tensors()["output"]["name"] == "brightness"
