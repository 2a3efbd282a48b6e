"""Every notion of path by name: from what a user spells, and from what a stored path says of its method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from netpaths.errors import BadOption
from netpaths.graph import PathMethod
from netpaths.methods.activation import Activation
from netpaths.methods.contribution import MarginalContribution
from netpaths.methods.decoupling import CalculationPath
from netpaths.methods.effective import EffectivePath
from netpaths.methods.integrated import IntegratedGradients
from netpaths.methods.random_units import RandomUnits
from netpaths.methods.routing import DistillationGuidedRouting
from netpaths.methods.weight import WeightNorm

METHODS: Mapping[str, Any] = MappingProxyType(
    {
        "effective": EffectivePath,
        "routing": DistillationGuidedRouting,
        "decoupling": CalculationPath,
        "contribution": MarginalContribution,
        "integrated-gradients": IntegratedGradients,
        "activation": Activation,
        "weight": WeightNorm,
        "random": RandomUnits,
    }
)

PRESETS: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {"aar": ("activation", {"share": None}), "awr": ("weight", {"share": None})}
)
"""Names that Wang et al. (CVPR 2018) give to a method with certain options."""


def make_method(name: str, options: Mapping[str, Any] = MappingProxyType({})) -> PathMethod:
    """The method ``name`` of `METHODS` or `PRESETS` with ``options`` in place of its defaults.

    Raises BadOption for an unknown name, an unknown option, or a value of another type or out of range.
    """
    base, preset = PRESETS.get(name, (name, {}))
    if base not in METHODS:
        known = [*METHODS, *PRESETS]
        near = ", ".join(get_close_matches(name, known, n=3, cutoff=0.4)) or "none"
        raise BadOption(f"there is no method {name!r}; nearest: {near}; known: {', '.join(known)}")
    hints = get_type_hints(METHODS[base])
    known = [each.name for each in fields(METHODS[base])]
    for option, value in options.items():
        if option not in known:
            raise BadOption(f"{name} has no option {option!r}; it has {', '.join(known)}")
        if not _fits(value, hints[option]):
            raise BadOption(f"{option} of {name} is {value!r}, expected {_worded(hints[option])}")
    method = METHODS[base](**{**preset, **options})
    method.check()
    return cast(PathMethod, method)


def option_value(name: str, option: str, text: str) -> Any:
    """What ``text`` means for an option of a method: a number, a word, yes or no, none, or names joined by +.

    A text that fits no type of the option, or an unknown option, stays as it is: `make_method` refuses it.
    """
    base = PRESETS.get(name, (name, {}))[0]
    hints = get_type_hints(METHODS[base]) if base in METHODS else {}
    for value in _readings(text):
        if option in hints and _fits(value, hints[option]):
            return value
    return text


def method_of(description: Mapping[str, Any]) -> PathMethod:
    """The method that `PathMethod.describe` described; raises BadOption for one unknown here."""
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in description.items()}
    return make_method(str(given.pop("name", None)), given)


def _readings(text: str) -> list[Any]:
    words = {"none": None, "yes": True, "true": True, "no": False, "false": False}
    found: list[Any] = [words[text.lower()]] if text.lower() in words else []
    for kind in (int, float):
        try:
            found.append(kind(text))
        except ValueError:
            continue
    return [*found, text, tuple(part for part in text.split("+") if part)]


def _fits(value: Any, hint: Any) -> bool:
    """Whether ``value`` is of the annotated type: a plain type, Literal, tuple of strings, or a union of these."""
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, each) for each in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(isinstance(part, str) for part in value)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def _worded(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_worded(each) for each in get_args(hint))
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return "names (joined by + on the command line)"
    return {int: "a whole number", float: "a number", bool: "yes or no", NoneType: "none"}.get(hint, "a text")
