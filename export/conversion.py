"""Converting a network in a child process: converters leak memory, and print what no user wants to see.

The parent (`convert`) writes the network, the calibration images and a job; the child (`main`) writes one file
a format, or why there is none; the parent moves them to their places when all are there.
"""

import dataclasses
import json
import pickle
import sys
import tempfile
from pathlib import Path

import numpy as np

from auxzoo.child_process import run_module
from auxzoo.files import move_together

from .formats import FORMATS
from .onnx_options import OnnxOptions
from .quantization import Quantization


@dataclasses.dataclass(frozen=True)
class Converted:
    """What a conversion gave beside files.

    Attributes:
        refused: `dict` of format name to why it has no file.
        quantization: what a record tells of the settings of TFLite files that compute in whole numbers.
    """

    refused: dict
    quantization: dict


def convert(network, paths, outputs, calibration=None, onnx=None, quantization=None, search=None, progress=None):
    """Writes a network, already folded and checked, in several formats; all files appear or none.

    Args:
        network: functional `keras.Model` of one input, all shapes static but for the batch.
        paths: `dict` of format name to the `Path` of its file.
        outputs: list of `Output`.
        calibration: float32 `[count, height, width, 3]`, preprocessed, for formats that need it.
        onnx: `OnnxOptions`, the usual ones if `None`.
        quantization: `Quantization`, the converter's own if `None`.
        search: `selective_search.Search`, for the layers that shall stay float beside those named, or `None`.
        progress: called with a line of text while a search goes on, or `None`.

    Returns:
        `Converted`; a format that is refused has no file.

    Raises:
        ChildFailed: if the child fails or is killed.
    """
    with tempfile.TemporaryDirectory(prefix="auxzoo-") as folder:
        folder = Path(folder)
        job = {"formats": list(paths), "onnx": dataclasses.asdict(onnx or OnnxOptions())}
        run_converter(
            "auxzoo.export.conversion", folder, network, outputs, calibration, quantization, search, job, progress
        )
        converted = Converted(**json.loads((folder / "converted.json").read_text()))
        move_together({folder / name: path for name, path in paths.items() if name not in converted.refused})
    return converted


def run_converter(module, folder, network, outputs, calibration, quantization, search, job, progress):
    """Writes what a child process needs to convert a network into its folder, and runs it there.

    Args:
        module: `str`, dotted name of the module that `take_over`s.
        folder: `Path`.
        network: functional `keras.Model`, folded.
        outputs: list of `Output`.
        calibration: float32 images, or `None`.
        quantization: `Quantization`, the converter's own if `None`.
        search: anything that can be pickled.
        job: `dict` of what else it needs to know.
        progress: as of `run_module`.
    """
    network.save(folder / "network.keras")
    if calibration is not None:
        np.save(folder / "calibration.npy", calibration)
    of_job = [[output.name, output.key, output.activation] for output in outputs]
    job = {**job, "outputs": of_job, "quantization": dataclasses.asdict(quantization or Quantization())}
    (folder / "job.json").write_text(json.dumps(job))
    (folder / "search.pickle").write_bytes(pickle.dumps(search))
    # An accelerator must not be taken from a training that still runs.
    run_module(module, folder, {"CUDA_VISIBLE_DEVICES": "-1"}, progress=progress)


def take_over(folder):
    """Returns `(network, job, calibration, search)` in the child of `run_converter`."""
    import keras

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
    return network, job, calibration, pickle.loads((folder / "search.pickle").read_bytes())


def main(folder):
    """Runs in the child: writes the job's formats into `folder`, each under its format's name."""
    network, job, calibration, search = take_over(folder)
    converted = Converted({}, {})
    tflite_formats = [name for name in job["formats"] if not name.startswith("onnx")]
    if tflite_formats:
        converted = _write_tflite(network, tflite_formats, job, folder, calibration, search)
    onnx_formats = [name for name in job["formats"] if name.startswith("onnx")]
    if onnx_formats:
        _write_onnx(network, onnx_formats, job, folder, calibration)
    (folder / "converted.json").write_text(json.dumps(dataclasses.asdict(converted)))


def _write_tflite(network, names, job, folder, calibration, search):
    """Writes the TFLite files; a file in whole numbers that cannot be made is refused, and the others go on."""
    from .selective_search import find_float_layers
    from .tflite_conversion import save_for_tflite, tflite_content
    from .tflite_quantization import Refused, check_allocation, open_quantizer, refusing

    saved_model = folder / "saved_model"
    save_for_tflite(network, job["outputs"], saved_model)
    quantization = Quantization(**job["quantization"])
    refused, told, kept, quantizer = {}, job["quantization"], quantization.keep_float, None
    whole = [name for name in names if FORMATS[name].activations]
    if whole and (search is not None or not quantization.is_default):
        try:
            with refusing():
                quantizer = open_quantizer(quantization, saved_model, calibration, network)
                if search is not None:
                    found = find_float_layers(search, quantizer, FORMATS[whole[0]], kept, folder)
                    kept = found["keep_float"]
                    told = told | {"keep_float": kept, "search": found}
        except Refused as reason:
            refused = dict.fromkeys(whole, str(reason))
    for name in names:
        form = FORMATS[name]
        if name in refused:
            continue
        if form.activations is None:
            (folder / name).write_bytes(tflite_content(saved_model, form, None))
            continue
        try:
            with refusing():
                if quantizer is None:
                    content = tflite_content(saved_model, form, calibration)
                else:
                    content = quantizer.content(form, kept)
            check_allocation(content, form)
            (folder / name).write_bytes(content)
        except Refused as reason:
            refused[name] = str(reason)
    return Converted(refused, told)


def _write_onnx(network, names, job, folder, calibration):
    from .onnx_conversion import onnx_content
    from .onnx_quantization import int8_onnx_content

    options = OnnxOptions(**job["onnx"])
    content = onnx_content(network, job["outputs"], options)
    if "onnx" in names:
        (folder / "onnx").write_bytes(content)
    if "onnx_int8" in names:
        (folder / "onnx_int8").write_bytes(int8_onnx_content(content, calibration, folder, options.calibration_method))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
