"""One pass over batches of images, and what the network's nodes hold for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

from netpaths.errors import BadInput

if TYPE_CHECKING:
    from netpaths.graph.graph import Graph, Trace

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]
"""Batches (images, labels), the same ones in the same order whenever they are gone through."""


@dataclass(frozen=True, eq=False)
class Step:
    """One batch of a pass: images (batch, *input shape), labels (batch,) and what a run recorded of them.

    start: how many images of the loader came before, so that a stopped pass can go on behind `end`.
    """

    start: int
    images: torch.Tensor
    labels: torch.Tensor
    trace: Trace

    @property
    def end(self) -> int:
        """How many images of the loader are done with this batch."""
        return self.start + len(self.images)


def batches_from(
    loader: Batches, start: int = 0, most: int | None = None
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Batches of a loader behind its first ``start`` images: (place of the first, images, labels).

    most: images of a batch, larger ones of the loader are cut; None leaves them as they are. Raises BadInput for a
    batch that is anything else than a pair of tensors.
    """
    offset = 0
    for batch in loader:
        images, labels = _pair(batch)
        skipped = min(max(start - offset, 0), len(images))
        for first in range(skipped, len(images), most or max(len(images), 1)):
            last = len(images) if most is None else min(first + most, len(images))
            yield offset + first, images[first:last], labels[first:last]
        offset += len(images)


def _pair(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels of a batch."""
    pair = isinstance(batch, (tuple, list)) and len(batch) == 2
    if not pair or not all(isinstance(part, torch.Tensor) for part in batch):
        inside = f" of {', '.join(type(part).__name__ for part in batch)}" if isinstance(batch, (tuple, list)) else ""
        raise BadInput(
            f"a batch of the loader is a {type(batch).__name__}{inside}; batches are pairs (images, labels) of tensors"
        )
    return batch[0], batch[1]


def streamed(
    graph: Graph,
    loader: Batches,
    record: Iterable[str] | Literal["all"],
    start: int,
    most: int | None,
    progress: Callable[[int], None] | None,
) -> Iterator[Step]:
    """The steps of one pass, without gradients, on the device of the graph; see `Graph.stream`."""
    kept = record if record == "all" else tuple(record)
    for place, images, labels in batches_from(loader, start, most):
        with torch.no_grad():
            images = images.to(graph.device)
            step = Step(place, images, labels, graph.run(images, record=kept))
        yield step
        if progress is not None:
            progress(step.end)
