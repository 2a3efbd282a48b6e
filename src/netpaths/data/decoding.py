"""Encoded images (files or bytes) to pixels of a wanted shape."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from netpaths.data.images import Shape
from netpaths.errors import BadInput, BadOption, MissingData

MARGIN = 256 / 227  # short side over crop; only above SMALL pixels, where objects do not fill the frame
SMALL = 64
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


class EncodedSource:
    """Image files, or encoded images in memory, decoded to ``shape`` when read; messages use ``names``."""

    def __init__(self, items: Sequence[Path | bytes], names: Sequence[str], shape: Shape) -> None:
        self.items = items
        self.names = names
        self.shape = shape

    def read(self, positions: NDArray[np.int64]) -> Tensor:
        pixels = [decode(self.items[i], self.names[i], self.shape) for i in positions]
        return torch.from_numpy(np.stack(pixels)) if pixels else torch.zeros(0, *self.shape)


def load_image(path: Path | str, shape: Shape) -> Tensor:
    """The image file ``path`` as float32 pixels (1, channels, height, width) in [0, 1].

    It is resized to cover ``shape`` (channels, height, width) and centre-cropped; an image of that size is
    taken as it is. Raises MissingData when there is no such file and BadInput when it is not an image.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingData(f"there is no image file {path}; expected a PNG, JPEG or WebP file")
    return torch.from_numpy(decode(path, str(path), shape))[None].float() / 255


def decode(item: Path | bytes, name: str, shape: Shape) -> NDArray[np.uint8]:
    """The pixels (channels, height, width) of one encoded image; raises BadInput when it is damaged."""
    channels, height, width = shape
    if channels not in (1, 3):
        raise BadOption(f"images have 1 or 3 channels, the model expects {channels}")
    try:
        with Image.open(io.BytesIO(item) if isinstance(item, bytes) else item) as image:
            fitted = _fit(_coloured(image, channels), height, width)
    except DAMAGE as error:
        raise BadInput(f"{name} is not a readable image: {error}") from error
    pixels = np.array(fitted, dtype=np.uint8).reshape(height, width, channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def image_size(item: Path | bytes, name: str) -> tuple[int, int]:
    """Height and width of one encoded image; raises BadInput naming it when it is damaged."""
    try:
        with Image.open(io.BytesIO(item) if isinstance(item, bytes) else item) as image:
            return image.height, image.width
    except DAMAGE as error:
        raise BadInput(f"{name} is not a readable image: {error}") from error


def _coloured(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which PIL would clip at 255
        image = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).round().astype(np.uint8))
    return image.convert("L" if channels == 1 else "RGB")


def _fit(image: Image.Image, height: int, width: int) -> Image.Image:
    if image.size == (width, height):
        return image
    margin = MARGIN if min(height, width) > SMALL else 1.0
    scale = max(round(margin * height) / image.height, round(margin * width) / image.width)
    wide = max(width, round(image.width * scale))
    high = max(height, round(image.height * scale))
    resized = image.resize((wide, high), Image.Resampling.BILINEAR)
    left, top = round((wide - width) / 2), round((high - height) / 2)
    return resized.crop((left, top, left + width, top + height))
