"""Default options of every attack, per image size; each value can be overridden.

"grey" is up to 32 pixels in one channel (MNIST, digits), "small" up to 64 pixels in colour (CIFAR), "large" the rest
(ImageNet). ``epsilon`` is the L∞ radius in pixel values, ``stepsize`` a share of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Table = Mapping[str, Mapping[str, Any]]
SIZES = ("grey", "small", "large")


def size_of(channels: int, height: int, width: int) -> str:
    """The row of the table for images of this shape."""
    largest = max(height, width)
    if channels == 1 and largest <= 32:
        return "grey"
    return "small" if largest <= 64 else "large"


def _epsilons(grey: float, small: float, large: float, **options: Any) -> Table:
    return {size: {"epsilon": value, **options} for size, value in zip(SIZES, (grey, small, large))}


def _same(**options: Any) -> Table:
    return dict.fromkeys(SIZES, options)


def _carlini(**options: Any) -> Table:
    """Few, long steps: on a LeNet the L2 distances are 3% above those of four times as many steps."""
    search = {"binary_search_steps": 4, "steps": 60, "confidence": 0.01, "initial_const": 1.0}
    return {size: {**search, "stepsize": step, **options} for size, step in zip(SIZES, (0.1, 0.002, 0.002))}


STRENGTHS: Mapping[str, Table] = {
    "fgsm": _epsilons(0.3, 8 / 255, 8 / 255),
    "bim": _epsilons(0.2, 8 / 255, 4 / 255, steps=20, stepsize=0.1),
    "fgsm-minimal": _epsilons(1.0, 0.5, 0.5, levels=100),
    "bim-minimal": _epsilons(0.4, 16 / 255, 16 / 255, levels=32, steps=10, stepsize=0.2),
    "pgd": _epsilons(0.2, 8 / 255, 4 / 255, steps=20, stepsize=0.1, restarts=2),
    "deepfool": _same(steps=50, candidates=10, overshoot=0.02),
    "cw": _carlini(),
    "jsma": {
        "grey": {"theta": 1.0, "gamma": 0.145, "target": "runner-up"},
        "small": {"theta": 1.0, "gamma": 0.1, "target": "runner-up"},
        "large": {"theta": 1.0, "gamma": 0.01, "target": "runner-up"},
    },
    "targeted-fgsm": _epsilons(0.3, 8 / 255, 8 / 255, target="runner-up"),
    # Wang et al., CVPR 2018, supplement: ten steps of 0.01; few digits give way to that, so they get longer ones
    "targeted-bim": _epsilons(0.3, 0.1, 0.1, steps=10, stepsize=0.1, target="permuted"),
    "targeted-cw": _carlini(target="random"),
    "noise": {
        "grey": {"linf": 0.3, "l2": None},
        "small": {"linf": 8 / 255, "l2": None},
        "large": {"linf": 8 / 255, "l2": None},
    },
    "blur": {"grey": {"sigma": 1.0}, "small": {"sigma": 1.0}, "large": {"sigma": 2.0}},
    "jpeg": _same(quality=30),
    "contrast": _same(factor=0.5),
}

# option: (lowest, highest) value that makes sense
RANGES: Mapping[str, tuple[float, float]] = {
    "epsilon": (0.0, 1.0),
    "stepsize": (1e-9, 10.0),
    "levels": (1, 10_000),
    "steps": (1, 100_000),
    "restarts": (1, 1000),
    "candidates": (2, 100_000),
    "overshoot": (0.0, 10.0),
    "binary_search_steps": (1, 100),
    "confidence": (0.0, 1e6),
    "initial_const": (1e-12, 1e12),
    "theta": (-1.0, 1.0),
    "gamma": (0.0, 1.0),
    "linf": (0.0, 1.0),
    "l2": (0.0, 1e6),
    "sigma": (1e-3, 100.0),
    "quality": (1, 95),
    "factor": (0.0, 10.0),
}
PER_IMAGE = ("linf", "l2")  # options that may hold one value per image
