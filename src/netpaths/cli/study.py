"""netpaths study: the tables and figures of a paper, on your model and data; one subcommand per study."""

from __future__ import annotations

import typer

from netpaths.cli import study_cdrp, study_decoupling, study_effective_path, study_head_to_head

STUDIES = (study_effective_path, study_cdrp, study_decoupling, study_head_to_head)


def register(app: typer.Typer) -> None:
    """Add the command with its studies."""
    studies = typer.Typer(
        help="Run a paper's experiments on a trained network and write its tables, figures and report.",
        no_args_is_help=True,
        epilog="netpaths study STUDY --help explains a study and gives examples.",
        rich_markup_mode=None,
    )
    for module in STUDIES:
        module.register(studies)
    app.add_typer(studies, name="study")
