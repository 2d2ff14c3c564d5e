"""complex64 and complex128: arithmetic, views of parts, gradients in PyTorch's convention, contractions, what is refused."""

from __future__ import annotations

import flambeau as fb
import numpy as np
import pytest
from flambeau.compiler import driver
from flambeau.compiler.options import Options
from flambeau.dialects import reference
from flambeau.dialects.aval import Aval
from flambeau.dialects.builder import GraphBuilder
from flambeau.dialects.dtypes import from_numpy
from flambeau.dialects.record import find

pytestmark = [
    pytest.mark.filterwarnings(r"error:\[compile\]:RuntimeWarning"),
    pytest.mark.accept("DTY-03"),
]

DTYPES = pytest.mark.parametrize("dtype", [np.complex64, np.complex128], ids=lambda d: d.__name__)


def numbers(*shape: int, dtype=np.complex128, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(dtype)


def close(found, wanted, factor: float = 16) -> bool:
    """Equal to some roundings of the largest number."""
    array = found.detach().numpy() if isinstance(found, fb.Tensor) else np.asarray(found)
    assert array.dtype == wanted.dtype and array.shape == wanted.shape, (array.dtype, wanted.dtype)
    scale = np.abs(wanted).max(initial=0)
    return bool(np.all(np.abs(array - wanted) <= factor * np.finfo(wanted.dtype).eps * scale))


# ---- arithmetic ---------------------------------------------------------------------------------------------------


@DTYPES
def test_arithmetic_is_that_of_numpy(dtype):
    x, y = numbers(3, 5, dtype=dtype), numbers(5, dtype=dtype, seed=1)
    a, b = fb.tensor(x), fb.tensor(y)
    for found, wanted in (
        (a + b, x + y),
        (a - b, x - y),
        (a * b, x * y),
        (a / b, x / y),
        (-a, -x),
        (a.conj(), x.conj()),
        (a * 2 + 1.5j, x * dtype(2) + dtype(1.5j)),
        ((2 - 1j) - a, dtype(2 - 1j) - x),
        (a.abs(), np.abs(x)),
        (a.angle(), np.angle(x)),
        (a.sum(1), x.sum(1)),
        (a.mean(), x.mean()),
        (a.prod(0), x.prod(0)),
        (a.cumsum(1), x.cumsum(1)),
        (a @ a.T, x @ x.T),
        (a.mH @ a, x.conj().T @ x),
        (fb.einsum("ij,kj->ik", a, a), x @ x.T),
    ):
        assert close(found, np.asarray(wanted))
    assert (a == a).all().item() and not (a == a.conj()).any().item() and (a != a + 1j).all().item()


def same_bits(x: np.ndarray, y: np.ndarray) -> bool:
    """Equal to the bit in each part; all NaNs are alike."""
    if np.iscomplexobj(x):
        return same_bits(x.real, y.real) and same_bits(x.imag, y.imag)
    if x.dtype.kind != "f":
        return bool(np.array_equal(x, y))
    return bool(np.all(((x == y) & (np.signbit(x) == np.signbit(y))) | ((x != x) & (y != y))))


def test_every_tier_gives_the_bits_of_the_formulas():
    """Special values among them: compiled, op by op, and the references."""
    parts = np.array([0.0, -0.0, 1.5, -2.5, 1e30, 1e-30, np.inf, -np.inf, np.nan], np.float32)
    grid = np.stack(np.meshgrid(parts, parts, indexing="ij"), -1).reshape(-1, 2).view(np.complex64)[:, 0]
    x, y = (np.ascontiguousarray(v.ravel()) for v in np.meshgrid(grid, grid[::7]))
    builder = GraphBuilder()
    a, b = (builder.input(Aval(v.shape, from_numpy(v.dtype))) for v in (x, y))
    made = [a + b, a * b, a / b, -a, a.conj(), find("sign")(a), a.eq(b), a.cast(fb.complex128), a.cast(fb.bool)]
    made += [find("real")(a * b), find("view_as_real")(a), find("sum")(a, axes=(0,))]
    made += [find("gather")(a, a.cast(fb.int64).like(3), axis=0)]
    builder.graph.outputs = [v.id for v in made]
    wanted = reference.run(builder.graph, [x, y])
    for mode in ("blocking", "off"):
        found = driver.compile(builder.graph, Options(mode=mode))([x, y])
        for v, buffer, array in zip(made, found, wanted, strict=True):
            result = np.frombuffer(buffer, array.dtype).reshape(array.shape)
            exact = v is not made[5]  # whose absolute values are rounded in other ways
            assert same_bits(result, array) if exact else np.allclose(result, array, equal_nan=True), (mode, v.aval)


def test_dtypes_of_mixtures():
    x32, x64, z64, z128 = (fb.ones(2, dtype=d) for d in (fb.float32, fb.float64, fb.complex64, fb.complex128))
    assert (
        (x32 + 1j).dtype is fb.complex64
        and (x64 + 1j).dtype is fb.complex128
        and (fb.ones(2, dtype=fb.int64) * 1j).dtype is fb.complex64
    )
    assert (
        (z64 * 2.5).dtype is fb.complex64 and (z64 + x64).dtype is fb.complex128 and (z128 * z64).dtype is fb.complex128
    )
    assert (x64 * fb.tensor(1j)).dtype is fb.complex128, "the tensor with dimensions says how precise it is"
    assert fb.tensor([1, 2j]).dtype is fb.complex64 and fb.full((2,), 1j).dtype is fb.complex64
    assert fb.result_type(x32, 1j) is fb.complex64 and fb.promote_types(fb.float64, fb.complex64) is fb.complex128
    assert (z128 * 0.1j)[0].item() == 0.1j, "a number is not rounded first"


def test_numbers_are_told_apart_by_bits():
    found = [fb.full((1,), z).numpy()[0].imag for z in (complex(0.0, -0.0), 0j)]
    assert [bool(np.signbit(f)) for f in found] == [True, False]


# ---- functions ---------------------------------------------------------------------------------------------------


FUNCTIONS = {
    **{
        n: getattr(np, n)
        for n in ("exp", "expm1", "log", "log1p", "exp2", "log2", "log10", "sqrt", "sinh", "cosh", "tanh")
    },
    **{n: getattr(np, n) for n in ("sin", "cos", "tan", "square", "reciprocal")},
    **{n: getattr(np, n.replace("a", "arc", 1)) for n in ("asin", "acos", "atan", "asinh", "acosh", "atanh")},
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sgn": lambda x: x / np.abs(x),
}


@DTYPES
def test_functions_are_those_of_numpy(dtype):
    """All in one program: within some roundings, far out and near 0 too, and on the branches that NumPy takes."""
    rng = np.random.default_rng(5)
    size = np.exp(rng.uniform(-6, 2.5, (2, 300)))
    x = (size[0] * rng.choice([-1, 1], 300) + 1j * size[1] * rng.choice([-1, 1], 300)).astype(dtype)
    y = numbers(300, dtype=dtype)
    a, b = fb.tensor(x), fb.tensor(y)
    found = {name: getattr(fb, name)(a) for name in FUNCTIONS} | {"pow": a**b, "cube": a**3, "base": 2**b}
    wide = x.astype(np.complex128)
    wanted = {name: f(wide) for name, f in FUNCTIONS.items()}
    wanted |= {"pow": wide ** y.astype(np.complex128), "cube": wide**3, "base": 2 ** y.astype(np.complex128)}
    for name, result in found.items():
        error = np.abs(result.numpy() - wanted[name]) / np.abs(wanted[name])
        assert error.max() < 512 * np.finfo(dtype).eps, (name, error.max(), x[error.argmax()])


#: Values at special points, C99's annex G: of what takes no angle from an infinite or missing part.
SPECIAL = (
    ("exp", complex(-np.inf, np.inf), 0),
    ("exp", complex(np.inf, 0), complex(np.inf, 0)),
    ("exp", complex(-np.inf, np.nan), 0),
    ("log", 0j, complex(-np.inf, 0)),
    ("log", complex(-0.0, 0.0), complex(-np.inf, np.pi)),
    ("log", complex(np.nan, -np.inf), complex(np.inf, np.nan)),
    ("sqrt", complex(-4, 0.0), 2j),
    ("sqrt", complex(-4, -0.0), -2j),
    ("sqrt", complex(np.nan, np.inf), complex(np.inf, np.inf)),
    ("sqrt", complex(-np.inf, 1), complex(0, np.inf)),
    ("tanh", complex(np.inf, 1), complex(1, 0)),
    ("tanh", complex(-300, 2), complex(-1, 0)),
    ("sinh", complex(np.inf, 0), complex(np.inf, 0)),
    ("cosh", complex(np.inf, 0), complex(np.inf, 0)),
    ("atanh", 1 + 0j, complex(np.inf, 0)),
    ("acos", complex(2, 0.0), complex(0, -np.arccosh(2))),
    ("acos", complex(2, -0.0), complex(0, np.arccosh(2))),
    ("asinh", complex(np.inf, np.inf), complex(np.inf, np.pi / 4)),
    ("atan", complex(np.inf, 1), complex(np.pi / 2, 0)),
    ("pow", 0j, 0),
    ("abs", complex(np.nan, np.inf), np.inf),
    ("angle", complex(-0.0, -0.0), -np.pi),
    ("sgn", 0j, 0),
)


def test_special_values_are_those_of_c99():
    for name, x, wanted in SPECIAL:
        f = (lambda t: t**2.5) if name == "pow" else getattr(fb, name)
        found = f(fb.tensor([x], dtype=fb.complex128)).numpy()[0]
        for part, right in zip((found.real, found.imag), (np.real(wanted), np.imag(wanted)), strict=True):
            assert np.isclose(part, right, rtol=1e-12, atol=1e-200, equal_nan=True), (name, x, found, wanted)


def test_norms_moments_and_running_products():
    x, y = numbers(4, 5), numbers(4, 5, seed=1)
    a, b = fb.tensor(x), fb.tensor(y)
    for found, wanted in (
        (a.norm(), np.linalg.norm(x)),
        (fb.linalg.vector_norm(a, 3, dim=1), np.sum(np.abs(x) ** 3, 1) ** (1 / 3)),
        (fb.linalg.norm(a, 1), np.linalg.norm(x, 1)),
        (a.var(1), np.var(x, 1, ddof=1)),
        (a.std(), np.std(x, ddof=1)),
        (a.cumprod(1), np.cumprod(x, 1)),
        (fb.vdot(a[0], b[0]), np.vdot(x[0], y[0])),
        (fb.dot(a[0], b[0]), x[0] @ y[0]),
        (fb.linalg.vecdot(a, b), np.sum(x.conj() * y, 1)),
        (fb.cov(a), np.cov(x)),
        (fb.float_power(a, 2), x**2),
        (fb.outer(a[0], b[0]), np.outer(x[0], y[0])),
        (fb.matrix_power(a[:, :4], 3), np.linalg.matrix_power(x[:, :4], 3)),
        (fb.addmm(a[:, :4], a, b.T, alpha=2j), x[:, :4] + 2j * x @ y.T),
    ):
        assert close(found, np.asarray(wanted), 32)
    assert a.any().item() and a.count_nonzero().item() == 20 and complex(a[0, 0]) == x[0, 0]


def test_a_batch_of_calls_and_directions():
    x = numbers(3, 4)

    def f(row):
        return fb.complex(row.real, row.imag).exp() * row.conj() + fb.view_as_complex(fb.view_as_real(row)).sum()

    assert close(fb.func.vmap(f)(fb.tensor(x)), np.exp(x) * x.conj() + x.sum(1, keepdims=True))
    _, found = fb.func.jvp(lambda z: z * z, (fb.tensor(x),), (fb.tensor(x) * 1j,))
    assert close(found, 2j * x * x)


def test_optimizers_take_the_parts_as_parameters():
    """Each part has moments of its own, as in PyTorch: the same steps as of a real parameter with both."""
    x = numbers(5)
    z, r = fb.tensor(x, requires_grad=True), fb.view_as_real(fb.tensor(x)).clone().requires_grad_()
    both = [fb.optim.Adam([p], lr=0.1) for p in (z, r)]
    for _ in range(3):
        for p, optimizer in zip((z, r), both, strict=True):
            optimizer.zero_grad()
            value = p if p.is_complex() else fb.view_as_complex(p)
            ((value * (1 + 2j) - 1).abs() ** 2).sum().backward()
            optimizer.step()
    assert np.array_equal(fb.view_as_real(z).detach().numpy(), r.detach().numpy())
    layer = fb.nn.Linear(5, 2, dtype=fb.complex128)
    assert close(layer(fb.tensor(x)), x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy())


# ---- memory -------------------------------------------------------------------------------------------------------


@DTYPES
def test_parts_are_views(dtype):
    x = numbers(2, 3, dtype=dtype)
    t = fb.tensor(x)
    assert np.array_equal(t.real.numpy(), x.real) and np.array_equal(t.imag.numpy(), x.imag)
    assert t.imag.stride() == (6, 2) and not t.imag.is_contiguous() and t.T.imag.stride() == (2, 6)
    t.real[0] = 7
    t.imag.mul_(2)
    t.real = t.real + 1
    x.real[0], x.imag[:], x.real[:] = 7, x.imag * 2, np.where([[True], [False]], 8, x.real + 1)
    assert np.array_equal(t.numpy(), x)
    memory = fb.view_as_real(t)
    assert memory.shape == (2, 3, 2) and np.array_equal(memory.numpy(), x.view(x.real.dtype).reshape(2, 3, 2))
    memory[1, 2] = fb.tensor([-1.0, 4.0], dtype=memory.dtype)
    assert t[1, 2].item() == -1 + 4j
    back = fb.view_as_complex(memory)
    back[0, 0] = 5j
    assert t[0, 0].item() == 5j and back.dtype is t.dtype


def test_memory_is_shared_with_numpy():
    x = numbers(4)
    t = fb.from_numpy(x)
    t *= 1j
    part = t.imag.numpy()
    part[0] = 9
    assert x[0].imag == 9 and t[0].item().imag == 9 and np.shares_memory(t.numpy(), x)


def test_elements_are_moved_whole():
    x = numbers(4, 3, dtype=np.complex64)
    t, index = fb.tensor(x), np.array([2, 0, 2])
    for found, wanted in (
        (t[:, index], x[:, index]),
        (t[t.real > 0], x[x.real > 0]),
        (fb.cat([t, t.conj()]), np.concatenate([x, x.conj()])),
        (fb.stack([t, t], 1), np.stack([x, x], 1)),
        (t.flip(0).T.contiguous(), x[::-1].T),
        (fb.where(t.imag > 0, t, 0), np.where(x.imag > 0, x, 0).astype(np.complex64)),
        (t.roll(1, 0), np.roll(x, 1, 0)),
        (fb.nn.functional.pad(t, (1, 2)), np.pad(x, ((0, 0), (1, 2)))),
        (t.unfold(0, 2, 1), np.lib.stride_tricks.sliding_window_view(x, 2, 0)),
        (t.gather(0, fb.tensor([[1, 2, 3]])), np.take_along_axis(x, np.array([[1, 2, 3]]), 0)),
        (t.repeat(2, 1).diagonal(), np.tile(x, (2, 1)).diagonal()),
        (t.tril(), np.tril(x)),
    ):
        assert found.dtype is fb.complex64 and np.array_equal(found.numpy(), wanted)
    t[1:, index] = 0
    x[1:, index] = 0
    t.index_add_(0, fb.tensor([0, 0]), fb.ones(2, 3, dtype=fb.complex64) * 1j)
    x[0] += np.complex64(2j)
    assert np.array_equal(t.numpy(), x)


def test_made_drawn_and_shown():
    assert fb.eye(2, dtype=fb.complex64).tolist() == [[1, 0], [0, 1]] and fb.zeros(2, dtype=fb.cdouble).tolist() == [
        0,
        0,
    ]
    z = fb.complex(fb.tensor([1.0, -2.0]), fb.tensor(0.5))
    assert z.tolist() == [1 + 0.5j, -2 + 0.5j] and z.is_complex() and fb.is_complex(z) and not z.is_floating_point()
    assert close(fb.polar(z.abs(), z.angle()), z.numpy()) and fb.finfo(fb.complex64) == fb.finfo(fb.float32)
    fb.manual_seed(3)
    drawn = fb.randn(2000, dtype=fb.complex64).numpy()
    assert abs(np.mean(np.abs(drawn) ** 2) - 1) < 0.1 and abs(drawn.mean()) < 0.1 and abs(np.mean(drawn**2)) < 0.1
    assert repr(z) == "tensor([ 1.+0.5000j, -2.+0.5000j])" and repr(fb.tensor([1j])) == "tensor([0.+1.j])"
    assert repr(fb.tensor([complex(0, -0.0)], dtype=fb.complex128)) == "tensor([0.-0.j], dtype=flambeau.complex128)"
    with pytest.warns(UserWarning, match="discards the imaginary part"):
        assert z.float().tolist() == [1, -2]
    assert fb.tensor([0j, 1e-3j]).bool().tolist() == [False, True]
    x = fb.tensor([complex(np.nan, 1), complex(1, np.inf), 2j])
    assert x.isnan().tolist() == [True, False, False] and x.isinf().tolist() == [False, True, False]
    assert x.isfinite().tolist() == [False, False, True] and x.isreal().tolist() == [False] * 3
    assert fb.allclose(z, z + 1e-7j) and not fb.allclose(z, z + 1e-2j)


# ---- gradients ----------------------------------------------------------------------------------------------------


def test_gradients_follow_the_conjugate_convention():
    """The gradient of |z|^2 is 2 z, of Re(w z) the conjugate of w; a real operand gets the real part."""
    z = fb.tensor(numbers(4), requires_grad=True)
    w = numbers(4, seed=1)
    (z * z.conj()).real.sum().backward()
    assert close(z.grad, 2 * z.detach().numpy())
    (g,) = fb.autograd.grad((z * fb.tensor(w)).real.sum(), z)
    assert close(g, w.conj())
    x = fb.tensor([1.0, -2.0, 3.0, 0.5], dtype=fb.float64, requires_grad=True)
    (g,) = fb.autograd.grad((x * fb.tensor(w)).imag.sum(), x)
    assert close(g, np.ascontiguousarray(w.imag))
    (g,) = fb.autograd.grad(fb.view_as_real(z).square().sum(), z)
    assert close(g, 2 * z.detach().numpy())
    a = fb.tensor(numbers(3, 2), requires_grad=True)
    b = numbers(2, 3, seed=2)
    (g,) = fb.autograd.grad((a @ fb.tensor(b)).real.sum(), a)
    assert close(g, np.ones((3, 3)) @ b.conj().T)


def test_second_derivatives():
    """Of |z|^4 = (z conj z)^2: the gradient is 4 |z|^2 z; along v its own derivative is 4 |z|^2 v + 8 Re(conj(z) v) z."""
    z0, v = numbers(3), numbers(3, seed=1)
    z = fb.tensor(z0, requires_grad=True)
    (g,) = fb.autograd.grad(((z * z.conj()).real ** 2).sum(), z, create_graph=True)
    assert close(g, 4 * np.abs(z0) ** 2 * z0)
    (h,) = fb.autograd.grad((g * fb.tensor(v).conj()).real.sum(), z)
    assert close(h, 4 * np.abs(z0) ** 2 * v + 8 * (z0.conj() * v).real * z0)


def test_differences_agree():
    z = fb.tensor(numbers(2), requires_grad=True)
    assert fb.autograd.gradcheck(lambda x: (x.exp() * x.conj(), x.abs()), (z,))
    assert fb.autograd.gradgradcheck(lambda x: x.sqrt() / (x + 2), (z,))
    with pytest.raises(fb.autograd.gradcheck.__globals__["GradcheckError"]):
        fb.autograd.gradcheck(lambda x: x.real.detach() * x, (z,))


def test_a_gradient_needs_a_real_loss():
    z = fb.tensor([1j], requires_grad=True)
    with pytest.raises(RuntimeError, match="only for a real scalar"):
        (z * 2).sum().backward()
    (z * 2).sum().backward(fb.tensor(1j))
    assert z.grad.tolist() == [2j]


# ---- what is refused ----------------------------------------------------------------------------------------------


def test_what_has_no_meaning_is_refused():
    z = fb.tensor([1j, 2])
    for call in (lambda: z < z, lambda: fb.maximum(z, z), lambda: z.sort(), lambda: z.argmax(), lambda: z.cummax(0)):
        with pytest.raises(NotImplementedError, match="complex64"):
            call()
    half = fb.ones(2, dtype=fb.float16)
    for call in (lambda: fb.floor(z), lambda: z % 2, lambda: fb.imag(half), lambda: fb.complex(half, half)):
        with pytest.raises(RuntimeError):
            call()


def test_a_complex_number_is_never_cut_without_a_word():
    x = fb.ones(2)

    def store():
        x[0] = 1j

    calls = (lambda: fb.full((2,), 1j, dtype=fb.float32), lambda: x.fill_(1j), store, lambda: x.add_(1j))
    for call in (*calls, lambda: x.masked_fill(x > 0, 1j)):
        with pytest.raises(RuntimeError, match="complex"):
            call()
    with pytest.raises(TypeError, match="complex numbers are no values of float32"):
        fb.tensor([1j, 2], dtype=fb.float32)
    assert x.tolist() == [1, 1]


# ---- PyTorch ------------------------------------------------------------------------------------------------------


def test_values_and_gradients_are_those_of_pytorch():
    torch = pytest.importorskip("torch")
    x, y, w = numbers(12), numbers(12, seed=1), numbers(12, seed=2)
    functions = {name: lambda m, a, b, name=name: getattr(m, name)(a) for name in (*FUNCTIONS, "abs", "angle")}
    functions |= {
        "pow": lambda m, a, b: a**b,
        "div": lambda m, a, b: a / b,
        "vdot": lambda m, a, b: m.vdot(a, b),
        "matmul": lambda m, a, b: (a.reshape(3, 4) @ b.reshape(4, 3)).reshape(9),
        "prod": lambda m, a, b: a.prod(),
        "std": lambda m, a, b: a.std(),
        "norm": lambda m, a, b: a.norm(),
        "cumprod": lambda m, a, b: a.cumprod(0),
    }

    def run(m, f):
        a, b = (m.tensor(v, requires_grad=True) for v in (x, y))
        found = f(m, a, b)
        weights = m.tensor(w[: found.numel()]).reshape(found.shape)
        loss = (found * weights.conj()).real.sum()
        firsts = m.autograd.grad(loss, [a, b], create_graph=True, allow_unused=True)
        total = sum((g.abs() ** 2).sum() for g in firsts if g is not None)
        seconds = m.autograd.grad(total, [a, b], allow_unused=True) if total.requires_grad else ()
        return [t.detach().resolve_conj().numpy() for t in (found, *firsts, *seconds) if t is not None]

    for name, f in functions.items():
        with fb.compiler_options(mode="off"):
            found = run(fb, f)
        for ours, theirs in zip(found, run(torch, f), strict=True):
            assert np.allclose(ours, theirs, rtol=1e-9, atol=1e-9), name


def test_files_of_pytorch_that_wait_to_be_conjugated(tmp_path):
    torch = pytest.importorskip("torch")
    x = numbers(3, 2)
    t = torch.tensor(x)
    torch.save({"conj": t.conj(), "neg": t.clone().conj().imag, "plain": t.clone()}, tmp_path / "x.pt")
    found = fb.load(tmp_path / "x.pt")
    assert np.array_equal(found["conj"].numpy(), x.conj()) and np.array_equal(found["neg"].numpy(), -x.imag)
    fb.save({"x": found["plain"].T}, tmp_path / "y.pt")
    assert np.array_equal(torch.load(tmp_path / "y.pt")["x"].numpy(), x.T)


@pytest.mark.parametrize("call", [fb.sgn, fb.prod, fb.sum, fb.mean], ids=lambda f: f.__name__)
def test_nans_have_no_sign_on_any_tier(call):
    x = np.array([np.inf, -np.inf, 0.0, np.nan, 1.0]).astype(np.complex64)
    found = []
    for mode in ("off", "blocking"):
        with fb.compiler_options(mode=mode):
            found.append(call(fb.tensor(x)).numpy().tobytes())
            assert not np.signbit(
                np.frombuffer(found[-1], np.float32)[np.isnan(np.frombuffer(found[-1], np.float32))]
            ).any()
    assert found[0] == found[1]


@DTYPES
def test_lines_powers_and_sinc(dtype):
    wide = fb.complex128 if dtype is np.complex128 else fb.complex64
    assert close(fb.linspace(1 - 1j, 3 + 2j, 7, dtype=wide), np.linspace(1 - 1j, 3 + 2j, 7).astype(dtype))
    assert fb.linspace(0, 1j, 3).dtype is fb.complex64
    with pytest.raises(RuntimeError, match=r"\[linspace\] a complex end is no value of float32. Use a complex dtype"):
        fb.linspace(0, 1j, 3, dtype=fb.float32)
    x = numbers(3, dtype=dtype)
    for options in ((), (2, True)):
        assert close(fb.vander(fb.tensor(x), *options), np.vander(x, *options).astype(dtype))
    y = np.array([0, 0.1 + 0.05j, 2 + 1j, -3.5 - 0.25j, 0.5j], dtype)
    assert close(fb.sinc(fb.tensor(y)), np.sinc(y.astype(np.complex128)).astype(dtype))


def test_modules_of_complex_numbers():
    layer = fb.nn.Linear(2, 3)
    weight = layer.weight
    assert layer.to(fb.complex128).weight is weight and weight.dtype is fb.complex128
    x = numbers(4, 2)
    wanted = x @ weight.detach().numpy().T + layer.bias.detach().numpy()
    found = layer(fb.tensor(x))
    assert close(found, wanted)
    found.abs().sum().backward()
    assert weight.grad.dtype is fb.complex128 and layer.half().weight.dtype is fb.complex128  # as in PyTorch
    assert layer.to(fb.complex64).bias.dtype is fb.complex64
