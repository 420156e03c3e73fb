"""`fit`: train a compact or joint network on images, resumably."""

from pathlib import Path

import keras
import tensorflow as tf

from auxzoo.data import Augmentation, ImageSet
from auxzoo.errors import UserError

from ..models.description import describe
from .callbacks import SaveRunState, StopOnNaN
from .compilation import choose_compilation
from .objective import Objective
from .optimization import Optimization
from .run_state import restore_run_state
from .trainer import Trainer

RUN_STATE_FILE = "run_state.npz"


def fit(
    network,
    train,
    validation=None,
    *,
    epochs,
    batch_size=128,
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
    killed. With an `ImageSet` the continued run is bit-identical to an undisturbed one, because the order and
    augmentation of the images derive from `(seed, epoch, step)` alone. A `tf.data.Dataset` is walked as it
    comes: there the same holds only if it yields the same batches each time.

    Args:
        network: functional Keras model: a compact network with logits of shape `[batch, classes]`, or a joint
            network made by `auxzoo.attach`.
        train: `ImageSet`, or `tf.data.Dataset` of batches `(images, labels)`: float32
            `[batch, height, width, 3]`, already preprocessed, and integers `[batch]`.
        validation: the same, or `None`.
        epochs: `int`, total number of epochs, those of an earlier part of the run included.
        batch_size: `int`, images a step; of `ImageSet`s only.
        objective: `Objective`, the losses and their schedule.
        optimization: `Optimization`, the optimiser and its schedule.
        augmentation: `auxzoo.data.Augmentation` of the training images; of `ImageSet`s only.
        description: `Description` with the preprocessing, for a network that carries none.
        seed: `int`, of the data order and augmentation.
        folder: folder of the run state; nothing is saved if `None`.
        compilation: `"xla"`, `"graph"` or `"auto"`, which times both on a copy in a child process when the
            training has 1,000 steps or more, and takes `"graph"` for less.
        callbacks: any Keras callbacks.
        verbose: as of `keras.Model.fit`.

    Returns:
        `dict` of metric name to a list of floats, one an epoch, earlier parts of the run included.

    Raises:
        UserError: if data, network and arguments do not fit together, or the run state is of another network.
        TrainingDiverged: if the loss becomes NaN or infinite; the message names the step.

    Example:
        >>> images = auxzoo.data.open_images("sample", "train").sample(256, seed=0)
        >>> network = auxzoo.models.ResNet18((32, 32, 3), width=0.25, stem="small", num_classes=10,
        ...                                  preprocessing_fit="pad")
        >>> history = auxzoo.fit(network, images, epochs=1, verbose=0)
        >>> sorted(history)
        ['accuracy', 'loss']
    """
    objective = objective or Objective()
    optimization = optimization or Optimization()
    if epochs < 1:
        raise UserError(f"`epochs` must be 1 or more. Received: epochs={epochs}")
    if compilation not in ("auto", "xla", "graph"):
        raise UserError(f'`compilation` must be "auto", "xla" or "graph". Received: compilation={compilation!r}')
    classes = number_of_classes(network)
    preprocessing = None
    if isinstance(train, ImageSet) or isinstance(validation, ImageSet):
        preprocessing = (description or describe(network)).preprocessing
    steps_per_epoch = _steps_per_epoch(train, batch_size)
    total_steps = steps_per_epoch * epochs

    if compilation == "auto":
        batch_shape = (batch_size, *network.input_shape[1:])
        compilation = (
            choose_compilation(network, batch_shape, classes, objective, optimization)
            if total_steps >= 1000
            else "graph"
        )
    trainer = Trainer(network, objective, total_steps)
    optimizer = optimization.build(total_steps, network.trainable_variables)
    optimizer.build(network.trainable_variables)
    trainer.compile(optimizer=optimizer, jit_compile=compilation == "xla")

    first_epoch, history = 0, {}
    state_file = Path(folder) / RUN_STATE_FILE if folder is not None else None
    if state_file is not None and state_file.exists():
        first_epoch, history = restore_run_state(state_file, trainer)

    run_callbacks = [StopOnNaN()]
    if optimization.ema_momentum is not None:
        # Swaps the average in for validation only; Keras keeps it for good at the end of `fit`.
        run_callbacks.append(keras.callbacks.SwapEMAWeights())
    run_callbacks += callbacks
    if state_file is not None:
        run_callbacks.append(SaveRunState(state_file, history))
    keras_history = trainer.fit(
        _training_batches(train, preprocessing, batch_size, seed, augmentation, first_epoch, classes),
        validation_data=_validation_batches(validation, preprocessing, batch_size, classes),
        initial_epoch=first_epoch,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        shuffle=False,
        callbacks=run_callbacks,
        verbose=verbose,
    )
    if state_file is not None:
        return history
    return {name: [float(value) for value in values] for name, values in keras_history.history.items()}


def number_of_classes(network):
    """Returns the number of logits of a compact or joint network for classification.

    Raises:
        UserError: if its outputs are not logits of shape `[batch, classes]`.
    """
    outputs = network.output if isinstance(network.output, dict) else {"output": network.output}
    shapes = {getattr(output, "shape", None) for output in outputs.values()}
    shape = shapes.pop()
    if shapes or shape is None or len(shape) != 2:
        raise UserError(
            "`network` must have logits of shape [batch, classes] as output; give it a head with "
            f"`num_classes=...`. Received: {network.name!r} with output {network.output}"
        )
    return shape[-1]


def _steps_per_epoch(train, batch_size):
    if isinstance(train, ImageSet):
        steps = train.size // batch_size
        if steps == 0:
            raise UserError(
                f"`batch_size` must be at most the number of training images, {train.size}. "
                f"Received: batch_size={batch_size}"
            )
        return steps
    if not isinstance(train, tf.data.Dataset):
        raise UserError(f"`train` must be an ImageSet or a tf.data.Dataset. Received: {type(train).__name__}")
    steps = int(train.cardinality())
    if steps == tf.data.UNKNOWN_CARDINALITY:
        steps = sum(1 for _ in train)
    if steps < 1:
        raise UserError(
            "`train` must be a finite tf.data.Dataset of at least one batch. Received: "
            + ("an endless one" if steps == tf.data.INFINITE_CARDINALITY else "an empty one")
        )
    return steps


def _training_batches(train, preprocessing, batch_size, seed, augmentation, first_epoch, classes):
    if isinstance(train, ImageSet):
        _check_classes(train, classes, "train")
        augmentation = augmentation or Augmentation()
        return train.training_batches(
            preprocessing, batch_size, seed=seed, augmentation=augmentation, first_epoch=first_epoch
        )
    if augmentation is not None:
        raise UserError("`augmentation` must be None with a tf.data.Dataset, which brings its own.")
    return _checked(train, classes, "train").repeat()


def _validation_batches(validation, preprocessing, batch_size, classes):
    if validation is None:
        return None
    if isinstance(validation, ImageSet):
        _check_classes(validation, classes, "validation")
        return validation.batches(preprocessing, batch_size)
    if not isinstance(validation, tf.data.Dataset):
        raise UserError(
            f"`validation` must be an ImageSet, a tf.data.Dataset or None. Received: {type(validation).__name__}"
        )
    return _checked(validation, classes, "validation")


def _check_classes(images, classes, argument):
    if len(images.labels) != classes:
        raise UserError(
            f"`{argument}` must have as many classes as the network has logits, {classes}. "
            f"Received: {len(images.labels)} classes in {images.name}"
        )


def _checked(dataset, classes, argument):
    """Returns a foreign data set that fails by name where a label has no logit: one-hot would make it a zero."""
    specification = dataset.element_spec
    if not (isinstance(specification, tuple) and len(specification) == 2):
        raise UserError(f"`{argument}` must yield pairs (images, labels). Received: {specification}")

    def check(images, labels):
        message = f"`{argument}`: labels must be 0 to {classes - 1}"
        with tf.control_dependencies(
            [
                tf.debugging.assert_non_negative(labels, message),
                tf.debugging.assert_less(labels, tf.cast(classes, labels.dtype), message),
            ]
        ):
            return tf.identity(images), tf.cast(labels, tf.int64)

    return dataset.map(check)
