"""Whether a model can be read, and whether the graph computes what it does."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from netpaths.errors import BadWeights, UnsupportedOperation


def check_weights(model: nn.Module) -> None:
    """Raise BadWeights naming the first parameter or buffer without a size, or with NaN or infinite values."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor):
            raise BadWeights(f"the model's {name!r} has no size yet: run it once on a batch, as lazy modules want")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise BadWeights(f"the model's {name!r} holds NaN or infinite values; load sound weights first")


def agree(module: nn.Module, reference: nn.Module, example: torch.Tensor) -> bool:
    """Whether two networks have the same logits on the example's image beside a random one.

    An image that differs is followed by other random ones: where a network decides by a threshold, rounding alone can
    make it decide otherwise, but not for every image.
    """
    first, *others = _pairs(example)
    return _close(*_compared(module, reference, first)) or all(
        _close(*_compared(module, reference, pair)) for pair in others
    )


def check_faithful(module: nn.Module, reference: nn.Module, example: torch.Tensor) -> None:
    """Raise UnsupportedOperation unless the traced network computes what the model does, for every image by itself.

    That shows writing in place that tracing does not see, and operations that mix the images of a batch.
    """
    if not agree(module, reference, example):
        raise UnsupportedOperation(
            "the traced network computes something else than the model, probably because it writes into a value that "
            "is also read under another name; use operations that return new values"
        )
    with torch.no_grad():
        twice, beside = module(example.clone()), module(next(_pairs(example)))
    if not bool(((beside[0] - twice[0]).abs() <= 1e-3 * (1 + float(twice.abs().max()))).all()):
        raise UnsupportedOperation("the model mixes the images of a batch: an image's logits depend on its neighbours")


def _pairs(example: torch.Tensor) -> Iterator[torch.Tensor]:
    """The example's image and a random one, then random ones: each (2, *input shape)."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand((RANDOM, *example.shape[1:]), generator=generator, dtype=example.dtype).to(example.device)
    yield torch.stack([example[0], noise[0]])
    yield noise[1:3]
    yield noise[3:]


RANDOM = 5
"""Random images that a traced network is tried on, all but the first where it differs from the model."""


def _compared(module: nn.Module, reference: nn.Module, pair: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
    """The logits of the traced network and of the model, and how far they may be apart."""
    with torch.no_grad():
        found, expected = module(pair.clone()), reference(pair.clone())
    assert isinstance(expected, torch.Tensor)
    return found, expected, 1e-3 * (1 + float(expected.abs().max()))


def _close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    return bool(((expected - found).abs() <= tolerance).all())
