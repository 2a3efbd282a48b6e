"""The page of rival notions of path: a verdict and a table for every pair, and words for two as for more."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest

from netpaths.detection import Interval
from netpaths.detection.evaluation import Evaluation, Row
from netpaths.report.rivals_findings import BETWEEN, RivalsFindings
from netpaths.report.rivals_page import ALL, answer, detection_sections, key_figures, verdicts, write_rivals_report

from .test_page import Page

NAN = float("nan")
TWO, THREE = ("effective path", "CDRP"), ("effective path", "CDRP", "decoupling")
FORMS = {"similarity to the class path": ("joint", "forest"), "vector of channels": ("forest", "boosting")}
ATTACKS = ("fgsm", "cw")
MILLISECONDS = {"effective path": 1.25, "CDRP": 340.0, "decoupling": 0.5}
KINDS = {**dict.fromkeys(ATTACKS, "attack"), ALL: "all", "noise": "control", "clean against clean": "null"}


def area(notion: str, classifier: str, attack: str) -> float:
    """An AUROC that differs between notions, classifiers and attacks."""
    if attack not in (*ATTACKS, ALL):
        return 0.5
    return 0.85 - 0.1 * THREE.index(notion) + 0.01 * len(classifier) - 0.02 * (attack == "cw")


def judged(detector: str, attack: str, value: float) -> Row:
    return Row(
        detector, KINDS[attack], attack, 80, 90, {"auroc": Interval(value, value - 0.03, value + 0.02)}, {}, {}, {}
    )


def evaluation(notions: Sequence[str]) -> Evaluation:
    detectors = [(notion, form, each) for notion in notions for form, own in FORMS.items() for each in own]
    rows = [
        judged(BETWEEN.join((notion, form, classifier)), attack, area(notion, classifier, attack))
        for (notion, form, classifier), attack in product(detectors, KINDS)
    ]
    return Evaluation((*rows, *(judged("softmax", attack, 0.8) for attack in KINDS)), {})


def difference_rows(notions: Sequence[str]) -> list[dict[str, Any]]:
    """Differences that favour the first by 0.1 a place; those of boosting have an interval that holds 0."""
    return [
        {
            "first": first,
            "second": second,
            "form": form,
            "classifier": classifier,
            "attack": attack,
            "n": 80,
            **_difference(area(first, classifier, attack) - area(second, classifier, attack), classifier),
        }
        for first, second in combinations(notions, 2)
        for form, classifiers in FORMS.items()
        for classifier in classifiers
        for attack in (*ATTACKS, ALL)
    ]


def _difference(value: float, classifier: str) -> dict[str, float]:
    half = 0.5 if classifier == "boosting" else 0.04
    return {"difference": value, "low": value - half, "high": value + half}


def rivals(notions: Sequence[str] = THREE) -> RivalsFindings:
    """Synthetic findings on two or three notions."""
    cost = [
        {
            "notion": notion,
            "ms per image": MILLISECONDS[notion],
            "ms per image, batch": MILLISECONDS[notion] / 2,
            "bytes per image": 2000.0,
            "bytes of a vector": 400.0,
            "forward ms": 0.25,
            "times the first": MILLISECONDS[notion] / MILLISECONDS[notions[0]],
            "times the first, batch": MILLISECONDS[notion] / MILLISECONDS[notions[0]],
        }
        for notion in notions
    ]
    unseen = [
        {"notion": notion, "form": form, "classifier": each, "attack": attack, "n": 80, "auroc": 0.8}
        for notion in notions
        for form, own in FORMS.items()
        for each in own
        for attack in ATTACKS
    ]
    return RivalsFindings(
        title="tiny on noise",
        command="netpaths study head-to-head --out <folder>",
        model={"name": "tiny"},
        data={"name": "noise"},
        settings={"seed": 1},
        attacks=[{"name": name, "tried": 100, "successful": 80} for name in (*ATTACKS, "noise")],
        evaluation=evaluation(notions),
        differences=difference_rows(notions),
        unseen=unseen,
        cost=cost,
        seconds={"attacks": 3.0, "detectors": 61.0},
    )


def swapped(row: dict[str, Any]) -> dict[str, Any]:
    """The same difference, of the other notion."""
    return {**row, "difference": -row["difference"], "low": -row["high"], "high": -row["low"]}


def test_every_pair_has_a_verdict_over_single_attacks() -> None:
    found = {(each.first, each.second): each for each in verdicts(rivals())}
    assert list(found) == list(combinations(THREE, 2))
    for each in found.values():
        assert (each.comparisons, each.firsts, each.seconds, each.neither) == (8, 6, 0, 2)
    turned = replace(rivals(TWO), differences=[swapped(row) for row in difference_rows(TWO)])
    (verdict,) = verdicts(turned)
    assert (verdict.firsts, verdict.seconds, verdict.neither) == (0, 6, 2)


def test_an_unknown_interval_favours_neither() -> None:
    unknown = [{**row, "difference": NAN, "low": NAN, "high": NAN} for row in difference_rows(TWO)]
    (verdict,) = verdicts(replace(rivals(TWO), differences=unknown))
    assert (verdict.comparisons, verdict.neither) == (8, 8)


def test_the_answer_on_two_notions() -> None:
    assert answer(rivals(TWO)) == (
        "Of 8 comparisons of an attack and a classifier, 6 favour effective path beyond the 95% interval of the "
        "difference in AUROC, 0 favour CDRP, and 2 neither. A path of CDRP takes 272 times as long as one of "
        "effective path (340 against 1.25 ms an image)."
    )


def test_the_answer_on_three_notions() -> None:
    assert answer(rivals()) == (
        "Of 8 comparisons of an attack and a classifier, 6 favour effective path beyond the 95% interval of the "
        "difference in AUROC, 0 favour CDRP, and 2 neither. Of 8 comparisons of effective path with decoupling, 6 "
        "favour effective path, 0 favour decoupling, and 2 neither. Of 8 comparisons of CDRP with decoupling, 6 favour "
        "CDRP, 0 favour decoupling, and 2 neither. A path of CDRP takes 272 times as long as one of effective path "
        "(340 against 1.25 ms an image), one of decoupling 0.4 times (0.5 ms)."
    )


def test_every_notion_has_two_key_figures() -> None:
    found = key_figures(rivals())
    assert [each.label for each in found[::2]] == [f"AUROC, {name}" for name in THREE]
    assert [each.value for each in found[1::2]] == ["1.25 ms", "340 ms", "0.5 ms"]
    assert found[4].note == "all attacks; best of its detectors: boosting, vector of channels"


def test_every_pair_has_a_table_of_its_own() -> None:
    section = {each.id: each for each in detection_sections(rivals())}["differences"]
    assert section.title == "Differences of pairs"
    captions = [table.caption for table in section.tables]
    assert captions == [f"Difference in AUROC: {first} minus {second}" for first, second in combinations(THREE, 2)]
    rows = difference_rows(THREE)
    assert sum(len(table.rows) for table in section.tables) == len(rows) == len(section.data["differences"])
    for place, table in enumerate(section.tables):
        assert list(table.columns) == ["form", "classifier", "attack", "n", "difference", "low", "high"]
        own = rows[place * len(table.rows)]
        assert table.rows[0][4] == f"{own['difference']:.3f}"
    (two,) = [each for each in detection_sections(rivals(TWO)) if each.id == "differences"]
    assert (two.title, len(two.tables)) == ("Difference of the two", 1)


def test_the_sections_that_two_pages_share() -> None:
    found = [each.id for each in detection_sections(rivals())]
    assert found == ["detection-1", "detection-2", "softmax", "differences", "unseen", "cost"]
    alone = detection_sections(replace(rivals(), unseen=[]))
    assert "unseen" not in [each.id for each in alone]


@pytest.mark.parametrize(
    ("notions", "title", "subtitle"),
    [
        (
            TWO,
            "Two notions of path: tiny on noise",
            "Effective path (Qiu et al., CVPR 2019) and critical data routing paths (Wang et al., CVPR 2018) on the "
            "same images, attacks, splits and classifiers",
        ),
        (
            THREE,
            "Three notions of path: tiny on noise",
            "Effective path (Qiu et al., CVPR 2019), critical data routing paths (Wang et al., CVPR 2018) and "
            "calculation paths of decoupled networks (Li et al., ECCV 2020) on the same images",
        ),
    ],
)
def test_the_page_names_its_papers(tmp_path: Path, notions: Sequence[str], title: str, subtitle: str) -> None:
    page = Page(write_rivals_report(rivals(notions), tmp_path).read_text())
    assert title in page.text
    assert subtitle in page.text
    assert "Both notions" not in page.text
    assert not re.search(r"\beither notion\b", page.text)
    found = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert found[1:-2] == [each.id for each in detection_sections(rivals(notions))]
    assert {file.name for file in (tmp_path / "figures").glob("*.csv")} == {"rivals-1.csv", "rivals-2.csv", "cost.csv"}
