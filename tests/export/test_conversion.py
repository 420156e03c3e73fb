"""The converter's child process: quiet, and leaving nothing behind when it fails."""

import tempfile

import keras
import numpy as np
import pytest
from keras import layers

from auxzoo import models
from auxzoo.child_process import ChildFailed
from auxzoo.errors import UserError
from auxzoo.export import export_files, open_file, to_onnx, to_tflite
from auxzoo.export.conversion import convert


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


def contents(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_nothing_is_printed(network, tmp_path, capfd, recwarn):
    to_tflite(network, tmp_path / "a.tflite", quantization="int8", calibration=np.ones((2, 4, 6, 3)))
    to_onnx(network, tmp_path / "b.onnx")
    assert capfd.readouterr() == ("", "")
    assert not [str(warning.message) for warning in recwarn if not issubclass(warning.category, DeprecationWarning)]
    assert contents(tmp_path) == ["a.tflite", "b.onnx"]


def test_opset_and_new_folders(network, tmp_path):
    import onnx

    path = to_onnx(network, str(tmp_path / "new" / "folder" / "b.onnx"), opset=15)
    assert path == tmp_path / "new" / "folder" / "b.onnx"
    assert [opset.version for opset in onnx.load(path).opset_import if opset.domain == ""] == [15]


def test_same_network_same_bytes(network, tmp_path):
    """Whatever else was built in the process in between."""
    first = to_tflite(network, tmp_path / "a.tflite").read_bytes()
    for _ in range(12):
        keras.Model(network.inputs, network.outputs)
    assert to_tflite(network, tmp_path / "b.tflite").read_bytes() == first


def test_export_replaces_a_file_and_leaves_the_network_alone(network, tmp_path):
    (tmp_path / "a.tflite").write_bytes(b"old")
    weights = network.get_weights()
    to_tflite(network, tmp_path / "a.tflite", quantization="float16")
    assert open_file(tmp_path / "a.tflite").tensors()["input"]["shape"] == [1, 4, 6, 3]
    for before, after in zip(weights, network.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_job_that_fails_half_way_leaves_nothing(network, tmp_path, temporary):
    target = tmp_path / "out"
    with pytest.raises(ChildFailed, match=r"(?s)failed. The end of its log:.*KeyError: 'unheard_of'") as raised:
        convert(network, {"tflite_float32": target / "a.tflite", "unheard_of": target / "b.tflite"})
    assert len(str(raised.value).splitlines()) < 20, "the whole log is no message"
    assert not target.exists()
    assert contents(temporary) == []


def test_a_killed_child_leaves_nothing(tiny, tmp_path, temporary, python_that, capfd):
    python_that("kill -9 $$")
    with pytest.raises(ChildFailed, match="was killed by signal 9"):
        to_onnx(tiny.network, tmp_path / "out" / "a.onnx")
    with pytest.raises(ChildFailed, match="was killed by signal 9"):
        export_files(tiny.network, tmp_path / "out", ["onnx", "tflite_float32"], description=tiny.description)
    assert not (tmp_path / "out").exists()
    assert contents(temporary) == []
    assert capfd.readouterr() == ("", "")


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
    assert contents(tmp_path / "out") == ["net.onnx"]
    assert contents(temporary) == []


class TestNetworksOfOtherKinds:
    """Graphs that converters are known to stumble over: each as ONNX and TFLite, equal to Keras."""

    @staticmethod
    def check(network, tmp_path, shape=(8, 10, 3)):
        images = np.random.default_rng(0).normal(size=(3, *shape)).astype("float32")
        convert(network, {"tflite_float32": tmp_path / "a.tflite", "onnx": tmp_path / "a.onnx"})
        for path in (tmp_path / "a.tflite", tmp_path / "a.onnx"):
            np.testing.assert_allclose(open_file(path).predict(images), network(images), atol=1e-5, err_msg=path.name)

    def test_adapted_normalization_and_sizes_that_do_not_divide(self, tmp_path):
        """Statistics that are no variables must not become inputs; 5 rows times 7.2 must be 36 rows."""
        import onnx

        normalization = layers.Normalization()
        normalization.adapt(np.random.default_rng(0).normal(3, 2, (20, 5, 7, 3)).astype("float32"))
        inputs = keras.Input((5, 7, 3))
        x = layers.Conv2D(2, 3, padding="same")(normalization(inputs))
        network = keras.Model(inputs, layers.Resizing(36, 45)(x))
        self.check(network, tmp_path, (5, 7, 3))
        onnx.checker.check_model(tmp_path / "a.onnx", full_check=True)
        assert open_file(tmp_path / "a.onnx").tensors()["output"]["shape"] == [1, 36, 45, 2]

    def test_fixed_batch_dropout_nested_and_bare_operations(self, tmp_path, make_random):
        inner_inputs = keras.Input((8, 10, 3))
        x = layers.BatchNormalization()(layers.DepthwiseConv2D(3, depth_multiplier=2, dilation_rate=2)(inner_inputs))
        inner = keras.Model(inner_inputs, layers.Dropout(0.5)(x))
        inputs = keras.Input(batch_shape=(4, 8, 10, 3))
        x = layers.PReLU(shared_axes=(1, 2))(inner(inputs))
        x = keras.ops.mean(x[:, :, ::2], axis=(1, 2)) * 2
        network = make_random(keras.Model(inputs, layers.Dense(3)(x)))
        images = np.random.default_rng(0).normal(size=(4, 8, 10, 3)).astype("float32")
        to_onnx(network, tmp_path / "a.onnx")
        to_tflite(network, tmp_path / "a.tflite")
        for name in ("a.onnx", "a.tflite"):
            np.testing.assert_allclose(open_file(tmp_path / name).predict(images), network(images), atol=1e-5)
