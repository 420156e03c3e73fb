"""Timing any TFLite or ONNX file, whatever its inputs. For the child process that runs it (see `apart.py`)."""

import json
import re
import statistics
import sys
import time
from pathlib import Path

import numpy as np

from auxzoo.errors import UserError
from auxzoo.files import temporary_folder

_LEAST_RUNS = 3


def load(path, threads):
    """Loads a file, of any number of inputs of any type, and runs it once.

    Args:
        path: `str`, ending in `.tflite` or `.onnx`.
        threads: `int`, threads of an operator.

    Returns:
        `(run, seconds)`: a function without arguments that runs the file once on noise (whole numbers: on zeros; open
        sizes are 1), and `dict` of how long `load` and `first_run` took.

    Raises:
        UserError: if an ONNX file takes something that is no number.
        Exception: what the runtime says of a file that it cannot run.
    """
    began = time.perf_counter()
    run = (_load_tflite if path.endswith(".tflite") else _load_onnx)(path, threads)
    loaded = time.perf_counter()
    run()
    return run, {"load": loaded - began, "first_run": time.perf_counter() - loaded}


def _load_tflite(path, threads):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], _values(detail["shape"], detail["dtype"]))
    return interpreter.invoke


def _load_onnx(path, threads, profile_prefix=None):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 4
    if profile_prefix:
        options.enable_profiling, options.profile_file_prefix = True, profile_prefix
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    feeds = {}
    for tensor in session.get_inputs():
        kind = _ONNX_TYPES.get(tensor.type)
        if kind is None:
            raise UserError(f"`{path}` must take tensors of numbers. Received: {tensor.name!r}, {tensor.type}")
        feeds[tensor.name] = _values([size if isinstance(size, int) else 1 for size in tensor.shape], kind)

    def run():
        session.run(None, feeds)

    run.session = session
    return run


_ONNX_TYPES = {
    f"tensor({name})": np.dtype(kind)
    for name, kind in {
        "float": "float32",
        "float16": "float16",
        "double": "float64",
        "bool": "bool",
        **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    }.items()
}


def _values(shape, kind):
    """Returns noise from -1 to 1; of whole numbers, which may be places in a table, zeros."""
    if np.issubdtype(kind, np.floating):
        return np.random.default_rng(0).uniform(-1, 1, shape).astype(kind)
    return np.zeros(shape, kind)


def time_runs(run, runs, warm_up, seconds):
    """Times single runs, after a warm-up that takes no more than a third of the time.

    Args:
        run: function without arguments.
        runs: `int`, most runs.
        warm_up: `int`, most runs before.
        seconds: after which no more are begun; three are made always.

    Returns:
        list of milliseconds, one a run.
    """
    began = time.perf_counter()
    for _ in range(warm_up):
        run()
        if time.perf_counter() - began > seconds / 3:
            break
    milliseconds = []
    while len(milliseconds) < runs and (len(milliseconds) < _LEAST_RUNS or time.perf_counter() - began < seconds):
        start = time.perf_counter()
        run()
        milliseconds.append((time.perf_counter() - start) * 1e3)
    return milliseconds


def peak_memory():
    """Returns the most bytes of memory that this process has ever held."""
    try:
        # `ru_maxrss` would begin with what the process was forked from: with TensorFlow in it, that is much.
        found = re.search(r"^VmHWM:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def profile_onnx(path, runs):
    """Measures an ONNX file operator by operator, on one thread.

    Args:
        path: `str`.
        runs: `int`, beside 3 to warm up.

    Returns:
        list of `dict`, the dearest operator first: `name` of the node in the file that runs (after the runtime has
        fused operators), `operator`, `milliseconds` a run, `share` of the time in all operators.
    """
    with temporary_folder() as folder:
        run = _load_onnx(path, 1, str(folder / "profile"))
        for _ in range(3 + runs):
            run()
        events = json.loads(Path(run.session.end_profiling()).read_text())
    durations, operators = {}, {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            durations.setdefault(name, []).append(event["dur"] / 1e3)
            operators[name] = event["args"]["op_name"]
    # The median of each, which other work on the machine moves little; in a loop an operator runs several times a run.
    usual = {name: statistics.median(values) * len(values) / (3 + runs) for name, values in durations.items()}
    total = sum(usual.values()) or 1.0
    return [
        {"name": name, "operator": operators[name], "milliseconds": value, "share": value / total}
        for name, value in sorted(usual.items(), key=lambda item: -item[1])
    ]
