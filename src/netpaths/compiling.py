"""Compiling with numba, also where its cache on disk is empty or missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any


@contextmanager
def tolerant_cache() -> Iterator[None]:
    """Import numba sources inside it, so that they compile in memory where no folder can hold numba's cache.

    numba keeps compiled functions in the first folder that it may write to: NUMBA_CACHE_DIR, ``__pycache__`` beside
    the source, the user's cache folder. Where it may write to none, it refuses to decorate a function that asks for
    the cache.
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
        return njit(**options)(function)
    except RuntimeError as error:
        if "cannot cache" not in str(error):
            raise
        return njit(**{**options, "cache": False})(function)


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
