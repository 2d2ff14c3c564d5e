"""load answers what is no sound safetensors file with ValueError in the house's form, soon and in little memory."""

import io
import json
import pickle
import re
import tracemalloc
import zipfile

import flambeau as fb
import numpy as np
import pytest
from support import rounds

FORM = re.compile(r"\[load\] .*[.)]$", re.DOTALL)


def packed(header, data=b"\0" * 4):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(shape=(1,), offsets=(0, 4), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def structure(tree):
    text = tree if isinstance(tree, str) else json.dumps(tree)
    return {"__metadata__": {"flambeau.structure": text}, "a": entry()}


def refused(content, tmp_path, match=""):
    """From a stream and from a path."""
    (tmp_path / "file").write_bytes(content)
    for source in (io.BytesIO(content), tmp_path / "file"):
        with pytest.raises(ValueError, match=match) as found:
            fb.load(source)
        assert FORM.match(str(found.value)) and len(str(found.value)) < 800, found.value


SPOILED = {
    "a size beyond int64": {"a": entry([2**62], (0, 2**64))},
    "a size beyond int64, and none": {"a": entry([2**63, 0], (0, 0))},
    "a size of 31 digits, and none": {"a": entry([0, 10**30], (0, 0))},
    "sizes whose product is beyond int64, and none": {"a": entry([2**40, 2**40, 0], (0, 0))},
    "a list for a dtype": {"a": entry(dtype=[])},
    "a dict for a dtype": {"a": entry(dtype={})},
    "null for a dtype": {"a": entry(dtype=None)},
    "true for a size": {"a": entry([True])},
    "a float for a size": {"a": entry([1.0])},
    "three offsets": {"a": entry(offsets=(0, 2, 4))},
    "offsets that fall": {"a": entry([0], (4, 0))},
    "more dimensions than an array may have": {"a": entry([1] * 65)},
    "100,000 dimensions": {"a": entry([1] * 100_000)},
    "a list for an entry": {"a": [1]},
    "metadata that is a list": {"__metadata__": ["x"], "a": entry()},
    "names nested too deeply": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a number of 5,000 digits where nothing looks": b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"b":'
    + b"9" * 5000
    + b"e,}}",
    "a name twice": b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
    b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    "metadata twice": b'{"__metadata__":{"k":"1","k":"2"},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    "no Unicode": b'{"\xff":1}',
    "half a surrogate pair": b'{"\\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
    "a dict key that is a list": structure({"dict": [[["k"], {"value": 1}]]}),
    "a dict key that is a dict": structure({"dict": [[{}, {"value": 1}]]}),
    "a dict key twice": structure({"dict": [["k", {"value": 1}], ["k", {"value": 2}]]}),
    "a tensor named by a list": structure({"tensor": ["a"]}),
    "a tensor that is not there": structure({"tensor": "b"}),
    "a dtype named by a dict": structure({"dtype": {}}),
    "a list that is a string": structure({"list": "ab"}),
    "a value that is a list": structure({"value": []}),
    "two kinds": structure({"value": 1, "list": []}),
    "a kind twice": structure('{"value": 1, "value": 2}'),
    "a number of 5,000 digits": structure('{"value": ' + "9" * 5000 + "}"),
    "a structure nested deeply": structure('{"list": [' * 50_000 + "]}" * 50_000),
    "a structure nested just too deeply": structure('{"list": [' * 400 + '{"value": 1}' + "]}" * 400 + "x"),
    "no structure": structure("nonsense"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_spoiled_headers_are_refused(name, tmp_path):
    refused(packed(SPOILED[name]), tmp_path)


def test_a_long_header_of_nonsense_costs_no_more_than_reading_it(tmp_path):
    sizes = b",".join([b"9" * 4000] * 3000)
    content = packed(b'{"a":{"dtype":"F32","shape":[' + sizes + b'],"data_offsets":[0,4]}}')
    tracemalloc.start()
    refused(content, tmp_path)  # it took hours: the product of the sizes
    assert tracemalloc.get_traced_memory()[1] < 12 * len(content)
    tracemalloc.stop()


class Endless(io.RawIOBase):
    """A stream that has as much as is asked for, and says how much that was."""

    def __init__(self, start):
        self.start, self.given = start, 0

    def read(self, size=-1):
        assert size >= 0
        found = self.start[self.given : self.given + size]
        found += bytes(size - len(found))
        self.given += size
        return found


def test_streams_are_read_no_further_than_their_header_says():
    for header, tensors in (({"a": entry()}, 4), ({}, 0)):
        stream = Endless(packed(header, b""))
        with pytest.raises(ValueError, match="follow the header"):
            fb.load(stream)
        assert stream.given == len(packed(header, b"")) + tensors + 1
    with pytest.raises(ValueError, match="its header would have"):
        fb.load(Endless(b"\xff" * 8))


def test_streams_that_give_little_at_a_time():
    class Slow(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 3))

    stream = io.BytesIO()
    fb.save({"a": fb.arange(100), "b": [1, fb.ones(0, 3)]}, stream, format="safetensors")
    found = fb.load(Slow(stream.getvalue()))
    assert found["a"].tolist() == list(range(100)) and found["b"][1].shape == (0, 3)


# ---- mutations of sound files -------------------------------------------------------------------------------------


def sound():
    stream = io.BytesIO()
    fb.save(
        {"w": fb.arange(3).float(), "n": {"k": [1, None, "x", (2.5,)]}, "b": fb.tensor([True, False])},
        stream,
        format="safetensors",
    )
    return stream.getvalue()


def loads_or_refuses(content):
    """Whether it was refused."""
    try:
        fb.load(io.BytesIO(content))
    except ValueError as error:
        assert FORM.match(str(error)), error
        return True
    except TypeError as error:  # a dtype that there is, but not here
        assert str(error).startswith("[load]"), error
        return True
    return False


def test_every_byte_of_the_header_changed(tmp_path):
    content = sound()
    end = 8 + int.from_bytes(content[:8], "little")
    values = (0, 0x20, 0x22, 0x30, 0x39, 0x2C, 0x5B, 0x7D, 0xFF)[: rounds(2, 9, 9)]
    refusals = 0
    for at in range(end):
        for value in (content[at] ^ 1, *values):
            refusals += loads_or_refuses(content[:at] + bytes([value]) + content[at + 1 :])
    assert refusals > end


def test_every_length_of_a_file():
    content = sound()
    assert all(loads_or_refuses(content[:n]) for n in range(len(content)))
    assert loads_or_refuses(content + b"\0")


def test_random_mutations(tmp_path):
    rng, content = np.random.default_rng(1), sound()
    refusals, count = 0, rounds(300, 5_000, 50_000)
    tokens = [b"0", b"-1", b"1e9", b"9" * 30, b"null", b"[]", b"{}", b'"', b",", b"]", b"true", b"18446744073709551615"]
    for _k in range(count):
        mutant = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            at, length = rng.integers(len(mutant)), int(rng.integers(0, 9))
            mutant[at : at + length] = tokens[rng.integers(len(tokens))] if rng.random() < 0.7 else rng.bytes(length)
        if rng.random() < 0.7:  # a length that fits, so that more than the length is looked at
            end = bytes(mutant).rfind(b"}") + 1
            mutant[:8] = max(0, end - 8).to_bytes(8, "little")
        refusals += loads_or_refuses(bytes(mutant))
    assert refusals > count / 2


# ---- files of other kinds -----------------------------------------------------------------------------------------


class Danger:
    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was executed')",)


def archive(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as z:
        for name, data in members.items():
            z.writestr(name.replace("__", "/").replace("_", "."), data)
    return stream.getvalue()


def array_file(write, *arguments, **named):
    stream = io.BytesIO()
    write(stream, *arguments, **named)
    return stream.getvalue()


FOREIGN = {
    r"it names builtins\.exec, which is not among what may be called\. .*weights_only=False": archive(
        archive__data_pkl=pickle.dumps(Danger()), archive__version="3\n"
    ),
    r"a pickle \(.*never executed.*pickle\.load": pickle.dumps(Danger(), protocol=4),
    r"a pickle": pickle.dumps({"w": [1.0] * 10}, protocol=2),
    r"\.npy.*numpy\.load": array_file(np.save, np.zeros(3)),
    r"\.npz.*from_numpy.*numpy\.load": array_file(np.savez, a=np.zeros(3), b=np.ones(2)),
    r"zip archive, not a safetensors": archive(readme_txt="hello"),
    r"zip archive": archive(x="y")[:30],
    r"ONNX.*onnx.load": b"\x08\x07\x12\x07pytorch\x1a\x05" + bytes(100),
    r"GGUF": b"GGUF\x03\0\0\0" + bytes(50),
    r"HDF5": b"\x89HDF\r\n\x1a\n" + bytes(50),
    r"gzip": b"\x1f\x8b\x08\0\0\0\0\0" + bytes(50),
    r"JSON text": b'{"weights": [1, 2, 3]}',
    r"Git LFS": b"version https://git-lfs.github.com/spec/v1\n",
    r"executable": b"\x7fELF\x02\x01\x01\0" + bytes(50),
}


@pytest.mark.parametrize("match", FOREIGN)
def test_files_of_other_kinds_are_named_and_never_executed(match, tmp_path):
    refused(FOREIGN[match], tmp_path, match)


def test_the_advice_for_arrays_works(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.arange(3.0), b=np.array([True]))
    found = {k: fb.from_numpy(v) for k, v in np.load(tmp_path / "a.npz").items()}
    fb.save(found, tmp_path / "a.safetensors")
    assert fb.load(tmp_path / "a.safetensors")["a"].tolist() == [0, 1, 2]
