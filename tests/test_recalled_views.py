"""Views that functions in Python give, given again without Python: the same storage, starts, histories and errors."""

import flambeau as fb
import numpy as np
import pytest
from flambeau import border
from flambeau.runtime import recorder
from support import python_calls

X = np.arange(24.0, dtype=np.float32).reshape(2, 3, 4)

#: name -> (call, what NumPy shows)
VIEWS = {
    "narrow": (lambda x: x.narrow(1, 1, 2), lambda a: a[:, 1:3]),
    "narrow from the end": (lambda x: fb.narrow(x, dim=-1, start=-2, length=1), lambda a: a[..., 2:3]),
    "select": (lambda x: x.select(-1, 2), lambda a: a[..., 2]),
    "diagonal": (lambda x: x.diagonal(1, 1, 2), lambda a: a.diagonal(1, 1, 2)),
    "view": (lambda x: x.view(6, -1), lambda a: a.reshape(6, 4)),
    "view of a tuple": (lambda x: x.view((3, 8)), lambda a: a.reshape(3, 8)),
    "reshape of a list": (lambda x: x.reshape([3, 8]), lambda a: a.reshape(3, 8)),
    "reshape by name": (lambda x: fb.reshape(x, shape=(8, 3)), lambda a: a.reshape(8, 3)),
    "flatten": (lambda x: x.flatten(1), lambda a: a.reshape(2, 12)),
    "ravel": (lambda x: x.ravel(), lambda a: a.reshape(24)),
    "contiguous": (lambda x: x.contiguous(), lambda a: a),
    "view_as": (lambda x: x.view_as(fb.ones(4, 6)), lambda a: a.reshape(4, 6)),
    "expand_as": (lambda x: x.expand_as(fb.ones(3, 2, 3, 4)), lambda a: np.broadcast_to(a, (3, 2, 3, 4))),
    "as_strided": (lambda x: x.as_strided((2, 2), (1, 4), 3), lambda a: a.reshape(24)[[[3, 7], [4, 8]]]),
    "mH": (lambda x: x.mH, lambda a: a.swapaxes(-1, -2)),
    "atleast_2d": (lambda x: fb.atleast_2d(x), lambda a: a),
}
PARTS = {
    "chunk": (lambda x: x.chunk(2, 1), lambda a: (a[:, :2], a[:, 2:])),
    "split": (lambda x: fb.split(x, 2, dim=2), lambda a: np.split(a, 2, 2)),
    "split by sizes": (lambda x: x.split([1, 2], 1), lambda a: (a[:, :1], a[:, 1:])),
    "unbind": (lambda x: x.unbind(-1), lambda a: [a[..., i] for i in range(4)]),
    "tensor_split": (lambda x: x.tensor_split((1, 2), -1), lambda a: np.split(a, (1, 2), -1)),
    "hsplit": (lambda x: x.hsplit(3), lambda a: np.split(a, 3, 1)),
}


@pytest.mark.accept("SHP-01")
@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_given_again_without_python(name):
    call, shown = VIEWS[name]
    x = fb.tensor(X)
    call(x)
    assert python_calls(lambda: call(x)) == ["<lambda>"]
    for value in (1.0, 2.0):
        y = call(fb.tensor(X + value))
        assert y.tolist() == shown(X + value).tolist()
    y, again = call(x), call(x)
    assert recorder.same_storage(y, x) and y.stride() == again.stride() and y.storage_offset() == again.storage_offset()


@pytest.mark.parametrize("name", PARTS)
def test_parts_are_given_again_without_python(name):
    call, shown = PARTS[name]
    x = fb.tensor(X)
    call(x)
    assert python_calls(lambda: call(x)) == ["<lambda>"]
    for part, wanted in zip(call(x), shown(X), strict=True):
        assert part.tolist() == wanted.tolist()
        part.add_(100)
    assert x.tolist() == (X + 100).tolist()


def test_writes_and_gradients_go_through_what_is_given_again():
    for _ in range(3):
        x = fb.tensor(X, requires_grad=True)
        y = x * 1
        y.narrow(1, 0, 2).mul_(3)
        y.select(2, 1).fill_(0)
        first, second = y.chunk(2, 2)
        (first.flatten().sum() + 2 * second.sum()).backward()
        wanted = np.ones((2, 3, 4), np.float32)
        wanted[:, :2] = 3
        wanted[:, :, 2:] *= 2
        wanted[:, :, 1] = 0
        assert x.grad.tolist() == wanted.tolist()


def test_the_same_call_is_cut_from_history_where_gradients_are_off():
    x = fb.tensor(X, requires_grad=True)
    for _ in range(2):
        assert x.narrow(0, 0, 1).requires_grad
        with fb.no_grad():
            assert not x.narrow(0, 0, 1).requires_grad
        assert not x.detach().narrow(0, 0, 1).requires_grad
        assert x.contiguous() is x


def test_views_of_views_begin_where_their_operands_do():
    x = fb.tensor(X).view(24)
    for i in range(6):
        part = x[i : i + 12]  # one view, with another start each time
        assert part.view(3, 4).tolist() == X.reshape(24)[i : i + 12].reshape(3, 4).tolist()
        assert part.narrow(0, 2, 3).tolist() == [i + 2, i + 3, i + 4]
        assert part.as_strided((2,), (2,)).tolist() == [i, i + 2]
        assert part.as_strided((2,), (2,), 5).tolist() == [5, 7]
        assert [p.tolist() for p in part.chunk(6)] == [[i + k, i + k + 1] for k in range(0, 12, 2)]


def test_what_a_view_cannot_show_is_copied_and_what_is_wrong_refused_each_time():
    x = fb.tensor(X)
    for _ in range(3):
        turned = x.transpose(0, 2)
        copy = turned.reshape(24)
        assert not recorder.same_storage(copy, x) and copy.tolist() == X.transpose(2, 1, 0).reshape(24).tolist()
        with pytest.raises(RuntimeError, match=r"\[view\] shape \(24,\) cannot be a view"):
            turned.view(24)
        with pytest.raises(IndexError, match=r"\[narrow\] start 7"):
            x.narrow(0, 7, 1)


def test_what_is_read_among_the_arguments_is_read_each_time():
    x, start = fb.tensor(X), fb.tensor(0)
    for i in range(3):
        start.fill_(i)
        assert x.narrow(1, start, 1).tolist() == X[:, i : i + 1].tolist()
        assert [p.shape[1] for p in x.tensor_split(fb.tensor([i]), 1)] == [i, 3 - i]
        sizes = np.array([i, 3 - i])
        assert [p.shape[1] for p in x.split(sizes.tolist(), 1)] == [i, 3 - i]
    assert x.narrow(1, True, 1).tolist() == x.narrow(1, 1, 1).tolist()


def test_kinds_of_arguments_are_told_apart():
    x = fb.tensor(X)
    assert x.view(-1).shape == (24,) and x.view((2, 12)).shape == (2, 12) and x.view(2, 12).shape == (2, 12)
    assert x.flatten(0, 1).shape == (6, 4) and x.flatten(start_dim=0, end_dim=1).shape == (6, 4)
    assert x.flatten(end_dim=0, start_dim=0).shape == (2, 3, 4) and x.flatten(1).shape == (2, 12)
    assert len(x.split(1, 2)) == 4 and len(x.split([1, 3], 2)) == 2 and len(x.chunk(1, 2)) == 1
    assert x.view(fb.int32).dtype is fb.int32 and x.view(fb.float32).dtype is fb.float32


def test_what_is_remembered_is_bounded_and_forgotten_with_the_views():
    x = fb.arange(100.0)
    try:
        recorder.set_limits(max_types=64)
        for n in range(1, 90):
            assert x.narrow(0, n, 100 - n).sum().item() == sum(range(n, 100))
            assert x.chunk(n)[0].shape == (-(-100 // n),)
            del n
        assert x.narrow(0, 5, 95).sum().item() == sum(range(5, 100))
    finally:
        recorder.set_limits(max_types=16384)


def test_functions_that_give_views_say_what_these_follow_from():
    assert set(border.recalled.values()) == {"operand", "types", "place"}
    with pytest.raises(ValueError, match="Use operand, types or place"):
        recorder.Public(len, "f", print, recalled="anything")


def test_ints_of_numpy_name_dimensions_and_places():
    zero, one, last = np.int64(0), np.int32(1), np.int64(-1)
    x = fb.tensor(X)
    for _ in range(2):
        assert x.narrow(one, zero, np.int64(2)).tolist() == X[:, :2].tolist()
        assert x.select(last, one).tolist() == X[..., 1].tolist()
        assert [p.tolist() for p in x.chunk(np.int64(2), last)] == [X[..., :2].tolist(), X[..., 2:].tolist()]
        assert [p.tolist() for p in x.unbind(zero)] == X.tolist()
        assert [p.tolist() for p in x.split(one, zero)] == [X[:1].tolist(), X[1:].tolist()]
        assert [p.tolist() for p in x.tensor_split(np.int64(2), last)] == [X[..., :2].tolist(), X[..., 2:].tolist()]
        assert x.diagonal(one, zero, last).tolist() == X.diagonal(1, 0, 2).tolist()


@pytest.mark.parametrize("place", [1.5, "a", True, None])
def test_places_of_cuts_are_ints(place):
    for cut in (fb.tensor(X).tensor_split, fb.tensor(X).hsplit):
        with pytest.raises(TypeError, match=r"indices_or_sections\[1\] is .* Pass an int"):
            cut((0, place))


def test_a_view_is_not_detached_in_place():
    x = fb.tensor(X, requires_grad=True) * 1
    for view in (x[0], x.transpose(0, 1), fb.tensor(X)[1:], x.chunk(2)[0]):
        with pytest.raises(RuntimeError, match=r"\[detach_\] the tensor is a view"):
            view.detach_()
    assert x.detach().detach_().requires_grad is False and x.detach_().is_leaf and not x.requires_grad


@pytest.mark.parametrize("dtype", [fb.float32, fb.bool, fb.uint8])
def test_positions_of_another_dtype_are_refused_as_by_pytorch(dtype):
    x, at, ones = fb.zeros(3), fb.tensor([0, 1]).to(dtype), fb.ones(2)
    calls = (
        lambda: x.index_add(0, at, ones),
        lambda: x.index_copy_(0, at, ones),
        lambda: x.index_select(0, at),
        lambda: x.index_reduce(0, at, ones, "mean"),
        lambda: x.gather(0, at),
        lambda: x.scatter(0, at, ones),
        lambda: x.take(at),
        lambda: x.take_along_dim(at, 0),
    )
    for call in calls:
        with pytest.raises(RuntimeError, match="has dtype") as told:
            call()
        assert not isinstance(told.value, IndexError)
    with pytest.raises(IndexError, match="has dtype"):
        x.index_fill(0, at, 1.0)
