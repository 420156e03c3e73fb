"""What metrics are called in scores, tables and plots, and how their values are told."""

# Kind of task -> all that is measured of it, first the one metric by which networks are compared.
METRICS = {
    "classification": ("accuracy",),
    "segmentation": ("mean_iou", "pixel_accuracy", "iou_of_classes"),
    "regression": (
        *("root_mean_squared_error", "mean_absolute_error", "absolute_relative_error"),
        *("delta_1", "delta_2", "delta_3", "targets"),
    ),
}
MAIN_METRICS = {kind: names[0] for kind, names in METRICS.items()}


def metric_name(tasks, task, metric, prefix=""):
    """Returns what a metric of a task is called: with the task's name where there are several.

    Args:
        tasks: all tasks of the network or set.
        task: `Task`, one of them.
        metric: `str`, such as `"mean_iou"`.
        prefix: `"auxiliary_"` or `"joint_"` for other predictions of a joint network.

    Example:
        >>> metric_name([surface, height], surface, "mean_iou", "joint_")
        'joint_surface_mean_iou'
    """
    return f"{prefix}{task.name}_{metric}" if len(tasks) > 1 else f"{prefix}{metric}"


def is_error(name):
    """Returns whether a metric is better the lower it is."""
    return name.endswith(("error", "loss"))


def is_share(name):
    """Returns whether a metric is a share, told in per cent."""
    return name.endswith(("accuracy", "iou", "iou_of_classes", "delta_1", "delta_2", "delta_3"))


def in_words(name):
    """Returns a metric's name as people read it, such as `"mean IoU"`."""
    return name.replace("_", " ").replace("iou", "IoU")


def as_text(name, value):
    """Returns a metric's value as text: a share in per cent, anything else with four digits."""
    return f"{100 * value:.2f} %" if is_share(name) else f"{value:,.4g}"


def is_main(name):
    """Returns whether a metric is the main one of its task, of whichever prediction of a network."""
    return name.endswith(tuple(MAIN_METRICS.values())) and not name.endswith("pixel_accuracy")


def main_figures(scores):
    """Yields `(name, text)` of every main metric among scores."""
    for name, value in scores.items():
        if is_main(name):
            yield name, as_text(name, value)
