"""Times writing MobileNetV2 1.0 at 224 px as float32 and int8 TFLite and ONNX, child process included.

    python benchmarks/export_time.py --to benchmarks/export_time.json

The aim is 45 s on two cores; parity, accuracy and latency are not of it. Let nothing else run meanwhile; the load
average before and after is told.
"""

import argparse
import datetime
import json
import os
import resource
import tempfile
import time
from pathlib import Path

FORMATS = ("tflite_float32", "tflite_int8", "onnx")
SIZE = 224
AIM = 45


def main():
    """Prints seconds, and megabytes at the peak of the child; writes them as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", help="JSON file (default: none)")
    parser.add_argument("--formats", default=",".join(FORMATS), help="comma-separated (default: %(default)s)")
    arguments = parser.parse_args()

    import keras

    from auxzoo import models
    from auxzoo.data import open_images
    from auxzoo.export.calibration import choose_calibration
    from auxzoo.export.conversion import Conversion, convert
    from auxzoo.export.folding import fold_batch_normalization
    from auxzoo.export.formats import FORMATS as ALL
    from auxzoo.export.outputs import outputs_of
    from auxzoo.machine import processor_name

    keras.utils.set_random_seed(0)
    network = models.MobileNetV2((SIZE, SIZE, 3), num_classes=1000)
    preprocessing = models.Preprocessing(SIZE, SIZE)
    images, _ = choose_calibration(open_images("sample"), network.input_shape[1:], preprocessing)
    load_before, start = os.getloadavg()[0], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: Path(folder) / f"net{ALL[name].suffix}" for name in arguments.formats.split(",")}
        convert(Conversion(fold_batch_normalization(network), paths, outputs_of(network), images))
        seconds = time.perf_counter() - start
        sizes = {name: path.stat().st_size for name, path in paths.items()}
    found = {
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "network": f"MobileNetV2 1.0, {SIZE} px, 1000 classes, random weights",
        "calibration_images": len(images),
        "bytes": sizes,
        "seconds": round(seconds, 1),
        "child_peak_megabytes": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        "load_average": [round(load, 2) for load in (load_before, os.getloadavg()[0])],
        "processor": processor_name(),
        "cores": len(os.sched_getaffinity(0)),
    }
    print(json.dumps(found, indent=1))
    print(f"{seconds:.1f} s; the aim of {AIM} s is {'met' if seconds < AIM else 'missed'}")
    if arguments.to:
        Path(arguments.to).write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
