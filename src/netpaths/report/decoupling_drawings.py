"""The figures of the report on decoupled networks, each with its caption, its description and its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from netpaths.report.decoupling_figures import (
    accuracy_figure,
    alike_figure,
    classes_name,
    clustered,
    distinct_figure,
    firing_figure,
    latency_figure,
    losses_figure,
    static_figure,
    target_name,
    time_rows,
    training_figure,
)
from netpaths.report.decoupling_findings import UNION, DecouplingFindings
from netpaths.report.page_figures import matrix_illustration
from netpaths.report.parts import Illustration
from netpaths.report.path_picture import class_name
from netpaths.report.series import Floats, Rows, distinct
from netpaths.report.study_page import Drawing
from netpaths.report.tables import percent, short


def drawings(illustrate: Callable[[Rows], Illustration], rows: Rows) -> list[Drawing]:
    """The figure of ``rows``; none where there are no rows."""
    return [Drawing(illustrate(rows), rows)] if rows else []


def accuracy_drawing(findings: DecouplingFindings) -> Drawing:
    """Accuracy against operations."""
    dense, *made = findings.curve
    told = "; ".join(
        f"{target_name(row['target'])}: {percent(row['accuracy'])} at {percent(row['MACs'])} of the MACs"
        for row in made
    )
    illustration = Illustration(
        "accuracy",
        accuracy_figure(findings.curve, findings.main),
        "Accuracy on test images against the mean share of the dense network’s MACs, a point per target share τ of "
        "filters. The diamond is the network that the rest of this page is about; dotted: the dense network.",
        f"Chart of accuracy over MACs. Dense network: {percent(dense['accuracy'])}; {told}.",
    )
    return Drawing(illustration, findings.curve)


def latency_drawings(rows: Rows) -> list[Drawing]:
    """Time against operations; none where nothing was timed."""
    told = "; ".join(
        f"{target_name(row['target'])}, batch {row['batch']}: runtime {percent(row['over dense'], 0)}, torch "
        f"{percent(row['masked over dense'], 0)}, operations {percent(row['MACs'], 0)}"
        for row in rows
    )
    return drawings(
        lambda times: Illustration(
            "latency",
            latency_figure(rows),
            "Measured time over that of the dense network against the share of its MACs, a point per target; bars are "
            "the runtime’s quartiles over rounds. On the dotted diagonal time would fall as operations do; above the "
            "dotted level it is slower than the dense network.",
            f"Line charts of time over the dense network’s. {told}.",
            wide=True,
        ),
        time_rows(rows),
    )


def last_epochs(history: Rows) -> Rows:
    """The last epoch of every target."""
    return [[row for row in history if row["target"] == target][-1] for target in distinct(history, "target")]


def loss_epochs(history: Rows) -> Rows:
    """Of every target the last epoch in which all parts of the loss count, and the last epoch if it is another."""
    found = []
    for target in distinct(history, "target"):
        own = [row for row in history if row["target"] == target]
        most = max(map(len, own))
        complete = [row for row in own if len(row) == most][-1]
        found += [complete] if complete is own[-1] else [complete, own[-1]]
    return found


def training_illustration(rows: Rows) -> Illustration:
    """Accuracy, filters on and operations over epochs."""
    told = "; ".join(
        f"{target_name(row['target'])} ends at {percent(row['accuracy'])} with {percent(row['kept'])} of the filters on"
        for row in last_epochs(rows)
    )
    return Illustration(
        "training",
        training_figure(rows),
        "Accuracy, share of filters on, and MACs after every epoch, a line per target τ. Dotted: the targets.",
        f"Three line charts over epochs. {told}.",
        wide=True,
    )


def losses_illustration(rows: Rows) -> Illustration:
    """Variants of the loss."""
    told = "; ".join(
        f"{row['loss']}: accuracy {percent(row['accuracy'])}, MACs {percent(row['MACs'])}, neighbours "
        f"{percent(row['neighbours'])}, {short(row['nats'])} nats"
        for row in rows
    )
    return Illustration(
        "losses",
        losses_figure(rows),
        "Variants of the loss. Every panel has a scale of its own that need not start at 0: read the numbers.",
        f"Dot plots. {told}.",
        wide=True,
    )


def firing_drawing(firing: Mapping[str, Floats], class_names: Sequence[str]) -> Drawing:
    """For which classes filters are on."""
    rows = [
        {"layer": layer, "class": class_name(class_names, label), "filter": place, "share": share}
        for layer, shares in firing.items()
        for label, own in enumerate(shares.tolist())
        for place, share in enumerate(own)
    ]
    told = "; ".join(f"{layer}, {shares.shape[1]} filters" for layer, shares in firing.items())
    illustration = Illustration(
        "firing",
        firing_figure(firing, class_names),
        "Classes × filters of each layer, over training images. From left to right: filters that are always on, then "
        "the others by the class that they are on for most, last those that are always off.",
        f"Heat maps, one per layer: {told}.",
        wide=len(firing) > 1,
    )
    return Drawing(illustration, rows)


def alike_drawings(alike: Mapping[str, Floats]) -> list[Drawing]:
    """Which filters are on together, in the layer with most filters that change; none where no filter does."""
    layer = max(alike, key=lambda name: len(clustered(alike[name])[0]), default="")
    order, shown = clustered(alike[layer]) if layer else (np.empty(0, np.int64), np.empty((0, 0)))
    if not len(order):
        return []
    rows = [
        {"filter": int(order[one]), "other": int(order[other]), "correlation": value}
        for (one, other), value in np.ndenumerate(shown)
    ]
    illustration = Illustration(
        "alike",
        alike_figure(alike[layer], layer),
        f"Correlation, over test images, of when two filters of {layer} are on: of all layers the one with most "
        "filters that change. Red: on for the same images; blue: one is on where the other is off.",
        f"Heat map of the correlations of {len(order)} filters of {layer}.",
    )
    return [Drawing(illustration, rows)]


def matrix_drawings(matrices: Mapping[str, Floats], class_names: Sequence[str]) -> list[Drawing]:
    """Similarity of class paths, a drawing for each form of them."""
    return [_matrix_drawing(form, matrix, class_names) for form, matrix in matrices.items()]


def _matrix_drawing(form: str, matrix: Floats, class_names: Sequence[str]) -> Drawing:
    names = [class_name(class_names, label) for label in range(len(matrix))]
    rows = [
        {"class": names[one], "other": names[other], "similarity": value}
        for (one, other), value in np.ndenumerate(matrix)
    ]
    drawn = matrix_illustration(matrix, class_names)
    if form == UNION:
        return Drawing(drawn, rows)
    caption = f"The same for class paths of what {form} of a class’s images select. {drawn.caption}"
    return Drawing(replace(drawn, name="class-similarity-usual", caption=caption), rows)


def distinct_illustration(rows: Rows) -> Illustration:
    """Different codes per layer."""
    told = "; ".join(f"{row['layer']}: {percent(row['share'])}" for row in rows)
    return Illustration(
        "distinct",
        distinct_figure(rows),
        "Different codes of a layer over the number of images, and different whole paths (dark). At 100% every image "
        "has a code of its own.",
        f"Bar chart. {told}.",
        wide=len(rows) > 8,
    )


def static_illustration(rows: Rows) -> Illustration:
    """Filters taken out for good."""
    told = "; ".join(
        f"{classes_name(row['classes'])}: {percent(row['filters kept'])} of the filters, accuracy "
        f"{percent(row['before'])} before, {percent(row['accuracy'])} after"
        for row in rows
    )
    return Illustration(
        "static",
        static_figure(rows),
        "What remains of the network where only the first so many classes matter, MACs with every remaining filter on "
        "(left), and the accuracy on test images of these classes before and after (right).",
        f"Dot plots. {told}.",
        wide=True,
    )
