"""Keras callbacks of the training loop."""

import math
import time

import keras
import numpy as np

from .run_state import save_run_state


class TrainingDiverged(RuntimeError):
    """The loss or the weights are no longer finite numbers."""


class StopOnNaN(keras.callbacks.Callback):
    """Stops the run as soon as the loss is not finite, and names the epoch and step.

    At the end of an epoch it looks at the weights and the validation loss too, so no state with NaN is ever saved.

    Raises:
        TrainingDiverged: in the step in which it happens.
    """

    def on_epoch_begin(self, epoch, logs=None):
        """Remembers the epoch for the message."""
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Looks at the running mean of the loss, which a single NaN makes NaN."""
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            self._stop(f"The loss became {loss} in epoch {self._epoch + 1}, step {batch + 1}")

    def on_epoch_end(self, epoch, logs=None):
        """Looks at what the last step made of the weights."""
        for variable in self.model.network.variables:
            if not np.isfinite(variable.numpy()).all():
                self._stop(f"The weights `{variable.path}` became NaN or infinite in epoch {epoch + 1}, last step")
        loss = float((logs or {}).get("val_loss", 0.0))
        if not math.isfinite(loss):
            self._stop(f"The validation loss became {loss} in epoch {epoch + 1}")

    def _stop(self, what):
        raise TrainingDiverged(
            f"{what} (step {int(self.model.optimizer.iterations)} of the run). Lower the learning rate, clip the "
            "gradient, or look for bad values in the data."
        )


class SaveRunState(keras.callbacks.Callback):
    """Saves the run state at the end of every epoch; must be the last of the callbacks.

    Args:
        path: file of the run state.
        progress: `Progress` of the epochs before, to which this run adds.
        averaging: `AveragedWeights`, which has the weights of the training while the average is in the network;
            or `None`.
    """

    def __init__(self, path, progress, averaging=None):
        super().__init__()
        self.path = path
        self.progress = progress
        self.averaging = averaging

    def on_train_begin(self, logs=None):
        """Starts the clock."""
        self._started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        """Adds the epoch's metrics and seconds to the progress and saves everything."""
        if self.averaging is not None:
            self.averaging.put_back()
        now = time.monotonic()
        self.progress.add_epoch(logs, seconds=now - self._started)
        self._started = now
        save_run_state(self.path, self.model, self.progress)
