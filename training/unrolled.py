"""The gradient of the gates: what the compact network's validation loss, one step of the weights later, owes to them.

At fixed weights the compact network does not depend on the gates: links run from it to the auxiliary and never back, so
its loss has a gradient of exactly zero. With `w' = w - lr * dL_train(w, a)/dw` it depends on them through the step:

    dL_val(w')/da = -lr * d/da < dL_train(w, a)/dw, v >,  v = dL_val(w')/dw'

(with rates of their own for some weights, the products in `< , >` are multiplied by them)

(arXiv:1806.09055, equation 7, where it is taken by finite differences; here exactly, as the derivative of
`< dL_train/dw, v >`, reverse over reverse mode. Forward over reverse mode gives the same, but fails on
`tf.switch_case` in a graph.)

Some things are right in first derivatives and wrong in second ones. TensorFlow's moments and resizing: see
`exact_second_derivatives`. And `stop_gradient` on the teacher of a distillation: to the step of the weights the
teacher is a constant, but it depends on the gates. So the loss gets a function that cuts tensors off the inner tape
only.
"""

import contextlib
import types

import keras
import tensorflow as tf


def unrolled_gradient(
    weights, gates, train_loss, validation_loss, learning_rate, train_gradient=None, state=(), rates=None
):
    """Returns the gradient of the validation loss after one step of the weights with respect to the gates.

    The network must be under `exact_second_derivatives` when this is traced: some of TensorFlow's own are wrong.

    Args:
        weights: list of `keras.Variable`, those that the step moves.
        gates: list of `keras.Variable`.
        train_loss: function that runs the network and returns the loss, a scalar; its argument is a function that it
            must use where it would use `stop_gradient`.
        validation_loss: function without arguments: the loss of the compact network on other images. Neither changes a
            variable: moving averages and seeds are as they were.
        learning_rate: scalar, the size of the step `w' = w - learning_rate * gradient`.
        train_gradient: list of tensors, the gradient of `train_loss` by the weights where it is known already; an
            entry may be `None`.
        state: pairs `(variable, value)` that `train_loss` begins with, such as the seeds from before the pass that
            gave `train_gradient`, so that random gates are the same in both.
        rates: numbers, by which the learning rate of each of the weights is multiplied; 1 if `None`.

    Returns:
        list of tensors, of the shapes of `gates`; zeros where nothing depends on a gate.
    """
    if train_gradient is None:
        with tf.GradientTape() as tape, keras.StatelessScope(list(state)):
            loss = train_loss(keras.ops.stop_gradient)
        train_gradient = tape.gradient(loss, [weight.value for weight in weights])
    rates = [1.0] * len(weights) if rates is None else rates
    moving = [
        (weight, rate, gradient)
        for weight, rate, gradient in zip(weights, rates, train_gradient, strict=True)
        if gradient is not None
    ]
    moved = [weight.value - learning_rate * rate * tf.convert_to_tensor(gradient) for weight, rate, gradient in moving]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(moved)
        with keras.StatelessScope([(weight, value) for (weight, _, _), value in zip(moving, moved, strict=True)]):
            loss = validation_loss()
    directions = tape.gradient(loss, moved)
    # Weights of the auxiliary do not reach the compact network: nothing is to be followed along them.
    reached = [
        (weight, rate * direction)
        for (weight, rate, _), direction in zip(moving, directions, strict=True)
        if direction is not None
    ]
    if not reached:
        return [tf.zeros(gate.shape, gate.dtype) for gate in gates]
    values = [tf.identity(weight.value) for weight, _ in reached]
    gate_values = [tf.identity(gate.value) for gate in gates]
    with tf.GradientTape(watch_accessed_variables=False) as outer:
        outer.watch(gate_values)
        with tf.GradientTape(watch_accessed_variables=False) as inner:
            inner.watch(values)
            substitutes = [(weight, value) for (weight, _), value in zip(reached, values, strict=True)]
            with keras.StatelessScope([*state, *substitutes, *zip(gates, gate_values, strict=True)]):
                loss = train_loss(lambda tensor: _identity_off(inner, tensor))
        agreements = [
            tf.reduce_sum(gradient * direction)
            for gradient, (_, direction) in zip(inner.gradient(loss, values), reached, strict=True)
            if gradient is not None
        ]
        agreement = tf.add_n(agreements)
    products = outer.gradient(agreement, gate_values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return [-learning_rate * product for product in products]


def _identity_off(tape, tensor):
    """Returns the tensor, which is a constant to this tape; not to those round it."""
    with tape.stop_recording():
        return tf.identity(tensor)


@contextlib.contextmanager
def exact_second_derivatives(network):
    """Lets layers of a network compute in a way whose second derivatives are right; values change but for rounding.

    Of batch-norm: `tf.nn.moments`, which Keras calls, stops the gradient of the mean inside the variance: the first
    derivative is right all the same, the second is not. Of bilinear resizing, in the heads of tasks at every pixel:
    TensorFlow takes the gradient of `ResizeBilinear` for a constant, so nothing behind it would reach the gates.

    Args:
        network: Keras model, of any origin; its layers are as before when the block ends.
    """
    layers = list(network._flatten_layers())
    normalizations = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    resizings = [
        layer
        for layer in layers
        # Cutting to an aspect, as for photographs, stands in no head.
        if isinstance(layer, keras.layers.Resizing | keras.layers.UpSampling2D)
        and layer.interpolation == "bilinear"
        and not getattr(layer, "antialias", False)
    ]
    for layer in normalizations:
        layer._moments = types.MethodType(_exact_moments, layer)
    for layer in resizings:
        layer.call = types.MethodType(_exact_resizing, layer)
    try:
        yield
    finally:
        for layer in normalizations:
            del layer._moments
        for layer in resizings:
            del layer.call


def _exact_moments(layer, inputs, mask):
    """Takes the place of `BatchNormalization._moments`."""
    if mask is not None:
        return type(layer)._moments(layer, inputs, mask)
    mean = keras.ops.mean(inputs, axis=layer._reduction_axes, keepdims=True)
    variance = keras.ops.mean(keras.ops.square(inputs - mean), axis=layer._reduction_axes)
    return keras.ops.squeeze(mean, axis=layer._reduction_axes), variance


def _exact_resizing(layer, data, training=True):
    """Takes the place of `call` of `Resizing` and `UpSampling2D`: products with the interpolation's two matrices."""
    rows, columns = (
        # What becomes of the rows of the identity are the weights of every new row.
        tf.cast(tf.image.resize(tf.eye(old)[None, :, :, None], (new, old))[0, :, :, 0], data.dtype)
        for old, new in zip(data.shape[1:3], layer.compute_output_shape(data.shape)[1:3], strict=True)
    )
    return tf.einsum("nh,bhwc,mw->bnmc", rows, data, columns)
