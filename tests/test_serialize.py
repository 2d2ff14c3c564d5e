"""save and load: round trips, other readers of the format, and files that must be refused."""

import io
import json
import os

import flambeau as fb
import flambeau.nn as nn
import numpy as np
import pytest


def model():
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2, bias=False))


@pytest.mark.accept("SER-12")
def test_state_dict_round_trip(tmp_path):
    net, other = model(), model()
    path = tmp_path / "net.safetensors"
    fb.save(net.state_dict(), path)
    assert os.listdir(tmp_path) == ["net.safetensors"]
    other.load_state_dict(fb.load(path))
    for (name, a), (_, b) in zip(net.state_dict().items(), other.state_dict().items()):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=name)


@pytest.mark.accept("SER-12")
def test_the_safetensors_package_reads_and_writes_the_same(tmp_path):
    import safetensors.numpy as st

    net, path = model(), str(tmp_path / "a.safetensors")
    fb.save(net.state_dict(), path)
    read = st.load_file(path)
    assert {k: v.tolist() for k, v in read.items()} == {k: v.tolist() for k, v in net.state_dict().items()}
    arrays = {
        "b": np.arange(6).reshape(2, 3),
        "a": np.array([True, False]),
        "e": np.zeros((0, 2), np.float32),
        "s": np.array(2.5),
    }
    st.save_file(arrays, path)
    found = fb.load(path)
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name].numpy(), array)
        assert found[name].dtype.name == array.dtype.name


@pytest.mark.accept("SER-12")
@pytest.mark.parametrize("dtype", ["bool", "int32", "int64", "float32", "float64"])
def test_all_dtypes_bit_for_bit(dtype):
    values = np.array([0, 1, -1, 3]).astype(dtype)
    if dtype.startswith("float"):
        values = np.array([np.nan, -0.0, np.inf, 1e-45]).astype(dtype)
    stream = io.BytesIO()
    fb.save({"x": fb.tensor(values)}, stream, format="safetensors")
    stream.seek(0)
    assert fb.load(stream)["x"].tobytes() == values.tobytes()


@pytest.mark.accept("SER-12")
def test_nested_checkpoint():
    net = model()
    opt = fb.optim.Adam(net.parameters(), lr=0.1, amsgrad=True)
    net(fb.ones(1, 3)).sum().backward()
    opt.step()
    given = {
        "model": net.state_dict(),
        "optimizer": opt.state_dict(),
        "epoch": 3,
        "best": (0.5, None),
        "names": ["a", True],
        "dtype": fb.float32,
    }
    stream = io.BytesIO()
    fb.save(given, stream, format="safetensors")
    stream.seek(0)
    found = fb.load(stream)
    assert (
        found["epoch"] == 3
        and found["best"] == (0.5, None)
        and found["names"] == ["a", True]
        and found["dtype"] is fb.float32
    )
    assert list(found["model"]) == list(given["model"])
    assert found["optimizer"]["state"][0]["step"].item() == 1.0 and found["optimizer"]["param_groups"][0]["betas"] == (
        0.9,
        0.999,
    )
    fresh = model()
    fresh.load_state_dict(found["model"])
    other = fb.optim.Adam(fresh.parameters())
    other.load_state_dict(found["optimizer"])
    for m, o in ((net, opt), (fresh, other)):
        o.zero_grad()
        m(fb.ones(2, 3)).sum().backward()
        o.step()
    for a, b in zip(net.parameters(), fresh.parameters()):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


@pytest.mark.accept("T-26")
def test_clones_come_back_as_tensors_of_their_own(tmp_path):
    x = fb.tensor([1.0, 2.0])
    y = x.clone()
    assert x.tolist() == y.tolist()
    fb.save({"x": x, "y": y}, tmp_path / "both")
    loaded = fb.load(tmp_path / "both")
    loaded["x"].add_(1.0)
    assert loaded["y"].tolist() == [1.0, 2.0]


def test_shared_tensors_are_stored_once_and_come_back_shared():
    x = fb.ones(1000)
    stream = io.BytesIO()
    fb.save({"a": x, "b": x.detach(), "c": x[:3]}, stream, format="safetensors")
    assert len(stream.getvalue()) < 5000
    stream.seek(0)
    found = fb.load(stream)
    assert found["a"] is found["b"] and found["c"].tolist() == [1.0] * 3


def test_names_that_collide_and_views():
    given = {
        "a.b": fb.ones(1),
        "a": {"b": fb.zeros(1)},
        "__metadata__": fb.full((1,), 5.0),
        "t": fb.arange(6).reshape(2, 3).t(),
    }
    stream = io.BytesIO()
    fb.save(given, stream, format="safetensors")
    stream.seek(0)
    found = fb.load(stream)
    assert (found["a.b"].item(), found["a"]["b"].item(), found["__metadata__"].item()) == (1.0, 0.0, 5.0)
    assert found["t"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_what_cannot_be_saved(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_text("before")
    with pytest.raises(TypeError, match=r"\[save\] there is a Linear at 'net'. .* save its state_dict\(\)"):
        fb.save({"net": nn.Linear(1, 1)}, path)
    with pytest.raises(TypeError, match=r"\[save\] the dict at '' has a key of type tuple"):
        fb.save({(1, 2): 3}, path)
    assert path.read_text() == "before" and os.listdir(tmp_path) == ["x.safetensors"]


def packed(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.accept("SER-12")
@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "ends within its length"),
        (b"\xff" * 8, "its header would have"),
        (packed(b"{}")[:-1], "ends within its header"),
        (packed(b"[1]"), "its header is not an object"),
        (packed(b"{nonsense"), "its header is not JSON"),
        (packed({"x": entry()}, bytes(7)), r"not fully covered \(its tensors need 8 bytes, 7 follow the header\)"),
        (
            packed({"x": entry()}, bytes(9)),
            r"not fully covered \(its tensors need 8 bytes, 9 (or more )?follow the header\)",
        ),
        (packed({"x": entry(offsets=(0, 4))}, bytes(4)), "invalid shape, data type, or offset for tensor"),
        (packed({"x": entry(dtype="Q9")}, bytes(8)), "unknown variant `Q9`"),
        (packed({"x": entry(shape=(-2,))}, bytes(8)), "integer `-2`, expected usize"),
        (packed({"x": entry(offsets=(4, 12))}, bytes(12)), "invalid offset for tensor `x`"),
        (packed({"x": entry(), "y": entry(offsets=(4, 12))}, bytes(12)), "invalid offset for tensor `y`"),
        (packed({"x": {"dtype": "F32"}}), "missing field `shape`"),
        (packed(b'{"x": 1, "x": 2}'), "'x' stands in its header twice"),
        (packed({"x": entry("BOOL", (2,), (0, 2))}, b"\x01\x02"), "bool bytes other than 0 and 1"),
        (packed({"__metadata__": {"a": 1}}), "integer `1`, expected a string"),
        (
            packed({"__metadata__": {"flambeau.structure": '{"tensor": "x"}'}}),
            "structure in the file's metadata is malformed",
        ),
    ],
)
def test_malformed_files_are_refused(content, text, tmp_path):
    for source in (io.BytesIO(content), tmp_path / "bad"):
        if not isinstance(source, io.BytesIO):
            source.write_bytes(content)
        with pytest.raises(ValueError, match=text):
            fb.load(source)


def test_unsupported_dtype_is_named():
    with pytest.raises(TypeError, match=r"\[load\] 'x' has dtype F8_E8M0, which is not supported"):
        fb.load(io.BytesIO(packed({"x": entry("F8_E8M0", (4,), (0, 4))}, bytes(4))))
    assert fb.load(io.BytesIO(packed({"x": entry("C64", (4,), (0, 32))}, bytes(32))))["x"].tolist() == [0j] * 4
