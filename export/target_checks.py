"""Whether a file fits a target: each operator and tensor against the target's profile."""

import dataclasses

from .targets import TARGETS, find_target

KINDS = {"tflite": "TFLite", "onnx": "ONNX"}


class TargetMissed(RuntimeError):
    """Files that were exported for a target do not fit it; the message tells every reason."""


@dataclasses.dataclass(frozen=True)
class Violation:
    """Something in a file that a target does not take.

    Attributes:
        subject: `str`, which operator or tensor, or `"file"`.
        reason: `str`.
    """

    subject: str
    reason: str

    def __str__(self):
        return f"{self.subject}: {self.reason}"


def check_target(model_file, target):
    """Checks a file, operator by operator and tensor by tensor, against a profile.

    Args:
        model_file: `ModelFile`.
        target: name among `TARGETS`.

    Returns:
        list of `Violation`; empty if it fits.

    Raises:
        UserError: if the target is unknown.

    Example:
        >>> str(check_target(read_model_file("flowers_float32.tflite"), "edgetpu")[0])  # doctest: +SKIP
        'image: float32, must be int8 or uint8'
    """
    profile = find_target(target)
    if model_file.kind != profile.kind:
        return [Violation("file", f"{KINDS[model_file.kind]}, must be {KINDS[profile.kind]}")]
    return [Violation(*found) for check in _CHECKS for found in check(model_file, profile)]


def check_targets(model_file):
    """Returns `dict` of every target of the file's kind to the lines of `summarize`; none where the file fits."""
    return {
        name: summarize(check_target(model_file, name))
        for name, profile in TARGETS.items()
        if profile.kind == model_file.kind
    }


def refuse_misfits(model_files, target):
    """Raises `TargetMissed`, with every reason, unless all files fit a target.

    Args:
        model_files: `dict` of file name to `ModelFile`.
        target: name among `TARGETS`.
    """
    lines = [
        f"  {name}: {line}"
        for name, model_file in model_files.items()
        for line in summarize(check_target(model_file, target), most=None)
    ]
    if lines:
        title = f"The files do not fit {target} ({find_target(target).title}), so none was written:"
        raise TargetMissed("\n".join([title, *lines]))


def summarize(violations, most=3):
    """Returns a line for each reason, with the first of those that it concerns, and how many more there are.

    Args:
        violations: list of `Violation`.
        most: how many are told; all if `None`.
    """
    by_reason = {}
    for violation in violations:
        by_reason.setdefault(violation.reason, []).append(violation.subject)
    lines = []
    for reason, subjects in by_reason.items():
        rest = len(subjects[most:]) if most is not None else 0
        lines.append(f"{reason} ({', '.join(subjects[:most])}{f' and {rest} more' if rest else ''})")
    return lines


def _check_opset(model_file, profile):
    opset = model_file.opsets.get("", 0)
    if profile.opsets and not profile.opsets[0] <= opset <= profile.opsets[1]:
        yield "file", f"operator set {opset}, must be {profile.opsets[0]} to {profile.opsets[1]}"


def _check_operators(model_file, profile):
    for place, operator in enumerate(model_file.operators):
        name, subject = operator.name, f"operator {place}"
        if profile.operators is None:
            if operator.is_custom:
                yield subject, f"{name} is none of the format's own operators"
        elif name not in profile.operators:
            yield subject, f"{name} is not among the target's operators{', but TensorFlow itself' * operator.is_flex}"
        elif operator.is_custom and model_file.kind == "tflite":  # in ONNX a domain tells them apart
            yield subject, f"{name} is none of the format's own operators, but only called so"
        elif operator.version > (profile.operators[name] or operator.version):
            yield subject, f"{name} has version {operator.version}, must have at most {profile.operators[name]}"


def _check_types(model_file, profile):
    of_ends = dict.fromkeys(model_file.outputs, profile.output_types or profile.types)
    of_ends |= dict.fromkeys(model_file.inputs, profile.input_types or profile.types)
    for place in sorted({*of_ends, *_used(model_file)}):
        tensor = model_file.tensors[place]
        types, what = of_ends.get(place, profile.types), ""
        if tensor.is_constant:
            types, what = profile.constant_types, "constants of "
        if types is not None and tensor.type not in types:
            yield model_file.labels[place], f"{what}{tensor.type}, must be {_any_of(types)}"


def _check_shapes(model_file, profile):
    for place in _used(model_file):
        tensor = model_file.tensors[place]
        if profile.static_shapes and not tensor.is_static:
            yield model_file.labels[place], "open size, must be fixed"
        outer = (tensor.shape or ())[: -profile.largest_rank] if profile.largest_rank else ()
        if not tensor.is_constant and any(size != 1 for size in outer):
            yield (
                model_file.labels[place],
                f"a size above 1 before its last {profile.largest_rank} dimensions, must be 1",
            )


def _check_scales(model_file, profile):
    for place in _used(model_file):
        tensor = model_file.tensors[place]
        if profile.per_tensor and not tensor.is_constant and tensor.scales > 1:
            yield model_file.labels[place], f"{tensor.scales} quantisation scales, must have one"


def _check_weights(model_file, profile):
    for place, operator in enumerate(model_file.operators):
        if operator.name not in profile.same_types:
            continue
        types = [model_file.tensors[read].type for read in operator.inputs if read >= 0]
        # A transposed convolution reads the shape of its output first, and the data last.
        data, weights = types[2:3] if operator.name == "TRANSPOSE_CONV" else types[:1], types[1:2]
        if data == ["float32"] and weights != data:
            yield f"operator {place}", f"{operator.name} has {''.join(weights)} weights for float32, must have float32"


_CHECKS = (_check_opset, _check_operators, _check_types, _check_weights, _check_shapes, _check_scales)


def _any_of(names):
    *first, last = sorted(names)
    return f"{', '.join(first)} or {last}" if first else last


def _used(model_file):
    """Returns the places of tensors that an operator reads or gives, in order."""
    used = {place for operator in model_file.operators for place in (*operator.inputs, *operator.outputs)}
    return sorted(used - {-1})
