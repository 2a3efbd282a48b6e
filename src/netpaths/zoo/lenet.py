"""The two LeNets of LeCun et al. (Proc. IEEE 1998), with ReLU and max-pooling as in later practice."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from netpaths.zoo.normalize import Normalize

MNIST_MEAN = 0.1307
MNIST_STD = 0.3081


class LeNet5(nn.Module):
    """LeNet-5 for (batch, 1, 28, 28) pixels in [0, 1]; returns logits (batch, classes)."""

    def __init__(self, classes: int = 10, mean: float = MNIST_MEAN, std: float = MNIST_STD) -> None:
        super().__init__()
        self.normalize = Normalize([mean], [std])
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.relu2 = nn.ReLU()
        self.pool2 = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.relu3 = nn.ReLU()
        self.fc2 = nn.Linear(120, 84)
        self.relu4 = nn.ReLU()
        self.fc3 = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.normalize(x)
        x = self.pool1(self.relu1(self.conv1(x)))  # (batch, 6, 14, 14)
        x = self.pool2(self.relu2(self.conv2(x)))  # (batch, 16, 5, 5)
        x = torch.flatten(x, 1)
        x = self.relu3(self.fc1(x))
        x = self.relu4(self.fc2(x))
        logits: Tensor = self.fc3(x)
        return logits


class LeNet300100(nn.Module):
    """LeNet-300-100, fully connected: (batch, 1, 28, 28) pixels in [0, 1] to logits (batch, classes)."""

    def __init__(self, classes: int = 10, mean: float = MNIST_MEAN, std: float = MNIST_STD) -> None:
        super().__init__()
        self.normalize = Normalize([mean], [std])
        self.fc1 = nn.Linear(28 * 28, 300)
        self.relu1 = nn.ReLU()
        self.fc2 = nn.Linear(300, 100)
        self.relu2 = nn.ReLU()
        self.fc3 = nn.Linear(100, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.flatten(self.normalize(x), 1)
        x = self.relu1(self.fc1(x))
        x = self.relu2(self.fc2(x))
        logits: Tensor = self.fc3(x)
        return logits
