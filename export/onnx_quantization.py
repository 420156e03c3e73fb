"""An int8 ONNX file by onnxruntime's quantiser. For the child process that converts."""

import numpy as np

from .formats import INPUT_NAME
from .onnx_options import CALIBRATION_METHODS, LAYOUT_KEY

_PERCENTILE = 99.99
_AT_ONCE = 10  # images whose every activation is held in memory at a time


def int8_onnx_content(content, calibration, folder, calibration_method="min_max"):
    """Returns the bytes of the int8 file of a float32 one: input and output stay float32.

    Weights are int8 per channel, activations int8 per tensor, written as pairs of QuantizeLinear and DequantizeLinear
    (QDQ) around float operators, which onnxruntime runs as whole-number ones.

    Args:
        content: bytes of a float32 ONNX file of ours, of any layout and batch.
        calibration: float32 `[count, height, width, 3]`, preprocessed, of the `Quantization` of all formats.
        folder: `Path` for what the quantiser writes.
        calibration_method: how the ranges of activations are found, a name among `CALIBRATION_METHODS`: of all values
            or of 99.99 % of them.
    """
    import onnx
    import onnxruntime.quantization as quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    from .onnx_conversion import check_strictly, drop_unused_domains

    original = onnx.load_model_from_string(content)
    properties = {entry.key: entry.value for entry in original.metadata_props}
    if properties[LAYOUT_KEY] == "NCHW":
        calibration = calibration.transpose(0, 3, 1, 2)
    source, prepared, quantized = (folder / f"{step}.onnx" for step in ("source", "prepared", "quantized"))
    source.write_bytes(content)
    # Its symbolic inference is of transformers, and wants sympy; ours has all shapes.
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    # The calibrator keeps every activation of what it is given at once; parts must be of one size.
    at_once = max(size for size in range(1, _AT_ONCE + 1) if len(calibration) % size == 0)
    quantization.quantize_static(
        prepared,
        quantized,
        _images_reader(calibration),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QInt8,
        weight_type=quantization.QuantType.QInt8,
        calibrate_method=getattr(quantization.CalibrationMethod, CALIBRATION_METHODS[calibration_method]),
        extra_options={"CalibStridedMinMax": at_once}
        | ({"CalibPercentile": _PERCENTILE} if calibration_method == "percentile" else {}),
    )
    model = onnx.load(quantized)
    drop_unused_domains(model)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, properties)
    check_strictly(model)
    return model.SerializeToString()


def _images_reader(images):
    """Returns the images as onnxruntime's calibrator reads them, one by one, part after part."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.set_range(0, len(images))

        def __len__(self):
            return len(images)

        def set_range(self, start_index, end_index):
            self.rest = iter(images[start_index:end_index])

        def get_next(self):
            image = next(self.rest, None)
            return None if image is None else {INPUT_NAME: np.ascontiguousarray(image[None])}

    return Reader()
