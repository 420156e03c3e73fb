"""Scores of a classification with details: every class, and what is among the likeliest."""

import numpy as np
import pytest

import auxzoo
from auxzoo.data import ImageSet
from auxzoo.models import Preprocessing
from auxzoo.scores import Scores

PREPROCESSING = Preprocessing(8, 8)


def score(labels, classes, outputs, **options):
    images = ImageSet.from_arrays(np.zeros((len(classes), 8, 8, 3), "uint8"), classes, labels)
    scores = Scores(images, PREPROCESSING, **options)
    for first in range(0, len(classes), 4):
        scores.update(outputs[first : first + 4], first)
    return scores.result()


@pytest.fixture(scope="module")
def guessed():
    """True classes of seven, of which the last is nowhere, and logits of nobody's network."""
    generator = np.random.default_rng(0)
    return np.arange(42) % 6, generator.normal(size=(42, 7)).astype("float32")


LABELS = tuple("abcdefg")


def test_nothing_more_is_told_unless_asked_for(guessed):
    classes, logits = guessed
    assert score(LABELS, classes, logits) == {"accuracy": (logits.argmax(1) == classes).mean()}


def test_every_class_is_told(guessed):
    classes, logits = guessed
    found = score(LABELS, classes, logits, details=True)
    is_right = logits.argmax(1) == classes
    shares = {label: is_right[classes == place].mean() for place, label in enumerate(LABELS[:6])}
    assert found["accuracy_of_classes"] == pytest.approx(shares | {"g": None})
    assert found["images_of_classes"] == dict.fromkeys(LABELS[:6], 7) | {"g": 0}
    assert found["mean_accuracy_of_classes"] == pytest.approx(np.mean(list(shares.values())))
    mistakes = list(found["mistakes_of_classes"]["a"].items())
    counts = np.bincount(logits.argmax(1)[(classes == 0) & ~is_right], minlength=len(LABELS))
    assert dict(mistakes) == {label: count for label, count in zip(LABELS, counts.tolist(), strict=True) if count}
    assert [count for _, count in mistakes] == sorted(counts[counts > 0].tolist(), reverse=True)
    place_of_truth = (logits > np.take_along_axis(logits, classes[:, None], 1)).sum(1)
    assert found["top_5_accuracy"] == (place_of_truth < 5).mean() > found["accuracy"]


def test_of_classes_alone_the_likeliest_are_not_told(guessed):
    classes, logits = guessed
    predicted = logits.argmax(1)
    with_logits = score(LABELS, classes, logits, details=True)
    del with_logits["top_5_accuracy"]
    assert score(LABELS, classes, predicted, details=True) == with_logits
    predicted[:6] = 99  # a file may give anything
    found = score(LABELS, classes, predicted, details=True)
    assert found["accuracy_of_classes"]["a"] == ((predicted == 0) & (classes == 0)).sum() / 7
    assert found["mistakes_of_classes"]["a"]["another class"] == (classes[:6] == 0).sum()


def test_logits_of_fewer_classes_than_the_images_have_are_refused():
    with pytest.raises(auxzoo.UserError, match="must be of the images' 7 classes at least. .*5"):
        score(LABELS, [0, 4], np.eye(5)[[0, 1]], details=True)


def test_of_few_classes_all_are_among_the_likeliest():
    assert "top_5_accuracy" not in score(LABELS[:5], [0, 4], np.eye(5)[[0, 1]], details=True)


def test_classes_of_one_name_are_told_apart():
    found = score(("crane", "owl", "crane"), [0, 1, 2], np.eye(3)[[0, 1, 1]], details=True)
    assert found["accuracy_of_classes"] == {"crane (0)": 1.0, "owl": 1.0, "crane (2)": 0.0}
