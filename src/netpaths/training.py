"""Training small classifiers (Adam, one-cycle learning rate, repeatable given the seed) and measuring any."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netpaths.data import Images
from netpaths.errors import BadInput, BadOption, BadWeights, NetpathsError
from netpaths.labels import check_labels

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class History:
    """Mean loss and validation accuracy (empty without validation) of each epoch, and seconds in all."""

    loss: tuple[float, ...]
    validation_accuracy: tuple[float, ...]
    seconds: float


def train(
    model: nn.Module,
    images: Images,
    epochs: int,
    batch_size: int = 64,
    lr: float = 4e-3,
    seed: int = 0,
    validation: Images | None = None,
    progress: Progress | None = None,
    *,
    shift: int = 0,
) -> History:
    """Train ``model`` in place with cross-entropy; its training flags are as before afterwards.

    ``lr`` is the peak of the one-cycle schedule (Smith and Topin, 2018); ``shift`` moves each training image at
    random by up to so many pixels. ``progress(done, total, message)`` is called after every epoch. Raises
    BadOption for values out of range, BadInput for data the model cannot take, BadWeights when training
    diverges.
    """
    _check_options(images, epochs, batch_size, lr, shift)
    started = time.perf_counter()
    losses: list[float] = []
    accuracies: list[float] = []
    device = device_of(model)
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * batches_of(len(images), batch_size)
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=lr, total_steps=max(steps, 2))
    with seeded(seed, device), in_mode(model, training=True):
        for epoch in range(epochs):
            batches = shuffled(images, batch_size, shift, generator)
            losses.append(_epoch(model, batches, optimiser, schedule, device))
            if validation is not None:
                accuracies.append(accuracy(model, validation))
            if progress is not None:
                progress(epoch + 1, epochs, _message(losses, accuracies))
    return History(tuple(losses), tuple(accuracies), time.perf_counter() - started)


def predictions(model: nn.Module, images: Images, batch_size: int = 256) -> Tensor:
    """Logits (images, classes) of ``model`` in evaluation mode, on the CPU.

    Raises BadInput when the model cannot take images of this shape.
    """
    device = device_of(model)
    with torch.no_grad(), in_mode(model, training=False):
        outputs = [forward(model, batch.to(device)).cpu() for batch, _ in images.batches(batch_size)]
    return torch.cat(outputs) if outputs else torch.zeros(0, len(images.classes))


def accuracy(model: nn.Module, images: Images, batch_size: int = 256) -> float:
    """The share of ``images`` whose label has the largest logit; NaN for no images."""
    correct = predictions(model, images, batch_size).argmax(1) == torch.from_numpy(images.labels)
    return float(correct.float().mean())


def _check_options(images: Images, epochs: int, batch_size: int, lr: float, shift: int) -> None:
    if len(images) == 0:
        raise BadOption("there are no images to train on")
    for name, value in {"epochs": epochs, "batch_size": batch_size}.items():
        if value < 1:
            raise BadOption(f"{name} is {value}, expected at least 1")
    if not lr > 0:
        raise BadOption(f"lr is {lr}, expected a positive learning rate")
    if not 0 <= shift < min(images.shape[1:]):
        raise BadOption(f"shift is {shift}, expected 0 to {min(images.shape[1:]) - 1} pixels")


def _epoch(
    model: nn.Module,
    batches: Iterator[tuple[Tensor, Tensor]],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    device: torch.device,
) -> float:
    """One pass over ``batches``; returns the mean loss."""
    total, count = 0.0, 0
    for batch, labels in batches:
        logits = forward(model, batch.to(device))
        loss = F.cross_entropy(logits, check_labels(labels, *logits.shape).to(device))
        if not torch.isfinite(loss):
            raise BadWeights(f"training diverged: the loss is {loss.item()}; try a smaller learning rate")
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        total, count = total + loss.item() * len(labels), count + len(labels)
    optimiser.zero_grad()
    return total / count


def forward(model: nn.Module, batch: Tensor) -> Tensor:
    """The model's logits (batch, classes); raises BadInput when it cannot take images of this shape."""
    try:
        logits: Tensor = model(batch)
    except NetpathsError:
        raise
    except Exception as error:  # of the user's own code
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise BadInput(f"the model cannot take images of shape {tuple(batch.shape[1:])}: {reason}") from error
    return logits


def shuffled(
    images: Images, batch_size: int, shift: int, generator: torch.Generator, flip: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images once in random order as pairs (images, labels), each moved by up to ``shift`` pixels and, where
    ``flip`` says so, mirrored left to right with probability ½. No last batch has one image alone, which batch norm
    cannot train on; it joins the batch before."""
    order = torch.randperm(len(images), generator=generator)
    count = batches_of(len(images), batch_size)
    for place in range(count):
        end = len(order) if place == count - 1 else (place + 1) * batch_size
        batch, labels = images[order[place * batch_size : end]]
        batch = _shifted(batch, shift, generator) if shift else batch
        yield (_flipped(batch, generator) if flip else batch), labels


def batches_of(images: int, batch_size: int) -> int:
    """How many batches `shuffled` makes of so many images."""
    return -(-images // batch_size) - (images > 1 and images % batch_size == 1 and batch_size > 1)


def _flipped(batch: Tensor, generator: torch.Generator) -> Tensor:
    mirrored = torch.rand(len(batch), 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirrored, batch.flip(3), batch)


def _shifted(batch: Tensor, shift: int, generator: torch.Generator) -> Tensor:
    """Every image moved by up to ``shift`` pixels along both axes, its border repeated."""
    count, _, height, width = batch.shape
    padded = F.pad(batch, (shift, shift, shift, shift), mode="replicate")
    offsets = torch.randint(0, 2 * shift + 1, (2, count, 1, 1), generator=generator)
    rows = offsets[0] + torch.arange(height).view(1, height, 1)  # (count, height, 1)
    columns = offsets[1] + torch.arange(width).view(1, 1, width)  # (count, 1, width)
    first = torch.arange(count).view(count, 1, 1)
    return padded.permute(0, 2, 3, 1)[first, rows, columns].permute(0, 3, 1, 2).contiguous()


def cutmix(batch: Tensor, targets: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images and targets where a share of the images got a rectangle of another one, and of its target as much.

    batch: (batch, channels, height, width). targets: (batch, classes) shares. share: the probability of every image.
    A rectangle has the image's proportions, lies anywhere, and covers at most half of it. Source: Yun et al.,
    "CutMix", ICCV 2019.
    """
    count, _, height, width = batch.shape
    other = torch.randperm(count, generator=generator)
    chosen, area, y, x = torch.rand(4, count, 1, 1, generator=generator)
    half = (area / 2).sqrt() / 2
    rows = (torch.arange(height).view(1, height, 1) + 0.5) / height
    columns = (torch.arange(width).view(1, 1, width) + 0.5) / width
    inside = ((rows - y).abs() <= half) & ((columns - x).abs() <= half) & (chosen < share)
    covered = inside.flatten(1).float().mean(1, keepdim=True)
    mixed = torch.where(inside.unsqueeze(1), batch[other], batch)
    return mixed, (1 - covered) * targets + covered * targets[other]


def _message(losses: list[float], accuracies: list[float]) -> str:
    text = f"loss {losses[-1]:.4f}"
    return f"{text}, accuracy {accuracies[-1]:.2%}" if accuracies else text


def device_of(model: nn.Module) -> torch.device:
    """Where the model's parameters are; the CPU for a model without any."""
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """The global generators seeded inside (for dropout), as before outside."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def in_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """All modules in one mode inside, each in its own again outside."""
    flags = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag
