"""Files of records; batches of sequences of many lengths."""

from itertools import chain

import flambeau as fb
import numpy as np
import pytest
from flambeau.data import BucketBatchSampler, Characters, DataLoader, Records, RecordWriter, pad_collate


@pytest.mark.accept("DAT-18")
def test_records_are_read_in_any_order(tmp_path):
    for k in range(2):
        with RecordWriter(tmp_path / f"a-{k}.rec") as writer:
            for i in range(5):
                writer.write({"__key__": str(i), "npy": np.full(2000, 5 * k + i, np.float32), "cls": 5 * k + i})
    data = Records(str(tmp_path / "a-{0..1}.rec"))
    assert len(data) == 10 and data[7]["cls"] == 7 and data[-1]["__key__"] == "4"
    for options in ({}, {"num_workers": 2}, {"num_workers": 1, "multiprocessing_context": "spawn"}):
        loader = DataLoader(data, 4, shuffle=True, generator=fb.Generator().manual_seed(1), **options)
        found = [(x, i) for b in loader for x, i in zip(b["npy"], b["cls"].tolist())]
        assert sorted(i for _, i in found) == list(range(10)) and all((x == i).all().item() for x, i in found)
    with pytest.raises(IndexError, match="index 10 is out of range for 10"):
        data[10]


@pytest.mark.accept("DAT-18")
def test_malformed_and_damaged_files(tmp_path):
    path = tmp_path / "a.rec"
    with RecordWriter(path) as writer:
        writer.write(b"first")
        writer.write(b"")
    assert [Records(path, decode=None)[i] for i in range(2)] == [b"first", b""]
    good = path.read_bytes()
    with RecordWriter(tmp_path / "none.rec"):
        pass
    assert len(Records(tmp_path / "none.rec")) == 0
    for bad in (b"", b"x" * 100, good[:-1], good[:20] + good[-16:], good[:-16] + b"\xff" * 8 + good[-8:]):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"\[Records\] .*a.rec"):
            Records(path)
    path.write_bytes(good.replace(b"first", b"worst"))
    with pytest.raises(ValueError, match=r"record 0 of .* is damaged"):
        Records(path)[0]
    path.write_bytes(good)
    with pytest.raises(ValueError, match="a record is no sample"):
        Records(path)[1]
    with pytest.raises(KeyError), RecordWriter(tmp_path / "b.rec") as writer:
        raise KeyError
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.rec", "none.rec"]


@pytest.mark.accept("DAT-23")
def test_batches_of_similar_lengths():
    lengths = np.random.default_rng(0).integers(1, 100, 500)
    sampler = BucketBatchSampler(lengths, 10, generator=fb.Generator().manual_seed(0), bucket_size=200)
    first, second = list(sampler), list(sampler)
    assert len(first) == len(sampler) == 50 and sorted(chain(*first)) == list(range(500)) and first != second
    spread = np.mean([np.ptp(lengths[b]) for b in first])
    assert spread < 12 < np.mean([np.ptp(lengths[i : i + 10]) for i in range(0, 500, 10)])
    plain = list(BucketBatchSampler(lengths[:25], 10, shuffle=False, drop_last=True))
    assert len(plain) == 2 and plain[0] == np.argsort(lengths[:25], kind="stable")[:10].tolist()
    assert list(BucketBatchSampler([], 10)) == []
    with pytest.raises(ValueError, match="batch_size is 0"):
        BucketBatchSampler([1], 0)


@pytest.mark.accept("DAT-23")
def test_padding():
    samples = [(np.arange(n), {"t": fb.ones(n, 2)}, n) for n in (3, 1, 2)]
    x, y, n = pad_collate(samples)
    assert x.tolist() == [[0, 1, 2], [0, 0, 0], [0, 1, 0]] and n.tolist() == [3, 1, 2]
    assert y["t"].shape == (3, 3, 2) and y["t"].sum().item() == 12
    assert pad_collate([np.ones(3), np.ones(5)], -1, 4).tolist() == [[1] * 3 + [-1] * 5, [1] * 5 + [-1] * 3]
    with pytest.raises(RuntimeError, match=r"\[pad_collate\] shapes"):
        pad_collate([np.ones((1, 2)), np.ones((2, 3))])
    batches = DataLoader(
        [np.ones(n) for n in (1, 2, 3)], collate_fn=pad_collate, batch_sampler=BucketBatchSampler([1, 2, 3], 2)
    )
    assert sorted(b.shape[1] for b in batches) in ([2, 3], [1, 3])


@pytest.mark.accept("DAT-22")
def test_characters(tmp_path):
    text = "to be, or not to be: that is the question"
    data = Characters(text, 5, stride=3)
    assert len(data) == (len(text) - 6) // 3 + 1 and data.decode(data.encode("not to")) == "not to"
    for i in range(len(data)):
        x, y = data[i]
        assert data.decode(x) == text[3 * i : 3 * i + 5] and data.decode(y) == text[3 * i + 1 : 3 * i + 6]
    (tmp_path / "a.txt").write_text(text)
    x, y = next(iter(DataLoader(Characters(tmp_path / "a.txt", 8), 4)))
    assert x.shape == y.shape == (4, 8) and x[:, 1:].equal(y[:, :-1])
    with pytest.raises(ValueError, match="the vocabulary lacks 'X'"):
        Characters("a Xylophone", 2, vocabulary=data.vocabulary)
    with pytest.raises(ValueError, match="the text has 2 characters"):
        Characters("ab", 2)
    with pytest.raises(IndexError, match=r"\[Characters\] index 12 is out of range"):
        data[12]
