"""Runs a network with other values in place of its nodes' own: the only interpreter of networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from netpaths.graph.module import awake
from netpaths.graph.naming import node_name
from netpaths.graph.node import Node

if TYPE_CHECKING:
    from netpaths.graph.graph import Graph


@dataclass(frozen=True, eq=False)
class Call:
    """One node about to run.

    inputs: the values of the nodes it reads, as the network itself lays them out. run: its operation on such values.
    """

    node: Node
    inputs: tuple[torch.Tensor, ...]
    run: Callable[[Sequence[torch.Tensor]], torch.Tensor]


Replace = Callable[[Call], torch.Tensor]
"""What stands in place of a node's output, laid out alike."""


def replaced(graph: Graph, x: torch.Tensor, replace: Replace) -> torch.Tensor:
    """The logits (batch, classes) of ``x`` (batch, *input shape) with every node's output replaced; raises BadInput."""
    graph.check(x)
    logits: torch.Tensor = _Replacing(graph, replace).run(x)
    return logits


class _Replacing(fx.Interpreter):
    def __init__(self, graph: Graph, replace: Replace) -> None:
        super().__init__(graph.module)
        self.nodes, self.replace = graph.nodes, replace

    def run_node(self, n: fx.Node) -> Any:
        node = self.nodes.get(node_name(n))
        if node is None:
            return super().run_node(n)
        if n.op == "placeholder":
            images = super().run_node(n)
            return self.replace(Call(node, (), lambda _: images))
        sources = [source for source in n.all_input_nodes if node_name(awake(source)) in self.nodes]

        def run(values: Sequence[torch.Tensor]) -> torch.Tensor:
            given = {**self.env, **dict(zip(sources, values))}
            args, kwargs = fx.map_arg((n.args, n.kwargs), given.__getitem__)
            answer: torch.Tensor = getattr(self, n.op)(n.target, args, kwargs)
            return answer

        return self.replace(Call(node, tuple(self.env[source] for source in sources), run))
