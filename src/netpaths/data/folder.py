"""Image folders: one sub-folder a class, as torchvision's ImageFolder reads them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from netpaths.data.decoding import EncodedSource
from netpaths.data.images import Images, all_images
from netpaths.errors import BadFile, BadInput, MissingData, NetpathsWarning
from netpaths.files import read_json

Labels = NDArray[np.int64]
ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff"}
SPLITS = {"train": ("train",), "test": ("test", "val")}
SIZE = 224


def load_folder(
    folder: Path, split: str, size: int | None, channels: int | None, class_index: Path | str | None
) -> Images:
    """``folder``/CLASS/IMAGE, or ``folder``/train/CLASS/IMAGE with test or val beside it; classes sorted.

    Hidden files and folders are left out; where hidden folders hold images a NetpathsWarning names them. A folder
    without these splits is given whole for either, with ``split`` "all". ``class_index`` is a JSON list of
    {wnid, name} in the model's order: labels are then positions in that list, and classes its names.
    Raises MissingData when the folder is not so arranged or holds no images.
    """
    root, given = _root(folder, split)
    _warn_of_hidden(root)
    classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not _hidden(entry, root))
    files = [(file, label) for label, name in enumerate(classes) for file in _image_files(root / name)]
    if not files:
        raise MissingData(f"there are no images in {root}; expected {root}/CLASS/IMAGE.jpg (or .png, .webp)")
    labels = np.array([label for _, label in files], dtype=np.int64)
    if class_index is not None:
        labels, classes = _indexed(labels, classes, Path(class_index))
    identifiers = [file.relative_to(folder).as_posix() for file, _ in files]
    shape = (channels or 3, size or SIZE, size or SIZE)
    source = EncodedSource([file for file, _ in files], [str(file) for file, _ in files], shape)
    return all_images(source, labels, classes, identifiers, given)


def _root(folder: Path, split: str) -> tuple[Path, str]:
    if not folder.is_dir():
        raise MissingData(f"there is no folder {folder}; expected {folder}/[{split}/]CLASS/IMAGE.jpg")
    for name in SPLITS[split]:
        if (folder / name).is_dir():
            return folder / name, split
    others = [name for names in SPLITS.values() for name in names if (folder / name).is_dir()]
    if others:
        raise MissingData(f"{folder} has {', '.join(others)} but no {' or '.join(SPLITS[split])} folder")
    return folder, "all"


def _image_files(folder: Path) -> list[Path]:
    files = (file for file in folder.rglob("*") if file.suffix.lower() in ENDINGS and not _hidden(file, folder))
    return sorted(file for file in files if file.is_file())


def _warn_of_hidden(root: Path) -> None:
    """Say which hidden folders with images are left out."""
    files = [file for file in root.rglob("*") if file.suffix.lower() in ENDINGS and _hidden(file, root)]
    folders = sorted({file.parent.relative_to(root).as_posix() for file in files} - {"."})
    if folders:
        rest = f" and {len(folders) - 3} more" if len(folders) > 3 else ""
        left = f"{root}: hidden folders are no classes, left out: {', '.join(folders[:3])}{rest}"
        warnings.warn(left, NetpathsWarning, stacklevel=3)


def _hidden(path: Path, root: Path) -> bool:
    """Whether a name below ``root`` starts with a dot, as what Jupyter and macOS leave behind does."""
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _indexed(labels: Labels, classes: list[str], path: Path) -> tuple[Labels, list[str]]:
    entries = read_json(path)
    try:
        position = {entry["wnid"]: index for index, entry in enumerate(entries)}
        names = [str(entry["name"]) for entry in entries]
    except (TypeError, KeyError) as error:
        raise BadFile(f"{path} is not a class index; expected a list of {{wnid, name}}") from error
    unknown = [name for name in classes if name not in position]
    if unknown:
        raise BadInput(f"{path} does not list the class folder {unknown[0]!r} and {len(unknown) - 1} others")
    return np.array([position[name] for name in classes], dtype=np.int64)[labels], names
