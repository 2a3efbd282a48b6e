"""Overlapping sums: patches laid over one another and added, as `torch.nn.functional.fold` does; factors of one.

An output is explained by the smallest sufficient set of the patches that lie over it.
"""

from __future__ import annotations

from math import prod

import torch

from netpaths import kernels
from netpaths.graph import Family, Node, along
from netpaths.kernels import Problem
from netpaths.rules.frozen import affine
from netpaths.rules.rule import Active, Layer, Selection, register
from netpaths.rules.windows import carried


def tables(node: Node) -> list[tuple[torch.Tensor, int]]:
    """For both axes which patch lies over each output with each place of its kernel, -1 for none, and how many are."""
    options, found = node.arguments, []
    for axis in (0, 1):
        kernel, stride, padding, dilation = (
            along(options[name], axis) for name in ("kernel_size", "stride", "padding", "dilation")
        )
        length = along(options["output_size"], axis)
        patches = (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
        steps = torch.arange(length)[:, None] + padding - torch.arange(kernel) * dilation
        place = torch.div(steps, stride, rounding_mode="floor")
        inside = (steps % stride == 0) & (place >= 0) & (place < patches)
        found.append((torch.where(inside, place, -1), patches))
    return found


def origins(node: Node) -> torch.Tensor:
    """The flat input at each place of each output's field: (channels, height, kernel height, width, kernel width)."""
    (rows, down), (cols, right) = tables(node)
    channels = prod(node.shape[:-2])
    places = torch.arange(channels)[:, None, None] * rows.shape[1] + torch.arange(rows.shape[1])[:, None]
    places = places * cols.shape[1] + torch.arange(cols.shape[1])
    row = places[:, None, :, None, :] * down + rows.clamp(min=0)[None, :, :, None, None]
    return row * right + cols.clamp(min=0)[None, None, None]


def select(layer: Layer) -> Selection:
    """The smallest sufficient set of the patches over every active output."""
    node, x = layer.node, layer.inputs[0].detach().flatten(1)
    (rows, _), (cols, _) = tables(node)
    origin = origins(node).to(x.device)
    channels, height, kernel, width, across = origin.shape
    shape, size = (len(x), channels, height, width), kernel * across
    own = [torch.where(table >= 0, torch.arange(table.numel()).reshape(table.shape), -1) for table in (rows, cols)]
    chosen = kernels.select(
        Problem(
            x[:, origin.reshape(-1)].reshape(len(x), channels, height * kernel, width * across),
            None,
            own[0].to(x.device),
            own[1].to(x.device),
            1,
            channels,
            layer.active.mask.reshape(shape),
            layer.output.detach().reshape(shape),
            None if layer.active.reversed is None else layer.active.reversed.reshape(shape),
            layer.selector.theta,
            amounts=layer.active.amount is not None,
        )
    )
    place = origin.permute(0, 1, 3, 2, 4).reshape(-1)[chosen.synapses // size * size + chosen.synapses % size]
    reached = torch.zeros_like(x, dtype=torch.bool)
    reached[chosen.images(), place] = True
    whole, amount = layer.inputs[0].shape, None
    if chosen.values is not None:
        amount = carried(chosen.images() * x.shape[1] + place, chosen.values, whole)
    return Selection((Active(reached.reshape(whole), None, amount),))


def refuse(node: Node) -> str | None:
    """Maps of whole images."""
    return None if node.layout.plain and node.input_layouts[0].plain else "folds parts of an image"


register(
    Family(
        "overlap",
        "patches added where they overlap (fold)",
        "frozen factors",
        operations=("col2im",),
        refuse=refuse,
    ),
    select,
    affine,
)
