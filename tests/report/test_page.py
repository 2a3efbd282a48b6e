"""The page shows the numbers of its findings, needs nothing else, and leaves its figures and tables beside it."""

from __future__ import annotations

import csv
import html
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from netpaths.detection import Features
from netpaths.report import Example, Findings, sentences, write_report, write_trace_report
from netpaths.report.page import CONTENTS
from netpaths.report.tables import NOTHING, count, interval, number, percent, rate

from .conftest import ALPHA, CLASSES, COMMAND

LOADING = {"src", "srcset", "poster", "data", "action", "background", "xlink:href"}


class Page(HTMLParser):
    """Collects the tags, the text and every address a page might load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def page(report: Path) -> Page:
    return Page(report.read_text())


def test_the_answer_holds_the_main_detectors_numbers(findings: Findings, page: Page) -> None:
    rows = [row for row in findings.evaluation.results if row.detector == "joint" and row.kind == "attack"]
    for row in (
        min(rows, key=lambda row: row.metrics["auroc"].value),
        max(rows, key=lambda row: row.metrics["auroc"].value),
    ):
        assert number(row.metrics["auroc"].value) in page.text
    alarms = rows[0].false_alarms[ALPHA]
    assert f"flagged {alarms.count} of {alarms.n} clean test images, {rate(alarms)}" in page.text
    assert "at most 5% false alarms" in page.text
    assert "larger the score, the more suspicious" in page.text


def test_every_detector_and_attack_has_its_figures(findings: Findings, page: Page) -> None:
    for row in findings.evaluation.results:
        if row.kind in ("attack", "all", "worst case"):
            assert interval(row.metrics["auroc"]) in page.text
            assert rate(row.caught[ALPHA]) in page.text
            assert rate(row.false_alarms[ALPHA]) in page.text


def test_path_network_and_provenance_are_told(findings: Findings, page: Page) -> None:
    neurons = sum(len(part) for site, part in findings.example.path.sites.items() if site.kind == "neuron")
    assert f"{count(neurons)} neurons" in page.text
    assert findings.model["fingerprint"] in page.text
    assert COMMAND in page.text
    assert percent(findings.density["weight"]) in page.text
    assert "1,234" in page.text
    assert "1 min 23 s" in page.text
    for operation in findings.operations:
        assert str(operation["node"]) in page.text


def test_a_flagged_image_has_its_reason(findings: Findings, page: Page) -> None:
    layer, rank, value, mean, z = findings.flagged[0].reasons[0]
    deviation = abs(value - mean) / abs(z)
    assert f"Layer {layer}: {percent(value, 0)} of " in page.text
    assert f"clean images: {percent(mean, 0)} ± {percent(deviation, 0)}." in page.text
    assert ("runner-up" in sentences.reason_sentence(findings.flagged[0], CLASSES)) == (rank == 2)


def test_nan_is_no_information(page: Page) -> None:
    assert NOTHING in page.text
    assert re.search(r"\bnan\b", page.text, re.IGNORECASE) is None


def test_names_are_escaped(report: Path) -> None:
    text = report.read_text()
    assert "<b>bold</b>" not in text
    assert html.escape("A report <for> tests") in text


@pytest.mark.parametrize("name", ["report", "trace"])
def test_nothing_is_requested(name: str, request: pytest.FixtureRequest) -> None:
    text = request.getfixturevalue(name).read_text()
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed", "audio", "video")
        for attribute, value in attributes.items():
            assert not (attribute in LOADING and not value.startswith("data:")), (tag, attribute, value[:60])
        if tag == "link":
            assert attributes["href"].startswith("data:")
        if tag == "a":
            assert attributes["href"].startswith(("#", "tables/"))
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert all("url(" not in style and "@import" not in style for style in styles)
    assert not re.search(r"https?://", text)


def test_every_picture_is_described(page: Page) -> None:
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) >= 9
    assert all(len(attributes["alt"]) > 20 for attributes in pictures)


def test_contents_lead_to_sections(page: Page) -> None:
    anchors = [attributes["href"][1:] for tag, attributes in page.tags if tag == "a" and attributes["href"][0] == "#"]
    sections = [attributes.get("id") for tag, attributes in page.tags if tag == "section"]
    assert [anchor for anchor, _ in CONTENTS] == sections
    assert {anchor for anchor, _ in CONTENTS} <= set(anchors)
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_figures_are_whole_files(report: Path) -> None:
    drawings, pixels = sorted(report.parent.glob("figures/*.svg")), sorted(report.parent.glob("figures/*.png"))
    assert [file.stem for file in drawings] == [file.stem for file in pixels]
    assert len(drawings) >= 9
    for file in drawings:
        assert ElementTree.parse(file).getroot().tag.endswith("svg")
    for file in pixels:
        with Image.open(file) as image:
            image.load()
            assert min(image.size) > 100
    assert report.stat().st_size < 3_000_000


def test_tables_hold_the_exact_numbers(findings: Findings, report: Path) -> None:
    def rows(name: str) -> list[dict[str, str]]:
        with open(report.parent / "tables" / f"{name}.csv", newline="") as stream:
            return list(csv.DictReader(stream))

    scores = rows("scores")
    assert [float(row["joint"]) for row in scores] == findings.scores["joint"].tolist()
    assert len(rows("evaluation")) == len(findings.evaluation.results)
    similar = [float(row["jaccard"]) for row in rows("class_similarity")]
    np.testing.assert_array_equal(similar, np.asarray(findings.class_matrix).reshape(-1))
    assert rows("attacks")[1]["success_rate"] == ""
    assert len(rows("ablation")) == sum(len(curve.shares) for curve in findings.ablation)


def test_the_same_findings_give_the_same_page(findings: Findings, report: Path, tmp_path: Path) -> None:
    assert write_report(findings, tmp_path).read_bytes() == report.read_bytes()


def test_a_page_without_flagged_images_ablation_and_thresholds(findings: Findings, tmp_path: Path) -> None:
    bare = replace(findings, flagged=[], ablation=[], alpha=0.2, thresholds={}, seconds={}, data={}, model={})
    page = Page(write_report(bare, tmp_path).read_text())
    assert "No image was flagged." in page.text
    assert "Not measured in this run." in page.text
    assert "no information on the false-alarm rate" in page.text


def test_other_splits_and_unseen_attacks_are_shown(findings: Findings, tmp_path: Path) -> None:
    held_out = [{**row, "kind": "held out"} for row in findings.evaluation.rows() if row["kind"] == "attack"]
    seeds = [{"detector": "joint", "attack": "fgsm", "seed_0": 0.91, "seed_1": 0.93, "mean": 0.92, "sd": 0.01}]
    page = Page(write_report(replace(findings, seeds=seeds, unseen=held_out), tmp_path).read_text())
    assert "0.920 ± 0.010" in page.text
    assert "Attacks that the detector had not seen in fitting" in page.text


def test_a_flagged_control_is_told_at_once(findings: Findings) -> None:
    row = next(row for row in findings.evaluation.results if row.kind == "attack" and row.detector == "joint")
    noise = replace(row, kind="control", attack="noise")
    evaluation = replace(findings.evaluation, results=(*findings.evaluation.results, noise))
    told = sentences.confusions(replace(findings, evaluation=evaluation))
    assert len(told) == 1
    assert f"random noise, {rate(row.caught[ALPHA])} of the images" in told[0]


def test_the_trace_page_tells_one_image(example: Example, trace: Path) -> None:
    page = Page(trace.read_text())
    for layer in ("conv1", "conv2", "fc"):
        part = example.path[layer, "weight"]
        assert f"{count(len(part))} of {count(part.total)} ({percent(len(part) / part.total)})" in page.text
    best = max(example.class_similarity, key=lambda label: example.class_similarity[label])
    assert percent(example.class_similarity[best]) in page.text
    assert (trace.parent / "tables" / "trace_layers.csv").is_file()


def test_a_trace_without_a_profile(example: Example, findings: Findings, tmp_path: Path) -> None:
    alone = Example(example.image, example.path, -1)
    page = Page(write_trace_report(alone, findings.operations, (), tmp_path, "t", "c", {}).read_text())
    assert "Against class paths" not in page.text
    assert "true class unknown" in page.text


def test_importing_netpaths_leaves_matplotlib_and_jinja_out() -> None:
    code = "import sys, netpaths, netpaths.report; print(sorted({'matplotlib', 'jinja2'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_features_are_the_test_rows(findings: Findings) -> None:
    assert isinstance(findings.features, Features)
    assert all(len(own) == len(findings.features) for own in findings.scores.values())
