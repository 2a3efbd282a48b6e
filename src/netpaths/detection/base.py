"""What every detector shares: checked input, the sign (larger = more suspicious), calibration and the
decision.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np
import numpy.typing as npt

from netpaths.detection.calibration import conformal_threshold
from netpaths.detection.features import Bools, Features, Floats, Names, check_names
from netpaths.detection.reasons import CleanReference
from netpaths.errors import BadInput, BadOption

if TYPE_CHECKING:
    from typing_extensions import Self

UNKNOWN_RANK = 0


class Detector(ABC):
    """A score of suspicion over path similarities; an author fills `_fit`, `_score`, `_arrays` and
    `_restore`.

    Fitted state: ``names_`` the columns, ``reference_`` what clean images look like, ``threshold_`` and
    ``fpr_`` after `calibrate` (None before).
    """

    name: ClassVar[str]
    names_: Names
    reference_: CleanReference
    threshold_: float | None
    fpr_: float | None

    @final
    def fit(
        self,
        features: Features | npt.ArrayLike,
        is_adversarial: npt.ArrayLike | None = None,
        names: Sequence[tuple[str, int]] | None = None,
    ) -> Self:
        """Learn from ``features`` (n, d), a Features or an array, and ``is_adversarial`` (n,) bool; returns
        itself.

        Without ``is_adversarial`` a Features answers for itself and its controls are left out. ``names``
        gives an array its (layer, rank) columns. Raises BadInput for wrong shapes or infinities and BadOption
        for one class only.
        """
        if isinstance(features, Features) and is_adversarial is None:
            features = features.take(~features.is_control)
            is_adversarial = features.is_adversarial
        values, columns = _values(features), _columns(features, names)
        adversarial = _check_truth(is_adversarial, len(values))
        self._fit(values, adversarial, columns)
        self.names_, self.reference_ = columns, CleanReference.of(values[~adversarial], columns)
        self.threshold_ = self.fpr_ = None
        return self

    @final
    def score(self, features: Features | npt.ArrayLike) -> Floats:
        """Suspicion (n,) float64 of each row, larger = more suspicious.

        Raises BadInput for columns other than the fitted.
        """
        self._need_fit()
        values = _values(features)
        if isinstance(features, Features):
            check_names(self.names_, features.names)
        if values.shape[1] != len(self.names_):
            raise BadInput(f"the detector was fitted with {len(self.names_)} features, found {values.shape[1]}")
        return np.asarray(self._score(values), dtype=np.float64)

    @final
    def calibrate(self, clean_features: Features | npt.ArrayLike, fpr: float = 0.01) -> Self:
        """Set the threshold so that at most a share ``fpr`` of clean images is flagged; returns itself.

        Raises BadInput when a Features holds other than clean rows and BadOption when there are too few for
        ``fpr``. Source: `conformal_threshold`.
        """
        self._need_fit()
        if isinstance(clean_features, Features) and not clean_features.is_clean.all():
            wrong = int((~clean_features.is_clean).sum())
            raise BadInput(f"calibration takes clean images only, {wrong} of {len(clean_features)} rows are not")
        self.threshold_ = conformal_threshold(self.score(clean_features), fpr)
        self.fpr_ = float(fpr)
        return self

    @final
    def predict(self, features: Features | npt.ArrayLike) -> Bools:
        """(n,) true where the score is above the threshold; raises BadOption before `calibrate`."""
        self._need_fit()
        if self.threshold_ is None:
            raise BadOption(f"{type(self).__name__} has no threshold yet; call calibrate(clean_features, fpr) first")
        return np.asarray(self.score(features) > self.threshold_, dtype=np.bool_)

    def params(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {key: getattr(self, key) for key in inspect.signature(type(self).__init__).parameters if key != "self"}

    def clone(self) -> Self:
        """A new, unfitted detector with the same arguments."""
        return type(self)(**self.params())

    @final
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The fitted state as plain arrays, enough for `restore`."""
        self._need_fit()
        return self._arrays()

    @final
    def restore(
        self,
        arrays: Mapping[str, npt.NDArray[Any]],
        reference: CleanReference,
        threshold: float | None,
        fpr: float | None,
    ) -> Self:
        """Become the fitted detector that gave ``arrays``; returns itself.

        Raises KeyError for a missing array and ValueError for one that no fitted detector gives.
        """
        for name, array in arrays.items():
            if array.dtype.kind not in "fiub" or not np.isfinite(array).all():
                raise ValueError(f"its {name!r} holds something else than numbers")
        if arrays["fill"].shape != (len(reference.names),):
            raise ValueError(f"it is fitted to {arrays['fill'].shape} features and names {len(reference.names)}")
        self._restore(arrays)
        self.names_, self.reference_, self.threshold_, self.fpr_ = reference.names, reference, threshold, fpr
        return self

    def _need_fit(self) -> None:
        if not hasattr(self, "names_"):
            raise BadOption(f"{type(self).__name__} is not fitted; call fit(features, is_adversarial) first")

    @abstractmethod
    def _fit(self, values: Floats, adversarial: Bools, names: Names) -> None:
        """Learn from checked values (n, d), NaN allowed, and truth (n,) with both classes present."""

    @abstractmethod
    def _score(self, values: Floats) -> Floats:
        """Suspicion (n,) of checked values (n, d), never NaN."""

    @abstractmethod
    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Fitted state as arrays."""

    @abstractmethod
    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take fitted state back from arrays."""


def fill_missing(values: Floats, fill: Floats) -> Floats:
    """``values`` (n, d) with each NaN replaced by its column's ``fill`` (d,)."""
    return np.where(np.isnan(values), fill, values)


def column_fill(values: Floats, centre: Callable[[Floats], np.floating[Any]]) -> Floats:
    """Each column's ``centre``, such as np.median, over its known values (d,); 0 for a column without any."""
    known = [column[~np.isnan(column)] for column in values.T]
    return np.array([float(centre(column)) if column.size else 0.0 for column in known])


def _values(features: Features | npt.ArrayLike) -> Floats:
    if isinstance(features, Features):
        return features.values
    values = np.asarray(features, dtype=np.float64)
    if values.ndim != 2:
        raise BadInput(f"features must have shape (images, features), not {values.shape}")
    if np.isinf(values).any():
        raise BadInput("features must be finite, or NaN where a layer gives no information; found infinity")
    return values


def _columns(features: Features | npt.ArrayLike, names: Sequence[tuple[str, int]] | None) -> Names:
    if isinstance(features, Features):
        if names is not None:
            check_names(features.names, tuple(names))
        return features.names
    width = np.shape(features)[1]
    if names is None:
        return tuple((f"column {i}", UNKNOWN_RANK) for i in range(width))
    if len(names) != width:
        raise BadInput(f"{width} feature columns need {width} names, not {len(names)}")
    return tuple((str(layer), int(rank)) for layer, rank in names)


def _check_truth(is_adversarial: npt.ArrayLike | None, rows: int) -> Bools:
    if is_adversarial is None:
        raise BadOption("a plain array does not say which rows are adversarial; pass is_adversarial, one bool per row")
    truth = np.asarray(is_adversarial)
    if truth.shape != (rows,) or not np.isin(truth, (0, 1)).all():
        raise BadInput(f"is_adversarial must be {rows} booleans, one per row, not shape {truth.shape} of {truth.dtype}")
    flags = truth.astype(np.bool_)
    if flags.all() or not flags.any():
        raise BadOption(f"fitting needs clean and adversarial images, got {int((~flags).sum())} and {int(flags.sum())}")
    return flags
