"""Patterns and statistics: what other values are scaled by. Paths do not go through them; they are frozen factors.

Attention's softmax is frozen as circuit tracing tools do (Ameisen et al. 2025), and so are norms and deviations. Where
the selector asks for more than values or signals, an active entry of a softmax is explained by its own score, upwards.
"""

from __future__ import annotations

import torch

from netpaths.graph import Family
from netpaths.rules.affine import pass_through
from netpaths.rules.frozen import pattern
from netpaths.rules.rule import Active, Layer, Selection, Selector, register


def select(layer: Layer) -> Selection:
    """Nothing."""
    return Selection(tuple(nothing(layer, value) for value in layer.inputs))


def select_softmax(layer: Layer) -> Selection:
    """Nothing; or the score of every active entry, which rises with it."""
    if not routes(layer.selector):
        return select(layer)
    inputs = pass_through(layer, torch.ones((), device=layer.output.device)).inputs
    return Selection(inputs, routing=layer.active.mask)


def routes(selector: Selector) -> bool:
    """Whether paths go through a softmax."""
    return selector.attention == "all" or selector.gates == "both"


def nothing(layer: Layer, value: torch.Tensor) -> Active:
    """No active neuron of an input (batch, *shape)."""
    amount = None if layer.active.amount is None else torch.zeros_like(value, dtype=torch.float32)
    return Active(torch.zeros_like(value, dtype=torch.bool), None, amount)


register(
    Family(
        "softmax pattern",
        "softmax inside a network: frozen, or followed to its scores",
        "frozen",
        operations=("softmax", "_softmax"),
    ),
    select_softmax,
    pattern,
)
register(
    Family(
        "pattern",
        "norms, deviations, comparisons: frozen, paths do not go through them",
        "frozen",
        operations=(
            "log_softmax",
            "rsqrt",
            "reciprocal",
            "sqrt",
            "linalg_vector_norm",
            "std",
            "var",
            "exp",
            "log",
            "gt",
            "ge",
            "lt",
            "le",
            "eq",
            "ne",
            "logical_and",
            "logical_or",
            "logical_not",
            "bitwise_not",
            "sign",
        ),
    ),
    select,
    pattern,
)
