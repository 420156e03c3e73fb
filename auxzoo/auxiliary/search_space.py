"""The search space: all structures that a search may choose from."""

import dataclasses
import math
import random

from auxzoo.auxiliary.gates import Relaxation
from auxzoo.auxiliary.structure import DEFAULT_SUPERVISION, SUPERVISIONS, Node, Structure, tap_pairs, tap_tensor
from auxzoo.checks import is_real
from auxzoo.errors import UserError

SEARCHED_OPERATIONS = ("convolution_1x1", "convolution_3x3", "separable_3x3", "separable_5x5", "identity")


@dataclasses.dataclass(frozen=True)
class NodeSpace:
    """What may become of one node.

    Attributes:
        name: unique in the space; letters, digits, `_`.
        links: names of the taps that it may read.
        operations: names of the operations that it may apply.
        channels: its width.
        resolution: name of the tap whose rows and columns it has, whichever links it keeps.
    """

    name: str
    links: tuple[str, ...]
    operations: tuple[str, ...]
    channels: int
    resolution: str

    def __post_init__(self):
        for operation in self.operations or ("",):
            # A node with each operation is checked as one of a structure is.
            node = Node(self.name, self.links, operation, self.channels, self.resolution)
        object.__setattr__(self, "links", node.links)
        object.__setattr__(self, "channels", node.channels)
        object.__setattr__(self, "operations", tuple(self.operations))
        if self.resolution is None:  # else a structure of fewer links could have another than the super-network
            raise UserError(f"`resolution` of node {self.name!r} must be the name of a tap. Received: None")
        if not self.links or len(set(self.operations)) != len(self.operations):
            raise UserError(
                f"Node {self.name!r} of a search space must have links, and every operation once. "
                f"Received: links={self.links}, operations={self.operations}"
            )


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """Candidate links and operations of every node; `attach` makes it a super-network with a gate on each.

    Attributes:
        taps: pairs `(tap, layer name)`, as of `Structure`.
        nodes: tuple of `NodeSpace`.
        relaxation: `Relaxation` of the gates.
        supervision: as of `Structure`. Where nodes do not read each other (`"deep"`), one without links is left out.

    Example:
        >>> network = auxzoo.models.ResNet18((32, 32, 3), 0.25, "small", num_classes=10)
        >>> space = SearchSpace.default(network)
        >>> space.number_of_links
        14
        >>> [len(node.links) for node in space.random(number_of_links=6, seed=0).nodes]
        [1, 1, 2, 2]
    """

    taps: tuple[tuple[str, str], ...]
    nodes: tuple[NodeSpace, ...]
    relaxation: Relaxation = dataclasses.field(default_factory=Relaxation)
    supervision: str = DEFAULT_SUPERVISION
    tasks = "shared"  # no field: a gate belongs to one node, whose links serve every task

    def __post_init__(self):
        if not isinstance(self.relaxation, Relaxation):
            raise UserError(f"`relaxation` must be a Relaxation. Received: relaxation={self.relaxation!r}")
        object.__setattr__(self, "nodes", tuple(self.nodes))
        # Checked as the structure in which every link is open.
        object.__setattr__(self, "taps", self.structure(self.links).taps)

    @classmethod
    def default(
        cls,
        model,
        taps=None,
        width_multiplier=1.0,
        operations=SEARCHED_OPERATIONS,
        relaxation=None,
        supervision=DEFAULT_SUPERVISION,
    ):
        """Returns a node for every tap but the first (a stage), which may read its own tap and all before.

        Args:
            model: functional Keras model with static shapes.
            taps: as of `Structure.default`.
            width_multiplier: channels of a node as a multiple of its tap's, above 0.
            operations: what every node may apply, among `OPERATIONS`.
            relaxation: `Relaxation` of the gates; its default if `None`.
            supervision: as of `Structure`.

        Raises:
            UserError: if a tap does not exist or a value is not allowed.
        """
        if not (is_real(width_multiplier) and 0 < width_multiplier < math.inf):
            raise UserError(f"`width_multiplier` must be above 0. Received: width_multiplier={width_multiplier!r}")
        pairs = tap_pairs(model, taps)
        names = [tap for tap, _ in pairs]
        nodes = []
        for place, (tap, layer) in enumerate(pairs):
            channels = math.ceil(tap_tensor(model, tap, layer).shape[-1] * width_multiplier)
            if place or len(pairs) == 1:
                name = tap if tap.isidentifier() else f"node{place}"
                nodes.append(NodeSpace(name, tuple(names[: place + 1]), tuple(operations), channels, tap))
        return cls(pairs, tuple(nodes), relaxation or Relaxation(), supervision)

    @property
    def links(self):
        """Every candidate link, a tuple of pairs `(node, tap)`."""
        return tuple((node.name, tap) for node in self.nodes for tap in node.links)

    @property
    def number_of_links(self):
        """How many links there may be."""
        return len(self.links)

    @property
    def is_chained(self):
        """As of `Structure`."""
        return SUPERVISIONS[self.supervision].is_chained

    @property
    def has_head_each(self):
        """As of `Structure`."""
        return SUPERVISIONS[self.supervision].has_head_each

    @property
    def essential_node(self):
        """Name of the node that must keep a link, since it reads nothing else; `None` where any node may go."""
        return self.nodes[0].name if self.is_chained else None

    def can_keep(self, links):
        """Returns whether a structure of the space may have just these links, pairs `(node, tap)`."""
        return any(self.essential_node in (None, node) for node, _ in links)

    def structure(self, links, operations=None, provenance=None):
        """Returns the structure with some of the links.

        Args:
            links: collection of pairs `(node, tap)`, among `links`; the essential node must have one.
            operations: `dict` of every node to one of its candidates; the first candidate of each if `None`.
            provenance: as of `Structure`.
        """
        for node in self.nodes if operations is not None else ():
            if operations.get(node.name) not in node.operations:
                raise UserError(
                    f"`operations` of node {node.name!r} must be one of {', '.join(node.operations)}. "
                    f"Received: {operations.get(node.name)!r}"
                )
        links = set(links)
        unknown = links - set(self.links)
        if unknown:
            raise UserError(f"`links` must be among those of the search space. Received: {sorted(unknown)}")
        nodes = [
            Node(
                node.name,
                tuple(tap for tap in node.links if (node.name, tap) in links),
                node.operations[0] if operations is None else operations[node.name],
                node.channels,
                node.resolution,
            )
            for node in self.nodes
            if any((node.name, tap) in links for tap in node.links) or self.is_chained
        ]
        return Structure(self.taps, tuple(nodes), provenance, self.supervision)

    def random(self, number_of_links, seed):
        """Returns a structure of that many links and any operations, drawn by `random.Random(seed)`.

        Raises:
            UserError: if the space has fewer links, or `number_of_links` is below 1.
        """
        self.check_budget(number_of_links)
        generator = random.Random(seed)
        links = sorted(self.links)
        chosen = {generator.choice([link for link in links if self.can_keep([link])])}
        chosen.update(generator.sample([link for link in links if link not in chosen], number_of_links - 1))
        operations = {node.name: generator.choice(node.operations) for node in self.nodes}
        provenance = {"made_by": "SearchSpace.random", "seed": seed, "space": self.to_dict()}
        return self.structure(chosen, operations, provenance)

    def check_budget(self, number_of_links):
        """Raises a `UserError` unless a structure of the space can have that many links."""
        if not 1 <= number_of_links <= self.number_of_links:
            raise UserError(
                f"`links` must be 1 to {self.number_of_links}, the candidates of the search space. "
                f"Received: links={number_of_links}"
            )

    def to_dict(self):
        """Returns the space as plain JSON types, for records."""
        return {
            "taps": dict(self.taps),
            "nodes": [dataclasses.asdict(node) for node in self.nodes],
            "relaxation": dataclasses.asdict(self.relaxation),
            "supervision": self.supervision,
        }
