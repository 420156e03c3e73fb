"""What a network needs beside its graph: taps, preprocessing, labels, task."""

import dataclasses
from typing import Literal

import keras

from auxzoo.errors import UserError


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
    """

    height: int
    width: int
    fit: Literal["resize", "pad"] = "resize"
    scale: tuple[float, float, float] = (1 / 127.5,) * 3
    offset: tuple[float, float, float] = (-1.0,) * 3

    def __post_init__(self):
        if self.fit not in ("resize", "pad"):
            raise UserError(f'`fit` must be "resize" or "pad". Received: fit={self.fit!r}')


@dataclasses.dataclass(frozen=True)
class Description:
    """What a network needs beside its graph.

    Attributes:
        taps: pairs `(tap, layer name)` in order from input to output. A tap is an alias of that layer's output.
        preprocessing: how pictures become the input.
        task: `"features"` (a backbone without head), `"classification"` (logits, one a class) or
            `"segmentation"` (logits, one a class at every pixel of the input).
        labels: names of the classes in the order of the logits; empty where nobody gave them names.
    """

    taps: tuple[tuple[str, str], ...]
    preprocessing: Preprocessing
    task: Literal["features", "classification", "segmentation"] = "features"
    labels: tuple[str, ...] = ()

    def to_dict(self):
        """Returns the description as plain JSON types."""
        value = dataclasses.asdict(self)
        value["taps"] = dict(self.taps)  # JSON objects keep their order
        return value

    @classmethod
    def from_dict(cls, value):
        """Returns the description that `to_dict` wrote; strict about its keys.

        Raises:
            UserError: if a key is unknown or missing.
        """
        try:
            value = dict(value)
            preprocessing = dict(value.pop("preprocessing"))
            for field in ("scale", "offset"):
                if field in preprocessing:
                    preprocessing[field] = tuple(preprocessing[field])
            return cls(
                taps=tuple(dict(value.pop("taps")).items()),
                labels=tuple(value.pop("labels", ())),
                preprocessing=Preprocessing(**preprocessing),
                **value,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"`description` must have the keys of Description. Received: {error}") from None


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
