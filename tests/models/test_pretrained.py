"""Pretrained weights of a trunk."""

import keras
import numpy as np
import pytest

import auxzoo
from auxzoo import models

SIZE = (32, 32, 3)


@pytest.fixture(scope="module")
def original():
    """A network of `keras.applications` with random weights, which stand for ImageNet's."""
    keras.utils.set_random_seed(3)
    return keras.applications.MobileNetV2((224, 224, 3), alpha=0.35, include_top=False, weights=None)


def assert_same_weights(network, original):
    for weight, other in zip(network.get_weights(), original.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)


@pytest.mark.parametrize("ending", [".weights.h5", ".h5"])
def test_a_file_of_keras_applications_is_taken(original, tmp_path, ending):
    path = tmp_path / f"trunk{ending}"
    (original.save_weights if ending == ".weights.h5" else original.save)(path)
    assert_same_weights(models.MobileNetV2(SIZE, 0.35, output_stride=16, weights=path), original)


def test_imagenet_is_that_of_keras_applications(original, monkeypatch):
    # Fetching them needs a network; what comes then is a network such as this.
    calls = []

    def fetched(*arguments, **options):
        calls.append(options)
        return original

    monkeypatch.setattr(keras.applications, "MobileNetV2", fetched)
    assert_same_weights(models.MobileNetV2(SIZE, 0.35, weights="imagenet"), original)
    assert calls == [{"alpha": 0.35, "include_top": False, "weights": "imagenet"}]


def test_the_head_is_fresh_and_the_trunk_is_not(original, tmp_path):
    path = tmp_path / "trunk.weights.h5"
    original.save_weights(path)
    network = models.MobileNetV2(SIZE, 0.35, num_classes=3, weights=str(path))
    assert network.output_shape == (None, 3)
    np.testing.assert_array_equal(network.get_layer("Conv1").kernel, original.get_layer("Conv1").kernel)


def test_prepared_weights_are_those_that_a_trunk_computes_with(shared_data):
    path = shared_data.parent / "weights" / "mobilenet_v2_100_notop.weights.h5"
    network = models.MobileNetV2((96, 96, 3), weights=path)
    again = keras.applications.MobileNetV2((96, 96, 3), include_top=False, weights=None)
    again.load_weights(path)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 96, 96, 3)).astype("float32")
    np.testing.assert_allclose(network(images), again(images), atol=1e-4)


class TestBadInput:
    @pytest.mark.parametrize("weights", ["nothing.h5", 3, True])
    def test_what_is_no_file(self, weights):
        with pytest.raises(auxzoo.UserError, match='`weights` must be None, "imagenet" or a file. Received: weights='):
            models.MobileNetV2(SIZE, 0.35, weights=weights)

    def test_weights_of_another_width(self, original, tmp_path):
        path = tmp_path / "trunk.weights.h5"
        original.save_weights(path)
        with pytest.raises(
            auxzoo.UserError, match=r"`weights` must be a file of a MobileNetV2 0.5 without head.*trunk"
        ):
            models.MobileNetV2(SIZE, 0.5, weights=path)

    def test_a_file_of_other_bytes(self, tmp_path):
        path = tmp_path / "trunk.weights.h5"
        path.write_bytes(b"no weights")
        with pytest.raises(auxzoo.UserError, match="`weights` must be a file of a MobileNetV2"):
            models.MobileNetV2(SIZE, 0.35, weights=path)

    def test_imagenet_that_cannot_be_fetched(self, monkeypatch):
        def fails(*arguments, **options):
            raise Exception("URL fetch failure")

        monkeypatch.setattr(keras.applications, "MobileNetV2", fails)
        with pytest.raises(auxzoo.UserError, match='`weights` "imagenet" could not be fetched: URL fetch failure'):
            models.MobileNetV2(SIZE, 0.35, weights="imagenet")
