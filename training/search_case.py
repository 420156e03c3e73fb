"""What every method of searching a structure works on: data, space, and what a step may cost."""

import functools
import json

import keras

from auxzoo.auxiliary import Relaxation, SearchSpace, attach
from auxzoo.data import Augmentation
from auxzoo.data.targets import check_some_truth
from auxzoo.errors import UserError
from auxzoo.files import read_json, write_json
from auxzoo.machine import processor_name

from .. import models
from .compute import check_precision
from .gate_trainer import gate_steps, warm_up_steps
from .outputs import fitting_images
from .run import build_compact, open_data, pretrained_checksum
from .step_cost import StepParts, seconds_of_parts, seconds_per_step


class SearchCase:
    """What every method of searching works on.

    Args:
        recipe: `SearchRecipe`.
        step_costs_file: `Path` of the step times measured so far: a search that was killed goes on with them, since
            times measured anew would lead it elsewhere. Those of another recipe or processor are not used.
        continues: whether the search may be one that was killed.

    Attributes:
        recipe: the same.
        train: `ImageSet` that weights are trained on.
        gates: `ImageSet` held out of the training images, that gates and structures are judged by.
        tasks: tuple of `Task`, those of the images.
        compilation: `"graph"` or `"xla"`.
        space: `SearchSpace`.

    Raises:
        UserError: if the recipe or its data are not right, or no structure of the space meets the budget.
    """

    def __init__(self, recipe, step_costs_file, continues=True):
        settings = recipe.search
        self.recipe = recipe
        # A search does not time both ways, as `fit` does where a recipe says `auto`.
        self.compilation = "graph" if recipe.compute.compilation == "auto" else recipe.compute.compilation
        data = recipe.data.model_copy(update={"test_split": None})  # the test images are not for choosing
        train, _, _ = open_data(recipe.model_copy(update={"data": data}))
        gate_count = max(train.size // 5, 1) if settings.gate_count is None else settings.gate_count
        if not gate_count <= train.size - recipe.batch_size:
            raise UserError(
                f"`search.gate_count` must leave a batch of {recipe.batch_size} of the {train.size} training images. "
                f"Received: gate_count={gate_count}"
            )
        self.tasks = train.tasks
        train, gates = train.split(gate_count, seed=recipe.data.validation_seed)
        compact = self.compact()
        check_precision(compact)
        self._pretrained_sha256 = pretrained_checksum(recipe)
        self._step_costs_file, self._is_claimed = step_costs_file, False
        self._costs_of = {
            "recipe": recipe.without_places(),
            "pretrained_sha256": self._pretrained_sha256,
            "processor": processor_name(),
        }
        kept = read_json(step_costs_file) if continues and step_costs_file.exists() else {}
        self._step_costs = kept["costs"] if kept.get("of") == self._costs_of else {}
        self.train, self.gates = (fitting_images(compact, images, "data") for images in (train, gates))
        if settings.method == "gradient":
            self._check_gates_move()
        for images, part in ((self.train, "train on"), (self.gates, "judge structures by")):
            check_some_truth(images, f"data, the part to {part}")
        self.preprocessing = models.describe(compact).preprocessing
        self.space = SearchSpace.default(
            compact,
            taps=settings.taps,
            width_multiplier=settings.width_multiplier,
            operations=settings.operations,
            relaxation=Relaxation(settings.relaxation, settings.straight_through),
            supervision=settings.supervision,
        )
        self.space.check_budget(settings.links)
        self.augmentation = Augmentation(**recipe.data.augmentation)
        self.shares = None if settings.step_cost is None else self._shares_of_budget()

    def _check_gates_move(self):
        settings = self.recipe.search
        steps = self.train.size // self.recipe.batch_size * self.recipe.epochs
        if not gate_steps(steps, settings):
            first = warm_up_steps(steps, settings)
            raise UserError(
                f"`search.every` must divide the number of a step after the warm-up, {first} to {steps - 1}, or the "
                f"gates never move. Received: every={settings.every}"
            )

    def compact(self):
        """Returns a new compact network, the one that `train` begins with."""
        keras.utils.set_random_seed(self.recipe.seed)
        return build_compact(self.recipe, self.tasks)

    def step_cost(self, structure):
        """Returns the time of a joint step as a multiple of the plain step, measured in turn, once for a structure."""
        key = json.dumps(structure.to_dict(with_provenance=False))

        def measured():
            networks = [self.compact(), attach(self.compact(), structure)]
            plain, joint = seconds_per_step([(network, self.recipe) for network in networks])
            return round(joint / plain, 3)

        return self._remembered(key, measured)

    def is_affordable(self, structure):
        """Returns whether a structure's step costs no more than the budget allows, by measurement."""
        return self.recipe.search.step_cost is None or self.step_cost(structure) <= self.recipe.search.step_cost

    def within_budget(self, links, operations, progress):
        """Returns the structure of the links, made cheaper until its step fits the budget.

        Args:
            links: list of pairs `(node, tap)`; the last goes first, and the first stays, or gives its place to the
                cheapest of all if it takes too much alone.
            operations: `dict` of node to operation; a node that has no link needs none.
            progress: function of a line of text.
        """
        links, operations = list(links), {node.name: node.operations[0] for node in self.space.nodes} | operations
        while not self.is_affordable(structure := self.space.structure(links, operations)):
            swaps = {
                (node.name, other): shares[node.operation] - shares[other]
                for node in structure.nodes  # a node that lost its links costs nothing
                for shares in [self.shares.operations[node.name]]
                for other in shares
                if shares[other] < shares[node.operation]
            }
            if swaps:
                node, operation = max(swaps, key=swaps.get)
                progress(f"Over the budget of step time: {node} takes {operation} for {operations[node]}.")
                operations[node] = operation
            elif len(links) > 1:
                node, tap = links.pop()
                progress(f"Over the budget of step time: {node} goes without {tap}.")
            else:  # the cheapest of all was measured before the search began, and fits
                links = [self._cheapest_link(self.shares)]
                operations |= _cheapest_operations(self.shares)
                progress(f"Over the budget of step time: {links[0][0]} alone, reading {links[0][1]}.")
        return structure

    @functools.cached_property
    def checksums(self):
        """Of the images that weights are trained on, of those that gates and structures are judged by, and of the file
        of pretrained weights, if there is one."""
        checksums = {"train": self.train.manifest()["sha256"], "gates": self.gates.manifest()["sha256"]}
        pretrained = self._pretrained_sha256
        return checksums if pretrained is None else {**checksums, "pretrained": pretrained}

    def keep_step_costs(self):
        """Writes what was measured so far, and from now on whatever is measured; the folder must be claimed."""
        self._is_claimed = True
        write_json(self._step_costs_file, {"of": self._costs_of, "costs": self._step_costs})

    def _remembered(self, key, measured):
        if key not in self._step_costs:
            self._step_costs[key] = measured()
            if self._is_claimed:
                self.keep_step_costs()
        return self._step_costs[key]

    def _shares_of_budget(self):
        """Returns how much of the step time beyond the plain step every link and operation takes.

        Raises:
            UserError: if the cheapest structure takes more.
        """

        def measured():
            parts = seconds_of_parts(attach(self.compact(), self.space), self.recipe.batch_size)
            (plain,) = seconds_per_step([(self.compact(), self.recipe)])
            links = [[*link, seconds] for link, seconds in parts.links.items()]
            return {"plain": plain, "links": links, "operations": parts.operations}

        found = self._remembered("parts", measured)
        budget = found["plain"] * (self.recipe.search.step_cost - 1)
        shares = StepParts(
            {(node, tap): seconds / budget for node, tap, seconds in found["links"]},
            {
                node: {operation: seconds / budget for operation, seconds in of_node.items()}
                for node, of_node in found["operations"].items()
            },
        )
        cost = self.step_cost(self.space.structure([self._cheapest_link(shares)], _cheapest_operations(shares)))
        if cost > self.recipe.search.step_cost:
            raise UserError(
                f"`search.step_cost` must be at least {cost:.2f}, what the cheapest structure of the search space "
                f"costs here. Received: step_cost={self.recipe.search.step_cost}"
            )
        return shares

    def _cheapest_link(self, shares):
        """Returns the link that with its node makes the cheapest structure."""
        operations = _cheapest_operations(shares)

        def share(link):
            return shares.links[link] + shares.operations[link[0]][operations[link[0]]]

        return min((link for link in self.space.links if self.space.can_keep([link])), key=share)


def _cheapest_operations(shares):
    return {node: min(of_node, key=of_node.get) for node, of_node in shares.operations.items()}
