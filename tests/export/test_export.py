"""The common test case of exported files: one method a promise, and every network goes through all of them.

Every published network and one of each kind is converted once, to every format there is; others to the usual ones.
The published ones are as deep as networks are; of the kinds one block a stage tells what there is to tell.
"""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import types

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

import auxzoo
from auxzoo import models
from auxzoo.export import (
    DEFAULT_FORMATS,
    FORMATS,
    TARGETS,
    check_target,
    evaluate_file,
    export_files,
    open_file,
    read_model_file,
)
from auxzoo.export.folding import fold_batch_normalization
from auxzoo.export.target_checks import summarize
from auxzoo.metrics import Segmentation
from auxzoo.models import zoo
from auxzoo.scores import Scores

CLASSES = 3
COLOUR = auxzoo.Task("colour", "segmentation", ("red", "green", "blue"))
BRIGHTNESS = auxzoo.Task("brightness", "regression", scale=50.0)
FLOATS = ["tflite_float32", "onnx"]
QUANTIZED = ["tflite_dynamic", *(name for name, form in FORMATS.items() if form.activations)]
INT16 = [name for name, form in FORMATS.items() if form.activations == "int16"]
# What README and `auxzoo.export` say a record holds, and one of a format that was refused.
RECORD = {
    *(
        "file",
        "format",
        "sha256",
        "bytes",
        "made",
        "conversion",
        "tools",
        "python",
        "processor",
        "metadata",
        "calibration",
    ),
    *("quantization", "input", "operators", "targets", "parity", "accuracy", "keras_accuracy", "keras_scores"),
    "latency",
}
REFUSAL = {"file", "format", "made", "refused"}
# The targets that our networks' files fit, whatever the network.
FITS = {
    "tflite_float32": {"cpu", "gpu", "microcontroller"},
    "tflite_float16": {"cpu", "gpu"},
    "tflite_dynamic": {"cpu", "gpu"},
    "tflite_int8": {"cpu", "gpu", "npu-int8", "edgetpu", "microcontroller"},
    "tflite_int8_float_io": {"cpu", "gpu", "microcontroller"},
    "tflite_int8_uint8_io": {"cpu", "gpu", "edgetpu"},
    "tflite_int16": {"cpu", "microcontroller"},
    "tflite_int16_float_io": {"cpu", "microcontroller"},
    "onnx": {"web"},
    "onnx_int8": {"web"},
}

# How far a file may be from Keras: the mean difference of the logits, as a share of their standard deviation from
# image to image. The answers to another image are 1.13 away (the mean distance of two normal numbers).
FLOAT32_LIMIT = 5e-5
FLOAT16_LIMIT = 0.05
QUANTIZED_LIMIT = 0.5


def mobilenet_v2():
    return models.MobileNetV2((32, 48, 3), 0.35, total_stride=16, num_classes=CLASSES)


def resnet18():
    return models.ResNet18((20, 28, 3), 0.125, "small", num_classes=CLASSES)


def deeplab(constructor, size, output_stride, **arguments):
    backbone = constructor(size, output_stride=output_stride, **arguments)
    return models.DeepLabLite(backbone, num_classes=CLASSES, channels=16)


def several_tasks():
    """Two heads, which have branches of the same dilation, on one trunk."""
    backbone = models.MobileNetV2((40, 48, 3), 0.35, total_stride=16, output_stride=8)
    return models.MultiTask(backbone, [COLOUR, BRIGHTNESS], channels=8)


def numbers():
    """A network with a number at every pixel, and no classes."""
    return models.MultiTask(models.ResNet18((20, 28, 3), 0.125, "small", output_stride=8), [BRIGHTNESS], channels=8)


def foreign():
    """A network of `keras.applications` with what ours lack: squeeze-and-excite, hard swish, rescaling inside."""
    return keras.applications.MobileNetV3Small(
        (33, 47, 3), weights=None, classes=CLASSES, classifier_activation=None, name="foreign"
    )


PUBLISHED = list(zoo.read_index())
KINDS = {
    "mobilenet_v2": mobilenet_v2,
    "resnet18": resnet18,
    "deeplab": lambda: deeplab(models.MobileNetV2, (40, 36, 3), 16, alpha=0.35),  # rows and columns that end in a cell
    "several_tasks": several_tasks,
}
OTHERS = {
    "deeplab_resnet18_stride8": lambda: deeplab(models.ResNet18, (36, 45, 3), 8, width=0.125),
    "numbers": numbers,
    "foreign": foreign,
}


@pytest.fixture(scope="module", params=[*PUBLISHED, *KINDS, *OTHERS])
def exported(request, tmp_path_factory, make_lively, make_pictures, build_shallow):
    """A network, all its files and records, and what it answers to the images they were measured on."""
    name = request.param
    if name in PUBLISHED:  # the packaged pictures are of other things than those that it was trained on
        network = auxzoo.load(name)
        preprocessing = auxzoo.describe(network).preprocessing
        calibration = auxzoo.data.open_images("sample", "train").sample(100, seed=0)
        evaluation = auxzoo.data.open_images("sample", "test").sample(40, seed=0)
    else:
        with build_shallow() if name in KINDS else contextlib.nullcontext():
            network = (KINDS | OTHERS)[name]()
        preprocessing = models.Preprocessing(*network.input_shape[1:3])
        if name == "foreign":  # it scales its pixels itself
            preprocessing = dataclasses.replace(preprocessing, scale=(1.0,) * 3, offset=(0.0,) * 3)
        tasks = {"several_tasks": [BRIGHTNESS, COLOUR], "numbers": [BRIGHTNESS]}.get(name)
        if tasks is None and len(network.output_shape) == 4:
            tasks = [COLOUR]
        calibration, evaluation = make_pictures(24, seed=1), make_pictures(40, seed=2, tasks=tasks)
        make_lively(network, next(iter(calibration.batches(preprocessing, 24)))[0])
    formats = list(DEFAULT_FORMATS if name in OTHERS else FORMATS)
    folder = tmp_path_factory.mktemp("exported")
    told = []
    records = export_files(
        network,
        folder,
        formats,
        calibration=calibration,
        evaluation=evaluation,
        description=models.Description((), preprocessing) if name == "foreign" else None,
        name="net",
        progress=told.append,
    )
    images, truth = next(iter(evaluation.batches(preprocessing, evaluation.size)))
    outputs = network(images)
    outputs = outputs if isinstance(outputs, dict) else {"brightness" if name == "numbers" else "logits": outputs}
    expected = {name: np.asarray(values) for name, values in outputs.items()}
    return types.SimpleNamespace(
        name=name,
        network=network,
        folder=folder,
        formats=formats,
        all_records={record["format"]: record for record in records},
        records={record["format"]: record for record in records if "refused" not in record},
        files={record["format"]: folder / record["file"] for record in records if "refused" not in record},
        told=told,
        preprocessing=preprocessing,
        calibration=calibration,
        evaluation=evaluation,
        images=images.numpy(),
        truth=truth,
        expected=expected,
        spread={name: values.std(axis=0).mean() for name, values in expected.items()},
    )


def graph_of(path):
    """Returns the only subgraph of a TFLite file."""
    model = schema.Model.GetRootAs(path.read_bytes(), 0)
    assert model.SubgraphsLength() == 1
    return model.Subgraphs(0)


def number_types(path):
    """Returns how many tensors of each number type a TFLite file has."""
    names = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    graph = graph_of(path)
    kinds = [names[graph.Tensors(index).Type()] for index in range(graph.TensorsLength())]
    return {kind: kinds.count(kind) for kind in kinds}


def operations_of(network):
    """Returns how many additions, multiplications and matrix products a network is made of, without batch-norm."""
    adds = multiplications = products = 0
    for operation in network.operations:
        kind = type(operation).__name__
        activation = getattr(getattr(operation, "activation", None), "__name__", "")
        adds += kind in ("Add", "Rescaling") or activation == "hard_silu"
        multiplications += kind in ("Multiply", "Rescaling") or 2 * (activation == "hard_silu")
        products += {"Conv2D": 1, "DepthwiseConv2D": 1, "Dense": 1, "SeparableConv2D": 2}.get(kind, 0)
    return adds, multiplications, products


def tflite_files(case):
    return {form: path for form, path in case.files.items() if path.suffix == ".tflite"}


def onnx_files(case):
    return {form: path for form, path in case.files.items() if path.suffix == ".onnx"}


def outputs_in(told):
    """Returns the outputs that a record or a file tells of: one has `output`, several have `outputs`."""
    return told.get("outputs") or [told["output"]]


def predicted(path, images):
    """Returns what a file answers, by name of the output."""
    file = open_file(path)
    received = file.predict(images)
    return received if isinstance(received, dict) else {file.tensors()["output"]["name"]: received}


def distances(received, other, case):
    """Returns how far answers are from others, an output each, in the unit of the limits above."""
    assert received.keys() == other.keys() == case.spread.keys()
    return [np.abs(received[name] - other[name]).mean() / spread for name, spread in case.spread.items()]


@pytest.fixture(scope="module")
def answers(exported):
    """What the files of a network answer: format -> name of the output -> values."""
    return {form: predicted(path, exported.images) for form, path in exported.files.items()}


def test_formats_that_few_need_are_made_on_request_alone():
    assert not [form for form in DEFAULT_FORMATS if "int16" in form or "uint8" in form]


@pytest.mark.slow  # every network is converted once
class TestEveryNetwork:
    def test_every_format_is_a_file_with_a_record(self, exported):
        assert list(exported.all_records) == exported.formats
        names = {path.name for path in exported.files.values()}
        records = {form: f"net{FORMATS[form].suffix}.json" for form in exported.formats}
        assert {path.name for path in exported.folder.iterdir()} == names | set(records.values())
        for form, name in records.items():
            written = json.loads((exported.folder / name).read_text())
            assert written == json.loads(json.dumps(exported.all_records[form]))
            assert f"{written['file']}.json" == name

    def test_records_are_complete(self, exported):
        ends = {"outputs"} if len(exported.expected) > 1 else {"output"}
        for form, record in exported.records.items():
            assert set(record) == RECORD | ends, form
            assert record["format"] == form
            open_ones = {"calibration", "quantization", "keras_accuracy"}
            assert not [name for name, value in record.items() if value is None and name not in open_ones], form
            assert len(record["metadata"]["weights_sha256"]) == 64

    def test_what_the_runtime_refuses_is_told_by_name(self, exported):
        """Some of weights that nobody trained, and then in int16 alone."""
        refused = {form: record for form, record in exported.all_records.items() if form not in exported.records}
        assert set(refused) <= set(INT16 if exported.name in KINDS else ())
        for form, record in refused.items():
            assert set(record) == REFUSAL, form
            assert record["refused"].startswith("LiteRT's interpreter does not take the file: "), form
            assert not (exported.folder / record["file"]).exists()

    def test_every_step_is_told_in_its_order(self, exported):
        few = (size := exported.calibration.size) < 100
        assert exported.told == [
            f"looking for images to calibrate on that are none of the {exported.evaluation.size} of the evaluation",
            *[f"calibrating on {size} images, fewer than the 100 that are advised"] * few,
            f"converting to {len(exported.formats)} formats",
            *(f"converting {form}" for form in exported.formats),
            f"measuring the Keras network on {exported.evaluation.size} images",
            *(f"measuring {path.name}" for path in exported.files.values()),
        ]

    def test_answers_differ_from_image_to_image(self, exported):
        """Or the comparisons below would see nothing."""
        others = {name: np.roll(values, 1, axis=0) for name, values in exported.expected.items()}
        assert min(distances(others, exported.expected, exported)) > 1.8 * QUANTIZED_LIMIT

    @pytest.mark.parametrize("form", FLOATS)
    def test_float_files_answer_as_keras(self, exported, answers, form):
        assert max(distances(answers[form], exported.expected, exported)) < FLOAT32_LIMIT
        for name, expected in exported.expected.items():
            largest = np.abs(answers[form][name] - expected).max()
            assert largest < 1e-4 * max(1, np.abs(expected).max()), f"largest difference of {name}: {largest}"

    def test_float16_answers_nearly_as_keras(self, exported, answers):
        assert max(distances(answers["tflite_float16"], exported.expected, exported)) < FLOAT16_LIMIT

    @pytest.mark.parametrize("form", QUANTIZED)
    def test_quantized_files_answer_much_as_keras(self, exported, answers, form):
        if form not in exported.files:
            pytest.skip("no file: see the formats, and what is refused")
        assert max(distances(answers[form], exported.expected, exported)) < QUANTIZED_LIMIT
        if exported.name in PUBLISHED and form != "tflite_dynamic":  # of trained weights more can be asked
            mean = exported.records[form]["parity"]["mean_difference"]
            assert mean < (0.2 if FORMATS[form].activations == "int8" else 0.1)

    def test_other_ends_are_the_same_file(self, exported, answers):
        for activations in ("int8", "int16"):
            alike = [form for form in tflite_files(exported) if FORMATS[form].activations == activations]
            for form in alike[1:]:
                # Both round the input; 0.5 of a step may be rounded either way.
                assert max(distances(answers[form], answers[alike[0]], exported)) < 0.1, form

    def test_inputs_and_outputs_have_names_and_batch_1(self, exported):
        shapes = {name: [1, *values.shape[1:]] for name, values in exported.expected.items()}
        for form, path in exported.files.items():
            tensors = open_file(path).tensors()
            assert tensors["input"]["name"] == "image", form
            assert tensors["input"]["shape"] == [1, *exported.network.input_shape[1:]], form
            assert {output["name"]: output["shape"] for output in outputs_in(tensors)} == shapes, form

    def test_all_shapes_are_static(self, exported):
        for form, path in tflite_files(exported).items():
            graph = graph_of(path)
            for tensor in (graph.Tensors(index) for index in range(graph.TensorsLength())):
                assert tensor.ShapeSignatureLength() == 0, f"{form}: {tensor.Name()} has an open shape"

    def test_number_types_of_inputs_and_outputs(self, exported):
        for form, path in exported.files.items():
            expected = "tensor(float)" if path.suffix == ".onnx" else FORMATS[form].ends
            tensors = open_file(path).tensors()
            assert {tensors["input"]["type"], *(output["type"] for output in outputs_in(tensors))} == {expected}, form

    def test_every_channel_of_a_convolution_has_a_scale_of_its_own(self, exported, scales):
        for form, path in tflite_files(exported).items():
            if FORMATS[form].activations is not None:
                found = scales(path.read_bytes())
                assert found, form
                assert all(count == channels for count, channels in found.values()), form

    def test_whole_numbers_are_computed_with_alone(self, exported, kernels):
        within = {"int8": {"INT8", "INT32"}, "int16": {"INT16", "INT8", "INT32", "INT64"}}
        for form, path in tflite_files(exported).items():
            activations, ends = FORMATS[form].activations, FORMATS[form].ends.upper()
            if activations is None:
                continue
            found = number_types(path)
            assert set(found) <= within[activations] | {ends}, form
            if ends not in within[activations]:
                assert found[ends] == 1 + len(exported.expected), f"{form}: more than the ends are {ends}"
            assert set(kernels(path.read_bytes()).values()) == {"INT8"}, form

    def test_operators_are_built_in(self, exported):
        known = set(vars(schema.BuiltinOperator)) - {"CUSTOM"}
        for form, path in tflite_files(exported).items():
            assert set(read_model_file(path).operator_counts()) <= known, form
        for form, path in onnx_files(exported).items():
            model = onnx.load(path)
            assert {node.domain for node in model.graph.node} == {""}, form
            onnx.checker.check_model(model, full_check=True)

    def test_opset_is_17(self, exported):
        for form, path in onnx_files(exported).items():
            opsets = [opset.version for opset in onnx.load(path).opset_import if opset.domain == ""]
            assert opsets == [17], form

    def test_no_batch_normalization_is_left(self, exported):
        folded = fold_batch_normalization(exported.network)
        assert not [layer for layer in folded.layers if isinstance(layer, keras.layers.BatchNormalization)]
        adds, multiplications, products = operations_of(exported.network)
        for form, path in tflite_files(exported).items():
            operators = read_model_file(path).operator_counts()
            assert operators.get("ADD", 0) <= adds, form
            assert operators.get("MUL", 0) <= multiplications, form
            assert not {"SUB", "DIV", "RSQRT"} & set(operators), form
            found = sum(operators.get(name, 0) for name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"))
            assert found == products, form
        for form, path in onnx_files(exported).items():
            operators = read_model_file(path).operator_counts()
            assert operators.get("Add", 0) <= adds, form
            assert operators.get("Mul", 0) <= multiplications, form
            assert not {"BatchNormalization", "Sub", "Div", "Sqrt"} & set(operators), form
            assert sum(operators.get(name, 0) for name in ("Conv", "Gemm", "MatMul")) == products, form

    def test_dilated_convolutions_are_plain_ones(self, exported):
        if exported.name == "several_tasks":  # TensorFlow would move both heads' batches of spaces into one
            rates = {name: exported.network.get_layer(f"{name}_aspp_rate2").dilation_rate for name in exported.expected}
            assert rates == {"colour": (2, 2), "brightness": (2, 2)}
        for form, path in tflite_files(exported).items():
            names = set(read_model_file(path).operator_counts())
            assert "DEPTHWISE_CONV_2D" in names or "CONV_2D" in names
            assert not {"SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"} & names, form
            # What lies beyond the picture is cut off by an operator that the 8-bit specification has.
            assert ("SLICE" in names) == (exported.name in ("deeplab", "deeplab_resnet18_stride8", "numbers")), form
            assert "STRIDED_SLICE" not in names or exported.name == "foreign", form

    def test_smaller_formats_are_smaller(self, exported):
        sizes = {form: path.stat().st_size for form, path in exported.files.items()}
        assert sizes["tflite_float16"] < 0.6 * sizes["tflite_float32"]
        for form in tflite_files(exported).keys() & QUANTIZED:
            share = 0.6 if form in INT16 else 0.5  # biases of int16 files have 64 bits
            assert sizes[form] < share * sizes["tflite_float32"], form
        if "onnx_int8" in sizes:
            assert sizes["onnx_int8"] < sizes["onnx"]
        weights = 4 * fold_batch_normalization(exported.network).count_params()
        for form in FLOATS:
            assert weights <= sizes[form] < 1.25 * weights, f"{form} holds more than the weights"

    def test_record_is_of_the_very_file(self, exported):
        for form, path in exported.files.items():
            record, content = exported.records[form], path.read_bytes()
            assert record["sha256"] == hashlib.sha256(content).hexdigest()
            assert record["bytes"] == len(content)
            ends = {name: record[name] for name in ("input", "output", "outputs") if name in record}
            assert record["operators"] == read_model_file(path).operator_counts()
            assert ends == open_file(path).tensors()
        checksums = [record["sha256"] for record in exported.records.values()]
        assert len(set(checksums)) == len(exported.files)

    def test_record_tells_of_every_target_of_its_kind(self, exported):
        for form, path in exported.files.items():
            file = read_model_file(path)
            profiles = [name for name, target in TARGETS.items() if target.kind == form.partition("_")[0]]
            expected = {name: summarize(check_target(file, name)) for name in profiles}
            assert exported.records[form]["targets"] == expected, form
            fits = {name for name, lines in expected.items() if not lines}
            if form.startswith("onnx"):  # the operator set alone keeps it from there
                assert expected["onnxruntime-mobile"] == ["operator set 17, must be 12 to 15 (file)"], form
            # The foreign network has an operator (HARD_SWISH) that some lack.
            assert fits == FITS[form] - ({"npu-int8", "edgetpu"} if exported.name == "foreign" else set()), form

    def test_recorded_parity_is_that_of_the_file(self, exported, answers):
        for form in exported.files:
            parity = exported.records[form]["parity"]
            assert (parity["images"], parity["source"]) == (len(exported.images), exported.evaluation.name)
            for name, expected in exported.expected.items():
                told = parity[name] if len(exported.expected) > 1 else parity
                received = answers[form][name]
                difference = np.abs(received - expected)
                # Keras' own answers differ in the last digits with the size of the batch.
                near = {"rel": 1e-3, "abs": 1e-5 * max(1.0, float(np.abs(expected).max()))}
                assert told["largest_difference"] == pytest.approx(difference.max(), **near), (form, name)
                assert told["mean_difference"] == pytest.approx(difference.mean(), **near), (form, name)
                if name == "brightness":
                    assert "same_prediction" not in told
                else:
                    same = (received.argmax(-1) == expected.argmax(-1)).mean()
                    assert told["same_prediction"] == pytest.approx(same, abs=1e-3), (form, name)

    def test_recorded_scores_of_masks_are_those_of_the_file(self, exported, answers):
        if "logits" not in exported.expected or exported.expected["logits"].ndim == 2:
            pytest.skip("no masks alone: see the next tests")
        for form in exported.files:
            record, metric = exported.records[form], Segmentation(CLASSES)
            for logits, truth in zip(answers[form]["logits"], exported.evaluation.targets["colour"], strict=True):
                metric.update_logits(tf.image.resize(logits, truth.shape).numpy(), truth)
            assert record["accuracy"]["mean_iou"] == pytest.approx(metric.mean_iou(), rel=1e-12)
            assert record["accuracy"]["images"] == exported.evaluation.size
            assert record["keras_accuracy"] is None
        scores = exported.records["tflite_float32"]
        assert scores["accuracy"]["mean_iou"] == pytest.approx(scores["keras_scores"]["mean_iou"], abs=1e-3)

    def test_recorded_scores_of_several_tasks_are_those_of_the_file(self, exported, answers):
        if len(exported.expected) == 1:
            pytest.skip("one task: see the tests before and after")
        evaluation = exported.evaluation.with_tasks({name: name for name in exported.expected})
        for form in exported.files:
            scores = Scores(evaluation, exported.preprocessing)
            scores.update(answers[form], 0)
            for name, value in scores.result().items():
                assert exported.records[form]["accuracy"][name] == pytest.approx(value, rel=1e-9), (form, name)

    def test_recorded_errors_of_numbers_are_those_of_the_file(self, exported, answers):
        if "brightness" not in exported.expected:
            pytest.skip("no numbers: see the tests before and after")
        truths = exported.evaluation.targets["brightness"].astype("float64")
        prefix = "brightness_" if len(exported.expected) > 1 else ""
        for form in exported.files:
            resized = tf.image.resize(answers[form]["brightness"], truths.shape[1:]).numpy()[..., 0]
            errors, scores = resized.astype("float64") - truths, exported.records[form]["accuracy"]
            by_hand = {
                "root_mean_squared_error": np.sqrt((errors**2).mean()),
                "mean_absolute_error": np.abs(errors).mean(),
            }
            for name, value in by_hand.items():
                assert scores[f"{prefix}{name}"] == pytest.approx(value, rel=1e-6), (form, name)
        told = exported.records["tflite_float32"]
        for name in (f"{prefix}root_mean_squared_error", f"{prefix}mean_absolute_error"):
            assert told["accuracy"][name] == pytest.approx(told["keras_scores"][name], rel=1e-3)

    def test_recorded_accuracy_is_that_of_the_file(self, exported, answers):
        if exported.expected.get("logits", np.empty(0)).ndim != 2:
            pytest.skip("no class an image: see the tests before")
        expected, classes = exported.expected["logits"], exported.truth.numpy()
        keras_accuracy = float((expected.argmax(-1) == classes).mean())
        for form in exported.files:
            record = exported.records[form]
            by_hand = float((answers[form]["logits"].argmax(-1) == classes).mean())
            assert record["accuracy"] == {
                "images": exported.evaluation.size,
                "accuracy": by_hand,
                "source": exported.evaluation.name,
            }
            assert record["keras_accuracy"] == keras_accuracy
        assert exported.records["tflite_float32"]["accuracy"]["accuracy"] == keras_accuracy
        for form in ("tflite_int8", "onnx"):
            measured = evaluate_file(exported.files[form], exported.evaluation, exported.preprocessing)
            assert exported.records[form]["accuracy"] == measured

    def test_record_tells_calibration_and_quantization(self, exported):
        chosen = exported.calibration.sample(exported.calibration.size, seed=0)
        for form, record in exported.records.items():
            if not FORMATS[form].needs_calibration:
                assert record["calibration"] is record["quantization"] is None, form
                continue
            told = dict(record["calibration"])
            assert models.Preprocessing(**told.pop("preprocessing")) == exported.preprocessing
            assert told == chosen.manifest(), form
            engine = "onnxruntime" if form == "onnx_int8" else "tensorflow"
            expected = {"engine": engine, "calibration_method": "min_max", "keep_float": []}
            assert record["quantization"] == expected, form

    def test_record_tells_tools_and_latency(self, exported):
        for record in exported.records.values():
            assert record["tools"]["tensorflow"] == importlib.metadata.version("tensorflow")
            assert record["tools"]["tf2onnx"] == importlib.metadata.version("tf2onnx")
            assert record["tools"]["auxzoo"] == auxzoo.__version__
            assert 0 < record["latency"]["median_ms"] <= record["latency"]["p95_ms"]

    def test_runs_in_an_interpreter_without_our_code(self, exported):
        run = Interpreter(str(exported.files["tflite_float32"])).get_signature_runner()
        for image, place in zip(exported.images[:3], range(3), strict=True):
            received = run(image=image[None])
            for name, expected in exported.expected.items():
                limit = 1e-4 * max(1, np.abs(expected).max())
                np.testing.assert_allclose(received[name][0], expected[place], atol=limit)
