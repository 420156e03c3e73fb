"""Reading files without running them: what they hold, and that no bytes bring the reader down or keep it busy."""

import random
import shutil
import struct
import time

import ai_edge_litert.schema_py_generated as schema
import flatbuffers
import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from auxzoo.errors import UserError
from auxzoo.export import open_file, read_model_file
from auxzoo.export.formats import DEFAULT_FORMATS
from auxzoo.export.inspection import inspect_file
from auxzoo.export.model_file import MOST_PARTS

PROPERTY = settings(derandomize=True, deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
_SECONDS = 10


def onnx_model(nodes, inputs, outputs, weights=(), opset=17, domains=()):
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializer=list(weights))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def floats(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def weights(name, array):
    return onnx.numpy_helper.from_array(np.asarray(array), name)


def written(path, model):
    """Returns the file of an ONNX model, a TFLite model of the schema's object interface, or bytes."""
    if isinstance(model, schema.ModelT):
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        model = bytes(builder.Output())
    elif isinstance(model, onnx.ModelProto):
        model = model.SerializeToString()
    path.write_bytes(model)
    return path


def tflite_model(operators=1, custom=None):
    """Returns a TFLite model `x -> ABS -> ... -> y`, of the schema's object interface."""
    model, graph, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT()
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [code], [schema.BufferT()]
    code.builtinCode = schema.BuiltinOperator.CUSTOM if custom else schema.BuiltinOperator.ABS
    code.deprecatedBuiltinCode, code.customCode, code.version = min(code.builtinCode, 127), custom, 1
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [0], [operators]
    for number in range(operators + 1):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = f"t{number}", [1, 4], schema.TensorType.FLOAT32
        graph.tensors.append(tensor)
    for number in range(operators):
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = 0, [number], [number + 1]
        graph.operators.append(operator)
    return model


def read(path):
    """Reads a file that may be anything; returns it or `None`, and fails if it takes too long or ends otherwise."""
    start, found, reason = time.monotonic(), None, f"`{path}`"
    try:
        found = read_model_file(path)
    except UserError as error:
        reason = str(error)
    assert time.monotonic() - start < _SECONDS
    assert reason.startswith(f"`{path}`")
    assert len(reason) < 400 + len(str(path))
    return found


class TestOwnFiles:
    @pytest.mark.parametrize("form", DEFAULT_FORMATS)
    def test_what_it_says_is_what_the_runtime_says(self, tiny, form):
        found, tensors = read_model_file(tiny.files[form]), open_file(tiny.files[form]).tensors()
        for side, places in (("input", found.inputs), ("output", found.outputs)):
            (place,) = places
            tensor = found.tensors[place]
            assert found.labels[place] == tensors[side]["name"]
            assert list(tensor.shape) == tensors[side]["shape"]
            assert tensors[side]["type"] in (tensor.type, "tensor(float)")
            assert tensor.scale == tensors[side].get("scale")
            assert tensor.zero_point == tensors[side].get("zero_point")
            assert not tensor.is_constant
        assert found.size == tiny.files[form].stat().st_size
        assert found.kind == form.partition("_")[0]

    def test_kernel_of_int8_has_a_scale_a_channel(self, tiny):
        found = read_model_file(tiny.files["tflite_int8"])
        (dense,) = [operator for operator in found.operators if operator.name == "FULLY_CONNECTED"]
        image, kernel, *_ = (found.tensors[place] for place in dense.inputs)
        assert (image.is_constant, image.scales, image.axis) == (False, 1, None)
        assert (kernel.is_constant, kernel.type, kernel.scales) in ((True, "int8", 1), (True, "int8", 3))

    @pytest.mark.parametrize("form", ["tflite_float32", "tflite_float16", "onnx"])
    def test_parameters_are_those_of_the_network(self, tiny, form):
        # The kernel's; a bias of zeros may be left out, and factors put in.
        assert 9 <= read_model_file(tiny.files[form]).parameters <= tiny.network.count_params() + 4

    def test_its_name_does_not_matter(self, tiny, tmp_path):
        for form in ("tflite_int8", "onnx"):
            path = shutil.copy(tiny.files[form], tmp_path / "model.bin")
            assert read_model_file(path) == read_model_file(tiny.files[form])


class TestForeignONNX:
    def test_open_sizes_left_out_inputs_and_constants(self, tmp_path):
        nodes = [
            helper.make_node("Constant", [], ["low"], value=weights("low", np.float32(0))),
            helper.make_node("Clip", ["x", "low", ""], ["clipped"]),
            helper.make_node("MatMul", ["clipped", "kernel"], ["y"]),
        ]
        model = onnx_model(nodes, [floats("x", [-1, 4])], [floats("y", None)], [weights("kernel", np.eye(4, 3))])
        found = read_model_file(written(tmp_path / "a.onnx", model))
        assert found.operator_counts() == {"Clip": 1, "MatMul": 1}  # a constant is no operation
        clip = found.operators[0]
        low, left_out = clip.inputs[1:]
        assert left_out == -1
        assert found.tensors[low].is_constant
        assert found.tensors[found.inputs[0]].shape == (None, 4)
        assert found.tensors[found.inputs[0]].bytes() is None
        assert found.tensors[found.inputs[0]].bytes(open_size=2) == 32
        assert found.opsets == {"": 17}

    def test_shapes_are_inferred_even_from_weights_in_the_file(self, tmp_path):
        big = weights("big", np.zeros((1, 8, 64, 64), np.float32))  # too large to be handed to the inference
        nodes = [
            helper.make_node("Add", ["x", "big"], ["sum"]),
            helper.make_node("Reshape", ["sum", "shape"], ["flat"]),
            helper.make_node("Relu", ["flat"], ["y"]),
        ]
        shape = weights("shape", np.array([1, -1], np.int64))
        model = onnx_model(nodes, [floats("x", [1, 8, 64, 64])], [floats("y", None)], [big, shape])
        found = read_model_file(written(tmp_path / "a.onnx", model))
        shapes = {tensor.name: tensor.shape for tensor in found.tensors}
        assert shapes["flat"] == shapes["y"] == (1, 8 * 64 * 64)
        assert found.parameters == 8 * 64 * 64

    def test_scales_of_quantised_tensors(self, tmp_path):
        nodes = [
            helper.make_node("DequantizeLinear", ["kernel", "scales", "zeros"], ["floats"], axis=0),
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["near"]),
            helper.make_node("MatMul", ["near", "floats"], ["y"]),
        ]
        constants = [
            weights("kernel", np.zeros((3, 2), np.int8)),
            weights("scales", np.ones(3, np.float32)),
            weights("zeros", np.zeros(3, np.int8)),
            weights("scale", np.float32(0.5)),
            weights("zero", np.int8(0)),
        ]
        model = onnx_model(nodes, [floats("x", [1, 3])], [floats("y", [1, 2])], constants)
        tensors = {tensor.name: tensor for tensor in read_model_file(written(tmp_path / "a.onnx", model)).tensors}
        assert (tensors["kernel"].scales, tensors["kernel"].axis) == (3, 0)
        assert (tensors["q"].scales, tensors["q"].axis, tensors["q"].type) == (1, None, "int8")
        assert tensors["x"].scales == 0

    def test_operators_of_other_domains_and_unheard_of(self, tmp_path):
        nodes = [
            helper.make_node("Sharpen", ["x"], ["a"], domain="camera"),
            helper.make_node("Nonsense", ["a"], ["b"]),
            helper.make_node("Scaler", ["b"], ["y"], domain="ai.onnx.ml"),
        ]
        model = onnx_model(nodes, [floats("x", [1])], [floats("y", [1])], domains=("camera", "ai.onnx.ml"))
        operators = read_model_file(written(tmp_path / "a.onnx", model)).operators
        assert [(operator.name, operator.is_custom) for operator in operators] == [
            ("camera:Sharpen", True),
            ("Nonsense", True),
            ("ai.onnx.ml:Scaler", False),
        ]

    def test_graphs_inside_graphs(self, tmp_path):
        branches = {
            name: helper.make_graph([helper.make_node(kind, ["x"], ["z"])], name, [], [floats("z", [2])])
            for name, kind in (("then_branch", "Relu"), ("else_branch", "Neg"))
        }
        condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
        model = onnx_model(
            [helper.make_node("If", ["c"], ["y"], **branches)], [condition, floats("x", [2])], [floats("y", [2])]
        )
        found = read_model_file(written(tmp_path / "a.onnx", model))
        assert found.operator_counts() == {"If": 1, "Neg": 1, "Relu": 1}
        assert {operator.graph for operator in found.operators} == {0, 1, 2}
        (relu,) = [operator for operator in found.operators if operator.name == "Relu"]
        assert found.tensors[relu.inputs[0]].name == "x"  # of the graph outside
        (branch,) = [operator for operator in found.operators if operator.name == "If"]
        assert [found.tensors[place].name for place in branch.inputs] == ["c", "x"]  # it lives until its branches ran

    def test_what_graphs_of_graphs_read_lives_as_long_in_each_outer_one(self, tmp_path):
        condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])

        def branches(node):
            return {
                name: helper.make_graph([node], name, [], [floats("z", [1000])])
                for name in ("then_branch", "else_branch")
            }

        inner = helper.make_node("If", ["c"], ["z"], **branches(helper.make_node("Neg", ["a"], ["z"])))
        nodes = [
            helper.make_node("Relu", ["x"], ["a"]),
            helper.make_node("Relu", ["x"], ["b"]),
            helper.make_node("If", ["c"], ["y"], **branches(inner)),
        ]
        model = onnx_model(nodes, [condition, floats("x", [1000])], [floats("y", [1000])])
        found = read_model_file(written(tmp_path / "a.onnx", model))
        ifs = [operator for operator in found.operators if operator.name == "If"]
        assert len(ifs) == 3
        assert all("a" in [found.tensors[place].name for place in one.inputs] for one in ifs if one.graph == 0)
        own = [place for place, tensor in enumerate(found.tensors) if tensor.name == "a" and tensor.graph == 0]
        assert own[0] in found.operators[2].inputs

    def test_what_a_branch_gives_as_it_is_lives_until_then(self, tmp_path):
        condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
        branches = {
            name: helper.make_graph([], name, [], [floats(given, [4])])
            for name, given in (("then_branch", "a"), ("else_branch", "x"))
        }
        nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("If", ["c"], ["y"], **branches)]
        model = onnx_model(nodes, [condition, floats("x", [4])], [floats("y", [4])])
        found = read_model_file(written(tmp_path / "a.onnx", model))
        assert {found.tensors[place].name for place in found.operators[1].inputs} == {"a", "x", "c"}

    def test_functions_of_the_file_are_what_they_do(self, tmp_path):
        function = helper.make_function(
            "my", "F", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 17)]
        )
        model = onnx_model(
            [helper.make_node("F", ["x"], ["y"], domain="my")], [floats("x", [2])], [floats("y", [2])], domains=["my"]
        )
        model.functions.append(function)
        found = read_model_file(written(tmp_path / "a.onnx", model))
        assert found.operator_counts() == {"Relu": 1}
        assert not found.operators[0].is_custom


class TestForeignTFLite:
    def test_custom_and_flex_operators(self, tmp_path):
        for name, is_flex in (("FlexErf", True), ("Sharpen", False)):
            (operator,) = read_model_file(written(tmp_path / "a.tflite", tflite_model(custom=name))).operators
            assert (operator.name, operator.is_custom, operator.is_flex) == (name, True, is_flex)

    def test_open_sizes(self, tmp_path):
        model = tflite_model()
        model.subgraphs[0].tensors[0].shapeSignature = [-1, 4]
        found = read_model_file(written(tmp_path / "a.tflite", model))
        assert [tensor.shape for tensor in found.tensors] == [(None, 4), (1, 4)]

    def test_an_operator_of_the_future(self, tmp_path):
        model = tflite_model()
        model.operatorCodes[0].builtinCode = 9999
        (operator,) = read_model_file(written(tmp_path / "a.tflite", model)).operators
        assert operator.name == "OPERATOR_9999"

    def test_several_graphs(self, tmp_path):
        model, inner = tflite_model(2), tflite_model(3)
        model.subgraphs += inner.subgraphs
        found = read_model_file(written(tmp_path / "a.tflite", model))
        assert [operator.graph for operator in found.operators] == [0, 0, 1, 1, 1]
        assert found.operators[2].inputs == (3,)  # behind the three tensors of the first graph
        assert len(found.tensors) == 7


def broken(change):
    """Returns a TFLite model after a change to its main graph."""
    model = tflite_model()
    change(model.subgraphs[0], model)
    return model


def set_of(path, value):
    """Returns a change that sets an attribute, `first.second`, where a number is a place in a list."""

    def change(graph, model):
        *way, last = path.split(".")
        owner = graph
        for name in way:
            owner = owner[int(name)] if name.isdigit() else getattr(owner, name)
        setattr(owner, last, value)

    return change


TFLITE = {
    "input that is not there": (broken(set_of("inputs", [5])), "among its Inputs is tensor 5 of 2"),
    "operator reads what is not there": (broken(set_of("operators.0.inputs", [2**30])), "tensor 1073741824 of 2"),
    "negative place": (broken(set_of("operators.0.inputs", [-7])), "among its Inputs"),
    "kind that is not there": (
        broken(set_of("operators.0.opcodeIndex", 3)),
        "an operator is said to be of kind 3 of 1",
    ),
    "buffer that is not there": (broken(set_of("tensors.0.buffer", 9)), "'t0' is said to lie in buffer 9 of 1"),
    "negative size": (broken(set_of("tensors.1.shape", [1, -4])), r"'t1' is said to have shape \[1, -4\]"),
    "more sizes than any tensor has": (broken(set_of("tensors.1.shape", [1] * 33)), "'t1' is said to have shape"),
    "many large sizes": (broken(set_of("tensors.1.shape", [2**31 - 1] * 30)), "'t1' is said to have shape"),
    "thousands of large sizes": (broken(set_of("tensors.1.shape", [2**31 - 1] * 99_999)), "'t1' is said to have shape"),
    "an input of the graph left out": (broken(set_of("inputs", [-1])), "among its Inputs is tensor -1 of 2"),
    "an output of the graph left out": (broken(set_of("outputs", [-1])), "among its Outputs is tensor -1 of 2"),
    "signature of other rank": (broken(set_of("tensors.1.shapeSignature", [1])), "'t1' is said to have shape"),
    "no graph": (broken(lambda graph, model: setattr(model, "subgraphs", [])), "it has no graph"),
    "constant behind the end": (
        broken(
            lambda graph, model: (setattr(model.buffers[0], "offset", 10**12), setattr(model.buffers[0], "size", 9))
        ),
        "a constant is said to end at byte 1,000,000,000,009",
    ),
}


class TestBrokenFiles:
    @pytest.mark.parametrize("kind", TFLITE)
    def test_tflite_that_contradicts_itself(self, tmp_path, kind):
        model, message = TFLITE[kind]
        with pytest.raises(UserError, match=rf"a.tflite` is damaged: .*{message}"):
            read_model_file(written(tmp_path / "a.tflite", model))

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "is empty"),
            (b"\0", "is neither a TFLite nor an ONNX file"),
            (b"TFL3", "is neither a TFLite nor an ONNX file"),
            (b"\x10\0\0\0TFL3", "is damaged"),
            (b"\xff\xff\xff\xffTFL3" + bytes(99), "is damaged"),
            (b"{}\n" * 100, "is neither a TFLite nor an ONNX file"),
            (b"\x89PNG\r\n\x1a\n" + bytes(99), "is neither a TFLite nor an ONNX file"),
            (b"PK\x03\x04" + bytes(99), "is neither a TFLite nor an ONNX file"),
            (b"\x3a\x00", "no graph with an output"),
        ],
    )
    def test_other_content(self, tmp_path, content, message):
        with pytest.raises(UserError, match=rf"a.bin` .*{message}"):
            read_model_file(written(tmp_path / "a.bin", content))

    def test_missing_file_folder_and_wrong_suffix(self, tiny, tmp_path):
        for path in (tmp_path, tmp_path / "nowhere.onnx"):
            with pytest.raises(UserError, match="is not a file"):
                read_model_file(path)
        with pytest.raises(UserError, match="is not a TFLite file"):
            read_model_file(shutil.copy(tiny.files["onnx"], tmp_path / "a.tflite"))

    def test_onnx_that_contradicts_itself(self, tmp_path):
        relu = helper.make_node("Relu", ["elsewhere"], ["y"])
        model = onnx_model([relu], [floats("x", [1])], [floats("y", [1])])
        with pytest.raises(UserError, match="tensor 'elsewhere' is read but never made"):
            read_model_file(written(tmp_path / "a.onnx", model))
        model.graph.initializer.append(onnx.TensorProto(name="elsewhere", dims=[-3], data_type=TensorProto.FLOAT))
        with pytest.raises(UserError, match=r"tensor 'elsewhere' is said to have shape \[-3\]"):
            read_model_file(written(tmp_path / "a.onnx", model))

    @pytest.mark.parametrize("shape", [[2**62] * 20, [1] * 33, [2] * 70_000])
    def test_onnx_of_impossible_shapes(self, tmp_path, shape):
        model = onnx_model([helper.make_node("Relu", ["x"], ["y"])], [floats("x", shape)], [floats("y", None)])
        assert read(written(tmp_path / "a.onnx", model)) is None

    def test_onnx_with_an_output_that_has_no_name(self, tmp_path):
        model = onnx_model([helper.make_node("Relu", ["x"], ["y"])], [floats("x", [1])], [floats("", [1])])
        with pytest.raises(UserError, match="is damaged: an output of it has no name"):
            read_model_file(written(tmp_path / "a.onnx", model))

    def test_onnx_with_names_that_are_no_text(self, tmp_path):
        model = onnx_model([helper.make_node("Relu", ["?!"], ["y"])], [floats("?!", [1])], [floats("y", [1])])
        content = model.SerializeToString().replace(b"?!", b"\xff\xfe")
        with pytest.raises(UserError, match="a name in it is no text"):
            read_model_file(written(tmp_path / "a.onnx", content))


class TestHostileFiles:
    """Small files that ask for much: an answer within seconds, and the next file is read as ever."""

    def shared(self, count, what):
        """Returns a TFLite file whose graph lists one and the same tensor `count` times, or text as long."""
        builder = flatbuffers.Builder(1024)
        text = builder.CreateString("n" * (count if what == "names" else 1))
        schema.TensorStart(builder)
        schema.TensorAddName(builder, text)
        tensor = schema.TensorEnd(builder)
        schema.SubGraphStartTensorsVector(builder, count)
        for _ in range(count):
            builder.PrependUOffsetTRelative(tensor)
        tensors = builder.EndVector()
        schema.SubGraphStart(builder)
        schema.SubGraphAddTensors(builder, tensors)
        graph = schema.SubGraphEnd(builder)
        graphs = count if what == "graphs" else 1
        schema.ModelStartSubgraphsVector(builder, graphs)
        for _ in range(graphs):
            builder.PrependUOffsetTRelative(graph)
        vector = builder.EndVector()
        schema.ModelStart(builder)
        schema.ModelAddSubgraphs(builder, vector)
        builder.Finish(schema.ModelEnd(builder), b"TFL3")
        return bytes(builder.Output())

    @pytest.mark.parametrize(
        ("what", "message"),
        [
            ("graphs", f"more than {MOST_PARTS:,} parts, or the same ones again"),
            ("names", "its names are longer than the file"),
        ],
    )
    def test_the_same_again_and_again(self, tmp_path, what, message):
        path = written(tmp_path / "a.tflite", self.shared(20_000, what))
        assert path.stat().st_size < 500_000
        start = time.monotonic()
        with pytest.raises(UserError, match=message):
            read_model_file(path)
        assert time.monotonic() - start < _SECONDS

    def test_vectors_that_are_said_to_be_longer_than_the_file(self, tmp_path):
        content = bytearray(written(tmp_path / "a.tflite", tflite_model()).read_bytes())
        for place in range(8, len(content) - 4, 4):
            for number in (0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, len(content)):
                damaged = content.copy()
                struct.pack_into("<I", damaged, place, number)
                read(written(tmp_path / "a.tflite", bytes(damaged)))

    def test_onnx_of_more_parts_than_anybody_needs(self, tmp_path):
        node = helper.make_node("Relu", ["x"], ["x"]).SerializeToString()
        nodes = (b"\x0a" + bytes([len(node)]) + node) * (MOST_PARTS + 1)
        output = floats("x", [1]).SerializeToString()
        ends = b"".join(tag + bytes([len(output)]) + output for tag in (b"\x5a", b"\x62"))
        content = onnx.ModelProto(graph=onnx.GraphProto.FromString(nodes + ends)).SerializeToString()
        start = time.monotonic()
        with pytest.raises(UserError, match="more than|takes"):
            read_model_file(written(tmp_path / "a.onnx", content))
        assert time.monotonic() - start < 2 * _SECONDS  # 8 s, and a new child

    def test_onnx_of_graphs_inside_graphs_without_end(self, tmp_path):
        graph = helper.make_graph([], "g", [], [floats("y", [1])])
        for _ in range(24):
            graph = helper.make_graph([helper.make_node("If", [""], ["y"], then_branch=graph)], "g", [], [])
        graph.output.append(floats("y", [1]))
        path = written(tmp_path / "a.onnx", onnx.ModelProto(graph=graph))
        with pytest.raises(UserError, match="deep|cut off"):
            read_model_file(path)

    def test_a_dead_reader_is_told_and_replaced(self, tiny, tmp_path, monkeypatch):
        from auxzoo.export import onnx_reader

        before = read_model_file(tiny.files["onnx"])
        onnx_reader._reader._child.kill()
        onnx_reader._reader._child.wait()
        assert read_model_file(tiny.files["onnx"]) == before
        monkeypatch.setattr(onnx_reader, "_SECONDS", 1e-3)
        large = [weights(f"w{number}", np.zeros(64, np.float32)) for number in range(30_000)]
        model = onnx_model([helper.make_node("Relu", ["x"], ["y"])], [floats("x", [1])], [floats("y", [1])], large)
        with pytest.raises(UserError, match=r"a.onnx` cannot be read: it takes more than 0.001 s"):
            read_model_file(written(tmp_path / "a.onnx", model))
        monkeypatch.undo()
        assert read_model_file(tiny.files["onnx"]) == before


SMALL = {
    "tflite": tflite_model(3),
    "onnx": onnx_model(
        [helper.make_node("MatMul", ["x", "kernel"], ["a"]), helper.make_node("Relu", ["a"], ["y"])],
        [floats("x", [1, 4])],
        [floats("y", [1, 3])],
        [weights("kernel", np.ones((4, 3), np.float32))],
    ),
}


@pytest.fixture(scope="module")
def contents(tiny, tmp_path_factory):
    """The bytes of small files: two made by hand, and those of our formats."""
    folder = tmp_path_factory.mktemp("small")
    made = {kind: written(folder / f"small.{kind}", model) for kind, model in SMALL.items()}
    return {name: path.read_bytes() for name, path in {**made, **tiny.files}.items()}


def mutated(content, generator):
    """Returns a file's bytes after flips, a cut, inserted bytes or overwritten lengths."""
    content, kind = bytearray(content), generator.randrange(4)
    for _ in range(generator.choice([1, 1, 2, 4])):
        place = generator.randrange(len(content))
        if kind == 0:
            content[place] ^= 1 << generator.randrange(8)
        elif kind == 1:
            content[place:place] = generator.randbytes(generator.randint(1, 16))
        elif kind == 2:
            content[place : place + 4] = generator.choice(
                [b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4), generator.randbytes(4)]
            )
        else:
            return bytes(content[:place])
    return bytes(content)


class TestMutatedFiles:
    @PROPERTY
    @given(st.data())
    def test_any_bytes(self, tmp_path_factory, data):
        start = data.draw(st.sampled_from([b"", b"\x18\0\0\0TFL3", b"\x08\x08\x3a"]))
        path = tmp_path_factory.getbasetemp() / "any.bin"
        read(written(path, start + data.draw(st.binary(max_size=300))))

    @PROPERTY
    @given(st.data())
    def test_small_files_changed_anywhere(self, contents, tmp_path_factory, data):
        name = data.draw(st.sampled_from(list(contents)))
        damaged = bytearray(contents[name])
        for place, byte in data.draw(
            st.lists(st.tuples(st.integers(0, len(damaged) - 1), st.integers(0, 255)), min_size=1, max_size=6)
        ):
            damaged[place] = byte
        read(written(tmp_path_factory.getbasetemp() / "changed.bin", bytes(damaged)))

    @pytest.mark.slow
    def test_ten_thousand(self, contents, tmp_path):
        """Some are read none the less, most are not; none crashes or hangs."""
        generator, read_all_the_same = random.Random(0), 0
        for number in range(10_000):
            content = mutated(list(contents.values())[number % len(contents)], generator)
            found = read(path := written(tmp_path / "mutated.bin", content))
            read_all_the_same += found is not None
            if found is not None and number % 10 == 0:  # the whole of what is told takes ten times as long
                inspect_file(path)
        assert 1_000 < read_all_the_same < 9_000
