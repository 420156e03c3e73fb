"""All that can be told of a TFLite or ONNX file without running it."""

import dataclasses
from collections import Counter
from pathlib import Path

from auxzoo.errors import UserError
from auxzoo.files import sha256

from .memory_plan import plan_memory
from .metadata import read_metadata
from .model_file import read_model_file
from .target_checks import check_target
from .targets import TARGETS
from .tflite_metadata_layout import read_standard


def inspect_file(path):
    """Describes a TFLite or ONNX file, ours or not; nothing of it is run.

    Args:
        path: `str` or `Path`.

    Returns:
        `dict`, fit for JSON: `file`, `kind`, `version`, `opsets`, `made_by`, `bytes`, `sha256`, `parameters`;
        `metadata` (what `read_metadata` gives), `standard_metadata` (of a TFLite file, what `read_standard` gives),
        `metadata_problem` (why one of both cannot be read, or `None`), `operators` (name, version, whether custom,
        count), `inputs` and `outputs` (name, shape, type, quantisation), `tensors` (all of them), `memory` (what
        `plan_memory` finds, in names), `targets` (of each of the file's kind, the violations, none where it fits).

    Raises:
        UserError: if it is neither of both, or damaged.

    Example:
        >>> inspect_file("flowers_int8.tflite")["targets"]["edgetpu"]  # doctest: +SKIP
        []
    """
    path = Path(path)
    model_file = read_model_file(path)
    metadata, standard, problem = _told_by(path, model_file)
    counts = Counter((operator.name, operator.version, operator.is_custom) for operator in model_file.operators)
    plan = plan_memory(model_file)
    at = None if plan.operator is None else f"{plan.operator} {model_file.operators[plan.operator].name}"
    return {
        "file": path.name,
        "kind": model_file.kind,
        "version": model_file.version,
        "opsets": model_file.opsets,
        "made_by": model_file.made_by,
        "bytes": model_file.size,
        "sha256": sha256(path),
        "parameters": model_file.parameters,
        "metadata": metadata,
        "standard_metadata": standard,
        "metadata_problem": problem,
        "operators": [
            {"name": name, "version": version, "is_custom": is_custom, "count": count}
            for (name, version, is_custom), count in sorted(counts.items())
        ],
        "inputs": [_described(model_file, place) for place in model_file.inputs],
        "outputs": [_described(model_file, place) for place in model_file.outputs],
        "tensors": [_described(model_file, place) for place in range(len(model_file.tensors))],
        "memory": {
            **dataclasses.asdict(plan),
            "operator": at,
            "tensors": [_described(model_file, place) for place in plan.tensors],
        },
        "targets": {
            name: [str(violation) for violation in check_target(model_file, name)]
            for name, target in TARGETS.items()
            if target.kind == model_file.kind
        },
    }


def _told_by(path, model_file):
    """Returns what a file says of itself, in our words and in the standard layout, and what is wrong with that.

    A file may be of a later auxzoo, or damaged there and nowhere else: then the rest is told all the same.
    """
    metadata = standard = problem = None
    try:
        metadata = read_metadata(path)
    except UserError as error:
        problem = str(error)
    if model_file.kind == "tflite":
        try:
            standard = read_standard(path.read_bytes())
        except ValueError as error:
            problem = problem or f"`{path}` is damaged: {error}"
    return metadata, standard, problem


def _described(model_file, place):
    tensor = model_file.tensors[place]
    return {
        **dataclasses.asdict(tensor),
        "label": model_file.labels[place],
        "bytes": tensor.bytes(),
    }
