"""Converts for the tests in forks of one process: a new one each would import TensorFlow, for three seconds.

Reads a job a line, `[module, arguments, log, environment]`, and answers with the fork's process number, then its exit
code. TensorFlow computes nothing before the fork, so that each makes threads of its own.
"""

import json
import os
import runpy
import sys
import traceback
import warnings

import keras  # noqa: F401  (imported for its time)
import tensorflow as tf  # noqa: F401
import tf2onnx  # noqa: F401


def main():
    """Serves until the input ends."""
    for line in sys.stdin:
        module, arguments, log, environment = json.loads(line)
        fork = os.fork()
        if not fork:
            _convert(module, arguments, log, environment)
        print(fork, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]), flush=True)


def _convert(module, arguments, log, environment):
    """Runs a module as `auxzoo.child_process` does, and ends the process."""
    code = 1
    try:
        output, nothing = os.open(log, os.O_WRONLY | os.O_APPEND), os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = [module, *arguments]
        warnings.simplefilter("ignore", RuntimeWarning)  # of modules that were imported before
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
