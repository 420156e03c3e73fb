"""Metrics over a whole set, streaming, in plain numpy: the same for Keras networks and exported files."""

import math
import statistics

import numpy as np

from auxzoo.checks import is_real, is_whole
from auxzoo.errors import UserError

# Label of pixels without truth. The largest of a byte, as the data sets write it: no class can have it.
VOID = 255
# Class of an image of which nobody said what it shows.
MISSING_CLASS = -1
CONFIDENCE = 0.95


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
        if not np.issubdtype(logits.dtype, np.floating):
            logits = logits.astype(np.float64)  # the negative of a byte may be no byte
        highest = np.argsort(-logits, axis=1, kind="stable")[:, : self.top]
        self.correct += int((highest == classes[:, None]).any(axis=1).sum())
        self.count += len(classes)

    def update_classes(self, predicted, classes):
        """Adds a batch of which only the likeliest class of each image is known.

        Args:
            predicted: integers `[batch]`.
            classes: integers `[batch]`.

        Raises:
            UserError: if shapes do not fit, or a value is no integer.
        """
        predicted, classes = _integers("predicted", predicted), _integers("classes", classes)
        if predicted.ndim != 1 or predicted.shape != classes.shape:
            raise UserError(
                "`predicted` and `classes` must be [batch] of one length. "
                f"Received: shapes {predicted.shape} and {classes.shape}"
            )
        self.correct += int((predicted == classes).sum())
        self.count += len(classes)

    def result(self):
        """Returns the accuracy, 0 to 1; NaN if nothing was seen."""
        return self.correct / self.count if self.count else float("nan")


class _PairCounts:
    """How often each true class met each predicted one."""

    def __init__(self, classes):
        self.counts = np.zeros((classes, classes), dtype=np.int64)

    def accuracy_of_classes(self):
        """Returns the share of each true class that was recognised, float64 `[classes]`; NaN for one not seen."""
        return _share(np.diag(self.counts), self.counts.sum(axis=1))

    def _add(self, truth, predicted):
        # Multiplied as int64: a byte would overflow.
        pairs = np.multiply(truth, len(self.counts), dtype=np.int64) + predicted
        self.counts += np.bincount(pairs, minlength=self.counts.size).reshape(self.counts.shape)


class ConfusionMatrix(_PairCounts):
    """How often each class was taken for each other, over all batches seen.

    Args:
        classes: `int`, number of classes.

    Attributes:
        counts: int64 `[classes, classes]`, row: true class, column: predicted class.
    """

    def update(self, logits, classes):
        """Adds a batch; arguments and errors as of `Accuracy.update`."""
        logits, classes = check_predictions(logits, classes)
        if logits.shape[1] != len(self.counts):
            raise UserError(f"`logits` must have {len(self.counts)} columns. Received: shape {tuple(logits.shape)}")
        self._add(classes, logits.argmax(axis=1))


class Segmentation(_PairCounts):
    """How well the class of every pixel is told, over all images seen.

    Pixels whose truth is `VOID` count nowhere, whatever is predicted there.

    Args:
        classes: `int`, number of classes, 1 to 255.

    Attributes:
        counts: int64 `[classes, classes]`, number of pixels, row: true class, column: predicted class.

    Raises:
        UserError: if `classes` is not so.

    Example:
        >>> segmentation = Segmentation(3)
        >>> segmentation.update([[0, 0, 1, 1]], [[0, 0, 0, VOID]])
        >>> segmentation.iou_of_classes()
        array([0.66666667, 0.        ,        nan])
        >>> segmentation.mean_iou()
        0.3333333333333333
    """

    def __init__(self, classes):
        if not (is_whole(classes) and 1 <= classes <= VOID):
            raise UserError(f"`classes` must be 1 to {VOID}. Received: classes={classes!r}")
        super().__init__(classes)

    def update(self, predicted, truth):
        """Adds a batch, or one image.

        Args:
            predicted: integers `[..., rows, columns]`, 0 to classes - 1, at pixels without truth too.
            truth: integers of the same shape, 0 to classes - 1, or `VOID` where there is none.

        Raises:
            UserError: if shapes differ, or a value is not so; nothing is added then.
        """
        predicted, truth = _integers("predicted", predicted), _integers("truth", truth)
        if predicted.ndim < 2 or predicted.shape != truth.shape:
            raise UserError(
                "`predicted` and `truth` must be [..., rows, columns] of one shape. "
                f"Received: shapes {predicted.shape} and {truth.shape}"
            )
        valid = truth != VOID
        self._check_classes("predicted", predicted.ravel(), "")
        self._check_classes("truth", truth[valid], f", or {VOID} where there is none")
        # As int64: numpy would make floats of its sums with uint64.
        self._add(truth[valid], predicted[valid].astype(np.int64))

    def update_logits(self, logits, truth):
        """Adds a batch, or one image, whose predicted class is the highest logit, the first of equal ones.

        Args:
            logits: numbers `[..., rows, columns, classes]`.
            truth: integers `[..., rows, columns]`, 0 to classes - 1, or `VOID` where there is none.

        Raises:
            UserError: if shapes do not fit, a logit is NaN, or a label is not so; nothing is added then.
        """
        logits, truth = _real_numbers("logits", logits), _integers("truth", truth)
        classes = len(self.counts)
        if logits.ndim < 3 or logits.shape[-1] != classes or logits.shape[:-1] != truth.shape:
            raise UserError(
                f"`logits` must be [..., rows, columns, {classes}] and `truth` [..., rows, columns]. "
                f"Received: shapes {logits.shape} and {truth.shape}"
            )
        if np.isnan(logits).any():
            raise UserError("`logits` must be numbers. Received: NaN")
        self.update(logits.argmax(axis=-1), truth)

    def iou_of_classes(self):
        """Returns the intersection over union of each class, float64 `[classes]`, 0 to 1.

        It is the number of pixels that are of the class and predicted as it, over the number of those that are either,
        both of the whole set; NaN for a class that no pixel with truth has or is predicted as.
        """
        intersection = np.diag(self.counts)
        return _share(intersection, self.counts.sum(axis=0) + self.counts.sum(axis=1) - intersection)

    def mean_iou(self):
        """Returns the mean of `iou_of_classes`, 0 to 1, every class with the same weight; NaN if no truth was seen.

        A class counts if at least one pixel with truth, of all images seen, has it or is predicted as it: one that is
        predicted and never true counts as 0, one that is predicted only where the truth is `VOID` does not count.
        """
        values = self.iou_of_classes()
        values = values[~np.isnan(values)]
        return float(values.mean()) if len(values) else float("nan")

    def pixel_accuracy(self):
        """Returns the share of pixels with truth whose class was told, 0 to 1; NaN if none was seen."""
        return float(_share(np.trace(self.counts), self.counts.sum()))

    def result(self):
        """Returns a `dict` of `mean_iou` and `pixel_accuracy`, `float` each."""
        return {"mean_iou": self.mean_iou(), "pixel_accuracy": self.pixel_accuracy()}

    def _check_classes(self, name, labels, or_else):
        if labels.size and not (labels.min() >= 0 and labels.max() < len(self.counts)):
            wrong = labels[(labels < 0) | (labels >= len(self.counts))][0]
            raise UserError(f"`{name}` must be 0 to {len(self.counts) - 1}{or_else}. Received: {wrong}")


class Regression:
    """How far predicted numbers, such as the depth of every pixel, are from the truth, over all seen.

    A target is a number of the truth that is not NaN. Each error is over all targets together, summed in float64.

    Attributes:
        targets: `int`, number of targets seen.

    Example:
        >>> regression = Regression()
        >>> regression.update([1.0, 3.0, 9.0], [1.0, 2.0, float("nan")])
        >>> regression.result()["mean_absolute_error"], regression.result()["delta_1"]
        (0.5, 0.5)
    """

    def __init__(self):
        self.targets = 0
        self._nonzero_targets = 0
        self._positive_targets = 0
        self._squared_errors = 0.0
        self._absolute_errors = 0.0
        self._relative_errors = 0.0
        self._within = [0, 0, 0]

    def update(self, predicted, truth):
        """Adds a batch, or one image.

        Args:
            predicted: numbers of any shape, finite where there is a target, in the unit of the truth.
            truth: numbers of the same shape, finite, or NaN where there is no target.

        Raises:
            UserError: if shapes differ, or a value is not so; nothing is added then.
        """
        predicted, truth = _real_numbers("predicted", predicted), _real_numbers("truth", truth)
        if predicted.shape != truth.shape:
            raise UserError(
                f"`predicted` and `truth` must be of one shape. Received: shapes {predicted.shape} and {truth.shape}"
            )
        valid = ~np.isnan(truth)
        # Before anything is computed: differences and squares may be too large for the type that came.
        predicted, truth = predicted[valid].astype(np.float64), truth[valid].astype(np.float64)
        if not np.isfinite(truth).all():
            raise UserError(
                f"`truth` must be finite, or NaN where there is no target. Received: {truth[~np.isfinite(truth)][0]}"
            )
        if not np.isfinite(predicted).all():
            raise UserError(
                f"`predicted` must be finite where there is a target. Received: {predicted[~np.isfinite(predicted)][0]}"
            )
        errors, nonzero, positive = np.abs(predicted - truth), truth != 0, truth > 0
        self.targets += truth.size
        self._nonzero_targets += int(nonzero.sum())
        self._positive_targets += int(positive.sum())
        self._squared_errors += float(np.square(errors).sum())
        self._absolute_errors += float(errors.sum())
        self._relative_errors += float((errors[nonzero] / np.abs(truth[nonzero])).sum())
        # A prediction of 0 or less is as far as can be from a truth above 0: it is within no ratio.
        both = positive & (predicted > 0)
        with np.errstate(over="ignore"):  # an infinite ratio is outside, as it should be
            ratios = np.maximum(predicted[both] / truth[both], truth[both] / predicted[both])
        for index in range(3):
            self._within[index] += int((ratios < 1.25 ** (index + 1)).sum())

    def result(self):
        """Returns what was measured, as of Eigen et al., https://arxiv.org/abs/1406.2283.

        Returns:
            `dict` of `float`, NaN where no target counts:
            `root_mean_squared_error` and `mean_absolute_error`, in the unit of the truth, over all targets;
            `absolute_relative_error`, the mean of |predicted - truth| / |truth| over targets other than 0;
            `delta_1`, `delta_2` and `delta_3`, the share of targets above 0, 0 to 1, for which the larger of
            predicted / truth and truth / predicted is below 1.25, 1.25² and 1.25³; a prediction of 0 or less is not.
            And `targets`, `int`, the number of targets.
        """
        return {
            "root_mean_squared_error": math.sqrt(_share(self._squared_errors, self.targets)),
            "mean_absolute_error": float(_share(self._absolute_errors, self.targets)),
            "absolute_relative_error": float(_share(self._relative_errors, self._nonzero_targets)),
            **{
                f"delta_{index}": float(_share(within, self._positive_targets))
                for index, within in enumerate(self._within, start=1)
            },
            "targets": self.targets,
        }


def relative_improvement(values, baselines, higher_is_better):
    """Returns by how much a network with several tasks is better than one network a task, in per cent.

    It is the mean over tasks of (-1)^l (value - baseline) / baseline * 100, where l is 1 if lower is better, else 0:
    the Δm of Maninis et al., https://arxiv.org/abs/1904.08918. Below 0 the baselines are better.

    Args:
        values: `dict`, of every task its measure in the network with several, finite.
        baselines: `dict`, of the same tasks the same measure in a network of its own, finite and above 0: relative to
            one below, better and worse would change places.
        higher_is_better: `dict`, of the same tasks a `bool`, whether a higher measure is better.

    Returns:
        `float`, per cent.

    Raises:
        UserError: if tasks differ, there is none, or a value is not so.

    Example:
        >>> relative_improvement(
        ...     {"classes": 0.75, "depth": 2.5}, {"classes": 0.5, "depth": 2.0}, {"classes": True, "depth": False}
        ... )
        12.5
    """
    arguments = {"values": values, "baselines": baselines, "higher_is_better": higher_is_better}
    for name, argument in arguments.items():
        if not isinstance(argument, dict) or not argument:
            raise UserError(f"`{name}` must be a dict of at least one task. Received: {name}={argument!r}")
        if set(argument) != set(values):
            raise UserError(
                f"`{name}` must have the tasks of `values`, {sorted(map(str, values))}. "
                f"Received: {sorted(map(str, argument))}"
            )
    for task in values:
        if not _is_finite(values[task]):
            raise UserError(f"`values` of task {task!r} must be a finite number. Received: {values[task]!r}")
        if not _is_finite(baselines[task]) or float(baselines[task]) <= 0:
            raise UserError(
                f"`baselines` of task {task!r} must be a finite number above 0. Received: {baselines[task]!r}"
            )
        if not isinstance(higher_is_better[task], (bool, np.bool)):
            raise UserError(
                f"`higher_is_better` of task {task!r} must be True or False. Received: {higher_is_better[task]!r}"
            )
    improvements = []
    for task, value in values.items():
        value, baseline = float(value), float(baselines[task])
        improvements.append((value - baseline if higher_is_better[task] else baseline - value) / baseline)
    return 100 * sum(improvements) / len(improvements)


def paired_interval(differences):
    """Returns the mean of differences and the half-width of its 95 % interval (Student's t); `None` of one alone."""
    from scipy import stats

    mean = statistics.fmean(differences)
    if len(differences) < 2:
        return mean, None
    error = statistics.stdev(differences) / len(differences) ** 0.5
    return mean, float(stats.t.ppf((1 + CONFIDENCE) / 2, len(differences) - 1)) * error


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


def _share(part, whole):
    """Returns part / whole as float64; NaN where whole is 0."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _array(name, values):
    try:
        return np.asarray(values)
    except ValueError as error:  # rows of unequal length
        raise UserError(f"`{name}` must be an array. Received: {error}") from error


def _integers(name, values):
    array = _array(name, values)
    if array.dtype.kind not in "iu":
        raise UserError(f"`{name}` must be integers. Received: {array.dtype}")
    return array


def _real_numbers(name, values):
    array = _array(name, values)
    if not np.can_cast(array.dtype, np.float64, "same_kind"):
        raise UserError(f"`{name}` must be real numbers. Received: {array.dtype}")
    return array


def _is_finite(value):
    try:
        return is_real(value) and math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False
