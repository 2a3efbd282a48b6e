"""The selection compiled for the CPU: every active output of a layer for the whole batch, in parallel.

Each worker gathers the contributions of one receptive field, finds the smallest chosen value by a partition search
over the positive ones (expected linear time), and emits positions in ascending order. The same answer as
`netpaths.kernels.reference`, whatever the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch

from netpaths.kernels.problem import Chosen, Problem

ROW_ELEMENTS = 4_000_000
"""Upper bound of contributions chosen at once; memory is 20 bytes each."""


def select(problem: Problem) -> Chosen:
    """The smallest sufficient set of every active output; memory is bounded by ROW_ELEMENTS."""
    size = problem.field_size
    step = max(1, ROW_ELEMENTS // max(size, 1))
    arrays = _arrays(problem)
    active, negate, target = arrays.pop("active"), arrays.pop("negate"), arrays.pop("target")
    parts = []
    with _torch_threads():
        for start in range(0, active.size, step):
            rows = slice(start, start + step)
            goal = target[rows] if target.size else target
            parts.append(_compiled()["select"](active[rows], negate[rows], goal, **arrays))
    counts = np.concatenate([part[0] for part in parts]) if parts else np.empty(0, np.int64)
    offsets = np.zeros(counts.size + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    columns = [
        np.concatenate([part[column] for part in parts]) if parts else np.empty(0, kind)
        for column, kind in ((1, np.int64), (2, np.int64), (3, np.float32))
    ]
    return Chosen(torch.from_numpy(offsets), *(torch.from_numpy(column) for column in columns))


@contextmanager
def _torch_threads() -> Iterator[None]:
    """As many workers as torch has; numba shares torch's OpenMP and would leave torch with its own number."""
    import numba

    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _arrays(problem: Problem) -> dict[str, Any]:
    inputs = problem.inputs.detach().contiguous()
    weight = problem.weight
    if weight is None:
        flat = inputs.new_empty((0, 0))
    else:
        flat = weight.detach().to(inputs.dtype).reshape(problem.out_channels, -1).contiguous()
    target = np.empty(0) if problem.target is None else problem.target.detach().double().numpy()
    return {
        "active": problem.active.numpy(),
        "negate": problem.negate.numpy(),
        "target": target,
        "inputs": inputs.numpy(),
        "weight": flat.numpy(),
        "rows": problem.rows.numpy(),
        "cols": problem.cols.numpy(),
        "out_channels": problem.out_channels,
        "per_group": problem.channels_per_group,
        "groups": problem.groups,
        "theta": float(problem.theta),
    }


@cache
def _compiled() -> dict[str, Any]:
    """Compile on first use; numba caches the machine code on disk."""
    from netpaths.kernels import _compiled_cpu

    return {"select": _compiled_cpu.select}
