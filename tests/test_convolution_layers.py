"""Convolutions as users call them: values, gradients of two orders, layers, their text and their errors, beside PyTorch's.

In: `F.conv1d` to `F.conv_transpose3d`, `nn.Conv1d` to `nn.ConvTranspose3d`. Next: `test_convolutions.py`, for the bits.
"""

import math
import re

import flambeau as fb
import flambeau.nn.functional as F
import numpy as np
import pytest
from flambeau import nn
from support import arrays, for_users
from test_nn import same_layer

CALLS = {
    "conv1d": ("conv1d", [(2, 4, 9), (6, 2, 3), (6,)], dict(groups=2, padding="same", dilation=2)),
    "conv2d": ("conv2d", [(2, 3, 6, 5), (4, 3, 3, 2), (4,)], dict(stride=2, padding=1)),
    "unbatched": ("conv2d", [(3, 6, 5), (4, 3, 3, 2)], dict(padding="valid", dilation=(2, 1))),
    "depthwise": ("conv2d", [(2, 3, 6, 5), (6, 1, 3, 3)], dict(groups=3, padding=(1, 2))),
    "conv3d": ("conv3d", [(1, 2, 4, 4, 3), (2, 2, 2, 2, 2), (2,)], dict(stride=2, padding=1)),
    "conv_transpose1d": ("conv_transpose1d", [(2, 4, 5), (4, 1, 3), (2,)], dict(stride=3, groups=2, output_padding=2)),
    "conv_transpose2d": (
        "conv_transpose2d", [(2, 3, 4, 3), (3, 2, 3, 3), (2,)], dict(stride=(3, 2), padding=1, output_padding=1),
    ),
    "conv_transpose3d": ("conv_transpose3d", [(1, 2, 2, 3, 2), (2, 1, 2, 2, 3)], dict(dilation=2, padding=1)),
    "whole maps": ("conv2d", [(2, 3, 4, 2), (5, 3, 4, 2), (5,)], dict(stride=2)),
    "single places": ("conv_transpose2d", [(2, 3, 1, 1), (3, 2, 4, 3), (2,)], dict(stride=(3, 1))),
    "a single place": ("conv_transpose1d", [(3, 1), (3, 2, 4)], {}),
}  # fmt: skip


@pytest.mark.accept("NN-24", "NN-25", "NN-27", "NN-28", "NN-29")
@pytest.mark.parametrize("call", CALLS)
def test_values_and_two_orders_of_gradients_are_those_of_torch(call):
    torch = pytest.importorskip("torch")
    name, shapes, numbers = CALLS[call]

    def derivatives(module, make):
        operands = [make(arrays(*shape, seed=k, dtype=np.float64)) for k, shape in enumerate(shapes)]
        y = getattr(module.nn.functional, name)(*operands, **numbers)
        first = module.autograd.grad((y**3).sum(), operands, create_graph=True)
        second = module.autograd.grad(sum((g**2).sum() for g in first), operands)
        return [y, *first, *second]

    ours = derivatives(fb, lambda x: fb.tensor(x, requires_grad=True))
    theirs = derivatives(torch, lambda x: torch.tensor(x, requires_grad=True))
    for mine, other in zip(ours, theirs, strict=True):
        scale = float(other.abs().max())
        np.testing.assert_allclose(mine.detach().numpy(), other.detach().numpy(), rtol=1e-10, atol=1e-12 * scale)


@pytest.mark.accept("NN-25", "NN-28")
def test_kernels_as_large_as_maps_and_maps_of_one_place_are_products():
    x, w = (fb.tensor(arrays(*shape, seed=k)) for k, shape in enumerate([(3, 5, 4, 2), (6, 5, 4, 2)]))
    y = F.conv2d(x, w)
    assert y.shape == (3, 6, 1, 1)
    assert (y.flatten().numpy() == (x.reshape(3, 40) @ w.reshape(6, 40).T).flatten().numpy()).all()
    np.testing.assert_allclose(y[..., 0, 0].numpy(), np.einsum("nchw,ochw->no", x.numpy(), w.numpy()), rtol=1e-5)
    places = F.conv_transpose2d(y, w)
    assert (places.numpy() == (y[..., 0, 0] @ w.reshape(6, 40)).reshape(3, 5, 4, 2).numpy()).all()
    np.testing.assert_allclose(places.numpy(), np.einsum("no,ochw->nchw", y[..., 0, 0].numpy(), w.numpy()), rtol=1e-5)


def test_an_infinite_weight_reaches_one_place_of_each_channel_of_a_map_of_one():
    w = np.ones((2, 3, 2, 2), np.float32)
    w[0, 1, 1, 0] = np.inf
    y = F.conv_transpose2d(fb.ones(1, 2, 1, 1), fb.tensor(w)).numpy()[0]
    assert y[1, 1, 0] == np.inf and not np.isnan(y).any() and np.isinf(y).sum() == 1


LAYERS = {
    "Conv1d": (lambda nn: nn.Conv1d(4, 6, 3, padding=1, groups=2), (2, 4, 7)),
    "Conv2d": (
        lambda nn: nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), bias=False),
        (2, 3, 6, 7),
    ),
    "Conv3d": (lambda nn: nn.Conv3d(2, 3, 2, padding="same"), (1, 2, 3, 4, 3)),
    "reflect": (lambda nn: nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode="reflect"), (2, 2, 4, 5)),
    "replicate": (lambda nn: nn.Conv1d(2, 3, 4, padding="same", padding_mode="replicate"), (2, 2, 5)),
    "circular": (lambda nn: nn.Conv2d(2, 3, 3, stride=2, padding=1, padding_mode="circular"), (1, 2, 5, 4)),
    "valid": (lambda nn: nn.Conv2d(2, 3, 3, padding="valid", padding_mode="reflect"), (1, 2, 5, 4)),
    "ConvTranspose1d": (lambda nn: nn.ConvTranspose1d(3, 4, 3, stride=2, padding=1, output_padding=1), (2, 3, 5)),
    "ConvTranspose2d": (lambda nn: nn.ConvTranspose2d(4, 4, 3, stride=2, groups=2, dilation=2), (2, 4, 3, 4)),
    "ConvTranspose3d": (lambda nn: nn.ConvTranspose3d(2, 1, 2, bias=False), (1, 2, 2, 3, 2)),
}


@pytest.mark.accept("NN-24", "NN-25", "NN-26", "NN-27", "NN-28", "NN-29")
@pytest.mark.parametrize("layer", LAYERS)
def test_layers_are_those_of_torch(layer):
    torch = pytest.importorskip("torch")
    make, shape = LAYERS[layer]
    assert repr(make(nn)) == repr(make(torch.nn))
    ours, theirs = make(nn), make(torch.nn)
    assert [(n, tuple(p.shape)) for n, p in ours.state_dict().items()] == [
        (n, tuple(p.shape)) for n, p in theirs.state_dict().items()
    ]
    public = [n for n in vars(theirs) if not n.startswith("_")]
    assert {n: getattr(ours, n) for n in public} == {n: getattr(theirs, n) for n in public}
    same_layer(make, arrays(*shape), rtol=1e-5)


def test_a_size_may_be_asked_of_a_transposed_convolution():
    layer = nn.ConvTranspose2d(2, 3, 3, stride=2)
    x = fb.tensor(arrays(1, 2, 4, 5))
    assert layer(x).shape == (1, 3, 9, 11)
    assert layer(x, output_size=(10, 11)).shape == layer(x, (1, 3, 10, 11)).shape == (1, 3, 10, 11)
    for size, text in (((11, 11), "gives (9, 11) to (10, 12). Give a size between."), ((9,), "Give 2 or 4.")):
        with pytest.raises(ValueError, match=re.escape(text)):
            layer(x, output_size=size)


def test_weights_start_uniform_by_what_feeds_an_output():
    fb.manual_seed(0)
    for layer, inputs in ((nn.Conv2d(8, 64, 5, groups=2), 4 * 25), (nn.ConvTranspose1d(64, 8, 5), 8 * 5)):
        bound = 1 / math.sqrt(inputs)
        for p in (layer.weight, layer.bias):
            assert 0.7 * bound < float(p.abs().max()) <= bound
    assert nn.Conv2d(0, 4, 3).weight.shape == (4, 0, 3, 3)
    assert nn.Conv1d(2, 2, 1, dtype=fb.float64).weight.dtype is fb.float64


REFUSED = [
    (
        lambda nn: nn.Conv2d(3, 4, 3, padding="full"),
        ValueError,
        "[Conv2d] padding is 'full'. Use 'same', 'valid' or numbers.",
    ),
    (lambda nn: nn.Conv2d(3, 4, 3, padding="same", stride=2), ValueError, "[Conv2d] padding is 'same' and stride 2."),
    (lambda nn: nn.Conv2d(3, 4, 3, groups=2), ValueError, "[Conv2d] in_channels is 3 and groups 2. Give a multiple"),
    (lambda nn: nn.Conv2d(4, 3, 3, groups=2), ValueError, "[Conv2d] out_channels is 3 and groups 2. Give a multiple"),
    (lambda nn: nn.Conv1d(4, 3, 3, groups=0), ValueError, "[Conv1d] groups is 0. Give at least 1."),
    (
        lambda nn: nn.Conv3d(4, 3, 3, padding_mode="full"),
        ValueError,
        "[Conv3d] padding_mode is 'full'. Use one of 'zeros',",
    ),
    (
        lambda nn: nn.ConvTranspose2d(4, 3, 3, padding_mode="reflect"),
        ValueError,
        "padding_mode is 'reflect'. Use 'zeros'.",
    ),
]


@pytest.mark.parametrize(("make", "error", "text"), REFUSED)
def test_layers_that_cannot_be_are_refused_as_torch_refuses_them(make, error, text):
    with pytest.raises(error, match=re.escape(text)) as caught:
        make(nn)
    assert for_users(caught.value) is error
    torch = pytest.importorskip("torch")
    with pytest.raises(error):
        make(torch.nn)


def test_integers_and_narrow_floats():
    x, w = np.arange(24).reshape(1, 2, 3, 4), np.arange(-8, 8).reshape(2, 2, 2, 2)
    whole = F.conv2d(fb.tensor(x), fb.tensor(w), padding=1)
    assert whole.dtype is fb.int64
    exact = F.conv2d(fb.tensor(x.astype(np.float64)), fb.tensor(w.astype(np.float64)), padding=1)
    assert whole.tolist() == exact.long().tolist()
    a, b, bias = (fb.tensor(arrays(*s, seed=4)).to(fb.bfloat16) for s in ((1, 40, 5, 5), (3, 40, 3, 3), (3,)))
    found = F.conv2d(a, b, bias)
    wide = F.conv2d(a.float(), b.float(), bias.float()).to(fb.bfloat16)
    assert found.dtype is fb.bfloat16 and found.float().tolist() == wide.float().tolist()
