"""`auxzoo demo`."""

from auxzoo.commands.common import load_tensorflow


def add_arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument("--to", metavar="DIR", help="an empty or new folder (default: a new numbered one in runs/)")


def run(arguments):
    """Runs the demo; it needs no network connection and no argument."""
    load_tensorflow()
    from auxzoo.demo import run_demo
    from auxzoo.training import set_threads

    set_threads()
    run_demo(arguments.to)
