"""`auxzoo inspect`: what it prints of files, ours and others, what it writes, and its exit codes."""

import json
import time

import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from auxzoo.export import TARGETS
from auxzoo.export.conversion import Conversion, convert
from auxzoo.export.folding import fold_batch_normalization
from auxzoo.export.formats import FORMATS
from auxzoo.export.inspection import inspect_file
from auxzoo.export.outputs import outputs_of
from auxzoo.files import read_json, sha256


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small network in float32, int8 and ONNX."""
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu")(inputs)
    outputs = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x))
    network, folder = keras.Model(inputs, outputs, name="small"), tmp_path_factory.mktemp("files")
    made = {form: folder / f"small{FORMATS[form].suffix}" for form in ("tflite_float32", "tflite_int8", "onnx")}
    images = np.random.default_rng(0).uniform(-1, 1, (20, 8, 8, 3)).astype("float32")
    convert(Conversion(fold_batch_normalization(network), made, outputs_of(network), images))
    return made


@pytest.fixture
def foreign(tmp_path):
    """An ONNX file that is not ours: open batch, unknown shapes, a custom operator, a name that a terminal obeys."""
    nodes = [helper.make_node("Sharpen", ["x"], ["\x1b[31mred"], domain="camera")]
    nodes.append(helper.make_node("Relu", ["\x1b[31mred"], ["y"]))
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", ["N", 4]), ("y", None))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("camera", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "foreign.onnx")
    return tmp_path / "foreign.onnx"


@pytest.mark.parametrize("form", ["tflite_float32", "tflite_int8", "onnx"])
def test_prints_operators_ends_memory_and_targets(command, files, form):
    outcome = command("inspect", files[form])
    assert (outcome.code, outcome.error) == (0, "")
    expected = ["Conv"] if form == "onnx" else ["CONV_2D", "MEAN", "FULLY_CONNECTED"]
    for text in [
        *expected,
        files[form].name,
        "image",
        "logits",
        "1x8x8x3",
        sha256(files[form]),
        "Activations at one time",
    ]:
        assert text in outcome.output
    rows = {line.split("│")[1].strip(): line for line in outcome.output.splitlines() if line.startswith("│")}
    for name, target in TARGETS.items():
        assert (name in rows) == (target.kind == form.partition("_")[0])
    assert ("yes" in rows.get("edgetpu", "")) == (form == "tflite_int8")
    assert max(map(len, outcome.output.splitlines())) <= 100


def test_target_lists_every_violation_and_its_documents(command, files):
    outcome = command("inspect", files["tflite_int8"], files["tflite_float32"], "--target", "edgetpu")
    assert outcome.code == 1
    assert "small_int8.tflite fits edgetpu" in outcome.output
    lines = outcome.output.partition("small_float32.tflite does not fit edgetpu")[2].splitlines()
    assert "  image: float32, must be int8 or uint8" in lines
    assert sum("constants of float32" in line for line in lines) >= 3
    assert any("https://coral.ai/docs/edgetpu/models-intro/" in line for line in lines)
    assert command("inspect", files["tflite_int8"], "--target", "edgetpu").code == 0
    outcome = command("inspect", files["onnx"], "--target", "gpu")
    assert outcome.code == 1
    assert "file: ONNX, must be TFLite" in outcome.output


@pytest.mark.parametrize("target", TARGETS)
def test_what_keeps_it_from_a_target_fits_a_page(command, files, target):
    """But for the documents' addresses, each on a line of its own."""
    lines = command("inspect", *files.values(), "--target", target).output.splitlines()
    addresses = [line.strip() for line in lines if "://" in line]
    assert {source.url for source in TARGETS[target].sources} == set(addresses)
    assert max(len(line) for line in lines if line.strip() not in addresses) <= 100


def test_json_has_all_of_it(command, files, tmp_path):
    outcome = command("inspect", *files.values(), "--json", tmp_path / "all.json", "--tensors")
    assert outcome.code == 0
    found = read_json(tmp_path / "all.json")
    assert [one["file"] for one in found] == [path.name for path in files.values()]
    for one, path in zip(found, files.values(), strict=True):
        assert one["bytes"] == path.stat().st_size
        assert one["sha256"] == sha256(path)
        assert one["memory"]["peak_bytes"] == sum(tensor["bytes"] for tensor in one["memory"]["tensors"]) > 0
        assert [tensor["shape"] for tensor in one["inputs"]] == [[1, 8, 8, 3]]
    kernels = [tensor for tensor in found[0]["tensors"] if tensor["is_constant"] and tensor["shape"] == [4, 3, 3, 3]]
    assert len(kernels) == 1
    assert found[1]["targets"]["edgetpu"] == []


def test_json_of_a_file_whose_numbers_json_does_not_have(command, files, tmp_path):
    """The scale of the image in the file is no number."""
    content = files["tflite_int8"].read_bytes()
    (scale,) = (tensor["scale"] for tensor in inspect_file(files["tflite_int8"])["inputs"])
    spoiled = content.replace(np.float32(scale).tobytes(), np.float32("nan").tobytes())
    (tmp_path / "nan.tflite").write_bytes(spoiled)
    outcome = command("inspect", tmp_path / "nan.tflite", "--json", tmp_path / "nan.json")
    assert outcome.code == 0, outcome
    text = (tmp_path / "nan.json").read_text()
    (found,) = json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    assert found["inputs"][0]["scale"] is None


def test_foreign_file(command, foreign):
    outcome = command("inspect", foreign, "--tensors")
    assert outcome.code == 0
    for text in ("camera:Sharpen (custom)", "?x4", "unknown", "Open sizes are taken as 1", "x1b[31mred"):
        assert text in outcome.output
    assert "\x1b" not in outcome.output


def test_a_file_of_many_operators_is_told_of_in_seconds(command, tmp_path):
    """Of as many kinds as a small file can name; a table of all of them would take minutes."""
    nodes = [helper.make_node(f"Kind{place}", ["x"], ["y"], domain="z") for place in range(20_000)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:]), ir_version=8)
    onnx.save(model, tmp_path / "many.onnx")
    start = time.monotonic()
    outcome = command("inspect", tmp_path / "many.onnx")
    assert time.monotonic() - start < 10
    assert "and 19,500 more: see --json" in outcome.output
    assert "20,000" in outcome.output


@pytest.mark.parametrize("name", ["nowhere.tflite", "text.onnx", "half.tflite"])
def test_bad_files(command, files, tmp_path, name):
    (tmp_path / "text.onnx").write_text("no network")
    (tmp_path / "half.tflite").write_bytes(files["tflite_int8"].read_bytes()[:2000])
    outcome = command("inspect", files["onnx"], tmp_path / name, "--json", tmp_path / "all.json")
    assert outcome.code == 2
    assert outcome.error.startswith("auxzoo inspect: `")
    assert name in outcome.error
    assert outcome.output == ""
    assert not (tmp_path / "all.json").exists()


def test_unknown_target_and_no_file(command, files):
    outcome = command("inspect", files["onnx"], "--target", "toaster")
    assert outcome.code == 2
    assert "`target` must be one of cpu, gpu" in outcome.error
    assert command("inspect").code == 2
