"""How much of a logit its pixels, biases and constants carry: gradient times input with frozen factors.

One backward pass through the network in which every node is written as its rule says (`netpaths.rules.FROZEN`): a
piecewise linear map of the pixels, of the biases and of the constants, whose three parts add up to the logit.
"""

from __future__ import annotations

import torch

from netpaths.errors import UnsupportedOperation
from netpaths.gradients import ordinary, with_gradients
from netpaths.graph import Graph
from netpaths.graph.layout import Layout
from netpaths.graph.replacing import Call, replaced
from netpaths.path import Budget
from netpaths.rules import FROZEN


def budgets(graph: Graph, x: torch.Tensor, classes: torch.Tensor, on_path: torch.Tensor | None = None) -> list[Budget]:
    """What carries the logit of one class for every image of ``x`` (batch, *input shape).

    classes: (batch,) int64. on_path: (batch, *input shape) bool, the pixels on the images' paths, or None for none.
    Costs about a forward and a backward pass. Raises BadInput, and UnsupportedOperation for a node whose rule does not
    say what its values are made of.
    """
    images = len(x)
    with with_gradients():
        x, classes = ordinary(x), ordinary(classes)
        pixels = x.detach().clone().requires_grad_()
        biases, constants = (torch.ones(images, dtype=x.dtype, device=x.device).requires_grad_() for _ in range(2))

        def replace(call: Call) -> torch.Tensor:
            if call.node.family is None:
                return call.run(call.inputs)
            parts = FROZEN[_known(call)](call)
            output = parts.output
            if not output.is_floating_point():  # a condition, which nothing can be a share of
                return output
            for added, share in ((parts.bias, biases), (parts.constant, constants)):
                if added is not None:
                    output = output + added * (_spread(share, call.node.layout, output.dim()) - 1)
            return output

        logits = replaced(graph, pixels, replace).gather(1, classes[:, None])[:, 0]
        leaves = (pixels, biases, constants)
        slope, *added = torch.autograd.grad(logits.sum(), leaves, allow_unused=True, materialize_grads=True)
    carried = (slope * x).flatten(1).double()
    kept = torch.zeros_like(carried) if on_path is None else carried * on_path.flatten(1)
    rows = zip(carried.sum(1), *added, logits.detach(), kept.sum(1))
    return [Budget(*(float(part) for part in row)) for row in rows]


def _known(call: Call) -> str:
    family = call.node.family
    if family is None or family.name not in FROZEN:
        raise UnsupportedOperation(f"no rule says what {call.node.name} ({call.node.operation}) is made of")
    return family.name


def _spread(share: torch.Tensor, layout: Layout, axes: int) -> torch.Tensor:
    """One number an image (batch,) against a tensor of ``axes`` axes that keeps its images as ``layout`` says."""
    places = share.repeat_interleave(layout.parts) if layout.parts > 1 else share
    return places.reshape([-1 if axis == layout.axis else 1 for axis in range(axes)])
