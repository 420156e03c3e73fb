"""Times a network's files after training with an auxiliary against those after plain training.

    python benchmarks/latency_after_training.py --to benchmarks/latency_after_training.json

Both are trained on the packaged sample for an epoch, by the same seed, and exported; their files run in turn, each in
child processes of its own, in LiteRT or onnxruntime. The graphs are the same, so the ratio must be 1.00 within noise.
Let nothing else run meanwhile; the load average before and after is told.
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

NETWORKS = {"mobilenet_v2_100": ("MobileNetV2", {"alpha": 1.0}), "resnet18_050": ("ResNet18", {"width": 0.5})}
FORMATS = ("tflite_float32", "tflite_int8", "onnx")
SIZE, IMAGES = 128, 256


def main():
    """Prints the ratios and their intervals; writes all that was measured as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, help="JSON file (default: none)")
    parser.add_argument("--rounds", type=int, default=10, help="of every file (default: %(default)s)")
    arguments = parser.parse_args()
    found, before = [], os.getloadavg()[0]
    for name, (architecture, of_network) in NETWORKS.items():
        with tempfile.TemporaryDirectory() as folder:
            for form, paths in _trained_files(Path(folder), architecture, of_network).items():
                found += _measured(name, form, paths, arguments.rounds)
    loads = [round(load, 2) for load in (before, os.getloadavg()[0])]
    print(f"Load average before and after: {loads[0]}, {loads[1]}")
    if arguments.to:
        arguments.to.write_text(json.dumps({"load_average": loads, "measured": found}, indent=1) + "\n")


def _trained_files(folder, architecture, arguments):
    """Returns a `dict` of format to the files after plain training and after training with the auxiliary."""
    import keras

    import auxzoo
    from auxzoo import models
    from auxzoo.data import open_images
    from auxzoo.export import export_files
    from auxzoo.export.formats import FORMATS as ALL
    from auxzoo.training import Optimization

    images = open_images("sample", "train")
    few = images.sample(IMAGES, seed=0)
    for training in ("plain", "auxiliary"):
        print(f"Training {architecture}, {training} ...", flush=True)
        keras.utils.set_random_seed(0)
        compact = getattr(models, architecture)((SIZE, SIZE, 3), num_classes=len(images.labels), **arguments)
        network = compact
        if training == "auxiliary":
            network = auxzoo.attach(compact, auxzoo.Structure.default(compact))
        auxzoo.fit(network, few, epochs=1, batch_size=32, optimization=Optimization(learning_rate=0.01), verbose=0)
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
                f"{name:18}{form:16}{auxiliary['runtime']:18}{plain['median_ms']:7.3f} ms  "
                f"ratio {auxiliary['ratio']:.3f} ({low:.3f} to {high:.3f})",
                flush=True,
            )
            found.append({"network": name, "format": form, "plain": plain, "auxiliary": auxiliary})
    return found


if __name__ == "__main__":
    main()
