"""Accuracy against latency of benchmarked files."""

from pathlib import Path

from auxzoo.figures import checked_path, fixed_style, one_line, save_figure
from auxzoo.files import read_json
from auxzoo.metric_names import in_words, is_share, main_figures

RESOLUTION = 150


def recorded_scores(path, checksum):
    """Returns the scores of the record `FILE.json` beside a file, where it is the record of that very file.

    Args:
        path: `str` or `Path` of the file.
        checksum: its SHA-256.

    Returns:
        `(scores, reason)`: a `dict` and `None`, or `None` and a text that says why there are none.
    """
    record_path = Path(f"{path}.json")
    if not record_path.is_file():
        return None, "no record beside it"
    record = read_json(record_path)
    if not isinstance(record, dict) or record.get("sha256") != checksum:
        return None, "the record beside it is of another file"
    scores = record.get("accuracy")
    if not isinstance(scores, dict) or not list(main_figures(scores)):
        return None, "its record has no accuracy"
    return scores, None


def draw_benchmark(result, path):
    """Draws the accuracy of files, from their records, against their latency at the first number of threads.

    Args:
        result: what `benchmark_files` returned.
        path: `str` or `Path` of the picture, ending in `.png` or `.svg`.

    Returns:
        list of `(file, reason)` of files that are drawn without accuracy, as marks on the axis of latency.

    Raises:
        UserError: if `path` has another suffix or cannot be written, or a record is no JSON.

    Example:
        >>> draw_benchmark(benchmark_files(["plain.tflite", "int8.tflite"]), "benchmark.png")
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    path = checked_path(path, (".png", ".svg"))
    scores = [recorded_scores(entry["file"], entry["sha256"]) for entry in result["files"]]
    metric = next((next(main_figures(found))[0] for found, _ in scores if found), None)
    without = []
    with fixed_style():
        figure = Figure(figsize=(8, 5), layout="constrained")
        axes = figure.add_subplot()
        for place, (entry, (found, reason)) in enumerate(zip(result["files"], scores, strict=True)):
            measured, colour = entry["measurements"][0], f"C{place % 10}"
            if found is not None and metric not in found:
                reason = f"its record has no {metric}"
            label = f"{one_line(Path(entry['file']).name)}: {measured['median_ms']:.3g} ms"
            if reason:
                without.append((entry["file"], reason))
                axes.axvline(measured["median_ms"], color=colour, linestyle=":", label=f"{label} ({reason})")
                continue
            value = found[metric] * (100 if is_share(metric) else 1)
            later = max(measured["p95_ms"] - measured["median_ms"], 0)
            bar = [[0], [later]]
            axes.errorbar(measured["median_ms"], value, xerr=bar, fmt="o", color=colour, capsize=3, label=label)
        axes.set_xscale("log")
        # Ticks of a logarithm at 1, 2, 5: a handful however narrow or wide the range is.
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        threads = result["files"][0]["measurements"][0]["threads"]
        axes.set_xlabel(f"milliseconds, {threads} thread{'s' * (threads > 1)}: median, bar to the 95th percentile")
        if metric is None:
            axes.set_yticks([])
            axes.set_ylabel("no accuracy known")
        else:
            axes.set_ylabel(in_words(metric) + (", %" if is_share(metric) else ""))
        axes.set_title(one_line(f"{result['machine']['processor']}, {result['made'][:10]}", 100), fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), fontsize=8, frameon=False)
        save_figure(figure, path, RESOLUTION)
    return without
