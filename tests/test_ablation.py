"""Ablation against references: masked copies of the model, explicit loops over synapses, multiplied activations."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from netpaths import EffectivePath, Graph, Path, Site
from netpaths.ablation import ablation_curve, keep_only, part, random_path, remove
from netpaths.errors import BadOption
from netpaths.path import Elements
from networks import Network, step_nodes
from oracle import LAYERS, Step, Windows, compute
from test_rules import POOL, Bench


def two_convolutions() -> list[Step]:
    """Groups, stride, padding, dilation, a reflected border, a residual addition and two linear layers."""
    bench = Bench((2, 7, 7)).layer(4, (3, 3), padding=(1, 1), groups=2).then("relu")
    first = bench.last
    bench.then("pad", None, "functional", amounts=(1, 1, 1, 1), mode="reflect")
    bench.layer(4, (3, 3)).join("add", first).then("relu")
    bench.layer(3, (3, 2), stride=(2, 1), dilation=(1, 2)).then("relu")
    return bench.then("maxpool", None, "module", **POOL).dense(5).then("relu").dense(4).steps


def signal() -> list[Step]:
    return Bench((2, 9)).layer(4, (3,), padding=(1,), stride=(2,)).then("relu").layer(2, (2,)).dense(3).steps


NETWORKS: dict[str, Callable[[], list[Step]]] = {"images": two_convolutions, "signals": signal}


class Case:
    """A network, three images and their paths."""

    def __init__(self, name: str, theta: float = 0.5) -> None:
        self.steps = NETWORKS[name]()
        shape = (3, 2, 7, 7) if name == "images" else (3, 2, 9)
        self.x = torch.randn(shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
        self.model = Network(self.steps).double()
        self.graph = Graph(self.model, self.x)
        self.names = step_nodes(self.graph, len(self.steps))
        self.paths = EffectivePath(theta).extract(self.graph, self.x)

    def full(self) -> list[Path]:
        sites = {
            site: Elements.of(part.shape, self.existing(site), total=part.total) for site, part in self.paths[0].items()
        }
        return [Path(sites, fingerprint=self.graph.fingerprint, layers=self.graph.layers)]

    def existing(self, site: Site) -> np.ndarray:
        """Every element, but for synapses that would read padding."""
        size, node = self.paths[0][site].size, self.graph.node(site.node)
        step = self.steps[self.names.index(site.node)]
        if site.kind != "synapse" or step.op == "add":
            return np.arange(size)
        windows = Windows(step, node.input_shapes[0], node.shape)
        neurons = range(math.prod(node.shape))
        return np.array([n * windows.size + place.number for n in neurons for place in windows.places(n)])

    def empty(self) -> list[Path]:
        nothing = np.empty(0, np.int64)
        sites = {site: Elements.of(part.shape, nothing, total=part.total) for site, part in self.paths[0].items()}
        return [Path(sites, fingerprint=self.graph.fingerprint, layers=self.graph.layers)]


@pytest.fixture(params=NETWORKS)
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


# --- references ------------------------------------------------------------------------------------------------------


def by_weight(case: Case, path: Path, image: Tensor, keep: bool) -> Tensor:
    """A copy of the model whose weights are masked."""
    twin = copy.deepcopy(case.model)
    for name in case.graph.layers:
        layer = twin.get_submodule(case.graph.nodes[name].module)
        mask = path.weights(name) if keep else ~path.weights(name)
        layer.weight = nn.Parameter(layer.weight * mask)
    with torch.no_grad():
        logits: Tensor = twin(image[None])[0]
    return logits


def by_synapse(case: Case, path: Path, image: Tensor, keep: bool) -> Tensor:
    """Every layer's outputs as explicit sums over the synapses that stay."""
    values = [image]
    for index, step in enumerate(case.steps[1:], 1):
        inputs = [values[read] for read in step.reads]
        value = compute(step, inputs)
        if step.op in LAYERS:
            chosen = set(path[case.names[index], "synapse"].members().tolist())
            value = summed(step, inputs[0], tuple(value.shape), chosen, keep)
        values.append(value)
    return values[-1]


def summed(step: Step, source: Tensor, shape: tuple[int, ...], chosen: set[int], keep: bool) -> Tensor:
    windows = Windows(step, tuple(source.shape), shape)
    flat, weight = source.flatten().tolist(), step.tensors["weight"].flatten(1).tolist()
    outputs = []
    for neuron in range(math.prod(shape)):
        channel = neuron // math.prod(shape[1:])
        total = float(step.tensors["bias"][channel])
        for place in windows.places(neuron):
            if (neuron * windows.size + place.number in chosen) == keep:
                total += flat[place.source] * weight[channel][place.number]
        outputs.append(total)
    return torch.tensor(outputs, dtype=torch.float64).reshape(shape)


def by_neuron(case: Case, path: Path, image: Tensor, keep: bool, kind: str = "neuron") -> Tensor:
    """Values multiplied by the mask, step by step."""
    values: list[Tensor] = []
    for index, step in enumerate(case.steps):
        value = compute(step, [values[read] for read in step.reads]) if index else image
        mask = path[case.names[index], kind].dense()
        mask = mask if kind == "neuron" else mask.reshape(-1, *(1 for _ in value.shape[1:]))
        values.append(value * (mask if keep else ~mask))
    return values[-1]


def by_channel(case: Case, path: Path, image: Tensor, keep: bool) -> Tensor:
    return by_neuron(case, path, image, keep, "channel")


REFERENCES = {"weight": by_weight, "synapse": by_synapse, "neuron": by_neuron, "channel": by_channel}


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("kind", REFERENCES)
def test_against_the_reference(case: Case, kind: str, keep: bool) -> None:
    paths = [path.project("channel") for path in case.paths] if kind == "channel" else case.paths
    logits = (keep_only if keep else remove)(case.graph, case.x, paths, kind)
    expected = [REFERENCES[kind](case, path, image, keep) for path, image in zip(paths, case.x)]
    torch.testing.assert_close(logits, torch.stack(expected), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", REFERENCES)
def test_everything_and_nothing(case: Case, kind: str) -> None:
    logits = case.graph.run(case.x).logits
    full, empty = case.full(), case.empty()
    if kind == "channel":
        full, empty = [full[0].project("channel")], [empty[0].project("channel")]
    torch.testing.assert_close(keep_only(case.graph, case.x, full, kind), logits)
    torch.testing.assert_close(remove(case.graph, case.x, empty, kind), logits)
    gone, none = remove(case.graph, case.x, full, kind), keep_only(case.graph, case.x, empty, kind)
    torch.testing.assert_close(gone, none)
    torch.testing.assert_close(gone, gone[:1].expand_as(gone))


@pytest.mark.parametrize("kind", ["weight", "synapse"])
def test_nothing_left_is_the_last_bias(case: Case, kind: str) -> None:
    bias = case.steps[-1].tensors["bias"]
    torch.testing.assert_close(remove(case.graph, case.x, case.full(), kind), bias.expand(3, -1))


@pytest.mark.parametrize("kind", ["weight", "synapse", "neuron"])
def test_one_path_for_all(case: Case, kind: str) -> None:
    one = keep_only(case.graph, case.x, case.paths[:1], kind)
    torch.testing.assert_close(one, keep_only(case.graph, case.x, case.paths[:1] * 3, kind))


def test_single_layer_of_the_whole_path(case: Case) -> None:
    """Only the given sites are touched."""
    last = case.graph.layers[-1]
    paths = [path.restrict([last], ["weight"]) for path in case.paths]
    trace = case.graph.run(case.x, record=case.graph.node(last).inputs)
    values = trace[case.graph.node(last).inputs[0]]
    weight, bias = case.steps[-1].tensors["weight"], case.steps[-1].tensors["bias"]
    expected = torch.stack([(weight * path.weights(last)) @ value + bias for path, value in zip(paths, values)])
    torch.testing.assert_close(keep_only(case.graph, case.x, paths, "weight"), expected)


def test_options() -> None:
    case = Case("images")
    with pytest.raises(BadOption, match="3 images need 3 paths or one for all, not 2"):
        remove(case.graph, case.x, case.paths[:2], "weight")
    with pytest.raises(BadOption, match="the paths have no channel sites to switch off; they have: neuron, synapse"):
        remove(case.graph, case.x, case.paths, "channel")


def test_ablation_leaves_the_model() -> None:
    case = Case("images")
    before = {name: tensor.clone() for name, tensor in case.model.state_dict().items()}
    for kind in ("weight", "synapse", "neuron"):
        remove(case.graph, case.x, case.paths, kind)
    assert all(torch.equal(tensor, before[name]) for name, tensor in case.model.state_dict().items())


# --- random paths ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_random_paths(case: Case, seed: int) -> None:
    for path in case.paths:
        drawn = random_path(path, case.graph, seed)
        assert set(drawn) == set(path)
        for site in path:
            assert len(drawn[site]) == len(path[site])
            assert drawn[site].shape == path[site].shape
            assert drawn[site].total == path[site].total
        assert drawn.equals(random_path(path, case.graph, seed))
        assert not drawn.equals(random_path(path, case.graph, seed + 1))
        assert_no_padding(case, drawn)


def assert_no_padding(case: Case, path: Path) -> None:
    trace = {name: case.graph.node(name) for name in case.graph.nodes}
    for index, step in enumerate(case.steps):
        name = case.names[index]
        if (name, "synapse") in path and step.op != "add":
            windows = Windows(step, trace[name].input_shapes[0], trace[name].shape)
            for synapse in path[name, "synapse"].members().tolist():
                numbers = {place.number for place in windows.places(synapse // windows.size)}
                assert synapse % windows.size in numbers


def test_random_paths_reach_every_element() -> None:
    """With as many elements as exist, all that exist are drawn."""
    case = Case("images")
    name = case.graph.layers[0]
    field = case.graph.node(name).field
    assert field is not None
    site = Site(name, "synapse")
    some = np.arange(field.synapses)
    everything = Path({site: Elements.of(field.synapse_shape, some, total=field.synapses)})
    drawn = random_path(everything, case.graph)
    assert drawn[site].members().tolist() == case.existing(site).tolist()


# --- parts and curves ------------------------------------------------------------------------------------------------


def valued(values: list[float]) -> Path:
    members = np.arange(0, 2 * len(values), 2)
    return Path({Site("n", "weight"): Elements.of((40,), members, np.array(values, np.float32))})


def test_parts_by_hand() -> None:
    path = valued([3.0, 1.0, 4.0, 1.0])
    assert part(path, 0.5, "largest")["n", "weight"].members().tolist() == [0, 4]
    assert part(path, 0.5, "smallest")["n", "weight"].members().tolist() == [2, 6]
    assert part(path, 0.5, "largest")["n", "weight"].member_values().tolist() == [3.0, 4.0]
    assert len(part(path, 0.0)["n", "weight"]) == 0
    assert part(path, 1.0).equals(path)
    assert len(part(path, 0.5, "random", 3)["n", "weight"]) == 2


def test_part_options() -> None:
    with pytest.raises(BadOption, match=r"a share lies between 0 and 1, not 1\.5"):
        part(valued([1.0]), 1.5)
    with pytest.raises(BadOption, match="order must be one of largest, smallest, random, not 'best'"):
        part(valued([1.0]), 0.5, "best")  # type: ignore[arg-type]
    with pytest.raises(BadOption, match=r"this path has none; extract it with contributions=True"):
        part(valued([1.0]).binary(), 0.5)


@pytest.mark.parametrize("order", ["largest", "smallest", "random", "outside"])
def test_curve(order: str) -> None:
    case = Case("images")
    labels = case.graph.run(case.x).predicted
    paths = EffectivePath(contributions=True).extract(case.graph, case.x)
    seen: list[tuple[int, int]] = []
    curve = ablation_curve(
        case.graph, case.x, labels, paths, "weight", order, (0.0, 0.5, 1.0), batch_size=2,  # type: ignore[arg-type]
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert curve.accuracy[0] == 1.0
    assert curve.elements[0] == 0
    sizes = [sum(len(element) for site, element in path.items() if site.kind == "weight") for path in paths]
    assert curve.elements[2] == pytest.approx(sum(sizes) / 3)
    assert seen == [(2, 3), (3, 3)]
    assert [row["share"] for row in curve.rows()] == [0.0, 0.5, 1.0]
    if order != "outside":
        removed = remove(case.graph, case.x, paths, "weight").argmax(1)
        assert curve.accuracy[2] == pytest.approx(float((removed == labels).double().mean()))


def test_curves_of_keeping_agree_with_keeping() -> None:
    case = Case("images")
    labels = case.graph.run(case.x).predicted
    paths = EffectivePath(contributions=True).extract(case.graph, case.x)
    shares = (0.5, 1.0)
    curve = ablation_curve(case.graph, case.x, labels, paths, "weight", "largest", shares, mode="keep")
    for share, accuracy in zip(shares, curve.accuracy):
        kept = keep_only(case.graph, case.x, [part(path.restrict(kinds=["weight"]), share) for path in paths], "weight")
        assert accuracy == pytest.approx(float((kept.argmax(1) == labels).double().mean()))
    assert curve.mode == "keep"
    with pytest.raises(BadOption, match="mode must be remove or keep, not 'drop'"):
        ablation_curve(case.graph, case.x, labels, paths, mode="drop")  # type: ignore[arg-type]
