"""Convolutions: a linear layer on every output's receptive field; padding is never a candidate (Qiu et al. 2019)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from netpaths.graph import Family, Field, Node, rows_and_cols, spatial, window_table
from netpaths.rules.frozen import weighted
from netpaths.rules.rule import Layer, Selection, register
from netpaths.rules.windows import select_windows


def field(node: Node) -> Field:
    """Receptive fields with stride, any padding, dilation and groups."""
    arguments, weight = node.arguments, node.weight
    axes, parts = weight.dim() - 2, node.layout.parts
    in_shape, out_shape = spatial(node.input_shapes[0][-axes - 1 :]), spatial(node.shape[-axes - 1 :])
    kernel = (1, *weight.shape[2:])[-2:]
    stride, dilation = (rows_and_cols(arguments[name], axes, 1) for name in ("stride", "dilation"))
    tables = [
        window_table(
            in_shape[1 + axis],
            out_shape[1 + axis],
            kernel[axis],
            stride[axis],
            dilation[axis],
            _border(arguments["padding"], axis - (2 - axes), axes, kernel[axis], dilation[axis]),
            arguments.get("padding_mode") or "zeros",
        )
        for axis in (0, 1)
    ]
    shape = (*node.shape, *weight.shape[1:])
    return Field(in_shape, out_shape, weight.shape[1], arguments["groups"], tables[0], tables[1], shape, parts)


def _border(padding: object, axis: int, axes: int, kernel: int, dilation: int) -> tuple[int, int]:
    """Padding before and after along one of the layer's own axes (-1 for the added one)."""
    if axis < 0 or padding == "valid":
        return (0, 0)
    if padding == "same":
        total = dilation * (kernel - 1)
        return (total // 2, total - total // 2)
    width = padding if isinstance(padding, int) else tuple(padding)[axis % len(tuple(padding))]  # type: ignore[arg-type]
    return (width, width)


def refuse(node: Node) -> str | None:
    """Signals and images only, with a weight that is a constant."""
    weight = node.arguments["weight"]
    if not isinstance(weight, torch.Tensor):
        return "its weight depends on the input"
    whole = len(node.shape) - (node.layout.parts > 1) == weight.dim() - 1
    return None if weight.dim() in (3, 4) and whole and node.layout.axis == 0 else "supported: 1d and 2d"


def select(layer: Layer) -> Selection:
    """The smallest sufficient set in the receptive field of every active output."""
    weight = layer.node.weight
    return select_windows(layer, weight if weight.dim() == 4 else weight[:, :, None])


SIGNATURE = "input weight bias=None stride=1 padding=0 dilation=1 groups=1"
ATTRIBUTES = "weight bias stride padding dilation groups padding_mode"

register(
    Family(
        "convolution",
        "1d and 2d convolutions with stride, padding (same, asymmetric, reflect …), dilation and groups",
        modules={nn.Conv2d: ATTRIBUTES, nn.Conv1d: ATTRIBUTES},
        functions={F.conv2d: SIGNATURE, F.conv1d: SIGNATURE},
        operations=("conv1d", "conv2d"),
        refuse=refuse,
        field=field,
        weighted=True,
    ),
    select,
    weighted,
)
