"""Exporting a compact network to files, each with a record of what was measured on that very file."""

import datetime
import importlib.metadata
import platform
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from auxzoo.data import ImageSet
from auxzoo.errors import UserError
from auxzoo.files import move_together, sha256, write_json
from auxzoo.machine import processor_name
from auxzoo.scores import Scores

from ..models.description import describe
from .calibration import COUNT, choose_calibration
from .checks import check_exportable
from .conversion import convert
from .embedding import with_scaling_inside
from .folding import fold_batch_normalization
from .formats import FORMATS, OPSET, choose_formats
from .measurement import check_batches, evaluate_file, measure_latency, measure_parity, parity_images
from .metadata import metadata_of, raw_preprocessing, write_metadata
from .model_file import read_model_file
from .onnx_options import OnnxOptions
from .outputs import outputs_of
from .quantization import Quantization
from .runtime import open_file
from .selective_search import Search
from .target_checks import check_targets, refuse_misfits
from .trials import Subset
from .tuning import TUNING_COUNT, checked_drop, tuning_part

_NOISE_IMAGES = 16
_TOOLS = ("auxzoo", "tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert")


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
        model: functional Keras model, of stock layers, static shapes, one input, and one output or a dict of them.
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
    names = {form.quantization: name for name, form in FORMATS.items() if name.startswith("tflite")}
    if quantization not in names:
        raise UserError(f"`quantization` must be one of {', '.join(map(repr, names))}. Received: {quantization!r}")
    return _write_one(
        model,
        path,
        names[quantization],
        ".tflite",
        calibration,
        description,
        activation=activation,
        quantization=Quantization(engine, calibration_method, keep_float),
        calibration_count=calibration_count,
        calibration_source=calibration_source,
        licence=licence,
        embed_preprocessing=embed_preprocessing,
    )


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
    licence=None,
    embed_preprocessing=False,
):
    """Writes the ONNX file of a compact network: batch-norm folded, and strictly checked.

    Input `image` `[1, height, width, 3]`, preprocessed; outputs as of `to_tflite`.

    Args:
        model: functional Keras model, of stock layers, static shapes, one input, and one output or a dict of them.
        path: `str` or `Path` of the file, ending in `.onnx`.
        opset: ONNX operator set, 13 to 18.
        activation: as of `to_tflite`, and so `description`, `licence` and `embed_preprocessing`.
        layout: `"nhwc"`, or `"nchw"`: image and outputs for every pixel are `[batch, channels, height, width]`.
        batch: 1, or `"dynamic"`: the file takes any number of images at once.
        quantization: `None` (float32) or `"int8_float_io"`: int8 inside, by onnxruntime's quantiser (QDQ).
        calibration: as of `to_tflite`, channels last whatever the layout; and so `calibration_count` and
            `calibration_source`.
        calibration_method: how the ranges of activations are found, `"min_max"`, `"percentile"` (99.99) or
            `"entropy"`.

    Returns:
        `Path` of the file; its record, with parity but no accuracy, lies beside it as `FILE.json`.

    Raises:
        UserError: if `model` cannot be exported (a joint network among others) or an argument is wrong.
        ChildFailed: if the converter fails.

    Example:
        >>> auxzoo.export.to_onnx(compact, "flowers.onnx")
    """
    names = {FORMATS[name].quantization: name for name in FORMATS if name.startswith("onnx")}
    if quantization not in names:
        raise UserError(f"`quantization` must be one of {', '.join(map(repr, names))}. Received: {quantization!r}")
    return _write_one(
        model,
        path,
        names[quantization],
        ".onnx",
        calibration,
        description,
        onnx=OnnxOptions(opset, layout, batch, calibration_method),
        calibration_count=calibration_count,
        calibration_source=calibration_source,
        activation=activation,
        licence=licence,
        embed_preprocessing=embed_preprocessing,
    )


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
        model: functional Keras model, of stock layers, static shapes, one input, and one output or a dict of them.
        folder: where the files and their records go; made if it is missing.
        formats: names among `FORMATS`; if `None`, those of the target, or `DEFAULT_FORMATS`.
        calibration: `ImageSet` for the int8 and int16 formats, of which `calibration_count` are taken by a fixed seed.
        evaluation: `ImageSet` for parity and accuracy, disjoint from `calibration`. If `None`, parity is measured on
            the calibration images or on noise, and accuracy is not; the record says so.
        description: `Description` for a network that carries none.
        name: `str`, first part of the file names; the network's name if `None`.
        activation: as of `to_tflite`.
        target: name among `TARGETS` that every file must fit, operator by operator; else none is written.
        progress: called with a line of text before each step, or `None`.
        calibration_count: as of `to_tflite`, and so `calibration_method`, `engine` and `keep_float`.
        max_drop: `float`, points of accuracy or mean IoU (of the task that loses most) that files of whole numbers may
            lose against float32. The fewest and lightest layers that must stay float for it are searched, by the first
            such format, on `tuning_count` images of `calibration` that are not calibrated on. `None`: no search.
        tuning_count: `int`, images for that; a half of the set where it is small.
        source: `str` for the files' metadata, what the network was loaded from.
        licence: as of `to_tflite`, and so `embed_preprocessing`.
        onnx: `OnnxOptions` of the ONNX formats; if `None`, the usual ones, of an operator set that the target takes.

    Returns:
        list of records (`dict`), one a format, each written beside its file as `FILE.json`. Where the engine or the
        runtime refuses a network in a format's numbers, or no choice of layers meets `max_drop`, there is no file, and
        the record holds `format`, `file` and `refused`, the reason; the other formats are written.

    Raises:
        UserError: if `model` cannot be exported, a format is unknown, calibration is missing or overlaps
            with evaluation, the images do not fit the network, or all formats are refused.
        ChildFailed: if the converter fails; no file is left behind.
        TargetMissed: if a file does not fit the target; no file is left behind.

    Example:
        >>> records = auxzoo.export.export_files(compact, "out", calibration=train, evaluation=test)
        >>> [record["accuracy"]["accuracy"] for record in records]
    """
    check_exportable(model)
    formats, opset = choose_formats(formats, target)
    settings = Quantization(engine, calibration_method, keep_float)
    onnx = onnx or OnnxOptions(opset)
    description = _description(model, description)
    preprocessing = _in_front_of(description, embed_preprocessing)
    outputs = outputs_of(model, activation, description)
    metadata = metadata_of(
        model, outputs, description, name=name, source=source, licence=licence, embedded=embed_preprocessing
    )
    measured = None if evaluation is None else fitting_images(model, outputs, evaluation)
    folder, name = Path(folder), name or model.name
    if folder.exists() and not folder.is_dir():
        raise UserError(f"`folder` must be a folder. Received: `{folder}`, a file")
    if max_drop is not None and not any(form.startswith("tflite") and FORMATS[form].activations for form in formats):
        raise UserError(f"`max_drop` is of int8 and int16 TFLite files. Received: formats {', '.join(formats)}")
    chosen = search = None
    if any(FORMATS[form].needs_calibration for form in formats):
        if not isinstance(calibration, ImageSet):
            raise UserError("`calibration` must be an ImageSet of real images for the int8 and int16 formats.")
        if evaluation is not None and calibration.overlaps(evaluation):
            raise UserError("`calibration` and `evaluation` must have no image in common.")
        if max_drop is not None:
            calibration, tuning = tuning_part(calibration, tuning_count)
            tuning = fitting_images(model, outputs, tuning)
            if tuning is None or all(task.kind == "regression" for task in tuning.tasks):
                raise UserError("`max_drop` may be given only for a network with classes, and images with their truth.")
            search = Search(checked_drop(max_drop), Subset(tuning, preprocessing))
        chosen = choose_calibration(calibration, model.input_shape[1:], preprocessing, calibration_count)
    paths = {form: folder / f"{name}{FORMATS[form].suffix}" for form in formats}
    return _export(
        model,
        outputs,
        paths,
        metadata,
        chosen,
        evaluation,
        measured,
        preprocessing,
        onnx,
        target,
        tell=progress,
        quantization=settings,
        search=search,
    )


def _write_one(
    model,
    path,
    form,
    suffix,
    calibration=None,
    description=None,
    onnx=None,
    activation=None,
    quantization=None,
    calibration_count=COUNT,
    calibration_source=None,
    licence=None,
    embed_preprocessing=False,
):
    check_exportable(model)
    outputs = outputs_of(model, activation, description)
    if embed_preprocessing or isinstance(calibration, ImageSet):
        description = _description(model, description)  # it must be there, and fit
    description = description or getattr(model, "description", None)
    metadata = metadata_of(model, outputs, description, licence=licence, embedded=embed_preprocessing)
    path = Path(path)
    if path.suffix != suffix:
        raise UserError(f"`path` must end in {suffix}. Received: `{path}`")
    chosen = None
    if FORMATS[form].needs_calibration:
        preprocessing = None
        if description is not None:  # the range of an array can be checked
            preprocessing = _in_front_of(_description(model, description), embed_preprocessing)
        chosen = choose_calibration(
            calibration, model.input_shape[1:], preprocessing, calibration_count, calibration_source
        )
    _export(model, outputs, {form: path}, metadata, chosen, onnx=onnx, quantization=quantization)
    return path


def _export(
    model,
    outputs,
    paths,
    metadata,
    calibration=None,
    evaluation=None,
    measured=None,
    preprocessing=None,
    onnx=None,
    target=None,
    tell=None,
    quantization=None,
    search=None,
):
    """Converts and measures in a folder of its own; then all files and records appear at their places, or none.

    Args:
        model: checked network.
        outputs: list of `Output`.
        paths: `dict` of format name to the `Path` of its file.
        metadata: `Metadata` of all of them.
        calibration: what `choose_calibration` returned, or `None`.
        evaluation: `ImageSet` for parity, or `None`.
        measured: the same with truth for the outputs, what `fitting_images` returned, or `None`.
        preprocessing: of both.
        onnx: `OnnxOptions`, or `None` where no format is ONNX.
        target: name among `TARGETS` that all files must fit, or `None`.
        tell: called with a line of text before each step, or `None`.
        quantization: `Quantization`, the converter's own if `None`.
        search: `Search` for layers that stay float, or `None`.

    Returns:
        list of records (`dict`), one a format.
    """
    tell = tell or (lambda line: None)
    network = fold_batch_normalization(model)
    if quantization is not None:
        quantization.check(network, paths, search is not None)
    calibration_images, manifest = calibration or (None, None)
    with tempfile.TemporaryDirectory(prefix="auxzoo-") as folder:
        made = {form: Path(folder) / path.name for form, path in paths.items()}
        tell(f"converting to {len(made)} formats")
        if metadata.embedded_preprocessing is not None:
            network, model = (with_scaling_inside(one, metadata.embedded_preprocessing) for one in (network, model))
        converted = convert(network, made, outputs, calibration_images, onnx, quantization, search, tell)
        if converted.refused.keys() == made.keys():
            form, reason = next(iter(converted.refused.items()))
            raise UserError(f"`{paths[form].name}` cannot be made: {reason}")
        written = {form: path for form, path in made.items() if form not in converted.refused}
        layouts = {form: write_metadata(path, metadata) for form, path in written.items()}
        read = {form: read_model_file(path) for form, path in written.items()}
        if target is not None:
            refuse_misfits({made[form].name: model_file for form, model_file in read.items()}, target)
        images, source = _parity_images(model, evaluation, preprocessing, calibration_images, metadata)
        if onnx is not None and onnx.is_dynamic:
            for path in made.values():
                if path.suffix == ".onnx":
                    check_batches(path, images)
        if measured is not None:
            tell(f"measuring the Keras network on {measured.size} images")
        expected, keras_scores = _keras_reference(model, outputs, images, measured, preprocessing)
        records, moves = [], {}
        for form, path in made.items():
            record_path = path.with_name(f"{path.name}.json")
            moves[record_path] = paths[form].with_name(record_path.name)
            if form in converted.refused:
                record = {"file": path.name, "format": form, "made": _now(), "refused": converted.refused[form]}
                write_json(record_path, record)
                records.append(record)
                continue
            tell(f"measuring {path.name}")
            record = {
                "file": path.name,
                "format": form,
                "sha256": sha256(path),
                "bytes": path.stat().st_size,
                "made": _now(),
                "tools": _versions(quantization),
                "python": platform.python_version(),
                "processor": processor_name(),
                "metadata": {"layouts": layouts[form], "weights_sha256": metadata.weights_sha256},
                "calibration": manifest if FORMATS[form].needs_calibration else None,
                "quantization": _quantization_of(form, converted, onnx),
                **open_file(path).tensors(),
                "operators": read[form].operator_counts(),
                "targets": check_targets(read[form]),
                "parity": {"source": source, **measure_parity(path, images, expected, outputs)},
                "accuracy": evaluate_file(path, measured, preprocessing) if measured is not None else None,
                "keras_accuracy": keras_scores and keras_scores.get("accuracy"),
                "keras_scores": keras_scores,
                "latency": measure_latency(path),
            }
            write_json(record_path, record)
            records.append(record)
            moves[path] = paths[form]
        move_together(moves)
        for form in converted.refused:  # one of an earlier export would not be what the record tells
            paths[form].unlink(missing_ok=True)
    return records


def _now():
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _quantization_of(form, converted, onnx):
    """Returns what a record tells of how a file that computes in whole numbers was made."""
    if FORMATS[form].activations is None:
        return None
    if form.startswith("onnx"):
        return {"engine": "onnxruntime", "calibration_method": onnx.calibration_method}
    return converted.quantization


def _versions(quantization):
    tools = _TOOLS if quantization is None or quantization.engine == "tensorflow" else (*_TOOLS, quantization.engine)
    return {tool: importlib.metadata.version(tool) for tool in tools}


def preprocessing_of(model, description):
    """Returns the preprocessing of a description, the network's own if `None`.

    Raises:
        UserError: if there is none, or it makes images of another size.
    """
    return _description(model, description).preprocessing


def _in_front_of(description, is_embedded):
    """Returns what is done to a picture before it goes into the file."""
    preprocessing = description.preprocessing
    return raw_preprocessing(preprocessing) if is_embedded else preprocessing


def _description(model, description):
    description = description or describe(model)
    preprocessing = description.preprocessing
    size, wanted = (preprocessing.height, preprocessing.width, 3), tuple(model.inputs[0].shape[1:])
    if size != wanted:
        raise UserError(f"`description` must make images of shape {wanted}, the network's input. Received: {size}")
    return description


def fitting_images(model, outputs, evaluation):
    """Returns the images with truth for the tasks of the outputs alone, in their order; `None` if a backbone has none.

    Raises:
        UserError: if they are no `ImageSet`, or do not fit.
    """
    if not isinstance(evaluation, ImageSet):
        raise UserError(f"`evaluation` must be an ImageSet. Received: {type(evaluation).__name__}")
    known = {task.name: task for task in evaluation.tasks}
    names = {}
    for output in outputs:
        shape = (model.output[output.key] if output.key else model.outputs[0]).shape
        # Where both have one task the names may differ.
        own = evaluation.tasks[0] if len(outputs) == len(known) == 1 else known.get(output.name)
        if output.task is None and (own is None or own.is_dense != (len(shape) == 4)):
            return None  # features, or nothing that the images tell of
        if own is None or (output.task is not None and output.task.kind != own.kind):
            raise UserError(f"`evaluation` must have truth for {output.name!r}. Received: {', '.join(known)}")
        if own.kind != "regression" and len(own.labels) != shape[-1]:
            raise UserError(f"`evaluation` must have {shape[-1]} classes, as {model.name}. Received: {len(own.labels)}")
        names[output.name] = own.name
    return evaluation.with_tasks(names)


def _parity_images(model, evaluation, preprocessing, calibration_images, metadata):
    """Returns the best images there are for comparing a file with Keras, and where they come from."""
    if evaluation is not None:
        return parity_images(evaluation, preprocessing), evaluation.name
    if calibration_images is not None:
        return calibration_images, "calibration images"
    low, high = (-1, 1) if metadata.embedded_preprocessing is None else (0, 255)
    noise = np.random.default_rng(0).uniform(low, high, (_NOISE_IMAGES, *model.inputs[0].shape[1:]))
    return noise.astype(np.float32), f"uniform noise from {low} to {high}, seed 0"


def _keras_reference(model, outputs, images, evaluation, preprocessing):
    """Returns the Keras network's outputs for `images` by name, and what it is worth where that can be measured."""

    def predict(batch):
        # The one output may be in a dict or a list.
        values = model(batch, training=False)
        return {
            output.name: _activated(values[output.key] if output.key else keras.tree.flatten(values)[0], output)
            for output in outputs
        }

    # Concrete: from the fifth export on TensorFlow would warn of retracing.
    predict = tf.function(predict).get_concrete_function(tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32))
    scores = None
    if evaluation is not None:
        scores, done = Scores(evaluation, preprocessing), 0
        for batch, _ in evaluation.batches(preprocessing, 250 if evaluation.is_labelled else 8):
            values = predict(batch)
            scores.update(values if len(outputs) > 1 else values[outputs[0].name], done)
            done += len(batch)
    return {name: values.numpy() for name, values in predict(images).items()}, scores and scores.result()


def _activated(values, output):
    if output.is_classes:
        return tf.argmax(values, axis=-1, output_type=tf.int32)
    return tf.nn.softmax(values) if output.activation == "softmax" else values
