"""Times a network's files after training with an auxiliary against those after plain training.

    python benchmarks/latency_after_training.py --to benchmarks/latency_after_training.json

Both are trained on the packaged sample for an epoch, by the same seed, and exported; their files run in turn, each in
child processes of its own, in LiteRT or onnxruntime. The graphs are the same, so the ratio must be 1.00 within noise.
The truth of dense networks is made of the pictures: how bright each pixel is, and which of two halves that is in.
Let nothing else run meanwhile; the load average before and after is told.
"""

import argparse
import datetime
import json
import os
import tempfile
from pathlib import Path

NETWORKS = ("mobilenet_v2_100", "resnet18_050", "deeplab_lite_mobilenet_v2_100", "two_tasks_resnet18_050")
FORMATS = ("tflite_float32", "tflite_int8", "onnx")
SIZE, IMAGES = 128, 256
_HALVES = ("dark", "bright")


def main():
    """Prints the ratios and their intervals; writes all that was measured as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, help="JSON file (default: none)")
    parser.add_argument("--rounds", type=int, default=10, help="of every file (default: %(default)s)")
    parser.add_argument("--networks", default=",".join(NETWORKS), help="some of %(default)s")
    arguments = parser.parse_args()
    from auxzoo.machine import processor_name

    names = arguments.networks.split(",")
    if unknown := [name for name in names if name not in NETWORKS]:
        parser.error(f"--networks must be among {', '.join(NETWORKS)}; received {', '.join(unknown)}")
    found, before = [], os.getloadavg()[0]
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            for form, paths in _trained_files(Path(folder), name).items():
                found += _measured(name, form, paths, arguments.rounds)
    loads = [round(load, 2) for load in (before, os.getloadavg()[0])]
    print(f"Load average before and after: {loads[0]}, {loads[1]}")
    if arguments.to:
        told = {"date": datetime.date.today().isoformat(), "processor": processor_name(), "load_average": loads}
        arguments.to.write_text(json.dumps(told | {"measured": found}, indent=1) + "\n")


def _compact(name, labels):
    """Returns one of the networks, with the tasks of `_with_truth`."""
    from auxzoo import Task, models

    classes, shape = {"num_classes": len(labels)}, (SIZE, SIZE, 3)
    if name == "mobilenet_v2_100":
        return models.MobileNetV2(shape, 1.0, **classes)
    if name == "resnet18_050":
        return models.ResNet18(shape, 0.5, **classes)
    surface, brightness = (Task(*task) for task in (("surface", "segmentation", _HALVES), ("brightness", "regression")))
    if name == "deeplab_lite_mobilenet_v2_100":
        return models.MultiTask(models.MobileNetV2(shape, 1.0, output_stride=16), [surface])
    return models.MultiTask(models.ResNet18(shape, 0.5, output_stride=16), [surface, brightness])


def _with_truth(images, compact):
    """Returns the images with truth for the tasks of a network."""
    import numpy as np

    from auxzoo.data import ImageSet

    tasks = compact.description.tasks
    if not tasks[0].is_dense:
        return images
    pictures = np.stack([images.picture(place) for place in range(images.size)])
    brightness = pictures.mean(axis=-1).astype("float32")
    truth = {"surface": (brightness > 127).astype("uint8"), "brightness": brightness}
    return ImageSet.from_targets(pictures, tasks, {task.name: truth[task.name] for task in tasks})


def _trained_files(folder, name):
    """Returns a `dict` of format to the files after plain training and after training with the auxiliary."""
    import keras

    import auxzoo
    from auxzoo.data import open_images
    from auxzoo.export import export_files
    from auxzoo.export.formats import FORMATS as ALL
    from auxzoo.training import Optimization

    images = open_images("sample", "train")
    few = images.sample(IMAGES, seed=0)
    for training in ("plain", "auxiliary"):
        print(f"Training {name}, {training} ...", flush=True)
        keras.utils.set_random_seed(0)
        network = compact = _compact(name, images.labels)
        if training == "auxiliary":
            network = auxzoo.attach(compact, auxzoo.Structure.default(compact))
        data, optimization = _with_truth(few, compact), Optimization(learning_rate=0.01)
        auxzoo.fit(network, data, epochs=1, batch_size=32, optimization=optimization, verbose=0)
        export_files(compact, folder / training, FORMATS, calibration=images, name="net")
    return {
        form: [folder / training / f"net{ALL[form].suffix}" for training in ("plain", "auxiliary")] for form in FORMATS
    }


def _measured(name, form, paths, rounds):
    """Returns what was measured of a pair of files on one thread, one `dict` a runtime, and prints it."""
    from auxzoo.export import benchmark_files
    from auxzoo.export.benchmark import LITERT_BENCHMARK

    result = benchmark_files(paths, threads=(1,), rounds=rounds, profile=False)
    found = []
    for plain, auxiliary in zip(*(file["measurements"] for file in result["files"]), strict=True):
        if plain["runtime"] != LITERT_BENCHMARK:  # its ratios are to the interpreter
            low, high = auxiliary["ratio_interval"]
            print(
                f"{name:30}{form:16}{auxiliary['runtime']:18}{plain['median_ms']:7.3f} ms  "
                f"ratio {auxiliary['ratio']:.3f} ({low:.3f} to {high:.3f})",
                flush=True,
            )
            found.append({"network": name, "format": form, "plain": plain, "auxiliary": auxiliary})
    return found


if __name__ == "__main__":
    main()
