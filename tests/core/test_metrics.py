"""Metrics over a whole set."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import auxzoo
from auxzoo.metrics import Accuracy, ConfusionMatrix


@settings(derandomize=True, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 100))
def test_batches_of_any_size_give_the_accuracy_of_the_whole(sizes, seed):
    generator = np.random.default_rng(seed)
    logits, classes = generator.normal(size=(sum(sizes), 4)), generator.integers(0, 4, sum(sizes))
    accuracy, confusion = Accuracy(), ConfusionMatrix(4)
    for part in np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]):
        accuracy.update(logits[part], classes[part])
        confusion.update(logits[part], classes[part])
    assert accuracy.result() == pytest.approx((logits.argmax(1) == classes).mean())
    assert confusion.counts.sum() == sum(sizes)
    assert np.trace(confusion.counts) == accuracy.correct


def test_top_five_counts_the_five_highest():
    accuracy = Accuracy(top=2)
    accuracy.update([[3, 2, 1], [3, 2, 1], [3, 2, 1]], [0, 1, 2])
    assert accuracy.result() == pytest.approx(2 / 3)


def test_class_that_was_not_seen_is_not_a_number():
    confusion = ConfusionMatrix(3)
    confusion.update([[1, 0, 0], [1, 0, 0]], [0, 1])
    np.testing.assert_array_equal(confusion.accuracy_of_classes(), [1, 0, np.nan])
    assert math.isnan(Accuracy().result())


@pytest.mark.parametrize(
    ("logits", "classes", "message"),
    [
        ([[1.0, 2.0]], [2], r"`classes` must be 0 to 1"),
        ([[1.0, 2.0]], [-1], r"`classes` must be 0 to 1"),
        ([[1.0, 2.0]], [0, 1], r"`logits` must be \[batch, classes\]"),
        ([1.0, 2.0], [0, 1], r"`logits` must be \[batch, classes\]"),
        ([[float("nan"), 2.0]], [0], r"`logits` must be numbers"),
    ],
)
def test_what_does_not_fit_is_named(logits, classes, message):
    with pytest.raises(auxzoo.UserError, match=message):
        Accuracy().update(logits, classes)


def test_top_must_be_positive():
    with pytest.raises(auxzoo.UserError, match="`top` must be 1 or more"):
        Accuracy(top=0)
