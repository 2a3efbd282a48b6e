"""Paths as sets: the laws of union, intersection and difference, both representations, similarity, files."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from math import isnan, prod
from pathlib import Path as FilePath

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

import netpaths.files
from netpaths import Path, Site, jaccard, layer_jaccard, load_path, save_path
from netpaths.errors import BadFile, BadOption, ModelMismatch, StorageFull, UnknownNode
from netpaths.path import Elements, intersect, subtract, union

LAWS = settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
SHAPES = {Site("conv", "synapse"): (4, 3, 3, 2, 5), Site("conv", "weight"): (4, 25), Site("fc", "weight"): (3, 7)}
SIZES = {site: prod(shape) for site, shape in SHAPES.items()}


def make(sets: dict[Site, set[int]], values: dict[Site, list[float]] | None = None) -> Path:
    sites = {}
    for site, members in sets.items():
        own = None if values is None else np.array(values[site], np.float32)
        sites[site] = Elements.of(SHAPES[site], np.array(sorted(members), np.int64), own)
    return Path(sites, 1, 1, "model", {"name": "test"}, ("conv", "fc"))


@st.composite
def sets_of(draw: st.DrawFn) -> dict[Site, set[int]]:
    """A set per site: empty, sparse (a handful) or dense (packed)."""
    chosen = {}
    for site, size in SIZES.items():
        count = draw(st.sampled_from([0, 1, 3, size // 2, size]))
        seed = draw(st.integers(0, 2**16))
        chosen[site] = set(np.random.default_rng(seed).permutation(size)[:count].tolist())
    return chosen


@st.composite
def binary_paths(draw: st.DrawFn) -> Path:
    return make(draw(sets_of()))


@st.composite
def valued_paths(draw: st.DrawFn) -> Path:
    sets = draw(sets_of())
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    return make(sets, {site: (rng.integers(1, 9, len(members)) / 4).tolist() for site, members in sets.items()})


paths = st.one_of(binary_paths(), valued_paths())


def as_sets(path: Path) -> dict[Site, set[int]]:
    return {site: set(part.members().tolist()) for site, part in path.items()}


@LAWS
@given(sets_of(), sets_of())
def test_operations_are_pythons(first: dict[Site, set[int]], second: dict[Site, set[int]]) -> None:
    a, b = make(first), make(second)
    assert as_sets(a | b) == {site: first[site] | second[site] for site in SIZES}
    assert as_sets(a & b) == {site: first[site] & second[site] for site in SIZES}
    assert as_sets(a - b) == {site: first[site] - second[site] for site in SIZES}


@LAWS
@given(paths)
def test_idempotent(a: Path) -> None:
    assert (a | a).equals(a)
    assert (a & a).equals(a)
    assert all(len(part) == 0 for part in (a - a).values())


@LAWS
@given(paths, paths)
def test_commutative(a: Path, b: Path) -> None:
    assert (a | b).equals(b | a)
    assert (a & b).equals(b & a)


@LAWS
@given(paths, paths, paths)
def test_associative(a: Path, b: Path, c: Path) -> None:
    assert ((a | b) | c).equals(a | (b | c))
    assert ((a & b) & c).equals(a & (b & c))
    assert union([a, b, c]).equals(a | b | c)


@LAWS
@given(paths, paths)
def test_absorption(a: Path, b: Path) -> None:
    assert (a | (a & b)).equals(a)
    assert (a & (a | b)).equals(a)


@LAWS
@given(paths, paths, paths)
def test_distributive(a: Path, b: Path, c: Path) -> None:
    assert (a & (b | c)).equals((a & b) | (a & c))
    assert (a | (b & c)).equals((a | b) & (a | c))


@LAWS
@given(binary_paths(), binary_paths())
def test_difference(a: Path, b: Path) -> None:
    assert ((a - b) | (a & b)).equals(a)
    assert all(len(part) == 0 for part in ((a - b) & b).values())
    assert (a - b).equals(subtract(a, intersect(a, b)))


@LAWS
@given(binary_paths(), binary_paths())
def test_operations_change_nothing(a: Path, b: Path) -> None:
    before = as_sets(a), as_sets(b)
    for operation in (union([a, b]), a & b, a - b):
        operation.density("weight")
    assert (as_sets(a), as_sets(b)) == before


# --- representations -------------------------------------------------------------------------------------------------


def sparse(shape: tuple[int, ...], members: set[int]) -> Elements:
    return Elements(shape, prod(shape), indices=np.array(sorted(members), np.int64))


def packed(shape: tuple[int, ...], members: set[int]) -> Elements:
    return Elements(shape, prod(shape), words=sparse(shape, members).packed())


@LAWS
@given(st.integers(1, 300), st.integers(0, 2**16))
def test_packed_is_sparse(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sets = [set(np.flatnonzero(rng.random(size) < share).tolist()) for share in rng.random(2)]
    probe = rng.integers(0, size, 20)
    kinds: tuple[Callable[[tuple[int, ...], set[int]], Elements], ...] = (sparse, packed)
    for left in kinds:
        for right in kinds:
            a, b = left((size,), sets[0]), right((size,), sets[1])
            assert len(a) == len(sets[0])
            assert a.members().tolist() == sorted(sets[0])
            assert a.contains(probe).tolist() == [k in sets[0] for k in probe]
            assert a.overlap(b) == (len(sets[0] & sets[1]), len(sets[0] | sets[1]))
            assert torch.equal(a.dense(), torch.isin(torch.arange(size), torch.tensor(sorted(sets[0]))))
            joined = Path({Site("n", "neuron"): a}) | Path({Site("n", "neuron"): b})
            assert set(joined["n", "neuron"].members().tolist()) == sets[0] | sets[1]
            for operation, expected in ((intersect, sets[0] & sets[1]), (subtract, sets[0] - sets[1])):
                result = operation(Path({Site("n", "neuron"): a}), Path({Site("n", "neuron"): b}))
                assert set(result["n", "neuron"].members().tolist()) == expected


@LAWS
@given(sets_of())
def test_dense_round_trip(sets: dict[Site, set[int]]) -> None:
    for site, part in make(sets).items():
        again = Elements.from_dense(part.dense(), part.total)
        assert again.members().tolist() == sorted(sets[site])
        assert (again.shape, again.total, again.mass()) == (SHAPES[site], SIZES[site], len(sets[site]))


def test_negative_values_are_refused() -> None:
    with pytest.raises(BadOption, match="path values must not be negative"):
        Elements.from_dense(torch.tensor([0.5, -0.5]))


# --- similarity ------------------------------------------------------------------------------------------------------


def ratio(smaller: float, larger: float) -> float:
    return smaller / larger if larger else float("nan")


@LAWS
@given(sets_of(), sets_of())
def test_jaccard_is_pythons(first: dict[Site, set[int]], second: dict[Site, set[int]]) -> None:
    a, b = make(first), make(second)
    for kind in ("synapse", "weight"):
        sites = [site for site in SIZES if site.kind == kind]
        shared = sum(len(first[site] & second[site]) for site in sites)
        either = sum(len(first[site] | second[site]) for site in sites)
        assert jaccard(a, b, kind) == pytest.approx(ratio(shared, either), nan_ok=True)
        by_layer = layer_jaccard(a, b, kind)
        for site in sites:
            expected = ratio(len(first[site] & second[site]), len(first[site] | second[site]))
            assert by_layer[site.node] == pytest.approx(expected, nan_ok=True)


@LAWS
@given(valued_paths(), paths)
def test_weighted_jaccard(a: Path, b: Path) -> None:
    smaller = larger = 0.0
    for site in (site for site in SIZES if site.kind == "weight"):
        first, second = a[site].dense().double(), b[site].dense().double()
        smaller += float(torch.minimum(first, second).sum())
        larger += float(torch.maximum(first, second).sum())
    assert jaccard(a, b, "weight") == pytest.approx(ratio(smaller, larger), nan_ok=True)
    assert jaccard(a, b, "weight") == pytest.approx(jaccard(b, a, "weight"), nan_ok=True)
    itself = jaccard(a, a, "weight")
    assert itself == 1 or (isnan(itself) and not any(len(part) for site, part in a.items() if site.kind == "weight"))


def test_jaccard_names_what_it_lacks() -> None:
    a = make({Site("fc", "weight"): {1}})
    with pytest.raises(UnknownNode, match="there is no node 'fd'; nearest: fc"):
        jaccard(a, a, "weight", ["fd"])
    with pytest.raises(BadOption, match="this path has no neuron sites; it has: weight"):
        jaccard(a, a, "neuron", ["fc"])


# --- channels, density ----------------------------------------------------------------------------------------------


@LAWS
@given(sets_of())
def test_channels_of_a_binary_path(sets: dict[Site, set[int]]) -> None:
    projected = make(sets).project("channel")
    for node, site in (("conv", Site("conv", "weight")), ("fc", Site("fc", "weight"))):
        block = SIZES[site] // SHAPES[site][0]
        expected = sorted({member // block for member in sets[site]})
        assert projected.channels(node).nonzero()[:, 0].tolist() == expected
    assert projected.kinds() == ("channel",)


@LAWS
@given(valued_paths())
def test_channels_take_the_largest_value(path: Path) -> None:
    projected = path.project("channel")
    for node in ("conv", "fc"):
        assert torch.equal(projected.channels(node).float(), path.weights(node).flatten(1).amax(1))


def test_projection_prefers_neurons_and_refuses_others() -> None:
    part = Elements.of((2, 2), np.array([3], np.int64))
    path = Path({Site("n", "neuron"): part, Site("n", "weight"): Elements.of((2, 2), np.array([0], np.int64))})
    assert path.project("channel").channels("n").tolist() == [False, True]
    with pytest.raises(BadOption, match="a path projects onto channels, not 'weight'"):
        path.project("weight")


@LAWS
@given(sets_of())
def test_density(sets: dict[Site, set[int]]) -> None:
    path = make(sets)
    total = SIZES[Site("conv", "weight")] + SIZES[Site("fc", "weight")]
    members = len(sets[Site("conv", "weight")]) + len(sets[Site("fc", "weight")])
    assert path.density("weight") == pytest.approx(members / total)
    assert path.densities("weight")["fc"] == pytest.approx(len(sets[Site("fc", "weight")]) / 21)


def test_density_counts_what_exists() -> None:
    """Padding cells of receptive fields are in the shape and not in the total."""
    path = Path({Site("n", "synapse"): Elements.of((2, 4), np.array([1, 2], np.int64), total=5)})
    assert path.density("synapse") == 2 / 5
    assert (path | path).density("synapse") == 2 / 5
    assert (path & path).density("synapse") == 2 / 5
    with pytest.raises(BadOption, match="this path has no weight sites; it has: synapse"):
        path.density("weight")


# --- the value itself ------------------------------------------------------------------------------------------------


def test_a_path_is_a_mapping_that_cannot_change() -> None:
    path = make({Site("fc", "weight"): {1, 4}})
    assert list(path) == [("fc", "weight")]
    assert len(path) == 1
    assert repr(path) == "Path(2 weights; seed=1, predicted=1)"
    with pytest.raises(TypeError):
        path.sites[Site("x", "weight")] = path["fc", "weight"]  # type: ignore[index]
    with pytest.raises(AttributeError):
        path.seed = 3  # type: ignore[misc]


def test_unknown_sites() -> None:
    path = make({Site("conv", "weight"): {1}, Site("fc", "weight"): {1}})
    with pytest.raises(UnknownNode, match=r"there is no node 'cnv'; nearest: conv"):
        path.weights("cnv")
    with pytest.raises(BadOption, match="this path has no synapse sites; it has: weight"):
        path.synapses("conv")
    assert ("conv", "weight") in path
    assert ("cnv", "weight") not in path
    assert ("conv", "synapse") not in path
    with pytest.raises(UnknownNode, match="there is no node 'fc2'; nearest: fc"):
        path.restrict(["fc2"])


def test_restrict_and_binary() -> None:
    sets = {Site("conv", "synapse"): {1}, Site("conv", "weight"): {2}, Site("fc", "weight"): {3}}
    path = make(sets, {site: [0.25] for site in sets})
    assert set(path.restrict(["conv"])) == {("conv", "synapse"), ("conv", "weight")}
    assert set(path.restrict(kinds=["weight"])) == {("conv", "weight"), ("fc", "weight")}
    assert path.binary().equals(make(sets))


def test_labels_of_aggregates() -> None:
    first = make({Site("fc", "weight"): {1}})
    other = Path(first.sites, 2, 3, "model", first.method, first.layers)
    assert ((first | first).seed, (first | first).predicted) == (1, 1)
    assert ((first | other).seed, (first | other).predicted) == (None, None)
    assert (first | other).layers == ("conv", "fc")


def test_sites_of_one_path_alone() -> None:
    first, second = make({Site("fc", "weight"): {1, 2}}), make({Site("conv", "weight"): {3}})
    assert as_sets(first | second) == {("fc", "weight"): {1, 2}, ("conv", "weight"): {3}}
    assert as_sets(first & second) == {("fc", "weight"): set(), ("conv", "weight"): set()}
    assert as_sets(first - second) == {("fc", "weight"): {1, 2}, ("conv", "weight"): set()}


def test_paths_of_different_models() -> None:
    first = make({Site("fc", "weight"): {1}})
    other = Path(first.sites, fingerprint="other")
    for combine in (lambda: first | other, lambda: first & other, lambda: first - other):
        with pytest.raises(BadOption, match="paths come from different models: model and other"):
            combine()
    with pytest.raises(ModelMismatch, match="the paths come from different models: model and other"):
        jaccard(first, other)
    with pytest.raises(BadOption, match="a union needs at least one path"):
        union([])


def test_different_shapes() -> None:
    first = Path({Site("n", "weight"): Elements.of((2, 3), np.array([1], np.int64))})
    second = Path({Site("n", "weight"): Elements.of((3, 2), np.array([1], np.int64))})
    with pytest.raises(BadOption, match=r"paths differ in shape: \(2, 3\) and \(3, 2\)"):
        union([first, second])


# --- files -----------------------------------------------------------------------------------------------------------


@settings(LAWS, max_examples=30)
@given(path=paths)
def test_save_load(path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("path") / "p.safetensors"
    assert save_path(path, file) == file
    again = load_path(file)
    assert again.equals(path)
    for site, part in path.items():
        assert again[site].total == part.total
        assert (again[site].words is None) == (part.words is None)
    for name in ("seed", "predicted", "fingerprint", "method", "layers"):
        assert getattr(again, name) == getattr(path, name)
    assert [entry.name for entry in file.parent.iterdir()] == ["p.safetensors"]


@pytest.fixture
def saved(tmp_path: FilePath) -> FilePath:
    rng = np.random.default_rng(0)
    sets = {site: set(rng.permutation(size)[: size // 3].tolist()) for site, size in SIZES.items()}
    return save_path(make(sets), tmp_path / "p")


def test_missing_file(tmp_path: FilePath) -> None:
    with pytest.raises(BadFile, match=r"there is no path file .*nothing\.safetensors"):
        load_path(tmp_path / "nothing.safetensors")


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_truncated_file(saved: FilePath, keep: float) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(BadFile, match="is truncated or not a safetensors file"):
        load_path(saved)


@pytest.mark.parametrize("place", [0.75, 0.9, 0.99])
def test_flipped_byte(saved: FilePath, place: float) -> None:
    data = bytearray(saved.read_bytes())
    data[int(len(data) * place)] ^= 0x10
    saved.write_bytes(bytes(data))
    with pytest.raises(BadFile, match=r"is corrupt: its checksum does not match its contents|is truncated or not"):
        load_path(saved)


@pytest.mark.parametrize("seed", range(40))
def test_damage_anywhere_is_noticed(saved: FilePath, seed: int) -> None:
    """Whatever bytes change, the file loads as it was or is refused with BadFile."""
    original, data = load_path(saved), bytearray(saved.read_bytes())
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, len(data), 1 + seed % 3):
        data[place] ^= int(rng.integers(1, 256))
    saved.write_bytes(bytes(data))
    with suppress(BadFile):
        assert load_path(saved).equals(original)


def test_foreign_safetensors(tmp_path: FilePath) -> None:
    save_file({"weight": np.zeros(3)}, str(tmp_path / "model.safetensors"))
    with pytest.raises(BadFile, match=r"is not a netpaths path: its format is 'foreign', expected 'netpaths\.path'"):
        load_path(tmp_path / "model.safetensors")


def test_another_format_of_ours(tmp_path: FilePath) -> None:
    netpaths.files.save_tensors(tmp_path / "p", "profile", 2, {}, {})
    with pytest.raises(BadFile, match=r"is not a netpaths path: its format is 'netpaths\.profile'"):
        load_path(tmp_path / "p")


def test_another_schema(tmp_path: FilePath) -> None:
    netpaths.files.save_tensors(tmp_path / "p", "path", 99, {}, {})
    with pytest.raises(BadFile, match="has path schema 99, this version reads schema 3; make it again"):
        load_path(tmp_path / "p")


def test_not_safetensors(tmp_path: FilePath) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(BadFile, match="is truncated or not a safetensors file"):
        load_path(tmp_path / "p.json")
    with pytest.raises(BadFile, match="there is no path file"):
        load_path(tmp_path)


def test_full_disk_keeps_the_old_file(saved: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    old = saved.read_bytes()

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(netpaths.files, "save_file", full)
    with pytest.raises(StorageFull, match=r"cannot write .*: No space left on device; nothing was written"):
        save_path(load_path(saved), saved)
    assert saved.read_bytes() == old
    assert [entry.name for entry in saved.parent.iterdir()] == [saved.name]
