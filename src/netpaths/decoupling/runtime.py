"""Run a decoupled network for real: only the filters that an image's controllers choose are computed.

A masked network computes every filter and multiplies by 0. Here, for every image,

1. a controller is evaluated before its convolution, and gives the list of the filters to compute;
2. the convolution computes these alone and reads only the input channels that are on;
3. what is off is neither computed nor written nor read by anything behind it.

The network becomes a program of a few kinds of operation, which one compiled function runs from the pixels to the
logits. Operations that it does not have are run by torch on dense values, between two parts of the program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netpaths.compiling import tolerant_cache
from netpaths.decoupling.foreign import Foreign
from netpaths.decoupling.lowering import EXPORT, IMPORT, Lowering, Program, Write
from netpaths.decoupling.placement import Operation, Value, mask, placed
from netpaths.errors import BadInput, BadOption
from netpaths.graph import Graph

LINE = 16
"""Floats of a cache line."""

_TOGETHER = Lock()
"""Held while compiled code runs in several threads."""


def accelerate(network: nn.Module, example: Tensor, fixed: Mapping[str, Tensor] | None = None) -> Accelerated:
    """``network`` made ready to compute chosen filters alone, on the CPU.

    network: in float32, with controllers or without. example: one batch (batch, *input shape), for shapes alone.
    fixed: by decoupled convolution, which of its filters (filters,) bool are on for every image, instead of what its
    controller says; all of them for a network that computes everything. Later changes of the network's weights do not
    reach the result. Compiling takes some seconds, once on a machine. Raises what `netpaths.Graph` raises, and
    BadOption for another type of numbers, another device, or unknown or misshapen ``fixed``.
    """
    graph = Graph(network, example)
    tensors = [*network.parameters(), *network.buffers(), example]
    if any(tensor.device.type != "cpu" for tensor in tensors):
        raise BadOption("networks are accelerated on the CPU; move the network and the example there")
    if graph.dtype != torch.float32:
        raise BadOption(f"networks are accelerated in float32, this one takes {graph.dtype}")
    foreign = Foreign(graph)
    lowering = Lowering(graph, foreign, _gated(graph), _fixed(graph, fixed or {}))
    return Accelerated(graph, foreign, _Built(lowering))


class Accelerated:
    """A network that computes chosen filters alone: (batch, *input shape) float32 to logits (batch, classes).

    Its logits are the network's own up to rounding, unless a controller's score lies within rounding of 0. Several
    threads may call it at once. It uses as many threads as torch: one for each image of a batch. Memory: all weights
    once, and ``room`` bytes for every thread of every call at a time, kept for the next call.
    """

    def __init__(self, graph: Graph, foreign: Foreign, built: _Built) -> None:
        self.input_shape, self.classes, self.native = graph.input_shape, graph.classes, built.native
        self._check, self._foreign, self._built = graph.check, foreign, built
        self._free: list[tuple[Any, Any]] = []

    @property
    def room(self) -> int:
        """Bytes of memory that a thread works in."""
        return 4 * self._built.floats + 8 * len(self._built.lists)

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of images ``x`` (batch, *input shape); raises BadInput."""
        if isinstance(x, Tensor) and x.device.type != "cpu":
            raise BadInput(f"images are on {x.device}, an accelerated network takes them on the CPU")
        self._check(x)
        built = self._built
        values: dict[str, Tensor] = {built.input: x.detach().contiguous()}
        marks: dict[str, Tensor] = {}
        for step in built.steps:
            if isinstance(step, str):
                values[step] = self._foreign.run(step, values).contiguous()
            elif len(x):
                self._run(step, values, marks, len(x))
            else:
                values.update({name: x.new_zeros(0, *shape) for name, shape in step.writes.items()})
        return values[built.output]

    def _run(self, part: _Part, values: dict[str, Tensor], marks: dict[str, Tensor], images: int) -> None:
        """Run a part of the program; what it writes is added to ``values``, what is on in it to ``marks``."""
        for name, shape in part.writes.items():
            values[name], marks[name] = torch.zeros(images, *shape), torch.zeros(images, shape[0])
        places = [(values[name].data_ptr(), marks[name].data_ptr() if name in marks else 0) for name in part.names]
        tensors = np.array(places, np.int64).reshape(-1)
        workers = min(torch.get_num_threads(), images)
        if workers > 1 and _TOGETHER.acquire(blocking=False):
            try:
                self._work(workers, _together, part, tensors, images)
            finally:
                _TOGETHER.release()
        else:
            self._work(1, _alone, part, tensors, images)

    def _work(self, workers: int, how: Any, part: _Part, tensors: Any, images: int) -> None:
        try:
            floats, lists = self._free.pop()
        except IndexError:
            floats, lists = _aligned(0), np.zeros(0, np.int64)
        built = self._built
        if floats.size < workers * built.floats:
            floats, lists = _aligned(workers * built.floats), np.tile(built.lists, workers)
        size = workers * built.floats, workers * len(built.lists)
        how(built.program, part.start, part.stop, floats[: size[0]], lists[: size[1]], tensors, images, workers)
        self._free.append((floats, lists))


def _alone(*arguments: Any) -> None:
    _compiled("run_alone")(*arguments[:-1])


def _together(*arguments: Any) -> None:
    import numba

    threads = torch.get_num_threads()
    if numba.get_num_threads() != threads:
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    _compiled("run_together")(*arguments[:-1], np.zeros(1, np.int64), arguments[-1])
    if torch.get_num_threads() != threads:  # numba shares torch's OpenMP and may leave torch with its own number
        torch.set_num_threads(threads)


@cache
def _compiled(name: str) -> Any:
    """Compile on first use; numba caches the machine code on disk where it can."""
    with tolerant_cache():
        from netpaths.decoupling import _program

    return getattr(_program, name)


def _aligned(size: int) -> Any:
    """Zeros that start at a cache line."""
    room = np.zeros(size + LINE, np.float32)
    start = (-room.ctypes.data // 4) % LINE
    return room[start : start + size]


def _gated(graph: Graph) -> dict[str, str]:
    """By convolution that computes chosen filters, the node of their code."""
    found = {}
    for name, node in graph.nodes.items():
        if node.family is None or node.family.name != "gate" or len(node.inputs) != 2:
            continue
        features, code = node.inputs
        while graph.readers[features] and len(graph.readers[features]) == 1:
            inner = graph.nodes[features]
            if inner.layer:
                if _before(graph, code, features):
                    found[features] = code
                break
            if len(inner.inputs) != 1:
                break
            (features,) = inner.inputs
    return found


def _before(graph: Graph, first: str, second: str) -> bool:
    names = list(graph.nodes)
    return names.index(first) < names.index(second)


def _fixed(graph: Graph, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By controller node, the filters that are on for every image; raises UnknownNode and BadOption."""
    from netpaths.decoupling.layers import decoupled_layers

    layers = {layer.convolution: layer for layer in decoupled_layers(graph)} if given else {}
    found = {}
    for name, on in given.items():
        filters = graph.node(name).shape[0]
        if name not in layers:
            raise BadOption(f"{name} has no controller; these layers have one: {', '.join(layers)}")
        if not isinstance(on, Tensor) or on.dtype != torch.bool or tuple(on.shape) != (filters,):
            raise BadOption(f"fixed codes of {name} must be a bool tensor ({filters},)")
        found[layers[name].controller] = on.detach().cpu().clone()
    return found


@dataclass(frozen=True, eq=False)
class _Part:
    """Operations without a foreign one between them.

    start, stop: where they stand. names: the nodes whose dense values they read or write. writes: the shapes of those
    that they write.
    """

    start: int
    stop: int
    names: Sequence[str]
    writes: Mapping[str, tuple[int, ...]]


class _Built:
    """The program of a network, and the order in which its parts and foreign nodes run."""

    def __init__(self, lowering: Lowering) -> None:
        self.graph = graph = lowering.graph
        self.input, self.output = graph.input, graph.output
        writes = {name: lowering.write(name) for name in graph.nodes if name != graph.input}
        self.native = tuple(name for name, write in writes.items() if write is not None)
        self._writes, self._lowering, self._program = writes, lowering, Program()
        order = self._order()
        lowering.foreign.keep(name for step in order if isinstance(step, str) for name in [step])
        drafts = [step if isinstance(step, str) else self._draft(step) for step in order]
        self._finish(drafts)

    def _reads(self, name: str) -> tuple[str, ...]:
        """The nodes that must have run before."""
        if self._writes[name] is None:
            return self._lowering.foreign.reads(name)
        code = self._lowering.gated.get(name)
        return self.graph.nodes[name].inputs if code is None else (*self.graph.nodes[name].inputs, code)

    def _order(self) -> list[str | list[str]]:
        """Foreign nodes, and between them lists of native ones as long as possible."""
        done, left = {self.graph.input}, self._needed()
        order: list[str | list[str]] = []
        while left:
            part = []
            for name in left:
                if self._writes[name] is not None and done.issuperset(self._reads(name)):
                    part.append(name)
                    done.add(name)
            foreign = []
            for name in left:
                if self._writes[name] is None and done.issuperset(self._reads(name)):
                    foreign.append(name)
                    done.add(name)
            order += [part, *foreign] if part else foreign
            left = [name for name in left if name not in done]
        return order

    def _needed(self) -> list[str]:
        """Nodes that the output depends on, in order."""
        found: set[str] = set()
        left = [self.graph.output]
        while left:
            name = left.pop()
            if name not in found and name != self.graph.input:
                found.add(name)
                left += self._reads(name)
        return [name for name in self.graph.nodes if name in found]

    def _draft(self, names: Sequence[str]) -> tuple[int, int, list[str], dict[str, tuple[int, ...]]]:
        """Write the operations of a part; which they are, what it reads and writes."""
        program, graph, begin = self._program, self.graph, len(self._program.operations)
        program.values.clear()
        program.last.clear()
        own = set(names)
        outside = [read for name in names for read in self._reads(name) if read not in own]
        slots = list(dict.fromkeys(outside))
        for slot, name in enumerate(slots):
            self._import(name, slot)
        for name in names:
            write: Write | None = self._writes[name]
            if write is not None:
                write(program)
        wanted = {read for name in self._needed() if name not in own for read in self._reads(name)} | {graph.output}
        writes = {name: graph.nodes[name].shape for name in names if name in wanted}
        for name in writes:
            self._export(program.values[name], len(slots))
            slots.append(name)
        return begin, len(program.operations), slots, writes

    def _import(self, name: str, slot: int) -> None:
        value = self._program.value(self.graph.nodes[name].shape)
        marked = int(self._writes.get(name) is not None)
        self._program.add(Operation(IMPORT, [value], lambda: [value.record, slot, marked]))
        self._program.values[name] = value

    def _export(self, value: Value, slot: int) -> None:
        self._program.add(Operation(EXPORT, [value], lambda: [value.record, slot]))

    def _finish(self, drafts: Sequence[Any]) -> None:
        """Place the values in memory and write everything down as numbers."""
        program = self._program
        program.spare = placed(program.operations, 0)
        lines = [[each.kind, 0, *map(int, each.arguments())] for each in program.operations]
        masks, forms = [], {}
        records = {}
        size = 0
        for value in program.described:
            form = value.memory.form()
            if form not in forms:
                forms[form] = size
                masks.append(mask(value.memory))
                size += len(masks[-1])
            records[value.record] = [*value.described, forms[form]]
        start = program.code.size
        starts = [start]
        for line in lines:
            line[1] = starts[-1] + len(line)
            starts.append(line[1])
            program.code.put(line)
        code = program.code.all(np.int64)
        for record, numbers in records.items():
            code[record : record + len(numbers)] = numbers
        wide = program.lists.put(np.zeros(program.wide, np.int64))
        self.lists = program.lists.all(np.int64)
        self.floats = -(-(program.spare + program.room + LINE) // LINE) * LINE
        self.program = (code, program.weights.all(np.float32), np.concatenate(masks or [np.zeros(0, np.int32)]), wide)
        self.steps = [
            draft if isinstance(draft, str) else _Part(starts[draft[0]], starts[draft[1]], *draft[2:])
            for draft in drafts
        ]
        del self._program, self._writes, self._lowering, self.graph
