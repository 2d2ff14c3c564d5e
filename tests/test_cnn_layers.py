"""Layers that a convolutional net has beside convolutions: beside PyTorch's, and trained with and without looks."""

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
import numpy as np
import pytest
from flambeau import inline
from flambeau.dialects.record import REGISTRY, Kind

RNG = np.random.default_rng(11)

#: module name, arguments, shape of the input
LAYERS = [
    ("MaxPool2d", (3, 2, 1), {}, (2, 3, 7, 8)),
    ("MaxPool1d", (2,), {"ceil_mode": True}, (2, 3, 7)),
    ("AvgPool2d", (3, 2, 1), {"count_include_pad": False}, (2, 3, 7, 8)),
    ("AvgPool3d", (2,), {"ceil_mode": True, "divisor_override": 3}, (2, 3, 4, 5, 3)),
    ("LPPool2d", (2.0, 2), {}, (2, 3, 4, 6)),
    ("AdaptiveAvgPool2d", ((3, None),), {}, (2, 3, 7, 4)),
    ("AdaptiveMaxPool1d", (4,), {}, (2, 3, 7)),
    pytest.param("Unfold", (2,), {"padding": 1, "stride": 2}, (2, 3, 4, 5), marks=pytest.mark.accept("IDX-10")),
    pytest.param("Fold", ((4, 5), 2), {}, (2, 8, 12), marks=pytest.mark.accept("IDX-10")),
    ("BatchNorm1d", (3,), {}, (4, 3)),
    ("BatchNorm1d", (3,), {"affine": False}, (4, 3, 5)),
    ("BatchNorm2d", (3,), {"momentum": None}, (4, 3, 5, 2)),
    ("BatchNorm3d", (3,), {"track_running_stats": False}, (2, 3, 2, 3, 2)),
    ("GroupNorm", (2, 4), {}, (3, 4, 5)),
    ("InstanceNorm1d", (3,), {"affine": True, "track_running_stats": True}, (2, 3, 5)),
    ("InstanceNorm2d", (3,), {}, (3, 4, 2)),
    ("RMSNorm", (5,), {}, (3, 5)),
    ("LocalResponseNorm", (3,), {"alpha": 0.5}, (2, 5, 4)),
    ("LocalResponseNorm", (2,), {}, (2, 5, 4, 3)),
    ("Softmin", (1,), {}, (2, 3)),
    ("Softmax2d", (), {}, (2, 3, 2, 2)),
    ("Softsign", (), {}, (2, 3)),
    ("Tanhshrink", (), {}, (2, 3)),
    ("Softshrink", (), {}, (2, 3)),
    ("Hardshrink", (0.7,), {}, (2, 3)),
    ("Threshold", (0.8, 20), {}, (2, 3)),
    ("GLU", (1,), {}, (2, 4)),
    ("PixelShuffle", (2,), {}, (2, 4, 2, 3)),
    ("PixelUnshuffle", (2,), {}, (2, 1, 4, 2)),
    ("ChannelShuffle", (2,), {}, (2, 4, 3)),
    ("ZeroPad2d", ((1, 2, 0, 1),), {}, (2, 3, 4, 5)),
    ("ConstantPad1d", (2, 1.5), {}, (2, 3, 4)),
    ("ReflectionPad2d", (2,), {}, (2, 3, 4, 5)),
    ("ReplicationPad3d", (1,), {}, (1, 2, 2, 3, 2)),
    ("CircularPad1d", ((1, 3),), {}, (2, 3, 4)),
]


def _layers(torch, name, arguments, named):
    """A layer, PyTorch's, and equal parameters that are not the ones they start from."""
    ours, theirs = getattr(nn, name)(*arguments, **named), getattr(torch.nn, name)(*arguments, **named)
    assert [k for k, _ in ours.named_parameters()] == [k for k, _ in theirs.named_parameters()]
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert repr(ours) == repr(theirs)
    for (_, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert p.tolist() == q.tolist()
        changed = RNG.normal(size=tuple(p.shape)).astype(np.float32)
        p.data.copy_(fb.tensor(changed))
        q.data.copy_(torch.tensor(changed))
    return ours, theirs


@pytest.mark.accept("NN-31", "NN-32", "NN-36", "NN-48")
@pytest.mark.parametrize(("name", "arguments", "named", "shape"), LAYERS, ids=lambda x: x if isinstance(x, str) else "")
def test_a_layer_gives_what_that_of_pytorch_does(name, arguments, named, shape):
    """Results, gradients and buffers of two steps of training, then of evaluation."""
    torch = pytest.importorskip("torch")
    ours, theirs = _layers(torch, name, arguments, named)
    for k in range(3):
        if k == 2:
            ours.eval(), theirs.eval()
        data = RNG.uniform(0.1, 2.0, size=shape).astype(np.float32)
        x, y = fb.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
        found, wanted = ours(x), theirs(y)
        weights = RNG.normal(size=tuple(wanted.shape)).astype(np.float32)
        (found * fb.tensor(weights)).sum().backward()
        (wanted * torch.tensor(weights)).sum().backward()
        np.testing.assert_allclose(found.detach().numpy(), wanted.detach().numpy(), rtol=2e-5, atol=2e-5)
        np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=2e-4, atol=2e-4)
        for (_, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=2e-4, atol=2e-4)
        for key, buffer in theirs.state_dict().items():
            np.testing.assert_allclose(ours.state_dict()[key].numpy(), buffer.numpy(), rtol=2e-5, atol=1e-6)


def _trained(mode: str, looks: bool) -> list[bytes]:
    """Losses and parameters of a small net after four steps."""
    fb.manual_seed(3)
    net = nn.Sequential(
        *(nn.ReflectionPad2d(1), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Dropout2d(0.3)),
        *(nn.AvgPool2d(2, 1), nn.GroupNorm(1, 2), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8, 3)),
    )
    optimizer, losses = fb.optim.SGD(net.parameters(), lr=0.1, momentum=0.9), []
    data = np.random.default_rng(5).normal(size=(4, 3, 2, 6, 8)).astype(np.float32)
    with fb.compiler_options(mode=mode):
        for batch in data:
            optimizer.zero_grad()
            found = fb.tensor(batch)
            for layer in net:
                found = layer(found)
                if looks:
                    found.sum().item()
            loss = F.cross_entropy(found, fb.tensor([0, 2, 1]))
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
    return [x.numpy().tobytes() for x in (*losses, *net.state_dict().values())]


def test_looks_and_tiers_change_no_bit_of_a_net_that_pools_and_normalizes():
    assert _trained("blocking", False) == _trained("blocking", True) == _trained("off", True) == _trained("off", False)


@pytest.mark.accept("NN-38")
def test_channels_are_dropped_whole_and_alpha_dropout_keeps_mean_and_variance():
    x = fb.ones(40, 30, 5, requires_grad=True)
    found = F.dropout1d(x, 0.25)
    found.sum().backward()
    rows = found.detach().numpy().reshape(-1, 5)
    assert np.allclose(rows, rows[:, :1]) and 0.15 < (rows[:, 0] == 0).mean() < 0.35
    assert np.allclose(rows[rows != 0], 1 / 0.75) and np.array_equal(x.grad.numpy(), found.detach().numpy())
    normal = fb.tensor(RNG.normal(size=(200, 300)).astype(np.float32))
    kept = F.alpha_dropout(normal, 0.3, True).numpy()
    assert abs(kept.mean()) < 0.02 and abs(kept.var() - 1) < 0.02
    assert F.feature_alpha_dropout(x, 0.3) is x and F.dropout2d(x, 0.5, False) is x


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: nn.BatchNorm2d(3)(fb.zeros(3, 3)), "[BatchNorm2d] input has 2 dimensions. Pass a 4D tensor."),
        (lambda: nn.BatchNorm1d(3)(fb.zeros(1, 3)), "more than one value per channel"),
        (lambda: nn.GroupNorm(2, 3), "[GroupNorm] 3 channels are no 2 groups."),
        (
            lambda: nn.InstanceNorm1d(4, affine=True)(fb.zeros(2, 3, 2)),
            "[InstanceNorm1d] input has 3 channels, the module 4.",
        ),
        (lambda: F.dropout2d(fb.zeros(2, 2), 2.0), "[dropout2d] p is 2.0."),
    ],
)
def test_what_does_not_fit_is_refused_with_its_numbers(make, text):
    with pytest.raises(ValueError) as caught:
        make()
    assert text in str(caught.value)


@pytest.mark.parametrize("op", [op for op in REGISTRY.values() if op.kind == Kind.WINDOW], ids=lambda op: op.name)
def test_what_kernels_are_made_for_is_no_size_that_may_change(op):
    """Where hooks have gradients recorded op by op: extents become symbols there, windows stay numbers."""
    kinds = {name: kind for name, kind, *_ in inline.primitive(op).params if name in op.attrs}
    assert all(kind == ("size" if name == "shape" else "static") for name, kind in kinds.items()) and kinds
