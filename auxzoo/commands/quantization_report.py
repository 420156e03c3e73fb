"""`auxzoo quantization-report NAME|FOLDER`."""

from auxzoo.commands.common import (
    add_quantization_arguments,
    check_network,
    load_tensorflow,
    make_table,
    print_step,
    print_table,
    quantization_of,
)
from auxzoo.commands.foreign import add_foreign_arguments, load_exportable
from auxzoo.commands.images import add_data_arguments, check_data, choose_images, tell_other_classes
from auxzoo.metric_names import in_words, is_share, main_figures


def add_arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument("name", help="a published network, a folder of one (a finished run), or a .keras file")
    parser.add_argument(
        "--to", metavar="DIR", help="folder of JSON and plot (default: a new numbered one in exported/)"
    )
    parser.add_argument("--split", help="images to calibrate and measure on (default: the training split)")
    parser.add_argument("--count", type=int, help="images measured on (default: 256, or 32 of a network with maps)")
    parser.add_argument("--rows", type=int, default=15, help="layers in the table (default: %(default)s)")
    add_quantization_arguments(parser)
    add_data_arguments(parser)
    add_foreign_arguments(parser)


def run(arguments):
    """Tells which layers cost the accuracy of the int8 file: table, JSON and plot."""
    from pathlib import Path

    from auxzoo.errors import UserError
    from auxzoo.files import numbered_folder

    if arguments.rows < 1:
        raise UserError(f"`--rows` must be 1 or more. Received: {arguments.rows}")
    check_network(arguments.name)
    check_data(arguments, arguments.name)
    load_tensorflow()
    from auxzoo import models
    from auxzoo.export import quantization_report

    network, _ = load_exportable(arguments)
    name = Path(arguments.name).resolve().name.removesuffix(".keras")
    folder = Path(arguments.to) if arguments.to else numbered_folder("exported", name)
    images = choose_images(arguments, arguments.name, models.describe(network)).open("train", arguments.split)
    tell_other_classes(models.describe(network), images)
    report = quantization_report(
        network,
        folder,
        images,
        name=name,
        count=arguments.count,
        progress=print_step,
        **quantization_of(arguments),
    )
    whole = report["int8"]
    rows = sorted(report["layers"], key=lambda row: -row["error_saved"])[: arguments.rows]
    images = report["images"]["count"]
    scores = [score for score, _ in main_figures(whole["scores"] or {})]
    table = make_table(
        f"{name}: the {len(rows)} of {len(report['layers'])} layers that cost most in int8, {images} images",
        *["layer", "weights>", "kB more in float>", "error saved>", "error alone>"],
        *[f"{in_words(score)}{' %' * is_share(score)} in float>" for score in scores],
        caption="Errors of the outputs against float32, in % of their standard deviation; saved where the layer alone "
        "stays float32, and made where it alone is int8.",
    )
    for row in rows:
        table.add_row(
            row["layer"],
            f"{row['weights']:,}",
            f"{(row['float_alone']['bytes'] - whole['bytes']) / 1000:,.1f}",
            f"{100 * row['error_saved']:.3f}",
            f"{100 * row['int8_alone']['error']:.3f}",
            *[text.removesuffix(" %") for _, text in main_figures(row["float_alone"]["scores"] or {})],
        )
    print_table(table)
    print(f"All in int8: error {100 * whole['error']:.3f}, {_score(whole)}; float32: {_score(report['float32'])}")
    print(f"All layers are in {folder / f'{name}_layers.json'} and .png")


def _score(measured):
    figures = list(main_figures(measured["scores"] or {}))
    return (
        ", ".join(f"{in_words(score)} {text}" if len(figures) > 1 else text for score, text in figures)
        or "not measured"
    )
