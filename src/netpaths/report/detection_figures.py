"""Figures of detection: curves and scores of one detector, all detectors against all attacks, one flagged image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from netpaths.detection import Features
from netpaths.detection.evaluation import Evaluation, Row
from netpaths.detection.metrics import auroc
from netpaths.report.findings import Flagged
from netpaths.report.names import attack_name, capitalised, detector_name
from netpaths.report.path_picture import class_name, draw_image, frame, picture
from netpaths.report.style import (
    ACCENT,
    ADVERSARIAL,
    CLEAN,
    COLUMN,
    INK,
    LINE,
    QUIET,
    WIDE,
    colour,
    dash,
    new_figure,
    percent_axis,
    styled,
)
from netpaths.report.tables import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REASONS = 6
"""Departures shown per flagged image at most."""

SD_FLOOR = 1e-3
"""Clean deviations below this count as this; see `netpaths.detection.departures`."""


def roc_points(
    clean: NDArray[np.float64], attacked: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rates (n,) at every distinct score, from (0, 0) to (1, 1)."""
    thresholds = np.unique(np.concatenate([clean, attacked]))[::-1]
    false = (len(clean) - np.searchsorted(np.sort(clean), thresholds)) / len(clean)
    true = (len(attacked) - np.searchsorted(np.sort(attacked), thresholds)) / len(attacked)
    return np.concatenate([[0.0], false]), np.concatenate([[0.0], true])


@styled
def roc_figure(features: Features, scores: NDArray[np.float64], alpha: float) -> Figure:
    """ROC curves per attack over counted rows, once in full and once with a logarithmic axis around ``alpha``.

    scores: (rows,) of the same rows as ``features``; larger is more suspicious.
    """
    used = features.is_counted
    clean = scores[features.is_clean & used]
    figure = new_figure(WIDE, 3.7)
    whole, near = figure.subplots(1, 2)
    for place, attack in enumerate(features.attack_names):
        own = scores[(features.attacks == attack) & used]
        if not len(own) or not len(clean):
            continue
        false, true = roc_points(clean, own)
        truth = np.repeat([False, True], [len(clean), len(own)])
        area = auroc(np.concatenate([clean, own]), truth)
        label = f"{attack_name(attack)} (AUROC {area:.3f}, n = {len(own)})"
        for axes in (whole, near):
            axes.step(false, true, where="post", color=colour(place), linestyle=dash(place), label=label)
    _roc_axes(whole, near, len(clean), alpha)
    handles, labels = whole.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2 if len(labels) < 7 else 3)
    return figure


def _roc_axes(whole: Axes, near: Axes, clean: int, alpha: float) -> None:
    whole.plot([0, 1], [0, 1], color=QUIET, linewidth=0.9, linestyle=":")
    whole.set(xlim=(-0.01, 1), title="Whole range")
    lowest = max(min(0.5 / max(clean, 1), alpha / 2), 1e-4)
    near.set(xscale="log", xlim=(lowest, 1), title="Few false alarms (logarithmic)")
    near.axvspan(lowest, alpha, color="#eef3f7", linewidth=0, zorder=0)
    for axes in (whole, near):
        axes.axvline(alpha, color=INK, linewidth=0.9, linestyle=(0, (3, 2)))
        axes.set(ylim=(-0.01, 1.02), xlabel="false alarms: share of clean images flagged")
        axes.grid(axis="y")
        percent_axis(axes.yaxis)
        percent_axis(axes.xaxis, None)
    whole.set_ylabel("caught: share of attacked images flagged")
    near.annotate(
        f"agreed rate {percent(alpha, 0)}", (alpha, 0.02), (4, 0), textcoords="offset points", fontsize=7.5, color=INK
    )


@styled
def score_figure(features: Features, scores: NDArray[np.float64], threshold: float) -> Figure:
    """Histograms of the score of clean and of attacked images with the threshold; larger is more suspicious."""
    used = features.is_counted
    groups = (
        ("clean", CLEAN, scores[features.is_clean & used]),
        ("attacked", ADVERSARIAL, scores[features.is_adversarial & used]),
    )
    figure = new_figure(COLUMN, 3.0)
    axes = figure.subplots()
    low, high = _score_range(np.concatenate([own for _, _, own in groups]), threshold)
    edges = np.linspace(low, high, 31).tolist()
    for label, shade, own in groups:
        weights = np.full(len(own), 1 / max(len(own), 1))
        named = f"{label} ({len(own)} images)"
        data = np.clip(own, low, high)
        axes.hist(data, edges, weights=weights, color=shade, alpha=0.28, label=named)
        axes.hist(data, edges, weights=weights, color=shade, histtype="step", linewidth=1.2)
    if np.isfinite(threshold):
        axes.axvline(threshold, color=INK, linewidth=1, linestyle=(0, (3, 2)))
        top = axes.get_ylim()[1]
        axes.set_ylim(0, top * 1.12)
        axes.text(threshold, top * 1.1, " flagged →", fontsize=8, va="top")
    axes.set(xlabel="score (larger = more suspicious)", ylabel="share of images")
    percent_axis(axes.yaxis, None)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.16), ncols=2)
    return figure


def _score_range(scores: NDArray[np.float64], threshold: float) -> tuple[float, float]:
    """The central 99% of the scores, widened to hold the threshold; what lies outside counts at the ends."""
    if not len(scores):
        return 0.0, 1.0
    low, high = np.percentile(scores, [0.5, 99.5])
    if np.isfinite(threshold):
        low, high = min(low, threshold), max(high, threshold)
    margin = 0.02 * (high - low) or 0.5
    return float(low - margin), float(high + margin)


@styled
def auroc_figure(evaluation: Evaluation, main: str) -> Figure:
    """AUROC with its interval: a row per detector, a panel per attack, for all attacks and for the worst case."""
    rows = [row for row in evaluation.results if row.kind in ("attack", "all", "worst case")]
    attacks = list(dict.fromkeys(row.attack for row in rows))
    detectors = sorted(dict.fromkeys(row.detector for row in rows), key=lambda name: name != main)
    columns = min(4 if len(attacks) % 3 == 1 else 3, len(attacks)) or 1
    lines = -(-len(attacks) // columns) or 1
    figure = new_figure(WIDE, 0.55 + lines * (0.42 + 0.19 * len(detectors)))
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, attack in zip(grid, attacks):
        _dots(axes, [row for row in rows if row.attack == attack], detectors, main)
        axes.set_title(capitalised(attack_name(attack)))
    for axes in grid[len(attacks) :]:
        axes.set_visible(False)
    for axes in grid[max(len(attacks) - columns, 0) : len(attacks)]:
        axes.tick_params(labelbottom=True)
    grid[0].set_yticks(range(len(detectors)), [detector_name(name) for name in detectors])
    grid[0].set_ylim(len(detectors) - 0.4, -0.6)
    grid[0].set_xlim(_lowest(rows), 1.004)
    figure.supxlabel("AUROC with 95% interval (0.5: guessing, 1: perfect)", fontsize=8.5)
    return figure


def _lowest(rows: Sequence[Row]) -> float:
    """Where the AUROC axis starts: below every point and interval, at a multiple of 0.05."""
    found = [end for row in rows for end in (row.metrics["auroc"].low, row.metrics["auroc"].value)]
    lowest = min((end for end in found if not np.isnan(end)), default=0.5)
    return float(max(np.floor(20 * (min(lowest, 0.9) - 0.005)) / 20, -0.004))


def _dots(axes: Axes, rows: Sequence[Row], detectors: Sequence[str], main: str) -> None:
    for row in rows:
        found, place = row.metrics["auroc"], detectors.index(row.detector)
        shade = ACCENT if row.detector == main else QUIET
        if not np.isnan(found.low) and not np.isnan(found.high):
            axes.plot([found.low, found.high], [place, place], color=shade, linewidth=1.4, solid_capstyle="butt")
        size = 5.5 if row.detector == main else 4.2
        axes.plot(
            [found.value], [place], marker="o", linestyle="", color=shade, markersize=size, clip_on=False, zorder=3
        )
    axes.axvline(0.5, color=QUIET, linewidth=0.9, linestyle=":")
    axes.axvline(1, color=LINE, linewidth=0.8, zorder=0)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="both", linewidth=0.5)


@styled
def flagged_figure(flagged: Flagged, class_names: Sequence[str]) -> Figure:
    """A flagged image: the original, the attacked image, their difference amplified, and where its path departs."""
    figure = new_figure(WIDE, 2.3)
    row = figure.subplots(1, 4, width_ratios=[1, 1, 1, 1.9])
    draw_image(row[0], flagged.original)
    row[0].set_title("original", loc="center")
    row[0].set_xlabel(
        f"class {class_name(class_names, flagged.example.label)}" if flagged.example.label >= 0 else "", fontsize=8
    )
    draw_image(row[1], flagged.example.image)
    row[1].set_title("attacked", loc="center")
    row[1].set_xlabel(f"predicted {class_name(class_names, flagged.example.path.predicted)}", fontsize=8)
    _difference(row[2], flagged)
    _departures(row[3], flagged)
    return figure


def _difference(axes: Axes, flagged: Flagged) -> None:
    """Signed difference, amplified to the full range: red is brighter than the original, blue darker."""
    change = (flagged.example.image - flagged.original).detach().cpu().double().numpy()
    largest = float(np.abs(change).max())
    factor = 1 / largest if largest else 1.0
    change = change[np.abs(change).reshape(len(change), -1).max(axis=1).argmax()] if change.ndim == 3 else change
    rows, columns = picture(flagged.original).shape[:2]
    axes.imshow(
        np.atleast_2d(change) * factor,
        cmap="RdBu_r",
        vmin=-1,
        vmax=1,
        interpolation="none",
        extent=(0, columns, rows, 0),
    )
    frame(axes)
    axes.set_title("difference", loc="center")
    axes.set_xlabel(f"amplified × {factor:.3g}\nred brighter, blue darker" if largest else "none", fontsize=7.5)


def clean_deviation(value: float, mean: float, z: float) -> float:
    """The clean standard deviation that a reason's z implies; NaN where z is 0 or unknown."""
    return abs(value - mean) / abs(z) if z and np.isfinite(z) else float("nan")


def telling_reasons(flagged: Flagged) -> list[tuple[str, int, float, float, float]]:
    """The reasons that depart by a standard deviation or more, at most `REASONS`; at least the first."""
    strong = [row for row in flagged.reasons if (row[4] if row[1] > 1 else -row[4]) >= 1]
    return (strong or list(flagged.reasons[:1]))[:REASONS]


def _departures(axes: Axes, flagged: Flagged) -> None:
    reasons = telling_reasons(flagged)
    for place, (_, _, value, mean, z) in enumerate(reasons):
        sd = clean_deviation(value, mean, z)
        axes.barh(place, value, height=0.62, color=ADVERSARIAL, alpha=0.85, label="this image" if not place else None)
        label = "clean images, mean ± sd" if not place else None
        axes.errorbar(
            mean, place, xerr=0 if np.isnan(sd) else sd, fmt="o", color=CLEAN, elinewidth=1.6, capsize=2.5, label=label
        )
    axes.set_yticks(range(len(reasons)), [layer if rank == 1 else f"{layer}, runner-up" for layer, rank, *_ in reasons])
    axes.set(xlim=(0, 1.08), ylim=(max(len(reasons), 3) - 0.5, -0.5), xlabel="share inside the class path")
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    percent_axis(axes.xaxis)
    axes.tick_params(axis="y", length=0)
    if reasons:
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, fontsize=7.5, borderaxespad=0.2)
