"""Windows of pooling layers: one channel each, fixed or adaptive."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch

from netpaths.graph import Field, Node, adaptive_table, along, window_table


def axes_of(node: Node) -> int:
    """How many axes a pooling runs over, the last ones: 1, 2 or 3."""
    named = [axes for axes in (1, 2, 3) if f"{axes}d" in node.operation.lower()]
    return named[0] if named else len(node.input_shapes[0]) - 1


def refuse_layout(node: Node) -> str | None:
    """Images that lie in front of what is pooled."""
    return None if node.layout.axis == 0 else "pools over the axis of images"


def rows_and_columns(tables: Sequence[torch.Tensor], lengths: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """One table (outputs, kernel) for each of up to three axes of ``lengths`` as two: all but the last are rows."""
    rows = torch.zeros(1, 1, dtype=torch.int64)
    for table, length in zip(tables[:-1], lengths):
        place = rows[:, None, :, None] * length + table[None, :, None, :]
        inside = (rows[:, None, :, None] >= 0) & (table >= 0)[None, :, None, :]
        rows = torch.where(inside, place, -1).flatten(2).flatten(0, 1)
    return rows, tables[-1]


def as_map(shape: Sequence[int], axes: int) -> tuple[int, int, int]:
    """(channels, rows, columns) of ``shape``, whose last ``axes`` are spatial."""
    return prod(shape[:-axes]), prod(shape[len(shape) - axes : -1]), shape[-1]


def pooled(node: Node, tables: Sequence[torch.Tensor]) -> Field:
    """The fields of a pooling given one table for each of its axes."""
    axes = len(tables)
    rows, cols = rows_and_columns(tables, node.input_shapes[0][-axes:])
    shape = (*node.shape, *(table.shape[1] for table in tables))
    in_shape = as_map(node.input_shapes[0], axes)
    return Field(in_shape, as_map(node.shape, axes), 1, in_shape[0], rows, cols, shape)


def window_field(node: Node) -> Field:
    """Windows of a pooling with kernel size, stride, padding, dilation and ceil_mode."""
    arguments, axes = node.arguments, axes_of(node)
    stride = arguments["stride"] or arguments["kernel_size"]
    return pooled(
        node,
        [
            window_table(
                node.input_shapes[0][axis - axes],
                node.shape[axis - axes],
                along(arguments["kernel_size"], axis),
                along(stride, axis),
                along(arguments.get("dilation") or 1, axis),
                (along(arguments["padding"], axis),) * 2,
            )
            for axis in range(axes)
        ],
    )


def adaptive_field(node: Node) -> Field:
    """Windows of adaptive pooling to the node's output size."""
    axes = axes_of(node)
    lengths = zip(node.input_shapes[0][-axes:], node.shape[-axes:])
    return pooled(node, [adaptive_table(before, after) for before, after in lengths])


def global_field(node: Node) -> Field:
    """One window over the whole map of every channel, for means over all spatial axes."""
    shape = node.input_shapes[0]
    rows, cols = rows_and_columns([adaptive_table(length, 1) for length in shape[1:]], shape[1:])
    in_shape = as_map(shape, len(shape) - 1)
    return Field(in_shape, (in_shape[0], 1, 1), 1, in_shape[0], rows, cols, (*node.shape, *shape[1:]))
