"""Which layers cost the accuracy of the int8 file: each is tried in float alone, and in int8 alone."""

import dataclasses
import json
import sys
from pathlib import Path

from auxzoo.child_process import tell_parent
from auxzoo.data import ImageSet
from auxzoo.errors import UserError
from auxzoo.files import move_together, temporary_folder, write_json

from .calibration import COUNT, choose_calibration
from .checks import exportable
from .conversion import Conversion, run_converter, take_over
from .fitting import fitting_description, images_for_outputs
from .folding import fold_batch_normalization
from .formats import FORMATS
from .layer_operators import layers_by_operator
from .outputs import outputs_of
from .quantization import Quantization
from .tuning import tuning_part

# In and out play no part, and with these every layer can stay float.
_FORMAT = "tflite_int8_float_io"
# Images that every file is measured on, of a classifier and of networks with maps.
_COUNTS = {True: 256, False: 32}


def quantization_report(
    model,
    folder,
    images,
    *,
    description=None,
    name=None,
    count=None,
    calibration_count=COUNT,
    calibration_method="min_max",
    engine="tensorflow",
    keep_float=(),
    progress=None,
):
    """Finds out what every layer costs when a network is quantised to int8, and writes a table and a plot of it.

    One child process finds the ranges of activations once. Then for every layer (an operator and what is fused into
    it) it makes two files, one with that layer in float32 and all others in int8, and one the other way round, and
    runs both on the same images.

    Args:
        model: functional Keras model, as of `export_files`.
        folder: where `NAME_layers.json` and `NAME_layers.png` go; made if it is missing.
        images: `ImageSet`: a part is calibrated on, another measured. Not the test images, if layers are chosen by it.
        description: `Description` for a network that carries none.
        name: `str`, first part of the file names; the network's name if `None`.
        count: `int`, images measured on; 256, or 32 of a network with maps, if `None`.
        calibration_count: as of `to_tflite`, and so `calibration_method` and `engine`.
        keep_float: names of layers that stay float in any case.
        progress: called with a line of text now and then, or `None`.

    Returns:
        `dict`, as in the JSON file: `float32` and `int8`, what those files are worth (`error`, the mean difference of
        the outputs to the float32 file's in standard deviations; `scores`; `bytes`), and `layers`, a list in the
        network's order of `dict`: `layer`, `operators` and `weights` (numbers), `float_alone` and `int8_alone`, what
        those files are worth, and `error_saved`, the int8 file's error less that with the layer in float.

    Raises:
        UserError: if the model cannot be exported, an argument is wrong, or the engine refuses the network.
        ChildFailed: if the converter fails.

    Example:
        >>> report = auxzoo.export.quantization_report(compact, "out", train)
        >>> max(report["layers"], key=lambda row: row["error_saved"])["layer"]
        'Conv1'
    """
    from .layer_plot import draw_layers
    from .trials import Subset

    model = exportable(model)
    quantization = Quantization(engine, calibration_method, keep_float)
    preprocessing = fitting_description(model, description).preprocessing
    outputs = outputs_of(model, None, description)
    if not isinstance(images, ImageSet):
        raise UserError(f"`images` must be an ImageSet. Received: {type(images).__name__}")
    network, name = fold_batch_normalization(model), name or model.name
    quantization.check(network, [_FORMAT])
    calibration, measured = tuning_part(images, _COUNTS[images.is_labelled] if count is None else count, "count")
    fitting = images_for_outputs(model, outputs, measured, "images")
    subset = Subset(measured if fitting is None else fitting, preprocessing, fitting is not None)
    chosen, manifest = choose_calibration(
        calibration, model.input_shape[1:], preprocessing, calibration_count, apart_from=[measured]
    )
    with temporary_folder() as temporary:
        conversion = Conversion(network, {}, outputs, chosen, quantization=quantization, measured=subset)
        run_converter("auxzoo.export.layer_report", temporary, conversion, progress)
        found = json.loads((temporary / "report.json").read_text())
        if "refused" in found:
            raise UserError(f"`model` cannot be quantised: {found['refused']}")
        report = {
            "network": name,
            "quantization": dataclasses.asdict(quantization),
            "calibration": manifest,
            "images": measured.manifest(),
            **found,
        }
        made = {end: temporary / f"{name}_layers{end}" for end in (".json", ".png")}
        write_json(made[".json"], report)
        draw_layers(report, made[".png"])
        move_together({path: Path(folder) / path.name for path in made.values()})
    return report


def main(folder):
    """Runs in the child: writes `report.json` into `folder`."""
    from .refused import Refused, refusing
    from .tflite_conversion import save_for_tflite
    from .tflite_quantization import open_quantizer
    from .trials import Trials

    conversion = take_over(folder)
    quantization, calibration = conversion.quantization, conversion.calibration
    save_for_tflite(conversion.network, conversion.outputs, folder / "saved_model")
    try:
        with refusing():
            tell_parent(folder, "finding the ranges of activations")
            quantizer = open_quantizer(quantization, folder / "saved_model", calibration, conversion.network)
            trials = Trials(conversion.measured, quantizer.float_content, folder)
            found = _tried(quantizer, trials, quantization.keep_float, folder)
    except Refused as reason:
        found = {"refused": str(reason)}
    (folder / "report.json").write_text(json.dumps(found))


def _tried(quantizer, trials, kept, folder):
    """Returns what the report says beside settings."""
    form = FORMATS[_FORMAT]
    layers = [layer for layer in layers_by_operator(quantizer.operators, quantizer.weights) if layer not in kept]
    whole = trials.measure(quantizer.content(form, kept))
    rows = []
    for number, layer in enumerate(layers, 1):
        tell_parent(folder, f"layer {number} of {len(layers)}: {layer}")
        others = [other for other in layers if other != layer]
        float_alone = trials.measure(quantizer.content(form, [*kept, layer]))
        row = {
            "layer": layer,
            "operators": len(quantizer.operators[layer]),
            "weights": quantizer.weights[layer],
            "float_alone": float_alone,
            "int8_alone": trials.measure(quantizer.content(form, [*kept, *others])),
            "error_saved": whole["error"] - float_alone["error"],
        }
        rows.append(row)
    return {"float32": trials.float, "int8": whole, "layers": rows}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
