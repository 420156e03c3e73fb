"""Attaching and detaching: promises 1, 2 and 6 of the design, over random structures."""

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import auxzoo
from auxzoo import models
from auxzoo.auxiliary import Node, SearchSpace, Structure
from auxzoo.auxiliary.structure import SUPERVISIONS, tap_pairs
from auxzoo.models.names import AUXILIARY_PREFIX, auxiliary_outputs, is_joint

PROPERTY = settings(derandomize=True, deadline=None, max_examples=12, suppress_health_check=list(HealthCheck))


def foreign():
    """A network of `keras.applications` that this project has never seen."""
    return keras.applications.MobileNet(
        weights=None, input_shape=(33, 47, 3), alpha=0.25, classes=4, classifier_activation=None
    )


FOREIGN_TAPS = ("conv1_relu", "conv_pw_3_relu", "conv_pw_5_relu", "conv_pw_11_relu", "conv_pw_13_relu")
# name -> (function that builds the network, taps of a foreign one)
NETWORKS = {
    "mobilenet_v2": (lambda: models.MobileNetV2((32, 32, 3), 0.35, total_stride=16, num_classes=4), None),
    "resnet18": (lambda: models.ResNet18((20, 28, 3), 0.125, "small", num_classes=4), None),
    "deeplab": (
        lambda: models.DeepLabLite(
            models.ResNet18((36, 40, 3), 0.125, "small_stride2", output_stride=8), num_classes=4, channels=8
        ),
        None,
    ),
    "several_tasks": (
        lambda: models.MultiTask(
            models.ResNet18((20, 28, 3), 0.125, "small_stride2", output_stride=8),
            [
                auxzoo.Task("scene", "classification", ("indoor", "outdoor")),
                auxzoo.Task("surface", "segmentation", ("floor", "wall", "other")),
                auxzoo.Task("depth", "regression", unit="m", scale=5.0),
            ],
            channels=8,
        ),
        None,
    ),
    "mobilenet_of_keras": (foreign, FOREIGN_TAPS),
}


@pytest.fixture(scope="module", params=NETWORKS)
def compact(request, shallow_networks, make_random):
    build, taps = NETWORKS[request.param]
    network = make_random(build())
    return network, tap_pairs(network, taps), build


def leaves(output):
    """Returns the predictions in an output, one of each task."""
    return keras.tree.flatten(output)


def assert_equal(output, other):
    """Fails unless two outputs have the same structure and bits."""
    keras.tree.assert_same_structure(output, other)
    for one, another in zip(leaves(output), leaves(other), strict=True):
        np.testing.assert_array_equal(one, another)


def images_for(network, count=2):
    return np.random.default_rng(3).normal(size=(count, *network.input_shape[1:])).astype("float32")


def attached(network, structure):
    """Returns the joint network of a random structure, if its nodes' resolutions fit the network's odd sizes."""
    try:
        return auxzoo.attach(network, structure)
    except auxzoo.UserError as error:
        assume("higher by powers of two" not in str(error))
        raise


def test_what_is_smaller_by_no_power_of_two_is_not_upsampled():
    network = foreign()  # 33 rows become 16, 8, 4, 2
    taps = tap_pairs(network, FOREIGN_TAPS)
    structure = Structure(taps, (Node("a", (FOREIGN_TAPS[1],), "identity", 4, FOREIGN_TAPS[0]),))
    message = "`resolution` of node 'a' must be that of what it reads, lower, or higher by powers of two. Received: "
    with pytest.raises(auxzoo.UserError, match=message):
        auxzoo.attach(network, structure)


@PROPERTY
@given(st.data())
def test_attaching_changes_nothing_and_no_path_leads_to_the_compact_output(compact, random_structures, data):
    network, taps, _ = compact
    images = images_for(network)
    before = network(images)
    layers = [layer.name for layer in network.layers]
    joint = attached(network, data.draw(random_structures(taps)))
    assert_no_path_leads_from_the_auxiliary(network, joint)
    outputs = joint(images)
    assert_equal(outputs["compact"], before)
    for head in auxiliary_outputs(outputs):
        keras.tree.assert_same_structure(head, before)
        assert [prediction.shape for prediction in leaves(head)] == [prediction.shape for prediction in leaves(before)]
    assert_equal(network(images), before)
    assert [layer.name for layer in network.layers] == layers
    detached = auxzoo.detach(joint)
    assert_equal(detached(images), before)
    assert [layer.name for layer in detached.layers] == layers
    assert [weight.path for weight in detached.weights] == [weight.path for weight in network.weights]


def assert_no_path_leads_from_the_auxiliary(network, joint):
    """Fails if a compact output was computed from the auxiliary, or one of the auxiliary from nothing of its own."""
    below_compact = operations_below(*leaves(joint.output["compact"]))
    assert len(below_compact) >= len(network.layers) - 1
    assert not [name for name in below_compact if name.startswith(AUXILIARY_PREFIX)]
    for head in leaves(auxiliary_outputs(joint.output)):
        own = operations_below(head) - {layer.name for layer in network.layers}
        assert own
        assert all(name.startswith(AUXILIARY_PREFIX) for name in own)


def operations_below(*tensors):
    """Returns the names of all operations that symbolic tensors were computed from, walking the graph itself."""
    seen, waiting, names = set(), list(tensors), set()
    while waiting:
        tensor = waiting.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        operation, node_index, _ = tensor._keras_history
        names.add(operation.name)
        waiting += operation._inbound_nodes[node_index].input_tensors
    return names


def gradients_of_auxiliary_loss(network, joint):
    """Returns the gradient of the auxiliary head alone, summed squares by compact layer."""
    images = images_for(network, count=4)
    with tf.GradientTape() as tape:
        heads = leaves(auxiliary_outputs(joint(images, training=True)))
        loss = sum(tf.reduce_mean(tf.square(head - 1.0)) for head in heads)
    weights = network.trainable_weights
    gradients = tape.gradient(loss, weights)
    norms = {}
    for weight, gradient in zip(weights, gradients, strict=True):
        layer = weight.path.split("/")[0] if "/" in weight.path else weight.path
        norms[layer] = norms.get(layer, 0.0) + (0.0 if gradient is None else float(tf.reduce_sum(gradient**2)))
    return norms


@settings(PROPERTY, max_examples=6)
@given(st.data())
def test_gradient_of_the_auxiliary_reaches_every_tapped_stage(compact, random_structures, data):
    network, taps, build = compact
    # Dead units and untouched statistics may hide a path, so the weights are those of a fresh network.
    structure = data.draw(random_structures(taps))
    keras.utils.set_random_seed(1)
    network = build()
    joint = attached(network, structure)
    norms = gradients_of_auxiliary_loss(network, joint)
    before = set()
    linked = {link for node in structure.nodes for link in node.links}
    for tap, layer in taps:
        stage = operations_below(network.get_layer(layer).output) - before
        before |= stage
        if tap in linked:
            reached = sum(norm for name, norm in norms.items() if name in stage)
            assert reached > 0, f"no gradient in the layers of {tap}"


def test_weights_file_holds_no_auxiliary(compact, tmp_path):
    network, taps, build = compact
    plain = tmp_path / "plain.weights.h5"
    build().save_weights(plain)
    joint = auxzoo.attach(network, Structure.default(network, taps=[tap for tap, _ in taps]))
    auxzoo.detach(joint).save_weights(tmp_path / "detached.weights.h5")
    assert shapes_in(tmp_path / "detached.weights.h5") == shapes_in(plain)


def shapes_in(path):
    shapes = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: shapes.update({name: item.shape}) if hasattr(item, "shape") else None)
    assert shapes
    return shapes


@pytest.mark.parametrize("supervision", SUPERVISIONS)
def test_joint_network_survives_saving(compact, tmp_path, supervision):
    network, taps, _ = compact
    structure = Structure.default(network, taps=[tap for tap, _ in taps], supervision=supervision)
    joint = auxzoo.attach(network, structure)
    joint.save(tmp_path / "joint.keras")
    loaded = keras.models.load_model(tmp_path / "joint.keras")
    images = images_for(network)
    assert_equal(auxzoo.detach(loaded)(images), network(images))
    assert_equal(loaded(images), joint(images))
    assert len(loaded.output) > 1


def test_joint_network_carries_the_description():
    network = models.ResNet18((16, 16, 3), 0.125, "small", num_classes=2, labels=("a", "b"))
    joint = auxzoo.attach(network, Structure.default(network))
    assert auxzoo.describe(joint) == auxzoo.describe(auxzoo.detach(joint)) == auxzoo.describe(network)
    assert auxzoo.detach(joint).name == network.name


def test_a_structure_fits_another_head():
    structure = Structure.default(models.ResNet18((16, 16, 3), 0.125, "small", num_classes=2))
    other = models.ResNet18((16, 16, 3), 0.125, "small", num_classes=7)
    assert {output.shape for output in auxzoo.attach(other, structure).output.values()} == {(None, 7)}


class TestLayerNames:
    @pytest.fixture
    def network(self):
        inputs = keras.Input((8, 8, 3))
        x = keras.layers.Conv2D(4, 3, strides=2, name="previous")(inputs)
        x = keras.layers.Conv2D(4, 3, strides=2, name="previous_")(x)
        return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(x)))

    def test_a_tap_may_be_called_previous(self, network):
        taps = (("previous", "previous"), ("previous_", "previous_"))
        links = ("previous", "previous_")
        nodes = (Node("first", links, "identity", 4), Node("second", links, "identity", 6))
        joint = auxzoo.attach(network, Structure(taps, nodes))
        names = [layer.name for layer in joint.layers]
        assert len(set(names)) == len(names)
        assert "auxiliary_second_from_previous_adapter" in names  # the tap keeps its name

    @pytest.mark.parametrize(
        ("other", "tap", "clashes"),
        [
            ("node_operation", "previous", True),
            ("node_from_a", "b", True),
            ("node_from_a", "previous", False),
            ("node_from_a_from_b", "b", False),
        ],
    )
    def test_a_node_may_be_called_like_a_layer_of_another(self, network, other, tap, clashes):
        taps = (("a_from_b", "previous"), ("b", "previous_"), ("previous", "previous"))
        nodes = (
            Node("node", ("a_from_b", "b"), "convolution_3x3", 4),
            Node(other, (tap,), "convolution_3x3", 6),
        )
        for ordered in (nodes, nodes[::-1]):
            joint = auxzoo.attach(network, Structure(taps, ordered))
            names = [layer.name for layer in joint.layers]
            assert len(set(names)) == len(names)
            # Only a structure that could not be built otherwise has other names.
            assert (f"auxiliary_{other}_relu" in names) != clashes

    def test_other_names_are_as_published(self):
        network = models.ResNet18((16, 16, 3), 0.125, "small", num_classes=2)
        joint = auxzoo.attach(network, Structure.default(network, supervision="hierarchical"))
        names = {layer.name.removeprefix(AUXILIARY_PREFIX) for layer in joint.layers}
        assert {
            "stage1_from_stem_adapter",
            "stage1_from_stage1_normalization",
            "stage1_sum",
            "stage2_from_previous_pooling",
            "stage2_from_previous_adapter",
            "stage2_operation_add",
            "stage2_operation_relu",
            "predictions",
        } <= names


class TestSeveralTasks:
    @pytest.fixture(scope="class")
    @classmethod
    def network(cls):
        return NETWORKS["several_tasks"][0]()

    def test_shared_nodes_have_a_head_a_task(self, network):
        joint = auxzoo.attach(network, Structure.default(network))
        names = [layer.name for layer in joint.layers]
        assert names.count("auxiliary_stage4_operation") == 1
        for task in ("scene", "surface", "depth"):
            assert f"auxiliary_stage4_{task}_predictions" in names

    @pytest.mark.parametrize(
        ("make", "options"),
        [(Structure.default, {"tasks": tasks}) for tasks in ("shared", "separate")] + [(SearchSpace.default, {})],
        ids=["shared", "separate", "searched"],
    )
    def test_no_task_is_taught_through_the_branch_of_another(self, network, make, options):
        assert {"surface_aspp", "depth_aspp"} <= dict(network.description.taps).keys()
        joint = auxzoo.attach(network, make(network, **options))
        for head in auxiliary_outputs(joint.output):
            below = operations_below(*head.values())
            assert "stage1_block1_add" in below
            assert not [name for name in below if name.startswith(("surface_aspp", "depth_aspp"))]

    def test_separate_auxiliaries_share_no_layer(self, network):
        joint = auxzoo.attach(network, Structure.default(network, tasks="separate"))
        compact = {layer.name for layer in network.layers}
        own = [
            operations_below(*(head[task] for head in auxiliary_outputs(joint.output))) - compact
            for task in network.output
        ]
        assert all(own)
        assert sum(map(len, own)) == len(set.union(*own))

    def test_predictions_of_a_regression_are_in_its_unit(self, network):
        joint = auxzoo.attach(network, Structure.default(network))
        rescaling = [layer for layer in joint.layers if isinstance(layer, keras.layers.Rescaling)]
        assert len(rescaling) == len(joint.output)  # the compact network's head, and one at every node
        assert {layer.scale for layer in rescaling} == {5.0}

    @pytest.mark.parametrize("tasks", ["shared", "separate"])
    def test_the_structure_comes_back_from_a_file(self, network, tmp_path, tasks):
        structure = Structure.default(network, tasks=tasks)
        structure.save(tmp_path / "structure.json")
        assert Structure.read(tmp_path / "structure.json") == structure

    def test_over_a_single_task_both_are_the_same(self):
        compact = models.ResNet18((16, 16, 3), 0.125, "small", num_classes=2)
        shared, separate = (
            auxzoo.attach(compact, Structure.default(compact, tasks=tasks)) for tasks in ("shared", "separate")
        )
        assert [layer.name for layer in shared.layers] == [layer.name for layer in separate.layers]

    def test_another_word(self, network):
        with pytest.raises(auxzoo.UserError, match="`tasks` must be one of shared, separate. Received: tasks='both'"):
            Structure.default(network, tasks="both")


def test_is_joint_knows_a_joint_network(tmp_path):
    network = models.ResNet18((16, 16, 3), 0.125, "small", num_classes=2)
    joint = auxzoo.attach(network, Structure.default(network))
    joint.save(tmp_path / "joint.keras")
    assert is_joint(joint)
    assert is_joint(keras.models.load_model(tmp_path / "joint.keras"))
    for other in (network, auxzoo.detach(joint), keras.Sequential(), "joint", None):
        assert not is_joint(other)


class TestBadInput:
    @pytest.fixture(scope="class")
    @classmethod
    def network(cls):
        return models.ResNet18((16, 16, 3), 0.125, "small", num_classes=2)

    def test_tap_of_another_network(self, network):
        structure = Structure.default(models.MobileNetV2((32, 32, 3), 0.35, num_classes=2))
        with pytest.raises(auxzoo.UserError, match=r"Tap 'stage1' must be a layer of 'resnet18'.*'expanded_conv"):
            auxzoo.attach(network, structure)

    def test_joint_network(self, network):
        structure = Structure.default(network)
        with pytest.raises(auxzoo.UserError, match="`compact` has an auxiliary already"):
            auxzoo.attach(auxzoo.attach(network, structure), structure)

    def test_a_network_without_auxiliary_has_none_to_detach(self, network):
        with pytest.raises(auxzoo.UserError, match="`joint` must be a joint network"):
            auxzoo.detach(network)

    def test_a_backbone_without_head(self):
        backbone = models.ResNet18((16, 16, 3), 0.125, "small")
        with pytest.raises(auxzoo.UserError, match="`compact` must have a head"):
            auxzoo.attach(backbone, Structure.default(backbone))

    def test_a_sequential_model_is_told_how_to_become_functional(self):
        layers = [keras.layers.Conv2D(4, 3, name="first"), keras.layers.Flatten(), keras.layers.Dense(2)]
        sequential = keras.Sequential([keras.Input((8, 8, 3)), *layers])
        structure = Structure((("first", "first"),), (Node("first", ("first",), "identity", 4),))
        with pytest.raises(auxzoo.UserError, match=r"keras\.Model\(model\.inputs, model\.outputs\[0\]\) makes one"):
            auxzoo.attach(sequential, structure)
        functional = keras.Model(sequential.inputs, sequential.outputs[0])
        assert auxzoo.attach(functional, structure).output["auxiliary"].shape == (None, 2)

    def test_the_name_of_a_structure_is_none(self, network):
        with pytest.raises(auxzoo.UserError, match="`structure` must be a Structure .*; Structure.read reads a file"):
            auxzoo.attach(network, "structure.json")
        with pytest.raises(auxzoo.UserError, match="`relaxation` must be a Relaxation. Received: relaxation='sigmoid'"):
            SearchSpace.default(network, relaxation="sigmoid")

    def test_no_functional_model(self, network):
        with pytest.raises(auxzoo.UserError, match="`compact` must be a functional"):
            auxzoo.attach("resnet18", Structure.default(network))

    def test_open_size(self):
        inputs = keras.Input((None, None, 3))
        x = keras.layers.Conv2D(4, 3, name="first")(inputs)
        model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
        structure = Structure((("first", "first"),), (Node("first", ("first",), "identity", 4),))
        with pytest.raises(auxzoo.UserError, match="Tap 'first' must be a feature map .* of a fixed size"):
            auxzoo.attach(model, structure)
