"""`torchvision.datasets`: those that Flambeau reads, called as torchvision's are; samples are images of Pillow where that is
installed.

In: folders where the files are, for nothing is downloaded. Out: datasets. Next: `data/pictures.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from flambeau import data
from flambeau.as_torch.ops import refused
from flambeau.data.dataset import Dataset
from flambeau.functions.from_data import tensor


def picture(planes: np.ndarray) -> Any:
    """An image (channels, height, width) as one of Pillow, as a tensor where that is not installed."""
    try:
        from PIL import Image
    except ImportError:
        return tensor(planes)
    return Image.fromarray(planes[0] if len(planes) == 1 else np.ascontiguousarray(np.moveaxis(planes, 0, 2)))


class VisionDataset(Dataset[Any]):
    """The base class of users' own datasets: keeps `root` and the transforms, either one for both or one for each."""

    def __init__(
        self, root: Any = None, transforms: Any = None, transform: Any = None, target_transform: Any = None
    ) -> None:
        if transforms is not None and (transform is not None or target_transform is not None):
            raise ValueError("[VisionDataset] transforms is given beside transform or target_transform. Give either.")
        self.root, self.transforms, self.transform, self.target_transform = (
            root,
            transforms,
            transform,
            target_transform,
        )

    def _pair(self, image: Any, target: Any) -> tuple[Any, Any]:
        if self.transforms is not None:
            return self.transforms(image, target)
        image = image if self.transform is None else self.transform(image)
        return image, target if self.target_transform is None else self.target_transform(target)


class _Read(VisionDataset):
    """A dataset of `flambeau.data`, whose arguments and samples are torchvision's. `download` finds the files or raises."""

    reader: Any

    def __init__(
        self,
        root: Any,
        train: bool = True,
        transform: Any = None,
        target_transform: Any = None,
        download: bool = False,
    ) -> None:
        super().__init__(root, None, transform, target_transform)
        self._read = self.reader(root, train)
        self.train, self.classes, self.targets = train, list(self._read.classes), self._read.targets
        self.class_to_idx = {name: k for k, name in enumerate(self.classes)}
        self.data = self._data(self._read.data)

    def _data(self, images: np.ndarray) -> Any:
        return np.moveaxis(images, 1, 3)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self._pair(picture(self._read.data[index]), self._read.targets[index])

    def __len__(self) -> int:
        return len(self._read)


class MNIST(_Read):
    """`data` is a tensor [N, 28, 28], `targets` one [N]."""

    reader = data.MNIST

    def _data(self, images: np.ndarray) -> Any:
        self.targets = tensor(self._read.targets)
        return tensor(images[:, 0])


class FashionMNIST(MNIST):
    """As `MNIST`."""

    reader = data.FashionMNIST


class CIFAR10(_Read):
    """`data` is an array [N, 32, 32, 3], `targets` a list."""

    reader = data.CIFAR10


class FakeData(VisionDataset):
    """`size` images of noise, the same ones each time, with targets that are drawn likewise."""

    def __init__(
        self,
        size: int = 1000,
        image_size: tuple[int, int, int] = (3, 224, 224),
        num_classes: int = 10,
        transform: Any = None,
        target_transform: Any = None,
        random_offset: int = 0,
    ) -> None:
        super().__init__(None, None, transform, target_transform)
        self.size, self.num_classes, self.image_size = size, num_classes, image_size
        self.random_offset = random_offset

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if not 0 <= index < self.size:
            raise IndexError(f"[FakeData] index {index} is out of range for {self.size} samples.")
        rng = np.random.default_rng(index + self.random_offset)
        noise = rng.standard_normal(self.image_size) * 255
        return self._pair(picture((noise.astype(np.int64) % 256).astype(np.uint8)), int(rng.integers(self.num_classes)))

    def __len__(self) -> int:
        return self.size


DatasetFolder = data.DatasetFolder


class ImageFolder(data.ImageFolder):
    """Samples are images of Pillow, unless a `loader` is given."""

    def __init__(
        self,
        root: Any,
        transform: Any = None,
        target_transform: Any = None,
        loader: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, transform, target_transform, loader or default_loader, *args, **kwargs)


def default_loader(path: str) -> Any:
    """An image file as an image of Pillow with three channels."""
    from PIL import Image

    with open(path, "rb") as file:
        return Image.open(file).convert("RGB")


#: What libraries name, and nobody can make.
for _name in (
    "CIFAR100",
    "ImageNet",
    "INaturalist",
    "KMNIST",
    "Places365",
    "QMNIST",
    "SVHN",
    "STL10",
    "CelebA",
    "LSUN",
):
    globals()[_name] = type(_name, (VisionDataset,), {"__init__": refused(f"torchvision.datasets.{_name}")})
