"""What may not be exported, told by name before any converter starts, and with nothing left behind."""

import dataclasses
import functools
import pickle
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import auxzoo
from auxzoo import models
from auxzoo.child_process import ChildFailed
from auxzoo.data import ImageSet
from auxzoo.errors import UserError
from auxzoo.export import export_files, files, to_onnx, to_tflite

SHAPE = (8, 10, 3)


class Sharpen(layers.Layer):
    def call(self, inputs):
        return inputs * 2.0


class Doubled(keras.Operation):
    def call(self, inputs):
        return inputs * 2.0

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape, inputs.dtype)


@pytest.fixture(autouse=True)
def no_child(monkeypatch):
    """Makes a child process fail at once: no test here may come so far."""
    monkeypatch.setattr("sys.executable", shutil.which("false"))


@pytest.fixture(scope="module")
def compact():
    return models.ResNet18(SHAPE, 0.125, "small", num_classes=3)


@pytest.fixture(scope="module")
def images(make_images):
    return make_images(12, size=9, seed=1)


def network_of(body, *inputs):
    inputs = [keras.Input(shape) for shape in inputs or [SHAPE]]
    outputs = body(*inputs)
    return keras.Model(inputs if len(inputs) > 1 else inputs[0], outputs, name="network")


def flat(x):
    return layers.Dense(3)(layers.GlobalAveragePooling2D()(x))


def joint():
    network = models.ResNet18(SHAPE, 0.125, "small", num_classes=3)
    return auxzoo.attach(network, auxzoo.Structure.default(network))


def foreign_joint():
    network = network_of(lambda x: flat(layers.Conv2D(4, 3, name="first")(x)))
    return auxzoo.attach(network, auxzoo.Structure.default(network, taps=["first"]))


def joint_inside():
    inner = foreign_joint()
    return network_of(lambda x: inner(x)["compact"])


def auxiliary_alone():
    network = joint()
    return keras.Model(network.input, network.output["auxiliary_stage1"])


def half_precision(dtype):
    return network_of(lambda x: layers.Conv2D(3, 3, dtype=dtype)(x))


def not_functional():
    class Network(keras.Model):
        def call(self, inputs):
            return inputs

    return Network()


def doubled(values):
    return 2 * values


class Halved(keras.regularizers.Regularizer):
    def __call__(self, values):
        return 0.5 * keras.ops.sum(values)

    def get_config(self):
        return {}


class OfMain(Halved):
    __module__ = "__main__"


HAND_OVER = r"`model` must be the compact network. Received: .*auxiliary; hand over the compact one, `auxzoo.detach"
MODELS = {
    "joint": (joint, HAND_OVER),
    "joint of a foreign network": (foreign_joint, HAND_OVER),
    "joint inside another": (joint_inside, HAND_OVER),
    "auxiliary alone": (auxiliary_alone, HAND_OVER),
    "nothing": (lambda: None, "`model` must be a functional keras.Model. Received: NoneType"),
    "name": (lambda: "resnet18", "`model` must be a functional keras.Model. Received: str"),
    "subclass": (not_functional, "`model` must be a functional keras.Model. Received: Network"),
    "sequential without a shape": (
        lambda: keras.Sequential([layers.GlobalAveragePooling2D()], name="open"),
        "`model` must be built: begin it with `keras.Input`. Received: 'open', a keras.Sequential",
    ),
    "lambda in a sequential": (
        lambda: keras.Sequential([keras.Input(SHAPE), layers.Lambda(lambda y: y * 2, name="double")]),
        "`model` must not hold a Lambda layer. Received: 'double'",
    ),
    "batch-norm of the batch": (
        lambda: network_of(lambda x: flat(layers.BatchNormalization(name="norm")(x, training=True))),
        "`model` must compute as at inference. Received: layer 'norm', called with training=True",
    ),
    "dropout at inference": (
        lambda: network_of(lambda x: flat(layers.Dropout(0.5, name="drop")(x, training=True))),
        "`model` must compute as at inference. Received: layer 'drop'",
    ),
    "two outputs": (
        lambda: network_of(lambda x: [flat(x), flat(x)]),
        "`model` must have one input, and one output or a dict of them by task. Received: 1 inputs, 2 outputs",
    ),
    "two inputs": (
        lambda: network_of(lambda x, y: flat(layers.Add()([x, y])), SHAPE, SHAPE),
        "`model` must have one input, and one output or a dict of them by task. Received: 2 inputs, 1 outputs",
    ),
    "open size": (
        lambda: network_of(flat, (None, None, 3)),
        r"`model` must have static shapes but for the batch. Received: .*None, None, 3",
    ),
    "open output": (
        lambda: network_of(lambda x: layers.Conv2D(3, 3)(x), (8, None, 3)),
        "`model` must have static shapes but for the batch",
    ),
    "lambda": (
        lambda: network_of(lambda x: flat(layers.Lambda(lambda y: y * 2, name="double")(x))),
        "`model` must not hold a Lambda layer. Received: 'double'",
    ),
    "nested lambda": (
        lambda: network_of(lambda x: flat(network_of(layers.Lambda(lambda y: y * 2, name="double"))(x))),
        "`model` must not hold a Lambda layer. Received: 'double'",
    ),
    "custom layer": (
        lambda: network_of(lambda x: flat(Sharpen(name="sharp")(x))),
        "`model` must be made of Keras' own layers. Received: 'sharp' of class Sharpen",
    ),
    "network of one's own class": (
        lambda: network_of(lambda x: flat(not_functional()(x))),
        "`model` must be made of Keras' own layers. Received: 'network.*' of class Network",
    ),
    "custom operation": (
        lambda: network_of(lambda x: flat(Doubled(name="twofold")(x))),
        "`model` must be made of Keras' own layers. Received: 'twofold' of class Doubled",
    ),
    "nested custom operation": (
        lambda: network_of(lambda x: flat(network_of(Doubled(name="twofold"))(x))),
        "`model` must be made of Keras' own layers. Received: 'twofold' of class Doubled",
    ),
    "activation of a lambda": (
        lambda: network_of(lambda x: flat(layers.Activation(lambda y: y * 2, name="twice")(x))),
        "`model` must be made of Keras' own parts. Received: 'twice' with a lambda; the child process",
    ),
    "activation of one's own": (
        lambda: network_of(lambda x: flat(layers.Conv2D(3, 3, activation=doubled, name="twice")(x))),
        "`model` must be made of Keras' own parts. Received: 'twice' with the function 'doubled'",
    ),
    "activation that is a partial": (
        lambda: network_of(
            lambda x: flat(layers.Activation(functools.partial(keras.activations.relu, max_value=3), name="three")(x))
        ),
        "`model` must be made of Keras' own parts. Received: 'three' with ",
    ),
    "regulariser that is a lambda": (
        lambda: network_of(lambda x: flat(layers.Conv2D(3, 3, kernel_regularizer=lambda y: 0.0, name="held")(x))),
        "`model` must be made of Keras' own parts. Received: 'held' with a",
    ),
    "regulariser of one's own program": (
        lambda: network_of(lambda x: flat(layers.Conv2D(3, 3, kernel_regularizer=OfMain(), name="held")(x))),
        "`model` must be made of Keras' own parts. Received: 'held' with an object of class OfMain",
    ),
    "regulariser of one's own": (
        lambda: network_of(lambda x: flat(layers.Conv2D(3, 3, kernel_regularizer=Halved(), name="held")(x))),
        "`model` must be made of Keras' own parts. Received: 'held' with an object of class Halved",
    ),
    **{
        name: (
            functools.partial(half_precision, name),
            rf"`model` must compute in float32; .*Received: layer 'conv2d.*' computes in {name.removeprefix('mixed_')}",
        )
        for name in ("mixed_float16", "mixed_bfloat16", "float64")
    },
}


@pytest.mark.parametrize("kind", MODELS)
def test_models_that_may_not_be_exported(kind, tmp_path):
    build, message = MODELS[kind]
    model = build()
    with pytest.raises(UserError, match=message):
        to_tflite(model, tmp_path / "a.tflite")
    with pytest.raises(UserError, match=message):
        to_onnx(model, tmp_path / "a.onnx")
    with pytest.raises(UserError, match=message):
        export_files(model, tmp_path / "out", ["onnx"])
    assert list(tmp_path.iterdir()) == []


def test_detached_network_may_be_exported(tmp_path):
    """The sentence above says so; the child that would convert it is stopped here."""
    with pytest.raises(ChildFailed):
        to_onnx(auxzoo.detach(joint()), tmp_path / "a.onnx")


class TestArgumentsOfOneFile:
    @pytest.mark.parametrize("quantization", ["int4", "INT8", "float32", 8, True])
    def test_unknown_quantization(self, compact, tmp_path, quantization):
        with pytest.raises(UserError, match=r"`quantization` must be one of None, 'float16', .*Received: "):
            to_tflite(compact, tmp_path / "a.tflite", quantization=quantization)

    @pytest.mark.parametrize("opset", [12, 19, 0, "17", 17.0, None])
    def test_unknown_opset(self, compact, tmp_path, opset):
        with pytest.raises(UserError, match=r"`opset` must be 13 to 18. Received: opset="):
            to_onnx(compact, tmp_path / "a.onnx", opset=opset)

    @pytest.mark.parametrize("name", ["a.onnx", "a", "a.tflite.gz", "tflite"])
    def test_suffix_of_tflite(self, compact, tmp_path, name):
        with pytest.raises(UserError, match=rf"`path` must end in .tflite. Received: `.*{name}`"):
            to_tflite(compact, tmp_path / name)

    @pytest.mark.parametrize("name", ["a.tflite", "a", "a.onnx.json"])
    def test_suffix_of_onnx(self, compact, tmp_path, name):
        with pytest.raises(UserError, match=rf"`path` must end in .onnx. Received: `.*{name}`"):
            to_onnx(compact, tmp_path / name)


def dataset_of(*batches):
    return tf.data.Dataset.from_generator(lambda: iter(batches), output_types=tf.float32)


NAN = np.full((2, *SHAPE), np.nan, "float32")
CALIBRATIONS = {
    "missing": (None, "`calibration` must be real images for int8. Received: none"),
    "no image": (np.zeros((0, *SHAPE)), r"`calibration` must be images of shape \[count, 8, 10, 3\]"),
    "one image without a batch": (np.zeros(SHAPE), r"`calibration` must be .*Received: shape \(8, 10, 3\)"),
    "turned": (np.zeros((2, 10, 8, 3)), r"`calibration` must be .*Received: shape \(2, 10, 8, 3\)"),
    "grey": (np.zeros((2, 8, 10, 1)), r"`calibration` must be .*Received: shape \(2, 8, 10, 1\)"),
    "nan": (NAN, "`calibration` must be finite numbers. Received: NaN or infinity"),
    "infinity": (np.full((2, *SHAPE), np.inf), "`calibration` must be finite numbers"),
    "ragged": ([np.zeros(SHAPE), np.zeros((2, 2, 3))], "`calibration` must be an ImageSet, .* or an array"),
    "text": ("train", "`calibration` must be an ImageSet, .* or an array. Received: could not convert"),
    "number": (3, "`calibration` must be "),
    "empty data set": (lambda: dataset_of(), r"`calibration` must be images of shape"),
    "data set of other shapes": (lambda: dataset_of(np.zeros((2, 4, 4, 3))), r"`calibration` must be .*\(2, 4, 4, 3\)"),
    "data set of mixed shapes": (
        lambda: dataset_of(np.zeros((2, *SHAPE)), np.zeros((2, 4, 4, 3))),
        "`calibration` must be an ImageSet",
    ),
    "one colour": (np.ones((200, *SHAPE)), "`calibration` must be real images. Received: one colour all over"),
    "uniform noise": (
        np.random.default_rng(0).uniform(-1, 1, (200, *SHAPE)),
        "`calibration` must be real images, not random numbers: .*pixels that correlate by -?0.0",
    ),
    "normal noise": (
        lambda: dataset_of(np.random.default_rng(0).normal(size=(200, *SHAPE))),
        "`calibration` must be real images, not random numbers",
    ),
    "pixels that nothing preprocessed": (
        np.linspace(0, 255, 80).reshape(1, 8, 10, 1) * np.ones((2, *SHAPE)),
        "`calibration` must be preprocessed images, with values from -1 to 1. Received: values from 0 to 255",
    ),
    "pixels of another range": (
        np.linspace(0, 1, 80).reshape(1, 8, 10, 1) * np.ones((2, *SHAPE)),
        "`calibration` must be .* from -1 to 1, dark ones and bright ones. Received: values from 0 to 1",
    ),
    "array from nowhere": (
        np.linspace(-1, 1, 80).reshape(1, 8, 10, 1) * np.ones((2, *SHAPE)),
        "`calibration_source` must tell where the images of a ndarray are from. Received: None",
    ),
    "data set with nan": (lambda: dataset_of(NAN), "`calibration` must be finite numbers"),
    "data set of dictionaries": (
        lambda: tf.data.Dataset.from_tensors({"image": np.zeros((2, *SHAPE))}),
        "`calibration` must be an ImageSet",
    ),
}


@pytest.mark.parametrize("quantization", ["int8", "int8_float_io"])
@pytest.mark.parametrize("kind", CALIBRATIONS)
def test_calibration_that_does_not_fit(compact, tmp_path, kind, quantization):
    calibration, message = CALIBRATIONS[kind]
    with pytest.raises(UserError, match=message):
        to_tflite(compact, tmp_path / "a.tflite", quantization, calibration() if callable(calibration) else calibration)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [(8, 10), (64, 80), (4, 5)])
def test_pictures_of_noise_of_any_size(compact, tmp_path, size):
    # Resizing makes neighbours alike.
    pictures = np.random.default_rng(0).integers(0, 256, (120, *size, 3)).astype("uint8")
    images = ImageSet.from_arrays(pictures, np.arange(120) % 3, ("a", "b", "c"), "noise")
    with pytest.raises(UserError, match="`calibration` must be real images, not random numbers"):
        to_tflite(compact, tmp_path / "a.tflite", "int8", images)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [99, 501, 0, -1, 200.0, True, None, "200"])
def test_calibration_count(compact, images, tmp_path, count):
    with pytest.raises(UserError, match="`calibration_count` must be 100 to 500. Received: "):
        to_tflite(compact, tmp_path / "a.tflite", "int8", images, calibration_count=count)


def test_calibration_without_a_description(images, tmp_path):
    foreign = network_of(flat)
    with pytest.raises(
        UserError, match=r"`description=auxzoo.models.Description\(...\)` or .* and the export commands"
    ):
        to_tflite(foreign, tmp_path / "a.tflite", "int8", images)
    description = models.Description((), models.Preprocessing(10, 8))
    with pytest.raises(UserError, match=r"`description` must make images of shape \(8, 10, 3\).*\(10, 8, 3\)"):
        to_tflite(foreign, tmp_path / "a.tflite", "int8", images, description)


class TestArgumentsOfManyFiles:
    @pytest.mark.parametrize(
        ("formats", "named"),
        [(["tflite_float32", "tflite_int4"], "tflite_int4"), ([], "none"), (["coreml", "onnx", "onx"], "coreml, onx")],
    )
    def test_unknown_format(self, compact, tmp_path, formats, named):
        with pytest.raises(
            UserError, match=rf"`formats` must be among tflite_float32, .*onnx_int8. Received: {named}$"
        ):
            export_files(compact, tmp_path / "out", formats)

    @pytest.mark.parametrize("calibration", [None, np.zeros((2, *SHAPE)), "train"])
    def test_missing_calibration(self, compact, images, tmp_path, calibration):
        with pytest.raises(UserError, match="`calibration` must be an ImageSet of real images"):
            export_files(compact, tmp_path / "out", ["onnx", "tflite_int8"], calibration=calibration, evaluation=images)

    def test_overlap(self, compact, images, tmp_path):
        rest, held_out = images.split(4, seed=0)
        message = "`calibration` and `evaluation` must have no image in common"
        for calibration, evaluation in ((images, images), (images, held_out), (images.sample(9, seed=1), rest)):
            with pytest.raises(UserError, match=message):
                export_files(compact, tmp_path / "out", calibration=calibration, evaluation=evaluation)
        with pytest.raises(ChildFailed):  # disjoint parts of one set may be used
            export_files(compact, tmp_path / "out", calibration=rest, evaluation=held_out)

    def test_copies_of_all_the_images_that_accuracy_is_measured_on(self, compact, images, tmp_path):
        copies = ImageSet.from_arrays(images.records[::-1], images.classes[::-1], images.labels, "copies")
        message = "`calibration` must be other images than accuracy is measured on. Received: copies, all of whose"
        with pytest.raises(UserError, match=message):
            export_files(compact, tmp_path / "out", calibration=copies, evaluation=images)
        assert not list(tmp_path.iterdir())

    def test_copies_among_the_images_are_passed_over(self, compact, images, make_images, tmp_path):
        others = make_images(5, size=9, seed=7)
        mixed = np.concatenate([images.records[3:6], others.records])
        classes = np.concatenate([images.classes[3:6], others.classes])
        mixed = ImageSet.from_arrays(mixed, classes, images.labels, "mixed")
        told = []
        with pytest.raises(ChildFailed):
            export_files(compact, tmp_path / "out", calibration=mixed, evaluation=images, progress=told.append)
        assert told[:2] == [
            "looking for images to calibrate on that are none of the 12 of the evaluation",
            "calibrating on 5 images, fewer than the 100 that are advised",
        ]

    def test_copies_of_all_that_layers_would_be_chosen_by(self, compact, images, make_images, tmp_path, monkeypatch):
        others = make_images(12, size=9, seed=7)
        monkeypatch.setattr(files, "tuning_part", lambda images, count: (others, images))
        copies = ImageSet.from_arrays(images.records[::-1], images.classes[::-1], images.labels, "copies")
        with pytest.raises(UserError, match="`calibration` must be other images than .*Received: copies, all of whose"):
            export_files(compact, tmp_path / "out", calibration=copies, evaluation=images, max_drop=1.0)
        assert not list(tmp_path.iterdir())

    def test_copies_of_what_layers_are_chosen_by_are_not_calibrated_on(
        self, compact, images, make_images, tmp_path, monkeypatch
    ):
        others = make_images(5, size=9, seed=7)
        mixed = np.concatenate([images.records[3:6], others.records])
        rest = ImageSet.from_arrays(mixed, np.concatenate([images.classes[3:6], others.classes]), images.labels)
        monkeypatch.setattr(files, "tuning_part", lambda calibration, count: (rest, images))
        told = []
        with pytest.raises(ChildFailed):
            export_files(compact, tmp_path / "out", calibration=rest, max_drop=1.0, progress=told.append)
        assert told[0] == "calibrating on 5 images, fewer than the 100 that are advised"

    @pytest.mark.parametrize("evaluation", [np.zeros((2, *SHAPE)), "test"])
    def test_evaluation_of_another_kind(self, compact, images, tmp_path, evaluation):
        with pytest.raises(UserError, match="`evaluation` must be an ImageSet. Received: "):
            export_files(compact, tmp_path / "out", calibration=images, evaluation=evaluation)

    @pytest.mark.parametrize("argument", ["evaluation", "calibration"])
    def test_images_of_other_classes(self, compact, images, make_images, tmp_path, argument):
        sets = {"calibration": images, argument: make_images(9, size=9, classes=5, seed=2)}
        message = f"`{argument}` must have as many classes as the network has logits, 3. Received: 5 classes in noise 2"
        with pytest.raises(UserError, match=message):
            export_files(compact, tmp_path / "out", **sets, max_drop=1.0)

    def test_no_description_and_one_of_another_size(self, compact, tmp_path):
        with pytest.raises(UserError, match=r"`model` must be a network that carries a description"):
            export_files(network_of(flat), tmp_path / "out", ["onnx"])
        description = auxzoo.describe(compact)
        other = dataclasses.replace(description, preprocessing=models.Preprocessing(32, 32))
        with pytest.raises(UserError, match=r"`description` must make images of shape \(8, 10, 3\)"):
            export_files(compact, tmp_path / "out", ["onnx"], description=other)

    def test_a_folder_that_is_a_file(self, compact, tmp_path):
        (tmp_path / "out").write_text("mine")
        with pytest.raises(UserError, match="`folder` must be a folder. Received: `.*out`, a file"):
            export_files(compact, tmp_path / "out", ["onnx"])
        assert (tmp_path / "out").read_text() == "mine"

    def test_nothing_is_left_behind(self, compact, tmp_path):
        for arguments in ({"formats": ["what"]}, {"formats": ["tflite_int8"]}, {"evaluation": "test"}):
            with pytest.raises(UserError):
                export_files(compact, tmp_path / "out", **arguments)
        assert list(tmp_path.iterdir()) == []


class TestCalibrationThatFits:
    """What the converter gets, of each kind of calibration that is allowed."""

    @pytest.fixture
    def make_smooth(self):
        """A function that returns an array of pictures that grow brighter from the left to the right."""

        def smooth(count, seed=0):
            starts, slopes = np.random.default_rng(seed).uniform(-0.5, 0.5, (2, count, 1, 1, 3))
            return np.broadcast_to(starts + slopes * np.linspace(-1, 1, 10)[:, None], (count, *SHAPE)).astype("float32")

        return smooth

    @pytest.fixture
    def calibrated(self, compact, tmp_path, monkeypatch):
        """A function that returns the images that a calibration hands to the child process."""
        script = tmp_path / "python"
        script.write_text(f'#!/bin/sh\nfor folder; do :; done\ncp "$folder/conversion.pickle" "{tmp_path}"; exit 1\n')
        script.chmod(0o755)
        monkeypatch.setattr("sys.executable", str(script))

        def images_of(calibration, **arguments):
            with pytest.raises(ChildFailed):
                to_tflite(compact, tmp_path / "a.tflite", "int8", calibration, calibration_source="mine", **arguments)
            return pickle.loads((tmp_path / "conversion.pickle").read_bytes()).calibration

        return images_of

    def test_image_set_is_preprocessed_and_sampled(self, compact, calibrated, make_images):
        images = make_images(250, size=9, seed=1)
        received = calibrated(images)
        chosen = images.sample(200, seed=0)
        expected = next(iter(chosen.batches(auxzoo.describe(compact).preprocessing, 200)))[0]
        assert received.dtype == np.float32
        np.testing.assert_array_equal(received, expected)

    def test_array_of_many_is_sampled_from_all_of_it(self, calibrated):
        """The first 200 might all be of one class."""
        array = np.linspace(-1, 1, 1000)[:, None, None, None] * np.ones((1, *SHAPE))
        places = np.round(calibrated(array)[:, 0, 0, 0] * 499.5 + 499.5)
        assert len(set(places)) == 200
        assert list(places) == sorted(places)
        assert min(places) < 50
        assert max(places) > 950

    @pytest.mark.parametrize("count", [100, 350])
    def test_as_many_as_are_asked_for(self, calibrated, make_smooth, count):
        assert len(calibrated(make_smooth(400), calibration_count=count)) == count

    def test_small_array_is_taken_whole(self, calibrated, make_smooth):
        array = make_smooth(7)
        np.testing.assert_array_equal(calibrated(array), array)

    @pytest.mark.parametrize("labelled", [True, False])
    def test_data_set_even_without_an_end(self, calibrated, make_smooth, labelled):
        array = make_smooth(64)
        dataset = tf.data.Dataset.from_tensor_slices((array, np.arange(64)) if labelled else array)
        received = calibrated(dataset.batch(48).repeat())
        np.testing.assert_array_equal(received, np.concatenate([array] * 4)[:200])
