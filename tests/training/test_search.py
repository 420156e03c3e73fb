"""The search: its loop, what it leaves behind, that it resumes bit-identically, and what it refuses."""

import dataclasses
import json
import math
import random
import shutil
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import auxzoo
from auxzoo import models
from auxzoo.auxiliary import LinkGate, NodeSpace, Relaxation, SearchSpace, Structure
from auxzoo.auxiliary.structure import SUPERVISIONS
from auxzoo.files import read_json, write_json
from auxzoo.machine import processor_name
from auxzoo.models.description import trunk_layers
from auxzoo.training import Objective, Optimization, TrainingDiverged, black_box, search_case, step_cost
from auxzoo.training import search as search_module
from auxzoo.training.black_box import mutate
from auxzoo.training.gate_trainer import Gates, GateTrainer
from auxzoo.training.perturbation import KeptRounds, Perturbation, choose_links, links_to_measure, number_of_trainings
from auxzoo.training.recipe import Recipe
from auxzoo.training.recipe_file import read_settings
from auxzoo.training.run_state import Progress, read_progress
from auxzoo.training.search import search
from auxzoo.training.search_case import SearchCase
from auxzoo.training.search_settings import SearchRecipe, SearchSettings
from auxzoo.training.step_cost import StepParts, seconds_of_parts
from auxzoo.training.unrolled import exact_second_derivatives

# Two nodes and two operations: most of a test is tracing.
SMALL = (
    *("search.taps=[stem, stage1, stage2]", "search.operations=[convolution_1x1, identity]"),
    *("search.supervision=hierarchical", "search.links=3", "search.gate_count=12", "search.every=1"),
    *("search.perturbation=1", "search.candidates=2", "search.rounds=2", "epochs=4"),
)
LINKS = [("stage1", "stem"), ("stage1", "stage1"), *(("stage2", tap) for tap in ("stem", "stage1", "stage2"))]
pytestmark = pytest.mark.usefixtures("shallow_networks")


@pytest.fixture
def make_recipe(recipe_file):
    """A function of overrides that returns the tiny recipe with a small search."""
    return lambda *overrides: SearchRecipe.parse(read_settings(recipe_file, [*SMALL, *overrides]), "The recipe")


@pytest.fixture
def untimed(monkeypatch):
    """Searches that only record what a step of their structure costs trace no two networks for it."""
    monkeypatch.setattr(search_case, "seconds_per_step", lambda cases: [1.0] * len(cases))


@pytest.fixture
def worthless(monkeypatch):
    """Searches that choose among links as good as each other train no steps without them."""
    monkeypatch.setattr(Perturbation, "worths", lambda self, links: dict.fromkeys(links, 0.0))


def run_search(recipe, folder, **options):
    return search(recipe, folder, progress=lambda line: None, verbose=0, **options)


def gates_of(kind, **settings):
    """The gates of two links, to `stem` and to `stage1`, of one node."""
    compact = models.ResNet18((8, 8, 3), 0.125, "small", num_classes=3)
    arguments = {"taps": ["stem", "stage1"], "operations": ["identity"], "relaxation": Relaxation(kind)}
    network = auxzoo.attach(compact, SearchSpace.default(compact, **arguments))
    return Gates(network, SearchSettings(relaxation=kind, **settings))


class StopAt(keras.callbacks.Callback):
    """Ends the work in the middle of an epoch, as a kill would."""

    def __init__(self, epoch=2, step=1):
        super().__init__()
        self.place = (epoch, step)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if (self.epoch, batch) == self.place:
            raise KeyboardInterrupt


class SetGate(keras.callbacks.Callback):
    """Makes the first gate NaN once an epoch has begun."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            next(layer for layer in self.model.network.layers if isinstance(layer, LinkGate)).logit.assign(float("nan"))


class TestLoop:
    WARM_UP, TOTAL, EVERY = 2, 7, 3  # the gates move in the last step

    @pytest.fixture(scope="class")
    @classmethod
    def steps(cls):
        """What gates, weights, batch-norm and seeds were after every step of a short search."""
        keras.utils.set_random_seed(0)
        compact = models.ResNet18((8, 8, 3), 0.125, "small", num_classes=3)
        space = SearchSpace.default(compact, taps=["stem", "stage1"], operations=["identity", "convolution_1x1"])
        network = auxzoo.attach(compact, space)
        options = SearchSettings(links=1, warm_up=cls.WARM_UP / cls.TOTAL, every=cls.EVERY, drop=0.0)
        trainer = GateTrainer(network, Objective(), cls.TOTAL, options)
        optimizer = Optimization(schedule="constant").build(cls.TOTAL, trainer.trained_variables)
        optimizer.build(trainer.trained_variables)
        trainer.compile(optimizer=optimizer)
        generator = np.random.default_rng(0)
        batch = tuple(
            (tf.constant(generator.normal(size=(4, 8, 8, 3)), tf.float32), tf.constant(generator.integers(0, 3, 4)))
            for _ in range(2)
        )
        seen = []

        def look():
            gates = np.concatenate([np.ravel(variable.numpy()) for variable in trainer.gates.variables])
            fixed = {float(layer.is_fixed) for layer in (*trainer.gates.links, *trainer.gates.choices)}
            temperature = [float(one.temperature) for one in (trainer.gates.links[0], trainer.gates.choices[0])]
            kernel = compact.get_layer("stem_convolution").kernel.numpy()
            mean = compact.get_layer("stem_normalization").moving_mean.numpy()
            seen.append(
                types.SimpleNamespace(gates=gates, fixed=fixed, temperature=temperature, kernel=kernel, mean=mean)
            )

        look()
        with exact_second_derivatives(network):
            step = tf.function(trainer.train_step)
            for _ in range(cls.TOTAL):
                step(batch)
                look()
        return types.SimpleNamespace(seen=seen, trainer=trainer, batch=batch, compact=compact)

    def test_the_weights_move_in_every_step(self, steps):
        for before, after in zip(steps.seen, steps.seen[1:], strict=False):
            assert not np.array_equal(before.kernel, after.kernel)

    def test_the_gates_move_after_the_warm_up_in_every_so_manieth_step(self, steps):
        moved = [
            not np.array_equal(before.gates, after.gates)
            for before, after in zip(steps.seen, steps.seen[1:], strict=False)
        ]
        expected = [step >= self.WARM_UP and step % self.EVERY == 0 for step in range(self.TOTAL)]
        assert moved == expected
        assert sum(expected) == 2

    def test_the_gates_are_fixed_while_the_weights_warm_up(self, steps):
        assert [one.fixed for one in steps.seen[1:]] == [{1.0}] * self.WARM_UP + [{0.0}] * (self.TOTAL - self.WARM_UP)

    def test_the_temperature_falls_exponentially_after_the_warm_up(self, steps):
        after = self.TOTAL - self.WARM_UP
        # The last is reached only when all steps are over.
        falls = [1.0] * self.WARM_UP + [0.3 ** (step / after) for step in range(after)]
        expected = np.outer(falls, [2 / 3, 1.0])  # of a link, and of an operation
        np.testing.assert_allclose([one.temperature for one in steps.seen[1:]], expected, rtol=1e-5)

    def test_the_optimiser_of_the_weights_has_no_gate(self, steps):
        gates = {id(variable) for variable in steps.trainer.gates.variables}
        trained = steps.trainer.trained_variables
        assert not gates & {id(variable) for variable in trained}
        assert len(trained) + len(gates) == len(steps.trainer.network.trainable_variables)

    def test_judging_by_other_images_moves_no_statistics(self, steps):
        # The statistics after the last step are those of the images that were trained on, in the step before.
        momentum = steps.compact.get_layer("stem_normalization").momentum
        kernel, before, after = steps.seen[-2].kernel, steps.seen[-2].mean, steps.seen[-1].mean
        convolved = tf.nn.conv2d(steps.batch[0][0], kernel, 1, "SAME")
        expected = momentum * before + (1 - momentum) * tf.reduce_mean(convolved, [0, 1, 2])
        np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-6)

    def test_the_budget_pulls_links_down(self, steps):
        gates = steps.trainer.gates
        before = [gate.logit.numpy() for gate in gates.links]
        for gate, logit in zip(gates.links, (1.0, -1.0), strict=True):
            gate.logit.assign(logit)
        assert float(gates.penalty()) == pytest.approx(0, abs=1e-6)  # 0.73 + 0.27 links: as many as the budget
        gates.links[1].logit.assign(1.0)
        with tf.GradientTape() as tape:
            penalty = gates.penalty()
        assert float(penalty) == pytest.approx(2 * 0.731 - 1, abs=1e-3)
        assert min(float(one) for one in tape.gradient(penalty, [gate.logit.value for gate in gates.links])) > 0
        for gate, logit in zip(gates.links, before, strict=True):
            gate.logit.assign(logit)

    def test_zero_one_pushes_sigmoid_gates_off_the_middle(self):
        gates = gates_of("sigmoid", links=2, budget_weight=0, zero_one_weight=3)
        logits = (0.5, -0.5)
        for gate, logit in zip(gates.links, logits, strict=True):
            gate.logit.assign(logit)
        with tf.GradientTape() as tape:
            penalty = gates.penalty()
        probabilities = [1 / (1 + np.exp(-logit)) for logit in logits]
        assert float(penalty) == pytest.approx(-3 * sum((one - 0.5) ** 2 for one in probabilities), abs=1e-6)
        up, down = tape.gradient(penalty, [gate.logit.value for gate in gates.links])
        assert float(up) < 0 < float(down), "descending, the larger grows and the smaller falls"


class TestGates:
    """Which way the gates move, and by how much, whatever the unrolled gradient is."""

    @pytest.mark.parametrize("sign", [1.0, -1.0])
    def test_they_move_against_the_gradient(self, sign):
        gates = gates_of("sigmoid", links=1, budget_weight=0, zero_one_weight=0)
        before = [variable.numpy() for variable in gates.variables]
        gates.move([tf.fill(variable.shape, sign) for variable in gates.variables])
        for variable, value in zip(gates.variables, before, strict=True):
            assert np.all(sign * (variable.numpy() - value) < 0)

    @pytest.mark.parametrize(
        ("kind", "settings", "logits", "expected"),
        [
            ("hard_concrete", {"links": 1}, (1.0, 0.5), (-1, -1)),
            ("hard_concrete", {"links": 2}, (1.0, 0.5), (0, 0)),
            ("sigmoid", {"links": 2}, (0.5, -0.5), (1, -1)),
        ],
        ids=["over the budget", "within the budget", "zero-one"],
    )
    def test_where_the_data_says_nothing_the_penalty_moves_them(self, kind, settings, logits, expected):
        gates = gates_of(kind, **settings)
        for gate, logit in zip(gates.links, logits, strict=True):
            gate.logit.assign(logit)
        gates.move([tf.zeros(variable.shape) for variable in gates.variables])
        moved = [float(gate.logit) - logit for gate, logit in zip(gates.links, logits, strict=True)]
        np.testing.assert_array_equal(np.sign(moved), expected)

    def test_gradients_of_any_size_come_to_a_mean_square_of_one(self, monkeypatch):
        gates, applied = gates_of("sigmoid", links=1, budget_weight=0, zero_one_weight=0), []
        monkeypatch.setattr(gates.optimizer, "apply", lambda gradients, variables: applied.append(gradients))
        for size in (1e-4, 1.0, 3.0):
            if size < 3:
                gates.mean_square.assign(0.0)
            gates.move([tf.fill(gate.shape, size * (place + 1)) for place, gate in enumerate(gates.variables)])
        small, large, after = (np.concatenate([np.ravel(one) for one in gradients]) for gradients in applied)
        np.testing.assert_allclose(small, large, rtol=1e-4)
        assert np.mean(large**2) == pytest.approx(1, rel=1e-4)
        # The mean is a running one: what comes next is measured by what was.
        np.testing.assert_allclose(after, 3 * large / (0.95 + 0.05 * 3**2) ** 0.5, rtol=1e-4)


class TestHandedOn:
    """What a search gives to its parts, those of the recipe too; its super-network is not trained."""

    OPEN = (("stage1", "stage1"), ("stage2", "stem"), ("stage2", "stage2"))  # of five, at a budget of one
    OPERATIONS = (("stage1", "convolution_1x1"), ("stage2", "identity"))
    SETTINGS = (
        *("search.supervision=deep", "search.links=1", "search.every=2", "search.drop=0.25"),
        *("search.relaxation=sigmoid", "search.straight_through=true", "search.width_multiplier=2"),
        *("optimization.trunk_rate=0", "optimization.trunk_normalization=freeze", "optimization.weight_decay=0"),
        "data.augmentation={}",
    )

    @pytest.fixture(scope="class")
    @classmethod
    def seen(cls, recipe_file, tmp_path_factory):
        recipe = SearchRecipe.parse(read_settings(recipe_file, [*SMALL, *cls.SETTINGS]), "The recipe")
        seen = types.SimpleNamespace(asked=[])

        def train(trainer, optimization, data, *, rates, **options):
            seen.trainer, seen.data, seen.rates, network = trainer, data, rates, trainer.network
            normalizations = [
                layer for layer in network._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)
            ]
            seen.is_exact = ["_moments" in vars(layer) for layer in normalizations]
            seen.frozen = {layer.name for layer in normalizations if not layer.trainable}
            seen.drop = {float(gate.drop) for gate in trainer.gates.links}
            for gate in trainer.gates.links:
                gate.logit.assign(2.0 if gate.link in cls.OPEN else -2.0)
            for choice in trainer.gates.choices:
                choice.logits.assign([float((choice.node, one) in cls.OPERATIONS) for one in choice.operations])

        def progress(file):
            probabilities = search_module.gate_probabilities(seen.trainer.network)
            return Progress({}, history={name: [value] for name, value in probabilities.items()})

        def worths(perturbation, links):
            seen.operations = perturbation.operations
            if not seen.asked:
                before = [(one, one.numpy()) for one in seen.trainer.network.variables]
                perturbation._loss_with([("stage2", "stage2")])
                seen.moved = {one.path.split("/")[0] for one, value in before if not np.array_equal(one.numpy(), value)}
                perturbation._restore()
            seen.asked.append(list(links))
            return {link: float(link == ("stage2", "stage2")) for link in links}

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(search_case, "seconds_per_step", lambda cases: [1.0] * len(cases))
            patch.setattr(search_module, "run_trainer", train)
            patch.setattr(search_module, "read_progress", progress)
            patch.setattr(Perturbation, "worths", worths)
            seen.folder = run_search(recipe, tmp_path_factory.mktemp("handed_on") / "found")
        seen.trunk = {layer.name for layer in trunk_layers(seen.trainer.network)}
        return seen

    def test_training_images_move_the_weights_and_held_out_ones_the_gates(self, seen):
        case = seen.data.case
        parts = [next(iter(images.batches(case.preprocessing, 36)))[0] for images in (case.train, case.gates)]
        known = np.concatenate(parts)
        for pair in seen.data.training_batches(0).take(3):
            for (images, _), places in zip(pair, (range(24), range(24, 36)), strict=True):
                distances = np.abs(images[:, None] - known).max(axis=(2, 3, 4))
                assert distances.min(axis=1).max() < 1e-3
                assert set(distances.argmin(axis=1)) <= set(places)

    def test_a_batch_to_judge_by_comes_until_the_gates_have_moved(self, seen):
        one, again, other, last = (gates[0].numpy() for _, gates in seen.data.training_batches(0).take(4))
        np.testing.assert_array_equal(one, again)
        np.testing.assert_array_equal(other, last)
        assert not np.array_equal(again, other)

    def test_gates_are_moved_by_exact_second_derivatives(self, seen):
        assert len(seen.is_exact) > 5
        assert all(seen.is_exact)

    def test_space_and_gates_are_those_of_the_settings(self, seen):
        space = seen.data.case.space
        assert space.relaxation == Relaxation("sigmoid", straight_through=True)
        assert [node.channels for node in space.nodes] == [16, 32]  # their taps have 8 and 16
        assert seen.drop == {0.25}

    def test_a_pretrained_trunk_stays_as_it_came(self, seen):
        assert seen.frozen == {name for name in seen.trunk if "_normalization" in name} != set()
        kernel = seen.trainer.network.get_layer("stem_convolution").kernel
        assert set(seen.rates.values()) == {0}
        assert id(kernel) in seen.rates
        assert "predictions" in seen.moved
        assert not seen.moved & seen.trunk

    def test_in_perturbation_the_head_of_a_closed_node_learns_nothing(self, seen):
        assert "auxiliary_stage2_predictions" in seen.moved
        assert "auxiliary_stage1_predictions" not in seen.moved

    def test_gates_choose_what_is_measured_and_the_operations(self, seen):
        assert set(seen.asked[0]) == set(self.OPEN)
        assert seen.operations == dict(self.OPERATIONS)
        (node,) = Structure.read(seen.folder / "structure.json").nodes
        assert (node.name, node.links, node.operation) == ("stage2", ("stage2",), "identity")


@pytest.mark.slow
class TestGradientSearch:
    @pytest.fixture(scope="class")
    @classmethod
    def recipe(cls, recipe_file):
        return SearchRecipe.parse(read_settings(recipe_file, SMALL), "The recipe")

    @pytest.fixture(scope="class")
    @classmethod
    def found(cls, recipe, tmp_path_factory):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(step_cost, "_MOST_ROUNDS", 1)
            return run_search(recipe, tmp_path_factory.mktemp("search") / "found")

    def test_leaves_the_structure_with_where_it_came_from(self, found, recipe):
        structure = Structure.read(found / "structure.json")
        assert sum(len(node.links) for node in structure.nodes) == recipe.search.links
        assert structure.nodes[0].links
        provenance = structure.provenance
        assert provenance["recipe"]["seed"] == recipe.seed
        parent, name = recipe.data.source.removeprefix("folder:").rsplit("/", 1)
        assert provenance["recipe"]["data"]["source"] == f"folder:{name}"
        train, gates = (provenance["data"][part]["source"] for part in ("train", "gates"))
        assert train.startswith(f"folder:{name}/train")
        assert gates.startswith(f"folder:{name}/train")
        assert train != gates
        assert parent not in json.dumps(provenance)
        assert provenance["space"]["nodes"][0]["links"] == ["stem", "stage1"]
        cost = provenance["cost"]
        assert cost["steps"] == 2 * recipe.epochs + cost["perturbation_steps"]  # 24 images in batches of 12
        assert cost["gate_steps"] == 6  # all but the 2 of the warm-up
        metrics = read_json(found / "metrics.json")
        assert (metrics["links"], metrics["step_cost"]) == (recipe.search.links, provenance["step_cost"])
        trainings = sum(len(one) + 1 for one in provenance["found"]["link_worths"])
        # As many as fit into all steps of the search, 2 * 4; at least one each.
        assert cost["perturbation_steps"] == trainings * max(1, 8 // trainings)
        assert provenance["cost"]["seconds"] > 0
        assert provenance["step_cost"] > 0
        assert {"auxzoo", "keras", "tensorflow", "processor"} <= set(provenance["made_with"])
        images = provenance["data"]
        assert (images["train"]["count"], images["gates"]["count"]) == (24, 12)
        assert images["train"]["sha256"] != images["gates"]["sha256"]

    def test_keeps_the_best_links_by_perturbation(self, found):
        structure = Structure.read(found / "structure.json")
        *_, last = structure.provenance["found"]["link_worths"]
        worths = {(one["node"], one["tap"]): one["worth"] for one in last}
        assert set(worths) <= set(LINKS)
        assert any(worths.values())
        kept = {(node.name, tap) for node in structure.nodes for tap in node.links}
        first = max((link for link in worths if link[0] == "stage1"), key=worths.get)
        rest = sorted((link for link in worths if link != first), key=worths.get, reverse=True)
        assert kept == {first, *rest[:2]}

    def test_keeps_the_history_of_every_gate(self, found, recipe):
        history = Structure.read(found / "structure.json").provenance["found"]["gate_history"]
        assert set(history) == {
            *(f"link {node} <- {tap}" for node, tap in LINKS),
            *(f"operation {node} {one}" for node in ("stage1", "stage2") for one in ("convolution_1x1", "identity")),
        }
        assert {len(values) for values in history.values()} == {recipe.epochs}
        assert all(0 <= value <= 1 for values in history.values() for value in values)

    @pytest.mark.parametrize("name", ["gates.png", "structure.png", "structure.svg"])
    def test_draws_what_it_found(self, found, name):
        assert (found / name).stat().st_size > 3000

    @pytest.mark.usefixtures("untimed", "worthless")
    def test_nodes_with_a_head_each_may_go(self, make_recipe, tmp_path):
        folder = run_search(make_recipe("search.supervision=deep", "search.links=1"), tmp_path / "deep")
        (node,) = Structure.read(folder / "structure.json").nodes
        assert len(node.links) == 1

    def test_pretrained_weights_are_told_by_their_checksum(self, recipe, tmp_path, monkeypatch):
        case = SearchCase(recipe, tmp_path / "step_costs.json")
        assert set(case.checksums) == {"train", "gates"}
        monkeypatch.setattr(search_case, "pretrained_checksum", lambda recipe: "abc")
        case = SearchCase(recipe, tmp_path / "step_costs.json")
        assert case.checksums["pretrained"] == "abc"

    def test_a_run_state_is_of_its_images(self, recipe, tmp_path, monkeypatch):
        kept = {}

        def stop(*arguments, settings, **options):
            kept.update(settings)
            raise KeyboardInterrupt

        monkeypatch.setattr(search_module, "run_trainer", stop)
        with pytest.raises(KeyboardInterrupt):
            run_search(recipe, tmp_path / "killed")
        case = SearchCase(recipe, tmp_path / "step_costs.json")
        assert kept["images"] == {"train": case.train.manifest()["sha256"], "gates": case.gates.manifest()["sha256"]}
        # Wherever they lie, as what was measured of steps.
        assert kept["recipe"] == case._costs_of["recipe"]
        assert kept["recipe"]["data"]["source"] == "folder:"

    def test_a_search_that_is_killed_twice_and_stopped_by_nan_ends_the_same(
        self, found, recipe, tmp_path, monkeypatch, untimed
    ):
        killed = tmp_path / "killed"
        with pytest.raises(KeyboardInterrupt):
            run_search(recipe, killed, callbacks=[StopAt()])
        assert not (killed / "structure.json").exists()
        with pytest.raises(TrainingDiverged, match=r"The loss became nan|_gate/logit. became NaN"):
            run_search(recipe, killed, callbacks=[SetGate(epoch=2)])
        assert not (killed / "structure.json").exists()
        assert read_progress(killed / "run_state.npz").epoch == 2, "the last good epoch"
        worths, asked = Perturbation.worths, []

        def cut_off(perturbation, links):
            asked.append(len(links))
            if len(asked) == 2:
                raise KeyboardInterrupt
            return worths(perturbation, links)

        monkeypatch.setattr(Perturbation, "worths", cut_off)
        with pytest.raises(KeyboardInterrupt):  # between two rounds of taking out links
            run_search(recipe, killed)
        run_search(recipe, killed)
        assert asked == [5, 4, 4]
        one, other = (Structure.read(folder / "structure.json") for folder in (found, killed))
        assert one == other
        assert one.provenance["found"] == other.provenance["found"]
        assert one.provenance["cost"]["steps"] == other.provenance["cost"]["steps"]

    def test_a_finished_search_is_refused(self, found, recipe):
        with pytest.raises(auxzoo.UserError, match="holds a finished run; .* --overwrite"):
            run_search(recipe, found)

    def test_another_search_in_the_folder_is_refused(self, found, recipe):
        other = recipe.model_copy(update={"search": recipe.search.model_copy(update={"links": 2})})
        with pytest.raises(auxzoo.UserError, match="holds a run of another recipe"):
            run_search(other, found)

    def test_a_run_of_the_same_recipe_in_the_folder_is_another_thing(self, found, recipe, tmp_path):
        shutil.copytree(found, tmp_path / "found")
        (tmp_path / "found" / "metrics.json").unlink()
        plain = Recipe.model_validate(recipe.model_dump())
        with pytest.raises(auxzoo.UserError, match="holds a run of another kind, a search"):
            auxzoo.train(plain, tmp_path / "found")
        assert (tmp_path / "found" / "recipe.yaml").read_text() == (found / "recipe.yaml").read_text()

    def test_its_structure_is_trained_with(self, found, recipe_file, tmp_path):
        # The same file serves both commands.
        settings = read_settings(recipe_file, [*SMALL, f"auxiliary.structure={found / 'structure.json'}", "epochs=1"])
        folder = auxzoo.train(Recipe.parse(settings, "The recipe"), tmp_path / "run", verbose=0)
        assert Structure.read(folder / "structure.json") == Structure.read(found / "structure.json")
        assert read_json(folder / "metrics.json")["auxiliary"] is True

    def test_nan_in_a_gate_stops_it_before_a_state_is_saved(self, make_recipe, tmp_path, untimed):
        with pytest.raises(TrainingDiverged, match=r"The loss became nan|_gate/logit. became NaN"):
            run_search(make_recipe(), tmp_path / "nan", callbacks=[SetGate(epoch=0)])
        assert not (tmp_path / "nan" / "structure.json").exists()
        assert not (tmp_path / "nan" / "run_state.npz").exists()

    @pytest.mark.parametrize("relaxation", ["sigmoid", "hard_concrete"])
    @pytest.mark.usefixtures("untimed", "worthless")
    def test_other_gates_find_a_structure_too(self, make_recipe, tmp_path, relaxation):
        settings = (f"search.relaxation={relaxation}", "search.straight_through=true", "epochs=2", "search.links=2")
        folder = run_search(make_recipe(*settings), tmp_path / "other")
        structure = Structure.read(folder / "structure.json")
        assert sum(len(node.links) for node in structure.nodes) == 2
        history = structure.provenance["found"]["gate_history"]
        assert any(first != last for name, (first, last) in history.items() if name.startswith("link "))

    def test_overwriting_a_finished_search_times_its_steps_anew(self, found, recipe, tmp_path, monkeypatch):
        folder = shutil.copytree(found, tmp_path / "found")
        kept = read_json(folder / "step_costs.json")
        assert kept["of"]["processor"] == processor_name()
        assert list(SearchCase(recipe, folder / "step_costs.json")._step_costs) == list(kept["costs"])
        assert SearchCase(recipe, folder / "step_costs.json", continues=False)._step_costs == {}
        started = []

        def begin(recipe, file, continues):
            started.append(continues)
            raise KeyboardInterrupt

        monkeypatch.setattr(search_module, "SearchCase", begin)
        for overwrite in (True, False):
            with pytest.raises(KeyboardInterrupt):
                run_search(recipe, folder, overwrite=overwrite)
        (folder / "metrics.json").unlink()  # one that was killed goes on
        with pytest.raises(KeyboardInterrupt):
            run_search(recipe, folder, overwrite=True)
        assert started == [False, True, True]
        write_json(folder / "step_costs.json", kept | {"of": kept["of"] | {"processor": "another"}})
        monkeypatch.undo()
        assert SearchCase(recipe, folder / "step_costs.json")._step_costs == {}


class TestPerturbation:
    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, recipe_file, tmp_path_factory):
        # Without decay nothing moves but by its gradient.
        overrides = [*SMALL, "optimization.weight_decay=0"]
        recipe = SearchRecipe.parse(read_settings(recipe_file, overrides), "The recipe")
        case = SearchCase(recipe, tmp_path_factory.mktemp("case") / "step_costs.json")
        network = auxzoo.attach(case.compact(), case.space)
        return network, Perturbation(
            network, {"stage1": "identity", "stage2": "convolution_1x1"}, case, recipe.objective, 2
        )

    def test_every_link_makes_a_difference_and_the_same_one_again(self, trained):
        _, perturbation = trained
        worths = perturbation.worths(LINKS)
        assert list(worths) == LINKS
        assert len(set(worths.values())) == len(LINKS)
        assert 0.0 not in worths.values()
        assert perturbation.worths(LINKS) == worths

    def test_a_link_is_worth_what_the_loss_is_higher_without_it(self, trained):
        _, perturbation = trained
        worths, with_all = perturbation.worths(LINKS), perturbation._loss_with(LINKS)
        for place, link in enumerate(LINKS):
            without = perturbation._loss_with(LINKS[:place] + LINKS[place + 1 :])
            assert worths[link] == pytest.approx(without - with_all, abs=1e-12)
        perturbation._restore()

    def test_it_depends_on_which_others_are_open(self, trained):
        _, perturbation = trained
        few = perturbation.worths(LINKS[:3])
        assert list(few) == LINKS[:3]
        assert few != {link: worth for link, worth in perturbation.worths(LINKS).items() if link in few}

    def moved(self, trained, links):
        """Paths of the variables that a few steps move in which just these links are open."""
        network, perturbation = trained
        before = [(variable, variable.numpy()) for variable in network.trainable_variables]
        perturbation._loss_with(links)
        moved = {variable.path for variable, value in before if not np.array_equal(variable.numpy(), value)}
        perturbation._restore()
        return moved

    def test_just_these_links_are_open(self, trained):
        links = {LINKS[0], LINKS[3]}
        paths = {link: "auxiliary_{}_from_{}_adapter/kernel".format(*link) for link in LINKS}
        moved = self.moved(trained, links)
        assert {link for link, path in paths.items() if path in moved} == links

    def test_nodes_apply_the_operation_that_was_chosen(self, trained):
        moved = {path for path in self.moved(trained, LINKS) if path.endswith("_operation_convolution_1x1/kernel")}
        assert len(moved) == 1, "that of one node; the other's is the identity"
        assert "stage2" in moved.pop()

    def test_it_makes_the_steps_and_measures_the_compact_network_on_held_out_images(self, trained, monkeypatch):
        network, perturbation = trained
        step, made, case = perturbation._step, [], perturbation.case

        def counted(*batch):
            made.append(batch)
            step(*batch)

        monkeypatch.setattr(perturbation, "_step", counted)
        before = perturbation.steps
        received = perturbation._loss_with(LINKS)
        assert len(made) == perturbation.steps - before == 2
        ((images, truth),) = case.gates.batches(case.preprocessing, 12)
        outputs = auxzoo.detach(network)(images, training=False)
        perturbation._restore()
        assert received == pytest.approx(float(case.recipe.objective.losses(truth, outputs, 1.0)["loss"]), rel=1e-5)

    def test_a_loss_that_is_not_finite_stops_it(self, trained, monkeypatch):
        network, perturbation = trained
        before = [variable.numpy() for variable in network.variables]
        monkeypatch.setattr(perturbation, "_compact_loss", lambda images, truth: float("nan"))
        with pytest.raises(TrainingDiverged, match="became nan while links were taken out"):
            perturbation.worths(LINKS)
        for variable, value in zip(network.variables, before, strict=True):
            np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)

    def test_the_network_is_as_it_was(self, trained):
        network, perturbation = trained
        before = [variable.numpy() for variable in network.variables]
        perturbation.worths(LINKS[:2])
        for variable, value in zip(network.variables, before, strict=True):
            np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)


class TestStepTime:
    """With made-up times: a step takes 1 s, a convolution 0.3 s more, an identity or a link 0.1 s."""

    @pytest.fixture
    def case(self, make_recipe, tmp_path, monkeypatch):
        def seconds_of(network):
            names = [layer.name for layer in network.layers]
            adapters = sum("_adapter" in name and "previous" not in name for name in names)
            convolutions = sum(name.endswith("_operation") for name in names)
            return 1 + 0.1 * adapters + 0.3 * convolutions

        def seconds_of_parts(network, batch_size):
            operations = {"convolution_1x1": 0.3, "identity": 0.1}
            return StepParts(dict.fromkeys(LINKS, 0.1), {"stage1": operations, "stage2": operations})

        monkeypatch.setattr(search_case, "seconds_per_step", lambda cases: [seconds_of(one) for one, _ in cases])
        monkeypatch.setattr(search_case, "seconds_of_parts", seconds_of_parts)
        return lambda bound: SearchCase(make_recipe(f"search.step_cost={bound}"), tmp_path / "step_costs.json")

    def within(self, case, links=LINKS[:3]):
        operations = dict.fromkeys(("stage1", "stage2"), "convolution_1x1")
        structure = case.within_budget(links, operations, progress=lambda line: None)
        assert case.step_cost(structure) <= case.recipe.search.step_cost
        return structure

    def test_what_fits_is_left_alone(self, case):
        structure = self.within(case(2.0))
        assert [node.operation for node in structure.nodes] == ["convolution_1x1"] * 2
        assert [len(node.links) for node in structure.nodes] == [2, 1]

    def test_operations_are_made_cheaper_first(self, case):
        structure = self.within(case(1.65))
        assert sorted(node.operation for node in structure.nodes) == ["convolution_1x1", "identity"]
        assert [len(node.links) for node in structure.nodes] == [2, 1]

    def test_then_links_go_the_least_worthy_first(self, case):
        structure = self.within(case(1.25))
        assert [node.operation for node in structure.nodes] == ["identity"] * 2
        assert [node.links for node in structure.nodes] == [("stem", "stage1"), ()]

    def test_then_the_cheapest_link_takes_the_place_of_the_last(self, make_recipe, tmp_path, monkeypatch):
        # Nodes read taps alone; one whose link is made of many channels takes 0.5 s, and the others 0.1 s.
        overrides = ("search.supervision=deep", "search.links=1")
        links = {("stage1", "stem"): 0.1, ("stage1", "stage1"): 0.1}
        links |= {("stage2", tap): 0.5 for tap in ("stem", "stage1", "stage2")}
        operations = {key: {"convolution_1x1": 0.3, "identity": 0.1} for key in ("stage1", "stage2")}

        def seconds_of(network):
            names = [layer.name for layer in network.layers]
            seconds = sum(0.5 if "stage2_from" in name else 0.1 for name in names if name.endswith("_adapter"))
            return 1 + seconds + 0.3 * sum(name.endswith("_operation") for name in names)

        monkeypatch.setattr(search_case, "seconds_per_step", lambda cases: [seconds_of(one) for one, _ in cases])
        monkeypatch.setattr(search_case, "seconds_of_parts", lambda *arguments: StepParts(links, operations))
        case = SearchCase(make_recipe(*overrides, "search.step_cost=1.25"), tmp_path / "step_costs.json")
        structure = case.within_budget([("stage2", "stage2")], {"stage2": "identity"}, lambda line: None)
        assert [(node.name, node.operation) for node in structure.nodes] == [("stage1", "identity")]
        assert case.step_cost(structure) <= 1.25

    @pytest.mark.parametrize("with_parent", [False, True])
    def test_what_is_tried_is_made_cheaper_too(self, case, with_parent):
        found, generator = case(1.25), random.Random(0)
        parent = found.space.structure(LINKS[:3]) if with_parent else None
        for _ in range(5):
            structure = black_box._affordable(found, generator, lambda line: None, parent)
            assert found.step_cost(structure) <= 1.25

    def test_shares_are_of_what_the_budget_leaves(self, case):
        shares = case(1.5).shares
        assert shares.links == dict.fromkeys(LINKS, pytest.approx(0.2))
        assert shares.operations["stage1"]["convolution_1x1"] == pytest.approx(0.6)

    def test_a_search_goes_on_with_the_times_it_has_measured(self, case, monkeypatch):
        first = case(1.5)
        first.keep_step_costs()
        structure = first.space.structure(LINKS[:3])
        cost = first.step_cost(structure)
        monkeypatch.setattr(search_case, "seconds_per_step", lambda cases: pytest.fail("measured again"))
        again = case(1.5)
        assert again.step_cost(structure) == cost
        assert again.shares == first.shares

    def test_the_gates_feel_the_time(self, case):
        found = case(1.2)
        network = auxzoo.attach(found.compact(), found.space)
        settings = SearchSettings(links=5)
        penalties = [float(Gates(network, settings, shares).penalty()) for shares in (None, found.shares)]
        # 4 of 5 links expected, 0.4 s, and an operation of 0.2 s in every node that has one of its 2 or 3 links, where
        # the budget is 0.2 s.
        seconds = 0.4 + 0.2 * (1 - 0.2**2) + 0.2 * (1 - 0.2**3)
        assert penalties == [pytest.approx(0, abs=1e-5), pytest.approx(5 * (seconds / 0.2 - 1), rel=1e-3)]


def test_parts_are_timed_by_themselves(make_recipe, tmp_path):
    case = SearchCase(make_recipe(), tmp_path / "step_costs.json")
    parts = seconds_of_parts(auxzoo.attach(case.compact(), case.space), batch_size=12)
    assert sorted(parts.links) == sorted(LINKS)
    assert list(parts.operations) == ["stage1", "stage2"]
    assert all(sorted(of_node) == ["convolution_1x1", "identity"] for of_node in parts.operations.values())
    assert min(parts.links.values()) > 0


def test_a_node_with_a_head_takes_the_time_of_the_head_too(make_recipe, tmp_path, monkeypatch):
    case = SearchCase(make_recipe("search.supervision=deep"), tmp_path / "step_costs.json")
    timed = []
    monkeypatch.setattr(step_cost, "seconds_of_fastest", lambda passes: timed.extend(passes) or [1.0] * len(passes))
    parts = seconds_of_parts(auxzoo.attach(case.compact(), case.space), batch_size=12)
    # An operation, and the head behind it.
    assert parts.operations == {key: {"convolution_1x1": 2.0, "identity": 2.0} for key in ("stage1", "stage2")}
    assert set(parts.links.values()) == {1.0}
    for part in timed[-2:]:
        gradients = part()
        assert len(gradients) == 3  # of the features, and of the head's kernel and bias
        assert all(np.abs(gradient).max() > 0 for gradient in gradients)


class TestChoice:
    """With made-up worths: `hidden` links are worth nothing while their double is there."""

    class MadeUp:
        def __init__(self, worths, doubles=()):
            self.made_up, self.doubles, self.asked, self.steps = worths, doubles, [], 0

        def worths(self, links):
            self.asked.append(list(links))
            self.steps += len(links)
            hidden = {one for pair in self.doubles if set(pair) <= set(links) for one in pair}
            return {link: 0.0 if link in hidden else self.made_up[link] for link in links}

    LINKS = (("a", "1"), *(("b", tap) for tap in "12345"))
    SPACE = SearchSpace(
        tuple((tap, tap) for tap in "12345"),
        (NodeSpace("a", ("1",), ("identity",), 1, "1"), NodeSpace("b", tuple("12345"), ("identity",), 1, "5")),
        supervision="hierarchical",
    )

    def choose(self, worths, budget, probabilities=None, doubles=(), space=SPACE):
        made_up = self.MadeUp(dict(zip(self.LINKS, worths, strict=True)), doubles)
        probabilities = dict(zip(self.LINKS, probabilities or [0.9] * len(self.LINKS), strict=True))
        pool = links_to_measure(probabilities, budget, space)
        links, rounds = choose_links(made_up, pool, budget, space, progress=lambda line: None)
        assert [list(one) for one in rounds] == made_up.asked
        assert sum(len(one) + 1 for one in rounds) == number_of_trainings(len(pool), budget)
        return links, made_up

    def test_the_worthiest_stay(self):
        links, _ = self.choose([1, 5, 4, 3, 2, 0], budget=3)
        assert links == [("a", "1"), ("b", "1"), ("b", "2")]

    def test_the_first_node_keeps_its_best_whatever_it_is_worth(self):
        links, _ = self.choose([-9, 5, 4, 3, 2, 1], budget=2)
        assert links == [("a", "1"), ("b", "1")]

    def test_where_nodes_read_no_other_every_link_must_be_worth_its_place(self):
        links, _ = self.choose([-9, 5, 4, 3, 2, 1], budget=2, space=dataclasses.replace(self.SPACE, supervision="deep"))
        assert links == [("b", "1"), ("b", "2")]

    def test_what_is_hidden_by_its_double_comes_out_in_a_later_round(self):
        doubles = [(("b", "1"), ("b", "2"))]
        links, made_up = self.choose([1, 9, 8, 3, 2, 1], budget=2, doubles=doubles)
        assert links[0] == ("a", "1")
        assert len(made_up.asked) > 1
        # Taken out all at once, both of the pair would have gone.
        assert links[1] in doubles[0]

    def test_a_search_that_is_cut_off_measures_no_round_twice(self, tmp_path):
        worths, file = dict(zip(self.LINKS, [1, 5, 4, 3, 2, 0], strict=True)), tmp_path / "perturbation.json"

        def choose(made_up):
            kept = KeptRounds(made_up, file)
            found = choose_links(kept, self.LINKS, 2, self.SPACE, progress=lambda line: None)
            return found, kept.steps

        undisturbed = choose(self.MadeUp(worths))
        assert len(json.loads(file.read_text())) == 4
        file.unlink()

        class CutOff(self.MadeUp):
            def worths(self, links):
                if len(self.asked) == 2:
                    raise KeyboardInterrupt
                return super().worths(links)

        with pytest.raises(KeyboardInterrupt):
            choose(CutOff(worths))
        rest = self.MadeUp(worths)
        assert choose(rest) == undisturbed
        assert [len(links) for links in rest.asked] == [4, 3]
        # Of another search nothing is taken.
        file.write_text(json.dumps([{"links": [["b", "1"]], "worths": [7], "steps": 1, "seconds": 1}]))
        assert choose(self.MadeUp(worths)) == undisturbed

    def test_gates_choose_what_is_looked_at(self):
        probabilities = [0.1, 0.9, 0.8, 0.7, 0.2, 0.1]
        links, made_up = self.choose([1, 1, 2, 3, 100, 100], budget=1, probabilities=probabilities)
        assert made_up.asked[0] == [("b", "1"), ("b", "2"), ("b", "3"), ("a", "1")]
        assert links == [("a", "1")]

    @given(data=st.data())
    @settings(max_examples=50, deadline=None)
    def test_the_budget_is_kept(self, data):
        size = len(self.LINKS)
        worths = data.draw(st.lists(st.floats(-1, 1), min_size=size, max_size=size))
        probabilities = data.draw(st.lists(st.floats(0, 1), min_size=size, max_size=size))
        budget = data.draw(st.integers(1, size))
        links, _ = self.choose(worths, budget, probabilities)
        assert len(links) <= budget
        assert len(set(links)) == len(links)
        assert ("a", "1") in links
        assert len(links) == min(budget, size)


@pytest.mark.slow
class TestBlackBox:
    def test_evolution_takes_as_many_steps_as_halving(self, make_recipe, tmp_path, monkeypatch, untimed):
        asked = []

        def score(scorer, structure, epochs):
            asked.append(epochs)
            return float(len(asked))

        monkeypatch.setattr(black_box._Scorer, "score", score)
        for method, expected in (("halving", [1, 1, 1, 2]), ("evolution", [1] * 5)):
            settings = (f"search.method={method}", "search.candidates=3")
            run_search(make_recipe(*settings), tmp_path / method)
            assert asked == expected
            asked.clear()

    def test_the_best_of_a_sample_gets_the_child_and_the_oldest_dies(self, make_recipe, tmp_path, monkeypatch):
        recipe = make_recipe("search.method=evolution", "search.candidates=4")
        scores, scored, samples, parents = [5, 1, 4, 2, 6, 3, 8, 7], [], [], []

        class Recording(random.Random):
            def sample(self, population, k):
                samples.append((list(population), super().sample(population, k)))
                return samples[-1][1]

        def score(scorer, structure, epochs):
            scored.append((scores[len(scored)], structure))
            return scored[-1][0]

        def recorded(space, parent, generator):
            parents.append(parent)
            return mutate(space, parent, generator)

        monkeypatch.setattr(black_box, "random", types.SimpleNamespace(Random=Recording))
        monkeypatch.setattr(black_box, "mutate", recorded)
        monkeypatch.setattr(black_box._Scorer, "score", score)
        case = SearchCase(recipe, tmp_path / "step_costs.json")
        best, _, _ = black_box.search_by_evolution(case, tmp_path, progress=lambda line: None)
        assert len(scored) == len(scores)
        for place, ((population, sample), parent) in enumerate(zip(samples, parents, strict=True)):
            assert population == scored[place : place + 4]
            assert len(sample) == 3
            assert parent is max(sample, key=lambda pair: pair[0])[1]
        assert best is scored[6][1]

    @pytest.mark.parametrize(
        ("method", "candidates", "epochs"), [("halving", 3, [0, 0, 0, 1, 1]), ("evolution", 4, [0] * 5)]
    )
    def test_takes_the_best_and_resumes(self, make_recipe, tmp_path, method, candidates, epochs, monkeypatch, untimed):
        recipe = make_recipe(f"search.method={method}")
        fits, sets, begun, values = [], set(), [], []
        real = black_box.fit

        def watched(network, train, validation, **options):
            fits.append(options["epochs"])
            sets.add((train.manifest()["sha256"], validation.manifest()["sha256"]))
            callbacks = [keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: begun.append(epoch))]
            if len(fits) == 3:  # killed in its last step
                callbacks.append(StopAt(options["epochs"] - 1, 1))
            history = real(network, train, validation, **options, callbacks=callbacks)
            values.append(history["val_accuracy"][-1])
            return history

        monkeypatch.setattr(black_box, "fit", watched)
        with pytest.raises(KeyboardInterrupt):
            run_search(recipe, tmp_path / "found")
        run_search(recipe, tmp_path / "found")
        assert len(fits) == candidates + 1, "what was scored is not scored again"
        assert begun == epochs, "the one that was killed goes on"
        case = SearchCase(recipe, tmp_path / "step_costs.json")
        assert sets == {(case.checksums["train"], case.checksums["gates"])}
        structure = Structure.read(tmp_path / "found" / "structure.json")
        records = structure.provenance["found"]["candidates"]
        assert [record["value"] for record in records] == values
        assert len(records) == candidates
        longest = [record for record in records if record["epochs"] == max(one["epochs"] for one in records)]
        best = max(longest, key=lambda record: record["value"])
        assert Structure.from_dict(best["structure"]) == structure
        assert structure.provenance["cost"]["steps"] == sum(2 * record["epochs"] for record in records)
        assert sum(len(node.links) for node in structure.nodes) == recipe.search.links

    @pytest.mark.parametrize("epochs", [8, 60, 120])
    def test_it_takes_the_steps_of_two_trainings(self, epochs):
        rounds = black_box.halving_rounds(SearchSettings(), epochs)
        assert [count for count, _ in rounds] == [6, 3, 1]
        assert sum(count * each for count, each in rounds) <= 2 * epochs

    def test_where_the_last_round_fails_the_best_of_the_one_before_is_taken(
        self, make_recipe, tmp_path, monkeypatch, untimed
    ):
        asked, told = [], []

        def score(scorer, structure, epochs):
            asked.append(structure)
            return -math.inf if len(asked) > 2 else float(len(asked))

        monkeypatch.setattr(black_box._Scorer, "score", score)
        folder = search(make_recipe("search.method=halving"), tmp_path / "found", progress=told.append, verbose=0)
        assert len(asked) == 3
        assert Structure.read(folder / "structure.json") == asked[1] == asked[2]
        assert "None of them converged: the best of the round before is taken." in told

    def test_a_training_that_fails_costs_the_steps_that_it_made(self, make_recipe, tmp_path, monkeypatch, untimed):
        real = black_box.fit

        def diverge(*arguments, **options):
            if not failed:
                failed.append(True)
                raise TrainingDiverged("NaN")
            return real(*arguments, **options)

        failed = []
        monkeypatch.setattr(black_box, "fit", diverge)
        folder = run_search(make_recipe("search.method=halving", "search.rounds=1"), tmp_path / "found")
        first, second = Structure.read(folder / "structure.json").provenance["found"]["candidates"]
        assert (first["diverged"], first["steps"]) == (True, 0)
        assert (second["diverged"], second["steps"]) == (False, 2 * second["epochs"])

    @pytest.mark.parametrize("method", ["halving", "evolution"])
    def test_where_every_training_fails_there_is_nothing_to_find(self, make_recipe, tmp_path, method, monkeypatch):
        def diverge(*arguments, **options):
            raise TrainingDiverged("NaN")

        monkeypatch.setattr(black_box, "fit", diverge)
        with pytest.raises(TrainingDiverged, match="with each of 2 structures. Lower the learning rate"):
            run_search(make_recipe(f"search.method={method}"), tmp_path / "found")
        assert not (tmp_path / "found" / "structure.json").exists()

    def test_a_candidate_on_other_images_is_refused(self, make_recipe, tmp_path, monkeypatch):
        recipe, real = make_recipe("search.method=halving"), black_box.fit
        calls = []

        def stop_at_second(*arguments, **options):
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return real(*arguments, **options)

        monkeypatch.setattr(black_box, "fit", stop_at_second)
        with pytest.raises(KeyboardInterrupt):
            run_search(recipe, tmp_path / "found")
        monkeypatch.setattr(SearchCase, "checksums", {"train": "0", "gates": "0"})
        with pytest.raises(auxzoo.UserError, match="another candidate, or of other images"):
            run_search(recipe, tmp_path / "found")
        monkeypatch.setattr(search_module, "checksum_of_sets", lambda *sets: "0")
        with pytest.raises(auxzoo.UserError, match="another set of images"):
            run_search(recipe, tmp_path / "found")


@pytest.mark.parametrize("supervision", SUPERVISIONS)
@given(seed=st.integers(0, 2**31), links=st.integers(1, 14))
@settings(max_examples=40, deadline=None)
def test_a_mutant_has_one_change_and_as_many_links(seed, links, supervision):
    space = dataclasses.replace(mutant_space(), supervision=supervision)
    parent = space.random(links, seed)
    child = mutate(space, parent, random.Random(seed))
    moved = {(a.name, tap) for a in parent.nodes for tap in a.links} ^ {
        (b.name, tap) for b in child.nodes for tap in b.links
    }
    operations = [{node.name: node.operation for node in structure.nodes} for structure in (parent, child)]
    changed = sum(operations[0][name] != operations[1][name] for name in operations[0].keys() & operations[1].keys())
    assert (len(moved), changed) in {(2, 0), (0, 1), (0, 0)}
    assert sum(len(node.links) for node in child.nodes) == links
    assert child.nodes[0].links


_SPACES = []


def mutant_space():
    if not _SPACES:
        _SPACES.append(SearchSpace.default(models.ResNet18((16, 16, 3), 0.125, "small", num_classes=3)))
    return _SPACES[0]


class TestBadInput:
    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            (["search.taps=[stem, stage9]"], r"`taps` must be layers or taps \(stem, .*\) of 'resnet18'.*'stage9'"),
            (["search.links=6"], "`links` must be 1 to 5, the candidates of the search space. Received: links=6"),
            (["search.operations=[convolution_9x9]"], "`operation` of node 'stage1' must be one of"),
            (
                ["search.gate_count=30"],
                "`search.gate_count` must leave a batch of 12 of the 36 training.*gate_count=30",
            ),
            (
                ["search.every=9"],
                "`search.every` must divide the number of a step after the warm-up, 2 to 7, .*Received: every=9",
            ),
        ],
    )
    def test_what_cannot_be_searched_is_refused_before_anything_is_written(
        self, make_recipe, tmp_path, overrides, message
    ):
        with pytest.raises(auxzoo.UserError, match=message):
            run_search(make_recipe(*overrides), tmp_path / "found")
        assert not (tmp_path / "found").exists()

    def test_half_precision_is_refused(self, make_recipe, tmp_path):
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            with pytest.raises(auxzoo.UserError, match="`network` must not compute in half precision"):
                run_search(make_recipe(), tmp_path / "found")
        finally:
            keras.config.set_dtype_policy("float32")
        assert not (tmp_path / "found").exists()

    def test_a_step_time_that_no_structure_meets_is_refused(self, make_recipe, tmp_path, monkeypatch):
        monkeypatch.setattr(search_case, "seconds_per_step", lambda cases: [1.0, 1.4][: len(cases)])
        message = "`search.step_cost` must be at least 1.40, what the cheapest structure .*step_cost=1.3"
        with pytest.raises(auxzoo.UserError, match=message):
            run_search(make_recipe("search.step_cost=1.3"), tmp_path / "found")
        assert not (tmp_path / "found").exists()

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("search.gate_count=0", "`search.gate_count`.*Received: 0"),
            ("search.method=guess", "`search.method`.*'guess'"),
            ("search.every=0", "`search.every`.*Received: 0"),
            ("search.step_cost=1", "`search.step_cost`.*Received: 1"),
            ("search.colour=red", "`search.colour`: no such setting"),
            ("data.validation_count=0", "`data.validation_count`.*Received: 0"),
        ],
    )
    def test_wrong_settings_are_named(self, make_recipe, override, message):
        with pytest.raises(auxzoo.UserError, match=message):
            make_recipe(override)

    def test_a_structure_of_another_network_is_named(self, recipe_file, tmp_path):
        mutant_space().random(4, 0).save(tmp_path / "structure.json")
        overrides = ["network.architecture=MobileNetV2", "network.arguments={input_shape: [32, 32, 3], alpha: 0.35}"]
        settings = read_settings(recipe_file, [*overrides, f"auxiliary.structure={tmp_path / 'structure.json'}"])
        with pytest.raises(auxzoo.UserError, match="must be a layer of 'mobilenet_v2'"):
            auxzoo.train(Recipe.parse(settings, "The recipe"), tmp_path / "run", verbose=0)
        assert not (tmp_path / "run").exists()
