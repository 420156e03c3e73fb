"""The auxiliary: its structure, and attaching it to a compact network for training only."""

from auxzoo.auxiliary.graph import attach, detach
from auxzoo.auxiliary.operations import OPERATIONS
from auxzoo.auxiliary.structure import Node, Structure

__all__ = ["OPERATIONS", "Node", "Structure", "attach", "detach"]
