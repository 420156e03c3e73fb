"""The record of an exported file: what it is, how it was made, and what was measured on that very file."""

import dataclasses
import datetime
import importlib.metadata
import math
import platform

import keras
import numpy as np
import tensorflow as tf

from auxzoo.files import sha256
from auxzoo.machine import processor_name
from auxzoo.scores import scores_of

from .apart import OWN_FILE, FileApart
from .formats import FORMATS
from .measurement import (
    PARITY_IMAGES,
    check_batches,
    evaluate_opened,
    measure_latency,
    measure_parity,
    parity_images,
)
from .model_file import read_model_file
from .target_checks import check_targets

_NOISE_IMAGES = 16
_LARGEST_OUTPUTS = 2**28  # bytes, of all parity images: those of two networks are held at a time
_KERAS_BATCH = 16
# Differences of a file to Keras, as shares of the largest value of an output.
_FLOAT32_LIMIT, _FLOAT16_LIMIT = 0.01, 0.1
_SAME_CLASSES = 0.9
_TOOLS = ("auxzoo", "tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "ai-edge-litert")


@dataclasses.dataclass(frozen=True)
class Reference:
    """What every file of an export is compared with.

    Attributes:
        images: float32 `[count, height, width, 3]`, preprocessed.
        source: `str`, where they are from.
        outputs: `dict` of the outputs' names to the Keras network's output for them, activation done.
        scores: what the Keras network is worth on the images with truth, or `None`.
    """

    images: np.ndarray
    source: str
    outputs: dict
    scores: dict | None


def refusal(form, path, reason):
    """Returns the record of a format that has no file."""
    return {"file": path.name, "format": form, "made": _now(), "refused": reason}


def record_of(export, form, path, layouts, converted, reference):
    """Measures a file, and returns its record.

    Args:
        export: the `Export` that it is of.
        form: name of its format.
        path: `Path` of the file.
        layouts: what `write_metadata` returned.
        converted: `Converted`.
        reference: `Reference`.

    Returns:
        `dict` of plain JSON types.

    Raises:
        UserError: if the runtime refuses the file or is killed by it.
    """
    model_file, measured, preprocessing = read_model_file(path), export.measured, export.metadata.preprocessing
    # In a child: a file that kills the runtime is refused, and the others are written.
    with FileApart(path, **OWN_FILE) as file:
        if path.suffix == ".onnx" and export.onnx.is_dynamic:
            check_batches(file, reference.images)
        parity = measure_parity(file, reference.images, reference.outputs, export.outputs)
        accuracy = evaluate_opened(file, measured, preprocessing) if measured is not None else None
        latency, tensors = measure_latency(file), file.tensors()
    return {
        "file": path.name,
        "format": form,
        "sha256": sha256(path),
        "bytes": path.stat().st_size,
        "made": _now(),
        "conversion": {"seconds": converted.seconds, "peak_bytes": converted.peak_bytes},  # of all formats together
        "tools": _versions(export.quantization.engine),
        "python": platform.python_version(),
        "processor": processor_name(),
        "metadata": {"layouts": layouts, **export.metadata.to_dict()},
        "calibration": export.manifest if FORMATS[form].needs_calibration else None,
        "quantization": _quantization_of(form, converted),
        **tensors,
        "operators": model_file.operator_counts(),
        "targets": check_targets(model_file),
        "parity": {"source": reference.source, **parity},
        "accuracy": accuracy,
        "keras_accuracy": reference.scores and reference.scores.get("accuracy"),
        "keras_scores": reference.scores,
        "latency": latency,
    }


def difference_too_large(form, parity, reference):
    """Returns in words why a float file is not what the Keras network is; `None` if it is, or is quantised.

    The limits are far above what rounding does in any order of computation, and far below what a converter does that
    takes one operation for another.

    Args:
        form: name of its format.
        parity: what `measure_parity` returned.
        reference: `Reference`.
    """
    limit = {None: _FLOAT32_LIMIT, "float16": _FLOAT16_LIMIT}.get(FORMATS[form].quantization)
    if limit is None:
        return None
    for name, expected in reference.outputs.items():
        found = parity if len(reference.outputs) == 1 else parity[name]
        difference = found.get("largest_difference")
        if difference is None:  # classes: of two that are nearly equal either may win
            if found["same_prediction"] < _SAME_CLASSES:
                share = f"{found['same_prediction']:.0%}"
                return f"the converter made something else of the network: {share} of the classes are those of Keras"
            continue
        largest = float(np.abs(expected).max())
        if not difference <= limit * largest + 1e-6:
            return (
                f"the converter made something else of the network: {name} differs from Keras by up to "
                f"{difference:.3g}, where the largest value is {largest:.3g}"
            )
    return None


def _now():
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _versions(engine):
    tools = _TOOLS if engine == "tensorflow" else (*_TOOLS, engine)
    return {tool: importlib.metadata.version(tool) for tool in tools}


def _quantization_of(form, converted):
    """Returns what a record tells of how a file that computes in whole numbers was made."""
    activations = FORMATS[form].activations
    if activations is None:
        return None
    return converted.quantization["onnx" if form.startswith("onnx") else activations]


def images_to_compare(export):
    """Returns the best images there are for comparing an export's files with Keras, and where they come from."""
    size = sum(4 * math.prod(output.shape[1:]) for output in export.model.outputs)  # bytes, float32
    most = min(PARITY_IMAGES, max(1, _LARGEST_OUTPUTS // size))
    if export.evaluation is not None:
        return parity_images(export.evaluation, export.metadata.preprocessing, most), export.evaluation.name
    if export.calibration is not None:
        return export.calibration[:most], "calibration images"
    low, high = (-1, 1) if export.metadata.embedded_preprocessing is None else (0, 255)
    count = min(_NOISE_IMAGES, most)
    noise = np.random.default_rng(0).uniform(low, high, (count, *export.model.inputs[0].shape[1:]))
    return noise.astype(np.float32), f"uniform noise from {low} to {high}, seed 0"


def keras_reference(model, outputs, images, evaluation=None, preprocessing=None):
    """Returns the Keras network's outputs for `images` by name, and what it is worth where that can be measured."""

    def predict(batch):
        # The one output may be in a dict or a list.
        values = model(batch, training=False)
        return {
            output.name: output.applied(values[output.key] if output.key else keras.tree.flatten(values)[0])
            for output in outputs
        }

    # Concrete: from the fifth export on TensorFlow would warn of retracing.
    predict = tf.function(predict).get_concrete_function(tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.float32))
    scores = None
    if evaluation is not None:
        one_or_all = predict if len(outputs) > 1 else lambda batch: predict(batch)[outputs[0].name]
        scores = scores_of(one_or_all, evaluation, preprocessing)
    parts = [predict(images[start : start + _KERAS_BATCH]) for start in range(0, len(images), _KERAS_BATCH)]
    results = {output.name: np.concatenate([part[output.name] for part in parts]) for output in outputs}
    return results, scores
