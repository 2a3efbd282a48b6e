"""The modules of a decoupled layer: a controller chooses filters, a gate switches the others off.

Li et al. (ECCV 2020) as their released code has it: global average pool → linear layer to a quarter of the channels →
ReLU → linear layer to one number z for each filter. In evaluation mode filter c is on where z_c > 0. In training mode
improved semantic hashing (Kaiser and Bengio, "Discrete autoencoders for sequence models", 2018) makes the step
trainable: with g = z + N(0, 1),

    soft = clip(1.2 σ(g) − 0.1, 0, 1)        hard = 1[g > 0]

every image gets one of the two with probability ½, and the gradient is that of the soft one always. Each layer draws
for itself; the released code draws along the wrong axis, which is not copied here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

REDUCTION = 4
"""The hidden layer has one unit for so many input channels, at least one."""

STRETCH = 0.1
"""How far the sigmoid is stretched beyond 0 and 1 before it is clipped."""


class Controller(nn.Module):
    """From a layer's input (batch, channels, …) to its binary code (batch, filters), 1 for a filter that computes.

    channels: of the layer's input. filters: of its output. bias: where scores start. level: all scores start there;
    otherwise, as in the released code, around it, and about Φ(bias / √2) of the code is on. At the start the code is
    the same for every image, because the first layer's weights are 0.
    """

    def __init__(self, channels: int, filters: int, bias: float = 1.0, level: bool = False) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, max(channels // REDUCTION, 1))
        self.excite = nn.Linear(self.squeeze.out_features, filters)
        nn.init.zeros_(self.squeeze.weight)
        nn.init.ones_(self.squeeze.bias)
        nn.init.kaiming_normal_(self.excite.weight)
        nn.init.constant_(self.excite.bias, bias)
        if level:
            with torch.no_grad():
                self.excite.bias.sub_(self.excite.weight.sum(1))

    def score(self, x: Tensor) -> Tensor:
        """z (batch, filters): positive for filters that compute."""
        z: Tensor = self.excite(torch.relu(self.squeeze(pooled(x))))
        return z

    def forward(self, x: Tensor) -> Tensor:
        z = self.score(x)
        return hashed(z) if self.training else (z > 0).to(z.dtype)


def pooled(x: Tensor) -> Tensor:
    """The mean of every channel: (batch, channels, …) to (batch, channels), however channels lie in memory."""
    return x.mean(tuple(range(2, x.dim())))


def hashed(z: Tensor) -> Tensor:
    """Codes (batch, filters) of scores ``z`` in training: soft or hard for every image, with the soft one's slope."""
    noisy = z + torch.randn_like(z)
    soft = ((1 + 2 * STRETCH) * torch.sigmoid(noisy) - STRETCH).clamp(0, 1)
    hard = torch.rand(len(z), 1, device=z.device) < 0.5
    value = torch.where(hard, (noisy > 0).to(z.dtype), soft)
    return soft + (value - soft).detach()


class Gate(nn.Module):
    """Filters' outputs (batch, filters, …) times their code (batch, filters).

    kept: (filters,) int64, ascending: which of the convolution's filters these are where
    `netpaths.decoupling.removal` took others away; None where it took none.
    """

    kept: Tensor | None

    def __init__(self, kept: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("kept", kept, persistent=False)

    def forward(self, features: Tensor, code: Tensor) -> Tensor:
        return features * code.reshape(*code.shape, *(1 for _ in features.shape[2:]))


class ScatteringGate(Gate):
    """A gate that puts its channels where they were: (batch, filters, …) to (batch, width, …), zeros between.

    kept: (filters,) int64, the place of every channel. width: how many filters the convolution had.
    """

    kept: Tensor

    def __init__(self, kept: Tensor, width: int) -> None:
        super().__init__(kept)
        self.width = width

    def forward(self, features: Tensor, code: Tensor) -> Tensor:
        gated = super().forward(features, code)
        return gated.new_zeros(gated.shape[0], self.width, *gated.shape[2:]).index_copy(1, self.kept, gated)
