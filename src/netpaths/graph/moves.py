"""How an operation that only rearranges moves what belongs to its outputs back to its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch


@dataclass(frozen=True, eq=False)
class Move:
    """Where each output of a rearrangement comes from, for one of its inputs.

    origin: (outputs,) int64, the input that an output copies, -1 for none. shape: the input's. start: the first of
    the outputs that copy the whole input in order, as in a concatenation; or None. readers: (inputs,) int64, the output
    that copies each input, -1 for none; or None where an input is copied more than once.
    """

    origin: torch.Tensor
    shape: tuple[int, ...]
    start: int | None
    readers: torch.Tensor | None

    @classmethod
    def of(cls, origin: torch.Tensor, shape: tuple[int, ...]) -> Move:
        """The move of an input of ``shape`` given each output's origin."""
        copies, size = (origin >= 0).nonzero()[:, 0], prod(shape)
        sources = origin[copies]
        if copies.numel() == size and bool((sources == torch.arange(size)).all()):
            start = int(copies[0]) if size else 0
            if size == 0 or int(copies[-1]) - start == size - 1:
                return cls(origin, shape, start, None)
        readers = torch.full((size,), -1)
        readers[sources] = copies
        alone = int((readers >= 0).sum()) == copies.numel()
        return cls(origin, shape, None, readers if alone else None)

    @property
    def alone(self) -> bool:
        """Whether no input is copied twice."""
        return self.start is not None or self.readers is not None

    def back(self, mask: torch.Tensor) -> torch.Tensor:
        """Inputs that any marked output copies: (batch, *output shape) bool to (batch, *input shape) bool."""
        flat = mask.flatten(1)
        if self.start is not None:
            return flat[:, self.start : self.start + prod(self.shape)].reshape(-1, *self.shape)
        if self.readers is not None:
            readers = self.readers.to(mask.device)
            return (flat[:, readers.clamp(min=0)] & (readers >= 0)).reshape(-1, *self.shape)
        return self.add_back(mask.int()) > 0

    def add_back(self, amounts: torch.Tensor) -> torch.Tensor:
        """The sum over the outputs that copy each input: (batch, *output shape) to (batch, *input shape)."""
        origin = self.origin.to(amounts.device)
        copies = (origin >= 0).nonzero()[:, 0]
        total = amounts.new_zeros(len(amounts), prod(self.shape))
        total.index_add_(1, origin[copies], amounts.flatten(1)[:, copies])
        return total.reshape(-1, *self.shape)
