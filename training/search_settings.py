"""Settings of the search for an auxiliary's structure, and the recipe that holds them."""

from typing import Literal

import pydantic

from auxzoo.auxiliary.search_space import SEARCHED_OPERATIONS
from auxzoo.auxiliary.structure import DEFAULT_SUPERVISION

from .recipe import Recipe
from .settings import Settings


class SearchSettings(Settings):
    """How the structure of the auxiliary is searched, and what it may cost."""

    method: Literal["gradient", "halving", "evolution"] = "gradient"
    """`gradient`: gates moved by the unrolled gradient. `halving`: random structures, successively halved. `evolution`:
    the best of a small population is changed a little, again and again. The latter two score by short training."""

    links: int = pydantic.Field(6, ge=1)
    """The most links that the structure has; fewer where the step time asks for it."""

    step_cost: float | None = pydantic.Field(None, gt=1)
    """The most that a joint step may take, measured, as a multiple of the plain step; no bound if not set."""

    taps: list[str] | None = None
    """Names of taps or layers that may be read, from input to output; those of the network if not set."""

    supervision: Literal["hierarchical", "deep", "both"] = DEFAULT_SUPERVISION
    """Whether nodes read each other, and whether every node has a head: as of `Structure`."""

    width_multiplier: float = pydantic.Field(1.0, gt=0)
    """Channels of a node as a multiple of its tap's."""

    operations: list[str] = pydantic.Field(list(SEARCHED_OPERATIONS), min_length=1)
    """What a node may apply."""

    gate_count: int | None = pydantic.Field(None, ge=1)
    """Images that are held out of those that are trained on, to judge gates or structures; a fifth if not set."""

    relaxation: Literal["hard_concrete", "sigmoid"] = "hard_concrete"
    """Of the gates."""

    straight_through: bool = False
    """Whether the network sees gates of 0 and 1 only."""

    warm_up: float = pydantic.Field(0.3, ge=0, lt=1)
    """Fraction of the steps in which the gates are fixed: links open but for `drop`, operations drawn equally often."""

    every: int = pydantic.Field(8, ge=1)
    """The gates move in every so manieth step, by what one step of plain gradient descent at the current rate would
    make of the weights, whatever their optimiser."""

    gate_learning_rate: float = pydantic.Field(0.02, gt=0)
    """Of Adam, which moves the gates."""

    final_temperature: float = pydantic.Field(0.3, gt=0, le=1)
    """The temperature falls exponentially to this multiple of the first one."""

    drop: float = pydantic.Field(0.1, ge=0, lt=1)
    """Probability that a link is left out of a step."""

    budget_weight: float = pydantic.Field(1.0, ge=0)
    """Weight of links and step time beyond the budget, against gate gradients scaled to a mean square of one."""

    zero_one_weight: float = pydantic.Field(1.0, ge=0)
    """Weight of the term that pushes `sigmoid` gates to zero or one."""

    perturbation: float = pydantic.Field(0.1, gt=0, le=1)
    """Steps of training without a link, after which the held-out images tell what the link was worth: of all links
    together, as a share of the search's other steps."""

    candidates: int = pydantic.Field(6, ge=2)
    """Structures in the first round of `halving`, or in the population of `evolution`."""

    rounds: int = pydantic.Field(3, ge=1)
    """Of `halving`: rounds; each keeps the better half and trains it twice as long, the last half as long as the
    recipe. `evolution` trains every structure as long as `halving`'s first round, and as many as fit into all of its
    steps: at 6 candidates and 3 rounds twice those of a training."""


class SearchRecipe(Recipe):
    """A recipe with a `search` group. Its `auxiliary` group is not used."""

    search: SearchSettings = SearchSettings()
    """How the structure is searched."""
