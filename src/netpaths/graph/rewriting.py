"""A network whose gradient follows other rules at chosen nodes: what deconvnet and guided backpropagation need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from netpaths.errors import BadOption
from netpaths.graph.family import FAMILIES
from netpaths.graph.replacing import Call, replaced

if TYPE_CHECKING:
    from netpaths.graph.graph import Graph

Backward = Callable[[torch.Tensor, Sequence[torch.Tensor], torch.Tensor], Sequence[torch.Tensor | None]]
"""The gradients of a node's inputs, given that of its output, its inputs and its output, as the network keeps them."""

Network = Callable[[torch.Tensor], torch.Tensor]
"""Images (batch, *input shape) to logits (batch, classes)."""


def rewritten(graph: Graph, rules: Mapping[str, Backward]) -> Network:
    """The network of ``graph`` with the backward rule of some nodes replaced; its values stay what they are.

    rules: by name of a node, or of a family for all of its nodes; a node's own rule goes first. Raises BadOption for a
    family that the network does not have, and UnknownNode.
    """
    chosen = _chosen(graph, rules)

    def replace(call: Call) -> torch.Tensor:
        rule = chosen.get(call.node.name)
        if rule is None:
            return call.run(call.inputs)
        return _Ruled.apply(call.run, rule, *call.inputs)  # type: ignore[no-untyped-call,no-any-return]

    return lambda x: replaced(graph, x, replace)


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


class _Ruled(torch.autograd.Function):
    """An operation that returns what it always does and differentiates by a rule."""

    @staticmethod
    def forward(ctx: Any, run: Callable[..., torch.Tensor], rule: Backward, *inputs: torch.Tensor) -> torch.Tensor:
        output = run(inputs)
        ctx.rule = rule
        ctx.save_for_backward(*inputs, output)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        *inputs, output = ctx.saved_tensors
        return (None, None, *ctx.rule(grads[0], inputs, output))
