"""What the selection kernels are asked, and what they answer."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch


@dataclass(frozen=True)
class Problem:
    """Active outputs of one linear map with local receptive fields, for a whole batch.

    Output (b, o, y, x) reads the inputs (b, g·C + c, rows[y, i], cols[x, j]) with weight[o, c, i, j], where g is
    the group of o; a table entry of -1 is padding and never a candidate. Convolution, linear layers and pooling all
    have this form.

    inputs: (batch, channels, height, width). weight: (out, C, kh, kw), or None when every weight is 1.
    rows: (out_height, kh) int64. cols: (out_width, kw) int64. channels_per_group: C. groups: number of groups.
    active: (batch, out, out_height, out_width) bool. output: the outputs' values, same shape; the contributions of a
    negative one are negated first. reversed: same shape, bool, outputs whose direction is turned round, or None.
    theta: share of the target to cover, in (0, 1]. covers_value: whether the target is the output's (negated) value
    instead of the sum of the (negated) contributions. amounts: whether the answer must hold contributions.
    norms: (out,) float64 Euclidean lengths of the channels' weights, computed where missing. bias: (out,), only a hint
    of what to expect.
    """

    inputs: torch.Tensor
    weight: torch.Tensor | None
    rows: torch.Tensor
    cols: torch.Tensor
    channels_per_group: int
    groups: int
    active: torch.Tensor
    output: torch.Tensor
    reversed: torch.Tensor | None
    theta: float
    covers_value: bool = False
    amounts: bool = False
    norms: torch.Tensor | None = None
    bias: torch.Tensor | None = None

    @property
    def field_size(self) -> int:
        """Elements of one receptive field, padding included: C · kh · kw."""
        return self.channels_per_group * self.rows.shape[1] * self.cols.shape[1]

    def weight_norms(self) -> torch.Tensor:
        """The Euclidean length of every output channel's weights: (out,) float64."""
        if self.norms is not None:
            return self.norms
        if self.weight is None:
            return torch.full((self.active.shape[1],), self.field_size**0.5, dtype=torch.float64)
        norms: torch.Tensor = torch.linalg.vector_norm(self.weight.detach().flatten(1), dim=1, dtype=torch.float64)
        return norms


@dataclass(frozen=True)
class Sums:
    """Active sums of two operands of one shape, for a whole batch.

    first, second: (batch, *shape) operands. active, output, reversed, theta, amounts: as in `Problem`, of their shape.
    every: whether every operand is chosen, whatever it contributes.
    """

    first: torch.Tensor
    second: torch.Tensor
    active: torch.Tensor
    output: torch.Tensor
    reversed: torch.Tensor | None
    theta: float
    every: bool = False
    amounts: bool = False


@dataclass(frozen=True)
class Chosen:
    """The chosen contributions of every active output, as compressed rows.

    shape: (batch, outputs of one image, elements of a receptive field). active: (n,) int64 ascending flat positions
    in (batch, outputs). offsets: (n + 1,) int64; row r is the slice offsets[r]:offsets[r + 1]. synapses: (m,) int64
    flat positions in (outputs, field) of the row's image, ascending within an image. reached: for every input, bool of
    its shape, what the chosen synapses read. values: (m,) float32, the chosen (negated) contributions, or None where
    they were not asked for.
    """

    shape: tuple[int, int, int]
    active: torch.Tensor
    offsets: torch.Tensor
    synapses: torch.Tensor
    reached: tuple[torch.Tensor, ...]
    values: torch.Tensor | None = None

    @cached_property
    def bounds(self) -> torch.Tensor:
        """Where each image's synapses start and end: (batch + 1,) int64."""
        batch, outputs, _ = self.shape
        if self.active.device.type == "cpu":  # numpy's small calls take a fraction of torch's
            rows = np.searchsorted(self.active.numpy(), np.arange(batch + 1) * outputs)
            return torch.from_numpy(self.offsets.numpy()[rows])
        images = torch.arange(batch + 1, device=self.active.device) * outputs
        return self.offsets[torch.searchsorted(self.active, images)]

    def counts(self) -> torch.Tensor:
        """Chosen contributions per active output: (n,) int64."""
        return self.offsets[1:] - self.offsets[:-1]

    def positions(self) -> torch.Tensor:
        """Where in its receptive field each chosen contribution stands: (m,) int64."""
        return self.synapses % self.shape[2]

    def images(self) -> torch.Tensor:
        """The image of every chosen contribution: (m,) int64."""
        return (self.active // self.shape[1]).repeat_interleave(self.counts())


def area(shape: torch.Size | tuple[int, ...]) -> int:
    """Elements of one image of a batch of ``shape``."""
    return prod(shape[1:])
