"""The state of a run in one file, complete enough that a resumed run gives the same weights, bit for bit.

Keras' `BackupAndRestore` leaves out the seed generators of Dropout and, on a mismatch, skips states with a
mere warning; here every variable is kept by its path, and a file that does not fit is refused.
"""

import json
import zipfile
import zlib

import numpy as np

from auxzoo.errors import UserError
from auxzoo.files import written_aside


def save_run_state(path, trainer, epoch, history):
    """Writes the state after `epoch` finished epochs, aside and renamed.

    Args:
        path: `str` or `Path` of the `.npz` file.
        trainer: built `Trainer`; its network's variables (batch-norm statistics and seed generators among
            them) and its optimiser's (step, momentum, moving average of the weights) are kept.
        epoch: `int`, finished epochs. The data order derives from it and the seed.
        history: `dict` of metric name to a list of floats, one an epoch.
    """
    arrays = {name: variable.numpy() for name, variable in _variables(trainer).items()}
    arrays["progress"] = np.array(json.dumps({"epoch": epoch, "history": history}))
    with written_aside(path) as temporary:
        np.savez(temporary, **arrays)


def restore_run_state(path, trainer):
    """Puts the state in `path` into `trainer`; nothing is changed unless all of it fits.

    Returns:
        `(epoch, history)` as they were saved.

    Raises:
        UserError: if the file is damaged or of another network or optimiser; the message names what differs.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        progress = json.loads(str(arrays.pop("progress")))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"`{path}` is not a readable run state: {error}") from None
    variables = _variables(trainer)
    expected = {name: tuple(variable.shape) for name, variable in variables.items()}
    received = {name: array.shape for name, array in arrays.items()}
    if expected != received:
        different = sorted(
            name for name in expected.keys() | received.keys() if expected.get(name) != received.get(name)
        )
        raise UserError(
            f"`{path}` is the state of another network or optimiser: {len(different)} variables differ, "
            f"the first is {different[0]!r}: expected shape {expected.get(different[0])}. "
            f"Received: {received.get(different[0])}"
        )
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return progress["epoch"], progress["history"]


def _variables(trainer):
    """Returns every variable that training changes, by a name that is stable between processes."""
    named = {}
    # Keras numbers what has no name by the order in which the process made it (`sgd_1`), so the position
    # counts, and the path only tells people what it is.
    for owner, variables in (
        ("network", trainer.network.variables),
        ("optimizer", trainer.optimizer.variables),
    ):
        for position, variable in enumerate(variables):
            named[f"{owner}.{position:04d}.{variable.name}"] = variable
    return named
