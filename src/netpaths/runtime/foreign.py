"""Single nodes of a traced network, run by torch on dense values."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, fx

from netpaths.graph import Graph, part
from netpaths.graph.naming import node_name


class Foreign:
    """Runs nodes with weights of its own: those that the network had when it was made."""

    def __init__(self, graph: Graph) -> None:
        self._module, self._activations = graph.module, frozenset(graph.nodes)
        self._nodes = {node_name(node): node for node in graph.module.graph.nodes}
        self._kept: dict[str, fx.GraphModule] = {}

    def reads(self, name: str) -> tuple[str, ...]:
        """The activations that a node depends on, directly or through sizes, pieces and other small steps."""
        return tuple(dict.fromkeys(self._reads(self._nodes[name])))

    def _reads(self, node: fx.Node) -> Iterator[str]:
        for source in node.all_input_nodes:
            if node_name(source) in self._activations:
                yield node_name(source)
            else:
                yield from self._reads(source)

    def keep(self, names: Iterable[str]) -> None:
        """Copy the weights that these nodes need; they alone can run."""
        self._kept.update((name, self._copied(name)) for name in names)

    def _copied(self, name: str) -> fx.GraphModule:
        given = [self._nodes[source] for source in self.reads(name)]
        return copy.deepcopy(part(self._module, self._nodes[name], given)).requires_grad_(False)

    def run(self, name: str, values: Mapping[str, Tensor]) -> Tensor:
        """The node's output given the values of the activations that it reads."""
        return self._run(self._kept[name], name, values)

    def once(self, name: str, values: Mapping[str, Tensor]) -> Tensor:
        """The same in float64, with the weights that the network has now."""
        return self._run(self._copied(name).double(), name, values)

    def _run(self, module: fx.GraphModule, name: str, values: Mapping[str, Tensor]) -> Tensor:
        with torch.no_grad():
            result: Tensor = module(*(values[source] for source in self.reads(name)))
        return result
