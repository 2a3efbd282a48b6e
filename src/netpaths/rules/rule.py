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
from netpaths.rules.frozen import FROZEN, Frozen


@dataclass(frozen=True)
class Selector:
    """How contributions are selected.

    theta: share of the target that the chosen contributions must cover, in (0, 1]. target: "contributions", the
    sum of all products without the bias (the artifact's reading), or "neuron", the neuron's value (Qiu et al. 2019,
    Eq. 1). ties: the maxima a max-pool keeps, "first" (the one autograd picks) or "all" (the artifact). merge: at a
    residual addition, "select" among the operands (the artifact) or keep "all". attention: the path follows the
    "values" that a pattern mixes, or "all": the pattern too, through its softmax to queries and keys. gates: of a
    product of two activations it follows the "signal", the operand that is no bounded gate, or "both".
    """

    theta: float = 0.5
    target: Literal["contributions", "neuron"] = "contributions"
    ties: Literal["first", "all"] = "first"
    merge: Literal["select", "all"] = "select"
    attention: Literal["values", "all"] = "values"
    gates: Literal["signal", "both"] = "signal"

    def check(self) -> None:
        """Raise BadOption naming the first option out of range."""
        if not isinstance(self.theta, (int, float)) or not 0 < self.theta <= 1:
            raise BadOption(f"theta must lie in (0, 1], not {self.theta!r}")
        for name, allowed in (
            ("target", ("contributions", "neuron")),
            ("ties", ("first", "all")),
            ("merge", ("select", "all")),
            ("attention", ("values", "all")),
            ("gates", ("signal", "both")),
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
    """A rule's answer.

    inputs: the active neurons of every input. synapses: where outputs combine inputs, what was chosen. routing:
    (batch, *pattern shape) bool, the entries of an attention pattern that the path follows to queries and keys; or
    None where it follows none.
    """

    inputs: tuple[Active, ...]
    synapses: Chosen | None = None
    routing: torch.Tensor | None = None


Select = Callable[[Layer], Selection]

RULES: dict[str, Select] = {}


def register(family: Family, select: Select, frozen: Frozen | None = None) -> None:
    """Make ``family`` known to tracing, ``select`` its rule and ``frozen`` what its values are made of."""
    register_family(family)
    RULES[family.name] = select
    if frozen is not None:
        FROZEN[family.name] = frozen
