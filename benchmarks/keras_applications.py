"""Exports networks of `keras.applications`, which this project has never seen, and compares each file with Keras.

    nice -n 10 python benchmarks/keras_applications.py --to benchmarks/keras_applications

Weights are random, of a fixed seed, and batch-norm statistics are those of pictures, so that every logit answers to its
picture. Each network runs in a child process with a limit of time; its line of `results.jsonl` is written when it is
done, and what has a line is not done again. The last thing written is the table, `README.md`. Parity is of 48 test
pictures of the packaged sample, calibration of 200 training pictures.
"""

import argparse
import datetime
import importlib.metadata
import inspect
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

FORMATS = ("tflite_float32", "tflite_int8", "onnx", "onnx_int8")
TOOLS = ("keras", "tensorflow", "ai-edge-litert", "tf2onnx", "onnxruntime")
CLOSE = 1e-3  # of a float file: the largest difference as a share of the largest logit
FAR = 0.5  # of an int8 file: the mean difference as a share of the logits' deviation from picture to picture
WIDER = "tflite_int16_float_io"  # the same weights in int8, activations of 16 bits: where int8 is far, why
# Name -> size in pixels; where it is not 96 the network takes no smaller one.
NETWORKS = {
    "MobileNet": 96,
    "MobileNetV2": 96,
    "MobileNetV3Small": 96,
    "MobileNetV3Large": 96,
    "EfficientNetB0": 96,
    "EfficientNetB1": 96,
    "EfficientNetV2B0": 96,
    "EfficientNetV2B1": 96,
    "NASNetMobile": 96,
    "DenseNet121": 96,
    "DenseNet169": 96,
    "ResNet50": 96,
    "ResNet50V2": 96,
    "ResNet101": 96,
    "ResNet101V2": 96,
    "InceptionV3": 96,
    "InceptionResNetV2": 96,
    "Xception": 96,
    "VGG16": 96,
    "ConvNeXtTiny": 96,
}


def build(name, size, images, seed=0):
    """Returns a network of ten classes with random weights and lively statistics, and its `Preprocessing`.

    Args:
        name: of a function of `keras.applications`.
        size: of the image, in pixels.
        images: `ImageSet` that the statistics are of.
        seed: of the weights.
    """
    import keras
    import numpy as np

    from auxzoo import models

    keras.utils.set_random_seed(seed)
    function = getattr(keras.applications, name)
    settings = {"weights": None, "classes": 10, "input_shape": (size, size, 3), "classifier_activation": None}
    if "include_preprocessing" in inspect.signature(function).parameters:
        settings["include_preprocessing"] = True
    network = function(**settings)
    # A network that scales its pixels itself takes those of a picture.
    scaling = (keras.layers.Rescaling, keras.layers.Normalization)
    is_raw = any(isinstance(layer, scaling) for layer in network.layers)
    preprocessing = models.Preprocessing.by_convention("none" if is_raw else "tf", size, size)
    generator = np.random.default_rng(seed)
    for layer in network.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            # Mostly the middle pixel: a mean over many layers would forget the picture.
            value = generator.normal(0, 0.1, layer.kernel.shape)
            value[layer.kernel.shape[0] // 2, layer.kernel.shape[1] // 2] += 1
            layer.kernel.assign(value)
        elif isinstance(layer, keras.layers.BatchNormalization) and layer.center:
            # Most values pass the ReLU: random layers that cut half of them multiply every rounding.
            layer.beta.assign(keras.ops.ones_like(layer.beta))
        elif type(layer).__name__ == "LayerScale":
            layer.gamma.assign(np.full(layer.gamma.shape, 0.3))  # it begins at a millionth: the block would not count
    batch = next(iter(images.batches(preprocessing, 32)))[0]
    normalizations = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in normalizations:
        layer.momentum = 0.0
    network(batch, training=True)
    return network, preprocessing


def made():
    """Returns when, and with what, a line of the results is made."""
    tools = {tool: importlib.metadata.version(tool) for tool in TOOLS}
    return {"date": datetime.date.today().isoformat(), "tools": tools}


def measure(name, size):
    """Returns what a line of the results tells of a network, exported here."""
    import numpy as np

    from auxzoo import models
    from auxzoo.data import open_images

    train, test = open_images("sample", "train"), open_images("sample", "test").sample(48, 0)
    network, preprocessing = build(name, size, train)
    pictures = next(iter(test.batches(preprocessing, 48)))[0].numpy()
    logits = network.predict(pictures, verbose=0)
    # What no conversion can do better than: Keras against itself, every value moved by about half its last digit.
    signs = np.random.default_rng(0).choice([-1, 1], pictures.shape)
    moved = network.predict((pictures * (1 + 6e-8 * signs)).astype("float32"), verbose=0)
    found = {
        "network": name,
        "pixels": size,
        "parameters": network.count_params(),
        "last_digit": float(abs(moved - logits).max() / abs(logits).max()),
        "largest_logit": float(abs(logits).max()),
        "deviation": float(logits.std(axis=0).mean()),  # from picture to picture
        **made(),
        "files": {},
    }
    description = models.Description((), preprocessing)
    # All at once is the fast way; one that fails must not hide the others.
    together = _export(network, description, FORMATS, train, test)
    for form in FORMATS:
        found["files"][form] = together.get(form) or _export(network, description, (form,), train, test)[form]
    if any(share_of_int8(found, form) > FAR for form in ("tflite_int8", "onnx_int8")):
        found["files"][WIDER] = _export(network, description, (WIDER,), train, test)[WIDER]
        rounded = with_rounded_weights(network).predict(pictures, verbose=0)
        found["rounded_weights"] = float(abs(rounded - logits).mean())
    return found


def with_rounded_weights(network):
    """Returns a copy of a network in Keras whose kernels are rounded as those of int8 files: a scale a channel."""
    import keras
    import numpy as np

    from auxzoo.export.folding import fold_batch_normalization

    folded = fold_batch_normalization(network)
    for layer in folded.layers:
        for weight in (weight for weight in layer.weights if weight.name.endswith("kernel")):
            kernel = weight.numpy()
            is_depthwise = isinstance(layer, keras.layers.DepthwiseConv2D) or weight.name == "depthwise_kernel"
            channels = kernel.ndim - (2 if is_depthwise else 1)
            others = tuple(axis for axis in range(kernel.ndim) if axis != channels)
            scale = np.maximum(abs(kernel).max(axis=others, keepdims=True), 1e-12) / 127
            weight.assign(np.round(kernel / scale) * scale)
    return folded


def share_of_int8(found, form):
    """Returns the mean difference of a file of whole numbers as a share of the logits' deviation; 0 without a file."""
    return found["files"].get(form, {}).get("mean_difference", 0.0) / found.get("deviation", 1.0)


def _export(network, description, formats, train, test):
    """Returns format -> what is told of its file, or why there is none; nothing where several fail together."""
    from auxzoo.child_process import ChildFailed
    from auxzoo.errors import UserError
    from auxzoo.export import export_files

    with tempfile.TemporaryDirectory() as folder:
        try:
            records = export_files(
                network, folder, formats, calibration=train, evaluation=test, description=description, name="net"
            )
        except (UserError, ChildFailed) as error:
            return {} if len(formats) > 1 else {formats[0]: {"reason": str(error).splitlines()[-1][:300]}}
    return {
        record["format"]: {"bytes": record["bytes"], **record["parity"]}
        if "refused" not in record
        else {"reason": record["refused"]}
        for record in records
    }


def cell(found, form):
    """Returns the cell of a table: parity of a file, or the reason why there is none."""
    file = found["files"].get(form, {"reason": found.get("reason", "not tried")})
    if "reason" in file:
        return file["reason"].replace("|", "/")
    if form in ("tflite_float32", "onnx"):
        share = file["largest_difference"] / found["largest_logit"]
        return f"{share:.0e}" if share < CLOSE else f"**differs: {share:.0e}**"
    share = share_of_int8(found, form)
    told = f"{share:.2f}, {file['same_prediction']:.0%}"
    if share <= FAR:
        return told
    wider = found["files"][WIDER]
    why = wider.get("reason", "").replace("|", "/") or f"{share_of_int8(found, WIDER):.2f}"
    return f"**far: {told}**; Keras, weights in int8: {found['rounded_weights'] / found['deviation']:.2f}; int16: {why}"


def table(lines):
    """Returns the Markdown page of all results."""
    dates = sorted({found["date"] for found in lines})
    tools = sorted({f"{tool} {version}" for found in lines for tool, version in found["tools"].items()})
    rows = [
        "# Networks of keras.applications, exported",
        "",
        f"`python benchmarks/keras_applications.py`, {', '.join(dates)};",
        f"{', '.join(tools)}; random weights, seed 0.",
        "",
        "Float files: the largest difference to Keras as a share of the largest logit. Int8 files: the mean",
        "difference as a share of how much logits vary from picture to picture, and how often the highest logit is",
        "the same one; random weights are no measure of what a trained network would lose. Where that share is above",
        "a half, so that it needs a reason: what Keras itself loses with kernels rounded to int8, and a file with",
        "activations of 16 bits. Where these agree, the conversion is right, and 8 bits are too coarse for these",
        "layers. Where there is no file, why. Last digit: the same share for Keras against itself, each value of the",
        "pictures moved by half its last digit; where that is large, random layers multiply roundings, and files that",
        "round elsewhere differ too.",
        "",
        f"{len(lines)} of {len(NETWORKS)} networks.",
        "",
        "| network | px | parameters | last digit | TFLite float32 | TFLite int8 | ONNX float32 | ONNX int8 |",
        "| --- | --: | --: | --- | --- | --- | --- | --- |",
    ]
    for found in lines:
        cells = " | ".join(cell(found, form) for form in FORMATS)
        own = f"{found['last_digit']:.0e}" if "last_digit" in found else "not measured"
        rows.append(f"| {found['network']} | {found['pixels']} | {found.get('parameters', 0):,} | {own} | {cells} |")
    return "\n".join([*rows, ""])


def main():
    """Runs what has no line yet, each network in a child process, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", default="benchmarks/keras_applications", help="folder (default: %(default)s)")
    parser.add_argument("--networks", help="comma-separated (default: all twenty)")
    parser.add_argument("--limit", type=int, default=1800, help="seconds a network (default: %(default)s)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, NETWORKS[arguments.one])))
        return
    names = list(NETWORKS) if arguments.networks is None else arguments.networks.split(",")
    if unknown := [name for name in names if name not in NETWORKS]:
        parser.error(f"--networks must be among {', '.join(NETWORKS)}; received {', '.join(unknown)}")
    folder = Path(arguments.to)
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "results.jsonl"
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    for name in names:
        if any(found["network"] == name for found in done):
            continue
        print(f"{name} ...", flush=True)
        done.append(_measure_apart(name, arguments.limit))
        with open(results, "a") as file:
            file.write(json.dumps(done[-1]) + "\n")
    done.sort(key=lambda found: list(NETWORKS).index(found["network"]))
    (folder / "README.md").write_text(table(done))
    print(table(done))


def _measure_apart(name, limit):
    command = [sys.executable, __file__, "--one", name]
    missing = {"network": name, "pixels": NETWORKS[name], **made(), "files": {}}
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, timeout=limit, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    except subprocess.TimeoutExpired:
        return missing | {"reason": f"not done in {limit} s"}
    if child.returncode != 0:
        return missing | {"reason": (child.stderr.strip().splitlines() or ["failed"])[-1][:300]}
    return json.loads(child.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
