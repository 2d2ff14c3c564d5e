"""Reductions made of others, differences and areas, segments: values of NumPy, and PyTorch's in everything."""

import flambeau as fb
import numpy as np
import pytest
from support import against_numpy, arrays, gradients_against_torch

X, V, W = arrays(3, 4), arrays(4), arrays(4, seed=1)
HOLES = np.where(arrays(3, 4, seed=2) > 0.8, np.float32(np.nan), X)
AT = np.array([0.0, 0.5, 2.0, 2.5], np.float32)
#: Calls with NumPy's names and meaning: of a matrix, the same with NaNs, a vector and coordinates.
LIKE_NUMPY = {
    "nansum": lambda m, x, h, v, at: m.nansum(h, 1),
    "nansum of all": lambda m, x, h, v, at: m.nansum(h),
    "nanmean": lambda m, x, h, v, at: m.nanmean(h, 0),
    "diff": lambda m, x, h, v, at: m.diff(x),
    "diff thrice": lambda m, x, h, v, at: m.diff(x, 3),
    "diff with ends": lambda m, x, h, v, at: m.diff(x, 1, 0, x[:1] * 2, x[1:] * 3),
    "gradient": lambda m, x, h, v, at: m.gradient(v),
    "gradient between": lambda m, x, h, v, at: m.gradient(x)[1],
    "cov": lambda m, x, h, v, at: m.cov(x),
    "cov of a vector": lambda m, x, h, v, at: m.cov(v),
    "corrcoef": lambda m, x, h, v, at: m.corrcoef(x),
}


@pytest.mark.parametrize("name", LIKE_NUMPY)
def test_values_are_those_of_numpy(name):
    call = LIKE_NUMPY[name]
    found, wanted = (call(m, *map(make, (X, HOLES, V, AT))) for m, make in ((fb, fb.tensor), (np, np.asarray)))
    found, wanted = (r[0] if isinstance(r, tuple) else r for r in (found, wanted))
    against_numpy(found, np.asarray(wanted).astype(np.float32), ulp=32)


@pytest.mark.accept("RED-10")
def test_pairs_are_those_of_the_functions_one_by_one():
    x = fb.tensor(X)
    for name in ("var", "std"):
        for args, kwargs in (((), {}), ((1,), {"correction": 0}), ((0, False, True), {}), ((False,), {})):
            spread, mean = getattr(fb, f"{name}_mean")(x, *args, **kwargs)
            assert spread.tolist() == getattr(fb, name)(x, *args, **kwargs).tolist()
            assert mean.numel() == spread.numel() and mean.shape == spread.shape
    low, high = fb.aminmax(x, dim=1)
    assert low.tolist() == X.min(1).tolist() and high.tolist() == X.max(1).tolist()
    assert fb.aminmax(x, keepdim=True).max.shape == (1, 1)


def test_areas():
    np.testing.assert_allclose(fb.trapezoid(fb.tensor(X), fb.tensor(AT)).numpy(), np.trapezoid(X, AT), rtol=1e-5)
    assert fb.trapz(fb.tensor([1, 3, 5]), dx=2).tolist() == 12.0
    assert fb.cumulative_trapezoid(fb.tensor([1.0, 3.0, 5.0])).tolist() == [2.0, 6.0]
    with pytest.raises(TypeError, match=r"\[trapezoid\] x and dx both say how far apart the samples are\. Give one\."):
        fb.trapezoid(fb.tensor(V), fb.tensor(AT), dx=0.5)


def test_segments():
    x, lengths = fb.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), fb.tensor([2, 0, 3])
    wanted = {"sum": [3, 0, 12], "prod": [2, 1, 60], "max": [2, -np.inf, 5], "min": [1, np.inf, 3]}
    for reduce, values in wanted.items():
        assert fb.segment_reduce(x, reduce, lengths=lengths).tolist() == values
    assert fb.segment_reduce(x, "mean", lengths=lengths, initial=9.0).tolist() == [6.0, 9.0, 7.0]
    assert fb.segment_reduce(x, "sum", offsets=fb.tensor([1, 2, 4])).tolist() == [2.0, 7.0]
    with pytest.raises(RuntimeError, match=r"\[segment_reduce\] the sum of lengths\[0\] is not all of the 5"):
        fb.segment_reduce(x, "sum", lengths=fb.tensor([1, 2])).tolist()


def test_cells_of_a_grid():
    points = fb.tensor([[0.0, 0.0], [0.9, 0.1], [1.0, 2.0], [3.0, 0.0]])
    counts, edges = fb.histogramdd(points, [2, 1], range=(0.0, 1.0, 0.0, 2.0))
    assert counts.tolist() == [[1.0], [2.0]] and edges[0].tolist() == [0.0, 0.5, 1.0]
    plain, _ = np.histogramdd(arrays(20, 3), [2, 3, 2], density=True)
    ours = fb.histogramdd(fb.tensor(arrays(20, 3)), [2, 3, 2], density=True)
    np.testing.assert_allclose(ours.hist.numpy(), plain, rtol=1e-5)


def test_the_diagonal_is_filled_in_place():
    x = fb.zeros(2, 3)
    assert x.fill_diagonal_(2.0) is x and x.tolist() == [[2, 0, 0], [0, 2, 0]]
    assert fb.zeros(5, 2).fill_diagonal_(1, wrap=True)[:, 0].tolist() == [1, 0, 0, 1, 0]
    wanted = np.zeros((5, 2))
    np.fill_diagonal(wanted, 1, wrap=True)
    assert fb.zeros(5, 2).fill_diagonal_(1, True).tolist() == wanted.tolist()


def test_what_is_said_of_complex_numbers_of_real_ones():
    x = fb.tensor(X)
    for call in (fb.conj, fb.conj_physical, fb.resolve_conj, fb.resolve_neg, fb.real):
        assert call(x) is x
    assert x.real is x and not x.is_conj() and not fb.is_neg(x)
    for look in (lambda: x.imag, lambda: fb.imag(x)):
        with pytest.raises(RuntimeError, match=r"\[imag\] a tensor of \S+ has no imaginary part"):
            look()
    y = fb.zeros(2, 3)
    fb.adjoint(y)[0, 1] = 4.0
    assert y.tolist() == [[0, 0, 0], [4, 0, 0]]
    assert y.dim_order() == (0, 1) and y.T.dim_order() == (1, 0) and fb.zeros(1, 2, 3, 4).dim_order() == (0, 1, 2, 3)


#: Calls of a matrix, one with NaNs, and two vectors, whose values and gradients are PyTorch's.
CALLS = {
    "nansum": lambda m, x, h, v, w: m.nansum(h, 0),
    "nanmean": lambda m, x, h, v, w: h.nanmean(1, True),
    "aminmax": lambda m, x, h, v, w: m.aminmax(x, dim=0).min * x.aminmax().max,
    "var_mean": lambda m, x, h, v, w: m.mul(*m.var_mean(x, 1)),
    "std_mean": lambda m, x, h, v, w: m.mul(*m.std_mean(x, correction=0)),
    "diff": lambda m, x, h, v, w: x.diff(2, 0),
    "gradient by numbers": lambda m, x, h, v, w: m.gradient(x, spacing=(0.5, 2.0), edge_order=2)[0],
    "gradient at places": lambda m, x, h, v, w: m.gradient(x, spacing=(m.tensor(AT),), dim=1)[0],
    "gradient at places, edges of 2": lambda m, x, h, v, w: m.gradient(x, spacing=(m.tensor(AT),), dim=1, edge_order=2)[
        0
    ],
    "trapezoid": lambda m, x, h, v, w: m.trapezoid(x, dx=0.5, dim=0),
    "trapezoid at places": lambda m, x, h, v, w: m.trapezoid(x, v),
    "cumulative_trapezoid": lambda m, x, h, v, w: m.cumulative_trapezoid(x, v.expand(3, 4), dim=1),
    "cov": lambda m, x, h, v, w: x.cov(correction=0),
    "cov weighted": lambda m, x, h, v, w: m.cov(x, fweights=m.tensor([1, 2, 0, 1]), aweights=w.abs()),
    "corrcoef": lambda m, x, h, v, w: x.corrcoef(),
    "segment_reduce": lambda m, x, h, v, w: m.segment_reduce(x, "mean", lengths=m.tensor([1, 2])),
    "segment_reduce by prod": lambda m, x, h, v, w: m.segment_reduce(x, "prod", lengths=m.tensor([2, 0, 1])),
    "segments along a row": lambda m, x, h, v, w: m.segment_reduce(x, "max", lengths=m.tensor([[1, 3]] * 3), axis=1),
    "adjoint": lambda m, x, h, v, w: x.adjoint(),
    "unfold_copy": lambda m, x, h, v, w: m.unfold_copy(x, 1, 2, 1),
    "ger": lambda m, x, h, v, w: m.ger(v, w),
    "selu_": lambda m, x, h, v, w: m.selu_(x * 1),
    "threshold_": lambda m, x, h, v, w: m.threshold_(x * 1, 0.2, 3.0),
    "fill_diagonal_": lambda m, x, h, v, w: (x * 1).fill_diagonal_(0.5),
}


@pytest.mark.parametrize("name", CALLS)
def test_values_and_gradients_are_pytorchs(name):
    gradients_against_torch(CALLS[name], X, HOLES, V, W, rtol=1e-5)
