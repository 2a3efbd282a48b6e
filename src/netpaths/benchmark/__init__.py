"""What extraction costs: time beside the bare forward pass, memory, and where both go."""

from netpaths.benchmark.curves import CURVES, curve_rows
from netpaths.benchmark.parts import first_use, measure
from netpaths.benchmark.plan import Plan
from netpaths.benchmark.subject import Subject, machine
from netpaths.benchmark.tables import TABLES, table_rows, with_speed_ups

__all__ = [
    "CURVES",
    "TABLES",
    "Plan",
    "Subject",
    "curve_rows",
    "first_use",
    "machine",
    "measure",
    "table_rows",
    "with_speed_ups",
]
