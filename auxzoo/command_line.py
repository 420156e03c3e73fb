"""The `auxzoo` command: finds the command's module, parses its arguments, turns errors into exit codes."""

import importlib
import os
import sys

from absl.flags import argparse_flags

import auxzoo
from auxzoo.errors import UserError

# name -> (module, one line of help). A module has `add_arguments(parser)` and `run(arguments)`, and imports
# nothing heavy before `run`.
COMMANDS = {
    "list": ("auxzoo.commands.list", "list the published networks"),
    "show": ("auxzoo.commands.show", "show a network: layers, taps, parameters, multiplications, memory"),
    "pull": ("auxzoo.commands.pull", "copy a published network to a folder, checked"),
    "train": ("auxzoo.commands.train", "carry out a training recipe, or continue it"),
    "search": ("auxzoo.commands.search", "find the structure of the auxiliary for a recipe"),
    "study": ("auxzoo.commands.study", "train arms on the same seeds and compare them, resumably"),
    "evaluate": ("auxzoo.commands.evaluate", "measure a network or an exported file on images"),
    "export": ("auxzoo.commands.export", "write TFLite and ONNX files, each measured"),
    "inspect": ("auxzoo.commands.inspect", "tell what a TFLite or ONNX file holds, and on which devices it fits"),
    "quantization-report": ("auxzoo.commands.quantization_report", "tell which layers cost the accuracy of int8"),
    "predict": ("auxzoo.commands.predict", "run a network or an exported file on photographs, and draw the result"),
    "benchmark": ("auxzoo.commands.benchmark", "measure latency, cold start and memory of files side by side"),
    "bench-page": ("auxzoo.commands.bench_page", "write and serve a page that measures an ONNX file in a browser"),
    "demo": (
        "auxzoo.commands.demo",
        "fine-tune, export and measure a published network, in minutes",
    ),
}


def main(argv=None):
    """Runs a command.

    Args:
        argv: `list` of `str` without the program's name; those of the process if `None`.

    Returns:
        exit code: 0, 1 (the work failed) or 2 (the user's mistake).
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = argparse_flags.ArgumentParser(
        prog="auxzoo", description="Compact vision networks that train inside a wider network and ship alone."
    )
    parser.add_argument("--version", action="version", version=f"auxzoo {auxzoo.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, help_line) in COMMANDS.items():
        command_parser = commands.add_parser(name, help=help_line, description=f"{help_line}.")
        if name in argv[:1]:
            importlib.import_module(module).add_arguments(command_parser)
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as stop:  # argparse has printed the help or what was wrong
        return stop.code or 0
    # TensorFlow's own lines are for its developers; ours are the ones to read.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        return importlib.import_module(COMMANDS[arguments.command][0]).run(arguments) or 0
    except UserError as error:
        print(f"auxzoo {arguments.command}: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        # Raised on purpose, with a message to read; anything else is a fault of ours and keeps its traceback.
        if type(error).__module__.split(".")[0] != "auxzoo":
            raise
        print(f"auxzoo {arguments.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"auxzoo {arguments.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of `auxzoo list | head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        # A file or folder that cannot be read or written, or whose name is too long.
        if error.filename is None:
            raise
        print(f"auxzoo {arguments.command}: `{error.filename}`: {error.strerror}", file=sys.stderr)
        return 2


def entry_point():
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry_point()
