"""What the report on critical data routing paths shows, as one value: filled by the study, drawn by this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpaths.ablation import Curve
from netpaths.report.routing_figures import Cluster

Rows = Sequence[Mapping[str, Any]]

GATES, ACTIVATIONS = "gates", "mean activations"
"""What rows of detection and of separation call their values."""

WHOLE = "whole path"
"""What rows per layer call all layers together."""


@dataclass(frozen=True, eq=False)
class RoutingFindings:
    """Everything one run found; rows are tables.

    sparsity: method, accuracy of gates and of hard masks, share of channels kept. sweep: the same against γ and steps.
    ablation: curves. layers: separation of the classes per layer, by gates and by mean activations. points: node →
    (images, 2), labels: (images,). clusters: rows per class and cluster; montage: the clusters of the class ``shown``.
    attacks: one row per attack. detection: AUROC per classifier and training images a class. dead: share of selected
    channels that were never active. agreement: Jaccard between settings. curves: accuracy with and without the
    strongest units of every notion of path. published: the papers' own figures, by table. seconds: stage → wall clock.
    """

    title: str
    command: str
    class_names: Sequence[str]
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    sparsity: Rows
    sweep: Rows
    ablation: Sequence[Curve]
    layers: Rows
    points: Mapping[str, NDArray[np.float64]]
    labels: NDArray[np.int64]
    clusters: Rows
    montage: Sequence[Cluster]
    shown: str
    attacks: Rows
    detection: Rows
    dead: Rows
    agreement: Rows
    curves: Rows
    published: Mapping[str, Rows]
    seconds: Mapping[str, float]

    def of(self, method: str) -> Mapping[str, Any]:
        """The row of ``method`` in the table of sparsity; empty where it is missing."""
        return next((row for row in self.sparsity if row["method"] == method), {})
