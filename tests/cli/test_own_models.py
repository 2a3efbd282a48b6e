"""Networks in the user's own files, and the size that images have for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Call

BLOCKS = """
from torch import nn

def block(inputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, 10))
"""

OWN = """
from blocks import block

def make():
    return block({inputs})
"""


@pytest.mark.parametrize("inputs", [784, 64])
def test_a_file_that_imports_its_sibling_and_takes_digits_scaled_or_as_they_are(
    inputs: int, tmp_path: Path, call: Call
) -> None:
    (tmp_path / "blocks.py").write_text(BLOCKS)
    (tmp_path / "mine.py").write_text(OWN.format(inputs=inputs))
    out = call(
        f"train --model {tmp_path}/mine.py:make --data digits --epochs 1 --limit 100 --out {tmp_path}/run --quiet"
    )
    assert (out.code, out.err) == (0, "")


def test_a_size_that_was_asked_for_is_kept(tmp_path: Path, call: Call) -> None:
    (tmp_path / "blocks.py").write_text(BLOCKS)
    (tmp_path / "mine.py").write_text(OWN.format(inputs=64))
    out = call(f"train --model {tmp_path}/mine.py:make --data digits --size 28 --epochs 1 --out {tmp_path}/run --quiet")
    assert out.code == 2
    assert "1, 28, 28)" in out.err
