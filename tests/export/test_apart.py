"""Files run in a child process: the same answers, and whatever a file does to the runtime is told by name."""

import argparse
import contextlib
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import TensorProto, helper
from PIL import Image

import auxzoo
from auxzoo import models
from auxzoo.command_line import main
from auxzoo.errors import UserError
from auxzoo.export import export_files, open_file, read_model_file
from auxzoo.export.apart import LARGEST_ANSWER, SECONDS, Apart, FileApart
from auxzoo.export.web_runtime import FILES

MUTATED = 200
REASON = re.compile(r"cannot be run: \S|must have one input|must take|is not a TFLite file|is damaged: \S")


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).uniform(-1, 1, (5, 4, 6, 3)).astype("float32")


@pytest.fixture(scope="module")
def endless_tflite(tmp_path_factory):
    """A TFLite file of one image that goes on for ever."""
    path = tmp_path_factory.mktemp("endless") / "endless.tflite"

    def turn(number, x):
        return number * 1, tf.sin(x)

    @tf.function(input_signature=[tf.TensorSpec([1, 2, 2, 3])])
    def endless(image):
        return tf.while_loop(lambda number, x: number >= 0, turn, (tf.reduce_sum(image * 0.0), image))[1]

    converter = tf.lite.TFLiteConverter.from_concrete_functions([endless.get_concrete_function()])
    path.write_bytes(converter.convert())
    assert "WHILE" in {operator.name for operator in read_model_file(path).operators}
    return path


@pytest.fixture(scope="module")
def endless_file(tmp_path_factory):
    """An ONNX file of one image that counts to 2**62."""
    path = tmp_path_factory.mktemp("endless") / "endless.onnx"
    value = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 2, 3])]
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["go_on_out"]),
            helper.make_node("Sin", ["state"], ["state_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, 2, 2, 3]),
        ],
        [
            helper.make_tensor_value_info("go_on_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_out", TensorProto.FLOAT, [1, 2, 2, 3]),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["trips", "", "x"], ["y"], body=body)],
        "graph",
        value,
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 2, 3])],
        [helper.make_tensor("trips", TensorProto.INT64, [], [2**62])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def external_file(tmp_path_factory):
    """An ONNX file whose weights lie in a file beside it, as exporters write large ones."""
    path = tmp_path_factory.mktemp("external") / "external.onnx"
    kernel = onnx.numpy_helper.from_array(np.arange(1, 10, dtype="float32").reshape(3, 3, 1, 1), "kernel")
    nodes = [
        helper.make_node("Transpose", ["image"], ["channels_first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["channels_first", "kernel"], ["maps"]),
        helper.make_node("ReduceMean", ["maps"], ["logits"], axes=[2, 3], keepdims=0),
    ]
    ends = [("image", [1, 8, 8, 3]), ("logits", [1, 3])]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in ends]
    graph = helper.make_graph(nodes, "graph", *ends, [kernel])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def children():
    """Returns the process ids of the children of this process that still run or were not waited for."""
    tasks = os.listdir(f"/proc/{os.getpid()}/task")
    lines = [Path(f"/proc/{os.getpid()}/task/{task}/children").read_text() for task in tasks]
    return {int(child) for line in lines for child in line.split()}


class TestGoodFiles:
    @pytest.mark.parametrize("form", ["tflite_float32", "tflite_int8", "onnx"])
    def test_answers_are_those_of_the_file_in_this_process(self, tiny, images, form):
        here, apart = open_file(tiny.files[form]), FileApart(tiny.files[form])
        np.testing.assert_array_equal(apart.predict(images), here.predict(images))
        assert apart.tensors() == here.tensors()
        apart.close()

    def test_several_outputs_are_a_dict(self, tmp_path):
        path = tmp_path / "two.onnx"
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            [helper.make_node("Relu", ["x"], ["positive"]), helper.make_node("Neg", ["x"], ["negative"])],
            "graph",
            [value("x", TensorProto.FLOAT, [1, 1, 2, 3])],
            [value(name, TensorProto.FLOAT, [1, 1, 2, 3]) for name in ("positive", "negative")],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        images = np.random.default_rng(0).normal(size=(3, 1, 2, 3)).astype("float32")
        results = FileApart(path).predict(images)
        np.testing.assert_array_equal(results["positive"], np.maximum(images, 0))
        np.testing.assert_array_equal(results["negative"], -images)

    def test_the_child_ends_with_its_file(self, tiny):
        before = children()
        file = FileApart(tiny.files["onnx"])
        assert len(children() - before) == 1
        file.close()
        assert children() == before
        file = FileApart(tiny.files["onnx"])
        del file  # nobody closed it
        assert children() == before

    @pytest.mark.parametrize("shape", [(0, 4, 6, 3), (4, 6, 3), (), (1, 6, 4, 3)])
    def test_images_of_another_shape_are_told(self, tiny, shape):
        with pytest.raises(UserError, match=r"`images` must be of shape \[count, 4, 6, 3\]"):
            FileApart(tiny.files["onnx"]).predict(np.zeros(shape, "float32"))


class TestTrouble:
    @pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "10", True])
    def test_a_limit_that_is_none(self, tiny, timeout):
        with pytest.raises(UserError, match="`timeout` must be a number of seconds above 0"):
            FileApart(tiny.files["onnx"], timeout=timeout)

    def test_a_missing_file_one_of_no_size_and_another_suffix(self, tmp_path):
        for size, message in ((0, "is empty"), (2**31, "must be smaller than 2 GiB. Received: 2,147,483,648 bytes")):
            with open(tmp_path / "odd.tflite", "wb") as file:
                file.truncate(size)
            with pytest.raises(UserError, match=message):
                FileApart(tmp_path / "odd.tflite")
        with pytest.raises(UserError, match=r"gone.onnx` is not a file"):
            FileApart(tmp_path / "gone.onnx")
        (tmp_path / "network.bin").write_bytes(b"TFL3")
        with pytest.raises(UserError, match=r"`path` must end in .tflite or .onnx. Received: `.*network.bin`"):
            FileApart(tmp_path / "network.bin")

    @pytest.mark.parametrize(("operator", "shape"), [("NonZero", ["a", "b"]), ("Size", []), ("Shape", [4])])
    def test_a_file_that_does_not_give_one_answer_an_image_is_told(self, tmp_path, operator, shape):
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            [helper.make_node(operator, ["x"], ["y"])],
            "graph",
            [value("x", TensorProto.FLOAT, [1, 1, 2, 3])],
            [value("y", TensorProto.INT64, shape)],
        )
        path = tmp_path / "odd.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        images = np.zeros((2, 1, 2, 3), "float32")
        images[1, 0, 0] = 1
        with pytest.raises(UserError, match=r"odd.onnx` cannot be run"):
            FileApart(path).predict(images)

    @pytest.mark.slow
    def test_a_file_that_gives_more_than_anybody_can_hold_is_told(self, tmp_path):
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("image", [1, 4, 4, 3]), ("y", [1, 10_000, 10_000, 1]))
        ]
        shape = onnx.numpy_helper.from_array(np.array([1, 10_000, 10_000, 1], np.int64), "shape")
        nodes = [
            helper.make_node("ReduceMax", ["image"], ["highest"], keepdims=1),
            helper.make_node("Expand", ["highest", "shape"], ["y"]),
        ]
        graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], initializer=[shape])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, tmp_path / "large.onnx")
        with (
            contextlib.closing(FileApart(tmp_path / "large.onnx")) as file,
            pytest.raises(UserError, match=r"large.onnx` cannot be run: it gives 400,000,000 bytes, more"),
        ):
            file.predict(np.zeros((1, 4, 4, 3), "float32"))

    def test_weights_in_a_file_beside_it_are_found_from_anywhere(self, external_file, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        answers = FileApart(external_file).predict(np.ones((2, 8, 8, 3), "float32"))
        np.testing.assert_allclose(answers, [[6.0, 15.0, 24.0]] * 2)  # sums of the kernel's rows, below
        (external_file.parent / "weights.bin").rename(tmp_path / "weights.bin")
        try:
            with pytest.raises(UserError, match=r"external.onnx` cannot be run: .*[Ee]xternal"):
                FileApart(external_file)
        finally:
            (tmp_path / "weights.bin").rename(external_file.parent / "weights.bin")

    def test_a_file_that_hangs_is_ended_in_time(self, endless_file):
        before, began = children(), time.monotonic()
        with pytest.raises(UserError, match=r"endless.onnx` cannot be run: no answer within 1 s"):
            FileApart(endless_file, timeout=1)
        assert time.monotonic() - began < 6  # the start of the child counts as well
        assert children() == before

    @pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
    def test_a_killed_child_is_told_by_the_signal(self, tiny, images, number):
        before = children()
        file = FileApart(tiny.files["tflite_float32"])
        (child,) = children() - before
        os.kill(child, number)
        with pytest.raises(UserError, match=rf"float32.tflite` cannot be run: it kills the runtime \({number.name}\)"):
            file.predict(images)
        with pytest.raises(UserError, match="its process was ended before"):
            file.predict(images)
        assert children() == before

    def test_a_runtime_that_cannot_be_imported_is_told(self, tiny, tmp_path, monkeypatch):
        (tmp_path / "onnxruntime.py").write_text("raise OSError('libonnx.so: no such file')")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        with pytest.raises(UserError, match=r"cannot be run: libonnx.so: no such file"):
            FileApart(tiny.files["onnx"])

    def test_a_python_that_does_not_start_is_told(self, tiny, monkeypatch):
        monkeypatch.setattr("sys.executable", "/bin/false")
        with pytest.raises(UserError, match=r"the runtime's process ended with exit code 1: no word of it"):
            FileApart(tiny.files["onnx"])

    def test_the_child_of_a_killed_parent_ends(self, tiny, tmp_path):
        """Also while it waits for a request."""
        program = (
            "import sys, time; from auxzoo.export.apart import FileApart; file = FileApart(sys.argv[1]); "
            "print(file._child.pid, flush=True); time.sleep(60)"
        )
        parent = subprocess.Popen(
            [sys.executable, "-c", program, tiny.files["onnx"]], stdout=subprocess.PIPE, text=True
        )
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 10
        while _runs(child) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _runs(child)


def _runs(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def mutated(content, generator):
    """Returns bytes with one to six bits flipped, one time in five cut off as well."""
    damaged = bytearray(content)
    for _ in range(generator.integers(1, 7)):
        damaged[generator.integers(len(damaged))] ^= 1 << generator.integers(8)
    return bytes(damaged[: generator.integers(len(damaged))] if generator.random() < 0.2 else damaged)


class Probe:
    """Asks one child about many files, and starts another when a file was its end."""

    def __init__(self, request):
        self.request, self.child = request, None

    def ask(self, path):
        """Returns "works", or what the `UserError` says."""
        try:
            if self.child is None:
                self.child = Apart(path, timeout=3)
            self.child.path = path
            largest = [LARGEST_ANSWER] if self.request == "open" else []
            self.child.ask(self.request, str(path), 1, *largest)
            return "works"
        except UserError as error:
            if "kills the runtime" in str(error) or "no answer" in str(error):
                self.child = None
            return str(error)


@pytest.mark.parametrize("request_", ["load", "open"])
@pytest.mark.parametrize("form", ["tflite_float32", "tflite_int8", "onnx"])
def test_mutated_files_work_or_are_refused_with_a_reason(tiny, tmp_path, form, request_):
    """200 of each kind through what `benchmark` asks (`load`), and what `predict` and `evaluate` do (`open`)."""
    source, generator, probe = tiny.files[form], np.random.default_rng(5), Probe(request_)
    answers = []
    for _ in range(MUTATED // 2):
        path = tmp_path / f"mutated{source.suffix}"
        path.write_bytes(mutated(source.read_bytes(), generator))
        answers.append(probe.ask(path))
    assert all(answer == "works" or REASON.search(answer) for answer in answers), answers
    assert 0 < answers.count("works") < len(answers)


@pytest.fixture
def one_child(monkeypatch):
    """Lets commands ask one child of each runtime about all files, as long as it lives: it starts once."""
    start, living = Apart.__init__, {}

    def start_or_take(self, path, timeout=SECONDS):
        path = Path(path)
        other = living.get(path.suffix)
        if other is None or not other._end.alive or other._child.poll() is not None:
            start(self, path, timeout)
            living[path.suffix] = self
        else:
            self.check(path)
            vars(self).update(vars(other) | {"path": path, "timeout": timeout})

    monkeypatch.setattr(Apart, "__init__", start_or_take)
    monkeypatch.setattr(Apart, "close", lambda self: None)
    yield
    for child in living.values():
        child._end()


@pytest.fixture(scope="module")
def described(tiny, tmp_path_factory):
    """Files that tell of themselves, by suffix, and a folder with a picture of each class."""
    folder = tmp_path_factory.mktemp("described")
    labels = ("red", "green", "blue")
    for place, label in enumerate(labels):
        for split in ("train", "test"):
            (folder / "data" / split / label).mkdir(parents=True)
            picture = np.zeros((4, 6, 3), "uint8")
            picture[..., place] = 200
            Image.fromarray(picture).save(folder / "data" / split / label / "0.png")
    task = auxzoo.Task("colour", "classification", labels)
    description = models.Description((), tiny.preprocessing, (task,))
    export_files(tiny.network, folder, ["tflite_float32", "onnx"], description=description, name="net")
    return {".tflite": folder / "net_float32.tflite", ".onnx": folder / "net.onnx"}, folder / "data"


@pytest.mark.parametrize(
    ("command", "suffix", "count"),
    [
        *[("predict", suffix, 20) for suffix in (".tflite", ".onnx")],
        *[("predict --json", suffix, 20) for suffix in (".tflite", ".onnx")],
        *[("evaluate", suffix, 40) for suffix in (".tflite", ".onnx")],
        ("bench-page", ".onnx", 40),
        *[("benchmark", suffix, 10) for suffix in (".tflite", ".onnx")],
        *[("inspect", suffix, 40) for suffix in (".tflite", ".onnx")],
    ],
)
@pytest.mark.usefixtures("one_child")
def test_commands_end_well_or_with_a_reason_on_mutated_files(described, tmp_path, capsys, command, suffix, count):
    """300 in all, 220 of them through commands that start a runtime."""
    files, data = described
    content, generator, codes = files[suffix].read_bytes(), np.random.default_rng(7), []
    path, picture = tmp_path / f"mutated{suffix}", data / "test" / "red" / "0.png"
    (tmp_path / "runtime" / "dist").mkdir(parents=True)
    (tmp_path / "runtime" / "package.json").write_text('{"name": "onnxruntime-web", "version": "9.8.7"}')
    for name in FILES:
        (tmp_path / "runtime" / "dist" / name).write_text("code")
    arguments = {
        "predict": [picture, "--to", tmp_path / "drawn", "--overwrite"],
        "predict --json": [picture, "--json", "--no-pictures"],
        "evaluate": ["--data", f"folder:{data}"],
        "bench-page": ["--runtime-from", tmp_path / "runtime", "--to", tmp_path / "page", "--overwrite"],
        "benchmark": ["--threads", "1", "--rounds", "1", "--runs", "2", "--warm-up", "1", "--no-profile"],
        "inspect": [],
    }[command]
    command, _, option = command.partition(" ")
    for _ in range(count):
        path.write_bytes(mutated(content, generator))
        began = time.monotonic()
        codes.append(main([command, str(path), *map(str, arguments), *["--timeout", "8"] * (command != "inspect")]))
        assert time.monotonic() - began < 30  # eight seconds, and a process that starts on a busy machine
        told = capsys.readouterr()
        assert codes[-1] in (0, 2), told
        if option and codes[-1] == 0:
            json.loads(told.out, parse_constant=pytest.fail)
        assert (codes[-1] == 2) == any(line.startswith(f"auxzoo {command}: ") for line in told.err.splitlines()), told
    assert {*codes} == {0, 2}


@pytest.mark.parametrize("name", ["predict", "evaluate", "benchmark"])
def test_commands_wait_as_long_as_python_does(name):
    parser = argparse.ArgumentParser()
    importlib.import_module(f"auxzoo.commands.{name}").add_arguments(parser)
    assert parser.get_default("timeout") == SECONDS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "limit", "kind"),
    [
        *[(command, 2, kind) for command in ("predict", "evaluate", "benchmark") for kind in ("onnx", "tflite")],
        ("predict", None, "onnx"),  # as long as the test before says
    ],
)
def test_commands_end_with_a_reason_where_a_file_hangs(request, tmp_path, capsys, command, limit, kind):
    path = request.getfixturevalue("endless_file" if kind == "onnx" else "endless_tflite")
    picture = tmp_path / "picture.png"
    Image.new("RGB", (4, 4)).save(picture)
    arguments = {
        "predict": [path, picture, "--network", "resnet18_025_cifar10", "--to", tmp_path / "predicted"],
        "evaluate": [path, "--network", "resnet18_025_cifar10", "--data", "sample"],
        "benchmark": [path],
    }
    timeout = ["--timeout", str(limit)] if limit else []
    began = time.monotonic()
    assert main([command, *map(str, arguments[command]), *timeout]) == 2
    assert time.monotonic() - began < 30  # eight seconds, and a process that starts on a busy machine
    assert f"endless.{kind}` cannot be run: no answer within {limit or SECONDS:g} s" in capsys.readouterr().err
    assert not (tmp_path / "predicted").exists()


def test_no_page_is_written_for_a_file_whose_weights_lie_beside_it(external_file, tmp_path, capsys):
    assert main(["bench-page", str(external_file), "--to", str(tmp_path / "page")]) == 2
    message = capsys.readouterr().err
    assert "external.onnx` must run without other files beside it, as in a page" in message
    assert re.search(r"Received: cannot be run: .*[Ee]xternal", message)
    assert not list(tmp_path.iterdir())


def test_no_page_is_written_for_a_file_that_hangs(endless_file, tmp_path, capsys):
    assert main(["bench-page", str(endless_file), "--to", str(tmp_path / "page"), "--timeout", "2"]) == 2
    assert "endless.onnx` cannot be run: no answer within 2 s" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
