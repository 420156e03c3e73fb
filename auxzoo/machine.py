"""What records say of the machine."""

import platform
import re
from pathlib import Path


def processor_name():
    """Returns the processor's name as its maker wrote it."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()
