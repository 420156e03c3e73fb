"""What a network needs beside its graph: taps, preprocessing, labels, task."""

import dataclasses
import math
import numbers
from typing import Literal, get_args

import keras

from auxzoo.errors import UserError

Task = Literal["features", "classification", "segmentation"]


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """How pictures become the network's input; carried out by `auxzoo.data.preprocess`, the one function
    that training, calibration, evaluation and prediction share.

    Attributes:
        height: rows of the input, pixels.
        width: columns of the input, pixels.
        fit: `"resize"` (bilinear, to height and width) or `"pad"` (zeros round a smaller picture, centred).
        scale: factor on the values 0 to 255, one a channel (red, green, blue).
        offset: added after scaling, one a channel.

    Raises:
        UserError: if a value is not so.
    """

    height: int
    width: int
    fit: Literal["resize", "pad"] = "resize"
    scale: tuple[float, float, float] = (1 / 127.5,) * 3
    offset: tuple[float, float, float] = (-1.0,) * 3

    def __post_init__(self):
        if self.fit not in ("resize", "pad"):
            raise UserError(f'`fit` must be "resize" or "pad". Received: fit={self.fit!r}')
        for field in ("height", "width"):
            size = getattr(self, field)
            if isinstance(size, bool) or not isinstance(size, numbers.Integral) or size < 1:
                raise UserError(f"`{field}` must be 1 pixel or more. Received: {field}={size!r}")
        for field in ("scale", "offset"):
            values = getattr(self, field)
            if (
                not isinstance(values, (list, tuple))
                or len(values) != 3
                or not all(isinstance(value, numbers.Real) and -math.inf < value < math.inf for value in values)
            ):
                raise UserError(f"`{field}` must be three numbers, one a channel. Received: {field}={values!r}")
            object.__setattr__(self, field, tuple(values))


@dataclasses.dataclass(frozen=True)
class Description:
    """What a network needs beside its graph.

    Attributes:
        taps: pairs `(tap, layer name)` in order from input to output. A tap is an alias of that layer's output.
        preprocessing: how pictures become the input.
        task: `"features"` (a backbone without head), `"classification"` (logits, one a class) or
            `"segmentation"` (logits, one a class at every pixel of the input).
        labels: names of the classes in the order of the logits; empty where nobody gave them names.

    Raises:
        UserError: if a value is not so.
    """

    taps: tuple[tuple[str, str], ...]
    preprocessing: Preprocessing
    task: Task = "features"
    labels: tuple[str, ...] = ()

    def __post_init__(self):
        if not isinstance(self.preprocessing, Preprocessing):
            raise UserError(f"`preprocessing` must be a Preprocessing. Received: preprocessing={self.preprocessing!r}")
        if self.task not in get_args(Task):
            raise UserError(f"`task` must be one of {', '.join(get_args(Task))}. Received: task={self.task!r}")
        if not _are_names(self.labels):
            raise UserError(f"`labels` must be a list of names. Received: labels={self.labels!r}")
        if not isinstance(self.taps, (list, tuple)) or not all(
            _are_names(pair) and len(pair) == 2 for pair in self.taps
        ):
            raise UserError(f"`taps` must be pairs of names, of the tap and of its layer. Received: taps={self.taps!r}")
        object.__setattr__(self, "labels", tuple(self.labels))
        object.__setattr__(self, "taps", tuple(tuple(pair) for pair in self.taps))

    def to_dict(self):
        """Returns the description as plain JSON types."""
        value = dataclasses.asdict(self)
        value["taps"] = dict(self.taps)  # JSON objects keep their order
        return value

    @classmethod
    def from_dict(cls, value):
        """Returns the description that `to_dict` wrote; strict about its keys.

        Raises:
            UserError: if a key is unknown or missing, or a value is not allowed.
        """
        _check_keys("description", value, cls)
        _check_keys("preprocessing", value["preprocessing"], Preprocessing)
        if not isinstance(value["taps"], dict):
            raise UserError(f"`taps` of a description must be an object. Received: taps={value['taps']!r}")
        return cls(
            **{
                **value,
                "taps": tuple(value["taps"].items()),
                "preprocessing": Preprocessing(**value["preprocessing"]),
            }
        )


def _check_keys(name, value, kind):
    """Raises a `UserError` unless `value` is a JSON object with the fields of a dataclass."""
    fields = dataclasses.fields(kind)
    allowed = {field.name for field in fields}
    required = {field.name for field in fields if field.default is dataclasses.MISSING}
    if not isinstance(value, dict) or not required <= set(value) <= allowed:
        received = sorted(map(str, value)) if isinstance(value, dict) else repr(value)
        raise UserError(
            f"`{name}` must have the keys of {kind.__name__}, {', '.join(sorted(allowed))} "
            f"({', '.join(sorted(required))} always). Received: {received}"
        )


def _are_names(value):
    return isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)


@keras.saving.register_keras_serializable("auxzoo")
class Network(keras.Model):
    """A functional `keras.Model` that carries its description, through `.keras` files and `from_config` too.

    It adds nothing to the graph: every layer in it is a stock Keras layer.
    """

    description = None

    def get_config(self):
        """Returns the functional configuration and the description."""
        return {**super().get_config(), "description": self.description.to_dict()}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Returns the network of `get_config`, with fresh weights."""
        config = dict(config)
        description = Description.from_dict(config.pop("description"))
        network = super().from_config(config, custom_objects=custom_objects)
        network.description = description
        return network


def described(inputs, outputs, description, name):
    """Returns a functional network from `inputs` to `outputs` that carries `description`.

    Raises:
        UserError: if a tap names a layer that the network does not have.
    """
    network = Network(inputs=inputs, outputs=outputs, name=name)
    layer_names = {layer.name for layer in network.layers}
    for tap, layer_name in description.taps:
        if layer_name not in layer_names:
            raise UserError(f"`taps` must name layers of {name!r}. Received: {tap}={layer_name!r}")
    network.description = description
    return network


def describe(model):
    """Returns the `Description` that one of our networks carries.

    Args:
        model: a network made by `auxzoo.models`, loaded by `auxzoo.load` or from a `.keras` file of one.

    Raises:
        UserError: if `model` carries none; functions that need one take it as an argument then.

    Example:
        >>> import auxzoo
        >>> network = auxzoo.models.ResNet18(input_shape=(32, 32, 3), width=0.25)
        >>> [tap for tap, layer in auxzoo.describe(network).taps]
        ['stem', 'stage1', 'stage2', 'stage3', 'stage4']
    """
    description = getattr(model, "description", None)
    if not isinstance(description, Description):
        raise UserError(
            f"`model` must be a network that carries a description (one made by auxzoo). "
            f"Received: {getattr(model, 'name', model)!r}; pass `description=Description(...)` where it is asked for."
        )
    return description
