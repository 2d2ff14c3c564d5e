"""Sequences of many lengths: batches of similar ones, padded.

In: lengths, samples. Out: batches of indices, padded batches. Next: `sampler.py`, `collate.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from flambeau.data import memory
from flambeau.data.collate import default_collate
from flambeau.data.sampler import Sampler
from flambeau.functions.from_data import tensor
from flambeau.functions.random import permutation
from flambeau.generator import Generator
from flambeau.host import array_of
from flambeau.runtime.recorder import Tensor


class BucketBatchSampler(Sampler[list[int]]):
    """Batches of `batch_size` indices of samples of similar lengths, for `batch_sampler`: all in random order are cut into
    buckets of `bucket_size` (100 batches), sorted by length within each and cut into batches, which come in random order. With
    `shuffle` off all are sorted.

    Raises ValueError for sizes below 1.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        shuffle: bool = True,
        drop_last: bool = False,
        bucket_size: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        if batch_size < 1 or (bucket_size is not None and bucket_size < 1):
            raise ValueError(
                f"[BucketBatchSampler] batch_size is {batch_size}, bucket_size {bucket_size}. Use at least 1."
            )
        self.lengths = np.asarray(lengths)
        self.batch_size, self.shuffle, self.drop_last, self.generator = batch_size, shuffle, drop_last, generator
        self.bucket_size = bucket_size or 100 * batch_size

    def __iter__(self) -> Iterator[list[int]]:
        n = len(self.lengths)
        order = permutation(n, self.generator) if self.shuffle else np.arange(n)
        size = self.bucket_size if self.shuffle else max(n, 1)
        buckets = [order[i : i + size] for i in range(0, n, size)]
        if not buckets:
            return
        indices = np.concatenate([b[np.argsort(self.lengths[b], kind="stable")] for b in buckets])
        batches = [indices[i : i + self.batch_size] for i in range(0, n, self.batch_size)]
        if self.drop_last and len(batches[-1]) < self.batch_size:
            batches.pop()
        turns = permutation(len(batches), self.generator) if self.shuffle else range(len(batches))
        for k in turns:
            yield batches[k].tolist()

    def __len__(self) -> int:
        n = len(self.lengths)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)


def pad_collate(batch: list[Any], padding_value: float = 0, multiple: int = 1) -> Any:
    """As `default_collate`, but arrays and tensors that differ in their first size are padded behind to that of the longest,
    rounded up to a `multiple` (few sizes compile few programs). Raises RuntimeError where other sizes differ."""
    first = batch[0]
    if isinstance(first, dict):
        return {key: pad_collate([sample[key] for sample in batch], padding_value, multiple) for key in first}
    if isinstance(first, (tuple, list)):
        columns = [pad_collate(list(column), padding_value, multiple) for column in zip(*batch)]
        return type(first)(*columns) if hasattr(first, "_fields") else columns
    if not isinstance(first, (Tensor, np.ndarray)) or first.ndim == 0:
        return default_collate(batch)
    arrays = [array_of(x) if isinstance(x, Tensor) else x for x in batch]
    longest = -(-max(len(a) for a in arrays) // multiple) * multiple
    shapes = sorted({a.shape for a in arrays})
    if len({shape[1:] for shape in shapes}) > 1:
        raise RuntimeError(
            f"[pad_collate] shapes {shapes[:4]} of samples differ in more than the first size. Pass collate_fn."
        )
    dtype = tensor(arrays[0][:0]).dtype
    target = np.full((len(arrays), longest, *arrays[0].shape[1:]), padding_value, dtype.numpy)
    for row, array in zip(target, arrays):
        row[: len(array)] = array
    return memory.stacked(list(target))
