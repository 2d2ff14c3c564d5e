"""Fetchers: what a loader's step does, in its own process and in workers alike.

In: indices, or how many samples of a stream. Out: a collated batch, or StopIteration where a stream ends. An error carries a note
that says which sample it was. Next: `loader.py`, `worker.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from flambeau.data.collate import default_collate
from flambeau.data.dataset import Dataset, Subset, TensorDataset
from flambeau.runtime import progress


class SampleFetcher:
    """Samples by index: batches of a list of indices, or single samples of one where `is_batched` is not set."""

    def __init__(self, dataset: Any, is_batched: bool, collate: Callable[[Any], Any]) -> None:
        self._dataset, self._is_batched, self._collate = dataset, is_batched, collate
        known = (
            isinstance(dataset, (TensorDataset, Subset)) and getattr(collate, "__wrapped__", collate) is default_collate
        )
        self._batch: Callable[[Sequence[int]], Any] | None = dataset.batch if known and is_batched else None
        self._many = _own_getitems(dataset) if is_batched else None

    def fetch(self, indices: Any) -> Any:
        """The batch, or sample, of these indices."""
        if self._batch is not None and (batch := self._batch(indices)) is not None:
            return batch
        if self._many is not None:
            return self._collate(self._many(indices))
        return self._collate(self._samples(indices) if self._is_batched else self._samples([indices])[0])

    def _samples(self, indices: Sequence[int]) -> list[Any]:
        dataset, samples = self._dataset, []
        index: Any = None
        try:
            for index in progress.over(indices, "loading a batch", "sample"):
                samples.append(dataset[index])
        except StopIteration as error:  # it would pass for the end
            raise RuntimeError(f"[DataLoader] sample {index} raised StopIteration. Raise IndexError.") from error
        except Exception as error:
            error.add_note(f"[DataLoader] this was at sample {index}.")
            error.__dict__["_sample"] = index
            raise
        return samples


def _own_getitems(dataset: Any) -> Callable[[Sequence[int]], list[Any]] | None:
    """`__getitems__` of a dataset that defines it; ours only do so to pass it on."""
    found = getattr(dataset, "__getitems__", None)
    is_passed_on = isinstance(dataset, Subset) and not hasattr(dataset.dataset, "__getitems__")
    return None if is_passed_on else found


class StreamFetcher:
    """Samples of a stream, in batches of a size, or single where there is none."""

    def __init__(
        self, dataset: Dataset, batch_size: int | None, drop_last: bool, collate: Callable[[Any], Any]
    ) -> None:
        self._stream: Iterator[Any] = iter(dataset)
        self._size, self._drop_last, self._collate = batch_size, drop_last, collate
        self._taken = 0

    def fetch(self, indices: Any = None) -> Any:
        """The next batch, or sample. Raises StopIteration at the end."""
        try:
            samples = list(islice(self._stream, self._size or 1))
        except Exception as error:
            error.add_note(f"[DataLoader] this was in the stream, after {self._taken} samples in batches.")
            raise
        self._taken += len(samples)
        if not samples or (self._size and self._drop_last and len(samples) < self._size):
            raise StopIteration
        return self._collate(samples if self._size else samples[0])
