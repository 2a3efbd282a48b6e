"""From images to detector features: per-layer similarities of each image's paths to its classes' paths.

Rank-1 paths are compared with the class path of the rank-1 class, rank-2 paths with that of the rank-2 class
(Qiu et al. 2019, section 4.2). Only linear and convolution layers are features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from netpaths.detection.features import CLEAN, Features
from netpaths.errors import BadOption
from netpaths.graph import Graph, PathMethod, RankedMethod
from netpaths.path import Path
from netpaths.profile import Profile
from netpaths.similarity import image_class_similarity


def extract_features(
    method: PathMethod,
    graph: Graph,
    profile: Profile,
    images: torch.Tensor,
    labels: Sequence[int] | np.ndarray | None = None,
    sources: Iterable[object] | None = None,
    attack: str = CLEAN,
    control: bool = False,
    kind: str | None = None,
    layers: Sequence[str] | None = None,
    batch_size: int = 64,
) -> Features:
    """Per-layer similarities of ``images`` (n, *input shape) to the class paths of ``profile``.

    labels: (n,) true classes, -1 where unknown. sources: n identifiers of the source images. attack: the name stored
    with every row; control marks it as no attack. kind: kind of sites compared, synapses by default. layers: nodes
    compared, by default every linear and convolution layer of the paths. Returns Features with one column per
    (layer, rank); a runner-up class that the profile does not cover gives no information, NaN. Raises EmptyClass when
    an image is predicted as a class that the profile does not cover.
    """
    about = About(labels, sources, attack, control)
    return extract_kinds(method, graph, profile, images, (kind,), about, layers, batch_size)[kind]


@dataclass(frozen=True)
class About:
    """Where images come from: true classes, identifiers of the source images, the attack's name."""

    labels: Sequence[int] | np.ndarray | None = None
    sources: Iterable[object] | None = None
    attack: str = CLEAN
    control: bool = False


def extract_kinds(
    method: PathMethod,
    graph: Graph,
    profile: Profile,
    images: torch.Tensor,
    kinds: Sequence[str | None],
    about: About,
    layers: Sequence[str] | None = None,
    batch_size: int = 64,
    progress: Callable[[int], None] | None = None,
) -> dict[str | None, Features]:
    """The features of several kinds of sites from one extraction; otherwise as `extract_features`.

    progress: called after every batch with the number of images done.
    """
    rows: dict[str | None, list[dict[tuple[str, int], float]]] = {kind: [] for kind in kinds}
    predicted: list[int] = []
    for start in range(0, len(images), batch_size):
        ranked = _paths(method, graph, images[start : start + batch_size])
        for kind, own in rows.items():
            own += [_row(paths, profile, kind, layers) for paths in zip(*ranked)]
        predicted += [-1 if path.predicted is None else path.predicted for path in ranked[0]]
        if progress is not None:
            progress(len(predicted))
    if not predicted:
        raise BadOption("there are no images to extract features from")
    return {kind: _features(own, predicted, about) for kind, own in rows.items()}


def _features(rows: list[dict[tuple[str, int], float]], predicted: list[int], about: About) -> Features:
    names, count = tuple(rows[0]), len(rows)
    return Features(
        values=np.array([[row[name] for name in names] for row in rows], dtype=np.float64),
        names=names,
        sources=np.array([str(source) for source in (range(count) if about.sources is None else about.sources)]),
        attacks=np.array([about.attack] * count),
        predicted=np.array(predicted, dtype=np.int64),
        labels=np.full(count, -1) if about.labels is None else np.asarray(about.labels, dtype=np.int64),
        controls=(about.attack,) if about.control else (),
    )


def _paths(method: PathMethod, graph: Graph, images: torch.Tensor) -> list[list[Path]]:
    if isinstance(method, RankedMethod):
        ranks = tuple(rank for rank in method.ranks if rank <= graph.classes)
        return method.extract_ranks(graph, images, ranks)
    return [method.extract(graph, images)]


def _row(
    paths: Sequence[Path], profile: Profile, kind: str | None, layers: Sequence[str] | None
) -> dict[tuple[str, int], float]:
    row = {}
    for rank, path in enumerate(paths, 1):
        label = path.predicted if path.seed is None else path.seed
        unknown = rank > 1 and label not in profile
        class_path = path if unknown else profile[-1 if label is None else label]
        for node, value in image_class_similarity(path, class_path, kind, layers).items():
            row[(node, rank)] = float("nan") if unknown else value
    return row
