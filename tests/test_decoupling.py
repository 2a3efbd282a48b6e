"""Decoupled networks: codes, gradients, insertion, losses, cost and paths, against arithmetic done by hand."""

from __future__ import annotations

from fractions import Fraction
from math import log, sqrt

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import entropy, norm
from torch import Tensor, nn

from netpaths import CalculationPath, EffectivePath, Graph, decouple, load_decoupled, load_model, save_decoupled
from netpaths.ablation import keep_only, remove
from netpaths.decoupling import loss
from netpaths.decoupling.controller import Controller, Gate, hashed
from netpaths.decoupling.cost import Cost
from netpaths.decoupling.insertion import Decoupled
from netpaths.decoupling.layers import decoupled_layers, zero_channels
from netpaths.decoupling.loss import Objective
from netpaths.decoupling.observed import Observed, Plain
from netpaths.errors import BadFile, BadInput, BadOption, BadWeights, UnknownNode
from netpaths.zoo import Restricted, save_weights


class Block(nn.Module):
    """A stem, and a residual block with a projection beside it: every place where a code can stand."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.conv1 = nn.Conv2d(6, 8, 3, padding=1, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.project = nn.Conv2d(6, 8, 1, stride=2)
        self.linear = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        x = F.relu(y + self.project(x))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def block(seed: int = 0) -> Block:
    """A block with random weights and statistics, in float64 and evaluation mode."""
    torch.manual_seed(seed)
    made = Block().double()
    for norm_ in (made.bn1, made.bn2):
        nn.init.normal_(norm_.weight)
        nn.init.normal_(norm_.bias)
        nn.init.normal_(norm_.running_mean)  # type: ignore[arg-type]
        nn.init.uniform_(norm_.running_var, 0.5, 2)  # type: ignore[arg-type]
    return made.eval()


def shaken(network: Decoupled, seed: int = 0) -> Decoupled:
    """The network with controllers whose codes differ from image to image."""
    generator = torch.Generator().manual_seed(seed)
    for name in network.layers:
        own = network.controller(name)
        with torch.no_grad():
            own.squeeze.weight.copy_(9 * torch.randn(own.squeeze.weight.shape, generator=generator))
            own.excite.bias.copy_(torch.randn(own.excite.bias.shape, generator=generator) / 2)
    return network


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    noise, light = (torch.randn(7, 2, *size, dtype=torch.float64, generator=generator) for size in ((9, 9), (1, 1)))
    return noise + 2 * light


@pytest.fixture
def network(images: Tensor) -> Decoupled:
    return shaken(decouple(block(), images[:1], level=False))


# --- codes -----------------------------------------------------------------------------------------------------------


def test_codes_in_evaluation_are_the_signs_of_the_scores() -> None:
    controller = shaken_controller().eval()
    x = torch.randn(50, 8, 4, 4, generator=torch.Generator().manual_seed(2))
    pooled = x.mean((2, 3))
    hidden = (pooled @ controller.squeeze.weight.T + controller.squeeze.bias).clamp(min=0)
    scores = hidden @ controller.excite.weight.T + controller.excite.bias
    assert torch.equal(controller(x), (scores > 0).float())
    assert 0 < float(controller(x).mean()) < 1


def shaken_controller() -> Controller:
    torch.manual_seed(0)
    made = Controller(8, 12, bias=0.0)
    nn.init.normal_(made.squeeze.weight)
    return made


@pytest.mark.parametrize("bias", [0.0, 1.0, 3.0])
def test_the_first_codes_ignore_the_image_and_are_on_as_often_as_said(bias: float) -> None:
    torch.manual_seed(0)
    made = Controller(64, 20_000, bias).eval()
    codes = made(torch.randn(3, 64, 2, 2))
    assert torch.equal(codes[0], codes[1])
    assert torch.equal(codes[0], codes[2])
    assert float(codes.mean()) == pytest.approx(norm.cdf(bias / sqrt(2)), abs=0.02)


def test_level_scores_start_alike() -> None:
    torch.manual_seed(0)
    made = Controller(8, 30, bias=1.5, level=True)
    assert made.score(torch.randn(4, 8, 3, 3)).detach().numpy() == pytest.approx(1.5, abs=1e-6)


@pytest.mark.parametrize(("channels", "hidden"), [(1, 1), (3, 1), (4, 1), (7, 1), (64, 16)])
def test_the_hidden_layer_has_a_quarter_of_the_channels(channels: int, hidden: int) -> None:
    assert Controller(channels, 5).squeeze.out_features == hidden


def drawn(z: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Noise and choices as `hashed` draws them."""
    torch.manual_seed(seed)
    return torch.randn_like(z), torch.rand(len(z), 1) < 0.5


def test_training_codes_are_soft_or_hard_image_by_image() -> None:
    z = torch.randn(400, 6, dtype=torch.float64) * 2
    noise, choice = drawn(z, 5)
    torch.manual_seed(5)
    codes = hashed(z)
    g = (z + noise).numpy()
    soft = (1.2 / (1 + 2.718281828459045**-g) - 0.1).clip(0, 1)
    hard = (g > 0).astype(float)
    for image in range(len(z)):
        wanted = hard[image] if choice[image] else soft[image]
        assert codes[image].numpy() == pytest.approx(wanted, abs=1e-12)
    assert 0.4 < float(choice.double().mean()) < 0.6


def test_the_gradient_is_the_soft_ones_for_every_image() -> None:
    z = (torch.randn(300, 5, dtype=torch.float64) * 2).requires_grad_()
    noise, choice = drawn(z, 9)
    torch.manual_seed(9)
    weights = torch.randn(300, 5, dtype=torch.float64)
    torch.manual_seed(9)
    (found,) = torch.autograd.grad((hashed(z) * weights).sum(), z)
    sigma = torch.sigmoid(z.detach() + noise)
    stretched = 1.2 * sigma - 0.1
    inside = (stretched > 0) & (stretched < 1)
    slope = 1.2 * sigma * (1 - sigma) * inside
    assert torch.allclose(found, slope * weights, atol=1e-12)
    assert bool(choice.any())
    assert bool((found[choice[:, 0]] != 0).any())


def test_a_gate_multiplies_channels() -> None:
    features, code = torch.randn(3, 4, 2, 5), torch.randint(0, 2, (3, 4)).float()
    gated = Gate()(features, code)
    for image in range(3):
        for channel in range(4):
            assert torch.equal(gated[image, channel], features[image, channel] * code[image, channel])


# --- insertion -------------------------------------------------------------------------------------------------------


def by_hand(model: Block, network: Decoupled, x: Tensor) -> Tensor:
    """The decoupled block written out."""

    def code(name: str, value: Tensor) -> Tensor:
        return network.controller(name)(value)[:, :, None, None]

    x = F.relu(model.stem(x))
    y = F.relu(model.bn1(model.conv1(x))) * code("conv1", x)
    y = model.bn2(model.conv2(y)) * code("conv2", y)
    x = F.relu(y + model.project(x) * code("project", x))
    logits: Tensor = model.linear(x.mean((2, 3)))
    return logits


def test_codes_stand_behind_the_activation_and_in_front_of_the_sum(network: Decoupled, images: Tensor) -> None:
    assert network.layers == ("conv1", "conv2", "project")
    assert torch.allclose(network(images), by_hand(block(), network, images), atol=1e-12)


def test_all_filters_on_is_the_plain_network(images: Tensor) -> None:
    network = decouple(block(), images[:1], bias=100.0)
    assert torch.allclose(network(images), block()(images), atol=1e-12)


def test_the_model_is_copied(images: Tensor) -> None:
    model = block()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    network = decouple(model, images[:1])
    for parameter in network.parameters():
        parameter.data += 1
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert {name: tensor.shape for name, tensor in network.state_dict().items() if "." not in name.rpartition(".")[0]}


def test_names_of_tensors_stay(images: Tensor) -> None:
    own = {name for name in block().state_dict() if not name.endswith("num_batches_tracked")}
    assert own <= set(decouple(block(), images[:1]).state_dict())


def test_the_seed_makes_the_controllers(images: Tensor) -> None:
    states = [decouple(block(), images[:1], seed=seed).state_dict() for seed in (0, 0, 1)]
    same, other = (
        all(torch.equal(states[0][name], state[name]) for name in states[0]) for state in (states[1], states[2])
    )
    assert same
    assert not other


LAYERS = {
    "lenet5": ("conv2",),
    "resnet20": tuple(f"layer{s}.{b}.conv{c}" for s in (1, 2, 3) for b in (0, 1, 2) for c in (1, 2)),
    "vgg11": tuple(f"features.{place}" for place in (4, 8, 11, 15, 18, 22, 25)),
    "torchvision:resnet18": None,
    "torchvision:densenet121": None,
    "squeezenet1_0": None,
}


@pytest.mark.parametrize("name", LAYERS)
def test_zoo_and_torchvision_networks(name: str) -> None:
    torch.manual_seed(0)
    model = load_model(name)
    shape = {"lenet5": (1, 28, 28), "squeezenet1_0": (3, 64, 64)}.get(name, (3, 32, 32))
    x = torch.rand(3, *shape)
    network = decouple(model, x[:1], bias=1.0, level=False)
    convolutions = [each for each in model.modules() if isinstance(each, nn.Conv2d)]
    last_is_linear = isinstance(
        [each for each in model.modules() if isinstance(each, (nn.Conv2d, nn.Linear))][-1], nn.Linear
    )
    assert len(network.layers) == len(convolutions) - (1 if last_is_linear else 2)
    if LAYERS[name] is not None:
        assert network.layers == LAYERS[name]
    graph = Graph(network, x[:1])
    assert torch.allclose(graph.run(x).logits, network(x), atol=1e-3)
    paths = CalculationPath().extract(graph, x)
    everything = torch.cat([paths[0].channels(layer).float() for layer in paths[0].nodes("channel")])
    assert float(everything.mean()) == pytest.approx(norm.cdf(1 / sqrt(2)), abs=0.15)


def test_chosen_layers(images: Tensor) -> None:
    assert decouple(block(), images[:1], ("conv2", "stem")).layers == ("stem", "conv2")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (("linear",), "layers to decouple are convolutions; linear is none; these can be: conv1, conv2, project"),
        (("conv1", "conv1"), "name at least one, each once"),
        ((), "name at least one, each once"),
    ],
)
def test_layers_that_cannot_be_decoupled(layers: tuple[str, ...], message: str, images: Tensor) -> None:
    with pytest.raises(BadOption, match=message):
        decouple(block(), images[:1], layers)


def test_refusals(images: Tensor, network: Decoupled) -> None:
    with pytest.raises(UnknownNode, match="there is no node 'conv3'; nearest: conv"):
        decouple(block(), images[:1], ("conv3",))
    with pytest.raises(BadOption, match="has controllers already"):
        decouple(network, images[:1])
    with pytest.raises(BadOption, match="no convolution to decouple"):
        decouple(load_model("lenet300-100"), torch.zeros(1, 1, 28, 28))
    with pytest.raises(BadOption, match="no controllers; make a decoupled one"):
        CalculationPath().extract(Graph(block(), images[:1]), images)


# --- the loss --------------------------------------------------------------------------------------------------------


def head(weight: list[list[float]]) -> nn.Linear:
    made = nn.Linear(len(weight[0]), len(weight), bias=False).double()
    made.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))
    return made


def test_the_bound_on_mutual_information_by_hand() -> None:
    """Code (1, 0) goes with class 0 three times in four, (0, 1) with class 1 three times in four.

    The classifier log q(y | a) that knows these odds makes the bound exact: I = ln 2 − H(1/4).
    """
    code = torch.tensor([[1, 0]] * 4 + [[0, 1]] * 4, dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1, 1, 1, 1, 0])
    odds = [[log(3 / 4), log(1 / 4)], [log(1 / 4), log(3 / 4)]]
    exact = log(2) - float(entropy([0.25, 0.75]))
    assert log(2) - loss.information(code, labels, head(odds)).item() == pytest.approx(exact, abs=1e-12)
    for other in ([[0.0, 0.0], [0.0, 0.0]], [[2.0, -1.0], [0.5, 3.0]], [[-1.0, 1.0], [1.0, -1.0]]):
        assert log(2) - loss.information(code, labels, head(other)).item() < exact


def test_a_code_that_says_nothing_has_no_information() -> None:
    code, labels = torch.ones(6, 3, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    assert log(3) - loss.information(code, labels, head([[0.0] * 3] * 3)).item() == pytest.approx(0, abs=1e-12)


def test_sparsity_by_hand() -> None:
    code = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0]], dtype=torch.float64)
    for kept in (Fraction(0), Fraction(1, 5), Fraction(2, 5), Fraction(1)):
        wanted = abs(Fraction(6, 3) - kept * 5)
        assert float(loss.sparsity(code, float(kept))) == pytest.approx(float(wanted), abs=1e-12)


@pytest.mark.parametrize("direction", ["output", "code"])
def test_alignment_is_scipys_divergence(direction: str) -> None:
    torch.manual_seed(0)
    code, features = torch.rand(4, 6, dtype=torch.float64), torch.randn(4, 6, 3, 3, dtype=torch.float64)
    pooled = torch.softmax(features.mean((2, 3)), 1).numpy()
    chosen = torch.softmax(code, 1).numpy()
    pairs = zip(pooled, chosen) if direction == "output" else zip(chosen, pooled)
    wanted = sum(entropy(first, second) for first, second in pairs) / 4
    assert float(loss.alignment(code, features, direction)) == pytest.approx(wanted, abs=1e-12)


def test_hints_by_hand() -> None:
    plain = {"a": torch.tensor([[1.0, 2.0], [0.0, 2.0]]), "b": torch.tensor([[4.0], [0.0]])}
    reads = {"a": torch.tensor([[1.0, 0.0], [1.0, 2.0]]), "b": torch.tensor([[2.0], [1.0]])}
    assert float(loss.hints(reads, plain)) == pytest.approx(float(Fraction(4 + 1, 9) + Fraction(4 + 1, 16)))
    assert float(loss.hints(plain, plain)) == 0
    dead = {"a": torch.zeros(2, 2)}
    assert float(loss.hints(dead, dead)) == 0


def test_what_layers_read_is_what_the_plain_network_gives_them(digits_lenet: nn.Module) -> None:
    network = decouple(digits_lenet, torch.zeros(1, 1, 28, 28), bias=5.0)  # everything is on
    x = torch.rand(3, 1, 28, 28)
    plain = Plain(digits_lenet, x)
    with torch.no_grad():
        seen, (logits, reads) = Observed(network, plain.layers)(x), plain(x)
    trace = Graph(digits_lenet, x).run(x, record=["pool1", "pool2"])
    assert plain.layers == ("conv2", "fc1", "fc2", "fc3")
    torch.testing.assert_close(reads["conv2"], trace["pool1"])
    torch.testing.assert_close(reads["fc1"], trace["pool2"].flatten(1))
    torch.testing.assert_close(logits, trace.logits)
    for name in plain.layers:
        torch.testing.assert_close(seen.reads[name], reads[name])


def test_a_plain_network_of_other_layers_is_refused(digits_lenet: nn.Module) -> None:
    network = decouple(digits_lenet, torch.zeros(1, 1, 28, 28))
    with pytest.raises(BadOption, match=r"without controllers has a layer layer1\.0\.conv1, the decoupled one has not"):
        Observed(network, ("layer1.0.conv1",))


def test_distillation_is_scipys_divergence() -> None:
    torch.manual_seed(0)
    own, plain = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    pairs = zip(torch.softmax(plain / 4, 1).numpy(), torch.softmax(own / 4, 1).numpy())
    assert float(loss.distillation(own, plain)) == pytest.approx(16 * sum(entropy(*pair) for pair in pairs) / 5)


def test_parts_are_sums_over_layers_times_their_weights() -> None:
    torch.manual_seed(0)
    codes = {"a": torch.rand(4, 3).double(), "b": torch.rand(4, 2).double()}
    features = {"a": torch.randn(4, 3, 2, 2).double(), "b": torch.randn(4, 2, 5, 5).double()}
    labels = torch.tensor([0, 1, 1, 0])
    classifiers = loss.heads({"a": 3, "b": 2}, 2).double()
    objective = Objective(information=0.5, alignment=2.0, sparsity=0.25, kept=0.5)
    found = loss.parts(objective, codes, features, labels, classifiers)
    wanted = {
        "information": 0.5 * sum(loss.information(codes[name], labels, classifiers[name]) for name in codes),
        "alignment": 2.0 * sum(loss.alignment(codes[name], features[name]) for name in codes),
        "sparsity": 0.25 * sum(loss.sparsity(codes[name], 0.5) for name in codes),
    }
    assert found.keys() == wanted.keys()
    assert all(found[name].item() == pytest.approx(wanted[name].item()) for name in wanted)


@pytest.mark.parametrize("name", ["information", "alignment", "sparsity"])
def test_every_part_can_be_switched_off(name: str) -> None:
    codes, features = {"a": torch.rand(4, 3)}, {"a": torch.rand(4, 3, 2, 2)}
    found = loss.parts(Objective(**{name: 0.0}), codes, features, torch.zeros(4).long(), loss.heads({"a": 3}, 2))
    assert set(found) == {"information", "alignment", "sparsity"} - {name}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"information": -1.0}, "information is -1.0, expected a weight of at least 0"),
        ({"kept": 1.5}, "kept is 1.5, expected a share"),
        ({"direction": "both"}, "direction is 'both', expected output or code"),
    ],
)
def test_objectives_out_of_range(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        Objective(**wrong).check()  # type: ignore[arg-type]


# --- cost ------------------------------------------------------------------------------------------------------------


def test_cost_by_hand(network: Decoupled, images: Tensor) -> None:
    graph = Graph(network, images[:1])
    cost = Cost(graph)
    full = {
        "stem": 81 * 6 * 2 * 9,
        "conv1": 25 * 8 * 6 * 9,
        "conv2": 25 * 8 * 8 * 9,
        "project": 25 * 8 * 6,
        "linear": 40,
    }
    assert {name: layer.macs for name, layer in cost.layers.items()} == full
    assert cost.dense == sum(full.values())
    assert cost.most() == cost.dense + cost.controllers
    pooled = 6 * 81 + 8 * 25 + 6 * 81
    assert cost.controllers == pooled + (6 * 1 + 1 * 8) + (8 * 2 + 2 * 8) + (6 * 1 + 1 * 8)
    codes = Observed(network)(images).codes
    one, two, beside = (codes[name].sum(1) / 8 for name in ("conv1", "conv2", "project"))
    wanted = (
        full["stem"] + full["conv1"] * one + full["conv2"] * one * two + full["project"] * beside + full["linear"]
    ) + cost.controllers
    assert torch.allclose(cost.of(codes), wanted.double(), rtol=1e-12)


class Concatenated(nn.Module):
    """Two convolutions side by side, pooled, into one, flattened into a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3)
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 2, 1)
        self.c = nn.Conv2d(6, 5, 3)
        self.linear = nn.Linear(5 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = F.max_pool2d(torch.cat([self.a(x).relu(), self.b(x).relu()], 1), 2)
        logits: Tensor = self.linear(self.c(x).relu().flatten(1))
        return logits


def test_zero_channels_go_through_pools_concatenation_and_flattening() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 1, 10, 10)
    network = shaken(decouple(Concatenated(), x[:1]))
    graph = Graph(network, x)
    pieces = zero_channels(graph)
    assert [(each.layer, each.channels, each.spread) for each in pieces[graph.node("c").inputs[0]]] == [
        ("a", 4, 1),
        ("b", 2, 1),
    ]
    assert [(each.layer, each.channels, each.spread) for each in pieces[graph.node("linear").inputs[0]]] == [
        ("c", 5, 4)
    ]
    trace = graph.run(x, record="all")
    codes = {layer.convolution: trace[layer.controller] for layer in decoupled_layers(graph)}
    for name in ("c", "linear"):
        value = trace[graph.node(name).inputs[0]]
        place = 0
        for piece in pieces[graph.node(name).inputs[0]]:
            for channel in range(piece.channels):
                own = value.flatten(1) if piece.spread > 1 else value.flatten(2)
                part = own[:, place : place + piece.spread]
                assert not bool(part[codes[str(piece.layer)][:, channel] == 0].any())
                place += piece.spread


# --- paths -----------------------------------------------------------------------------------------------------------


def test_a_path_is_the_codes(network: Decoupled, images: Tensor) -> None:
    graph = Graph(network, images[:1])
    seen = Observed(network)(images)
    for image, path in enumerate(CalculationPath().extract(graph, images)):
        assert path.nodes("channel") == network.layers
        assert path.predicted == path.seed == int(seen.logits[image].argmax())
        for layer in network.layers:
            assert torch.equal(path.channels(layer), seen.codes[layer][image].bool())


def test_codes_of_a_batch_are_those_of_its_images(network: Decoupled, images: Tensor) -> None:
    graph = Graph(network, images[:1])
    together = CalculationPath().extract(graph, images)
    alone = [CalculationPath().extract(graph, image[None])[0] for image in images]
    assert all(first.equals(second) for first, second in zip(together, alone))
    assert not all(path.equals(together[0]) for path in together)


def test_keeping_the_path_alone_changes_no_logit(network: Decoupled, images: Tensor) -> None:
    graph = Graph(network, images[:1])
    paths = CalculationPath().extract(graph, images)
    plain = graph.run(images).logits
    assert torch.equal(keep_only(graph, images, paths, "channel"), plain)
    assert not torch.allclose(remove(graph, images, paths, "channel"), plain)


def test_effective_paths_go_through_gates_and_not_through_controllers(network: Decoupled, images: Tensor) -> None:
    """With its codes as constants the network is a plain one, whose effective path is the same."""
    graph = Graph(network, images[:1])
    method = EffectivePath()
    for image in images[:3]:
        (path,) = method.extract(graph, image[None])
        (code,) = CalculationPath().extract(graph, image[None])
        plain = block()
        with torch.no_grad():
            plain.conv1.weight[~code.channels("conv1")] = 0
            plain.bn1.weight[~code.channels("conv1")] = 0
            plain.bn1.bias[~code.channels("conv1")] = 0
            plain.bn2.weight[~code.channels("conv2")] = 0
            plain.bn2.bias[~code.channels("conv2")] = 0
            plain.project.weight[~code.channels("project")] = 0
            plain.project.bias[~code.channels("project")] = 0  # type: ignore[index]
        (own,) = method.extract(Graph(plain, images[:1]), image[None])
        for layer in ("stem", "conv1", "conv2", "project", "linear"):
            assert torch.equal(path.synapses(layer), own.synapses(layer)), layer
            assert torch.equal(path.weights(layer), own.weights(layer)), layer
        assert not path.nodes("neuron") or all("controllers" not in node for node in path.nodes("neuron"))


def test_cost_of_groups_is_counted_product_by_product() -> None:
    torch.manual_seed(0)
    x = torch.rand(3, 2, 8, 8)
    layers = [nn.Conv2d(2, 4, 3), nn.Conv2d(4, 8, 3), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 12, 1, groups=4)]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 3))
    cost = Cost(Graph(decouple(model, x[:1]), x[:1]))
    names = [layer.convolution for layer in cost.decoupled]
    codes = {name: (torch.rand(3, width) < 0.5).float() for name, width in zip(names, (8, 8, 12))}
    found = cost.by_layer(codes)
    on = [torch.ones(3, 4), *codes.values()]
    for place, (layer, given, made) in enumerate(zip(layers[1:], on, on[1:])):
        size, each = (4, 2, 2)[place] ** 2, layer.kernel_size[0] ** 2
        inputs, outputs = layer.in_channels // layer.groups, layer.out_channels // layer.groups
        for image in range(3):
            products = sum(
                int(given[image, read] * made[image, filter_])
                for filter_ in range(layer.out_channels)
                for read in range(filter_ // outputs * inputs, filter_ // outputs * inputs + inputs)
            )
            assert found[names[place]][image] == products * size * each


@pytest.mark.parametrize("name", ["gates", "controllers"])
def test_names_that_a_decoupled_network_needs(name: str) -> None:
    model = nn.Sequential()
    model.add_module("stem", nn.Conv2d(1, 2, 3))
    model.add_module(name, nn.Conv2d(2, 2, 3))
    model.add_module("flatten", nn.Flatten())
    model.add_module("linear", nn.Linear(2 * 16, 2))
    with pytest.raises(BadOption, match=f"calls a module '{name}', which decoupled networks need"):
        decouple(model, torch.zeros(1, 1, 8, 8))


# --- files -----------------------------------------------------------------------------------------------------------


def test_saved_and_loaded_networks_are_alike(tmp_path) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    x = torch.rand(4, 3, 32, 32)
    network = shaken(decouple(load_model("resnet20", classes=7), x[:1], ("layer1_0_conv2", "layer3_2_conv1")))
    file = save_decoupled(network, tmp_path / "model.safetensors", "resnet20", (3, 32, 32), 7)
    again = load_decoupled(file)
    assert again.layers == network.layers
    assert torch.equal(again(x), network(x))
    assert torch.equal(load_decoupled(tmp_path)(x), network(x))
    given = load_decoupled(file, load_model("resnet20", classes=7))
    assert torch.equal(given(x), network(x))
    assert not again.training
    with pytest.raises(BadWeights, match="does not fit the model"):
        load_decoupled(file, load_model("resnet20", classes=6))


def test_a_narrowed_network_is_narrowed_again(tmp_path) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    x = torch.rand(2, 1, 28, 28)
    network = decouple(Restricted(load_model("lenet5", classes=12), (3, 7, 11)), x[:1])
    file = save_decoupled(network, tmp_path / "model.safetensors", "lenet5", (1, 28, 28), 12, None, (3, 7, 11))
    assert torch.equal(load_decoupled(file)(x), network(x))
    assert network(x).shape == (2, 3)


def test_files_that_hold_no_decoupled_network(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = save_weights(load_model("lenet5"), tmp_path / "model.safetensors", {"model": "lenet5", "classes": 10})
    with pytest.raises(BadOption, match="holds no decoupled network; make one with netpaths decouple"):
        load_decoupled(file)
    with pytest.raises(BadFile, match="there is no file or run folder"):
        load_decoupled(tmp_path / "nothing")


def test_images_are_checked(network: Decoupled, images: Tensor) -> None:
    graph = Graph(network, images[:1])
    with pytest.raises(BadInput, match="images have shape"):
        CalculationPath().extract(graph, images[:, :1])
