"""Figures of path size and of what the path is worth: densities, their growth over classes, ablation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from netpaths.ablation import Curve
from netpaths.report.style import (
    COLUMN,
    LINE,
    MARKERS,
    PAPER,
    QUIET,
    WIDE,
    colour,
    dash,
    name_ticks,
    new_figure,
    percent_axis,
    styled,
)
from netpaths.report.tables import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ORDER_NAMES = {
    "largest": "on the path, largest first",
    "smallest": "on the path, smallest first",
    "random": "on the path, at random",
    "outside": "anywhere, at random (control)",
}


MODE_NAMES = {"remove": "switched off", "keep": "kept, all others switched off"}


@styled
def density_figure(
    densities: Mapping[str, Mapping[str, float]], density: Mapping[str, float], layers: Sequence[str] = ()
) -> Figure:
    """Share of each layer's elements on any class path, a panel per kind with its own scale and overall line.

    densities: kind → node → share. layers: the nodes to show, by default all.
    """
    kinds = list(densities)
    rows = {kind: [node for node in densities[kind] if not layers or node in layers] for kind in kinds}
    longest = max(map(len, rows.values()), default=1)
    figure = new_figure(WIDE, min(0.9 + 0.26 * longest, 6.5))
    for axes, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds):
        nodes = rows[kind]
        _bars(axes, nodes, [densities[kind][node] for node in nodes], colour(kinds.index(kind)))
        axes.set_title(f"{kind}s")
        if kind in density:
            axes.axvline(density[kind], color=QUIET, linewidth=1, linestyle=(0, (3, 2)))
            axes.set_xlabel(f"share on a class path\n(dashed: overall {percent(density[kind])})")
    return figure


def _bars(axes: Axes, nodes: Sequence[str], shares: Sequence[float], shade: str) -> None:
    places = range(len(nodes))
    known = np.nan_to_num(np.array(shares, dtype=np.float64))
    axes.barh(places, known, color=shade, height=0.68)
    box = {"facecolor": PAPER, "linewidth": 0, "pad": 0.8}
    if len(nodes) <= 24:
        for place, share in zip(places, shares):
            axes.annotate(
                percent(share),
                (known[place], place),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
                bbox=box,
            )
    name_ticks(axes, nodes, "y", most=30)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3 * (max(known, default=1.0) or 1.0))
    axes.locator_params(axis="x", nbins=3 if max(map(len, nodes), default=0) > 16 else 4)
    percent_axis(axes.xaxis, None)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_color(LINE)


@styled
def growth_figure(growth: Mapping[str, Sequence[float]]) -> Figure:
    """Density of the union of 1, 2, … class paths, a line per kind."""
    figure = new_figure(COLUMN, 2.9)
    axes = figure.subplots()
    longest = max(map(len, growth.values()), default=1)
    for place, (kind, shares) in enumerate(growth.items()):
        marker = MARKERS[place] if longest <= 25 else ""
        axes.plot(
            range(1, len(shares) + 1),
            shares,
            color=colour(place),
            linestyle=dash(place),
            marker=marker,
            label=f"{kind}s",
        )
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
    axes.set(xlabel="class paths merged", ylabel="share of the network on them", xlim=(0.5, longest + 0.5))
    axes.set_ylim(bottom=0)
    percent_axis(axes.yaxis)
    axes.grid(axis="y")
    axes.legend(loc="best")
    return figure


@styled
def ablation_figure(curves: Sequence[Curve], classes: int) -> Figure:
    """Accuracy against the share of the path switched off, a line per order, a panel per mode and kind.

    The control switches off as many elements, drawn from the whole network. The dotted line is guessing.
    """
    panels = list(dict.fromkeys((curve.mode, curve.kind) for curve in curves))
    figure = new_figure(WIDE if len(panels) > 1 else COLUMN * 1.25, 3.5)
    row = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (mode, kind) in zip(row, panels):
        own = [curve for curve in curves if (curve.mode, curve.kind) == (mode, kind)]
        for curve in own:
            _ablation_line(axes, curve)
        share_axis(axes, own)
        what = "" if len(panels) > 1 else f"{kind}s {MODE_NAMES.get(mode, mode)}, as a "
        axes.set_xlabel(f"{what}share of the image's path")
        axes.set_title(f"{kind}s {MODE_NAMES.get(mode, mode)}" if len(panels) > 1 else "")
        if classes:
            axes.axhline(1 / classes, color=QUIET, linewidth=1, linestyle=":")
            axes.annotate(
                "guessing", (0.02, 1 / classes), (0, 3), ("axes fraction", "data"), "offset points", fontsize=7
            )
        axes.grid(axis="y")
    row[0].set_ylabel("accuracy on the same images")
    row[0].set_ylim(-0.03, 1.04)
    percent_axis(row[0].yaxis)
    handles, labels = row[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def _ablation_line(axes: Axes, curve: Curve) -> None:
    orders = list(ORDER_NAMES)
    place = orders.index(curve.order) if curve.order in orders else len(orders)
    control = curve.order == "outside"
    shade = QUIET if control else ("#d55e00", "#56b4e9", "#0072b2")[place] if place < 3 else colour(place)
    axes.plot(
        curve.shares,
        curve.accuracy,
        color=shade,
        linestyle=(0, (5, 1.5)) if control else "-",
        marker=MARKERS[place],
        label=ORDER_NAMES.get(curve.order, curve.order),
    )


def share_axis(axes: Axes, curves: Sequence[Curve]) -> None:
    """An x axis of the shares of ``curves``, logarithmic but for 0, every share marked in percent."""
    shares = sorted({share for curve in curves for share in curve.shares})
    positive = [share for share in shares if share > 0]
    if positive:
        axes.set_xscale("symlog", linthresh=positive[0], linscale=0.6)
    from matplotlib.ticker import NullLocator

    axes.set_xticks(shares, [f"{100 * share:g}%" for share in shares])
    axes.xaxis.set_minor_locator(NullLocator())
