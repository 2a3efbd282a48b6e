"""Decoupled layers: a gate passes on the filters that its controller switched on, as they are.

A controller chooses what computes and adds nothing to any value, so a path does not go through it: with the codes of
an image given, the network is a plain one (our reconstruction; the papers do not combine the two notions of path).
"""

from __future__ import annotations

from netpaths.decoupling.controller import ScatteringGate
from netpaths.graph import Family
from netpaths.graph.replacing import Call
from netpaths.rules import pattern
from netpaths.rules.frozen import Parts, bilinear
from netpaths.rules.frozen import pattern as constant
from netpaths.rules.rule import Active, Layer, Selection, register


def select_gate(layer: Layer) -> Selection:
    """The same neurons among the filters' outputs, and nothing of the code.

    Where the gate scatters its channels, what is active between them is of no filter, and goes.
    """
    gate, active = layer.node.arguments["module"], layer.active
    if not isinstance(gate, ScatteringGate):
        return Selection((active,))
    turned, amount = (None if part is None else part[:, gate.kept] for part in (active.reversed, active.amount))
    return Selection((Active(active.mask[:, gate.kept], turned, amount),))


def decompose(call: Call) -> Parts:
    """Filters' outputs times a frozen code."""
    return bilinear(call, (True, *(False for _ in call.inputs[1:])))


register(
    Family(
        "gate",
        "filters switched off by the controller of a decoupled network",
        "element-wise",
        operations=("gate", "scatteringgate"),
    ),
    select_gate,
    decompose,
)
register(
    Family(
        "controller",
        "chooses the filters of a decoupled layer; paths do not go through it",
        "frozen",
        operations=("controller",),
    ),
    pattern.select,
    constant,
)
