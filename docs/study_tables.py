"""Fill the tables of a page from runs of the studies: ``python docs/study_tables.py PAGE RUN_FOLDER…``.

The page holds marks ``<!-- table: RUN/NAME -->`` … ``<!-- end -->``; RUN is a run folder's name, NAME a table of
`TABLES`. What stands between them is replaced by the command that made it and the table; marks of runs that are not
given stay as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from generate import table
from performance_page import command, read_runs, with_tables, write_page

Run = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]


def section(name: str, run: Run) -> str:
    """The command that made a table, and the table; exits with a message for a table that the run does not have."""
    if name not in TABLES:
        raise SystemExit(f"there is no table {name!r}; there are {', '.join(TABLES)}")
    rows = TABLES[name](run)
    if not rows:
        raise SystemExit(f"the run of `{command(run['command'])}` has nothing for the table {name!r}")
    header = list(dict.fromkeys(key for row in rows for key in row))
    right = [place for place, column in enumerate(header) if not any(isinstance(row.get(column), str) for row in rows)]
    cells = [[cell(row.get(column)) for column in header] for row in rows]
    return f"Made by `{command(run['command'])}`.\n\n{table(header, cells, right)}"


def cell(value: Any) -> str:
    """A figure with three digits, nothing for what is unknown."""
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 1000 else f"{value:.3g}"


def _columns(source: str, *names: str) -> Callable[[Run], Rows]:
    return lambda run: [{name: row.get(name) for name in names if name in row} for row in run[source]]


def _sparsity(run: Run) -> Rows:
    names = ("method", "sparsity", "sd", "top-1", "top-5", "gated top-1", "prediction kept")
    return [{name: row.get(name) for name in names} for row in run["sparsity"] if "left out" not in row]


def _sweep(run: Run) -> Rows:
    """Sparsity alone: a row per γ, a column per number of steps."""
    found: dict[float, dict[str, Any]] = {}
    for row in run["sweep"]:
        found.setdefault(row["gamma"], {"γ": str(row["gamma"])})[f"{row['steps']} steps"] = row["sparsity"]
    return list(found.values())


CONTROLS = ("noise", "attack against noise", "null")
"""Columns of the largest number of training images alone."""


def _detection(run: Run) -> Rows:
    """A row per kind of values and classifier, a column per number of training images a class."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in run["detection"]:
        own = found.setdefault((row["values"], row["classifier"]), {key: row[key] for key in ("values", "classifier")})
        number = row["images per class"]
        own["none" if not number else f"{number} a class"] = row["auroc"]
        own |= {name: row.get(name) for name in CONTROLS}
    return [{key: row[key] for key in sorted(row, key=CONTROLS.__contains__)} for row in found.values()]


def _separation(run: Run) -> Rows:
    """Silhouette and neighbours at the first and last layer and of the whole path, by gates and by activations."""
    rows = run["layers"]
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    shown = [layers[0], layers[len(layers) // 2 - 1], *layers[-2:]]
    return [row for row in rows if row["layer"] in shown]


def _dead(run: Run) -> Rows:
    return [row for row in run["dead"] if row["layer"] == "whole path"]


def _curves(run: Run) -> Rows:
    """Accuracy with nothing but the strongest tenth and third of the units, and without them."""
    found: dict[str, dict[str, Any]] = {}
    for row in run["curves"]:
        if row["share"] in (0.1, 0.3):
            own = found.setdefault(row["method"], {"method": row["method"]})
            own[f"{row['mode']} {row['share']:.0%}"] = row["accuracy"]
    return list(found.values())


def _areas(run: Run) -> Rows:
    """AUROC of single attacks: a row per form and classifier and notion, a column per attack."""
    found: dict[str, dict[str, Any]] = {}
    for row in run["evaluation"]:
        if row["kind"] in ("attack", "all", "control"):
            notion, _, rest = row["detector"].partition(" | ")
            form, _, classifier = rest.partition(" | ")
            own = found.setdefault(row["detector"], {"form": form, "classifier": classifier, "notion": notion})
            own[row["attack"]] = row["auroc"]
    return sorted(found.values(), key=lambda row: (row["form"] == "", row["form"], row["classifier"]))


def _differences(run: Run) -> Rows:
    names = ("first", "second", "form", "classifier", "attack", "n", "difference")
    return [
        {**{name: row[name] for name in names if name in row}, "95% interval": _ends(row)} for row in run["differences"]
    ]


def _unseen(run: Run) -> Rows:
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in run["unseen"]:
        key = (row["form"], row["classifier"], row["notion"])
        own = found.setdefault(key, {name: row[name] for name in ("form", "classifier", "notion")})
        own[row["attack"]] = row["auroc"]
    return sorted(found.values(), key=lambda row: (row["form"], row["classifier"]))


def _ends(row: Mapping[str, Any]) -> str:
    return f"{row['low']:.3f} to {row['high']:.3f}".replace("-", "−")


def _attacks(run: Run) -> Rows:
    names = ("images", "name", "tried", "successful", "success_rate", "l2", "linf")
    return [{name: row.get(name) for name in names if name in row} for row in run["attacks"]]


def _seconds(run: Run) -> Rows:
    rows = [{"stage": stage, "seconds": seconds} for stage, seconds in run["seconds"].items()]
    return [*rows, {"stage": "everything", "seconds": sum(run["seconds"].values())}]


def _latency(run: Run) -> Rows:
    names = ("target", "batch", "threads", "dense ms", "masked ms", "runtime ms", "all on ms")
    more = ("over dense", "MACs", "masked over dense", "over all on")
    return [{name: row[name] for name in (*names, *more)} for row in run["latency"]]


def _within(run: Run) -> Rows:
    """What lies outside class paths: what lies inside is close to everything."""
    ends = {"outside its own": "own", "outside the nearest other": "nearest other"}
    names = ("class path", "class", "images")
    return [
        {name: row[name] for name in names}
        | {name: 1 - row[key] for name, key in ends.items()}
        | {"resembles its own": row["resembles"]}
        for row in run["within"]
    ]


def _rivals(part: Callable[[Run], Rows]) -> Callable[[Run], Rows]:
    """A table of the comparison of notions of path inside another study."""
    return lambda run: part(run["rivals"])


COST = _columns(
    "cost", "notion", "ms per image", "ms per image, batch", "forward ms", "bytes per image", "times the first"
)

TABLES: Mapping[str, Callable[[Run], Rows]] = {
    "sparsity": _sparsity,
    "sweep": _sweep,
    "detection": _detection,
    "separation": _separation,
    "agreement": _columns("agreement", "setting", "selected", "jaccard", "chance", "above chance", "prediction kept"),
    "dead": _dead,
    "curves": _curves,
    "areas": _areas,
    "differences": _differences,
    "unseen": _unseen,
    "cost": COST,
    "curve": _columns("curve", "target", "accuracy", "filters on", "MACs"),
    "latency": _latency,
    "losses": _columns("losses", "loss", "accuracy", "filters on", "MACs", "distinct paths", "neighbours", "nats"),
    "filters": _columns("filters", "layer", "filters", "always off", "always on", "varying", "class range", "nats"),
    "pairs": _columns("pairs", "layer", "varying", "pairs", "near copies", "opposites"),
    "distinct": _columns("distinct", "layer", "images", "distinct", "share", "most common"),
    "within": _within,
    "static": _columns("static", "classes", "filters kept", "parameters", "MACs", "before", "accuracy"),
    "codes": _rivals(_areas),
    "codes differences": _rivals(_differences),
    "codes cost": _rivals(COST),
    "codes attacks": _rivals(_attacks),
    "attacks": _attacks,
    "seconds": _seconds,
}


def main(arguments: Sequence[str]) -> None:
    """Fill the tables of a page; refuses to print a directory of this machine."""
    if len(arguments) < 2:
        raise SystemExit("usage: python docs/study_tables.py PAGE RUN_FOLDER…")
    page, runs = Path(arguments[0]), read_runs(arguments[1:], "summary.json", "study")
    write_page(page, with_tables(page.read_text(), runs, section))


if __name__ == "__main__":
    main(sys.argv[1:])
