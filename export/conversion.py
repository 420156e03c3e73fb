"""Converting a network in a child process: converters leak memory, and print what no user wants to see.

The parent (`convert`) writes the network, the calibration images and a job; the child (`main`) writes one file
a format; the parent moves them to their places when all are there.
"""

import dataclasses
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from auxzoo.child_process import run_module
from auxzoo.files import move_together

from .formats import FORMATS
from .onnx_options import OnnxOptions


def convert(network, paths, outputs, calibration=None, onnx=None, calibration_method="min_max"):
    """Writes a network, already folded and checked, in several formats; all files appear or none.

    Args:
        network: functional `keras.Model` of one input, all shapes static but for the batch.
        paths: `dict` of format name to the `Path` of its file.
        outputs: list of `Output`.
        calibration: float32 `[count, height, width, 3]`, preprocessed, for formats that need it.
        onnx: `OnnxOptions`, the usual ones if `None`.
        calibration_method: of the int8 ONNX file, a name among `onnx_quantization.METHODS`.

    Raises:
        ChildFailed: if the child fails or is killed.
    """
    with tempfile.TemporaryDirectory(prefix="auxzoo-") as folder:
        folder = Path(folder)
        network.save(folder / "network.keras")
        if calibration is not None:
            np.save(folder / "calibration.npy", calibration)
        of_job = [[output.name, output.key, output.activation] for output in outputs]
        job = {
            "formats": list(paths),
            "onnx": dataclasses.asdict(onnx or OnnxOptions()),
            "calibration_method": calibration_method,
            "outputs": of_job,
        }
        (folder / "job.json").write_text(json.dumps(job))
        # An accelerator must not be taken from a training that still runs.
        run_module("auxzoo.export.conversion", folder, {"CUDA_VISIBLE_DEVICES": "-1"})
        move_together({folder / name: path for name, path in paths.items()})


def main(folder):
    """Runs in the child: writes the job's formats into `folder`, each under its format's name."""
    import keras

    from .tflite_conversion import save_for_tflite, tflite_content
    from .traced import dilate_in_one_operator

    job = json.loads((folder / "job.json").read_text())
    network = keras.models.load_model(folder / "network.keras", compile=False)
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            # As tensors they would become inputs of the ONNX file.
            layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)
    dilate_in_one_operator()
    calibration_file = folder / "calibration.npy"
    calibration = np.load(calibration_file) if calibration_file.exists() else None
    tflite_formats = [name for name in job["formats"] if not name.startswith("onnx")]
    if tflite_formats:
        save_for_tflite(network, job["outputs"], folder / "saved_model")
    for name in tflite_formats:
        content = tflite_content(folder / "saved_model", FORMATS[name].quantization, calibration)
        (folder / name).write_bytes(content)
    onnx_formats = [name for name in job["formats"] if name.startswith("onnx")]
    if onnx_formats:
        _write_onnx(network, onnx_formats, job, folder, calibration)


def _write_onnx(network, names, job, folder, calibration):
    from .onnx_conversion import onnx_content
    from .onnx_quantization import int8_onnx_content

    content = onnx_content(network, job["outputs"], OnnxOptions(**job["onnx"]))
    if "onnx" in names:
        (folder / "onnx").write_bytes(content)
    if "onnx_int8" in names:
        (folder / "onnx_int8").write_bytes(int8_onnx_content(content, calibration, folder, job["calibration_method"]))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
