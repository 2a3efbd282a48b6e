"""Graph: names, folding, what it refuses, and that the user's model is only ever read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from netpaths import EffectivePath, Graph, NetpathsError
from netpaths.errors import BadInput, BadWeights, UnknownNode, UnsupportedOperation
from netpaths.graph.family import find_family, supported
from networks import Network, random_network
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
        "x", "conv1", "relu", "conv2", "relu_1", "conv2_1", "relu_2", "add", "mean", "drop", "fc",
    ]  # fmt: skip
    assert graph.folded == {"bn1": "conv1", "bn2": "conv2", "bn2_1": "conv2_1"}
    assert graph.layers == ("conv1", "conv2", "conv2_1", "fc")
    assert (graph.input, graph.output, graph.classes, graph.input_shape) == ("x", "fc", 5, (3, 8, 8))
    assert repr(graph) == "Graph(11 nodes, 4 layers, input (3, 8, 8), 5 classes)"
    assert graph.readers["relu"] == ("conv2", "add")
    assert graph.node("conv1").shape == (4, 8, 8)
    assert graph.node("conv1").operation == "Conv2d"


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
        "node": "conv1", "operation": "Conv2d", "family": "convolution", "shape": (4, 8, 8), "weights": 108,
    }  # fmt: skip
    assert rows["x"]["family"] == "input"
    assert rows["add"]["weights"] == 0


def test_every_supported_call_is_found() -> None:
    for name, summary, calls in supported():
        assert name
        assert summary
        assert calls
    assert find_family(nn.Conv2d) is not None
    assert find_family(torch.linalg.svd) is None


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
    assert graph.node("conv2").module == graph.node("conv2_1").module == "conv2"
    path = EffectivePath().extract(graph, EXAMPLE)[0]
    assert path.weights("conv2").shape == path.weights("conv2_1").shape == (4, 4, 3, 3)


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
    model.drop = nn.GELU()  # type: ignore[assignment]
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
    for value, expected in zip(seen, (trace["relu"], trace["relu_2"], trace["add"])):
        torch.testing.assert_close(value, expected)
    torch.testing.assert_close(edited["add"], trace["add"] * 2)
    assert not torch.allclose(edited.logits, trace.logits)


def test_predicted_is_the_first_largest() -> None:
    graph = Graph(Small(), EXAMPLE)
    trace = graph.run(EXAMPLE, gates={"fc": torch.zeros(5)})
    assert trace.predicted.tolist() == [0, 0]


# --- refusals --------------------------------------------------------------------------------------------------------


def test_every_unsupported_node_is_listed_before_any_work() -> None:
    ran: list[str] = []

    class Recorded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)
            self.bilinear = nn.GLU()
            self.gelu = nn.GELU()

        def forward(self, x: Tensor) -> Tensor:
            x = torch.erf(self.gelu(x))
            y: Tensor = self.fc(torch.cat([self.bilinear(x), self.bilinear(x)], 1).cumsum(1))
            return y

    model = Recorded()
    model.fc.register_forward_hook(lambda *arguments: ran.append("fc"))
    with pytest.raises(UnsupportedOperation) as caught:
        Graph(model, torch.zeros(1, 4))
    message = str(caught.value)
    for part in ("gelu (GELU)", "erf (erf)", "bilinear (GLU)", "bilinear_1 (GLU)", "cumsum (cumsum)"):
        assert part in message
    assert "Supported: activation, addition, average pooling, batch norm, convolution, identity, linear" in message
    assert "fc" not in message
    assert ran == []


def kernel_of(y: Tensor) -> Tensor:
    return torch.cat([y[:1, :, :3, :3]] * 3)


def write_slice(module: Calling, y: Tensor, x: Tensor) -> Tensor:
    y[:, 0] = 0
    return y


REFUSED: dict[str, tuple[Callable[..., Any], str]] = {
    "value of a sort": (lambda m, y, x: y + y.sort(1)[0], r"sort \(sort\)"),
    "value of a maximum": (
        lambda m, y, x: y + y.max(1, keepdim=True)[0].expand(-1, 3, -1, -1), r"max_1 \(max\); expand \(expand\)",
    ),
    "indices": (
        lambda m, y, x: F.max_pool2d(y, 1, return_indices=True)[0], r"max_pool2d_with_indices",
    ),
    "spreading product": (lambda m, y, x: y[:, :1] * m.shift, r"spreads its input of shape \(1, 8, 8\) over \(3, 8"),
    "spreading sum": (lambda m, y, x: y[:, :1] + m.shift, r"spreads its input of shape \(1, 8, 8\) over \(3, 8, 8"),
    "spreading difference": (lambda m, y, x: y[:, :1] - m.shift, r"spreads its input"),
    "spreading quotient": (lambda m, y, x: y[:, :1] / m.shift, r"spreads its input"),
    "shapes that differ": (lambda m, y, x: y + y[:, :1], r"operands of shapes \(3, 8, 8\) and \(1, 8, 8\)"),
    "batch statistics": (
        lambda m, y, x: F.batch_norm(y, None, None, training=True), "normalises with the statistics of the batch",
    ),
    "weight from the input": (lambda m, y, x: F.conv2d(y, kernel_of(y), padding=1), r"getitem: mixes the images"),
    "sum of the batch": (lambda m, y, x: y + y.sum(0, keepdim=True), "unsupported operations"),
    "upsampling": (lambda m, y, x: F.interpolate(y, scale_factor=1.0), r"interpolate \(interpolate\)"),
    "writing zeros": (lambda m, y, x: y.zero_(), "unsupported operations"),
    "writing a slice": (write_slice, "cannot be traced"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    function, message = REFUSED[name]
    with pytest.raises(UnsupportedOperation, match=message):
        Graph(Calling(function), EXAMPLE)


def in_place_through_a_view(module: Calling, y: Tensor, x: Tensor) -> Tensor:
    y.view(y.size(0), -1).relu_()
    return y


def in_place_before_a_view_is_read(module: Calling, y: Tensor, x: Tensor) -> Tensor:
    rows = y.flatten(2)
    y.relu_()
    return rows


@pytest.mark.parametrize("function", [in_place_through_a_view, in_place_before_a_view_is_read])
def test_in_place_through_views_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(UnsupportedOperation, match=r"relu_ writes in place into .* is read later"):
        Graph(Calling(function), EXAMPLE)


def test_control_flow_on_values() -> None:
    def branch(module: Calling, y: Tensor, x: Tensor) -> Tensor:
        return y if y.sum() > 0 else -y

    message = "Calling cannot be traced: .*; its forward must not branch on the values of its input"
    with pytest.raises(UnsupportedOperation, match=message):
        Graph(Calling(branch), EXAMPLE)


class Returning(nn.Module):
    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.fc, self.function = nn.Linear(4, 3), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.fc(x))


@pytest.mark.parametrize("function", [lambda y: (y, y), lambda y: {"logits": y}, lambda y: [y], lambda y: 3])
def test_models_must_return_one_tensor(function: Callable[[Tensor], Any]) -> None:
    with pytest.raises(BadInput, match=r"the model must return one tensor of logits \(batch, classes\)"):
        Graph(Returning(function), torch.zeros(1, 4))


def test_models_must_return_logits() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    with pytest.raises(BadInput, match=r"must return logits \(batch, classes\), it returns \('batch', 4, 6, 6\)"):
        Graph(model, EXAMPLE)


def test_a_constant_model_is_refused() -> None:
    with pytest.raises(BadInput, match="the model must return one tensor of logits"):
        Graph(Returning(lambda y: torch.ones(2, 3)), torch.zeros(1, 4))


# --- bad inputs and weights ------------------------------------------------------------------------------------------


def spoiled(value: float) -> Tensor:
    images = EXAMPLE.clone()
    images[1, 0, 2, 3] = value
    return images


BAD: dict[str, tuple[Any, str]] = {
    "channels": (torch.zeros(2, 1, 8, 8), r"images have shape \(2, 1, 8, 8\), this model takes \('batch', 3, 8, 8\)"),
    "no batch": (torch.zeros(3, 8, 8), r"images have shape \(3, 8, 8\)"),
    "size": (torch.zeros(2, 3, 9, 8), r"images have shape \(2, 3, 9, 8\)"),
    "double": (EXAMPLE.double(), r"images are torch.float64, this model takes torch.float32"),
    "bytes": (EXAMPLE.byte(), r"images are torch.uint8"),
    "nan": (spoiled(float("nan")), "image 1 of the batch holds NaN or infinite pixels"),
    "infinite": (spoiled(float("-inf")), "image 1 of the batch holds NaN or infinite pixels"),
    "array": (EXAMPLE.numpy(), "images have shape ndarray"),
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", BAD)
def test_bad_images(name: str) -> None:
    images, message = BAD[name]
    graph = Graph(Small(), EXAMPLE)
    for use in (graph.run, lambda x: EffectivePath().extract(graph, x)):
        with pytest.raises(BadInput, match=message):
            use(images)


@pytest.mark.parametrize("example", [torch.zeros(0, 3, 8, 8), torch.zeros(3), [1.0]])
def test_bad_examples(example: Any) -> None:
    with pytest.raises(BadInput, match=r"the example must be one batch \(batch, \*input shape\)"):
        Graph(Small(), example)


def test_example_the_model_cannot_take() -> None:
    with pytest.raises(BadInput, match=r"the model fails on the example of shape \(2, 5, 8, 8\)"):
        Graph(Small(), torch.zeros(2, 5, 8, 8))


@pytest.mark.parametrize("name", ["conv1.weight", "fc.bias", "bn1.running_var"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bad_weights_are_named(name: str, value: float) -> None:
    model = Small()
    model.state_dict()[name].view(-1)[0] = value
    with pytest.raises(BadWeights, match=f"the model's '{name}' holds NaN or infinite values"):
        Graph(model, EXAMPLE)


def test_one_exception_family() -> None:
    for error in (BadInput, BadWeights, UnknownNode, UnsupportedOperation):
        assert issubclass(error, NetpathsError)


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
    assert [graph.node(name).inputs for name in graph.nodes] == [
        tuple(list(graph.nodes)[read] for read in step.reads) for step in steps
    ]


def _shape(steps: list[Step]) -> tuple[int, int, int]:
    from test_random_networks import input_shape

    return input_shape(3)
