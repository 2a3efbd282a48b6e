"""The demo itself, with fewer attacked images: every promised file, figures in a plausible range, files that reload."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from netpaths import Graph, Profile, load_data, load_model
from netpaths.cli import run
from netpaths.detection import Features, load_detector

ATTACKS = {"fgsm", "bim", "deepfool", "cw", "jsma"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "run"
    assert run(["demo", "--attacked", "60", "--quiet", "--out", str(out), "--json", str(out) + ".json"]) == 0
    return out


@pytest.fixture(scope="module")
def graph(folder: Path) -> Graph:
    model = load_model("lenet5", folder / "model.safetensors")
    return Graph(model, load_data("digits", "test")[[0]][0])


def test_every_file_is_there(folder: Path) -> None:
    page = (folder / "report.html").read_text()
    assert "<title>" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert len(list((folder / "figures").glob("*.png"))) == len(list((folder / "figures").glob("*.svg"))) >= 12
    assert (folder / "tables" / "evaluation.csv").stat().st_size > 1000
    assert json.loads((folder / "config.json").read_text())["options"]["seed"] == 0


def test_the_monitor_detects_and_keeps_its_promise(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["model"]["test_accuracy"] > 0.95
    rows = {row["attack"]: row for row in summary["evaluation"] if row["detector"] == "joint"}
    assert set(rows) >= ATTACKS
    assert all(rows[name]["auroc"] > 0.85 for name in ATTACKS)
    assert rows["clean against clean"]["auroc"] == pytest.approx(0.5, abs=0.1)
    assert rows["fgsm"]["false_alarms_0.05_low"] <= 0.05 <= rows["fgsm"]["false_alarms_0.05_high"]
    removed = {
        row["order"]: row["accuracy"] for row in summary["ablation"] if (row["mode"], row["share"]) == ("remove", 1)
    }
    assert removed["largest"] < 0.3 < 0.8 < removed["outside"]


def test_files_belong_to_the_model(folder: Path, graph: Graph) -> None:
    profile = Profile.load(folder / "profile.safetensors", graph.fingerprint)
    detector, header = load_detector(folder / "detector.safetensors", graph.fingerprint)
    features = Features.load(folder / "features-synapse.safetensors")
    assert len(profile) == 10
    assert header["layers"] == list(graph.layers)
    assert detector.threshold_ is not None
    assert detector.score(features).shape == (len(features),)


def test_the_result_is_also_json(folder: Path) -> None:
    result = json.loads(Path(str(folder) + ".json").read_text())
    assert result["report"] == str(folder / "report.html")
    assert {row["attack"] for row in result["evaluation"]} >= ATTACKS


def test_check_uses_what_the_demo_made(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, _ = load_data("digits", "test")[[3]]
    Image.fromarray((images[0, 0] * 255).round().byte().numpy()).save(tmp_path / "digit.png")
    made = f"--weights {folder} --profile {folder} --detector {folder} --quiet"
    assert run(f"check {tmp_path / 'digit.png'} --model lenet5 {made}".split()) == 0
    assert "1 images flagged" in capsys.readouterr().out
