"""Profiles: for every class the union of its images' paths, with how often each element was selected where asked.

A class path is the union of the paths of training images that the network classifies correctly (Qiu et al. 2019,
section 3.2). Union is associative, commutative and idempotent, so shards and retries merge without coordination.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from netpaths.errors import BadFile, BadOption, EmptyClass, ModelMismatch
from netpaths.files import Count, load_tensors, save_tensors
from netpaths.graph import Graph, PathMethod
from netpaths.graph.streaming import batches_from
from netpaths.labels import check_labels
from netpaths.path import Elements, Path, Site, union
from netpaths.path.storage import (
    Malformed,
    SiteRow,
    check_sites,
    compress,
    decode_sites,
    decompress,
    encode_sites,
)

SCHEMA = 3
Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]


class ClassRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a header says of one class."""

    label: Count
    images: Count
    sites: list[SiteRow]


class ProfileHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a profile's file says."""

    fingerprint: str
    method: dict[str, Any]
    classes: list[ClassRow]
    layers: list[str]
    counted: bool
    seen: Count
    source: str


@dataclass
class Profile:
    """Class → aggregated path.

    paths: the class paths, classes ascending. images: how many images each class path aggregates. counts: class → site
    → how many of these images select each element, (size,) int32; empty unless asked for. seen: images offered so far,
    correct or not, in loader order: where a stopped build goes on.
    """

    fingerprint: str = ""
    method: Mapping[str, Any] = field(default_factory=dict)
    paths: dict[int, Path] = field(default_factory=dict)
    images: dict[int, int] = field(default_factory=dict)
    counts: dict[int, dict[Site, NDArray[np.int32]]] = field(default_factory=dict)
    counted: bool = False
    seen: int = 0
    source: str = ""

    @classmethod
    def build(
        cls,
        method: PathMethod,
        graph: Graph,
        loader: Batches,
        counts: bool = False,
        resume: Profile | None = None,
        progress: Callable[[Profile], None] | None = None,
        source: str = "",
    ) -> Profile:
        """The profile of all images of ``loader`` that the network classifies correctly.

        loader: batches (images, labels), always in the same order. counts: also count selections per element.
        resume: an unfinished profile of the same loader, left as it is; its images are skipped. progress: called
        after every batch with the profile so far. source: a name or digest of the data, stored with the profile.
        Raises ModelMismatch and BadOption when ``resume`` belongs to another model, method or data.
        """
        profile = cls(graph.fingerprint, method.describe(), counted=counts, source=source)
        if resume is not None:
            resume.check_made_by(graph.fingerprint, method.describe(), source)
            if resume.counted != counts:
                raise BadOption(f"the unfinished profile was begun with counts={resume.counted}, not {counts}")
            profile = resume.copy()
        method.fit(graph, loader)
        for _, images, labels in batches_from(loader, profile.seen):
            profile.add_images(method, graph, images, labels)
            if progress is not None:
                progress(profile)
        return profile

    def copy(self) -> Profile:
        """A profile that can be updated without changing this one."""
        counts = {label: {site: own.copy() for site, own in sites.items()} for label, sites in self.counts.items()}
        return replace(self, paths=dict(self.paths), images=dict(self.images), counts=counts)

    def add_images(self, method: PathMethod, graph: Graph, images: torch.Tensor, labels: torch.Tensor) -> None:
        """Extract the paths of one batch and add those of correctly classified images to their classes.

        A path knows its prediction, so one forward pass serves both; the paths of wrong images are dropped.
        """
        check_labels(labels, len(images), graph.classes, least=-1)
        paths = method.extract(graph, images.to(graph.device))
        correct = [(path, label) for path, label in zip(paths, labels.tolist()) if path.predicted == label]
        if correct:
            self.update([path for path, _ in correct], [label for _, label in correct])
        self.seen += len(images)

    def update(self, paths: Sequence[Path], classes: Sequence[int]) -> None:
        """Add paths to their classes; adding a path again changes no class path."""
        for label in sorted(set(classes)):
            members = [path for path, own in zip(paths, classes) if own == label]
            for path in members:
                self._check_model(path.fingerprint)
            self.fingerprint = self.fingerprint or members[0].fingerprint
            known = [self.paths[label]] if label in self.paths else []
            self.paths[label] = replace(union(known + members), seed=label, predicted=label)
            self.images[label] = self.images.get(label, 0) + len(members)
            if self.counted:
                _count(self.counts.setdefault(label, {}), members)
        self.paths = {label: self.paths[label] for label in self}
        self.images = {label: self.images[label] for label in self}

    def merge(self, other: Profile) -> Profile:
        """The profile of both: class paths unite, counts and images add."""
        self._check_model(other.fingerprint)
        paths = dict(self.paths)
        for label, path in other.paths.items():
            paths[label] = union([paths[label], path]) if label in paths else path
        labels = sorted({*self.images, *other.images})
        images = {label: self.images.get(label, 0) + other.images.get(label, 0) for label in labels}
        counted = self.counted and other.counted
        counts = {label: _added(self.counts.get(label, {}), other.counts.get(label, {})) for label in labels}
        return replace(
            self,
            paths={label: paths[label] for label in sorted(paths)},
            images=images,
            counts=counts if counted else {},
            counted=counted,
            seen=self.seen + other.seen,
        )

    def _check_model(self, fingerprint: str) -> None:
        if self.fingerprint and fingerprint != self.fingerprint:
            raise ModelMismatch(
                f"the profile was made for model {self.fingerprint[:12]}, this is model {fingerprint[:12]}"
            )

    def check_made_by(self, fingerprint: str, method: Mapping[str, Any], source: str) -> None:
        """Raise ModelMismatch or BadOption unless the profile comes from this model, method and data."""
        self._check_model(fingerprint)
        if dict(self.method) != dict(method):
            raise BadOption(f"the profile was made with {dict(self.method)}, not with {dict(method)}")
        if self.source != source:
            raise BadOption(f"the profile was made from data {self.source or 'unnamed'!r}, not {source or 'unnamed'!r}")

    def __getitem__(self, label: int) -> Path:
        if label not in self.paths:
            raise EmptyClass(
                f"class {label} has no correctly classified training image in this profile; "
                f"it covers {len(self.paths)} classes: {_brief(sorted(self.paths))}"
            )
        return self.paths[label]

    def __contains__(self, label: object) -> bool:
        return label in self.paths

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self.paths))

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return f"Profile({len(self)} classes, {sum(self.images.values())} images, model {self.fingerprint[:12]})"

    def require(self, classes: Iterable[int]) -> None:
        """Raise EmptyClass naming every one of ``classes`` without a correctly classified image."""
        empty = [label for label in classes if label not in self.paths]
        if empty:
            raise EmptyClass(
                f"no correctly classified training image for class {_brief(empty)}; "
                "add training images of it or train the model further"
            )

    def overall(self) -> Path:
        """The union of all class paths; raises EmptyClass for an empty profile."""
        if not self.paths:
            raise EmptyClass("the profile is empty: no training image was classified correctly")
        return union([self.paths[label] for label in self])

    def growth(self, kind: str) -> list[float]:
        """Density after merging 1, 2, … classes in ascending order (Qiu et al. 2019, Fig. 3)."""
        merged: list[Path] = []
        curve = []
        for label in self:
            merged = [union([*merged, self.paths[label]])]
            curve.append(merged[0].density(kind))
        return curve

    def usual(self, share: float = 0.5) -> dict[int, Path]:
        """Class paths without what is rare in them: elements that at least ``share`` of the class's images select.

        share: in (0, 1]; as it falls to 0 these become the class paths themselves. Values stay those of the class
        paths. Needs counts; raises BadOption. Source: our reconstruction; the union of many images' paths is nearly
        everything where every image selects much.
        """
        if not 0 < share <= 1:
            raise BadOption(f"the share of a class's images is {share}, expected a number in (0, 1]")
        return {label: self._usual(label, share) for label in self}

    def _usual(self, label: int, share: float) -> Path:
        sites = {}
        for site, part in self[label].sites.items():
            members = part.members()
            often = self.frequency(label, site)[members] >= share
            values = None if part.values is None else part.values[often]
            sites[site] = Elements.of(part.shape, members[often], values, part.total)
        return replace(self[label], sites=sites)

    def frequency(self, label: int, site: Site | tuple[str, str]) -> NDArray[np.float64]:
        """Share of the class's images that select each element of ``site``: (size,); needs counts."""
        if not self.counted:
            raise BadOption("this profile has no counts; build it with counts=True")
        counts = self.counts[label].get(Site(*site))
        size = self[label][site].size
        return np.zeros(size) if counts is None else counts / self.images[label]

    def save(self, file: FilePath | str) -> FilePath:
        """Write the profile to ``file``, atomically; raises StorageFull when the disk is full."""
        tensors: dict[str, NDArray[Any]] = {}
        classes = []
        for label in self:
            encoded, rows = encode_sites(self.paths[label].sites, f"{label}/")
            tensors.update(encoded)
            for site, counts in self.counts.get(label, {}).items():
                tensors[f"{label}/{site.node}.{site.kind}.counts"] = compress(counts)
            classes.append({"label": label, "images": self.images[label], "sites": rows})
        layers = next((list(path.layers) for path in self.paths.values()), [])
        header = {
            "fingerprint": self.fingerprint,
            "method": dict(self.method),
            "classes": classes,
            "layers": layers,
            "counted": self.counted,
            "seen": self.seen,
            "source": self.source,
        }
        return save_tensors(file, "profile", SCHEMA, tensors, header)

    @classmethod
    def load(cls, file: FilePath | str, fingerprint: str | None = None) -> Profile:
        """The profile in ``file``; raises BadFile when it is damaged or foreign.

        fingerprint: refuse a profile of any other model with ModelMismatch.
        """
        tensors, header = load_tensors(file, "profile", SCHEMA, ProfileHeader)
        profile = cls(header.fingerprint, header.method, counted=header.counted, seen=header.seen)
        profile.source = header.source
        if fingerprint is not None:
            profile._check_model(fingerprint)
        try:
            profile._read(tensors, header)
        except Malformed as error:
            raise BadFile(f"{file} is not a whole profile file: {error}") from error
        return profile

    def _read(self, tensors: Mapping[str, NDArray[Any]], header: ProfileHeader) -> None:
        """Take the classes of a file; raises Malformed."""
        sizes = {
            f"{row.label}/{site.node}.{site.kind}.counts": 4 * site.size
            for row in header.classes
            for site in row.sites
            if header.counted
        }
        if len({row.label for row in header.classes}) < len(header.classes):
            raise Malformed("a class is there twice")
        check_sites(tensors, {f"{row.label}/": row.sites for row in header.classes}, sizes)
        for row in header.classes:
            sites = decode_sites(tensors, row.sites, f"{row.label}/")
            layers = tuple(header.layers)
            self.paths[row.label] = Path(sites, row.label, row.label, self.fingerprint, self.method, layers)
            self.images[row.label] = row.images
            if self.counted:
                self.counts[row.label] = {
                    site: _counts(tensors, f"{row.label}/{site.node}.{site.kind}.counts", part.size, row.images)
                    for site, part in sites.items()
                }

    def equals(self, other: Profile) -> bool:
        """Whether both hold the same class paths, image numbers and counts."""
        return (
            self.fingerprint == other.fingerprint
            and self.images == other.images
            and all(self.paths[label].equals(other.paths[label]) for label in self)
            and set(self.counts) == set(other.counts)
            and all(
                np.array_equal(counts, other.counts[label][site])
                for label, sites in self.counts.items()
                for site, counts in sites.items()
            )
        )


def _counts(tensors: Mapping[str, NDArray[Any]], name: str, size: int, images: int) -> NDArray[np.int32]:
    """How many of ``images`` select each of ``size`` elements, as a file says; raises Malformed."""
    counts = decompress(tensors[name], np.dtype(np.int32), size, name)
    if counts.size and (counts.min() < 0 or counts.max() > images):
        raise Malformed(f"{name} goes from {counts.min()} to {counts.max()} for {images} images")
    return counts


def _count(counts: dict[Site, NDArray[np.int32]], paths: Iterable[Path]) -> None:
    for path in paths:
        for site, part in path.sites.items():
            if site not in counts:
                counts[site] = np.zeros(part.size, np.int32)
            counts[site][part.members()] += 1


def _added(
    first: Mapping[Site, NDArray[np.int32]], second: Mapping[Site, NDArray[np.int32]]
) -> dict[Site, NDArray[np.int32]]:
    sites = [*first, *(site for site in second if site not in first)]
    zero = np.int32(0)
    return {site: np.asarray(first.get(site, zero) + second.get(site, zero), np.int32) for site in sites}


def _brief(labels: Sequence[int]) -> str:
    shown = ", ".join(map(str, labels[:8]))
    return shown + (f" … ({len(labels)} in all)" if len(labels) > 8 else "")
