"""The selection kernels: CPU against reference, both against exhaustive search, exact where sums are exact."""

from __future__ import annotations

import random
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
from netpaths.graph import window_table
from netpaths.kernels import Chosen, Problem, Sums, cpu, reference

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
    everything = torch.ones(rows, 1, 1, 1, dtype=torch.bool)
    output, turned = directed(flags, goal, dtype)
    return Problem(
        inputs[:, :, None, None],
        None,
        one,
        one,
        size,
        1,
        everything,
        output.reshape(-1, 1, 1, 1),
        turned.reshape(-1, 1, 1, 1),
        theta,
        goal is not None,
        True,
    )


def directed(negate: torch.Tensor, goal: torch.Tensor | None, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Values of outputs and what is turned round, so that ``negate`` is negated and ``goal`` is the target."""
    sign = torch.where(negate, -1.0, 1.0).to(dtype)
    output = (torch.ones_like(sign) if goal is None else goal) * sign
    return output, (output < 0) ^ negate


def rows_of(chosen: Chosen) -> list[list[int]]:
    return [part.tolist() for part in chosen.positions().split(chosen.counts().tolist())]


def assert_equal(first: Chosen, second: Chosen) -> None:
    assert first.shape == second.shape
    pairs = [(getattr(first, name), getattr(second, name)) for name in ("active", "offsets", "synapses", "values")]
    for left, right in [*pairs, *zip(first.reached, second.reached, strict=True)]:
        assert left.dtype == right.dtype
        assert torch.equal(left, right)


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
    outputs = (shape[0], groups * per_out, tables[0].shape[0], tables[1].shape[0])
    active = torch.rand(outputs, generator=generator) < torch.rand((), generator=generator)
    negate = torch.rand(outputs, generator=generator) < 0.5
    target = torch.randn(outputs, generator=generator).to(dtype) if seed % 5 == 0 else None
    return Problem(
        inputs.to(dtype),
        weight.to(dtype) if seed % 7 else None,
        *tables,
        per_group,
        groups,
        active,
        *directed(negate, target, dtype),
        THETAS[seed % len(THETAS)],
        target is not None,
        True,
    )


def brute(question: Problem, place: int) -> dict[int, tuple[int, float]]:
    """Candidates of one output by position: flat source and contribution, by explicit loops."""
    image, o, y, x = (int(index) for index in torch.unravel_index(torch.tensor(place), question.active.shape))
    first = o // (question.active.shape[1] // question.groups) * question.channels_per_group
    assert question.reversed is not None
    at = (image, o, y, x)
    negate = bool(question.output[at] < 0) ^ bool(question.reversed[at])
    found, position = {}, 0
    for c in range(question.channels_per_group):
        for i in range(question.rows.shape[1]):
            for j in range(question.cols.shape[1]):
                r, s = int(question.rows[y, i]), int(question.cols[x, j])
                if r >= 0 and s >= 0:
                    value = question.inputs[image, first + c, r, s]
                    value = value * (1 if question.weight is None else question.weight[o, c, i, j])
                    shape = question.inputs.shape
                    source = ((image * shape[1] + first + c) * shape[2] + r) * shape[3] + s
                    found[position] = (source, float(-value if negate else value))
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
    assert chosen.active.tolist() == question.active.reshape(-1).nonzero()[:, 0].tolist()
    assert chosen.values is not None
    reached = set()
    for row, place in enumerate(chosen.active.tolist()):
        part = slice(int(chosen.offsets[row]), int(chosen.offsets[row + 1]))
        candidates = brute(question, place)
        positions = chosen.positions()[part].tolist()
        assert positions == sorted(positions)
        assert len(set(positions)) == len(positions)
        assert bool(positions) == bool(candidates)
        assert chosen.synapses[part].tolist() == [place % chosen.shape[1] * chosen.shape[2] + k for k in positions]
        assert [candidates[k][1] for k in positions] == pytest.approx(chosen.values[part].tolist(), rel=1e-6)
        reached |= {candidates[k][0] for k in positions}
    assert set(chosen.reached[0].reshape(-1).nonzero()[:, 0].tolist()) == reached


def test_field_of_padding_alone_chooses_nothing() -> None:
    question = replace(problem([[1.0, 2.0]]), rows=torch.full((1, 1), -1))
    assert select(question) == [[]]


def test_no_active_output() -> None:
    question = problem([[1.0, 2.0]])
    nothing = replace(question, active=torch.zeros_like(question.active))
    assert select(nothing) == []
    for kernel in KERNELS.values():
        assert kernel(replace(nothing, amounts=False)).values is None


@pytest.mark.parametrize("rows", [1, 7, 20])
def test_pieces_join(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    question = random_problem(16)
    whole = cpu.select(question)
    monkeypatch.setattr(reference, "ROW_ELEMENTS", rows)
    assert_equal(reference.select(question), whole)


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


def real_problem(seed: int, dtype: torch.dtype = torch.float32, **shape: int) -> Problem:
    """A convolution as networks have it: its true outputs, padding, and a random share of them active."""
    sizes = {"batch": 2, "channels": 24, "side": 9, "out": 20, "kernel": 3, **shape}
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(sizes["batch"], sizes["channels"], sizes["side"], sizes["side"], generator=generator)
    weight = torch.randn(sizes["out"], sizes["channels"], sizes["kernel"], sizes["kernel"], generator=generator)
    inputs, weight = inputs.clamp(min=0).to(dtype), weight.to(dtype)
    border = sizes["kernel"] // 2
    output = nn.functional.conv2d(inputs, weight, padding=border)
    table = torch.arange(output.shape[2])[:, None] + torch.arange(sizes["kernel"]) - border
    table = torch.where((table >= 0) & (table < sizes["side"]), table, -1)
    active = torch.rand(output.shape, generator=generator) < 0.3
    theta = THETAS[seed % len(THETAS)]
    return Problem(inputs, weight, table, table, sizes["channels"], 1, active, output, None, theta, amounts=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(18))
def test_kernels_agree_on_convolutions(seed: int, dtype: torch.dtype) -> None:
    question = real_problem(seed, dtype, kernel=1 + seed % 3 * 2, channels=(3, 16, 40, 64)[seed % 4])
    assert_equal(cpu.select(question), reference.select(question))


def any_convolution(seed: int) -> Problem:
    """A convolution of any shape: wide and narrow kernels, strides, dilation, groups, padding, any share active."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    groups, channels, out = draw.choice([1, 1, 2, 3]), draw.choice([1, 3, 8, 17, 40]), draw.choice([1, 3, 8, 20])
    kernel = (draw.choice([1, 2, 3, 5]), draw.choice([1, 2, 3, 4, 5, 7, 8, 9, 11, 16, 17, 20]))
    stride, dilation = (draw.choice([1, 2]), draw.choice([1, 3])), (1, draw.choice([1, 1, 2]))
    border = (draw.randint(0, kernel[0] // 2), draw.randint(0, kernel[1] // 2))
    side = (kernel[0] + draw.randrange(1, 20), dilation[1] * kernel[1] + draw.randrange(1, 30))
    inputs = torch.randn(draw.choice([1, 2, 3]), channels * groups, *side, generator=generator)
    inputs = inputs.relu() if seed % 2 else inputs
    weight = torch.randn(out * groups, channels, *kernel, generator=generator)
    output = nn.functional.conv2d(inputs, weight, None, stride, border, dilation, groups)
    rows, cols = (
        window_table(side[k], output.shape[2 + k], kernel[k], stride[k], dilation[k], (border[k], border[k]))
        for k in (0, 1)
    )
    active = torch.rand(output.shape, generator=generator) < draw.choice([0.02, 0.2, 0.7])
    turned = active & (torch.rand(output.shape, generator=generator) < 0.3) if seed % 3 == 0 else None
    theta, value = draw.choice(THETAS), seed % 5 == 0
    return Problem(inputs, weight, rows, cols, channels, groups, active, output, turned, theta, value, amounts=True)


@pytest.mark.parametrize("seed", range(60))
def test_kernels_agree_on_any_convolution(seed: int) -> None:
    question = any_convolution(seed)
    assert_equal(cpu.select(question), reference.select(question))


@pytest.mark.parametrize("scale", [2.0**-70, 2.0**-60, 2.0**60])
def test_kernels_agree_far_from_one(scale: float) -> None:
    """Products that are denormal, and lengths whose squares would leave float32."""
    question = real_problem(4)
    scaled = replace(question, inputs=question.inputs * scale, output=question.output * scale)
    assert_equal(cpu.select(scaled), reference.select(scaled))
    tiny = replace(scaled, weight=question.weight * scale) if scale < 1 and question.weight is not None else scaled
    assert_equal(cpu.select(tiny), reference.select(tiny))


@pytest.mark.parametrize("theta", THETAS)
def test_sums_that_nearly_cancel(theta: float) -> None:
    """Sums around 0 and goals on the edge of a prefix, which a sum in float32 would decide wrongly."""
    generator = torch.Generator().manual_seed(3)
    half = torch.randint(1, 1 << 20, (40, 300), generator=generator).float()
    rows = torch.cat([half, -half[:, torch.randperm(300, generator=generator)]], 1)
    rows[:, 0] += torch.randint(-2, 3, (40,), generator=generator)
    select(problem(rows.tolist(), theta))


@pytest.mark.parametrize("hint", ["norms", "bias"])
def test_hints_do_not_matter(hint: str) -> None:
    """The lengths are what they would be computed as; the bias is a guess and may be nonsense."""
    question = real_problem(1)
    assert question.weight is not None
    given = {"norms": question.weight_norms(), "bias": 1e6 * torch.randn(len(question.weight))}
    assert_equal(cpu.select(replace(question, **{hint: given[hint]})), reference.select(question))


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("seed", range(30))
def test_largest_agree(seed: int, every: bool) -> None:
    question = replace(random_problem(seed), weight=None)
    assert_equal(cpu.largest(question, every), reference.largest(question, every))


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(12))
def test_operands_agree(seed: int, dtype: torch.dtype, every: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randint(-4, 5, (3, 5, 7, 3), generator=generator).to(dtype) / 4 for _ in range(2))
    active, turned = (torch.rand(first.shape, generator=generator) < 0.5 for _ in range(2))
    turned_or_none = turned if seed % 2 else None
    sums = Sums(first, second, active, first + second, turned_or_none, THETAS[seed % len(THETAS)], every, True)
    assert_equal(cpu.operands(sums), reference.operands(sums))


@pytest.mark.parametrize("seed", range(20))
def test_weights_agree(seed: int) -> None:
    question = random_problem(seed)
    chosen, places = cpu.select(question), question.active.shape[2] * question.active.shape[3]
    bounds, keys = cpu.weights(chosen, places)
    expected: list[set[int]] = [set() for _ in range(chosen.shape[0])]
    for image, synapse in zip(chosen.images().tolist(), chosen.synapses.tolist()):
        expected[image].add(synapse // chosen.shape[2] // places * chosen.shape[2] + synapse % chosen.shape[2])
    assert [part.tolist() for part in keys.split(bounds.diff().tolist())] == [sorted(part) for part in expected]
    for left, right in zip((bounds, keys), reference.weights(chosen, places), strict=True):
        assert torch.equal(left, right)


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
    assert trace["0"].tolist() == [[1.0, 2.0, -1.25]]
    assert trace["2"].tolist() == [[2.5, -0.5, 3.25]]
    assert trace.logits.tolist() == [[5.75, -1.125]]


def test_hand_solved_half() -> None:
    """z0 needs 23/8: 13/4 alone. g2 needs 13/8: 3 alone. h1 needs 3/4: 2 alone."""
    assert hand_path(theta=0.5) == {"4": [[0, 2]], "2": [[2, 1]], "0": [[1, 2]]}


def test_hand_solved_most() -> None:
    """z0 needs 207/40: both. g0 needs 27/10: both; g2 needs 117/40: 3 alone. h0 needs 9/10: the first 1 alone, a tie;
    h1 needs 27/20: 2 alone."""
    assert hand_path(theta=0.9) == {"4": [[0, 0], [0, 2]], "2": [[0, 0], [0, 1], [2, 1]], "0": [[0, 0], [1, 2]]}


def test_hand_solved_whole() -> None:
    """z0: both. g0: 2 + 1; g2: 3 + 1/4. h0 needs 1: the first 1; h1 needs 3/2: 2."""
    expected = {"4": [[0, 0], [0, 2]], "2": [[0, 0], [0, 1], [2, 0], [2, 1]], "0": [[0, 0], [1, 2]]}
    assert hand_path(theta=1.0) == expected


def test_hand_solved_neuron_target() -> None:
    """z0: both. g0 needs 9/4: 2 + 1; g2 needs 117/40: 3. h0 needs 9/10: 1; h1 needs 9/5: 2."""
    expected = {"4": [[0, 0], [0, 2]], "2": [[0, 0], [0, 1], [2, 1]], "0": [[0, 0], [1, 2]]}
    assert hand_path(theta=0.9, target="neuron") == expected


def test_hand_solved_second_rank() -> None:
    """z1 = -9/8 is explained downwards: contributions -5/2, 0, 13/8 sum to -7/8, so 13/8 alone, the way of g2."""
    assert hand_path(theta=0.5, rank=2) == {"4": [[1, 2]], "2": [[2, 1]], "0": [[1, 2]]}


def test_maps_that_fall_along_the_last_axis_are_not_taken_for_channels() -> None:
    """A layer norm's scale, with as many values as there are tokens."""
    generator = torch.Generator().manual_seed(0)
    before, after = (torch.randn(2, 5, 4, 5, generator=generator) for _ in range(2))
    mask = torch.rand(before.shape, generator=generator) < 0.7
    for shape in ((5,), (1, 5), (5, 1, 1), (1, 5, 1, 1), (4, 1), (5, 4, 5), (1,), ()):
        falling = torch.randn(shape, generator=generator) < 0
        wanted = reference.turned(before, after, falling, mask, None)
        assert torch.equal(cpu.turned(before, after, falling, mask, None), wanted), shape
