"""Samplers: the order in which a loader visits indices.

In: the number of samples, or weights. Out: indices, a new order in every epoch. Next: `loader.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Generic

from flambeau.data.dataset import T_co
from flambeau.dialects.dtypes import float64
from flambeau.functions.from_data import as_tensor
from flambeau.functions.more_random import multinomial
from flambeau.functions.random import permutation, randint
from flambeau.generator import Generator


class Sampler(Generic[T_co]):
    """An iterable of indices; subclasses define `__iter__()` and, if known, `__len__()`."""

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"[Sampler] {type(self).__name__} has no __iter__(). Define it.")


class SequentialSampler(Sampler[int]):
    """0, 1, 2, ..."""

    def __init__(self, data_source: Any) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """All indices in a random order, another one each time; or `num_samples` drawn with `replacement`."""

    def __init__(
        self,
        data_source: Any,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        if not isinstance(replacement, bool):
            raise TypeError(f"[RandomSampler] replacement is {replacement!r}. Use True or False.")
        if num_samples is not None and (not isinstance(num_samples, int) or num_samples < 1):
            raise ValueError(f"[RandomSampler] num_samples is {num_samples!r}. Use an int of at least 1.")
        self.data_source, self.replacement, self.generator = data_source, replacement, generator
        self._num_samples = num_samples

    @property
    def num_samples(self) -> int:
        """How many indices an epoch has."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        n, left = len(self.data_source), self.num_samples
        if self.replacement:
            yield from randint(n, (left,), generator=self.generator).tolist()
            return
        while left > 0 and n > 0:
            yield from permutation(n, self.generator)[:left].tolist()
            left -= n

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """The given indices in a random order."""

    def __init__(self, indices: Sequence[int], generator: Generator | None = None) -> None:
        self.indices, self.generator = indices, generator

    def __iter__(self) -> Iterator[int]:
        for i in permutation(len(self.indices), self.generator).tolist():
            yield self.indices[i]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """`num_samples` indices, each drawn in proportion to its weight, with `replacement` or each at most once.

    `weights` are one number per sample, not negative, of any sum. Raises ValueError for other arguments, RuntimeError for
    weights that cannot be drawn from.
    """

    def __init__(
        self, weights: Any, num_samples: int, replacement: bool = True, generator: Generator | None = None
    ) -> None:
        if not isinstance(num_samples, int) or isinstance(num_samples, bool) or num_samples < 1:
            raise ValueError(f"[WeightedRandomSampler] num_samples is {num_samples!r}. Use an int of at least 1.")
        if not isinstance(replacement, bool):
            raise ValueError(f"[WeightedRandomSampler] replacement is {replacement!r}. Use True or False.")
        self.weights = as_tensor(weights, dtype=float64)
        if self.weights.ndim != 1:
            raise ValueError(
                f"[WeightedRandomSampler] weights have the shape {self.weights.shape}. Give one per sample."
            )
        self.num_samples, self.replacement, self.generator = num_samples, replacement, generator

    def __iter__(self) -> Iterator[int]:
        yield from multinomial(self.weights, self.num_samples, self.replacement, generator=self.generator).tolist()

    def __len__(self) -> int:
        return self.num_samples


class DistributedSampler(Sampler[T_co]):
    """The share of one of `num_replicas` processes: every one of them takes each `num_replicas`-th index of one order, from
    `rank` on.

    With `shuffle`, the order follows from `seed` and the epoch alone, so that all processes agree: call `set_epoch(epoch)`
    before each one. Shares have one size: some samples come twice, or with `drop_last` the last ones are left out. Raises
    ValueError for a rank that there is not, RuntimeError where both numbers are not given: there are no process groups to ask.
    """

    def __init__(
        self,
        dataset: Any,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        if num_replicas is None or rank is None:
            raise RuntimeError("[DistributedSampler] there are no process groups. Give num_replicas and rank.")
        if not 0 <= rank < num_replicas:
            raise ValueError(f"[DistributedSampler] rank is {rank}. Use 0 to {num_replicas - 1}.")
        self.dataset, self.num_replicas, self.rank, self.epoch = dataset, num_replicas, rank, 0
        self.shuffle, self.seed, self.drop_last = shuffle, seed, drop_last
        n = len(dataset)
        self.num_samples = n // num_replicas if drop_last else -(-n // num_replicas)
        self.total_size = self.num_samples * num_replicas

    def __iter__(self) -> Iterator[Any]:
        n = len(self.dataset)
        order = (
            permutation(n, Generator().manual_seed(self.seed + self.epoch)).tolist() if self.shuffle else list(range(n))
        )
        if len(order) < self.total_size:
            order *= -(-self.total_size // n)
        return iter(order[self.rank : self.total_size : self.num_replicas])

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Shuffle for this epoch from now on."""
        self.epoch = epoch


class BatchSampler(Sampler[list[int]]):
    """Lists of `batch_size` indices; `drop_last` leaves out a smaller last one."""

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1:
            raise ValueError(f"[BatchSampler] batch_size is {batch_size!r}. Use an int of at least 1.")
        if not isinstance(drop_last, bool):
            raise ValueError(f"[BatchSampler] drop_last is {drop_last!r}. Use True or False.")
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __iter__(self) -> Iterator[list[int]]:
        indices = iter(self.sampler)
        while batch := list(islice(indices, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __len__(self) -> int:
        n = len(self.sampler)  # type: ignore[arg-type]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
