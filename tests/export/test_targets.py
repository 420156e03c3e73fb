"""Profiles of devices: what they hold, what they tell of files, and that no file that misses its target is written."""

import dataclasses
import re

import ai_edge_litert.schema_py_generated as schema
import flatbuffers
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from auxzoo.errors import UserError
from auxzoo.export import (
    DEFAULT_FORMATS,
    FORMATS,
    TARGETS,
    check_target,
    export_files,
    read_model_file,
    target_operators,
)
from auxzoo.export.formats import OPSET, choose_formats
from auxzoo.export.model_file import BITS, ModelFile, Operator, Tensor
from auxzoo.export.target_checks import TargetMissed, Violation, check_targets, summarize
from auxzoo.files import read_json

TFLITE = [name for name, target in TARGETS.items() if target.kind == "tflite"]
# What our formats of a plain classifier fit.
FITS = {
    "tflite_float32": {"cpu", "gpu", "microcontroller"},
    "tflite_float16": {"cpu", "gpu"},
    "tflite_int8": {"cpu", "gpu", "npu-int8", "edgetpu", "microcontroller"},
    "tflite_int8_float_io": {"cpu", "gpu", "microcontroller"},
    "onnx": {"web"},
}


def file_of(*operators, kind="tflite", tensors=(), inputs=(0,), outputs=(1,), opset=13):
    """Returns a file of int8 tensors, input 0 and output 1 unless others are given."""
    tensors = tensors or (Tensor("x", (1, 4, 4, 3), "int8", scales=1), Tensor("y", (1, 4, 4, 3), "int8", scales=1))
    return ModelFile(kind, 3, {"": opset} if kind == "onnx" else {}, operators, tuple(tensors), inputs, outputs)


def tensors_of(*types):
    return tuple(Tensor(f"t{place}", (1, 2), kind) for place, kind in enumerate(types))


def knows(name, version):
    """Returns whether LiteRT opens a file that names an operator, and has none."""
    model, graph, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT()
    number = vars(schema.BuiltinOperator).get(name)
    code.builtinCode = schema.BuiltinOperator.CUSTOM if number is None else number
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
    code.customCode = name if number is None else None
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [], []
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(64)
    builder.Finish(model.Pack(builder), b"TFL3")
    try:
        Interpreter(model_content=bytes(builder.Output()))
    except ValueError as error:
        assert "Didn't find op for builtin opcode" in str(error), f"{name}: {error}"  # noqa: PT017
        return False
    return True


class TestProfiles:
    @pytest.mark.parametrize("name", TARGETS)
    def test_cites_documents_with_their_date(self, name):
        target = TARGETS[name]
        assert target.title
        assert target.note.endswith(".")
        assert target.sources
        for source in target.sources:
            assert re.fullmatch(r"https://[\w.-]+/\S+", source.url)
            assert re.fullmatch(r"20\d\d-\d\d-\d\d", source.read)
            assert source.title

    @pytest.mark.parametrize("name", TARGETS)
    def test_types_and_formats_exist(self, name):
        target = TARGETS[name]
        assert {"onnx" if form == "onnx" else "tflite" for form in target.formats} == {target.kind}
        assert set(target.formats) <= set(FORMATS)
        for types in (target.types, target.constant_types, target.input_types, target.output_types):
            assert (types or set()) <= {*BITS, "string"}
        assert target.types or (target.input_types and target.output_types), "no number types are declared"

    @pytest.mark.parametrize("name", TFLITE)
    def test_operators_are_those_of_the_schema(self, name):
        """A misspelt one would refuse every file that has it."""
        custom = {
            *("AudioSpectrogram", "Mfcc", "NumericVerify", "TFLite_Detection_PostProcess", "aeq.hadamard_rotation"),
            *("Convolution2DTransposeBias", "MaxPoolingWithArgmax2D", "MaxUnpooling2D", "Resampler"),
            *("edgetpu-custom-op", "ethos-u", "CIRCULAR_BUFFER"),
        }
        assert set(TARGETS[name].operators) - set(vars(schema.BuiltinOperator)) <= custom

    def test_operators_of_cpu_are_known_to_the_runtime_in_their_highest_version(self):
        """A runtime older than the document would not know some; none knows a hundredth version."""
        listed = target_operators.LITERT
        assert [name for name, version in listed.items() if not knows(name, version)] == []
        assert [name for name in listed if name.isupper() and knows(name, 100)] == []

    def test_operators_of_onnx_are_its_own(self):
        import onnx.defs

        for name in target_operators.ONNXRUNTIME_MOBILE:
            domain, _, kind = name.rpartition(":")
            assert domain == "com.microsoft" or onnx.defs.has(kind, "")


class TestChecks:
    def test_operator_that_is_not_in_the_list(self):
        found = check_target(file_of(Operator("CONV_2D", 1, (0,), (1,)), Operator("WHERE", 1, (0,), (1,))), "edgetpu")
        assert [str(one) for one in found] == ["operator 1: WHERE is not among the target's operators"]

    def test_operator_that_is_only_called_like_one_of_the_list(self):
        (found,) = check_target(file_of(Operator("CONV_2D", 1, (0,), (1,), is_custom=True)), "cpu")
        assert found.reason == "CONV_2D is none of the format's own operators, but only called so"

    def test_flex_operator_is_called_what_it_is(self):
        found = check_target(file_of(Operator("FlexErf", 1, (0,), (1,), is_custom=True)), "cpu")
        assert [one.reason for one in found] == ["FlexErf is not among the target's operators, but TensorFlow itself"]

    def test_version_that_is_too_high(self):
        assert check_target(file_of(Operator("CONV_2D", 8, (0,), (1,))), "cpu") == []
        (found,) = check_target(file_of(Operator("CONV_2D", 9, (0,), (1,))), "cpu")
        assert found.reason == "CONV_2D has version 9, must have at most 8"

    @pytest.mark.parametrize(
        ("types", "subjects"),
        [
            (("int8", "int8", "int8"), []),
            (("float32", "int8", "int8"), ["t0"]),
            (("int8", "float32", "int8"), ["t1"]),
            (("int8", "int8", "float32"), ["t2"]),
            (("int8", "int32", "int8"), ["t1"]),
        ],
    )
    def test_number_types_of_inputs_outputs_and_between(self, types, subjects):
        operators = (Operator("RELU", 1, (0,), (2,)), Operator("RELU", 1, (2,), (1,)))
        found = check_target(file_of(*operators, tensors=tensors_of(*types)), "edgetpu")
        assert [re.sub(r"^\d+ ", "", one.subject) for one in found] == subjects
        assert all(one.reason.endswith("must be int8 or uint8") for one in found)

    def test_ends_may_have_types_of_their_own(self):
        file = file_of(Operator("ARG_MAX", 1, (0,), (1,)), tensors=tensors_of("int8", "int32"))
        assert check_target(file, "npu-int8") == []
        turned = dataclasses.replace(file, inputs=(1,), outputs=(0,))
        assert [one.reason for one in check_target(turned, "npu-int8")] == ["int32, must be int8"]

    def test_constants_have_types_of_their_own(self):
        constant = Tensor("bias", (3,), "int32", is_constant=True)
        tensors = (*tensors_of("int8", "int8"), constant)
        assert check_target(file_of(Operator("ADD", 1, (0, 2), (1,)), tensors=tensors), "edgetpu") == []
        tensors = (*tensors[:2], dataclasses.replace(constant, type="float32"))
        (found,) = check_target(file_of(Operator("ADD", 1, (0, 2), (1,)), tensors=tensors), "edgetpu")
        assert found.reason == "constants of float32, must be int32, int8 or uint8"

    def test_open_sizes(self):
        tensors = (Tensor("x", (None, 4), "float32"), Tensor("y", (None, 4), "float32"))
        file = file_of(Operator("RELU", 1, (0,), (1,)), tensors=tensors)
        assert check_target(file, "cpu") == []
        assert [str(one) for one in check_target(file, "gpu")] == [
            "x: open size, must be fixed",
            "y: open size, must be fixed",
        ]

    def test_batch_on_the_edge_tpu(self):
        tensors = (Tensor("x", (2, 4, 4, 3), "int8"), Tensor("y", (1, 4, 4, 3), "int8"))
        found = check_target(file_of(Operator("MEAN", 1, (0,), (1,)), tensors=tensors), "edgetpu")
        assert [str(one) for one in found] == ["x: a size above 1 before its last 3 dimensions, must be 1"]

    def test_activations_of_many_scales(self):
        tensors = (Tensor("x", (1, 4), "int8", scales=4, axis=1), Tensor("y", (1, 4), "int8", scales=1))
        found = check_target(file_of(Operator("RESHAPE", 1, (0,), (1,)), tensors=tensors), "npu-int8")
        assert [str(one) for one in found] == ["x: 4 quantisation scales, must have one"]

    @pytest.mark.parametrize(("name", "reads"), [("CONV_2D", (0, 2)), ("TRANSPOSE_CONV", (3, 2, 0))])
    @pytest.mark.parametrize("weights", ["float32", "int8"])
    def test_weights_of_another_type_on_a_microcontroller(self, name, reads, weights):
        constants = (
            Tensor("w", (2,), weights, is_constant=True),
            Tensor("shape", (4,), "int32", is_constant=True),
        )
        tensors = (*tensors_of("float32", "float32"), *constants)
        found = check_target(file_of(Operator(name, 1, reads, (1,)), tensors=tensors), "microcontroller")
        assert [one.reason for one in found] == (
            [] if weights == "float32" else [f"{name} has int8 weights for float32, must have float32"]
        )

    @pytest.mark.parametrize(("opset", "fits"), [(11, False), (12, True), (15, True), (16, False)])
    def test_operator_sets(self, opset, fits):
        file = file_of(Operator("Relu", opset, (0,), (1,)), kind="onnx", opset=opset)
        expected = [] if fits else [Violation("file", f"operator set {opset}, must be 12 to 15")]
        assert check_target(file, "onnxruntime-mobile") == expected

    @pytest.mark.parametrize(("opset", "fits"), [(6, False), (7, True), (26, True), (27, False)])
    def test_operator_sets_of_the_web(self, opset, fits):
        file = file_of(Operator("Relu", opset, (0,), (1,)), kind="onnx", opset=opset)
        expected = [] if fits else [Violation("file", f"operator set {opset}, must be 7 to 26")]
        assert check_target(file, "web") == expected

    @pytest.mark.parametrize(
        ("name", "taken", "refused"), [("cpu", "int16", "float16"), ("web", "float16", "bfloat16")]
    )
    def test_types_that_a_program_can_hand_over(self, name, taken, refused):
        kind, operator = ("onnx", "Relu") if name == "web" else ("tflite", "RELU")
        for types, count in ((("float32", taken), 0), (("float32", refused), 1), ((refused, "float32"), 1)):
            file = file_of(Operator(operator, 1, (0,), (1,)), tensors=tensors_of(*types), kind=kind)
            found = check_target(file, name)
            assert len(found) == count
            assert all(one.reason.startswith(f"{refused}, must be bool, ") for one in found)

    def test_operators_that_are_not_onnx_own(self):
        file = file_of(Operator("camera:Sharpen", 1, (0,), (1,), is_custom=True), kind="onnx")
        (found,) = check_target(file, "web")
        assert found.reason == "camera:Sharpen is none of the format's own operators"

    def test_other_kind_of_file_and_unknown_target(self):
        assert check_target(file_of(kind="onnx"), "cpu") == [Violation("file", "ONNX, must be TFLite")]
        assert check_target(file_of(), "web") == [Violation("file", "TFLite, must be ONNX")]
        with pytest.raises(UserError, match=r"`target` must be one of cpu, gpu, .*web. Received: 'tpu'"):
            check_target(file_of(), "tpu")

    def test_summary_counts_and_names_the_first(self):
        violations = [Violation(f"operator {place}", "A is no B") for place in range(5)]
        lines = summarize([*violations, Violation("x", "float32, must be int8")])
        assert lines == ["A is no B (operator 0, operator 1, operator 2 and 2 more)", "float32, must be int8 (x)"]
        assert summarize(violations, most=None) == [
            f"A is no B ({', '.join(f'operator {place}' for place in range(5))})"
        ]


class TestOwnFiles:
    @pytest.mark.parametrize("form", FITS)
    def test_what_each_format_fits(self, tiny, form):
        found = check_targets(read_model_file(tiny.files[form]))
        assert set(found) == {name for name, target in TARGETS.items() if target.kind == form.partition("_")[0]}
        assert {name for name, lines in found.items() if not lines} == FITS[form]

    @pytest.mark.parametrize(
        ("function", "fits"),
        [
            (tf.nn.relu6, True),
            (tf.math.ceil, False),
            (tf.nn.softmax, True),
            (lambda x: tf.argmax(x, axis=-1), False),
            (lambda x: tf.nn.space_to_depth(x, 2), True),
            (lambda x: tf.space_to_batch(x, [2, 2], [[0, 0], [0, 0]]), False),
            (lambda x: tf.image.resize(x, (8, 8)), True),
        ],
    )
    def test_operators_as_the_converter_writes_them_on_a_gpu(self, tmp_path, function, fits):
        concrete = tf.function(function).get_concrete_function(tf.TensorSpec((1, 4, 4, 4), tf.float32))
        path = tmp_path / "a.tflite"
        path.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([concrete]).convert())
        assert (check_target(read_model_file(path), "gpu") == []) == fits

    @pytest.mark.parametrize("form", [form for form in DEFAULT_FORMATS if form != "onnx"])
    def test_the_microcontroller_runtime_itself_says_the_same(self, tiny, form):
        """Where `tflite-micro` is installed: its interpreter allocates what the profile lets pass, and no other."""
        runtime = pytest.importorskip("tflite_micro").runtime
        try:
            runtime.Interpreter.from_file(str(tiny.files[form]), arena_size=2**20)
            runs = True
        except RuntimeError:
            runs = False
        assert runs == (check_target(read_model_file(tiny.files[form]), "microcontroller") == [])


class TestExport:
    def test_formats_of_a_target(self):
        assert choose_formats(None, "edgetpu") == (["tflite_int8"], OPSET)
        assert choose_formats(None, "onnxruntime-mobile") == (["onnx"], 15)
        assert choose_formats(["onnx"], "web") == (["onnx"], OPSET)
        assert choose_formats() == (list(DEFAULT_FORMATS), OPSET)
        with pytest.raises(UserError, match="`formats` for edgetpu must be of kind tflite. Received: onnx"):
            choose_formats(["tflite_int8", "onnx"], "edgetpu")
        with pytest.raises(UserError, match="`target` must be one of"):
            choose_formats(None, "toaster")

    def test_records_tell_of_every_target(self, tiny, tmp_path):
        (record,) = export_files(
            tiny.network, tmp_path, description=tiny.description, target="onnxruntime-mobile", name="net"
        )
        assert record["targets"] == {"onnxruntime-mobile": [], "web": []}
        assert read_json(tmp_path / "net.onnx.json")["targets"] == record["targets"]
        assert read_model_file(tmp_path / "net.onnx").opsets[""] == 15

    def test_a_file_that_misses_its_target_is_not_written(self, tiny, tmp_path):
        message = r"(?s)do not fit edgetpu .*none was written:\n  net_float32.tflite: float32, must be .* \(image, .*\)"
        with pytest.raises(TargetMissed, match=message):
            export_files(
                tiny.network,
                tmp_path / "out",
                ["tflite_float32", "tflite_float16"],
                description=tiny.description,
                target="edgetpu",
                name="net",
            )
        assert list(tmp_path.iterdir()) == []
