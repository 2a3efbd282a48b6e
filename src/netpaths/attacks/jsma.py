"""The Jacobian-based saliency map attack of Papernot et al. (EuroS&P 2016), over a batch.

1. a = ∂Z_t/∂x and b = Σ_{j≠t} ∂Z_j/∂x, with Z the model's outputs and t the target (two backward passes).
2. Of all pairs (p, q) of elements that can still move with a_p + a_q > 0 and b_p + b_q < 0, take the one with the
   largest −(a_p + a_q)(b_p + b_q); where no pair has both signs, the one with the largest difference a − b.
3. Move both elements by theta, clip to [0, 1], drop elements at a bound.
4. Repeat until the target is predicted, more than gamma of all elements have been touched, or none is left.

Step 2 is exact without looking at all pairs: −(a_p + a_q)(b_p + b_q) grows with a and with −b, so an element that two
others exceed in both is never needed. What is left is a small front, found by sorting.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from netpaths.attacks.result import Options

FRONT = 2048  # elements kept of a front that is larger, those with the largest a - b
PAIRS = 1 << 24  # pairs scored at once: 64 MB of float32


def jsma(model: nn.Module, images: Tensor, targets: Tensor, options: Options) -> Tensor:
    """``images`` (batch, channels, height, width) moved towards ``targets`` a pair of elements at a time."""
    theta = float(options["theta"])
    bound = 1.0 if theta > 0 else 0.0
    result = images.clone()
    flat = result.flatten(1)  # a view: (batch, elements)
    allowed = int(options["gamma"] * flat.shape[1])
    touched = torch.zeros_like(flat, dtype=torch.bool)
    active = torch.arange(len(images), device=images.device)
    while len(active):
        logits, a, b = _gradients(model, result[active], targets[active])
        free = flat[active] != bound
        going = (logits.argmax(1) != targets[active]) & (free.sum(1) >= 2) & (touched[active].sum(1) <= allowed)
        active, a, b, free = active[going], a[going], b[going], free[going]
        if len(active) == 0:
            break
        sign = 1.0 if theta > 0 else -1.0
        pair, found = best_pairs(sign * a, sign * b, free)
        active, pair = active[found], pair[found]
        rows = active[:, None]
        touched[rows, pair] = True
        flat[rows, pair] = (flat[rows, pair] + theta).clamp(0, 1)
    return result


def best_pairs(a: Tensor, b: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """The most salient pair (batch, 2) among ``free`` elements, and whether there is one (batch,).

    ``a`` and ``b`` (batch, elements) are the gradients of the target and of the other outputs.
    """
    index, kept = _front(a, -b, free)
    size = index.shape[1]
    per = max(1, PAIRS // (size * size))
    front_a, front_c = a.gather(1, index), (-b).gather(1, index)
    parts = [slice(start, start + per) for start in range(0, len(a), per)]
    picked = [_best_on_front(front_a[part], front_c[part], kept[part]) for part in parts]
    pair = torch.cat([pair for pair, _ in picked])
    return index.gather(1, pair), torch.cat([found for _, found in picked])


def _best_on_front(a: Tensor, c: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """The best pair among a front's elements: (batch, 2) positions, and whether it moves the right way (batch,)."""
    size = a.shape[1]
    alpha = a[:, :, None] + a[:, None, :]
    gamma = c[:, :, None] + c[:, None, :]
    valid = kept[:, :, None] & kept[:, None, :] & torch.ones(size, size, dtype=torch.bool, device=a.device).triu(1)
    product = (alpha * gamma).masked_fill(~(valid & (alpha > 0) & (gamma > 0)), -torch.inf).flatten(1)
    difference = (alpha + gamma).masked_fill(~valid, -torch.inf).flatten(1)
    salient = product.amax(1) > 0
    position = torch.where(salient, product.argmax(1), difference.argmax(1))
    found = salient | (difference.amax(1) > 0)
    return torch.stack([position // size, position % size], 1), found


def _front(a: Tensor, c: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
    """Indices (batch, k) of the elements that fewer than two others exceed in both ``a`` and ``c``, and a mask.

    In descending order of ``a`` these are the elements whose ``c`` is above the second largest seen so far.
    """
    a = a.masked_fill(~free, -torch.inf)
    c = c.masked_fill(~free, -torch.inf)
    order = a.argsort(dim=1, descending=True, stable=True)
    sorted_c = c.gather(1, order)
    largest = sorted_c.cummax(1).values
    before = torch.full_like(largest[:, :1], -torch.inf)
    runner_up = torch.minimum(sorted_c, torch.cat([before, largest[:, :-1]], 1)).cummax(1).values
    kept = sorted_c > torch.cat([before, runner_up[:, :-1]], 1)
    size = min(FRONT, max(2, int(kept.sum(1).max())))
    score = torch.where(kept, (a + c).gather(1, order), -torch.inf)
    best = score.topk(size, dim=1).indices.sort(1).values
    return order.gather(1, best), kept.gather(1, best)


def _gradients(model: nn.Module, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs (batch, classes) and the gradients, (batch, elements), of the target and of all other outputs."""
    x = images.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = model(x)
        target = logits.gather(1, targets[:, None]).sum()
        (a,) = torch.autograd.grad(target, x, retain_graph=True)
        (total,) = torch.autograd.grad(logits.sum(), x)
    return logits.detach(), a.flatten(1), (total - a).flatten(1)
