"""What a file must be to run on a kind of device, and whether one is: small declared profiles.

Each profile holds no more than the documents it cites do, but for what its note says was tried; what they leave open is
not checked, and the note says that too.
"""

import dataclasses

from auxzoo.errors import UserError

from . import target_operators

_READ = "2026-11-25"
_TFLITE_FORMATS = ("tflite_float32", "tflite_float16", "tflite_dynamic", "tflite_int8", "tflite_int8_float_io")
_INDICES = frozenset({"int32", "int64", "bool"})
# What programs can hand over and take back, by the runtimes' own interfaces.
_OF_ANDROID = frozenset({"float32", "int8", "uint8", "int16", "string"}) | _INDICES
_OF_JAVASCRIPT = _OF_ANDROID | {"float16", "float64", "uint16", "uint32", "uint64", "int4", "uint4"}
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
        input_types=_OF_ANDROID,
        output_types=_OF_ANDROID,
        sources=(
            Source(
                "TensorFlow Lite, BuiltinOpResolver",
                "https://github.com/tensorflow/tensorflow/blob/master/tensorflow/lite/core/kernels/register.cc",
            ),
            Source(
                "LiteRT for Android, DataType",
                "https://ai.google.dev/edge/api/tflite/java/org/tensorflow/lite/DataType",
                read="2026-11-30",
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
        note="The runtime itself (tflite-micro 0.dev20261023) agreed on eleven files of every number type. Whether a "
        "file and its arena fit into a chip's memory is not checked: the memory plan helps to see it.",
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
        opsets=(7, 26),
        input_types=_OF_JAVASCRIPT,
        output_types=_OF_JAVASCRIPT,
        sources=(
            Source(
                "ONNX Runtime JavaScript API, Tensor.DataTypeMap",
                "https://onnxruntime.ai/docs/api/js/interfaces/Tensor.DataTypeMap.html",
                read="2026-11-30",
            ),
            Source("onnxruntime-web 1.30.0, README, Operators", "https://www.npmjs.com/package/onnxruntime-web"),
            Source(
                "ONNX Runtime compatibility, operator sets from 7 on",
                "https://onnxruntime.ai/docs/reference/compatibility.html",
                read="2026-11-30",
            ),
        ),
        note="It takes all operators of ai.onnx and ai.onnx.ml. Version 1.30.0 itself opened files of operator sets 7 "
        "to 26 on 2026-11-30 and refused 27. Its WebGPU and WebGL backends take fewer operators.",
    ),
}


def find_target(name):
    """Returns a profile by its name.

    Raises:
        UserError: if there is none of that name.
    """
    if name not in TARGETS:
        raise UserError(f"`target` must be one of {', '.join(TARGETS)}. Received: {name!r}")
    return TARGETS[name]
