"""Linear layers: contributions are n_k · w_{k,p} over all inputs (Qiu et al. 2019, section 3.1)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import nn

from netpaths.graph import Family, Field, Node, window_table
from netpaths.rules.rule import Layer, Selection, register
from netpaths.rules.windows import select_windows


def field(node: Node) -> Field:
    """One receptive field over all inputs."""
    inputs, outputs = node.input_shapes[0][0], node.shape[0]
    one = window_table(1, 1, 1)
    return Field((inputs, 1, 1), (outputs, 1, 1), inputs, 1, one, one, (outputs, inputs))


def refuse(node: Node) -> str | None:
    """Only vectors: a linear layer over a sequence has no rule yet."""
    if len(node.shape) != 1:
        return f"applied along the last of several axes, output {node.shape}; supported: (batch, features)"
    return None if not isinstance(node.arguments["weight"], str) else "its weight depends on the input"


def select(layer: Layer) -> Selection:
    """The smallest sufficient set of inputs of every active output."""
    return select_windows(layer, layer.node.weight)


register(
    Family(
        "linear",
        "fully connected layers on (batch, features)",
        modules={nn.Linear: "weight bias"},
        functions={F.linear: "input weight bias=None"},
        operations=("linear",),
        refuse=refuse,
        field=field,
        weighted=True,
    ),
    select,
)
