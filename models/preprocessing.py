"""How pictures become a network's input. Without Keras: what reads a file's metadata needs no more than this."""

import dataclasses
import math
from typing import Literal

from auxzoo.checks import is_real, is_whole
from auxzoo.errors import UserError

# What networks of others take, factor and offset a channel, by the names of `keras.applications.imagenet_utils`. Its
# "caffe" is not among them: it wants blue, green, red.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CONVENTIONS = {
    "tf": ((1 / 127.5,) * 3, (-1.0,) * 3),
    "torch": (
        tuple(1 / 255 / deviation for deviation in _DEVIATION),
        tuple(-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)),
    ),
    "unit": ((1 / 255,) * 3, (0.0,) * 3),
    "none": ((1.0,) * 3, (0.0,) * 3),
}


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
            if not (is_whole(size) and size >= 1):
                raise UserError(f"`{field}` must be 1 pixel or more. Received: {field}={size!r}")
            object.__setattr__(self, field, int(size))  # numpy's numbers are none of JSON
        for field in ("scale", "offset"):
            values = getattr(self, field)
            if (
                not isinstance(values, (list, tuple))
                or len(values) != 3
                or not all(is_real(value) and -math.inf < value < math.inf for value in values)
            ):
                raise UserError(f"`{field}` must be three numbers, one a channel. Received: {field}={values!r}")
            object.__setattr__(self, field, tuple(float(value) for value in values))

    @classmethod
    def by_convention(cls, name, height, width):
        """Returns the preprocessing of a usual name, pictures resized to height and width.

        Args:
            name: `"tf"` (-1 to 1), `"torch"` (0 to 1, less ImageNet's mean, divided by its deviation), `"unit"` (0 to
                1) or `"none"` (0 to 255).
            height: rows of the input, pixels.
            width: columns of the input, pixels.

        Raises:
            UserError: if the name is none of these, or a size is below 1.

        Example:
            >>> Preprocessing.by_convention("unit", 32, 32).offset
            (0.0, 0.0, 0.0)
        """
        if name not in CONVENTIONS:
            raise UserError(f"`name` must be one of {', '.join(CONVENTIONS)}. Received: name={name!r}")
        scale, offset = CONVENTIONS[name]
        return cls(height, width, scale=scale, offset=offset)

    @classmethod
    def from_dict(cls, value):
        """Returns the preprocessing of plain JSON types; strict about its keys.

        Raises:
            UserError: if a key is unknown or missing, or a value is not allowed.
        """
        check_keys("preprocessing", value, cls)
        return cls(**value)


def check_keys(name, value, kind):
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
