"""`auxzoo list`."""

from auxzoo.commands.common import make_table, print_table


def add_arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument("--json", action="store_true", help="print the index as JSON")


def run(arguments):
    """Prints the published networks; loads no TensorFlow."""
    import json

    from auxzoo.models import zoo

    index = zoo.read_index()
    if arguments.json:
        print(json.dumps(index, indent=2))
        return
    table = make_table(
        "Published networks", "name", "data", "input", "parameters>", "million MACs>", "accuracy %>", "int8 kB>"
    )
    for name, row in index.items():
        summary = row["summary"]
        table.add_row(
            name,
            summary["data"],
            "x".join(map(str, summary["input"])),
            f"{summary['parameters']:,}",
            f"{summary['macs'] / 1e6:,.1f}",
            f"{100 * summary['accuracy']:.2f}",
            f"{summary['int8_bytes'] / 1000:,.0f}",
        )
    print_table(table)
