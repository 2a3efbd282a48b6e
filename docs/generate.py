"""Write the pages that repeat what the code knows: supported operations, attacks, commands.

Run it from anywhere: ``python docs/generate.py``. ``--quick`` leaves the table of architectures as it is, which takes a
few minutes to trace.
"""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
COMMAND = "python docs/generate.py"
LARGE = (3, 224, 224)
ARCHITECTURES: Mapping[str, tuple[int, int, int]] = {
    "lenet5": (1, 28, 28),
    "lenet300-100": (1, 28, 28),
    "resnet20": (3, 32, 32),
    "resnet32": (3, 32, 32),
    "squeezenet1_0": (3, 227, 227),
    "torchvision:alexnet": LARGE,
    "torchvision:vgg16": LARGE,
    "torchvision:vgg16_bn": LARGE,
    "torchvision:resnet50": LARGE,
    "torchvision:googlenet": LARGE,
    "torchvision:densenet121": LARGE,
    "torchvision:mobilenet_v2": LARGE,
    "torchvision:inception_v3": (3, 299, 299),
    "torchvision:shufflenet_v2_x1_0": LARGE,
    "torchvision:mnasnet1_0": LARGE,
    "timm:inception_v4": (3, 299, 299),
    "timm:resnetv2_50": LARGE,
    "torchvision:efficientnet_b0": LARGE,
    "torchvision:mobilenet_v3_small": LARGE,
    "torchvision:vit_b_16": LARGE,
}


def table(header: Sequence[str], rows: Iterable[Sequence[object]], right: Sequence[int] = ()) -> str:
    """A Markdown table; columns in ``right`` stand right."""
    lines = [list(header), ["--:" if place in right else "---" for place in range(len(header))]]
    lines += [[_cell(value) for value in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", "\\|").split())


def families_table() -> str:
    """Every layer family with the calls it covers, from the registry that tracing uses."""
    import netpaths  # noqa: F401  registers every rule
    from netpaths.graph import supported

    rows = [
        (family.kind, f"**{family.name}**", family.summary, ", ".join(f"`{own}`" for own in sorted(family.operations)))
        for family in supported()
    ]
    return table(("kind", "family", "what is covered", "operations"), rows)


def architectures_table() -> str:
    """Every model of `ARCHITECTURES`, traced: its size, or why it is refused."""
    rows = [(f"`{name}`", "×".join(map(str, shape)), *_traced(name, shape)) for name, shape in ARCHITECTURES.items()]
    header = ("model", "input", "supported", "nodes", "layers", "weights", "synapses", "refused for")
    return table(header, rows, right=(3, 4, 5, 6))


def _traced(name: str, shape: tuple[int, int, int]) -> tuple[str, ...]:
    import torch

    import netpaths

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = netpaths.load_model(name)
        try:
            graph = netpaths.Graph(model, torch.zeros(1, *shape))
        except netpaths.NetpathsError as error:
            return ("no", "", "", "", "", refusals(str(error)))
    layers = [graph.nodes[layer] for layer in graph.layers]
    weights = sum(layer.weight.numel() for layer in layers)
    synapses = sum(layer.field.synapses for layer in layers if layer.field is not None)
    return ("yes", str(len(graph.nodes)), str(len(layers)), f"{weights:,}", f"{synapses:,}", "")


def refusals(message: str) -> str:
    """The operations that a refusal names, with how often each occurs and the reason where there is one."""
    return "; ".join(_counted(line.strip().partition("×")[0]) for line in message.splitlines()[1:])


def _counted(line: str) -> str:
    operation, _, count = line.rpartition(": ")
    return f"{count} × {operation}" if operation else line


def sweep_table() -> str:
    """The sweep over classifiers of torchvision and timm, one row a family; see docs/sweep.py."""
    families: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in _swept():
        families.setdefault((row["model"].partition(":")[0], row["family"]), []).append(row)
    rows = []
    for (library, family), members in families.items():
        right = sum(row["state"] == "right" for row in members)
        names = ", ".join(f"`{row['model'].partition(':')[2]}`" for row in members)
        reasons = "; ".join(sorted({row["reason"] for row in members if row["reason"]}))
        rows.append((library, family, names, _ends(members, "nodes"), f"{right} of {len(members)}", reasons))
    return table(("library", "family", "models", "nodes", "right", "otherwise"), rows, right=(3, 4))


def _swept() -> list[dict[str, Any]]:
    """The rows of the sweep that were measured."""
    return [row for row in json.loads((DOCS / "sweep.json").read_text()) if "state" in row]


def _ends(members: Sequence[Mapping[str, Any]], name: str) -> str:
    """The least and the largest of a number that rows have."""
    known = sorted(row[name] for row in members if name in row)
    return "–".join(map(str, dict.fromkeys([*known[:1], *known[-1:]])))


def sweep_counts() -> str:
    """How many classifiers of each library are right, in one sentence."""
    rows = _swept()
    counts = []
    for library in ("torchvision", "timm"):
        own = [row for row in rows if row["model"].startswith(library)]
        counts.append(f"{sum(row['state'] == 'right' for row in own)} of {len(own)} of {library}")
    slow = sorted(row["trace_seconds"] for row in rows if "trace_seconds" in row)
    half, last = slow[len(slow) // 2], slow[-1]
    return f"Right are {', '.join(counts)}; a graph takes {half:g} s in the middle and at most {last:g} s."


def attacks_table() -> str:
    """Every attack and control with its default options per image size."""
    from netpaths.attacks import ATTACKS
    from netpaths.attacks.strengths import SIZES

    rows = [
        (f"`{name}`", _kind(attack), attack.summary, *(options(attack.strengths[size]) for size in SIZES))
        for name, attack in ATTACKS.items()
    ]
    return table(("name", "kind", "what it does", *SIZES), rows)


def _kind(attack: Any) -> str:
    return "control" if attack.control else "targeted attack" if attack.targeted else "attack"


def options(values: Mapping[str, Any]) -> str:
    """Options as ``name=value``, in the order of the registry; what is None is left out."""
    return ", ".join(f"{name}={number(value)}" for name, value in values.items() if value is not None)


def number(value: object) -> str:
    """A number as people write it: a multiple of 1/255 as such."""
    if isinstance(value, float) and 0 < value < 0.1 and abs(value * 255 - round(value * 255)) < 1e-9:
        return f"{round(value * 255)}/255"
    return f"{value:g}" if isinstance(value, float) else str(value)


def commands_page() -> str:
    """The command reference: every command's purpose, arguments, options and examples."""
    from netpaths.cli.app import commands

    parts = [
        "# Commands",
        f"This page is written by `{COMMAND}` from the commands themselves; `netpaths COMMAND --help` prints the same.",
        "An error of the user is one line on stderr and exit code 2; `--debug` adds the traceback.\n"
        "A command that a signal stops exits with 128 plus the signal's number (130 for Ctrl-C), "
        "an error of netpaths itself with 3.",
        *(_command(name, each) for name, each in commands().items()),
    ]
    return "\n\n".join(parts) + "\n"


def _command(name: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    chosen = [each for each in command.params if each.param_type_name == "option"]
    usage = " ".join(f"netpaths {name} {_usage(arguments)} [OPTIONS]".split())
    parts = [f"## netpaths {name}", str(command.help).strip(), f"```text\n{usage}\n```"]
    rows = [(f"`{_spelled(each)}`", _meaning(each)) for each in [*arguments, *chosen]]
    parts.append(table(("argument or option", "meaning"), rows))
    examples = re.findall(r"^\s+(netpaths .+)$", str(command.epilog or ""), re.MULTILINE)
    if examples:
        parts.append("```shell\n" + "\n".join(examples) + "\n```")
    return "\n\n".join(parts)


def _usage(arguments: Sequence[Any]) -> str:
    return " ".join(_argument(each) if each.required else f"[{_argument(each).strip('[]')}]" for each in arguments)


def _argument(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name.upper())
    return f"{name}…" if parameter.nargs == -1 or getattr(parameter, "multiple", False) else name


def _spelled(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return _argument(parameter)
    value = "" if isinstance(parameter.default, bool) else str(parameter.metavar or "VALUE")
    return f"{', '.join(parameter.opts)} {value}".strip()


def _meaning(parameter: Any) -> str:
    text = " ".join(str(parameter.help or "").replace("[default:", "Default:").replace("]", "").split())
    default = parameter.default
    if parameter.required:
        return f"{text} Required."
    if "Default:" in text or default is None or isinstance(default, bool) or callable(default):
        return text
    return f"{text} Default: {default}"


def section(page: str, name: str) -> str:
    """What stands between the marks of the generated section ``name`` of a page."""
    return _marks(name).search(page)[2]  # type: ignore[index]


def with_section(page: str, name: str, text: str) -> str:
    """``page`` with another text in its generated section ``name``."""
    return _marks(name).sub(lambda found: f"{found[1]}\n{text}\n{found[3]}", page)


def _marks(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- generated: {name} -->)\n(.*?)\n(<!-- end: {name} -->)", re.DOTALL)


def main(arguments: Sequence[str]) -> None:
    """Write every page."""
    sections = {
        "supported.md": {"families": families_table, "counts": sweep_counts, "sweep": sweep_table},
        "attacks.md": {"attacks": attacks_table},
    }
    if "--quick" not in arguments:
        sections["supported.md"]["architectures"] = architectures_table
    for file, makers in sections.items():
        page = (DOCS / file).read_text()
        for name, make in makers.items():
            page = with_section(page, name, make())
        (DOCS / file).write_text(page)
    (DOCS / "commands.md").write_text(commands_page())


if __name__ == "__main__":
    main(sys.argv[1:])
