"""The selection compiled for the CPU: every active output of a layer for the whole batch, in parallel.

The same answer as `netpaths.kernels.reference`, whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch

from netpaths.compiling import tolerant_cache
from netpaths.kernels.problem import Chosen, Problem, Sums, area

NO_MARKS = np.empty(0, np.uint8)


def select(problem: Problem) -> Chosen:
    """The smallest sufficient set of every active output."""
    from netpaths.lanes import WORD

    reached = torch.zeros(problem.inputs.shape, dtype=torch.bool)
    small = problem.weight is None and problem.field_size <= WORD
    answer = (_windows if small else _select)(problem, marks(reached))
    return _chosen(
        answer, (len(problem.inputs), area(problem.active.shape), problem.field_size), (reached,), problem.amounts
    )


def _select(problem: Problem, reached: Any) -> tuple[Any, ...]:
    weight, stride = _rows_of_lanes(problem)
    nothing = torch.zeros(problem.active.shape[1], dtype=problem.inputs.dtype)
    bias = nothing if problem.bias is None else problem.bias
    layer = (weight, flat(problem.output), marks(problem.reversed), flat(problem.weight_norms()), flat(bias))
    answer: tuple[Any, ...] = parallel("select")(
        flat(problem.inputs),
        (*problem.inputs.shape, problem.active.shape[1]),
        layer,
        stride,
        problem.rows.numpy(),
        problem.cols.numpy(),
        marks(problem.active),
        (float(problem.theta), problem.covers_value, problem.amounts),
        problem.groups,
        reached,
    )
    return answer


def _windows(problem: Problem, reached: Any) -> tuple[Any, ...]:
    answer: tuple[Any, ...] = parallel("windows")(
        flat(problem.inputs),
        (*problem.inputs.shape, problem.active.shape[1]),
        problem.rows.numpy(),
        problem.cols.numpy(),
        marks(problem.active),
        flat(problem.output),
        marks(problem.reversed),
        (float(problem.theta), problem.covers_value, problem.amounts),
        problem.groups,
        reached,
    )
    return answer


def largest(problem: Problem, every: bool) -> Chosen:
    """The largest input of every active output's field: the first one, or every one that ties."""
    reached = torch.zeros(problem.inputs.shape, dtype=torch.bool)
    answer = parallel("largest")(
        flat(problem.inputs),
        (*problem.inputs.shape, problem.active.shape[1]),
        problem.rows.numpy(),
        problem.cols.numpy(),
        marks(problem.active),
        problem.groups,
        every,
        problem.amounts,
        marks(reached),
    )
    return _chosen(
        answer, (len(problem.inputs), area(problem.active.shape), problem.field_size), (reached,), problem.amounts
    )


def operands(sums: Sums) -> Chosen:
    """The smallest sufficient operands of every active sum."""
    batch, outputs = len(sums.first), area(sums.first.shape)
    reached = tuple(torch.zeros(sums.first.shape, dtype=torch.bool) for _ in range(2))
    answer = parallel("operands")(
        flat(sums.first),
        flat(sums.second),
        (batch, outputs),
        marks(sums.active),
        flat(sums.output),
        marks(sums.reversed),
        float(sums.theta),
        sums.every,
        sums.amounts,
        *map(marks, reached),
    )
    return _chosen(answer, (batch, outputs, 2), reached, sums.amounts)


def weights(chosen: Chosen, places: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As `netpaths.kernels.weights`."""
    answer = parallel("weights")(
        chosen.active.numpy(), chosen.offsets.numpy(), chosen.synapses.numpy(), chosen.shape, places
    )
    bounds, keys = map(torch.from_numpy, answer)
    return bounds, keys


def turned(
    before: torch.Tensor, after: torch.Tensor, falling: torch.Tensor, mask: torch.Tensor, reverse: torch.Tensor | None
) -> torch.Tensor:
    """As `netpaths.kernels.turned`."""
    found = torch.empty(mask.shape, dtype=torch.bool)
    wide = falling.reshape(*(1 for _ in range(mask.dim() - falling.dim())), *falling.shape)
    if wide.numel() in (1, wide.shape[1]):
        lines = falling.reshape(-1).expand(mask.shape[1]).repeat(len(mask))
    else:
        lines = falling.expand(mask.shape)
    parallel("turned")(flat(before), flat(after), marks(lines), marks(mask), marks(reverse), marks(found))
    return found


def merged(masks: Sequence[torch.Tensor], reverses: Sequence[torch.Tensor | None]) -> tuple[torch.Tensor, torch.Tensor]:
    """As `netpaths.kernels.merged`."""
    either, found = (torch.empty(masks[0].shape, dtype=torch.bool) for _ in range(2))
    parts = [mask.contiguous() for mask in masks]
    turns = [None if reverse is None else reverse.contiguous() for reverse in reverses]
    places = [(part.data_ptr(), 0 if turn is None else turn.data_ptr()) for part, turn in zip(parts, turns)]
    parallel("merged")(np.array(places, np.uint64), marks(either), marks(found))
    return either, found


def _chosen(
    answer: tuple[Any, ...], shape: tuple[int, int, int], reached: tuple[torch.Tensor, ...], amounts: bool
) -> Chosen:
    active, offsets, synapses, values = map(torch.from_numpy, answer)
    return Chosen(shape, active, offsets, synapses, reached, values if amounts else None)


def flat(tensor: torch.Tensor) -> Any:
    """A tensor's values as a flat array, which shares its memory where that is contiguous."""
    return tensor.detach().contiguous().numpy().reshape(-1)


def marks(mask: torch.Tensor | None) -> Any:
    """A boolean tensor as flat bytes, which share its memory; none as no bytes."""
    return NO_MARKS if mask is None else mask.contiguous().numpy().reshape(-1).view(np.uint8)


def _rows_of_lanes(problem: Problem) -> tuple[Any, int]:
    """Weights as rows of whole lanes, flat, and the length of a row; one row of ones, of length 0, for no weights."""
    from netpaths.lanes import LANES

    size = problem.field_size
    whole = -(-size // LANES) * LANES
    if problem.weight is None:
        return np.ones(whole, problem.inputs.numpy().dtype), 0
    weight = problem.weight.detach().to(problem.inputs.dtype).reshape(-1, size)
    if whole != size:
        weight = torch.nn.functional.pad(weight, (0, whole - size))
    return flat(weight), whole


def parallel(name: str) -> Callable[..., Any]:
    """A compiled function whose last argument, the number of workers, is torch's number of threads."""
    import numba

    threads = torch.get_num_threads()
    if numba.get_num_threads() != threads:
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    function = compiled(name)

    def call(*arguments: Any) -> Any:
        answer = function(*arguments, threads)
        if torch.get_num_threads() != threads:  # numba shares torch's OpenMP and may leave torch with its own number
            torch.set_num_threads(threads)
        return answer

    return call


@cache
def compiled(name: str) -> Any:
    """Compile on first use; numba caches the machine code on disk where it can."""
    with tolerant_cache():
        from netpaths.kernels import _largest, _masks, _operands, _select, _weights, _windows

    modules = {
        "select": _select,
        "windows": _windows,
        "largest": _largest,
        "operands": _operands,
        "weights": _weights,
        "turned": _masks,
        "merged": _masks,
    }
    return getattr(modules[name], name)
