"""Predictions for photographs of any size, by Keras networks and exported files alike."""

import numpy as np
import tensorflow as tf

from auxzoo.data import preprocess
from auxzoo.data.preprocessing import at_picture_size, check_padding, classes_at_picture_size
from auxzoo.data.targets import has_truth
from auxzoo.errors import UserError
from auxzoo.export.apart import LARGEST_ANSWER, SECONDS, FileApart
from auxzoo.pictures import draw_contact_sheet


class Predictor:
    """Predicts for one photograph at a time.

    Args:
        predict: function of float32 images `[1, height, width, 3]`, preprocessed, to what the network or file gives: a
            prediction, or a dict of task to prediction.
        description: `Description` with preprocessing and tasks.
        softmax: names of the classifications that give probabilities, not logits.
        classes: `dict` of task name to the number of its classes, where that is known.

    Raises:
        UserError: if the network has no task.

    Example:
        >>> predictor = Predictor(network.predict_on_batch, auxzoo.describe(network))
        >>> predictor(auxzoo.data.read_image("street.jpg"))["segmentation"].shape
        (360, 480)
    """

    def __init__(self, predict, description, softmax=(), classes=None):
        if not description.tasks:
            raise UserError(f"A network must have a head to predict. Received: one for {description.kinds}")
        self.predict, self.description = predict, description
        self.softmax, self.classes = softmax, classes or {}

    def __call__(self, photograph):
        """Returns what is predicted for a photograph.

        Args:
            photograph: uint8 `[rows, columns, channels]`.

        Returns:
            `dict` of task name to array: of a classification logits `[classes]`, or of a file that gives classes the
            class alone, `[]`; of a segmentation classes
            `[rows, columns]`, of a regression numbers `[rows, columns]`, both at the photograph's own size.

        Raises:
            UserError: if a photograph that shall be padded is too large.
        """
        preprocessing, tasks = self.description.preprocessing, self.description.tasks
        size = photograph.shape[:2]
        check_padding(*size, preprocessing)
        outputs = self.predict(preprocess(photograph, preprocessing)[None].numpy())
        outputs = outputs if isinstance(outputs, dict) else {tasks[0].name: outputs}
        found = {}
        for task in tasks:
            output = np.asarray(outputs[task.name])[0]
            if not task.is_dense:
                # Logits of which the soft-max gives the same probabilities.
                found[task.name] = np.log(np.maximum(output, 1e-30)) if task.name in self.softmax else output
                continue
            if task.kind == "segmentation" and output.ndim == 3:  # else a file that gives classes
                found[task.name] = classes_at_picture_size(output, size, preprocessing)
                continue
            output = at_picture_size(output, size, preprocessing)
            found[task.name] = output if output.ndim == 2 else output[..., 0]
        return found


def open_predictor(name, network=None, timeout=SECONDS, largest_answer=LARGEST_ANSWER):
    """Opens a network or a file to predict with.

    Args:
        name: a published network, a folder of one, or a `.keras`, `.tflite` or `.onnx` file.
        network: of a `.tflite` or `.onnx` file that tells nothing of itself: the network that it was exported from, in
            the same words, whose preprocessing and tasks it has.
        timeout: seconds, within which a file must be loaded, and then answer to each photograph.
        largest_answer: bytes, the limit of what a file gives for a photograph.

    Returns:
        `Predictor`.

    Raises:
        UserError: if one cannot be opened, or a file's metadata are not right.
    """
    from auxzoo import models

    if str(name).endswith((".tflite", ".onnx")):
        return _predictor_of_file(str(name), network, timeout, largest_answer)
    return predictor_of(models.load(name))


def predictor_of(network):
    """Returns the `Predictor` of a Keras network that carries a description.

    Raises:
        UserError: if it carries none.
    """
    from auxzoo import models

    predict = tf.function(lambda images: network(images, training=False), reduce_retracing=True)
    return Predictor(predict, models.describe(network))


def _predictor_of_file(path, network, timeout, largest_answer):
    from auxzoo import models
    from auxzoo.export.metadata import check_fits, check_same, classes_of, described_by, parse_metadata, tells_all

    runner = FileApart(path, timeout=timeout, largest_answer=largest_answer)
    metadata = parse_metadata(path)
    given = None if network is None else models.describe(models.load(network))
    if given is not None and not tells_all(metadata):
        check_fits(given, runner.tensors(), path, "--network")
        return Predictor(runner.predict, given)
    if metadata is None:
        raise UserError(f"`--network` must name the network that `{path}` is from: the file tells nothing of itself.")
    description = described_by(metadata, runner.tensors(), path)
    check_same(given, description, path, "--network")
    softmax = tuple(output.task for output in metadata.outputs if output.activation == "softmax")
    return Predictor(runner.predict, description, softmax, classes_of(metadata, runner.tensors()))


def draw_some(predictor, images, count, path, title="", seed=0, columns=None):
    """Draws some images of a set with truth and prediction beside each other.

    Args:
        predictor: `Predictor`.
        images: `ImageSet` with truth for the predictor's tasks, under their names.
        count: `int`, how many are chosen.
        path: `str` or `Path` of the PNG; classes for which the predictor has no names or colours are as in the set.
        title: `str`.
        seed: `int`, chooses them.
        columns: as of `draw_contact_sheet`.
    """
    chosen = images.sample(count, seed)
    photographs, truths = [], []
    for place in range(chosen.size):
        picture = chosen.picture(place)
        photographs.append(np.broadcast_to(picture[..., :3], (*picture.shape[:2], 3)))
        of_tasks = {task: chosen.targets[task.name][place] for task in chosen.tasks}
        truths.append(
            {task.name: truth for task, truth in of_tasks.items() if has_truth(np.asarray(truth), task).any()}
        )
    predictions = [predictor(photograph) for photograph in photographs]
    named = {task.name: task for task in chosen.tasks}
    tasks = tuple(task.completed(named.get(task.name, task)) for task in predictor.description.tasks)
    draw_contact_sheet(path, photographs, truths, predictions, tasks, title, columns)
