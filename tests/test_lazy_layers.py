"""Layers that find their sizes, and the parameters and buffers that wait for that."""

import copy
import pickle

import flambeau as fb
import flambeau.nn as nn
import numpy as np
import pytest
from flambeau.nn.lazy import LazyModuleMixin

RNG = np.random.default_rng(4)

#: the lazy layer, its arguments, the usual one, its arguments, shape of an input
LAYERS = [
    ("LazyLinear", (3,), "Linear", (5, 3), (2, 5)),
    ("LazyLinear", (3, False), "Linear", (5, 3, False), (2, 5)),
    ("LazyConv1d", (4, 3), "Conv1d", (2, 4, 3), (2, 2, 7)),
    ("LazyConv2d", (4, 3, 2, 1), "Conv2d", (2, 4, 3, 2, 1), (2, 5, 7)),
    ("LazyConv3d", (4, 2, 1, 0, 1, 2), "Conv3d", (2, 4, 2, 1, 0, 1, 2), (1, 2, 3, 3, 3)),
    ("LazyConvTranspose1d", (4, 3, 2), "ConvTranspose1d", (2, 4, 3, 2), (2, 2, 4)),
    ("LazyConvTranspose2d", (4, 3, 1, 0, 0, 2), "ConvTranspose2d", (2, 4, 3, 1, 0, 0, 2), (1, 2, 3, 3)),
    ("LazyConvTranspose3d", (3, 2), "ConvTranspose3d", (2, 3, 2), (1, 2, 2, 2, 2)),
    ("LazyBatchNorm1d", (1e-3,), "BatchNorm1d", (3, 1e-3), (4, 3)),
    ("LazyBatchNorm2d", (1e-3, 0.2, False), "BatchNorm2d", (3, 1e-3, 0.2, False), (2, 3, 2, 2)),
    ("LazyBatchNorm3d", (1e-3, 0.2, True, False), "BatchNorm3d", (3, 1e-3, 0.2, True, False), (2, 3, 2, 2, 2)),
    ("LazyInstanceNorm1d", (), "InstanceNorm1d", (3, 1e-5, 0.1, True, True), (2, 3, 4)),
    ("LazyInstanceNorm2d", (), "InstanceNorm2d", (3, 1e-5, 0.1, True, True), (3, 4, 2)),
    ("LazyInstanceNorm3d", (), "InstanceNorm3d", (3, 1e-5, 0.1, True, True), (2, 3, 2, 2, 2)),
]


@pytest.mark.accept("NN-52")
@pytest.mark.parametrize(("lazy", "given", "usual", "wanted", "shape"), LAYERS)
def test_a_lazy_layer_becomes_the_usual_one(lazy, given, usual, wanted, shape):
    made, other = getattr(nn, lazy)(*given), getattr(nn, usual)(*wanted)
    assert list(made.state_dict()) == list(other.state_dict()) and isinstance(made, LazyModuleMixin)
    assert made.has_uninitialized_params() == bool(list(other.parameters()) or list(other.buffers()))
    before = list(made.parameters())
    x = fb.tensor(RNG.standard_normal(shape).astype(np.float32))
    fb.manual_seed(3)
    found = made(x)
    fb.manual_seed(3)
    other.reset_parameters()
    assert type(made) is type(other) and repr(made) == repr(other)
    assert [p is q for p, q in zip(before, made.parameters(), strict=True)] == [True] * len(before)
    for (name, p), (_, q) in zip(made.named_parameters(), other.named_parameters(), strict=True):
        assert type(p) is nn.Parameter and p.requires_grad and p.tolist() == q.tolist(), name
    assert found.tolist() == other(x).tolist()
    assert made(x).shape == found.shape  # there are no hooks any more


@pytest.mark.accept("NN-52")
def test_a_net_of_lazy_layers_trains():
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    optimizer = fb.optim.SGD(net.parameters(), lr=0.1)
    x = fb.tensor(RNG.standard_normal((3, 2, 5, 5)).astype(np.float32))
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = (net(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[0] and not any(isinstance(m, LazyModuleMixin) for m in net.modules())


@pytest.mark.accept("NN-52")
def test_state_dicts_give_shapes():
    usual = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))
    lazy = nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d())
    lazy.load_state_dict(usual.state_dict())
    x = fb.tensor(RNG.standard_normal((4, 5)).astype(np.float32))
    assert lazy(x).tolist() == usual(x).tolist()
    assert lazy[0].in_features == 5 and lazy[1].num_features == 3 and type(lazy[0]) is nn.Linear
    with pytest.raises(RuntimeError, match=r"\[Uninitialized\w+\] it has no shape yet"):
        usual.load_state_dict(nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d()).state_dict())


def test_copies_and_moves_before_the_first_call():
    made = copy.deepcopy(nn.LazyLinear(3)).double()
    assert made.weight.dtype is fb.float64 and repr(made.weight) == "<UninitializedParameter>"
    assert made(fb.ones(2, 4).double()).dtype is fb.float64 and made.weight.shape == (3, 4)


def test_what_has_no_shape_cannot_be_computed_with():
    parameter, buffer = nn.UninitializedParameter(), nn.UninitializedBuffer(dtype=fb.float64)
    assert parameter.requires_grad and not buffer.requires_grad and buffer.dtype is fb.float64
    for value in (parameter, buffer):
        for use in (lambda v: v + 1, lambda v: 2 * v, lambda v: v.sum(), lambda v: v[0], lambda v: v.tolist()):
            with pytest.raises(ValueError, match=r"an Uninitialized\w+ has no value yet\. Call the module"):
                use(value)
        with pytest.raises(RuntimeError, match=r"\[Uninitialized\w+\] it has no shape yet"):
            value.shape  # noqa: B018
    buffer.materialize((2,), dtype=fb.float32)
    parameter.materialize(3)
    assert type(buffer) is fb.Tensor and buffer.shape == (2,) and buffer.dtype is fb.float32
    assert type(parameter) is nn.Parameter and parameter.shape == (3,) and parameter.requires_grad
    module = nn.Module()
    module.mean = nn.UninitializedBuffer()
    assert list(dict(module.named_buffers())) == ["mean"]


def test_layers_of_ones_own():
    class Scale(LazyModuleMixin, nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.UninitializedParameter()

        def initialize_parameters(self, x):
            with fb.no_grad():
                self.weight.materialize(x.shape[1:])
                self.weight.fill_(2.0)

        def forward(self, x):
            return x * self.weight

    made = Scale()
    assert made(fb.ones(2, 3)).tolist() == [[2.0] * 3] * 2 and not made.has_uninitialized_params()

    class Lost(LazyModuleMixin, nn.Linear):
        pass

    with pytest.raises(NotImplementedError, match=r"\[Lost\] there is no initialize_parameters"):
        Lost(1, 1)(fb.ones(1, 1))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"\[LazyConv2d\] in_channels is 3 and groups 2"):
        nn.LazyConv2d(4, 3, groups=2)(fb.ones(1, 3, 5, 5))
    with pytest.raises(RuntimeError, match=r"\[LazyConv2d\] input has 2 dimensions"):
        nn.LazyConv2d(4, 3)(fb.ones(5, 5))
    with pytest.raises(ValueError, match=r"\[LazyBatchNorm2d\] input has 2 dimensions"):
        nn.LazyBatchNorm2d()(fb.ones(5, 5))


def silence(module, given, found):
    return found * 0


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_a_copy_infers_by_hooks_of_its_own(copied):
    layer = nn.LazyLinear(3)
    twin = copied(layer)
    assert twin(fb.ones(2, 5)).shape == (2, 3) and type(twin) is nn.Linear
    assert type(layer) is nn.LazyLinear and layer(fb.ones(2, 4)).shape == (2, 3)  # its hooks are still there
    handle = layer.register_forward_hook(silence)
    other, its_handle = copied((layer, handle))
    its_handle.remove()
    assert other(fb.ones(2, 4)).abs().sum().item() > 0 and layer(fb.ones(2, 4)).abs().sum().item() == 0
    fresh = other.register_forward_hook(print)
    assert fresh.id > its_handle.id
