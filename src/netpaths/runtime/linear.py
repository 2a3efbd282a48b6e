"""Linear layers in the program, and the controllers that are made of them."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from netpaths.decoupling.controller import Controller
from netpaths.graph import Node
from netpaths.runtime._instructions import FIXED, LINEAR, THRESHOLD
from netpaths.runtime.placement import Operation, size_of, whole
from netpaths.runtime.pooling import write_mean
from netpaths.runtime.program import Program, Write

if TYPE_CHECKING:
    from netpaths.runtime.lowering import Lowering


def lower_linear(own: Lowering, node: Node) -> Write | None:
    """A linear layer of vectors, on the inputs that are on."""
    if len(node.shape) != 1:
        return None
    weight, bias = node.weight.detach(), node.arguments.get("bias")

    def write(program: Program) -> None:
        _linear(program, node.inputs[0], node.name, weight, bias)

    return write


def _linear(program: Program, source: str, target: str, weight: Tensor, bias: Tensor | None) -> Operation:
    """Write a linear layer from one value to another; weight: (outputs, inputs)."""
    outputs, inputs = weight.shape
    step = whole(outputs)
    padded = np.zeros((inputs, step), np.float32)
    padded[:, :outputs] = weight.T.numpy()
    rows = program.weights.put(padded)
    constants = program.weights.put(np.zeros(outputs) if bias is None else bias.detach().numpy(), step)
    read, written = program.values[source], program.value((outputs,))

    def numbers() -> list[int]:
        return [read.record, written.record, rows, step, constants, program.clamp(operation)]

    operation = program.add(Operation(LINEAR, [read, written], numbers, open=True))
    program.values[target], program.last[target] = written, operation
    return operation


def lower_controller(own: Lowering, node: Node) -> Write | None:
    """A controller: mean, two linear layers and a threshold; or the code that is the same for every image."""
    module: Controller = node.arguments["module"]
    if len(node.input_shapes[0]) < 2:
        return None
    if node.name in own.fixed:
        return lambda program: _fixed(program, node, own.fixed[node.name])
    squeeze, excite = module.squeeze, module.excite

    def write(program: Program) -> None:
        mean, hidden, score = (f"{node.name} {part}" for part in ("mean", "hidden", "score"))
        size = size_of(node.input_shapes[0])
        write_mean(program, node.inputs[0], mean, (size[0],), 1 / (size[1] * size[2]))
        _linear(program, mean, hidden, squeeze.weight.detach(), squeeze.bias).clamp = (0, inf)
        _linear(program, hidden, score, excite.weight.detach(), excite.bias)
        read, code = program.values[score], program.value(node.shape)
        program.add(Operation(THRESHOLD, [read, code], lambda: [read.record, code.record]))
        program.values[node.name] = code

    return write


def _fixed(program: Program, node: Node, on: Tensor) -> None:
    """Write a code that is the same for every image; on: (filters,) bool."""
    code, chosen = program.value(node.shape), np.flatnonzero(on.numpy())
    table = program.code.put(chosen)
    program.add(Operation(FIXED, [code], lambda: [code.record, table, len(chosen)]))
    program.values[node.name] = code
