"""Numbers as words and as CSV: percentages, intervals, counts, durations, and tables of rows."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from netpaths.detection.calibration import Rate
from netpaths.detection.metrics import Interval
from netpaths.files import plain, write_text

NOTHING = "no information"
"""What a page says where a figure is NaN or missing: 0/0 tells nothing, and is not 0."""

MINUS = "−"


def percent(share: float | None, decimals: int = 1) -> str:
    """A share as a percentage, such as "4.8%"; a small one keeps two significant digits; NaN is "no information"."""
    if share is None or math.isnan(share):
        return NOTHING
    value = 100 * share
    if value and abs(value) < 10**-decimals:
        return f"{value:.1g}%" if abs(value) >= 1e-4 else f"{value:.0e}%"
    text = f"{value:.{decimals}f}%"
    return text if text != f"{100:.{decimals}f}%" or share == 1 else f"{math.floor(value * 10) / 10:.1f}%"


def number(value: float | None, decimals: int = 3) -> str:
    """A figure with fixed ``decimals``; NaN is "no information"."""
    return NOTHING if value is None or math.isnan(value) else f"{value:.{decimals}f}".replace("-", MINUS)


def short(value: float | None) -> str:
    """A figure with three significant digits; NaN is "no information"."""
    return NOTHING if value is None or math.isnan(value) else f"{value:.3g}".replace("-", MINUS)


def interval(figure: Interval | None, decimals: int = 3) -> str:
    """A figure with its confidence interval: "0.981 [0.962, 0.993]"."""
    if figure is None or math.isnan(figure.value):
        return NOTHING
    if math.isnan(figure.low) or math.isnan(figure.high):
        return number(figure.value, decimals)
    return f"{number(figure.value, decimals)} [{number(figure.low, decimals)}, {number(figure.high, decimals)}]"


def rate(found: Rate | None) -> str:
    """A rate with its interval: "4.8% [3.1%, 7.2%]"."""
    if found is None:
        return NOTHING
    return f"{percent(found.rate)} [{percent(found.low)}, {percent(found.high)}]"


def count(value: float) -> str:
    """A whole number with thousands separated: "61,706"."""
    return f"{value:,.0f}" if not math.isnan(value) else NOTHING


def duration(seconds: float | None) -> str:
    """A wall-clock time: "0.42 s", "12.3 s", "3 min 20 s", "2 h 05 min"."""
    if seconds is None or math.isnan(seconds):
        return NOTHING
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def value_text(value: Any) -> str:
    """Any setting in one line: mappings as "a: 1, b: 2", lists with commas, shapes as "6 × 28 × 28"."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {value_text(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(value_text(item) for item in value) or "none"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return NOTHING if math.isnan(value) else f"{value:.6g}"
    return str(value)


def flat(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one level with dotted names."""
    found: dict[str, Any] = {}
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        found |= flat(value, f"{name}.") if isinstance(value, Mapping) and value else {name: value}
    return found


def write_csv(path: Path | str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write ``rows`` as a table whose columns are all keys in order of appearance, atomically.

    NaN and None are empty cells, lists and mappings JSON, floats exact. Raises StorageFull.
    """
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)
    return write_text(path, text.getvalue())


def _cell(value: Any) -> str:
    value = plain(value)
    if value is None:
        return ""
    if isinstance(value, (list, dict)):
        return json.dumps(value)
    return repr(value) if isinstance(value, float) else str(value)
