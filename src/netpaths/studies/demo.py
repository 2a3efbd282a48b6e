"""The demo: LeNet-5 on scikit-learn's bundled digits, from training to a monitor and its report; no download."""

from __future__ import annotations

from pathlib import Path as FilePath

import torch

from netpaths.data import load_data
from netpaths.graph import Graph
from netpaths.report.findings import Findings
from netpaths.studies.effective_path import Clock, run
from netpaths.studies.experiment import Plan, Progress, Subject
from netpaths.training import train
from netpaths.zoo import load_model, save_weights

EPOCHS = 12


def run_demo(folder: FilePath, seed: int, attacked: int, progress: Progress) -> Findings:
    """Train, profile, attack, fit, calibrate and evaluate; files go to ``folder``.

    Deterministic for a seed and a number of threads.
    """
    clock = Clock()
    torch.manual_seed(seed)
    model = load_model("lenet5")
    progress("training LeNet-5", 0, EPOCHS, "epochs")
    train_images, test_images = load_data("digits", "train"), load_data("digits", "test")
    train(
        model,
        train_images,
        epochs=EPOCHS,
        seed=seed,
        progress=lambda done, total, message: progress("training LeNet-5", done, total, "epochs"),
    )
    save_weights(model, folder / "model.safetensors", {"model": "lenet5", "data": "digits", "seed": seed})
    clock.lap("training")
    graph = Graph(model, test_images[[0]][0])
    subject = Subject(model, graph, train_images, test_images)
    plan = Plan(attacked=attacked, seeds=(seed, seed + 1, seed + 2), ablated=64)
    command = f"netpaths demo --seed {seed}"
    names = {"model": "lenet5", "data": "digits"}
    return run(subject, plan, folder, "LeNet-5 on handwritten digits", command, names, progress, clock)
