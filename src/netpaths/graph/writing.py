"""Operations that write into a tensor, written as operations that return a new one.

Functionalising a whole exported network takes several times as long as exporting it. Two cases are simple, and nearly
all there are: a fresh value that nothing else looks at is written into, and a mask is filled that depends on no image.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import fx

from netpaths.graph.spelling import FILLED, IDENTITIES

aten = torch.ops.aten


COPIES = (aten.clone.default, aten.lift_fresh_copy.default)


def mutates(node: fx.Node) -> bool:
    """Whether an operation writes into one of its arguments."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def static_fill(node: fx.Node) -> bool:
    """Whether a node is a tensor of known size filled with one known number, whatever it reads."""
    value = node.meta.get("val")
    if node.target not in FILLED or not isinstance(value, torch.Tensor):
        return False
    return FILLED[node.target](node) is not None and all(isinstance(size, int) for size in value.shape)


def without_writes(graph: fx.Graph, inputs: Collection[str]) -> bool:
    """Rewrite simple writes in ``graph``; whether none is left but those into constants made on the way.

    inputs: names of the placeholders that hold images.
    """
    order = {node: place for place, node in enumerate(graph.nodes)}
    made = _constants(graph, inputs)
    for node in [own for own in graph.nodes if mutates(own) and own not in made]:
        written: Any = node.args[0]
        if _functional(node) is None or not _simple(node, order):
            return False
        later = [user for user in written.users if order[user] > order[node]]
        for user in later:
            user.replace_input_with(written, node)
        node.target = _functional(node)
    return True


def _constants(graph: fx.Graph, inputs: Collection[str]) -> set[fx.Node]:
    """What depends on the network's own tensors alone; of writes, those into tensors that were made on the way."""
    found = {node for node in graph.nodes if node.op == "placeholder" and node.name not in inputs}
    fresh: set[fx.Node] = set()
    for node in graph.nodes:
        sources = node.all_input_nodes
        filled = not mutates(node) and static_fill(node)
        known = all(source in found for source in sources) and (not mutates(node) or sources[0] in fresh)
        if node.op != "call_function" or not (filled or known):
            continue
        found.add(node)
        if filled or not sources or not _shares(node) or sources[0] in fresh:
            fresh.add(node)
    return found


def _functional(node: fx.Node) -> Any:
    """The operation that returns what ``node`` writes; None where there is none of that name."""
    packet, overload = str(node.target.overloadpacket.__name__), node.target._overloadname  # type: ignore[union-attr]
    found = getattr(getattr(aten, packet.removesuffix("_"), None), overload, None)
    return found if packet.endswith("_") and not packet.endswith("__") else None


def _simple(node: fx.Node, order: dict[fx.Node, int]) -> bool:
    """Whether the node writes the whole of a fresh value that no earlier view shares, in its own type."""
    written = node.args[0]
    if not isinstance(written, fx.Node) or written.op != "call_function" or _shares(written):
        return False
    value = written.meta.get("val")
    others = [source.meta.get("val") for source in node.all_input_nodes]
    if any(not isinstance(other, torch.Tensor) or other.dtype != value.dtype for other in others):  # type: ignore[union-attr]
        return False
    return not any(_shares(user) for user in written.users if user is not node and order[user] < order[node])


def _shares(node: fx.Node) -> bool:
    """Whether an operation's result may be its argument under another name."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or (node.target in IDENTITIES and node.target not in COPIES):
        return True
    return not mutates(node) and any(result.alias_info is not None for result in schema.returns)
