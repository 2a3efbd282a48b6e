"""MNIST and look-alikes in the idx format (LeCun et al., http://yann.lecun.com/exdb/mnist)."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from netpaths.data.images import Images, MemorySource, all_images, converted
from netpaths.errors import BadInput, MissingData

STEMS = {"train": "train", "test": "t10k"}
IMAGES = "images-idx3-ubyte"
LABELS = "labels-idx1-ubyte"


def load_mnist(folder: Path, split: str, size: int | None, channels: int | None) -> Images:
    """The idx files of ``split`` in ``folder``, ``folder``/raw or ``folder``/MNIST/raw, gzipped or not.

    Raises MissingData when they are not there and BadInput when one is damaged.
    """
    image_file = _find(folder, f"{STEMS[split]}-{IMAGES}")
    label_file = _find(folder, f"{STEMS[split]}-{LABELS}")
    pixels, labels = _read_idx(image_file, 3), _read_idx(label_file, 1)
    if len(pixels) != len(labels):
        raise BadInput(f"{image_file} has {len(pixels)} images but {label_file} has {len(labels)} labels")
    source = MemorySource(converted(torch.from_numpy(pixels)[:, None], channels, size))
    identifiers = [f"mnist/{split}/{position}" for position in range(len(labels))]
    classes = [str(label) for label in range(int(labels.max(initial=9)) + 1)]
    return all_images(source, labels, classes, identifiers, split)


def _find(folder: Path, name: str) -> Path:
    for place in (folder, folder / "raw", folder / "MNIST" / "raw"):
        for file in (place / f"{name}.gz", place / name):
            if file.is_file():
                return file
    raise MissingData(f"there is no {name}.gz (or {name}) in {folder}, {folder}/raw or {folder}/MNIST/raw")


def _read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """An idx file: magic number (type 8 is uint8, dimensions), big-endian sizes, then the bytes."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path} is truncated or not gzip: {error}") from error
    start = 4 + 4 * dimensions
    if len(data) < start or data[:4] != bytes([0, 0, 8, dimensions]):
        raise BadInput(f"{path} is not an idx file of {dimensions}-dimensional bytes")
    sizes = np.frombuffer(data, ">u4", dimensions, 4).astype(int)
    held, promised = len(data) - start, sizes.prod()
    if held != promised:
        raise BadInput(f"{path} holds {held} bytes where its header says {promised}; it is damaged")
    return np.frombuffer(data, np.uint8, offset=start).reshape(sizes).copy()
