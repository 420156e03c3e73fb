"""The structure of an auxiliary: which taps feed which node, by which operation, how wide."""

import copy
import dataclasses
import difflib
import json
import math
from pathlib import Path
from typing import NamedTuple

import keras

from auxzoo.auxiliary.operations import OPERATIONS
from auxzoo.checks import is_real, is_whole
from auxzoo.errors import UserError
from auxzoo.files import read_json, write_json

from ..models.costs import measure_costs, tensor_of
from ..models.description import checked_taps, is_described
from ..models.names import branch_tap

# Of the JSON file; another number means a file that this version cannot read.
FORMAT = 1


class Supervision(NamedTuple):
    """Whether a node reads the one before, and whether every node has a head of its own, not the last alone."""

    is_chained: bool
    has_head_each: bool


SUPERVISIONS = {
    "hierarchical": Supervision(is_chained=True, has_head_each=False),
    "deep": Supervision(is_chained=False, has_head_each=True),
    "both": Supervision(is_chained=True, has_head_each=True),
}
DEFAULT_SUPERVISION = "deep"  # by training/studies
TASK_SHARING = ("shared", "separate")
# A 3x3 convolution in every node, as long as all of the auxiliary's stays within this share of the compact
# network's own multiplications; beyond it the costliest nodes take a 1x1 convolution instead.
DEFAULT_COST_SHARE = 0.35


@dataclasses.dataclass(frozen=True)
class Node:
    """One node of the auxiliary.

    Attributes:
        name: unique in the structure; letters, digits, `_`.
        links: names of the taps it reads, besides the previous node.
        operation: one of `OPERATIONS`.
        channels: its width, 1 or more.
        resolution: name of the tap whose rows and columns it has: what it reads of more is averaged, of fewer upsampled
            bilinearly, as in a decoder; the lowest of all that it reads if `None`.
    """

    name: str
    links: tuple[str, ...]
    operation: str
    channels: int
    resolution: str | None = None

    def __post_init__(self):
        if not (isinstance(self.name, str) and self.name.isidentifier()):
            raise UserError(f"`name` of a node must be letters, digits and `_`. Received: name={self.name!r}")
        if not (isinstance(self.operation, str) and self.operation in OPERATIONS):
            raise UserError(
                f"`operation` of node {self.name!r} must be one of {', '.join(OPERATIONS)}. "
                f"Received: operation={self.operation!r}"
            )
        if not (is_whole(self.channels) and self.channels >= 1):
            raise UserError(f"`channels` of node {self.name!r} must be 1 or more. Received: channels={self.channels!r}")
        if not isinstance(self.resolution, str | None):
            raise UserError(
                f"`resolution` of node {self.name!r} must be the name of a tap or None. "
                f"Received: resolution={self.resolution!r}"
            )
        if not isinstance(self.links, (list, tuple)) or not all(isinstance(link, str) for link in self.links):
            raise UserError(
                f"`links` of node {self.name!r} must be a list of names of taps. Received: links={self.links!r}"
            )
        object.__setattr__(self, "links", tuple(self.links))
        object.__setattr__(self, "channels", int(self.channels))
        if len(set(self.links)) != len(self.links):
            raise UserError(f"`links` of node {self.name!r} must name a tap once. Received: links={self.links!r}")

    def to_dict(self):
        """Returns the node as plain JSON types."""
        value = {**dataclasses.asdict(self), "links": list(self.links)}
        return {key: item for key, item in value.items() if item is not None}


@dataclasses.dataclass(frozen=True)
class Structure:
    """The structure of an auxiliary (arXiv:1909.02214; nodes as in arXiv:1903.11236, equation 3).

    `supervision` says what a node reads besides its links, and where the heads are. `"hierarchical"`: the node before,
    so that the auxiliary runs downward beside the compact network and ends in one head. `"deep"`, that of
    `Structure.default`: nothing, and every node has a head (deeply supervised networks, arXiv:1409.5185). `"both"`: the
    node before, and every node has a head.

    Attributes:
        taps: pairs `(tap, layer name)` of every tap that a link may name, from input to output.
        nodes: the nodes, first to last; the first has a link.
        provenance: how the structure came to be (search space, seed, data, versions, cost), an object of plain
            JSON types, or `None`. Two structures are equal whatever theirs.
        supervision: `"hierarchical"`, `"deep"` or `"both"`.
        tasks: over a network with several tasks: `"shared"` nodes that have a head for each, or a `"separate"`
            auxiliary for each. Over one with a single task both are the same.

    Example:
        >>> structure = Structure.default(auxzoo.models.ResNet18((32, 32, 3), 0.25, "small", num_classes=10))
        >>> structure.nodes[0]
        Node(name='stage1', links=('stage1',), operation='convolution_3x3', channels=16, resolution=None)
        >>> Structure.from_json(structure.to_json()) == structure
        True
    """

    taps: tuple[tuple[str, str], ...]
    nodes: tuple[Node, ...]
    provenance: dict | None = dataclasses.field(default=None, compare=False)
    supervision: str = "hierarchical"
    tasks: str = "shared"

    def __post_init__(self):
        object.__setattr__(self, "taps", checked_taps(self.taps))
        for tap, _ in self.taps:
            if "/" in tap:  # it becomes part of layers' names, where Keras refuses it
                raise UserError(f"`taps` must have names without `/`. Received: {tap!r}")
        object.__setattr__(self, "nodes", tuple(self.nodes))
        object.__setattr__(self, "provenance", _checked_provenance(self.provenance))
        if not isinstance(self.supervision, str) or self.supervision not in SUPERVISIONS:
            raise UserError(
                f"`supervision` must be one of {', '.join(SUPERVISIONS)}. Received: supervision={self.supervision!r}"
            )
        if not isinstance(self.tasks, str) or self.tasks not in TASK_SHARING:
            raise UserError(f"`tasks` must be one of {', '.join(TASK_SHARING)}. Received: tasks={self.tasks!r}")
        known = dict(self.taps)
        if not self.nodes:
            raise UserError("`nodes` must hold at least one node. Received: nodes=()")
        for node in self.nodes[:1] if self.is_chained else self.nodes:
            if not node.links:
                raise UserError(f"`links` of node {node.name!r}, which reads no other, must name a tap. Received: ()")
        names = [node.name for node in self.nodes]
        if len(set(names)) != len(names):
            raise UserError(f"`nodes` must have a name each. Received: {names}")
        for node in self.nodes:
            if node.resolution not in (None, *known):
                raise UserError(
                    f"`resolution` of node {node.name!r} must be among the taps {', '.join(known)}. "
                    f"Received: {node.resolution!r}"
                )
            for link in node.links:
                if link not in known:
                    raise UserError(
                        f"`links` of node {node.name!r} must be among the taps {', '.join(known)}. Received: {link!r}"
                    )

    @property
    def is_chained(self):
        """Whether a node reads the one before."""
        return SUPERVISIONS[self.supervision].is_chained

    @property
    def has_head_each(self):
        """Whether every node has a head of its own, not the last alone."""
        return SUPERVISIONS[self.supervision].has_head_each

    @classmethod
    def default(cls, model, taps=None, width_multiplier=1.0, supervision=DEFAULT_SUPERVISION, tasks="shared"):
        """Returns the structure to begin with: a node for every stage, linked at the stage's end.

        Each node is at least as wide as its tap. `training/studies` tells how the default came to be.

        Args:
            model: functional Keras model with static shapes.
            taps: names of taps or layers, from input to output, a node for each; if `None` those of the model's
                description, of which the first, the stem, has no node but is read by the first where nodes read each
                other, and a network with several tasks leaves out the ends of their own branches.
            width_multiplier: channels of a node as a multiple of its tap's, 1 or more.
            supervision: as of the structure.
            tasks: as of the structure.

        Raises:
            UserError: if a tap is unknown, or none is given for a model without a description; or a value is not
                allowed.
        """
        if not (is_real(width_multiplier) and 1 <= width_multiplier < math.inf):
            raise UserError(f"`width_multiplier` must be 1 or more. Received: width_multiplier={width_multiplier!r}")
        pairs = tap_pairs(model, taps)
        shapes = {tap: tap_tensor(model, tap, layer).shape for tap, layer in pairs}
        has_stem = taps is None and len(pairs) > 1
        stages = [tap for tap, _ in pairs][int(has_stem) :]
        chained = [name for name, kind in SUPERVISIONS.items() if kind.is_chained]
        reads_stem = has_stem and supervision in chained
        nodes = [
            Node(
                name=tap if tap.isidentifier() else f"node{index}",
                links=(pairs[0][0], tap) if index == 1 and reads_stem else (tap,),
                operation="convolution_3x3",
                channels=math.ceil(shapes[tap][-1] * width_multiplier),
            )
            for index, tap in enumerate(stages, start=1)
        ]
        # Multiplications of a node's 3x3 convolution; adapters cost the same whatever the operation.
        costs = [
            9 * node.channels**2 * shapes[tap][1] * shapes[tap][2] for node, tap in zip(nodes, stages, strict=True)
        ]
        auxiliaries = len(model.output) if tasks == "separate" and isinstance(model.output, dict) else 1
        budget = DEFAULT_COST_SHARE * measure_costs(model).macs / auxiliaries
        for index in sorted(range(len(nodes)), key=lambda index: -costs[index]):
            if sum(costs) <= budget:
                break
            nodes[index] = dataclasses.replace(nodes[index], operation="convolution_1x1")
            costs[index] //= 9
        provenance = {"made_by": "Structure.default", "network": model.name, "width_multiplier": width_multiplier}
        return cls(pairs, tuple(nodes), provenance, supervision, tasks)

    def to_dict(self, with_provenance=True):
        """Returns the structure as plain JSON types, with or without how it came to be."""
        value = {
            "format": FORMAT,
            "taps": dict(self.taps),
            "nodes": [node.to_dict() for node in self.nodes],
        }
        if self.supervision != "hierarchical":
            value["supervision"] = self.supervision
        if self.tasks != "shared":
            value["tasks"] = self.tasks
        if with_provenance and self.provenance is not None:
            value["provenance"] = copy.deepcopy(self.provenance)
        return value

    @classmethod
    def from_dict(cls, value):
        """Returns the structure that `to_dict` wrote; strict about its keys.

        Raises:
            UserError: if the format is another, a key is unknown or missing, or a value is not allowed.
        """
        keys = set(value) if isinstance(value, dict) else set()
        if "format" in keys and (type(value["format"]) is not int or value["format"] != FORMAT):
            raise UserError(f"`format` of a structure must be {FORMAT}. Received: format={value['format']!r}")
        optional = ("supervision", "tasks", "provenance")
        if keys - set(optional) != {"format", "taps", "nodes"}:
            received = sorted(map(str, keys)) if isinstance(value, dict) else type(value).__name__
            raise UserError(
                f"A structure must have the keys format, taps and nodes, and may have {', '.join(optional)}. "
                f"Received: {received}"
            )
        if not isinstance(value["taps"], dict) or not isinstance(value["nodes"], list):
            received = f"{type(value['taps']).__name__} and {type(value['nodes']).__name__}"
            raise UserError(f"`taps` of a structure must be an object and `nodes` a list. Received: {received}")
        keys = {field.name for field in dataclasses.fields(Node)}
        nodes = []
        for node in value["nodes"]:
            if not isinstance(node, dict) or set(node) | {"resolution"} != keys:
                received = sorted(map(str, node)) if isinstance(node, dict) else node
                raise UserError(
                    f"A node must have the keys {', '.join(sorted(keys - {'resolution'}))}, and may have resolution. "
                    f"Received: {received}"
                )
            nodes.append(Node(**node))
        given = {key: value[key] for key in optional if key in value}
        return cls(taps=tuple(value["taps"].items()), nodes=tuple(nodes), **given)

    def to_json(self):
        """Returns the structure as JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text):
        """Returns the structure in JSON text.

        Raises:
            UserError: if it is not JSON or not a structure.
        """
        try:
            value = json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise UserError(f"A structure must be JSON: {error}") from None
        return cls.from_dict(value)

    def save(self, path):
        """Writes the structure as a JSON file, aside and renamed."""
        write_json(path, self.to_dict())

    @classmethod
    def read(cls, path):
        """Returns the structure in a JSON file.

        Raises:
            UserError: if the file is missing, not JSON or not a structure; the message names it.
        """
        try:
            return cls.from_dict(read_json(Path(path)))
        except UserError as error:
            raise UserError(f"`{path}`: {error}") from None


def tap_pairs(model, taps=None):
    """Returns pairs `(tap, layer name)`: those of the model's description, or the given layer names.

    If none are given, and there are several tasks, the ends of the tasks' own branches are left out: a node there would
    supervise the branch of one task for all of them.

    Raises:
        UserError: if `taps` is missing for a model without a description, or names an unknown tap.
    """
    known = dict(model.description.taps) if is_described(model) else {}
    if taps is None:
        if not known:
            raise UserError(
                f"`taps` must name layers of {getattr(model, 'name', model)!r}, which carries no description. "
                "Received: taps=None"
            )
        tasks = model.description.tasks
        own = {branch_tap(task.name) for task in tasks} if len(tasks) > 1 else ()
        return tuple((tap, layer) for tap, layer in known.items() if tap not in own)
    if isinstance(taps, str) or not all(isinstance(tap, str) for tap in taps):
        raise UserError(f"`taps` must be a list of names. Received: taps={taps!r}")
    taps = tuple(taps)
    if not taps:
        raise UserError("`taps` must name at least one layer. Received: taps=()")
    rule = f"`taps` must be layers or taps ({', '.join(known)})" if known else "`taps` must be layers"
    for tap in taps:
        if tap not in known:
            _check_layer(model, tap, rule)
    return tuple((tap, known.get(tap, tap)) for tap in taps)


def tap_tensor(model, tap, layer_name):
    """Returns the symbolic tensor of a tap, shape `[batch, rows, columns, channels]`.

    Raises:
        UserError: if the layer is unknown, or its output is not one feature map of a fixed size.
    """
    _check_layer(model, layer_name, f"Tap {tap!r} must be a layer")
    tensor = tensor_of(model, layer_name)
    shape = getattr(tensor, "shape", ())
    if len(shape) != 4 or None in shape[1:]:
        raise UserError(
            f"Tap {tap!r} must be a feature map [batch, rows, columns, channels] of a fixed size. "
            f"Received: layer {layer_name!r} with output shape {shape}"
        )
    return tensor


def _check_layer(model, name, rule):
    """Raises a `UserError` if a model has no layer of a name; `rule` is what it says first."""
    names = [layer.name for layer in model.layers]
    if name in names:
        return
    inside = [layer.name for layer in model.layers if isinstance(layer, keras.Model) and _has_layer(layer, name)]
    hint = ""
    if inside:
        hint = f", a layer inside of {inside[0]!r}; build on the output of that network in place of calling it"
    elif similar := difflib.get_close_matches(name, names):
        hint = f"; called alike: {', '.join(map(repr, similar))}"
    raise UserError(f"{rule} of {model.name!r}. Received: {name!r}{hint}")


def _has_layer(model, name):
    """Returns whether a model, or one inside of it, has a layer of a name."""
    return any(
        layer.name == name or (isinstance(layer, keras.Model) and _has_layer(layer, name)) for layer in model.layers
    )


def _checked_provenance(provenance):
    """Returns a copy of the provenance as it will come back from a file."""
    if provenance is None:
        return None
    try:
        if not isinstance(provenance, dict):
            raise TypeError(type(provenance).__name__)
        return json.loads(json.dumps(provenance, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"`provenance` must be None or an object of plain JSON types. Received: {error}") from None
