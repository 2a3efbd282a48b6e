"""Selection kernels: the smallest set of contributions that covers a share of every active output.

Each question has one answer, whatever the device, the batch it comes in and the number of threads: `reference` is
plain torch, runs everywhere and is the oracle; `cpu` is compiled; `gpu` is compiled by Triton, where that is installed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache, reduce
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch

from netpaths.kernels import cpu, reference
from netpaths.kernels.problem import Chosen, Problem, Sums

__all__ = [
    "Chosen",
    "Problem",
    "Sums",
    "cpu",
    "has_gpu",
    "largest",
    "merged",
    "operands",
    "reference",
    "select",
    "turned",
    "weights",
]


def has_gpu(device: torch.device) -> bool:
    """Whether `netpaths.kernels.gpu` runs on ``device``: on CUDA, or anywhere where Triton interprets its kernels."""
    return _has_triton() and (device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1")


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def _for(tensor: torch.Tensor) -> ModuleType:
    if tensor.device.type == "cpu":
        return cpu
    return import_module("netpaths.kernels.gpu") if has_gpu(tensor.device) else reference


def select(problem: Problem) -> Chosen:
    """The smallest sufficient set of every active output."""
    chosen: Chosen = _for(problem.inputs).select(problem)
    return chosen


def largest(problem: Problem, every: bool) -> Chosen:
    """The largest input of every active output's field: the first one, or every one that ties."""
    chosen: Chosen = _for(problem.inputs).largest(problem, every)
    return chosen


def operands(sums: Sums) -> Chosen:
    """The smallest sufficient operands of every active sum."""
    chosen: Chosen = _for(sums.first).operands(sums)
    return chosen


def weights(chosen: Chosen, places: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The distinct weights of each image's chosen synapses, where ``places`` outputs share a channel's weights.

    Returns where each image's weights start and end, (batch + 1,) int64, and their flat positions in the layer's
    weight, ascending within an image.
    """
    if places == 1:  # every weight belongs to one synapse
        return chosen.bounds, chosen.synapses
    found: tuple[torch.Tensor, torch.Tensor] = _for(chosen.synapses).weights(chosen, places)
    return found


def turned(
    before: torch.Tensor, after: torch.Tensor, falling: torch.Tensor, mask: torch.Tensor, reverse: torch.Tensor | None
) -> torch.Tensor:
    """Neurons before a monotone map that must be explained against their own sign: bool like ``mask``.

    before, after: (batch, *shape) values. falling: bool, broadcasts against them, where the map falls. mask: (batch,
    *shape) bool, active neurons. reverse: those explained against the sign of ``after``, or None.
    """
    found: torch.Tensor = _simple(mask).turned(before, after, falling, mask, reverse)
    return found


def merged(
    masks: Sequence[torch.Tensor], reverses: Sequence[torch.Tensor | None]
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What several readers selected together, and what all that selected it turn round; None where none turns any.

    masks: bool of one shape (batch, *shape), one a reader. reverses: of the same shape, what that reader turns round,
    or None.
    """
    if all(reverse is None for reverse in reverses):
        return reduce(torch.bitwise_or, masks), None
    found: tuple[torch.Tensor, torch.Tensor] = _simple(masks[0]).merged(masks, reverses)
    return found


def _simple(tensor: torch.Tensor) -> ModuleType:
    """Where there is nothing to compile for a GPU."""
    return cpu if tensor.device.type == "cpu" else reference
