"""`auxzoo search RECIPE`."""

from auxzoo.commands.common import keras_verbosity, load_tensorflow


def add_arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument("recipe", help="YAML file, or the name of a packaged recipe; its `search` group is optional")
    parser.add_argument("--to", metavar="DIR", help="folder of the search (default: a new numbered one in runs/)")
    parser.add_argument("--method", choices=("gradient", "halving", "evolution"), help="how to search")
    parser.add_argument("--links", type=int, help="links of the structure that is found")
    parser.add_argument("--step-cost", type=float, help="the most that a joint step may take, in plain steps")
    parser.add_argument("--data-dir", help="folder of prepared tensorflow_datasets")
    parser.add_argument("--download", action="store_true", help="let tensorflow_datasets fetch a missing set")
    parser.add_argument("--skip-broken", action="store_true", help="leave broken images out and count them")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting, such as epochs=3")
    parser.add_argument("--overwrite", action="store_true", help="delete a finished or another search in the folder")
    parser.add_argument("--verbose", choices=("0", "1", "2"), default="auto", help="0 silent, 1 bar, 2 line an epoch")


def run(arguments):
    """Searches the structure of an auxiliary, or continues a search."""
    import os
    from pathlib import Path

    from auxzoo.files import numbered_folder, read_json
    from auxzoo.training.recipe_file import read_settings

    overrides = list(arguments.set)
    for key, value in (
        ("search.method", arguments.method),
        ("search.links", arguments.links),
        ("search.step_cost", arguments.step_cost),
        ("data.data_dir", arguments.data_dir),
        ("data.download", arguments.download or None),
        ("data.skip_broken", arguments.skip_broken or None),
    ):
        overrides += [] if value is None else [f"{key}={value}"]
    settings = read_settings(arguments.recipe, overrides)
    compute = settings.get("compute")
    onednn = compute.get("onednn") if isinstance(compute, dict) else None
    if isinstance(onednn, bool):
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = str(int(onednn))

    load_tensorflow()
    from auxzoo.training.run_folder import METRICS_FILE
    from auxzoo.training.search import search
    from auxzoo.training.search_settings import SearchRecipe

    recipe = SearchRecipe.parse(settings, f"The recipe `{arguments.recipe}`")
    folder = Path(arguments.to) if arguments.to else numbered_folder("runs", f"{recipe.name}_search")
    print(
        f"The search goes to {folder}; if it is cut off, the same command with --to {folder} continues it.", flush=True
    )
    verbose = keras_verbosity() if arguments.verbose == "auto" else int(arguments.verbose)
    search(recipe, folder, overwrite=arguments.overwrite, verbose=verbose)
    metrics = read_json(folder / METRICS_FILE)
    cost = metrics["cost"]
    print(
        f"Found: {metrics['links']} links; a joint step takes {metrics['step_cost']:.2f} plain ones. "
        f"The search took {cost['steps']:,} steps, {cost['seconds'] / 60:.1f} minutes."
    )
    print(f"`auxzoo train {arguments.recipe} --structure {folder / 'structure.json'}` trains with it.")
