"""The loss and the metric of each kind of task, with what has no truth left out."""

import keras

from auxzoo.metrics import MISSING_CLASS, VOID

ops = keras.ops


def task_loss(task, truth, prediction, label_smoothing=0.0, class_weights=None):
    """Returns the mean loss of a task over all images or pixels with truth, a scalar; 0 where there is none.

    Args:
        task: `Task`.
        truth: of a classification integers `[batch]`, -1 where there is none; of a segmentation integers
            `[batch, rows, columns]`, 255 where there is none; of a regression numbers of such a shape, NaN where there
            is none.
        prediction: logits `[..., classes]`, cross-entropy; or numbers `[batch, rows, columns, 1]`, the loss of Huber
            (1964) in units of the task's scale: squared for small differences, absolute for large ones.
        label_smoothing: share of the probability spread over all classes.
        class_weights: numbers `[classes]`; a mean with these weights is taken. 1 each if `None`.
    """
    if task.kind == "regression":
        # Replaced before anything is computed: a NaN times 0 is NaN, and its gradient too.
        losses = _huber((prediction[..., 0] - ops.where(_has_number(truth), truth, 0.0)) / task.scale)
    else:
        classes = prediction.shape[-1]
        one_hot = ops.one_hot(ops.cast(truth, "int32"), classes, dtype=prediction.dtype)  # zeros without truth
        targets = one_hot * (1 - label_smoothing) + label_smoothing / classes
        losses = ops.categorical_crossentropy(targets, prediction, from_logits=True)
    return _mean_over_truth(task, truth, losses, class_weights)


def distillation_loss(task, truth, student, teacher, temperature, class_weights=None):
    """Returns how far a prediction is from a teacher's, a scalar; the mean is that of `task_loss`.

    What has no truth is left out here too: the grey round a picture that was made smaller is nothing to learn from.

    Args:
        task: `Task`.
        truth: as of `task_loss`.
        student: prediction, as of `task_loss`.
        teacher: another one. Of a regression the loss is that of Huber.
        temperature: divides the logits; the term is multiplied by its square (arXiv:1503.02531).
        class_weights: as of `task_loss`.
    """
    if task.kind == "regression":
        return _mean_over_truth(task, truth, _huber((student - teacher)[..., 0] / task.scale))
    teacher = ops.softmax(teacher / temperature)
    student = ops.log_softmax(student / temperature)
    # Cross-entropy less the teacher's own entropy: the divergence is zero where both agree.
    divergence = ops.sum(teacher * (ops.log(teacher + 1e-12) - student), axis=-1)
    return temperature**2 * _mean_over_truth(task, truth, divergence, class_weights)


def amount_of_truth(task, truth, class_weights=None):
    """Returns the sum of the weights that `task_loss` takes its mean with, a scalar; arguments as there."""
    return ops.sum(_weights(task, truth, class_weights))


def has_any_truth(task, truth, class_weights=None):
    """Returns whether there is anything that `task_loss` takes its mean over, a scalar, 0 or 1; arguments as there."""
    return ops.cast(amount_of_truth(task, truth, class_weights) > 0, "float32")


def _mean_over_truth(task, truth, losses, class_weights=None):
    """Returns the mean of the losses of all images or pixels with truth, weighted by their classes; 0 without any."""
    weights = ops.cast(_weights(task, truth, class_weights), losses.dtype)
    return ops.sum(losses * weights) / ops.maximum(ops.sum(weights), 1e-12)


def _weights(task, truth, class_weights):
    """Returns what every image or pixel counts, float32 of the truth's shape; 0 without truth."""
    if task.kind == "regression":
        return ops.cast(_has_number(truth), "float32")
    truth = ops.cast(truth, "int32")
    weights = ops.cast(has_class(task, truth), "float32")
    if class_weights is not None:
        class_weights = ops.cast(class_weights, "float32")
        weights = weights * ops.take(class_weights, ops.clip(truth, 0, class_weights.shape[0] - 1))
    return weights


def task_metric(task, classes, name):
    """Returns the Keras metric of a task, to be updated by `update_metric`."""
    if task.kind == "classification":
        return keras.metrics.SparseCategoricalAccuracy(name=name)
    if task.kind == "segmentation":
        return keras.metrics.MeanIoU(classes, name=name, ignore_class=VOID, sparse_y_pred=False)
    return keras.metrics.RootMeanSquaredError(name=name)


def update_metric(metric, task, truth, prediction):
    """Adds a batch to what `task_metric` returned; truth and prediction as of `task_loss`."""
    if task.kind == "classification":
        metric.update_state(ops.maximum(truth, 0), prediction, sample_weight=has_class(task, truth))
    elif task.kind == "segmentation":
        metric.update_state(ops.cast(truth, "int32"), prediction)
    else:
        valid = _has_number(truth)
        metric.update_state(ops.where(valid, truth, 0.0), prediction[..., 0], sample_weight=ops.cast(valid, "float32"))


def has_class(task, truth):
    """Returns where there is truth of a task with classes, `bool` of the truth's shape."""
    return ops.not_equal(truth, ops.cast(VOID if task.is_dense else MISSING_CLASS, truth.dtype))


def _has_number(truth):
    return ops.logical_not(ops.isnan(truth))


def _huber(difference):
    size = ops.absolute(difference)
    return ops.where(size <= 1.0, 0.5 * difference**2, size - 0.5)
