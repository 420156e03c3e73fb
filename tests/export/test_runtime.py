"""Running exported files, and telling damaged and foreign ones by name."""

import select
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import onnx
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from auxzoo.errors import LONGEST_REASON, UserError
from auxzoo.export import open_file

PROPERTY = settings(derandomize=True, deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
DAMAGED = ["tflite_float32", "tflite_int8", "onnx"]


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).uniform(-1, 1, (5, 4, 6, 3)).astype("float32")


def onnx_file(path, shape, kind=TensorProto.FLOAT, inputs=1, operator="Relu", domain=""):
    names = [f"input{number}" for number in range(inputs)]
    nodes = [helper.make_node(operator, [name], [f"output_of_{name}"], domain=domain) for name in names]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, kind, shape) for name in names],
        [helper.make_tensor_value_info(f"output_of_{name}", kind, shape) for name in names],
    )
    opsets = [helper.make_opsetid("", 17)] + [helper.make_opsetid(domain, 1)] * bool(domain)
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def tflite_file(path, function, *shapes, kind=tf.float32, select_operators=False):
    signature = [tf.TensorSpec(shape, kind, name=f"input{number}") for number, shape in enumerate(shapes)]
    concrete = tf.function(function, input_signature=signature).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    if select_operators:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    path.write_bytes(converter.convert())
    return path


class TestGoodFiles:
    @pytest.mark.parametrize("form", ["tflite_float32", "onnx"])
    def test_answers_are_those_computed_by_hand(self, tiny, images, form):
        np.testing.assert_allclose(open_file(tiny.files[form]).predict(images), images.mean(axis=(1, 2)), atol=1e-6)

    @pytest.mark.parametrize("form", ["tflite_int8", "tflite_int8_float_io"])
    def test_int8_is_quantised_and_dequantised_as_the_file_says(self, tiny, images, form):
        file = open_file(tiny.files[form])
        # Rounding the input is averaged away; what is left are steps of the mean and of the output.
        step = open_file(tiny.files["tflite_int8"]).tensors()["output"]["scale"]
        assert 0 < step < 0.01
        np.testing.assert_allclose(file.predict(images), images.mean(axis=(1, 2)), atol=2.5 * step)

    def test_int8_clips_what_is_out_of_range(self, tiny):
        file = open_file(tiny.files["tflite_int8"])
        values = np.array([-100, 100], "float32")[:, None, None, None] * np.ones((1, 4, 6, 3), "float32")
        low, high = file.predict(values)
        assert (low < -0.9).all(), "wrapped round"
        assert (high > 0.9).all(), "wrapped round"

    def test_tensors(self, tiny):
        tensors = open_file(str(tiny.files["tflite_int8"])).tensors()
        assert tensors["input"]["shape"] == [1, 4, 6, 3]
        assert tensors["input"]["scale"] == pytest.approx(2 / 255, rel=0.05)
        assert -128 <= tensors["input"]["zero_point"] <= 127
        assert "scale" not in open_file(tiny.files["tflite_float32"]).tensors()["input"]

    def test_runs_once_without_an_image(self, tiny):
        for path in tiny.files.values():
            open_file(path, threads=2).run_once()

    @pytest.mark.parametrize("form", DAMAGED)
    @pytest.mark.parametrize("shape", [(2, 6, 4, 3), (4, 6, 3), (0, 4, 6, 3), (1, 4, 6, 1)])
    def test_images_of_another_shape_are_told(self, tiny, form, shape):
        with pytest.raises(UserError, match=r"`images` must be of shape \[count, 4, 6, 3\]. Received: shape \("):
            open_file(tiny.files[form]).predict(np.zeros(shape, "float32"))

    def test_onnx_with_an_open_batch_runs(self, tmp_path):
        """As other exporters write them."""
        file = open_file(onnx_file(tmp_path / "open.onnx", ["N", 2, 2, 3]))
        file.run_once()
        np.testing.assert_array_equal(file.predict(-np.ones((3, 2, 2, 3))), np.zeros((3, 2, 2, 3)))


class TestForeignFiles:
    def test_missing_file_and_folder(self, tmp_path):
        with pytest.raises(UserError, match=r"nowhere.tflite` is not a file"):
            open_file(tmp_path / "nowhere.tflite")
        (tmp_path / "folder.onnx").mkdir()
        with pytest.raises(UserError, match=r"folder.onnx` is not a file"):
            open_file(tmp_path / "folder.onnx")

    def test_other_suffix(self, tiny, tmp_path):
        path = shutil.copy(tiny.files["tflite_float32"], tmp_path / "network.bin")
        with pytest.raises(UserError, match=r"`path` must end in .tflite or .onnx. Received: `.*network.bin`"):
            open_file(path)

    @pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
    @pytest.mark.parametrize(
        "content", [b"", b"\0", b"TFL3", b"....TFL3", b"{}\n" * 100, b"\x89PNG\r\n\x1a\n" + bytes(99)]
    )
    def test_other_content(self, tmp_path, suffix, content, capfd):
        path = tmp_path / f"network{suffix}"
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"network{suffix}`"):
            open_file(path)
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize(("form", "suffix"), [("onnx", ".tflite"), ("tflite_float32", ".onnx")])
    def test_the_other_kind_of_file(self, tiny, tmp_path, form, suffix):
        path = shutil.copy(tiny.files[form], tmp_path / f"network{suffix}")
        with pytest.raises(UserError, match=rf"network{suffix}`"):
            open_file(path)

    def test_onnx_with_two_inputs(self, tmp_path):
        with pytest.raises(UserError, match="must have one input, and an output. Received: 2 inputs"):
            open_file(onnx_file(tmp_path / "two.onnx", [1, 2, 2, 3], inputs=2))

    @pytest.mark.parametrize("shape", [[1, "height", "width", 3], [4, 2, 2, 3], []])
    def test_onnx_of_open_size_or_larger_batch(self, tmp_path, shape):
        with pytest.raises(UserError, match="must take one image of a fixed size"):
            open_file(onnx_file(tmp_path / "open.onnx", shape))

    def test_onnx_of_another_number_type(self, tmp_path):
        with pytest.raises(UserError, match=r"must take float32. Received: tensor\(double\)"):
            open_file(onnx_file(tmp_path / "double.onnx", [1, 2, 2, 3], TensorProto.DOUBLE))

    def test_onnx_with_an_unknown_operator(self, tmp_path, capfd):
        with pytest.raises(UserError, match=r"custom.onnx` cannot be run: .*Sharpen"):
            open_file(onnx_file(tmp_path / "custom.onnx", [1, 2, 2, 3], operator="Sharpen", domain="camera"))
        assert capfd.readouterr() == ("", "")

    def test_what_a_runtime_says_of_a_file_is_told_shortened(self, tmp_path):
        """It quotes names, and one in a damaged file may be megabytes."""
        path = onnx_file(tmp_path / "long.onnx", [1, 2, 2, 3], operator="Sharpen" * 1000, domain="camera")
        with pytest.raises(UserError, match=r"long.onnx` cannot be run: .*SharpenSharpen") as told:
            open_file(path)
        assert len(str(told.value)) < len(str(path)) + LONGEST_REASON + 20

    def test_tflite_with_two_inputs(self, tmp_path):
        path = tflite_file(tmp_path / "two.tflite", lambda one, two: one + two, (1, 4), (1, 4))
        with pytest.raises(UserError, match="must have one input, and an output. Received: 2 inputs"):
            open_file(path)

    def test_tflite_of_a_larger_batch(self, tmp_path):
        path = tflite_file(tmp_path / "batch.tflite", lambda one: one * 2, (4, 2, 2, 3))
        with pytest.raises(UserError, match=r"must take one image of a fixed size. .*shape \[4, 2, 2, 3\]"):
            open_file(path)

    def test_tflite_with_a_flex_operator(self, tmp_path, capfd):
        path = tflite_file(tmp_path / "flex.tflite", tf.linalg.inv, (1, 3, 3), select_operators=True)
        assert b"FlexMatrixInverse" in path.read_bytes()
        capfd.readouterr()  # what TensorFlow's converter says, in this process
        with pytest.raises(UserError, match=r"flex.tflite` cannot be run: "):
            open_file(path)
        assert capfd.readouterr() == ("", "")

    def test_tflite_that_takes_integers_without_a_scale(self, tmp_path):
        def scale(pixels):
            return tf.cast(pixels, tf.float32) / 255

        path = tflite_file(tmp_path / "raw.tflite", scale, (1, 2, 2, 3), kind=tf.uint8)
        with pytest.raises(UserError, match="must take float32 images, or integers with a scale. .*input of uint8"):
            open_file(path)

    def test_tflite_without_a_signature(self, tmp_path):
        file = open_file(tflite_file(tmp_path / "plain.tflite", lambda one: one * 2, (1, 2, 2, 3)))
        assert file.tensors()["input"] == {"name": "", "shape": [1, 2, 2, 3], "type": "float32"}
        np.testing.assert_array_equal(file.predict(np.ones((2, 2, 2, 3))), 2 * np.ones((2, 2, 2, 3)))


class Reader:
    """Opens and runs files in a child process: what kills the interpreter must not kill the tests unseen."""

    _PROGRAM = textwrap.dedent(
        """
        import sys, traceback
        import numpy as np
        from auxzoo.errors import UserError
        from auxzoo.export.runtime import open_file

        images = np.load(sys.argv[1])
        for line in sys.stdin:
            try:
                file = open_file(line.rstrip("\\n"))
                file.tensors()
                answer = "equal" if np.array_equal(file.predict(images), np.load(sys.argv[2])) else "works"
            except UserError as error:
                answer = f"UserError: {error}"
            except BaseException:
                answer = "raises " + " | ".join(traceback.format_exc().splitlines())
            print("answer", answer, flush=True)
        """
    )
    _SECONDS = 60

    def __init__(self, folder, images, expected):
        np.save(folder / "images.npy", images)
        np.save(folder / "expected.npy", expected)
        self._child = subprocess.Popen(
            [sys.executable, "-c", self._PROGRAM, folder / "images.npy", folder / "expected.npy"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self._path = folder

    def ask(self, content, suffix):
        """Returns what happens to a file of this content: "equal" or "works", "UserError: ...", or worse."""
        path = self._path / f"damaged{suffix}"
        path.write_bytes(content)
        self._child.stdin.write(f"{path}\n".encode())
        ready, _, _ = select.select([self._child.stdout], [], [], self._SECONDS)
        if not ready:
            self.close()
            return f"runs for more than {self._SECONDS} s"
        line = self._child.stdout.readline().decode()
        if not line:
            return f"kills the process: exit code {self._child.wait()}"
        assert line.startswith("answer "), f"something else was printed: {line}"
        return line.removeprefix("answer ").strip()

    def close(self):
        self._child.kill()
        self._child.wait()


@pytest.fixture(scope="module", params=DAMAGED)
def good(request, tiny, images, tmp_path_factory):
    """A child process that reads files, and the content and suffix of a good one."""
    path = tiny.files[request.param]
    reader = Reader(tmp_path_factory.mktemp("damaged"), images, open_file(path).predict(images))
    yield reader, path.read_bytes(), path.suffix
    reader.close()


class TestDamagedFiles:
    """A flipped bit in a size may ask for gigabytes (one in some thousands of such files): slow, but no crash."""

    def test_the_good_file_itself_is_read(self, good):
        reader, content, suffix = good
        assert reader.ask(content, suffix) == "equal"

    @PROPERTY
    @given(st.data())
    def test_truncated_anywhere(self, good, data):
        reader, content, suffix = good
        answer = reader.ask(content[: data.draw(st.integers(0, len(content) - 1))], suffix)
        # Bytes that only fill up the end may be missing.
        assert answer.startswith("UserError: ") or answer == "equal", answer

    @settings(PROPERTY, max_examples=150)
    @given(st.data())
    def test_flipped_bits(self, good, data):
        reader, content, suffix = good
        damaged = bytearray(content)
        for place, bit in data.draw(
            st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 7)), min_size=1, max_size=6)
        ):
            damaged[place] ^= 1 << bit
        answer = reader.ask(damaged, suffix)
        assert answer.startswith("UserError: ") or answer in ("works", "equal"), answer

    @settings(PROPERTY, max_examples=30)
    @given(st.data())
    def test_a_stretch_of_other_bytes(self, good, data):
        reader, content, suffix = good
        place = data.draw(st.integers(0, len(content) - 1))
        noise = data.draw(st.binary(min_size=1, max_size=200))
        answer = reader.ask((content[:place] + noise + content[place + len(noise) :])[: len(content)], suffix)
        assert answer.startswith("UserError: ") or answer in ("works", "equal"), answer

    def test_nothing_is_printed(self, good, tmp_path, capfd):
        _, content, suffix = good
        for share in (0.3, 0.9):
            path = tmp_path / f"damaged{suffix}"
            path.write_bytes(content[: int(share * len(content))])
            with pytest.raises(UserError, match=rf"damaged{suffix}` cannot be run: \S"):
                open_file(path)
        assert capfd.readouterr() == ("", "")
