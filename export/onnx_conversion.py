"""An ONNX file by tf2onnx, and what must be mended in it. For the child process that converts."""

import numpy as np

from .formats import INPUT_NAME
from .onnx_options import LAYOUT_KEY
from .traced import gelu_of_erf, image_function

_TRACED_BATCH = 2  # of files that take any number: of one image alone, axes of batch and of one pixel look alike


def onnx_content(network, outputs, options):
    """Returns the bytes of the ONNX file of a network.

    Args:
        network: folded Keras model.
        outputs: list of `Output`.
        options: `OnnxOptions`.
    """
    import onnx
    import tf2onnx

    batch = _TRACED_BATCH if options.is_dynamic else 1
    predict, signature = image_function(network, outputs, batch, options.is_channels_first)
    with gelu_of_erf():
        model, _ = tf2onnx.convert.from_function(predict, input_signature=signature, opset=options.opset)
    if [tensor.name for tensor in model.graph.input] != [INPUT_NAME]:
        raise RuntimeError(f"tf2onnx made inputs of {[tensor.name for tensor in model.graph.input]}")
    _round_scales_up(model.graph)
    _split_double_biases(model.graph)
    _drop_idle_reshapes(model)
    if options.is_dynamic:
        model = _with_open_batch(model)
    drop_unused_domains(model)
    model.producer_version = tf2onnx.__version__  # it adds the commit it was built from, which it does not know
    onnx.helper.set_model_props(model, {LAYOUT_KEY: options.layout.upper()})
    check_strictly(model)
    return model.SerializeToString()


def check_strictly(model):
    """Raises an error of onnx unless a file is as the standard says, and every shape and type follows from others."""
    import onnx

    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)


def drop_unused_domains(model):
    """Takes out operator sets that no operator is of: a reader may not know them."""
    used = {node.domain for node in model.graph.node}
    kept = [opset for opset in model.opset_import if opset.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _with_open_batch(model):
    """Returns the model of `_TRACED_BATCH` images as one of any number of them.

    Traced with an open batch, the graph would compute every shape, keep reshapes that do nothing, and below operator
    set 18 tf2onnx gets some of a DeepLab wrong. In a graph of fixed shapes only reshapes tell the number of images.
    """
    import onnx

    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for index, node in enumerate(graph.node):
        if node.op_type != "Reshape" or node.input[1] not in weights:
            continue
        shape = np.array(onnx.numpy_helper.to_array(weights[node.input[1]]))
        if shape.size and shape[0] == _TRACED_BATCH:
            shape[0] = 0  # as many as come in
            name = f"{node.input[1]}_open_{index}"
            graph.initializer.append(onnx.numpy_helper.from_array(shape, name))
            node.input[1] = name
    _drop_unread(graph, {output.name for output in graph.output})
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return onnx.shape_inference.infer_shapes(model, data_prop=True)


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
