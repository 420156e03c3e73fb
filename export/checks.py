"""What may be exported: a compact network with static shapes, made of stock layers."""

import keras

from auxzoo.errors import UserError

from ..models.description import Network
from ..models.names import AUXILIARY_PREFIX
from .inlining import operations_of

# Of others, such as `Resizing`, `training=True` may be the default, and nothing depends on it.
_OTHERWISE_IN_TRAINING = (
    *(keras.Model, keras.layers.BatchNormalization, keras.layers.Dropout, keras.layers.SpatialDropout2D),
    *(keras.layers.AlphaDropout, keras.layers.GaussianDropout, keras.layers.GaussianNoise),
)


def exportable(model):
    """Returns the functional network that is exported: `model` itself, or what a built `keras.Sequential` holds.

    Raises:
        UserError: says what stands in the way of exporting `model`, and what to do.
    """
    if isinstance(model, keras.Sequential):
        if getattr(model, "_functional", None) is None:
            raise UserError(
                f"`model` must be built: begin it with `keras.Input`. Received: {model.name!r}, a keras.Sequential "
                "whose input shape is unknown"
            )
        functional = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
        functional.description = getattr(model, "description", None)
        model = functional
    if not (isinstance(model, keras.Model) and hasattr(model, "operations")):
        raise UserError(f"`model` must be a functional keras.Model. Received: {type(model).__name__}")
    if any(layer.name.startswith(AUXILIARY_PREFIX) for layer in model._flatten_layers(include_self=False)):
        raise UserError(
            f"`model` must be the compact network. Received: {model.name!r}, which holds its training-only "
            "auxiliary; hand over the compact one, `auxzoo.detach(model)`."
        )
    if len(model.inputs) != 1 or (len(model.outputs) != 1 and not isinstance(model.output, dict)):
        raise UserError(
            "`model` must have one input, and one output or a dict of them by task. "
            f"Received: {len(model.inputs)} inputs, {len(model.outputs)} outputs"
        )
    for tensor in (model.inputs[0], *model.outputs):
        if None in tensor.shape[1:]:
            raise UserError(
                f"`model` must have static shapes but for the batch. Received: {tensor.name} {tensor.shape}"
            )
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.Lambda):
            raise UserError(f"`model` must not hold a Lambda layer. Received: {layer.name!r}")
        _check_own(layer)
        foreign = None if isinstance(layer, keras.Model) else _foreign_part_of(layer)
        if foreign is not None:
            raise UserError(
                f"`model` must be made of Keras' own parts. Received: {layer.name!r} with {foreign}; the child process "
                "that converts knows no functions and classes of yours"
            )
        if layer.compute_dtype not in ("float32", "int32", "string"):
            raise UserError(
                f"`model` must compute in float32; rebuild it so and load the weights. Received: layer "
                f"{layer.name!r} computes in {layer.compute_dtype}"
            )
        calls = layer._inbound_nodes if isinstance(layer, _OTHERWISE_IN_TRAINING) else ()
        if any(node.arguments.kwargs.get("training") is True for node in calls):
            raise UserError(
                f"`model` must compute as at inference. Received: layer {layer.name!r}, called with training=True"
            )
    for operation in operations_of(model):  # some, such as `+`, are no layers
        _check_own(operation)
    return model


def _check_own(operation):
    if type(operation).__module__.split(".")[0] != "keras" and not isinstance(operation, Network):
        raise UserError(
            f"`model` must be made of Keras' own layers. Received: {operation.name!r} of class "
            f"{type(operation).__name__}"
        )


def _foreign_part_of(layer):
    """Returns in words what a layer holds that Keras does not have; `None` if it holds no such thing."""
    if getattr(getattr(layer, "activation", None), "__name__", "") == "<lambda>":
        return "a lambda"  # for which Keras writes no configuration that it reads
    try:
        return _foreign_part(layer.get_config())
    except (TypeError, ValueError, OSError):  # a `functools.partial`, or a lambda typed into a console, say
        return "a part that cannot be written down"


def _foreign_part(config):
    if isinstance(config, dict) and "class_name" in config and "config" in config:
        name, module = config["class_name"], config.get("module")
        if name == "__lambda__":
            return "a lambda"
        if name == "function":
            return f"the function {config['config']!r}"
        # Where the module is unknown, it is that of the user's own program.
        if name not in ("__tensor__", "__numpy__", "__typespec__") and (module or "").split(".")[0] != "keras":
            return f"an object of class {name}"
    parts = config.values() if isinstance(config, dict) else config if isinstance(config, (list, tuple)) else ()
    return next((found for found in map(_foreign_part, parts) if found is not None), None)


def check_takes_pictures(model, why):
    """Raises a `UserError` unless the input of a network is `(rows, columns, channels)`; `why` is what asks for it."""
    shape = tuple(model.inputs[0].shape[1:])
    if len(shape) != 3:
        raise UserError(f"`model` must take (rows, columns, channels) for {why}. Received: an input of shape {shape}")
