"""Maps at another size: `interpolate` and its older names, against PyTorch, and against sums written out in NumPy."""

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
import numpy as np
import pytest
from counting import new_programs

RNG = np.random.default_rng(5)

SIZES_1D = [{"size": 7}, {"size": 4}, {"scale_factor": 2}, {"scale_factor": 1.7}, {"scale_factor": 0.4}]
SIZES_1D += [{"scale_factor": 1.7, "recompute_scale_factor": True}]
SIZES_2D = [{"size": (7, 4)}, {"scale_factor": (0.6, 1.9)}, {"size": (2, 5)}]
MODES = [{"mode": "nearest"}, {"mode": "nearest-exact"}]
LINEAR = [{"mode": "linear", "align_corners": flag} for flag in (None, True)]
PLANES = [{"mode": m, "align_corners": a, "antialias": s} for m in ("bilinear", "bicubic") for a in (None, True)
    for s in (False, True)]  # fmt: skip

CASES = [((2, 3, 8), {**m, **s}) for m in [*MODES, *LINEAR, {"mode": "area"}] for s in SIZES_1D]
CASES += [((1, 2, 8, 5), {**m, **s}) for m in [*MODES, *PLANES] for s in SIZES_2D]
CASES += [((1, 2, 3, 4, 5), {"mode": m, "size": (4, 6, 3)}) for m in ("trilinear", "nearest", "area")]


@pytest.mark.accept("NN-49")
def test_values_and_gradients_are_those_of_torch():
    torch = pytest.importorskip("torch")
    for shape, named in CASES:
        data = RNG.standard_normal(shape)
        x, y = fb.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
        found, wanted = F.interpolate(x, **named), torch.nn.functional.interpolate(y, **named)
        np.testing.assert_allclose(found.tolist(), wanted.tolist(), rtol=1e-11, atol=1e-12, err_msg=str(named))
        weights = np.cos(np.arange(wanted.numel())).reshape(wanted.shape)
        (found * fb.tensor(weights)).sum().backward()
        (wanted * torch.tensor(weights)).sum().backward()
        np.testing.assert_allclose(x.grad.tolist(), y.grad.tolist(), rtol=1e-11, atol=1e-12, err_msg=str(named))


def at(a, i):
    return a[min(max(i, 0), len(a) - 1)]


def linear(a, m, aligned):
    found = []
    for i in range(m):
        place = i * (len(a) - 1) / (m - 1) if aligned else max((i + 0.5) * len(a) / m - 0.5, 0.0)
        k = int(place)
        found.append((1 - (place - k)) * at(a, k) + (place - k) * at(a, k + 1))
    return found


def cubic(a, m):
    def weight(t):
        t, s = abs(t), -0.75
        near, far = ((s + 2) * t - (s + 3)) * t * t + 1, s * (((t - 5) * t + 8) * t - 4)
        return near if t <= 1 else far if t < 2 else 0.0

    places = [(i + 0.5) * len(a) / m - 0.5 for i in range(m)]
    return [sum(weight(p - k) * at(a, k) for k in range(int(np.floor(p)) - 1, int(np.floor(p)) + 3)) for p in places]


def smooth(a, m):
    step, found = len(a) / m, []
    for i in range(m):
        weights = np.maximum(1 - np.abs((np.arange(len(a)) + 0.5 - (i + 0.5) * step) / max(step, 1.0)), 0)
        found.append((weights * a).sum() / weights.sum())
    return found


@pytest.mark.accept("NN-49")
@pytest.mark.parametrize(("n", "m"), [(5, 8), (8, 5), (3, 12), (12, 3)])
def test_one_axis_by_hand(n, m):
    a = RNG.standard_normal(n)

    def resized(**named):
        return F.interpolate(fb.tensor(a.reshape(1, 1, n)), m, **named).numpy().ravel()

    def of_a_plane(**named):
        return F.interpolate(fb.tensor(a.reshape(1, 1, n, 1)), (m, 1), **named).numpy().ravel()

    assert resized().tolist() == [a[i * n // m] for i in range(m)]
    assert resized(mode="nearest-exact").tolist() == [a[(2 * i + 1) * n // (2 * m)] for i in range(m)]
    np.testing.assert_allclose(resized(mode="linear"), linear(a, m, False), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(resized(mode="linear", align_corners=True), linear(a, m, True), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(of_a_plane(mode="bicubic"), cubic(a, m), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(of_a_plane(mode="bilinear", antialias=True), smooth(a, m), rtol=1e-12, atol=1e-14)


def test_an_infinity_stays_with_its_neighbours():
    """A product by weights that are mostly 0 would make NaN of all of a row."""
    a = np.arange(8.0).reshape(1, 1, 1, 8)
    a[..., 0] = np.inf
    for named in ({}, {"antialias": True}):
        found = F.interpolate(fb.tensor(a), (1, 16), mode="bilinear", **named).numpy().ravel()
        assert not np.isnan(found).any() and np.isfinite(found[3:]).all()


def test_second_derivatives_pass_through():
    x = fb.tensor(RNG.standard_normal((1, 1, 3, 4)), requires_grad=True)
    for mode in ("bilinear", "bicubic", "nearest"):
        (g,) = fb.autograd.grad((F.interpolate(x, scale_factor=2, mode=mode) ** 3).sum(), x, create_graph=True)
        (second,) = fb.autograd.grad(g.sum(), x)
        ones = fb.ones_like(x)
        at_x = F.interpolate(x.detach(), scale_factor=2, mode=mode)
        wanted = fb.autograd.grad((F.interpolate(x, scale_factor=2, mode=mode)
            * 6 * at_x * F.interpolate(ones, scale_factor=2, mode=mode)).sum(), x)[0]  # fmt: skip
        np.testing.assert_allclose(second.numpy(), wanted.numpy(), rtol=1e-10, atol=1e-10)


def test_dtypes():
    whole = fb.arange(6).reshape(1, 1, 2, 3)
    assert (
        F.interpolate(whole, scale_factor=2)[0, 0].tolist()
        == np.arange(6).reshape(2, 3).repeat(2, 0).repeat(2, 1).tolist()
    )
    half = F.interpolate(whole.half(), size=(4, 4), mode="bilinear")
    assert half.dtype is fb.float16
    wanted = F.interpolate(whole.double(), size=(4, 4), mode="bilinear").numpy()
    np.testing.assert_allclose(half.numpy(), wanted, rtol=1e-3)
    with pytest.raises(RuntimeError, match=r"\[interpolate\] input has dtype flambeau.int64, expected a floating"):
        F.interpolate(whole, size=(4, 4), mode="bilinear")


@pytest.mark.parametrize(
    ("shape", "named", "error", "text"),
    [
        ((1, 1, 4), {"size": 3, "mode": "cubic"}, NotImplementedError, "mode is 'cubic'"),
        ((1, 1, 4), {"size": 3, "align_corners": False}, ValueError, "align_corners is False with mode 'nearest'"),
        ((1, 1, 4), {"size": 3, "scale_factor": 2}, ValueError, "both are given"),
        ((1, 1, 4), {"size": 3, "recompute_scale_factor": True}, ValueError, "recompute_scale_factor is True with"),
        ((1, 1, 4), {"size": 3, "antialias": True}, ValueError, "antialias is True with mode 'nearest'"),
        ((1, 4), {"size": 3}, NotImplementedError, "input has 2 dimensions"),
        ((1, 1, 4, 4), {"scale_factor": (2, 2, 2)}, ValueError, "2 spatial dimensions"),
        ((1, 1, 4), {"scale_factor": 0.1}, RuntimeError, "Use sizes of at least 1"),
        ((1, 1, 4), {"scale_factor": -1.0, "mode": "linear"}, RuntimeError, "Use sizes of at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(shape, named, error, text):
    with pytest.raises(error) as caught:
        F.interpolate(fb.zeros(shape), **named)
    assert text in str(caught.value)


def test_older_names():
    x = fb.tensor(RNG.standard_normal((1, 2, 3, 4)))
    with pytest.warns(UserWarning, match="older name"):
        assert F.upsample(x, scale_factor=2, mode="bilinear").tolist() == F.interpolate(
            x, scale_factor=2, mode="bilinear").tolist()  # fmt: skip
    with pytest.warns(UserWarning, match="older name"):
        assert F.upsample_nearest(x, 5).tolist() == F.interpolate(x, 5).tolist()
    with pytest.warns(UserWarning, match="older name"):
        assert F.upsample_bilinear(x, 5).tolist() == F.interpolate(x, 5, None, "bilinear", True).tolist()


@pytest.mark.accept("NN-49")
def test_layers():
    x = fb.tensor(RNG.standard_normal((1, 2, 3, 4)))
    made = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
    assert made(x).tolist() == F.interpolate(x, None, 2, "bilinear", True).tolist()
    assert repr(made) == "Upsample(scale_factor=2.0, mode='bilinear')" and made.name == "Upsample"
    assert nn.UpsamplingNearest2d(5)(x).tolist() == F.interpolate(x, 5).tolist()
    assert nn.UpsamplingBilinear2d(scale_factor=2)(x).tolist() == made(x).tolist()
    assert repr(nn.UpsamplingBilinear2d((5, 6))) == "UpsamplingBilinear2d(size=(5, 6), mode='bilinear')"
    assert nn.Upsample(scale_factor=(2, 1)).scale_factor == (2.0, 1.0)


def test_changing_sizes_share_a_program():
    """Positions are counted by the kernel, so that sizes are no part of what is compiled once they have changed a few times."""

    def check(n):
        a = RNG.standard_normal((1, 1, n))
        found = F.interpolate(fb.tensor(a), 20 + n, mode="linear").numpy().ravel()
        np.testing.assert_allclose(found, linear(a.ravel(), 20 + n, False), rtol=1e-12, atol=1e-14)

    made = [len(new_programs(lambda n=n: check(n))) for n in range(4, 16)]
    assert not any(made[-4:]), made
