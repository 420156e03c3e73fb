"""Measuring one quantised file after the other on the same images, against the float32 file. For a child process."""

import dataclasses

import numpy as np

from auxzoo.data import ImageSet
from auxzoo.metric_names import is_main, is_share
from auxzoo.scores import Scores, batch_size_of

from .runtime import open_file


@dataclasses.dataclass(frozen=True)
class Subset:
    """The images that every trial is measured on.

    Attributes:
        images: `ImageSet` with truth for the network's outputs, called as they are.
        preprocessing: `auxzoo.models.Preprocessing`.
        has_truth: whether scores can be told; outputs are compared with the float32 file's in any case.
    """

    images: ImageSet
    preprocessing: object
    has_truth: bool = True


class Trials:
    """Measures files; the outputs of the float32 file are kept.

    Args:
        subset: `Subset`.
        float_content: `bytes` of the float32 file.
        folder: `Path` for the file under trial.

    Attributes:
        float: what `measure` says of the float32 file itself.
    """

    def __init__(self, subset, float_content, folder):
        self.subset, self.path = subset, folder / "trial.tflite"
        self._expected = None
        self.float, self._expected = self._run(float_content)
        self._spread = {name: max(float(values.std()), 1e-12) for name, values in self._expected.items()}

    def measure(self, content):
        """Returns what a file is worth on the subset.

        Returns:
            `dict`: `scores`, as `auxzoo.scores.Scores` gives them, or `None`; `error`, the mean absolute difference of
            its outputs to the float32 file's, as a share of their standard deviation (of classes: the share that
            differs), the largest of several outputs; `bytes`.
        """
        return self._run(content)[0]

    def _run(self, content):
        self.path.write_bytes(content)
        runner, images = open_file(self.path, threads=2), self.subset.images
        scores = Scores(images, self.subset.preprocessing) if self.subset.has_truth else None
        outputs, differences, done = {}, {}, 0
        for batch, _ in images.batches(self.subset.preprocessing, batch_size_of(images)):
            received = runner.predict(batch.numpy())
            if scores is not None:
                scores.update(received, done)
            for name, values in (received if isinstance(received, dict) else {"": received}).items():
                if self._expected is None:
                    outputs.setdefault(name, []).append(values)
                    continue
                expected = self._expected[name][done : done + len(values)]
                is_class = np.issubdtype(values.dtype, np.integer)
                difference = values != expected if is_class else np.abs(values - expected) / self._spread[name]
                differences[name] = differences.get(name, 0.0) + float(difference.mean()) * len(values)
            done += len(batch)
        measured = {
            "scores": None if scores is None else scores.result(),
            "error": max(differences.values()) / done if differences else 0.0,
            "bytes": len(content),
        }
        return measured, {name: np.concatenate(values) for name, values in outputs.items()}


def points(scores):
    """Returns the main metrics that are shares, accuracy or mean IoU of every task, in points: name -> 0 to 100."""
    return {name: 100 * value for name, value in scores.items() if is_main(name) and is_share(name)}


def drop_of(measured, reference):
    """Returns how many points a trial loses against another, of the task that loses most."""
    found, expected = points(measured["scores"]), points(reference["scores"])
    # Without the last bits: one image in a thousand is 0.1 points, not 0.10000000000000853.
    return round(max(expected[name] - found[name] for name in expected), 9)
