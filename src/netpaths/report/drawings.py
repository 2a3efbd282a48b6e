"""Figures with their words, and tables, that the pages of several studies share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from netpaths.ablation import Curve
from netpaths.report.density_figures import ablation_figure
from netpaths.report.names import listed
from netpaths.report.parts import Illustration, Table
from netpaths.report.routing_figures import embedding_figure, separation_figure
from netpaths.report.routing_findings import WHOLE
from netpaths.report.series import Floats, Rows, distinct
from netpaths.report.study_page import Drawing, rows_table
from netpaths.report.tables import duration


def ablation_drawing(curves: Sequence[Curve], labels: NDArray[np.int64], caption: str) -> Drawing:
    """Accuracy against the share of a path that is switched off. labels: (images,), for the line of guessing."""
    return Drawing(
        Illustration(
            "ablation",
            ablation_figure(curves, len(set(labels.tolist()))),
            caption,
            "Line chart of accuracy, a line per order.",
            wide=len({(curve.mode, curve.kind) for curve in curves}) > 1,
        ),
        [row for curve in curves for row in curve.rows()],
    )


def layer_drawings(
    rows: Rows, points: Mapping[str, Floats], labels: NDArray[np.int64], class_names: Sequence[str], what: str
) -> list[Drawing]:
    """How well the classes separate over depth, and t-SNE of every layer.

    rows: layer, separation, neighbours and, where several kinds are compared, values. points: layer → (images, 2), of
    the values called ``what``. labels: (images,).
    """
    depth = [row for row in rows if row["layer"] != WHOLE]
    silhouettes = {row["layer"]: row["separation"] for row in rows if row.get("values", what) == what}
    kinds = listed([f"by {kind}" for kind in distinct(depth, "values") if kind] or [f"by {what}"])
    return [
        Drawing(
            Illustration(
                "separation",
                separation_figure(depth, chance_neighbours(labels)),
                f"Separation of the classes {kinds} over depth.",
                "Line chart over layers of silhouette and of neighbours of the same class.",
                wide=True,
            ),
            depth,
        ),
        Drawing(
            Illustration(
                "embedding",
                embedding_figure(points, labels, class_names, silhouettes),
                f"t-SNE of the {what} of each layer{', and of all layers together' if WHOLE in points else ''}, "
                "coloured by true class.",
                "Scatter plots, one per layer.",
                wide=True,
            ),
            _dots(points, labels),
        ),
    ]


def chance_neighbours(labels: NDArray[np.int64]) -> float:
    """How often two images drawn at random have the same class. labels: (images,)."""
    _, counts = np.unique(labels, return_counts=True)
    return float(((counts / counts.sum()) ** 2).sum())


def _dots(points: Mapping[str, Floats], labels: NDArray[np.int64]) -> Rows:
    return [
        {"layer": layer, "class": int(label), "x": x, "y": y}
        for layer, places in points.items()
        for label, (x, y) in zip(labels, places.tolist())
    ]


def stages_table(seconds: Mapping[str, float], caption: str = "Stages") -> Table:
    """Wall clock of every stage."""
    return rows_table(caption, [{"stage": stage, "wall clock": duration(value)} for stage, value in seconds.items()])
