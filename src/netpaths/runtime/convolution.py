"""Convolutions in the program: all filters, or those that a code chose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from netpaths.graph import Node, along
from netpaths.runtime._instructions import CONV
from netpaths.runtime.placement import Operation, Value, whole
from netpaths.runtime.program import Program, Write

if TYPE_CHECKING:
    from netpaths.runtime.lowering import Lowering


def lower_convolution(own: Lowering, node: Node) -> Write | None:
    """A convolution: all filters, or those that a code chose."""
    arguments, axes = node.arguments, len(node.shape) - 1
    if arguments["groups"] != 1:
        return None
    weight = node.weight.detach()
    weight = weight if axes == 2 else weight[:, :, None]
    stride, dilation = (_rows_and_cols(arguments[name], axes, 1) for name in ("stride", "dilation"))
    front = _front(arguments["padding"], axes, tuple(weight.shape[2:]), dilation)
    taps = [
        (row * dilation[0] - front[0], col * dilation[1] - front[1])
        for row in range(weight.shape[2])
        for col in range(weight.shape[3])
    ]
    code = own.gated.get(node.name)
    on = None if code is None else own.fixed.get(code)
    stored = np.arange(len(weight)) if on is None else np.flatnonzero(on.numpy())
    bias = arguments.get("bias")

    def write(program: Program) -> None:
        rows = np.full((len(weight), 2), -1)
        rows[stored, 0] = [program.weights.put(weight[each].numpy()) for each in stored]
        start = program.weights.put(np.zeros(len(weight)) if bias is None else bias.detach().numpy())
        rows[:, 1] = start + np.arange(len(weight))
        source, target = program.values[node.inputs[0]], program.value(node.shape)
        filters = program.all_on(len(weight)) if code is None else program.values[code].listed
        touches = [source, target] if code is None else [source, target, program.values[code]]
        table = program.code.put(rows)
        program.wide = max(program.wide, 2 * source.shape[0] + 3 * len(weight))
        if stride == (1, 1):
            rest = _beside(program, source, target, taps)
        else:
            rest = _copied(program, source, target, taps, stride)

        def numbers() -> list[int]:
            copies, packed, starts, *more = rest()
            where = program.code.put(starts)
            operation.products = source.shape[0] * len(taps) * len(weight) * target.memory.span
            head = [source.record, target.record, filters, table, len(taps), copies, packed]
            return [*head, where, program.clamp(operation), *more]

        operation = program.add(Operation(CONV, touches, numbers, open=True))
        program.values[node.name], program.last[node.name] = target, operation

    return write


def _front(padding: Any, axes: int, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[int, int]:
    """Padding in front of rows and columns."""
    if padding == "valid":
        return (0, 0)
    if padding == "same":
        return dilation[0] * (kernel[0] - 1) // 2, dilation[1] * (kernel[1] - 1) // 2
    return _rows_and_cols(padding, axes, 0)


def _rows_and_cols(value: Any, axes: int, filler: int) -> tuple[int, int]:
    """An option for rows and columns; the rows of a layer with one spatial axis get ``filler``."""
    return (filler, along(value, 0)) if axes == 1 else (along(value, 0), along(value, 1))


def _beside(program: Program, source: Value, target: Value, taps: Sequence[tuple[int, int]]) -> Callable[[], list[Any]]:
    """A convolution of stride 1: taps read the value itself."""
    source.memory.rows.join(target.memory.rows)
    around = max(-min(col for _, col in taps), target.shape[2] + max(col for _, col in taps) - source.shape[2], 0)
    source.memory.rows.need(source.shape[2] + around)

    def offsets(stride: int) -> list[int]:
        return [row * stride + col for row, col in taps]

    def reach(stride: int) -> tuple[int, int]:
        return min(offsets(stride)), max(offsets(stride)) + target.memory.span

    source.memory.reaches.append(reach)
    return lambda: [0, 0, offsets(source.memory.stride), 0, 0, 0, 0, 0, 0, 0, 0]


def _copied(
    program: Program, source: Value, target: Value, taps: Sequence[tuple[int, int]], steps: tuple[int, int]
) -> Callable[[], list[Any]]:
    """A strided convolution: taps read copies of every some rows and columns, one copy for each remainder."""
    cells = [(row // steps[0], col // steps[1]) for row, col in taps]
    remainders = [(row % steps[0], col % steps[1]) for row, col in taps]
    kinds = sorted(set(remainders))
    first = [min(cell[axis] for cell in cells) for axis in (0, 1)]
    more = [max(cell[axis] for cell in cells) - first[axis] for axis in (0, 1)]
    rows, cols = target.shape[1] + more[0], target.shape[2] + more[1]
    target.memory.rows.need(cols)
    source.memory.rows.need(source.shape[2] + max(-min(col for _, col in taps), 0))
    last = (target.shape[2] - 1) * steps[1] + max(col for _, col in taps)
    source.memory.rows.need(last + 1)

    def starts(stride: int) -> list[int]:
        return [(first[0] * steps[0] + row) * stride + first[1] * steps[1] + col for row, col in kinds]

    def reach(stride: int) -> tuple[int, int]:
        end = max(starts(stride)) + (rows - 1) * steps[0] * stride + whole(cols) * steps[1]
        return min(starts(stride)), end

    source.memory.reaches.append(reach)

    def rest() -> list[Any]:
        stride = target.memory.stride
        plane = whole(max((rows - 1) * stride + whole(cols), more[0] * stride + more[1] + target.memory.span))
        offsets = [
            kinds.index(kind) * plane + (cell[0] - first[0]) * stride + cell[1] - first[1]
            for kind, cell in zip(remainders, cells)
        ]
        copies = plane * len(kinds)
        program.room = max(program.room, copies * source.shape[0])
        table = program.code.put(starts(source.memory.stride))
        return [copies, program.spare, offsets, len(kinds), *steps, rows, cols, stride, plane, table]

    return rest
