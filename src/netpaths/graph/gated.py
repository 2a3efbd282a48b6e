"""A network with factors at some nodes, split where the first of them is: what no factor changes is computed once.

A method that looks for gates runs the same images again and again. Everything in front of the first gate stays the
same, so it is a network of its own, and only the rest is run, and differentiated, every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from netpaths.errors import BadOption
from netpaths.graph.cutting import part
from netpaths.graph.naming import node_name

if TYPE_CHECKING:
    from netpaths.graph.graph import Graph


class Gated:
    """The network of a graph with a factor at the output of each of ``nodes``; weights are the graph's own.

    nodes: names, each once. Raises UnknownNode, and BadOption without a node or with one named twice.
    """

    def __init__(self, graph: Graph, nodes: Sequence[str]) -> None:
        for name in nodes:
            graph.node(name)
        if not nodes or len(set(nodes)) < len(nodes):
            raise BadOption(f"gates need at least one node and each of them once, not {', '.join(nodes) or 'none'}")
        self.graph, self.nodes = graph, tuple(nodes)
        self._before, self._behind = _split(graph.module, self.nodes)

    def start(self, x: torch.Tensor) -> tuple[Any, ...]:
        """What no gate changes, for images ``x`` (batch, *input shape): the values that `__call__` begins with.

        Raises BadInput.
        """
        self.graph.check(x)
        if x.dim() == 4:  # convolutions take about half the time on images whose channels lie together
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            values: tuple[Any, ...] = self._before(x)
        return values

    def __call__(self, start: tuple[Any, ...], gates: Sequence[torch.Tensor]) -> torch.Tensor:
        """Logits (batch, classes) under ``gates``: (batch, channels) or (batch, *shape) for each of ``nodes``."""
        logits: torch.Tensor = self._behind(*start, *gates)
        return logits


class _Scale(torch.autograd.Function):
    """value · gate; one pass over memory for each of the two gradients."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(value, gate)
        return value * _wide(gate, value)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        (grad,), (value, gate) = grads, ctx.saved_tensors
        own = grad * _wide(gate, value) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return own, None
        if gate.dim() == value.dim():
            return own, grad * value
        return own, (grad * value).flatten(2).sum(2)


def _wide(gate: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """The gate with axes of one behind it."""
    return gate.reshape(*gate.shape, *(1 for _ in range(value.dim() - gate.dim())))


def scale(value: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """``value`` (batch, channels, …) times ``gate`` (batch, channels), or (batch, channels, …) element by element."""
    scaled: torch.Tensor = _Scale.apply(value, gate)  # type: ignore[no-untyped-call]
    return scaled


def _split(module: fx.GraphModule, nodes: Sequence[str]) -> tuple[fx.GraphModule, fx.GraphModule]:
    """The network up to the gates, returning what the rest reads, and the rest, reading that and the gates."""
    named = {node_name(node): node for node in module.graph.nodes if node_name(node) in nodes}
    gated = [named[name] for name in nodes]
    behind: set[fx.Node] = set()
    for node in module.graph.nodes:
        if any(source in behind or source in gated for source in node.all_input_nodes):
            behind.add(node)
    border = tuple(
        node
        for node in module.graph.nodes
        if node.op != "get_attr" and node not in behind
        if node in gated or any(user in behind for user in node.users)
    )
    result = next(node for node in module.graph.nodes if node.op == "output").args[0]
    return part(module, border), part(module, result, border, dict.fromkeys(gated, scale))
