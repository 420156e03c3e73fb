"""Searching by trying: structures are scored by how good the compact network is after short training with them."""

import math
import random
import shutil

from auxzoo.auxiliary import attach
from auxzoo.errors import UserError
from auxzoo.files import read_json, write_json
from auxzoo.metric_names import as_text

from .callbacks import TrainingDiverged
from .loop import RUN_STATE_FILE, fit
from .outputs import main_metric
from .run_folder import CANDIDATES_FOLDER
from .run_state import Progress, read_progress


def halving_rounds(settings, epochs):
    """Returns `(structures, epochs of each)` of every round of `search_by_halving`.

    Args:
        settings: `SearchSettings`.
        epochs: of the recipe.
    """
    counts = [max(1, settings.candidates // 2**place) for place in range(settings.rounds)]
    return [(count, max(1, epochs // 2 ** (settings.rounds - place))) for place, count in enumerate(counts)]


def search_by_halving(case, folder, progress):
    """Random structures; the better half of every round is trained twice as long in the next (arXiv:1502.07943).

    The last round trains half as long as the recipe.

    Args:
        case: `SearchCase`.
        folder: `Path` of the search; records of candidates are found there again.
        progress: function of a line of text.

    Returns:
        `(structure, what was found, what it cost)`.
    """
    scorer = _Scorer(case, folder, progress)
    settings = case.recipe.search
    generator = random.Random(case.recipe.seed)
    structures = [_affordable(case, generator, progress) for _ in range(settings.candidates)]
    for place, (count, epochs) in enumerate(halving_rounds(settings, case.recipe.epochs), 1):
        structures = structures[:count]
        progress(f"Round {place} of {settings.rounds}: {count} structures, epochs of each: {epochs}")
        scores = [scorer.score(structure, epochs) for structure in structures]
        if place > 1 and max(scores) == -math.inf:
            progress("None of them converged: the best of the round before is taken.")
            break
        _check_one_converged(scores)
        ranked = sorted(range(len(structures)), key=lambda index: -scores[index])
        structures = [structures[index] for index in ranked]
    return structures[0], scorer.found, scorer.cost


def search_by_evolution(case, folder, progress):
    """The best of three members of a population gets a child with one change; the oldest dies (arXiv:1802.01548).

    The arguments and the result are those of `search_by_halving`; every structure is trained as long as in its first
    round, and as many are as fit into all steps of it.
    """
    scorer = _Scorer(case, folder, progress)
    settings = case.recipe.search
    generator = random.Random(case.recipe.seed)
    rounds = halving_rounds(settings, case.recipe.epochs)
    epochs = rounds[0][1]
    population = []
    for _ in range(settings.candidates):
        structure = _affordable(case, generator, progress)
        population.append((scorer.score(structure, epochs), structure))
    _check_one_converged([score for score, _ in population])
    everyone = list(population)
    children = sum(count * each for count, each in rounds) // epochs - settings.candidates
    for child in range(children):
        progress(f"Child {child + 1} of {children}")
        parents = generator.sample(population, min(3, len(population)))
        _, parent = max(parents, key=lambda pair: pair[0])
        structure = _affordable(case, generator, progress, parent)
        population.append((scorer.score(structure, epochs), structure))
        everyone.append(population[-1])
        population.pop(0)
    _, best = max(everyone, key=lambda pair: pair[0])
    return best, scorer.found, scorer.cost


def _check_one_converged(scores):
    if max(scores) == -math.inf:
        raise TrainingDiverged(
            f"Training became NaN or infinite with each of {len(scores)} structures. Lower the learning rate."
        )


def mutate(space, structure, generator):
    """Returns a structure with one link moved, or one node's operation changed; the same if there is no other.

    Args:
        space: `SearchSpace`.
        structure: `Structure` of the space.
        generator: `random.Random`.
    """
    links = [(node.name, tap) for node in structure.nodes for tap in node.links]
    # A node that the structure lacks has an operation all the same, in case that it gets a link.
    operations = {node.name: node.operations[0] for node in space.nodes}
    operations |= {node.name: node.operation for node in structure.nodes}
    closed = [link for link in space.links if link not in links]
    moves = [
        (leaving, coming)
        for leaving in links
        for coming in closed
        if space.can_keep([coming, *(link for link in links if link != leaving)])
    ]
    present = {node.name for node in structure.nodes}
    nodes = [node for node in space.nodes if node.name in present and len(node.operations) > 1]
    if moves and (not nodes or generator.random() < 0.5):
        leaving, coming = generator.choice(moves)
        links = [coming, *(link for link in links if link != leaving)]
    elif nodes:
        node = generator.choice(nodes)
        operations[node.name] = generator.choice([one for one in node.operations if one != operations[node.name]])
    return space.structure(links, operations)


def _affordable(case, generator, progress, parent=None):
    """Returns a random structure, or a changed parent, made cheaper until it meets the budget of step time."""
    if parent is None:
        structure = case.space.random(case.recipe.search.links, seed=generator.randrange(2**31))
    else:
        structure = mutate(case.space, parent, generator)
    links = [(node.name, tap) for node in structure.nodes for tap in node.links]
    generator.shuffle(links)
    # The first stays, so it must be one that can.
    links.sort(key=lambda link: not case.space.can_keep([link]))
    operations = {node.name: node.operation for node in structure.nodes}
    return case.within_budget(links, operations, progress)


def described(record):
    """Returns what a candidate's record says of its worth, as text."""
    if record["diverged"]:
        return "diverged"
    return f"{as_text(record['metric'], record['value'])} {record['metric']}"


class _Scorer:
    """Trains with structures and keeps the scores in the folder, so that a search that was killed finds them again."""

    def __init__(self, case, folder, progress):
        self.case, self.progress = case, progress
        self.folder = folder / CANDIDATES_FOLDER
        self.metric, self.parts, self.higher_is_better = main_metric(case.train.tasks)
        self.records = []

    def score(self, structure, epochs):
        """Returns what the compact network is worth on the held-out images after so many epochs with the structure.

        Higher is better: the metric of `main_metric`, or less than nothing by it; minus infinity if it diverged.
        """
        plain = structure.to_dict(with_provenance=False)
        for record in self.records:
            if (record["structure"], record["epochs"]) == (plain, epochs):
                return self._rank(record)  # the same training again would give the same
        number = len(self.records) + 1
        file, work = self.folder / f"{number:03d}.json", self.folder / f"{number:03d}"
        record = read_json(file) if file.exists() else None
        candidate = {"structure": plain, "epochs": epochs, "images": self.case.checksums}
        if record is None:
            record = self._train(structure, epochs, work) | candidate
            write_json(file, record)
        elif any(record.get(key) != value for key, value in candidate.items()):
            raise UserError(
                f"`{file}` is the record of another candidate, or of other images; delete the folder of the search."
            )
        shutil.rmtree(work, ignore_errors=True)
        self.records.append(record)
        self.progress(f"  candidate {number}: {described(record)} after epoch {epochs}")
        return self._rank(record)

    def _rank(self, record):
        if record["diverged"]:
            return -math.inf
        return record["value"] if self.higher_is_better else -record["value"]

    def _train(self, structure, epochs, work):
        """Trains as the recipe says, but for the epochs; a training that was killed goes on."""
        case, recipe = self.case, self.case.recipe
        diverged = False
        try:
            history = fit(
                attach(case.compact(), structure),
                case.train,
                case.gates,
                **recipe.fit_arguments(),
                epochs=epochs,
                validation_every=epochs,  # only the end is looked at
                folder=work,
                compilation=case.compilation,
                verbose=0,
            )
        except TrainingDiverged:
            diverged = True  # a bad candidate, and no reason to lose the others
        state = work / RUN_STATE_FILE
        done = read_progress(state) if state.exists() else Progress({})  # diverged in its first epoch
        return {
            "metric": self.metric,
            "value": None if diverged else sum(history[f"val_{part}"][-1] for part in self.parts),
            "diverged": diverged,
            "steps": case.train.size // recipe.batch_size * done.epoch,
            "seconds": round(done.seconds, 1),
        }

    @property
    def found(self):
        """Every candidate with its score."""
        return {"candidates": self.records}

    @property
    def cost(self):
        """Steps and seconds of all candidates."""
        return {
            "steps": sum(record["steps"] for record in self.records),
            "seconds": round(sum(record["seconds"] for record in self.records), 1),
        }
