"""Single nodes of a traced network, run by torch on dense values."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import fx

from netpaths.graph import Graph
from netpaths.graph.naming import node_name

Values = dict[str, Any]
"""What nodes returned, by name."""


class Foreign:
    """Runs nodes with weights of its own: those that the network had when it was made."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self._activations = graph, frozenset(graph.nodes)
        self._nodes = {node_name(node): node for node in graph.module.graph.nodes}
        self._owned: Values = {}

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
        for name in names:
            self._keep(self._nodes[name])

    def _keep(self, node: fx.Node) -> None:
        if node.op in ("call_module", "get_attr") and node.target not in self._owned:
            self._owned[str(node.target)] = self._copied(node)
        for source in node.all_input_nodes:
            if node_name(source) not in self._activations:
                self._keep(source)

    def run(self, name: str, values: Values) -> torch.Tensor:
        """The node's output given the values of the activations that it reads."""
        with torch.no_grad():
            result: torch.Tensor = self._value(self._nodes[name], values, name)
        return result

    def once(self, name: str, values: Values) -> torch.Tensor:
        """The same in float64, with the weights that the network has now."""
        other = Foreign(self._graph)
        other.keep([name])
        for target, kept in other._owned.items():
            if isinstance(kept, torch.nn.Module) or (isinstance(kept, torch.Tensor) and kept.is_floating_point()):
                other._owned[target] = kept.double()
        return other.run(name, values)

    def _copied(self, node: fx.Node) -> Any:
        """The module or the tensor that a node of the network stands for."""
        owner, _, last = str(node.target).rpartition(".")
        own = getattr(self._graph.module.get_submodule(owner), last)
        return own.detach().clone() if isinstance(own, torch.Tensor) else copy.deepcopy(own)

    def _value(self, node: fx.Node, values: Values, wanted: str) -> Any:
        """What a node returns; what it reads is looked up, or computed where it is no activation."""
        name = node_name(node)
        if name in values and name != wanted:
            return values[name]
        if node.op == "get_attr":
            return self._owned[str(node.target)]
        args: Any = fx.map_arg(node.args, lambda source: self._value(source, values, wanted))
        options: Any = fx.map_arg(node.kwargs, lambda source: self._value(source, values, wanted))
        if node.op == "call_module":
            return self._owned[str(node.target)](*args, **options)
        return node.target(*args, **options)  # type: ignore[operator]
