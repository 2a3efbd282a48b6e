"""The detector's input as one value: per-layer similarities of many images, and where each row comes from."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from netpaths.errors import BadFile, BadInput, BadOption
from netpaths.files import Count, check_tensors, load_tensors, save_tensors, write_text

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Strings = npt.NDArray[np.str_]
Names = tuple[tuple[str, int], ...]

CLEAN = "clean"
KIND, SCHEMA = "features", 2
PER_ROW = ("values", "sources", "attacks", "predicted", "labels")


class FeaturesHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a file of features says beside its numbers."""

    names: tuple[tuple[str, Count], ...]
    sources: list[str]
    attacks: list[str]
    controls: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Features:
    """Similarities of n images to their predicted class, one column per (layer, rank).

    ``values`` (n, d) float64, unitless, NaN where a layer gives no information; ``names`` d pairs (layer,
    rank); ``sources`` (n,) identifiers of the source images; ``attacks`` (n,) attack names, "clean" for the
    images themselves; ``predicted`` and ``labels`` (n,) class numbers; ``controls`` the names among
    ``attacks`` that are no attacks (noise, blur). Raises BadInput when lengths disagree or a value is
    infinite.
    """

    values: Floats
    names: Names
    sources: Strings
    attacks: Strings
    predicted: Ints
    labels: Ints
    controls: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=np.float64)
        if values.ndim != 2:
            raise BadInput(f"feature values must have shape (images, features), not {values.shape}")
        self._freeze("values", values)
        self._freeze("names", tuple((str(layer), int(rank)) for layer, rank in self.names))
        self._freeze("sources", np.array(self.sources, dtype=np.str_))
        self._freeze("attacks", np.array(self.attacks, dtype=np.str_))
        self._freeze("predicted", np.array(self.predicted, dtype=np.int64))
        self._freeze("labels", np.array(self.labels, dtype=np.int64))
        self._freeze("controls", tuple(sorted(str(name) for name in self.controls)))
        self._check()

    def _freeze(self, field: str, value: Any) -> None:
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
        object.__setattr__(self, field, value)

    def _check(self) -> None:
        rows, columns = self.values.shape
        if len(self.names) != columns or len(set(self.names)) != columns:
            raise BadInput(
                f"{columns} feature columns need {columns} different (layer, rank) names, not {len(set(self.names))}"
            )
        for field in PER_ROW[1:]:
            shape = getattr(self, field).shape
            if shape != (rows,):
                raise BadInput(f"{field} must have shape ({rows},) like the rows of values, not {shape}")
        if np.isinf(self.values).any():
            raise BadInput("feature values must be finite, or NaN where a layer gives no information; found infinity")
        if CLEAN in self.controls:
            raise BadInput(f"{CLEAN!r} cannot be a control: it names the images themselves")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def is_clean(self) -> Bools:
        """(n,) true for images as they are."""
        return np.asarray(self.attacks == CLEAN, dtype=np.bool_)

    @property
    def is_control(self) -> Bools:
        """(n,) true for controls: changed images that are no attacks."""
        return np.isin(self.attacks, self.controls)

    @property
    def is_adversarial(self) -> Bools:
        """(n,) true for attacked images; clean images and controls are false."""
        return ~(self.is_clean | self.is_control)

    @property
    def is_counted(self) -> Bools:
        """(n,) true for rows that figures may count: originally correct images and their successful attacks.

        A control counts when its source was correct; a source without a clean row (an unrecognisable image)
        counts as correct.
        """
        right = self.predicted == self.labels
        known = np.isin(self.sources, self.sources[self.is_clean])
        correct = np.isin(self.sources, self.sources[self.is_clean & right]) | ~known
        return np.asarray(correct & np.where(self.is_clean, right, self.is_control | ~right), dtype=np.bool_)

    @property
    def attack_names(self) -> tuple[str, ...]:
        """The attacks present, sorted; neither clean nor controls."""
        return tuple(str(name) for name in np.unique(self.attacks[self.is_adversarial]))

    @property
    def control_names(self) -> tuple[str, ...]:
        """The controls present, sorted."""
        return tuple(str(name) for name in np.unique(self.attacks[self.is_control]))

    def take(self, rows: npt.ArrayLike) -> Features:
        """The rows chosen by a boolean mask (n,) or by indices.

        Raises BadOption for a mask of another length.
        """
        rows = np.asarray(rows)
        if rows.dtype == np.bool_ and rows.shape != (len(self),):
            raise BadOption(f"a row mask must have shape ({len(self)},), not {rows.shape}")
        index = rows if rows.dtype == np.bool_ else rows.astype(np.int64)
        if index.dtype != np.bool_ and index.size and (index.max() >= len(self) or index.min() < -len(self)):
            raise BadOption(f"row indices must lie below {len(self)}, found {index.max()}")
        return replace(self, **{field: getattr(self, field)[index] for field in PER_ROW})

    @staticmethod
    def concat(parts: Sequence[Features]) -> Features:
        """All rows of ``parts``, in order.

        Raises BadOption when empty, BadInput when columns or controls disagree.
        """
        if not parts:
            raise BadOption("concat needs at least one Features, got none")
        controls = {name for part in parts for name in part.controls}
        for part in parts:
            check_names(parts[0].names, part.names)
            if controls & set(part.attack_names):
                both = ", ".join(sorted(controls & set(part.attack_names)))
                raise BadInput(f"{both} is an attack in one part and a control in another; name it the same in all")
        merged: dict[str, Any] = {field: np.concatenate([getattr(part, field) for part in parts]) for field in PER_ROW}
        return Features(names=parts[0].names, controls=tuple(sorted(controls)), **merged)

    def save(self, path: Path | str) -> Path:
        """Write one safetensors file with a checksum, atomically; raises StorageFull."""
        tensors = {"values": self.values, "predicted": self.predicted, "labels": self.labels}
        header = {
            "names": self.names,
            "sources": self.sources,
            "attacks": self.attacks,
            "controls": self.controls,
        }
        return save_tensors(path, KIND, SCHEMA, tensors, header)

    @staticmethod
    def load(path: Path | str) -> Features:
        """Read a file written by `save`; raises BadFile when it is missing, corrupt or of another kind."""
        tensors, header = load_tensors(path, KIND, SCHEMA, FeaturesHeader)
        check_tensors(path, tensors, {"values": ("f8", 2), "predicted": ("i8", 1), "labels": ("i8", 1)})
        try:
            state: dict[str, Any] = {**tensors, **msgspec.structs.asdict(header)}
            return Features(**state)
        except (TypeError, ValueError, BadInput) as error:
            raise BadFile(f"{path} is not a netpaths features file: {error}") from error

    def to_csv(self, path: Path | str) -> Path:
        """Write one line per image: source, attack, label, predicted, then a column per feature (NaN is
        empty).
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            [
                "source",
                "attack",
                "label",
                "predicted",
                *(f"{layer} rank {rank}" for layer, rank in self.names),
            ]
        )
        rows = zip(self.sources, self.attacks, self.labels, self.predicted, self.values, strict=True)
        for source, attack, label, predicted, values in rows:
            cells = ["" if np.isnan(value) else repr(float(value)) for value in values]
            writer.writerow([source, attack, label, predicted, *cells])
        return write_text(path, text.getvalue())


def check_names(expected: Names, found: Names) -> None:
    """Raise BadInput unless both name the same columns in the same order."""
    if expected == found:
        return
    if len(expected) != len(found):
        raise BadInput(f"expected {len(expected)} features ({_brief(expected)}), found {len(found)} ({_brief(found)})")
    at = next(i for i, (a, b) in enumerate(zip(expected, found, strict=True)) if a != b)
    raise BadInput(
        f"feature {at} must be {_name(expected[at])}, found {_name(found[at])}; use the layers and order "
        "of the fitted features"
    )


def _name(name: tuple[str, int]) -> str:
    return f"{name[0]} rank {name[1]}"


def _brief(names: Names) -> str:
    shown = [_name(name) for name in names[:3]]
    return ", ".join(shown + ["…"] * (len(names) > 3))
