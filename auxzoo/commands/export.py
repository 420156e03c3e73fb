"""`auxzoo export NAME|FOLDER`."""

from auxzoo.commands.common import (
    add_quantization_arguments,
    check_network,
    load_tensorflow,
    make_table,
    print_step,
    print_table,
    quantization_of,
    record_columns,
    record_rows,
)
from auxzoo.commands.foreign import add_foreign_arguments, load_exportable
from auxzoo.commands.images import add_data_arguments, check_data, choose_images, tell_other_classes
from auxzoo.metric_names import in_words, main_figures


def add_arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument("name", help="a published network, a folder of one (a finished run), or a .keras file")
    parser.add_argument("--to", metavar="DIR", help="folder of the files (default: a new numbered one in exported/)")
    parser.add_argument(
        "--formats",
        help="comma-separated: tflite_float32, tflite_float16, tflite_dynamic, tflite_int8, tflite_int8_float_io, "
        "onnx (these six are `default`), tflite_int8_uint8_io, tflite_int16, tflite_int16_float_io, onnx_int8; `all`: "
        "all of them (default: the target's, or `default`)",
    )
    parser.add_argument(
        "--target",
        help="cpu, gpu, npu-int8, edgetpu, microcontroller, onnxruntime-mobile or web: a "
        "device that every file must fit; where one does not, none is written and each reason is told",
    )
    activation = parser.add_mutually_exclusive_group()
    activation.add_argument("--argmax", action="store_true", help="give int32 classes in place of logits")
    activation.add_argument("--softmax", action="store_true", help="give probabilities in place of logits")
    parser.add_argument(
        "--embed-preprocessing", action="store_true", help="put the scaling of pixel values into the file's graph"
    )
    parser.add_argument("--onnx-opset", type=int, help="ONNX operator set, 13 to 18 (default: 17, or the target's)")
    parser.add_argument("--onnx-layout", choices=("nhwc", "nchw"), default="nhwc", help="axes of ONNX files")
    parser.add_argument("--onnx-batch", choices=("1", "dynamic"), default="1", help="images at once in ONNX files")
    parser.add_argument(
        "--onnx-calibration-method",
        default="min_max",
        metavar="METHOD",
        help="of the int8 ONNX file: min_max or percentile (default: %(default)s)",
    )
    parser.add_argument("--licence", help="of the network and its weights, for the files' metadata")
    parser.add_argument("--overwrite", action="store_true", help="replace files of the same names")
    parser.add_argument(
        "--no-accuracy", action="store_true", help="do not measure accuracy (int8 still needs images to calibrate)"
    )
    add_quantization_arguments(parser)
    parser.add_argument(
        "--max-drop",
        type=float,
        metavar="POINTS",
        help="search few and light layers that stay float, so that int8 loses at most so many points",
    )
    parser.add_argument(
        "--tuning-count", type=int, default=1000, metavar="N", help="images for --max-drop (default: %(default)s)"
    )
    parser.add_argument("--split", help="images to measure on (default: the test split)")
    parser.add_argument("--calibration-split", help="images to calibrate on (default: the training split)")
    add_data_arguments(parser)
    add_foreign_arguments(parser)


def run(arguments):
    """Writes TFLite and ONNX files of a compact network, and measures each; returns 1 if a format was refused."""
    from pathlib import Path

    from auxzoo.errors import UserError
    from auxzoo.export.formats import DEFAULT_FORMATS, FORMATS, choose_formats
    from auxzoo.export.onnx_options import OnnxOptions
    from auxzoo.files import numbered_folder

    sets = {None: None, "default": DEFAULT_FORMATS, "all": FORMATS}
    wanted = sets[arguments.formats] if arguments.formats in sets else arguments.formats.split(",")
    formats, opset = choose_formats(wanted, arguments.target, "--formats")
    onnx = OnnxOptions(
        opset if arguments.onnx_opset is None else arguments.onnx_opset,
        arguments.onnx_layout,
        "dynamic" if arguments.onnx_batch == "dynamic" else 1,
        arguments.onnx_calibration_method,
    )
    needs_calibration = any(FORMATS[form].needs_calibration for form in formats)
    needs_images = needs_calibration or not arguments.no_accuracy
    check_network(arguments.name)
    if needs_images:
        check_data(arguments, arguments.name, "; --no-accuracy with --formats tflite_float32,onnx needs none")
    load_tensorflow()
    from auxzoo import models
    from auxzoo.export import export_files
    from auxzoo.models import zoo
    from auxzoo.report import write_export_report

    network, had_softmax = load_exportable(arguments)
    name = Path(arguments.name).resolve().name.removesuffix(".keras")  # resolved, so that `.` has a name too
    activation = "argmax" if arguments.argmax else "softmax" if arguments.softmax or had_softmax else None
    images = choose_images(arguments, arguments.name, models.describe(network)) if needs_images else None
    folder = Path(arguments.to) if arguments.to else numbered_folder("exported", name)
    report = folder / f"{name}.html"
    paths = {form: folder / f"{name}{FORMATS[form].suffix}" for form in formats}
    existing = [path for path in (*paths.values(), report) if path.exists()]
    if existing and not arguments.overwrite:
        raise UserError(f"`{folder}` holds {existing[0].name} already; give --overwrite.")
    evaluation = None if arguments.no_accuracy else images.open("test", arguments.split)
    tell_other_classes(models.describe(network), evaluation)
    records = export_files(
        network,
        folder,
        formats,
        calibration=images.open("train", arguments.calibration_split) if needs_calibration else None,
        evaluation=evaluation,
        name=name,
        activation=activation,
        target=arguments.target,
        source=name,
        licence=arguments.licence or zoo.licence_of(arguments.name),
        embed_preprocessing=arguments.embed_preprocessing,
        onnx=onnx,
        progress=print_step,
        max_drop=arguments.max_drop,
        tuning_count=arguments.tuning_count,
        **quantization_of(arguments),
    )
    table = make_table(f"{name}, files in {folder}", *record_columns(records))
    for row in record_rows(records):
        table.add_row(*row)
    print_table(table)
    made = [record for record in records if "refused" not in record]
    refused = [record for record in records if "refused" in record]
    if arguments.target:
        print(f"Every file fits {arguments.target}; `auxzoo inspect --target {arguments.target}` cites the documents.")
    if made[0]["keras_scores"] is not None:
        figures = list(main_figures(made[0]["keras_scores"]))
        keras = ", ".join(f"{in_words(measure)} {text}" if len(figures) > 1 else text for measure, text in figures)
        print(f"Keras network: {keras}. Every figure is of the file itself; its record lies beside it.")
    conversion = made[0]["conversion"]
    print(
        f"Converted in {conversion['seconds']:.0f} s, with {conversion['peak_bytes'] / 1e6:,.0f} MB of memory at most."
    )
    searches = {
        FORMATS[record["format"]].activations: record["quantization"]["search"]
        for record in made
        if "search" in (record["quantization"] or ())
    }
    for activations, search in searches.items():
        kept = ", ".join(search["keep_float"]) or "none"
        print(
            f"Layers that stay float in {activations} files for a drop of at most {search['max_drop']} points: {kept}; "
            f"on the tuning images {search['drop']:.2f} points, {search['drop_without']:.2f} without any, "
            f"{search['trials']} file{'s' * (search['trials'] > 1)} tried."
        )
    if arguments.max_drop is not None and evaluation is not None:
        _tell_larger_drops(made, arguments.max_drop)
    for record in refused:
        print(f"{record['file']} was refused: {record['refused']}")
    report.unlink(missing_ok=True)  # an older one would tell of other files, should this be cut off
    write_export_report(report, network, records, folder, evaluation, print_step)
    print(f"All of it{'' if evaluation is None else ', with predictions,'} is in {report}")
    return 1 if refused else 0


def _tell_larger_drops(records, max_drop):
    """Tells which files of whole numbers lose more than was asked for, of other images than layers are chosen by."""
    from auxzoo.export.trials import drop_of

    for record in records:
        if record["quantization"] is not None:
            drop = drop_of({"scores": record["accuracy"]}, {"scores": record["keras_scores"]})
            if drop > max_drop:
                print(
                    f"{record['file']} loses {drop:.2f} points on the {record['accuracy']['images']} images of the "
                    f"table, more than {max_drop}: that holds for the TFLite files on the tuning images."
                )
