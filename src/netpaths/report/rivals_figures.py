"""Figures of notions of path against each other; see `netpaths.report.style`."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from netpaths.report.names import attack_name, capitalised, detector_name
from netpaths.report.series import Floats, Rows, apart, auroc_range, column, distinct, ends, legend_below, look, shift
from netpaths.report.style import COLUMN, QUIET, WIDE, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@styled
def rivals_figure(rows: Rows) -> Figure:
    """AUROC with its interval of several notions of path, a panel per attack, a row per classifier.

    rows: notion, classifier, attack, auroc, low, high.
    """
    attacks, classifiers, notions = (distinct(rows, key) for key in ("attack", "classifier", "notion"))
    columns = min(4 if len(attacks) % 3 == 1 else 3, len(attacks))
    lines = -(-len(attacks) // columns)
    height = lines * (0.45 + (0.09 + 0.11 * len(notions)) * len(classifiers))
    figure = new_figure(WIDE if columns > 1 else COLUMN, height + 0.75)
    apart(figure)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, attack in zip(grid, attacks):
        for place, notion in enumerate(notions):
            own = [row for row in rows if (row["attack"], row["notion"]) == (attack, notion)]
            _rival(axes, own, classifiers, place, len(notions))
        axes.axvline(0.5, color=QUIET, linewidth=0.9, linestyle=":")
        axes.set_title(capitalised(attack_name(str(attack))))
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", linewidth=0.5)
    for axes in grid[len(attacks) :]:
        axes.set_visible(False)
    for axes in grid[max(len(attacks) - columns, 0) : len(attacks)]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("AUROC")
    grid[0].locator_params(axis="x", nbins=4)
    grid[0].set_yticks(range(len(classifiers)), [textwrap.fill(detector_name(str(name)), 22) for name in classifiers])
    grid[0].set_ylim(len(classifiers) - 0.45, -0.55)
    grid[0].set_xlim(*auroc_range(rows))
    legend_below(figure, *_notion_handles(notions))
    return figure


def _rival(axes: Axes, rows: Rows, classifiers: Sequence[str], place: int, notions: int) -> None:
    y = [classifiers.index(row["classifier"]) + shift(place, notions) for row in rows]
    drawn = {**look(place), "linestyle": "", "markersize": 4.5}
    bars: Any = ends(rows)
    axes.errorbar(column(rows, "auroc"), y, xerr=bars, elinewidth=1.4, zorder=3, **drawn)


def _notion_handles(notions: Sequence[str]) -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D

    return [Line2D([], [], **{**look(place), "linestyle": ""}) for place in range(len(notions))], list(notions)


@styled
def cost_figure(rows: Rows) -> Figure:
    """AUROC against milliseconds per image, with the bytes per image beside every point, notions by colour.

    rows: notion, "ms per image", "bytes per image", auroc.
    """
    figure = new_figure(COLUMN, 3.2)
    axes = figure.subplots()
    notions = distinct(rows, "notion")
    for place, notion in enumerate(notions):
        own = [row for row in rows if row["notion"] == notion]
        drawn = {**look(place), "linestyle": "", "markersize": 6.5}
        axes.plot(column(own, "ms per image"), column(own, "auroc"), **drawn)
    times = column(rows, "ms per image")
    _decades(axes, [time for time in times if time > 0])
    axes.set(xlabel="milliseconds per image (logarithmic)", ylabel="AUROC")
    axes.set_ylim(*auroc_range(rows))
    axes.grid(axis="y")
    legend_below(figure, *_notion_handles(notions))
    sizes = [bytes_text(size) for size in column(rows, "bytes per image")]
    write_beside(figure, axes, np.array([times, column(rows, "auroc")]).T, sizes)
    return figure


def _decades(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic x axis with plain numbers that holds ``values`` with room for words beside them."""
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    low, high = min(values, default=1.0), max(values, default=1.0)
    room = max(1.3 * (high / low) ** 0.12, (20 * low / high) ** 0.5)
    axes.set_xscale("log")
    axes.set_xlim(low / room, high * room)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.minorticks_off()


def write_beside(figure: Figure, axes: Axes, points: Floats, texts: Sequence[str]) -> None:
    """Texts (n,) beside points (n, 2): at the first side where they meet no point, line or other text, if possible
    inside the axes."""
    figure.draw_without_rendering()
    scale = 72 / figure.dpi
    known = ~np.isnan(points).any(axis=1)
    spots = scale * axes.transData.transform(points[known])
    room = scale * np.array(axes.get_window_extent().extents)
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in spots]
    taken += [(x - 1, y - 1, x + 1, y + 1) for x, y in scale * _along(axes)]
    for point, (x, y), text in zip(points[known], spots, np.array(texts)[known].tolist()):
        width = 4.8 * len(text)
        near = [(7.0, -2.7), (5.0, -12.0), (-7 - width, -2.7), (-width / 2, 6.0), (-width / 2, -13.0)]
        sides = [(right, up + step) for step in (0.0, 9.0, -9.0, 18.0, -18.0) for right, up in near]
        boxes = [(x + right, y + up, x + right + width, y + up + 9) for right, up in sides]
        free = [place for place, box in enumerate(boxes) if not any(_meet(box, other) for other in taken)]
        free.sort(key=lambda place: not _inside(boxes[place], room))
        best = free[0] if free else 0
        taken.append(boxes[best])
        axes.annotate(text, point, sides[best], textcoords="offset points", fontsize=7.5)


def _along(axes: Axes) -> Floats:
    """Pixels (n, 2) close to each other along all lines of ``axes``."""
    found: list[Floats] = [np.empty((0, 2))]
    for line in axes.lines:
        ends = line.get_transform().transform(np.asarray(line.get_xydata(), np.float64))
        found += [np.linspace(start, end, 100) for start, end in pairwise(ends) if np.isfinite([*start, *end]).all()]
    return np.concatenate(found)


def _inside(box: Sequence[float], room: Floats) -> bool:
    """Whether a box (left, bottom, right, top) lies in another."""
    return bool((np.array(box[:2]) >= room[:2]).all() and (np.array(box[2:]) <= room[2:]).all())


def _meet(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether two boxes (left, bottom, right, top) have a point in common."""
    return all(first[axis] < second[axis + 2] and second[axis] < first[axis + 2] for axis in (0, 1))


def bytes_text(size: float) -> str:
    """A size in bytes: "812 B", "1.2 kB", "34 MB"; NaN is "unknown"."""
    if np.isnan(size):
        return "unknown"
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if size >= 99.5 or unit == "B" else f"{size:.2g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
