"""Bad input, generated for every public function: another dtype, shape, nothing, one number, NaN, numbers beyond all others.

A call gives results or is refused in the house form, where it is, or for its values where they are read. One that is refused has
changed nothing: its operands are what they were, and nothing that it has recorded fails later.
"""

import random
import zlib

import flambeau as fb
import function_cases as fc
import numpy as np
import pytest
from flambeau.dialects.dtypes import bool_, complex64, float16, float32, int64, uint8
from flambeau.runtime.recorder import Tensor
from support import for_users, rounds

USERS = (
    TypeError,
    ValueError,
    RuntimeError,
    IndexError,
    ZeroDivisionError,
    NotImplementedError,
    OverflowError,
    KeyError,
)


def longer(array):
    """One more of the last axis, or a new axis."""
    return np.concatenate([array, array[..., :1]], -1) if array.ndim and array.size else np.stack([array] * 3)


#: What becomes of one operand's array.
SHAPES = {
    "longer": longer,
    "one axis more": lambda a: np.stack([a, a]),
    "empty": lambda a: a[:0] if a.ndim else np.zeros((0,), a.dtype),
    "one number": lambda a: a.reshape(-1)[0] if a.size else np.zeros((), a.dtype),
    "NaN": lambda a: np.full_like(a, np.nan) if a.dtype.kind == "f" else a,
    "huge": lambda a: (
        np.full_like(a, 1e300) if a.dtype.kind == "f" else np.full_like(a, 2**62) if a.dtype == int else a
    ),
}
DTYPES = {f"in {d.name}": d for d in (int64, bool_, complex64, float16, uint8)}
WAYS = (*SHAPES, *DTYPES)


def spoilt(case, way, at):
    """The arguments with array number `at` spoilt; None where there is none."""
    count = -1

    def make(array):
        nonlocal count
        count += 1
        if count != at:
            return fb.tensor(array)
        return fb.tensor(array).to(DTYPES[way]) if way in DTYPES else fb.tensor(np.array(SHAPES[way](array)))

    made = case.arguments(make)
    return made if count >= at else None


def tensors_in(value):
    if isinstance(value, Tensor):
        return [value]
    return [t for v in value for t in tensors_in(v)] if isinstance(value, list | tuple) else []


def seen(tensors):
    return [(t.dtype, tuple(t.shape), t.numpy().tobytes()) for t in tensors]


def check(case, way, at):
    made = spoilt(case, way, at)
    if made is None:
        return
    operands, named = made
    tensors = tensors_in([operands, list(named.values())])
    fb.manual_seed(7)
    before = seen(tensors)
    what = (case, way, at)
    try:
        found = case.call(*operands, **named)
    except USERS as error:
        assert for_users(error) and str(error).startswith("["), (what, error)
        try:
            fb.flush()
        except USERS as later:
            pytest.fail(f"{what} was refused: {error}\nand later: {later}")
    else:
        try:
            fc.read(fc.flat(found))
        except USERS as error:
            assert for_users(error) and str(error).startswith("["), (what, error)
        else:
            if case.declaration.name.endswith("_"):
                return
    assert seen(tensors) == before, what


@pytest.mark.accept("ERR-02")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", fc.SAMPLED)
def test_bad_input_is_refused_whole(name):
    good = [c for c in fc.cases(fc.SAMPLED[name]) if c.dtype is float32 and fc.arrays_in(c.sample.operands)]
    every = [(c, way, at) for c in good for way in WAYS for at in range(3)]
    rng = random.Random(zlib.crc32(name.encode()))
    with fb.compiler_options(mode="off"):
        for case, way, at in rng.sample(every, min(len(every), rounds(3, 8, 60))):
            check(case, way, at)


def test_a_part_of_a_refused_call_is_refused_first():
    """Errors come in the order of the program: that of the part recorded first is the call's; a later read of something else is
    right."""
    x, mask = fb.tensor([1, 2, 3]), fb.tensor([True, False, True])
    with pytest.raises(RuntimeError, match=r"\[masked_fill\] value is no value of int64"):
        fb.masked.logaddexp(x, x, input_mask=mask, other_mask=mask)
    assert (fb.ones(3) + 1).tolist() == [2.0] * 3
    quotient = x // fb.zeros(3, dtype=fb.int64)  # what is refused and has recorded nothing does not look at it
    with pytest.raises(NotImplementedError, match=r"\[logaddexp\] input has dtype"):
        fb.masked.logaddexp(x, x)
    with pytest.raises(RuntimeError, match=r"division by zero"):
        quotient.tolist()
