"""What the study of decoupled networks does with a model and its images, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from netpaths.decoupling.loss import Objective
from netpaths.decoupling.training import Recipe
from netpaths.errors import BadOption
from netpaths.studies.head_to_head import RivalsPlan

VARIANTS = {
    "all parts": (),
    "without information": ("information",),
    "without alignment": ("alignment",),
    "without sparsity": ("sparsity",),
    "without distillation": ("distillation",),
    "without hints": ("hints",),
    "cross entropy and sparsity": ("information", "alignment", "distillation", "hints"),
}
"""Losses by name: which weights are 0."""


@dataclass(frozen=True)
class DecouplingPlan:
    """What is done.

    recipe: how networks are trained; its ``kept`` is the main target. targets: shares of filters asked for, the main
    one among them. ablated_epochs: epochs of the loss ablation, 0 leaves it out. bias, level: of the controllers at
    the start. profiled: training images a class in the class paths and firing rates. evaluated: test images whose
    codes are looked at. shown: of these, in t-SNE. batches, repeats: of the timing. sets: numbers of classes for
    which unused filters are removed. ablated: test images of the ablation. rivals: detection beside other notions of
    path, None leaves it out. seed: of everything random. extracted: images whose codes are read at once.
    """

    recipe: Recipe = field(default_factory=Recipe)
    targets: tuple[float, ...] = (0.8, 0.65, 0.5, 0.35)
    ablated_epochs: int = 3
    bias: float = 2.0
    level: bool = True
    profiled: int = 200
    evaluated: int = 1000
    shown: int = 500
    batches: tuple[int, ...] = (1, 8)
    repeats: int = 15
    sets: tuple[int, ...] = (1, 2, 5, 10)
    ablated: int = 200
    rivals: RivalsPlan | None = field(default_factory=RivalsPlan)
    seed: int = 0
    extracted: int = 250

    @property
    def main(self) -> float:
        """The target that everything but the curve is about."""
        return self.recipe.objective.kept

    def check(self) -> None:
        """Raise BadOption for values out of range."""
        self.recipe.check()
        if self.main not in self.targets or len(set(self.targets)) < len(self.targets):
            raise BadOption(
                f"the targets {self.targets} must be different, and the main one, {self.main:g}, among them"
            )
        for target in self.targets:
            self.at(target).check()
        if min(self.evaluated, self.shown, self.profiled, self.ablated, self.repeats, *self.batches, *self.sets) < 1:
            raise BadOption("every part of the study needs at least one image, repeat, batch and class")
        if self.ablated_epochs < 0:
            raise BadOption(
                f"the loss ablation trains {self.ablated_epochs} epochs, expected 0 to leave it out, or more"
            )

    def at(self, target: float) -> Recipe:
        """The recipe for another share of filters."""
        return replace(self.recipe, objective=replace(self.recipe.objective, kept=target))

    def variants(self) -> dict[str, Recipe]:
        """The recipes of the loss ablation by name; without parts that are switched off already."""
        made = {}
        for name, missing in VARIANTS.items():
            zeros = {part: 0.0 for part in missing if getattr(self.recipe.objective, part)}
            if zeros or not missing:
                objective: Objective = replace(self.recipe.objective, **zeros)  # type: ignore[arg-type]
                made[name] = replace(self.recipe, objective=objective, epochs=self.ablated_epochs)
        return made

    def quick(self) -> DecouplingPlan:
        """A plan that shows every part within minutes; its figures are rough."""
        return replace(
            self,
            recipe=replace(self.recipe, epochs=min(self.recipe.epochs, 2)),
            targets=tuple(dict.fromkeys((*self.targets[:1], self.main))),
            ablated_epochs=min(self.ablated_epochs, 1),
            profiled=min(self.profiled, 20),
            evaluated=min(self.evaluated, 200),
            shown=min(self.shown, 100),
            repeats=min(self.repeats, 5),
            sets=self.sets[:2],
            ablated=min(self.ablated, 40),
            rivals=None if self.rivals is None else replace(self.rivals, attacked=60, calibration=60, profiled=10),
        )
