"""Single nodes of a traced network, run by torch on dense values."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import fx

from netpaths.graph import Graph

Values = dict[str, Any]
"""What nodes returned, by name."""


class Foreign:
    """Runs nodes with weights of its own: those that the network had when it was made."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self._activations = graph, frozenset(graph.nodes)
        self._nodes = {node.name: node for node in graph.module.graph.nodes}
        self._owned: Values = {}

    def reads(self, name: str) -> tuple[str, ...]:
        """The activations that a node depends on, directly or through sizes, pieces and other small steps."""
        found: dict[str, None] = {}
        for source in self._nodes[name].all_input_nodes:
            names = (source.name,) if source.name in self._activations else self.reads(source.name)
            found.update(dict.fromkeys(names))
        return tuple(found)

    def keep(self, names: Iterable[str]) -> None:
        """Copy the weights that these nodes need; they alone can run."""
        for name in names:
            self._keep(self._nodes[name])

    def _keep(self, node: fx.Node) -> None:
        if node.op in ("call_module", "get_attr") and node.target not in self._owned:
            self._owned[str(node.target)] = self._copied(node)
        for source in node.all_input_nodes:
            if source.name not in self._activations:
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
        if node.name in values and node.name != wanted:
            return values[node.name]
        if node.op == "get_attr":
            return self._owned[str(node.target)]
        args: Any = fx.map_arg(node.args, lambda source: self._value(source, values, wanted))
        options: Any = fx.map_arg(node.kwargs, lambda source: self._value(source, values, wanted))
        if node.op == "call_module":
            return self._owned[str(node.target)](*args, **options)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **options)
        return node.target(*args, **options)  # type: ignore[operator]
