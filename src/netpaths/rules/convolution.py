"""Convolutions: a linear layer on every output's receptive field; padding is never a candidate (Qiu et al. 2019)."""

from __future__ import annotations

from typing import Any

import torch

from netpaths.graph import Family, Field, Node, along, window_table
from netpaths.rules.frozen import weighted
from netpaths.rules.pooling import as_map, rows_and_columns
from netpaths.rules.rule import Layer, Selection, register
from netpaths.rules.windows import select_windows


def field(node: Node) -> Field:
    """Receptive fields with stride, any padding, dilation and groups."""
    arguments, weight = node.arguments, node.weight
    axes = weight.dim() - 2
    lengths = node.input_shapes[0][-axes:]
    tables = [
        (_transposed_table if _transposed(node) else _table)(node, axis, length, node.shape[axis - axes])
        for axis, length in enumerate(lengths)
    ]
    rows, cols = rows_and_columns(tables, lengths)
    before, after = (as_map(shape[-axes - 1 :], axes) for shape in (node.input_shapes[0], node.shape))
    shape = (*node.shape, *weight.shape[1:])
    return Field(before, after, weight.shape[1], arguments["groups"], rows, cols, shape, node.layout.parts)


def _table(node: Node, axis: int, before: int, after: int) -> torch.Tensor:
    arguments, kernel = node.arguments, node.weight.shape[2 + axis]
    dilation, mode = along(arguments["dilation"], axis), arguments.get("padding_mode") or "zeros"
    border = _border(arguments["padding"], axis, kernel, dilation)
    return window_table(before, after, kernel, along(arguments["stride"], axis), dilation, border, mode)


def _transposed_table(node: Node, axis: int, before: int, after: int) -> torch.Tensor:
    """Which inputs each output of a transposed convolution is reached from, one place for each place of the kernel."""
    stride, padding, dilation = (along(node.arguments[name], axis) for name in ("stride", "padding", "dilation"))
    steps = torch.arange(after)[:, None] + padding - torch.arange(node.weight.shape[2 + axis]) * dilation
    source = torch.div(steps, stride, rounding_mode="floor")
    return torch.where((steps % stride == 0) & (source >= 0) & (source < before), source, -1)


def _border(padding: object, axis: int, kernel: int, dilation: int) -> tuple[int, int]:
    """Padding before and after along one of the layer's axes."""
    if padding == "valid":
        return (0, 0)
    if padding == "same":
        total = dilation * (kernel - 1)
        return (total // 2, total - total // 2)
    return (along(padding, axis),) * 2


def _transposed(node: Node) -> bool:
    return "conv_transpose" in node.operation


def weight_of(node: Node) -> Any:
    """The weight (outputs, inputs of a group, *kernel); a transposed convolution keeps its inputs first."""
    weight = node.arguments["weight"]
    if not _transposed(node):
        return weight
    return weight.unflatten(0, (node.arguments["groups"], -1)).transpose(1, 2).flatten(0, 1)


def refuse(node: Node) -> str | None:
    """Signals, images and volumes, with a weight that is a constant."""
    weight = node.arguments["weight"]
    if not isinstance(weight, torch.Tensor):
        return "its weight depends on the input"
    whole = len(node.shape) - (node.layout.parts > 1) == weight.dim() - 1
    return None if weight.dim() in (3, 4, 5) and whole and node.layout.axis == 0 else "reads the axis of images"


def select(layer: Layer) -> Selection:
    """The smallest sufficient set in the receptive field of every active output."""
    weight = layer.node.weight
    return select_windows(layer, weight.reshape(*weight.shape[:2], -1, weight.shape[-1]))


register(
    Family(
        "convolution",
        "1d to 3d, also transposed, with stride, padding (same, asymmetric, reflect …), dilation and groups",
        "linear",
        operations=(
            "conv1d",
            "conv2d",
            "conv3d",
            "conv_transpose1d",
            "conv_transpose2d",
            "conv_transpose3d",
        ),
        weight=weight_of,
        refuse=refuse,
        field=field,
        weighted=True,
    ),
    select,
    weighted,
)
