"""How sparse gates are and what they keep: one table over methods, and a sweep over the penalty and the steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from netpaths.ablation import keep_only, random_path, scaled
from netpaths.detection.extraction import extracted
from netpaths.errors import BadOption
from netpaths.graph import Graph, PathMethod
from netpaths.methods import Activation, IntegratedGradients, MarginalContribution, RandomUnits, WeightNorm
from netpaths.methods.ranked import Ranked
from netpaths.path import Path
from netpaths.studies.credibility import extract_all
from netpaths.studies.routing_plan import RoutingPlan

Note = Callable[[int], None]
DGR, AWR, AAR = "DGR", "AWR", "AAR"


def removals(nodes: tuple[str, ...]) -> dict[str, PathMethod]:
    """The paper's two rivals: units removed in the order of their norms while the prediction stays."""
    return {AWR: WeightNorm(share=None, layers=nodes), AAR: Activation(share=None, layers=nodes)}


def rivals(nodes: tuple[str, ...], share: float, points: int, seed: int) -> dict[str, Ranked]:
    """Notions of path that keep a given ``share`` of all units."""
    return {
        "contribution": MarginalContribution(share=share, layers=nodes),
        "integrated gradients": IntegratedGradients(share=share, layers=nodes, points=points),
        "activation": Activation(share=share, layers=nodes),
        "weight norm": WeightNorm(share=share, layers=nodes),
        "random": RandomUnits(share=share, layers=nodes, seed=seed),
    }


def table_rows(
    graph: Graph,
    plan: RoutingPlan,
    images: torch.Tensor,
    labels: torch.Tensor,
    paths: Sequence[Path],
    note: Callable[[int, int], None],
) -> list[dict[str, Any]]:
    """Accuracy and sparsity of the full network, of gates, of AWR and AAR, and of rivals of the gates' mean size.

    paths: the gates of ``images``. Gated accuracy multiplies by the values, hard accuracy keeps what is selected as it
    is. A method that has nothing to say for these nodes is left out of the figures and says why.
    """
    nodes = paths[0].nodes("channel")
    plain = _in_batches(images, paths, plan, lambda x, own: graph.run(x).logits)
    rows = [{"method": "full network", **_accuracy(plain, plain, labels, ""), "sparsity": 1.0, "sd": 0.0}]
    rows.append(_row(graph, plan, DGR, images, labels, paths, plain, gated=True))
    share = float(np.mean([path.density("channel") for path in paths]))
    methods: dict[str, PathMethod] = {**removals(nodes), **rivals(nodes, share, plan.points, plan.seed)}
    for done, (name, method) in enumerate(methods.items(), 1):
        try:
            own = extract_all(method, graph, images, plan.extracted, lambda count: None)
            rows.append(_row(graph, plan, name, images, labels, own, plain, gated=False))
        except BadOption as error:
            rows.append({"method": name, "left out": str(error)})
        note(done, len(methods))
    same = [random_path(path, graph, plan.seed + place) for place, path in enumerate(paths)]
    rows.append(_row(graph, plan, "random, as many in every layer", images, labels, same, plain, gated=False))
    return rows


def _row(
    graph: Graph,
    plan: RoutingPlan,
    name: str,
    images: torch.Tensor,
    labels: torch.Tensor,
    paths: Sequence[Path],
    plain: torch.Tensor,
    gated: bool,
) -> dict[str, Any]:
    sizes = np.array([path.density("channel") for path in paths])
    row: dict[str, Any] = {"method": name}
    if gated:
        logits = _in_batches(images, paths, plan, lambda x, own: scaled(graph, x, own, "channel"))
        row |= _accuracy(logits, plain, labels, "gated ")
    hard = _in_batches(images, paths, plan, lambda x, own: keep_only(graph, x, own, "channel"))
    return {
        **row,
        **_accuracy(hard, plain, labels, ""),
        "sparsity": float(sizes.mean()),
        "sd": float(sizes.std().round(9)),
    }


def _in_batches(
    images: torch.Tensor,
    paths: Sequence[Path],
    plan: RoutingPlan,
    work: Callable[[torch.Tensor, Sequence[Path]], torch.Tensor],
) -> torch.Tensor:
    starts = range(0, len(images), plan.extracted)
    size = plan.extracted
    with torch.no_grad():
        return torch.cat([work(images[start : start + size], paths[start : start + size]) for start in starts])


def _accuracy(logits: torch.Tensor, plain: torch.Tensor, labels: torch.Tensor, prefix: str) -> dict[str, float]:
    """Top-1 and top-5 against the labels, and how often the plain network's prediction is kept."""
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices
    return {
        f"{prefix}top-1": float((best[:, 0] == labels).double().mean()),
        f"{prefix}top-5": float((best == labels[:, None]).any(1).double().mean()),
        f"{prefix}prediction kept": float((best[:, 0] == plain.argmax(1)).double().mean()),
    }


def sweep_rows(graph: Graph, plan: RoutingPlan, images: torch.Tensor, note: Callable[[int, int], None]) -> list[Any]:
    """Mean sparsity, gate sum and kept predictions of hard masks against steps, for every penalty γ."""
    rows: list[dict[str, Any]] = []
    for done, gamma in enumerate(plan.gammas, 1):
        method = replace(plan.method, gamma=gamma, tolerance=None)
        extract = partial(method.extract_steps, graph, steps=plan.steps)
        for steps, paths in zip(plan.steps, zip(*extracted(extract, images, plan.extracted))):
            plain = torch.tensor([path.predicted for path in paths])
            hard = _in_batches(images, paths, plan, lambda x, own: keep_only(graph, x, own, "channel")).argmax(1)
            rows.append(
                {
                    "gamma": gamma,
                    "steps": steps,
                    "sparsity": float(np.mean([path.density("channel") for path in paths])),
                    "sum of gates": float(np.mean([sum(p.mass() for p in path.sites.values()) for path in paths])),
                    "accuracy": float((hard == plain).double().mean()),
                }
            )
        note(done, len(plan.gammas))
    return rows
