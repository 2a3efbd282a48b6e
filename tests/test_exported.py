"""Networks that are read by what they compute, however they are written."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import netpaths
from netpaths.errors import BadInput, UnknownNode
from netpaths.graph import Graph
from netpaths.graph.layout import Layout


def images(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Attention(nn.Module):
    """Two heads over four tokens, with the pattern written out or not."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.patches, self.norm = nn.Conv2d(2, 8, 2, 2), nn.LayerNorm(8)
        self.qkv, self.proj = nn.Linear(8, 24), nn.Linear(8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.up, self.down, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.patches(x).flatten(2).transpose(1, 2)
        h = torch.cat([self.token.expand(h.shape[0], -1, -1), h], 1)
        q, k, v = self.qkv(self.norm(h)).reshape(h.shape[0], -1, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v)
        else:
            mixed = (q @ k.transpose(-1, -2) / 2).softmax(-1) @ v
        h = h + self.proj(mixed.transpose(1, 2).reshape(h.shape))
        return self.head((h + self.down(F.gelu(self.up(h)))).mean(1))


def attention(fused: bool) -> nn.Module:
    torch.manual_seed(0)
    return Attention(fused).double().eval()


def test_attention_written_out_is_fused_attention() -> None:
    x = images(3, 2, 4, 4, dtype=torch.float64)
    fused, written = Graph(attention(True), x[:1]), Graph(attention(False), x[:1])
    method = netpaths.EffectivePath()
    for first, second in zip(method.extract(fused, x), method.extract(written, x)):
        for layer in ("patches", "qkv", "proj", "up", "down", "head"):
            assert torch.equal(first.synapses(layer), second.synapses(layer))
            assert torch.equal(first.weights(layer), second.weights(layer))
        assert first.neurons(fused.input).any()


def test_tokens_choose_what_each_would_choose_alone() -> None:
    """Linear layers and mixing against a brute-force restatement of the selection."""
    model, x = attention(True), images(1, 2, 4, 4, dtype=torch.float64)
    graph = Graph(model, x)
    path = netpaths.EffectivePath(theta=0.9).extract(graph, x)[0]
    with torch.no_grad():
        trace = graph.run(x, record="all")
    checked = 0
    for layer in ("proj", "up", "down"):
        node = graph.node(layer)
        before, after = trace.values[node.inputs[0]][0], trace.values[layer][0]
        for token, unit in path.neurons(layer).nonzero().tolist():
            products = before[token] * node.weight[unit].detach() * (-1 if after[token, unit] < 0 else 1)
            assert chosen(products, 0.9) == set(path.synapses(layer)[token, unit].nonzero()[:, 0].tolist())
            checked += 1
        kept = path.synapses(layer).any(0)
        assert torch.equal(path.weights(layer), kept)
    assert checked > 10


def chosen(products: torch.Tensor, theta: float) -> set[int]:
    """The fewest products that cover ``theta`` of their sum, by sorting."""
    total = float(products.sum())
    order = sorted(range(len(products)), key=lambda index: (-float(products[index]), index))
    if total <= 0:
        return {order[0]}
    covered, found = 0.0, set()
    for index in order:
        found.add(index)
        covered += float(products[index])
        if covered >= theta * total:
            break
    return found


def test_one_image_is_a_batch_of_them() -> None:
    x = images(4, 2, 4, 4, dtype=torch.float64)
    graph = Graph(attention(True), x[:1])
    method = netpaths.EffectivePath()
    assert all(method.extract(graph, x[i : i + 1])[0].equals(path) for i, path in enumerate(method.extract(graph, x)))


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.squeeze, self.head = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.silu(self.conv(x))
        return self.head((h * torch.sigmoid(self.squeeze(F.adaptive_avg_pool2d(h, 1)))).mean((2, 3)))


def test_paths_follow_the_signal_and_not_the_gate() -> None:
    torch.manual_seed(0)
    x = images(2, 2, 6, 6)
    graph = Graph(Gate().eval(), x[:1])
    for path in netpaths.EffectivePath().extract(graph, x):
        assert not path.neurons("squeeze").any()
        assert torch.equal(path.neurons("mul"), path.neurons("conv"))
        assert path.neurons(graph.input).any()


def test_names_are_stable_and_take_underscores() -> None:
    x = images(1, 3, 32, 32)
    model = netpaths.load_model("resnet20").eval()
    first, second = Graph(model, x), Graph(model, x)
    assert list(first.nodes) == list(second.nodes)
    assert first.fingerprint == second.fingerprint
    assert first.node("layer1_0_conv1") is first.node("layer1.0.conv1")
    with pytest.raises(UnknownNode, match=r"layer1\.0\.conv1"):
        first.node("layer1.0.conv7")


def test_softmax_at_the_end_is_led_back_to_logits() -> None:
    torch.manual_seed(0)
    core = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()
    x = images(2, 2, 6, 6)

    class Probabilities(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.core = core

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.core(x).softmax(1)

    graph = Graph(Probabilities(), x[:1])
    assert torch.allclose(graph.run(x).logits, core(x))


def test_one_logit_is_refused_with_a_way_out() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 1)).eval()
    with pytest.raises(BadInput, match="one logit"):
        Graph(model, images(1, 2, 2, 2))


def test_layouts_put_images_first_and_back() -> None:
    value = torch.arange(2 * 6 * 3).reshape(3, 2 * 6)
    layout = Layout(1, 3)
    found = layout.images(value)
    assert found.shape == (4, 3, 3)
    assert torch.equal(found[1, :, 2], value[:, 5])
    assert torch.equal(layout.back(found), value)


def small() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@pytest.mark.parametrize("wrap", ["weight_norm", "spectral_norm"])
def test_weights_that_a_hook_recomputes(wrap: str) -> None:
    """Loaded from a state dict and not run since, a weight attribute is older than what the hook makes of it."""
    torch.manual_seed(0)
    trained, loaded, x = small(), small(), images(4, 3, 8, 8)
    for model in (trained, loaded):
        for layer in (model[0], model[3]):
            getattr(nn.utils, wrap)(layer)
    trained(x)
    loaded.load_state_dict(trained.state_dict())
    graph = Graph(loaded.eval(), x[:1])
    with torch.no_grad():
        torch.testing.assert_close(graph.run(x).logits, loaded(x))


def test_two_branches_stacked_in_front_of_the_images() -> None:
    class Stacked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(2, 3, 3), nn.Conv2d(2, 3, 3), nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = torch.stack([F.relu(self.a(x)), F.relu(self.b(x))])
            return self.head((h[0] + h[1]).mean((2, 3)))

    class Added(Stacked):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head((F.relu(self.a(x)) + F.relu(self.b(x))).mean((2, 3)))

    x, paths = images(3, 2, 6, 6), []
    for kind in (Stacked, Added):
        torch.manual_seed(0)
        paths.append(netpaths.EffectivePath().extract(Graph(kind().eval(), x[:1]), x))
    for first, second in zip(*paths):
        assert all(torch.equal(first.weights(layer), second.weights(layer)) for layer in ("a", "b", "head"))


def test_the_model_is_left_as_it_was() -> None:
    model = attention(True).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    Graph(model, images(1, 2, 4, 4, dtype=torch.float64))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
