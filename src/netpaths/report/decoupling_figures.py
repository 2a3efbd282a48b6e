"""Figures of decoupled networks: what they compute, how they train, what their filters are on for; see `style`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from netpaths.report.path_picture import class_name
from netpaths.report.rivals_figures import write_beside
from netpaths.report.routing_findings import WHOLE
from netpaths.report.series import (
    Floats,
    Rows,
    apart,
    column,
    cut,
    distinct,
    evenly,
    legend_below,
    level_line,
    look,
    shift,
)
from netpaths.report.style import (
    ACCENT,
    COLUMN,
    LINE,
    PAPER,
    QUIET,
    WIDE,
    colour,
    name_ticks,
    new_figure,
    percent_axis,
    ramp,
    styled,
)
from netpaths.report.tables import MINUS, percent, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

SHEET = 24
"""Layers whose filters are shown at most."""

NUMBERED = 24
"""Filters are numbered up to so many."""

PALE = "#a6cbe6"
"""What stands beside the accent."""

TIMES = {
    "runtime": "runtime",
    "all on": "runtime, every filter on",
    "masked": "torch, outputs masked",
}
"""Programs whose time stands over that of the dense network; which rows hold it is in `time_rows`."""

COURSES = {"accuracy": "Accuracy", "kept": "Filters on", "macs": "MACs over the dense network’s"}
MEASURES = {
    "accuracy": "Accuracy",
    "MACs": "MACs",
    "neighbours": "Same-class neighbours",
    "nats": "Nats about the class",
}
LEFT = {"filters kept": "filters", "parameters": "parameters", "MACs": "MACs"}
DIAGONAL: dict[str, Any] = {"color": QUIET, "linewidth": 1, "linestyle": ":"}


def _percents(axis: Axis) -> None:
    """Tick labels in percent with as many decimals as they need: "91%", "91.5%"."""
    axis.set_major_formatter(lambda share, _: f"{round(100 * share, 6):g}%".replace("-", MINUS))


def target_name(target: float) -> str:
    """A target share of filters as figures name it."""
    return f"τ = {target:g}"


@styled
def accuracy_figure(rows: Rows, main: float) -> Figure:
    """Accuracy against MACs over the dense network's, a point per target, ``main`` the large one.

    rows: target, accuracy, MACs; the dense network (target NaN) is the dotted line.
    """
    made = sorted((row for row in rows if not np.isnan(row["target"])), key=lambda row: row["target"])
    figure = new_figure(COLUMN, 3.2)
    axes = figure.subplots()
    axes.plot(column(made, "MACs"), column(made, "accuracy"), color=PALE, linewidth=1.2)
    for row in made:
        drawn: dict[str, Any] = {"marker": "D", "markersize": 6.5} if row["target"] == main else {"marker": "o"}
        axes.plot(row["MACs"], row["accuracy"], color=ACCENT, **drawn)
    for row in rows:
        if np.isnan(row["target"]):
            level_line(axes, row["accuracy"], "dense network", "left")
    axes.set(xlabel="multiply–accumulates, share of the dense network’s", ylabel="accuracy")
    axes.margins(0.2, 0.2)
    axes.locator_params(nbins=6)
    _percents(axes.xaxis)
    _percents(axes.yaxis)
    axes.grid(axis="y")
    points = np.array([column(made, "MACs"), column(made, "accuracy")]).T
    write_beside(figure, axes, points, [target_name(row["target"]) for row in made])
    return figure


def time_rows(rows: Rows) -> list[dict[str, Any]]:
    """Times over that of the dense network, one row per target, batch, threads and program of `TIMES`.

    rows: target, batch, threads, MACs, "over dense" with its quartiles low and high, "masked over dense", "all on ms",
    "dense ms". Only the runtime has quartiles.
    """
    found = []
    for row in rows:
        shared = {key: row[key] for key in ("target", "batch", "threads", "MACs")}
        own = {key: row[key] for key in ("over dense", "low", "high")}
        found.append({**shared, "program": "runtime", **own})
        found.append({**shared, "program": "all on", "over dense": row["all on ms"] / row["dense ms"]})
        found.append({**shared, "program": "masked", "over dense": row["masked over dense"]})
    return found


@styled
def latency_figure(rows: Rows) -> Figure:
    """Time over the dense network's against its share of MACs, a panel per batch size, a line per program.

    rows: as `time_rows` takes them. The diagonal is what operations alone would say.
    """
    times = time_rows(rows)
    panels = list(dict.fromkeys((row["batch"], row["threads"]) for row in times))
    figure = new_figure(WIDE if len(panels) > 1 else COLUMN, 3.5)
    columns = min(len(panels), 2 if len(panels) == 4 else 3)
    grid = figure.subplots(-(-len(panels) // columns), columns, squeeze=False, sharey=True, sharex=True)
    figure.set_figheight(0.8 + 2.7 * len(grid))
    apart(figure)
    for axes, (batch, threads) in zip(grid.ravel(), panels):
        own = [row for row in times if (row["batch"], row["threads"]) == (batch, threads)]
        _time_lines(axes, own)
        axes.tick_params(labelbottom=True)
        axes.set_title(_setting_name(batch, threads, len({each for _, each in panels}) > 1))
    for axes in grid.ravel()[len(panels) :]:
        axes.set_visible(False)
    for line in grid:
        line[0].set_ylabel("time over the dense network’s")
    top = max([1.0, *_known([*column(times, "over dense"), *column(times, "high")])])
    grid[0, 0].set(xlim=(0, 1.04 * max([1.0, *_known(column(rows, "MACs"))])), ylim=(0, 1.1 * top))
    legend_below(figure, *grid[0, 0].get_legend_handles_labels())
    return figure


def _known(values: Sequence[float]) -> list[float]:
    return [value for value in values if np.isfinite(value)]


def _time_lines(axes: Axes, rows: Rows) -> None:
    for place, (program, name) in enumerate(TIMES.items()):
        own = sorted((row for row in rows if row["program"] == program), key=lambda row: row["MACs"])
        axes.plot(column(own, "MACs"), column(own, "over dense"), label=name, **look(place))
        axes.vlines(column(own, "MACs"), column(own, "low"), column(own, "high"), color=colour(place), linewidth=1)
    axes.plot([0, 1], [0, 1], label="operations alone", **DIAGONAL)
    level_line(axes, 1, "dense network", "left")
    axes.set_xlabel("MACs over the dense network’s")
    axes.grid(axis="y")
    for axis in (axes.xaxis, axes.yaxis):
        percent_axis(axis)


def _setting_name(batch: int, threads: int, several: bool) -> str:
    told = "One image at a time" if batch == 1 else f"{batch} images at once"
    return f"{told}, {threads} {'thread' if threads == 1 else 'threads'}" if several else told


@styled
def training_figure(rows: Rows) -> Figure:
    """Accuracy, share of filters on and MACs after every epoch, a line per target; dotted: the targets themselves.

    rows: target, epoch, accuracy, kept, macs.
    """
    from matplotlib.ticker import MaxNLocator

    targets = sorted(distinct(rows, "target"))
    figure = new_figure(WIDE, 3.0)
    for axes, (key, title) in zip(figure.subplots(1, 3), COURSES.items()):
        for place, target in enumerate(targets):
            own = [row for row in rows if row["target"] == target]
            drawn = {**look(place), **({"marker": ""} if len(own) > 25 else {})}
            axes.plot(column(own, "epoch"), column(own, key), label=target_name(target), **drawn)
            if key == "kept":
                axes.axhline(target, color=colour(place), linewidth=0.9, linestyle=":")
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        axes.locator_params(axis="y", nbins=6)
        axes.grid(axis="y")
        _percents(axes.yaxis)
    legend_below(figure, *figure.axes[0].get_legend_handles_labels())
    return figure


@styled
def losses_figure(rows: Rows) -> Figure:
    """What the parts of the loss do: a row of dots per variant, a panel per measure, each with its own scale.

    rows: loss, and the keys of `MEASURES`.
    """
    figure = new_figure(WIDE, 0.75 + 0.3 * max(len(rows), 2))
    panels = figure.subplots(1, len(MEASURES), sharey=True)
    for axes, (key, title) in zip(panels, MEASURES.items()):
        _dots_with_values(axes, column(rows, key), short if key == "nats" else percent)
        axes.set_title(title, fontsize=8.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", linewidth=0.5)
        axes.spines["left"].set_visible(False)
        axes.locator_params(axis="x", nbins=3)
        if key != "nats":
            _percents(axes.xaxis)
    panels[0].set_yticks(range(len(rows)), [textwrap.fill(str(row["loss"]), 26) for row in rows])
    panels[0].set_ylim(len(rows) - 0.5, -0.5)
    return figure


def _dots_with_values(axes: Axes, values: Sequence[float], told: Any) -> None:
    """A dot per row with its value at its right; "unknown" where there is none."""
    known = _known(values)
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    span = high - low or max(abs(high), 1.0) / 10
    axes.set_xlim(low - 0.12 * span, high + 0.75 * span)
    axes.plot(values, range(len(values)), linestyle="", marker="o", color=ACCENT, markersize=5.5, zorder=3)
    for place, value in enumerate(values):
        spot, text = (value, told(value)) if np.isfinite(value) else (low, "unknown")
        box = {"facecolor": PAPER, "linewidth": 0, "pad": 0.6}
        axes.annotate(
            text, (spot, place), (6, 0), textcoords="offset points", va="center", fontsize=7.5, bbox=box, zorder=2
        )


def preferred_order(shares: Floats) -> NDArray[np.int64]:
    """Filters in the order of their preferred class: (filters,) of shares (classes, filters).

    First those always on, then by the class that they are on for most, the choosiest first, last those always off.
    """
    known = np.nan_to_num(shares)
    low, high, mean = known.min(axis=0), known.max(axis=0), known.mean(axis=0)
    group = np.where(low >= 1, 0, np.where(high <= 0, 2, 1))
    return np.lexsort((mean - high, known.argmax(axis=0), group)).astype(np.int64)


def varying(shares: Floats) -> int:
    """How many filters are on for some images and off for others: of shares (classes, filters), NaN left out."""
    known = shares[~np.isnan(shares).any(axis=1)]
    return int(((known.max(axis=0, initial=0) > 0) & (known.min(axis=0, initial=1) < 1)).sum())


@styled
def firing_figure(firing: Mapping[str, Floats], class_names: Sequence[str]) -> Figure:
    """For which share of a class's images each filter is on, a heat map of classes × filters per layer.

    firing: layer → (classes, filters). Filters stand in `preferred_order`. More than `SHEET` layers: evenly spaced ones
    with the last.
    """
    layers = evenly(list(firing), SHEET)
    columns = min(3, len(layers))
    lines = -(-len(layers) // columns)
    classes = max(len(shares) for shares in firing.values())
    tall = float(np.clip(0.115 * classes, 0.55, 2.2))
    figure = new_figure(WIDE if columns > 1 else COLUMN, (tall + 0.3) * lines + 0.45)
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for axes, layer in zip(grid, layers):
        heat = _filters_panel(axes, layer, np.asarray(firing[layer], np.float64))
    for axes in grid[len(layers) :]:
        axes.set_visible(False)
    names = [cut(class_name(class_names, label), 14) for label in range(classes)]
    name_ticks(grid[0], names, "y", most=max(int(tall / 0.11), 1))
    bar = figure.colorbar(heat, ax=list(grid), location="bottom", shrink=0.45, aspect=45, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_label("share of the class’s images for which a filter (column) is on")
    percent_axis(bar.ax.xaxis)
    if len(layers) < len(firing):
        figure.suptitle(f"{len(layers)} of {len(firing)} layers, evenly spaced", fontsize=8, color=QUIET)
    return figure


def _filters_panel(axes: Axes, layer: str, shares: Floats) -> AxesImage:
    """The heat map of one layer: shares (classes, filters)."""
    shown = shares[:, preferred_order(shares)]
    shades = ramp("blue").with_extremes(bad="#e3e7eb")
    heat = axes.imshow(shown, cmap=shades, vmin=0, vmax=1, aspect="auto", interpolation="none")
    axes.set_title(cut(layer, 24), fontsize=8)
    axes.set_title(f"{varying(shares)} of {shares.shape[1]} vary", loc="right", fontsize=7.5, weight="normal")
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0, labelsize=7)
    _quiet_frame(axes)
    return heat


def _quiet_frame(axes: Axes) -> None:
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(LINE)


def alike_order(correlations: Floats) -> NDArray[np.int64]:
    """Filters whose correlations (filters, filters) are alike side by side: average linkage of 1 − correlation."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    if len(correlations) < 3:
        return np.arange(len(correlations))
    distances = np.clip(1 - np.nan_to_num((correlations + correlations.T) / 2), 0, 2)
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(distances, checks=False), "average", optimal_ordering=True)
    return np.asarray(leaves_list(tree), np.int64)


def clustered(correlations: Floats) -> tuple[NDArray[np.int64], Floats]:
    """The filters that change, in `alike_order` (n,), and their correlations (n, n).

    correlations: (filters, filters), NaN where one never changes.
    """
    changing = np.flatnonzero(~np.isnan(np.diag(correlations)))
    order = changing[alike_order(correlations[np.ix_(changing, changing)])]
    return order, correlations[np.ix_(order, order)]


@styled
def alike_figure(correlations: Floats, layer: str) -> Figure:
    """How alike the filters of a layer are in when they are on, as a heat map, similar ones side by side.

    correlations: (filters, filters), NaN where one never changes; those are left out.
    """
    order, shown = clustered(correlations)
    figure = new_figure(COLUMN, COLUMN * 0.9)
    axes = figure.subplots()
    axes.set_title(cut(layer, 44))
    axes.tick_params(length=0)
    axes.set_xlabel(f"{len(order)} of {len(correlations)} filters change; similar ones side by side")
    _quiet_frame(axes)
    if not len(order):
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no filter of this layer changes", transform=axes.transAxes, ha="center", va="center")
        return figure
    heat = axes.imshow(shown, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="none")
    if len(order) > NUMBERED:
        axes.set(xticks=[], yticks=[])
    else:
        axes.set_xticks(range(len(order)), [str(place) for place in order], fontsize=7)
        axes.set_yticks(range(len(order)), [str(place) for place in order], fontsize=7)
    bar = figure.colorbar(heat, ax=axes, shrink=0.82, aspect=28, pad=0.02)
    bar.outline.set_visible(False)
    bar.set_label("correlation of when two filters are on")
    return figure


@styled
def distinct_figure(rows: Rows) -> Figure:
    """Different codes over images, as bars from the first layer to the last; the whole path stands out.

    rows: layer, share.
    """
    figure = new_figure(WIDE if len(rows) > 8 else COLUMN, 2.9)
    axes = figure.subplots()
    shares = column(rows, "share")
    axes.bar(
        range(len(rows)),
        np.nan_to_num(shares),
        color=[ACCENT if row["layer"] == WHOLE else PALE for row in rows],
        width=0.72,
    )
    for place, share in enumerate(shares):
        if len(rows) <= 24:
            text = percent(share, 0) if np.isfinite(share) else "–"
            spot = (place, float(np.nan_to_num(share)))
            axes.annotate(text, spot, (0, 2.5), textcoords="offset points", ha="center", fontsize=7.5)
    axes.set(ylim=(0, 1.1), xlim=(-0.6, len(rows) - 0.4), ylabel="different codes\nover images")
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    percent_axis(axes.yaxis)
    name_ticks(axes, [cut(str(row["layer"]), 28) for row in rows])
    axes.grid(axis="y")
    return figure


def classes_name(number: int) -> str:
    """So many classes in words."""
    return "1 class" if number == 1 else f"{number} classes"


@styled
def static_figure(rows: Rows) -> Figure:
    """What is left when filters that a set of classes never needs are taken out, and the accuracy before and after.

    rows: classes (how many), "filters kept", parameters, MACs (shares of the whole network's), accuracy, before.
    """
    figure = new_figure(WIDE, 1.0 + 0.34 * max(len(rows), 2))
    left, right = figure.subplots(1, 2, sharey=True)
    apart(figure)
    y = np.arange(len(rows))
    for place, (key, name) in enumerate(LEFT.items()):
        drawn = {**look(place), "linestyle": "", "markersize": 6}
        left.plot(column(rows, key), y + 0.6 * shift(place, len(LEFT)), label=name, **drawn)
    before, after = column(rows, "before"), column(rows, "accuracy")
    right.hlines(y, before, after, color=QUIET, linewidth=1.2)
    hollow: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 6.5, "color": QUIET}
    right.plot(before, y, label="accuracy before", markerfacecolor=PAPER, **hollow)
    right.plot(after, y, label="accuracy after", marker="o", linestyle="", markersize=4.5, color=ACCENT)
    left.set(xlabel="left of the whole network", xlim=(0, 1.04), ylim=(len(rows) - 0.5, -0.5))
    right.set_xlabel("accuracy on images of these classes")
    right.margins(x=0.12)
    for axes in (left, right):
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="both", linewidth=0.5)
        _percents(axes.xaxis)
    left.set_yticks(y, [classes_name(row["classes"]) for row in rows])
    handles, labels = zip(*[axes.get_legend_handles_labels() for axes in (left, right)])
    legend_below(figure, [one for own in handles for one in own], [one for own in labels for one in own])
    return figure
