"""How detection depends on what it is given: layers from the end, images to fit on, images in the class paths.

The first two reuse the features of one experiment, so they cost no extraction (Qiu et al. 2019, Fig. 9 and 12). The
third builds smaller profiles and extracts again; it is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpaths.attacks import AttackResult
from netpaths.data import Images
from netpaths.detection import DETECTORS, Features, auroc
from netpaths.profile import Profile
from netpaths.studies.experiment import MAIN, Plan, Progress, Rows, Subject, balanced_order, collect_rows, split

SAMPLES = (10, 20, 50, 100, 200, 500, 1000)
NAMES = (MAIN, "forest")


def sweeps(plan: Plan, rows: Rows) -> list[dict[str, Any]]:
    """AUROC over all attacks against the number of layers from the end and of source images fitted on.

    Returns one row per detector and point: sweep, value, detector, auroc and its spread over ``plan.seeds``.
    """
    parts = [_parts(plan, rows, seed) for seed in plan.seeds]
    layers = list(dict.fromkeys(layer for layer, _ in rows.main.names))
    found = []
    for name in NAMES:
        for count in range(1, len(layers) + 1):
            kept = set(layers[-count:])
            values = [_auroc(name, _narrow(fit, kept), _narrow(test, kept)) for fit, test in parts]
            found.append(_row("layers", count, name, values))
        for count in _sizes(parts[0][0]):
            values = [_auroc(name, _first(fit, count, seed), test) for seed, (fit, test) in zip(plan.seeds, parts)]
            found.append(_row("samples", count, name, values))
    return found


def profile_sweep(
    subject: Subject,
    plan: Plan,
    clean: Images,
    calibration: Images,
    results: Mapping[str, AttackResult],
    progress: Progress,
) -> list[dict[str, Any]]:
    """AUROC over all attacks, and the similarity of clean images, against training images a class in the profile.

    Rows as `sweeps` gives them, with the mean rank-1 similarity of clean test images.
    """
    order, classes = balanced_order(subject.train.labels), len(np.unique(subject.train.labels))
    found = []
    for size in plan.profile_sizes:
        chosen = subject.train.take(np.sort(order[: size * classes]))
        title, total = f"class paths of {size} images a class", len(chosen)
        progress(title, 0, total)
        profile = Profile.build(
            plan.method,
            subject.graph,
            chosen.batches(plan.path_batch),
            progress=lambda so_far, title=title, total=total: progress(title, so_far.seen, total),  # type: ignore[misc]
        )
        rows = collect_rows(subject, plan, profile, clean, calibration, results, progress)
        parts = [_parts(plan, rows, seed) for seed in plan.seeds]
        first = [index for index, (_, rank) in enumerate(rows.main.names) if rank == 1]
        similarity = float(np.nanmean(rows.main.values[rows.held_back][:, first]))
        for name in NAMES:
            values = [_auroc(name, fit, test) for fit, test in parts]
            found.append({**_row("profile", size, name, values), "clean_similarity": similarity})
    return found


def _parts(plan: Plan, rows: Rows, seed: int) -> tuple[Features, Features]:
    parts = split(plan, rows, seed)
    fit, test = rows.main.take(parts["fit"]), rows.main.take(parts["test"])
    return fit.take(fit.is_counted & ~fit.is_control), test.take(test.is_counted & ~test.is_control)


def _narrow(features: Features, layers: set[str]) -> Features:
    kept = [index for index, (layer, _) in enumerate(features.names) if layer in layers]
    return replace(features, values=features.values[:, kept], names=tuple(features.names[index] for index in kept))


def _sizes(fit: Features) -> Sequence[int]:
    total = len(np.unique(fit.sources))
    return [count for count in SAMPLES if count < total] + [total]


def _first(fit: Features, count: int, seed: int) -> Features:
    """The rows of ``count`` source images drawn at random."""
    sources = np.unique(fit.sources)
    chosen: NDArray[np.str_] = np.random.default_rng(seed).permutation(sources)[:count]
    return fit.take(np.isin(fit.sources, chosen))


def _auroc(name: str, fit: Features, test: Features) -> float:
    return auroc(DETECTORS[name]().fit(fit).score(test), test.is_adversarial)


def _row(sweep: str, value: int, detector: str, values: Sequence[float]) -> dict[str, Any]:
    return {
        "sweep": sweep,
        "value": value,
        "detector": detector,
        "auroc": float(np.mean(values)),
        "sd": float(np.std(values)),
    }
