"""Commands whose disk is full: the file is named, and whatever lay there before is as it was."""

import contextlib
import json
import subprocess
import tempfile
from pathlib import Path

import PIL.Image
import pytest
from onnx import TensorProto, helper, save

from auxzoo import models
from auxzoo.export.web_runtime import FILES, PACKAGE, VERSION
from auxzoo.files import written_aside

FULL = "No space left on device"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a network, an ONNX file and the runtime of a page."""
    folder = tmp_path_factory.mktemp("made")
    models.ResNet18((8, 10, 3), 0.125, "small", num_classes=10).save(folder / "net.keras")
    PIL.Image.new("RGB", (10, 8)).save(folder / "photograph.png")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8, 10, 3]) for name in ("image", "logits")]
    graph = helper.make_graph([helper.make_node("Relu", ["image"], ["logits"])], "graph", ends[:1], ends[1:])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "net.onnx")
    (folder / "runtime" / "dist").mkdir(parents=True)
    (folder / "runtime" / "package.json").write_text(json.dumps({"name": PACKAGE, "version": VERSION}))
    for name in FILES:
        (folder / "runtime" / "dist" / name).write_text(f"content of {name}")
    return folder


@contextlib.contextmanager
def mounted(disk, kilobytes):
    """Makes a disk of so many kilobytes, at the path of a folder that is made."""
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", disk]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a file system can be mounted by root alone")
    try:
        yield
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.fixture
def full_disk(tmp_path):
    """A folder on a disk without a free byte, with a file `earlier` in it, and one in `out`."""
    disk = tmp_path / "disk"
    with mounted(disk, 64):
        (disk / "out").mkdir()
        for path in (disk / "earlier", disk / "out" / "net.onnx"):
            path.write_text("earlier")
        with contextlib.suppress(OSError), open(disk / "filling", "wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))
        yield disk


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


EXPORT = ("export", "net.keras", "--formats", "onnx", "--no-accuracy", "--overwrite", "--to")
REPORT = ("quantization-report", "net.keras", "--data", "sample", "--to")
TFLITE = ("export", "net.keras", "--formats", "tflite_float32", "--no-accuracy", "--overwrite", "--to")
BENCHMARK = ("benchmark", "net.onnx", "--threads", "1", "--rounds", "1", "--runs", "3", "--no-profile")
# name -> arguments, of which DISK/... is to be written, and what the message names.
COMMANDS = {
    "export onnx": ([*EXPORT, "DISK/out"], "DISK/out/net.onnx"),
    "export tflite": ([*TFLITE, "DISK/out"], "DISK/out/net_float32.tflite"),
    "predict": (["predict", "net.keras", "photograph.png", "--to", "DISK/out"], "DISK/out/photograph.png"),
    "inspect": (["inspect", "net.onnx", "--json", "DISK/earlier"], "DISK/earlier"),
    "benchmark": ([*BENCHMARK, "--json", "DISK/earlier"], "DISK/earlier"),
    "benchmark plot": ([*BENCHMARK, "--plot", "DISK/plot.png"], "DISK/plot.png"),
    "bench-page": (["bench-page", "net.onnx", "--runtime-from", "runtime", "--to", "DISK/page"], "DISK/page"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_file_that_a_full_disk_does_not_take(command, made, full_disk, monkeypatch, name):
    monkeypatch.chdir(made)
    before = contents(full_disk)
    arguments, named = COMMANDS[name]
    outcome = command(*(argument.replace("DISK", str(full_disk)) for argument in arguments))
    assert outcome.code == 2
    assert outcome.error.startswith(f"auxzoo {arguments[0]}: ")
    assert named.replace("DISK", str(full_disk)) in outcome.error
    assert FULL in outcome.error
    assert "Traceback" not in outcome.error
    assert contents(full_disk) == before


def test_a_layer_report_that_a_full_disk_does_not_take(command, made, full_disk, monkeypatch):
    monkeypatch.chdir(made)
    before = contents(full_disk)
    arguments = ("--data", "sample", "--count", "2", "--calibration-count", "100")
    outcome = command("quantization-report", "net.keras", *arguments, "--to", str(full_disk / "out"))
    assert outcome.code == 2, outcome
    assert FULL in outcome.error
    assert f"{full_disk / 'out'}" in outcome.error
    assert contents(full_disk) == before


@pytest.mark.parametrize("arguments", [[*EXPORT, "out"], [*REPORT, "out"]])
def test_a_full_disk_of_temporary_files(command, made, full_disk, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.keras").symlink_to(made / "net.keras")
    monkeypatch.setattr(tempfile, "tempdir", str(full_disk))
    before = contents(full_disk)
    outcome = command(*arguments)
    assert outcome.code == 2
    assert outcome.error.startswith(f"auxzoo {arguments[0]}: `{full_disk / 'auxzoo-'}")
    assert outcome.error.endswith(f"`: {FULL}\n")
    assert before.items() <= contents(full_disk).items()  # AutoGraph may leave an empty file
    assert not list(full_disk.glob("auxzoo-*"))
    assert not Path("out").exists()


# Kilobytes of the disk -> what they are too few for, and what there is of the run then.
TRAINING = {
    4: ("recipe.yaml", set()),
    8: ("tensorboard", {"run.json", "recipe.yaml"}),
    24: ("run_state.npz", {"run.json", "recipe.yaml"}),
    800: ("model.weights.h5", {"run.json", "recipe.yaml", "run_state.npz"}),
}


@pytest.mark.usefixtures("shallow_networks")
@pytest.mark.parametrize("kilobytes", TRAINING)
def test_a_run_that_a_full_disk_does_not_take(command, tmp_path, kilobytes):
    recipe = {
        "name": "tiny",
        "network": {"architecture": "ResNet18", "arguments": {"input_shape": [8, 8, 3], "width": 0.125}},
        "data": {"source": "sample", "validation_count": 16, "train_count": 16, "test_split": None},
        "auxiliary": {"structure": "none"},
        "compute": {"compilation": "graph"},
        "epochs": 1,
        "batch_size": 16,
    }
    (tmp_path / "tiny.yaml").write_text(json.dumps(recipe))
    folder = tmp_path / "disk" / "run"
    arguments = ("train", tmp_path / "tiny.yaml", "--to", folder, "--verbose", "0")
    with mounted(folder.parent, kilobytes):
        outcome = command(*arguments)
        named, left = TRAINING[kilobytes]
        assert outcome.code == 2, outcome
        assert outcome.error.startswith("auxzoo train: `")
        assert f"`{folder / named}`" in outcome.error
        assert outcome.error.endswith(f": {FULL}\n")
        assert "Traceback" not in outcome.error
        files = {path.name for path in folder.iterdir() if path.is_file()}
        assert files == {".lock", *left}
        if named == "model.weights.h5":  # nothing that was trained is lost
            state = (folder / "run_state.npz").read_bytes()
            subprocess.run(["mount", "-o", "remount,size=4m", folder.parent], check=True)
            assert command(*arguments).code == 0
            assert (folder / "metrics.json").exists()
            assert (folder / "run_state.npz").read_bytes() == state


def test_where_no_disk_can_be_mounted(tmp_path):
    """The system's own file that is always full, in the place of the one that is written aside."""
    path = tmp_path / "result.json"
    path.write_text("earlier")

    def write():
        with written_aside(path) as temporary:
            temporary.symlink_to("/dev/full")
            temporary.write_text("later")

    with pytest.raises(OSError, match=f"{FULL}: '{path}'"):
        write()
    assert contents(tmp_path) == {"result.json": b"earlier"}
