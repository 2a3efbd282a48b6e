"""Whether a model can be read, and whether the graph computes what it does."""

from __future__ import annotations

import torch
from torch import fx, nn

from netpaths.errors import BadWeights, UnsupportedOperation


def check_weights(model: nn.Module) -> None:
    """Raise BadWeights naming the first parameter or buffer with NaN or infinite values."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise BadWeights(f"the model's {name!r} holds NaN or infinite values; load sound weights first")


def check_faithful(module: fx.GraphModule, reference: nn.Module, example: torch.Tensor) -> None:
    """Raise UnsupportedOperation unless the traced network computes what the model does.

    Both run on the example's image beside a random one: that shows writing in place through names that tracing does
    not see, and operations that mix the images of a batch. An image that differs is followed by other random ones:
    where a network decides by a threshold, rounding alone can make it decide otherwise, but not for every image.
    """
    with torch.no_grad():
        logits = module(example.clone())
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand((RANDOM, *example.shape[1:]), generator=generator, dtype=example.dtype).to(example.device)
    pairs = [torch.stack([example[0], noise[0]]), noise[1:3], noise[3:]]
    found, expected, tolerance = _compared(module, reference, pairs[0])
    if not _close(found, expected, tolerance) and not all(
        _close(*_compared(module, reference, pair)) for pair in pairs[1:]
    ):
        raise UnsupportedOperation(
            "the traced network computes something else than the model, probably because it writes into a value that "
            "is also read under another name; use operations that return new values"
        )
    if not bool(((found[0] - logits[0]).abs() <= tolerance).all()):
        raise UnsupportedOperation("the model mixes the images of a batch: an image's logits depend on its neighbours")


RANDOM = 5
"""Random images that a traced network is tried on, all but the first where it differs from the model."""


def _compared(
    module: fx.GraphModule, reference: nn.Module, pair: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """The logits of the traced network and of the model, and how far they may be apart."""
    with torch.no_grad():
        found, expected = module(pair.clone()), reference(pair.clone())
    return found, expected, 1e-3 * (1 + float(expected.abs().max()))


def _close(found: torch.Tensor, expected: torch.Tensor, tolerance: float) -> bool:
    return bool(((expected - found).abs() <= tolerance).all())
