"""Times training steps, things to be compared in turn, and prints their ratios.

    python benchmarks/training_step.py --to benchmarks/training_step.json

Arms, each on the same network and batch: a bare `tf.function` step; the plain step of our loop; the joint step
with the default structure; Keras' `fit` with its defaults; PyTorch (channels last) where it is installed. Each
of the first three at its best compile setting, found by a probe. A round runs some steps of every arm in turn;
the first step after a change of arm, and what `fit` does before it, is not counted. oneDNN must be chosen before
TensorFlow is imported, so it is switched between alternating processes.

Let nothing else run meanwhile.
"""

import argparse
import datetime
import functools
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BATCH_SIZE = 128
CLASSES = 10
# name -> (constructor in auxzoo.models, its arguments)
NETWORKS = {
    "resnet18_025": ("ResNet18", {"input_shape": (32, 32, 3), "width": 0.25, "stem": "small"}),
    "mobilenet_v2_100": ("MobileNetV2", {"input_shape": (32, 32, 3), "alpha": 1.0}),
    "mobilenet_v2_100_stride16": ("MobileNetV2", {"input_shape": (32, 32, 3), "alpha": 1.0, "total_stride": 16}),
}
# (numerator, denominator, bound, what the ratio of their speeds must be). A network named so only has that goal.
GOALS = (
    ("plain", "joint", "at most", 1.5, None),
    ("plain", "bare", "at least", 0.95, None),
    ("plain", "keras_fit", "at least", 1.2, "resnet18_025"),
    ("plain", "keras_fit", "at least", 0.98, "mobilenet_v2_100"),
    ("plain", "keras_fit", "at least", 0.98, "mobilenet_v2_100_stride16"),
    ("plain", "pytorch", None, None, None),
)
PROBE_ROUNDS = 5


def main():
    """Starts a child process for each network and setting of oneDNN, in turn, and prints what they measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--processes", type=int, default=2, help="for each setting of oneDNN (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=10, help="in each process (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=8, help="of each arm in a round (default: %(default)s)")
    parser.add_argument("--to", type=Path, help="JSON file of everything measured")
    arguments = parser.parse_args()
    results, chosen = [], {}
    for process in range(arguments.processes):
        for onednn in (0, 1):
            for network in arguments.networks:
                job = {"network": network, "rounds": arguments.rounds, "steps": arguments.steps}
                job["compilations"] = chosen.get((network, onednn))
                print(f"process {process + 1}: {network}, oneDNN {'on' if onednn else 'off'} ...", flush=True)
                result = run_child(job, onednn)
                chosen[network, onednn] = result["compilations"]
                results.append({"onednn": bool(onednn), **result})
                if arguments.to:
                    save(arguments.to, results)
    print_results(results)


def save(path, results):
    """Writes what was measured so far."""
    from auxzoo.files import write_json
    from auxzoo.machine import processor_name

    measured = {"date": datetime.date.today().isoformat(), "processor": processor_name(), "cores": os.cpu_count()}
    write_json(path, {**measured, "batch_size": BATCH_SIZE, "results": results})


def run_child(job, onednn):
    """Returns what a new process measured."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        subprocess.run(
            [sys.executable, __file__, "--child", json.dumps({**job, "to": str(path)})],
            env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": str(onednn), "TF_CPP_MIN_LOG_LEVEL": "3"},
            check=True,
        )
        return json.loads(path.read_text())


def measure(job):
    """Runs in the child: probes the compile settings unless they are given, then times the arms in turn."""
    import keras
    import numpy as np
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    network = build(job["network"])
    generator = np.random.default_rng(0)
    images = generator.uniform(-1, 1, (BATCH_SIZE, *network.input_shape[1:])).astype("float32")
    labels = generator.integers(0, CLASSES, BATCH_SIZE)
    makers = {"bare": make_bare, "plain": make_plain, "joint": make_joint}
    compilations, probes, arms = job["compilations"], {}, {}
    if compilations is None:
        compilations = {}
        for arm, make in makers.items():
            probes[arm] = {}
            for compilation in ("graph", "xla"):
                run = make(build(job["network"]), images, labels, compilation)
                probes[arm][compilation] = max(images_per_second(run, 1) for _ in range(PROBE_ROUNDS))
            compilations[arm] = max(probes[arm], key=probes[arm].get)
    for arm, make in makers.items():
        arms[arm] = make(build(job["network"]), images, labels, compilations[arm])
    arms["keras_fit"] = make_keras_fit(build(job["network"]), images, labels)
    if importlib.util.find_spec("torch"):
        arms["pytorch"] = make_pytorch(build(job["network"]), images, labels)
    for run in arms.values():
        run(1)
    rounds = []
    for _ in range(job["rounds"]):
        rounds.append({})
        for arm, run in arms.items():
            rounds[-1][arm] = images_per_second(run, job["steps"])
    versions = {"keras": keras.__version__, "tensorflow": tf.__version__}
    if "pytorch" in arms:
        versions["torch"] = sys.modules["torch"].__version__
    result = {"network": job["network"], "compilations": compilations, "probes": probes, "rounds": rounds}
    Path(job["to"]).write_text(json.dumps(result | {"versions": versions}))


def build(name):
    """Returns one of `NETWORKS` with random weights."""
    from auxzoo import models

    constructor, arguments = NETWORKS[name]
    return getattr(models, constructor)(**arguments, num_classes=CLASSES)


def images_per_second(run, steps):
    """Times some steps of an arm, after one that is not counted."""
    return round(steps * BATCH_SIZE / run(steps), 1)


def timed(step, steps):
    """Runs a function once, then so many times; returns the seconds of the latter."""
    step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return time.perf_counter() - start


def make_bare(network, images, labels, compilation):
    """The least that a step is: forward, cross-entropy, backward, the same optimiser. No metrics, no callbacks.

    Batch-norm is that of our loop, or the comparison would be one of two batch-norms.
    """
    import keras
    import tensorflow as tf

    from auxzoo.training import Objective, Optimization
    from auxzoo.training.normalization import fused_normalization

    variables = network.trainable_variables
    optimizer = Optimization().build(1000, variables)
    optimizer.build(variables)
    smoothing = Objective().label_smoothing

    @tf.function(jit_compile=compilation == "xla")
    def step(images, labels):
        with fused_normalization(network), tf.GradientTape() as tape:
            loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)(
                tf.one_hot(labels, CLASSES), network(images, training=True)
            )
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss

    images, labels = tf.constant(images), tf.constant(labels)

    return functools.partial(timed, lambda: step(images, labels).numpy())


def make_plain(network, images, labels, compilation):
    """The step of our loop inside `fit`, with the callback that looks for NaN, as `auxzoo.fit` runs it."""
    from auxzoo.training import Objective, Optimization, Trainer
    from auxzoo.training.callbacks import StopOnNaN

    trainer = Trainer(network, Objective(), total_steps=1000)
    optimizer = Optimization().build(1000, network.trainable_variables)
    trainer.compile(optimizer=optimizer, jit_compile=compilation == "xla")
    return make_fit(trainer, images, labels, callbacks=[StopOnNaN()])


def make_joint(network, images, labels, compilation):
    """The same with the default auxiliary attached."""
    import auxzoo

    joint = auxzoo.attach(network, auxzoo.Structure.default(network))
    return make_plain(joint, images, labels, compilation)


def make_keras_fit(network, images, labels):
    """What a user of Keras writes first."""
    import keras

    network.compile(
        optimizer=keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return make_fit(network, images, labels)


def make_fit(model, images, labels, callbacks=()):
    """Runs a compiled Keras model's `fit` on one batch, again and again."""
    import keras
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensors((images, labels)).repeat().prefetch(2)

    def run(steps):
        ends = []
        clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()))
        model.fit(dataset, epochs=1, steps_per_epoch=steps + 1, callbacks=[*callbacks, clock], verbose=0)
        return ends[-1] - ends[0]

    return run


def make_pytorch(network, images, labels):
    """The same network in PyTorch, channels last, checked to compute the same."""
    import numpy as np
    import torch
    from torch_twin import TorchTwin

    torch.set_num_threads(os.cpu_count())
    twin = TorchTwin(network).to(memory_format=torch.channels_last)
    torch_images = torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).to(memory_format=torch.channels_last)
    torch_labels = torch.from_numpy(labels)
    with torch.no_grad():
        difference = np.abs(twin.eval()(torch_images).numpy() - network(images, training=False).numpy()).max()
    if not difference < 1e-3:
        raise SystemExit(f"PyTorch's network differs from Keras' by {difference}")
    twin.train()
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    loss_function = torch.nn.CrossEntropyLoss(label_smoothing=0.1)

    def step():
        optimizer.zero_grad()
        loss = loss_function(twin(torch_images), torch_labels)
        loss.backward()
        optimizer.step()
        loss.item()

    return functools.partial(timed, step)


def print_results(results):
    """Prints images a second of every arm, and the ratios with their goals."""
    from auxzoo.commands.common import make_table, print_table

    speeds = make_table(f"Images/s, batch {BATCH_SIZE}: fastest of all rounds", "network", "oneDNN")
    arms = list(dict.fromkeys(arm for result in results for arm in result["rounds"][0]))
    for arm in arms:
        speeds.add_column(arm, justify="right")
    ratios = make_table("Ratios of speeds", *["network", "oneDNN", "ratio", "of the fastest>", "median>", "goal"])
    for network in dict.fromkeys(result["network"] for result in results):
        for onednn in (False, True):
            chosen = [result for result in results if (result["network"], result["onednn"]) == (network, onednn)]
            rounds = [one for result in chosen for one in result["rounds"]]
            compilations = chosen[0]["compilations"]
            speeds.add_row(
                network,
                "on" if onednn else "off",
                *[f"{max(one[arm] for one in rounds):.0f} {compilations.get(arm, '')}".strip() for arm in arms],
            )
            for numerator, denominator, word, bound, only in GOALS:
                if denominator not in arms or only not in (None, network):
                    continue
                median = statistics.median(one[numerator] / one[denominator] for one in rounds)
                ratio = max(one[numerator] for one in rounds) / max(one[denominator] for one in rounds)
                met = bound is None or (ratio >= bound if word == "at least" else ratio <= bound)
                ratios.add_row(
                    network,
                    "on" if onednn else "off",
                    f"{numerator} / {denominator}",
                    *[f"{value:.2f}" for value in (ratio, median)],
                    f"{word} {bound}, {'met' if met else 'missed'}" if word else "",
                )
    print_table(speeds)
    print_table(ratios)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        measure(json.loads(sys.argv[2]))
    else:
        main()
