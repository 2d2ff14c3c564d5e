"""Looking at values: views by index and reads of memory that is there run no Python, and say what NumPy says.

Cost is counted: functions of ours that Python enters, hooks that the recorder calls.
"""

import itertools
import math
import re
import sys
import threading
from contextlib import contextmanager

import flambeau as fb
import numpy as np
import pytest
from flambeau import host
from flambeau.functions import literals
from flambeau.runtime import recorder
from support import rounds

HOOKS = ("expand", "expand_sized", "fit_sizes", "build_program", "view_layout", "array_of", "read_view")


def entered(fn, *args):
    """How many Python functions `fn(*args)` enters besides itself."""
    count = -1

    def profile(frame, event, argument):
        nonlocal count
        count += event == "call"

    sys.setprofile(profile)
    try:
        fn(*args)
    finally:
        sys.setprofile(None)
    return count


@contextmanager
def hooks_entered():
    """A list of the names of the hooks that are called inside."""
    found = []
    before = recorder.set_hooks(**dict.fromkeys(HOOKS))

    def watched(name):
        return lambda *args: (found.append(name), before[name](*args))[1]

    recorder.set_hooks(**{name: watched(name) for name in HOOKS})
    try:
        yield found
    finally:
        recorder.set_hooks(**before)


# ---- cost ----------------------------------------------------------------------------------------------------


def vector(is_computed):
    x = fb.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    return (x + 1, x.reshape(2, 4) + 1) if is_computed else (x, x.reshape(2, 4))


LOOKS = {
    "x[0].item()": (0, lambda x, m: x[0].item()),
    "float(x[3])": (0, lambda x, m: float(x[3])),
    "int, bool, index": (0, lambda x, m: (int(x[3]), bool(x[-1]))),
    "m[1, 2].item()": (0, lambda x, m: m[1, 2].item()),
    "x[2:5].tolist()": (0, lambda x, m: x[2:5].tolist()),
    "m[..., None, ::2].tolist()": (0, lambda x, m: m[..., None, ::2].tolist()),
    "list(x)": (0, lambda x, m: list(x)),
    "x.tolist()": (0, lambda x, m: x.tolist()),
    "m.T[1].tolist()": (0, lambda x, m: m.t()[1].tolist()),
    "m[1].numpy()": (3, lambda x, m: m[1].numpy()),
}


@pytest.mark.parametrize("is_computed", [False, True], ids=["there", "computed"])
@pytest.mark.parametrize("name", LOOKS)
def test_a_look_enters_no_python_and_no_hook(name, is_computed):
    allowed, look = LOOKS[name]
    for _ in range(2):
        look(*vector(is_computed))
    x, m = vector(is_computed)
    with hooks_entered() as hooks:
        count = entered(look, x, m)
    assert count <= allowed and hooks == []


def test_a_loop_that_looks_in_every_step_enters_no_python_and_no_hook():
    q = fb.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])

    def step():
        nonlocal q
        for _ in range(5):
            q = q * 0.5 + 1.0
        return float(q[0])

    with fb.compiler_options(mode="blocking"):
        for _ in range(3):
            step()
        flushes = recorder.flush_count()
        with hooks_entered() as hooks:
            count = entered(step)
        assert (count, hooks, recorder.flush_count() - flushes) == (0, [], 1)
    assert step() == 2.0 or math.isclose(step(), 2.0, rel_tol=1e-4)


def test_writing_a_row_enters_no_python():
    out, r = fb.zeros(4, 8), fb.tensor([1.0] * 8) * 3

    def write():
        out[2] = r
        out[1, 3] = 5
        out[0] = 1.5

    for _ in range(2):
        write()
        out.tolist()
    assert entered(write) == 0
    assert out.tolist() == [[1.5] * 8, [0, 0, 0, 5, 0, 0, 0, 0], [3.0] * 8, [0.0] * 8]


def test_literals_enter_no_python_but_the_function_itself():
    fb.tensor([1.0, 2.0])
    assert entered(lambda: fb.tensor([1.0, 2.0])) <= 5
    assert entered(lambda: fb.tensor(3.0)) <= 5


def test_a_rule_is_asked_once_for_equal_calls_of_a_new_trace():
    def fill(n):
        out, x = fb.zeros(16, 4), fb.tensor([1.0, 2.0, 3.0, 4.0])
        for i in range(n):
            out[i % 16] = x
            x = x + 0.5
        return out

    recorder.clear()
    with fb.compiler_options(mode="off"), hooks_entered() as hooks:
        out = fill(150)
        assert hooks.count("expand") <= 4
        found = out.tolist()
    x = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    expected = np.zeros((16, 4), np.float32)
    for i in range(150):
        expected[i % 16] = x
        x = x + np.float32(0.5)
    assert found == expected.tolist()


def test_calls_that_differ_in_anything_are_asked_for_each():
    recorder.clear()
    x = fb.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    y = fb.tensor([1.0, 2.0, 3.0, 4.0])
    assert ((x * 2).requires_grad, (y * 2).requires_grad) == (True, False)
    with fb.no_grad():
        assert not (x * 2).requires_grad
    assert ((y + 1).dtype, (y.long() + 1).dtype, (y.long() + 1.0).dtype) == (fb.float32, fb.int64, fb.float32)
    assert (y.sum(0).shape, y.reshape(2, 2).sum(0).shape, y.reshape(2, 2).sum(0, True).shape) == ((), (2,), (1, 2))
    assert [fb.full((2,), v).dtype for v in (1, 1.0, True)] == [fb.int64, fb.float32, fb.bool]
    assert [str(fb.full((1,), v).item()) for v in (0.0, -0.0)] == ["0.0", "-0.0"]
    with pytest.raises(RuntimeError, match="leaf"):
        x.add_(y)
    y.add_(y)
    assert y.tolist() == [2.0, 4.0, 6.0, 8.0]


# ---- values --------------------------------------------------------------------------------------------------

DTYPES = (fb.float32, fb.float64, fb.int64, fb.int32, fb.bool)


def random_item(rng, n):
    if n and rng.random() < 0.5:
        return int(rng.integers(-n, n))
    bounds = [None if rng.random() < 0.3 else int(rng.integers(-n - 1, n + 2)) for _ in range(2)]
    return slice(*bounds, None if rng.random() < 0.5 else int(rng.integers(1, 4)))


def random_index(rng, shape):
    n_first = int(rng.integers(0, len(shape) + 1))
    items = [random_item(rng, n) for n in shape[:n_first]]
    if rng.random() < 0.3:
        n_last = int(rng.integers(0, len(shape) - n_first + 1))
        items += [Ellipsis, *(random_item(rng, n) for n in shape[len(shape) - n_last :])]
    for _ in range(rng.integers(0, 2)):
        items.insert(rng.integers(0, len(items) + 1), None)
    return items[0] if len(items) == 1 and rng.random() < 0.5 else tuple(items)


def random_view(rng, x, a):
    """The same view of a tensor and of an array."""
    kind = rng.integers(0, 4)
    if kind == 0 and a.ndim > 1:
        return x.transpose(0, -1), a.swapaxes(0, -1)
    if kind == 1:
        return x[None].expand(3, *x.shape), np.broadcast_to(a, (3, *a.shape))
    if kind == 2 and a.flags.c_contiguous:
        return x.reshape(-1), a.reshape(-1)
    index = random_index(rng, a.shape)
    return x[index], a[index]


def same(x, a):
    assert x.shape == a.shape
    assert x.tolist() == a.tolist()
    assert x.detach().numpy().tobytes() == a.tobytes()
    if a.size == 1:
        number = x.item()
        assert number == a.item() and type(number) is type(a.item())
        assert (bool(x), int(x), float(x)) == (bool(number), int(number), float(number))
    if a.ndim:
        assert [row.tolist() for row in x] == a.tolist() and len(x) == len(a)


@pytest.mark.parametrize("seed", range(rounds(8, 100, 1000)))
def test_views_of_views_show_what_numpys_show(seed):
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(0 if seed % 5 == 0 else 1, 5, rng.integers(1, 4)))
    dtype = DTYPES[seed % len(DTYPES)]
    a = rng.integers(-3, 4, shape).astype(dtype.numpy)
    for x in (fb.tensor(a), fb.from_numpy(a.copy()), fb.tensor(a).clone()):
        b = a
        for _ in range(4):
            same(x, b)
            x, b = random_view(rng, x, b)
        same(x, b)


@pytest.mark.parametrize("seed", range(rounds(5, 50, 500)))
def test_writes_by_index_are_numpys(seed):
    rng = np.random.default_rng(seed)
    a = rng.integers(-3, 4, (3, 4, 2)).astype(np.float32)
    x = fb.tensor(a) + 0
    for _ in range(5):
        index = random_index(rng, a.shape)
        value = float(rng.integers(9)) if rng.random() < 0.4 else rng.random(a[index].shape, np.float32)
        x[index] = value if isinstance(value, float) else fb.tensor(value)
        a[index] = value
        if rng.random() < 0.5:
            assert x.tolist() == a.tolist()
    assert x.tolist() == a.tolist()


@pytest.mark.parametrize(
    ("look", "error", "text"),
    [
        (lambda x: x[3], IndexError, r"\[getitem\] index 3 is out of range for dimension 0 with size 3"),
        (lambda x: x[-4], IndexError, r"\[getitem\] index -4 is out of range"),
        (lambda x: x[2**70], IndexError, "out of range"),
        (lambda x: x[0, 2], IndexError, r"index 2 is out of range for dimension 1 with size 2"),
        (lambda x: x[0, 0, 0], IndexError, r"3 indices for a tensor of 2 dimensions"),
        (lambda x: x[0, 0][0], IndexError, r"1 indices for a tensor of 0 dimensions"),
        (lambda x: x[..., ...], IndexError, "more than one"),
        (lambda x: x[::-1], ValueError, "step -1 is negative"),
        (lambda x: x[::0], ValueError, "zero"),
        (lambda x: x[0:0][0], IndexError, "empty"),
        (lambda x: x["a"], TypeError, "cannot be indexed by str"),
        (lambda x: x.item(), RuntimeError, r"\[item\] a tensor of shape \(3, 2\) has 6 elements, not one"),
        (lambda x: x[0:0].item(), RuntimeError, r"has 0 elements, not one"),
        (lambda x: float(x), ValueError, r"\[float\]"),
        (lambda x: bool(x), RuntimeError, r"\[bool\] the truth of a tensor of shape \(3, 2\) is ambiguous"),
        (lambda x: [1, 2][x[0, 0]], TypeError, r"\[index\] a tensor of dtype flambeau.float32 cannot"),
        (lambda x: list(x[0, 0]), TypeError, r"\[iter\] a 0-d tensor cannot be iterated"),
        (lambda x: x.item(1), TypeError, r"\[item\] takes at most 0 positional arguments"),
        (lambda x: int(x[0, 0] * math.nan), ValueError, "NaN"),
    ],
)
def test_wrong_looks_are_told(look, error, text):
    x = fb.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    for tensor in (x, x + 1):
        for _ in range(2):
            with pytest.raises(error, match=text):
                look(tensor)


def test_indices_that_are_no_plain_ints_are_read_as_before():
    x = fb.tensor([10.0, 20.0, 30.0])
    for index in (np.int64(1), np.uint8(1), fb.tensor(1), True):
        assert x[index].shape in ((), (1, 3))
    assert (x[np.int64(1)].item(), x[fb.tensor([1, 2])].tolist(), x[[2, 0]].tolist()) == (20.0, [20, 30], [30, 10])
    assert x[np.int64(1) : np.int64(3)].tolist() == [20.0, 30.0]


def test_a_deep_view_is_still_read():
    x = fb.tensor([[1.0, 2.0], [3.0, 4.0]])
    for _ in range(10):
        x = x[None]
    assert x[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0].item() == 3.0
    assert x[(None,) * 10].shape == (1,) * 20 + (2, 2)


# ---- gradients, modes, memory of others ----------------------------------------------------------------------


def test_an_element_of_a_tensor_with_grad_is_a_differentiable_view():
    x = fb.tensor([1.0, 2.0, 3.0], requires_grad=True)
    with fb.no_grad():
        assert not x[0].requires_grad
    y = x[0]
    assert y.requires_grad and not y.is_leaf
    version = x._version
    looked = (float(x[0]), x[1].item(), x.tolist(), [e.item() for e in x])
    assert looked == (1.0, 2.0, [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) and x._version == version
    (y * y + sum(x)).backward()
    assert x.grad.tolist() == [3.0, 1.0, 1.0]
    with fb.no_grad():
        x[0] = 7.0
    assert (x._version, y.item()) == (version + 1, 7.0)
    with pytest.raises(RuntimeError, match="leaf"):
        x[0] = 1.0


def test_a_look_sees_what_numpy_has_written():
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    x = fb.from_numpy(a)
    for value in (5.0, 6.0):
        a[1, 2] = value
        assert (x[1, 2].item(), float(x[1][2]), x[1].tolist(), x[:, 2].numpy()[1]) == (
            value,
            value,
            [3, 4, value],
            value,
        )
    shown = x[0].numpy()
    shown[1] = 9
    assert (a[0, 1], x[0, 1].item()) == (9, 9)


def test_an_array_of_a_view_shares_its_memory():
    x = fb.tensor([[1.0, 2.0], [3.0, 4.0]]) * 1
    column = x[:, 1].numpy()
    column[0] = 8
    assert x.tolist() == [[1, 8], [3, 4]]
    x[1, 1] = 7
    assert column.tolist() == [8, 7]
    assert not x[0].expand(2, 2).numpy().flags.writeable


def test_values_that_were_never_computed_raise_their_error_at_each_look():
    x = fb.tensor([1.0, 2.0])[fb.tensor([5])]
    for look in (lambda: x[0].item(), lambda: float(x[0]), lambda: x.tolist(), lambda: x.numpy()):
        with pytest.raises(IndexError, match="out of range"):
            look()


def test_looking_while_another_thread_moves_the_tensor_to_other_memory():
    x, stop, wrong = fb.zeros(4), threading.Event(), []

    def move():
        for k in itertools.count():
            if stop.is_set():
                return
            x.data = fb.zeros(4) + k if k % 2 else fb.zeros(2, 3)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        for _ in range(rounds(300, 3000, 30000)):
            try:
                found = x[1].tolist()
            except (IndexError, RuntimeError):
                continue
            if not (isinstance(found, float) or found == [0.0] * 3):
                wrong.append(found)
    finally:
        stop.set()
        mover.join()
    assert wrong == []


# ---- literals ------------------------------------------------------------------------------------------------

NUMBERS = (0, 1, -3, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 0.5, -0.0, 1e300, 1e-50, math.inf, math.nan, True, False)


def random_literal(rng, depth, numbers):
    if depth == 0:
        return numbers[rng.integers(len(numbers))]
    sizes = rng.integers(1, 4)
    first = random_literal(rng, depth - 1, numbers)

    def like(data):
        return (
            type(data)(like(item) for item in data)
            if isinstance(data, list | tuple)
            else random_literal(rng, 0, numbers)
        )

    rows = [first, *(like(first) for _ in range(sizes - 1))]
    return tuple(rows) if rng.random() < 0.3 else rows


@pytest.mark.parametrize("seed", range(rounds(40, 400, 4000)))
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_literals_become_what_numpy_makes_of_them(seed):
    rng = np.random.default_rng(seed)
    kinds = [
        NUMBERS,
        [n for n in NUMBERS if type(n) is not float],
        [n for n in NUMBERS if type(n) is float],
        (True, False),
    ]
    data = random_literal(rng, rng.integers(0, 4), kinds[seed % 4])
    for dtype in (None, *DTYPES):
        try:
            expected = host.copied(literals.array_of("tensor", data, dtype), dtype)
        except RuntimeError as refusal:
            assert dtype is not None and dtype.is_integer
            with pytest.raises(RuntimeError, match=re.escape(str(refusal))):
                fb.tensor(data, dtype=dtype)
            continue
        made = fb.tensor(data, dtype=dtype)
        assert (made.dtype, made.shape) == (expected.dtype, expected.shape)
        assert made.numpy().tobytes() == expected.numpy().tobytes(), (data, dtype)


def test_default_dtype_and_grad_of_literals():
    fb.set_default_dtype(fb.float64)
    try:
        assert [fb.tensor(v).dtype for v in (1.0, [1.0, 2], 1, True)] == [fb.float64, fb.float64, fb.int64, fb.bool]
    finally:
        fb.set_default_dtype(fb.float32)
    assert fb.tensor([1.0], requires_grad=True).requires_grad


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ([[1], [1, 2]], ValueError),
        ([1, [2]], TypeError),
        (2**63, Exception),
        ([1, "a"], TypeError),
        ([None], RuntimeError),
    ],
)
def test_literals_that_are_none_are_refused(data, error):
    with pytest.raises(error):
        fb.tensor(data)


def test_rows_that_hold_themselves_are_refused():
    data: list = []
    data.append(data)
    with pytest.raises(Exception, match=r"\[tensor\]"):
        fb.tensor(data)


def test_empty_and_odd_literals():
    assert [fb.tensor(d).shape for d in ([], [[]], ((), ()), [np.float32(1)], [fb.tensor(2.0)])] == [
        (0,), (1, 0), (2, 0), (1,), (1,),
    ]  # fmt: skip
