"""Running a TFLite or ONNX file of anyone's in a child process: what kills or hangs a runtime must not kill or hang us.

The parent (`FileApart`, `Apart`) asks; the child (`main`) does what is asked, one request after the other, and ends
when the parent is gone. It has the rights of the parent: this is no sandbox.
"""

import contextlib
import importlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import weakref
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from auxzoo.checks import is_real
from auxzoo.errors import LONGEST_REASON, UserError, first_line

from .model_file import check_size

SECONDS = 8.0  # and the start of the child: ten in all
_START_SECONDS = 120  # to import a runtime on a busy machine; no file is read so early
_GRACE_SECONDS = 5
LARGEST_ANSWER = 2**28  # bytes for an image: those for several must fit into the parent's memory
_RUNTIMES = {".tflite": "ai_edge_litert.interpreter", ".onnx": "onnxruntime"}
# Of files that we wrote ourselves a moment ago, which may be as large and as slow as the user wants.
OWN_FILE = {"timeout": 600.0, "largest_answer": math.inf}


class Apart:
    """A child process that answers requests, each within a time limit.

    Args:
        path: `str` or `Path` of the file that it shall run; messages name it.
        timeout: seconds, the limit of a request, above 0.

    Raises:
        UserError: if `path` is no file or has another suffix, or if `timeout` is not so.

    Example:
        >>> with Apart("flowers.onnx") as child:
        ...     child.ask("load", "flowers.onnx", 1)
    """

    def __init__(self, path, timeout=SECONDS):
        self.path = Path(path)
        self.check(self.path)
        if not (is_real(timeout) and 0 < timeout < math.inf):
            raise UserError(f"`timeout` must be a number of seconds above 0. Received: {timeout!r}")
        self.timeout = timeout
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `_end`)
        self._connection, theirs = Pipe()
        with theirs:
            self._child = subprocess.Popen(
                # -P: a folder `auxzoo` where the user happens to stand must not hide the installed package.
                [sys.executable, "-P", "-m", __name__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._log,
            )
        # Also where nobody closes it: at the end of the program.
        self._end = weakref.finalize(self, _end, self._child, self._connection, self._log)
        self.ask("start", self.path.suffix, seconds=_START_SECONDS)

    @staticmethod
    def check(path):
        """Raises a `UserError` if `path`, a `Path`, is no file, has another suffix, is empty or far too large."""
        if not path.is_file():
            raise UserError(f"`{path}` is not a file.")
        if path.suffix not in _RUNTIMES:
            raise UserError(f"`path` must end in {' or '.join(_RUNTIMES)}. Received: `{path}`")
        check_size(path)

    def ask(self, request, *arguments, seconds=None):
        """Returns the answer of the child to a request.

        Args:
            request: name of a function below whose name begins with `_answer_`.
            arguments: of that function.
            seconds: limit; that of the child if `None`.

        Raises:
            UserError: if the file cannot be run, kills the child, or runs longer than the limit. Of a child that was
                killed no further request is answered.
        """
        seconds = self.timeout if seconds is None else seconds
        try:
            self._connection.send((request, arguments, seconds))
            is_in_time = self._connection.poll(seconds)
            is_refused, answer = self._connection.recv() if is_in_time else (None, None)
        except Exception:  # the end of the connection, or what a runtime with damaged memory sends
            reason = self._reason()
            self._end()
            raise UserError(f"`{self.path}` cannot be run: {reason}") from None
        if not is_in_time:
            self._end()
            raise UserError(f"`{self.path}` cannot be run: no answer within {seconds:g} s")
        if is_refused:
            raise UserError(answer)
        return answer

    def _reason(self):
        """Returns in words why the child is gone."""
        if not self._end.alive:
            return "its process was ended before"
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(_GRACE_SECONDS)
        code = self._child.returncode
        if code is not None and code < 0:
            return f"it kills the runtime ({signal.Signals(-code).name})"
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no word of it")
        return f"the runtime's process ended with exit code {code}: {last[:LONGEST_REASON]}"

    def close(self):
        """Ends the child."""
        self._end()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class FileApart(Apart):
    """A TFLite or ONNX file in a child process, with the face of `open_file`.

    A file that is opened has been run once. Whatever it does to the runtime, then or later, is a `UserError`.

    Args:
        path: `str` or `Path`, ending in `.tflite` or `.onnx`.
        threads: `int`, threads of an operator.
        timeout: seconds, the limit of opening it, and of each image.
        largest_answer: bytes, the limit of what it gives for an image.

    Raises:
        UserError: as `open_file` does; and if the file kills the runtime or does not answer in time.

    Example:
        >>> logits = FileApart("downloaded.tflite").predict(images)
    """

    def __init__(self, path, threads=1, timeout=SECONDS, largest_answer=LARGEST_ANSWER):
        super().__init__(path, timeout)
        self._tensors = self.ask("open", str(path), threads, largest_answer)

    def predict(self, images, batch=1):
        """Returns the outputs for float32 images `[count, height, width, 3]`, as the files of `open_file` do."""
        images = np.asarray(images, np.float32)
        if images.ndim == 0 or len(images) == 0:
            return self.ask("predict", images, batch)  # which refuses it
        starts = range(0, len(images), batch)
        results = [self.ask("predict", images[start : start + batch], batch) for start in starts]
        counts = [len(images[start : start + batch]) for start in starts]
        if isinstance(results[0], dict):
            return {name: self._joined([result[name] for result in results], counts) for name in results[0]}
        return self._joined(results, counts)

    def _joined(self, parts, counts):
        """Returns the answers for all images, checked to be one an image and all of one shape."""
        shapes = {part.shape[1:] for part in parts}
        if len(shapes) > 1 or [part.shape[:1] for part in parts] != [(count,) for count in counts]:
            received = ", ".join(dict.fromkeys(str(part.shape) for part in parts))
            raise UserError(
                f"`{self.path}` cannot be run on pictures: it must give one answer an image, all of one shape. "
                f"Received: shapes {received[:200]}"
            )
        return np.concatenate(parts)

    def tensors(self):
        """Returns names, shapes and number types of input and outputs."""
        return self._tensors

    def time_runs(self, runs, warm_up):
        """Returns the milliseconds of single runs, after others, within half of the limit of an image."""
        return self.ask("time_opened", runs, warm_up, self.timeout / 2)


def _end(child, connection, log):
    child.kill()
    child.wait()
    connection.close()
    log.close()


# The child


def main(descriptor):
    """Runs in the child: answers requests from a connection until it is closed."""
    _be_the_first_to_go()
    connection, state = Connection(descriptor), {}
    while True:
        try:
            request, arguments, seconds = connection.recv()
        except EOFError:
            return
        # Where the parent was killed nobody else would end a runtime that hangs.
        signal.alarm(math.ceil(seconds) + _GRACE_SECONDS)
        try:
            answer = False, globals()[f"_answer_{request}"](state, *arguments)
        except UserError as error:
            answer = True, str(error)
        except Exception as error:  # runtimes' errors have no common class
            answer = True, f"`{state.get('path')}` cannot be run: {first_line(error)}"
        signal.alarm(0)
        connection.send(answer)


def _be_the_first_to_go():
    """Lets a damaged size, which may ask for any amount of memory, end this process and no other."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        Path("/proc/self/oom_score_adj").write_text("1000")


def _answer_start(state, suffix):
    importlib.import_module(_RUNTIMES[suffix])


def _answer_open(state, path, threads, largest_answer):
    from .runtime import open_file

    state["path"], state["largest"] = path, largest_answer
    file = state["file"] = open_file(path, threads)
    file.run_once()
    return file.tensors()


def _answer_predict(state, images, batch):
    # A TFLite file takes one image.
    answer = state["file"].predict(images) if batch == 1 else state["file"].predict(images, batch)
    size = sum(value.nbytes for value in (answer.values() if isinstance(answer, dict) else [answer]))
    limit = state["largest"] * len(images)
    if size > limit:
        raise ValueError(f"it gives {size:,} bytes, more than {limit:,}")
    return answer


def _answer_time_opened(state, runs, warm_up, seconds):
    from .timing import time_runs

    return time_runs(state["file"].run_once, runs, warm_up, seconds)


def _answer_load(state, path, threads):
    from .timing import load

    state["path"] = path
    state["loaded"], seconds = load(path, threads)
    return seconds


def _answer_time(state, runs, warm_up, seconds):
    from .timing import time_runs

    return time_runs(state["loaded"], runs, warm_up, seconds)


def _answer_profile(state, path, runs):
    from .timing import profile_onnx

    state["path"] = path
    return profile_onnx(path, runs)


def _answer_peak_memory(state):
    from .timing import peak_memory

    return peak_memory()


if __name__ == "__main__":
    main(int(sys.argv[1]))
