"""The Triton kernel against the reference: on a CUDA device where there is one, else interpreted."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from importlib import import_module
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

from netpaths import kernels
from netpaths.kernels import Chosen, Problem, cpu, reference

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
THETAS = (0.05, 0.5, 0.9, 1.0)
SLACK = 1e-6


def interpret(patch: pytest.MonkeyPatch) -> None:
    """Have Triton interpret its kernels, where it cannot compile them."""
    if DEVICE.type == "cpu":
        patch.setenv("TRITON_INTERPRET", "1")


def kernel() -> ModuleType:
    """The module under test; Triton decides when it is imported whether its kernels are interpreted."""
    with pytest.MonkeyPatch.context() as patch:
        interpret(patch)
        pytest.importorskip("triton", reason="Triton is not installed: pip install 'netpaths[gpu]'")
        return import_module("netpaths.kernels.gpu")


gpu = kernel()


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    interpret(monkeypatch)


def moved(question: Problem) -> Problem:
    """The same question on the device under test."""
    parts = {field.name: getattr(question, field.name) for field in fields(question)}
    return Problem(**{name: part.to(DEVICE) if torch.is_tensor(part) else part for name, part in parts.items()})


def answer_of(question: Problem) -> Chosen:
    chosen = gpu.select(moved(question))
    parts = (chosen.active.cpu(), chosen.offsets.cpu(), chosen.synapses.cpu(), (chosen.reached[0].cpu(),))
    return Chosen(chosen.shape, *parts, None if chosen.values is None else chosen.values.cpu())


def rows_of(chosen: Chosen) -> list[list[int]]:
    return [row.tolist() for row in chosen.synapses.split(chosen.counts().tolist())]


def hanging(question: Problem) -> set[int]:
    """Rows whose answer changes with a relative change of θ by SLACK."""
    thetas = (question.theta * (1 - SLACK), question.theta * (1 + SLACK))
    less, more = (rows_of(reference.select(replace(question, theta=theta))) for theta in thetas)
    return {row for row in range(len(less)) if less[row] != more[row]}


def assert_equal(chosen: Chosen, expected: Chosen) -> None:
    assert chosen.shape == expected.shape
    assert (chosen.values is None) == (expected.values is None)
    for name in ("active", "offsets", "synapses", "values"):
        left, right = getattr(chosen, name), getattr(expected, name)
        assert left is right is None or (left.dtype == right.dtype and torch.equal(left, right)), name
    assert chosen.reached[0].dtype == torch.bool
    assert torch.equal(chosen.reached[0], expected.reached[0])


def assert_same(question: Problem, expected: Chosen | None = None) -> None:
    """Equal to the expected answer, the reference's if there is none, but for rows that hang on rounding."""
    chosen, expected = answer_of(question), expected or reference.select(question)
    assert torch.equal(chosen.active, expected.active)
    pairs = enumerate(zip(rows_of(chosen), rows_of(expected)))
    different = {row for row, (left, right) in pairs if left != right}
    if not different:
        assert_equal(chosen, expected)
        return
    print(f"{len(different)} of {len(chosen.active)} rows hang on less than {SLACK} relative and differ")
    assert different <= hanging(question)


# --- questions -------------------------------------------------------------------------------------------------------


def table(length: int, size: int, stride: int, padding: int, dilation: int) -> torch.Tensor:
    """What a convolution reads along one axis: (outputs, size) int64, -1 for padding."""
    outputs = (length + 2 * padding - dilation * (size - 1) - 1) // stride + 1
    place = torch.arange(outputs)[:, None] * stride + torch.arange(size) * dilation - padding
    return torch.where((place >= 0) & (place < length), place, -1)


def convolution(
    shape: tuple[int, int, int, int],
    outs: int,
    size: tuple[int, int] = (3, 3),
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
    seed: int = 0,
) -> Problem:
    """A random convolution, of which about a third of the outputs are active and some of those reversed."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(shape, generator=generator).clamp(min=-0.2)
    weight = torch.randn(outs, shape[1] // groups, *size, generator=generator)
    output = F.conv2d(inputs, weight, None, stride, padding, dilation, groups)
    rows, cols = (table(shape[2 + axis], size[axis], stride, padding, dilation) for axis in (0, 1))
    active, turned = (torch.rand(output.shape, generator=generator) < share for share in (0.3, 0.2))
    per_group = shape[1] // groups
    return Problem(inputs, weight, rows, cols, per_group, groups, active, output, turned, 0.5, amounts=True)


def linear(batch: int, size: int, outs: int, seed: int = 0) -> Problem:
    return convolution((batch, size, 1, 1), outs, (1, 1), seed=seed)


def fields_of(values: list[list[float]], theta: float = 0.5) -> Problem:
    """One active output per image, whose contributions are the image's values, of the sign of their sum."""
    inputs = torch.tensor(values)[:, :, None, None]
    one = torch.zeros(1, 1, dtype=torch.int64)
    active = torch.ones(len(values), 1, 1, 1, dtype=torch.bool)
    return Problem(inputs, None, one, one, inputs.shape[1], 1, active, active.float(), None, theta, amounts=True)


CONVOLUTIONS = {
    "plain": convolution((2, 3, 6, 5), 4),
    "padding": convolution((2, 3, 5, 6), 4, padding=1),
    "more padding than field": convolution((1, 1, 3, 3), 2, (2, 2), padding=2),
    "stride": convolution((2, 4, 7, 7), 3, stride=2, padding=1),
    "dilation": convolution((1, 2, 9, 8), 3, dilation=2, padding=2),
    "groups": convolution((2, 6, 5, 5), 8, groups=2, padding=1),
    "depthwise": convolution((2, 5, 6, 6), 10, groups=5, padding=1),
    "one by one": convolution((2, 20, 4, 4), 6, (1, 1)),
    "one by one in groups": convolution((2, 12, 4, 3), 6, (1, 1), stride=2, groups=3),
    "signal": convolution((2, 4, 1, 12), 3, (1, 4)),
    "wide": convolution((1, 70, 4, 4), 4, padding=1),
    "linear": linear(3, 37, 10),
    "long linear": linear(1, 2100, 4),
    "one input": linear(3, 1, 4),
}


@pytest.mark.parametrize("theta", THETAS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name: str, theta: float) -> None:
    assert_same(replace(CONVOLUTIONS[name], theta=theta))


@pytest.mark.parametrize("theta", THETAS)
def test_the_value_as_target(theta: float) -> None:
    question = CONVOLUTIONS["groups"]
    biased = question.output + torch.randn(question.output.shape, generator=torch.Generator().manual_seed(1))
    assert_same(replace(question, theta=theta, output=biased, covers_value=True))


@pytest.mark.parametrize("theta", THETAS)
@pytest.mark.parametrize("groups", [1, 4])
def test_pooling(groups: int, theta: float) -> None:
    question = convolution((2, 4, 6, 6), 4, (2, 2), stride=2, groups=groups)
    assert_same(replace(question, weight=None, theta=theta))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("theta", THETAS)
def test_equal_contributions(theta: float, seed: int) -> None:
    """Few distinct values, so that most borders are ties; exact sums, so that nothing hangs on rounding."""
    question = convolution((2, 4, 5, 5), 4, padding=1, seed=seed)
    assert question.weight is not None
    assert_same(replace(question, inputs=question.inputs.round(), weight=question.weight.round(), theta=theta))


HARD: dict[str, list[float]] = {
    "zeros": [0.0] * 7,
    "minus zeros": [-0.0, 0.0, -0.0],
    "minus zeros are not positive": [-0.0, 0.0, 2.0, -1.0],
    "negative": [-3.0, -1.0, -2.0, -1.0],
    "one": [0.25],
    "one negative": [-0.25],
    "denormals": [1e-45, 3e-45, 1e-45, 0.0],
    "negative denormals": [-3e-45, -1e-45, -1e-45],
    "huge and tiny": [1e30, 1e-30, 1.0, 1e30],
    "infinite": [1.0, torch.inf, 2.0],
    "needs float64": [8e8, 99999992.0, 50000004.0, 50000004.0],  # two are 8 short of 0.9 of 1e9
    "all equal": [0.5] * 9,
    "cancels": [1.0, -1.0, 2.0, -2.0],
    "just positive": [1.0, -1.0, 2.0, -1.9375],
}


@pytest.mark.filterwarnings("ignore:invalid value encountered")  # infinite by infinite, where numpy computes
@pytest.mark.parametrize("theta", THETAS)
@pytest.mark.parametrize("name", HARD)
def test_hard_fields(name: str, theta: float) -> None:
    question = fields_of([HARD[name]], theta)
    assert_equal(answer_of(question), reference.select(question))


@pytest.mark.parametrize("target", [-5.0, 0.0, 1.5, 100.0])
def test_targets_out_of_reach(target: float) -> None:
    question = fields_of([[1.0, -1.0, 2.0, 0.0]], 1.0)
    question = replace(question, output=torch.full_like(question.output, target), covers_value=True)
    assert_equal(answer_of(question), reference.select(question))


def test_small_fields_take_the_largest() -> None:
    """θ · size ≤ 1, whatever the target."""
    question = fields_of([[1.0, 2.0]])
    question = replace(question, output=torch.full_like(question.output, 100.0), covers_value=True)
    assert rows_of(answer_of(question)) == [[1]]


@pytest.mark.parametrize("exponent", [-130, -60, 60])
@pytest.mark.parametrize("theta", THETAS)
def test_magnitudes(theta: float, exponent: int) -> None:
    """Down to denormals and up to 1e18: only the contributions change, by a power of two."""
    question = convolution((1, 3, 5, 5), 4, padding=1)
    assert_same(replace(question, inputs=question.inputs * 2.0**exponent, theta=theta))


@pytest.mark.parametrize("theta", THETAS)
def test_mixed_magnitudes(theta: float) -> None:
    question = convolution((1, 6, 4, 4), 4, padding=1)
    scale = 2.0 ** torch.tensor([-60, -30, 0, 0, 30, 60])
    assert_same(replace(question, inputs=question.inputs * scale[:, None, None], theta=theta))


def test_padding_alone_chooses_nothing() -> None:
    question = fields_of([[1.0, 2.0]])
    question = replace(question, rows=torch.full((1, 1), -1))
    assert rows_of(answer_of(question)) == [[]]
    assert_equal(answer_of(question), reference.select(question))


def test_no_active_output() -> None:
    question = CONVOLUTIONS["padding"]
    question = replace(question, active=torch.zeros_like(question.active))
    assert_equal(answer_of(question), reference.select(question))


def test_views_and_no_amounts() -> None:
    """Tensors that are not contiguous, nothing reversed, and no contributions asked for."""
    question = convolution((2, 3, 6, 6), 4)
    assert question.weight is not None
    question = replace(question, inputs=question.inputs.mT, weight=question.weight.mT, output=question.output.mT)
    question = replace(question, active=question.active.mT, reversed=None, amounts=False)
    assert_same(question)
    assert answer_of(question).values is None


def test_gradients_do_not_matter() -> None:
    question = CONVOLUTIONS["plain"]
    assert question.weight is not None
    assert_same(replace(question, weight=question.weight.clone().requires_grad_()))


# --- who answers -----------------------------------------------------------------------------------------------------


def refuse(question: Problem) -> Chosen:
    raise AssertionError("the reference is asked instead")


def test_other_types_and_long_fields_go_to_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "_select", refuse)
    question = fields_of([[1.0, 2.0, 3.0]])
    double = replace(question, inputs=question.inputs.double())
    assert_equal(answer_of(double), reference.select(double))
    monkeypatch.setattr(gpu, "LONGEST", 2)
    assert_equal(answer_of(question), reference.select(question))


def test_other_questions_go_to_the_reference() -> None:
    for name in ("largest", "operands", "weights"):
        assert getattr(gpu, name) is getattr(reference, name)


def test_where_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, processor = torch.device("cuda"), torch.device("cpu")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert kernels.has_gpu(cuda)
    assert not kernels.has_gpu(processor)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert kernels.has_gpu(processor)


def test_works_without_triton() -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch; from netpaths import kernels\n"
        "print(kernels.has_gpu(torch.device('cuda')), 'netpaths.kernels.gpu' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a CUDA device")
@pytest.mark.parametrize("theta", THETAS)
@pytest.mark.parametrize("size", [(1, 1), (3, 3)])
def test_the_same_on_both_devices(size: tuple[int, int], theta: float) -> None:
    question = replace(convolution((8, 256, 14, 14), 256, size, padding=size[0] // 2), theta=theta)
    assert kernels.has_gpu(DEVICE)
    assert_same(question, cpu.select(question))
