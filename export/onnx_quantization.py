"""An int8 ONNX file by onnxruntime's quantiser. For the child process that converts."""

import numpy as np

from .activation_ranges import PERCENTILE
from .formats import INPUT_NAME
from .layer_operators import layers_of
from .onnx_options import CALIBRATION_METHODS, LAYOUT_KEY
from .refused import no_operator_of

_AT_ONCE = 10  # images whose every activation is held in memory at a time


def int8_onnx_content(content, calibration, folder, calibration_method="min_max", keep_float=(), layers=(), found=()):
    """Returns the bytes of the int8 file of a float32 one: input and output stay float32.

    Weights are int8 per channel, activations int8 per tensor, written as pairs of QuantizeLinear and DequantizeLinear
    (QDQ) around float operators, which onnxruntime runs as whole-number ones.

    Args:
        content: bytes of a float32 ONNX file of ours, of any layout and batch.
        calibration: float32 `[count, height, width, 3]`, preprocessed, of the `Quantization` of all formats.
        folder: `Path` for what the quantiser writes.
        calibration_method: how the ranges of activations are found, a name among `CALIBRATION_METHODS`: of all values
            or of 99.99 % of them.
        keep_float: names of Keras layers whose operators stay float32.
        layers: names of all the network's layers, by which the operators' names are understood.
        found: names of more layers whose operators stay float32, as far as the file has any: some, such as padding, are
            part of the next one here.

    Raises:
        Refused: if such a layer has no operator in the file.
    """
    import onnx
    import onnxruntime.quantization as quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from .onnx_conversion import check_strictly, drop_unused_domains

    original = onnx.load_model_from_string(content)
    properties = {entry.key: entry.value for entry in original.metadata_props}
    if properties[LAYOUT_KEY] == "NCHW":
        calibration = calibration.transpose(0, 3, 1, 2)
    source, prepared, quantized = (folder / f"{step}.onnx" for step in ("source", "prepared", "quantized"))
    source.write_bytes(content)
    # Its symbolic inference is of transformers, and wants sympy; ours has all shapes.
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    kept = _nodes_of(onnx.load(prepared).graph, keep_float, set(layers), found)
    # The calibrator keeps every activation of what it is given at once; parts must be of one size.
    at_once = max(size for size in range(1, _AT_ONCE + 1) if len(calibration) % size == 0)
    quantization.quantize_static(
        prepared,
        quantized,
        _images_reader(calibration),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QInt8,
        weight_type=quantization.QuantType.QInt8,
        nodes_to_exclude=kept,
        calibrate_method=getattr(quantization.CalibrationMethod, CALIBRATION_METHODS[calibration_method]),
        extra_options={"CalibStridedMinMax": at_once}
        | ({"CalibPercentile": PERCENTILE} if calibration_method == "percentile" else {}),
    )
    model = onnx.load(quantized)
    _keep_weights(model.graph, kept)
    _part_constants(model.graph)
    drop_unused_domains(model)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, properties)
    check_strictly(model)
    return model.SerializeToString()


def _nodes_of(graph, kept, layers, found=()):
    """Returns the names of the nodes that the layers `kept` and `found` became; of the former each must have one."""
    of_node, constants = {}, {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        # tf2onnx names depthwise convolutions anew; their weights or biases tell whose they are.
        weights = [name for name in node.input if name in constants]
        of_node[node.name] = layers_of([node.name], layers) or layers_of(weights, layers)
    for layer in kept:
        if not any(layer in of_one for of_one in of_node.values()):
            raise no_operator_of(layer)
    return [name for name, of_one in of_node.items() if set(of_one) & {*kept, *found}]


def _keep_weights(graph, names):
    """Keeps onnxruntime from quantising the weights of the nodes that stay float.

    From 1.21 on it does so, with one scale a tensor, where a convolution or a matrix product reads what was just
    dequantised (WeightBiasQuantization). A Clip to the range that the numbers have anyway stands between.
    """
    from onnx import helper, numpy_helper

    producers = {output: node for node in graph.node for output in node.output}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    clipped = {}
    for node in list(graph.node):
        producer = producers.get(node.input[0]) if node.name in names else None
        if producer is None or producer.op_type != "DequantizeLinear":
            continue
        source = node.input[0]
        if source not in clipped:
            scale, zero_point = (constants[name] for name in producer.input[1:])
            limits = (np.array([-128, 127]) - zero_point.astype(int)) * scale
            clipped[source] = f"{source}_in_range"
            ends = [f"{source}_{end}" for end in ("lowest", "highest")]
            for end, limit in zip(ends, limits, strict=True):
                graph.initializer.append(numpy_helper.from_array(np.float32(limit), end))
            clip = helper.make_node("Clip", [source, *ends], [clipped[source]], name=clipped[source])
            graph.node.insert(list(graph.node).index(node), clip)
        node.input[0] = clipped[source]


def _part_constants(graph):
    """Gives each node a constant of its own where several read a dequantised one, such as the 3 of hard swishes.

    Sessions with `x64quantprecision`, which processors without VNNI need, replace each and fail at the second. The
    kernel of a layer that is called several times is in the file several times then.
    """
    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes, readers = list(graph.node), {}
    for node in nodes:
        for place, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, place))
    del graph.node[:]
    for node in nodes:
        graph.node.append(node)
        if node.op_type != "DequantizeLinear" or node.input[0] not in constants:
            continue
        for number, (reader, place) in enumerate(readers.get(node.output[0], ())[1:], 2):
            copy = graph.node.add()
            copy.CopyFrom(node)
            copy.output[0], copy.name = f"{node.output[0]}_{number}", f"{node.name}_{number}"
            for index, name in enumerate(node.input):  # scale and zero point, too
                constant = graph.initializer.add()
                constant.CopyFrom(constants[name])
                constant.name = copy.input[index] = f"{name}_{number}"
            reader.input[place] = copy.output[0]


def _images_reader(images):
    """Returns the images as onnxruntime's calibrator reads them, one by one, part after part."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.set_range(0, len(images))

        def __len__(self):
            return len(images)

        def set_range(self, start_index, end_index):
            self.rest = iter(images[start_index:end_index])

        def get_next(self):
            image = next(self.rest, None)
            return None if image is None else {INPUT_NAME: np.ascontiguousarray(image[None])}

    return Reader()
