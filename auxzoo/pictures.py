"""Pictures of what networks predict: beside a photograph, and beside the truth."""

import dataclasses
import functools
import itertools
import math

import numpy as np

from auxzoo.errors import UserError
from auxzoo.figures import LONGEST_TITLE, checked_path, fixed_style, one_line, save_figure, text_width
from auxzoo.metrics import VOID
from auxzoo.tasks import Task

# All sizes are in pixels. A power of two per inch: from pixels to inches and back nothing is rounded.
RESOLUTION = 128
LONGEST_SIDE, LONGEST_CELL_SIDE = 512, 208  # of a photograph beside its predictions, of one in a contact sheet
NARROWEST_PANEL, NARROWEST_CELL = 200, 120
USUAL_SHEET, LONGEST_PAGE = 1500, 40_000
MARGIN, PANEL_GAP, CELL_GAP, TASK_GAP = 24, 32, 6, 18
LINE, TITLE_HEIGHT = 20, 36
SWATCH = 12
BAR_ROW, BAR_HEIGHT, PERCENT_WIDTH = 42, 12, 66
SCALE_HEIGHT, TICKS_HEIGHT, TICK_DISTANCE = 14, 26, 100

TEXT = "#222222"
FAINT_LEVEL = 0xEC  # of red, green and blue, where there is nothing
FAINT = "#" + 3 * f"{FAINT_LEVEL:02X}"
BAR = "#0072B2"
RIGHT, WRONG = "darkgreen", "firebrick"
NO_NUMBER = "#9E9E9E"  # is not in the colour map
COLOUR_MAP = "viridis"
TEXT_SIZE, TITLE_SIZE, TICK_SIZE = 8, 12, 7  # in points
HIGHEST, LONGEST_LEGEND = 5, 30
OPACITY = 0.55  # of the colours of classes


def colours_of(task):
    """Returns the colours in which the classes of a segmentation are drawn.

    They are the task's own; where it has none, a palette whose first 30 are easily told apart. A class has the same
    colour of the palette however many classes there are, and none is black, in which pixels without truth are drawn.

    Args:
        task: `Task`, a segmentation.

    Returns:
        uint8 `[classes, 3]`, red, green and blue; of 255 classes where the task has neither colours nor labels.

    Raises:
        UserError: if `task` is not so.

    Example:
        >>> colours_of(Task("surface", "segmentation", ("ocean", "land")))
        array([[ 31, 119, 180],
               [255, 127,  14]], dtype=uint8)
    """
    if not isinstance(task, Task) or task.kind != "segmentation":
        received = f"{task.name!r}, a {task.kind}" if isinstance(task, Task) else repr(task)
        raise UserError(f"`task` must be a Task that is a segmentation. Received: {received}")
    return np.array(task.colours, dtype=np.uint8) if task.colours else _palette()[: _class_count(task)].copy()


def overlay(photograph, classes, task):
    """Returns a photograph under the colours of its pixels' classes.

    Args:
        photograph: uint8 `[rows, columns, 3]`.
        classes: integers `[rows, columns]`, 0 to classes - 1, or `VOID` where the photograph shall stay as it is.
        task: `Task`, a segmentation.

    Returns:
        uint8 `[rows, columns, 3]`.

    Example:
        >>> task = Task("surface", "segmentation", ("ocean", "land"), colours=((0, 0, 200), (0, 100, 0)))
        >>> overlay(np.zeros((1, 2, 3), np.uint8), np.array([[0, VOID]]), task)
        array([[[  0,   0, 110],
                [  0,   0,   0]]], dtype=uint8)
    """
    result, shown = photograph.copy(), classes != VOID
    below, above = photograph[shown].astype(np.float32), colours_of(task)[classes[shown]].astype(np.float32)
    result[shown] = np.rint(below + (above - below) * np.float32(OPACITY)).astype(np.uint8)
    return result


def draw_prediction(path, photograph, predictions, tasks, title=""):
    """Draws a photograph, and beside it a panel for every task that shows what was predicted.

    A classification is drawn as the five highest classes with their probabilities; a segmentation as the overlay with
    a legend of the classes that are there, those with most pixels first; a regression in colours, grey where there is
    no number. A large photograph is drawn reduced, and so are its predictions, of which the nearest pixels are taken.

    Args:
        path: `str` or `Path` of the picture, which ends in `.png`; a file that exists is replaced.
        photograph: uint8 `[rows, columns, 3]`.
        predictions: `dict` of every task's name to an array: of a classification logits `[classes]`; of a segmentation
            integers `[rows, columns]`, 0 to classes - 1, or `VOID` where there is none; of a regression numbers
            `[rows, columns]` in the task's unit, NaN where there is none.
        tasks: list of `Task`, in the order of the panels.
        title: `str` to stand above it.

    Returns:
        `Path` of the picture.

    Raises:
        UserError: if a prediction is not so, there are so many tasks that no picture is large enough, or `path` has
            another suffix or cannot be written.

    Example:
        >>> height = Task("height", "regression", unit="m")
        >>> photograph, heights = np.zeros((24, 32, 3), np.uint8), np.arange(24 * 32).reshape(24, 32)
        >>> draw_prediction("prediction.png", photograph, {"height": heights}, [height])
        PosixPath('prediction.png')
    """
    path = checked_path(path, (".png",))
    predictions = checked_predictions("`predictions`", predictions, tasks, photograph)
    with fixed_style():
        save_figure(_prediction_figure(photograph, predictions, tasks, title), path, RESOLUTION)
    return path


def draw_contact_sheet(path, photographs, truths, predictions, tasks, title="", columns=None):
    """Draws many photographs, each with what was predicted beside the truth.

    Of every dense task two cells follow a photograph: the truth, in which pixels without truth are black (of a
    regression grey), and the prediction, which of a segmentation is left out where there is no truth. Classes have the
    same colours and numbers the same colour scale all over the sheet; the legend is below. Under the photograph stands
    the predicted class of every classification: green where right, red with the true class where wrong.

    Args:
        path: `str` or `Path` of the picture, which ends in `.png`; a file that exists is replaced.
        photographs: list of uint8 `[rows, columns, 3]`, which may differ in size.
        truths: list of `dict`, one a photograph, of task name to truth: of a classification an integer; of a
            segmentation integers `[rows, columns]`, `VOID` where there is none; of a regression numbers
            `[rows, columns]`, NaN where there is none. A task that is missing has no truth.
        predictions: list of `dict`, one a photograph, as of `draw_prediction`.
        tasks: list of `Task`, in the order of the cells.
        title: `str` to stand above it.
        columns: how many photographs stand beside each other; as many as fit if `None`.

    Returns:
        `Path` of the picture.

    Raises:
        UserError: if a truth or prediction is not so, there are so many tasks that no picture is large enough, or
            `path` has another suffix or cannot be written.

    Example:
        >>> pet = Task("pet", "classification", ("cat", "dog"))
        >>> photographs = np.zeros((2, 24, 24, 3), np.uint8)
        >>> logits = [{"pet": [0.5, 2.0]}, {"pet": [3.0, 1.0]}]
        >>> draw_contact_sheet("sheet.png", photographs, [{"pet": 1}, {"pet": 1}], logits, [pet])
        PosixPath('sheet.png')
    """
    path = checked_path(path, (".png",))
    truths, predictions = (
        [checked_predictions(f"`{name}[{place}]`", one, tasks, photographs[place]) for place, one in enumerate(values)]
        for name, values in (("truths", truths), ("predictions", predictions))
    )
    block = _Block.of(photographs, tasks)
    with fixed_style():
        save_figure(_sheet_figure(photographs, truths, predictions, tasks, title, columns, block), path, RESOLUTION)
    return path


# Checks


def _class_count(task):
    """Returns how many classes there are; of a segmentation that does not say so, as many as a mask can hold."""
    return len(task.labels) or len(task.colours) or VOID


def checked_predictions(where, values, tasks, photograph):
    """Returns the predictions or truths of one photograph as arrays that fit it: a foreign file may give anything.

    Args:
        where: `str`, what messages call them.
        values: `dict` of task name to what `draw_prediction` takes.
        tasks: tuple of `Task`.
        photograph: uint8 `[rows, columns, 3]`.

    Raises:
        UserError: if one is of another shape or type, no class, or not finite.
    """
    found = {}
    for task in tasks:
        if task.name not in values:
            continue
        of_task, array = f"{where} of task {task.name!r}", np.asarray(values[task.name])
        if task.kind == "classification":
            found[task.name] = _checked_logits(of_task, array, task)
        elif task.kind == "segmentation":
            found[task.name] = _checked_classes(of_task, array, task, photograph.shape[:2])
        else:
            found[task.name] = _checked_numbers(of_task, array, photograph.shape[:2])
    return found


def _checked_classes(where, classes, task, shape):
    """Returns the classes of all pixels as uint8."""
    if classes.dtype.kind not in "iu" or classes.shape != shape:
        raise UserError(
            f"{where} must be integers [{shape[0]}, {shape[1]}], one a pixel of the photograph. "
            f"Received: {classes.dtype} of shape {classes.shape}"
        )
    wrong = classes[(classes != VOID) & ((classes < 0) | (classes >= _class_count(task)))]
    if wrong.size:
        raise UserError(
            f"{where} must be 0 to {_class_count(task) - 1}, or {VOID} where there is none. "
            f"Received: {wrong[0]}, {wrong.size} wrong in all"
        )
    return classes.astype(np.uint8)


def _checked_numbers(where, values, shape):
    """Returns the numbers of all pixels as float32: beyond its range no picture is meaningful."""
    if not np.can_cast(values.dtype, np.float64, "same_kind") or values.dtype == bool or values.shape != shape:
        raise UserError(
            f"{where} must be numbers [{shape[0]}, {shape[1]}], one a pixel of the photograph. "
            f"Received: {values.dtype} of shape {values.shape}"
        )
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    if np.isinf(values).any():
        raise UserError(f"{where} must be finite numbers of float32, or NaN where there is none. Received: infinity")
    return values


def _checked_logits(where, logits, task):
    """Returns logits as float64, or the one class that a file gives, or that is the truth."""
    count = len(task.labels) or None
    if logits.ndim == 0 and logits.dtype.kind in "iu":
        if not 0 <= logits < (count or np.inf):
            allowed = f"0 to {count - 1}" if count else "0 or more"
            raise UserError(f"{where} must be a class, {allowed}. Received: {logits}")
        return logits
    if (
        not np.can_cast(logits.dtype, np.float64, "same_kind")
        or logits.dtype == bool
        or logits.ndim != 1
        or len(logits) != (count or max(len(logits), 1))
    ):
        raise UserError(
            f"{where} must be logits [{count or 'classes'}]. Received: {logits.dtype} of shape {logits.shape}"
        )
    if not np.isfinite(logits).all():
        raise UserError(f"{where} must be finite logits. Received: {logits[~np.isfinite(logits)][0]}")
    return logits.astype(np.float64)


# Pixels


@functools.cache
def _palette():
    """Returns uint8 `[255, 3]`: the colours of tab10, then each as far as can be from all before, and from black."""
    import matplotlib

    # Without grey: a photograph under it looks as if nothing was said about its pixels.
    named = 255 * np.delete(matplotlib.colormaps["tab10"].colors, 7, axis=0)
    grid = np.stack(np.meshgrid(*[np.arange(0, 256, 31.875)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[np.ptp(grid, axis=1) >= 64]
    places = _lab(grid)
    taken = _lab(np.array([(0, 0, 0), *named]))
    distances = np.linalg.norm(places[:, None] - taken, axis=-1).min(axis=1)
    palette = list(named)
    while len(palette) < VOID:
        farthest = distances.argmax()
        palette.append(grid[farthest])
        distances = np.minimum(distances, np.linalg.norm(places - places[farthest], axis=-1))
    return np.rint(palette).astype(np.uint8)


def _lab(colours):
    """Returns colours, 0 to 255, in CIELAB (of sRGB, white D65), where distances are as people see them."""
    parts = colours / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = (linear @ (to_xyz / to_xyz.sum(axis=1, keepdims=True)).T).T
    x, y, z = (np.where(part > (6 / 29) ** 3, np.cbrt(part), part * (29 / 6) ** 2 / 3 + 4 / 29) for part in (x, y, z))
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _shown_size(rows, columns, longest):
    """Returns rows and columns to draw: reduced to the longest side, or every pixel enlarged to a square of pixels."""
    if max(rows, columns) > longest:
        scale = longest / max(rows, columns)
        return max(1, round(scale * rows)), max(1, round(scale * columns))
    factor = longest // max(rows, columns)
    return factor * rows, factor * columns


def _nearest(values, size):
    """Returns values `[rows, columns, ...]` in another size, each taken from one pixel: classes have no mean."""
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(size, values.shape, strict=False))
    return values[rows[:, None], columns]


def _shown_photograph(photograph, longest):
    """Returns the photograph in the size to draw; where it is reduced, the means of its pixels."""
    size = _shown_size(*photograph.shape[:2], longest)
    if max(photograph.shape[:2]) <= longest:
        return _nearest(photograph, size)
    for axis, new in enumerate(size):
        old = photograph.shape[axis]
        starts = np.arange(new) * old // new
        counts = np.expand_dims(np.diff(starts, append=old), tuple({0, 1, 2} - {axis}))
        photograph = np.add.reduceat(photograph, starts, axis=axis, dtype=np.float32) / counts
    return np.rint(photograph).astype(np.uint8)


def _number_pixels(values, limits):
    """Returns numbers in the colours of the scale, uint8 `[rows, columns, 3]`."""
    # As float64, in which the difference of any two of float32 is finite.
    return _scale_colours(limits).to_rgba(np.ma.masked_invalid(values.astype(np.float64)), bytes=True)[..., :3]


def _scale_colours(limits):
    """Returns what gives numbers their colours."""
    import matplotlib
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(*limits), matplotlib.colormaps[COLOUR_MAP].with_extremes(bad=NO_NUMBER))


def _limits(arrays):
    """Returns the lowest and the highest number of all arrays, a little apart in any case; `None` if there is none."""
    numbers_seen = [array[~np.isnan(array)] for array in arrays]
    numbers_seen = [array for array in numbers_seen if array.size]
    if not numbers_seen:
        return None
    low, high = float(min(map(np.min, numbers_seen))), float(max(map(np.max, numbers_seen)))
    size = max(abs(low), abs(high))
    if high - low <= 1e-5 * size:  # nearer, the seven digits beside the scale would be the same
        gap = 0.01 * size or 0.01
        return low - gap, high + gap
    return low, high


def _counts(classes):
    """Returns how many pixels have each value of a byte."""
    return np.bincount(classes.ravel(), minlength=VOID + 1)


# What both pictures are made of


class _Page:
    """A white figure that needs no pyplot and no screen, on which everything stands at pixels from the upper left."""

    def __init__(self, width, height):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        if max(width, height) > LONGEST_PAGE:
            raise UserError(
                f"`tasks` and their classes must fit into a picture of {LONGEST_PAGE} pixels a side. "
                f"Received: what takes {width} x {height}"
            )
        self.width, self.height = width, height
        self.figure = Figure((width / RESOLUTION, height / RESOLUTION), dpi=RESOLUTION, facecolor="white")
        FigureCanvasAgg(self.figure)
        self.axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        self.axes.set_axis_off()

    def write(self, x, middle, text, size=TEXT_SIZE, color=TEXT, **style):
        """Writes one line of text."""
        self.axes.text(x, middle, text, size=size, color=color, va="center", **style)

    def write_title(self, title):
        """Writes the title, if there is one, and returns how far down the rest begins."""
        if not title:
            return MARGIN
        self.write(self.width / 2, MARGIN + 10, title, TITLE_SIZE, weight="bold", ha="center")
        return MARGIN + TITLE_HEIGHT

    def paste(self, left, top, pixels, name):
        """Shows pixels one to one."""
        lower = self.height - top - len(pixels)
        self.figure.figimage(pixels, left, lower, origin="upper", gid=name, zorder=-1)  # below all texts

    def fill(self, left, top, width, height, color, edge="none", name=None):
        """Draws a filled box."""
        from matplotlib.patches import Rectangle

        box = Rectangle((left, top), width, height, facecolor=color, edgecolor=edge, linewidth=0.5, gid=name)
        self.axes.add_patch(box)

    def inset(self, left, top, width, height, name):
        """Returns axes of their own."""
        lower = self.height - top - height
        box = (left / self.width, lower / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box, gid=name)


def _class_label(task, place):
    return one_line(task.labels[place]) if place < len(task.labels) else f"class {place}"


def _text_width(texts, size=TEXT_SIZE, weight="normal"):
    """Returns the width of the widest text."""
    return math.ceil(text_width(texts, size, weight, RESOLUTION))


def _shortened(text, width, weight="normal"):
    """Returns the text without as much of its middle as is too wide."""
    text = one_line(text, LONGEST_TITLE)
    for longest in range(len(text), 4, -1):
        shorter = one_line(text, longest)
        if _text_width([shorter], weight=weight) <= width:
            return shorter
    return one_line(text, 4)


class _Legend:
    """A swatch and a text for each of some classes, in as many columns as fit into a width, or one.

    Args:
        entries: list of a colour, `None` where there is no swatch, and a text.
        width: to fit into, if a text is not wider.
    """

    def __init__(self, entries, width):
        self.entries = entries
        self.column_width = SWATCH + 8 + _text_width([text for _, text in entries]) + 18
        columns = max(1, min(len(entries), (width + 18) // self.column_width))
        self.rows = math.ceil(len(entries) / columns)
        # Columns of equal length, if it can be.
        self.width = math.ceil(len(entries) / max(self.rows, 1)) * self.column_width
        self.height = self.rows * LINE

    def draw(self, page, left, top, width):
        """Draws it column after column."""
        for place, (color, text) in enumerate(self.entries):
            x, y = left + place // self.rows * self.column_width, top + place % self.rows * LINE
            if color is not None:
                page.fill(x, y + (LINE - SWATCH) / 2, SWATCH, SWATCH, color, edge="#8C8C8C", name=f"swatch: {text}")
            page.write(x + SWATCH + 8, y + LINE / 2, text)


class _Scale:
    """The colour bar of a regression, its unit, and that grey is no number where there is any."""

    def __init__(self, task, limits, has_gaps):
        self.limits = limits
        unit = one_line(task.unit)
        notes = [f"in {unit}"] if unit and limits else []
        notes += ["grey: no number"] if has_gaps else []
        self.note = "; ".join(notes)
        self.width = _text_width([self.note])
        self.height = (SCALE_HEIGHT + TICKS_HEIGHT if limits else 0) + (LINE if notes else 0)

    def draw(self, page, left, top, width):
        """Draws it as wide as is told."""
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        if self.limits:
            indent = 22  # for the half of a number that stands out
            axes = page.inset(left + indent, top, width - 2 * indent, SCALE_HEIGHT, "scale")
            bar = page.figure.colorbar(_scale_colours(self.limits), cax=axes, orientation="horizontal")
            bar.locator = MaxNLocator(max(2, (width - 2 * indent) // TICK_DISTANCE))
            # Whole numbers: those that leave out what they have in common write it where the unit stands.
            bar.formatter = FuncFormatter(lambda value, _: f"{value:.7g}".replace("-", "−"))
            bar.outline.set_linewidth(0.5)
            axes.tick_params(labelsize=TICK_SIZE, labelcolor=TEXT, color=TEXT, length=3, width=0.5, pad=2)
        if self.note:
            page.write(left, top + self.height - LINE / 2, self.note)


class _Bars:
    """The highest classes of a classification, each a label above a bar and its probability."""

    def __init__(self, task, logits):
        if logits.ndim == 0:  # a class alone, of which nobody knows how probable it is
            self.rows = [(_class_label(task, int(logits)), None)]
            self.width, self.height = max(NARROWEST_PANEL, _text_width([self.rows[0][0]])), BAR_ROW
            return
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        highest = np.argsort(-logits, kind="stable")[:HIGHEST]
        self.rows = [(_class_label(task, place), float(shares[place])) for place in highest]
        self.width = max(NARROWEST_PANEL, _text_width([label for label, _ in self.rows]))
        self.height = len(self.rows) * BAR_ROW

    def draw(self, page, left, top, width):
        """Draws them below each other, the highest first."""
        longest = width - PERCENT_WIDTH
        for place, (label, share) in enumerate(self.rows):
            y = top + place * BAR_ROW
            page.write(left, y + LINE / 2 - 1, label)
            if share is None:
                continue
            page.fill(left, y + LINE, longest, BAR_HEIGHT, FAINT)
            page.fill(left, y + LINE, longest * share, BAR_HEIGHT, BAR, name=f"bar: {label}")
            page.write(left + width, y + LINE + BAR_HEIGHT / 2, _percent(share), ha="right")


def _percent(share):
    """Returns a share as text; never `0.0 %` of what is there, nor `100.0 %` where something else is."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.999 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.1f} %"


# The picture of one photograph


@dataclasses.dataclass(frozen=True)
class _Panel:
    """A heading, an image of a photograph's size or none, and what stands below it."""

    heading: str
    pixels: np.ndarray | None
    below: _Legend | _Scale | _Bars | None

    @property
    def width(self):
        """Enough for all three; the heading is shortened rather."""
        image = 0 if self.pixels is None else self.pixels.shape[1]
        return max(NARROWEST_PANEL, image, self.below.width if self.below else 0)

    @property
    def height(self):
        """Of what stands below the heading."""
        image = 0 if self.pixels is None else len(self.pixels) + 8
        return image + (self.below.height if self.below else 0)

    def draw(self, page, left, top):
        """Draws one below the other."""
        page.write(left, top + LINE / 2, _shortened(self.heading, self.width, "bold"), weight="bold")
        top += LINE + 4
        if self.pixels is not None:
            page.paste(left, top, self.pixels, self.heading)
            top += len(self.pixels) + 8
        if self.below:
            self.below.draw(page, left, top, self.width)


def _prediction_figure(photograph, predictions, tasks, title):
    """Returns the figure: panels side by side, the photograph first."""
    shown = _shown_photograph(photograph, LONGEST_SIDE)
    panels = [_Panel("photograph", shown, None)]
    panels += [_task_panel(task, predictions[task.name], shown) for task in tasks]
    title = one_line(title, LONGEST_TITLE)
    content = sum(panel.width for panel in panels) + PANEL_GAP * (len(panels) - 1)
    width = 2 * MARGIN + max(content, _text_width([title], TITLE_SIZE, "bold"))
    height = 2 * MARGIN + (TITLE_HEIGHT if title else 0) + LINE + 4 + max(panel.height for panel in panels)
    page = _Page(width, height)
    top, left = page.write_title(title), (width - content) // 2
    for panel in panels:
        panel.draw(page, left, top)
        left += panel.width + PANEL_GAP
    return page.figure


def _task_panel(task, values, shown):
    """Returns the panel of one task beside a photograph in the size in which it is drawn."""
    if task.kind == "classification":
        return _Panel(task.name, None, _Bars(task, values))
    small = _nearest(values, shown.shape[:2])
    if task.kind == "regression":
        limits = _limits([values])
        return _Panel(task.name, _number_pixels(small, limits or (0, 1)), _Scale(task, limits, np.isnan(values).any()))
    return _Panel(task.name, overlay(shown, small, task), _Legend(_share_entries(task, values), shown.shape[1]))


def _share_entries(task, classes):
    """Returns the entries of a legend: the classes that are there and their shares of all pixels, the largest first."""
    counts = _counts(classes)
    counts[VOID] = 0
    shares = counts / classes.size
    order = [place for place in np.argsort(-counts, kind="stable") if counts[place]]
    colours = colours_of(task) / 255
    listed, others = order[:LONGEST_LEGEND], order[LONGEST_LEGEND:]
    entries = [(tuple(colours[place]), f"{_class_label(task, place)}  {_percent(shares[place])}") for place in listed]
    if others:
        entries.append((None, f"{len(others)} more  {_percent(shares[others].sum())}"))
    return entries


# The contact sheet


@dataclasses.dataclass(frozen=True)
class _Block:
    """The cells of a photograph: its own, and two for every dense task.

    Attributes:
        heights: of every photograph, as it is drawn.
        cell: width of a cell, which is that of the widest photograph.
        lefts: where each cell begins.
    """

    heights: tuple[int, ...]
    cell: int
    lefts: tuple[int, ...]

    @classmethod
    def of(cls, photographs, tasks):
        """Returns the block into which every one of the photographs fits."""
        sizes = [_shown_size(*photograph.shape[:2], LONGEST_CELL_SIDE) for photograph in photographs]
        cell = max(NARROWEST_CELL, *(columns for _, columns in sizes))
        lefts = [0]
        for _ in range(sum(task.is_dense for task in tasks)):
            true = lefts[-1] + cell + TASK_GAP
            lefts += [true, true + cell + CELL_GAP]
        return cls(tuple(rows for rows, _ in sizes), cell, tuple(lefts))

    @property
    def width(self):
        """Of all cells together."""
        return self.lefts[-1] + self.cell

    def columns_within(self, width):
        """Returns how many blocks fit beside each other."""
        return (width - 2 * MARGIN + PANEL_GAP) // (self.width + PANEL_GAP)


def _sheet_figure(photographs, truths, predictions, tasks, title, columns, block):
    """Returns the figure: a block a photograph, and what all colours mean below."""
    count, dense = len(photographs), [task for task in tasks if task.is_dense]
    columns = columns or max(1, min(count, block.columns_within(USUAL_SHEET)))
    content = columns * block.width + PANEL_GAP * (columns - 1)
    captions = list(map(_captions, truths, predictions, itertools.repeat(tasks), itertools.repeat(block.cell)))
    rows = [range(first, min(first + columns, count)) for first in range(0, count, columns)]
    image_heights = [max(block.heights[place] for place in row) for row in rows]
    row_heights = [
        height + 2 + LINE * max(len(captions[place]) for place in row)
        for row, height in zip(rows, image_heights, strict=True)
    ]
    row_gap = TASK_GAP if any(captions) else CELL_GAP

    pairs = {task.name: list(map(_shown_pair, itertools.repeat(task), truths, predictions)) for task in dense}
    limits = {
        task.name: _limits([array for pair in pairs[task.name] for array in pair if array is not None])
        for task in dense
        if task.kind == "regression"
    }
    keys = [_sheet_key(task, pairs[task.name], limits.get(task.name), content) for task in dense]
    title = one_line(title, LONGEST_TITLE)
    widest = max(content, *(key.width for key in keys), 0)
    width = 2 * MARGIN + max(widest, _text_width([title], TITLE_SIZE, "bold"))
    height = 2 * MARGIN + (TITLE_HEIGHT if title else 0) + (2 * LINE + 4 if dense else 0)
    height += sum(row_heights) + row_gap * (len(rows) - 1) + sum(TASK_GAP + LINE + 2 + key.height for key in keys)

    page = _Page(width, height)
    top, left = page.write_title(title), (width - content) // 2
    lefts = [left + column * (block.width + PANEL_GAP) for column in range(columns)]
    if dense:
        for x in lefts:
            _write_headings(page, x, top, block, dense)
        top += 2 * LINE + 4
    for row, image_height, row_height in zip(rows, image_heights, row_heights, strict=True):
        for place, x in zip(row, lefts, strict=False):
            shown = _shown_photograph(photographs[place], LONGEST_CELL_SIDE)
            cells = [("photograph", shown, "")]
            for task in dense:
                cells += _dense_cells(task, *pairs[task.name][place], shown, limits.get(task.name))
            for (name, pixels, text), cell_left in zip(cells, block.lefts, strict=True):
                # In the middle of its cell, into which larger photographs fit.
                across, down = (block.cell - pixels.shape[1]) // 2, (image_height - len(pixels)) // 2
                page.paste(x + cell_left + across, top + down, pixels, f"{name} {place}")
                if text:
                    page.write(x + cell_left + block.cell / 2, top + image_height / 2, text, ha="center")
            for line, (text, color) in enumerate(captions[place]):
                middle = top + image_height + 2 + LINE * (line + 0.5)
                page.write(x + block.cell / 2, middle, text, color=color, ha="center")
        top += row_height + row_gap
    top -= row_gap
    left = (width - widest) // 2
    for task, key in zip(dense, keys, strict=True):
        top += TASK_GAP
        page.write(left, top + LINE / 2, _shortened(task.name, widest, "bold"), weight="bold")
        key.draw(page, left, top + LINE + 2, min(content, LONGEST_SIDE))
        top += LINE + 2 + key.height
    return page.figure


def _captions(truth, prediction, tasks, width):
    """Returns the lines under a photograph and their colours: what was predicted and, where it is wrong, the truth."""
    classifications = [task for task in tasks if not task.is_dense]
    lines = []
    for task in classifications:
        values, true = prediction[task.name], truth.get(task.name)
        predicted = int(values if values.ndim == 0 else values.argmax())
        text = _class_label(task, predicted)
        if len(classifications) > 1:
            text = f"{task.name}: {text}"
        color = TEXT if true is None else RIGHT if predicted == true else WRONG
        lines.append((_shortened(text, width), color))
        if true is None:
            lines.append(("(no truth)", color))
        elif predicted != true:
            lines.append((_shortened(f"(is {_class_label(task, true)})", width), color))
    return lines


def _shown_pair(task, truth, prediction):
    """Returns the truth of a dense task, or `None`, and what is shown of the prediction."""
    truth, prediction = truth.get(task.name), prediction[task.name]
    if task.kind == "segmentation" and truth is not None:
        # As metrics have it: it does not count.
        prediction = np.where(truth == VOID, np.uint8(VOID), prediction)
    return truth, prediction


def _dense_cells(task, truth, prediction, shown, limits):
    """Returns names, pixels and texts of the two cells of a dense task."""
    size = shown.shape[:2]

    def pixels(values):
        small = _nearest(values, size)
        return overlay(shown, small, task) if task.kind == "segmentation" else _number_pixels(small, limits or (0, 1))

    predicted = (f"{task.name}: predicted", pixels(prediction), "")
    if truth is None:
        return [(f"{task.name}: truth", np.full_like(shown, FAINT_LEVEL), "no truth"), predicted]
    true = pixels(truth)
    if task.kind == "segmentation":
        true[_nearest(truth, size) == VOID] = 0
    return [(f"{task.name}: truth", true, ""), predicted]


def _sheet_key(task, pairs, limits, width):
    """Returns what the colours of a dense task mean all over the sheet."""
    arrays = [array for pair in pairs for array in pair if array is not None]
    if task.kind == "regression":
        return _Scale(task, limits, any(np.isnan(array).any() for array in arrays))
    places = np.flatnonzero(sum(_counts(array) for array in arrays)[:VOID])
    colours = colours_of(task) / 255
    entries = [(tuple(colours[place]), _class_label(task, place)) for place in places[:LONGEST_LEGEND]]
    if len(places) > LONGEST_LEGEND:
        entries.append((None, f"{len(places) - LONGEST_LEGEND} more"))
    if any(truth is not None and (truth == VOID).any() for truth, _ in pairs):
        entries.append(("black", "no truth"))
    return _Legend(entries, width)


def _write_headings(page, left, top, block, dense):
    """Writes the names of the dense tasks, each above its two cells, and what these are."""
    middles = [left + cell_left + block.cell / 2 for cell_left in block.lefts]
    page.write(middles[0], top + 1.5 * LINE, "photograph", ha="center")
    for place, task in enumerate(dense):
        true, predicted = middles[1 + 2 * place : 3 + 2 * place]
        name = _shortened(task.name, 2 * block.cell + CELL_GAP, "bold")
        page.write((true + predicted) / 2, top + LINE / 2, name, weight="bold", ha="center")
        page.write(true, top + 1.5 * LINE, "truth", ha="center")
        page.write(predicted, top + 1.5 * LINE, "predicted", ha="center")
