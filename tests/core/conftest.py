"""What the tests of the roof share: a command as a user types it, and a shelf with one small entry."""

import contextlib
import dataclasses
import io

import pytest

import auxzoo
from auxzoo import models
from auxzoo.command_line import main
from auxzoo.files import write_json
from auxzoo.models import zoo


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        code: its exit code.
        output: what it wrote to standard output.
        error: what it wrote to standard error.
    """

    code: int
    output: str
    error: str


def run_command(*arguments):
    """Runs `auxzoo ARGUMENTS` in this process, with its output in a pipe."""
    output, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(error):
        code = main([str(argument) for argument in arguments])
    return Outcome(code, output.getvalue(), error.getvalue())


@pytest.fixture(scope="session")
def command():
    """The function `run_command`."""
    return run_command


@pytest.fixture(scope="session")
def shelf(tmp_path_factory, make_random):
    """A shelf with one small entry, called as a published one is: names of that length must fit everywhere."""
    shelf, name = tmp_path_factory.mktemp("shelf"), "mobilenet_v2_050_cifar10"
    network = make_random(models.ResNet18((32, 32, 3), 0.125, "small_stride2", num_classes=10))
    zoo.save_entry(network, shelf / name, name=name)
    auxzoo.Structure.default(network).save(shelf / name / "structure.json")
    costs = models.measure_costs(network)
    summary = {
        "data": "CIFAR-10 (JPEG copy)",
        "input": [32, 32, 3],
        "parameters": costs.parameters,
        "macs": costs.macs,
        "accuracy": 0.9321,
        "int8_accuracy": 0.9276,
        "int8_bytes": 1_234_567,
    }
    write_json(shelf / zoo.INDEX_FILE, {name: zoo.index_entry(shelf / name, summary)})
    return shelf
