"""The members of one site: a sparse set with non-negative values, packed where that is smaller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from netpaths.errors import BadOption
from netpaths.path import bits

WORD = 64
"""Bits a packed word and bits an index take: a set is packed once it has more than size / 64 members."""

SPARSE = 4
"""Members of a union are sorted where they are fewer than a fourth of the words that a packed set takes."""


@dataclass(frozen=True, eq=False)
class Elements:
    """Selected elements of a tensor of ``shape``, each with a non-negative value.

    shape: the dense tensor's shape. total: how many elements can be selected at all (padding cells of a
    receptive field cannot). indices: ascending flat int64 positions, or None when packed. words: the packed set,
    or None. values: (len(indices),) float32, or None when every value is 1.
    """

    shape: tuple[int, ...]
    total: int
    indices: NDArray[np.int64] | None = None
    words: NDArray[np.uint64] | None = None
    values: NDArray[np.float32] | None = None

    @classmethod
    def of(
        cls,
        shape: Sequence[int],
        indices: NDArray[np.int64],
        values: NDArray[np.float32] | None = None,
        total: int | None = None,
    ) -> Elements:
        """Elements at ascending, distinct flat ``indices``; packed where that is smaller."""
        size = prod(shape)
        total = size if total is None else total
        if values is None and indices.size * WORD > size:
            return cls(tuple(shape), total, words=bits.pack(indices, size))
        return cls(tuple(shape), total, indices=indices, values=values)

    @classmethod
    def from_words(
        cls, shape: Sequence[int], words: NDArray[np.uint64], total: int, members: int | None = None
    ) -> Elements:
        """Elements from a packed set; unpacked where that is smaller. members: how many, where that is known."""
        members = bits.count(words) if members is None else members
        if members * WORD > prod(shape):
            return cls(tuple(shape), total, words=words)
        return cls(tuple(shape), total, indices=bits.unpack(words, members))

    @classmethod
    def each_of(cls, masks: torch.Tensor) -> list[Elements]:
        """The true entries of every mask of a batch (n, *shape), each on a tensor of ``shape``."""
        shape = tuple(masks.shape[1:])
        words, members = bits.from_masks(masks.detach().cpu().flatten(1).numpy())
        return [cls.from_words(shape, row, prod(shape), count) for row, count in zip(words, members)]

    @classmethod
    def each_positive(cls, values: torch.Tensor, valued: bool = True) -> list[Elements]:
        """The positive entries of every tensor of a batch (n, *shape), with their values or, not ``valued``, as 1."""
        if not valued:
            return cls.each_of(values > 0)
        flat = values.detach().cpu().flatten(1).numpy()
        rows, places = np.nonzero(flat > 0)
        kept = flat[rows, places].astype(np.float32)
        bounds = np.searchsorted(rows, np.arange(len(flat) + 1))
        shape = tuple(values.shape[1:])
        return [
            cls.of(shape, places[start:stop].astype(np.int64), kept[start:stop]) for start, stop in pairwise(bounds)
        ]

    @classmethod
    def from_dense(cls, tensor: torch.Tensor, total: int | None = None) -> Elements:
        """The non-zero entries of a boolean or non-negative float tensor of any shape."""
        flat = tensor.detach().cpu().reshape(-1).numpy()
        if flat.dtype == np.bool_:
            (words,), (members,) = bits.from_masks(flat[None])
            return cls.from_words(tuple(tensor.shape), words, flat.size if total is None else total, members)
        indices = np.flatnonzero(flat).astype(np.int64)
        values = flat[indices].astype(np.float32)
        if bool((values < 0).any()):
            raise BadOption("path values must not be negative")
        return cls.of(tuple(tensor.shape), indices, values, total)

    @property
    def size(self) -> int:
        """The number of elements of the dense tensor."""
        return prod(self.shape)

    @property
    def binary(self) -> bool:
        """Whether every value is 1."""
        return self.values is None

    def __len__(self) -> int:
        if self.words is not None:
            return bits.count(self.words)
        return int(self.members().size)

    def members(self) -> NDArray[np.int64]:
        """The selected flat positions, ascending: (n,) int64."""
        if self.indices is not None:
            return self.indices
        if self.words is None:
            return np.empty(0, np.int64)
        return bits.unpack(self.words)

    def member_values(self) -> NDArray[np.float32]:
        """The values of `members`: (n,) float32."""
        return np.ones(len(self), np.float32) if self.values is None else self.values

    def packed(self) -> NDArray[np.uint64]:
        """The set, packed; values are left out."""
        return self.words if self.words is not None else bits.pack(self.members(), self.size)

    def contains(self, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
        """For each flat index whether it is selected: (n,) booleans."""
        if self.words is not None:
            return bits.contains(self.words, indices)
        members = self.members()
        if not members.size:
            return np.zeros(indices.size, bool)
        place = np.minimum(np.searchsorted(members, indices), members.size - 1)
        return np.asarray(members[place] == indices)

    def dense(self) -> torch.Tensor:
        """A tensor of ``shape``: boolean where binary, float32 otherwise."""
        if self.binary:
            mask = torch.zeros(self.size, dtype=torch.bool)
            mask[torch.from_numpy(self.members())] = True
            return mask.reshape(self.shape)
        tensor = torch.zeros(self.size)
        tensor[torch.from_numpy(self.members())] = torch.from_numpy(self.member_values())
        return tensor.reshape(self.shape)

    def mass(self) -> float:
        """The sum of all values; for a binary set the number of members."""
        return float(len(self)) if self.values is None else float(self.values.sum(dtype=np.float64))

    def overlap(self, other: Elements) -> tuple[float, float]:
        """Σ min and Σ max over two sets of the same shape: the numerator and denominator of weighted Jaccard."""
        check_shape(self, other)
        if self.binary and other.binary:
            shared = float(self._shared(other))
            return shared, len(self) + len(other) - shared
        mine, others = align(self, other)
        return float(np.minimum(mine, others).sum(dtype=np.float64)), float(
            np.maximum(mine, others).sum(dtype=np.float64)
        )

    def _shared(self, other: Elements) -> int:
        if self.words is not None and other.words is not None:
            return bits.count(self.words & other.words)
        if self.words is not None:
            return bits.inside(self.words, other.members())
        if other.words is not None:
            return bits.inside(other.words, self.members())
        return bits.shared(self.members(), other.members())


def check_shape(first: Elements, second: Elements) -> None:
    """Raise BadOption unless both sets live on tensors of one shape."""
    if first.shape != second.shape:
        raise BadOption(f"paths differ in shape: {first.shape} and {second.shape}; they come from different graphs")


def align(first: Elements, second: Elements) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The values of both sets over the members of either."""
    members = np.union1d(first.members(), second.members())
    return values_at(first, members), values_at(second, members)


def values_at(elements: Elements, indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """The values at flat ``indices``, 0 where not selected."""
    found = np.zeros(indices.size, np.float32)
    inside = elements.contains(indices)
    place = np.searchsorted(elements.members(), indices[inside])
    found[inside] = elements.member_values()[place]
    return found


def union(parts: Sequence[Elements]) -> Elements:
    """The union of sets of one shape; where values differ the larger one."""
    first = parts[0]
    for part in parts[1:]:
        check_shape(first, part)
    if not all(part.binary for part in parts):
        return _largest(parts)
    packed = any(part.words is not None for part in parts)
    if packed or sum(len(part) for part in parts) * SPARSE > bits.words_for(first.size):
        return _united(parts)
    return Elements.of(first.shape, distinct([part.members() for part in parts]), total=first.total)


def _united(parts: Sequence[Elements]) -> Elements:
    """The union of binary sets, packed; no part is changed."""
    first = parts[0]
    packed = [part.words for part in parts if part.words is not None]
    sparse = [part.members() for part in parts if part.words is None]
    words = bits.empty(first.size) if sparse or len(packed) < 2 else None
    for indices in sparse:
        bits.insert(words, indices)  # type: ignore[arg-type]
    members = None
    for other in packed if words is not None else packed[1:]:
        words, members = bits.unite(packed[0] if words is None else words, other, words)
    return Elements.from_words(first.shape, words, first.total, members)  # type: ignore[arg-type]


def distinct(indices: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Every index that occurs, once, ascending."""
    found = np.sort(np.concatenate(indices))
    new = np.ones(found.size, bool)
    np.not_equal(found[1:], found[:-1], out=new[1:])
    return np.asarray(found[new])


def _largest(parts: Sequence[Elements]) -> Elements:
    members = distinct([part.members() for part in parts])
    values = np.zeros(members.size, np.float32)
    for part in parts:
        place = np.searchsorted(members, part.members())
        values[place] = np.maximum(values[place], part.member_values())
    return Elements.of(parts[0].shape, members, values, parts[0].total)


def intersect(first: Elements, second: Elements) -> Elements:
    """Members of both; where values differ the smaller one."""
    check_shape(first, second)
    if first.words is not None and second.words is not None:
        return Elements.from_words(first.shape, first.words & second.words, first.total)
    members = first.members()[second.contains(first.members())]
    if first.binary and second.binary:
        return Elements.of(first.shape, members, total=first.total)
    values = np.minimum(values_at(first, members), values_at(second, members))
    return Elements.of(first.shape, members, values, first.total)


def subtract(first: Elements, second: Elements) -> Elements:
    """Members of the first that are not in the second; values stay the first's."""
    check_shape(first, second)
    if first.words is not None and second.words is not None:
        return Elements.from_words(first.shape, first.words & ~second.words, first.total)
    keep = ~second.contains(first.members())
    values = None if first.values is None else first.values[keep]
    return Elements.of(first.shape, first.members()[keep], values, first.total)
