"""The page on decoupled networks: its numbers are the findings', its sections stand, what is missing is left out."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from netpaths.report.decoupling_drawings import loss_epochs
from netpaths.report.decoupling_figures import clustered
from netpaths.report.decoupling_findings import DecouplingFindings
from netpaths.report.decoupling_page import answer, key_figures, limits, write_decoupling_report
from netpaths.report.routing_findings import WHOLE
from netpaths.report.tables import NOTHING, percent

from .decoupled import NAN, TARGETS, curve_rows, history_rows, latency_rows, make_findings
from .test_page import LOADING, Page
from .test_rivals_page import rivals

OWN = ("speed", "training", "losses", "firing", "alike", "class-paths", "distinct", "layers", "ablation", "static")
SHARED = ("detection-1", "detection-2", "softmax", "differences", "unseen", "cost")
ENDS = ("stages", "limits", "provenance")


@pytest.fixture(scope="module")
def findings() -> DecouplingFindings:
    return make_findings(rivals=rivals())


@pytest.fixture(scope="module")
def written(findings: DecouplingFindings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, written once."""
    return write_decoupling_report(findings, tmp_path_factory.mktemp("decoupling"))


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return Page(written.read_text())


def read(written: Path, name: str) -> list[dict[str, str]]:
    with open(written.parent / f"{name}.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def section_ids(page: Page) -> list[str]:
    return [attributes["id"] for tag, attributes in page.tags if tag == "section"]


def test_the_answer_says_what_was_saved(findings: DecouplingFindings, page: Page) -> None:
    own = findings.of(0.6)
    timed = next(row for row in findings.latency if (row["target"], row["batch"]) == (0.6, 1))
    expected = (
        f"Trained for a target of 60%, the network keeps {percent(own['filters on'])} of its filters on for an image, "
        f"on average, and computes {percent(own['MACs'])} of the dense network’s multiply–accumulates, with an "
        f"accuracy of {percent(own['accuracy'])} against 91.7%. One image at a time the runtime takes "
        f"{percent(timed['over dense'])} of the dense network’s time (86.0% with every filter on), where operations "
        f"alone would say {percent(own['MACs'])}."
    )
    assert answer(findings) == expected
    assert expected in page.text


def test_without_timing_the_answer_is_silent_on_it(findings: DecouplingFindings) -> None:
    told = answer(replace(findings, latency=[]))
    assert told.endswith("against 91.7%.")
    figures = {each.label: each.value for each in key_figures(replace(findings, latency=[]))}
    assert figures["Time"] == NOTHING
    batched = replace(findings, latency=latency_rows(batches=(8,)))
    assert " With 8 images at once the runtime takes " in answer(batched)


def test_the_fewest_threads_and_the_smallest_batch_answer(findings: DecouplingFindings) -> None:
    slow = [{**row, "over dense": 9.0, "threads": 2} for row in findings.latency]
    assert answer(replace(findings, latency=[*slow, *findings.latency])) == answer(findings)


def test_key_figures_are_those_of_the_main_target(findings: DecouplingFindings) -> None:
    found = {each.label: (each.value, each.note) for each in key_figures(findings)}
    own = findings.of(0.6)
    assert found["Filters on"] == ("62.0%", "mean over images; target 60%")
    assert found["Multiply–accumulates"][0] == percent(own["MACs"])
    assert found["Accuracy"] == (percent(own["accuracy"]), "dense network: 91.7%")
    assert "torch with masks: 124.0%" in found["Time, one image at a time"][1]
    whole = findings.distinct[-1]
    assert found["Different paths"][0] == percent(whole["share"])
    neighbours = next(row["neighbours"] for row in findings.layers if row["layer"] == WHOLE)
    assert found["Nearest path of the same class"] == (percent(neighbours), "of the images; by chance 33.3%")


def test_codes_are_told_from_other_values(findings: DecouplingFindings) -> None:
    others = [{**row, "values": "mean activations", "neighbours": 0.123} for row in findings.layers]
    assert key_figures(replace(findings, layers=[*others, *findings.layers]))[-1].value == "80.0%"


def test_every_section_stands_in_order(page: Page) -> None:
    assert section_ids(page) == ["answer", *OWN, *SHARED, *ENDS]


def test_nothing_is_requested(written: Path, page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed")
        for attribute, value in attributes.items():
            assert not (attribute in LOADING and not value.startswith("data:")), (tag, attribute, value[:60])
    assert not re.search(r"https?://", written.read_text())


def test_figures_and_tables_lie_beside_the_page(findings: DecouplingFindings, written: Path, page: Page) -> None:
    for name in ("curve", "latency", "history", "losses", "filters", "pairs", "distinct", "within", "static"):
        assert len(read(written, f"tables/{name}")) == len(getattr(findings, name))
    drawn = {file.stem for file in (written.parent / "figures").glob("*.svg")}
    assert drawn == {
        *("accuracy", "latency", "training", "losses", "firing", "alike", "distinct", "separation", "embedding"),
        *("class-similarity", "class-similarity-usual", "ablation", "static", "rivals-1", "rivals-2", "cost"),
    }
    assert len([tag for tag, _ in page.tags if tag == "img"]) == len(drawn)
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")


def test_the_data_of_heat_maps_is_that_of_the_findings(findings: DecouplingFindings, written: Path) -> None:
    rows = read(written, "figures/firing")
    assert len(rows) == sum(shares.size for shares in findings.firing.values())
    for row in rows[:: len(rows) // 50]:
        own = findings.firing[row["layer"]][findings.classes.index(row["class"]), int(row["filter"])]
        assert float(row["share"]) == own
    layer = max(findings.alike, key=lambda name: int((~np.isnan(np.diag(findings.alike[name]))).sum()))
    rows = read(written, "figures/alike")
    assert len(rows) == len(clustered(findings.alike[layer])[0]) ** 2
    for row in rows[::50]:
        value = findings.alike[layer][int(row["filter"]), int(row["other"])]
        assert float(row["correlation"]) == value
    for name, matrix in zip(("class-similarity", "class-similarity-usual"), findings.matrices.values(), strict=True):
        similar = {(row["class"], row["other"]): float(row["similarity"]) for row in read(written, f"figures/{name}")}
        assert similar["airplane", "bird"] == matrix[0, 2]


def test_times_over_the_dense_network_are_data(findings: DecouplingFindings, written: Path) -> None:
    rows = read(written, "figures/latency")
    assert len(rows) == 3 * len(findings.latency)
    assert {row["program"] for row in rows} == {"runtime", "all on", "masked"}


def test_the_table_of_losses_has_the_last_epoch_of_every_target(page: Page, findings: DecouplingFindings) -> None:
    assert "Loss and its parts" in page.text
    rows = re.findall(r"(0\.\d) 4 1\.28", page.text)
    assert rows == [str(target) for target in TARGETS]


def test_while_controllers_rest_the_last_epoch_stands_beside_the_last_complete_one() -> None:
    rows = history_rows((0.9, 0.5), 4)
    resting = [{key: row[key] for key in row if key != "sparsity"} for row in rows[2:4]]
    assert loss_epochs([*rows[:2], *resting, *rows[4:]]) == [rows[1], resting[1], rows[7]]


def test_the_page_explains_what_a_mask_saves(page: Page) -> None:
    assert "a masked multiply saves nothing" in page.text
    assert "The paper’s body was not at hand." in page.text


def test_limits_speak_of_attacks_only_where_there_were_some(findings: DecouplingFindings) -> None:
    assert any("no gradient flows through them" in each for each in limits(findings))
    alone = limits(replace(findings, rivals=None))
    assert not any("attack" in each for each in alone)
    assert all("attack" in each or "notions" in each for each in set(limits(findings)) - set(alone))


def test_one_layer_and_one_class_without_detection(tmp_path: Path) -> None:
    findings = make_findings(1, 1, 12)
    page = Page(write_decoupling_report(findings, tmp_path).read_text())
    assert section_ids(page) == ["answer", *OWN, *ENDS]
    assert len(read(tmp_path / "report.html", "tables/filters")) == 1
    assert "by chance 100.0%" in page.text


def test_a_page_of_nearly_nothing(tmp_path: Path) -> None:
    """Only the dense network and the main target; neither times nor variants nor removals."""
    bare = replace(
        make_findings(2, 2, 8),
        curve=curve_rows((0.6,)),
        **dict.fromkeys(("latency", "history", "losses", "pairs", "distinct", "ablation", "static"), ()),
        alike={},
    )
    page = Page(write_decoupling_report(bare, tmp_path).read_text())
    assert section_ids(page) == ["answer", *(each for each in OWN if each != "losses"), *ENDS]
    drawn = {file.stem for file in (tmp_path / "figures").glob("*.svg")}
    assert drawn == {"accuracy", "firing", "class-similarity", "class-similarity-usual", "separation", "embedding"}


def unknown(rows: Sequence[dict[str, object]], kept: Sequence[str]) -> list[dict[str, object]]:
    return [{key: value if key in kept else NAN for key, value in row.items()} for row in rows]


def test_unknown_numbers_are_no_information(tmp_path: Path) -> None:
    findings = make_findings(2, 2, 8)
    empty = replace(
        findings,
        curve=unknown(curve_rows(), ("target",)),
        latency=unknown(latency_rows(), ("target", "batch", "threads")),
        alike={name: np.full_like(own, NAN) for name, own in findings.alike.items()},
        firing={name: np.full_like(own, NAN) for name, own in findings.firing.items()},
        matrices={form: np.full_like(own, NAN) for form, own in findings.matrices.items()},
    )
    page = Page(write_decoupling_report(empty, tmp_path).read_text())
    assert f"an accuracy of {NOTHING} against {NOTHING}" in page.text
    assert not (tmp_path / "figures" / "alike.svg").exists()


def test_an_unknown_main_target_is_no_information(findings: DecouplingFindings) -> None:
    assert f"keeps {NOTHING} of its filters" in answer(replace(findings, main=0.123))
