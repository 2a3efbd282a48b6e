"""Every rule alone, in float64, against the brute-force oracle: one row per configuration."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from netpaths import EffectivePath, Graph, NetpathsError
from netpaths.errors import BadOption, UnsupportedOperation
from networks import Builder, Network, assert_agrees, chosen
from oracle import Options, Step, explain

pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same.:UserWarning")

CONV = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1, "mode": "zeros"}
POOL = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1), "ceil": False, "include": True}


class Bench(Builder):
    """One step under test between a few random layers that make values of both signs."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0) -> None:
        super().__init__(seed)
        self.steps, self.sample, self.last = [Step("input", ())], [self.normal(*shape)], 0

    def then(self, op: str, tensors: dict[str, torch.Tensor] | None = None, style: str = "module", **o: Any) -> Bench:
        self.last = self.append(Step(op, (self.last,), tensors or {}, o, style))
        return self

    def layer(self, outputs: int, kernel: tuple[int, ...], bias: bool = True, style: str = "module", **o: Any) -> Bench:
        options = {**CONV, **o}
        if len(kernel) == 1:
            options = {name: value[0] if isinstance(value, tuple) else value for name, value in options.items()}
        inputs = self.shape(self.last)[0] // options["groups"]
        weight = self.normal(outputs, inputs, *kernel)
        tensors = {"weight": weight, "bias": self.normal(outputs)} if bias else {"weight": weight}
        return self.then("conv", tensors, style, **options)

    def bn(self, style: str = "module", plain: bool = False) -> Bench:
        size = self.shape(self.last)[0]
        tensors = {"mean": self.normal(size), "var": self.normal(size) ** 2 + 0.5}
        if not plain:
            tensors |= {"weight": self.normal(size), "bias": self.normal(size)}
        return self.then("bn", tensors, style, eps=1e-3, axes=len(self.shape(self.last)) - 1)

    def dense(self, outputs: int = 4) -> Bench:
        if len(self.shape(self.last)) > 1:
            self.then("flatten")
        size = self.shape(self.last)[0]
        weight = self.normal(outputs, size) / size**0.5
        return self.then("linear", {"weight": weight, "bias": self.normal(outputs)})

    def join(self, op: str, other: int, style: str = "module", swap: bool = False) -> Bench:
        reads = (other, self.last) if swap else (self.last, other)
        self.last = self.append(Step(op, reads, style=style))
        return self


Make = Callable[[], Bench]


def pooled(op: str, shape: tuple[int, ...] = (2, 7, 6), style: str = "module", **options: Any) -> Make:
    return lambda: Bench(shape).then(op, None, style, **{**POOL, **options}).dense()


def convolved(shape: tuple[int, ...], outputs: int, kernel: tuple[int, ...], **options: Any) -> Make:
    return lambda: Bench(shape).layer(outputs, kernel, **options).dense()


def mapped(op: str, style: str = "module", **options: Any) -> Make:
    """An activation or affine map between two convolutions, then another, so that directions matter."""
    return lambda: Bench((2, 5, 5)).layer(3, (3, 3)).then(op, None, style, **options).layer(3, (2, 2)).dense()


def moved(op: str, **options: Any) -> Make:
    return lambda: Bench((2, 6, 6)).layer(4, (3, 3)).then("relu").then(op, None, "module", **options).dense()


def summed(style: str = "module", swap: bool = False) -> Make:
    def make() -> Bench:
        bench = Bench((2, 5, 5)).layer(3, (3, 3), padding=(1, 1))
        first = bench.last
        return bench.layer(3, (3, 3), padding=(1, 1)).join("add", first, style, swap).then("relu").dense()

    return make


def joined() -> Bench:
    bench = Bench((2, 5, 5)).layer(3, (3, 3))
    first = bench.last
    bench.last = 0
    return bench.layer(2, (3, 3)).then("relu").join("cat", first).bn().dense()


def two_shifts(first: float, second: float) -> Make:
    """Two readers of one layer; a shift that changes a neuron's sign turns the neuron round."""

    def make() -> Bench:
        bench = Bench((2, 5, 5)).layer(3, (3, 3))
        source = bench.last
        other = bench.then("shift", None, "functional", shift=first).last
        bench.last = source
        return bench.then("shift", None, "functional", shift=second).join("cat", other).dense()

    return make


def overlapping_pool() -> Bench:
    """Overlapping windows share maxima; a batch norm behind the flattening wants different directions of them."""
    bench = Bench((2, 6, 6)).layer(2, (2, 2)).then("maxpool", None, "module", **{**POOL, "kernel": (3, 3), "stride": 1})
    return bench.then("flatten").bn().dense()


def shared_maximum() -> Bench:
    """One peak that four windows choose, two of them turned round by the batch norm behind: its own sign decides."""
    bench = Bench((2, 3, 3)).layer(1, (1, 1), bias=False).then("scale", {"factor": PEAK[None]})
    bench.then("maxpool", None, "module", **{**POOL, "stride": (1, 1)}).then("flatten")
    shift = torch.tensor([0.0, -90.0, 0.0, -90.0]).double()
    norm = {"weight": torch.ones(4).double(), "bias": shift, "mean": torch.zeros(4).double()}
    bench.then("bn", {**norm, "var": torch.ones(4).double()}, "module", eps=1e-3, axes=1)
    return bench.then("linear", {"weight": torch.tensor([[9.0, -0.1, 9.0, -0.1], [0, 0, 0, 0]]).double()})


PEAK = torch.tensor([[0.1, 0.1, 0.1], [0.1, 5.0, 0.1], [0.1, 0.1, 0.1]]).double()[None]


def tied_pool() -> Bench:
    """Mostly zeros after the ReLU, so that whole windows tie."""
    bench = Bench((2, 8, 8)).then("shift", None, "functional", shift=-1.0).then("relu")
    return bench.then("maxpool", None, "module", **{**POOL, "kernel": (3, 3)}).dense()


def option_a() -> Bench:
    bench = Bench((2, 6, 6))
    bench.last = bench.option_a(0)
    return bench.dense()


def chunked() -> Bench:
    bench = Bench((5, 4, 4))
    pieces = []
    for piece in range(2):
        bench.last = 0
        bench.then("chunk", None, "module", pieces=2, piece=piece)
        pieces.append(bench.layer(2, (2, 2)).last)
    bench.last = pieces[1]
    return bench.join("cat", pieces[0]).dense()


def reused() -> Bench:
    bench = Bench((2, 5, 5)).layer(2, (3, 3), padding=(1, 1))
    step = bench.steps[bench.last]
    bench.then("relu")
    bench.last = bench.append(Step("conv", (bench.last,), step.tensors, step.options, shares=1))
    return bench.dense()


def flipped_norm() -> Bench:
    return Bench((2, 5, 5)).layer(4, (3, 3)).bn().then("relu").layer(3, (2, 2), bias=False).bn().dense(5)


def shared_norm() -> Bench:
    """A batch norm that cannot be folded: its convolution has a second reader."""
    bench = Bench((2, 5, 5)).layer(3, (3, 3))
    first = bench.last
    return bench.bn().join("add", first).then("relu").dense()


RULES: dict[str, Make] = {
    "linear": lambda: Bench((9,)).dense(6).then("relu").dense(),
    "linear unactivated": lambda: Bench((9,)).dense(6).dense(5).dense(),
    "conv": convolved((2, 6, 6), 3, (3, 3)),
    "conv functional": convolved((2, 6, 6), 3, (3, 3), style="functional", padding=(1, 0)),
    "conv without bias": convolved((2, 6, 6), 3, (3, 3), bias=False),
    "conv stride": convolved((2, 7, 7), 3, (3, 3), stride=(2, 3)),
    "conv padding": convolved((2, 5, 5), 3, (3, 3), padding=(1, 2)),
    "conv wide padding": convolved((1, 3, 3), 2, (2, 2), padding=(2, 2)),
    "conv same": convolved((2, 5, 6), 3, (3, 2), padding="same"),
    "conv same dilated": convolved((2, 6, 6), 3, (2, 2), padding="same", dilation=(3, 2)),
    "conv valid": convolved((2, 5, 5), 3, (3, 2), padding="valid"),
    "conv reflect": convolved((2, 5, 5), 3, (3, 3), padding=(2, 1), mode="reflect"),
    "conv replicate": convolved((2, 5, 5), 3, (3, 3), padding=(2, 1), mode="replicate"),
    "conv circular": convolved((2, 5, 5), 3, (3, 3), padding=(2, 1), mode="circular"),
    "conv same reflect": convolved((2, 5, 5), 3, (3, 3), padding="same", mode="reflect"),
    "conv dilation": convolved((2, 7, 7), 3, (3, 2), dilation=(2, 3), padding=(1, 1)),
    "conv groups": convolved((4, 5, 5), 6, (3, 3), groups=2),
    "conv depthwise": convolved((3, 5, 5), 3, (3, 3), groups=3, padding=(1, 1)),
    "conv depthwise multiplier": convolved((3, 5, 5), 6, (3, 3), groups=3, stride=(2, 2)),
    "conv pointwise": convolved((5, 3, 3), 4, (1, 1)),
    "conv stride skips pixels": convolved((2, 6, 6), 3, (1, 1), stride=(2, 2)),
    "conv 1d": convolved((2, 9), 3, (3,), padding=(1,), stride=(2,)),
    "conv 1d groups dilation": convolved((4, 9), 4, (3,), groups=2, dilation=(2,)),
    "pad asymmetric": lambda: (
        Bench((2, 5, 5))
        .then("pad", None, "module", amounts=(1, 0, 0, 2), mode="constant", value=0.0)
        .layer(3, (3, 3))
        .dense()
    ),
    "pad with a value": lambda: (
        Bench((2, 4, 4))
        .then("pad", None, "module", amounts=(1, 1, 1, 0), mode="constant", value=0.7)
        .layer(3, (2, 2))
        .dense()
    ),
    "pad reflect": moved("pad", amounts=(1, 2, 0, 1), mode="reflect", value=0.0),
    "pad replicate": moved("pad", amounts=(2, 1, 1, 0), mode="replicate", value=0.0),
    "pad negative": moved("slice", channels=slice(None), rows=slice(1, None), cols=slice(None, -1)),
    "max pool": pooled("maxpool"),
    "max pool functional": pooled("maxpool", style="functional", kernel=(3, 2)),
    "max pool padding": pooled("maxpool", kernel=(3, 3), padding=(1, 1)),
    "max pool dilation": pooled("maxpool", dilation=(2, 2), stride=(1, 1)),
    "max pool ceil": pooled("maxpool", kernel=(3, 3), ceil=True),
    "max pool ceil padding": pooled("maxpool", kernel=(3, 3), padding=(1, 1), stride=(3, 2), ceil=True),
    "max pool overlapping": pooled("maxpool", kernel=(3, 3), stride=(1, 1)),
    "max pool 1d": pooled("maxpool", (2, 9), kernel=3, stride=2, padding=1, dilation=1, ceil=True, axes=1),
    "max pool disagreeing outputs": overlapping_pool,
    "max pool with a shared maximum": shared_maximum,
    "max pool ties": tied_pool,
    "average pool": pooled("avgpool"),
    "average pool functional": pooled("avgpool", style="functional", kernel=(3, 2)),
    "average pool padding": pooled("avgpool", kernel=(3, 3), padding=(1, 1)),
    "average pool padding not counted": pooled("avgpool", kernel=(3, 3), padding=(1, 1), include=False),
    "average pool ceil": pooled("avgpool", kernel=(3, 3), ceil=True),
    "average pool ceil padding": pooled("avgpool", kernel=(3, 3), padding=(1, 1), ceil=True, include=False),
    "average pool 1d": pooled("avgpool", (2, 9), kernel=3, stride=2, padding=1, ceil=True, axes=1),
    "adaptive max pool": lambda: Bench((2, 7, 5)).then("adaptive_max", size=(3, 2)).dense(),
    "adaptive average pool": lambda: Bench((2, 7, 5)).then("adaptive_avg", size=(3, 4)).dense(),
    "adaptive average pool enlarging": lambda: Bench((2, 2, 3)).then("adaptive_avg", size=(5, 5)).dense(),
    "global average pool": lambda: Bench((5, 4, 3)).then("adaptive_avg", size=(1, 1)).dense(),
    "mean": lambda: Bench((5, 4, 3)).then("mean", keep=False).dense(),
    "mean keepdim": lambda: Bench((5, 4, 3)).then("mean", keep=True).dense(),
    "batch norm": flipped_norm,
    "batch norm functional": lambda: Bench((2, 5, 5)).layer(4, (3, 3)).bn("functional").then("relu").dense(),
    "batch norm without affine": lambda: Bench((2, 5, 5)).layer(4, (3, 3)).bn(plain=True).then("relu").dense(),
    "batch norm 1d": lambda: Bench((7,)).dense(5).bn().dense(),
    "batch norm 1d without affine": lambda: Bench((7,)).dense(5).bn(plain=True).then("relu").dense(),
    "batch norm twice": lambda: Bench((2, 5, 5)).layer(4, (3, 3)).bn().bn().dense(),
    "batch norm first": lambda: Bench((2, 5, 5)).bn().layer(4, (3, 3)).then("relu").dense(),
    "batch norm after pooling": lambda: (
        Bench((2, 6, 6)).layer(3, (3, 3)).then("maxpool", None, "module", **POOL).bn().dense()
    ),
    "batch norm after average pooling": lambda: (
        Bench((2, 6, 6)).layer(3, (3, 3)).then("avgpool", None, "module", **POOL).bn().dense()
    ),
    "batch norm with two readers": shared_norm,
    "scale": mapped("scale", factor=-0.7),
    "divide": mapped("divide", factor=-2.0),
    "shift": mapped("shift", shift=0.6),
    "negate": mapped("negate"),
    "from a constant": mapped("from", shift=0.4),
    "residual add": summed(),
    "residual add functional": summed("functional", swap=True),
    "residual add method": summed("method"),
    "residual add in place": summed("inplace"),
    "concat": joined,
    "readers disagree on the direction": two_shifts(0.1, 3.0),
    "readers turn opposite signs round": two_shifts(-3.0, 3.0),
    "readers agree on the direction": two_shifts(2.0, 3.0),
    "reshape": moved("reshape", shape=(8, -1)),
    "permute": moved("permute", order=(0, 2, 3, 1)),
    "strided slice": moved("slice", channels=slice(1, None), rows=slice(None, None, 2), cols=slice(1, None, 2)),
    "option A shortcut": option_a,
    "chunk": chunked,
    "dropout": mapped("dropout"),
    "dropout functional": mapped("dropout", "functional"),
    "identity": mapped("identity"),
    "module called twice": reused,
    "softmax": lambda: Bench((7,)).dense(5).then("softmax"),
    **{
        f"{op} {style}": mapped(op, style)
        for op in ("relu", "relu6", "leaky", "hardtanh", "tanh", "elu", "sigmoid", "hardsigmoid", "softplus")
        for style in ("module", "functional")
    },
    "clamp": mapped("clamp", "functional"),
    "clamp method": mapped("clamp", "method"),
    "relu in place": mapped("relu", "inplace"),
    "relu functional in place": mapped("relu", "functional inplace"),
}

VARIANTS: dict[str, Options] = {
    "default": Options(),
    "theta 0.1": Options(theta=0.1),
    "theta 0.9": Options(theta=0.9),
    "theta 1": Options(theta=1.0),
    "neuron target": Options(theta=0.7, target="neuron"),
    "neuron target, theta 1": Options(theta=1.0, target="neuron"),
    "all ties, whole sums": Options(ties="all", merge="all"),
}


def images(bench: Bench, count: int = 3) -> torch.Tensor:
    return torch.stack([bench.normal(*bench.shape(0)) for _ in range(count)])


@lru_cache(maxsize=1)
def built(rule: str) -> tuple[list[Step], torch.Tensor, Graph]:
    """A rule's network, images of its own and its graph, which tests that stand side by side share."""
    bench = RULES[rule]()
    batch = images(bench)
    return bench.steps, batch, Graph(Network(bench.steps).double(), batch)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("rule", RULES)
def test_rule_is_the_oracles(rule: str, variant: str) -> None:
    steps, batch, graph = built(rule)
    assert_agrees(steps, batch, VARIANTS[variant], graph=graph)


@pytest.mark.parametrize("rule", RULES)
def test_second_rank_unfolded(rule: str) -> None:
    bench = RULES[rule]()
    assert_agrees(bench.steps, images(bench), rank=2, fold=False)


@pytest.mark.parametrize("last", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("rule", ["conv", "batch norm", "residual add", "concat", "chunk", "linear unactivated"])
def test_partial_extraction(rule: str, last: int) -> None:
    steps, batch, graph = built(rule)
    assert_agrees(steps, batch, last=last, graph=graph)


def test_partial_extraction_is_a_part_of_the_whole() -> None:
    bench = flipped_norm()
    batch = images(bench)
    graph = Graph(Network(bench.steps), batch)
    whole, partial = EffectivePath().extract(graph, batch)[0], EffectivePath(last=2).extract(graph, batch)[0]
    assert all(partial[site].members().tolist() == whole[site].members().tolist() for site in partial)
    assert partial.nodes("weight") == graph.layers[-2:]


def test_ties_differ_where_maxima_tie() -> None:
    bench = tied_pool()
    batch = images(bench).clamp(max=1.5)
    graph = Graph(Network(bench.steps), batch)
    first, every = (EffectivePath(1.0, ties=ties).extract(graph, batch) for ties in ("first", "all"))  # type: ignore[arg-type]
    assert sum(len(p["s3.inner", "synapse"]) for p in first) < sum(len(p["s3.inner", "synapse"]) for p in every)


def test_first_maximum_is_autograds() -> None:
    bench = tied_pool()
    batch = images(bench)
    graph = Graph(Network(bench.steps), batch)
    for image, path in zip(batch, EffectivePath().extract(graph, batch)):
        value = graph.run(image[None], record=["s2.inner"])["s2.inner"].requires_grad_()
        pooled_value = F.max_pool2d(value, 3, 2)
        pooled_value.backward(path.neurons("s3.inner")[None].double())
        assert torch.equal(value.grad[0] != 0, path.neurons("s2.inner"))  # type: ignore[index]


def test_top_left_weights_keep_their_place() -> None:
    """The released artifact shifts weight indices on padded borders; the first output reads the kernel's far corner."""
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    conv.weight = nn.Parameter(torch.arange(1.0, 10).reshape(1, 1, 3, 3))
    model = nn.Sequential(conv, nn.Flatten(), nn.Linear(4, 2))
    model[2].weight = nn.Parameter(torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]]))
    model[2].bias = nn.Parameter(torch.zeros(2))
    path = EffectivePath(theta=1.0).extract(Graph(model, torch.ones(1, 1, 2, 2)), torch.ones(1, 1, 2, 2))[0]
    assert path.weights("0")[0, 0].tolist() == [[False] * 3, [False, True, True], [False, True, True]]
    assert not path.synapses("0")[0, 0, 0, 0, 0].any()


@pytest.mark.parametrize("rule", ["conv padding", "average pool padding", "batch norm", "residual add", "max pool"])
def test_contributions_are_the_oracles(rule: str) -> None:
    bench = RULES[rule]()
    batch = images(bench)
    graph = Graph(Network(bench.steps), batch, fold=False)
    paths = EffectivePath(contributions=True).extract(graph, batch)
    for image, path in zip(batch, paths):
        answer = explain(bench.steps, image)
        for index, name in enumerate(graph.nodes):
            if index not in answer.synapses:
                continue
            found = dict(zip(path[name, "synapse"].members().tolist(), path[name, "synapse"].member_values().tolist()))
            expected = {synapse: max(amount, 0) for synapse, amount in answer.synapses[index].items()}
            assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("rule", ["conv padding", "average pool padding", "batch norm", "residual add"])
def test_contributions_select_the_same(rule: str) -> None:
    bench = RULES[rule]()
    batch = images(bench)
    graph = Graph(Network(bench.steps), batch)
    plain, valued = (EffectivePath(contributions=flag).extract(graph, batch) for flag in (False, True))
    for first, second in zip(plain, valued):
        assert first.equals(second.binary())
        assert {site.kind for site in second} == {"neuron", "synapse", "weight"}


def test_contributions_of_a_weight_sum_over_its_synapses() -> None:
    bench = RULES["conv padding"]()
    batch = images(bench)
    graph = Graph(Network(bench.steps), batch)
    for path in EffectivePath(contributions=True).extract(graph, batch):
        by_weight = path.synapses("s1.inner").sum((1, 2))  # (out, in, kh, kw)
        torch.testing.assert_close(path.weights("s1.inner"), by_weight, rtol=1e-4, atol=1e-6)
        reached = path.neurons("x").sum()
        torch.testing.assert_close(reached, path.synapses("s1.inner").sum(), rtol=1e-4, atol=1e-5)


class Applied(nn.Module):
    """A function between two linear layers."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.function = nn.Linear(4, 4), nn.Linear(4, 3), function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(self.function(self.first(x)))
        return y


UNSOUND: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "hardtanh above zero": lambda x: F.hardtanh(x, 0.5, 1.0),
    "negative leak": lambda x: F.leaky_relu(x, -0.1),
    "quotient": lambda x: 1 / x,
    "softmax inside": lambda x: F.softmax(x, 1),
    "mean of everything": lambda x: x - x.mean(),
    "batch mean": lambda x: x.mean(0, keepdim=True) + x,
    "dropout that stays on": lambda x: F.dropout(x, 0.5, training=True),
    "sorting": lambda x: x.sort(1)[0],
    "cumsum": lambda x: x.cumsum(1),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_operations_without_a_sound_rule_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedOperation):
        Graph(Applied(UNSOUND[name]), torch.zeros(2, 4))


FOLLOWED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "product": lambda x: x * x,
    "difference": lambda x: x - x.relu(),
    "abs": lambda x: x.abs(),
    "matmul": lambda x: x @ torch.eye(4),
    "pattern": lambda x: F.softmax(x, 1) * x,
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_what_a_spelling_table_does_not_hold_is_followed(name: str) -> None:
    torch.manual_seed(0)
    model, x = Applied(FOLLOWED[name]).eval(), torch.rand(3, 4)
    graph = Graph(model, x)
    with torch.no_grad():
        torch.testing.assert_close(graph.run(x).logits, model(x))
    for path in EffectivePath(theta=1.0).extract(graph, x):
        assert path.neurons("last").sum() == 1
        assert path.neurons("first").any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"theta": 0.0}, r"theta must lie in \(0, 1\], not 0.0"),
        ({"theta": 1.1}, r"theta must lie in \(0, 1\], not 1.1"),
        ({"theta": float("nan")}, r"theta must lie in \(0, 1\], not nan"),
        ({"target": "logit"}, "target must be one of contributions, neuron, not 'logit'"),
        ({"ties": "some"}, "ties must be one of first, all, not 'some'"),
        ({"merge": "any"}, "merge must be one of select, all, not 'any'"),
        ({"rank": 0}, "rank must lie between 1 and the model's 3 classes, not 0"),
        ({"rank": 4}, "rank must lie between 1 and the model's 3 classes, not 4"),
        ({"last": 0}, "last must be at least 1, not 0"),
        ({"kinds": ("channel",)}, "effective paths have neuron, synapse and weight sites, not 'channel'"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    graph = Graph(Applied(F.relu), torch.zeros(2, 4))
    with pytest.raises(BadOption, match=message):
        EffectivePath(**options).extract(graph, torch.zeros(2, 4))
    assert issubclass(BadOption, NetpathsError)


def test_kinds_limit_the_sites() -> None:
    graph = Graph(Applied(F.relu), torch.zeros(2, 4))
    path = EffectivePath(kinds=("weight",)).extract(graph, torch.ones(1, 4))[0]
    assert path.kinds() == ("weight",)
    assert chosen(path, "first", "neuron") == set()
