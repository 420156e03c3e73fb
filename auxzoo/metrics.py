"""Metrics over a whole set, streaming, in plain numpy: the same for Keras networks and exported files."""

import numpy as np

from auxzoo.errors import UserError


class Accuracy:
    """Share of images whose class is among the highest logits, over all batches seen.

    Args:
        top: how many of the highest logits count, 1 or more.

    Example:
        >>> accuracy = Accuracy()
        >>> accuracy.update([[0.1, 0.9], [0.8, 0.2]], [1, 1])
        >>> accuracy.result()
        0.5
    """

    def __init__(self, top=1):
        if top < 1:
            raise UserError(f"`top` must be 1 or more. Received: top={top}")
        self.top = top
        self.correct = 0
        self.count = 0

    def update(self, logits, classes):
        """Adds a batch.

        Args:
            logits: numbers `[batch, classes]`.
            classes: integers `[batch]`, 0 to classes - 1.

        Raises:
            UserError: if shapes do not fit, a class has no logit, or a logit is not a number.
        """
        logits, classes = check_predictions(logits, classes)
        highest = np.argsort(-logits, axis=1, kind="stable")[:, : self.top]
        self.correct += int((highest == classes[:, None]).any(axis=1).sum())
        self.count += len(classes)

    def result(self):
        """Returns the accuracy, 0 to 1; NaN if nothing was seen."""
        return self.correct / self.count if self.count else float("nan")


class ConfusionMatrix:
    """How often each class was taken for each other, over all batches seen.

    Args:
        classes: `int`, number of classes.

    Attributes:
        counts: int64 `[classes, classes]`, row: true class, column: predicted class.
    """

    def __init__(self, classes):
        self.counts = np.zeros((classes, classes), dtype=np.int64)

    def update(self, logits, classes):
        """Adds a batch; arguments and errors as of `Accuracy.update`."""
        logits, classes = check_predictions(logits, classes)
        if logits.shape[1] != len(self.counts):
            raise UserError(f"`logits` must have {len(self.counts)} columns. Received: shape {tuple(logits.shape)}")
        np.add.at(self.counts, (classes, logits.argmax(axis=1)), 1)

    def accuracy_of_classes(self):
        """Returns the share of each true class that was recognised, float64 `[classes]`; NaN for one not seen."""
        seen = self.counts.sum(axis=1)
        return np.divide(np.diag(self.counts), seen, out=np.full(len(seen), np.nan), where=seen > 0)


def check_predictions(logits, classes):
    """Returns logits and classes as arrays that fit together.

    Raises:
        UserError: if they do not.
    """
    logits, classes = np.asarray(logits), np.asarray(classes)
    if logits.ndim != 2 or classes.shape != (len(logits),):
        raise UserError(
            "`logits` must be [batch, classes] and `classes` [batch]. "
            f"Received: shapes {logits.shape} and {classes.shape}"
        )
    if np.isnan(logits).any():
        raise UserError("`logits` must be numbers. Received: NaN")
    if classes.size and not (classes.min() >= 0 and classes.max() < logits.shape[1]):
        raise UserError(f"`classes` must be 0 to {logits.shape[1] - 1}. Received: {classes.min()} to {classes.max()}")
    return logits, classes
