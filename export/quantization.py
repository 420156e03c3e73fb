"""How a network is quantised: by which engine, with which ranges of activations, which layers stay float."""

import dataclasses
import difflib
import importlib.util

from auxzoo.errors import UserError

from .formats import FORMATS

# How the range of an activation is found -> the engines that can. Weights: int8, symmetric, a scale a channel, by
# their largest absolute value (by OCTAV, arXiv:2206.06501, where that is asked for).
CALIBRATION_METHODS = {
    "min_max": ("tensorflow", "ai-edge-quantizer"),  # lowest and highest value of all calibration images
    "percentile": ("tensorflow", "ai-edge-quantizer"),  # 99.99 % of all values
    "mse": ("tensorflow", "ai-edge-quantizer"),  # least mean squared error of rounding and clipping
    "moving_average": ("ai-edge-quantizer",),  # its own default: of the images' lowest and highest values
    "octav": ("ai-edge-quantizer",),  # min_max, and weights clipped where OCTAV says
}
ENGINES = ("tensorflow", "ai-edge-quantizer")


@dataclasses.dataclass(frozen=True)
class Quantization:
    """How the files that compute in whole numbers are made; of ONNX files `keep_float` alone counts.

    Attributes:
        engine: `"tensorflow"` (its converter) or `"ai-edge-quantizer"` (the extra `auxzoo[quantizer]`).
        calibration_method: a name of `CALIBRATION_METHODS`.
        keep_float: names of Keras layers whose operators stay in float32.

    Raises:
        UserError: if a name is unknown, the engine is not installed or has not that method.

    Example:
        >>> Quantization(calibration_method="percentile", keep_float=("predictions",))
    """

    engine: str = "tensorflow"
    calibration_method: str = "min_max"
    keep_float: tuple[str, ...] = ()

    def __post_init__(self):
        if isinstance(self.keep_float, str):
            raise UserError(f"`keep_float` must be a list of names of layers. Received: {self.keep_float!r}")
        object.__setattr__(self, "keep_float", tuple(self.keep_float))
        if self.engine not in ENGINES:
            raise UserError(f"`engine` must be one of {', '.join(ENGINES)}. Received: {self.engine!r}")
        if self.calibration_method not in CALIBRATION_METHODS:
            known = ", ".join(CALIBRATION_METHODS)
            raise UserError(f"`calibration_method` must be one of {known}. Received: {self.calibration_method!r}")
        engines = CALIBRATION_METHODS[self.calibration_method]
        if self.engine not in engines:
            raise UserError(
                f"`calibration_method` {self.calibration_method!r} needs the engine {', '.join(engines)}. "
                f"Received: engine={self.engine!r}"
            )
        if self.engine == "ai-edge-quantizer" and importlib.util.find_spec("ai_edge_quantizer") is None:
            raise UserError(
                "`engine` ai-edge-quantizer is not installed: in a clone of auxzoo, pip install '.[quantizer]'."
            )

    @property
    def is_default(self):
        """Whether it is what the converter does by itself."""
        return self == Quantization()

    def check(self, network, formats, is_searched=False):
        """Raises a `UserError` where it does not fit a network, folded (`fold_batch_normalization`), or the formats.

        TensorFlow's converter makes int16 files by other code, which keeps no layer float and takes no other ranges.
        """
        names = [layer.name for layer in network._flatten_layers(include_self=False)]
        for name in self.keep_float:
            if name not in names:
                near = difflib.get_close_matches(name, names, 4, 0.5) or names[:4]
                raise UserError(
                    f"`keep_float` must be layers of the network, whose batch-norm is in its convolutions. "
                    f"Received: {name!r}; there are {', '.join(near)}, ..."
                )
        whole = {form: FORMATS[form].activations for form in formats if FORMATS[form].activations}
        if self.keep_float and not whole:
            raise UserError(f"`keep_float` is of int8 and int16 files. Received: formats {', '.join(formats)}")
        whole = [activations for form, activations in whole.items() if form.startswith("tflite")]
        if not whole and not dataclasses.replace(self, keep_float=()).is_default:
            raise UserError(
                "`engine` and `calibration_method` are of int8 and int16 TFLite files. "
                f"Received: formats {', '.join(formats)}"
            )
        if self.engine == "tensorflow" and "int16" in whole and not (self.is_default and not is_searched):
            raise UserError(
                "`keep_float`, `max_drop` and `calibration_method` of int16 files need the engine ai-edge-quantizer. "
                "Received: engine='tensorflow'"
            )
