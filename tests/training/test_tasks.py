"""Tasks at every pixel, and several on one trunk: losses, metrics, training, evaluation, recipes and the search."""

import contextlib
import dataclasses
import functools
import io
import json
import shutil

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
import yaml

import auxzoo
from auxzoo import models
from auxzoo.auxiliary import Structure
from auxzoo.command_line import main
from auxzoo.data import Augmentation, ImageSet
from auxzoo.data.targets import median_frequency_weights
from auxzoo.files import read_json
from auxzoo.metric_names import METRICS, metric_name
from auxzoo.models.description import described
from auxzoo.models.heads import classification_head, dense_head
from auxzoo.scores import Scores
from auxzoo.tasks import Task
from auxzoo.training import (
    Objective,
    Optimization,
    Trainer,
    fit,
    gate_trainer,
    run,
    search_case,
    step_cost,
    study_runner,
    train,
)
from auxzoo.training.black_box import described as described_record
from auxzoo.training.class_weights import with_class_weights
from auxzoo.training.evaluation import evaluate
from auxzoo.training.loop import RUN_STATE_FILE
from auxzoo.training.noise import noise_batch
from auxzoo.training.outputs import fitting_images, main_metric, tasks_of, trainable_tasks_of
from auxzoo.training.perturbation import Perturbation
from auxzoo.training.recipe import Recipe
from auxzoo.training.run import build_compact, open_data
from auxzoo.training.run_state import Progress
from auxzoo.training.search import search
from auxzoo.training.search_case import SearchCase
from auxzoo.training.search_settings import SearchRecipe
from auxzoo.training.task_losses import distillation_loss, task_loss

NAN, VOID, MISSING = float("nan"), 255, -1
LABELS = ("water", "grass", "rock")
SURFACE = Task("surface", "segmentation", LABELS)
HEIGHT = Task("height", "regression", unit="m", scale=100.0)
KIND = Task("kind", "classification", ("near", "far"))
TASKS = (SURFACE, HEIGHT, KIND)
BOTH = (SURFACE, HEIGHT)
EACH = pytest.mark.parametrize("task", TASKS, ids=[task.kind for task in TASKS])
SIZE = 16
pytestmark = pytest.mark.usefixtures("shallow_networks")


# What is worked out by hand, in numpy.


def log_softmax(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def cross_entropy_of_each(truth, logits, smoothing):
    """Returns the loss of every image or pixel with truth, in a row, and their classes."""
    counts = (truth != VOID) & (truth != MISSING)
    classes, logarithms = truth[counts], log_softmax(logits[counts].astype("float64"))
    targets = np.eye(logits.shape[-1])[classes] * (1 - smoothing) + smoothing / logits.shape[-1]
    return -(targets * logarithms).sum(axis=-1), classes


def huber(difference):
    return np.where(np.abs(difference) <= 1, difference**2 / 2, np.abs(difference) - 0.5)


def loss_by_hand(task, truth, prediction, smoothing=0.0, class_weights=None):
    if task.kind == "regression":
        valid = ~np.isnan(truth)
        return huber((prediction[..., 0].astype("float64") - truth)[valid] / task.scale).mean()
    losses, classes = cross_entropy_of_each(truth, prediction, smoothing)
    return np.average(losses, weights=None if class_weights is None else np.array(class_weights)[classes])


def has_truth(task, truth):
    return ~np.isnan(truth) if task.kind == "regression" else (truth != VOID) & (truth != MISSING)


def distillation_by_hand(task, truth, student, teacher, temperature, class_weights=None):
    counts = has_truth(task, truth)
    if task.kind == "regression":
        return huber((student - teacher)[counts] / task.scale).mean()
    student, teacher = log_softmax(student / temperature), log_softmax(teacher / temperature)
    divergences = (np.exp(teacher) * (teacher - student)).sum(axis=-1)[counts]
    weights = None if class_weights is None else np.array(class_weights)[truth[counts]]
    return temperature**2 * np.average(divergences, weights=weights)


def resized_by_hand(values, size):
    """Returns values at another size: between the two nearest middles of pixels, along rows and columns in turn."""
    for axis, count in enumerate(size):
        length = values.shape[axis]
        places = np.clip((np.arange(count) + 0.5) * length / count - 0.5, 0, length - 1)
        low = np.floor(places).astype(int)
        share = (places - low).reshape([-1 if place == axis else 1 for place in range(values.ndim)])
        high = np.minimum(low + 1, length - 1)
        values = np.take(values, low, axis) * (1 - share) + np.take(values, high, axis) * share
    return values


def iou_by_hand(predicted, truth, classes):
    """Returns the IoU of every class as a list, `None` of one that is nowhere."""
    predicted, truth = predicted[truth != VOID], truth[truth != VOID]
    found = []
    for label in range(classes):
        is_either = (predicted == label) | (truth == label)
        is_both = (predicted == label) & (truth == label)
        found.append(is_both.sum() / is_either.sum() if is_either.any() else None)
    return found


def metric_by_hand(task, outputs, truths):
    """Returns what ranks a task, over batches of outputs and truths of any size."""
    if task.kind == "segmentation":
        predicted = np.concatenate([output.argmax(-1).ravel() for output in outputs])
        values = iou_by_hand(predicted, np.concatenate([truth.ravel() for truth in truths]), len(task.labels))
        return np.mean([value for value in values if value is not None])
    output, truth = np.concatenate(outputs), np.concatenate(truths)
    if task.kind == "classification":
        return (output.argmax(-1) == truth)[truth != MISSING].mean()
    return np.sqrt(np.nanmean((output[..., 0].astype("float64") - truth) ** 2))


# Images and networks.


def noise_of(task, generator, shape, some_missing=True):
    """Returns the truth of a task for images of shape `[count, rows, columns]`, a fifth of it missing."""
    shape = shape if task.is_dense else shape[:1]
    is_missing = (generator.random(shape) < 0.2) & some_missing
    if task.kind == "regression":
        return np.where(is_missing, NAN, generator.normal(0, 2 * task.scale, shape)).astype("float32")
    missing = VOID if task.is_dense else MISSING
    return np.where(is_missing, missing, generator.integers(0, len(task.labels), shape))


def make_set(count, tasks=TASKS, size=(SIZE, SIZE), seed=0, **targets):
    """Returns an `ImageSet` of noise with the truth of some tasks, some of it given."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, *size, 3)).astype("uint8")
    # A class an image that stands alone must be known.
    may_lack = len(tasks) > 1 or tasks[0].is_dense
    noise = {task.name: noise_of(task, generator, (count, *size), may_lack) for task in tasks}
    return ImageSet.from_targets(images, tasks, noise | targets, name=f"noise {seed}")


def empty_like(truth, task):
    """Returns truth of the same shape and type in which there is none."""
    return np.full_like(truth, {"segmentation": VOID, "classification": MISSING, "regression": NAN}[task.kind])


def without_truth(images, task, but=None):
    """Returns the set without truth for a task, but for one image."""
    truths = images.targets[task.name].copy()
    for place, truth in enumerate(truths):
        if place != but:
            truths[place] = empty_like(truth, task)
    return dataclasses.replace(images, targets=images.targets | {task.name: truths})


def tiny(tasks=TASKS, dropout=0.0):
    """Returns a network of three convolutions and a plain head for every task, much smaller than any of the zoo's."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((SIZE, SIZE, 3), name="image")
    for place in range(3):
        x = keras.layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name=f"convolution{place}")(x)
        x = keras.layers.BatchNormalization(momentum=0.9, name=f"normalization{place}")(x)
        x = keras.layers.ReLU(name=f"relu{place}")(x)
        if dropout and place == 1:
            x = keras.layers.Dropout(dropout, name="dropout")(x)
    outputs = {}
    for task in tasks:
        if task.is_dense:
            outputs[task.name] = dense_head(x, (SIZE, SIZE), len(task.labels) or 1, task.scale, f"{task.name}_")
        else:
            outputs[task.name] = classification_head(x, len(task.labels), f"{task.name}_")
    taps = tuple((f"stage{place}", f"relu{place}") for place in range(3))
    description = models.Description(taps, models.Preprocessing(SIZE, SIZE), tuple(tasks), "relu2")
    return described(inputs, outputs if len(tasks) > 1 else outputs[tasks[0].name], description, "tiny")


def joint_of(network, tasks="shared", taps=("stage0", "stage1", "stage2")):
    """Returns the network with a node for every tap but the first, each with a head a task."""
    return auxzoo.attach(network, Structure.default(network, taps, tasks=tasks))


def exact(task, fit_by="resize"):
    """Returns a network whose prediction is the picture itself: logits its colours, the number its red."""
    inputs = keras.Input((SIZE, SIZE, 3))
    channels = 1 if task.kind == "regression" else 3
    outputs = keras.layers.Conv2D(channels, 1, name="head")(inputs)
    preprocessing = models.Preprocessing(SIZE, SIZE, fit_by, (1.0,) * 3, (0.0,) * 3)
    network = described(inputs, outputs, models.Description((), preprocessing, (task,)), "exact")
    network.get_layer("head").set_weights([np.eye(3, channels)[None, None], np.zeros(channels)])
    return network


def as_tensors(outputs):
    return tf.nest.map_structure(tf.constant, outputs)


@pytest.fixture(scope="module")
def images():
    return make_set(10)


class TestTaskLoss:
    def data(self, task, seed=0):
        """Returns truth, some of it missing, and a prediction."""
        generator = np.random.default_rng(seed)
        truth = noise_of(task, generator, (3, 4, 5) if task.is_dense else (12,))
        channels = len(task.labels) or 1
        return truth, generator.normal(0, 2 * task.scale, (*truth.shape, channels)[: truth.ndim + 1]).astype("float32")

    @EACH
    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    @pytest.mark.parametrize("is_weighted", [False, True], ids=["alike", "weighted"])
    def test_is_the_mean_over_what_has_truth(self, task, smoothing, is_weighted):
        truth, prediction = self.data(task)
        weights = [0.5, 4.0, 1.5][: len(task.labels)] if is_weighted and task.labels else None
        found = float(task_loss(task, truth, tf.constant(prediction), smoothing, weights))
        assert found == pytest.approx(loss_by_hand(task, truth, prediction, smoothing, weights), rel=1e-5)

    def test_a_weighted_mean_is_divided_by_the_weights_and_not_by_the_pixels(self):
        logits = np.array([[[[3.0, 0.0], [3.0, 0.0], [0.0, 0.0]]]], "float32")
        likely, even = np.log(1 + np.exp(-3.0)), np.log(2.0)
        task = Task("mask", "segmentation", ("a", "b"))
        found = float(task_loss(task, np.array([[[0, VOID, 1]]]), tf.constant(logits), 0.0, [1.0, 9.0]))
        assert found == pytest.approx((likely + 9 * even) / 10, rel=1e-5)

    @pytest.mark.parametrize(
        ("difference", "expected"), [(0.0, 0.0), (50.0, 0.125), (-100.0, 0.5), (300.0, 2.5), (-1000.0, 9.5)]
    )
    def test_a_difference_is_measured_in_the_scale(self, difference, expected):
        # Squared up to one scale, 100 m, and absolute beyond.
        truth = np.array([[[7.0, NAN]]], "float32")
        prediction = tf.constant([[[[7.0 + difference], [1e6]]]])
        assert float(task_loss(HEIGHT, truth, prediction)) == pytest.approx(expected)

    @EACH
    def test_what_has_no_truth_pulls_nowhere(self, task):
        truth, prediction = self.data(task)
        prediction = tf.constant(prediction)
        with tf.GradientTape() as tape:
            tape.watch(prediction)
            loss = task_loss(task, truth, prediction, label_smoothing=0.1)
        gradient = np.abs(tape.gradient(loss, prediction).numpy()).sum(axis=-1)
        counts = has_truth(task, truth)
        assert 0 < counts.sum() < counts.size
        assert (gradient[~counts] == 0).all()
        assert (gradient[counts] > 0).all()

    def test_the_gradient_of_a_far_prediction_is_as_that_of_one_scale(self):
        prediction = tf.constant([[[[250.0], [-1e30], [30.0], [5.0]]]])
        with tf.GradientTape() as tape:
            tape.watch(prediction)
            loss = task_loss(HEIGHT, np.array([[[0.0, 0.0, 0.0, NAN]]], "float32"), prediction)
        expected = np.array([1, -1, 0.3, 0]) / HEIGHT.scale / 3
        np.testing.assert_allclose(np.ravel(tape.gradient(loss, prediction)), expected, rtol=1e-5)

    @EACH
    @pytest.mark.parametrize("weights", [None, [1.0, 0.0, 2.0]], ids=["alike", "weighted"])
    def test_without_any_truth_it_is_nothing_and_pulls_nowhere(self, task, weights):
        truth, prediction = self.data(task)
        empty = empty_like(truth, task)
        prediction = tf.constant(prediction)
        with tf.GradientTape() as tape:
            tape.watch(prediction)
            loss = task_loss(task, empty, prediction, 0.1, weights and weights[: len(task.labels)])
        assert float(loss) == 0.0
        np.testing.assert_array_equal(tape.gradient(loss, prediction), np.zeros(prediction.shape))

    def test_classes_of_weight_zero_alone_give_nothing(self):
        task, prediction = Task("mask", "segmentation", ("a", "b")), tf.ones((1, 2, 2, 2))
        assert float(task_loss(task, np.zeros((1, 2, 2), int), prediction, 0.1, [0.0, 1.0])) == 0.0

    @pytest.mark.parametrize("kind", ["uint8", "int32", "int64"])
    def test_whole_numbers_of_any_type_are_taken(self, kind):
        truth, prediction = self.data(SURFACE)
        found = float(task_loss(SURFACE, tf.constant(truth.astype(kind)), tf.constant(prediction)))
        assert found == pytest.approx(loss_by_hand(SURFACE, truth, prediction), rel=1e-5)

    @EACH
    @pytest.mark.parametrize("temperature", [1.0, 3.0])
    @pytest.mark.parametrize("is_weighted", [False, True], ids=["alike", "weighted"])
    def test_distillation_is_how_far_the_student_is_from_the_teacher(self, task, temperature, is_weighted):
        (truth, student), (_, teacher) = self.data(task, 0), self.data(task, 1)
        if task.kind != "regression":
            student, teacher = student / task.scale, teacher / task.scale
        weights = [0.5, 4.0, 1.5][: len(task.labels)] if is_weighted and task.labels else None
        found = float(distillation_loss(task, truth, tf.constant(student), tf.constant(teacher), temperature, weights))
        student, teacher = student.astype("float64"), teacher.astype("float64")
        expected = distillation_by_hand(task, truth, student, teacher, temperature, weights)
        assert expected > 0.1
        assert found == pytest.approx(expected, rel=1e-4)

    @EACH
    def test_distillation_of_the_same_is_nothing(self, task):
        truth, prediction = self.data(task)
        prediction = tf.constant(prediction / task.scale)
        assert float(distillation_loss(task, truth, prediction, prediction, 2.0)) == pytest.approx(0.0, abs=1e-6)

    @EACH
    def test_distillation_pulls_only_where_there_is_truth(self, task):
        (truth, student), (_, teacher) = self.data(task, 0), self.data(task, 1)
        student = tf.constant(student / task.scale)
        with tf.GradientTape() as tape:
            tape.watch(student)
            loss = distillation_loss(task, truth, student, tf.constant(teacher / task.scale), 2.0)
        pulled = (tape.gradient(loss, student).numpy() != 0).any(axis=-1)
        np.testing.assert_array_equal(pulled, has_truth(task, truth))


TRUTH = {
    "surface": np.array([[[0, 1], [VOID, 2]], [[2, 2], [1, VOID]]]),
    "height": np.array([[[10.0, NAN], [250.0, -90.0]], [[0.0, 0.0], [NAN, 400.0]]], "float32"),
    "kind": np.array([1, MISSING]),
}
WEIGHTS = {"surface": 0.5, "height": 3.0}  # 1 of `kind`, which is not named


class TestObjective:
    def prediction(self, seed):
        generator = np.random.default_rng(seed)
        return {
            "surface": generator.normal(size=(2, 2, 2, 3)).astype("float32"),
            "height": generator.normal(0, 150, (2, 2, 2, 1)).astype("float32"),
            "kind": generator.normal(size=(2, 2)).astype("float32"),
        }

    def by_hand(self, prediction, weights=WEIGHTS, class_weights=None):
        of_classes = class_weights or {}
        return {
            task.name: weights.get(task.name, 1.0)
            * loss_by_hand(task, TRUTH[task.name], prediction[task.name], 0.1, of_classes.get(task.name))
            for task in TASKS
        }

    def distillation_by_hand(self, predictions, weights, class_weights=None):
        """Returns the sum over the tasks of what a compact network, the first, learns of the mean of all."""
        found, of_classes = 0, class_weights or {}
        for task in TASKS:
            each = [one[task.name].astype("float64") for one in predictions]
            found += weights.get(task.name, 1.0) * distillation_by_hand(
                task, TRUTH[task.name], each[0], np.mean(each, axis=0), 2.0, of_classes.get(task.name)
            )
        return found

    def losses(self, objective, outputs, **options):
        found = objective.losses(TRUTH, as_tensors(outputs), 0.0, TASKS, **options)
        return {name: float(value) for name, value in found.items()}

    @pytest.mark.parametrize("weights", [{}, WEIGHTS, {"height": 0.0}], ids=["alike", "weighted", "without one"])
    def test_the_loss_is_the_weighted_sum_over_the_tasks(self, weights):
        prediction = self.prediction(0)
        found = self.losses(Objective(task_weights=weights), prediction)
        assert found["loss"] == pytest.approx(sum(self.by_hand(prediction, weights).values()), rel=1e-5)

    def test_the_loss_of_each_task_is_told_without_its_weight(self):
        prediction = self.prediction(0)
        found = self.losses(Objective(task_weights=WEIGHTS), prediction)
        expected = {f"{name}_loss": value for name, value in self.by_hand(prediction, {}).items()}
        assert found == pytest.approx(expected | {"loss": found["loss"]}, rel=1e-5)

    def test_class_weights_are_those_of_the_task_that_they_name(self):
        prediction, weights = self.prediction(0), [1.0, 5.0, 0.5]
        found = self.losses(Objective(class_weights={"surface": weights}), prediction)
        expected = loss_by_hand(SURFACE, TRUTH["surface"], prediction["surface"], 0.1, weights)
        plain = self.losses(Objective(), prediction)
        assert found["surface_loss"] == pytest.approx(expected, rel=1e-5)
        assert found["surface_loss"] != pytest.approx(plain["surface_loss"], rel=1e-2)
        for name in ("height_loss", "kind_loss"):
            assert found[name] == plain[name]

    def joint_losses(self, objective, **options):
        """Returns the terms of a joint network with two heads, and its three predictions."""
        compact, *heads = predictions = [self.prediction(seed) for seed in range(3)]
        outputs = {"compact": compact, "auxiliary_one": heads[0], "auxiliary_two": heads[1]}
        return self.losses(objective, outputs, **options), predictions

    @pytest.mark.parametrize(
        "of_classes",
        [{}, {"surface": [1.0, 5.0, 0.5], "kind": [0.5, 2.0]}],
        ids=["classes alike", "classes weighted"],
    )
    def test_terms_of_a_joint_network_are_sums_over_the_tasks(self, of_classes):
        objective = Objective(
            task_weights=WEIGHTS, class_weights=of_classes, auxiliary_weight=0.4, distillation_weight=0.7
        )
        found, predictions = self.joint_losses(objective)
        compact, *heads = (self.by_hand(one, WEIGHTS, of_classes) for one in predictions)
        assert found["compact_loss"] == pytest.approx(sum(compact.values()), rel=1e-5)
        auxiliary = np.mean([sum(head.values()) for head in heads])
        assert found["auxiliary_loss"] == pytest.approx(auxiliary, rel=1e-5)
        distillation = self.distillation_by_hand(predictions, WEIGHTS, of_classes)
        assert found["distillation_loss"] == pytest.approx(distillation, rel=1e-4)
        expected = found["compact_loss"] + 0.4 * found["auxiliary_loss"] + 0.7 * found["distillation_loss"]
        assert found["loss"] == pytest.approx(expected, rel=1e-5)
        assert found["height_loss"] == pytest.approx(self.by_hand(predictions[0], {})["height"], rel=1e-5)

    def test_the_teacher_is_not_taught(self):
        compact, head = (as_tensors(self.prediction(seed)) for seed in (0, 1))
        with tf.GradientTape() as tape:
            tape.watch([compact, head])
            terms = Objective().losses(TRUTH, {"compact": compact, "auxiliary": head}, 0.0, TASKS)
        of_compact, of_head = tape.gradient(terms["distillation_loss"], [compact, head])
        assert all(float(tf.reduce_max(tf.abs(gradient))) > 0 for gradient in of_compact.values())
        assert set(of_head.values()) == {None}

    LOG_VARIANCES = np.array([0.7, -0.4, 1.1], "float32")  # in the order of `TASKS`

    def by_equation_10(self, losses, weights=()):
        """arXiv:1705.07115: a regression's loss over twice the variance, another's over it, and the logarithms.

        A weight given beside is that of both: of the loss, where it is in already, and of the logarithm.
        """
        variances = dict(
            zip(self.by_hand(self.prediction(0)), np.exp(self.LOG_VARIANCES.astype("float64")), strict=True)
        )
        total = losses["surface"] / variances["surface"] + losses["kind"] / variances["kind"]
        total += losses["height"] / (2 * variances["height"])
        weights = dict(weights)
        return total + sum(weights.get(name, 1) * np.log(np.sqrt(variance)) for name, variance in variances.items())

    @pytest.mark.parametrize("weights", [{}, WEIGHTS], ids=["alike", "weighted"])
    def test_uncertainty_weighs_as_its_paper_says(self, weights):
        prediction = self.prediction(0)
        found = self.losses(Objective(task_weights=weights), prediction, uncertainty=tf.constant(self.LOG_VARIANCES))
        assert found["loss"] == pytest.approx(self.by_equation_10(self.by_hand(prediction, weights), weights), rel=1e-5)
        assert found["height_loss"] == pytest.approx(self.by_hand(prediction, {})["height"], rel=1e-5)

    def test_uncertainty_weighs_every_term_of_a_joint_network_and_is_counted_once(self):
        objective = Objective(auxiliary_weight=0.4, distillation_weight=0.7)
        found, (compact, *heads) = self.joint_losses(objective, uncertainty=tf.constant(self.LOG_VARIANCES))
        penalty = 0.5 * self.LOG_VARIANCES.sum()
        weighted = [self.by_equation_10(self.by_hand(one, {})) - penalty for one in (compact, *heads)]
        assert found["compact_loss"] == pytest.approx(weighted[0], rel=1e-5)
        assert found["auxiliary_loss"] == pytest.approx(np.mean(weighted[1:]), rel=1e-5)
        factors = np.array([1.0, 0.5, 1.0]) * np.exp(-self.LOG_VARIANCES)
        learned = dict(zip((task.name for task in TASKS), factors, strict=True))
        distillation = self.distillation_by_hand((compact, *heads), learned)
        assert found["distillation_loss"] == pytest.approx(distillation, rel=1e-4)
        terms = found["compact_loss"] + 0.4 * found["auxiliary_loss"] + 0.7 * found["distillation_loss"]
        assert found["loss"] == pytest.approx(terms + penalty, rel=1e-5)

    def test_the_gradient_moves_every_variance_to_where_its_loss_wants_it(self):
        prediction, logarithms = self.prediction(0), tf.constant(self.LOG_VARIANCES)
        with tf.GradientTape() as tape:
            tape.watch(logarithms)
            terms = Objective().losses(TRUTH, as_tensors(prediction), 0.0, TASKS, uncertainty=logarithms)
        losses = self.by_hand(prediction, {})
        factors = np.array([1.0, 0.5, 1.0]) * np.exp(-self.LOG_VARIANCES)
        expected = 0.5 - factors * [losses["surface"], losses["height"], losses["kind"]]
        np.testing.assert_allclose(tape.gradient(terms["loss"], logarithms), expected, rtol=1e-4)

    def pulls(self, objective, truth):
        """Returns the gradient of every variance's logarithm."""
        logarithms = tf.constant(self.LOG_VARIANCES)
        with tf.GradientTape() as tape:
            tape.watch(logarithms)
            loss = objective.losses(truth, as_tensors(self.prediction(0)), 0.0, TASKS, uncertainty=logarithms)["loss"]
        return tape.gradient(loss, logarithms).numpy()

    @EACH
    def test_a_batch_without_truth_for_a_task_leaves_its_variance_alone(self, task):
        empty = empty_like(TRUTH[task.name], task)
        before, found = self.pulls(Objective(), TRUTH), self.pulls(Objective(), TRUTH | {task.name: empty})
        place = TASKS.index(task)
        assert (before != 0).all()
        assert found[place] == 0
        np.testing.assert_allclose(np.delete(found, place), np.delete(before, place), rtol=1e-6)

    def test_truth_of_classes_without_weight_leaves_a_variance_alone(self):
        truth = TRUTH | {"surface": np.array([[[0, 0], [VOID, 0]], [[0, 0], [0, VOID]]])}
        pulls = self.pulls(Objective(class_weights={"surface": [0.0, 1.0, 1.0]}), truth)
        assert pulls[0] == 0
        assert (pulls[1:] != 0).all()

    @pytest.mark.parametrize("weight", [0.0, 0.25, 3.0])
    def test_a_given_weight_stands_beside_a_learned_one(self, weight):
        # As a factor of both terms it moves no optimum: the learned weight does not undo it. Of weight 0 nothing pulls,
        # where half the logarithm alone would send the weight to infinity.
        plain, found = self.pulls(Objective(), TRUTH), self.pulls(Objective(task_weights={"height": weight}), TRUTH)
        np.testing.assert_allclose(found, plain * [1, weight, 1], rtol=1e-5)

    def test_an_auxiliary_moves_no_variance(self):
        compact, head = (as_tensors(self.prediction(seed)) for seed in (0, 1))
        logarithms, gradients = tf.constant(self.LOG_VARIANCES), []
        for outputs in (compact, {"compact": compact, "auxiliary": head}):
            with tf.GradientTape() as tape:
                tape.watch(logarithms)
                terms = Objective().losses(TRUTH, outputs, 0.0, TASKS, uncertainty=logarithms)
            gradients.append(tape.gradient(terms["loss"], logarithms))
        np.testing.assert_allclose(*gradients, rtol=1e-6)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"task_weights": {"height": -1}}, "`task_weights`: .*weights of 'height' must be 0 or more"),
            ({"task_weights": {"height": NAN}}, "`task_weights.height`: .*finite"),
            ({"task_weights": {"height": "high"}}, "`task_weights.height`: .*'high'"),
            ({"class_weights": {"surface": [1, -1, 1]}}, "`class_weights`: .*weights of 'surface' must be 0 or more"),
            ({"class_weights": {"surface": [0, 0, 0]}}, "`class_weights`: .*not all 0"),
            ({"class_weights": {"surface": []}}, "`class_weights`: .*not all 0"),
            ({"class_weights": {"surface": "frequency"}}, "`class_weights.surface.*'median_frequency'.*'frequency'"),
            ({"class_weights": [1, 2]}, r"`class_weights`: .*\[1, 2\]"),
            ({"task_weighting": "learned"}, "`task_weighting`: .*'uncertainty'.*'learned'"),
        ],
    )
    def test_wrong_settings_are_named(self, settings, message):
        with pytest.raises(auxzoo.UserError, match=message):
            Objective.parse(settings, "The objective")

    def test_weights_of_tasks_that_a_recipe_leaves_out_are_left_out(self, pairs):
        weights = {"class_weights": {"surface": [1.0, 2.0, 3.0]}, "task_weights": {"surface": 2.0, "height": 3.0}}
        settings = settings_of(pairs, network={"tasks": ["height"]}, objective=weights)
        own = Recipe.parse(settings, "The recipe").own_objective
        assert (own.class_weights, own.task_weights) == ({}, {"height": 3.0})
        both = Recipe.parse(settings_of(pairs, objective=weights), "The recipe")
        assert both.own_objective == both.objective


class TestClassWeights:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"task_weights": {"depth": 2.0}}, "`objective.task_weights` must name .*surface, height, kind.*'depth'"),
            (
                {"class_weights": {"depth": [1.0]}},
                "`objective.class_weights` must name .*surface, height, kind.*'depth'",
            ),
            (
                {"class_weights": {"height": [1.0]}},
                "`objective.class_weights` of 'height' must not be set: a regression",
            ),
            ({"class_weights": {"surface": [1.0, 2.0]}}, "of 'surface' must be 3 numbers, one a class. Received: 2"),
            ({"class_weights": {"kind": [1.0, 2.0, 3.0]}}, "of 'kind' must be 2 numbers, one a class. Received: 3"),
        ],
    )
    def test_what_does_not_fit_the_network_is_named_by_fit(self, images, settings, message):
        with pytest.raises(auxzoo.UserError, match=message):
            fit(tiny(), images, epochs=1, batch_size=5, objective=Objective(**settings), verbose=0)

    def test_frequencies_cannot_be_had_of_a_foreign_data_set(self):
        objective = Objective(class_weights={"surface": "median_frequency"})
        batches = tf.data.Dataset.from_tensors(
            (np.zeros((2, SIZE, SIZE, 3), "float32"), np.zeros((2, SIZE, SIZE), int))
        )
        message = "of 'surface' must be numbers where `train` is no ImageSet. Received: 'median_frequency'"
        with pytest.raises(auxzoo.UserError, match=message):
            fit(tiny([SURFACE]), batches, epochs=1, objective=objective, verbose=0)

    # Of 4 pixels each: water 3 of 4 in the first and 1 of 2 with truth in the second, grass 1 of 4 and 4 of 4, rock 1
    # of 2. So of 6, 8 and 2 pixels 4, 5 and 1: frequencies 2/3, 5/8 and 1/2.
    MASKS = np.array([[[0, 0], [0, 1]], [[0, 2], [VOID, VOID]], [[1, 1], [1, 1]]])

    def test_a_class_weighs_by_its_share_where_it_is_seen(self):
        expected = [(5 / 8) / (2 / 3), 1.0, (5 / 8) / (1 / 2)]
        assert median_frequency_weights(self.MASKS, SURFACE, 3) == pytest.approx(expected)

    def test_a_class_that_is_nowhere_weighs_nothing(self):
        task = Task("mask", "segmentation", (*LABELS, "snow"))
        expected = [(5 / 8) / (2 / 3), 1.0, (5 / 8) / (1 / 2), 0.0]
        assert median_frequency_weights(self.MASKS, task, 4) == pytest.approx(expected)

    def test_those_of_the_training_images_are_taken_under_the_name_of_the_network(self):
        masks = np.repeat(np.repeat(self.MASKS, 8, axis=1), 8, axis=2)
        other = Task("mask", "segmentation", LABELS)
        network = tiny([SURFACE])
        train_images = fitting_images(network, make_set(3, [other], mask=masks), "train")
        objective = Objective(class_weights={"surface": "median_frequency"})
        found = with_class_weights(objective, network, train_images).class_weights
        assert found == {"surface": pytest.approx([15 / 16, 1.0, 5 / 4])}

    def test_of_a_classification_a_rare_class_weighs_more(self):
        # "those that make a class as frequent in the training images as the median one": 9 near, 3 far.
        assert median_frequency_weights(np.array([0] * 9 + [1] * 3), KIND, 2) == pytest.approx([6 / 9, 6 / 3])


class TestTasksOf:
    def test_are_those_of_the_description_of_a_joint_network_too(self):
        network = tiny()
        assert tasks_of(network) == tasks_of(joint_of(network)) == TASKS

    def test_of_a_foreign_network_are_told_by_the_shapes(self):
        inputs = keras.Input((8, 8, 3))
        mask = keras.layers.Conv2D(4, 1)(inputs)
        kind = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(inputs))
        found = tasks_of(keras.Model(inputs, {"mask": mask, "sort": kind}))
        assert [(task.name, task.kind) for task in found] == [("mask", "segmentation"), ("sort", "classification")]

    def test_a_regression_of_several_channels_is_refused(self):
        network = exact(SURFACE)
        description = models.Description((), network.description.preprocessing, (Task("surface", "regression"),))
        network = described(network.input, network.output, description, "colours")
        with pytest.raises(auxzoo.UserError, match="`network` must have logits .*for a regression.*'colours'"):
            tasks_of(network)

    def test_soft_max_in_one_of_several_heads_is_refused(self):
        inputs = keras.Input((8, 8, 3))
        heads = {
            "one": keras.layers.Conv2D(4, 1)(inputs),
            "two": keras.layers.Conv2D(4, 1, activation="softmax")(inputs),
        }
        with pytest.raises(auxzoo.UserError, match="without soft-max.*'mixed' with activation softmax"):
            trainable_tasks_of(keras.Model(inputs, heads, name="mixed"))

    def test_soft_max_is_found_wherever_it_is(self):
        inputs = keras.Input((8, 8, 3))
        logits = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
        inner = keras.Model(inputs, keras.layers.Softmax()(logits), name="inner")
        activated = keras.layers.Activation("softmax")(logits)
        for outputs in (inner.output, inner(inputs), keras.ops.softmax(logits), activated):
            with pytest.raises(auxzoo.UserError, match="(?i)without soft-max.*with activation softmax"):
                trainable_tasks_of(keras.Model(inputs, outputs))

    def test_numbers_may_have_an_activation(self):
        inputs = keras.Input((8, 8, 3))
        description = models.Description((), exact(HEIGHT).description.preprocessing, (HEIGHT,))
        network = described(inputs, keras.layers.Conv2D(1, 1, activation="relu")(inputs), description, "above_0")
        assert trainable_tasks_of(network) == (HEIGHT,)

    @pytest.mark.parametrize(
        ("tasks", "expected"),
        [
            ([KIND], ("accuracy", ("accuracy",), True)),
            ([SURFACE], ("mean_iou", ("mean_iou",), True)),
            ([HEIGHT], ("root_mean_squared_error", ("root_mean_squared_error",), False)),
            (TASKS, ("summed_loss", ("surface_loss", "height_loss", "kind_loss"), False)),
        ],
        ids=["classification", "segmentation", "regression", "several"],
    )
    def test_networks_are_ranked_by_one_figure(self, tasks, expected):
        assert main_metric(tasks) == expected

    def test_every_metric_is_known_by_its_kind(self, images):
        outputs = {
            "surface": np.zeros((10, SIZE, SIZE, 3)),
            "height": np.zeros((10, SIZE, SIZE, 1)),
            "kind": np.zeros((10, 2)),
        }
        scores = Scores(images, models.Preprocessing(SIZE, SIZE))
        scores.update(outputs, 0)
        known = {metric_name(TASKS, task, metric) for task in TASKS for metric in METRICS[task.kind]}
        assert set(scores.result()) == known

    @pytest.mark.parametrize(
        ("metric", "value", "text"),
        [
            ("accuracy", 0.5, "50.00 % accuracy"),
            ("mean_iou", 0.123, "12.30 % mean_iou"),
            ("root_mean_squared_error", 1234.5, "1,234 root_mean_squared_error"),
            ("summed_loss", 2.34567, "2.346 summed_loss"),
        ],
    )
    def test_only_shares_are_told_in_per_cent(self, metric, value, text):
        assert described_record({"diverged": False, "metric": metric, "value": value}) == text

    def test_no_task_is_called_as_a_term_of_the_loss(self):
        # Its `distillation_loss` takes the place of the term of that name.
        with pytest.raises(auxzoo.UserError, match="must not begin with"):
            Task("distillation", "segmentation", LABELS)

    def test_one_output_in_a_dict_is_trained_like_a_tensor(self):
        inputs = keras.Input((SIZE, SIZE, 3))
        network = keras.Model(inputs, {"surface": keras.layers.Conv2D(3, 1)(inputs)})
        batches = batches_of().map(lambda images, truth: (images, truth["surface"]))
        assert sorted(fit(network, batches, epochs=1, compilation="graph", verbose=0)) == ["loss", "mean_iou"]


class TestTrainer:
    @staticmethod
    def make(network, optimization=None, **objective):
        trainer = Trainer(network, Objective(**objective), total_steps=10)
        optimization = optimization or Optimization(schedule="constant", learning_rate=0.05)
        trainer.compile(optimizer=optimization.build(10, trainer.trained_variables))
        return trainer

    def names(self, network, **objective):
        return [metric.name for metric in self.make(network, **objective).metrics]

    @pytest.mark.parametrize(
        ("task", "metric"),
        [(SURFACE, "mean_iou"), (HEIGHT, "root_mean_squared_error"), (KIND, "accuracy")],
        ids=lambda value: getattr(value, "kind", value),
    )
    def test_metrics_of_one_task_have_its_name_nowhere(self, task, metric):
        network = tiny([task])
        assert self.names(network) == ["loss", metric]
        terms = ["loss", "compact_loss", "auxiliary_loss", "distillation_loss"]
        assert self.names(joint_of(network)) == [*terms, metric, f"auxiliary_{metric}", f"joint_{metric}"]
        assert "distillation_loss" not in self.names(joint_of(network), distillation_weight=0)

    def test_metrics_of_several_tasks_have_the_name_of_each(self):
        network = tiny()
        losses = ["surface_loss", "height_loss", "kind_loss"]
        metrics = ["surface_mean_iou", "height_root_mean_squared_error", "kind_accuracy"]
        assert self.names(network) == ["loss", *losses, *metrics]
        terms = ["loss", "compact_loss", "auxiliary_loss", "distillation_loss"]
        of_heads = [f"{prefix}{name}" for prefix in ("", "auxiliary_", "joint_") for name in metrics]
        assert self.names(joint_of(network)) == [*terms, *losses, *of_heads]

    @pytest.fixture(scope="class")
    @classmethod
    def measured(cls, images, make_random):
        """What a joint network measures on two batches, of 7 and 3 images, and what it predicts for them."""
        network = make_random(joint_of(tiny()))
        trainer = cls.make(network, task_weights={"height": 0.5})
        batches = list(images.batches(models.Preprocessing(SIZE, SIZE), 7))
        for batch in batches:
            found = trainer.test_step(batch)
        outputs = [
            tf.nest.map_structure(lambda one: one.numpy(), network(batch, training=False)) for batch, _ in batches
        ]
        return {name: float(value) for name, value in found.items()}, outputs

    @EACH
    @pytest.mark.parametrize("prefix", ["", "auxiliary_", "joint_"], ids=["compact", "auxiliary", "joint"])
    def test_metrics_are_over_all_batches_and_what_has_truth(self, measured, images, task, prefix):
        found, outputs = measured
        heads = [key for key in outputs[0] if key.startswith("auxiliary")]
        keys = {"": ["compact"], "auxiliary_": heads, "joint_": ["compact", *heads]}[prefix]
        predicted = [np.mean([output[key][task.name] for key in keys], axis=0) for output in outputs]
        truth = images.targets[task.name]
        expected = metric_by_hand(task, predicted, [truth[:7], truth[7:]])
        metric = {"segmentation": "mean_iou", "regression": "root_mean_squared_error"}.get(task.kind, "accuracy")
        assert found[f"{prefix}{task.name}_{metric}"] == pytest.approx(expected, rel=1e-4)

    def test_heads_are_measured_where_nothing_is_trained(self, measured, images):
        found, _ = measured
        batch = next(iter(images.batches(models.Preprocessing(SIZE, SIZE), 8)))
        trained = self.make(joint_of(tiny())).train_step(batch)
        of_heads = {name for name in found if name.startswith(("auxiliary_", "joint_"))} - {"auxiliary_loss"}
        assert len(of_heads) == 2 * len(TASKS)
        assert set(trained) == set(found) - of_heads

    def test_losses_are_means_over_what_has_truth_and_not_over_batches(self, measured, images):
        found, outputs = measured
        expected = 0
        for task in TASKS:
            truth = np.split(images.targets[task.name], [7])
            losses = [
                loss_by_hand(task, one, output["compact"][task.name], 0.1)
                for one, output in zip(truth, outputs, strict=True)
            ]
            assert losses[0] != pytest.approx(losses[1], rel=1e-3)
            counts = [np.sum(has_truth(task, one)) for one in truth]
            assert counts[0] / sum(counts) != pytest.approx(0.7, abs=1e-3)
            mean = np.average(losses, weights=counts)
            assert found[f"{task.name}_loss"] == pytest.approx(mean, rel=1e-4)
            expected += np.average(losses, weights=[7, 3]) * (0.5 if task is HEIGHT else 1)
        assert found["compact_loss"] == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize("tasks", ["shared", "separate"])
    def test_a_step_moves_both_networks_and_the_weights_of_tasks(self, images, tasks):
        network = joint_of(tiny(), tasks)
        trainer = self.make(network, task_weighting="uncertainty")
        before = [variable.numpy() for variable in network.trainable_variables]
        batch = next(iter(images.batches(models.Preprocessing(SIZE, SIZE), 8)))
        measured = trainer.train_step(batch)
        assert np.isfinite(float(measured["loss"]))
        first = {task.name: 0.5 if task is HEIGHT else 1.0 for task in TASKS}
        assert {name: float(measured[f"{name}_weight"]) for name in first} == pytest.approx(first)
        for variable, value in zip(network.trainable_variables, before, strict=True):
            assert not np.array_equal(variable.numpy(), value), variable.path
        assert np.isfinite(trainer.uncertainty.numpy()).all()
        assert (trainer.uncertainty.numpy() != 0).all()

    @pytest.mark.parametrize(("step", "weight"), [("train_step", 0.5), ("test_step", 0.0)])
    def test_the_auxiliary_weight_is_that_of_the_progress_and_in_validation_the_last(self, images, step, weight):
        trainer = self.make(joint_of(tiny()), auxiliary_schedule="decay_to_zero")
        trainer.optimizer.iterations.assign(5)  # of 10
        found = getattr(trainer, step)(next(iter(images.batches(models.Preprocessing(SIZE, SIZE), 8))))
        expected = found["compact_loss"] + weight * found["auxiliary_loss"] + found["distillation_loss"]
        assert float(found["loss"]) == pytest.approx(float(expected), rel=1e-5)

    def test_fixed_weights_are_no_variable(self):
        trainer = self.make(tiny(BOTH))
        assert trainer.uncertainty is None
        assert "trainer" not in trainer.state

    def test_a_batch_without_any_truth_moves_kernels_by_their_decay_alone(self):
        empty = {"surface": np.full((2, SIZE, SIZE), VOID), "height": np.full((2, SIZE, SIZE), NAN, "float32")}
        network = tiny(BOTH)
        before = [variable.numpy() for variable in network.trainable_variables]
        trainer = self.make(network, Optimization(schedule="constant", learning_rate=0.5, weight_decay=0.1))
        found = trainer.train_step((np.ones((2, SIZE, SIZE, 3), "float32"), empty))
        assert float(found["loss"]) == 0.0
        for variable, value in zip(network.trainable_variables, before, strict=True):
            factor = 0.95 if variable.name.endswith("kernel") else 1.0
            np.testing.assert_allclose(variable.numpy(), factor * value, rtol=1e-6, err_msg=variable.path)

    @pytest.mark.parametrize("tasks", [[SURFACE], [HEIGHT], TASKS], ids=["segmentation", "regression", "several"])
    def test_noise_to_time_steps_with_can_be_trained_on(self, tasks):
        network = joint_of(tiny(tasks))
        pictures, truth = noise_batch(network, 3)
        assert pictures.shape == (3, SIZE, SIZE, 3)
        assert np.isfinite(float(self.make(network).train_step((pictures, truth))["loss"]))


class StopAt(keras.callbacks.Callback):
    """Ends the work in the first step of the second epoch, as a kill would."""

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == (1, 0):
            raise KeyboardInterrupt


TWO_STAGES = ("stage0", "stage1")


def run_fit(auxiliaries, images, folder, callbacks=(), seed=3):
    """Trains all tasks with learned weights and an average of the weights; returns variables, state and history."""
    network = joint_of(tiny(dropout=0.3), auxiliaries, TWO_STAGES)
    history = fit(
        network,
        images,
        images.sample(4, seed=0),
        epochs=2,
        batch_size=5,
        objective=Objective(
            task_weighting="uncertainty",
            task_weights={"height": 0.5},
            class_weights={"surface": "median_frequency", "kind": [1.0, 2.0]},
        ),
        optimization=Optimization(learning_rate=0.05, ema_momentum=0.8),
        augmentation=Augmentation(flip=True, shift=1, erase=0.5),
        seed=seed,
        folder=folder,
        callbacks=callbacks,
        compilation="graph",
        verbose=0,
    )
    with np.load(folder / RUN_STATE_FILE) as file:
        state = {name: file[name] for name in file.files if name != "progress"}
    return [variable.numpy() for variable in network.variables], state, history


def assert_same(values, others):
    assert len(values) == len(others) > 0
    for value, other in zip(values, others, strict=True):
        np.testing.assert_array_equal(value, other)


class TestReproducing:
    @pytest.fixture(scope="class")
    @classmethod
    def run_undisturbed(cls, images, tmp_path_factory):
        """A function of the way of sharing that makes one run of each."""
        return functools.cache(lambda sharing: run_fit(sharing, images, tmp_path_factory.mktemp(sharing)))

    @pytest.fixture(params=["shared", "separate"])
    def undisturbed(self, request, run_undisturbed):
        return request.param, *run_undisturbed(request.param)

    # Each with one way of sharing: being killed and going on is the same seed as well.
    @pytest.mark.parametrize("undisturbed", ["shared"], indirect=True)
    def test_the_same_seed_gives_the_same_weights(self, undisturbed, images, tmp_path):
        auxiliaries, weights, state, history = undisturbed
        again, same_state, same_history = run_fit(auxiliaries, images, tmp_path)
        assert_same(weights, again)
        assert state.keys() == same_state.keys()
        assert_same(list(state.values()), list(same_state.values()))
        assert history == same_history

    @pytest.mark.parametrize("undisturbed", ["separate"], indirect=True)
    def test_a_killed_run_ends_bit_identical(self, undisturbed, images, tmp_path):
        auxiliaries, weights, state, history = undisturbed
        with pytest.raises(KeyboardInterrupt):
            run_fit(auxiliaries, images, tmp_path, [StopAt()])
        resumed, resumed_state, resumed_history = run_fit(auxiliaries, images, tmp_path)
        assert_same(weights, resumed)
        assert state.keys() == resumed_state.keys()
        assert_same(list(state.values()), list(resumed_state.values()))
        assert history == resumed_history

    def test_the_run_state_keeps_the_learned_weights_of_tasks(self, undisturbed):
        _, _, state, _ = undisturbed
        (uncertainty,) = [value for name, value in state.items() if name.startswith("trainer.")]
        assert uncertainty.shape == (3,)
        assert (uncertainty != 0).all()

    def test_every_metric_is_validated(self, undisturbed):
        *_, history = undisturbed
        names = {"loss", "distillation_loss", "surface_loss", "surface_mean_iou", "kind_accuracy"}
        of_heads = {"auxiliary_surface_mean_iou", "joint_height_root_mean_squared_error"}
        assert names | {f"val_{name}" for name in names | of_heads} <= set(history)
        assert {len(values) for values in history.values()} == {2}

    def test_the_training_moved_every_weight(self, undisturbed):
        # Otherwise every comparison in this class would be empty.
        auxiliaries, weights, _, _ = undisturbed
        fresh = joint_of(tiny(dropout=0.3), auxiliaries, TWO_STAGES)
        trained = {id(variable) for variable in fresh.trainable_variables}
        for variable, value in zip(fresh.variables, weights, strict=True):
            assert id(variable) not in trained or not np.array_equal(variable.numpy(), value), variable.path

    def test_a_run_whose_augmentation_scales_goes_on(self, tmp_path):
        arguments = {
            "epochs": 1,
            "batch_size": 2,
            "augmentation": Augmentation(scale=(0.5, 2.0)),
            "folder": tmp_path,
            "compilation": "graph",
            "verbose": 0,
        }
        history = fit(exact(SURFACE), make_set(2, [SURFACE]), **arguments)
        assert fit(exact(SURFACE), make_set(2, [SURFACE]), **arguments) == history


def batches_of(size=SIZE, kind="float32", **truth):
    """Returns one batch of two as a data set of the user's own, right for `BOTH` but for what is given."""
    shape = (2, SIZE, SIZE)
    truth = {"surface": np.zeros(shape, "int32"), "height": np.zeros(shape, "float32")} | truth
    return tf.data.Dataset.from_tensors((np.zeros((2, size, size, 3), kind), truth))


def with_label(label):
    mask = np.zeros((2, SIZE, SIZE), "int64")
    mask[1, 2, 3] = label
    return mask


class TestFitRefuses:
    """What does not fit is told before anything is trained, by the name of the argument and of the task."""

    FOUR = Task("surface", "segmentation", (*LABELS, "snow"))
    THREE_KINDS = Task("kind", "classification", ("near", "far", "beyond"))
    AS_NUMBERS = Task("surface", "regression")

    @pytest.mark.parametrize("argument", ["train", "validation"])
    @pytest.mark.parametrize(
        ("own", "theirs", "message"),
        [
            (BOTH, [SURFACE], r"must have truth for height, a regression, as 'tiny' has. .*: surface \(segmentation\)"),
            (BOTH, [HEIGHT, KIND], "must have truth for surface, a segmentation"),
            (BOTH, [HEIGHT, AS_NUMBERS], r"truth for surface, a segmentation.* surface \(regression\)"),
            (BOTH, [FOUR, HEIGHT], "must have as many classes as the network has logits, 3. Received: 4 classes"),
            ([SURFACE], [FOUR], "must have as many classes as the network has logits, 3. Received: 4 classes"),
            ([KIND], [THREE_KINDS, HEIGHT], "must have as many classes .*, 2. Received: 3 classes in noise 1"),
            ([SURFACE], [HEIGHT], r"truth for surface, a segmentation.* height \(regression\)"),
            ([SURFACE], [Task("mask", "segmentation", LABELS), HEIGHT], "truth for surface, a segmentation.* mask"),
        ],
        ids=[
            *("no height", "no surface", "another kind", "four classes", "four classes of one"),
            *("three classes", "another kind of one", "another name among several"),
        ],
    )
    def test_images_for_other_tasks(self, argument, own, theirs, message):
        sets = {"train": make_set(2, own), argument: make_set(2, theirs, seed=1)}
        with pytest.raises(auxzoo.UserError, match=f"`{argument}` .*{message}"):
            fit(tiny(own), **sets, epochs=1, batch_size=2, verbose=0)

    @pytest.mark.parametrize("argument", ["train", "validation"])
    @pytest.mark.parametrize(
        ("own", "theirs", "message"),
        [
            (BOTH, tf.data.Dataset.from_tensors((np.zeros((2, SIZE, SIZE, 3), "float32"), with_label(0))), "in a dict"),
            (BOTH, batches_of().map(lambda images, truth: (images, {"surface": truth["surface"]})), "surface, height"),
            ([SURFACE], batches_of(), "must yield truth for surface, in a dict where there are several"),
            (BOTH, batches_of(size=12), r"must yield images of float32 \[batch, 16, 16, 3\].*\(2, 12, 12, 3\)"),
            (BOTH, batches_of(kind="uint8"), "must yield images of float32 .* uint8"),
            (BOTH, batches_of(surface=np.zeros((2, 8, 8), int)), r"\[batch, 16, 16\], one a pixel.*\(2, 8, 8\)"),
            (BOTH, batches_of(surface=np.zeros((2, SIZE, SIZE, 3), int)), r"whole numbers \[batch, 16, 16\].*16, 3\)"),
            (BOTH, batches_of(surface=np.zeros((2, SIZE, SIZE))), r"whole numbers \[batch, 16, 16\].*float64"),
            (BOTH, batches_of(height=np.zeros((2, SIZE, SIZE), int)), r"must yield numbers \[batch, 16, 16\].*int64"),
            (BOTH, batches_of(height=np.zeros((2, SIZE, SIZE, 1))), r"must yield numbers \[batch, 16, 16\].*16, 1\)"),
            (BOTH, batches_of(height=np.zeros(2)), r"must yield numbers \[batch, 16, 16\].*float64 \(2,\)"),
            (TASKS, batches_of(kind_=np.zeros(2, int)), "must yield truth for surface, height, kind"),
        ],
        ids=[
            *("no dict", "a task less", "a dict for one", "small images", "bytes", "small masks", "one-hot masks"),
            *("masks of floats", "whole heights", "a channel", "a number an image", "another name"),
        ],
    )
    def test_batches_of_another_form(self, argument, own, theirs, message):
        sets = {"train": make_set(2, own), argument: theirs}
        with pytest.raises(auxzoo.UserError, match=f"`{argument}` must yield .*{message}|`{argument}` {message}"):
            fit(tiny(own), **sets, epochs=1, batch_size=2, verbose=0)

    @pytest.mark.parametrize("argument", ["train", "validation"])
    @pytest.mark.parametrize("label", [3, MISSING, 254])
    def test_a_label_in_a_mask_that_has_no_logit(self, argument, label):
        sets = {"train": make_set(2, [SURFACE]), argument: batches_of(surface=with_label(label))}
        sets[argument] = sets[argument].map(lambda images, truth: (images, truth["surface"]))
        with pytest.raises(auxzoo.UserError, match=f"`{argument}`: labels must be 0 to 2"):
            fit(exact(SURFACE), **sets, epochs=1, batch_size=2, compilation="graph", verbose=0)

    @pytest.mark.parametrize("argument", ["train", "validation"])
    @pytest.mark.parametrize("number", [float("inf"), float("-inf"), 1e300])
    def test_an_infinite_number(self, argument, number):
        heights = np.zeros((2, SIZE, SIZE))
        heights[1, 2, 3], heights[0, 0, 0] = number, NAN
        sets = {"train": make_set(2, [HEIGHT]), argument: batches_of(height=heights)}
        sets[argument] = sets[argument].map(lambda images, truth: (images, truth["height"]))
        message = f"`{argument}`: numbers must be finite, or NaN where there is no truth. Received: infinity"
        with pytest.raises(auxzoo.UserError, match=message):
            fit(exact(HEIGHT), **sets, epochs=1, batch_size=2, compilation="graph", verbose=0)

    def test_a_label_without_a_logit_where_weights_are_averaged(self):
        batches = batches_of(surface=with_label(3)).map(lambda images, truth: (images, truth["surface"]))
        optimization = Optimization(ema_momentum=0.9)
        with pytest.raises(auxzoo.UserError, match="`train`: labels must be 0 to 2"):
            fit(exact(SURFACE), batches, epochs=1, optimization=optimization, compilation="graph", verbose=0)

    @pytest.mark.parametrize(
        ("own", "batches"),
        [
            ([SURFACE], batches_of().map(lambda images, truth: (images, (truth["surface"], truth["height"])))),
            (BOTH, batches_of().map(lambda images, truth: (images, {**truth, "height": (truth["height"],)}))),
            ([SURFACE], batches_of().map(lambda images, truth: ({"image": images}, truth["surface"]))),
        ],
        ids=["a pair of truths", "a tuple in the dict", "a dict of images"],
    )
    def test_batches_of_more_parts(self, own, batches):
        with pytest.raises(auxzoo.UserError, match="`train` must yield"):
            fit(tiny(own), batches, epochs=1, verbose=0)

    @pytest.mark.parametrize("argument", ["train", "validation"])
    @pytest.mark.parametrize(
        ("task", "none"),
        [(SURFACE, np.full((2, SIZE, SIZE), VOID)), (HEIGHT, np.full((2, SIZE, SIZE), NAN))],
        ids=["segmentation", "regression"],
    )
    def test_batches_without_any_truth(self, argument, task, none):
        sets = {"train": make_set(2, [task]), argument: batches_of(**{task.name: none})}
        sets[argument] = sets[argument].map(lambda images, truth: (images, truth[task.name]))
        message = f"`{argument}` must have truth for {task.name} somewhere. Received: none in any batch"
        with pytest.raises(auxzoo.UserError, match=message):
            fit(exact(task), **sets, epochs=1, batch_size=2, compilation="graph", verbose=0)

    def test_numbers_in_another_unit(self):
        kilometres = ImageSet.from_targets(
            np.zeros((2, SIZE, SIZE, 3), "uint8"),
            [Task("height", "regression", unit="km")],
            {"height": np.ones((2, SIZE, SIZE))},
        )
        message = "`images` must have height in m, as .* has; `factor` of a target converts. Received: km in arrays"
        with pytest.raises(auxzoo.UserError, match=message):
            evaluate(exact(HEIGHT), kilometres)

    @EACH
    @pytest.mark.parametrize("argument", ["train", "validation"])
    def test_images_without_any_truth_for_a_task(self, argument, task):
        sets = {"train": make_set(2), argument: without_truth(make_set(2, seed=1), task)}
        message = f"`{argument}` must have truth for {task.name} somewhere. Received: none in noise 1"
        with pytest.raises(auxzoo.UserError, match=message):
            fit(tiny(), **sets, epochs=1, batch_size=2, verbose=0)


class TestFit:
    def test_what_a_data_set_lacks_counts_nowhere(self, images):
        network = tiny()
        batches = images.batches(models.Preprocessing(SIZE, SIZE), 4)
        history = fit(network, batches, batches, epochs=1, compilation="graph", verbose=0)
        outputs = [network(batch, training=False) for batch, _ in batches]
        for task, metric in zip(TASKS, ("mean_iou", "root_mean_squared_error", "accuracy"), strict=True):
            predicted = [output[task.name].numpy() for output in outputs]
            truth = images.targets[task.name]
            expected = metric_by_hand(task, predicted, [truth[:4], truth[4:8], truth[8:]])
            assert history[f"val_{task.name}_{metric}"] == pytest.approx([expected], rel=1e-4)

    def test_one_task_is_taken_from_a_set_of_several_by_its_name(self, images):
        found = []
        for several in (images, images.with_tasks({"surface": "surface"})):
            network = tiny([SURFACE])
            options = {"epochs": 1, "batch_size": 5, "compilation": "graph", "verbose": 0}
            assert sorted(fit(network, several, **options)) == ["loss", "mean_iou"]
            found.append([variable.numpy() for variable in network.variables])
        assert_same(*found)

    @pytest.mark.parametrize("task", [SURFACE, HEIGHT], ids=["segmentation", "regression"])
    def test_it_learns(self, task):
        # The brightness of the left and of the right half of every image tells its class and its height.
        generator = np.random.default_rng(0)
        levels = np.repeat(np.repeat(generator.integers(0, 3, (24, 1, 2)), SIZE, axis=1), SIZE // 2, axis=2)
        pictures = (levels[..., None] * 90 + generator.integers(0, 60, (24, SIZE, SIZE, 3))).astype("uint8")
        truth = {"surface": levels, "height": levels * 200.0}[task.name]
        learnt = ImageSet.from_targets(pictures, [task], {task.name: truth})
        history = fit(
            tiny([task]),
            learnt,
            epochs=30,
            batch_size=8,
            optimization=Optimization(learning_rate=0.05, weight_decay=0),
            compilation="graph",
            verbose=0,
        )
        if task is SURFACE:
            assert history["mean_iou"][-1] > 0.8
        else:
            assert history["root_mean_squared_error"][-1] < 60  # a constant has 163 m


class TestFittingImages:
    def test_a_single_task_may_have_another_name(self):
        other = make_set(3, [Task("mask", "segmentation", LABELS)])
        found = fitting_images(tiny([SURFACE]), other, "train")
        assert [task.name for task in found.tasks] == ["surface"]
        np.testing.assert_array_equal(found.targets["surface"], other.targets["mask"])

    def test_only_the_tasks_of_the_network_are_left_in_its_order(self, images):
        found = fitting_images(tiny([KIND, SURFACE]), images, "train")
        assert [task.name for task in found.tasks] == list(found.targets) == ["kind", "surface"]

    def test_classes_are_told_by_their_names(self):
        """Of a set that lacks some, or has them in another order."""
        of_network = (Task("surface", "segmentation", (*LABELS, "snow")), Task("kind", "classification", tuple("abcd")))
        of_set = (Task("surface", "segmentation", ("rock", "water")), Task("kind", "classification", tuple("dbac")))
        masks = np.random.default_rng(0).choice([0, 1, VOID], (4, SIZE, SIZE))
        images = make_set(4, of_set, surface=masks, kind=[0, 3, MISSING, 1])
        found = fitting_images(tiny(of_network), images, "train")
        assert [task.labels for task in found.tasks] == [task.labels for task in of_network]
        np.testing.assert_array_equal(found.targets["kind"], [3, 2, MISSING, 1])
        np.testing.assert_array_equal(found.targets["surface"], np.select([masks == 0, masks == 1], [2, 0], VOID))
        assert {name: values.dtype for name, values in found.targets.items()} == {"surface": "uint8", "kind": "int64"}
        assert images.tasks == of_set, "the set itself is as it was"
        rows = np.empty(4, object)  # of pictures of several sizes
        for place in range(4):
            rows[place] = images.targets["surface"][place][: place + 1]
        several = dataclasses.replace(images, targets=images.targets | {"surface": rows})
        for place, target in enumerate(fitting_images(tiny(of_network), several, "train").targets["surface"]):
            np.testing.assert_array_equal(target, found.targets["surface"][place][: place + 1])

    @pytest.mark.parametrize(
        ("of_network", "of_set"),
        [(("a", "b", "c"), ("A", "B")), (("a", "b", "b"), ("a", "b")), (("a", "b", "c"), ("a", "d"))],
        ids=["other letters", "a name twice", "an unknown one"],
    )
    def test_classes_that_are_not_told_by_their_names_must_be_as_many(self, of_network, of_set):
        network = tiny([Task("kind", "classification", of_network)])
        with pytest.raises(auxzoo.UserError, match="as many classes as the network has logits, 3. Received: 2"):
            fitting_images(network, make_set(4, [Task("kind", "classification", of_set)]), "train")
        as_many = make_set(4, [Task("kind", "classification", (*of_set, "e"))])
        found = fitting_images(network, as_many, "train")
        np.testing.assert_array_equal(found.targets["kind"], as_many.targets["kind"])
        assert found.tasks == as_many.tasks


class TestEvaluate:
    @pytest.fixture(scope="class")
    @classmethod
    def network(cls, make_random):
        return make_random(tiny(BOTH))

    @pytest.fixture(scope="class")
    @classmethod
    def large(cls):
        """Images larger than the input, of another shape."""
        return make_set(5, BOTH, size=(21, 26), seed=2)

    @pytest.fixture(scope="class")
    @classmethod
    def predictions(cls, network, large):
        """What the network predicts for them, at the size of the truth."""
        ((batch, _),) = large.batches(network.description.preprocessing, 5)
        outputs = network(batch, training=False)
        return {
            name: np.stack([resized_by_hand(one.astype("float64"), (21, 26)) for one in output.numpy()])
            for name, output in outputs.items()
        }

    def test_a_segmentation_is_scored_at_the_size_of_its_truth(self, network, large, predictions):
        found, truth = evaluate(network, large), large.targets["surface"]
        predicted = predictions["surface"].argmax(axis=-1)
        expected = iou_by_hand(predicted, truth, 3)
        assert [found["surface_iou_of_classes"][label] for label in LABELS] == pytest.approx(expected, abs=2e-3)
        assert found["surface_mean_iou"] == pytest.approx(np.mean(expected), abs=2e-3)
        accuracy = (predicted == truth)[truth != VOID].mean()
        assert found["surface_pixel_accuracy"] == pytest.approx(accuracy, abs=2e-3)

    def test_a_regression_is_scored_at_the_size_of_its_truth(self, network, large, predictions):
        found, truth = evaluate(network, large), large.targets["height"]
        errors = predictions["height"][..., 0] - truth
        assert found["height_root_mean_squared_error"] == pytest.approx(np.sqrt(np.nanmean(errors**2)), rel=1e-4)
        assert found["height_mean_absolute_error"] == pytest.approx(np.nanmean(np.abs(errors)), rel=1e-4)
        assert found["height_targets"] == (~np.isnan(truth)).sum()

    def test_the_size_of_batches_does_not_matter(self, network, large):
        found, expected = evaluate(network, large, batch_size=2), evaluate(network, large)
        assert found.keys() == expected.keys()
        for name, value in found.items():  # convolutions of other batches may add in another order
            assert value == (pytest.approx(expected[name], rel=1e-6) if isinstance(value, float) else expected[name])

    @pytest.mark.parametrize("task", [SURFACE, HEIGHT, KIND], ids=lambda task: task.kind)
    def test_images_without_truth_count_nowhere(self, images, make_random, task):
        network = make_random(tiny([task]))
        truth = images.targets[task.name].copy()
        truth[[1, 4]] = {"segmentation": VOID, "regression": NAN, "classification": MISSING}[task.kind]
        # Beside another task, since a class an image that stands alone must be known.
        some = ImageSet.from_targets(
            images.records,
            TASKS,
            {name: truth if name == task.name else images.targets[name] for name in images.targets},
        )
        others = images.part([0, 2, 3, *range(5, 10)], "others")
        found, expected = evaluate(network, some), evaluate(network, others)
        assert (found.pop("images"), expected.pop("images")) == (10, 8)
        assert found == expected

    def test_every_class_is_told_by_its_label_and_one_that_is_nowhere_as_none(self):
        # Red, green, green and blue are predicted where the truth is the first class, the second, the third and none.
        pictures = np.zeros((1, 2, 2, 3), "uint8")
        for place, colour in enumerate((0, 1, 1, 2)):
            pictures[0, place // 2, place % 2, colour] = 200
        task = Task("surface", "segmentation", ("red", "green", "blue"))
        network = exact(task)
        preprocessing = models.Preprocessing(2, 2, "resize", (1.0,) * 3, (0.0,) * 3)
        small = keras.Input((2, 2, 3))
        network = described(
            small, network.get_layer("head")(small), models.Description((), preprocessing, (task,)), "small"
        )
        found = evaluate(network, ImageSet.from_targets(pictures, [task], {"surface": [[[0, 1], [2, VOID]]]}))
        assert found["iou_of_classes"] == {"red": 1.0, "green": 0.5, "blue": 0.0}
        found = evaluate(network, ImageSet.from_targets(pictures, [task], {"surface": [[[0, 1], [1, VOID]]]}))
        assert found["iou_of_classes"] == {"red": 1.0, "green": 1.0, "blue": None}
        assert found["mean_iou"] == 1.0

    def test_the_heads_of_a_joint_network_are_told_beside_it(self, images, make_random):
        joint = make_random(joint_of(tiny(BOTH)))
        found = evaluate(joint, images)
        outputs = joint(next(iter(images.batches(joint.description.preprocessing, 10)))[0], training=False)
        compact, *heads = outputs.values()
        for prefix, members in {"": [compact], "auxiliary_": heads, "joint_": [compact, *heads]}.items():
            for task in BOTH:
                predicted = np.mean([member[task.name].numpy() for member in members], axis=0)
                expected = metric_by_hand(task, [predicted], [images.targets[task.name]])
                metric = "mean_iou" if task is SURFACE else "root_mean_squared_error"
                assert found[f"{prefix}{task.name}_{metric}"] == pytest.approx(expected, rel=1e-4)

    def test_of_a_set_with_more_tasks_only_those_of_the_network_are_scored(self, images):
        found = evaluate(exact(HEIGHT), images)
        expected = np.sqrt(np.nanmean((images.records[..., 0] - images.targets["height"].astype("float64")) ** 2))
        assert found["root_mean_squared_error"] == pytest.approx(expected, rel=1e-5)
        assert not [name for name in found if name.startswith(("height", "surface", "kind"))]

    def test_images_for_another_task_are_refused(self, images):
        with pytest.raises(auxzoo.UserError, match="`images` must have truth for height, a regression"):
            evaluate(exact(HEIGHT), images.with_tasks({"surface": "surface", "kind": "kind"}))

    @pytest.mark.parametrize("task", BOTH, ids=["segmentation", "regression"])
    def test_padding_round_a_picture_is_no_part_of_the_prediction(self, task):
        pictures = np.random.default_rng(0).integers(0, 256, (2, 10, 12, 3)).astype("uint8")
        truth = pictures.argmax(axis=-1) if task is SURFACE else pictures[..., 0]
        found = evaluate(exact(task, "pad"), ImageSet.from_targets(pictures, [task], {task.name: truth}))
        assert found["mean_iou"] == 1.0 if task is SURFACE else found["root_mean_squared_error"] == 0.0

    def test_classes_in_place_of_logits_are_scored_alike(self, images):
        # As exported files may give them.
        generator = np.random.default_rng(0)
        logits = {
            "surface": generator.normal(size=(10, SIZE, SIZE, 3)),
            "height": generator.normal(size=(10, SIZE, SIZE, 1)),
            "kind": generator.normal(size=(10, 2)),
        }
        of_logits, of_classes = (Scores(images, models.Preprocessing(SIZE, SIZE)) for _ in range(2))
        of_logits.update(logits, 0)
        of_classes.update({**logits, "surface": logits["surface"].argmax(-1), "kind": logits["kind"].argmax(-1)}, 0)
        assert of_classes.result() == of_logits.result()

    def test_classes_of_another_size_than_the_truth_are_those_of_the_nearest_pixels(self, large):
        classes = np.random.default_rng(0).integers(0, 3, (5, SIZE, SIZE))
        scores = Scores(large.with_tasks({"surface": "surface"}), models.Preprocessing(SIZE, SIZE))
        scores.update(classes, 0)
        rows, columns = (((np.arange(size) + 0.5) * SIZE / size).astype(int) for size in (21, 26))
        expected = iou_by_hand(classes[:, rows][:, :, columns], large.targets["surface"], 3)
        assert list(scores.result()["iou_of_classes"].values()) == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("kind", np.zeros(10), "`predicted` must be integers. Received: float64"),
            (
                "kind",
                np.zeros((10, 2, 2)),
                r"a classification, must be \[batch, classes\] or \[batch\]. Received",
            ),
            ("surface", np.zeros((10, 3)), r"a segmentation, must be \[batch, rows, columns, classes\] or"),
            ("surface", np.full((10, SIZE, SIZE), 9), "`predicted` must be 0 to 2. Received: 9"),
            ("height", np.zeros((10, SIZE, SIZE)), r"a regression, must be \[batch, rows, columns, 1\]. Received"),
            ("height", np.zeros((10, SIZE, SIZE, 2)), "a regression, must be"),
            ("height", None, "`outputs` must have one called 'height'. Received: surface, kind"),
        ],
    )
    def test_predictions_of_another_shape(self, images, name, value, message):
        # As a file may give them that is of another network.
        outputs = {"surface": np.zeros((10, SIZE, SIZE, 3)), "kind": np.zeros((10, 2))}
        outputs |= {"height": np.zeros((10, SIZE, SIZE, 1))} | {name: value}
        outputs = {name: value for name, value in outputs.items() if value is not None}
        with pytest.raises(auxzoo.UserError, match=message):
            Scores(images, models.Preprocessing(SIZE, SIZE)).update(outputs, 0)

    def test_a_class_that_nobody_knows_is_wrong(self, images):
        kinds = images.with_tasks({"kind": "kind"})
        scores = Scores(kinds, models.Preprocessing(SIZE, SIZE))
        scores.update(np.full(10, 77), 0)
        assert scores.result() == {"accuracy": 0.0}

    def test_a_set_without_any_truth_for_a_task_is_refused(self):
        pictures = np.zeros((2, SIZE, SIZE, 3), "uint8")
        for task, value, kind in ((SURFACE, VOID, "uint8"), (HEIGHT, NAN, "float32")):
            images = ImageSet.from_targets(pictures, [task], {task.name: np.full((2, SIZE, SIZE), value, kind)})
            with pytest.raises(
                auxzoo.UserError, match=f"`images` must have truth for {task.name} somewhere. Received: none"
            ):
                Scores(images, models.Preprocessing(SIZE, SIZE))

    def test_what_no_target_counts_for_is_nothing(self):
        heights = np.full((2, SIZE, SIZE), -1.0, "float32")  # ratios are of targets above 0
        images = ImageSet.from_targets(np.zeros((2, SIZE, SIZE, 3), "uint8"), [HEIGHT], {"height": heights})
        scores = Scores(images, models.Preprocessing(SIZE, SIZE))
        scores.update(heights[..., None], 0)
        assert scores.result()["delta_1"] is None
        assert scores.result()["root_mean_squared_error"] == 0.0

    def test_a_prefix_begins_every_name(self, images):
        scores = Scores(images, models.Preprocessing(SIZE, SIZE))
        assert {f"file_{name}" for name in scores.result()} == set(scores.result("file_"))


SPLITS = {"train": 10, "validation": 3, "test": 4}
TARGETS = {
    "surface": {"kind": "segmentation", "labels": list(LABELS), "void": [3]},
    "height": {"kind": "regression", "unit": "m", "scale": 100, "feature": "depth", "factor": 0.1, "missing": -1},
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A folder of pictures of two sizes, with masks in which 3 is no class, and heights in decimetres."""
    folder = tmp_path_factory.mktemp("data") / "pairs"
    generator = np.random.default_rng(0)
    for split, count in SPLITS.items():
        for name in ("images", "surface", "depth"):
            (folder / split / name).mkdir(parents=True)
        for number in range(count):
            size = (16, 18) if number % 2 else (20, 16)
            picture = generator.integers(0, 256, (*size, 3)).astype("uint8")
            PIL.Image.fromarray(picture).save(folder / split / "images" / f"{number}.png")
            mask = generator.integers(0, 4, size).astype("uint8")
            PIL.Image.fromarray(mask).save(folder / split / "surface" / f"{number}.png")
            heights = np.where(generator.random(size) < 0.2, -1, generator.integers(0, 5000, size))
            np.save(folder / split / "depth" / f"{number}.npy", heights.astype("int16"))
    return folder


def settings_of(folder, **changes):
    """Returns the settings of a recipe that trains on the folder; groups are completed by the changes."""
    settings = {
        "name": "pairs",
        "network": {
            "architecture": "ResNet18",
            "arguments": {
                "input_shape": [SIZE, SIZE, 3],
                "width": 0.125,
                "stem": "small_stride2",
                "output_stride": 8,
            },
            "head_channels": 8,
        },
        "data": {"source": f"folder:{folder}", "targets": TARGETS, "validation_split": "validation"},
        "objective": {"class_weights": {"surface": "median_frequency"}, "task_weighting": "uncertainty"},
        "optimization": {"learning_rate": 0.01},
        "compute": {"compilation": "graph"},
        "epochs": 1,
        "batch_size": 5,
    }
    for group, change in changes.items():
        settings[group] = settings.get(group, {}) | change if isinstance(change, dict) else change
    return settings


@pytest.fixture(scope="module")
def make_recipe(pairs):
    """A function of changes that returns the recipe."""
    return lambda **changes: Recipe.parse(settings_of(pairs, **changes), "The recipe")


@pytest.fixture(scope="module")
def trained(pairs, tmp_path_factory):
    """The folder of a finished run, each task with an auxiliary of its own, as a YAML file says."""
    parent = tmp_path_factory.mktemp("trained")
    settings = settings_of(pairs, auxiliary={"tasks": "separate", "supervision": "hierarchical"})
    (parent / "pairs.yaml").write_text(json.dumps(settings))  # JSON is YAML
    return train(parent / "pairs.yaml", parent / "run", verbose=0)


class TestRecipe:
    def test_the_run_keeps_its_tasks(self, trained):
        tasks = [Task.from_dict(task) for task in read_json(trained / "config.json")["description"]["tasks"]]
        assert tasks == [Task("surface", "segmentation", LABELS), Task("height", "regression", unit="m", scale=100)]

    def test_the_run_tells_the_scores_of_every_task_and_head(self, trained):
        metrics = read_json(trained / "metrics.json")
        for split, count in (("validation", 3), ("test", 4)):
            of_heads = ("", "auxiliary_", "joint_")
            assert {f"{prefix}surface_{name}" for prefix in of_heads for name in ("mean_iou", "iou_of_classes")} | {
                f"{prefix}height_{name}" for prefix in of_heads for name in ("root_mean_squared_error", "delta_1")
            } <= set(metrics[split])
            assert metrics[split]["images"] == count
            assert set(metrics[split]["surface_iou_of_classes"]) == set(LABELS)
        history = {"val_surface_mean_iou", "val_height_root_mean_squared_error", "val_joint_surface_mean_iou"}
        assert history <= set(metrics["history"])

    def test_the_network_is_loaded_and_scores_what_the_run_tells(self, trained, make_recipe):
        network = models.load(trained)
        assert {name: output.shape[1:] for name, output in network.output.items()} == {
            "surface": (SIZE, SIZE, 3),
            "height": (SIZE, SIZE, 1),
        }
        _, _, test = open_data(make_recipe())
        found, told = evaluate(network, test), read_json(trained / "metrics.json")["test"]
        assert found == {name: told[name] for name in found}

    def test_what_the_target_says_is_no_truth_is_none(self, make_recipe):
        train_images, _, _ = open_data(make_recipe())
        masks = np.concatenate([mask.ravel() for mask in train_images.targets["surface"]])
        heights = np.concatenate([height.ravel() for height in train_images.targets["height"]])
        assert set(np.unique(masks)) == {0, 1, 2, VOID}
        assert np.isnan(heights).any()
        assert 0 <= np.nanmin(heights) < np.nanmax(heights) < 500

    def test_the_auxiliary_of_each_task_is_kept_in_the_structure(self, trained):
        structure = Structure.read(trained / "structure.json")
        assert structure == Structure.default(models.load(trained), supervision="hierarchical", tasks="separate")
        assert structure.tasks == "separate"

    def test_the_width_of_the_heads_is_that_of_the_recipe(self, trained, make_recipe):
        assert models.load(trained).get_layer("surface_aspp_pointwise").filters == 8
        wider = build_compact(make_recipe(network={"head_channels": 12}))
        assert wider.get_layer("height_aspp_pointwise").filters == 12

    def test_a_split_of_its_own_is_validated_and_the_training_split_kept_whole(self, make_recipe):
        train_images, validation, test = open_data(make_recipe())
        assert (train_images.size, validation.size, test.size) == (10, 3, 4)
        assert not validation.overlaps(train_images)

    def test_without_one_a_part_of_the_training_split_is_held_out(self, make_recipe):
        recipe = make_recipe(data={"validation_split": None, "validation_count": 4})
        train_images, validation, _ = open_data(recipe)
        assert (train_images.size, validation.size) == (6, 4)
        assert train_images.source == validation.source
        assert not train_images.overlaps(validation)

    @pytest.mark.parametrize(
        ("names", "outputs"),
        [(["height"], None), (["surface"], None), (["height", "surface"], ["height", "surface"])],
        ids=lambda value: " ".join(value or ["tensor"]),
    )
    def test_the_network_has_heads_for_the_tasks_that_it_names(self, make_recipe, names, outputs):
        network = build_compact(make_recipe(network={"tasks": names}))
        assert [task.name for task in network.description.tasks] == names
        assert (list(network.output) if isinstance(network.output, dict) else None) == outputs

    def test_without_labels_there_are_ten_classes_until_the_data_tell(self, make_recipe):
        targets = {"surface": {"kind": "segmentation"}, "height": {"kind": "regression"}}
        network = build_compact(make_recipe(data={"targets": targets}))
        assert network.output["surface"].shape[-1] == 10

    @pytest.mark.parametrize(
        ("target", "message"),
        [
            ({"labels": ["a"]}, r"`data.targets`: .*'surface' must have `kind`, and may have labels, .*void.*'labels'"),
            ({"kind": "depth"}, "`data.targets`: .*`kind` of task 'surface' must be one of .*'depth'"),
            ({"kind": "segmentation", "color": [1, 2, 3]}, "`data.targets`: .*may have labels, .*'color'"),
            ({"kind": "regression", "scale": 0}, "`data.targets`: .*`scale` of task 'surface' must be above 0"),
            ({"kind": "regression", "void": [3]}, "`data.targets`: .*`void` may be set only of a segmentation"),
            ({"kind": "segmentation", "void": 3}, "`data.targets`: .*`void` of 'surface' must be a list"),
            ({"kind": "segmentation", "factor": 2}, "`data.targets`: .*`factor` and `missing` may be set only"),
            ({"kind": "segmentation", "labels": [False]}, "`data.targets`: .*`labels` must be a list of names"),
            ("segmentation", "`data.targets.surface`: .*'segmentation'"),
        ],
        ids=lambda value: list(value)[-1] if isinstance(value, dict) else None,
    )
    def test_wrong_targets_are_named(self, make_recipe, target, message):
        with pytest.raises(auxzoo.UserError, match=message):
            make_recipe(data={"targets": {"surface": target}})

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"network": {"tasks": []}}, "`network.tasks`: .*at least 1"),
            ({"network": {"head_channels": 0}}, "`network.head_channels`: .*Received: 0"),
            ({"auxiliary": {"tasks": "each"}}, "`auxiliary.tasks`: .*'each'"),
            (
                {"data": {"targets": {"joint": {"kind": "regression"}}}},
                "`data.targets`: .*must not begin with .*'joint'",
            ),
            ({"data": {"targets": ["surface"]}}, "`data.targets`: .*'surface'"),
        ],
        ids=lambda value: (
            ".".join(str(part) for part in next(iter(value.items()))) if isinstance(value, dict) else None
        ),
    )
    def test_wrong_settings_are_named(self, make_recipe, changes, message):
        with pytest.raises(auxzoo.UserError, match=message):
            make_recipe(**changes)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"network": {"tasks": ["depth"]}}, "`network.tasks` must be among the data's, surface, height.*'depth'"),
            ({"network": {"tasks": ["height", "height"]}}, "`tasks` must have a name each"),
            ({"network": {"arguments": {"input_shape": [64, 64, 3], "width": 0.125}}}, "output stride of 16 or 8"),
            ({"objective": {"task_weights": {"depth": 1}}}, "`objective.task_weights` must name .*'depth'"),
            (
                {"data": {"validation_split": "middle"}},
                "must hold `images`, or `middle/images`. Received: split='middle'",
            ),
            ({"data": {"targets": TARGETS | {"normal": {"kind": "regression"}}}}, "train/normal` must hold the truth"),
        ],
        ids=["an unknown task", "a task twice", "another stride", "weights", "an unknown split", "no such folder"],
    )
    def test_what_does_not_fit_together_is_told_before_the_training(self, make_recipe, tmp_path, changes, message):
        with pytest.raises(auxzoo.UserError, match=message):
            train(make_recipe(auxiliary={"structure": "none"}, **changes), tmp_path / "run", verbose=0)
        assert not (tmp_path / "run" / "metrics.json").exists()

    def test_a_part_of_the_images_without_any_truth_is_told_before_the_training(
        self, make_recipe, make_search, tmp_path, monkeypatch
    ):
        recipe = make_recipe(auxiliary={"structure": "none"})
        train_images, validation_images, test_images = open_data(recipe)
        parts = (without_truth(train_images, SURFACE), validation_images, test_images)
        monkeypatch.setattr(run, "open_data", lambda recipe: parts)
        with pytest.raises(auxzoo.UserError, match="`the training images` must have truth for surface somewhere"):
            train(recipe, tmp_path / "run", verbose=0)
        # Of one image alone with truth, one of the two parts of a search has none.
        one_alone = without_truth(train_images, HEIGHT, but=3)
        monkeypatch.setattr(search_case, "open_data", lambda recipe: (one_alone, None, None))
        message = "`data, the part to (train on|judge structures by)` must have truth for height somewhere"
        with pytest.raises(auxzoo.UserError, match=message):
            search(make_search("gradient"), tmp_path / "found", verbose=0)
        assert not list(tmp_path.iterdir())

    @pytest.fixture
    def of_masks(self, pairs, make_recipe, tmp_path):
        """Returns a function of a change of masks to the recipe of pictures with such masks."""

        def recipe(change):
            folder = shutil.copytree(pairs, tmp_path / "masks")
            for path in (folder / "train" / "surface").iterdir():
                PIL.Image.fromarray(change(np.asarray(PIL.Image.open(path))).astype("uint8")).save(path)
            return make_recipe(data={"source": f"folder:{folder}"})

        return recipe

    def test_masks_of_0_and_255_are_told(self, of_masks):
        message = f"'surface' must show 2 classes or more .*Received: {LABELS[0]} alone, and .* of 255, which means"
        with pytest.raises(auxzoo.UserError, match=message):
            open_data(of_masks(lambda mask: np.where(mask == 1, 255, 0)))

    def test_classes_without_a_pixel_are_told(self, of_masks, caplog):
        open_data(of_masks(lambda mask: np.where(mask == 1, 0, mask)))
        assert f"No pixel of the training images is {LABELS[1]}, of surface." in caplog.text

    def test_an_entry_is_for_one_class_an_image(self, trained, make_recipe):
        network = {"architecture": None, "entry": str(trained), "arguments": {}}
        with pytest.raises(auxzoo.UserError, match="`data.targets` may be set only where `network.architecture` is"):
            build_compact(make_recipe(network=network))

    def test_broken_images_of_the_validation_split_are_told(self, pairs, make_recipe, tmp_path, monkeypatch):
        broken = shutil.copytree(pairs, tmp_path / "broken")
        (broken / "validation" / "images" / "0.png").write_bytes(b"no picture")
        monkeypatch.setattr(run, "fit", lambda *arguments, **options: {})
        monkeypatch.setattr(run, "read_progress", lambda path: Progress({"compilation": "graph"}))
        data = {"source": f"folder:{broken}", "skip_broken": True, "test_split": None}
        recipe = make_recipe(data=data, auxiliary={"structure": "none"}, network={"tasks": ["height"]}, objective={})
        metrics = read_json(train(recipe, tmp_path / "run", verbose=0) / "metrics.json")
        assert metrics["images"]["validation"] == 2
        assert metrics["broken_images_left_out"] == [str(broken / "validation" / "images" / "0.png")]


SEARCH = {
    "taps": ["stem", "stage1"],
    "operations": ["convolution_1x1", "identity"],
    "links": 2,
    "gate_count": 5,
    "every": 1,
    "perturbation": 1.0,
    "candidates": 2,
    "rounds": 1,
}


@pytest.fixture(scope="module")
def make_search(pairs):
    """A function that returns the recipe with a small search of so many epochs, by some method."""
    supervisions = {"gradient": "deep", "halving": "hierarchical"}  # both are gone through, each once

    def make(method, epochs=2):
        changes = SEARCH | {"method": method, "supervision": supervisions[method]}
        return SearchRecipe.parse(settings_of(pairs, search=changes, epochs=epochs), "The recipe")

    return make


@pytest.mark.slow
class TestSearch:
    @pytest.fixture(scope="class")
    @classmethod
    def search_by(cls, make_search, tmp_path_factory):
        """A function of the method that makes one search by each, in which steps are not timed."""

        def search_by(method):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(search_case, "seconds_per_step", lambda cases: [1.0] * len(cases))
                folder = tmp_path_factory.mktemp(method) / "found"
                return search(make_search(method), folder, progress=lambda line: None, verbose=0)

        return functools.cache(search_by)

    @pytest.fixture(params=["gradient", "halving"])
    def found(self, request, search_by):
        """The folder of a finished search."""
        return search_by(request.param)

    def test_leaves_a_structure_within_the_budget(self, found):
        structure = Structure.read(found / "structure.json")
        assert 1 <= sum(len(node.links) for node in structure.nodes) <= 2
        assert structure.tasks == "shared"

    @pytest.mark.parametrize("found", ["gradient"], indirect=True)
    def test_by_gradient_every_link_has_a_worth(self, found):
        worths = Structure.read(found / "structure.json").provenance["found"]["link_worths"]
        values = [one["worth"] for of_round in worths for one in of_round]
        assert len(values) >= 2
        assert all(np.isfinite(value) and value != 0 for value in values)

    @pytest.mark.parametrize("found", ["halving"], indirect=True)
    def test_by_halving_the_candidate_of_the_lowest_summed_loss_is_taken(self, found):
        structure = Structure.read(found / "structure.json")
        records = structure.provenance["found"]["candidates"]
        assert [record["metric"] for record in records] == ["summed_loss"] * 2
        assert len({record["value"] for record in records}) == 2
        best = min(records, key=lambda record: record["value"])
        assert Structure.from_dict(best["structure"]) == structure

    def test_its_structure_trains(self, found, make_recipe):
        recipe = make_recipe()
        network = auxzoo.attach(build_compact(recipe), Structure.read(found / "structure.json"))
        trainer = Trainer(network, Objective(), total_steps=1)
        trainer.compile(optimizer=recipe.optimization.build(1, trainer.trained_variables))
        train_images, _, _ = open_data(recipe)
        batch = next(iter(train_images.batches(network.description.preprocessing, 5)))
        auxiliary = [variable for variable in network.trainable_variables if "auxiliary" in variable.path]
        before = [variable.numpy() for variable in auxiliary]
        measured = trainer.train_step(batch)
        assert np.isfinite(float(measured["auxiliary_loss"]))
        assert not any(np.array_equal(one.numpy(), old) for one, old in zip(auxiliary, before, strict=True))


@pytest.mark.slow
class TestPerturbation:
    LINKS = (("stage1", "stem"), ("stage1", "stage1"))

    @pytest.fixture(scope="class")
    @classmethod
    def perturbed(cls, make_search, tmp_path_factory):
        """A super-network for two tasks, its perturbation, what its links are worth, and its weights before."""
        case = SearchCase(make_search("gradient"), tmp_path_factory.mktemp("case") / "step_costs.json")
        network = auxzoo.attach(case.compact(), case.space)
        objective = with_class_weights(case.recipe.objective, network, case.train)
        before = [variable.numpy() for variable in network.variables]
        perturbation = Perturbation(network, {"stage1": "convolution_1x1"}, case, objective, 2)
        return network, perturbation, perturbation.worths(cls.LINKS), before

    def test_every_link_is_worth_something_and_the_same_again(self, perturbed):
        _, perturbation, worths, _ = perturbed
        assert tuple(worths) == self.LINKS
        assert all(np.isfinite(worth) and worth != 0 for worth in worths.values())
        assert perturbation.worths(self.LINKS) == worths

    def test_the_gates_are_judged_with_the_learned_weights_of_tasks(self, make_search, tmp_path, monkeypatch):
        case = SearchCase(make_search("gradient"), tmp_path / "step_costs.json")
        network = auxzoo.attach(case.compact(), case.space)
        objective = with_class_weights(case.recipe.objective, network, case.train)
        settings = case.recipe.search.model_copy(update={"warm_up": 0.0})
        trainer = gate_trainer.GateTrainer(network, objective, 4, settings)
        trainer.compile(optimizer=case.recipe.optimization.build(4, trainer.trained_variables))
        trainer.uncertainty.assign([1.0, -2.0])
        judged = []

        def look(weights, gates, train_loss, validation_loss, *others):
            with tf.GradientTape() as tape:
                judged.append(validation_loss())
            # No gate is paid for moving these weights alone.
            assert tape.gradient(judged[0], trainer.uncertainty.value) is None
            return [tf.zeros(gate.shape) for gate in gates]

        monkeypatch.setattr(gate_trainer, "unrolled_gradient", look)
        to_train_on, to_judge_by = (next(iter(one.batches(case.preprocessing, 5))) for one in (case.train, case.gates))
        compact = auxzoo.detach(network)
        # Of the weights before the step: that looks at them in the middle.
        losses = objective.losses(to_judge_by[1], compact(to_judge_by[0], training=True), 1.0, trainer.tasks)
        trainer.train_step((to_train_on, to_judge_by))
        expected = np.exp(-1.0) * losses["surface_loss"] + 0.5 * np.exp(2.0) * losses["height_loss"] - 0.5
        np.testing.assert_allclose(judged, [expected], rtol=1e-4)

    def test_the_network_is_as_it_was(self, perturbed):
        network, _, _, before = perturbed
        assert_same([variable.numpy() for variable in network.variables], before)


@pytest.mark.slow
class TestStudy:
    """A study of arms with both tasks, beside an auxiliary, and with one each, carried out by the command.

    In this process: the children that do it otherwise are started in `test_study.py`.
    """

    METRICS = ("surface_mean_iou", "height_root_mean_squared_error")

    @staticmethod
    def run_here(module, folder, environment=None, arguments=None):
        """Stands in for `run_module`."""
        if module == "auxzoo.training.study_runner":
            study_runner._measure(folder)
            return
        command, recipe_file, option, run_folder, *_ = arguments
        assert (command, option) == ("train", "--to")
        train(recipe_file, run_folder, verbose=0)

    @pytest.fixture(scope="class")
    @classmethod
    def found(cls, pairs, tmp_path_factory):
        """The folder of the finished study, its file's folder, and its records by arm."""
        folder = tmp_path_factory.mktemp("study")
        # Classes of one task are weighed, and the other task, which not every arm has.
        recipe = settings_of(pairs, data={"test_split": "test"}, objective={"task_weights": {"height": 2.0}})
        (folder / "pairs.yaml").write_text(yaml.safe_dump(recipe))
        arms = {
            "joint": {"auxiliary.structure": "default"},
            "surface": {"auxiliary.structure": "none", "network.tasks": ["surface"]},
            "height": {"auxiliary.structure": "none", "network.tasks": ["height"]},
        }
        study = {
            "name": "pairs",
            "recipe": "pairs.yaml",
            "seeds": [0],
            "baselines": ["surface", "height"],
            "metrics": list(cls.METRICS),
            "improvements": [{"arm": "joint", "against": dict(zip(cls.METRICS, ("surface", "height"), strict=True))}],
            "keep_networks": True,
            "arms": arms,
        }
        (folder / "study.yaml").write_text(yaml.safe_dump(study))
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as output:
            patch.setattr(study_runner, "run_module", cls.run_here)
            patch.setattr(step_cost, "seconds_per_step", lambda cases: [1.0] * len(cases))
            command = ["study", str(folder / "study.yaml"), "--to", str(folder / "found"), "--processes", "1"]
            assert main(command) == 0
        records = {arm: read_json(folder / "found" / "records" / f"{arm}-seed0.json") for arm in arms}
        return folder / "found", records, output.getvalue()

    def test_every_arm_has_the_scores_of_its_tasks_alone(self, found):
        _, records, _ = found
        known = {
            "joint": {*self.METRICS, *(f"joint_{metric}" for metric in self.METRICS)},
            "surface": {"mean_iou"},
            "height": {"root_mean_squared_error"},
        }
        wanted = set().union(*known.values())
        for arm, names in known.items():
            scores = records[arm]["metrics"]["test"]
            assert wanted & set(scores) == names, arm
            assert all(np.isfinite(scores[name]) for name in names), arm

    def test_a_table_for_each_metric_has_the_arms_that_have_it(self, found):
        folder, records, output = found
        for summary, metric, single in zip(
            read_json(folder / "results.json")["metrics"], self.METRICS, ("surface", "height"), strict=True
        ):
            assert {row["arm"] for row in summary["arms"]} == {"joint", single}
            own = metric.removeprefix(f"{single}_")
            factor = 100 if own == "mean_iou" else 1
            for row in summary["arms"]:
                scores = records[row["arm"]]["metrics"]["test"]
                value = factor * scores[own if row["arm"] == single else metric]
                assert row["mean"] == pytest.approx(value, rel=1e-9)
                assert (f"{value:.2f}" if own == "mean_iou" else f"{value:,.4g}") in output
        assert "joint against height, surface, mean relative improvement over " in output

    def test_the_kept_networks_score_what_the_records_say(self, found, pairs):
        folder, records, _ = found
        for arm in ("joint", "height"):
            network = models.load(folder / "networks" / f"{arm}-seed0")
            _, _, images = open_data(Recipe.parse(settings_of(pairs, data={"test_split": "test"}), "The recipe"))
            scores = evaluate(network, images)
            for name, value in scores.items():
                assert records[arm]["metrics"]["test"][name] == pytest.approx(value, rel=1e-5), (arm, name)
