"""Files whose checksum is right and whose contents are not: one clear error, or something that can be used.

Every kind of file is changed at random, in its header and in its numbers, and written again with a new checksum.
NETPATHS_MUTATIONS says how many times, for a long run by hand.
"""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
import torch
import zstandard
from numpy.typing import NDArray

from netpaths import EffectivePath, Graph, Profile, jaccard, load_path, save_path
from netpaths.cli.attacked import Attacked
from netpaths.cli.attacked import load as load_attacked
from netpaths.cli.attacked import save as save_attacked
from netpaths.detection import AdaBoost, Features, JointSimilarity, RandomForest
from netpaths.detection.artifact import load_detector, save_detector
from netpaths.errors import BadFile, NetpathsError
from netpaths.files import load_tensors, save_tensors, typed_header
from netpaths.path import union
from netpaths.path.storage import PathHeader, compress

MUTATIONS = int(os.environ.get("NETPATHS_MUTATIONS", "80"))
Arrays = dict[str, NDArray[Any]]


class Kind:
    """One kind of file: how an honest one is made, and what is done with what was loaded."""

    def __init__(self, name: str, schema: int, make: Callable[[FilePath], Any], use: Callable[[FilePath], Any]) -> None:
        self.name, self.schema, self.make, self.use = name, schema, make, use


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    layers = (torch.nn.Conv2d(1, 3, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(48, 3))
    return torch.nn.Sequential(*layers).eval()


def images() -> torch.Tensor:
    return torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(1))


def a_path(file: FilePath) -> None:
    save_path(EffectivePath(budget=True).extract(Graph(model(), images()), images()[:1])[0], file)


def a_path_with_values(file: FilePath) -> None:
    save_path(EffectivePath(contributions=True).extract(Graph(model(), images()), images()[:1])[0], file)


def use_path(file: FilePath) -> None:
    path = load_path(file)
    for site, part in path.sites.items():
        members = part.members()
        assert len(members) == len(part) <= part.total <= part.size
        assert not members.size or (members.min() >= 0 and members.max() < part.size)
        assert (np.diff(members) > 0).all()
        assert path.density(site.kind) >= 0
    assert union([path, path]).equals(path)
    assert all(np.isnan(share) or share == 1 for share in [jaccard(path, path)])


def a_profile(file: FilePath) -> None:
    graph = Graph(model(), images())
    labels = graph.run(images()).predicted
    Profile.build(EffectivePath(), graph, [(images(), labels)], counts=True).save(file)


def use_profile(file: FilePath) -> None:
    profile = Profile.load(file)
    assert profile.merge(profile).images == {label: 2 * count for label, count in profile.images.items()}
    for label in profile:
        for site in profile[label].sites:
            if profile.counted and profile.images[label]:
                assert (profile.frequency(label, site) <= 1).all()


def features() -> Features:
    generator = np.random.default_rng(0)
    rows = 20
    return Features(
        values=generator.random((rows, 3)),
        names=(("a", 1), ("a", 2), ("b", 1)),
        sources=np.array([f"photo{row % 10}" for row in range(rows)]),
        attacks=np.array(["clean"] * 10 + ["fgsm"] * 10),
        predicted=np.arange(rows) % 3,
        labels=np.arange(rows) % 3,
    )


def use_features(file: FilePath) -> None:
    found = Features.load(file)
    assert found.take(np.arange(len(found))).values.shape == found.values.shape


def a_detector(detector: Any) -> Callable[[FilePath], None]:
    def make(file: FilePath) -> None:
        fitted = detector().fit(features(), features().is_adversarial)
        fitted.calibrate(features().take(features().is_clean), 0.2)
        save_detector(file, fitted, "0" * 64, ["a", "b"], {"name": "effective"}, "1" * 64)

    return make


def use_detector(file: FilePath) -> None:
    detector, header = load_detector(file)
    if header["names"] == features().names:
        assert np.isfinite(detector.score(features())).all()


def an_attack(file: FilePath) -> None:
    labels, good = np.arange(12) % 3, np.ones(12, bool)
    sources = tuple(f"photo{number}" for number in range(12))
    save_attacked(file, Attacked("fgsm", False, images(), sources, labels, labels, good, {"attack": "fgsm"}, "0" * 64))


def use_attack(file: FilePath) -> None:
    found = load_attacked(file).counted()
    assert len(found.sources) == len(found.images) == len(found.labels)


KINDS = {
    "path": Kind("path", 3, a_path, use_path),
    "path with values": Kind("path", 3, a_path_with_values, use_path),
    "profile": Kind("profile", 3, a_profile, use_profile),
    "features": Kind("features", 2, lambda file: features().save(file), use_features),
    "joint detector": Kind("detector", 2, a_detector(JointSimilarity), use_detector),
    "forest": Kind("detector", 2, a_detector(RandomForest), use_detector),
    "stumps": Kind("detector", 2, a_detector(AdaBoost), use_detector),
    "attacked images": Kind("adversarial", 1, an_attack, use_attack),
}

NUMBERS = (True, -1, 0, 1, 2**31, 2**63, 10**9, 1e308, 0.5)
VALUES: tuple[Any, ...] = (None, *NUMBERS, "", "x", "words:<u8", "\x00", [], {}, [1], [-1], [10**9], [[]])


def changed_header(choice: random.Random, header: Any) -> Any:
    """A header with one value at a random place replaced, removed or doubled."""
    header = copy.deepcopy(header)
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in keys:
            places.append((value, key))
            walk(value[key])

    walk(header)
    owner, key = choice.choice(places)
    how = choice.randrange(4)
    if how == 0:
        del owner[key]
    elif how == 1 and isinstance(owner, list):
        owner.append(copy.deepcopy(owner[key]))
    elif how == 2 and isinstance(owner, dict):
        owner[f"{key}?"] = owner.pop(key)
    else:
        owner[key] = choice.choice(VALUES)
    return header


def changed_numbers(choice: random.Random, array: NDArray[Any]) -> NDArray[Any]:
    """Numbers out of order, too many, too few, too large, negative, or none at all."""
    extremes = [-1, 0, 1, 2**31 - 1, np.nan, np.inf] if array.dtype.kind == "f" else [0, 1, 100, 255]
    extremes += [-1, 2**31 - 1] if array.dtype.kind == "i" else []
    flat = array.reshape(-1).copy()
    how = choice.randrange(6)
    if how == 0 or not flat.size:
        return np.concatenate([flat, flat[-1:]])
    if how == 1:
        return flat[:-1]
    if how == 2:
        return flat[::-1].copy().reshape(array.shape)
    if how == 3:
        return array.astype(choice.choice(["f4", "i4", "u1", "f8"]), casting="unsafe")
    flat[choice.randrange(flat.size)] = np.array(choice.choice(extremes)).astype(array.dtype)
    return flat.reshape(array.shape)


def changed_arrays(choice: random.Random, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """One tensor changed, removed, renamed, or exchanged with another; compressed ones also inside."""
    arrays = dict(arrays)
    name, other = choice.choice(list(arrays)), choice.choice(list(arrays))
    how = choice.randrange(6)
    if how == 0:
        del arrays[name]
    elif how == 1:
        arrays[f"{name}?"] = arrays.pop(name)
    elif how == 2:
        arrays[name], arrays[other] = arrays[other], arrays[name]
    elif arrays[name].dtype == np.uint8 and arrays[name].ndim == 1 and how < 5:
        inside = np.frombuffer(zstandard.ZstdDecompressor().decompress(arrays[name].tobytes()), np.uint8)
        arrays[name] = compress(changed_numbers(choice, inside))
    else:
        arrays[name] = changed_numbers(choice, arrays[name])
    return arrays


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("name", KINDS)
def test_a_changed_file_is_refused_or_can_be_used(name: str, tmp_path: FilePath) -> None:
    kind, honest, file = KINDS[name], tmp_path / "honest.safetensors", tmp_path / "changed.safetensors"
    kind.make(honest)
    kind.use(honest)
    arrays, header = load_tensors(honest, kind.name, kind.schema, dict)
    refusals = []
    for seed in range(MUTATIONS):
        choice = random.Random(seed)
        changed = changed_header(choice, header) if seed % 2 else header
        tensors = arrays if seed % 2 else changed_arrays(choice, arrays)
        save_tensors(file, kind.name, kind.schema, tensors, changed)
        try:
            kind.use(file)
        except NetpathsError as error:
            refusals.append(str(error))
    assert len(refusals) > MUTATIONS / 4
    assert all(said.strip() and "\n" not in said for said in refusals)


@pytest.mark.parametrize("name", ["path", "profile"])
def test_little_that_unpacks_to_much_is_refused_before_it_is_unpacked(name: str, tmp_path: FilePath) -> None:
    kind, file = KINDS[name], tmp_path / "file.safetensors"
    kind.make(file)
    arrays, header = load_tensors(file, kind.name, kind.schema, dict)
    row = header["sites"][0] if name == "path" else header["classes"][0]["sites"][0]
    first = (
        f"{row['node']}.{row['kind']}"
        if name == "path"
        else f"{header['classes'][0]['label']}/{row['node']}.{row['kind']}"
    )
    huge = 2**32
    row.update(shape=[huge], total=huge, form="words:<u8", members=0, valued=False)
    arrays[first] = np.frombuffer(zstandard.ZstdCompressor(write_content_size=True).compress(bytes(1 << 20)), np.uint8)
    save_tensors(file, kind.name, kind.schema, arrays, header)
    with pytest.raises(BadFile, match="would unpack to"):
        kind.use(file)


DEEP = ('{"sites": ' + "[" * 100_000, "[" * 100_000 + "]" * 100_000)


@pytest.mark.parametrize("text", [*DEEP, "{", "\udc80", "null"], ids=["nested", "closed", "cut", "no text", "null"])
def test_a_header_that_is_no_header_is_refused(text: str) -> None:
    with pytest.raises(BadFile, match=r"file\.safetensors is not a whole path file"):
        typed_header("file.safetensors", "path", text, PathHeader)
