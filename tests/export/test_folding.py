"""Batch normalisation folded into the convolution before it: equal outputs, and no folding where it would be wrong."""

import operator

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers

from auxzoo.export.folding import fold_batch_normalization

KINDS = {
    "convolution": lambda bias: layers.Conv2D(6, 3, use_bias=bias),
    "strided": lambda bias: layers.Conv2D(6, 3, strides=2, padding="same", use_bias=bias),
    "dilated": lambda bias: layers.Conv2D(6, 3, dilation_rate=2, use_bias=bias),
    "grouped": lambda bias: layers.Conv2D(6, 3, groups=2, use_bias=bias),
    "depthwise": lambda bias: layers.DepthwiseConv2D(3, use_bias=bias),
    "depthwise_dilated": lambda bias: layers.DepthwiseConv2D(3, dilation_rate=2, padding="same", use_bias=bias),
    "depthwise_multiplied": lambda bias: layers.DepthwiseConv2D(3, depth_multiplier=3, use_bias=bias),
    "separable": lambda bias: layers.SeparableConv2D(6, 3, use_bias=bias),
    "separable_multiplied": lambda bias: layers.SeparableConv2D(6, 3, depth_multiplier=2, use_bias=bias),
    "dense": lambda bias: layers.Dense(6, use_bias=bias),
}


def batch_normalizations(model):
    return [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]


def network_of(body, size=(9, 11, 4), name=None):
    inputs = keras.Input(size, name=name)
    return keras.Model(inputs, body(inputs))


def check_folding(network, make_random, left=0, seed=0):
    """Compares a network of random weights with its folded copy; returns the copy."""
    make_random(network, seed)
    folded = fold_batch_normalization(network)
    assert len(batch_normalizations(folded)) == left
    images = np.random.default_rng(seed).normal(size=(3, *network.input_shape[1:])).astype("float32")
    expected = network(images).numpy()
    assert np.std(expected) > 1e-3, "the comparison would see nothing"
    np.testing.assert_allclose(folded(images), expected, atol=2e-6 * max(1, np.abs(expected).max()), rtol=1e-5)
    return folded


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_folded_network_has_equal_outputs(kind, bias, make_random):
    network = network_of(lambda x: layers.ReLU()(layers.BatchNormalization()(KINDS[kind](bias)(x))))
    folded = check_folding(network, make_random)
    (layer,) = [layer for layer in folded.layers if layer.weights]
    assert layer.use_bias
    assert type(layer) is type(network.layers[1])


@settings(derandomize=True, deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.sampled_from(list(KINDS)), st.booleans(), st.booleans(), st.booleans(), st.booleans()),
        min_size=1,
        max_size=3,
    ),
    st.integers(0, 100),
)
def test_any_chain_of_layers_has_equal_outputs(make_random, chain, seed):
    expected_left = sum(has_activation for *_, has_activation in chain)

    def body(x):
        for kind, bias, scale, center, has_activation in chain:
            layer = KINDS[kind](bias)
            if has_activation:
                layer.activation = keras.activations.relu
            x = layers.BatchNormalization(scale=scale, center=center, epsilon=0.01)(layer(x))
        return x

    check_folding(network_of(body, (19, 17, 4)), make_random, expected_left, seed)


@pytest.mark.parametrize(("scale", "center"), [(False, True), (True, False), (False, False)])
@pytest.mark.parametrize("kind", ["convolution", "depthwise_multiplied", "separable"])
def test_batch_norm_without_scale_or_shift(kind, scale, center, make_random):
    normalization = layers.BatchNormalization(scale=scale, center=center)
    check_folding(network_of(lambda x: normalization(KINDS[kind](False)(x))), make_random)


def test_activation_between_is_not_folded_over(make_random):
    body = lambda x: layers.BatchNormalization()(layers.Conv2D(6, 3, activation="relu")(x))  # noqa: E731  (a graph a line)
    check_folding(network_of(body), make_random, left=1)


@pytest.mark.parametrize("is_nested", [False, True])
@pytest.mark.parametrize(
    "join",
    [lambda one, two: layers.Add()([one, two]), operator.add, lambda one, two: one + keras.ops.relu(two)],
    ids=["layer", "bare operation", "of another"],
)
def test_convolution_with_two_readers_is_not_folded(make_random, join, is_nested):
    def body(x):
        x = layers.Conv2D(6, 3)(x)
        return join(layers.BatchNormalization()(x), x)

    network = network_of(lambda x: network_of(body)(x)) if is_nested else network_of(body)
    check_folding(network, make_random, left=1)


def test_batch_norm_called_by_keyword(make_random):
    check_folding(network_of(lambda x: layers.BatchNormalization()(inputs=layers.Conv2D(6, 3)(x))), make_random)


def test_convolution_with_two_batch_norms_is_not_folded(make_random):
    def body(x):
        x = layers.Conv2D(6, 3)(x)
        return layers.Concatenate()([layers.BatchNormalization()(x), layers.BatchNormalization()(x)])

    check_folding(network_of(body), make_random, left=2)


def test_convolution_whose_output_is_shipped_is_not_folded(make_random):
    inputs = keras.Input((9, 11, 4))
    x = layers.Conv2D(6, 3, name="convolution")(inputs)
    layers.BatchNormalization()(x)
    network = make_random(keras.Model(inputs, x))
    folded = fold_batch_normalization(network)
    np.testing.assert_array_equal(folded.get_layer("convolution").kernel, network.get_layer("convolution").kernel)


def test_layers_called_twice_are_not_folded(make_random):
    convolution, normalization = layers.Conv2D(4, 3, padding="same"), layers.BatchNormalization()
    body = lambda x: normalization(convolution(normalization(convolution(x))))  # noqa: E731  (a graph a line)
    check_folding(network_of(body), make_random, left=1)


def test_batch_norm_over_another_axis_is_not_folded(make_random):
    body = lambda x: layers.BatchNormalization(axis=1)(layers.Conv2D(6, 3)(x))  # noqa: E731  (a graph a line)
    check_folding(network_of(body), make_random, left=1)


def test_batch_norm_after_other_layers_stays(make_random):
    def body(x):
        x = layers.BatchNormalization()(x)
        x = layers.BatchNormalization()(layers.MaxPooling2D()(x))
        return layers.BatchNormalization()(layers.Conv2DTranspose(5, 3)(x))

    check_folding(network_of(body), make_random, left=3)


def test_batch_norm_before_a_convolution_stays(make_random):
    """Pre-activation blocks: only the batch-norm after a convolution is folded."""
    body = lambda x: layers.BatchNormalization()(  # noqa: E731  (a graph a line)
        layers.Conv2D(6, 3, padding="same")(layers.ReLU()(layers.BatchNormalization()(x)))
    )
    check_folding(network_of(body), make_random, left=1)


def test_the_network_itself_is_untouched(make_random):
    network = network_of(lambda x: layers.BatchNormalization()(layers.Conv2D(6, 3, use_bias=False)(x)))
    make_random(network)
    weights = [weight.copy() for weight in network.get_weights()]
    folded = fold_batch_normalization(network)
    folded.set_weights([np.zeros_like(weight) for weight in folded.get_weights()])
    assert not network.layers[1].use_bias
    for before, after in zip(weights, network.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_names_stay(make_random):
    network = network_of(lambda x: layers.BatchNormalization(name="b")(layers.Conv2D(6, 3, name="a")(x)))
    folded = fold_batch_normalization(network)
    assert folded.name == network.name
    assert [layer.name for layer in folded.layers[1:]] == ["a"]


def test_input_of_any_name():
    """`keras.applications` build round a tensor; cloning renames the input there."""
    original = keras.applications.MobileNet((32, 32, 3), alpha=0.25, weights=None, classes=2)
    assert not batch_normalizations(fold_batch_normalization(original))


def test_adapted_normalization_keeps_its_statistics():
    normalization = layers.Normalization()
    images = np.random.default_rng(0).normal(5, 3, (20, 9, 11, 4)).astype("float32")
    normalization.adapt(images)
    network = network_of(lambda x: layers.BatchNormalization()(layers.Conv2D(6, 3)(normalization(x))))
    folded = fold_batch_normalization(network)
    np.testing.assert_allclose(folded(images), network(images), atol=1e-5)


def nest(x):
    return layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(x))


def trunk():
    """Two networks, the one inside the other, with an operation that is no layer."""
    inner = network_of(nest)
    return network_of(lambda x: keras.ops.relu(layers.DepthwiseConv2D(3, padding="same")(nest(inner(x)))))


def called_twice(x):
    network = network_of(nest)
    return network(network(x))


def of_the_same_names(x):
    one, other = (network_of(lambda x: layers.Conv2D(4, 3, padding="same", name="a")(x)) for _ in range(2))
    return other(one(x))


def of_two_inputs(x):
    one, two = keras.Input((9, 11, 4)), keras.Input((9, 11, 4))
    return keras.Model([one, two], nest(one) + layers.Conv2D(4, 1)(two))([x, keras.ops.relu(x)])


def of_two_outputs(x):
    inner = keras.Input((9, 11, 4))
    outputs = keras.Model(inner, {"b": nest(inner), "a": layers.Conv2D(4, 1)(inner)})(x)
    return outputs["a"] - 2 * outputs["b"]


def casting(x):
    """The inner network takes whole numbers, and is handed others."""
    inner = keras.Input((9, 11, 4), dtype="int32")
    return keras.Model(inner, layers.Conv2D(4, 3)(keras.ops.cast(inner, "float32")))(3 * x)


def shared(x):
    convolution = layers.Conv2D(4, 3, padding="same")
    return network_of(lambda x: layers.BatchNormalization()(convolution(x)))(convolution(x))


# What a network is built of -> how many networks stay layers, how many batch-norms stay.
NESTED = {
    "deep": (lambda x: layers.Conv2D(6, 3)(trunk()(x)), 0, 0),
    "sequential": (
        lambda x: keras.Sequential([keras.Input((9, 11, 4)), layers.Conv2D(4, 3), layers.BatchNormalization()])(x),
        0,
        0,
    ),
    "batch-norm outside": (
        lambda x: layers.BatchNormalization()(network_of(lambda x: layers.Conv2D(5, 3)(x))(x)),
        0,
        0,
    ),
    "called by keyword": (lambda x: network_of(nest)(inputs=x, training=False), 0, 0),
    "called twice": (called_twice, 0, 2),
    "called like the input": (lambda x: network_of(lambda x: layers.Conv2D(4, 3, name="image")(x))(x), 1, 0),
    "of two inputs": (of_two_inputs, 1, 0),
    "of two outputs": (of_two_outputs, 0, 0),
    "casting": (casting, 1, 0),
    "a layer inside and outside": (shared, 0, 1),
    "of the same names": (of_the_same_names, 2, 0),
}


@pytest.mark.parametrize("name", NESTED)
def test_networks_that_are_layers_give_way_to_their_own(name, make_random):
    build, networks, normalizations = NESTED[name]
    network = make_random(network_of(build, name="image"))
    images = np.random.default_rng(0).normal(size=(2, 9, 11, 4)).astype("float32")
    before = network.get_weights()
    folded = fold_batch_normalization(network)
    np.testing.assert_allclose(folded(images), network(images), atol=1e-5)
    assert sum(isinstance(layer, keras.Model) for layer in folded.layers) == networks
    assert sum(len(layer._inbound_nodes) for layer in batch_normalizations(folded)) == normalizations
    for value, expected in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(value, expected)


def test_a_trunk_of_keras_applications_becomes_the_file_of_one_built_in_one_piece():
    """The usual way of fine-tuning in Keras."""
    trunk = keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, include_top=False, weights=None)
    image = keras.Input((96, 96, 3))
    folded = fold_batch_normalization(keras.Model(image, layers.Dense(3)(trunk(image, training=False)[:, 0, 0])))
    assert not batch_normalizations(folded)
    assert "block_3_depthwise" in [layer.name for layer in folded.layers]
