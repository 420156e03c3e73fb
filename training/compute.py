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
    if compute.threads is not None:
        try:
            set_threads(compute.threads)
        except RuntimeError:
            logging.warning("TensorFlow has started already: it does not use the recipe's %d threads.", compute.threads)
    if isinstance(compute.onednn, bool) and os.environ.get(ONEDNN_VARIABLE) != str(int(compute.onednn)):
        logging.warning(
            "The recipe asks for %s=%d, which must be set before TensorFlow is imported; the last digits of the "
            "results may differ.",
            ONEDNN_VARIABLE,
            compute.onednn,
        )


def set_threads(threads):
    """Sets the threads of an operation and of the graph.

    Raises:
        RuntimeError: if TensorFlow has run its first operation with another number.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def describe_compute():
    """Returns what a run's record says of the process: `threads` (0: all cores), `onednn` (as set, or TensorFlow's)."""
    return {
        "threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "onednn": {"1": True, "0": False}.get(os.environ.get(ONEDNN_VARIABLE), "TensorFlow's default"),
    }
