"""Datasets, samplers and loaders beside PyTorch's: contents, orders where chance has no part, structures, errors."""

from collections import OrderedDict, namedtuple
from itertools import chain

import flambeau as fb
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="could not import 'torch'")

import flambeau.utils.data as ours  # noqa: E402
import torch.utils.data as theirs  # noqa: E402

Point = namedtuple("Point", "x y")


def plain(value):
    """Nested lists and names of types, alike for both."""
    if isinstance(value, (fb.Tensor, torch.Tensor)):
        return str(value.dtype).split(".")[-1], tuple(value.shape), value.tolist()
    if isinstance(value, dict):
        return type(value).__name__, {k: plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value).__name__, [plain(v) for v in value]
    return value


def both(make):
    """`make(module of data, module)` for PyTorch and for us: what comes out, or the class of the error."""
    results = []
    for data, m in ((theirs, torch), (ours, fb)):
        try:
            results.append(plain(make(data, m)))
        except Exception as error:
            results.append(type(error))
    return results


def items(m):
    return [
        [1.5, 2.5], [1, 2], [True, False], ["a", "b"], [b"a", b"b"], [(1, 2.0), (3, 4.0)], [[1, 2], [3, 4]],
        [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}], [OrderedDict(a=1), OrderedDict(a=2)], [Point(1, 2.0), Point(3, 4.0)],
        [np.ones(3, np.float32), np.zeros(3, np.float32)], [np.float64(1), np.float64(2)], [np.int32(1), np.int32(2)],
        [m.ones(2, 2), m.zeros(2, 2)], [(m.ones(2), {"n": np.arange(2)}), (m.zeros(2), {"n": np.arange(2)})],
        [np.ones((2, 3), np.int16), np.zeros((2, 3), np.int16)], [np.ones(2), np.ones(3)], [m.ones(2), m.ones(3)],
        [(1, 2), (1,)], [object()], [None], [{1}],
    ]  # fmt: skip


@pytest.mark.parametrize("k", range(len(items(torch))))
def test_collating(k):
    wanted, found = both(lambda data, m: data.default_collate(items(m)[k]))
    assert found == wanted


@pytest.mark.parametrize("k", range(len(items(torch)) - 3))
def test_converting(k):
    wanted, found = both(lambda data, m: data.default_convert(items(m)[k]))
    assert found == wanted


def with_stream(data):
    class Stream(data.IterableDataset):
        def __iter__(self):
            info = data.get_worker_info()
            return iter(range(info.id, 11, info.num_workers) if info else range(11))

    return Stream()


CASES = {
    "batches": lambda d, m, o: d.DataLoader([(np.full(3, i), i) for i in range(10)], 4, **o),
    "dropped": lambda d, m, o: d.DataLoader(list(range(10)), 4, drop_last=True, **o),
    "singles": lambda d, m, o: d.DataLoader([(np.full(3, i), i) for i in range(5)], None, **o),
    "sampler": lambda d, m, o: d.DataLoader(list(range(10)), 3, sampler=[3, 1, 4, 1, 5], **o),
    "batch sampler": lambda d, m, o: d.DataLoader(list(range(10)), batch_sampler=[[1, 2], [9]], **o),
    "collate": lambda d, m, o: d.DataLoader(list(range(10)), 3, collate_fn=sum, **o),
    "tensors": lambda d, m, o: d.DataLoader(d.TensorDataset(m.arange(6).view(6, 1), m.ones(6)), 4, **o),
    "stacked": lambda d, m, o: d.DataLoader(d.StackDataset(a=list(range(5)), b=m.arange(5)), 2, **o),
    "stack of two": lambda d, m, o: d.DataLoader(d.StackDataset(list(range(5)), m.arange(5)), 2, **o),
    "concat": lambda d, m, o: d.DataLoader(d.ConcatDataset([[1, 2], d.Subset(list(range(9)), [8, 3])]), 3, **o),
    "stream": lambda d, m, o: d.DataLoader(with_stream(d), 3, **o),
    "stream singles": lambda d, m, o: d.DataLoader(with_stream(d), None, **o),
    "chain": lambda d, m, o: d.DataLoader(d.ChainDataset([with_stream(d), with_stream(d)]), 4, **o),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("workers", [0, 2])
def test_loading(case, workers):
    wanted, found = both(lambda d, m: list(CASES[case](d, m, {"num_workers": workers})))
    assert found == wanted and not isinstance(wanted, type)


@pytest.mark.parametrize(("n", "replicas"), [(10, 3), (9, 3), (2, 5), (1, 4), (7, 1)])
@pytest.mark.parametrize("drop_last", [False, True])
def test_distributed_shares(n, replicas, drop_last):
    def shares(data, m):
        made = [
            data.DistributedSampler(range(n), replicas, r, shuffle=False, drop_last=drop_last) for r in range(replicas)
        ]
        return [(list(s), len(s)) for s in made]

    wanted, found = both(shares)
    assert found == wanted
    orders = [list(ours.DistributedSampler(range(n), replicas, r, drop_last=drop_last)) for r in range(replicas)]
    assert set(chain(*orders)) == set(range(n)) or drop_last
    sampler = ours.DistributedSampler(range(100), 2, 0)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first and sorted(first) != first


def test_weighted_samplers():
    weights = [0.0, 1.0, 3.0, 0.0, 6.0]
    drawn = list(ours.WeightedRandomSampler(weights, 4000, generator=fb.Generator().manual_seed(0)))
    shares = np.bincount(drawn, minlength=5) / 4000
    np.testing.assert_allclose(shares, np.array(weights) / 10, atol=0.03)
    assert sorted(ours.WeightedRandomSampler(weights, 3, replacement=False)) == [1, 2, 4]
    again = list(ours.WeightedRandomSampler(weights, 4000, generator=fb.Generator().manual_seed(0)))
    assert again == drawn and len(ours.WeightedRandomSampler(weights, 7)) == 7


@pytest.mark.parametrize(
    "make",
    [
        lambda d, m: d.TensorDataset(m.ones(2), m.ones(3)),
        lambda d, m: d.StackDataset(),
        lambda d, m: d.StackDataset([1], [1, 2]),
        lambda d, m: d.StackDataset([1], a=[1]),
        lambda d, m: d.ConcatDataset([with_stream(d)]),
        lambda d, m: d.RandomSampler([1], num_samples=0),
        lambda d, m: d.RandomSampler([1], replacement=1),
        lambda d, m: d.WeightedRandomSampler([1.0], 0),
        lambda d, m: d.WeightedRandomSampler([[1.0]], 1),
        lambda d, m: d.WeightedRandomSampler([1.0], 1, replacement=1),
        lambda d, m: d.BatchSampler([1], True, False),
        lambda d, m: d.BatchSampler([1], 1, 1),
        lambda d, m: d.DistributedSampler([1], 2, 2),
        lambda d, m: d.random_split([1, 2], [1, 2]),
        lambda d, m: d.DataLoader([1], num_workers=-1),
        lambda d, m: d.DataLoader([1], prefetch_factor=2),
        lambda d, m: d.DataLoader([1], persistent_workers=True),
        lambda d, m: d.DataLoader([1], multiprocessing_context="fork"),
        lambda d, m: d.DataLoader([1], num_workers=1, multiprocessing_context="spoon"),
        lambda d, m: d.DataLoader([1], num_workers=1, multiprocessing_context=3),
        lambda d, m: d.DataLoader([1], timeout=-1),
        lambda d, m: d.DataLoader(with_stream(d), shuffle=True),
        lambda d, m: setattr(d.DataLoader([1]), "batch_size", 2),
        lambda d, m: list(d.DataLoader([1, 2], sampler=[5])),
        lambda d, m: list(d.DataLoader([1, 2], sampler=[5], num_workers=1)),
        lambda d, m: list(d.ChainDataset([[1]])),
    ],
)
def test_errors(make):
    wanted, found = both(make)
    assert isinstance(wanted, type) and isinstance(found, type)
    assert found is wanted or wanted is AssertionError


def test_splits():
    for lengths in ([3, 7], [0.3, 0.7], [0.25, 0.25, 0.5], [0.34, 0.33, 0.33]):
        wanted = [len(p) for p in theirs.random_split(range(10), lengths)]
        parts = ours.random_split(range(10), lengths)
        assert [len(p) for p in parts] == wanted and sorted(chain(*(p.indices for p in parts))) == list(range(10))
