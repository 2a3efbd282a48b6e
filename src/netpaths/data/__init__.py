"""Images to run models on: bundled digits, MNIST, CIFAR, image folders and parquet files, all as `Images`."""

from __future__ import annotations

from pathlib import Path

from netpaths.data.decoding import load_image
from netpaths.data.digits import load_digits_images
from netpaths.data.folder import load_folder
from netpaths.data.images import Images, balanced
from netpaths.data.mnist import load_mnist
from netpaths.data.parquet import is_small, load_parquet, load_parquet_folder
from netpaths.errors import BadOption

__all__ = ["SPECS", "Images", "load_data", "load_image"]

SPECS = (
    "digits",
    "mnist:DIR",
    "cifar10:DIR",
    "cifar100:DIR",
    "folder:DIR[?classes=FILE.json]",
    "FILE.parquet",
    "DIR",
)
FAMILIES = ("mnist", "cifar10", "cifar100", "folder", "parquet")


def load_data(
    spec: str | Path,
    split: str = "train",
    size: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    *,
    channels: int | None = None,
    class_index: Path | str | None = None,
) -> Images:
    """The images that ``spec`` (one of `SPECS`) names, with pixels in [0, 1].

    ``split`` is "train" or "test"; a folder or file without a split is given whole, its ``Images.split`` is
    "all". ``size`` is the height and width wanted (folders: short side 256/227 of it, centre crop, 224 by
    default), ``channels`` 1 or 3. ``limit`` keeps that many images, drawn with ``seed`` and as evenly over the
    classes as possible; a smaller limit is a prefix of a larger one. ``class_index`` maps class folders to a
    model's outputs (a JSON list of {wnid, name}).
    Raises BadOption for an unknown spec, MissingData when the data is not there, BadInput when it is damaged.
    """
    _check(split, size, limit, channels)
    images = _load(str(spec), split, size, channels, class_index)
    if limit is not None and limit < len(images):
        images = images.take(balanced(images.labels, limit, seed))
    return images.in_memory() if is_small(images.shape) else images


def _check(split: str, size: int | None, limit: int | None, channels: int | None) -> None:
    if split not in ("train", "test"):
        raise BadOption(f"split is {split!r}, expected 'train' or 'test'")
    if size is not None and size < 1:
        raise BadOption(f"size is {size}, expected at least 1 pixel")
    if limit is not None and limit < 1:
        raise BadOption(f"limit is {limit}, expected at least 1 image")
    if channels not in (None, 1, 3):
        raise BadOption(f"channels is {channels}, expected 1 or 3")


def _load(spec: str, split: str, size: int | None, channels: int | None, class_index: Path | str | None) -> Images:
    if spec == "digits":
        return load_digits_images(split, size, channels)
    family, location, listed = _parse(spec)
    if family == "mnist":
        return load_mnist(location, split, size, channels)
    if family == "parquet":
        return load_parquet(location, "all", size, channels)
    if family in ("cifar10", "cifar100"):
        return load_parquet_folder(location, split, size, channels)
    return load_folder(location, split, size, channels, listed or class_index)


def _parse(spec: str) -> tuple[str, Path, str | None]:
    """Family, place and class index of a spec; a plain path is a parquet file or a folder."""
    family, colon, rest = spec.partition(":")
    if not colon or (family not in FAMILIES and Path(spec.partition("?")[0]).exists()):
        rest = spec
        family = "parquet" if spec.endswith(".parquet") else "folder"
        if "/" not in spec and not Path(spec.partition("?")[0]).exists():
            raise _unknown(spec)
    if family not in FAMILIES or not rest:
        raise _unknown(spec)
    place, _, query = rest.partition("?")
    key, _, value = query.partition("=")
    if query and (key != "classes" or not value or family != "folder"):
        raise BadOption(f"{spec!r} ends in {query!r}; only folder:DIR?classes=FILE.json has an option")
    return family, Path(place).expanduser(), value or None


def _unknown(spec: str) -> BadOption:
    return BadOption(f"there is no data {spec!r}; expected {', '.join(SPECS)}")
