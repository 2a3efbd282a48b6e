"""Splitting by source image, so that no image has a sibling on the other side.

The profile is built from training images, outside this module; what is left is shared between fitting a
detector, calibrating its threshold and testing it. The paper fits on 10% of the samples and evaluates on the
rest, without a calibration set. The default here, 30 / 20 / 50, is ours: a threshold at 1% false alarms needs
99 clean calibration images, half of the images keep the intervals of the test figures narrow, and the linear
detector is stable from about a hundred samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from netpaths.detection.features import Features, Ints
from netpaths.errors import BadOption

SHARES: Mapping[str, float] = MappingProxyType({"fit": 0.3, "calibration": 0.2, "test": 0.5})
CLEAN_ONLY = ("calibration",)


def split_by_source(
    features: Features,
    shares: Mapping[str, float] = SHARES,
    seed: int = 0,
    clean_only: tuple[str, ...] = CLEAN_ONLY,
) -> dict[str, Features]:
    """Share the rows of ``features`` between named parts; all rows of a source image land in the same part.

    ``shares`` maps part names to positive shares, normalised to 1; parts in ``clean_only`` keep their clean
    rows only. Raises BadOption for shares that are not positive or a part left without rows. Protocol: our
    reconstruction.
    """
    return {part: features.take(rows) for part, rows in split_rows(features, shares, seed, clean_only).items()}


def split_rows(
    features: Features,
    shares: Mapping[str, float] = SHARES,
    seed: int = 0,
    clean_only: tuple[str, ...] = CLEAN_ONLY,
) -> dict[str, Ints]:
    """The row indices of each part of `split_by_source`, ascending, for arrays that run beside ``features``.

    Sources are stratified by label and by which attacks they have: every stratum, and so every label, is
    shared out in proportion, off by about one source.
    """
    parts = _check_shares(shares)
    sources, first, member = np.unique(features.sources, return_index=True, return_inverse=True)
    order = _stratified_order(features, first, member, np.random.default_rng(seed))
    part_of_source = np.empty(len(sources), dtype=np.int64)
    part_of_source[order] = _deal(len(sources), np.array(list(parts.values())))
    rows = {name: np.flatnonzero(part_of_source[member] == i) for i, name in enumerate(parts)}
    for name in clean_only:
        if name in rows:
            rows[name] = rows[name][features.is_clean[rows[name]]]
    for name, chosen in rows.items():
        if not len(chosen):
            raise BadOption(
                f"{len(sources)} source images leave the part {name!r} without rows; give more images or a larger share"
            )
    return rows


def _check_shares(shares: Mapping[str, float]) -> dict[str, float]:
    if not shares or not all(np.isfinite(share) and share > 0 for share in shares.values()):
        raise BadOption(f"shares must be positive numbers, such as {dict(SHARES)}, not {dict(shares)}")
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def _stratified_order(features: Features, first: Ints, member: Ints, rng: np.random.Generator) -> Ints:
    """Source numbers with each (label, attacks) stratum contiguous.

    Strata and their members in random order.
    """
    attacks: list[set[str]] = [set() for _ in first]
    for source, attack in zip(member, features.attacks, strict=True):
        attacks[source].add(str(attack))
    keys = [(int(label), *sorted(names)) for label, names in zip(features.labels[first], attacks, strict=True)]
    number = {key: i for i, key in enumerate(sorted(set(keys)))}
    strata = rng.permutation(len(number))[[number[key] for key in keys]]
    return np.lexsort((rng.permutation(len(first)), strata))


def _deal(count: int, shares: np.ndarray) -> Ints:
    """Part numbers (count,), each going to the part furthest behind its share, so that every stretch is in
    proportion.
    """
    dealt = np.zeros(len(shares))
    parts = np.empty(count, dtype=np.int64)
    for turn in range(count):
        parts[turn] = np.argmax(shares * (turn + 1) - dealt)
        dealt[parts[turn]] += 1
    return parts
