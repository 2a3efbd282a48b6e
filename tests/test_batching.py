"""How many images are computed at once, from made-up figures of memory."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from netpaths import Graph, batching

PIXELS = 16 * 16
IMAGE = batching.PER_VALUE * 4 * (3 * PIXELS + 10)
"""Estimated bytes of an image of `graph`: input, relu, flatten and logits."""
CPU = torch.device("cpu")


@pytest.fixture
def graph() -> Graph:
    return Graph(nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(PIXELS, 10)), torch.zeros(1, 1, 16, 16))


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the root, with proc and sys/fs/cgroup; 8,000,000 KiB are available."""
    monkeypatch.setattr(batching, "PROC", tmp_path / "proc")
    monkeypatch.setattr(batching, "CGROUP", tmp_path / "sys")
    write(tmp_path / "proc" / "meminfo", "MemTotal: 16000000 kB\nMemFree: 100 kB\nMemAvailable: 8000000 kB\n")
    return tmp_path


def write(file: Path, text: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n")


def has(monkeypatch: pytest.MonkeyPatch, available: float) -> None:
    monkeypatch.setattr(batching, "available_memory", lambda device: int(available))


def test_an_image_takes_the_values_of_every_node(graph: Graph) -> None:
    assert batching.bytes_per_image(graph) == IMAGE


def test_doubles_take_twice_as_much() -> None:
    double = Graph(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).double(), torch.zeros(1, 1, 2, 2).double())
    assert batching.bytes_per_image(double) == batching.PER_VALUE * 8 * (4 + 4 + 2)


@pytest.mark.parametrize(("fit", "expected"), [(0.5, 1), (1, 1), (2, 2), (3.9, 2), (4, 4), (255, 128), (1e9, 256)])
def test_a_share_of_the_memory_in_powers_of_two(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, fit: float, expected: int
) -> None:
    has(monkeypatch, fit * IMAGE / batching.SHARE + 1)
    assert batching.fitting_batch(graph) == expected


def test_another_share(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, 16 * IMAGE + 1)
    assert batching.fitting_batch(graph, share=1.0) == 16


def test_a_cpu_takes_no_more_than_makes_it_faster(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, 1e15)
    monkeypatch.setattr(batching, "ENOUGH", 9 * IMAGE)
    assert batching.fitting_batch(graph) == 8
    monkeypatch.setitem(vars(graph), "device", torch.device("cuda"))
    assert batching.fitting_batch(graph) == batching.LARGEST


def test_linux_says_what_is_available(system: Path) -> None:
    assert batching.available_memory(CPU) == 8_000_000 * 1024


@pytest.mark.parametrize(
    ("line", "folder", "names"),
    [
        ("0::/jobs/one", "jobs/one", batching.VERSION_2),
        ("0::/jobs/one", "jobs", batching.VERSION_2),
        ("0::/jobs/one", ".", batching.VERSION_2),
        ("4:cpu,memory:/jobs/one", "memory/jobs/one", batching.VERSION_1),
        ("4:memory:/outside/the/container", "memory", batching.VERSION_1),
    ],
)
def test_a_control_group_around_the_process_leaves_less(
    system: Path, line: str, folder: str, names: tuple[str, str, str]
) -> None:
    limit, use, reclaimable = names
    write(system / "proc" / "self" / "cgroup", f"7:cpuset:/elsewhere\n{line}")
    write(system / "sys" / folder / limit, 5_000_000)
    write(system / "sys" / folder / use, 3_000_000)
    assert batching.available_memory(CPU) == 2_000_000
    write(system / "sys" / folder / "memory.stat", f"anon 1\n{reclaimable} 400000\nother 7")
    assert batching.available_memory(CPU) == 2_400_000


def test_the_tightest_group_counts_and_never_less_than_nothing(system: Path) -> None:
    limit, use, _ = batching.VERSION_2
    write(system / "proc" / "self" / "cgroup", "0::/jobs/one")
    for folder, allowed, used in (("jobs/one", 5_000_000, 1_000_000), ("jobs", 6_000_000, 5_500_000)):
        write(system / "sys" / folder / limit, allowed)
        write(system / "sys" / folder / use, used)
    assert batching.available_memory(CPU) == 500_000
    write(system / "sys" / "jobs" / use, 7_000_000)
    assert batching.available_memory(CPU) == 0


def test_a_group_without_a_limit_does_not_count(system: Path) -> None:
    limit, use, _ = batching.VERSION_2
    write(system / "proc" / "self" / "cgroup", "0::/jobs/one")
    write(system / "sys" / "jobs" / "one" / limit, "max")
    write(system / "sys" / "jobs" / "one" / use, 1)
    assert batching.available_memory(CPU) == 8_000_000 * 1024


def test_other_systems_count_pages(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (system / "proc" / "meminfo").unlink()
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000, "SC_AVPHYS_PAGES": 10}

    def sysconf(name: str) -> int:
        if name not in pages:
            raise ValueError(f"unrecognized configuration name {name}")
        return pages[name]

    monkeypatch.setattr(batching, "os", SimpleNamespace(sysconf=sysconf))
    assert batching.available_memory(CPU) == 10 * 4096
    del pages["SC_AVPHYS_PAGES"]
    assert batching.available_memory(CPU) == 1000 * 4096
    monkeypatch.setattr(batching, "os", SimpleNamespace())
    assert batching.available_memory(CPU) == batching.UNKNOWN


def test_a_gpu_counts_what_torch_keeps_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 9000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 200)
    assert batching.available_memory(torch.device("cuda")) == 1300


def test_this_machine_has_memory() -> None:
    assert batching.available_memory(CPU) > 0
