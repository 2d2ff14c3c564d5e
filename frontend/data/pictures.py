"""Datasets of images: folders, MNIST, CIFAR-10 and small digits.

In: files that are there: nothing is downloaded. Out: pairs of an image and a label. MNIST and CIFAR-10 give uint8 tensors
(channels, height, width), to be transformed. Next: `flambeau.transforms`.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flambeau.data.dataset import Dataset
from flambeau.dialects.dtypes import float32
from flambeau.functions.from_data import tensor
from flambeau.runtime.recorder import Tensor

IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_Transform = Callable[[Any], Any] | None


def read_image(path: Any, mode: str = "RGB") -> Tensor:
    """An image file, or a stream of one, as a uint8 tensor (channels, height, width), through Pillow; `mode` is Pillow's:
    "RGB", "L" for gray, "RGBA".

    Raises ImportError without Pillow, OSError for a file that is not there, ValueError for one that is no image.
    """
    if not isinstance(path, str | os.PathLike) and not hasattr(path, "read"):
        raise TypeError(f"[read_image] the image is a {type(path).__name__}. Pass a path or an open file.")
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ImportError("[read_image] images need Pillow. Install flambeau[images].") from error
    try:
        with Image.open(path) as image:
            array = np.array(image.convert(mode))
    except (UnidentifiedImageError, SyntaxError) as error:
        raise ValueError(f"[read_image] {_name(path)} is no image that Pillow reads. Check the file.") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(f"[read_image] {_name(path)} is damaged: {error}. Check the file.") from error
    return tensor(array[None] if array.ndim == 2 else np.ascontiguousarray(np.moveaxis(array, 2, 0)))


def _name(path: Any) -> str:
    return "the stream" if isinstance(path, io.IOBase) else f"'{os.fspath(path)}'"


class DatasetFolder(Dataset[tuple[Any, Any]]):
    """Files below one folder per class: `root/cat/1.png`, `root/cat/more/2.png`, `root/dog/3.png`. Classes are numbered in
    order of their names, as are files within one: `classes`, `class_to_idx`, `samples` (pairs of path and number) and `targets`
    tell.

    `loader` reads a file; `extensions`, or `is_valid_file(path)`, say which count. Raises FileNotFoundError where there are no
    classes, or a class has no files (unless `allow_empty`).
    """

    def __init__(
        self,
        root: Any,
        loader: Callable[[str], Any],
        extensions: Sequence[str] | None = None,
        transform: _Transform = None,
        target_transform: _Transform = None,
        is_valid_file: Callable[[str], bool] | None = None,
        allow_empty: bool = False,
    ) -> None:
        if (extensions is None) == (is_valid_file is None):
            raise ValueError("[DatasetFolder] extensions and is_valid_file exclude each other. Give one.")
        endings = tuple(e.lower() for e in extensions or ())
        counts = is_valid_file or (lambda path: path.lower().endswith(endings))
        self.root, self.loader, self.extensions = os.fspath(root), loader, extensions
        self.transform, self.target_transform = transform, target_transform
        self.classes, self.class_to_idx = self.find_classes(self.root)
        self.samples: list[tuple[str, int]] = []
        for name, number in self.class_to_idx.items():
            found = [(path, number) for path in _files(os.path.join(self.root, name)) if counts(path)]
            if not found and not allow_empty:
                raise FileNotFoundError(f"[{type(self).__name__}] class '{name}' in '{root}' has no files. Add some.")
            self.samples += found
        self.targets = [number for _, number in self.samples]

    def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
        """The names of the classes in order, and their numbers. Raises FileNotFoundError where there are none."""
        if not os.path.isdir(directory):
            raise FileNotFoundError(f"[{type(self).__name__}] there is no folder '{directory}'. Check the path.")
        names = sorted(entry.name for entry in os.scandir(directory) if entry.is_dir())
        if not names:
            raise FileNotFoundError(
                f"[{type(self).__name__}] '{directory}' has no folders. Give each class one with its files."
            )
        return names, {name: number for number, name in enumerate(names)}

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        path, target = self.samples[index]
        return _pair(self, self.loader(path), target)

    def __len__(self) -> int:
        return len(self.samples)


def _files(folder: str) -> list[str]:
    walked = sorted(os.walk(folder, followlinks=True))
    return [os.path.join(where, name) for where, _, names in walked for name in sorted(names)]


def _pair(dataset: Any, image: Any, target: Any) -> tuple[Any, Any]:
    image = image if dataset.transform is None else dataset.transform(image)
    return image, target if dataset.target_transform is None else dataset.target_transform(target)


class ImageFolder(DatasetFolder):
    """A `DatasetFolder` of images, read by `read_image`."""

    def __init__(
        self,
        root: Any,
        transform: _Transform = None,
        target_transform: _Transform = None,
        loader: Callable[[str], Any] = read_image,
        is_valid_file: Callable[[str], bool] | None = None,
        allow_empty: bool = False,
    ) -> None:
        endings = None if is_valid_file else IMAGE_ENDINGS
        super().__init__(root, loader, endings, transform, target_transform, is_valid_file, allow_empty)
        self.imgs = self.samples


class _Labelled(Dataset[tuple[Any, Any]]):
    """`data`, uint8 images, and `targets`, ints."""

    data: Any
    targets: list[int]
    transform: _Transform = None
    target_transform: _Transform = None

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return _pair(self, tensor(self.data[index]), self.targets[index])

    def __len__(self) -> int:
        return len(self.targets)


# ---- MNIST ------------------------------------------------------------------------------------------------------

_IDX = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_idx(path: Any) -> np.ndarray:
    """An array from a file in MNIST's format, which may be compressed (.gz). Raises ValueError for a malformed one."""
    opened = gzip.open(path) if os.fspath(path).endswith(".gz") else open(path, "rb")
    with opened as file:
        start = file.read(4)
        if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _IDX:
            raise ValueError(f"[read_idx] '{path}' is no IDX file: it begins with {start.hex()}. Check the file.")
        sizes = file.read(4 * start[3])
        shape = np.frombuffer(sizes[: len(sizes) // 4 * 4], ">i4").tolist()
        dtype = np.dtype(_IDX[start[2]])
        wanted = math.prod(shape) * dtype.itemsize
        data = (
            file.read(wanted + 1)
            if len(shape) == start[3] and 0 <= wanted < 2**40 and min(shape, default=0) >= 0
            else b""
        )
    if len(shape) != start[3] or len(data) != wanted:
        raise ValueError(f"[read_idx] '{path}' should have {wanted} bytes for the shape {shape}. Copy it anew.")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))


class MNIST(_Labelled):
    """Handwritten digits, 60,000 or (not `train`) 10,000 of (1, 28, 28), from the four files in `root`, `root/MNIST/raw` or
    `root/raw`, each with or without `.gz`. Raises FileNotFoundError with the names of the files where they are not there."""

    classes = [str(i) for i in range(10)]

    def __init__(
        self, root: Any, train: bool = True, transform: _Transform = None, target_transform: _Transform = None
    ) -> None:
        self.root, self.train, self.transform, self.target_transform = Path(root), train, transform, target_transform
        start = "train" if train else "t10k"
        images = read_idx(self._find(f"{start}-images-idx3-ubyte"))
        labels = read_idx(self._find(f"{start}-labels-idx1-ubyte"))
        if images.ndim != 3 or len(images) != len(labels):
            raise ValueError(
                f"[MNIST] images of shape {images.shape} do not fit labels of shape {labels.shape}. Copy them anew."
            )
        self.data, self.targets = images[:, None], labels.tolist()

    def _find(self, name: str) -> Path:
        for folder in (self.root, self.root / type(self).__name__ / "raw", self.root / "raw"):
            for path in (folder / name, folder / f"{name}.gz"):
                if path.is_file():
                    return path
        kind = type(self).__name__
        raise FileNotFoundError(
            f"[{kind}] there is no '{name}' or '{name}.gz' in '{self.root}' or '{self.root}/{kind}/raw'. Nothing is downloaded: "
            "copy the four files of the dataset there."
        )


class FashionMNIST(MNIST):
    """Pieces of clothing, in the same format."""

    classes = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]


# ---- CIFAR-10 ---------------------------------------------------------------------------------------------------


class _Unpickler(pickle.Unpickler):
    """Reads arrays, lists, dicts, bytes and numbers, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            "numpy.core.multiarray._reconstruct": np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
            "numpy._core.multiarray._reconstruct": np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
            "numpy.ndarray": np.ndarray,
            "numpy.dtype": np.dtype,
            "_codecs.encode": lambda text, encoding: text.encode("latin1"),
        }
        if f"{module}.{name}" not in known:
            raise pickle.UnpicklingError(f"'{module}.{name}' is not read")
        return known[f"{module}.{name}"]


class CIFAR10(_Labelled):
    """Images of ten kinds, 50,000 or (not `train`) 10,000 of (3, 32, 32), from the folder `cifar-10-batches-bin` or
    `cifar-10-batches-py` in `root`, or `root` itself. Raises FileNotFoundError with the names of the files where they are not
    there, ValueError for malformed ones."""

    classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

    def __init__(
        self, root: Any, train: bool = True, transform: _Transform = None, target_transform: _Transform = None
    ) -> None:
        self.root, self.train, self.transform, self.target_transform = Path(root), train, transform, target_transform
        names = [f"data_batch_{i}" for i in range(1, 6)] if train else ["test_batch"]
        parts = [self._read(name) for name in names]
        self.data = np.concatenate([images for images, _ in parts])
        self.targets = [int(label) for _, labels in parts for label in labels]
        self.class_to_idx = {name: number for number, name in enumerate(self.classes)}

    def _read(self, name: str) -> tuple[np.ndarray, Any]:
        for folder in (self.root / "cifar-10-batches-bin", self.root):
            if (path := folder / f"{name}.bin").is_file():
                return self._binary(path)
        for folder in (self.root / "cifar-10-batches-py", self.root):
            if (path := folder / name).is_file():
                return self._pickled(path)
        raise FileNotFoundError(
            f"[CIFAR10] there is no 'cifar-10-batches-bin/{name}.bin' or 'cifar-10-batches-py/{name}' in '{self.root}'. Nothing is "
            "downloaded: unpack the archive of the dataset there."
        )

    def _binary(self, path: Path) -> tuple[np.ndarray, Any]:
        data = np.fromfile(path, np.uint8)
        if data.size % 3073 or not data.size:
            raise ValueError(f"[CIFAR10] '{path}' has {data.size} bytes, not a multiple of 3073. Copy it anew.")
        rows = data.reshape(-1, 3073)
        return self._checked(path, rows[:, 1:], rows[:, 0])

    def _pickled(self, path: Path) -> tuple[np.ndarray, Any]:
        try:
            with open(path, "rb") as file:
                found = _Unpickler(file, encoding="bytes").load()
            return self._checked(path, found[b"data"], np.asarray(found[b"labels"]))
        except ValueError:
            raise
        except Exception as error:
            raise ValueError(f"[CIFAR10] '{path}' is no file of CIFAR-10: {error}. Copy it anew.") from error

    @staticmethod
    def _checked(path: Path, data: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, Any]:
        fits = data.dtype == np.uint8 and data.shape == (len(labels), 3072) and labels.dtype.kind in "iu"
        if not fits or not ((labels >= 0) & (labels < 10)).all():
            raise ValueError(f"[CIFAR10] '{path}' has other data than CIFAR-10. Copy it anew.")
        return data.reshape(-1, 3, 32, 32), labels


# ---- digits -----------------------------------------------------------------------------------------------------


class Digits(_Labelled):
    """1,797 handwritten digits of (1, 8, 8), built in (Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", UCI,
    CC BY 4.0): the last 360 where `train` is False, the others where it is True, all without it. Without a transform samples
    are float32 from 0 to 1."""

    classes = [str(i) for i in range(10)]

    def __init__(
        self, train: bool | None = None, transform: _Transform = None, target_transform: _Transform = None
    ) -> None:
        self.train, self.transform, self.target_transform = train, transform or _from_sixteen, target_transform
        with np.load(Path(__file__).parent / "digits.npz") as file:
            images, labels = file["images"], file["labels"]
        part = slice(None) if train is None else slice(-360) if train else slice(-360, None)
        self.data, self.targets = images[part, None], labels[part].tolist()


def _from_sixteen(image: Tensor) -> Tensor:
    return image.to(float32) / 16
