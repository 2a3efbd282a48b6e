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
from netpaths.kernels import Problem, Sums
from netpaths.rules.affine import pass_through
from netpaths.rules.rule import Active, Layer, Selection, register

LAST = ("layer_norm", "rms_norm", "_fused_rms_norm")
"""Norms over the last axes."""


def refuse(node: Node) -> str | None:
    """Maps of whole images."""
    if node.operation in LAST:
        return None
    return None if node.layout.plain else "a group norm over parts of an image"


def _rows(node: Node) -> tuple[int, int]:
    """How many means an image has, and over how many values each runs."""
    size = prod(node.shape)
    if node.operation == "layer_norm":
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
    chosen = kernels.operands(Sums(x, -spread, inner.mask, centred, inner.reversed, layer.selector.theta, False, False))
    own, means = chosen.reached
    averaged = _averaged(flat, mean, means.reshape(flat.shape).any(2), layer.selector.theta).reshape(x.shape)
    return Selection((Active(own.reshape(x.shape) | averaged, None, layer.active.amount),))


def _averaged(flat: torch.Tensor, mean: torch.Tensor, active: torch.Tensor, theta: float) -> torch.Tensor:
    """What active means (batch, rows) choose among the values (batch, rows, width) they average: bool."""
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
    )
    return kernels.select(problem).reached[0].reshape(flat.shape)


def select_scale(layer: Layer) -> Selection:
    """The same neurons, turned round where the scale is negative."""
    return pass_through(layer, _scale(layer.node, layer.output.device))


register(
    Family(
        "scale normalisation",
        "root mean square norm: a frozen scale alone",
        operations=("rms_norm",),
        refuse=refuse,
    ),
    select_scale,
)
register(
    Family(
        "normalisation",
        "layer, group and instance norm: mean subtraction, then a frozen scale",
        operations=("layer_norm", "group_norm", "instance_norm"),
        refuse=refuse,
    ),
    select,
)
