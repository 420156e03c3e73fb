"""Pictures: of an auxiliary beside its compact network, and of how a search opened and closed its gates."""

import itertools
import math
import re

from auxzoo.figures import LONGEST_TITLE, checked_path, fixed_style, one_line, save_figure, text_width

SUFFIXES = (".png", ".svg")
# Of Okabe and Ito, to be told apart by colour-blind readers too.
COMPACT, COMPACT_FILL = "#0072B2", "#D9EAF5"
AUXILIARY, AUXILIARY_FILL = "#D55E00", "#FBE6D6"
UNUSED, UNUSED_FILL = "#8C8C8C", "#F2F2F2"
LINK_COLORS = ("#009E73", "#000000", "#CC79A7", "#56B4E9", "#E69F00")
LINE_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
# More lines than colours: the style tells the second round from the first.
LINE_STYLES = ("-", "--", ":", "-.")
TEXT = "#222222"
RESOLUTION = 150  # pixels per inch of a PNG

# Sizes of the picture of a structure, in inches.
MARGIN = 0.3
BOX_PADDING = 0.14
TAP_HEIGHT, TAP_DISTANCE = 0.3, 0.46
NODE_HEIGHT, NODE_GAP = 0.5, 0.34
LINK_DISTANCE = 0.09  # of two arrows that end at the same node
HEAD_HEIGHT = 0.42
DEEP_GAP = 0.5
LEGEND_HEIGHT = 0.6

# Sizes of the picture of the gates, in inches.
PANEL_WIDTH, PANEL_HEIGHT = 2.1, 1.5
LABEL_DISTANCE = 0.14  # of two labels of the same panel
WIDEST_PICTURE = 16


def draw_structure(structure, path, title=None):
    """Draws the taps of the compact network on the left, the auxiliary on the right, and every link between them.

    Args:
        structure: `Structure`.
        path: `str` or `Path` of the picture, which ends in `.png` or `.svg`; a file that exists is replaced.
        title: `str` to stand above it, or `None`.

    Returns:
        `Path` of the picture.

    Raises:
        UserError: if `path` has another suffix or cannot be written.

    Example:
        >>> structure = Structure.default(auxzoo.load("mobilenet_v2_050_cifar10"))
        >>> draw_structure(structure, "structure.svg", title="The auxiliary to begin with")
        PosixPath('structure.svg')
    """
    path = checked_path(path, SUFFIXES)
    with fixed_style():
        save_figure(_structure_figure(structure, title), path, RESOLUTION)
    return path


def series_name(kind, node, label):
    """Returns what the probabilities of a node's `"link"`, to the tap `label`, or `"operation"` are called."""
    return f"link {node} <- {label}" if kind == "link" else f"operation {node} {label}"


def parse_series(name):
    """Returns what `series_name` made a name of: kind, node and label; `None` of another."""
    match = re.fullmatch(r"(link) (\S+) <- (.+)|(operation) (\S+) (.+)", name, re.DOTALL)
    return match and tuple(group for group in match.groups() if group is not None)


def plot_gates(history, path, title=None, warm_up=0):
    """Draws how the gates of a search moved: a panel of links and a panel of operations for every node.

    Args:
        history: `dict` of the name of a series, as of `series_name`, to its `list` of `float` from 0 to 1, one per
            epoch: the probability that the link is open, or that of the operation.
        path: `str` or `Path` of the picture, which ends in `.png` or `.svg`; a file that exists is replaced.
        title: `str` to stand above it, or `None`.
        warm_up: `float`, epochs in the beginning that are shaded, because the gates were fixed.

    Returns:
        `Path` of the picture.

    Raises:
        UserError: if `path` has another suffix or cannot be written.

    Example:
        >>> history = {"link stage1 <- stem": [0.8, 0.4], "operation stage1 identity": [0.5, 0.9]}
        >>> plot_gates(history, "gates.png", warm_up=1)
        PosixPath('gates.png')
    """
    path, panels = checked_path(path, SUFFIXES), {}
    for name, values in history.items():
        kind, node, label = parse_series(name)
        panels.setdefault(node, {"link": {}, "operation": {}})[kind][label] = values
    epochs = len(next(iter(history.values())))
    with fixed_style():
        save_figure(_gates_figure(panels, epochs, title, warm_up), path, RESOLUTION)
    return path


# What both pictures need


def _figure(width, height):
    """Returns a white figure that needs no pyplot and no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _text_width(texts, size, weight="normal"):
    """Returns the width in inches of the widest text, with some air: other viewers have other fonts."""
    return 1.05 * text_width(texts, size, weight, 300) / 300


# The picture of a structure


def _structure_figure(structure, title):
    """Returns the figure: boxes in two columns (three if every node has a head), and arrows between them.

    All arrows of links run in the space between the columns, where there is no text.
    """
    taps = [tap for tap, _ in structure.taps]
    nodes = list(structure.nodes)
    has_head_each = structure.has_head_each
    used = {link for node in nodes for link in node.links}
    head = "auxiliary head (removed)"

    # From left to right.
    tap_texts = [one_line(tap) for tap in taps]
    node_texts = [(one_line(node.name), f"{node.operation}, {node.channels} channels") for node in nodes]
    tap_width = 2 * BOX_PADDING + max(_text_width(tap_texts, 9), _text_width(["compact head (ships)"], 9, "bold"))
    head_width = 2 * BOX_PADDING + _text_width([head], 9, "bold")
    node_width = 2 * BOX_PADDING + max(
        _text_width([name for name, _ in node_texts], 9, "bold"), _text_width([line for _, line in node_texts], 8)
    )
    node_width = node_width if has_head_each else max(node_width, head_width)
    link_count = sum(len(node.links) for node in nodes)
    link_space = min(1.3 + 0.04 * link_count, 3.2)
    content = tap_width + link_space + node_width + (DEEP_GAP + head_width if has_head_each else 0)
    title = one_line(title or "", LONGEST_TITLE)
    width = 2 * MARGIN + max(content, _text_width([title], 12, "bold"), 5.2)
    tap_left = (width - content) / 2
    node_left = tap_left + tap_width + link_space
    head_left = node_left + node_width + DEEP_GAP

    # From top to bottom.
    top = MARGIN + (0.35 if title else 0) + 0.3
    node_heights = [max(NODE_HEIGHT, LINK_DISTANCE * (len(node.links) + 1)) for node in nodes]
    node_distance = max(node_heights) + NODE_GAP
    column_height = max(
        TAP_DISTANCE * len(taps),
        sum(node_heights) + NODE_GAP * len(nodes),
        node_distance * min(len(taps), len(nodes) + 1),  # room for every node beside its own tap, and the stem
    )
    tap_middles = [top + column_height * (index + 0.5) / len(taps) for index in range(len(taps))]
    node_middles = _node_middles(nodes, node_heights, dict(zip(taps, tap_middles, strict=True)), top, column_height)
    head_middle = top + column_height + HEAD_HEIGHT / 2 + 0.12
    height = head_middle + HEAD_HEIGHT / 2 + 0.15 + LEGEND_HEIGHT

    figure = _figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    if title:
        axes.text(width / 2, MARGIN + 0.08, title, size=12, weight="bold", color=TEXT, ha="center", va="center")
    for left, box_width, text, color in (
        (tap_left, tap_width, "compact network", COMPACT),
        (node_left, node_width, "auxiliary", AUXILIARY),
    ):
        axes.text(left + box_width / 2, top - 0.2, text, size=9, style="italic", color=color, ha="center", va="center")

    # The compact network.
    for index, (tap, text, middle) in enumerate(zip(taps, tap_texts, tap_middles, strict=True)):
        edge, fill = (COMPACT, COMPACT_FILL) if tap in used else (UNUSED, UNUSED_FILL)
        box = (tap_left, middle - TAP_HEIGHT / 2, tap_width, TAP_HEIGHT)
        _draw_box(axes, box, edge, fill, f"tap-{index}", dashed=tap not in used)
        axes.text(
            tap_left + tap_width / 2,
            middle,
            text,
            size=9,
            color=TEXT if tap in used else "#5E5E5E",
            ha="center",
            va="center",
        )
    _draw_chain(axes, tap_left + tap_width / 2, tap_middles, [TAP_HEIGHT] * len(taps), head_middle, COMPACT)
    _draw_head(axes, tap_left, head_middle, tap_width, "compact head (ships)", COMPACT, "compact-head")

    # The auxiliary.
    for index, (texts, middle, box_height) in enumerate(zip(node_texts, node_middles, node_heights, strict=True)):
        box = (node_left, middle - box_height / 2, node_width, box_height)
        _draw_box(axes, box, AUXILIARY, AUXILIARY_FILL, f"node-{index}")
        center = node_left + node_width / 2
        axes.text(center, middle - 0.09, texts[0], size=9, weight="bold", color=TEXT, ha="center", va="center")
        axes.text(center, middle + 0.1, texts[1], size=8, color=TEXT, ha="center", va="center")
        if has_head_each:
            _draw_arrow(axes, [(node_left + node_width, middle), (head_left, middle)], AUXILIARY, 1.4)
            _draw_head(axes, head_left, middle, head_width, head, AUXILIARY, f"auxiliary-head-{index}")
    if structure.is_chained:
        end = None if has_head_each else head_middle
        _draw_chain(axes, node_left + node_width / 2, node_middles, node_heights, end, AUXILIARY)
    if not has_head_each:
        _draw_head(axes, node_left, head_middle, node_width, head, AUXILIARY, "auxiliary-head")

    # The links; those of a tap, and those of a node, side by side in an order in which they cross least.
    readers = {tap: [node.name for node in nodes if tap in node.links] for tap in taps}
    for node_index, node in enumerate(nodes):
        links = sorted(node.links, key=taps.index)
        for place, tap in enumerate(links):
            tap_index = taps.index(tap)
            start_shift = _spread(readers[tap].index(node.name), len(readers[tap]), TAP_HEIGHT - 0.08)
            end_shift = _spread(place, len(links), node_heights[node_index] - LINK_DISTANCE)
            start = (tap_left + tap_width, tap_middles[tap_index] + start_shift)
            end = (node_left, node_middles[node_index] + end_shift)
            bend = 0.5 * link_space
            points = [start, (start[0] + bend, start[1]), (end[0] - bend, end[1]), end]
            color = LINK_COLORS[node_index % len(LINK_COLORS)]
            _draw_arrow(axes, points, color, 1.1, f"link-{node_index}-{tap_index}")

    _draw_legend(figure, any(tap not in used for tap in taps))
    return figure


def _node_middles(nodes, heights, tap_middles, top, column_height):
    """Returns how far down each node's middle is: beside the middle of its taps, as far as there is room."""
    starts, free = [], top
    for node, height in zip(nodes, heights, strict=True):
        wish = sum(tap_middles[link] for link in node.links) / max(len(node.links), 1) - height / 2
        starts.append(max(wish, free + NODE_GAP / 2))
        free = starts[-1] + height + NODE_GAP / 2
    free = top + column_height
    for index in reversed(range(len(nodes))):
        starts[index] = min(starts[index], free - NODE_GAP / 2 - heights[index])
        free = starts[index] - NODE_GAP / 2
    return [start + height / 2 for start, height in zip(starts, heights, strict=True)]


def _spread(place, count, room):
    """Returns how far the arrow at `place` of `count` is from the middle of the side of a box."""
    distance = min(LINK_DISTANCE, room / max(count - 1, 1))
    return (place - (count - 1) / 2) * distance


def _draw_box(axes, box, edge, fill, name, dashed=False, line_width=1.2):
    from matplotlib.patches import FancyBboxPatch

    left, upper, width, height = box
    patch = FancyBboxPatch(
        (left, upper),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.07",
        edgecolor=edge,
        facecolor=fill,
        linewidth=line_width,
        linestyle="--" if dashed else "-",
        gid=name,
        zorder=2,
    )
    axes.add_patch(patch)


def _draw_head(axes, left, middle, width, text, color, name):
    """Draws a head: filled if it ships, dashed if it is removed."""
    ships = color == COMPACT
    fill = COMPACT if ships else "white"
    box = (left, middle - HEAD_HEIGHT / 2, width, HEAD_HEIGHT)
    _draw_box(axes, box, color, fill, name, dashed=not ships, line_width=1.6)
    text_color = "white" if ships else TEXT
    axes.text(left + width / 2, middle, text, size=9, weight="bold", color=text_color, ha="center", va="center")


def _draw_chain(axes, x, middles, heights, head_middle, color):
    """Draws the arrows from box to box of a column, and to the head below it unless `head_middle` is `None`."""
    bottoms = [middle + height / 2 for middle, height in zip(middles, heights, strict=True)]
    tops = [middle - height / 2 for middle, height in zip(middles, heights, strict=True)]
    next_tops = tops[1:] if head_middle is None else [*tops[1:], head_middle - HEAD_HEIGHT / 2]
    for bottom, next_top in zip(bottoms, next_tops, strict=False):
        _draw_arrow(axes, [(x, bottom), (x, next_top)], color, 1.4)


def _draw_arrow(axes, points, color, line_width, name=None):
    """Draws an arrow, straight through two points or a Bézier curve of four."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Curve

    codes = [Curve.MOVETO] + ([Curve.LINETO] if len(points) == 2 else [Curve.CURVE4] * 3)
    patch = FancyArrowPatch(
        path=Curve(points, codes),
        arrowstyle="-|>,head_length=0.4,head_width=0.18",
        mutation_scale=13,
        color=color,
        linewidth=line_width,
        shrinkA=0,
        shrinkB=0,
        joinstyle="miter",
        gid=name,
        zorder=3,
    )
    axes.add_patch(patch)


def _draw_legend(figure, has_unused):
    """Draws the legend below the picture."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries = {
        "compact network: ships": Patch(edgecolor=COMPACT, facecolor=COMPACT_FILL),
        "auxiliary: only for training": Patch(edgecolor=AUXILIARY, facecolor=AUXILIARY_FILL),
        "link (a colour for each node)": Line2D([], [], color=LINK_COLORS[0], marker=">", markevery=[1], markersize=4),
    }
    if has_unused:
        entries["tap that no link reads"] = Patch(edgecolor=UNUSED, facecolor=UNUSED_FILL, linestyle="--")
    figure.legend(
        list(entries.values()),
        list(entries),
        loc="lower center",
        ncols=2,
        fontsize=8,
        labelcolor=TEXT,
        frameon=False,
        borderaxespad=0.4,
    )


# The picture of the gates


def _gates_figure(panels, epochs, title, warm_up):
    """Returns the figure: above, a panel of links for every node; below, in the same order, one of operations."""
    kinds = {"link": "Probability that the link is open", "operation": "Probability of the operation"}
    kinds = {kind: text for kind, text in kinds.items() if any(node[kind] for node in panels.values())}
    labels = [
        _series_label(label, values)
        for node in panels.values()
        for kind in kinds
        for label, values in node[kind].items()
    ]
    # A panel with the numbers of its axis on its left and the labels of its lines on its right.
    left, right = 0.5, 0.3 + _text_width(labels, 7)
    cell_width = max(left + PANEL_WIDTH + right, left + _text_width([one_line(node) for node in panels], 9, "bold"))
    columns = max(1, min(len(panels), 4, int((WIDEST_PICTURE - 2 * MARGIN) // cell_width)))
    rows = math.ceil(len(panels) / columns)
    columns = math.ceil(len(panels) / rows)  # rows of equal length, if it can be
    heights = {
        kind: max(PANEL_HEIGHT, LABEL_DISTANCE * max(len(node[kind]) for node in panels.values())) for kind in kinds
    }
    above, below = 0.4, 0.5  # a panel: its node's name; its epochs
    heading = 0.2
    title = one_line(title or "", LONGEST_TITLE)
    width = 2 * MARGIN + max(columns * cell_width, _text_width([title], 12, "bold"), _text_width(kinds.values(), 10))
    height = MARGIN + (0.4 if title else 0)
    height += sum(heading + rows * (above + heights[kind] + below) for kind in kinds) + 0.15 * (len(kinds) - 1)

    figure = _figure(width, height)
    top = MARGIN
    if title:
        _figure_text(figure, width / 2, top + 0.05, title, size=12, weight="bold", ha="center")
        top += 0.4
    for kind, text in kinds.items():
        _figure_text(figure, MARGIN, top, text, size=10, style="italic")
        top += heading
        for index, (node, series) in enumerate(panels.items()):
            column, row = index % columns, index // columns
            lower_edge = height - top - row * (above + heights[kind] + below) - above - heights[kind]
            box = (MARGIN + column * cell_width + left, lower_edge, PANEL_WIDTH, heights[kind])
            axes = figure.add_axes(
                (box[0] / width, box[1] / height, box[2] / width, box[3] / height), gid=f"{kind}-panel-{index}"
            )
            _draw_panel(axes, one_line(node), series[kind], epochs, warm_up, heights[kind])
        top += rows * (above + heights[kind] + below) + 0.15
    return figure


def _figure_text(figure, x, y, text, **style):
    """Writes text `x` inches from the left and `y` from the top."""
    width, height = figure.get_size_inches()
    figure.text(x / width, 1 - y / height, text, color=TEXT, va="center", **style)


def _series_label(name, values):
    return f"{one_line(name)} {values[-1]:.2f}"


def _draw_panel(axes, node, series, epochs, warm_up, height):
    """Draws the lines of one node, each labelled at its end."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(0, epochs)
    axes.set_ylim(-0.03, 1.03)
    axes.set_title(node, size=9, weight="bold", color=TEXT, loc="left", pad=12 if warm_up else 5)
    axes.tick_params(labelsize=7, color=UNUSED, labelcolor=TEXT)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel("epoch", size=7, color=TEXT, labelpad=1)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(UNUSED)
    if warm_up:
        axes.axvspan(0, min(warm_up, epochs), color="#E4E4E4", linewidth=0, zorder=0)
        # Above the panel, because a short warm-up has no room for it.
        axes.annotate(
            "gates fixed",
            (0, 1),
            (0, 2),
            xycoords="axes fraction",
            textcoords="offset points",
            size=6.5,
            color="#5E5E5E",
        )
    if not series:
        axes.text(epochs / 2, 0.5, "nothing to choose", size=7, color="#5E5E5E", ha="center", va="center")
        return
    styles = itertools.cycle(itertools.product(LINE_STYLES, LINE_COLORS))
    spots = _label_spots([values[-1] for values in series.values()], LABEL_DISTANCE / height * 1.06)
    for index, ((label, values), spot, (line_style, color)) in enumerate(
        zip(series.items(), spots, styles, strict=False)
    ):
        times = range(1, epochs + 1)
        marker = "o" if epochs == 1 else None  # one point makes no line
        axes.plot(
            times, values, line_style, color=color, marker=marker, markersize=3, linewidth=1.3, clip_on=False, zorder=3
        )
        axes.annotate(
            _series_label(label, values),
            (epochs, values[-1]),
            (1 + 0.22 / PANEL_WIDTH, spot),
            xycoords="data",
            textcoords=axes.get_yaxis_transform(),
            size=7,
            color=TEXT,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": color,
                "linewidth": 1.1,
                "linestyle": line_style,
                "shrinkA": 0,
                "shrinkB": 1,
                "relpos": (0, 0.5),
            },
            gid=f"label-{index}",
        )


def _label_spots(values, distance):
    """Returns where to write the label of each value: near to it, but not nearer than `distance` to another label."""
    order = sorted(range(len(values)), key=lambda index: (values[index], -index))
    ascending = [values[index] for index in order]
    upward = _pushed_up(ascending, distance)
    downward = [1 - spot for spot in reversed(_pushed_up([1 - value for value in reversed(ascending)], distance))]
    # Both keep the distance, and so does what is halfway; it leaves a crowd of labels in the middle of its values.
    halfway = [(high + low) / 2 for high, low in zip(upward, downward, strict=True)]
    return [spot for _, spot in sorted(zip(order, halfway, strict=True))]


def _pushed_up(ascending, distance):
    """Returns the values, each pushed up until it is `distance` above the one before; and down again from above 1."""
    spots = []
    for value in ascending:
        spots.append(max(value, spots[-1] + distance) if spots else value)
    free = 1.0
    for index in reversed(range(len(spots))):
        spots[index] = min(spots[index], free)
        free = spots[index] - distance
    return spots
