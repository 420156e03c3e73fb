"""What the tests of exported files share: networks that answer to their input, and the files of a tiny one."""

import types

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import auxzoo
from auxzoo import models
from auxzoo.data import ImageSet
from auxzoo.export.conversion import Conversion, convert
from auxzoo.export.folding import fold_batch_normalization
from auxzoo.export.formats import DEFAULT_FORMATS, FORMATS
from auxzoo.export.outputs import outputs_of

COLOURS = ("red", "green", "blue")


@pytest.fixture(scope="session")
def make_lively(make_random):
    """A function that gives a network random weights, and batch-norm statistics that fit images.

    With statistics that fit nothing the signal dies on its way through fifty layers: the logits would be the
    same for every image, and a file that ignores its input would pass for equal.
    """

    def lively(network, images, seed=0):
        make_random(network, seed)
        generator = np.random.default_rng(seed)
        for layer in network.layers:
            if isinstance(layer, keras.layers.DepthwiseConv2D | keras.layers.SeparableConv2D):
                # Each output reads the few pixels of one channel, mostly the middle one.
                kernel = next(weight for weight in layer.weights if weight.name in ("kernel", "depthwise_kernel"))
                value = generator.normal(0, 0.1, kernel.shape)
                value[kernel.shape[0] // 2, kernel.shape[1] // 2] += 1
                kernel.assign(value)
            elif isinstance(layer, keras.layers.BatchNormalization):
                # Most values pass the ReLU: random layers that cut half of them multiply every error.
                layer.beta.assign_add(keras.ops.ones_like(layer.beta))
        normalizations = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
        momenta = [layer.momentum for layer in normalizations]
        for layer in normalizations:
            layer.momentum = 0.0
        network(images, training=True)
        for layer, momentum in zip(normalizations, momenta, strict=True):
            layer.momentum = momentum
        # Logits round zero, so that no class wins everywhere. The layers of one of several tasks begin with its name.
        outputs = network(images)
        for name, values in outputs.items() if isinstance(outputs, dict) else [("", outputs)]:
            layers = [layer for layer in network.layers if layer.name.startswith(name)]
            logits = next(layer for layer in reversed(layers) if getattr(layer, "bias", None) is not None)
            if values.shape[-1] > 1:
                logits.bias.assign_sub(values.numpy().mean(axis=tuple(range(values.ndim - 1))))
        return network

    return lively


@pytest.fixture(scope="session")
def make_pictures():
    """A function that returns an `ImageSet` of colours that run across the picture; red, green or blue prevails.

    The truth is which of them, or where `tasks` are given, which at every pixel (`colour`), and how bright that is.
    """

    def pictures(count, seed, size=24, tasks=None):
        generator = np.random.default_rng(seed)
        colours = generator.uniform(0, 255, (count, 1, 1, 3))
        slopes = generator.uniform(-120, 120, (2, count, 1, 1, 3))
        place = np.linspace(-0.5, 0.5, size)
        images = colours + slopes[0] * place[:, None, None] + slopes[1] * place[None, :, None]
        images = np.clip(images + generator.normal(0, 8, images.shape), 0, 255)
        images, name = images.astype("uint8"), f"colours {seed}"
        if tasks is not None:
            truth = {"colour": images.argmax(axis=-1), "brightness": images.mean(axis=-1)}
            return ImageSet.from_targets(images, tasks, {task.name: truth[task.name] for task in tasks}, name)
        return ImageSet.from_arrays(images, colours[:, 0, 0].argmax(axis=-1), COLOURS, name)

    return pictures


def kernel_types(content):
    """Returns the number types of the weights of convolutions and matrix products: output tensor's name -> type."""
    names = {value: name for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
    model = schema.Model.GetRootAs(content, 0)
    graph, found = model.Subgraphs(0), {}
    products = {schema.BuiltinOperator.CONV_2D, schema.BuiltinOperator.DEPTHWISE_CONV_2D}
    products |= {schema.BuiltinOperator.FULLY_CONNECTED}
    for operator in (graph.Operators(index) for index in range(graph.OperatorsLength())):
        if model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode() in products:
            kernel = graph.Tensors(operator.Inputs(1))
            found[kernel.Name().decode()] = names[kernel.Type()]
    return found


def kernel_scales(content):
    """Returns how many scales and channels the weights of convolutions have: output tensor's name -> both numbers."""
    model = schema.Model.GetRootAs(content, 0)
    graph, found = model.Subgraphs(0), {}
    axes = {schema.BuiltinOperator.CONV_2D: 0, schema.BuiltinOperator.DEPTHWISE_CONV_2D: 3}
    for operator in (graph.Operators(index) for index in range(graph.OperatorsLength())):
        code = model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()
        if code in axes:
            kernel = graph.Tensors(operator.Inputs(1))
            found[kernel.Name().decode()] = kernel.Quantization().ScaleLength(), int(kernel.Shape(axes[code]))
    return found


@pytest.fixture(scope="session")
def scales():
    """The function `kernel_scales`."""
    return kernel_scales


@pytest.fixture(scope="session")
def kernels():
    """The function `kernel_types`."""
    return kernel_types


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A network whose logits are the mean of each channel, every kind of its files, and its preprocessing.

    A picture that is red all over belongs to class 0, a green one to class 1, a blue one to class 2.
    """
    inputs = keras.Input((4, 6, 3))
    pooled = keras.layers.GlobalAveragePooling2D(name="pooling")(inputs)
    outputs = keras.layers.Dense(3, name="classes")(pooled)
    network = keras.Model(inputs, outputs, name="tiny")
    network.get_layer("classes").set_weights([np.eye(3, dtype="float32"), np.zeros(3, "float32")])
    folder = tmp_path_factory.mktemp("tiny")
    files = {form: folder / f"tiny{FORMATS[form].suffix}" for form in DEFAULT_FORMATS}
    colours = np.random.default_rng(0).uniform(-1, 1, (100, 1, 1, 3)).astype("float32")
    images, folded = np.tile(colours, (1, 4, 6, 1)), fold_batch_normalization(network)
    convert(Conversion(folded, files, outputs_of(network), images))
    preprocessing = models.Preprocessing(height=4, width=6)
    return types.SimpleNamespace(
        network=network,
        files=files,
        preprocessing=preprocessing,
        description=models.Description((), preprocessing, (auxzoo.Task("colour", "classification"),)),
    )
