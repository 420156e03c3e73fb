"""TFLite and ONNX files of compact networks, measured. Loads on first use."""

import importlib

_NAMES = {
    "DEFAULT_FORMATS": "formats",
    "FORMATS": "formats",
    "evaluate_file": "measurement",
    "export_files": "files",
    "open_file": "runtime",
    "quantization_report": "layer_report",
    "to_onnx": "files",
    "to_tflite": "files",
}

__all__ = sorted(_NAMES)


def __getattr__(name):
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_NAMES})
