"""The kernels, and the runtime of decoupled networks, on a processor that cannot move chosen lanes together."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from netpaths.kernels import _candidates
from netpaths.lanes import COMPRESSES

OLDER = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma,+bmi,+bmi2,+popcnt,+lzcnt"}
"""A processor of 2013, as numba is told of it."""


KERNELS = "(agree_on_convolutions and float32) or any_convolution or weights_agree or sums_that_nearly_cancel"
RUNTIME = "random_residual or same_logits or big_convolutions"
LEAST = 100
"""How many tests must have run."""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="tells numba of another x86 processor")
def test_kernels_agree_on_an_older_processor(tmp_path: Path) -> None:
    files = [str(Path(__file__).with_name(name)) for name in ("test_kernels.py", "test_runtime.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, "-k", f"{KERNELS} or {RUNTIME}"]
    environment = {**os.environ, **OLDER, "NUMBA_CACHE_DIR": str(tmp_path)}
    told = "from netpaths.lanes import COMPRESSES; print(COMPRESSES)"
    known = subprocess.run([sys.executable, "-c", told], env=environment, capture_output=True, text=True, check=True)
    assert known.stdout.strip() == "False"
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert done.stdout.count(".") >= LEAST


@pytest.mark.skipif(not COMPRESSES, reason="this processor has no AVX-512 VBMI2, so that there is one way alone")
@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 1.0])
def test_both_ways_list_the_same_candidates(density: float) -> None:
    generator = np.random.default_rng(0)
    marks = generator.random(64 * 9) < density
    found = []
    for listed in (_candidates.placed_together, _candidates.placed_by_bits):
        words = np.append(np.packbits(marks, bitorder="little").view(np.uint64), np.uint64(7))
        places = np.full(64 * 11, -1, np.int32)
        count = listed(words, 0, 9, np.empty(10, np.int64), places, 5)
        found.append(places[5 : 5 + count].tolist())
    assert found[0] == found[1] == np.flatnonzero(marks).tolist()


@pytest.mark.skipif(not COMPRESSES, reason="this processor has no AVX-512 VBMI2, so that there is one way alone")
@pytest.mark.parametrize("word", [0, 1, 0x8001, 0xA5A5, 0xFFFF])
def test_both_ways_keep_the_same_candidates(word: int) -> None:
    spots = np.arange(100, 140, dtype=np.int32)
    kept = []
    for keep in (_candidates.kept_together, _candidates.kept_by_bits):
        into = np.zeros(40, np.int32)
        keep(spots, 3, np.uint64(word), into, 2)
        kept.append(into[2 : 2 + word.bit_count()].tolist())
    assert kept[0] == kept[1] == [103 + k for k in range(16) if word >> k & 1]
