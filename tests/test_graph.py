"""Graph: names, folding, what it refuses, and that the user's model is only ever read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from netpaths import EffectivePath, Graph
from netpaths.errors import BadInput, BadOption, UnknownNode, UnsupportedOperation
from netpaths.graph import ranked_classes
from netpaths.graph.family import FAMILIES, register_family, supported
from networks import Network, random_network, step_nodes
from oracle import Step

EXAMPLE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Small(nn.Module):
    """Convolutions with batch norms, in-place ReLUs, dropout, a residual addition and a reused module."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.9)
        self.fc = nn.Linear(4, 5)
        for norm in (self.bn1, self.bn2):
            norm.running_mean, norm.running_var = torch.randn(4), torch.rand(4) + 0.5
            norm.weight, norm.bias = nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = x + self.block(self.block(x))
        y: Tensor = self.fc(self.drop(x.mean((2, 3))))
        return y

    def block(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.bn2(self.conv2(x)))
        return y


class Calling(nn.Module):
    """A convolution, a function of its output, and a linear layer: ``function(self, y, x)``."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(3 * 64, 4)
        self.register_buffer("shift", torch.randn(1, 3, 1, 1))
        self.register_buffer("plane", torch.randn(1, 1, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(torch.flatten(self.function(self, self.conv(x), x), 1))
        return y


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model.eval()(x.clone())
    return logits


# --- names -----------------------------------------------------------------------------------------------------------


def test_names_folding_and_layers() -> None:
    graph = Graph(Small(), EXAMPLE)
    assert list(graph.nodes) == [
        "x", "conv1", "relu", "conv2", "relu#2", "conv2#2", "relu#3", "add", "mean", "fc",
    ]  # fmt: skip
    assert graph.folded == {"bn1": "conv1", "bn2": "conv2", "bn2#2": "conv2#2"}
    assert graph.layers == ("conv1", "conv2", "conv2#2", "fc")
    assert (graph.input, graph.output, graph.classes, graph.input_shape) == ("x", "fc", 5, (3, 8, 8))
    assert repr(graph) == "Graph(10 nodes, 4 layers, input (3, 8, 8), 5 classes)"
    assert graph.readers["relu"] == ("conv2", "add")
    assert graph.node("conv1").shape == (4, 8, 8)
    assert graph.node("conv1").operation == "conv2d"


def test_unknown_names() -> None:
    graph = Graph(Small(), EXAMPLE)
    with pytest.raises(UnknownNode, match=r"there is no node 'conv'; nearest: conv2, conv1"):
        graph.node("conv")
    with pytest.raises(UnknownNode, match=r"\(bn1 was folded into conv1\)"):
        graph.node("bn1")
    with pytest.raises(UnknownNode, match="'nothing'"):
        graph.run(EXAMPLE, record=["nothing"])
    with pytest.raises(UnknownNode, match="'gone'"):
        graph.run(EXAMPLE, gates={"gone": torch.ones(4)})
    with pytest.raises(UnknownNode, match="nodes this run recorded"):
        graph.run(EXAMPLE, record=["relu"])["conv1"]


def test_operations_table() -> None:
    rows = {row["node"]: row for row in Graph(Small(), EXAMPLE).operations()}
    assert rows["conv1"] == {
        "node": "conv1", "operation": "conv2d", "family": "convolution", "shape": (4, 8, 8), "weights": 108,
    }  # fmt: skip
    assert rows["x"]["family"] == "input"
    assert rows["add"]["weights"] == 0


def test_families_have_names_of_their_own() -> None:
    rows = supported()
    assert len({family.name for family in rows}) == len(rows)
    assert all(family.summary and family.operations for family in rows)
    with pytest.raises(BadOption, match="already a family 'convolution'"):
        register_family(FAMILIES["convolution"])


# --- same network ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fold", [True, False])
def test_logits_are_the_models(fold: bool) -> None:
    model = Small()
    torch.testing.assert_close(Graph(model, EXAMPLE, fold).run(EXAMPLE).logits, logits_of(model, EXAMPLE))


def flatten_first(module: Calling, y: Tensor, x: Tensor) -> Tensor:
    return torch.flatten(y, 1).relu_()


def relu_statement(module: Calling, y: Tensor, x: Tensor) -> Tensor:
    module.relu(y)
    return y


def relu_method_statement(module: Calling, y: Tensor, x: Tensor) -> Tensor:
    y.relu_()
    return y


def relu_function_statement(module: Calling, y: Tensor, x: Tensor) -> Tensor:
    F.relu(y, inplace=True)
    return y


def relu_positional_statement(module: Calling, y: Tensor, x: Tensor) -> Tensor:
    F.relu(y, True)
    return y


def read_after_relu(module: Calling, y: Tensor, x: Tensor) -> Tensor:
    z = module.relu(y)
    return z + y


def read_before_and_after(module: Calling, y: Tensor, x: Tensor) -> Tensor:
    doubled = y * 2
    z = F.leaky_relu_(y, 0.1)
    return doubled + y.add_(x) + z


def add_statement(module: Calling, y: Tensor, x: Tensor) -> Tensor:
    y.add_(x)
    y.mul_(-2)
    return y


def in_place_on_the_input(module: Calling, y: Tensor, x: Tensor) -> Tensor:
    return y + x.sub_(0.5)


def split(module: Calling, y: Tensor, x: Tensor) -> Tensor:
    first, second = torch.split(y, [1, 2], 1)
    return torch.cat([second, first], 1)


SAME: dict[str, Callable[..., Any]] = {
    "flatten first": flatten_first,
    "relu statement": relu_statement,
    "relu method statement": relu_method_statement,
    "relu function statement": relu_function_statement,
    "relu positional statement": relu_positional_statement,
    "read after an in-place relu": read_after_relu,
    "read before and after": read_before_and_after,
    "add statement": add_statement,
    "twice itself": lambda m, y, x: y + y,
    "concat with itself": lambda m, y, x: torch.cat([y, y], 1)[:, 2:5],
    "constant": lambda m, y, x: y + torch.arange(3.0).view(1, 3, 1, 1),
    "constant branch": lambda m, y, x: y + F.relu(m.shift * 2 - 1),
    "constant branch by shape": lambda m, y, x: y + torch.ones(y.shape[2:]),
    "buffer": lambda m, y, x: (y - m.shift) / (m.shift.abs() + 1),
    "sizes": lambda m, y, x: y.view(y.size(0), -1).reshape(y.shape),
    "split": split,
    "dropout": lambda m, y, x: F.dropout(y, 0.5, m.training),
}


@pytest.mark.parametrize("name", SAME)
def test_ways_of_calling(name: str) -> None:
    model = Calling(SAME[name])
    graph = Graph(model, EXAMPLE)
    torch.testing.assert_close(graph.run(EXAMPLE).logits, logits_of(model, EXAMPLE))
    assert len(EffectivePath().extract(graph, EXAMPLE)) == 2


def test_the_users_images_are_not_written_to() -> None:
    model, images = Calling(in_place_on_the_input), EXAMPLE.clone()
    graph = Graph(model, images)
    assert torch.equal(images, EXAMPLE)
    EffectivePath().extract(graph, images)
    assert torch.equal(images, EXAMPLE)


@pytest.mark.parametrize("name", ["relu statement", "read before and after", "flatten first"])
def test_recorded_values_survive_in_place_operations(name: str) -> None:
    model = Calling(SAME[name])
    trace = Graph(model, EXAMPLE).run(EXAMPLE, record="all")
    with torch.no_grad():
        torch.testing.assert_close(trace["conv"], model.conv(EXAMPLE))


def test_module_reuse_is_two_nodes() -> None:
    model = Small()
    graph = Graph(model, EXAMPLE, fold=False)
    assert graph.node("conv2").module == graph.node("conv2#2").module == "conv2"
    path = EffectivePath().extract(graph, EXAMPLE)[0]
    assert path.weights("conv2").shape == path.weights("conv2#2").shape == (4, 4, 3, 3)


def test_traced_once_per_model_and_repeatable() -> None:
    first, second = Graph(Small(), EXAMPLE), Graph(Small(), torch.zeros(1, 3, 8, 8))
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) == 64
    other = Small()
    with torch.no_grad():
        other.fc.weight[0, 0] += 1e-3
    assert Graph(other, EXAMPLE).fingerprint != first.fingerprint


# --- the user's model is only read -----------------------------------------------------------------------------------


class Watched:
    """A model in a peculiar state, with hooks that must neither fire nor vanish, and a snapshot to compare with."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.fired = model, 0
        model.train()
        model.bn2.eval()  # type: ignore[operator]
        model.conv1.weight.requires_grad_(False)  # type: ignore[union-attr]
        model(EXAMPLE).sum().backward()
        for module in model.modules():
            module.register_forward_hook(self._fire)
            module.register_forward_pre_hook(self._fire)
            module.register_full_backward_hook(self._fire)
        self.before = self.state()

    def _fire(self, *arguments: Any) -> None:
        self.fired += 1

    def state(self) -> dict[str, Any]:
        modules = dict(self.model.named_modules())
        tensors = [*self.model.named_parameters(), *self.model.named_buffers()]
        return {
            "modules": {name: id(module) for name, module in modules.items()},
            "training": {name: module.training for name, module in modules.items()},
            "inplace": {name: getattr(module, "inplace", None) for name, module in modules.items()},
            "hooks": {name: [list(getattr(module, store)) for store in HOOKS] for name, module in modules.items()},
            "tensors": {
                name: (id(tensor), tensor._version, tensor.requires_grad, tensor.detach().clone(), _grad(tensor))
                for name, tensor in tensors
            },
        }

    def assert_untouched(self) -> None:
        now = self.state()
        assert self.fired == 0
        for key in ("modules", "training", "inplace", "hooks"):
            assert now[key] == self.before[key], key
        assert list(now["tensors"]) == list(self.before["tensors"])
        for name, (identity, version, needs_grad, value, grad) in self.before["tensors"].items():
            found = now["tensors"][name]
            assert found[:3] == (identity, version, needs_grad), name
            assert torch.equal(found[3], value), name
            assert (found[4] is None and grad is None) or torch.equal(found[4], grad), name


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _grad(tensor: Tensor) -> Tensor | None:
    return None if tensor.grad is None else tensor.grad.clone()


@pytest.fixture
def watched() -> Watched:
    return Watched(Small())


def test_untouched_by_tracing_running_and_extracting(watched: Watched) -> None:
    graph = Graph(watched.model, EXAMPLE)
    watched.assert_untouched()
    graph.run(EXAMPLE, record="all", gates={"conv1": torch.zeros(4)})
    EffectivePath().extract(graph, EXAMPLE)
    watched.assert_untouched()


def test_untouched_by_gradients_through_a_run(watched: Watched) -> None:
    images = EXAMPLE.clone().requires_grad_()
    logits = Graph(watched.model, EXAMPLE).run(images).logits
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert bool(gradient.abs().sum() > 0)
    watched.assert_untouched()


def test_untouched_after_exceptions(watched: Watched) -> None:
    graph = Graph(watched.model, EXAMPLE)

    def fail(inputs: list[Tensor], output: Tensor) -> Tensor:
        raise RuntimeError("an edit failed")

    with pytest.raises(RuntimeError, match="an edit failed"):
        graph.run(EXAMPLE, edits={"add": fail})
    with pytest.raises(BadInput):
        graph.run(EXAMPLE[:, :2])
    with pytest.raises(BadInput):
        Graph(watched.model, torch.zeros(1, 2, 8, 8))
    watched.assert_untouched()


def test_untouched_by_a_refusal() -> None:
    model = Small()
    model.add_module("extra", nn.Bilinear(5, 5, 5))
    model.drop = nn.Threshold(1.0, 0.0)  # type: ignore[assignment]
    watched = Watched.__new__(Watched)
    watched.model, watched.fired = model, 0
    watched.before = watched.state()
    with pytest.raises(UnsupportedOperation):
        Graph(model, EXAMPLE)
    watched.assert_untouched()


def test_later_training_does_not_reach_a_folded_graph_silently() -> None:
    """The graph shares parameters with the model; folded ones are its own copies."""
    model = Small()
    graph = Graph(model, EXAMPLE)
    assert graph.node("fc").weight.data_ptr() == model.fc.weight.data_ptr()
    assert graph.node("conv1").weight.data_ptr() != model.conv1.weight.data_ptr()


# --- gates and edits -------------------------------------------------------------------------------------------------


def test_channel_gates() -> None:
    graph = Graph(Small(), EXAMPLE)
    gate = torch.tensor([1.0, 0.0, 0.5, 2.0])
    trace = graph.run(EXAMPLE, record="all")
    gated = graph.run(EXAMPLE, gates={"conv1": gate}, record=["conv1"])
    torch.testing.assert_close(gated["conv1"], trace["conv1"] * gate[None, :, None, None])
    each = torch.stack([gate, gate.flip(0)])
    torch.testing.assert_close(
        graph.run(EXAMPLE, gates={"conv1": each}, record=["conv1"])["conv1"],
        trace["conv1"] * each[:, :, None, None],
    )


def test_neuron_gates_and_vectors() -> None:
    graph = Graph(Small(), EXAMPLE)
    trace = graph.run(EXAMPLE, record="all")
    full = torch.rand(4, 8, 8)
    torch.testing.assert_close(graph.run(EXAMPLE, gates={"relu": full}, record=["relu"])["relu"], trace["relu"] * full)
    torch.testing.assert_close(graph.run(EXAMPLE, gates={"fc": torch.zeros(5)}).logits, torch.zeros(2, 5))
    ones = {name: torch.ones(node.shape) for name, node in graph.nodes.items()}
    torch.testing.assert_close(graph.run(EXAMPLE, gates=ones).logits, trace.logits)


def test_gates_of_the_wrong_shape() -> None:
    graph = Graph(Small(), EXAMPLE)
    with pytest.raises(BadInput, match=r"the gate of conv1 has shape \(3,\), its output \(2, 4, 8, 8\)"):
        graph.run(EXAMPLE, gates={"conv1": torch.ones(3)})


def test_gates_carry_gradients() -> None:
    graph = Graph(Small(), EXAMPLE)
    gate = torch.ones(4, requires_grad=True)
    graph.run(EXAMPLE, gates={"relu": gate}).logits[:, 0].sum().backward()
    assert gate.grad is not None
    assert bool(gate.grad.abs().sum() > 0)


def test_edits_see_inputs_and_output() -> None:
    graph = Graph(Small(), EXAMPLE)
    trace = graph.run(EXAMPLE, record="all")
    seen: list[Tensor] = []

    def double(inputs: list[Tensor], output: Tensor) -> Tensor:
        seen.extend([*inputs, output])
        return output * 2

    edited = graph.run(EXAMPLE, edits={"add": double}, record=["add"])
    for value, expected in zip(seen, (trace["relu"], trace["relu#3"], trace["add"])):
        torch.testing.assert_close(value, expected)
    torch.testing.assert_close(edited["add"], trace["add"] * 2)
    assert not torch.allclose(edited.logits, trace.logits)


def test_predicted_is_the_first_largest() -> None:
    graph = Graph(Small(), EXAMPLE)
    trace = graph.run(EXAMPLE, gates={"fc": torch.zeros(5)})
    assert trace.predicted.tolist() == [0, 0]


# --- pruned and parametrised models ----------------------------------------------------------------------------------


def test_pruned_model() -> None:
    model = Small()
    prune.random_unstructured(model.fc, "weight", 0.5)
    prune.l1_unstructured(model.conv1, "weight", 0.3)
    graph = Graph(model, EXAMPLE)
    torch.testing.assert_close(graph.run(EXAMPLE).logits, logits_of(model, EXAMPLE))
    assert torch.equal(graph.node("fc").weight == 0, model.fc.weight_mask == 0)
    assert EffectivePath().extract(graph, EXAMPLE)[0].weights("conv1").shape == (4, 3, 3, 3)


def test_parametrised_model() -> None:
    model = Small()
    parametrizations.weight_norm(model.fc)
    parametrizations.spectral_norm(model.conv1)
    model.eval()
    graph = Graph(model, EXAMPLE)
    torch.testing.assert_close(graph.run(EXAMPLE).logits, logits_of(model, EXAMPLE))
    assert EffectivePath().extract(graph, EXAMPLE)[0].weights("fc").shape == (5, 4)


# --- hand-written steps ----------------------------------------------------------------------------------------------


def test_nodes_come_in_the_order_of_execution() -> None:
    steps = random_network(3)
    graph = Graph(Network(steps).double(), torch.zeros(1, *_shape(steps)).double(), fold=False)
    order = {name: place for place, name in enumerate(graph.nodes)}
    places = [order[name] for name in step_nodes(graph, len(steps)) if name is not None]
    assert places == sorted(places)
    assert all(order[source] < order[name] for name in graph.nodes for source in graph.node(name).inputs)


def _shape(steps: list[Step]) -> tuple[int, int, int]:
    from test_random_networks import input_shape

    return input_shape(3)


def test_a_run_without_changes_is_the_run_that_can_be_changed() -> None:
    """Recording by a compiled network against the interpreter that also gates, for more sets than are kept."""
    graph = Graph(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), torch.zeros(1, 4))
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    names = list(graph.nodes)
    sets = [names[start:stop] for start in range(len(names)) for stop in range(start + 1, len(names) + 1)] * 2
    assert len(sets) > 16
    for record in sets:
        plain, gated = graph.run(x, record=record), graph.run(x, gates={names[1]: torch.ones(8)}, record=record)
        assert torch.equal(plain.logits, gated.logits)
        assert set(plain.values) == set(record)
        assert all(torch.equal(plain[name], gated[name]) for name in record)


def test_few_ranks_are_the_first_of_all() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0, 2.0], [0.0, -torch.inf, -torch.inf, -torch.inf], [2.0, 2.0, 2.0, 2.0]])
    for ranks in (1, 2, 3, 4):
        assert torch.equal(ranked_classes(logits, ranks), ranked_classes(logits)[:, :ranks])
    assert ranked_classes(logits).tolist() == [[1, 2, 3, 0], [0, 1, 2, 3], [0, 1, 2, 3]]
