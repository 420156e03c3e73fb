"""The machine: what records say of it, and keeping the chatter of C++ libraries off its terminal."""

import contextlib
import os
import platform
import re
import sys
from pathlib import Path


@contextlib.contextmanager
def quiet_stderr():
    """Keeps what C++ libraries write to standard error (TensorFlow on import, LiteRT on opening) off the terminal.

    Python's own exceptions are raised as ever: they are printed after the block.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def processor_name():
    """Returns the processor's name as its maker wrote it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()
