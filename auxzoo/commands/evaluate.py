"""`auxzoo evaluate NAME|FOLDER|FILE`."""

from auxzoo.commands.common import (
    add_data_arguments,
    check_network_of_file,
    load_network,
    load_tensorflow,
    make_table,
    open_split,
    percent,
    print_table,
    recipe_targets,
)


def add_arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument("name", help="a published network, a folder of one, or a .keras, .tflite or .onnx file")
    parser.add_argument("--network", help="for a file: the network it was exported from, whose preprocessing it needs")
    parser.add_argument("--recipe", help="for tasks other than one class an image: whose data have the truth of them")
    parser.add_argument("--split", default="test", help="(default: %(default)s)")
    parser.add_argument("--pictures", metavar="FILE", help="a PNG of predictions beside the truth, to be written")
    parser.add_argument("--count", type=int, default=8, help="photographs in it (default: %(default)s)")
    add_data_arguments(parser)


def run(arguments):
    """Measures a network or a file on images."""
    from auxzoo.errors import UserError

    is_file = check_network_of_file(arguments)
    if arguments.pictures and not arguments.pictures.endswith(".png"):
        raise UserError(f"`--pictures` must end in .png. Received: {arguments.pictures!r}")
    load_tensorflow()
    from auxzoo import models
    from auxzoo.export.measurement import evaluate_file
    from auxzoo.export.runtime import open_file
    from auxzoo.training.evaluation import evaluate
    from auxzoo.training.outputs import fitting_images

    if is_file:
        open_file(arguments.name)  # a broken file is told before any image is read
    name = arguments.network if is_file else arguments.name
    network = load_network(name)
    description = models.describe(network)
    if not description.tasks:
        raise UserError(f"`name` must be a network with a head. Received: {network.name}, {description.kinds}")
    targets = recipe_targets(arguments.recipe, name, description)
    images = fitting_images(network, open_split(arguments, arguments.split, targets), "--data")
    path = arguments.name
    result = evaluate_file(path, images, description.preprocessing) if is_file else evaluate(network, images)
    if description.is_classifier:
        print(f"{arguments.name}: {percent(result['accuracy'])} % of {result['images']} images of {images.name}")
    else:
        print_table(_table(arguments.name, result, images))
    if arguments.pictures:
        _draw(arguments, images)


def _draw(arguments, images):
    """Draws some of the images, chosen by a fixed seed, with truth and prediction."""
    import numpy as np

    from auxzoo.data.targets import has_truth
    from auxzoo.pictures import draw_contact_sheet
    from auxzoo.prediction import open_predictor

    predictor = open_predictor(arguments.name, arguments.network)
    chosen = images.sample(min(max(arguments.count, 1), images.size), seed=0)
    tasks = predictor.description.tasks
    photographs = [chosen.picture(place) for place in range(chosen.size)]
    photographs = [np.broadcast_to(picture[..., :3], (*picture.shape[:2], 3)) for picture in photographs]
    truths = [
        {
            task.name: chosen.targets[task.name][place]
            for task in chosen.tasks
            if has_truth(np.asarray(chosen.targets[task.name][place]), task).any()
        }
        for place in range(chosen.size)
    ]
    draw_contact_sheet(
        arguments.pictures,
        photographs,
        truths,
        [predictor(photograph) for photograph in photographs],
        tasks,
        title=f"{arguments.name}: {images.name}",
    )
    print(f"{chosen.size} predictions beside the truth are in {arguments.pictures}")


def _table(name, result, images):
    table = make_table(f"{name}: {result['images']} images of {images.name}", "measure", "value>")
    for measure, value in result.items():
        if isinstance(value, dict):
            for label, iou in value.items():
                name = f"iou of {label}"
                table.add_row(name, "" if iou is None else f"{percent(iou)} %")
        elif measure not in ("images", "source"):
            table.add_row(measure, f"{value:,}" if isinstance(value, int) else _figure(measure, value))
    return table


def _figure(measure, value):
    is_share = measure.endswith(("accuracy", "mean_iou", "delta_1", "delta_2", "delta_3"))
    return f"{percent(value)} %" if is_share else f"{value:,.4g}"
