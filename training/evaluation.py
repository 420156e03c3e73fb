"""Accuracy of Keras networks on a set of images."""

import numpy as np
import tensorflow as tf

from auxzoo.metrics import Accuracy

from ..models.description import describe
from .objective import predictions


def evaluate(network, images, description=None, batch_size=250):
    """Measures a compact or joint network on images.

    Args:
        network: functional Keras model with logits, or a joint network.
        images: `ImageSet`.
        description: `Description` with the preprocessing, for a network that carries none.
        batch_size: `int`.

    Returns:
        `dict`: `images` (how many) and `accuracy` (0 to 1); for a joint network, `auxiliary_accuracy` and
        `joint_accuracy` as well.

    Example:
        >>> evaluate(auxzoo.load("resnet18_025_cifar10"), auxzoo.data.open_images("tfds:cifar10", "test"))
        {'images': 10000, 'accuracy': ...}
    """
    preprocessing = (description or describe(network)).preprocessing
    predict = tf.function(lambda batch: network(batch, training=False), reduce_retracing=True)
    accuracies = {}
    for batch, classes in images.batches(preprocessing, batch_size):
        for name, logits in predictions(predict(batch)).items():
            accuracies.setdefault(name, Accuracy()).update(np.asarray(logits), classes.numpy())
    return {"images": images.size} | {name: accuracy.result() for name, accuracy in accuracies.items()}
