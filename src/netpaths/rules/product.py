"""Products of two activations: squeeze-and-excitation, gated units, modulation (our reconstruction).

The path follows the operand that is not a gate, with the other frozen. A gate is what comes from a bounded activation
(sigmoid, hard sigmoid, softmax, tanh) or from a frozen statistic; if neither or both are gates it follows both. A
neuron is explained in the direction of its own value: the sign of a product is the product of the signs. With
gates="both" it follows a gate too, and with attention="all" a softmax; a statistic is never followed.
"""

from __future__ import annotations

from dataclasses import replace

from netpaths.graph import Family, Node
from netpaths.graph.replacing import Call
from netpaths.rules.frozen import Parts, bilinear, element_wise
from netpaths.rules.pattern import nothing
from netpaths.rules.rule import Active, Layer, Selection, Selector, register

SOFTMAX = ("softmax", "_softmax")
BOUNDED = ("sigmoid", "hardsigmoid", "tanh", *SOFTMAX)
STEPS = ("rearrangement", "scaling", "conversion")
"""Families that leave a gate a gate."""


def gate_of(node: Node) -> Node | None:
    """The bounded gate or frozen statistic that the node's values are, moved or scaled; None where they are none."""
    if node.operation in BOUNDED:
        return node
    passes = node.family is not None and node.family.name in STEPS and len(node.parents) == 1
    source = gate_of(node.parents[0]) if passes else None
    return node if source is None and node.frozen else source


def followed(node: Node, selector: Selector) -> tuple[bool, bool]:
    """Which of the two operands of a product, or of a matrix product, the path follows."""
    if node.operation == "div":
        return True, False
    first, second = (_held(parent, selector, node.operation == "matmul") for parent in node.parents)
    return (not first, not second) if first != second else (True, True)


def _held(node: Node, selector: Selector, mixing: bool) -> bool:
    """Whether an operand is a gate that the path does not follow."""
    gate = gate_of(node)
    if gate is None:
        return False
    if mixing and gate.operation in SOFTMAX:
        return selector.attention == "values"
    return gate.operation not in BOUNDED or selector.gates == "signal"


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
    """The operands that the path follows, each in the direction of its own value; two share what arrived."""
    if len(layer.inputs) == 1:  # a square
        return Selection((layer.active,))
    own, active = followed(layer.node, layer.selector), layer.active
    if all(own) and active.amount is not None:
        active = replace(active, amount=active.amount / 2)
    return Selection(
        tuple(
            narrowed(active, tuple(value.shape)) if wanted else nothing(layer, value)
            for wanted, value in zip(own, layer.inputs)
        )
    )


def decompose(call: Call) -> Parts:
    """The operands that are no gates share the product; a square is a map of its own."""
    if len(call.inputs) == 1:
        return element_wise(call)
    return bilinear(call, followed(call.node, Selector()))


register(
    Family(
        "product",
        "of two activations: the one that is no gate is followed, or both",
        "product",
        operations=("mul", "div"),
        takes=lambda node: all(isinstance(node.arguments[name], str) for name in ("input", "other")),
        refuse=refuse,
    ),
    select,
    decompose,
)
