"""What the report on two notions of path shows, as one value: filled by the study, drawn by this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netpaths.detection.evaluation import Evaluation

Rows = Sequence[Mapping[str, Any]]
BETWEEN = " | "
"""What stands between notion, form and classifier in the name of a detector."""


@dataclass(frozen=True, eq=False)
class RivalsFindings:
    """Everything one run found; rows are tables.

    attacks: one row per attack. evaluation: every "notion | form | classifier" and the softmax on one split.
    differences: AUROC of the first notion minus the second's, per form, classifier and attack, with its interval.
    unseen: AUROC of attacks left out of fitting. cost: time and bytes of either notion. seconds: stage → wall clock.
    """

    title: str
    command: str
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    attacks: Rows
    evaluation: Evaluation
    differences: Rows
    unseen: Rows
    cost: Rows
    seconds: Mapping[str, float]

    def areas(self, kind: str = "attack") -> list[dict[str, Any]]:
        """AUROC of every notion, form, classifier and attack, or of another kind of rows: "all", "control", "null"."""
        rows = []
        for row in self.evaluation.results:
            notion, _, rest = row.detector.partition(BETWEEN)
            form, _, classifier = rest.partition(BETWEEN)
            if row.kind == kind:
                area = row.metrics["auroc"]
                named = {"notion": notion, "form": form, "classifier": classifier, "attack": row.attack, "n": row.n}
                rows.append({**named, "auroc": area.value, "low": area.low, "high": area.high})
        return rows
