"""The structure of an auxiliary: strict, frozen, and the same after a trip through JSON."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import auxzoo
from auxzoo import models
from auxzoo.auxiliary import OPERATIONS, Node, Structure
from auxzoo.auxiliary.structure import SUPERVISIONS

TAPS = (("stem", "layer1"), ("stage1", "layer2"), ("stage2", "layer3"))


@st.composite
def structures(draw):
    names = draw(st.lists(st.from_regex(r"[a-z_][a-z0-9_]{0,6}", fullmatch=True), min_size=1, max_size=5, unique=True))
    taps = [tap for tap, _ in TAPS]
    nodes = []
    for place, name in enumerate(names):
        links = draw(st.lists(st.sampled_from(taps), min_size=place == 0, max_size=3, unique=True))
        nodes.append(Node(name, tuple(links), draw(st.sampled_from(list(OPERATIONS))), draw(st.integers(1, 64))))
    return Structure(TAPS, tuple(nodes))


@settings(derandomize=True, deadline=None, max_examples=100)
@given(structures())
def test_survives_json(structure):
    assert Structure.from_json(structure.to_json()) == structure


def test_survives_a_file(tmp_path):
    structure = Structure(TAPS, (Node("first", ("stem",), "identity", 4),))
    structure.save(tmp_path / "structure.json")
    assert Structure.read(tmp_path / "structure.json") == structure


def test_is_frozen():
    structure = Structure(TAPS, (Node("first", ("stem",), "identity", 4),))
    with pytest.raises(dataclasses.FrozenInstanceError):
        structure.nodes = ()


def test_channels_may_be_a_number_of_numpy():
    structure = Structure(TAPS, (Node("first", ("stem",), "identity", np.int64(4)),))
    assert Structure.from_dict(json.loads(json.dumps(structure.to_dict()))) == structure


def written(**changes):
    return {"format": 1, "taps": dict(TAPS), "nodes": [node()]} | changes


def node(**changes):
    return {"name": "first", "links": ["stem"], "operation": "identity", "channels": 4} | changes


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node(links=["stage9"])], r"`links` of node 'first' must be among the taps stem, stage1, stage2.*'stage9'"),
        ([node(operation="convolution_9x9")], r"`operation` of node 'first' must be one of convolution_1x1,.*9x9"),
        ([node(channels=0)], r"`channels` of node 'first' must be 1 or more.*channels=0"),
        ([node(channels=2.5)], r"`channels` of node 'first' must be 1 or more.*channels=2.5"),
        ([node(channels=True)], r"`channels` of node 'first' must be 1 or more"),
        ([node(name="a b")], r"`name` of a node must be letters"),
        ([node(operation=["identity"])], r"`operation` of node 'first' must be one of .*\['identity'\]"),
        ([node(links=5)], r"`links` of node 'first' must be a list of names of taps. Received: links=5"),
        ([node(links=None)], r"`links` of node 'first' must be a list of names of taps. Received: links=None"),
        ([node(links=[["stem"]])], r"`links` of node 'first' must be a list of names of taps"),
        ([node(name=7)], r"`name` of a node must be letters"),
        ([node(links=[])], r"`links` of node 'first', which reads no other, must name a tap"),
        ([node(links="stem")], r"`links` of node 'first' must be a list of names of taps"),
        ([node(links=["stem", "stem"])], r"`links` of node 'first' must name a tap once"),
        ([node(), node()], r"`nodes` must have a name each"),
        ([], r"`nodes` must hold at least one node"),
        (
            [node(colour="red")],
            r"A node must have the keys channels, links, name, operation, and.*colour",
        ),
        ([{"name": "first"}], r"A node must have the keys"),
        (["first"], r"A node must have the keys.*first"),
        ("first", r"`nodes` a list"),
    ],
)
def test_a_wrong_node_is_named(nodes, message):
    with pytest.raises(auxzoo.UserError, match=message):
        Structure.from_dict(written(nodes=nodes))


@pytest.mark.parametrize(
    "value",
    [{}, {"taps": {}}, [], None, {"taps": {}, "nodes": []}, {"format": 1, "taps": {}, "nodes": [], "gates": []}],
)
def test_other_keys_are_refused(value):
    with pytest.raises(auxzoo.UserError, match="A structure must have the keys format, taps and nodes"):
        Structure.from_json(json.dumps(value))


@pytest.mark.parametrize("number", [0, 2, 1.0, True, "1", None, [1]])
def test_another_format_is_refused(number):
    with pytest.raises(auxzoo.UserError, match=r"`format` of a structure must be 1. Received: format="):
        Structure.from_dict(written(format=number, gates=[]))


@pytest.mark.parametrize(
    ("taps", "message"),
    [
        ({"stem": 5}, r"`taps` must be a list of pairs of names.*\('stem', 5\)"),
        ({"a/b": "layer1"}, r"`taps` must have names without `/`. Received: 'a/b'"),
        ([["stem", "layer1"]], r"`taps` of a structure must be an object and `nodes` a list. Received: list and list"),
    ],
)
def test_wrong_taps_of_a_file_are_named(taps, message):
    with pytest.raises(auxzoo.UserError, match=message):
        Structure.from_dict(written(taps=taps))


# Any JSON value, and objects that are nearly a structure, so that the checks behind the keys are reached too.
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["stem", *OPERATIONS])
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)
NODES = st.fixed_dictionaries({key: st.just(value) | JSON for key, value in node().items()})
STRUCTURES = st.fixed_dictionaries(
    {
        "format": st.just(1) | JSON,
        "taps": st.just(dict(TAPS)) | st.dictionaries(st.text(), JSON, max_size=2) | JSON,
        "nodes": st.lists(NODES | JSON, max_size=2) | JSON,
    },
    optional={"provenance": JSON},
)


@settings(derandomize=True, deadline=None, max_examples=500)
@given(JSON | STRUCTURES)
def test_any_json_is_a_structure_or_told_to_be_none(value):
    for read, content in ((Structure.from_dict, value), (Structure.from_json, json.dumps(value))):
        try:
            structure = read(content)
        except auxzoo.UserError:
            continue
        assert Structure.from_json(structure.to_json()) == structure


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 10_000, None, 5, b"\xff"])
def test_what_no_json_reader_takes_is_refused(text):
    with pytest.raises(auxzoo.UserError, match="A structure must"):
        Structure.from_json(text)


class TestProvenance:
    origin = {"made_by": "search", "seed": 3, "cost": {"macs": 1e6, "share": [0.1, None]}}  # noqa: RUF012  (only read)
    nodes = (Node("first", ("stem",), "identity", 4),)

    def test_survives_json_and_a_file(self, tmp_path):
        structure = Structure(TAPS, self.nodes, self.origin)
        assert Structure.from_json(structure.to_json()).provenance == self.origin
        structure.save(tmp_path / "structure.json")
        assert Structure.read(tmp_path / "structure.json").provenance == self.origin
        assert "provenance" not in Structure(TAPS, self.nodes).to_dict()

    def test_does_not_make_another_structure(self):
        plain, told = Structure(TAPS, self.nodes), Structure(TAPS, self.nodes, self.origin)
        assert plain == told
        assert hash(plain) == hash(told)

    def test_is_a_copy(self):
        origin = {"data": ["a"]}
        structure = Structure(TAPS, self.nodes, origin)
        origin["data"].append("b")
        structure.to_dict()["provenance"]["data"].append("c")
        assert structure.provenance == {"data": ["a"]}

    @pytest.mark.parametrize("provenance", [[], "search", 1, {"a": object()}, {"a": float("nan")}, {"a": {1, 2}}])
    def test_what_is_no_json_object_is_refused(self, provenance):
        with pytest.raises(auxzoo.UserError, match="`provenance` must be None or an object of plain JSON types"):
            Structure(TAPS, self.nodes, provenance)

    def test_of_the_default(self, foreign_model):
        structure = Structure.default(foreign_model, taps=["first"], width_multiplier=2)
        assert structure.provenance == {
            "made_by": "Structure.default",
            "network": "foreign",
            "width_multiplier": 2,
        }


@pytest.mark.parametrize("text", ["", "{", "nodes"])
def test_no_json_is_refused(text, tmp_path):
    with pytest.raises(auxzoo.UserError, match="must be JSON"):
        Structure.from_json(text)
    (tmp_path / "structure.json").write_text(text)
    with pytest.raises(auxzoo.UserError, match=r"structure.json` cannot be read as JSON"):
        Structure.read(tmp_path / "structure.json")


@pytest.mark.parametrize(
    "network",
    [
        models.MobileNetV2((32, 32, 3), 0.35, total_stride=8, num_classes=3),
        models.MobileNetV2((32, 32, 3), total_stride=8, num_classes=3),
        models.ResNet18((32, 32, 3), 0.25, "small", num_classes=3),
    ],
    ids=["mobilenet_v2_035", "mobilenet_v2_100", "resnet18"],
)
@pytest.mark.parametrize("supervision", [None, *SUPERVISIONS])
def test_default_reads_every_stage_and_is_as_wide(network, supervision):
    structure = Structure.default(network, **({"supervision": supervision} if supervision else {}))
    assert structure.supervision == (supervision or "deep")
    taps = dict(auxzoo.describe(network).taps)
    assert len(structure.nodes) == len(taps) - 1  # a node for every stage
    # The stem is read by the first node of a chain alone: by itself it is too early for a head.
    read = set(taps) - {"stem"} if structure.supervision == "deep" else set(taps)
    assert {link for node in structure.nodes for link in node.links} == read
    assert len(taps) >= 4
    for structure_node in structure.nodes:
        tap = structure_node.links[-1]
        assert structure_node.channels >= network.get_layer(taps[tap]).output.shape[-1]
    # Several nodes have a convolution of their own, which is where the auxiliary's capacity lies.
    assert sum(node.operation == "convolution_3x3" for node in structure.nodes) >= 3


def test_default_of_a_foreign_model_has_a_node_for_every_layer_named(foreign_model):
    structure = Structure.default(foreign_model, taps=["first", "second"], width_multiplier=2)
    assert structure.taps == (("first", "first"), ("second", "second"))
    assert [node.links for node in structure.nodes] == [("first",), ("second",)]
    assert structure.nodes[1].channels == 12
    chained = Structure.default(foreign_model, taps=["first", "second"], supervision="hierarchical")
    assert [node.links for node in chained.nodes] == [("first",), ("second",)]


def test_a_layer_that_other_models_call_too_is_read_where_this_one_calls_it():
    layer = keras.layers.Conv2D(4, 3, name="shared")
    layer(keras.Input((64, 64, 3)))
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(layer(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    joint = auxzoo.attach(model, Structure.default(model, taps=["shared"]))
    assert joint.get_layer("auxiliary_shared_operation").output.shape == (None, 6, 6, 4)


def test_a_layer_inside_of_another_network_is_told_where_it_is():
    inner = keras.Input((8, 8, 3))
    base = keras.Model(inner, keras.layers.Conv2D(4, 3, name="deep_inside")(inner), name="base")
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.GlobalAveragePooling2D()(base(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    with pytest.raises(auxzoo.UserError, match="Received: 'deep_inside', a layer inside of 'base'"):
        Structure.default(model, taps=["deep_inside"])


def test_separate_auxiliaries_share_the_budget_of_convolutions():
    backbone = models.MobileNetV2((96, 96, 3), 0.35, output_stride=16)
    tasks = [auxzoo.Task(name, "regression") for name in ("near", "far", "high")]
    network = models.MultiTask(backbone, tasks, channels=16)
    shared, separate = (Structure.default(network, tasks=tasks) for tasks in ("shared", "separate"))
    convolutions = [
        sum(node.operation == "convolution_3x3" for node in structure.nodes) for structure in (shared, separate)
    ]
    assert convolutions[1] < convolutions[0]


def test_default_of_a_model_with_a_shared_and_a_nested_layer():
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", name="first")(inputs)
    shared = keras.layers.Conv2D(8, 3, padding="same", name="shared")
    x = shared(shared(x))
    inner = keras.Input((16, 16, 8))
    x = keras.Model(inner, keras.layers.Conv2D(8, 1)(inner), name="inner")(x)
    x = keras.layers.GlobalAveragePooling2D()(x * 2)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    structure = Structure.default(model, taps=["first", "shared"])
    assert auxzoo.attach(model, structure).output["auxiliary_shared"].shape == (None, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"`taps` must name layers of 'foreign', which carries no description"),
        ({"taps": []}, r"`taps` must name at least one layer"),
        ({"taps": "first"}, r"`taps` must be a list of names.*'first'"),
        ({"taps": ["first", 2]}, r"`taps` must be a list of names"),
        ({"taps": ["first", "third"]}, r"`taps` must be layers of 'foreign'.*Received: 'third'"),
        ({"taps": ["first", "pooling"]}, r"Tap 'pooling' must be a feature map"),
        ({"taps": ["first"], "supervision": "wide"}, r"`supervision` must be one of hierarchical, deep, both.*'wide'"),
        ({"taps": ["first"], "supervision": ["deep"]}, r"`supervision` must be one of hierarchical, deep, both"),
        ({"taps": ["first"], "width_multiplier": 0.5}, r"`width_multiplier` must be 1 or more"),
        ({"taps": ["first"], "width_multiplier": "wide"}, r"`width_multiplier` must be 1 or more.*'wide'"),
        ({"taps": ["first"], "width_multiplier": float("nan")}, r"`width_multiplier` must be 1 or more"),
    ],
)
def test_wrong_taps_are_named(foreign_model, arguments, message):
    with pytest.raises(auxzoo.UserError, match=message):
        Structure.default(foreign_model, **arguments)
