"""Parquet files of encoded images, the layout of Hugging Face image data sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from netpaths.data.decoding import SMALL, EncodedSource, image_size
from netpaths.data.images import Images, Shape, all_images
from netpaths.errors import BadFile, BadInput, MissingData, MissingExtra
from netpaths.files import read_json

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "fine_label")


def load_parquet_folder(folder: Path, split: str, size: int | None, channels: int | None) -> Images:
    """``folder``/train.parquet or test.parquet, with class names from ``folder``/classes.json."""
    path = folder / f"{split}.parquet"
    if not path.is_file():
        raise MissingData(f"there is no {path}; expected train.parquet and test.parquet in {folder}")
    return load_parquet(path, split, size, channels)


def load_parquet(path: Path, split: str, size: int | None, channels: int | None) -> Images:
    """One parquet file with a column img (or image) of {bytes, path} and a column label (or fine_label).

    Class names come from classes.json beside it, where there is one. Raises MissingData when the file is not
    there, BadInput when it or its columns are not as described, MissingExtra without pyarrow.
    """
    if not path.is_file():
        raise MissingData(f"there is no file {path}; expected a parquet file of images and labels")
    items, labels = _read(path)
    names = [f"{path.stem}/{row}" for row in range(len(items))]
    height, width = image_size(items[0], f"{path} row 0")
    shape: Shape = (channels or 3, size or height, size or width)
    source = EncodedSource(items, [f"{path} row {row}" for row in range(len(items))], shape)
    return all_images(source, labels, _classes(path, labels), names, split)


def is_small(shape: Shape) -> bool:
    """Whether images of ``shape`` are worth keeping decoded in memory."""
    return max(shape[1:]) <= SMALL


def _read(path: Path) -> tuple[list[bytes], NDArray[np.int64]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise MissingExtra("pyarrow", "data") from error
    try:
        columns = pq.read_schema(path).names
        image, label = _column(path, columns, IMAGE_COLUMNS), _column(path, columns, LABEL_COLUMNS)
        table = pq.read_table(path, columns=[image, label])
        items = [row["bytes"] for row in table[image].to_pylist()]
        labels = np.asarray(table[label].to_numpy(), dtype=np.int64)
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is not a parquet file of images and labels: {error}") from error
    if not items:
        raise MissingData(f"{path} holds no images")
    return items, labels


def _column(path: Path, columns: list[str], wanted: tuple[str, ...]) -> str:
    for name in wanted:
        if name in columns:
            return name
    raise BadInput(f"{path} has columns {', '.join(columns)}, expected {' or '.join(wanted)}")


def _classes(path: Path, labels: NDArray[np.int64]) -> list[str]:
    count = int(labels.max()) + 1
    file = path.parent / "classes.json"
    if labels.min() < 0:
        raise BadInput(f"{path} has the label {labels.min()}, expected labels from 0")
    if not file.is_file():
        return [str(label) for label in range(count)]
    content = read_json(file)
    named = content.get("classes", content.get("fine")) if isinstance(content, dict) else content
    if not isinstance(named, list) or len(named) < count:
        raise BadFile(f"{file} does not name the {count} classes of {path}; expected a list of names")
    return [str(name) for name in named]
