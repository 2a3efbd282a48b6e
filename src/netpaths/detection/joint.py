"""Joint similarity: one non-negative weight per layer and rank, fitted to its optimum.

Paper: similarity Σ ω J − Σ ω' J' with ω, ω' ≥ 0, elastic net (l1 ratio 0.5), SGD for 10,000 epochs; small =
adversarial. Artifact: scikit-learn's SGDClassifier with hinge loss, alpha 1e-4, no intercept, and without the
clipping to ω ≥ 0. Here: the same model and penalty with the *logistic* loss and both classes weighing the
same. Like the hinge it is convex and grows linearly, so that a few odd images do not dominate (a squared loss
also punishes rows that are right by a wide margin); unlike the hinge it is smooth and strictly convex, so
that with the l2 part the optimum is unique and independent of seed, epochs and step size. With ω ≥ 0 the l1
part is linear, and the whole is one smooth problem with bounds, which L-BFGS-B solves. An intercept,
unpenalised and left out of the score, is fitted because the threshold is calibrated anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from netpaths.detection.base import UNKNOWN_RANK, Detector, column_fill, fill_missing
from netpaths.detection.features import Bools, Floats, Names
from netpaths.errors import BadOption


class JointSimilarity(Detector):
    """Score −(Σ ω_l J_l − Σ ω'_l J'_l) with ω, ω' ≥ 0: log-odds of being adversarial, up to a constant.

    Minimises the class-balanced mean logistic loss + ``strength`` · (``l1_ratio`` |ω|₁ + (1 − ``l1_ratio``)
    |ω|²/2); similarities are unitless and used as they are. NaN becomes the clean mean of its column and so
    adds no suspicion. Fitted: ``weights_`` (d,) ≥ 0 (ω at rank-1 columns, ω' at the others), ``signs_`` (d,)
    ∓1, ``intercept_``, ``fill_`` (d,). `fit` raises BadOption for columns without a rank. Source: Qiu et al.,
    CVPR 2019, joint similarity, with our loss.
    """

    name = "joint"

    def __init__(self, l1_ratio: float = 0.5, strength: float = 1e-4) -> None:
        self.l1_ratio = l1_ratio
        self.strength = strength

    def _fit(self, values: Floats, adversarial: Bools, names: Names) -> None:
        self._check(names)
        clean = values[~adversarial]
        unseen = np.isnan(clean).all(axis=0)
        self.fill_ = np.where(unseen, column_fill(values, np.mean), column_fill(clean, np.mean))
        self.signs_ = np.array([-1.0 if rank == 1 else 1.0 for _, rank in names])
        signed = fill_missing(values, self.fill_) * self.signs_
        self.weights_, self.intercept_ = _fit_logistic(signed, adversarial, self.strength, self.l1_ratio)

    def _check(self, names: Names) -> None:
        if not 0 <= self.l1_ratio <= 1:
            raise BadOption(f"l1_ratio must lie between 0 and 1, not {self.l1_ratio}")
        if not (np.isfinite(self.strength) and self.strength > 0):
            raise BadOption(f"strength must be a positive number, such as 1e-4, not {self.strength}")
        unknown = [layer for layer, rank in names if rank == UNKNOWN_RANK]
        if unknown:
            raise BadOption(
                f"joint similarity must know each column's rank, {unknown[0]!r} has none; pass names=[(layer, rank), …]"
            )

    def _score(self, values: Floats) -> Floats:
        terms = fill_missing(values, self.fill_) * (self.signs_ * self.weights_)
        return np.asarray(terms.sum(axis=1))  # unlike a matrix product, the same for a row alone and in a batch

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {
            "weights": self.weights_,
            "signs": self.signs_,
            "fill": self.fill_,
            "intercept": np.array([self.intercept_]),
        }

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        self.weights_, self.signs_, self.fill_ = arrays["weights"], arrays["signs"], arrays["fill"]
        if not self.weights_.shape == self.signs_.shape == self.fill_.shape or arrays["intercept"].shape != (1,):
            raise ValueError("its weights and signs differ in number")
        self.intercept_ = float(arrays["intercept"][0])


def _fit_logistic(signed: Floats, adversarial: Bools, strength: float, l1_ratio: float) -> tuple[Floats, float]:
    """The optimal weights (d,) ≥ 0 and intercept for ``signed`` features (n, d), by L-BFGS-B to its numerical
    floor.
    """
    from scipy.optimize import minimize

    truth = np.where(adversarial, 1.0, -1.0)
    share = 0.5 / np.where(adversarial, adversarial.sum(), (~adversarial).sum())
    mean = share @ signed  # centring changes the intercept only, and helps the solver
    centred = signed - mean

    def objective(point: Floats) -> tuple[float, Floats]:
        weights, intercept = point[:-1], point[-1]
        margin = truth * (centred @ weights + intercept)
        loss = share @ np.logaddexp(0.0, -margin)
        pull = -share * truth * np.exp(-np.logaddexp(0.0, margin))  # derivative by the score
        penalty = strength * (l1_ratio * weights.sum() + (1 - l1_ratio) / 2 * weights @ weights)
        slope = centred.T @ pull + strength * (l1_ratio + (1 - l1_ratio) * weights)
        return float(loss + penalty), np.append(slope, pull.sum())

    start = np.zeros(signed.shape[1] + 1)
    bounds = [(0.0, None)] * signed.shape[1] + [(None, None)]
    options = {"maxiter": 20_000, "maxfun": 100_000, "maxcor": 30, "ftol": 0.0, "gtol": 1e-9}
    point = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    return point[:-1], float(point[-1] - mean @ point[:-1])
