"""The plot of what every layer costs in int8."""

from auxzoo.figures import checked_path, fixed_style, one_line, save_figure

from .trials import drop_of, points

_LARGEST_COUNT = 80  # rows; of more layers those that cost most
_BLUE, _ORANGE, _GREEN = "#0072b2", "#d55e00", "#009e73"


def draw_layers(report, path):
    """Draws bars a layer, in the network's order: the error without it in int8, and with it alone in int8.

    Where the images have truth for classes, the points of accuracy or mean IoU that it costs alone as well.

    Args:
        report: what `quantization_report` returns.
        path: of the file, ending in `.png` or `.svg`.

    Raises:
        UserError: if `path` ends otherwise or cannot be written.
    """
    from matplotlib.figure import Figure

    path, rows, whole = checked_path(path, (".png", ".svg")), report["layers"], report["int8"]["error"]
    title = f"{one_line(report['network'])} in int8: what every layer costs"
    if len(rows) > _LARGEST_COUNT:
        worst = sorted(rows, key=lambda row: -row["int8_alone"]["error"])[:_LARGEST_COUNT]
        rows = [row for row in rows if row in worst]
        title += f" (the {_LARGEST_COUNT} of {len(report['layers'])} that cost most)"
    with fixed_style():
        told = bool(points(report["float32"]["scores"] or {}))
        figure = Figure(figsize=(14 if told else 11, 1.6 + 0.19 * len(rows)), layout="constrained")
        saved, alone, *lost = figure.subplots(1, 3 if told else 2, sharey=True)
        places = range(len(rows))
        if told:
            (axes,), whole_drop = lost, drop_of(report["int8"], report["float32"])
            axes.barh(places, [drop_of(row["int8_alone"], report["float32"]) for row in rows], color=_GREEN)
            axes.axvline(0, color="black", linewidth=0.8)
            axes.set_xlabel(f"points lost when it alone is int8 (all: {whole_drop:.2f})")
        saved.barh(places, [100 * row["error_saved"] for row in rows], color=_BLUE)
        saved.set_xlabel(f"saved when it alone stays float32 (of {100 * whole:.2f})")
        alone.barh(places, [100 * row["int8_alone"]["error"] for row in rows], color=_ORANGE)
        alone.set_xlabel("made when it alone is int8")
        saved.set_yticks(list(places), [one_line(row["layer"]) for row in rows], fontsize=8)
        saved.set_ylim(len(rows) - 0.4, -0.6)  # the first layer on top
        for axes in (saved, alone, *lost):
            axes.grid(axis="x", color="#dddddd")
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
        saved.axvline(0, color="black", linewidth=0.8)
        also = f"; right: accuracy or mean IoU on {report['images']['count']} images" if told else ""
        figure.suptitle(f"{title}\nerror of the outputs, % of their standard deviation{also}", fontsize=11)
        save_figure(figure, path, resolution=120)
