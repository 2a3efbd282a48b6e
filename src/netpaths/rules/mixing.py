"""Products of two matrices of activations: attention's mixing A·V with the pattern A frozen (our reconstruction).

The smallest sufficient set of every active output among the products a_k·v_k; the path follows the operand that is no
gate, or both. In scaled dot-product attention the pattern is recomputed from queries and keys.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod, sqrt

import torch

from netpaths import kernels
from netpaths.graph import Family, Node
from netpaths.kernels import Problem
from netpaths.rules.product import is_gate, narrowed
from netpaths.rules.rule import Active, Layer, Selection, register


def refuse(node: Node) -> str | None:
    """Images that lie alike, outside of the two axes that are multiplied."""
    if len(node.inputs) == 1:
        return _refuse_constant(node)
    if any(layout != node.layout for layout in node.input_layouts):
        return "operands whose images lie differently"
    if len({len(shape) for shape in (*node.input_shapes, node.shape)}) != 1 or len(node.shape) < 2:
        return "operands of different ranks"
    return None


def _refuse_constant(node: Node) -> str | None:
    """Images in front, or along the axis of the activation that the product keeps."""
    active_first = isinstance(node.arguments["input"], str)
    constant = node.arguments["other" if active_first else "input"]
    if node.input_layouts[0] != node.layout or constant.dim() < 2:
        return "a product that moves images"
    rank = len(node.shape) + (node.layout.parts == 1)
    if node.layout.plain:
        alone = constant.dim() < rank or constant.shape[0] == 1
        return None if alone and rank > 2 else "a constant for each image"
    return None if node.layout.axis == rank - (2 if active_first else 1) else "a product over parts of an image"


def select(layer: Layer) -> Selection:
    """The smallest sufficient set of products of every active output."""
    if len(layer.inputs) == 1:
        return _select_constant(layer)
    first, second = (value.detach() for value in layer.inputs)
    gates = tuple(is_gate(parent) for parent in layer.node.parents)
    both = gates[0] == gates[1]
    left, right = _reached(layer, first, second)
    nothing = (torch.zeros_like(value, dtype=torch.bool) for value in (first, second))
    parts = [part if both or not gate else none for part, gate, none in zip((left, right), gates, nothing)]
    return Selection(tuple(Active(part, None, _amount(layer, part)) for part in parts))


def _select_constant(layer: Layer) -> Selection:
    """What active outputs choose of the activation that a constant multiplies."""
    node, x, active = layer.node, layer.inputs[0].detach(), layer.active
    first = isinstance(node.arguments["input"], str)
    constant = node.arguments["other" if first else "input"].detach().to(x)
    if not node.layout.plain and node.layout.parts == 1:  # the axis of images was the only one kept
        axis = -2 if first else -1
        turned = None if active.reversed is None else active.reversed.unsqueeze(axis)
        active = Active(active.mask.unsqueeze(axis), turned, active.amount)
        layer, x = replace(layer, output=layer.output.unsqueeze(axis), active=active), x.unsqueeze(axis)
    part = _reached(layer, x, constant)[0] if first else _reached(layer, constant, x)[1]
    part = part.reshape(layer.inputs[0].shape)
    return Selection((Active(part, None, _amount(layer, part)),))


def select_attention(layer: Layer) -> Selection:
    """The values that carry every active output, the pattern frozen."""
    query, key, value = (tensor.detach() for tensor in layer.inputs)
    mask, scale = layer.node.arguments.get("attn_mask"), layer.node.arguments.get("scale")
    scores = query @ key.transpose(-1, -2) * (1 / sqrt(query.shape[-1]) if scale is None else scale)
    if isinstance(mask, torch.Tensor):
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    reached = _reached(layer, scores.softmax(-1), value)[1]
    nothing = (torch.zeros_like(tensor, dtype=torch.bool) for tensor in (query, key))
    parts = (*nothing, reached)
    return Selection(tuple(Active(part, None, _amount(layer, part)) for part in parts))


def refuse_attention(node: Node) -> str | None:
    """Masks that are constants, as many keys as values."""
    if len(node.inputs) != 3 or node.arguments.get("is_causal") or node.arguments.get("enable_gqa"):
        return "masks that depend on the input, causal masks and grouped queries have no rule"
    return refuse(node)


def _amount(layer: Layer, mask: torch.Tensor) -> torch.Tensor | None:
    return None if layer.active.amount is None else mask.float()


def _reached(layer: Layer, first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What active outputs choose of ``first`` (batch, …, n, k) and ``second`` (batch, …, k, m): bools alike."""
    lead = layer.output.shape[:-2]
    groups, (n, m), k = prod(lead), layer.output.shape[-2:], first.shape[-1]
    active = layer.active
    problem = Problem(
        second.expand(*lead, k, m).reshape(1, groups * k, 1, m),
        first.expand(*lead, n, k).reshape(groups * n, k, 1, 1),
        torch.zeros(1, 1, dtype=torch.int64, device=first.device),
        torch.arange(m, device=first.device)[:, None],
        k,
        groups,
        active.mask.reshape(1, groups * n, 1, m),
        layer.output.detach().reshape(1, groups * n, 1, m),
        None if active.reversed is None else active.reversed.reshape(1, groups * n, 1, m),
        layer.selector.theta,
    )
    chosen = kernels.select(problem)
    left = torch.zeros(groups * n * k, dtype=torch.bool, device=first.device)
    left[chosen.synapses // k // m * k + chosen.synapses % k] = True
    right = chosen.reached[0].reshape(*lead, k, m)
    return _narrowed(left.reshape(*lead, n, k), first), _narrowed(right, second)


def _narrowed(reached: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    shape = (*(1 for _ in range(reached.dim() - value.dim())), *value.shape)
    return narrowed(Active(reached), shape).mask


register(
    Family(
        "mixing",
        "matrix products of two activations: the one that is no gate is followed, or both",
        operations=("matmul",),
        refuse=refuse,
    ),
    select,
)
register(
    Family(
        "attention",
        "scaled dot-product attention with its pattern frozen",
        operations=("scaled_dot_product_attention",),
        refuse=refuse_attention,
    ),
    select_attention,
)
