"""What is measured on an exported file: parity with Keras, accuracy, latency."""

import statistics

import numpy as np

from auxzoo.errors import UserError
from auxzoo.scores import scores_of

from .apart import SECONDS, FileApart

PARITY_IMAGES = 256
_BATCHES = (2, 3, 5)  # at once, of a file that takes any number


def evaluate_file(path, images, preprocessing, timeout=SECONDS, details=False):
    """Measures a file on images, one at a time, in a child process: it may be anyone's.

    Args:
        path: TFLite or ONNX file; the outputs of one with several tasks are called as the tasks are.
        images: `ImageSet` with truth for its tasks.
        preprocessing: `auxzoo.models.Preprocessing`.
        timeout: seconds, within which the file must be loaded, and then answer to each image.
        details: as of `auxzoo.scores.Scores`.

    Returns:
        `dict`: `images` (how many), what `auxzoo.scores.Scores` gives (`accuracy`, 0 to 1, of a classifier), `source`.

    Raises:
        UserError: if the file cannot be run, kills the runtime or hangs, or does not fit the images.

    Example:
        >>> evaluate_file("flowers_int8.tflite", test, auxzoo.describe(compact).preprocessing)["accuracy"]
    """
    with FileApart(path, timeout=timeout) as file:
        return evaluate_opened(file, images, preprocessing, details)


def evaluate_opened(file, images, preprocessing, details=False):
    """Measures a file that is opened: as `evaluate_file`, of anything with a `predict` of images."""
    scores = scores_of(file.predict, images, preprocessing, details)
    return {"images": images.size, **scores, "source": images.name}


def measure_parity(file, images, expected, outputs):
    """Compares a file's outputs with the Keras network's.

    Args:
        file: what `open_file` returned, or a `FileApart`.
        images: float32 `[count, height, width, 3]`, preprocessed.
        expected: `dict` of the outputs' names to the Keras network's output for them, activation done.
        outputs: list of `Output`.

    Returns:
        `dict`: `images`; `largest_difference` and `mean_difference`, absolute ones, not of classes; and
        `same_prediction`, the share of images (or pixels) whose highest value, or class, is the same, not of a
        regression. Of a file with several outputs a `dict` of these each, by name, and the largest difference of all.
    """
    received = file.predict(images)
    received = received if len(outputs) > 1 else {outputs[0].name: received}
    found = {output.name: _compared(received[output.name], expected[output.name], output) for output in outputs}
    if len(found) == 1:
        return {"images": len(images), **found[outputs[0].name]}
    differences = [values["largest_difference"] for values in found.values() if "largest_difference" in values]
    return {"images": len(images), **({"largest_difference": max(differences)} if differences else {}), **found}


def check_batches(file, images):
    """Raises a `UserError` unless an ONNX file of an open batch gives several images the same as one after the other.

    Args:
        file: what `open_file` returned, or a `FileApart`.
        images: float32 `[count, height, width, 3]`, preprocessed.
    """
    images = np.resize(images, (max(_BATCHES), *images.shape[1:]))
    alone = file.predict(images)
    for batch in _BATCHES:
        together = file.predict(images, batch)
        for name, values in alone.items() if isinstance(alone, dict) else [("", alone)]:
            received = together[name] if name else together
            # An int8 step, and a class where two are equal, may fall to the other side.
            same = received.shape == values.shape and np.isclose(received, values, atol=0.02 * np.abs(values).max())
            if np.mean(same) < 0.99:
                raise UserError(f"`batch` cannot be dynamic: the file gives {batch} images something else than each.")


def _compared(received, expected, output):
    if output.is_classes:
        return {"same_prediction": float((received == expected).mean())}
    difference = np.abs(received - expected)
    found = {"largest_difference": float(difference.max()), "mean_difference": float(difference.mean())}
    if output.task is None or output.task.kind != "regression":
        found["same_prediction"] = float((received.argmax(-1) == expected.argmax(-1)).mean())
    return found


def measure_latency(file, runs=50, warm_up=10):
    """Times single runs of a file on one thread.

    Args:
        file: `FileApart`.
        runs: `int`, how many are counted at most.
        warm_up: `int`, how many before them are not.

    Returns:
        `dict`: `median_ms`, `p95_ms`, `runs`, `threads`.
    """
    milliseconds = file.time_runs(runs, warm_up)
    return {
        "median_ms": round(statistics.median(milliseconds), 3),
        "p95_ms": round(statistics.quantiles(milliseconds, n=20, method="inclusive")[-1], 3),
        "runs": len(milliseconds),
        "threads": 1,
    }


def parity_images(images, preprocessing, most=PARITY_IMAGES):
    """Returns the first images of a set, at most `most`, preprocessed, for `measure_parity`."""
    count = min(most, images.size)
    return next(iter(images.batches(preprocessing, count)))[0].numpy()
