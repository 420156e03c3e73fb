"""Threads, oneDNN, precision and GPUs of this process: set as a recipe asks, or checked, and recorded."""

import contextlib
import os

import keras
import tensorflow as tf
from absl import logging

from auxzoo.errors import UserError
from auxzoo.machine import processor_name

ONEDNN_VARIABLE = "TF_ENABLE_ONEDNN_OPTS"


def apply_compute(compute):
    """Sets the threads of TensorFlow, and warns where the process cannot be as the recipe asks any more.

    Threads must be set before TensorFlow's first operation, oneDNN before TensorFlow is imported (the command
    line does that). Of a GPU TensorFlow shall take the memory that it needs, and not all at once; this was written
    where there is none, and has not been run on one.

    Args:
        compute: `ComputeSettings`.
    """
    try:
        set_threads(compute.threads)
    except RuntimeError:
        logging.warning(
            "TensorFlow has started already, with other threads than the recipe's (%s) or with several operations side "
            "by side: the last digits of the results may differ from run to run.",
            compute.threads or "all cores",
        )
    with contextlib.suppress(RuntimeError):  # it has started: then it has the memory that it took
        for device in tf.config.list_physical_devices("GPU"):
            tf.config.experimental.set_memory_growth(device, True)
    if isinstance(compute.onednn, bool) and os.environ.get(ONEDNN_VARIABLE) != str(int(compute.onednn)):
        logging.warning(
            "The recipe asks for %s=%d, which must be set before TensorFlow is imported; the last digits of the "
            "results may differ.",
            ONEDNN_VARIABLE,
            compute.onednn,
        )


def set_threads(threads=None):
    """Sets the threads of an operation, and lets TensorFlow compute one operation after the other.

    Side by side they end in no fixed order, and `AddN`, which sums the gradients that reach a tensor, begins with the
    one whose buffer is free: a sum of three, as behind batch-norm, has other last digits from step to step.

    Args:
        threads: `int`; all cores if `None`.

    Raises:
        RuntimeError: if TensorFlow has run its first operation with another number.

    Example:
        >>> auxzoo.training.set_threads()  # before TensorFlow's first operation: now a seed gives the same weights
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads or 0)
    tf.config.threading.set_inter_op_parallelism_threads(1)


def describe_compute():
    """Returns what a run's record says of the process.

    Returns:
        `dict`: `threads` (0: all cores), `onednn` (as set, or TensorFlow's choice), `gpus` (names of those that
        TensorFlow sees, of which it trains on the first; none, as a rule).
    """
    return {
        "threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "onednn": {"1": True, "0": False}.get(os.environ.get(ONEDNN_VARIABLE), "TensorFlow's default"),
        "gpus": _gpu_names(),
    }


def device_line():
    """Returns a line that tells which device trains."""
    gpus, threads = _gpu_names(), tf.config.threading.get_intra_op_parallelism_threads()
    if gpus:
        return f"Training on a GPU, {gpus[0]}"
    return f"Training on {processor_name()}, {f'{threads} thread(s)' if threads else 'all cores'}"


def _gpu_names():
    devices = tf.config.list_physical_devices("GPU")
    return [tf.config.experimental.get_device_details(device).get("device_name", device.name) for device in devices]


def check_precision(network):
    """Raises a `UserError` if a layer of a network computes in half precision, which is not supported."""
    # What is no model is told where its outputs are looked at.
    for layer in network._flatten_layers(include_self=False) if isinstance(network, keras.Model) else ():
        if layer.compute_dtype in ("float16", "bfloat16"):
            raise UserError(
                '`network` must not compute in half precision: `keras.config.set_dtype_policy` must be "float32" '
                f"where it is built. Received: layer {layer.name!r}, which computes in {layer.compute_dtype}"
            )
