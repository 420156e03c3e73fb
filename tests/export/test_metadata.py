"""What a file says of itself: the same as was given, enough to predict with, and never trusted."""

import contextlib
import copy
import dataclasses
import importlib.util
import io
import json
import re
import types
import zipfile

import keras
import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import auxzoo
from auxzoo import UserError, command_line, models
from auxzoo.data.preprocessing import preprocess
from auxzoo.export import (
    export_files,
    open_file,
    read_metadata,
    tflite_metadata_layout,
    to_onnx,
    to_tflite,
    weights_checksum,
)
from auxzoo.export.bench_page import network_facts
from auxzoo.export.inspection import inspect_file
from auxzoo.export.metadata import (
    TFLITE_BUFFER,
    described_by,
    metadata_of,
    parse_metadata,
    write_metadata,
)
from auxzoo.export.model_file import LARGEST_METADATA, ONNX_PREFIX, read_model_file
from auxzoo.export.outputs import outputs_of
from auxzoo.export.tflite_buffers import add_buffers, read_buffer
from auxzoo.models.description import described
from auxzoo.prediction import Predictor, open_predictor

pytestmark = pytest.mark.usefixtures("shallow_networks")
FORMATS = {
    "tflite_float32": "net_float32.tflite",
    "tflite_int8": "net_int8.tflite",
    "tflite_int8_uint8_io": "net_int8_uint8_io.tflite",
    "onnx": "net.onnx",
}
COLOUR = auxzoo.Task("colour", "segmentation", ("red", "grün", "blue"), ((255, 0, 0), (0, 255, 0), (0, 0, 255)))
BRIGHTNESS = auxzoo.Task("brightness", "regression", unit="lm", scale=50.0)
SIZE = (24, 32, 3)


def backbone():
    return models.MobileNetV2(SIZE, 0.35, total_stride=16, output_stride=8)


NETWORKS = {
    "classifier": lambda: models.MobileNetV2(
        SIZE, 0.35, total_stride=16, num_classes=3, labels=("red", "green", "blue")
    ),
    "masks": lambda: models.DeepLabLite(backbone(), 3, channels=8, labels=COLOUR.labels),
    "several": lambda: models.MultiTask(backbone(), [COLOUR, BRIGHTNESS], channels=8),
}


@pytest.fixture(scope="module", params=NETWORKS)
def exported(request, tmp_path_factory, make_pictures, make_random):
    """A network and some of its files."""
    network = make_random(NETWORKS[request.param]())
    folder = tmp_path_factory.mktemp("exported")
    records = export_files(
        network,
        folder,
        list(FORMATS),
        calibration=make_pictures(12, seed=1),
        name="net",
        source="here",
        licence="CC-BY-4.0 ©",
    )
    return types.SimpleNamespace(
        network=network,
        files={form: folder / name for form, name in FORMATS.items()},
        records={record["format"]: record for record in records},
    )


@pytest.fixture(scope="module")
def photographs():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, size).astype("uint8") for size in ((24, 32, 3), (31, 47, 3), (9, 70, 3))]


@pytest.mark.slow  # each network is converted to several formats
class TestEveryFormat:
    def test_what_is_read_is_what_was_given(self, exported):
        description = models.describe(exported.network)
        expected = {
            "schema_version": 1,
            "auxzoo": auxzoo.__version__,
            "name": "net",
            "source": "here",
            "licence": "CC-BY-4.0 ©",
            "weights_sha256": weights_checksum(exported.network),
            "preprocessing": json.loads(json.dumps(vars(description.preprocessing))),
            "tasks": [task.to_dict() for task in description.tasks],
        }
        for path in exported.files.values():
            found = read_metadata(path)
            outputs = found.pop("outputs")
            assert found == expected
            tensors = open_file(path).tensors()
            names = [output["name"] for output in tensors.get("outputs") or [tensors["output"]]]
            assert sorted(output["name"] for output in outputs) == sorted(names)
            assert [output["task"] for output in outputs] == [task.name for task in description.tasks]

    def test_the_description_comes_back(self, exported):
        description = models.describe(exported.network)
        for path in exported.files.values():
            found = open_predictor(str(path)).description
            assert found.preprocessing == description.preprocessing
            assert found.tasks == description.tasks

    def test_the_file_alone_predicts_as_with_its_network(self, exported, photographs):
        for form, path in exported.files.items():
            alone = open_predictor(str(path))
            together = Predictor(open_file(path).predict, models.describe(exported.network))
            for photograph in photographs:
                found, expected = alone(photograph), together(photograph)
                assert found.keys() == expected.keys()
                for task in expected:
                    np.testing.assert_array_equal(found[task], expected[task], err_msg=form)

    def test_the_record_is_of_the_file_with_its_metadata(self, exported):
        has_extra = importlib.util.find_spec("mediapipe") is not None
        for form, path in exported.files.items():
            record = exported.records[form]
            assert record["bytes"] == path.stat().st_size
            layouts = ["auxzoo", "tflite"] if has_extra and form != "onnx" else ["auxzoo"]
            assert record["metadata"] == {"layouts": layouts, **read_metadata(path)}
            assert record["metadata"]["weights_sha256"] == weights_checksum(exported.network)

    def test_onnx_properties_are_json(self, exported):
        model = onnx.load(exported.files["onnx"])
        onnx.checker.check_model(model, full_check=True)
        stated = {entry.key: entry.value for entry in model.metadata_props}
        assert stated.pop("image_layout") == "NHWC"
        assert {key: json.loads(value) for key, value in stated.items()} == {
            f"{ONNX_PREFIX}{key}": value for key, value in read_metadata(exported.files["onnx"]).items()
        }
        assert "CC-BY-4.0 ©" in model.doc_string

    def test_the_standard_layout(self, exported):
        standard = pytest.importorskip("auxzoo.export.tflite_metadata_layout")
        if not standard.is_available():
            pytest.skip("needs the extra auxzoo[metadata]")
        layout = standard._schema()
        description = models.describe(exported.network)
        for path in (path for path in exported.files.values() if path.suffix == ".tflite"):
            content = read_buffer(path.read_bytes(), "TFLITE_METADATA")
            assert content[4:8] == b"M001"
            found = layout.ModelMetadataT.InitFromPackedBuf(content)
            assert (found.name, found.license) == (b"net", "CC-BY-4.0 ©".encode())
            (graph,) = found.subgraphMetadata
            (image,), outputs = graph.inputTensorMetadata, graph.outputTensorMetadata
            options, preprocessing = image.processUnits[0].options, description.preprocessing
            pixels = np.array([0.0, 100.0, 255.0])
            for mean, std, scale, offset in zip(
                options.mean,
                options.std,
                preprocessing.scale,
                preprocessing.offset,
                strict=True,
            ):
                np.testing.assert_allclose((pixels - mean) / std, pixels * scale + offset, atol=1e-6)
            graph_of = schema.Model.GetRootAs(path.read_bytes(), 0)
            by_index = {
                part.TensorIndex(): part.Name()
                for part in map(graph_of.SignatureDefs(0).Outputs, range(len(description.tasks)))
            }
            order = [by_index[index] for index in graph_of.Subgraphs(0).OutputsAsNumpy()]
            assert [output.name for output in outputs] == order
            labels = {task.name: task.labels for task in description.tasks if task.labels}
            files = {file.name.decode(): file for output in outputs for file in output.associatedFiles or ()}
            with zipfile.ZipFile(path) as archive:
                read = {name: tuple(archive.read(name).decode().splitlines()) for name in archive.namelist()}
            assert read.keys() == files.keys()
            assert sorted(read.values()) == sorted(labels.values())
            # And as `inspect` tells them.
            told = inspect_file(path)
            assert told["metadata_problem"] is None
            told = told["standard_metadata"]
            assert (told["name"], told["licence"], told["version"]) == ("net", "CC-BY-4.0 ©", auxzoo.__version__)
            assert [output["name"].encode() for output in told["outputs"]] == order
            np.testing.assert_allclose(told["inputs"][0]["std"], options.std)
            np.testing.assert_allclose(told["inputs"][0]["mean"], options.mean)
            assert {name for output in told["outputs"] for name in output.get("files", ())} == set(told["files"])
            assert set(told["files"]) == set(files)

    def test_mediapipe_needs_the_file_alone(self, exported, photographs):
        """Google's own runtime for phones: it finds size, scaling and labels in the file, by code that is not ours."""
        mediapipe = pytest.importorskip("mediapipe")
        from mediapipe.tasks.python import BaseOptions, vision

        tasks = models.describe(exported.network).tasks
        if len(tasks) > 1:
            pytest.skip("MediaPipe has no task for several tasks")
        picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=photographs[0])
        pixels = preprocess(photographs[0][None], models.describe(exported.network).preprocessing)
        for form in ("tflite_float32", "tflite_int8_uint8_io"):
            options = BaseOptions(model_asset_path=str(exported.files[form]))
            expected = open_file(exported.files[form]).predict(np.asarray(pixels))[0]
            if tasks[0].is_dense:
                options = vision.ImageSegmenterOptions(base_options=options)
                with vision.ImageSegmenter.create_from_options(options) as segmenter:
                    masks = segmenter.segment(picture).confidence_masks
                    found = np.concatenate([mask.numpy_view().reshape(*SIZE[:2], 1) for mask in masks], axis=-1)
                    labels = segmenter.labels
            else:
                options = vision.ImageClassifierOptions(base_options=options)
                with vision.ImageClassifier.create_from_options(options) as classifier:
                    (head,) = classifier.classify(picture).classifications
                order = sorted(head.categories, key=lambda category: category.index)
                found, labels = np.array([category.score for category in order]), [one.category_name for one in order]
            assert tuple(labels) == tasks[0].labels
            assert np.std(expected) > 1e-3
            tolerance = 1e-3 if form == "tflite_float32" else 0.03
            np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max(), err_msg=form)

    def test_mediapipe_refuses_signed_bytes(self, exported):
        """So the README says which files it takes."""
        pytest.importorskip("mediapipe")
        from mediapipe.tasks.python import vision

        with pytest.raises(Exception, match="uint8/float32, got INT8"):
            vision.ImageClassifier.create_from_model_path(str(exported.files["tflite_int8"]))


class TestInspecting:
    """What a file says of itself is told where it can be read, and nothing else suffers where it cannot."""

    def with_buffers(self, tiny, tmp_path, buffers):
        path = tmp_path / "a.tflite"
        path.write_bytes(add_buffers(tiny.files["tflite_float32"].read_bytes(), buffers))
        return path

    @pytest.mark.parametrize(
        ("buffers", "problem"),
        [
            ({"AUXZOO_METADATA": b'{"schema_version": 99}'}, "The metadata of `.*` are not right:"),
            ({"AUXZOO_METADATA": b"\xff"}, "The metadata of `.*` are not right:"),
            ({"TFLITE_METADATA": b"\x10\0\0\0M001" + b"\xff" * 40}, "is damaged: its TFLITE_METADATA lead"),
        ],
        ids=["of a later version", "no text", "astray"],
    )
    def test_what_cannot_be_read(self, tiny, tmp_path, buffers, problem, capsys):
        if "TFLITE_METADATA" in buffers and not tflite_metadata_layout.is_available():
            pytest.skip("needs the extra auxzoo[metadata]")
        path = self.with_buffers(tiny, tmp_path, buffers)
        found = inspect_file(path)
        assert re.search(problem, found["metadata_problem"])
        assert found["metadata"] is found["standard_metadata"] is None
        assert [operator["name"] for operator in found["operators"]] == ["FULLY_CONNECTED", "MEAN"]
        assert command_line.main(["inspect", str(path)]) == 0
        printed = capsys.readouterr().out
        assert "What it says of itself cannot be read:" in printed
        assert "FULLY_CONNECTED" in printed

    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_damaged_standard_metadata_are_told_or_refused(self, tiny, data):
        if not tflite_metadata_layout.is_available():
            pytest.skip("needs the extra auxzoo[metadata]")
        content = tiny.files["tflite_float32"].read_bytes()
        metadata = metadata_of(tiny.network, outputs_of(tiny.network, None, tiny.description), tiny.description)
        packed = bytearray(tflite_metadata_layout.standard_metadata(content, metadata))
        for place, byte in data.draw(
            st.lists(st.tuples(st.integers(0, len(packed) - 1), st.integers(0, 255)), min_size=1, max_size=8)
        ):
            packed[place] = byte
        changed = add_buffers(content, {"TFLITE_METADATA": bytes(packed)})
        # What it leads to may be told, or is refused in these words; nothing else comes of it.
        with contextlib.suppress(ValueError):
            json.dumps(tflite_metadata_layout.read_standard(changed))

    @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_damaged_archives_are_told_or_passed_over(self, tiny, data):
        content = io.BytesIO(tiny.files["tflite_float32"].read_bytes())
        start = len(content.getvalue())
        with zipfile.ZipFile(content, "a") as archive:
            archive.writestr("labels.txt", "red\ngreen\nblue\n")
        changed = bytearray(content.getvalue())
        for place, byte in data.draw(
            st.lists(st.tuples(st.integers(start, len(changed) - 1), st.integers(0, 255)), min_size=1, max_size=8)
        ):
            changed[place] = byte
        json.dumps(tflite_metadata_layout.read_standard(bytes(changed)))

    def test_labels_of_others_are_told_without_the_extra(self, tiny, tmp_path, monkeypatch):
        path = self.with_buffers(tiny, tmp_path, {"TFLITE_METADATA": b"nobody reads this"})
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("labels.txt", "red\ngreen\nblue\n")
        monkeypatch.setattr(tflite_metadata_layout, "is_available", lambda: False)
        assert inspect_file(path)["standard_metadata"] == {"files": {"labels.txt": 15}}


class TestInsideTheFile:
    def test_nothing_else_of_the_file_changes(self, tiny):
        for form, path in tiny.files.items():
            if form == "onnx":
                continue
            content, data = path.read_bytes(), bytes(range(256)) * 3
            changed = add_buffers(content, {"one": data, "two": b"", "three": "ü".encode()})
            assert changed.endswith(content[8:])
            assert (len(changed) - len(content)) % 16 == 0
            assert len(changed) - len(content) < len(data) + 400
            before, after = (
                _plain(schema.ModelT.InitFromObj(schema.Model.GetRootAs(one, 0))) for one in (content, changed)
            )
            assert [entry["name"] for entry in after["metadata"]][-3:] == [b"one", b"two", b"three"]
            count = len(before["metadata"] or [])
            assert (before["metadata"] or []) == after["metadata"][:count]
            assert before["buffers"] == after["buffers"][:-3]
            for key in before.keys() - {"metadata", "buffers"}:
                assert before[key] == after[key], key
            assert [read_buffer(changed, name) for name in ("one", "three")] == [data, "ü".encode()]
            assert read_buffer(changed, "four") is None

    def test_weights_stay_aligned(self, tiny):
        def places(content):
            model = schema.Model.GetRootAs(content, 0)
            buffers = [model.Buffers(place) for place in range(model.BuffersLength())]
            return [buffer._tab.Vector(buffer._tab.Offset(4)) % 16 for buffer in buffers if buffer.DataLength()]

        content = tiny.files["tflite_float32"].read_bytes()
        assert places(add_buffers(content, {"one": b"12345"})) == [*places(content), 0]

    def test_the_file_runs_as_before(self, tiny, tmp_path):
        images = np.random.default_rng(0).uniform(-1, 1, (5, 4, 6, 3)).astype("float32")
        for form, source in tiny.files.items():
            path = tmp_path / source.name
            path.write_bytes(source.read_bytes())
            metadata = metadata_of(tiny.network, outputs_of(tiny.network, None, tiny.description), tiny.description)
            write_metadata(path, metadata)
            assert parse_metadata(path) == metadata, form
            before, after = open_file(source), open_file(path)
            np.testing.assert_array_equal(before.predict(images), after.predict(images))
            assert read_model_file(source).operators == read_model_file(path).operators, form
            assert before.tensors() == after.tensors()

    def test_the_same_name_twice(self, tiny):
        content = add_buffers(tiny.files["tflite_int8"].read_bytes(), {"one": b"1"})
        with pytest.raises(UserError, match="has metadata called 'one' already"):
            add_buffers(content, {"one": b"2"})
        again = add_buffers(content, {"two": b"2"})
        assert (read_buffer(again, "one"), read_buffer(again, "two")) == (b"1", b"2")

    def test_files_of_others_have_none(self, tiny):
        for path in tiny.files.values():
            assert read_metadata(path) is None

    def test_the_name_of_a_file_does_not_matter(self, tmp_path):
        for path in (
            to_tflite(small_classifier(), tmp_path / "a.tflite"),
            to_onnx(small_classifier(), tmp_path / "a.onnx"),
        ):
            stated = read_metadata(path)
            assert read_metadata(path.rename(tmp_path / "model.bin")) == stated
            assert stated["name"] == "small"

    def test_the_checksum_tells_weights_apart(self, make_random):
        network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        first = weights_checksum(make_random(network, 1))
        assert weights_checksum(make_random(network, 1)) == first
        assert weights_checksum(make_random(network, 2)) != first

    def test_what_nobody_knows_is_absent(self, tmp_path):
        inputs = keras.Input((4, 6, 3))
        network = keras.Model(inputs, keras.layers.GlobalMaxPooling2D()(inputs), name="foreign")
        path = to_onnx(network, tmp_path / "a.onnx")
        assert set(read_metadata(path)) == {"schema_version", "auxzoo", "name", "weights_sha256", "tasks", "outputs"}
        with pytest.raises(UserError, match="`--network` must name"):
            open_predictor(str(path))


def test_a_user_may_not_contradict_the_file(tmp_path):
    network = small_classifier()
    plain, raw = tmp_path / "plain.onnx", tmp_path / "raw.onnx"
    to_onnx(network, plain)
    to_onnx(network, raw, embed_preprocessing=True)
    network.save(tmp_path / "net.keras")
    name = str(tmp_path / "net.keras")
    assert open_predictor(str(plain), name).description == open_predictor(str(plain)).description
    with pytest.raises(UserError, match="`--network` must be as .*raw.onnx` tells of itself, or be left out: .*scale"):
        open_predictor(str(raw), name)  # pixels would be scaled twice
    (task,) = network.description.tasks
    other = dataclasses.replace(network.description, tasks=(dataclasses.replace(task, labels=("b", "a", "c")),))
    with pytest.raises(UserError, match="have the classes of .*plain.onnx`, .*number 0 of .* is 'a' there. .*'b'"):
        network_facts(plain, other)
    with pytest.raises(UserError, match="`description` must be as .*raw.onnx` tells of itself"):
        network_facts(raw, models.describe(network))
    assert network_facts(plain, models.describe(network)) == network_facts(plain)


def mute_file(path, **shapes):
    """Writes an ONNX file without metadata that gives the mean of its image in outputs of any shape."""
    value = onnx.helper.make_tensor_value_info
    nodes = [onnx.helper.make_node("ReduceMean", ["image"], ["mean"], keepdims=0)]
    nodes += [onnx.helper.make_node("Expand", ["mean", f"{name}_shape"], [name]) for name in shapes]
    graph = onnx.helper.make_graph(
        nodes,
        "graph",
        [value("image", onnx.TensorProto.FLOAT, [1, *SIZE])],
        [value(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [onnx.numpy_helper.from_array(np.array(shape), f"{name}_shape") for name, shape in shapes.items()],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return str(path)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"logits": [1, 10]}, r"a classification with 3 classes. Received: a file whose output 'logits' .* \[1, 10\]"),
        ({"mask": [1, 24, 32, 3]}, r"a classification with 3 classes. Received: a file whose output 'mask'"),
        ({"a": [1, 3], "b": [1, 3]}, "its tasks are classification. Received: a file with the outputs a, b"),
    ],
)
def test_a_network_that_a_silent_file_is_not_of(tmp_path, photographs, shapes, message):
    small_classifier().save(tmp_path / "net.keras")
    name = str(tmp_path / "net.keras")
    with pytest.raises(UserError, match="`--network` must be of the network of .*other.onnx`: " + ".*" + message):
        open_predictor(mute_file(tmp_path / "other.onnx", **shapes), name)
    right = open_predictor(mute_file(tmp_path / "right.onnx", logits=[1, 3]), name)
    assert right(photographs[0])["classification"].shape == (3,)


def small_classifier():
    """A described network of two layers, quickly converted."""
    inputs = keras.Input(SIZE)
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)  # zeros at the edge are not black
    logits = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x))
    task = auxzoo.Task("classification", "classification", ("a", "b", "c"))
    return described(inputs, logits, models.Description((), models.Preprocessing(*SIZE[:2]), (task,)), "small")


@pytest.fixture(scope="module")
def unembedded(tmp_path_factory, make_random, make_pictures):
    """The small classifier, the pictures it is calibrated on, and its files, in front of which pixels are scaled."""
    network, pictures, folder = make_random(small_classifier()), make_pictures(24, seed=1), tmp_path_factory.mktemp("a")
    export_files(network, folder, list(FORMATS), calibration=pictures, name="net")
    return network, pictures, {form: folder / name for form, name in FORMATS.items()}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_embedded_preprocessing(form, tmp_path, unembedded, photographs):
    network, pictures, files = unembedded
    path = tmp_path / FORMATS[form]
    if form == "onnx":
        to_onnx(network, path, embed_preprocessing=True)
    else:
        quantization, calibration = (None, None) if form == "tflite_float32" else ("int8", pictures)
        to_tflite(network, path, quantization, calibration, embed_preprocessing=True)
    paths = (files[form], path)
    outside, inside = map(read_metadata, paths)
    assert inside["preprocessing"] == outside["preprocessing"] | {"scale": [1.0] * 3, "offset": [0.0] * 3}
    assert inside["embedded_preprocessing"] == outside["preprocessing"]
    assert inside["weights_sha256"] == outside["weights_sha256"]
    first, second = (open_predictor(str(path)) for path in paths)
    spread = np.std([first(photograph)["classification"] for photograph in photographs])
    for photograph in photographs:
        found, expected = second(photograph)["classification"], first(photograph)["classification"]
        limit = 0.5 * spread if form == "tflite_int8" else 1e-4 * np.abs(expected).max()
        assert np.abs(found - expected).max() < limit
    if form == "tflite_int8":  # a picture's own values, but for the middle
        detail = open_file(paths[1]).tensors()["input"]
        assert detail["scale"] == pytest.approx(1, abs=0.05)
        assert detail["zero_point"] == -128


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["softmax", "argmax"])
def test_probabilities_and_classes_are_told_apart(activation, tmp_path, make_random, photographs):
    network = make_random(small_classifier())
    path = to_onnx(network, tmp_path / "a.onnx", activation=activation)
    predictor, reference = open_predictor(str(path)), Predictor(network.predict_on_batch, models.describe(network))
    assert predictor.classes == {"classification": 3}
    for photograph in photographs:
        found, logits = predictor(photograph)["classification"], reference(photograph)["classification"]
        if activation == "argmax":
            assert found.shape == ()
            assert found == logits.argmax()
        else:
            np.testing.assert_allclose(np.exp(found), np.exp(logits) / np.exp(logits).sum(), rtol=1e-3)


GOOD = {
    "schema_version": 1,
    "auxzoo": "0.1.0",
    "name": "net",
    "weights_sha256": "0" * 64,
    "preprocessing": {"height": 4, "width": 6, "fit": "resize", "scale": [1.0] * 3, "offset": [0.0] * 3},
    "tasks": [{"name": "colour", "kind": "classification", "labels": ["red", "green", "blue"]}],
    "outputs": [{"name": "logits", "task": "colour"}],
}


@pytest.fixture(scope="module")
def write(tiny, tmp_path_factory):
    """A function that writes bytes, or a value as JSON, as the metadata of a file of each kind; gives their paths."""
    folder = tmp_path_factory.mktemp("hostile")
    tflite = tiny.files["tflite_float32"].read_bytes()
    model = onnx.load(tiny.files["onnx"])

    def written(value):
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        path = folder / "net.tflite"
        path.write_bytes(add_buffers(tflite, {TFLITE_BUFFER: content}))
        paths = [path]
        if isinstance(value, dict):
            changed = copy.deepcopy(model)
            entries = {f"{ONNX_PREFIX}{key}": json.dumps(item) for key, item in value.items()}
            onnx.helper.set_model_props(changed, entries)
            paths.append(folder / "net.onnx")
            paths[-1].write_bytes(changed.SerializeToString())
        return paths

    return written


def _changed(**changes):
    return {**GOOD, **changes}


def _task(**changes):
    return _changed(tasks=[{**GOOD["tasks"][0], **changes}])


def _prepared(**changes):
    return _changed(preprocessing={**GOOD["preprocessing"], **changes})


WRONG = {
    "another schema": (_changed(schema_version=2), "schema_version"),
    "an unknown key": (_changed(more=1), "more"),
    "no name": ({key: value for key, value in GOOD.items() if key != "name"}, "name"),
    "a name that is none": (_changed(name=3), "name"),
    "a checksum too short": (_changed(weights_sha256="0" * 63), "weights_sha256"),
    "tasks that are none": (_changed(tasks=3), "tasks"),
    "a task that is none": (_changed(tasks=["colour"]), "tasks.0"),
    "a kind that is none": (_task(kind="magic"), "`kind` of task"),
    "a kind that is a list": (_task(kind=[]), "`kind` of task"),
    "labels that are none": (_task(labels=[1, 2, 3]), "`labels`"),
    "two tasks of a name": (_changed(tasks=GOOD["tasks"] * 2), "name of its own"),
    "a task without output": (_changed(outputs=[{"name": "logits"}]), "one output"),
    "no output": (_changed(outputs=[]), "outputs"),
    "an activation that is none": (_changed(outputs=[{"name": "logits", "activation": "tanh"}]), "activation"),
    "no size": (_prepared(height=0), "`height`"),
    "a size in words": (_prepared(width="6"), "`width`"),
    "two channels": (_prepared(scale=[1.0, 1.0]), "`scale`"),
    "no number": (_prepared(offset=[float("nan")] * 3), "`offset`"),
    "a fit that is none": (_prepared(fit={}), "`fit`"),
    "a list": ([], "the whole"),
    "a number": (3, "the whole"),
    "no JSON": (b"{", "Invalid JSON"),
    "nothing": (b"", "the whole|Invalid JSON"),
    "not UTF-8": (b'{"name": "\xff\xfe"}', "Invalid JSON"),
    "depths": (b"[" * 100_000, "Invalid JSON"),
    "a surrogate": (b'{"name": "\\ud800"}', "Invalid JSON"),
    "a million labels": (_task(labels=["label"] * 10**6), "bytes at most|more than"),
    "much text": (b'"' + b"a" * (LARGEST_METADATA + 1) + b'"', "bytes at most"),
}


class TestWhatIsNotTrusted:
    def test_the_good_one(self, write, tiny):
        for path in write(GOOD):
            assert read_metadata(path) == GOOD
            description = described_by(parse_metadata(path), open_file(path).tensors(), path)
            assert description.tasks[0].labels == ("red", "green", "blue")

    @pytest.mark.parametrize("case", WRONG)
    def test_what_is_wrong_is_told(self, write, case):
        value, message = WRONG[case]
        for path in write(value):
            with pytest.raises(UserError, match=message) as error:
                read_metadata(path)
            assert path.name in str(error.value)
            assert len(str(error.value)) < 3000

    @pytest.mark.parametrize(
        "value",
        [
            _prepared(height=8),
            _prepared(height=10**9, width=10**9),
            _task(labels=["red", "green"]),
            _task(kind="segmentation"),
            _changed(tasks=[{"name": "colour", "kind": "regression"}]),
            _changed(outputs=[{"name": "other", "task": "colour"}]),
            _changed(outputs=[*GOOD["outputs"], {"name": "other"}]),
            _changed(outputs=[{"name": "logits", "task": "colour", "activation": "argmax"}]),
        ],
    )
    def test_what_does_not_fit_the_file(self, write, value):
        for path in write(value):
            assert read_metadata(path) is not None
            with pytest.raises(UserError, match=f"metadata of `.*{path.name}` must"):
                open_predictor(str(path))

    @settings(derandomize=True, deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def test_any_json(self, write, data):
        leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
        anything = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner))
        value = copy.deepcopy(GOOD)
        place, key = value, None
        for _ in range(data.draw(st.integers(0, 3))):  # somewhere in it
            keys = (
                list(place) if isinstance(place, dict) else list(range(len(place))) if isinstance(place, list) else []
            )
            if not keys:
                break
            if key is not None and not isinstance(place[keys[0]], dict | list):
                break
            parent, key = place, data.draw(st.sampled_from(keys))
            place = parent[key]
        other = data.draw(anything)
        if key is None:
            value = other
        else:
            parent[key] = other
        for path in write(value):
            _refused_or_read(path)

    @settings(derandomize=True, deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def test_any_bytes_in_the_file(self, write, data):
        for path in write(GOOD):
            content = bytearray(path.read_bytes())
            for _ in range(data.draw(st.integers(1, 4))):
                noise = data.draw(st.binary(min_size=1, max_size=8))
                start = data.draw(st.integers(0, min(len(content), 2000) if data.draw(st.booleans()) else len(content)))
                content[start : start + len(noise)] = noise
            path.write_bytes(content)
            _refused_or_read(path)

    def test_every_truncation(self, write):
        for path in write(GOOD):
            content = path.read_bytes()
            for length in range(0, len(content), 97):
                path.write_bytes(content[:length])
                _refused_or_read(path)

    @pytest.mark.parametrize("name", ["nothing.tflite", "folder.onnx", "net.h5"])
    def test_no_file(self, tmp_path, name):
        (tmp_path / "folder.onnx").mkdir()
        with pytest.raises(UserError, match="is not a file that can be read|must end in"):
            read_metadata(tmp_path / name)

    def test_too_much_to_write(self, tiny):
        task = auxzoo.Task("colour", "classification", ["a" * 2**22, "b", "c"])
        description = models.Description((), tiny.preprocessing, (task,))
        with pytest.raises(UserError, match="labels and texts of a network must be"):
            metadata_of(tiny.network, outputs_of(tiny.network, None, description), description)
        with pytest.raises(UserError, match="`licence` must be text. Received: licence=3"):
            metadata_of(tiny.network, outputs_of(tiny.network, None, tiny.description), licence=3)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, "dynamic"])
def test_a_file_with_channels_first_is_predicted_with_alone(batch, tmp_path):
    tasks = (auxzoo.Task("kind", "classification", ("a", "b")), auxzoo.Task("mask", "segmentation", ("c", "d", "e")))
    inputs = auxzoo.models.MobileNetV2((32, 48, 3), alpha=0.35, output_stride=16)
    network = auxzoo.models.MultiTask(inputs, tasks)
    path = auxzoo.export.to_onnx(network, tmp_path / "a.onnx", layout="nchw", batch=batch)
    photograph = np.random.default_rng(0).integers(0, 255, (40, 60, 3)).astype("uint8")
    expected = Predictor(network.predict_on_batch, auxzoo.describe(network))(photograph)
    found = open_predictor(str(path))(photograph)
    np.testing.assert_allclose(found["kind"], expected["kind"], atol=1e-4)
    assert (found["mask"] == expected["mask"]).mean() > 0.99


def _refused_or_read(path):
    """Reads a file that may hold anything: an error that names it, or metadata that are allowed."""
    try:
        found = read_metadata(path)
    except UserError as error:
        told = str(error)
    else:
        told = path.name
        assert found is None or found["schema_version"] == 1
    assert path.name in told


def _plain(value):
    """Returns an object of the schema as plain types that can be compared."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return {key: _plain(item) for key, item in vars(value).items()} if hasattr(value, "__dict__") else value
