"""Selection kernels: the smallest set of contributions that covers a share of every active output."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from netpaths.kernels import cpu, reference
from netpaths.kernels.problem import Chosen, Problem

__all__ = ["Chosen", "Problem", "cpu", "distinct", "reference", "select"]


def select(problem: Problem) -> Chosen:
    """The smallest sufficient set of every active output, by the kernel for the inputs' device."""
    if problem.inputs.device.type == "cpu":
        return cpu.select(problem)
    return reference.select(problem)


def distinct(offsets: torch.Tensor, keys: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Distinct keys of every segment, ascending.

    offsets: (segments + 1,) int64, segment s is keys[offsets[s]:offsets[s + 1]]. keys: int64 in [0, size).
    Returns the counts (segments,) and the kept keys, segment after segment, both on the CPU.
    """
    counts, kept = _distinct()(offsets.cpu().numpy(), keys.cpu().numpy(), size)
    return torch.from_numpy(counts), torch.from_numpy(kept)


@cache
def _distinct() -> Any:
    from netpaths.kernels import _compiled_cpu

    return _compiled_cpu.distinct
