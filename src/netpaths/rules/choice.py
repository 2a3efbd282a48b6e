"""Choices: the winner alone, the first of equals — maxima over axes or of two operands, and `where`.

A minimum is the maximum of what is negated. A constant may win; the path ends there.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from netpaths import kernels
from netpaths.graph import Family, Node
from netpaths.graph.replacing import Call
from netpaths.rules.frozen import Parts, choice, standing
from netpaths.rules.product import narrowed
from netpaths.rules.product import refuse as refuse_layouts
from netpaths.rules.rule import Active, Layer, Selection, register
from netpaths.rules.sums import field, inverse, refuse, summed_axes
from netpaths.rules.windows import problem_of


def select(layer: Layer) -> Selection:
    """The largest of the values that every active output is the maximum of."""
    x, axes = layer.inputs[0].detach(), summed_axes(layer.node)
    order = [axis for axis in range(x.dim()) if axis not in axes] + axes
    moved = x.permute(order).contiguous()
    chosen = kernels.largest(problem_of(layer, moved, None), layer.selector.ties == "all")
    back = inverse(order)
    reached = chosen.reached[0].reshape(moved.shape).permute(back).contiguous()

    def spread(value: torch.Tensor) -> torch.Tensor:
        whole = value.reshape(*moved.shape[: len(moved.shape) - len(axes)], *(1 for _ in axes))
        return whole.expand(moved.shape).permute(back)

    active = layer.active
    turned = None if active.reversed is None else reached & spread(active.reversed)
    amount = None if active.amount is None else spread(active.amount) * reached
    return Selection((Active(reached, turned, amount),), chosen)


def select_larger(layer: Layer) -> Selection:
    """The larger of two operands, of which one may be a constant."""
    names = ("input", "other")
    node, active, given, values = layer.node, layer.active, iter(layer.inputs), []
    whole = node.layout.back(layer.output[:1]).shape
    for name in names:
        value = node.arguments[name]
        constant = None if isinstance(value, str) else node.layout.images(value.detach().expand(whole))
        values.append(next(given).detach() if constant is None else constant)
    first = values[0] >= values[1]
    every = layer.selector.ties == "all"
    won = (first, (values[1] >= values[0]) if every else ~first)
    return Selection(
        tuple(
            narrowed(_kept(active, wins.expand(active.mask.shape)), tuple(value.shape))
            for name, wins, value in zip(names, won, values)
            if isinstance(node.arguments[name], str)
        )
    )


def select_by_condition(layer: Layer) -> Selection:
    """The operand that the condition, which is frozen, has picked."""
    names, given = ("condition", "input", "other"), iter(layer.inputs)
    values = {name: next(given) for name in names if isinstance(layer.node.arguments[name], str)}
    condition, active = values["condition"].bool(), layer.active
    nothing = torch.zeros_like(condition)
    parts = {"condition": Active(nothing, None, None if active.amount is None else nothing.float())}
    for name, wins in (("input", condition), ("other", ~condition)):
        if name in values:
            picked = _kept(active, wins.expand(active.mask.shape))
            parts[name] = narrowed(picked, tuple(values[name].shape))
    return Selection(tuple(parts[name] for name in values))


def _kept(active: Active, wins: torch.Tensor) -> Active:
    turned, amount = active.reversed, active.amount
    return replace(
        active,
        mask=active.mask & wins,
        reversed=None if turned is None else turned & wins,
        amount=None if amount is None else amount * wins,
    )


def refuse_larger(node: Node) -> str | None:
    """Operands whose images lie alike, one after the other."""
    return refuse_layouts(node) if len(node.inputs) == 2 else None


def decompose_larger(call: Call) -> Parts:
    """The operand that won; a constant where that did."""
    if len(call.inputs) > 1:
        return choice(call)
    (x,) = call.inputs
    with torch.no_grad():
        value = call.run((x,))
        won = value == x
    return Parts(standing(value, x * won), constant=value * ~won)


def decompose_by_condition(call: Call) -> Parts:
    """The operand that was picked; a constant where that was."""
    names = [name for name in ("condition", "input", "other") if isinstance(call.node.arguments[name], str)]
    held = tuple(value if name == "condition" else torch.zeros_like(value) for name, value in zip(names, call.inputs))
    with torch.no_grad():
        constant = call.run(held)
    return Parts(call.run(call.inputs), constant=constant)


def depends(node: Node) -> bool:
    """Whether a condition depends on the input."""
    return isinstance(node.arguments.get("condition"), str)


register(
    Family(
        "choice",
        "maxima and minima over any axes of an image",
        "choice",
        operations=("amax",),
        refuse=refuse,
        field=field,
    ),
    select,
    choice,
)
register(
    Family(
        "larger",
        "the larger or smaller of two activations, or of an activation and a constant",
        "choice",
        operations=("maximum",),
        refuse=refuse_larger,
    ),
    select_larger,
    decompose_larger,
)
register(
    Family(
        "condition",
        "where a condition that depends on the input picks",
        "choice",
        operations=("where",),
        takes=depends,
        refuse=lambda node: refuse_layouts(node) if len(node.inputs) > 1 else None,
    ),
    select_by_condition,
    decompose_by_condition,
)
