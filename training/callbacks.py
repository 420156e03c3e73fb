"""Keras callbacks of the training loop."""

import math

import keras

from .run_state import save_run_state


class TrainingDiverged(RuntimeError):
    """The loss is no longer a finite number."""


class StopOnNaN(keras.callbacks.Callback):
    """Stops the run as soon as the loss is not finite, and names the epoch and step.

    Raises:
        TrainingDiverged: in the step in which it happens, so no state with NaN is ever saved.
    """

    def on_epoch_begin(self, epoch, logs=None):
        """Remembers the epoch for the message."""
        self._epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        """Looks at the running mean of the loss, which a single NaN makes NaN."""
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise TrainingDiverged(
                f"The loss became {loss} in epoch {self._epoch + 1}, step {batch + 1} "
                f"(step {int(self.model.optimizer.iterations)} of the run). Lower the learning rate, clip the "
                "gradient, or look for bad values in the data."
            )


class SaveRunState(keras.callbacks.Callback):
    """Saves the run state at the end of every epoch.

    Args:
        path: file of the run state.
        history: `dict` of metric name to a list of floats of the epochs before, to which this run adds.
    """

    def __init__(self, path, history):
        super().__init__()
        self.path = path
        self.history = history

    def on_epoch_end(self, epoch, logs=None):
        """Adds the epoch's metrics to the history and saves everything."""
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        save_run_state(self.path, self.model, epoch + 1, self.history)
