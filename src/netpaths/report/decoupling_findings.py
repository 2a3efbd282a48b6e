"""What the report on decoupled networks shows, as one value: filled by the study, drawn by this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpaths.ablation import Curve
from netpaths.report.rivals_findings import RivalsFindings

Rows = Sequence[Mapping[str, Any]]
Floats = NDArray[np.float64]

UNION, USUAL = "union", "at least half"
"""Forms of class paths: everything that any image of a class selects, and what at least half of them do."""


@dataclass(frozen=True, eq=False)
class DecouplingFindings:
    """Everything one run found; rows are tables.

    curve: one row per target share of filters, the dense network first (target NaN): target, accuracy, filters on,
    MACs (share of the dense network's, controllers included). main: the target whose network the rest is about.
    latency: one row per target and batch: target, batch, threads, dense ms (torch, batch norm folded), masked ms
    (torch, the decoupled network as it is), runtime ms, all on ms (the runtime with every filter on), over dense
    (runtime over dense), low, high (quartiles of it), MACs (what operations alone would say), masked over dense,
    over all on. history: one row per target and epoch: target, epoch, loss, its parts, accuracy, kept, macs.
    losses: one row per variant of the loss: loss, accuracy, filters on, MACs, distinct paths, neighbours (share of
    images whose nearest other path has their class), nats (bound on what codes say about the class, mean over
    layers). classes: class names. firing: layer → (classes, filters) share of a class's images for which each
    filter is on. filters: one row per layer: layer, filters, always off, always on, varying, class range (mean over
    varying filters of the largest minus the smallest share), nats. alike: layer → (filters, filters) correlation of
    when two filters are on, NaN where one never changes; pairs: one row per layer: layer, varying, pairs, near
    copies (pairs correlated above 0.9), opposites (below −0.9). distinct: one row per layer and one for the "whole
    path": layer, images, distinct, share (distinct over images), most common (how often the most frequent code
    comes). matrices: form of class paths (`UNION`, `USUAL`) → (classes, classes) Jaccard similarity of class paths.
    within: one row per form and class: class, class path (the form), images, own (mean share of its images' paths
    inside its class path), nearest other (inside the nearest other class path), resembles (share of images whose
    most similar class path is their own). layers: separation per layer and of the "whole path": layer, separation,
    neighbours, and, where other values stand beside codes, values ("codes" are ours). points: layer → (images, 2).
    labels: (images,). ablation: curves. static: one row per set of classes: classes (how many), filters kept,
    parameters, MACs with every filter on (shares of the whole network's), accuracy, before. rivals: detection on
    codes beside other notions of path, None when left out. seconds: stage → wall clock.
    """

    title: str
    command: str
    classes: Sequence[str]
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    main: float
    curve: Rows
    latency: Rows
    history: Rows
    losses: Rows
    firing: Mapping[str, Floats]
    filters: Rows
    alike: Mapping[str, Floats]
    pairs: Rows
    distinct: Rows
    matrices: Mapping[str, Floats]
    within: Rows
    layers: Rows
    points: Mapping[str, Floats]
    labels: NDArray[np.int64]
    ablation: Sequence[Curve]
    static: Rows
    rivals: RivalsFindings | None
    seconds: Mapping[str, float]

    def of(self, target: float) -> Mapping[str, Any]:
        """The row of the curve for ``target``; empty where it is missing."""
        return next((row for row in self.curve if row["target"] == target), {})

    @property
    def dense(self) -> Mapping[str, Any]:
        """The row of the curve for the dense network."""
        return self.curve[0]
