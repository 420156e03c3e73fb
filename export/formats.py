"""The formats a network is exported in."""

import dataclasses

from auxzoo.errors import UserError

from .targets import find_target


@dataclasses.dataclass(frozen=True)
class Format:
    """One format of exported files.

    Attributes:
        suffix: end of the file name, after the network's name.
        quantization: what `to_tflite` calls it: `None` (float32), `"float16"`, `"dynamic"` (int8 weights), ...
        title: what tables call it.
        activations: number type that the network computes in, `"int8"` or `"int16"` (weights are int8, per channel);
            `None`: float32.
        ends: number type of input and output of a file that computes in whole numbers.
        is_default: whether it is written where no format is named.
    """

    suffix: str
    quantization: str | None
    title: str
    activations: str | None = None
    ends: str = "float32"
    is_default: bool = True

    @property
    def needs_calibration(self):
        """Whether real images are needed to find the ranges of activations."""
        return self.activations is not None


FORMATS = {
    "tflite_float32": Format("_float32.tflite", None, "TFLite float32"),
    "tflite_float16": Format("_float16.tflite", "float16", "TFLite float16"),
    "tflite_dynamic": Format("_dynamic.tflite", "dynamic", "TFLite dynamic range"),
    "tflite_int8": Format("_int8.tflite", "int8", "TFLite int8", "int8", "int8"),
    "tflite_int8_float_io": Format("_int8_float_io.tflite", "int8_float_io", "TFLite int8, float in/out", "int8"),
    # Not by default: few need them, and a runtime refuses int16 of some networks.
    "tflite_int8_uint8_io": Format(
        "_int8_uint8_io.tflite", "int8_uint8_io", "TFLite int8, uint8 in/out", "int8", "uint8", is_default=False
    ),
    "tflite_int16": Format("_int16.tflite", "int16", "TFLite int16", "int16", "int16", is_default=False),
    "tflite_int16_float_io": Format(
        "_int16_float_io.tflite", "int16_float_io", "TFLite int16, float in/out", "int16", is_default=False
    ),
    "onnx": Format(".onnx", None, "ONNX float32"),
    "onnx_int8": Format("_int8.onnx", "int8_float_io", "ONNX int8, float in/out", "int8", is_default=False),
}
DEFAULT_FORMATS = tuple(name for name, form in FORMATS.items() if form.is_default)
# Names that the files use, whatever the layers are called.
INPUT_NAME = "image"
OUTPUT_NAME = "logits"
OPSET = 17  # of ONNX, unless another is asked for


def choose_formats(formats=None, target=None, argument="formats"):
    """Returns the formats to export, and the ONNX operator set, for a target or none.

    Args:
        formats: names among `FORMATS`; if `None`, those of the target, or `DEFAULT_FORMATS`.
        target: name among `TARGETS`, or `None`.
        argument: what messages call `formats`.

    Raises:
        UserError: if one of them is unknown, or a format is not of the target's kind.
    """
    profile = None if target is None else find_target(target)
    if formats is None:
        formats = DEFAULT_FORMATS if profile is None else profile.formats
    formats = list(formats)
    unknown = [form for form in formats if form not in FORMATS]
    if unknown or not formats:
        received = ", ".join(unknown) or "none"
        raise UserError(f"`{argument}` must be among {', '.join(FORMATS)}. Received: {received}")
    if profile is None:
        return formats, OPSET
    foreign = [form for form in formats if form.partition("_")[0] != profile.kind]
    if foreign:
        raise UserError(f"`{argument}` for {target} must be of kind {profile.kind}. Received: {', '.join(foreign)}")
    return formats, min(OPSET, profile.opsets[1]) if profile.opsets else OPSET
