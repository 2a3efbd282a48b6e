"""Figures of gates learned for every image; see `netpaths.report.style`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from netpaths.ablation import Curve
from netpaths.report.density_figures import share_axis
from netpaths.report.names import capitalised, detector_name
from netpaths.report.path_picture import draw_image, frame, wrapped
from netpaths.report.series import (
    Floats,
    Rows,
    auroc_range,
    column,
    cut,
    distinct,
    ends,
    evenly,
    legend_below,
    level_line,
    look,
    shift,
)
from netpaths.report.style import (
    ACCENT,
    ADVERSARIAL,
    COLUMN,
    LINE,
    PAPER,
    QUIET,
    WIDE,
    colour,
    name_ticks,
    new_figure,
    percent_axis,
    styled,
)
from netpaths.report.tables import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLASSES = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
"""Ten colours that those who see few colours can tell apart (Petroff 2021, "Accessible color sequences")."""

SHAPES = ("o", "s", "^", ">", "v", "P", "X", "p", "<", "D")
"""As many shapes, the second cue; where colours come again, they come with another one."""

PANELS = 30
"""Layers whose embedding is shown at most."""

NAMED = 20
"""A legend names so many classes at most."""

DOTS = 4000
"""A figure with more dots than this holds them as an image: a drawing of each would make the page heavy."""

EXAMPLES = 10
"""Images shown per cluster at most."""

SMALL = 112
"""Pixels on the longer side of an image in a montage at most."""

KEEP_OR_REMOVE = {"keep": "Only this share kept", "remove": "This share removed"}
CHANCE: dict[str, Any] = {
    "marker": "|",
    "linestyle": "",
    "color": ADVERSARIAL,
    "markersize": 10,
    "markeredgewidth": 2.2,
}
PUBLISHED: dict[str, Any] = {"linestyle": "--", "linewidth": 0.9, "markerfacecolor": PAPER, "markersize": 4}


@dataclass(frozen=True, eq=False)
class Cluster:
    """Images (k, channels, height, width) in [0, 1] that belong together, and which of them are hard (k,)."""

    title: str
    images: torch.Tensor | NDArray[np.floating[Any]]
    hard: ArrayLike


@styled
def embedding_figure(
    points: Mapping[str, Floats],
    labels: NDArray[np.integer[Any]],
    class_names: Sequence[str],
    separation: Mapping[str, float],
    what: str = "silhouette",
) -> Figure:
    """Images as dots in a plane (n, 2) for every layer, coloured by class (n,), with the layer's ``separation``.

    what: the name of the measure of separation. More than `PANELS` layers: evenly spaced ones with the last.
    """
    layers = evenly(list(points), PANELS)
    lines = -(-len(layers) // 6)
    columns = -(-len(layers) // lines)
    side = min(WIDE / columns, 2.9) if columns > 1 else 3.6
    titles = [_lines_of(layer, round(11 * side)) for layer in layers]
    measures = [textwrap.fill(f"{what} {_known(separation.get(layer, np.nan))}", round(16 * side)) for layer in layers]
    told = max(title.count("\n") + measure.count("\n") for title, measure in zip(titles, measures))
    figure = new_figure(max(side * columns, COLUMN), (side + 0.25 + 0.13 * told) * lines + 0.5)
    grid = figure.subplots(lines, columns, squeeze=False).ravel()
    raster = len(labels) * len(layers) > DOTS
    for axes, layer, title, measure in zip(grid, layers, titles, measures):
        _dots(axes, np.asarray(points[layer], dtype=np.float64), labels, 5 * side, raster)
        axes.set_title(title, fontsize=8, loc="center", linespacing=1.05)
        axes.set_xlabel(measure, fontsize=7.5, color=QUIET, labelpad=3)
    for axes in grid[len(layers) :]:
        axes.set_visible(False)
    _class_legend(figure, np.unique(labels).tolist(), class_names)
    if len(layers) < len(points):
        figure.suptitle(f"{len(layers)} of {len(points)} layers, evenly spaced", fontsize=8, color=QUIET)
    if raster:
        figure.set_dpi(200)
    return figure


def _lines_of(name: str, width: int) -> str:
    """A node's name over at most three lines."""
    return "\n".join(cut(line, width) for line in wrapped(cut(name, 2 * width), width).split("\n"))


def _known(value: float) -> str:
    return "unknown" if np.isnan(value) else f"{value:.2f}".replace("-", "−")


def _dots(axes: Axes, points: Floats, labels: NDArray[np.integer[Any]], size: float, raster: bool) -> None:
    for place, label in enumerate(np.unique(labels).tolist()):
        own = points[labels == label]
        axes.scatter(own[:, 0], own[:, 1], s=size, alpha=0.85, linewidth=0, rasterized=raster, **_class_look(place))
    axes.margins(0.06)
    frame(axes)


def _class_look(place: int) -> dict[str, Any]:
    shade, turn = place % len(CLASSES), place // len(CLASSES)
    return {"color": CLASSES[shade], "marker": SHAPES[(shade + turn) % len(SHAPES)]}


def _class_legend(figure: Figure, labels: Sequence[int], class_names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    if len(labels) > NAMED:
        figure.supxlabel(f"{len(labels)} classes; colours and shapes repeat", fontsize=8, color=QUIET)
        return
    names = [str(class_names[label]) if label < len(class_names) else f"class {label}" for label in labels]
    handles: list[Any] = [Line2D([], [], linestyle="", **_class_look(place)) for place in range(len(names))]
    legend_below(figure, handles, [cut(name, 24) for name in names])


@styled
def separation_figure(rows: Rows, chance: float = float("nan")) -> Figure:
    """How well gates tell classes apart over depth, from input to output, a line per kind of value.

    rows: layer, separation (silhouette by class, in [−1, 1]), neighbours (share of images whose nearest neighbour has
    their class), and, where several are compared, values. chance: of neighbours by guessing; NaN leaves it out.
    """
    layers, kinds = distinct(rows, "layer"), distinct(rows, "values")
    names = [cut(str(layer), 28) for layer in layers]
    figure = new_figure(WIDE, 3.5 + 0.05 * max(map(len, names)))
    panels = figure.subplots(2, 1, sharex=True)
    for axes, key in zip(panels, ("separation", "neighbours")):
        for place, kind in enumerate(kinds):
            own = [row for row in rows if row.get("values") == kind]
            x = [layers.index(row["layer"]) for row in own]
            axes.plot(x, column(own, key), label=kind, **look(place))
        axes.grid(axis="y")
    panels[0].set_ylabel("silhouette\nby class")
    panels[0].axhline(0, color=QUIET, linewidth=1, linestyle=":")
    panels[1].set_ylabel("nearest neighbour\nof the same class")
    panels[1].set(xlabel="layer, from input to output", xlim=(-0.3, len(layers) - 0.7), ylim=(-0.02, 1.04))
    percent_axis(panels[1].yaxis)
    name_ticks(panels[1], names)
    level_line(panels[1], chance, "chance")
    if len(kinds) > 1:
        legend_below(figure, *panels[0].get_legend_handles_labels())
    return figure


@styled
def montage_figure(clusters: Sequence[Cluster]) -> Figure:
    """The first images of every cluster in a row, hard ones framed, with the cluster's title at the left."""
    from matplotlib.patches import Patch

    most = max(len(cluster.images) for cluster in clusters)
    columns = max(min(most, EXAMPLES), 5)
    side = 0.71
    figure = new_figure(WIDE - side * (EXAMPLES - columns), (side + 0.05) * len(clusters) + 0.35)
    widths = [figure.get_figwidth() / side - columns, *([1.0] * columns)]
    grid = figure.subplots(len(clusters), columns + 1, squeeze=False, width_ratios=widths)
    for axes in grid.ravel():
        axes.axis("off")
    for line, cluster in zip(grid, clusters):
        told = "\n".join([row for part in cluster.title.split("\n") for row in textwrap.wrap(part, 20)][:4])
        line[0].text(0, 0.5, told, va="center", fontsize=8, transform=line[0].transAxes)
        for axes, image, hard in zip(line[1:], _small(cluster.images[:EXAMPLES]), np.asarray(cluster.hard, dtype=bool)):
            axes.axis("on")
            draw_image(axes, image)
            _emphasise(axes, bool(hard))
    if any(np.any(np.asarray(cluster.hard)[:EXAMPLES]) for cluster in clusters):
        mark = Patch(facecolor=PAPER, edgecolor=ADVERSARIAL, linewidth=2)
        legend_below(figure, [mark], ["hard example"])
    return figure


def _small(images: torch.Tensor | NDArray[np.floating[Any]]) -> torch.Tensor:
    found = torch.as_tensor(images).double()
    longer = max(found.shape[2:])
    if longer <= SMALL:
        return found
    return torch.nn.functional.interpolate(found, scale_factor=SMALL / longer, mode="area")


def _emphasise(axes: Axes, hard: bool) -> None:
    for spine in axes.spines.values():
        spine.set_color(ADVERSARIAL if hard else LINE)
        spine.set_linewidth(2.2 if hard else 0.7)


@styled
def sparsity_figure(rows: Rows) -> Figure:
    """Share of channels kept, and of images that keep their class, against steps, a line per γ.

    rows: gamma, steps, sparsity (share of channels whose gate is above 0), accuracy (share of images whose top class
    stays with the gates).
    """
    figure = new_figure(WIDE, 3.2)
    left, right = figure.subplots(1, 2)
    for axes, key, label in (
        (left, "sparsity", "channels kept"),
        (right, "accuracy", "images whose top class is kept"),
    ):
        for place, gamma in enumerate(distinct(rows, "gamma")):
            own = [row for row in rows if row["gamma"] == gamma]
            axes.plot(column(own, "steps"), column(own, key), label=f"γ = {gamma:g}", **look(place))
        axes.set(xlabel="steps of descent", ylabel=label, ylim=(-0.02, 1.04))
        axes.grid(axis="y")
        percent_axis(axes.yaxis)
        _marked(axes, column(rows, "steps"))
    legend_below(figure, *left.get_legend_handles_labels())
    return figure


def _marked(axes: Axes, values: Sequence[float]) -> None:
    """A logarithmic x axis of ``values`` above 0 that is marked where something was measured."""
    axes.set_xscale("log")
    shown = _spaced(sorted({value for value in values if value > 0}))
    axes.set_xticks(shown, [f"{value:g}" for value in shown])
    axes.minorticks_off()


def _spaced(values: Sequence[float]) -> list[float]:
    """Of ascending ``values`` above 0 those whose labels find room on a logarithmic axis, with the largest."""
    found = list(values[-1:])
    for value in reversed(values[:-1]):
        apart = max((values[-1] / values[0]) ** 0.13, 1.3)
        if value * apart <= found[-1]:
            found.append(value)
    return found[::-1]


@styled
def curves_figure(rows: Rows, classes: int) -> Figure:
    """Accuracy when only a share of all units is kept, and when it is removed, a panel per mode, a line per method.

    rows: method, mode ("keep" or "remove"), share, accuracy. classes: sets the dotted line of guessing, 0 leaves it
    out.
    """
    modes = [mode for mode in KEEP_OR_REMOVE if any(row["mode"] == mode for row in rows)]
    methods = distinct(rows, "method")
    figure = new_figure(WIDE if len(modes) > 1 else COLUMN, 3.5)
    panels = figure.subplots(1, len(modes), squeeze=False, sharey=True)[0]
    for axes, mode in zip(panels, modes):
        curves = [_curve(rows, method, mode) for method in methods]
        for place, curve in enumerate(curves):
            axes.plot(curve.shares, curve.accuracy, label=str(methods[place]), **look(place))
        share_axis(axes, [_marks(curves)])
        told = KEEP_OR_REMOVE[mode]
        axes.set(title=told, xlabel=f"share of all units {told.split()[-1]}")
        axes.grid(axis="y")
        level_line(axes, 1 / classes if classes else np.nan, "guessing", "right" if mode == "keep" else "left")
    panels[0].set(ylabel="accuracy", ylim=(-0.03, 1.04))
    percent_axis(panels[0].yaxis)
    legend_below(figure, *panels[0].get_legend_handles_labels())
    return figure


def _curve(rows: Rows, method: str, mode: str) -> Curve:
    own = sorted((row for row in rows if (row["method"], row["mode"]) == (method, mode)), key=lambda row: row["share"])
    return Curve(mode, method, "channel", tuple(column(own, "share")), tuple(column(own, "accuracy")), ())


def _marks(curves: Sequence[Curve]) -> Curve:
    """A curve of those shares whose labels find room on a logarithmic axis."""
    shares = sorted({share for curve in curves for share in curve.shares})
    zero = [0.0] if 0 in shares else []
    return Curve("", "", "", tuple(zero + _spaced([share for share in shares if share > 0])), (), ())


@styled
def agreement_figure(rows: Rows) -> Figure:
    """Jaccard similarity of two runs as bars, a group per setting, each with a tick at chance.

    rows: setting, jaccard, chance, and, where paths are compared at several sizes, selected.
    """
    settings, kinds = distinct(rows, "setting"), distinct(rows, "selected")
    figure = new_figure(COLUMN, 0.95 + (0.12 + 0.17 * len(kinds)) * len(settings))
    axes = figure.subplots()
    limit = 1.25 * (float(np.nanmax([*column(rows, "jaccard"), *column(rows, "chance"), 0])) or 0.8)
    for place, kind in enumerate(kinds):
        own = [row for row in rows if row.get("selected") == kind]
        y = [settings.index(row["setting"]) + shift(place, len(kinds)) for row in own]
        shade = (ACCENT, "#a6cbe6", QUIET, LINE)[place % 4]
        known = np.nan_to_num(column(own, "jaccard"))
        axes.barh(y, known, color=shade, height=0.6 / len(kinds), label=kind or "measured")
        _write_shares(axes, own, y, limit)
    names = [textwrap.fill(str(name), 26, max_lines=2, placeholder=" …") for name in settings]
    name_ticks(axes, names, "y", most=len(settings))
    axes.set(xlim=(0, limit), ylim=(len(settings) - 0.45, -0.55), xlabel="elements shared by both runs (Jaccard)")
    percent_axis(axes.xaxis, None)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_color(LINE)
    handles, labels = axes.get_legend_handles_labels()
    chance = axes.plot([], [], **CHANCE)
    legend_below(figure, [*handles, *chance], [*labels, "chance"])
    return figure


def _write_shares(axes: Axes, rows: Rows, y: Sequence[float], limit: float) -> None:
    """The ticks of chance, and behind every bar its share: behind the tick where that is in the way."""
    chances = column(rows, "chance")
    axes.plot(chances, y, **CHANCE)
    for place, share, chance in zip(y, column(rows, "jaccard"), chances):
        text, end = percent(share), float(np.nan_to_num(share))
        if -0.02 * limit < chance - end < (0.04 + 0.022 * len(text)) * limit:
            end = max(end, chance)
        axes.annotate(text, (end, place), (5, 0), textcoords="offset points", va="center", fontsize=7.5)


@styled
def per_class_figure(rows: Rows, paper: Rows = ()) -> Figure:
    """AUROC with its interval against training images per class, a line per classifier, a panel per kind of value.

    rows: "images per class", classifier, auroc, low, high, and, where several are compared, values; what needs no
    training images (0) is a dotted line in every panel. paper: rows without interval, drawn hollow and dashed in the
    first panel.
    """
    fitted = [row for row in rows if row["images per class"]]
    kinds = distinct(fitted, "values") or [None]
    names = distinct([*fitted, *paper], "classifier")
    levels = {str(row.get("values") or row["classifier"]): row["auroc"] for row in rows if not row["images per class"]}
    figure = new_figure(WIDE if len(kinds) > 1 else COLUMN, 3.6)
    panels = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
    for axes, kind in zip(panels, kinds):
        for place, name in enumerate(names):
            own = [row for row in fitted if (row.get("values"), row["classifier"]) == (kind, name)]
            _fitted(axes, own, place, names)
        for place, level in enumerate(levels.values(), len(names)):
            axes.axhline(level, color=colour(place), linewidth=1.2, linestyle=":")
        _marked(axes, column([*fitted, *paper], "images per class"))
        axes.set(xlabel="training images per class", title=capitalised(kind or ""))
        axes.grid(axis="y")
    for place, name in enumerate(names):
        _published(panels[0], [row for row in paper if row["classifier"] == name], place, names)
    panels[0].set(ylabel="AUROC", ylim=auroc_range([*rows, *paper]))
    legend_below(figure, *_learning_handles(names, list(levels), bool(paper)))
    return figure


def _fitted(axes: Axes, rows: Rows, place: int, names: Sequence[str]) -> None:
    bars: Any = ends(rows)
    x = _dodged(rows, place, len(names))
    axes.errorbar(x, column(rows, "auroc"), yerr=bars, capsize=2, elinewidth=1, **look(place))


def _published(axes: Axes, rows: Rows, place: int, names: Sequence[str]) -> None:
    drawn = {**look(place), **PUBLISHED}
    axes.plot(_dodged(rows, place, len(names)), column(rows, "auroc"), zorder=1.5, **drawn)


def _dodged(rows: Rows, place: int, series: int) -> Floats:
    """Images per class, moved a little on a logarithmic axis, so that intervals of several series do not overlap."""
    return np.array(column(rows, "images per class")) * float(1.05 ** (place - (series - 1) / 2))


def _learning_handles(names: Sequence[str], levels: Sequence[str], published: bool) -> tuple[list[Any], list[str]]:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **look(place)) for place in range(len(names))]
    for place in range(len(names), len(names) + len(levels)):
        handles.append(Line2D([], [], color=colour(place), linewidth=1.2, linestyle=":"))
    told = [*(detector_name(str(name)) for name in names), *levels]
    if published:
        handles.append(Line2D([], [], **{"color": QUIET, "marker": "o", **PUBLISHED}))
    return handles, [*told, *(["paper"] if published else [])]
