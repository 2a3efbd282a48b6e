"""Options that several commands share, spelled once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str,
    typer.Option(
        help="The network: lenet5, resnet20, …, torchvision:NAME, timm:NAME or FILE.py:FUNCTION.",
        metavar="NAME",
        show_default=False,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        help="Its weights: a safetensors state dict, or the folder of a train run.  [default: random from --seed]",
        metavar="FILE",
    ),
]
Normalize = Annotated[
    str | None,
    typer.Option(
        help="Pixel normalisation in front of the network: imagenet or none.  [default: the model's own]",
        metavar="NAME",
    ),
]
DATA = "The images: digits, mnist:DIR, cifar10:DIR, cifar100:DIR, FILE.parquet, or a folder of CLASS/IMAGE."
Data = Annotated[str, typer.Option(help=DATA, metavar="DATA", show_default=False)]
OptionalData = Annotated[str | None, typer.Option(help=f"{DATA}  [default: none]", metavar="DATA")]
Size = Annotated[
    int | None,
    typer.Option(
        help="Height and width to resize images to.  [default: the data's; a folder's: the model's]", min=1, metavar="N"
    ),
]
Channels = Annotated[
    int | None,
    typer.Option(
        help="Convert images to 1 or 3 channels.  [default: the data's; a folder's: the model's]",
        min=1,
        max=3,
        metavar="N",
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(help="Use that many images, drawn evenly over the classes.  [default: all]", min=1, metavar="N"),
]
Out = Annotated[Path, typer.Option(help="The run's folder.", metavar="DIR", show_default=False)]
OptionalOut = Annotated[
    Path | None, typer.Option(help="The run's folder.  [default: print only]", metavar="DIR", show_default=False)
]
Force = Annotated[bool, typer.Option("--force", help="Replace another run in --out.")]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, … or auto.", metavar="DEVICE")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.", min=0, metavar="N")]
AUTO = "auto"


def batch_size(text: str) -> int | None:
    """A number of images, None for auto; raises BadParameter."""
    if text == AUTO:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"expected a whole number of at least 1, or {AUTO}, not {text!r}")
    return int(text)


BatchSize = Annotated[
    int | None,
    typer.Option(
        help="Images computed at once, or auto: as many as fit in memory; paths do not depend on it.  [default: auto]",
        parser=batch_size,
        metavar="N|auto",
    ),
]
FixedBatchSize = Annotated[
    int,
    typer.Option("--batch-size", help="Images computed at once; the result depends on it.", min=1, metavar="N"),
]
Threads = Annotated[int | None, typer.Option(help="CPU threads.  [default: as torch chooses]", min=1, metavar="N")]
Json = Annotated[
    str | None, typer.Option("--json", help="Also write the result as JSON; - prints it instead.", metavar="FILE")
]
Method = Annotated[
    str,
    typer.Option(
        help="The notion of path, NAME or NAME:OPTION=VALUE,…: effective, routing (Wang et al. 2018), "
        "decoupling (Li et al. 2020, for a network of netpaths decouple), contribution, "
        "integrated-gradients, activation, weight, aar, awr or random.",
        metavar="METHOD",
    ),
]
Theta = Annotated[
    float,
    typer.Option(
        help="Effective paths: share of an active neuron's summed contributions that its chosen inputs must cover, "
        "in (0, 1].",
        metavar="SHARE",
    ),
]
Last = Annotated[
    int | None,
    typer.Option(
        help="Effective paths: stop after that many layers counted from the output.  [default: all]",
        min=1,
        metavar="N",
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(
        help="Layers to compare, with commas.  [default: all that the profile's paths compare]", metavar="NAMES"
    ),
]
Kind = Annotated[
    str | None,
    typer.Option(
        help="What to compare: synapse, weight, neuron or channel.  [default: the first of these that the paths have]",
        metavar="KIND",
    ),
]
Kinds = Annotated[str, typer.Option("--kind", help="Effective paths: what to keep, with commas.", metavar="KINDS")]
ProfileFile = Annotated[
    Path,
    typer.Option("--profile", help="Class paths: a file, or the folder of a profile run.", metavar="FILE"),
]
Attacked = Annotated[
    Path, typer.Option("--attacks", help="Attacked images: the folder of an attack run.", metavar="DIR")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no progress.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

DEVICE = "auto"
METHOD = "effective"
THETA = 0.5
KINDS = "neuron,synapse,weight"
