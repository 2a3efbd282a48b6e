"""Profiles: only correct images, laws of merging, resuming, files, density and growth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path as FilePath

import numpy as np
import pytest
import torch
from torch import nn

import netpaths.files
from netpaths import EffectivePath, Graph, Path, Profile, Site
from netpaths.errors import BadFile, BadOption, EmptyClass, ModelMismatch, NetpathsError, StorageFull
from netpaths.path import Elements, union

CLASSES = 4
Batches = list[tuple[torch.Tensor, torch.Tensor]]


def make_graph(seed: int = 0) -> Graph:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, CLASSES)
    )
    return Graph(model, torch.zeros(1, 1, 6, 6))


GRAPH = make_graph()
METHOD = EffectivePath()


def batches(count: int = 5, size: int = 6, wrong: float = 0.3, seed: int = 0) -> Batches:
    """Random images labelled with what the network says, but for a share of wrong labels."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        x = torch.randn(size, 1, 6, 6, generator=generator)
        labels = GRAPH.run(x).predicted
        spoil = torch.rand(size, generator=generator) < wrong
        found.append((x, torch.where(spoil, (labels + 1) % CLASSES, labels)))
    return found


def build(loader: Batches, **options: object) -> Profile:
    return Profile.build(METHOD, GRAPH, loader, **options)  # type: ignore[arg-type]


def correct(loader: Batches) -> Iterator[tuple[Path, int]]:
    """Path and label of every correctly classified image, one at a time."""
    for x, labels in loader:
        for image, label in zip(x, labels.tolist()):
            path = METHOD.extract(GRAPH, image[None])[0]
            if path.predicted == label:
                yield path, label


# --- what it holds ---------------------------------------------------------------------------------------------------


def test_class_paths_are_unions_of_correct_images() -> None:
    loader = batches()
    profile = build(loader, counts=True)
    by_class: dict[int, list[Path]] = {}
    for path, label in correct(loader):
        by_class.setdefault(label, []).append(path)
    assert list(profile) == sorted(by_class)
    assert sum(profile.images.values()) < sum(len(labels) for _, labels in loader)
    for label, paths in by_class.items():
        assert profile[label].equals(union(paths))
        assert profile.images[label] == len(paths)
        assert (profile[label].seed, profile[label].predicted) == (label, label)
        for site in profile[label]:
            counts = sum(path[site].dense().flatten().int() for path in paths)
            assert profile.counts[label][site].tolist() == counts.tolist()  # type: ignore[union-attr]


def test_classes_ascend_whatever_comes_first() -> None:
    loader = batches(4, wrong=0.0)
    found = [(path, int(label)) for x, labels in loader for path, label in zip(METHOD.extract(GRAPH, x), labels)]
    found.sort(key=lambda each: -each[1])
    profile = Profile()
    for path, label in found:
        profile.update([path], [label])
    labels = sorted({label for _, label in found})
    assert len(labels) > 1
    assert list(profile.paths) == list(profile.images) == list(profile) == labels


def test_frequency() -> None:
    profile = build(batches(), counts=True)
    label = next(iter(profile))
    frequency = profile.frequency(label, ("4", "weight"))
    assert 0 < frequency.max() <= 1
    assert np.array_equal(np.flatnonzero(frequency), profile[label]["4", "weight"].members())
    with pytest.raises(BadOption, match="this profile has no counts; build it with counts=True"):
        build(batches()).frequency(label, ("4", "weight"))


@pytest.mark.parametrize("share", [0.01, 0.5, 2 / 3, 1.0])
def test_usual_elements_are_those_of_many_images(share: float) -> None:
    loader = batches()
    profile = build(loader, counts=True)
    paths = [path for x, labels in loader for path in METHOD.extract(GRAPH, x)]
    given = torch.cat([labels for _, labels in loader]).tolist()
    usual = profile.usual(share)
    assert list(usual) == list(profile)
    for label, found in usual.items():
        mine = [path for path, own in zip(paths, given) if own == label == path.predicted]
        for site in profile[label]:
            often = np.mean([path[site].dense().numpy() for path in mine], axis=0) >= share
            assert np.array_equal(found[site].dense().numpy(), often)
            assert found[site].total == profile[label][site].total
    assert all(usual[label].equals(profile[label]) for label in usual) == (share == 0.01)


def test_usual_elements_keep_their_values() -> None:
    first, second = ([0.5, 0.0, 2.0], [0.25, 1.0, 0.0])
    paths = [
        Path({Site("a", "channel"): Elements.from_dense(torch.tensor(own))}, predicted=0) for own in (first, second)
    ]
    profile = Profile(counted=True)
    profile.update(paths, [0, 0])
    assert profile.usual(1.0)[0]["a", "channel"].dense().tolist() == [0.5, 0, 0]
    assert profile.usual(0.5)[0].equals(profile[0])


def test_usual_needs_counts_and_a_share() -> None:
    with pytest.raises(BadOption, match="this profile has no counts; build it with counts=True"):
        build(batches()).usual()
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(BadOption, match=r"expected a number in \(0, 1\]"):
            build(batches(), counts=True).usual(share)


def test_doing_work_twice_changes_no_class_path() -> None:
    loader = batches()
    once, twice = build(loader), build(loader + loader)
    assert all(once[label].equals(twice[label]) for label in once)


# --- merging ---------------------------------------------------------------------------------------------------------


def test_shards_merge_to_the_whole() -> None:
    loader = batches()
    whole = build(loader, counts=True)
    shards = [build([batch], counts=True) for batch in loader]
    merged = shards[0]
    for shard in shards[1:]:
        merged = merged.merge(shard)
    assert merged.equals(whole)
    assert merged.seen == whole.seen == 30


def test_merge_is_commutative_and_associative() -> None:
    a, b, c = (build(batches(1, seed=seed), counts=True) for seed in range(3))
    assert a.merge(b).equals(b.merge(a))
    assert a.merge(b).merge(c).equals(a.merge(b.merge(c)))


def test_merge_leaves_its_operands() -> None:
    a, b = build(batches(1, seed=1), counts=True), build(batches(1, seed=2), counts=True)
    before = build(batches(1, seed=1), counts=True)
    a.merge(b).merge(b)
    assert a.equals(before)


def test_counts_need_both() -> None:
    a, b = build(batches(1), counts=True), build(batches(1))
    assert not a.merge(b).counted
    assert a.merge(b).counts == {}


# --- resuming --------------------------------------------------------------------------------------------------------


class Stopped(Exception):
    pass


class Counting:
    """The method, counting the images it extracts."""

    def __init__(self) -> None:
        self.images = 0

    def fit(self, graph: Graph, loader: object) -> Counting:
        return self

    def extract(self, graph: Graph, x: torch.Tensor) -> list[Path]:
        self.images += len(x)
        return METHOD.extract(graph, x)

    def describe(self) -> dict[str, object]:
        return METHOD.describe()


def stop_after(count: int, file: FilePath) -> Callable[[Profile], None]:
    done = 0

    def progress(profile: Profile) -> None:
        nonlocal done
        done += 1
        profile.save(file)
        if done == count:
            raise Stopped

    return progress


@pytest.mark.parametrize("count", [1, 2, 4])
def test_resumed_is_uninterrupted(tmp_path: FilePath, count: int) -> None:
    loader, file = batches(), tmp_path / "profile"
    with pytest.raises(Stopped):
        build(loader, counts=True, progress=stop_after(count, file))
    method = Counting()
    resumed = Profile.build(method, GRAPH, loader, counts=True, resume=Profile.load(file))
    whole = build(loader, counts=True)
    assert resumed.equals(whole)
    assert resumed.seen == whole.seen
    assert method.images == sum(len(images) for images, _ in loader[count:])


def test_resume_in_the_middle_of_a_batch() -> None:
    """Another batch size: images already seen are skipped within a batch."""
    loader = batches()
    images, labels = torch.cat([x for x, _ in loader]), torch.cat([own for _, own in loader])
    first = build([(images[:7], labels[:7])], counts=True)
    resumed = build(loader, counts=True, resume=first)
    assert resumed.equals(build(loader, counts=True))


def test_resuming_a_finished_build_does_nothing() -> None:
    loader = batches()
    whole = build(loader, counts=True)
    method = Counting()
    assert Profile.build(method, GRAPH, loader, counts=True, resume=whole).equals(build(loader, counts=True))
    assert method.images == 0


def test_resume_refuses_others() -> None:
    loader = batches(1)
    with pytest.raises(ModelMismatch, match=r"the profile was made for model \w{12}, this is model \w{12}"):
        Profile.build(METHOD, make_graph(1), loader, resume=build(loader))
    with pytest.raises(BadOption, match=r"the profile was made with .*'theta': 0.5.*, not with .*'theta': 0.7"):
        Profile.build(EffectivePath(0.7), GRAPH, loader, resume=build(loader))
    with pytest.raises(BadOption, match="the profile was made from data 'a', not 'b'"):
        build(loader, resume=build(loader, source="a"), source="b")


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [True, False])
def test_save_load(tmp_path: FilePath, counts: bool) -> None:
    profile = build(batches(), counts=counts, source="random images")
    again = Profile.load(profile.save(tmp_path / "p"), GRAPH.fingerprint)
    assert again.equals(profile)
    for name in ("seen", "source", "counted", "fingerprint"):
        assert getattr(again, name) == getattr(profile, name)
    again.check_made_by(GRAPH.fingerprint, METHOD.describe(), "random images")
    assert again.merge(profile).paths[again_first(again)].equals(profile[again_first(again)])
    assert again[again_first(again)].layers == GRAPH.layers


def again_first(profile: Profile) -> int:
    return next(iter(profile))


def test_load_refuses_another_model(tmp_path: FilePath) -> None:
    file = build(batches(1)).save(tmp_path / "p")
    with pytest.raises(ModelMismatch, match="the profile was made for model"):
        Profile.load(file, make_graph(1).fingerprint)


def test_load_refuses_damage(tmp_path: FilePath) -> None:
    file = build(batches(1)).save(tmp_path / "p")
    data = file.read_bytes()
    file.write_bytes(data[:-5])
    with pytest.raises(BadFile, match="is truncated or not a safetensors file"):
        Profile.load(file)
    file.write_bytes(data[:-3] + bytes([data[-3] ^ 1]) + data[-2:])
    with pytest.raises(BadFile, match="is corrupt: its checksum does not match"):
        Profile.load(file)
    with pytest.raises(BadFile, match="there is no profile file"):
        Profile.load(tmp_path / "other")


def test_full_disk_keeps_the_old_profile(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = build(batches(1))
    file = profile.save(tmp_path / "p")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(netpaths.files, "save_file", full)
    with pytest.raises(StorageFull):
        build(batches(2)).save(file)
    assert Profile.load(file).equals(profile)


# --- density, growth, errors -----------------------------------------------------------------------------------------


def hand_made() -> Profile:
    """Two classes over a weight of 10 elements and one of 6: {0..4} and {3..6}; {0} and {0, 1, 2}."""
    profile = Profile()
    for label, (first, second) in enumerate([(range(5), [0]), (range(3, 7), [0, 1, 2])]):
        sites = {
            Site("a", "weight"): Elements.of((10,), np.array(first, np.int64)),
            Site("b", "weight"): Elements.of((2, 3), np.array(second, np.int64)),
        }
        profile.update([Path(sites, label, label)], [label])
    return profile


def test_density_and_growth_by_hand() -> None:
    """Class 0: 5 + 1 of 16; with class 1: 7 + 3 of 16."""
    profile = hand_made()
    assert profile[0].density("weight") == 6 / 16
    assert profile[1].density("weight") == 7 / 16
    assert profile.overall().density("weight") == 10 / 16
    assert profile.growth("weight") == [6 / 16, 10 / 16]
    assert profile.overall().densities("weight") == {"a": 0.7, "b": 0.5}


def test_growth_never_falls() -> None:
    profile = build(batches(8))
    for kind in ("weight", "synapse", "neuron"):
        curve = profile.growth(kind)
        assert curve == sorted(curve)
        assert curve[-1] == profile.overall().density(kind)
        assert 0 < curve[0] <= curve[-1] <= 1


def test_empty_classes() -> None:
    profile = hand_made()
    assert 1 in profile
    assert 7 not in profile
    with pytest.raises(EmptyClass, match=r"class 7 has no correctly classified training image.*covers 2 classes: 0, 1"):
        profile[7]
    with pytest.raises(EmptyClass, match=r"no correctly classified training image for class 5, 9; add training images"):
        profile.require([0, 5, 9])
    profile.require([0, 1])
    for use in (Profile().overall, build(batches(1, wrong=2.0)).overall):
        with pytest.raises(EmptyClass, match="the profile is empty: no training image was classified correctly"):
            use()
    assert Profile().growth("weight") == []


def test_another_models_paths() -> None:
    profile = build(batches(1))
    other = make_graph(3)
    paths = METHOD.extract(other, torch.randn(1, 1, 6, 6))
    before = build(batches(1))
    with pytest.raises(ModelMismatch, match="the profile was made for model"):
        profile.update(paths, [0])
    assert profile.equals(before)
    with pytest.raises(ModelMismatch):
        profile.merge(Profile.build(METHOD, other, batches(1)))


def test_repr_and_errors() -> None:
    assert repr(hand_made()).startswith("Profile(2 classes, 2 images")
    for error in (EmptyClass, ModelMismatch, BadOption):
        assert issubclass(error, NetpathsError)
