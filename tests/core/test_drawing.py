"""Pictures: whole or not at all, every name and every link in them."""

import io
import itertools
import re
import struct
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ElementTree

import matplotlib
import matplotlib.image
import matplotlib.style
import matplotlib.text
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from auxzoo import Structure, UserError
from auxzoo.auxiliary import Node, drawing
from auxzoo.auxiliary.drawing import (
    LABEL_DISTANCE,
    _label_spots,
    draw_structure,
    parse_series,
    plot_gates,
    series_name,
)

TAPS = tuple((tap, f"layer_{tap}") for tap in ("stem", "stage1", "stage2", "stage3_with_a_name_of_thirty_c"))
NODES = (
    Node("first", ("stem", "stage2"), "convolution_3x3", 16),
    Node("second", (), "identity", 24),
    Node("third_node_with_a_very_long_name", ("stem", "stage2", TAPS[3][0]), "separable_5x5", 32),
)
STRUCTURE = Structure(taps=TAPS, nodes=NODES)
DEEP = Structure(taps=TAPS, nodes=(NODES[0], NODES[2]), supervision="deep")
HISTORY = {
    "link first <- stem": [0.8, 0.8, 0.3],
    "link first <- stage 1/add": [0.8, 0.8, 0.9],
    "link second <- stem": [0.8, 0.8, 1.0],
    "operation second identity": [0.5, 0.5, 0.0],
    "operation second convolution_3x3": [0.5, 0.5, 1.0],
}
PICTURES = {
    "structure": lambda path, **others: draw_structure(STRUCTURE, path, **others),
    "deep structure": lambda path, **others: draw_structure(DEEP, path, **others),
    "gates": lambda path, **others: plot_gates(HISTORY, path, **others),
}


def texts(path):
    """Returns every text of an SVG file."""
    return [element.text for element in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def names(path, pattern):
    """Returns the sorted `id` of every group of an SVG file that matches the pattern."""
    groups = ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}g")
    return sorted(group.get("id") for group in groups if re.fullmatch(pattern, group.get("id", "")))


def link_names(structure):
    """Returns the sorted names that the arrows of the links must have."""
    taps = [tap for tap, _ in structure.taps]
    return sorted(f"link-{index}-{taps.index(tap)}" for index, node in enumerate(structure.nodes) for tap in node.links)


class TestBoth:
    @pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
    @pytest.mark.parametrize("title", [None, "A title with $ and < in it"])
    def test_a_png_is_made(self, draw, title, tmp_path):
        path = tmp_path / "new folder" / "picture.png"
        assert draw(path, title=title) == path
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        columns, rows = struct.unpack(">II", content[16:24])
        assert columns > 500
        assert rows > 400
        pixels = matplotlib.image.imread(path)[:, :, :3]
        assert 0.02 < (pixels.min(axis=2) < 0.95).mean() < 0.6  # something is drawn, on a white ground
        border = np.concatenate(
            [pixels[:6].ravel(), pixels[-6:].ravel(), pixels[:, :6].ravel(), pixels[:, -6:].ravel()]
        )
        assert (border == 1).all()  # nothing runs out of the picture
        assert list(path.parent.iterdir()) == [path]

    @pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
    def test_an_svg_is_made_and_the_same_twice(self, draw, tmp_path):
        for name in ("one.svg", "two.SVG"):
            draw(str(tmp_path / name), title="A title with $ and < in it")
        assert "A title with $ and < in it" in texts(tmp_path / "one.svg")
        assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.SVG").read_bytes()

    @pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
    @pytest.mark.parametrize("suffix", [".png", ".svg"])
    def test_an_error_leaves_the_old_picture_and_nothing_else(self, draw, suffix, tmp_path, monkeypatch):
        def fail(figure, path, **others):
            path.write_text("half")
            raise KeyboardInterrupt

        path = tmp_path / f"picture{suffix}"
        path.write_text("old")
        monkeypatch.setattr(Figure, "savefig", fail)
        with pytest.raises(KeyboardInterrupt):
            draw(path)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
    @pytest.mark.parametrize("path", ["picture.pdf", "picture", ".png", "", None, io.BytesIO()])
    def test_another_suffix_is_told(self, draw, path, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(UserError, match=r"`path` must end in .png or .svg. Received: path="):
            draw(path)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
    def test_a_path_that_cannot_be_written_is_told(self, draw, tmp_path):
        (tmp_path / "folder.png").mkdir()
        (tmp_path / "file").write_text("")
        for path in (tmp_path / "folder.png", tmp_path / "file" / "picture.png"):
            with pytest.raises(UserError, match=rf"`path` cannot be written: .+ Received: path='{path}'"):
                draw(path)
        assert sorted(found.name for found in tmp_path.iterdir()) == ["file", "folder.png"]

    @pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
    @pytest.mark.parametrize("suffix", [".png", ".svg"])
    def test_settings_of_the_caller_neither_matter_nor_change(self, draw, suffix, tmp_path):
        draw(tmp_path / f"one{suffix}", title="A title")
        styles = ["dark_background", {"svg.fonttype": "path", "savefig.bbox": "tight", "font.size": 20}]
        with matplotlib.style.context(styles):
            before = dict(matplotlib.rcParams)
            draw(tmp_path / f"two{suffix}", title="A title")
            assert dict(matplotlib.rcParams) == before
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()

    def test_matplotlib_is_loaded_on_first_use_and_pyplot_never(self, tmp_path):
        """The module alone, in a process of its own: its room imports Keras, which imports pyplot."""
        program = (
            "import importlib.util, sys\n"
            "spec = importlib.util.spec_from_file_location('drawing', sys.argv[1])\n"
            "drawing = importlib.util.module_from_spec(spec)\n"
            "spec.loader.exec_module(drawing)\n"
            "print(*{'matplotlib', 'numpy', 'keras', 'tensorflow', 'auxzoo.auxiliary'} & set(sys.modules))\n"
            "drawing.plot_gates({'link a <- b': [0.5, 1]}, 'gates.png')\n"
            "print(*{'matplotlib.pyplot', 'keras', 'tensorflow', 'auxzoo.auxiliary'} & set(sys.modules))\n"
        )
        command = [sys.executable, "-c", program, drawing.__file__]
        child = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert child.returncode == 0, child.stderr
        assert child.stdout == "\n\n"
        assert (tmp_path / "gates.png").exists()


class TestStructure:
    @pytest.mark.parametrize("structure", [STRUCTURE, DEEP], ids=["hierarchical", "deep"])
    def test_everything_is_named_and_every_link_is_an_arrow(self, structure, tmp_path):
        found = texts(draw_structure(structure, tmp_path / "structure.svg"))
        for tap, _ in structure.taps:
            assert found.count(tap) == 1
        for node in structure.nodes:
            assert found.count(node.name) == 1
            assert f"{node.operation}, {node.channels} channels" in found
        assert "compact head (ships)" in found
        assert names(tmp_path / "structure.svg", r"link-.*") == link_names(structure)
        assert len(names(tmp_path / "structure.svg", r"tap-\d+")) == len(structure.taps)
        assert len(names(tmp_path / "structure.svg", r"node-\d+")) == len(structure.nodes)

    def test_a_deep_structure_has_a_head_for_every_node(self, tmp_path):
        for structure, count in ((STRUCTURE, 1), (DEEP, 2)):
            assert texts(draw_structure(structure, tmp_path / "a.svg")).count("auxiliary head (removed)") == count

    def test_unused_taps_are_explained_where_there_are_any(self, tmp_path):
        assert "tap that no link reads" in texts(draw_structure(STRUCTURE, tmp_path / "structure.svg"))
        used = Structure(taps=TAPS[:1], nodes=(Node("only", ("stem",), "identity", 8),))
        assert "tap that no link reads" not in texts(draw_structure(used, tmp_path / "structure.svg"))

    def test_boxes_and_texts_keep_apart(self, tmp_path):
        """Twenty taps, twelve nodes, names of thirty characters: no box on another, every text in its box."""
        taps = tuple((f"stage{index:02d}_block_expand_depthwise"[:30], "layer") for index in range(20))
        nodes = tuple(
            Node(
                f"node{index:02d}_with_a_name_that_is_long"[:30],
                tuple(tap for tap, _ in taps[(7 * index) % 12 :: 2][: 1 + index % 9]),
                "convolution_3x3",
                1280,
            )
            for index in range(12)
        )
        for supervision in ("hierarchical", "deep", "both"):
            structure = Structure(taps, nodes, supervision=supervision)
            title = "A title that is as wide as the picture, or even wider " * 2
            figure = drawn_figure(draw_structure, structure, "a.png", title)
            (axes,) = figure.axes
            renderer = figure.canvas.get_renderer()
            boxes = {
                patch.get_gid(): patch.get_window_extent(renderer)
                for patch in axes.patches
                if re.match("tap|node|compact|auxiliary", patch.get_gid() or "")
            }
            assert len(boxes) == 20 + 12 + 1 + (1 if supervision == "hierarchical" else 12)
            for one, other in itertools.combinations(boxes, 2):
                assert not boxes[one].overlaps(boxes[other]), (one, other)
            written = [text.get_window_extent(renderer) for text in axes.texts]
            for one, other in itertools.combinations(written, 2):
                assert not one.overlaps(other)
            inside = [
                sum(
                    box.x0 <= text.x0 and text.x1 <= box.x1 and box.y0 <= text.y0 and text.y1 <= box.y1
                    for text in written
                )
                for box in boxes.values()
            ]
            assert sorted(inside) == [1] * (len(boxes) - 12) + [2] * 12
            links = [patch for patch in axes.patches if (patch.get_gid() or "").startswith("link")]
            assert len(links) == sum(len(node.links) for node in nodes)
            for link in links:
                curve = link.get_path().get_extents(link.get_transform())
                assert not any(
                    curve.x0 < text.x1 and text.x0 < curve.x1 for text in written[3:]
                )  # but title and headings

    def test_odd_names_are_drawn(self, tmp_path):
        taps = ("a < b & $c$", "two\nlines\x00", "x" * 500)
        structure = Structure(tuple((tap, "layer") for tap in taps), (Node("ä", taps, "identity", 1),))
        found = texts(draw_structure(structure, tmp_path / "structure.svg"))
        assert {"a < b & $c$", "two lines ", "ä"} <= set(found)
        assert max(map(len, found)) < 60

    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_any_structure_is_drawn_whole(self, data, random_structures, tmp_path):
        taps = tuple((f"tap{index}", "layer") for index in range(data.draw(st.integers(1, 6))))
        structure = data.draw(random_structures(taps))
        found = texts(draw_structure(structure, tmp_path / "structure.svg"))
        assert {tap for tap, _ in taps} | {node.name for node in structure.nodes} <= set(found)
        assert names(tmp_path / "structure.svg", r"link-.*") == link_names(structure)


class TestGates:
    def test_everything_is_named(self, tmp_path):
        found = texts(plot_gates(HISTORY, tmp_path / "gates.svg"))
        assert {"stem 0.30", "stage 1/add 0.90", "stem 1.00", "identity 0.00", "convolution_3x3 1.00"} <= set(found)
        assert found.count("first") == found.count("second") == 2  # a panel of links, and one of operations
        assert found.count("nothing to choose") == 1
        assert names(tmp_path / "gates.svg", r".*-panel-\d") == [
            *("link-panel-0", "link-panel-1", "operation-panel-0", "operation-panel-1")
        ]

    @pytest.mark.parametrize("kind", ["link", "operation"])
    def test_one_kind_alone(self, kind, tmp_path):
        history = {name: values for name, values in HISTORY.items() if name.startswith(kind)}
        plot_gates(history, tmp_path / "gates.svg")
        panels = names(tmp_path / "gates.svg", r".*-panel-\d")
        assert panels
        assert all(panel.startswith(kind) for panel in panels)

    @pytest.mark.parametrize(("warm_up", "count"), [(0, 0), (1, 4), (1.5, 4), (100, 4)])
    def test_the_warm_up_is_shaded(self, warm_up, count, tmp_path):
        found = texts(plot_gates(HISTORY, tmp_path / "gates.svg", warm_up=warm_up))
        assert found.count("gates fixed") == count

    def test_the_lines_are_the_history(self):
        figure = drawn_figure(plot_gates, HISTORY, "a.png", warm_up=2)
        drawn = [list(line.get_ydata()) for axes in figure.axes for line in axes.lines]
        assert sorted(drawn) == sorted(HISTORY.values())
        assert all(list(line.get_xdata()) == [1, 2, 3] for axes in figure.axes for line in axes.lines)
        spans = [patch for axes in figure.axes for patch in axes.patches]
        assert {(patch.get_x(), patch.get_width()) for patch in spans} == {(0, 2)}

    @pytest.mark.parametrize("kind", ["link", "operation"])
    def test_names_are_understood_as_they_are_made(self, kind):
        assert parse_series(series_name(kind, "a", "b <- operation c")) == (kind, "a", "b <- operation c")
        assert parse_series(f"{kind}_loss") is None

    def test_one_epoch(self, tmp_path):
        history = {"link a <- b": [0.5], "link a <- c": [1.0]}
        assert "b 0.50" in texts(plot_gates(history, tmp_path / "gates.svg"))

    def test_texts_keep_apart(self):
        """Eight nodes, nine links and seven operations each, names of thirty characters."""
        generator = np.random.default_rng(0)
        series = {
            **{f"link node{node} <- tap{tap}{'x' * 26}": 0 for node in range(8) for tap in range(9)},
            **{f"operation node{node} operation{index}": 0 for node in range(8) for index in range(7)},
        }
        history = {name: list(generator.choice([0, 0.02, 0.5, 0.51, 1], 10)) for name in series}
        figure = drawn_figure(plot_gates, history, "a.png", title="A title", warm_up=1)
        renderer = figure.canvas.get_renderer()
        width, height = figure.canvas.get_width_height()
        written = [
            (text.get_text(), matplotlib.text.Text.get_window_extent(text, renderer))  # without the line of a label
            for artist in (figure, *figure.axes)
            for text in artist.texts
        ]
        for axes in figure.axes:
            parts = [axes._left_title, axes.xaxis.label, *axes.get_xticklabels(), *axes.get_yticklabels()]
            written += [(part.get_text(), part.get_window_extent(renderer)) for part in parts if part.get_text()]
        assert len(written) > 8 * (9 + 7) + 16
        for (one, first), (other, second) in itertools.combinations(written, 2):
            assert not first.overlaps(second), (one, other)
        for text, box in written:
            assert 0 <= box.x0 < box.x1 <= width, text
            assert 0 <= box.y0 < box.y1 <= height, text

    @settings(max_examples=50, deadline=None)
    @given(values=st.lists(st.floats(0, 1), max_size=12))
    def test_labels_stand_in_the_order_of_their_values(self, values):
        spots = _label_spots(values, LABEL_DISTANCE / 2)
        ordered = [spots[index] for index in sorted(range(len(values)), key=lambda index: (values[index], -index))]
        assert all(after - before >= LABEL_DISTANCE / 2 - 1e-9 for before, after in itertools.pairwise(ordered))
        if values:
            assert ordered[0] > -1e-9
            assert ordered[-1] < 1 + 1e-9


def drawn_figure(function, *arguments, **others):
    """Returns the figure that the function would have saved; a warning is an error."""
    figures = []
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("error")
        patch.setattr("auxzoo.auxiliary.drawing.save_figure", lambda figure, path, resolution: figures.append(figure))
        function(*arguments, **others)
        figures[0].canvas.draw()
    return figures[0]
