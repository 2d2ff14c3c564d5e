"""Features of the acceptance table that no other test file covers: seeds, `.grad`, detaching, leaves, errors in chains, losses of
one's own, updates as one call, weights that are loaded between calls."""

import inspect

import flambeau as fb
import numpy as np
import pytest
from flambeau.runtime import recorder


def leaf(values):
    return fb.tensor(values, requires_grad=True)


# ---- seeds ----------------------------------------------------------------------------------------------------


@pytest.mark.accept("AG-03")
def test_backward_from_a_seed_weighs_the_rows_of_the_jacobian():
    x = leaf([1.0, 2.0, 3.0])
    (x * x).backward(fb.tensor([1.0, 10.0, -1.0]))
    assert x.grad.tolist() == [2.0, 40.0, -6.0]
    (x * x).backward(gradient=fb.tensor([0.0, 1.0, 0.0]))
    assert x.grad.tolist() == [2.0, 44.0, -6.0]


@pytest.mark.accept("AG-03")
def test_grad_with_a_seed_per_output_leaves_the_leaves_alone():
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    seeds = [fb.tensor([1.0, 2.0]), fb.tensor([10.0, 100.0])]
    by_x, by_y = fb.autograd.grad([x * y, y * y], [x, y], seeds)
    assert (by_x.tolist(), by_y.tolist()) == ([3.0, 8.0], [61.0, 804.0])
    assert x.grad is None and y.grad is None


@pytest.mark.accept("AG-03", "AG-02")
def test_seeds_are_checked():
    x = leaf([1.0, 2.0, 3.0])
    with pytest.raises(RuntimeError, match=r"\[backward\] a gradient can be left out only for a scalar.*\(3,\)"):
        (x * 2).backward()
    with pytest.raises(RuntimeError, match=r"\[backward\] the gradient is float32 of shape \(4,\)"):
        (x * 2).backward(fb.ones(4))
    with pytest.raises(RuntimeError, match=r"\[backward\] the gradient is complex64"):
        (x * 2).backward(fb.ones(3, dtype=fb.complex64))
    assert x.grad is None


def test_real_seeds_are_converted():
    for dtype in (fb.float64, fb.int64, fb.bool, fb.bfloat16):
        x = leaf([1.0, 2.0, 3.0])
        seed = fb.tensor([1.0, 0.0, 1.0]).to(dtype)
        (x * 2).backward(seed)
        assert x.grad.dtype is fb.float32 and x.grad.tolist() == [2, 0, 2]
        (g,) = fb.autograd.grad([x * 3, x * 4], x, [seed, fb.ones(3)])
        assert g.dtype is fb.float32 and g.tolist() == [7, 4, 7]


# ---- .grad ----------------------------------------------------------------------------------------------------


@pytest.mark.accept("AG-04", "AG-02")
def test_gradients_accumulate_until_they_are_zeroed_or_taken_away():
    x = leaf([1.0, 2.0])
    assert x.grad is None
    (x * 3).sum().backward()
    kept = x.grad
    (x * 3).sum().backward()
    assert x.grad is kept and kept.tolist() == [6.0, 6.0]
    x.grad.zero_()
    (x * 3).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]
    x.grad = None
    assert x.grad is None
    (x * 5).sum().backward()
    assert x.grad.tolist() == [5.0, 5.0] and kept.tolist() == [3.0, 3.0]


@pytest.mark.accept("AG-04")
def test_an_assigned_gradient_is_what_a_backward_adds_to_and_a_step_reads():
    x = leaf([1.0, 2.0])
    x.grad = fb.tensor([10.0, 20.0])
    (x * x).sum().backward()
    assert x.grad.tolist() == [12.0, 24.0]
    fb.optim.SGD([x], lr=0.5).step()
    assert x.tolist() == [-5.0, -10.0]


@pytest.mark.accept("AG-04")
@pytest.mark.parametrize(
    "gradient, error",
    [
        (lambda: fb.ones(3), RuntimeError),
        (lambda: fb.ones(2, dtype=fb.float64), RuntimeError),
        (lambda: 1.0, TypeError),
    ],
)
def test_assigned_gradients_are_checked(gradient, error):
    x = leaf([1.0, 2.0])
    with pytest.raises(error):
        x.grad = gradient()
    assert x.grad is None


# ---- detaching and leaves -------------------------------------------------------------------------------------


@pytest.mark.accept("AG-05")
def test_detach_shares_storage_and_carries_no_gradient():
    x = leaf([1.0, 2.0])
    y = x * 2
    d = y.detach()
    assert not d.requires_grad and d.is_leaf and y.requires_grad
    (y * d).sum().backward()  # d is a constant: the gradient is 2 * d, not 2 * (y + d)
    assert x.grad.tolist() == [4.0, 8.0]
    d[0] = 7.0
    assert y.tolist() == [7.0, 4.0]


@pytest.mark.accept("AG-05", "AG-07")
def test_detach_in_place_makes_a_leaf():
    x = leaf([1.0, 2.0])
    y = x * 2
    assert y.detach_() is y
    assert y.is_leaf and not y.requires_grad and y.tolist() == [2.0, 4.0]
    y.requires_grad_()
    (x * y).sum().backward()
    assert (x.grad.tolist(), y.grad.tolist()) == ([2.0, 4.0], [1.0, 2.0])


@pytest.mark.accept("AG-07")
def test_leaves_are_what_no_recorded_operation_made():
    x = leaf([1.0, 2.0])
    constant = fb.tensor([1.0, 2.0])
    assert x.is_leaf and constant.is_leaf and (constant * 2).is_leaf
    assert not (x * 2).is_leaf and not x[0].is_leaf and not x.view(2, 1).is_leaf and not x.to(fb.float64).is_leaf
    with fb.no_grad():
        assert (x * 2).is_leaf
    constant.mul_(x)
    assert not constant.is_leaf
    assert fb.nn.Linear(2, 2).weight.is_leaf
    with pytest.raises(RuntimeError, match=r"\[add_\] a leaf tensor that requires grad is changed in place"):
        x.add_(1)


# ---- errors in chains -----------------------------------------------------------------------------------------


def line() -> int:
    return inspect.currentframe().f_back.f_lineno


@pytest.mark.accept("AG-09", "ERR-04")
def test_an_error_travels_down_the_chain_and_names_where_it_arose():
    x = leaf([1.0, 2.0, 3.0])
    before = x * 2
    picked, where = x.index_select(0, fb.tensor([0, 7])), line()
    loss = (picked * 2).exp().sum()
    message = rf"index\[1\] is out of range.*\n.*{__file__}:{where}"
    for tensor in (loss, picked, loss):
        with pytest.raises(IndexError, match=message):
            tensor.tolist()
    assert before.tolist() == [2.0, 4.0, 6.0]


@pytest.mark.accept("AG-09", "ERR-04")
def test_an_error_in_the_forward_reaches_the_gradient_and_leaves_the_leaf_intact():
    x = leaf([1.0, 2.0, 3.0])
    x.index_select(0, fb.tensor([0, 7])).sum().backward()
    with pytest.raises(IndexError, match=r"index\[1\] is out of range"):
        x.grad.tolist()
    assert x.tolist() == [1.0, 2.0, 3.0]
    x.grad = None
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0, 2.0]


# ---- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.accept("LOS-10")
def test_a_loss_of_ones_own_is_any_function():
    class Focal(fb.nn.Module):
        def __init__(self, gamma):
            super().__init__()
            self.gamma = gamma

        def forward(self, scores, target):
            p = scores.sigmoid()
            return -((1 - p) ** self.gamma * target * p.log()).mean()

    x = fb.tensor([0.5, -1.0, 2.0], requires_grad=True)
    t = fb.tensor([1.0, 1.0, 0.0])
    loss = Focal(2.0)(x, t)
    loss.backward()
    p = 1 / (1 + np.exp(-x.detach().numpy()))
    assert loss.item() == pytest.approx(-((1 - p) ** 2 * t.numpy() * np.log(p)).mean(), rel=1e-6)
    slope = t.numpy() * (2 * (1 - p) ** 2 * p * np.log(p) - (1 - p) ** 3) / 3
    np.testing.assert_allclose(x.grad.numpy(), slope, rtol=1e-5)


@pytest.mark.accept("OPT-05", "VER-02")
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rmsprop_by_hand(momentum):
    p = fb.tensor([1.0, -2.0], requires_grad=True)
    optimizer = fb.optim.RMSprop([p], lr=0.1, alpha=0.8, eps=1e-3, momentum=momentum)
    x, v, m = np.array([1.0, -2.0]), np.zeros(2), np.zeros(2)
    for k in range(4):
        g = np.array([0.5 + k, -1.0])
        p.grad = fb.tensor(g.astype(np.float32))
        optimizer.step()
        v = 0.8 * v + 0.2 * g * g
        m = momentum * m + g / (np.sqrt(v) + 1e-3)
        x = x - 0.1 * m
    np.testing.assert_allclose(p.detach().numpy(), x, rtol=1e-5)


@pytest.mark.accept("OPT-10")
@pytest.mark.parametrize("count", [3, 40])
def test_an_update_is_one_call_for_any_number_of_parameters(count):
    """It takes one state of the trace, and one program, whatever there is to update."""
    params = [fb.nn.Parameter(fb.full((2 + k % 3,), 1.0)) for k in range(count)]
    optimizer = fb.optim.Adam(params, lr=0.1)

    def stepped():
        for p in params:
            p.grad = fb.full((p.numel(),), 2.0)
        recorder.flush()
        before = recorder.stats()
        optimizer.step()
        return before, recorder.stats()

    for _ in range(3):
        stepped()
    before, after = stepped()
    assert after["hits"] - before["hits"] == 1 and after["misses"] == before["misses"]
    assert after["flushes"] - before["flushes"] == 1
    assert params[-1].tolist() == pytest.approx([1.0 - 0.1 * 4] * params[-1].numel(), rel=1e-5)


@pytest.mark.accept("T-11")
def test_weights_that_are_loaded_are_those_of_the_next_call():
    net, x = fb.nn.Linear(2, 1, bias=False), fb.tensor([[1.0, 10.0]])
    for _ in range(3):
        net(x).tolist()
    for k in range(3):
        net.load_state_dict({"weight": fb.tensor([[1.0 + k, 2.0]])})
        assert net(x).tolist() == [[21.0 + k]]


@pytest.mark.accept("NN-10")
def test_modules_know_their_names():
    net = fb.nn.Sequential(fb.nn.Linear(2, 2), fb.nn.Sequential(fb.nn.ReLU(), fb.nn.Linear(2, 1)))
    names = {module: name for name, module in net.named_modules()}
    assert names[net] == "" and names[net[1][1]] == "1.1" and net.get_submodule("1.1") is net[1][1]
    holders = {child: (holder, name) for holder in net.modules() for name, child in holder.named_children()}
    assert holders[net[1][1]] == (net[1], "1") and net not in holders
    with pytest.raises(AttributeError, match=r"1\.2"):
        net.get_submodule("1.2")


@pytest.mark.accept("ERR-02")
def test_parameters_of_views_and_of_what_has_no_gradients():
    """A view that nobody else sees becomes a parameter as it stands; where somebody does, writes to it are refused."""
    for make in (lambda: fb.ones(6).view(2, 3), lambda: fb.ones(3, 2).t(), lambda: fb.ones(4, 3)[1:3]):
        p = fb.nn.Parameter(make())
        assert p.shape == (2, 3) and p.is_leaf and p.requires_grad
        (p * 3).sum().backward()
        fb.optim.SGD([p], lr=1.0).step()
        assert p.tolist() == [[-2.0] * 3] * 2
    held = fb.ones(4)
    with pytest.warns(UserWarning, match=r"\[Parameter\] a leaf has elements of its own"):
        p = fb.nn.Parameter(held[1:])
    p.grad = fb.ones(3)
    with pytest.raises(RuntimeError):
        fb.optim.SGD([p], lr=1.0).step()
    assert held.tolist() == p.tolist() + [1.0]
    for data in (fb.arange(3), fb.tensor([True])):
        with pytest.raises(
            RuntimeError, match=r"\[Parameter\] only floating-point tensors can require grad, this one is"
        ):
            fb.nn.Parameter(data)
        assert fb.nn.Parameter(data, requires_grad=False).tolist() == data.tolist()


@pytest.mark.accept("NN-19")
def test_any_function_is_a_module():
    def scaled(x, by=2.0):
        return x * by

    net = fb.nn.Sequential(fb.nn.Lambda(fb.relu), fb.nn.Lambda(scaled))
    x = leaf([-1.0, 3.0])
    net(x).sum().backward()
    assert net(x).tolist() == [0.0, 6.0] and x.grad.tolist() == [0.0, 2.0]
    assert fb.nn.Lambda(scaled)(x, by=3.0).tolist() == [-3.0, 9.0] and not list(net.parameters())
    assert repr(net) == "Sequential(\n  (0): Lambda(relu)\n  (1): Lambda(scaled)\n)"
    assert [p.tolist() for p in fb.nn.Lambda(fb.nn.PReLU()).parameters()] == [[0.25]]  # a module is one, too
    with pytest.raises(TypeError, match=r"\[Lambda\] function is a int\. Pass something that can be called\."):
        fb.nn.Lambda(3)


# ---- states and named inputs: what is plain Python here ------------------------------------------------------------


class Counting(fb.nn.Module):
    """A state, and an input that goes by its name."""

    def __init__(self):
        super().__init__()
        self.cell = fb.nn.RNNCell(2, 3)
        self.state = None
        self.register_forward_pre_hook(lambda module, args: module.reset() if module.training else None)

    def reset(self):
        self.state = None

    def forward(self, xs, *, scale):
        seen = []
        for x in xs:
            self.state = self.cell(x * scale, self.state)
            seen.append(self.state)
        return fb.stack(seen)


@pytest.mark.accept("NN-12", "NN-13", "NN-16")
def test_states_are_reset_kept_and_detached_by_plain_python():
    net, xs = Counting(), fb.ones(4, 1, 2)
    steps = net(xs, scale=0.5)
    h = fb.zeros(1, 3)
    for k in range(4):  # the values of every step
        h = net.cell(xs[k] * 0.5, h)
        np.testing.assert_allclose(steps[k].detach().numpy(), h.detach().numpy(), rtol=1e-6)
    assert net(xs, scale=0.5).tolist() == steps.tolist()  # a hook has reset the state
    net.eval()
    assert net(xs, scale=0.5).tolist() != steps.tolist()  # which now goes on
    net.state = net.state.detach()
    assert net.state.grad_fn is None
    net(xs, scale=0.5).sum().backward()
    assert net.cell.weight_hh.grad is not None


@pytest.mark.accept("NN-14", "NN-15")
def test_inputs_go_by_their_names_and_are_asked_for():
    net, xs = Counting(), fb.ones(2, 1, 2)
    assert net(xs=xs, scale=1.0).tolist() == net(scale=1.0, xs=xs).tolist() == net(xs, scale=fb.tensor(1.0)).tolist()
    with pytest.raises(TypeError, match="scale"):
        net(xs)
    with pytest.raises(TypeError, match="weight"):
        net(xs, scale=1.0, weight=2)
