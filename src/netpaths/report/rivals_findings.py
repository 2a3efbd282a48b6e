"""What the report on rival notions of path shows, as one value: filled by the study, drawn by this package."""

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
    differences: AUROC of the notion "first" minus that of "second", for every pair of them, per form, classifier and
    attack, with its interval: first, second, form, classifier, attack, n, difference, low, high. unseen: AUROC of
    attacks left out of fitting. cost: time and bytes of every notion. seconds: stage → wall clock.
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

    @property
    def notions(self) -> tuple[str, ...]:
        """Names of the notions of path, in the order of the study."""
        return tuple(str(row["notion"]) for row in self.cost)

    def pairs(self) -> dict[tuple[str, str], Rows]:
        """The rows of differences by the two notions that they compare."""
        named = [((str(row["first"]), str(row["second"])), row) for row in self.differences]
        return {pair: [row for own, row in named if own == pair] for pair in dict.fromkeys(own for own, _ in named)}

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
