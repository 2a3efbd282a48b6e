"""From the options of ``netpaths bench`` to what is measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from netpaths.benchmark.cases import PROFILE, TARGETS, Case, Given, by_model, cases, parse_part, target_cases
from netpaths.benchmark.curves import CURVES
from netpaths.benchmark.parts import PROFILED
from netpaths.errors import BadOption


@dataclass(frozen=True)
class Plan:
    """The cases, and the cost curves of every model at one batch size and number of threads."""

    models: Sequence[str]
    cases: Sequence[Case]
    curves: Sequence[str]
    batch: int
    threads: int
    repeats: int
    weights: Given
    data: Given

    @property
    def images(self) -> int:
        """How many images of a model are held in memory."""
        return max(PROFILED, self.batch, *(case.batch or 0 for case in self.cases))

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Plan:
        """The plan that the command's options ask for; raises BadOption for values that do not fit."""
        curves = _curves(options["curves"] or [])
        models, found, data = _preset(options) if options["preset"] is not None else _cases(options)
        return cls(
            models,
            found,
            curves,
            batch=(options["batches"] or [1])[0],
            threads=(options["thread_counts"] or [torch.get_num_threads()])[0],
            repeats=min(options["repeats"], 3) if options["quick"] else options["repeats"],
            weights=by_model("--weights", options["weights"] or [], models),
            data=data,
        )


def _curves(names: Sequence[str]) -> list[str]:
    for name in names:
        if name not in CURVES:
            raise BadOption(f"--curve is {name!r}, expected {', '.join(CURVES)}")
    return list(dict.fromkeys(names))


def _cases(options: Mapping[str, Any]) -> tuple[list[str], list[Case], Given]:
    """Models, cases and data where the user names the parts; without parts and curves, full paths."""
    parts = [parse_part(text) for text in options["parts"] or ([] if options["curves"] else ["full"])]
    default = ["lenet5"] if options["quick"] else ["lenet5", "resnet20"]
    models = list(dict.fromkeys(options["models"] or default))
    threads = options["thread_counts"] or [torch.get_num_threads()]
    data = _data(options, models)
    if PROFILE in parts and any(data.of(model) is None for model in models):
        raise BadOption("--part profile needs labelled images; give --data for every network")
    found = cases(models, parts, options["batches"] or [1, 32], threads, images=options["images"])
    return models, found, data


def _preset(options: Mapping[str, Any]) -> tuple[list[str], list[Case], Given]:
    """Models, cases and data of the preset; --model and --part pick some of its rows."""
    if options["preset"] != "targets":
        raise BadOption(f"--preset is {options['preset']!r}, expected targets")
    parts = [parse_part(text) for text in options["parts"] or []]
    asked = list(dict.fromkeys(options["models"] or TARGETS))
    data = _data(options, asked)
    batches, threads = options["batches"] or [], options["thread_counts"] or []
    found = target_cases(asked, parts, batches, threads, options["images"], data.named)
    return list(dict.fromkeys(case.model for case in found)), found, data


def _data(options: Mapping[str, Any], models: Sequence[str]) -> Given:
    return by_model("--data", options["data"] or [], models, shared=True)
