"""Figures of what detection needs: layers to compare, images to learn from, images in the class paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from netpaths.report.names import detector_name
from netpaths.report.style import MARKERS, WIDE, colour, dash, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = {
    "layers": "layers compared, from the output",
    "samples": "source images the detector saw",
    "profile": "training images a class in the profile",
}


@styled
def sweep_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """AUROC against layers and images, a panel per sweep and a line per detector; rows as `studies.sweeps` gives."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(WIDE, 2.8)
    shown = [sweep for sweep in PANELS if any(row["sweep"] == sweep for row in rows)]
    for axes, sweep in zip(figure.subplots(1, len(shown), sharey=True, squeeze=False)[0], shown):
        for place, name in enumerate(dict.fromkeys(str(row["detector"]) for row in rows)):
            own = [row for row in rows if row["sweep"] == sweep and row["detector"] == name]
            axes.errorbar(
                [row["value"] for row in own],
                [row["auroc"] for row in own],
                yerr=[row["sd"] for row in own],
                color=colour(place),
                linestyle=dash(place),
                marker=MARKERS[place],
                capsize=2,
                label=detector_name(name),
            )
        axes.set_xlabel(PANELS[sweep])
        axes.grid(axis="y")
        if sweep != "layers":
            values = sorted({int(row["value"]) for row in rows if row["sweep"] == sweep})
            axes.set_xscale("log")
            axes.set_xticks(values, [str(value) for value in values])
            axes.minorticks_off()
        else:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10))
            axes.set_ylabel("AUROC, all attacks")
            axes.legend(loc="best")
    return figure
