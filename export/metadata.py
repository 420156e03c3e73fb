"""What an exported file says of itself, inside the file: tasks with labels, preprocessing, licence, whose weights.

In a TFLite file it is JSON in a buffer of metadata called `AUXZOO_METADATA`; in an ONNX file JSON values of the
metadata properties `auxzoo.KEY`, one for every key of `Metadata`. With the extra `auxzoo[metadata]` a TFLite file has
the standard layout of TFLite metadata too (`tflite_metadata_layout`), for other readers than ours.
"""

import hashlib
import importlib.metadata
import itertools
import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pydantic
import pydantic_core

from auxzoo.errors import UserError
from auxzoo.tasks import Task

from ..models.preprocessing import Preprocessing
from .model_file import LARGEST_METADATA, ONNX_PREFIX, is_tflite
from .onnx_reader import read_onnx
from .tflite_buffers import add_buffers, read_buffer

SCHEMA = 1
TFLITE_BUFFER = "AUXZOO_METADATA"
_SHOWN = 5  # of what is wrong


class FileOutput(pydantic.BaseModel):
    """An output of a file.

    Attributes:
        name: in the file.
        task: name of its task, or `None` where nothing tells.
        activation: what was done to logits: `None`, `"softmax"` or `"argmax"`.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str
    task: str | None = None
    activation: Literal["softmax", "argmax"] | None = None


_Preprocessing = Annotated[
    Preprocessing,
    pydantic.PlainValidator(Preprocessing.from_dict),
    pydantic.PlainSerializer(lambda value: {**vars(value), "scale": list(value.scale), "offset": list(value.offset)}),
]
_Task = Annotated[Task, pydantic.PlainValidator(Task.from_dict), pydantic.PlainSerializer(Task.to_dict)]


class Metadata(pydantic.BaseModel):
    """What a file says of itself; whatever is unknown is absent.

    Attributes:
        schema_version: of these keys; a reader refuses another.
        auxzoo: version that wrote the file.
        name: of the network.
        source: what it was loaded from, such as the name of a published entry.
        licence: of the network and its weights.
        weights_sha256: of the network's weights before anything was folded or quantised, as `weights_checksum` gives.
        preprocessing: how a picture becomes the input of this very file.
        embedded_preprocessing: what the file then does itself, before the network, to values of 0 to 255.
        tasks: what it predicts.
        outputs: in the file.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = SCHEMA
    auxzoo: str
    name: str
    source: str | None = None
    licence: str | None = None
    weights_sha256: Annotated[str, pydantic.StringConstraints(pattern="^[0-9a-f]{64}$")]
    preprocessing: _Preprocessing | None = None
    embedded_preprocessing: _Preprocessing | None = None
    tasks: tuple[_Task, ...] = ()
    outputs: Annotated[tuple[FileOutput, ...], pydantic.Field(min_length=1)]

    @pydantic.model_validator(mode="after")
    def _outputs_name_tasks(self):
        names = [task.name for task in self.tasks]
        if len(set(names)) != len(names):
            raise ValueError("every task must have a name of its own")
        outputs = [output.name for output in self.outputs]
        if len(set(outputs)) != len(outputs):
            raise ValueError("every output must have a name of its own")
        if [output.task for output in self.outputs if output.task is not None] != names:
            raise ValueError("every task must have one output, in the order of the tasks")
        return self

    def to_dict(self):
        """Returns it as plain JSON types, without what is unknown."""
        return self.model_dump(mode="json", exclude_none=True)


def metadata_of(model, outputs, description=None, *, name=None, source=None, licence=None, embedded=None):
    """Returns the `Metadata` of a network's files.

    Args:
        model: the network, with its weights.
        outputs: list of `Output`.
        description: `Description` with the preprocessing, or `None` where nothing tells.
        name: `str`, the network's own if `None`.
        source: `str`, what it was loaded from.
        licence: `str`.
        embedded: whether the file itself scales the values of a picture.

    Raises:
        UserError: if `source` or `licence` is no text, or the whole is too large.
    """
    for argument, value in (("source", source), ("licence", licence)):
        if not isinstance(value, str | None):
            raise UserError(f"`{argument}` must be text. Received: {argument}={value!r}")
    preprocessing = None if description is None else description.preprocessing
    metadata = Metadata(
        auxzoo=importlib.metadata.version("auxzoo"),
        name=name or model.name,
        source=source,
        licence=licence,
        weights_sha256=weights_checksum(model),
        preprocessing=_values(raw_preprocessing(preprocessing) if embedded else preprocessing),
        embedded_preprocessing=_values(preprocessing) if embedded else None,
        tasks=tuple(output.task.to_dict() for output in outputs if output.task is not None),
        outputs=tuple(
            FileOutput(
                name=output.name, task=None if output.task is None else output.task.name, activation=output.activation
            )
            for output in outputs
        ),
    )
    size = len(_as_json(metadata.to_dict()))
    if size > LARGEST_METADATA:
        raise UserError(
            f"The labels and texts of a network must be {LARGEST_METADATA:,} bytes at most. Received: {size:,}"
        )
    return metadata


def raw_preprocessing(preprocessing):
    """Returns the preprocessing that is left where a file scales the values itself: fitting to the size."""
    return Preprocessing(preprocessing.height, preprocessing.width, preprocessing.fit, (1.0,) * 3, (0.0,) * 3)


def weights_checksum(model):
    """Returns the SHA-256 of a network's weights: their bytes one after the other, in the order of `model.weights`.

    Example:
        >>> weights_checksum(compact) == auxzoo.export.read_metadata("flowers.tflite")["weights_sha256"]
        True
    """
    checksum = hashlib.sha256()
    for weight in model.get_weights():
        checksum.update(np.ascontiguousarray(weight).tobytes())
    return checksum.hexdigest()


def write_metadata(path, metadata):
    """Puts metadata into a file that a converter wrote.

    Args:
        path: `Path` of a TFLite or ONNX file of ours, without metadata; by its content, whatever its suffix.
        metadata: `Metadata`.

    Returns:
        list of `str`, the layouts that it has now: `"auxzoo"`, and `"tflite"` where the extra is installed and the file
        is one.

    Raises:
        UserError: if the file would be too large.
    """
    content = path.read_bytes()
    if not is_tflite(content):
        path.write_bytes(_onnx_with(content, metadata))
        return ["auxzoo"]
    from .tflite_metadata_layout import STANDARD_BUFFER, is_available, standard_metadata, with_labels_archive

    buffers = {TFLITE_BUFFER: _as_json(metadata.to_dict())}
    if not is_available():
        path.write_bytes(add_buffers(content, buffers))
        return ["auxzoo"]
    buffers[STANDARD_BUFFER] = standard_metadata(content, metadata)
    path.write_bytes(with_labels_archive(add_buffers(content, buffers), metadata))
    return ["auxzoo", "tflite"]


def read_metadata(path):
    """Returns what an exported file says of itself.

    Args:
        path: `str` or `Path` of a TFLite or ONNX file, anyone's, of any name: what it is is told by its content.

    Returns:
        `dict` of plain types with the keys of `Metadata`, without what is unknown; `None` if the file has none of ours.

    Raises:
        UserError: if the file is missing or damaged, or what it says is not allowed.

    Example:
        >>> auxzoo.export.read_metadata("flowers.tflite")["tasks"][0]["labels"]
        ['daisy', 'rose', 'tulip']
    """
    metadata = parse_metadata(path)
    return None if metadata is None else metadata.to_dict()


def parse_metadata(path):
    """Returns the `Metadata` of a file; arguments and errors are those of `read_metadata`."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            start = file.read(8)
        if is_tflite(start):
            found = read_buffer(path.read_bytes(), TFLITE_BUFFER)
        elif path.suffix == ".tflite":
            raise ValueError("it is not a TFLite file")
        else:
            found = _of_properties(read_onnx(path).properties)
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"`{path}` is not a file that can be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"`{path}` is damaged: {error}") from None
    if found is None:
        return None
    if len(found) > LARGEST_METADATA:
        raise UserError(
            f"The metadata of `{path}` must be {LARGEST_METADATA:,} bytes at most. Received: {len(found):,}"
        )
    try:
        return Metadata.model_validate_json(found)
    except pydantic.ValidationError as error:
        raise UserError(f"The metadata of `{path}` are not right:\n{_explained(error)}") from None


def described_by(metadata, tensors, path):
    """Returns the `Description` of a file by its own words, checked against what it takes and gives.

    Args:
        metadata: `Metadata`.
        tensors: what the opened file's `tensors()` returned.
        path: of the file, for messages.

    Raises:
        UserError: if the file says nothing of its preprocessing or tasks, or what it says does not fit.
    """
    from ..models.description import Description

    if metadata.preprocessing is None or not metadata.tasks:
        raise UserError(f"`--network` must name what `{path}` is from: it tells no preprocessing or no task.")
    size = [1, metadata.preprocessing.height, metadata.preprocessing.width, 3]
    if tensors["input"]["shape"][1:] != size[1:] and not _is_channels_first(metadata, tensors):
        raise UserError(f"The metadata of `{path}` must be of its input, {tensors['input']['shape']}. Received: {size}")
    shapes = _output_shapes(metadata, tensors)
    if set(shapes) != {output.name for output in metadata.outputs}:
        received = ", ".join(output.name for output in metadata.outputs)
        raise UserError(f"The metadata of `{path}` must name its outputs, {', '.join(shapes)}. Received: {received}")
    for task, output in _with_outputs(metadata):
        _check_shape(task, output, shapes[output.name], path)
    return Description((), metadata.preprocessing, metadata.tasks)


def tells_all(metadata):
    """Returns whether a file's `Metadata`, or `None`, tell what is needed to predict with it."""
    return metadata is not None and metadata.preprocessing is not None and bool(metadata.tasks)


def check_same(given, description, path, argument):
    """Raises a `UserError` if what a user says of a file is not what the file says: it knows how it was made.

    Args:
        given: `Description`, or `None` if the user says nothing.
        description: `Description` of the file by its own words.
        path: of the file.
        argument: `str`, what messages call what is given.
    """
    if given is None:
        return
    kinds = [[(task.name, task.kind) for task in one.tasks] for one in (given, description)]
    if given.preprocessing != description.preprocessing or kinds[0] != kinds[1]:
        wanted, received = (
            f"({one.preprocessing.height}, {one.preprocessing.width}, 3), scale {one.preprocessing.scale}, "
            f"offset {one.preprocessing.offset}, {one.kinds}"
            for one in (description, given)
        )
        raise UserError(
            f"`{argument}` must be as `{path}` tells of itself, or be left out: {wanted}. Received: {received}"
        )
    for task, own in zip(given.tasks, description.tasks, strict=True):
        for number, (label, expected) in enumerate(itertools.zip_longest(task.labels, own.labels)):
            if task.labels and own.labels and label != expected:
                raise UserError(
                    f"`{argument}` must have the classes of `{path}`, or be left out: number {number} of {task.name} "
                    f"is {expected!r} there. Received: {label!r}"
                )


def check_fits(given, tensors, path, argument):
    """Raises a `UserError` if what a user says of a file that tells nothing of itself cannot be of its outputs.

    Args:
        given: `Description`.
        tensors: what the opened file's `tensors()` returned.
        path: of the file.
        argument: `str`, what messages call what is given.

    Returns:
        `dict` of task name to its output: `dict` with name and shape.
    """
    outputs = tensors.get("outputs") or [tensors["output"]]
    of_tasks = {task.name: outputs[0] for task in given.tasks}
    if len(outputs) > 1 or len(of_tasks) > 1:
        of_tasks = {output["name"]: output for output in outputs}
    if set(of_tasks) != {task.name for task in given.tasks}:
        raise UserError(
            f"`{argument}` must be of the network of `{path}`: its tasks are {given.kinds}. "
            f"Received: a file with the outputs {', '.join(output['name'] for output in outputs)}"
        )
    for task in given.tasks:
        shape, rank = of_tasks[task.name]["shape"], 4 if task.is_dense else 2
        channels = 1 if task.kind == "regression" else len(task.labels)
        # Without the channels: a file that gives classes. They stand first or last.
        is_of_task = len(shape) == rank and (not channels or {channels, None, -1} & {shape[1], shape[-1]})
        if not is_of_task and not (len(shape) == rank - 1 and task.kind != "regression"):
            raise UserError(
                f"`{argument}` must be of the network of `{path}`: {task.name!r} is a {task.kind}"
                f"{f' with {channels} classes' * (task.kind != 'regression' and channels > 0)}. "
                f"Received: a file whose output {of_tasks[task.name]['name']!r} has the shape {shape}"
            )
    return of_tasks


def classes_of(metadata, tensors):
    """Returns `dict` of task name to the number of classes of a file, of those tasks where it is known.

    Args:
        metadata: `Metadata` that fits the file, as `described_by` checks.
        tensors: as of `described_by`.
    """
    shapes = _output_shapes(metadata, tensors)
    found = {}
    for task, output in _with_outputs(metadata):
        count = len(task.labels) if output.activation == "argmax" else shapes[output.name][-1]
        if task.kind != "regression" and count:
            found[task.name] = count
    return found


def _is_channels_first(metadata, tensors):
    """Returns whether a file takes `[batch, 3, height, width]`, as ONNX files may; all that it gives is then so too."""
    preprocessing = metadata.preprocessing
    if preprocessing is None:
        return False
    size = [preprocessing.height, preprocessing.width]
    return tensors["input"]["shape"][1:] == [3, *size] != [*size, 3]


def _output_shapes(metadata, tensors):
    """Returns `dict` of output to shape, channels last."""
    shapes = {output["name"]: output["shape"] for output in tensors.get("outputs") or [tensors["output"]]}
    if _is_channels_first(metadata, tensors):
        for name, shape in shapes.items():
            if len(shape) == 4:
                shapes[name] = [shape[0], *shape[2:], shape[1]]
    return shapes


def _with_outputs(metadata):
    of_tasks = {output.task: output for output in metadata.outputs}
    return [(task, of_tasks[task.name]) for task in metadata.tasks]


def _check_shape(task, output, shape, path):
    """Raises a `UserError` unless an output's shape is of its task, with as many classes as there are labels."""
    is_argmax = output.activation == "argmax"
    rank = (4 if task.is_dense else 2) - is_argmax
    classes = None if is_argmax else 1 if task.kind == "regression" else len(task.labels) or None
    if len(shape) != rank or (classes is not None and shape[-1] != classes):
        wanted = f"{rank} dimensions" + (f", {classes} channels" if classes else "")
        raise UserError(f"The metadata of `{path}` must fit its output {output.name!r}, {shape}. Received: {wanted}")


def _of_properties(properties):
    """Returns the properties of an ONNX file as one JSON text; `None` where there are none."""
    if not properties:
        return None
    return _as_json({key.removeprefix(ONNX_PREFIX): pydantic_core.from_json(text) for key, text in properties.items()})


def _onnx_with(content, metadata):
    import onnx

    model = onnx.load_model_from_string(content)
    values = metadata.to_dict()
    properties = {f"{ONNX_PREFIX}{key}": _as_json(value).decode() for key, value in values.items()}
    onnx.helper.set_model_props(model, {**{entry.key: entry.value for entry in model.metadata_props}, **properties})
    model.doc_string = f"{metadata.name}, exported by auxzoo {metadata.auxzoo}"
    if metadata.licence:
        model.doc_string += f"; licence: {metadata.licence}"
    return model.SerializeToString()


def _as_json(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _values(preprocessing):
    return None if preprocessing is None else vars(preprocessing)


def _explained(error):
    lines = []
    for problem in error.errors(include_url=False)[:_SHOWN]:
        where = ".".join(str(part) for part in problem["loc"]) or "the whole"
        received = repr(problem["input"])
        lines.append(f"  `{where[:80]}`: {problem['msg'][:200]}. Received: {received[:80]}")
    return "\n".join(lines)
