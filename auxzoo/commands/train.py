"""`auxzoo train RECIPE`."""

from auxzoo.commands.common import as_override, choose_onednn, keras_verbosity, load_tensorflow, make_table, print_table
from auxzoo.metric_names import main_figures


def add_arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument("recipe", help="YAML file, or a packaged recipe: fine_tune, or the name of a published network")
    parser.add_argument(
        "--to", metavar="DIR", help="folder of the run; the same again continues it (default: a new one in runs/)"
    )
    parser.add_argument("--data-dir", help="folder of prepared tensorflow_datasets")
    parser.add_argument("--download", action="store_true", help="let tensorflow_datasets fetch a missing set")
    parser.add_argument("--skip-broken", action="store_true", help="leave broken images out and count them")
    parser.add_argument(
        "--structure",
        metavar="FILE",
        help="structure of the auxiliary: default, none, a JSON file, or published (of an entry that is fine-tuned)",
    )
    parser.add_argument("--compilation", choices=("auto", "xla", "graph"), help="whether XLA compiles the steps")
    parser.add_argument("--onednn", choices=("auto", "on", "off"), help="whether TensorFlow uses oneDNN")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting, such as epochs=3")
    parser.add_argument("--overwrite", action="store_true", help="delete a finished or another run in the folder")
    parser.add_argument("--verbose", choices=("0", "1", "2"), default="auto", help="0 silent, 1 bar, 2 line an epoch")


def run(arguments):
    """Carries out a recipe, or continues it."""
    from pathlib import Path

    from auxzoo.files import numbered_folder, read_json
    from auxzoo.training.recipe_file import read_settings

    overrides = [
        *arguments.set,
        *as_override("data.data_dir", arguments.data_dir),
        *as_override("auxiliary.structure", arguments.structure),
    ]
    for key, value in (
        ("compute.compilation", arguments.compilation),
        ("compute.onednn", arguments.onednn),
        ("data.skip_broken", arguments.skip_broken or None),
        ("data.download", arguments.download or None),
    ):
        overrides += [] if value is None else [f"{key}={value}"]
    settings = read_settings(arguments.recipe, overrides)

    measured = choose_onednn(settings, arguments)
    load_tensorflow()
    from auxzoo.training.recipe import Recipe
    from auxzoo.training.run import train
    from auxzoo.training.run_folder import METRICS_FILE

    recipe = Recipe.parse(settings, f"The recipe `{arguments.recipe}`")
    folder = Path(arguments.to) if arguments.to else numbered_folder("runs", recipe.name)
    print(f"The run goes to {folder}; if it is cut off, the same command with --to {folder} continues it.", flush=True)
    verbose = keras_verbosity() if arguments.verbose == "auto" else int(arguments.verbose)
    train(recipe, folder, overwrite=arguments.overwrite, measured=measured, verbose=verbose)
    metrics = read_json(folder / METRICS_FILE)
    is_classifier = "accuracy" in metrics["validation"]
    columns = ("network", "accuracy %>") if is_classifier else ("measure", "value>")
    table = make_table(recipe.name, "images", *columns, caption=metrics["title"])
    for split in ("validation", "test"):
        for name, text in main_figures(metrics[split] or {}):
            if is_classifier:
                name, text = name.removesuffix("accuracy").rstrip("_") or "compact", text.removesuffix(" %")
            table.add_row(f"{metrics[split]['images']} {split}", name, text)
    print_table(table)
    skipped = metrics["broken_images_left_out"]
    if skipped:
        print(f"{len(skipped)} broken images left out: {', '.join(skipped[:5])}")
    print(f"The compact network is in {folder}; `auxzoo export {folder} --data ...` writes its files.")
