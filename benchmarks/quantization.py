"""What the engines and calibration methods make of one classifier: accuracy and size side by side.

python benchmarks/quantization.py mobilenet_v2_050_cifar10 --data tfds:cifar10_jpeg --data-dir DIR --json FILE
"""

import argparse
import tempfile
from pathlib import Path

from auxzoo.commands.common import load_tensorflow, percent
from auxzoo.commands.images import add_data_arguments, choose_images
from auxzoo.files import write_json


def main():
    """Measures every pair, prints it and writes it where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="a published network, a folder of one, or a .keras file")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    add_data_arguments(parser)
    arguments = parser.parse_args()
    load_tensorflow()
    from auxzoo import models
    from auxzoo.export import export_files
    from auxzoo.export.quantization import CALIBRATION_METHODS

    network = models.load(arguments.name)
    images = choose_images(arguments, arguments.name, models.describe(network))
    train, test = images.open("train"), images.open("test")
    rows = []
    for method, engines in CALIBRATION_METHODS.items():
        for engine in engines:
            with tempfile.TemporaryDirectory() as folder:
                (record,) = export_files(
                    network,
                    folder,
                    ["tflite_int8"],
                    calibration=train,
                    evaluation=test,
                    calibration_method=method,
                    engine=engine,
                )
            if "refused" in record:
                rows.append({"engine": engine, "calibration_method": method, "refused": record["refused"]})
                print(f"{engine:18} {method:15} refused: {record['refused']}", flush=True)
                continue
            kept = (
                "bytes",
                "accuracy",
                "keras_accuracy",
                "parity",
                "calibration",
                "quantization",
                "tools",
                "processor",
            )
            rows.append({key: record[key] for key in kept})
            accuracy, error = percent(record["accuracy"]["accuracy"]), record["parity"]["mean_difference"]
            print(f"{engine:18} {method:15} {record['bytes']:>10,} bytes {accuracy:>6} % {error:.4f}", flush=True)
    if arguments.json:
        write_json(Path(arguments.json), {"network": arguments.name, "rows": rows})


if __name__ == "__main__":
    main()
