"""Running an attack batch by batch, and judging it with the plain model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netpaths.attacks.options import choose_targets, for_images
from netpaths.attacks.result import Attack, AttackResult, distances, undisturbed
from netpaths.errors import BadInput, BadOption
from netpaths.gradients import ordinary, with_gradients
from netpaths.labels import check_labels
from netpaths.training import Progress, device_of, forward


@with_gradients()
def run(
    name: str,
    method: Attack,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    seed: int,
    options: Mapping[str, Any],
    batch_size: int,
    progress: Progress | None,
) -> AttackResult:
    """Apply ``method`` to the images that it is for, in batches, and judge the outcome; see `attack`."""
    _check(images, labels, batch_size)
    images, labels = (ordinary(value.detach().cpu()) for value in (images, labels.long()))
    started = time.perf_counter()
    device = device_of(model)
    with undisturbed(model), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        clean = _logits(model, images, batch_size, device)
        check_labels(labels, *clean.shape)
        aim = choose_targets(options["target"], clean, labels, seed) if method.targeted else labels
        wanted = _wanted(method, clean.argmax(1), labels)
        changed = images.clone()
        for start in range(0, len(wanted), batch_size):
            part = wanted[start : start + batch_size]
            torch.manual_seed(seed + start)
            batch = images[part].to(device), aim[part].to(device)
            changed[part] = method.perturb(model, *batch, for_images(options, part)).detach().cpu()
            if progress is not None:
                progress(start + len(part), len(wanted), name)
        after = _logits(model, changed, batch_size, device).argmax(1)
    predicted = clean.argmax(1)
    success = (predicted == labels) & (after != labels) & (not method.control)
    return AttackResult(
        name=name,
        options=options,
        control=method.control,
        images=changed,
        source=np.arange(len(images)),
        label=labels.numpy(),
        clean_label=predicted.numpy(),
        adversarial_label=after.numpy(),
        target=aim.numpy() if method.targeted else np.full(len(images), -1),
        success=success.numpy(),
        **distances(images, changed),
        seconds=time.perf_counter() - started,
    )


def _check(images: Tensor, labels: Tensor, batch_size: int) -> None:
    if batch_size < 1:
        raise BadOption(f"batch_size is {batch_size}, expected at least 1")
    if len(images) == 0:
        raise BadInput("there are no images to attack")
    if not images.is_floating_point() or not bool(((images >= 0) & (images <= 1)).all()):
        raise BadInput(f"images are {images.dtype} in {images.min():g}…{images.max():g}, expected floats in [0, 1]")


def _wanted(method: Attack, predicted: Tensor, labels: Tensor) -> Tensor:
    """Indices of the images to change: all for a control, the correctly classified ones for an attack."""
    chosen = torch.ones_like(labels, dtype=torch.bool) if method.control else predicted == labels
    return chosen.nonzero()[:, 0]


def _logits(model: nn.Module, images: Tensor, batch_size: int, device: torch.device) -> Tensor:
    starts = range(0, len(images), batch_size)
    with torch.no_grad():
        return torch.cat([forward(model, images[start : start + batch_size].to(device)).cpu() for start in starts])
