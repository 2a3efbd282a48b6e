"""Model weights as plain safetensors state dicts: strict loading with readable complaints, atomic saving."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from netpaths.errors import BadWeights
from netpaths.files import checksum, plain, write_atomically
from netpaths.zoo.normalize import Normalized

SHOWN = 3  # how many names a complaint lists


def load_weights(model: nn.Module, path: Path | str) -> nn.Module:
    """Load the safetensors state dict ``path`` into ``model``, in place and strictly; returns ``model``.

    Raises BadWeights when the file is missing, is not safetensors, does not fit the model or holds NaN, or is not what
    `save_weights` wrote; a file from elsewhere has no checksum and needs none.
    """
    path = Path(path)
    state = _read(path)
    _check_fit(path, model.state_dict(), state)
    _check_finite(path, state)
    model.load_state_dict(state)
    return model


def read_header(path: Path | str) -> dict[str, Any]:
    """The JSON header that `save_weights` wrote; empty for weights from elsewhere, and for what is no weights file."""
    try:
        with safe_open(str(path), framework="numpy") as stream:
            found = json.loads((stream.metadata() or {}).get("header", "{}"))
    except (SafetensorError, OSError, ValueError, AttributeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def save_weights(model: nn.Module, path: Path | str, header: Mapping[str, Any] | None = None) -> Path:
    """Write ``model``'s state dict as safetensors, atomically, with ``header`` as JSON metadata.

    Returns the path. Raises BadWeights for another file ending and StorageFull when the disk is full.
    """
    path = Path(path)
    _check_ending(path)
    source = model.model if isinstance(model, Normalized) else model
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in source.state_dict().items()}
    text = json.dumps(plain(header or {}), sort_keys=True)
    metadata = {"format": "pt", "header": text, "checksum": checksum(text, _bytes(state))}
    return write_atomically(path, lambda temporary: save_file(state, str(temporary), metadata))


def _check_ending(path: Path) -> None:
    if path.suffix != ".safetensors":
        raise BadWeights(
            f"{path} is not a .safetensors file; weights are read and written as safetensors: convert a state dict, "
            "what torch.load gives, with safetensors.torch.save_file(state, 'weights.safetensors')"
        )


def _read(path: Path) -> dict[str, Tensor]:
    _check_ending(path)
    if not path.is_file():
        raise BadWeights(f"there is no weights file {path}")
    try:
        state = load_file(str(path))
        with safe_open(str(path), framework="pt") as stream:
            metadata = stream.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise BadWeights(f"{path} is truncated or not a safetensors file: {error}") from error
    if "checksum" in metadata and metadata["checksum"] != checksum(metadata.get("header", ""), _bytes(state)):
        raise BadWeights(f"{path} is corrupt: its checksum does not match its contents; make it again")
    return state


def _bytes(state: Mapping[str, Tensor]) -> dict[str, NDArray[np.uint8]]:
    """The bytes of every tensor, by its name, type and shape."""
    return {
        f"{name}:{tensor.dtype}:{tuple(tensor.shape)}": tensor.reshape(-1).view(torch.uint8).numpy()
        for name, tensor in state.items()
    }


def _check_fit(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    # torch itself supplies the batch counters of files written before they existed
    missing = [name for name in expected if name not in found and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in found if name not in expected]
    misshapen = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    lists = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    complaints = [f"{kind}: {_shorten(names)}" for kind, names in lists.items() if names]
    prefix = _prefix(expected, found)
    if prefix:
        raise BadWeights(
            f"{path} does not fit the model: all its names have the prefix {prefix!r}, as DataParallel writes it; "
            f"remove it and save again"
        )
    if complaints:
        raise BadWeights(f"{path} does not fit the model; {'; '.join(complaints)}")


def _prefix(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """What stands in front of every name found and is all that keeps it from being an expected one."""
    first = next(iter(found), "")
    prefixes = [first.removesuffix(name) for name in expected if first.endswith(f".{name}")]
    return next((own for own in prefixes if all(name.removeprefix(own) in expected for name in found)), "")


def _shorten(names: list[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    for name, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise BadWeights(f"{path}: {name} holds NaN or infinite values")
