"""`DataLoader`: batches of a dataset, loaded in this process or in workers.

In: a dataset and how to visit it. Out: collated batches. Those of a `TensorDataset` are copied row by row on the host at
once. Next: `fetching.py`, what a step does; `processes.py`, how workers do it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count, repeat
from typing import Any, Generic

import numpy as np
from flambeau import generator as generators
from flambeau.data.collate import default_collate, default_convert
from flambeau.data.dataset import IterableDataset, T_co
from flambeau.data.fetching import SampleFetcher, StreamFetcher
from flambeau.data.sampler import BatchSampler, RandomSampler, SequentialSampler
from flambeau.generator import Generator
from flambeau.runtime.recorder import flush_point


class DataLoader(Generic[T_co]):
    """Iterates over `dataset` in batches; every iteration is an epoch, shuffled anew if `shuffle`.

    `batch_size=None` yields single samples. `sampler` or `batch_sampler` replace `shuffle` (and `batch_size`).

    With `num_workers` processes, batches are loaded ahead, `prefetch_factor` (2) per worker, and read where a worker wrote
    them; in the order of the sampler, or as they come where `in_order` is not set. They are forked, unless
    `multiprocessing_context` says otherwise, and end with the iteration, or with the loader where `persistent_workers` is set.
    Each calls `worker_init_fn(number)` first; its random numbers (ours, NumPy's, Python's) follow from the state of
    `generator`, the epoch and its number. Errors have the class that they had in the worker, and its traceback. `timeout` is in
    seconds, 0 waits as long as it takes. `pin_memory` changes nothing.

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
        timeout: float = 0,
        worker_init_fn: Callable[[int], Any] | None = None,
        multiprocessing_context: Any = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        self._check_workers(num_workers, timeout, prefetch_factor, persistent_workers, multiprocessing_context)
        if sampler is not None and shuffle:
            raise ValueError("[DataLoader] sampler and shuffle exclude each other. Give one.")
        if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
            raise ValueError(
                "[DataLoader] batch_sampler excludes batch_size, shuffle, sampler and drop_last. Leave them out."
            )
        if batch_size is None and drop_last:
            raise ValueError("[DataLoader] drop_last needs a batch_size. Give one.")
        self.dataset, self.generator = dataset, generator
        self.num_workers, self.prefetch_factor, self.persistent_workers = (
            num_workers,
            prefetch_factor,
            persistent_workers,
        )
        if num_workers and prefetch_factor is None:
            self.prefetch_factor = 2
        self.timeout, self.worker_init_fn, self.in_order = timeout, worker_init_fn, in_order
        self.multiprocessing_context = multiprocessing_context
        self.pin_memory, self.pin_memory_device, self.drop_last = pin_memory, pin_memory_device, drop_last
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
        self.collate_fn = collate_fn or (default_convert if self._is_single else default_collate)
        self._epochs = count()
        self._crew: Any = None  # workers that outlive an iteration
        self._fixed = True

    @staticmethod
    def _check_workers(num_workers: int, timeout: float, ahead: int | None, persistent: bool, context: Any) -> None:
        if num_workers < 0:
            raise ValueError(f"[DataLoader] num_workers is {num_workers}. Use at least 0.")
        if timeout < 0:
            raise ValueError(f"[DataLoader] timeout is {timeout}. Use at least 0.")
        for name, value in (
            ("prefetch_factor", ahead), ("persistent_workers", persistent), ("multiprocessing_context", context)
        ):  # fmt: skip
            if num_workers == 0 and value not in (None, False):
                raise ValueError(f"[DataLoader] {name} needs workers. Set num_workers, or leave it out.")
        if ahead is not None and ahead < 1:
            raise ValueError(f"[DataLoader] prefetch_factor is {ahead}. Use at least 1.")
        if num_workers:
            from flambeau.data.processes import context_of  # that module imports this one

            context_of(context)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and vars(self).get("_fixed"):
            raise ValueError(f"[DataLoader] {name} is fixed when a loader is made. Make another one.")
        super().__setattr__(name, value)

    @property
    def _is_single(self) -> bool:
        return self.batch_size is None if self._iterable else self.batch_sampler is None

    def __iter__(self) -> Iterator[Any]:
        if self.num_workers:
            return self._epoch_of_workers()
        return self._here()

    def _here(self) -> Iterator[Any]:
        fetch = self._fetcher(self.dataset).fetch
        for task in self._tasks():
            flush_point()  # loops repeat here: a long trace is cut where the next round will be cut too
            try:
                batch = fetch(task)
            except StopIteration:
                return
            yield batch

    def _epoch_of_workers(self) -> Iterator[Any]:
        from flambeau.data.processes import Epoch, WorkerPool  # that module imports this one

        crew = self._crew
        if crew is None or not crew.is_open:
            crew = WorkerPool(self)
            self._crew = crew if self.persistent_workers else None
        return Epoch(self, crew, self.persistent_workers)

    def close(self) -> None:
        """End the workers that persist; the next iteration starts new ones. As a context manager a loader does so at the end of
        the block."""
        if self._crew is not None:
            self._crew.close()
            self._crew = None

    def __enter__(self) -> DataLoader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # ---- what processes.py asks

    @property
    def _fetcher(self) -> Callable[[Any], Any]:
        """What makes the fetcher of a dataset; it can be sent to a worker."""
        if self._iterable:
            return partial(StreamFetcher, batch_size=self.batch_size, drop_last=self.drop_last, collate=self.collate_fn)
        return partial(SampleFetcher, is_batched=not self._is_single, collate=self.collate_fn)

    def _tasks(self) -> Iterator[Any]:
        """What is fetched, one step after the other."""
        if self._iterable:
            return repeat(())
        return iter(self.sampler if self.batch_sampler is None else self.batch_sampler)  # type: ignore[arg-type]

    def _seed(self) -> int:
        """A seed for the workers of an epoch. Nothing is drawn: orders are the same with any number of workers."""
        stream = self.generator or generators.default_generator
        seed, offset = stream._advance(0)
        words = np.random.SeedSequence([seed % 2**64, offset % 2**64, next(self._epochs)]).generate_state(1, np.uint64)
        return int(words[0]) >> 2

    def __len__(self) -> int:
        if not self._iterable:
            return len(self.sampler if self.batch_sampler is None else self.batch_sampler)  # type: ignore[arg-type]
        n = len(self.dataset)
        if self.batch_size is None:
            return n
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)


#: What must not change once a loader is made, for other things were made from it.
_FIXED = ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers")
