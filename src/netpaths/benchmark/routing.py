"""What gates cost: a descent of 30 steps beside 30 plain forward and backward passes of the same batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from netpaths.benchmark.subject import Subject
from netpaths.benchmark.timing import columns, milliseconds, ratio, rounds
from netpaths.methods import DistillationGuidedRouting


def measure_routing(subject: Subject, batch: int, repeats: int) -> dict[str, Any]:
    """Times of the gates of ``batch`` images and of plain passes, once as images come and once with channels together.

    A backward pass goes to the image and to no weight. The ratio is over passes on images as they come.
    """
    method, images = DistillationGuidedRouting(), subject.batch(batch)
    together = images.contiguous(memory_format=torch.channels_last) if images.dim() == 4 else images
    times = rounds(
        {
            "passes": lambda _: passes(subject.network, images, method.steps),
            "passes, channels together": lambda _: passes(subject.network, together, method.steps),
            "routing": lambda _: method.extract(subject.graph, images),
        },
        repeats,
        images.device,
    )
    return {
        **columns(times),
        **ratio(times["routing"], times["passes"]),
        "ratio, channels together": ratio(times["routing"], times["passes, channels together"])["ratio"],
        "ms per image": milliseconds(times["routing"]) / batch,
    }


def passes(network: nn.Module, images: torch.Tensor, number: int) -> None:
    """``number`` forward and backward passes, the gradient that of the images alone."""
    for _ in range(number):
        given = images.detach().requires_grad_()
        logits = network(given)
        torch.autograd.grad(logits, given, torch.ones_like(logits))
