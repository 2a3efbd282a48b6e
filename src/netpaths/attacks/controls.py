"""Changes that do not aim at the model: noise of a given size, blur, JPEG compression, lower contrast."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from netpaths.attacks.result import Options
from netpaths.errors import BadOption

HALVINGS = 30


def noise(model: nn.Module, images: Tensor, labels: Tensor, options: Options) -> Tensor:
    """Random noise of the given size after clipping to [0, 1], to match an attack's.

    Exactly one of ``linf`` (random signs) and ``l2`` (Gaussian direction) is a number or one number per image.
    """
    if (options["linf"] is None) == (options["l2"] is None):
        raise BadOption("noise takes exactly one of linf and l2; set the other to None")
    if options["linf"] is not None:
        size = _per_image(options["linf"], images)
        signs = torch.randint(0, 2, images.shape, device=images.device) * 2 - 1
        return (images + size * signs).clamp(0, 1)
    return _l2_noise(images, _per_image(options["l2"], images))


def blur(model: nn.Module, images: Tensor, labels: Tensor, options: Options) -> Tensor:
    """Gaussian blur with standard deviation ``sigma`` in pixels; the border is repeated."""
    sigma = float(options["sigma"])
    radius = max(1, round(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.softmax(-offsets.square() / (2 * sigma**2), 0)
    channels = images.shape[1]
    padded = F.pad(images, (radius, radius, radius, radius), mode="replicate")
    rows = F.conv2d(padded, kernel.view(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)
    return F.conv2d(rows, kernel.view(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels).clamp(0, 1)


def jpeg(model: nn.Module, images: Tensor, labels: Tensor, options: Options) -> Tensor:
    """JPEG compression with ``quality`` from 1 to 95."""
    pixels = (images.cpu() * 255).round().to(torch.uint8)
    compressed = torch.stack([_through_jpeg(image, int(options["quality"])) for image in pixels])
    return (compressed.float() / 255).to(images.device)


def contrast(model: nn.Module, images: Tensor, labels: Tensor, options: Options) -> Tensor:
    """Every image's difference to its own mean times ``factor``."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return (mean + (images - mean) * float(options["factor"])).clamp(0, 1)


def _per_image(value: Any, images: Tensor) -> Tensor:
    sizes = torch.as_tensor(value, dtype=images.dtype, device=images.device).reshape(-1)
    return sizes.expand(len(images)).view(-1, 1, 1, 1)


def _l2_noise(images: Tensor, size: Tensor) -> Tensor:
    """Gaussian noise, scaled by bisection so that the clipped result has the L2 distance ``size``."""
    direction = torch.randn_like(images)
    direction /= direction.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    low, high = torch.zeros_like(size), 16 * size
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        reached = ((images + middle * direction).clamp(0, 1) - images).flatten(1).norm(dim=1).view_as(size)
        low, high = torch.where(reached < size, middle, low), torch.where(reached < size, high, middle)
    return (images + high * direction).clamp(0, 1)


def _through_jpeg(pixels: Tensor, quality: int) -> Tensor:
    array = pixels.permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(buffer, "JPEG", quality=quality)
    decoded = np.array(Image.open(buffer)).reshape(array.shape)
    return torch.from_numpy(decoded).permute(2, 0, 1)
