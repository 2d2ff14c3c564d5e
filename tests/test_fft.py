"""Fourier transforms: against NumPy and sums, against PyTorch, derivatives, how their steps run, what is refused."""

import subprocess
import sys

import flambeau as fb
import numpy as np
import pytest
from flambeau.autograd import gradcheck, gradgradcheck
from flambeau.compiler.tools import report

pytestmark = [pytest.mark.accept("LIN-12"), pytest.mark.filterwarnings(r"error:\[compile\]:RuntimeWarning")]

RNG = np.random.default_rng(3)
REAL = RNG.normal(size=(3, 4, 6))
COMPLEX = REAL + 1j * RNG.normal(size=REAL.shape)
NAMES = ("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
FROM_REAL = ("rfft", "ihfft")


def operand(name):
    return REAL if name.startswith(FROM_REAL) else COMPLEX


def close(found, wanted, dtype=np.float64):
    assert found.shape == wanted.shape
    np.testing.assert_allclose(
        found.detach().numpy(), wanted, *((1e-4, 1e-5) if dtype is np.float32 else (1e-11, 1e-12))
    )


# ---- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [None, "ortho", "forward"])
@pytest.mark.parametrize("name", NAMES)
def test_lines_are_those_of_numpy(name, norm):
    x = operand(name)
    single = x.astype(np.complex64 if x.dtype.kind == "c" else np.float32)
    for given, dtype in ((x, np.float64), (single, np.float32)):
        for n, dim in ((None, -1), (5, -1), (9, 1), (1, 0), (2, -2)):
            call, theirs = getattr(fb.fft, name), getattr(np.fft, name)
            close(call(fb.tensor(given), n, dim, norm), theirs(given, n, dim, norm), dtype)


@pytest.mark.parametrize("norm", ["backward", "ortho"])
@pytest.mark.parametrize("name", [f"{n}{k}" for n in NAMES[:4] for k in "2n"])
def test_several_dimensions_are_those_of_numpy(name, norm):
    x = operand(name)
    call, theirs = getattr(fb.fft, name), getattr(np.fft, name)
    close(call(fb.tensor(x), norm=norm), theirs(x, norm=norm))
    close(call(fb.tensor(x), (5, 3), (0, 2), norm), theirs(x, (5, 3), (0, 2), norm))
    close(call(fb.tensor(x), None, (1, 0), norm), theirs(x, axes=(1, 0), norm=norm))


def test_hermitian_signals_in_several_dimensions():
    half = fb.tensor(COMPLEX)
    close(fb.fft.hfft2(half), fb.fft.hfft(fb.fft.fft(half, dim=-2)).numpy())
    close(fb.fft.hfftn(half), fb.fft.hfft(fb.fft.fft2(half, dim=(0, 1))).numpy())
    x = fb.tensor(REAL)
    close(fb.fft.ihfft2(x), fb.fft.ifft(fb.fft.ihfft(x), dim=-2).numpy())
    close(fb.fft.ihfftn(x), fb.fft.ifft2(fb.fft.ihfft(x), dim=(0, 1)).numpy())
    close(fb.fft.hfft(fb.fft.ihfft(x), 6), REAL)


def test_of_every_length_it_is_the_sum():
    for n in (*range(1, 14), 97, 128):  # small factors, and primes
        x = RNG.normal(size=n) + 1j * RNG.normal(size=n)
        sums = np.exp(-2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) @ x
        close(fb.fft.fft(fb.tensor(x)), sums)
        close(fb.fft.irfft(fb.fft.rfft(fb.tensor(x.real)), n), x.real)


def test_integers_bools_and_default_dtypes():
    x = fb.tensor([1, 0, 2, 3])
    assert fb.fft.fft(x).dtype is fb.complex64 and fb.fft.rfft(x > 0).dtype is fb.complex64
    assert fb.fft.irfft(x).dtype is fb.float32 and fb.fft.hfft(x.double()).dtype is fb.float64
    close(fb.fft.fft(x), np.fft.fft([1, 0, 2, 3]), np.float32)


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_frequencies_and_shifts_are_those_of_numpy(count):
    close(fb.fft.fftfreq(count, 0.3, dtype=fb.float64), np.fft.fftfreq(count, 0.3))
    close(fb.fft.rfftfreq(count, 0.3, dtype=fb.float64), np.fft.rfftfreq(count, 0.3))
    x = np.arange(count * 3.0).reshape(count, 3)
    for dim in (None, 0, (1,), (0, -1)):
        assert np.array_equal(fb.fft.fftshift(fb.tensor(x), dim).numpy(), np.fft.fftshift(x, dim))
        assert np.array_equal(fb.fft.ifftshift(fb.fft.fftshift(fb.tensor(x), dim), dim).numpy(), x)


# ---- gradients --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NAMES, "fft2", "rfftn", "irfftn"])
def test_derivatives_are_those_of_differences(name):
    x = operand(name)[0, :3, :4]
    x = fb.tensor(np.stack([x.real, x.imag], -1) if x.dtype.kind == "c" else x, requires_grad=True)

    def loss(x):
        x = x if name.startswith(FROM_REAL) else fb.view_as_complex(x)
        found = getattr(fb.fft, name)(x, **({"n": 5} if name in NAMES else {}))
        parts = fb.view_as_real(found) if found.dtype.is_complex else found
        return (parts * parts * parts).sum()

    assert gradcheck(loss, (x,), atol=1e-4, rtol=1e-4)
    if name in ("fft", "rfft", "irfft"):
        assert gradgradcheck(loss, (x,), atol=1e-3, rtol=1e-3)


def test_everything_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    for name in [f"{n}{k}" for n in NAMES for k in ("", "2", "n")]:
        many = name.endswith(("2", "n"))
        for options in ({}, {"s": (7, -1), "dim": (0, 2)} if many else {"n": 9, "dim": 1}):
            x = operand(name)
            theirs, ours = torch.from_numpy(x).requires_grad_(), fb.tensor(x, requires_grad=True)
            wanted, found = (
                getattr(torch.fft, name)(theirs, norm="ortho", **options),
                getattr(fb.fft, name)(ours, norm="ortho", **options),
            )
            close(found, wanted.detach().resolve_conj().numpy())
            ct = RNG.normal(size=tuple(wanted.shape)) * (1 if not wanted.is_complex() else 1 + 0.5j)
            wanted.backward(torch.from_numpy(ct))
            found.backward(fb.tensor(ct))
            close(ours.grad, theirs.grad.resolve_conj().numpy())


# ---- how steps run, and what is refused ---------------------------------------------------------------------------------


def test_a_transform_between_elementwise_ops_is_a_step_of_the_plan():
    x = fb.tensor(REAL)
    with fb.compiler_options(mode="blocking"):
        before = report.programs()
        found = (fb.fft.rfft(x * 2.0).abs() + 1.0).numpy()
    (program,) = [p for p in report.programs() if not any(p is known for known in before)]
    assert program.tier == "fused"
    np.testing.assert_allclose(found, np.abs(np.fft.rfft(REAL * 2)) + 1, 1e-11)


def test_bits_depend_neither_on_threads_nor_on_the_place_in_a_batch():
    x = RNG.normal(size=(400, 64)).astype(np.float32)
    before = fb.get_num_threads()
    try:
        found = []
        for count in (1, 2):
            fb.set_num_threads(count)
            found.append(fb.fft.fft(fb.tensor(x)).numpy().tobytes())
    finally:
        fb.set_num_threads(before)
    whole = np.frombuffer(found[0], np.complex64).reshape(400, 64)
    assert found[0] == found[1] and fb.fft.fft(fb.tensor(x[77])).numpy().tobytes() == whole[77].tobytes()


def test_without_elements_and_with_nan():
    assert fb.fft.fft(fb.zeros(0, 4)).shape == (0, 4) and fb.fft.rfft(fb.zeros(2, 0, 6)).shape == (2, 0, 4)
    assert fb.isnan(fb.fft.rfft(fb.tensor([1.0, float("nan"), 2.0])).real).all()


def test_out_is_filled():
    out = fb.empty(3, 4, 4, dtype=fb.complex128)
    assert fb.fft.rfft(fb.tensor(REAL), out=out) is out
    close(out, np.fft.rfft(REAL))


def test_what_is_not_taken_is_refused():
    x = fb.tensor(REAL)
    for call, kind, message in (
        (lambda: fb.fft.fft(x, 0), RuntimeError, r"\[fft\] the length is 0"),
        (
            lambda: fb.fft.rfft(fb.tensor(COMPLEX)),
            RuntimeError,
            r"\[rfft\] the input has dtype .*complex128, expected a real one",
        ),
        (lambda: fb.fft.fft(x, dim=3), IndexError, r"\[fft\] dim 3 is out of range"),
        (lambda: fb.fft.fftn(x, dim=(0, -3)), RuntimeError, r"\[fftn\] dims .* name a dimension twice"),
        (lambda: fb.fft.fftn(x, (2, 3), (0,)), RuntimeError, r"\[fftn\] 2 lengths for 1 dims"),
        (lambda: fb.fft.fft2(x, (2, 3, 4, 5), None), RuntimeError, r"\[fft2\] 4 lengths for a tensor of 3 dimensions"),
        (lambda: fb.fft.fft(x, norm="half"), RuntimeError, r"\[fft\] norm is 'half'"),
        (lambda: fb.fft.fft(x.half()), RuntimeError, r"\[fft\] the input has dtype flambeau.float16"),
        (lambda: fb.fft.fft(fb.tensor(1.0)), IndexError, r"\[fft\] the input is 0-d"),
        (lambda: fb.fft.fftfreq(0), RuntimeError, r"\[fftfreq\] n is 0"),
    ):
        with pytest.raises(kind, match=message):
            call()


def test_an_exported_program_has_no_transforms(tmp_path):
    with pytest.raises(Exception, match=r"fourier_real"):
        fb.export(lambda x: fb.view_as_real(fb.fft.rfft(x)), (fb.zeros(8),), tmp_path / "program")


def test_a_process_without_such_loops_says_so():
    code = (
        "import numpy.fft._pocketfft_umath as u; del u.irfft\n"
        "from flambeau.compiler.host_calls import fourier\n"
        "try: fourier.kernels()\n"
        "except RuntimeError as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "has no ufunc 'irfft'. Install a NumPy of version 2." in done.stdout, done.stderr


def test_changing_lengths_share_programs():
    """Lengths that keep changing become sizes of one program, whose gradients cut or fill up."""
    for n in (8, 5, 9, 12, 7, 10):
        x = fb.tensor(np.arange(1.0, 2 * n + 1).reshape(2, n), requires_grad=True)
        for length in (n, n - 2, n + 3):
            found = fb.fft.irfft(fb.fft.rfft(x, length) * 2.0, length)
            (grad,) = fb.autograd.grad((found * found).sum(), x)
            kept = np.zeros((2, length))
            kept[:, : min(n, length)] = x.detach().numpy()[:, :length]
            close(found, kept * 2)
            close(grad, np.where(np.arange(n) < length, x.detach().numpy() * 8, 0.0))


def test_vmap_and_forward_mode():
    x, t = fb.tensor(REAL[0]), fb.tensor(REAL[1])
    close(fb.func.vmap(fb.fft.rfft)(x), np.fft.rfft(REAL[0]))
    value, slope = fb.func.jvp(lambda x: fb.view_as_real(fb.fft.rfft(x)), (x,), (t,))
    wanted = np.fft.rfft(REAL[1])
    close(slope, np.stack([wanted.real, wanted.imag], -1))
    assert value.shape == slope.shape
