"""Threads and oneDNN of this process: set as a recipe asks, and recorded."""

import os

import tensorflow as tf
from absl import logging

ONEDNN_VARIABLE = "TF_ENABLE_ONEDNN_OPTS"


def apply_compute(compute):
    """Sets the threads of TensorFlow, and warns where the process cannot be as the recipe asks any more.

    Threads must be set before TensorFlow's first operation, oneDNN before TensorFlow is imported (the command
    line does that).

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
    """Returns what a run's record says of the process: `threads` (0: all cores), `onednn` (as set, or TensorFlow's)."""
    return {
        "threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "onednn": {"1": True, "0": False}.get(os.environ.get(ONEDNN_VARIABLE), "TensorFlow's default"),
    }
