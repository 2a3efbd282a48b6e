"""From the nodes of a network to the operations of a program that computes chosen filters alone.

A function for each family looks at a node once. It returns what writes the node's operation into a program, or None for
a node that torch must run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np
import torch
from torch import Tensor

from netpaths.decoupling.controller import Controller, Gate, ScatteringGate
from netpaths.graph import Graph, Node, rows_and_cols
from netpaths.runtime._instructions import (
    ADD,
    AFFINE,
    CONV,
    FIXED,
    FLATTEN,
    GATE,
    LINEAR,
    MEAN,
    MOVE,
    POOL,
    RECORD,
    THRESHOLD,
)
from netpaths.runtime.foreign import Foreign
from netpaths.runtime.placement import Memory, Operation, Rows, Shape, Value, size_of, whole

CLAMPS: Mapping[str, tuple[str, str, float, float]] = {
    "relu": ("", "", 0, inf),
    "relu6": ("", "", 0, 6),
    "hardtanh": ("min_val", "max_val", -1, 1),
    "clamp": ("min", "max", -inf, inf),
}
"""Activations that only cut: the names of their bounds and the bounds without them."""


class Numbers:
    """Numbers written one behind the other, and their places."""

    def __init__(self) -> None:
        self.parts: list[np.ndarray] = []
        self.size = 0

    def put(self, numbers: Any, room: int = 0) -> int:
        """Write numbers and zeros up to ``room``; returns where they start."""
        part, start = np.asarray(numbers).reshape(-1), self.size
        if len(part) < room:
            part = np.concatenate([part, np.zeros(room - len(part), part.dtype)])
        self.parts.append(part)
        self.size += len(part)
        return start

    def all(self, kind: type) -> np.ndarray:
        """All of them."""
        return np.concatenate([part.astype(kind) for part in self.parts] or [np.zeros(0, kind)])


@dataclass(eq=False)
class Program:
    """A program as it grows.

    values, last: by node of the segment that is written now, its value and the operation that wrote it. everything: by
    number of channels, a list with all of them. room: floats that operations need for themselves, from ``spare`` on.
    wide: numbers that they need.
    """

    code: Numbers = field(default_factory=Numbers)
    weights: Numbers = field(default_factory=Numbers)
    lists: Numbers = field(default_factory=Numbers)
    operations: list[Operation] = field(default_factory=list)
    described: list[Value] = field(default_factory=list)
    values: dict[str, Value] = field(default_factory=dict)
    last: dict[str, Operation] = field(default_factory=dict)
    everything: dict[int, int] = field(default_factory=dict)
    room: int = 0
    spare: int = 0
    wide: int = 0

    def value(self, shape: Sequence[int]) -> Value:
        """A new value with memory of its own."""
        size = size_of(shape)
        return self._described(Value(size, Memory(size, len(shape) == 1, Rows(size[2])), *self._places(size)))

    def alias(self, of: Value, channels: int, shift: int = 0) -> Value:
        """A value in the memory of another one; its channel c + shift is channel c there."""
        size = (channels, *of.shape[1:])
        return self._described(Value(size, of.memory, *self._places(size), of.shift + shift))

    def _places(self, size: Shape) -> tuple[int, int]:
        return self.code.put(np.zeros(RECORD, np.int64)), self.lists.put(np.zeros(size[0] + 1, np.int64))

    def _described(self, value: Value) -> Value:
        self.described.append(value)
        self.wide = max(self.wide, value.shape[0])
        return value

    def add(self, operation: Operation) -> Operation:
        """Append an operation."""
        self.operations.append(operation)
        return operation

    def all_on(self, channels: int) -> int:
        """Where a list stands that has every one of so many channels on."""
        if channels not in self.everything:
            self.everything[channels] = self.lists.put([channels, *range(channels)])
        return self.everything[channels]

    def clamp(self, operation: Operation) -> int:
        """Where the bounds of an operation stand."""
        return self.weights.put(operation.clamp, 16)


Write = Callable[[Program], None]
"""Writes the operation of a node into a program that holds the values of its inputs."""


@dataclass(eq=False)
class Lowering:
    """What is known of a network while its nodes are looked at.

    gated: by convolution node, the node of the code that says which filters to compute. fixed: by controller node, the
    filters that are on for every image.
    """

    graph: Graph
    foreign: Foreign
    gated: Mapping[str, str]
    fixed: Mapping[str, Tensor]

    def write(self, name: str) -> Write | None:
        """What writes the node, or None where torch must run it."""
        node = self.graph.nodes[name]
        family = "" if node.family is None else node.family.name
        if len(node.shape) not in (1, 2, 3) or not self._plain(node):
            return None
        lower = FAMILIES.get(family)
        return None if lower is None else lower(self, node)

    def _plain(self, node: Node) -> bool:
        """Whether the node is a function, one of torch's own modules, or of a decoupled layer."""
        if not node.module:
            return True
        kind = type(self.graph.module.get_submodule(node.module))
        return kind.__module__.startswith("torch.nn.modules.") or kind in (Controller, Gate, ScatteringGate)

    def fusable(self, program: Program, name: str) -> Operation | None:
        """The operation that wrote the node's value, where its only reader may still change it."""
        operation = program.last.get(name)
        alone = len(self.graph.readers[name]) == 1 and name != self.graph.output
        return operation if operation is not None and operation.open and alone else None

    def probe(self, node: Node, filled: float) -> np.ndarray:
        """The node's output (*shape) where its input is filled with one number, in float64."""
        given = {name: torch.full((1, *self.graph.nodes[name].shape), filled).double() for name in node.inputs}
        return np.asarray(self.foreign.once(node.name, given)[0])


def lower_convolution(own: Lowering, node: Node) -> Write | None:
    """A convolution: all filters, or those that a code chose."""
    arguments, axes = node.arguments, len(node.shape) - 1
    if arguments["groups"] != 1 or (arguments.get("padding_mode") or "zeros") != "zeros":
        return None
    weight = node.weight.detach()
    weight = weight if axes == 2 else weight[:, :, None]
    stride, dilation = (rows_and_cols(arguments[name], axes, 1) for name in ("stride", "dilation"))
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
    return rows_and_cols(padding, axes, 0)


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


def lower_linear(own: Lowering, node: Node) -> Write | None:
    """A linear layer, on the inputs that are on."""
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
    module = own.graph.module.get_submodule(node.module)
    if type(module) is not Controller or len(node.input_shapes[0]) < 2:
        return None
    if node.name in own.fixed:
        return lambda program: _fixed(program, node, own.fixed[node.name])
    squeeze, excite = module.squeeze, module.excite

    def write(program: Program) -> None:
        mean, hidden, score = (f"{node.name} {part}" for part in ("mean", "hidden", "score"))
        size = size_of(node.input_shapes[0])
        _mean(program, node.inputs[0], mean, (size[0],), 1 / (size[1] * size[2]))
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


def lower_gate(own: Lowering, node: Node) -> Write | None:
    """A gate copies nothing, it takes filters off the list; one that scatters then copies those that are on."""
    chosen = own.graph.nodes[node.inputs[-1]]
    native = chosen.family is not None and chosen.family.name == "controller" and own.write(chosen.name) is not None
    if len(node.inputs) != 2 or not native:
        return None
    module = own.graph.module.get_submodule(node.module)

    def write(program: Program) -> None:
        source, code = (program.values[name] for name in node.inputs)
        target = program.alias(source, source.shape[0])
        program.add(Operation(GATE, [source, code, target], lambda: [source.record, code.record, target.record]))
        program.values[node.name] = target
        if isinstance(module, ScatteringGate):
            program.values[node.name] = program.value(node.shape)
            _move(program, target, program.values[node.name], Planes(module.kept.numpy(), 0, 1, 0, 1), False)

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


def lower_identity(own: Lowering, node: Node) -> Write | None:
    """What it reads."""

    def write(program: Program) -> None:
        (name,) = node.inputs
        program.values[node.name] = program.values[name]
        operation = own.fusable(program, name)
        if operation is not None:
            program.last[node.name] = operation

    return write


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
        return lambda program: _mean(program, node.inputs[0], node.name, node.shape, float(factors[0]))

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


def _mean(program: Program, source: str, target: str, shape: Sequence[int], factor: float) -> None:
    """Write the sum of every channel times a factor."""
    read, written = program.values[source], program.value(shape)
    where = program.weights.put([factor])
    program.add(Operation(MEAN, [read, written], lambda: [read.record, written.record, where]))
    program.values[target] = written


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
                _move(program, source, result, plane, index > 0)
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
    _move(program, source, target, plane, False, same=True)
    program.values[node.name] = target


def _move(program: Program, source: Value, target: Value, plane: Planes, more: bool, same: bool = False) -> None:
    table = program.code.put(plane.table)

    def numbers() -> list[int]:
        steps = [plane.top, plane.down, plane.left, plane.right]
        return [source.record, target.record, table, *steps, int(more), int(same)]

    program.add(Operation(MOVE, [source, target], numbers))


def _flatten(program: Program, source: Value, target: Value, start: int, more: bool) -> None:
    program.add(Operation(FLATTEN, [source, target], lambda: [source.record, target.record, start, int(more)]))


FAMILIES: Mapping[str, Callable[[Lowering, Node], Write | None]] = {
    "convolution": lower_convolution,
    "linear": lower_linear,
    "controller": lower_controller,
    "gate": lower_gate,
    "activation": lower_activation,
    "identity": lower_identity,
    "batch norm": lower_affine,
    "scaling": lower_affine,
    "subtraction": lower_affine,
    "negation": lower_affine,
    "addition": lower_addition,
    "max pooling": lower_pool,
    "average pooling": lower_pool,
    "rearrangement": lower_rearrangement,
}
"""What looks at a node, by its family."""
