"""A network whose gradient follows other rules at chosen nodes: what deconvnet and guided backpropagation need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.utils import _pytree as tree

from netpaths.errors import BadOption
from netpaths.graph.family import FAMILIES
from netpaths.graph.module import awake
from netpaths.graph.naming import node_name

if TYPE_CHECKING:
    from netpaths.graph.graph import Graph

Backward = Callable[[torch.Tensor, Sequence[torch.Tensor], torch.Tensor], Sequence[torch.Tensor | None]]
"""The gradients of a node's inputs, given that of its output, its inputs and its output, as the network keeps them."""


def rewritten(graph: Graph, rules: Mapping[str, Backward]) -> fx.GraphModule:
    """The network of ``graph`` with the backward rule of some nodes replaced; its values stay what they are.

    rules: by name of a node, or of a family for all of its nodes; a node's own rule goes first. The result takes
    images (batch, *input shape) and returns logits (batch, classes), with the graph's own weights. Raises BadOption
    for a family that the network does not have, and UnknownNode.
    """
    chosen = _chosen(graph, rules)
    held: dict[str, Any] = {}
    own, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in graph.module.graph.nodes:
        rule = chosen.get(node_name(node))
        if rule is not None:
            place = f"rules.{len(held)}"
            held[place] = _Ruled(_called(graph, node), rule, _activations(graph, node))
            args, kwargs = fx.map_arg((node.args, node.kwargs), copies.__getitem__)
            copies[node] = own.call_module(place, args, kwargs)
            continue
        copies[node] = own.node_copy(node, copies.__getitem__)
        if node.op in ("get_attr", "call_module"):
            held[str(node.target)] = attrgetter(str(node.target))(graph.module)
    return fx.GraphModule(held, own)


def _chosen(graph: Graph, rules: Mapping[str, Backward]) -> dict[str, Backward]:
    """The rule of every node that has one."""
    families = {name: node.family.name for name, node in graph.nodes.items() if node.family is not None}
    found = {name: rules[family] for name, family in families.items() if family in rules}
    for name, rule in rules.items():
        if name not in FAMILIES:
            found[graph.node(name).name] = rule
        elif name not in families.values():
            raise BadOption(f"the network has no node of the family {name!r}")
    return found


def _called(graph: Graph, node: fx.Node) -> Callable[..., Any]:
    return graph.module.get_submodule(str(node.target)) if node.op == "call_module" else node.target  # type: ignore[return-value]


def _activations(graph: Graph, node: fx.Node) -> tuple[int, ...]:
    """Which of an operation's arguments, counted through lists, are values of nodes."""
    leaves = tree.tree_leaves((node.args, node.kwargs))
    named = [isinstance(leaf, fx.Node) and node_name(awake(leaf)) in graph.nodes for leaf in leaves]
    return tuple(place for place, own in enumerate(named) if own)


class _Ruled(nn.Module):
    """An operation that returns what it always does and differentiates by ``rule``."""

    def __init__(self, operation: Callable[..., Any], rule: Backward, places: Sequence[int]) -> None:
        super().__init__()
        self._run = (operation, rule, tuple(places))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        operation, rule, places = self._run
        leaves, spec = tree.tree_flatten((args, kwargs))

        def run(*inputs: torch.Tensor) -> torch.Tensor:
            given = list(leaves)
            for place, value in zip(places, inputs):
                given[place] = value
            own, named = tree.tree_unflatten(given, spec)
            result: torch.Tensor = operation(*own, **named)
            return result

        return _Backward.apply(run, rule, *(leaves[place] for place in places))  # type: ignore[no-untyped-call]


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, run: Callable[..., torch.Tensor], rule: Backward, *inputs: torch.Tensor) -> torch.Tensor:
        output = run(*inputs)
        ctx.rule = rule
        ctx.save_for_backward(*inputs, output)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        *inputs, output = ctx.saved_tensors
        return (None, None, *ctx.rule(grads[0], inputs, output))
