"""The page of a study holds what it is given, in order, and needs nothing else; figures and numbers lie beside it."""

from __future__ import annotations

import base64
import csv
import html
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from netpaths.detection import Interval, realised
from netpaths.errors import BadOption
from netpaths.report.parts import Illustration, KeyFigure, Table
from netpaths.report.rivals_figures import cost_figure
from netpaths.report.routing_figures import agreement_figure, separation_figure
from netpaths.report.study_page import Drawing, Section, rows_table, write_study_report
from netpaths.report.tables import NOTHING, rate

from .test_page import LOADING, Page

NAN = float("nan")
COMMAND = "netpaths study <study> --out <folder>"
AGREEMENT = [{"setting": "seed 1", "jaccard": 0.5, "chance": 0.1}, {"setting": "T = 60", "jaccard": NAN, "chance": 0.2}]
DEPTH = [{"layer": f"layer{place}", "separation": 0.1 * place, "neighbours": 0.2 * place} for place in range(4)]
COSTS = [{"notion": "gates", "ms per image": 840.5, "bytes per image": 4608, "auroc": 0.94}]
MANY = [{"layer": f"layer{place}", **{f"measure {name}": place / 7 for name in range(30)}} for place in range(40)]


def drawing(name: str, figure: Any, rows: list[dict[str, Any]], wide: bool = False) -> Drawing:
    return Drawing(Illustration(name, figure, f"What {name} shows.", f"A chart of {name} in words.", wide), rows)


def sections() -> list[Section]:
    narrow = [
        drawing("agreement", agreement_figure(AGREEMENT), AGREEMENT),
        drawing("cost", cost_figure(COSTS), COSTS),
    ]
    wide = drawing("separation", separation_figure(DEPTH), DEPTH, wide=True)
    return [
        Section("gates", "What <gates> say", ["First <b>paragraph</b>.", "Second & last."], drawings=[wide, *narrow]),
        Section(
            "numbers",
            "Numbers",
            [],
            [rows_table("Agreement & chance", AGREEMENT, strong=[1]), rows_table("Nothing here", [])],
            data={"agreement": AGREEMENT, "wide": MANY},
        ),
        Section("depth", "Depth", ["Only text."], [rows_table("A wide table", MANY)]),
    ]


@dataclass(frozen=True)
class Study:
    """What the page is made of."""

    title: str = "A study <of> paths"
    subtitle: str = "tiny & random"
    answer: str = "Gates agree in 50% of <their> channels."
    limits: tuple[str, ...] = ("One network only.", "No <adaptive> attack.")
    sections: tuple[Section, ...] = ()

    def write(self, folder: Path) -> Path:
        key_figures = [KeyFigure("agreement", "50%", "chance: 10%")]
        settings = {"seed": 7, "method": {"name": "routing", "gamma": 0.05}}
        parts = self.sections or tuple(sections())
        limits = list(self.limits)
        return write_study_report(
            folder, self.title, self.subtitle, self.answer, key_figures, parts, COMMAND, settings, limits
        )


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, written once."""
    return Study().write(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def page(study: Path) -> Page:
    return Page(study.read_text())


def read(file: Path) -> list[dict[str, str]]:
    with open(file, newline="") as stream:
        return list(csv.DictReader(stream))


def test_sections_stand_in_order_and_the_contents_lead_to_them(page: Page) -> None:
    found = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert found == ["answer", "gates", "numbers", "depth", "limits", "provenance"]
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert links[1:7] == [f"#{anchor}" for anchor in found]
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))


def test_everything_given_is_on_the_page(study: Path, page: Page) -> None:
    words = (
        "A study <of> paths|tiny & random|Gates agree in 50% of <their> channels.|agreement 50% chance: 10%|"
        "What <gates> say|First <b>paragraph</b>.|Second & last.|Only text.|One network only.|No <adaptive> attack.|"
        f"Agreement & chance|What separation shows.|What cost shows.|{COMMAND}|seed 7|method.gamma 0.05"
    )
    for text in words.split("|"):
        assert text in page.text
    assert "Nothing here" not in page.text
    assert study.name == "report.html"


def test_text_is_escaped(study: Path) -> None:
    text = study.read_text()
    for written in ("<b>paragraph</b>", "<gates>", "<adaptive>", "<their>", COMMAND):
        assert written not in text
        assert html.escape(written) in text


def test_nothing_is_requested(study: Path, page: Page) -> None:
    for tag, attributes in page.tags:
        assert tag not in ("script", "iframe", "object", "embed", "audio", "video")
        for attribute, value in attributes.items():
            assert not (attribute in LOADING and not value.startswith("data:")), (tag, attribute, value[:60])
        if tag == "link":
            assert attributes["href"].startswith("data:")
        if tag == "a":
            assert attributes["href"].startswith(("#", "figures/", "tables/"))
    assert not re.search(r"https?://", study.read_text())


def test_every_picture_is_embedded_described_and_beside_the_page(study: Path, page: Page) -> None:
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    names = ["separation", "agreement", "cost"]
    assert [attributes["alt"] for attributes in pictures] == [f"A chart of {name} in words." for name in names]
    for attributes, name in zip(pictures, names):
        written = (study.parent / "figures" / f"{name}.svg").read_bytes()
        assert base64.b64decode(attributes["src"].split(",")[1]) == written
        assert ElementTree.fromstring(written).tag.endswith("svg")
        with Image.open(study.parent / "figures" / f"{name}.png") as image:
            image.load()
            assert min(image.size) > 100


def test_narrow_pictures_stand_side_by_side(page: Page) -> None:
    kinds = [attributes.get("class") for tag, attributes in page.tags if tag in ("figure", "div")]
    place = kinds.index("wide")
    assert [kind for kind in kinds[place:] if kind != "scroll"][:4] == ["wide", "pair", "column", "column"]


def test_the_numbers_of_figures_and_tables_are_beside_the_page(study: Path, page: Page) -> None:
    folder = study.parent
    assert [float(row["jaccard"] or NAN) for row in read(folder / "figures" / "agreement.csv")] == pytest.approx(
        [0.5, NAN], nan_ok=True
    )
    assert [float(row["separation"]) for row in read(folder / "figures" / "separation.csv")] == [
        row["separation"] for row in DEPTH
    ]
    assert len(read(folder / "tables" / "wide.csv")) == len(MANY)
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a" and attributes["href"][0] != "#"]
    names = ("figures/separation", "figures/agreement", "figures/cost", "tables/agreement", "tables/wide")
    assert links == [f"{name}.csv" for name in names]
    assert all((folder / link).is_file() for link in links)


def test_every_table_scrolls_inside_its_box(page: Page) -> None:
    found = [(tag, attributes.get("class")) for tag, attributes in page.tags if tag in ("table", "div")]
    tables = [place for place, (tag, _) in enumerate(found) if tag == "table"]
    assert len(tables) == 3
    assert all((found[place - 1][1] or "").startswith("scroll") for place in tables)


def test_the_same_study_gives_the_same_page(study: Path, tmp_path: Path) -> None:
    assert Study().write(tmp_path).read_bytes() == study.read_bytes()


def test_a_page_of_nearly_nothing(tmp_path: Path) -> None:
    bare = Study(subtitle="", limits=(), sections=(Section("only", "Only", []),))
    page = Page(bare.write(tmp_path).read_text())
    assert [attributes["id"] for tag, attributes in page.tags if tag == "section"] == ["answer", "only", "provenance"]
    assert "What this does not say" not in page.text
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize(
    ("place", "change", "message"),
    [
        (1, {"id": "gates"}, "every section needs a name of its own; used more than once: gates"),
        (1, {"id": "limits"}, "every section needs a name of its own; used more than once: limits"),
        (1, {"drawings": [drawing("cost", None, COSTS)]}, "every figure .* used more than once: cost"),
        (0, {"data": {"wide": COSTS}}, "every table .* used more than once: wide"),
    ],
)
def test_a_name_that_is_used_twice_is_refused(tmp_path: Path, place: int, change: dict[str, Any], message: str) -> None:
    parts = sections()
    parts[place] = replace(parts[place], **change)
    with pytest.raises(BadOption, match=message):
        Study(sections=tuple(parts)).write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_rows_become_a_table() -> None:
    rows = [
        {"layer": "conv1", "units": 61706, "auroc": 0.98123, "text": "a"},
        {"layer": "fc", "units": 10, "auroc": NAN, "text": None, "more": True},
    ]
    table = rows_table("Caption", rows, strong=(1,))
    assert isinstance(table, Table)
    assert (table.caption, list(table.columns)) == ("Caption", ["layer", "units", "auroc", "text", "more"])
    assert table.rows == [
        ["conv1", "61,706", "0.981", "a", "–"],
        ["fc", "10", NOTHING, NOTHING, "yes"],
    ]
    assert (table.numeric, table.strong) == (frozenset({1, 2}), frozenset({1}))


def test_a_table_has_the_columns_asked_for() -> None:
    table = rows_table("", AGREEMENT, ["setting", "chance", "absent"])
    assert table.rows == [["seed 1", "0.1", "–"], ["T = 60", "0.2", "–"]]
    assert table.numeric == {1}
    assert rows_table("", [], ["a", "b"]).rows == []


def test_a_column_of_row_headings_is_never_aligned_right() -> None:
    table = rows_table("", [{"images": 1, "auroc": 0.5}, {"images": 50, "auroc": 0.75}])
    assert table.numeric == {1}


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((1, 5000), ["1", "5,000"]),
        ((0.05, 0.1), ["0.05", "0.10"]),
        ((0.12345, 0.5), ["0.123", "0.500"]),
        ((0.12345, 0.0004321), ["0.123", "0.000432"]),
        ((12.345, 0.25), ["12.3", "0.25"]),
        ((1234.5, 0.25), ["1,234", "0.25"]),
        ((-0.05123, -4), ["−0.051", "−4.000"]),
        ((-1234567, 0), ["−1,234,567", "0"]),
        ((np.float32(0.5), np.int64(3)), ["0.5", "3.0"]),
        ((float("inf"), 1.5), [NOTHING, "1.5"]),
        ((True, False), ["yes", "no"]),
    ],
)
def test_numbers_of_a_column_are_written_alike(values: tuple[Any, ...], texts: list[str]) -> None:
    table = rows_table("", [{"name": "a", "value": value} for value in values])
    assert [row[1] for row in table.rows] == texts


def test_intervals_and_rates_are_written_with_their_ends() -> None:
    alarms = realised([True] + [False] * 19)
    rows = [{"name": "a", "auroc": Interval(0.98, 0.96, 0.99), "alarms": alarms}, {"name": "b", "auroc": Interval(NAN)}]
    table = rows_table("", rows)
    assert table.rows == [["a", "0.980 [0.960, 0.990]", rate(alarms)], ["b", NOTHING, "–"]]
    assert table.numeric == {1, 2}
