"""Write results.md from the summaries of study runs: ``python docs/results_page.py RUN_FOLDER…``.

Every table says which command made it; directories of the machine that ran it are cut away. A page
``docs/discussion/NAME.md`` (NAME is the run folder's) is put under the run's heading where it exists.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generate import options, table

DOCS = Path(__file__).resolve().parent
PATH_DETECTORS = ("joint", "forest", "boosting", "adaboost", "joint (weights)")
DETECTION_KINDS = ("attack", "all", "worst case")
PLACES = {"--data": "DATA", "--weights": "WEIGHTS", "--out": "RUNS", "--json": "RUNS", "--model": "MODELS"}


@dataclass(frozen=True)
class Paper:
    """What Qiu et al. (CVPR 2019) report for a network: title, synapse density, AUROC, class similarity."""

    title: str
    density: str
    auroc: str = ""
    similarity: str = ""


PAPERS = {
    "lenet": Paper(
        "LeNet-5 on MNIST",
        "13.8%",
        ".92–.95 over FGSM, BIM, DeepFool, C&W L2 and JSMA",
        "mean about .5; digit 1 lowest, about .35; 5 and 8 highest, about .6",
    ),
    "alexnet": Paper("AlexNet on ImageNet", "20.5%", ".85–.86, BIM .82"),
    "resnet": Paper("ResNet-50 on ImageNet, another network", "22.2%", ".88–.89"),
    "vgg": Paper("VGG-16 on ImageNet", "17.2%"),
    "inception_v4": Paper("Inception-v4 on ImageNet", "41.7%"),
}
NO_PAPER = Paper("no counterpart", "")

INTRODUCTION = """# Results

Every figure on this page comes from a run of the command printed with it, read from the run's `summary.json` by
`python docs/results_page.py RUN_FOLDER…`.
`DATA`, `RUNS`, `WEIGHTS` and `MODELS` stand for directories of your choice.

How to read it:

- *Paper* repeats what Qiu et al. (CVPR 2019) report, for the network and data named with it. Their model,
  weights, attack strengths and split differ from ours: in the released artifact images of one source lie on both sides
  of the split, here they never do.
- AUROC is the probability that an attacked image scores above a clean one. Brackets are 95% intervals, bootstrapped
  over source images. "±" is the standard deviation over random splits of the same images between fitting and testing;
  the model is not retrained and the attacks are not run again.
- *Worst case*: an image counts as caught only if all its attacks are.
- All attacks are oblivious: none knows of the detector. No figure here speaks of an attacker who does.
- [Detection](methods/detection.md) explains the protocol, [Attacks](attacks.md) the attacks and their options.
"""


def shortened(text: str) -> str:
    """A command or a data name without directories of the machine it ran on."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    options_before = ["", *words]
    return " ".join(_word(word, before) for before, word in zip(options_before, words))


def _word(word: str, option: str) -> str:
    if "=" in word and word.startswith("--"):
        name, _, value = word.partition("=")
        return f"{name}={_word(value, name)}"
    scheme, colon, rest = word.partition(":")
    scheme, rest = (f"{scheme}:", rest) if colon and "/" not in scheme and "/" in rest else ("", word)
    if "/" not in rest:
        return word
    return f"{scheme}{PLACES.get(option, 'DATA')}/{rest.rstrip('/').rpartition('/')[2]}"


def paper_of(model: str) -> Paper:
    """The paper's network that is most like ``model``."""
    return next((paper for name, paper in PAPERS.items() if name in model.lower()), NO_PAPER)


def page(runs: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page for run names with their summaries."""
    return "\n\n".join([INTRODUCTION.strip(), *(_run(name, summary) for name, summary in runs.items())]) + "\n"


def _run(name: str, summary: Mapping[str, Any]) -> str:
    paper = paper_of(str(summary["model"]["name"]))
    made = f"Made by `{shortened(summary['command'])}`"
    parts: list[tuple[str, str]] = [
        ("Model and data", _subject(summary)),
        ("Density of the overall path", _densities(summary, paper)),
        ("Similarity of classes", _classes(summary, paper)),
        ("Attacks", _attacks(summary)),
        ("AUROC of path detectors", _auroc(summary, PATH_DETECTORS, paper)),
        ("Over splits", _seeds(summary)),
        ("AUROC of baselines", _auroc(summary, _baselines(summary), NO_PAPER)),
        ("At the calibrated threshold", _thresholds(summary)),
        ("Controls", _controls(summary)),
        ("Attacks unseen in fitting", _unseen(summary)),
        ("What detection needs", _sweeps(summary)),
        ("Time per image", _cost(summary)),
        ("Ablation", _ablation(summary)),
        ("Seconds", _seconds(summary)),
    ]
    data = shortened(str(summary["data"]["name"])).partition(":")[0]
    title = f"## {summary['model']['name']} on {data}: {name}"
    shown = [f"### {heading}\n\n{made}.\n\n{text}" for heading, text in parts if text]
    return "\n\n".join([title, *_discussion(name), *shown])


def _discussion(name: str) -> list[str]:
    file = DOCS / "discussion" / f"{name}.md"
    return [file.read_text().strip()] if file.is_file() else []


def _subject(summary: Mapping[str, Any]) -> str:
    model, data, settings = summary["model"], summary["data"], summary["settings"]
    method, versions, fit = settings["method"], settings["versions"], settings["fit_share"]
    tested = f"{data['test_images']:,}; {settings['attacked']} attacked, up to {settings['calibration']} more calibrate"
    rows = [
        ("model", f"{model['name']}, {model['parameters']:,} parameters, {model['layers']} layers"),
        ("test accuracy", _percent(model["test_accuracy"])),
        ("data", f"{shortened(str(data['name']))}, {data['classes']} classes"),
        ("training images", f"{data['training_images']:,}, of which {data['profiled_images']:,} correct ones profiled"),
        ("test images", tested),
        ("fitting / testing", f"{fit:.0%} / {1 - fit:.0%} of the attacked source images"),
        ("path", f"θ = {method['theta']}, last = {method['last'] or 'all layers'}, target {method['target']}"),
        ("versions", ", ".join(f"{package} {version}" for package, version in versions.items())),
    ]
    return table(("", ""), rows)


def _densities(summary: Mapping[str, Any], paper: Paper) -> str:
    kinds = [kind for kind in ("synapse", "weight", "neuron") if kind in summary["density"]]
    printed = paper.density and f"{paper.density} of synapses"
    rows: list[tuple[str, ...]] = [("**overall**", *(_percent(summary["density"][kind]) for kind in kinds), printed)]
    nodes = dict.fromkeys(node for kind in kinds if kind != "neuron" for node in summary["densities"][kind])
    for node in nodes:
        rows.append((f"`{node}`", *(_percent(summary["densities"][kind].get(node)) for kind in kinds), ""))
    header = ("node", *(f"{kind}s" for kind in kinds), f"paper: {paper.title}")
    return table(header, rows, right=range(1, 1 + len(kinds)))


def _classes(summary: Mapping[str, Any], paper: Paper) -> str:
    found = summary["class_similarity"]
    lowest, pair = found["lowest_class"], " and ".join(found["highest_pair"])
    rows = [
        ("mean of all pairs", f"{found['mean']:.3f}"),
        (f"lowest class (mean with the others): {lowest}", f"{found['mean_per_class'][lowest]:.3f}"),
        (f"highest pair: {pair}", f"{found['highest']:.3f}"),
    ]
    printed = f"\n\nPaper ({paper.title}): {paper.similarity}." if paper.similarity else ""
    shown = table(("", "similarity"), rows, right=(1,))
    return f"Jaccard of {summary['settings']['kinds'][0]} sets.\n\n{shown}{printed}"


def _attacks(summary: Mapping[str, Any]) -> str:
    header = ("attack", "options", "tried", "succeeded", "mean L2", "mean L∞", "mean L0", "seconds")
    rows = [
        (
            f"{row['name']}{' (control)' if row['control'] else ''}",
            options(row["options"]),
            "" if row["control"] else row["tried"],
            "" if row["control"] else f"{row['successful']} ({_percent(row['success_rate'])})",
            *(_number(row[size], ".3g") for size in ("l2", "linf")),
            _number(row["l0"], ".0f"),
            _number(row["seconds"], ".1f"),
        )
        for row in summary["attacks"]
    ]
    return table(header, rows, right=range(2, 8))


def _baselines(summary: Mapping[str, Any]) -> tuple[str, ...]:
    names = dict.fromkeys(row["detector"] for row in summary["evaluation"])
    return tuple(name for name in names if name not in PATH_DETECTORS)


def _auroc(summary: Mapping[str, Any], detectors: Sequence[str], paper: Paper) -> str:
    found = {(row["attack"], row["detector"]): row for row in _judged(summary, DETECTION_KINDS)}
    attacks = dict.fromkeys(attack for attack, _ in found)
    shown = [name for name in detectors if any((attack, name) in found for attack in attacks)]
    rows = [(attack, *(_interval(found.get((attack, name)), "auroc") for name in shown)) for attack in attacks]
    printed = f"\n\nPaper ({paper.title}): {paper.auroc}." if paper.auroc else ""
    return table(("attack", *shown), rows) + printed if shown else ""


def _seeds(summary: Mapping[str, Any]) -> str:
    found = {(row["attack"], row["detector"]): row for row in summary["seeds"]}
    attacks = dict.fromkeys(attack for attack, _ in found)
    names = [*(name for name in PATH_DETECTORS if (next(iter(attacks), ""), name) in found), *_baselines(summary)]
    rows = [(attack, *(_spread(found.get((attack, name))) for name in names)) for attack in attacks]
    seeds = ", ".join(map(str, summary["settings"]["seeds"]))
    return f"AUROC, mean ± standard deviation over the splits {seeds}.\n\n{table(('attack', *names), rows)}"


def _thresholds(summary: Mapping[str, Any]) -> str:
    alpha = f"{summary['settings']['alpha']:g}"
    rows = {(row["detector"], row["kind"]): row for row in _judged(summary, ("all", "worst case"))}
    names = dict.fromkeys(name for name, _ in rows)
    header = ("detector", "false alarms", "attacks caught", "images with all attacks caught", "worst-case AUROC")
    lines = [
        (
            name,
            _share(rows.get((name, "all")), f"false_alarms_{alpha}"),
            _share(rows.get((name, "all")), f"caught_{alpha}"),
            _share(rows.get((name, "worst case")), f"caught_{alpha}"),
            _interval(rows.get((name, "worst case")), "auroc"),
        )
        for name in names
    ]
    about = (
        f"The threshold was calibrated for at most {float(alpha):.0%} false alarms on clean images of its own. "
        "Brackets are 95% Clopper–Pearson intervals, of AUROC bootstrap intervals."
    )
    return f"{about}\n\n{table(header, lines)}"


def _controls(summary: Mapping[str, Any]) -> str:
    alpha = f"{summary['settings']['alpha']:g}"
    found = {(row["detector"], row["attack"]): row for row in _judged(summary, ("null", "control"))}
    names, controls = dict.fromkeys(name for name, _ in found), dict.fromkeys(control for _, control in found)
    rows = [(name, *(_control(found.get((name, each)), alpha) for each in controls)) for name in names]
    rate = f"{float(alpha):.0%}"
    about = f"AUROC against clean images, and the share flagged at {rate}. An AUROC of .5 and {rate} mean: left alone."
    return f"{about}\n\n{table(('detector', *controls), rows)}" if rows else ""


def _control(row: Mapping[str, Any] | None, alpha: str) -> str:
    if row is None:
        return ""
    flagged = row.get(f"caught_{alpha}")
    return f"{row['auroc']:.3f}" + ("" if flagged is None else f", {_percent(flagged)} flagged")


def _unseen(summary: Mapping[str, Any]) -> str:
    if not summary["unseen"]:
        return ""
    alpha = f"{summary['settings']['alpha']:g}"
    rows = [
        (
            row["detector"],
            row["attack"],
            _interval(row, "auroc"),
            _share(row, f"caught_{alpha}"),
            _share(row, f"false_alarms_{alpha}"),
        )
        for row in summary["unseen"]
    ]
    header = ("detector", "attack left out", "AUROC on it", "caught", "false alarms")
    return f"The detector was fitted on all attacks but the one it is measured on.\n\n{table(header, rows)}"


SWEEPS = {
    "layers": "last layers compared",
    "samples": "source images fitted on",
    "profile": "training images a class in the profile",
}


def _sweeps(summary: Mapping[str, Any]) -> str:
    """AUROC over all attacks per sweep and value; long sweeps are thinned to a dozen values."""
    tables = []
    for sweep, title in SWEEPS.items():
        rows = [row for row in summary.get("sweeps", []) if row["sweep"] == sweep]
        if not rows:
            continue
        names = list(dict.fromkeys(row["detector"] for row in rows))
        found = {(row["value"], row["detector"]): row for row in rows}
        values = list(dict.fromkeys(row["value"] for row in rows))
        kept = [value for place, value in enumerate(values) if len(values) <= 12 or place % 2 or place == 0]
        extra = ("clean similarity",) if sweep == "profile" else ()
        cells = [
            (
                str(value),
                *(f"{found[(value, name)]['auroc']:.3f} ± {found[(value, name)]['sd']:.3f}" for name in names),
                *(f"{found[(value, names[0])]['clean_similarity']:.3f}" for _ in extra),
            )
            for value in kept
        ]
        tables.append(table((title, *names, *extra), cells, right=range(len(names) + 1 + len(extra))))
    about = "AUROC over all attacks, mean ± standard deviation over the splits."
    return f"{about}\n\n" + "\n\n".join(tables) if tables else ""


def _cost(summary: Mapping[str, Any]) -> str:
    cost = summary.get("cost")
    if not cost:
        return ""
    about = (
        f"Milliseconds per image, {cost['batch']:.0f} at once, medians of five runs with "
        f"{summary['settings']['threads']} threads; other work ran on the machine's other core, so the ratios say more."
    )
    titles = {"forward": "forward pass", "paths": "forward pass and the paths of both ranks", "check": "whole check"}
    rows = [(title, f"{cost[name]:.2f}", f"{cost[name] / cost['forward']:.1f}×") for name, title in titles.items()]
    return f"{about}\n\n{table(('work', 'ms', 'of a forward pass'), rows, right=(1, 2))}"


def _ablation(summary: Mapping[str, Any]) -> str:
    if not summary["ablation"]:
        return ""
    found = {(row["share"], row["mode"], row["order"]): row for row in summary["ablation"]}
    shares = list(dict.fromkeys(key[0] for key in found))
    curves = list(dict.fromkeys(key[1:] for key in found))
    kind = summary["ablation"][0]["kind"]
    rows = [
        (
            _percent(share),
            f"{found[(share, *curves[0])]['elements']:,.0f}",
            *(_percent(found[(share, *curve)]["accuracy"]) for curve in curves),
        )
        for share in shares
    ]
    about = (
        f"Accuracy when a share of the {kind}s of each image's path is switched off (remove) or is all that stays on "
        "(keep): the largest contributions first, the smallest first, at random; *outside* takes as many at random "
        "from the whole network."
    )
    header = ("share of the path", f"{kind}s per image", *(f"{mode}, {order}" for mode, order in curves))
    return f"{about}\n\n{table(header, rows, right=range(len(header)))}"


def _seconds(summary: Mapping[str, Any]) -> str:
    seconds = summary["seconds"]
    rows = [*((stage, f"{time:.1f}") for stage, time in seconds.items()), ("**all**", f"{sum(seconds.values()):.1f}")]
    about = f"Wall-clock time of the stages with {summary['settings']['threads']} threads."
    reused = " The class paths were read from an earlier run's file." if seconds.get("class paths", 1) < 0.01 else ""
    return f"{about}{reused}\n\n{table(('stage', 'seconds'), rows, right=(1,))}"


def _judged(summary: Mapping[str, Any], kinds: Iterable[str]) -> list[Mapping[str, Any]]:
    return [row for row in summary["evaluation"] if row["kind"] in tuple(kinds)]


def _interval(row: Mapping[str, Any] | None, name: str) -> str:
    if row is None or row.get(name) is None:
        return ""
    low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
    return f"{row[name]:.3f}" + ("" if low is None or high is None else f" [{low:.3f}, {high:.3f}]")


def _share(row: Mapping[str, Any] | None, name: str) -> str:
    if row is None or row.get(name) is None:
        return ""
    return f"{_percent(row[name])} [{_percent(row[f'{name}_low'])}, {_percent(row[f'{name}_high'])}]"


def _spread(row: Mapping[str, Any] | None) -> str:
    return "" if row is None else f"{row['mean']:.3f} ± {row['sd']:.3f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}" if value >= 0.001 or value == 0 else f"{value:.3%}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def read_runs(folders: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The summaries of run folders by the folders' names; exits with a message for a folder without one."""
    runs = {}
    for folder in map(Path, folders):
        file = folder / "summary.json"
        if not file.is_file():
            raise SystemExit(f"{file} is missing; make it with netpaths study or netpaths demo")
        runs[folder.resolve().name] = json.loads(file.read_text())
    return runs


def main(folders: Sequence[str]) -> None:
    """Write results.md for the runs in ``folders``; refuses to print a directory of this machine."""
    if not folders:
        raise SystemExit("usage: python docs/results_page.py RUN_FOLDER…")
    text = page(read_runs(folders))
    found = re.search(r"(?<![\w.)\]])/(?:\w[\w.-]*/)+", text.replace("/255", ""))
    if found:
        raise SystemExit(f"the page would show the directory {found[0]!r}")
    (DOCS / "results.md").write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
