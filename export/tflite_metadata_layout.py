"""The standard layout of TFLite metadata: for readers other than ours, such as Android's and MediaPipe's.

A flatbuffer `TFLITE_METADATA` tells names, normalisation and range of the input and the names of the outputs; labels
are text files in a zip archive at the end of the file. The schema is the one that mediapipe carries. Its own writers
cannot be used: the wheel of 1.2.3 lacks a compiled module that they import. Of the package only the schema's module is
loaded, since `import mediapipe` takes seconds and TensorFlow.
"""

import functools
import importlib.util
import io
import sys
import zipfile
from pathlib import Path

import flatbuffers

from .model_file import LARGEST_METADATA
from .tflite_buffers import ASTRAY, read_buffer

_SCHEMA_FILE = ("tasks", "metadata", "metadata_schema_py_generated.py")
# All that is written here was in the schema from the beginning.
_PARSER_VERSION, _IDENTIFIER = "1.0.0", b"M001"
STANDARD_BUFFER = "TFLITE_METADATA"
_MOST = 20  # of tensors and files that are told of
_LONGEST = 1000  # bytes of a text
_TAIL = 2**20  # bytes of a file, in which the list of its archive must be
_DATE = (1980, 1, 1, 0, 0, 0)  # the same network gives the same bytes


def is_available():
    """Whether the extra `auxzoo[metadata]` is installed."""
    return _schema_path() is not None


def standard_metadata(content, metadata):
    """Returns the flatbuffer `TFLITE_METADATA` of a TFLite file.

    Args:
        content: `bytes` of the file as a converter wrote it.
        metadata: `Metadata`.
    """
    schema = _schema()
    inputs, outputs = _names_in_order(content)
    of_outputs = {output.name: output for output in metadata.outputs}
    graph = schema.SubGraphMetadataT(
        name=metadata.name,
        inputTensorMetadata=[_input(schema, name, metadata.preprocessing) for name in inputs],
        outputTensorMetadata=[_output(schema, of_outputs[name], metadata) for name in outputs],
    )
    whole = schema.ModelMetadataT(
        name=metadata.name,
        description=f"exported by auxzoo {metadata.auxzoo}; SHA-256 of the weights {metadata.weights_sha256}",
        version=metadata.auxzoo,
        license=metadata.licence,
        subgraphMetadata=[graph],
        minParserVersion=_PARSER_VERSION,
    )
    builder = flatbuffers.Builder(0)
    builder.Finish(whole.Pack(builder), _IDENTIFIER)
    return bytes(builder.Output())


def read_standard(content):
    """Returns what a TFLite file, anyone's, tells in the standard layout.

    Args:
        content: `bytes` of the file, not to be trusted.

    Returns:
        `dict`: of the flatbuffer `name`, `description`, `version`, `author`, `licence` (what there is of them),
        `inputs` and `outputs` (`name`, `description`, `mean` and `std` of the normalisation, `files`), where
        the extra `auxzoo[metadata]` is installed; and `files`, name to bytes, of the archive at the end. `None` if
        there is neither.

    Raises:
        ValueError: if it is damaged.
    """
    packed, files = read_buffer(content, STANDARD_BUFFER), _archived(content)
    if packed is None or not is_available():
        return {"files": files} if files else None
    if len(packed) > LARGEST_METADATA:
        raise ValueError(f"its {STANDARD_BUFFER} are larger than {LARGEST_METADATA:,} bytes")
    try:
        return {**_unpacked(packed), "files": files}
    except ASTRAY:
        raise ValueError(f"its {STANDARD_BUFFER} lead to places that they do not have") from None


def _archived(content):
    """Returns name -> bytes of the files in a zip at the end of a TFLite file."""
    try:
        with zipfile.ZipFile(io.BytesIO(content[-_TAIL:])) as archive:
            return {part.filename[:_LONGEST]: part.file_size for part in archive.infolist()[:_MOST]}
    except (zipfile.BadZipFile, NotImplementedError, *ASTRAY):
        return {}


def _unpacked(packed):
    """Returns the flatbuffer's texts, of each tensor and of the whole."""
    whole = _schema().ModelMetadata.GetRootAs(packed, 0)
    found = _texts(
        name=whole.Name(),
        description=whole.Description(),
        version=whole.Version(),
        author=whole.Author(),
        licence=whole.License(),
    )
    if whole.SubgraphMetadataLength():
        graph = whole.SubgraphMetadata(0)
        found["inputs"] = [
            _tensor(graph.InputTensorMetadata(place)) for place in range(min(_MOST, graph.InputTensorMetadataLength()))
        ]
        found["outputs"] = [
            _tensor(graph.OutputTensorMetadata(place))
            for place in range(min(_MOST, graph.OutputTensorMetadataLength()))
        ]
    return found


def _tensor(tensor):
    schema, found = _schema(), _texts(name=tensor.Name(), description=tensor.Description())
    for place in range(min(_MOST, tensor.ProcessUnitsLength())):
        unit = tensor.ProcessUnits(place)
        if unit.OptionsType() == schema.ProcessUnitOptions.NormalizationOptions:
            options, table = schema.NormalizationOptions(), unit.Options()
            options.Init(table.Bytes, table.Pos)
            found["mean"] = [options.Mean(number) for number in range(min(_MOST, options.MeanLength()))]
            found["std"] = [options.Std(number) for number in range(min(_MOST, options.StdLength()))]
    files = [tensor.AssociatedFiles(place) for place in range(min(_MOST, tensor.AssociatedFilesLength()))]
    return {**found, **({"files": [_text(file.Name()) for file in files]} if files else {})}


def _texts(**values):
    return {name: _text(value) for name, value in values.items() if value is not None}


def _text(value):
    return (value or b"")[:_LONGEST].decode(errors="replace")


def with_labels_archive(content, metadata):
    """Returns a file's bytes with a zip of the labels behind them; as they are where there are no labels."""
    files = {
        _labels_file(task, metadata): "".join(f"{' '.join(label.splitlines())}\n" for label in task.labels)
        for task in metadata.tasks
        if task.labels
    }
    if not files:
        return content
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, _DATE), text.encode())
    return stream.getvalue()


def _input(schema, name, preprocessing):
    content = schema.ContentT(
        contentPropertiesType=schema.ContentProperties.ImageProperties,
        contentProperties=schema.ImagePropertiesT(colorSpace=schema.ColorSpaceType.RGB),
    )
    tensor = schema.TensorMetadataT(name=name, description="a picture, red, green and blue", content=content)
    if preprocessing is None:
        return tensor
    pairs = list(zip(preprocessing.scale, preprocessing.offset, strict=True))
    ends = [(offset, 255 * scale + offset) for scale, offset in pairs]
    tensor.stats = schema.StatsT(min=[min(pair) for pair in ends], max=[max(pair) for pair in ends])
    if all(preprocessing.scale):  # the schema's words are (value - mean) / std
        options = schema.NormalizationOptionsT(
            mean=[-offset / scale for scale, offset in pairs], std=[1 / scale for scale in preprocessing.scale]
        )
        kind = schema.ProcessUnitOptions.NormalizationOptions
        tensor.processUnits = [schema.ProcessUnitT(optionsType=kind, options=options)]
    return tensor


def _output(schema, output, metadata):
    kind = schema.ContentProperties.FeatureProperties
    content = schema.ContentT(contentPropertiesType=kind, contentProperties=schema.FeaturePropertiesT())
    tensor = schema.TensorMetadataT(name=output.name, content=content)
    task = next((task for task in metadata.tasks if task.name == output.task), None)
    if task is None:
        return tensor
    tensor.description = " ".join([task.kind, output.activation or "", f"in {task.unit}" * bool(task.unit)]).strip()
    if task.labels:
        kinds = schema.AssociatedFileType
        kind = kinds.TENSOR_VALUE_LABELS if output.activation == "argmax" else kinds.TENSOR_AXIS_LABELS
        file = schema.AssociatedFileT(name=_labels_file(task, metadata), description="labels of the classes", type=kind)
        tensor.associatedFiles = [file]
    return tensor


def _labels_file(task, metadata):
    return "labels.txt" if len(metadata.tasks) == 1 else f"{task.name}_labels.txt"


def _names_in_order(content):
    """Returns the names of the inputs and outputs in the signature, in the order of the graph's."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    graph, signature = model.Subgraphs(0), model.SignatureDefs(0)
    of_inputs = [signature.Inputs(place) for place in range(signature.InputsLength())]
    of_outputs = [signature.Outputs(place) for place in range(signature.OutputsLength())]
    names = {part.TensorIndex(): part.Name().decode() for part in of_inputs + of_outputs}
    return [names[index] for index in graph.InputsAsNumpy()], [names[index] for index in graph.OutputsAsNumpy()]


@functools.cache
def _schema_path():
    try:
        found = importlib.util.find_spec("mediapipe")
    except (ImportError, ValueError):
        return None
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    paths = [Path(folder, *_SCHEMA_FILE) for folder in folders]
    return next((path for path in paths if path.is_file()), None)


@functools.cache
def _schema():
    """Returns the generated module of the schema, loaded without the package that it is in."""
    name = "auxzoo_tflite_metadata_schema"
    specification = importlib.util.spec_from_file_location(name, _schema_path())
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module
