"""The same answer whatever the caller has switched on or off around a call: gradients, inference mode, autocast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def with_gradients() -> Iterator[None]:
    """Inside, gradients are recorded in full precision, also within ``torch.no_grad`` and ``torch.inference_mode``."""
    with torch.inference_mode(False), torch.enable_grad(), full_precision():
        yield


@contextmanager
def full_precision() -> Iterator[None]:
    """Inside, numbers keep their type, also within ``torch.autocast``."""
    with ExitStack() as stack:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def ordinary(value: torch.Tensor) -> torch.Tensor:
    """``value`` as a tensor that gradients may flow through: a copy of one made in inference mode, same shape."""
    return value.clone() if value.is_inference() else value
