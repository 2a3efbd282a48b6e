"""Synthetic path similarities: clean images near their class, attacks between two classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from netpaths.detection import Features

LAYERS = ("conv1", "conv2", "fc1", "fc2")
NAMES = tuple((layer, rank) for rank in (1, 2) for layer in LAYERS)
MakeFeatures = Callable[..., Features]


def _rows(rng: np.random.Generator, sources: int, strength: float) -> np.ndarray:
    shift = strength * np.linspace(0.05, 0.3, len(LAYERS))
    near = np.clip(0.9 - shift + rng.normal(0, 0.06, (sources, len(LAYERS))), 0, 1)
    far = np.clip(0.5 + shift + rng.normal(0, 0.08, (sources, len(LAYERS))), 0, 1)
    return np.concatenate([near, far], axis=1)


def _make(
    sources: int = 60,
    attacks: tuple[str, ...] = ("fgsm", "deepfool"),
    controls: tuple[str, ...] = (),
    strength: float = 1.0,
    missing: float = 0.0,
    seed: int = 0,
    first: int = 0,
) -> Features:
    """Every source once clean, and once under each attack and control; label = source number modulo 5."""
    rng = np.random.default_rng(seed)
    parts, labels = [], np.arange(sources) % 5
    for attack in ("clean", *attacks, *controls):
        attacked = attack in attacks
        values = _rows(rng, sources, strength if attacked else 0.0)
        values[rng.random(values.shape) < missing] = np.nan
        parts.append(
            Features(
                values=values,
                names=NAMES,
                sources=np.array([f"image-{first + i}" for i in range(sources)]),
                attacks=np.array([attack] * sources),
                predicted=(labels + 1) % 5 if attacked else labels,
                labels=labels,
                controls=controls,
            )
        )
    return Features.concat(parts)


@pytest.fixture(scope="session")
def make_features() -> MakeFeatures:
    return _make
