"""Parts of a network as modules of their own: what computes some of its values from others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, fx

Between = Callable[[Tensor, Tensor], Tensor]
"""What stands in place of an operation's value, given that and one more argument of the part."""


def part(
    module: fx.GraphModule,
    wanted: Any,
    given: Sequence[fx.Node] = (),
    between: Mapping[fx.Node, Between] | None = None,
) -> fx.GraphModule:
    """The part of ``module`` that computes ``wanted``, with the module's own tensors.

    wanted: an operation, or a tuple or a dictionary of them; the part returns their values in its place. given:
    operations that are not computed: their values are the part's first arguments, in this order; without any it takes
    what the module takes. between: functions put behind operations, each with one more argument, in this order.
    """
    graph = fx.Graph()
    made = {node: graph.placeholder(f"value_{place}") for place, node in enumerate(given)}
    added = {node: graph.placeholder(f"added_{place}") for place, node in enumerate(between or ())}
    needed = _needed(wanted, frozenset(given))
    for node in module.graph.nodes:
        if node in needed and node not in made:
            made[node] = graph.node_copy(node, made.__getitem__)
        if node in added:
            made[node] = graph.call_function((between or {})[node], (made[node], added[node]))
    graph.output(fx.map_arg(wanted, made.__getitem__))
    return fx.GraphModule(module, graph)


def _needed(wanted: Any, given: frozenset[fx.Node]) -> set[fx.Node]:
    """All operations that ``wanted`` depends on, not going behind ``given``."""
    waiting: list[fx.Node] = []
    fx.map_arg(wanted, waiting.append)
    found: set[fx.Node] = set()
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting.extend(() if node in given else node.all_input_nodes)
    return found
