"""`auxzoo evaluate NAME|FOLDER|FILE`."""

import contextlib
import json
import sys

from auxzoo.commands.common import (
    add_file_arguments,
    check_network_or_file,
    load_tensorflow,
    make_table,
    percent,
    print_table,
)
from auxzoo.commands.foreign import add_foreign_arguments, check_none_given, load_described
from auxzoo.commands.images import add_data_arguments, check_data, choose_images, tell_other_classes
from auxzoo.metric_names import as_text, metric_name

_MOST_CLASSES = 50  # rows of a table
_MOST_PHOTOGRAPHS = 100  # of a sheet


def add_arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument("name", help="a published network, a folder of one, or a .keras, .tflite or .onnx file")
    add_file_arguments(parser)
    add_foreign_arguments(parser)
    parser.add_argument("--split", help="of the images; all of an undivided folder: all (default: the test split)")
    parser.add_argument("--pictures", metavar="FILE", help="a PNG of predictions beside the truth, to be written")
    parser.add_argument("--count", type=int, default=8, help="photographs in --pictures (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, and nothing else")
    add_data_arguments(parser)


def run(arguments):
    """Measures a network or a file on images."""
    # What is told besides, as of broken images, is no JSON.
    with contextlib.redirect_stdout(sys.stderr) if arguments.json else contextlib.nullcontext():
        result = _evaluate(arguments)
    if arguments.json:
        print(json.dumps(result, indent=2, ensure_ascii=False))


def _evaluate(arguments):
    """Returns what was measured, a `dict` of plain JSON types, and prints it unless it goes out as JSON."""
    from auxzoo.errors import UserError

    is_file = check_network_or_file(arguments)
    if is_file:
        check_none_given(arguments)
    check_data(arguments, arguments.network if is_file else arguments.name)
    if arguments.pictures and not arguments.pictures.endswith(".png"):
        raise UserError(f"`--pictures` must end in .png. Received: {arguments.pictures!r}")
    if arguments.pictures and not 1 <= arguments.count <= _MOST_PHOTOGRAPHS:
        raise UserError(f"`--count` must be 1 to {_MOST_PHOTOGRAPHS}. Received: {arguments.count}")
    load_tensorflow()
    from auxzoo import models
    from auxzoo.export.measurement import evaluate_opened
    from auxzoo.prediction import draw_some, open_predictor, predictor_of
    from auxzoo.training.evaluation import evaluate
    from auxzoo.training.outputs import fitting_images

    # A broken file is told before any image is read.
    if is_file:
        predictor, name = open_predictor(arguments.name, arguments.network, arguments.timeout), arguments.network
        network = None if name is None else models.load(name)
        description = predictor.description
    else:
        predictor, name, network = None, arguments.name, load_described(arguments)
        description = models.describe(network)
    if not description.tasks:
        raise UserError(f"`name` must be a network with a head. Received: {network.name}, {description.kinds}")
    images = choose_images(arguments, name, description).open("test", arguments.split)
    if network is not None:
        images = fitting_images(network, images, "--data")
    else:
        images = images.for_tasks(description.tasks, predictor.classes, arguments.name, "--data")
    tell_other_classes(description, images)
    details = description.is_classifier
    if is_file:
        result = evaluate_opened(predictor, images, description.preprocessing, details=details)
    else:
        result = evaluate(network, images, details=details)
    if not arguments.json and description.is_classifier:
        _print_classes(arguments.name, result, images)
    elif not arguments.json:
        print_table(_table(arguments.name, result, images, description.tasks))
    if arguments.pictures:
        count = min(arguments.count, images.size)
        predictor = predictor or predictor_of(network)
        draw_some(predictor, images, count, arguments.pictures, title=f"{arguments.name}: {images.name}")
        print(f"{count} predictions beside the truth are in {arguments.pictures}")
    return {"name": arguments.name, "source": images.name, **result}


def _print_classes(name, result, images):
    """Prints the scores of a classifier."""
    from auxzoo.scores import TOP

    print(f"{name}: {percent(result['accuracy'])} % of {result['images']} images of {images.name}")
    shares, counts = result["accuracy_of_classes"], result["images_of_classes"]
    top = f"top_{TOP}_accuracy"
    said = f"; among the {TOP} likeliest {percent(result[top])} %" if top in result else ""
    seen = sum(share is not None for share in shares.values())
    print(f"Mean of {seen} classes {percent(result['mean_accuracy_of_classes'])} %{said}")
    if len(shares) <= _MOST_CLASSES:
        table = make_table(None, "class", "images>", "accuracy %>", "most often taken for")
        for label, share in shares.items():
            mistakes = [f"{other} ({count:,})" for other, count in result["mistakes_of_classes"][label].items()]
            table.add_row(label, f"{counts[label]:,}", "" if share is None else percent(share), ", ".join(mistakes[:2]))
        print_table(table)


def _table(name, result, images, tasks):
    units = {
        metric_name(tasks, task, metric): f" {task.unit}".rstrip()
        for task in tasks
        for metric in ("root_mean_squared_error", "mean_absolute_error")
    }
    table = make_table(f"{name}: {result['images']} images of {images.name}", "measure", "value>")
    for measure, value in result.items():
        if isinstance(value, dict):
            task = measure.removesuffix("iou_of_classes").replace("_", " ")
            for label, iou in value.items():
                table.add_row(f"{task}iou of {label}", "" if iou is None else as_text("iou", iou))
        elif value is None:  # no target counts for it
            table.add_row(measure, "")
        elif measure not in ("images", "source"):
            text = f"{value:,}" if isinstance(value, int) else as_text(measure, value) + units.get(measure, "")
            table.add_row(measure, text)
    return table
