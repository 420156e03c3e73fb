"""ONNX files: operator sets, order of axes, batches, int8; the four kinds of network, a few that are not ours."""

import importlib.util
import json
import types
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from keras import layers

from auxzoo import models
from auxzoo.errors import UserError
from auxzoo.export import OnnxOptions, export_files, onnx_quantization, open_file, read_model_file, to_onnx
from auxzoo.export.apart import FileApart
from auxzoo.export.conversion import Conversion, convert
from auxzoo.export.folding import fold_batch_normalization
from auxzoo.export.measurement import check_batches
from auxzoo.export.onnx_conversion import onnx_content
from auxzoo.export.onnx_options import LAYOUT_KEY
from auxzoo.export.outputs import outputs_of

SIZE = (32, 48, 3)


def segmenter():
    backbone = models.MobileNetV2(SIZE, 0.35, output_stride=16)
    return models.DeepLabLite(backbone, num_classes=3)


def several_tasks():
    """A class, and a height at every pixel, of one backbone with a dilated and a grouped convolution."""
    inputs = keras.Input(SIZE)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, dilation_rate=2, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(8, 3, groups=4, padding="same", use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    height = layers.UpSampling2D(2, interpolation="bilinear")(layers.Conv2D(1, 1)(x))
    kind = layers.Dense(3)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, {"height": height, "kind": kind}, name="several")


KINDS = {
    "mobilenet_v2": lambda: models.MobileNetV2(SIZE, 0.35, num_classes=3),
    "resnet18": lambda: models.ResNet18(SIZE, 0.125, "small", num_classes=3),
    "deeplab": segmenter,
    "several": several_tasks,
}
# Every value of each option, and each at least once with a dense network.
OPTIONS = {
    "plain": OnnxOptions(13),
    "nchw": OnnxOptions(15, layout="nchw"),
    "dynamic": OnnxOptions(18, batch="dynamic"),
    "both": OnnxOptions(16, layout="nchw", batch="dynamic"),
}


# Pairwise: every kind of network in both layouts, and with batches of one and of any size.
PAIRS = [
    *(("mobilenet_v2", "plain"), ("mobilenet_v2", "both")),
    *(("resnet18", "nchw"), ("resnet18", "dynamic")),
    *(("deeplab", "nchw"), ("deeplab", "dynamic")),
    *(("several", "plain"), ("several", "both")),
]


@pytest.fixture(scope="module")
def case(request, shallow_networks, make_random):
    """A network whose outputs answer to the image, images, and what Keras gives for them."""
    network = make_random(KINDS[request.param](), 0)
    images = np.random.default_rng(1).uniform(-1, 1, (12, *SIZE)).astype("float32")
    normalizations = [layer for layer in network.layers if isinstance(layer, layers.BatchNormalization)]
    for layer in normalizations:
        layer.momentum = 0.0
        layer.beta.assign_add(keras.ops.ones_like(layer.beta))
    network(images, training=True)
    expected = network(images)
    expected = expected if isinstance(expected, dict) else {"logits": expected}
    expected = {name: np.asarray(value) for name, value in expected.items()}
    for value in expected.values():
        assert np.std(value, axis=0).max() > 1e-3, "the comparison would see nothing"
    return types.SimpleNamespace(network=network, images=images, expected=expected)


@pytest.fixture(scope="module")
def written(request, case, tmp_path_factory):
    """The float32 and the int8 file of the case, of some options."""
    folder, options = tmp_path_factory.mktemp("onnx"), OPTIONS[request.param]
    files = {"onnx": folder / "net.onnx", "onnx_int8": folder / "net_int8.onnx"}
    folded = fold_batch_normalization(case.network)
    convert(Conversion(folded, files, outputs_of(case.network), case.images, options))
    return types.SimpleNamespace(**vars(case), files=files, options=options)


def predicted(path, images, batch=1):
    received = open_file(path).predict(images, batch)
    return received if isinstance(received, dict) else {"logits": received}


@pytest.mark.slow
@pytest.mark.parametrize(("case", "written"), PAIRS, indirect=True, scope="module")
class TestKinds:
    def test_equal_to_keras_in_the_same_order_of_axes(self, written):
        for name, received in predicted(written.files["onnx"], written.images).items():
            largest = np.abs(written.expected[name]).max()
            np.testing.assert_allclose(received, written.expected[name], atol=1e-5 * largest, rtol=1e-4)

    def test_int8_answers_as_keras_does(self, written):
        for name, received in predicted(written.files["onnx_int8"], written.images).items():
            expected = written.expected[name]
            assert received.shape == expected.shape
            assert received.dtype == np.float32
            assert np.abs(received - expected).mean() < 0.1 * np.ptp(expected)

    def test_opset_names_shapes(self, written):
        for path in written.files.values():
            model = onnx.load(path)
            assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", written.options.opset)]
            assert [tensor.name for tensor in model.graph.input] == ["image"]
            assert {tensor.name for tensor in model.graph.output} == set(written.expected)
            batch = "batch" if written.options.is_dynamic else 1
            size = (3, *SIZE[:2]) if written.options.is_channels_first else SIZE
            tensors = open_file(path).tensors()
            assert tensors["input"]["shape"] == [batch, *size]
            for output in tensors.get("outputs", [tensors.get("output")]):
                shape = list(written.expected[output["name"]].shape[1:])
                if written.options.is_channels_first and len(shape) == 3:
                    shape = [shape[-1], *shape[:-1]]
                assert output["shape"] == [batch, *shape]

    def test_strictly_checked(self, written):
        for path in written.files.values():
            model = onnx.load(path)
            onnx.checker.check_model(model, full_check=True)
            onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)

    def test_batch_norm_is_folded(self, written):
        operators = read_model_file(written.files["onnx"]).operator_counts()
        assert "BatchNormalization" not in operators
        assert "Mul" not in operators
        adds = sum(isinstance(layer, layers.Add) for layer in written.network._flatten_layers())
        assert operators.get("Add", 0) == adds

    def test_channels_first_needs_no_transposition_of_the_image(self, written):
        if written.options.is_channels_first:
            model = onnx.load(written.files["onnx"])
            (reader, *_) = [node for node in model.graph.node if "image" in node.input]
            assert reader.op_type in ("Conv", "Pad")

    def test_any_number_of_images(self, written):
        for path in written.files.values():
            if not written.options.is_dynamic:
                with pytest.raises(UserError, match=r"`batch` must be 1: .* takes one image. Received: batch=2"):
                    predicted(path, written.images, 2)
                continue
            alone = predicted(path, written.images)
            for batch in (2, 5, 12):
                for name, received in predicted(path, written.images, batch).items():
                    scale = np.abs(alone[name]).max()
                    assert np.isclose(received, alone[name], atol=0.02 * scale).mean() > 0.99

    def test_int8_has_pairs_per_channel(self, written):
        model = onnx.load(written.files["onnx_int8"])
        scales = {tensor.name: tensor for tensor in model.graph.initializer}
        kernels = [node for node in model.graph.node if node.op_type == "Conv"]
        sources = {output: node for node in model.graph.node for output in node.output}
        assert kernels
        for kernel in kernels:
            image, weight = (sources[name] for name in kernel.input[:2])
            assert image.op_type == weight.op_type == "DequantizeLinear"
            assert list(scales[weight.input[1]].dims) == list(scales[weight.input[0]].dims)[:1]
            assert scales[weight.input[0]].data_type == onnx.TensorProto.INT8


@pytest.mark.slow
def test_constants_that_several_nodes_read_open_where_products_are_added_precisely(tmp_path, monkeypatch):
    """onnxruntime with `x64quantprecision` takes no constant twice: ours are each node's own, and others' open too.

    Those are then computed imprecisely, on a processor without instructions for dot products of 8 bits.
    """
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 1)(inputs)
    for _ in range(3):
        x = layers.Conv2D(4, 1)(x * layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0))  # hard swish, of the same constants
    network = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    images = np.random.default_rng(0).uniform(-1, 1, (20, 8, 8, 3)).astype("float32")
    content = onnx_content(network, outputs_of(network), OnnxOptions())
    made = {}
    for name in ("shared", "own"):
        if name == "shared":
            monkeypatch.setattr(onnx_quantization, "_part_constants", lambda graph: None)
        folder = tmp_path / name
        folder.mkdir()
        made[name] = onnx_quantization.int8_onnx_content(content, images, folder)
        (folder / "net.onnx").write_bytes(made[name])
        monkeypatch.undo()
        received = predicted(folder / "net.onnx", images)["logits"]
        expected = network(images).numpy()
        assert received.shape == expected.shape
        assert np.isfinite(received).all()
        if name == "own":
            assert np.abs(received - expected).mean() < 0.1 * expected.std()

    def readers(content):
        """Returns how many nodes read each constant that is dequantised."""
        graph = onnx.load_model_from_string(content).graph
        constants = {tensor.name for tensor in graph.initializer}
        names = [
            node.output[0] for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in constants
        ]
        return [sum(name in node.input for node in graph.node) for name in names]

    assert set(readers(made["own"])) == {1}
    assert max(readers(made["shared"])) == 3, "the network has nothing to part"
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    onnxruntime.InferenceSession(made["own"], options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def small():
    keras.utils.set_random_seed(0)  # how far int8 is off depends on the weights
    inputs = keras.Input((8, 10, 3))
    x = layers.ReLU()(layers.Conv2D(4, 3)(inputs))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)), name="small")


class TestOptions:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"opset": 12}, "`opset` must be 13 to 18. Received: opset=12"),
            ({"opset": 19}, "`opset` must be 13 to 18. Received: opset=19"),
            ({"opset": True}, "`opset` must be 13 to 18"),
            ({"opset": "17"}, "`opset` must be 13 to 18"),
            ({"layout": "chwn"}, "`layout` must be nhwc or nchw. Received: layout='chwn'"),
            ({"layout": None}, "`layout` must be nhwc or nchw"),
            ({"batch": 4}, "`batch` must be 1 or 'dynamic'. Received: batch=4"),
            ({"batch": True}, "`batch` must be 1 or 'dynamic'"),
            ({"batch": None}, "`batch` must be 1 or 'dynamic'"),
            ({"quantization": "int4"}, "`quantization` must be one of None, 'int8_float_io'. Received: 'int4'"),
            ({"quantization": "int8_float_io"}, "`calibration` must be real images for int8. Received: none"),
            (
                {"calibration_method": "entropy"},
                "`calibration_method` must be one of min_max, percentile. Rec.*'entropy'",
            ),
        ],
    )
    def test_wrong_ones_are_refused_by_name(self, small, tmp_path, settings, message):
        with pytest.raises(UserError, match=message):
            to_onnx(small, tmp_path / "a.onnx", **settings)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.slow
    @pytest.mark.parametrize("method", ["min_max", "percentile"])
    def test_methods_of_calibration(self, small, tmp_path, method):
        colours = np.random.default_rng(0).uniform(-1, 1, (120, 1, 1, 3))
        images = (colours * np.linspace(0.5, 1, 10)[:, None] * np.ones((8, 1, 1))).astype("float32")
        images[3, 2, 2, 0] = 40  # one value of 28,800: percentile cuts it off
        path = to_onnx(
            small,
            tmp_path / "a.onnx",
            layout="nchw",
            quantization="int8_float_io",
            calibration=images,
            calibration_source="colours",
            calibration_method=method,
        )
        record = json.loads((tmp_path / "a.onnx.json").read_text())
        assert (record["format"], record["calibration"]["count"]) == ("onnx_int8", 120)
        step = self.step_of_input(path)
        assert (step > 41 / 256) if method == "min_max" else (1 / 256 < step < 4 / 256)
        usual = np.delete(images, 3, axis=0)
        assert np.abs(open_file(path).predict(usual) - small(usual).numpy()).mean() < 0.03

    @staticmethod
    def step_of_input(path):
        """Returns how far neighbouring values of the quantised input are apart."""
        graph = onnx.load(path).graph
        (scale,) = {
            node.input[1] for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "image"
        }
        return float(onnx.numpy_helper.to_array(next(each for each in graph.initializer if each.name == scale)))

    @pytest.mark.slow
    def test_export_files_takes_options_and_the_target_its_operator_set(self, small, tmp_path):
        description = models.Description((), models.Preprocessing(8, 10))
        options = OnnxOptions(14, "nchw", "dynamic")
        (record,) = export_files(small, tmp_path, ["onnx"], description=description, name="net", onnx=options)
        assert record["input"]["shape"] == ["batch", 3, 8, 10]
        assert record["parity"]["largest_difference"] < 1e-5


class TestReading:
    """Files of any layout and batch are read, whoever wrote them."""

    @staticmethod
    def write(path, shape, nodes=None, properties=None, output_shape=None):
        """Writes a file that gives its input."""
        make = onnx.helper
        nodes = nodes or [make.make_node("Identity", ["x"], ["y"])]
        kinds = (("x", shape), ("y", output_shape or shape))
        ends = [make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, sizes) for name, sizes in kinds]
        model = make.make_model(
            make.make_graph(nodes, "g", ends[:1], ends[1:]), opset_imports=[make.make_opsetid("", 17)]
        )
        model.ir_version = 8
        make.set_model_props(model, properties or {})
        onnx.save(model, path)
        return path

    @pytest.mark.parametrize(
        ("shape", "properties"),
        [
            ([1, 3, 4, 6], {}),  # three channels can only be the second axis
            ([1, 4, 6, 3], {}),
            ([1, 3, 6, 3], {}),  # both: channels last, as before
            ([1, 5, 4, 6], {LAYOUT_KEY: "NCHW"}),
            ([1, 3, 4, 6], {LAYOUT_KEY: "NHWC"}),
            (["n", 3, 4, 6], {}),
        ],
    )
    def test_images_are_channels_last_whatever_the_file(self, tmp_path, shape, properties):
        path = self.write(tmp_path / "a.onnx", shape, properties=properties)
        first = properties.get(LAYOUT_KEY, "NCHW" if shape[1] == 3 and shape[3] != 3 else "NHWC") == "NCHW"
        size = (*shape[2:], shape[1]) if first else shape[1:]
        images = np.random.default_rng(0).normal(size=(3, *size)).astype("float32")
        np.testing.assert_array_equal(open_file(path).predict(images), images)
        open_file(path).run_once()

    def test_images_of_the_other_order_are_refused(self, tmp_path):
        path = self.write(tmp_path / "a.onnx", [1, 3, 4, 6])
        with pytest.raises(UserError, match=r"`images` must be of shape \[count, 4, 6, 3\]. Received: shape \(1, 3, 4"):
            open_file(path).predict(np.zeros((1, 3, 4, 6)))

    @pytest.mark.parametrize(("layout", "shape"), [("CHWN", [1, 3, 4, 6]), ("", [1, 3, 4, 6]), ("NCHW", [1, 8])])
    def test_layouts_that_make_no_sense_are_refused(self, tmp_path, layout, shape):
        path = self.write(tmp_path / "a.onnx", shape, properties={LAYOUT_KEY: layout})
        with pytest.raises(UserError, match=f"must have the {LAYOUT_KEY} NHWC or NCHW, of an image of four axes"):
            open_file(path)

    @pytest.mark.parametrize("shape", [[2, 3, 4, 6], ["n", 3, "h", "w"]])
    def test_other_open_sizes_are_refused(self, tmp_path, shape):
        path = self.write(tmp_path / "a.onnx", shape)
        with pytest.raises(UserError, match="must take one image of a fixed size"):
            open_file(path)

    def test_a_batch_that_mixes_images_is_found(self, tmp_path):
        make = onnx.helper
        nodes = [
            make.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
            make.make_node("Sub", ["x", "m"], ["y"]),
        ]
        images = np.random.default_rng(0).normal(size=(4, 4, 6, 3)).astype("float32")
        check_batches(open_file(self.write(tmp_path / "good.onnx", ["n", 4, 6, 3])), images)
        with (
            FileApart(self.write(tmp_path / "bad.onnx", ["n", 4, 6, 3], nodes)) as bad,
            pytest.raises(UserError, match="`batch` cannot be dynamic: the file gives 2 images something else"),
        ):
            check_batches(bad, images)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNet", "MobileNetV2"])
def test_a_network_of_keras_applications(make_pictures, name):
    """By the command whose table is committed, smaller; a third, MobileNetV3, goes through the common test case."""
    path = Path(__file__).parents[2] / "benchmarks" / "keras_applications.py"
    if not path.exists():
        pytest.skip("needs the source tree")
    specification = importlib.util.spec_from_file_location("keras_applications", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    network, preprocessing = module.build(name, 64, make_pictures(32, seed=0))
    images = next(iter(make_pictures(8, seed=1).batches(preprocessing, 8)))[0]
    expected = network(images).numpy()
    assert expected.std(axis=0).max() > 1e-3
    found = module._export(
        network,
        models.Description((), preprocessing),
        ("tflite_float32", "tflite_int8", "onnx"),
        make_pictures(32, seed=2),
        None,
    )
    for form in ("tflite_float32", "onnx"):
        assert found[form]["largest_difference"] < 1e-3 * np.abs(expected).max()
    # The answers to another image are 1.13 deviations away.
    assert found["tflite_int8"]["mean_difference"] < 0.7 * expected.std(axis=0).mean()


def test_gelu_is_that_of_keras(tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = layers.Activation(lambda values: keras.activations.gelu(values, approximate=True))(inputs)
    network = keras.Model(inputs, layers.Activation("gelu")(layers.Conv2D(4, 1)(x)), name="bells")
    images = np.random.default_rng(0).uniform(-4, 4, (4, 8, 8, 3)).astype("float32")
    expected = network(images)
    content = onnx_content(network, outputs_of(network), OnnxOptions())
    (tmp_path / "net.onnx").write_bytes(content)
    np.testing.assert_allclose(predicted(tmp_path / "net.onnx", images)["logits"], expected, atol=2e-6)


def test_a_converter_that_fails_leaves_no_file(small, tmp_path):
    images = np.ones((2, 5, 5, 3), "float32")
    conversion = Conversion(small, {"onnx_int8": tmp_path / "a.onnx"}, outputs_of(small), images)
    assert "the converter does not take the network: " in convert(conversion).refused["onnx_int8"]
    assert list(tmp_path.iterdir()) == []
