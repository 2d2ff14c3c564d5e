"""Datasets of images: folders, MNIST, CIFAR-10, digits; maps of files in place."""

import gzip
import os
import pickle
import struct

import flambeau as fb
import numpy as np
import pytest
from flambeau.data import (
    CIFAR10,
    MNIST,
    DataLoader,
    DatasetFolder,
    Digits,
    FashionMNIST,
    ImageFolder,
    TensorDataset,
    read_image,
)
from flambeau.data.pictures import read_idx


def picture(value, size=(4, 5)):
    from PIL import Image

    return Image.fromarray(np.full((*size, 3), value, np.uint8))


@pytest.mark.accept("DAT-12", "DAT-21")
def test_image_folders(tmp_path):
    pytest.importorskip("PIL.Image")
    for k, name in enumerate(("dog/2.png", "cat/a.png", "cat/more/b.PNG")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture(10 * k).save(tmp_path / name)
    (tmp_path / "cat/notes.txt").write_text("no image")
    data = ImageFolder(tmp_path)
    assert data.classes == ["cat", "dog"] and data.class_to_idx == {"cat": 0, "dog": 1} and data.targets == [0, 0, 1]
    image, label = data[1]
    assert image.dtype is fb.uint8 and image.shape == (3, 4, 5) and image.unique().tolist() == [20] and label == 0
    small = ImageFolder(str(tmp_path), transform=fb.transforms.ToTensor(), target_transform=lambda t: t + 5)
    images, labels = next(iter(DataLoader(small, 3)))
    assert images.shape == (3, 3, 4, 5) and labels.tolist() == [5, 5, 6]
    texts = DatasetFolder(tmp_path, lambda path: open(path).read(), (".txt",), allow_empty=True)
    assert list(texts) == [("no image", 0)] if hasattr(texts, "__iter__") else texts[0] == ("no image", 0)
    with pytest.raises(FileNotFoundError, match=r"\[DatasetFolder\] class 'dog' in '.*' has no files"):
        DatasetFolder(tmp_path, str, (".txt",))
    with pytest.raises(FileNotFoundError, match=r"\[ImageFolder\] there is no folder"):
        ImageFolder(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="has no folders"):
        ImageFolder(tmp_path / "dog")


@pytest.mark.accept("DAT-12")
def test_images_in_modes_and_damaged_ones(tmp_path):
    pytest.importorskip("PIL.Image")
    array = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    from PIL import Image

    Image.fromarray(array).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png").numpy().tolist() == array.transpose(2, 0, 1).tolist()
    assert (
        read_image(tmp_path / "a.png", "L").shape == (1, 6, 7) and read_image(tmp_path / "a.png", "RGBA").shape[0] == 4
    )
    Image.fromarray(array).save(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").shape == (3, 6, 7)
    (tmp_path / "bad.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    (tmp_path / "text.png").write_text("text")
    for name in ("bad.png", "text.png"):
        with pytest.raises(ValueError, match=rf"\[read_image\] '.*{name}' is"):
            read_image(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "none.png")


def idx(array):
    return struct.pack(f">HBB{array.ndim}i", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.mark.accept("DAT-19")
@pytest.mark.parametrize("packed", [False, True])
def test_mnist(tmp_path, packed):
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    labels = np.array([3, 1, 4, 1, 5], np.uint8)
    folder = tmp_path / "MNIST" / "raw" if packed else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    for start, part in (("train", slice(None)), ("t10k", slice(2))):
        for name, array in ((f"{start}-images-idx3-ubyte", images[part]), (f"{start}-labels-idx1-ubyte", labels[part])):
            data = gzip.compress(idx(array)) if packed else idx(array)
            (folder / (name + ".gz" * packed)).write_bytes(data)
    data = MNIST(tmp_path)
    assert len(data) == 5 and len(MNIST(tmp_path, train=False)) == 2 and data.classes[3] == "3"
    image, label = data[2]
    assert image.shape == (1, 28, 28) and image.numpy()[0].tolist() == images[2].tolist() and label == 4
    assert MNIST(tmp_path, transform=fb.transforms.ToTensor())[0][0].dtype is fb.float32
    with pytest.raises(
        FileNotFoundError, match=r"\[FashionMNIST\] there is no 'train-images-idx3-ubyte'.*Nothing is downloaded"
    ):
        FashionMNIST(tmp_path / "none")


def test_malformed_idx_files(tmp_path):
    good = idx(np.zeros((2, 3), np.uint8))
    bad = [
        b"",
        b"\x89PNG",
        good[:7],
        good[:-1],
        good + b"x",
        good[:4] + struct.pack(">ii", -1, 6),
        good[:4] + b"\x7f" * 8,
    ]
    for data in bad:
        (tmp_path / "a").write_bytes(data)
        with pytest.raises(ValueError, match=r"\[read_idx\]"):
            read_idx(tmp_path / "a")
    (tmp_path / "a").write_bytes(good)
    assert read_idx(tmp_path / "a").shape == (2, 3)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hostile",)


@pytest.mark.accept("DAT-20")
def test_cifar(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chance = np.random.default_rng(0)
    images, labels = chance.integers(0, 256, (4, 3072), dtype=np.uint8), [0, 9, 5, 2]
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        (folder / name).write_bytes(pickle.dumps({b"data": images, b"labels": labels}, 2))
    train, test = CIFAR10(tmp_path), CIFAR10(folder, train=False)
    assert len(train) == 20 and len(test) == 4 and train.class_to_idx["cat"] == 3
    image, label = test[1]
    assert image.shape == (3, 32, 32) and image.numpy().reshape(-1).tolist() == images[1].tolist() and label == 9
    binary = tmp_path / "bin"
    binary.mkdir()
    (binary / "test_batch.bin").write_bytes(np.hstack([np.array(labels, np.uint8)[:, None], images]).tobytes())
    assert CIFAR10(binary, train=False)[3][0].numpy().reshape(-1).tolist() == images[3].tolist()
    with pytest.raises(FileNotFoundError, match=r"\[CIFAR10\] there is no .*Nothing is downloaded"):
        CIFAR10(binary)
    bad = [Hostile(), [1], {b"data": images, b"labels": [1]}, {b"data": images, b"labels": [1, 2, 3, 10]}]
    for data in bad:
        (folder / "test_batch").write_bytes(pickle.dumps(data, 2))
        with pytest.raises(ValueError, match=r"\[CIFAR10\] '.*test_batch'"):
            CIFAR10(folder, train=False)
    assert not (tmp_path / "hostile").exists()
    (binary / "test_batch.bin").write_bytes(b"1234")
    with pytest.raises(ValueError, match="has 4 bytes"):
        CIFAR10(binary, train=False)


def test_digits_are_built_in():
    train, test, whole = Digits(True), Digits(False), Digits()
    assert (len(train), len(test), len(whole)) == (1437, 360, 1797)
    image, label = whole[0]
    assert (
        image.shape == (1, 8, 8)
        and image.dtype is fb.float32
        and 0 <= image.min().item() <= image.max().item() == 15 / 16
    )
    assert label == 0 and sorted(set(whole.targets)) == list(range(10)) and test.targets == whole.targets[-360:]
    from sklearn import datasets

    known = datasets.load_digits()
    assert np.array_equal(whole.data[:, 0], known.images) and whole.targets == known.target.tolist()


def test_maps_of_files_are_read_in_place(tmp_path):
    array = np.arange(1000 * 64, dtype=np.float32).reshape(1000, 64)
    np.save(tmp_path / "x.npy", array)
    before = fb.memory_stats()["live_bytes"]
    mapped = fb.from_numpy(np.load(tmp_path / "x.npy", mmap_mode="r"))
    assert fb.memory_stats()["live_bytes"] == before
    for workers in (0, 1):
        batches = list(DataLoader(TensorDataset(mapped), 300, num_workers=workers))
        assert [b[0].shape[0] for b in batches] == [300, 300, 300, 100] and fb.cat([b[0] for b in batches]).equal(
            mapped
        )
