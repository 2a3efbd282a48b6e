"""The one exception family of netpaths: every message names what is wrong and what would be right."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class NetpathsError(Exception):
    """Base of every error a user can cause; the command line prints it as one line and exits with 2."""


class NetpathsWarning(UserWarning):
    """What a user should know though nothing fails; the command line prints it as one line."""


class UnknownNode(NetpathsError):
    """A node name that the graph or path does not have."""

    def __init__(self, name: str, known: Iterable[str], hint: str = "") -> None:
        known = list(known)
        near = get_close_matches(name, known, n=3, cutoff=0.4) or known[:5]
        text = f"there is no node {name!r}; nearest: {', '.join(near) if near else 'none, it is empty'}"
        super().__init__(text + (f" ({hint})" if hint else ""))


def spells(name: object, own: str) -> bool:
    """Whether ``name`` is a node's ``own`` name, with dots or with underscores."""
    return name == own or name == own.replace(".", "_")


def known_as(name: str, known: Iterable[str], hint: str = "") -> str:
    """The one of ``known`` that ``name`` spells, with dots or underscores; raises UnknownNode naming the nearest."""
    known = list(known)
    found = [own for own in known if spells(name, own)]
    if name in found:
        return name
    if len(found) != 1:
        raise UnknownNode(name, known, hint)
    return found[0]


class UnsupportedOperation(NetpathsError):
    """A model contains operations without a rule."""


class BadInput(NetpathsError):
    """An image or batch of the wrong shape, type or with NaN or infinite values."""


class BadWeights(NetpathsError):
    """Model weights that are missing, misshapen, NaN or infinite."""


class BadOption(NetpathsError):
    """An argument outside its range or of the wrong kind."""


class EmptyClass(NetpathsError):
    """A class without a single correctly classified image."""


class BadFile(NetpathsError):
    """A file that is missing, truncated, corrupt, foreign or of another version."""


class ModelMismatch(NetpathsError):
    """A file made for another model."""


class MissingData(NetpathsError):
    """A data folder or file that is not there, or holds no images."""


class MissingExtra(NetpathsError):
    """An optional dependency that is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; install it with: pip install 'netpaths[{extra}]'")


class StorageFull(NetpathsError):
    """The disk is full or not writable; nothing half-written is left behind."""
