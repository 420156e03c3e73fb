"""Weights of classes: given, or taken from how often each is seen in the training images."""

from auxzoo.data import ImageSet
from auxzoo.data.targets import median_frequency_weights
from auxzoo.errors import UserError

from .outputs import number_of_classes, tasks_of


def with_class_weights(objective, network, train):
    """Returns an objective whose class weights are numbers, checked against a network.

    Args:
        objective: `Objective`.
        network: compact or joint network.
        train: `ImageSet` of the training images, with the network's tasks, or anything else: then weights by frequency
            cannot be had.

    Raises:
        UserError: if it names a task that the network does not have, or weights do not fit the classes.
    """
    tasks = {task.name: task for task in tasks_of(network)}
    check_weighted_tasks(objective, tasks)
    weights = {name: _numbers(given, tasks[name], network, train) for name, given in objective.class_weights.items()}
    return objective.model_copy(update={"class_weights": weights})


def check_weighted_tasks(objective, names):
    """Raises a `UserError` if an objective weighs a task, or classes of one, that is not among those of a network."""
    for field in ("class_weights", "task_weights"):
        for name in getattr(objective, field):
            if name not in names:
                raise UserError(
                    f"`objective.{field}` must name tasks of the network, {', '.join(names)}. Received: {name!r}"
                )


def _numbers(weights, task, network, train):
    argument = f"`objective.class_weights` of {task.name!r}"
    if task.kind == "regression":
        raise UserError(f"{argument} must not be set: a regression has no classes.")
    classes = number_of_classes(network, task)
    if weights == "median_frequency":
        if not isinstance(train, ImageSet):
            raise UserError(f"{argument} must be numbers where `train` is no ImageSet. Received: {weights!r}")
        return median_frequency_weights(train.targets[task.name], task, classes)
    if len(weights) != classes:
        raise UserError(f"{argument} must be {classes} numbers, one a class. Received: {len(weights)}")
    return weights
