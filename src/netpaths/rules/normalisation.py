"""Layer and group norms: x − μ, then a scale whose 1/σ is frozen, then a shift (our reconstruction).

An active output is explained by its centred input, turned round where the scale is negative; that by the smallest
sufficient of its two operands x and −μ; and the mean, where it is chosen, by the smallest sufficient set of what it
averages.
"""

from __future__ import annotations

from math import prod

import torch

from netpaths import kernels
from netpaths.graph import Family, Node
from netpaths.graph.replacing import Call
from netpaths.kernels import Chosen, Problem, Sums
from netpaths.rules.add import carried_by
from netpaths.rules.affine import pass_through
from netpaths.rules.frozen import Parts, standing
from netpaths.rules.rule import Active, Layer, Selection, register
from netpaths.rules.windows import carried

LAST = ("layer_norm", "rms_norm", "_fused_rms_norm")
"""Norms over the last axes."""


def refuse(node: Node) -> str | None:
    """Maps of whole images, with their own statistics."""
    if node.operation == "instance_norm" and not node.arguments.get("use_input_stats", True):
        return "normalises with running statistics; supported: the image's own"
    if node.operation in LAST:
        return None
    return None if node.layout.plain else "a group norm over parts of an image"


def _rows(node: Node) -> tuple[int, int]:
    """How many means an image has, and over how many values each runs."""
    size = prod(node.shape)
    if node.operation in LAST:
        width = prod(node.arguments["normalized_shape"])
        return size // width, width
    groups = int(node.arguments["num_groups"]) if node.operation == "group_norm" else node.shape[0]
    return groups, size // groups


def _scale(node: Node, device: torch.device) -> torch.Tensor:
    weight = node.arguments.get("weight")
    if not isinstance(weight, torch.Tensor):
        return torch.ones((), device=device)
    return weight.detach() if node.operation in LAST else weight.detach().reshape(-1, *(1 for _ in node.shape[1:]))


def select(layer: Layer) -> Selection:
    """The smallest sufficient of value and mean, and what the chosen means average."""
    rows, width = _rows(layer.node)
    x = layer.inputs[0].detach()
    flat = x.reshape(len(x), rows, width)
    mean = flat.mean(2, keepdim=True)
    centred = (flat - mean).reshape(x.shape)
    inner = pass_through(
        Layer(layer.node, (centred,), layer.output, layer.active, layer.selector), _scale(layer.node, x.device)
    ).inputs[0]
    spread = mean.expand_as(flat).reshape(x.shape)
    amounts = inner.amount is not None
    chosen = kernels.operands(
        Sums(x, -spread, inner.mask, centred, inner.reversed, layer.selector.theta, False, amounts)
    )
    own, means = chosen.reached
    averaged = _averaged(flat, mean, means.reshape(flat.shape).any(2), layer.selector.theta, amounts)
    mask = own.reshape(x.shape) | averaged.reached[0].reshape(x.shape)
    amount = carried_by(chosen, 0, x.shape)
    if amount is not None and averaged.values is not None:
        amount = amount + carried(_places(averaged), averaged.values / width, x.shape)
    return Selection((Active(mask, None, amount),))


def _places(averaged: Chosen) -> torch.Tensor:
    """The input that each chosen part of a mean reads: (m,) int64, flat positions with the batch included."""
    return averaged.images() * averaged.shape[1] * averaged.shape[2] + averaged.synapses


def _averaged(flat: torch.Tensor, mean: torch.Tensor, active: torch.Tensor, theta: float, amounts: bool) -> Chosen:
    """What active means (batch, rows) choose among the values (batch, rows, width) they average."""
    batch, rows, width = flat.shape
    problem = Problem(
        flat.reshape(batch, rows, 1, width),
        None,
        torch.zeros(1, 1, dtype=torch.int64, device=flat.device),
        torch.arange(width, device=flat.device)[None],
        1,
        rows,
        active.reshape(batch, rows, 1, 1),
        mean.reshape(batch, rows, 1, 1),
        None,
        theta,
        amounts=amounts,
    )
    return kernels.select(problem)


def decompose(call: Call) -> Parts:
    """Centred values times a frozen 1/σ and the scale; the shift is a bias."""
    x, node = call.inputs[0], call.node
    flat = x.reshape(-1, _rows(node)[1])
    centred = flat - flat.mean(1, keepdim=True)
    frozen = (centred.detach().square().mean(1, keepdim=True) + node.arguments["eps"]).rsqrt()
    linear = (centred * frozen).reshape(x.shape) * _scale(node, x.device)
    with torch.no_grad():
        value, bias = call.run((x,)), node.arguments.get("bias")
    if bias is not None and node.operation != "layer_norm":
        bias = bias.reshape(-1, *(1 for _ in node.shape[1:]))
    return Parts(standing(value, linear), bias=None if bias is None else bias.detach())


def decompose_scale(call: Call) -> Parts:
    """Values times a frozen reciprocal of their root mean square, and the scale."""
    x, node = call.inputs[0], call.node
    flat, eps = x.reshape(-1, _rows(node)[1]), node.arguments.get("eps")
    eps = torch.finfo(x.dtype).eps if eps is None else eps
    frozen = (flat.detach().square().mean(1, keepdim=True) + eps).rsqrt()
    with torch.no_grad():
        value = call.run((x,))
    return Parts(standing(value, (flat * frozen).reshape(x.shape) * _scale(node, x.device)))


def select_scale(layer: Layer) -> Selection:
    """The same neurons, turned round where the scale is negative."""
    return pass_through(layer, _scale(layer.node, layer.output.device))


register(
    Family(
        "scale normalisation",
        "root mean square norm: a frozen scale alone",
        "element-wise",
        operations=("rms_norm",),
        refuse=refuse,
    ),
    select_scale,
    decompose_scale,
)
register(
    Family(
        "normalisation",
        "layer, group and instance norm: mean subtraction, then a frozen scale",
        "element-wise",
        operations=("layer_norm", "group_norm", "instance_norm"),
        refuse=refuse,
    ),
    select,
    decompose,
)
