"""The moving average of the weights, with batch-norm statistics that belong to it."""

import keras
import numpy as np
import tensorflow as tf

# Training images that the statistics are taken from, in whole batches.
STATISTICS_IMAGES = 2048


class AveragedWeights(keras.callbacks.Callback):
    """Puts the averaged weights into the network for validation, for the end of each epoch, and for good in the end.

    The optimiser averages trainable weights only (`use_ema`). The moving statistics of batch-norm belong to the
    weights of the last steps, with which averaged weights may predict no better than chance as long as the
    learning rate is high; so they are measured anew, on training batches. Keras' `SwapEMAWeights` does not do
    that, swaps by sums and differences, which rounds and so changes the training, and swaps back before other callbacks
    (`ModelCheckpoint`, `EarlyStopping`) see the weights that were validated.

    It must stand before the callbacks that shall see the averaged weights. The weights of the training are put
    back, bit for bit, by `put_back` or at the beginning of the next epoch.

    Args:
        network: functional Keras model that is trained.
        batches: `tf.data.Dataset` or list of the training batches that the statistics are measured on.
        every_epoch: whether callbacks after this one want the average at the end of epochs without validation too,
            which costs a pass over `batches` each.
    """

    def __init__(self, network, batches, every_epoch=True):
        super().__init__()
        self.every_epoch = every_epoch
        self.network = network
        self.batches = batches
        self._own_values = None  # of all variables, while the average is in their place
        self._normalizations = [
            layer
            for layer in network._flatten_layers(include_self=False)
            if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
        ]
        self._forward = tf.function(lambda images: network(images, training=True), reduce_retracing=True)

    def put_in(self):
        """Replaces the network's weights by their average, and batch-norm's statistics by what that average gives."""
        if self._own_values is not None:
            return
        self._own_values = [variable.numpy() for variable in self.network.variables]
        optimizer, own = self.model.optimizer, {id(variable) for variable in self.network.variables}
        pairs = zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True)
        for variable, average in pairs:
            if id(variable) in own:  # learned weights of tasks are not the network's
                variable.assign(average)
        if self._normalizations:
            self._measure_statistics()

    def put_back(self):
        """Gives the network the weights of the training again."""
        if self._own_values is not None:
            for variable, value in zip(self.network.variables, self._own_values, strict=True):
                variable.assign(value)
            self._own_values = None

    def on_epoch_begin(self, epoch, logs=None):
        """Trains on with the weights of the training."""
        self.put_back()

    def on_test_begin(self, logs=None):
        """Validates the average."""
        self.put_in()

    def on_epoch_end(self, epoch, logs=None):
        """Lets the callbacks after this one see the average."""
        if self.every_epoch:
            self.put_in()

    def on_train_end(self, logs=None):
        """Keeps the average."""
        self.put_in()
        self._own_values = None

    def _measure_statistics(self):
        """Sets mean and variance of every batch-norm to their mean over the batches."""
        statistics = [
            variable for layer in self._normalizations for variable in (layer.moving_mean, layer.moving_variance)
        ]
        others = [
            (variable, variable.numpy())  # seeds of Dropout move in a forward pass
            for variable in self.network.non_trainable_variables
            if not any(variable is statistic for statistic in statistics)
        ]
        momenta = [layer.momentum for layer in self._normalizations]
        sums, count = [np.zeros(variable.shape) for variable in statistics], 0
        try:
            for layer in self._normalizations:
                layer.momentum = 0.0  # the moving statistics are those of the last batch alone
            for images, _ in self.batches:
                self._forward(images)
                sums = [total + variable.numpy() for total, variable in zip(sums, statistics, strict=True)]
                count += 1
        finally:
            for layer, momentum in zip(self._normalizations, momenta, strict=True):
                layer.momentum = momentum
        for variable, total in zip(statistics, sums, strict=True):
            variable.assign(total / count)
        for variable, value in others:
            variable.assign(value)
