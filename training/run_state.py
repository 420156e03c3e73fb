"""The state of a run in one file, complete enough that a resumed run gives the same weights, bit for bit.

Keras' `BackupAndRestore` leaves out the seed generators of Dropout and, on a mismatch, skips states with a
mere warning; here every variable is kept, and a file that does not fit is refused.
"""

import dataclasses
import json
import zipfile
import zlib

import numpy as np

from auxzoo.errors import UserError
from auxzoo.files import written_aside


@dataclasses.dataclass
class Progress:
    """How far a run has come.

    Attributes:
        settings: `dict` of plain JSON types: all that the rest of the run depends on beside the variables. A run
            that is continued must have the same.
        epoch: finished epochs. The data order derives from it and the seed.
        history: metric name to a list of floats, one an epoch.
        seconds: time that the finished epochs took.
    """

    settings: dict
    epoch: int = 0
    history: dict = dataclasses.field(default_factory=dict)
    seconds: float = 0.0

    def add_epoch(self, metrics, seconds):
        """Counts one more finished epoch."""
        for name, value in metrics.items():
            self.history.setdefault(name, []).append(float(value))
        self.epoch += 1
        self.seconds += seconds


def save_run_state(path, trainer, progress):
    """Writes the state at the end of an epoch, aside and renamed.

    Args:
        path: `str` or `Path` of the `.npz` file.
        trainer: built `Trainer`; the variables of its `state` are kept: the network's (batch-norm statistics and seed
            generators among them) and every optimiser's (step, momentum, moving average of the weights).
        progress: `Progress`.
    """
    arrays = {name: variable.numpy() for name, variable in _variables(trainer).items()}
    arrays["progress"] = np.array(json.dumps(dataclasses.asdict(progress)))
    with written_aside(path) as temporary:
        np.savez(temporary, **arrays)


def read_progress(path):
    """Returns the `Progress` of a saved run.

    Raises:
        UserError: if the file is damaged.
    """
    return _read(path, names=["progress"])[0]


def restore_run_state(path, trainer, settings):
    """Puts the state in `path` into `trainer`; nothing is changed unless all of it fits.

    Args:
        path: file that `save_run_state` wrote.
        trainer: built `Trainer`.
        settings: as of `Progress`, of the run that shall go on.

    Returns:
        `Progress` as it was saved.

    Raises:
        UserError: if the file is damaged, or of another network, optimiser or run; the message names what differs.
    """
    progress, arrays = _read(path)
    for name in sorted(settings.keys() | progress.settings.keys()):
        if settings.get(name) != progress.settings.get(name):
            raise UserError(
                f"`{path}` belongs to another run: its `{name}` is {progress.settings.get(name)!r}. "
                f"Received: {settings.get(name)!r}. Choose another folder, or the settings of that run."
            )
    variables = _variables(trainer)
    for name in sorted(variables.keys() | arrays.keys()):
        expected = tuple(variables[name].shape) if name in variables else None
        received = arrays[name].shape if name in arrays else None
        if expected != received:
            called = f" ({variables[name].path})" if name in variables else ""
            raise UserError(
                f"`{path}` is the state of another network or optimiser: variable {name}{called} must have "
                f"shape {expected}. Received: {received}"
            )
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return progress


def _read(path, names=None):
    """Returns the progress and the arrays in the file, all of them unless `names` says which."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in names or file.files}
        progress = Progress(**json.loads(str(arrays.pop("progress"))))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"`{path}` is not a readable run state: {error}") from None
    return progress, arrays


def _variables(trainer):
    """Returns every variable that training changes, by its position.

    Keras numbers what has no name by the order in which the process made it (`sgd_1`, `conv2d_1`), so names
    differ between two builds of one network.
    """
    return {
        f"{owner}.{position:04d}": variable
        for owner, variables in trainer.state.items()
        for position, variable in enumerate(variables)
    }
