"""`auxzoo benchmark FILE...`."""

from auxzoo.commands.common import make_table, print_step, print_table

_OPERATORS = 8


def add_arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="TFLite or ONNX files, ours or not")
    parser.add_argument("--threads", default="1,2", help="comma-separated numbers of threads (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="all files in turn, so often (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=50, help="most runs a round, within 3 s (default: %(default)s)")
    parser.add_argument("--warm-up", type=int, default=10, help="runs before them (default: %(default)s)")
    parser.add_argument(
        "--timeout", type=float, default=8.0, help="seconds to load and run once (default: %(default)s)"
    )
    parser.add_argument("--no-profile", action="store_true", help="do not profile ONNX files operator by operator")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--plot", metavar="FILE", help="a PNG or SVG of accuracy, from the records, against latency")


def run(arguments):
    """Measures files side by side, in child processes."""
    from pathlib import Path

    from auxzoo.errors import UserError
    from auxzoo.export.benchmark import benchmark_files
    from auxzoo.files import write_json

    try:
        threads = [int(count) for count in arguments.threads.split(",")]
    except ValueError:
        raise UserError(
            f"`--threads` must be whole numbers with commas between. Received: {arguments.threads!r}"
        ) from None
    if arguments.plot and not arguments.plot.endswith((".png", ".svg")):
        raise UserError(f"`--plot` must end in .png or .svg. Received: {arguments.plot!r}")
    result = benchmark_files(
        arguments.files,
        threads=threads,
        rounds=arguments.rounds,
        runs=arguments.runs,
        warm_up=arguments.warm_up,
        timeout=arguments.timeout,
        profile=not arguments.no_profile,
        progress=print_step,
    )
    names = [Path(entry["file"]).name for entry in result["files"]]
    if len(set(names)) < len(names):
        names = [entry["file"] for entry in result["files"]]
    machine, settings = result["machine"], result["settings"]
    caption = (
        f"{machine['processor']}, {machine['cores']} cores, load {machine['load_average'] or 0:.1f}; {result['made']}"
    )
    print_table(_latency_table(result, names, f"Latency, {settings['rounds']} rounds in turn", caption))
    print_table(_start_table(result, names))
    for name, entry in zip(names, result["files"], strict=True):
        if entry["operators"]:
            print_table(_operator_table(name, entry["operators"]))
    if any(entry["file"].endswith(".tflite") for entry in result["files"]) and not arguments.no_profile:
        print("LiteRT offers no profile of operators to Python; TFLite files have none.")
    if arguments.json:
        write_json(arguments.json, result)
        print(f"All figures are in {arguments.json}")
    if arguments.plot:
        from auxzoo.export.benchmark_plot import draw_benchmark

        for file, reason in draw_benchmark(result, arguments.plot):
            print(f"{file} is drawn without accuracy: {reason}")
        print(f"The plot is {arguments.plot}")


def _latency_table(result, names, title, caption):
    table = make_table(title, "file", "runtime", "threads>", "median ms>", "p95 ms>", "to the first>", caption=caption)
    for name, entry in zip(names, result["files"], strict=True):
        for one in entry["measurements"]:
            if "failed" in one:
                table.add_row(name, one["runtime"], str(one["threads"]), one["failed"], "", "")
                continue
            figures = (f"{one['median_ms']:,.2f}", f"{one['p95_ms']:,.2f}", _ratio_text(one))
            table.add_row(name, one["runtime"], str(one["threads"]), *figures)
        table.add_section()
    return table


def _ratio_text(one):
    interval = one["ratio_interval"]
    if interval == [1.0, 1.0]:  # itself
        interval = None
    return f"{one['ratio']:.2f}" + (f" ({interval[0]:.2f}–{interval[1]:.2f})" if interval else "")


def _start_table(result, names):
    table = make_table(
        "Cold start and memory of a fresh process",
        *("file", "runtime, threads", "start to result ms>", "load ms>", "first run ms>", "peak MB>", "bare MB>"),
        caption="Bare: the interpreter, numpy and the runtime imported, nothing opened.",
    )
    for name, entry in zip(names, result["files"], strict=True):
        for one in entry["measurements"]:
            if "failed" not in one:
                milliseconds = (one["cold_start_ms"], one["load_ms"], one["first_run_ms"])
                megabytes = (one["peak_bytes"] / 1e6, one["baseline_bytes"] / 1e6)
                figures = [f"{value:,.1f}" for value in (*milliseconds, *megabytes)]
                table.add_row(name, f"{one['runtime']}, {one['threads']}", *figures)
    return table


def _operator_table(name, operators):
    kinds = {}
    for operator in operators:
        count, milliseconds, share = kinds.get(operator["operator"], (0, 0.0, 0.0))
        kinds[operator["operator"]] = (count + 1, milliseconds + operator["milliseconds"], share + operator["share"])
    table = make_table(f"Operators of {name} by time", "operator", "nodes>", "ms a run>", "share %>")
    for kind, (count, milliseconds, share) in sorted(kinds.items(), key=lambda item: -item[1][1])[:_OPERATORS]:
        table.add_row(kind, str(count), f"{milliseconds:.3f}", f"{100 * share:.1f}")
    return table
