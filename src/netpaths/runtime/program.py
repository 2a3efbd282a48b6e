"""A program of operations as it grows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from netpaths.runtime._instructions import RECORD
from netpaths.runtime.placement import Memory, Operation, Rows, Shape, Value, size_of


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
