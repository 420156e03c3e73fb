"""The common test case of all compact networks: one method a promise; a network's test is only its arguments."""

import json
from collections import Counter
from typing import get_args

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras.src.legacy.saving import legacy_h5_format

import auxzoo
from auxzoo import models
from auxzoo.models.costs import calls_of
from auxzoo.models.heads import dense_head
from auxzoo.models.mobilenet_v2 import ALPHAS
from auxzoo.tasks import Kind

STAGES_MOBILENET = ("stem", *(f"stage{number}" for number in range(1, 8)))
STAGES_RESNET = ("stem", *(f"stage{number}" for number in range(1, 5)))
LABELS = ("cat", "dog", "emu")
PLAIN = models.Preprocessing(8, 8)
TASK = auxzoo.Task("things", "segmentation", LABELS)
HEIGHT = auxzoo.Task("height", "regression", unit="m", scale=100.0)
KIND = auxzoo.Task("kind", "classification", LABELS)


def deeplab(constructor, size=(64, 48, 3), output_stride=16, **arguments):
    backbone = constructor(size, output_stride=output_stride, **arguments)
    return models.DeepLabLite(backbone, num_classes=3, labels=LABELS, channels=16)


def several(constructor, tasks, size=(64, 48, 3), output_stride=16, **arguments):
    return models.MultiTask(constructor(size, output_stride=output_stride, **arguments), tasks, channels=16)


def coarse():
    """A backbone that has but one tap, its features at output stride 16."""
    inputs = keras.Input((64, 64, 3), name="image")
    x = keras.layers.AveragePooling2D(16, name="pooling")(inputs)
    description = models.Description((("stage1", "pooling"),), models.Preprocessing(64, 64), trunk="pooling")
    return models.description.described(inputs, x, description, "coarse")


def headless():
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.ReLU()(inputs)
    return models.description.described(inputs, outputs, models.Description((), PLAIN), "headless")


# name -> (function that builds the network, taps, output shape, first and last named layer)
NETWORKS = {
    "mobilenet_v2": (
        lambda: models.MobileNetV2((32, 48, 3), 0.35, num_classes=3, labels=LABELS),
        STAGES_MOBILENET,
        (3,),
    ),
    "mobilenet_v2_stride8": (
        lambda: models.MobileNetV2((32, 32, 3), 0.35, total_stride=8, num_classes=3, labels=LABELS),
        STAGES_MOBILENET,
        (3,),
    ),
    "mobilenet_v2_backbone": (lambda: models.MobileNetV2((64, 64, 3), 0.35), STAGES_MOBILENET, (2, 2, 1280)),
    "resnet18": (
        lambda: models.ResNet18((64, 64, 3), 0.125, num_classes=3, labels=LABELS),
        STAGES_RESNET,
        (3,),
    ),
    "resnet18_small": (
        lambda: models.ResNet18((28, 28, 3), 0.25, "small", num_classes=3, labels=LABELS, preprocessing_fit="pad"),
        STAGES_RESNET,
        (3,),
    ),
    "deeplab_mobilenet_v2": (lambda: deeplab(models.MobileNetV2, alpha=0.35), (*STAGES_MOBILENET, "aspp"), (64, 48, 3)),
    "deeplab_mobilenet_v2_stride8": (
        lambda: deeplab(models.MobileNetV2, alpha=0.35, output_stride=8),
        (*STAGES_MOBILENET, "aspp"),
        (64, 48, 3),
    ),
    "deeplab_resnet18": (
        lambda: deeplab(models.ResNet18, (60, 45, 3), width=0.125),
        (*STAGES_RESNET, "aspp"),
        (60, 45, 3),
    ),
    "two_tasks_mobilenet_v2": (
        lambda: several(models.MobileNetV2, [TASK, HEIGHT], alpha=0.35),
        (*STAGES_MOBILENET, "things_aspp", "height_aspp"),
        {"things": (64, 48, 3), "height": (64, 48, 1)},
    ),
    "three_tasks_resnet18": (
        lambda: several(models.ResNet18, [KIND, TASK, HEIGHT], (60, 45, 3), width=0.125),
        (*STAGES_RESNET, "things_aspp", "height_aspp"),
        {"kind": (3,), "things": (60, 45, 3), "height": (60, 45, 1)},
    ),
    "height_mobilenet_v2": (
        lambda: several(models.MobileNetV2, [HEIGHT], alpha=0.35, output_stride=8),
        (*STAGES_MOBILENET, "aspp"),
        (64, 48, 1),
    ),
}


def assert_equal_outputs(one, other):
    keras.tree.map_structure(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module", params=NETWORKS)
def case(request, make_random):
    build, taps, output_shape = NETWORKS[request.param]
    network = make_random(build())
    images = np.random.default_rng(1).normal(size=(2, *network.input_shape[1:])).astype("float32")
    return build, network, taps, output_shape, images


class TestEveryNetwork:
    def test_has_the_promised_output(self, case):
        _, network, _, output_shape, images = case
        promised = output_shape if isinstance(output_shape, dict) else {None: output_shape}
        outputs = network(images) if isinstance(output_shape, dict) else {None: network(images)}
        assert {task: output.shape for task, output in outputs.items()} == {
            task: (2, *shape) for task, shape in promised.items()
        }
        assert network.input_shape[1:] == images.shape[1:]

    def test_is_functional_and_of_stock_layers(self, case):
        _, network, *_ = case
        assert isinstance(network, models.description.Network)
        for layer in network.layers:
            assert type(layer).__module__.startswith("keras."), layer.name
            assert not isinstance(layer, keras.layers.Lambda)

    def test_layer_names_are_stable(self, case):
        build, network, *_ = case
        assert [layer.name for layer in build().layers] == [layer.name for layer in network.layers]

    def test_taps_are_in_order_and_alias_layers(self, case):
        _, network, taps, _, images = case
        description = auxzoo.describe(network)
        assert tuple(tap for tap, _ in description.taps) == taps
        places = {tap: network.layers.index(network.get_layer(layer)) for tap, layer in description.taps}
        of_trunk = [place for tap, place in places.items() if "aspp" not in tap]
        assert of_trunk == sorted(of_trunk)
        assert all(place > of_trunk[-1] for tap, place in places.items() if "aspp" in tap)  # heads stand side by side
        rows = [network.get_layer(layer).output.shape[1] for _, layer in description.taps]
        assert rows == sorted(rows, reverse=True)

    def test_the_trunk_ends_before_every_head(self, case):
        _, network, taps, output_shape, _ = case
        trunk = {layer.name for layer in models.description.trunk_layers(network)}
        assert "image" in trunk
        heads = [layer.name for layer in network.layers if layer.name not in trunk]
        assert all(
            any(word in name for word in ("pooling", "predictions", "aspp", "upsampling", "rescaling", "low_level"))
            for name in heads
        )
        assert not any("aspp" in name or "predictions" in name for name in trunk)
        backbone_taps = [layer for tap, layer in auxzoo.describe(network).taps if "aspp" not in tap]
        assert set(backbone_taps) <= trunk

    def test_survives_saving_with_its_description(self, case, tmp_path):
        _, network, _, _, images = case
        network.save(tmp_path / "network.keras")
        loaded = keras.models.load_model(tmp_path / "network.keras")
        assert auxzoo.describe(loaded) == auxzoo.describe(network)
        assert_equal_outputs(loaded(images), network(images))

    def test_survives_its_weights_file(self, case, tmp_path):
        build, network, _, _, images = case
        network.save_weights(tmp_path / "network.weights.h5")
        other = build()
        other.load_weights(tmp_path / "network.weights.h5")
        assert_equal_outputs(other(images), network(images))

    def test_costs_count_every_layer(self, case):
        _, network, *_ = case
        costs = models.measure_costs(network)
        assert costs.parameters == network.count_params()
        assert sum(row.parameters for row in costs.rows) == network.count_params()
        assert costs.macs > 0
        assert costs.activation_bytes > 0
        assert costs.uncounted == ()

    def test_description_survives_plain_json_types(self, case):
        _, network, *_ = case
        description = auxzoo.describe(network)
        assert models.Description.from_dict(description.to_dict()) == description


# The second has odd and even sizes on its way down.
@pytest.mark.parametrize(("alpha", "size"), [(0.35, (32, 32, 3)), *((alpha, (45, 33, 3)) for alpha in ALPHAS)])
def test_mobilenet_equals_the_original_after_copying_weights(alpha, size, make_random):
    original = make_random(
        keras.applications.MobileNetV2(size, alpha=alpha, include_top=False, weights=None), seed=int(100 * alpha)
    )
    ours = models.MobileNetV2(size, alpha=alpha)
    assert [layer.name for layer in ours.layers[1:]] == [layer.name for layer in original.layers[1:]]
    assert [type(layer) for layer in ours.layers] == [type(layer) for layer in original.layers]
    ours.set_weights(original.get_weights())
    images = np.random.default_rng(0).normal(size=(2, *size)).astype("float32")
    expected = original(images).numpy()
    assert np.abs(expected).max() > 0.01, "the comparison would see nothing"
    np.testing.assert_allclose(ours(images), expected, atol=1e-5)


def test_mobilenet_loads_weight_files_of_the_original(tmp_path, make_random):
    """`keras.applications` publishes files of the legacy layout, in the order of the weighted layers."""
    import h5py

    original = make_random(keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, include_top=False, weights=None))
    with h5py.File(tmp_path / "original.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, original)
    ours = models.MobileNetV2((64, 64, 3), alpha=0.35)
    ours.load_weights(tmp_path / "original.h5")
    images = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
    np.testing.assert_allclose(ours(images), original(images), atol=1e-5)


def test_mobilenet_loads_a_trained_trunk(shared_data):
    network = models.MobileNetV2((96, 96, 3))
    network.load_weights(shared_data.parent / "weights" / "mobilenet_v2_100_notop.weights.h5")
    assert float(np.std(network(np.zeros((1, 96, 96, 3), "float32")))) > 0


@pytest.mark.parametrize(("total_stride", "rows"), [(32, 1), (16, 2), (8, 4)])
def test_mobilenet_total_stride(total_stride, rows):
    network = models.MobileNetV2((32, 32, 3), 0.35, total_stride)
    assert network.output.shape[1:3] == (rows, rows)


@pytest.mark.parametrize("constructor", [models.MobileNetV2, models.ResNet18])
@pytest.mark.parametrize("output_stride", [16, 8])
def test_output_stride_changes_no_weight(constructor, output_stride):
    plain, dilated = constructor((64, 64, 3)), constructor((64, 64, 3), output_stride=output_stride)
    assert [weight.shape for weight in plain.weights] == [weight.shape for weight in dilated.weights]
    assert dilated.output.shape[1] == 64 // output_stride


def test_mobilenet_dilated_computes_what_strides_leave_out_too(make_random):
    plain, dilated = (models.MobileNetV2((64, 96, 3), 0.35, output_stride=stride) for stride in (None, 16))
    dilated.set_weights(make_random(plain).get_weights())
    images = np.random.default_rng(0).normal(size=(2, 64, 96, 3)).astype("float32")
    expected = np.asarray(plain(images))
    assert expected.std() > 0.01
    # A stride of two begins at the second pixel, as Keras pads.
    np.testing.assert_allclose(np.asarray(dilated(images))[:, 1::2, 1::2], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("constructor", [models.MobileNetV2, models.ResNet18])
class TestWrongArguments:
    def test_channels_first_is_refused(self, constructor, monkeypatch):
        monkeypatch.setattr(keras.config, "image_data_format", lambda: "channels_first")
        with pytest.raises(auxzoo.UserError, match='must be "channels_last"'):
            constructor((64, 64, 3))

    @pytest.mark.parametrize("size", [(64.0, 64, 3), ("64", 64, 3), (64, 64, True), 64, None])
    def test_a_size_that_is_no_whole_number(self, constructor, size):
        with pytest.raises(auxzoo.UserError, match="`input_shape` must be"):
            constructor(size)


def test_two_tasks_whose_layers_would_have_one_name_are_told():
    backbone = models.MobileNetV2((64, 64, 3), 0.35, output_stride=16)
    tasks = [auxzoo.Task(name, "regression") for name in ("x", "x_aspp_image")]
    with pytest.raises(auxzoo.UserError, match="`tasks` must have names of which no two layers become one"):
        models.MultiTask(backbone, tasks)


class TestDescribed:
    """Networks from elsewhere that carry a description."""

    @pytest.fixture(scope="class")
    @classmethod
    def trunk(cls):
        return keras.applications.MobileNetV2((64, 64, 3), alpha=0.35, include_top=False, weights=None)

    def describe(self, taps):
        preprocessing = models.Preprocessing.by_convention("tf", np.int64(64), 64)
        return models.Description(taps=taps, preprocessing=preprocessing)

    def test_take_heads(self, trunk):
        description = self.describe((("fine", "block_2_add"), ("coarse", "block_12_add")))
        backbone = models.described(trunk.input, trunk.output, description, "backbone")
        assert models.DeepLabLite(backbone, num_classes=3).output.shape == (None, 64, 64, 3)

    def test_of_a_sequential_model_that_grew_every_layer_is_called_once(self):
        model = keras.Sequential([keras.Input((64, 64, 3))])
        for name in ("one", "two", "three", "four"):
            model.add(keras.layers.Conv2D(4, 3, strides=2, padding="same", name=name))
        description = self.describe((("fine", "three"), ("coarse", "four")))
        backbone = models.described(model.inputs[0], model.outputs[0], description, "backbone")
        network = models.DeepLabLite(backbone, num_classes=3)
        assert max(Counter(call.operation.name for call in calls_of(network)).values()) == 1

    def test_without_taps_take_none(self, trunk):
        backbone = models.described(trunk.input, trunk.output, self.describe(()), "backbone")
        with pytest.raises(auxzoo.UserError, match="`backbone` must have taps"):
            models.DeepLabLite(backbone, num_classes=3)

    def test_taps_of_one_name_are_refused(self):
        with pytest.raises(auxzoo.UserError, match="`taps` must name every tap once"):
            self.describe((("fine", "block_2_add"), ("fine", "block_12_add")))

    def test_numbers_of_numpy_are_json(self):
        description = self.describe((("fine", "block_2_add"),))
        assert models.Description.from_dict(json.loads(json.dumps(description.to_dict()))) == description


class TestDenseHeads:
    @pytest.mark.parametrize(
        ("size", "output_stride", "rates"),
        [
            *(((513, 513, 3), 16, (6, 12)), ((513, 600, 3), 8, (12, 24)), ((1024, 1024, 3), 16, (6, 12))),
            *(((180, 240, 3), 16, (2, 4)), ((128, 128, 3), 8, (3, 6)), ((32, 96, 3), 16, (1,))),
        ],
    )
    def test_atrous_rates_fit_the_features(self, size, output_stride, rates):
        network = deeplab(models.MobileNetV2, size, output_stride, alpha=0.35)
        branches = [layer for layer in network.layers if isinstance(layer, keras.layers.SeparableConv2D)]
        assert tuple(layer.dilation_rate for layer in branches) == tuple((rate, rate) for rate in rates)

    @pytest.mark.parametrize("constructor", [models.MobileNetV2, models.ResNet18])
    @pytest.mark.parametrize("output_stride", [16, 8])
    def test_finer_features_have_a_part_in_the_prediction(self, constructor, output_stride, make_random):
        network = make_random(deeplab(constructor, output_stride=output_stride))
        predictions, finer = network.get_layer("predictions"), network.get_layer("low_level_predictions")
        rows = network.get_layer("aspp_projection").output.shape[1]
        assert finer.input.shape[1] == 2 * rows == 2 * 64 // output_stride
        for variable in predictions.variables:
            variable.assign(np.zeros(variable.shape))
        image = np.random.default_rng(0).normal(size=(1, *network.input_shape[1:])).astype("float32")
        expected = keras.layers.Resizing(64, 48)(keras.Model(network.input, finer.output)(image))
        np.testing.assert_allclose(network(image), expected, atol=1e-5)
        assert np.std(expected) > 0.01

    @pytest.mark.parametrize(("size", "cells"), [((180, 240), (12, 15)), ((36, 45), (5, 6)), ((64, 48), (4, 3))])
    def test_a_cell_comes_to_lie_where_it_was_seen(self, size, cells):
        features = keras.Input((*cells, 1))
        head = keras.Model(features, dense_head(features, size, 1))
        head.get_layer("predictions").set_weights([np.ones((1, 1, 1, 1)), np.zeros(1)])
        stride = -(-size[0] // cells[0])
        stride = 2 ** (stride - 1).bit_length()
        for axis, (count, pixels) in enumerate(zip(cells, size, strict=True)):
            places = np.arange(count, dtype="float32").reshape((count, 1) if axis == 0 else (1, count))
            found = head(np.broadcast_to(places, cells)[None, ..., None])[0, ..., 0].numpy()
            found = found.take(0, axis=1 - axis)
            # The middle of a cell is the middle of its pixels; outside the outermost middles nothing is known.
            expected = np.clip((np.arange(pixels) + 0.5) / stride - 0.5, 0, count - 1)
            np.testing.assert_allclose(found, expected, atol=1e-4)

    def test_cells_of_no_stride_are_stretched(self):
        features = keras.Input((17, 17, 1))
        assert dense_head(features, (35, 35), 2).shape == (None, 35, 35, 2)

    @pytest.mark.parametrize("is_of_several", [False, True])
    def test_they_may_be_left_out(self, is_of_several):
        backbone = models.ResNet18((64, 48, 3), 0.125, output_stride=16)
        network = (
            models.MultiTask(backbone, [TASK, HEIGHT], low_level=False)
            if is_of_several
            else models.DeepLabLite(backbone, 3, low_level=False)
        )
        assert not [layer.name for layer in network.layers if "low_level" in layer.name]


def test_resnet18_has_the_published_number_of_parameters():
    costs = models.measure_costs(models.ResNet18(num_classes=1000))
    assert costs.trainable_parameters == 11_689_512
    assert round(costs.macs / 1e9, 2) == 1.81  # 1.8 billion, arXiv:1512.03385, table 1


def test_batch_normalization_momentum_reaches_every_layer():
    for network in (
        models.MobileNetV2((32, 32, 3), 0.35, batch_normalization_momentum=0.8),
        models.ResNet18((32, 32, 3), 0.25, batch_normalization_momentum=0.8),
    ):
        momenta = {layer.momentum for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)}
        assert momenta == {0.8}


# Any JSON value, and objects that are nearly a description, so that the checks behind the keys are reached too.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
DESCRIPTIONS = st.fixed_dictionaries(
    {
        "taps": st.dictionaries(st.text(), st.text() | JSON, max_size=2) | JSON,
        "preprocessing": st.fixed_dictionaries(
            {"height": st.integers() | JSON, "width": st.integers() | JSON},
            optional={
                "fit": st.just("pad") | JSON,
                "scale": st.lists(st.floats(), min_size=3, max_size=3) | JSON,
                "offset": st.lists(st.integers(), min_size=3, max_size=3) | JSON,
            },
        )
        | JSON,
    },
    optional={
        "tasks": st.lists(
            st.fixed_dictionaries(
                {"name": st.sampled_from(["a", "b"]) | JSON, "kind": st.sampled_from(get_args(Kind)) | JSON},
                optional={
                    "labels": st.lists(st.text() | JSON, max_size=2) | JSON,
                    "colours": st.lists(st.lists(st.integers(0, 255), min_size=3, max_size=3) | JSON, max_size=2),
                    "unit": st.text() | JSON,
                    "scale": st.floats() | JSON,
                },
            )
            | JSON,
            max_size=2,
        )
        | JSON,
        "trunk": st.text() | JSON,
    },
)


@settings(derandomize=True, deadline=None, max_examples=500)
@given(JSON | DESCRIPTIONS)
def test_any_json_is_a_description_or_told_to_be_none(value):
    try:
        description = models.Description.from_dict(value)
    except auxzoo.UserError:
        return
    assert models.Description.from_dict(description.to_dict()) == description
    assert isinstance(hash(description), int)


def test_describe_refuses_a_foreign_model(foreign_model):
    with pytest.raises(auxzoo.UserError, match="`model` must be a network that carries a description"):
        auxzoo.describe(foreign_model)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: models.MobileNetV2(alpha=0.6), r"`alpha` must be one of 0.35, .*Received: alpha=0.6"),
        (lambda: models.MobileNetV2(total_stride=4), r"`total_stride` must be one of 32, 16, 8"),
        (lambda: models.MobileNetV2((31, 64, 3)), r"`input_shape` must be .* of 32 or more.*\(31, 64, 3\)"),
        (lambda: models.MobileNetV2((64, 64)), r"`input_shape` must be"),
        (lambda: models.MobileNetV2((64, 64, 1)), r"`input_shape` must be \(height, width, 3\)"),
        (lambda: models.MobileNetV2(None), r"`input_shape` must be"),
        (lambda: models.MobileNetV2(num_classes=0), r"`num_classes` must be None, or 1 or more.*num_classes=0"),
        (lambda: models.MobileNetV2(num_classes=2, labels=("a",)), r"`labels` must be 2 names.*1 names"),
        (lambda: models.MobileNetV2(num_classes=True), r"`num_classes` must be None, or 1 or more.*num_classes=True"),
        (lambda: models.ResNet18(num_classes=2.0), r"`num_classes` must be None, or 1 or more.*num_classes=2.0"),
        (lambda: models.ResNet18(num_classes=2, labels="ab"), r"`labels` must be a list of names.*'ab'"),
        (lambda: models.ResNet18(num_classes=2, labels=5), r"`labels` must be a list of names. Received: labels=5"),
        (lambda: models.ResNet18(name="a/b"), r"`name` must be text without `/`. Received: name='a/b'"),
        (lambda: models.MobileNetV2(name=7), r"`name` must be text without `/`. Received: name=7"),
        *[
            (
                lambda constructor=constructor, momentum=momentum: constructor(batch_normalization_momentum=momentum),
                r"`batch_normalization_momentum` must be a number, 0 or more and less than 1. Received: batch_norm",
            )
            for constructor in (models.MobileNetV2, models.ResNet18)
            for momentum in ("high", 7, 1, -0.1, True, None, float("nan"))
        ],
        (lambda: models.MobileNetV2(preprocessing_fit="crop"), r'`fit` must be "resize" or "pad"'),
        (lambda: models.ResNet18(width=0.3), r"`width` must be one of .*width=0.3"),
        (lambda: models.ResNet18(stem="large"), r"`stem` must be one of 'imagenet', .*stem='large'"),
        (lambda: models.ResNet18(output_stride=4), r"`output_stride` must be one of None, 16, 8"),
        (lambda: models.DeepLabLite(models.ResNet18((64, 64, 3), 0.125), 3), r"`backbone` must have an output stride"),
        (
            lambda: models.DeepLabLite(models.ResNet18((64, 64, 3), 0.125, num_classes=3), 3),
            r"`backbone` must have no head",
        ),
        (
            lambda: models.DeepLabLite(models.ResNet18((64, 64, 3), 0.125, output_stride=16), None),
            r"`num_classes` must be 1 or more",
        ),
        (
            lambda: models.DeepLabLite(models.ResNet18((64, 64, 3), 0.125, output_stride=16), 3, channels=0),
            r"`channels` must be 1 or more",
        ),
        (
            lambda: models.DeepLabLite(models.ResNet18((64, 64, 3), 0.125, output_stride=16), 3, low_level="yes"),
            r"`low_level` must be one of True, False. Received: low_level='yes'",
        ),
        *[
            (
                lambda classes=classes: models.DeepLabLite(
                    models.ResNet18((64, 64, 3), 0.125, output_stride=16), classes
                ),
                rf"`num_classes` must be 2 to 255, .* Received: {classes}",
            )
            for classes in (1, 256)
        ],
        (lambda: models.DeepLabLite(coarse(), 3), r"`low_level` must be False for a backbone without a tap of more"),
        (
            lambda: models.DeepLabLite(models.ResNet18((64, 64, 3), 0.125, output_stride=16), True),
            r"`num_classes` must be 1 or more. Received: num_classes=True",
        ),
        (
            lambda: models.DeepLabLite(
                models.ResNet18((64, 64, 3), 0.125, output_stride=16), 3, colours=((0, 0, 0), (9, 9, 9))
            ),
            r"`colours` must be 3, one a class. Received: 2",
        ),
        (
            lambda: models.DeepLabLite(models.ResNet18((64, 64, 3), 0.125, output_stride=16), 3, name="a/b"),
            r"`name` must be text without `/`",
        ),
        (lambda: several(models.ResNet18, [], width=0.125), r"`tasks` must be a list of Task, 1 or more. Received"),
        (lambda: several(models.ResNet18, ["height"], width=0.125), r"`tasks` must be a list of Task, 1 or more"),
        (lambda: several(models.ResNet18, [TASK, TASK], width=0.125), r"`tasks` must have a name each"),
        (
            lambda: several(models.ResNet18, [auxzoo.Task("things", "segmentation")], width=0.125),
            r"`labels` of task 'things' must name its classes. Received: none",
        ),
        (
            lambda: several(models.ResNet18, [auxzoo.Task("things", "segmentation", ("all",))], width=0.125),
            r"`labels` of task 'things' must be 2 or more, one for all else. Received: 1",
        ),
        *[
            (
                lambda task=task: several(models.ResNet18, [TASK, task], width=0.125),
                rf"`tasks` must not be called so, one beside the other: 'things', '{task.name}'",
            )
            for task in (
                auxzoo.Task("things_low_level", "regression"),
                auxzoo.Task("things_pixel", "classification", ("x", "y")),
            )
        ],
        *[
            (
                lambda name=name: several(
                    models.ResNet18, [HEIGHT, auxzoo.Task(name, "classification", ("x", "y"))], width=0.125
                ),
                rf"`tasks` must call no classification `pixel`, one of several. Received: '{name}'",
            )
            for name in ("pixel", "kind_of_pixel")
        ],
        (
            lambda: several(models.ResNet18, [HEIGHT], output_stride=None, width=0.125),
            r"`backbone` must have an output stride of 16 or 8",
        ),
        (
            lambda: models.description.trunk_layers(headless()),
            r"must name the layer that ends the trunk. Received: none",
        ),
        (lambda: auxzoo.Task("a b", "regression"), r"`name` of a task must be letters, digits and `_`.*'a b'"),
        (
            lambda: auxzoo.Task("joint_depth", "regression"),
            r"`name` of a task must not begin with auxiliary, compact, joint, nor .*Received: 'joint_depth'",
        ),
        (lambda: auxzoo.Task("a", "detection"), r"`kind` of task 'a' must be one of classification, .*'detection'"),
        (lambda: auxzoo.Task("a", "segmentation", "bc"), r"`labels` must be a list of names. Received: labels='bc'"),
        (
            lambda: auxzoo.Task("a", "segmentation", colours=((0, 0, 256),)),
            r"`colours` of task 'a' must be triples of 0",
        ),
        (
            lambda: auxzoo.Task("a", "segmentation", ("x", "y"), ((0, 0, 0),)),
            r"`colours` of task 'a' must be 2, one a class. Received: 1",
        ),
        (
            lambda: auxzoo.Task("a", "segmentation", ("x", "y", "x")),
            r"`labels` of task 'a' must differ from each other. Received: 'x' twice",
        ),
        *[
            (
                lambda kind=kind, changes=changes: auxzoo.Task("a", kind, ("x", "y"), **changes),
                rf"`unit` and `scale` of task 'a', a {kind}, must be left out: they are of regressions",
            )
            for kind in ("segmentation", "classification")
            for changes in ({"scale": 1000.0}, {"unit": "m"})
        ],
        (lambda: auxzoo.Task("a", "regression", ("x",)), r"`labels` and `colours` of task 'a', a regression, must be"),
        (lambda: auxzoo.Task("a", "regression", unit=3), r"`unit` of task 'a' must be text. Received: unit=3"),
        (lambda: auxzoo.Task("a", "regression", scale=0), r"`scale` of task 'a' must be above 0. Received: scale=0"),
        (lambda: auxzoo.Task.from_dict({"name": "a"}), r"A task must have the keys name and kind.*\['name'\]"),
        (lambda: models.Preprocessing(0, 8), r"`height` must be 1 pixel or more. Received: height=0"),
        (lambda: models.Preprocessing(8, "8"), r"`width` must be 1 pixel or more. Received: width='8'"),
        (lambda: models.Preprocessing(8, 8, scale=(1.0, 1.0)), r"`scale` must be three numbers"),
        (lambda: models.Preprocessing(8, 8, offset=(0.0, 0.0, float("nan"))), r"`offset` must be three numbers"),
        (lambda: models.Description({"stem": "a"}, PLAIN), r"`taps` must be a list of pairs of names"),
        (lambda: models.Description((), PLAIN, "detection"), r"`tasks` must be a list of Task.*'detection'"),
        (lambda: models.Description((), PLAIN, (TASK, TASK)), r"`tasks` must have a name each.*things, things"),
        (lambda: models.Description((), PLAIN, trunk=3), r"`trunk` must be the name of a layer or None"),
        (lambda: models.Description((), (8, 8)), r"`preprocessing` must be a Preprocessing"),
        (lambda: models.Description.from_dict({"taps": {}}), r"`description` must have the keys"),
        (
            lambda: models.Description.from_dict(
                {"taps": {}, "preprocessing": {"height": 1, "width": 1}, "colour": "red"}
            ),
            r"`description` must have the keys.*colour",
        ),
    ],
)
def test_bad_arguments_are_named(build, message):
    with pytest.raises(auxzoo.UserError, match=message):
        build()
