"""Files with an output a task, and with classes or probabilities in place of logits."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import auxzoo
from auxzoo import models
from auxzoo.export import FORMATS, export_files, open_file, read_model_file, to_onnx, to_tflite

COLOUR = auxzoo.Task("colour", "segmentation", ("red", "green", "blue"))
BRIGHTNESS = auxzoo.Task("brightness", "regression", unit="lm", scale=50.0)
SIZE = (24, 32, 3)
ACTIVATIONS = {"softmax": "probabilities", "argmax": "classes"}
FORMS = ["tflite_float32", "tflite_int8", "onnx"]


def backbone():
    return models.MobileNetV2(SIZE, 0.35, total_stride=16, output_stride=8)


class TestSeveralTasks:
    @pytest.mark.parametrize(
        ("tasks", "message"),
        [
            ([COLOUR], r"must have truth for brightness, a regression, .*: colour \(segmentation\) in colours 3"),
            (
                [COLOUR, auxzoo.Task("brightness", "regression", unit="klm")],
                "must have brightness in lm, as .* has; `factor` of a target converts. Received: klm in colours 3",
            ),
        ],
        ids=["a task less", "another unit"],
    )
    def test_images_that_do_not_fit(self, shallow_networks, make_pictures, tmp_path, tasks, message):
        network = models.MultiTask(backbone(), [COLOUR, BRIGHTNESS], channels=8)
        images = make_pictures(4, seed=3, tasks=tasks)
        with pytest.raises(auxzoo.UserError, match=f"`evaluation` {message}"):
            export_files(network, tmp_path, ["onnx"], evaluation=images, name="net")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("tasks", "message"),
        [
            ([COLOUR], "must tell of each output of 'multi', colour, brightness. Received: colour"),
            (
                [COLOUR, auxzoo.Task("depth", "regression")],
                "must tell of each output of 'multi', .*Received: colour, depth",
            ),
            (
                [auxzoo.Task("colour", "segmentation", ("a", "b")), BRIGHTNESS],
                "must fit the output of shape .*3. for 'colour'. Received: a segmentation of 2 classes",
            ),
            ([auxzoo.Task("colour", "regression"), BRIGHTNESS], ".* for 'colour'. Received: a regression"),
            ([auxzoo.Task("colour", "classification"), BRIGHTNESS], ".* for 'colour'. Received: a classification"),
        ],
    )
    def test_a_description_of_other_outputs_is_refused(self, tmp_path, tasks, message):
        inputs = keras.Input((8, 8, 3))
        outputs = {"colour": keras.layers.Conv2D(3, 1)(inputs), "brightness": keras.layers.Conv2D(1, 1)(inputs)}
        description = models.Description((), models.Preprocessing(8, 8), tuple(tasks))
        with pytest.raises(auxzoo.UserError, match=f"`description` {message}"):
            to_onnx(keras.Model(inputs, outputs, name="multi"), tmp_path / "a.onnx", description=description)
        assert not list(tmp_path.iterdir())

    def test_two_tasks_of_one_output_are_refused(self, tmp_path):
        inputs = keras.Input((8, 8, 3))
        network = keras.Model(inputs, keras.layers.Conv2D(1, 1)(inputs), name="single")
        description = models.Description((), models.Preprocessing(8, 8), (COLOUR, BRIGHTNESS))
        with pytest.raises(
            auxzoo.UserError, match="each output of 'single', one that is no dict. Received: colour, br"
        ):
            to_onnx(network, tmp_path / "a.onnx", description=description)

    def test_a_list_of_outputs_is_refused(self):
        inputs = keras.Input((4, 4, 3))
        model = keras.Model(inputs, [inputs[:, 0], inputs[:, 1]])
        with pytest.raises(auxzoo.UserError, match="one output or a dict of them by task. Received: 1 inputs, 2 outp"):
            to_onnx(model, "net.onnx")


class TestActivations:
    @pytest.fixture(scope="class", params=["classifier", "masks", "masks and numbers"])
    @classmethod
    def network(cls, request, shallow_networks, make_random):
        if request.param == "classifier":
            return make_random(models.MobileNetV2(SIZE, 0.35, total_stride=16, num_classes=3))
        if request.param == "masks and numbers":
            return make_random(models.MultiTask(backbone(), [COLOUR, BRIGHTNESS], channels=8))
        return make_random(models.DeepLabLite(backbone(), 3, channels=8))

    @pytest.fixture(scope="class")
    @classmethod
    def pictures(cls, make_pictures):
        return make_pictures(12, seed=5)

    @pytest.fixture(scope="class", params=ACTIVATIONS)
    @classmethod
    def exported(cls, request, network, pictures, tmp_path_factory):
        """An activation, and the files of a network that have it: what has none is the common test case's."""
        folder = tmp_path_factory.mktemp("activations")
        export_files(network, folder, FORMS, calibration=pictures, activation=request.param, name="net")
        return request.param, {form: folder / f"net{FORMATS[form].suffix}" for form in FORMS}

    @pytest.mark.slow
    @pytest.mark.parametrize("form", FORMS)
    def test_the_file_gives_what_is_asked_for(self, network, pictures, exported, form):
        activation, files = exported
        images = next(iter(pictures.batches(models.describe(network).preprocessing, 12)))[0].numpy()
        file, answers = open_file(files[form]), network(images)
        names = read_model_file(files[form]).operator_counts()
        assert not [name for name in names if name.startswith(("Flex", "SPACE_TO_BATCH", "BATCH_TO_SPACE"))]
        logits, received = answers, file.predict(images)
        if isinstance(answers, dict):
            assert {output["name"] for output in file.tensors()["outputs"]} == {"colour", "brightness"}
            logits, numbers, received = answers["colour"], received["brightness"], received["colour"]
            expected = answers["brightness"].numpy()  # numbers are as they are, whatever is asked for of classes
            limit = 0.35 * expected.std() if form == "tflite_int8" else 1e-4 * np.abs(expected).max()
            assert np.abs(numbers - expected).mean() < limit
        else:
            assert file.tensors()["output"]["name"] == ACTIVATIONS[activation]
        if activation == "argmax":
            assert received.dtype == np.int32
            assert (received == np.argmax(logits, axis=-1)).mean() > (0.6 if form == "tflite_int8" else 0.999)
            return
        expected = tf.nn.softmax(logits).numpy()
        limit = 0.35 * expected.std() if form == "tflite_int8" else 1e-4 * np.abs(expected).max()
        assert np.abs(received - expected).mean() < limit

    @pytest.mark.slow
    def test_a_single_file_takes_it_as_well(self, tmp_path):
        """A TFLite file; of ONNX files the tests of metadata tell."""
        inputs = keras.Input((6, 8, 3))
        pooled = keras.layers.GlobalAveragePooling2D()(inputs)
        network = keras.Model(inputs, keras.layers.Dense(3)(pooled), name="small")
        images = np.random.default_rng(0).normal(size=(4, 6, 8, 3)).astype("float32")
        received = open_file(to_tflite(network, tmp_path / "net.tflite", activation="argmax")).predict(images)
        np.testing.assert_array_equal(received, np.argmax(network(images), axis=-1))

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
