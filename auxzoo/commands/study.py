"""`auxzoo study STUDY`."""

from auxzoo.commands.common import add_reading_arguments, load_tensorflow, make_table, print_table, run_overrides
from auxzoo.errors import UserError


def add_arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument("study", help="YAML file of the study: a recipe, arms that change it, seeds")
    parser.add_argument("--to", metavar="DIR", help="folder of records, table and plot (default: the study's own)")
    parser.add_argument(
        "--processes",
        type=int,
        default=2,
        help="runs side by side; with --set compute.threads=1 each has a core (default: %(default)s)",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of every arm")
    add_reading_arguments(parser)


def run(arguments):
    """Runs what is missing of a study, and writes its table and plot."""
    import time
    from pathlib import Path

    load_tensorflow()
    from auxzoo.files import write_json, written_aside
    from auxzoo.training.study import Study
    from auxzoo.training.study_report import (
        as_json,
        caption,
        comparison_lines,
        header,
        improvement_lines,
        improvements,
        plot,
        summarize,
        table_rows,
        write_markdown,
    )
    from auxzoo.training.study_runner import run_study

    study = Study(arguments.study, run_overrides(arguments))
    folder = Path(arguments.to) if arguments.to else Path(arguments.study).parent
    records, costs = run_study(
        study,
        folder,
        processes=arguments.processes,
        progress=lambda line: print(f"{time.strftime('%H:%M:%S')} {line}", flush=True),
    )
    summaries = [summarize(study, records, costs, metric) for metric in study.settings.metrics]
    found, problem = [], None
    try:
        found = improvements(study, records)
    except UserError as error:  # a network without one hit, say: all else is told first
        problem = error
    write_json(folder / "results.json", as_json(summaries, found))
    with written_aside(folder / "results.md") as temporary:
        write_markdown(temporary, study, summaries, found)
    for summary in summaries:
        suffix = "" if summary is summaries[0] else f"_{summary['metric']}"
        plot(folder / f"results{suffix}.png", study, summary)
        columns = header(summary["metric"])
        table = make_table(study.settings.name, *[f"{name}>" if name != "arm" else name for name in columns])
        table.caption = caption(study, summary)
        for row in table_rows(summary):
            table.add_row(*row)
        print_table(table)
        for line in comparison_lines(summary):
            print(line)
    for line in improvement_lines(found):
        print(line)
    print(f"Table, plot and every run's record are in {folder}.")
    if problem is not None:
        raise UserError(f"`improvements` cannot be told: {problem}")
