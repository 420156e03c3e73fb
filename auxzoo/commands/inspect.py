"""`auxzoo inspect FILE...`."""

import math
import textwrap

from auxzoo.commands.common import make_table, print_table
from auxzoo.export.target_checks import KINDS

_LONGEST = 200  # characters of a name
_MOST_ROWS = 500  # of a table; a file that is made for it has a hundred thousand
_LABELS = 12  # of a task


def add_arguments(parser):
    """Adds the command's arguments."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="a TFLite or ONNX file, exported here or elsewhere")
    parser.add_argument(
        "--target",
        metavar="NAME",
        help="list all that keeps the files from a kind of device, and why: "
        "cpu, gpu, npu-int8, edgetpu, microcontroller, onnxruntime-mobile or web",
    )
    parser.add_argument("--tensors", action="store_true", help="list every tensor")
    parser.add_argument("--json", metavar="FILE", help="write all that is found, to be read by a program")


def run(arguments):
    """Prints what files hold, without running them; returns 1 if one does not fit the target asked for."""
    from auxzoo.export.inspection import inspect_file
    from auxzoo.export.targets import find_target
    from auxzoo.files import write_json

    if arguments.target:
        find_target(arguments.target)
    found = [inspect_file(path) for path in arguments.files]  # a broken one is told before anything is printed
    fits = [_print_file(one, arguments) for one in found]
    if arguments.json:
        write_json(arguments.json, _finite(found))
    return 0 if all(fits) else 1


def _print_file(found, arguments):
    """Prints one file; returns whether it fits the target asked for."""
    print(_summary(found))
    if found["metadata"] is not None:
        print(_metadata(found["metadata"]))
    if found["standard_metadata"] is not None:
        print(_standard_metadata(found["standard_metadata"]))
    if found["metadata_problem"] is not None:
        for line in f"What it says of itself cannot be read: {found['metadata_problem']}".splitlines():
            print(_wrapped(_plain(line)))
    print_table(_operators(found))
    print_table(_tensors("inputs and outputs", [*found["inputs"], *found["outputs"]], len(found["inputs"])))
    if arguments.tensors:
        print_table(_tensors("tensors", found["tensors"]))
    print(_memory(found))
    if arguments.target:
        return _print_target(found, arguments.target)
    print_table(_targets(found))
    return True


def _summary(found):
    opset = "".join(f", operator set {version}" for domain, version in found["opsets"].items() if not domain)
    made_by = f", made by {_plain(found['made_by']).rstrip('.')!r}" if found["made_by"] else ""
    return (
        f"{found['file']}: {KINDS[found['kind']]} version {found['version']}{opset}{made_by}\n"
        f"{found['bytes'] / 1000:,.1f} kB, {found['parameters']:,} parameters\nSHA-256 {found['sha256']}"
    )


def _metadata(metadata):
    """Returns in words what a file says of itself."""
    lines = [f"It says of itself: {_plain(metadata['name'])}, written by auxzoo {_plain(metadata['auxzoo'])}"]
    for key, what in (("source", "from"), ("licence", "licence"), ("weights_sha256", "weights' SHA-256")):
        if key in metadata:
            lines.append(f"  {what}: {_plain(metadata[key])}")
    for key, who in (("preprocessing", "before it"), ("embedded_preprocessing", "in it")):
        if key in metadata:
            values = "; ".join(f"{name} {value}" for name, value in metadata[key].items())
            lines.append(_wrapped(f"preprocessing {who}: {values}", "  "))
    for task in metadata.get("tasks", ()):
        labels = task.get("labels", ())
        named = f", {len(labels)} classes: {', '.join(labels[:_LABELS])}{', ...' * (len(labels) > _LABELS)}"
        lines.append(_wrapped(_plain(f"task: {task['name']}, {task['kind']}{named * bool(labels)}"), "  "))
    return "\n".join(lines)


def _standard_metadata(standard):
    """Returns in words what a TFLite file tells in the layout that Android and MediaPipe read."""
    told = [f"{key} {standard[key]!r}" for key in ("name", "version", "author", "licence") if standard.get(key)]
    lines = [f"Standard metadata: {', '.join(told)}"] if "inputs" in standard or told else ["Files at its end:"]
    for end in ("inputs", "outputs"):
        for tensor in standard.get(end, ()):
            normalised = ""
            if "mean" in tensor:
                normalised = f", normalised by mean {tensor['mean']}, std {tensor['std']}"
            files = f", labels in {', '.join(tensor['files'])}" if "files" in tensor else ""
            description = f" ({tensor['description']})" if tensor.get("description") else ""
            lines.append(f"{end[:-1]} {tensor.get('name', '')}{description}{normalised}{files}")
    lines += [f"file {name}, {size:,} bytes" for name, size in standard["files"].items()]
    return "\n".join(_wrapped(_plain(line), "  " * bool(place)) for place, line in enumerate(lines))


def _operators(found):
    table = make_table(None, "operator", "version>", "count>")
    for operator in found["operators"][:_MOST_ROWS]:
        custom = " (custom)" if operator["is_custom"] else ""
        table.add_row(_plain(operator["name"]) + custom, str(operator["version"]), f"{operator['count']:,}")
    _tell_rest(table, len(found["operators"]))
    table.add_section()
    table.add_row("all", "", f"{sum(operator['count'] for operator in found['operators']):,}")
    return table


def _tensors(title, tensors, inputs=None):
    """Returns a table of tensors; the first ones are inputs, the others outputs, if `inputs` tells how many."""
    table = make_table(title, *([] if inputs is None else [""]), "tensor", "shape", "type", "quantised", "bytes>")
    for place, tensor in enumerate(tensors[:_MOST_ROWS]):
        first = [] if inputs is None else ["input" if place < inputs else "output"]
        size = "" if tensor["bytes"] is None else f"{tensor['bytes']:,}"
        constant = " constant" if tensor["is_constant"] else ""
        table.add_row(*first, _plain(tensor["label"]), _shape(tensor), tensor["type"] + constant, _scale(tensor), size)
    _tell_rest(table, len(tensors))
    return table


def _tell_rest(table, count):
    if count > _MOST_ROWS:
        table.add_row(f"and {count - _MOST_ROWS:,} more: see --json", *[""] * (len(table.columns) - 1))


def _shape(tensor):
    if tensor["shape"] is None:
        return "unknown"
    return "x".join("?" if size is None else str(size) for size in tensor["shape"]) or "scalar"


def _scale(tensor):
    if tensor["scales"] > 1:
        return f"{tensor['scales']} scales along {tensor['axis']}"
    if tensor["scale"] is None:
        return "yes" if tensor["scales"] else ""
    return f"(q {-tensor['zero_point']:+}) x {tensor['scale']:.4g}"


def _memory(found):
    memory = found["memory"]
    labels = [f"{_plain(tensor['label'])} {_shape(tensor)} {tensor['type']}" for tensor in memory["tensors"][:3]]
    more = f" and {len(memory['tensors']) - 3} more" if len(memory["tensors"]) > 3 else ""
    at = "" if memory["operator"] is None else f", at operator {_plain(memory['operator'])}"
    sentences = [
        f"Activations at one time: {memory['peak_bytes'] / 1000:,.1f} kB{at}: {', '.join(labels)}{more}.",
        "By lifetimes in the file's order, without what a runtime adds (alignment, scratch memory) or saves in place.",
    ]
    if memory["unpacked_bytes"]:
        sentences.append(f"Weights unpacked when the file is loaded: {memory['unpacked_bytes'] / 1000:,.1f} kB.")
    if memory["has_open_sizes"]:
        sentences.append("Open sizes are taken as 1.")
    if memory["unknown"]:
        sentences.append(f"Not counted, of unknown size: {memory['unknown']} tensors.")
    return _wrapped(" ".join(sentences))


def _finite(value):
    """Returns a value of a JSON file with `None` for numbers that JSON does not have: files may hold any."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(text):
    """Returns a text of the file as it may be printed: it may hold what a terminal would obey, and be of any length."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text[:_LONGEST])


def _wrapped(text, indent=""):
    return textwrap.fill(text, 100, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _hanging(text):
    return textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)


def _targets(found):
    from auxzoo.export.targets import TARGETS

    table = make_table("targets (all reasons: --target NAME)", "target", "fits", "because")
    for name, violations in found["targets"].items():
        reasons = list(dict.fromkeys(violation.partition(": ")[2] for violation in violations))
        more = f"; and {len(reasons) - 2} more" if len(reasons) > 2 else ""
        said = _plain("; ".join(reasons[:2])) + more if violations else TARGETS[name].title
        table.add_row(name, "no" if violations else "yes", said)
    return table


def _print_target(found, name):
    from auxzoo.export.targets import TARGETS

    target = TARGETS[name]
    violations = found["targets"].get(name, [f"file: {KINDS[found['kind']]}, must be {KINDS[target.kind]}"])
    if violations:
        print(_wrapped(f"{found['file']} does not fit {name} ({target.title}):"))
        print("\n".join(_hanging(_plain(violation)) for violation in violations))
    else:
        print(_wrapped(f"{found['file']} fits {name} ({target.title})."))
    print(_wrapped(target.note))
    for source in target.sources:
        print(f"{_hanging(f'{source.title}, read {source.read}:')}\n    {source.url}")
    return not violations
