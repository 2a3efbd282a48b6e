"""Interpolation and overlapping sums: linear with fixed factors, which depend on where an output lies.

An output is explained by the smallest sufficient set of the products of its neighbours with the factors they have in
it; a neighbour with the factor zero is no candidate. There are no weights that a user could have learned.
"""

from __future__ import annotations

from typing import Any

import torch

from netpaths.graph import Family, Field, Node, along
from netpaths.rules.frozen import affine
from netpaths.rules.pooling import as_map, axes_of, refuse_layout, rows_and_columns
from netpaths.rules.rule import Layer, Selection, register
from netpaths.rules.windows import field_of, select_scaled_windows

OTHERS = 2
"""How many values lie along an axis that is not looked at; of one alone the antialiased operations make nonsense."""


def factors_along(node: Node) -> list[torch.Tensor]:
    """For every axis the factor of each input in each output: (outputs, inputs) float64.

    Found by running the operation on one-hot signals along the axis; along the others two values stay as they are.
    """
    axes = axes_of(node)
    return [_run(node, axis, node.input_shapes[0][axis - axes], axes) for axis in range(axes)]


def _run(node: Node, axis: int, length: int, axes: int) -> torch.Tensor:
    options = dict(node.arguments)
    sizes = [along(options["output_size"], place) if place == axis else OTHERS for place in range(axes)]
    words = ["scales"] if axes == 1 else ["scales_d", "scales_h", "scales_w"][-axes:]
    scales = {word: options.get(word) if place == axis else None for place, word in enumerate(words)}
    shape = [length if place == axis else 1 for place in range(axes)]
    whole = [length if place == axis else OTHERS for place in range(axes)]
    signals = torch.eye(length, dtype=torch.float64).reshape(1, length, *shape).expand(1, length, *whole).contiguous()
    interpolate: Any = getattr(torch.ops.aten, node.operation)
    found: torch.Tensor = interpolate(signals, sizes, options["align_corners"], *scales.values())
    return found[0].movedim(axis + 1, 1).reshape(length, sizes[axis], -1)[:, :, 0].t()


def taps(factors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The inputs with a factor in each output, in order, and the factors: (outputs, most taps), -1 and 0 for none."""
    nonzero = factors != 0
    most = int(nonzero.sum(1).max())
    places = nonzero.int().sort(dim=1, descending=True, stable=True).indices[:, :most]
    inside = nonzero.gather(1, places)
    return torch.where(inside, places, -1), factors.gather(1, places) * inside


def field(node: Node) -> Field:
    """The neighbours with a factor in each output."""
    axes = axes_of(node)
    rows, cols = rows_and_columns([taps(own)[0] for own in factors_along(node)], node.input_shapes[0][-axes:])
    in_shape = as_map(node.input_shapes[0], axes)
    shape = (*node.shape, rows.shape[1], cols.shape[1])
    return Field(in_shape, as_map(node.shape, axes), 1, in_shape[0], rows, cols, shape)


def select(layer: Layer) -> Selection:
    """The smallest sufficient set of every active output's neighbours."""
    field = field_of(layer)
    x = layer.inputs[0].detach()
    every = [taps(own)[1].to(x) for own in factors_along(layer.node)]
    columns = every.pop()
    rows = torch.ones(1, 1).to(x)
    for own in every:
        rows = (rows[:, None, :, None] * own[None, :, None, :]).flatten(2).flatten(0, 1)
    near = x.reshape(-1, *field.in_shape)[:, :, field.rows.clamp(min=0)][..., field.cols.clamp(min=0)]
    return select_scaled_windows(layer, near * rows[:, :, None, None] * columns)


def refuse(node: Node) -> str | None:
    """Maps of whole images."""
    return refuse_layout(node)


register(
    Family(
        "interpolation",
        "linear, bilinear, trilinear and bicubic upsampling, also antialiased: fixed factors",
        "linear",
        operations=(
            "upsample_linear1d",
            "upsample_bilinear2d",
            "upsample_trilinear3d",
            "upsample_bicubic2d",
            "_upsample_bilinear2d_aa",
            "_upsample_bicubic2d_aa",
        ),
        refuse=refuse,
        field=field,
    ),
    select,
    affine,
)
