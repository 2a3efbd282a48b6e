"""Paths as factors and the strongest part of a path: against gates made by hand, plain loops and sorting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from netpaths import Path, Site
from netpaths.ablation import keep_only, scaled, strongest
from netpaths.errors import BadOption
from netpaths.methods import Activation, DistillationGuidedRouting
from netpaths.path import Elements
from oracle import compute
from test_ablation import Case
from trained import trained


@pytest.fixture(scope="module")
def case() -> Case:
    return Case("images")


def unit_shape(case: Case, name: str, kind: str) -> tuple[int, ...]:
    shape = case.graph.node(name).shape
    return shape[:1] if kind == "channel" else shape


def gates(case: Case, names: Sequence[str], kind: str, seed: int = 0) -> list[dict[str, Tensor]]:
    """For each of the three images a factor of every unit; about a third of them is 0, some are above 1."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(3):
        drawn = {name: torch.rand(unit_shape(case, name, kind), generator=generator) * 2 - 0.6 for name in names}
        found.append({name: values.clamp(min=0) for name, values in drawn.items()})
    return found


def as_paths(case: Case, factors: Sequence[dict[str, Tensor]], kind: str) -> list[Path]:
    return [
        Path({Site(name, kind): Elements.from_dense(values) for name, values in own.items()}, layers=case.graph.layers)
        for own in factors
    ]


def multiplied(case: Case, image: Tensor, factors: dict[str, Tensor]) -> Tensor:
    """The logits of one image, step by step, each value times its factor."""
    values: list[Tensor] = []
    for index, step in enumerate(case.steps):
        value = compute(step, [values[read] for read in step.reads]) if index else image
        factor = factors.get(case.names[index])
        if factor is not None:
            value = value * factor.double().reshape(*factor.shape, *(1 for _ in range(value.dim() - factor.dim())))
        values.append(value)
    return values[-1]


@pytest.mark.parametrize("kind", ["channel", "neuron"])
def test_values_are_factors(case: Case, kind: str) -> None:
    names = [case.names[1], case.names[4], case.names[-2]]
    factors = gates(case, names, kind)
    assert any(bool((own[names[0]] > 1).any()) for own in factors)
    found = scaled(case.graph, case.x, as_paths(case, factors, kind), kind)
    by_hand = {name: torch.stack([own[name] for own in factors]).double() for name in names}
    with torch.no_grad():
        assert torch.equal(found, case.graph.run(case.x, gates=by_hand).logits)
    expected = [multiplied(case, image, own) for image, own in zip(case.x, factors)]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-9, atol=1e-9)
    assert not torch.equal(found, case.graph.run(case.x).logits)


@pytest.mark.parametrize("kind", ["channel", "neuron"])
def test_a_binary_path_is_what_is_kept(case: Case, kind: str) -> None:
    paths = [path.project("channel") for path in case.paths] if kind == "channel" else case.paths
    assert torch.equal(scaled(case.graph, case.x, paths, kind), keep_only(case.graph, case.x, paths, kind))
    valued = as_paths(case, gates(case, case.names[1:5], kind), kind)
    kept = keep_only(case.graph, case.x, valued, kind)
    assert torch.equal(scaled(case.graph, case.x, [path.binary() for path in valued], kind), kept)
    assert not torch.equal(scaled(case.graph, case.x, valued, kind), kept)


def test_ones_change_nothing_and_nothing_is_nothing(case: Case) -> None:
    names = case.names[1:4]
    ones = [{name: torch.ones(unit_shape(case, name, "channel")) for name in names}]
    logits = case.graph.run(case.x).logits
    torch.testing.assert_close(scaled(case.graph, case.x, as_paths(case, ones, "channel"), "channel"), logits)
    none = [{name: torch.zeros(unit_shape(case, name, "channel")) for name in names}]
    gone = scaled(case.graph, case.x, as_paths(case, none, "channel"), "channel")
    torch.testing.assert_close(gone, gone[:1].expand_as(gone))


def test_one_path_scales_all_images(case: Case) -> None:
    one = as_paths(case, gates(case, case.names[1:3], "channel")[:1], "channel")
    assert torch.equal(scaled(case.graph, case.x, one, "channel"), scaled(case.graph, case.x, one * 3, "channel"))


def test_gates_act_as_when_they_were_learned() -> None:
    """The predictions under learned gates are the plain network's: the first gates, all ones, always qualify."""
    own = trained()
    paths = DistillationGuidedRouting(steps=12, gamma=0.2).extract(own.graph, own.x[:8])
    logits = scaled(own.graph, own.x[:8], paths, "channel")
    assert torch.equal(logits.argmax(1), own.graph.run(own.x[:8]).predicted)
    assert not torch.equal(logits, own.graph.run(own.x[:8]).logits)


def test_refusals(case: Case) -> None:
    with pytest.raises(BadOption, match=r"^neurons and channels can be scaled, not 'weight'$"):
        scaled(case.graph, case.x, case.paths, "weight")
    with pytest.raises(BadOption, match="not 'synapse'"):
        scaled(case.graph, case.x, case.paths, "synapse")
    with pytest.raises(BadOption, match="3 images need 3 paths or one for all, not 2"):
        scaled(case.graph, case.x, case.paths[:2], "neuron")
    with pytest.raises(BadOption, match="the paths have no channel sites"):
        scaled(case.graph, case.x, case.paths, "channel")


# --- the strongest ---------------------------------------------------------------------------------------------------


def drawn(seed: int, distinct: int) -> Path:
    """Three sites of 6, 30 and 12 elements, some selected, with values among a few."""
    rng = np.random.default_rng(seed)
    sites = {}
    for node, shape in (("b", (6,)), ("a", (5, 6)), ("c", (3, 2, 2))):
        size = int(np.prod(shape))
        members = np.flatnonzero(rng.random(size) < 0.7).astype(np.int64)
        values = (rng.integers(1, distinct + 1, members.size) / distinct).astype(np.float32)
        sites[Site(node, "channel" if node == "b" else "neuron")] = Elements.of(shape, members, values, total=size + 1)
    return Path(sites, seed=3, predicted=4, fingerprint="f", method={"name": "own"}, layers=("b", "a"))


def everything(path: Path) -> list[tuple[Site, int, float]]:
    return [
        (site, member, value)
        for site, part in path.items()
        for member, value in zip(part.members().tolist(), part.member_values().tolist())
    ]


@pytest.mark.parametrize("distinct", [1, 3, 10_000])
@pytest.mark.parametrize("seed", range(4))
def test_the_strongest_are_the_first_of_the_sorted(seed: int, distinct: int) -> None:
    path = drawn(seed, distinct)
    ordered = everything(path)
    ranked = sorted(range(len(ordered)), key=lambda place: (-ordered[place][2], place))
    for number in (0, 1, 2, 7, len(ordered) - 1, len(ordered), len(ordered) + 5):
        expected = [ordered[place] for place in sorted(ranked[:number])]
        assert everything(strongest(path, number)) == expected


def test_the_strongest_by_hand() -> None:
    """Over all sites together; of the three halves the first in the path's order."""
    path = Path(
        {
            Site("late", "channel"): Elements.of((4,), np.array([0, 2, 3]), np.array([0.5, 2.0, 0.1], np.float32)),
            Site("early", "channel"): Elements.of((3,), np.array([0, 1]), np.array([0.5, 0.5], np.float32)),
        }
    )

    def found(number: int) -> dict[str, list[int]]:
        return {site.node: part.members().tolist() for site, part in strongest(path, number).items()}

    assert found(1) == {"late": [2], "early": []}
    assert found(2) == {"late": [0, 2], "early": []}
    assert found(3) == {"late": [0, 2], "early": [0]}
    assert found(5) == found(99) == {"late": [0, 2, 3], "early": [0, 1]}
    assert found(0) == found(-1) == {"late": [], "early": []}
    assert strongest(path, 3)["late", "channel"].member_values().tolist() == [0.5, 2.0]


def test_the_strongest_keep_everything_else() -> None:
    path = drawn(0, 5)
    few = strongest(path, 3)
    assert list(few) == list(path)
    assert few.layers == path.layers
    assert (few.seed, few.predicted, few.fingerprint, few.method) == (3, 4, "f", {"name": "own"})
    assert [part.shape for part in few.values()] == [part.shape for part in path.values()]
    assert [part.total for part in few.values()] == [part.total for part in path.values()]
    assert few.density("neuron") < path.density("neuron")
    assert strongest(path, 10**6).equals(path)
    assert everything(strongest(strongest(path, 9), 4)) == everything(strongest(path, 4))


def test_the_strongest_of_real_paths_are_those_of_a_smaller_share() -> None:
    own = trained()
    every = Activation(1.0, layers=("conv1", "conv2")).extract(own.graph, own.x[:4])
    few = Activation(5 / 22, layers=("conv1", "conv2")).extract(own.graph, own.x[:4])
    assert all(strongest(path, 5).equals(fewer) for path, fewer in zip(every, few))


def test_a_path_without_values_has_no_strongest() -> None:
    path = drawn(0, 5)
    with pytest.raises(BadOption, match=r"^this path has no values to rank by; extract it with scores, gates or contr"):
        strongest(path.binary(), 3)
    mixed = replace(path, sites={**path.sites, Site("d", "neuron"): Elements.of((4,), np.array([1], np.int64))})
    with pytest.raises(BadOption, match="no values to rank by"):
        strongest(mixed, 3)


def test_the_strongest_of_nothing_are_nothing() -> None:
    assert dict(strongest(Path({}), 3)) == {}
    nothing = Path({Site("a", "channel"): Elements.of((70,), np.empty(0, np.int64))})
    assert [len(part) for part in strongest(nothing, 3).values()] == [0]
