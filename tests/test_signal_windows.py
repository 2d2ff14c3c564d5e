"""`signal.windows` beside NumPy's windows, and PyTorch's; and other names that PyTorch has for what is there."""

import flambeau as fb
import numpy as np
import pytest

WINDOWS = {
    "bartlett": {},
    "blackman": {},
    "cosine": {},
    "exponential": {"tau": 2.0},
    "gaussian": {"std": 1.5},
    "general_cosine": {"a": [0.5, 0.3, 0.2]},
    "general_hamming": {"alpha": 0.6},
    "hamming": {},
    "hann": {},
    "kaiser": {"beta": 5.0},
    "nuttall": {},
}


@pytest.mark.parametrize("name", ["bartlett", "blackman", "hamming", "hann", "kaiser"])
def test_windows_are_numpys(name):
    for n in (1, 2, 7, 8):
        found = getattr(fb.signal.windows, name)(n, **WINDOWS[name], dtype=fb.float64)
        wanted = np.kaiser(n, 5.0) if name == "kaiser" else getattr(np, {"hann": "hanning"}.get(name, name))(n)
        np.testing.assert_allclose(found.numpy(), wanted, atol=1e-15)


@pytest.mark.parametrize("name", WINDOWS)
def test_windows_are_pytorchs(name):
    whole = getattr(fb.signal.windows, name)(9, **WINDOWS[name], dtype=fb.float64)
    periodic = getattr(fb.signal.windows, name)(8, **WINDOWS[name], sym=False, dtype=fb.float64)
    if name != "exponential":
        assert periodic.tolist() == whole[:-1].tolist()
    torch = pytest.importorskip("torch")
    for n, sym in ((0, True), (1, False), (6, True), (7, False)):
        wanted = getattr(torch.signal.windows, name)(n, **WINDOWS[name], sym=sym, dtype=torch.float64).numpy()
        found = getattr(fb.signal.windows, name)(n, **WINDOWS[name], sym=sym, dtype=fb.float64)
        np.testing.assert_allclose(found.numpy(), wanted, atol=1e-14)


def test_refusals_of_windows():
    windows = fb.signal.windows
    for call, message in (
        (lambda: windows.hann(-1), r"\[hann\] M is -1\. Give at least 0"),
        (lambda: windows.hann(3, dtype=fb.int64), r"\[hann\] dtype is flambeau.int64\. Use float32 or float64"),
        (lambda: windows.gaussian(3, std=0), r"\[gaussian\] std is 0\. Give a number above 0"),
        (lambda: windows.kaiser(3, beta=-1), r"\[kaiser\] beta is -1\. Give at least 0"),
        (lambda: windows.exponential(3, center=1.0), r"\[exponential\] center is 1.0, and the window is symmetric"),
        (lambda: windows.general_cosine(3, a=()), r"\[general_cosine\] a is empty"),
        (lambda: windows.cosine(3, layout="sparse"), r"\[cosine\] layout is 'sparse'"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert windows.hann(3, requires_grad=True).requires_grad


def test_other_names_of_what_is_there():
    x = fb.tensor([[1.0, -2.0], [float("nan"), 0.0]])
    assert fb.angle(x)[0].tolist() == [0.0, np.float32(np.pi)] and np.isnan(x.angle()[1, 0].item())
    assert fb.angle(fb.tensor([-3, 3])).dtype is fb.float32
    assert x.H.shape == x.mH.shape == (2, 2) and fb.ones(2, 3).mH.shape == (3, 2)
    with pytest.raises(RuntimeError, match=r"\[H\] the tensor has 3 dimensions"):
        fb.ones(1, 2, 3).H  # noqa: B018
    assert fb.fill(x, 3).tolist() == [[3, 3], [3, 3]] and x[0, 0].item() == 1.0
    assert fb.fill_(x[0], 4) is not None and fb.zero_(x[1]).tolist() == [0, 0] and x.tolist() == [[4, 4], [0, 0]]
    assert fb.scalar_tensor(2).dtype is fb.float32 and fb.constant_pad_nd(x, (1, 0), 7.0)[0].tolist() == [7, 4, 4]
    assert [p.shape for p in fb.split_with_sizes(fb.ones(5), [2, 3])] == [(2,), (3,)]
    assert x.int(memory_format=fb.preserve_format).dtype is fb.int32


def test_bins_of_one_number():
    counts, edges = fb.histogram(fb.tensor([2.0]), 2)
    assert counts.tolist() == [0, 1] and edges.tolist() == [1.5, 2.0, 2.5]
    assert fb.histogram(fb.zeros(0), 2).bin_edges.tolist() == [0.0, 0.5, 1.0]
    assert fb.histogram(fb.tensor([2.0, 5.0]), 1, range=(2.0, 2.0)).bin_edges.tolist() == [1.5, 2.5]
    assert fb.histc(fb.tensor([2.0]), 2).tolist() == [0, 1]
