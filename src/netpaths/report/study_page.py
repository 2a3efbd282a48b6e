"""The page of a study: its answer, its sections with figures and tables, and what it does not say, as one HTML file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from netpaths.detection.calibration import Rate
from netpaths.detection.metrics import Interval
from netpaths.errors import BadOption
from netpaths.files import plain, write_text
from netpaths.report.parts import Illustration, KeyFigure, Picture, Table, embed, pairs, render
from netpaths.report.tables import MINUS, NOTHING, count, flat, interval, number, rate, short, value_text, write_csv

FIRST = (("answer", "The answer"),)
LIMITS = ("limits", "What this does not say")
LAST = (("provenance", "Provenance"),)

ABSENT = "–"
"""A cell whose row has no such column."""

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure and the data that it shows."""

    illustration: Illustration
    rows: Rows


@dataclass(frozen=True, eq=False)
class Section:
    """A part of the page: paragraphs, then figures, then tables.

    id: what a link to it names. data: rows by the name of the CSV file that they are written to.
    """

    id: str
    title: str
    text: Sequence[str]
    tables: Sequence[Table] = ()
    drawings: Sequence[Drawing] = ()
    data: Mapping[str, Rows] = field(default_factory=dict)


def write_study_report(
    folder: Path | str,
    title: str,
    subtitle: str,
    answer: str,
    key_figures: Sequence[KeyFigure],
    sections: Sequence[Section],
    command: str,
    settings: Mapping[str, Any],
    limits: Sequence[str],
) -> Path:
    """Write ``folder/report.html`` with ``figures/NAME.{svg,png,csv}`` and ``tables/NAME.csv``; returns the page.

    answer: one sentence. settings: resolved options, shown as they are. The page needs nothing else and sends no
    request; every file is written atomically. Raises BadOption for an id or a name that is used twice, StorageFull.
    """
    folder = Path(folder)
    contents = [*FIRST, *((section.id, section.title) for section in sections), *([LIMITS] if limits else []), *LAST]
    _check_unique("section", [anchor for anchor, _ in contents])
    _check_unique("figure", [drawing.illustration.name for section in sections for drawing in section.drawings])
    _check_unique("table", [name for section in sections for name in section.data])
    shown = [_shown(section, folder / "figures") for section in sections]
    page = render(
        "study.html",
        title=title,
        subtitle=subtitle,
        contents=contents,
        answer=answer,
        key_figures=key_figures,
        sections=shown,
        limits=limits,
        command=command,
        settings=pairs("Settings", flat(settings)),
        files=[path.relative_to(folder).as_posix() for path in _write_data(sections, folder)],
    )
    return write_text(folder / "report.html", page)


def _check_unique(what: str, names: Iterable[str]) -> None:
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise BadOption(f"every {what} needs a name of its own; used more than once: {', '.join(twice)}")


def _shown(section: Section, folder: Path) -> dict[str, Any]:
    """A section as the template takes it, its figures saved to ``folder`` and narrow neighbours side by side."""
    pictures = [embed(drawing.illustration, folder) for drawing in section.drawings]
    return {
        "id": section.id,
        "title": section.title,
        "text": section.text,
        "pictures": list(_side_by_side(pictures)),
        "tables": section.tables,
    }


def _side_by_side(pictures: Iterable[Picture]) -> Iterator[tuple[bool, list[Picture]]]:
    for wide, group in groupby(pictures, key=lambda picture: picture.wide):
        found = list(group)
        yield not wide and len(found) > 1, found


def _write_data(sections: Iterable[Section], folder: Path) -> Iterator[Path]:
    for section in sections:
        for drawing in section.drawings:
            yield write_csv(folder / "figures" / f"{drawing.illustration.name}.csv", drawing.rows)
        for name, rows in section.data.items():
            yield write_csv(folder / "tables" / f"{name}.csv", rows)


def rows_table(caption: str, rows: Rows, columns: Sequence[str] | None = None, strong: Collection[int] = ()) -> Table:
    """Rows as a table of text: ``columns``, by default all keys in order of appearance; ``strong`` rows stand out.

    Numbers of a column share their decimals, small ones keep their digits; NaN and None are "no information", what a
    row does not have is "–". `Interval` and `Rate` are written with their ends. Columns of numbers are aligned right.
    """
    names = list(dict.fromkeys(key for row in rows for key in row)) if columns is None else list(columns)
    values = [[_plain(row.get(name, ABSENT)) for row in rows] for name in names]
    texts = [_texts(column) for column in values]
    numeric = frozenset(place for place, column in enumerate(values) if place and _is_numeric(column))
    return Table(caption, names, [list(row) for row in zip(*texts)], numeric, frozenset(strong))


def _plain(value: Any) -> Any:
    return value if isinstance(value, (Interval, Rate)) else plain(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_numeric(column: Sequence[Any]) -> bool:
    known = [value for value in column if value is not None and value != ABSENT]
    return bool(known) and all(_is_number(value) or isinstance(value, (Interval, Rate)) for value in known)


def _texts(column: Sequence[Any]) -> list[str]:
    decimals = _decimals([value for value in column if _is_number(value)])
    return [_text(value, decimals) for value in column]


def _decimals(values: Sequence[float]) -> int:
    """The fewest decimals that tell all values exactly; at most 3, of values from 10 on 1, from 1000 on none."""
    largest = max(map(abs, values), default=0)
    most = 3 if largest < 10 else 1 if largest < 1000 else 0
    return next((few for few in range(most) if all(round(value, few) == value for value in values)), most)


def _text(value: Any, decimals: int) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, Interval):
        return interval(value)
    if isinstance(value, Rate):
        return rate(value)
    return _figure(value, decimals) if _is_number(value) else value_text(value)


def _figure(value: float, decimals: int) -> str:
    """A number with ``decimals``, or with three significant digits where that would leave fewer than two."""
    if value and abs(value) < 10 ** (1 - decimals):
        return short(value)
    return number(value, decimals) if decimals else count(value).replace("-", MINUS)
