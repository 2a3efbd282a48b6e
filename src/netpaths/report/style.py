"""The look that all figures share: a colour-blind-safe palette (Okabe & Ito 2008), quiet axes, and the saving."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from netpaths.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

P = ParamSpec("P")
R = TypeVar("R")

INK, QUIET, LINE, PAPER = "#1c2733", "#5b6875", "#d5dbe1", "#ffffff"
CLEAN, ADVERSARIAL, ACCENT = "#0072b2", "#d55e00", "#0072b2"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#1c2733", "#7f7f7f")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

WIDE, COLUMN = 8.6, 4.6
"""Widths in inches: the whole text column, and half of it."""

DPI = 160

SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.handlelength": 2.2,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "figure.facecolor": PAPER,
    "svg.fonttype": "path",
    "svg.hashsalt": "netpaths",
}


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """``draw`` run under `SETTINGS`, whatever matplotlib is set to outside."""
    from functools import wraps

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        from matplotlib import rc_context, rcParamsDefault

        settings: Any = {**_portable(rcParamsDefault), **SETTINGS}
        with rc_context(settings):
            return draw(*args, **kwargs)

    return inside


def _portable(defaults: Any) -> dict[str, Any]:
    kept = ("axes.", "font.", "xtick.", "ytick.", "legend.", "lines.", "figure.", "text.", "grid.", "image.")
    return {name: defaults[name] for name in defaults if name.startswith(kept)}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of ``width`` × ``height`` inches that lays itself out."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.04)  # type: ignore[union-attr, call-arg]
    return figure


def colour(index: int) -> str:
    """The palette's colour of the ``index``-th series."""
    return COLOURS[index % len(COLOURS)]


def dash(index: int) -> Any:
    """A line style that changes as slowly as the palette repeats, so that no two series look alike."""
    return DASHES[index % len(DASHES)]


def ramp(name: str = "blue") -> Colormap:
    """A sequential colour map from nearly white to a deep ``name`` ("blue" or "orange")."""
    from matplotlib.colors import LinearSegmentedColormap

    ends = {
        "blue": ["#f3f8fc", "#a6cbe6", "#3e8fc4", "#0b4f86", "#06294a"],
        "orange": ["#fde3cd", "#f5a45d", "#d55e00", "#8a3b00"],
    }
    return LinearSegmentedColormap.from_list(name, ends[name])


def percent_axis(axis: Any, decimals: int | None = 0) -> None:
    """Tick labels of a matplotlib axis whose values are shares, in percent."""
    from matplotlib.ticker import PercentFormatter

    axis.set_major_formatter(PercentFormatter(1, decimals=decimals))


def name_ticks(axes: Axes, names: Sequence[str], along: str = "x", most: int = 0) -> None:
    """Label positions 0, 1, … with ``names``: every k-th where there are more than ``most``; slanted where long.

    most: by default 24 along y, and along x as many slanted names as the axes are wide enough for.
    """
    width = axes.get_position().width * axes.figure.get_figwidth()  # type: ignore[union-attr]
    most = most or (24 if along == "y" else max(int(3.6 * width), 2))
    step = -(-len(names) // most)
    places = list(range(0, len(names), step))
    shown = [names[place] for place in places]
    if along == "y":
        axes.set_yticks(places, shown)
        return
    crowded = sum(map(len, shown)) + 2 * len(shown) > 12 * width
    axes.set_xticks(
        places,
        shown,
        rotation=40 if crowded else 0,
        ha="right" if crowded else "center",
        rotation_mode="anchor" if crowded else "default",
    )


@styled
def svg_bytes(figure: Figure) -> bytes:
    """The figure as SVG; the same figure gives the same bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


@styled
def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG at `DPI` dots per inch."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, metadata={"Software": None})
    return stream.getvalue()


def save_figure(figure: Figure, folder: Path, name: str) -> bytes:
    """Write ``folder/name.svg`` and ``folder/name.png``, atomically; returns the SVG. Raises StorageFull."""
    drawing = svg_bytes(figure)
    for suffix, data in (("svg", drawing), ("png", png_bytes(figure))):
        _write(folder / f"{name}.{suffix}", data)
    return drawing


def _write(path: Path, data: bytes) -> None:
    def fill(temporary: Path) -> None:
        temporary.write_bytes(data)

    write_atomically(path, fill)


def data_uri(drawing: bytes) -> str:
    """An SVG as the address of an image that needs no request."""
    return "data:image/svg+xml;base64," + base64.b64encode(drawing).decode()
