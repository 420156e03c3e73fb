"""The front door: names that load on first use, and the command's exit codes."""

import importlib
import importlib.metadata
import inspect
import pkgutil
import subprocess
import sys
import types

import numpy as np
import pytest

import auxzoo
from auxzoo import command_line

ROOMS = ("auxiliary", "data", "export", "metrics", "models", "training")
# What the documentation names.
PUBLIC = {
    "auxzoo": ("Structure", "Task", "UserError", "attach", "describe", "detach", "fit", "load", "train", *ROOMS),
    "auxzoo.auxiliary": ("Structure", "attach", "detach"),
    "auxzoo.data": ("Augmentation", "ImageSet", "Target", "open_images", "preprocess", "read_image"),
    "auxzoo.export": (
        *("DEFAULT_FORMATS", "FORMATS", "evaluate_file", "export_files", "open_file", "quantization_report"),
        *("read_metadata", "to_onnx", "to_tflite", "weights_checksum"),
    ),
    "auxzoo.metrics": ("Accuracy", "ConfusionMatrix", "Regression", "Segmentation", "relative_improvement"),
    "auxzoo.models": (
        *("DeepLabLite", "MobileNetV2", "MultiTask", "ResNet18", "Description", "Preprocessing"),
        *("describe", "described", "load", "load_keras_file", "measure_costs"),
    ),
    "auxzoo.training": (
        *("Objective", "Optimization", "Recipe", "Trainer", "TrainingDiverged"),
        *("evaluate", "fit", "read_recipe", "set_threads", "train"),
    ),
}


def import_every_module():
    """Imports every room and module of the package, as a long session does; returns their names."""
    names = ["auxzoo", *(f"auxzoo.{room}" for room in ROOMS)]
    for package in list(names):
        module = importlib.import_module(package)
        names += [found.name for found in pkgutil.walk_packages(getattr(module, "__path__", []), f"{package}.")]
    for name in names:
        importlib.import_module(name)
    return sorted(set(names))


@pytest.fixture(scope="module")
def modules():
    return import_every_module()


# What a child process runs, and the arguments of `main`.
RUN = "from auxzoo.command_line import main; code = main(sys.argv[2:])"
LAZY_CASES = {
    "import": ("import auxzoo; dir(auxzoo); auxzoo.UserError; code = 0",),
    "help": (RUN, "--help"),
    "version": (RUN, "--version"),
    "list": (RUN, "list"),
    "list as JSON": (RUN, "list", "--json"),
    "pull": (RUN, "pull", "mobilenet_v2_050_cifar10", "--to", "here"),
    **{f"help of {name}": (RUN, name, "--help") for name in command_line.COMMANDS},
}


class TestLaziness:
    """In a process of its own each, because this one has loaded TensorFlow."""

    @pytest.mark.parametrize("case", LAZY_CASES)
    def test_tensorflow_stays_out(self, case, shelf, tmp_path):
        code, *arguments = LAZY_CASES[case]
        program = (
            "import sys, pathlib\n"
            "from auxzoo.models import zoo\n"
            "for function in (zoo.read_index, zoo.entry_folder, zoo.pull):\n"
            "    function.__defaults__ = (*function.__defaults__[:-1], pathlib.Path(sys.argv[1]))\n"
            f"{code}\n"
            "heavy = {'tensorflow', 'keras', 'onnx', 'onnxruntime', 'ai_edge_litert', 'matplotlib', 'numpy'}\n"
            "print('loaded:', *sorted(heavy & set(sys.modules)))\n"
            "sys.exit(code)"
        )
        child = subprocess.run(
            [sys.executable, "-c", program, str(shelf), *arguments], cwd=tmp_path, capture_output=True, text=True
        )
        assert child.returncode == 0, child.stderr
        assert child.stdout.splitlines()[-1] == "loaded:"
        if case == "pull":
            assert (tmp_path / "here" / "mobilenet_v2_050_cifar10" / "model.weights.h5").exists()


class TestNames:
    @pytest.mark.parametrize("module", PUBLIC)
    def test_documented_names_exist(self, module):
        loaded = importlib.import_module(module)
        for name in PUBLIC[module]:
            assert getattr(loaded, name) is not None
            assert name in dir(loaded)

    def test_all_is_what_is_there(self):
        assert set(auxzoo.__all__) | set(ROOMS) == set(PUBLIC["auxzoo"])
        for name in (*auxzoo.__all__, *ROOMS):
            assert inspect.ismodule(getattr(auxzoo, name)) is (name in ROOMS)

    def test_everything_public_says_what_it_does(self):
        for module, names in PUBLIC.items():
            for name in names:
                value = getattr(importlib.import_module(module), name)
                assert isinstance(value, dict) or value.__doc__, f"{module}.{name}"

    @pytest.mark.parametrize("module", ["auxzoo", "auxzoo.models", "auxzoo.training", "auxzoo.export"])
    def test_an_unknown_name_is_told(self, module):
        with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nothing'"):
            importlib.import_module(module).nothing  # noqa: B018  (looking the name up is the test)

    def test_no_name_is_that_of_a_module(self, modules):
        # Python sets an imported module as an attribute of its package: it would overwrite the name for good.
        for package, names in PUBLIC.items():
            if package == "auxzoo":
                names = auxzoo.__all__
            assert not {f"{package}.{name}" for name in names} & set(modules)

    def test_every_name_works_twice_after_every_room_was_imported(self, modules, make_images):
        assert len(modules) > 30
        images = make_images(8)
        for _ in range(2):
            network = auxzoo.models.ResNet18((8, 8, 3), 0.125, "small", num_classes=3)
            joint = auxzoo.attach(network, auxzoo.Structure.default(network))
            assert set(joint.output) == {"compact", *(f"auxiliary_stage{number}" for number in range(1, 5))}
            assert auxzoo.detach(joint).output.shape == (None, 3)
            assert auxzoo.describe(network).is_classifier
            # The dear ones are called so far as to refuse in their own words.
            with pytest.raises(auxzoo.UserError, match="`epochs` must be 1 or more"):
                auxzoo.fit(network, images, epochs=0)
            with pytest.raises(auxzoo.UserError, match="`name` must be"):
                auxzoo.load("nothing of the kind")
            with pytest.raises(auxzoo.UserError, match="`recipe` must be"):
                auxzoo.train("nothing_of_the_kind")
            with pytest.raises(auxzoo.UserError, match="must be"):
                auxzoo.export.to_onnx(joint, "joint.onnx")
            assert auxzoo.data.open_images("sample", "test").size == 2000
            assert np.isnan(auxzoo.metrics.Accuracy().result())
            assert all(inspect.ismodule(getattr(auxzoo, room)) for room in ROOMS)

    def test_the_lazy_names_are_those_of_their_modules(self, modules):
        for package in ("models", "training", "export"):
            room = getattr(auxzoo, package)
            for name, module in room._NAMES.items():
                assert getattr(room, name) is getattr(importlib.import_module(f"auxzoo.{package}.{module}"), name)


class TestCommandLine:
    def test_the_installed_command_is_this_one(self):
        (script,) = importlib.metadata.entry_points(group="console_scripts", name="auxzoo")
        assert script.load() is command_line.entry_point

    def test_the_exit_code_reaches_the_shell(self, monkeypatch):
        for arguments, code in ((["--version"], 0), (["nothing"], 2), (["pull", "nothing", "--to", "x"], 2)):
            monkeypatch.setattr(sys, "argv", ["auxzoo", *arguments])
            with pytest.raises(SystemExit) as stop:
                command_line.entry_point()
            assert stop.value.code == code

    def test_help_names_every_command(self, command):
        outcome = command("--help")
        assert (outcome.code, outcome.error) == (0, "")
        words = " ".join(outcome.output.split())  # long lines are wrapped
        for name, (_, help_line) in command_line.COMMANDS.items():
            assert f" {name} {help_line}" in words

    def test_the_version_is_that_of_the_package(self, command):
        outcome = command("--version")
        assert (outcome.code, outcome.output) == (0, f"auxzoo {auxzoo.__version__}\n")
        assert importlib.metadata.version("auxzoo") == auxzoo.__version__

    @pytest.mark.parametrize("name", command_line.COMMANDS)
    def test_the_help_of_a_command_tells_its_arguments(self, command, name):
        outcome = command(name, "--help")
        assert (outcome.code, outcome.error) == (0, "")
        assert outcome.output.startswith(f"usage: auxzoo {name}")
        assert command_line.COMMANDS[name][1] in outcome.output

    @pytest.mark.parametrize("name", command_line.COMMANDS)
    def test_every_argument_has_a_line_of_help(self, name):
        from absl.flags import argparse_flags

        parser = argparse_flags.ArgumentParser()
        importlib.import_module(command_line.COMMANDS[name][0]).add_arguments(parser)
        for action in parser._actions:
            assert action.help, action.dest

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "the following arguments are required: COMMAND"),
            (["nothing"], "invalid choice: 'nothing' (choose from"),
            (["list", "more"], "unrecognized arguments: more"),
            (["list", "--yaml"], "unrecognized arguments: --yaml"),
            (["pull", "name"], "the following arguments are required: --to"),
            (["pull"], "the following arguments are required: name"),
            (["show"], "the following arguments are required: name"),
            (["train"], "the following arguments are required: recipe"),
            (["train", "r", "--compilation", "fast"], "argument --compilation: invalid choice: 'fast'"),
            (["train", "r", "--onednn", "perhaps"], "argument --onednn: invalid choice: 'perhaps'"),
            (["train", "r", "--verbose", "3"], "argument --verbose: invalid choice: '3'"),
            (["--nothing"], "unrecognized arguments: --nothing|the following arguments are required: COMMAND"),
        ],
    )
    def test_wrong_usage_is_named_with_code_2(self, command, arguments, message):
        outcome = command(*arguments)
        assert (outcome.code, outcome.output) == (2, "")
        assert outcome.error.startswith("usage: auxzoo")
        assert any(part in outcome.error for part in message.split("|"))

    def test_an_interrupted_command_says_so_without_a_traceback(self, command, monkeypatch):
        self.replace_list(monkeypatch, KeyboardInterrupt())
        outcome = command("list")
        assert (outcome.code, outcome.error) == (130, "auxzoo list: interrupted\n")

    def test_a_file_that_cannot_be_used_is_named_without_a_traceback(self, command, monkeypatch):
        self.replace_list(monkeypatch, PermissionError(13, "Permission denied", "/a/folder"))
        outcome = command("list")
        assert (outcome.code, outcome.error) == (2, "auxzoo list: `/a/folder`: Permission denied\n")

    def test_a_failure_of_ours_exits_with_1_and_its_message(self, command, monkeypatch):
        from auxzoo.training import TrainingDiverged

        self.replace_list(monkeypatch, TrainingDiverged("The loss became nan in epoch 1, step 3"))
        outcome = command("list")
        assert (outcome.code, outcome.error) == (1, "auxzoo list: The loss became nan in epoch 1, step 3\n")

    @pytest.mark.parametrize("error", [RuntimeError("of a library"), ValueError("of a library"), KeyError("k")])
    def test_a_fault_keeps_its_traceback(self, command, monkeypatch, error):
        # Told as the user's mistake, nobody would ever report it.
        self.replace_list(monkeypatch, error)
        with pytest.raises(type(error)):
            command("list")

    def replace_list(self, monkeypatch, error):
        def fail(arguments):
            raise error

        module = types.SimpleNamespace(add_arguments=lambda parser: None, run=fail)
        monkeypatch.setitem(sys.modules, "auxzoo.commands.list", module)
