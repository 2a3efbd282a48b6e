"""Why an image was flagged: the layers where it departs most from its class path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from netpaths.detection.features import Features, Floats, Names, check_names
from netpaths.errors import BadInput

SD_FLOOR = 1e-3  # on easy data a clean similarity is constant; finer differences than this mean nothing


@dataclass(frozen=True, eq=False)
class CleanReference:
    """What clean images look like: per feature ``mean`` and ``sd`` (d,), NaN where no clean image gave
    information.
    """

    names: Names
    mean: Floats
    sd: Floats

    @staticmethod
    def of(values: Floats, names: Names) -> CleanReference:
        """The reference of clean ``values`` (n, d); columns without any value get NaN."""
        seen = ~np.isnan(values)
        count = seen.sum(axis=0)
        filled = np.where(seen, values, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = filled.sum(axis=0) / count
            sd = np.sqrt(np.where(seen, (values - mean) ** 2, 0.0).sum(axis=0) / count)
        return CleanReference(names, mean, sd)


class Departure(NamedTuple):
    """One layer's departure: similarity, clean mean, and their distance in clean standard deviations."""

    layer: str
    rank: int
    value: float
    clean_mean: float
    z: float


def departures(image: Features | npt.ArrayLike, reference: CleanReference, limit: int | None = None) -> list[Departure]:
    """The features of one image, those that depart most from the class path first.

    ``image`` is a Features of one row or its values (d,). A rank-1 similarity departs by being low (z < 0), a
    rank-2 one by being high (z > 0); features without information are left out, and a clean deviation below
    0.001 counts as 0.001. Raises BadInput for another number of rows or features. Source: our reconstruction.
    """
    values = _row(image, reference)
    z = (values - reference.mean) / np.maximum(reference.sd, SD_FLOOR)
    suspicion = np.where([rank > 1 for _, rank in reference.names], z, -z)
    order = [i for i in np.argsort(-suspicion, kind="stable") if not np.isnan(z[i])]
    layers, ranks = zip(*reference.names, strict=True)
    return [
        Departure(layers[i], ranks[i], float(values[i]), float(reference.mean[i]), float(z[i])) for i in order[:limit]
    ]


def _row(image: Features | npt.ArrayLike, reference: CleanReference) -> Floats:
    if isinstance(image, Features):
        check_names(reference.names, image.names)
        image = image.values
    values = np.asarray(image, dtype=np.float64)
    if values.shape not in ((len(reference.names),), (1, len(reference.names))):
        raise BadInput(f"departures explains one image of {len(reference.names)} features, got shape {values.shape}")
    return values.reshape(-1)
