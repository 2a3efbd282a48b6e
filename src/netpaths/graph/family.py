"""How layer families look in a model: the registry that tells tracing what is supported.

A rule file describes the calls it covers — module classes, functions and tensor methods with their signatures — and
registers them here. Tracing binds every call of a model to one family, so that rules never see modules or functions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import nn

from netpaths.errors import BadOption

if TYPE_CHECKING:
    from netpaths.graph.field import Field
    from netpaths.graph.node import Node

Signature = str
"""Parameter names in order, with Python literals as defaults: "input weight bias=None stride=1"."""


@dataclass(frozen=True)
class Family:
    """One layer family: the calls that belong to it and what tracing must know about them.

    frozen: whether paths do not go through it, so that it may scale other values and be nothing else.
    operations: names of the ATen operations an exported network knows it by. takes: which of their calls are its own,
    where several families share an operation. weight: the weight (outputs, inputs of a group, *kernel) of its calls.
    name: the field's word for it. summary: one line for the table of supported operations. modules: classes, with
    the attribute names to read as arguments. functions, methods: callables and tensor-method names with their
    signatures. refuse: why a call is not supported, or None. field: the receptive fields, where outputs combine
    several inputs. weighted: whether it has a weight. remaps: whether outputs are copies of inputs, so that running
    the call on positions tells where each comes from. last: whether it is supported as the last operation alone.
    """

    name: str
    summary: str
    modules: Mapping[type[nn.Module], str] = field(default_factory=dict)
    functions: Mapping[Callable[..., Any], Signature] = field(default_factory=dict)
    methods: Mapping[str, Signature] = field(default_factory=dict)
    refuse: Callable[[Node], str | None] = lambda node: None
    field: Callable[[Node], Field | None] | None = None
    weighted: bool = False
    remaps: bool = False
    last: bool = False
    frozen: bool = False
    operations: tuple[str, ...] = ()
    takes: Callable[[Node], bool] = lambda node: True
    weight: Callable[[Node], Any] = lambda node: node.arguments["weight"]


FAMILIES: dict[str, Family] = {}


def register_family(family: Family) -> None:
    """Make tracing know ``family``; raises BadOption when another family already covers one of its calls."""
    calls: list[Any] = [*family.modules, *family.functions, *family.methods]
    for call in calls:
        taken = find_family(call)
        if taken is not None and taken[0].name != family.name:
            raise BadOption(f"{getattr(call, '__name__', call)} already belongs to the family {taken[0].name!r}")
    FAMILIES[family.name] = family


def find_family(call: type[nn.Module] | Callable[..., Any] | str) -> tuple[Family, Signature] | None:
    """The family of a module class, function or method name, with the signature, or None."""
    for family in FAMILIES.values():
        if isinstance(call, str):
            signature = family.methods.get(call)
        elif isinstance(call, type):
            signature = next((family.modules[base] for base in call.__mro__ if base in family.modules), None)
        else:
            signature = family.functions.get(call)
        if signature is not None:
            return family, signature
    return None


def supported() -> list[tuple[str, str, list[str]]]:
    """Every family with its summary and the calls it covers, for tables and messages."""
    return [
        (
            family.name,
            family.summary,
            sorted(
                {
                    *(module.__name__ for module in family.modules),
                    *(getattr(function, "__name__", str(function)) for function in family.functions),
                    *(f".{method}" for method in family.methods),
                    *(f"aten.{operation}" for operation in family.operations),
                }
            ),
        )
        for family in FAMILIES.values()
    ]
