"""What a file must be to run on a kind of device, and whether one is: small declared profiles.

Each profile holds no more than the documents it cites do; what they leave open is not checked, and its note says so.
"""

import dataclasses

from auxzoo.errors import UserError

from . import target_operators

_READ = "2026-11-25"
_TFLITE_FORMATS = ("tflite_float32", "tflite_float16", "tflite_dynamic", "tflite_int8", "tflite_int8_float_io")
_INDICES = frozenset({"int32", "int64", "bool"})
_KERNELS = "https://github.com/tensorflow/tflite-micro/blob/main/tensorflow/lite/micro/kernels"


@dataclasses.dataclass(frozen=True)
class Source:
    """A document that a profile's lists come from.

    Attributes:
        title: `str`.
        url: `str`, public.
        read: `str`, the day on which it was read.
    """

    title: str
    url: str
    read: str = _READ


@dataclasses.dataclass(frozen=True)
class Target:
    """What a kind of device runs.

    Attributes:
        title: what it is.
        kind: of file: `"tflite"` or `"onnx"`.
        formats: names among `auxzoo.export.FORMATS` that are exported for it unless others are asked for.
        sources: `tuple` of `Source`.
        operators: `dict` of operator to its highest version, `None` where that is open; `None` for all of the format's.
        types: number types of what operators read and give, `None` for all.
        constant_types: number types of constants, `None` for all.
        input_types: number types of the file's inputs, `None` for `types`.
        output_types: likewise of its outputs.
        static_shapes: whether every size must be known.
        largest_rank: of dimensions with a size above 1, counted from the last; `None` for any.
        same_types: operators whose weights must be of the type of what they are applied to.
        per_tensor: whether what operators read and give must be quantised by one scale.
        opsets: lowest and highest operator set of ONNX, `None` for any.
        note: what the documents leave open.
    """

    title: str
    kind: str
    formats: tuple[str, ...]
    sources: tuple[Source, ...]
    operators: dict[str, int | None] | None = None
    types: frozenset[str] | None = None
    constant_types: frozenset[str] | None = None
    input_types: frozenset[str] | None = None
    output_types: frozenset[str] | None = None
    static_shapes: bool = False
    largest_rank: int | None = None
    same_types: frozenset[str] = frozenset()
    per_tensor: bool = False
    opsets: tuple[int, int] | None = None
    note: str = ""


TARGETS = {
    "cpu": Target(
        title="LiteRT on a processor",
        kind="tflite",
        formats=_TFLITE_FORMATS,
        operators=target_operators.LITERT,
        sources=(
            Source(
                "TensorFlow Lite, BuiltinOpResolver",
                "https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/core/kernels/register.cc",
            ),
        ),
        note="Which number types each operator takes stands in its kernel and is not checked; running the file does.",
    ),
    "gpu": Target(
        title="LiteRT's GPU delegate",
        kind="tflite",
        formats=("tflite_float32", "tflite_float16"),
        operators=target_operators.GPU_DELEGATE,
        types=frozenset({"float32", "float16", "int8", "uint8", "int32", "bool"}),
        static_shapes=True,
        sources=(
            Source("GPU delegates for LiteRT", "https://ai.google.dev/edge/litert/performance/gpu"),
            Source(
                "TensorFlow Lite, CheckGpuDelegateCompatibility",
                "https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/tools/versioning/gpu_compatibility.cc",
            ),
        ),
        note="The delegate's own check has more operators (MEAN among them) than the page, which is the older: it is "
        "followed. Strides, activations and versions are not checked. 8-bit files are computed in floating point.",
    ),
    "npu-int8": Target(
        title="accelerators for LiteRT's 8-bit specification",
        kind="tflite",
        formats=("tflite_int8",),
        operators=target_operators.INT8_SPECIFICATION,
        types=frozenset({"int8"}) | _INDICES,
        constant_types=frozenset({"int8", "int32", "int64", "bool"}),
        input_types=frozenset({"int8"}),
        output_types=frozenset({"int8"}) | _INDICES,
        static_shapes=True,
        per_tensor=True,
        sources=(
            Source(
                "LiteRT 8-bit quantization specification",
                "https://ai.google.dev/edge/litert/models/quantization_spec",
            ),
        ),
        note="Makers' own lists differ (Qualcomm, MediaTek, Samsung) and are not in it; nor are the ranges of scales.",
    ),
    "edgetpu": Target(
        title="Coral's Edge TPU, before its compiler",
        kind="tflite",
        formats=("tflite_int8",),
        operators=target_operators.EDGE_TPU,
        types=frozenset({"int8", "uint8"}),
        constant_types=frozenset({"int8", "uint8", "int32"}),
        static_shapes=True,
        largest_rank=3,
        sources=(
            Source("TensorFlow models on the Edge TPU", "https://coral.ai/docs/edgetpu/models-intro/"),
            Source(
                "Axis, supported operators of ARTPEC-7 (an Edge TPU)",
                "https://developer.axis.com/computer-vision/on-device/system-on-chip/artpec-7/supported-ops/",
            ),
            Source(
                "An older edition of Coral's table, copied",
                "https://github.com/dgist-datalab/Datalab_Intern/blob/master/Edge_TPU/convert_model_for_Edge_TPU.md",
            ),
            Source(
                "Transpose from compiler 16 on, google-coral/edgetpu#193",
                "https://github.com/google-coral/edgetpu/issues/193",
            ),
            Source(
                "TransposeConv in Coral's table, google-coral/edgetpu#684",
                "https://github.com/google-coral/edgetpu/issues/684",
            ),
        ),
        note="Coral's table could not be read beyond its row ResizeBilinear: an operator that is missing here may "
        "stand there. Limits of single operators and of their versions are for its compiler to tell.",
    ),
    "microcontroller": Target(
        title="LiteRT for microcontrollers",
        kind="tflite",
        formats=("tflite_int8",),
        operators=target_operators.MICROCONTROLLER,
        types=frozenset({"float32", "int8", "int16"}) | _INDICES,
        constant_types=frozenset({"float32", "int4", "int8", "int16"}) | _INDICES,
        static_shapes=True,
        same_types=frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}),
        sources=(
            Source(
                "tflite-micro, PythonOpsResolver (all kernels)",
                "https://github.com/tensorflow/tflite-micro/blob/main/python/tflite_micro/python_ops_resolver.cc",
            ),
            Source("tflite-micro, no weights of another type than the data", f"{_KERNELS}/fully_connected.cc"),
            Source("tflite-micro, DEQUANTIZE reads int8 and int16", f"{_KERNELS}/dequantize_common.cc"),
        ),
        note="Whether the file and its arena fit into a chip's memory is not checked: the memory plan helps to see it.",
    ),
    "onnxruntime-mobile": Target(
        title="onnxruntime's reduced packages for Android and iOS",
        kind="onnx",
        formats=("onnx",),
        operators=target_operators.ONNXRUNTIME_MOBILE,
        types=frozenset({"float32", "int8", "uint8"}) | _INDICES,
        constant_types=frozenset({"float32", "int8", "uint8"}) | _INDICES,
        opsets=(12, 15),
        sources=(
            Source(
                "ONNX Runtime 1.17 Mobile Pre-Built Package Operator and Type Support",
                "https://onnxruntime.ai/docs/reference/operators/mobile_package_op_type_support_1.17.html",
            ),
        ),
        note="1.17 is the last edition of the list. The packages read the ORT format, to which onnxruntime's own tool "
        "converts an ONNX file.",
    ),
    "web": Target(
        title="onnxruntime-web, WebAssembly",
        kind="onnx",
        formats=("onnx",),
        sources=(Source("onnxruntime-web 1.30.0, README, Operators", "https://www.npmjs.com/package/onnxruntime-web"),),
        note="It takes all operators of ai.onnx and ai.onnx.ml. Its WebGPU and WebGL backends take fewer.",
    ),
}


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


def find_target(name):
    """Returns a profile by its name.

    Raises:
        UserError: if there is none of that name.
    """
    if name not in TARGETS:
        raise UserError(f"`target` must be one of {', '.join(TARGETS)}. Received: {name!r}")
    return TARGETS[name]


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
        return [Violation("file", f"{_KINDS[model_file.kind]}, must be {_KINDS[profile.kind]}")]
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
        for line in summarize(check_target(model_file, target))
    ]
    if lines:
        title = f"The files do not fit {target} ({find_target(target).title}), so none was written:"
        raise TargetMissed("\n".join([title, *lines]))


def summarize(violations, most=3):
    """Returns a line for each reason, with the first of those that it concerns, and how many more there are."""
    by_reason = {}
    for violation in violations:
        by_reason.setdefault(violation.reason, []).append(violation.subject)
    return [
        f"{reason} ({', '.join(subjects[:most])}{f' and {len(subjects) - most} more' if len(subjects) > most else ''})"
        for reason, subjects in by_reason.items()
    ]


_KINDS = {"tflite": "TFLite", "onnx": "ONNX"}


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
