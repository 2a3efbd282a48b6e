"""Pixel normalisation as the first layer of a model, so that inputs are pixels in [0, 1] everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from netpaths.errors import BadInput

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Normalize(nn.Module):
    """``(x - mean) / std`` per channel, for x (batch, channels, height, width).

    Mean and standard deviation are constants of the model, not parameters: they stay out of its state dict.
    Raises BadInput for another number of channels.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        channels = self.mean.numel()
        # broadcasting would take grey images for colour ones; a tracer's stand-in is no Tensor
        if isinstance(x, Tensor) and (x.ndim != 4 or x.shape[1] != channels):
            raise BadInput(f"images have shape {tuple(x.shape)}, expected (batch, {channels}, height, width)")
        return (x - self.mean) / self.std


class Normalized(nn.Module):
    """A model that expects normalised images, given pixels in [0, 1]."""

    network = "model"

    def __init__(self, normalize: nn.Module, model: nn.Module) -> None:
        super().__init__()
        self.normalize = normalize
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(self.normalize(x))
        return logits
