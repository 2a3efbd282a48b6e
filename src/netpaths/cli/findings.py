"""What the demo and the studies print and write at their end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from netpaths.cli.session import Session, table

if TYPE_CHECKING:
    from netpaths.report.findings import Findings


def finish(session: Session, findings: Findings, folder: Path) -> None:
    """Write summary and report to ``folder`` and print the table of detectors and attacks."""
    from netpaths.report import write_report
    from netpaths.studies.effective_path import write_summary

    write_summary(findings, folder / "summary.json")
    page = write_report(findings, folder)
    session.say(*lines(findings, page))
    session.finish({"report": page, "evaluation": findings.evaluation.rows(), "model": findings.model})


def lines(findings: Findings, page: Path) -> list[Any]:
    """The headline figures as a table, and where the report lies."""
    rows = [
        _row(findings, row) for row in findings.evaluation.results if row.kind in ("attack", "worst case", "control")
    ]
    main = [row for row in rows if row["detector"] == findings.main_detector]
    density = ", ".join(f"{kind}s {value:.1%}" for kind, value in findings.density.items())
    return [
        f"test accuracy {findings.model['test_accuracy']:.2%}; overall path density: {density}",
        table(f"{findings.main_detector} detector, calibrated at {findings.alpha:.0%} false alarms", main),
        f"report: {page}",
    ]


def _row(findings: Findings, row: Any) -> dict[str, Any]:
    metric, alpha = row.metrics["auroc"], findings.alpha
    caught, alarms = row.caught.get(alpha), row.false_alarms.get(alpha)
    return {
        "detector": row.detector,
        "kind": row.kind,
        "against": row.attack,
        "images": row.n,
        "AUROC": f"{metric.value:.3f} [{metric.low:.3f}, {metric.high:.3f}]",
        "caught": "" if caught is None else f"{caught.rate:.1%}",
        "realised false alarms": "" if alarms is None else f"{alarms.rate:.1%} [{alarms.low:.1%}, {alarms.high:.1%}]",
    }
