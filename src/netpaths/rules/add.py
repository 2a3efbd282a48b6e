"""Residual additions: the selector runs over the operands, a sum with weights 1 (artifact); or all are kept."""

from __future__ import annotations

import operator

import torch

from netpaths import kernels
from netpaths.graph import Family, Field, Node
from netpaths.kernels import Chosen
from netpaths.rules.affine import pass_through, refuse_spread
from netpaths.rules.rule import Layer, Selection, Synapses, register
from netpaths.rules.windows import activate_places, problem_of


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
    stacked = torch.stack([value.flatten(1) for value in layer.inputs], 1)
    chosen = _all_operands(layer, stacked) if layer.selector.merge == "all" else None
    problem = problem_of(layer, stacked, None)
    chosen = chosen or kernels.select(problem)
    size = stacked.shape[2]
    batch, operand, place = chosen.sources // (2 * size), chosen.sources // size % 2, chosen.sources % size
    places, of = batch * size + place, [operand == index for index in (0, 1)]
    inputs = tuple(activate_places(layer, places[own], chosen.values[own], layer.output.shape) for own in of)
    return Selection(inputs, Synapses(problem.active, chosen))


def _all_operands(layer: Layer, stacked: torch.Tensor) -> Chosen:
    active = layer.active.mask.reshape(-1).nonzero()[:, 0]
    size = stacked.shape[2]
    sources = (active // size * 2 * size + active % size)[:, None] + torch.tensor([0, size], device=active.device)
    offsets = torch.arange(active.numel() + 1, device=active.device) * 2
    positions = torch.tensor([0, 1], device=active.device).repeat(active.numel())
    flat = sources.reshape(-1)
    return Chosen(offsets, positions, flat, stacked.reshape(-1)[flat].float())


SIGNATURE = "input other alpha=1"

register(
    Family(
        "addition",
        "residual additions of two equal shapes, and of a constant",
        functions={operator.add: "input other", torch.add: SIGNATURE},
        methods={"add": SIGNATURE, "__add__": "input other"},
        refuse=refuse,
        field=field,
    ),
    select,
)
