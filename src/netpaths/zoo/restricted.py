"""A classifier narrowed to some of its classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Restricted(nn.Module):
    """``model`` with the logits of ``classes`` alone, in that order: (batch, …) to (batch, len(classes))."""

    classes: Tensor
    network = "model"

    def __init__(self, model: nn.Module, classes: Sequence[int]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("classes", torch.tensor(list(classes), dtype=torch.int64), persistent=False)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """The chosen logits (batch, classes)."""
        logits: Tensor = self.model(x)[:, self.classes]
        return logits
