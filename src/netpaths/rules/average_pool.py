"""Average pooling: a convolution with weights 1; the selector sees the raw values (artifact).

What a chosen input carries is its value over the window's divisor, so that contributions add up to the output.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import torch

from netpaths import kernels
from netpaths.graph import Family, Field, Node, along
from netpaths.rules.frozen import affine
from netpaths.rules.pooling import adaptive_field, axes_of, global_field, refuse_layout, window_field
from netpaths.rules.rule import Layer, Selection, register
from netpaths.rules.windows import activate, field_of, problem_of, regrouped


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
        divisors = _divisors(layer.node).to(chosen.values).reshape(-1)
        chosen = replace(chosen, values=chosen.values / divisors[chosen.synapses // chosen.shape[2] % len(divisors)])
    return Selection((activate(layer, chosen),), regrouped(chosen, field_of(layer).parts))


def _divisors(node: Node) -> torch.Tensor:
    """What every place's sum is divided by: (rows, columns) of the fields."""
    arguments, windows = node.arguments, field(node)
    if arguments.get("divisor_override"):
        return torch.full((len(windows.rows), len(windows.cols)), float(arguments["divisor_override"]))
    if not arguments.get("count_include_pad"):
        rows, cols = ((table >= 0).sum(1) for table in (windows.rows, windows.cols))
        return rows[:, None] * cols
    *above, last = (_with_padding(node, axis) for axis in range(axes_of(node)))
    return reduce(lambda rows, own: (rows[:, None] * own).flatten(), [*above, last], torch.ones(1, dtype=torch.int64))


def _with_padding(node: Node, axis: int) -> torch.Tensor:
    """Places of every window along one axis, padding included but not what lies beyond it: (outputs,)."""
    arguments, axes = node.arguments, axes_of(node)
    kernel, padding = along(arguments["kernel_size"], axis), along(arguments["padding"], axis)
    start = torch.arange(node.shape[axis - axes]) * along(arguments["stride"] or arguments["kernel_size"], axis)
    return (start + kernel).clamp(max=node.input_shapes[0][axis - axes] + 2 * padding) - start


register(
    Family(
        "average pooling",
        "1d to 3d, fixed, adaptive and global, means over all spatial axes, with padding and ceil_mode",
        "frozen factors",
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
