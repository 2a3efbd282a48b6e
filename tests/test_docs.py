"""The documentation says what the code does: generated pages are current, its Python runs, it builds offline."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.glob("*.md"), *DOCS.glob("methods/*.md")])
RUNNING = ("README.md", "docs/guide.md", "docs/attacks.md", "docs/extending.md", "docs/methods/ablation.md")
MACHINE = re.compile(r"(?<![\w.<)\]}:/])/(?:work|tmp|home|root|usr|mnt|data)\b")


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    """docs/generate.py as a module."""
    return _load("generate")


@pytest.fixture(scope="module")
def results_page(generate: ModuleType) -> ModuleType:
    """docs/results_page.py as a module."""
    return _load("results_page")


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _python(*arguments: str, where: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=where, env=environment, capture_output=True, text=True, timeout=300
    )


def test_families_are_current(generate: ModuleType) -> None:
    page = (DOCS / "supported.md").read_text()
    assert generate.section(page, "families") == generate.families_table(), "run python docs/generate.py"


def test_the_sweep_is_current(generate: ModuleType) -> None:
    page = (DOCS / "supported.md").read_text()
    assert generate.section(page, "counts") == generate.sweep_counts(), "run python docs/generate.py --quick"
    assert generate.section(page, "sweep") == generate.sweep_table(), "run python docs/generate.py --quick"


def test_attacks_are_current(generate: ModuleType) -> None:
    page = (DOCS / "attacks.md").read_text()
    assert generate.section(page, "attacks") == generate.attacks_table(), "run python docs/generate.py"


def test_commands_are_current(generate: ModuleType) -> None:
    assert (DOCS / "commands.md").read_text() == generate.commands_page(), "run python docs/generate.py --quick"


def test_every_option_of_every_command_is_there(generate: ModuleType) -> None:
    from netpaths.cli.app import commands

    parts = (DOCS / "commands.md").read_text().split("\n## netpaths ")[1:]
    pages = {part.partition("\n")[0]: part for part in parts}
    assert set(pages) == set(commands())
    for name, each in commands().items():
        for parameter in each.params:
            if parameter.param_type_name == "option":
                assert f"`{parameter.opts[0]}" in pages[name]


def test_small_architectures_are_current(generate: ModuleType) -> None:
    rows = generate.section((DOCS / "supported.md").read_text(), "architectures").splitlines()
    assert len(rows) == 2 + len(generate.ARCHITECTURES)
    for name in ("lenet5", "resnet20"):
        nodes, layers, weights, synapses = generate._traced(name, generate.ARCHITECTURES[name])[1:5]
        row = next(row for row in rows if row.startswith(f"| `{name}` "))
        assert row.endswith(f"| yes | {nodes} | {layers} | {weights} | {synapses} |  |")


def test_refusals_are_counted(generate: ModuleType) -> None:
    message = (
        "operations without a rule:\n  cumsum: 2×, e.g. first, own.py, line 3\n"
        "  sum (mixes the images of a batch): 1×, e.g. own.py, line 5\n  and 3 more kinds"
    )
    assert generate.refusals(message) == "2 × cumsum; 1 × sum (mixes the images of a batch); and 3 more kinds"


@pytest.mark.parametrize("page", RUNNING)
def test_python_of_a_page_runs(page: str, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    if "netpaths.attack(" in "".join(blocks):
        pytest.importorskip("foolbox", reason="attacks need foolbox")
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks))
    done = _python("-W", "ignore", str(script), where=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_no_directory_of_a_machine(page: Path) -> None:
    assert not MACHINE.search(page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)", page.read_text()):
        if not link.startswith(("http", "#")):
            assert (page.parent / link.partition("#")[0]).exists(), link


def test_commands_lose_their_directories(results_page: ModuleType) -> None:
    typed = "netpaths study --model m/net.py:make --weights /a/b/w.safetensors --data mnist:/a/b/MNIST --out=/c/d"
    expected = "--model MODELS/net.py:make --weights WEIGHTS/w.safetensors --data mnist:DATA/MNIST --out=RUNS/d"
    assert results_page.shortened(typed) == f"netpaths study {expected}"
    assert results_page.shortened("mnist:/a/b/MNIST/") == "mnist:DATA/MNIST"
    assert results_page.shortened("netpaths demo --seed 0") == "netpaths demo --seed 0"


def _summary() -> dict[str, Any]:
    """The smallest summary of a study run, made on a machine with directories."""
    versions = {"netpaths": "0.1.0"}
    method = {"name": "effective", "theta": 0.5, "last": None, "target": "contributions"}
    row = {"detector": "joint", "attack": "fgsm", "auroc": 0.9, "auroc_low": 0.8, "auroc_high": 0.95}
    rates = {f"{what}_0.05{end}": 0.05 for what in ("caught", "false_alarms") for end in ("", "_low", "_high")}
    null = {"detector": "joint", "kind": "null", "attack": "clean against clean", "auroc": 0.5, "caught_0.05": None}
    curve = {"kind": "weight", "order": "largest"}
    return {
        "command": "netpaths study effective-path --weights /a/b/lenet --data mnist:/a/b/MNIST --out /c/study",
        "model": {"name": "lenet5", "parameters": 7, "layers": 1, "fingerprint": "f" * 64, "test_accuracy": 0.99},
        "data": {"name": "mnist:/a/b/M", "classes": 2, "training_images": 9, "profiled_images": 8, "test_images": 7},
        "settings": {
            "method": method, "kinds": ["synapse"], "attacked": 4, "calibration": 3, "fit_share": 0.4,
            "seeds": [0, 1], "alpha": 0.05, "versions": versions, "threads": 1,
        },
        "density": {"synapse": 0.1, "neuron": 0.5},
        "densities": {"synapse": {"fc1": 0.1}, "neuron": {"x": 1.0, "fc1": 0.5}},
        "class_similarity": {
            "mean": 0.4, "mean_per_class": {"0": 0.4, "1": 0.4}, "lowest_class": "0", "highest_pair": ["0", "1"],
            "highest": 0.4,
        },
        "attacks": [
            {"name": "fgsm", "control": False, "options": {"epsilon": 8 / 255}, "tried": 4, "successful": 3,
             "success_rate": 0.75, "l2": 1.0, "linf": 0.03, "l0": 9.0, "seconds": 0.1},
        ],
        "seeds": [{"detector": "joint", "attack": "fgsm", "mean": 0.91, "sd": 0.01}],
        "unseen": [],
        "evaluation": [{**row, **rates, "kind": kind} for kind in ("attack", "all", "worst case")] + [null],
        "ablation": [{**curve, "mode": "remove", "share": 0.5, "accuracy": 0.7, "elements": 12.0}],
        "seconds": {"attacks": 1.0},
    }  # fmt: skip


def test_results_stand_beside_the_paper_and_name_no_machine(results_page: ModuleType) -> None:
    page = results_page.page({"study": _summary()})
    command = "netpaths study effective-path --weights WEIGHTS/lenet --data mnist:DATA/MNIST --out RUNS/study"
    assert page.count(f"Made by `{command}`.") == page.count("\n### ")
    assert "## lenet5 on mnist: study\n" in page
    assert "| **overall** | 10.0% | 50.0% | 13.8% of synapses |" in page
    assert "| fgsm | epsilon=8/255 | 4 | 3 (75.0%) | 1 | 0.03 | 9 | 0.1 |" in page
    assert "| fgsm | 0.900 [0.800, 0.950] |" in page
    assert "Paper (LeNet-5 on MNIST): .92–.95" in page
    assert "| fgsm | 0.910 ± 0.010 |" in page
    assert "/a/b" not in page


def test_a_discussion_stands_under_its_run(
    results_page: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "discussion").mkdir()
    (tmp_path / "discussion" / "study.md").write_text("What this means.\n")
    monkeypatch.setattr(results_page, "DOCS", tmp_path)
    assert "## lenet5 on mnist: study\n\nWhat this means.\n\n### " in results_page.page({"study": _summary()})


def test_the_documentation_builds_without_a_warning_or_a_network(tmp_path: Path) -> None:
    for package in ("sphinx", "furo", "myst_parser"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed; pip install -c constraints.txt -e '.[docs]'")
    out = tmp_path / "html"
    done = _python("-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS), str(out), where=ROOT)
    assert done.returncode == 0, done.stderr
    for page in out.rglob("*.html"):
        loaded = re.findall(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"(?:https?:)?//[^\"]*", page.read_text())
        assert not loaded, f"{page.name} loads {loaded}"
    assert "<math" in (out / "methods" / "effective-path.html").read_text()
