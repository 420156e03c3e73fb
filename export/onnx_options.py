"""How an ONNX file is written: operator set, order of axes, batch."""

import dataclasses

from auxzoo.checks import is_whole
from auxzoo.errors import UserError

from .formats import OPSET

OPSETS = range(13, 19)  # scales per channel came with 13; tf2onnx ends at 18
LAYOUTS = ("nhwc", "nchw")
BATCHES = (1, "dynamic")
# How the range of an activation is found: as onnxruntime's quantiser calls it.
# Not `Entropy`: with as many bins as levels onnxruntime has the whole range as its only candidate, the same as MinMax.
CALIBRATION_METHODS = {"min_max": "MinMax", "percentile": "Percentile"}
LAYOUT_KEY = "image_layout"  # of a file's metadata_props: NHWC or NCHW


@dataclasses.dataclass(frozen=True)
class OnnxOptions:
    """How an ONNX file is written.

    Attributes:
        opset: ONNX operator set, 13 to 18.
        layout: `"nhwc"` or `"nchw"`, of the image and of whatever the file gives for every pixel; of classes at every
            pixel, `[batch, height, width]`, it is the same.
        batch: 1, or `"dynamic"`: any number of images at once.
        calibration_method: of an int8 file, how the ranges of activations are found: `"min_max"` or
            `"percentile"` (99.99).

    Raises:
        UserError: if one of them is another.

    Example:
        >>> OnnxOptions(layout="nchw", batch="dynamic").opset
        17
    """

    opset: int = OPSET
    layout: str = "nhwc"
    batch: int | str = 1
    calibration_method: str = "min_max"

    def __post_init__(self):
        if not (is_whole(self.opset) and self.opset in OPSETS):
            raise UserError(f"`opset` must be {OPSETS[0]} to {OPSETS[-1]}. Received: opset={self.opset!r}")
        object.__setattr__(self, "opset", int(self.opset))
        if not isinstance(self.layout, str) or self.layout not in LAYOUTS:
            raise UserError(f"`layout` must be {' or '.join(LAYOUTS)}. Received: layout={self.layout!r}")
        if isinstance(self.batch, bool) or self.batch not in BATCHES:
            raise UserError(f"`batch` must be 1 or 'dynamic'. Received: batch={self.batch!r}")
        method = self.calibration_method
        if not isinstance(method, str) or method not in CALIBRATION_METHODS:
            known = ", ".join(CALIBRATION_METHODS)
            raise UserError(f"`calibration_method` must be one of {known}. Received: {method!r}")

    @property
    def is_channels_first(self):
        """Whether the file has channels before rows."""
        return self.layout == "nchw"

    @property
    def is_dynamic(self):
        """Whether the file takes any number of images."""
        return self.batch == "dynamic"
