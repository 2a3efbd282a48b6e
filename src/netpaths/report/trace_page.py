"""The trace page: one image's path as one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from netpaths.files import write_text
from netpaths.report.findings import Example
from netpaths.report.page_figures import path_illustration
from netpaths.report.page_tables import layers_table, network_table
from netpaths.report.parts import Illustration, KeyFigure, embed, pairs, render
from netpaths.report.path_picture import class_name
from netpaths.report.sentences import carried, path_sizes
from netpaths.report.similarity_figures import class_similarity_figure, image_layers_figure
from netpaths.report.tables import count, flat, percent, write_csv

CONTENTS = (
    ("answer", "The image"),
    ("path", "Its path"),
    ("layers", "Layer by layer"),
    ("classes", "Against class paths"),
    ("network", "The network"),
    ("provenance", "Provenance"),
)


def write_trace_report(
    example: Example,
    operations: Sequence[Mapping[str, Any]],
    class_names: Sequence[str],
    folder: Path | str,
    title: str,
    command: str,
    settings: Mapping[str, Any],
) -> Path:
    """Write ``folder/trace.html`` with ``figures/`` and ``tables/trace_layers.csv`` beside it; returns the page.

    operations: rows of `Graph.operations`. settings: resolved options, shown as they are. Raises StorageFull.
    """
    folder = Path(folder)
    pictures = {each.name: embed(each, folder / "figures") for each in trace_illustrations(example, class_names)}
    write_csv(folder / "tables" / "trace_layers.csv", layer_rows(example))
    path = example.path
    page = render(
        "trace.html",
        title=title,
        contents=[entry for entry in CONTENTS if entry[0] != "classes" or _compared(example)],
        pictures=pictures,
        key_figures=_key_figures(example, class_names),
        sizes=path_sizes(path),
        carried="" if path.budget is None else carried(path.budget),
        steps=example.steps,
        layers=layers_table(example),
        network=network_table(operations, example),
        closest=_closest(example, class_names),
        command=command,
        fingerprint=path.fingerprint,
        settings=pairs("Settings", flat(settings)),
        method=pairs("Method", flat(path.method)),
    )
    return write_text(folder / "trace.html", page)


def trace_illustrations(example: Example, class_names: Sequence[str]) -> list[Illustration]:
    """The path picture and, where there is a profile to compare with, similarities per class and per layer."""
    own = example.path.predicted if example.path.seed is None else example.path.seed
    found = [path_illustration(example, class_names)]
    if example.class_similarity:
        found.append(
            Illustration(
                "class-shares",
                class_similarity_figure(example.class_similarity, class_names, own),
                "Share of this image’s path inside each class path; the class that the path explains is blue.",
                f"Bar chart of similarity per class. {_closest(example, class_names)}",
            )
        )
    if example.similarity:
        found.append(
            Illustration(
                "layer-shares",
                image_layers_figure(example.similarity),
                f"Share of this image’s path inside the class path of {class_name(class_names, own)}, layer by layer.",
                "; ".join(f"{layer}: {percent(share)}" for layer, share in example.similarity.items()),
            )
        )
    return found


def layer_rows(example: Example) -> list[dict[str, Any]]:
    """One row per site of the path: node, kind, selected, total, density, and similarity where known."""
    return [
        {
            "node": site.node,
            "kind": site.kind,
            "selected": len(elements),
            "total": elements.total,
            "density": len(elements) / elements.total if elements.total else float("nan"),
            "similarity": example.similarity.get(site.node),
        }
        for site, elements in example.path.sites.items()
    ]


def _compared(example: Example) -> bool:
    return bool(example.class_similarity or example.similarity)


def _key_figures(example: Example, names: Sequence[str]) -> list[KeyFigure]:
    path = example.path
    right = "" if example.label < 0 else "correct" if example.label == path.predicted else "wrong"
    note = f"true class: {class_name(names, example.label)} ({right})" if right else "true class unknown"
    found = [KeyFigure("Predicted class", class_name(names, path.predicted), note)]
    if example.runner_up is not None:
        found.append(KeyFigure("Runner-up", class_name(names, example.runner_up), "second largest logit"))
    if path.seed != path.predicted:
        found.append(KeyFigure("Class of this path", class_name(names, path.seed), "a path of another logit"))
    for kind in path.kinds()[:3]:
        selected = sum(len(path[site]) for site in path if site.kind == kind)
        found.append(
            KeyFigure(f"{kind.capitalize()}s on the path", count(selected), f"{percent(path.density(kind))} of all")
        )
    return found


def _closest(example: Example, names: Sequence[str]) -> str:
    known = {label: share for label, share in example.class_similarity.items() if not np.isnan(share)}
    if not known:
        return "There is no information on class paths."
    ranked = sorted(known, key=lambda label: -known[label])
    first = f"Most of it lies inside the class path of {class_name(names, ranked[0])} ({percent(known[ranked[0]])})"
    if len(ranked) == 1:
        return f"{first}."
    return f"{first}, then {class_name(names, ranked[1])} ({percent(known[ranked[1]])})."
