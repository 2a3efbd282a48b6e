"""Sums and means over any axes, and differences of two activations: linear with frozen factors ±1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import torch

from netpaths import kernels
from netpaths.graph import Family, Field, Node
from netpaths.kernels import Sums
from netpaths.rules.add import carried_by
from netpaths.rules.add import field as operand_field
from netpaths.rules.frozen import affine
from netpaths.rules.product import narrowed
from netpaths.rules.product import refuse as refuse_layouts
from netpaths.rules.rule import Active, Layer, Selection, register
from netpaths.rules.windows import carried, problem_of, sources


def summed_axes(node: Node) -> list[int]:
    """The axes of (batch, *input shape) that are summed over."""
    layout, rank = node.input_layouts[0], len(node.input_shapes[0]) + (1 if node.input_layouts[0].parts == 1 else 0)
    dim = node.arguments.get("dim")
    given = range(rank) if dim is None else [dim] if isinstance(dim, int) else dim
    axes = [layout.split_axis(axis % rank) for axis in given]
    return [] if None in axes else sorted(axis for axis in axes if axis is not None)


def refuse(node: Node) -> str | None:
    """Sums within one image."""
    return None if summed_axes(node) else "mixes the images of a batch"


def field(node: Node) -> Field:
    """One field over the summed axes for every output."""
    shape, axes = node.input_shapes[0], [axis - 1 for axis in summed_axes(node)]
    width = prod(shape[axis] for axis in axes)
    rows = prod(shape) // width
    places = torch.arange(width)[None]
    return Field(
        (rows, 1, width), (rows, 1, 1), 1, rows, torch.zeros(1, 1, dtype=torch.int64), places, (*node.shape, width)
    )


def select(layer: Layer) -> Selection:
    """The smallest sufficient set of every active output's summands."""
    x, axes = layer.inputs[0], summed_axes(layer.node)
    order = [axis for axis in range(x.dim()) if axis not in axes] + axes
    moved = x.permute(order)
    chosen = kernels.select(problem_of(layer, moved, None))
    if chosen.values is not None and layer.node.operation == "mean":
        chosen = replace(chosen, values=chosen.values / prod(x.shape[axis] for axis in axes))
    back = inverse(order)
    mask, amount = chosen.reached[0].reshape(moved.shape).permute(back).contiguous(), None
    if chosen.values is not None:
        amount = carried(sources(layer, chosen), chosen.values, moved.shape).permute(back).contiguous()
    return Selection((Active(mask, None, amount),), chosen)


def inverse(order: Sequence[int]) -> list[int]:
    """The order that undoes a permutation of axes."""
    return [order.index(axis) for axis in range(len(order))]


def select_operands(layer: Layer) -> Selection:
    """The smallest sufficient of two operands, one of them spread or subtracted."""
    sign = -1.0 if layer.node.operation == "sub" else 1.0
    first, second = (value.detach().expand(layer.output.shape) for value in layer.inputs)
    active, selector = layer.active, layer.selector
    chosen = kernels.operands(
        Sums(
            first.contiguous(),
            (second * sign).contiguous(),
            active.mask,
            layer.output.detach(),
            active.reversed,
            selector.theta,
            selector.merge == "all",
            active.amount is not None,
        )
    )
    parts = (
        Active(mask, None, carried_by(chosen, operand, layer.output.shape))
        for operand, mask in enumerate(chosen.reached)
    )
    return Selection(tuple(narrowed(part, tuple(value.shape)) for part, value in zip(parts, layer.inputs)), chosen)


def refuse_operands(node: Node) -> str | None:
    """Factors of one, images that lie alike."""
    return "a factor alpha other than 1" if node.arguments.get("alpha", 1) != 1 else refuse_layouts(node)


register(
    Family(
        "sum",
        "sums and means over any axes of an image",
        "frozen factors",
        operations=("sum", "mean"),
        refuse=refuse,
        field=field,
    ),
    select,
    affine,
)
register(
    Family(
        "operands",
        "differences of two activations, and sums of two of which one is spread over the other",
        "frozen factors",
        operations=("sub", "add"),
        takes=lambda node: len(node.inputs) == 2 and (node.operation == "sub" or len(set(node.input_shapes)) == 2),
        refuse=refuse_operands,
        field=operand_field,
    ),
    select_operands,
    affine,
)
