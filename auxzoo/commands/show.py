"""`auxzoo show NAME`."""

from auxzoo.commands.common import load_tensorflow, make_table, print_table


def add_arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument(
        "name",
        help="a published network, a folder of one, a .keras file, or an architecture: MobileNetV2, ResNet18, "
        "DeepLabLite (over --set backbone=MobileNetV2 or ResNet18)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="argument of an architecture, such as alpha=0.5 or input_shape=[96,96,3]",
    )
    parser.add_argument("--layers", action="store_true", help="every layer, not only the stages")


def run(arguments):
    """Prints what a network costs, by stage or by layer."""
    import math

    load_tensorflow()
    from auxzoo.models import measure_costs
    from auxzoo.models.costs import BYTES

    network = _network(arguments)
    costs = measure_costs(network)
    description = getattr(network, "description", None)  # none of a foreign `.keras` file
    tap_of = {layer: tap for tap, layer in description.taps} if description else {}
    inputs = ", ".join(_as_text(tensor.shape[1:]) for tensor in network.inputs)
    table = make_table(
        f"{arguments.name}: {f'{description.kinds}, ' if description else ''}input {inputs}",
        *(["layer", "kind, tap"] if arguments.layers else ["tap"]),  # narrow, or names would be folded
        *["output", "parameters>", "million MACs>", f"{'kB of output' if arguments.layers else 'activations kB'}>"],
    )
    parameters = macs = 0
    for place, row in enumerate(costs.rows):
        parameters, macs = parameters + row.parameters, macs + (row.macs or 0)
        tap, is_last = tap_of.get(row.name, ""), place == len(costs.rows) - 1
        if not (arguments.layers or tap or is_last):
            continue
        count = "not counted" if row.macs is None else f"{macs / 1e6:,.2f}"
        shape = _as_text(row.output_shape)
        tap = tap or ("output" if is_last else "")
        names = [row.name, f"{row.kind}{', ' * bool(tap)}{tap}"] if arguments.layers else [tap]
        is_open = None in row.output_shape
        kilobytes = "" if is_open else f"{math.prod(row.output_shape) * BYTES / 1000:,.1f}"
        table.add_row(*names, shape, f"{parameters:,}", count, kilobytes)
        parameters = macs = 0
    table.add_section()
    table.add_row(
        *(["total", ""] if arguments.layers else ["total"]),
        "",
        f"{costs.parameters:,}",
        f"{costs.macs / 1e6:,.2f}",
        f"{'' if arguments.layers else 'at one time '}{costs.activation_bytes / 1000:,.1f}",
    )
    print_table(table)
    print(
        f"{costs.trainable_parameters:,} parameters are trainable. Activations in float32; the total is the most that "
        "live\nat one time in inference, each freed after its last reader."
    )
    if costs.uncounted:
        print(f"Not counted, of an unknown kind: {', '.join(costs.uncounted)}")


def _as_text(shape):
    return "x".join("open" if size is None else str(size) for size in shape)


def _network(arguments):
    import yaml

    from auxzoo import models
    from auxzoo.errors import UserError

    architectures = ("MobileNetV2", "ResNet18", "DeepLabLite")
    if arguments.name not in architectures:
        if arguments.set:
            raise UserError("`--set` may be given only with an architecture.")
        return models.load(arguments.name)
    values = {}
    for text in arguments.set:
        key, separator, value = text.partition("=")
        if not separator:
            raise UserError(f"`--set` must be KEY=VALUE. Received: {text!r}")
        try:
            values[key] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError) as error:  # a date that does not exist is a `ValueError`
            raise UserError(f"`--set` must have a YAML value. Received: {text!r}: {error}") from None
    try:
        if arguments.name == "DeepLabLite":
            backbone = values.pop("backbone", "MobileNetV2")
            if backbone not in architectures[:2]:
                raise UserError(f"`backbone` must be one of MobileNetV2, ResNet18. Received: {backbone!r}")
            head = {"num_classes": 21} | {
                key: values.pop(key) for key in ("num_classes", "channels", "low_level") if key in values
            }
            return models.DeepLabLite(getattr(models, backbone)(**{"output_stride": 16, **values}), **head)
        return getattr(models, arguments.name)(**{"num_classes": 1000, **values})
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"`--set` must fit the arguments of {arguments.name}: {error}") from None
