"""float8 is stored, moved, converted and exchanged, and not computed with; unsigned integers of every width compute."""

from __future__ import annotations

import io

import flambeau as fb
import ml_dtypes
import numpy as np
import pytest
from flambeau.dialects import dtypes

pytestmark = pytest.mark.filterwarnings(r"error:\[compile\]:RuntimeWarning")

UNSIGNED = (fb.uint16, fb.uint32, fb.uint64)


@pytest.fixture(params=(fb.float8_e4m3fn, fb.float8_e5m2), ids=lambda d: d.name)
def dtype(request):
    return request.param


def all_of(dtype) -> np.ndarray:
    return np.arange(256, dtype=np.uint8).view(dtype.numpy)


def rounded(x: np.ndarray, dtype) -> np.ndarray:
    """By ml_dtypes; what is beyond the numbers of a dtype without infinities is the greatest, as in PyTorch."""
    return (x if dtype.has_infinity else np.clip(x, dtype.least, dtype.greatest)).astype(dtype.numpy)


def between(dtype) -> np.ndarray:
    """All numbers of the dtype, what lies between two of them, at the halves and beside these, and beyond the greatest."""
    values = np.unique(all_of(dtype).astype(np.float32)[np.isfinite(all_of(dtype).astype(np.float32))])
    halves = (values[1:] + values[:-1]) / 2
    beside = [np.nextafter(halves, np.float32(s)) for s in (-np.inf, np.inf)]
    top = values[-1] * np.array(
        [1.02, 1.03125, 1.0357142, 1.0625, 1.0714286, 1.125, 1.14285, 1.2, 1e30, np.inf], np.float32
    )
    return np.concatenate([values, halves, *beside, top, -top, [np.nan, 1e-40, -1e-30, -0.0]]).astype(np.float32)


def same_numbers(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Equal bits, and one NaN for all."""
    nan = np.isnan(wanted.astype(np.float32))
    bits = [a.view(f"u{a.itemsize}") for a in (found, wanted)]
    return bool((bits[0] == bits[1])[~nan].all()) and set(bits[0][nan].tolist()) <= {
        int(np.array(np.nan, found.dtype).view("u1"))
    }


# ---- conversions ------------------------------------------------------------------------------------------------------


@pytest.mark.accept("DTY-05")
@pytest.mark.parametrize("mode", ["blocking", "off"])
def test_conversions_have_the_bits_of_ml_dtypes(dtype, mode):
    x = between(dtype)
    with np.errstate(all="ignore"):
        wanted = rounded(x, dtype)
    with fb.compiler_options(mode=mode):
        assert same_numbers(fb.tensor(x).to(dtype).numpy(), wanted)
        back = fb.tensor(all_of(dtype)).float().numpy()
        for wide in (fb.float64, fb.bfloat16, fb.float16):
            with np.errstate(all="ignore"):
                assert same_numbers(
                    fb.tensor(x).to(wide).to(dtype).numpy(), rounded(x.astype(wide.numpy).astype(np.float32), dtype)
                )
    exact = all_of(dtype).astype(np.float32)
    assert np.array_equal(back, exact, equal_nan=True) and np.array_equal(
        np.signbit(back), np.signbit(exact) & ~np.isnan(exact)
    )


def test_conversions_have_the_bits_of_pytorch(dtype):
    torch = pytest.importorskip("torch")
    x = between(dtype)
    theirs = torch.from_numpy(x).to(getattr(torch, dtype.name)).view(torch.uint8).numpy()
    assert same_numbers(fb.tensor(x).to(dtype).numpy(), theirs.view(dtype.numpy))


def test_a_gradient_passes_through_what_is_stored(dtype):
    x = fb.tensor([0.3, -2.0, 1.75], requires_grad=True)
    stored = x.to(dtype)
    (stored.float() * fb.tensor([1.0, 2.0, 0.5])).sum().backward()
    assert stored.requires_grad and x.grad.tolist() == [1.0, 2.0, 0.5]


# ---- moving ---------------------------------------------------------------------------------------------------------


def test_elements_are_moved_and_compared(dtype):
    whole = all_of(dtype).reshape(16, 16)
    x = fb.from_numpy(whole.copy())
    index = fb.tensor([3, 0, 15])
    for found, wanted in (
        (x.T[1:, ::2], whole.T[1:, ::2]),
        (fb.cat([x, x.flip(0)]), np.concatenate([whole, whole[::-1]])),
        (x[index], whole[[3, 0, 15]]),
        (x.index_select(1, index), whole[:, [3, 0, 15]]),
        (fb.stack([x, x], 2).reshape(-1), np.stack([whole, whole], 2).reshape(-1)),
        (x.roll(1, 0).repeat(1, 2), np.tile(np.roll(whole, 1, 0), (1, 2))),
        (x.clone(), whole),
        (x[:7].view(fb.uint8), whole[:7].view(np.uint8)),
        (fb.tensor(whole.view(np.uint8)).view(dtype), whole),
    ):
        assert found.numpy().tobytes() == np.ascontiguousarray(wanted).tobytes()
    wide = whole.astype(np.float32)
    assert ((x == x.T).numpy() == (wide == wide.T)).all() and ((x != 1).numpy() == (wide != 1)).all()
    assert fb.isnan(x).sum().item() == np.isnan(wide).sum()
    mask = fb.tensor(np.arange(16) % 2 == 0)
    chosen = fb.where(mask, x, 1.5).float().numpy()
    assert np.array_equal(chosen, np.where(mask.numpy(), wide, 1.5), equal_nan=True)
    x[0, :2] = fb.tensor([2.0, 0.25]).to(dtype)
    x[1] = x[2].clone()
    assert x[0, :3].tolist() == [2.0, 0.25, wide[0, 2]] and x[1].tolist()[:2] == wide[2].tolist()[:2]
    assert fb.full((2,), 2.5, dtype=dtype).tolist() == [2.5, 2.5] and fb.zeros_like(x).view(fb.uint8).sum().item() == 0


def test_arithmetic_is_refused(dtype):
    x = fb.ones(2, 2, dtype=dtype)
    for call in (
        *(
            lambda: x + x,
            lambda: x * 2,
            lambda: -x,
            lambda: x < x,
            lambda: x.sum(),
            lambda: x.max(),
            lambda: x @ x,
            lambda: x.sort(),
        ),
        *(lambda: x.exp(), lambda: fb.softmax(x, 0), lambda: fb.relu(x), lambda: x.cumsum(0), lambda: x.mean()),
        lambda: fb.rand(2, dtype=dtype),
    ):
        with pytest.raises((NotImplementedError, RuntimeError, TypeError), match=dtype.name):
            call()
    with pytest.raises(NotImplementedError, match=rf"operand has dtype {dtype.name}, not one of"):
        x.add(x)
    for call in (lambda: x + fb.ones(2, 2), lambda: fb.cat([x, x.float()]), lambda: fb.promote_types(dtype, fb.int32)):
        with pytest.raises(RuntimeError, match="float8 is not promoted"):
            call()


# ---- exchange -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [d.name for d in (*UNSIGNED, fb.float8_e4m3fn, fb.float8_e5m2)])
def test_files_of_torch_are_exchanged(name, tmp_path):
    torch = pytest.importorskip("torch")
    ours, theirs = getattr(fb, name), getattr(torch, name)
    x = fb.tensor([[0.0, 1.0, 2.0], [3.0, 100.0, 0.5]]).to(ours)
    fb.save({"x": x, "row": x[1]}, tmp_path / "ours.pt")
    found = torch.load(tmp_path / "ours.pt")
    assert found["x"].dtype is theirs and found["x"].float().tolist() == x.float().tolist()
    assert found["row"].float().tolist() == x[1].float().tolist()
    stream = io.BytesIO()
    torch.save({"x": found["x"].T, "p": torch.nn.Parameter(found["x"], requires_grad=False)}, stream)
    back = fb.load(io.BytesIO(stream.getvalue()))
    assert back["x"].dtype is ours and back["x"].float().tolist() == x.T.float().tolist()
    assert back["p"].float().tolist() == x.float().tolist()
    assert fb.load(tmp_path / "ours.pt")["row"].float().tolist() == x[1].float().tolist()


def test_printing_is_that_of_pytorch(dtype):
    torch = pytest.importorskip("torch")
    for numbers in ([1.0, 2.5], [[1.0, 448.0], [0.25, -0.0]], [float("nan"), 0.001]):
        found = repr(fb.tensor(numbers).to(dtype))
        assert (
            found.replace("flambeau", "torch").split()
            == repr(torch.tensor(numbers).to(getattr(torch, dtype.name))).split()
        )


# ---- unsigned integers ------------------------------------------------------------------------------------------------


@pytest.mark.accept("DTY-02")
@pytest.mark.parametrize("dtype", UNSIGNED, ids=lambda d: d.name)
def test_unsigned_integers_compute_as_those_of_numpy(dtype):
    top = int(dtype.greatest)
    x, y = np.array([0, 1, 7, top, top - 1, top // 2 + 1], dtype.numpy), np.array([3, top, 2, 5, top, 3], dtype.numpy)
    a, b = fb.tensor(x), fb.tensor(y)
    for found, wanted in (
        *((a + b, x + y), (a - b, x - y), (a * b, x * y), (a // b, x // y), (a % b, x % y), (a ^ b, x ^ y)),
        *((a < b, x < y), (a >> 1, x >> dtype.numpy.type(1)), (fb.maximum(a, b), np.maximum(x, y))),
        *((a.sort().values, np.sort(x)), (a[[4, 3]], x[[4, 3]]), (a.reshape(2, 3).amax(0), x.reshape(2, 3).max(0))),
        (fb.where(a > b, a, b), np.where(x > y, x, y)),
    ):
        assert found.numpy().dtype == wanted.dtype and found.tolist() == wanted.tolist()
    assert a.pow(b).tolist() == [pow(int(p), int(q), top + 1) for p, q in zip(x, y)]
    assert a.tolist() == x.tolist() and a[3].item() == top and fb.iinfo(dtype).max == top
    assert (
        a.double().tolist() == x.astype(np.float64).tolist() and a.to(fb.int64).tolist() == x.astype(np.int64).tolist()
    )
    assert fb.tensor([-1.0, 1e30, float("nan"), 2.9]).to(dtype).tolist() == [0, top, 0, 2]
    assert (a / 2).dtype is fb.float32 and (a + 1).dtype is dtype


def test_powers_of_unsigned_integers_read_all_bits_of_the_exponent():
    found = fb.tensor([3, 5, 7], dtype=fb.uint8) ** fb.tensor([128, 255, 200], dtype=fb.uint8)
    assert found.tolist() == [pow(3, 128, 256), pow(5, 255, 256), pow(7, 200, 256)]


def test_common_dtypes_of_unsigned_integers():
    assert fb.promote_types(fb.uint16, fb.float32) is fb.float32 and fb.promote_types(fb.uint16, fb.uint32) is fb.uint32
    assert fb.promote_types(fb.uint16, fb.int8) is fb.int32 and fb.promote_types(fb.uint32, fb.int32) is fb.int64
    with pytest.raises(TypeError, match="no dtype holds both uint64 and int64"):
        dtypes.promote(fb.uint64, fb.int64)
    assert ml_dtypes.finfo(fb.float8_e4m3fn.numpy).max == fb.finfo(fb.float8_e4m3fn).max == 448


def test_ints_beyond_int64_are_never_other_numbers():
    top = 2**64 - 1
    for data in (top, [top, 2**63], [[0, top]]):
        assert fb.tensor(data, dtype=fb.uint64).tolist() == data
    assert fb.tensor([fb.tensor(3), top], dtype=fb.uint64).tolist() == [3, top]
    assert fb.tensor([top, 1.5]).tolist() == [2.0**64, 1.5] and fb.tensor(-(2**70), dtype=fb.float64).item() == -(
        2.0**70
    )
    for data, dtype in (
        (top, None),
        ([1, 2**63], None),
        ([top], fb.int64),
        ([top], fb.int8),
        ([top, -1], fb.uint64),
        (2**64, fb.uint64),
        ([2**64], fb.uint64),
    ):
        with pytest.raises(ValueError, match=r"\[tensor\] .*no u?int"):
            fb.tensor(data, dtype=dtype)
