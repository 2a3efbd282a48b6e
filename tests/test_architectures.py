"""Well-known architectures: same logits, declared shapes, and spot checks of layers against unfolding."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from netpaths import EffectivePath, Graph, Path, Trace, load_model
from netpaths.zoo import import_timm, import_torchvision
from oracle import choose

CLASSES = 7


def vision(name: str, **options: object) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            model: nn.Module = import_torchvision().models.get_model(name, num_classes=CLASSES, **options)
        return model

    return make


def timm(name: str) -> Callable[[], nn.Module]:
    return lambda: import_timm().create_model(name, num_classes=CLASSES)


def zoo(name: str) -> Callable[[], nn.Module]:
    return lambda: load_model(name, classes=CLASSES)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int], int]] = {
    "lenet5": (zoo("lenet5"), (1, 28, 28), 5),
    "lenet300-100": (zoo("lenet300-100"), (1, 28, 28), 3),
    "resnet20": (zoo("resnet20"), (3, 32, 32), 20),
    "squeezenet of the zoo": (zoo("squeezenet1_0"), (3, 64, 64), 26),
    "alexnet": (vision("alexnet"), (3, 64, 64), 8),
    "vgg11": (vision("vgg11", init_weights=False), (3, 32, 32), 11),
    "vgg11_bn": (vision("vgg11_bn", init_weights=False), (3, 32, 32), 11),
    "resnet18": (vision("resnet18"), (3, 64, 64), 21),
    "resnet50": (vision("resnet50"), (3, 64, 64), 54),
    "squeezenet1_0": (vision("squeezenet1_0"), (3, 64, 64), 26),
    "googlenet": (vision("googlenet", aux_logits=False, init_weights=False), (3, 64, 64), 58),
    "densenet121": (vision("densenet121"), (3, 64, 64), 121),
    "mobilenet_v2": (vision("mobilenet_v2"), (3, 64, 64), 53),
    "inception_v4": (timm("inception_v4"), (3, 96, 96), 150),
    "resnetv2_50": (timm("resnetv2_50"), (3, 64, 64), 54),
}


def settle(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """Random statistics and scales of both signs in every batch norm: an untrained norm would hide mistakes."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
            with torch.no_grad():
                sign = torch.where(torch.rand(module.num_features, generator=generator) < 0.2, -1.0, 1.0)
                module.weight.mul_(sign)
                module.bias.add_(torch.randn(module.num_features, generator=generator) / 10)
    model.train()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.eval()
        model(torch.cat([x, x.flip(-1)]))
    return model.eval()


@pytest.mark.parametrize("name", MODELS)
def test_architecture(name: str) -> None:
    make, shape, layers = MODELS[name]
    torch.manual_seed(0)
    x = torch.rand(1, *shape)
    model = settle(make(), x)
    graph = Graph(model, x)
    with torch.no_grad():
        logits = model(x)
        trace = graph.run(x, record="all")
    torch.testing.assert_close(trace.logits, logits, rtol=1e-3, atol=1e-5 * float(logits.abs().max()))
    assert len(graph.layers) == layers
    path = EffectivePath().extract(graph, x)[0]
    assert path.seed == path.predicted == int(logits.argmax())
    assert_shapes(graph, path)
    reached = [layer for layer in graph.layers if len(path[layer, "neuron"])]
    for layer in (reached[0], reached[len(reached) // 2], reached[-1]):
        assert_selected(graph, trace, path, layer)


def assert_shapes(graph: Graph, path: Path) -> None:
    for name in graph.layers:
        node = graph.node(name)
        assert path[name, "neuron"].shape == node.shape
        assert path[name, "weight"].shape == node.weight.shape
        field = node.weight.shape[1:] if node.weight.dim() > 2 else (node.weight.shape[1],)
        assert path[name, "synapse"].shape == (*node.shape, *field)
        assert 0 < path[name, "synapse"].total <= path[name, "synapse"].size
    assert int(path.neurons(graph.output).sum()) == 1
    assert path.neurons(graph.input).any()


def assert_selected(graph: Graph, trace: Trace, path: Path, name: str) -> None:
    """A few active neurons of one layer chose the smallest sufficient set of contributions, found by unfolding."""
    node = graph.node(name)
    source = trace[node.inputs[0]][0]
    active = path[name, "neuron"].members()
    synapses = path.synapses(name).reshape(path[name, "neuron"].size, -1)
    weight = node.weight.detach().flatten(1)
    places = node.weight[0, 0].numel() if node.weight.dim() > 2 else 1
    positions = torch.Size(node.shape[1:]).numel()
    for neuron in active[:: max(1, len(active) // 4)][:4]:
        out, at = int(neuron) // positions, int(neuron) % positions
        if node.weight.dim() == 2:
            values, inside = source, torch.ones_like(source)
        else:
            group = out // (node.shape[0] // node.arguments["groups"]) * node.weight.shape[1]
            part = source[None, group : group + node.weight.shape[1]]
            values, inside = (unfold(node.arguments, v, node.weight.shape[2:])[0, :, at] for v in (part, part * 0 + 1))
        assert values.numel() == node.weight.shape[1] * places
        assert_smallest(synapses[int(neuron)], (values * weight[out]).double(), inside > 0)


def unfold(arguments: object, values: torch.Tensor, kernel: torch.Size) -> torch.Tensor:
    options = {name: arguments[name] for name in ("dilation", "padding", "stride")}  # type: ignore[index]
    return F.unfold(values, tuple(kernel), **options)  # type: ignore[arg-type]


def assert_smallest(chosen: torch.Tensor, contributions: torch.Tensor, inside: torch.Tensor) -> None:
    """The chosen set is the oracle's in one of the two directions, but for elements that hang on rounding."""
    assert not bool((chosen & ~inside).any())
    kept = inside.nonzero()[:, 0].tolist()
    found = set(chosen.nonzero()[:, 0].tolist())
    for sign in (1, -1):
        values = (sign * contributions)[inside].tolist()
        expected = {kept[k] for k in choose(values, 0.5)}
        if len(expected ^ found) <= 1 + len(expected) // 500:
            return
    raise AssertionError(f"chose {len(found)} of {len(kept)}")


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_folding_keeps_the_selection(name: str) -> None:
    """Folded and unfolded graphs select the same convolution synapses; float32 rounding decides very few."""
    make, shape, _ = MODELS[name]
    torch.manual_seed(0)
    x = torch.rand(1, *shape)
    model = settle(make(), x)
    whole, unfolded = (EffectivePath(last=12).extract(Graph(model, x, fold), x)[0] for fold in (True, False))
    for layer in whole.nodes("synapse"):
        if layer in whole.layers:
            first, second = whole[layer, "synapse"], unfolded[layer, "synapse"]
            shared, either = first.overlap(second)
            assert shared >= 0.95 * either, layer
