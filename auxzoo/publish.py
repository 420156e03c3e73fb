"""Making an entry of the published zoo from two finished runs: with the auxiliary, and plain.

    python -m auxzoo.publish runs/NAME-auxiliary runs/NAME-plain --to models/published
    python -m auxzoo.publish --renew NAME --to models/published

Exports the compact network of the first run in the default formats, measures each file on the test images of its
recipe, and writes the entry's files, its card and its row of the index. The second form does so again for an entry
that is there, when `auxzoo export` writes other files than those its card speaks of: no training.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

from auxzoo.commands.common import load_tensorflow, percent
from auxzoo.errors import UserError
from auxzoo.files import read_json, sha256, write_json

# More loss than this, in points of accuracy, wants a reason in the card.
LARGEST_INT8_LOSS = 1.0
# What a card says of its data and licence, by the recipe's source.
DATA_NOTES = {
    "tfds:cifar10_jpeg": (
        "CIFAR-10 (Krizhevsky, 2009), in a copy re-encoded as JPEG; a user would take `tfds:cifar10`",
        "(`--set data.source=tfds:cifar10 --download`), whose pixels differ a little.",
    ),
}


def publish(auxiliary_run, plain_run, shelf, notes=(), int8_reason=None):
    """Writes an entry and its row of the index.

    Args:
        auxiliary_run: folder of the finished run with the auxiliary; its compact network is published.
        plain_run: folder of the finished plain run of the same recipe.
        shelf: folder of the published entries.
        notes: sentences on how the runs were made, for the card.
        int8_reason: sentence for the card that says why int8 loses more than a point, if it does.

    Returns:
        `Path` of the entry.

    Raises:
        UserError: if the runs differ in more than the auxiliary, are swapped, not finished or not tested, their
            weights were changed, or int8 loses more than a point without a reason.
    """
    from auxzoo.models import zoo
    from auxzoo.training.recipe import read_recipe

    auxiliary_run, plain_run, shelf = Path(auxiliary_run), Path(plain_run), Path(shelf)
    recipe, plain_recipe = (read_recipe(run / "recipe.yaml") for run in (auxiliary_run, plain_run))
    if recipe.model_copy(update={"auxiliary": plain_recipe.auxiliary}) != plain_recipe:
        raise UserError(f"`{plain_run}` must be of the recipe of `{auxiliary_run}` but for the auxiliary.")
    runs = {"auxiliary": read_json(auxiliary_run / "metrics.json"), "plain": read_json(plain_run / "metrics.json")}
    for run, metrics, is_joint in ((auxiliary_run, runs["auxiliary"], True), (plain_run, runs["plain"], False)):
        if metrics["auxiliary"] is not is_joint:
            raise UserError(f"`{run}` must be the run {'with' if is_joint else 'without'} the auxiliary.")
        if metrics["test"] is None:
            raise UserError(f"`{run}` must be measured on a test split.")
        if sha256(run / zoo.WEIGHTS_FILE) != metrics["weights_sha256"]:
            raise UserError(f"`{run / zoo.WEIGHTS_FILE}` is not the file that {run}/metrics.json speaks of.")
    return _write_entry(auxiliary_run, recipe, runs, shelf, notes, int8_reason)


def renew(name, shelf, notes=(), int8_reason=None, data_dir=None):
    """Writes an entry again with files as `auxzoo export` makes them today; its weights and runs stay what they are.

    Args:
        name: name of the entry.
        shelf: folder of the published entries.
        notes, int8_reason: see `publish`; what the old card had is not taken over.
        data_dir: folder of prepared `tensorflow_datasets`, `None` for theirs; or the folder in which that of the
            pictures lies, of which the entry's recipe has the name alone.

    Returns:
        `Path` of the entry.

    Raises:
        UserError: if there is no such entry, its files are not those of the index, or int8 loses more than a point
            without a reason.
    """
    from auxzoo.models import zoo
    from auxzoo.training.recipe import read_recipe

    if name not in (index := zoo.read_index(shelf)):
        raise UserError(f"`name` must be one of {', '.join(index) or 'no entry'}. Received: {name!r}")
    entry = zoo.entry_folder(name, shelf)
    recipe = read_recipe(entry / "recipe.yaml")
    data, (kind, _, folder) = {"data_dir": data_dir}, recipe.data.source.partition(":")
    if kind == "folder":
        data["source"] = f"folder:{Path(data_dir or '') / folder}"
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update=data)})
    return _write_entry(entry, recipe, read_json(entry / "metrics.json")["runs"], Path(shelf), notes, int8_reason)


def _write_entry(source, recipe, runs, shelf, notes, int8_reason):
    """Exports and measures the network of a folder, and writes its entry and its row of the index."""
    from auxzoo import models
    from auxzoo.export import export_files
    from auxzoo.models import zoo

    network = models.load(source)
    if not network.description.is_classifier:  # what a card tells of other tasks is not written yet
        raise UserError(f"`{source}` must hold a classifier. Received: {network.description.kinds}")
    costs = models.measure_costs(network)
    # As `auxzoo export NAME --data SOURCE` does, so that readers get the very files of the card.
    train, test = recipe.data.open(recipe.data.train_split), recipe.data.open(recipe.data.test_split)
    with tempfile.TemporaryDirectory() as folder:
        records = export_files(
            network,
            folder,
            calibration=train,
            evaluation=test,
            name=recipe.name,
            source=recipe.name,
            licence=zoo.LICENCE,
            progress=print,
        )
    refused = [f"{record['file']}: {record['refused']}" for record in records if "refused" in record]
    if refused:
        raise UserError(f"`{source}` must hold a network that goes into every format. Received: {', '.join(refused)}")
    loss = int8_loss(records)
    if loss > LARGEST_INT8_LOSS and not int8_reason:
        raise UserError(f"`int8_reason` must say why int8 loses {loss:.2f} points, more than {LARGEST_INT8_LOSS}.")

    metrics = {"runs": runs, "files": records}
    entry = shelf / recipe.name
    public = recipe.public()
    with tempfile.TemporaryDirectory(dir=shelf) as folder:
        made = Path(folder) / recipe.name
        made.mkdir()
        for file in (zoo.CONFIG_FILE, zoo.WEIGHTS_FILE, zoo.STRUCTURE_FILE):
            shutil.copyfile(source / file, made / file)
        public.save(made / zoo.RECIPE_FILE)
        write_json(made / "metrics.json", metrics)
        card = make_card(public, network, costs, metrics, notes, int8_reason)
        (made / "README.md").write_text(card, encoding="utf-8")
        before = Path(folder) / "before"
        if entry.exists():
            entry.rename(before)
        try:
            made.rename(entry)
            _write_index(shelf, entry, network, costs, metrics)
        except BaseException:
            if entry.exists():
                shutil.rmtree(entry)
            if before.exists():
                before.rename(entry)
            raise
    return entry


def _write_index(shelf, entry, network, costs, metrics):
    """Writes the row of an entry into the index of the shelf."""
    from auxzoo.models import zoo

    run, index = metrics["runs"]["auxiliary"], read_json(shelf / zoo.INDEX_FILE)
    (int8,) = [record for record in metrics["files"] if record["format"] == "tflite_int8"]
    index[entry.name] = zoo.index_entry(
        entry,
        {
            "data": run["title"],
            "input": list(network.input_shape[1:]),
            "parameters": costs.parameters,
            "macs": costs.macs,
            "accuracy": run["test"]["accuracy"],
            "int8_accuracy": int8["accuracy"]["accuracy"],
            "int8_bytes": int8["bytes"],
        },
    )
    write_json(shelf / zoo.INDEX_FILE, dict(sorted(index.items())))


def int8_loss(records):
    """Returns how many points of accuracy the int8 file loses against the float32 one."""
    accuracy = {record["format"]: record["accuracy"]["accuracy"] for record in records}
    return 100 * (accuracy["tflite_float32"] - accuracy["tflite_int8"])


def make_card(recipe, network, costs, metrics, notes=(), int8_reason=None):
    """Returns the card of an entry, Markdown; every figure is from `metrics` or counted."""
    from auxzoo.models import zoo

    runs, files = metrics["runs"], metrics["files"]
    loss = int8_loss(files)
    joint, plain = runs["auxiliary"], runs["plain"]
    made_with = joint["made_with"]
    arguments = ", ".join(f"{key}={value!r}" for key, value in recipe.network.arguments.items())
    origin = f"{recipe.network.architecture}({arguments})"
    if recipe.network.entry is not None:
        origin = f"Fine-tuned from {Path(recipe.network.entry).name}"
    preprocessing = network.description.preprocessing
    values = "x / 127.5 - 1"
    if (preprocessing.scale, preprocessing.offset) != ((1 / 127.5,) * 3, (-1.0,) * 3):
        values = f"x * {preprocessing.scale} + {preprocessing.offset}"
    lines = [
        f"# {recipe.name}",
        "",
        f"{origin}, trained on {joint['title']}.",
        f"{costs.parameters:,} parameters, {costs.macs / 1e6:.2f} million multiply-accumulates, input "
        f"{'x'.join(map(str, network.input_shape[1:]))}, values `{values}`, output {network.output.shape[-1]} logits.",
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
        f"{joint['images']['validation']:,} of the training split",
        f"held out for validation; {recipe.epochs} epochs, seed {recipe.seed}, {recipe.compute.threads or 'all'} "
        f"thread(s) on {made_with['processor']}, TensorFlow {made_with['tensorflow']},",
        f"Keras {made_with['keras']}.",
        "One seed: this tells what the weights are worth, not whether the auxiliary helps.",
        *notes,
        "",
        "| run | validation accuracy % | test accuracy % | minutes |",
        "| --- | --- | --- | --- |",
    ]
    for title, run in (("with auxiliary (published)", joint), ("plain", plain)):
        lines.append(
            f"| {title} | {percent(run['validation']['accuracy'])} | {percent(run['test']['accuracy'])} "
            f"| {run['training_seconds'] / 60:.0f} |"
        )
    validation = joint["validation"]
    lines += [
        "",
        "On the validation images the joint network (mean of all heads) has "
        f"{percent(validation['joint_accuracy'])} %,",
        f"the auxiliary alone {percent(validation['auxiliary_accuracy'])} %, the compact network "
        f"{percent(validation['accuracy'])} %.",
        "",
        "## Files",
        "",
        f"`auxzoo export {recipe.name} --data {recipe.data.source}`; accuracy on the "
        f"{files[0]['accuracy']['images']:,} test images with the very file;",
        f"latency of one image with one thread on {files[0]['processor']}.",
        f"The Keras network has {percent(files[0]['keras_accuracy'])} %.",
        "",
        "| file | kB | accuracy % | largest difference of a logit | ms | SHA-256 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for file in files:
        lines.append(
            f"| {file['file']} | {file['bytes'] / 1000:,.0f} | {percent(file['accuracy']['accuracy'])} "
            f"| {file['parity']['largest_difference']:.1e} | {file['latency']['median_ms']:.2f} "
            f"| `{file['sha256'][:16]}…` |"
        )
    lines += [
        "",
        f"int8 {'loses' if loss >= 0 else 'gains'} {abs(loss):.2f} points against float32. The full checksums, "
        "operators, calibration and tools are in `metrics.json`.",
        *([int8_reason] if int8_reason else []),
        "",
        "## Data and licence",
        "",
        *DATA_NOTES.get(recipe.data.source, (f"{joint['title']}.",)),
        f"The weights are {zoo.LICENCE} like the code.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", help="folders of the run with the auxiliary, and of the plain run")
    parser.add_argument("--renew", metavar="NAME", help="in the place of runs: an entry whose files are made again")
    parser.add_argument("--data-dir", help="for --renew: folder in which the data lie")
    parser.add_argument("--to", required=True, help="folder of the published entries")
    parser.add_argument("--note", action="append", default=[], help="a sentence on how the runs were made")
    parser.add_argument("--int8-reason", help="why int8 loses more than a point, if it does")
    given = parser.parse_args()
    if len(given.runs) != (0 if given.renew else 2):
        parser.error(f"give two runs, or --renew NAME. Received: {given.runs}, --renew {given.renew}")
    if given.data_dir and not given.renew:
        parser.error(f"--data-dir may be given only with --renew. Received: --data-dir {given.data_dir}")
    load_tensorflow()
    try:
        if given.renew:
            print(renew(given.renew, given.to, given.note, given.int8_reason, given.data_dir))
        else:
            print(publish(*given.runs, given.to, given.note, given.int8_reason))
    except UserError as error:
        parser.error(str(error))
