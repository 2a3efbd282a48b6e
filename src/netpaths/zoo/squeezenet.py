"""SqueezeNet 1.0 (Iandola et al., arXiv 1602.07360) with torchvision's parameter names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from netpaths.zoo.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize

# (squeeze channels, expand channels of each kernel size); None is a max-pool
FIRES = ((16, 64), (16, 64), (32, 128), None, (32, 128), (48, 192), (48, 192), (64, 256), None, (64, 256))


class Fire(nn.Module):
    """A 1x1 squeeze, then 1x1 and 3x3 expansions side by side."""

    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeeze, 1)
        self.squeeze_activation = nn.ReLU()
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand1x1_activation = nn.ReLU()
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.expand3x3_activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze_activation(self.squeeze(x))
        narrow = self.expand1x1_activation(self.expand1x1(x))
        wide = self.expand3x3_activation(self.expand3x3(x))
        return torch.cat([narrow, wide], 1)


class SqueezeNet(nn.Module):
    """SqueezeNet 1.0 for (batch, 3, 227, 227) pixels in [0, 1]; returns logits (batch, classes)."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
        self.features = nn.Sequential(*_features())
        self.classifier = nn.Sequential(
            nn.Dropout(0.5), nn.Conv2d(512, classes, 1), nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.classifier(self.features(self.normalize(x)))
        return torch.flatten(x, 1)


def _features() -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Conv2d(3, 96, 7, stride=2), nn.ReLU(), _pool()]
    channels = 96
    for fire in FIRES:
        if fire is None:
            layers.append(_pool())
        else:
            layers.append(Fire(channels, *fire))
            channels = 2 * fire[1]
    return layers


def _pool() -> nn.Module:
    return nn.MaxPool2d(3, stride=2, ceil_mode=True)
