"""Clocks: stages timed in turn, ratios over rounds, time per layer kind, and what a call compiles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from netpaths.rules import RULES, Layer, Selection
from netpaths.rules.rule import Select

T = TypeVar("T")
Seconds = NDArray[np.float64]
Stage = Callable[[Any], object]
"""Takes what the stage before returned, None for the first."""


def clocked(work: Callable[[], T], device: torch.device) -> tuple[float, T]:
    """The wall-clock seconds of ``work``, to the end of what it started on ``device``, and its result."""
    _wait(device)
    started = perf_counter()
    result = work()
    _wait(device)
    return perf_counter() - started, result


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rounds(stages: Mapping[str, Stage], repeats: int, device: torch.device) -> dict[str, Seconds]:
    """The seconds of every stage, (repeats,) each, after one untimed round.

    Every round runs all stages in turn, so that whatever else the machine does hits all of them.
    """
    times: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(repeats + 1):
        result: object = None
        for name, stage in stages.items():
            seconds, result = clocked(lambda stage=stage, given=result: stage(given), device)  # type: ignore[misc]
            times[name].append(seconds)
    return {name: np.array(own[1:]) for name, own in times.items()}


def milliseconds(seconds: Seconds) -> float:
    """The median in milliseconds."""
    return 1e3 * float(np.median(seconds))


def columns(times: Mapping[str, Seconds]) -> dict[str, float]:
    """The median milliseconds of every stage."""
    return {f"{name} ms": milliseconds(seconds) for name, seconds in times.items()}


def ratio(work: Seconds, yardstick: Seconds) -> dict[str, float]:
    """How many times as long the work takes as the yardstick: median and quartiles over rounds."""
    low, middle, high = np.percentile(work / yardstick, (25, 50, 75))
    return {"ratio": float(middle), "ratio low": float(low), "ratio high": float(high)}


@contextmanager
def timed_rules(device: torch.device) -> Iterator[dict[str, float]]:
    """Yields the seconds that the rule of every layer family takes, summed up as long as the context is open."""
    seconds: dict[str, float] = defaultdict(float)
    before = dict(RULES)
    RULES.update({family: _timed(family, rule, seconds, device) for family, rule in before.items()})
    try:
        yield seconds
    finally:
        RULES.update(before)


def _timed(family: str, rule: Select, seconds: dict[str, float], device: torch.device) -> Select:
    def select(layer: Layer) -> Selection:
        spent, selection = clocked(lambda: rule(layer), device)
        seconds[family] += spent
        return selection

    return select


@contextmanager
def compilations() -> Iterator[list[tuple[str, float]]]:
    """Yields the name and the seconds of every function compiled, not read from the cache, while the context is open.

    What is compiled on behalf of another function counts with that one.
    """
    from numba.core import event

    found: list[tuple[str, float]] = []
    with event.install_recorder("numba:compile") as recorder:
        yield found
    begun: list[float] = []
    for moment, each in recorder.buffer:
        if each.is_start:
            begun.append(moment)
            continue
        seconds = moment - begun.pop()
        if not begun:
            found.append((each.data["dispatcher"].py_func.__qualname__, seconds))
