"""Values of which others are copies in the program: concatenation, slices, zero channels, flattening."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from netpaths.graph import Node
from netpaths.runtime._instructions import FLATTEN, MOVE
from netpaths.runtime.placement import Operation, Shape, Value, size_of
from netpaths.runtime.program import Program, Write

if TYPE_CHECKING:
    from netpaths.runtime.lowering import Lowering


@dataclass(frozen=True, eq=False)
class Planes:
    """Channels copied whole, every some rows and columns.

    table: which channel of the output copies each of the input, -1 for none. top, down, left, right: the first row, the
    step from one to the next, and likewise for columns.
    """

    table: np.ndarray
    top: int
    down: int
    left: int
    right: int

    @staticmethod
    def of(origin: np.ndarray, shape: Shape, target: Shape) -> Planes | None:
        """The planes of a rearrangement given the element of the input that each output copies, -1 for none."""
        height, width = shape[1:]
        found = origin.reshape(target)
        copied = found[:, 0, 0] >= 0
        channels = np.where(copied, found[:, 0, 0] // (height * width), 0)
        within = (found - channels[:, None, None] * height * width)[copied]
        if bool(((found >= 0).any((1, 2)) != copied).any()) or not len(within):
            return None
        top, left = divmod(int(within[0, 0, 0]), width)
        down = (int(within[0, 1, 0]) - int(within[0, 0, 0])) // width if target[1] > 1 else 1
        right = int(within[0, 0, 1]) - int(within[0, 0, 0]) if target[2] > 1 else 1
        rows, cols = top + down * np.arange(target[1]), left + right * np.arange(target[2])
        legal = rows.min() >= 0 and rows.max() < height and cols.min() >= 0 and cols.max() < width
        if not legal or bool((within != rows[:, None] * width + cols).any()):
            return None
        table = np.full(shape[0], -1)
        table[channels[copied]] = np.flatnonzero(copied)
        return Planes(table, top, down, left, right) if (table >= 0).sum() == copied.sum() else None

    def shift(self, shape: Shape, target: Shape) -> int | None:
        """How far channels move where nothing else changes, else None."""
        moves = np.unique((self.table - np.arange(len(self.table)))[self.table >= 0])
        still = (self.top, self.down, self.left, self.right) == (0, 1, 0, 1) and shape[1:] == target[1:]
        return int(moves[0]) if still and len(moves) == 1 else None


def lower_rearrangement(own: Lowering, node: Node) -> Write | None:
    """Concatenation, slices of channels and of every some places, zero channels, flattening."""
    if any(isinstance(value, Tensor) for value in _deep(node.arguments.values())) or node.call is None:
        return None
    if bool(node.call([torch.zeros(2, *shape).double() for shape in node.input_shapes]).any()):
        return None
    sizes, target, moves = [size_of(shape) for shape in node.input_shapes], size_of(node.shape), node.moves
    planes = [Planes.of(move.origin.numpy(), size, target) for move, size in zip(moves, sizes)]
    whole_ones = [len(node.shape) == 1 and move.start is not None for move in moves]
    if not all(plane is not None or flat for plane, flat in zip(planes, whole_ones)):
        return None
    flats = len(node.shape) == 1
    shift = planes[0].shift(sizes[0], target) if len(planes) == 1 and planes[0] is not None else None
    if shift is not None and flats == (len(node.input_shapes[0]) == 1):
        return lambda program: _shifted(program, node, shift)

    def write(program: Program) -> None:
        result = program.value(node.shape)
        for index, (name, plane, move) in enumerate(zip(node.inputs, planes, moves)):
            source = program.values[name]
            if plane is None:
                _flatten(program, source, result, int(move.start or 0), index > 0)
            else:
                write_move(program, source, result, plane, index > 0)
        program.values[node.name] = result

    return write


def _deep(values: Any) -> list[Any]:
    """Values and what stands in their lists."""
    return [part for value in values for part in (_deep(value) if isinstance(value, (list, tuple)) else [value])]


def _shifted(program: Program, node: Node, shift: int) -> None:
    """Write a rearrangement that only counts channels anew: the same memory."""
    source = program.values[node.inputs[0]]
    target = program.alias(source, size_of(node.shape)[0], shift)
    table = np.arange(source.shape[0]) + shift
    plane = Planes(np.where((table >= 0) & (table < target.shape[0]), table, -1), 0, 1, 0, 1)
    write_move(program, source, target, plane, False, same=True)
    program.values[node.name] = target


def write_move(program: Program, source: Value, target: Value, plane: Planes, more: bool, same: bool = False) -> None:
    table = program.code.put(plane.table)

    def numbers() -> list[int]:
        steps = [plane.top, plane.down, plane.left, plane.right]
        return [source.record, target.record, table, *steps, int(more), int(same)]

    program.add(Operation(MOVE, [source, target], numbers))


def _flatten(program: Program, source: Value, target: Value, start: int, more: bool) -> None:
    program.add(Operation(FLATTEN, [source, target], lambda: [source.record, target.record, start, int(more)]))
