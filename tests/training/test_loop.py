"""The training loop: reproducible, resumable, and stopped by NaN."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import auxzoo
from auxzoo import models
from auxzoo.auxiliary import Structure
from auxzoo.data import Augmentation, ImageSet
from auxzoo.models.arguments import finish
from auxzoo.training import Objective, Optimization, Trainer, TrainingDiverged, fit, loop
from auxzoo.training.loop import RUN_STATE_FILE

LABELS = ("a", "b", "c")


def compact_network():
    """A network of three convolutions, described as ours are: most of a test is tracing."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8, 8, 3), name="image")
    taps = {}
    for tap, channels, stride in (("stem", 8, 1), ("stage1", 8, 1), ("stage2", 16, 2)):
        x = keras.layers.Conv2D(channels, 3, stride, "same", use_bias=False, kernel_initializer="he_normal")(x)
        x = keras.layers.BatchNormalization(momentum=0.9)(x)
        taps[tap] = x = keras.layers.ReLU()(x)
    return finish(inputs, x, taps, 3, LABELS, "resize", "small")


def joint_network():
    network = compact_network()
    return auxzoo.attach(network, Structure.default(network))


def network_with_dropout():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="first")(inputs)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    x = keras.layers.Dropout(0.5)(x)
    x = keras.layers.Conv2D(4, 3, activation="relu", name="second")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    return auxzoo.attach(model, Structure.default(model, taps=["first", "second"]))


def foreign_batches(size=8, kind="float32", labels=(0, 1)):
    """One batch as a data set of the user's own."""
    labels = np.array(labels)
    return tf.data.Dataset.from_tensors((np.zeros((len(labels), size, size, 3), kind), labels))


NETWORKS = {"compact": compact_network, "joint": network_with_dropout}
DESCRIPTION = models.Description(taps=(), preprocessing=models.Preprocessing(8, 8))
EPOCHS = 3


class StopAfter(keras.callbacks.Callback):
    """Ends the process's work in the middle of an epoch, as a kill would."""

    def __init__(self, epoch, step):
        super().__init__()
        self.epoch, self.step = epoch, step

    def on_epoch_begin(self, epoch, logs=None):
        self.current = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.current, batch) == (self.epoch, self.step):
            raise KeyboardInterrupt


def run(build, images, folder=None, callbacks=(), epochs=EPOCHS, seed=3, compilation="graph"):
    network = build()
    history = fit(
        network,
        images,
        images.sample(16, seed=0),
        epochs=epochs,
        batch_size=16,
        optimization=Optimization(ema_momentum=0.9, gradient_clip_norm=1.0, learning_rate=0.05),
        objective=Objective(auxiliary_schedule="decay_to_zero"),
        augmentation=Augmentation(flip=True, shift=1, erase=0.5),
        description=DESCRIPTION,
        seed=seed,
        folder=folder,
        callbacks=callbacks,
        compilation=compilation,
        verbose=0,
    )
    return [variable.numpy() for variable in network.variables], history


@pytest.fixture(scope="module")
def images(make_images):
    return make_images(64)


@pytest.fixture(scope="module", params=NETWORKS)
def undisturbed(request, images):
    build = NETWORKS[request.param]
    return build, *run(build, images)


def assert_same(variables, others):
    assert len(variables) == len(others)
    for variable, other in zip(variables, others, strict=True):
        np.testing.assert_array_equal(variable, other)


def test_same_seed_same_weights(undisturbed, images):
    build, weights, history = undisturbed
    again, other_history = run(build, images)
    assert_same(weights, again)
    assert history == other_history
    different, _ = run(build, images, seed=4)
    assert not all(np.array_equal(one, two) for one, two in zip(weights, different, strict=True))


def test_a_run_that_is_killed_again_and_again_ends_bit_identical(undisturbed, images, tmp_path):
    build, weights, history = undisturbed
    for epoch, step in ((0, 2), (1, 0), (2, 3)):
        with pytest.raises(KeyboardInterrupt):
            run(build, images, tmp_path, [StopAfter(epoch, step)])
    resumed, resumed_history = run(build, images, tmp_path)
    assert_same(weights, resumed)
    assert resumed_history == history


def test_a_kill_between_the_last_epoch_and_the_end_loses_nothing(undisturbed, images, tmp_path):
    build, weights, _ = undisturbed

    class StopAtEnd(keras.callbacks.Callback):
        def on_train_end(self, logs=None):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(build, images, tmp_path, [StopAtEnd()])
    resumed, _ = run(build, images, tmp_path)
    assert_same(weights, resumed)


def test_history_tells_both_networks(undisturbed):
    build, _, history = undisturbed
    assert {"loss", "accuracy", "val_accuracy"} <= set(history)
    assert all(len(values) == EPOCHS for values in history.values())
    joint = {"compact_loss", "auxiliary_loss", "distillation_loss", "val_auxiliary_accuracy", "val_joint_accuracy"}
    assert joint <= set(history) or build is compact_network


def test_training_a_joint_network_trains_the_compact_one(images):
    compact = compact_network()
    before = [weight.numpy() for weight in compact.trainable_weights]
    fit(auxzoo.attach(compact, Structure.default(compact)), images, epochs=1, batch_size=32, verbose=0)
    moved = [
        not np.array_equal(weight.numpy(), old) for weight, old in zip(compact.trainable_weights, before, strict=True)
    ]
    assert all(moved)


def test_it_learns(images):
    network = compact_network()
    history = fit(network, images, epochs=8, batch_size=16, verbose=0)
    assert history["accuracy"][-1] > 0.8


def test_xla_gives_nearly_the_same(images):
    plain, _ = run(compact_network, images, epochs=1)
    compiled, _ = run(compact_network, images, epochs=1, compilation="xla")
    for one, other in zip(plain, compiled, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-2)


def test_the_step_can_be_called_by_itself(images):
    network = joint_network()
    trainer = Trainer(network, Objective(), total_steps=10)
    trainer.compile(optimizer=Optimization().build(10, network.trainable_variables))
    batch = next(iter(images.batches(DESCRIPTION.preprocessing, 16)))
    logs = trainer.train_step(batch)
    assert float(logs["loss"]) > 0
    assert int(trainer.optimizer.iterations) == 1


def test_keras_callbacks_work(images, tmp_path):
    callbacks = [
        keras.callbacks.TensorBoard(tmp_path / "board"),
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=0, min_delta=1e9),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None),
    ]
    options = {"epochs": 5, "batch_size": 32, "verbose": 0}
    assert len(fit(compact_network(), images, images, callbacks=None, **options)["loss"]) == 5
    history = fit(compact_network(), images, images, callbacks=callbacks, **options)
    assert len(history["loss"]) == 2, "early stopping did not stop"
    assert list((tmp_path / "board").rglob("events.*"))
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize("build", [joint_network, compact_network])
def test_checkpoints_are_of_the_compact_network(images, tmp_path, build):
    network = build()
    files = [tmp_path / name for name in ("best.keras", "best.weights.h5")]
    callbacks = [keras.callbacks.ModelCheckpoint(file, save_weights_only="weights" in file.name) for file in files]
    averaged = Optimization(ema_momentum=0.9)
    fit(network, images, epochs=1, batch_size=32, optimization=averaged, callbacks=callbacks, verbose=0)
    trained = auxzoo.detach(network) if build is joint_network else network
    loaded, filled = models.load_keras_file(files[0]), compact_network()
    filled.load_weights(files[1])
    assert loaded.description == trained.description
    for other in (loaded, filled):
        assert_same([v.numpy() for v in trained.variables], [v.numpy() for v in other.variables])


def test_a_tensorflow_data_set_is_taken(images):
    batches = images.batches(DESCRIPTION.preprocessing, 16)
    history = fit(compact_network(), batches, batches, epochs=2, verbose=0)
    assert len(history["val_accuracy"]) == 2


def test_nan_stops_the_run_and_names_the_step(tmp_path):
    def batches(values):
        return tf.data.Dataset.from_tensor_slices(
            (
                np.array(values, "float32")[:, None, None, None, None] * np.ones((1, 4, 8, 8, 3), "float32"),
                np.zeros((len(values), 4), int),
            )
        )

    with pytest.raises(TrainingDiverged, match=r"loss became nan in epoch 1, step 3 \(step 3 of the run\)"):
        fit(compact_network(), batches([1, 1, np.nan, 1]), epochs=2, folder=tmp_path, verbose=0)
    assert list(tmp_path.iterdir()) == [], "a state with NaN was saved"


def test_an_update_that_explodes_in_the_last_step_is_not_saved(images, tmp_path):
    exploding = Optimization(schedule="constant", learning_rate=1e38, weight_decay=0)
    heavy = Objective(task_weights={"classification": 1e3})
    arguments = {"epochs": 1, "batch_size": 64, "optimization": exploding, "objective": heavy, "verbose": 0}
    with pytest.raises(TrainingDiverged, match=r"became NaN or infinite in epoch 1, last step \(step 1 of the run\)"):
        fit(compact_network(), images, folder=tmp_path, **arguments)
    assert list(tmp_path.iterdir()) == [], "a state with NaN was saved"


class TestAveragedWeights:
    """At a constant learning rate averaged weights are far from those that batch-norm's statistics belong to."""

    optimization = Optimization(schedule="constant", learning_rate=0.1, ema_momentum=0.95)

    def train(self, images, **arguments):
        network = compact_network()
        arguments = {"epochs": 10, "batch_size": 16, "optimization": self.optimization, "verbose": 0} | arguments
        return network, fit(network, images, **arguments)

    def test_they_predict_with_statistics_of_their_own(self, images):
        from auxzoo.training.evaluation import evaluate

        network, history = self.train(images, validation=images)
        assert evaluate(network, images)["accuracy"] > 0.9
        assert history["val_accuracy"][-1] == pytest.approx(evaluate(network, images)["accuracy"])

    def test_validating_does_not_change_the_training(self, images):
        with_validation, _ = self.train(images, validation=images, epochs=3)
        without, _ = self.train(images, epochs=3)
        assert_same([v.numpy() for v in with_validation.variables], [v.numpy() for v in without.variables])

    def test_the_training_itself_goes_on_with_its_own_weights(self, images):
        """What the average is used for must not reach the weights that are trained."""
        seen = {}

        class Remember(keras.callbacks.Callback):
            def __init__(self, name):
                super().__init__()
                self.name = name

            def on_train_batch_end(self, batch, logs=None):
                seen[self.name] = [variable.numpy() for variable in self.model.network.variables]

        self.train(images, validation=images, epochs=3, callbacks=[Remember("averaged")])
        self.train(
            images,
            epochs=3,
            callbacks=[Remember("plain")],
            optimization=self.optimization.model_copy(update={"ema_momentum": None}),
        )
        assert_same(seen["averaged"], seen["plain"])

    def test_other_callbacks_see_what_was_validated(self, images):
        accuracies = []

        class Look(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, logs=None):
                batch, classes = next(iter(images.batches(DESCRIPTION.preprocessing, images.size)))
                predicted = self.model.network(batch, training=False).numpy().argmax(1)
                accuracies.append((predicted == classes.numpy()).mean())

        _, history = self.train(images, validation=images, epochs=3, callbacks=[Look()])
        assert accuracies == pytest.approx(history["val_accuracy"])

    @pytest.mark.parametrize("with_others", [True, False])
    def test_statistics_are_measured_for_those_who_look(self, images, tmp_path, monkeypatch, with_others):
        seen, measured = [], []
        monkeypatch.setattr(loop, "run_trainer", lambda *arguments, averaging, **options: seen.append(averaging))
        others = [keras.callbacks.Callback()] if with_others else []
        self.train(images, callbacks=[keras.callbacks.TensorBoard(tmp_path), *others])
        monkeypatch.setattr(seen[0], "put_in", lambda: measured.append(True))
        seen[0].on_epoch_end(0)
        assert len(measured) == with_others
        seen[0].on_test_begin()
        assert len(measured) == with_others + 1

    def test_early_stopping_restores_the_weights_that_were_best(self, images):
        stopping = keras.callbacks.EarlyStopping(monitor="val_loss", patience=2, restore_best_weights=True)
        network, history = self.train(images, validation=images, epochs=12, callbacks=[stopping])
        batch, classes = next(iter(images.batches(DESCRIPTION.preprocessing, images.size)))
        loss = float(Objective().losses(classes, network(batch, training=False), 1.0)["loss"])
        assert loss == pytest.approx(min(history["val_loss"]), rel=1e-3)


def test_penalties_of_a_foreign_network_count(images):
    def network(strength):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.Conv2D(4, 3, kernel_regularizer=keras.regularizers.L2(strength))(inputs)
        return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(x)))

    losses = [
        fit(network(strength), images, epochs=1, batch_size=64, description=DESCRIPTION, verbose=0)["loss"][0]
        for strength in (0.0, 10.0)
    ]
    expected = 10 * float(tf.reduce_sum(network(0.0).layers[1].kernel ** 2))
    assert losses[1] - losses[0] == pytest.approx(expected, rel=1e-3)


class TestBadInput:
    def test_a_head_with_soft_max(self, images):
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.GlobalAveragePooling2D()(inputs)
        network = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x), name="probabilities")
        with pytest.raises(auxzoo.UserError, match=r"`network` must have logits .*'probabilities' with activation"):
            fit(network, images, epochs=1, description=DESCRIPTION)

    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("seed", {"seed": 1}),
            ("epochs", {"epochs": 3}),
            ("batch_size", {"batch_size": 16}),
            ("objective", {"objective": Objective(label_smoothing=0.2)}),
            ("optimization", {"optimization": Optimization(learning_rate=0.3)}),
            ("augmentation", {"augmentation": Augmentation(flip=True)}),
            ("compilation", {"compilation": "xla"}),
            (
                "preprocessing",
                {"description": models.Description((), models.Preprocessing.by_convention("unit", 8, 8))},
            ),
            ("train", {"train": "other"}),
        ],
    )
    def test_the_folder_of_another_run(self, images, make_images, tmp_path_factory, name, arguments):
        folder = self.finished_run(images, tmp_path_factory)
        if name == "train":
            arguments = {"train": make_images(64, seed=1)}
        arguments = {"train": images, "epochs": 2, "batch_size": 32, "folder": folder, "verbose": 0} | arguments
        with pytest.raises(auxzoo.UserError, match=rf"run_state.npz` belongs to another run: its `{name}` is"):
            fit(compact_network(), **arguments)

    def finished_run(self, images, tmp_path_factory):
        if not hasattr(TestBadInput, "folder"):
            TestBadInput.folder = tmp_path_factory.mktemp("finished")
            fit(compact_network(), images, epochs=2, batch_size=32, folder=TestBadInput.folder, verbose=0)
        return TestBadInput.folder

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"epochs": 0}, "`epochs` must be 1 or more. Received: epochs=0"),
            ({"epochs": 2.0}, "`epochs` must be 1 or more. Received: epochs=2.0"),
            ({"batch_size": 0}, "`batch_size` must be 1 or more. Received: batch_size=0"),
            ({"batch_size": 8.5}, "`batch_size` must be 1 or more. Received: batch_size=8.5"),
            ({"batch_size": 8.5, "train": [1, 2]}, "`batch_size` must be 1 or more. Received: batch_size=8.5"),
            ({"validation_every": True}, "`validation_every` must be 1 or more. Received: validation_every=True"),
            ({"callbacks": [keras.callbacks.BackupAndRestore("kept")]}, "`callbacks` must not have BackupAndRestore"),
            ({"compilation": "fast"}, '`compilation` must be "auto", "xla" or "graph"'),
            ({"batch_size": 65}, "`batch_size` must be at most the number of training images, 64"),
            ({"train": [1, 2]}, "`train` must be an ImageSet or a tf.data.Dataset. Received: list"),
            ({"validation": 7}, "`validation` must be an ImageSet, a tf.data.Dataset or None. Received: int"),
            ({"train": foreign_batches().take(0)}, "`train` must be a finite .* Received: an empty one"),
            ({"train": foreign_batches().repeat()}, "`train` must be a finite .* Received: an endless one"),
            ({"validation": foreign_batches().repeat()}, "`validation` must be a finite .* Received: an endless one"),
            ({"train": tf.data.Dataset.range(3)}, r"`train` must yield pairs \(images, truth\)"),
            ({"train": foreign_batches(size=9)}, r"`train` must yield images of float32 \[batch, 8, 8, 3\]"),
            ({"train": foreign_batches(kind="uint8")}, r"`train` must yield images of float32 .*Received: uint8"),
            ({"train": foreign_batches(labels=[[0], [1]])}, r"labels of whole numbers \[batch\].*int64 \(2, 1\)"),
            ({"train": foreign_batches(labels=[0.0, 1.0])}, r"labels of whole numbers \[batch\].*float"),
            ({"train": foreign_batches(), "augmentation": Augmentation(flip=True)}, "`augmentation` must be None"),
        ],
    )
    def test_arguments_are_named(self, images, arguments, message):
        with pytest.raises(auxzoo.UserError, match=message):
            fit(compact_network(), **{"train": images, "epochs": 1, "batch_size": 32, "verbose": 0} | arguments)

    def test_another_number_of_classes(self, make_images):
        with pytest.raises(auxzoo.UserError, match="`train` must have as many classes as .* logits, 3"):
            fit(compact_network(), make_images(32, classes=2), epochs=1, batch_size=8)

    def test_validation_of_other_classes(self, images, make_images):
        task = dataclasses.replace(images.tasks[0], labels=("class 0", "class 2", "class 1"))
        other = dataclasses.replace(make_images(16), tasks=(task,))
        message = "`validation` must have .*: number 1 of .* is 'class 1' there. Received: 'class 2' in noise 0"
        with pytest.raises(auxzoo.UserError, match=message):
            fit(compact_network(), images, other, epochs=1, batch_size=32)

    def test_half_precision(self, images):
        keras.config.set_dtype_policy("mixed_float16")
        try:
            network = compact_network()
        finally:
            keras.config.set_dtype_policy("float32")
        with pytest.raises(auxzoo.UserError, match="`network` must not compute in half precision.*in float16"):
            fit(network, images, epochs=1)

    def test_a_label_without_a_logit_in_a_foreign_data_set(self):
        batches = tf.data.Dataset.from_tensors((np.zeros((2, 8, 8, 3), "float32"), np.array([0, 3])))
        with pytest.raises(auxzoo.UserError, match="`train`: labels must be 0 to 2"):
            fit(compact_network(), batches, epochs=1, verbose=0)

    def test_a_network_without_head(self, images):
        with pytest.raises(auxzoo.UserError, match="`network` must have logits"):
            fit(models.ResNet18((8, 8, 3), 0.125, "small"), images, epochs=1)

    def test_a_foreign_network_without_description(self, images):
        with pytest.raises(auxzoo.UserError, match="`model` must be a network that carries a description"):
            fit(network_with_dropout(), images, epochs=1)

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", "truncated"])
    def test_a_damaged_run_state(self, images, tmp_path, content):
        fit(compact_network(), images, epochs=1, batch_size=32, folder=tmp_path, verbose=0)
        path = tmp_path / RUN_STATE_FILE
        path.write_bytes(path.read_bytes()[:4000] if content == "truncated" else content)
        with pytest.raises(auxzoo.UserError, match=r"run_state.npz` is not a readable run state"):
            fit(compact_network(), images, epochs=2, batch_size=32, folder=tmp_path, verbose=0)

    def test_the_run_state_of_another_network(self, images, tmp_path):
        fit(compact_network(), images, epochs=2, batch_size=32, folder=tmp_path, verbose=0)
        other = joint_network()
        before = [variable.numpy() for variable in other.variables]
        with pytest.raises(auxzoo.UserError, match=r"state of another network or optimiser: variable .* \(aux"):
            fit(other, images, epochs=2, batch_size=32, folder=tmp_path, verbose=0)
        assert_same(before, [variable.numpy() for variable in other.variables])


def test_evaluation_agrees_with_counting_by_hand(images):
    from auxzoo.training.evaluation import evaluate

    network = joint_network()
    result = evaluate(network, images, batch_size=7)
    batch, classes = next(iter(images.batches(DESCRIPTION.preprocessing, images.size)))
    outputs = network(batch)
    expected = (outputs["compact"].numpy().argmax(1) == classes.numpy()).mean()
    assert result["accuracy"] == pytest.approx(expected)
    assert set(result) == {"images", "accuracy", "auxiliary_accuracy", "joint_accuracy"}


def test_measuring_the_compilation_leaves_the_network_untouched():
    from auxzoo.training.compilation import measure_compilations

    network = network_with_dropout()  # with an auxiliary, and a seed that steps would move
    before = [variable.numpy() for variable in network.variables]
    python_state, numpy_state = __import__("random").getstate(), np.random.get_state()[1].copy()
    rates = measure_compilations(network, 4, Objective(), Optimization(), DESCRIPTION)
    assert set(rates) == {"graph", "xla"}
    assert all(rate > 0 for rate in rates.values())
    assert_same(before, [variable.numpy() for variable in network.variables])
    assert __import__("random").getstate() == python_state
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)


@pytest.mark.parametrize("error", [NotImplementedError, TypeError, ValueError, OSError])
def test_a_network_that_cannot_be_copied_is_not_compiled(monkeypatch, caplog, error):
    from auxzoo.training.compilation import choose_compilation

    def fail(self, path):
        raise error("of a layer without a configuration")

    network = compact_network()
    monkeypatch.setattr(type(network), "save", fail)
    assert choose_compilation(network, 4, Objective(), Optimization()) == "graph"
    assert "could not be saved: of a layer without a configuration" in caplog.text


def test_image_sets_of_arrays_train(images):
    arrays = ImageSet.from_arrays(np.asarray(images.records), images.classes, LABELS)
    assert fit(compact_network(), arrays, epochs=1, batch_size=32, verbose=0)["loss"]
