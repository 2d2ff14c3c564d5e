"""`as_strided` and its kin: views of a storage by strides, beside NumPy's on the same memory, and PyTorch's."""

import flambeau as fb
import numpy as np
import pytest
from flambeau.runtime import recorder
from support import gradients_against_torch

X = np.arange(24, dtype=np.float32).reshape(4, 6)
#: (size, stride, offset) in a storage of 24 elements.
PLACES = {
    "rows": ((3, 4), (6, 1), 2),
    "columns": ((4, 3), (1, 6), 2),
    "sliding windows": ((5, 8), (4, 1), 0),
    "windows of windows": ((3, 3, 2), (1, 5, 6), 2),
    "gaps": ((2, 2, 2), (12, 5, 2), 1),
    "one of each": ((1, 3, 1), (9, 7, 5), 3),
    "repeated": ((2, 3), (0, 2), 4),
    "a number": ((), (), 23),
    "nothing": ((0, 3), (3, 1), 0),
}


def by_numpy(place, memory):
    size, stride, offset = place
    return np.lib.stride_tricks.as_strided(memory[offset:], size, [4 * s for s in stride])


@pytest.mark.parametrize("name", PLACES)
def test_a_view_shows_the_storage_from_wherever_it_is_made(name):
    """Of the whole, of a transpose, of a part: offsets count from where the storage begins."""
    size, stride, offset = PLACES[name]
    x = fb.tensor(X)
    wanted = by_numpy(PLACES[name], X.reshape(-1))
    for handle in (x, x.t(), x[2:, 3], x.reshape(2, 12)[1]):
        found = handle.as_strided(size, stride, offset)
        assert found.tolist() == wanted.tolist() and tuple(found.shape) == size
    x.mul_(2)
    assert found.tolist() == (wanted * 2).tolist()  # it shares the storage
    if 0 not in size:
        assert found.storage_offset() == offset and recorder.same_storage(found, x)


@pytest.mark.parametrize("name", PLACES)
def test_what_is_written_through_a_view_is_in_the_storage(name):
    size, stride, offset = PLACES[name]
    x, memory = fb.tensor(X), X.copy().reshape(-1)
    new = np.arange(1, 1 + int(np.prod(size)), dtype=np.float32).reshape(size) * 100
    write = lambda: x.t().as_strided(size, stride, offset).copy_(fb.tensor(new))  # noqa: E731
    if name in ("sliding windows", "windows of windows", "repeated"):
        with pytest.raises(RuntimeError, match=r"\[as_strided\] elements of size .* share memory\. Write to a clone"):
            write()
        return
    write()
    by_numpy(PLACES[name], memory)[...] = new
    assert x.tolist() == memory.reshape(4, 6).tolist()
    scattered = fb.as_strided_scatter(fb.tensor(X), fb.tensor(new), size, stride, offset)
    assert scattered.tolist() == x.tolist()


def test_chains_go_on_from_a_strided_view():
    x = fb.tensor(X)
    part = x[1:].t().as_strided((3, 4), (5, 1), 2)[1:, ::2]
    assert part.tolist() == X.reshape(-1)[[[7, 9], [12, 14]]].tolist()
    part.add_(100)
    assert x.reshape(-1)[[7, 9, 12, 14]].tolist() == [107, 109, 112, 114]
    assert part.as_strided((2,), (1,)).tolist() == [107, 8]  # from the offset of `part` on
    assert x[:, 1].as_strided((3,), (6,)).tolist() == [1, 107, 13]


def test_offsets_that_change_compile_nothing_anew():
    x = fb.tensor(np.arange(64.0))
    for offset in range(3):
        (x.as_strided((4, 4), (2, 1), offset) * 2).tolist()
    before = recorder.stats()["misses"]
    for offset in range(3, 20):
        wanted = by_numpy(((4, 4), (2, 1), offset), np.arange(64, dtype=np.float32)) * 2
        assert (x.as_strided((4, 4), (2, 1), offset) * 2).tolist() == wanted.tolist()
    assert recorder.stats()["misses"] == before


def test_the_kin():
    x = fb.tensor(X)
    assert fb.as_strided_copy(x, (2,), (7,)).tolist() == [0, 7]
    y = fb.tensor(X)
    assert y.as_strided_((2, 2), (6, 1), 1) is y and y.tolist() == [[1, 2], [7, 8]]
    z = fb.zeros(0)
    assert z.set_(x, 2, (2, 2), (6, 1)) is z and z.tolist() == [[2, 3], [8, 9]]
    z.fill_(-1)
    assert x[0].tolist() == [0, 1, -1, -1, 4, 5]
    w = fb.empty_strided((2, 3), (5, 1)).fill_(1)
    assert w.stride() == (5, 1) and w.tolist() == [[1, 1, 1], [1, 1, 1]]


def test_refusals():
    x = fb.zeros(4)
    for args, message in (
        (((2, 2), (4, 1)), r"need a storage of 6 elements, and that of the tensor has 4"),
        (((2, 2), (-1, 1)), r"strides \(-1, 1\) or the offset 0 are negative"),
        (((2,), (1, 1)), r"size \(2,\) and stride \(1, 1\) differ in length"),
        (((2,), (1,), -1), r"the offset -1 are negative"),
    ):
        with pytest.raises(RuntimeError, match=r"\[as_strided\] .*" + message):
            x.as_strided(*args)
    with pytest.raises(RuntimeError, match=r"\[as_strided_\] the tensor is a leaf that requires grad"):
        fb.zeros(4, requires_grad=True).as_strided_((2,), (1,))


@pytest.mark.parametrize("name", PLACES)
def test_gradients_are_pytorchs(name):
    gradients_against_torch(lambda m, x: m.as_strided(x * 2, *PLACES[name]) * 3, X)


def test_gradients_add_up_where_windows_overlap():
    x = fb.tensor(X, requires_grad=True)
    x.as_strided((5, 8), (4, 1)).sum().backward()
    counts = np.zeros(24)
    for first in range(0, 20, 4):
        counts[first : first + 8] += 1
    assert x.grad.reshape(-1).tolist() == counts.tolist()
    y = fb.tensor(X, requires_grad=True)
    z = y * 1
    z.as_strided((2, 2), (6, 1), 1).mul_(3)
    z.sum().backward()
    assert y.grad[0].tolist() == [1, 3, 3, 1, 1, 1] and y.grad.sum().item() == 24 + 8


# ---- what a view is of ------------------------------------------------------------------------------------------


def test_a_view_says_what_it_is_of():
    x = fb.arange(6.0).reshape(2, 3).clone()
    for shown in (x[1], x.T, x[0, 1:], x.view(3, 2), x.expand(4, 2, 3)):
        assert shown._is_view() and shown._base.tolist() == [[0, 1, 2], [3, 4, 5]]
    for own in (x, x.detach(), x.data, x + 1, x[[0]]):
        assert not own._is_view() and own._base is None
    x[1]._base[0, 0] = 9
    assert x.tolist()[0] == [9, 1, 2]


def test_a_base_keeps_its_history():
    x = fb.ones(3, requires_grad=True)
    assert x[0]._is_view() and x[0]._base.requires_grad
    (x * 2)[1:]._base.sum().backward()
    assert x.grad.tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    "of",
    [
        "a[1]",
        "a[:, ::2]",
        "a.T",
        "a[1:, 1]",
        "a.reshape(6, 4)[2:, 1:3]",
        "a.transpose(2, 0, 1)[1]",
        "a[0, 0, 0]",
        "a[2:]",
    ],
)
def test_what_a_view_shows_of_shared_memory_is_copied_when_it_is_read(of):
    """Also of memory that NumPy writes afterwards."""
    array = np.arange(24.0, dtype=np.float32).reshape(2, 3, 4)
    x = fb.from_numpy(array)
    shown = eval(of.replace("transpose", "permute"), {"a": x})
    found, wanted = shown * 2, eval(of, {"a": array}) * 2
    array[:] = -1
    np.testing.assert_array_equal(found.numpy(), wanted)
    np.testing.assert_array_equal((shown + 0).numpy(), eval(of, {"a": array}))


def test_writes_that_overlap_what_they_read_read_first():
    x = fb.arange(6.0)
    x[1:].copy_(x[:-1])
    assert x.tolist() == [0, 0, 1, 2, 3, 4]
    x[1:] += x[:-1]
    assert x.tolist() == [0, 0, 1, 3, 5, 7]
    y = fb.arange(4.0).reshape(2, 2).clone()
    assert y.copy_(y.T).tolist() == [[0, 2], [1, 3]]
