"""Files measured side by side: any file, figures that are complete and add up, and a plot that keeps to the records."""

import contextlib
import io
import json
import math
import shutil
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from auxzoo.command_line import main
from auxzoo.errors import UserError
from auxzoo.export import benchmark as benchmark_module
from auxzoo.export import timing
from auxzoo.export.benchmark import LITERT_BENCHMARK, benchmark_files
from auxzoo.export.benchmark_plot import draw_benchmark, recorded_scores
from auxzoo.files import read_json, sha256, write_json

QUICK = {"threads": (1,), "rounds": 2, "runs": 5, "warm_up": 2}


def command(*arguments):
    """Runs `auxzoo benchmark ARGUMENTS`; returns its exit code and what it wrote."""
    output, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(error):
        code = main(["benchmark", *map(str, arguments)])
    return code, output.getvalue(), error.getvalue()


def onnx_file(path, inputs, operator="Identity", repeats=1, **attributes):
    """Writes an ONNX file that copies each of its inputs, `(type, shape)` each."""
    value = helper.make_tensor_value_info
    nodes, outputs = [], []
    for number, (kind, shape) in enumerate(inputs):
        name = f"in{number}"
        for step in range(repeats):
            nodes.append(helper.make_node(operator, [name], [f"{number}_{step}"], **attributes))
            name = f"{number}_{step}"
        outputs.append(value(name, kind, shape))
    graph = helper.make_graph(
        nodes, "graph", [value(f"in{number}", *one) for number, one in enumerate(inputs)], outputs
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def result(tiny):
    """Three files measured together, with one and two threads."""
    paths = [tiny.files[form] for form in ("tflite_float32", "tflite_int8", "onnx")]
    return benchmark_files(paths, threads=(1, 2), rounds=3, runs=7, warm_up=2)


class TestFigures:
    def test_every_file_runtime_and_number_of_threads_is_measured(self, result, tiny):
        assert [entry["file"] for entry in result["files"]] == [
            str(tiny.files[form]) for form in ("tflite_float32", "tflite_int8", "onnx")
        ]
        for entry in result["files"]:
            runtimes = ["onnxruntime"] if entry["file"].endswith(".onnx") else ["LiteRT", LITERT_BENCHMARK]
            measured = [(one["runtime"], one["threads"]) for one in entry["measurements"]]
            assert measured == [(runtime, threads) for runtime in runtimes for threads in (1, 2)]
            assert (entry["sha256"], entry["bytes"]) == (sha256(entry["file"]), Path(entry["file"]).stat().st_size)

    def test_one_run_is_all_there_is_to_tell(self, tiny):
        paths = [tiny.files[form] for form in ("tflite_float32", "onnx")]
        found = benchmark_files(paths, threads=[1], rounds=1, runs=1, warm_up=0, profile=False)
        for one in (one for entry in found["files"] for one in entry["measurements"]):
            assert one["p95_ms"] >= one["median_ms"] > 0
            assert one["ratio_interval"] is None
            assert one["first_run_ms"] > 0

    def test_figures_are_ordered_as_times_and_memory_are(self, result):
        for one in (one for entry in result["files"] for one in entry["measurements"]):
            assert "failed" not in one, one
            assert one["runs"] == 21
            assert len(one["round_medians_ms"]) == 3
            assert 0 <= min(one["round_medians_ms"]) <= one["median_ms"] <= max(one["round_medians_ms"])
            assert one["median_ms"] <= one["p95_ms"] < 1000
            # The process starts, imports, loads, runs; and it holds the interpreter at least.
            assert 20 < one["cold_start_ms"] - one["first_run_ms"] - one["load_ms"] < 60_000
            assert one["first_run_ms"] > 0
            assert 1e7 < one["baseline_bytes"] < one["peak_bytes"] < 1e9

    def test_the_first_file_is_its_own_measure(self, result):
        first = result["files"][0]["measurements"]
        assert [one["ratio"] for one in first if one["runtime"] == "LiteRT"] == [1.0, 1.0]
        assert [one["ratio_interval"] for one in first if one["runtime"] == "LiteRT"] == [[1.0, 1.0]] * 2

    def test_operators_are_profiled_where_the_runtime_offers_it(self, result):
        assert [entry["operators"] is None for entry in result["files"]] == [True, True, False]
        operators = result["files"][2]["operators"]
        assert "MatMul" in {one["operator"] for one in operators}
        shares = [one["share"] for one in operators]
        assert sum(shares) == pytest.approx(1)
        assert shares == sorted(shares, reverse=True)
        assert all(one["milliseconds"] >= 0 for one in operators)

    def test_the_machine_and_the_settings_are_told(self, result):
        assert result["machine"]["cores"] >= 1
        assert set(result["machine"]["tools"]) == {"auxzoo", "ai-edge-litert", "onnxruntime", "numpy"}
        assert result["settings"]["threads"] == [1, 2]
        json.dumps(result)

    def test_what_takes_longer_is_measured_longer(self, tmp_path):
        kinds = [(TensorProto.FLOAT, [1, 64, 64, 3])]
        short = onnx_file(tmp_path / "short.onnx", kinds, "Sin")
        long = onnx_file(tmp_path / "long.onnx", kinds, "Sin", repeats=60)
        found = benchmark_files([short, long], **QUICK | {"rounds": 3, "runs": 30}, profile=True)["files"]
        ratio, (low, high) = (found[1]["measurements"][0][key] for key in ("ratio", "ratio_interval"))
        assert low <= ratio <= high
        assert 5 < ratio < 300
        assert [one["operator"] for one in found[1]["operators"]] == ["Sin"] * 60

    def test_a_large_file_needs_more_memory(self, tmp_path):
        small = onnx_file(tmp_path / "small.onnx", [(TensorProto.FLOAT, [1, 8, 8, 3])])
        large = onnx_file(tmp_path / "large.onnx", [(TensorProto.FLOAT, [1, 2000, 2000, 3])])  # 48 MB
        small, large = (entry["measurements"][0] for entry in benchmark_files([small, large], **QUICK)["files"])
        assert large["peak_bytes"] - small["peak_bytes"] > 40e6
        assert large["baseline_bytes"] == small["baseline_bytes"]

    def test_rounds_begin_with_another_file_each(self, tiny, monkeypatch):
        order = []

        def run(path, threads, *_):
            order.append((path.name, threads))
            return dict.fromkeys(("cold_start_ms", "load_ms", "first_run_ms", "peak_bytes"), 1.0) | {
                "milliseconds": [1.0, 2.0]
            }

        monkeypatch.setattr(benchmark_module, "_run_in_child", run)
        files = [shutil.copy(tiny.files["onnx"], tiny.files["onnx"].with_name(f"{name}.onnx")) for name in "abc"]
        benchmark_files(files, threads=(2, 1), rounds=4, profile=False)
        first_files = [name for name, threads in order[::6]]
        assert first_files == ["a.onnx", "b.onnx", "c.onnx", "a.onnx"]
        assert order[6:12] == [(f"{name}.onnx", threads) for name in "bca" for threads in (2, 1)]

    def test_ratio_and_interval_by_hand(self):
        ratio, interval = benchmark_module._ratio([2.0, 8.0], [1.0, 1.0])
        # Logarithms ln 2 and ln 8: mean ln 4, deviation ln 2 * sqrt(2); t(0.975, 1) is 12.7062.
        assert ratio == pytest.approx(4)
        assert interval == pytest.approx([4 / 2**12.7062, 4 * 2**12.7062], rel=1e-4)
        assert benchmark_module._ratio([3.0], [2.0]) == (pytest.approx(1.5), None)

    def test_runs_end_when_the_time_is_over(self):
        began = time.perf_counter()
        milliseconds = timing.time_runs(lambda: time.sleep(0.05), runs=1000, warm_up=1000, seconds=0.6)
        assert time.perf_counter() - began < 2
        assert 3 <= len(milliseconds) < 15
        assert min(milliseconds) >= 50
        assert len(timing.time_runs(lambda: None, runs=7, warm_up=0, seconds=5)) == 7
        assert len(timing.time_runs(lambda: time.sleep(0.01), runs=9, warm_up=0, seconds=0)) == 3


class TestForeignFiles:
    def test_inputs_of_any_number_type_and_size(self, tmp_path):
        kinds = [
            *[(kind, [2, 3]) for kind in (TensorProto.INT64, TensorProto.UINT8, TensorProto.BOOL, TensorProto.DOUBLE)],
            (TensorProto.FLOAT16, ["batch", 4]),
            (TensorProto.FLOAT, []),
        ]
        (entry,) = benchmark_files([onnx_file(tmp_path / "kinds.onnx", kinds)], **QUICK)["files"]
        assert entry["measurements"][0]["runs"] == 10

    def test_tflite_with_two_inputs(self, tmp_path):
        import tensorflow as tf

        signature = [tf.TensorSpec((1, 4), tf.float32), tf.TensorSpec((1, 4), tf.int32)]
        function = tf.function(lambda one, two: one + tf.cast(two, tf.float32), input_signature=signature)
        path = tmp_path / "two.tflite"
        path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()]).convert())
        (entry,) = benchmark_files([path], **QUICK)["files"]
        assert entry["measurements"][0]["runs"] == 10

    def test_inputs_of_text_are_told(self, tmp_path):
        path = onnx_file(tmp_path / "text.onnx", [(TensorProto.STRING, [1])])
        with pytest.raises(
            UserError, match=r"text.onnx` must take tensors of numbers. Received: 'in0', tensor\(string"
        ):
            benchmark_files([path], **QUICK)

    def test_a_runtime_that_does_not_take_a_file_is_told_and_not_asked_again(self, tiny, monkeypatch):
        asked = []

        def fail(*arguments):
            asked.append(arguments)
            return {"failed": "no result, exit code 3"}

        monkeypatch.setattr(benchmark_module, "_run_litert_benchmark", fail)
        (entry,) = benchmark_files([tiny.files["tflite_float32"]], **QUICK)["files"]
        assert entry["measurements"][1] == {
            "runtime": LITERT_BENCHMARK,
            "threads": 1,
            "failed": "no result, exit code 3",
        }
        assert len(asked) == 1

    def test_litert_benchmark_that_fails_or_hangs_says_so(self, tmp_path):
        path = tmp_path / "broken.tflite"
        path.write_bytes(b"....TFL3")
        found = benchmark_module._run_litert_benchmark(path, 1, 5, 2, limit=60)
        assert found["failed"].startswith("no result, exit code ")
        assert benchmark_module._run_litert_benchmark(path, 1, 5, 2, limit=0.001)["failed"] == (
            "no result within 0.001 s"
        )

    @pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
    def test_broken_files_are_told(self, tmp_path, suffix):
        path = tmp_path / f"broken{suffix}"
        path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(range(200)))
        with pytest.raises(UserError, match=rf"broken{suffix}` cannot be run: \S"):
            benchmark_files([path], **QUICK)


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"threads": ()}, "`threads` must be different whole numbers above 0"),
            ({"threads": (1, 1)}, "`threads` must be different whole numbers above 0"),
            ({"threads": (0,)}, "`threads` must be different whole numbers above 0"),
            ({"threads": ("1",)}, "`threads` must be different whole numbers above 0"),
            ({"rounds": 0}, "`rounds` must be a whole number, 1 or more. Received: 0"),
            ({"runs": 1.5}, "`runs` must be a whole number, 1 or more. Received: 1.5"),
            ({"warm_up": -1}, "`warm_up` must be a whole number, 0 or more. Received: -1"),
            ({"timeout": 0}, "`timeout` must be a number of seconds above 0. Received: 0"),
        ],
    )
    def test_arguments(self, tiny, arguments, message):
        with pytest.raises(UserError, match=message):
            benchmark_files([tiny.files["onnx"]], **QUICK | arguments)

    def test_files(self, tiny, tmp_path):
        with pytest.raises(UserError, match="`paths` must name at least one file"):
            benchmark_files([])
        with pytest.raises(UserError, match=r"gone.onnx` is not a file"):
            benchmark_files([tiny.files["onnx"], tmp_path / "gone.onnx"])


class TestCommand:
    @pytest.fixture(scope="class")
    @staticmethod
    def folder(tiny, tmp_path_factory):
        """Files with and without records."""
        folder = tmp_path_factory.mktemp("benchmarked")
        for form, name in {
            "tflite_float32": "float.tflite",
            "tflite_int8": "int8.tflite",
            "onnx": "other.onnx",
        }.items():
            shutil.copy(tiny.files[form], folder / name)
        for name, accuracy in (("float.tflite", 0.9), ("int8.tflite", 0.875)):
            write_json(folder / f"{name}.json", {"sha256": sha256(folder / name), "accuracy": {"accuracy": accuracy}})
        return folder

    @pytest.fixture(scope="class")
    @staticmethod
    def outcome(folder):
        files = [folder / name for name in ("float.tflite", "int8.tflite", "other.onnx")]
        quick = ("--rounds", 2, "--runs", 5, "--warm-up", 1)
        return command(*files, *quick, "--json", folder / "all.json", "--plot", folder / "plot.png")

    def test_prints_tables_that_fit(self, outcome):
        code, output, error = outcome
        assert (code, error) == (0, "")
        assert max(len(line) for line in output.splitlines() if line[:1] in tuple("┏┃┡│├└")) <= 100
        for part in (
            "float.tflite",
            "litert-benchmark",
            "onnxruntime",
            "MatMul",
            "Cold start",
            "round 2 of 2",
        ):
            assert part in output

    def test_json_holds_all_figures(self, outcome, folder):
        result = read_json(folder / "all.json")
        assert [len(entry["measurements"]) for entry in result["files"]] == [4, 4, 2]

    def test_the_plot_names_what_has_no_accuracy(self, outcome, folder):
        assert f"{folder / 'other.onnx'} is drawn without accuracy: no record beside it" in outcome[1]
        assert Image.open(folder / "plot.png").size[0] > 800

    def test_one_file_and_no_profile(self, tiny):
        code, output, _ = command(tiny.files["onnx"], "--threads", 1, "--rounds", 1, "--runs", 3, "--no-profile")
        assert code == 0
        assert "Operators" not in output

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--threads", "one"], "`--threads` must be whole numbers with commas between. Received: 'one'"),
            (["--threads", "0"], "`threads` must be different whole numbers above 0"),
            (["--plot", "plot.gif"], "`--plot` must end in .png or .svg. Received: 'plot.gif'"),
            (["--timeout", "-1"], "`timeout` must be a number of seconds above 0"),
        ],
    )
    def test_mistakes_are_told(self, tiny, arguments, message):
        code, _, error = command(tiny.files["onnx"], *arguments)
        assert code == 2
        assert message in error
        assert "Traceback" not in error


class TestPlot:
    def test_records_of_other_files_do_not_count(self, tmp_path):
        path = tmp_path / "file.onnx"
        path.write_bytes(b"content")
        assert recorded_scores(path, sha256(path)) == (None, "no record beside it")
        write_json(tmp_path / "file.onnx.json", {"sha256": "0" * 64, "accuracy": {"accuracy": 0.5}})
        assert recorded_scores(path, sha256(path)) == (None, "the record beside it is of another file")
        write_json(tmp_path / "file.onnx.json", {"sha256": sha256(path), "accuracy": None})
        assert recorded_scores(path, sha256(path)) == (None, "its record has no accuracy")
        write_json(tmp_path / "file.onnx.json", {"sha256": sha256(path), "accuracy": {"mean_iou": 0.5}})
        assert recorded_scores(path, sha256(path)) == ({"mean_iou": 0.5}, None)
        write_json(tmp_path / "file.onnx.json", [1])
        assert recorded_scores(path, sha256(path))[0] is None

    @pytest.mark.parametrize("suffix", [".png", ".svg"])
    def test_draws_with_and_without_accuracy(self, tmp_path, suffix):
        files = []
        for name, median in (("a.onnx", 0.2), ("b.onnx", 15.0), ("c.onnx", 900.0)):
            (tmp_path / name).write_bytes(name.encode())
            measured = {"median_ms": median, "p95_ms": 1.5 * median, "threads": 2}
            files.append({"file": str(tmp_path / name), "sha256": sha256(tmp_path / name), "measurements": [measured]})
        scores = {"a.onnx": {"mean_iou": 0.5}, "b.onnx": {"accuracy": 0.8}}
        for name, score in scores.items():
            write_json(tmp_path / f"{name}.json", {"sha256": sha256(tmp_path / name), "accuracy": score})
        result = {"files": files, "machine": {"processor": "one"}, "made": "2026-01-01T00:00:00"}
        without = draw_benchmark(result, tmp_path / f"plot{suffix}")
        assert without == [
            (files[1]["file"], "its record has no mean_iou"),
            (files[2]["file"], "no record beside it"),
        ]
        if suffix == ".svg":
            drawn = (tmp_path / "plot.svg").read_text()
            for part in ("mean IoU, %", "milliseconds, 2 threads", "a.onnx: 0.2 ms", "c.onnx: 900 ms (no record"):
                assert part in drawn

    def test_another_suffix(self, tmp_path):
        with pytest.raises(UserError, match="`path` must end in .png or .svg"):
            draw_benchmark({"files": []}, tmp_path / "plot.gif")


def test_noise_is_within_its_range_and_whole_numbers_are_zero():
    noise = timing._values([1, 50, 3], np.float32)
    assert noise.dtype == np.float32
    assert -1 <= noise.min() < -0.9
    assert 0.9 < noise.max() <= 1
    assert not timing._values([2, 2], np.int64).any()
    assert math.prod(timing._values([], np.float16).shape) == 1
