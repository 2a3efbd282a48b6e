"""Paths on disk: sites as compressed bytes in one safetensors file with a checked header.

A packed set is stored as its words, a sparse one as differences of its positions in the smallest integer type that
holds them; both are then compressed with Zstandard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from netpaths.files import load_tensors, save_tensors
from netpaths.path.budget import Budget
from netpaths.path.elements import Elements
from netpaths.path.path import Path, Site

SCHEMA = 2


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
    tensors, header = load_tensors(file, "path", SCHEMA)
    return Path(
        decode_sites(tensors, header["sites"], ""),
        header["seed"],
        header["predicted"],
        header["fingerprint"],
        header["method"],
        tuple(header["layers"]),
        Budget(**header["budget"]) if header.get("budget") else None,
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
                "valued": part.values is not None,
            }
        )
    return tensors, rows


def decode_sites(
    tensors: Mapping[str, NDArray[np.generic]], rows: list[dict[str, Any]], prefix: str
) -> dict[Site, Elements]:
    """The mapping of sites that `encode_sites` wrote under ``prefix``."""
    sites = {}
    for row in rows:
        name = f"{prefix}{row['node']}.{row['kind']}"
        data = decompress(tensors[name], np.dtype(row["form"].partition(":")[2]))
        shape = tuple(row["shape"])
        if row["form"].startswith("words"):
            part = Elements(shape, row["total"], words=data.astype(np.uint64, copy=False))
        else:
            values = decompress(tensors[f"{name}.values"], np.dtype(np.float32)) if row["valued"] else None
            part = Elements(shape, row["total"], indices=np.cumsum(data, dtype=np.int64), values=values)
        sites[Site(row["node"], row["kind"])] = part
    return sites


def compress(array: NDArray[np.generic]) -> NDArray[np.uint8]:
    """The array's bytes, compressed: (n,) uint8."""
    data = np.ascontiguousarray(array).tobytes()
    return np.frombuffer(zstandard.ZstdCompressor(level=3).compress(data), np.uint8)


def decompress(data: NDArray[np.generic], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The array `compress` was given, flat, of type ``dtype``."""
    return np.frombuffer(zstandard.ZstdDecompressor().decompress(data.tobytes()), dtype).copy()


def _encode(part: Elements) -> tuple[str, NDArray[np.generic]]:
    if part.words is not None:
        return f"words:{part.words.dtype.str}", part.words
    differences = np.diff(part.members(), prepend=np.int64(0))
    dtype = np.min_scalar_type(int(differences.max())) if differences.size else np.dtype(np.uint8)
    return f"differences:{dtype.str}", differences.astype(dtype)
