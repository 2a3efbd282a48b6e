"""The report on notions of path head to head: findings as one page with figures and tables beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netpaths.report.drawings import stages_table
from netpaths.report.names import capitalised, listed
from netpaths.report.parts import Illustration, KeyFigure
from netpaths.report.rivals_figures import cost_figure, rivals_figure
from netpaths.report.rivals_findings import RivalsFindings
from netpaths.report.study_page import Drawing, Section, rows_table, write_study_report
from netpaths.report.tables import number, short

ALL = "all attacks"
NUMBERS = {2: "Two", 3: "Three", 4: "Four", 5: "Five"}
SOURCES = {
    "effective path": "effective path (Qiu et al., CVPR 2019)",
    "CDRP": "critical data routing paths (Wang et al., CVPR 2018)",
    "decoupling": "calculation paths of decoupled networks (Li et al., ECCV 2020)",
}
"""Where a notion of path comes from, by what a study calls it."""

COLUMNS = ("notion", "classifier", "attack", "n", "auroc", "low", "high")


def write_rivals_report(findings: RivalsFindings, folder: Path) -> Path:
    """Write ``folder/report.html`` with figures and tables; returns the page. Raises StorageFull."""
    notions = findings.notions
    return write_study_report(
        folder,
        f"{NUMBERS.get(len(notions), str(len(notions)))} notions of path: {findings.title}",
        f"{capitalised(listed([SOURCES.get(name, name) for name in notions]))} on the same images, attacks, splits "
        "and classifiers",
        answer(findings),
        key_figures(findings),
        detection_sections(findings),
        findings.command,
        {"model": findings.model, "data": findings.data, **findings.settings},
        limits(),
    )


def detection_sections(findings: RivalsFindings) -> list[Section]:
    """Detection by every form of path, the softmax beside it, differences of pairs, attacks left out, cost of a path.

    Their ids: detection-1, …, softmax, differences, unseen, cost. What was not measured is left out.
    """
    forms = list(dict.fromkeys(row["form"] for row in findings.areas() if row["form"]))
    return [
        *(_detection(findings, place, form) for place, form in enumerate(forms, 1)),
        _softmax(findings),
        _differences(findings),
        *([_unseen(findings)] if findings.unseen else []),
        _cost(findings),
    ]


@dataclass(frozen=True)
class Verdict:
    """How many comparisons favour the first of two notions beyond their interval, how many the second."""

    first: str
    second: str
    comparisons: int
    firsts: int
    seconds: int

    @property
    def neither(self) -> int:
        """Comparisons whose interval holds 0, or that have none."""
        return self.comparisons - self.firsts - self.seconds


def verdicts(findings: RivalsFindings) -> list[Verdict]:
    """The verdict on every pair of notions, counted over single attacks."""
    found = []
    for (first, second), rows in findings.pairs().items():
        single = [row for row in rows if row["attack"] != ALL]
        firsts, seconds = sum(row["low"] > 0 for row in single), sum(row["high"] < 0 for row in single)
        found.append(Verdict(first, second, len(single), firsts, seconds))
    return found


def answer(findings: RivalsFindings) -> str:
    """Who detects better, and at what price."""
    told = [_verdict_words(verdict, place) for place, verdict in enumerate(verdicts(findings))]
    return " ".join([*told, *_price_words(findings)])


def _verdict_words(verdict: Verdict, place: int) -> str:
    """One sentence; the first of several also says what is compared."""
    between = f" of {verdict.first} with {verdict.second}" if place else " of an attack and a classifier"
    beyond = "" if place else " beyond the 95% interval of the difference in AUROC"
    return (
        f"Of {verdict.comparisons} comparisons{between}, {verdict.firsts} favour {verdict.first}{beyond}, "
        f"{verdict.seconds} favour {verdict.second}, and {verdict.neither} neither."
    )


def _price_words(findings: RivalsFindings) -> list[str]:
    """A sentence on the time of a path against the first notion's; none where there is nothing to compare."""
    first, *others = findings.cost
    told = [
        f"A path of {row['notion']} takes {short(row['times the first'])} times as long as one of {first['notion']} "
        f"({short(row['ms per image'])} against {short(first['ms per image'])} ms an image)"
        for row in others[:1]
    ]
    told += [
        f"one of {row['notion']} {short(row['times the first'])} times ({short(row['ms per image'])} ms)"
        for row in others[1:]
    ]
    return [f"{', '.join(told)}."] if told else []


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
            "Every classifier is fitted on the same images for every notion and tested on the same others; only "
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
            "One minus the largest probability of the network: it costs nothing, and whatever a path tells has to be "
            "more than that. A path can carry it, as gates do that are learned to match the network’s probabilities: "
            "where it detects what the softmax detects, it may say no more than how sure the network is. An AUROC "
            "near 0 means that attacked images are more certain than clean ones.",
        ],
        [rows_table("AUROC of one minus the largest probability", rows, ("attack", "n", "auroc", "low", "high"))],
        [],
        {"softmax": rows},
    )


def _differences(findings: RivalsFindings) -> Section:
    shown = ("form", "classifier", "attack", "n", "difference", "low", "high")
    tables = [
        rows_table(f"Difference in AUROC: {first} minus {second}", rows, shown)
        for (first, second), rows in findings.pairs().items()
    ]
    return Section(
        "differences",
        "Difference of the two" if len(tables) == 1 else "Differences of pairs",
        [
            "AUROC of the first notion minus that of the second, on the same images, with a 95% interval over source "
            "images. An interval that does not hold 0 is a difference; with so many rows one in twenty is by chance.",
        ],
        tables,
        [],
        {"differences": findings.differences},
    )


def _unseen(findings: RivalsFindings) -> Section:
    return Section(
        "unseen",
        "Attacks left out of fitting",
        ["Each attack is judged by detectors that were fitted on all the others."],
        [rows_table("AUROC on attacks left out", findings.unseen)],
        [],
        {"unseen": findings.unseen},
    )


def _cost(findings: RivalsFindings) -> Section:
    rows = [{**row, "auroc": _best(findings, str(row["notion"])).get("auroc", float("nan"))} for row in findings.cost]
    return Section(
        "cost",
        "Cost of a path",
        [
            "Medians of five runs on this machine, forward pass included; bytes are those of the stored path, and of "
            "its vector of channels in single precision.",
        ],
        [
            rows_table("Time and size of a path", findings.cost),
            rows_table("Attacks and controls", findings.attacks),
            stages_table(findings.seconds),
        ],
        [
            Drawing(
                Illustration(
                    "cost",
                    cost_figure(rows),
                    "AUROC over all attacks of the best detector of every notion against the time of a path, with the "
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
        "Every notion has the same training images for class paths and classifiers. With more of them any may do "
        "better.",
        "The network was trained once, and the images were split once.",
    ]
