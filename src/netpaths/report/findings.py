"""What a report shows, as one value: filled by the studies, drawn by this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from netpaths.ablation import Curve
from netpaths.detection import Features
from netpaths.detection.evaluation import Evaluation
from netpaths.path import Path


@dataclass(frozen=True, eq=False)
class Example:
    """One image with its path.

    image: (channels, height, width) in [0, 1]. label: true class, -1 where unknown. similarity: per layer, the share
    of its path inside the class path of its predicted class. class_similarity: the same over all layers, per class.
    runner_up: the class with the second largest logit. steps: how the path was found, in sentences.
    """

    image: torch.Tensor
    path: Path
    label: int
    similarity: Mapping[str, float] = field(default_factory=dict)
    class_similarity: Mapping[int, float] = field(default_factory=dict)
    runner_up: int | None = None
    steps: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Flagged:
    """One flagged image with the reason.

    original: the clean source image. reasons: rows (layer, rank, value, clean mean, z), most suspicious first.
    """

    example: Example
    original: torch.Tensor
    attack: str
    score: float
    threshold: float
    reasons: Sequence[tuple[str, int, float, float, float]]


@dataclass(frozen=True, eq=False)
class Findings:
    """Everything one run found.

    model: name, parameters, fingerprint, accuracy. data: name, classes, sizes. settings: resolved options and seed.
    operations: rows of `Graph.operations`. example: a clean image's path. class_matrix: (classes, classes) Jaccard.
    densities: kind → node → overall density; density: kind → overall density; growth: kind → density after merging
    1, 2, … classes. attacks: one row per attack (name, options, tried, successful, success_rate, mean l2, linf, l0,
    seconds). features: test rows. scores: detector → (rows,) score of every feature row. evaluation: metrics of every
    detector and attack. flagged: of each attack the flagged image with the median score. ablation: curves. seconds:
    stage → wall-clock time. command: what made it. seeds: AUROC per detector, attack and split seed. unseen: rows of
    the evaluation on attacks left out of fitting. sweeps: AUROC against the number of layers and of images fitted on.
    cost: milliseconds per image of a forward pass, of the paths of both ranks, and of the whole check, at ``batch``
    images at once.
    """

    title: str
    command: str
    class_names: Sequence[str]
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    operations: Sequence[Mapping[str, Any]]
    example: Example
    class_matrix: NDArray[np.float64]
    densities: Mapping[str, Mapping[str, float]]
    density: Mapping[str, float]
    growth: Mapping[str, Sequence[float]]
    attacks: Sequence[Mapping[str, Any]]
    features: Features
    scores: Mapping[str, NDArray[np.float64]]
    thresholds: Mapping[str, float]
    main_detector: str
    alpha: float
    evaluation: Evaluation
    flagged: Sequence[Flagged]
    ablation: Sequence[Curve]
    seconds: Mapping[str, float]
    seeds: Sequence[Mapping[str, Any]] = ()
    unseen: Sequence[Mapping[str, Any]] = ()
    sweeps: Sequence[Mapping[str, Any]] = ()
    cost: Mapping[str, float] = field(default_factory=dict)
