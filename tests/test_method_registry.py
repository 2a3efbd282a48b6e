"""Methods by name: every one is made, told apart, described and made again; what does not fit is refused in words."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from typing import Any

import pytest

from netpaths.errors import BadOption
from netpaths.methods import (
    Activation,
    CalculationPath,
    DistillationGuidedRouting,
    EffectivePath,
    IntegratedGradients,
    MarginalContribution,
    RandomUnits,
    WeightNorm,
)
from netpaths.methods.registry import METHODS, PRESETS, make_method, method_of, option_value

UNITS = {"share": 0.3, "kind": "neuron", "layers": ("conv2", "fc1"), "across": "layer", "step": 0.02, "binary": True}
OTHERS: dict[str, dict[str, Any]] = {
    "effective": {
        "theta": 0.7,
        "rank": 2,
        "last": 3,
        "target": "neuron",
        "ties": "all",
        "merge": "all",
        "kinds": ("weight", "synapse"),
        "contributions": True,
        "attention": "all",
        "gates": "both",
        "budget": True,
    },
    "routing": {
        "steps": 7,
        "lr": 0.2,
        "momentum": 0.5,
        "gamma": 0.1,
        "limit": 5.0,
        "temperature": 2.0,
        "start": "random",
        "seed": 3,
        "layers": ("conv1",),
        "choose": "last",
        "tolerance": 1e-3,
        "binary": True,
    },
    "decoupling": {},
    "contribution": UNITS,
    "integrated-gradients": {**UNITS, "points": 7},
    "activation": {**UNITS, "relative": False},
    "weight": UNITS,
    "random": {**UNITS, "seed": 5},
}
"""For every method a value of every option that is not its default."""

KNOWN = "effective, routing, decoupling, contribution, integrated-gradients, activation, weight, random, aar, awr"


def test_every_name_makes_its_class() -> None:
    classes = {
        "effective": EffectivePath,
        "routing": DistillationGuidedRouting,
        "decoupling": CalculationPath,
        "contribution": MarginalContribution,
        "integrated-gradients": IntegratedGradients,
        "activation": Activation,
        "weight": WeightNorm,
        "random": RandomUnits,
    }
    assert dict(METHODS) == classes
    for name, own in classes.items():
        assert make_method(name) == own()
        assert type(make_method(name)) is own


def test_presets_remove_units_until_told_otherwise() -> None:
    assert set(PRESETS) == {"aar", "awr"}
    assert make_method("aar") == Activation(share=None)
    assert make_method("awr") == WeightNorm(share=None)
    assert make_method("aar", {"share": 0.5, "kind": "neuron"}) == Activation(share=0.5, kind="neuron")
    assert make_method("awr", {"step": 0.1}) == WeightNorm(share=None, step=0.1)
    assert make_method("aar").describe()["name"] == "activation"


@pytest.mark.parametrize("name", METHODS)
def test_a_description_makes_the_method_again(name: str) -> None:
    """With its defaults, with each option alone and with all of them changed, also from JSON."""
    defaults = METHODS[name]()
    assert set(OTHERS[name]) == {field.name for field in fields(METHODS[name])}
    assert all(value != getattr(defaults, option) for option, value in OTHERS[name].items())
    changes = [{}, OTHERS[name], *({option: value} for option, value in OTHERS[name].items())]
    for options in changes:
        method = METHODS[name](**options)
        assert make_method(name, options) == method
        assert method_of(method.describe()) == method
        assert method_of(json.loads(json.dumps(method.describe()))) == method
    assert method_of(METHODS[name](**OTHERS[name]).describe()) != defaults or not OTHERS[name]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_description_of_a_preset_makes_it_again(preset: str) -> None:
    method = make_method(preset, {"layers": ("conv1",)})
    assert method_of(json.loads(json.dumps(method.describe()))) == method


def spelled(value: Any) -> str:
    """A value as it is typed."""
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return "+".join(value) if isinstance(value, tuple) else str(value)


@pytest.mark.parametrize("name", METHODS)
def test_what_is_typed_is_read_as_what_was_meant(name: str) -> None:
    defaults = METHODS[name]()
    for option, value in OTHERS[name].items():
        for meant in (value, getattr(defaults, option)):
            read = option_value(name, option, spelled(meant))
            assert read == meant
            assert type(read) is type(meant)


READINGS = [
    ("routing", "steps", "30", 30),
    ("routing", "steps", "30.0", "30.0"),
    ("routing", "steps", "none", "none"),
    ("routing", "gamma", "0.05", 0.05),
    ("routing", "gamma", "1e-3", 0.001),
    ("routing", "gamma", "1", 1),
    ("routing", "gamma", "yes", "yes"),
    ("routing", "tolerance", "none", None),
    ("routing", "tolerance", "None", None),
    ("routing", "tolerance", "0.5", 0.5),
    ("routing", "tolerance", "soon", "soon"),
    ("routing", "binary", "yes", True),
    ("routing", "binary", "TRUE", True),
    ("routing", "binary", "no", False),
    ("routing", "binary", "false", False),
    ("routing", "binary", "1", "1"),
    ("routing", "start", "random", "random"),
    ("routing", "start", "zeros", "zeros"),
    ("routing", "layers", "none", None),
    ("routing", "layers", "conv1", ("conv1",)),
    ("routing", "layers", "conv1+conv2", ("conv1", "conv2")),
    ("routing", "layers", "+conv1++conv2+", ("conv1", "conv2")),
    ("routing", "layers", "7", ("7",)),
    ("effective", "kinds", "weight+synapse", ("weight", "synapse")),
    ("effective", "kinds", "none", ("none",)),
    ("effective", "last", "none", None),
    ("effective", "last", "2", 2),
    ("activation", "share", "none", None),
    ("aar", "share", "0.2", 0.2),
    ("aar", "relative", "no", False),
    ("awr", "relative", "no", "no"),
    ("routing", "stepz", "3", "3"),
    ("rooting", "steps", "3", "3"),
]


@pytest.mark.parametrize(("name", "option", "text", "expected"), READINGS)
def test_readings(name: str, option: str, text: str, expected: Any) -> None:
    read = option_value(name, option, text)
    assert read == expected
    assert type(read) is type(expected)


REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("rooting", {}, f"there is no method 'rooting'; nearest: routing, decoupling, contribution; known: {KNOWN}"),
    ("wait", {}, f"there is no method 'wait'; nearest: weight; known: {KNOWN}"),
    ("zzz", {}, f"there is no method 'zzz'; nearest: none; known: {KNOWN}"),
    ("", {}, f"there is no method ''; nearest: none; known: {KNOWN}"),
    (
        "routing",
        {"stepz": 3},
        "routing has no option 'stepz'; it has steps, lr, momentum, gamma, limit, temperature, start, seed, layers, "
        "choose, tolerance, binary",
    ),
    ("aar", {"points": 3}, "aar has no option 'points'; it has share, kind, layers, across, step, binary, relative"),
    ("routing", {"name": "routing"}, "routing has no option 'name'; it has steps, lr"),
    # int
    ("routing", {"steps": "many"}, "steps of routing is 'many', expected a whole number"),
    ("routing", {"steps": 3.0}, "steps of routing is 3.0, expected a whole number"),
    ("routing", {"steps": True}, "steps of routing is True, expected a whole number"),
    ("routing", {"steps": None}, "steps of routing is None, expected a whole number"),
    # float
    ("routing", {"gamma": "much"}, "gamma of routing is 'much', expected a number"),
    ("routing", {"gamma": False}, "gamma of routing is False, expected a number"),
    ("weight", {"step": None}, "step of weight is None, expected a number"),
    # bool
    ("routing", {"binary": 1}, "binary of routing is 1, expected yes or no"),
    ("effective", {"contributions": "maybe"}, "contributions of effective is 'maybe', expected yes or no"),
    # one of some words
    ("routing", {"start": "zeros"}, "start of routing is 'zeros', expected ones or random"),
    ("activation", {"kind": "synapse"}, "kind of activation is 'synapse', expected channel or neuron"),
    ("effective", {"merge": 1}, "merge of effective is 1, expected select or all"),
    # names
    ("effective", {"kinds": "weight"}, "kinds of effective is 'weight', expected names (joined by + on the command"),
    ("effective", {"kinds": ("weight", 1)}, "kinds of effective is ('weight', 1), expected names"),
    ("effective", {"kinds": None}, "kinds of effective is None, expected names"),
    # one or none
    ("effective", {"last": "all"}, "last of effective is 'all', expected a whole number or none"),
    ("effective", {"last": 1.5}, "last of effective is 1.5, expected a whole number or none"),
    ("aar", {"share": "half"}, "share of aar is 'half', expected a number or none"),
    ("routing", {"tolerance": True}, "tolerance of routing is True, expected a number or none"),
    (
        "routing",
        {"layers": ["conv1"]},
        "layers of routing is ['conv1'], expected names (joined by + on the command line) or none",
    ),
    # of the right type but out of range
    ("routing", {"steps": 0}, "steps of routing is 0, which is out of range"),
    ("routing", {"lr": 0}, "lr of routing is 0, which is out of range"),
    ("routing", {"lr": float("inf")}, "lr of routing is inf, which is out of range"),
    ("routing", {"momentum": 1.0}, "momentum of routing is 1.0, which is out of range"),
    ("routing", {"gamma": -0.1}, "gamma of routing is -0.1, which is out of range"),
    ("routing", {"gamma": float("nan")}, "gamma of routing is nan, which is out of range"),
    ("routing", {"limit": 0.5}, "limit of routing is 0.5, which is out of range"),
    ("routing", {"temperature": 0.0}, "temperature of routing is 0.0, which is out of range"),
    ("routing", {"tolerance": 0.0}, "tolerance of routing is 0.0, which is out of range"),
    ("effective", {"theta": 1.5}, "theta must lie in (0, 1], not 1.5"),
    ("effective", {"last": 0}, "last must be at least 1, not 0"),
    ("effective", {"kinds": ("channel",)}, "effective paths have neuron, synapse and weight sites, not 'channel'"),
    ("contribution", {"share": 0}, "share must lie in (0, 1], or be None to remove units, not 0"),
    ("awr", {"step": 2.0}, "step must lie in (0, 1], not 2.0"),
    ("integrated-gradients", {"points": 0}, "points must be a whole number from 1, not 0"),
]


@pytest.mark.parametrize(("name", "options", "message"), REFUSALS)
def test_refusals(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption, match=f"^{re.escape(message)}"):
        make_method(name, options)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({}, "there is no method 'None'"),
        ({"theta": 0.5}, "there is no method 'None'"),
        ({"name": "gates"}, "there is no method 'gates'"),
        ({"name": "routing", "rank": 1}, "routing has no option 'rank'"),
        ({"name": "effective", "kinds": "weight"}, "kinds of effective is 'weight', expected names"),
        ({"name": "routing", "steps": -1}, "steps of routing is -1, which is out of range"),
    ],
)
def test_foreign_descriptions(description: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        method_of(description)


def test_a_description_is_left_as_it_is() -> None:
    description = RandomUnits(layers=("conv1",)).describe()
    before = json.dumps(description)
    assert method_of(description) == RandomUnits(layers=("conv1",))
    assert json.dumps(description) == before
