"""What to measure: parts of the work, cases, the preset of the performance targets, and options given per model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from netpaths.errors import BadOption

PARTS = ("full", "last=N", "similarity", "profile", "merge", "routing", "kept=PERCENT")
"""The parts of the work as the user names them."""


NUMBERED: Mapping[str, tuple[str, int | None]] = {
    "last": ("N of last=N", None),
    "kept": ("PERCENT of kept=PERCENT", 100),
}
"""Parts with a number: how it is named, and the largest, None for any."""


@dataclass(frozen=True)
class Part:
    """One part of the work. number: layers of a partial extraction, percent of the filters kept; None elsewhere."""

    name: str
    number: int | None = None

    def __str__(self) -> str:
        return self.name if self.number is None else f"{self.name}={self.number}"

    @property
    def last(self) -> int | None:
        """How many layers an extraction takes, None for all."""
        return self.number if self.name == "last" else None


@dataclass(frozen=True)
class Case:
    """One row of the measurement.

    batch: images at once, None where that means nothing. kinds: kinds of sites, None for those asked for. images:
    how many to profile, None for all.
    """

    model: str
    part: Part
    batch: int | None
    threads: int
    kinds: tuple[str, ...] | None = None
    images: int | None = None


@dataclass(frozen=True)
class Given:
    """The values of an option that may be given per model. plain: what holds for every model without its own."""

    named: Mapping[str, str] = field(default_factory=dict)
    plain: str | None = None

    def of(self, model: str) -> str | None:
        """The value for ``model``, None where it was given none."""
        return self.named.get(model, self.plain)


def parse_part(text: str) -> Part:
    """The part that ``text`` names; raises BadOption for any other text."""
    name, _, number = text.partition("=")
    if name not in NUMBERED:
        if text not in PARTS:
            raise BadOption(f"--part is {text!r}, expected {', '.join(PARTS)}")
        return Part(text)
    form, most = NUMBERED[name]
    if not (number.isascii() and number.isdigit() and 1 <= int(number) <= (most or int(number))):
        to = f" to {most}" if most else ""
        raise BadOption(f"--part is {text!r}, {form} must be a whole number from 1{to}")
    return Part(name, int(number))


def by_model(option: str, values: Sequence[str], models: Sequence[str], shared: bool = False) -> Given:
    """Values written MODEL=VALUE, or VALUE alone for one model, or for all models where ``shared``.

    Raises BadOption for a value alone where it could be any model's, and for two values for one model.
    """
    named: dict[str, str] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or name not in models:
            name, value = (models[0] if len(models) == 1 else ""), text
        if not name and not shared:
            raise BadOption(f"{option} {text} could be any network's; write MODEL=…, MODEL one of {', '.join(models)}")
        if name in named:
            raise BadOption(f"{option} is given twice for {name or 'the same networks'}")
        named[name] = value
    plain = named.pop("", None)
    return Given(named, plain)


def cases(
    models: Sequence[str],
    parts: Sequence[Part],
    batches: Sequence[int],
    threads: Sequence[int],
    kinds: tuple[str, ...] | None = None,
    images: int | None = None,
) -> list[Case]:
    """Models × parts × batches × threads. Profiles take the largest batch; merging knows no batch."""
    return [
        Case(model, part, batch, count, kinds, images)
        for model in models
        for part in parts
        for batch in _batches(part, batches)
        for count in threads
    ]


def _batches(part: Part, batches: Sequence[int]) -> Sequence[int | None]:
    return (max(batches),) if part.name == "profile" else (None,) if part.name == "merge" else batches


FULL, SIMILARITY, PROFILE, MERGE = (Part(name) for name in ("full", "similarity", "profile", "merge"))
TARGETS: Mapping[str, tuple[Part, ...]] = {
    "torchvision:resnet50": (FULL, Part("last", 10), SIMILARITY),
    "torchvision:alexnet": (FULL, Part("last", 3), SIMILARITY, MERGE),
    "torchvision:vgg16": (FULL,),
    "squeezenet1_0": (FULL, SIMILARITY),
    "timm:inception_v4": (FULL,),
    "torchvision:densenet121": (FULL,),
    "resnet20": (FULL, SIMILARITY, MERGE),
    "lenet5": (),
}
"""The parts that the performance targets speak of, by model."""

PROFILED: Mapping[str, tuple[tuple[str, ...] | None, int]] = {
    "resnet20": (("synapse", "weight"), 20_000),
    "lenet5": (None, 60_000),
}
"""Targets for class profiles: kinds of sites and number of images, by model."""


def target_cases(
    models: Sequence[str],
    parts: Collection[Part],
    batches: Sequence[int],
    threads: Sequence[int],
    images: int | None,
    with_data: Collection[str],
) -> list[Case]:
    """The rows of the performance targets for ``models``; of ``parts`` alone where there are any.

    batches, threads: 1 and 8 (64 for profiles), 1 and 2 where empty. images: how many to profile, None for as many as
    the target says. with_data: models that have images of their own, for profiles. Raises BadOption for a model
    that is not among the targets, and where no row is left.
    """
    others = [model for model in models if model not in TARGETS]
    if others:
        raise BadOption(f"the preset does not measure {others[0]}; it measures {', '.join(TARGETS)}")
    found = []
    for model in models:
        found += cases([model], TARGETS[model], batches or (1, 8), threads or (1, 2))
        if model in PROFILED and model in with_data:
            kinds, count = PROFILED[model]
            found += cases([model], [PROFILE], batches or (64,), threads or (1, 2), kinds, images or count)
    kept = [case for case in found if not parts or case.part in parts]
    if not kept:
        raise BadOption("no row of the preset is left; class profiles need --data MODEL=DATA of their network")
    return kept
