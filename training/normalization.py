"""Batch-norm by TensorFlow's fused operation while a network trains: one pass where Keras makes many."""

import contextlib
import functools

import keras
import tensorflow as tf
from absl import logging

# Of the statistics that a network begins with, what may be left in those that it ends with.
_LEFT = 0.05


@contextlib.contextmanager
def fused_normalization(network):
    """Lets batch-norm layers train by `FusedBatchNormV3`; what they compute changes but for rounding.

    Keras composes a training batch-norm of some ten operations over all values, and as many gradients; on a processor
    that takes longer than the convolutions of a compact network. Layers that this operation cannot stand for (another
    axis than the last, masks, renormalisation, several devices) and those that are frozen compute as before.

    Args:
        network: Keras model, of any origin; its layers are as before when the block ends.

    Yields:
        The means of the batch as a list of `[channels]`, one for every call of a layer that was fused, but for those
        in a branch of `tf.cond` or the like. A NaN among the inputs is sure to be in them; it need not reach the loss,
        as `ReLU` after the operation may take it for 0.

    Example:
        >>> with fused_normalization(network):
        ...     outputs = network(images, training=True)
    """
    means, graph = [], tf.compat.v1.get_default_graph()
    layers = [
        layer
        for layer in network._flatten_layers()
        if type(layer) is keras.layers.BatchNormalization
        and layer.axis in (-1, 3)
        and not (layer.renorm or layer.synchronized)
    ]
    for layer in layers:
        layer.call = functools.partial(_fused_call, layer, means, graph)
    try:
        yield means
    finally:
        for layer in layers:
            del layer.call


def warn_of_slow_statistics(network, steps):
    """Warns where batch-norm of a training of so many steps keeps much of the statistics that it began with.

    Inference goes by them: a network that was trained well may then predict by chance.
    """
    momenta = [
        layer.momentum
        for layer in network._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    left = max(momenta, default=0) ** steps
    if left > _LEFT:
        logging.warning(
            "Batch-norm of momentum %g keeps %.0f %% of its first statistics over %d steps, and inference goes by "
            "them: set a lower momentum, or `ema_momentum` of the optimization, with which they are measured again.",
            *(max(momenta), 100 * left, steps),
        )


def _fused_call(layer, means, graph, inputs, training=None, mask=None):
    """Takes the place of `BatchNormalization.call`."""
    if not (training and layer.trainable) or mask is not None or len(inputs.shape) != 4 or inputs.dtype != tf.float32:
        return type(layer).call(layer, inputs, training=training, mask=mask)
    channels = inputs.shape[-1]
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=tf.convert_to_tensor(layer.gamma) if layer.scale else tf.ones(channels),
        offset=tf.convert_to_tensor(layer.beta) if layer.center else tf.zeros(channels),
        mean=tf.zeros(0),
        variance=tf.zeros(0),
        epsilon=layer.epsilon,
        is_training=True,
    )
    if tf.compat.v1.get_default_graph() is graph:  # a tensor of a branch is nothing outside it
        means.append(mean)
    # The operation's variance is that of a sample; Keras keeps that of the batch.
    count = tf.cast(tf.size(inputs) / channels, tf.float32)
    variance *= tf.maximum(count - 1, 1) / count
    for moving, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        moving.assign(moving * layer.momentum + value * (1 - layer.momentum))
    return outputs
