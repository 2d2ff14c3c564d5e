"""Datasets, samplers and loaders."""

from collections import namedtuple

import flambeau as fb
import numpy as np
import pytest
from flambeau.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
    random_split,
)
from flambeau.runtime import recorder

X, Y = fb.tensor(np.arange(20.0, dtype=np.float32).reshape(10, 2)), fb.arange(10)


class Squares(Dataset):
    def __len__(self):
        return 7

    def __getitem__(self, i):
        if i >= 7:
            raise IndexError(i)
        return {"x": float(i), "y": (i * i, np.float32(i)), "name": str(i)}


@pytest.mark.accept("DAT-02")
def test_tensor_dataset():
    data = TensorDataset(X, Y)
    assert len(data) == 10 and data[3][0].tolist() == [6.0, 7.0] and data[-1][1].item() == 9
    with pytest.raises(ValueError, match=r"\[TensorDataset\] first sizes \[10, 9\] must be equal"):
        TensorDataset(X, Y[:9])


@pytest.mark.accept("DAT-03")
@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [4, 4, 2]), (True, [4, 4])])
def test_batches_in_order(drop_last, sizes):
    loader = DataLoader(TensorDataset(X, Y), batch_size=4, drop_last=drop_last)
    batches = list(loader)
    assert len(loader) == len(batches) and [len(b[1]) for b in batches] == sizes
    assert [v for b in batches for v in b[1].tolist()] == list(range(sum(sizes)))
    assert batches[1][0].tolist() == X[4:8].tolist()
    assert isinstance(batches[0], list)


@pytest.mark.accept("DAT-03", "T-20")
def test_shuffling_visits_everything_in_a_new_order_each_epoch():
    loader = DataLoader(TensorDataset(X, Y), batch_size=3, shuffle=True, generator=fb.Generator().manual_seed(5))
    epochs = [[v for _, y in loader for v in y.tolist()] for _ in range(3)]
    assert all(sorted(e) == list(range(10)) for e in epochs) and len({tuple(e) for e in epochs}) == 3
    again = DataLoader(TensorDataset(X, Y), batch_size=3, shuffle=True, generator=fb.Generator().manual_seed(5))
    assert [v for _, y in again for v in y.tolist()] == epochs[0]
    for x, y in loader:
        np.testing.assert_array_equal(x.numpy()[:, 0], 2.0 * y.numpy())


@pytest.mark.accept("DAT-03")
def test_loading_tensors_records_nothing():
    loader = DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True)
    fb.flush()
    before = recorder.stats()
    list(loader)
    assert recorder.stats()["misses"] == before["misses"] and recorder.stats()["pending_ops"] == 0


def test_batches_see_writes_to_the_data():
    x = X.clone()
    loader = DataLoader(TensorDataset(x), batch_size=10)
    x.mul_(2)
    assert next(iter(loader))[0].tolist() == (X * 2).tolist()
    x.mul_(0)
    assert next(iter(loader))[0].sum().item() == 0


@pytest.mark.accept("DAT-03")
def test_collating_dicts_tuples_numbers_and_strings():
    batches = list(DataLoader(Squares(), batch_size=3))
    assert [len(b["name"]) for b in batches] == [3, 3, 1]
    first = batches[1]
    assert first["x"].tolist() == [3.0, 4.0, 5.0] and first["name"] == ["3", "4", "5"]
    assert (
        first["y"][0].dtype is fb.int64 and first["y"][0].tolist() == [9, 16, 25] and first["y"][1].dtype is fb.float32
    )
    Point = namedtuple("Point", "a b")
    points = [Point(fb.ones(2), 1), Point(fb.zeros(2), 2)]
    batch = next(iter(DataLoader(points, batch_size=2)))
    assert type(batch) is Point and batch.a.shape == (2, 2) and batch.b.tolist() == [1, 2]
    with pytest.raises(TypeError, match=r"\[default_collate\] samples of type object cannot be stacked"):
        list(DataLoader([object()]))


def test_collated_floats_are_double_as_pythons_are():
    """Nothing of a target is rounded on the way; the first sample decides, as in PyTorch."""
    plain = default_collate([0.1, 0.2])
    assert plain.dtype is fb.float64 and plain.tolist() == [0.1, 0.2]
    floats, ints = default_collate([(0.1, 1), (0.2, 2)])
    assert floats.dtype is fb.float64 and floats.tolist() == [0.1, 0.2] and ints.dtype is fb.int64
    assert default_collate([{"a": 0.5}])["a"].dtype is fb.float64
    assert default_collate([2.5, 1]).dtype is fb.float64 and default_collate([1, 2.5]).dtype is fb.float32
    assert default_collate([True, False]).dtype is fb.bool and default_collate([np.float32(1)]).dtype is fb.float32
    assert next(iter(DataLoader([0.1, 0.2], batch_size=2))).tolist() == [0.1, 0.2]


def test_batch_size_none_collate_and_samplers():
    assert [y.item() for _, y in DataLoader(TensorDataset(X, Y), batch_size=None)] == list(range(10))
    assert list(DataLoader(list(range(5)), batch_size=2, collate_fn=sum)) == [1, 5, 4]
    picked = DataLoader(TensorDataset(X, Y), batch_size=2, sampler=[8, 1, 3])
    assert [b[1].tolist() for b in picked] == [[8, 1], [3]]
    batches = DataLoader(TensorDataset(X, Y), batch_sampler=BatchSampler(SequentialSampler(range(4)), 3, False))
    assert [b[1].tolist() for b in batches] == [[0, 1, 2], [3]] and len(batches) == 2
    assert sorted(SubsetRandomSampler([5, 7, 9])) == [5, 7, 9]
    drawn = list(RandomSampler(range(3), replacement=True, num_samples=50))
    assert len(drawn) == 50 and set(drawn) == {0, 1, 2}
    assert len(list(RandomSampler(range(4), num_samples=10))) == 10


def test_streams():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(5))

    assert [b.tolist() for b in DataLoader(Stream(), batch_size=2)] == [[0, 1], [2, 3], [4]]
    assert [b.tolist() for b in DataLoader(Stream(), batch_size=2, drop_last=True)] == [[0, 1], [2, 3]]
    with pytest.raises(ValueError, match="a stream of samples has no indices"):
        DataLoader(Stream(), shuffle=True)


def test_subsets_splits_and_concatenation():
    data = TensorDataset(X, Y)
    part = Subset(data, [7, 2])
    assert len(part) == 2 and part[1][1].item() == 2
    assert next(iter(DataLoader(part, batch_size=2)))[1].tolist() == [7, 2]
    both = data + part
    assert isinstance(both, ConcatDataset) and len(both) == 12 and both[10][1].item() == 7 and both[-1][1].item() == 2
    a, b = random_split(data, [0.7, 0.3], fb.Generator().manual_seed(0))
    assert (len(a), len(b)) == (7, 3) and sorted([*a.indices, *b.indices]) == list(range(10))
    with pytest.raises(ValueError, match=r"\[random_split\] lengths \[4, 5\] do not add up to 10"):
        random_split(data, [4, 5])


@pytest.mark.accept("T-08")
def test_errors_of_the_dataset_reach_the_user():
    class Broken(Squares):
        def __getitem__(self, i):
            raise KeyError(f"sample {i}")

    with pytest.raises(KeyError, match="sample 0"):
        list(DataLoader(Broken()))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_workers": -1}, r"\[DataLoader\] num_workers is -1"),
        ({"timeout": -1}, r"\[DataLoader\] timeout is -1"),
        ({"prefetch_factor": 2}, "prefetch_factor needs workers"),
        ({"num_workers": 1, "prefetch_factor": 0}, "prefetch_factor is 0"),
        ({"persistent_workers": True}, "persistent_workers needs workers"),
        ({"multiprocessing_context": "fork"}, "multiprocessing_context needs workers"),
        ({"num_workers": 1, "multiprocessing_context": "spoon"}, "multiprocessing_context is 'spoon'"),
        ({"batch_size": 0}, r"\[BatchSampler\] batch_size is 0"),
        ({"shuffle": True, "sampler": [0]}, "sampler and shuffle exclude each other"),
        ({"batch_sampler": [[0]], "batch_size": 2}, "batch_sampler excludes batch_size"),
        ({"batch_size": None, "drop_last": True}, "drop_last needs a batch_size"),
    ],
)
def test_bad_options(options, text):
    with pytest.raises(ValueError, match=text):
        DataLoader(TensorDataset(X), **options)


def test_the_name_that_torch_programs_use():
    import flambeau.utils.data as data

    assert data.DataLoader is DataLoader and fb.utils.data.TensorDataset is TensorDataset
