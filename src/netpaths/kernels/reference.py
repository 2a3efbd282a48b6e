"""The selection in plain torch: runs on any device and is the oracle of the compiled kernels.

For every active output (effective path: Qiu et al., CVPR 2019, Eq. 1 and section 3.1; details of the artifact):

1. The contributions c_k = n_k · w_k over the receptive field without padding, negated where asked.
2. Where Σ c_k ≤ 0 or θ · size ≤ 1, the largest contribution alone.
3. Otherwise the shortest prefix, largest first, whose sum reaches θ · target; equal values by lowest position.
4. Where no prefix reaches it, every strictly positive contribution.

Products are taken in the input's type and summed in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce

import torch

from netpaths.kernels.problem import Chosen, Problem, Sums, area

ROW_ELEMENTS = 2_000_000
"""Contributions held at once; memory is about 60 bytes each."""


def select(problem: Problem) -> Chosen:
    """The smallest sufficient set of every active output; memory is bounded by ROW_ELEMENTS."""
    return _by_rows(problem, lambda rows: _smallest_sets(problem, rows))


def largest(problem: Problem, every: bool) -> Chosen:
    """The largest input of every active output's field: the first one, or every one that ties."""
    return _by_rows(problem, lambda rows: _maxima(problem, rows, every))


def operands(sums: Sums) -> Chosen:
    """The smallest sufficient operands of every active sum, or both; a field of two inputs with weights 1."""
    shape = (len(sums.first), 1, 1, area(sums.first.shape))
    device = sums.first.device
    problem = Problem(
        torch.cat([operand.reshape(shape) for operand in (sums.first, sums.second)], 1),
        None,
        torch.zeros(1, 1, dtype=torch.int64, device=device),
        torch.arange(shape[3], device=device)[:, None],
        2,
        1,
        sums.active.reshape(shape),
        sums.output.reshape(shape),
        None if sums.reversed is None else sums.reversed.reshape(shape),
        sums.theta,
        amounts=sums.amounts,
    )
    chosen = _by_rows(problem, lambda rows: _signed(problem, rows)[:3]) if sums.every else select(problem)
    reached = tuple(chosen.reached[0][:, place].reshape(sums.first.shape) for place in (0, 1))
    return replace(chosen, reached=reached)


def weights(chosen: Chosen, places: int) -> tuple[torch.Tensor, torch.Tensor]:
    """As `netpaths.kernels.weights`."""
    batch, outputs, size = chosen.shape
    weights = outputs // places * size
    keys = chosen.synapses // size // places * size + chosen.positions()
    keys = torch.unique(chosen.images() * weights + keys)
    return torch.searchsorted(keys, torch.arange(batch + 1, device=keys.device) * weights), keys % weights


def turned(
    before: torch.Tensor, after: torch.Tensor, falling: torch.Tensor, mask: torch.Tensor, reverse: torch.Tensor | None
) -> torch.Tensor:
    """As `netpaths.kernels.turned`."""
    downwards = (after < 0) ^ falling
    if reverse is not None:
        downwards = downwards ^ reverse
    return (downwards ^ (before < 0)) & mask


def merged(masks: Sequence[torch.Tensor], reverses: Sequence[torch.Tensor | None]) -> tuple[torch.Tensor, torch.Tensor]:
    """As `netpaths.kernels.merged`."""
    either = reduce(torch.bitwise_or, masks)
    silent = (~mask if reverse is None else reverse | ~mask for mask, reverse in zip(masks, reverses))
    return either, reduce(torch.bitwise_and, silent, either)


Answer = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""What is chosen, its values and sources, each (rows, field)."""


def _by_rows(problem: Problem, answer: Callable[[torch.Tensor], tuple[torch.Tensor, ...]]) -> Chosen:
    """The answers for slices of the active outputs as one."""
    active = problem.active.reshape(-1).nonzero()[:, 0]
    step = max(1, ROW_ELEMENTS // max(problem.field_size, 1))
    outputs = area(problem.active.shape)
    reached = torch.zeros(problem.inputs.shape, dtype=torch.bool, device=active.device)
    counts, synapses, values = [active.new_zeros(1)], [], []
    for start in range(0, max(active.numel(), 1), step):
        rows = active[start : start + step]
        mask, amounts, sources = answer(rows)
        found = mask.nonzero()
        counts.append(mask.sum(1))
        synapses.append(rows[found[:, 0]] % outputs * problem.field_size + found[:, 1])
        values.append(amounts[mask].float())
        reached.view(-1)[sources[mask]] = True
    shape = (len(problem.inputs), outputs, problem.field_size)
    amount = torch.cat(values) if problem.amounts else None
    return Chosen(shape, active, torch.cat(counts).cumsum(0), torch.cat(synapses), (reached,), amount)


def gather(problem: Problem, active: torch.Tensor) -> Answer:
    """Validity, contributions before any negation and sources of the fields of ``active``: (n, field_size) each."""
    _, channels, height, width = problem.inputs.shape
    out_channels, out_height, out_width = problem.active.shape[1:]
    x = active % out_width
    y = active // out_width % out_height
    o = active // (out_width * out_height) % out_channels
    b = active // (out_width * out_height * out_channels)
    group = o // (out_channels // problem.groups)
    c = torch.arange(problem.channels_per_group, device=active.device)
    channel = (b * channels + group * problem.channels_per_group)[:, None] + c
    row, col = problem.rows[y], problem.cols[x]
    place = (channel[:, :, None, None] * height + row[:, None, :, None]) * width + col[:, None, None, :]
    valid = ((row >= 0)[:, None, :, None] & (col >= 0)[:, None, None, :]).expand_as(place)
    size = problem.field_size
    place, valid = place.reshape(-1, size), valid.reshape(-1, size)
    values = problem.inputs.reshape(-1)[torch.where(valid, place, 0)]
    if problem.weight is not None:
        values = values * problem.weight.reshape(out_channels, size)[o]
    return valid, values, place


def _signed(problem: Problem, active: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Validity, contributions negated where asked, and sources (n, field_size); the outputs' values, too: (n,)."""
    valid, values, sources = gather(problem, active)
    own = problem.output.reshape(-1)[active]
    negate = own < 0
    if problem.reversed is not None:
        negate = negate ^ problem.reversed.reshape(-1)[active]
    return valid, torch.where(negate[:, None], -values, values), sources, torch.where(negate, -own, own)


def _smallest_sets(problem: Problem, active: torch.Tensor) -> Answer:
    valid, values, sources, own = _signed(problem, active)
    return choose(values, valid, problem.theta, own if problem.covers_value else None), values, sources


def _maxima(problem: Problem, active: torch.Tensor, every: bool) -> Answer:
    valid, values, sources = gather(problem, active)
    values = torch.where(valid, values, -torch.inf)
    mask = (values == values.max(1, keepdim=True).values) & valid
    return mask if every else mask & (mask.cumsum(1) == 1), values, sources


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
