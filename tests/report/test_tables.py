"""Numbers as words, and tables that come back from CSV as they went in."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from netpaths.detection import Interval, realised
from netpaths.report.tables import (
    NOTHING,
    count,
    duration,
    flat,
    interval,
    number,
    percent,
    rate,
    short,
    value_text,
    write_csv,
)

NAN = float("nan")


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0481, "4.8%"),
        (0.0, "0.0%"),
        (1.0, "100.0%"),
        (0.99999, "99.9%"),
        (0.00031, "0.03%"),
        (NAN, NOTHING),
        (None, NOTHING),
    ],
)
def test_percentages_keep_what_matters(share: float | None, text: str) -> None:
    assert percent(share) == text


def test_whole_percentages_never_round_up_to_all() -> None:
    assert percent(0.999, 0) == "99.9%"
    assert percent(1, 0) == "100%"
    assert percent(0.05, 0) == "5%"
    assert percent(0.005, 0) == "0.5%"


def test_intervals_stand_in_brackets() -> None:
    assert interval(Interval(0.9812, 0.9623, 0.9934)) == "0.981 [0.962, 0.993]"
    assert interval(Interval(0.9812)) == "0.981"
    assert interval(Interval(NAN)) == NOTHING
    found = realised([True] + [False] * 19)
    assert rate(found) == f"5.0% [{percent(found.low)}, {percent(found.high)}]"
    assert rate(None) == NOTHING


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.42 s"), (12.34, "12.3 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (NAN, NOTHING)],
)
def test_durations_change_their_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_other_numbers() -> None:
    assert (count(61706), count(NAN)) == ("61,706", NOTHING)
    assert (number(0.12345), number(NAN)) == ("0.123", NOTHING)
    assert (short(1234.5), short(None)) == ("1.23e+03", NOTHING)


def test_settings_become_one_line() -> None:
    value = {"eps": 0.1, "steps": [1, 2], "restart": None, "random": True}
    assert value_text(value) == "eps: 0.1, steps: 1, 2, restart: none, random: yes"
    assert flat({"method": {"name": "effective", "theta": 0.5}, "seed": 0}) == {
        "method.name": "effective",
        "method.theta": 0.5,
        "seed": 0,
    }


def test_a_table_comes_back_from_csv(tmp_path: Path) -> None:
    rows = [
        {"name": 'a, "quoted" name\nof two lines', "share": 0.1 + 0.2, "shape": (6, 28, 28)},
        {"name": "b", "share": NAN, "options": {"eps": 0.1}},
    ]
    file = write_csv(tmp_path / "deep" / "table.csv", rows)
    with open(file, newline="") as stream:
        first, second = csv.DictReader(stream)
    assert list(first) == ["name", "share", "shape", "options"]
    assert first["name"] == rows[0]["name"]
    assert float(first["share"]) == 0.1 + 0.2
    assert json.loads(first["shape"]) == [6, 28, 28]
    assert (second["share"], second["shape"]) == ("", "")
    assert json.loads(second["options"]) == {"eps": 0.1}


def test_an_empty_table_is_a_file_too(tmp_path: Path) -> None:
    assert write_csv(tmp_path / "empty.csv", []).read_text() == "\n"


def test_nothing_is_left_when_the_folder_is_not_writable(tmp_path: Path) -> None:
    from netpaths.errors import NetpathsError

    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises((NetpathsError, OSError)):
        write_csv(blocked / "table.csv", [{"a": 1}])
    assert blocked.read_text() == "in the way"


def test_nan_is_never_zero() -> None:
    assert math.isnan(NAN)
    assert "0" not in percent(NAN)
