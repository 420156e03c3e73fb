"""`auxzoo search RECIPE`."""

from auxzoo.commands.common import (
    add_run_arguments,
    choose_onednn,
    load_tensorflow,
    make_table,
    print_table,
    run_overrides,
    verbosity,
)


def add_arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument("recipe", help="YAML file, or a packaged recipe; its `search` group is optional")
    parser.add_argument(
        "--method",
        choices=("gradient", "halving", "evolution"),
        help="how to search (default: the recipe's, else gradient)",
    )
    parser.add_argument("--links", type=int, help="most links of the structure (default: the recipe's, else 6)")
    parser.add_argument(
        "--step-cost",
        type=float,
        help="most that a joint step may take, in plain steps (default: the recipe's, else any)",
    )
    add_run_arguments(parser, "search")


def run(arguments):
    """Searches the structure of an auxiliary, or continues a search."""
    from pathlib import Path

    from auxzoo.files import numbered_folder, read_json
    from auxzoo.training.recipe_file import read_settings

    settings = read_settings(
        arguments.recipe,
        run_overrides(
            arguments,
            ("search.method", arguments.method),
            ("search.links", arguments.links),
            ("search.step_cost", arguments.step_cost),
        ),
    )
    compute = settings.get("compute")
    if isinstance(compute, dict) and compute.get("compilation", "auto") == "auto":
        compute = {**compute, "compilation": "graph"}  # `search` does not time XLA
    measured = choose_onednn({**settings, "compute": compute}, arguments)

    load_tensorflow()
    from auxzoo.auxiliary import Structure
    from auxzoo.training.run_folder import METRICS_FILE, RECIPE_FILE, STRUCTURE_FILE
    from auxzoo.training.search import search
    from auxzoo.training.search_settings import SearchRecipe

    recipe = SearchRecipe.parse(settings, f"The recipe `{arguments.recipe}`")
    folder = Path(arguments.to) if arguments.to else numbered_folder("runs", f"{recipe.name}_search")
    print(
        f"The search goes to {folder}; if it is cut off, the same command with --to {folder} continues it.", flush=True
    )
    search(recipe, folder, overwrite=arguments.overwrite, measured=measured, verbose=verbosity(arguments))
    metrics = read_json(folder / METRICS_FILE)
    cost = metrics["cost"]
    structure = Structure.read(folder / STRUCTURE_FILE)
    print_table(_table_of_nodes(structure))
    print_table(_table_of_links(structure, metrics) if "link_worths" in metrics["found"] else _table_of_tries(metrics))
    print(
        f"Found: {metrics['links']} links; a joint step takes {metrics['step_cost']:.2f} plain ones. "
        f"The search took {cost['steps']:,} steps, {cost['seconds'] / 60:.1f} minutes."
    )
    print(f"`auxzoo train {folder / RECIPE_FILE} --structure {folder / STRUCTURE_FILE}` trains with it.")


def _table_of_nodes(structure):
    table = make_table("The structure", "node", "reads", "operation", "channels>")
    for node in structure.nodes:
        table.add_row(node.name, ", ".join(node.links) or "the node before", node.operation, str(node.channels))
    return table


def _table_of_links(structure, metrics):
    """What the gates and the perturbation say of every candidate; a link's worth is that of its last round."""
    from auxzoo.auxiliary.drawing import parse_series

    kept = {(node.name, tap) for node in structure.nodes for tap in node.links}
    worths = {(one["node"], one["tap"]): one["worth"] for round in metrics["found"]["link_worths"] for one in round}
    caption = "Worth: what the held-out loss of the compact network gains by the link, in thousandths"
    table = make_table("Candidate links", "node", "tap", "gate open %>", "worth>", "kept", caption=caption)
    for name, values in metrics["found"]["gate_history"].items():
        kind, node, tap = parse_series(name)
        if kind == "link":
            worth = worths.get((node, tap))
            table.add_row(
                *(node, tap, f"{100 * values[-1]:.0f}", "" if worth is None else f"{1000 * worth:+.2f}"),
                "yes" if (node, tap) in kept else "",
            )
    return table


def _table_of_tries(metrics):
    from auxzoo.training.black_box import described

    table = make_table("Structures tried", "structure>", "links", "operations", "epochs>", "worth>")
    for number, record in enumerate(metrics["found"]["candidates"], start=1):
        nodes = record["structure"]["nodes"]
        table.add_row(
            str(number),
            "; ".join(f"{node['name']}: {', '.join(node['links'])}" for node in nodes if node["links"]),
            ", ".join(node["operation"] for node in nodes),
            str(record["epochs"]),
            described(record),
        )
    return table
