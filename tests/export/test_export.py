"""The common test case of exported files: one method a promise; every network goes through all of them."""

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
from auxzoo.export import DEFAULT_FORMATS, FORMATS, evaluate_file, export_files, open_file
from auxzoo.export.folding import fold_batch_normalization
from auxzoo.metrics import Segmentation

CLASSES = 3
TFLITE = [form for form in DEFAULT_FORMATS if form.startswith("tflite")]
FLOATS = ["tflite_float32", "onnx"]
QUANTIZED = ["tflite_dynamic", "tflite_int8", "tflite_int8_float_io"]

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


def foreign():
    """A network of `keras.applications` with what ours lack: squeeze-and-excite, hard swish, rescaling inside."""
    return keras.applications.MobileNetV3Small(
        (33, 47, 3), weights=None, classes=CLASSES, classifier_activation=None, name="foreign"
    )


NETWORKS = {
    "mobilenet_v2": mobilenet_v2,
    "resnet18": resnet18,
    "deeplab_mobilenet_v2": lambda: deeplab(models.MobileNetV2, (48, 32, 3), 16, alpha=0.35),
    "deeplab_mobilenet_v2_stride8": lambda: deeplab(models.MobileNetV2, (32, 48, 3), 8, alpha=0.35),
    "deeplab_resnet18": lambda: deeplab(models.ResNet18, (60, 45, 3), 16, width=0.125),
    "deeplab_resnet18_stride8": lambda: deeplab(models.ResNet18, (36, 45, 3), 8, width=0.125),
    "foreign": foreign,
}


@pytest.fixture(scope="module", params=NETWORKS)
def exported(request, tmp_path_factory, make_lively, make_pictures):
    """A network, all its files and records, and what it answers to the images they were measured on."""
    network = NETWORKS[request.param]()
    preprocessing = models.Preprocessing(*network.input_shape[1:3])
    if request.param == "foreign":  # it scales its pixels itself
        preprocessing = dataclasses.replace(preprocessing, scale=(1.0,) * 3, offset=(0.0,) * 3)
    task = auxzoo.Task("colour", "segmentation", ("red", "green", "blue"))
    tasks = [task] if len(network.output_shape) == 4 else None
    calibration, evaluation = make_pictures(24, seed=1), make_pictures(40, seed=2, tasks=tasks)
    make_lively(network, next(iter(calibration.batches(preprocessing, 24)))[0])
    folder = tmp_path_factory.mktemp("exported")
    told = []
    records = export_files(
        network,
        folder,
        calibration=calibration,
        evaluation=evaluation,
        description=models.Description((), preprocessing) if request.param == "foreign" else None,
        name="net",
        progress=told.append,
    )
    images, classes = next(iter(evaluation.batches(preprocessing, evaluation.size)))
    expected = network(images).numpy()
    return types.SimpleNamespace(
        network=network,
        folder=folder,
        told=told,
        records={record["format"]: record for record in records},
        files={form: folder / f"net{FORMATS[form].suffix}" for form in DEFAULT_FORMATS},
        preprocessing=preprocessing,
        calibration=calibration,
        evaluation=evaluation,
        images=images.numpy(),
        classes=classes.numpy(),
        expected=expected,
        spread=expected.std(axis=0).mean(),
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


def distance(case, form):
    """Returns how far a file's answers are from Keras', in the unit of the limits above."""
    return np.abs(open_file(case.files[form]).predict(case.images) - case.expected).mean() / case.spread


@pytest.mark.slow  # every network is converted once, to six formats
class TestEveryNetwork:
    def test_every_format_is_a_file_with_a_record(self, exported):
        assert list(exported.records) == list(DEFAULT_FORMATS)
        names = {path.name for path in exported.files.values()}
        assert {path.name for path in exported.folder.iterdir()} == names | {f"{name}.json" for name in names}
        for form, path in exported.files.items():
            written = json.loads((exported.folder / f"{path.name}.json").read_text())
            assert written == json.loads(json.dumps(exported.records[form]))
            assert written["file"] == path.name

    def test_every_step_is_told_in_its_order(self, exported):
        assert exported.told == [
            f"converting to {len(DEFAULT_FORMATS)} formats",
            *(f"converting {form}" for form in DEFAULT_FORMATS),
            f"measuring the Keras network on {exported.evaluation.size} images",
            *(f"measuring {path.name}" for path in exported.files.values()),
        ]

    def test_answers_differ_from_image_to_image(self, exported):
        """Or the comparisons below would see nothing."""
        others = np.roll(exported.expected, 1, axis=0)
        assert np.abs(others - exported.expected).mean() / exported.spread > 2 * QUANTIZED_LIMIT

    @pytest.mark.parametrize("form", FLOATS)
    def test_float_files_answer_as_keras(self, exported, form):
        assert distance(exported, form) < FLOAT32_LIMIT
        largest = np.abs(open_file(exported.files[form]).predict(exported.images) - exported.expected).max()
        assert largest < 1e-4, f"largest difference of a logit: {largest}"

    def test_float16_answers_nearly_as_keras(self, exported):
        assert distance(exported, "tflite_float16") < FLOAT16_LIMIT

    @pytest.mark.parametrize("form", QUANTIZED)
    def test_quantized_files_answer_much_as_keras(self, exported, form):
        assert distance(exported, form) < QUANTIZED_LIMIT

    def test_int8_with_float_ends_is_the_int8_file(self, exported):
        whole, float_ends = (
            open_file(exported.files[form]).predict(exported.images) for form in ("tflite_int8", "tflite_int8_float_io")
        )
        # Both round the input; 0.5 of a step may be rounded either way.
        assert np.abs(whole - float_ends).mean() / exported.spread < 0.1

    def test_input_and_output_have_names_and_batch_1(self, exported):
        for form, path in exported.files.items():
            tensors = open_file(path).tensors()
            assert tensors["input"]["name"] == "image", form
            assert tensors["output"]["name"] == "logits", form
            assert tensors["input"]["shape"] == [1, *exported.network.input_shape[1:]], form
            assert tensors["output"]["shape"] == [1, *exported.network.output_shape[1:]], form

    def test_all_shapes_are_static(self, exported):
        for form in TFLITE:
            graph = graph_of(exported.files[form])
            for tensor in (graph.Tensors(index) for index in range(graph.TensorsLength())):
                assert tensor.ShapeSignatureLength() == 0, f"{form}: {tensor.Name()} has an open shape"

    def test_number_types_of_input_and_output(self, exported):
        for form in TFLITE:
            tensors = open_file(exported.files[form]).tensors()
            expected = "int8" if form == "tflite_int8" else "float32"
            assert (tensors["input"]["type"], tensors["output"]["type"]) == (expected, expected), form
        tensors = open_file(exported.files["onnx"]).tensors()
        assert (tensors["input"]["type"], tensors["output"]["type"]) == ("tensor(float)", "tensor(float)")

    def test_int8_computes_in_int8_alone(self, exported):
        assert set(number_types(exported.files["tflite_int8"])) <= {"INT8", "INT32"}
        float_ends = number_types(exported.files["tflite_int8_float_io"])
        assert set(float_ends) <= {"INT8", "INT32", "FLOAT32"}
        assert float_ends["FLOAT32"] == 2, "more than input and output are float32"

    def test_operators_are_built_in(self, exported):
        known = set(vars(schema.BuiltinOperator)) - {"CUSTOM"}
        for form in TFLITE:
            operators = open_file(exported.files[form]).operators()
            assert set(operators) <= known, form
        model = onnx.load(exported.files["onnx"])
        assert {node.domain for node in model.graph.node} == {""}
        onnx.checker.check_model(model, full_check=True)

    def test_opset_is_17(self, exported):
        model = onnx.load(exported.files["onnx"])
        assert [(opset.domain, opset.version) for opset in model.opset_import if opset.domain == ""] == [("", 17)]

    def test_no_batch_normalization_is_left(self, exported):
        folded = fold_batch_normalization(exported.network)
        assert not [layer for layer in folded.layers if isinstance(layer, keras.layers.BatchNormalization)]
        adds, multiplications, products = operations_of(exported.network)
        for form in TFLITE:
            operators = open_file(exported.files[form]).operators()
            assert operators.get("ADD", 0) <= adds, form
            assert operators.get("MUL", 0) <= multiplications, form
            assert not {"SUB", "DIV", "RSQRT"} & set(operators), form
            found = sum(operators.get(name, 0) for name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"))
            assert found == products, form
        operators = open_file(exported.files["onnx"]).operators()
        assert operators.get("Add", 0) <= adds
        assert operators.get("Mul", 0) <= multiplications
        assert not {"BatchNormalization", "Sub", "Div", "Sqrt"} & set(operators)
        assert operators["Conv"] + operators.get("Gemm", 0) + operators.get("MatMul", 0) == products

    def test_dilated_convolutions_are_plain_ones(self, exported):
        for form in TFLITE:
            names = set(open_file(exported.files[form]).operators())
            assert not {"SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"} & names, form

    def test_smaller_formats_are_smaller(self, exported):
        sizes = {form: path.stat().st_size for form, path in exported.files.items()}
        assert sizes["tflite_float16"] < 0.6 * sizes["tflite_float32"]
        for form in QUANTIZED:
            assert sizes[form] < 0.5 * sizes["tflite_float32"], form
        weights = 4 * fold_batch_normalization(exported.network).count_params()
        for form in FLOATS:
            assert weights <= sizes[form] < 1.25 * weights, f"{form} holds more than the weights"

    def test_record_is_of_the_very_file(self, exported):
        for form, path in exported.files.items():
            record, content = exported.records[form], path.read_bytes()
            assert record["sha256"] == hashlib.sha256(content).hexdigest()
            assert record["bytes"] == len(content)
            file = open_file(path)
            assert record["operators"] == file.operators()
            assert {"input": record["input"], "output": record["output"]} == file.tensors()
        checksums = [record["sha256"] for record in exported.records.values()]
        assert len(set(checksums)) == len(DEFAULT_FORMATS)

    def test_recorded_parity_is_that_of_the_file(self, exported):
        for form, path in exported.files.items():
            received, parity = open_file(path).predict(exported.images), exported.records[form]["parity"]
            difference = np.abs(received - exported.expected)
            # Keras' own answers differ in the last digits with the size of the batch.
            assert parity["largest_difference"] == pytest.approx(difference.max(), rel=1e-3, abs=1e-5)
            assert parity["mean_difference"] == pytest.approx(difference.mean(), rel=1e-3, abs=1e-5)
            same = (received.argmax(-1) == exported.expected.argmax(-1)).mean()
            assert parity["same_prediction"] == pytest.approx(same, abs=1e-3)
            assert (parity["images"], parity["source"]) == (len(exported.images), exported.evaluation.name)

    def test_recorded_scores_of_masks_are_those_of_the_file(self, exported):
        if len(exported.network.output_shape) == 2:
            pytest.skip("a classifier has the accuracy of the next test")
        for form, path in exported.files.items():
            record, metric = exported.records[form], Segmentation(CLASSES)
            for logits, truth in zip(
                open_file(path).predict(exported.images), exported.evaluation.targets["colour"], strict=True
            ):
                metric.update_logits(tf.image.resize(logits, truth.shape).numpy(), truth)
            assert record["accuracy"]["mean_iou"] == pytest.approx(metric.mean_iou(), rel=1e-12)
            assert record["accuracy"]["images"] == exported.evaluation.size
            assert record["keras_accuracy"] is None
        scores = exported.records["tflite_float32"]
        assert scores["accuracy"]["mean_iou"] == pytest.approx(scores["keras_scores"]["mean_iou"], abs=1e-3)

    def test_recorded_accuracy_is_that_of_the_file(self, exported):
        if len(exported.network.output_shape) != 2:
            pytest.skip("a network with masks has the scores of the test before")
        keras_accuracy = float((exported.expected.argmax(-1) == exported.classes).mean())
        for form, path in exported.files.items():
            record = exported.records[form]
            assert record["accuracy"] == evaluate_file(path, exported.evaluation, exported.preprocessing)
            by_hand = float((open_file(path).predict(exported.images).argmax(-1) == exported.classes).mean())
            assert record["accuracy"] == {
                "images": exported.evaluation.size,
                "accuracy": by_hand,
                "source": exported.evaluation.name,
            }
            assert record["keras_accuracy"] == keras_accuracy
        assert exported.records["tflite_float32"]["accuracy"]["accuracy"] == keras_accuracy

    def test_record_tells_the_calibration(self, exported):
        chosen = exported.calibration.sample(exported.calibration.size, seed=0)
        for form, record in exported.records.items():
            if not FORMATS[form].needs_calibration:
                assert record["calibration"] is None, form
                continue
            preprocessing = record["calibration"].pop("preprocessing")
            assert record["calibration"] == chosen.manifest(), form
            assert models.Preprocessing(**preprocessing) == exported.preprocessing
            record["calibration"]["preprocessing"] = preprocessing

    def test_record_tells_tools_and_latency(self, exported):
        for record in exported.records.values():
            assert record["tools"]["tensorflow"] == importlib.metadata.version("tensorflow")
            assert record["tools"]["tf2onnx"] == importlib.metadata.version("tf2onnx")
            assert record["tools"]["auxzoo"] == auxzoo.__version__
            assert 0 < record["latency"]["median_ms"] <= record["latency"]["p95_ms"]

    def test_runs_in_an_interpreter_without_our_code(self, exported):
        interpreter = Interpreter(str(exported.files["tflite_float32"]))
        run = interpreter.get_signature_runner()
        received = np.concatenate([run(image=image[None])["logits"] for image in exported.images[:3]])
        np.testing.assert_allclose(received, exported.expected[:3], atol=1e-4)
