"""The report page: findings as one self-contained HTML file with figures and tables beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from netpaths.files import write_text
from netpaths.report import page_figures, page_tables, sentences
from netpaths.report.findings import Findings, Flagged
from netpaths.report.names import attack_name, detector_name
from netpaths.report.parts import Illustration, embed, render
from netpaths.report.path_picture import class_name
from netpaths.report.tables import number, percent, write_csv

CONTENTS = (
    ("answer", "The answer"),
    ("path", "What a path is"),
    ("network", "The network"),
    ("classes", "Class paths"),
    ("layers", "Layer by layer"),
    ("detection", "Detection"),
    ("flagged", "Flagged images"),
    ("ablation", "Does the path matter?"),
    ("attacks", "Attacks"),
    ("controls", "Controls"),
    ("costs", "Costs"),
    ("limits", "What this does not say"),
    ("provenance", "Provenance"),
)


def write_report(findings: Findings, folder: Path | str) -> Path:
    """Write ``folder/report.html`` with ``figures/*.svg``, ``figures/*.png`` and ``tables/*.csv``; returns the page.

    The page needs nothing else and sends no request. Every file is written atomically. Raises StorageFull.
    """
    folder = Path(folder)
    tables = write_tables(findings, folder / "tables")
    pictures = {each.name: embed(each, folder / "figures") for each in illustrations(findings)}
    values = {**_texts(findings), **_tables(findings)}
    flagged = [
        {**_told(findings, each), "picture": pictures[f"flagged-{place}"]}
        for place, each in enumerate(findings.flagged, 1)
    ]
    page = render("page.html", pictures=pictures, flagged=flagged, files=[path.name for path in tables], **values)
    return write_text(folder / "report.html", page)


def illustrations(findings: Findings) -> list[Illustration]:
    """Every figure of the page, in its order."""
    return [
        page_figures.path_illustration(findings.example, findings.class_names),
        *page_figures.density_illustrations(findings),
        *page_figures.similarity_illustrations(findings),
        *page_figures.detection_illustrations(findings),
        *([page_figures.sweep_illustration(findings)] if findings.sweeps else []),
        *page_figures.flagged_illustrations(findings),
        *([page_figures.ablation_illustration(findings)] if findings.ablation else []),
    ]


def write_tables(findings: Findings, folder: Path) -> list[Path]:
    """Write every table behind the page as CSV; returns the files. Raises StorageFull."""
    written = [write_csv(folder / f"{name}.csv", rows) for name, rows in csv_tables(findings).items() if rows]
    return [
        *written,
        findings.evaluation.to_csv(folder / "evaluation.csv"),
        findings.features.to_csv(folder / "features.csv"),
    ]


def csv_tables(findings: Findings) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of every table, by file name; similarity and density in long form."""
    names = [class_name(findings.class_names, label) for label in range(len(findings.class_matrix))]
    features = findings.features
    return {
        "network": list(findings.operations),
        "class_similarity": [
            {"first": names[row], "second": names[column], "jaccard": float(findings.class_matrix[row, column])}
            for row in range(len(names))
            for column in range(len(names))
        ],
        "densities": [
            {"kind": kind, "node": node, "density": share}
            for kind, shares in findings.densities.items()
            for node, share in [("overall", findings.density.get(kind)), *shares.items()]
        ],
        "growth": [
            {"kind": kind, "classes": place, "density": share}
            for kind, shares in findings.growth.items()
            for place, share in enumerate(shares, 1)
        ],
        "attacks": list(findings.attacks),
        "seeds": list(findings.seeds),
        "unseen": list(findings.unseen),
        "sweeps": list(findings.sweeps),
        "cost": [dict(findings.cost)] if findings.cost else [],
        "scores": [
            {"source": source, "attack": attack, **{name: float(own[row]) for name, own in findings.scores.items()}}
            for row, (source, attack) in enumerate(zip(features.sources.tolist(), features.attacks.tolist()))
        ],
        "reasons": [row for flagged in findings.flagged for row in _reason_rows(flagged)],
        "ablation": [row for curve in findings.ablation for row in curve.rows()],
        "seconds": [{"stage": stage, "seconds": time} for stage, time in findings.seconds.items()],
    }


def _reason_rows(flagged: Flagged) -> list[Mapping[str, Any]]:
    keys = ("layer", "rank", "value", "clean_mean", "z")
    return [{"attack": flagged.attack, "score": flagged.score, **dict(zip(keys, row))} for row in flagged.reasons]


def _texts(findings: Findings) -> dict[str, Any]:
    path, names = findings.example.path, findings.class_names
    return {
        "title": findings.title,
        "contents": CONTENTS,
        "subtitle": _subtitle(findings),
        "answer": sentences.answer(findings),
        "key_figures": sentences.key_figures(findings),
        "predicted": class_name(names, path.predicted),
        "label": class_name(names, findings.example.label) if findings.example.label >= 0 else "unknown",
        "sizes": sentences.path_sizes(path),
        "steps": findings.example.steps,
        "main_detector": detector_name(findings.main_detector),
        "alpha": percent(findings.alpha, 0),
        "ablation_sentence": sentences.ablation_sentence(findings.ablation),
        "confusions": sentences.confusions(findings),
        "limits": sentences.limits(findings),
        "command": findings.command,
        "fingerprint": str(findings.model.get("fingerprint", path.fingerprint)),
    }


def _subtitle(findings: Findings) -> str:
    model, data = findings.model, findings.data
    parameters = model.get("parameters")
    size = f" ({parameters:,} parameters)" if isinstance(parameters, int) else ""
    return f"{model.get('name', 'network')}{size} on {data.get('name', 'data')}, {len(findings.class_names)} classes"


def _tables(findings: Findings) -> dict[str, Any]:
    return {
        "network": page_tables.network_table(findings.operations, findings.example),
        "density": page_tables.density_table(findings),
        "detectors": page_tables.detectors_table(findings),
        "detector_tables": page_tables.detector_tables(findings),
        "seeds": page_tables.seeds_table(findings),
        "unseen": page_tables.unseen_table(findings),
        "controls": page_tables.controls_table(findings),
        "attacks": page_tables.attacks_table(findings),
        "costs": page_tables.costs_table(findings.seconds),
        "cost": page_tables.cost_table(findings.cost),
        "provenance": page_tables.provenance_tables(findings),
    }


def _told(findings: Findings, flagged: Flagged) -> dict[str, Any]:
    """The heading and the sentences of one flagged image."""
    names: Sequence[str] = findings.class_names
    predicted = class_name(names, flagged.example.path.predicted)
    label = class_name(names, flagged.example.label) if flagged.example.label >= 0 else "an unknown class"
    return {
        "heading": f"{label}, made to look like {predicted} by {attack_name(flagged.attack)}",
        "score": f"Score {number(flagged.score)}, above the threshold {number(flagged.threshold)}.",
        "reasons": [
            sentences.reason_sentence(flagged, names, place) for place in range(min(2, len(flagged.reasons)) or 1)
        ],
    }
