"""Gates and the search space: what they let through, how often, and which structures there are."""

import dataclasses
import doctest
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import auxzoo
from auxzoo import models
from auxzoo.auxiliary import LinkGate, NodeSpace, OperationChoice, Relaxation, SearchSpace
from auxzoo.auxiliary.structure import SUPERVISIONS
from auxzoo.errors import UserError
from auxzoo.training import Objective, Optimization
from auxzoo.training.gate_trainer import GateTrainer
from auxzoo.training.presence import heads_present
from auxzoo.training.search_settings import SearchSettings

DRAWS = 4000


@pytest.fixture(scope="module")
def compact():
    keras.utils.set_random_seed(3)
    return models.ResNet18((16, 16, 3), 0.125, "small", num_classes=3)


@pytest.fixture(scope="module")
def space(compact):
    return SearchSpace.default(compact, supervision="hierarchical")


@pytest.fixture(scope="module")
def joint(compact, space):
    return auxzoo.attach(compact, space)


def built(layer, shape):
    layer.build((None, *shape))
    return layer


def draws(gate, count=DRAWS):
    """Values of a gate in so many steps of training."""
    value = tf.function(lambda: gate.value(training=True))
    return np.array([float(value()) for _ in range(count)])


class TestLinkGate:
    @pytest.mark.parametrize("probability", [0.2, 0.8])
    @pytest.mark.parametrize("temperature", [0.2, 2 / 3])
    def test_hard_concrete_is_open_as_often_as_it_says_at_any_temperature(self, probability, temperature):
        gate = built(LinkGate(Relaxation(first_probability=probability), seed=1), (1,))
        gate.temperature.assign(temperature)
        assert float(gate.probability_open()) == pytest.approx(probability, abs=1e-5)
        assert np.mean(draws(gate) > 0) == pytest.approx(probability, abs=4 * (0.25 / DRAWS) ** 0.5)

    def test_hard_concrete_gives_true_zeros_and_ones_and_all_between(self):
        values = draws(built(LinkGate(Relaxation(first_probability=0.5), seed=2), (1,)))
        assert values.min() == 0.0
        assert values.max() == 1.0
        assert ((values > 0) & (values < 1)).any()

    def test_sigmoid_has_no_noise_and_sharpens_with_the_temperature(self):
        gate = built(LinkGate(Relaxation("sigmoid", first_probability=0.7)), (1,))
        np.testing.assert_allclose(draws(gate, 5), 0.7, rtol=1e-6)
        gate.temperature.assign(0.1)
        assert float(gate.value(training=True)) > 0.999

    @pytest.mark.parametrize("kind", ["hard_concrete", "sigmoid"])
    def test_straight_through_shows_zero_or_one_and_has_a_gradient(self, kind):
        gate = built(LinkGate(Relaxation(kind, straight_through=True, first_probability=0.6), seed=3), (1,))
        gradients = []
        for _ in range(50):
            with tf.GradientTape() as tape:
                value = gate.value(training=True)
            assert float(value) in (0.0, 1.0)
            gradients.append(float(tape.gradient(value, gate.logit.value)))
        assert max(gradients) > 0

    @pytest.mark.parametrize(("probability", "expected"), [(0.4, 0.0), (0.6, 1.0)])
    @pytest.mark.parametrize("training", [True, False])
    def test_straight_through_shows_what_is_nearer(self, probability, expected, training):
        gate = built(LinkGate(Relaxation("sigmoid", straight_through=True, first_probability=probability)), (1,))
        assert float(gate.value(training)) == expected

    def test_a_fixed_gate_is_open_whatever_its_logit(self):
        gate = built(LinkGate(seed=4), (1,))
        gate.logit.assign(-50.0)
        assert set(draws(gate, 20)) == {0.0}
        gate.is_fixed.assign(1.0)
        assert set(draws(gate, 20)) == {1.0}

    def test_a_link_is_dropped_as_often_as_it_says_in_training_alone(self):
        gate = built(LinkGate(Relaxation("sigmoid", first_probability=0.9), seed=5), (1,))
        gate.drop.assign(0.3)
        assert np.mean(draws(gate) == 0) == pytest.approx(0.3, abs=0.03)
        assert float(gate.value(training=False)) == pytest.approx(0.9)
        gate.drop.assign(1.0)
        assert set(draws(gate, 20)) == {0.0}

    def test_it_survives_saving(self, tmp_path):
        inputs = keras.Input((2,))
        gate = LinkGate(Relaxation("sigmoid", True, 0.3), link=("stage1", "stem"), name="gate")
        keras.Model(inputs, gate(inputs)).save(tmp_path / "gate.keras")
        loaded = keras.models.load_model(tmp_path / "gate.keras").get_layer("gate")
        assert (loaded.relaxation, loaded.link) == (gate.relaxation, gate.link)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"kind": "soft"}, "`kind` must be hard_concrete or sigmoid. Received: kind='soft'"),
            ({"first_probability": 1.0}, "`first_probability` must be above 0 and below 1.*1.0"),
            ({"first_probability": float("nan")}, "`first_probability`.*nan"),
            ({"straight_through": "yes"}, "`straight_through` must be true or false.*'yes'"),
        ],
    )
    def test_wrong_arguments_are_named(self, arguments, message):
        with pytest.raises(UserError, match=message):
            Relaxation(**arguments)


class TestOperationChoice:
    OPERATIONS = ("convolution_1x1", "average_pooling", "identity")

    @pytest.fixture
    def choice(self):
        return built(OperationChoice(self.OPERATIONS, node="stage1", seed=6), (4, 4, 2))

    def test_a_step_runs_one_operation_and_draws_by_probability(self, choice):
        choice.logits.assign([0.0, 1.0, 2.0])
        inputs = np.random.default_rng(0).normal(size=(1, 4, 4, 2)).astype("float32")
        results = [branch(inputs).numpy() for branch in choice.branches[1:]]
        call = tf.function(lambda: choice(inputs, training=True))
        counts = np.zeros(3)
        for _ in range(600):
            value = call().numpy()
            same = [np.allclose(value, result) for result in results]
            counts[1 + same.index(True) if any(same) else 0] += 1
        expected = np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum()
        np.testing.assert_allclose(counts / 600, expected, atol=0.08)

    def test_outside_training_the_most_probable_is_taken(self, choice):
        inputs = np.random.default_rng(0).normal(size=(1, 4, 4, 2)).astype("float32")
        for place, branch in enumerate(choice.branches):
            choice.logits.assign(np.eye(3)[place])
            np.testing.assert_allclose(choice(inputs), branch(inputs), rtol=1e-6)

    def test_a_fixed_choice_draws_all_equally_often(self, choice):
        choice.logits.assign([0.0, 0.0, 9.0])
        choice.is_fixed.assign(1.0)
        np.testing.assert_allclose(choice.probabilities(), [1 / 3] * 3, rtol=1e-6)

    def test_its_probabilities_sharpen_with_the_temperature(self, choice):
        choice.logits.assign([0.0, 1.0, 2.0])
        choice.temperature.assign(0.5)
        np.testing.assert_allclose(choice.probabilities(), np.exp([0, 2, 4]) / np.exp([0, 2, 4]).sum(), rtol=1e-5)

    @pytest.mark.filterwarnings("error")
    def test_a_single_operation_is_always_taken_and_nothing_is_warned_of(self):
        choice = built(OperationChoice(("identity",), node="stage1"), (4, 4, 2))
        inputs = np.random.default_rng(0).normal(size=(1, 4, 4, 2)).astype("float32")
        for training in (True, False):
            np.testing.assert_array_equal(choice(inputs, training=training), inputs)
        np.testing.assert_array_equal(choice.probabilities(), [1.0])

    def test_the_logits_learn_from_the_operation_that_was_drawn(self, choice):
        inputs = np.ones((1, 4, 4, 2), "float32")
        with tf.GradientTape() as tape:
            result = tf.reduce_sum(choice(inputs, training=True))
        gradient = tape.gradient(result, choice.logits.value).numpy()
        assert abs(gradient).max() > 0
        assert gradient.sum() == pytest.approx(0, abs=1e-4)  # a soft-max only moves probability about


class TestSuperNetwork:
    def test_it_has_a_gate_on_every_link_and_a_choice_in_every_node(self, joint, space):
        gates = [layer.link for layer in joint.layers if isinstance(layer, LinkGate)]
        choices = [layer.node for layer in joint.layers if isinstance(layer, OperationChoice)]
        assert sorted(gates) == sorted(space.links)
        assert sorted(choices) == sorted(node.name for node in space.nodes)

    @pytest.mark.parametrize("supervision", SUPERVISIONS)
    def test_it_has_the_heads_of_its_supervision(self, compact, space, supervision):
        joint = auxzoo.attach(compact, dataclasses.replace(space, supervision=supervision))
        nodes = {"auxiliary_stage1", "auxiliary_stage2", "auxiliary_stage3", "auxiliary_stage4"}
        assert set(joint.output) - {"compact"} == ({"auxiliary"} if supervision == "hierarchical" else nodes)
        reads_another = any("_from_previous" in layer.name for layer in joint.layers)
        assert reads_another == (supervision != "deep")

    def test_attaching_changes_no_output_of_the_compact_network(self, compact, joint):
        images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
        np.testing.assert_array_equal(joint(images)["compact"], compact(images))
        assert auxzoo.detach(joint).count_params() == compact.count_params()

    def test_it_survives_saving(self, joint, space, tmp_path):
        gates = {layer.link: layer for layer in joint.layers if isinstance(layer, LinkGate)}
        before = float(gates["stage2", "stem"].logit.numpy())
        gates["stage2", "stem"].logit.assign(-1.5)
        joint.save(tmp_path / "super_network.keras")
        gates["stage2", "stem"].logit.assign(before)
        loaded = keras.models.load_model(tmp_path / "super_network.keras")
        of_loaded = {layer.link: layer for layer in loaded.layers if isinstance(layer, LinkGate)}
        assert of_loaded.keys() == gates.keys()
        assert {gate.relaxation for gate in of_loaded.values()} == {space.relaxation}
        assert float(of_loaded["stage2", "stem"].logit.numpy()) == -1.5
        choices = [
            {layer.node: layer.operations for layer in network.layers if isinstance(layer, OperationChoice)}
            for network in (joint, loaded)
        ]
        assert choices[0] == choices[1] != {}
        of_loaded["stage2", "stem"].logit.assign(before)
        images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
        ours, theirs = joint(images), loaded(images)
        assert ours.keys() == theirs.keys()
        for name, output in ours.items():
            np.testing.assert_array_equal(output, theirs[name])

    def test_every_structure_of_the_space_has_the_resolutions_of_the_super_network(self, compact, joint, space):
        structure = space.structure([("stage1", "stem"), ("stage4", "stem")])
        single = auxzoo.attach(compact, structure)
        for node in space.nodes:
            name = f"auxiliary_{node.name}_relu"
            assert single.get_layer(name).output.shape == joint.get_layer(name).output.shape


class TestSearchSpace:
    def test_the_default_lets_a_node_read_its_tap_and_all_before(self, space):
        assert [node.links for node in space.nodes] == [
            ("stem", "stage1"),
            ("stem", "stage1", "stage2"),
            ("stem", "stage1", "stage2", "stage3"),
            ("stem", "stage1", "stage2", "stage3", "stage4"),
        ]
        assert [node.channels for node in space.nodes] == [8, 16, 32, 64]
        assert space.number_of_links == 14

    def test_any_functional_network_has_one(self, foreign_model):
        space = SearchSpace.default(foreign_model, taps=["first", "second"], operations=["identity"])
        assert auxzoo.attach(foreign_model, space).output["auxiliary_second"].shape == (None, 3)

    @pytest.mark.parametrize("supervision", SUPERVISIONS)
    @given(data=st.data())
    @settings(max_examples=30, deadline=None)
    def test_a_random_structure_keeps_the_budget_and_comes_again(self, space, supervision, data):
        space = dataclasses.replace(space, supervision=supervision)
        links, seed = data.draw(st.integers(1, space.number_of_links)), data.draw(st.integers(0, 2**31))
        structure = space.random(links, seed)
        assert structure.supervision == supervision
        assert sum(len(node.links) for node in structure.nodes) == links
        assert structure.nodes[0].links
        assert structure == space.random(links, seed)
        assert auxzoo.Structure.from_json(structure.to_json()) == structure

    def test_nodes_that_read_each_other_stay_without_a_link_but_the_first(self, space):
        structure = space.structure([("stage1", "stem"), ("stage3", "stage2")])
        assert [node.links for node in structure.nodes] == [("stem",), (), ("stage2",), ()]
        assert not space.can_keep([("stage3", "stage2")])
        with pytest.raises(UserError, match="`links` of node 'stage1', which reads no other, must name a tap"):
            space.structure([("stage3", "stage2")])

    def test_nodes_that_read_no_other_go_without_a_link(self, space):
        deep = dataclasses.replace(space, supervision="deep")
        assert deep.can_keep([("stage3", "stage2")])
        structure = deep.structure([("stage3", "stage2")])
        assert [node.name for node in structure.nodes] == ["stage3"]

    def test_random_structures_differ(self, space):
        assert len({space.random(6, seed) for seed in range(20)}) > 15

    def test_its_dictionary_is_plain_json(self, space):
        assert json.loads(json.dumps(space.to_dict()))["nodes"][0]["links"] == ["stem", "stage1"]

    @pytest.mark.parametrize(
        ("links", "message"),
        [
            (0, "`links` must be 1 to 14, the candidates of the search space. Received: links=0"),
            (15, "`links` must be 1 to 14.*links=15"),
        ],
    )
    def test_a_budget_that_cannot_be_met_is_refused(self, space, links, message):
        with pytest.raises(UserError, match=message):
            space.random(links, seed=0)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"taps": ["stem", "stage9"]}, r"`taps` must be layers or taps \(stem, .*\) of 'resnet18'.*'stage9'"),
            ({"taps": []}, "`taps` must name at least one layer"),
            ({"operations": ["convolution_9x9"]}, "`operation` of node 'stage1' must be one of.*convolution_9x9"),
            ({"operations": ["identity", "identity"]}, "must have links, and every operation once"),
            ({"operations": []}, "`operation` of node 'stage1' must be one of"),
            ({"supervision": "wide"}, "`supervision` must be one of hierarchical, deep, both.*'wide'"),
            ({"width_multiplier": 0}, "`width_multiplier` must be above 0. Received: width_multiplier=0"),
            ({"width_multiplier": float("inf")}, "`width_multiplier` must be above 0.*inf"),
        ],
    )
    def test_wrong_arguments_are_named(self, compact, arguments, message):
        with pytest.raises(UserError, match=message):
            SearchSpace.default(compact, **arguments)

    def test_a_link_that_is_no_candidate_is_named(self, space):
        with pytest.raises(UserError, match="`links` must be among those of the search space.*stage4"):
            space.structure([("stage1", "stage4")])

    def test_a_node_without_candidates_is_refused(self):
        with pytest.raises(UserError, match="Node 'a' of a search space must have links"):
            NodeSpace("a", (), ("identity",), 4, "stem")

    def test_a_node_has_a_resolution_whatever_links_it_keeps(self):
        with pytest.raises(UserError, match="`resolution` of node 'a' must be the name of a tap. Received: None"):
            NodeSpace("a", ("stem",), ("identity",), 4, None)

    def test_an_operation_that_is_no_candidate_is_named(self, space):
        operations = {node.name: node.operations[0] for node in space.nodes}
        for wrong, received in ((operations | {"stage2": "wide"}, "'wide'"), ({}, "None")):
            with pytest.raises(UserError, match=f"`operations` of node 'stage[12]' must be one of.*{received}"):
                space.structure(space.links, wrong)

    def test_what_a_node_reads_of_a_smaller_tap_is_upsampled(self, compact):
        pairs = tuple(compact.description.taps)
        space = SearchSpace(pairs, (NodeSpace("a", ("stem", "stage4"), ("identity",), 4, "stem"),))
        joint = auxzoo.attach(compact, space)
        layers = [joint.get_layer(f"auxiliary_a_from_stage4_{part}") for part in ("normalization", "upsampling")]
        pictures = np.random.default_rng(0).normal(size=(2, *compact.input_shape[1:])).astype("float32")
        before, after = keras.Model(joint.input, [layer.output for layer in layers])(pictures)
        rows, columns = joint.get_layer("auxiliary_a_from_stem_adapter").output.shape[1:3]
        assert before.shape[1] < rows
        np.testing.assert_allclose(after, tf.image.resize(before, (rows, columns)), rtol=1e-5, atol=1e-6)


def test_its_example_is_right():
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(LinkGate, globs={"LinkGate": LinkGate, "Relaxation": Relaxation, "np": np})
    assert doctest.DocTestRunner().run(example) == (0, 1)


class TestHeadsPresent:
    """A node whose gates are closed has no head, where nodes read taps alone."""

    @pytest.fixture(scope="class")
    @classmethod
    def super_network(cls, compact):
        return auxzoo.attach(compact, SearchSpace.default(compact, supervision="deep"))

    @staticmethod
    def close(network, open_links):
        for layer in network.layers:
            if isinstance(layer, LinkGate):
                layer.is_fixed.assign(1.0)
                layer.drop.assign(0.0 if layer.link in open_links else 1.0)

    def test_losses_are_those_of_the_heads_that_are_left(self, super_network):
        self.close(super_network, {("stage2", "stage1"), ("stage2", "stage2"), ("stage4", "stage3")})
        images = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype("float32")
        classes = np.array([0, 1, 2, 1])
        with heads_present(super_network, "deep") as presence:
            outputs = super_network(images, training=True)
            found = presence()
        assert {head: float(value) for head, value in found.items()} == {
            "auxiliary_stage1": 0.0,
            "auxiliary_stage2": 1.0,
            "auxiliary_stage3": 0.0,
            "auxiliary_stage4": 1.0,
        }
        left = {key: outputs[key] for key in ("compact", "auxiliary_stage2", "auxiliary_stage4")}
        expected = Objective().losses(classes, left, 0.5)
        received = Objective().losses(classes, outputs, 0.5, presence=found)
        for name, value in expected.items():
            np.testing.assert_allclose(received[name], value, rtol=1e-5, err_msg=name)
        assert not np.isclose(Objective().losses(classes, outputs, 0.5)["loss"], expected["loss"], rtol=1e-3)

    def test_without_any_head_the_compact_network_is_its_own_teacher(self, super_network):
        self.close(super_network, set())
        images = np.ones((2, 16, 16, 3), "float32")
        with heads_present(super_network, "deep") as presence:
            outputs = super_network(images, training=True)
        losses = Objective(distillation_temperature=1.0).losses(np.array([0, 1]), outputs, 0.5, presence=presence())
        assert float(losses["auxiliary_loss"]) == 0.0
        assert float(losses["distillation_loss"]) == pytest.approx(0.0, abs=1e-6)

    @pytest.mark.filterwarnings("ignore:Gradients do not exist")  # of the operations that are not drawn
    def test_a_step_of_the_search_leaves_out_the_heads_that_are_gone(self, super_network):
        settings = SearchSettings(supervision="deep", warm_up=0.5)  # the gates stay as they are
        trainer = GateTrainer(super_network, Objective(), 10, settings)
        trainer.compile(optimizer=Optimization().build(10, trainer.trained_variables))
        self.close(super_network, {("stage2", "stage1"), ("stage4", "stage3")})
        images = np.random.default_rng(0).normal(size=(4, 16, 16, 3)).astype("float32")
        batch, before = (images, np.array([0, 1, 2, 1])), [(one, one.numpy()) for one in super_network.variables]
        outputs = super_network(images, training=True)
        left = {key: outputs[key] for key in ("compact", "auxiliary_stage2", "auxiliary_stage4")}
        for variable, value in before:  # seeds too: the same operations are drawn
            variable.assign(value)
        received = trainer.train_step((batch, batch))
        for variable, value in before:
            variable.assign(value)
        expected = Objective().losses(batch[1], left, 0.0)
        for name in ("auxiliary_loss", "distillation_loss"):
            np.testing.assert_allclose(received[name], expected[name], rtol=1e-4, err_msg=name)

    @pytest.mark.parametrize("supervision", ["both", "hierarchical"])
    def test_where_nodes_read_each_other_all_heads_are_there(self, super_network, supervision):
        with heads_present(super_network, supervision) as presence:
            super_network(np.ones((1, 16, 16, 3), "float32"), training=True)
        assert presence() is None
        assert not any("call" in vars(layer) for layer in super_network.layers if isinstance(layer, LinkGate))

    def test_a_gate_that_is_half_open_counts_by_half(self, super_network):
        for layer in super_network.layers:
            if isinstance(layer, LinkGate):
                layer.is_fixed.assign(0.5 if layer.link == ("stage1", "stem") else 1.0)
                layer.drop.assign(0.0 if layer.link == ("stage1", "stem") else 1.0)
                layer.logit.assign(-100.0)
        with heads_present(super_network, "deep") as presence:
            super_network(np.ones((1, 16, 16, 3), "float32"), training=True)
        assert float(presence()["auxiliary_stage1"]) == pytest.approx(0.5)
