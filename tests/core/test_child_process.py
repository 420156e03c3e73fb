"""Child processes: what they are told, how their failures are, and that none outlives its parent."""

import subprocess
import sys
import time

import pytest

from auxzoo.child_process import ChildFailed, run_module

SLEEP = ["-n", "1", "-r", "1", "import time; time.sleep(600)"]  # for `timeit`
PARENT = f"""
from pathlib import Path
from auxzoo.child_process import run_module
run_module("timeit", Path("."), arguments={SLEEP!r})
"""


def children_of(process):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True)
    return [int(line) for line in found.stdout.split()]


def is_alive(process):
    # A zombie, whose parent has not asked for its end, is dead.
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True)
    return bool(found.stdout.strip()) and not found.stdout.startswith("Z")


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


def test_a_child_ends_when_its_parent_is_killed(tmp_path):
    with subprocess.Popen([sys.executable, "-P", "-c", PARENT], cwd=tmp_path) as parent:
        assert wait_for(lambda: children_of(parent.pid))
        (child,) = children_of(parent.pid)
        assert wait_for(lambda: (tmp_path / "log.txt").exists())
        parent.kill()
    assert wait_for(lambda: not is_alive(child))


def test_the_module_gets_its_arguments(tmp_path):
    run_module("timeit", tmp_path, arguments=["-n", "1", "-r", "1", "print(6 * 7)"])
    assert "42" in (tmp_path / "log.txt").read_text()


def test_every_line_comes_in_order_while_the_child_runs(tmp_path):
    """However fast they follow each other; the child waits until one was heard."""
    statements = [
        "import time; from pathlib import Path; from auxzoo.child_process import tell_parent",
        f"folder, end = Path({str(tmp_path)!r}), time.monotonic() + 60",
        "for number in range(20): tell_parent(folder, f'line {number}')",
        "while not (folder / 'heard').exists() and time.monotonic() < end: time.sleep(0.05)",
        "tell_parent(folder, 'heard' if (folder / 'heard').exists() else 'not heard')",
    ]
    told = []

    def hear(line):
        told.append(line)
        (tmp_path / "heard").touch()

    run_module("timeit", tmp_path, arguments=["-n", "1", "-r", "1", *statements], progress=hear)
    assert told == [*(f"line {number}" for number in range(20)), "heard"]


def test_a_failure_has_the_end_of_the_log(tmp_path):
    with pytest.raises(ChildFailed, match=r"timeit failed(.|\n)*ZeroDivisionError"):
        run_module("timeit", tmp_path, arguments=["1 / 0"])


def test_a_full_disk_is_told_without_the_log(tmp_path):
    with pytest.raises(ChildFailed) as raised:
        run_module("timeit", tmp_path, arguments=["open('/dev/full', 'w').write('x' * 100000)"])
    assert str(raised.value) == f"The child process timeit failed in `{tmp_path}`: No space left on device"


def test_a_killed_child_is_told(tmp_path):
    kill = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(ChildFailed, match="timeit was killed by signal 9"):
        run_module("timeit", tmp_path, arguments=[kill])
