"""Losses, the training loop, run states, recipes, the search of structures, studies. Loads on first use."""

import importlib

_NAMES = {
    "Objective": "objective",
    "Optimization": "optimization",
    "Recipe": "recipe",
    "Trainer": "trainer",
    "TrainingDiverged": "callbacks",
    "evaluate": "evaluation",
    "fit": "loop",
    "read_recipe": "recipe",
    "set_threads": "compute",
    "train": "run",
}

__all__ = sorted(_NAMES)


def __getattr__(name):
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *_NAMES})
