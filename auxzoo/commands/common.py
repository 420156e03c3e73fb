"""What several commands share: arguments, tables, and getting TensorFlow quietly."""

import math
import os
import re
import sys
from pathlib import Path

from auxzoo.machine import quiet_stderr
from auxzoo.metric_names import in_words, main_figures

_WIDTH = 100  # columns of a table that goes to a pipe or a log
_NARROWEST = 12  # of a column whose words are folded


def add_reading_arguments(parser):
    """Adds the arguments that tell how images are read, wherever they come from."""
    parser.add_argument("--data-dir", help="folder of prepared tensorflow_datasets")
    parser.add_argument("--download", action="store_true", help="let tensorflow_datasets fetch a missing set")
    parser.add_argument("--skip-broken", action="store_true", help="leave broken images out and count them")


def add_quantization_arguments(parser):
    """Adds the arguments that say how int8 and int16 files are made."""
    parser.add_argument("--engine", default="tensorflow", help="tensorflow or ai-edge-quantizer (default: %(default)s)")
    parser.add_argument(
        "--calibration-method",
        default="min_max",
        metavar="METHOD",
        help="min_max, percentile or mse; of ai-edge-quantizer moving_average and octav too (default: %(default)s)",
    )
    parser.add_argument(
        "--calibration-count", type=int, default=200, metavar="N", help="images, 100 to 500 (default: %(default)s)"
    )
    parser.add_argument("--keep-float", default="", metavar="LAYER,...", help="layers that stay float in these files")


def add_file_arguments(parser):
    """Adds the arguments of commands that run a TFLite or ONNX file in the place of a network."""
    parser.add_argument("--network", help="for a file that tells nothing of itself: the network it was exported from")
    parser.add_argument(
        "--timeout", type=float, default=8.0, help="seconds to load a file, and for each image (default: %(default)s)"
    )


def quantization_of(arguments):
    """Returns what `add_quantization_arguments` added as arguments of `export_files`."""
    return {
        "engine": arguments.engine,
        "calibration_method": arguments.calibration_method,
        "calibration_count": arguments.calibration_count,
        "keep_float": tuple(layer for layer in arguments.keep_float.split(",") if layer),
    }


def check_network(name, files="a .keras file"):
    """Raises a `UserError`, before TensorFlow is loaded, if there is no network of a name; `files` says what else."""
    from auxzoo.errors import UserError
    from auxzoo.models import zoo

    if not name.endswith(".keras") and not Path(name).is_dir() and name not in zoo.read_index():
        raise UserError(
            f"`name` must be one of {', '.join(zoo.read_index())}, a folder of one, or {files}. Received: {name!r}"
        )


def check_network_or_file(arguments):
    """Tells whether `name` is a TFLite or ONNX file, before TensorFlow is loaded, which takes seconds.

    Raises:
        UserError: if it is neither one nor a network, or if `--network` is given and it is none.
    """
    from auxzoo.errors import UserError
    from auxzoo.export.apart import Apart

    is_file = arguments.name.endswith((".tflite", ".onnx"))
    if is_file:
        Apart.check(Path(arguments.name))
    else:
        check_network(arguments.name, "a .keras, .tflite or .onnx file")
    if arguments.network and not is_file:
        raise UserError(f"`--network` may be given only with a .tflite or .onnx file. Received: {arguments.name!r}")
    return is_file


def load_tensorflow():
    """Imports TensorFlow without its lines on the terminal."""
    with quiet_stderr():
        import tensorflow  # noqa: F401  (imported for its effect: everything after finds it loaded)


def print_step(line):
    """Tells what is being done, at once: the `progress` of functions that take long."""
    print(f"  {line} ...", flush=True)


def as_override(key, value):
    """Returns a list of one `KEY=VALUE` for `read_settings`, none if `value` is `None`.

    A text such as a path is written as YAML, which would take `2024` for a number, and what follows ` #` for a comment.
    """
    import yaml

    return [] if value is None else [f"{key}={yaml.safe_dump(value, width=math.inf)}"]


def add_run_arguments(parser, what):
    """Adds what commands that carry out a recipe in a folder share; `what` they make, `"run"` or `"search"`."""
    parser.add_argument(
        "--to", metavar="DIR", help=f"folder of the {what}; the same again continues it (default: a new one in runs/)"
    )
    add_reading_arguments(parser)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting, such as epochs=3")
    parser.add_argument("--overwrite", action="store_true", help=f"delete a finished or another {what} in the folder")
    parser.add_argument("--verbose", choices=("0", "1", "2"), default="auto", help="0 silent, 1 bar, 2 line an epoch")


def run_overrides(arguments, *settings):
    """Returns the overrides of a recipe: those of `--set`, then those of other arguments.

    Args:
        arguments: of a command with `--set` and those of `add_reading_arguments`.
        settings: pairs of a setting's key and its value, `None` if it was not given.
    """
    pairs = (
        ("data.data_dir", arguments.data_dir),
        ("data.download", arguments.download or None),
        ("data.skip_broken", arguments.skip_broken or None),
        *settings,
    )
    return [*arguments.set, *[override for key, value in pairs for override in as_override(key, value)]]


def verbosity(arguments):
    """Returns Keras' `verbose` of `--verbose`."""
    return keras_verbosity() if arguments.verbose == "auto" else int(arguments.verbose)


def choose_onednn(settings, arguments):
    """Turns oneDNN on or off as a recipe says, by measurement where it says `auto`.

    It must be chosen before TensorFlow is imported, so this comes first of all, and measures in child processes.

    Args:
        settings: `dict`, the recipe as `read_settings` returned it.
        arguments: of the command: `recipe`, and the folder `to`, whose run goes on with what it keeps, unless
            `overwrite` is given and it is finished or of other settings.

    Returns:
        What `measure_compute` returned, now or when the run in the folder began; `None` if nothing is left to measure.
    """
    compute = settings.get("compute")
    onednn, measured = compute.get("onednn") if isinstance(compute, dict) else None, None
    if onednn == "auto":
        measured = _measured_compute(settings, arguments)
        onednn = measured["onednn"]
    if isinstance(onednn, bool):
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = str(int(onednn))
    return measured


def _measured_compute(settings, arguments):
    from auxzoo.child_process import ChildFailed
    from auxzoo.files import read_json
    from auxzoo.models.zoo import METRICS_FILE
    from auxzoo.training.compilation import COMPUTE_FILE, measure_compute
    from auxzoo.training.recipe_file import without_places

    settings = {key: value for key, value in settings.items() if key != "search"}
    timed = without_places(settings)
    kept = Path(arguments.to or "") / COMPUTE_FILE
    if arguments.to and kept.exists():
        measured = read_json(kept)
        # What is overwritten was finished, or is of other settings; else the run goes on.
        is_overwritten = kept.with_name(METRICS_FILE).exists() or measured.get("settings") != timed
        if not (arguments.overwrite and is_overwritten):
            return measured
    print("Measuring training steps as the recipe's `compute` leaves open ...", flush=True)
    try:
        measured = measure_compute(settings) | {"settings": timed}
    except ChildFailed:
        # Most likely the recipe is wrong: then its own message is the one to read.
        load_tensorflow()
        from auxzoo.training.recipe import Recipe
        from auxzoo.training.run import build_compact, build_structure

        recipe = Recipe.parse(settings, f"The recipe `{arguments.recipe}`")
        build_structure(recipe, build_compact(recipe))
        raise
    for setting, rate in measured["images_per_second"].items():
        print(f"  {setting}: {rate} images/s")
    return measured


def keras_verbosity():
    """Returns Keras' `verbose`: a progress bar on a terminal, a line an epoch where it would fill a log."""
    return 1 if sys.stdout.isatty() else 2


def make_table(title, *columns, caption=None):
    """Returns an empty `rich` table; a column whose name ends in `>` is flush right."""
    from rich.table import Table

    table = Table(title=title, caption=caption)
    for column in columns:
        # Folded where a terminal is narrow: half a name or number would be of no use.
        justify = "right" if column.endswith(">") else "left"
        table.add_column(column.rstrip(">"), justify=justify, overflow="fold")
    return table


def print_table(table):
    """Prints a `rich` table; where nobody looks (a pipe, a log) 100 columns wide.

    Where its longest words do not fit into that, as few cells as possible are folded, between parts of a name.
    """
    from rich.console import Console

    console = Console(markup=False, emoji=False, highlight=False)  # a folder may be called `[red]`
    if not console.is_terminal:
        console.width = _set_widths(table.columns)
    # By themselves: rich would fold them, and a file's name in them, to the width of a narrow table.
    title, caption, table.title, table.caption = table.title, table.caption, None, None
    if title:
        console.print(title, style="table.title")
    console.print(table)
    if caption:
        console.print(caption, style="table.caption")


def _set_widths(columns):
    """Sets the widths of a table's columns, folds what does not fit, and returns the width of all."""
    spare = _WIDTH - (3 * len(columns) + 1)  # less borders and margins
    for column in columns:
        column.width = max(map(_longest_word, [column.header, *column.cells]))
        spare -= column.width
    while spare < 0:
        texts = [column for column in columns if column.justify == "left" and column.width > _NARROWEST]
        if not texts:
            break
        column = min(texts, key=lambda column: sum(_longest_word(cell) >= column.width for cell in column.cells))
        column.width, spare = column.width - 1, spare + 1
    for column in columns:  # rich itself would cut words to make room for others
        column._cells = ["\n".join(_folded(line, column.width) for line in cell.split("\n")) for cell in column.cells]
        whole = max(len(line) for cell in [column.header, *column.cells] for line in ["", *cell.splitlines()])
        widened = max(min(whole - column.width, spare), 0)
        column.width, spare = column.width + widened, spare - widened
    return _WIDTH - min(spare, 0)


def _longest_word(text):
    return max(map(len, text.split()), default=0)


def _folded(line, width):
    """Returns a line in which words that are too long are broken where a part of a name ends, if it has parts."""
    return " ".join(word if len(word) <= width else _broken(word, width) for word in line.split(" "))


def _broken(word, width):
    lines = [""]
    for part in re.split(r"(?<=[_/])|(?<=[a-z0-9])(?=[A-Z])", word):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def record_rows(records):
    """Yields the cells of a table of exported files: file, kilobytes, scores, difference to Keras, latency.

    Of a format that was refused there is no file.
    """
    for record in records:
        if "refused" in record:
            yield (record["file"], "refused", "", "", "")
            continue
        accuracy, parity = record["accuracy"], record["parity"]
        yield (
            record["file"],
            f"{record['bytes'] / 1000:,.0f}",
            _scores_of(accuracy) if accuracy else "not measured",
            f"{parity['largest_difference']:.1e}" if "largest_difference" in (parity or ()) else "not measured",
            f"{record['latency']['median_ms']:.2f}",
        )


def _scores_of(scores):
    if "accuracy" in scores:
        return percent(scores["accuracy"])
    return ", ".join(text for _, text in main_figures(scores))


def record_columns(records):
    """Returns the names of the columns of `record_rows`."""
    made = [record for record in records if "refused" not in record]
    scores = made[0]["accuracy"] or {"accuracy": None}
    names = "accuracy %" if "accuracy" in scores else ", ".join(in_words(name) for name, _ in main_figures(scores))
    return ("file", "kB>", f"{names}>", "largest difference>", "latency ms>")


def percent(share):
    """Returns a share as per cent with two decimals."""
    return f"{100 * share:.2f}"
