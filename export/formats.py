"""The formats a network is exported in."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Format:
    """One format of exported files.

    Attributes:
        suffix: end of the file name, after the network's name.
        quantization: `None` (float32), `"float16"`, `"dynamic"` (int8 weights), `"int8"` (all int8, input and
            output too) or `"int8_float_io"` (all int8 but for input and output).
        title: what tables call it.
    """

    suffix: str
    quantization: str | None
    title: str

    @property
    def needs_calibration(self):
        """Whether real images are needed to find the ranges of activations."""
        return self.quantization in ("int8", "int8_float_io")


FORMATS = {
    "tflite_float32": Format("_float32.tflite", None, "TFLite float32"),
    "tflite_float16": Format("_float16.tflite", "float16", "TFLite float16"),
    "tflite_dynamic": Format("_dynamic.tflite", "dynamic", "TFLite dynamic range"),
    "tflite_int8": Format("_int8.tflite", "int8", "TFLite int8"),
    "tflite_int8_float_io": Format("_int8_float_io.tflite", "int8_float_io", "TFLite int8, float in/out"),
    "onnx": Format(".onnx", None, "ONNX float32"),
}
# Names that the files use, whatever the layers are called.
INPUT_NAME = "image"
OUTPUT_NAME = "logits"
