"""Labelled images behind one interface, wherever their pixels live: in memory, in files or in a table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from netpaths.errors import BadOption
from netpaths.labels import check_labels

Index = int | slice | Sequence[int] | NDArray[Any] | Tensor
Shape = tuple[int, int, int]
CHUNK = 1024  # images handled at once where a whole data set is converted


class Source(Protocol):
    """Where pixels come from; ``read`` gives (n, channels, height, width), uint8 or float32 in [0, 1]."""

    shape: Shape

    def read(self, positions: NDArray[np.int64]) -> Tensor: ...


class MemorySource:
    """Images held in memory, (images, channels, height, width), uint8 or float32 in [0, 1]."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels
        channels, height, width = pixels.shape[1:]
        self.shape: Shape = (channels, height, width)

    def read(self, positions: NDArray[np.int64]) -> Tensor:
        return self.pixels[torch.from_numpy(positions)]


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images of one shape, decoded when they are asked for.

    ``labels`` (int64, one per image) index ``classes``; ``identifiers`` name each source image uniquely.
    ``split`` is "train", "test", or "all" where the data has no split.
    """

    source: Source
    positions: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: list[str]
    identifiers: list[str]
    split: str

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> Shape:
        """Channels, height and width of every image."""
        return self.source.shape

    def __getitem__(self, index: Index) -> tuple[Tensor, Tensor]:
        """Images (batch, channels, height, width), float32 in [0, 1], and int64 labels (batch,).

        An int gives one image (channels, height, width) and a label without dimensions.
        """
        if isinstance(index, (int, np.integer)):
            images, labels = self._read(self._resolve([int(index)]))
            return images[0], labels[0]
        return self._read(self._resolve(index))

    def check_labels(self, classes: int) -> None:
        """Raise BadInput where a label is beyond the ``classes`` that a model tells apart."""
        check_labels(torch.from_numpy(self.labels), len(self), classes)

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order as pairs (images, labels) of at most ``batch_size``, shaped as by indexing."""
        if batch_size < 1:
            raise BadOption(f"batch_size is {batch_size}, expected at least 1")
        order = np.arange(len(self))
        return (self._read(order[start : start + batch_size]) for start in range(0, len(self), batch_size))

    def take(self, indices: Index) -> Images:
        """The images at ``indices``, in that order; no pixel is read."""
        chosen = self._resolve([int(indices)] if isinstance(indices, (int, np.integer)) else indices)
        return replace(
            self,
            positions=self.positions[chosen],
            labels=self.labels[chosen],
            identifiers=[self.identifiers[i] for i in chosen],
        )

    def relabelled(self, kept: NDArray[np.int64]) -> Images:
        """The same images with labels as positions in ``kept``, the ascending class numbers that stay.

        Raises BadOption when an image has another class.
        """
        place = np.minimum(np.searchsorted(kept, self.labels), len(kept) - 1)
        if not np.array_equal(kept[place], self.labels):
            raise BadOption("some images have a class that is not kept")
        return replace(self, labels=place.astype(np.int64), classes=[self.classes[label] for label in kept])

    def in_memory(self) -> Images:
        """The same images decoded once and kept in memory."""
        chunks = [self.source.read(part) for part in _chunks(self.positions)]
        source = MemorySource(torch.cat(chunks) if chunks else torch.zeros(0, *self.shape))
        return replace(self, source=source, positions=np.arange(len(self)))

    @property
    def digest(self) -> str:
        """A hash of split, shape, classes, identifiers and labels; not of the pixels."""
        text = json.dumps([self.split, self.shape, self.classes, self.identifiers, self.labels.tolist()])
        return hashlib.sha256(text.encode()).hexdigest()

    def _read(self, chosen: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        pixels = self.source.read(self.positions[chosen])
        images = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        return images, torch.from_numpy(self.labels[chosen])

    def _resolve(self, index: Index) -> NDArray[np.int64]:
        """``index`` as non-negative positions among these images."""
        if isinstance(index, slice):
            return np.arange(len(self))[index]
        array = np.asarray(index)
        if array.dtype == bool and array.shape == (len(self),):
            return np.flatnonzero(array)
        if array.size == 0:
            return np.zeros(0, dtype=np.int64)
        if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
            raise BadOption(f"an index of shape {array.shape}, type {array.dtype}; expected integers in a list")
        if array.min() < -len(self) or array.max() >= len(self):
            raise BadOption(f"an index in {array.min()}…{array.max()} is outside these {len(self)} images")
        return np.where(array < 0, array + len(self), array).astype(np.int64)


def all_images(
    source: Source, labels: NDArray[Any], classes: Sequence[str], identifiers: list[str], split: str
) -> Images:
    """Every image of ``source`` as `Images`."""
    positions = np.arange(len(labels))
    return Images(source, positions, labels.astype(np.int64), list(classes), identifiers, split)


def balanced(labels: NDArray[np.int64], limit: int, seed: int) -> NDArray[np.int64]:
    """Positions of ``limit`` images drawn at random, as evenly over the classes as possible.

    Classes take turns, so a smaller limit with the same seed is a prefix of a larger one.
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.unique(labels[by_class], return_counts=True)[1]
    turn = np.concatenate([np.arange(count) for count in counts])
    return by_class[np.argsort(turn, kind="stable")][:limit]


def converted(pixels: Tensor, channels: int | None, size: int | None) -> Tensor:
    """``pixels`` (images, channels, height, width) with other channels and another square size; grey is luma."""
    starts = range(0, len(pixels), CHUNK)
    return torch.cat([_convert(pixels[start : start + CHUNK], channels, size) for start in starts])


def _convert(pixels: Tensor, channels: int | None, size: int | None) -> Tensor:
    values = pixels.float()
    if channels == 3 and values.shape[1] == 1:
        values = values.expand(-1, 3, -1, -1)
    elif channels == 1 and values.shape[1] == 3:
        values = (values * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    if size is not None and values.shape[2:] != (size, size):
        values = F.interpolate(values, size=(size, size), mode="bilinear", antialias=True)
    if pixels.dtype == torch.uint8:
        return values.round().clamp(0, 255).to(torch.uint8)
    return values.contiguous()


def _chunks(positions: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [positions[start : start + CHUNK] for start in range(0, len(positions), CHUNK)]
