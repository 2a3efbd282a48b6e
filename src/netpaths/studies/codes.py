"""What the codes of a decoupled network say: when filters fire, for which classes, and how many paths there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray

from netpaths.path import Path, Site
from netpaths.profile import Profile
from netpaths.report.routing_findings import WHOLE
from netpaths.studies.gates import side_by_side, unit_values, with_whole

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COPIES = 0.9
"""Two filters whose codes correlate above this are near copies, below its negative opposites."""


def firing(profile: Profile) -> dict[str, Floats]:
    """By layer the share of a class's images for which each filter is on: (classes, filters).

    profile: of calculation paths, with counts.
    """
    labels = list(profile)
    return {
        node: np.stack([profile.counts[label][Site(node, "channel")] / profile.images[label] for label in labels])
        for node in profile[labels[0]].nodes("channel")
    }


def filter_rows(rates: Mapping[str, Floats], nats: Mapping[str, float]) -> list[dict[str, Any]]:
    """One row per layer: how many filters are never, always or sometimes on, and how much classes differ in them."""
    rows = []
    for node, own in rates.items():
        off, on = (own == 0).all(0), (own == 1).all(0)
        varying = ~(off | on)
        spread = np.ptp(own[:, varying], axis=0)
        rows.append(
            {
                "layer": node,
                "filters": own.shape[1],
                "always off": int(off.sum()),
                "always on": int(on.sum()),
                "varying": int(varying.sum()),
                "class range": float(spread.mean()) if varying.any() else float("nan"),
                "nats": nats.get(node, float("nan")),
            }
        )
    return rows


def alike(values: Mapping[str, Floats]) -> dict[str, Floats]:
    """By layer the correlation of when two filters are on: (filters, filters), NaN where one of them never changes.

    values: by layer the codes of the images, (images, filters).
    """
    found = {}
    for node, own in values.items():
        changes = own.std(0) > 0
        matrix = np.full((own.shape[1],) * 2, np.nan)
        if changes.any():
            matrix[np.ix_(changes, changes)] = np.atleast_2d(np.corrcoef(own[:, changes], rowvar=False))
        found[node] = matrix
    return found


def pair_rows(matrices: Mapping[str, Floats]) -> list[dict[str, Any]]:
    """One row per layer: how many pairs of filters are on for the same images, and for opposite ones."""
    rows = []
    for node, matrix in matrices.items():
        varying = ~np.isnan(np.diag(matrix))
        pairs = matrix[np.ix_(varying, varying)][np.triu_indices(int(varying.sum()), 1)]
        rows.append(
            {
                "layer": node,
                "varying": int(varying.sum()),
                "pairs": len(pairs),
                "near copies": int((pairs > COPIES).sum()),
                "opposites": int((pairs < -COPIES).sum()),
            }
        )
    return rows


def distinct_rows(values: Mapping[str, Floats]) -> list[dict[str, Any]]:
    """One row per layer, and one for whole paths: how many different codes the images have."""
    rows = []
    for node, own in with_whole(values).items():
        _, counts = np.unique(own, axis=0, return_counts=True)
        rows.append(
            {
                "layer": node,
                "images": len(own),
                "distinct": len(counts),
                "share": len(counts) / len(own),
                "most common": float(counts.max() / len(own)),
            }
        )
    return rows


def distinct_share(values: Mapping[str, Floats]) -> float:
    """The share of images whose whole path no earlier image has."""
    return float(next(row["share"] for row in distinct_rows(values) if row["layer"] == WHOLE))


def nats(
    train: Mapping[str, Floats], train_labels: Ints, test: Mapping[str, Floats], test_labels: Ints
) -> dict[str, float]:
    """By layer, and for whole paths, a lower bound on what a code says about the class, in nats.

    H(Y) minus the cross entropy of a logistic regression (Barber and Agakov, 2003), fitted on the codes (images,
    filters) of training images and measured on those of test images; 0 where that is negative.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    _, counts = np.unique(test_labels, return_counts=True)
    shares = counts / counts.sum()
    certain = float(-(shares * np.log(shares)).sum())
    found = {}
    for node, own in {**train, WHOLE: side_by_side(train)}.items():
        held = side_by_side(test) if node == WHOLE else test[node]
        if not np.ptp(own, axis=0).any():
            found[node] = 0.0
            continue
        with catch_warnings():
            simplefilter("ignore", ConvergenceWarning)  # a classifier that could be better bounds as well
            model = LogisticRegression(C=1.0, max_iter=500).fit(own, train_labels)
        log_odds = model.predict_log_proba(held)
        places = np.searchsorted(model.classes_, test_labels)
        cross = float(-log_odds[np.arange(len(held)), places].mean())
        found[node] = max(certain - cross, 0.0)
    return found


def class_path_rows(
    values: Mapping[str, Floats],
    predicted: Ints,
    labels: Ints,
    class_paths: Mapping[int, Path],
    form: str,
    names: Sequence[str],
) -> list[dict[str, Any]]:
    """One row per class: how far the paths of its images lie in its class path, and which class path they resemble.

    values: by layer the codes of the images, (images, filters). predicted, labels: (images,); images that the
    network gets wrong are left out. form: what the class paths are. own, nearest other: mean share of an image's
    path inside its class path, and inside the nearest other. resembles: the share of images with no more similar
    class path (Jaccard) than their own; equal ones share.
    """
    images = side_by_side(values)
    classes = side_by_side(unit_values(list(class_paths.values())))
    shared, sizes = images @ classes.T, images.sum(1, keepdims=True)
    inside, alike = shared / sizes, shared / (sizes + classes.sum(1) - shared)
    nearest = alike == alike.max(1, keepdims=True)
    found = []
    for place, label in enumerate(class_paths):
        mine = (predicted == label) & (labels == label)
        others = np.delete(inside[mine], place, axis=1)
        known = bool(mine.any())
        found.append(
            {
                "class": names[label],
                "class path": form,
                "images": int(mine.sum()),
                "own": float(inside[mine, place].mean()) if known else float("nan"),
                "nearest other": float(others.max(1).mean()) if known and others.size else float("nan"),
                "resembles": float((nearest[mine, place] / nearest[mine].sum(1)).mean()) if known else float("nan"),
            }
        )
    return found
