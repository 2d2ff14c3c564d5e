"""What the acceptance table says of control flow and of networks: experts, Python's own `if` and `while`, rows by themselves,
trip counts, arguments of layers, misuse."""

import inspect

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
import numpy as np
import pytest
from flambeau.runtime import recorder
from support import arrays

# ---- experts ------------------------------------------------------------------------------------------------------


def experts_of(count):
    fb.manual_seed(3)
    return nn.ModuleList(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)) for _ in range(count)), nn.Linear(
        4, count
    )


def one_by_one(experts, gate, x):
    weights = gate(x).softmax(-1)
    return sum(weights[:, k, None] * expert(x) for k, expert in enumerate(experts))


def all_at_once(experts, gate, x):
    """Every expert on every row, as products with a batch of weights; rows mix what the experts say as their gate has it."""
    params, buffers = fb.func.stack_module_state(list(experts))
    said = fb.vmap(lambda p, b: fb.func.functional_call(experts[0], (p, b), (x,)))(params, buffers)
    return fb.einsum("ne,enk->nk", gate(x).softmax(-1), said), params


@pytest.mark.accept("GRB-13")
def test_soft_routing_is_one_batch_of_products():
    x = fb.tensor(arrays(5, 4))
    kernels = []
    for count in (3, 7):
        experts, gate = experts_of(count)
        wanted = one_by_one(experts, gate, x)
        by_gate, by_first = fb.autograd.grad((wanted**2).sum(), [gate.weight, experts[0][0].weight])
        known = fb.explain().reports
        with fb.compiler_options(mode="blocking"):
            found, params = all_at_once(experts, gate, x)
            gradients = fb.autograd.grad((found**2).sum(), [gate.weight, params["0.weight"]])
            np.testing.assert_allclose(found.detach().numpy(), wanted.detach().numpy(), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(gradients[0].numpy(), by_gate.numpy(), rtol=1e-4, atol=1e-5)
            np.testing.assert_allclose(gradients[1][0].numpy(), by_first.numpy(), rtol=1e-4, atol=1e-5)
        kernels.append(sum(len(r.kernels) for r in fb.explain().reports if r not in known))
    assert kernels[0] == kernels[1] > 0  # no more of them for more experts


# ---- Python's own control flow ------------------------------------------------------------------------------------


def root(a):
    """The square root of `a` by Newton's steps, as many as it takes; of what is below 1 that of the inverse, inverted."""
    if small := bool(a < 1):
        a = 1 / a
    y, steps = a, 0
    while abs(y * y - a) > 1e-10 * a:
        y = (y + a / y) / 2
        steps += 1
    for _ in range(int(y) % 3):  # as often as a value says
        y = (y + a / y) / 2
    return 1 / y if small else y, steps


@pytest.mark.accept("GRB-22")
def test_python_branches_and_loops_on_values():
    """Values, gradients through what was run, and no new program once every path has been taken."""
    numbers = [0.01, 0.5, 3.0, 50.0, 900.0]

    def run():
        counts = []
        for number in numbers:
            a = fb.tensor(number, dtype=fb.float64, requires_grad=True)
            y, steps = root(a)
            y.backward()
            assert y.item() == pytest.approx(number**0.5, rel=1e-9) and a.grad.item() == pytest.approx(
                0.5 / number**0.5, rel=1e-6
            )
            counts.append(steps)
        return counts

    with fb.compiler_options(mode="blocking"):
        first = run()
        assert len(set(first)) > 2
        run()
        before = recorder.stats()
        assert run() == first
        after = recorder.stats()
    assert (after["misses"], after["builds"]) == (before["misses"], before["builds"])


# ---- rows decide for themselves -----------------------------------------------------------------------------------


@pytest.mark.accept("T-10")
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_each_row_takes_its_own_branch_and_its_own_number_of_steps(rows):
    data = arrays(rows, 3, seed=2)
    data[0] = abs(data[0])
    if rows > 1:
        data[1] = -abs(data[1])
    x = fb.tensor(data, requires_grad=True)
    y = fb.vmap(lambda v: fb.cond(v.sum() > 0, lambda v: v * 2, lambda v: v.exp(), (v,)))(x)
    up = data.sum(1, keepdims=True) > 0
    np.testing.assert_allclose(y.detach().numpy(), np.where(up, data * 2, np.exp(data)), rtol=1e-6)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.where(up, 2, np.exp(data)), rtol=1e-6)
    starts = fb.arange(1.0, rows + 1)
    found = fb.vmap(lambda v: fb.while_loop(lambda v: v < 10, lambda v: (v * 2,), (v,))[0])(starts)
    assert found.tolist() == [next(k * 2**n for n in range(9) if k * 2**n >= 10) for k in range(1, rows + 1)]
    index = fb.tensor([[0]] * (rows - 1) + [[3]])
    with pytest.raises(IndexError, match=rf"index\[{rows - 1}, 0\] is out of range"):
        fb.gather(fb.tensor(data), 1, index).tolist()


@pytest.mark.accept("T-23")
@pytest.mark.parametrize("times", [0, 1, 2, 6])
def test_bodies_run_as_often_as_they_should(times):
    """None at all where there is nothing to do; `until` is a body and then a loop; a scan gives what each of its steps gave."""
    n, zero = fb.tensor(times), fb.tensor(0)
    step = lambda i: (i + 1,)  # noqa: E731
    assert fb.while_loop(lambda i: i < n, step, (zero,))[0].item() == times
    until = fb.while_loop(lambda i: i < n, step, step(zero))[0].item()
    assert until == max(times, 1)
    assert (
        fb.fori_loop(0, times, lambda i, c: c + 1, zero).item()
        == times
        == fb.fori_loop(0, n, lambda i, c: c + 1, zero).item()
    )
    carry, trace = fb.scan(lambda c, x: (c + x, c), fb.tensor(0.0), fb.ones(times))
    assert carry.item() == times and trace.tolist() == list(range(times))


# ---- arguments of layers ------------------------------------------------------------------------------------------

IMAGES, ROWS, TOKENS = (2, 4, 7, 7), (5, 4), (3, 4, 6)
#: Class -> shape of its input, its arguments, and for every further one a value that has to be seen.
LAYERS = {
    nn.Linear: (ROWS, {"in_features": 4, "out_features": 3}, {"bias": False}),
    nn.Conv2d: (
        IMAGES,
        {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "padding": 1},
        {"stride": 2, "padding": 2, "dilation": 2, "groups": 2, "bias": False, "padding_mode": "reflect"},
    ),
    nn.ConvTranspose2d: (
        IMAGES,
        {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "stride": 2},
        {
            "stride": 3,
            "padding": 1,
            "output_padding": 1,
            "groups": 2,
            "bias": False,
            "dilation": 2,
            "padding_mode": None,
        },
    ),
    nn.MaxPool2d: (
        IMAGES,
        {"kernel_size": 3},
        {"stride": 1, "padding": 1, "dilation": 2, "return_indices": True, "ceil_mode": True},
    ),
    nn.AvgPool2d: (
        IMAGES,
        {"kernel_size": 4, "stride": 3, "padding": 1},
        {"stride": 1, "padding": 0, "ceil_mode": True, "count_include_pad": False, "divisor_override": 2},
    ),
    nn.BatchNorm2d: (
        IMAGES,
        {"num_features": 4},
        {"eps": 1.0, "momentum": 0.5, "affine": False, "track_running_stats": False, "bias": False},
    ),
    nn.GroupNorm: (IMAGES, {"num_groups": 2, "num_channels": 4}, {"eps": 1.0, "affine": False, "bias": False}),
    nn.LayerNorm: (ROWS, {"normalized_shape": 4}, {"eps": 1.0, "elementwise_affine": False, "bias": False}),
    nn.RMSNorm: (ROWS, {"normalized_shape": 4}, {"eps": 1.0, "elementwise_affine": False}),
    nn.Upsample: (
        IMAGES,
        {"scale_factor": 1.5, "mode": "bilinear"},
        {"size": (4, 4), "scale_factor": 2, "mode": "bicubic", "align_corners": True, "recompute_scale_factor": True},
    ),
    nn.GRU: (
        TOKENS,
        {"input_size": 6, "hidden_size": 3},
        {"num_layers": 2, "bias": False, "batch_first": True, "dropout": None, "bidirectional": True},
    ),
    nn.LeakyReLU: (ROWS, {}, {"negative_slope": 0.5, "inplace": True}),
    nn.Softplus: (ROWS, {}, {"beta": 2.0, "threshold": 0.1}),
}
#: Arguments that have one value here, or show beside another one only: tests of their own say what they do.
ALONE = {"padding_mode", "dropout"}
PLACES = {"device", "dtype"}


def seen(layer, shape):
    """All that shows of a layer: what it gives, twice, the second time in eval mode, its state, and what it did to its input."""
    fb.manual_seed(1)
    for name, value in layer.state_dict().items():
        if value.is_floating_point() and "running" not in name:
            value.copy_(fb.tensor(arrays(*value.shape, seed=7)))
    x = fb.tensor(arrays(*shape))
    found = [layer(x), x, layer.eval()(x)]
    flat = [t for f in found for t in (f if isinstance(f, tuple) else (f,))]
    return [t.detach().numpy() for t in (*flat, *layer.state_dict().values())]


@pytest.mark.accept("T-09")
@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_no_argument_of_a_layer_is_ignored(kind):
    shape, given, others = LAYERS[kind]
    names = set(inspect.signature(kind.__init__).parameters) - {"self", "args", "kwargs"} - PLACES
    assert names <= {*given, *others}, "say what shows of these"
    with fb.compiler_options(mode="off"):
        usual = seen(kind(**given), shape)
        for name, value in others.items():
            if value is None:
                assert name in ALONE
                continue
            changed = {**given, name: value}
            if kind is nn.Upsample and name == "size":
                del changed["scale_factor"]
            found = seen(kind(**changed), shape)
            same = len(found) == len(usual) and all(
                a.shape == b.shape and np.array_equal(a, b) for a, b in zip(found, usual)
            )
            assert not same, f"{name}={value!r} changes nothing"


# ---- misuse -------------------------------------------------------------------------------------------------------


class Early(nn.Module):
    def __init__(self):
        self.layer = nn.Linear(2, 2)  # before Module.__init__
        super().__init__()


class Bare(nn.Module):
    pass


def twice():
    x = fb.ones(2, requires_grad=True)
    y = (x * x).sum()
    y.backward()
    y.backward()


def on_inference():
    with fb.no_grad():
        y = fb.ones(2, requires_grad=True) * 2
    y.sum().backward()


def changed_between():
    x = fb.ones(2, requires_grad=True)
    y = x * 2
    z = y * y
    y.add_(1)
    z.sum().backward()


MISUSE = {
    "a member before Module.__init__": (Early, AttributeError, r"super\(\)\.__init__\(\)"),
    "a module without forward": (lambda: Bare()(fb.ones(2)), NotImplementedError, "forward"),
    "a gradient twice": (twice, RuntimeError, "retain_graph=True"),
    "a gradient of what has none": (on_inference, RuntimeError, "does not require grad|requires grad"),
    "a value that a gradient needs, changed": (changed_between, RuntimeError, "changed|modified|written"),
    "an optimizer of nothing": (lambda: fb.optim.SGD([], 0.1), ValueError, r"\[Optimizer\] there are no parameters"),
    "an optimizer of no leaf": (
        lambda: fb.optim.SGD([fb.ones(2, requires_grad=True) * 2], 0.1),
        ValueError,
        r"\[Optimizer\] a parameter is .* Pass leaf tensors",
    ),
    "a lazy layer's weight": (lambda: nn.LazyLinear(3).weight.sum(), ValueError, "has no value yet. Call the module"),
    "a parameter of integers": (lambda: nn.Parameter(fb.arange(3)), RuntimeError, "int64"),
    "a dataset that cannot be indexed": (
        lambda: next(iter(fb.utils.data.DataLoader(5))),
        TypeError,
        r"\[DataLoader\]|len",
    ),
}


@pytest.mark.accept("ERR-02")
@pytest.mark.parametrize("name", MISUSE)
def test_misuse_is_told_at_once(name):
    call, error, text = MISUSE[name]
    with pytest.raises(error, match=text):
        call()


@pytest.mark.accept("EXA-04")
def test_a_perceptron_learns_what_is_not_linear():
    fb.manual_seed(0)
    x = fb.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = fb.tensor([0, 1, 1, 0])
    net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    optimizer = fb.optim.Adam(net.parameters(), lr=0.1)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 < 0.5 < losses[0]
    assert net(x).argmax(1).tolist() == y.tolist()
