"""Networks used as layers of a network, replaced by their own layers."""

import collections

import keras


def inline_networks(model):
    """Returns a network in which the networks that are layers of it have given way to their own layers.

    A pretrained trunk called like a layer is the usual way of fine-tuning in Keras. Files of it are then the same as of
    a network that was built in one piece, and its layers can be named.

    Args:
        model: functional Keras model.

    Returns:
        plain functional `keras.Model` with the same outputs, and copies of all layers under their own names; `model`
        itself where there is nothing to do. A network stays a layer if it holds what is called like something else, or
        if it is handed anything but one tensor of the very type and shape that it was built for.

    Example:
        >>> trunk = keras.applications.MobileNetV2(include_top=False, input_shape=(96, 96, 3))
        >>> image = keras.Input((96, 96, 3))
        >>> flat = inline_networks(keras.Model(image, trunk(image)))
    """
    names = collections.Counter(operation.name for operation in {*operations_of(model), *model.operations})
    opened = {
        operation: operation._functional if isinstance(operation, keras.Sequential) else operation
        for operation in operations_of(model)
        if isinstance(operation, keras.Model)
        and all(names[inner.name] == 1 for inner in operations_of(operation))
        and all(_takes_as_built(operation, node.input_tensors) for node in operation._inbound_nodes)
    }
    if not opened:
        return model
    copies = {}

    def copied(layer):
        if layer in opened:
            return layer
        if layer not in copies:
            copies[layer] = type(layer).from_config(layer.get_config())
        return copies[layer]

    def called(layer, *args, **kwargs):
        if layer not in opened:
            return layer(*args, **kwargs)
        inputs = args[0] if args else kwargs["inputs"]
        return opened[layer]._run_through_graph(inputs, operation_fn=copied, call_fn=called)

    outputs = model.output if len(model.outputs) > 1 else model.outputs[0]
    plain = keras.Model(model.inputs[0], outputs, name=model.name)
    flat = keras.models.clone_model(plain, clone_function=copied, call_function=called)
    for original, copy in copies.items():
        if isinstance(original, keras.layers.Layer):
            copy_weights(original, copy)
    return flat


def _takes_as_built(network, tensors):
    """Whether a network does nothing to what it is handed before its first layer: it may cast, reshape and reorder."""
    if len(network.inputs) != 1 or len(tensors) != 1:
        return False
    built, handed = network.inputs[0], tensors[0]
    return built.dtype == handed.dtype and tuple(built.shape[1:]) == tuple(handed.shape[1:])


def copy_weights(original, copy):
    """Gives a copied layer, one of several layers too, the weights of the original."""
    if original.weights:
        copy.set_weights(original.get_weights())
    for layer in copy._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with constants made of its weights


def operations_of(network):
    """Returns all that a functional network does, in the networks in it too, each once: layers, bare operations."""
    found = {}
    for operation in getattr(network, "_functional", network).operations:
        if not isinstance(operation, keras.layers.InputLayer):
            found[operation] = None
            if isinstance(operation, keras.Model):
                found |= dict.fromkeys(operations_of(operation))
    return list(found)
