"""`fit`: train a compact or joint network on images, resumably."""

import contextlib
import dataclasses
import json
import re
from pathlib import Path

import keras
import tensorflow as tf

from auxzoo.data import Augmentation, ImageSet
from auxzoo.data.targets import check_some_truth
from auxzoo.errors import UserError
from auxzoo.metrics import MISSING_CLASS, VOID

from ..models.arguments import check_count
from ..models.description import describe
from .averaging import STATISTICS_IMAGES, AveragedWeights
from .callbacks import SaveRunState, StopOnNaN
from .class_weights import with_class_weights
from .compilation import choose_compilation
from .compute import check_precision
from .normalization import warn_of_slow_statistics
from .objective import Objective
from .optimization import Optimization
from .outputs import by_task, check_same_classes, compact_output, fitting_images, number_of_classes, trainable_tasks_of
from .run_state import Progress, read_progress, restore_run_state
from .task_losses import has_any_truth
from .trainer import Trainer

RUN_STATE_FILE = "run_state.npz"
_NUMBERS_RULE = "numbers must be finite, or NaN where there is no truth"
# Shorter runs are over before the timing of both ways has paid.
STEPS_WORTH_MEASURING = 1000


def fit(
    network,
    train,
    validation=None,
    *,
    epochs,
    batch_size=128,
    validation_every=1,
    objective=None,
    optimization=None,
    augmentation=None,
    description=None,
    seed=0,
    folder=None,
    compilation="auto",
    callbacks=(),
    verbose="auto",
):
    """Trains a compact or joint network in place.

    With `folder`, the state is saved there after every epoch and the same call continues a run that was
    killed. With an `ImageSet` the continued run is bit-identical to an undisturbed one (after `set_threads`, and on a
    CPU: on GPUs, where this was never run, operations may sum in any order), because the order and augmentation of the
    images derive from `(seed, epoch, step)` alone. A `tf.data.Dataset`
    is walked over again up to there: the same holds only if it yields the same batches each time. What callbacks
    remember (the patience of `EarlyStopping`) begins anew.

    With `optimization.ema_momentum` the averaged weights, with batch-norm statistics measured for them, are
    validated, seen by callbacks at the end of an epoch, and kept in the end.

    Args:
        network: functional Keras model: a compact network with logits `[batch, classes]` or at every pixel, with
            numbers at every pixel, or with a dict of such by task; or a joint network made by `auxzoo.attach`.
        train: `ImageSet` with truth for every task, or `tf.data.Dataset` of batches `(images, truth)`: float32
            `[batch, height, width, 3]`, already preprocessed; and what `Objective.losses` takes, integers `[batch]` of
            a classification, `[batch, height, width]` of a segmentation (255 where there is no truth), numbers of such
            a shape of a regression (NaN).
        validation: the same, or `None`.
        epochs: `int`, total number of epochs, those of an earlier part of the run included.
        batch_size: `int`, images a step; of `ImageSet`s only.
        validation_every: `int`, validates after every so manieth epoch.
        objective: `Objective`, the losses and their schedule.
        optimization: `Optimization`, the optimiser and its schedule.
        augmentation: `auxzoo.data.Augmentation` of the training images; of `ImageSet`s only.
        description: `Description` with the preprocessing, for a network that carries none.
        seed: `int`, of the data order and augmentation.
        folder: folder of the run state; nothing is saved if `None`.
        compilation: `"xla"`, `"graph"` or `"auto"`, which times both on a copy in a child process when the
            training has 1,000 steps or more, and takes `"graph"` for less; a continued run keeps its choice.
        callbacks: any Keras callbacks but `BackupAndRestore`, in whose place `folder` is. What `ModelCheckpoint` saves
            is the compact network.
        verbose: as of `keras.Model.fit`.

    Returns:
        `dict` of metric name to a list of floats, one an epoch, earlier parts of the run included.

    Raises:
        UserError: if data, network and arguments do not fit together, the network computes in half precision, a task
            has no truth in any image, or the folder holds another run.
        TrainingDiverged: if loss or weights become NaN or infinite; the message names the step.

    Example:
        >>> images = auxzoo.data.open_images("sample", "train").sample(256, seed=0)
        >>> network = auxzoo.models.ResNet18((32, 32, 3), width=0.25, stem="small", num_classes=10,
        ...                                  preprocessing_fit="pad")
        >>> history = auxzoo.fit(network, images, epochs=1, verbose=0)
        >>> sorted(history)
        ['accuracy', 'loss']
    """
    for name, count in (("epochs", epochs), ("batch_size", batch_size), ("validation_every", validation_every)):
        check_count(name, count)
    objective = objective or Objective()
    optimization = optimization or Optimization()
    if compilation not in ("auto", "xla", "graph"):
        raise UserError(f'`compilation` must be "auto", "xla" or "graph". Received: compilation={compilation!r}')
    callbacks = callbacks or ()
    if any(isinstance(callback, keras.callbacks.BackupAndRestore) for callback in callbacks):
        raise UserError(
            "`callbacks` must not have BackupAndRestore, which does not keep all that a run goes on with; `folder=...` "
            "does. Received: one"
        )
    check_precision(network)
    data = _Data(network, train, validation, batch_size, augmentation, description, seed)
    objective = with_class_weights(objective, network, data.train)
    total_steps = data.steps_per_epoch * epochs

    state_file = Path(folder) / RUN_STATE_FILE if folder is not None else None
    is_continued = state_file is not None and state_file.exists()
    if compilation == "auto" and is_continued:
        compilation = read_progress(state_file).settings["compilation"]
    elif compilation == "auto":
        compilation = "graph"
        if total_steps >= STEPS_WORTH_MEASURING:
            compilation = choose_compilation(network, data.batch_size, objective, optimization, description)
    settings = {
        "epochs": epochs,
        "seed": seed,
        "compilation": compilation,
        "objective": objective.model_dump(mode="json"),
        "optimization": optimization.model_dump(mode="json"),
        **data.settings(),
    }

    with optimization.frozen(network, description), _wrong_truth_told():
        trainer = Trainer(network, objective, total_steps)
        averaging = None
        if optimization.ema_momentum is not None:
            # TensorBoard looks at no weights.
            every_epoch = not all(isinstance(callback, keras.callbacks.TensorBoard) for callback in callbacks)
            averaging = AveragedWeights(network, data.first_batches(STATISTICS_IMAGES), every_epoch)
        else:
            warn_of_slow_statistics(network, total_steps)
        return run_trainer(
            trainer,
            optimization,
            data,
            epochs=epochs,
            settings=settings,
            state_file=state_file,
            averaging=averaging,
            callbacks=lambda progress: callbacks,
            validation_every=validation_every,
            verbose=verbose,
            rates=optimization.rates(network, description),
        )


def run_trainer(
    trainer, optimization, data, *, epochs, settings, state_file, averaging, callbacks, validation_every, verbose, rates
):
    """Compiles a trainer and runs it from where its state file, if there is one, stopped.

    Args:
        trainer: `Trainer`.
        optimization: `Optimization` of the weights.
        data: has `steps_per_epoch`, `training_batches(first_epoch)` and `validation_batches()`.
        epochs: `int`, of the whole run.
        settings: `dict` of all that the run depends on; `compilation` in it is carried out.
        state_file: `Path` of the run state, or `None`.
        averaging: `AveragedWeights`, or `None`.
        callbacks: function of the `Progress` that returns more Keras callbacks.
        validation_every: `int`, validates after every so manieth epoch.
        verbose: as of `keras.Model.fit`.
        rates: what `optimization.rates` returned.

    Returns:
        `dict` of metric name to a list of floats, one an epoch.
    """
    optimizer = optimization.build(trainer.total_steps, trainer.trained_variables, rates)
    optimizer.build(trainer.trained_variables)
    trainer.compile(optimizer=optimizer, jit_compile=settings["compilation"] == "xla")
    is_continued = state_file is not None and state_file.exists()
    progress = restore_run_state(state_file, trainer, settings) if is_continued else Progress(settings)
    keras_history = trainer.fit(
        data.training_batches(progress.epoch),
        validation_data=data.validation_batches(),
        validation_freq=validation_every,
        initial_epoch=progress.epoch,
        epochs=epochs,
        steps_per_epoch=data.steps_per_epoch,
        shuffle=False,
        callbacks=[
            StopOnNaN(),
            *([averaging] if averaging else []),
            *callbacks(progress),
            *([SaveRunState(state_file, progress, averaging)] if state_file else []),
        ],
        verbose=verbose,
    )
    if state_file is not None:
        return progress.history
    return {name: [float(value) for value in values] for name, values in keras_history.history.items()}


@contextlib.contextmanager
def _wrong_truth_told():
    """Tells of truth out of range, which shows when a foreign data set is read, as the user's mistake that it is."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        found = re.search(rf"`\w+`: (labels must be \S+ to \d+|{_NUMBERS_RULE})", str(error))
        if found is None:
            raise
        received = "infinity" if found[1] == _NUMBERS_RULE else "a label outside"
        raise UserError(f"{found[0]}. Received: {received}") from None


class _Data:
    """What a run reads, of either kind, checked against the network before the first step."""

    def __init__(self, network, train, validation, batch_size, augmentation, description, seed):
        self.tasks = trainable_tasks_of(network)
        self.augmentation, self.seed = augmentation, seed
        self.preprocessing = None
        if isinstance(train, ImageSet) or isinstance(validation, ImageSet):
            self.preprocessing = (description or describe(network)).preprocessing
        for argument, images in (("train", train), ("validation", validation)):
            if isinstance(images, ImageSet):
                images = fitting_images(network, images, argument)
                check_some_truth(images, argument)
            elif isinstance(images, tf.data.Dataset):
                _check_elements(images, network, self.tasks, argument)
            elif images is not None or argument == "train":
                allowed = {"train": "an ImageSet or a tf.data.Dataset"}.get(
                    argument, "an ImageSet, a tf.data.Dataset or None"
                )
                raise UserError(f"`{argument}` must be {allowed}. Received: {type(images).__name__}")
            setattr(self, argument, images)
        if isinstance(train, ImageSet) and isinstance(validation, ImageSet):
            check_same_classes(self.train, self.validation, "validation")
        if isinstance(train, ImageSet):
            self.batch_size = batch_size
            self.steps_per_epoch = train.size // batch_size
            if self.steps_per_epoch == 0:
                raise UserError(
                    f"`batch_size` must be at most the number of training images, {train.size}. "
                    f"Received: batch_size={batch_size}"
                )
        else:
            if augmentation is not None:
                raise UserError("`augmentation` must be None with a tf.data.Dataset, which brings its own.")
            self.steps_per_epoch = _count_batches(train, "train")
            self.train = _with_checked_truth(train, network, self.tasks, "train")
            self.batch_size = next(iter(train.take(1)))[0].shape[0]
        if isinstance(validation, tf.data.Dataset):
            _count_batches(validation, "validation")
            self.validation = _with_checked_truth(validation, network, self.tasks, "validation")

    def settings(self):
        """Returns what the order and content of the training batches depend on, as plain JSON types."""
        if isinstance(self.train, ImageSet):
            manifest = self.train.manifest()
            del manifest["source"]  # a folder may have been moved
            settings = {
                "batch_size": self.batch_size,
                "train": manifest,
                "augmentation": dataclasses.asdict(self.augmentation or Augmentation()),
                "preprocessing": dataclasses.asdict(self.preprocessing),
            }
            return json.loads(json.dumps(settings))  # as they come back from a file: lists, not tuples
        return {"train": {"element_spec": str(self.train.element_spec), "batches": self.steps_per_epoch}}

    def training_batches(self, first_epoch):
        """Returns the endless batches from an epoch on."""
        if isinstance(self.train, ImageSet):
            return self.train.training_batches(
                self.preprocessing, self.batch_size, self.seed, self.augmentation, first_epoch
            )
        # Walked over rather than begun anew: a seeded shuffle gives each epoch an order of its own.
        return self.train.repeat().skip(first_epoch * self.steps_per_epoch)

    def first_batches(self, images):
        """Returns the first training batches, about so many images of an epoch, to be read any number of times."""
        count = min(-(-images // self.batch_size), self.steps_per_epoch)
        if isinstance(self.train, ImageSet):
            return self.training_batches(first_epoch=0).take(count)
        # Kept: reading a shuffled set again would change the order that the training sees.
        return list(self.train.take(count))

    def validation_batches(self):
        """Returns the validation images in order, or `None`."""
        if isinstance(self.validation, ImageSet):
            return self.validation.batches(self.preprocessing, self.batch_size)
        return self.validation


def _count_batches(dataset, argument):
    batches = int(dataset.cardinality())
    if batches == tf.data.UNKNOWN_CARDINALITY:
        batches = sum(1 for _ in dataset)
    if batches < 1:
        raise UserError(
            f"`{argument}` must be a finite tf.data.Dataset of at least one batch. Received: "
            + ("an endless one" if batches == tf.data.INFINITE_CARDINALITY else "an empty one")
        )
    return batches


def _check_elements(dataset, network, tasks, argument):
    """Raises a `UserError` unless the set yields float32 batches of the network's input, and truth for every task."""
    elements, input_shape = dataset.element_spec, network.input_shape
    if not (isinstance(elements, tuple) and len(elements) == 2):
        raise UserError(f"`{argument}` must yield pairs (images, truth). Received: {elements}")
    images, truth = elements
    of_all = [images, *(truth.values() if isinstance(truth, dict) else [truth])]
    if not all(isinstance(element, tf.TensorSpec) for element in of_all):
        raise UserError(f"`{argument}` must yield tensors, or a dict of them as truth. Received: {elements}")
    if images.dtype != tf.float32 or not images.shape.is_compatible_with((None, *input_shape[1:])):
        raise UserError(
            f"`{argument}` must yield images of float32 [batch, {', '.join(map(str, input_shape[1:]))}], preprocessed. "
            f"Received: {images.dtype.name} {images.shape}"
        )
    if isinstance(truth, dict) != (len(tasks) > 1) or (
        len(tasks) > 1 and not {task.name for task in tasks} <= {*truth}
    ):
        raise UserError(
            f"`{argument}` must yield truth for {', '.join(task.name for task in tasks)}, in a dict where there are "
            f"several. Received: {truth}"
        )
    outputs = by_task(tasks, compact_output(network))
    for task in tasks:
        of_task = by_task(tasks, truth)[task.name]
        shape = (None, *outputs[task.name].shape[1:-1])
        is_right_type = of_task.dtype.is_floating if task.kind == "regression" else of_task.dtype.is_integer
        if not is_right_type or not of_task.shape.is_compatible_with(shape):
            values = "numbers" if task.kind == "regression" else "whole numbers"
            rule = f"labels of {values} [batch], one an image, not one-hot"
            if task.is_dense:
                rule = f"{values} [batch, {shape[1]}, {shape[2]}], one a pixel"
            raise UserError(f"`{argument}` must yield {rule}. Received: {of_task.dtype.name} {of_task.shape}")


def _with_checked_truth(dataset, network, tasks, argument):
    """Returns a foreign data set that fails by name where a label has no logit, or a number is infinite; it has truth.

    One-hot would make the label a zero; the loss would be infinite, and nobody would be told of what.
    """

    def checked(task, truth):
        if task.kind == "regression":
            truth = tf.cast(truth, tf.float32)
            is_right, message = ~tf.math.is_inf(truth), f"`{argument}`: {_NUMBERS_RULE}"
        else:
            truth = tf.cast(truth, tf.int64)
            # Where there is no truth, as in an `ImageSet`: a set for one class an image alone has none of that.
            none = VOID if task.is_dense else MISSING_CLASS if len(tasks) > 1 else 0
            classes = number_of_classes(network, task)
            is_right = (truth == none) | ((truth >= 0) & (truth < classes))
            message = f"`{argument}`: labels must be 0 to {classes - 1}"
        with tf.control_dependencies([tf.debugging.assert_equal(is_right, True, message)]):
            return tf.identity(truth)

    def check(images, truth):
        of_tasks = by_task(tasks, truth)
        found = {task.name: checked(task, of_tasks[task.name]) for task in tasks}
        return images, found if len(tasks) > 1 else found[tasks[0].name]

    dataset = dataset.map(check)
    _check_some_truth_of(dataset, tasks, argument)
    return dataset


def _check_some_truth_of(dataset, tasks, argument):
    """Raises a `UserError` if a foreign data set has a task without any truth; as a rule it looks at one batch.

    A classification alone is not looked at: it has a class for every image.
    """
    missing = [task for task in tasks if task.is_dense or len(tasks) > 1]
    if not missing:
        return
    with _wrong_truth_told():
        for _, truth in dataset:
            missing = [task for task in missing if not has_any_truth(task, by_task(tasks, truth)[task.name])]
            if not missing:
                return
    raise UserError(f"`{argument}` must have truth for {missing[0].name} somewhere. Received: none in any batch")
