"""Gradients where they are needed, whatever the caller has switched off around a call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def with_gradients() -> Iterator[None]:
    """Inside, gradients are recorded, also within ``torch.no_grad`` and ``torch.inference_mode``."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def ordinary(value: torch.Tensor) -> torch.Tensor:
    """``value`` as a tensor that gradients may flow through: a copy of one made in inference mode, same shape."""
    return value.clone() if value.is_inference() else value
