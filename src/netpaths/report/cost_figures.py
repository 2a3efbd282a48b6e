"""Figures of what extraction costs: against θ, batch size, depth and image size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from netpaths.report.style import MARKERS, QUIET, WIDE, colour, dash, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXES = {
    "theta": "θ, share of the contributions covered",
    "batch": "images in a batch",
    "depth": "layers extracted, from the output",
    "size": "image height and width",
}
LOGARITHMIC = ("batch", "depth")
PANELS = ("ms per image", "extraction / forward pass")


@styled
def cost_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Milliseconds per image, and the ratio to the forward pass, against the value of one cost curve, a line a model.

    rows: as `netpaths.benchmark.curve_rows` gives, of one curve.
    """
    figure = new_figure(WIDE, 2.9)
    panels = figure.subplots(1, len(PANELS))
    for axes, label in zip(panels, PANELS):
        axes.set_xlabel(AXES[rows[0]["curve"]])
        axes.set_ylabel(label)
        axes.grid(axis="y")
    for place, name in enumerate(dict.fromkeys(str(row["model"]) for row in rows)):
        _lines(panels, [row for row in rows if row["model"] == name], name, place)
    for axes in panels:
        _ticks(axes, rows)
    _plain_log(panels[0])
    panels[1].set_ylim(bottom=0)
    for place, label in enumerate(("extraction", "forward pass")):
        panels[0].plot([], [], color=QUIET, linestyle=dash(place), label=label)
    panels[0].legend(loc="best")
    return figure


def _lines(panels: Sequence[Axes], rows: Sequence[Mapping[str, Any]], name: str, place: int) -> None:
    values = [row["value"] for row in rows]
    look: dict[str, Any] = {"color": colour(place), "marker": MARKERS[place % len(MARKERS)]}
    panels[0].plot(values, [row["extraction ms"] / row["batch"] for row in rows], label=name, **look)
    panels[0].plot(values, [row["forward ms"] / row["batch"] for row in rows], linestyle=dash(1), color=colour(place))
    panels[1].plot(values, [row["ratio"] for row in rows], **look)


def _ticks(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    values = sorted({row["value"] for row in rows})
    if rows[0]["curve"] in LOGARITHMIC:
        axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:g}" for value in values])
    axes.minorticks_off()


def _plain_log(axes: Axes) -> None:
    """A logarithmic y axis marked 1, 2, 5, 10, …"""
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.minorticks_off()
