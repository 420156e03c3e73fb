"""What all tests share: a quiet TensorFlow, small networks, and the slow tests last."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pathlib

import keras
import numpy as np
import pytest

from auxzoo.data import ImageSet

SHARED_DATA = pathlib.Path(__file__).parents[2] / "shared" / "tfds"


def pytest_collection_modifyitems(items):
    """Runs the fast tests first, so that a mistake shows early."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session")
def shared_data():
    """Folder of prepared data sets beside the checkout; tests that need one skip where it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip("no prepared data sets beside the checkout")
    return SHARED_DATA


def random_images(count, size=8, classes=3, seed=0):
    """Returns an `ImageSet` of noise whose brightness tells the class."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count)
    images = generator.integers(0, 100, (count, size, size, 3)) + (labels * 70)[:, None, None, None]
    names = tuple(f"class {index}" for index in range(classes))
    return ImageSet.from_arrays(images.astype("uint8"), labels, names, name=f"noise {seed}")


@pytest.fixture(scope="session")
def make_images():
    """The function `random_images`."""
    return random_images


def randomize(model, seed=0):
    """Gives every weight a random value, batch-norm statistics too, so that nothing is hidden by zeros and ones."""
    generator = np.random.default_rng(seed)
    for variable in model.variables:
        if "seed_generator" in variable.path:
            continue
        if variable.name in ("moving_variance", "variance", "gamma"):
            value = generator.uniform(0.5, 1.5, variable.shape)
        elif variable.name in ("moving_mean", "beta", "bias"):
            value = generator.normal(0, 0.1, variable.shape)
        else:
            fan_in = max(int(np.prod(variable.shape[:-1])), 1)
            value = generator.normal(0, fan_in**-0.5, variable.shape)
        variable.assign(value.astype("float32"))
    return model


@pytest.fixture(scope="session")
def make_random():
    """The function `randomize`."""
    return randomize


@pytest.fixture
def foreign_model():
    """A functional network that is not ours, with dropout, and sizes that no stride divides."""
    inputs = keras.Input((19, 15, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu", name="first")(inputs)
    x = keras.layers.Dropout(0.3, seed=1, name="dropout")(x)
    x = keras.layers.Conv2D(6, 3, strides=2, activation="relu", name="second")(x)
    x = keras.layers.BatchNormalization(name="normalization")(x)
    x = keras.layers.GlobalMaxPooling2D(name="pooling")(x)
    return keras.Model(inputs, keras.layers.Dense(3, name="classes")(x), name="foreign")
