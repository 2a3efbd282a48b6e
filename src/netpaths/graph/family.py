"""What kinds of operations there are: the registry that tells a graph what is supported.

A rule file describes the operations it covers, by the names that PyTorch's own operators have, and registers them here.
A graph binds every operation of a model to one family, so that rules never see modules or functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from netpaths.errors import BadOption

if TYPE_CHECKING:
    from netpaths.graph.field import Field
    from netpaths.graph.node import Node


Kind = Literal["linear", "frozen factors", "element-wise", "choice", "product", "rearrangement", "frozen"]


@dataclass(frozen=True)
class Family:
    """One family: the operations that belong to it and what a graph must know about them.

    name: the field's word for it. summary: one line for the table of supported operations. kind: of the contribution
    algebra, or "frozen" for what paths do not go through, so that it may scale other values and be nothing else.
    operations: names of
    operators (``conv2d`` for aten.conv2d) or, in a network that is canonical already, of module classes in small
    letters. takes: which of their calls are its own, where several families share an operation. refuse: why a call is
    not supported, or None. field: the receptive fields, where outputs combine several inputs. weighted: whether it has
    a weight. weight: that of a call, (outputs, inputs of a group, *kernel). remaps: whether outputs are copies of
    inputs, so that running the call on positions tells where each comes from.
    """

    name: str
    summary: str
    kind: Kind
    operations: tuple[str, ...]
    takes: Callable[[Node], bool] = lambda node: True
    refuse: Callable[[Node], str | None] = lambda node: None
    field: Callable[[Node], Field | None] | None = None
    weighted: bool = False
    weight: Callable[[Node], Any] = lambda node: node.arguments["weight"]
    remaps: bool = False

    @property
    def frozen(self) -> bool:
        """Whether paths do not go through it."""
        return self.kind == "frozen"


FAMILIES: dict[str, Family] = {}


def register_family(family: Family) -> None:
    """Make graphs know ``family``; raises BadOption when there is another of its name."""
    if family.name in FAMILIES:
        raise BadOption(f"there is already a family {family.name!r}; give the new one another name")
    FAMILIES[family.name] = family


def supported() -> list[Family]:
    """Every family, by kind and name, for tables."""
    kinds = get_args(Kind)
    return sorted(FAMILIES.values(), key=lambda family: (kinds.index(family.kind), family.name))
