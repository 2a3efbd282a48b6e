"""Removal of filters: against the network with the same filters forced off, and arithmetic done by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from pathlib import Path as FilePath

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import netpaths
from netpaths import (
    CalculationPath,
    EffectivePath,
    Graph,
    Path,
    Site,
    decouple,
    load_decoupled,
    load_model,
    remove_unused,
    save_decoupled,
    train_decoupled,
)
from netpaths.data.images import Images, MemorySource
from netpaths.decoupling.controller import Gate, ScatteringGate
from netpaths.decoupling.cost import Cost
from netpaths.decoupling.insertion import Decoupled
from netpaths.decoupling.layers import Piece, decoupled_layers, zero_channels
from netpaths.decoupling.removal import keep_filters, kept_filters
from netpaths.decoupling.training import Recipe
from netpaths.errors import BadOption, BadWeights
from netpaths.path import Elements, union
from netpaths.zoo import read_header, save_weights

SIDE = 8
CHAIN = {"conv1": [1, 4, 5], "conv2": [0, 2, 3, 7]}


class Plain(nn.Module):
    """Convolutions, batch norm and pools in a row, maps flattened into the last layer; ``flatten`` says how."""

    def __init__(self, flatten: Callable[[Tensor], Tensor] = lambda x: torch.flatten(x, 1)) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 5, 3, padding=1)
        self.conv1 = nn.Conv2d(5, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.linear = nn.Linear(8 * 2 * 2, 5)
        self.flatten = flatten

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(F.relu(self.bn1(self.conv1(F.relu(self.stem(x))))))
        x = F.dropout(self.pool(torch.tanh(self.conv2(x))), 0.5, self.training)
        logits: Tensor = self.linear(self.flatten(x))
        return logits


class Residual(nn.Module):
    """A residual block with a projection beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.conv1 = nn.Conv2d(6, 8, 3, padding=1, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 7, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(7)
        self.project = nn.Conv2d(6, 7, 1, stride=2)
        self.linear = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        logits: Tensor = self.linear(F.relu(y + self.project(x)).mean((2, 3)))
        return logits


class Concat(nn.Module):
    """Two branches side by side with what they read, into a convolution with a controller; slopes for each filter."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.left = nn.Conv2d(4, 5, 1)
        self.slopes = nn.PReLU(5)
        self.right = nn.Conv2d(4, 6, 3, padding=1)
        self.conv = nn.Conv2d(15, 7, 3, padding=1)
        self.linear = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = torch.cat([self.slopes(self.left(x)), x, F.avg_pool2d(F.relu(self.right(x)), 3, 1, 1)], 1)
        logits: Tensor = self.linear(F.relu(self.conv(x)).mean((2, 3)))
        return logits


class Shared(nn.Module):
    """One convolution called twice, between two others."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(2, 5, 3, padding=1), nn.Conv2d(5, 6, 3, padding=1)
        self.twice, self.last = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 4, 3)
        self.linear = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(F.relu(self.stem(x))))
        x = F.relu(self.last(F.relu(self.twice(F.relu(self.twice(x))))))
        logits: Tensor = self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


class Grouped(nn.Module):
    """A convolution with groups between two others."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.before = nn.Conv2d(2, 5, 3, padding=1), nn.Conv2d(5, 6, 3, padding=1)
        self.groups, self.after = nn.Conv2d(6, 6, 3, groups=3), nn.Conv2d(6, 4, 3)
        self.linear = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.before(F.relu(self.stem(x))))
        logits: Tensor = self.linear(F.relu(self.after(F.relu(self.groups(x)))).mean((2, 3)))
        return logits


class Tied(nn.Module):
    """Two convolutions side by side with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left = nn.Conv2d(2, 5, 3, padding=1), nn.Conv2d(5, 6, 3)
        self.right, self.linear = nn.Conv2d(5, 6, 3), nn.Linear(6, 5)
        self.right.weight = self.left.weight

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        logits: Tensor = self.linear((self.left(x) + self.right(x)).mean((2, 3)))
        return logits


class Wide(nn.Module):
    """A convolution that is read by another one and by a sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv1 = nn.Conv2d(2, 5, 3, padding=1), nn.Conv2d(5, 6, 3, padding=1)
        self.conv2, self.linear = nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6 * 4 * 4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(F.relu(self.stem(x)))), 2)
        logits: Tensor = self.linear((x + self.conv2(x)).flatten(1))
        return logits


class Odd(nn.Module):
    """Values that count channels: a factor for each, their number, a function's weight, logits that are filters."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.scaled = nn.Conv2d(2, 5, 3, padding=1), nn.Conv2d(5, 6, 3, padding=1)
        self.factor = nn.Parameter(torch.rand(6, 1, 1))
        self.counted, self.before = nn.Conv2d(6, 5, 3), nn.Conv2d(5, 4, 3)
        self.weight = nn.Parameter(torch.randn(6, 4, 1, 1))
        self.answers = nn.Conv2d(6, 3, 2)
        self.linear = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.scaled(F.relu(self.stem(x)))) * self.factor
        x = F.relu(self.counted(x))
        x = F.conv2d(F.relu(self.before(x / x.size(1))), self.weight)
        return torch.cat([F.relu(self.answers(x)).mean((2, 3)), self.linear(x.mean((2, 3)))], 1)


ODD = {"scaled": ScatteringGate, "counted": Gate, "before": Gate, "conv2d": Gate, "answers": ScatteringGate}
BOTH = {"conv1": Gate, "conv2": Gate}
NETWORKS: dict[str, tuple[Callable[[], nn.Module], dict[str, type[Gate]]]] = {
    "in a row": (Plain, BOTH),
    "flattened by view": (lambda: Plain(lambda x: x.view(x.size(0), -1)), BOTH),
    "flattened by reshape": (lambda: Plain(lambda x: torch.reshape(x, (x.shape[0], -1))), BOTH),
    "flattened by a module": (lambda: Plain(nn.Flatten()), BOTH),
    "flattened to a number": (lambda: Plain(lambda x: x.view(-1, 32)), BOTH),
    "residual": (Residual, {"conv1": Gate, "conv2": ScatteringGate, "project": ScatteringGate}),
    "concatenation": (Concat, {"left": Gate, "right": Gate, "conv": Gate}),
    "shared": (Shared, {"first": ScatteringGate, "last": Gate}),
    "grouped": (Grouped, {"before": ScatteringGate, "after": Gate}),
    "read by a sum": (Wide, {"conv1": ScatteringGate, "conv2": ScatteringGate}),
    "odd": (Odd, ODD),
}
"""Networks, and the gates of the layers that lose filters."""


def decoupled(make: Callable[[], nn.Module], dtype: torch.dtype = torch.float64) -> Decoupled:
    """A decoupled network with random weights, statistics and controllers, in evaluation mode."""
    torch.manual_seed(0)
    model = make().to(dtype)
    for each in model.modules():
        if isinstance(each, (nn.BatchNorm2d, nn.PReLU)):
            nn.init.uniform_(each.weight, 0.5, 1)
        if isinstance(each, nn.BatchNorm2d):
            nn.init.normal_(each.bias)
            nn.init.normal_(each.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(each.running_var, 0.5, 2)  # type: ignore[arg-type]
    network = decouple(model.eval(), images(1, dtype))
    for layer in network.layers:
        own = network.controller(layer)
        nn.init.normal_(own.squeeze.weight, std=3)
        nn.init.normal_(own.excite.weight)
        nn.init.normal_(own.excite.bias, 0.5)
    return network


def images(count: int = 9, dtype: torch.dtype = torch.float64) -> Tensor:
    """Noise with a level of its own in every channel of every image: (count, 2, SIDE, SIDE)."""
    generator = torch.Generator().manual_seed(1)
    noise, level = (torch.randn(count, 2, size, size, dtype=dtype, generator=generator) for size in (SIDE, 1))
    return noise + 2 * level


def widths(network: Decoupled) -> dict[str, int]:
    return {layer: network.controller(layer).excite.out_features for layer in network.layers}


def path_of(network: Decoupled, kept: dict[str, list[int]]) -> Path:
    """A path with the channels ``kept``, and every channel of other layers."""
    full = {layer: kept.get(layer, list(range(width))) for layer, width in widths(network).items()}
    return Path(
        {
            Site(layer, "channel"): Elements.of((widths(network)[layer],), np.array(own, np.int64))
            for layer, own in full.items()
        }
    )


def some(network: Decoupled, seed: int = 0) -> dict[str, list[int]]:
    """About half of the filters of every layer, at least one, and never all."""
    generator = np.random.default_rng(seed)
    return {
        layer: sorted(generator.choice(width, generator.integers(1, width), replace=False).tolist())
        for layer, width in widths(network).items()
    }


def forced(network: Decoupled, kept: dict[str, list[int]], x: Tensor) -> Tensor:
    """Logits of the network with all filters but ``kept`` switched off."""
    graph, gates = Graph(network, x), {}
    for layer in decoupled_layers(graph):
        width = widths(network)[layer.convolution]
        gates[layer.controller] = torch.zeros(width, dtype=x.dtype)
        gates[layer.controller][kept.get(layer.convolution, range(width))] = 1
    return graph.run(x, gates=gates).logits


def parameters(module: nn.Module) -> int:
    return sum(each.numel() for each in module.parameters())


def close(first: Tensor, second: Tensor) -> bool:
    first, second = first.detach(), second.detach()
    return float((first - second).abs().max()) <= 1e-12 * (1 + float(second.abs().max()))


# --- what is computed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_rest_computes_what_it_did_with_the_others_forced_off(name: str, seed: int) -> None:
    make, gates = NETWORKS[name]
    network, x = decoupled(make), images()
    kept = {layer: filters for layer, filters in some(network, seed).items() if layer in gates}
    before = copy.deepcopy(network.state_dict())
    smaller = remove_unused(network, path_of(network, some(network, seed)))
    assert close(smaller(x), forced(network, kept, x))
    assert {layer: type(smaller.gate(layer)) for layer in gates} == gates
    assert kept_filters(smaller) == kept
    assert {layer: widths(smaller)[layer] for layer in gates} == {layer: len(own) for layer, own in kept.items()}
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert kept_filters(network) == {}
    assert parameters(smaller) < parameters(network)


@pytest.mark.parametrize("name", NETWORKS)
def test_images_whose_codes_lie_on_the_path_are_answered_as_before(name: str) -> None:
    network, x = decoupled(NETWORKS[name][0]), images()
    paths = CalculationPath().extract(Graph(network, x), x)
    smaller = remove_unused(network, union(paths[:2]))
    assert close(smaller(x[:2]), network(x[:2]))
    for own, path in zip(CalculationPath().extract(Graph(smaller, x), x[:2]), paths):
        for layer in network.layers:
            expected = path.channels(layer)[kept_filters(smaller).get(layer, slice(None))]
            assert torch.equal(own.channels(layer), expected)


@pytest.mark.parametrize("name", ["in a row", "residual", "concatenation"])
def test_a_layer_that_is_all_off_keeps_one_filter(name: str) -> None:
    network, x = decoupled(NETWORKS[name][0]), images()
    for layer in network.layers:
        smaller = remove_unused(network, path_of(network, {layer: []}))
        assert kept_filters(smaller) == {layer: [0]}
        assert close(smaller(x), forced(network, {layer: [0]}, x))
        assert not close(smaller(x), network(x))


def test_everything_on_the_path_is_a_copy() -> None:
    network = decoupled(Residual).train()
    same = remove_unused(network, path_of(network, {}))
    assert not same.training
    assert network.training
    assert same is not network
    assert kept_filters(same) == {}
    assert all(torch.equal(value, same.state_dict()[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", NETWORKS)
def test_removal_in_two_steps_is_removal_in_one(name: str, tmp_path: FilePath) -> None:
    make, gates = NETWORKS[name]
    network, x = decoupled(make), images()
    first = {layer: filters for layer, filters in some(network, 3).items() if layer in gates}
    once = keep_filters(network, first)
    second = {layer: filters[::2] for layer, filters in first.items()}
    twice = keep_filters(once, {layer: list(range(len(own)))[::2] for layer, own in first.items()})
    assert kept_filters(twice) == second
    assert close(twice(x), forced(network, second, x))
    direct = keep_filters(network, second)
    assert Graph(direct, x).fingerprint == Graph(twice, x).fingerprint


# --- what is gone ----------------------------------------------------------------------------------------------------


def test_tensors_of_a_row_of_layers_by_hand() -> None:
    network = decoupled(Plain)
    smaller = remove_unused(network, path_of(network, CHAIN))
    shapes = {name: tuple(tensor.shape) for name, tensor in smaller.state_dict().items()}
    expected = {
        "conv1.weight": (3, 5, 3, 3),
        **{f"bn1.{name}": (3,) for name in ("weight", "bias", "running_mean", "running_var")},
        "conv2.weight": (4, 3, 3, 3),
        "conv2.bias": (4,),
        "linear.weight": (5, 4 * 2 * 2),
        "linear.bias": (5,),
        "controllers.conv1.squeeze.weight": (1, 5),
        "controllers.conv1.excite.weight": (3, 1),
        "controllers.conv1.excite.bias": (3,),
        "controllers.conv2.squeeze.weight": (1, 3),
        "controllers.conv2.excite.weight": (4, 1),
        "controllers.conv2.excite.bias": (4,),
    }
    assert {name: shapes[name] for name in expected} == expected
    assert set(shapes) == set(network.state_dict())
    columns = [place * 4 + each for place in CHAIN["conv2"] for each in range(4)]
    assert torch.equal(smaller.state_dict()["linear.weight"], network.state_dict()["linear.weight"][:, columns])
    rows = network.state_dict()["conv2.weight"][CHAIN["conv2"]][:, CHAIN["conv1"]]
    assert torch.equal(smaller.state_dict()["conv2.weight"], rows)


def test_parameters_of_a_residual_block_by_hand() -> None:
    network = decoupled(Residual)
    smaller = remove_unused(network, path_of(network, {"conv1": [2], "conv2": [0, 6], "project": [1, 2, 3]}))
    # rows and columns of conv1 and its norm; rows of the others; controllers' rows, and the columns behind conv1
    gone = 7 * (6 * 9 + 2) + (8 * 7 - 1 * 2) * 9 + 5 * 2 + 4 * (6 + 1)
    gone += 7 * (1 + 1) + 5 * (2 + 1) + 4 * (1 + 1) + 7 * 2
    assert parameters(network) - parameters(smaller) == gone


def test_the_hidden_layer_of_a_controller_stays() -> None:
    network = decoupled(Concat)
    smaller = remove_unused(network, path_of(network, {"left": [4], "right": [0, 5]}))
    squeeze = smaller.controller("conv").squeeze
    assert tuple(squeeze.weight.shape) == (3, 1 + 4 + 2)
    assert torch.equal(squeeze.weight, network.controller("conv").squeeze.weight[:, [4, 5, 6, 7, 8, 9, 14]])


def test_weights_that_are_frozen_stay_frozen() -> None:
    network = decoupled(Plain)
    network.get_submodule("conv1").weight.requires_grad_(False)  # type: ignore[union-attr, operator]
    smaller = remove_unused(network, path_of(network, CHAIN))
    frozen = {name for name, each in smaller.named_parameters() if not each.requires_grad}
    assert frozen == {"conv1.weight"}


def test_layers_with_a_weight_in_common_stay_whole() -> None:
    network = decoupled(Tied)
    smaller = keep_filters(network, {"left": [0, 3], "right": [1]})
    assert kept_filters(smaller) == {}
    assert parameters(smaller) == parameters(network)


def test_paths_and_filters_of_something_else() -> None:
    network = decoupled(Plain)
    path = path_of(network, CHAIN)
    for wrong in (path.restrict(["conv1"]), path_of(decoupled(Concat), {}), path_of(keep_filters(network, CHAIN), {})):
        with pytest.raises(BadOption, match=r"the path is of another network; .* conv1 \(6\), conv2 \(8\)"):
            remove_unused(network, wrong)
    with pytest.raises(BadOption, match="conv3 is no decoupled layer; these are conv1, conv2"):
        keep_filters(network, {"conv3": [0]})
    for filters in ([6], [-1], [2, 1], [1, 1]):
        with pytest.raises(BadOption, match="filters of conv1 must be ascending positions below 6"):
            keep_filters(network, {"conv1": filters})


# --- what works on the rest ------------------------------------------------------------------------------------------


def test_a_scattering_gate_puts_channels_between_zeros() -> None:
    gate = ScatteringGate(torch.tensor([1, 4]), 6).double()
    features = torch.randn(3, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    code = torch.rand(3, 2, dtype=torch.float64, requires_grad=True)
    expected = torch.zeros(3, 6, 2, 2, dtype=torch.float64)
    for place, row in ((1, 0), (4, 1)):
        expected[:, place] = features[:, row] * code[:, row, None, None]
    assert torch.equal(gate(features, code), expected)
    assert torch.autograd.gradcheck(gate, (features, code))
    assert gate.state_dict() == {}
    assert "kept" not in dict(Gate().named_buffers())


def test_pieces_of_a_scattered_value_say_where_filters_stand() -> None:
    network, x = decoupled(Wide), images()
    smaller = keep_filters(network, {"conv1": [1, 4], "conv2": [0, 2, 3]})
    graph = Graph(smaller, x)
    pieces, trace = zero_channels(graph), graph.run(x, record="all")
    (gate, *_) = decoupled_layers(graph)
    pool = graph.readers[gate.gate][0]
    assert pieces[pool] == pieces[gate.gate] == (Piece("conv1", 6, 1, (1, 4)),)
    assert pieces["linear"] == (Piece(None, 5),)
    on = torch.zeros(len(x), 6, dtype=torch.bool)
    on[:, [1, 4]] = trace[gate.controller] > 0
    assert 0 < int(on.sum()) < on.numel() / 3
    assert torch.equal(trace[pool].abs().flatten(2).sum(2) > 0, on)


def test_cost_by_hand() -> None:
    network, x = decoupled(Plain), images()
    smaller = remove_unused(network, path_of(network, CHAIN))
    cost = Cost(Graph(smaller, x))
    stem, conv1, conv2, linear = 8 * 8 * 9 * 2 * 5, 8 * 8 * 9 * 5 * 3, 4 * 4 * 9 * 3 * 4, 16 * 5
    assert {name: layer.macs for name, layer in cost.layers.items()} == {
        "stem": stem,
        "conv1": conv1,
        "conv2": conv2,
        "linear": linear,
    }
    assert cost.dense == stem + conv1 + conv2 + linear
    assert cost.controllers == (8 * 8 * 5 + 5 + 3) + (4 * 4 * 3 + 3 + 4)
    codes = {"conv1": torch.tensor([[1, 0, 1.0], [0, 0, 0]]), "conv2": torch.tensor([[0, 1, 1, 1.0], [1, 0, 0, 0]])}
    expected = [
        stem + 8 * 8 * 9 * 5 * 2 + 4 * 4 * 9 * 2 * 3 + 3 * 4 * 5 + cost.controllers,
        stem + 0 + 0 + 1 * 4 * 5 + cost.controllers,
    ]
    assert cost.of(codes).tolist() == pytest.approx(expected, rel=1e-12)


def test_cost_behind_a_scattering_gate_by_hand() -> None:
    network, x = decoupled(Wide), images()
    smaller = keep_filters(network, {"conv1": [1, 4], "conv2": [0, 2, 3]})
    cost = Cost(Graph(smaller, x))
    codes = {"conv1": torch.tensor([[1.0, 0], [1, 1]]), "conv2": torch.tensor([[0, 1, 0.0], [1, 1, 1]])}
    found = {name: macs.tolist() for name, macs in cost.by_layer(codes).items()}
    assert found["conv1"] == pytest.approx([8 * 8 * 9 * 5 * on for on in (1, 2)])
    assert found["conv2"] == pytest.approx([4 * 4 * 9 * 1 * 1, 4 * 4 * 9 * 2 * 3])
    assert found["linear"] == pytest.approx([96 * 5] * 2)  # a sum is nowhere zero
    assert cost.controllers == (8 * 8 * 5 + 5 + 2) + (4 * 4 * 6 + 6 + 3)


@pytest.mark.parametrize("name", ["in a row", "residual", "read by a sum", "concatenation"])
def test_effective_paths_are_those_of_the_whole_network(name: str) -> None:
    """With positive weights: where all contributions are negative, the largest is one of a filter that is off."""
    network, x = decoupled(NETWORKS[name][0]), images(4)
    for key, each in network.named_parameters():
        if not key.startswith("controllers"):
            each.data.abs_()
    whole = Graph(network, x)
    on = union(CalculationPath().extract(whole, x))
    kept = {layer: on[layer, "channel"].members().tolist() for layer in network.layers}
    reduced = keep_filters(network, kept)
    smaller, pieces, rest = Graph(reduced, x), zero_channels(whole), kept_filters(reduced)
    assert rest
    selected = 0
    for own, other in zip(*(EffectivePath().extract(graph, x) for graph in (smaller, whole))):
        for layer in network.layers:
            rows = rest.get(layer, slice(None))
            columns = _columns(pieces[whole.nodes[layer].inputs[0]], kept, smaller.nodes[layer].input_shapes[0][0])
            assert torch.equal(own.neurons(layer), other.neurons(layer)[rows])
            assert torch.equal(own.weights(layer), other.weights(layer)[rows][:, columns])
            for kind in ("neuron", "weight"):
                assert len(other[layer, kind]) == len(own[layer, kind])
            selected += len(own[layer, "weight"])
        stem = whole.layers[0]
        assert torch.equal(own.weights(stem), other.weights(stem))
    assert selected > 0


def _columns(pieces: Iterable[Piece], kept: dict[str, list[int]], left: int) -> list[int]:
    """Which channels of a layer's input are left: all where nothing went."""
    columns: list[int] = []
    start = 0
    for piece in pieces:
        own = range(piece.channels) if piece.layer is None else kept[piece.layer]
        columns += [start + each for each in own]
        start += piece.channels
    return columns if len(columns) == left else list(range(start))


def test_a_reduced_network_trains_on() -> None:
    network = keep_filters(decoupled(Residual, torch.float32), {"conv1": [1, 2, 5], "conv2": [0, 3, 4, 6]})
    before = {name: value.clone() for name, value in network.state_dict().items()}
    labels = np.arange(20) % 5
    source = MemorySource(images(20, torch.float32))
    made = Images(source, np.arange(20), labels, [str(each) for each in range(5)], ["" for _ in labels], "train")
    history = train_decoupled(network, made, Recipe(epochs=4, batch_size=10, lr=0.01), made)
    assert 0 < history[0]["macs"] < 1.2
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert {"conv1.weight", "conv2.weight", "controllers.conv2.excite.weight", "bn2.running_mean"} <= changed
    assert kept_filters(network) == {"conv1": [1, 2, 5], "conv2": [0, 3, 4, 6]}


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_files_say_what_was_kept(name: str, tmp_path: FilePath) -> None:
    make, gates = NETWORKS[name]
    network, x = decoupled(make), images()
    smaller = keep_filters(network, some(network))
    save_decoupled(smaller, tmp_path / "model.safetensors", "own.py:net", (2, SIDE, SIDE), 5)
    header = read_header(tmp_path / "model.safetensors")["decoupled"]
    assert header["kept"] == {layer: own for layer, own in some(network).items() if layer in gates}
    torch.manual_seed(7)
    loaded = load_decoupled(tmp_path / "model.safetensors", make().double())
    assert Graph(loaded, x).fingerprint == Graph(smaller, x).fingerprint
    assert torch.equal(loaded(x), smaller(x))
    assert kept_filters(loaded) == kept_filters(smaller)


def test_files_of_whole_networks_say_nothing_of_it(tmp_path: FilePath) -> None:
    save_decoupled(decoupled(Plain), tmp_path / "model.safetensors", "own.py:net", (2, SIDE, SIDE), 5)
    assert set(read_header(tmp_path / "model.safetensors")["decoupled"]) == {"schema", "layers", "shape", "normalize"}


def test_a_network_of_the_zoo_is_made_by_its_name(tmp_path: FilePath) -> None:
    network = decouple(load_model("lenet5"), torch.zeros(1, 1, 28, 28))
    smaller = keep_filters(network, {"conv2": [3, 9]})
    save_decoupled(smaller, tmp_path / "model.safetensors", "lenet5", smaller.input_shape, 10)
    loaded = load_decoupled(tmp_path)
    assert loaded.input_shape == (1, 28, 28)
    x = torch.rand(3, 1, 28, 28)
    assert torch.equal(loaded(x), smaller(x))


def test_files_with_filters_that_the_model_never_had(tmp_path: FilePath) -> None:
    network, file = keep_filters(decoupled(Plain), CHAIN), tmp_path / "model.safetensors"
    save_decoupled(network, file, "own.py:net", (2, SIDE, SIDE), 5)
    header = read_header(file)
    for kept, message in (
        ({"conv1": [1, 4, 9]}, "does not fit the model; filters of conv1 must be ascending positions below 6"),
        (
            {"conv1": [1, 4]},
            r"does not fit the model; misshapen: .*controllers.conv1.excite.weight \(3, 1\) instead of \(2, 1\)",
        ),
    ):
        save_weights(network, file, {**header, "decoupled": {**header["decoupled"], "kept": kept}})
        with pytest.raises(BadWeights, match=message):
            load_decoupled(file, Plain().double())


def test_the_name_is_public() -> None:
    assert netpaths.remove_unused is remove_unused
