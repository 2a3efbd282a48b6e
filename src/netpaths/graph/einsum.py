"""Einstein sums of two tensors, written as one product of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

if TYPE_CHECKING:
    from netpaths.graph.exporting import Rewriter

aten = torch.ops.aten


def terms(equation: str) -> tuple[list[str], str]:
    """The labels of the operands and of the result of an equation."""
    given, _, result = equation.replace(" ", "").partition("->")
    operands = given.split(",")
    if "->" not in equation:
        every = "".join(operands)
        result = "".join(sorted(label for label in set(every) if every.count(label) == 1))
    return operands, result


def is_product(equation: str) -> bool:
    """Whether an equation is a product of two matrices, or of two batches of them, but for the order of axes."""
    operands, result = terms(equation)
    if len(operands) != 2 or "." in equation or any(len(set(own)) != len(own) for own in (*operands, result)):
        return False
    first, second = map(set, operands)
    return not (first ^ second) - set(result) and set(result) <= first | second


def written(write: Rewriter, equation: str, operands: Sequence[fx.Node]) -> fx.Node:
    """The operations that compute such an equation."""
    (one, other), result = terms(equation)
    first, second = operands
    if write.held(first) is not None:
        one, other, first, second = other, one, second, first
    shared = [label for label in one if label in other and label in result]
    summed = [label for label in one if label in other and label not in result]
    left = [label for label in one if label not in other]
    right = [label for label in other if label not in one]
    size = {**dict(zip(other, second.meta["val"].shape)), **dict(zip(one, first.meta["val"].shape))}
    held = write.held(second)
    if held is not None and not shared:
        return _linear(write, (one, other), (left, summed, right, list(result)), (first, held), size)
    a = _arranged(write, first, one, (*([label] for label in shared), left, summed), size)
    b = _arranged(write, second, other, (*([label] for label in shared), summed, right), size)
    product = write.step(aten.matmul.default, a, b)
    return _back(write, product, [*shared, *left, *right], list(result), size)


def _linear(
    write: Rewriter,
    labels: tuple[str, str],
    groups: tuple[list[str], list[str], list[str], list[str]],
    operands: tuple[fx.Node, torch.Tensor],
    size: dict[str, Any],
) -> fx.Node:
    left, summed, right, result = groups
    weight = operands[1].detach().permute([labels[1].index(label) for label in (*right, *summed)])
    matrix = weight.reshape(prod(size[label] for label in right), -1).contiguous()
    x = _arranged(write, operands[0], labels[0], (*([label] for label in left), summed), size)
    product = write.step(aten.linear.default, x, write.constant(matrix))
    return _back(write, product, [*left, *right], result, size)


def _arranged(write: Rewriter, x: fx.Node, labels: str, groups: Sequence[Sequence[str]], size: dict[str, Any]) -> Any:
    """The operand with one axis for each group of labels."""
    order = [labels.index(label) for group in groups for label in group]
    sizes = [prod([size[label] for label in group]) for group in groups]
    held = write.held(x)
    if held is not None:
        return write.constant(held.detach().permute(order).reshape(sizes).contiguous())
    if order != sorted(order):
        x = write.step(aten.permute.default, x, order)
    return x if all(len(group) == 1 for group in groups) else write.step(aten.reshape.default, x, write.known(sizes))


def _back(write: Rewriter, product: fx.Node, labels: list[str], result: list[str], size: dict[str, Any]) -> fx.Node:
    """The product with an axis for each label, in the order of the result."""
    if product.meta["val"].dim() != len(labels):
        product = write.step(aten.reshape.default, product, write.known([size[label] for label in labels]))
    if labels == result:
        return product
    return write.last(aten.permute.default, product, [labels.index(label) for label in result])
