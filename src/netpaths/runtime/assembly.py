"""Put the operations of a network together to a program of numbers, and order its parts and foreign nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netpaths.runtime._instructions import EXPORT, IMPORT, WORTH
from netpaths.runtime.lowering import Lowering
from netpaths.runtime.placement import WHOLE, Operation, mask, placed, whole
from netpaths.runtime.program import Program, Write

Order = Sequence[str | Sequence[str]]
"""Foreign nodes, and between them the native ones that run as one part."""


@dataclass(frozen=True, eq=False)
class Part:
    """Operations without a foreign one between them.

    start, stop: where they stand. reads, writes: the nodes whose dense values they take and give. marked: those of
    ``writes`` whose channels that are off other parts must know. shapes: of ``writes``. big: how many convolutions are
    worth sharing.
    """

    start: int
    stop: int
    reads: Sequence[str]
    writes: Sequence[str]
    marked: frozenset[str]
    shapes: Sequence[tuple[int, ...]]
    big: int


@dataclass(frozen=True, eq=False)
class Assembled:
    """A program. numbers: code, weights, masks, and where operations may write lists of their own.

    steps: its parts and the foreign nodes, as they run. floats, lists: the memory that a thread needs, the number of
    floats and the lists at the start. native: the nodes that the program computes.
    """

    numbers: tuple[Any, ...]
    steps: Sequence[str | Part]
    floats: int
    lists: Any
    native: Sequence[str]


def assemble(lowering: Lowering) -> Assembled:
    """The program of a network."""
    nodes = lowering.graph.nodes
    writes = {name: lowering.write(name) for name in nodes if name != lowering.graph.input}
    wiring = _Wiring(lowering, writes)
    order, program = wiring.order(), Program()
    lowering.foreign.keep(step for step in order if isinstance(step, str))
    drafts = [step if isinstance(step, str) else _draft(program, wiring, step) for step in order]
    numbers, starts, floats = _numbers(program)
    steps = [draft if isinstance(draft, str) else draft.part(program, starts) for draft in drafts]
    native = tuple(name for name, write in writes.items() if write is not None)
    return Assembled(numbers, steps, floats, program.lists.all(np.int64), native)


class _Wiring:
    """What each node must wait for. writes: by node, what writes it, None for a foreign one."""

    def __init__(self, lowering: Lowering, writes: Mapping[str, Write | None]) -> None:
        self.graph, self.writes, self._lowering = lowering.graph, writes, lowering
        self.needed = self._needed()

    def reads(self, name: str) -> tuple[str, ...]:
        """The nodes that must have run before."""
        if self.writes[name] is None:
            return self._lowering.foreign.reads(name)
        inputs, code = self.graph.nodes[name].inputs, self._lowering.gated.get(name)
        return inputs if code is None else (*inputs, code)

    def native(self, name: str) -> bool:
        """Whether the program computes the node."""
        return self.writes.get(name) is not None

    def _needed(self) -> list[str]:
        """Nodes that the output depends on, in order."""
        found: set[str] = set()
        left = [self.graph.output]
        while left:
            name = left.pop()
            if name not in found and name != self.graph.input:
                found.add(name)
                left += self.reads(name)
        return [name for name in self.graph.nodes if name in found]

    def order(self) -> Order:
        """Parts as long as possible, and what must run between them."""
        done, left = {self.graph.input}, self.needed
        order: list[str | list[str]] = []
        while left:
            part = self._ready([name for name in left if self.native(name)], done)
            order += [part] if part else []
            order += self._ready([name for name in left if not self.native(name)], done)
            left = [name for name in left if name not in done]
        return order

    def _ready(self, names: Iterable[str], done: set[str]) -> list[str]:
        """Those of ``names`` that can run one after the other; they are added to ``done``."""
        found = []
        for name in names:
            if done.issuperset(self.reads(name)):
                found.append(name)
                done.add(name)
        return found

    def wanted(self, part: Sequence[str], native: bool) -> set[str]:
        """Values of a part that are read outside of it, by native nodes or by foreign ones."""
        others = (name for name in self.needed if name not in part and self.native(name) == native)
        return {read for name in others for read in self.reads(name)} & set(part)


@dataclass(frozen=True, eq=False)
class _Draft:
    """A part before its operations are numbers: operations begin ≤ k < end of the program."""

    begin: int
    end: int
    reads: Sequence[str]
    writes: Sequence[str]
    marked: frozenset[str]
    shapes: Sequence[tuple[int, ...]]

    def part(self, program: Program, starts: Sequence[int]) -> Part:
        """The part, given where each operation starts."""
        big = sum(each.products >= WORTH for each in program.operations[self.begin : self.end])
        place = starts[self.begin], starts[self.end]
        return Part(*place, self.reads, self.writes, self.marked, self.shapes, big)


def _draft(program: Program, wiring: _Wiring, names: Sequence[str]) -> _Draft:
    """Write the operations of a part into the program."""
    begin, own, nodes = len(program.operations), set(names), wiring.graph.nodes
    program.values.clear()
    program.last.clear()
    reads = list(dict.fromkeys(read for name in names for read in wiring.reads(name) if read not in own))
    for slot, name in enumerate(reads):
        _import(program, name, nodes[name].shape, slot, wiring.native(name))
    for name in names:
        write = wiring.writes[name]
        assert write is not None
        write(program)
    marked = wiring.wanted(names, native=True)
    read = marked | wiring.wanted(names, native=False) | {wiring.graph.output}
    writes = [name for name in names if name in read]
    for slot, name in enumerate(writes, len(reads)):
        _export(program, name, slot, name in marked)
    shapes = [nodes[name].shape for name in writes]
    return _Draft(begin, len(program.operations), reads, writes, frozenset(marked), shapes)


def _import(program: Program, name: str, shape: Sequence[int], slot: int, marked: bool) -> None:
    value = program.values[name] = program.value(shape)
    program.add(Operation(IMPORT, [value], lambda: [value.record, slot, int(marked)]))


def _export(program: Program, name: str, slot: int, marked: bool) -> None:
    value = program.values[name]
    program.add(Operation(EXPORT, [value], lambda: [value.record, slot, int(marked)]))


def _numbers(program: Program) -> tuple[tuple[Any, ...], list[int], int]:
    """Place all values, and write everything down: the numbers, where each operation starts, the floats of a thread."""
    program.spare = placed(program.operations, 0)
    lines = [[each.kind, 0, *map(int, each.arguments())] for each in program.operations]
    masks, described = _masks(program)
    starts = [program.code.size]
    for line in lines:
        line[1] = starts[-1] + len(line)
        program.code.put(line)
        starts.append(line[1])
    code = program.code.all(np.int64)
    for place, record in described.items():
        code[place : place + len(record)] = record
    own = program.lists.put(np.zeros(program.wide, np.int64))
    numbers = (code, program.weights.all(np.float32), masks, own)
    return numbers, starts, whole(program.spare + program.room) + WHOLE


def _masks(program: Program) -> tuple[Any, dict[int, list[int]]]:
    """The masks of all forms of values, and every value's record by its place."""
    masks: dict[tuple[int, ...], tuple[int, Any]] = {}
    size, described = 0, {}
    for value in program.described:
        form = value.memory.form()
        if form not in masks:
            masks[form] = (size, mask(value.memory))
            size += value.memory.span
        described[value.record] = [*value.described, masks[form][0]]
    return np.concatenate([found for _, found in masks.values()]), described
