"""The CPU kernels made ready before they are timed or waited for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from time import perf_counter
from typing import Any

import torch

from netpaths.kernels import cpu
from netpaths.kernels.problem import Problem, Sums


def warm_up(dtype: torch.dtype = torch.float32) -> float:
    """Run every compiled CPU kernel on tiny problems whose values are ``dtype``; the wall-clock seconds it took.

    A kernel is compiled for a type when it is first used on a machine, which takes seconds; later processes load it
    from numba's cache on disk.
    """
    started = perf_counter()
    for problem in (_convolution(dtype), _pooling(dtype)):
        chosen = cpu.select(problem)
        cpu.largest(problem, every=False)
        cpu.weights(chosen, places=4)
    values, active = torch.ones(1, 2, dtype=dtype), torch.ones(1, 2, dtype=torch.bool)
    cpu.operands(Sums(values, values, active, values, None, 0.5))
    cpu.turned(values, values, active, active, active)
    cpu.merged([active, active], [active, None])
    return perf_counter() - started


def compilations() -> int:
    """How often this process had to compile a kernel because numba's cache did not hold it."""
    return sum(sum(kernel.stats.cache_misses.values()) for kernel in _kernels())


def is_cached() -> bool:
    """Whether compiled kernels are kept on disk: numba has a folder for its cache that it may write to."""
    return all(kernel.stats.cache_path is not None for kernel in _kernels())


def _kernels() -> Iterator[Any]:
    return (cpu.compiled(name) for name in ("select", "windows", "largest", "operands", "weights", "turned", "merged"))


def _convolution(dtype: torch.dtype) -> Problem:
    """One kernel of 2 × 2 over an image of 3 × 3."""
    windows = torch.tensor([[0, 1], [1, 2]])
    ones = torch.ones(1, 1, 3, 3, dtype=dtype)
    active = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    return Problem(
        inputs=ones,
        weight=ones[:, :, :2, :2],
        rows=windows,
        cols=windows,
        channels_per_group=1,
        groups=1,
        active=active,
        output=4 * ones[:, :, :2, :2],
        reversed=None,
        theta=0.5,
        bias=torch.zeros(1, dtype=dtype),
    )


def _pooling(dtype: torch.dtype) -> Problem:
    """The same without weights and bias."""
    return replace(_convolution(dtype), weight=None, bias=None)
