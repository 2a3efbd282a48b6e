"""Linear layers: contributions are n_k · w_{k,p} over all inputs (Qiu et al. 2019, section 3.1)."""

from __future__ import annotations

from math import prod

from netpaths.graph import Family, Field, Node, window_table
from netpaths.rules.frozen import weighted
from netpaths.rules.rule import Layer, Selection, register
from netpaths.rules.windows import select_windows


def field(node: Node) -> Field:
    """One receptive field over the last axis, for every place of the others."""
    inputs, outputs = node.input_shapes[0][-1], node.shape[-1]
    one, shape = window_table(1, 1, 1), (*node.shape, inputs)
    return Field((inputs, 1, 1), (outputs, 1, 1), inputs, 1, one, one, shape, prod(node.shape[:-1]))


def refuse(node: Node) -> str | None:
    """A weight that is a constant, and images that are not the axis it reads."""
    if node.layout.axis == len(node.shape) + (node.layout.parts == 1) - 1:
        return "reads the axis of images"
    return None if not isinstance(node.arguments["weight"], str) else "its weight depends on the input"


def select(layer: Layer) -> Selection:
    """The smallest sufficient set of inputs of every active output."""
    return select_windows(layer, layer.node.weight)


register(
    Family(
        "linear",
        "fully connected layers on (batch, features), and on the last of several axes",
        "linear",
        operations=("linear",),
        refuse=refuse,
        field=field,
        weighted=True,
    ),
    select,
    weighted,
)
