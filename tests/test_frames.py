"""Short-time Fourier transforms against sums written out in NumPy, back again, and beside PyTorch; what ATen shows beside them."""

import flambeau as fb
import numpy as np
import pytest

SIGNAL = np.random.default_rng(0).normal(size=(2, 40))
WINDOW = np.hanning(10)[1:-1]


def frames(x, n, hop, window, center):
    """[B, frequencies, frames] by `np.fft`."""
    x = np.pad(x, ((0, 0), (n // 2, n // 2)), "reflect") if center else x
    count = (x.shape[-1] - n) // hop + 1
    return np.stack([np.fft.rfft(x[:, i * hop : i * hop + n] * window) for i in range(count)], -1)


@pytest.mark.parametrize("center", [True, False])
def test_frames_are_transformed(center):
    x, window = fb.tensor(SIGNAL), fb.tensor(WINDOW)
    found = fb.stft(x, 8, 3, window=window, center=center, return_complex=True)
    wanted = frames(SIGNAL, 8, 3, WINDOW, center)
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-12)
    normalized = x.stft(8, 3, window=window, center=center, normalized=True, return_complex=False)
    np.testing.assert_allclose(normalized[..., 1].numpy(), wanted.imag / 8**0.5, atol=1e-12)
    short = fb.stft(x[0], 10, 3, 8, window, center=center, onesided=False, return_complex=True)
    np.testing.assert_allclose(short[:6].numpy(), frames(SIGNAL[:1], 10, 3, np.pad(WINDOW, 1), center)[0], atol=1e-12)


@pytest.mark.parametrize("normalized", [True, False])
def test_the_signal_comes_back_with_its_gradient(normalized):
    x, window = fb.tensor(SIGNAL, requires_grad=True), fb.tensor(WINDOW)
    spectra = fb.stft(x, 8, 2, window=window, normalized=normalized, return_complex=True)
    back = fb.istft(spectra, 8, 2, window=window, normalized=normalized, length=40)
    np.testing.assert_allclose(back.detach().numpy(), SIGNAL, atol=1e-12)
    (back * fb.tensor(SIGNAL)).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), SIGNAL, atol=1e-12)
    longer = fb.istft(spectra, 8, 2, window=window, normalized=normalized, length=50)
    assert longer.shape == (2, 50) and longer[:, 45:].abs().max().item() == 0


@pytest.mark.parametrize("options", [{}, {"center": False, "hop_length": 3}, {"length": 21}, {"normalized": True}])
def test_signals_and_gradients_are_those_of_pytorch(options):
    torch = pytest.importorskip("torch", reason="could not import 'torch'")
    given = np.random.default_rng(1).normal(size=(2, 5, 7)) + 1j * np.random.default_rng(2).normal(size=(2, 5, 7))

    def run(module):
        z = module.tensor(given, requires_grad=True)
        window = module.tensor(WINDOW + 0.1)
        made = module.istft(z, 8, window=window, **options)
        (made**2).sum().backward()
        return made.detach().numpy(), z.grad.resolve_conj().numpy()

    for mine, theirs in zip(run(fb), run(torch)):
        np.testing.assert_allclose(mine, theirs, atol=1e-10)


def test_statistics_that_aten_gives_beside_norms():
    x = np.random.default_rng(3).normal(size=(3, 4, 5))
    t, nothing = fb.tensor(x), None
    found, mean, scale = fb.native_layer_norm(t, (4, 5), nothing, nothing, 1e-5)
    wanted = 1 / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(scale.numpy(), wanted)
    np.testing.assert_allclose(found.numpy(), (x - mean.numpy()) * wanted, atol=1e-12)
    _, mean, scale = fb.native_group_norm(t, nothing, nothing, 3, 4, 5, 2, 1e-5)
    np.testing.assert_allclose(mean.numpy(), x.reshape(3, 2, 10).mean(-1), atol=1e-12)
    _, mean, scale = fb.native_batch_norm(t, nothing, nothing, nothing, nothing, True, 0.1, 1e-5)
    np.testing.assert_allclose(scale.numpy(), 1 / np.sqrt(x.var((0, 2)) + 1e-5))


def test_private_names_that_programs_call():
    y = fb.tensor([[0.25, 0.75]])
    assert fb._softmax_backward_data(fb.tensor([[1.0, 0.0]]), y, 1, fb.float32).tolist() == [[0.1875, -0.1875]]
    x, at, mask = fb.tensor([1.0, 2.0, 3.0]), [fb.tensor([2, 5])], fb.tensor([True, False])
    assert fb._unsafe_masked_index(x, mask, at, -1.0).tolist() == [3, -1]
    assert fb._unsafe_masked_index_put_accumulate(x, mask, at, fb.tensor([10.0, 20.0])).tolist() == [1, 2, 13]
