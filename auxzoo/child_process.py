"""Running one of our modules in a child process that prints nothing, unless it fails."""

import contextlib
import errno
import os
import runpy
import shutil
import subprocess
import sys
import threading
import time

_LINES_OF_LOG = 12
_PROGRESS_FILE = "progress.txt"
_SECONDS_BETWEEN_LOOKS = 1.0  # at the parent
_SECONDS_BETWEEN_LINES = 0.2


class ChildFailed(RuntimeError):
    """A child process failed or was killed; the message holds the end of its log, or tells that the disk is full."""


def run_module(module, folder, environment=None, arguments=None, progress=None):
    """Runs `python -m module folder` and waits for its end. It ends too where this process is killed.

    Args:
        module: `str`, dotted name.
        folder: `Path`, its only argument; its log is written there as `log.txt`.
        environment: `dict` of environment variables to set or change.
        arguments: list of `str`, its arguments instead of `folder`.
        progress: called with every line that the child tells by `tell_parent`, as it comes, or `None`.

    Raises:
        ChildFailed: if it does not end with exit code 0.

    Example:
        >>> run_module("auxzoo.export.conversion", folder, {"CUDA_VISIBLE_DEVICES": "-1"})
    """
    log = folder / "log.txt"
    arguments = [str(folder)] if arguments is None else arguments
    with open(log, "wb") as output:
        child = subprocess.Popen(
            # -P: a folder `auxzoo` where the user happens to stand must not hide the installed package.
            [sys.executable, "-P", "-m", __name__, str(os.getpid()), module, *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
        )
        try:
            _wait(child, folder / _PROGRESS_FILE, progress)
        except BaseException:
            child.kill()
            child.wait()
            raise
    if child.returncode != 0:
        how = f"was killed by signal {-child.returncode}" if child.returncode < 0 else "failed"
        lines, full = log.read_text(errors="replace").splitlines(), os.strerror(errno.ENOSPC)
        if any(full in line for line in lines) or shutil.disk_usage(folder).free == 0:  # then the log may be cut off
            raise ChildFailed(f"The child process {module} {how} in `{folder}`: {full}")
        lines = lines[-_LINES_OF_LOG:]
        raise ChildFailed("\n".join([f"The child process {module} {how}. The end of its log:", *lines]))


def _end_with(parent):
    """Ends this process, as a kill would, once its parent is gone: nobody waits for what it does."""
    while os.getppid() == parent:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(1)


def tell_parent(folder, line):
    """Tells the process that waits for this one how far it is.

    Args:
        folder: `Path` that `run_module` was given.
        line: `str`.
    """
    with open(folder / _PROGRESS_FILE, "a", encoding="utf-8") as file:
        file.write(f"{line}\n")


def _wait(child, file, progress):
    if progress is None:
        child.wait()
        return
    told, is_over = 0, False
    while not is_over:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_SECONDS_BETWEEN_LINES)
        is_over = child.returncode is not None
        lines = file.read_text(encoding="utf-8", errors="replace").split("\n")[:-1] if file.exists() else []
        for line in lines[told:]:
            progress(line)
        told = len(lines)


if __name__ == "__main__":
    _, parent, module, *arguments = sys.argv
    threading.Thread(target=_end_with, args=[int(parent)], daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
