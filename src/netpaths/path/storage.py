"""Paths on disk: sites as compressed bytes in one safetensors file with a checked header.

A packed set is stored as its words, a sparse one as differences of its positions in the smallest integer type that
holds them; both are then compressed with Zstandard.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import prod
from pathlib import Path as FilePath
from typing import Any, Literal

import msgspec
import numpy as np
import zstandard
from numpy.typing import NDArray

from netpaths.errors import BadFile
from netpaths.files import Count, load_tensors, save_tensors
from netpaths.path import bits
from netpaths.path.budget import Budget
from netpaths.path.elements import WORD, Elements
from netpaths.path.path import Path, Site

SCHEMA = 3

ENOUGH, EXPANDS = 1 << 26, 1 << 12
"""Bytes that any file may unpack to, and how many times its own size a larger one may."""

FORMS = ("words:<u8", "differences:|u1", "differences:<u2", "differences:<u4", "differences:<u8")


class Malformed(ValueError):
    """A file whose checksum is right holds what is never written."""


class SiteRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a header says of one site: the shape of its tensor, how its members are kept and how many there are."""

    node: str
    kind: str
    shape: list[Count]
    total: Count
    form: Literal[FORMS]  # type: ignore[valid-type]
    members: Count
    valued: bool

    def tensor(self, prefix: str) -> str:
        """The name of the tensor that keeps its members."""
        return f"{prefix}{self.node}.{self.kind}"

    @property
    def size(self) -> int:
        """The number of elements of the dense tensor."""
        return prod(self.shape)

    @property
    def packed(self) -> bool:
        return str(self.form).startswith("words")

    @property
    def dtype(self) -> str:
        return str(self.form).partition(":")[2]

    @property
    def entries(self) -> int:
        """How many numbers are kept."""
        return -(-self.size // WORD) if self.packed else self.members

    @property
    def data_bytes(self) -> int:
        """Bytes in memory."""
        return 8 * self.entries


class PathHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file of one path says."""

    sites: list[SiteRow]
    seed: Count | None
    predicted: Count
    fingerprint: str
    method: dict[str, Any]
    layers: list[str]
    budget: Budget | None


def save_path(path: Path, file: FilePath | str) -> FilePath:
    """Write one path to ``file``, atomically; raises StorageFull when the disk is full."""
    tensors, sites = encode_sites(path, "")
    header = {
        "sites": sites,
        "seed": path.seed,
        "predicted": path.predicted,
        "fingerprint": path.fingerprint,
        "method": dict(path.method),
        "layers": list(path.layers),
        "budget": None if path.budget is None else asdict(path.budget),
    }
    return save_tensors(file, "path", SCHEMA, tensors, header)


def load_path(file: FilePath | str) -> Path:
    """The path in ``file``; raises BadFile when it is missing, truncated, corrupt or foreign."""
    tensors, header = load_tensors(file, "path", SCHEMA, PathHeader)
    try:
        check_sites(tensors, {"": header.sites}, {})
        sites = decode_sites(tensors, header.sites, "")
    except Malformed as error:
        raise BadFile(f"{file} is not a whole path file: {error}") from error
    return Path(
        sites, header.seed, header.predicted, header.fingerprint, header.method, tuple(header.layers), header.budget
    )


def encode_sites(
    sites: Mapping[Site, Elements], prefix: str
) -> tuple[dict[str, NDArray[np.generic]], list[dict[str, Any]]]:
    """Tensors and header rows for a mapping of sites; tensor names start with ``prefix``."""
    tensors: dict[str, NDArray[np.generic]] = {}
    rows = []
    for site, part in sites.items():
        name = f"{prefix}{site.node}.{site.kind}"
        form, data = _encode(part)
        tensors[name] = compress(data)
        if part.values is not None:
            tensors[f"{name}.values"] = compress(part.values)
        rows.append(
            {
                "node": site.node,
                "kind": site.kind,
                "shape": list(part.shape),
                "total": part.total,
                "form": form,
                "members": len(part),
                "valued": part.values is not None,
            }
        )
    return tensors, rows


def check_sites(
    tensors: Mapping[str, NDArray[np.generic]],
    sites: Mapping[str, Sequence[SiteRow]],
    others: Mapping[str, int],
) -> None:
    """Whether tensors are those that the rows of sites under each prefix speak of, and no more than they should be.

    others: further tensors by name, with the bytes that they unpack to. Raises Malformed, before anything is unpacked,
    also where a file would take much more memory than its size lets expect.
    """
    wanted = dict(others)
    for prefix, rows in sites.items():
        for row in rows:
            name = row.tensor(prefix)
            if name in wanted:
                raise Malformed(f"{name} is there twice")
            wanted |= {name: row.data_bytes} | ({f"{name}.values": 4 * row.members} if row.valued else {})
            if row.total > row.size or row.members > row.total or (row.packed and row.valued):
                raise Malformed(f"{name} has {row.members} of {row.total} elements of a tensor of {row.size}")
    if set(wanted) != set(tensors):
        odd = sorted(set(wanted) ^ set(tensors))
        raise Malformed(f"its tensors are not those of its sites: {', '.join(odd[:3])}")
    stored = 0
    for name, data in tensors.items():
        if data.dtype != np.uint8 or data.ndim != 1:
            raise Malformed(f"{name} is {data.dtype} of shape {data.shape}, expected compressed bytes")
        stored += data.size
    unpacked = sum(wanted.values())
    if unpacked > max(ENOUGH, EXPANDS * stored):
        raise Malformed(f"its {stored} bytes would unpack to {unpacked}")


def decode_sites(
    tensors: Mapping[str, NDArray[np.generic]], rows: Sequence[SiteRow], prefix: str
) -> dict[Site, Elements]:
    """The mapping of sites that `encode_sites` wrote under ``prefix``; raises Malformed for what it never writes."""
    return {Site(row.node, row.kind): _decoded(tensors, row, row.tensor(prefix)) for row in rows}


def _decoded(tensors: Mapping[str, NDArray[np.generic]], row: SiteRow, name: str) -> Elements:
    shape = tuple(row.shape)
    data = decompress(tensors[name], np.dtype(row.dtype), row.entries, name)
    if row.packed:
        words = data.astype(np.uint64, copy=False)
        beyond = row.size % WORD and words.size and int(words[-1]) >> row.size % WORD
        if beyond or bits.count(words) != row.members:
            raise Malformed(f"{name} has other members than it says")
        return Elements(shape, row.total, words=words)
    indices = np.cumsum(data, dtype=np.int64)
    if indices.size and (indices[0] < 0 or indices[-1] >= row.size or not (np.diff(indices) > 0).all()):
        raise Malformed(f"{name} has positions out of order or outside of {shape}")
    values = decompress(tensors[f"{name}.values"], np.dtype(np.float32), row.members, name) if row.valued else None
    if values is not None and not (np.isfinite(values).all() and (values >= 0).all()):
        raise Malformed(f"{name} has values that are negative or no numbers")
    return Elements(shape, row.total, indices=indices, values=values)


def compress(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    """The array's bytes, compressed: (n,) uint8."""
    data = np.ascontiguousarray(array).tobytes()
    return np.frombuffer(zstandard.ZstdCompressor(level=3).compress(data), np.uint8)


def decompress(data: NDArray[np.generic], dtype: np.dtype[Any], count: int, name: str) -> NDArray[Any]:
    """The array `compress` was given, flat, ``count`` entries of type ``dtype``; raises Malformed for anything else."""
    raw = data.tobytes()
    try:
        if zstandard.frame_content_size(raw) != count * dtype.itemsize:
            raise Malformed(f"{name} does not unpack to {count} entries")
        unpacked = zstandard.ZstdDecompressor().decompress(raw)
    except zstandard.ZstdError as error:
        raise Malformed(f"{name} cannot be unpacked: {error}") from error
    if len(unpacked) != count * dtype.itemsize:
        raise Malformed(f"{name} does not unpack to {count} entries")
    return np.frombuffer(unpacked, dtype).copy()


def _encode(part: Elements) -> tuple[str, NDArray[np.generic]]:
    if part.words is not None:
        return f"words:{part.words.dtype.str}", part.words
    differences = np.diff(part.members(), prepend=np.int64(0))
    dtype = np.min_scalar_type(int(differences.max())) if differences.size else np.dtype(np.uint8)
    return f"differences:{dtype.str}", differences.astype(dtype)
