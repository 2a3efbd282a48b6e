"""Average pooling: a convolution with weights 1; the selector sees the raw values (artifact).

What a chosen input carries is its value over the window's divisor, so that contributions add up to the output.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import torch

from netpaths import kernels
from netpaths.graph import Family, Field, Node, rows_and_cols
from netpaths.rules.frozen import affine
from netpaths.rules.pooling import adaptive_field, global_field, refuse_layout, window_field
from netpaths.rules.rule import Layer, Selection, register
from netpaths.rules.windows import activate, problem_of


def field(node: Node) -> Field:
    """Windows of a fixed, adaptive or global average pooling."""
    if "dim" in node.arguments:
        return global_field(node)
    return adaptive_field(node) if "output_size" in node.arguments else window_field(node)


def refuse(node: Node) -> str | None:
    """A mean must run over all spatial axes."""
    if "dim" not in node.arguments:
        return refuse_layout(node)
    if not node.layout.plain:
        return "a mean over parts of an image"
    axes = len(node.input_shapes[0])
    dim = node.arguments["dim"]
    given = {d % (axes + 1) for d in ([dim] if isinstance(dim, int) else dim or [])}
    return None if given == set(range(2, axes + 1)) else f"a mean over axes {dim}; supported: all spatial axes"


def select(layer: Layer) -> Selection:
    """The smallest sufficient set in every active output's window."""
    chosen = kernels.select(problem_of(layer, layer.inputs[0], None))
    if chosen.values is not None:
        places = chosen.synapses // chosen.shape[2] % prod(layer.node.shape[1:])
        divisors = _divisors(layer.node).to(chosen.values)
        chosen = replace(chosen, values=chosen.values / divisors.reshape(-1)[places])
    return Selection((activate(layer, chosen),), chosen)


def _divisors(node: Node) -> torch.Tensor:
    """What every place's sum is divided by: (height, width)."""
    arguments, windows = node.arguments, field(node)
    if arguments.get("divisor_override"):
        return torch.full((len(windows.rows), len(windows.cols)), float(arguments["divisor_override"]))
    rows, cols = ((axis >= 0).sum(1) for axis in (windows.rows, windows.cols))
    if arguments.get("count_include_pad"):
        rows, cols = _with_padding(node, windows)
    return rows[:, None] * cols


def _with_padding(node: Node, windows: Field) -> list[torch.Tensor]:
    """Places of every window along rows and along columns, padding included but not what lies beyond it."""
    arguments, axes = node.arguments, len(node.shape) - 1
    kernel = rows_and_cols(arguments["kernel_size"], axes, 1)
    stride = rows_and_cols(arguments["stride"] or arguments["kernel_size"], axes, 1)
    padding = rows_and_cols(arguments["padding"], axes, 0)
    found = []
    for axis, table in enumerate((windows.rows, windows.cols)):
        start = torch.arange(len(table)) * stride[axis]
        found.append((start + kernel[axis]).clamp(max=windows.in_shape[1 + axis] + 2 * padding[axis]) - start)
    return found


FIXED = "input kernel_size stride=None padding=0 ceil_mode=False count_include_pad=True divisor_override=None"
FIXED_MODULE = "kernel_size stride padding ceil_mode"

register(
    Family(
        "average pooling",
        "1d to 3d, fixed, adaptive and global, means over all spatial axes, with padding and ceil_mode",
        operations=(
            "avg_pool1d",
            "avg_pool2d",
            "avg_pool3d",
            "adaptive_avg_pool1d",
            "adaptive_avg_pool2d",
            "adaptive_avg_pool3d",
            "mean",
        ),
        takes=lambda node: "dim" not in node.arguments or refuse(node) is None,
        refuse=refuse,
        field=field,
    ),
    select,
    affine,
)
