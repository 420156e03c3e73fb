"""What all tests share: a quiet TensorFlow, small networks, and the slow tests last."""

import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import types

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from hypothesis import strategies as st

from auxzoo import child_process
from auxzoo.auxiliary import OPERATIONS, Node, Structure
from auxzoo.auxiliary.structure import SUPERVISIONS, TASK_SHARING
from auxzoo.data import ImageSet
from auxzoo.models import mobilenet_v2, resnet, zoo
from auxzoo.training import read_recipe, set_threads, train

set_threads()  # as the commands do: before the first operation

SHARED_DATA = pathlib.Path(__file__).parents[2] / "shared" / "tfds"


# The files that take longest, the longest first: in two processes none of them is left to the end, alone.
LONGEST = (
    *("training/test_search.py", "export/test_export.py", "training/test_study.py", "training/test_tasks.py"),
    *("training/test_run.py", "core/test_commands.py", "export/test_quantization.py", "export/test_outputs.py"),
    *("export/test_after_training.py", "export/test_onnx.py", "export/test_bench_page.py", "export/test_metadata.py"),
    *("training/test_loop.py", "core/test_demo.py", "export/test_apart.py", "core/test_attach.py"),
    *("export/test_conversion.py", "core/test_dense_commands.py", "models/test_networks.py"),
    "training/test_unrolled.py",
)


def pytest_collection_modifyitems(items):
    """Runs the fast tests first, so that a mistake shows early; in several processes the fast files."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        items.sort(key=is_slow)
        return
    slow = {item.path for item in items if is_slow(item)}
    place = {pathlib.Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (item.path in slow, place.get(item.path, len(LONGEST)), item.path, is_slow(item)))


def is_slow(item):
    return item.get_closest_marker("slow") is not None


class ForkedConverter:
    """What `subprocess.Popen` returns, of a converter that `converter_server.py` runs."""

    def __init__(self, server, module, arguments, log, environment):
        server.stdin.write(json.dumps([module, arguments, log, environment]).encode() + b"\n")
        self._server, self.returncode = server, None
        self._pid = int(server.stdout.readline())

    def wait(self, timeout=None):
        if self.returncode is None:
            if not select.select([self._server.stdout], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("converter", timeout)
            self.returncode = int(self._server.stdout.readline())
        return self.returncode

    def kill(self):
        if self.returncode is None:
            os.kill(self._pid, signal.SIGKILL)


@pytest.fixture(scope="session", autouse=True)
def forked_converters():
    """Lets converters be forks of a process that has imported TensorFlow: a third of what they take is its import.

    Where a test puts another program in the place of Python, that is started.
    """
    python, server, start = sys.executable, [], subprocess.Popen

    def popen(command, **options):
        module = command[5] if command[2:4] == ["-m", "auxzoo.child_process"] else ""
        if not module.startswith("auxzoo.export.") or sys.executable != python:
            return start(command, **options)
        if not server:
            script, pipe = str(pathlib.Path(__file__).with_name("converter_server.py")), subprocess.PIPE
            # Without a buffer, in which `select` would not see an answer.
            server.append(start([python, script], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, bufsize=0))
        return ForkedConverter(server[0], module, command[6:], options["stdout"].name, options["env"])

    with pytest.MonkeyPatch.context() as patch:
        # Its own name for the module alone: everybody else's processes are started as ever.
        patch.setattr(child_process, "subprocess", types.SimpleNamespace(**{**vars(subprocess), "Popen": popen}))
        yield
    for process in server:
        process.stdin.close()
        process.wait()


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
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with constants made of its weights
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


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder of class folders, 48 + 24 PNG files of 8 to 12 pixels whose brightness tells the class."""
    folder = tmp_path_factory.mktemp("data") / "pictures"
    generator = np.random.default_rng(0)
    for split, count in (("train", 16), ("test", 8)):
        for index, label in enumerate(("dark", "grey", "light")):
            (folder / split / label).mkdir(parents=True)
            for number in range(count):
                picture = generator.integers(0, 100, (*generator.integers(8, 13, 2), 3)) + 70 * index
                content = tf.io.encode_png(picture.astype("uint8")).numpy()
                (folder / split / label / f"{number:02d}.png").write_bytes(content)
    return folder


@contextlib.contextmanager
def shallow():
    """Lets ResNet-18 have one block a stage in this process.

    MobileNetV2 too, but for the stage of 24 channels, which has two: a network has every kind of block.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resnet, "ROWS", tuple((channels, 1, stride) for channels, _, stride in resnet.ROWS))
        rows = tuple((t, c, n if c == 24 else 1, *strides) for t, c, n, *strides in mobilenet_v2.ROWS)
        patch.setattr(mobilenet_v2, "ROWS", rows)
        yield


@pytest.fixture(scope="session")
def build_shallow():
    """The function `shallow`, for what a module builds itself where others are as they were."""
    return shallow


@pytest.fixture(scope="module")
def shallow_networks():
    """Lets all networks be `shallow`, for a module whose time is that of tracing.

    Not together with `finished_runs`, which other modules compare with what child processes train.
    """
    with shallow():
        yield


@pytest.fixture(scope="session")
def recipe_file(pictures, tmp_path_factory):
    """The YAML file of a recipe that trains a tiny network on `pictures` in seconds."""
    settings = {
        "name": "tiny",
        "network": {
            "architecture": "ResNet18",
            "arguments": {"input_shape": [16, 16, 3], "width": 0.125, "stem": "small"},
        },
        "data": {
            "source": f"folder:{pictures}",
            "data_dir": "a/folder/of/this/machine",  # only tfds looks there
            "validation_count": 12,
            "augmentation": {"flip": True, "shift": 1},
        },
        "optimization": {"learning_rate": 0.05, "ema_momentum": 0.9},
        "compute": {"compilation": "graph"},
        "epochs": 3,
        "batch_size": 12,
    }
    path = tmp_path_factory.mktemp("recipes") / "tiny.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="session")
def finished_runs(recipe_file, tmp_path_factory):
    """Folders of two finished runs that differ in the auxiliary alone; copy one before changing it."""
    parent = tmp_path_factory.mktemp("runs")
    plain = read_recipe(recipe_file, ["auxiliary.structure=none"])
    return {
        "auxiliary": train(read_recipe(recipe_file), parent / "auxiliary", verbose=0),
        "plain": train(plain, parent / "plain", verbose=0),
    }


@pytest.fixture
def use_shelf(monkeypatch):
    """A function that puts another shelf in the place of the published one."""

    def use(shelf):
        for function in (zoo.read_index, zoo.entry_folder, zoo.pull, zoo.load):
            *defaults, _ = function.__defaults__
            monkeypatch.setattr(function, "__defaults__", (*defaults, shelf))
        return shelf

    return use


@st.composite
def draw_nodes(draw, taps):
    """Draws nodes over the given taps, in any order, with any operation, width and resolution."""
    names = [tap for tap, _ in taps]
    nodes = []
    for place in range(draw(st.integers(1, 4))):
        links = draw(st.lists(st.sampled_from(names), min_size=place == 0, max_size=3, unique=True))
        operation, channels = draw(st.sampled_from(list(OPERATIONS))), draw(st.integers(1, 12))
        resolution = draw(st.none() | st.sampled_from(names))
        nodes.append(Node(f"node{place}", tuple(links), operation, channels, resolution))
    return tuple(nodes)


@st.composite
def draw_structures(draw, taps):
    """Draws a structure over the given taps, with a head in the end or in every node, chained or not."""
    nodes, supervision = draw(draw_nodes(taps)), draw(st.sampled_from(list(SUPERVISIONS)))
    if supervision == "deep":  # nodes that read no other need a tap
        nodes = [dataclasses.replace(node, links=node.links or (taps[0][0],)) for node in nodes]
    return Structure(taps, tuple(nodes), supervision=supervision, tasks=draw(st.sampled_from(TASK_SHARING)))


@pytest.fixture(scope="session")
def random_structures():
    """The strategy `draw_structures`, a function of taps: random structures."""
    return draw_structures
