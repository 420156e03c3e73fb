"""What a converter says of a network that it cannot convert, as a reason for having no file of a format."""

import contextlib

from auxzoo.errors import LONGEST_REASON


class Refused(Exception):
    """An engine or the runtime does not take the network so; the message says why."""


@contextlib.contextmanager
def refusing(more=()):
    """Turns what an engine says of a network that it cannot convert into a `Refused`.

    Args:
        more: tuple of the engine's own kinds of errors, beside Python's.
    """
    from tensorflow.lite.python.convert_phase import ConverterError

    try:
        yield
    except (*more, ConverterError, RuntimeError, ValueError, NotImplementedError) as error:
        raise Refused(f"the converter does not take the network: {short(error)}") from error


def onnx_errors():
    """Returns the errors of onnx and of onnxruntime, which have no class in common."""
    from onnx.checker import ValidationError
    from onnx.shape_inference import InferenceError
    from onnxruntime.capi import onnxruntime_pybind11_state

    of_runtime = [kind for kind in vars(onnxruntime_pybind11_state).values() if isinstance(kind, type)]
    return (ValidationError, InferenceError, *[kind for kind in of_runtime if issubclass(kind, Exception)])


def no_operator_of(layer):
    """Returns the `Refused` of a layer that shall stay float and is nowhere in the file."""
    return Refused(f"the layer {layer!r} has no operator of its own in the file, so none can stay float")


def short(error):
    """Returns the beginning of what a converter says; it goes on with the graph."""
    text = " ".join(str(error).split())
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]} ..."
