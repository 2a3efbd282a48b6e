"""A network split at its first gate against the interpreter, which runs all of it node by node."""

from __future__ import annotations

import random
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from netpaths import Graph, load_model
from netpaths.errors import BadInput, BadOption, UnknownNode
from netpaths.graph.gated import Gated
from netpaths.zoo import import_torchvision
from networks import Builder, Network, random_network
from test_architectures import settle


def vision(name: str) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model: nn.Module = import_torchvision().models.get_model(name, num_classes=5)
    return model


class Parallel(nn.Module):
    """Two branches of one value, joined twice, and ``view`` as tutorials flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.left = nn.Conv2d(4, 5, 3, padding=1)
        self.right = nn.Conv2d(4, 5, 1)
        self.joined = nn.Conv2d(9, 6, 3, stride=2)
        self.first, self.last = nn.Linear(6 * 9, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        stem = torch.relu(self.stem(x))
        total = torch.relu(self.left(stem)) + self.right(stem)
        both = torch.relu(self.joined(torch.cat([total, stem], 1)))
        logits: Tensor = self.last(torch.relu(self.first(both.view(both.size(0), -1))))
        return logits


class Signal(nn.Module):
    """One axis of positions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv1d(2, 4, 3), nn.Conv1d(4, 3, 3), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(torch.relu(self.conv2(torch.relu(self.conv1(x)))).mean(2))
        return logits


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "lenet5": (lambda: load_model("lenet5"), (1, 28, 28)),
    "resnet20": (lambda: load_model("resnet20", classes=5), (3, 32, 32)),
    "squeezenet": (lambda: vision("squeezenet1_0"), (3, 64, 64)),
    "densenet": (lambda: vision("densenet121"), (3, 32, 32)),
    "parallel": (Parallel, (3, 8, 8)),
    "signal": (Signal, (2, 9)),
}
GRAPHS: dict[str, Graph] = {}


def graph_of(name: str) -> Graph:
    """The graph of a network in float64, made once."""
    if name not in GRAPHS:
        make, shape = MODELS[name]
        torch.manual_seed(0)
        model = settle(make(), torch.rand(2, *shape)).double()
        GRAPHS[name] = Graph(model, torch.rand(1, *shape, dtype=torch.float64))
    return GRAPHS[name]


def images_for(graph: Graph, number: int = 3) -> Tensor:
    return torch.rand(number, *graph.input_shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gates_for(graph: Graph, nodes: Sequence[str], full: Sequence[bool], number: int = 3) -> list[Tensor]:
    """Random gates in [0, 2), some of them 0: (number, channels), or (number, *shape) where ``full`` says so."""
    generator = torch.Generator().manual_seed(2)
    shapes = [graph.node(name).shape if whole else graph.node(name).shape[:1] for name, whole in zip(nodes, full)]
    drawn = [2 * torch.rand(number, *shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [gate * (gate > 0.3) for gate in drawn]


def slopes(logits: Tensor, gates: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The gradient of one weighted sum of all logits."""
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(3), dtype=logits.dtype)
    return torch.autograd.grad((logits * weights).sum(), list(gates))


def assert_agrees(graph: Graph, nodes: Sequence[str], full: Sequence[bool]) -> None:
    """Values, and gradients with respect to every gate, are the interpreter's."""
    x = images_for(graph)
    gates = [gate.requires_grad_() for gate in gates_for(graph, nodes, full)]
    twins = [gate.detach().clone().requires_grad_() for gate in gates]
    gated = Gated(graph, nodes)
    logits = gated(gated.start(x), gates)
    expected = graph.run(x, gates=dict(zip(nodes, twins))).logits
    torch.testing.assert_close(logits, expected, rtol=1e-10, atol=1e-10)
    for own, other in zip(slopes(logits, gates), slopes(expected, twins)):
        torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-9)
        assert bool(own.any())


def spread(graph: Graph, number: int) -> list[str]:
    """Layers at equal distances, without the last one."""
    layers = graph.layers[:-1]
    return [layers[place * len(layers) // number] for place in range(number)]


@pytest.mark.parametrize("full", [False, True], ids=["channels", "full"])
@pytest.mark.parametrize("name", MODELS)
def test_layers_against_the_interpreter(name: str, full: bool) -> None:
    graph = graph_of(name)
    nodes = spread(graph, min(4, len(graph.layers) - 1))
    assert_agrees(graph, nodes, [full] * len(nodes))


@pytest.mark.parametrize("name", MODELS)
def test_any_single_node_against_the_interpreter(name: str) -> None:
    """Every node of the small networks, every tenth of the others; the input and the logits are among them."""
    graph = graph_of(name)
    nodes = [node for node in graph.nodes if graph.nodes[node].shape]
    for place in [*range(0, len(nodes), max(1, len(nodes) // 20)), len(nodes) - 1]:
        assert_agrees(graph, [nodes[place]], [place % 2 == 0])


@pytest.mark.parametrize(
    "nodes",
    [
        ("x", "last"),  # the input and the logits
        ("left", "right"),  # beside each other
        ("right", "stem"),  # in another order than they run
        ("relu", "left", "relu#2", "joined"),  # gated, and read by what is gated
        ("stem", "relu", "add", "cat"),
        ("add", "flatten", "first"),
    ],
)
def test_several_nodes_against_the_interpreter(nodes: tuple[str, ...]) -> None:
    for full in (False, True):
        assert_agrees(graph_of("parallel"), nodes, [full] * len(nodes))
    assert_agrees(graph_of("parallel"), nodes, [place % 2 == 0 for place in range(len(nodes))])


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("seed", range(40))
def test_random_networks_against_the_interpreter(seed: int) -> None:
    """Grouped, dilated and shared convolutions, pieces, borders: three nodes of each of many small networks."""
    choice = random.Random(seed)
    model = Network(random_network(seed)).double()
    graph = Graph(model, torch.rand(1, *Builder(seed).shape(0), dtype=torch.float64))
    nodes = choice.sample([node for node in graph.nodes if graph.nodes[node].shape], 3)
    x, gates = images_for(graph), gates_for(graph, nodes, [choice.random() < 0.5 for _ in nodes])
    gated = Gated(graph, nodes)
    expected = graph.run(x, gates=dict(zip(nodes, gates))).logits
    torch.testing.assert_close(gated(gated.start(x), gates), expected, rtol=1e-9, atol=1e-9)


def test_gates_of_one_are_the_plain_network() -> None:
    for name in ("lenet5", "resnet20", "parallel"):
        graph = graph_of(name)
        x, nodes = images_for(graph), spread(graph, 2)
        gated = Gated(graph, nodes)
        ones = [torch.ones(3, graph.node(node).shape[0], dtype=torch.float64) for node in nodes]
        torch.testing.assert_close(gated(gated.start(x), ones), graph.run(x).logits, rtol=1e-10, atol=1e-12)


class Counted(TorchDispatchMode):
    """How many convolutions run inside the block."""

    calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += func is torch.ops.aten.convolution.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("name", "place", "in_front"),
    [
        ("lenet5", 0, 1),
        ("lenet5", 1, 2),
        ("resnet20", 0, 1),
        ("resnet20", 12, 13),
        ("squeezenet", 20, 22),  # the first of two branches: the other one is not behind it
        ("squeezenet", 21, 22),
    ],
)
def test_only_what_is_behind_the_first_gate_runs_again(name: str, place: int, in_front: int) -> None:
    graph = graph_of(name)
    x, nodes = images_for(graph), [graph.layers[place], graph.layers[-1]]
    with Counted() as whole:
        graph.run(x)
    gated = Gated(graph, nodes)
    with Counted() as before:
        start = gated.start(x)
    with Counted() as behind:
        gated(start, gates_for(graph, nodes, [False] * len(nodes)))
    assert (before.calls, behind.calls) == (in_front, whole.calls - in_front)


def test_start_is_no_part_of_the_gradient() -> None:
    graph = graph_of("parallel")
    x = images_for(graph).requires_grad_()
    start = Gated(graph, ["left", "right"]).start(x)
    assert not any(value.requires_grad for value in start if isinstance(value, Tensor))


def test_one_start_serves_many_gates() -> None:
    """Neither a pass nor a gradient leaves anything behind in the values that the next one begins with."""
    graph = graph_of("resnet20")
    nodes = spread(graph, 3)
    gated, x = Gated(graph, nodes), images_for(graph)
    start = gated.start(x)
    kept = [value.clone() for value in start]
    gates = [gate.requires_grad_() for gate in gates_for(graph, nodes, [False] * 3)]
    first = gated(start, gates)
    slopes(first, gates)
    gated(start, [gate.detach() * 0 for gate in gates])
    assert torch.equal(gated(start, gates), first)
    assert all(torch.equal(value, other) for value, other in zip(start, kept))


def test_images_do_not_touch_each_other() -> None:
    graph = graph_of("squeezenet")
    nodes = spread(graph, 3)
    gated, x = Gated(graph, nodes), images_for(graph)
    gates = gates_for(graph, nodes, [False] * 3)
    together = gated(gated.start(x), gates)
    for image in range(3):
        own = slice(image, image + 1)
        alone = gated(gated.start(x[own]), [gate[own] for gate in gates])
        torch.testing.assert_close(alone, together[own], rtol=1e-12, atol=1e-12)


def test_the_model_is_untouched() -> None:
    torch.manual_seed(0)
    model = Parallel().double()
    model.train()
    model.stem.weight.requires_grad_(False)
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    graph = Graph(model, x)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    kept = x.clone()
    gates = [torch.ones(2, 5, dtype=torch.float64, requires_grad=True)]
    gated = Gated(graph, ["left"])
    slopes(gated(gated.start(x), gates), gates)
    assert model.training
    assert not model.stem.weight.requires_grad
    assert model.left.weight.requires_grad
    assert all(parameter.grad is None for parameter in [*model.parameters(), *graph.module.parameters(), *gates])
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(x, kept)


def test_the_weights_are_the_graphs_own() -> None:
    graph = graph_of("lenet5")
    gated, x = Gated(graph, ["conv2"]), images_for(graph)
    gates = gates_for(graph, ["conv2"], [False])
    weight = graph.module.get_parameter("conv1.weight")
    kept = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.mul_(0.5)
        changed = graph.run(x, gates={"conv2": gates[0]}).logits
        torch.testing.assert_close(gated(gated.start(x), gates), changed, rtol=1e-10, atol=1e-12)
    finally:
        with torch.no_grad():
            weight.copy_(kept)


def test_errors() -> None:
    graph = graph_of("lenet5")
    with pytest.raises(UnknownNode, match=re.escape("there is no node 'conv3'; nearest: conv2, conv1, fc3")):
        Gated(graph, ["conv1", "conv3"])
    with pytest.raises(BadOption, match="gates need at least one node and each of them once, not conv1, conv1"):
        Gated(graph, ["conv1", "conv1"])
    with pytest.raises(BadOption, match="gates need at least one node and each of them once, not none"):
        Gated(graph, [])
    gated, x = Gated(graph, ["conv1"]), images_for(graph)
    with pytest.raises(BadInput, match=re.escape("images have shape (3, 1, 14, 14), this model takes ('batch', 1, 28")):
        gated.start(x[:, :, ::2, ::2])
    with pytest.raises(BadInput, match=re.escape("images are torch.float32, this model takes torch.float64")):
        gated.start(x.float())
    x[1, 0, 3, 3] = torch.nan
    with pytest.raises(BadInput, match="image 1 of the batch holds NaN or infinite pixels"):
        gated.start(x)


def test_a_folded_norm_is_named() -> None:
    with pytest.raises(UnknownNode, match=r"layer1\.0\.bn1 was folded into layer1\.0\.conv1"):
        Gated(graph_of("resnet20"), ["layer1_0_bn1"])
