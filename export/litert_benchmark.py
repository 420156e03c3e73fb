"""Runs LiteRT's own benchmark program, and tells what that does not, or rounds. The module of a child process."""

import importlib
import json
import sys
import time
from pathlib import Path

from .timing import peak_memory

# What the program imports when it runs.
_RUNTIME = ("compiled_model", "environment", "hardware_accelerator", "options")


def main(began, told, *arguments):
    """Runs the program, which writes its results, and writes `told`.

    Args:
        began: `str` of the time at which the process was started, as of `time.time`.
        told: path of a JSON file: `milliseconds` of all runs, those of warming up first, which the program rounds to
            hundredths; `cold_start_ms` from `began` to the end of the first; `baseline_bytes` held when the runtime was
            imported and nothing was opened; `peak_bytes`.
        arguments: of the program.
    """
    from ai_edge_litert.tools import benchmark_litert_model

    compiled_model, *_ = (importlib.import_module(f"ai_edge_litert.{name}") for name in _RUNTIME)
    baseline, run = peak_memory(), compiled_model.CompiledModel.run_by_name
    milliseconds, ends = [], []

    def timed_run(*tensors):
        start = time.perf_counter()
        run(*tensors)
        milliseconds.append(1e3 * (time.perf_counter() - start))
        ends.append(time.time())

    compiled_model.CompiledModel.run_by_name = timed_run
    sys.argv = [benchmark_litert_model.__name__, *arguments]
    benchmark_litert_model.main()
    found = {
        "milliseconds": milliseconds,
        "cold_start_ms": 1e3 * (ends[0] - float(began)),
        "baseline_bytes": baseline,
        "peak_bytes": peak_memory(),
    }
    Path(told).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
