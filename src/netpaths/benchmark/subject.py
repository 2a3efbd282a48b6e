"""What is measured, and what it is measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from netpaths.data import Images
from netpaths.graph import Graph
from netpaths.runs import versions


@dataclass(frozen=True, eq=False)
class Subject:
    """A network with images.

    network: the user's model, in evaluation mode; its forward pass is the yardstick. images: (count, *input shape)
    on the graph's device. weights, data: in words, where weights and images come from. load: the first so many
    labelled training images, None for all; absent without data.
    """

    name: str
    network: nn.Module
    graph: Graph
    images: torch.Tensor
    weights: str
    data: str
    load: Callable[[int | None], Images] | None = None

    def batch(self, size: int) -> torch.Tensor:
        """``size`` images (size, *input shape), from the first again where there are fewer."""
        return self.images[torch.arange(size, device=self.images.device) % len(self.images)]

    def names(self) -> dict[str, str]:
        """The columns that say what was measured."""
        return {"model": self.name, "weights": self.weights, "data": self.data}


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"processor": _processor(), "cpus": os.cpu_count(), "gpu": gpu, "versions": versions()}


def _processor() -> str:
    """The processor's own name on Linux, its architecture elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()
