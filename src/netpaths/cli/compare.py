"""netpaths compare: how alike classes are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netpaths.cli import options
from netpaths.cli.examples import section
from netpaths.cli.session import Session, table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from netpaths import path as paths
    from netpaths.profile import Profile
    from netpaths.runs import Run

    Matrix = NDArray[np.float64]
    ClassPaths = Mapping[int, paths.Path]

EXAMPLES = (
    "netpaths compare runs/profile",
    "netpaths compare runs/weights --kind weight --usual 0.5 --out runs/classes",
    "netpaths compare runs/profile runs/weights --kind weight --out runs/two",
)
FILES = ("similarity.csv", "similarity.png", "similarity.svg")

First = Annotated[Path, typer.Argument(metavar="PROFILE", help="A profile: a file, or a profile run's folder.")]
Second = Annotated[
    Path | None, typer.Argument(metavar="[OTHER]", help="A second profile of the same model.", show_default=False)
]
Usual = Annotated[
    float | None,
    typer.Option(
        "--usual",
        metavar="SHARE",
        help="Compare only what at least this share of a class's images select; profiles need --counts.  "
        "[default: all]",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare", epilog=section(*EXAMPLES))(compare)


def compare(
    context: typer.Context,
    profile: First,
    other: Second = None,
    kind: options.Kind = None,
    usual: Usual = None,
    out: options.OptionalOut = None,
    threads: options.Threads = None,
    force: options.Force = False,
    json: options.Json = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Compare every two class paths of a profile, or the class paths of two profiles of one model.

    Class paths are unions of many images' paths. Where nearly everything is on every union, --usual leaves out what
    only a few images select.
    """
    from netpaths.cli.subject import check_kind
    from netpaths.files import stored_checksum
    from netpaths.profile import Profile
    from netpaths.runs import file_of

    session = Session.of(context)
    files = [file_of(place, "profile.safetensors") for place in (profile, other) if place is not None]
    profiles = [Profile.load(file) for file in files]
    for each in profiles:
        check_kind(each, kind)
    class_paths = [each.paths if usual is None else each.usual(usual) for each in profiles]
    matrix = similarity_matrix(class_paths[0], class_paths[-1], kind, other is None)
    pairs = summary(matrix, list(profiles[0]), list(profiles[-1]), other is None)
    with session.maybe_run(FILES, {"profiles": [stored_checksum(file) for file in files]}) as run:
        if run is not None:
            _write(run, matrix, profiles, other is None)
    title = "Jaccard similarity of class paths" + ("" if usual is None else f", what {usual:.0%} of the images select")
    session.say(table(title, pairs), *([] if run is None else [f"wrote {out}"]))
    session.finish({"classes": [list(each) for each in profiles], "matrix": matrix, "summary": pairs})


def similarity_matrix(first: ClassPaths, second: ClassPaths, kind: str | None, same: bool) -> Matrix:
    """Jaccard of every class path of ``first`` (rows) with every one of ``second`` (columns)."""
    import numpy as np

    from netpaths.errors import EmptyClass
    from netpaths.similarity import class_matrix, jaccard

    if not len(first) or not len(second):
        raise EmptyClass("a profile without class paths has nothing to compare")
    if same:
        return class_matrix(first, kind)
    return np.array([[jaccard(one, other, kind) for other in second.values()] for one in first.values()])


def summary(matrix: Matrix, rows: list[int], columns: list[int], same: bool) -> list[dict[str, Any]]:
    """Mean, lowest and highest similarity, and between which classes."""
    import numpy as np

    keep = np.tril(np.ones_like(matrix, dtype=bool), -1) if same else np.ones_like(matrix, dtype=bool)
    keep &= ~np.isnan(matrix)
    if not keep.any():
        return [{"": "mean", "similarity": float("nan"), "classes": "no pair of classes"}]
    places = np.argwhere(keep)
    values = matrix[keep]
    ends = {"lowest": places[values.argmin()], "highest": places[values.argmax()]}
    found = [{"": "mean", "similarity": float(values.mean()), "classes": f"{len(values)} pairs"}]
    return found + [
        {"": name, "similarity": float(matrix[tuple(place)]), "classes": f"{rows[place[0]]} and {columns[place[1]]}"}
        for name, place in ends.items()
    ]


def _write(run: Run, matrix: Matrix, profiles: list[Profile], same: bool) -> None:
    from netpaths.report.similarity_figures import class_matrix_figure
    from netpaths.report.style import save_figure
    from netpaths.report.tables import write_csv

    labels = [list(each) for each in profiles]
    rows = [
        {"class": label, **{str(column): value for column, value in zip(labels[-1], values)}}
        for label, values in zip(labels[0], matrix)
    ]
    write_csv(run.path("similarity.csv"), rows)
    names = [[str(label) for label in each] for each in labels]
    figure = class_matrix_figure(matrix, names[0]) if same else _two_profiles_figure(matrix, names[0], names[-1])
    save_figure(figure, run.folder, "similarity")


def _two_profiles_figure(matrix: Matrix, rows: list[str], columns: list[str]) -> Any:
    from netpaths.report.style import COLUMN, name_ticks, new_figure, ramp

    figure = new_figure(COLUMN, COLUMN * 0.92)
    axes = figure.subplots()
    heat = axes.imshow(matrix, cmap=ramp("blue"), interpolation="none")
    name_ticks(axes, columns, "x")
    name_ticks(axes, rows, "y")
    axes.set(xlabel="class of the second profile", ylabel="class of the first profile")
    figure.colorbar(heat, ax=axes, shrink=0.82).set_label("Jaccard similarity of two class paths")
    return figure
