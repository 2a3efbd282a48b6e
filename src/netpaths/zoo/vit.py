"""A small vision transformer (Dosovitskiy et al., ICLR 2021) for small images: patches, a class token, four blocks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netpaths.zoo.lenet import MNIST_MEAN, MNIST_STD
from netpaths.zoo.normalize import Normalize


class Attention(nn.Module):
    """Self-attention over tokens (batch, tokens, width) with ``heads`` heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        parts = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*parts.unbind(0))
        result: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return result


class Block(nn.Module):
    """Attention and a perceptron on every token, each behind a layer norm and added to what it reads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 2 * width)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        result: Tensor = x + self.fc2(self.act(self.fc1(self.norm2(x))))
        return result


class SmallViT(nn.Module):
    """A vision transformer for (batch, 1, 28, 28) pixels in [0, 1]; returns logits (batch, classes).

    49 patches of 4 by 4 pixels and a class token, 64 numbers each, four blocks with four heads: 139,000 parameters.
    """

    def __init__(self, classes: int = 10, width: int = 64, depth: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.normalize = Normalize([MNIST_MEAN], [MNIST_STD])
        self.patches = nn.Conv2d(1, width, 4, stride=4)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(torch.randn(1, 50, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(self.normalize(x)).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(tokens.shape[0], -1, -1), tokens], 1) + self.position
        logits: Tensor = self.head(self.norm(self.blocks(tokens))[:, 0])
        return logits
