"""Products of two activations: squeeze-and-excitation, gated units, modulation (our reconstruction).

The path follows the operand that is not a gate, with the other frozen. A gate is what comes from a bounded activation
(sigmoid, hard sigmoid, softmax, tanh) or from a frozen statistic; if neither or both are gates it follows both. A
neuron is explained in the direction of its own value: the sign of a product is the product of the signs.
"""

from __future__ import annotations

import torch

from netpaths.graph import Family, Node
from netpaths.rules.rule import Active, Layer, Selection, register

BOUNDED = ("sigmoid", "hardsigmoid", "softmax", "_softmax", "tanh")
STEPS = ("rearrangement", "scaling", "identity")
"""Families that leave a gate a gate."""


def is_gate(node: Node) -> bool:
    """Whether the node's values are a bounded gate or a frozen statistic."""
    if node.operation in BOUNDED or node.frozen:
        return True
    passes = node.family is not None and node.family.name in STEPS and len(node.parents) == 1
    return passes and is_gate(node.parents[0])


def followed(node: Node) -> tuple[bool, bool]:
    """Which of a product's two operands the path follows."""
    first, second = (is_gate(parent) for parent in node.parents)
    if node.operation == "div":
        return True, False
    return (not first, not second) if first != second else (True, True)


def refuse(node: Node) -> str | None:
    """Operands whose images lie alike."""
    if len(node.inputs) == 1:
        return None if node.shape == node.input_shapes[0] else "spreads its input"
    alike = all(layout == node.layout for layout in node.input_layouts)
    return None if alike and _ranks_agree(node) else "operands whose images lie differently"


def _ranks_agree(node: Node) -> bool:
    return all(len(shape) == len(node.shape) for shape in node.input_shapes)


def narrowed(active: Active, shape: tuple[int, ...]) -> Active:
    """Active neurons of a value spread over the active ones' shape, back in its own ``shape`` (batch, …)."""
    axes = [axis for axis, (own, wide) in enumerate(zip(shape, active.mask.shape)) if own != wide]
    if not axes:
        return active
    mask = active.mask.amax(axes, keepdim=True)
    turned = active.reversed
    if turned is not None:  # readers that disagree leave the neuron's own direction
        turned = mask & ~(active.mask & ~turned).amax(axes, keepdim=True)
    return Active(mask, turned, None if active.amount is None else active.amount.sum(axes, keepdim=True))


def select(layer: Layer) -> Selection:
    """The operands that the path follows, each in the direction of its own value."""
    if len(layer.inputs) == 1:  # a square
        return Selection((layer.active,))
    parts = []
    for wanted, value in zip(followed(layer.node), layer.inputs):
        nothing = torch.zeros_like(value, dtype=torch.bool)
        parts.append(
            narrowed(layer.active, tuple(value.shape)) if wanted else Active(nothing, None, _none(layer, value))
        )
    return Selection(tuple(parts))


def _none(layer: Layer, value: torch.Tensor) -> torch.Tensor | None:
    return None if layer.active.amount is None else torch.zeros_like(value, dtype=torch.float32)


register(
    Family(
        "product",
        "of two activations: the one that is no gate is followed, or both",
        operations=("mul", "div"),
        takes=lambda node: all(isinstance(node.arguments[name], str) for name in ("input", "other")),
        refuse=refuse,
    ),
    select,
)
