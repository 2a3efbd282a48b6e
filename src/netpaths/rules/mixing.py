"""Products of two matrices of activations: attention's mixing A·V with the pattern A frozen (our reconstruction).

The smallest sufficient set of every active output among the products a_k·v_k; the path follows the operand that is no
gate, or both. In scaled dot-product attention the pattern is recomputed from queries and keys. With attention="all" the
pattern entries of chosen products are followed, each to its score upwards, and a score q·k to the smallest sufficient
set of its own products.
"""

from __future__ import annotations

from math import prod, sqrt

import torch

from netpaths import kernels
from netpaths.graph import Family, Node
from netpaths.graph.replacing import Call
from netpaths.kernels import Chosen, Problem
from netpaths.rules.frozen import Parts, affine, bilinear
from netpaths.rules.pattern import nothing
from netpaths.rules.product import followed, narrowed
from netpaths.rules.rule import Active, Layer, Selection, Selector, register
from netpaths.rules.windows import carried


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
    parts = _reached(layer, layer.active, layer.output, first, second)
    own = followed(layer.node, layer.selector)
    return Selection(
        tuple(part if wanted else nothing(layer, value) for part, wanted, value in zip(parts, own, layer.inputs))
    )


def _select_constant(layer: Layer) -> Selection:
    """What active outputs choose of the activation that a constant multiplies."""
    node, x, active, output = layer.node, layer.inputs[0].detach(), layer.active, layer.output
    first = isinstance(node.arguments["input"], str)
    constant = node.arguments["other" if first else "input"].detach().to(x)
    if not node.layout.plain and node.layout.parts == 1:  # the axis of images was the only one kept
        axis = -2 if first else -1
        turned = None if active.reversed is None else active.reversed.unsqueeze(axis)
        active = Active(active.mask.unsqueeze(axis), turned, active.amount)
        output, x = output.unsqueeze(axis), x.unsqueeze(axis)
    parts = _reached(layer, active, output, *((x, constant) if first else (constant, x)))
    mask, amount = parts[0 if first else 1].mask, parts[0 if first else 1].amount
    shape = layer.inputs[0].shape
    return Selection((Active(mask.reshape(shape), None, None if amount is None else amount.reshape(shape)),))


def select_attention(layer: Layer) -> Selection:
    """The values that carry every active output, the pattern frozen or followed to queries and keys."""
    query, key, value = (tensor.detach() for tensor in layer.inputs)
    mask, scale = layer.node.arguments.get("attn_mask"), layer.node.arguments.get("scale")
    scale = 1 / sqrt(query.shape[-1]) if scale is None else scale
    products = query @ key.transpose(-1, -2)
    scores = products * scale
    if isinstance(mask, torch.Tensor):
        scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    weights = scores.softmax(-1)
    entries, reached = _reached(layer, layer.active, layer.output, weights, value)
    if layer.selector.attention == "values":
        return Selection((nothing(layer, query), nothing(layer, key), reached))
    falling = torch.tensor(scale < 0, device=weights.device)
    turned = kernels.turned(products, weights, falling, entries.mask, None)
    rising = Active(entries.mask, turned, entries.amount)
    asking, asked = _reached(layer, rising, products, query, key.transpose(-1, -2))
    return Selection((asking, _transposed(asked), reached), routing=entries.mask)


def _transposed(active: Active) -> Active:
    amount = None if active.amount is None else active.amount.transpose(-1, -2).contiguous()
    return Active(active.mask.transpose(-1, -2).contiguous(), None, amount)


def refuse_attention(node: Node) -> str | None:
    """Masks that are constants, as many keys as values."""
    if len(node.inputs) != 3 or node.arguments.get("is_causal") or node.arguments.get("enable_gqa"):
        return "masks that depend on the input, causal masks and grouped queries have no rule"
    return refuse(node)


def _reached(
    layer: Layer, active: Active, output: torch.Tensor, first: torch.Tensor, second: torch.Tensor
) -> tuple[Active, Active]:
    """What ``active`` places of the product choose of ``first`` (batch, …, n, k) and ``second`` (batch, …, k, m)."""
    lead = output.shape[:-2]
    groups, (n, m), k = prod(lead), output.shape[-2:], first.shape[-1]
    problem = Problem(
        second.expand(*lead, k, m).reshape(1, groups * k, 1, m),
        first.expand(*lead, n, k).reshape(groups * n, k, 1, 1),
        torch.zeros(1, 1, dtype=torch.int64, device=first.device),
        torch.arange(m, device=first.device)[:, None],
        k,
        groups,
        active.mask.reshape(1, groups * n, 1, m),
        output.detach().reshape(1, groups * n, 1, m),
        None if active.reversed is None else active.reversed.reshape(1, groups * n, 1, m),
        layer.selector.theta,
        amounts=active.amount is not None,
    )
    chosen = kernels.select(problem)
    row, column, place = chosen.synapses // k // m, chosen.synapses // k % m, chosen.synapses % k
    left = _operand(chosen, row * k + place, torch.Size((*lead, n, k)))
    right = _operand(chosen, (row // n * k + place) * m + column, torch.Size((*lead, k, m)))
    return _narrowed(left, first), _narrowed(right, second)


def _narrowed(active: Active, value: torch.Tensor) -> Active:
    """``active`` as wide as the operand it is of, which may have fewer axes."""
    return narrowed(active, (*(1 for _ in range(active.mask.dim() - value.dim())), *value.shape))


def _operand(chosen: Chosen, places: torch.Tensor, shape: torch.Size) -> Active:
    """What chosen products read of one operand, at flat ``places`` (m,) of a tensor of ``shape``."""
    mask = torch.zeros(shape.numel(), dtype=torch.bool, device=places.device)
    mask[places] = True
    return Active(mask.reshape(shape), None, None if chosen.values is None else carried(places, chosen.values, shape))


def decompose(call: Call) -> Parts:
    """The operands that are no gates share the product."""
    return affine(call) if len(call.inputs) == 1 else bilinear(call, followed(call.node, Selector()))


def decompose_attention(call: Call) -> Parts:
    """Values through the frozen pattern."""
    return bilinear(call, (False, False, True))


register(
    Family(
        "mixing",
        "matrix products of two activations: the one that is no gate is followed, or both",
        "frozen factors",
        operations=("matmul",),
        refuse=refuse,
    ),
    select,
    decompose,
)
register(
    Family(
        "attention",
        "scaled dot-product attention with its pattern frozen",
        "frozen factors",
        operations=("scaled_dot_product_attention",),
        refuse=refuse_attention,
    ),
    select_attention,
    decompose_attention,
)
