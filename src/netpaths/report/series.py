"""Rows as series of a figure: their looks, their columns, and axes and legends for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from netpaths.report.style import MARKERS, QUIET, colour, dash

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]
Floats = NDArray[np.float64]


def distinct(rows: Rows, key: str) -> list[Any]:
    """The different values of a column, in order of appearance."""
    return list(dict.fromkeys(row.get(key) for row in rows))


def look(place: int) -> dict[str, Any]:
    """Colour, line style and marker of the ``place``-th series."""
    return {"color": colour(place), "linestyle": dash(place), "marker": MARKERS[place % len(MARKERS)]}


def column(rows: Rows, key: str) -> list[float]:
    """A column as numbers; NaN for what is None or missing."""
    return [float("nan") if row.get(key) is None else float(row[key]) for row in rows]


def ends(rows: Rows) -> Floats:
    """Distances (2, rows) of AUROC to the ends of its interval, NaN where one of them is not known."""
    value, low, high = (np.array(column(rows, key)) for key in ("auroc", "low", "high"))
    ends: Floats = np.maximum([value - low, high - value], 0)
    return np.where(np.isnan(ends).any(axis=0), np.nan, ends)


def auroc_range(rows: Rows) -> tuple[float, float]:
    """The ends of an AUROC axis: a multiple of 0.05 below every point and interval, and a little above 1."""
    found = np.array([*column(rows, "auroc"), *column(rows, "low")])
    lowest = min(found[~np.isnan(found)], default=0.5)
    low = float(max(np.floor(20 * (min(lowest, 0.9) - 0.005)) / 20, -0.02))
    return low, 1 + 0.03 * (1 - low)


def legend_below(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """A legend under the figure in as many columns as it has room for."""
    room = 0.06 * max(map(len, labels), default=0) + 0.62
    columns = max(min(len(labels), int(figure.get_figwidth() / room)), 1)
    if labels:
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def shift(place: int, series: int) -> float:
    """Where the ``place``-th of several series stands beside a whole number."""
    return 0.7 * ((place + 0.5) / series - 0.5)


def evenly(names: Sequence[str], most: int) -> list[str]:
    """At most so many of the names, evenly spaced, with the first and the last."""
    places = np.unique(np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int))
    return [names[place] for place in places]


def cut(text: str, most: int) -> str:
    """A long name without its middle."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"


def level_line(axes: Axes, value: float, name: str, side: Literal["left", "right"] = "right") -> None:
    """A dotted line at ``value`` with its name at one ``side``; nothing for NaN."""
    if np.isnan(value):
        return
    axes.axhline(value, color=QUIET, linewidth=1, linestyle=":")
    place = (0.01 if side == "left" else 0.99, value)
    axes.annotate(name, place, (0, 2), ("axes fraction", "data"), "offset points", fontsize=7.5, ha=side)


def apart(figure: Figure) -> None:
    """Panels side by side with room between the labels at the ends of their axes."""
    figure.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr, call-arg]
