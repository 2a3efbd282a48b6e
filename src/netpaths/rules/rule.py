"""The contract of a rule: what an active output selects among its inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Literal

import torch

from netpaths import kernels
from netpaths.errors import BadOption
from netpaths.graph import Family, Node, register_family
from netpaths.kernels import Chosen


@dataclass(frozen=True)
class Selector:
    """How contributions are selected.

    theta: share of the target that the chosen contributions must cover, in (0, 1]. target: "contributions", the
    sum of all products without the bias (the artifact's reading), or "neuron", the neuron's value (Qiu et al. 2019,
    Eq. 1). ties: the maxima a max-pool keeps, "first" (the one autograd picks) or "all" (the artifact). merge: at a
    residual addition, "select" among the operands (the artifact) or keep "all".
    """

    theta: float = 0.5
    target: Literal["contributions", "neuron"] = "contributions"
    ties: Literal["first", "all"] = "first"
    merge: Literal["select", "all"] = "select"

    def check(self) -> None:
        """Raise BadOption naming the first option out of range."""
        if not isinstance(self.theta, (int, float)) or not 0 < self.theta <= 1:
            raise BadOption(f"theta must lie in (0, 1], not {self.theta!r}")
        for name, allowed in (
            ("target", ("contributions", "neuron")),
            ("ties", ("first", "all")),
            ("merge", ("select", "all")),
        ):
            if getattr(self, name) not in allowed:
                raise BadOption(f"{name} must be one of {', '.join(allowed)}, not {getattr(self, name)!r}")


@dataclass(frozen=True, eq=False)
class Active:
    """Active neurons of one node for a batch.

    mask: (batch, *shape) bool. reversed: (batch, *shape) bool, neurons that must be explained against the sign of
    their own value, or None when there are none. amount: (batch, *shape) float32, the contributions that reached
    each neuron, or None when they are not asked for.
    """

    mask: torch.Tensor
    reversed: torch.Tensor | None = None
    amount: torch.Tensor | None = None

    @staticmethod
    def merged(parts: Sequence[Active]) -> Active:
        """The union of what several readers selected; readers that disagree on the sign leave the neuron's own."""
        if len(parts) == 1:
            return parts[0]
        mask, turned = kernels.merged([part.mask for part in parts], [part.reversed for part in parts])
        amounts = [part.amount for part in parts if part.amount is not None]
        return Active(mask, turned, reduce(torch.add, amounts) if len(amounts) == len(parts) else None)


@dataclass(frozen=True, eq=False)
class Layer:
    """What a rule sees: the node, the values of its inputs and output (batch, *shape), and its active outputs."""

    node: Node
    inputs: tuple[torch.Tensor, ...]
    output: torch.Tensor
    active: Active
    selector: Selector


@dataclass(frozen=True, eq=False)
class Selection:
    """A rule's answer: the active neurons of every input, and the synapses where outputs combine inputs."""

    inputs: tuple[Active, ...]
    synapses: Chosen | None = None


Select = Callable[[Layer], Selection]

RULES: dict[str, Select] = {}


def register(family: Family, select: Select) -> None:
    """Make ``family`` known to tracing and ``select`` its rule."""
    register_family(family)
    RULES[family.name] = select
