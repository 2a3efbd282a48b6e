"""Windows of pooling layers: one channel each, fixed or adaptive."""

from __future__ import annotations

from netpaths.graph import Field, Node, adaptive_table, rows_and_cols, spatial, window_table


def window_field(node: Node) -> Field:
    """Windows of a pooling with kernel size, stride, padding, dilation and ceil_mode."""
    arguments = node.arguments
    axes = len(node.shape) - 1
    in_shape, out_shape = spatial(node.input_shapes[0]), spatial(node.shape)
    kernel = rows_and_cols(arguments["kernel_size"], axes, 1)
    stride = rows_and_cols(arguments["stride"] or arguments["kernel_size"], axes, 1)
    padding = rows_and_cols(arguments["padding"], axes, 0)
    dilation = rows_and_cols(arguments.get("dilation") or 1, axes, 1)
    tables = [
        window_table(
            in_shape[1 + axis],
            out_shape[1 + axis],
            kernel[axis],
            stride[axis],
            dilation[axis],
            (padding[axis], padding[axis]),
        )
        for axis in (0, 1)
    ]
    shape = (*node.shape, *kernel[-axes:])
    return Field(in_shape, out_shape, 1, in_shape[0], tables[0], tables[1], shape)


def adaptive_field(node: Node) -> Field:
    """Windows of adaptive pooling to the node's output size."""
    axes = len(node.shape) - 1
    in_shape, out_shape = spatial(node.input_shapes[0]), spatial(node.shape)
    rows, cols = (adaptive_table(in_shape[1 + axis], out_shape[1 + axis]) for axis in (0, 1))
    shape = (*node.shape, *(rows.shape[1], cols.shape[1])[-axes:])
    return Field(in_shape, out_shape, 1, in_shape[0], rows, cols, shape)


def global_field(node: Node) -> Field:
    """One window over the whole map of every channel, for means over all spatial axes."""
    in_shape = spatial(node.input_shapes[0])
    rows, cols = (adaptive_table(in_shape[1 + axis], 1) for axis in (0, 1))
    shape = (*node.shape, *node.input_shapes[0][1:])
    return Field(in_shape, (in_shape[0], 1, 1), 1, in_shape[0], rows, cols, shape)
