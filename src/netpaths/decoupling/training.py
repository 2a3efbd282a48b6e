"""Train a decoupled network: all weights, stochastic gradient descent, codes first, then what they left.

Every epoch ends in a checkpoint that the same call goes on from; its random draws depend on the seed and its number
alone, so a training that was stopped ends where an uninterrupted one does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from math import floor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netpaths.data import Images
from netpaths.decoupling.cost import Cost
from netpaths.decoupling.insertion import Decoupled
from netpaths.decoupling.loss import Objective, compared, heads, parts
from netpaths.decoupling.observed import Observed, Plain
from netpaths.errors import BadFile, BadOption, BadWeights
from netpaths.files import checksum, load_tensors, plain, save_tensors
from netpaths.graph import Graph
from netpaths.training import batches_of, cutmix, device_of, in_mode, seeded, shuffled

KIND, SCHEMA = "decoupling-checkpoint", 3
LIMIT = 100_003
"""Seeds of neighbouring trainings lie so far apart that no epoch of one is an epoch of another."""

START_OVER = "remove it to start over"
_ADVICE = {"weights at the start": f"go on with the network as decouple makes it, or {START_OVER}"}

Row = Mapping[str, float]
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Recipe:
    """How a decoupled network is trained.

    lr, momentum, weight_decay: of gradient descent. pace: how many times faster controllers learn, 1 in the paper;
    they are new, the other weights are not. hold: the share of the learning rate that the other weights have
    while controllers learn, 1 in the paper. Classifiers of codes learn at their pace as if their loss had no weight,
    because the bound on mutual information says little until they are good (ours). milestones: shares of the epochs
    after which the learning rate is a tenth, such as 0.5 and 0.75 in the paper. ramp: share of the steps in which
    controllers learn over which the wanted share of filters falls from 1 to the objective's, 0 for none, as in the
    paper. settle: share of the epochs, the last ones, in which controllers rest and codes are those of evaluation, so
    that the other weights learn to do with them, while the learning rate falls to 0 linearly; 0 for none, as in the
    paper. Hints and mixed images are for these epochs alone. objective: the loss. shift, flip: of the training images,
    as in `netpaths.training.shuffled`. cutmix: the share of them that get a rectangle of another one, as in
    `netpaths.training.cutmix`.
    The defaults are for a few epochs from pretrained weights; Li et al. train 200 epochs at lr 0.1 (CIFAR-10).
    """

    epochs: int = 10
    batch_size: int = 64
    lr: float = 0.01
    pace: float = 16.0
    hold: float = 0.16
    momentum: float = 0.9
    weight_decay: float = 1e-4
    milestones: tuple[float, ...] = ()
    ramp: float = 0.9
    settle: float = 0.5
    objective: Objective = field(default_factory=Objective)
    shift: int = 0
    flip: bool = False
    cutmix: float = 0.0
    seed: int = 0

    def check(self) -> None:
        """Raise BadOption for a value out of range."""
        self.objective.check()
        ranges = {
            "epochs": self.epochs >= 1,
            "batch_size": self.batch_size >= 1,
            "lr": 0 < self.lr < float("inf"),
            "pace": 0 < self.pace < float("inf"),
            "hold": 0 <= self.hold <= 1,
            "momentum": 0 <= self.momentum < 1,
            "weight_decay": 0 <= self.weight_decay < float("inf"),
            "milestones": all(0 < share < 1 for share in self.milestones),
            "ramp": 0 <= self.ramp <= 1,
            "settle": 0 <= self.settle < 1,
            "shift": self.shift >= 0,
            "cutmix": 0 <= self.cutmix <= 1,
        }
        wrong = [name for name, fits in ranges.items() if not fits]
        if wrong:
            raise BadOption(f"{wrong[0].replace('_', ' ')} is {getattr(self, wrong[0])}, which is out of range")

    @property
    def learning(self) -> int:
        """The number of epochs in which controllers learn; half an epoch is one."""
        return floor((1 - self.settle) * self.epochs + 0.5 + 1e-9)

    def rate(self, epoch: int, share: float) -> float:
        """The learning rate after ``share`` of an epoch, counted from 0."""
        rate = self.lr * 0.1 ** sum(epoch >= milestone * self.epochs for milestone in self.milestones)
        if not self.settles(epoch):
            return rate
        return rate * (self.epochs - epoch - share) / (self.epochs - self.learning)

    def settles(self, epoch: int) -> bool:
        """Whether controllers rest in an epoch, counted from 0."""
        return epoch >= self.learning

    def at(self, epoch: int, share: float) -> Objective:
        """The loss after ``share`` of an epoch, counted from 0.

        Without hints while controllers learn, and without the parts about codes while they rest.
        """
        if self.settles(epoch):
            return replace(self.objective, information=0.0, alignment=0.0, sparsity=0.0)
        done = (epoch + share) / self.learning
        reached = min(done / self.ramp, 1.0) if self.ramp else 1.0
        return replace(self.objective, kept=1 - reached * (1 - self.objective.kept), hints=0.0)


@dataclass(frozen=True, eq=False)
class State:
    """A training between two epochs: outputs, classifiers of the codes, momentum, a row of figures per epoch done."""

    classes: int
    classifiers: nn.ModuleDict
    optimiser: torch.optim.SGD
    history: list[dict[str, float]]


def train_decoupled(
    network: Decoupled,
    images: Images,
    recipe: Recipe,
    validation: Images,
    plain: nn.Module | None = None,
    *,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    stopped: Callable[[], None] = lambda: None,
) -> list[dict[str, float]]:
    """Train ``network`` in place and return one row of figures per epoch.

    images: trained on. validation: measured after every epoch, never trained on. plain: the network without
    controllers, which the objective's distillation and hints ask for; it is only read. checkpoint: file to write after
    every epoch, and to go on from where it holds an earlier part of the same training. progress: called before every
    batch with batches done, batches in all, and the last epoch's figures. stopped: called before it; it may raise.
    A row holds the loss and its parts (means over the images), the accuracy, the share of filters that are on and the
    multiply–accumulates as a share of the dense network's, and seconds. Raises BadOption, BadInput, BadFile for a
    checkpoint of another training (recipe, images or starting weights), and BadWeights when training diverges.
    """
    recipe.check()
    if len(images) == 0 or len(validation) == 0:
        raise BadOption("training needs images, and validation others")
    if recipe.objective.compares and plain is None:
        raise BadOption("distillation and hints need the plain network")
    state = _begin(network, recipe, _outputs(network, images))
    identity = _identity(network, recipe, images, plain) if checkpoint is not None else {}
    if checkpoint is not None and checkpoint.is_file():
        state = _restore(network, identity, state, checkpoint)
    batches, teacher = batches_of(len(images), recipe.batch_size), None
    if plain is not None and recipe.objective.compares:
        teacher = Plain(plain, images[:1][0].to(device_of(plain)))

    def note(done: int) -> None:
        stopped()
        if progress is not None:
            progress(done, recipe.epochs * batches, _told(state.history))

    for epoch in range(len(state.history), recipe.epochs):
        started = time.perf_counter()
        row = _epoch(network, images, recipe, teacher, state, epoch, note)
        row |= evaluate(network, validation)
        state.history.append({"epoch": epoch + 1, **row, "seconds": time.perf_counter() - started})
        if checkpoint is not None:
            _store(network, identity, state, checkpoint)
    if progress is not None:
        progress(recipe.epochs * batches, recipe.epochs * batches, _told(state.history))
    return state.history


def evaluate(network: Decoupled, images: Images, batch_size: int = 250) -> dict[str, float]:
    """Accuracy, share of filters that are on, and multiply–accumulates over the dense network's, means over images."""
    device, observed = device_of(network), Observed(network)
    correct, kept, macs = [], [], []
    with torch.no_grad(), in_mode(network, training=False):
        cost = Cost(Graph(network, images[:1][0].to(device)))
        for batch, labels in images.batches(batch_size):
            seen = observed(batch.to(device))
            correct.append((seen.logits.argmax(1).cpu() == labels).double())
            kept.append(torch.cat(list(seen.codes.values()), dim=1).double().mean(1).cpu())
            macs.append(cost.of(seen.codes).cpu() / cost.dense)
    return {
        "accuracy": float(torch.cat(correct).mean()),
        "kept": float(torch.cat(kept).mean()),
        "macs": float(torch.cat(macs).mean()),
    }


def _outputs(network: Decoupled, images: Images) -> int:
    """The number of classes that the network tells apart; raises BadInput where the images have more."""
    with torch.no_grad(), in_mode(network, training=False):
        logits: Tensor = network(images[:1][0].to(device_of(network)))
    images.check_labels(logits.shape[1])
    return logits.shape[1]


def _begin(network: Decoupled, recipe: Recipe, classes: int) -> State:
    """Nothing trained yet."""
    device = device_of(network)
    with seeded(recipe.seed, device):
        classifiers = heads(network.widths, classes).to(device)
    own = {name: each for name, each in network.named_parameters() if each.requires_grad}
    new = [each for name, each in own.items() if name.startswith("controllers.")]
    old = [each for name, each in own.items() if not name.startswith("controllers.")]
    groups = [{"params": old, "pace": 1.0, "held": True}, {"params": new, "pace": recipe.pace, "held": False}]
    if recipe.objective.information:
        pace = recipe.pace / recipe.objective.information
        decay = recipe.weight_decay * recipe.objective.information
        weights = list(classifiers.parameters())
        groups.append({"params": weights, "pace": pace, "held": False, "weight_decay": decay})
    optimiser = torch.optim.SGD(groups, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)
    return State(classes, classifiers, optimiser, [])


def _epoch(
    network: Decoupled,
    images: Images,
    recipe: Recipe,
    teacher: Plain | None,
    state: State,
    epoch: int,
    note: Callable[[int], None],
) -> dict[str, float]:
    """One pass over the images; returns the means of the loss and its parts."""
    device, observed = device_of(network), Observed(network, () if teacher is None else teacher.layers)
    number, steps = recipe.seed * LIMIT + epoch, batches_of(len(images), recipe.batch_size)
    generator = torch.Generator().manual_seed(number)
    totals: dict[str, Tensor] = {}
    with seeded(number, device), in_mode(network, training=True):
        for name in network.layers if recipe.settles(epoch) else ():
            network.controller(name).eval()
        for place, (batch, targets) in enumerate(_batches(images, recipe, epoch, state.classes, generator)):
            note(epoch * steps + place)
            objective = recipe.at(epoch, place / steps)
            _set_rates(state.optimiser, recipe, epoch, place / steps)
            found = _losses(
                observed, _together(batch).to(device), targets.to(device), objective, teacher, state.classifiers
            )
            loss = torch.stack(list(found.values())).sum()
            if not torch.isfinite(loss):
                raise BadWeights(f"training diverged: the loss is {loss.item()}; try a smaller learning rate")
            state.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            state.optimiser.step()
            for name, value in {"loss": loss, **found}.items():
                totals[name] = totals.get(name, torch.zeros((), device=device)) + value.detach() * len(batch)
    state.optimiser.zero_grad()
    return {name: float(value) / len(images) for name, value in totals.items()}


def _batches(
    images: Images, recipe: Recipe, epoch: int, classes: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and their classes (batch,), or shares of classes (batch, classes) where images are mixed."""
    mixed = recipe.cutmix if recipe.settles(epoch) else 0.0
    for batch, labels in shuffled(images, recipe.batch_size, recipe.shift, generator, recipe.flip):
        yield cutmix(batch, F.one_hot(labels, classes).to(batch.dtype), mixed, generator) if mixed else (batch, labels)


def _set_rates(optimiser: torch.optim.Optimizer, recipe: Recipe, epoch: int, share: float) -> None:
    for group in optimiser.param_groups:
        held = recipe.hold if group["held"] and not recipe.settles(epoch) else 1.0
        group["lr"] = recipe.rate(epoch, share) * group["pace"] * held


def _losses(
    observed: Observed,
    batch: Tensor,
    targets: Tensor,
    objective: Objective,
    teacher: Plain | None,
    classifiers: nn.ModuleDict,
) -> dict[str, Tensor]:
    """The parts of the loss by name. targets: (batch,) classes, or (batch, classes) shares of them."""
    seen = observed(batch)
    found = {"cross entropy": F.cross_entropy(seen.logits, targets)}
    if teacher is not None:
        with torch.no_grad():
            wanted, reads = teacher(batch)
        found |= compared(objective, seen.logits, wanted, seen.reads, reads)
    return found | parts(objective, seen.codes, seen.features, targets, classifiers)


def _together(batch: Tensor) -> Tensor:
    """Convolutions train in about three quarters of the time on images whose channels lie together."""
    return batch.contiguous(memory_format=torch.channels_last)


def _told(history: list[dict[str, float]]) -> str:
    """The last epoch in a few words."""
    if not history:
        return ""
    row = history[-1]
    return f"accuracy {row['accuracy']:.2%}, {row['kept']:.1%} of the filters, {row['macs']:.1%} of the MACs"


def _identity(network: Decoupled, recipe: Recipe, images: Images, teacher: nn.Module | None) -> dict[str, Any]:
    """What two parts of one training have in common: recipe, images, and the weights that it starts from."""
    weights = {"weights at the start": network, **({} if teacher is None else {"plain network": teacher})}
    found = {name: checksum("", _arrays(each.state_dict())) for name, each in weights.items()}
    return dict(plain({"recipe": asdict(recipe), "images": images.digest, **found}))


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


def _store(network: Decoupled, identity: Mapping[str, Any], state: State, checkpoint: Path) -> None:
    tensors = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"classifiers/{name}": tensor for name, tensor in state.classifiers.state_dict().items()}
    for place, weights in enumerate(_trained(state.optimiser)):
        buffer = state.optimiser.state.get(weights, {}).get("momentum_buffer")
        if buffer is not None:
            tensors[f"momentum/{place}"] = buffer
    save_tensors(checkpoint, KIND, SCHEMA, _arrays(tensors), {**identity, "history": state.history})


def _trained(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    """All parameters that are trained, in the order of their groups."""
    return [weights for group in optimiser.param_groups for weights in group["params"]]


def _restore(network: Decoupled, identity: Mapping[str, Any], state: State, checkpoint: Path) -> State:
    arrays, header = load_tensors(checkpoint, KIND, SCHEMA, dict[str, Any])
    for name, wanted in identity.items():
        if header.get(name) != wanted:
            raise BadFile(f"{checkpoint} belongs to another training (other {name}); {_ADVICE.get(name, START_OVER)}")

    def under(prefix: str) -> dict[str, Tensor]:
        return {
            name.removeprefix(prefix): torch.from_numpy(np.array(array))
            for name, array in arrays.items()
            if name.startswith(prefix)
        }

    try:
        history = msgspec.convert(header.get("history"), list[dict[str, float]])
        network.load_state_dict(under("network/"))
        state.classifiers.load_state_dict(under("classifiers/"))
        for place, momentum in under("momentum/").items():
            weights = _trained(state.optimiser)[int(place)]
            state.optimiser.state[weights]["momentum_buffer"] = momentum.to(weights).reshape(weights.shape)
    except (RuntimeError, ValueError, IndexError, msgspec.MsgspecError) as error:
        reason = str(error).partition("\n")[0]
        raise BadFile(f"{checkpoint} is not a whole checkpoint of this training: {reason}; {START_OVER}") from error
    return replace(state, history=history)
