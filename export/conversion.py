"""Converting a network in a child process: converters leak memory, and print what no user wants to see.

The parent (`convert`) writes the network, the calibration images and a job; the child (`main`) writes one file
a format; the parent moves them to their places when all are there.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from auxzoo.child_process import run_module
from auxzoo.files import move_together

from .formats import FORMATS, INPUT_NAME


def convert(network, paths, outputs, calibration=None, opset=17):
    """Writes a network, already folded and checked, in several formats; all files appear or none.

    Args:
        network: functional `keras.Model` of one input, all shapes static but for the batch.
        paths: `dict` of format name to the `Path` of its file.
        outputs: list of `Output`.
        calibration: float32 `[count, height, width, 3]`, preprocessed, for formats that need it.
        opset: ONNX operator set.

    Raises:
        ChildFailed: if the child fails or is killed.
    """
    with tempfile.TemporaryDirectory(prefix="auxzoo-") as folder:
        folder = Path(folder)
        network.save(folder / "network.keras")
        if calibration is not None:
            np.save(folder / "calibration.npy", calibration)
        of_job = [[output.name, output.key, output.activation] for output in outputs]
        (folder / "job.json").write_text(json.dumps({"formats": list(paths), "opset": opset, "outputs": of_job}))
        # An accelerator must not be taken from a training that still runs.
        run_module("auxzoo.export.conversion", folder, {"CUDA_VISIBLE_DEVICES": "-1"})
        move_together({folder / name: path for name, path in paths.items()})


def main(folder):
    """Runs in the child: writes the job's formats into `folder`, each under its format's name."""
    import keras

    job = json.loads((folder / "job.json").read_text())
    network = keras.models.load_model(folder / "network.keras", compile=False)
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            # As tensors they would become inputs of the ONNX file.
            layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)
    _dilate_in_one_operator()
    calibration_file = folder / "calibration.npy"
    calibration = np.load(calibration_file) if calibration_file.exists() else None
    tflite_formats = [name for name in job["formats"] if name != "onnx"]
    if tflite_formats:
        _save_for_tflite(network, job["outputs"], folder / "saved_model")
    for name in tflite_formats:
        content = _tflite(folder / "saved_model", FORMATS[name].quantization, calibration)
        (folder / name).write_bytes(content)
    if "onnx" in job["formats"]:
        (folder / "onnx").write_bytes(_onnx(network, job["outputs"], job["opset"]))


def _dilate_in_one_operator():
    """Lets TensorFlow write a dilated depthwise convolution as one operator, in this process.

    It writes three, of which the converters make one again; but not where two convolutions of one dilation read the
    same tensor, as those of two heads do: then the first of the three is shared, and stays as it is. TensorFlow cannot
    compute the one operator on a processor, so this is for converting alone.
    """
    import tensorflow as tf

    def depthwise_conv2d(input, filter, strides, padding, data_format=None, dilations=None, name=None):
        data_format, dilations = data_format or "NHWC", list(dilations or (1, 1))
        rates = [1, 1, *dilations] if data_format == "NCHW" else [1, *dilations, 1]
        return tf.raw_ops.DepthwiseConv2dNative(
            input=input,
            filter=filter,
            strides=list(strides),
            padding=padding,
            data_format=data_format,
            dilations=rates,
            name=name,
        )

    def separable_conv2d(
        input, depthwise_filter, pointwise_filter, strides, padding, data_format=None, dilations=None, name=None
    ):
        x = depthwise_conv2d(input, depthwise_filter, strides, padding, data_format, dilations)
        return tf.nn.conv2d(x, pointwise_filter, 1, "VALID", data_format=data_format or "NHWC", name=name)

    tf.nn.depthwise_conv2d, tf.nn.separable_conv2d = depthwise_conv2d, separable_conv2d


def _single_image_function(network, outputs):
    """Returns a `tf.function` of one image, with named input and outputs, and its signature."""
    import tensorflow as tf

    signature = [tf.TensorSpec((1, *network.input_shape[1:]), tf.float32, name=INPUT_NAME)]

    activations = {
        None: tf.identity,
        "softmax": tf.nn.softmax,
        "argmax": lambda logits: tf.argmax(logits, axis=-1, output_type=tf.int32),
    }

    @tf.function(input_signature=signature)
    def predict(image):
        values = network(image, training=False)
        return {
            name: tf.identity(activations[activation](values if key is None else values[key]), name=name)
            for name, key, activation in outputs
        }

    return predict, signature


def _save_for_tflite(network, outputs, folder):
    # Of all ways into the converter this one keeps the weights, names the tensors, and tells its errors.
    import keras

    predict, signature = _single_image_function(network, outputs)
    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint("serve", predict, input_signature=signature)
    archive.write_out(folder, verbose=False)


def _tflite(saved_model, quantization, calibration):
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=["serve"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if quantization is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantization in ("int8", "int8_float_io"):
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: ([image[None]] for image in calibration)
    if quantization == "int8":
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
    return converter.convert()


def _onnx(network, outputs, opset):
    import tf2onnx

    predict, signature = _single_image_function(network, outputs)
    model, _ = tf2onnx.convert.from_function(predict, input_signature=signature, opset=opset)
    if [tensor.name for tensor in model.graph.input] != [INPUT_NAME]:
        raise RuntimeError(f"tf2onnx made inputs of {[tensor.name for tensor in model.graph.input]}")
    _round_scales_up(model.graph)
    _split_double_biases(model.graph)
    _drop_idle_reshapes(model)
    return model.SerializeToString()


def _round_scales_up(graph):
    """Makes the sizes that a Resize gives the same for every reader.

    tf2onnx writes scales where TensorFlow has sizes, and readers round down: 5 rows times 7.2 must be 36 rows, also
    where 7.2 is a little less as a float32.
    """
    import onnx

    names = {node.input[2] for node in graph.node if node.op_type == "Resize" and len(node.input) == 3}
    for tensor in graph.initializer:
        if tensor.name in names:
            scales = onnx.numpy_helper.to_array(tensor)
            whole = scales == np.round(scales)
            scales = np.where(whole, scales, np.nextafter(scales, np.float32(np.inf)))
            tensor.CopyFrom(onnx.numpy_helper.from_array(scales, tensor.name))


def _split_double_biases(graph):
    """Gives a convolution with two biases one, and an Add after it.

    Keras adds a feature map of one pixel, `[1, 1, 1, channels]`, as if it were a bias, and tf2onnx puts that
    into the convolution before it, which has its bias already: four inputs, which no reader takes.
    """
    import onnx

    nodes = []
    for node in graph.node:
        nodes.append(node)
        if node.op_type != "Conv" or len(node.input) < 4:
            continue
        (summand,) = node.input[3:]
        del node.input[3:]
        result, node.output[0] = node.output[0], f"{node.output[0]}_convolved"
        axes = onnx.numpy_helper.from_array(np.array([0, 2, 3], np.int64), f"{result}_axes")
        graph.initializer.append(axes)
        as_map = onnx.helper.make_node("Unsqueeze", [summand, axes.name], [f"{result}_summand"])
        nodes += [as_map, onnx.helper.make_node("Add", [node.output[0], as_map.output[0]], [result])]
    del graph.node[:]
    graph.node.extend(nodes)


def _drop_idle_reshapes(model):
    """Takes out whatever only writes a shape differently and ends at the shape that it began with.

    Where a stage is one pixel tf2onnx turns transpositions into reshapes, and leaves some of them, another number each
    time it converts the same network.
    """
    import onnx

    graph = model.graph
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = [*inferred.input, *inferred.value_info, *inferred.output]
    shapes = {value.name: [size.dim_value for size in value.type.tensor_type.shape.dim] for value in values}
    sources = {}  # what a tensor is but for its shape
    for node in graph.node:  # in the order of computation
        if node.op_type in ("Reshape", "Squeeze", "Unsqueeze"):
            sources[node.output[0]] = sources.get(node.input[0], node.input[0])
    outputs = {output.name for output in graph.output}
    same = {
        name: source
        for name, source in sources.items()
        # A size of 0 is one that could not be inferred.
        if name not in outputs and 0 not in shapes.get(name, [0]) and shapes.get(name) == shapes.get(source)
    }
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
    _drop_unread(graph, outputs)


def _drop_unread(graph, outputs):
    """Removes nodes and weights that nothing reads any more."""
    read, nodes = set(outputs), []
    for node in reversed(graph.node):
        if read.intersection(node.output):
            read.update(node.input)
            nodes.append(node)
    weights = [weight for weight in graph.initializer if weight.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(nodes))
    graph.initializer.extend(weights)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
