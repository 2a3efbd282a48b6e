"""The path picture: one image's path layer by layer, from its pixels to its logits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from netpaths.path import Elements, Path
from netpaths.report.findings import Example
from netpaths.report.style import ADVERSARIAL, INK, LINE, QUIET, WIDE, new_figure, ramp, styled
from netpaths.report.tables import count, percent
from netpaths.similarity import layers_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LAYERS = 6
"""Layers shown at most, beside the image and its pixels."""

SIDE = 192
"""Pixels on the longer side of a drawn image at most: more cannot be seen and makes the page heavy."""

UNIT_NAMES = 12
"""A last layer with at most so many units shows them one by one, with their class names."""

Floats = NDArray[np.float64]
CHOSEN, ABSENT = "#0b4f86", "#e7ebef"


@dataclass(frozen=True)
class Panel:
    """One drawn site: its node, kind of elements, how many are selected of how many, and the values to draw."""

    node: str
    kind: str
    selected: int
    total: int
    values: torch.Tensor


def picture(image: torch.Tensor) -> Floats:
    """(height, width) or (height, width, 3) in [0, 1] from (channels, height, width); other channels are averaged.

    Larger images are shrunk to `SIDE` pixels, by averaging.
    """
    shrunk = _shrink(image.detach().cpu().double().clamp(0, 1))
    pixels = shrunk.numpy()
    if pixels.ndim != 3:
        return np.atleast_2d(pixels.reshape(-1))
    if pixels.shape[0] == 3:
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return np.asarray(pixels.mean(axis=0))


def _shrink(image: torch.Tensor) -> torch.Tensor:
    if image.dim() != 3 or max(image.shape[1:]) <= SIDE:
        return image
    factor = SIDE / max(image.shape[1:])
    height, width = (max(round(side * factor), 1) for side in image.shape[1:])
    return torch.nn.functional.adaptive_avg_pool2d(image, (height, width))


def draw_image(axes: Axes, image: torch.Tensor, dimmed: bool = False) -> None:
    """The image on ``axes`` without ticks; ``dimmed``: pale and grey, as a ground for something else."""
    pixels = picture(image)
    if dimmed:
        grey = pixels if pixels.ndim == 2 else pixels @ np.array([0.299, 0.587, 0.114])
        pixels = 0.96 - 0.38 * grey
    axes.imshow(
        pixels, cmap="gray", vmin=0, vmax=1, interpolation="none", extent=(0, pixels.shape[1], pixels.shape[0], 0)
    )
    frame(axes)


def frame(axes: Axes) -> None:
    """No ticks and a thin frame all round."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(LINE)


def shown_layers(path: Path) -> tuple[tuple[str, ...], int]:
    """The layers a picture shows, from input to output, and how many there are: all, or evenly spaced with the last."""
    kind = _kind(path)
    layers = layers_of(path, kind)
    if len(layers) <= LAYERS:
        return layers, len(layers)
    places = np.unique(np.linspace(0, len(layers) - 1, LAYERS).round().astype(int))
    return tuple(layers[place] for place in places), len(layers)


def input_panel(example: Example) -> Panel | None:
    """The selected pixels, or None where the path stops before the image or has no neurons."""
    path = example.path
    for node in path.nodes("neuron")[:1]:
        elements = path[node, "neuron"]
        if tuple(elements.shape) == tuple(example.image.shape) and node not in path.layers:
            return _panel(node, "neuron", elements)
    return None


@styled
def path_figure(example: Example, class_names: Sequence[str]) -> Figure:
    """The path of ``example`` as a row of panels: image, selected pixels, then layers from input to output.

    A convolution is a map of how many channels are selected at each location, over the dimmed image; a linear layer
    a grid of its units. At most 8 panels: of a deeper network evenly spaced layers.
    """
    path = example.path
    source = path if "neuron" in path.kinds() else path.project("channel")
    kind = _kind(path)
    layers, everything = shown_layers(path)
    pixels = input_panel(example)
    panels = [_panel(node, kind, source[node, kind]) for node in layers]
    columns = 1 + (pixels is not None) + len(panels)
    sampled = len(layers) < everything
    titles = max(wrapped(node).count("\n") for node in layers) if layers else 0
    figure = new_figure(WIDE, min(0.78 + WIDE / max(columns, 5), 2.9) + 0.25 * sampled + 0.1 * titles)
    row = figure.subplots(1, columns, squeeze=False)[0]
    draw_image(row[0], example.image)
    _label(row[0], "image", *_told(example, class_names))
    if pixels is not None:
        _draw_pixels(row[1], example.image, pixels)
    for place, (axes, panel) in enumerate(zip(row[columns - len(panels) :], panels)):
        last = place == len(panels) - 1 and panel.node == path.layers[-1:][0] if path.layers else False
        _draw_layer(axes, panel, example, class_names if last else ())
    if sampled:
        figure.supxlabel(
            f"{len(layers)} of {everything} layers shown, evenly spaced", fontsize=8, color=QUIET, x=0.995, ha="right"
        )
    return figure


def _kind(path: Path) -> str:
    return "neuron" if "neuron" in path.kinds() else "channel"


def _panel(node: str, kind: str, elements: Elements) -> Panel:
    return Panel(node, kind, len(elements), elements.total, elements.dense().double())


def _told(example: Example, names: Sequence[str]) -> tuple[str, str]:
    predicted = example.path.predicted
    first = "" if predicted is None else f"predicted: {class_name(names, predicted)}"
    return first, "" if example.label < 0 else f"true: {class_name(names, example.label)}"


def class_name(names: Sequence[str], label: int | None) -> str:
    """The name of a class, or its number where it has none."""
    if label is None:
        return "unknown"
    return str(names[label]) if 0 <= label < len(names) else f"class {label}"


def wrapped(name: str, width: int = 13) -> str:
    """A long node name over several lines, broken after dots, underscores and spaces."""
    lines = [""]
    for part in re.findall(r"[^._ ]*[._ ]|[^._ ]+", name):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip(" ") for line in lines)


def _label(axes: Axes, title: str, *lines: str) -> None:
    axes.set_title(wrapped(title), loc="center", fontsize=8.5 if len(title) <= 12 else 7, linespacing=1.05)
    axes.set_xlabel("\n".join(lines), fontsize=7.5, color=QUIET, labelpad=4, linespacing=1.3)
    axes.set_anchor("N")


def _counted(panel: Panel) -> tuple[str, str]:
    what = {"neuron": "neurons", "channel": "channels"}[panel.kind]
    return f"{count(panel.selected)} of {count(panel.total)}", f"{what} ({percent(panel.selected / panel.total)})"


def _draw_pixels(axes: Axes, image: torch.Tensor, panel: Panel) -> None:
    draw_image(axes, image, dimmed=True)
    mask = (panel.values > 0).any(dim=0).numpy()
    _overlay(axes, mask.astype(float), picture(image).shape[:2], ramp("orange"), flat=ADVERSARIAL)
    chosen = f"{count(panel.selected)} of {count(panel.total)}"
    what = "pixels" if image.shape[0] == 1 else "pixel values"
    _label(axes, "pixels", chosen, f"{what} ({percent(panel.selected / panel.total)})")


def _draw_layer(axes: Axes, panel: Panel, example: Example, names: Sequence[str]) -> None:
    if panel.values.dim() == 3 and panel.values[0].numel() > 1:
        draw_image(axes, example.image, dimmed=True)
        _draw_map(axes, panel, example)
        return
    values = panel.values.reshape(-1).numpy()
    if 0 < len(names) == len(values) <= UNIT_NAMES:
        _draw_classes(axes, values, names)
    else:
        _draw_units(axes, values)
    first, second = _counted(panel)
    _label(axes, panel.node, first, second.replace("neurons", "units"))


def _draw_map(axes: Axes, panel: Panel, example: Example) -> None:
    counts = (panel.values > 0).sum(dim=0).double().numpy()
    _overlay(axes, counts, picture(example.image).shape[:2], ramp("blue"))
    most = int(counts.max())
    deepest = (f"darkest: {most} of {panel.values.shape[0]}", "channels") if most else ()
    _label(axes, panel.node, *_counted(panel), *deepest)


def _overlay(axes: Axes, values: Floats, extent: Sequence[int], shades: Any, flat: str = "") -> None:
    """``values`` (rows, columns) stretched over an image of ``extent`` (height, width); zero is clear."""
    from matplotlib.colors import to_rgba

    top = values.max() or 1.0
    coloured = np.array(shades(0.25 + 0.75 * values / top))
    if flat:
        coloured[:] = to_rgba(flat)
    coloured[..., 3] = np.where(values > 0, 0.9 if flat else 0.62 + 0.33 * values / top, 0)
    axes.imshow(coloured, interpolation="none", extent=(0, extent[1], extent[0], 0))


def _draw_units(axes: Axes, values: Floats) -> None:
    """Units as cells in reading order, in a grid as nearly square as their number allows."""
    columns = ceil(np.sqrt(values.size))
    rows = ceil(values.size / columns)
    cells = np.full(columns * rows, np.nan)
    cells[: values.size] = np.where(values > 0, 0.62 + 0.2 * values / (values.max() or 1.0), -1)
    shades = ramp("blue").with_extremes(bad=(1, 1, 1, 0), under=ABSENT)
    grid = np.ma.masked_invalid(cells).reshape(rows, columns)
    axes.imshow(grid, cmap=shades, vmin=0, vmax=1, interpolation="none", extent=(0, columns, rows, 0))
    _bare(axes, columns)
    if columns <= 40:
        axes.set_xticks(range(columns + 1), minor=True)
        axes.set_yticks(range(rows + 1), minor=True)
        axes.grid(which="minor", color="white", linewidth=0.8 if columns <= 20 else 0.25)
        axes.tick_params(which="minor", length=0, pad=0)


def _bare(axes: Axes, size: float) -> None:
    """A square of ``size`` units without frame or ticks."""
    axes.set(xlim=(0, size), ylim=(size, 0), aspect="equal")
    frame(axes)
    for spine in axes.spines.values():
        spine.set_color("none")


def _draw_classes(axes: Axes, values: Floats, names: Sequence[str]) -> None:
    """The logits as a column of named cells."""
    from matplotlib.patches import Rectangle

    size = len(values)
    _bare(axes, size)
    texts = [text if len(text) <= 12 else text[:11] + "…" for text in map(str, names)]
    start = size * (0.3 if max(map(len, texts)) <= 3 else 0.06)
    for row, (value, text) in enumerate(zip(values, texts)):
        chosen = bool(value > 0)
        shade = CHOSEN if chosen else ABSENT
        axes.add_patch(Rectangle((start, row + 0.1), 0.16 * size, 0.8, color=shade, linewidth=0))
        weight, ink = ("bold", INK) if chosen else ("normal", QUIET)
        axes.text(start + 0.21 * size, row + 0.52, text, va="center", fontsize=7.5, color=ink, weight=weight)
