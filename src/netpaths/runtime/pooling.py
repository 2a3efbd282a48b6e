"""Pooling in the program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from netpaths.graph import Node
from netpaths.runtime._instructions import MEAN, POOL
from netpaths.runtime.placement import Operation, size_of, whole
from netpaths.runtime.program import Program, Write

if TYPE_CHECKING:
    from netpaths.runtime.lowering import Lowering


def lower_pool(own: Lowering, node: Node) -> Write | None:
    """Max and average pooling, by the rows and columns of their windows."""
    field, largest = node.field, node.family is not None and node.family.name == "max pooling"
    if field is None or len(node.input_shapes[0]) < 2:
        return None
    rows, cols = field.rows.numpy(), field.cols.numpy()
    inside = (rows >= 0).sum(1)[:, None] * (cols >= 0).sum(1)
    means = np.zeros(1) if largest else own.probe(node, 1.0).reshape(-1, inside.size)[0]
    factors = means / np.maximum(inside, 1).reshape(-1) if not largest else means
    if not largest and inside.size == 1 and inside.max() == np.prod(size_of(node.input_shapes[0])[1:]):
        return lambda program: write_mean(program, node.inputs[0], node.name, node.shape, float(factors[0]))

    def write(program: Program) -> None:
        source, target = program.values[node.inputs[0]], program.value(node.shape)
        tables, where = [program.code.put(table) for table in (rows, cols)], program.weights.put(factors)
        program.room = max(program.room, whole(source.shape[2]))

        def numbers() -> list[int]:
            sizes = [tables[0], rows.shape[1], tables[1], cols.shape[1]]
            return [source.record, target.record, int(largest), *sizes, where, program.spare]

        program.add(Operation(POOL, [source, target], numbers))
        program.values[node.name] = target

    return write


def write_mean(program: Program, source: str, target: str, shape: Sequence[int], factor: float) -> None:
    """Write the sum of every channel times a factor."""
    read, written = program.values[source], program.value(shape)
    where = program.weights.put([factor])
    program.add(Operation(MEAN, [read, written], lambda: [read.record, written.record, where]))
    program.values[target] = written
