"""Max-pooling: the maximum alone — the first one, or all tied maxima as in the artifact."""

from __future__ import annotations

from dataclasses import replace

import torch

from netpaths import kernels
from netpaths.graph import Family, Field, Node
from netpaths.rules.frozen import choice
from netpaths.rules.pooling import adaptive_field, refuse_layout, window_field
from netpaths.rules.rule import Layer, Selection, register
from netpaths.rules.windows import activate, problem_of, sources


def field(node: Node) -> Field:
    """Windows of a fixed or adaptive pooling."""
    return adaptive_field(node) if "output_size" in node.arguments else window_field(node)


def refuse(node: Node) -> str | None:
    """Indices are a second output, which has no rule."""
    if node.arguments.get("return_indices"):
        return "return_indices is not supported"
    return refuse_layout(node)


def select(layer: Layer) -> Selection:
    """The largest input of every active output's window."""
    chosen = kernels.largest(problem_of(layer, layer.inputs[0], None), layer.selector.ties == "all")
    active = activate(layer, chosen)
    if layer.active.reversed is not None:
        own = torch.zeros_like(active.mask).reshape(-1)
        flags = layer.active.reversed.reshape(-1)[chosen.active]
        own[sources(layer, chosen)[~flags.repeat_interleave(chosen.counts())]] = True
        active = replace(active, reversed=active.mask & ~own.reshape(active.mask.shape))
    return Selection((active,), chosen)


FIXED = "input kernel_size stride=None padding=0 dilation=1 ceil_mode=False return_indices=False"
FIXED_MODULE = "kernel_size stride padding dilation ceil_mode return_indices"
ADAPTIVE = "input output_size return_indices=False"

register(
    Family(
        "max pooling",
        "1d to 3d, fixed and adaptive, with padding, dilation and ceil_mode",
        "choice",
        operations=(
            "max_pool1d",
            "max_pool2d",
            "max_pool3d",
            "adaptive_max_pool1d",
            "adaptive_max_pool2d",
            "adaptive_max_pool3d",
        ),
        refuse=refuse,
        field=field,
    ),
    select,
    choice,
)
