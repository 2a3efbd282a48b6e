"""What labels of images must be: one class number for each."""

from __future__ import annotations

import torch

from netpaths.errors import BadInput


def check_labels(labels: torch.Tensor, images: int, classes: int, least: int = 0) -> torch.Tensor:
    """``labels`` if it is one class number for each of ``images``, from ``least`` to below ``classes``: (n,) integers.

    Raises BadInput naming the shape and type, or the numbers, and what would be right.
    """
    shape = tuple(labels.shape)
    if shape != (images,) or labels.is_floating_point():
        hint = "; class numbers are wanted, not one-hot rows or columns" if len(shape) > 1 else ""
        raise BadInput(f"labels have shape {shape} and type {labels.dtype}, expected ({images},) whole numbers{hint}")
    if images and (int(labels.min()) < least or int(labels.max()) >= classes):
        found = f"labels go from {int(labels.min())} to {int(labels.max())}, the model has {classes} classes"
        raise BadInput(f"{found}; use the data that it was trained on")
    return labels
