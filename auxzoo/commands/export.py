"""`auxzoo export NAME|FOLDER`."""

from auxzoo.commands.common import (
    add_data_arguments,
    add_quantization_arguments,
    load_network,
    load_tensorflow,
    make_table,
    open_split,
    print_table,
    quantization_of,
    recipe_targets,
    record_columns,
    record_rows,
)
from auxzoo.metric_names import main_figures


def add_arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument("name", help="a published network, a folder of one (a finished run), or a .keras file")
    parser.add_argument("--to", metavar="DIR", help="folder of the files (default: a new numbered one in exported/)")
    parser.add_argument(
        "--formats",
        default="default",
        help="comma-separated: tflite_float32, ..., onnx; `default`: those that most need; `all`: all there are "
        "(default: %(default)s)",
    )
    activation = parser.add_mutually_exclusive_group()
    activation.add_argument("--argmax", action="store_true", help="give int32 classes in place of logits")
    activation.add_argument("--softmax", action="store_true", help="give probabilities in place of logits")
    parser.add_argument("--recipe", help="for tasks other than one class an image: whose data have the truth of them")
    parser.add_argument("--overwrite", action="store_true", help="replace files of the same names")
    parser.add_argument(
        "--no-accuracy", action="store_true", help="do not measure accuracy (int8 still needs images to calibrate)"
    )
    add_quantization_arguments(parser)
    parser.add_argument(
        "--max-drop",
        type=float,
        metavar="POINTS",
        help="search the fewest and lightest layers that must stay float for int8 to lose at most so many points",
    )
    parser.add_argument("--tuning-count", type=int, default=1000, help="images for that (default: %(default)s)")
    add_data_arguments(parser, default=None)


def run(arguments):
    """Writes TFLite and ONNX files of a compact network, and measures each; returns 1 if a format was refused."""
    from pathlib import Path

    from auxzoo.errors import UserError
    from auxzoo.export.formats import DEFAULT_FORMATS, FORMATS
    from auxzoo.files import numbered_folder

    sets = {"default": DEFAULT_FORMATS, "all": FORMATS}
    formats = list(sets[arguments.formats]) if arguments.formats in sets else arguments.formats.split(",")
    unknown = [form for form in formats if form not in FORMATS]
    if unknown:
        raise UserError(f"`--formats` must be among default, all, {', '.join(FORMATS)}. Received: {', '.join(unknown)}")
    needs_calibration = any(FORMATS[form].needs_calibration for form in formats)
    if arguments.data is None and (needs_calibration or not arguments.no_accuracy):
        raise UserError(
            "`--data` must be sample, tfds:NAME or folder:PATH: real images calibrate int8 and measure accuracy. "
            "Received: none; --no-accuracy with --formats tflite_float32,onnx needs none."
        )
    load_tensorflow()
    from auxzoo import models
    from auxzoo.export import export_files
    from auxzoo.export.checks import check_exportable

    network = load_network(arguments.name)
    name = Path(arguments.name).resolve().name.removesuffix(".keras")  # resolved, so that `.` has a name too
    check_exportable(network)
    activation = "argmax" if arguments.argmax else "softmax" if arguments.softmax else None
    targets = None
    if arguments.data is not None:
        targets = recipe_targets(arguments.recipe, arguments.name, models.describe(network))
    folder = Path(arguments.to) if arguments.to else numbered_folder("exported", name)
    existing = [form for form in formats if (folder / f"{name}{FORMATS[form].suffix}").exists()]
    if existing and not arguments.overwrite:
        raise UserError(f"`{folder}` holds {name}{FORMATS[existing[0]].suffix} already; give --overwrite.")
    records = export_files(
        network,
        folder,
        formats,
        calibration=open_split(arguments, "train", targets) if needs_calibration else None,
        evaluation=None if arguments.no_accuracy else open_split(arguments, "test", targets),
        name=name,
        activation=activation,
        progress=lambda line: print(f"  {line} ...", flush=True),
        max_drop=arguments.max_drop,
        tuning_count=arguments.tuning_count,
        **quantization_of(arguments),
    )
    table = make_table(f"{name}, files in {folder}", *record_columns(records))
    for row in record_rows(records):
        table.add_row(*row)
    print_table(table)
    made = [record for record in records if "refused" not in record]
    if made[0]["keras_scores"] is not None:
        keras = ", ".join(text for _, text in main_figures(made[0]["keras_scores"]))
        print(f"Keras network: {keras}. Every figure is of the file itself; its record lies beside it.")
    for search in [record["quantization"]["search"] for record in made if "search" in (record["quantization"] or ())][
        :1
    ]:
        kept = ", ".join(search["keep_float"]) or "none"
        print(
            f"Layers that stay float for a drop of at most {search['max_drop']} points: {kept}; on the tuning images "
            f"{search['drop']:.2f} points, {search['int8_drop']:.2f} without any, {search['trials']} files tried."
        )
    refused = [record for record in records if "refused" in record]
    for record in refused:
        print(f"{record['file']} was refused: {record['refused']}")
    return 1 if refused else 0
