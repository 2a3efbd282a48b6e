"""Critical data routing paths against a plain loop over one image, a convex solver, closed forms and the paper."""

from __future__ import annotations

import copy
import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor, nn

from netpaths import Graph, Path, load_model
from netpaths.errors import BadInput, BadOption, UnknownNode
from netpaths.graph.gated import Gated
from netpaths.methods.routing import DistillationGuidedRouting, _Search
from netpaths.methods.units import routed_nodes
from netpaths.zoo import import_torchvision
from test_architectures import settle
from trained import trained

Routing = DistillationGuidedRouting


class Case(NamedTuple):
    """A graph in float64 and images for it."""

    graph: Graph
    x: Tensor


class Small(nn.Module):
    """Two convolutions, the mean over positions, and a linear layer that tells classes apart."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 16, 3), nn.Linear(16, 6)
        self.activation = activation
        with torch.no_grad():
            for layer, factor in ((self.conv1, 3), (self.conv2, 3), (self.fc, 10)):
                layer.weight.mul_(factor)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.conv2(self.activation(self.conv1(x))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


@cache
def case(name: str) -> Case:
    """digits: a trained LeNet-5. residual: ResNet-20 of random weights. relu, softplus: `Small`."""
    torch.manual_seed(0)
    if name == "digits":
        own = trained()
        x = own.x[:12].double()
        return Case(Graph(copy.deepcopy(own.model).double(), x[:1]), x)
    if name == "residual":
        x = torch.rand(4, 3, 16, 16)
        return Case(Graph(settle(load_model("resnet20"), x).double(), x[:1].double()), x.double())
    x = torch.rand(8, 3, 8, 8, dtype=torch.float64)
    return Case(Graph(Small(nn.ReLU() if name == "relu" else nn.Softplus()).double(), x[:1]), x)


def singles(x: Tensor) -> list[Tensor]:
    """Every image as a batch of its own."""
    return [x[place : place + 1] for place in range(len(x))]


# --- references ------------------------------------------------------------------------------------------------------


class Iterate(NamedTuple):
    """Gates before a step (units,), their loss, and whether the top class is the plain network's."""

    gates: Tensor
    loss: float
    keeps: bool


def loss_of(graph: Graph, image: Tensor, gates: Sequence[Tensor], nodes: Sequence[str], method: Routing) -> Any:
    """The paper's loss of one image (1, *shape), and its logits, by the interpreter."""
    with torch.no_grad():
        target = torch.softmax(graph.run(image).logits / method.temperature, 1)
    logits = graph.run(image, gates=dict(zip(nodes, gates))).logits
    penalty = sum(gate.abs().sum() for gate in gates)
    return F.cross_entropy(logits / method.temperature, target) + method.gamma * penalty, logits


def descended(graph: Graph, image: Tensor, method: Routing, first: Sequence[Tensor]) -> list[Iterate]:
    """Plain descent for one image (1, *shape) from the gates ``first``, (channels,) for every routed node."""
    nodes = routed_nodes(graph, method.layers)
    gates = [gate.clone().requires_grad_() for gate in first]
    optimiser = torch.optim.SGD(gates, lr=method.lr, momentum=method.momentum, weight_decay=0)
    with torch.no_grad():
        wanted = int(graph.run(image).logits.argmax())
    seen = []
    for _ in range(method.steps):
        loss, logits = loss_of(graph, image, gates, nodes, method)
        seen.append(Iterate(torch.cat(gates).detach(), float(loss.detach()), int(logits.argmax()) == wanted))
        optimiser.zero_grad()
        loss.backward(inputs=gates)
        optimiser.step()
        with torch.no_grad():
            for gate in gates:
                gate.clamp_(0, method.limit)
    return seen


def chosen(seen: Sequence[Iterate], choose: str) -> Tensor:
    if choose == "last":
        return seen[-1].gates
    kept = [iterate for iterate in seen if iterate.keeps] or list(seen)
    return min(kept, key=lambda iterate: iterate.loss).gates


def found(method: Routing, graph: Graph, x: Tensor) -> Tensor:
    """The gates in the graph's own precision, (batch, units); paths keep float32."""
    search = _Search(method, Gated(graph, routed_nodes(graph, method.layers)), x)
    return (search.descend if method.tolerance is None else search.converge)((method.steps,))[0]


def values(path: Path) -> Tensor:
    """All gates of a path side by side, (units,) float32."""
    return torch.cat([path.channels(node).float() for node in path.nodes("channel")])


def by_node(graph: Graph, nodes: Sequence[str], gates: Tensor) -> list[Tensor]:
    """Gates (…, units) as one tensor (…, channels) for every node."""
    bounds = np.cumsum([graph.node(node).shape[0] for node in nodes])[:-1].tolist()
    return list(gates.tensor_split(bounds, dim=-1))


def first_gates(method: Routing, graph: Graph, image: Tensor) -> list[Tensor]:
    """The gates that a search begins with: ones, or what it returns after no step at all."""
    nodes = routed_nodes(graph, method.layers)
    if method.start == "ones":
        return [torch.ones(graph.node(node).shape[0], dtype=torch.float64) for node in nodes]
    start = values(replace(method, steps=1, choose="last").extract(graph, image)[0])
    return by_node(graph, nodes, start.double())


# --- the descent -----------------------------------------------------------------------------------------------------

OPTIONS: dict[str, dict[str, Any]] = {
    "paper": {},
    "no penalty": {"gamma": 0.0},
    "small penalty": {"gamma": 0.005},
    "large penalty": {"gamma": 0.3},
    "low limit": {"limit": 1.02},
    "limit of one": {"limit": 1.0, "gamma": 0.0, "start": "random"},
    "hard softmax": {"temperature": 0.3, "gamma": 0.01},
    "soft softmax": {"temperature": 5.0, "gamma": 0.01},
    "no momentum": {"momentum": 0.0, "steps": 60},
    "little momentum": {"momentum": 0.5, "lr": 0.3},
    "random start": {"start": "random", "seed": 3},
    "last gates": {"choose": "last"},
    "last gates of a random start": {"choose": "last", "start": "random", "gamma": 0.01, "steps": 17},
    "two evaluations": {"steps": 2},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("name", ["digits", "residual", "relu"])
def test_the_descent_of_every_image(name: str, options: dict[str, Any]) -> None:
    graph, x = case(name)
    method = Routing(**options)
    gates = found(method, graph, x[:3])
    paths = method.extract(graph, x[:3])
    for place in range(3):
        image = x[place : place + 1]
        seen = descended(graph, image, method, first_gates(method, graph, image))
        expected = chosen(seen, method.choose)
        torch.testing.assert_close(gates[place], expected, rtol=0, atol=1e-9)
        torch.testing.assert_close(values(paths[place]), expected.float(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("layers", [("conv2",), ("fc1",), ("fc1", "conv1"), ("conv1", "relu1", "conv2"), ("x", "fc3")])
def test_the_descent_of_chosen_layers(layers: tuple[str, ...]) -> None:
    """Layers on top of each other, linear layers, the images themselves and the logits."""
    graph, x = case("digits")
    method = Routing(layers=layers, gamma=0.02)
    gates = found(method, graph, x[:2])
    for place in range(2):
        image = x[place : place + 1]
        expected = chosen(descended(graph, image, method, first_gates(method, graph, image)), "best")
        torch.testing.assert_close(gates[place], expected, rtol=0, atol=1e-9)


def test_what_the_comparison_covers() -> None:
    """A low limit stops gates, and the gates of the smallest loss are not always those that keep the prediction."""
    graph, x = case("digits")
    low = Routing(limit=1.02)
    stopped = 0
    for image in singles(x[:3]):
        seen = descended(graph, image, low, first_gates(low, graph, image))
        stopped += any(bool((iterate.gates == 1.02).any()) for iterate in seen)
    assert stopped > 0
    large = Routing(gamma=0.3)
    lost = 0
    for image in singles(x):
        seen = descended(graph, image, large, first_gates(large, graph, image))
        lost += not min(seen, key=lambda iterate: iterate.loss).keeps
    assert lost > 0


def test_a_batch_is_its_images() -> None:
    for name in ("digits", "residual"):
        graph, x = case(name)
        for method in (Routing(), Routing(start="random", choose="last"), Routing(tolerance=1e-3, steps=25)):
            together = found(method, graph, x)
            alone = torch.cat([found(method, graph, image) for image in singles(x)])
            torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)
            order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
            torch.testing.assert_close(found(method, graph, x[order]), together[order], rtol=0, atol=1e-12)


def test_a_batch_is_its_images_in_float32() -> None:
    """To 1e-5 but where two values of a pooling window are equal to rounding: there the slope is one or the other."""
    graph, x = case("softplus")
    smooth = Graph(copy.deepcopy(graph.module).float(), x[:1].float())
    apart = differences(smooth, x.float())
    assert float(apart.max()) <= 1e-5
    apart = differences(trained().graph, trained().x[:48])
    assert int((apart > 1e-5).sum()) <= 2
    assert float(apart.max()) <= 1e-2


def differences(graph: Graph, x: Tensor) -> Tensor:
    """How far the gates of each image move when it is alone, or in a batch of another order: (batch,)."""
    together = torch.stack([values(path) for path in Routing().extract(graph, x)])
    alone = torch.stack([values(Routing().extract(graph, image)[0]) for image in singles(x)])
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    shuffled = torch.empty_like(together)
    shuffled[order] = torch.stack([values(path) for path in Routing().extract(graph, x[order])])
    return torch.maximum((together - alone).abs(), (together - shuffled).abs()).amax(1)


def test_nothing_is_carried_from_image_to_image() -> None:
    own = trained()
    method = Routing()
    fresh = Routing().extract(own.graph, own.x[1:2])[0]
    method.extract(own.graph, own.x[:1])
    for _ in range(2):
        assert method.extract(own.graph, own.x[1:2])[0].equals(fresh)


def without(channel: int) -> Graph:
    """The trained LeNet-5 in float64 with one channel of its second convolution always 0."""
    model = copy.deepcopy(trained().model).double()
    layer = model.get_submodule("conv2")
    assert isinstance(layer, nn.Conv2d)
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight[channel] = 0
        layer.bias[channel] = 0
    return Graph(model, trained().x[:1].double())


@pytest.mark.parametrize(("momentum", "gamma"), [(0.9, 0.05), (0.9, 0.01), (0.5, 0.05), (0.0, 0.1)])
def test_a_gate_that_the_loss_ignores(momentum: float, gamma: float) -> None:
    """Only the penalty pulls: after k steps it is at 1 - lr γ Σ_{j ≤ k} (1 - momentum^j) / (1 - momentum)."""
    graph, x = without(5), trained().x[:2].double()
    method = Routing(choose="last", momentum=momentum, gamma=gamma)
    expected, speed = 1.0, 0.0
    for paths in method.extract_steps(graph, x, range(1, 41)):
        for path in paths:
            assert float(path.channels("conv2")[5]) == pytest.approx(max(expected, 0), abs=1e-6)
        power = round(np.log(1 - speed * (1 - momentum)) / np.log(momentum)) if momentum else 0
        speed = (1 - momentum ** (power + 1)) / (1 - momentum)
        expected -= 0.1 * gamma * speed


def test_with_the_papers_parameters_it_is_out_at_the_thirtieth_evaluation() -> None:
    graph, x = without(5), trained().x[:4].double()
    before, after = Routing(choose="last").extract_steps(graph, x, (29, 30))
    closed = 1 - 0.1 * 0.05 / 0.1 * (28 - 0.9 * (1 - 0.9**28) / 0.1)
    assert closed == pytest.approx(0.0264, abs=1e-4)
    for path, later in zip(before, after):
        assert float(path.channels("conv2")[5]) == pytest.approx(closed, abs=1e-6)
        assert 5 in path["conv2", "channel"].members()
        assert 5 not in later["conv2", "channel"].members()


@pytest.mark.parametrize(
    "method",
    [
        Routing(),
        Routing(choose="last"),
        Routing(start="random"),
        Routing(tolerance=1e-3),
        Routing(tolerance=1e-2, choose="last"),
    ],
)
def test_several_numbers_of_steps_from_one_descent(method: Routing) -> None:
    graph, x = case("digits")
    numbers = (12, 1, 30, 5)
    for number, paths in zip(numbers, method.extract_steps(graph, x, numbers)):
        alone = replace(method, steps=number).extract(graph, x)
        assert all(path.equals(other) for path, other in zip(paths, alone))
        assert all(path.method == other.method for path, other in zip(paths, alone))
        assert paths[0].method["steps"] == number


def test_in_front_of_a_relu_a_gate_of_0_stays_0() -> None:
    """PyTorch's ReLU has no slope at 0; behind it the same gate may come back."""
    graph, x = case("digits")
    after: dict[str, list[bool]] = {}
    for where in ("conv", "relu"):
        layers = (f"{where}1", f"{where}2")
        many = Routing(layers=layers, choose="last").extract_steps(graph, x, range(25, 70))
        gates = torch.stack([torch.stack([values(path) for path in paths]) for paths in many])
        gone = (gates == 0).cumsum(0) > 0
        after[where] = gates[gone].bool().tolist()
    assert not any(after["conv"])
    assert any(after["relu"])


def sparsity(paths: Sequence[Path]) -> float:
    return float(np.mean([path.density("channel") for path in paths]))


def test_fewer_channels_with_a_larger_penalty_and_more_steps() -> None:
    own = trained()
    gammas = (0.0, 0.03, 0.05, 0.07, 0.1, 0.2)
    shares = [sparsity(Routing(gamma=gamma).extract(own.graph, own.x)) for gamma in gammas]
    assert shares[0] == shares[1] == 1
    assert all(more > fewer for more, fewer in pairwise(shares[1:])), shares
    several = Routing().extract_steps(own.graph, own.x, (1, 20, 30, 45, 60))
    shares = [sparsity(paths) for paths in several]
    assert shares[0] == shares[1] == 1
    assert all(more > fewer for more, fewer in pairwise(shares[1:])), shares


@pytest.mark.parametrize(
    "method", [Routing(), Routing(gamma=0.5), Routing(limit=1.0), Routing(lr=0.5), Routing(tolerance=1e-2)]
)
@pytest.mark.parametrize("name", ["digits", "residual", "relu"])
def test_the_gates_keep_the_prediction(name: str, method: Routing) -> None:
    """All ones are among the gates that can be chosen, so that every image has some that keep its class."""
    graph, x = case(name)
    paths = method.extract(graph, x)
    nodes = routed_nodes(graph)
    gates = {node: torch.stack([path.channels(node) for path in paths]).double() for node in nodes}
    gated = graph.run(x, gates=gates).predicted
    assert gated.tolist() == graph.run(x).predicted.tolist() == [path.predicted for path in paths]


# --- to convergence --------------------------------------------------------------------------------------------------


def assert_at_rest(graph: Graph, x: Tensor, gates: Tensor, method: Routing, tolerance: float) -> None:
    """The conditions of Karush, Kuhn and Tucker for gates (batch, units) in [0, limit], with autograd's slopes."""
    nodes = routed_nodes(graph, method.layers)
    for image, own in zip(singles(x), gates):
        parts = [part.clone().requires_grad_() for part in by_node(graph, nodes, own)]
        loss, _ = loss_of(graph, image, parts, nodes, replace(method, gamma=0.0))
        slope = torch.cat(torch.autograd.grad(loss, parts)) + method.gamma
        inside = (own > 0) & (own < method.limit)
        assert float(slope[inside].abs().max()) <= tolerance
        assert bool((slope[own == 0] >= -tolerance).all())
        assert bool((slope[own == method.limit] <= tolerance).all())


@pytest.mark.parametrize("limit", [10.0, 1.05])
@pytest.mark.parametrize(
    ("name", "layers", "gamma"),
    [("softplus", None, 0.05), ("relu", ("conv2",), 0.02), ("relu", ("activation#2",), 0.02)],
)
def test_smooth_losses_come_to_rest(name: str, layers: tuple[str, ...] | None, gamma: float, limit: float) -> None:
    graph, x = case(name)
    method = Routing(gamma=gamma, tolerance=1e-7, steps=2000, layers=layers, limit=limit, choose="last")
    gates = found(method, graph, x)
    assert_at_rest(graph, x, gates, method, 1e-7)
    assert bool((gates == 0).any())
    assert bool(((gates > 0) & (gates < limit)).any())
    assert bool((gates == limit).any()) == (limit < 2 and name == "relu")


@pytest.mark.parametrize("limit", [10.0, 1.05])
def test_a_convex_loss_has_the_minimum_that_scipy_finds(limit: float) -> None:
    """Gates behind the last activation reach the logits through nothing but a mean and a linear layer."""
    graph, x = case("relu")
    layers = ("activation#2",)
    method = Routing(gamma=0.02, tolerance=1e-9, steps=4000, layers=layers, limit=limit, choose="last")
    for image, own in zip(singles(x), found(method, graph, x)):

        def objective(point: np.ndarray, image: Tensor = image) -> tuple[float, np.ndarray]:
            gate = torch.from_numpy(point.copy()).requires_grad_()
            loss = loss_of(graph, image, [gate], layers, replace(method, gamma=0.0))[0] + method.gamma * gate.sum()
            return float(loss.detach()), torch.autograd.grad(loss, gate)[0].numpy()

        options = {"ftol": 0, "gtol": 1e-9, "maxiter": 10_000, "maxfun": 100_000}
        best = minimize(objective, np.ones(16), jac=True, bounds=[(0, limit)] * 16, method="L-BFGS-B", options=options)
        assert objective(own.numpy())[0] == pytest.approx(best.fun, abs=1e-10)
        np.testing.assert_allclose(own.numpy(), best.x, atol=1e-3)


@pytest.mark.parametrize("name", ["digits", "residual", "relu", "softplus"])
def test_a_converged_loss_is_no_larger_than_the_descents(name: str) -> None:
    """Of the same image and start; with corners in the loss both are only local."""
    graph, x = case(name)
    nodes = routed_nodes(graph)
    short, long = Routing(), Routing(tolerance=1e-3, steps=400)
    descent, converged = found(short, graph, x), found(long, graph, x)
    assert bool(((converged >= 0) & (converged <= 10)).all())
    for image, first, second in zip(singles(x), descent, converged):
        before, _ = loss_of(graph, image, by_node(graph, nodes, first), nodes, short)
        after, _ = loss_of(graph, image, by_node(graph, nodes, second), nodes, short)
        assert float(after.detach()) <= float(before.detach()) + 1e-3


def test_steps_behind_convergence_change_nothing() -> None:
    graph, x = case("softplus")
    method = Routing(tolerance=1e-4, choose="last")
    first, second = method.extract_steps(graph, x, (500, 1000))
    assert all(path.equals(other) for path, other in zip(first, second))


def test_convergence_in_float32_is_that_in_float64() -> None:
    graph, x = case("softplus")
    twin = Graph(copy.deepcopy(graph.module).float(), x[:1].float())
    method = Routing(tolerance=1e-5, steps=1000, choose="last")
    torch.testing.assert_close(found(method, twin, x.float()).double(), found(method, graph, x), rtol=0, atol=1e-2)


# --- paths -----------------------------------------------------------------------------------------------------------


def test_a_path_holds_the_gates() -> None:
    graph, x = case("digits")
    method = Routing()
    for path, gates in zip(method.extract(graph, x), found(method, graph, x)):
        assert path.kinds() == ("channel",)
        assert path.nodes("channel") == routed_nodes(graph) == ("conv1", "conv2")
        assert [len(path.channels(node)) for node in path.nodes("channel")] == [6, 16]
        for node, own in zip(path.nodes("channel"), by_node(graph, path.nodes("channel"), gates)):
            torch.testing.assert_close(path.channels(node), own.float(), rtol=0, atol=0)
            assert path[node, "channel"].members().tolist() == own.nonzero()[:, 0].tolist()
        assert path.fingerprint == graph.fingerprint
        assert path.method == method.describe()


def test_the_label_is_the_plain_networks() -> None:
    graph, x = case("residual")
    for path, label in zip(Routing(steps=3).extract(graph, x), graph.run(x).predicted.tolist()):
        assert path.seed == path.predicted == label


def test_binary_paths_have_the_same_channels() -> None:
    graph, x = case("digits")
    for path, plain in zip(Routing(binary=True).extract(graph, x), Routing().extract(graph, x)):
        assert path.equals(plain.binary())
        assert path["conv2", "channel"].binary


def test_the_same_random_start_for_every_image() -> None:
    graph, x = case("digits")
    method = Routing(start="random", seed=1, steps=1)
    first, *rest = (values(path) for path in method.extract(graph, x))
    assert all(torch.equal(first, other) for other in rest)
    assert 0 <= float(first.min()) < 0.3
    assert 0.7 < float(first.max()) < 1
    assert not torch.equal(first, values(replace(method, seed=2).extract(graph, x)[0]))


def test_the_description_is_json_and_complete() -> None:
    for method in (Routing(), Routing(gamma=0.1, layers=("conv2",), tolerance=0.01, start="random", binary=True)):
        read = json.loads(json.dumps(method.describe()))
        assert read == method.describe()
        assert read.pop("name") == "routing"
        read["layers"] = None if read["layers"] is None else tuple(read["layers"])
        assert Routing(**read) == method


def test_the_model_and_the_generator_are_untouched() -> None:
    model = copy.deepcopy(trained().model).train()
    x = trained().x[:3].clone()
    graph = Graph(model, x)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    kept, drawn = x.clone(), torch.random.get_rng_state()
    method = Routing(start="random", steps=4)
    assert method.fit(graph, []) is method
    for each in (method, replace(method, tolerance=1e-3)):
        each.extract(graph, x)
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in [*model.parameters(), *graph.module.parameters()])
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(x, kept)
    assert torch.equal(torch.random.get_rng_state(), drawn)


# --- routed nodes ----------------------------------------------------------------------------------------------------


def vision(name: str, **options: Any) -> nn.Module:
    """A torchvision network with one small linear layer where a large classifier would only take time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model: nn.Module = import_torchvision().models.get_model(name, num_classes=3, **options)
    if name in ("alexnet", "vgg16"):
        features = {"alexnet": 256 * 6 * 6, "vgg16": 512 * 7 * 7}[name]
        model.classifier = nn.Linear(features, 3)
    return model


def units(graph: Graph) -> list[int]:
    return [graph.node(name).shape[0] for name in routed_nodes(graph)]


@pytest.mark.parametrize(
    ("name", "options", "nodes", "dimension"),
    [("alexnet", {}, 5, 1152), ("vgg16", {"init_weights": False}, 13, 4224), ("resnet50", {}, 16, 15104)],
)
def test_the_papers_dimensions(name: str, options: dict[str, Any], nodes: int, dimension: int) -> None:
    """Wang et al. (CVPR 2018): every convolution of AlexNet and VGG-16, every block of ResNet-50."""
    graph = Graph(vision(name, **options), torch.zeros(1, 3, 64, 64))
    assert (len(units(graph)), sum(units(graph))) == (nodes, dimension)


def test_routed_nodes_of_the_zoo() -> None:
    assert routed_nodes(trained().graph) == ("conv1", "conv2")
    graph = case("residual").graph
    assert units(graph) == [16] * 3 + [32] * 3 + [64] * 3
    assert sum(units(graph)) == 336
    assert all(graph.node(name).operation == "relu" for name in routed_nodes(graph))
    assert all(graph.node(graph.node(name).inputs[0]).operation == "add" for name in routed_nodes(graph))


def test_routed_nodes_of_a_network_that_ends_with_a_convolution() -> None:
    graph = Graph(vision("squeezenet1_0"), torch.zeros(1, 3, 64, 64))
    convolutions = [name for name in graph.layers if graph.node(name).operation == "conv2d"]
    assert len(convolutions) == 26
    assert routed_nodes(graph) == tuple(convolutions[:-1])


class Sums(nn.Module):
    """Sums of several kinds; ``kind`` says which."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.conv3 = nn.Conv2d(4, 4, 3, padding=1)
        self.left, self.right = nn.Linear(4, 3), nn.Linear(4, 3)
        self.shift = nn.Parameter(torch.rand(1, 4, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        if self.kind == "before the activation":  # a sum that the next block's activation and its shortcut read
            x = x + self.conv2(torch.relu(x))
            x = x + self.conv3(torch.relu(x))
        elif self.kind == "constants":
            x = torch.relu(self.conv2(x + self.shift) + 1)
        elif self.kind == "two heads":
            x = torch.relu(x).mean((2, 3))
            return torch.add(self.left(x), self.right(x))
        return self.left(torch.relu(x).mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("before the activation", ("add", "relu#3")), ("constants", ("conv1", "conv2")), ("two heads", ("conv1",))],
)
def test_which_sums_are_blocks(kind: str, expected: tuple[str, ...]) -> None:
    """A sum that two nodes read, one that the last activation alone reads; neither biases nor the logits."""
    assert routed_nodes(Graph(Sums(kind), torch.rand(1, 3, 6, 6))) == expected


def test_layers_are_taken_from_input_to_output() -> None:
    graph, x = case("digits")
    assert routed_nodes(graph, ("fc1", "conv1")) == ("conv1", "fc1")
    given, sorted_ = (Routing(layers=layers).extract(graph, x[:2]) for layers in (("fc1", "conv1"), ("conv1", "fc1")))
    assert all(path.equals(other) for path, other in zip(given, sorted_))


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps of routing is 0, which is out of range"),
        ({"lr": 0.0}, "lr of routing is 0.0, which is out of range"),
        ({"lr": float("inf")}, "lr of routing is inf"),
        ({"momentum": 1.0}, "momentum of routing is 1.0"),
        ({"momentum": -0.1}, "momentum of routing is -0.1"),
        ({"gamma": -0.1}, "gamma of routing is -0.1"),
        ({"gamma": float("nan")}, "gamma of routing is nan"),
        ({"limit": 0.5}, "limit of routing is 0.5"),
        ({"limit": float("inf")}, "limit of routing is inf"),
        ({"temperature": 0.0}, "temperature of routing is 0.0"),
        ({"tolerance": 0.0}, "tolerance of routing is 0.0"),
        ({"start": "zeros"}, "routing starts at ones or random gates and chooses the best or the last"),
        ({"choose": "first"}, "routing starts at ones or random gates and chooses the best or the last"),
        ({"layers": ()}, "layers must name at least one node, each once, not none"),
        ({"layers": ("conv1", "conv1")}, "layers must name at least one node, each once, not conv1, conv1"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    graph, x = case("digits")
    with pytest.raises(BadOption, match=re.escape(message)):
        Routing(**options).extract(graph, x)


def test_bad_nodes_and_images() -> None:
    graph, x = case("digits")
    with pytest.raises(UnknownNode, match="there is no node 'conv3'; nearest: conv2, conv1"):
        Routing(layers=("conv3",)).extract(graph, x)
    with pytest.raises(BadInput, match=re.escape("images have shape (12, 1, 14, 14)")):
        Routing().extract(graph, x[:, :, ::2, ::2])
    with pytest.raises(BadInput, match=re.escape("images are torch.float32")):
        Routing().extract(graph, x.float())
    with pytest.raises(BadInput, match="image 0 of the batch holds NaN"):
        Routing().extract(graph, x * torch.nan)
    with pytest.raises(BadOption, match="steps of routing is 0"):
        Routing().extract_steps(graph, x, ())
    with pytest.raises(BadOption, match="steps of routing is -1"):
        Routing().extract_steps(graph, x, (5, -1))


def test_a_network_without_convolutions_needs_layers() -> None:
    graph = Graph(load_model("lenet300-100"), torch.rand(1, 1, 28, 28))
    with pytest.raises(BadOption, match="no convolution to route before its last layer; name layers: \\('fc1', 'fc2'"):
        Routing().extract(graph, torch.rand(1, 1, 28, 28))
    path = Routing(layers=("fc1",), steps=2).extract(graph, torch.rand(1, 1, 28, 28))[0]
    assert len(path.channels("fc1")) == 300
