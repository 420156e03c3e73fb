"""What is measured on an exported file: parity with Keras, accuracy, latency."""

import statistics
import time

import numpy as np

from auxzoo.metrics import Accuracy

from .runtime import open_file

_PARITY_IMAGES = 256


def evaluate_file(path, images, preprocessing, progress=None):
    """Measures the accuracy of an exported file on images, one at a time.

    Args:
        path: TFLite or ONNX file of a classifier.
        images: `ImageSet`.
        preprocessing: `auxzoo.models.Preprocessing`.
        progress: called with the number of images done so far, or `None`.

    Returns:
        `dict`: `images` (how many), `accuracy` (0 to 1), `source`.

    Example:
        >>> evaluate_file("flowers_int8.tflite", test, auxzoo.describe(compact).preprocessing)["accuracy"]
    """
    runner = open_file(path)
    accuracy = Accuracy()
    for batch, classes in images.batches(preprocessing, 250):
        accuracy.update(runner.predict(batch.numpy()), classes.numpy())
        if progress is not None:
            progress(accuracy.count)
    return {"images": accuracy.count, "accuracy": accuracy.result(), "source": images.name}


def measure_parity(path, images, expected):
    """Compares a file's outputs with the Keras network's.

    Args:
        path: the file.
        images: float32 `[count, height, width, 3]`, preprocessed.
        expected: float32 outputs of the Keras network for them.

    Returns:
        `dict`: largest and mean absolute difference of the outputs, and the share of images (or pixels) whose
        highest output is the same.
    """
    received = open_file(path).predict(images)
    difference = np.abs(received - expected)
    return {
        "images": len(images),
        "largest_difference": float(difference.max()),
        "mean_difference": float(difference.mean()),
        "same_prediction": float((received.argmax(-1) == expected.argmax(-1)).mean()),
    }


def measure_latency(path, runs=50, warm_up=10, threads=1):
    """Times single runs of a file.

    Returns:
        `dict`: `median_ms`, `p95_ms`, `runs`, `threads`.
    """
    runner = open_file(path, threads)
    for _ in range(warm_up):
        runner.run_once()
    milliseconds = []
    for _ in range(runs):
        start = time.perf_counter()
        runner.run_once()
        milliseconds.append((time.perf_counter() - start) * 1e3)
    return {
        "median_ms": round(statistics.median(milliseconds), 3),
        "p95_ms": round(statistics.quantiles(milliseconds, n=20, method="inclusive")[-1], 3),
        "runs": runs,
        "threads": threads,
    }


def parity_images(images, preprocessing):
    """Returns the first images of a set, preprocessed, for `measure_parity`."""
    count = min(_PARITY_IMAGES, images.size)
    return next(iter(images.batches(preprocessing, count)))[0].numpy()
