"""Receptive fields: which input each place of an output's window reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F


@dataclass(frozen=True, eq=False)
class Field:
    """The receptive fields of one node, separable into rows and columns.

    Output (o, y, x) reads inputs (g·per_group + c, rows[y, i], cols[x, j]), g the group of o; -1 is padding.
    in_shape, out_shape: (channels, height, width) as the selection sees them. synapse_shape: the node's synapses
    as the user sees them, with the receptive field last. parts: how many times an image has all this, such as the
    tokens that one linear layer reads.
    """

    in_shape: tuple[int, int, int]
    out_shape: tuple[int, int, int]
    per_group: int
    groups: int
    rows: torch.Tensor
    cols: torch.Tensor
    synapse_shape: tuple[int, ...]
    parts: int = 1

    @property
    def size(self) -> int:
        """Places in one receptive field, padding included."""
        return self.per_group * self.rows.shape[1] * self.cols.shape[1]

    @cached_property
    def synapses(self) -> int:
        """Synapses that exist: (output, input) pairs without padding."""
        inside = int((self.rows >= 0).sum()) * int((self.cols >= 0).sum())
        return self.parts * self.out_shape[0] * self.per_group * inside

    def sources(self, synapses: torch.Tensor) -> torch.Tensor:
        """The flat input position each flat synapse reads: (n,) int64 to (n,) int64, within one image."""
        part = synapses // (torch.Size(self.out_shape).numel() * self.size)
        synapses = synapses % (torch.Size(self.out_shape).numel() * self.size)
        position = synapses % self.size
        output = synapses // self.size
        kernel = self.rows.shape[1] * self.cols.shape[1]
        c = position // kernel
        i = position // self.cols.shape[1] % self.rows.shape[1]
        j = position % self.cols.shape[1]
        x = output % self.out_shape[2]
        y = output // self.out_shape[2] % self.out_shape[1]
        o = output // (self.out_shape[1] * self.out_shape[2])
        channel = o // (self.out_shape[0] // self.groups) * self.per_group + c
        rows, cols = self.rows.to(synapses.device), self.cols.to(synapses.device)
        own = (channel * self.in_shape[1] + rows[y, i]) * self.in_shape[2] + cols[x, j]
        return part * torch.Size(self.in_shape).numel() + own


def window_table(
    length: int,
    outputs: int,
    kernel: int,
    stride: int = 1,
    dilation: int = 1,
    padding: tuple[int, int] = (0, 0),
    mode: str = "constant",
) -> torch.Tensor:
    """Input positions along one axis for every output and kernel place: (outputs, kernel) int64, -1 for padding."""
    place = torch.arange(length, dtype=torch.float64)[None, None]
    border = {"zeros": "constant"}.get(mode, mode)
    padded = (
        F.pad(place, padding, mode=border, value=-1.0) if border == "constant" else F.pad(place, padding, mode=border)
    )
    steps = torch.arange(outputs)[:, None] * stride + torch.arange(kernel) * dilation
    inside = steps < padded.shape[-1]
    return torch.where(inside, padded[0, 0][torch.where(inside, steps, 0)].long(), -1)


def adaptive_table(length: int, outputs: int) -> torch.Tensor:
    """Input positions of adaptive pooling along one axis: (outputs, longest window) int64, -1 beyond a window."""
    index = torch.arange(outputs)
    start = index * length // outputs
    stop = -(-(index + 1) * length // outputs)
    places = start[:, None] + torch.arange(int((stop - start).max()))
    return torch.where(places < stop[:, None], places, -1)


def along(value: Any, axis: int) -> int:
    """An option that is one number, or one for each axis."""
    if isinstance(value, int):
        return value
    numbers = [int(number) for number in value]
    return numbers[0] if len(numbers) == 1 else numbers[axis]
