"""Cost curves: what extraction costs against θ, batch size, depth of partial extraction, and image size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from netpaths.benchmark.extraction import Extraction
from netpaths.benchmark.subject import Subject
from netpaths.benchmark.timing import columns, ratio
from netpaths.errors import NetpathsError
from netpaths.graph import Graph
from netpaths.methods import EffectivePath

THETAS = tuple(tenth / 10 for tenth in range(1, 11))
BATCHES = (1, 2, 4, 8, 16, 32)
DEPTHS = (1, 2, 3, 5, 10, 20)
EIGHTHS = (2, 3, 4, 5, 6, 7, 8)
"""Image sizes in eighths of the network's own."""

Point = tuple[float, Extraction]
Note = Callable[[str], None]


def curve_rows(
    subject: Subject, method: EffectivePath, curve: str, batch: int, repeats: int, note: Note
) -> Iterator[dict[str, Any]]:
    """The rows of ``curve`` (a key of `CURVES`), one per value; ``note`` is told what cannot be measured."""
    start = Extraction(subject, replace(method, last=None), subject.batch(batch))
    for value, extraction in CURVES[curve](start, note):
        times = extraction.times(repeats)
        yield {
            **subject.names(),
            "curve": curve,
            "value": value,
            "batch": len(extraction.images),
            **columns(times),
            **ratio(times["extraction"], times["forward"]),
            "ratio with forward": ratio(times["recorded"] + times["extraction"], times["forward"])["ratio"],
            **extraction.counts(),
        }


def _thetas(start: Extraction, note: Note) -> Iterator[Point]:
    return ((theta, replace(start, method=replace(start.method, theta=theta))) for theta in THETAS)


def _batch_sizes(start: Extraction, note: Note) -> Iterator[Point]:
    return ((size, replace(start, images=start.subject.batch(size))) for size in BATCHES)


def _depths(start: Extraction, note: Note) -> Iterator[Point]:
    layers = len(start.graph.layers)
    depths = [*(depth for depth in DEPTHS if depth < layers), layers]
    return ((depth, replace(start, method=replace(start.method, last=depth))) for depth in depths)


def _sizes(start: Extraction, note: Note) -> Iterator[Point]:
    """Square images up to the network's own size; sizes that it refuses are noted and left out."""
    full = start.images.shape[-1]
    for size in (full * eighths // 8 for eighths in EIGHTHS):
        images = _resized(start.images, size)
        try:
            graph = Graph(start.subject.network, images[:1])
        except NetpathsError as error:
            note(f"{start.subject.name} takes no images of {size} × {size}: {error}")
            continue
        yield size, replace(start, subject=replace(start.subject, graph=graph), images=images)


def _resized(images: torch.Tensor, size: int) -> torch.Tensor:
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


CURVES: dict[str, Callable[[Extraction, Note], Iterator[Point]]] = {
    "theta": _thetas,
    "batch": _batch_sizes,
    "depth": _depths,
    "size": _sizes,
}
