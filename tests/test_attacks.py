"""Attacks: success, budgets, other libraries as oracles, an exhaustive JSMA step, and the untouched model."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from netpaths.attacks import ATTACKS, AttackResult, attack, default_options
from netpaths.attacks.jsma import best_pairs
from netpaths.attacks.options import choose_targets
from netpaths.data import Images
from netpaths.errors import BadInput, BadOption, MissingExtra

REAL = [name for name, method in ATTACKS.items() if not method.control]
CONTROLS = [name for name, method in ATTACKS.items() if method.control]
FAST = {"cw": {"steps": 40}, "targeted-cw": {"steps": 40}}  # enough for 28x28 digits


@pytest.fixture(scope="module")
def batch(digits_test: Images) -> tuple[Tensor, Tensor]:
    return digits_test.take(slice(0, 20))[:]


@pytest.fixture(scope="module")
def results(digits_lenet: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, AttackResult]:
    return {name: attack(name, digits_lenet, *batch, **FAST.get(name, {})) for name in ATTACKS}


@pytest.mark.parametrize("name", ATTACKS)
def test_results_are_judged_by_the_plain_model(
    name: str, results: dict[str, AttackResult], digits_lenet: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    result, (images, labels) = results[name], batch
    with torch.no_grad():
        clean, after = digits_lenet(images).argmax(1), digits_lenet(result.images).argmax(1)
    np.testing.assert_array_equal(result.adversarial_label, after)
    expected = (clean == labels) & (after != labels)
    assert result.success.tolist() == (expected.tolist() if name in REAL else [False] * len(images))
    assert 0 <= float(result.images.min()) <= float(result.images.max()) <= 1
    difference = (result.images - images).flatten(1).double().numpy()
    assert result.l2 == pytest.approx(np.linalg.norm(difference, axis=1), rel=1e-4)
    assert result.linf == pytest.approx(abs(difference).max(1), rel=1e-4)
    assert result.l0.tolist() == (abs(difference) > 1e-6).sum(1).tolist()


@pytest.mark.parametrize("name", REAL)
def test_attacks_succeed_on_most_images(name: str, results: dict[str, AttackResult]) -> None:
    assert results[name].success_rate >= 0.7
    counted = results[name].successful()
    assert len(counted) == results[name].success.sum()
    assert (counted.clean_label == counted.label).all()
    assert (counted.adversarial_label != counted.label).all()
    assert len(counted.images) == len(counted.source) == len(counted.l2)


@pytest.mark.parametrize("name", ["fgsm", "bim", "pgd", "targeted-fgsm", "targeted-bim"])
def test_epsilon_is_kept(name: str, results: dict[str, AttackResult]) -> None:
    assert (results[name].linf <= results[name].options["epsilon"] + 1e-6).all()


def test_jsma_keeps_its_budget(results: dict[str, AttackResult]) -> None:
    assert (results["jsma"].l0 <= 0.145 * 784 + 2).all()


@pytest.mark.parametrize("name", ["jsma", "targeted-cw", "targeted-fgsm", "targeted-bim"])
def test_targets_are_mostly_reached(name: str, results: dict[str, AttackResult]) -> None:
    result = results[name]
    assert (result.target != result.label).all()
    assert (result.target == result.adversarial_label)[result.success].mean() > 0.7


def test_bim_is_foolboxs(digits_lenet: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    foolbox = pytest.importorskip("foolbox")
    images, labels = batch
    model = foolbox.PyTorchModel(digits_lenet.eval(), bounds=(0, 1), device="cpu")
    method = foolbox.attacks.LinfBasicIterativeAttack(rel_stepsize=0.25, steps=5)
    _, expected, _ = method(model, images, labels, epsilons=0.05)
    digits_lenet.zero_grad(set_to_none=True)
    result = attack("bim", digits_lenet, images, labels, epsilon=0.05, stepsize=0.25, steps=5)
    right = torch.from_numpy(result.clean_label) == labels
    torch.testing.assert_close(result.images[right], expected[right])
    assert torch.equal(result.images[~right], images[~right])


def test_targeted_bim_is_ten_steps_of_a_hundredth(digits_lenet: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    """Wang et al. (CVPR 2018), supplement: every step goes down the cross entropy with the target class."""
    images, labels = batch
    result = attack("targeted-bim", digits_lenet, images, labels, seed=2, epsilon=0.1)
    assert all(default_options("targeted-bim", (3, size, size)) == result.options for size in (32, 224))
    changed, targets = images.clone(), torch.from_numpy(result.target)
    for _ in range(10):
        changed.requires_grad_()
        loss = nn.functional.cross_entropy(digits_lenet(changed), targets, reduction="sum")
        (slope,) = torch.autograd.grad(loss, changed)
        changed = (changed.detach() - 0.01 * slope.sign()).clamp(0, 1)
    right = torch.from_numpy(result.clean_label) == labels
    torch.testing.assert_close(result.images[right], changed[right])


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_permuted_targets_are_one_cycle_of_all_classes(classes: int) -> None:
    labels, logits = torch.arange(classes).flip(0), torch.zeros(classes, classes)
    targets = {seed: choose_targets("permuted", logits, labels, seed) for seed in (0, 1, 2)}
    for seed, each in targets.items():
        after = dict(zip(labels.tolist(), each.tolist()))
        visited = [0]
        while (following := after[visited[-1]]) != 0:
            visited.append(following)
        assert sorted(visited) == list(range(classes))
        some = torch.arange(5) % classes
        again = choose_targets("permuted", torch.rand(5, classes), some, seed)
        assert again.tolist() == [after[label] for label in some.tolist()]
    assert len({tuple(each.tolist()) for each in targets.values()}) > 1 or classes < 10


class Softened(nn.Module):
    """Probabilities at a high temperature; there the JSMA's pair is the two largest target gradients."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.model(x) / 20, 1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_jsma_is_arts_on_probabilities(digits_lenet: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    evasion = pytest.importorskip("art.attacks.evasion")
    from art.estimators.classification import PyTorchClassifier

    images, labels = batch[0][:8], batch[1][:8]
    model = Softened(digits_lenet).eval()
    targets = (labels + 1) % 10
    classifier = PyTorchClassifier(model, nn.CrossEntropyLoss(), (1, 28, 28), 10, clip_values=(0, 1), device_type="cpu")
    method = evasion.SaliencyMapMethod(classifier, theta=0.5, gamma=0.05, batch_size=8, verbose=False)
    expected = method.generate(images.numpy(), targets.numpy())
    digits_lenet.zero_grad(set_to_none=True)
    result = attack("jsma", model, images, labels, theta=0.5, gamma=0.05, target=targets)
    right = result.clean_label == labels.numpy()
    same = np.isclose(result.images.numpy(), expected, atol=1e-5).all((1, 2, 3))
    assert right.sum() >= 6
    assert same[right].all()


@pytest.mark.parametrize("seed", range(20))
def test_saliency_pairs_are_the_exhaustive_best(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, 5, 30, generator=generator, dtype=torch.float64)
    a -= seed / 4  # from plenty of salient pairs to hardly any
    free = torch.rand(5, 30, generator=generator) > 0.4
    pairs, found = best_pairs(a, b, free)
    for row in range(5):
        best, value = exhaustive(a[row].tolist(), b[row].tolist(), free[row].tolist())
        assert bool(found[row]) == (value > -np.inf)
        if found[row]:
            assert sorted(pairs[row].tolist()) == best


def exhaustive(a: list[float], b: list[float], free: list[bool]) -> tuple[list[int], float]:
    salient, fallback = [], []
    for p in range(len(a)):
        for q in range(p + 1, len(a)):
            alpha, beta = a[p] + a[q], b[p] + b[q]
            if free[p] and free[q] and alpha > 0 and beta < 0:
                salient.append((-alpha * beta, [p, q]))
            elif free[p] and free[q] and alpha - beta > 0:
                fallback.append((alpha - beta, [p, q]))
    value, pair = max(salient or fallback or [(-np.inf, [])])
    return pair, value


def test_jsma_takes_colour_images() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 5, stride=4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        labels = model(images).argmax(1)
    result = attack("jsma", model, images, labels, gamma=0.02)
    assert result.success.all()
    assert (result.l0 <= 0.02 * 3072 + 2).all()
    reverse = attack("jsma", model, images, labels, gamma=0.02, theta=-1.0)
    assert reverse.success.any()


def test_noise_matches_a_given_size(digits_lenet: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    wanted = np.linspace(0.5, 3, 20)
    result = attack("noise", digits_lenet, *batch, batch_size=7, l2=wanted, linf=None)
    assert result.l2 == pytest.approx(wanted, rel=1e-3)
    result = attack("noise", digits_lenet, *batch, linf=0.1)
    assert result.linf == pytest.approx(np.full(20, 0.1), rel=1e-5)
    assert len(result.successful()) == 0


def test_blur_and_contrast_are_scipys(digits_lenet: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    from scipy.ndimage import gaussian_filter

    result = attack("blur", digits_lenet, *batch, sigma=1.5)
    expected = gaussian_filter(batch[0].numpy(), 1.5, mode="nearest", radius=4, axes=(2, 3))
    np.testing.assert_allclose(result.images, expected, atol=1e-5)
    flat = attack("contrast", digits_lenet, *batch, factor=0.0).images
    assert float(flat.flatten(1).std(1).max()) < 1e-6


def test_same_seed_same_images(digits_lenet: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    for name in ("pgd", "noise"):
        first, second, other = (attack(name, digits_lenet, *batch, seed=seed).images for seed in (3, 3, 4))
        assert torch.equal(first, second)
        assert not torch.equal(first, other)


def disturb(model: nn.Module) -> None:
    model.train()
    model.conv2.eval()  # type: ignore[union-attr]
    model.fc1.weight.requires_grad_(False)  # type: ignore[union-attr]
    model.fc2.weight.grad = torch.ones_like(model.fc2.weight)  # type: ignore[union-attr]


def condition(model: nn.Module) -> list[object]:
    parts: list[object] = [module.training for module in model.modules()]
    for parameter in model.parameters():
        grad = None if parameter.grad is None else parameter.grad.tolist()
        parts += [parameter.requires_grad, grad, parameter.tolist()]
    return parts


@pytest.mark.parametrize("name", ATTACKS)
def test_the_model_is_untouched(name: str, digits_lenet: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    from copy import deepcopy

    model = deepcopy(digits_lenet)
    disturb(model)
    before, state = condition(model), torch.random.get_rng_state()
    quick = {option: 2 for option in ("steps", "binary_search_steps") if option in default_options(name, (1, 28, 28))}
    attack(name, model, batch[0][:2], batch[1][:2], **quick)
    assert condition(model) == before
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_model_is_untouched_after_an_error(digits_lenet: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    from copy import deepcopy

    model = deepcopy(digits_lenet)
    disturb(model)
    before = condition(model)

    def stop(done: int, total: int, message: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attack("fgsm", model, *batch, progress=stop)
    assert condition(model) == before


def test_progress_counts_the_attacked_images(digits_lenet: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    calls: list[tuple[int, int, str]] = []
    attack("contrast", digits_lenet, *batch, batch_size=8, progress=lambda *call: calls.append(call))
    assert calls == [(8, 20, "contrast"), (16, 20, "contrast"), (20, 20, "contrast")]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("fgms", {}, "there is no attack 'fgms'; known: fgsm, bim"),
        ("fgsm", {"eps": 0.1}, "fgsm has no option 'eps'; it has epsilon"),
        ("fgsm", {"epsilon": 8}, "epsilon of fgsm is 8, expected a number from 0.0 to 1.0"),
        ("fgsm", {"epsilon": float("nan")}, "epsilon of fgsm is nan"),
        ("fgsm", {"epsilon": [0.1] * 20}, "one number, not one per image"),
        ("bim", {"steps": 1.5}, "steps of bim is 1.5, expected a whole number"),
        (
            "jsma",
            {"target": "dog"},
            "target of jsma is 'dog', expected 'runner-up', 'random', 'permuted' or one label per image",
        ),
        ("jsma", {"target": [11] * 20}, "target holds an image's own label or one outside 0 to 9"),
        ("noise", {"linf": None}, "exactly one of linf and l2"),
        ("noise", {"linf": [0.1] * 3}, "linf of noise has 3 values for 20 images"),
        ("fgsm", {"batch_size": 0}, "batch_size is 0"),
    ],
)
def test_bad_options(
    name: str, options: dict[str, object], message: str, digits_lenet: nn.Module, batch: tuple[Tensor, Tensor]
) -> None:
    with pytest.raises(BadOption, match=message):
        attack(name, digits_lenet, *batch, **options)  # type: ignore[arg-type]


def test_bad_images(digits_lenet: nn.Module, batch: tuple[Tensor, Tensor]) -> None:
    images, labels = batch
    with pytest.raises(BadInput, match=r"expected \(batch, channels, height, width\)"):
        attack("fgsm", digits_lenet, images[0], labels)
    with pytest.raises(BadInput, match=r"expected floats in \[0, 1\]"):
        attack("fgsm", digits_lenet, images * 255, labels)
    with pytest.raises(BadInput, match=r"expected floats in \[0, 1\]"):
        attack("fgsm", digits_lenet, images * torch.nan, labels)
    with pytest.raises(BadInput, match=r"labels have shape \(3,\) and type torch.int64, expected \(20,\)"):
        attack("fgsm", digits_lenet, images, labels[:3])
    with pytest.raises(BadInput, match="the model has 10 classes"):
        attack("fgsm", digits_lenet, images, labels + 10)
    with pytest.raises(BadInput, match=r"cannot take images of shape \(1, 14, 14\)"):
        attack("fgsm", digits_lenet, images[:, :, ::2, ::2], labels)
    with pytest.raises(BadInput, match="no images to attack"):
        attack("fgsm", digits_lenet, images[:0], labels[:0])


def test_a_target_needs_a_second_class() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    with pytest.raises(BadOption, match="a targeted attack needs a model of at least two classes"):
        attack("targeted-bim", model, torch.rand(2, 1, 4, 4), torch.zeros(2))


def test_missing_foolbox(
    digits_lenet: nn.Module, batch: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "foolbox", None)
    with pytest.raises(MissingExtra, match=r"pip install 'netpaths\[attacks\]'"):
        attack("fgsm", digits_lenet, *batch)


@pytest.mark.parametrize(("name", "plain"), [("fgsm-minimal", "fgsm"), ("bim-minimal", "bim")])
def test_minimal_attacks_stop_at_the_first_radius_that_succeeds(
    digits_lenet: nn.Module, batch: tuple[Tensor, Tensor], name: str, plain: str
) -> None:
    images, labels = batch
    steps = {"steps": 5, "stepsize": 0.3} if plain == "bim" else {}
    found = attack(name, digits_lenet, images, labels, epsilon=0.4, levels=4, **steps)
    tries = [attack(plain, digits_lenet, images, labels, epsilon=0.1 * level, **steps) for level in (1, 2, 3, 4)]
    assert found.success.any()
    for position in np.flatnonzero(found.success):
        first = next(level for level, each in enumerate(tries) if each.success[position])
        assert torch.allclose(found.images[position], tries[first].images[position], atol=1e-6)
