"""Archives of samples: streams, shuffling, contents, and the tools that write them."""

import io
import json
import tarfile
from collections import Counter

import flambeau as fb
import numpy as np
import pytest
from flambeau.data import DataLoader, ShardWriter, TarStream, TarWriter, archive_tools
from flambeau.data.archives import encoded, expand, samples, split_name


def numbered(tmp_path, n=20, shards=4, ending="tar"):
    with ShardWriter(str(tmp_path / f"a-%02d.{ending}"), n // shards) as writer:
        for i in range(n):
            writer.write({"__key__": f"{i:03d}", "cls": i, "txt": f"sample {i}", "npy": fb.full((2,), i)})
    return str(tmp_path / f"a-{{00..{shards - 1:02d}}}.{ending}")


def test_names():
    assert expand("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"] and expand("a.tar") == ["a.tar"]
    assert len(expand("{0..2}/{0..3}")) == 12
    assert split_name("dir.x/01.seg.PNG") == ("dir.x/01", "seg.png") and split_name("a") == ("a", "")


@pytest.mark.accept("DAT-11", "DAT-17")
@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_what_is_written_is_read(tmp_path, ending):
    stream = TarStream(numbered(tmp_path, ending=ending))
    raw = list(stream)
    assert [s["__key__"] for s in raw] == [f"{i:03d}" for i in range(20)] and raw[3]["cls"] == b"3"
    assert raw[7]["__url__"].endswith(f"a-01.{ending}")
    pairs = list(stream.decode().to_tuple("npy", "cls", "label;txt"))
    assert [(x.tolist(), c, t) for x, c, t in pairs] == [([i, i], i, f"sample {i}") for i in range(20)]
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a-{i:02d}.{ending}" for i in range(4)], "no partial files"
    batches = list(DataLoader(stream.decode().to_tuple("npy cls"), 8))
    assert [b[1].tolist() for b in batches] == [list(range(8)), list(range(8, 16)), list(range(16, 20))]


@pytest.mark.accept("DAT-11")
@pytest.mark.parametrize("workers", [2, 6])
def test_workers_share_archives_or_samples(tmp_path, workers):
    stream = TarStream(numbered(tmp_path)).decode().to_tuple("cls").map(lambda pair: pair[0])
    found = list(DataLoader(stream, None, num_workers=workers))
    assert sorted(found) == list(range(20))
    assert list(stream.select(lambda x: x % 2)) == list(range(1, 20, 2))


@pytest.mark.accept("DAT-11", "T-20")
def test_shuffling_through_a_buffer(tmp_path):
    paths = numbered(tmp_path)

    def orders(seed, archives=False):
        fb.manual_seed(seed)
        stream = TarStream(paths, archives).decode().shuffle(6).to_tuple("cls")
        return [[c for (c,) in stream] for _ in range(2)]

    first, second = orders(1)
    assert sorted(first) == sorted(second) == list(range(20)) and first != second
    assert all(value <= place + 6 for place, value in enumerate(first)), "what comes is at most a buffer ahead"
    assert orders(1)[0] == first and orders(2)[0] != first
    assert sorted(orders(1, True)[0]) == list(range(20))
    with pytest.raises(ValueError, match=r"\[TarStream.shuffle\] size is 0"):
        TarStream(paths).shuffle(0)


@pytest.mark.accept("DAT-12")
def test_images_in_archives(tmp_path):
    pytest.importorskip("PIL.Image")
    image = np.random.default_rng(0).integers(0, 256, (3, 5, 6), dtype=np.uint8)
    with TarWriter(tmp_path / "a.tar") as writer:
        writer.write({"__key__": "x/1", "png": fb.tensor(image), "seg.png": fb.tensor(image[:1]), "json": {"a": [1]}})
    (sample,) = TarStream(tmp_path / "a.tar").decode()
    assert sample["png"].numpy().tolist() == image.tolist() and sample["json"] == {"a": [1]}
    (gray,) = TarStream(tmp_path / "a.tar").decode("L")
    assert gray["seg.png"].numpy().tolist() == image[:1].tolist()
    with TarWriter(tmp_path / "b.tar") as writer:
        writer.write({"__key__": "bad", "png": b"no image"})
    with pytest.raises(ValueError, match=r"\[read_image\] the stream is no image") as caught:
        list(TarStream(tmp_path / "b.tar").decode())
    assert "this was at sample 'bad' of" in caught.value.__notes__[0]


@pytest.mark.accept("DAT-17")
def test_refusals(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"\[TarStream\] there is no"):
        list(TarStream(tmp_path / "none.tar"))
    (tmp_path / "bad.tar").write_bytes(b"x" * 2000)
    with pytest.raises(ValueError, match="is malformed"):
        list(TarStream(tmp_path / "bad.tar"))
    with pytest.raises(KeyError, match=r"sample '000' of .* has no jpg or png, but cls, txt, npy"):
        list(TarStream(numbered(tmp_path)).to_tuple("jpg;png"))
    with pytest.raises(ValueError, match="__key__ None"), TarWriter(tmp_path / "c.tar") as writer:
        writer.write({"cls": 1})
    assert not list(tmp_path.glob("*c.tar*")) and not list(tmp_path.glob(".*"))
    with pytest.raises(TypeError, match=r"\[TarWriter\] 'bin' does not take list"):
        encoded("bin", [1])
    with pytest.raises(ValueError, match="has no place for a number"):
        ShardWriter("a.tar")
    with tarfile.open(tmp_path / "twice.tar", "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("a.cls"), io.BytesIO())
    with pytest.raises(ValueError, match=r"'a\.cls' twice in a row"):
        list(samples(tmp_path / "twice.tar"))


def test_writing_is_deterministic(tmp_path):
    for name in ("a.tar", "b.tar"):
        with TarWriter(tmp_path / name) as writer:
            writer.write({"__key__": "1", "cls": 3})
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


@pytest.mark.accept("DAT-13", "DAT-16")
def test_tools_shard_label_and_merge(tmp_path, capsys):
    for name, n in (("cat", 12), ("dog", 6)):
        (tmp_path / "files" / name).mkdir(parents=True)
        for i in range(n):
            (tmp_path / "files" / name / f"{i}.txt").write_text(f"{name} {i}")
    run = archive_tools.main
    assert run(["shard", str(tmp_path / "files"), "--to", str(tmp_path / "s-%d.tar"), "--count", "5"]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / f"s-{i}.tar") for i in range(4)]
    found = list(TarStream(str(tmp_path / "s-{0..3}.tar")).decode().to_tuple("txt", "cls"))
    assert len(found) == 18 and all(c == {"cat": 0, "dog": 1}[t.split()[0]] for t, c in found)
    assert run(["label", str(tmp_path / "s-{0..3}.tar"), "--to", str(tmp_path / "labels.json")]) == 0
    assert capsys.readouterr().out == "0\t12\n1\t6\n" and json.loads((tmp_path / "labels.json").read_text()) == {
        "0": 0,
        "1": 1,
    }
    assert run(["merge", str(tmp_path / "s-{0..3}.tar"), "--to", str(tmp_path / "m-%d.tar"), "--count", "6"]) == 0
    capsys.readouterr()
    for i in range(3):
        part = [c for _, c in TarStream(tmp_path / f"m-{i}.tar").decode().to_tuple("txt", "cls")]
        assert Counter(part)[0] in (3, 4, 5) and Counter(part)[1] in (1, 2, 3), "labels in turn"
    merged = [t for t, _ in TarStream(str(tmp_path / "m-{0..2}.tar")).decode().to_tuple("txt", "cls")]
    assert sorted(merged) == sorted(t for t, _ in found) and merged != [t for t, _ in found]
    assert run(["shard", str(tmp_path / "files"), "--to", str(tmp_path / "r-%d.tar"), "--seed", "1"]) == 0
    capsys.readouterr()
    shuffled = [s["__key__"] for s in TarStream(tmp_path / "r-0.tar")]
    assert shuffled != sorted(shuffled) and len(shuffled) == 18
    assert run(["label", str(tmp_path / "none.tar")]) == 1 and "there is no" in capsys.readouterr().err
    with TarWriter(tmp_path / "bare.tar") as writer:
        writer.write({"__key__": "1", "txt": "x"})
    assert run(["label", str(tmp_path / "bare.tar")]) == 1 and "has no label" in capsys.readouterr().err
