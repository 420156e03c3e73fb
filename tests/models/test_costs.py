"""Costs, counted by hand for one layer of each kind."""

import keras
import pytest

import auxzoo
from auxzoo import models

# layer, multiplications for an input of 8x6x4, worked out by hand
LAYERS = [
    (keras.layers.Conv2D(5, 3, padding="same"), 8 * 6 * 3 * 3 * 4 * 5),
    (keras.layers.Conv2D(5, 3, strides=2, padding="same"), 4 * 3 * 3 * 3 * 4 * 5),
    (keras.layers.Conv2D(6, 3, padding="valid", groups=2), 6 * 4 * 3 * 3 * 2 * 6),
    (keras.layers.Conv2D(5, 3, padding="same", dilation_rate=2), 8 * 6 * 3 * 3 * 4 * 5),
    (keras.layers.DepthwiseConv2D(3, padding="same"), 8 * 6 * 3 * 3 * 4),
    (keras.layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2), 8 * 6 * 3 * 3 * 4 * 2),
    (keras.layers.SeparableConv2D(5, 3, padding="same"), 8 * 6 * (3 * 3 * 4 + 4 * 5)),
    (keras.layers.Conv2DTranspose(5, 3, strides=2, padding="same"), 8 * 6 * 3 * 3 * 4 * 5),
    (keras.layers.Dense(7), 8 * 6 * 4 * 7),
    (keras.layers.BatchNormalization(), 0),
    (keras.layers.AveragePooling2D(2), 0),
    (keras.layers.GlobalAveragePooling2D(), 0),
    (keras.layers.UpSampling2D(2), 0),
    (keras.layers.ReLU(), 0),
    (keras.layers.PReLU(), None),
]


@pytest.mark.parametrize(("layer", "macs"), LAYERS, ids=lambda value: getattr(value, "name", None))
def test_multiplications_of_one_layer(layer, macs):
    inputs = keras.Input((8, 6, 4))
    costs = models.measure_costs(keras.Model(inputs, layer(inputs)))
    assert costs.rows[-1].macs == macs
    assert costs.macs == (macs or 0)
    assert costs.uncounted == ((layer.name,) if macs is None else ())


def test_activation_memory_frees_what_nobody_reads_any_more():
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Conv2D(8, 1)(inputs)  # 16 numbers in, 128 out
    x = keras.layers.BatchNormalization()(x)  # in place
    x = keras.layers.Conv2D(2, 1)(x)  # 128 in, 32 out: the most at one time
    x = keras.layers.Conv2D(1, 1)(x)
    assert models.measure_costs(keras.Model(inputs, x)).activation_bytes == (128 + 32) * 4


def test_activation_memory_keeps_a_shortcut():
    inputs = keras.Input((4, 4, 4))
    x = keras.layers.Conv2D(4, 1)(inputs)
    x = keras.layers.Conv2D(4, 1)(x)
    x = keras.layers.Add()([inputs, x])
    # The last convolution reads 64 numbers and writes 64, and the sum still waits for the input's 64.
    assert models.measure_costs(keras.Model(inputs, x)).activation_bytes == 3 * 64 * 4


def test_activation_memory_in_place_only_for_the_sole_reader():
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Conv2D(4, 1)(inputs)
    y = keras.layers.ReLU()(x)  # must not overwrite what the sum reads
    x = keras.layers.Add()([x, y])
    assert models.measure_costs(keras.Model(inputs, x)).activation_bytes == 3 * 64 * 4


def test_activation_memory_keeps_an_output_that_is_read_too():
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Conv2D(4, 1)(inputs)
    y = keras.layers.ReLU()(x)
    assert models.measure_costs(keras.Model(inputs, [x, y])).activation_bytes == 2 * 64 * 4


def test_a_shared_layer_counts_once_for_every_call():
    inputs = keras.Input((8, 6, 4))
    shared = keras.layers.Conv2D(4, 3, padding="same", name="shared")
    x = keras.layers.AveragePooling2D(2)(shared(inputs))
    costs = models.measure_costs(keras.Model(inputs, shared(x)))
    assert costs.macs == (8 * 6 + 4 * 3) * 3 * 3 * 4 * 4
    assert costs.parameters == 3 * 3 * 4 * 4 + 4
    (row,) = [row for row in costs.rows if row.name == "shared"]
    assert row.output_shape == (8, 6, 4)


def test_calls_in_another_model_count_nothing():
    inputs = keras.Input((8, 6, 4))
    layer = keras.layers.Conv2D(4, 3, padding="same")
    layer(keras.Input((64, 64, 4)))  # the first call, which `layer.output` tells of
    costs = models.measure_costs(keras.Model(inputs, layer(inputs)))
    assert costs.macs == 8 * 6 * 3 * 3 * 4 * 4
    assert costs.rows[-1].output_shape == (8, 6, 4)
    assert costs.activation_bytes == 2 * 8 * 6 * 4 * 4


def test_a_layer_of_several_outputs():
    inputs = keras.Input((5, 4))
    output, state = keras.layers.GRU(3, return_state=True, name="recurrent")(inputs)
    costs = models.measure_costs(keras.Model(inputs, [output, state]))
    assert costs.rows[-1].output_shape == (3,)
    assert costs.uncounted == ("recurrent",)


def test_operations_that_are_no_layers():
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Conv2D(4, 1)(inputs)
    assert models.measure_costs(keras.Model(inputs, x * 2)).activation_bytes == 2 * 64 * 4


@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_a_model_inside_a_model_counts_with_its_multiplications(kind):
    inner_inputs, layer = keras.Input((8, 6, 4)), keras.layers.Conv2D(5, 3, padding="same")
    if kind == "functional":
        inner = keras.Model(inner_inputs, layer(inner_inputs))
    else:
        inner = keras.Sequential([inner_inputs, layer])
    assert models.measure_costs(inner).macs == 8 * 6 * 3 * 3 * 4 * 5
    inputs = keras.Input((8, 6, 4))
    costs = models.measure_costs(keras.Model(inputs, inner(inputs)))
    assert costs.macs == 8 * 6 * 3 * 3 * 4 * 5
    assert costs.uncounted == ()


@pytest.mark.parametrize("layer", [keras.layers.Conv2D, keras.layers.Conv2DTranspose])
def test_the_order_of_axes_does_not_matter(layer):
    macs = set()
    for order, shape in (("channels_last", (8, 6, 3)), ("channels_first", (3, 8, 6))):
        inputs = keras.Input(shape)
        macs.add(models.measure_costs(keras.Model(inputs, layer(5, 3, padding="same", data_format=order)(inputs))).macs)
    assert macs == {8 * 6 * 3 * 3 * 3 * 5}


def test_an_open_size_is_uncounted():
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, name="open")(inputs)
    x = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))
    costs = models.measure_costs(keras.Model(inputs, x))
    assert costs.uncounted == ("open",)
    assert costs.macs == 4 * 2


def test_no_functional_model_is_refused():
    for model in (keras.Sequential(name="unbuilt"), "resnet18"):
        with pytest.raises(auxzoo.UserError, match="`model` must be a functional keras.Model. Received: "):
            models.measure_costs(model)
