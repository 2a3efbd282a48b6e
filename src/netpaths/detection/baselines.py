"""What a path detector has to beat: scores from logits, penultimate features or squeezed images, larger =
more suspicious.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from netpaths.detection.features import Floats
from netpaths.errors import BadInput, BadOption

CHUNK = 8_000_000  # distances held at once


def maximum_softmax(logits: npt.ArrayLike) -> Floats:
    """1 − the largest softmax probability (n,) of ``logits`` (n, classes).

    Source: Hendrycks & Gimpel, ICLR 2017.
    """
    return np.asarray(1 - _softmax(_matrix(logits, "logits")).max(axis=1))


def energy(logits: npt.ArrayLike, temperature: float = 1.0) -> Floats:
    """The free energy −T·log Σ exp(logit / T) (n,) of ``logits`` (n, classes).

    Source: Liu et al., NeurIPS 2020.
    """
    if not temperature > 0:
        raise BadOption(f"temperature must be positive, not {temperature}")
    scaled = _matrix(logits, "logits") / temperature
    return np.asarray(-temperature * np.logaddexp.reduce(scaled, axis=1))


class Mahalanobis:
    """Squared distance to the nearest class mean under one covariance shared by the classes (Ledoit–Wolf
    shrunk).

    Source: Lee et al., NeurIPS 2018, on the penultimate layer, without its input perturbation and layer
    ensemble.
    """

    def fit(self, features: npt.ArrayLike, labels: npt.ArrayLike) -> Mahalanobis:
        """Learn from clean training ``features`` (n, f) and ``labels`` (n,).

        Returns itself; BadInput for lengths that differ.
        """
        from sklearn.covariance import LedoitWolf

        values, classes = _matrix(features, "features"), np.asarray(labels)
        if classes.shape != (len(values),):
            raise BadInput(f"labels must have shape ({len(values)},), not {classes.shape}")
        _, member = np.unique(classes, return_inverse=True)
        counts = np.bincount(member)
        self.means_ = np.stack([values[member == i].mean(axis=0) for i in range(len(counts))])
        precision = LedoitWolf(assume_centered=True).fit(values - self.means_[member]).precision_
        self.precision_: Floats = np.asarray(precision)
        return self

    def score(self, features: npt.ArrayLike) -> Floats:
        """Suspicion (n,) of ``features`` (n, f)."""
        values = _fitted(self, "means_", features)
        apart = values[:, None, :] - self.means_[None, :, :]  # (n, classes, f)
        return np.asarray(np.einsum("ncf,fg,ncg->nc", apart, self.precision_, apart, optimize=True).min(axis=1))


class NearestNeighbours:
    """Distance to the k-th nearest training feature, both scaled to length 1.

    Source: Sun et al., ICML 2022.
    """

    def __init__(self, k: int = 10) -> None:
        self.k = k

    def fit(self, features: npt.ArrayLike) -> NearestNeighbours:
        """Keep clean training ``features`` (n, f), n ≥ k; returns itself; BadOption for fewer."""
        self.bank_ = _unit(_bank(features, self.k))
        return self

    def score(self, features: npt.ArrayLike) -> Floats:
        """Suspicion (n,) of ``features`` (n, f), in [0, 2]."""
        return _nearest(_unit(_fitted(self, "bank_", features)), self.bank_, self.k)[:, -1]


class LocalIntrinsicDimensionality:
    """Maximum-likelihood dimension of the training features around an image, from its k nearest, at one
    layer.

    Source: Ma et al., ICLR 2018, on one layer and a fixed reference set in place of a detector over all
    layers and batches.
    """

    def __init__(self, k: int = 20) -> None:
        self.k = k

    def fit(self, features: npt.ArrayLike) -> LocalIntrinsicDimensionality:
        """Keep clean training ``features`` (n, f), n ≥ k; returns itself; BadOption for fewer."""
        self.bank_ = _bank(features, self.k)
        return self

    def score(self, features: npt.ArrayLike) -> Floats:
        """Suspicion (n,) of ``features`` (n, f): −1 / mean log(r_i / r_k).

        Images must not be in the reference set.
        """
        distances = np.maximum(_nearest(_fitted(self, "bank_", features), self.bank_, self.k), 1e-12)
        spread = np.log(distances / distances[:, -1:]).mean(axis=1)
        return np.asarray(-1 / np.minimum(spread, -1e-12))


def feature_squeezing(
    images: npt.ArrayLike,
    logits_of: Callable[[npt.NDArray[np.float32]], npt.ArrayLike],
    bits: Sequence[int] = (5,),
    medians: Sequence[int] = (2,),
) -> Floats:
    """The largest L1 change (n,), in [0, 2], of the softmax when images are squeezed.

    ``images`` (n, channels, height, width) in [0, 1]; ``logits_of`` maps float32 images to logits (n,
    classes); squeezers are colour depths of ``bits`` and median filters of ``medians`` pixels square. Raises
    BadInput for other images and BadOption without squeezers. Source: Xu et al., NDSS 2018, without its
    non-local means filter.
    """
    pixels = np.asarray(images, dtype=np.float32)
    if pixels.ndim != 4 or not (pixels.size and pixels.min() >= 0 and pixels.max() <= 1):
        raise BadInput(f"images must have shape (n, channels, height, width) with values in [0, 1], not {pixels.shape}")
    if min([*bits, *medians], default=0) < 1:
        raise BadOption(
            f"squeezers need a size of at least 1, and at least one of them; got bits={tuple(bits)}, "
            f"medians={tuple(medians)}"
        )
    before = _softmax(_matrix(logits_of(pixels), "logits"))
    squeezed = [_fewer_bits(pixels, depth) for depth in bits] + [_median(pixels, size) for size in medians]
    changes = [np.abs(_softmax(_matrix(logits_of(each), "logits")) - before).sum(axis=1) for each in squeezed]
    return np.asarray(np.max(changes, axis=0))


def _fewer_bits(pixels: npt.NDArray[np.float32], depth: int) -> npt.NDArray[np.float32]:
    steps = np.float32(2**depth - 1)
    return np.asarray(np.rint(pixels * steps) / steps, dtype=np.float32)


def _median(pixels: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
    from scipy.ndimage import median_filter

    return np.asarray(median_filter(pixels, size=(1, 1, size, size), mode="reflect"), dtype=np.float32)


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _unit(values: Floats) -> Floats:
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12))


def _nearest(values: Floats, bank: Floats, k: int) -> Floats:
    """Ascending distances (n, k) to the k nearest rows of ``bank`` (m, f)."""
    step = max(1, CHUNK // len(bank))
    found = [np.empty((0, k))]
    for start in range(0, len(values), step):
        rows = values[start : start + step]
        squares = (rows**2).sum(axis=1)[:, None] - 2 * rows @ bank.T + (bank**2).sum(axis=1)
        found.append(np.sort(np.partition(np.maximum(squares, 0), k - 1, axis=1)[:, :k], axis=1))
    return np.asarray(np.sqrt(np.concatenate(found)))


def _bank(features: npt.ArrayLike, k: int) -> Floats:
    values = _matrix(features, "features")
    if not 1 <= k <= len(values):
        raise BadOption(f"k must lie between 1 and the {len(values)} training images, not {k}")
    return values


def _fitted(baseline: object, state: str, features: npt.ArrayLike) -> Floats:
    if not hasattr(baseline, state):
        raise BadOption(f"{type(baseline).__name__} is not fitted; call fit on clean training features first")
    values, width = _matrix(features, "features"), getattr(baseline, state).shape[1]
    if values.shape[1] != width:
        raise BadInput(f"features must have {width} columns as fitted, not {values.shape[1]}")
    return values


def _matrix(values: npt.ArrayLike, what: str) -> Floats:
    matrix = np.asarray(values, dtype=np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise BadInput(f"{what} must be finite and of shape (images, columns), not {matrix.shape}")
    return matrix
