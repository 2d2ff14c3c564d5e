"""Datasets: sequences of samples.

In: tensors, or a class with `__getitem__` and `__len__`. Out: samples by index. Next: `sampler.py`.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

from flambeau.data.memory import rows
from flambeau.functions.random import permutation
from flambeau.generator import Generator
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

    def __add__(self, other: Dataset) -> Any:
        return ChainDataset([self, other])


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


class Subset(Dataset[T_co]):
    """The samples of `dataset` at `indices`."""

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset, self.indices = dataset, indices

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The samples at `indices`, at once where the dataset has `__getitems__`, too."""
        chosen = [self.indices[i] for i in indices]
        many = getattr(self.dataset, "__getitems__", None)
        return many(chosen) if many is not None else [self.dataset[i] for i in chosen]

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
        if any(isinstance(d, IterableDataset) for d in self.datasets):
            raise ValueError("[ConcatDataset] a stream of samples has no length. Use ChainDataset.")
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


class ChainDataset(IterableDataset[T_co]):
    """Streams one after the other. Raises TypeError, when it gets there, for a dataset that is no stream."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = datasets

    def __iter__(self) -> Iterator[Any]:
        for dataset in self.datasets:
            self._check(dataset)
            yield from dataset

    def __len__(self) -> int:
        return sum(len(self._check(dataset)) for dataset in self.datasets)

    @staticmethod
    def _check(dataset: Any) -> Any:
        if not isinstance(dataset, IterableDataset):
            raise TypeError(f"[ChainDataset] {type(dataset).__name__} is no IterableDataset. Use ConcatDataset.")
        return dataset


class StackDataset(Dataset[T_co]):
    """Samples of several datasets of one length side by side: tuples of what is given by position, dicts of what is given by
    name.

    Raises ValueError for lengths that differ, for no datasets, and for both ways at once. Example: `StackDataset(images,
    labels)`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if bool(args) == bool(kwargs):
            given = "datasets by position and by name" if args else "no datasets"
            raise ValueError(f"[StackDataset] there are {given}. Give all by position, or all by name.")
        self.datasets: Any = args or kwargs
        lengths = [len(d) for d in self._all()]
        if len(set(lengths)) > 1:
            raise ValueError(f"[StackDataset] lengths {lengths} must be equal. Cut the longer datasets.")
        self._length = lengths[0]

    def _all(self) -> Sequence[Any]:
        return self.datasets if isinstance(self.datasets, tuple) else list(self.datasets.values())

    def _sample(self, columns: Iterable[Any]) -> Any:
        return tuple(columns) if isinstance(self.datasets, tuple) else dict(zip(self.datasets, columns))

    def __getitem__(self, index: Any) -> Any:
        return self._sample(d[index] for d in self._all())

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The samples at `indices`; datasets that have `__getitems__` are asked once.

        Raises ValueError where one of them gives another number of samples.
        """
        columns = []
        for dataset in self._all():
            many = getattr(dataset, "__getitems__", None)
            columns.append(many(indices) if callable(many) else [dataset[i] for i in indices])
            if len(columns[-1]) != len(indices):
                raise ValueError(
                    f"[StackDataset] __getitems__ of {type(dataset).__name__} gave {len(columns[-1])} samples for "
                    f"{len(indices)} indices. Give one for each."
                )
        return [self._sample(row) for row in zip(*columns)]

    def __len__(self) -> int:
        return self._length


def random_split(dataset: Any, lengths: Sequence[float], generator: Generator | None = None) -> list[Subset]:
    """`dataset` cut at random into subsets of the given lengths, or of the given fractions (which add up to 1).

    Raises ValueError if they do not add up.
    """
    total = len(dataset)
    sizes: list[Any] = list(lengths)
    if any(size < 0 for size in sizes):
        raise ValueError(f"[random_split] lengths {sizes} must not be negative. Check them.")
    if math.isclose(sum(sizes), 1) and sum(sizes) <= 1 + 1e-9:
        sizes = [math.floor(total * share) for share in sizes]
        for i in range(total - sum(sizes)):
            sizes[i % len(sizes)] += 1
    if sum(sizes) != total:
        raise ValueError(f"[random_split] lengths {list(lengths)} do not add up to {total} samples. Check them.")
    order = permutation(total, generator).tolist()
    ends = list(itertools.accumulate(int(n) for n in sizes))
    return [Subset(dataset, order[end - int(n) : end]) for n, end in zip(sizes, ends)]
