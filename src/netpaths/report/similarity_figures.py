"""Figures of similarity: between classes, and of images to their class, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from netpaths.detection import Features
from netpaths.detection.reasons import CleanReference
from netpaths.report.style import (
    ACCENT,
    ADVERSARIAL,
    CLEAN,
    COLUMN,
    INK,
    LINE,
    QUIET,
    WIDE,
    name_ticks,
    new_figure,
    percent_axis,
    ramp,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VALUES = 12
"""Values are written into the cells up to this many classes."""


@styled
def class_matrix_figure(matrix: NDArray[np.float64], class_names: Sequence[str]) -> Figure:
    """Jaccard similarity of every pair of class paths (classes, classes) as a heat map; the diagonal is left grey."""
    size = len(matrix)
    own = np.eye(size, dtype=bool)
    others = matrix[~own & ~np.isnan(matrix)]
    low, high = (float(others.min()), float(others.max())) if others.size else (0.0, 1.0)
    if low == high:
        low, high = max(low - 0.1, 0.0), max(high, 0.1)
    figure = new_figure(COLUMN, COLUMN * 0.92)
    axes = figure.subplots()
    shades = ramp("blue").with_extremes(bad="#e3e7eb")
    shown = np.ma.masked_where(own | np.isnan(matrix), matrix)
    heat = axes.imshow(shown, cmap=shades, vmin=low, vmax=high, interpolation="none")
    names = [str(name) if len(str(name)) <= 14 else str(name)[:13] + "…" for name in class_names[:size]]
    name_ticks(axes, names, "x")
    name_ticks(axes, names, "y")
    axes.tick_params(length=0)
    axes.set(xlabel="class", ylabel="class")
    for spine in axes.spines.values():
        spine.set_visible(False)
    if size <= VALUES:
        _write_values(axes, matrix, low, high)
    bar = figure.colorbar(heat, ax=axes, shrink=0.82, aspect=28, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_label("Jaccard similarity of two class paths")
    return figure


def _write_values(axes: Axes, matrix: NDArray[np.float64], low: float, high: float) -> None:
    for row, column in np.ndindex(*matrix.shape):
        value = matrix[row, column]
        if np.isnan(value):
            text, colour = "–", QUIET
        elif row == column:
            text, colour = "1", QUIET
        else:
            dark = value - low > 0.45 * (high - low)
            text, colour = f"{value:.2f}".lstrip("0"), "white" if dark else INK
        axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=colour)


@styled
def layer_similarity_figure(features: Features) -> Figure:
    """Similarity per layer of clean and of attacked images, mean and one standard deviation, a panel per rank."""
    ranks = sorted({rank for _, rank in features.names})
    used = features.is_counted
    figure = new_figure(WIDE, 2.9)
    row = figure.subplots(1, len(ranks), squeeze=False, sharey=True)[0]
    for axes, rank in zip(row, ranks):
        layers = [layer for layer, own in features.names if own == rank]
        columns = [place for place, (_, own) in enumerate(features.names) if own == rank]
        for label, shade, rows in (
            ("clean", CLEAN, features.is_clean & used),
            ("attacked", ADVERSARIAL, features.is_adversarial & used),
        ):
            _band(axes, features.values[rows][:, columns], label, shade)
        axes.set_title(_rank_title(rank))
        axes.set_xlabel("layer, from input to output")
        name_ticks(axes, layers)
        axes.set_xlim(-0.3, len(layers) - 0.7)
        axes.grid(axis="y")
    row[0].set_ylabel("share of the path inside\nthe class path")
    row[0].set_ylim(top=1.01)
    percent_axis(row[0].yaxis)
    row[0].legend(loc="lower left")
    return figure


def _rank_title(rank: int) -> str:
    if rank == 1:
        return "Path of the predicted class"
    return "Path of the runner-up class" if rank == 2 else f"Path of rank {rank}"


def _band(axes: Axes, values: NDArray[np.float64], label: str, shade: str) -> None:
    if not len(values):
        return
    known = CleanReference.of(values, tuple((str(place), 1) for place in range(values.shape[1])))
    places = np.arange(values.shape[1])
    low, high = np.clip(known.mean - known.sd, 0, 1), np.clip(known.mean + known.sd, 0, 1)
    axes.fill_between(places, low, high, color=shade, alpha=0.16, linewidth=0)
    style = "-" if label == "clean" else (0, (5, 1.5))
    marker = "o" if label == "clean" else "s"
    axes.plot(places, known.mean, color=shade, marker=marker, linestyle=style, label=f"{label} ({len(values)} images)")


@styled
def class_similarity_figure(
    class_similarity: Mapping[int, float], class_names: Sequence[str], own: int | None
) -> Figure:
    """How much of one image's path lies inside each class path, as bars; the path’s ``own`` class stands out.

    More than 20 classes: the 20 most similar ones.
    """
    ranked = sorted(class_similarity, key=lambda label: -np.nan_to_num(class_similarity[label], nan=-1.0))[:20]
    labels = sorted(ranked) if len(class_similarity) <= 20 else ranked
    figure = new_figure(COLUMN, 0.75 + 0.21 * len(labels))
    axes = figure.subplots()
    shares = [class_similarity[label] for label in labels]
    shades = [ACCENT if label == own else "#b9c4ce" for label in labels]
    axes.barh(range(len(labels)), np.nan_to_num(shares), color=shades, height=0.7)
    for place, (label, share) in enumerate(zip(labels, shares)):
        text = "no information" if np.isnan(share) else f"{100 * share:.1f}%"
        weight = "bold" if label == own else "normal"
        axes.text(np.nan_to_num(share) + 0.01, place, text, va="center", fontsize=7.5, weight=weight)
    name_ticks(axes, [str(class_names[label]) if label < len(class_names) else str(label) for label in labels], "y")
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.16), xlabel="share of this image's path inside the class path", ylabel="class")
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    percent_axis(axes.xaxis)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_color(LINE)
    return figure


@styled
def image_layers_figure(similarity: Mapping[str, float]) -> Figure:
    """One image's similarity to its predicted class, layer by layer, as bars; a layer without information says so."""
    layers = list(similarity)
    values = np.array([similarity[layer] for layer in layers], dtype=np.float64)
    figure = new_figure(COLUMN, 2.6)
    axes = figure.subplots()
    axes.bar(range(len(layers)), np.nan_to_num(values), color=ACCENT, width=0.65)
    for place, value in enumerate(values):
        if len(layers) <= 10 or np.isnan(value):
            text = "no\ninfo" if np.isnan(value) else f"{100 * value:.0f}%"
            axes.text(place, np.nan_to_num(value) + 0.015, text, ha="center", fontsize=7.5)
    axes.set(ylim=(0, 1.1), xlabel="layer, from input to output", ylabel="share inside the class path")
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    percent_axis(axes.yaxis)
    name_ticks(axes, layers)
    axes.grid(axis="y")
    return figure
