"""The rows of a benchmark as tables: which columns belong together, and the speed-up of threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Row = Mapping[str, Any]
WALL = {
    "full": "extraction ms",
    "last": "extraction ms",
    "similarity": "similarity ms",
    "profile": "seconds",
    "merge": "merge ms",
    "routing": "routing ms",
    "kept": "runtime ms",
}
"""For every part the column that a speed-up speaks of."""


class Layout(NamedTuple):
    """A table: its title, its columns, and its rows: all of ``source`` in a result that are of ``kinds``.

    A row's kind is its part without the number, or its curve. Columns without a value are left out.
    """

    title: str
    columns: tuple[str, ...]
    kinds: tuple[str, ...]
    source: str = "rows"


SUBJECT = ("model", "weights", "data")
PLACE = (*SUBJECT, "batch", "threads")
TIMES = ("forward ms", "recorded ms", "extraction ms", "ratio")
COUNTS = ("contributions", "synapses")


def _curve(name: str, about: str) -> Layout:
    columns = (*SUBJECT, "value", "batch", "threads", *TIMES, "ratio with forward", *COUNTS)
    return Layout(f"Cost against {about}", columns, (name,), "curves")


TABLES = {
    "full": Layout(
        "Full paths: extraction alone over the model's forward pass",
        (*PLACE, *TIMES, "speed-up", "ns each"),
        ("full",),
    ),
    "partial": Layout(
        "Partial paths: extraction with the forward pass it needs over the model's forward pass",
        ("part", *PLACE, *TIMES, "speed-up", "ns each"),
        ("last",),
    ),
    "similarity": Layout(
        "Similarities of ranks 1 and 2 to class paths over one extraction, both with their forward pass",
        (*PLACE, "forward ms", "forward and path ms", "similarity ms", "ratio", "speed-up"),
        ("similarity",),
    ),
    "profile": Layout(
        "Class profiles from files to a file, wall clock",
        (*PLACE, "images", "correct", "read s", "build s", "write s", "seconds", "speed-up", "ms per image"),
        ("profile",),
    ),
    "merge": Layout(
        "Two class paths merged over a plain copy that moves as many bytes",
        (*SUBJECT, "threads", "moved MB", "merge GB/s", "copy GB/s", "of copy"),
        ("merge",),
    ),
    "routing": Layout(
        "Gates of critical data routing paths over 30 plain forward and backward passes of the same images",
        (*PLACE, "passes ms", "routing ms", "ratio", "ratio, channels together", "speed-up", "ms per image"),
        ("routing",),
    ),
    "kept": Layout(
        "A decoupled network that keeps some percent of its filters: the chosen filters alone over the dense network; "
        "MACs are what operations alone would say",
        (
            *("part", *PLACE, "dense ms", "masked ms", "runtime ms", "all on ms", "filters", "MACs", "ratio"),
            *("masked over dense", "over all on", "speed-up"),
        ),
        ("kept",),
    ),
    "memory": Layout(
        "Peak memory of the forward pass, and how much extraction takes above it",
        ("part", *PLACE, "forward MB", "path MB"),
        ("full", "last"),
    ),
    "shares": Layout(
        "What an extraction looks at and chooses, and where its time goes",
        ("part", *PLACE, *COUNTS, "share of the time"),
        ("full", "last"),
    ),
    "theta": _curve("theta", "θ"),
    "batch": _curve("batch", "the batch size"),
    "depth": _curve("depth", "the number of layers, from the output"),
    "size": _curve("size", "the image's height and width"),
    "first use": Layout(
        "The first extraction of one image, what of it went into compiling (0: read from the cache), and the next one",
        ("model", "first s", "compiling s", "later s"),
        ("",),
        "models",
    ),
}


def table_rows(name: str, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of table ``name`` (a key of `TABLES`) with its columns; result: what ``netpaths bench`` writes."""
    layout = TABLES[name]
    own = [_worded(row) for row in result[layout.source] if _kind(row) in layout.kinds]
    shown = [column for column in layout.columns if any(row.get(column) is not None for row in own)]
    return [{column: row.get(column) for column in shown} for row in own]


def _worded(row: Row) -> dict[str, Any]:
    shares = shares_text(row["shares"]) if "shares" in row else None
    return {**row, "data": _without_folders(row["data"]), "share of the time": shares}


def _without_folders(data: str) -> str:
    """A data name with the last part of its place alone: "mnist:data/mnist" becomes "mnist:mnist"."""
    family, colon, place = data.partition("?")[0].rpartition(":")
    return family + colon + place.rstrip("/").rpartition("/")[2]


def shares_text(shares: Mapping[str, float], most: int = 3) -> str:
    """The largest shares in words: "convolution 71%, linear 12%"."""
    largest = sorted(shares.items(), key=lambda pair: -pair[1])[:most]
    return ", ".join(f"{name} {share:.0%}" for name, share in largest if share >= 0.005)


def with_speed_ups(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows, each with its speed-up over the fewest threads that the same work ran on, where it ran on several."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(_work(row), []).append(row)
    return [_sped_up(row, groups[_work(row)]) for row in rows]


def _sped_up(row: Row, group: Sequence[Row]) -> dict[str, Any]:
    column = WALL[_kind(row)]
    slowest = min(group, key=lambda other: other["threads"])
    if len({other["threads"] for other in group}) == 1 or not row.get(column):
        return dict(row)
    return {**row, "speed-up": slowest[column] / row[column]}


def _work(row: Row) -> tuple[Any, ...]:
    return row["model"], row["part"], row["batch"]


def _kind(row: Row) -> str:
    return str(row.get("part", row.get("curve", ""))).partition("=")[0]
