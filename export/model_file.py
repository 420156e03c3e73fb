"""What a TFLite or ONNX file holds, read without running it."""

import dataclasses
import functools
import math
from collections import Counter
from pathlib import Path

from auxzoo.errors import UserError

# What a number takes in memory, in bits. Of other types (text, handles) the file does not tell.
BITS = {
    **dict.fromkeys(("int2", "uint2"), 2),
    **dict.fromkeys(("int4", "uint4", "float4e2m1"), 4),
    **dict.fromkeys(("bool", "int8", "uint8", "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz"), 8),
    **dict.fromkeys(("float8_e4m3fn", "float8_e5m2", "float8e8m0"), 8),
    **dict.fromkeys(("int16", "uint16", "float16", "bfloat16"), 16),
    **dict.fromkeys(("int32", "uint32", "float32"), 32),
    **dict.fromkeys(("int64", "uint64", "float64", "complex64"), 64),
    "complex128": 128,
}
# No file of a network for a phone comes near; what does is broken, or made to keep a reader busy.
MOST_PARTS = 100_000
# A tensor of more sizes, or of more numbers, fits no runtime and no memory.
_MOST_SIZES, _MOST_NUMBERS = 32, 2**63
# A flatbuffer's offsets and a protocol buffer's lengths end there.
LARGEST_FILE = 2**31 - 1


ONNX_PREFIX = "auxzoo."  # of our metadata properties
LARGEST_METADATA = 2**22  # bytes: a hundred thousand labels; what is larger is broken, or made to keep a reader busy


def is_possible_shape(sizes):
    """Returns whether a tensor may have such sizes, whole numbers or `None` where one is open."""
    known = [size for size in sizes if size is not None]
    return len(sizes) <= _MOST_SIZES and math.prod(known) < _MOST_NUMBERS


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of a file: a constant, an input, or what an operator gives.

    Attributes:
        name: in the file; may be empty.
        shape: `tuple` of sizes, `None` where a size is open; `None` where the file does not even tell the rank.
        type: of its numbers, as NumPy calls it (`"float32"`, `"int8"`), or `"string"`, `"resource"`, `"unknown"`, ...
        is_constant: whether its values stand in the file.
        scales: number of quantisation scales: 0 (not quantised), 1 (per tensor) or one an index of `axis`.
        axis: dimension along which the scales run, where there are several.
        scale: the one scale, or `None`.
        zero_point: of the one scale, or `None`.
        graph: number of the graph that it belongs to; 0 is the main one.
    """

    name: str
    shape: tuple[int | None, ...] | None
    type: str
    is_constant: bool = False
    scales: int = 0
    axis: int | None = None
    scale: float | None = None
    zero_point: int | None = None
    graph: int = 0

    @property
    def is_static(self):
        """Whether every size is known."""
        return self.shape is not None and None not in self.shape

    def bytes(self, open_size=None):
        """Returns what its values take in memory, `None` if that is not known.

        Args:
            open_size: `int` to be taken for sizes that are open.
        """
        if self.shape is None or self.type not in BITS:
            return None
        sizes = [open_size if size is None else size for size in self.shape]
        return None if None in sizes else -(-math.prod(sizes) * BITS[self.type] // 8)


@dataclasses.dataclass(frozen=True)
class Operator:
    """An operator of a file, in the order in which they run.

    Attributes:
        name: as the format calls it (`"CONV_2D"`, `"Conv"`); a custom one's own name. A domain of ONNX that is not the
            standard's stands before it (`"com.microsoft:FusedConv"`).
        version: of the operator (TFLite), or of its operator set (ONNX).
        inputs: `tuple` of places among the file's tensors; -1 where an input is left out. Of one that holds graphs of
            its own (ONNX), also what these read of its graph.
        outputs: likewise.
        is_custom: whether it is none of the format's own.
        graph: number of the graph that it belongs to; 0 is the main one.
    """

    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    is_custom: bool = False
    graph: int = 0

    @property
    def is_flex(self):
        """Whether it needs TensorFlow itself beside LiteRT."""
        return self.is_custom and self.name.startswith("Flex")


@dataclasses.dataclass(frozen=True)
class Signature:
    """Names by which a TFLite file is called.

    Attributes:
        name: of the signature.
        inputs: `dict` of name to place among the file's tensors.
        outputs: likewise.
    """

    name: str
    inputs: dict[str, int]
    outputs: dict[str, int]


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """A TFLite or ONNX file, ours or not.

    Attributes:
        kind: `"tflite"` or `"onnx"`.
        version: of the format (TFLite's schema, ONNX' IR).
        opsets: `dict` of domain to version of its operator set, of ONNX; `""` is the standard's.
        operators: `tuple` of `Operator`, in order, those of the main graph first.
        tensors: `tuple` of `Tensor`, of all graphs.
        inputs: `tuple` of places among the tensors.
        outputs: likewise.
        signatures: `tuple` of `Signature`, of TFLite.
        properties: `dict` of key to text, what an ONNX file says of itself under keys that begin with `ONNX_PREFIX`.
        size: of the file, in bytes.
        made_by: what wrote it, in its own words.
    """

    kind: str
    version: int
    opsets: dict[str, int]
    operators: tuple[Operator, ...]
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    signatures: tuple[Signature, ...] = ()
    properties: dict[str, str] = dataclasses.field(default_factory=dict)
    size: int = 0
    made_by: str = ""

    def operator_counts(self):
        """Returns `dict` of operator name to how often the file has it, by name."""
        return dict(sorted(Counter(operator.name for operator in self.operators).items()))

    @functools.cached_property
    def labels(self):
        """What to call each tensor: its name in the signature, or its place and the end of its own name."""
        ends = {*self.inputs, *self.outputs}
        labels = []
        for place, tensor in enumerate(self.tensors):
            # TFLite's names hold those of all layers that were fused, with their whole paths.
            short = "/".join(tensor.name.split(";")[-1].split("/")[-2:])
            labels.append(tensor.name if place in ends or self.kind == "onnx" else f"{place} {short}".strip())
        for signature in self.signatures:
            for name, place in (*signature.outputs.items(), *signature.inputs.items()):
                labels[place] = name
        return [label or str(place) for place, label in enumerate(labels)]

    @property
    def parameters(self):
        """Number of weights: what constants hold that are fractions or quantised. Shapes and axes are none."""
        weights = [tensor for tensor in self.tensors if tensor.is_constant and tensor.is_static]
        return sum(math.prod(one.shape) for one in weights if one.scales or one.type.startswith(("float", "bfloat")))


def check_size(path):
    """Raises a `UserError` if a file, a `Path`, is empty or larger than TFLite and ONNX files can be."""
    size = path.stat().st_size
    if size == 0:
        raise UserError(f"`{path}` is empty.")
    if size > LARGEST_FILE:
        raise UserError(f"`{path}` must be smaller than 2 GiB. Received: {size:,} bytes")


def is_tflite(content):
    """Returns whether `bytes` begin as a TFLite file does."""
    return content[4:8] == b"TFL3"


def read_model_file(path):
    """Reads what a file holds; nothing of it is run.

    A TFLite file is read with the schema of `ai-edge-litert`, every offset and length checked against the file; an ONNX
    file by `onnx`, with its shape inference, in a child process of limited time and memory.

    Args:
        path: `str` or `Path`, of a file of any name; what it is is told by its content.

    Returns:
        `ModelFile`.

    Raises:
        UserError: if it is missing, empty, neither of both, truncated, damaged, or made to keep a reader busy.

    Example:
        >>> read_model_file("flowers_int8.tflite").operator_counts()  # doctest: +SKIP
        {'ADD': 10, 'CONV_2D': 36, 'DEPTHWISE_CONV_2D': 17, 'FULLY_CONNECTED': 1, 'MEAN': 1}
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"`{path}` is not a file.")
    check_size(path)
    with open(path, "rb") as file:
        start = file.read(8)
    if is_tflite(start):
        from .tflite_reader import read_tflite

        return read_tflite(path)
    if path.suffix == ".tflite":
        raise UserError(f"`{path}` is not a TFLite file: it does not begin as one.")
    from .onnx_reader import read_onnx

    return read_onnx(path)
