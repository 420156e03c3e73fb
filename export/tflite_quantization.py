"""TFLite files that compute in whole numbers, by either engine. For the child process that converts.

Ranges are measured once; then every choice of layers that stay float costs a fraction of a second, so that a report or
a search can try them all.
"""

import re

import keras

from .activation_ranges import activation_ranges
from .formats import FORMATS, INPUT_NAME
from .layer_operators import last_layers, layer_operators
from .refused import Refused, no_operator_of, short
from .tflite_conversion import tflite_content, whole_number_converter

_LEVELS = {"int8": 2**8, "int16": 2**16}


class Quantizer:
    """What both engines share.

    Args:
        float_content: `bytes` of the network's float32 file.
        images: float32 `[count, height, width, 3]`, the calibration images.
        layers: `dict` of the names of the network's layers to their numbers of weights.
        quantization: `Quantization`.
        last: `dict`, what `last_layers` returns.

    Attributes:
        operators: what `layer_operators` returns.
        weights: numbers of weights of the layers that have an operator.
    """

    def __init__(self, float_content, images, layers, quantization, last):
        self.float_content = float_content
        self.images = images
        self.method = quantization.calibration_method
        self.operators = layer_operators(float_content, layers, last)
        self.weights = {layer: layers[layer] for layer in self.operators}

    def content(self, form, keep_float=()):
        """Returns the bytes of a file.

        Args:
            form: a `Format` with `activations`.
            keep_float: names of layers.

        Raises:
            Refused: if a layer has no operator in the file, or it cannot be made.
        """
        for layer in keep_float:
            if layer not in self.operators:
                raise no_operator_of(layer)
        kept = dict.fromkeys(name for layer in keep_float for name in self.operators[layer])
        return bytes(self._content(form, list(kept)))


class TensorFlowQuantizer(Quantizer):
    """TensorFlow's converter: what `tf.lite.experimental.QuantizationDebugger` does, with ranges of our own."""

    def __init__(self, float_content, images, layers, quantization, last, saved_model):
        super().__init__(float_content, images, layers, quantization, last)
        from ai_edge_litert.tools import flatbuffer_utils

        converter = whole_number_converter(saved_model, "int8", images)
        converter._experimental_calibrate_only = True
        self._calibrated = converter.convert()
        if self.method == "min_max":
            return
        ranges = activation_ranges(float_content, images, self.method)
        model = flatbuffer_utils.convert_bytearray_to_object(bytearray(self._calibrated))
        for tensor in model.subgraphs[0].tensors:
            limits = ranges.get(tensor.name.decode())
            if limits is not None and tensor.quantization is not None and tensor.quantization.min is not None:
                tensor.quantization.min, tensor.quantization.max = [limits[0]], [limits[1]]
        self._calibrated = bytes(flatbuffer_utils.convert_object_to_bytearray(model))

    def _content(self, form, kept):
        import tensorflow as tf
        from tensorflow.lite.python import convert, util

        if form.activations != "int8":
            raise Refused("TensorFlow's converter keeps layers float, and takes other ranges, in int8 files alone")
        # Int8 in/out belong to the quantiser: then they are so beside a layer that stays float as well.
        content = convert.mlir_quantize(
            self._calibrated, fully_quantize=form.ends == "int8", denylisted_nodes=kept or None
        )
        if form.ends == "uint8":
            content = util.modify_model_io_type(content, tf.uint8, tf.uint8)
        return content


class AIEdgeQuantizer(Quantizer):
    """Google's `ai-edge-quantizer`, which reads the float32 file."""

    def __init__(self, float_content, images, layers, quantization, last):
        super().__init__(float_content, images, layers, quantization, last)
        self._ranges = {}

    def _content(self, form, kept):
        import tensorflow as tf
        from ai_edge_litert.tools import flatbuffer_utils
        from ai_edge_quantizer import qtyping, quantizer, recipe
        from tensorflow.lite.python import util

        names = quantizer.AlgorithmName
        of_type = {"int8": recipe.static_wi8_ai8, "int16": recipe.static_wi8_ai16}[form.activations]
        algorithm = names.OCTAV if self.method == "octav" else names.MIN_MAX_UNIFORM_QUANT
        engine = quantizer.Quantizer(self.float_content, of_type(algorithm))
        for name in kept:
            # Scopes are output tensors' names, each with a semicolon at its end.
            engine.update_quantization_recipe(
                f"^{re.escape(name)};?$", qtyping.TFLOperationName.ALL_SUPPORTED, algorithm_key=names.NO_QUANTIZE
            )
        bits = {"int8": 8, "int16": 16}[form.activations]
        # The last rule that fits counts, and the layers' rules fit the ends beside them too. One with the expression of
        # the recipe itself would stay in its place, which is before them.
        for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            if form.ends in ("float32", "uint8"):
                engine.update_quantization_recipe("^.*$", end, algorithm_key=names.NO_QUANTIZE)
            else:
                engine.add_static_config("^.*$", end, activation_num_bits=bits, weight_num_bits=8)
        content = engine.quantize(self._measured(engine, form.activations)).quantized_model
        # It keeps weights of 256 KiB and more behind the flatbuffer, where TensorFlow and metadata do not look.
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
        content = flatbuffer_utils.convert_object_to_bytearray(model)
        if form.ends == "uint8":
            content = util.modify_model_io_type(bytes(content), tf.uint8, tf.uint8)
        return content

    def _measured(self, engine, activations):
        """Returns the engine's statistics of the tensors, with the ranges of the method in them."""
        import numpy as np

        if activations not in self._ranges:
            # Of its own statistics only the moving average is used; else one image tells which tensors it wants.
            images = self.images if self.method == "moving_average" else self.images[:1]
            samples = [{INPUT_NAME: image[None]} for image in images]
            measured = engine.calibrate({"serve": samples}, num_threads=2)
            if self.method != "moving_average":
                method = "min_max" if self.method == "octav" else self.method
                chosen = activation_ranges(self.float_content, self.images, method, _LEVELS[activations])
                for name, limits in chosen.items():
                    if name in measured:
                        shape = np.shape(measured[name]["min"])
                        low, high = (np.full(shape, limit, np.float32) for limit in limits)
                        measured[name] = {**measured[name], "min": low, "max": high}
            self._ranges[activations] = measured
        return self._ranges[activations]


def open_quantizer(quantization, saved_model, images, network):
    """Returns the `Quantizer` of the engine that is asked for.

    Args:
        quantization: `Quantization`.
        saved_model: folder that `save_for_tflite` wrote.
        images: float32 `[count, height, width, 3]`, the calibration images.
        network: the Keras network.
    """
    float_content = tflite_content(saved_model, FORMATS["tflite_float32"], None)
    # A network that is a layer counts nothing itself: its layers do.
    layers = {
        layer.name: 0 if isinstance(layer, keras.Model) else layer.count_params()
        for layer in network._flatten_layers(include_self=False)
    }
    last = last_layers(network)
    if quantization.engine == "tensorflow":
        return TensorFlowQuantizer(float_content, images, layers, quantization, last, saved_model)
    return AIEdgeQuantizer(float_content, images, layers, quantization, last)


def check_allocation(content, form):
    """Raises `Refused` if LiteRT's interpreter does not take a file, or its in/out are not those of the `Format`."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise Refused(f"LiteRT's interpreter does not take the file: {short(error)}") from error
    for end, details in (("input", interpreter.get_input_details()), ("output", interpreter.get_output_details())):
        kinds = {np.dtype(detail["dtype"]).name for detail in details}
        if kinds - {form.ends, "int32"}:  # int32: classes
            raise Refused(f"its {end} would be {', '.join(kinds)} and not {form.ends}, for the layer there stays float")
