"""What a page is made of: tables, pictures with their description, key figures, and the rendering of templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netpaths.report.style import data_uri, save_figure
from netpaths.report.tables import value_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TEMPLATES = Path(__file__).parent


@dataclass(frozen=True)
class Table:
    """A table of text: numeric columns (by index) are aligned right, ``strong`` rows (by index) stand out."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[int] = frozenset()
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True, eq=False)
class Illustration:
    """A figure with its file name, its caption and its description for those who do not see it."""

    name: str
    figure: Figure
    caption: str
    alt: str
    wide: bool = False


@dataclass(frozen=True)
class Picture:
    """An illustration as the page shows it: an image without a request."""

    name: str
    uri: str
    caption: str
    alt: str
    wide: bool


@dataclass(frozen=True)
class KeyFigure:
    """A number that stands for itself: what it is, the number, and what to know about it."""

    label: str
    value: str
    note: str


def embed(illustration: Illustration, folder: Path) -> Picture:
    """Save an illustration as ``folder/name.svg`` and ``.png``; returns it for the page. Raises StorageFull."""
    drawing = save_figure(illustration.figure, folder, illustration.name)
    return Picture(illustration.name, data_uri(drawing), illustration.caption, illustration.alt, illustration.wide)


def pairs(caption: str, values: Mapping[str, Any]) -> Table:
    """Names and values as a table of two columns."""
    return Table(caption, ("name", "value"), [(name, value_text(value)) for name, value in values.items()])


def render(template: str, **values: Any) -> str:
    """The HTML of ``template`` with every value escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)
