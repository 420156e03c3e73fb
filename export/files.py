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
from auxzoo.metrics import Accuracy

from ..models.description import describe
from .calibration import choose_calibration
from .checks import check_exportable
from .conversion import convert
from .folding import fold_batch_normalization
from .formats import FORMATS
from .measurement import evaluate_file, measure_latency, measure_parity, parity_images
from .runtime import open_file

_NOISE_IMAGES = 16
_TOOLS = ("auxzoo", "tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert")


def to_tflite(model, path, quantization=None, calibration=None, description=None):
    """Writes the TFLite file of a compact network: batch 1, built-in operators, batch-norm folded.

    Input `image` `[1, height, width, 3]`, preprocessed; output `logits` (names of the signature).

    Args:
        model: functional Keras model, of stock layers, static shapes, one input and output.
        path: `str` or `Path` of the file, ending in `.tflite`.
        quantization: `None` (float32), `"float16"`, `"dynamic"` (int8 weights), `"int8"` (input and output too)
            or `"int8_float_io"`.
        calibration: real images for the int8 kinds, of which 200 are taken: an `ImageSet`, a `tf.data.Dataset` of
            preprocessed `(images, ...)` batches, or such an array `[count, height, width, 3]`.
        description: `Description` with the preprocessing of an `ImageSet`, for a network that carries none.

    Returns:
        `Path` of the file; its record, with parity but no accuracy, lies beside it as `FILE.json`.

    Raises:
        UserError: if `model` cannot be exported (a joint network among others) or an argument is wrong.
        ChildFailed: if the converter fails.

    Example:
        >>> auxzoo.export.to_tflite(compact, "flowers.tflite", quantization="int8", calibration=train)
    """
    names = {form.quantization: name for name, form in FORMATS.items() if name != "onnx"}
    if quantization not in names:
        raise UserError(f"`quantization` must be one of {', '.join(map(repr, names))}. Received: {quantization!r}")
    return _write_one(model, path, names[quantization], ".tflite", calibration, description)


def to_onnx(model, path, opset=17):
    """Writes the ONNX file of a compact network: batch 1, batch-norm folded, channels last.

    Input `image` `[1, height, width, 3]`, preprocessed; output `logits`.

    Args:
        model: functional Keras model, of stock layers, static shapes, one input and output.
        path: `str` or `Path` of the file, ending in `.onnx`.
        opset: ONNX operator set, 13 to 18.

    Returns:
        `Path` of the file; its record, with parity but no accuracy, lies beside it as `FILE.json`.

    Raises:
        UserError: if `model` cannot be exported (a joint network among others) or an argument is wrong.
        ChildFailed: if the converter fails.

    Example:
        >>> auxzoo.export.to_onnx(compact, "flowers.onnx")
    """
    if not isinstance(opset, int) or opset not in range(13, 19):
        raise UserError(f"`opset` must be 13 to 18. Received: opset={opset!r}")
    return _write_one(model, path, "onnx", ".onnx", opset=opset)


def export_files(
    model,
    folder,
    formats=tuple(FORMATS),
    *,
    calibration=None,
    evaluation=None,
    description=None,
    name=None,
    progress=None,
):
    """Exports a compact network in several formats with one child process, and measures every file.

    Args:
        model: functional Keras model, of stock layers, static shapes, one input and output.
        folder: where the files and their records go; made if it is missing.
        formats: names among `FORMATS`.
        calibration: `ImageSet` for the int8 formats, of which 200 are taken by a fixed seed.
        evaluation: `ImageSet` for parity and accuracy, disjoint from `calibration`. If `None`, parity is measured on
            the calibration images or on noise, and accuracy is not; the record says so. Accuracy is that of a
            classifier; other networks have parity alone.
        description: `Description` for a network that carries none.
        name: `str`, first part of the file names; the network's name if `None`.
        progress: called with a line of text before each step, or `None`.

    Returns:
        list of records (`dict`), one a file, each written beside its file as `FILE.json`.

    Raises:
        UserError: if `model` cannot be exported, a format is unknown, calibration is missing or overlaps
            with evaluation, or the images do not fit the network.
        ChildFailed: if the converter fails; no file is left behind.

    Example:
        >>> records = auxzoo.export.export_files(compact, "out", calibration=train, evaluation=test)
        >>> [record["accuracy"]["accuracy"] for record in records]
    """
    check_exportable(model)
    unknown = [form for form in formats if form not in FORMATS]
    if unknown or not formats:
        raise UserError(f"`formats` must be among {', '.join(FORMATS)}. Received: {', '.join(unknown) or 'none'}")
    preprocessing = _preprocessing(model, description)
    if evaluation is not None:
        _check_evaluation(model, evaluation)
    folder, name = Path(folder), name or model.name
    if folder.exists() and not folder.is_dir():
        raise UserError(f"`folder` must be a folder. Received: `{folder}`, a file")
    chosen = None
    if any(FORMATS[form].needs_calibration for form in formats):
        if not isinstance(calibration, ImageSet):
            raise UserError("`calibration` must be an ImageSet of real images for the int8 formats.")
        if evaluation is not None and calibration.overlaps(evaluation):
            raise UserError("`calibration` and `evaluation` must have no image in common.")
        chosen = choose_calibration(calibration, model.input_shape[1:], preprocessing)
    paths = {form: folder / f"{name}{FORMATS[form].suffix}" for form in formats}
    return _export(model, paths, chosen, evaluation, preprocessing, tell=progress)


def _write_one(model, path, form, suffix, calibration=None, description=None, opset=17):
    check_exportable(model)
    path = Path(path)
    if path.suffix != suffix:
        raise UserError(f"`path` must end in {suffix}. Received: `{path}`")
    chosen = None
    if FORMATS[form].needs_calibration:
        preprocessing = _preprocessing(model, description) if isinstance(calibration, ImageSet) else None
        chosen = choose_calibration(calibration, model.input_shape[1:], preprocessing)
    _export(model, {form: path}, chosen, opset=opset)
    return path


def _export(model, paths, calibration=None, evaluation=None, preprocessing=None, opset=17, tell=None):
    """Converts and measures in a folder of its own; then all files and records appear at their places, or none.

    Args:
        model: checked network.
        paths: `dict` of format name to the `Path` of its file.
        calibration: what `choose_calibration` returned, or `None`.
        evaluation: `ImageSet` for parity and accuracy, or `None`.
        preprocessing: of `evaluation`.
        opset: ONNX operator set.
        tell: called with a line of text before each step, or `None`.

    Returns:
        list of records (`dict`), one a file.
    """
    tell = tell or (lambda line: None)
    calibration_images, manifest = calibration or (None, None)
    with tempfile.TemporaryDirectory(prefix="auxzoo-") as folder:
        made = {form: Path(folder) / path.name for form, path in paths.items()}
        tell(f"converting to {len(made)} formats")
        convert(fold_batch_normalization(model), made, calibration_images, opset)
        images, source = _parity_images(model, evaluation, preprocessing, calibration_images)
        if evaluation is not None:
            tell(f"measuring the Keras network on {evaluation.size} images")
        expected, keras_accuracy = _keras_reference(model, images, evaluation, preprocessing)
        records, moves = [], {}
        for form, path in made.items():
            tell(f"measuring {path.name}")
            is_measured = evaluation is not None and _is_classifier(model)
            record = {
                "file": path.name,
                "format": form,
                "sha256": sha256(path),
                "bytes": path.stat().st_size,
                "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "tools": {tool: importlib.metadata.version(tool) for tool in _TOOLS},
                "python": platform.python_version(),
                "processor": processor_name(),
                "calibration": manifest if FORMATS[form].needs_calibration else None,
                **open_file(path).tensors(),
                "operators": open_file(path).operators(),
                "parity": {"source": source, **measure_parity(path, images, expected)},
                "accuracy": evaluate_file(path, evaluation, preprocessing) if is_measured else None,
                "keras_accuracy": keras_accuracy,
                "latency": measure_latency(path),
            }
            record_path = path.with_name(f"{path.name}.json")
            write_json(record_path, record)
            records.append(record)
            moves |= {path: paths[form], record_path: paths[form].with_name(record_path.name)}
        move_together(moves)
    return records


def _preprocessing(model, description):
    preprocessing = (description or describe(model)).preprocessing
    size, wanted = (preprocessing.height, preprocessing.width, 3), tuple(model.inputs[0].shape[1:])
    if size != wanted:
        raise UserError(f"`description` must make images of shape {wanted}, the network's input. Received: {size}")
    return preprocessing


def _is_classifier(model):
    return len(model.outputs[0].shape) == 2


def _check_evaluation(model, evaluation):
    if not isinstance(evaluation, ImageSet):
        raise UserError(f"`evaluation` must be an ImageSet. Received: {type(evaluation).__name__}")
    classes = model.outputs[0].shape[-1]
    if _is_classifier(model) and len(evaluation.labels) != classes:
        raise UserError(
            f"`evaluation` must have {classes} classes, as {model.name}. Received: {len(evaluation.labels)}"
        )


def _parity_images(model, evaluation, preprocessing, calibration_images):
    """Returns the best images there are for comparing a file with Keras, and where they come from."""
    if evaluation is not None:
        return parity_images(evaluation, preprocessing), evaluation.name
    if calibration_images is not None:
        return calibration_images, "calibration images"
    noise = np.random.default_rng(0).uniform(-1, 1, (_NOISE_IMAGES, *model.input_shape[1:])).astype(np.float32)
    return noise, "uniform noise from -1 to 1, seed 0"


def _keras_reference(model, images, evaluation, preprocessing):
    """Returns the Keras network's outputs for `images`, and its accuracy where it can be measured."""
    # The one output may be in a dict or a list. Concrete: from the fifth export on TensorFlow would warn of retracing.
    predict = tf.function(lambda batch: keras.tree.flatten(model(batch, training=False))[0]).get_concrete_function(
        tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32)
    )
    accuracy = None
    if evaluation is not None and _is_classifier(model):
        accuracy = Accuracy()
        for batch, classes in evaluation.batches(preprocessing, 250):
            accuracy.update(predict(batch).numpy(), classes.numpy())
    return predict(images).numpy(), accuracy and accuracy.result()
