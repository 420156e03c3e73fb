"""What the gradient search costs beside plain training: time of a step, in turn in one process, and memory.

    python benchmarks/search_step.py --to benchmarks/search_step.json

Arms: the plain step; the super-network's step with its gates fixed (as in the warm-up of a search); the step that
moves the gates too. A whole search is the warm-up's steps at the second price, after that in every `search.every`-th
step the third, and the steps of the perturbation at the second: the ratio printed is of all that, for every step of a
training as long, to the plain step. Memory is the peak of a process that does nothing else, less that of a process that
has only made the network.

Let nothing else run meanwhile.
"""

import argparse
import contextlib
import datetime
import functools
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

BATCH_SIZE = 128
NETWORKS = {
    "resnet18_025": ("ResNet18", {"input_shape": (32, 32, 3), "width": 0.25, "stem": "small"}),
    "resnet18_0125_24px": ("ResNet18", {"input_shape": (24, 24, 3), "width": 0.125, "stem": "small_stride2"}),
    "mobilenet_v2_035_24px": ("MobileNetV2", {"input_shape": (24, 24, 3), "alpha": 0.35, "total_stride": 16}),
}
ARMS = ("plain", "super_network", "gate_step")
TIME_GOAL, MEMORY_GOAL = 3.0, 2.0


def main():
    """Starts the child processes and prints what they measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=8, help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=4, help="of each arm in a round (default: %(default)s)")
    parser.add_argument("--to", type=Path, help="JSON file of everything measured")
    arguments = parser.parse_args()
    from auxzoo.commands.common import make_table, print_table
    from auxzoo.files import write_json
    from auxzoo.machine import processor_name
    from auxzoo.training.search_settings import SearchSettings

    settings = SearchSettings()
    measured = {"date": datetime.date.today().isoformat(), "processor": processor_name(), "cores": os.cpu_count()}
    measured |= {"threads": arguments.threads, "batch_size": BATCH_SIZE, "results": []}
    table = make_table(
        f"Batch {BATCH_SIZE}, {arguments.threads} thread, oneDNN on",
        *["network", "plain ms>", "super-network>", "gate step>", "search>", "memory>", "goals"],
    )
    for network in arguments.networks:
        print(f"{network}: four processes ...", flush=True)
        job = {"network": network, "threads": arguments.threads, "rounds": arguments.rounds, "steps": arguments.steps}
        timed = child({**job, "arms": ARMS})
        seconds, base = timed["seconds"], child({**job, "arms": []})["peak"]
        memory = {arm: child({**job, "arms": [arm], "rounds": 1, "steps": 1})["peak"] - base for arm in ARMS[1:]}
        every = 1 / settings.every
        after = (1 - every) * seconds["super_network"] + every * seconds["gate_step"]
        warm_up = settings.warm_up + settings.perturbation
        whole = warm_up * seconds["super_network"] + (1 - settings.warm_up) * after
        time_ratio, memory_ratio = whole / seconds["plain"], memory["gate_step"] / memory["super_network"]
        row = [f"{1000 * seconds['plain']:.1f}", *[f"{seconds[arm] / seconds['plain']:.2f}" for arm in ARMS[1:]]]
        row += [f"{time_ratio:.2f}", f"{memory_ratio:.2f}"]
        row.append("met" if time_ratio <= TIME_GOAL and memory_ratio <= MEMORY_GOAL else "missed")
        print(network, *row, flush=True)  # at once: a run that is cut off has measured something
        table.add_row(network, *row)
        ratios = {"search_time": round(time_ratio, 3), "memory": round(memory_ratio, 3)}
        result = {
            "network": network,
            "versions": timed["versions"],
            "seconds_per_step": seconds,
            "memory_bytes": memory,
        }
        measured["results"].append(result | ratios)
        if arguments.to:
            write_json(arguments.to, measured)
    print_table(table)
    print(
        "Times are multiples of the plain step; memory is the gate step's over the super-network's own.\n"
        f"Goals: a search of at most {TIME_GOAL:.0f} plain trainings of its length, memory at most {MEMORY_GOAL:.0f}."
    )


def child(job):
    """Returns what a new process measured."""
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, __file__, "--child", json.dumps(job)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout.splitlines()[-1])


def measure(job):
    """Runs in the child: times the arms in turn and prints seconds a step and the peak of memory in bytes."""
    from auxzoo.training.compute import set_threads

    set_threads(job["threads"])
    import keras
    import numpy as np
    import tensorflow as tf

    generator = np.random.default_rng(0)
    network = build(job["network"])
    images = tf.constant(generator.normal(size=(BATCH_SIZE, *network.input_shape[1:])).astype("float32"))
    batch = (images, tf.constant(generator.integers(0, 10, BATCH_SIZE)))
    steps = {arm: make_step(arm, build(job["network"]), batch) for arm in job["arms"]}
    seconds = dict.fromkeys(steps, float("inf"))
    for _ in range(job["rounds"] if steps else 0):
        for arm, step in steps.items():
            step()  # traced the first time; then it lets the arm before come to rest
            start = time.perf_counter()
            for _ in range(job["steps"]):
                step()
            seconds[arm] = min(seconds[arm], (time.perf_counter() - start) / job["steps"])
    seconds = {arm: round(value, 6) for arm, value in seconds.items()}
    versions = {"keras": keras.__version__, "tensorflow": tf.__version__}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "peak": peak, "versions": versions}))


def build(name):
    """Returns one of `NETWORKS` with random weights."""
    from auxzoo import models

    constructor, arguments = NETWORKS[name]
    return getattr(models, constructor)(**arguments, num_classes=10)


def make_step(arm, network, batch):
    """Returns a function that makes one step of an arm."""
    import tensorflow as tf

    import auxzoo
    from auxzoo.auxiliary import SearchSpace
    from auxzoo.training import Objective, Optimization, Trainer
    from auxzoo.training.gate_trainer import GateTrainer
    from auxzoo.training.search_settings import SearchSettings
    from auxzoo.training.unrolled import exact_second_derivatives

    if arm == "plain":
        trainer = Trainer(network, Objective(), total_steps=1000)
        data = batch
    else:
        settings = SearchSettings(warm_up=0.999 if arm == "super_network" else 0.0, every=1)
        joint = auxzoo.attach(network, SearchSpace.default(network, supervision=settings.supervision))
        trainer = GateTrainer(joint, Objective(), 100_000, settings)
        data = (batch, batch)
    optimizer = Optimization().build(1000, trainer.trained_variables)
    optimizer.build(trainer.trained_variables)
    trainer.compile(optimizer=optimizer)
    step = tf.function(trainer.train_step)
    # The plain step as `train` makes it.
    with contextlib.nullcontext() if arm == "plain" else exact_second_derivatives(trainer.network):
        step(data)
    return functools.partial(step, data)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        measure(json.loads(sys.argv[2]))
    else:
        main()
