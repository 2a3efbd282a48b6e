"""How many images to compute at once: as many as fit in memory, and no more than make it faster.

Paths do not depend on it. Beyond a certain size a batch only takes longer to stop and to report its progress.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import prod
from pathlib import Path as FilePath

import torch

from netpaths.graph import Graph

SHARE = 0.25
"""Share of the available memory that a batch may take; paths, class paths and other programs want the rest."""

PER_VALUE = 2.5
"""Bytes at the peak of an extraction per byte of all nodes' values of the batch.

At theta 0.5 measured 1.1 (resnet20) to 2.4 (resnet18, one image) for one rank, up to 2.7 for two ranks.
"""

LARGEST = 256
"""Images, for small networks: lenet5 on one thread extracts 4582 images a second in batches of 64, 5093 of 128, 5484 of
256 and 5179 of 512."""

ENOUGH = 2**30
"""Bytes, on a CPU: squeezenet1_0 on one thread extracts 13.6 images a second one by one, 15.0 in batches of 8, which by
this estimate need as much, 15.4 of 16 and 14.2 of 32."""

UNKNOWN = 2**31
"""Bytes taken to be available where the system does not say."""

PROC, CGROUP = FilePath("/proc"), FilePath("/sys/fs/cgroup")
VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
VERSION_2 = ("memory.max", "memory.current", "inactive_file")
"""Files with a control group's limit and use in bytes, and the row of memory.stat with what it could give back."""


def fitting_batch(graph: Graph, share: float = SHARE) -> int:
    """How many images to extract paths of at once where ``graph`` computes: a power of two from 1 to `LARGEST`.

    The largest whose estimated bytes are at most ``share`` of the memory that is available now, on a CPU at most
    `ENOUGH`; 1 where not even one image fits. Another moment or machine may give another number, but the same paths.
    """
    device = graph.device
    room = share * available_memory(device)
    if device.type == "cpu":
        room = min(room, ENOUGH)
    images = int(room / bytes_per_image(graph))
    return 1 << (min(max(images, 1), LARGEST).bit_length() - 1)


def bytes_per_image(graph: Graph) -> float:
    """Estimated bytes that each image of a batch takes at the peak of its extraction."""
    values = sum(prod(node.shape) for node in graph.nodes.values())
    return PER_VALUE * values * graph.dtype.itemsize


def available_memory(device: torch.device) -> int:
    """Bytes that can be allocated now on ``device``, within the limits of the control groups of this process."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    return min([_of_system(), *_left_in_groups()])


def _of_system() -> int:
    """Linux: MemAvailable of /proc/meminfo; elsewhere free pages, else all pages."""
    rows = dict(line.split(":", 1) for line in _text(PROC / "meminfo").splitlines() if ":" in line)
    if "MemAvailable" in rows:
        return int(rows["MemAvailable"].split()[0]) * 1024
    for pages in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"):
        try:
            return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):
            continue
    return UNKNOWN


def _left_in_groups() -> Iterator[int]:
    """What every control group around this process leaves, in bytes, where it has a limit."""
    for folder, (limit, use, reclaimable) in _groups():
        allowed, used = _text(folder / limit).strip(), _text(folder / use).strip()
        if allowed.isdigit() and used.isdigit():
            rows = dict(line.split() for line in _text(folder / "memory.stat").splitlines())
            yield max(int(allowed) - int(used) + int(rows.get(reclaimable, 0)), 0)


def _groups() -> Iterator[tuple[FilePath, tuple[str, str, str]]]:
    """The folders of this process's control groups, from its own to the top, and the names of their files.

    A container may see only the top one, which then is its own.
    """
    for line in _text(PROC / "self" / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, names = (CGROUP / "memory", VERSION_1) if controllers else (CGROUP, VERSION_2)
        own = top / path.lstrip("/")
        yield from ((folder, names) for folder in (own, *own.parents) if folder == top or top in folder.parents)


def _text(file: FilePath) -> str:
    """The text of a file, empty where it cannot be read."""
    try:
        return file.read_text()
    except OSError:
        return ""
