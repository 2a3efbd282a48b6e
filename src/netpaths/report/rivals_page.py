"""The report on two notions of path head to head: findings as one page with figures and tables beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netpaths.report.parts import Illustration, KeyFigure
from netpaths.report.rivals_figures import cost_figure, rivals_figure
from netpaths.report.rivals_findings import RivalsFindings
from netpaths.report.study_page import Drawing, Section, rows_table, write_study_report
from netpaths.report.tables import duration, number, short

ALL = "all attacks"
COLUMNS = ("notion", "classifier", "attack", "n", "auroc", "low", "high")


def write_rivals_report(findings: RivalsFindings, folder: Path) -> Path:
    """Write ``folder/report.html`` with figures and tables; returns the page. Raises StorageFull."""
    forms = list(dict.fromkeys(row["form"] for row in findings.areas() if row["form"]))
    return write_study_report(
        folder,
        f"Two notions of path: {findings.title}",
        "Effective path (Qiu et al., CVPR 2019) and critical data routing paths (Wang et al., CVPR 2018) on the same "
        "images, attacks, splits and classifiers",
        answer(findings),
        key_figures(findings),
        [
            *(_detection(findings, place, form) for place, form in enumerate(forms, 1)),
            _softmax(findings),
            _differences(findings),
            _unseen(findings),
            _cost(findings),
        ],
        findings.command,
        {"model": findings.model, "data": findings.data, **findings.settings},
        limits(),
    )


def verdicts(findings: RivalsFindings) -> dict[str, int]:
    """Of all differences on single attacks, how many favour either notion beyond their interval, and how many none."""
    rows = [row for row in findings.differences if row["attack"] != ALL]
    return {
        "first": sum(row["low"] > 0 for row in rows),
        "second": sum(row["high"] < 0 for row in rows),
        "neither": sum(not (row["low"] > 0 or row["high"] < 0) for row in rows),
    }


def answer(findings: RivalsFindings) -> str:
    """Who detects better, and at what price."""
    found, (first, second) = verdicts(findings), findings.cost[:2]
    return (
        f"Of {sum(found.values())} comparisons of an attack and a classifier, {found['first']} favour "
        f"{first['notion']} beyond the 95% interval of the difference in AUROC, {found['second']} favour "
        f"{second['notion']}, and {found['neither']} neither. A path of {second['notion']} takes "
        f"{short(second['times the first'])} times as long as one of {first['notion']} "
        f"({short(second['ms per image'])} against {short(first['ms per image'])} ms an image)."
    )


def key_figures(findings: RivalsFindings) -> list[KeyFigure]:
    """The headline numbers."""
    found = []
    for row in findings.cost:
        best = _best(findings, str(row["notion"]))
        found.append(
            KeyFigure(
                f"AUROC, {row['notion']}",
                number(best["auroc"]) if best else "no information",
                f"all attacks; best of its detectors: {best['classifier']}, {best['form']}" if best else "",
            )
        )
        found.append(
            KeyFigure(
                f"Time of a path, {row['notion']}",
                f"{short(row['ms per image'])} ms",
                f"one image; a forward pass takes {short(row['forward ms'])} ms",
            )
        )
    return found


def _best(findings: RivalsFindings, notion: str) -> Mapping[str, Any]:
    rows = [row for row in findings.areas("all") if row["notion"] == notion]
    return max(rows, key=lambda row: row["auroc"], default={})


def _detection(findings: RivalsFindings, place: int, form: str) -> Section:
    rows = [row for row in findings.areas() if row["form"] == form]
    pooled = [row for row in findings.areas("all") if row["form"] == form]
    controls = [row for row in findings.areas("control") if row["form"] == form]
    return Section(
        f"detection-{place}",
        f"Detection by {form}",
        [
            "Every classifier is fitted on the same images for both notions and tested on the same others; only "
            "images that the network gets right and attacks that succeed are counted. Intervals are over source "
            "images.",
            "Controls are changes that are no attack: an AUROC far from 0.5 means that the detector reacts to any "
            "change.",
        ],
        [
            rows_table(f"AUROC by {form}", [*rows, *pooled], COLUMNS),
            rows_table(f"AUROC of controls against clean images, by {form}", controls, COLUMNS),
        ],
        [
            Drawing(
                Illustration(
                    f"rivals-{place}",
                    rivals_figure(rows),
                    f"AUROC with 95% intervals by {form}, a panel per attack.",
                    "; ".join(
                        f"{row['notion']}, {row['classifier']}, {row['attack']}: {number(row['auroc'], 2)}"
                        for row in rows
                    ),
                    wide=True,
                ),
                rows,
            )
        ],
        {f"detection_{place}": [*rows, *pooled, *controls]},
    )


def _softmax(findings: RivalsFindings) -> Section:
    rows = [row for kind in ("attack", "all", "control") for row in findings.areas(kind) if not row["form"]]
    return Section(
        "softmax",
        "The softmax alone",
        [
            "One minus the largest probability of the plain network: it costs nothing, and whatever a path tells has "
            "to be more than that. Gates are learned to match the network’s probabilities, so they can carry it: "
            "where they detect what the softmax detects, the path may say no more than how sure the network is. An "
            "AUROC near 0 means that attacked images are more certain than clean ones.",
        ],
        [rows_table("AUROC of one minus the largest probability", rows, ("attack", "n", "auroc", "low", "high"))],
        [],
        {"softmax": rows},
    )


def _differences(findings: RivalsFindings) -> Section:
    return Section(
        "differences",
        "Difference of the two",
        [
            "AUROC of the first notion minus that of the second, on the same images, with a 95% interval over source "
            "images. An interval that does not hold 0 is a difference; with so many rows one in twenty is by chance.",
        ],
        [rows_table("Difference in AUROC", findings.differences)],
        [],
        {"differences": findings.differences},
    )


def _unseen(findings: RivalsFindings) -> Section:
    return Section(
        "unseen",
        "Attacks left out of fitting",
        ["Each attack is judged by detectors that were fitted on all the others."],
        [rows_table("AUROC on attacks left out", findings.unseen)] if findings.unseen else [],
        [],
        {"unseen": findings.unseen} if findings.unseen else {},
    )


def _cost(findings: RivalsFindings) -> Section:
    rows = [{**row, "auroc": _best(findings, str(row["notion"])).get("auroc", float("nan"))} for row in findings.cost]
    stages = [{"stage": stage, "wall clock": duration(seconds)} for stage, seconds in findings.seconds.items()]
    return Section(
        "cost",
        "Cost",
        [
            "Medians of five runs on this machine, forward pass included; bytes are those of the stored path, and of "
            "its vector of channels in single precision.",
        ],
        [
            rows_table("Time and size of a path", findings.cost),
            rows_table("Attacks and controls", findings.attacks),
            rows_table("Stages", stages),
        ],
        [
            Drawing(
                Illustration(
                    "cost",
                    cost_figure(rows),
                    "AUROC over all attacks of the best detector of either notion against the time of a path, with the "
                    "bytes of a stored path.",
                    "; ".join(f"{row['notion']}: {short(row['ms per image'])} ms" for row in rows),
                ),
                rows,
            )
        ],
        {"cost": findings.cost, "attacks": findings.attacks},
    )


def limits() -> list[str]:
    """What the numbers do not say."""
    return [
        "No attack knew that it was being watched.",
        "The best detector of a notion is picked on the test images: compare classifiers row by row before comparing "
        "best with best.",
        "Both notions have the same training images for class paths and classifiers. With more of them either may do "
        "better.",
        "The network was trained once, and the images were split once.",
    ]
