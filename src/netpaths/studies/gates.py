"""What gates say about images: how well they separate the classes, and how the images of one class fall into groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpaths.path import Path
from netpaths.report.routing_findings import WHOLE

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HARDEST = 0.1
"""Share of a class's images, those least sure of their class, that count as hard beside the wrong ones."""


def unit_values(paths: Sequence[Path], nodes: Sequence[str] | None = None) -> dict[str, Floats]:
    """Per node the channel values of every path: (paths, channels)."""
    wanted = paths[0].nodes("channel") if nodes is None else nodes
    return {node: np.stack([path.channels(node).double().numpy() for path in paths]) for node in wanted}


def side_by_side(values: Mapping[str, Floats]) -> Floats:
    """All nodes' values in one table: (images, units)."""
    return np.concatenate(list(values.values()), axis=1)


def with_whole(values: Mapping[str, Floats]) -> dict[str, Floats]:
    """The values of every node, and of all nodes side by side."""
    return {**values, WHOLE: side_by_side(values)}


def separation(values: Floats, labels: Ints) -> dict[str, float]:
    """How well rows of one class lie together: mean silhouette, and the share whose nearest other row has their class.

    values: (images, units). labels: (images,), at least two classes with two images. NaN where that is not so, or
    where all rows are alike.
    """
    from sklearn.metrics import silhouette_score
    from sklearn.neighbors import NearestNeighbors

    _, counts = np.unique(labels, return_counts=True)
    if len(counts) < 2 or counts.max() < 2 or not np.ptp(values, axis=0).any():
        return {"separation": float("nan"), "neighbours": float("nan")}
    nearest = NearestNeighbors(n_neighbors=1).fit(values).kneighbors(return_distance=False)[:, 0]
    return {
        "separation": float(silhouette_score(values, labels)),
        "neighbours": float((labels[nearest] == labels).mean()),
    }


def embedding(values: Floats, seed: int) -> Floats:
    """The rows of ``values`` (images, units) as points of a plane: (images, 2); t-SNE, started from PCA."""
    from sklearn.manifold import TSNE

    if not np.ptp(values, axis=0).any():
        return np.zeros((len(values), 2))
    perplexity = min(30.0, max((len(values) - 1) / 3, 1.0))
    start: Any = "pca" if values.shape[1] >= 2 else "random"
    return np.asarray(TSNE(perplexity=perplexity, init=start, random_state=seed).fit_transform(values), np.float64)


def layer_rows(values: Mapping[str, Floats], labels: Ints, what: str) -> list[dict[str, Any]]:
    """One row per node, and one for all nodes side by side, with `separation`; ``what`` says what the values are."""
    tables = with_whole(values)
    return [{"values": what, "layer": node, **separation(own, labels)} for node, own in tables.items()]


@dataclass(frozen=True, eq=False)
class Groups:
    """The images of one class in groups: members (images,) group numbers, 0 for the largest; hard (images,) bool."""

    label: int
    members: Ints
    hard: NDArray[np.bool_]
    silhouette: float

    def rows(self, name: str) -> list[dict[str, Any]]:
        """One row per group: its size, its hard images, and the share of hard images in it and in the class."""
        return [
            {
                "class": name,
                "cluster": group + 1,
                "images": int((self.members == group).sum()),
                "hard": int(self.hard[self.members == group].sum()),
                "share hard": float(self.hard[self.members == group].mean()),
                "share hard in the class": float(self.hard.mean()),
                "silhouette": self.silhouette,
            }
            for group in range(int(self.members.max()) + 1)
        ]


def group(values: Floats, label: int, hard: NDArray[np.bool_], clusters: int) -> Groups:
    """Agglomerative (Ward) clusters of the whole paths ``values`` (images, units) of one class."""
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.metrics import silhouette_score

    clusters = min(clusters, len(values) - 1)
    found = AgglomerativeClustering(n_clusters=clusters).fit_predict(values)
    order = np.argsort(-np.bincount(found), kind="stable")
    members = np.argsort(order)[found]
    score = float(silhouette_score(values, members)) if 2 <= clusters < len(values) else float("nan")
    return Groups(label, members.astype(np.int64), hard, score)


def hard_images(logits: Floats, labels: Ints) -> NDArray[np.bool_]:
    """Images predicted wrongly, and the `HARDEST` share with the smallest probability of their class: (images,).

    logits: (images, classes). The paper calls images hard that stand out; this measure is ours.
    """
    from scipy.special import softmax

    own = softmax(logits, axis=1)[np.arange(len(labels)), labels]
    few = max(round(HARDEST * len(labels)), 1)
    return np.asarray((logits.argmax(1) != labels) | (np.argsort(np.argsort(own, kind="stable")) < few))
