"""Computing chosen filters alone gives the logits of the network that masks them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netpaths import CalculationPath, Graph, zoo
from netpaths.decoupling.controller import Controller, ScatteringGate
from netpaths.decoupling.insertion import Decoupled, decouple
from netpaths.decoupling.layers import decoupled_layers
from netpaths.decoupling.removal import remove_unused
from netpaths.errors import BadInput, BadOption, UnknownNode
from netpaths.path import union
from netpaths.runtime import Accelerated, accelerate
from netpaths.runtime.assembly import Part
from networks import Network, random_network

pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same.:UserWarning")

TOLERANCE = 1e-5


def images(*shape: int, seed: int = 0) -> Tensor:
    """Noise of different brightness, which controllers see."""
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    return noise * torch.linspace(0.1, 1, len(noise)).reshape(-1, 1, 1, 1)


def varied(network: Decoupled, x: Tensor, share: float = 0.6, seed: int = 1) -> Decoupled:
    """The network with controllers that look at the image; every filter is on for about ``share`` of ``x``."""
    generator = torch.Generator().manual_seed(seed)
    for name in network.layers:
        controller, scores = network.controller(name), []
        with torch.no_grad():
            controller.squeeze.weight.normal_(generator=generator).abs_()
            controller.excite.bias.zero_()
        hook = controller.register_forward_hook(lambda own, given, out, to=scores: to.append(own.score(given[0])))  # type: ignore[misc]
        with torch.no_grad():
            network(x)
            ranked = scores[0].sort(0).values
            ranked = torch.cat([ranked[:1] - 0.02, ranked, ranked[-1:] + 0.02])
            off = (torch.rand(scores[0].shape, generator=generator) > share).sum(0, keepdim=True)  # images, by filter
            below, above = ranked.gather(0, off)[0], ranked.gather(0, off + 1)[0]
            controller.excite.bias.copy_(torch.where(above - below > 1e-3, -(below + above) / 2, 0.02 - below))
        hook.remove()
    return network


def codes_of(graph: Graph, x: Tensor) -> dict[str, Tensor]:
    layers = decoupled_layers(graph)
    values = graph.run(x, record={layer.controller for layer in layers}).values
    return {layer.convolution: values[layer.controller] for layer in layers}


def decided(graph: Graph, x: Tensor) -> Tensor:
    """Images without a score so near to 0 that rounding could turn it: (n,) int64."""
    values, sure = graph.run(x, record="all").values, torch.ones(len(x), dtype=torch.bool)
    for node in graph.nodes.values():
        module = node.arguments.get("module")
        if isinstance(module, Controller):
            scores = module.score(values[node.inputs[0]])
            largest = scores.abs().max() + module.excite.bias.abs().max()
            sure &= (scores.abs() > 1e-5 * largest).all(1)
    return sure.nonzero()[:, 0]


def assert_masked(network: nn.Module, x: Tensor, least: int = 1) -> Accelerated:
    """Compare with the masked network, for the batch and for every image alone; returns what was compared."""
    graph, accelerated = Graph(network, x), accelerate(network, x)
    with torch.no_grad():
        chosen = decided(graph, x)
        assert len(chosen) >= least
        expected = graph.run(x).logits
    for found in (accelerated(x), torch.cat([accelerated(image[None]) for image in x])):
        if len(chosen):
            assert_logits(found[chosen], expected[chosen])
    return accelerated


def assert_logits(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert found.dtype == torch.float32
    assert float((found - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())


class Fire(nn.Module):
    """Two branches side by side, as in SqueezeNet."""

    def __init__(self, inputs: int, squeezed: int, outputs: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.one = nn.Conv2d(squeezed, outputs, 1)
        self.three = nn.Conv2d(squeezed, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.one(x)), F.relu(self.three(x))], 1)


def squeezed() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(12, 4, 8),
        Fire(16, 4, 9),
        nn.Dropout(),
        nn.Conv2d(18, 7, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def small_vgg() -> nn.Module:
    torch.manual_seed(3)
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 20), (20, 33), (33, 17)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
        norm: Any = layers[-3]
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(17 * 4, 50), nn.ReLU(), nn.Linear(50, 10)).eval()


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "lenet5": (zoo.LeNet5, (1, 28, 28)),
    "resnet20": (zoo.resnet20, (3, 32, 32)),
    "vgg": (small_vgg, (3, 16, 16)),
    "squeezenet": (squeezed, (3, 33, 37)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_same_logits_as_the_masked_network(name: str) -> None:
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    x = images(6, *shape)
    network = varied(decouple(make(), x), x)
    with torch.no_grad():
        codes = torch.cat(list(codes_of(Graph(network, x), x).values()), 1)
    assert 0.3 < float(codes.mean()) < 0.9
    assert len(codes.unique(dim=0)) > 1
    accelerated = assert_masked(network, x, least=4)
    assert len(accelerated.native) == len(Graph(network, x).nodes) - 1  # nothing but the input is foreign


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_few_and_many_filters(share: float) -> None:
    torch.manual_seed(1)
    x = images(4, 3, 16, 16)
    assert_masked(varied(decouple(small_vgg(), x), x, share), x)


@pytest.mark.parametrize("seed", range(24))
def test_random_networks(seed: int) -> None:
    """Convolutions of all kinds, norms, activations, pools, sums, slices; what is not native runs in torch."""
    steps = random_network(seed)
    x = torch.randn(3, *shape_of(seed), generator=torch.Generator().manual_seed(seed))
    plain = Network(steps).float()
    try:
        network: nn.Module = varied(decouple(plain, x), x, seed=seed)
    except BadOption:
        network = plain
    assert_masked(network, x, least=0)


def shape_of(seed: int) -> tuple[int, int, int]:
    import random

    choice = random.Random(seed)
    return choice.randint(1, 3), choice.randint(6, 9), choice.randint(6, 9)


class Residual(nn.Module):
    """Random convolutions with a residual sum; the last one is grouped in half of the cases."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        pick = np.random.default_rng(seed)
        torch.manual_seed(seed)
        kernel, dilation = pick.integers(1, 5, 2), pick.integers(1, 3, 2)
        padding = [int(pick.integers(0, d * (k - 1) + 2)) for k, d in zip(kernel, dilation)]
        width, inner = int(pick.integers(2, 23)) * 2, int(pick.integers(2, 30))
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.first = nn.Conv2d(width, inner, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(inner)
        self.second = nn.Conv2d(inner, width, (3, 1), padding=(1, 0))
        steps = tuple(int(step) for step in pick.integers(1, 4, 2))
        self.third = nn.Conv2d(width, inner, tuple(kernel.tolist()), steps, tuple(padding), tuple(dilation.tolist()))
        self.fourth = nn.Conv2d(inner, inner, 3, padding=1, groups=inner if seed % 2 else 1)
        self.linear = nn.Linear(inner, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu6(x + self.second(F.relu(self.norm(self.first(x)))))
        x = F.relu(self.fourth(F.relu(self.third(x))))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


@pytest.mark.parametrize("seed", range(24))
def test_random_residual_networks(seed: int) -> None:
    x = images(3, 3, 9 + seed % 11, 13 + seed % 7)
    network = varied(decouple(Residual(seed).eval(), x), x, 0.5 + 0.02 * seed, seed)
    accelerated = assert_masked(network, x, least=1)
    assert ("fourth" in accelerated.native) == (seed % 2 == 0)


@pytest.mark.parametrize("bias", [-50.0, 50.0])
def test_nothing_and_everything_on(bias: float) -> None:
    x = images(2, 3, 32, 32)
    plain = zoo.resnet20().eval()
    accelerated = assert_masked(decouple(plain, x, bias=bias), x)
    if bias > 0:
        assert_logits(accelerated(x), plain(x).detach())


def test_a_network_without_controllers_computes_everything() -> None:
    x = images(3, 3, 32, 32)
    plain = zoo.resnet20().eval()
    assert_logits(accelerate(plain, x)(x), plain(x).detach())


def poisoned(accelerated: Accelerated, row: Tensor, part: slice = slice(None), value: float = np.nan) -> int:
    """Overwrite the stored weights ``row`` of a filter, or a part of them; how often they were found."""
    weights, wanted = accelerated._assembled.numbers[1], row.flatten().numpy()
    starts = np.flatnonzero(weights[: len(weights) - len(wanted) + 1] == wanted[0])
    found = [start for start in starts if (weights[start : start + len(wanted)] == wanted).all()]
    for start in found:
        weights[start : start + len(wanted)][part] = value
    return len(found)


def test_weights_of_what_is_off_are_never_read() -> None:
    """NaN in the weights of filters that are off, and of inputs that are off, reaches nothing."""
    torch.manual_seed(5)
    x = images(3, 3, 16, 16)
    network = varied(decouple(small_vgg(), x), x)
    first, second = network.layers
    with torch.no_grad():
        network.controller(first).excite.bias[5:9] = -1e6
        network.controller(second).excite.bias[0] = -1e6
    graph, accelerated = Graph(network, x), accelerate(network, x)
    expected = graph.run(x).logits.detach()
    weights = [graph.nodes[name].weight.detach() for name in (first, second)]
    assert [poisoned(accelerated, weights[0][off]) for off in range(5, 9)] == [1] * 4
    assert poisoned(accelerated, weights[1][0]) == 1
    assert all(poisoned(accelerated, row, slice(5 * 9, 9 * 9)) == 1 for row in weights[1][1:])
    assert_logits(accelerated(x), expected)
    on = int(codes_of(graph, x)[first].sum(0).argmax())
    assert poisoned(accelerated, weights[0][on], value=1e3) == 1  # what is on is read
    assert float((accelerated(x) - expected).abs().max()) > 1


def fixed_codes(graph: Graph, share: float) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(7)
    return {
        layer.convolution: torch.rand(graph.nodes[layer.convolution].shape[0], generator=generator) < share
        for layer in decoupled_layers(graph)
    }


def test_fixed_codes_take_the_place_of_the_controllers() -> None:
    x = images(3, 3, 32, 32)
    network = varied(decouple(zoo.resnet20(), x), x)
    graph = Graph(network, x)
    fixed = fixed_codes(graph, 0.5)
    accelerated = accelerate(network, x, fixed)
    edits: Any = {
        layer.controller: lambda given, out, on=fixed[layer.convolution]: on.float().expand(len(out), -1)
        for layer in decoupled_layers(graph)
    }
    assert_logits(accelerated(x), graph.run(x, edits=edits).logits.detach())
    first = next(iter(fixed))
    weight, off = graph.nodes[first].weight.detach(), int((~fixed[first]).nonzero()[0])
    assert poisoned(accelerated, weight[off]) == 0  # a filter that is off is not even stored


def test_some_codes_fixed_the_others_chosen() -> None:
    x = images(4, 3, 16, 16)
    network = varied(decouple(small_vgg(), x), x)
    graph = Graph(network, x)
    codes, last = codes_of(graph, x[:1]), network.layers[-1]
    found = accelerate(network, x, {last: codes[last][0] > 0})(x[:1])
    assert_logits(found, graph.run(x[:1]).logits.detach())


def test_a_convolution_read_in_front_of_its_gate_is_computed_whole() -> None:
    class Peeking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.inner = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
            self.linear = nn.Linear(12, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.inner(F.relu(self.stem(x)))
            return self.linear(torch.cat([torch.sigmoid(x).mean((2, 3)), F.relu(x).mean((2, 3))], 1))

    x = images(4, 3, 8, 8)
    assert_masked(varied(decouple(Peeking().eval(), x), x), x)


def test_later_changes_of_the_weights_do_not_matter() -> None:
    x = images(2, 3, 9, 9)
    network = varied(decouple(Residual(1).eval(), x), x)
    accelerated = accelerate(network, x)
    before = accelerated(x)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert torch.equal(accelerated(x), before)


@pytest.mark.parametrize("threads", [1, 2])
def test_simultaneous_calls(threads: int) -> None:
    x = images(8, 3, 16, 16)
    accelerated = accelerate(varied(decouple(small_vgg(), x), x), x)
    expected = accelerated(x)
    torch.set_num_threads(threads)
    try:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda index: accelerated(x.roll(index, 0)), range(40)))
    finally:
        torch.set_num_threads(1)
    for index, logits in enumerate(found):
        assert torch.equal(logits, expected.roll(index, 0))


def test_threads_do_not_change_the_answer() -> None:
    x = images(5, 3, 32, 32)
    accelerated = accelerate(varied(decouple(zoo.resnet20(), x), x), x)
    alone = accelerated(x)
    torch.set_num_threads(2)
    try:
        together, single = accelerated(x), accelerated(x[:1])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert torch.equal(together, alone)
    assert torch.equal(single, alone[:1])


@pytest.mark.parametrize(("batch", "threads"), [(1, 2), (1, 3), (5, 4)])
def test_big_convolutions_are_shared(batch: int, threads: int) -> None:
    torch.manual_seed(2)
    x = images(batch, 3, 16, 16)
    layers = [nn.Conv2d(3, 80, 3, padding=1), nn.ReLU(), nn.Conv2d(80, 64, 3, padding=1), nn.ReLU()]
    accelerated = accelerate(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 4)), x)
    alone = accelerated(x)
    assert sum(part.big for part in accelerated._assembled.steps if isinstance(part, Part)) == 1
    torch.set_num_threads(threads)
    try:
        for _ in range(50):
            assert torch.equal(accelerated(x), alone)
    finally:
        torch.set_num_threads(1)


def test_an_empty_batch() -> None:
    x = images(2, 3, 9, 9)
    assert accelerate(Residual(1).eval(), x)(x[:0]).shape == (0, 5)


def test_other_strides_in_memory() -> None:
    x = images(2, 3, 16, 16)
    accelerated = accelerate(small_vgg(), x)
    assert torch.equal(accelerated(x.to(memory_format=torch.channels_last)), accelerated(x))


def test_refused_images() -> None:
    x = images(2, 3, 16, 16)
    accelerated = accelerate(small_vgg(), x)
    with pytest.raises(BadInput, match=r"shape \(2, 3, 8, 8\), this model takes \('batch', 3, 16, 16\)"):
        accelerated(x[..., :8, :8])
    with pytest.raises(BadInput, match=r"torch.float64, this model takes torch.float32"):
        accelerated(x.double())
    with pytest.raises(BadInput, match="image 1 of the batch holds NaN"):
        accelerated(torch.stack([x[0], torch.full_like(x[0], torch.nan)]))
    with pytest.raises(BadInput, match="meta"):
        accelerated(x.to("meta"))


def test_refused_networks_and_codes() -> None:
    x = images(2, 3, 16, 16)
    with pytest.raises(BadOption, match=r"accelerated in float32, this one takes torch\.float64"):
        accelerate(small_vgg().double(), x.double())
    network = decouple(small_vgg(), x)
    first = network.layers[0]
    with pytest.raises(UnknownNode, match="nowhere"):
        accelerate(network, x, {"nowhere": torch.ones(3, dtype=torch.bool)})
    with pytest.raises(BadOption, match=r"0 has no controller; these layers have one: "):
        accelerate(network, x, {"0": torch.ones(20, dtype=torch.bool)})
    with pytest.raises(BadOption, match=rf"fixed codes of {first} must be a bool tensor \(33,\)"):
        accelerate(network, x, {first: torch.ones(33)})
    with pytest.raises(BadOption, match="no controllers"):
        accelerate(small_vgg(), x, {"0": torch.ones(20, dtype=torch.bool)})


@pytest.mark.parametrize("name", NETWORKS)
def test_reduced_networks(name: str) -> None:
    """Without the filters that no image uses: gates in front of sums scatter, and all of it stays native."""
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    x = images(6, *shape)
    network = varied(decouple(make(), x), x, share=0.3)
    graph = Graph(network, x)
    path = union(CalculationPath().extract(graph, x))
    reduced = remove_unused(network, path)
    scatters = [gate for gate in reduced.modules() if isinstance(gate, ScatteringGate)]
    assert bool(scatters) == (name == "resnet20")
    accelerated = assert_masked(reduced, x, least=4)
    assert len(accelerated.native) == len(graph.nodes) - 1
    chosen = decided(graph, x)
    with torch.no_grad():
        assert_logits(accelerated(x)[chosen], graph.run(x).logits[chosen])
