"""Compiling with numba, also where its cache on disk is empty or missing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

SOURCES = ("lanes/*.py", "runtime/_*.py", "kernels/_*.py", "path/_*.py")
"""The files that hold numba source: compiled functions contain code from any of them."""


@cache
def fingerprint() -> str:
    """Hexadecimal SHA-256 over all numba source."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for file in sorted(file for pattern in SOURCES for file in here.glob(pattern)):
        digest.update(file.read_bytes())
    return digest.hexdigest()


@contextmanager
def tolerant_cache() -> Iterator[None]:
    """Import numba sources inside it: its cache then knows all of them; they compile in memory where it has no folder.

    numba keeps compiled functions in the first folder that it may write to: NUMBA_CACHE_DIR, ``__pycache__`` beside
    the source, the user's cache folder. Where it may write to none, it refuses to decorate a function that asks for
    the cache. Of what a function was compiled from it remembers the function's own file alone; here it is told of all.
    """
    import numba

    strict = numba.njit

    def tolerant(*function: Any, **options: Any) -> Any:
        return strict(*function, **options) if function else lambda own: _decorated(strict, options, own)

    numba.njit = tolerant
    try:
        yield
    finally:
        numba.njit = strict


def _decorated(njit: Callable[..., Any], options: dict[str, Any], function: Any) -> Any:
    """The compiled function, without the cache where numba has no folder for it."""
    try:
        return _stamped(njit(**options)(function))
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        return njit(**{**options, "cache": False})(function)


def _stamped(function: Any) -> Any:
    """The function, whose compiled code is stale once any numba source has changed."""
    kept: Any = getattr(getattr(function, "_cache", None), "_cache_file", None)
    if hasattr(kept, "_source_stamp"):
        kept._source_stamp = (kept._source_stamp, fingerprint())
    return function


@contextmanager
def when_compiling(begin: Callable[[], None]) -> Iterator[None]:
    """Call ``begin`` each time that numba starts to compile a function because no cache holds it."""
    event: Any = import_module("numba.core.event")

    class Listener(event.Listener):  # type: ignore[misc]
        def on_start(self, event: object) -> None:
            begin()

        def on_end(self, event: object) -> None:
            pass

    listener = Listener()
    event.register("numba:compile", listener)
    try:
        yield
    finally:
        event.unregister("numba:compile", listener)
