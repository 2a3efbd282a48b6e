"""Kernels compiled ahead of time, and compiled at all where numba's cache may not be written."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numba
import pytest
import torch
from torch import nn

from netpaths import EffectivePath, Graph, compiling
from netpaths.compiling import tolerant_cache, when_compiling
from netpaths.kernels.warm_up import compilations, is_cached, warm_up

SOURCE = """
from numba import njit

@njit(cache=True)
def add(first, second):
    return first + second

@njit
def double(value):
    return add(value, value)
"""


class Everything(nn.Module):
    """A layer of every kernel: convolutions with and without a bias, poolings, a sum, a change of sign."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.second = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.average, self.largest = nn.AvgPool2d(2), nn.MaxPool2d(2)
        self.last = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).relu()
        x = -2 * (x + self.second(x).relu())
        result: torch.Tensor = self.last(self.largest(self.average(x)).flatten(1))
        return result


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_is_compiled_after_the_warm_up(dtype: torch.dtype) -> None:
    graph = Graph(Everything().to(dtype), torch.zeros(1, 1, 8, 8, dtype=dtype))
    images = torch.rand(2, 1, 8, 8, dtype=dtype, generator=torch.Generator().manual_seed(0))
    assert warm_up(dtype) > 0
    before = compilations()
    for method in (EffectivePath(), EffectivePath(contributions=True, ties="all", merge="all", target="neuron")):
        method.extract(graph, images)
    assert compilations() == before


def test_the_second_warm_up_compiles_nothing() -> None:
    begun: list[int] = []
    warm_up()
    before = compilations()
    with when_compiling(lambda: begun.append(1)):
        warm_up()
    assert compilations() == before
    assert not begun


def test_kernels_are_kept_on_disk() -> None:
    assert is_cached()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a numba source for whose compiled functions there is no folder."""
    (tmp_path / "a_numba_source.py").write_text(SOURCE)
    (tmp_path / "__pycache__").write_text("a file where the folder should be")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "__pycache__"))
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "__pycache__" / "below"))
    monkeypatch.delitem(sys.modules, "a_numba_source", raising=False)
    return "a_numba_source"


def test_without_a_folder_for_its_cache_numba_refuses(source: str) -> None:
    with pytest.raises(RuntimeError, match="cannot cache function 'add'"):
        importlib.import_module(source)


def test_without_a_folder_for_its_cache_functions_compile_in_memory(source: str) -> None:
    begun: list[int] = []
    strict = numba.njit
    with tolerant_cache():
        module = importlib.import_module(source)
    assert numba.njit is strict
    with when_compiling(lambda: begun.append(1)):
        assert module.double(21) == 42
    assert begun
    assert module.add.stats.cache_path is None


def test_a_change_in_any_source_compiles_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``double`` is compiled from a file that did not change, with ``add`` inside it."""
    (tmp_path / "an_unchanged_source.py").write_text(SOURCE.replace("@njit\n", "@njit(cache=True)\n"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    misses = []
    for content in ("one", "one", "another"):
        monkeypatch.setattr(compiling, "fingerprint", lambda content=content: content)
        monkeypatch.delitem(sys.modules, "an_unchanged_source", raising=False)
        with tolerant_cache():
            module = importlib.import_module("an_unchanged_source")
        assert module.double(21) == 42
        misses.append(sum(module.double.stats.cache_misses.values()))
    assert misses == [1, 0, 1]


def test_the_fingerprint_covers_every_numba_source() -> None:
    package = Path(compiling.__file__).parent
    covered = {file for pattern in compiling.SOURCES for file in package.glob(pattern)}
    marks = ("import njit", "import intrinsic")
    numba_source = {file for file in package.rglob("*.py") if any(mark in file.read_text() for mark in marks)}
    assert numba_source <= covered


def test_other_errors_of_decorating_are_kept() -> None:
    with tolerant_cache(), pytest.raises(TypeError):
        numba.njit(no_such_option=True)(len)
