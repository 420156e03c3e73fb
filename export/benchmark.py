"""Latency, cold start and memory of files side by side, each run in child processes of its own, in turn."""

import datetime
import importlib.metadata
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from auxzoo.checks import is_whole
from auxzoo.errors import UserError
from auxzoo.files import sha256, temporary_folder
from auxzoo.machine import processor_name
from auxzoo.metrics import paired_interval

from .apart import SECONDS, Apart

LITERT_BENCHMARK = "litert-benchmark"
_RUNTIMES = {".tflite": "LiteRT", ".onnx": "onnxruntime"}
_TOOLS = ("auxzoo", "ai-edge-litert", "onnxruntime", "numpy")
_SECONDS_OF_RUNS = 3.0


def benchmark_files(
    paths, *, threads=(1, 2), rounds=5, runs=50, warm_up=10, timeout=SECONDS, profile=True, progress=None
):
    """Measures files side by side.

    In every round each file is run by a fresh child process for each number of threads; rounds begin with another file
    each, so that a machine that slows down hits all alike. A TFLite file is also run by `litert-benchmark`, the program
    of the `ai-edge-litert` wheel, where that takes it. Inputs are noise of batch 1.

    Args:
        paths: list of `str` or `Path` of TFLite or ONNX files, of any number of inputs; ratios are to the first.
        threads: numbers of threads, each above 0.
        rounds: `int`, above 0; intervals need two.
        runs: `int`, most timed runs of a child, of which no more are begun after three seconds (three at least).
        warm_up: `int`, most runs before them.
        timeout: seconds, within which a file must be loaded and run once.
        profile: whether ONNX files are profiled operator by operator as well.
        progress: called with a line of text before each round, or `None`.

    Returns:
        `dict`: `machine`, `settings`, `files`: list of `dict` in the order of `paths`, with `file`, `sha256`, `bytes`,
        `operators` (ONNX: the dearest first, `None` else) and `measurements`: list of `dict`, one a runtime and number
        of threads, with `runtime`, `threads`, `median_ms`, `p95_ms`, `runs`, `round_medians_ms`, `ratio`,
        `ratio_interval` (95 %, `None` of one round) to the first file at as many threads, and, medians of the rounds,
        `cold_start_ms` (start of the process to the first result), `load_ms`, `first_run_ms`, `peak_bytes` and
        `baseline_bytes` (of a process that has imported the runtime alone). A runtime that does not take the file has
        `failed`, a text, instead.

    Raises:
        UserError: if a file cannot be run, kills the runtime or does not load and run once in time, or an argument is
            wrong.

    Example:
        >>> result = benchmark_files(["plain.tflite", "auxiliary.tflite"])
        >>> result["files"][1]["measurements"][0]["ratio"]
    """
    paths = [Path(path) for path in paths]
    threads = list(threads)
    _check(paths, threads, {"rounds": rounds, "runs": runs, "warm_up": warm_up})
    rounds, runs, warm_up, *threads = map(int, (rounds, runs, warm_up, *threads))
    began = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    tell = progress or (lambda line: None)
    collected = {(place, runtime, count): [] for place, runtime, count in _combinations(paths, threads)}
    for number in range(rounds):
        tell(f"round {number + 1} of {rounds}")
        for step in range(len(paths)):
            place = (step + number) % len(paths)
            for count in threads:
                measured = _run_in_child(paths[place], count, runs, warm_up, timeout)
                collected[place, _RUNTIMES[paths[place].suffix], count].append(measured)
                if paths[place].suffix == ".tflite":
                    taken = collected[place, LITERT_BENCHMARK, count]
                    if not any("failed" in one for one in taken):  # it would fail again, and take its time
                        shortened = len(measured["milliseconds"])  # it has no limit of time of its own
                        before = max(1, min(warm_up, shortened))  # the first run must not be timed
                        expected = (shortened + before) * statistics.fmean(measured["milliseconds"]) / 1e3
                        limit = timeout + 2 * expected
                        taken.append(_run_litert_benchmark(paths[place], count, shortened, before, limit))
    baselines = {suffix: _baseline(path, timeout) for suffix, path in {path.suffix: path for path in paths}.items()}
    files = []
    for place, path in enumerate(paths):
        operators = None
        if profile and path.suffix == ".onnx":
            tell(f"profiling {path.name}")
            fastest = min(
                statistics.median(one["milliseconds"]) for one in collected[place, _RUNTIMES[".onnx"], threads[0]]
            )
            operators = _profile(path, fastest / 1e3, runs, timeout)
        measurements = [
            _summary(runtime, count, taken, collected[0, _RUNTIMES[paths[0].suffix], count], baselines[path.suffix])
            for (of_file, runtime, count), taken in collected.items()
            if of_file == place
        ]
        files.append(
            {
                "file": str(path),
                "sha256": sha256(path),
                "bytes": path.stat().st_size,
                "operators": operators,
                "measurements": measurements,
            }
        )
    return {
        "made": began,
        "machine": {
            "processor": processor_name(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            "tools": {tool: importlib.metadata.version(tool) for tool in _TOOLS},
        },
        "settings": {
            "threads": threads,
            "rounds": rounds,
            "runs": runs,
            "warm_up": warm_up,
            "timeout": timeout,
            "input": "uniform noise from -1 to 1, whole numbers 0; batch 1",
        },
        "files": files,
    }


def _check(paths, threads, counts):
    if not paths:
        raise UserError("`paths` must name at least one file. Received: none")
    if not threads or len(set(threads)) < len(threads) or not all(_is_count(count) for count in threads):
        raise UserError(f"`threads` must be different whole numbers above 0. Received: {threads}")
    for name, count in counts.items():
        if not _is_count(count, least=0 if name == "warm_up" else 1):
            raise UserError(
                f"`{name}` must be a whole number, {0 if name == 'warm_up' else 1} or more. Received: {count}"
            )
    for path in paths:
        Apart.check(path)


def _is_count(value, least=1):
    return is_whole(value) and value >= least


def _combinations(paths, threads):
    """Yields `(place of the file, runtime, threads)` in the order of the table."""
    for place, path in enumerate(paths):
        for runtime in (_RUNTIMES[path.suffix], *([LITERT_BENCHMARK] if path.suffix == ".tflite" else [])):
            for count in threads:
                yield place, runtime, count


def _run_in_child(path, threads, runs, warm_up, timeout):
    began = time.perf_counter()
    with Apart(path, timeout) as child:
        inside = child.ask("load", str(path), threads)
        cold_start = time.perf_counter() - began
        # Three runs are made, and one before them, however long they take.
        seconds = max(timeout, 2 * (_SECONDS_OF_RUNS + 4 * inside["first_run"]))
        milliseconds = child.ask("time", runs, warm_up, _SECONDS_OF_RUNS, seconds=seconds)
        return {
            "milliseconds": milliseconds,
            "cold_start_ms": 1e3 * cold_start,
            "load_ms": 1e3 * inside["load"],
            "first_run_ms": 1e3 * inside["first_run"],
            "peak_bytes": child.ask("peak_memory"),
        }


def _baseline(path, timeout):
    """Returns the peak memory of a child that has imported the runtime of a file, but not opened the file."""
    with Apart(path, timeout) as child:
        return child.ask("peak_memory")


def _profile(path, seconds_of_a_run, runs, timeout):
    """Returns the operators of an ONNX file, profiled for a quarter of the time limit, three runs at least."""
    fitting = int(timeout / 4 / max(seconds_of_a_run, 1e-5))
    with Apart(path, timeout) as child:
        return child.ask("profile", str(path), max(3, min(runs, fitting)), seconds=timeout + 12 * seconds_of_a_run)


def _run_litert_benchmark(path, threads, runs, warm_up, limit):
    """Returns what `litert-benchmark` measured; `{"failed": reason}` if it does not take the file."""
    with temporary_folder() as folder:
        result, told = folder / "result.json", folder / "told.json"
        arguments = {
            "model": path,
            "num_runs": runs,
            "warmup_runs": warm_up,
            "num_threads": threads,
            "result_json": result,
        }
        command = [sys.executable, "-P", "-m", "auxzoo.export.litert_benchmark", str(time.time()), told]
        try:
            ended = subprocess.run(
                [*command, *(f"--{name}={value}" for name, value in arguments.items())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=limit,
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"no result within {limit:g} s"}
        try:
            found = json.loads(told.read_text())
            load = json.loads(result.read_text())["latency"]["init_ms"]
        except (OSError, ValueError, KeyError):
            return {"failed": f"no result, exit code {ended.returncode}"}
    times = found["milliseconds"]
    return found | {"milliseconds": times[warm_up:], "load_ms": load, "first_run_ms": times[0]}


def _summary(runtime, threads, taken, of_first, baseline):
    """Returns one entry of `measurements` of what was taken in the rounds."""
    head = {"runtime": runtime, "threads": threads}
    for one in taken:
        if "failed" in one:
            return head | {"failed": one["failed"]}
    medians = [statistics.median(one["milliseconds"]) for one in taken]
    together = sorted(value for one in taken for value in one["milliseconds"])
    first_medians = [statistics.median(one["milliseconds"]) for one in of_first]
    ratio, interval = _ratio(medians, first_medians)
    return {
        **head,
        "median_ms": statistics.median(together),
        "p95_ms": float(np.percentile(together, 95)),
        "runs": len(together),
        **{
            name: statistics.median(one[name] for one in taken)
            for name in ("cold_start_ms", "load_ms", "first_run_ms", "peak_bytes")
        },
        "baseline_bytes": statistics.median(one.get("baseline_bytes", baseline) for one in taken),
        "round_medians_ms": medians,
        "ratio": ratio,
        "ratio_interval": interval,
    }


def _ratio(medians, first_medians):
    """Returns the geometric mean of the rounds' ratios, and its 95 % interval by Student's t; `None` of one round."""
    logarithms = [math.log(one / first) for one, first in zip(medians, first_medians, strict=True)]
    mean, width = paired_interval(logarithms)
    return math.exp(mean), None if width is None else [math.exp(mean - width), math.exp(mean + width)]
