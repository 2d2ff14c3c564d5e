"""`flambeau.masked`: what a mask holds is folded as if the rest were not there. Against NumPy and plain formulas, and PyTorch."""

import math

import flambeau as fb
import numpy as np
import pytest

X = np.sin(np.arange(1.0, 13.0) * 1.7).reshape(3, 4) * 2
MASK = np.array([[True, True, False, True], [False, True, True, False], [False, False, True, False]])
ROWS = [row[keep] for row, keep in zip(X, MASK)]
FOLDS = {
    "sum": np.sum,
    "prod": np.prod,
    "amax": np.max,
    "amin": np.min,
    "mean": np.mean,
    "norm": np.linalg.norm,
    "logsumexp": lambda row: math.log(np.exp(row).sum()),
    "median": lambda row: np.sort(row)[(len(row) - 1) // 2],
    "var": lambda row: np.var(row, ddof=1) if len(row) > 1 else math.nan,
    "std": lambda row: np.std(row, ddof=1) if len(row) > 1 else math.nan,
}


def call(name, x, dim, **named):
    """A masked function; the order of a norm stands before its dim."""
    first = (2.0,) if name in ("norm", "normalize") else ()
    return getattr(fb.masked, name)(x, *first, dim, **named)


@pytest.mark.parametrize("name", FOLDS)
def test_a_fold_sees_what_the_mask_holds(name):
    wanted = [FOLDS[name](row) for row in ROWS]
    x, mask = fb.tensor(X), fb.tensor(MASK)
    np.testing.assert_allclose(call(name, x, 1, mask=mask).numpy(), wanted, 1e-12)
    np.testing.assert_allclose(call(name, x, -1, keepdim=True, mask=mask).numpy()[:, 0], wanted, 1e-12)
    unmasked = getattr(x, name) if name != "norm" else lambda dim: x.norm(2, dim)
    found = unmasked(1)
    np.testing.assert_allclose(call(name, x, 1).numpy(), getattr(found, "values", found).numpy(), 1e-12)
    if name != "median":
        x = fb.tensor(X)
        np.testing.assert_allclose(call(name, x, None, mask=mask).item(), FOLDS[name](X[MASK]), 1e-12)


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "var", "logsumexp", "amax", "softmax", "cumsum"])
def test_what_is_masked_has_no_gradient_though_it_be_nan(name):
    values = np.where(MASK, X, np.nan)
    x = fb.tensor(values[:2], requires_grad=True)
    call(name, x, 1, mask=fb.tensor(MASK[:2])).nan_to_num().square().sum().backward()
    y = [fb.tensor(row, requires_grad=True) for row in ROWS[:2]]
    for row in y:
        call(name, row, 0).square().sum().backward()
    found = x.grad.numpy()
    if name == "cumsum":  # what is left out repeats the sum before it
        assert np.isfinite(found[MASK[:2]]).all() and not found[~MASK[:2]].any()
        return
    for i, row in enumerate(y):
        np.testing.assert_allclose(found[i][MASK[i]], row.grad.numpy(), 1e-9, 1e-12)
    assert not found[~MASK[:2]].any()


def test_nothing_gives_the_neutral_element():
    x, nothing = fb.tensor([[1.5, 2.0]]), fb.zeros(2, dtype=fb.bool)
    for name, wanted in {
        "sum": 0.0,
        "prod": 1.0,
        "amax": -math.inf,
        "amin": math.inf,
        "norm": 0.0,
        "logsumexp": -math.inf,
    }.items():
        assert call(name, x, 1, mask=nothing).tolist() == [wanted]
    for name in ("mean", "var", "std", "median"):
        assert math.isnan(call(name, x, 1, mask=nothing).item())
    assert fb.masked.norm(x, -math.inf, 1, mask=nothing).tolist() == [math.inf]
    assert fb.masked.amax(fb.tensor([1, 2]), mask=nothing).item() == -(2**63)
    with pytest.raises(ValueError, match=r"\[masked.median\] somewhere the mask holds nothing"):
        fb.masked.median(fb.tensor([1, 2]), mask=nothing)


def test_softmaxes_scans_and_places():
    x, mask = fb.tensor(X), fb.tensor(MASK)
    for sign, name in ((1, "softmax"), (-1, "softmin")):
        found = call(name, x, 1, mask=mask).numpy()
        assert not found[~MASK].any()
        for i, row in enumerate(ROWS):
            weights = np.exp(sign * row)
            np.testing.assert_allclose(found[i][MASK[i]], weights / weights.sum(), 1e-12)
    np.testing.assert_allclose(
        np.exp(call("log_softmax", x, 1, mask=mask).numpy()), call("softmax", x, 1, mask=mask).numpy(), 1e-12
    )
    np.testing.assert_allclose(call("cumsum", x, 1, mask=mask).numpy(), np.cumsum(np.where(MASK, X, 0), 1), 1e-12)
    np.testing.assert_allclose(call("cumprod", x, 1, mask=mask).numpy(), np.cumprod(np.where(MASK, X, 1), 1), 1e-12)
    assert call("argmax", x, 1, mask=mask).tolist() == np.argmax(np.where(MASK, X, -np.inf), 1).tolist()
    found = call("argmin", x, 1, mask=mask, dtype=fb.int64)
    assert found.dtype is fb.int64 and found.tolist() == np.argmin(np.where(MASK, X, np.inf), 1).tolist()
    lengths = np.linalg.norm(np.where(MASK, X, 0), axis=1, keepdims=True)
    np.testing.assert_allclose(call("normalize", x, 1, mask=mask).numpy(), np.where(MASK, X, 0) / lengths, 1e-12)
    both = fb.masked.logaddexp(x, x, input_mask=mask, other_mask=~mask)
    np.testing.assert_allclose(both.numpy(), X, 1e-12)


def test_wrong_masks_are_told():
    x = fb.ones(2, 3)
    with pytest.raises(IndexError, match=r"\[masked.sum\] mask has shape \(1, 2, 3\), input \(2, 3\)"):
        fb.masked.sum(x, 1, mask=fb.ones(1, 2, 3))
    with pytest.raises(RuntimeError):
        fb.masked.mean(x, 1, mask=fb.ones(2)).tolist()
    with pytest.raises(NotImplementedError, match=r"\[masked.amax\] is not defined for bool"):
        fb.masked.amax(x.bool(), 1, mask=fb.ones(3))
    assert fb.masked.sum(x, 1, mask=fb.tensor([2.0, 0.0, 1.0])).tolist() == [2.0, 2.0], "what is not 0 holds"
