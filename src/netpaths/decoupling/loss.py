"""What a decoupled network is trained for, beside its answers (Li et al., ECCV 2020, as the released code has it).

    CE + Σ_l [ λ_m · CE(V_l a_l, y) + λ_k · KL(softmax GAP(out_l) ‖ softmax a_l) + λ_s · | mean ‖a_l‖₁ − τ C_l | ]

Mutual information: V_l is a linear classifier on the code a_l, without a bias. Its cross entropy bounds what a code
says about the class, I(a; Y) ≥ H(Y) + E log q(y | a) (Barber and Agakov, 2003), and I(a; X) ≥ I(a; Y).
Alignment: the code resembles the pooled outputs of its filters. Sparsity: a share τ of the filters is on, on average
over the batch. Pooled outputs are those in front of the gate: behind it they would hold the code that they are
compared with (our decision).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netpaths.decoupling.controller import pooled
from netpaths.errors import BadOption

TEMPERATURE = 4.0
"""Softens both answers in `distillation`."""


@dataclass(frozen=True)
class Objective:
    """The weights of the loss; 0 switches a part off.

    information: λ_m. alignment: λ_k. sparsity: λ_s. kept: τ, the share of every layer's filters that should be on.
    direction: of the divergence, from the "output" as above, or from the "code". distillation: weight of the
    distance from the plain network's answers. hints: weight of the distance from what layers read in the plain
    network. The last two are ours and not the paper's.
    """

    information: float = 0.1
    alignment: float = 1.0
    sparsity: float = 0.1
    kept: float = 0.65
    direction: Literal["output", "code"] = "output"
    distillation: float = 0.0
    hints: float = 0.0

    def check(self) -> None:
        """Raise BadOption for a value out of range."""
        for name in ("information", "alignment", "sparsity", "distillation", "hints"):
            if not 0 <= getattr(self, name) < inf:
                raise BadOption(f"{name} is {getattr(self, name)}, expected a weight of at least 0")
        if not 0 <= self.kept <= 1:
            raise BadOption(f"kept is {self.kept}, expected a share in [0, 1]")
        if self.direction not in ("output", "code"):
            raise BadOption(f"direction is {self.direction!r}, expected output or code")

    @property
    def compares(self) -> bool:
        """Whether the plain network is asked for."""
        return bool(self.distillation or self.hints)


def heads(widths: Mapping[str, int], classes: int) -> nn.ModuleDict:
    """The classifiers V_l by layer, from so many filters to ``classes``; they are not part of the network."""
    return nn.ModuleDict({name: nn.Linear(width, classes, bias=False) for name, width in widths.items()})


def information(code: Tensor, labels: Tensor, head: nn.Module) -> Tensor:
    """CE(V a, y), the mean over the batch; H(Y) minus it is at most I(a; Y) in nats.

    code: (batch, filters). labels: (batch,) classes, or (batch, classes) shares of them.
    """
    return F.cross_entropy(head(code), labels)


def alignment(code: Tensor, features: Tensor, direction: str = "output") -> Tensor:
    """The divergence between pooled outputs and code, both as softmax over filters; the mean over the batch.

    code: (batch, filters). features: (batch, filters, …), the filters' outputs in front of the gate.
    """
    output = torch.log_softmax(pooled(features), dim=1)
    chosen = torch.log_softmax(code, dim=1)
    target, other = (output, chosen) if direction == "output" else (chosen, output)
    return F.kl_div(other, target, reduction="batchmean", log_target=True)


def sparsity(code: Tensor, kept: float) -> Tensor:
    """How far the mean number of filters on is from ``kept`` times all. code: (batch, filters)."""
    return (code.abs().sum(1).mean() - kept * code.shape[1]).abs()


def distillation(logits: Tensor, plain: Tensor) -> Tensor:
    """How far answers are from those of the plain network, at a temperature of `TEMPERATURE`; the mean over the batch.

    logits, plain: (batch, classes). Source: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network",
    2015.
    """
    given, wanted = (torch.log_softmax(each / TEMPERATURE, dim=1) for each in (logits, plain))
    return TEMPERATURE**2 * F.kl_div(given, wanted, reduction="batchmean", log_target=True)


def hints(reads: Mapping[str, Tensor], plain: Mapping[str, Tensor]) -> Tensor:
    """Σ over layers of ‖x − x̂‖² / ‖x̂‖², where x is what a layer reads and x̂ what it reads in the plain network.

    reads, plain: by layer (batch, *shape); squares are summed over the batch. Source: hints from inside a trained
    network are those of Romero et al., "FitNets", 2015; the scale is ours.
    """
    tiny = torch.finfo(torch.float32).tiny
    off = [(reads[name] - x).square().sum() / x.square().sum().clamp_min(tiny) for name, x in plain.items()]
    return torch.stack(off).sum()


def compared(
    objective: Objective, logits: Tensor, wanted: Tensor, reads: Mapping[str, Tensor], plain: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Each part of the loss that asks for the plain network and is not switched off, times its weight.

    logits, wanted: of the network and of the plain one. reads, plain: as `hints` takes them.
    """
    found: dict[str, Tensor] = {}
    if objective.distillation:
        found["distillation"] = objective.distillation * distillation(logits, wanted)
    if objective.hints:
        found["hints"] = objective.hints * hints(reads, plain)
    return found


def parts(
    objective: Objective,
    codes: Mapping[str, Tensor],
    features: Mapping[str, Tensor],
    labels: Tensor,
    classifiers: nn.ModuleDict,
) -> dict[str, Tensor]:
    """Each part of the paper's loss that is not switched off, over all layers and times its weight.

    codes, features: by layer, as the functions of the parts take them. labels: as `information` takes them.
    """
    found: dict[str, Tensor] = {}
    if objective.information:
        own = [information(code, labels, classifiers[name]) for name, code in codes.items()]
        found["information"] = objective.information * torch.stack(own).sum()
    if objective.alignment:
        own = [alignment(code, features[name], objective.direction) for name, code in codes.items()]
        found["alignment"] = objective.alignment * torch.stack(own).sum()
    if objective.sparsity:
        own = [sparsity(code, objective.kept) for code in codes.values()]
        found["sparsity"] = objective.sparsity * torch.stack(own).sum()
    return found
