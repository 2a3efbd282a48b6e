"""Patterns and statistics: what other values are scaled by. Paths do not go through them; they are frozen factors.

Attention's softmax is frozen as circuit tracing tools do (Ameisen et al. 2025), and so are norms and deviations.
"""

from __future__ import annotations

import torch

from netpaths.graph import Family
from netpaths.rules.rule import Active, Layer, Selection, register


def select(layer: Layer) -> Selection:
    """Nothing."""
    return Selection(tuple(Active(torch.zeros_like(value, dtype=torch.bool)) for value in layer.inputs))


register(
    Family(
        "pattern",
        "softmax inside a network, norms, deviations, comparisons: frozen, paths do not go through them",
        frozen=True,
        operations=(
            "softmax",
            "log_softmax",
            "_softmax",
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
)
