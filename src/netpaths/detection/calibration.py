"""From scores to decisions: the conformal threshold, and the false-alarm rate that it really has."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from netpaths.errors import BadInput, BadOption


def conformal_threshold(clean_scores: npt.ArrayLike, fpr: float = 0.01) -> float:
    """The ⌈(n+1)(1−fpr)⌉-th smallest of n clean calibration scores; flag what is strictly above it.

    If calibration and test scores are exchangeable, a clean image is flagged with probability at most
    ``fpr``. Raises BadOption when n is too small for ``fpr`` (it names the n that is needed) and BadInput for
    NaN scores. Source: split conformal prediction (Vovk et al. 2005, *Algorithmic Learning in a Random
    World*).
    """
    scores = np.asarray(clean_scores, dtype=np.float64)
    if scores.ndim != 1 or np.isnan(scores).any():
        raise BadInput(f"calibration scores must be one number per image without NaN, not of shape {scores.shape}")
    rank = len(scores) + 1 - (len(scores) + 1) * _exact(fpr) // 1
    if rank > len(scores):
        raise BadOption(
            f"a false-alarm rate of {fpr:g} needs at least {images_needed(fpr)} clean calibration images, "
            f"got {len(scores)}"
        )
    return float(np.partition(scores, rank - 1)[rank - 1])


def images_needed(fpr: float) -> int:
    """The least number of clean calibration images that gives a finite threshold at ``fpr``."""
    return int(-(-1 // _exact(fpr))) - 1


def _exact(fpr: float) -> Fraction:
    """``fpr`` as the decimal it was written as: 0.1 means one tenth, so ranks do not hang on rounding."""
    if not 0 < fpr < 1:
        raise BadOption(f"the false-alarm rate must lie between 0 and 1, such as 0.01, not {fpr}")
    return Fraction(str(float(fpr)))


@dataclass(frozen=True)
class Rate:
    """A share ``count / n`` with its Clopper–Pearson interval [low, high]."""

    count: int
    n: int
    rate: float
    low: float
    high: float


def realised(flags: npt.ArrayLike, confidence: float = 0.95) -> Rate:
    """How often images were flagged: ``flags`` (n,) bool gives a Rate with an exact binomial interval.

    Raises BadOption for a confidence outside (0, 1) and BadInput for no flags at all.
    Source: Clopper & Pearson 1934, *Biometrika* 26.
    """
    from scipy.stats import beta

    if not 0 < confidence < 1:
        raise BadOption(f"confidence must lie between 0 and 1, such as 0.95, not {confidence}")
    flagged = np.asarray(flags, dtype=np.bool_)
    if flagged.ndim != 1 or not flagged.size:
        raise BadInput(f"a rate needs at least one flag in one dimension, got shape {flagged.shape}")
    n, count, tail = flagged.size, int(flagged.sum()), (1 - confidence) / 2
    low = float(beta.ppf(tail, count, n - count + 1)) if count else 0.0
    high = float(beta.ppf(1 - tail, count + 1, n - count)) if count < n else 1.0
    return Rate(count, n, count / n, low, high)
