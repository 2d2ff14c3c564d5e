"""What users do with a dtype besides computing, for every one that is supported: exchange, files, text, limits, names, casts."""

import copy
import math
import pickle

import flambeau as fb
import ml_dtypes
import numpy as np
import pytest
from flambeau.compiler import driver
from flambeau.compiler.options import Options
from flambeau.dialects import dtypes, reference
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import COMPLEX, FLOATING, INTEGER, STORED_FLOATING, SUPPORTED
from flambeau.dialects.tape.common import SPECIALS, one_nan
from flambeau.dialects.tape.elementwise import saturate
from flambeau.tensor_types import TENSOR_TYPES

pytestmark = pytest.mark.filterwarnings(r"error:\[compile\]:RuntimeWarning")


@pytest.fixture(params=SUPPORTED, ids=lambda d: d.name)
def dtype(request):
    return request.param


def elements(dtype) -> np.ndarray:
    """Extreme and ordinary values, all of them numbers."""
    if dtype.is_complex:
        return np.array([0, complex(-0.0, 0.0), 1.5 - 2j, -2j, complex(0.1, -0.0), 3e4 + 0.1j], dtype.numpy)
    if dtype.is_floating_point:
        return saturate(np.array([0.0, -0.0, 1.5, -2.0, 0.1, 3e4 if dtype.has_infinity else 300.0]), dtype)
    return np.array([0, 1, 2, 7, 100, *((dtype.least, dtype.greatest) if dtype.is_integer else (0, 1))], dtype.numpy)


def same(found, wanted: np.ndarray) -> bool:
    array = found.numpy()
    return (array.dtype, array.shape, array.tobytes()) == (wanted.dtype, wanted.shape, wanted.tobytes())


# ---- exchange -----------------------------------------------------------------------------------------------------


@pytest.mark.accept("DTY-01", "DTY-02")
def test_numpy_arrays_are_shared_both_ways(dtype):
    x = elements(dtype)
    t = fb.from_numpy(x)
    assert t.dtype is dtype and same(t, x) and same(fb.tensor(x), x)
    back = t.numpy()
    back[0] = back[2]
    assert same(t, x) and x[0] == x[2], "memory is shared"
    t[1:2] = fb.tensor(x[3:4])
    assert same(t, x) and x[1] == x[3]
    made = fb.frombuffer(x.tobytes(), dtype=dtype)
    assert same(made, x) and same(fb.from_buffer(x.tobytes(), dtype, (len(x), 1)).reshape(-1), x)


def test_dlpack_shares_memory(dtype):
    x = fb.tensor(elements(dtype))
    y = fb.from_dlpack(x)
    assert y.dtype is dtype and same(y, x.numpy())
    y[0:1] = y[2:3]
    assert same(x, y.numpy())
    assert same(fb.from_dlpack(x.reshape(1, -1).T), x.numpy().reshape(-1, 1))


def test_the_columns_of_a_float_describe_its_format(dtype):
    """Range, smallest normal number, zeros: what conversions are made of."""
    if not dtype.is_floating_point:
        return
    format_, bias = ml_dtypes.finfo(dtype.numpy), 2 ** (dtype.exponent - 1) - 1
    advice = "write a column for it in dialects/dtypes.py, and its conversion in compiler/codegen/narrow_ranges.py"
    assert float(format_.smallest_normal) == 2.0 ** (1 - bias), f"{dtype} has a bias of its own: {advice}"
    assert dtype.has_infinity or float(format_.max) == dtype.greatest, f"{dtype} has another range: {advice}"
    assert np.signbit(np.array(-0.0).astype(dtype.numpy)), f"{dtype} has no negative zero: {advice}"


def test_dlpack_is_that_of_pytorch(dtype):
    torch = pytest.importorskip("torch")
    if not hasattr(torch, dtype.name):
        return  # there is nothing of PyTorch's to exchange it with
    x = fb.tensor(elements(dtype))
    theirs = torch.from_dlpack(x)
    assert str(theirs.dtype) == f"torch.{dtype.name}"
    ours = fb.from_dlpack(theirs)
    assert ours.dtype is dtype and same(ours, x.numpy())
    theirs[0:1] = theirs[2:3]
    assert same(x, ours.numpy()) and repr(theirs).replace("torch", "flambeau").split() == repr(ours).split()


def test_files_and_pickles_keep_the_bits(dtype, tmp_path):
    x, name = fb.tensor(elements(dtype)), "x.safetensors" if dtype.safetensors else "x.pt"
    fb.save({"x": x, "more": [x[:2]]}, tmp_path / name)
    found = fb.load(tmp_path / name)
    assert same(found["x"], x.numpy()) and same(found["more"][0], x[:2].numpy())
    assert same(pickle.loads(pickle.dumps(x)), x.numpy()) and same(copy.deepcopy(x), x.numpy())


def test_python_numbers(dtype):
    x = elements(dtype)
    t = fb.tensor(x)
    assert t.tolist() == x.tolist() and [type(n) for n in t.tolist()] == [dtype.number] * len(x)
    assert [e.item() for e in t] == x.tolist()
    assert same(fb.tensor(x.tolist(), dtype=dtype), x)
    shown = "" if dtype in (fb.bool, fb.int64, fb.float32, fb.complex64) else f", dtype=flambeau.{dtype.name}"
    assert " ".join(repr(t).split()).endswith(f"]{shown})")
    if dtype.is_integral:
        assert "".join(repr(t).split()).startswith(f"tensor([{','.join(map(str, x.tolist()))}]")


# ---- names and limits ---------------------------------------------------------------------------------------------


def test_types_of_tensors_by_name(dtype):
    name = f"{dtype.tensor}Tensor"
    if not dtype.has_classes:
        assert fb.zeros(2, dtype=dtype).type() == f"flambeau.{name}" and not hasattr(fb, name)
        return
    made = getattr(fb, name)
    assert TENSOR_TYPES[name] is made and name in fb.__all__
    x = fb.tensor(elements(dtype))
    assert isinstance(x, made) and x.type() == f"flambeau.{name}" and not isinstance(x.numpy(), made)
    assert [k for k, t in TENSOR_TYPES.items() if isinstance(x, t)] == [name]
    assert same(made(x.tolist()), x.numpy()) and made(2, 3).shape == (2, 3) and made().shape == (0,)
    assert made(x.shape).shape == x.shape and made(2).dtype is dtype
    alias = made(x)
    alias[0:1] = alias[2:3]
    assert same(alias, x.numpy()), "a tensor is taken as it is"
    assert same(fb.ones(3).type(made), np.ones(3).astype(dtype.numpy))
    assert fb.ones(3).type(f"flambeau.{name}").dtype is dtype
    other = next(d for d in SUPPORTED if d is not dtype)
    with pytest.raises(
        TypeError, match=rf"\[{name}\] the tensor is of dtype {other.name}, not {dtype.name}\. Use x\.to"
    ):
        made(fb.ones(2, dtype=other))
    with pytest.raises(TypeError, match=r"\[type\] 'Tensr' is no dtype\. Use one such as"):
        x.type("Tensr")


def test_attributes(dtype):
    assert dtype.is_floating_point == fb.zeros(1, dtype=dtype).is_floating_point() == (dtype in STORED_FLOATING)
    assert dtype.is_complex == (dtype in COMPLEX) and (dtype.to_real() is dtype) != dtype.is_complex
    assert dtype.is_signed == (dtype.is_complex or dtype.least < 0) and dtype.itemsize == dtype.numpy.itemsize
    assert fb.complex64.is_complex and fb.complex64.to_real() is fb.float32 and fb.float64.to_complex() is fb.complex128
    if dtype.has_classes:
        assert getattr(fb.ones(2), dtype.aliases[0] if dtype.is_complex else dtype.tensor.lower())().dtype is dtype
    assert pickle.loads(pickle.dumps(dtype)) is dtype and repr(dtype) == f"flambeau.{dtype.name}"


@pytest.mark.parametrize("dtype", STORED_FLOATING, ids=lambda d: d.name)
def test_limits_of_floats(dtype):
    found, wanted = fb.finfo(dtype), ml_dtypes.finfo(dtype.numpy)
    for name in ("bits", "eps", "max", "min", "smallest_normal"):
        assert getattr(found, name) == float(getattr(wanted, name)), name
    top, one = fb.tensor([found.max, found.tiny, 1.0], dtype=dtype), dtype.numpy.type(1)
    assert top.tolist() == [found.max, found.tiny, 1.0]
    if not dtype.is_stored_only:
        assert (top * 2).tolist()[0] == math.inf
    assert float(np.nextafter(one, dtype.numpy.type(2))) - 1 == found.eps


@pytest.mark.parametrize("dtype", INTEGER, ids=lambda d: d.name)
def test_limits_of_integers(dtype):
    found, wanted = fb.iinfo(dtype), np.iinfo(dtype.numpy)
    assert (found.bits, found.min, found.max) == (wanted.bits, wanted.min, wanted.max)
    x = fb.tensor([found.min, found.max], dtype=dtype)
    assert (x + 1).tolist() == [found.min + 1, found.min] and (x - 1).tolist() == [found.max, found.max - 1]


# ---- positions and masks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", INTEGER, ids=lambda d: d.name)
def test_positions_are_int32_or_int64_and_uint8_is_a_mask(dtype):
    x, index = fb.arange(4.0), fb.tensor([1, 0, 1, 1], dtype=dtype)
    if dtype in (fb.int32, fb.int64):
        assert x[index].tolist() == x.gather(0, index).tolist() == [1.0, 0.0, 1.0, 1.0]
    else:
        for call in (lambda: x.gather(0, index), lambda: x.index_select(0, index), lambda: x.scatter_add(0, index, x)):
            with pytest.raises(RuntimeError, match=rf"index has dtype flambeau\.{dtype.name}\. Convert it with \.long"):
                call()
        if dtype is not fb.uint8:
            with pytest.raises(IndexError, match=r"an index tensor has dtype"):
                x[index]
    if dtype is fb.uint8:
        assert x[index].tolist() == [0.0, 2.0, 3.0]
        assert fb.where(index, x, -x).tolist() == [0.0, -1.0, 2.0, 3.0]
        x[index] = 9.0
        assert x.tolist() == [9.0, 1.0, 9.0, 9.0]
        assert fb.any(index).dtype is fb.all(index).dtype is fb.uint8
    else:
        with pytest.raises(RuntimeError, match=r"\[where\] the condition has dtype"):
            fb.where(index, x, -x)
        assert fb.any(index).dtype is fb.bool


# ---- layers and random numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [d for d in FLOATING if d.is_narrow], ids=lambda d: d.name)
def test_layers_train_in_narrow_floats(dtype):
    """Parameters, gradients and states stay in the dtype; the loss falls."""
    fb.manual_seed(0)
    model = fb.nn.Sequential(fb.nn.Linear(4, 16), fb.nn.LayerNorm(16), fb.nn.GELU(), fb.nn.Linear(16, 1))
    model = getattr(model, dtype.tensor.lower())()
    optimizer = fb.optim.Adam(model.parameters(), lr=0.01)
    x = fb.randn(64, 4).to(dtype)
    y = (x[:, :1] * x[:, 1:2]).detach()
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = fb.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert {p.dtype for p in model.parameters()} == {p.grad.dtype for p in model.parameters()} == {dtype}
    assert losses[-1] < 0.6 * losses[0], losses


@pytest.mark.parametrize("dtype", FLOATING, ids=lambda d: d.name)
def test_random_numbers(dtype):
    """Uniform ones have the digits of the dtype and are below 1; the others are those of a wider dtype, rounded."""
    fb.manual_seed(3)
    unit = fb.rand(4000, dtype=dtype).double().numpy()
    assert unit.min() >= 0 and unit.max() < 1 and abs(unit.mean() - 0.5) < 0.02
    assert (unit * 2.0 ** (dtype.mantissa + 1) % 1 == 0).all()
    for draw in (fb.randn, lambda *size, dtype: fb.zeros(*size, dtype=dtype).normal_(1.0, 2.0)):
        fb.manual_seed(5)
        found = draw(4000, dtype=dtype)
        fb.manual_seed(5)
        wide = draw(4000, dtype=dtype.accumulation)
        assert found.dtype is dtype and same(found, wide.to(dtype).numpy())
    rare = fb.full((40000,), 0.001, dtype=dtype).bernoulli().double().mean().item()
    assert 0.0004 < rare < 0.0017, "a number of few digits is compared in more"
    kept = fb.nn.functional.dropout(fb.ones(4000, dtype=dtype), 0.1)
    assert kept.dtype is dtype and set(kept.tolist()) == {0.0, float(dtype.numpy.type(1 / 0.9))}


# ---- casts --------------------------------------------------------------------------------------------------------


@pytest.mark.accept("DTY-01", "DTY-02", "DTY-05")
def test_casts_to_every_dtype_on_every_tier(dtype):
    """One program: what is out of range saturates from floats, wraps between integers, and is rounded once."""
    limits = [float(n + k) for d in INTEGER for n in (d.least, d.greatest) for k in (-1, 0, 1)]
    x = saturate(np.concatenate([SPECIALS, limits, [0.5, 1.5, 2.5, -0.5, 1 + 2.0**-9, 65519.9, 65520.0]]), dtype)
    builder = GraphBuilder()
    value = builder.input(Aval(x.shape, dtype))
    casts = [value.cast(d) for d in SUPPORTED if d is not dtype]
    builder.graph.outputs = [c.id for c in (*casts, *(c.cast(dtype) for c in casts))]
    wanted = [one_nan(a) for a in reference.run(builder.graph, [x])]
    for mode in ("blocking", "off"):
        found = driver.compile(builder.graph, Options(mode=mode))([x])
        for v, buffer, array in zip(builder.graph.outputs, found, wanted, strict=True):
            result = np.frombuffer(buffer, array.dtype, count=array.size)
            assert result.tobytes() == array.tobytes(), (mode, builder.graph.avals[v].dtype, x, result, array)
    with np.errstate(all="ignore"):
        x = x.real if dtype.is_complex else x
        assert fb.tensor(x).to(fb.float64).tolist() == pytest.approx(x.astype(np.float64).tolist(), abs=0, nan_ok=True)


def test_no_supported_dtype_is_left_out_here():
    assert {d.tensor for d in SUPPORTED if d.has_classes} == {n.removesuffix("Tensor") for n in TENSOR_TYPES}
    assert set(dtypes.ALL) >= set(SUPPORTED) and all(d.c_type for d in SUPPORTED)
    assert [d for d in SUPPORTED if not d.safetensors] == [fb.complex128], "the format has no name for it"


NAMED = {  # what is made of `m` and a type of Python's
    "tensor": lambda m, t: m.tensor([1, 0], dtype=t),
    "as_tensor": lambda m, t: m.as_tensor(m.ones(2), dtype=t),
    "asarray": lambda m, t: m.asarray([1, 0], dtype=t),
    "Tensor.to": lambda m, t: m.ones(2).to(t),
    "Tensor.to with a device": lambda m, t: m.ones(2).to("cpu", t),
    "Tensor.to by keyword": lambda m, t: m.ones(2).to(dtype=t),
    "zeros": lambda m, t: m.zeros(2, dtype=t),
    "empty": lambda m, t: m.empty(0, dtype=t),
    "full": lambda m, t: m.full((2,), 1, dtype=t),
    "eye": lambda m, t: m.eye(2, dtype=t),
    "ones_like": lambda m, t: m.ones_like(m.ones(2), dtype=t),
    "new_zeros": lambda m, t: m.ones(2).new_zeros(2, dtype=t),
}
FOLDED = {
    "view": lambda m, t: m.zeros(16, dtype=m.uint8).view(t),
    "arange": lambda m, t: m.arange(3, dtype=t),
    "sum": lambda m, t: m.ones(2).sum(dtype=t),
    "cumsum": lambda m, t: m.ones(2).cumsum(0, dtype=t),
    "promote_types": lambda m, t: m.zeros(1, dtype=m.promote_types(t, m.int8)),
}
DRAWN = {
    "linspace": lambda m, t: m.linspace(0, 1, 3, dtype=t),
    "softmax": lambda m, t: m.ones(2).softmax(0, dtype=t),
    "mean": lambda m, t: m.ones(2).mean(dtype=t),
    "norm": lambda m, t: m.linalg.norm(m.ones(2), dtype=t),
    "a layer": lambda m, t: m.nn.Linear(1, 1, dtype=t).bias.detach() * 0,
    "a converted layer": lambda m, t: m.nn.Linear(1, 1).to(t).bias.detach() * 0,
}


@pytest.mark.accept("DTY-05")
@pytest.mark.parametrize(
    ("name", "kind"),
    [(n, t) for n in NAMED for t in (bool, int, float, complex)]
    + [(n, t) for n in FOLDED for t in (int, float)]
    + [(n, float) for n in DRAWN],
)
def test_types_of_python_stand_for_dtypes(name, kind):
    dtype = {bool: fb.bool, int: fb.int64, float: fb.float64, complex: fb.complex128}[kind]
    call = {**NAMED, **FOLDED, **DRAWN}[name]
    found, same = call(fb, kind), call(fb, dtype)
    assert found.dtype is same.dtype and found.dtype in (dtype, fb.promote_types(dtype, fb.int8))
    assert found.tolist() == same.tolist()
    torch = pytest.importorskip("torch", reason="could not import 'torch'")
    theirs = call(torch, kind)
    assert str(theirs.dtype).removeprefix("torch.") == found.dtype.name and theirs.tolist() == found.tolist()


def test_limits_of_the_types_of_python():
    assert fb.finfo(float) == fb.finfo(fb.float64) and fb.iinfo(int) == fb.iinfo(fb.int64)
    assert not fb.can_cast(float, fb.int32) and fb.can_cast(int, float)
    with pytest.raises(TypeError, match="cannot be the default"):
        fb.set_default_dtype(float)
    with pytest.raises(TypeError, match="dtype <class 'str'> is not supported"):
        fb.zeros(2, dtype=str)
