"""What a value is made of: contributions of the inputs through frozen factors, biases and constants (the law).

Every family says it by its own operation written so that what is frozen has no derivative: the derivatives of the
output by the inputs are the factors, and inputs · factors + bias + constant is the value. Carried through a whole
network by one backward pass that is pixels + biases + constants = the logit (as attribution graphs are made, Ameisen
et al. 2025; the chord of a non-linearity from zero is our reconstruction).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.utils import _pytree as tree

from netpaths.graph import Node
from netpaths.graph.replacing import Call


@dataclass(frozen=True, eq=False)
class Parts:
    """A node's output taken apart, as the network itself lays it out.

    output: the value, whose derivatives by the inputs are the frozen factors. bias, constant: what is added to the
    contributions by the layer's own bias or shift, and by anything else; broadcasts against the output, or None.
    """

    output: torch.Tensor
    bias: torch.Tensor | None = None
    constant: torch.Tensor | None = None


Frozen = Callable[[Call], Parts]

FROZEN: dict[str, Frozen] = {}
"""By the family's name."""


def affine(call: Call) -> Parts:
    """Operations that are linear in all inputs together; what constants add is their value at zero."""
    return Parts(call.run(call.inputs), constant=_at_zero(call) if _holds_constants(call.node) else None)


def shifted(call: Call) -> Parts:
    """Norms with constant statistics: what they add is a shift of their own."""
    return Parts(call.run(call.inputs), bias=_at_zero(call))


def weighted(call: Call) -> Parts:
    """Convolutions and linear layers."""
    output, bias = call.run(call.inputs), call.node.arguments.get("bias")
    if bias is not None and call.node.operation != "linear":
        bias = bias.reshape(-1, *(1 for _ in output.shape[2:]))
    return Parts(output, bias=None if bias is None else bias.detach())


def choice(call: Call) -> Parts:
    """The winner, with a factor of 1."""
    return Parts(call.run(call.inputs))


def element_wise(call: Call) -> Parts:
    """The chord m(x) = (f(x) − f(0)) / x, frozen; f(0) is a constant."""
    x = call.inputs[0]
    with torch.no_grad():
        value, start = call.run((x,)), call.run((torch.zeros_like(x),))
        start = torch.where(torch.isfinite(start), start, 0)  # a falling power and a logarithm have none
        factor = torch.where(x == 0, 0, (value - start) / x)
    return Parts(standing(value, x * factor), constant=_any(torch.where(x == 0, value, start)))


def pattern(call: Call) -> Parts:
    """Nothing comes from the inputs: a pattern or a statistic is a constant."""
    with torch.no_grad():
        value = call.run(call.inputs)
    return Parts(value, constant=value if value.is_floating_point() else None)


def bilinear(call: Call, followed: tuple[bool, ...]) -> Parts:
    """Products: what is not ``followed`` is frozen; what is shares the value in equal parts."""
    held = tuple(value if own else value.detach() for own, value in zip(followed, call.inputs))
    output = call.run(held)
    return Parts(output if sum(followed) < 2 else standing(output, output / sum(followed)))


def standing(value: torch.Tensor, linear: torch.Tensor) -> torch.Tensor:
    """``value`` with the derivatives of ``linear``."""
    return value.detach() + (linear - linear.detach())


def _holds_constants(node: Node) -> bool:
    """Whether an argument is a tensor of numbers, or a number that could be added or filled in."""
    leaves = tree.tree_leaves(dict(node.arguments))
    tensors = any(isinstance(leaf, torch.Tensor) and leaf.is_floating_point() for leaf in leaves)
    return tensors or any(isinstance(node.arguments.get(name), (int, float)) for name in ("input", "other", "value"))


def _at_zero(call: Call) -> torch.Tensor | None:
    with torch.no_grad():
        return _any(call.run(tuple(torch.zeros_like(value) for value in call.inputs)))


def _any(value: torch.Tensor) -> torch.Tensor | None:
    value = torch.where(torch.isfinite(value), value, 0)  # what is masked out of a pattern
    return value if bool(value.any()) else None
