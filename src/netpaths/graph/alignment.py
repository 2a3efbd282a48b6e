"""Two graphs of the same shapes with other weights: their paths may be compared, node by node."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from netpaths.errors import ModelMismatch
from netpaths.path import Path

if TYPE_CHECKING:
    from netpaths.graph.graph import Graph
    from netpaths.graph.node import Node


@dataclass(frozen=True, eq=False)
class Alignment:
    """A network and what became of it, such as by training, pruning or quantisation."""

    first: Graph
    second: Graph

    def adopt(self, path: Path) -> Path:
        """A path of the second network as one of the first, to compare or unite with others of the first.

        Raises ModelMismatch for a path of any other network.
        """
        if path.fingerprint not in (self.first.fingerprint, self.second.fingerprint):
            raise ModelMismatch(
                f"the path was made for model {path.fingerprint[:12]}, aligned are {self.first.fingerprint[:12]} and "
                f"{self.second.fingerprint[:12]}"
            )
        return replace(path, fingerprint=self.first.fingerprint)


def align(first: Graph, second: Graph) -> Alignment:
    """Two graphs whose nodes have the same names, operations, wiring and shapes; weights may differ.

    Raises ModelMismatch naming the first node that differs.
    """
    for own, other in zip_longest(first.nodes.values(), second.nodes.values()):
        if own is None or other is None:
            here = own or other
            raise ModelMismatch(f"only one of the networks has the node {here.name!r}")
        difference = _difference(own, other)
        if difference:
            raise ModelMismatch(f"the networks differ at {own.name!r}: {difference}")
    return Alignment(first, second)


def _difference(own: Node, other: Node) -> str:
    """What tells two nodes apart, "" for nothing."""
    for what in ("name", "operation", "inputs", "shape"):
        pair = getattr(own, what), getattr(other, what)
        if pair[0] != pair[1]:
            return f"its {what} is {pair[0]!r} in one and {pair[1]!r} in the other"
    shapes = [tuple(node.weight.shape) if node.layer else () for node in (own, other)]
    return "" if shapes[0] == shapes[1] else f"its weight is {shapes[0]} in one and {shapes[1]} in the other"
