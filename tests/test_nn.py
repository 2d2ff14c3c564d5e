"""Modules: registration, names, state dicts, modes, hooks, conversion, text; layers against PyTorch."""

import copy
import pickle

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
import numpy as np
import pytest
from support import arrays


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.blocks = nn.ModuleList([nn.Linear(8, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 2, bias=False))])
        self.scale = nn.Parameter(fb.ones(2))
        self.register_buffer("count", fb.zeros(1))
        self.register_buffer("scratch", fb.zeros(1), persistent=False)
        self.size = 3

    def forward(self, x, *, twice=False):
        x = self.blocks[1](self.blocks[0](self.first(x))) * self.scale
        return x * 2 if twice else x


NAMES = ["scale", "first.weight", "first.bias", "blocks.0.weight", "blocks.0.bias", "blocks.1.1.weight"]


@pytest.mark.accept("NN-02", "NN-05")
def test_registration_and_names():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == NAMES
    assert [n for n, _ in net.named_buffers()] == ["count", "scratch"]
    assert list(net.state_dict()) == ["scale", "count", *NAMES[1:]]
    assert [n for n, _ in net.named_modules()] == [
        "",
        "first",
        "blocks",
        "blocks.0",
        "blocks.1",
        "blocks.1.0",
        "blocks.1.1",
    ]
    assert [n for n, _ in net.named_children()] == ["first", "blocks"]
    assert len(list(net.parameters())) == 6 and len(list(net.buffers())) == 2 and len(list(net.modules())) == 7
    assert net.get_parameter("blocks.1.1.weight") is net.blocks[1][1].weight
    assert net.get_submodule("blocks.1") is net.blocks[1] and net.get_buffer("count") is net.count
    assert net.first.bias is not None and net.blocks[1][1].bias is None


@pytest.mark.accept("NN-02")
def test_order_and_names_are_those_of_torch():
    torch = pytest.importorskip("torch")

    def make(nn, ones, zeros):
        class Other(nn.Module):
            def __init__(self):
                super().__init__()
                self.a = nn.Linear(2, 2)
                self.w = nn.Parameter(ones(2))
                self.register_buffer("b", zeros(1))
                self.c = nn.ModuleDict({"x": nn.Linear(2, 1), "y": nn.Linear(1, 2)})

        return Other()

    ours, theirs = make(nn, fb.ones, fb.zeros), make(torch.nn, torch.ones, torch.zeros)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert repr(ours) == repr(theirs)


@pytest.mark.accept("NN-01")
def test_forward_takes_and_returns_anything():
    class Any(nn.Module):
        def forward(self, xs, *, flag):
            return {"sum": xs[0] + xs[1], "flag": flag}

    out = Any()([fb.ones(2), fb.ones(2)], flag=3)
    assert out["sum"].tolist() == [2.0, 2.0] and out["flag"] == 3
    with pytest.raises(NotImplementedError, match=r"\[forward\] module Module has no forward\(\)"):
        nn.Module()(1)


@pytest.mark.accept("NN-02")
def test_reassignment_and_deletion():
    net = Net()
    net.first = None
    assert "first.weight" not in dict(net.named_parameters())
    net.first = nn.Linear(4, 8)
    del net.scale
    assert not hasattr(net, "scale")
    net.count = fb.ones(1)
    assert net.state_dict()["count"].item() == 1.0
    with pytest.raises(TypeError, match=r"\[Module\] cannot assign int to module 'first'"):
        net.first = 3
    with pytest.raises(TypeError, match=r"\[Module\] cannot assign Tensor to parameter 'weight'"):
        net.first.weight = fb.ones(8, 4)
    with pytest.raises(KeyError, match="attribute 'size' already exists"):
        net.register_buffer("size", fb.ones(1))
    with pytest.raises(AttributeError, match=r"\[Net\] there is no 'nothing'"):
        _ = net.nothing


def test_use_before_init_is_explained():
    class Wrong(nn.Module):
        def __init__(self):
            self.fc = nn.Linear(2, 2)

    with pytest.raises(AttributeError, match=r"Call super\(\).__init__\(\) first"):
        Wrong()


@pytest.mark.accept("NN-06", "T-27")
def test_strict_loading_reports_missing_and_unexpected_and_changes_nothing():
    net = Net()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    state["other"] = state.pop("scale") * 0
    state["first.bias"] = state["first.bias"] * 0 + 7
    before = net.first.bias.tolist()
    with pytest.raises(
        RuntimeError, match=r"(?s)nothing was loaded.*Missing key\(s\): 'scale'.*Unexpected key\(s\): 'other'"
    ):
        net.load_state_dict(state)
    assert net.first.bias.tolist() == before
    report = net.load_state_dict(state, strict=False)
    assert report.missing_keys == ["scale"] and report.unexpected_keys == ["other"]
    assert net.first.bias.tolist() == [7.0] * 8
    assert repr(net.load_state_dict(net.state_dict())) == "<All keys matched successfully>"
    state = net.state_dict()
    state["scale"] = fb.ones(3)
    with pytest.raises(
        RuntimeError, match=r"Size mismatch for scale: the state dict has \(3,\), the module has \(2,\)"
    ):
        net.load_state_dict(state, strict=False)


@pytest.mark.accept("NN-06")
def test_states_of_batch_norms_from_before_they_counted():
    layer = nn.Sequential(nn.BatchNorm1d(2), nn.InstanceNorm1d(2, track_running_stats=True))
    layer(fb.ones(3, 2, 4))
    state = layer.state_dict()
    assert [state._metadata[name]["version"] for name in ("0", "1")] == [2, 2]
    del state["0.num_batches_tracked"], state["1.num_batches_tracked"]
    with pytest.raises(RuntimeError, match="num_batches_tracked"):  # it says that it counts
        layer.load_state_dict(state)
    old = {key: value + 1 for key, value in state.items()}  # and this says nothing
    assert not any(layer.load_state_dict(old))
    assert layer[0].num_batches_tracked.item() == 1 and layer[0].running_mean.tolist() == old["0.running_mean"].tolist()
    assert "0.num_batches_tracked" not in old


@pytest.mark.accept("NN-06")
def test_state_dict_aliases_and_loading_keeps_identity():
    net = Net()
    weight = net.first.weight
    state = net.state_dict()
    assert not state["first.weight"].requires_grad
    with fb.no_grad():
        weight.zero_()
    assert state["first.weight"].sum().item() == 0.0
    net.load_state_dict({k: v.numpy() + 1 for k, v in state.items()})
    assert net.first.weight is weight and weight.requires_grad and weight.is_leaf
    assert weight[0, 0].item() == 1.0


@pytest.mark.accept("AG-12", "T-26")
def test_shared_parameters_count_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 3, bias=False)
            self.b = nn.Linear(3, 3, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x))

    net = Tied()
    assert [n for n, _ in net.named_parameters()] == ["a.weight"]
    assert list(net.state_dict()) == ["a.weight", "b.weight"]
    net(fb.ones(1, 3)).sum().backward()
    w = net.a.weight.detach().numpy().astype(np.float64)
    ones = np.ones((1, 3))
    wanted = np.ones((3, 1)) @ (ones @ w.T) + (w.T @ np.ones((3, 1))) @ ones
    np.testing.assert_allclose(net.a.weight.grad.numpy(), wanted, rtol=1e-5)


@pytest.mark.accept("NN-07")
def test_apply_visits_children_first():
    seen = []
    net = Net()
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["Linear", "Linear", "ReLU", "Linear", "Sequential", "ModuleList", "Net"]


@pytest.mark.accept("NN-08")
def test_train_and_eval():
    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    assert net.training and net[1].training
    assert net.eval() is net and not net[1].training
    x = fb.ones(3, 2)
    assert fb.equal(net(x), net[0](x))
    net.train()
    assert net[1].training
    with pytest.raises(ValueError, match=r"\[train\] mode is 1"):
        net.train(1)


@pytest.mark.accept("NN-09", "T-14")
def test_to_keeps_identity_and_the_optimizer_follows():
    net = Net()
    weight, opt = net.first.weight, fb.optim.SGD(net.parameters(), lr=0.5)
    assert net.double() is net
    assert net.first.weight is weight and weight.dtype is fb.float64 and weight.requires_grad and weight.is_leaf
    assert net.count.dtype is fb.float64
    before = weight.detach().numpy().copy()
    net(fb.ones(1, 4, dtype=fb.float64)).sum().backward()
    opt.step()
    assert not np.array_equal(before, net.first.weight.detach().numpy())
    net.to("cpu", fb.float32)
    assert net.first.weight is weight and weight.dtype is fb.float32 and weight.grad.dtype is fb.float32
    with pytest.raises(TypeError, match=r"\[Module.to\] dtype flambeau.int64 is not floating point"):
        net.to(fb.int64)
    with pytest.raises(RuntimeError, match=r"\[device\] 'cuda' is not available"):
        net.to("cuda")


def test_requires_grad_and_zero_grad():
    net = Net()
    net(fb.ones(1, 4)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad(set_to_none=False)
    assert net.scale.grad.tolist() == [0.0, 0.0]
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    net.requires_grad_(False)
    assert not net(fb.ones(1, 4)).requires_grad


def test_forward_hooks():
    net, seen = nn.Linear(2, 2), []
    before = net.register_forward_pre_hook(lambda m, args: (args[0] * 2,))
    after = net.register_forward_hook(lambda m, args, out: seen.append(args[0].tolist()))
    replace = net.register_forward_hook(lambda m, args, out: out + 100)
    y = net(fb.ones(1, 2))
    assert seen == [[[2.0, 2.0]]] and y.min().item() > 50
    before.remove(), after.remove(), replace.remove(), replace.remove()
    assert not net._forward_hooks and net(fb.ones(1, 2)).max().item() < 50
    with net.register_forward_hook(lambda m, args, out: None):
        assert len(net._forward_hooks) == 1
    assert not net._forward_hooks


@pytest.mark.accept("NN-18")
def test_containers():
    a, b, c = nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1)
    s = nn.Sequential(a, b)
    assert s.append(c) is s and len(s) == 3 and s[2] is c and s[-1] is c and s[0:2][1] is b
    s.insert(1, nn.Tanh())
    assert [type(m).__name__ for m in s] == ["Linear", "Tanh", "ReLU", "Linear"]
    assert s.pop(1).__class__ is nn.Tanh and list(s) == [a, b, c]
    del s[0]
    assert list(s) == [b, c] and list(s.state_dict()) == ["1.weight", "1.bias"]
    s[0] = nn.Sigmoid()
    assert type(s[0]) is nn.Sigmoid
    named = nn.Sequential({"x": a, "y": b})
    assert list(named.state_dict()) == ["x.weight", "x.bias"] and named.y is b
    d = nn.ModuleDict({"p": a})
    d["q"] = b
    assert list(d) == ["p", "q"] and "q" in d and d.pop("q") is b and list(d.keys()) == ["p"] and len(d) == 1
    with pytest.raises(IndexError, match=r"\[Sequential\] index 5 is out of range for 2 modules"):
        s[5]


def test_text_is_that_of_torch():
    torch = pytest.importorskip("torch")

    def make(nn):
        return nn.Sequential(
            nn.Linear(3, 4),
            nn.ReLU(),
            nn.ReLU(inplace=True),
            nn.GELU(),
            nn.GELU("tanh"),
            nn.Dropout(0.1),
            nn.LayerNorm(4),
            nn.Flatten(),
            nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4), nn.Tanh()]),
            nn.Softmax(dim=1),
            nn.LeakyReLU(0.2),
            nn.Identity(),
            nn.Embedding(5, 2),
            nn.ELU(),
            nn.CELU(2.0),
            nn.Softplus(),
            nn.Hardtanh(),
            nn.PReLU(),
            nn.Sequential(),
            nn.CrossEntropyLoss(),
            nn.SiLU(),
            nn.ModuleDict({"a": nn.Sigmoid()}),
            nn.LogSoftmax(-1),
            nn.ModuleList(),
        )

    assert repr(make(nn)) == repr(make(torch.nn))


def same_layer(make, x, rtol=3e-6, **state):
    """A layer of ours and PyTorch's with equal parameters give equal outputs and gradients."""
    torch = pytest.importorskip("torch")
    ours, theirs = make(nn), make(torch.nn)
    values = {n: arrays(*p.shape, seed=3) for n, p in ours.named_parameters()}
    ours.load_state_dict(values)
    theirs.load_state_dict({n: torch.tensor(v) for n, v in values.items()})
    mine, other = fb.tensor(x, requires_grad=x.dtype.kind == "f"), torch.tensor(x, requires_grad=x.dtype.kind == "f")
    a, b = ours(mine), theirs(other)
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=rtol, atol=1e-5)
    ct = arrays(*b.shape, seed=4)
    a.backward(fb.tensor(ct)), b.backward(torch.tensor(ct))
    if other.grad is not None:
        np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=rtol, atol=1e-5)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters()):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=rtol, atol=1e-5, err_msg=name)


@pytest.mark.accept("NN-21")
@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 4, 3), (0, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(shape, bias):
    same_layer(lambda nn: nn.Linear(3, 4, bias=bias), arrays(*shape))


@pytest.mark.accept("NN-35")
@pytest.mark.parametrize("shape", [(6,), (4, 6), 6])
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm(shape, affine):
    same_layer(lambda nn: nn.LayerNorm(shape, elementwise_affine=affine), arrays(3, 4, 6) * 5 + 2, rtol=2e-5)
    same_layer(lambda nn: nn.LayerNorm(shape, eps=0.1, bias=False), arrays(3, 4, 6), rtol=2e-5)
    with pytest.raises(
        RuntimeError, match=r"\[layer_norm\] input of shape \(2, 5\) does not end in normalized_shape \(6,\)"
    ):
        nn.LayerNorm(6)(fb.ones(2, 5))


@pytest.mark.accept("NN-20")
def test_embedding_and_flatten():
    same_layer(lambda nn: nn.Embedding(7, 3), np.array([[0, 6], [2, 2]]))
    same_layer(lambda nn: nn.Flatten(), arrays(2, 3, 4))
    with pytest.raises(IndexError, match="out of range"):
        nn.Embedding(7, 3)(fb.tensor([7])).tolist()


@pytest.mark.parametrize(
    "name",
    [
        "ReLU",
        "GELU",
        "Tanh",
        "Sigmoid",
        "LeakyReLU",
        "SiLU",
        "ELU",
        "CELU",
        "SELU",
        "Softplus",
        "Mish",
        "Hardswish",
        "Hardsigmoid",
        "Hardtanh",
        "ReLU6",
        "LogSigmoid",
        "PReLU",
    ],
)
def test_activation_modules(name):
    same_layer(lambda nn: getattr(nn, name)(), arrays(4, 5), rtol=1e-5)


def test_tensors_are_variables_in_code_of_old():
    torch = pytest.importorskip("torch")
    x = fb.autograd.Variable(fb.ones(3), requires_grad=True)
    assert isinstance(x, fb.autograd.Variable) and not isinstance(1, fb.autograd.Variable)
    (x * x).sum().backward()
    y = torch.autograd.Variable(torch.ones(3), requires_grad=True)
    (y * y).sum().backward()
    assert x.grad.tolist() == y.grad.tolist() and x.is_leaf == y.is_leaf


@pytest.mark.accept("NN-37")
def test_dropout_statistics_scaling_and_gradient():
    fb.manual_seed(3)
    drop = nn.Dropout(0.25)
    x = fb.ones(100, 100, requires_grad=True)
    y = drop(x)
    kept = y.detach().numpy() != 0
    assert abs(kept.mean() - 0.75) < 0.02
    np.testing.assert_allclose(y.detach().numpy()[kept], 1 / 0.75, rtol=1e-6)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy() != 0, kept)
    assert not np.array_equal(drop(x).detach().numpy() != 0, kept)
    assert nn.Dropout(1.0)(x).abs().sum().item() == 0.0
    assert nn.Dropout(0.0)(x) is x
    with pytest.raises(ValueError, match=r"\[Dropout\] p is 1.5"):
        nn.Dropout(1.5)


@pytest.mark.accept("T-18", "INI-01")
def test_initialization_is_set_by_the_seed_and_bounded():
    def weights():
        fb.manual_seed(11)
        return nn.Linear(64, 32).weight.detach().numpy().copy()

    w = weights()
    np.testing.assert_array_equal(w, weights())
    assert np.abs(w).max() <= 1 / 8 and np.abs(w).max() > 0.12 and abs(w.mean()) < 0.01


@pytest.mark.accept("INI-01", "INI-04")
def test_init_functions():
    x = fb.empty(200, 300)
    fan_in, fan_out = 300, 200
    for fill, spread in (
        (lambda: nn.init.kaiming_uniform_(x, nonlinearity="relu"), np.sqrt(2 / fan_in)),
        (lambda: nn.init.kaiming_normal_(x, mode="fan_out", nonlinearity="relu"), np.sqrt(2 / fan_out)),
        (lambda: nn.init.xavier_uniform_(x), np.sqrt(2 / (fan_in + fan_out))),
        (lambda: nn.init.xavier_normal_(x, gain=2), 2 * np.sqrt(2 / (fan_in + fan_out))),
        (lambda: nn.init.normal_(x, 0.0, 0.02), 0.02),
        (lambda: nn.init.uniform_(x, -3.0, 3.0), np.sqrt(3)),
    ):
        assert fill() is x
        assert x.numpy().std() == pytest.approx(spread, rel=0.02)
        assert abs(x.numpy().mean()) < 4 * spread / np.sqrt(x.numel())
    assert nn.init.constant_(x, 2.5).min().item() == 2.5 == x.max().item()
    assert nn.init.zeros_(x).abs().max().item() == 0.0 and nn.init.ones_(x).min().item() == 1.0
    assert fb.equal(nn.init.eye_(fb.empty(3, 3)), fb.eye(3))
    with pytest.raises(ValueError, match=r"has no fan-in and fan-out"):
        nn.init.xavier_uniform_(fb.empty(3))


def test_parameter():
    p = nn.Parameter(fb.tensor([1.0, 2.0]))
    assert repr(p) == "Parameter containing:\ntensor([1., 2.], requires_grad=True)"
    assert isinstance(p, fb.Tensor) and p.is_leaf and p.requires_grad
    assert not nn.Parameter(fb.ones(2), requires_grad=False).requires_grad
    shared = fb.ones(2)
    q = nn.Parameter(shared)
    shared.mul_(3)
    assert q.tolist() == [3.0, 3.0]
    assert type(p + 1) is fb.Tensor


def test_deepcopy_is_independent():
    net = Net()
    twin = copy.deepcopy(net)
    with fb.no_grad():
        net.first.weight.zero_()
    assert twin.first.weight is not net.first.weight and isinstance(twin.first.weight, nn.Parameter)
    assert twin.first.weight.abs().sum().item() > 0
    assert [n for n, _ in twin.named_parameters()] == NAMES
    twin(fb.ones(1, 4)).sum().backward()
    assert net.first.weight.grad is None


@pytest.mark.accept("NN-06")
@pytest.mark.parametrize("function", [F.relu, F.relu_, F.mse_loss, F.dropout, fb.Tensor.exp, fb.Tensor.add_, fb.tanh])
def test_functions_are_copied_and_pickled_by_name(function):
    """Modules keep them: `self.activation = F.relu`."""
    assert copy.deepcopy(function) is function and copy.copy(function) is function
    assert pickle.loads(pickle.dumps(function)) is function
    module = nn.Linear(2, 2)
    module.activation = function
    assert copy.deepcopy(module).activation is function
    assert pickle.loads(pickle.dumps(module)).activation is function
