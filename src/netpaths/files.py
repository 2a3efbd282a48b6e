"""Files on disk: atomic writes, checked reads, and the run folder's JSON; never pickle."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from netpaths.errors import BadFile, StorageFull

Header = TypeVar("Header")

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
"""A number of things in a header."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)


def write_atomically(path: Path | str, write: Callable[[Path], None]) -> Path:
    """Let ``write`` fill a temporary file beside ``path`` and rename it into place.

    Returns ``path``. Raises StorageFull when the disk is full or not writable; no partial file is left behind.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in FULL:
            raise StorageFull(f"cannot write {path}: {error.strerror}; nothing was written") from error
        raise
    except SafetensorError as error:
        raise StorageFull(f"cannot write {path}: {error}; nothing was written") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return path


def write_text(path: Path | str, text: str) -> Path:
    """Write ``text`` as UTF-8, atomically."""
    return write_atomically(path, lambda temporary: _write_bytes(temporary, text.encode()))


def _write_bytes(path: Path, data: bytes) -> None:
    with open(path, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def write_json(path: Path | str, value: Any) -> Path:
    """Write ``value`` as indented JSON, atomically; NaN and infinity become null."""
    return write_text(path, json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


def plain(value: Any) -> Any:
    """``value`` in JSON's own types: paths become strings, arrays lists, NaN and infinity null."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, (str, int, bool)):
        return value
    return str(value)


def read_json(path: Path | str) -> Any:
    """The JSON value in ``path``; raises BadFile when it is missing or not JSON."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError as error:
        raise BadFile(f"there is no file {path}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadFile(f"{path} is not JSON: {error}") from error


def save_tensors(
    path: Path | str, kind: str, schema: int, tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]
) -> Path:
    """Write ``tensors`` and the JSON ``header`` as one safetensors file with a checksum, atomically.

    ``kind`` and ``schema`` name the format ("profile", 1); `load_tensors` refuses any other.
    """
    arrays = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    text = json.dumps(plain(header), sort_keys=True)
    metadata = {
        "format": f"netpaths.{kind}",
        "schema": str(schema),
        "header": text,
        "checksum": checksum(text, arrays),
    }
    return write_atomically(path, lambda temporary: save_file(arrays, str(temporary), metadata))


def load_tensors(
    path: Path | str, kind: str, schema: int, header: type[Header]
) -> tuple[dict[str, np.ndarray], Header]:
    """The tensors of a file written by `save_tensors`, and its header, which must be what the type ``header`` says.

    Raises BadFile when the file is missing, truncated, corrupt, of another format or of another schema version.
    """
    path = Path(path)
    if not path.is_file():
        raise BadFile(f"there is no {kind} file {path}")
    try:
        with safe_open(str(path), framework="numpy") as stream:
            metadata = stream.metadata() or {}
            _check_format(path, kind, schema, metadata)
            arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise BadFile(f"{path} is truncated or not a safetensors file: {error}") from error
    text = metadata.get("header", "")
    if checksum(text, arrays) != metadata.get("checksum"):
        raise BadFile(f"{path} is corrupt: its checksum does not match its contents; make it again")
    return arrays, typed_header(path, kind, text, header)


def typed_header(path: Path | str, kind: str, text: str, header: type[Header]) -> Header:
    """The JSON ``text`` in a file as the type ``header``; raises BadFile naming the place that is otherwise."""
    try:
        return msgspec.json.decode(text.encode(), type=header)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadFile(f"{path} is not a whole {kind} file: {error or 'it is nested too deeply'}") from error


def check_tensors(path: Path | str, tensors: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[str, int]]) -> None:
    """Raise BadFile unless a file holds just the tensors ``wanted``, each of a type and with so many axes."""
    found = {name: (tensor.dtype.str.lstrip("<>|="), tensor.ndim) for name, tensor in tensors.items()}
    odd = [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]
    if odd:
        there, right = found.get(odd[0], "missing"), wanted.get(odd[0], "none")
        raise BadFile(f"{path} is not whole: its {odd[0]!r} is {there}, expected {right}")


def _check_format(path: Path, kind: str, schema: int, metadata: Mapping[str, str]) -> None:
    found = metadata.get("format")
    if found != f"netpaths.{kind}":
        raise BadFile(
            f"{path} is not a netpaths {kind}: its format is {found or 'foreign'!r}, expected 'netpaths.{kind}'"
        )
    if metadata.get("schema") != str(schema):
        raise BadFile(
            f"{path} has {kind} schema {metadata.get('schema')}, this version reads schema {schema}; make it again"
        )


def stored_checksum(path: Path | str) -> str:
    """The checksum that a file written by `save_tensors` states, "" where it states none; raises BadFile."""
    try:
        with safe_open(str(path), framework="numpy") as stream:
            return str((stream.metadata() or {}).get("checksum", ""))
    except (SafetensorError, OSError) as error:
        raise BadFile(f"{path} is truncated or not a safetensors file: {error}") from error


def checksum(header: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Hexadecimal SHA-256 over a text and over names, types, shapes and values of arrays, in the order of names."""
    digest = hashlib.sha256(header.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}:{array.dtype.str}:{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).view(np.uint8).reshape(-1).data if array.size else b"")
    return digest.hexdigest()
