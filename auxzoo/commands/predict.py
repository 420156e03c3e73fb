"""`auxzoo predict NAME|FOLDER|FILE IMAGE...`."""

import contextlib
import json
import sys

from auxzoo.commands.common import add_file_arguments, check_network_or_file, load_tensorflow, percent
from auxzoo.commands.foreign import add_foreign_arguments, check_none_given, load_described
from auxzoo.errors import UserError

_MOST_CLASSES = 5  # that are told of


def add_arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument("name", help="a published network, a folder of one, or a .keras, .tflite or .onnx file")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="photographs: JPEG, PNG, BMP, GIF, WebP, TIFF")
    add_file_arguments(parser)
    add_foreign_arguments(parser)
    parser.add_argument("--to", metavar="DIR", help="folder of the pictures (default: a new one in predicted/)")
    parser.add_argument("--overwrite", action="store_true", help="replace pictures of the same names")
    parser.add_argument("--no-pictures", action="store_true", help="tell what is predicted, and draw nothing")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print JSON and nothing else: of every photograph five classes with shares, or a range",
    )


def run(arguments):
    """Predicts for photographs, tells what, and draws it."""
    # What is told besides is no JSON.
    with contextlib.redirect_stdout(sys.stderr) if arguments.json else contextlib.nullcontext():
        found = _predict(arguments)
    if arguments.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))


def _predict(arguments):
    """Returns what is predicted for every photograph, plain JSON types, and prints it unless it goes out as JSON."""
    from pathlib import Path

    from auxzoo.files import numbered_folder

    if arguments.no_pictures and (arguments.to or arguments.overwrite):
        raise UserError("`--to` and `--overwrite` may be given only where pictures are drawn. Received: --no-pictures")
    is_file = check_network_or_file(arguments)
    if is_file:
        check_none_given(arguments)
    load_tensorflow()
    from auxzoo.data import read_image
    from auxzoo.data.decoding import printable
    from auxzoo.data.preprocessing import check_padding
    from auxzoo.pictures import checked_predictions, draw_prediction
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
    files = [None] * len(paths)
    if not arguments.no_pictures:
        folder = Path(arguments.to) if arguments.to else numbered_folder("predicted", "pictures")
        files = [folder / f"{stem}.png" for stem in _different([path.stem for path in paths])]
        _check_files(files, paths, arguments.overwrite)
        folder.mkdir(parents=True, exist_ok=True)
    tasks, found = predictor.description.tasks, []
    for path, file in zip(paths, files, strict=True):
        photograph = read_image(path)  # again: many of them need not fit into memory together
        predictions = checked_predictions(
            f"The predictions for `{printable(path)}`", predictor(photograph), tasks, photograph
        )
        if file is not None:
            draw_prediction(file, photograph, predictions, tasks, title=path.name)
        summaries = {task.name: _summary(task, predictions[task.name]) for task in tasks}
        found.append({"image": printable(path), "predictions": summaries})
        if not arguments.json:
            said = "; ".join(_said(task, summaries[task.name]) for task in tasks)
            name = path.name if names.count(path.name) == 1 else path
            print(f"{printable(name)}: {said}", flush=True)
    if not arguments.no_pictures:
        print(f"The pictures are in {printable(folder)}")
    return found


def _check_files(files, paths, overwrite):
    """Raises a `UserError` where a picture would be written over a photograph, or over what is there already."""
    for file in files:
        if not file.exists():
            continue
        if any(file.samefile(path) for path in paths):
            raise UserError(f"`--to` must be a folder in which no photograph is replaced. Received: `{file}` is one")
        if not overwrite:
            raise UserError(f"`{file}` exists already; give --overwrite.")


def _different(names):
    """Returns names in which none is there twice: `1`, `1-2` for the second `1`, and so on."""
    found = []
    for name in names:
        number, different = 2, name
        while different in found:
            number, different = number + 1, f"{name}-{number}"
        found.append(different)
    return found


def _summary(task, prediction):
    """Returns what is predicted for one task: the classes that are likeliest or largest, with shares, or a range."""
    import numpy as np

    from auxzoo.metrics import VOID

    if task.kind == "regression":
        numbers = prediction[~np.isnan(prediction)]
        lowest, highest = (float(numbers.min()), float(numbers.max())) if numbers.size else (None, None)
        return {"lowest": lowest, "highest": highest, "unit": task.unit}
    if prediction.ndim == 0:
        return [{"class": _label(task, prediction)}]
    if task.kind == "segmentation":
        classes, counts = np.unique(prediction[prediction != VOID], return_counts=True)
        shares = counts / prediction.size
    else:
        exponentials = np.exp(prediction - prediction.max())
        classes, shares = np.arange(len(prediction)), exponentials / exponentials.sum()
    order = np.argsort(-shares, kind="stable")[:_MOST_CLASSES]
    return [{"class": _label(task, classes[place]), "share": float(shares[place])} for place in order]


def _said(task, summary):
    """Returns a summary in words."""
    if task.kind == "regression":
        if summary["lowest"] is None:
            return f"{task.name} nowhere"
        return f"{task.name} {summary['lowest']:.4g} to {summary['highest']:.4g} {task.unit}".rstrip()
    return ", ".join(f"{one['class']} {percent(one['share'])} %" if "share" in one else one["class"] for one in summary)


def _label(task, number):
    """Returns what a class is called; those of a network may have no names."""
    return task.labels[number] if number < len(task.labels) else f"class {number}"
