"""One self-contained page about an export: its files, what each is worth, and what it predicts."""

import base64
import io
from importlib.resources import files
from pathlib import Path

from auxzoo import models
from auxzoo.errors import UserError
from auxzoo.export.apart import OWN_FILE
from auxzoo.export.formats import FORMATS
from auxzoo.figures import checked_path, fixed_style, one_line
from auxzoo.files import temporary_folder, written_aside
from auxzoo.metric_names import in_words, is_error, is_share, main_figures
from auxzoo.prediction import draw_some, open_predictor

_MARKERS = "osD^vP*X"
_PICTURES, _DENSE_PICTURES = 24, 6


def write_export_report(path, network, records, folder, evaluation=None, progress=None):
    """Writes the page about an export (`write_report`), with what every file predicts for the same few images.

    Args:
        path: as of `write_report`, and so `records`.
        network: Keras network with a description, that was exported.
        folder: `Path` where the files lie.
        evaluation: `ImageSet` that the images are of, or `None`: no predictions.
        progress: called with a line of text before each file, or `None`.

    Raises:
        UserError: as of `write_report`; or if the images lack the truth of a task, or a file cannot be run.

    Example:
        >>> records = auxzoo.export.export_files(compact, "out", calibration=train, evaluation=test, name="flowers")
        >>> write_export_report("out/flowers.html", compact, records, Path("out"), test)
    """
    description = models.describe(network)
    size = "×".join(map(str, network.input_shape[1:3]))
    subtitle = f"{description.kinds}, {size} px, {network.count_params():,} parameters"
    with temporary_folder() as temporary:
        sheets = []
        if evaluation is not None and description.tasks:
            classes = {task.name: len(task.labels) for task in description.tasks if task.labels}
            images = evaluation.for_tasks(description.tasks, classes, network.name, "evaluation")
            count = min(_PICTURES if images.is_labelled else _DENSE_PICTURES, images.size)
            for record in records:
                if "refused" in record:
                    continue
                if progress is not None:
                    progress(f"drawing predictions of {record['file']}")
                sheet = temporary / f"{record['format']}.png"
                draw_some(open_predictor(folder / record["file"], **OWN_FILE), images, count, sheet)
                sheets.append((f"{record['file']}, {count} images", sheet))
        write_report(path, records, Path(path).stem, subtitle, sheets)


def write_report(path, records, title, subtitle="", sheets=()):
    """Writes an HTML page that shows the records of exported files; it needs no other file and no network.

    Args:
        path: `str` or `Path`, ending in `.html`; a file that exists is replaced.
        records: list of records, what `auxzoo.export.export_files` returned; of refused formats the reason is told.
        title: `str`.
        subtitle: `str`, a line about the network.
        sheets: list of `(caption, PNG)`: `str`, and the `str` or `Path` of a picture of predictions.

    Returns:
        `Path` of the page.

    Raises:
        UserError: if there is no record, or `path` has another suffix or cannot be written.

    Example:
        >>> write_report("exported/flowers.html", records, "flowers")
        PosixPath('exported/flowers.html')
    """
    import jinja2

    path = checked_path(path, (".html",))
    refused = [(record["file"], record["refused"]) for record in records if "refused" in record]
    records = [record for record in records if "refused" not in record]
    if not records:
        raise UserError("`records` must have one record or more. Received: none")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(files("auxzoo").joinpath("report.html").read_text("utf-8"))
    operators = sorted({operator for record in records for operator in record["operators"]})
    page = template.render(
        title=title,
        subtitle=subtitle,
        machine=f"Made {records[-1]['made']} on {records[-1]['processor']}.",
        measures=[in_words(name) for name, _ in _measured(records[0])],
        files=_rows(records),
        explanation=_explanation(records),
        refused=refused,
        plot=_plot(records),
        targets=sorted({target for record in records for target in record["targets"]}),
        sheets=[(caption, base64.b64encode(Path(picture).read_bytes()).decode()) for caption, picture in sheets],
        operators=[(name, [record["operators"].get(name, "") for record in records]) for name in operators],
        tools=", ".join(f"{tool} {version}" for tool, version in records[0]["tools"].items()),
    )
    try:
        with written_aside(path) as temporary:
            temporary.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError(f"`path` cannot be written: {error.strerror or error}. Received: path={str(path)!r}") from None
    return path


def _measured(record):
    """Returns `(name, text)` of the main metrics of a record."""
    return list(main_figures(record["accuracy"] or {}))


def _rows(records):
    largest = max(record["bytes"] for record in records)
    slowest = max(record["latency"]["median_ms"] for record in records)
    return [
        {
            "file": record["file"],
            "title": FORMATS[record["format"]].title,
            "kilobytes": f"{record['bytes'] / 1000:,.0f}",
            "size_share": round(100 * record["bytes"] / largest),
            "measures": [(text, *_change(record, name)) for name, text in _measured(record)],
            "difference": _text(record["parity"].get("largest_difference"), "{:.1e}"),
            "same": _same_prediction(record["parity"]),
            "latency": f"{record['latency']['median_ms']:.2f}",
            "latency_share": round(100 * record["latency"]["median_ms"] / slowest),
            "targets": record["targets"],
            "input": _tensor(record["input"]),
            "outputs": [_tensor(output) for output in record.get("outputs") or [record["output"]]],
            "calibration": _calibration(record["calibration"]),
            "sha256": record["sha256"],
        }
        for record in records
    ]


def _change(record, name):
    """Returns how much a file's metric differs from the Keras network's, as text, and whether it is worse."""
    value, reference = record["accuracy"][name], record["keras_scores"][name]
    # Of what is told, four digits: a difference of the last bits is none.
    change = value - reference if is_share(name) else float(f"{value:.4g}") - float(f"{reference:.4g}")
    text = f"{100 * change:+.2f}" if is_share(name) else f"{change:+.4g}"
    return text, change > 0 if is_error(name) else change < 0


def _same_prediction(parity):
    """Returns the share of equal predictions: of one output, or of every output that has classes."""
    shares = (
        [parity] if "same_prediction" in parity else [found for found in parity.values() if isinstance(found, dict)]
    )
    return ", ".join(f"{100 * found['same_prediction']:.2f} %" for found in shares if "same_prediction" in found)


def _text(value, form):
    return "" if value is None else form.format(value)


def _tensor(tensor):
    return f"{tensor['name']} {'×'.join(map(str, tensor['shape']))} {tensor['type']}"


def _calibration(manifest):
    return "" if manifest is None else f"{manifest['count']} images of {manifest['source']}"


def _explanation(records):
    parity, accuracy, latency = (records[0][key] for key in ("parity", "accuracy", "latency"))
    measured = "Accuracy was not measured. "
    if accuracy is not None:
        keras = ", ".join(f"{in_words(name)} {text}" for name, text in main_figures(records[0]["keras_scores"]))
        measured = (
            f"Measured on {accuracy['images']:,} images of {accuracy['source']}, each figure on the very file; the "
            f"change is from the Keras network ({keras}), of shares in points. "
        )
    return (
        f"{measured}Differences of the outputs from the Keras network's on {parity['images']} images "
        f"({parity['source']}). Latency: median of {latency['runs']} runs of one image on this machine, which says "
        "little of a phone."
    )


def _plot(records):
    """Returns an SVG drawing of the first metric against latency, the area of a point its size; or nothing."""
    import markupsafe
    from matplotlib.figure import Figure

    if any(not _measured(record) for record in records):
        return ""
    (name, _), *_ = _measured(records[0])
    with fixed_style():
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        axes = figure.add_subplot()
        largest = max(record["bytes"] for record in records)
        for place, record in enumerate(records):
            value = record["accuracy"][name] * (100 if is_share(name) else 1)
            style = {"marker": _MARKERS[place % len(_MARKERS)], "color": f"C{place % 10}", "alpha": 0.6}
            axes.scatter(record["latency"]["median_ms"], value, s=500 * record["bytes"] / largest, **style)
            axes.scatter([], [], s=50, label=FORMATS[record["format"]].title, **style)
        reference = records[0]["keras_scores"][name]
        axes.axhline(100 * reference if is_share(name) else reference, color="grey", linewidth=0.8, linestyle="--")
        axes.set_xlabel("ms an image, one thread of this machine")
        axes.set_ylabel(one_line(in_words(name)) + (" %" if is_share(name) else ""))
        axes.set_title("The area of a point is the size of the file; dashed: the Keras network", fontsize=10)
        axes.margins(0.1, 0.2)
        figure.legend(loc="outside right upper", frameon=False, fontsize=9)
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None})
    svg = content.getvalue()
    return markupsafe.Markup(svg[svg.index("<svg") :])  # what matplotlib wrote has its texts escaped
