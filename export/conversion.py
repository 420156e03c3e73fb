"""Converting a network in a child process: converters leak memory, and print what no user wants to see.

The parent (`convert`) writes the network and the rest of its `Conversion`; the child (`main`) writes one file a format,
or why there is none; the parent moves them to their places when all are there.
"""

import dataclasses
import itertools
import json
import pickle
import sys
import time
from pathlib import Path

import numpy as np

from auxzoo.child_process import run_module, tell_parent
from auxzoo.files import move_together, temporary_folder

from .formats import FORMATS
from .onnx_options import OnnxOptions
from .quantization import Quantization
from .refused import Refused, onnx_errors, refusing
from .timing import peak_memory


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What is converted, and how.

    Attributes:
        network: functional `keras.Model` of one input, folded and checked, all shapes static but for the batch.
        paths: `dict` of format name to the `Path` of its file.
        outputs: list of `Output`.
        calibration: float32 `[count, height, width, 3]`, preprocessed, for formats that need it.
        onnx: `OnnxOptions`.
        quantization: `Quantization`.
        search: `selective_search.Search`, for the layers that shall stay float beside those named, or `None`.
        measured: `trials.Subset` that a layer report measures on, or `None`.
    """

    network: object
    paths: dict
    outputs: list
    calibration: np.ndarray | None = None
    onnx: OnnxOptions = dataclasses.field(default_factory=OnnxOptions)
    quantization: Quantization = dataclasses.field(default_factory=Quantization)
    search: object = None
    measured: object = None


@dataclasses.dataclass(frozen=True)
class Converted:
    """What a conversion gave beside files.

    Attributes:
        refused: `dict` of format name to why it has no file.
        quantization: what a record tells of the settings of files that compute in whole numbers: of TFLite files by
            the type of their activations, of ONNX files as `"onnx"`.
        seconds: `float`, that it took, the child's start included.
        peak_bytes: `int`, the most memory that the child held.
    """

    refused: dict
    quantization: dict
    seconds: float = 0.0
    peak_bytes: int = 0


def convert(conversion, progress=None):
    """Writes a network in several formats; all files appear or none.

    Args:
        conversion: `Conversion`.
        progress: called with a line of text before each format, and while a search goes on, or `None`.

    Returns:
        `Converted`; a format that is refused has no file.

    Raises:
        ChildFailed: if the child fails or is killed.
    """
    start = time.perf_counter()
    with temporary_folder() as folder:
        run_converter("auxzoo.export.conversion", folder, conversion, progress)
        converted = Converted(**json.loads((folder / "converted.json").read_text()))
        converted = dataclasses.replace(converted, seconds=round(time.perf_counter() - start, 1))
        paths = conversion.paths
        move_together({folder / name: path for name, path in paths.items() if name not in converted.refused})
    return converted


def run_converter(module, folder, conversion, progress=None):
    """Hands a conversion over to a child process, in its folder, and waits for its end.

    Args:
        module: `str`, dotted name of the module that `take_over`s.
        folder: `Path`.
        conversion: `Conversion`.
        progress: as of `run_module`.
    """
    conversion.network.save(folder / "network.keras")
    with open(folder / "conversion.pickle", "wb") as file:
        pickle.dump(dataclasses.replace(conversion, network=None), file, pickle.HIGHEST_PROTOCOL)
    # An accelerator must not be taken from a training that still runs.
    run_module(module, folder, {"CUDA_VISIBLE_DEVICES": "-1"}, progress=progress)


def take_over(folder):
    """Returns the `Conversion` in the child of `run_converter`."""
    import keras

    from ..models import description  # noqa: F401  (a network of ours may be a layer: its class must be known)
    from .traced import crop_in_one_operator, dilate_in_one_operator, inline_compiled_functions

    network = keras.models.load_model(folder / "network.keras", compile=False)
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            # As tensors they would become inputs of the ONNX file.
            layer.mean, layer.variance = np.asarray(layer.mean), np.asarray(layer.variance)
    crop_in_one_operator()
    dilate_in_one_operator()
    inline_compiled_functions()
    return dataclasses.replace(pickle.loads((folder / "conversion.pickle").read_bytes()), network=network)


def main(folder):
    """Runs in the child: writes the formats of the conversion into `folder`, each under its format's name."""
    conversion, converted = take_over(folder), Converted({}, {})
    tflite_formats = [name for name in conversion.paths if not name.startswith("onnx")]
    if tflite_formats:
        converted = _write_tflite(conversion, tflite_formats, folder)
    onnx_formats = [name for name in conversion.paths if name.startswith("onnx")]
    if conversion.search is not None and "onnx_int8" in onnx_formats:
        # What a search found for TFLite files of as many bits stays float here too.
        searched = converted.quantization["int8"]
        if "search" not in searched:
            (reason, *_) = (converted.refused[name] for name in tflite_formats if FORMATS[name].activations == "int8")
            converted.refused["onnx_int8"] = f"its layers are chosen by the TFLite file: {reason}"
            onnx_formats.remove("onnx_int8")
    if onnx_formats:
        found = converted.quantization.get("int8", {}).get("keep_float", ())
        converted.refused.update(_write_onnx(conversion, onnx_formats, found, folder))
    converted.quantization["onnx"] = {
        "engine": "onnxruntime",
        "calibration_method": conversion.onnx.calibration_method,
        "keep_float": converted.quantization.get("int8", {}).get("keep_float", conversion.quantization.keep_float),
    }
    converted = dataclasses.replace(converted, peak_bytes=peak_memory())
    (folder / "converted.json").write_text(json.dumps(dataclasses.asdict(converted)))


def _write_tflite(conversion, names, folder):
    """Writes the TFLite files; one that cannot be made is refused, and the others go on."""
    from .selective_search import find_float_layers
    from .tflite_conversion import save_for_tflite, tflite_content
    from .tflite_quantization import check_allocation, open_quantizer

    saved_model, calibration = folder / "saved_model", conversion.calibration
    save_for_tflite(conversion.network, conversion.outputs, saved_model)
    quantization, search = conversion.quantization, conversion.search
    refused, told, quantizer = {}, {}, None
    whole = {}  # activations -> names of formats
    for name in names:
        if FORMATS[name].activations:
            whole.setdefault(FORMATS[name].activations, []).append(name)
            told[FORMATS[name].activations] = dataclasses.asdict(quantization)
    if whole and (search is not None or not quantization.is_default):
        try:
            with refusing():
                tell_parent(folder, "finding the ranges of activations")
                quantizer = open_quantizer(quantization, saved_model, calibration, conversion.network)
        except Refused as reason:
            refused = dict.fromkeys(itertools.chain.from_iterable(whole.values()), str(reason))
    if quantizer is not None and search is not None:
        # What in/out are makes no difference to the layers; the activations do.
        for activations, formats in whole.items():
            try:
                with refusing():
                    found = find_float_layers(search, quantizer, FORMATS[formats[0]], quantization.keep_float, folder)
                told[activations] |= {"keep_float": found["keep_float"], "search": found}
            except Refused as reason:
                refused |= dict.fromkeys(formats, str(reason))
    for name in names:
        form = FORMATS[name]
        if name in refused:
            continue
        tell_parent(folder, f"converting {name}")
        try:
            with refusing():
                if form.activations is None:
                    content = tflite_content(saved_model, form, None)
                elif quantizer is None:
                    content = tflite_content(saved_model, form, calibration)
                else:
                    content = quantizer.content(form, told[form.activations]["keep_float"])
            if form.activations is not None:
                check_allocation(content, form)
            (folder / name).write_bytes(content)
        except Refused as reason:
            refused[name] = str(reason)
    return Converted(refused, told)


def _write_onnx(conversion, names, found, folder):
    """Writes the ONNX files, and returns why there is none where one cannot be made."""
    from .onnx_conversion import onnx_content
    from .onnx_quantization import int8_onnx_content

    content, refused = None, {}
    layers = [layer.name for layer in conversion.network._flatten_layers(include_self=False)]
    settings = (conversion.onnx.calibration_method, conversion.quantization.keep_float, layers, found)
    for name in names:
        tell_parent(folder, f"converting {name}")
        try:
            with refusing(onnx_errors()):
                if content is None:
                    content = onnx_content(conversion.network, conversion.outputs, conversion.onnx)
                is_int8 = FORMATS[name].activations is not None
                made = content
                if is_int8:
                    made = int8_onnx_content(content, conversion.calibration, folder, *settings)
            (folder / name).write_bytes(made)
        except Refused as reason:
            refused[name] = str(reason)
            if content is None:  # the others begin with the same
                return dict.fromkeys(names, str(reason))
    return refused


if __name__ == "__main__":
    main(Path(sys.argv[1]))
