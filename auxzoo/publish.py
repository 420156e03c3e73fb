"""Making an entry of the published zoo from two finished runs: with the auxiliary, and plain.

    python -m auxzoo.publish runs/NAME-auxiliary runs/NAME-plain --to models/published

Exports the compact network of the first run in every format, measures each file on the test images of its
recipe, and writes the entry's files, its card and its row of the index.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from auxzoo.commands.common import load_tensorflow
from auxzoo.errors import UserError
from auxzoo.files import read_json, write_json, written_aside

_COPIED = ("config.json", "model.weights.h5", "structure.json", "recipe.yaml")


def publish(auxiliary_run, plain_run, shelf):
    """Writes an entry and its row of the index.

    Args:
        auxiliary_run: folder of the finished run with the auxiliary; its compact network is published.
        plain_run: folder of the finished plain run of the same recipe.
        shelf: folder of the published entries.

    Returns:
        `Path` of the entry.

    Raises:
        UserError: if the runs differ in more than the auxiliary.
    """
    from auxzoo import models
    from auxzoo.export import export_files
    from auxzoo.models import zoo
    from auxzoo.training.recipe import read_recipe
    from auxzoo.training.run import open_data

    auxiliary_run, plain_run, shelf = Path(auxiliary_run), Path(plain_run), Path(shelf)
    recipe, plain_recipe = (read_recipe(run / "recipe.yaml") for run in (auxiliary_run, plain_run))
    if recipe.model_copy(update={"auxiliary": plain_recipe.auxiliary}) != plain_recipe:
        raise UserError(f"`{plain_run}` must be of the recipe of `{auxiliary_run}` but for the auxiliary.")
    runs = {"auxiliary": read_json(auxiliary_run / "metrics.json"), "plain": read_json(plain_run / "metrics.json")}
    network = models.load(auxiliary_run)
    costs = models.measure_costs(network)
    train, _, test = open_data(recipe)
    with tempfile.TemporaryDirectory() as folder:
        records = export_files(network, folder, calibration=train, evaluation=test, name=recipe.name, progress=print)

    metrics = {"runs": runs, "files": records}
    entry = shelf / recipe.name
    entry.mkdir(parents=True, exist_ok=True)
    for file in _COPIED:
        shutil.copyfile(auxiliary_run / file, entry / file)
    # The recipe that others follow has no folder of this machine in it.
    public = recipe.model_copy(update={"data": recipe.data.model_copy(update={"data_dir": None})})
    public.save(entry / "recipe.yaml")
    write_json(entry / "metrics.json", metrics)
    with written_aside(entry / "README.md") as temporary:
        temporary.write_text(make_card(public, network, costs, metrics), encoding="utf-8")
    index = read_json(shelf / zoo.INDEX_FILE)
    index[recipe.name] = zoo.index_entry(
        entry,
        {
            "data": runs["auxiliary"]["title"],
            "input": list(network.input_shape[1:]),
            "parameters": costs.parameters,
            "macs": costs.macs,
            "accuracy": runs["auxiliary"]["test"]["accuracy"],
        },
    )
    write_json(shelf / zoo.INDEX_FILE, dict(sorted(index.items())))
    return entry


def make_card(recipe, network, costs, metrics):
    """Returns the card of an entry, Markdown; every figure is from `metrics` or counted."""
    runs, files = metrics["runs"], metrics["files"]
    joint, plain = runs["auxiliary"], runs["plain"]
    made_with = joint["made_with"]
    arguments = ", ".join(f"{key}={value!r}" for key, value in recipe.network.arguments.items())
    loss = 100 * (
        next(file for file in files if file["format"] == "tflite_float32")["accuracy"]["accuracy"]
        - next(file for file in files if file["format"] == "tflite_int8")["accuracy"]["accuracy"]
    )
    lines = [
        f"# {recipe.name}",
        "",
        f"{recipe.network.architecture}({arguments}), trained on {joint['title']}.",
        f"{costs.parameters:,} parameters, {costs.macs / 1e6:.2f} million multiply-accumulates, input "
        f"{'x'.join(map(str, network.input_shape[1:]))}, values `x / 127.5 - 1`, output {network.output.shape[-1]} "
        "logits.",
        "",
        "```python",
        "import auxzoo",
        "",
        f'compact = auxzoo.load("{recipe.name}")                 # with its head',
        f'compact = auxzoo.load("{recipe.name}", num_classes=5)  # a fresh one',
        "```",
        "",
        "## Training",
        "",
        f"`auxzoo train {recipe.name}` (`recipe.yaml` beside this card), and for the plain run",
        f"`auxzoo train {recipe.name} --structure none`. {joint['images']['train']:,} training images; "
        f"{joint['images']['validation']:,} of the training split held out for validation;",
        f"{recipe.epochs} epochs, seed {recipe.seed}, {recipe.compute.threads or 'all'} thread(s), on "
        f"{made_with['processor']}, TensorFlow {made_with['tensorflow']}, Keras {made_with['keras']}. One seed: this "
        "tells what the weights",
        "are worth, not whether the auxiliary helps. The two cores were shared with other work: read the minutes so.",
        "",
        "| run | validation accuracy % | test accuracy % | minutes |",
        "| --- | --- | --- | --- |",
    ]
    for title, run in (("with auxiliary (published)", joint), ("plain", plain)):
        lines.append(
            f"| {title} | {100 * run['validation']['accuracy']:.2f} | {100 * run['test']['accuracy']:.2f} "
            f"| {run['training_seconds'] / 60:.0f} |"
        )
    history = joint["history"]
    lines += [
        "",
        f"The joint network (mean of both heads) had {100 * history['val_joint_accuracy'][-1]:.2f} % on the "
        f"validation images after the last epoch, the auxiliary's own head "
        f"{100 * history['val_auxiliary_accuracy'][-1]:.2f} %, "
        f"the compact network {100 * history['val_accuracy'][-1]:.2f} %.",
        "",
        "## Files",
        "",
        f"`auxzoo export {recipe.name} --data {recipe.data.source}`; accuracy on the "
        f"{files[0]['accuracy']['images']:,} test images with the very file; latency with one thread on the "
        "processor above.",
        f"The Keras network has {100 * files[0]['keras_accuracy']:.2f} %.",
        "",
        "| file | kB | accuracy % | largest difference of a logit | ms | SHA-256 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for file in files:
        lines.append(
            f"| {file['file']} | {file['bytes'] / 1000:,.0f} | {100 * file['accuracy']['accuracy']:.2f} "
            f"| {file['parity']['largest_difference']:.1e} | {file['latency']['median_ms']:.2f} "
            f"| `{file['sha256'][:16]}…` |"
        )
    lines += [
        "",
        f"int8 loses {loss:.2f} points against float32. The full checksums, operators, calibration and tools are in "
        "`metrics.json`.",
        "",
        "## Data and licence",
        "",
    ]
    if recipe.data.source == "tfds:cifar10_jpeg":
        lines += [
            "CIFAR-10 (Krizhevsky, 2009), in a copy re-encoded as JPEG; a user would take `tfds:cifar10`",
            "(`--set data.source=tfds:cifar10`), whose pixels differ a little.",
            "The weights are Apache-2.0 like the code.",
        ]
    else:
        lines += [f"{joint['title']}. The weights are Apache-2.0 like the code."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("auxiliary_run", help="folder of the run with the auxiliary")
    parser.add_argument("plain_run", help="folder of the plain run")
    parser.add_argument("--to", required=True, help="folder of the published entries")
    given = parser.parse_args()
    load_tensorflow()
    print(publish(given.auxiliary_run, given.plain_run, given.to))
