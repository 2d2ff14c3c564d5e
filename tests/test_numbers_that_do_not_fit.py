"""Numbers that an integer dtype does not hold are refused where they would be stored; ints beyond int64 are taken where uint64, or
floats, hold them."""

import math

import flambeau as fb
import numpy as np
import pytest

X, BYTES = fb.tensor([1, 2], dtype=fb.int8), fb.tensor([1, 2], dtype=fb.uint8)
MASK = fb.tensor([True, False])


def assigned(x, index, value):
    x[index] = value
    return x


@pytest.mark.parametrize(
    "make",
    [
        lambda: fb.tensor([300], dtype=fb.int8),
        lambda: fb.tensor([1, [2, -129][1]], dtype=fb.int8),
        lambda: fb.tensor([[0.0, 128.5]], dtype=fb.int8),
        lambda: fb.tensor(2**31, dtype=fb.int32),
        lambda: fb.tensor([-256], dtype=fb.uint8),
        lambda: fb.as_tensor([300], dtype=fb.int8),
        lambda: X.new_tensor([300]),
        lambda: fb.scalar_tensor(300, dtype=fb.int8),
        lambda: fb.full((2,), 300, dtype=fb.int8),
        lambda: fb.full_like(X, 300.5),
        lambda: X.clone().fill_(300),
        lambda: X.clone().fill_(-129.5),
        lambda: BYTES.clone().fill_(-256),
        lambda: fb.fill(X, 300),
        lambda: X.masked_fill(MASK, 300),
        lambda: X.index_fill(0, fb.tensor([0]), 300),
        lambda: fb.where(MASK, X, 300),
        lambda: assigned(X.clone(), 0, 300),
        lambda: assigned(X.clone(), MASK, 300),
        lambda: assigned(X.clone(), fb.tensor([1]), 300),
        lambda: X.clamp(max=300),
        lambda: X.clamp(-300, 3),
        lambda: X.scatter(0, fb.tensor([0]), 300),
        lambda: fb.nn.functional.pad(X, (1, 1), value=300),
        lambda: fb.add(X, X, alpha=300),
        lambda: fb.addcmul(X, X, X, value=300),
        lambda: fb.randint(0, 300, (2,), dtype=fb.int8),
        lambda: X.clone().random_(-200, 3),
        lambda: X.clone().fill_(2**63),  # what uint64 alone holds
        lambda: assigned(X.clone(), MASK, 2**64 - 1),
        lambda: BYTES.clone().fill_(-1.5),  # ints below 0 are counted from the end, no floats
        lambda: fb.tensor([-1.5], dtype=fb.uint8),
        lambda: fb.tensor([1.0, math.nan], dtype=fb.int8),
        lambda: X.long().index_fill(0, fb.tensor([0]), 1e20),
        lambda: X.long().fill_(math.nan),
        lambda: fb.tensor([-1e20], dtype=fb.int64),
        lambda: BYTES.to(fb.uint64).fill_(-1.5),
    ],
)
def test_what_the_dtype_does_not_hold_is_refused(make):
    with pytest.raises(RuntimeError, match=r"val(ue|ues) of u?int(8|32|64)\. Use "):
        make().tolist()


@pytest.mark.parametrize(
    "store",
    [
        lambda x: assigned(x, MASK, 1j),
        lambda x: assigned(x, fb.tensor([0]), 1j),
        lambda x: x.index_fill(0, fb.tensor([0]), 1j),
        lambda x: x.scatter(0, fb.tensor([0]), 1j),
        lambda x: fb.nn.functional.pad(x, (1, 1), value=1j),
        lambda x: x.fill_(1j),
    ],
)
def test_real_dtypes_take_no_complex_numbers(store):
    for x in (X.clone(), fb.ones(2)):
        with pytest.raises(RuntimeError, match=r"is complex, which is no value of (int8|float32)\. Use its real part"):
            store(x).tolist()


def test_what_the_dtype_holds_is_taken():
    assert fb.tensor([127, -128, 127.9], dtype=fb.int8).tolist() == [127, -128, 127]
    assert fb.tensor([-1], dtype=fb.uint8).tolist() == fb.full((1,), -1, dtype=fb.uint8).tolist() == [255]
    assert BYTES.clone().fill_(-1).tolist() == BYTES.masked_fill(BYTES > 0, -1).tolist() == [255, 255]
    assert X.clone().fill_(127.9).tolist() == [127, 127] and X.clamp(-128, 127).tolist() == [1, 2]
    assert fb.where(MASK, X, -128).tolist() == [1, -128] and fb.where(MASK, X, -128).dtype is fb.int8
    assert (X + 300).tolist() == [45, 46]  # operators wrap, as PyTorch's
    assert (
        fb.tensor(np.array([300]), dtype=fb.int8).tolist() == X.clone().copy_(fb.tensor([300, 1])).tolist()[:1] == [44]
    )
    assert fb.randint(-128, 128, (50,), dtype=fb.int8).dtype is fb.int8


def test_what_pytorch_takes_of_numbers_of_other_kinds():
    assert MASK.masked_fill(MASK, 0).tolist() == [False, False] and MASK.masked_fill(~MASK, 2.5).tolist() == [
        True,
        True,
    ]
    assert X.masked_fill(MASK, 2.9).tolist() == [2, 2] and X.masked_fill(MASK, 2.9).dtype is fb.int8
    assert fb.add(MASK, ~MASK, alpha=0).tolist() == [True, False] and fb.add(MASK, ~MASK, alpha=-3).tolist() == [
        True,
        True,
    ]
    scaled = fb.addcmul(X, X, X, value=2.0)
    assert scaled.tolist() == [3, 10] and scaled.dtype is fb.int8
    assert X.long().fill_(-(2.0**63)).tolist() == [-(2**63)] * 2 == fb.tensor([-(2.0**63)] * 2, dtype=fb.int64).tolist()


def test_numbers_are_looked_up_as_they_are():
    steps = fb.tensor([0, 1, 5])
    assert [fb.searchsorted(steps, x).item() for x in (0.5, 1, 1.5, -0.5, 4.9, 300.0)] == [1, 1, 2, 0, 2, 3]
    assert fb.bucketize(1.5, steps).item() == 2 and fb.bucketize(-1, MASK.sort().values).item() == 0


def test_a_number_that_changes_is_checked_each_time():
    x = fb.zeros(2, dtype=fb.int16)
    for value in (1, 2, 3, 32767, -32768):
        assert x.fill_(value).tolist() == [value] * 2
    with pytest.raises(RuntimeError, match=r"\[fill_\] value is no value of int16. Use -32768..32767"):
        x.fill_(32768).tolist()


def test_ints_that_uint64_holds():
    large, x = 2**63 + 5, fb.tensor([1, 2], dtype=fb.uint64)
    assert fb.full((2,), large, dtype=fb.uint64).tolist() == x.clone().fill_(large).tolist() == [large] * 2
    assert (x + large).tolist() == [large + 1, large + 2] and (x + (2**64 - 1)).tolist() == [0, 1]
    assert (x == large).tolist() == [False, False] and (fb.full_like(x, large) == large).tolist() == [True, True]
    assert (large - x).tolist() == [large - 1, large - 2] and x.masked_fill(MASK, large).tolist() == [large, 2]
    y = (fb.tensor([1.0]) * 2**63) / 2**63
    assert y.tolist() == [1.0] and y.dtype is fb.float32
    with pytest.raises(RuntimeError, match=r"\[full\] fill_value is beyond int64. Pass dtype=uint64"):
        fb.full((2,), 2**63)
    with pytest.raises(OverflowError, match="int too big to convert"):
        x + 2**64


def test_a_line_is_kept_only_where_a_number_is_checked():
    with pytest.raises(RuntimeError, match=r"test_numbers_that_do_not_fit.py"):
        X.clone().fill_(300).tolist()
    assert fb.zeros(2).fill_(3e38).tolist() == [pytest.approx(3e38)] * 2
