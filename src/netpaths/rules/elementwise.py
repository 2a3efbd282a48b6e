"""Element-wise maps that are zero at zero but fall somewhere: y = m(x)·x with the multiplier m = f(x)/x frozen.

An active output is explained by its own input, in the direction that its own value has (our reconstruction; frozen
non-linearities are also how attribution graphs are made, Ameisen et al. 2025).
"""

from __future__ import annotations

from netpaths.graph import Family
from netpaths.rules.frozen import element_wise
from netpaths.rules.rule import Layer, Selection, register


def select(layer: Layer) -> Selection:
    """The neuron itself."""
    return Selection((layer.active,))


register(
    Family(
        "curved activation",
        "SiLU, GELU, Hardswish, Mish, absolute value, powers: a frozen multiplier f(x)/x",
        "element-wise",
        operations=("silu", "gelu", "hardswish", "mish", "abs", "pow", "square", "sin", "tan"),
    ),
    select,
    element_wise,
)
