"""What several commands share: arguments, tables, and getting TensorFlow quietly."""

from auxzoo.machine import quiet_stderr


def add_data_arguments(parser, default="sample"):
    """Adds the arguments that choose images."""
    parser.add_argument("--data", default=default, help="sample, tfds:NAME or folder:PATH (default: %(default)s)")
    parser.add_argument("--data-dir", help="folder of prepared tensorflow_datasets")
    parser.add_argument("--download", action="store_true", help="let tensorflow_datasets fetch a missing set")
    parser.add_argument("--skip-broken", action="store_true", help="leave broken images out and count them")


def open_split(arguments, split):
    """Returns the `ImageSet` of a split that the arguments choose, and tells of broken images left out."""
    from auxzoo.data import open_images

    images = open_images(
        arguments.data,
        split,
        data_dir=arguments.data_dir,
        skip_broken=arguments.skip_broken,
        download=arguments.download,
    )
    if images.skipped:
        print(f"{len(images.skipped)} broken images of {images.name} left out: {', '.join(images.skipped[:5])}")
    return images


def load_tensorflow():
    """Imports TensorFlow without its lines on the terminal."""
    with quiet_stderr():
        import tensorflow  # noqa: F401  (imported for its effect: everything after finds it loaded)


def make_table(title, *columns, caption=None):
    """Returns an empty `rich` table; a column whose name ends in `>` is flush right."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for column in columns:
        table.add_column(column.rstrip(">"), justify="right" if column.endswith(">") else "left")
    return table


def print_table(table):
    """Prints a `rich` table, at least 100 columns wide where nobody looks (a pipe, a log)."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    console.print(table)


def record_rows(records):
    """Yields the cells of a table of exported files: file, kilobytes, accuracy, difference to Keras, latency."""
    for record in records:
        accuracy, parity = record["accuracy"], record["parity"]
        yield (
            record["file"],
            f"{record['bytes'] / 1000:,.0f}",
            percent(accuracy["accuracy"]) if accuracy else "not measured",
            f"{parity['largest_difference']:.1e}" if parity else "not measured",
            f"{record['latency']['median_ms']:.2f}",
        )


RECORD_COLUMNS = ("file", "kB>", "accuracy %>", "largest difference>", "latency ms>")


def percent(share):
    """Returns a share as per cent with two decimals."""
    return f"{100 * share:.2f}"
