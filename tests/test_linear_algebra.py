"""Linear algebra: against NumPy and formulas, against PyTorch, derivatives, failures, and how its steps run."""

import subprocess
import sys

import flambeau as fb
import numpy as np
import pytest
from flambeau.autograd import gradcheck, gradgradcheck
from flambeau.compiler.tools import report
from flambeau.linalg import LinAlgError

pytestmark = pytest.mark.accept("LIN-11")
RNG = np.random.default_rng(5)
DTYPES = (np.float32, np.float64)


def general(*shape, dtype=np.float64):
    """Matrices that are far from singular."""
    x = RNG.standard_normal(shape) * 0.4
    k = min(shape[-2:])
    x[..., range(k), range(k)] += 1.5 * np.arange(1, k + 1)
    return x.astype(dtype)


def positive(*shape, dtype=np.float64):
    x = RNG.standard_normal(shape) * 0.3
    return (x @ x.swapaxes(-1, -2) + np.diag(1.0 + np.arange(shape[-1]))).astype(dtype)


def close(found, wanted, dtype=np.float64):
    np.testing.assert_allclose(
        found.detach().numpy(),
        wanted,
        rtol=2e-4 if dtype is np.float32 else 1e-9,
        atol=1e-5 if dtype is np.float32 else 1e-11,
    )


# ---- values


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (3, 5, 5), (2, 3, 4, 4), (70, 70)])
def test_square_matrices_as_in_numpy(shape, dtype):
    a, p, b = general(*shape, dtype=dtype), positive(*shape, dtype=dtype), general(*shape[:-1], 3, dtype=dtype)
    x, y = fb.tensor(a), fb.tensor(p)
    close(fb.linalg.solve(x, fb.tensor(b)), np.linalg.solve(a, b), dtype)
    close(fb.linalg.inv(x), np.linalg.inv(a), dtype)
    close(fb.linalg.cholesky(y), np.linalg.cholesky(p), dtype)
    close(fb.linalg.eigvalsh(y), np.linalg.eigvalsh(p), dtype)
    sign, logarithm = np.linalg.slogdet(a)
    close(fb.linalg.slogdet(x).sign, sign, dtype)
    close(fb.linalg.slogdet(x).logabsdet, logarithm, dtype)
    if shape[-1] < 10:
        close(fb.linalg.det(x), np.linalg.det(a), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 3), (5, 2), (2, 5), (2, 4, 3), (40, 9), (9, 40)])
def test_factors_multiply_to_the_matrix(shape, dtype):
    a = general(*shape, dtype=dtype)
    x, k = fb.tensor(a), min(shape[-2:])
    p, low, high = fb.linalg.lu(x)
    close(p @ low @ high, a, dtype)
    assert np.array_equal(p.sum(-1).numpy(), np.ones(p.shape[:-1])) and np.array_equal(
        low.numpy(), np.tril(low.numpy())
    )
    for mode, columns in (("reduced", k), ("complete", shape[-2])):
        q, r = fb.linalg.qr(x, mode)
        assert q.shape[-1] == columns and np.array_equal(r.numpy(), np.triu(r.numpy()))
        close(q @ r, a, dtype)
        close(q.mT @ q, np.broadcast_to(np.eye(columns), q.mT.shape[:-1] + (columns,)), dtype)
    for whole in (False, True):
        u, s, vh = fb.linalg.svd(x, full_matrices=whole)
        assert (u.shape[-1], vh.shape[-2]) == (shape[-2:] if whole else (k, k))
        close((u[..., :k] * s[..., None, :]) @ vh[..., :k, :], a, dtype)
        close(s, np.linalg.svd(a, compute_uv=False), dtype)
        close(u.mT @ u, np.broadcast_to(np.eye(u.shape[-1]), (*u.shape[:-2], u.shape[-1], u.shape[-1])), dtype)


def test_operands_may_lie_in_any_way():
    a, b = general(6, 4, 4), general(6, 4, 2)
    x, y = fb.tensor(a)[::2].mT, fb.tensor(b)[1::2]
    close(fb.linalg.solve(x, y), np.linalg.solve(a[::2].swapaxes(-1, -2), b[1::2]))
    close(fb.linalg.inv(x.flip(0)), np.linalg.inv(a[::2].swapaxes(-1, -2)[::-1]))
    close(fb.linalg.solve(x[0], fb.tensor(b)), np.linalg.solve(a[0].T, b))
    close(fb.linalg.eigh(fb.eye(3).expand(2, 3, 3)).eigenvalues, np.ones((2, 3)), np.float32)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3, 3), (2, 0, 0)])
def test_of_nothing(shape):
    x = fb.zeros(*shape, requires_grad=True)
    assert fb.linalg.inv(x).shape == fb.linalg.cholesky(x).shape == fb.linalg.matrix_exp(x).shape == shape
    assert fb.linalg.det(x).tolist() == np.linalg.det(np.zeros(shape)).tolist()
    assert fb.linalg.svdvals(x).shape == fb.linalg.eigvalsh(x).shape == shape[:-1]
    (fb.linalg.solve(x, x).sum() + fb.linalg.det(x).sum()).backward()
    assert x.grad.shape == shape
    q, r = fb.linalg.qr(fb.zeros(2, 0), "complete")
    assert q.tolist() == [[1, 0], [0, 1]] and r.shape == (2, 0)


def test_triangles_and_factors_solve():
    a, b = general(2, 4, 4), general(2, 4, 3)
    x, y = fb.tensor(a), fb.tensor(b)
    for upper in (False, True):
        t = np.triu(a) if upper else np.tril(a)
        close(fb.linalg.solve_triangular(x, y, upper=upper), np.linalg.solve(t, b))
        close(
            fb.linalg.solve_triangular(x, y.mT, upper=upper, left=False),
            np.linalg.solve(t.swapaxes(-1, -2), b).swapaxes(-1, -2),
        )
        unit = t - np.eye(4) * t + np.eye(4)
        close(fb.linalg.solve_triangular(x, y, upper=upper, unitriangular=True), np.linalg.solve(unit, b))
        close(fb.triangular_solve(y, x, upper=upper, transpose=True).solution, np.linalg.solve(t.swapaxes(-1, -2), b))
    factors = fb.linalg.lu_factor(x)
    close(fb.linalg.lu_solve(*factors, y), np.linalg.solve(a, b))
    close(fb.linalg.lu_solve(*factors, y, adjoint=True), np.linalg.solve(a.swapaxes(-1, -2), b))
    close(fb.linalg.lu_solve(*factors, y.mT, left=False), (b.swapaxes(-1, -2) @ np.linalg.inv(a)))
    p = positive(2, 3, 3)
    for upper in (False, True):
        root = fb.linalg.cholesky(fb.tensor(p), upper=upper)
        close(fb.cholesky_solve(y[:, :3], root, upper), np.linalg.solve(p, b[:, :3]))
        close(fb.cholesky_inverse(root, upper), np.linalg.inv(p))


def test_what_is_made_of_singular_values():
    a = general(3, 5, 3)
    x = fb.tensor(a)
    close(fb.linalg.pinv(x), np.linalg.pinv(a))
    close(fb.linalg.pinv(x.mT), np.linalg.pinv(a.swapaxes(-1, -2)))
    for p in ("nuc", 2, -2):
        close(fb.linalg.matrix_norm(x, p), np.linalg.norm(a, p, axis=(-2, -1)))
    for p in (None, 2, -2, "fro", 1, -1, np.inf, -np.inf):
        close(fb.linalg.cond(fb.tensor(a[:, :3]), p), np.linalg.cond(a[:, :3], p))
    for p in ("nuc", "fro", 1, np.inf):
        assert fb.linalg.cond(fb.tensor([[[2.0, 0.0], [0.0, 2.0]], [[0.0, 0.0], [0.0, 0.0]]]), p).tolist() == [
            pytest.approx(np.linalg.cond(np.eye(2), p)),
            np.inf,
        ]
        assert fb.linalg.cond(fb.zeros(2, 0, 0), p).tolist() == [0, 0]
    low = np.outer([1.0, 2, 3], [1.0, 1, 2]) + np.outer([0.0, 1, 0], [1.0, 0, 0])
    assert fb.linalg.matrix_rank(fb.tensor(low)).item() == 2
    assert fb.linalg.matrix_rank(fb.tensor(low), hermitian=False, atol=100.0).item() == 0
    close(fb.linalg.pinv(fb.tensor(low)), np.linalg.pinv(low))
    b = general(5, 2)
    found = fb.linalg.lstsq(fb.tensor(a[0]), fb.tensor(b), driver="gelsd")
    x, residuals, rank, s = np.linalg.lstsq(a[0], b, rcond=None)
    close(found.solution, x), close(found.residuals, residuals), close(found.singular_values, s)
    assert found.rank.item() == rank
    assert fb.linalg.lstsq(fb.tensor(a[0]), fb.tensor(b)).residuals.numel() == 0


@pytest.mark.parametrize("scale", [1e-3, 0.3, 3.0, 20.0])
def test_matrix_exp_solves_its_equation(scale):
    """exp(a)' = a exp(a): by eigenvalues of symmetric matrices, and exp(a + a) = exp(a)^2 of others."""
    p = positive(2, 4, 4) * scale
    w, v = np.linalg.eigh(p)
    wanted = (v * np.exp(w)[:, None, :]) @ v.swapaxes(-1, -2)
    found = fb.linalg.matrix_exp(fb.tensor(p)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-11, atol=1e-11 * np.abs(wanted).max())
    a = fb.tensor(general(3, 3) * min(scale, 3.0))
    once = fb.linalg.matrix_exp(a)
    np.testing.assert_allclose(fb.linalg.matrix_exp(a + a).numpy(), (once @ once).numpy(), rtol=1e-10)
    nilpotent = fb.tensor([[0.0, 1e3], [0.0, 0.0]])
    assert fb.linalg.matrix_exp(nilpotent).tolist() == [[1.0, 1e3], [0.0, 1.0]]


def test_products_of_reflectors():
    a = general(5, 3)
    h, tau = (np.array(m) for m in np.linalg.qr(a, mode="raw"))
    packed, factors = fb.tensor(np.ascontiguousarray(h.T)), fb.tensor(tau)
    q = np.linalg.qr(a, mode="complete")[0]
    close(fb.linalg.householder_product(packed, factors), q[:, :3])
    b = general(5, 2)
    close(fb.ormqr(packed, factors, fb.tensor(b)), q @ b)
    close(fb.ormqr(packed, factors, fb.tensor(b), transpose=True), q.T @ b)
    close(fb.ormqr(packed, factors, fb.tensor(b.T), left=False), b.T @ q)


def test_tensors_as_matrices():
    a, b = general(6, 6).reshape(2, 3, 6), general(2, 3)
    close(fb.linalg.tensorsolve(fb.tensor(a), fb.tensor(b)), np.linalg.tensorsolve(a, b))
    close(fb.linalg.tensorinv(fb.tensor(a), 2), np.linalg.tensorinv(a, 2))
    close(fb.linalg.vander(fb.tensor([1.0, 2.0, 3.0])), np.vander([1, 2, 3], increasing=True), np.float32)
    close(fb.linalg.matrix_power(fb.tensor(general(3, 3)), -1) * 0, np.zeros((3, 3)))
    x = general(2, 3, 3)
    close(fb.linalg.matrix_power(fb.tensor(x), -3), np.linalg.matrix_power(x, -3))


def test_low_rank():
    fb.manual_seed(3)
    a = general(9, 3) @ general(3, 7)
    u, s, v = fb.svd_lowrank(fb.tensor(a), 3)
    close((u * s) @ v.mT, a)
    close(s, np.linalg.svd(a, compute_uv=False)[:3])
    u, s, v = fb.pca_lowrank(fb.tensor(a.T), 3)
    close(s, np.linalg.svd(a.T - a.T.mean(0), compute_uv=False)[:3])


# ---- derivatives


def leaf(array):
    return fb.tensor(array, requires_grad=True)


def of_symmetric(function):
    return lambda x: function(x + x.mT)


A, B, WIDE, TALL, P = general(3, 3), general(3, 2), general(2, 4), general(4, 2), positive(3, 3) / 2
DERIVATIVES = {
    "solve": (lambda a, b: fb.linalg.solve(a, b), (A, B)),
    "solve from the right": (lambda a, b: fb.linalg.solve(a, b.mT, left=False), (A, B)),
    "solve of one matrix for a batch": (lambda a, b: fb.linalg.solve(a, b), (A, general(2, 3, 1))),
    "inv": (fb.linalg.inv, (A,)),
    "det": (fb.linalg.det, (general(2, 3, 3),)),
    "slogdet": (lambda a: fb.linalg.slogdet(a).logabsdet, (A,)),
    "cholesky": (of_symmetric(fb.linalg.cholesky), (P,)),
    "cholesky upper": (of_symmetric(lambda x: fb.linalg.cholesky(x, upper=True)), (P,)),
    "eigh": (of_symmetric(lambda x: fb.linalg.eigh(x).eigenvalues), (P,)),
    "eigenvectors": (of_symmetric(lambda x: fb.linalg.eigh(x).eigenvectors.abs()), (P,)),
    "lu": (lambda a: fb.linalg.lu(a)[1:], (A,)),
    "lu wide": (lambda a: fb.linalg.lu(a)[1:], (WIDE,)),
    "lu tall": (lambda a: fb.linalg.lu(a)[1:], (TALL,)),
    "qr": (fb.linalg.qr, (TALL,)),
    "qr wide": (fb.linalg.qr, (WIDE,)),
    "svd": (lambda a: fb.linalg.svd(a, full_matrices=False), (TALL,)),
    "svd wide": (lambda a: fb.linalg.svd(a, full_matrices=False), (WIDE,)),
    "pinv": (fb.linalg.pinv, (TALL,)),
    "lstsq": (lambda a, b: fb.linalg.lstsq(a, b).solution, (TALL, general(4, 2))),
    "solve_triangular": (lambda a, b: fb.linalg.solve_triangular(a, b, upper=True), (A, B)),
    "nuclear norm": (lambda a: fb.linalg.matrix_norm(a, "nuc"), (TALL,)),
    "matrix_exp": (fb.linalg.matrix_exp, (A,)),
    "householder_product": (fb.linalg.householder_product, (TALL, np.array([0.5, 1.2]))),
}


@pytest.mark.parametrize("name", DERIVATIVES)
def test_derivatives_of_the_first_and_second_order(name):
    function, arrays = DERIVATIVES[name]
    leaves = [leaf(a) for a in arrays]
    with fb.compiler_options(mode="off"):
        assert gradcheck(function, leaves)
        assert gradgradcheck(function, leaves)


def test_a_third_derivative():
    """Of 1 / x by way of an inverse: -6 / x^4."""
    x = leaf(np.array([[2.0]]))
    y = fb.linalg.inv(x).sum()
    for _ in range(3):
        (y,) = fb.autograd.grad(y, [x], create_graph=True)
        y = y.sum()
    assert y.item() == pytest.approx(-6 / 16)


def test_gradients_where_values_are_equal_or_zero():
    x = leaf(np.eye(3))
    fb.linalg.eigvalsh(x).sum().backward()
    close(x.grad, np.eye(3))
    x = leaf(np.eye(3))
    fb.linalg.svdvals(x).sum().backward()
    close(x.grad, np.eye(3))
    x = leaf(2 * np.eye(3))
    fb.linalg.pinv(x).sum().backward()
    close(x.grad, np.full((3, 3), -0.25))
    for singular, wanted in (
        (np.diag([1.0, 0.0, 2.0]), np.diag([0.0, 2.0, 0.0])),
        ([[0.0, 1], [0, 3]], [[3.0, 0], [-1, 0]]),
    ):
        x = leaf(np.array(singular))
        fb.linalg.det(x).backward()
        close(x.grad, np.array(wanted))


def test_a_loss_trains_through_a_solution():
    """A linear regression by its normal equations, differentiated as a part of a program that is compiled."""
    x, y = fb.tensor(general(20, 3)), fb.tensor(general(20, 1))
    weight = leaf(np.array([1.0]))
    with fb.compiler_options(mode="blocking"):
        for _ in range(3):
            w = fb.linalg.solve(x.mT @ x + weight * fb.eye(3, dtype=fb.float64), x.mT @ y)
            loss = ((x @ w - y) ** 2).mean()
            loss.backward()
            with fb.no_grad():
                weight -= 0.1 * weight.grad
            weight.grad = None
            loss.item()
    ridge = np.linalg.solve(x.numpy().T @ x.numpy() + 0 * np.eye(3), x.numpy().T @ y.numpy())
    assert loss.item() >= ((x.numpy() @ ridge - y.numpy()) ** 2).mean() - 1e-12


# ---- failures


@pytest.mark.parametrize("mode", ["off", "blocking"])
def test_what_fails_says_which_matrix(mode):
    a = np.stack([np.eye(3), np.diag([1.0, 2.0, 0.0])]).reshape(2, 1, 3, 3)
    cases = (
        (lambda x: fb.linalg.inv(x), r"\[inv\] matrix \[1, 0\] is singular: element 3 of the diagonal of U is zero"),
        (lambda x: fb.linalg.solve(x, x), r"\[solve\] matrix \[1, 0\] is singular"),
        (
            lambda x: fb.linalg.cholesky(x),
            r"\[cholesky\] matrix \[1, 0\] is not positive-definite: its leading minor of order 3",
        ),
        (lambda x: fb.linalg.svdvals(x / 0), r"\[svd\] matrix \[0, 0\] has an element that is not finite"),
        (lambda x: fb.linalg.eigvalsh(x / 0), r"\[eigh\] matrix \[0, 0\] has an element that is not finite"),
    )
    with fb.compiler_options(mode=mode):
        for function, message in cases:
            x = fb.tensor(a)
            with pytest.raises(LinAlgError, match=message):
                (function(x) + 1).tolist()
            assert np.array_equal(x.numpy(), a)


def test_success_is_told_instead():
    a = fb.tensor(np.stack([np.eye(2), -np.eye(2), np.zeros((2, 2))]))
    assert fb.linalg.cholesky_ex(a).info.tolist() == [0, 1, 1]
    assert fb.linalg.inv_ex(a).info.tolist() == fb.linalg.lu_factor_ex(a).info.tolist() == [0, 0, 1]
    assert fb.linalg.inv_ex(a).inverse[1].tolist() == [[-1, 0], [0, -1]]
    result, info = fb.linalg.solve_ex(a, fb.ones(2, dtype=fb.float64))
    assert info.dtype is fb.int32 and result[1].tolist() == [-1, -1]
    with pytest.raises(LinAlgError, match=r"\[inv_ex\] matrix \[2\] is singular"):
        fb.linalg.inv_ex(a, check_errors=True).inverse.tolist()


def test_an_error_leaves_what_was_before():
    x, written = fb.zeros(2, 2), fb.zeros(3)
    written += 1
    with pytest.raises(LinAlgError):
        written += fb.linalg.inv(x).sum()
        written.tolist()
    assert issubclass(LinAlgError, RuntimeError)


# ---- how it runs


def test_a_program_has_steps_that_call_lapack_between_kernels():
    x = fb.tensor(positive(4, 3, 3))
    with fb.compiler_options(mode="blocking"):
        found = (fb.linalg.cholesky(x * 2) + 1).sum(-1).tolist()
    np.testing.assert_allclose(found, (np.linalg.cholesky(x.numpy() * 2) + 1).sum(-1))
    assert report.programs()[-1].tier == "fused"


def test_bits_depend_on_no_thread_and_no_place_in_a_batch():
    a = general(400, 24, 24, dtype=np.float32)
    before, found = fb.get_num_threads(), []
    try:
        for threads in (1, 3):
            fb.set_num_threads(threads)
            with fb.compiler_options(mode="blocking"):
                x = fb.tensor(a)
                found.append([y.numpy() for y in (fb.linalg.inv(x), *fb.linalg.svd(x), *fb.linalg.qr(x))])
    finally:
        fb.set_num_threads(before)
    assert all(np.array_equal(x, y) for x, y in zip(*found, strict=True))
    assert np.array_equal(fb.linalg.inv(fb.tensor(a[7:8])).numpy()[0], found[0][0][7])


def test_sizes_that_change():
    with fb.compiler_options(mode="blocking"):
        for n in (2, 3, 4, 5, 7):
            a = general(n, n + 1, n + 1)
            close(fb.linalg.inv(fb.tensor(a)), np.linalg.inv(a))
            close(fb.linalg.svdvals(fb.tensor(a[:, :n])), np.linalg.svd(a[:, :n], compute_uv=False))


def test_scipy_is_imported_when_it_is_needed():
    code = (
        "import sys, flambeau as fb\n"
        "x = fb.eye(2) + 1\nx.tolist()\nassert 'scipy' not in sys.modules\n"
        "fb.linalg.inv(x).tolist()\nassert 'scipy.linalg.cython_lapack' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_exported_programs_refuse_it_by_name(tmp_path):
    with pytest.raises(RuntimeError, match=r"lu at .* calls SciPy's LAPACK, which exported programs do not have"):
        fb.export(lambda x: fb.linalg.inv(x), (fb.eye(2),), tmp_path / "inverse")


def test_other_dtypes_are_refused():
    for x in (fb.ones(2, 2, dtype=fb.int64), fb.ones(2, 2, dtype=fb.float16)):
        with pytest.raises(
            RuntimeError, match=r"\[inv\] A has dtype .*, expected float32, float64 or complex\. Cast it first\."
        ):
            fb.linalg.inv(x)


# ---- as in PyTorch

AS_IN_TORCH = {
    "cholesky": (lambda m, x: m.linalg.cholesky(x), positive(2, 3, 3)),
    "cholesky_ex": (lambda m, x: m.linalg.cholesky_ex(x)[0], positive(3, 3)),
    "inv": (lambda m, x: m.linalg.inv(x), general(2, 3, 3)),
    "solve": (lambda m, x: m.linalg.solve(x, x.sum(-1)), general(2, 3, 3)),
    "solve left": (lambda m, x: m.linalg.solve(x, x[..., :2, :] * 2, left=False), general(3, 3)),
    "det": (lambda m, x: m.det(x), general(2, 3, 3)),
    "slogdet": (lambda m, x: m.slogdet(x), general(2, 3, 3)),
    "logdet": (lambda m, x: m.logdet(x), positive(3, 3)),
    "lu_factor": (lambda m, x: m.linalg.lu_factor(x)[0], general(2, 4, 3)),
    "lu": (lambda m, x: m.linalg.lu(x), general(3, 4)),
    "lu_solve": (lambda m, x: m.linalg.lu_solve(*m.linalg.lu_factor(x), x[..., :1]), general(3, 3)),
    "qr": (lambda m, x: m.linalg.qr(x), general(2, 4, 3)),
    "svdvals": (lambda m, x: m.linalg.svdvals(x), general(2, 4, 3)),
    "svd": (lambda m, x: [y.abs() for y in m.linalg.svd(x, full_matrices=False)], general(4, 3)),
    "eigh": (lambda m, x: m.linalg.eigh(x)[0], positive(2, 3, 3)),
    "eigvalsh": (lambda m, x: m.linalg.eigvalsh(x, "U"), positive(3, 3)),
    "pinv": (lambda m, x: m.linalg.pinv(x), general(4, 3)),
    "pinv hermitian": (lambda m, x: m.linalg.pinv(x, hermitian=True), positive(3, 3)),
    "lstsq": (lambda m, x: m.linalg.lstsq(x, x[..., :1] + 1)[0], general(4, 3)),
    "matrix_exp": (lambda m, x: m.matrix_exp(x), general(2, 3, 3)),
    "matrix_power": (lambda m, x: m.matrix_power(x, -2), general(3, 3)),
    "norms": (lambda m, x: [m.linalg.matrix_norm(x, p) for p in ("nuc", 2, -2)], general(2, 4, 3)),
    "cond": (lambda m, x: [m.linalg.cond(x, p) for p in (None, -2)], general(3, 3)),
    "triangular": (lambda m, x: m.linalg.solve_triangular(x, x[..., :1] + 2, upper=False), general(2, 3, 3)),
    "cholesky_solve": (lambda m, x: m.cholesky_solve(x[..., :1], x.tril()), general(3, 3)),
    "cholesky_inverse": (lambda m, x: m.cholesky_inverse(x.triu(), upper=True), general(3, 3)),
    "householder": (lambda m, x: m.linalg.householder_product(x, x[0, :2] / 3), general(4, 2)),
    "tensorinv": (lambda m, x: m.linalg.tensorinv(x.reshape(2, 2, 4)), general(4, 4)),
    "inverse": (lambda m, x: x.inverse() @ x.pinverse(), general(3, 3)),
    "triangular_solve": (lambda m, x: m.triangular_solve(x[:, :1], x)[0], general(3, 3)),
}


@pytest.mark.accept("VER-03")
@pytest.mark.parametrize("name", AS_IN_TORCH)
def test_values_and_gradients_as_in_torch(name):
    torch = pytest.importorskip("torch")
    function, array = AS_IN_TORCH[name]
    results = []
    for module, x in ((fb, leaf(array)), (torch, torch.tensor(array, requires_grad=True))):
        found = function(module, x)
        found = list(found) if isinstance(found, tuple | list) else [found]
        sum((y * y).sum() + y.sum() for y in found if y.requires_grad).backward()
        results.append([*(y.detach().numpy() for y in found), x.grad.numpy()])
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.accept("ERR-01")
def test_errors_are_of_torchs_classes():
    torch = pytest.importorskip("torch")
    bad = np.zeros((2, 2))
    for call in (lambda m, x: m.linalg.inv(x), lambda m, x: m.linalg.cholesky(x), lambda m, x: m.linalg.solve(x, x)):
        for module, made in ((fb, fb.tensor(bad)), (torch, torch.tensor(bad))):
            with pytest.raises(module.linalg.LinAlgError):
                call(module, made).tolist()


def test_under_vmap():
    a, b = general(4, 3, 3), general(4, 3)
    x, y = fb.tensor(a), fb.tensor(b)
    close(fb.func.vmap(fb.linalg.inv)(x), np.linalg.inv(a))
    close(fb.func.vmap(fb.linalg.solve)(x, y), np.linalg.solve(a, b[..., None])[..., 0])
    close(fb.func.vmap(fb.linalg.solve, in_dims=(None, 0))(x[0], y), np.linalg.solve(a[0], b.T).T)
    gradient = fb.func.vmap(fb.func.grad(fb.linalg.det))(x)
    close(gradient, np.linalg.det(a)[:, None, None] * np.linalg.inv(a).swapaxes(-1, -2))


def test_gradients_of_qr_after_a_look_at_matrices_of_all_shapes():
    """What is kept for a gradient when a size is first seen serves all that come later, tall or wide."""
    rng = np.random.default_rng(0)
    with fb.compiler_options(mode="off"):
        for m, n in ((5, 3), (6, 4), (4, 2), (3, 5), (2, 5), (4, 7), (3, 3)):
            a = rng.standard_normal((2, m, n))
            found = []
            for looks in (False, True):
                x = fb.tensor(a, requires_grad=True)
                q, r = fb.linalg.qr(x)
                if looks:
                    q.tolist(), r.tolist()
                (q.sum() + (r * r).sum()).backward()
                found.append(x.grad.numpy())
            assert found[0].tobytes() == found[1].tobytes()
