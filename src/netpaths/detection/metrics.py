"""Figures of merit of a score, with bootstrap intervals over source images.

Everywhere: scores (n,), larger = more suspicious, and truth (n,), true = adversarial. Ties count half in
AUROC; the others take thresholds between distinct scores only, as scikit-learn does, and nothing is
interpolated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from netpaths.detection.features import Bools, Floats
from netpaths.errors import BadInput, BadOption

ROUNDING = 1e-12  # a rate equal to its limit counts as within it
CHUNK = 4_000_000  # bootstrap weights held at once


@dataclass(frozen=True)
class Curve:
    """Weighted counts at or above each distinct score, descending: ``tp`` and ``fp`` (replicates, scores)."""

    tp: Floats
    fp: Floats

    @property
    def tpr(self) -> Floats:
        """True-positive rates; NaN for a replicate without positives."""
        return _ratio(self.tp, self.tp[:, -1:])

    @property
    def fpr(self) -> Floats:
        """False-positive rates; NaN for a replicate without negatives."""
        return _ratio(self.fp, self.fp[:, -1:])


@dataclass(frozen=True)
class Interval:
    """A figure with the ends of its confidence interval; NaN ends where there is none."""

    value: float
    low: float = float("nan")
    high: float = float("nan")


def auroc(scores: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Probability that an adversarial image scores above a clean one, ties counting half."""
    return _plain(scores, truth, _auroc)


def aupr(scores: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Average precision: Σ (recall step) · precision; its chance level is the share of adversarial rows."""
    return _plain(scores, truth, _aupr)


def tpr_at_fpr(scores: npt.ArrayLike, truth: npt.ArrayLike, fpr: float) -> float:
    """The largest true-positive rate of a threshold whose false-positive rate is at most ``fpr``."""
    return _plain(scores, truth, _tpr_at(fpr))


def fpr_at_tpr(scores: npt.ArrayLike, truth: npt.ArrayLike, tpr: float = 0.95) -> float:
    """The smallest false-positive rate of a threshold whose true-positive rate is at least ``tpr``."""
    return _plain(scores, truth, _fpr_at(tpr))


def all_metrics(
    scores: npt.ArrayLike,
    truth: npt.ArrayLike,
    sources: npt.ArrayLike | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Interval]:
    """Every figure of `METRICS` with its percentile bootstrap interval.

    ``sources`` (n,) names each row's source image: images are drawn with replacement and bring all their
    rows; without it every row is its own image. ``bootstrap=0`` leaves the intervals NaN. Raises BadInput for
    NaN scores, lengths that disagree or one class only. Source: Efron & Tibshirani 1993, cluster bootstrap.
    """
    values, adversarial = _check(scores, truth)
    if bootstrap < 0 or not 0 < confidence < 1:
        raise BadOption(f"bootstrap must be at least 0 and confidence in (0, 1), not {bootstrap} and {confidence}")
    points = _evaluate(values, adversarial, np.ones((1, len(values))))
    drawn = _bootstrap(values, adversarial, sources, bootstrap, seed)
    tails = [50 * (1 - confidence), 50 * (1 + confidence)]
    return {name: Interval(float(points[name][0]), *_percentiles(drawn[name], tails)) for name in METRICS}


def paired_difference(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    truth: npt.ArrayLike,
    sources: npt.ArrayLike | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Interval:
    """AUROC of ``first`` minus AUROC of ``second``, scores (n,) of the same rows, with its percentile interval.

    Both are evaluated on the same drawn images, so that what they share cancels; otherwise as `all_metrics`.
    """
    own, other = (_check(scores, truth) for scores in (first, second))
    drawn = [_bootstrap(*checked, sources, bootstrap, seed)["auroc"] for checked in (own, other)]
    tails = [50 * (1 - confidence), 50 * (1 + confidence)]
    return Interval(auroc(*own) - auroc(*other), *_percentiles(drawn[0] - drawn[1], tails))


def _bootstrap(
    scores: Floats, truth: Bools, sources: npt.ArrayLike | None, bootstrap: int, seed: int
) -> dict[str, Floats]:
    groups = np.arange(len(scores)) if sources is None else np.asarray(sources)
    if groups.shape != scores.shape:
        raise BadInput(f"sources must have shape {scores.shape} like the scores, not {groups.shape}")
    _, member = np.unique(groups, return_inverse=True)
    count, rng, step = int(member.max()) + 1, np.random.default_rng(seed), max(1, CHUNK // len(scores))
    drawn: list[dict[str, Floats]] = []
    for start in range(0, bootstrap, step):
        times = rng.multinomial(count, np.full(count, 1 / count), size=min(step, bootstrap - start))
        drawn.append(_evaluate(scores, truth, times[:, member].astype(np.float64)))
    return {name: np.concatenate([part[name] for part in drawn] or [np.empty(0)]) for name in METRICS}


def _percentiles(values: Floats, tails: list[float]) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if not known.size:
        return float("nan"), float("nan")
    low, high = np.percentile(known, tails)
    return float(low), float(high)


def _evaluate(scores: Floats, truth: Bools, weights: Floats) -> dict[str, Floats]:
    curve = _curve(scores, truth, weights)
    return {name: metric(curve) for name, metric in METRICS.items()}


def _curve(scores: Floats, truth: Bools, weights: Floats) -> Curve:
    """Cumulated weights (replicates, distinct scores) for ``weights`` (replicates, n)."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.nan) != 0)
    sides = [np.add.reduceat((weights * side)[:, order], starts, axis=1) for side in (truth, ~truth)]
    return Curve(*(np.cumsum(side, axis=1) for side in sides))


def _auroc(curve: Curve) -> Floats:
    tpr, fpr = curve.tpr, curve.fpr
    rise = np.diff(tpr, axis=1, prepend=0.0)
    mean_fpr = (fpr + np.concatenate([np.zeros_like(fpr[:, :1]), fpr[:, :-1]], axis=1)) / 2
    return np.asarray((rise * (1 - mean_fpr)).sum(axis=1))


def _aupr(curve: Curve) -> Floats:
    seen = curve.tp + curve.fp
    precision = np.divide(curve.tp, seen, out=np.zeros_like(seen), where=seen > 0)
    rise = np.diff(curve.tpr, axis=1, prepend=0.0)
    return np.asarray((rise * precision).sum(axis=1))


def _tpr_at(limit: float) -> Callable[[Curve], Floats]:
    def metric(curve: Curve) -> Floats:
        allowed = np.where(curve.fpr <= limit + ROUNDING, curve.tpr, 0.0).max(axis=1)
        return np.where(np.isnan(curve.fpr[:, -1]), np.nan, allowed)

    return metric


def _fpr_at(limit: float) -> Callable[[Curve], Floats]:
    def metric(curve: Curve) -> Floats:
        allowed = np.where(curve.tpr >= limit - ROUNDING, curve.fpr, 1.0).min(axis=1)
        return np.where(np.isnan(curve.tpr[:, -1]), np.nan, allowed)

    return metric


METRICS: Mapping[str, Callable[[Curve], Floats]] = MappingProxyType(
    {
        "auroc": _auroc,
        "aupr": _aupr,
        "tpr_at_1_fpr": _tpr_at(0.01),
        "tpr_at_5_fpr": _tpr_at(0.05),
        "fpr_at_95_tpr": _fpr_at(0.95),
    }
)


def _plain(scores: npt.ArrayLike, truth: npt.ArrayLike, metric: Callable[[Curve], Floats]) -> float:
    values, adversarial = _check(scores, truth)
    return float(metric(_curve(values, adversarial, np.ones((1, len(values)))))[0])


def _check(scores: npt.ArrayLike, truth: npt.ArrayLike) -> tuple[Floats, Bools]:
    values, flags = np.asarray(scores, dtype=np.float64), np.asarray(truth, dtype=np.bool_)
    if values.ndim != 1 or flags.shape != values.shape:
        raise BadInput(
            f"scores and truth must be two equally long lists, not of shapes {values.shape} and {flags.shape}"
        )
    if not np.isfinite(values).all():
        raise BadInput("scores must be finite; found NaN or infinity")
    if flags.all() or not flags.any():
        raise BadInput(f"metrics need clean and adversarial rows, got {int((~flags).sum())} and {int(flags.sum())}")
    return values, flags


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
