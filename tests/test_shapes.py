"""Joined, cut, turned and repeated tensors, diagonals and views in place: values of NumPy, and PyTorch's in everything."""

import flambeau as fb
import numpy as np
import pytest
from support import against_numpy, arrays, gradients_against_torch

X, Y, V, W = arrays(3, 4), arrays(3, 4, seed=1), arrays(4), arrays(4, seed=1)
CUBE = arrays(2, 3, 4)
#: Calls with NumPy's names and meaning.
LIKE_NUMPY = {
    "hstack": lambda m, x, v: m.hstack([v, v]),
    "hstack of matrices": lambda m, x, v: m.hstack([x, x]),
    "vstack": lambda m, x, v: m.vstack([x, v]),
    "dstack": lambda m, x, v: m.dstack([x, x]),
    "column_stack": lambda m, x, v: m.column_stack([v, x.T]),
    "hsplit": lambda m, x, v: m.hsplit(x, 2)[1],
    "vsplit": lambda m, x, v: m.vsplit(x, (1, 2))[1],
    "kth diagonal": lambda m, x, v: m.diagonal(x, 1),
    "diag of a matrix": lambda m, x, v: m.diag(x, -1),
    "diag of a vector": lambda m, x, v: m.diag(v, 1),
    "diagflat": lambda m, x, v: m.diagflat(x, -1),
    "trace": lambda m, x, v: m.trace(x),
    "rot90": lambda m, x, v: m.rot90(x, 3),
    "rot90 twice": lambda m, x, v: m.rot90(x, 2),
    "fliplr": lambda m, x, v: m.fliplr(x),
    "flipud": lambda m, x, v: m.flipud(x),
    "moveaxis": lambda m, x, v: m.moveaxis(x, 0, 1),
    "atleast_3d": lambda m, x, v: m.atleast_3d(x),
    "ravel": lambda m, x, v: m.ravel(x.T),
}


@pytest.mark.parametrize("name", LIKE_NUMPY)
def test_values_are_those_of_numpy(name):
    call = LIKE_NUMPY[name]
    against_numpy(call(fb, fb.tensor(X), fb.tensor(V)), call(np, X, V))


#: (call, whether it is a view): of a matrix [3, 4] and a vector [4].
CALLS = {
    "atleast_1d": (lambda m, x, v: m.atleast_1d(v[0]), True),
    "atleast_2d": (lambda m, x, v: m.atleast_2d(v, x)[0], True),
    "atleast_3d": (lambda m, x, v: m.atleast_3d(v), True),
    "hstack": (lambda m, x, v: m.hstack((v, v[:1])), False),
    "row_stack": (lambda m, x, v: m.row_stack((x, v)), False),
    "dstack": (lambda m, x, v: m.dstack((x, x)), False),
    "column_stack": (lambda m, x, v: m.column_stack((v, x.t())), False),
    "tensor_split": (lambda m, x, v: m.tensor_split(x, 3, dim=1)[0], True),
    "tensor_split at": (lambda m, x, v: x.tensor_split((1, 3), 1)[1], True),
    "tensor_split by": (lambda m, x, v: x.tensor_split(m.tensor([1, 3]), 1)[1], True),
    "hsplit": (lambda m, x, v: x.hsplit(1, 2)[1], True),
    "vsplit": (lambda m, x, v: m.vsplit(x, 3)[2], True),
    "dsplit": (lambda m, x, v: m.dsplit(x.view(3, 2, 2), [1])[0], True),
    "unsafe_chunk": (lambda m, x, v: x.unsafe_chunk(2, 1)[1], True),
    "swapdims": (lambda m, x, v: x.swapdims(0, 1), True),
    "squeeze": (lambda m, x, v: x.view(1, 3, 1, 4).squeeze(0, 2), True),
    "ravel": (lambda m, x, v: x.ravel(), True),
    "ravel of a transposed": (lambda m, x, v: x.t().ravel(), False),
    "diagonal": (lambda m, x, v: x.diagonal(), True),
    "diagonal of a transposed": (lambda m, x, v: x.t().diagonal(1), True),
    "diagonal of a part": (lambda m, x, v: x[:, 1:].diagonal(-1), True),
    "diagonal of a cube": (lambda m, x, v: m.diagonal(x.view(3, 2, 2), 1, 0, -1), True),
    "diag": (lambda m, x, v: m.diag(x, 1), False),
    "diag of a vector": (lambda m, x, v: v.diag(-2), False),
    "diag_embed": (lambda m, x, v: m.diag_embed(x, 1, 0, 2), False),
    "diagflat": (lambda m, x, v: m.diagflat(x[:2, :2]), False),
    "diagonal_scatter": (lambda m, x, v: m.diagonal_scatter(x, v[:3], 1), False),
    "trace": (lambda m, x, v: x.trace(), False),
    "block_diag": (lambda m, x, v: m.block_diag(x, v, v[0]), False),
    "rot90": (lambda m, x, v: x.rot90(-1, (1, 0)), False),
    "fliplr": (lambda m, x, v: x.fliplr(), False),
    "flip": (lambda m, x, v: x.flip(0, 1), False),
    "roll": (lambda m, x, v: x.roll(2), False),
    "roll along": (lambda m, x, v: x.roll((1, -1), (0, 1)), False),
    "tile": (lambda m, x, v: x.tile(2, 1, 3), False),
    "repeat_interleave": (lambda m, x, v: x.repeat_interleave(2), False),
    "repeat_interleave along": (lambda m, x, v: m.repeat_interleave(x, m.tensor([2, 0, 1]), dim=0), False),
    "cartesian_prod": (lambda m, x, v: m.cartesian_prod(v, v[:2]), False),
    "combinations": (lambda m, x, v: m.combinations(v, 3), False),
    "combinations again": (lambda m, x, v: m.combinations(v, with_replacement=True), False),
    "sum_to_size": (lambda m, x, v: x.sum_to_size(1, 4), False),
    "select_scatter": (lambda m, x, v: m.select_scatter(x, v, 0, -1), False),
    "slice_scatter": (lambda m, x, v: m.slice_scatter(x, x[:, :2], 1, 1, None, 2), False),
    "unsqueeze_": (lambda m, x, v: (x * 1).unsqueeze_(1), False),
    "squeeze_": (lambda m, x, v: (x * 1)[:1].squeeze_(), False),
    "transpose_": (lambda m, x, v: (x * 1).transpose_(0, 1), False),
    **{
        name: (lambda m, x, v, name=name, arguments=arguments: getattr(m, name)(x, *arguments), False)
        for name, arguments in {
            "alias_copy": (), "diagonal_copy": (1,), "expand_copy": ((2, 3, 4),), "narrow_copy": (1, 1, 2),
            "permute_copy": ((1, 0),), "select_copy": (1, 2), "slice_copy": (1, 0, 4, 3), "squeeze_copy": (),
            "t_copy": (), "transpose_copy": (0, 1), "unsqueeze_copy": (1,), "view_copy": ((4, 3),),
        }.items()
    },
}  # fmt: skip


#: Views of ours whose elements no reshaped tensor shows in steps: they share storage, and say that they lie row by row.
WITHOUT_STRIDES = ("diagonal of a part", "diagonal of a cube")


@pytest.mark.parametrize("name", CALLS)
def test_values_gradients_and_aliasing_are_those_of_pytorch(name):
    torch = pytest.importorskip("torch")
    call, is_view = CALLS[name]
    gradients_against_torch(call, X, V)
    ours, theirs = (fb.tensor(X), fb.tensor(V)), (torch.tensor(X), torch.tensor(V))
    mine, other = call(fb, *ours), call(torch, *theirs)
    assert not is_view or name in WITHOUT_STRIDES or mine.stride() == other.stride()
    for x in (*ours, *theirs):
        x.zero_()
    np.testing.assert_array_equal(mine.numpy(), other.numpy())
    assert is_view == (not mine.numpy().any())


@pytest.mark.parametrize("name", [n for n, (_, is_view) in CALLS.items() if is_view])
def test_writes_through_views_are_seen(name):
    call, _ = CALLS[name]
    x, v = fb.tensor(X), fb.tensor(V)
    call(fb, x, v).fill_(7.0)
    assert (x == 7).sum() + (v == 7).sum() == call(fb, x, v).numel()


def test_places():
    for k in (-2, 0, 1):
        assert fb.tril_indices(3, 4, k).tolist() == np.stack(np.tril_indices(3, k, 4)).tolist()
        assert fb.triu_indices(3, 4, k).tolist() == np.stack(np.triu_indices(3, k, 4)).tolist()
    found = fb.unravel_index(fb.tensor([[5, 11], [0, 7]]), (2, 3, 2))
    for mine, wanted in zip(found, np.unravel_index(np.array([[5, 11], [0, 7]]), (2, 3, 2)), strict=True):
        against_numpy(mine, wanted)


def test_powers():
    x = fb.arange(4)
    assert fb.vander(x, 3).tolist() == np.vander(np.arange(4), 3).tolist()
    assert fb.vander(x, increasing=True).tolist() == np.vander(np.arange(4), increasing=True).tolist()
    assert fb.vander(x, 0).shape == (4, 0) and fb.vander(x.bool()).dtype is fb.int64


def test_a_tensor_becomes_its_own_view():
    x = fb.arange(6).reshape(2, 3)
    same, other = x, x.view(6)
    assert x.t_() is same and x.shape == (3, 2) and x.stride() == (1, 3)
    x[0, 1] = 9
    assert other.tolist() == [0, 1, 2, 9, 4, 5]
    with pytest.raises(RuntimeError, match=r"\[unsqueeze_\] the tensor is a leaf that requires grad"):
        fb.ones(2, requires_grad=True).unsqueeze_(0)


def test_resize_keeps_elements_and_storage():
    x = fb.arange(6)
    whole = x.view(2, 3)
    assert x.resize_(2, 2) is x and x.tolist() == [[0, 1], [2, 3]]
    x.zero_()
    assert whole.tolist() == [[0, 0, 0], [0, 4, 5]]
    assert x.resize_(5)[:4].tolist() == [0] * 4 and x.resize_as_(whole).shape == (2, 3)
    with pytest.raises(RuntimeError, match=r"\[resize_\] the elements do not lie row by row"):
        fb.ones(2, 3).t().resize_(2)


def test_set_takes_the_storage_of_another_tensor():
    x, y = fb.ones(2), fb.zeros(3)
    x.set_(y)
    x.add_(1)
    assert y.tolist() == [1, 1, 1] and x.set_().shape == (0,)
    with pytest.raises(RuntimeError, match=r"\[set_\] the source is float32, the tensor int64"):
        fb.arange(2).set_(y)


def test_sizes_that_change():
    def run(n):
        x = fb.ones(n, n + 1)
        return (
            x.diagonal(1).sum() + fb.diag_embed(x, 1).sum() + x.repeat_interleave(n).sum() + x.fliplr().sum()
        ).item()

    assert [run(n) for n in range(3, 7)] == [n + 2 * n * (n + 1) + n * n * (n + 1) for n in range(3, 7)]
