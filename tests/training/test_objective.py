"""The losses and the optimiser, against values worked out in numpy."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import auxzoo
from auxzoo import models
from auxzoo.data import ImageSet
from auxzoo.training import Objective, Optimization
from auxzoo.training.step_cost import seconds_per_step

LABELS = np.array([0, 2, 1])
COMPACT = np.array([[2.0, 0.0, -1.0], [0.5, 0.2, 0.1], [0.0, 1.0, 0.0]], "float32")
AUXILIARY = np.array([[1.0, 0.5, 0.0], [0.0, 0.0, 3.0], [2.0, 1.0, 0.0]], "float32")
JOINT = {"compact": tf.constant(COMPACT), "auxiliary": tf.constant(AUXILIARY)}


def softmax(logits):
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    return exponentials / exponentials.sum(1, keepdims=True)


def cross_entropy(logits, smoothing):
    targets = np.eye(3)[LABELS] * (1 - smoothing) + smoothing / 3
    return -(targets * np.log(softmax(logits))).sum(1).mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_plain_loss_is_the_smoothed_cross_entropy(smoothing):
    losses = Objective(label_smoothing=smoothing).losses(LABELS, tf.constant(COMPACT), 0.5)
    assert set(losses) == {"loss"}
    assert float(losses["loss"]) == pytest.approx(cross_entropy(COMPACT, smoothing), rel=1e-5)


def test_joint_loss_is_the_weighted_sum_of_its_terms():
    objective = Objective(auxiliary_weight=0.4, distillation_weight=0.7, distillation_temperature=3.0)
    losses = {name: float(value) for name, value in objective.losses(LABELS, JOINT, 0.0).items()}
    teacher, student = softmax((COMPACT + AUXILIARY) / 6), softmax(COMPACT / 3)
    divergence = 9 * (teacher * np.log(teacher / student)).sum(1).mean()
    assert losses["compact_loss"] == pytest.approx(cross_entropy(COMPACT, 0.1), rel=1e-5)
    assert losses["auxiliary_loss"] == pytest.approx(cross_entropy(AUXILIARY, 0.1), rel=1e-5)
    assert losses["distillation_loss"] == pytest.approx(divergence, rel=1e-4)
    expected = losses["compact_loss"] + 0.4 * losses["auxiliary_loss"] + 0.7 * losses["distillation_loss"]
    assert losses["loss"] == pytest.approx(expected, rel=1e-5)


def test_without_distillation_there_is_no_such_term():
    assert "distillation_loss" not in Objective(distillation_weight=0).losses(LABELS, JOINT, 0.0)


def test_distillation_teaches_the_compact_head_only():
    auxiliary = tf.Variable(AUXILIARY)
    compact = tf.Variable(COMPACT)
    objective = Objective(auxiliary_weight=0.0)
    with tf.GradientTape() as tape:
        terms = objective.losses(LABELS, {"compact": compact, "auxiliary": auxiliary}, 0.0)
    gradients = tape.gradient(terms["distillation_loss"], [compact, auxiliary])
    assert float(tf.norm(gradients[0])) > 0.01
    assert gradients[1] is None


@pytest.mark.parametrize(
    ("schedule", "weights"),
    [("constant", (2, 2, 2, 2)), ("warm_up", (0, 1, 2, 2)), ("decay_to_zero", (2, 1.5, 1, 0))],
)
def test_schedules_of_the_auxiliary_weight(schedule, weights):
    objective = Objective(auxiliary_weight=2.0, auxiliary_schedule=schedule, auxiliary_warm_up=0.5)
    received = [float(objective.auxiliary_weight_at(tf.constant(progress))) for progress in (0.0, 0.25, 0.5, 1.0)]
    assert received == pytest.approx(weights)


@pytest.mark.parametrize(
    "settings",
    [
        {"label_smoothing": 1.0},
        {"auxiliary_weight": -1},
        {"distillation_temperature": 0},
        {"auxiliary_schedule": "rising"},
        {"loss_weight": 1},
    ],
)
def test_wrong_settings_are_named(settings):
    (name,) = settings
    with pytest.raises(auxzoo.UserError, match=rf"`{name}`: .*Received: {settings[name]!r}"):
        Objective.parse(settings, "The objective")


class TestOptimization:
    def network(self):
        inputs = keras.Input((4,))
        x = keras.layers.Dense(3, name="hidden", bias_initializer="ones")(inputs)
        x = keras.layers.BatchNormalization()(x)
        return keras.Model(inputs, x)

    def test_weight_decay_moves_kernels_only(self):
        network = self.network()
        before = {weight.path: weight.numpy().copy() for weight in network.trainable_weights}
        optimizer = Optimization(schedule="constant", learning_rate=0.5, weight_decay=0.1).build(
            10, network.trainable_weights
        )
        optimizer.apply([tf.zeros(weight.shape) for weight in network.trainable_weights], network.trainable_weights)
        for weight in network.trainable_weights:
            factor = 1 - 0.5 * 0.1 if weight.name == "kernel" else 1
            np.testing.assert_allclose(weight.numpy(), factor * before[weight.path], rtol=1e-6)

    def test_learning_rate_rises_and_falls_to_zero(self):
        optimizer = Optimization(learning_rate=0.4, warm_up=0.25).build(100, [])
        rates = [float(optimizer._learning_rate(step)) for step in (0, 12, 25, 60, 100)]
        assert rates[0] < rates[1] < rates[2] == pytest.approx(0.4)
        assert rates[2] > rates[3] > rates[4] == pytest.approx(0.0, abs=1e-7)

    def test_gradient_is_clipped_as_a_whole(self):
        weight = keras.Variable(np.zeros(2, "float32"), name="kernel")
        optimizer = Optimization(
            schedule="constant", learning_rate=1.0, momentum=0, weight_decay=0, gradient_clip_norm=1.0
        ).build(1, [weight])
        optimizer.apply([tf.constant([30.0, 40.0])], [weight])
        np.testing.assert_allclose(weight.numpy(), [-0.6, -0.8], rtol=1e-5)

    @pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
    def test_each_optimizer_moves_the_weights(self, optimizer):
        weight = keras.Variable(np.ones(2, "float32"), name="bias")
        Optimization(optimizer=optimizer, schedule="constant").build(1, [weight]).apply([tf.ones(2)], [weight])
        assert (weight.numpy() < 1).all()

    def small(self):
        return auxzoo.models.ResNet18((8, 8, 3), 0.125, "small", num_classes=2)

    def several(self):
        """Returns a network with masks and numbers, and images with the truth of both."""
        tasks = [auxzoo.Task("surface", "segmentation", ("a", "b")), auxzoo.Task("height", "regression")]
        trunk = auxzoo.models.ResNet18((16, 16, 3), 0.125, "small_stride2", output_stride=8)
        pictures = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3)).astype("uint8")
        truth = {"surface": pictures.argmax(axis=-1) % 2, "height": pictures.mean(axis=-1)}
        return auxzoo.models.MultiTask(trunk, tasks, channels=8), ImageSet.from_targets(pictures, tasks, truth)

    @pytest.mark.parametrize("kind", ["classifier", "several tasks"])
    @pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
    def test_trunk_and_auxiliary_have_rates_of_their_own(self, optimizer, kind):
        network = self.small() if kind == "classifier" else self.several()[0]
        joint = auxzoo.attach(network, auxzoo.Structure.default(network))
        settings = Optimization(
            **{
                "optimizer": optimizer,
                "schedule": "constant",
                "learning_rate": 0.1,
                "momentum": 0,
                "weight_decay": 0.5,
            },
            **{"trunk_rate": 0.1, "auxiliary_rate": 0.0},
        )
        variables = joint.trainable_variables
        before = {variable.path: variable.numpy() for variable in variables}
        built = settings.build(1, variables, settings.rates(joint))
        built.apply([tf.ones(variable.shape) for variable in variables], variables)
        moved = {variable.path: np.abs(variable.numpy() - before[variable.path]) for variable in variables}
        trunk = [layer.name for layer in auxzoo.models.description.trunk_layers(network)]
        for path, change in moved.items():
            layer = path.split("/")[0]
            rate = 0.0 if layer.startswith("auxiliary_") else 0.1 if layer in trunk else 1.0
            decay = 0.5 * np.abs(before[path]) if path.endswith("kernel") else 0.0
            np.testing.assert_allclose(
                change, 0.1 * rate * np.abs(1 + np.sign(before[path]) * decay), rtol=1e-3, atol=1e-7
            )
        assert {path.split("/")[0] in trunk for path in moved} == {True, False}

    @pytest.mark.parametrize("is_joint", [False, True], ids=["alone", "with an auxiliary"])
    def test_frozen_batch_norm_of_several_tasks_stays_as_it_came(self, is_joint):
        network, images = self.several()
        trunk = auxzoo.models.description.trunk_layers(network)
        normalizations = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
        before = {layer.name: layer.get_weights() for layer in normalizations}
        trained = auxzoo.attach(network, auxzoo.Structure.default(network)) if is_joint else network
        optimization = Optimization(trunk_normalization="freeze", ema_momentum=0.5)
        auxzoo.fit(trained, images, epochs=1, batch_size=12, verbose=0, optimization=optimization, compilation="graph")
        for layer in normalizations:
            pairs = zip(layer.get_weights(), before[layer.name], strict=True)
            is_same = all(np.array_equal(value, other) for value, other in pairs)
            assert is_same == (layer in trunk), layer.name
        assert {layer in trunk for layer in normalizations} == {True, False}  # those of the heads are trained

    def test_frozen_batch_norm_stays_as_it_came(self, make_images):
        network = self.small()
        trunk = auxzoo.models.description.trunk_layers(network)
        frozen = [layer for layer in trunk if isinstance(layer, keras.layers.BatchNormalization)]
        before = [layer.get_weights() for layer in frozen]
        kernel = network.get_layer("predictions").kernel.numpy()
        auxzoo.fit(
            network,
            make_images(24, classes=2),
            epochs=1,
            batch_size=12,
            verbose=0,
            optimization=Optimization(trunk_normalization="freeze", ema_momentum=0.5),
        )
        for layer, weights in zip(frozen, before, strict=True):
            assert layer.trainable
            for value, other in zip(layer.get_weights(), weights, strict=True):
                np.testing.assert_array_equal(value, other)
        assert not np.array_equal(network.get_layer("predictions").kernel.numpy(), kernel)

    def test_a_step_is_timed_with_what_is_frozen(self):
        network = self.small()
        recipe = types.SimpleNamespace(
            **{"optimization": Optimization(trunk_normalization="freeze"), "objective": Objective(), "batch_size": 4},
            compute=types.SimpleNamespace(compilation="graph"),
        )
        trunk = auxzoo.models.description.trunk_layers(network)
        frozen = [layer for layer in trunk if isinstance(layer, keras.layers.BatchNormalization)]
        before = [layer.moving_mean.numpy() for layer in frozen]
        (seconds,) = seconds_per_step([(network, recipe)], rounds=1, steps=1)
        assert seconds > 0
        for layer, mean in zip(frozen, before, strict=True):
            np.testing.assert_array_equal(layer.moving_mean.numpy(), mean)

    def test_rates_of_a_trunk_need_one(self, foreign_model):
        with pytest.raises(auxzoo.UserError, match="`model` must be a network that carries a description"):
            Optimization(trunk_rate=0.5).rates(foreign_model)

    def test_the_trunk_of_a_foreign_network_is_that_of_its_description(self, make_images):
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.BatchNormalization(name="norm")(keras.layers.Conv2D(4, 3, name="trunk")(inputs))
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3, name="rest")(x))
        network = keras.Model(inputs, keras.layers.Dense(2)(x))
        before = {layer.name: layer.get_weights() for layer in network.layers}
        auxzoo.fit(
            network,
            make_images(24, size=8, classes=2),
            epochs=1,
            batch_size=12,
            verbose=0,
            optimization=Optimization(trunk_rate=0, trunk_normalization="freeze", weight_decay=0),
            description=models.Description((), models.Preprocessing(8, 8), trunk="norm"),
        )
        is_same = {
            layer.name: all(
                np.array_equal(one, other) for one, other in zip(layer.get_weights(), before[layer.name], strict=True)
            )
            for layer in network.layers
            if layer.weights
        }
        assert (is_same["trunk"], is_same["norm"], is_same["rest"]) == (True, True, False)
