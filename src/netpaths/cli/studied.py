"""What the studies' commands share: the options of their subject, and the subject itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netpaths.cli import options

if TYPE_CHECKING:
    from netpaths.studies.experiment import Subject

Restrict = Annotated[bool, typer.Option("--restrict", help="Narrow the network to the classes of the data.")]
BatchSize = Annotated[
    int | None,
    typer.Option(
        help="Images computed at once, or auto: paths of as many as fit in memory, and attacks, whose random draws "
        "depend on it, of 64.  [default: auto]",
        parser=options.batch_size,
        metavar="N|auto",
    ),
]


def load_subject(given: Any) -> Subject:
    """The model, graph and data that a study's options name."""
    import numpy as np

    from netpaths.cli import subject
    from netpaths.studies.experiment import Subject
    from netpaths.zoo import Restricted

    network = subject.load_network(given["model"], given["weights"], given["normalize"], given["seed"], given["device"])
    train, test = (
        subject.load_images(
            given["data"], part, network, given["model"], given["size"], given["channels"],
            given["limit"] if part == "train" else None, given["seed"],
        )
        for part in ("train", "test")
    )  # fmt: skip
    if given["restrict"]:
        kept = np.unique(train.labels)
        network, train, test = Restricted(network, kept.tolist()), train.relabelled(kept), test.relabelled(kept)
    graph = subject.make_graph(network, given["model"], train.shape)
    train.check_labels(graph.classes)
    return Subject(network, graph, train, test)


def numbers(option: str, text: str | None) -> tuple[int, ...]:
    """Whole numbers from 1 with commas; raises BadOption naming the option."""
    from netpaths.cli.subject import names
    from netpaths.errors import BadOption

    parts = names(text) or ()
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise BadOption(f"{option} is {text!r}, expected whole numbers with commas, such as 25,100")
    return tuple(int(part) for part in parts)


def shares(option: str, text: str) -> tuple[float, ...]:
    """Shares in [0, 1] with commas; raises BadOption naming the option."""
    from netpaths.cli.subject import names
    from netpaths.errors import BadOption

    try:
        found = tuple(float(part) for part in names(text) or ())
    except ValueError:
        found = ()
    if not found or not all(0 <= share <= 1 for share in found):
        raise BadOption(f"{option} is {text!r}, expected shares in [0, 1] with commas, such as 0.8,0.5")
    return found


def attacks_of(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Attacks by name with their options; raises BadOption for one named twice, as a study takes one strength each."""
    from netpaths.cli.attacked import parse
    from netpaths.errors import BadOption

    parsed = [parse(text) for text in texts]
    if len(dict(parsed)) < len(parsed):
        raise BadOption("--attack names one attack twice; a study takes one strength of each")
    return dict(parsed)


def check_attacks(wanted: Mapping[str, Mapping[str, Any]], subject: Subject) -> None:
    """Raise BadOption for a wrong option of any attack, before anything is computed."""
    from netpaths.attacks import ATTACKS
    from netpaths.attacks.options import merged

    first, _ = subject.test[:1]
    for name, chosen in wanted.items():
        merged(name, ATTACKS[name].strengths, chosen, first)


def is_control(name: str) -> bool:
    """Whether an attack of this name is none, but a control."""
    from netpaths.attacks import ATTACKS

    return ATTACKS[name].control
