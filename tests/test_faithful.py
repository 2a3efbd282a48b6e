"""A traced network that computes something else than the model is refused, whatever the reason."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import netpaths
from netpaths.errors import BadInput, UnsupportedOperation
from netpaths.graph.faithful import check_faithful


class Head(nn.Module):
    """A linear layer whose forward the cases below change."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x: Tensor, mask: Tensor | None = None, scale: float = 2.0) -> Tensor:
        y: Tensor = self.layer(x) * scale
        return y if mask is None else y * mask


class WritesUnderAnotherName(Head):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        y = self.layer(x)
        z = y
        y += 1
        return z


class MixesTheBatch(Head):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return torch.flip(self.layer(x), (0,))


def test_arguments_with_defaults_keep_them() -> None:
    torch.manual_seed(0)
    model, x = Head(), torch.rand(3, 4)
    graph = netpaths.Graph(model, x)
    assert torch.allclose(graph.run(x).logits, model(x))
    assert graph.layers == ("layer",)


def test_mixed_images_are_refused() -> None:
    with pytest.raises(UnsupportedOperation, match="mixes the images"):
        netpaths.Graph(MixesTheBatch(), torch.rand(1, 4))


def test_writing_under_another_name_is_followed() -> None:
    torch.manual_seed(0)
    model, x = WritesUnderAnotherName(), torch.rand(3, 4)
    assert torch.allclose(netpaths.Graph(model, x).run(x).logits, model(x))


def test_half_precision_is_refused_by_name() -> None:
    with pytest.raises(BadInput, match=r"float16; supported: float32 and float64"):
        netpaths.Graph(Head().half(), torch.rand(1, 4).half())


def test_the_fingerprint_tells_operations_apart() -> None:
    class Active(Head):
        def __init__(self, activation: nn.Module) -> None:
            super().__init__()
            self.activation = activation

        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            y: Tensor = self.activation(self.layer(x))
            return y

    prints = set()
    for activation in (nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.1), nn.LeakyReLU(0.2)):
        torch.manual_seed(0)
        prints.add(netpaths.Graph(Active(activation), torch.rand(1, 4)).fingerprint)
    assert len(prints) == 4


class Decides(nn.Module):
    """Answers by a threshold that the image of zeros lies on."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        on = (x.sum(1, keepdim=True) > self.threshold).to(x.dtype)
        return torch.cat([on, 1 - on], 1)


def test_an_image_on_a_threshold_is_not_held_against_the_network() -> None:
    """Rounding decides there; on random images the two agree."""
    example = torch.zeros(2, 4)
    module, model = torch.fx.symbolic_trace(Decides(1e-7)), Decides(-1e-7)
    assert not torch.equal(module(example), model(example))
    check_faithful(module, model, example)
    with pytest.raises(UnsupportedOperation, match="computes something else"):
        check_faithful(module, Decides(1.5), example)
