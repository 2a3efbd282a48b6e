"""What every selection kernel is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Problem:
    """Active outputs of one linear map with local receptive fields, for a whole batch.

    Output (b, o, y, x) reads the inputs (b, g·C + c, rows[y, i], cols[x, j]) with weight[o, c, i, j], where g is
    the group of o; a table entry of -1 is padding and never a candidate. Convolution, linear layers, pooling and
    addition all have this form.

    inputs: (batch, channels, height, width). weight: (out, C, kh, kw), or None when every weight is 1.
    rows: (out_height, kh) int64. cols: (out_width, kw) int64. channels_per_group: C. groups: number of groups.
    active: (n,) int64 ascending flat positions in (batch, out, out_height, out_width).
    negate: (n,) bool, outputs whose contributions are negated first. theta: share of the target to cover, in (0, 1].
    target: (n,) what must be covered, or None for the sum of the (negated) contributions.
    """

    inputs: torch.Tensor
    weight: torch.Tensor | None
    rows: torch.Tensor
    cols: torch.Tensor
    out_channels: int
    channels_per_group: int
    groups: int
    active: torch.Tensor
    negate: torch.Tensor
    theta: float
    target: torch.Tensor | None = None

    @property
    def field_size(self) -> int:
        """Elements of one receptive field, padding included: C · kh · kw."""
        return self.channels_per_group * self.rows.shape[1] * self.cols.shape[1]


@dataclass(frozen=True)
class Chosen:
    """The smallest sufficient set of every active output, as compressed rows.

    offsets: (n + 1,) int64; row r is the slice offsets[r]:offsets[r + 1]. positions: (m,) int64, ascending within a
    row, places in the receptive field. sources: (m,) int64 flat positions in (batch, channels, height, width).
    values: (m,) float32, the chosen (negated) contributions.
    """

    offsets: torch.Tensor
    positions: torch.Tensor
    sources: torch.Tensor
    values: torch.Tensor

    def counts(self) -> torch.Tensor:
        """Chosen contributions per active output: (n,) int64."""
        return self.offsets[1:] - self.offsets[:-1]
