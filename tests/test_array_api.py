"""The namespace of the array API standard: values as NumPy's, what is the standard's own, and libraries that dispatch on it.

The standard's own suite is run by `array_api_suite.py`, which `.ci/run` calls.
"""

import os
import subprocess
import sys
import textwrap

import array_api_suite
import flambeau as fb
import numpy as np
import pytest

xp = fb.array_api
RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((3, 4)), RNG.standard_normal((3, 4))


def same(made, expected):
    made = made if isinstance(made, tuple | list) else (made,)
    expected = expected if isinstance(expected, tuple | list) else (expected,)
    assert len(made) == len(expected)
    for m, e in zip(made, expected):
        assert tuple(m.shape) == np.shape(e)
        np.testing.assert_allclose(np.asarray(m), e, rtol=1e-12)


CALLS = {
    "concat": lambda ns, x, y: ns.concat([x, y], axis=None),
    "stack": lambda ns, x, y: ns.stack([x, y], axis=-1),
    "unstack": lambda ns, x, y: tuple(ns.unstack(x, axis=1)),
    "permute_dims": lambda ns, x, y: ns.permute_dims(x, (1, 0)),
    "expand_dims": lambda ns, x, y: ns.expand_dims(x, axis=-1),
    "moveaxis": lambda ns, x, y: ns.moveaxis(x, 0, 1),
    "flip": lambda ns, x, y: ns.flip(x),
    "roll": lambda ns, x, y: ns.roll(x, 2, axis=(0, 1)),
    "repeat": lambda ns, x, y: ns.repeat(x, 2, axis=1),
    "tile": lambda ns, x, y: ns.tile(x, (2, 1, 3)),
    "take": lambda ns, x, y: ns.take(x, ns.asarray([2, 0]), axis=1),
    "take_along_axis": lambda ns, x, y: ns.take_along_axis(x, ns.argsort(y, axis=0), axis=0),
    "broadcast_arrays": lambda ns, x, y: tuple(ns.broadcast_arrays(x, y[0, :])),
    "sum": lambda ns, x, y: ns.sum(x, axis=(0, 1), keepdims=True),
    "prod": lambda ns, x, y: ns.prod(x, axis=(1, 0)),
    "max": lambda ns, x, y: ns.max(x, axis=1),
    "std": lambda ns, x, y: ns.std(x, axis=0, correction=1.0),
    "all": lambda ns, x, y: ns.all(x > -1, axis=(0,)),
    "count_nonzero": lambda ns, x, y: ns.count_nonzero(x > 0, axis=1, keepdims=True),
    "cumulative_sum": lambda ns, x, y: ns.cumulative_sum(x, axis=1, include_initial=True),
    "cumulative_prod": lambda ns, x, y: ns.cumulative_prod(x, axis=0),
    "diff": lambda ns, x, y: ns.diff(x, axis=0, prepend=y, n=2),
    "argmax": lambda ns, x, y: ns.argmax(x, keepdims=True),
    "nonzero": lambda ns, x, y: ns.nonzero(x > 0),
    "where": lambda ns, x, y: ns.where(x > y, x, 2.0),
    "searchsorted": lambda ns, x, y: ns.searchsorted(ns.sort(x[0, :]), y[0, :], side="right"),
    "sort": lambda ns, x, y: ns.sort(x, axis=0),
    "clip": lambda ns, x, y: ns.clip(x, -0.5, y * 0 + 0.5),
    "hypot": lambda ns, x, y: ns.hypot(x, y),
    "remainder": lambda ns, x, y: ns.remainder(x, y),
    "floor_divide": lambda ns, x, y: ns.floor_divide(x, y),
    "linspace": lambda ns, x, y: ns.linspace(0.0, 2.0, 4, endpoint=False, dtype=ns.float64),
    "eye": lambda ns, x, y: ns.eye(3, 4, k=1),
    "meshgrid": lambda ns, x, y: tuple(ns.meshgrid(x[0, :], y[:, 0])),
    "fft": lambda ns, x, y: ns.fft.ifft(ns.fft.fft(x, n=5, axis=0), norm="ortho"),
    "rfftn": lambda ns, x, y: ns.fft.irfftn(ns.fft.rfftn(x), s=(3, 4), axes=(0, 1)),
    "fftfreq": lambda ns, x, y: ns.fft.fftshift(ns.fft.fftfreq(4, d=0.5)),
    "vecdot": lambda ns, x, y: ns.linalg.vecdot(x, y, axis=-2),
    "matmul": lambda ns, x, y: ns.matmul(x, ns.linalg.matrix_transpose(y)),
    "tensordot": lambda ns, x, y: ns.tensordot(x, y, axes=((0,), (0,))),
    "solve": lambda ns, x, y: ns.linalg.solve(x[:, :3], y[:, 0]),
    "svdvals": lambda ns, x, y: ns.linalg.svdvals(x),
    "trace": lambda ns, x, y: ns.linalg.trace(x, offset=1),
    "outer": lambda ns, x, y: ns.linalg.outer(x[0, :], y[1, :]),
    "vector_norm": lambda ns, x, y: ns.linalg.vector_norm(x, axis=0),
    "matrix_norm": lambda ns, x, y: ns.linalg.matrix_norm(x),
    "matrix_rank": lambda ns, x, y: ns.linalg.matrix_rank(x),
}


@pytest.mark.parametrize("name", CALLS)
def test_values_are_numpys(name):
    same(CALLS[name](xp, xp.asarray(X), xp.asarray(Y)), CALLS[name](np, X, Y))


def test_arrays_of_no_dimensions_promote_like_others():
    """In the standard dtypes decide, whatever the shapes; the package's own functions take PyTorch's way."""
    x, zero_d = fb.ones(2), fb.tensor(2.0, dtype=fb.float64)
    assert xp.add(x, zero_d).dtype is fb.float64 and fb.add(x, zero_d).dtype is fb.float32
    assert xp.result_type(x, zero_d) is fb.float64 and xp.result_type(xp.int8, fb.uint8) is fb.int16
    assert xp.multiply(x, 3).dtype is fb.float32 and xp.add(fb.ones(2, dtype=fb.int8), 1).dtype is fb.int8
    assert xp.concat([x, fb.ones(1, dtype=fb.float64)]).dtype is fb.float64
    with pytest.raises(TypeError, match="Pass an array"):
        xp.add(1, 2)


def test_sets_keep_each_nan_and_tell_where_things_stand():
    x = fb.tensor([[2.0, float("nan"), 1.0], [2.0, 1.0, float("nan")]])
    found = xp.unique_all(x)
    assert found.values[:2].tolist() == [1.0, 2.0] and found.values[2:].isnan().all() and len(found.values) == 4
    assert found.indices.tolist() == [2, 0, 1, 5] and found.counts.tolist() == [2, 2, 1, 1]
    assert found.inverse_indices.tolist() == [[1, 2, 0], [1, 0, 3]]
    assert xp.unique_counts(x).counts.tolist() == [2, 2, 1, 1] and len(xp.unique_values(fb.ones(0))) == 0
    assert (found.values[found.inverse_indices].nan_to_num(9) == x.nan_to_num(9)).all()
    assert xp.unique_inverse(fb.tensor(3)).inverse_indices.shape == ()


def test_nothing_is_reduced_over_no_axes():
    x = fb.tensor([[1, 2], [3, 4]], dtype=fb.int8)
    made = xp.sum(x, axis=())
    assert made.dtype is fb.int64 and made.tolist() == x.tolist()
    assert xp.any(x, axis=()).tolist() == [[True, True], [True, True]]
    assert xp.prod(x, axis=(0, 1)).item() == 24 and xp.cumulative_sum(fb.ones(0), include_initial=True).tolist() == [
        0.0
    ]
    with pytest.raises(ValueError, match="Name it"):
        xp.cumulative_sum(x)
    with pytest.raises(IndexError, match="axis 2 of an array of 2 dimensions"):
        xp.sum(x, axis=2)


def test_signs_and_infinities_are_the_standards():
    inf, nan = float("inf"), float("nan")
    x = fb.tensor([inf, -inf, 1.0, 5.0])
    assert xp.floor_divide(x, fb.tensor([2.0, 2.0, -inf, 2.0])).tolist() == [inf, -inf, -0.0, 2.0]
    assert xp.signbit(xp.remainder(fb.tensor([-0.0, 0.0]), fb.tensor([3.0, -3.0]))).tolist() == [False, True]
    assert xp.isnan(xp.sign(fb.tensor([nan, 2.0]))).tolist() == [True, False]
    assert xp.sign(fb.tensor([-3, 0, 2])).tolist() == [-1, 0, 1]


def test_complex_numbers_at_the_edges():
    inf, nan = float("inf"), float("nan")
    z = lambda *parts: fb.tensor([complex(*parts)])  # noqa: E731
    assert xp.sign(fb.tensor([3 + 4j, 0j])).tolist() == pytest.approx([0.6 + 0.8j, 0])
    assert xp.signbit(xp.real(xp.expm1(z(-0.0, 0.0)))).tolist() == [False]
    assert xp.signbit(xp.imag(xp.expm1(z(0.0, -0.0)))).tolist() == [True]
    assert xp.expm1(z(-inf, inf)).tolist() == [-1] and xp.tanh(z(inf, 2.0)).tolist() == [1]
    assert xp.isnan(xp.real(xp.tanh(z(1.0, inf)))).item() and xp.isnan(xp.imag(xp.atanh(z(nan, 1.0)))).item()
    assert xp.real(xp.acos(z(0.0, nan))).item() == pytest.approx(np.pi / 2)
    assert xp.imag(xp.acosh(z(0.0, nan))).item() == pytest.approx(np.pi / 2)
    x = np.array([0.3 - 0.2j, 1.5 + 2j])
    for name in ("expm1", "tanh", "acos", "acosh", "atanh"):
        theirs = getattr(np, name.replace("a", "arc", 1) if name[0] == "a" else name)
        np.testing.assert_allclose(getattr(xp, name)(fb.tensor(x)).numpy(), theirs(x), rtol=1e-10)
    assert xp.multiply(fb.ones(2), 1j).dtype is fb.complex64


def test_facts_of_the_namespace():
    x = fb.ones(2)
    assert x.__array_namespace__() is xp and x.__array_namespace__(api_version="2023.12") is xp
    with pytest.raises(ValueError, match="version '1999' is not there"):
        x.__array_namespace__(api_version="1999")
    info = xp.__array_namespace_info__()
    assert info.default_device() in info.devices() and info.default_dtypes()["real floating"] is fb.float32
    assert set(info.dtypes(kind="integral")) == {"int8", "int16", "int32", "int64", "uint8"}
    assert set(info.dtypes(kind=("bool", "real floating"))) == {"bool", "float32", "float64"}
    assert info.capabilities()["boolean indexing"]
    assert xp.isdtype(fb.bfloat16, "real floating") and not xp.isdtype(fb.int8, ("bool", fb.int16))
    with pytest.raises(ValueError, match="there is no kind 'float'"):
        xp.isdtype(fb.int8, "float")
    assert set(info.dtypes(kind="complex floating")) == {"complex64", "complex128"}
    assert xp.finfo(fb.complex128).dtype is fb.float64 and xp.result_type(fb.float64, fb.complex64) is fb.complex128
    assert xp.finfo(x).dtype is fb.float32 and xp.iinfo(fb.int8).max == 127
    assert xp.can_cast(fb.int8, fb.int16) and not xp.can_cast(fb.float64, fb.float32) and not xp.can_cast(x, fb.int64)
    assert x.to_device("cpu").tolist() == [1.0, 1.0] and xp.astype(x, fb.int8, copy=False).dtype is fb.int8
    assert set(xp.__all__) <= set(dir(xp))


def test_copies_are_made_as_asked():
    x = fb.arange(6)
    assert xp.reshape(x, (2, 3), copy=False).data_ptr() == x.data_ptr() != xp.reshape(x, (2, 3), copy=True).data_ptr()
    with pytest.raises(ValueError, match="takes a copy"):
        xp.reshape(x.reshape(2, 3).T, (6,), copy=False)
    with pytest.raises(ValueError, match="has size 6"):
        xp.squeeze(x, axis=0)
    assert xp.arange(3, 0).shape == (0,) and xp.arange(2.0, 0).dtype is fb.float32


def test_gradients_go_through_the_namespace():
    x = fb.tensor(X, requires_grad=True)
    xp.sum(xp.multiply(x, x), axis=(0, 1)).backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * X)


def run(script, **env):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        env=os.environ | env,
    )
    assert done.returncode == 0, done.stderr


BEGIN = """
import numpy as np, flambeau as fb
x = np.random.default_rng(0).standard_normal((30, 4))
t = fb.tensor(x)
def same(call, *more):
    made, expected = call(t), call(x)
    assert isinstance(made, fb.Tensor), type(made)
    np.testing.assert_allclose(made.numpy(), expected, atol=1e-9)
"""


def test_scipy_computes_with_tensors():
    run(
        BEGIN
        + """
from scipy import special, stats
from scipy.cluster.vq import whiten
from scipy.integrate import trapezoid
for call in (stats.zscore, stats.skew, stats.kurtosis, special.logsumexp, special.expit, special.erf, whiten, trapezoid):
    same(call)
same(lambda x: special.softmax(x, axis=1))
same(lambda x: stats.ttest_1samp(x, 0.0).statistic)
same(lambda x: stats.entropy(abs(x)))
""",
        SCIPY_ARRAY_API="1",
    )


def test_scikit_learn_dispatches_on_tensors():
    run(
        BEGIN
        + """
from sklearn import config_context
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler
with config_context(array_api_dispatch=True):
    for scaler in (MinMaxScaler, Normalizer, StandardScaler):
        same(lambda x: scaler().fit_transform(x))
    same(lambda x: PCA(n_components=2, svd_solver="full").fit_transform(x))
    same(lambda x: Ridge(solver="svd").fit(x, x[:, 0] * 2).coef_)
    assert r2_score(t[:, 0], t[:, 1]) == r2_score(x[:, 0], x[:, 1])
""",
        SCIPY_ARRAY_API="1",
    )


def test_opt_einsum_contracts_tensors():
    import opt_einsum

    x, y = fb.tensor(X, requires_grad=True), fb.tensor(Y)
    for subscripts, operands in (("ij,kj,kl->il", (X, Y, Y)), ("ij,kj->ki", (X, Y)), ("ij,ij->", (X, Y))):
        made = opt_einsum.contract(subscripts, *(x if a is X else y for a in operands))
        np.testing.assert_allclose(made.detach().numpy(), np.einsum(subscripts, *operands))
    opt_einsum.contract("ij,kj->", x, y).backward()
    np.testing.assert_allclose(x.grad.numpy(), np.broadcast_to(Y.sum(0), X.shape))


def test_einops_rearranges_tensors():
    einops = pytest.importorskip("einops.array_api", reason="could not import 'einops'")
    x = np.arange(24.0).reshape(4, 6)
    made = einops.rearrange(fb.tensor(x), "(a b) c -> b a c", a=2)
    np.testing.assert_array_equal(made.numpy(), x.reshape(2, 2, 6).transpose(1, 0, 2))
    np.testing.assert_array_equal(
        einops.reduce(fb.tensor(x), "a (b c) -> b", "mean", c=2).numpy(), x.reshape(4, 3, 2).mean((0, 2))
    )
    assert einops.repeat(fb.tensor(x), "a b -> a 3 b").shape == (4, 3, 6)


@pytest.mark.parametrize("first", ["einops", "flambeau"])
def test_einops_knows_tensors_whichever_is_imported_first(first):
    """In a process of its own, where einops knows nothing of PyTorch's tensors."""
    pytest.importorskip("einops.array_api", reason="could not import 'einops'")
    second = {"einops": "flambeau", "flambeau": "einops"}[first]
    code = f"""
import sys
import {first}, {second}
import flambeau as fb, numpy as np
from einops import einsum, pack, rearrange, reduce, repeat
x = np.arange(24.0).reshape(4, 6)
t = fb.tensor(x, requires_grad=True)
made = rearrange(t, "(a b) c -> b a c", a=2)
assert np.array_equal(made.detach().numpy(), x.reshape(2, 2, 6).transpose(1, 0, 2))
made[0].sum().backward()
assert t.grad.tolist() == [[1.0] * 6, [0.0] * 6] * 2
for way in ("sum", "mean", "max", "min", "prod"):
    wanted = getattr(x.reshape(4, 3, 2), way)((0, 2))
    assert np.allclose(reduce(t, "a (b c) -> b", way, c=2).detach().numpy(), wanted)
assert repeat(t, "a b -> a 3 b").shape == (4, 3, 6)
assert rearrange([t, t], "k a b -> a k b").shape == (4, 2, 6)
assert np.allclose(einsum(t, t, "a b, c b -> a c").detach().numpy(), x @ x.T)
assert pack([t, t], "* b")[0].shape == (8, 6)
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_list_of_the_standards_suite_is_short_and_reasoned():
    known = array_api_suite.listed(array_api_suite.LIST.read_text())
    assert 0 < len(known) <= 30 and all("::" in name and reason for name, reason in known.items())
