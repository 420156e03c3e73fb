"""Which operators of a TFLite file a Keras layer became."""

import re


def layer_operators(content, layers, last=None):
    """Finds the operators of each layer by the tensors' names, which TensorFlow makes of the layers'.

    An operator that several layers were fused into (a convolution and its ReLU) is of each of them.

    Args:
        content: `bytes` of a TFLite file of float32, as `tflite_conversion` writes it.
        layers: names of the network's Keras layers, nested ones too.
        last: what `last_layers` returns. The operator of an output is called after the whole function; where it has no
            weights either, it is that of the layer that gives the output, unless that layer has one already.

    Returns:
        `dict` of the name of a layer to a list of the names of its operators' output tensors, in the file's order.
        Layers without an operator are not in it.

    Example:
        >>> layer_operators(content, ["predictions"])
        {'predictions': ['StatefulPartitionedCall:0']}
    """
    from ai_edge_litert import schema_py_generated as schema

    layers = set(layers)
    model = schema.Model.GetRootAs(content, 0)
    graph, of_output = model.Subgraphs(0), _layers_of_outputs(model, last or {})
    found = {}
    for operator in (graph.Operators(index) for index in range(graph.OperatorsLength())):
        names = [graph.Tensors(operator.Outputs(index)).Name().decode() for index in range(operator.OutputsLength())]
        of_operator = layers_of(names, layers)
        if not of_operator:
            # The last one's output is called after the function; its weights tell whose it is.
            inputs = [operator.Inputs(index) for index in range(1, operator.InputsLength())]
            of_operator = layers_of([graph.Tensors(index).Name().decode() for index in inputs if index >= 0], layers)
        if not of_operator and of_output.get(operator.Outputs(0)) not in found:
            of_operator = [layer for layer in [of_output.get(operator.Outputs(0))] if layer in layers]
        for layer in of_operator:
            found.setdefault(layer, []).append(names[0])
    return found


def last_layers(network):
    """Returns the layers that give a Keras network's outputs: name of the output -> layer; of one output `""`."""
    outputs = network.output if isinstance(network.output, dict) else {"": network.outputs[0]}
    return {name: tensor._keras_history.operation.name for name, tensor in outputs.items()}


def layers_by_operator(operators, weights):
    """Returns one layer an operator, in the file's order: of those fused into it the one with weights, or the first.

    Args:
        operators: what `layer_operators` returned.
        weights: `dict` of layer name to its number of weights.
    """
    of_operator = {}
    for layer, names in operators.items():
        for name in names:
            of_operator.setdefault(name, []).append(layer)
    chosen = [next((one for one in layers if weights.get(one)), layers[0]) for layers in of_operator.values()]
    return list(dict.fromkeys(chosen))


def _layers_of_outputs(model, last):
    """Returns the layers that give a file's outputs: place of the tensor -> layer."""
    signature = model.SignatureDefs(0) if model.SignatureDefsLength() else None
    outputs = [] if signature is None else [signature.Outputs(index) for index in range(signature.OutputsLength())]
    return {output.TensorIndex(): last.get("", last.get(output.Name().decode())) for output in outputs}


def layers_of(names, layers):
    """Returns the layers that names such as `net_1/conv_relu_1/Relu;net_1/conv_1/BiasAdd` tell of, in their order.

    Args:
        names: of tensors of a TFLite file, or of nodes of an ONNX file, that was made by way of TensorFlow.
        layers: set of the names of Keras layers.
    """
    found = []
    for part in ";".join(names).split(";"):
        # The innermost scope that is a layer; its last part is the operation's own name.
        for scope in reversed(part.split("/")[:-1]):
            # TensorFlow numbers a scope that it opens again, as it does for every one here.
            layer = next((name for name in (re.sub(r"_\d+$", "", scope), scope) if name in layers), None)
            if layer is not None:
                found.append(layer)
                break
    return list(dict.fromkeys(found))
