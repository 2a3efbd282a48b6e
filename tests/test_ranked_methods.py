"""Paths of the units with the largest scores: against captum, brute force, and networks solved by hand."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from math import ceil, prod
from typing import Any

import pytest
import torch
from captum.attr import IntegratedGradients as Captum
from captum.attr import LayerGradientXActivation
from torch import Tensor, nn

from netpaths import Graph, Path, PathMethod
from netpaths.errors import BadInput, BadOption, UnknownNode
from netpaths.methods import Activation, IntegratedGradients, MarginalContribution, RandomUnits, WeightNorm
from netpaths.methods.integrated import integrated
from netpaths.methods.ranked import Ranked
from netpaths.methods.units import unit_shapes
from trained import trained

METHODS = (WeightNorm, Activation, RandomUnits, MarginalContribution, IntegratedGradients)
EVERY = ("conv1", "conv2", "fc1", "fc2")


class Three(nn.Module):
    """Two pixels, three channels of weights 1, −3, 2, and logits (s, 3) with s = Σ over both places of 1, −½, 2."""

    def __init__(self, weights: tuple[float, ...] = (1, -3, 2), activate: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 1, bias=False)
        self.act = nn.ReLU() if activate else nn.Identity()
        self.fc = nn.Linear(6, 2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.tensor(weights).reshape(3, 1, 1, 1))
            self.fc.weight.copy_(torch.tensor([[1, 1, -0.5, -0.5, 2, 2], [0, 0, 0, 0, 0, 0]]))
            self.fc.bias.copy_(torch.tensor([0.0, 3.0]))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.act(self.conv(x)).flatten(1))
        return logits


class Residual(nn.Module):
    """A convolution, a residual block and a head that reads the size of a batch before its first layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv1 = nn.Conv2d(2, 5, 3, padding=1)
        self.conv2, self.bn = nn.Conv2d(5, 5, 3, padding=1), nn.BatchNorm2d(5)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.fc = nn.Linear(5 * 16, 4)
        self.bn.running_mean, self.bn.running_var = torch.randn(5) / 4, torch.rand(5) + 0.5
        self.register_buffer("mixing", torch.randn(3, 5 * 16))

    def forward(self, x: Tensor) -> Tensor:
        size = x.size(0)
        x = self.relu1(self.conv1(x))
        x = self.relu2(self.bn(self.conv2(x)) + x)
        logits: Tensor = self.fc(x.reshape(size, 80))
        return logits


PIXELS = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)


@pytest.fixture(scope="module")
def double() -> Graph:
    """The trained LeNet in float64."""
    return Graph(copy.deepcopy(trained().model).double(), trained().x[:1].double())


@pytest.fixture(scope="module")
def residual() -> tuple[nn.Module, Graph, Tensor]:
    model = Residual().double().eval()
    x = torch.randn(6, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return model, Graph(model, x), x


def three(weights: tuple[float, ...] = (1, -3, 2), activate: bool = False) -> Graph:
    return Graph(Three(weights, activate), PIXELS)


def members(path: Path) -> dict[str, list[int]]:
    return {site.node: part.members().tolist() for site, part in path.sites.items()}


def values(path: Path) -> list[float]:
    return [value for part in path.sites.values() for value in part.member_values().tolist()]


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_scores_by_hand() -> None:
    """|w| is 1, 3, 2; channels hold w·x; with s = x₁ + x₂ the logit's parts are s, 1½ s, 4 s."""
    x = torch.tensor([2.0, -1.0]).reshape(1, 1, 1, 2)
    expected = {
        WeightNorm(): [0.5, 1.5, 1.0],
        Activation(): [0.5, 1.5, 1.0],
        MarginalContribution(): [1.0, 1.5, 4.0],
        IntegratedGradients(points=1): [1.0, 1.5, 4.0],
    }
    for method, scores in expected.items():
        (found,) = method.score(three(), x, ("conv",))
        torch.testing.assert_close(found, torch.tensor([scores]))
    for kind, share, kept in (("channel", 0.3, [2]), ("channel", 0.6, [1, 2]), ("neuron", 0.2, [4])):
        (path,) = MarginalContribution(share, kind).extract(three(), PIXELS)  # type: ignore[arg-type]
        assert members(path) == {"conv": kept}


def test_neurons_by_hand() -> None:
    x = torch.tensor([2.0, -1.0]).reshape(1, 1, 1, 2)
    (weight,), (active,), (part,) = (
        method(kind="neuron").score(three(), x, ("conv",)) for method in (WeightNorm, Activation, MarginalContribution)
    )
    torch.testing.assert_close(weight.flatten(), torch.tensor([0.5, 0.5, 1.5, 1.5, 1.0, 1.0]))
    torch.testing.assert_close(active.flatten(), torch.tensor([2.0, 1.0, 6.0, 3.0, 4.0, 2.0]) / 3)
    torch.testing.assert_close(part.flatten(), torch.tensor([2.0, 1.0, 3.0, 1.5, 8.0, 4.0]))


def test_removal_by_hand() -> None:
    """s = 6½ against 3. By weight and activation: without channel 0, 5½; then without 2, 1½. By contribution: 5½, 4."""
    for method, kept in ((WeightNorm, [1, 2]), (Activation, [1, 2]), (MarginalContribution, [2])):
        (path,) = method(share=None).extract(three(), PIXELS)
        assert members(path) == {"conv": kept}
        assert path.predicted == path.seed == 0


def test_linear_layers_have_weight_norms() -> None:
    (found,) = WeightNorm().score(three(), PIXELS, ("fc",))
    assert found.tolist() == [[2.0, 0.0]]  # of norms 7 and 0


def test_equal_scores_go_by_position() -> None:
    same = three((2.5, -2.5, 2.5))
    assert members(WeightNorm(0.7).extract(same, PIXELS)[0]) == {"conv": [0, 1]}
    assert members(WeightNorm(0.5, "neuron").extract(same, PIXELS)[0]) == {"conv": [0, 1, 2]}
    both = Activation(0.5, layers=("conv", "act")).extract(three((2, 2, 2), activate=True), PIXELS.abs())[0]
    assert members(both) == {"conv": [0, 1, 2], "act": []}
    assert members(WeightNorm(None).extract(same, PIXELS)[0]) == {"conv": [0, 1]}  # 8.75, then 3.75, then 2.5 < 3


def test_units_of_score_0_are_never_kept() -> None:
    dead = three(activate=True)
    for method in (Activation, MarginalContribution):
        for across in ("network", "layer"):
            (path,) = method(1.0, layers=("act",), across=across).extract(dead, PIXELS)
            assert members(path) == {"act": [0, 2]}  # channel 1 is negative, so 0 behind the ReLU
    (binary,) = Activation(1.0, layers=("act",), binary=True).extract(dead, PIXELS)
    assert members(binary) == {"act": [0, 2]}
    assert binary["act", "channel"].binary


def test_a_node_without_any_activation() -> None:
    for method in (Activation, MarginalContribution, IntegratedGradients):
        (path,) = method(1.0).extract(three(), PIXELS * 0)
        assert members(path) == {"conv": []}
    (found,) = WeightNorm().score(three((0, 0, 0)), PIXELS, ("conv",))
    assert found.tolist() == [[0.0, 0.0, 0.0]]


# --- against captum --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("node", ["conv1", "relu1", "pool1", "conv2", "pool2", "fc1", "relu3"])
def test_contribution_is_captums(node: str, double: Graph) -> None:
    model = copy.deepcopy(trained().model).double()
    x, labels = trained().x[:8].double(), trained().labels[:8]
    expected = LayerGradientXActivation(model, model.get_submodule(node)).attribute(x, target=labels)
    assert_attributed(MarginalContribution(), double, x, node, expected.detach())


def test_contribution_around_a_residual_block_is_captums(residual: tuple[nn.Module, Graph, Tensor]) -> None:
    model, graph, x = residual
    labels = graph.run(x).predicted
    for node in ("relu1", "relu2"):
        expected = LayerGradientXActivation(model, model.get_submodule(node)).attribute(x, target=labels)
        assert_attributed(MarginalContribution(), graph, x, node, expected.detach())


def test_contributions_of_several_nodes_are_those_of_each(double: Graph) -> None:
    x = trained().x[:4].double()
    together = MarginalContribution().score(double, x, EVERY)
    for node, found in zip(EVERY, together):
        torch.testing.assert_close(found, MarginalContribution().score(double, x, (node,))[0])


@pytest.mark.parametrize("node", ["conv1", "relu1", "pool1", "conv2", "pool2", "fc1", "relu3"])
def test_integrated_gradients_are_captums(node: str, double: Graph) -> None:
    model = copy.deepcopy(trained().model).double()
    x, labels = trained().x[:8].double(), trained().labels[:8]
    head, tail = split(model, node)
    expected = Captum(tail).attribute(head(x).detach(), target=labels, n_steps=20, method="riemann_middle")
    assert_attributed(IntegratedGradients(), double, x, node, expected.detach())


def split(model: nn.Module, node: str) -> tuple[nn.Module, nn.Module]:
    """The LeNet up to ``node``, and what is behind it."""
    stages = {**dict(model.named_children()), "flatten": nn.Flatten()}
    order = [name for name in stages if name != "flatten"]
    order.insert(order.index("fc1"), "flatten")
    place = order.index(node) + 1
    first, rest = order[:place], order[place:]
    return nn.Sequential(*(stages[name] for name in first)), nn.Sequential(*(stages[name] for name in rest))


def assert_attributed(method: Ranked, graph: Graph, x: Tensor, node: str, expected: Tensor) -> None:
    """Neuron by neuron, and summed over a channel; expected: signed, (batch, *shape)."""
    (neurons,) = replace(method, kind="neuron").score(graph, x, (node,))
    torch.testing.assert_close(neurons, expected.abs())
    (channels,) = method.score(graph, x, (node,))
    torch.testing.assert_close(channels, expected.flatten(2).sum(2).abs() if expected.dim() > 2 else expected.abs())


# --- completeness ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["channel", "neuron"])
@pytest.mark.parametrize("node", EVERY)
def test_integrated_gradients_are_complete(node: str, kind: str, double: Graph) -> None:
    x, labels = trained().x[:8].double(), trained().labels[:8]
    assert_complete(double, x, labels, node, kind, points=400, error=2e-3)


@pytest.mark.parametrize("node", ["conv1", "relu1", "conv2", "add", "relu2"])
def test_integrated_gradients_are_complete_around_a_residual_block(
    node: str, residual: tuple[nn.Module, Graph, Tensor]
) -> None:
    _, graph, x = residual
    assert_complete(graph, x, graph.run(x).predicted, node, "channel", points=400, error=2e-3)


def test_one_point_is_enough_where_the_rest_is_linear(double: Graph) -> None:
    x, labels = trained().x[:8].double(), trained().labels[:8]
    assert_complete(double, x, labels, "relu4", "neuron", points=1, error=1e-12)


def assert_complete(graph: Graph, x: Tensor, classes: Tensor, node: str, kind: str, points: int, error: float) -> None:
    """Σ IG = f(1) − f(0), up to ``error`` of its mean size."""
    found = integrated(graph, x, node, classes, kind, points).flatten(1).sum(1)
    gone = {node: x.new_zeros(graph.node(node).shape[:1])}
    with torch.no_grad():
        full, none = (graph.run(x, gates=gates).logits for gates in ({}, gone))
    expected = (full - none).gather(1, classes[:, None])[:, 0]
    assert float((found - expected).abs().max()) <= error * float(expected.abs().mean())


# --- removal against brute force -------------------------------------------------------------------------------------


@pytest.mark.parametrize("across", ["network", "layer"])
@pytest.mark.parametrize("kind", ["channel", "neuron"])
@pytest.mark.parametrize("method", METHODS)
def test_removal_is_brute_force(method: Any, kind: str, across: str, double: Graph) -> None:
    step = 0.04 if kind == "channel" else 0.07
    own = method(share=None, kind=kind, layers=EVERY, across=across, step=step)
    x = trained().x[:5].double()
    found = own.extract(double, x)
    for image, path in zip(x, found):
        assert members(path) == removed(own, double, image)


def test_removal_takes_one_unit_at_least(residual: tuple[nn.Module, Graph, Tensor]) -> None:
    """10 channels one by one; and the batch shrinks although its size is read in front of the first gate."""
    _, graph, x = residual
    one_by_one = Activation(None, layers=("relu1", "relu2"), step=0.1)
    found = replace(one_by_one, step=1e-9).extract(graph, x)
    assert len({len(part) for path in found for part in path.sites.values()}) > 1
    for image, path in zip(x, found):
        assert members(path) == removed(one_by_one, graph, image)


def removed(method: Ranked, graph: Graph, image: Tensor) -> dict[str, list[int]]:
    """The last units of one image with the plain network's class, by running it once for every step."""
    nodes = list(method.layers or ())
    shapes = dict(zip(nodes, unit_shapes(graph, nodes, method.kind)))
    scores = {node: part[0].flatten().tolist() for node, part in zip(nodes, method.score(graph, image[None], nodes))}
    units = [(node, place) for node in nodes for place in range(prod(shapes[node]))]
    groups = [units] if method.across == "network" else [[unit for unit in units if unit[0] == node] for node in nodes]
    ranked = [sorted(group, key=lambda unit: -scores[unit[0]][unit[1]]) for group in groups]  # stable
    plain, last = int(graph.run(image[None]).predicted), set(units)
    for number in range(1, ceil(1 / method.step) + 1):
        counts = [max(1, round(len(group) * (1 - number * method.step))) for group in ranked]
        kept = {unit for group, count in zip(ranked, counts) for unit in group[:count]}
        gates = {node: image.new_zeros(1, *shape) for node, shape in shapes.items()}
        for node, place in kept:
            gates[node].view(-1)[place] = 1
        if int(graph.run(image[None], gates=gates).predicted) != plain:
            break
        last = kept
    return {node: [place for own, place in sorted(last) if own == node and scores[own][place] > 0] for node in nodes}


# --- shares ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.1, 0.37, 1.0])
def test_shares_are_exact(share: float) -> None:
    own = trained()
    for kind, sizes in (("channel", (6, 16)), ("neuron", (6 * 784, 16 * 100))):
        for path in RandomUnits(share, kind, across="network").extract(own.graph, own.x[:3]):  # type: ignore[arg-type]
            assert sum(map(len, members(path).values())) == max(1, round(share * sum(sizes)))
        for path in RandomUnits(share, kind, across="layer").extract(own.graph, own.x[:3]):  # type: ignore[arg-type]
            assert [len(part) for part in members(path).values()] == [max(1, round(share * size)) for size in sizes]


def test_a_larger_share_only_adds_units(double: Graph) -> None:
    x = trained().x[:4].double()
    for method in METHODS:
        small, large = (method(share, layers=EVERY).extract(double, x) for share in (0.1, 0.3))
        for few, many in zip(small, large):
            assert all(set(members(few)[node]) <= set(members(many)[node]) for node in EVERY)
            assert min(values(few)) >= max(values(many - few))


def test_the_whole_of_positive_scores(double: Graph) -> None:
    x = trained().x[:6].double()
    nodes = ("relu1", "relu3")
    trace = double.run(x, record=nodes)
    for image, path in enumerate(Activation(1.0, "neuron", nodes).extract(double, x)):
        for node in nodes:
            assert members(path)[node] == trace[node][image].flatten().nonzero()[:, 0].tolist()


# --- random ----------------------------------------------------------------------------------------------------------


def test_an_image_has_one_random_path() -> None:
    own = trained()
    method = RandomUnits(0.3, layers=EVERY)
    batch = method.extract(own.graph, own.x[:8])
    others = method.extract(own.graph, torch.cat([own.x[20:25], own.x[:8].flip(0)]))[5:][::-1]
    assert all(path.equals(again) for path, again in zip(batch, others))
    moved = own.x[:8].contiguous(memory_format=torch.channels_last)
    assert all(path.equals(again) for path, again in zip(batch, method.extract(own.graph, moved)))


def test_random_paths_differ_between_images_and_seeds() -> None:
    own = trained()
    batch = RandomUnits(0.3, layers=EVERY).extract(own.graph, own.x[:8])
    again = RandomUnits(0.3, layers=EVERY, seed=1).extract(own.graph, own.x[:8])
    found = [json.dumps(members(path)) for path in [*batch, *again]]
    assert len(set(found)) == 16


def test_random_scores_are_uniform() -> None:
    own = trained()
    scores = torch.cat([part.flatten() for part in RandomUnits(kind="neuron").score(own.graph, own.x[:4], ("conv1",))])
    assert 0 < float(scores.min()) < 0.001
    assert 0.999 < float(scores.max()) <= 1
    assert float(scores.mean()) == pytest.approx(0.5, abs=0.01)


# --- batches, models, messages ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, None])
@pytest.mark.parametrize("kind", ["channel", "neuron"])
@pytest.mark.parametrize("method", METHODS)
def test_batch_is_singles(method: Any, kind: str, share: float | None, double: Graph) -> None:
    own, x = method(share, kind, EVERY), trained().x[:5].double()
    for image, path in zip(x, own.extract(double, x)):
        (single,) = own.extract(double, image[None])
        assert members(single) == members(path)
        assert values(single) == pytest.approx(values(path), rel=1e-6)


@pytest.mark.parametrize("share", [0.1, None])
@pytest.mark.parametrize("method", METHODS)
def test_the_model_and_the_images_stay_as_they_are(method: Any, share: float | None) -> None:
    model = copy.deepcopy(trained().model)
    graph = Graph(model, trained().x[:1])
    x = trained().x[:3].clone().requires_grad_()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        frozen = method(share).extract(graph, x)
    assert all(path.equals(again) for path, again in zip(method(share).extract(graph, x), frozen))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert x.grad is None


@pytest.mark.parametrize("method", METHODS)
def test_description_and_explanation(method: Any) -> None:
    own: PathMethod = method(share=None, layers=("conv1",))
    description = dict(own.describe())
    assert json.loads(json.dumps(description)) == description
    assert description["name"] == method.name
    assert {name: description[name] for name in ("share", "kind", "layers", "across", "step", "binary")} == {
        "share": None,
        "kind": "channel",
        "layers": ["conv1"],
        "across": "network",
        "step": 0.01,
        "binary": False,
    }
    removing, keeping = (" ".join(each.explain("3 (three)")) for each in (own, method(0.25, "neuron", across="layer")))
    assert "1% at a time" in removing
    assert "class 3 (three)" in removing
    assert "every neuron" in keeping
    assert "every routed layer on its own. Keep the 25%" in keeping
    assert "{" not in removing + keeping


REFUSALS: list[tuple[Ranked, str]] = [
    (Activation(share=0), r"share must lie in \(0, 1\], or be None to remove units, not 0"),
    (Activation(share=1.5), r"share must lie in \(0, 1\], or be None to remove units, not 1.5"),
    (Activation(share="half"), r"not 'half'"),  # type: ignore[arg-type]
    (WeightNorm(step=0), r"step must lie in \(0, 1\], not 0"),
    (RandomUnits(kind="weight"), "kind must be channel or neuron, not 'weight'"),  # type: ignore[arg-type]
    (RandomUnits(across="node"), "across must be network or layer, not 'node'"),  # type: ignore[arg-type]
    (IntegratedGradients(points=0), "points must be a whole number from 1, not 0"),
    (Activation(layers=()), "layers must name at least one node, each once, not none"),
    (WeightNorm(layers=("conv1", "relu1")), "relu1 has no weight and so no weight norm; name convolution or linear"),
]


@pytest.mark.parametrize(("method", "message"), REFUSALS)
def test_refusals(method: Ranked, message: str) -> None:
    with pytest.raises(BadOption, match=message):
        method.extract(trained().graph, trained().x[:1])


def test_residual_blocks_have_no_weight_norm(residual: tuple[nn.Module, Graph, Tensor]) -> None:
    _, graph, x = residual
    with pytest.raises(BadOption, match="relu2 has no weight and so no weight norm; name convolution or linear layers"):
        WeightNorm(None).extract(graph, x)
    assert members(WeightNorm(1.0, layers=("conv2",)).extract(graph, x)[0]) == {"conv2": [0, 1, 2, 3, 4]}


def test_bad_images_and_unknown_nodes() -> None:
    for method in METHODS:
        with pytest.raises(BadInput, match="images have shape"):
            method().extract(trained().graph, torch.zeros(1, 3, 5, 5))
        with pytest.raises(UnknownNode, match="'conv9'"):
            method(layers=("conv9",)).extract(trained().graph, trained().x[:1])
        assert method().extract(trained().graph, trained().x[:0]) == []
        assert method(share=None).extract(trained().graph, trained().x[:0]) == []
