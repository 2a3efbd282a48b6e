"""What the program does channel by channel, place by place: gates, activations, affine maps, sums."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from netpaths.decoupling.controller import ScatteringGate
from netpaths.graph import Node
from netpaths.runtime._instructions import ADD, AFFINE, GATE
from netpaths.runtime.placement import Operation, size_of
from netpaths.runtime.program import Program, Write
from netpaths.runtime.rearrangement import Planes, write_move

if TYPE_CHECKING:
    from netpaths.runtime.lowering import Lowering


CLAMPS: Mapping[str, tuple[str, str, float, float]] = {
    "relu": ("", "", 0, inf),
    "relu6": ("", "", 0, 6),
    "hardtanh": ("min_val", "max_val", -1, 1),
    "clamp": ("min", "max", -inf, inf),
}
"""Activations that only cut: the names of their bounds and the bounds without them."""


def lower_gate(own: Lowering, node: Node) -> Write | None:
    """A gate copies nothing, it takes filters off the list; one that scatters then copies those that are on."""
    chosen = own.graph.nodes[node.inputs[-1]]
    native = chosen.family is not None and chosen.family.name == "controller" and own.write(chosen.name) is not None
    if len(node.inputs) != 2 or not native:
        return None
    module = node.arguments["module"]

    def write(program: Program) -> None:
        source, code = (program.values[name] for name in node.inputs)
        target = program.alias(source, source.shape[0])
        program.add(Operation(GATE, [source, code, target], lambda: [source.record, code.record, target.record]))
        program.values[node.name] = target
        if isinstance(module, ScatteringGate):
            program.values[node.name] = program.value(node.shape)
            write_move(program, target, program.values[node.name], Planes(module.kept.numpy(), 0, 1, 0, 1), False)

    return write


def lower_activation(own: Lowering, node: Node) -> Write | None:
    """An activation that cuts, where possible as part of the operation in front of it."""
    bounds = _bounds(node)
    if bounds is None:
        return None
    low, high = bounds

    def write(program: Program) -> None:
        (name,) = node.inputs
        operation = own.fusable(program, name)
        if operation is None:
            channels = size_of(node.shape)[0]
            operation = _affine(program, node, np.ones(channels), np.zeros(channels))
        else:
            program.values[node.name], program.last[node.name] = program.values[name], operation
        before = operation.clamp
        operation.clamp = tuple(min(max(bound, low), high) for bound in before)  # type: ignore[assignment]

    return write


def _bounds(node: Node) -> tuple[float, float] | None:
    """The bounds between which an activation cuts its input, or None for another activation."""
    known = CLAMPS.get(node.operation.lower())
    if known is None:
        return None
    values = [node.arguments.get(name) if name else None for name in known[:2]]
    return tuple(other if value is None else float(value) for value, other in zip(values, known[2:]))  # type: ignore[return-value]


def lower_affine(own: Lowering, node: Node) -> Write | None:
    """a · x + b with one a and one b for each channel, found by trying."""
    if len(node.inputs) != 1:
        return None
    shift = own.probe(node, 0.0).reshape(size_of(node.shape)[0], -1)
    scale = own.probe(node, 1.0).reshape(shift.shape) - shift
    if any(bool((part != part[:, :1]).any()) for part in (shift, scale)):
        return None

    def write(program: Program) -> None:
        _affine(program, node, scale[:, 0], shift[:, 0])

    return write


def _affine(program: Program, node: Node, scale: np.ndarray, shift: np.ndarray) -> Operation:
    """Write a · x + b; scale, shift: (channels,)."""
    source, target = program.values[node.inputs[0]], program.value(node.shape)
    source.memory.rows.join(target.memory.rows)
    factors, constants = program.weights.put(scale), program.weights.put(shift)

    def numbers() -> list[int]:
        low, high = operation.clamp
        spreads = bool(np.any(np.clip(shift, low, high) != 0))
        return [source.record, target.record, factors, constants, program.clamp(operation), int(spreads)]

    operation = program.add(Operation(AFFINE, [source, target], numbers, open=True))
    program.values[node.name], program.last[node.name] = target, operation
    return operation


def lower_addition(own: Lowering, node: Node) -> Write | None:
    """The sum of two values; of a constant, as any affine map."""
    if len(node.inputs) == 1:
        return lower_affine(own, node)

    def write(program: Program) -> None:
        first, second = (program.values[name] for name in node.inputs)
        target = program.value(node.shape)
        for value in (first, second):
            value.memory.rows.join(target.memory.rows)

        def numbers() -> list[int]:
            return [first.record, second.record, target.record, program.clamp(operation)]

        operation = program.add(Operation(ADD, [first, second, target], numbers, open=True))
        program.values[node.name], program.last[node.name] = target, operation

    return write
