"""What a link is worth: the compact network's validation loss after some steps of training without it."""

import math
import time

import tensorflow as tf

from auxzoo.auxiliary import detach, switches
from auxzoo.files import read_json, write_json

from .callbacks import TrainingDiverged
from .normalization import fused_normalization
from .outputs import tasks_of
from .presence import heads_present

# Of the recipe's highest learning rate: small enough for a network that is nearly trained.
_LEARNING_RATE_SHARE = 0.1


class Perturbation:
    """Takes links out of a trained super-network, one at a time, and measures what the compact network loses.

    At fixed weights the compact network's loss does not depend on the links. So each is left out of some steps of
    training, from the same weights and on the same batches, and the loss on the held-out images is compared with that
    after as many steps with the link. The auxiliary loss weighs what it weighs at its height.

    Args:
        network: super-network.
        operations: `dict` of node to operation, the ones that are chosen.
        case: `SearchCase`.
        objective: `Objective`, its class weights numbers.
        steps_each: `int`, training steps without a link.
        uncertainty: numbers `[tasks]`, as of `Objective.losses`: what the search learned of the tasks' weights.

    Attributes:
        steps: `int`, training steps that were made so far.
    """

    def __init__(self, network, operations, case, objective, steps_each, uncertainty=None):
        recipe, supervision = case.recipe, case.recipe.search.supervision
        self.case, self.operations, self.steps = case, operations, 0
        gates, self.choices = switches(network)
        self.gates = {gate.link: gate for gate in gates}
        logits = {id(gate.logit) for gate in gates} | {id(choice.logits) for choice in self.choices}
        weights = [variable for variable in network.trainable_variables if id(variable) not in logits]
        compact, tasks = detach(network), tasks_of(network)
        learning_rate = _LEARNING_RATE_SHARE * recipe.optimization.learning_rate
        changes = {"schedule": "constant", "learning_rate": learning_rate, "ema_momentum": None}
        optimizer = recipe.optimization.model_copy(update=changes).build(1, weights, recipe.optimization.rates(network))
        optimizer.build(weights)
        objective = objective.model_copy(update={"auxiliary_schedule": "constant"})
        self._network_values = [(variable, variable.numpy()) for variable in network.variables]
        self._optimizer_values = [(variable, variable.numpy()) for variable in optimizer.variables]

        def loss_of(truth, outputs, presence=None):
            return objective.losses(truth, outputs, 1.0, tasks, uncertainty=uncertainty, presence=presence)["loss"]

        @tf.function
        def step(images, truth):
            with (
                fused_normalization(network),
                heads_present(network, supervision) as presence,
                tf.GradientTape() as tape,
            ):
                outputs = network(images, training=True)
                loss = loss_of(truth, outputs, presence())
            optimizer.apply(tape.gradient(loss, weights), weights)

        @tf.function(reduce_retracing=True)
        def compact_loss(images, truth):
            return loss_of(truth, compact(images, training=False))

        self._step, self._compact_loss = step, compact_loss
        stream = case.train.training_batches(case.preprocessing, recipe.batch_size, recipe.seed + 2, case.augmentation)
        self._batches, self._steps_each = stream.take(steps_each), steps_each  # the same ones every time

    def worths(self, links):
        """Returns what each of some links is worth while those alone are open.

        Args:
            links: pairs `(node, tap)`.

        Returns:
            `dict` of link to float: the loss without it less the loss with all of `links`. The network is as it was.

        Raises:
            TrainingDiverged: if a loss is not finite.
        """
        try:
            with_all = self._loss_with(links)
            return {link: self._loss_with([one for one in links if one != link]) - with_all for link in links}
        finally:
            self._restore()

    def _loss_with(self, links):
        """Returns the held-out loss after some steps in which just these links are open."""
        self._restore()
        for link, gate in self.gates.items():
            gate.is_fixed.assign(1.0)
            gate.drop.assign(0.0 if link in links else 1.0)
        for choice in self.choices:
            choice.is_fixed.assign(0.0)
            choice.temperature.assign(1.0)
            chosen = choice.operations.index(self.operations[choice.node])
            choice.logits.assign(1000.0 * tf.one_hot(chosen, len(choice.operations)))
        for images, truth in self._batches:
            self._step(images, truth)
        self.steps += self._steps_each
        case, total = self.case, 0.0
        for images, truth in case.gates.batches(case.preprocessing, case.recipe.batch_size):
            total += float(self._compact_loss(images, truth)) * len(images)
        if not math.isfinite(total):
            raise TrainingDiverged(
                f"The held-out loss became {total} while links were taken out. Lower the learning rate."
            )
        return total / case.gates.size

    def _restore(self):
        for variable, value in (*self._network_values, *self._optimizer_values):
            variable.assign(value)


class KeptRounds:
    """A `Perturbation` whose rounds are kept in a file, so that a search that is cut off measures none twice.

    Args:
        perturbation: `Perturbation`.
        file: `Path`, of the search that this is part of; it need not exist.

    Attributes:
        steps: `int`, training steps of all rounds.
        seconds: `float`, that they took.
    """

    def __init__(self, perturbation, file):
        self._perturbation, self._file = perturbation, file
        self._rounds, self._asked = read_json(file) if file.exists() else [], 0

    @property
    def steps(self):
        """Training steps of the rounds that were asked for."""
        return sum(one["steps"] for one in self._rounds[: self._asked])

    @property
    def seconds(self):
        """Seconds that these took."""
        return sum(one["seconds"] for one in self._rounds[: self._asked])

    def worths(self, links):
        """Returns what `Perturbation.worths` does, once measured for a round."""
        kept = self._rounds[self._asked] if self._asked < len(self._rounds) else None
        names = [list(link) for link in links]
        if kept is None or kept["links"] != names:
            start, before = time.monotonic(), self._perturbation.steps
            worths = self._perturbation.worths(links)
            kept = {
                "links": names,
                "worths": list(worths.values()),
                "steps": self._perturbation.steps - before,
                "seconds": round(time.monotonic() - start, 1),
            }
            self._rounds[self._asked :] = [kept]
            write_json(self._file, self._rounds)
        self._asked += 1
        return dict(zip(links, kept["worths"], strict=True))


def links_to_measure(probabilities, budget, space):
    """Returns the links that the gates favour, half as many again as the budget, at least two more.

    Args:
        probabilities: `dict` of link to the probability that its gate is open.
        budget: `int`, links that stay in the end.
        space: `SearchSpace`; a link of its essential node is among them.
    """
    by_gate = sorted(probabilities, key=probabilities.get, reverse=True)
    links = by_gate[: budget + max(2, budget // 2)]
    if not space.can_keep(links):
        links.append(next(link for link in by_gate if space.can_keep([link])))
    return links


def number_of_trainings(count, budget):
    """Returns how many short trainings `choose_links` makes to come from `count` links to `budget`."""
    return sum(links + 1 for links in range(budget + 1, count + 1)) if count > budget else count + 1


def choose_links(perturbation, links, budget, space, progress=print):
    """Returns the links that stay: those that are worth most.

    The one that is worth least is taken out and the rest measured again, until the budget is met: links that say the
    same hide each other's worth.

    Args:
        perturbation: `Perturbation` or `KeptRounds`.
        links: list of pairs `(node, tap)`, as of `links_to_measure`.
        budget: `int`, links that stay.
        space: `SearchSpace`; the best link of its essential node stays, whatever it is worth.
        progress: function of a line of text.

    Returns:
        `(links, rounds)`: pairs `(node, tap)`, the one that must stay and then the worthiest first, and a list of
        `dict` of link to worth, one a round.
    """
    links, rounds = list(links), []
    while len(links) > budget or not rounds:
        progress(f"Taking out each of {len(links)} links in turn ...")
        worths = perturbation.worths(links)
        rounds.append(worths)
        links.sort(key=worths.get, reverse=True)
        essential = next(link for link in links if space.can_keep([link]))
        links.remove(essential)
        links = [essential, *links][: max(len(links), budget)]  # one less, if there are too many
    return links, rounds
