"""Compact networks, their descriptions and costs, and the published zoo. Loads on first use."""

import importlib

_NAMES = {
    "DeepLabLite": "deeplab",
    "Description": "description",
    "MobileNetV2": "mobilenet_v2",
    "MultiTask": "multi_task",
    "Preprocessing": "preprocessing",
    "ResNet18": "resnet",
    "describe": "description",
    "described": "description",
    "load": "zoo",
    "load_keras_file": "zoo",
    "measure_costs": "costs",
}

__all__ = sorted(_NAMES)


def __getattr__(name):
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_NAMES})
