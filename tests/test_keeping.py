"""Exported programs that are kept: a graph built from one is the graph that an export gives, or there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from netpaths import EffectivePath, Graph
from netpaths.errors import BadOption
from netpaths.graph import exporting, keep_exports
from netpaths.zoo import load_model


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    keep_exports(0)
    keep_exports(4)
    yield
    keep_exports(0)
    keep_exports(64)


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The models that were exported."""
    seen: list[nn.Module] = []
    export = exporting._export

    def noted(model: nn.Module, example: Tensor) -> Any:
        seen.append(model)
        return export(model, example)

    monkeypatch.setattr(exporting, "_export", noted)
    return seen


class Small(nn.Module):
    def __init__(self, seed: int = 0, factor: float = 2.0, norm: bool = True) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.fc = nn.Conv2d(2, 3, 3), nn.Linear(12, 4)
        self.norm = nn.BatchNorm2d(3) if norm else nn.Identity()
        self.factor: Any = factor

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(torch.relu(self.norm(self.conv(x)) * self.factor).flatten(1))
        return out


def images(*shape: int) -> Tensor:
    return torch.rand(2, *(shape or (2, 4, 4)), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    ("name", "shape"), [("lenet5", (1, 28, 28)), ("resnet20", (3, 32, 32)), ("vit-small", (1, 28, 28))]
)
def test_other_weights_give_the_graph_that_an_export_gives(
    name: str, shape: tuple[int, ...], exports: list[nn.Module]
) -> None:
    first, second, x = load_model(name), load_model(name), images(*shape)
    with torch.no_grad():
        for tensor in second.parameters():
            tensor += 0.01 * torch.randn(tensor.shape)
    Graph(first, x)
    assert len(exports) == 1
    graph = Graph(second, x)
    assert len(exports) == 1
    keep_exports(0)
    fresh = Graph(second, x)
    assert len(exports) == 2
    assert graph.fingerprint == fresh.fingerprint
    assert list(graph.nodes) == list(fresh.nodes)
    assert dict(graph.folded) == dict(fresh.folded)
    for own, other in zip(EffectivePath().extract(graph, x), EffectivePath().extract(fresh, x), strict=True):
        assert own.equals(other)
    trained = {tensor.data_ptr() for tensor in second.parameters()}
    held = [tensor.data_ptr() in trained for tensor in graph.module.parameters()]
    assert any(held) if graph.folded else all(held)


def hooked() -> nn.Module:
    model = Small()
    model.conv.register_forward_hook(lambda module, given, out: -out)
    return model


def normed() -> nn.Module:
    model = Small()
    nn.utils.parametrizations.weight_norm(model.fc)
    return model


class Calls(Small):
    """Scales by a function that holds a number."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.factor(self.fc(self.conv(x).flatten(1)))
        return out


def closing(factor: float) -> nn.Module:
    model = Calls()
    model.factor = lambda y: y * factor
    return model


OTHERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "another number": (Small, lambda: Small(factor=-2.0)),
    "another module": (Small, lambda: Small(norm=False)),
    "a hook": (Small, hooked),
    "weights computed from others": (normed, normed),
    "a function that holds a number": (lambda: closing(1.0), lambda: closing(-1.0)),
    "a tensor as an attribute": (lambda: Small(factor=torch.tensor(2.0)), lambda: Small(factor=torch.tensor(-2.0))),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", OTHERS)
def test_models_that_are_built_otherwise_are_exported(name: str, exports: list[nn.Module]) -> None:
    first, second = (make() for make in OTHERS[name])
    x = images()
    Graph(first, x)
    assert torch.allclose(Graph(second, x).run(x).logits, second.eval()(x), atol=1e-6)
    assert len(exports) == 2


def test_other_shapes_and_types_are_exported(exports: list[nn.Module]) -> None:
    convolution = nn.Sequential(nn.Conv2d(2, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    Graph(convolution, images())
    Graph(convolution, images(2, 6, 6))
    Graph(convolution.double(), images().double())
    assert len(exports) == 3


def test_tied_weights_stay_tied() -> None:
    def made(tied: bool) -> nn.Module:
        model = nn.Sequential(nn.Flatten(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
        if tied:
            model[3].weight = model[1].weight
        return model

    x = images(2, 2, 2)
    for tied in (True, False, True):
        model = made(tied)
        graph = Graph(model, x)
        assert torch.allclose(graph.run(x).logits, model(x), atol=1e-6)
        assert (graph.nodes["1"].weight is graph.nodes["3"].weight) == tied


def test_the_oldest_goes_first_and_none_are_kept_unless_asked_for(exports: list[nn.Module]) -> None:
    sizes = [images(2, side, side) for side in (4, 5, 6)]
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    keep_exports(2)
    for x in (*sizes, sizes[2], sizes[1], sizes[0]):
        Graph(model, x)
    assert len(exports) == 4
    keep_exports(0)
    Graph(model, sizes[0])
    assert len(exports) == 5
    with pytest.raises(BadOption, match="-1, expected 0 or more"):
        keep_exports(-1)
