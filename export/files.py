"""Exporting a compact network to files, each with a record of what was measured on that very file."""

import dataclasses
from pathlib import Path

from auxzoo.data import ImageSet
from auxzoo.errors import UserError

from .calibration import COUNT, sample_apart
from .checks import exportable
from .fitting import fitting_description, images_for_outputs
from .formats import FORMATS, OPSET, choose_formats
from .metadata import metadata_of
from .onnx_options import OnnxOptions
from .outputs import outputs_of
from .quantization import Quantization
from .selective_search import Search
from .trials import Subset
from .tuning import TUNING_COUNT, checked_drop, tuning_part
from .whole_export import Export


def to_tflite(
    model,
    path,
    quantization=None,
    calibration=None,
    description=None,
    activation=None,
    *,
    calibration_count=COUNT,
    calibration_source=None,
    calibration_method="min_max",
    engine="tensorflow",
    keep_float=(),
    licence=None,
    embed_preprocessing=False,
):
    """Writes the TFLite file of a compact network: batch 1, built-in operators, batch-norm folded.

    Input `image` `[1, height, width, 3]`, preprocessed; output `logits` (names of the signature). Of a network with
    several tasks an output each, called as the task is; of a regression alone too.

    Args:
        model: functional or sequential Keras model, of stock layers, static shapes, one input, and one output or a dict
            of them.
        path: `str` or `Path` of the file, ending in `.tflite`.
        quantization: `None` (float32), `"float16"`, `"dynamic"` (int8 weights), `"int8"` (input and output too),
            `"int8_float_io"`, `"int8_uint8_io"`, or with int16 activations and int8 weights `"int16"` (input and output
            too) or `"int16_float_io"`.
        calibration: real images for the int8 and int16 kinds: an `ImageSet`, a `tf.data.Dataset` of
            preprocessed `(images, ...)` batches, or such an array `[count, height, width, 3]`.
        description: `Description` with the preprocessing of an `ImageSet`, for a network that carries none.
        activation: of outputs with classes: `None` (logits), `"softmax"` (output `probabilities`) or `"argmax"` (int32
            `classes`).
        calibration_count: `int`, 100 to 500, how many images are taken; of a smaller set all are.
        calibration_source: `str`, where the images of a data set or an array are from.
        calibration_method: how the ranges of activations are found, `"min_max"`, `"percentile"` (99.99) or `"mse"`;
            with the engine ai-edge-quantizer also `"moving_average"` and `"octav"`.
        engine: `"tensorflow"` or `"ai-edge-quantizer"` (the extra `auxzoo[quantizer]`).
        keep_float: names of Keras layers whose operators stay in float32.
        licence: `str` for the file's metadata, the network's and its weights'.
        embed_preprocessing: `bool`, whether the file shall scale the values itself: it takes those of a picture, 0 to
            255, and so must `calibration` be then, unless it is an `ImageSet`.

    Returns:
        `Path` of the file; its record, with parity but no accuracy, lies beside it as `FILE.json`.

    Raises:
        UserError: if `model` cannot be exported (a joint network among others), an argument is wrong, or the
            engine or the runtime refuses the network in these numbers; the message says why.
        ChildFailed: if the converter fails.

    Example:
        >>> auxzoo.export.to_tflite(compact, "flowers.tflite", quantization="int8", calibration=train)
    """
    form = _form_called("tflite", quantization)
    settings = Quantization(engine, calibration_method, keep_float)
    model, outputs, metadata = _told_of_one(model, activation, description, licence, embed_preprocessing, calibration)
    path = _checked_path(path, ".tflite")
    export = Export(model, outputs, metadata, {form: path}, quantization=settings)
    export.with_calibration(calibration, calibration_count, calibration_source).run()
    return path


def to_onnx(
    model,
    path,
    opset=OPSET,
    activation=None,
    description=None,
    *,
    layout="nhwc",
    batch=1,
    quantization=None,
    calibration=None,
    calibration_count=COUNT,
    calibration_source=None,
    calibration_method="min_max",
    keep_float=(),
    licence=None,
    embed_preprocessing=False,
):
    """Writes the ONNX file of a compact network: batch-norm folded, and strictly checked.

    Input `image` `[1, height, width, 3]`, preprocessed; outputs as of `to_tflite`.

    Args:
        model: functional or sequential Keras model, of stock layers, static shapes, one input, and one output or a dict
            of them.
        path: `str` or `Path` of the file, ending in `.onnx`.
        opset: ONNX operator set, 13 to 18.
        activation: as of `to_tflite`, and so `description`, `licence` and `embed_preprocessing`.
        layout: `"nhwc"`, or `"nchw"`: image and outputs for every pixel are `[batch, channels, height, width]`.
        batch: 1, or `"dynamic"`: the file takes any number of images at once.
        quantization: `None` (float32) or `"int8_float_io"`: int8 inside, by onnxruntime's quantiser (QDQ).
        calibration: as of `to_tflite`, channels last whatever the layout; and so `calibration_count` and
            `calibration_source`.
        calibration_method: how the ranges of activations are found, `"min_max"` or `"percentile"` (99.99).
        keep_float: as of `to_tflite`.

    Returns:
        `Path` of the file; its record, with parity but no accuracy, lies beside it as `FILE.json`.

    Raises:
        UserError: if `model` cannot be exported (a joint network among others), an argument is wrong, or the runtime
            refuses the file; the message says why.
        ChildFailed: if the converter fails.

    Example:
        >>> auxzoo.export.to_onnx(compact, "flowers.onnx")
    """
    form = _form_called("onnx", quantization)
    options = OnnxOptions(opset, layout, batch, calibration_method)
    model, outputs, metadata = _told_of_one(model, activation, description, licence, embed_preprocessing, calibration)
    path = _checked_path(path, ".onnx")
    settings = Quantization(keep_float=keep_float)
    export = Export(model, outputs, metadata, {form: path}, quantization=settings, onnx=options)
    export.with_calibration(calibration, calibration_count, calibration_source).run()
    return path


def export_files(
    model,
    folder,
    formats=None,
    *,
    calibration=None,
    evaluation=None,
    description=None,
    name=None,
    activation=None,
    target=None,
    progress=None,
    calibration_count=COUNT,
    calibration_method="min_max",
    engine="tensorflow",
    keep_float=(),
    max_drop=None,
    tuning_count=TUNING_COUNT,
    source=None,
    licence=None,
    embed_preprocessing=False,
    onnx=None,
):
    """Exports a compact network in several formats with one child process, and measures every file.

    Args:
        model: functional or sequential Keras model, of stock layers, static shapes, one input, and one output or a dict
            of them.
        folder: where the files and their records go; made if it is missing.
        formats: names among `FORMATS`; if `None`, those of the target, or `DEFAULT_FORMATS`.
        calibration: `ImageSet` for the int8 and int16 formats, of which `calibration_count` are taken by a fixed seed.
        evaluation: `ImageSet` for parity and accuracy, disjoint from `calibration`. If `None`, parity is measured on
            the calibration images or on noise, and accuracy is not; the record says so. Copies of these pictures are
            not calibrated on. Names and colours of classes that the network lacks are those of these images.
        description: `Description` for a network that carries none.
        name: `str`, first part of the file names; the network's name if `None`.
        activation: as of `to_tflite`.
        target: name among `TARGETS` that every file must fit, operator by operator; else none is written.
        progress: called with a line of text before each step, or `None`.
        calibration_count: as of `to_tflite`, and so `calibration_method`, `engine` and `keep_float`.
        max_drop: `float`, points of accuracy or mean IoU (of the task that loses most) that files of whole numbers may
            lose against float32. Few and light layers that stay float for it are searched, of int8 and int16 each
            for itself, on `tuning_count` images of `calibration` that are not calibrated on; an int8 ONNX file beside
            keeps those of int8, and is not searched for. `None`: no search.
        tuning_count: `int`, images for that; a half of the set where it is small.
        source: `str` for the files' metadata, what the network was loaded from.
        licence: as of `to_tflite`, and so `embed_preprocessing`.
        onnx: `OnnxOptions` of the ONNX formats; if `None`, the usual ones, of an operator set that the target takes.

    Returns:
        list of records (`dict`), one a format, each written beside its file as `FILE.json`. Where the engine or the
        runtime refuses a network in a format's numbers, or no choice of layers meets `max_drop`, there is no file, and
        the record holds `format`, `file` and `refused`, the reason; the other formats are written.
        `auxzoo.report.write_export_report` makes a page of them, as the command does.

    Raises:
        UserError: if `model` cannot be exported, a format is unknown, calibration is missing or overlaps
            with evaluation, the images do not fit the network, or all formats are refused.
        ChildFailed: if the converter fails; no file is left behind.
        TargetMissed: if a file does not fit the target; no file is left behind.

    Example:
        >>> records = auxzoo.export.export_files(compact, "out", calibration=train, evaluation=test)
        >>> [record["accuracy"]["accuracy"] for record in records]
    """
    model = exportable(model)
    formats, opset = choose_formats(formats, target)
    settings = Quantization(engine, calibration_method, keep_float)
    onnx = onnx or OnnxOptions(opset)
    description = fitting_description(model, description)
    outputs = outputs_of(model, activation, description)
    measured = None if evaluation is None else images_for_outputs(model, outputs, evaluation)
    outputs = _with_labels(outputs, measured)
    metadata = metadata_of(
        model, outputs, description, name=name, source=source, licence=licence, embedded=embed_preprocessing
    )
    folder, name = Path(folder), name or model.name
    if folder.exists() and not folder.is_dir():
        raise UserError(f"`folder` must be a folder. Received: `{folder}`, a file")
    searched = {FORMATS[form].activations for form in formats if form.startswith("tflite")} - {None}
    if max_drop is not None and not searched:
        raise UserError(f"`max_drop` is of int8 and int16 TFLite files. Received: formats {', '.join(formats)}")
    if max_drop is not None and "onnx_int8" in formats and "int8" not in searched:
        raise UserError(
            "`max_drop` chooses the layers of an int8 ONNX file by a TFLite file with activations of int8. "
            f"Received: formats {', '.join(formats)}"
        )
    search = None
    if any(FORMATS[form].needs_calibration for form in formats):
        if not isinstance(calibration, ImageSet):
            raise UserError("`calibration` must be an ImageSet of real images for the int8 and int16 formats.")
        if evaluation is not None and calibration.overlaps(evaluation):
            raise UserError("`calibration` and `evaluation` must have no image in common.")
        if max_drop is not None:
            calibration, tuning = tuning_part(calibration, tuning_count)
            tuning = sample_apart(tuning, tuning.size, [] if evaluation is None else [evaluation])
            tuning = images_for_outputs(model, outputs, tuning, "calibration")
            if tuning is None or all(task.kind == "regression" for task in tuning.tasks):
                raise UserError("`max_drop` may be given only for a network with classes, and images with their truth.")
            search = Search(checked_drop(max_drop), Subset(tuning, metadata.preprocessing))
    export = Export(
        model,
        outputs,
        metadata,
        {form: folder / f"{name}{FORMATS[form].suffix}" for form in formats},
        quantization=settings,
        onnx=onnx,
        search=search,
        evaluation=evaluation,
        measured=measured,
        target=target,
        progress=progress,
    )
    return export.with_calibration(calibration, calibration_count).run()


def _with_labels(outputs, images):
    """Returns the outputs, with the names and colours of the images' classes where the network has none."""
    if images is None:
        return outputs
    named, labelled = {task.name: task for task in images.tasks}, []
    for output in outputs:
        task = output.task
        labelled.append(dataclasses.replace(output, task=task and task.completed(named[output.name])))
    return labelled


def _form_called(kind, quantization):
    """Returns the format of a kind, `"tflite"` or `"onnx"`, whose files are quantised so."""
    names = {form.quantization: name for name, form in FORMATS.items() if name.startswith(kind)}
    if quantization not in names:
        raise UserError(f"`quantization` must be one of {', '.join(map(repr, names))}. Received: {quantization!r}")
    return names[quantization]


def _told_of_one(model, activation, description, licence, embed_preprocessing, calibration):
    """Returns the network, the outputs and the metadata of a single file, which may be without a description."""
    model = exportable(model)
    outputs = outputs_of(model, activation, description)
    if embed_preprocessing or isinstance(calibration, ImageSet):
        description = fitting_description(model, description)  # it must be there, and fit
    description = description or getattr(model, "description", None)
    return model, outputs, metadata_of(model, outputs, description, licence=licence, embedded=embed_preprocessing)


def _checked_path(path, suffix):
    path = Path(path)
    if path.suffix != suffix:
        raise UserError(f"`path` must end in {suffix}. Received: `{path}`")
    return path
