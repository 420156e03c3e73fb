"""Pictures of predictions: every pixel, name and number that was predicted is in them, whole or not at all."""

import doctest
import io
import itertools
import math
import struct
import subprocess
import sys
import warnings

import matplotlib
import matplotlib.image
import matplotlib.style
import matplotlib.text
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from auxzoo import pictures
from auxzoo.errors import UserError
from auxzoo.metrics import VOID
from auxzoo.pictures import colours_of, draw_contact_sheet, draw_prediction, overlay
from auxzoo.tasks import Task

PROPERTY = settings(derandomize=True, deadline=None, max_examples=60)
NAN, INFINITY = float("nan"), float("inf")
ROWS, COLUMNS = 20, 30
PET = Task("pet", "classification", ("cat", "dog", "hen $1", "cow", "pig", "goat"))
SURFACE = Task("surface", "segmentation", ("ocean", "land", "ice"), colours=((0, 0, 200), (0, 100, 0), (250, 250, 250)))
HEIGHT = Task("height", "regression", unit="m", scale=1000.0)
PLAIN = Task("plain", "segmentation")
TASKS = (PET, SURFACE, HEIGHT)


def photograph_of(rows=ROWS, columns=COLUMNS, seed=0):
    """Returns a random photograph."""
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), dtype=np.uint8)


def classes_of(rows=ROWS, columns=COLUMNS):
    """Returns a mask: three quarters ocean above, the last quarter land, no ice."""
    classes = np.zeros((rows, columns), np.int64)
    classes[rows * 3 // 4 :] = 1
    return classes


def heights_of(rows=ROWS, columns=COLUMNS):
    """Returns heights from -500 to 1500 m."""
    return np.linspace(-500, 1500, rows * columns).reshape(rows, columns)


PHOTOGRAPH = photograph_of()
PREDICTIONS = {"pet": [0.0, 3.0, 1.0, 0.5, 2.0, -4.0], "surface": classes_of(), "height": heights_of()}
TRUTHS = {"pet": 1, "surface": classes_of(), "height": heights_of()}
DRAWINGS = {
    "prediction": lambda path, **others: draw_prediction(path, PHOTOGRAPH, PREDICTIONS, TASKS, **others),
    "sheet": lambda path, **others: draw_contact_sheet(
        path, [PHOTOGRAPH] * 2, [TRUTHS, {}], [PREDICTIONS] * 2, TASKS, **others
    ),
}


def drawn_figure(function, *arguments, **others):
    """Returns the figure that the function would have saved; a warning is an error."""
    figures = []
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("error")
        patch.setattr("auxzoo.pictures.save_figure", lambda figure, path, resolution: figures.append(figure))
        function("picture.png", *arguments, **others)
        figures[0].canvas.draw()
    return figures[0]


def texts(figure):
    """Returns every text that stands at a place of its own: all but the numbers of colour bars."""
    return [text.get_text() for text in figure.axes[0].texts]


def images(figure):
    """Returns what was pasted, by name."""
    named = {image.get_gid(): np.asarray(image.get_array()) for image in figure.images}
    assert len(named) == len(figure.images)
    return named


def boxes(figure, kind):
    """Returns the patches whose name begins so, by the rest of their name, in the order in which they were drawn."""
    start = f"{kind}: "
    patches = [patch for patch in figure.axes[0].patches if (patch.get_gid() or "").startswith(start)]
    return {patch.get_gid().removeprefix(start): patch for patch in patches}


def scale_of(figure):
    """Returns the axes of the one colour bar."""
    (axes,) = (axes for axes in figure.axes if axes.get_gid() == "scale")
    return axes


def shown_ticks(axes):
    """Returns the numbers of a colour bar that are drawn; matplotlib keeps some beyond its ends."""
    low, high = axes.get_xlim()
    return [
        label for place, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True) if low <= place <= high
    ]


def text_boxes(figure):
    """Returns every text with its box in pixels, those of colour bars too."""
    renderer = figure.canvas.get_renderer()
    written = list(figure.axes[0].texts)
    written += [label for axes in figure.axes[1:] for label in shown_ticks(axes)]
    return [(text.get_text(), text.get_window_extent(renderer)) for text in written]


def check_texts_keep_apart(figure):
    """Asserts that no text is on another, on an image, or runs out of the picture."""
    width, height = figure.canvas.get_width_height()
    written = text_boxes(figure)
    for (one, first), (other, second) in itertools.combinations(written, 2):
        assert not first.overlaps(second), (one, other)
    for text, box in written:
        assert 0 <= box.x0 < box.x1 <= width, text
        assert 0 <= box.y0 < box.y1 <= height, text
        for image in figure.images:
            rows, columns = image.get_array().shape[:2]
            is_beside = (
                box.x1 <= image.ox
                or image.ox + columns <= box.x0
                or box.y1 <= image.oy
                or image.oy + rows <= box.y0 + 2  # a box has room for letters that go below the line
            )
            assert is_beside or text == "no truth", text


def enlarged(array, factor):
    """Returns every pixel as a square of pixels."""
    return np.repeat(np.repeat(array, factor, axis=0), factor, axis=1)


def test_examples_of_the_docstrings_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tested = doctest.testmod(pictures)
    assert tested.attempted >= 9
    assert tested.failed == 0


class TestColours:
    def test_a_task_has_its_own(self):
        colours = colours_of(SURFACE)
        assert colours.dtype == np.uint8
        assert colours.tolist() == [[0, 0, 200], [0, 100, 0], [250, 250, 250]]
        unnamed = Task("surface", "segmentation", colours=((1, 2, 3), (0, 0, 0)))
        assert colours_of(unnamed).tolist() == [[1, 2, 3], [0, 0, 0]]

    def test_distances_are_those_of_cielab(self):
        """White, red, green and blue of sRGB, as colour tables have them."""
        colours = np.array([[255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]])
        expected = [[100, 0, 0], [53.24, 80.09, 67.2], [87.73, -86.18, 83.18], [32.3, 79.19, -107.86], [0, 0, 0]]
        np.testing.assert_allclose(pictures._lab(colours), expected, atol=0.05)

    def test_those_of_the_palette_are_told_apart(self):
        palette = colours_of(PLAIN)
        assert palette.shape == (VOID, 3)
        places = pictures._lab(np.array([(0, 0, 0), *palette[:30]]))
        assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(places, 2)) > 25
        assert len({(0, 0, 0), *map(tuple, palette.tolist())}) == VOID + 1
        # None is a grey: it would look as if nothing was drawn.
        assert np.ptp(palette.astype(int), axis=1).min() > 50

    def test_a_class_has_the_same_colour_however_many_there_are(self):
        for count in (1, 2, 30, 255):
            task = Task("surface", "segmentation", tuple(f"label {place}" for place in range(count)))
            np.testing.assert_array_equal(colours_of(task), colours_of(PLAIN)[:count])

    def test_what_is_returned_may_be_changed(self):
        before = colours_of(PLAIN).tolist()
        colours_of(PLAIN)[:] = 0
        assert colours_of(PLAIN).tolist() == before

    @pytest.mark.parametrize(
        ("task", "message"),
        [
            (PET, "`task` must be a Task that is a segmentation. Received: 'pet', a classification"),
            (HEIGHT, "`task` must be a Task that is a segmentation. Received: 'height', a regression"),
            ("surface", "`task` must be a Task that is a segmentation. Received: 'surface'"),
        ],
    )
    def test_another_task_is_told(self, task, message):
        with pytest.raises(UserError, match=message):
            colours_of(task)


@st.composite
def draw_overlays(draw):
    """Draws a photograph, a mask with void pixels, and a task, with colours of its own or without."""
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    generator = np.random.default_rng(draw(st.integers(0, 1000)))
    count = draw(st.integers(1, 40))
    classes = generator.integers(0, count, shape)
    classes[generator.random(shape) < draw(st.sampled_from((0, 0.3, 1)))] = VOID
    classes = classes.astype(draw(st.sampled_from((np.uint8, np.int16, np.int64))))
    colours = generator.integers(0, 256, (count, 3)).tolist() if draw(st.booleans()) else ()
    task = Task("surface", "segmentation", tuple(map(str, range(count))), tuple(map(tuple, colours)))
    return generator.integers(0, 256, (*shape, 3), dtype=np.uint8), classes, task


class TestOverlay:
    @PROPERTY
    @given(drawn=draw_overlays())
    def test_void_pixels_stay_and_others_come_nearer_to_their_colour(self, drawn):
        photograph, classes, task = drawn
        before = photograph.copy()
        result = overlay(photograph, classes, task)
        assert result.dtype == np.uint8
        assert result.shape == photograph.shape
        np.testing.assert_array_equal(photograph, before)
        is_void = classes == VOID
        np.testing.assert_array_equal(result[is_void], photograph[is_void])
        wanted = colours_of(task)[classes[~is_void]].astype(float)
        blended = (1 - pictures.OPACITY) * photograph[~is_void] + pictures.OPACITY * wanted
        assert (np.abs(result[~is_void] - blended) <= 0.501).all()


class TestSizes:
    @PROPERTY
    @given(rows=st.integers(1, 1200), columns=st.integers(1, 1200), longest=st.sampled_from((208, 512)))
    def test_every_size_is_drawn_as_large_as_can_be(self, rows, columns, longest):
        height, width = pictures._shown_size(rows, columns, longest)
        assert longest / 2 < max(height, width) <= longest
        if max(rows, columns) <= longest:
            assert height / rows == width / columns == height // rows
        else:
            assert abs(height - rows * longest / max(rows, columns)) < 1
            assert abs(width - columns * longest / max(rows, columns)) < 1

    @PROPERTY
    @given(rows=st.integers(1, 700), columns=st.integers(1, 700), seed=st.integers(0, 9))
    def test_a_photograph_is_averaged(self, rows, columns, seed):
        size = pictures._shown_size(rows, columns, 208)
        photograph = np.broadcast_to((np.arange(columns)[:, None] + 0.5) * 255 / columns, (rows, columns, 3))
        shown = pictures._shown_photograph(photograph.astype(np.uint8), 208)
        assert shown.shape == (*size, 3)
        assert shown.dtype == np.uint8
        # From dark on the left to bright on the right as before, and noise becomes less.
        steps = (np.arange(size[1]) + 0.5) * 255 / size[1]
        assert np.abs(shown[0, :, 0] - steps).max() <= 255 / min(columns, size[1]) + 2
        noise = photograph_of(rows, columns, seed)
        assert pictures._shown_photograph(noise, 208).std() <= noise.std() + 1

    def test_means_are_exact(self):
        photograph = np.zeros((1024, 512, 3), np.uint8)
        photograph[::2, ::2] = (200, 100, 0)
        assert (pictures._shown_photograph(photograph, 512) == (50, 25, 0)).all()

    @PROPERTY
    @given(rows=st.integers(1, 700), columns=st.integers(1, 700))
    def test_classes_are_never_mixed(self, rows, columns):
        size = pictures._shown_size(rows, columns, 208)
        classes = np.arange(rows * columns).reshape(rows, columns)
        shown = pictures._nearest(classes, size)
        assert shown.shape == size
        rows_taken, columns_taken = shown[:, 0] // columns, shown[0] % columns
        np.testing.assert_array_equal(shown, rows_taken[:, None] * columns + columns_taken)
        # Each is what lies under the middle of the pixel that is drawn.
        for taken, old, new in ((rows_taken, rows, size[0]), (columns_taken, columns, size[1])):
            middles = (np.arange(new) + 0.5) * old / new
            assert ((taken <= middles + 1e-9) & (middles < taken + 1 + 1e-9)).all()


class TestBoth:
    @pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
    @pytest.mark.parametrize("title", ["", "A title with $ and < in it"])
    def test_a_png_is_made(self, draw, title, tmp_path):
        path = tmp_path / "new folder" / "picture.png"
        assert draw(path, title=title) == path
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        columns, rows = struct.unpack(">II", content[16:24])
        assert 900 < columns < 2200
        assert 300 < rows < 900
        pixels = matplotlib.image.imread(path)[:, :, :3]
        border = [pixels[:10].ravel(), pixels[-10:].ravel(), pixels[:, :10].ravel(), pixels[:, -10:].ravel()]
        assert (np.concatenate(border) == 1).all()  # nothing runs out of the picture
        assert list(path.parent.iterdir()) == [path]

    @pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
    def test_the_same_twice_whatever_the_settings_of_the_caller(self, draw, tmp_path):
        draw(tmp_path / "one.png", title="A title")
        styles = ["dark_background", {"savefig.bbox": "tight", "font.size": 20, "figure.dpi": 50}]
        with matplotlib.style.context(styles):
            before = dict(matplotlib.rcParams)
            draw(str(tmp_path / "two.PNG"), title="A title")
            assert dict(matplotlib.rcParams) == before
        assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.PNG").read_bytes()

    @pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
    def test_what_is_pasted_is_in_the_file_pixel_by_pixel(self, draw, tmp_path):
        """Of an odd width, which inches may round."""
        title = "A title that is so long that it makes the picture wider, and then somewhat wider, and wider" * 2
        figure = drawn_figure(draw, title=title)
        draw(tmp_path / "picture.png", title=title)
        pixels = np.rint(255 * matplotlib.image.imread(tmp_path / "picture.png")[::-1, :, :3])
        assert (len(pixels[0]), len(pixels)) == figure.canvas.get_width_height()
        written_on = 0
        for image in figure.images:
            array = np.asarray(image.get_array())[::-1]
            found = pixels[int(image.oy) :, int(image.ox) :][: array.shape[0], : array.shape[1]]
            if "truth 1" in image.get_gid():  # on it stands that there is none
                written_on += (found != array).any()
                found = np.where(found == array, found, array)
            np.testing.assert_array_equal(found, array)
        assert len(figure.images) >= 3
        assert written_on == texts(figure).count("no truth")

    @pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
    def test_an_error_leaves_the_old_picture_and_nothing_else(self, draw, tmp_path, monkeypatch):
        def fail(figure, path, **others):
            path.write_text("half")
            raise KeyboardInterrupt

        path = tmp_path / "picture.png"
        path.write_text("old")
        monkeypatch.setattr(Figure, "savefig", fail)
        with pytest.raises(KeyboardInterrupt):
            draw(path)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
    @pytest.mark.parametrize("path", ["picture.svg", "picture", ".png", "", None, io.BytesIO()])
    def test_another_suffix_is_told(self, draw, path, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UserError, match=r"`path` must end in .png. Received: path="):
            draw(path)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
    def test_a_path_that_cannot_be_written_is_told(self, draw, tmp_path):
        (tmp_path / "folder.png").mkdir()
        (tmp_path / "file").write_text("")
        for path in (tmp_path / "folder.png", tmp_path / "file" / "picture.png"):
            with pytest.raises(UserError, match=rf"`path` cannot be written: .+ Received: path='{path}'"):
                draw(path)
        assert sorted(found.name for found in tmp_path.iterdir()) == ["file", "folder.png"]

    def test_more_than_a_picture_holds_is_told(self, tmp_path):
        tasks = [Task(f"task{place}", "regression") for place in range(80)]
        predictions = {task.name: heights_of() for task in tasks}
        with pytest.raises(UserError, match="`tasks` and their classes must fit into a picture of 40000 pixels"):
            draw_prediction(tmp_path / "picture.png", PHOTOGRAPH, predictions, tasks)
        assert list(tmp_path.iterdir()) == []

    def test_neither_tensorflow_nor_pyplot_is_loaded(self, tmp_path):
        program = (
            "import sys\n"
            "import numpy as np\n"
            "from auxzoo import pictures\n"
            "print(*{'matplotlib', 'keras', 'tensorflow'} & set(sys.modules))\n"
            "task = pictures.Task('height', 'regression')\n"
            "pictures.draw_prediction('height.png', np.zeros((9, 9, 3), np.uint8), {'height': np.eye(9)}, [task])\n"
            "print(*{'matplotlib.pyplot', 'keras', 'tensorflow'} & set(sys.modules))\n"
        )
        child = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
        assert child.returncode == 0, child.stderr
        assert child.stdout == "\n\n"
        assert (tmp_path / "height.png").exists()


class TestPrediction:
    def test_a_panel_for_every_task_side_by_side(self):
        figure = drawn_figure(draw_prediction, PHOTOGRAPH, PREDICTIONS, TASKS, title="A title")
        headings = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
        names = ["photograph", "pet", "surface", "height"]
        across = [headings[name][0] for name in names]
        assert across == sorted(across)
        assert len({headings[name][1] for name in names}) == 1
        assert headings["A title"][1] < headings["photograph"][1]
        assert list(images(figure)) == ["photograph", "surface", "height"]
        top = figure.canvas.get_width_height()[1] - headings["photograph"][1] - pictures.LINE / 2 - 4
        assert {image.oy + len(image.get_array()) for image in figure.images} == {top}
        assert not any(text.get_parse_math() for text in figure.axes[0].texts)  # a label may hold a dollar sign
        np.testing.assert_array_equal(images(figure)["photograph"], enlarged(PHOTOGRAPH, 512 // COLUMNS))

    def test_the_five_highest_classes(self):
        figure = drawn_figure(draw_prediction, PHOTOGRAPH, PREDICTIONS, TASKS)
        bars = boxes(figure, "bar")
        assert list(bars) == ["dog", "pig", "hen $1", "cow", "cat"]
        logits = np.array(PREDICTIONS["pet"])
        shares = {
            label: math.exp(logit) / np.exp(logits).sum() for label, logit in zip(PET.labels, logits, strict=True)
        }
        longest = max(patch.get_width() for patch in figure.axes[0].patches)
        for label, bar in bars.items():
            assert bar.get_width() / longest == pytest.approx(shares[label])
            assert f"{100 * shares[label]:.1f} %" in texts(figure)
            assert label in texts(figure)
        assert "goat" not in texts(figure)

    def test_fewer_classes_and_none_with_a_name(self):
        for logits, expected in (
            ([7], {"class 0": "100.0 %"}),
            ([0, -1e4], {"class 0": "100.0 %", "class 1": "0.0 %"}),
        ):
            figure = drawn_figure(draw_prediction, PHOTOGRAPH, {"pet": logits}, [Task("pet", "classification")])
            assert list(boxes(figure, "bar")) == list(expected)
            assert texts(figure)[2:] == [text for pair in expected.items() for text in pair]

    @pytest.mark.parametrize(
        ("share", "expected"),
        [
            *((0, "0.0 %"), (1e-9, "< 0.1 %"), (0.0009, "< 0.1 %"), (0.001, "0.1 %"), (0.12345, "12.3 %")),
            *((0.999, "99.9 %"), (0.99999, "> 99.9 %"), (1, "100.0 %")),
        ],
    )
    def test_shares_never_say_none_or_all_of_what_is_not_so(self, share, expected):
        assert pictures._percent(share) == expected

    def test_large_logits_and_equal_ones(self):
        task = Task("pet", "classification", ("one", "two", "three"))
        figure = drawn_figure(draw_prediction, PHOTOGRAPH, {"pet": np.float32([3e38, -3e38, 3e38])}, [task])
        assert texts(figure)[2:] == ["one", "50.0 %", "three", "50.0 %", "two", "0.0 %"]

    def test_the_overlay_and_its_legend(self):
        figure = drawn_figure(draw_prediction, PHOTOGRAPH, PREDICTIONS, TASKS)
        factor = 512 // COLUMNS
        expected = enlarged(overlay(PHOTOGRAPH, classes_of(), SURFACE), factor)
        np.testing.assert_array_equal(images(figure)["surface"], expected)
        swatches = {text: to_hex(patch.get_facecolor()) for text, patch in boxes(figure, "swatch").items()}
        assert swatches == {"ocean  75.0 %": "#0000c8", "land  25.0 %": "#006400"}
        assert set(swatches) <= set(texts(figure))

    def test_void_pixels_are_in_no_class(self):
        classes = np.full((ROWS, COLUMNS), VOID)
        figure = drawn_figure(draw_prediction, PHOTOGRAPH, {"surface": classes}, [SURFACE])
        np.testing.assert_array_equal(images(figure)["surface"], images(figure)["photograph"])
        assert boxes(figure, "swatch") == {}
        classes[0] = 2
        figure = drawn_figure(draw_prediction, PHOTOGRAPH, {"surface": classes}, [SURFACE])
        assert list(boxes(figure, "swatch")) == ["ice  5.0 %"]

    @pytest.mark.parametrize(
        ("count", "others"), [(1, None), (30, None), (31, "1 more  0.1 %"), (255, "225 more  77.9 %")]
    )
    def test_the_most_frequent_classes_are_in_the_legend(self, count, others):
        """Class 0 has one pixel, and each class two more than the one before."""
        classes = np.repeat(np.arange(count), 1 + 2 * np.arange(count)).reshape(-1, 1)
        photograph = np.zeros((*classes.shape, 3), np.uint8)
        figure = drawn_figure(draw_prediction, photograph, {"plain": classes}, [PLAIN])
        shares = np.bincount(classes.ravel()) / classes.size
        order = np.argsort(-shares, kind="stable")
        swatches = boxes(figure, "swatch")
        assert list(swatches) == [f"class {place}  {pictures._percent(shares[place])}" for place in order[:30]]
        for place, patch in zip(order, swatches.values(), strict=False):
            np.testing.assert_allclose(np.array(patch.get_facecolor())[:3] * 255, colours_of(PLAIN)[place])
        assert [text for text in texts(figure) if "more" in text] == ([others] if others else [])
        check_texts_keep_apart(figure)
        assert max(figure.canvas.get_width_height()) < 1500

    def test_a_regression_in_colours_with_a_bar(self):
        heights = heights_of()
        heights[:2] = NAN
        figure = drawn_figure(draw_prediction, PHOTOGRAPH, {"height": heights}, [HEIGHT])
        low, high = heights[2, 0], heights[-1, -1]
        shown = images(figure)["height"][:: 512 // COLUMNS, :: 512 // COLUMNS]
        assert (shown[:2] == np.rint(255 * np.array(to_rgb(pictures.NO_NUMBER)))).all()
        expected = matplotlib.colormaps["viridis"]((heights[2:] - low) / (high - low), bytes=True)[..., :3]
        assert np.abs(shown[2:].astype(int) - expected).max() <= 2  # float32 may be a colour beside
        scale = scale_of(figure)
        assert scale.get_xlim() == pytest.approx((low, high))
        assert [label.get_text() for label in shown_ticks(scale)] == ["0", "500", "1000", "1500"]
        assert "in m; grey: no number" in texts(figure)

    def test_grey_is_explained_only_where_there_is_any(self):
        figure = drawn_figure(draw_prediction, PHOTOGRAPH, {"height": heights_of()}, [HEIGHT])
        assert texts(figure) == ["photograph", "height", "in m"]
        figure = drawn_figure(draw_prediction, PHOTOGRAPH, {"height": heights_of()}, [Task("height", "regression")])
        assert texts(figure) == ["photograph", "height"]

    def test_no_number_at_all(self):
        figure = drawn_figure(draw_prediction, PHOTOGRAPH, {"height": np.full((ROWS, COLUMNS), NAN)}, [HEIGHT])
        assert len(np.unique(images(figure)["height"].reshape(-1, 3), axis=0)) == 1
        assert texts(figure) == ["photograph", "height", "grey: no number"]
        assert [axes.get_gid() for axes in figure.axes] == [None]

    @pytest.mark.parametrize(
        ("low", "high"),
        [
            *((0, 0), (3, 3), (-7e8, -7e8), (1e6, 1e6 + 0.5), (1e-30, 2e-30)),
            *((-3e38, 3e38), (0, 1e-42), (-1e-3, 1234567), (0.1, 0.3), (99999, 100001)),
        ],
    )
    def test_any_range_has_numbers_at_its_bar(self, low, high):
        heights = np.linspace(low, high, ROWS * COLUMNS).reshape(ROWS, COLUMNS)
        figure = drawn_figure(draw_prediction, PHOTOGRAPH, {"height": heights}, [HEIGHT])
        scale = scale_of(figure)
        left, right = scale.get_xlim()
        assert left <= np.float32(low) <= np.float32(high) <= right
        assert left < right
        assert low != high or left + right == pytest.approx(2 * low)
        ticks = [label.get_text() for label in shown_ticks(scale)]
        assert len(ticks) >= 2
        assert len(set(ticks)) == len(ticks)
        check_texts_keep_apart(figure)

    @pytest.mark.parametrize(
        "shape",
        [(24, 24), (3000, 4000), (1, 1), (1, 700), (900, 2), (513, 512)],
        ids=lambda shape: "x".join(map(str, shape)),
    )
    def test_a_photograph_of_any_size(self, shape, tmp_path):
        classes = classes_of(*shape)
        predictions = {"pet": PREDICTIONS["pet"], "surface": classes, "height": heights_of(*shape)}
        photograph = np.zeros((*shape, 3), np.uint8)
        path = draw_prediction(tmp_path / "picture.png", photograph, predictions, TASKS)
        columns, rows = struct.unpack(">II", path.read_bytes()[16:24])
        assert 600 < columns < 2200
        assert 200 < rows < 800
        figure = drawn_figure(draw_prediction, photograph, predictions, TASKS)
        shown = images(figure)["surface"]
        assert max(shown.shape) <= 512
        assert set(map(tuple, np.unique(shown.reshape(-1, 3), axis=0))) <= {(0, 0, 110), (0, 55, 0)}
        check_texts_keep_apart(figure)

    def test_long_texts_are_shortened_and_keep_apart(self):
        labels = tuple(
            f"{place} a class with a name that is so long that nobody reads it to the end {place}"
            for place in range(30)
        )
        tasks = [
            Task("pet" + "_of_any_kind" * 9, "classification", labels),
            Task("surface" + "_of_any_kind" * 9, "segmentation", labels),
            Task("height" + "_of_any_kind" * 9, "regression", unit="metres above the sea " * 9),
        ]
        predictions = dict(
            zip(
                (task.name for task in tasks),
                (np.arange(30), np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) % 30, heights_of()),
                strict=True,
            )
        )
        figure = drawn_figure(draw_prediction, PHOTOGRAPH, predictions, tasks, title="two\nlines\x00 " * 40)
        check_texts_keep_apart(figure)
        assert max(figure.canvas.get_width_height()) < 3000
        assert len(boxes(figure, "swatch")) == 30
        assert all(text.startswith(f"{place} a class") for place, text in enumerate(boxes(figure, "swatch")))
        for start in ("pet_of", "surface_of", "height_of", "two lines  two lines", "in metres above"):
            assert sum(text.startswith(start) and "…" in text for text in texts(figure)) == 1


# What is wrong with a prediction, or with a truth; both functions tell it, with the name of the argument before it.
MISTAKES = [
    ("pet", [1.0, 2.0], r"of task 'pet' must be logits \[6\]. Received: float64 of shape \(2,\)"),
    ("pet", [[1.0] * 6], r"of task 'pet' must be logits \[6\]. Received: float64 of shape \(1, 6\)"),
    ("pet", 6, r"of task 'pet' must be a class, 0 to 5. Received: 6"),
    ("pet", -1, r"of task 'pet' must be a class, 0 to 5. Received: -1"),
    ("pet", 1.0, r"of task 'pet' must be logits \[6\]. Received: float64 of shape \(\)"),
    ("pet", ["1"] * 6, r"of task 'pet' must be logits \[6\]. Received: <U1"),
    ("pet", [True] * 6, r"of task 'pet' must be logits \[6\]. Received: bool"),
    ("pet", None, r"of task 'pet' must be logits \[6\]. Received: object"),
    ("pet", [1.0, NAN, 1, 1, 1, 1], "of task 'pet' must be finite logits. Received: nan"),
    ("pet", [1.0, INFINITY, 1, 1, 1, 1], "of task 'pet' must be finite logits. Received: inf"),
    ("surface", classes_of() * 1.0, r"of task 'surface' must be integers \[20, 30\].* Received: float64"),
    ("surface", classes_of().T, r"of task 'surface' must be integers \[20, 30\].* of shape \(30, 20\)"),
    ("surface", classes_of() + 2, "of task 'surface' must be 0 to 2, or 255 where there is none. Received: 3"),
    ("height", heights_of()[:-1], r"of task 'height' must be numbers \[20, 30\].* of shape \(19, 30\)"),
    ("height", heights_of()[..., None], r"of task 'height' must be numbers \[20, 30\].* of shape \(20, 30, 1\)"),
    ("height", heights_of() * 1j, r"of task 'height' must be numbers \[20, 30\].* Received: complex128"),
    ("height", heights_of() > 0, r"of task 'height' must be numbers \[20, 30\].* Received: bool"),
    ("height", heights_of() * INFINITY, "of task 'height' must be finite numbers of float32, or NaN .* infinity"),
    ("height", heights_of() * 1e39, "of task 'height' must be finite numbers of float32, or NaN .* infinity"),
]


@pytest.mark.parametrize(("name", "values", "message"), MISTAKES)
def test_a_wrong_prediction_is_told(name, values, message, tmp_path):
    wrong = PREDICTIONS | {name: values}
    with pytest.raises(UserError, match=f"^`predictions` {message}"):
        draw_prediction(tmp_path / "picture.png", PHOTOGRAPH, wrong, TASKS)
    with pytest.raises(UserError, match=rf"^`predictions\[1\]` {message}"):
        draw_contact_sheet(tmp_path / "picture.png", [PHOTOGRAPH] * 2, [{}, {}], [PREDICTIONS, wrong], TASKS)
    with pytest.raises(UserError, match=rf"^`truths\[0\]` {message}"):
        draw_contact_sheet(tmp_path / "picture.png", [PHOTOGRAPH] * 2, [{name: values}, {}], [PREDICTIONS] * 2, TASKS)
    assert list(tmp_path.iterdir()) == []


class TestContactSheet:
    def test_truth_beside_prediction_for_every_dense_task(self):
        figure = drawn_figure(
            draw_contact_sheet, [PHOTOGRAPH] * 2, [TRUTHS] * 2, [PREDICTIONS] * 2, TASKS, title="A title", columns=1
        )
        cells = ("photograph", "surface: truth", "surface: predicted", "height: truth", "height: predicted")
        assert list(images(figure)) == [f"{cell} {place}" for place in (0, 1) for cell in cells]
        places = {image.get_gid(): (image.ox, image.oy) for image in figure.images}
        for place in (0, 1):
            row = [places[f"{cell} {place}"] for cell in cells]
            assert [x for x, _ in row] == sorted({x for x, _ in row})
            assert len({y for _, y in row}) == 1
        assert places["photograph 0"][1] > places["photograph 1"][1]
        factor = 208 // COLUMNS
        np.testing.assert_array_equal(images(figure)["photograph 1"], enlarged(PHOTOGRAPH, factor))
        expected = enlarged(overlay(PHOTOGRAPH, classes_of(), SURFACE), factor)
        for cell in ("surface: truth 0", "surface: predicted 0"):
            np.testing.assert_array_equal(images(figure)[cell], expected)
        assert texts(figure).count("truth") == texts(figure).count("predicted") == 2
        assert {"A title", "photograph", "surface", "height", "in m"} <= set(texts(figure))

    def test_void_is_black_in_the_truth_and_left_out_of_the_prediction(self):
        truth = classes_of().astype(np.uint8)
        truth[:, :10] = VOID
        figure = drawn_figure(
            draw_contact_sheet, [PHOTOGRAPH], [{"surface": truth}], [{"surface": classes_of() + 1}], [SURFACE]
        )
        factor = 208 // COLUMNS
        true, predicted = (images(figure)[f"surface: {cell} 0"] for cell in ("truth", "predicted"))
        assert (true[:, : 10 * factor] == 0).all()
        np.testing.assert_array_equal(predicted[:, : 10 * factor], enlarged(PHOTOGRAPH[:, :10], factor))
        expected = enlarged(overlay(PHOTOGRAPH, classes_of(), SURFACE)[:, 10:], factor)
        np.testing.assert_array_equal(true[:, 10 * factor :], expected)
        swatches = {text: to_hex(patch.get_facecolor()) for text, patch in boxes(figure, "swatch").items()}
        assert swatches == {"ocean": "#0000c8", "land": "#006400", "ice": "#fafafa", "no truth": "#000000"}

    def test_one_legend_of_all_classes_that_are_in_the_sheet(self):
        masks = [np.full((ROWS, COLUMNS), place) for place in (4, 7, 2, 9)]
        figure = drawn_figure(
            draw_contact_sheet,
            [PHOTOGRAPH] * 2,
            [{"plain": masks[0]}, {"plain": masks[1]}],
            [{"plain": masks[2]}, {"plain": masks[3]}],
            [PLAIN],
        )
        assert list(boxes(figure, "swatch")) == ["class 2", "class 4", "class 7", "class 9"]
        many = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) % 100
        figure = drawn_figure(draw_contact_sheet, [PHOTOGRAPH], [{}], [{"plain": many}], [PLAIN])
        assert list(boxes(figure, "swatch")) == [f"class {place}" for place in range(30)]
        assert "70 more" in texts(figure)
        check_texts_keep_apart(figure)

    def test_one_colour_scale_for_all_numbers(self):
        levels = ((0.0, 50.0), (50.0, 100.0))
        full = [[np.full((ROWS, COLUMNS), level) for level in pair] for pair in levels]
        full[0][0][0, 0] = NAN
        figure = drawn_figure(
            draw_contact_sheet,
            [PHOTOGRAPH] * 2,
            [{"height": true} for true, _ in full],
            [{"height": predicted} for _, predicted in full],
            [HEIGHT],
        )
        shown = images(figure)
        viridis = matplotlib.colormaps["viridis"]
        for place, pair in enumerate(levels):
            for cell, level in zip(("truth", "predicted"), pair, strict=True):
                found = shown[f"height: {cell} {place}"][-1, -1]
                np.testing.assert_array_equal(found, viridis(level / 100, bytes=True)[:3])
        assert to_hex(shown["height: truth 0"][0, 0] / 255) == pictures.NO_NUMBER.lower()
        scale = scale_of(figure)
        assert scale.get_xlim() == (0, 100)
        assert "in m; grey: no number" in texts(figure)

    def test_what_has_no_truth_says_so(self):
        figure = drawn_figure(draw_contact_sheet, [PHOTOGRAPH] * 2, [{}, TRUTHS], [PREDICTIONS] * 2, TASKS)
        assert texts(figure).count("no truth") == 2
        for task in ("surface", "height"):
            assert len(np.unique(images(figure)[f"{task}: truth 0"])) == 1
            np.testing.assert_array_equal(
                images(figure)[f"{task}: predicted 0"], images(figure)[f"{task}: predicted 1"]
            )
        check_texts_keep_apart(figure)
        figure = drawn_figure(draw_contact_sheet, [PHOTOGRAPH], [TRUTHS], [PREDICTIONS], TASKS)
        assert "no truth" not in texts(figure)

    def test_no_number_in_the_whole_sheet(self):
        nothing = np.full((ROWS, COLUMNS), NAN)
        figure = drawn_figure(draw_contact_sheet, [PHOTOGRAPH], [{"height": nothing}], [{"height": nothing}], [HEIGHT])
        assert "grey: no number" in texts(figure)
        assert [axes.get_gid() for axes in figure.axes] == [None]

    @pytest.mark.parametrize(
        ("truth", "lines"),
        [
            ({"pet": 1}, {"dog": "darkgreen"}),
            ({"pet": np.uint8(1)}, {"dog": "darkgreen"}),
            ({"pet": 2}, {"dog": "firebrick", "(is hen $1)": "firebrick"}),
            ({}, {"dog": pictures.TEXT, "(no truth)": pictures.TEXT}),
        ],
    )
    def test_the_class_under_its_photograph(self, truth, lines):
        figure = drawn_figure(draw_contact_sheet, [PHOTOGRAPH], [truth], [{"pet": PREDICTIONS["pet"]}], [PET])
        assert {text.get_text(): text.get_color() for text in figure.axes[0].texts} == lines

    def test_several_classifications_are_named(self):
        owner = Task("owner", "classification")
        predictions = {"pet": PREDICTIONS["pet"], "owner": [1.0, 0.0]}
        figure = drawn_figure(draw_contact_sheet, [PHOTOGRAPH], [{"pet": 1, "owner": 1}], [predictions], [PET, owner])
        assert texts(figure) == ["pet: dog", "owner: class 0", "(is class 1)"]
        check_texts_keep_apart(figure)

    def test_photographs_of_different_sizes_stand_in_rows(self):
        shapes = [(24, 24), (300, 100), (1, 1), (100, 300), (5, 400)]
        photographs = [photograph_of(*shape) for shape in shapes]
        predictions = [
            {"pet": PREDICTIONS["pet"], "surface": classes_of(*shape), "height": heights_of(*shape)} for shape in shapes
        ]
        figure = drawn_figure(draw_contact_sheet, photographs, [{}] * 5, predictions, TASKS, columns=2)
        assert len(figure.images) == 25
        check_texts_keep_apart(figure)
        spots = []
        for image in figure.images:
            rows, columns = image.get_array().shape[:2]
            assert max(rows, columns) <= 208
            spots.append((image.ox, image.ox + columns, image.oy, image.oy + rows))
        for one, other in itertools.combinations(spots, 2):
            assert one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]
        middles = {image.get_gid(): image.oy + image.get_array().shape[0] // 2 for image in figure.images}
        assert abs(middles["photograph 0"] - middles["photograph 1"]) <= 1
        assert middles["photograph 1"] > middles["photograph 2"] > middles["photograph 4"]

    @pytest.mark.parametrize(("columns", "expected"), [(None, 7), (1, 1), (np.int64(3), 3), (20, 20)])
    def test_as_many_columns_as_are_told_or_fit(self, columns, expected):
        predictions = [{"pet": PREDICTIONS["pet"]}] * 20
        figure = drawn_figure(
            draw_contact_sheet, [PHOTOGRAPH] * 20, [{"pet": 1}] * 20, predictions, [PET], columns=columns
        )
        assert len({image.ox for image in figure.images}) == expected
        assert len({image.oy for image in figure.images}) == math.ceil(20 / expected)
        check_texts_keep_apart(figure)

    def test_long_texts_are_shortened_and_keep_apart(self):
        labels = tuple(
            f"{place} a class with a name that is so long that nobody reads it {place}" for place in range(30)
        )
        tasks = [
            Task("pet", "classification", labels),
            Task("surface" + "_of_any_kind" * 9, "segmentation", labels),
            Task("height" + "_of_any_kind" * 9, "regression", unit="metres above the sea " * 9),
        ]
        classes = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) % 30
        predictions = {"pet": np.arange(30), tasks[1].name: classes, tasks[2].name: heights_of()}
        truths = [{"pet": 3, tasks[1].name: classes}, {}]
        figure = drawn_figure(
            draw_contact_sheet, [PHOTOGRAPH] * 2, truths, [predictions] * 2, tasks, title="title " * 40
        )
        check_texts_keep_apart(figure)
        assert max(figure.canvas.get_width_height()) < 2500
        assert sum(text.startswith("29 a class") for text in texts(figure)) == 3  # two predictions, one legend
        assert sum(text.startswith("(is 3 a") for text in texts(figure)) == 1

    def test_a_legend_may_be_wider_than_all_photographs(self):
        tasks = [
            Task("surface", "segmentation", tuple(f"{place}" + "WM" * 24 for place in range(3))),
            Task("height", "regression", unit="WM" * 24),
        ]
        for task, values in zip(tasks, (classes_of(30, 4), heights_of(30, 4)), strict=True):
            values = {task.name: values}
            figure = drawn_figure(draw_contact_sheet, [photograph_of(30, 4)], [values], [values], [task])
            check_texts_keep_apart(figure)
            assert max(box.x1 - box.x0 for _, box in text_boxes(figure)) > 3 * 120  # of the cells
            assert max(box.x1 for _, box in text_boxes(figure)) < figure.canvas.get_width_height()[0] - 20
