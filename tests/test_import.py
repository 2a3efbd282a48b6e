"""Importing the package stays light: what is heavy is imported on first use."""

from __future__ import annotations

import subprocess
import sys

import netpaths

HEAVY = ("numba", "sklearn", "scipy", "matplotlib", "jinja2", "foolbox", "torchvision", "pyarrow", "typer")


def test_nothing_heavy_is_imported() -> None:
    code = f"import sys, netpaths; print([name for name in {HEAVY} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_public_name_resolves() -> None:
    assert dir(netpaths) == sorted(netpaths.__all__)
    for name in netpaths.__all__:
        assert getattr(netpaths, name).__name__.lower().replace("_", "") == name.lower().replace("_", "")
