"""`DataLoader`: batches of a dataset, in this process.

In: a dataset and how to visit it. Out: collated batches. Batches of a `TensorDataset` are copied row by row on the host at
once. Next: `dataset.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Generic

import numpy as np
from flambeau import host
from flambeau.data.dataset import IterableDataset, Subset, T_co, TensorDataset
from flambeau.data.sampler import BatchSampler, RandomSampler, SequentialSampler
from flambeau.dialects.dtypes import float64
from flambeau.functions.assemble import stack
from flambeau.functions.from_data import as_tensor, tensor
from flambeau.generator import Generator
from flambeau.runtime import progress
from flambeau.runtime.recorder import Tensor, flush_point


def default_collate(batch: list[Any]) -> Any:
    """Samples stacked: tensors, arrays and numbers along a new first dimension, inside dicts, tuples and lists alike.

    Python floats give float64, in which nothing is lost; ints give int64.
    Raises TypeError for other types, RuntimeError for samples of different lengths or shapes.
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return stack(batch)
    if isinstance(first, (np.ndarray, np.generic)):
        arrays = [np.asarray(x) for x in batch]
        is_even = all(a.shape == arrays[0].shape and a.dtype == arrays[0].dtype for a in arrays)
        return host.stacked(arrays) if is_even else stack([as_tensor(a) for a in arrays])
    if isinstance(first, float):
        return tensor(batch, dtype=float64)
    if isinstance(first, (bool, int)):
        return tensor(batch)
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        return {key: default_collate([sample[key] for sample in batch]) for key in first}
    if isinstance(first, (tuple, list)):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError("[default_collate] samples have different lengths. Make them equal, or pass collate_fn.")
        columns = [default_collate(list(column)) for column in zip(*batch)]
        return type(first)(*columns) if hasattr(first, "_fields") else columns
    raise TypeError(f"[default_collate] samples of type {type(first).__name__} cannot be stacked. Pass collate_fn.")


class DataLoader(Generic[T_co]):
    """Iterates over `dataset` in batches; every iteration is an epoch, shuffled anew if `shuffle`.

    `batch_size=None` yields single samples. `sampler` or `batch_sampler` replace `shuffle` (and `batch_size`).
    Raises ValueError for options that exclude each other.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[list[int]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        generator: Generator | None = None,
    ) -> None:
        if num_workers:
            raise ValueError(f"[DataLoader] num_workers is {num_workers}: there are no loader processes yet. Use 0.")
        if sampler is not None and shuffle:
            raise ValueError("[DataLoader] sampler and shuffle exclude each other. Give one.")
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ValueError(
                "[DataLoader] batch_sampler excludes batch_size, shuffle, sampler and drop_last. Leave them out."
            )
        if batch_size is None and drop_last:
            raise ValueError("[DataLoader] drop_last needs a batch_size. Give one.")
        self.dataset, self.generator, self.num_workers, self.pin_memory = dataset, generator, 0, pin_memory
        self.drop_last, self.collate_fn = drop_last, collate_fn or default_collate
        self._iterable = isinstance(dataset, IterableDataset)
        if self._iterable and (shuffle or sampler is not None or batch_sampler is not None):
            raise ValueError(
                "[DataLoader] a stream of samples has no indices to shuffle or sample. Leave these options out."
            )
        self.batch_size = None if batch_sampler is not None else batch_size
        self.sampler, self.batch_sampler = sampler, batch_sampler
        if not self._iterable and batch_sampler is None:
            if sampler is None:
                sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
            self.sampler = sampler
            if batch_size is not None:
                self.batch_sampler = BatchSampler(sampler, batch_size, drop_last)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._source():
            flush_point()  # loops repeat here: a long trace is cut where the next round will be cut too
            yield batch

    def _source(self) -> Iterator[Any]:
        if self._iterable:
            return self._stream()
        return self._samples() if self.batch_sampler is None else self._batches()

    def _batches(self) -> Iterator[Any]:
        known = isinstance(self.dataset, (TensorDataset, Subset)) and self.collate_fn is default_collate
        for indices in self.batch_sampler:  # type: ignore[union-attr]
            batch = self.dataset.batch(indices) if known else None
            if batch is None:
                batch = self.collate_fn([self.dataset[i] for i in progress.over(indices, "loading a batch", "sample")])
            yield batch

    def _samples(self) -> Iterator[Any]:
        for index in self.sampler:  # type: ignore[union-attr]
            yield self._single(self.dataset[index])

    def _single(self, sample: Any) -> Any:
        return sample if self.collate_fn is default_collate else self.collate_fn(sample)

    def _stream(self) -> Iterator[Any]:
        stream = iter(self.dataset)
        if self.batch_size is None:
            yield from map(self._single, stream)
            return
        while batch := list(islice(stream, self.batch_size)):
            if len(batch) < self.batch_size and self.drop_last:
                return
            yield self.collate_fn(batch)

    def __len__(self) -> int:
        if not self._iterable:
            return len(self.sampler if self.batch_sampler is None else self.batch_sampler)  # type: ignore[arg-type]
        n = len(self.dataset)
        if self.batch_size is None:
            return n
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
