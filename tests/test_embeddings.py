"""Embedding and EmbeddingBag: against PyTorch, and against rows picked and put together in NumPy."""

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
import numpy as np
import pytest

RNG = np.random.default_rng(8)
ROWS = RNG.standard_normal((6, 3))
SQUARE, VECTOR = RNG.integers(0, 6, (3, 4)), RNG.integers(0, 6, 9)
MODES = ("sum", "mean", "max")

#: positions, offsets, options
BAGS = [
    (SQUARE, None, {}),
    (VECTOR, [0, 3, 3, 7], {}),
    (VECTOR, [0, 3, 9, 9], {}),
    (VECTOR, [0, 3, 7, 9], {"include_last_offset": True}),
    (VECTOR % 3, [0, 3, 5], {"padding_idx": 2}),
    (SQUARE % 3, None, {"padding_idx": -6}),
    (SQUARE, None, {"max_norm": 1.0}),
]


@pytest.mark.accept("NN-40")
@pytest.mark.parametrize("mode", MODES)
def test_bags_are_those_of_torch(mode):
    torch = pytest.importorskip("torch")
    for positions, offsets, named in BAGS:
        x, y = fb.tensor(ROWS, requires_grad=True), torch.tensor(ROWS, requires_grad=True)
        starts = [None if offsets is None else make(offsets) for make in (fb.tensor, torch.tensor)]
        found = F.embedding_bag(fb.tensor(positions), x, starts[0], mode=mode, **named)
        wanted = torch.nn.functional.embedding_bag(torch.tensor(positions), y, starts[1], mode=mode, **named)
        np.testing.assert_allclose(found.tolist(), wanted.tolist(), rtol=1e-12, atol=1e-14, err_msg=str(named))
        np.testing.assert_allclose(x.tolist(), y.tolist(), rtol=1e-12)  # rows that are too long have been changed
        weights = np.cos(np.arange(wanted.numel())).reshape(wanted.shape)
        (found * fb.tensor(weights)).sum().backward()
        (wanted * torch.tensor(weights)).sum().backward()
        np.testing.assert_allclose(x.grad.tolist(), y.grad.tolist(), rtol=1e-12, atol=1e-14, err_msg=str(named))


@pytest.mark.accept("NN-40", "IDX-09")
def test_bags_by_hand():
    offsets = [0, 3, 3, 7]
    bags = [ROWS[VECTOR[a:b]] for a, b in zip(offsets, [*offsets[1:], 9], strict=True)]
    empty = np.zeros(3)
    for mode, fold in (("sum", np.sum), ("mean", np.mean), ("max", np.max)):
        found = F.embedding_bag(fb.tensor(VECTOR), fb.tensor(ROWS), fb.tensor(offsets), mode=mode)
        wanted = [fold(bag, 0) if len(bag) else empty for bag in bags]
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12, atol=1e-14)
        found = F.embedding_bag(fb.tensor(SQUARE), fb.tensor(ROWS), mode=mode)
        np.testing.assert_allclose(found.numpy(), fold(ROWS[SQUARE], 1), rtol=1e-12)
    weights = RNG.standard_normal((3, 4))
    x, w = fb.tensor(ROWS, requires_grad=True), fb.tensor(weights, requires_grad=True)
    found = F.embedding_bag(fb.tensor(SQUARE), x, mode="sum", per_sample_weights=w)
    np.testing.assert_allclose(found.tolist(), (ROWS[SQUARE] * weights[..., None]).sum(1), rtol=1e-12)
    found.sum().backward()
    np.testing.assert_allclose(w.grad.numpy(), ROWS[SQUARE].sum(-1), rtol=1e-12)
    nothing = F.embedding_bag(fb.tensor([], dtype=fb.int64), fb.tensor(ROWS), fb.tensor([0, 0]))
    assert nothing.tolist() == [[0, 0, 0]] * 2


@pytest.mark.accept("IDX-09")
def test_gradients_divided_by_how_often_a_row_is_picked():
    positions = fb.tensor([[0, 1], [1, 1]])
    x = fb.tensor(ROWS, requires_grad=True)
    F.embedding(positions, x, scale_grad_by_freq=True).sum().backward()
    assert x.grad.tolist() == [[1] * 3, [1] * 3, *[[0] * 3] * 4]
    x.grad = None
    found = F.embedding_bag(positions, x, mode="sum", scale_grad_by_freq=True)
    assert found.tolist() == F.embedding_bag(positions, x, mode="sum").tolist()
    found.sum().backward()
    assert x.grad.tolist() == [[1] * 3, [1] * 3, *[[0] * 3] * 4]
    rows = fb.tensor([[np.inf, 1.0]], requires_grad=True)
    found = F.embedding(fb.tensor([0]), rows, scale_grad_by_freq=True)
    assert found.tolist() == [[np.inf, 1.0]]


@pytest.mark.accept("NN-39")
def test_rows_that_are_too_long_are_scaled_where_they_are_picked():
    table = nn.Embedding(3, 2, max_norm=1.0, _weight=fb.tensor([[3.0, 4.0], [0.3, 0.4], [6.0, 8.0]]))
    found = table(fb.tensor([0, 1, 0]))
    np.testing.assert_allclose(found.tolist(), [[0.6, 0.8], [0.3, 0.4], [0.6, 0.8]], rtol=1e-5)
    np.testing.assert_allclose(table.weight.tolist(), [[0.6, 0.8], [0.3, 0.4], [6.0, 8.0]], rtol=1e-5)
    found.sum().backward()
    assert table.weight.grad.tolist() == [[2, 2], [1, 1], [0, 0]]
    assert repr(table) == "Embedding(3, 2, max_norm=1.0)"


@pytest.mark.accept("NN-39")
def test_tables_that_are_given():
    rows = fb.tensor(ROWS)
    table = nn.Embedding(6, 3, _weight=rows, _freeze=True)
    assert not table.weight.requires_grad and table(fb.tensor([5])).tolist() == [ROWS[5].tolist()]
    assert nn.Embedding(4, 2, None, None, 2.0, False, False, None, False, "cpu", fb.float64).weight.dtype is fb.float64
    with pytest.raises(ValueError, match=r"\[Embedding\] _weight has shape \(6, 3\), and sizes are \(6, 4\)"):
        nn.Embedding(6, 4, _weight=rows)
    bags = nn.EmbeddingBag.from_pretrained(rows, mode="sum")
    assert not bags.weight.requires_grad
    np.testing.assert_allclose(bags(fb.tensor(SQUARE)).numpy(), ROWS[SQUARE].sum(1), rtol=1e-12)


@pytest.mark.accept("NN-40")
def test_layers_of_bags():
    bags = nn.EmbeddingBag(6, 3, mode="max", padding_idx=1)
    assert bags.weight[1].tolist() == [0, 0, 0] and list(bags.state_dict()) == ["weight"]
    assert repr(bags) == "EmbeddingBag(6, 3, mode='max', padding_idx=1)"
    found = bags(fb.tensor(VECTOR), fb.tensor([0, 4]))
    wanted = F.embedding_bag(fb.tensor(VECTOR), bags.weight, fb.tensor([0, 4]), mode="max", padding_idx=1)
    assert found.tolist() == wanted.tolist()


@pytest.mark.parametrize(
    ("named", "error", "text"),
    [
        ({"mode": "min"}, ValueError, "mode is 'min'"),
        ({"offsets": fb.tensor([0, 1])}, ValueError, "Leave offsets out"),
        ({"input": fb.zeros(1, 1, 1, dtype=fb.int64)}, ValueError, "input has 3 dimensions"),
        ({"input": fb.tensor(VECTOR), "offsets": fb.tensor([[0]])}, ValueError, "offsets have shape (1, 1)"),
        ({"mode": "max", "scale_grad_by_freq": True}, ValueError, "scale_grad_by_freq with mode 'max'"),
        ({"per_sample_weights": fb.ones(2), "mode": "sum"}, ValueError, "per_sample_weights have shape (2,)"),
        ({"per_sample_weights": fb.ones(3, 4)}, NotImplementedError, "per_sample_weights with mode 'mean'"),
        ({"per_sample_weights": fb.ones(3, 4), "mode": "sum"}, RuntimeError, "per_sample_weights are flambeau.float32"),
        ({"sparse": True}, NotImplementedError, "sparse gradients"),
    ],
)
def test_what_does_not_fit_is_refused(named, error, text):
    with pytest.raises(error) as caught:
        F.embedding_bag(**({"input": fb.tensor(SQUARE), "weight": fb.tensor(ROWS)} | named)).tolist()
    assert text in str(caught.value)


@pytest.mark.accept("IDX-09")
def test_positions_outside_are_told():
    with pytest.raises(IndexError, match=r"index\[1, 0\] is out of range for axis 0"):
        F.embedding_bag(fb.tensor([[0, 6]]), fb.tensor(ROWS)).tolist()
    with pytest.raises(RuntimeError, match=r"offsets\[1\] is negative, or beyond the input"):
        F.embedding_bag(fb.tensor(VECTOR), fb.tensor(ROWS), fb.tensor([0, 12])).tolist()
