"""`auxzoo train RECIPE`."""

from auxzoo.commands.common import (
    add_run_arguments,
    choose_onednn,
    load_tensorflow,
    make_table,
    print_table,
    run_overrides,
    verbosity,
)
from auxzoo.metric_names import main_figures


def add_arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument(
        "recipe",
        help="YAML file, or a packaged recipe: fine_tune, fine_tune_photographs, or the name of a published network",
    )
    parser.add_argument(
        "--structure",
        metavar="FILE",
        help="structure of the auxiliary: default, none, a JSON file, or published (of an entry that is fine-tuned)",
    )
    parser.add_argument("--compilation", choices=("auto", "xla", "graph"), help="whether XLA compiles the steps")
    parser.add_argument("--onednn", choices=("auto", "on", "off"), help="whether TensorFlow uses oneDNN")
    add_run_arguments(parser, "run")


def run(arguments):
    """Carries out a recipe, or continues it."""
    import functools
    from pathlib import Path

    from auxzoo.files import numbered_folder, read_json
    from auxzoo.training.recipe_file import read_settings

    settings = read_settings(
        arguments.recipe,
        run_overrides(
            arguments,
            ("auxiliary.structure", arguments.structure),
            ("compute.compilation", arguments.compilation),
            ("compute.onednn", {"on": True, "off": False}.get(arguments.onednn, arguments.onednn)),
        ),
    )

    measured = choose_onednn(settings, arguments)
    load_tensorflow()
    from auxzoo.training.recipe import Recipe
    from auxzoo.training.run import train
    from auxzoo.training.run_folder import METRICS_FILE

    recipe = Recipe.parse(settings, f"The recipe `{arguments.recipe}`")
    folder = Path(arguments.to) if arguments.to else numbered_folder("runs", recipe.name)
    print(f"The run goes to {folder}; if it is cut off, the same command with --to {folder} continues it.", flush=True)
    train(
        *(recipe, folder),
        overwrite=arguments.overwrite,
        measured=measured,
        progress=functools.partial(print, flush=True),
        verbose=verbosity(arguments),
    )
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
    print(f"The compact network is in {folder}; `auxzoo export {folder}` writes its files.")
