"""The converter's child process: quiet, and leaving nothing behind when it fails."""

import hashlib
import json
import sys
import tempfile

import keras
import numpy as np
import onnx
import pytest
from keras import layers

from auxzoo import models
from auxzoo.child_process import ChildFailed
from auxzoo.command_line import main
from auxzoo.errors import UserError
from auxzoo.export import (
    export_files,
    open_file,
    quantization_report,
    read_metadata,
    record,
    to_onnx,
    to_tflite,
    whole_export,
)
from auxzoo.export.apart import FileApart
from auxzoo.export.conversion import Conversion, convert
from auxzoo.export.model_file import read_model_file
from auxzoo.export.outputs import outputs_of
from auxzoo.export.record import keras_reference


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder of temporary folders, seen while a test runs."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def python_that(tmp_path, monkeypatch):
    """A function that puts a shell script in the place of the child's Python."""

    def use(line):
        script = tmp_path / "python"
        script.write_text(f"#!/bin/sh\n{line}\n")
        script.chmod(0o755)
        monkeypatch.setattr("sys.executable", str(script))

    return use


@pytest.fixture
def network():
    inputs = keras.Input((4, 6, 3))
    x = layers.BatchNormalization()(layers.Conv2D(2, 3)(inputs))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)), name="small")


def smooth(count):
    """Pictures that grow brighter from the left to the right."""
    starts, slopes = np.random.default_rng(0).uniform(-0.5, 0.5, (2, count, 1, 1, 3))
    return np.broadcast_to(starts + slopes * np.linspace(-1, 1, 6)[:, None], (count, 4, 6, 3)).astype("float32")


def contents(folder):
    """Returns the paths in a folder, without the code that TensorFlow writes when it first traces a function here."""
    paths = (str(path.relative_to(folder)) for path in folder.rglob("*"))
    return sorted(path for path in paths if not path.startswith(("__autograph", "__pycache__")))


@pytest.mark.slow
def test_a_sequential_network_gives_the_files_of_the_functional_one(network, tmp_path):
    sequential = keras.Sequential([keras.Input((4, 6, 3)), *network.layers[1:]], name="small")
    records = {}
    for name, model in (("functional", network), ("sequential", sequential)):
        path = to_tflite(model, tmp_path / f"{name}.tflite")
        records[name] = json.loads(path.with_name(f"{path.name}.json").read_text())
    assert records["functional"]["operators"] == records["sequential"]["operators"]
    images = smooth(2)
    for path in sorted(tmp_path.glob("*.tflite")):
        np.testing.assert_allclose(open_file(path).predict(images), network.predict(images, verbose=0), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("labels", [(), ("a", "b", "c")])
def test_classes_without_names_are_called_as_in_the_images(tmp_path, make_images, labels):
    network = models.ResNet18((8, 8, 3), 0.125, "small", num_classes=3, labels=labels)
    export_files(network, tmp_path, ["tflite_float32"], evaluation=make_images(12), name="net")
    (task,) = read_metadata(tmp_path / "net_float32.tflite")["tasks"]
    assert task["labels"] == list(labels or ("class 0", "class 1", "class 2"))


def resized_by_area():
    """A network that TFLite has no operator for, and of which tf2onnx makes something else."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Resizing(5, 5, interpolation="area")(layers.Conv2D(4, 3)(inputs))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)), name="area")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "name", "reason"),
    [
        (to_onnx, "a.onnx", "the converter made something else of the network: logits differs from Keras by up to"),
        (to_tflite, "a.tflite", "the converter does not take the network: .*ResizeArea"),
    ],
)
def test_a_network_that_a_converter_gets_wrong_is_refused(tmp_path, write, name, reason):
    with pytest.raises(UserError, match=f"`{name}` cannot be made: {reason}"):
        write(resized_by_area(), tmp_path / name)
    assert contents(tmp_path) == []


@pytest.mark.slow
def test_a_format_that_is_wrong_is_refused_and_the_others_are_written(tiny, tmp_path, monkeypatch):
    real = whole_export.difference_too_large
    monkeypatch.setattr(whole_export, "difference_too_large", lambda form, *rest: real(form, *rest) or OTHER.get(form))
    (tmp_path / "net.onnx").write_text("of an earlier export")
    forms = ["tflite_float32", "onnx"]
    records = export_files(tiny.network, tmp_path, forms, description=tiny.description, name="net")
    assert [record.get("refused") for record in records] == [None, OTHER["onnx"]]
    assert contents(tmp_path) == ["net.onnx.json", "net_float32.tflite", "net_float32.tflite.json"]


OTHER = {"onnx": "it is something else"}


@pytest.mark.parametrize(("share", "is_refused"), [(1.0, False), (0.95, False), (0.5, True)])
def test_classes_that_are_others_than_keras_are_refused(share, is_refused):
    classes = np.arange(20).reshape(2, 10)
    reference = record.Reference(np.zeros((2, 4, 4, 3)), "made", {"logits": classes}, None)
    reason = record.difference_too_large("onnx", {"images": 2, "same_prediction": share}, reference)
    assert (reason is not None) == is_refused
    if is_refused:
        assert reason.endswith("50% of the classes are those of Keras")


@pytest.mark.slow
def test_a_file_that_kills_the_runtime_is_refused_and_the_others_are_written(tiny, tmp_path, monkeypatch):
    class Killed(FileApart):
        def time_runs(self, runs, warm_up):
            if self.path.suffix == ".onnx":
                self._child.kill()
            return super().time_runs(runs, warm_up)

    monkeypatch.setattr(record, "FileApart", Killed)
    records = export_files(tiny.network, tmp_path, ["tflite_float32", "onnx"], description=tiny.description, name="net")
    refused = "`net.onnx` cannot be run: it kills the runtime (SIGKILL)"
    assert [record.get("refused") for record in records] == [None, refused]
    assert contents(tmp_path) == ["net.onnx.json", "net_float32.tflite", "net_float32.tflite.json"]
    with pytest.raises(UserError, match=r"`net.onnx` cannot be made: `net.onnx` cannot be run: it kills the runtime"):
        export_files(tiny.network, tmp_path / "alone", ["onnx"], description=tiny.description, name="net")
    assert not (tmp_path / "alone").exists() or contents(tmp_path / "alone") == []


@pytest.mark.slow
def test_a_network_of_ours_may_be_a_layer(tmp_path):
    network = keras.Sequential([models.ResNet18((8, 8, 3), 0.125, "small"), layers.GlobalAveragePooling2D()])
    images = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3)).astype("float32")
    path = to_tflite(network, tmp_path / "a.tflite")
    np.testing.assert_allclose(open_file(path).predict(images), network.predict(images, verbose=0), atol=1e-5)


def test_what_takes_no_pictures_is_told(tmp_path):
    network = keras.Sequential([keras.Input((10,)), layers.Dense(2)])
    with pytest.raises(
        UserError, match="must take .rows, columns, channels. for formats that are calibrated. Received"
    ):
        to_tflite(network, tmp_path / "a.tflite", "int8", np.ones((200, 10), "float32"), calibration_source="made")
    with pytest.raises(UserError, match="must take .rows, columns, channels. for ONNX files with channels first"):
        to_onnx(network, tmp_path / "a.onnx", layout="nchw")


@pytest.mark.slow
def test_nothing_is_printed(network, tmp_path, capfd, recwarn):
    to_tflite(network, tmp_path / "a.tflite", quantization="int8", calibration=smooth(2), calibration_source="made")
    path = to_onnx(network, str(tmp_path / "new" / "folder" / "b.onnx"), opset=15)
    assert capfd.readouterr() == ("", "")
    # Python itself shows no DeprecationWarning of libraries.
    assert not [str(warning.message) for warning in recwarn if not issubclass(warning.category, DeprecationWarning)]
    assert path == tmp_path / "new" / "folder" / "b.onnx"
    assert contents(tmp_path) == [
        "a.tflite",
        "a.tflite.json",
        "new",
        "new/folder",
        "new/folder/b.onnx",
        "new/folder/b.onnx.json",
    ]
    assert [opset.version for opset in onnx.load(path).opset_import if opset.domain == ""] == [15]


def test_many_exports_in_one_process_do_not_make_tensorflow_warn(capfd, caplog):
    """It counts functions that are traced again and again; from the fifth on it would print a paragraph."""
    images = np.zeros((2, 4, 6, 3), "float32")
    for _ in range(7):
        inputs = keras.Input((4, 6, 3))
        network = keras.Model(inputs, layers.Flatten()(inputs))
        keras_reference(network, outputs_of(network), images)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def test_records_of_single_files_say_what_they_were_compared_on(network, tmp_path):
    calibration = smooth(5)
    path = to_tflite(
        network, tmp_path / "a.tflite", quantization="int8", calibration=calibration, calibration_source="made here"
    )
    record = json.loads((tmp_path / "a.tflite.json").read_text())
    assert record["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["calibration"]["source"] == "made here"
    assert record["calibration"]["count"] == 5
    assert record["calibration"]["sha256"] == hashlib.sha256(calibration.tobytes()).hexdigest()
    assert record["parity"]["source"] == "calibration images"
    expected = network(calibration).numpy()
    difference = np.abs(open_file(path).predict(calibration) - expected).max()
    assert record["parity"]["largest_difference"] == pytest.approx(difference, rel=1e-3, abs=1e-5)
    assert record["accuracy"] is record["keras_accuracy"] is None


@pytest.mark.slow
def test_same_network_same_bytes(network, tmp_path):
    """Whatever else was built in the process in between; and an old file is replaced."""
    weights = network.get_weights()
    first = to_tflite(network, tmp_path / "a.tflite").read_bytes()
    for _ in range(12):
        keras.Model(network.inputs, network.outputs)
    (tmp_path / "b.tflite").write_bytes(b"old")
    assert to_tflite(network, tmp_path / "b.tflite").read_bytes() == first
    for before, after in zip(weights, network.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_job_that_fails_half_way_leaves_nothing(network, tmp_path, temporary):
    target = tmp_path / "out"
    paths = {"tflite_float32": target / "a.tflite", "unheard_of": target / "b.tflite"}
    with pytest.raises(ChildFailed, match=r"(?s)failed. The end of its log:.*KeyError: 'unheard_of'") as raised:
        convert(Conversion(network, paths, outputs_of(network)))
    assert len(str(raised.value).splitlines()) < 20, "the whole log is no message"
    assert not target.exists()
    assert contents(temporary) == []


def test_a_killed_child_leaves_nothing(tiny, make_pictures, tmp_path, temporary, python_that, capfd):
    python_that("kill -9 $$")
    with pytest.raises(ChildFailed, match="was killed by signal 9"):
        to_onnx(tiny.network, tmp_path / "out" / "a.onnx")
    with pytest.raises(ChildFailed, match="was killed by signal 9"):
        export_files(tiny.network, tmp_path / "out", ["onnx", "tflite_float32"], description=tiny.description)
    with pytest.raises(ChildFailed, match="was killed by signal 9"):
        quantization_report(tiny.network, tmp_path / "out", make_pictures(20, 1), description=tiny.description)
    assert not (tmp_path / "out").exists()
    assert contents(temporary) == []
    assert capfd.readouterr() == ("", "")


def test_a_child_killed_in_the_middle_leaves_the_files_of_an_earlier_export(tmp_path, temporary, python_that, capsys):
    """It is killed when it has written one of two files."""
    models.ResNet18((8, 10, 3), 0.125, "small", num_classes=3).save(tmp_path / "net.keras")
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("net_float32.tflite", "net_float32.tflite.json", "net.onnx", "net.onnx.json", "net.html"):
        (folder / name).write_text(f"earlier {name}")
    before = {path.name: path.read_text() for path in folder.iterdir()}
    wait = 'kill -0 $$ && [ ! -e "$folder/tflite_float32" ]'
    python_that(
        f'for folder; do :; done; (while {wait}; do sleep 0.02; done; kill -9 $$) & exec "{sys.executable}" "$@"'
    )
    formats = ["--formats", "tflite_float32,onnx", "--no-accuracy"]
    assert main(["export", str(tmp_path / "net.keras"), "--to", str(folder), "--overwrite", *formats]) == 1
    told = capsys.readouterr()
    assert told.out.splitlines()[:2] == ["  converting to 2 formats ...", "  converting tflite_float32 ..."]
    assert "auxzoo export: The child process auxzoo.export.conversion was killed by signal 9" in told.err
    assert {path.name: path.read_text() for path in folder.iterdir()} == before
    assert contents(temporary) == []


def test_a_child_that_fails_tells_the_end_of_its_log(tiny, tmp_path, python_that):
    python_that("seq 100; echo the reason >&2; exit 3")
    with pytest.raises(ChildFailed, match="failed") as raised:
        to_onnx(tiny.network, tmp_path / "a.onnx")
    lines = str(raised.value).splitlines()
    assert lines[-2:] == ["100", "the reason"]
    assert "50" not in lines


def test_a_failure_leaves_the_old_file(tiny, tmp_path, python_that):
    (tmp_path / "a.onnx").write_bytes(b"old")
    python_that("exit 1")
    with pytest.raises(ChildFailed):
        to_onnx(tiny.network, tmp_path / "a.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == b"old"
    assert contents(tmp_path) == ["a.onnx", "python"]


def test_a_place_that_cannot_be_written_takes_the_others_back(network, tmp_path, temporary):
    (tmp_path / "out" / "net.onnx").mkdir(parents=True)
    description = models.Description((), models.Preprocessing(4, 6))
    with pytest.raises(UserError, match=r"net.onnx` cannot be written: "):
        export_files(network, tmp_path / "out", ["tflite_float32", "onnx"], description=description, name="net")
    assert contents(temporary) == []
    assert contents(tmp_path / "out") == ["net.onnx"]


class TestNetworksOfOtherKinds:
    """Graphs that converters are known to stumble over: each as ONNX and TFLite, equal to Keras."""

    @staticmethod
    def check(network, folder, shape):
        images = np.random.default_rng(0).normal(size=(4, *shape)).astype("float32")
        description = models.Description((), models.Preprocessing(*shape[:2]))
        export_files(network, folder, ["tflite_float32", "onnx"], description=description, name="net")
        expected = keras.tree.flatten(network(images))[0]
        assert np.std(expected) > 1e-3, "the comparison would see nothing"
        for name in ("net_float32.tflite", "net.onnx"):
            received = open_file(folder / name).predict(images)
            np.testing.assert_allclose(received, expected, atol=1e-5, err_msg=name)
        onnx.checker.check_model(folder / "net.onnx", full_check=True)

    def test_adapted_normalization_and_sizes_that_do_not_divide(self, tmp_path):
        """Statistics that are no variables must not become inputs; 5 rows times 7.2 must be 36 rows."""
        normalization = layers.Normalization()
        normalization.adapt(np.random.default_rng(0).normal(3, 2, (20, 5, 7, 3)).astype("float32"))
        inputs = keras.Input((5, 7, 3))
        x = layers.Conv2D(2, 3, padding="same")(normalization(inputs))
        network = keras.Model(inputs, {"heights": layers.Resizing(36, 45)(x)})
        self.check(network, tmp_path, (5, 7, 3))
        assert open_file(tmp_path / "net.onnx").tensors()["output"] == {
            "name": "logits",
            "shape": [1, 36, 45, 2],
            "type": "tensor(float)",
        }

    def test_fixed_batch_dropout_nested_and_bare_operations(self, tmp_path, make_random):
        inner_inputs = keras.Input((8, 10, 3))
        x = layers.BatchNormalization()(layers.DepthwiseConv2D(3, depth_multiplier=2, dilation_rate=2)(inner_inputs))
        inner = keras.Model(inner_inputs, layers.Dropout(0.5)(x))
        inputs = keras.Input(batch_shape=(4, 8, 10, 3))
        x = layers.PReLU(shared_axes=(1, 2))(inner(inputs))
        x = keras.ops.mean(x[:, :, ::2], axis=(1, 2)) * 2
        self.check(make_random(keras.Model(inputs, layers.Dense(3)(x))), tmp_path, (8, 10, 3))

    def test_residual_blocks_that_normalize_first(self, tmp_path, make_random):
        """As those of ResNet50V2: batch-norm that no convolution takes in, padding of its own, a pooled shortcut."""
        inputs = keras.Input((13, 17, 3))
        shortcut = layers.Conv2D(8, 3, padding="same")(inputs)
        x = layers.ReLU()(layers.BatchNormalization()(shortcut))
        x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 1, use_bias=False)(x)))
        x = layers.Conv2D(8, 3, strides=2, use_bias=False)(layers.ZeroPadding2D()(x))
        x = layers.Add()([layers.MaxPooling2D(1, strides=2)(shortcut), x])
        x = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.BatchNormalization()(x)))
        self.check(make_random(keras.Model(inputs, layers.Dense(3)(x))), tmp_path, (13, 17, 3))

    def test_stages_of_one_pixel_leave_no_idle_reshape(self, tmp_path, make_random):
        """tf2onnx makes transpositions of maps of one pixel reshapes, of which some stay."""
        network = models.MobileNetV2((32, 32, 3), 0.35, num_classes=3)
        self.check(make_random(network), tmp_path, (32, 32, 3))
        operators = read_model_file(tmp_path / "net.onnx").operator_counts()
        assert "Reshape" not in operators
        assert operators["Transpose"] == 1  # of the image
        assert operators["Conv"] == sum("Conv" in type(layer).__name__ for layer in network.layers)

    def test_sum_of_maps_of_one_pixel(self, tmp_path, make_random):
        """tf2onnx takes the one for a second bias of the other, and no reader takes two."""
        inputs = keras.Input((6, 5, 3))
        pooled = layers.GlobalAveragePooling2D(keepdims=True)(inputs)
        x = layers.Add()([layers.Conv2D(4, 1)(pooled), layers.Conv2D(4, 1)(pooled)])
        x = layers.Flatten()(layers.ReLU()(x))
        self.check(make_random(keras.Model(inputs, layers.Dense(3)(x))), tmp_path, (6, 5, 3))
