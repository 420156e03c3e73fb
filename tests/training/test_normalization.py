"""Batch-norm by the fused operation: what Keras computes, but for rounding."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from auxzoo.training.normalization import fused_normalization, warn_of_slow_statistics

LAYERS = {
    "as usual": {},
    "small epsilon": {"epsilon": 1e-5, "momentum": 0.9},
    "no scale": {"scale": False},
    "no offset": {"center": False},
    "neither": {"scale": False, "center": False},
    "channels first": {"axis": 1},
    "renormalised": {"renorm": True},
    "double precision": {"dtype": "float64"},
    "half precision": {"dtype": "mixed_float16"},
}


def built(name):
    """Returns a network of one batch-norm whose weights and statistics are no longer what they began with."""
    network = keras.Sequential([keras.Input((4, 5, 3)), keras.layers.BatchNormalization(**LAYERS[name])])
    generator = np.random.default_rng(0)
    for variable in network.variables:
        if np.issubdtype(variable.numpy().dtype, np.floating):
            variable.assign(generator.uniform(0.5, 2, variable.shape))
    return network


def trained(network, images, is_fused):
    """Returns outputs and gradients of a step, and the statistics after it."""
    weights = [variable.value for variable in network.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(images)
        if is_fused:
            with fused_normalization(network):
                outputs = network(images, training=True)
        else:
            outputs = network(images, training=True)
        loss = tf.reduce_sum(tf.sin(tf.cast(outputs, tf.float64)))
    return [outputs, *tape.gradient(loss, [images, *weights]), *(v.value for v in network.non_trainable_variables)]


class TestFusedNormalization:
    @pytest.mark.parametrize("count", [1, 7])
    @pytest.mark.parametrize("name", LAYERS)
    def test_trains_as_keras_does(self, name, count):
        images = tf.constant(np.random.default_rng(1).normal(3, 2, (count, 4, 5, 3)), tf.float32)
        expected, found = (trained(built(name), images, is_fused) for is_fused in (False, True))
        for one, other in zip(expected, found, strict=True):
            tolerance = 2e-3 if one.dtype == tf.float16 else 1e-4
            np.testing.assert_allclose(other, one, rtol=tolerance, atol=tolerance)

    def test_it_is_fused(self):
        network = built("as usual")

        @tf.function
        def step(images):
            with fused_normalization(network):
                return network(images, training=True)

        operations = {
            operation.type for operation in step.get_concrete_function(tf.zeros((2, 4, 5, 3))).graph.get_operations()
        }
        assert "FusedBatchNormV3" in operations
        assert "SquaredDifference" not in operations

    @pytest.mark.parametrize("is_trained", [True, False])
    def test_inference_and_frozen_layers_use_the_kept_statistics(self, is_trained):
        network = built("as usual")
        network.layers[0].trainable = not is_trained
        before = [variable.numpy() for variable in network.variables]
        images = tf.random.stateless_normal((2, 4, 5, 3), (0, 0))
        expected = network(images, training=False)
        with fused_normalization(network):
            found = network(images, training=is_trained)
        np.testing.assert_array_equal(found, expected)
        for old, new in zip(before, network.variables, strict=True):
            np.testing.assert_array_equal(new, old)

    def test_layers_are_as_before_when_it_ends(self):
        network = built("as usual")
        with pytest.raises(RuntimeError, match="in the middle"), fused_normalization(network):
            raise RuntimeError("in the middle")
        assert "call" not in vars(network.layers[0])

    def test_a_layer_in_a_branch_trains_as_keras_does(self):
        """As in an `OperationChoice` of a super-network."""

        class Branch(keras.layers.Layer):
            def __init__(self):
                super().__init__()
                self.normalization = keras.layers.BatchNormalization()

            def call(self, inputs, training=None):
                branches = [lambda: inputs, lambda: self.normalization(inputs, training=training)]
                return keras.ops.switch(keras.ops.cast(keras.ops.sum(inputs) > 0, "int32"), branches)

        network = keras.Sequential([keras.Input((4, 5, 3)), keras.layers.BatchNormalization(), Branch()])
        before = network.get_weights()

        @tf.function
        def step(images):
            with fused_normalization(network) as means:
                outputs = network(images, training=True)
            return outputs, sum(tf.reduce_sum(mean) for mean in means)

        images = tf.random.stateless_uniform((7, 4, 5, 3), (0, 0))
        offset = tf.constant([1.0, 2.0, 3.0])
        network.layers[0].beta.assign(offset)
        found, means = step(images)
        found = [found, *network.get_weights()]
        network.set_weights(before)
        network.layers[0].beta.assign(offset)
        for one, other in zip(found, [network(images, training=True), *network.get_weights()], strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
        assert not np.allclose(network.layers[1].normalization.moving_mean, 0)
        np.testing.assert_allclose(means, np.mean(images, axis=(0, 1, 2)).sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("momentum", "steps", "told"), [(0.999, 600, "keeps 55 %"), (0.99, 600, ""), (0.999, 3000, "")]
)
def test_statistics_that_are_mostly_those_of_the_beginning_are_told(caplog, momentum, steps, told):
    inputs = keras.Input((4, 4, 3))
    inner = keras.Sequential([keras.Input((4, 4, 3)), keras.layers.BatchNormalization(momentum=momentum)])
    network = keras.Model(inputs, inner(inputs))
    warn_of_slow_statistics(network, steps)
    assert told in caplog.text
    assert bool(told) == bool(caplog.text)
    caplog.clear()
    inner.trainable = False
    warn_of_slow_statistics(network, 1)
    assert caplog.text == ""
