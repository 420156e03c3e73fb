"""Times what a user waits for before anything happens: `auxzoo --help` and `auxzoo list`, beside an empty Python.

    python benchmarks/start_up.py

Whole processes, run in turn; the aim is `--help` in under half a second.
"""

import statistics
import subprocess
import sys
import time

ROUNDS = 15
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "auxzoo --help": ["-m", "auxzoo.command_line", "--help"],
    "auxzoo list": ["-m", "auxzoo.command_line", "list"],
}


def main():
    """Prints the median and the slowest of each command, in seconds."""
    seconds = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, arguments in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    for name, values in seconds.items():
        print(f"{name:16} median {statistics.median(values):.3f} s, slowest {max(values):.3f} s")


if __name__ == "__main__":
    main()
