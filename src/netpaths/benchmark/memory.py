"""Peak memory of a piece of work: of the process on Linux, of torch's allocator on a GPU."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak(work: Callable[[], object], device: torch.device) -> float | None:
    """The most memory in MB that ``work`` and its result hold at once, above what is held before.

    None on a CPU whose system does not tell. Run the work once before: first calls load code and libraries.
    """
    gc.collect()
    if device.type == "cuda":
        return _peak_of_allocator(work, device)
    _return_freed_memory()
    try:
        CLEAR.write_text("5")  # starts the peak anew
    except OSError:
        return None
    before = _status("VmRSS")
    result = work()
    highest = _status("VmHWM")
    del result
    return max(highest - before, 0.0)


def _peak_of_allocator(work: Callable[[], object], device: torch.device) -> float:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = work()
    torch.cuda.synchronize(device)
    highest = torch.cuda.max_memory_allocated(device)
    del result
    return (highest - before) / 1e6


def _return_freed_memory() -> None:
    """Give freed memory that glibc keeps back to the system: kept, it would hide what the work takes."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _status(name: str) -> float:
    """A size in MB from the process's status."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024 / 1e6
