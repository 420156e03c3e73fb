"""What a converter says of a network that it cannot convert, as a reason for having no file of a format."""

import contextlib

from .model_file import LONGEST_REASON


class Refused(Exception):
    """An engine or the runtime does not take the network so; the message says why."""


@contextlib.contextmanager
def refusing():
    """Turns what an engine says of a network that it cannot convert into a `Refused`."""
    from onnx.checker import ValidationError
    from onnx.shape_inference import InferenceError
    from tensorflow.lite.python.convert_phase import ConverterError

    own = (ConverterError, ValidationError, InferenceError)
    try:
        yield
    except (*own, RuntimeError, ValueError, NotImplementedError) as error:
        raise Refused(f"the converter does not take the network: {short(error)}") from error


def short(error):
    """Returns the beginning of what a converter says; it goes on with the graph."""
    text = " ".join(str(error).split())
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]} ..."
