"""Run a decoupled network for real: only the filters that an image's controllers choose are computed.

A masked network computes every filter and multiplies by 0. Here, for every image,

1. a controller is evaluated before its convolution, and gives the list of the filters to compute;
2. the convolution computes these alone and reads only the input channels that are on;
3. what is off is neither computed nor written nor read by anything behind it.

The network becomes a program of a few kinds of operation, which one compiled function runs from the pixels to the
logits. Operations that it does not have are run by torch on dense values, between two parts of the program.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netpaths.compiling import tolerant_cache
from netpaths.decoupling.insertion import FOLLOWED
from netpaths.decoupling.layers import decoupled_layers
from netpaths.errors import BadInput, BadOption
from netpaths.graph import Graph
from netpaths.runtime._instructions import HEAD, SLOT
from netpaths.runtime.assembly import Assembled, Part, assemble
from netpaths.runtime.foreign import Foreign
from netpaths.runtime.lowering import Lowering

LINE = 16
"""Floats of a cache line."""

NOBODY = np.empty(0, np.int64)
"""The team of a thread that works alone."""


def accelerate(network: nn.Module, example: Tensor, fixed: Mapping[str, Tensor] | None = None) -> Accelerated:
    """``network`` made ready to compute chosen filters alone, on the CPU.

    network: in float32, with controllers or without. example: one batch (batch, *input shape), for shapes alone.
    fixed: by decoupled convolution, which of its filters (filters,) bool are on for every image, instead of what its
    controller says; all of them for a network that computes everything. Later changes of the network's weights do not
    reach the result. Compiling takes some seconds, once on a machine. Raises what `netpaths.Graph` raises, and
    BadOption for another type of numbers, another device, or unknown or misshapen ``fixed``.
    """
    tensors = [*network.parameters(), *network.buffers(), example]
    if any(tensor.device.type != "cpu" for tensor in tensors):
        raise BadOption("networks are accelerated on the CPU; move the network and the example there")
    graph = Graph(network, example)
    if graph.dtype != torch.float32:
        raise BadOption(f"networks are accelerated in float32, this one takes {graph.dtype}")
    foreign = Foreign(graph)
    lowering = Lowering(graph, foreign, _gated(graph), _fixed(graph, fixed or {}))
    return Accelerated(graph, foreign, assemble(lowering))


class Accelerated:
    """A network that computes chosen filters alone: (batch, *input shape) float32 to logits (batch, classes).

    Its logits are the network's own up to rounding, unless a controller's score lies within rounding of 0. Several
    threads may call it at once. It uses as many threads as torch: images of a batch are shared among them, and the big
    convolutions of images that are left over. Memory: all weights once, and ``room`` bytes for every thread of every
    call at a time, kept for the next call.
    """

    def __init__(self, graph: Graph, foreign: Foreign, assembled: Assembled) -> None:
        self.native = assembled.native
        self._graph, self._foreign, self._assembled = graph, foreign, assembled
        self._free: list[tuple[Any, Any]] = []
        _compiled("work")

    @property
    def room(self) -> int:
        """Bytes of memory that a thread works in."""
        return 4 * self._assembled.floats + 8 * len(self._assembled.lists)

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (batch, classes) of images ``x`` (batch, *input shape), without a gradient; raises BadInput."""
        values, marks = {self._graph.input: self._checked(x)}, dict[str, Tensor]()
        for step in self._assembled.steps:
            if isinstance(step, str):
                values[step] = self._foreign.run(step, values).contiguous()
            else:
                self._run(step, values, marks, len(x))
        return values[self._graph.output]

    def _checked(self, x: Tensor) -> Tensor:
        """The images as contiguous values; raises BadInput."""
        if not isinstance(x, Tensor) or x.dtype != torch.float32 or tuple(x.shape[1:]) != self._graph.input_shape:
            self._graph.check(x)
        if x.device.type != "cpu":
            raise BadInput(f"images are on {x.device}, an accelerated network takes them on the CPU")
        x = x.detach().contiguous()
        if not _compiled("finite")(_addresses([x], []), 0, x.numel()):
            self._graph.check(x)
        return x

    def _run(self, part: Part, values: dict[str, Tensor], marks: dict[str, Tensor], images: int) -> None:
        """Run a part of the program; what it writes is added to ``values``, which channels are on to ``marks``."""
        for name, shape in zip(part.writes, part.shapes):
            values[name] = torch.empty(images, *shape)
            if name in part.marked:
                marks[name] = torch.empty(images, shape[0])
        names = (*part.reads, *part.writes)
        tensors = _addresses([values[name] for name in names], [marks.get(name) for name in names])
        self._share(part, tensors, images, torch.get_num_threads())

    def _share(self, part: Part, tensors: Any, images: int, threads: int) -> None:
        """Run a part with the help of other threads: they take whole images, or parts of the few left over."""
        rest = images % threads
        shared = rest if threads > 1 and 2 * rest <= threads and part.big else 0
        helpers = threads - 1 if shared else min(threads, images) - 1
        team = np.zeros(HEAD + SLOT * shared * part.big, np.int64) if helpers > 0 else NOBODY
        own = self._memory()
        call = (self._assembled.numbers, part.start, part.stop)
        work = (own, tensors, images, images - shared)
        asked = _ask(max(helpers, 0), self._help, call, work, team)
        _compiled("work")(*call, own, *work, True, team)
        for future in asked:
            future.cancel()
        self._free.append(own)

    def _help(self, call: tuple[Any, ...], work: tuple[Any, ...], team: Any) -> None:
        """What another thread does: nothing where all is done before it comes."""
        own = self._memory()
        _compiled("work")(*call, own, *work, False, team)
        self._free.append(own)

    def _memory(self) -> tuple[Any, Any]:
        """Floats and lists that no other thread uses."""
        try:
            return self._free.pop()
        except IndexError:
            return _aligned(self._assembled.floats), self._assembled.lists.copy()


def _addresses(values: Sequence[Tensor], marks: Sequence[Tensor | None]) -> Any:
    """Where values and their marks stand in memory, 0 for none."""
    pairs = zip_longest(values, marks)
    return np.array([0 if each is None else each.data_ptr() for pair in pairs for each in pair], np.int64)


def _ask(count: int, what: Callable[..., None], *arguments: Any) -> list[Future[None]]:
    """Ask other threads to help, as many as there are to be had."""
    asked = []
    for _ in range(count):
        try:
            asked.append(_helpers().submit(what, *arguments))
        except RuntimeError:  # no more threads, or Python is about to end: the one that calls does what is left
            break
    return asked


@cache
def _helpers() -> ThreadPoolExecutor:
    """Threads that help the one that calls."""
    return ThreadPoolExecutor(max(os.cpu_count() or 1, 2) - 1, "netpaths")


@cache
def _compiled(name: str) -> Any:
    """Compile on first use; numba caches the machine code on disk where it can."""
    with tolerant_cache():
        from netpaths.runtime import _program

    return getattr(_program, name)


def _aligned(size: int) -> Any:
    """Zeros that start at a cache line."""
    room = np.zeros(size + LINE, np.float32)
    start = (-room.ctypes.data // 4) % LINE
    return room[start : start + size]


def _gated(graph: Graph) -> dict[str, str]:
    """By convolution that computes chosen filters, the node of their code."""
    found, order = {}, list(graph.nodes)
    for node in graph.nodes.values():
        if _family(graph, node.name) == "gate" and len(node.inputs) == 2:
            name = _gated_layer(graph, node.inputs[0])
            if name is not None and order.index(node.inputs[1]) < order.index(name):
                found[name] = node.inputs[1]
    return found


def _gated_layer(graph: Graph, name: str) -> str | None:
    """The layer whose outputs only a gate behind ``name`` reads, or None."""
    while len(graph.readers[name]) == 1:
        node = graph.nodes[name]
        if node.layer:
            return name
        if _family(graph, name) not in FOLLOWED or len(node.inputs) != 1:
            return None
        (name,) = node.inputs
    return None


def _family(graph: Graph, name: str) -> str:
    family = graph.nodes[name].family
    return "" if family is None else family.name


def _fixed(graph: Graph, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By controller node, the filters that are on for every image; raises UnknownNode and BadOption."""
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
