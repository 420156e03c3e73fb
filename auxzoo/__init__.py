"""auxzoo: compact Keras vision networks that train inside a wider network and ship alone.

Everything here loads on first use (PEP 562): `import auxzoo` takes milliseconds and no TensorFlow.

Example:
    >>> import auxzoo
    >>> compact = auxzoo.load("mobilenet_v2_050_cifar10", num_classes=5)
    >>> joint = auxzoo.attach(compact, auxzoo.Structure.default(compact))
"""

import importlib

__version__ = "0.1.0"

# A name here never equals the name of a room or module: importing the module would overwrite it.
_NAMES = {
    "Structure": "auxzoo.auxiliary",
    "attach": "auxzoo.auxiliary",
    "detach": "auxzoo.auxiliary",
    "Task": "auxzoo.tasks",
    "UserError": "auxzoo.errors",
    "describe": "auxzoo.models",
    "load": "auxzoo.models",
    "fit": "auxzoo.training",
    "train": "auxzoo.training",
}
_ROOMS = ("auxiliary", "data", "export", "metrics", "models", "training")

__all__ = ["Structure", "Task", "UserError", "attach", "describe", "detach", "fit", "load", "train"]


def __getattr__(name):
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"auxzoo.{name}")
    raise AttributeError(f"module 'auxzoo' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_NAMES, *_ROOMS})
