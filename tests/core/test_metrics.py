"""Metrics over a whole set."""

import doctest
import math

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import auxzoo
from auxzoo import metrics
from auxzoo.metrics import VOID, Accuracy, ConfusionMatrix, Regression, Segmentation, relative_improvement

PROPERTY = settings(derandomize=True, deadline=None)
NAN, INFINITY = float("nan"), float("inf")


def test_examples_of_the_docstrings_run():
    tested = doctest.testmod(metrics)
    assert tested.attempted >= 10
    assert tested.failed == 0


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


@pytest.mark.parametrize(
    ("logits", "kind"), [([[0, 200]], np.uint8), ([[-128, 100]], np.int8), ([[-1, 2**40]], np.int64)]
)
def test_logits_may_be_whole_numbers(logits, kind):
    accuracy = Accuracy()
    accuracy.update(np.array(logits, kind), [1])
    assert accuracy.result() == 1.0


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


def test_confusion_matrix_counts_pairs_in_rows_of_the_truth():
    confusion = ConfusionMatrix(3)
    confusion.update([[0, 1, 0], [0, 1, 0], [1, 0, 0]], np.array([2, 2, 0], "uint8"))
    np.testing.assert_array_equal(confusion.counts, [[1, 0, 0], [0, 0, 0], [0, 2, 0]])
    assert confusion.counts.dtype == np.int64


def naive_segmentation(predicted, truth, classes):
    """IoU and recall of each class, mean IoU and pixel accuracy, pixel by pixel."""
    pairs = [(p, t) for p, t in zip(predicted.ravel().tolist(), truth.ravel().tolist(), strict=True) if t != VOID]

    def share(part, whole):
        return len(part) / len(whole) if whole else NAN

    ious, recalls = [], []
    for index in range(classes):
        hit = [pair for pair in pairs if pair == (index, index)]
        ious.append(share(hit, [pair for pair in pairs if index in pair]))
        recalls.append(share(hit, [pair for pair in pairs if pair[1] == index]))
    present = [iou for iou in ious if not math.isnan(iou)]
    mean = sum(present) / len(present) if present else NAN
    return ious, recalls, mean, share([pair for pair in pairs if pair[0] == pair[1]], pairs)


@st.composite
def draw_label_batches(draw):
    """Draws a number of classes and batches of small images: predictions and truth, some void, some classes rare."""
    classes = draw(st.integers(1, 6))
    generator = np.random.default_rng(draw(st.integers(0, 1000)))
    used, void = draw(st.integers(1, classes)), draw(st.sampled_from([0, 0.3, 1]))
    batches = []
    for size in draw(st.lists(st.integers(0, 3), min_size=1, max_size=4)):
        predicted, truth = generator.integers(0, used, (2, size, 2, 3))
        truth = np.where(generator.random(truth.shape) < void, VOID, classes - 1 - truth)
        batches.append((predicted.astype(draw(st.sampled_from(["uint8", "int32", "uint64"]))), truth))
    return classes, batches


class TestSegmentation:
    @PROPERTY
    @given(draw_label_batches())
    def test_batches_of_any_size_give_the_values_of_the_whole(self, drawn):
        classes, batches = drawn
        streamed, whole = Segmentation(classes), Segmentation(classes)
        for predicted, truth in batches:
            streamed.update(predicted, truth)
        whole.update(*(np.concatenate(part).astype("int64") for part in zip(*batches, strict=True)))
        np.testing.assert_array_equal(streamed.counts, whole.counts)
        np.testing.assert_equal(streamed.result(), whole.result())

    @PROPERTY
    @given(draw_label_batches())
    def test_values_are_those_of_counting_pixel_by_pixel(self, drawn):
        classes, batches = drawn
        segmentation = Segmentation(classes)
        for predicted, truth in batches:
            segmentation.update(predicted, truth)
        flat = [
            np.concatenate([array.ravel().astype("int64") for array in part]) for part in zip(*batches, strict=True)
        ]
        ious, recalls, mean, accuracy = naive_segmentation(*flat, classes)
        np.testing.assert_allclose(segmentation.iou_of_classes(), ious, rtol=1e-14)
        np.testing.assert_allclose(segmentation.accuracy_of_classes(), recalls, rtol=1e-14)
        assert segmentation.mean_iou() == pytest.approx(mean, rel=1e-14, nan_ok=True)
        assert segmentation.pixel_accuracy() == pytest.approx(accuracy, rel=1e-14, nan_ok=True)

    @PROPERTY
    @given(draw_label_batches())
    def test_logits_count_as_the_class_of_the_highest(self, drawn):
        classes, batches = drawn
        by_logits, by_class = Segmentation(classes), Segmentation(classes)
        for predicted, truth in batches:
            by_logits.update_logits(np.eye(classes, dtype="float32")[predicted.astype("int64")] - 0.5, truth)
            by_class.update(predicted, truth)
        np.testing.assert_array_equal(by_logits.counts, by_class.counts)

    @PROPERTY
    @given(draw_label_batches())
    def test_mean_iou_is_that_of_keras(self, drawn):
        classes, batches = drawn
        segmentation, reference = Segmentation(classes), keras.metrics.MeanIoU(classes, ignore_class=VOID)
        for predicted, truth in batches:
            segmentation.update(predicted, truth)
            reference.update_state(truth.astype("int64"), predicted.astype("int64"))
        if segmentation.counts.sum():
            assert segmentation.mean_iou() == pytest.approx(float(reference.result()), rel=1e-5)

    def test_mean_is_of_the_whole_set_not_of_batches(self):
        segmentation = Segmentation(2)
        segmentation.update([[0, 0, 0, 0]], [[0, 0, 0, 1]])
        segmentation.update([[1]], [[1]])
        assert segmentation.result() == pytest.approx({"mean_iou": (3 / 4 + 1 / 2) / 2, "pixel_accuracy": 4 / 5})

    def test_pixels_without_truth_count_nowhere(self):
        segmentation = Segmentation(3)
        segmentation.update([[0, 1, 2, 2]], [[0, 0, VOID, VOID]])
        np.testing.assert_array_equal(segmentation.counts, [[1, 1, 0], [0, 0, 0], [0, 0, 0]])
        np.testing.assert_array_equal(segmentation.iou_of_classes(), [1 / 2, 0, np.nan])

    def test_class_that_is_predicted_and_never_true_counts_as_nothing_found(self):
        segmentation = Segmentation(3)
        segmentation.update([[0, 0, 0, 1]], [[0, 0, 0, 0]])
        assert segmentation.mean_iou() == pytest.approx((3 / 4 + 0) / 2)
        np.testing.assert_array_equal(segmentation.accuracy_of_classes(), [3 / 4, np.nan, np.nan])

    @pytest.mark.parametrize("truth", [None, [[VOID, VOID]]])
    def test_without_truth_values_are_not_numbers(self, truth):
        segmentation = Segmentation(2)
        if truth is not None:
            segmentation.update([[0, 1]], truth)
        assert all(math.isnan(value) for value in segmentation.result().values())
        assert np.isnan(segmentation.iou_of_classes()).all()

    @pytest.mark.parametrize("leading", [(), (1,), (3,), (2, 1, 3)])
    def test_leading_axes_do_not_matter(self, leading):
        generator = np.random.default_rng(0)
        logits, truth = generator.normal(size=(*leading, 4, 5, 3)), generator.integers(0, 3, (*leading, 4, 5))
        segmentation, flat = Segmentation(3), Segmentation(3)
        segmentation.update_logits(logits, truth)
        flat.update(logits.argmax(-1).reshape(1, -1), truth.reshape(1, -1))
        np.testing.assert_array_equal(segmentation.counts, flat.counts)

    def test_largest_number_of_classes_fits_in_bytes(self):
        segmentation = Segmentation(VOID)
        labels = np.arange(256, dtype="uint8").reshape(16, 16)
        segmentation.update(np.minimum(labels, VOID - 1), labels)
        np.testing.assert_array_equal(segmentation.counts, np.eye(VOID))

    def test_result_is_plain_floats_by_name(self):
        segmentation = Segmentation(2)
        segmentation.update([[0, 1]], [[0, 0]])
        assert list(segmentation.result()) == ["mean_iou", "pixel_accuracy"]
        assert {type(value) for value in segmentation.result().values()} == {float}

    @pytest.mark.parametrize("classes", [0, -1, 256, 2.0, True, "2", None])
    def test_number_of_classes_must_leave_room_for_void(self, classes):
        with pytest.raises(auxzoo.UserError, match=rf"`classes` must be 1 to 255. Received: classes={classes!r}"):
            Segmentation(classes)

    @pytest.mark.parametrize(
        ("predicted", "truth", "message"),
        [
            ([[0, 1]], [[0, 3]], r"`truth` must be 0 to 2, or 255 where there is none. Received: 3"),
            ([[0, 1]], [[0, -7]], r"`truth` must be 0 to 2, or 255 .* Received: -7"),
            ([[0, 1]], [[VOID, 254]], r"`truth` must be 0 to 2, or 255 .* Received: 254"),
            (np.array([[0]], "int8"), np.array([[-1]], "int8"), r"`truth` must be 0 to 2, .* Received: -1"),
            ([[0, 3]], [[0, 1]], r"`predicted` must be 0 to 2. Received: 3"),
            ([[0, -1]], [[0, 1]], r"`predicted` must be 0 to 2. Received: -1"),
            ([[0, VOID]], [[0, VOID]], r"`predicted` must be 0 to 2. Received: 255"),
            (np.array([[2**64 - 1]], "uint64"), [[0]], rf"`predicted` must be 0 to 2. Received: {2**64 - 1}"),
            ([[0, 1]], [[0], [1]], r"`predicted` and `truth` must be .* Received: shapes \(1, 2\) and \(2, 1\)"),
            ([0, 1], [0, 1], r"`predicted` and `truth` must be \[\.\.\., rows, columns\] .* \(2,\) and \(2,\)"),
            ([[0.0, 1.0]], [[0, 1]], r"`predicted` must be integers. Received: float64"),
            ([[0, 1]], [[0, NAN]], r"`truth` must be integers. Received: float64"),
            ([[0, 1]], [[0, 1], [0]], r"`truth` must be an array. Received: "),
        ],
    )
    def test_labels_that_do_not_fit_are_named_and_not_counted(self, predicted, truth, message):
        segmentation = Segmentation(3)
        with pytest.raises(auxzoo.UserError, match=message):
            segmentation.update(predicted, truth)
        assert segmentation.counts.sum() == 0

    @pytest.mark.parametrize(
        ("logits", "truth", "message"),
        [
            ([[[1.0, NAN]]], [[0]], "`logits` must be numbers. Received: NaN"),
            ([[[1.0, NAN]]], [[VOID]], "`logits` must be numbers. Received: NaN"),
            ([[["a", "b"]]], [[0]], "`logits` must be real numbers. Received: <U1"),
            ([[[1.0, 2.0, 3.0]]], [[0]], r"`logits` must be \[\.\.\., rows, columns, 2\] .* \(1, 1, 3\) and \(1, 1\)"),
            ([[[1.0, 2.0]]], [[0, 1]], r"`logits` must be .* and `truth` \[\.\.\., rows, columns\]. .* and \(1, 2\)"),
            ([[1.0, 2.0]], [0], r"`logits` must be .* Received: shapes \(1, 2\) and \(1,\)"),
            ([[[1.0, 2.0]]], [[2]], "`truth` must be 0 to 1, or 255 where there is none. Received: 2"),
        ],
    )
    def test_logits_that_do_not_fit_are_named_and_not_counted(self, logits, truth, message):
        segmentation = Segmentation(2)
        with pytest.raises(auxzoo.UserError, match=message):
            segmentation.update_logits(logits, truth)
        assert segmentation.counts.sum() == 0


DELTAS = ("delta_1", "delta_2", "delta_3")
ERRORS = ("root_mean_squared_error", "mean_absolute_error", "absolute_relative_error")


def naive_regression(pairs):
    """The dictionary of `Regression.result`, number by number, exactly rounded sums."""
    pairs = [(p, t) for p, t in pairs if not math.isnan(t)]

    def mean(values):
        values = list(values)
        return math.fsum(values) / len(values) if values else NAN

    result = {
        "root_mean_squared_error": math.sqrt(mean((p - t) ** 2 for p, t in pairs)),
        "mean_absolute_error": mean(abs(p - t) for p, t in pairs),
        "absolute_relative_error": mean(abs(p - t) / abs(t) for p, t in pairs if t != 0),
    }
    for index, name in enumerate(DELTAS, start=1):
        result[name] = mean(p > 0 and max(p / t, t / p) < 1.25**index for p, t in pairs if t > 0)
    return {**result, "targets": len(pairs)}


NUMBERS = st.floats(-1e6, 1e6, width=32, allow_subnormal=False) | st.sampled_from([0.0, 1.0, 1.25, 1.5, 1.9, 2.0])
PAIRS = st.tuples(NUMBERS, NUMBERS | st.just(NAN))
BATCHES = st.lists(st.lists(PAIRS, max_size=6), max_size=5)


class TestRegression:
    @PROPERTY
    @given(BATCHES)
    def test_values_of_batches_are_those_of_the_whole_number_by_number(self, batches):
        streamed, whole = Regression(), Regression()
        for batch in batches:
            streamed.update([p for p, _ in batch], [t for _, t in batch])
        pairs = [pair for batch in batches for pair in batch]
        whole.update([p for p, _ in pairs], [t for _, t in pairs])
        expected = naive_regression(pairs)
        assert streamed.result() == pytest.approx(expected, rel=1e-12, nan_ok=True)
        assert whole.result() == pytest.approx(expected, rel=1e-12, nan_ok=True)

    def test_mean_is_of_the_whole_set_not_of_batches(self):
        regression = Regression()
        regression.update([[3.0, 1.0, 1.0]], [[1.0, 1.0, 1.0]])
        regression.update([[1.0]], [[2.0]])
        assert regression.result() == pytest.approx(
            {
                "root_mean_squared_error": math.sqrt(5 / 4),
                "mean_absolute_error": 3 / 4,
                "absolute_relative_error": 2.5 / 4,
                "delta_1": 2 / 4,
                "delta_2": 2 / 4,
                "delta_3": 2 / 4,
                "targets": 4,
            }
        )

    @pytest.mark.parametrize("prediction", [NAN, INFINITY, -5.0])
    def test_predictions_without_target_count_nowhere(self, prediction):
        regression = Regression()
        regression.update([1.0, prediction], [1.0, NAN])
        assert regression.result() == {**dict.fromkeys(ERRORS, 0.0), **dict.fromkeys(DELTAS, 1.0), "targets": 1}

    @pytest.mark.parametrize(
        ("prediction", "within"),
        [
            (1.0, (1, 1, 1)),
            (1.25, (0, 1, 1)),
            (1 / 1.25, (0, 1, 1)),
            (1.5, (0, 1, 1)),
            (1.5625, (0, 0, 1)),
            (0.6, (0, 0, 1)),
            (1.953125, (0, 0, 0)),
            (0.0, (0, 0, 0)),
            (-1.0, (0, 0, 0)),
        ],
    )
    def test_deltas_are_ratios_strictly_below_powers(self, prediction, within):
        regression = Regression()
        regression.update([prediction], [1.0])
        assert tuple(regression.result()[name] for name in DELTAS) == within

    @pytest.mark.parametrize(
        ("target", "missing"),
        [(NAN, (*ERRORS, *DELTAS)), (0.0, ("absolute_relative_error", *DELTAS)), (-2.0, DELTAS), (2.0, ())],
    )
    def test_where_no_target_counts_the_value_is_not_a_number(self, target, missing):
        regression = Regression()
        regression.update([[1.0]], [[target]])
        assert tuple(name for name, value in regression.result().items() if math.isnan(value)) == missing

    def test_relative_error_is_of_the_size_of_a_negative_target(self):
        regression = Regression()
        regression.update([-1.0, 5.0], [-2.0, 0.0])
        assert regression.result()["absolute_relative_error"] == 0.5

    def test_many_small_errors_of_float32_are_not_lost(self):
        regression = Regression()
        for _ in range(200):
            regression.update(np.full((100, 100), 0.1, "float32"), np.zeros((100, 100), "float32"))
        result = regression.result()
        assert result["targets"] == 2_000_000
        assert result["mean_absolute_error"] == pytest.approx(float(np.float32(0.1)), rel=1e-12)
        assert result["root_mean_squared_error"] == pytest.approx(float(np.float32(0.1)), rel=1e-12)

    def test_differences_may_be_too_large_for_half_precision(self):
        regression = Regression()
        regression.update(np.float16([60000, 60000]), np.float16([-60000, 60000]))
        assert regression.result()["mean_absolute_error"] == 60000

    def test_half_precision_of_training_is_a_number(self):
        bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
        regression = Regression()
        regression.update(np.array([1.5, 2.0], bfloat16), np.array([1.0, NAN], bfloat16))
        assert regression.result()["mean_absolute_error"] == 0.5

    def test_result_is_plain_numbers_by_name(self):
        regression = Regression()
        regression.update(np.float32([1, 2]), np.float32([1, 3]))
        result = regression.result()
        assert tuple(result) == (*ERRORS, *DELTAS, "targets")
        assert [type(value) for value in result.values()] == [float] * 6 + [int]

    @pytest.mark.parametrize(
        ("predicted", "truth", "message"),
        [
            ([1.0, NAN], [1.0, 1.0], "`predicted` must be finite where there is a target. Received: nan"),
            ([1.0, -INFINITY], [1.0, 1.0], "`predicted` must be finite where there is a target. Received: -inf"),
            ([1.0, 1.0], [1.0, INFINITY], "`truth` must be finite, or NaN where there is no target. Received: inf"),
            ([1.0], [1.0, 1.0], r"`predicted` and `truth` must be of one shape. Received: shapes \(1,\) and \(2,\)"),
            ([[1.0], [2.0]], [[1.0, 2.0]], r"must be of one shape. Received: shapes \(2, 1\) and \(1, 2\)"),
            (["near"], [1.0], "`predicted` must be real numbers. Received: <U4"),
            ([1.0], [1j], "`truth` must be real numbers. Received: complex128"),
            ([1.0], [None], "`truth` must be real numbers. Received: object"),
            ([[1.0], [1.0, 2.0]], [1.0], "`predicted` must be an array. Received: "),
        ],
    )
    def test_numbers_that_do_not_fit_are_named_and_not_counted(self, predicted, truth, message):
        regression = Regression()
        with pytest.raises(auxzoo.UserError, match=message):
            regression.update(predicted, truth)
        assert regression.targets == 0


FRACTIONS = st.floats(0.01, 100)


class TestRelativeImprovement:
    @PROPERTY
    @given(st.dictionaries(st.text(max_size=3), st.tuples(FRACTIONS, FRACTIONS, st.booleans()), min_size=1, max_size=4))
    def test_is_the_mean_over_tasks_in_per_cent(self, tasks):
        expected = 0.0
        for value, baseline, higher in tasks.values():
            expected += (-1) ** (0 if higher else 1) * (value - baseline) / baseline * 100 / len(tasks)
        arguments = [{task: row[column] for task, row in tasks.items()} for column in range(3)]
        assert relative_improvement(*arguments) == pytest.approx(expected, rel=1e-9, abs=1e-9)

    @pytest.mark.parametrize(("higher", "expected"), [(True, 50.0), (False, -50.0), (np.True_, 50.0)])
    def test_sign_tells_better_from_worse(self, higher, expected):
        improvement = relative_improvement({"task": np.float32(3)}, {"task": 2}, {"task": higher})
        assert improvement == expected
        assert type(improvement) is float

    @pytest.mark.parametrize(
        ("argument", "value", "message"),
        [
            ("baselines", {"a": 0.0}, "`baselines` of task 'a' must be a finite number above 0. Received: 0.0"),
            ("baselines", {"a": -1}, "`baselines` of task 'a' must be a finite number above 0. Received: -1"),
            ("baselines", {"a": INFINITY}, "`baselines` of task 'a' must be a finite number above 0. Received: inf"),
            ("values", {"a": NAN}, "`values` of task 'a' must be a finite number. Received: nan"),
            ("values", {"a": np.float32("inf")}, "`values` of task 'a' must be a finite number. Received: .*inf"),
            ("values", {"a": 10**400}, "`values` of task 'a' must be a finite number. Received: 1000"),
            ("values", {"a": "1"}, "`values` of task 'a' must be a finite number. Received: '1'"),
            ("values", {"a": True}, "`values` of task 'a' must be a finite number. Received: True"),
            ("values", {}, "`values` must be a dict of at least one task. Received: values={}"),
            ("values", [1.0], "`values` must be a dict of at least one task. Received: values=\\[1.0\\]"),
            ("baselines", {"b": 1.0}, r"`baselines` must have the tasks of `values`, \['a'\]. Received: \['b'\]"),
            ("higher_is_better", {"a": True, "b": True}, r"`higher_is_better` must have .* Received: \['a', 'b'\]"),
            ("higher_is_better", {"a": 1}, "`higher_is_better` of task 'a' must be True or False. Received: 1"),
        ],
    )
    def test_what_does_not_fit_is_named(self, argument, value, message):
        arguments = {"values": {"a": 1.0}, "baselines": {"a": 1.0}, "higher_is_better": {"a": True}, argument: value}
        with pytest.raises(auxzoo.UserError, match=message):
            relative_improvement(**arguments)
