"""`auxzoo pull NAME --to DIR`."""


def add_arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument("name", help="a published network (auxzoo list)")
    parser.add_argument("--to", required=True, metavar="DIR", help="folder to put it in")


def run(arguments):
    """Copies a published entry, checked; loads no TensorFlow."""
    from auxzoo.models import zoo

    print(zoo.pull(arguments.name, arguments.to))
