"""Models, data and surroundings as users have them: what does not matter changes nothing, the rest is refused."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import netpaths
from netpaths import EffectivePath, Graph, Profile
from netpaths.errors import BadInput, BadWeights, NetpathsError, NetpathsWarning, UnsupportedOperation
from netpaths.zoo import import_torchvision

LABELS = torch.arange(12) % 3


class Small(nn.Module):
    """Two convolutions with a sum around the second, and a head; ``inner`` and ``head`` are what the tests change."""

    def __init__(self, inner: nn.Module | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)
        self.inner = inner or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first(x))
        return self.head(F.relu(y + self.inner(self.second(y))))

    def head(self, y: Tensor) -> Tensor:
        out: Tensor = self.fc(y.mean((2, 3)))
        return out


def images(count: int = 4, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(1)).to(dtype)


def same(first: list[netpaths.Path], second: list[netpaths.Path]) -> bool:
    """The same elements at the same places, whatever the fingerprint."""
    return all(
        list(a.sites) == list(b.sites) and all(torch.equal(a[site].dense(), b[site].dense()) for site in a)
        for a, b in zip(first, second, strict=True)
    )


def paths(model: nn.Module, x: Tensor) -> list[netpaths.Path]:
    return EffectivePath().extract(Graph(model, x[:1]), x)


# --- models ----------------------------------------------------------------------------------------------------------


class Keeps(Small):
    """Keeps something that cannot be copied, or what its last run computed."""

    def __init__(self, kept: Any) -> None:
        super().__init__()
        self.kept = kept

    def head(self, y: Tensor) -> Tensor:
        if isinstance(self.kept, list):
            self.kept.append(y)
        if isinstance(self.kept, dict):
            self.kept["last"] = y
        return super().head(y)


KEPT: dict[str, Callable[[], Any]] = {
    "a list of activations": list,
    "a dict of activations": dict,
    "a lock": threading.Lock,
    "an open file": lambda: sys.__stderr__,
    "a generator": lambda: (number for number in range(3)),
}


@pytest.mark.parametrize("name", KEPT)
def test_what_cannot_be_copied_does_not_matter(name: str) -> None:
    x, model = images(), Keeps(KEPT[name]()).eval()
    model(x)
    before = len(model.kept) if isinstance(model.kept, (list, dict)) else None
    assert same(paths(model, x), paths(Small().eval(), x))
    assert before is None or len(model.kept) == before


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_wrappers_are_looked_through(wrap: Callable[[nn.Module], nn.Module]) -> None:
    x = images()
    assert same(paths(wrap(Small().eval()), x), paths(Small().eval(), x))


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")
def test_scripted_models_are_refused_with_a_way_out() -> None:
    scripted = torch.jit.trace(Small().eval(), images())
    with pytest.raises(BadInput, match="pass the inner model"):
        Graph(scripted, images())


def test_lazy_layers_without_a_size_are_refused() -> None:
    with pytest.raises(BadWeights, match="run it once"):
        Graph(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), images())


def operations() -> Any:
    return import_torchvision().ops


DROPPED: dict[str, Callable[[], nn.Module]] = {
    "stochastic depth of rows": lambda: operations().StochasticDepth(0.2, "row"),
    "stochastic depth of batches": lambda: operations().StochasticDepth(0.2, "batch"),
    "drop block": lambda: operations().DropBlock2d(0.2, 3),
    "dropout": lambda: nn.Dropout(0.5),
    "channel dropout": lambda: nn.Dropout2d(0.5),
    "alpha dropout": lambda: nn.AlphaDropout(0.5),
}


@pytest.mark.parametrize("name", DROPPED)
def test_what_is_switched_off_in_evaluation_is_not_there(name: str) -> None:
    x = images()
    assert same(paths(Small(DROPPED[name]()).eval(), x), paths(Small().eval(), x))


def asserting(y: Tensor) -> Tensor:
    assert isinstance(y, Tensor)
    assert y.dim() == 4
    return y


def swapped(y: Tensor) -> Tensor:
    half = int(y.size(1) * 0.5)
    turned = torch.cat([y[:, half:], y[:, :half]], 1)
    return torch.cat([turned[:, half:], turned[:, :half]], 1)


def branching(y: Tensor) -> Tensor:
    if y.shape[1] != 4:
        raise ValueError("four channels please")
    return y


def filled(y: Tensor) -> Tensor:
    return torch.cat([y, torch.zeros(y.size(0), 2, y.size(2), y.size(3))], 1)[:, :4]


FOLLOWED: dict[str, Callable[[Tensor], Tensor]] = {
    "asserts": asserting,
    "a whole number made of a size": swapped,
    "the length of the batch": lambda y: y.view(len(y), -1).view(y.shape),
    "an unpacked shape": lambda y: y.view(*y.shape[:2], -1).view(y.shape),
    "a branch on the shape": branching,
    "zeros of the batch's size": filled,
}


class Refuses(Small):
    """Asks for the very type of a tensor, as a library does that looks for its backend."""

    def head(self, y: Tensor) -> Tensor:
        if type(y) is not Tensor:
            raise TypeError(f"a tensor is wanted, not {type(y)}")
        return super().head(y)


def test_what_cannot_be_followed_is_refused_with_its_line() -> None:
    with pytest.raises(UnsupportedOperation, match=r"a tensor is wanted.*test_honest_input\.py, line \d+"):
        Graph(Refuses().eval(), images())


def test_a_forward_that_runs_another_model_is_no_crash() -> None:
    model, other = Small().eval(), Small().eval()
    model.forward = lambda x: Small.forward(other, x)  # type: ignore[method-assign]
    x = images()
    with contextlib.suppress(UnsupportedOperation):
        assert torch.allclose(Graph(model, x).run(x).logits, model(x), atol=1e-6)


class Followed(Small):
    """A small network with Python in its forward that a trace of spellings cannot follow and that changes nothing."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def head(self, y: Tensor) -> Tensor:
        return super().head(FOLLOWED[self.kind](y))


@pytest.mark.parametrize("kind", FOLLOWED)
def test_python_in_forward_is_followed(kind: str) -> None:
    x, plain = images(), Small().eval()
    graph, wanted = Graph(Followed(kind).eval(), x[:1]), Graph(plain, x[:1])
    assert torch.equal(graph.run(x).logits, wanted.run(x).logits)
    for own, other in zip(EffectivePath().extract(graph, x), EffectivePath().extract(wanted, x), strict=True):
        for kept in ("x", "first", "second", "fc"):
            assert torch.equal(own.neurons(kept), other.neurons(kept)), kept


def test_len_is_plain_again() -> None:
    plain = len
    Graph(Followed("the length of the batch").eval(), images())
    assert len is plain


class Squeezed(Small):
    def head(self, y: Tensor) -> Tensor:
        out: Tensor = self.fc(F.adaptive_avg_pool2d(y, 1).squeeze())
        return out


def test_squeeze_without_an_axis_gives_a_lone_image_the_path_it_has_in_a_batch() -> None:
    x, model = images(5), Squeezed().eval()
    graph = Graph(model, x[:1])
    many, one = EffectivePath().extract(graph, x), EffectivePath().extract(graph, x[4:])[0]
    assert one.equals(many[4])
    labels = graph.run(x).predicted
    made = Profile.build(EffectivePath(), graph, [(x[:4], labels[:4]), (x[4:], labels[4:])])
    assert sum(made.images.values()) == 5


# --- surroundings ----------------------------------------------------------------------------------------------------


@contextmanager
def mixed() -> Iterator[None]:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        yield


AROUND: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "nothing": nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": mixed,
}

DONE: dict[str, Callable[[Graph, nn.Module, Tensor], Any]] = {
    "effective": lambda graph, model, x: EffectivePath(budget=True).extract(graph, x),
    "routing": lambda graph, model, x: netpaths.DistillationGuidedRouting(steps=4).extract(graph, x),
    "fgsm": lambda graph, model, x: netpaths.attack("fgsm", model, x, graph.run(x).predicted, epsilon=0.1).images,
    "traced inside": lambda graph, model, x: paths(model, x),
}


@pytest.mark.parametrize("what", DONE)
@pytest.mark.parametrize("around", [name for name in AROUND if name != "nothing"])
def test_what_stands_around_a_call_does_not_change_it(what: str, around: str) -> None:
    x, model = images(), Small().eval()
    graph = Graph(model, x[:1])
    wanted = DONE[what](graph, model, x)
    with AROUND[around]():
        found = DONE[what](graph, model, x)
    if isinstance(wanted, Tensor):
        assert torch.equal(found, wanted)
    else:
        assert same(found, wanted)
        assert [path.budget for path in found] == [path.budget for path in wanted]


def test_double_selects_what_float_selects() -> None:
    """The same numbers in both types: small whole ones, whose sums are exact."""
    x = (images() * 4).round()
    model = Small().eval()
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_((tensor * 8).round())
    single = paths(model, x)
    assert same(paths(model.double(), x.double()), single)


# --- data ------------------------------------------------------------------------------------------------------------


def one_hot(labels: Tensor) -> Tensor:
    return F.one_hot(labels, 3)


WRONG: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "a column": (lambda labels: labels[:, None], r"\(12, 1\).*class numbers are wanted, not one-hot rows or columns"),
    "one-hot": (one_hot, r"\(12, 3\).*class numbers are wanted"),
    "too few": (lambda labels: labels[:5], r"\(5,\).*expected \(12,\)"),
    "beyond the classes": (lambda labels: labels + 100, "from 100 to 102, the model has 3 classes"),
    "shares": (lambda labels: labels.float(), "torch.float32, expected"),
}


@pytest.mark.parametrize("name", WRONG)
def test_labels_are_refused_by_name(name: str) -> None:
    change, message = WRONG[name]
    x, model = images(12), Small().eval()
    with pytest.raises(BadInput, match=message):
        Profile.build(EffectivePath(), Graph(model, x[:1]), [(x, change(LABELS))])


@pytest.mark.parametrize("batch", [{"image": images()}, [images()], ((images(), LABELS[:4]),), "images"])
def test_batches_of_other_things_are_refused(batch: Any) -> None:
    graph = Graph(Small().eval(), images())
    with pytest.raises(BadInput, match=r"pairs \(images, labels\)"):
        Profile.build(EffectivePath(), graph, [batch])
    with pytest.raises(BadInput, match=r"pairs \(images, labels\)"):
        next(graph.stream([batch]))


def test_hidden_folders_are_no_classes(tmp_path: Path) -> None:
    for place in ("cat", "dog", ".ipynb_checkpoints", "cat/.ipynb_checkpoints"):
        (tmp_path / place).mkdir()
        for number in range(2):
            Image.new("RGB", (8, 8), (number * 90, 10, 20)).save(tmp_path / place / f"{number}.png")
    with pytest.warns(NetpathsWarning, match="hidden folders.*ipynb_checkpoints"):
        found = netpaths.load_data(str(tmp_path), size=8)
    assert list(found.classes) == ["cat", "dog"]
    assert found.labels.tolist() == [0, 0, 1, 1]
    with pytest.warns(NetpathsWarning, match="hidden folders.*ipynb_checkpoints"):
        assert netpaths.load_data(tmp_path, size=8).digest == found.digest


def test_weights_files_of_other_kinds_say_how_to_convert_them(tmp_path: Path) -> None:
    state = netpaths.load_model("lenet5").state_dict()
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises(BadWeights, match="save_file"):
        netpaths.load_model("lenet5", weights=tmp_path / "weights.pth")
    prefixed = {f"module.{name}": tensor.contiguous() for name, tensor in state.items()}
    save_file(prefixed, str(tmp_path / "parallel.safetensors"))
    with pytest.raises(BadWeights, match=r"prefix 'module\.'.*DataParallel"):
        netpaths.load_model("lenet5", weights=tmp_path / "parallel.safetensors")


def test_an_image_of_a_class_without_a_path_is_named() -> None:
    x, model = images(12), Small().eval()
    with torch.no_grad():
        model.fc.bias -= model(x).mean(0)
    graph = Graph(model, x[:1])
    labels = graph.run(x).predicted
    known = labels != labels[5]
    assert known.any()
    profile = Profile.build(EffectivePath(), graph, [(x[known], labels[known])])
    sources = [f"photo{number}.png" for number in range(12)]
    with pytest.raises(NetpathsError, match=f"photo{int((~known).nonzero()[0])}"):
        netpaths.extract_features(EffectivePath(), graph, profile, x, sources=sources)
