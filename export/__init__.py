"""TFLite and ONNX files of compact networks, measured. Loads on first use."""

import importlib

_NAMES = {
    "DEFAULT_FORMATS": "formats",
    "FORMATS": "formats",
    "FileApart": "apart",
    "benchmark_files": "benchmark",
    "TARGETS": "targets",
    "OnnxOptions": "onnx_options",
    "check_target": "target_checks",
    "evaluate_file": "measurement",
    "export_files": "files",
    "inspect_file": "inspection",
    "open_file": "runtime",
    "plan_memory": "memory_plan",
    "quantization_report": "layer_report",
    "read_metadata": "metadata",
    "read_model_file": "model_file",
    "to_onnx": "files",
    "to_tflite": "files",
    "weights_checksum": "metadata",
    "write_page": "bench_page",
}

__all__ = sorted(_NAMES)


def __getattr__(name):
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_NAMES})
