"""What an attack is, what it returns, and the guard that leaves the attacked model untouched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from netpaths.training import in_mode

Options = Mapping[str, Any]
Perturb = Callable[[nn.Module, Tensor, Tensor, Options], Tensor]
# (model in evaluation mode, images in [0, 1], labels or targets, options) -> images in [0, 1]

CHANGED = 1e-6  # an element that moved less than this counts as unchanged in the L0 distance


@dataclass(frozen=True)
class Attack:
    """A way to change images: a function, its default options per image size, and what kind it is.

    ``perturb`` gets the true labels, or the targets of a ``targeted`` attack. A ``control`` changes images without
    aiming at the model: it is applied to every image and never counts as a success.
    """

    perturb: Perturb
    strengths: Mapping[str, Options]
    summary: str
    targeted: bool = False
    control: bool = False


@dataclass(frozen=True, eq=False)
class AttackResult:
    """Changed images and what the plain model says about them.

    ``images`` (batch, channels, height, width) in [0, 1]; ``source`` (batch,) is the index of each image's original
    in the attacked batch; ``clean_label`` and ``adversarial_label`` are the model's predictions before and after;
    ``target`` is the label aimed at, -1 where none; ``success``: originally correct, now misclassified, not a control.
    Distances are per image: ``l2``, ``linf`` in pixel values, ``l0`` in changed elements.
    """

    name: str
    options: Options
    control: bool
    images: Tensor
    source: NDArray[np.int64]
    label: NDArray[np.int64]
    clean_label: NDArray[np.int64]
    adversarial_label: NDArray[np.int64]
    target: NDArray[np.int64]
    success: NDArray[np.bool_]
    l2: NDArray[np.float32]
    linf: NDArray[np.float32]
    l0: NDArray[np.int64]
    seconds: float

    def __len__(self) -> int:
        return len(self.source)

    @property
    def success_rate(self) -> float:
        """Successes as a share of the originally correct images; NaN without any."""
        correct = self.clean_label == self.label
        return float(self.success[correct].mean()) if correct.any() else float("nan")

    def successful(self) -> AttackResult:
        """Only the images that count: originally correct and now misclassified."""
        return self.take(np.flatnonzero(self.success))

    def take(self, indices: NDArray[np.int64]) -> AttackResult:
        """The images at ``indices``, with everything known about them."""
        kept = {name: value[indices] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        images = self.images[torch.from_numpy(indices)]
        return AttackResult(self.name, self.options, self.control, images, **kept, seconds=self.seconds)


def distances(clean: Tensor, changed: Tensor) -> dict[str, NDArray[Any]]:
    """L2, L∞ and L0 distances between two batches (batch, channels, height, width), each (batch,)."""
    difference = (changed - clean).abs().flatten(1)
    return {
        "l2": difference.square().sum(1).sqrt().numpy(),
        "linf": difference.amax(1).numpy(),
        "l0": (difference > CHANGED).sum(1).numpy(),
    }


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """``model`` in evaluation mode without parameter gradients inside; every flag as it was outside."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        with in_mode(model, training=False):
            yield
    finally:
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
