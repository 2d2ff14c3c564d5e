"""Large files: written from the memory of tensors while the disk is at work, and mapped without reading them."""

import io
import json
import os
import re
import tracemalloc

import flambeau as fb
import numpy as np
import pytest
from flambeau import safetensors_format, steady
from flambeau.checkpoints import CheckpointManager

NAMES = ("x.pt", "x.safetensors")


def streamed(obj, name, **options):
    """What `save` writes to a stream."""
    stream = io.BytesIO()
    fb.save(obj, stream, **({"format": "safetensors"} if name.endswith("safetensors") else {}), **options)
    return stream.getvalue()


# ---- writing --------------------------------------------------------------------------------------------------


@pytest.fixture
def begun(monkeypatch):
    """Parts of files that the disk was told to begin with: file, start, size."""
    noted = []
    real = steady.begin_writing

    def note(file, start, size):
        noted.append((os.readlink(f"/proc/self/fd/{file}"), start, size))
        real(file, start, size)

    monkeypatch.setattr(steady, "begin_writing", note)
    return noted


@pytest.mark.accept("SER-01", "SER-12")
@pytest.mark.parametrize("options", [{"format": "zip"}, {"format": "legacy"}, {"format": "safetensors"}])
def test_the_disk_begins_while_a_file_is_written(tmp_path, monkeypatch, begun, options):
    monkeypatch.setattr(steady, "BLOCK", 1 << 16)
    state = {f"{i}.{n}": fb.arange(n).float() + i for i in range(3) for n in (1, 1000, 50_000)}
    fb.save(state, tmp_path / "archive", **options)
    stream = io.BytesIO()
    fb.save(state, stream, **options)
    size = len(stream.getvalue())
    assert (tmp_path / "archive").read_bytes() == stream.getvalue()
    assert {path.startswith(str(tmp_path)) for path, _, _ in begun} == {True}
    assert [start for _, start, _ in begun] == [
        0,
        *np.cumsum([n for _, _, n in begun])[:-1],
    ]  # no part left out, none twice
    assert begun[-1][1] + begun[-1][2] == size - size % (1 << 16)


def test_files_are_written_where_the_system_cannot_begin_early(tmp_path, monkeypatch):
    monkeypatch.setattr(steady, "_function", lambda: None)
    monkeypatch.setattr(steady, "BLOCK", 1 << 12)
    x = fb.arange(10_000)
    for name in NAMES:
        fb.save({"x": x}, tmp_path / name)
        assert fb.load(tmp_path / name)["x"].tolist() == x.tolist()


@pytest.mark.accept("SER-07")
def test_nothing_is_copied_to_save_it(tmp_path):
    model = fb.nn.Linear(1 << 10, 1 << 10)
    optimizer = fb.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(fb.ones(1, 1 << 10)).sum().backward()
    optimizer.step()
    manager = CheckpointManager(tmp_path, model=model, optimizer=optimizer)
    manager.save(1)  # imports, and computes
    tracemalloc.start()
    manager.save(2)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1 << 20, f"{most} bytes beside weights and momenta of 4 MB each"


@pytest.mark.accept("SER-12")
def test_safetensors_are_those_of_the_package():
    import safetensors.numpy as package

    chance = np.random.default_rng(0)
    dtypes = (
        np.float64,
        np.float32,
        np.float16,
        np.bool_,
    )  # of one size each: the package has an order of its own among those
    arrays = {f'é{i}\n"{d.__name__}': (chance.standard_normal((i, 3)) * 5).astype(d) for i in (0, 2) for d in dtypes}
    arrays["scalar"] = np.array(2.5)
    for metadata in ({}, {"format": "pt ü"}):
        stream = io.BytesIO()
        safetensors_format.write(stream, {name: fb.tensor(a) for name, a in arrays.items()}, metadata)
        assert stream.getvalue() == package.save(arrays, metadata or None)
    x = fb.arange(24).view(2, 3, 4)
    odd = {"rows": x[:, ::2], "turned": x.permute(2, 0, 1), "last": x[1, 2], "repeated": x[0, :1].expand(5, 4)}
    found = package.load(streamed(odd, "x.safetensors"))
    assert {name: a.tolist() for name, a in found.items()} == {name: t.tolist() for name, t in odd.items()}


def test_a_header_that_nobody_would_read_is_refused(monkeypatch):
    monkeypatch.setattr(safetensors_format.foreign, "LARGEST_HEADER", 1000)
    with pytest.raises(ValueError, match=r"\[save\] the header would have \d+ bytes"):
        streamed({"x" * 1000: fb.ones(1)}, "x.safetensors")


# ---- mapping --------------------------------------------------------------------------------------------------


def resident(path):
    """Bytes of a file that maps of this process have read, by what the system says."""
    with open("/proc/self/smaps") as lines:
        text = lines.read()
    found = re.findall(rf"{re.escape(str(path))}\n(?:.*\n)*?Rss: +(\d+) kB", text)
    assert found, "it is not mapped"
    return sum(map(int, found)) << 10


def bytes_read():
    with open("/proc/self/io") as lines:
        return int(lines.readline().split()[1])


needs_proc = pytest.mark.skipif(
    not os.access("/proc/self/smaps", os.R_OK), reason="the system does not tell what was read"
)


@needs_proc
@pytest.mark.accept("SER-12")
@pytest.mark.parametrize("name", NAMES)
def test_mapping_reads_nothing_until_values_are_looked_at(tmp_path, name):
    x = fb.arange(1 << 20)
    fb.save({"first": x, "second": x + 1}, tmp_path / name)
    before = bytes_read()
    found = fb.load(tmp_path / name, mmap=True)
    assert found["first"].shape == (1 << 20,) and bytes_read() - before < 1 << 18
    assert resident(tmp_path / name) == 0
    assert found["second"].sum().item() == x.sum().item() + (1 << 20)
    assert 8 << 20 <= resident(tmp_path / name) < 12 << 20  # the second one and little else


@needs_proc
@pytest.mark.accept("SER-12")
def test_mapping_a_file_larger_than_the_memory(tmp_path):
    count = 1 << 36  # 256 GB, of which the disk holds the header and a number
    header = json.dumps({"w": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}}).encode()
    header += b" " * (-len(header) % 8)
    with open(tmp_path / "x.safetensors", "wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        stream.seek(4 * count - 4, io.SEEK_CUR)
        stream.write(np.float32(2.5).tobytes())
    w = fb.load(tmp_path / "x.safetensors", mmap=True)["w"]
    assert w.shape == (count,) and resident(tmp_path / "x.safetensors") == 0
