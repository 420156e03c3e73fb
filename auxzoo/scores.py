"""Scores of predictions against the truth of a set of images: the same for Keras networks and exported files."""

import numpy as np

from auxzoo.data.preprocessing import at_picture_size
from auxzoo.data.targets import check_some_truth
from auxzoo.errors import UserError
from auxzoo.metric_names import metric_name
from auxzoo.metrics import MISSING_CLASS, Accuracy, ConfusionMatrix, Regression, Segmentation

# What is among so many of the highest logits is told too, where there are more classes.
TOP = 5


def scores_of(predict, images, preprocessing, details=False):
    """Returns what predictions for a whole set of images are worth, the result of `Scores`.

    Args:
        predict: function of float32 images `[batch, height, width, 3]`, preprocessed, a tensor, to predictions.
        images, preprocessing, details: as of `Scores`.

    Raises:
        UserError: as of `Scores`, or if a prediction is of another shape than one of its task.
    """
    scores, done = Scores(images, preprocessing, details), 0
    for batch, _ in images.batches(preprocessing, batch_size_of(images)):
        scores.update(predict(batch), done)
        done += len(batch)
    return scores.result()


def batch_size_of(images):
    """Returns how many images are predicted at a time: values at every pixel of many would not fit in memory."""
    return 250 if images.is_labelled else 8


class Scores:
    """What predictions for a whole set of images are worth, task by task.

    Dense predictions are resized bilinearly to the size of the truth as the set has it, so that networks with other
    input sizes can be compared. An image without truth for a task does not count for it.

    Args:
        images: `ImageSet`.
        preprocessing: `auxzoo.models.Preprocessing` by which the pictures became the input.
        details: whether more is counted of a classification than its accuracy: that of every class, and the share of
            images whose class is among the 5 highest logits.

    Raises:
        UserError: if the whole set has no truth for a task.

    Example:
        >>> scores = Scores(images, auxzoo.describe(network).preprocessing)
        >>> scores.update(logits, first=0)
        >>> scores.result()
        {'accuracy': 0.875}
    """

    def __init__(self, images, preprocessing, details=False):
        self.images, self.preprocessing = images, preprocessing
        check_some_truth(images, "images")
        self._metrics = {}
        for task in images.tasks:
            if task.kind == "classification":
                self._metrics[task.name] = _Classification(task.labels, details)
            elif task.kind == "segmentation":
                self._metrics[task.name] = Segmentation(len(task.labels))
            else:
                self._metrics[task.name] = Regression()

    def update(self, outputs, first):
        """Adds a batch of predictions.

        Args:
            outputs: of a set with one task a prediction, of one with several a dict of them: logits `[batch, classes]`
                or `[batch, rows, columns, classes]`, integer classes of such a shape without the last, or numbers
                `[batch, rows, columns, 1]`.
            first: `int`, place of the first image of the batch in the set.

        Raises:
            UserError: if a prediction does not fit, or is not finite.
        """
        for task in self.images.tasks:
            output = _of_task(task, outputs)
            truths, metric = self.images.targets[task.name][first : first + len(output)], self._metrics[task.name]
            if task.kind == "classification":
                is_known = truths != MISSING_CLASS
                metric.update(output[is_known], truths[is_known])
                continue
            for prediction, truth in zip(output, truths, strict=True):
                prediction = at_picture_size(prediction, truth.shape, self.preprocessing)
                if prediction.ndim == 2:
                    metric.update(prediction, truth)
                elif task.kind == "segmentation":
                    metric.update_logits(prediction, truth)
                else:
                    metric.update(prediction[..., 0], truth)

    def result(self, prefix=""):
        """Returns name -> figure.

        Of a classification `accuracy`, 0 to 1, and with details `top_5_accuracy` (where there are more than 5 classes,
        and logits), `mean_accuracy_of_classes`, `accuracy_of_classes` and `images_of_classes`, a dict of label each,
        with `None` for the accuracy of a class that is nowhere, and `mistakes_of_classes`, a dict of label to what its
        images were taken for, most often first, a dict of label to number; of a segmentation `mean_iou`,
        `pixel_accuracy` and `iou_of_classes`, a dict of label to IoU, `None` of a class that is nowhere; of a
        regression what `auxzoo.metrics.Regression` gives, `None` where no target counts.
        Where the set has several tasks the names begin with the task's.

        Args:
            prefix: `str`, begins every name.
        """
        found = {}
        for task in self.images.tasks:
            metric = self._metrics[task.name]
            values = metric.result()
            if task.kind == "segmentation":
                of_classes = zip(task.labels, metric.iou_of_classes().tolist(), strict=True)
                values["iou_of_classes"] = {label: None if np.isnan(iou) else iou for label, iou in of_classes}
            values = {
                name: None if isinstance(value, float) and np.isnan(value) else value for name, value in values.items()
            }
            found |= {metric_name(self.images.tasks, task, name, prefix): value for name, value in values.items()}
        return found


class _Classification:
    """The accuracy of a classification and, with details, what is behind it; as of `Scores`."""

    def __init__(self, labels, details):
        self.labels, self.details = labels, details
        self.accuracy, self.top, self.matrix = Accuracy(), Accuracy(TOP), None

    def update(self, output, classes):
        """Adds logits `[batch, classes]`, or integer classes `[batch]`, and the true classes."""
        if output.ndim == 1:
            self.accuracy.update_classes(output, classes)
        else:
            self.accuracy.update(output, classes)
        if not self.details:
            return
        if output.ndim == 1:  # a class that the set does not have counts as one more
            others = len(self.labels)
            output = np.eye(others + 1)[np.where((output >= 0) & (output < others), output, others)]
        else:
            self.top.update(output, classes)
        if self.matrix is None:  # nothing else may tell how many logits there are
            self.matrix = ConfusionMatrix(output.shape[1])
        self.matrix.update(output, classes)

    def result(self):
        """Returns what `Scores.result` tells of a classification."""
        found = {"accuracy": self.accuracy.result()}
        if self.details:
            names = [
                label if self.labels.count(label) == 1 else f"{label} ({place})"
                for place, label in enumerate(self.labels)
            ]
            shares = self.matrix.accuracy_of_classes()[: len(names)]
            counts = self.matrix.counts.sum(axis=1)[: len(names)]
            if self.top.count and len(names) > TOP:
                found[f"top_{TOP}_accuracy"] = self.top.result()
            found["mean_accuracy_of_classes"] = float(np.nanmean(shares))
            found["accuracy_of_classes"] = {
                name: None if np.isnan(share) else float(share) for name, share in zip(names, shares, strict=True)
            }
            found["images_of_classes"] = dict(zip(names, counts.tolist(), strict=True))
            found["mistakes_of_classes"] = {name: self._mistakes(place, names) for place, name in enumerate(names)}
        return found

    def _mistakes(self, place, names):
        """Returns what the images of a class were taken for, most often first; all that has no name is one."""
        counts = self.matrix.counts[place].copy()
        counts[place] = 0
        taken_for = dict(zip(names, counts, strict=False)) | {"another class": counts[len(names) :].sum()}
        return {name: int(count) for name, count in sorted(taken_for.items(), key=lambda item: -item[1]) if count}


_SHAPES = {
    "classification": {2: "[batch, classes]", 1: "[batch]"},
    "segmentation": {4: "[batch, rows, columns, classes]", 3: "[batch, rows, columns]"},
    "regression": {4: "[batch, rows, columns, 1]"},
}


def _of_task(task, outputs):
    """Returns the prediction for a task, checked to have as many dimensions as one for its kind has."""
    if isinstance(outputs, dict):
        if task.name not in outputs:
            raise UserError(f"`outputs` must have one called {task.name!r}. Received: {', '.join(outputs)}")
        outputs = outputs[task.name]
    output, shapes = np.asarray(outputs), _SHAPES[task.kind]
    if output.ndim not in shapes or (task.kind == "regression" and output.shape[-1] != 1):
        raise UserError(
            f"The prediction for {task.name!r}, a {task.kind}, must be {' or '.join(shapes.values())}. "
            f"Received: shape {output.shape}"
        )
    if output.ndim == max(shapes) and task.kind != "regression" and output.shape[-1] < len(task.labels):
        raise UserError(
            f"The prediction for {task.name!r} must be of the images' {len(task.labels)} classes at least. "
            f"Received: {output.shape[-1]}"
        )
    return output
