"""The selection in plain torch: runs on any device and is the oracle of the compiled kernels.

For every active output (effective path: Qiu et al., CVPR 2019, Eq. 1 and section 3.1; details of the artifact):

1. The contributions c_k = n_k · w_k over the receptive field without padding, negated where asked.
2. Where Σ c_k ≤ 0 or θ · size ≤ 1, the largest contribution alone.
3. Otherwise the shortest prefix, largest first, whose sum reaches θ · target; equal values by lowest position.
4. Where no prefix reaches it, every strictly positive contribution.

Products are taken in the input's type and summed in float64.
"""

from __future__ import annotations

import torch

from netpaths.kernels.problem import Chosen, Problem

ROW_ELEMENTS = 2_000_000
"""Contributions held at once; memory is about 60 bytes each."""


def select(problem: Problem) -> Chosen:
    """The smallest sufficient set of every active output; memory is bounded by ROW_ELEMENTS."""
    step = max(1, ROW_ELEMENTS // max(problem.field_size, 1))
    parts = [
        _select_rows(problem, slice(start, start + step)) for start in range(0, max(problem.active.numel(), 1), step)
    ]
    counts = torch.cat([part[0] for part in parts])
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Chosen(offsets, *(torch.cat([part[column] for part in parts]) for column in (1, 2, 3)))


def gather(problem: Problem, active: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Contributions, sources and validity of the receptive fields of ``active``: three (n, field_size) tensors."""
    _, channels, height, width = problem.inputs.shape
    out_height, out_width = problem.rows.shape[0], problem.cols.shape[0]
    x = active % out_width
    y = active // out_width % out_height
    o = active // (out_width * out_height) % problem.out_channels
    b = active // (out_width * out_height * problem.out_channels)
    group = o // (problem.out_channels // problem.groups)
    c = torch.arange(problem.channels_per_group, device=active.device)
    channel = (b * channels + group * problem.channels_per_group)[:, None] + c
    row, col = problem.rows[y], problem.cols[x]
    place = (channel[:, :, None, None] * height + row[:, None, :, None]) * width + col[:, None, None, :]
    valid = ((row >= 0)[:, None, :, None] & (col >= 0)[:, None, None, :]).expand_as(place)
    size = problem.field_size
    place, valid = place.reshape(-1, size), valid.reshape(-1, size)
    values = problem.inputs.reshape(-1)[torch.where(valid, place, 0)]
    if problem.weight is not None:
        values = values * problem.weight.reshape(problem.out_channels, size)[o]
    return values, place, valid


def _select_rows(problem: Problem, rows: slice) -> tuple[torch.Tensor, ...]:
    values, sources, valid = gather(problem, problem.active[rows])
    values = torch.where(problem.negate[rows][:, None], -values, values)
    target = None if problem.target is None else problem.target[rows]
    mask = choose(values, valid, problem.theta, target)
    positions = mask.nonzero()[:, 1]
    return mask.sum(1), positions, sources[mask], values[mask].float()


def choose(values: torch.Tensor, valid: torch.Tensor, theta: float, target: torch.Tensor | None) -> torch.Tensor:
    """Which contributions are chosen: (n, size) values and validity to an (n, size) boolean mask."""
    exact = torch.where(valid, values, 0).double()
    total = exact.sum(1)
    ranked, order = torch.where(valid, values, -torch.inf).sort(dim=1, descending=True, stable=True)
    prefix = torch.where(ranked == -torch.inf, 0.0, ranked.double()).cumsum(1)
    goal = theta * (total if target is None else target.double())
    reached = prefix >= goal[:, None]
    length = torch.where(reached.any(1), reached.int().argmax(1) + 1, (ranked > 0).sum(1))
    alone = (total <= 0) | (theta * valid.sum(1) <= 1)
    length = torch.where(alone, 1, length)
    length = torch.where(valid.any(1), length, 0)
    rank = torch.arange(values.shape[1], device=values.device)
    return torch.zeros_like(valid).scatter_(1, order, rank < length[:, None])
