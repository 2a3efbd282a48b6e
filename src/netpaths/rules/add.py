"""Residual additions: the selector runs over the operands, a sum with weights 1 (artifact); or all are kept."""

from __future__ import annotations

import torch

from netpaths import kernels
from netpaths.graph import Family, Field, Node
from netpaths.kernels import Chosen, Sums
from netpaths.rules.affine import pass_through, refuse_spread
from netpaths.rules.frozen import affine
from netpaths.rules.rule import Active, Layer, Selection, register
from netpaths.rules.windows import carried


def field(node: Node) -> Field | None:
    """One field per neuron over its operands; none when a constant is added."""
    size = torch.Size(node.shape).numel()
    if len(node.inputs) < 2:
        return None
    rows = torch.zeros(1, 1, dtype=torch.int64)
    cols = torch.arange(size)[:, None]
    return Field((2, 1, size), (1, 1, size), 2, 1, rows, cols, (*node.shape, 2))


def refuse(node: Node) -> str | None:
    """Two operands of one shape with factor 1, or an operand and a constant."""
    if node.arguments.get("alpha", 1) != 1:
        return "a factor alpha other than 1"
    if len(node.inputs) == 2 and node.input_shapes[0] != node.input_shapes[1]:
        return f"operands of shapes {node.input_shapes[0]} and {node.input_shapes[1]}; supported: equal shapes"
    return refuse_spread(node)


def select(layer: Layer) -> Selection:
    """The smallest sufficient operands of every active sum; a constant added passes through with the sign rule."""
    if len(layer.inputs) == 1:
        return pass_through(layer, torch.ones((), device=layer.output.device))
    active, selector = layer.active, layer.selector
    first, second = (value.detach() for value in layer.inputs)
    everything, amounts = selector.merge == "all", active.amount is not None
    sums = Sums(first, second, active.mask, layer.output.detach(), active.reversed, selector.theta, everything, amounts)
    chosen = kernels.operands(sums)
    carry = (carried_by(chosen, index, first.shape) for index in (0, 1))
    return Selection(tuple(Active(mask, None, amount) for mask, amount in zip(chosen.reached, carry)), chosen)


def carried_by(chosen: Chosen, operand: int, shape: torch.Size) -> torch.Tensor | None:
    """What the first (0) or second (1) operand of chosen sums carried: (batch, *shape), or None where not asked for."""
    if chosen.values is None:
        return None
    own = chosen.synapses % 2 == operand
    places = chosen.images() * chosen.shape[1] + chosen.synapses // 2
    return carried(places[own], chosen.values[own], shape)


register(
    Family(
        "addition",
        "residual additions of two equal shapes, and of a constant",
        "frozen factors",
        operations=("add",),
        takes=lambda node: len(set(node.input_shapes)) == 1,
        refuse=refuse,
        field=field,
    ),
    select,
    affine,
)
