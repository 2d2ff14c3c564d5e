"""Datasets: sequences of samples.

In: tensors, or a class with `__getitem__` and `__len__`. Out: samples by index. Next: `sampler.py`.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from flambeau import host
from flambeau.functions.random import permutation
from flambeau.generator import Generator
from flambeau.runtime import recorder
from flambeau.runtime.recorder import Tensor

#: What a dataset gives; the classes for data take it in brackets: `Dataset[int]`.
T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """A sequence of samples: subclasses define `__getitem__(index)` and `__len__()`."""

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(f"[Dataset] {type(self).__name__} has no __getitem__(). Define it.")

    def __add__(self, other: Dataset) -> ConcatDataset:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """A stream of samples: subclasses define `__iter__()`."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"[IterableDataset] {type(self).__name__} has no __iter__(). Define it.")


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Samples are tuples of the rows of tensors with equal first sizes.

    Raises ValueError for sizes that differ. Example: `TensorDataset(images, labels)[0]`.
    """

    def __init__(self, *tensors: Tensor) -> None:
        sizes = [t.shape[0] if t.ndim else None for t in tensors]
        if len(set(sizes)) > 1 or None in sizes or not tensors:
            raise ValueError(f"[TensorDataset] first sizes {sizes} must be equal. Check the tensors' shapes.")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(t[index] for t in self.tensors)

    def __len__(self) -> int:
        return self.tensors[0].shape[0]

    def batch(self, indices: Sequence[int]) -> list[Tensor]:
        """The samples at `indices`, stacked: the same as collating them one by one."""
        return [rows(t, indices) for t in self.tensors]


def rows(tensor: Tensor, indices: Sequence[int]) -> Tensor:
    """The rows of a tensor at `indices`, copied on the host: nothing is recorded, so nothing is compiled."""
    if tensor.requires_grad:
        return tensor[list(indices)]
    source = host.array_of(tensor)
    shape = (len(indices), *tensor.shape[1:])
    buffer, target = host.empty_array(shape, tensor.dtype)
    np.take(source, np.asarray(indices, np.int64), axis=0, out=target)
    return recorder.tensor_from_buffer(buffer, shape, tensor.dtype)


class Subset(Dataset[T_co]):
    """The samples of `dataset` at `indices`."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.indices[index]]

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: Sequence[int]) -> list[Tensor] | None:
        """As `TensorDataset.batch`, or None if the dataset is of another kind."""
        inner = getattr(self.dataset, "batch", None)
        return inner([self.indices[i] for i in indices]) if inner is not None else None


class ConcatDataset(Dataset[T_co]):
    """Datasets one after the other."""

    def __init__(self, datasets: Sequence[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("[ConcatDataset] there are no datasets. Pass at least one.")
        self.cumulative_sizes = list(itertools.accumulate(len(d) for d in self.datasets))

    def __getitem__(self, index: int) -> Any:
        size = len(self)
        if not -size <= index < size:
            raise IndexError(f"[ConcatDataset] index {index} is out of range for {size} samples.")
        index %= size
        which = bisect.bisect_right(self.cumulative_sizes, index)
        return self.datasets[which][index - (self.cumulative_sizes[which - 1] if which else 0)]

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]


def random_split(dataset: Any, lengths: Sequence[float], generator: Generator | None = None) -> list[Subset]:
    """`dataset` cut at random into subsets of the given lengths, or of the given fractions (which add up to 1).

    Raises ValueError if they do not add up.
    """
    total = len(dataset)
    sizes: list[Any] = list(lengths)
    if math.isclose(sum(sizes), 1) and sum(sizes) <= 1 + 1e-9:
        sizes = [math.floor(total * share) for share in sizes]
        for i in range(total - sum(sizes)):
            sizes[i % len(sizes)] += 1
    if sum(sizes) != total:
        raise ValueError(f"[random_split] lengths {list(lengths)} do not add up to {total} samples. Check them.")
    order = permutation(total, generator).tolist()
    ends = list(itertools.accumulate(int(n) for n in sizes))
    return [Subset(dataset, order[end - int(n) : end]) for n, end in zip(sizes, ends)]
