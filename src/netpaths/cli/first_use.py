"""Compiled kernels made ready before a command's work, with a notice where that takes long."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

COMPILING = "compiling kernels, once on this machine …"
UNCACHED = "every run compiles them, as numba may write to no folder for its cache; name one in NUMBA_CACHE_DIR"


def ready_kernels(device: torch.device | str, quiet: bool = False) -> None:
    """Load the compiled kernels for ``device``, or compile them where numba's cache does not hold them, and say so.

    On a terminal the notice stands while they compile; elsewhere it is one line afterwards. quiet: no notice. Raises
    StorageFull when the disk with numba's cache is full.
    """
    import torch

    from netpaths.compiling import when_compiling
    from netpaths.errors import StorageFull
    from netpaths.kernels import warm_up as kernels

    on_cpu = torch.device(device).type == "cpu"
    before = kernels.compilations()
    try:
        with _status(quiet) as show, when_compiling(show):
            seconds = kernels.warm_up() if on_cpu else 0.0
            _ready_sets()
    except OSError as error:
        reason = error.strerror or error
        raise StorageFull(f"cannot keep compiled kernels: {reason}; name another folder in NUMBA_CACHE_DIR") from error
    if kernels.compilations() > before and not quiet and not sys.stderr.isatty():
        later = "later runs load them" if kernels.is_cached() else UNCACHED
        print(f"compiled kernels in {seconds:.1f} s; {later}", file=sys.stderr, flush=True)


def _ready_sets() -> None:
    """The packed sets of paths, which every device needs."""
    import numpy as np

    from netpaths.path import bits

    indices = np.zeros(1, np.int64)
    words = bits.pack(indices, 1)
    bits.from_masks(np.zeros((1, 1), np.bool_))
    bits.unpack(bits.unite(words, words)[0])
    bits.inside(words, indices)
    bits.shared(indices, indices)


@contextmanager
def _status(quiet: bool) -> Iterator[Callable[[], None]]:
    """Yields what shows the notice, which goes away at the end; it does nothing without a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console

    status = Console(stderr=True).status(COMPILING)
    try:
        yield status.start
    finally:
        status.stop()
