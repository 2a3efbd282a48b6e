"""Contributions of inputs, biases and constants are the value: at every node, and from the pixels to the logit."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import netpaths
from netpaths import EffectivePath, Graph
from netpaths.errors import BadOption, UnsupportedOperation
from netpaths.graph.replacing import Call, replaced
from netpaths.methods.budget import budgets
from netpaths.path import Budget
from netpaths.rules import FROZEN, RULES, Selector

EXACT = 1e-10


class Written(nn.Module):
    """A network of parts that ``run`` puts together."""

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name)

    def __init__(self, run: Callable[[Any, Tensor], Any], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def heads(value: Tensor, count: int) -> Tensor:
    """(batch, tokens, channels) to (batch, heads, tokens, channels of a head)."""
    return torch.unflatten(value, -1, (count, -1)).transpose(1, 2)


def transformer(fused: bool) -> nn.Module:
    """A class token, positions, two heads, a GELU, two layer norms."""

    def run(m: Any, x: Tensor) -> Any:
        h = m.patches(x).flatten(2).transpose(1, 2)
        h = torch.cat([m.token.expand(h.shape[0], -1, -1), h], 1) + m.positions
        q, k, v = (heads(part, 2) for part in m.qkv(m.norm(h)).chunk(3, -1))
        if fused:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            mixed = (q @ k.transpose(-1, -2) / 2).softmax(-1) @ v
        h = h + m.proj(mixed.transpose(1, 2).flatten(2))
        h = h + m.down(F.gelu(m.up(m.second(h))))
        return m.head(h[:, 0])

    return Written(
        run,
        patches=nn.Conv2d(2, 8, 2, 2),
        token=nn.Parameter(torch.randn(1, 1, 8) / 20),
        positions=nn.Parameter(torch.randn(1, 5, 8) / 20),
        norm=filled(nn.LayerNorm(8)),
        qkv=nn.Linear(8, 24),
        proj=nn.Linear(8, 8),
        second=filled(nn.LayerNorm(8)),
        up=nn.Linear(8, 16),
        down=nn.Linear(16, 8),
        head=nn.Linear(8, 3),
    )


def windows() -> nn.Module:
    """Shifted windows folded into the batch, a bias of the scores, a mask of the shift, patch merging."""
    mask = torch.zeros(4, 1, 4, 4)
    mask[3, :, :2, 2:] = -100.0

    def run(m: Any, x: Tensor) -> Any:
        h = m.patches(x).permute(0, 2, 3, 1)
        b = h.shape[0]
        w = torch.roll(m.norm(h), (-1, -1), (1, 2)).reshape(b, 2, 2, 2, 2, 8).transpose(2, 3).reshape(b * 4, 4, 8)
        q, k, v = (heads(part, 2) for part in m.qkv(w).chunk(3, -1))
        scores = q @ k.transpose(-1, -2) * 0.5 + m.bias
        scores = (scores.reshape(b, 4, 2, 4, 4) + m.mask).reshape(b * 4, 2, 4, 4)
        w = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        w = m.proj(w).reshape(b, 2, 2, 2, 2, 8).transpose(2, 3).reshape(b, 4, 4, 8)
        h = h + torch.roll(w, (1, 1), (1, 2))
        h = torch.cat([h[:, 0::2, 0::2], h[:, 1::2, 0::2], h[:, 0::2, 1::2], h[:, 1::2, 1::2]], -1)
        return m.head(m.last(m.merge(h)).mean((1, 2)))

    return Written(
        run,
        patches=nn.Conv2d(2, 8, 1),
        norm=filled(nn.LayerNorm(8)),
        qkv=nn.Linear(8, 24),
        bias=nn.Parameter(torch.randn(2, 4, 4)),
        mask=nn.Parameter(mask, requires_grad=False),
        proj=nn.Linear(8, 8),
        merge=nn.Linear(32, 6),
        last=filled(nn.LayerNorm(6)),
        head=nn.Linear(6, 3),
    )


def gated() -> nn.Module:
    """Squeeze-and-excitation by a sigmoid and by a hard one, SiLU, Hardswish, a gated unit, a batch norm apart."""

    def run(m: Any, x: Tensor) -> Any:
        h = F.silu(m.norm(F.relu(m.stem(x))))
        h = h * torch.sigmoid(m.excite(F.relu(m.squeeze(h.mean((2, 3), keepdim=True)))))
        h = F.hardswish(m.deep(h))
        h = h * F.hardsigmoid(m.again(F.adaptive_avg_pool2d(h, 1)))
        first, second = m.both(F.avg_pool2d(h, 2).flatten(1)).chunk(2, 1)
        return m.head(first * second + first * torch.tanh(second) - second)

    return Written(
        run,
        stem=nn.Conv2d(2, 6, 3, padding=1),
        norm=filled(nn.BatchNorm2d(6)),
        squeeze=nn.Conv2d(6, 3, 1),
        excite=nn.Conv2d(3, 6, 1),
        deep=nn.Conv2d(6, 4, 3, 2, 1, groups=2),
        again=nn.Conv2d(4, 4, 1),
        both=nn.Linear(4, 12),
        head=nn.Linear(6, 3),
    )


def residual() -> nn.Module:
    """A residual network with group and instance norms, max pooling, constants added and multiplied, a square."""

    def run(m: Any, x: Tensor) -> Any:
        h = F.max_pool2d(m.group(m.stem((x - 0.4) / 0.3)), 2)
        h = h + F.relu(m.instance(m.deep(h)))
        h = 1 - F.pad(h, (1, 1, 1, 1)) * 2
        h = F.softplus(-h) + torch.abs(h) + h * h
        root = h / (h.square().mean((1, 2, 3), keepdim=True) + 1e-6).sqrt()
        return m.head(torch.cat([root.mean((2, 3)), root.sum((2, 3))], 1))

    return Written(
        run,
        stem=nn.Conv2d(2, 6, 3, padding=1),
        group=filled(nn.GroupNorm(3, 6)),
        deep=nn.Conv2d(6, 6, 3, padding=1),
        instance=filled(nn.InstanceNorm2d(6, affine=True)),
        head=nn.Linear(12, 3),
    )


def filled(norm: nn.Module) -> nn.Module:
    """A norm that scales and shifts."""
    for tensor in (*norm.parameters(), *norm.buffers()):
        if tensor.is_floating_point():
            tensor.data.copy_(torch.rand_like(tensor) + 0.5)
            tensor.data[::2] *= -1 if isinstance(tensor, nn.Parameter) else 1
    return norm


def choices() -> nn.Module:
    """Maxima, conditions, interpolation, patches that overlap and a root mean square norm."""

    def run(m: Written, x: Tensor) -> Tensor:
        h = F.interpolate(m.stem(x), scale_factor=2, mode="bilinear")
        h = torch.maximum(h, m.other(h)) + torch.maximum(h, m.stem.bias[:, None, None])
        h = torch.where(h > 0.1, h, m.other(h)) + torch.where(h < 0, h, h.new_tensor(0.2))
        h = F.fold(F.unfold(h, 3, padding=1), (8, 8), 3, padding=1)
        return m.head(torch.cat([m.root(h.amax((2, 3))), m.root(h.amin((2, 3)))], 1))

    return Written(
        run,
        stem=nn.Conv2d(2, 4, 3, padding=1),
        other=nn.Conv2d(4, 4, 1),
        root=filled(nn.RMSNorm(4)),
        head=nn.Linear(8, 3),
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "choices": choices,
    "transformer": lambda: transformer(True),
    "transformer, attention written out": lambda: transformer(False),
    "shifted windows": windows,
    "gates": gated,
    "residual": residual,
}


def built(name: str) -> tuple[Graph, Tensor]:
    torch.manual_seed(0)
    model = NETWORKS[name]().double().eval()
    x = torch.rand(3, 2, 4, 4, dtype=torch.float64)
    return Graph(model, x[:1]), x


def gaps(graph: Graph, x: Tensor) -> dict[str, float]:
    """By family, how far its nodes' parts are from their values, relative to the parts, weighted at random."""
    found: dict[str, float] = {}

    def check(call: Call) -> Tensor:
        if call.node.family is None:
            return call.run(call.inputs)  # the images
        name = call.node.family.name
        if not call.run(call.inputs).is_floating_point():
            found[name] = 0.0  # a comparison
            return call.run(call.inputs)
        inputs = tuple(value.detach().requires_grad_(value.is_floating_point()) for value in call.inputs)
        leaves = [value for value in inputs if value.requires_grad]
        with torch.enable_grad():
            parts = FROZEN[name](Call(call.node, inputs, call.run))
        value = call.run(call.inputs).detach()
        torch.testing.assert_close(parts.output.detach(), value, rtol=1e-12, atol=1e-12)
        finite = torch.where(torch.isfinite(value), value, 0)
        added = sum(part.expand_as(value) for part in (parts.bias, parts.constant) if part is not None)
        for _ in range(3):
            weight = torch.randn_like(value)
            slopes: tuple[Tensor | None, ...] = (None,) * len(leaves)
            if parts.output.requires_grad:
                slopes = torch.autograd.grad(parts.output, leaves, weight, retain_graph=True, allow_unused=True)
            shares = [slope * x for slope, x in zip(slopes, leaves) if slope is not None]
            total = sum(float(share.sum()) for share in shares) + float((weight * added).sum())
            scale = float((weight * finite).abs().sum()) + sum(float(share.abs().sum()) for share in shares)
            gap = abs(total - float((weight * finite).sum())) / scale
            found[name] = max(found.get(name, 0.0), gap)
        return call.run(call.inputs)

    with torch.no_grad():
        replaced(graph, x, check)
    return found


@pytest.mark.parametrize("name", NETWORKS)
def test_parts_of_every_node_are_its_value(name: str) -> None:
    found = gaps(*built(name))
    assert max(found.values()) < EXACT, found


UNTRIED = {"gate", "controller", "conversion"}
"""Those of decoupled networks, and what rounds, tried below."""


def test_every_family_is_tried() -> None:
    nodes = (node for name in NETWORKS for node in built(name)[0].nodes.values())
    tried = {node.family.name for node in nodes if node.family is not None}
    assert set(FROZEN) == set(RULES)
    assert set(RULES) - tried == UNTRIED


ADDING = ("choices", "transformer", "transformer, attention written out", "residual")
"""Networks that add constants: positions and a token, or numbers."""


@pytest.mark.parametrize("name", NETWORKS)
def test_pixels_biases_and_constants_are_the_logit(name: str) -> None:
    graph, x = built(name)
    logits = graph.run(x).logits.detach()
    for own in range(3):
        for image, budget in enumerate(budgets(graph, x, torch.full((3,), own))):
            parts = (budget.pixels, budget.biases, budget.constants)
            assert abs(sum(parts) - budget.logit) < EXACT * sum(map(abs, parts))
            assert budget.logit == pytest.approx(float(logits[image, own]), rel=EXACT)
            assert all(parts[:2])
            assert (budget.constants != 0) == (name in ADDING)


def test_decoupled_networks_keep_the_law() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 3))
    x = torch.rand(2, 2, 8, 8, dtype=torch.float64)
    graph = Graph(netpaths.decouple(model.double().eval(), x[:1]).eval(), x[:1])
    found = gaps(graph, x)
    assert {"gate", "controller"} <= set(found)
    assert max(found.values()) < EXACT


def test_pixels_carry_what_gradients_say() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3)).double()
    x = torch.rand(2, 2, 4, 4, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(model(x).max(1).values.sum(), x)
    graph = Graph(model.eval(), x[:1].detach())
    for image, path in enumerate(EffectivePath(budget=True).extract(graph, x.detach())):
        assert path.budget is not None
        pixels = (slope * x)[image].detach()
        assert path.budget.pixels == pytest.approx(float(pixels.sum()), rel=EXACT)
        assert path.budget.on_path == pytest.approx(float(pixels[path.neurons(graph.input)].sum()), rel=EXACT)
        assert path.budget.constants == 0
        assert path.budget.biases == pytest.approx(path.budget.logit - path.budget.pixels, rel=1e-9)


def test_batches_do_not_change_a_budget() -> None:
    graph, x = built("shifted windows")
    for image, path in enumerate(EffectivePath(budget=True).extract(graph, x)):
        alone = EffectivePath(budget=True).extract(graph, x[image : image + 1])[0]
        assert alone.budget is not None
        assert path.budget is not None
        assert alone.budget.on_path == pytest.approx(path.budget.on_path, rel=EXACT)
        assert alone.budget.biases == pytest.approx(path.budget.biases, rel=EXACT)


def test_a_path_that_stops_early_has_no_pixels() -> None:
    graph, x = built("gates")
    assert EffectivePath(last=1, budget=True).extract(graph, x)[0].budget.on_path == 0  # type: ignore[union-attr]


def test_budgets_are_stored(tmp_path: Path) -> None:
    graph, x = built("transformer")
    path = EffectivePath(budget=True).extract(graph, x)[0]
    assert isinstance(path.budget, Budget)
    assert netpaths.load_path(netpaths.save_path(path, tmp_path / "one.path")).budget == path.budget
    assert (path | path).budget is None
    assert path.binary().budget == path.budget


def test_a_rule_that_does_not_say_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, x = built("transformer")
    monkeypatch.delitem(FROZEN, "normalisation")
    with pytest.raises(UnsupportedOperation, match=r"no rule says what norm \(layer_norm\) is made of"):
        EffectivePath(budget=True).extract(graph, x)


LAYERS = ("patches", "qkv", "proj", "up", "down", "head")


@pytest.mark.parametrize("attention", ["values", "all"])
def test_attention_written_out_carries_what_fused_attention_carries(attention: str) -> None:
    fused, x = built("transformer")
    written, _ = built("transformer, attention written out")
    method = EffectivePath(0.9, attention=attention, contributions=True)  # type: ignore[arg-type]
    for first, second in zip(method.extract(fused, x), method.extract(written, x)):
        for layer in LAYERS:
            for kind in ("neuron", "synapse", "weight"):
                torch.testing.assert_close(first[layer, kind].dense(), second[layer, kind].dense())
        assert first.nodes("routing") == (("scaled_dot_product_attention",) if attention == "all" else ())
        if attention == "all":
            edges = second["softmax", "routing"].dense()
            assert torch.equal(first["scaled_dot_product_attention", "routing"].dense(), edges)
            assert edges.any()


def test_queries_and_keys_join_the_path_when_asked() -> None:
    graph, x = built("transformer")
    for few, more in zip(EffectivePath(0.9).extract(graph, x), EffectivePath(0.9, attention="all").extract(graph, x)):
        assert not few.neurons("qkv")[:, :16].any()
        assert more.neurons("qkv")[:, :8].any()
        assert more.neurons("qkv")[:, 8:16].any()
        assert torch.equal(few.neurons("qkv")[:, 16:], more.neurons("qkv")[:, 16:])


def test_gates_join_the_path_when_asked() -> None:
    graph, x = built("gates")
    for few, more in zip(EffectivePath().extract(graph, x), EffectivePath(gates="both").extract(graph, x)):
        assert not few.neurons("excite").any()
        assert torch.equal(more.neurons("sigmoid").any(2).any(1), more.neurons("mul").any(2).any(1))
        assert more.neurons("excite").any()
        assert more.neurons("squeeze").any()


def test_a_norm_written_out_carries_what_the_norm_carries() -> None:
    def whole(m: Any, x: Tensor) -> Any:
        return m.head(F.relu(m.norm(m.layer(x.flatten(1)))))

    def written(m: Any, x: Tensor) -> Any:
        h = m.layer(x.flatten(1))
        centred = h - h.mean(1, keepdim=True)
        spread = (centred.square().mean(1, keepdim=True) + m.norm.eps).rsqrt()
        return m.head(F.relu(centred * spread * m.norm.weight + m.norm.bias))

    paths, x = [], torch.randn(6, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for run in (whole, written):
        torch.manual_seed(0)
        model = Written(run, layer=nn.Linear(32, 10), norm=filled(nn.LayerNorm(10)), head=nn.Linear(10, 3)).double()
        paths.append(EffectivePath(contributions=True, theta=0.8).extract(Graph(model.eval(), x[:1]), x))
    for first, second in zip(*paths):
        for layer in ("layer", "head"):
            torch.testing.assert_close(first.neurons(layer), second.neurons(layer))
            torch.testing.assert_close(first.synapses(layer), second.synapses(layer))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("options", [{}, {"attention": "all", "gates": "both"}])
def test_contributions_select_the_same(name: str, options: dict[str, str]) -> None:
    graph, x = built(name)
    plain, valued = (EffectivePath(contributions=flag, **options).extract(graph, x) for flag in (False, True))  # type: ignore[arg-type]
    for first, second in zip(plain, valued):
        assert second.binary().equals(first)
        assert not second[graph.input, "neuron"].binary


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "keys"}, "attention must be one of values, all, not 'keys'"),
        ({"gates": "gate"}, "gates must be one of signal, both, not 'gate'"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        Selector(**options).check()  # type: ignore[arg-type]


def test_norms_with_running_statistics_are_refused() -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 3, 1), nn.InstanceNorm2d(3, track_running_stats=True), nn.Flatten(), nn.Linear(48, 3)
    )
    x = torch.rand(1, 2, 4, 4)
    with pytest.raises(UnsupportedOperation, match="normalises with running statistics; supported: the image's own"):
        Graph(model.eval(), x)


def test_a_pattern_that_is_moved_is_followed_too() -> None:
    """A softmax reshaped and back is followed as it is."""

    def run(m: Any, x: Tensor, moved: bool) -> Any:
        h = m.tokens(x.flatten(2))
        scores = h @ h.transpose(-1, -2)
        pattern = scores.softmax(-1).reshape(-1, 1, 2, 2).reshape(-1, 2, 2) if moved else scores.softmax(-1)
        return m.head((pattern @ m.values(h)).flatten(1))

    x, paths = torch.rand(3, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), []
    for moved in (False, True):
        torch.manual_seed(0)
        parts = {"tokens": nn.Linear(16, 6), "values": nn.Linear(6, 6), "head": nn.Linear(12, 3)}
        model = Written(partial(run, moved=moved), **parts).double().eval()
        paths.append(EffectivePath(0.9, attention="all").extract(Graph(model, x[:1]), x))
    for first, second in zip(*paths):
        assert torch.equal(first.synapses("tokens"), second.synapses("tokens"))
        assert first["softmax", "routing"].dense().any()


@pytest.mark.parametrize(
    "pool",
    [
        nn.AvgPool1d(3, 2, 1),
        nn.AvgPool2d((3, 2), 2, (1, 0), ceil_mode=True),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        nn.AvgPool2d(2, divisor_override=3),
        nn.AvgPool3d((2, 3, 3), (1, 2, 2), (1, 1, 0), ceil_mode=True),
        nn.AdaptiveAvgPool2d((2, 3)),
        nn.AdaptiveAvgPool3d(2),
    ],
    ids=str,
)
def test_what_an_average_takes_adds_up_to_it(pool: nn.Module) -> None:
    axes = 1 if "1d" in str(pool) else 3 if "3d" in str(pool) else 2
    x = torch.rand(2, 2, *(4, 5, 6)[:axes], dtype=torch.float64)
    model = nn.Sequential(pool, nn.Flatten(), nn.Linear(pool(x)[0].numel(), 3)).double().eval()
    model[2].weight.data.abs_()
    graph = Graph(model, x[:1])
    means = graph.run(x, record=["0"])["0"].detach().flatten(1)
    for image, path in enumerate(EffectivePath(1.0, contributions=True).extract(graph, x)):
        active = path.neurons("0").flatten() > 0
        taken = path.synapses("0").reshape(len(active), -1).sum(1)
        torch.testing.assert_close(taken[active].double(), means[image][active], rtol=1e-5, atol=1e-6)
        assert active.any()


def test_conversions_are_exact_but_for_rounding() -> None:
    """In single precision between double ones: pixels, biases and constants miss the logit by its rounding."""
    torch.manual_seed(0)
    model = Written(
        lambda m, x: m.head(m.stem(x).float().double().flatten(1)), stem=nn.Conv2d(2, 3, 3), head=nn.Linear(12, 3)
    )
    x = torch.rand(2, 2, 4, 4, dtype=torch.float64)
    graph = Graph(model.double().eval(), x)
    assert [node.operation for node in graph.nodes.values() if node.family and node.family.name == "conversion"] == [
        "to"
    ] * 2
    for path in EffectivePath(budget=True).extract(graph, x):
        assert path.budget is not None
        found = path.budget.pixels + path.budget.biases + path.budget.constants
        assert abs(found - path.budget.logit) < 1e-6 * max(1.0, abs(path.budget.logit))
