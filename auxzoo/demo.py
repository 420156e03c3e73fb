"""The whole road in minutes, on packaged images: pull, fine-tune without and with an auxiliary, export, measure."""

import os
import time
from pathlib import Path

import keras

from auxzoo import models
from auxzoo.auxiliary import Structure, attach
from auxzoo.commands.common import keras_verbosity, make_table, percent, print_step, print_table, record_rows
from auxzoo.data import Augmentation, open_images
from auxzoo.errors import UserError
from auxzoo.export import export_files, open_file
from auxzoo.files import numbered_folder
from auxzoo.machine import processor_name
from auxzoo.models import zoo
from auxzoo.prediction import Predictor, draw_some
from auxzoo.report import write_export_report
from auxzoo.training import Objective, Optimization, fit
from auxzoo.training.evaluation import evaluate

ENTRY = "mobilenet_v2_050_cifar10"
EPOCHS = 3
SEED = 0
_PICTURES = 40


def run_demo(folder=None):
    """Fine-tunes a published network on the packaged images, without and with an auxiliary, and exports it.

    Args:
        folder: where the files go, empty or new; a new numbered folder under `runs/` if `None`.

    Returns:
        `Path` of the folder: exported files with their records, the page about them, and `predictions.png`.

    Raises:
        UserError: if `folder` is not empty.
    """
    started = time.monotonic()
    folder = Path(folder) if folder is not None else numbered_folder("runs", "demo")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"`--to` must be an empty or new folder. Received: `{folder}`")
    folder.mkdir(parents=True, exist_ok=True)  # now, so that a place that cannot be written is told before the work
    train, test = open_images("sample", "train"), open_images("sample", "test")
    print(f"{ENTRY}, pretrained on CIFAR-10, gets a new head and learns {train.size} images of Fashion-MNIST.")

    accuracies = {}
    for arm in ("without", "with"):
        keras.utils.set_random_seed(SEED)  # the same new head for both
        compact = models.load(ENTRY, num_classes=10, labels=train.labels, preprocessing_fit="pad")
        network = compact
        if arm == "with":
            network = attach(compact, Structure.read(zoo.entry_folder(ENTRY) / "structure.json"))
        print(f"Fine-tuning {arm} the auxiliary: {EPOCHS} epochs")
        fit(
            network,
            train,
            epochs=EPOCHS,
            objective=Objective(),
            optimization=Optimization(learning_rate=0.05, weight_decay=2e-3, ema_momentum=0.95),
            augmentation=Augmentation(flip=True, shift=2),
            seed=SEED,
            compilation="graph",
            verbose=keras_verbosity(),
        )
        accuracies[arm] = evaluate(compact, test)["accuracy"]

    print("Exporting the compact network of the run with the auxiliary")
    records = export_files(
        compact,
        folder,
        calibration=train,
        evaluation=test,
        name="fashion_mnist",
        progress=print_step,
    )
    write_export_report(folder / "fashion_mnist.html", compact, records, folder, test)
    file = folder / "fashion_mnist_int8.tflite"
    predictor = Predictor(open_file(file).predict, models.describe(compact))
    title = f"Predictions of {file.name}"
    draw_some(predictor, test, _PICTURES, folder / "predictions.png", title, seed=SEED, columns=8)
    _print_summary(folder, compact, test, accuracies, records)
    print(f"{time.monotonic() - started:.0f} s on {os.cpu_count()} cores of {processor_name()}")
    return folder


def _print_summary(folder, compact, test, accuracies, records):
    costs = models.measure_costs(compact)
    table = make_table(
        f"{ENTRY} on Fashion-MNIST, {test.size} test images, one seed: an illustration, not evidence",
        *["network or file", "parameters>", "million MACs>", "kB>", "accuracy %>", "ms, one thread>"],
    )
    for arm, accuracy in accuracies.items():
        name = f"fine-tuned {arm} auxiliary (Keras)"
        table.add_row(name, f"{costs.parameters:,}", f"{costs.macs / 1e6:.2f}", "", percent(accuracy), "")
    table.add_section()
    for file, size, accuracy, _, latency in record_rows(records):
        table.add_row(file, "", "", size, accuracy, latency)
    print_table(table)
    print(f"The files, exported after the run with the auxiliary, are in {folder}")
    print("There fashion_mnist.html tells all of them, and predictions.png shows what the int8 file predicts.")
