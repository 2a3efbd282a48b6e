"""The evaluation protocol: every detector against every attack, its worst case and its controls, on one
split.

Counted are originally correct images and successful attacks. Per detector and attack: AUROC, AUPR, TPR at 1%
and 5% FPR and FPR at 95% TPR with bootstrap intervals over source images; false alarms and catches at
thresholds calibrated on clean images.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from netpaths.detection.artifact import library_versions
from netpaths.detection.base import Detector
from netpaths.detection.calibration import Rate, conformal_threshold, realised
from netpaths.detection.features import Bools, Features, Floats
from netpaths.detection.metrics import METRICS, Interval, all_metrics, auroc
from netpaths.errors import BadInput, BadOption
from netpaths.files import write_json, write_text

ALPHAS = (0.01, 0.05)
HALVINGS = 200
Scores = Mapping[str, tuple[Floats, Floats]]


@dataclass(frozen=True)
class Row:
    """One detector against one set of images.

    ``kind``: "attack"; "all" (every attack pooled); "worst case" (a source is caught only if all its attacks
    are); "control"; "null" (clean against clean); "held out" (an attack unseen in fitting). ``n`` suspicious
    rows against ``n_clean`` clean ones; ``caught`` and ``false_alarms`` per alpha at the calibrated
    ``thresholds``.
    """

    detector: str
    kind: str
    attack: str
    n: int
    n_clean: int
    metrics: Mapping[str, Interval]
    thresholds: Mapping[float, float]
    caught: Mapping[float, Rate]
    false_alarms: Mapping[float, Rate]

    def flat(self) -> dict[str, Any]:
        """The row as one level of names and numbers; intervals as ``…_low`` and ``…_high``."""
        flat: dict[str, Any] = {"detector": self.detector, "kind": self.kind, "attack": self.attack}
        flat |= {"n": self.n, "n_clean": self.n_clean}
        for name, interval in self.metrics.items():
            flat |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
        for alpha, threshold in self.thresholds.items():
            flat[f"threshold_{alpha:g}"] = threshold
            for what, rate in (
                ("caught", self.caught.get(alpha)),
                ("false_alarms", self.false_alarms[alpha]),
            ):
                ends = (rate.rate, rate.low, rate.high) if rate else (float("nan"),) * 3
                flat |= dict(zip((f"{what}_{alpha:g}{end}" for end in ("", "_low", "_high")), ends, strict=True))
        return flat


@dataclass(frozen=True)
class Evaluation:
    """All rows of an evaluation and the configuration that made them."""

    results: tuple[Row, ...]
    config: Mapping[str, Any]

    def rows(self) -> list[dict[str, Any]]:
        """One flat dictionary per row; NaN where a figure does not apply."""
        return [row.flat() for row in self.results]

    def to_csv(self, path: Path | str) -> Path:
        """Write the rows as a table, atomically; NaN is empty."""
        rows, text = self.rows(), io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: "" if value != value else value for key, value in row.items()} for row in rows)
        return write_text(path, text.getvalue())

    def to_json(self, path: Path | str) -> Path:
        """Write configuration and rows, atomically; NaN is null."""
        return write_json(path, {"config": self.config, "rows": self.rows()})


@dataclass(frozen=True)
class _Setting:
    """What all rows of one evaluation share."""

    alphas: tuple[float, ...]
    seed: int
    bootstrap: int


def evaluate(
    detectors: Mapping[str, Detector],
    splits: Mapping[str, Features],
    alphas: Sequence[float] = ALPHAS,
    seed: int = 0,
    bootstrap: int = 1000,
) -> Evaluation:
    """Fit copies of ``detectors`` on ``splits["fit"]``, take thresholds from "calibration" and figures from
    "test".

    ``splits`` as `split_by_source` gives them; the detectors passed in are left alone. Raises BadOption for a
    missing part, a source image in two parts, or too few clean calibration images for an alpha. Protocol: our
    reconstruction.
    """
    parts = _counted(splits, ("fit", "calibration", "test"))
    scores = _fit_and_score(detectors, parts["fit"], parts["calibration"], parts["test"])
    evaluation = evaluate_scores(scores, parts["calibration"], parts["test"], alphas, seed, bootstrap)
    config = {"detectors": _described(detectors), "sizes": _sizes(parts)}
    return replace(evaluation, config={**evaluation.config, **config})


def evaluate_scores(
    scores: Scores,
    calibration: Features,
    test: Features,
    alphas: Sequence[float] = ALPHAS,
    seed: int = 0,
    bootstrap: int = 1000,
) -> Evaluation:
    """The protocol for scores computed elsewhere, such as baselines.

    ``scores`` maps a name to suspicion of the rows of ``calibration`` and of ``test``. Raises as `evaluate`,
    and BadInput for lengths that disagree or NaN scores.
    """
    _check_apart({"calibration": calibration, "test": test})
    setting = _Setting(tuple(float(alpha) for alpha in alphas), seed, bootstrap)
    keep_calibration, keep_test = calibration.is_counted & calibration.is_clean, test.is_counted
    counted = test.take(keep_test)
    rows: list[Row] = []
    for name, (held_back, tested) in scores.items():
        _check_lengths(name, held_back, tested, calibration, test)
        thresholds = _thresholds(held_back[keep_calibration], setting.alphas)
        rows.extend(_all_rows(name, tested[keep_test], counted, thresholds, setting))
    sizes = _sizes({"calibration": calibration.take(keep_calibration), "test": counted})
    return _evaluation(rows, setting, sizes=sizes)


def leave_one_attack_out(
    detectors: Mapping[str, Detector],
    splits: Mapping[str, Features],
    alphas: Sequence[float] = ALPHAS,
    seed: int = 0,
    bootstrap: int = 1000,
) -> Evaluation:
    """Each attack in the test part judged by detectors fitted on all the other attacks; rows of kind "held
    out".

    Raises as `evaluate`, and BadOption with fewer than two attacks to fit on.
    """
    parts = _counted(splits, ("fit", "calibration", "test"))
    setting = _Setting(tuple(float(alpha) for alpha in alphas), seed, bootstrap)
    rows: list[Row] = []
    for attack in parts["test"].attack_names:
        fit = parts["fit"].take(parts["fit"].attacks != attack)
        if not fit.is_adversarial.any():
            raise BadOption(f"leaving out {attack!r} leaves no attack to fit on; give at least two attacks")
        test = parts["test"].take(parts["test"].is_clean | (parts["test"].attacks == attack))
        for name, (held_back, tested) in _fit_and_score(detectors, fit, parts["calibration"], test).items():
            thresholds = _thresholds(held_back, setting.alphas)
            rows.append(_row((name, "held out", attack), tested, test, test.is_adversarial, thresholds, setting))
    return _evaluation(rows, setting, detectors=_described(detectors), sizes=_sizes(parts))


def _evaluation(rows: Sequence[Row], setting: _Setting, **config: Any) -> Evaluation:
    if not rows:
        raise BadOption("there is nothing to evaluate; give at least one detector and one attack")
    return Evaluation(tuple(rows), {**asdict(setting), "versions": library_versions(), **config})


def _described(detectors: Mapping[str, Detector]) -> dict[str, dict[str, Any]]:
    return {name: {"detector": each.name, **each.params()} for name, each in detectors.items()}


def _fit_and_score(detectors: Mapping[str, Detector], fit: Features, calibration: Features, test: Features) -> Scores:
    fitted = {name: detector.clone().fit(fit) for name, detector in detectors.items()}
    return {name: (each.score(calibration), each.score(test)) for name, each in fitted.items()}


def _all_rows(
    name: str, scores: Floats, test: Features, thresholds: Mapping[float, float], setting: _Setting
) -> Iterator[Row]:
    def row(kind: str, attack: str, chosen: Bools) -> Row:
        return _row((name, kind, attack), scores, test, chosen, thresholds, setting)

    for attack in test.attack_names:
        yield row("attack", attack, test.attacks == attack)
    if test.attack_names:
        yield row("all", "all attacks", test.is_adversarial)
        yield row("worst case", "worst of all attacks", _least_suspicious(scores, test))
    for control in test.control_names:
        yield row("control", control, test.attacks == control)
    yield _null_row(name, scores[test.is_clean], thresholds, setting)


def _row(
    titles: tuple[str, str, str],
    scores: Floats,
    test: Features,
    chosen: Bools,
    thresholds: Mapping[float, float],
    setting: _Setting,
) -> Row:
    """The figures of the ``chosen`` rows against the clean ones; ``titles`` are detector, kind and attack."""
    used = chosen | test.is_clean
    metrics = all_metrics(scores[used], chosen[used], test.sources[used], setting.bootstrap, setting.seed)
    caught = {alpha: realised(scores[chosen] > threshold) for alpha, threshold in thresholds.items()}
    alarms = {alpha: realised(scores[test.is_clean] > threshold) for alpha, threshold in thresholds.items()}
    sizes = int(chosen.sum()), int(test.is_clean.sum())
    return Row(*titles, *sizes, metrics, thresholds, caught, alarms)


def _least_suspicious(scores: Floats, test: Features) -> Bools:
    """Of each source's attacked rows the one with the smallest score: it is caught only if all are."""
    order = np.lexsort((scores, test.sources))
    order = order[test.is_adversarial[order]]
    _, first = np.unique(test.sources[order], return_index=True)
    chosen = np.zeros(len(scores), dtype=np.bool_)
    chosen[order[first]] = True
    return chosen


def _null_row(name: str, clean: Floats, thresholds: Mapping[float, float], setting: _Setting) -> Row:
    """Clean against clean: AUROC between random halves, mean and central 95% over `HALVINGS` halvings."""
    rng, half = np.random.default_rng(setting.seed), np.arange(len(clean)) < len(clean) // 2
    found = [auroc(clean, rng.permutation(half)) for _ in range(HALVINGS)]
    low, high = np.percentile(found, [2.5, 97.5])
    metrics = {each: Interval(float("nan")) for each in METRICS}
    metrics["auroc"] = Interval(float(np.mean(found)), float(low), float(high))
    alarms = {alpha: realised(clean > threshold) for alpha, threshold in thresholds.items()}
    sizes = int(half.sum()), int((~half).sum())
    return Row(name, "null", "clean against clean", *sizes, metrics, thresholds, {}, alarms)


def _thresholds(clean: Floats, alphas: tuple[float, ...]) -> dict[float, float]:
    return {alpha: conformal_threshold(clean, alpha) for alpha in alphas}


def _counted(splits: Mapping[str, Features], needed: tuple[str, ...]) -> dict[str, Features]:
    missing = [part for part in needed if part not in splits]
    if missing:
        raise BadOption(f"the split has no part {missing[0]!r}; expected {', '.join(needed)}, as split_by_source gives")
    parts = {part: splits[part].take(splits[part].is_counted) for part in needed}
    _check_apart(parts)
    return parts | {"calibration": parts["calibration"].take(parts["calibration"].is_clean)}


def _check_apart(parts: Mapping[str, Features]) -> None:
    for one, other in combinations(parts, 2):
        shared = np.intersect1d(parts[one].sources, parts[other].sources)
        if len(shared):
            raise BadOption(f"source image {shared[0]} is in both {one!r} and {other!r}; split with split_by_source")


def _check_lengths(name: str, held_back: Floats, tested: Floats, calibration: Features, test: Features) -> None:
    for scores, part, what in ((held_back, calibration, "calibration"), (tested, test, "test")):
        if np.shape(scores) != (len(part),):
            raise BadInput(f"{name} needs one {what} score for each of {len(part)} rows, not shape {np.shape(scores)}")


def _sizes(parts: Mapping[str, Features]) -> dict[str, dict[str, int]]:
    return {
        name: {"sources": len(np.unique(part.sources)), "clean": int(part.is_clean.sum()), "rows": len(part)}
        for name, part in parts.items()
    }
