"""Runs LiteRT's own benchmark program, and tells what that does not. The module of a child process."""

import json
import sys
import time
from pathlib import Path

from .timing import peak_memory


def main(began, told, *arguments):
    """Runs the program, which writes its results, and writes `told`: when it was ready, and its memory.

    Args:
        began: `str` of the time at which the process was started, as of `time.time`.
        told: path of a JSON file: `ready_ms` from then until all was imported, `baseline_bytes` held at that
            moment, and `peak_bytes`.
        arguments: of the program.
    """
    from ai_edge_litert.tools import benchmark_litert_model

    ready = {"ready_ms": 1e3 * (time.time() - float(began)), "baseline_bytes": peak_memory()}
    sys.argv = [benchmark_litert_model.__name__, *arguments]
    benchmark_litert_model.main()
    Path(told).write_text(json.dumps(ready | {"peak_bytes": peak_memory()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
