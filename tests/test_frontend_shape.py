"""Views, indexing, assembly and products against NumPy and PyTorch."""

import flambeau as fb
import flambeau.nn.functional as F
import numpy as np
import pytest
from support import against_numpy, against_torch, arrays, gradients_against_torch

X = arrays(2, 3, 4)
ROWS = {
    "reshape": "SHP-01", "view": "SHP-02", "transpose": "SHP-03", "permute": "SHP-04", "squeeze": "SHP-06",
    "unsqueeze": "SHP-07", "flatten": "SHP-08", "expand": "SHP-09", "movedim": "SHP-05", "unbind": "SHP-14",
    "split": "SHP-14", "chunk": "SHP-14",
}  # fmt: skip
VIEWS = [
    ("reshape", lambda m, x: x.reshape(6, 4)),
    ("reshape", lambda m, x: m.reshape(x, (2, -1))),
    ("reshape", lambda m, x: x.reshape([-1])),
    ("view", lambda m, x: x.view(4, 6)),
    ("view", lambda m, x: x.view(-1, 2)),
    ("view", lambda m, x: x.view((24,))),
    ("transpose", lambda m, x: x.transpose(0, 2)),
    ("transpose", lambda m, x: m.transpose(x, -1, 1)),
    ("transpose", lambda m, x: x[0].t()),
    ("transpose", lambda m, x: x[0].T),
    ("transpose", lambda m, x: x.mT),
    ("permute", lambda m, x: x.permute(2, 0, 1)),
    ("permute", lambda m, x: m.permute(x, (1, 2, 0))),
    ("permute", lambda m, x: x.permute(-1, 0, 1)),
    ("movedim", lambda m, x: m.movedim(x, 0, -1)),
    ("movedim", lambda m, x: m.movedim(x, (0, 1), (1, 2))),
    ("squeeze", lambda m, x: x[:, :1].squeeze()),
    ("squeeze", lambda m, x: x[:, :1].squeeze(1)),
    ("squeeze", lambda m, x: x.squeeze(0)),
    ("squeeze", lambda m, x: x[:1, :1].squeeze((0, 1))),
    ("unsqueeze", lambda m, x: x.unsqueeze(0)),
    ("unsqueeze", lambda m, x: m.unsqueeze(x, -1)),
    ("flatten", lambda m, x: x.flatten()),
    ("flatten", lambda m, x: m.flatten(x, 1)),
    ("flatten", lambda m, x: x.flatten(0, 1)),
    ("unflatten", lambda m, x: x.unflatten(2, (2, -1))),
    ("expand", lambda m, x: x[:1].expand(3, 3, 4)),
    ("expand", lambda m, x: x[:, :1].expand(-1, 5, -1)),
    ("expand", lambda m, x: x[0, 0].expand(2, 3, 4)),
    ("narrow", lambda m, x: m.narrow(x, 2, 1, 2)),
    ("select", lambda m, x: x.select(1, -1)),
    ("unbind", lambda m, x: m.unbind(x, 1)[2]),
    ("split", lambda m, x: x.split(3, 2)[1]),
    ("split", lambda m, x: m.split(x, [1, 3], -1)[1]),
    ("chunk", lambda m, x: x.chunk(2, 1)[0]),
]


@pytest.mark.parametrize(
    "op",
    [
        pytest.param(op, marks=pytest.mark.accept(ROWS[n]) if n in ROWS else (), id=f"{n}{i}")
        for i, (n, op) in enumerate(VIEWS)
    ],
)
def test_view_values_gradients_and_sharing(op):
    torch = pytest.importorskip("torch")
    gradients_against_torch(op, X)
    ours, theirs = fb.tensor(X), torch.tensor(X)
    view, other = op(fb, ours), op(torch, theirs)
    ours.add_(1.0), theirs.add_(1.0)
    np.testing.assert_array_equal(view.numpy(), other.numpy())


@pytest.mark.parametrize("op", [op for n, op in VIEWS if n != "expand"])
def test_writing_through_a_view(op):
    torch = pytest.importorskip("torch")
    ours, theirs = fb.tensor(X), torch.tensor(X)
    view, other = op(fb, ours), op(torch, theirs)
    new = arrays(*view.shape, seed=3)
    view.copy_(fb.tensor(new)), other.copy_(torch.tensor(new))
    view.mul_(2.0), other.mul_(2.0)
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    np.testing.assert_array_equal(view.numpy(), other.numpy())


def test_expanded_views_cannot_be_written():
    with pytest.raises(RuntimeError):
        fb.ones(1, 3).expand(2, 3).add_(1)


INDICES = [
    0,
    -1,
    slice(1, None),
    slice(None, None, 2),
    (0, 1),
    (slice(None), 1),
    (Ellipsis, 0),
    (None, 0),
    (slice(None), slice(1, 3), None),
    (0, slice(None, None, 2), slice(1, 3)),
    (Ellipsis, slice(-2, None)),
    (slice(5, 9),),
    (slice(None), slice(2, 1)),
    (1, 2, 3),
    (slice(None), None, slice(None), 0),
    (),
    Ellipsis,
    (0, Ellipsis, 1),
    np.int64(1),
    (slice(0, 2, 5), 0),
]


@pytest.mark.accept("IDX-01", "IDX-02", "IDX-03")
@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_basic_indexing_reads_and_writes(index):
    torch = pytest.importorskip("torch")
    against_numpy(fb.tensor(X)[index], X[index])
    gradients_against_torch(lambda m, x: x[index], X)
    ours, theirs = fb.tensor(X), torch.tensor(X)
    ours[index] = 7
    theirs[index] = 7
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    if theirs[index].ndim:
        row = arrays(*theirs[index].shape[-1:], seed=4)
        ours[index], theirs[index] = fb.tensor(row), torch.tensor(row)
        ours[index] += 1
        theirs[index] += 1
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.accept("IDX-02")
def test_a_moving_window_is_recorded_once():
    from flambeau.runtime import recorder

    x = fb.tensor(arrays(50, 3))
    results = []
    for i in range(20):
        before = recorder.stats()["misses"]
        results.append((x[i : i + 5].sum() + x[i, 1]).item())
        misses = recorder.stats()["misses"] - before
    assert misses == 0
    data = arrays(50, 3)
    np.testing.assert_allclose(results, [data[i : i + 5].sum() + data[i, 1] for i in range(20)], rtol=1e-4)


@pytest.mark.parametrize(
    ("index", "error", "text"),
    [
        (2, IndexError, r"\[getitem\] index 2 is out of range for dimension 0 with size 2. Use -2 to 1."),
        ((0, -4), IndexError, r"\[getitem\] index -4 is out of range for dimension 1 with size 3"),
        ((0, 0, 0, 0), IndexError, r"\[getitem\] 4 indices for a tensor of 3 dimensions"),
        (slice(None, None, -1), ValueError, r"\[getitem\] step -1 is negative. Use flip"),
        ((Ellipsis, Ellipsis), IndexError, r"more than one '...'"),
        ("a", TypeError, r"\[getitem\] a tensor cannot be indexed by str"),
        (1.5, IndexError, r"\[getitem\] a tensor cannot be indexed by float"),
        (([0, 1], [1, 2, 0]), IndexError, r"\[getitem\] index tensors of shapes \(2,\), \(3,\) do not broadcast"),
        (
            (0, [True, False]),
            IndexError,
            r"\[getitem\] dimension 1: the mask of shape \(2,\) stands for dimensions of shape",
        ),
    ],
)
def test_bad_indices(index, error, text):
    with pytest.raises(error, match=text):
        fb.tensor(X)[index]


def test_index_tensor_and_mask():
    data = arrays(6, 4)
    for index in (np.array([3, -1, 0, 3]), np.array([[0, 1], [2, 5]])):
        against_numpy(fb.tensor(data)[fb.tensor(index)], data[index])
        gradients_against_torch(lambda m, x, i=index: x[m.tensor(i)], data)
    against_numpy(fb.tensor(data)[[1, 2]], data[[1, 2]])
    against_numpy(fb.tensor(data)[:, np.array([0, 2])], data[:, [0, 2]])
    with pytest.raises(IndexError, match=r"out of range"):
        fb.tensor(data)[fb.tensor([6])].tolist()
    x = fb.tensor(data)
    x[x > 0] = 0.0
    against_numpy(x, np.where(data > 0, np.float32(0), data))


@pytest.mark.accept("IDX-05")
def test_index_select():
    for dim in (0, 1, -1):
        gradients_against_torch(lambda m, x, d=dim: m.index_select(x, d, m.tensor([1, 0, 1])), X)
    with pytest.raises(IndexError, match=r"index\[.*\] is out of range for axis 0"):
        fb.tensor(X).index_select(0, fb.tensor([2])).tolist()
    with pytest.raises(IndexError, match=r"\[index_select\] index has shape \(1, 1\)"):
        fb.tensor(X).index_select(0, fb.tensor([[0]]))


@pytest.mark.accept("IDX-06")
def test_index_add():
    source = arrays(3, 3, 4, seed=5)
    gradients_against_torch(lambda m, x, s: m.index_add(x, 0, m.tensor([1, 0, 1]), s, alpha=2), X, source)
    ours = fb.tensor(X)
    ours.index_add_(0, fb.tensor([1, 0, 1]), fb.tensor(source))
    wanted = X.copy()
    np.add.at(wanted, [1, 0, 1], source)
    np.testing.assert_allclose(ours.numpy(), wanted, rtol=1e-6)
    with pytest.raises(RuntimeError, match=r"\[index_add\] index of shape \(2,\) and source of shape \(3, 3, 4\)"):
        fb.tensor(X).index_add(0, fb.tensor([0, 1]), fb.tensor(source))


@pytest.mark.accept("IDX-07")
def test_gather_and_scatter_add():
    for index, dim in (
        (np.array([[[0, 1, 1]]]), 0),
        (np.array([[[2], [0]], [[1], [1]]]), 1),
        (np.zeros((2, 3, 6), int), 2),
    ):
        gradients_against_torch(lambda m, x, i=index, d=dim: m.gather(x, d, m.tensor(i)), X)
        source = arrays(*index.shape, seed=6)
        gradients_against_torch(lambda m, x, s, i=index, d=dim: m.scatter_add(x, d, m.tensor(i), s), X, source)
    with pytest.raises(RuntimeError, match=r"\[gather\] index of shape \(3, 1, 1\) is larger than the input"):
        fb.tensor(X).gather(1, fb.zeros(3, 1, 1, dtype=fb.int64))
    with pytest.raises(IndexError, match="out of range"):
        fb.tensor(X).gather(0, fb.full((1, 1, 1), 5)).tolist()


@pytest.mark.accept("SHP-11", "SHP-12", "T-01")
@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_cat(dim):
    y = np.concatenate([X, X], axis=dim) * 2
    gradients_against_torch(lambda m, x, y: m.cat([x, y, x], dim), X, y)
    against_numpy(fb.concat((fb.tensor(X), fb.tensor(y)), dim=dim), np.concatenate([X, y], axis=dim))
    against_torch(lambda m, x: m.cat([x, m.zeros(0), x]), X)
    against_torch(lambda m, x, n: m.cat([x, n]), X[0, 0], np.arange(3))


@pytest.mark.accept("SHP-13")
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_stack(dim):
    gradients_against_torch(lambda m, x, y: m.stack([x, y], dim), X, X * 2)


@pytest.mark.accept("SHP-16")
@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_pad(mode):
    torch = pytest.importorskip("torch")
    pads = [(1, 2), (2, 1)] + ([(1, 0, 2, 1), (-1, 2), (0, 0, 1, 1, 2, 0)] if mode == "constant" else [])
    for pad in pads:
        gradients_against_torch(lambda m, x, p=pad: (F if m is fb else torch.nn.functional).pad(x, p, mode), X)
    if mode == "constant":
        against_torch(lambda m, x: (F if m is fb else torch.nn.functional).pad(x, (1, 1), value=-2.5), X)
    else:
        with pytest.raises(RuntimeError, match=r"\[pad\]|margins"):
            F.pad(fb.tensor(X), (9, 9), mode) if mode != "replicate" else F.pad(fb.zeros(2, 0), (1, 1), mode)


@pytest.mark.accept("SHP-10", "SHP-17", "LIN-05", "LIN-06")
def test_flip_roll_repeat_triangles():
    for op in (
        lambda m, x: m.flip(x, (0, 2)),
        lambda m, x: x.flip((1,)),
        lambda m, x: m.roll(x, 1, 0),
        lambda m, x: m.roll(x, (1, -2), (0, 2)),
        lambda m, x: m.roll(x, 5),
        lambda m, x: x.repeat(2, 1, 3),
        lambda m, x: x.repeat(2, 1, 1, 2),
        lambda m, x: m.tile(x, (2, 2)),
        lambda m, x: m.tril(x),
        lambda m, x: m.triu(x, 1),
    ):
        gradients_against_torch(op, X)


@pytest.mark.accept("SHP-21")
@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda x: x.reshape(5, 5),
            RuntimeError,
            r"\[reshape\] shape \(5, 5\) does not fit the 24 elements of shape \(2, 3, 4\)",
        ),
        (lambda x: x.view(-1, -1), RuntimeError, r"\[view\] shape \(-1, -1\) is not valid"),
        (
            lambda x: x.permute(0, 1),
            RuntimeError,
            r"\[permute\] dims \(0, 1\) name 2 dimensions of a tensor that has 3",
        ),
        (lambda x: x.permute(0, 1, 1), RuntimeError, r"\[permute\] dims \(0, 1, 1\) name a dimension twice"),
        (lambda x: x.transpose(0, 3), IndexError, r"\[transpose\] dim 3 is out of range"),
        (lambda x: x.t(), RuntimeError, r"\[t\] the tensor has 3 dimensions"),
        (lambda x: x.expand(2, 3, 5), RuntimeError, r"\[expand\] dimension 2 has size 4"),
        (lambda x: x.unsqueeze(5), IndexError, r"\[unsqueeze\] dim 5 is out of range"),
        (lambda x: x.flatten(2, 1), RuntimeError, r"\[flatten\] start_dim 2 comes after end_dim 1"),
        (lambda x: x.narrow(0, 1, 2), RuntimeError, r"\[narrow\] 2 slices from 1 do not fit dimension 0 with size 2"),
        (lambda x: x.split(0), RuntimeError, r"\[split\] size 0 is not positive"),
        (lambda x: fb.cat([x, x[0]]), RuntimeError, r"\[cat\] shapes \(2, 3, 4\) and \(3, 4\) differ"),
        (lambda x: fb.cat([]), ValueError, r"\[cat\] got no tensors"),
        (lambda x: fb.stack([x, x[0]]), RuntimeError, r"\[stack\] shapes \(2, 3, 4\) and \(3, 4\) differ"),
        (lambda x: len(fb.tensor(1)), TypeError, r"0-d tensor has no length"),
        (lambda x: list(fb.tensor(1)), TypeError, r"0-d tensor cannot be iterated"),
    ],
)
def test_bad_shapes(call, error, text):
    with pytest.raises(error, match=text):
        call(fb.tensor(X))


# ---- products ---------------------------------------------------------------------------------------------

PRODUCTS = [
    ((3,), (3,)),
    ((2, 3), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((2, 3), (5, 3, 4)),
    ((6, 1, 2, 3), (5, 3, 4)),
    ((5, 2, 3), (3,)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 3)),
]


@pytest.mark.accept("LIN-02")
@pytest.mark.parametrize(("a", "b"), PRODUCTS)
def test_matmul(a, b):
    for dtype in (np.float32, np.float64):
        gradients_against_torch(
            lambda m, x, y: x @ y, arrays(*a, dtype=dtype), arrays(*b, seed=1, dtype=dtype), rtol=1e-5
        )
    x, y = np.arange(np.prod(a)).reshape(a), np.arange(np.prod(b)).reshape(b)
    against_numpy(fb.matmul(fb.tensor(x), fb.tensor(y)), x @ y)


@pytest.mark.accept("LIN-01", "LIN-03")
def test_mm_bmm_addmm_mv_dot_outer():
    a, b, c = arrays(3, 4), arrays(4, 5, seed=1), arrays(5, seed=2)
    gradients_against_torch(lambda m, x, y: m.mm(x, y), a, b, rtol=1e-5)
    gradients_against_torch(lambda m, x, y: x.bmm(y), arrays(2, 3, 4), arrays(2, 4, 5), rtol=1e-5)
    gradients_against_torch(lambda m, z, x, y: m.addmm(z, x, y, beta=0.5, alpha=2), c, a, b, rtol=1e-5)
    gradients_against_torch(lambda m, z, x, y: m.addmm(z, x, y), c, a, b, rtol=1e-5)
    gradients_against_torch(lambda m, x, y: m.mv(x, y), b, c, rtol=1e-5)
    gradients_against_torch(lambda m, x, y: m.dot(x, y), c, c * 2, rtol=1e-5)
    gradients_against_torch(lambda m, x, y: m.outer(x, y), c, a[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: fb.ones(2, 3) @ fb.ones(2, 3),
            r"\[matmul\] shapes \(2, 3\) and \(2, 3\) cannot be multiplied: 3 columns meet 2 rows",
        ),
        (lambda: fb.ones(2, 3) @ 2, r"\[matmul\] an operand is a number. Use \* instead"),
        (lambda: fb.tensor(1.0) @ fb.ones(2), r"\[matmul\] shapes \(\) and \(2,\): both operands need a dimension"),
        (lambda: fb.ones(2, 3) @ fb.ones(3, 2).double(), r"\[matmul\] operands have dtypes float32 and float64"),
        (lambda: fb.mm(fb.ones(2), fb.ones(2, 2)), r"\[mm\] input has shape \(2,\), expected 2 dimensions"),
        (lambda: fb.ones(2, 2, 3).bmm(fb.ones(3, 3, 2)), r"\[bmm\] batches have sizes 2 and 3"),
        (
            lambda: F.linear(fb.ones(2, 3), fb.ones(4, 5)),
            r"\[linear\] input of shape \(2, 3\) and weight of shape \(4, 5\) do not fit",
        ),
    ],
)
def test_bad_products(call, text):
    with pytest.raises(RuntimeError, match=text):
        call()
