"""A folder in which the examples of the help texts run: images, data, and the runs they name."""

from __future__ import annotations

import gzip
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from netpaths import cli
from netpaths.cli import attack, calibrate, profile, train
from netpaths.data import load_data

TINY = {
    "train": "--limit 500 --epochs 4",
    "profile": "--limit 100",
    "attack": "--limit 40",
    "evaluate": "--seeds 1 --bootstrap 20",
    "bench": "--repeats 1",
}
"""What the tests add to an example to make it quick; for options given twice the last counts."""


@dataclass(frozen=True)
class Outcome:
    """What a command did: exit code, and the text on stdout and stderr."""

    code: int
    out: str
    err: str


Call = Callable[..., Outcome]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command in this process; arguments are one text or several values."""

    def run(*arguments: object) -> Outcome:
        words = shlex.split(arguments[0]) if len(arguments) == 1 else [str(word) for word in arguments]  # type: ignore[arg-type]
        capsys.readouterr()
        code = cli.run(words)
        return Outcome(code, *capsys.readouterr())

    return run


def tiny(example: str) -> list[str]:
    """The words of an example behind ``netpaths``, made quick."""
    command = example.split()[1]
    return shlex.split(f"{example.replace('--fpr 0.05', '--fpr 0.2')} {TINY.get(command, '')}")[1:]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, MNIST-shaped files, and the runs of every command's first example."""
    folder = tmp_path_factory.mktemp("world")
    _write_images(folder)
    _write_mnist(folder / "data" / "mnist")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for module in (train, profile, attack, calibrate):
            assert cli.run(tiny(module.EXAMPLES[0])) == 0, module.EXAMPLES[0]
        assert cli.run(tiny(profile.EXAMPLES[1])) == 0
    return folder


@pytest.fixture
def inside(world: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The world as the current folder."""
    monkeypatch.chdir(world)
    return world


def stopped(words: list[str], checkpoint: Path, number: signal.Signals, code: int) -> str:
    """What a command says on stderr that a signal stops behind its next checkpoint."""
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else None
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before):
        time.sleep(0.005)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    return errors


def _write_images(folder: Path) -> None:
    images, _ = load_data("digits", "test")[:5]
    pixels = (images[:, 0] * 255).round().byte().numpy()
    (folder / "photos").mkdir()
    for number, pixel in enumerate(pixels):
        Image.fromarray(pixel).save(folder / "photos" / f"{number}.png")
    Image.fromarray(pixels[0]).save(folder / "photo.png")
    (folder / "broken.png").write_bytes((folder / "photo.png").read_bytes()[:60])


def _write_mnist(folder: Path) -> None:
    folder.mkdir(parents=True)
    for split, stem in (("train", "train"), ("test", "t10k")):
        images, labels = load_data("digits", split, limit=60)[:]
        pixels = (images[:, 0] * 255).round().byte().numpy()
        _write_idx(folder / f"{stem}-images-idx3-ubyte.gz", pixels)
        _write_idx(folder / f"{stem}-labels-idx1-ubyte.gz", labels.numpy().astype(np.uint8))


def _write_idx(file: Path, array: np.ndarray) -> None:
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    file.write_bytes(gzip.compress(head + array.tobytes()))
