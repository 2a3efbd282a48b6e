"""Data: known sizes and pixels, independent decoding, splits, subsets, and messages about damage."""

from __future__ import annotations

import gzip
import io
import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from netpaths.data import Images, load_data, load_image
from netpaths.data.images import balanced
from netpaths.errors import BadFile, BadInput, BadOption, MissingData, MissingExtra


def write_png(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    data = header + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes with three 40x40 images each, in train and val."""
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("n01", "n02"):
            for number in range(3):
                pixels = random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
                write_png(tmp_path / "set" / split / name / f"{number}.png", pixels)
    return tmp_path / "set"


def test_digits_are_scikit_learns(digits_test: Images) -> None:
    from sklearn.datasets import load_digits

    train = load_data("digits")
    assert (len(train), len(digits_test)) == (1257, 540)
    assert not set(train.identifiers) & set(digits_test.identifiers)
    assert digits_test.shape == (1, 28, 28)
    images, labels = digits_test[:]
    assert images.dtype == torch.float32
    assert 0 <= float(images.min()) <= float(images.max()) <= 1
    rows = [int(name.split("/")[1]) for name in digits_test.identifiers]
    assert load_digits().target[rows].tolist() == labels.tolist()
    raw = load_data("digits", "test", size=8)[:][0]
    np.testing.assert_array_equal(raw[:, 0].numpy() * 16, load_digits().images[rows])


def test_digits_split_is_stratified(digits_test: Images) -> None:
    share = np.bincount(digits_test.labels) / np.bincount(np.r_[digits_test.labels, load_data("digits").labels])
    assert share == pytest.approx(0.3, abs=0.01)


def test_limits_are_balanced_prefixes(digits_test: Images) -> None:
    small, large = load_data("digits", "test", limit=30), load_data("digits", "test", limit=50)
    assert small.identifiers == large.identifiers[:30]
    assert np.bincount(small.labels).tolist() == [3] * 10
    assert load_data("digits", "test", limit=30, seed=1).identifiers != small.identifiers
    assert len(load_data("digits", "test", limit=10_000)) == len(digits_test)


def test_balanced_exhausts_small_classes() -> None:
    labels = np.array([0] * 10 + [1] * 2)
    assert np.bincount(labels[balanced(labels, 8, 0)]).tolist() == [6, 2]


def test_batches_take_and_index_agree(digits_test: Images) -> None:
    part = digits_test.take([5, 3, -1])
    images, labels = part[:]
    assert part.identifiers == [digits_test.identifiers[i] for i in (5, 3, 539)]
    assert torch.equal(images[1], digits_test[3][0])
    assert labels[0] == digits_test[5][1]
    batches = list(part.batches(2))
    assert [len(batch) for _, batch in batches] == [2, 1]
    assert torch.equal(torch.cat([batch for batch, _ in batches]), images)
    assert len(digits_test.take(digits_test.labels == 3)) == int((digits_test.labels == 3).sum())
    assert len(digits_test.take([])) == 0


def test_digest_follows_the_selection(digits_test: Images) -> None:
    same = load_data("digits", "test")
    assert same.digest == digits_test.digest
    others = [load_data("digits"), load_data("digits", "test", size=20), same.take([1, 0]), same.take([0, 1])]
    assert len({digits_test.digest, *(other.digest for other in others)}) == 5


@pytest.mark.parametrize(("place", "ending"), [("", ""), ("raw", ".gz"), ("MNIST/raw", ".gz")])
def test_idx_files(tmp_path: Path, place: str, ending: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 28, 28), dtype=np.uint8)
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    write_idx(tmp_path / place / f"train-images-idx3-ubyte{ending}", pixels)
    write_idx(tmp_path / place / f"train-labels-idx1-ubyte{ending}", np.arange(7, dtype=np.uint8))
    images, labels = load_data(f"mnist:{tmp_path}")[:]
    np.testing.assert_array_equal((images[:, 0] * 255).round().numpy(), pixels)
    assert labels.tolist() == list(range(7))
    assert load_data(f"mnist:{tmp_path}", size=32, channels=3).shape == (3, 32, 32)


def test_damaged_idx_files(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"there is no t10k-images-idx3-ubyte\.gz"):
        load_data(f"mnist:{tmp_path}", "test")
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(7, dtype=np.uint8))
    images = tmp_path / "train-images-idx3-ubyte"
    write_idx(images, np.zeros((6, 28, 28), np.uint8))
    with pytest.raises(BadInput, match=r"has 6 images but .* has 7 labels"):
        load_data(f"mnist:{tmp_path}")
    images.write_bytes(images.read_bytes()[:-5])
    with pytest.raises(BadInput, match="damaged"):
        load_data(f"mnist:{tmp_path}")
    images.write_bytes(b"not idx")
    with pytest.raises(BadInput, match="not an idx file"):
        load_data(f"mnist:{tmp_path}")
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8bbroken")
    with pytest.raises(BadInput, match="truncated or not gzip"):
        load_data(f"mnist:{tmp_path}")


def test_real_mnist(shared: Path) -> None:
    images = load_data(f"mnist:{shared}/data/MNIST", "test")
    assert len(images) == 10_000
    assert np.bincount(images.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_real_cifar(shared: Path) -> None:
    import pyarrow.parquet as pq

    images = load_data(f"cifar10:{shared}/data/cifar10", "test", limit=20)
    assert images.classes[3] == "cat"
    assert images.shape == (3, 32, 32)
    row = int(images.identifiers[4].split("/")[1])
    record = pq.read_table(shared / "data/cifar10/test.parquet").slice(row, 1).to_pylist()[0]
    expected = np.asarray(Image.open(io.BytesIO(record["img"]["bytes"])).convert("RGB"))
    np.testing.assert_array_equal((images[4][0] * 255).round().permute(1, 2, 0).numpy(), expected)
    assert images.labels[4] == record["label"]


def test_real_cifar100_fine_labels(shared: Path) -> None:
    images = load_data(f"cifar100:{shared}/data/cifar100", "test", limit=100)
    assert sorted(images.labels.tolist()) == list(range(100))
    assert images.classes[:2] == ["apple", "aquarium_fish"]


def test_parquet_file(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pixels = np.random.default_rng(0).integers(0, 256, (3, 9, 9, 3), dtype=np.uint8)
    encoded = [write_png(tmp_path / f"{i}.png", image).read_bytes() for i, image in enumerate(pixels)]
    table = pa.table({"image": [{"bytes": data, "path": ""} for data in encoded], "label": [0, 2, 1]})
    pq.write_table(table, tmp_path / "set.parquet")
    images = load_data(str(tmp_path / "set.parquet"))
    assert (images.split, images.shape, images.classes) == ("all", (3, 9, 9), ["0", "1", "2"])
    np.testing.assert_array_equal((images[:][0] * 255).round().permute(0, 2, 3, 1).numpy(), pixels)
    (tmp_path / "classes.json").write_text('{"classes": ["a", "b"]}')
    with pytest.raises(BadFile, match="does not name the 3 classes"):
        load_data(str(tmp_path / "set.parquet"))
    pq.write_table(table.drop_columns(["label"]), tmp_path / "set.parquet")
    with pytest.raises(BadInput, match="has columns image, expected label or fine_label"):
        load_data(str(tmp_path / "set.parquet"))
    (tmp_path / "set.parquet").write_bytes(b"nonsense")
    with pytest.raises(BadInput, match="not a parquet file"):
        load_data(str(tmp_path / "set.parquet"))
    with pytest.raises(MissingData, match=r"there is no .*train\.parquet"):
        load_data(f"cifar10:{tmp_path}")


def test_missing_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"netpaths\[data\]"):
        load_data(str(tmp_path / "set.parquet"))


def test_folder_splits(folder: Path) -> None:
    train, test = load_data(str(folder)), load_data(f"folder:{folder}", "test")
    assert (len(train), train.split, train.classes, train.shape) == (6, "train", ["n01", "n02"], (3, 224, 224))
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert test.identifiers[0] == "val/n01/0.png"
    whole = load_data(str(folder / "train"), size=40)
    assert whole.split == "all"
    expected = np.asarray(Image.open(folder / "train/n01/0.png"))
    np.testing.assert_array_equal((whole[0][0] * 255).round().permute(1, 2, 0).numpy(), expected)


def test_folder_transform_is_torchvisions(tmp_path: Path) -> None:
    from netpaths.zoo import import_torchvision

    import_torchvision()
    from torchvision import transforms

    ramp = np.linspace(0, 255, 400 * 300 * 3).reshape(400, 300, 3).astype(np.uint8)
    path = write_png(tmp_path / "set" / "a" / "x.png", ramp)
    steps = [transforms.Resize(256), transforms.CenterCrop(227), transforms.ToTensor()]
    expected = transforms.Compose(steps)(Image.open(path))
    torch.testing.assert_close(load_data(str(tmp_path / "set"), size=227)[0][0], expected)
    torch.testing.assert_close(load_image(path, (3, 227, 227))[0], expected)


def test_class_index(folder: Path, tmp_path: Path) -> None:
    index = tmp_path / "index.json"
    index.write_text(json.dumps([{"wnid": w, "name": w.upper()} for w in ("n02", "n09", "n01")]))
    images = load_data(f"folder:{folder}?classes={index}")
    assert images.labels.tolist() == [2, 2, 2, 0, 0, 0]
    assert images.classes == ["N02", "N09", "N01"]
    assert load_data(str(folder), class_index=index).labels.tolist() == images.labels.tolist()
    index.write_text('[{"wnid": "n02", "name": "b"}]')
    with pytest.raises(BadInput, match="does not list the class folder 'n01'"):
        load_data(str(folder), class_index=index)
    index.write_text('{"a": 1}')
    with pytest.raises(BadFile, match="not a class index"):
        load_data(str(folder), class_index=index)


def test_damaged_image_is_named(folder: Path) -> None:
    broken = folder / "train" / "n02" / "1.png"
    broken.write_bytes(broken.read_bytes()[:300])
    with pytest.raises(BadInput, match=r"n02/1\.png is not a readable image"):
        load_data(str(folder))[:]
    with pytest.raises(BadInput, match="not a readable image"):
        load_image(broken, (1, 28, 28))


def test_missing_folders(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(MissingData, match=r"there is no folder .*expected"):
        load_data(f"folder:{tmp_path}/none")
    (tmp_path / "empty" / "class").mkdir(parents=True)
    with pytest.raises(MissingData, match="there are no images in"):
        load_data(str(tmp_path / "empty"))
    (folder / "val").rename(tmp_path / "elsewhere")
    with pytest.raises(MissingData, match="has train but no test or val folder"):
        load_data(str(folder), "test")
    with pytest.raises(MissingData, match="there is no image file"):
        load_image(tmp_path / "none.png", (1, 28, 28))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spec": "digit"}, "there is no data 'digit'; expected digits, mnist:DIR"),
        ({"spec": "svhn:somewhere"}, "there is no data 'svhn:somewhere'"),
        ({"spec": "mnist:"}, "there is no data 'mnist:'"),
        ({"spec": "mnist:x?classes=y"}, "only folder:DIR"),
        ({"spec": "digits", "split": "val"}, "split is 'val'"),
        ({"spec": "digits", "limit": 0}, "limit is 0"),
        ({"spec": "digits", "size": -1}, "size is -1"),
        ({"spec": "digits", "channels": 4}, "channels is 4"),
    ],
)
def test_bad_options(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        load_data(**arguments)  # type: ignore[arg-type]


def test_bad_indices(digits_test: Images) -> None:
    with pytest.raises(BadOption, match="outside these 540 images"):
        digits_test[540]
    with pytest.raises(BadOption, match="expected integers"):
        digits_test.take(np.array([0.5]))
    with pytest.raises(BadOption, match="batch_size is 0"):
        digits_test.batches(0)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA", "1"])
@pytest.mark.parametrize("channels", [1, 3])
def test_colour_modes(tmp_path: Path, mode: str, channels: int) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(np.full((10, 10), 255, np.uint8)).convert(mode).save(path)
    assert torch.equal(load_image(path, (channels, 10, 10)), torch.ones(1, channels, 10, 10))


def test_sixteen_bit_grey_is_scaled(tmp_path: Path) -> None:
    path = write_png(tmp_path / "x.png", np.full((4, 4), 0x8080, np.uint16))
    assert load_image(path, (1, 4, 4)).unique().tolist() == pytest.approx([128 / 255])
