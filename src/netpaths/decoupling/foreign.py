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
        self._module, self._activations = graph.module, frozenset(graph.nodes)
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
        """Copy the weights that these nodes need; no other ones can run from now on."""
        for name in names:
            self._keep(self._nodes[name])
        self._module = None  # type: ignore[assignment]

    def _keep(self, node: fx.Node) -> None:
        if node.op in ("call_module", "get_attr") and node.target not in self._owned:
            self._owned[str(node.target)] = self._copied(node)
        for source in node.all_input_nodes:
            if source.name not in self._activations:
                self._keep(source)

    def run(self, name: str, values: Values) -> torch.Tensor:
        """The node's output given the values of the activations that it reads."""
        with torch.no_grad():
            result: torch.Tensor = self._value(self._nodes[name], dict(values), name)
        return result

    def once(self, name: str, values: Values) -> torch.Tensor:
        """The same in float64, with the network's own weights."""
        own, self._owned = self._owned, {}
        try:
            self._keep(self._nodes[name])
            for kept in self._owned.values():
                if isinstance(kept, torch.nn.Module):
                    kept.double()
            floating = {
                target: kept.double() if isinstance(kept, torch.Tensor) and kept.is_floating_point() else kept
                for target, kept in self._owned.items()
            }
            self._owned = floating
            return self.run(name, values)
        finally:
            self._owned = own

    def _copied(self, node: fx.Node) -> Any:
        """What a node of the network's own stands for: a module or a tensor."""
        owner, _, last = str(node.target).rpartition(".")
        own = getattr(self._module.get_submodule(owner), last)
        if isinstance(own, torch.Tensor):
            return own.detach().clone()
        return copy.deepcopy(own)

    def _value(self, node: fx.Node, values: Values, wanted: str) -> Any:
        if node.name in values and node.name != wanted:
            return values[node.name]
        if node.op == "get_attr":
            return self._owned[str(node.target)]
        args, kwargs = (
            fx.map_arg(part, lambda source: self._value(source, values, wanted)) for part in (node.args, node.kwargs)
        )
        if node.op == "call_module":
            result = self._owned[str(node.target)](*args, **kwargs)
        elif node.op == "call_method":
            result = getattr(args[0], str(node.target))(*args[1:], **kwargs)
        else:
            result = node.target(*args, **kwargs)  # type: ignore[operator]
        values[node.name] = result
        return result
