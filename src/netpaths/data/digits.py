"""The handwritten digits bundled with scikit-learn, in the shape of MNIST; needs no download."""

from __future__ import annotations

import numpy as np
import torch

from netpaths.data.images import Images, MemorySource, all_images, converted

TEST_SHARE = 0.3


def load_digits_images(split: str, size: int | None, channels: int | None) -> Images:
    """1797 digits of 8x8 pixels, scaled to 28x28 by default; a fixed stratified 70/30 split."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    order = np.arange(len(digits.target))
    train, test = train_test_split(order, test_size=TEST_SHARE, stratify=digits.target, random_state=0)
    chosen = np.sort(train if split == "train" else test)
    raw = torch.from_numpy(digits.images[chosen] / 16).float()[:, None]  # (images, 1, 8, 8)
    source = MemorySource(converted(raw, channels, size or 28))
    identifiers = [f"digits/{position}" for position in chosen]
    return all_images(source, digits.target[chosen], [str(digit) for digit in range(10)], identifiers, split)
