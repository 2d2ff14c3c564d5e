"""Fractional pooling, poolings with indices, samples of classes, and the softmax over clusters of classes."""

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
import numpy as np
import pytest

RNG = np.random.default_rng(21)


# ---- fractional pooling ---------------------------------------------------------------------------------------


def begins(u, extent, count, size):
    if count == 1:
        return [extent - size]
    step = (extent - size) / (count - 1)
    return [*(int((i + u) * step) - int(u * step) for i in range(count - 1)), extent - size]


def test_fractional_windows_by_hand():
    x, drawn = RNG.standard_normal((2, 7, 9)), RNG.uniform(size=(1, 2, 2))
    found, at = F.fractional_max_pool2d(fb.tensor(x), (2, 3), (3, 4), None, True, fb.tensor(drawn))
    for c in range(2):
        rows, columns = begins(drawn[0, c, 1], 7, 3, 2), begins(drawn[0, c, 0], 9, 4, 3)
        wanted = [[x[c, i : i + 2, j : j + 3].max() for j in columns] for i in rows]
        assert found[c].tolist() == wanted and x[c].ravel()[at[c].numpy()].tolist() == wanted


@pytest.mark.parametrize(("rank", "shape", "size"), [(2, (2, 3, 7, 9), (3, 4)), (3, (1, 2, 5, 6, 7), (2, 1, 4))])
def test_fractional_pooling_is_that_of_torch(rank, shape, size):
    torch = pytest.importorskip("torch")
    name, data, drawn = f"fractional_max_pool{rank}d", RNG.standard_normal(shape), RNG.uniform(size=(*shape[:2], rank))
    x, y = fb.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    found, at = getattr(F, name)(x, 2, size, None, True, fb.tensor(drawn))
    wanted, places = getattr(torch.nn.functional, name)(y, 2, size, None, True, torch.tensor(drawn))
    assert found.tolist() == wanted.tolist() and at.tolist() == places.tolist()
    (found**2).sum().backward()
    (wanted**2).sum().backward()
    assert x.grad.tolist() == y.grad.tolist()


def test_layers_of_fractional_pooling():
    x = fb.tensor(RNG.standard_normal((2, 3, 8, 8)))
    assert nn.FractionalMaxPool2d(2, output_ratio=(0.5, 0.25))(x).shape == (2, 3, 4, 2)
    drawn = fb.tensor(RNG.uniform(size=(2, 3, 2)))
    made = nn.FractionalMaxPool2d(2, 3, return_indices=True, _random_samples=drawn)
    found, at = made(x)
    wanted = F.fractional_max_pool2d_with_indices(x, 2, 3, _random_samples=drawn)
    assert found.tolist() == wanted[0].tolist() and at.tolist() == wanted[1].tolist()
    assert nn.FractionalMaxPool3d(2, 2)(fb.zeros(1, 2, 4, 4, 4)).shape == (1, 2, 2, 2, 2)
    for given, text in (({}, "neither is given"), ({"output_size": 2, "output_ratio": 0.5}, "both are given"),
                        ({"output_ratio": 1.5}, "Use numbers between 0 and 1")):  # fmt: skip
        with pytest.raises(ValueError, match=rf"\[FractionalMaxPool2d\] .*{text}"):
            nn.FractionalMaxPool2d(2, **given)


@pytest.mark.accept("NN-30", "NN-31", "NN-33")
@pytest.mark.parametrize("name", ["max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "adaptive_max_pool3d"])  # fmt: skip
def test_poolings_with_indices(name):
    x = fb.tensor(RNG.standard_normal((1, 2, *(4, 5, 6)[: int(name[-2])])))
    found, wanted = getattr(F, f"{name}_with_indices")(x, 2), getattr(F, name)(x, 2, return_indices=True)
    assert [f.tolist() for f in found] == [w.tolist() for w in wanted]


# ---- samples of classes -------------------------------------------------------------------------------------------


def test_samples_of_classes_follow_their_probabilities():
    fb.manual_seed(5)
    wanted = np.array([0.1, 0.2, 0.7])
    logits = fb.tensor(np.log(wanted)).expand(20000, 3)
    found = F.gumbel_softmax(logits, hard=True).numpy()
    assert set(np.unique(found.round(6))) == {0.0, 1.0} and np.allclose(found.sum(1), 1)
    np.testing.assert_allclose(found.mean(0), wanted, atol=0.015)
    soft = F.gumbel_softmax(logits, tau=0.5)
    assert np.allclose(soft.sum(1).numpy(), 1) and soft.numpy().min() >= 0


def test_hard_samples_have_the_gradient_of_soft_ones():
    def gradient(hard):
        fb.manual_seed(9)
        x = fb.tensor([[0.5, -1.0, 2.0]], requires_grad=True)
        (F.gumbel_softmax(x, 0.7, hard) * fb.tensor([1.0, 2.0, 3.0])).sum().backward()
        return x.grad.numpy()

    np.testing.assert_allclose(gradient(True), gradient(False), rtol=1e-6)
    assert np.abs(gradient(True)).max() > 1e-4
    with pytest.warns(UserWarning, match="eps"):
        F.gumbel_softmax(fb.zeros(2), eps=1e-5)
    assert F.gumbel_softmax(fb.zeros(2, 3).half()).dtype is fb.float16


# ---- clusters of classes -------------------------------------------------------------------------------------------


def clusters(make):
    fb.manual_seed(2)
    return make.AdaptiveLogSoftmaxWithLoss(16, 20, [4, 10], div_value=2.0, head_bias=True)


def test_clusters_of_classes_have_the_probabilities_of_one_softmax():
    made, x = clusters(nn).double(), fb.tensor(RNG.standard_normal((6, 16)))
    every = made.log_prob(x)
    np.testing.assert_allclose(every.exp().sum(1).tolist(), np.ones(6), rtol=1e-12)
    target = fb.tensor([0, 3, 4, 9, 10, 19])
    output, loss = made(x, target)
    np.testing.assert_allclose(output.tolist(), every.detach().numpy()[np.arange(6), target.numpy()], rtol=1e-12)
    assert loss.item() == pytest.approx(-output.mean().item()) and made(x, target).loss.item() == loss.item()
    assert made.predict(x).tolist() == every.argmax(1).tolist()
    one = made(x[2], target[2])
    assert one.output.item() == pytest.approx(output[2].item()) and one.output.ndim == 0
    with pytest.raises(IndexError, match="out of range"):
        made(x, fb.full((6,), 20)).loss.item()
    with pytest.raises(RuntimeError, match=r"\[AdaptiveLogSoftmaxWithLoss\] input has shape \(6, 16\), target \(5,\)"):
        made(x, target[:5])
    for wrong in ([], [4, 4], [5, 3], [0, 3], [20]):
        with pytest.raises(ValueError, match=r"\[AdaptiveLogSoftmaxWithLoss\] cutoffs are"):
            nn.AdaptiveLogSoftmaxWithLoss(8, 20, wrong)


def test_clusters_of_classes_are_those_of_torch():
    torch = pytest.importorskip("torch")
    made, other = clusters(nn).double(), clusters(torch.nn).double()
    assert list(made.state_dict()) == list(other.state_dict())
    other.load_state_dict({k: torch.tensor(v.numpy()) for k, v in made.state_dict().items()})
    data, target = RNG.standard_normal((6, 16)), [0, 3, 4, 9, 10, 19]
    x, y = fb.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    found, wanted = made(x, fb.tensor(target)), other(y, torch.tensor(target))
    np.testing.assert_allclose(found.output.tolist(), wanted.output.tolist(), rtol=1e-12)
    found.loss.backward()
    wanted.loss.backward()
    np.testing.assert_allclose(x.grad.tolist(), y.grad.tolist(), rtol=1e-10, atol=1e-14)
    for p, q in zip(made.parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.tolist(), q.grad.tolist(), rtol=1e-10, atol=1e-14)


# ---- older names ----------------------------------------------------------------------------------------------------


def test_convolutions_of_steps_first():
    x, w, b = (fb.tensor(RNG.standard_normal(s)) for s in ((6, 2, 3), (3, 3, 4), (4,)))
    found = F.conv_tbc(x, w, b, 1)
    wanted = F.conv1d(x.permute(1, 2, 0), w.permute(2, 1, 0), b, padding=1).permute(2, 0, 1)
    assert found.tolist() == wanted.tolist() and found.shape == (6, 2, 4)
    assert F.native_channel_shuffle is F.channel_shuffle
