"""Which classifiers of torchvision and timm are followed, one process a model: the rows of ``docs/sweep.json``.

Run it from anywhere: ``python docs/sweep.py --workers 2``; it goes on where it was stopped. ``--again`` measures every
row anew, ``--only NAME`` those whose name holds it. To try another model, add a row with its name and input.
``python docs/generate.py`` puts the rows into docs/supported.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from generate import refusals

ROWS = Path(__file__).resolve().with_name("sweep.json")
SECONDS = 300
"""Longest time for one model."""

RENEWED = 8
"""Models that one process looks at before another takes its place, so that memory does not pile up."""

Row = dict[str, Any]


def measured(row: Row) -> Row:
    """The row with what came of its model: right, wrong or refused, and why.

    Right is a graph that computes the model's logits on an image that it was not traced with, whose path of that image
    predicts what the model does and reaches the pixels.
    """
    import torch

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _stop)
    signal.alarm(SECONDS)
    try:
        return {**_named(row), **_outcome(row)}
    except Exception as error:
        said = refusals(str(error)) or str(error).partition("\n")[0]
        return {**_named(row), "state": "refused", "reason": said}
    finally:
        signal.alarm(0)


def _named(row: Mapping[str, Any]) -> Row:
    return {"model": row["model"], "size": row["size"], "family": _family(row["model"])}


def _outcome(row: Mapping[str, Any]) -> Row:
    import torch

    import netpaths

    torch.manual_seed(0)
    model = netpaths.load_model(row["model"])
    images = torch.rand(2, 3, row["size"], row["size"])
    with torch.no_grad():
        logits = model(images)
    begun = time.perf_counter()
    graph = netpaths.Graph(model, images[:1])
    traced = time.perf_counter() - begun
    path = netpaths.EffectivePath().extract(graph, images)[1]
    with torch.no_grad():
        apart = float((graph.run(images).logits - logits).abs().max() / logits.abs().max().clamp_min(1e-6))
    right = {
        "logits": apart < 1e-3,
        "prediction": path.predicted == int(logits[1].argmax()),
        "pixels": len(path.neurons(graph.input)) > 0,
    }
    wrong = [name for name, fine in right.items() if not fine]
    return {
        "state": "wrong" if wrong else "right",
        "reason": ", ".join(wrong),
        "parameters": sum(each.numel() for each in model.parameters()),
        "nodes": len(graph.nodes),
        "layers": len(graph.layers),
        "trace_seconds": round(traced, 1),
    }


def _family(name: str) -> str:
    """The module of torchvision or timm that defines a model."""
    library, _, own = name.partition(":")
    if library == "timm":
        from netpaths.zoo import import_timm

        return str(import_timm().models.model_entrypoint(own).__module__.rpartition(".")[2])
    from netpaths.zoo import import_torchvision

    return str(import_torchvision().models.get_model_builder(own).__module__.rpartition(".")[2])


def _stop(number: int, frame: Any) -> None:
    raise TimeoutError(f"no answer within {SECONDS} s")


def sweep(rows: Sequence[Row], workers: int) -> Iterator[Row]:
    """Every row measured, as they come."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, maxtasksperchild=RENEWED) as pool:
        yield from pool.imap_unordered(measured, rows)


def main(arguments: Sequence[str]) -> int:
    """Measure what is missing; returns how many rows are not right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--only", default="", metavar="NAME")
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args(arguments)
    os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1")
    rows = {row["model"]: row for row in json.loads(ROWS.read_text())}
    chosen = [row for name, row in rows.items() if options.only in name and (options.again or "state" not in row)]
    for row in sweep(chosen, options.workers):
        rows[row["model"]] = row
        print(row["model"], row["state"], row["reason"], flush=True)
        text = json.dumps(list(rows.values()), indent=0)
        part = ROWS.with_suffix(".part")
        part.write_text(text + "\n")
        part.replace(ROWS)
    return sum(row.get("state") != "right" for row in rows.values())


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 1))
