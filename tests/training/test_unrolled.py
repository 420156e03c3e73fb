"""The gate gradient: zero without the unrolled step, right with it, in spite of what stops second derivatives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import auxzoo
from auxzoo.auxiliary import LinkGate, OperationChoice, Relaxation, SearchSpace
from auxzoo.training import Objective, Optimization, gate_trainer
from auxzoo.training.gate_trainer import GateTrainer
from auxzoo.training.outputs import tasks_of
from auxzoo.training.presence import heads_present
from auxzoo.training.search_settings import SearchSettings
from auxzoo.training.unrolled import exact_second_derivatives, unrolled_gradient

LEARNING_RATE = 0.1
DIFFERENCE = 1e-5  # of a logit, to each side
THREE = ("convolution_1x1", "identity", "convolution_3x3")


class Problem:
    """A toy network with batch-norm in float64, its super-network, and two batches."""

    def __init__(
        self,
        kind,
        objective,
        upsampling=None,
        supervision="hierarchical",
        rates=None,
        operations=("convolution_3x3",),
    ):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((6, 6, 3))
        x = inputs
        for place, stride in enumerate((1, 2, 1)):
            # Smooth: on the corner of ReLU differences and derivatives disagree.
            x = keras.layers.Conv2D(4, 3, strides=stride, padding="same", name=f"convolution{place}")(x)
            x = keras.layers.BatchNormalization(name=f"normalization{place}")(x)
            x = keras.layers.Activation("tanh", name=f"tap{place}")(x)
        if upsampling:
            outputs = upsampling(keras.layers.Conv2D(3, 1, name="head")(x))
        else:
            outputs = keras.layers.Dense(3, name="head")(keras.layers.GlobalAveragePooling2D()(x))
        network = keras.Model(inputs, outputs, name="toy")
        space = SearchSpace.default(
            network,
            # The second node reads the first through a batch-norm, whose second derivatives matter then: what it sees
            # depends on the gates. So does what the operation sees.
            taps=["tap0", "tap1", "tap2"],
            operations=list(operations),
            relaxation=Relaxation(kind, first_probability=0.6),
            supervision=supervision,
        )
        self.supervision = supervision
        self.joint = auxzoo.attach(network, space)
        self.compact = auxzoo.detach(self.joint)
        generator = np.random.default_rng(0)
        for variable in self.joint.trainable_variables:
            if variable.name in ("beta", "bias"):  # zeros leave units on a corner
                variable.assign(generator.normal(0, 0.3, variable.shape))
        self.objective, self.tasks = objective, tasks_of(network)
        self.batches = [
            (
                tf.constant(generator.normal(size=(5, 6, 6, 3))),
                tf.constant(generator.integers(0, 3, (5, 6, 6) if upsampling else 5)),
            )
            for _ in range(2)
        ]
        self.links = [layer for layer in self.joint.layers if isinstance(layer, LinkGate)]
        self.gates = [layer.logit for layer in self.links]
        switches = {id(gate) for gate in self.gates}
        switches |= {id(layer.logits) for layer in self.joint.layers if isinstance(layer, OperationChoice)}
        self.weights = [one for one in self.joint.trainable_variables if id(one) not in switches]
        self.rates = [1.0] * len(self.weights) if rates is None else list(np.resize(rates, len(self.weights)))
        self.state = [(one, tf.identity(one.value)) for one in self.joint.non_trainable_variables]

    def train_loss(self, detached=keras.ops.stop_gradient):
        images, labels = self.batches[0]
        with heads_present(self.joint, self.supervision) as presence:
            outputs = self.joint(images, training=True)
        return self.objective.losses(labels, outputs, 0.5, self.tasks, detached, presence=presence())["loss"]

    def validation_loss(self):
        images, labels = self.batches[1]
        return self.objective.losses(labels, self.compact(images, training=True), 1.0, self.tasks)["loss"]

    def gradient(self, **options):
        return unrolled_gradient(
            self.weights,
            self.gates,
            self.train_loss,
            self.validation_loss,
            LEARNING_RATE,
            state=self.state,
            rates=self.rates,
            **options,
        )

    def unrolled(self, **options):
        return [float(value) for value in self.gradient(**options)]

    def loss_after_the_step(self):
        """The compact validation loss after one real step of all weights; everything is as before then."""
        before = [(one, one.numpy()) for one in self.joint.variables]
        for variable, value in self.state:
            variable.assign(value)
        with tf.GradientTape() as tape:
            loss = self.train_loss()
        gradients = tape.gradient(loss, [weight.value for weight in self.weights])
        for weight, rate, gradient in zip(self.weights, self.rates, gradients, strict=True):
            if gradient is not None:
                weight.assign(weight.value - LEARNING_RATE * rate * tf.convert_to_tensor(gradient))
        result = float(self.validation_loss())
        for variable, value in before:
            variable.assign(value)
        return result

    def brute_force(self):
        results = []
        for gate in self.gates:
            value = float(gate)
            losses = []
            for sign in (1, -1):
                gate.assign(value + sign * DIFFERENCE)
                losses.append(self.loss_after_the_step())
            gate.assign(value)
            results.append((losses[0] - losses[1]) / (2 * DIFFERENCE))
        return results


@pytest.fixture
def make_problem(request):
    """A function that makes a `Problem` in float64, of hard-concrete gates where a test does not say otherwise."""
    kind = getattr(request, "param", "hard_concrete")
    policy = keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield lambda objective=Objective(), **options: Problem(kind, objective, **options)  # noqa: B008  (frozen)
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy(policy)


BOTH_KINDS = pytest.mark.parametrize("make_problem", ["sigmoid", "hard_concrete"], indirect=True)


@BOTH_KINDS
def test_the_first_order_gradient_is_nothing(make_problem):
    problem = make_problem()
    with tf.GradientTape() as tape:
        outputs = problem.joint(problem.batches[1][0], training=True)["compact"]
        loss = problem.objective.losses(problem.batches[1][1], outputs, 1.0)["loss"]
    assert tape.gradient(loss, [gate.value for gate in problem.gates]) == [None] * len(problem.gates)


@pytest.mark.parametrize(
    "make_layer",
    [lambda: keras.layers.Resizing(6, 6), lambda: keras.layers.UpSampling2D(2, interpolation="bilinear")],
    ids=["resizing", "upsampling"],
)
def test_behind_bilinear_resizing_it_is_that_of_the_whole_step(make_problem, make_layer):
    upsampling = make_layer()
    problem = make_problem(upsampling=upsampling)
    with exact_second_derivatives(problem.joint):
        # TensorFlow's own resizing computes in float32, too coarse for differences.
        found, by_differences = problem.unrolled(), problem.brute_force()
    np.testing.assert_allclose(found, by_differences, rtol=1e-4, atol=1e-9)
    # TensorFlow takes the gradient of its own resizing for a constant.
    assert "call" not in vars(upsampling)
    assert not np.allclose(problem.unrolled(), by_differences, rtol=0.01)


@BOTH_KINDS
@pytest.mark.parametrize("distillation_weight", [0.0, 1.0])
@pytest.mark.parametrize("supervision", ["hierarchical", "deep"])
def test_the_unrolled_gradient_is_that_of_the_whole_step(make_problem, distillation_weight, supervision):
    problem = make_problem(Objective(distillation_weight=distillation_weight), supervision=supervision)
    with exact_second_derivatives(problem.joint):
        eager = problem.unrolled()
        if distillation_weight and supervision == "deep":  # as searches are by default
            graph = tf.function(lambda: tf.stack(problem.gradient()))().numpy()
            np.testing.assert_allclose(graph, eager, rtol=1e-9)
    expected = problem.brute_force()
    assert max(map(abs, expected)) > 1e-7
    np.testing.assert_allclose(eager, expected, rtol=1e-4, atol=1e-6 * max(map(abs, expected)))


def test_with_several_operations_it_is_that_of_the_one_that_is_drawn(make_problem):
    """Each node draws one a step, from a seed that is put back for every look at the same step."""
    problem = make_problem(operations=THREE)
    choices = [layer for layer in problem.joint.layers if isinstance(layer, OperationChoice)]
    assert {len(choice.operations) for choice in choices} == {3}
    with exact_second_derivatives(problem.joint):
        found = problem.unrolled()
    expected = problem.brute_force()
    assert max(map(abs, expected)) > 1e-7
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * max(map(abs, expected)))


def test_operations_are_moved_by_the_probability_of_the_one_that_is_drawn(make_problem, monkeypatch):
    """As if what it gives were multiplied by that probability over what it is now."""
    problem = make_problem(operations=THREE)
    choices = [layer for layer in problem.joint.layers if isinstance(layer, OperationChoice)]
    problem.gates = [choice.logits for choice in choices]
    with exact_second_derivatives(problem.joint):
        found = np.stack(problem.gradient())
    drawn, switch = [], keras.ops.switch

    def recording(index, branches, *operands):
        drawn.append(int(index))
        return switch(index, branches, *operands)

    monkeypatch.setattr(keras.ops, "switch", recording)
    for choice in choices:
        first, real = choice.probabilities().numpy(), choice.call

        def weighed(inputs, training=None, choice=choice, first=first, real=real):
            result = real(inputs, training=training)
            return result * (1 + choice.probabilities()[drawn[-1]] - first[drawn[-1]])

        choice.call = weighed
    expected = np.zeros(found.shape)
    for row, logits in zip(expected, problem.gates, strict=True):
        value = logits.numpy()
        for place in range(len(row)):
            losses = []
            for sign in (1, -1):
                logits.assign(value + sign * DIFFERENCE * np.eye(len(row))[place])
                losses.append(problem.loss_after_the_step())
            row[place] = (losses[0] - losses[1]) / (2 * DIFFERENCE)
        logits.assign(value)
    assert np.abs(expected).max(axis=1).min() > 1e-8, "every node's logits matter"
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-9 * np.abs(found).max())


def test_weights_with_rates_of_their_own_count_by_them(make_problem):
    problem = make_problem(rates=[0.1, 1.0, 2.0])
    with exact_second_derivatives(problem.joint):
        found = problem.unrolled()
    expected = problem.brute_force()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6 * max(map(abs, expected)))
    problem.rates = [1.0] * len(problem.weights)
    assert not np.allclose(problem.brute_force(), expected, rtol=0.01)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # of the operations that are not drawn
def test_a_step_of_the_search_moves_the_gates_by_it(make_problem, monkeypatch):
    """With random gates, links that are dropped, one of three operations a step, a head in every node, and rates."""
    problem = make_problem(supervision="deep", rates=[0.1, 1.0, 2.0], operations=THREE)
    trainer = GateTrainer(problem.joint, problem.objective, 10, SearchSettings(links=1, warm_up=0, every=1, drop=0.3))
    optimization = Optimization(schedule="constant", learning_rate=LEARNING_RATE, weight_decay=0)
    rates = dict(zip(map(id, problem.weights), problem.rates, strict=True))
    optimizer = optimization.build(10, trainer.trained_variables, rates)
    optimizer.build(trainer.trained_variables)
    trainer.compile(optimizer=optimizer)
    problem.state = [(one, tf.identity(one.value)) for one in problem.joint.non_trainable_variables]
    found, moved = [], []

    def unrolled_in_float64(weights, gates, train_loss, validation_loss, learning_rate, *rest):
        learning_rate = tf.cast(learning_rate, tf.float64)  # the trainer's own is in float32
        found.extend(unrolled_gradient(weights, gates, train_loss, validation_loss, learning_rate, *rest))
        return [tf.cast(gradient, tf.float32) for gradient in found]

    monkeypatch.setattr(gate_trainer, "unrolled_gradient", unrolled_in_float64)
    monkeypatch.setattr(trainer.gates, "move", moved.extend)
    before = [(one, one.numpy()) for one in problem.joint.variables]
    with exact_second_derivatives(problem.joint):
        trainer.train_step(tuple(problem.batches))
    for variable, value in before:
        variable.assign(value)
    expected = np.array(problem.brute_force())
    largest = np.abs(expected).max()
    assert largest > 1e-7
    np.testing.assert_allclose(found[: len(expected)], expected, rtol=1e-4, atol=1e-6 * largest)
    np.testing.assert_allclose(
        moved[: len(expected)], expected / LEARNING_RATE, rtol=1e-4, atol=1e-6 * largest / LEARNING_RATE
    )


def test_without_exact_moments_it_would_be_wrong(make_problem):
    problem = make_problem(Objective(distillation_weight=0.0))
    expected = problem.brute_force()
    assert np.max(np.abs(np.array(problem.unrolled()) - expected)) > 1e-3 * max(map(abs, expected))


def test_with_the_teacher_stopped_it_would_be_wrong(make_problem):
    problem = make_problem()
    stopped = problem.train_loss
    problem.train_loss = lambda detached=None: stopped(keras.ops.stop_gradient)
    with exact_second_derivatives(problem.joint):
        wrong = problem.unrolled()
    expected = problem.brute_force()
    assert np.max(np.abs(np.array(wrong) - expected)) > 1e-3 * max(map(abs, expected))


def test_it_changes_no_variable(make_problem):
    problem = make_problem()
    before = [one.numpy() for one in problem.joint.variables]
    with exact_second_derivatives(problem.joint):
        problem.unrolled()
    for variable, value in zip(problem.joint.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)


def test_a_known_gradient_of_the_weights_gives_the_same(make_problem):
    problem = make_problem()
    with exact_second_derivatives(problem.joint):
        with tf.GradientTape() as tape, keras.StatelessScope(problem.state):
            loss = problem.train_loss()
        known = tape.gradient(loss, [weight.value for weight in problem.weights])
        np.testing.assert_allclose(problem.unrolled(train_gradient=known), problem.unrolled(), rtol=1e-9)


def test_exact_moments_change_neither_values_nor_first_derivatives(make_problem):
    problem = make_problem()

    def measured():
        with tf.GradientTape() as tape, keras.StatelessScope(problem.state):
            loss = problem.train_loss()
        gradients = tape.gradient(loss, [weight.value for weight in problem.weights])
        return [loss, *[tf.convert_to_tensor(one) for one in gradients if one is not None]]

    stock = measured()
    with exact_second_derivatives(problem.joint):
        exact = measured()
    for one, other in zip(stock, exact, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)
    for one, other in zip(stock, measured(), strict=True):  # put back
        np.testing.assert_array_equal(one, other)
