"""Costs, counted by hand for one layer of each kind."""

import keras
import pytest

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
