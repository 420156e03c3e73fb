"""The page about an export: what it shows is what the records say, and it needs nothing else."""

import html.parser
import re

import numpy as np
import PIL.Image
import pytest

import auxzoo
from auxzoo.report import write_report


def record_of(form="tflite_float32", **changes):
    """Returns a record as `export_files` writes it."""
    return {
        "file": f"net_{form}.tflite",
        "format": form,
        "sha256": "0123456789abcdef" * 4,
        "bytes": 2_801_000,
        "made": "2026-11-25T16:30:22+00:00",
        "tools": {"auxzoo": "0.1.0", "keras": "3.15.1"},
        "processor": "A Processor",
        "calibration": None,
        "input": {"name": "image", "shape": [1, 32, 32, 3], "type": "float32"},
        "output": {"name": "logits", "shape": [1, 10], "type": "float32"},
        "operators": {"CONV_2D": 35},
        "parity": {"source": "some/test", "images": 256, "largest_difference": 6.2e-6, "same_prediction": 0.98765},
        "accuracy": {"images": 2000, "accuracy": 0.8745, "source": "some/test"},
        "keras_scores": {"accuracy": 0.871},
        "latency": {"median_ms": 0.067, "p95_ms": 0.068, "runs": 50, "threads": 1},
        "targets": {},
    } | changes


class Page(html.parser.HTMLParser):
    """The rows of all tables, every link out, and the tags that are open in the end."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.links, self.open = [], [], []
        self.feed(text)
        self.text = text

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        self.links += [value for name, value in attributes if name in ("src", "href", "xlink:href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["style"]:
            return
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def page_of(folder, records, *arguments, **options):
    path = write_report(folder / "page.html", records, *arguments, **options)
    page = Page(path.read_text("utf-8"))
    assert page.open == []
    return page


def row_of(page, file):
    return next([" ".join(cell.split()) for cell in row] for row in page.rows if row and file in row[0])


def test_every_figure_is_that_of_the_record(tmp_path):
    page = page_of(tmp_path, [record_of()], "net")
    assert row_of(page, "net_tflite_float32.tflite") == [
        "net_tflite_float32.tfliteTFLite float32",
        *("2,801", "87.45 %", "+0.35", "6.2e-06", "98.77 %", "0.07"),
    ]
    for text in ("2,000 images of some/test", "accuracy 87.10 %", "256 images", "A Processor", "0123456789abcdef" * 4):
        assert text in page.text


@pytest.mark.parametrize(
    ("metric", "keras", "value", "text", "colour"),
    [
        ("accuracy", 0.9, 0.89, "-1.00", "bad"),
        ("accuracy", 0.89, 0.9, "+1.00", "good"),
        ("mean_iou", 0.5, 0.25, "-25.00", "bad"),
        ("root_mean_squared_error", 400.0, 410.0, "+10", "bad"),
        ("root_mean_squared_error", 400.0, 390.5, "-9.5", "good"),
        ("root_mean_squared_error", 2405.0, 2405.0 + 1.4e-8, "+0", "good"),
    ],
)
def test_a_change_for_the_worse_is_red(tmp_path, metric, keras, value, text, colour):
    accuracy = {"images": 5, metric: value, "source": "some/test"}
    page = page_of(tmp_path, [record_of(accuracy=accuracy, keras_scores={metric: keras})], "net")
    assert re.search(rf'class="number {colour}">{re.escape(text)}</td>', page.text)


def test_what_was_refused_is_told_with_its_reason(tmp_path):
    refused = {"file": "net_int16.tflite", "format": "tflite_int16", "refused": "the interpreter: <node> 14"}
    page = page_of(tmp_path, [record_of(), refused], "net")
    assert "net_int16.tflite was refused:</span> the interpreter: &lt;node&gt; 14" in page.text
    assert "was refused" not in page_of(tmp_path, [record_of()], "net").text


def test_what_was_not_measured_is_not_shown(tmp_path):
    page = page_of(tmp_path, [record_of(accuracy=None, keras_scores=None)], "net")
    assert "Accuracy was not measured" in page.text
    assert not any("change" in row for row in page.rows)
    assert "<svg" not in page.text


def test_a_file_of_several_tasks_has_a_column_each(tmp_path):
    scores = {"surface_mean_iou": 0.5, "height_root_mean_squared_error": 400.0}
    parity = {
        **{"source": "some/test", "images": 4, "largest_difference": 0.5},
        "surface": {"largest_difference": 0.5, "mean_difference": 0.1, "same_prediction": 0.75},
        "height": {"largest_difference": 0.25, "mean_difference": 0.1},
    }
    outputs = [
        {"name": name, "shape": [1, 8, 8, size], "type": "float32"} for name, size in [("surface", 3), ("height", 1)]
    ]
    record = record_of(
        accuracy={"images": 4, **scores, "source": "s"}, keras_scores=scores, parity=parity, outputs=outputs
    )
    del record["output"]
    page = page_of(tmp_path, [record], "net")
    assert row_of(page, "net_tflite_float32.tflite")[2:] == [
        "50.00 %",
        "+0.00",
        "400",
        "+0",
        "5.0e-01",
        "75.00 %",
        "0.07",
    ]
    assert "height 1×8×8×1 float32" in page.text


def test_reasons_of_targets_are_told(tmp_path):
    records = [
        record_of(targets={"gpu": [], "edgetpu": ["CONV_2D 0: float32"]}),
        record_of("onnx", targets={"web": []}),
    ]
    page = page_of(tmp_path, records, "net")
    devices = [row for row in page.rows if row[:1] and ("fits" in " ".join(row) or "outside" in " ".join(row))]
    assert [[" ".join(cell.split()) for cell in row[1:]] for row in devices] == [
        ["1 outside CONV_2D 0: float32", "fits", "other kind of file"],
        ["other kind of file", "other kind of file", "fits"],
    ]


def test_names_cannot_break_out_of_the_page(tmp_path):
    page = page_of(tmp_path, [record_of(file="<script>alert(1)</script>")], "<b>net</b>", subtitle="a & b")
    assert "<script" not in page.text
    assert "<b>net" not in page.text
    assert "a &amp; b" in page.text


def test_the_page_needs_no_other_file(tmp_path):
    picture = tmp_path / "sheet.png"
    PIL.Image.fromarray(np.arange(192, dtype="uint8").reshape(8, 8, 3)).save(picture)
    page = page_of(tmp_path, [record_of()], "net", sheets=[("24 images", picture)])
    assert page.links
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    assert "24 images" in page.text
    assert not re.search(r"url\((?!#)", page.text)


@pytest.mark.parametrize(
    ("name", "records", "message"),
    [
        ("page.txt", [record_of()], "`path` must end in .html"),
        ("page.html", [], "`records` must have one record or more"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, records, message):
    with pytest.raises(auxzoo.UserError, match=message):
        write_report(tmp_path / name, records, "net")
    assert list(tmp_path.iterdir()) == []
