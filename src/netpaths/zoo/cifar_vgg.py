"""VGG-11 with batch norm (Simonyan and Zisserman, arXiv 1409.1556, configuration A) for images of 32 × 32 pixels."""

from __future__ import annotations

from torch import Tensor, flatten, nn

from netpaths.zoo.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize

# output channels of each convolution; None is a max-pool
WIDTHS = (64, None, 128, None, 256, 256, None, 512, 512, None, 512, 512, None)


class CifarVGG(nn.Module):
    """VGG-11, (batch, 3, 32, 32) pixels in [0, 1] to logits (batch, classes); one linear layer behind the last pool."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
        self.features = nn.Sequential(*_features())
        self.linear = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(flatten(self.features(self.normalize(x)), 1))
        return logits


def _features() -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for width in WIDTHS:
        if width is None:
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
    return layers
