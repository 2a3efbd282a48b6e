"""What the study of critical data routing paths does with a model and its images, and how much of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from netpaths.attacks import ATTACKS
from netpaths.errors import BadOption
from netpaths.methods import DistillationGuidedRouting

MOST_POINTS = 20


@dataclass(frozen=True)
class RoutingPlan:
    """What is done.

    method: how gates are found. evaluated: test images. per_class: training images a class that detectors learn from,
    ascending. attack, control, options: names in `netpaths.attacks.ATTACKS` and their options. swept: test images of
    the sweep over gammas and steps. compared: test images whose paths are found again under other settings, and in
    the curves over methods. ablated: test images of the ablation. clusters: groups that a class's images fall into.
    points: of the integral of integrated gradients. seed: of everything random. batch_size: of the attacks, whose
    draws depend on it. extracted: images whose gates are learned at once; nothing depends on it.
    """

    method: DistillationGuidedRouting = field(default_factory=DistillationGuidedRouting)
    evaluated: int = 400
    per_class: tuple[int, ...] = (1, 5, 10, 50)
    attack: str = "targeted-bim"
    control: str = "noise"
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gammas: tuple[float, ...] = (0.01, 0.025, 0.05, 0.1, 0.2)
    steps: tuple[int, ...] = (10, 20, 25, 28, 30, 32, 35, 40, 60)
    swept: int = 50
    compared: int = 50
    ablated: int = 200
    clusters: int = 4
    points: int = MOST_POINTS
    bootstrap: int = 1000
    seed: int = 0
    batch_size: int = 64
    extracted: int = 16

    def check(self) -> None:
        """Raise BadOption for an unknown attack or a plan without images."""
        self.method.check()
        for name in (self.attack, self.control):
            if name not in ATTACKS:
                raise BadOption(f"unknown attack {name!r}; known: {', '.join(ATTACKS)}")
        if not ATTACKS[self.control].control or ATTACKS[self.attack].control:
            raise BadOption(
                f"the attack is {self.attack} and the control {self.control}; they must be one of each kind"
            )
        if not self.per_class or list(self.per_class) != sorted(set(self.per_class)) or self.per_class[0] < 1:
            raise BadOption(f"training images a class must be ascending numbers from 1, not {self.per_class}")
        if min(self.evaluated, self.swept, self.compared, self.ablated) < 4 or self.clusters < 2:
            raise BadOption("every part of the study needs at least 4 images, and clustering 2 clusters")

    def quick(self) -> RoutingPlan:
        """A plan that shows every part within minutes; its figures are rough."""
        return replace(
            self,
            evaluated=min(self.evaluated, 24),
            per_class=self.per_class[:1],
            gammas=(0.025, 0.05, 0.1),
            steps=(10, 20, 30, 40),
            swept=min(self.swept, 6),
            compared=min(self.compared, 6),
            ablated=min(self.ablated, 24),
            clusters=min(self.clusters, 2),
            points=min(self.points, 2),
            bootstrap=min(self.bootstrap, 200),
        )
