"""Scores of Keras networks on a whole set of images."""

import tensorflow as tf

from auxzoo.scores import Scores

from ..models.description import describe
from .outputs import fitting_images, measured_outputs


def evaluate(network, images, description=None, batch_size=250, details=False):
    """Measures a compact or joint network on images.

    Args:
        network: functional Keras model with logits or probabilities, or numbers at every pixel; or a joint network.
        images: `ImageSet` with truth for every task of the network.
        description: `Description` with the preprocessing, for a network that carries none.
        batch_size: `int`; 16 at most for dense tasks.
        details: as of `auxzoo.scores.Scores`; of the compact network alone.

    Returns:
        `dict`: `images` (how many), and what `auxzoo.scores.Scores` gives: `accuracy` of a classification, `mean_iou`
        and others of a segmentation, `root_mean_squared_error` and others of a regression, `TASK_...` each where there
        are several; for a joint network also `auxiliary_...` (of the mean of the auxiliary's heads) and `joint_...` (of
        the mean of all heads).

    Raises:
        UserError: if the images lack the truth of a task, or their classes are others in number.

    Example:
        >>> evaluate(auxzoo.load("resnet18_025_cifar10"), auxzoo.data.open_images("tfds:cifar10", "test"))
        {'images': 10000, 'accuracy': ...}
    """
    preprocessing = (description or describe(network)).preprocessing
    images = fitting_images(network, images, "images")
    if any(task.is_dense for task in images.tasks):
        batch_size = min(batch_size, 16)
    predict = tf.function(lambda batch: network(batch, training=False), reduce_retracing=True)
    scores, first = {}, 0
    for batch, _ in images.batches(preprocessing, batch_size):
        for prefix, outputs in measured_outputs(predict(batch)).items():
            if prefix not in scores:
                scores[prefix] = Scores(images, preprocessing, details and not prefix)
            scores[prefix].update(outputs, first)
        first += len(batch)
    found = {"images": images.size}
    for prefix, of_prefix in scores.items():
        found |= of_prefix.result(prefix)
    return found
