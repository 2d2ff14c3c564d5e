"""A dtype is a row of one table: one that is no row of it, made here, goes through tensors, compiled code, text and files."""

from __future__ import annotations

import flambeau as fb
import flambeau.dialects.tape
import ml_dtypes
import numpy as np
import opgen
import pytest
from flambeau.compiler import driver
from flambeau.compiler.options import Options
from flambeau.dialects import dtypes, reference
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import Category, DType
from flambeau.dialects.irdl import parse_graph, print_graph
from flambeau.dialects.record import REGISTRY, find

pytestmark = pytest.mark.filterwarnings(r"error:\[compile\]:RuntimeWarning")

TOY = DType("uint16", "ui16", Category.INTEGER, 16, signed=False, c_type="uint16_t", safetensors="U16", tensor="UShort")
X = np.array([0, 1, 2, 7, 255, 32767, 32768, 40000, 65534, 65535], np.uint16)
Y = np.array([3, 65535, 2, 8, 256, 32768, 1, 17, 65534, 1], np.uint16)


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """The table without its own row of that name, and with this one instead."""
    for name in ("ALL", "_supported"):
        monkeypatch.setattr(dtypes, name, tuple(d for d in getattr(dtypes, name) if d.name != TOY.name))
    with dtypes.added(TOY):
        yield


def test_tensors_of_it_compute_wrap_and_print():
    x, y = fb.tensor(X), fb.tensor(Y)
    assert x.dtype is TOY and repr(fb.tensor(X[:3])) == "tensor([0, 1, 2], dtype=flambeau.uint16)"
    assert x.type() == "flambeau.UShortTensor" and x.itemsize == 2 and not x.is_floating_point() and not x.is_complex()
    with np.errstate(all="ignore"):
        for ours, theirs in (
            (x + y, X + Y),
            (x - y, X - Y),
            (x * y + x, X * Y + X),
            (x // y, X // Y),
            (x % y, X % Y),
            (fb.maximum(x, y), np.maximum(X, Y)),
            (x < y, X < Y),
            (x >> 3, X >> np.uint16(3)),
            (-x, (-X.astype(np.int64)).astype(np.uint16)),
            (fb.div(x, y, rounding_mode="trunc"), X // Y),
        ):
            assert ours.numpy().dtype == theirs.dtype
            assert ours.tolist() == theirs.tolist()
    assert x.float().tolist() == X.tolist() and x.sum().item() == int(X.sum(dtype=np.int64))
    assert x.max().item() == 65535 and x.argmax().item() == 9 and x.min().item() == 0


def test_conversions_saturate_extend_and_wrap():
    floats = np.array([-1.0, 0.5, 65535.4, 65536.0, 1e10, np.inf, -np.inf, np.nan], np.float32)
    assert fb.tensor(floats).to(TOY).tolist() == [0, 0, 65535, 65535, 65535, 65535, 0, 0]
    assert fb.tensor(np.array([-1, 65536, 70000, 5])).to(TOY).tolist() == [65535, 0, 4464, 5]
    assert fb.tensor(X).to(fb.int32).tolist() == X.tolist() and fb.tensor(X).to(fb.int64).tolist() == X.tolist()
    assert fb.tensor(X).bool().tolist() == (X != 0).tolist()
    assert fb.tensor([True, False]).to(TOY).tolist() == [1, 0]


def test_promotion_follows_from_ranges():
    assert dtypes.promote(TOY, fb.int32) is fb.int32 and dtypes.promote(TOY, fb.bool) is TOY
    assert dtypes.promote(TOY, fb.uint8) is TOY and dtypes.promote(TOY, fb.int16) is fb.int32
    assert (fb.tensor(X) + fb.tensor([1], dtype=fb.int32)).dtype is fb.int32
    assert (fb.tensor(X) + 1).dtype is TOY and (fb.tensor(X) * 0.5).dtype is fb.float32
    assert (fb.tensor(X) / 2).tolist() == (X / np.float32(2)).tolist()


def test_views_and_writes():
    x = fb.tensor(X.reshape(2, 5))
    assert x.T[1:].tolist() == X.reshape(2, 5).T[1:].tolist()
    x[0] += 65535
    assert x[0].tolist() == (X[:5] - np.uint16(1)).tolist()
    assert fb.cat([x, x]).flip(0).shape == (4, 5) and x[:, [0, 2]].dtype is TOY


def test_files_and_other_libraries(tmp_path):
    x = fb.tensor(X)
    fb.save({"x": x}, tmp_path / "toy.safetensors")
    found = fb.load(tmp_path / "toy.safetensors")["x"]
    assert found.dtype is TOY and found.tolist() == X.tolist()
    assert np.from_dlpack(x).tolist() == X.tolist() and np.from_dlpack(x).dtype == np.uint16
    assert fb.from_numpy(X.copy()).dtype is TOY


def test_every_record_compiles_to_its_reference():
    """All records on integers, on the values of this dtype, in one program per number of operands."""
    for arity in (1, 2):
        builder, arrays = GraphBuilder(), [X, Y][:arity]
        inputs = [builder.input(Aval(a.shape, TOY)) for a in arrays]
        records = [
            r
            for r in REGISTRY.values()
            if r.family.is_pointwise and TOY in r.dtypes and len(r.samples()[0].operands) == arity and not r.attrs
        ]
        assert len(records) >= (4 if arity == 1 else 16)
        builder.graph.outputs = [r(*inputs).id for r in records]
        check(builder.graph, arrays)


def check(graph, arrays) -> None:
    wanted = reference.run(graph, arrays)
    for mode in ("blocking", "off"):
        found = driver.compile(graph, Options(mode=mode))(arrays)
        for node, buffer, array in zip(graph.nodes, found, wanted, strict=True):
            result = np.frombuffer(buffer, array.dtype, count=array.size).reshape(array.shape)
            assert opgen.same_bits(result, array), f"{node.op.name}: {result}, not {array}"


@pytest.mark.parametrize("shape,axes", [((3, 130), (1,)), ((130, 3), (0,)), ((9000,), (0,))])
def test_folds_and_products(shape, axes):
    x = np.random.default_rng(1).integers(0, 65536, shape).astype(np.uint16)
    builder = GraphBuilder()
    value = builder.input(Aval(shape, TOY))
    names = ("sum", "prod", "max", "min", "argmax", "argmin")
    results = [find(name)(value, axes=axes) for name in names]
    if len(shape) == 2:
        results.append(find("matmul")(value, find("permute")(value, perm=(1, 0))))
    builder.graph.outputs = [r.id for r in results]
    graph = builder.graph
    found = driver.compile(graph, Options(mode="blocking"))([x])
    for v, buffer, array in zip(graph.outputs, found, reference.run(graph, [x]), strict=True):
        result = np.frombuffer(buffer, array.dtype, count=array.size).reshape(array.shape)
        assert opgen.same_bits(result, array), f"value {v}: {result}, not {array}"


def test_its_text_is_read_back():
    builder = GraphBuilder()
    value = builder.input(Aval((4,), TOY))
    builder.graph.outputs = [(value + value.like(65535)).cast(fb.int64).id]
    text = print_graph(builder.graph)
    assert "tensor<4xui16>" in text and print_graph(parse_graph(text)) == text


def test_a_range_beyond_its_values_bounds_nothing():
    builder = GraphBuilder()
    value = builder.input(Aval(X.shape, TOY))
    attrs = {"low": -5, "high": 10**6, "op": "draw", "what": "input", "text": "is too large.", "error": "RuntimeError"}
    builder.graph.outputs = [find("check_range")(value, **attrs).id]
    (found,) = driver.compile(builder.graph, Options(mode="blocking"))([X])
    assert np.frombuffer(found, np.uint16).tolist() == X.tolist()


def test_outside_it_is_refused_by_name():
    other = DType("int4", "i4", Category.INTEGER, 4, module="ml_dtypes")
    with dtypes.added(other):
        x = fb.tensor(np.array([7, -8, 3], ml_dtypes.int4))  # whole numbers, though others added them to NumPy
        assert x.dtype is other and repr(x) == "tensor([ 7, -8,  3], dtype=flambeau.int4)"
        assert (x + x).tolist() == [-2, 0, 6] and x.sum().item() == 2
    assert other not in dtypes.SUPPORTED and other not in find("add").dtypes
    with pytest.raises(TypeError, match=r"NumPy dtype int4 has no Flambeau equivalent"):
        fb.tensor(np.array([1], ml_dtypes.int4))


@pytest.mark.parametrize("name", ["int8", "uint8", "int16"])
def test_rows_that_are_not_supported_yet_multiply_matrices(name):
    """Small elements: more of them lie in a register than there were kinds of blocks to transpose."""
    dtype = dtypes.by_name(name)
    with dtypes.added(dtype):
        rng = np.random.default_rng(2)
        a, b = (
            rng.integers(dtype.least, dtype.greatest + 1, shape).astype(dtype.numpy) for shape in ((37, 70), (41, 70))
        )
        builder = GraphBuilder()
        left, right = (builder.input(Aval(x.shape, dtype)) for x in (a, b))
        builder.graph.outputs = [find("matmul")(left, find("permute")(right, perm=(1, 0))).id]
        (found,) = driver.compile(builder.graph, Options(mode="blocking"))([a, b])
        assert np.array_equal(np.frombuffer(found, dtype.numpy).reshape(37, 41), a @ b.T)


def test_what_is_known_of_a_narrow_dtype_ends_with_it():
    toy = dtypes.DType("uint16", "ui16", dtypes.Category.INTEGER, 16, signed=False, accumulator="int32")
    assert dtypes.narrow(np.dtype("uint16")) is None
    with dtypes.added(toy):
        assert dtypes.narrow(np.dtype("uint16")) is toy
    assert dtypes.narrow(np.dtype("uint16")) is None
