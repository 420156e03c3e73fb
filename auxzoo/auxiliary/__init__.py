"""The auxiliary: its structure, the space of structures, and attaching it to a compact network for training only."""

from auxzoo.auxiliary.gates import LinkGate, OperationChoice, Relaxation, switches
from auxzoo.auxiliary.graph import attach, detach
from auxzoo.auxiliary.operations import OPERATIONS
from auxzoo.auxiliary.search_space import NodeSpace, SearchSpace
from auxzoo.auxiliary.structure import Node, Structure

__all__ = [
    "OPERATIONS",
    "LinkGate",
    "Node",
    "NodeSpace",
    "OperationChoice",
    "Relaxation",
    "SearchSpace",
    "Structure",
    "attach",
    "detach",
    "switches",
]
