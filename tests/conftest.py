"""What all tests share: one torch thread, the optional folder of real data, a trained LeNet on bundled digits."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from netpaths.data import Images, load_data
from netpaths.graph import keep_exports
from netpaths.kernels.warm_up import warm_up
from netpaths.training import train
from netpaths.zoo import load_model

torch.set_num_threads(1)
keep_exports(64)  # the same networks are traced again and again

DTYPES = (torch.float32, torch.float64)
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(scope="session", autouse=bool(WORKER))
def compiled() -> None:
    """Kernels compiled before the first test: half of the workers begin with one type, the others with the other."""
    for dtype in DTYPES if WORKER.endswith(tuple("02468")) else reversed(DTYPES):
        warm_up(dtype)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and weights: NETPATHS_SHARED, or ../shared beside the project; skips without it."""
    place = os.environ.get("NETPATHS_SHARED")
    folder = Path(place) if place else Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data in {folder}; set NETPATHS_SHARED to a folder with data/ and weights/")
    return folder


@pytest.fixture(scope="session")
def digits_test() -> Images:
    """The test split of the bundled digits."""
    return load_data("digits", "test")


@pytest.fixture(scope="session")
def digits_lenet() -> nn.Module:
    """A LeNet-5 trained on the bundled digits; treat it as read-only."""
    torch.manual_seed(0)
    model = load_model("lenet5")
    train(model, load_data("digits"), epochs=8)
    return model


@pytest.fixture(scope="module")
def study_tables() -> Iterator[ModuleType]:
    """docs/study_tables.py as a module, with those it reads from beside it."""
    names = ("generate", "results_page", "performance_page", "study_tables")
    for name in names:
        spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    yield sys.modules["study_tables"]
    for name in names:
        sys.modules.pop(name, None)
