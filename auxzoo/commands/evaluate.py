"""`auxzoo evaluate NAME|FOLDER|FILE`."""

from auxzoo.commands.common import add_data_arguments, load_network, load_tensorflow, open_split, percent


def add_arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument("name", help="a published network, a folder of one, or a .keras, .tflite or .onnx file")
    parser.add_argument("--network", help="for a file: the network it was exported from, whose preprocessing it needs")
    parser.add_argument("--split", default="test", help="(default: %(default)s)")
    add_data_arguments(parser)


def run(arguments):
    """Measures accuracy on images."""
    from auxzoo.errors import UserError

    is_file = arguments.name.endswith((".tflite", ".onnx"))
    if is_file and not arguments.network:
        raise UserError("`--network` must name the network that a .tflite or .onnx file was exported from.")
    if arguments.network and not is_file:
        raise UserError(f"`--network` may be given only with a .tflite or .onnx file. Received: {arguments.name!r}")
    load_tensorflow()
    from auxzoo import models
    from auxzoo.export.measurement import evaluate_file
    from auxzoo.export.runtime import open_file
    from auxzoo.training.evaluation import evaluate
    from auxzoo.training.loop import number_of_classes

    if is_file:
        open_file(arguments.name)  # a broken file is told before any image is read
    network = load_network(arguments.network if is_file else arguments.name)
    description = models.describe(network)
    if not description.is_classifier:
        raise UserError(f"`name` must be a classifier. Received: {network.name}, {description.kinds}")
    images = open_split(arguments, arguments.split)
    classes = number_of_classes(network)
    if len(images.labels) != classes:
        raise UserError(f"`--data` must have {classes} classes, as {network.name}. Received: {len(images.labels)}")
    if is_file:
        result = evaluate_file(arguments.name, images, models.describe(network).preprocessing)
    else:
        result = evaluate(network, images)
    print(f"{arguments.name}: {percent(result['accuracy'])} % of {result['images']} images of {images.name}")
