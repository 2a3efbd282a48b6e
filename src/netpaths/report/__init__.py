"""Reports: findings as figures, tables and one self-contained page; matplotlib and jinja2 load on first use."""

from netpaths.report.findings import Example, Findings, Flagged
from netpaths.report.page import write_report
from netpaths.report.trace_page import write_trace_report

__all__ = ["Example", "Findings", "Flagged", "write_report", "write_trace_report"]
