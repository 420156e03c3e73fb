"""`auxzoo predict NAME|FOLDER|FILE IMAGE...`."""

from auxzoo.commands.common import add_file_arguments, check_network_or_file, load_tensorflow, percent
from auxzoo.commands.foreign import add_foreign_arguments, check_none_given, load_described


def add_arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument("name", help="a published network, a folder of one, or a .keras, .tflite or .onnx file")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="photographs: JPEG, PNG, BMP, GIF, WebP, TIFF")
    add_file_arguments(parser)
    add_foreign_arguments(parser)
    parser.add_argument("--to", metavar="DIR", help="folder of the pictures (default: a new one in predicted/)")
    parser.add_argument("--overwrite", action="store_true", help="replace pictures of the same names")


def run(arguments):
    """Predicts for photographs, tells what, and draws it."""
    from pathlib import Path

    from auxzoo.errors import UserError
    from auxzoo.files import numbered_folder

    is_file = check_network_or_file(arguments)
    if is_file:
        check_none_given(arguments)
    load_tensorflow()
    from auxzoo.data import read_image
    from auxzoo.data.preprocessing import check_padding
    from auxzoo.pictures import draw_prediction
    from auxzoo.prediction import open_predictor, predictor_of

    if is_file:
        predictor = open_predictor(arguments.name, arguments.network, arguments.timeout)
    else:
        predictor = predictor_of(load_described(arguments))
    paths = [Path(image) for image in arguments.images]
    names = [path.name for path in paths]
    preprocessing = predictor.description.preprocessing
    for path in paths:  # one that is broken or too large is told before anything is written
        check_padding(*read_image(path).shape[:2], preprocessing, str(path))
    folder = Path(arguments.to) if arguments.to else numbered_folder("predicted", "pictures")
    files = [folder / f"{stem}.png" for stem in _different([path.stem for path in paths])]
    for file in files:
        if not file.exists():
            continue
        if any(file.samefile(path) for path in paths):
            raise UserError(f"`--to` must be a folder in which no photograph is replaced. Received: `{file}` is one")
        if not arguments.overwrite:
            raise UserError(f"`{file}` exists already; give --overwrite.")
    folder.mkdir(parents=True, exist_ok=True)
    for path, file in zip(paths, files, strict=True):
        photograph = read_image(path)  # again: many of them need not fit into memory together
        predictions = predictor(photograph)
        tasks = predictor.description.tasks
        draw_prediction(file, photograph, predictions, tasks, title=path.name)
        said = "; ".join(_said(task, predictions[task.name]) for task in tasks)
        print(f"{path.name if names.count(path.name) == 1 else path}: {said}", flush=True)
    print(f"The pictures are in {folder}")


def _different(names):
    """Returns names in which none is there twice: `1`, `1-2` for the second `1`, and so on."""
    found = []
    for name in names:
        number, different = 2, name
        while different in found:
            number, different = number + 1, f"{name}-{number}"
        found.append(different)
    return found


def _said(task, prediction):
    """Returns in words what is predicted for one task: the likeliest classes, the largest, or the range."""
    import numpy as np

    if task.kind == "regression":
        return f"{task.name} {prediction.min():.4g} to {prediction.max():.4g} {task.unit}".rstrip()
    if prediction.ndim == 0:
        return _label(task, prediction)
    if task.kind == "segmentation":
        classes, counts = np.unique(prediction, return_counts=True)
        shares = counts / prediction.size
    else:
        exponentials = np.exp(prediction - prediction.max())
        classes, shares = np.arange(len(prediction)), exponentials / exponentials.sum()
    order = np.argsort(-shares, kind="stable")[:5]
    return ", ".join(f"{_label(task, classes[place])} {percent(shares[place])} %" for place in order)


def _label(task, number):
    """Returns what a class is called; those of a network may have no names."""
    return task.labels[number] if number < len(task.labels) else f"class {number}"
