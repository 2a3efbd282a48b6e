"""The selection kernels: CPU against reference, both against exhaustive search, exact where sums are exact."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from netpaths import EffectivePath, Graph
from netpaths.kernels import Chosen, Problem, cpu, distinct, reference

KERNELS = {"cpu": cpu.select, "reference": reference.select}
THETAS = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
FUZZ = settings(max_examples=150, deadline=None, derandomize=True)


def problem(
    values: list[list[float]],
    theta: float = 0.5,
    negate: list[bool] | None = None,
    target: list[float] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Problem:
    """One output per image whose contributions are the image's values: (images, size)."""
    inputs = torch.tensor(values, dtype=dtype)
    rows, size = inputs.shape
    flags = torch.zeros(rows, dtype=torch.bool) if negate is None else torch.tensor(negate)
    goal = None if target is None else torch.tensor(target, dtype=dtype)
    one = torch.zeros(1, 1, dtype=torch.int64)
    return Problem(inputs[:, :, None, None], None, one, one, 1, size, 1, torch.arange(rows), flags, theta, goal)


def rows_of(chosen: Chosen) -> list[list[int]]:
    return [part.tolist() for part in chosen.positions.split(chosen.counts().tolist())]


def assert_equal(first: Chosen, second: Chosen) -> None:
    for name in ("offsets", "positions", "sources", "values"):
        left, right = getattr(first, name), getattr(second, name)
        assert left.dtype == right.dtype
        assert torch.equal(left, right), name


def select(question: Problem) -> list[list[int]]:
    """The rows both kernels choose, after checking that they agree."""
    answers = [kernel(question) for kernel in KERNELS.values()]
    assert_equal(*answers)
    return rows_of(answers[0])


dyadic = st.integers(-64, 64).map(lambda number: number / 16)
fields = st.lists(dyadic, min_size=1, max_size=10)


def smallest(values: list[float], theta: float, target: float | None = None) -> list[set[int]]:
    """Every smallest subset whose exact sum reaches θ times the target; none where no subset does."""
    exact = [Fraction(value) for value in values]
    goal = Fraction(theta) * (sum(exact) if target is None else Fraction(target))
    for size in range(1, len(values) + 1):
        found = [set(part) for part in combinations(range(len(values)), size) if sum(exact[k] for k in part) >= goal]
        if found:
            return found
    return []


@FUZZ
@given(fields, st.sampled_from(THETAS))
def test_smallest_sufficient_set(values: list[float], theta: float) -> None:
    chosen = set(select(problem([values], theta))[0])
    if sum(values) <= 0:
        assert chosen == {values.index(max(values))}
    else:
        assert chosen in smallest(values, theta)


@FUZZ
@given(fields, st.sampled_from(THETAS), dyadic)
def test_smallest_sufficient_set_for_a_target(values: list[float], theta: float, target: float) -> None:
    chosen = set(select(problem([values], theta, target=[target]))[0])
    candidates = smallest(values, theta, target)
    if sum(values) <= 0 or theta * len(values) <= 1:
        assert chosen == {values.index(max(values))}
    elif candidates:
        assert chosen in candidates
    else:
        assert chosen == {k for k, value in enumerate(values) if value > 0}


@FUZZ
@given(fields, st.sampled_from(THETAS))
def test_equal_contributions_by_lowest_position(values: list[float], theta: float) -> None:
    chosen = set(select(problem([values], theta))[0])
    weakest = min(values[k] for k in chosen)
    tied = [k for k, value in enumerate(values) if value == weakest]
    copies = sum(k in chosen for k in tied)
    assert chosen >= set(tied[:copies])
    assert all(values[k] > weakest or k in tied for k in chosen)


@FUZZ
@given(fields, st.sampled_from(THETAS))
def test_negation_is_a_change_of_sign(values: list[float], theta: float) -> None:
    turned = [-value for value in values]
    assert select(problem([values], theta, negate=[True])) == select(problem([turned], theta))


@FUZZ
@given(fields, st.sampled_from(THETAS), st.sampled_from([2.0**-100, 2.0**-130, 2.0**100]))
def test_scale_changes_nothing(values: list[float], theta: float, scale: float) -> None:
    """Down to denormals and up to 1e32 the answer is the same: powers of two round nothing."""
    assert select(problem([[value * scale for value in values]], theta)) == select(problem([values], theta))


HARD: dict[str, list[float]] = {
    "zeros": [0.0] * 7,
    "minus zeros": [-0.0, 0.0, -0.0],
    "negative": [-3.0, -1.0, -2.0, -1.0],
    "one": [0.25],
    "one negative": [-0.25],
    "denormals": [1e-45, 3e-45, 1e-45, 0.0],
    "huge and tiny": [1e30, 1e-30, 1.0, 1e30],
    "all equal": [0.5] * 9,
    "cancels": [1.0, -1.0, 2.0, -2.0],
    "just positive": [1.0, -1.0, 2.0, -1.9375],
}


@pytest.mark.parametrize("theta", THETAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", HARD)
def test_hard_fields(name: str, dtype: torch.dtype, theta: float) -> None:
    values = torch.tensor(HARD[name], dtype=dtype).tolist()
    chosen = set(select(problem([values], theta, dtype=dtype))[0])
    if sum(map(Fraction, values)) <= 0:
        assert chosen == {values.index(max(values))}
    elif name != "huge and tiny":  # 1e30 + 1e-30 rounds in float64
        assert chosen in smallest(values, theta)
    else:
        assert chosen >= {0, 3} or theta <= 0.5


def test_unreachable_target_takes_everything_positive() -> None:
    assert select(problem([[1.0, -1.0, 2.0, 0.0]], 1.0, target=[100.0])) == [[0, 2]]


def test_negative_target_takes_the_largest() -> None:
    assert select(problem([[1.0, -1.0, 2.0, 0.5]], 1.0, target=[-5.0])) == [[2]]


def test_theta_one_leaves_zeros_out() -> None:
    assert select(problem([[1.0, 0.0, 2.0, 0.0]], 1.0)) == [[0, 2]]


def test_small_field_takes_the_largest() -> None:
    """1/size ≥ θ: the largest contribution alone, whatever the target."""
    assert select(problem([[1.0, 2.0]], 0.5, target=[100.0])) == [[1]]


# --- convolution-shaped problems -------------------------------------------------------------------------------------


def random_problem(seed: int, dtype: torch.dtype = torch.float32) -> Problem:
    """Groups, padding in tables, zeros and repeated values, some outputs negated, sometimes targets."""
    generator = torch.Generator().manual_seed(seed)

    def integer(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    groups, per_group, per_out = integer(1, 3), integer(1, 3), integer(1, 3)
    shape = (integer(1, 3), groups * per_group, integer(1, 6), integer(1, 6))
    inputs = torch.randn(shape, generator=generator).clamp(min=-0.5 if seed % 2 else 0)
    inputs = (inputs * 8).round() / 8 if seed % 3 else inputs
    tables = [torch.randint(-1, shape[axis], (integer(1, 4), integer(1, 3)), generator=generator) for axis in (2, 3)]
    weight = torch.randn(groups * per_out, per_group, tables[0].shape[1], tables[1].shape[1], generator=generator)
    outputs = shape[0] * groups * per_out * tables[0].shape[0] * tables[1].shape[0]
    active = torch.randperm(outputs, generator=generator)[: integer(0, outputs)].sort().values
    negate = torch.rand(active.numel(), generator=generator) < 0.5
    target = torch.randn(active.numel(), generator=generator).to(dtype) if seed % 5 == 0 else None
    return Problem(
        inputs.to(dtype),
        weight.to(dtype) if seed % 7 else None,
        *tables,
        groups * per_out,
        per_group,
        groups,
        active,
        negate,
        THETAS[seed % len(THETAS)],
        target,
    )


def brute(question: Problem, row: int) -> dict[int, tuple[int, float]]:
    """Candidates of one row by position: flat source and contribution, by explicit loops."""
    height, width = question.rows.shape[0], question.cols.shape[0]
    place = int(question.active[row])
    x, y, o = place % width, place // width % height, place // (width * height) % question.out_channels
    image = place // (width * height * question.out_channels)
    first = o // (question.out_channels // question.groups) * question.channels_per_group
    found, position = {}, 0
    for c in range(question.channels_per_group):
        for i in range(question.rows.shape[1]):
            for j in range(question.cols.shape[1]):
                r, s = int(question.rows[y, i]), int(question.cols[x, j])
                if r >= 0 and s >= 0:
                    at = (image, first + c, r, s)
                    value = question.inputs[at] * (1 if question.weight is None else question.weight[o, c, i, j])
                    shape = question.inputs.shape
                    source = ((at[0] * shape[1] + at[1]) * shape[2] + r) * shape[3] + s
                    found[position] = (source, float(-value if question.negate[row] else value))
                position += 1
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(70))
def test_kernels_agree(seed: int, dtype: torch.dtype) -> None:
    question = random_problem(seed, dtype)
    assert_equal(cpu.select(question), reference.select(question))


@pytest.mark.parametrize("seed", range(24))
def test_positions_sources_and_values(seed: int) -> None:
    question = random_problem(seed)
    chosen = cpu.select(question)
    for row in range(question.active.numel()):
        part = slice(int(chosen.offsets[row]), int(chosen.offsets[row + 1]))
        candidates = brute(question, row)
        positions = chosen.positions[part].tolist()
        assert positions == sorted(positions)
        assert len(set(positions)) == len(positions)
        assert bool(positions) == bool(candidates)
        for position, source, value in zip(positions, chosen.sources[part].tolist(), chosen.values[part].tolist()):
            assert candidates[position] == (source, pytest.approx(value, rel=1e-6))


def test_field_of_padding_alone_chooses_nothing() -> None:
    question = replace(problem([[1.0, 2.0]]), rows=torch.full((1, 1), -1))
    assert select(question) == [[]]


def test_no_active_output() -> None:
    empty = torch.empty(0, dtype=torch.int64)
    assert select(replace(problem([[1.0, 2.0]]), active=empty, negate=empty.bool())) == []


@pytest.mark.parametrize("kernel", [cpu, reference])
def test_pieces_join(kernel: object, monkeypatch: pytest.MonkeyPatch) -> None:
    question = random_problem(16)
    whole = KERNELS["cpu"](question)
    monkeypatch.setattr(kernel, "ROW_ELEMENTS", 20)
    assert_equal(kernel.select(question), whole)  # type: ignore[attr-defined]


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("seed", range(8))
def test_threads_do_not_matter(seed: int) -> None:
    question = random_problem(seed + 100)
    with torch_threads(1):
        alone = cpu.select(question)
    with torch_threads(2):
        assert_equal(cpu.select(question), alone)


@pytest.mark.parametrize("count", [1, 2])
def test_torch_keeps_its_threads(count: int) -> None:
    """Numba shares torch's OpenMP; left alone it would give torch its own number of threads."""
    with torch_threads(count):
        cpu.select(random_problem(3))
        assert torch.get_num_threads() == count


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_long_fields(dtype: torch.dtype) -> None:
    values = torch.randn(4, 3000, generator=torch.Generator().manual_seed(0)).add(0.2).to(dtype)
    for theta in THETAS:
        select(problem(values.tolist(), theta, dtype=dtype))


@FUZZ
@given(st.lists(st.lists(st.integers(0, 9), max_size=12), min_size=1, max_size=5))
def test_distinct(segments: list[list[int]]) -> None:
    offsets = torch.tensor([0, *[len(part) for part in segments]]).cumsum(0)
    keys = torch.tensor([key for part in segments for key in part], dtype=torch.int64)
    counts, kept = distinct(offsets, keys, 10)
    assert [part.tolist() for part in kept.split(counts.tolist())] == [sorted(set(part)) for part in segments]


# --- a network solved by hand ----------------------------------------------------------------------------------------


def rational(rows: list[list[int]], denominator: int, bias: list[int]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows))
    layer.weight = nn.Parameter(torch.tensor([[float(Fraction(n, denominator)) for n in row] for row in rows]))
    layer.bias = nn.Parameter(torch.tensor([float(Fraction(n, denominator)) for n in bias]))
    return layer


def hand_network() -> nn.Sequential:
    """Input x = (1, 2, -1). Weights in quarters.

    first:  h0 = 4/4·1 + 2/4·2 + 4/4·(-1) + 0   = 1        contributions 1, 1, -1      sum 1
            h1 = -4/4·1 + 1/4·2 - 8/4·(-1) + 2/4 = 2       contributions -1, 1/2, 2    sum 3/2
            h2 = 4/4·1 - 4/4·2 + 2/4·(-1) + 1/4  = -5/4    contributions 1, -2, -1/2   sum -3/2; ReLU gives 0
    second: g0 = 8/4·1 + 2/4·2 + 4/4·0 - 2/4     = 5/2     contributions 2, 1, 0       sum 3
            g1 = -4/4·1 + 4/4·2 + 8/4·0 - 6/4    = -1/2    contributions -1, 2, 0      sum 1; ReLU gives 0
            g2 = 1/4·1 + 6/4·2 + 4/4·0 + 0       = 13/4    contributions 1/4, 3, 0     sum 13/4
    third:  z0 = 4/4·5/2 + 8/4·0 + 4/4·13/4 + 0  = 23/4    contributions 5/2, 0, 13/4  sum 23/4
            z1 = 4/4·5/2 - 4/4·0 - 2/4·13/4 - 8/4 = -9/8   contributions 5/2, 0, -13/8 sum 7/8
    """
    return nn.Sequential(
        rational([[4, 2, 4], [-4, 1, -8], [4, -4, 2]], 4, [0, 2, 1]),
        nn.ReLU(),
        rational([[8, 2, 4], [-4, 4, 8], [1, 6, 4]], 4, [-2, -6, 0]),
        nn.ReLU(),
        rational([[4, 8, 4], [4, -4, -2]], 4, [0, -8]),
    )


def hand_path(**options: object) -> dict[str, list[list[int]]]:
    x = torch.tensor([[1.0, 2.0, -1.0]])
    graph = Graph(hand_network(), x)
    path = EffectivePath(**options).extract(graph, x)[0]  # type: ignore[arg-type]
    return {layer: path.synapses(layer).nonzero().tolist() for layer in graph.layers}


def test_hand_solved_values() -> None:
    x = torch.tensor([[1.0, 2.0, -1.0]])
    trace = Graph(hand_network(), x).run(x, record="all")
    assert trace["_0"].tolist() == [[1.0, 2.0, -1.25]]
    assert trace["_2"].tolist() == [[2.5, -0.5, 3.25]]
    assert trace.logits.tolist() == [[5.75, -1.125]]


def test_hand_solved_half() -> None:
    """z0 needs 23/8: 13/4 alone. g2 needs 13/8: 3 alone. h1 needs 3/4: 2 alone."""
    assert hand_path(theta=0.5) == {"_4": [[0, 2]], "_2": [[2, 1]], "_0": [[1, 2]]}


def test_hand_solved_most() -> None:
    """z0 needs 207/40: both. g0 needs 27/10: both; g2 needs 117/40: 3 alone. h0 needs 9/10: the first 1 alone, a tie;
    h1 needs 27/20: 2 alone."""
    assert hand_path(theta=0.9) == {"_4": [[0, 0], [0, 2]], "_2": [[0, 0], [0, 1], [2, 1]], "_0": [[0, 0], [1, 2]]}


def test_hand_solved_whole() -> None:
    """z0: both. g0: 2 + 1; g2: 3 + 1/4. h0 needs 1: the first 1; h1 needs 3/2: 2."""
    expected = {"_4": [[0, 0], [0, 2]], "_2": [[0, 0], [0, 1], [2, 0], [2, 1]], "_0": [[0, 0], [1, 2]]}
    assert hand_path(theta=1.0) == expected


def test_hand_solved_neuron_target() -> None:
    """z0: both. g0 needs 9/4: 2 + 1; g2 needs 117/40: 3. h0 needs 9/10: 1; h1 needs 9/5: 2."""
    expected = {"_4": [[0, 0], [0, 2]], "_2": [[0, 0], [0, 1], [2, 1]], "_0": [[0, 0], [1, 2]]}
    assert hand_path(theta=0.9, target="neuron") == expected


def test_hand_solved_second_rank() -> None:
    """z1 = -9/8 is explained downwards: contributions -5/2, 0, 13/8 sum to -7/8, so 13/8 alone, the way of g2."""
    assert hand_path(theta=0.5, rank=2) == {"_4": [[1, 2]], "_2": [[2, 1]], "_0": [[1, 2]]}
