"""`auxzoo train RECIPE`."""

import os

from auxzoo.commands.common import load_tensorflow, make_table, percent, print_table


def add_arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument("recipe", help="YAML file, or the name of a packaged recipe")
    parser.add_argument("--to", metavar="DIR", help="folder of the run (default: a new numbered one in runs/)")
    parser.add_argument("--data-dir", help="folder of prepared tensorflow_datasets")
    parser.add_argument("--structure", metavar="FILE", help="structure of the auxiliary: default, none or a JSON file")
    parser.add_argument("--compilation", choices=("auto", "xla", "graph"), help="whether XLA compiles the steps")
    parser.add_argument("--onednn", choices=("auto", "on", "off"), help="whether TensorFlow uses oneDNN")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting, such as epochs=3")
    parser.add_argument("--overwrite", action="store_true", help="delete a finished or foreign run in the folder")
    parser.add_argument("--verbose", choices=("0", "1", "2"), default="auto", help="0 silent, 1 bar, 2 line an epoch")


def run(arguments):
    """Carries out a recipe, or continues it."""
    from pathlib import Path

    from auxzoo.files import read_json
    from auxzoo.training.compilation import COMPUTE_FILE, measure_compute
    from auxzoo.training.recipe_file import read_settings

    overrides = list(arguments.set)
    for key, value in (
        ("data.data_dir", arguments.data_dir),
        ("auxiliary.structure", arguments.structure),
        ("compute.compilation", arguments.compilation),
        ("compute.onednn", arguments.onednn),
    ):
        overrides += [] if value is None else [f"{key}={value}"]
    settings = read_settings(arguments.recipe, overrides)

    # oneDNN must be chosen before TensorFlow is imported, so its measurement runs in children, first of all.
    onednn, measured = (settings.get("compute") or {}).get("onednn"), None
    if onednn == "auto":
        kept = Path(arguments.to or "") / COMPUTE_FILE
        if arguments.to and kept.exists() and not arguments.overwrite:
            measured = read_json(kept)
        else:
            print("Measuring training steps with and without oneDNN and XLA ...")
            measured = measure_compute(settings)
            for setting, rate in measured["images_per_second"].items():
                print(f"  {setting}: {rate} images/s")
        onednn = measured["onednn"]
    if onednn is not None:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = str(int(onednn))

    load_tensorflow()
    from auxzoo.training.recipe import Recipe
    from auxzoo.training.run import METRICS_FILE, configure_compute, train

    recipe = Recipe.parse(settings, f"The recipe `{arguments.recipe}`")
    configure_compute(recipe.compute)
    verbose = arguments.verbose if arguments.verbose == "auto" else int(arguments.verbose)
    folder = train(recipe, arguments.to, overwrite=arguments.overwrite, measured=measured, verbose=verbose)
    metrics = read_json(folder / METRICS_FILE)
    table = make_table(f"{recipe.name}: {metrics['title']}", "images", "network", "accuracy %>")
    for split in ("validation", "test"):
        for name, value in metrics[split].items():
            if name != "images":
                label = f"{metrics[split]['images']} {split}"
                table.add_row(label, name.removesuffix("accuracy").rstrip("_") or "compact", percent(value))
    print_table(table)
    print(f"The compact network is in {folder}; `auxzoo export {folder}` writes its files.")
