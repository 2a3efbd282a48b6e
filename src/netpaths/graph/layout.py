"""Where a tensor keeps its images: on which axis, and how many parts of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from netpaths.errors import UnsupportedOperation


@dataclass(frozen=True)
class Layout:
    """The images of a batch inside a tensor as the network computes it.

    axis: the axis that counts images. parts: how many consecutive places of it belong to one image, such as the
    windows of a shifted-window transformer; 1 where an image is one place.
    """

    axis: int = 0
    parts: int = 1

    @property
    def plain(self) -> bool:
        """Whether images come first, one place each."""
        return self.axis == 0 and self.parts == 1

    def images(self, value: torch.Tensor) -> torch.Tensor:
        """The tensor with images first: (batch, *shape), parts as an axis of their own where there are several."""
        if self.plain:
            return value
        if self.parts > 1:
            value = torch.unflatten(value, self.axis, (-1, self.parts))
        return value.movedim(self.axis, 0)

    def back(self, value: torch.Tensor) -> torch.Tensor:
        """What `images` undoes: (batch, *shape) to the network's own shape."""
        if self.plain:
            return value
        value = value.movedim(0, self.axis)
        return value.flatten(self.axis, self.axis + 1) if self.parts > 1 else value

    def shape(self, own: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one image given the network's own shape for a batch of one."""
        middle = (self.parts,) if self.parts > 1 else ()
        return (*own[: self.axis], *middle, *own[self.axis + 1 :])

    def split_axis(self, axis: int) -> int | None:
        """Where the network's axis stands in (batch, *shape); None for the axis of images."""
        if axis == self.axis:
            return None
        if axis < self.axis:
            return axis + 1
        return axis + 1 if self.parts > 1 else axis


def layout_of(value: torch.Tensor, batch: Any) -> Layout | None:
    """The layout of an exported value whose shape holds the symbol ``batch``; None where it holds none.

    Raises UnsupportedOperation where images are on several axes or no whole number of places belongs to each.
    """
    sizes: list[Any] = list(value.shape)
    found = [
        (axis, size.node.expr)
        for axis, size in enumerate(sizes)
        if isinstance(size, torch.SymInt) and batch in size.node.expr.free_symbols
    ]
    if not found:
        return None
    axis, size = found[0]
    parts = size / batch
    if len(found) > 1 or not parts.is_Integer:
        raise UnsupportedOperation(f"mixes the images of a batch in the shape {tuple(map(str, value.shape))}")
    return Layout(axis, int(parts))


def shape_of_one(value: torch.Tensor, batch: Any) -> tuple[int, ...]:
    """The shape of an exported value for a batch of one."""
    return tuple(int(number_at(size, batch, 1)) for size in value.shape)


def number_at(size: Any, batch: Any, images: int) -> Any:
    """A number of the graph that may depend on the batch, for a batch of ``images``."""
    if isinstance(size, (torch.SymInt, torch.SymFloat)):
        value = size.node.expr.subs(batch, images)
        return int(value) if isinstance(size, torch.SymInt) else float(value)
    return size
