"""Gradients of batches of weights, of inputs that do not matter, and of what functions read from outside."""

import flambeau as fb
import numpy as np
import pytest
from flambeau import func


@pytest.mark.parametrize("hooked", [False, True])
def test_gradients_for_a_batch_of_weights(hooked):
    """`is_grads_batched`: one gradient for each of the weights, as by a loop; with a hook somewhere, by one."""
    data, weights = np.random.default_rng(0).normal(size=3), np.random.default_rng(1).normal(size=(4, 3))
    x, unused = fb.tensor(data, requires_grad=True), fb.ones(2, requires_grad=True)
    y, z = x**3, x.sum() * x
    seen = []
    handle = x.register_hook(seen.append) if hooked else None
    ws = fb.tensor(weights)
    (found,) = fb.autograd.grad([y, z], x, [ws, ws], is_grads_batched=True, create_graph=True)
    rows = [3 * data**2 * w + w * data.sum() + (w * data).sum() for w in weights]
    np.testing.assert_allclose(found.detach().numpy(), rows, rtol=1e-10)
    assert len(seen) == (4 if hooked else 0)
    (second,) = fb.autograd.grad(found.sum(), x, retain_graph=True)
    np.testing.assert_allclose(
        second.numpy(), 6 * data * weights.sum(0) + weights.sum() + 3 * weights.sum(0), rtol=1e-10
    )
    if handle:
        handle.remove()
    with pytest.raises(RuntimeError, match="as many of each"):
        fb.autograd.grad([y, z], x, [ws, ws[:2]], is_grads_batched=True)
    _, zeros = fb.autograd.grad(y, [x, unused], ws, is_grads_batched=True, materialize_grads=True)
    assert zeros.tolist() == [0.0, 0.0]


def test_unused_inputs_get_zeros_if_asked_for():
    x, unused = fb.ones(3, requires_grad=True), fb.ones(2, requires_grad=True)
    found = fb.autograd.grad((x * 2).sum(), (x, unused), materialize_grads=True, only_inputs=True)
    assert [g.tolist() for g in found] == [[2.0] * 3, [0.0] * 2]
    with pytest.raises(RuntimeError, match="input 1 was not used"):
        fb.autograd.grad((x * 2).sum(), (x, unused))
    with pytest.raises(ValueError, match="allow_unused is False"):
        fb.autograd.grad((x * 2).sum(), (x, unused), materialize_grads=True, allow_unused=False)


def test_what_a_function_reads_from_outside_gets_its_gradient():
    """As parameters of a model do whose input gradient is part of a loss."""
    w, x = fb.tensor([2.0, 3.0], requires_grad=True), fb.tensor([1.0, 4.0])
    v, before = fb.tensor([1.0, 0.5]), w * 2
    fb.flush()
    one, two = (lambda x: w * x * x), (lambda x: before * x * x)
    value, along = func.jvp(one, (x,), (v,))
    primal, gradients = func.vjp(one, x)
    found = [
        (func.grad(lambda x: one(x).sum())(x), [2, 8]),
        (func.grad(lambda x: two(x).sum())(x), [4, 16]),
        (func.grad(lambda x: ((x * x).sum(), w * 3), has_aux=True)(x)[1], [3, 3]),
        (func.grad_and_value(lambda x: one(x).sum())(x)[1], [1, 16]),
        (func.jacrev(one)(x), [2, 8]),
        (func.jacfwd(one)(x), [2, 8]),
        (func.hessian(lambda x: one(x).sum())(x), [2, 2]),
        (func.vmap(func.grad(lambda x: one(x).sum()))(fb.stack([x, x])), [4, 16]),
        (value, [1, 16]),
        (along, [2, 4]),
        (primal, [1, 16]),
        (gradients(v)[0], [2, 4]),
        (func.linearize(one, x)[1](v), [2, 4]),
    ]
    for result, expected in found:
        assert fb.autograd.grad(result.sum(), w, retain_graph=True)[0].tolist() == expected
    weight = v.clone().requires_grad_()
    assert fb.autograd.grad(func.vjp(fb.sin, x)[1](weight)[0].sum(), weight)[0].tolist() == x.cos().tolist()


def test_history_is_kept_only_where_something_outside_is_to_have_gradients():
    w, x = fb.tensor([2.0, 3.0], requires_grad=True), fb.tensor([1.0, 4.0])
    assert not func.grad(lambda x: (x * x).sum())(x).requires_grad
    assert not func.grad(lambda x: (w.detach() * x * x).sum())(x).requires_grad
    with fb.no_grad():
        assert not func.grad(lambda x: (w * x * x).sum())(x).requires_grad
        assert not func.jacrev(fb.sin)(w).requires_grad

    def without(x):
        with fb.no_grad():
            inner = func.grad(lambda x: (x**3).sum())(x)
        return (inner * x).sum()

    assert func.grad(without)(x).tolist() == [3, 48]


def test_a_view_of_what_nobody_holds_becomes_a_leaf():
    x = fb.arange(6.0).reshape(2, 3).requires_grad_()
    assert x.is_leaf and x.requires_grad
    (x[:, 1] ** 2).sum().backward()
    assert x.grad.tolist() == [[0.0, 2.0, 0.0], [0.0, 8.0, 0.0]]
    turned = fb.ones(2, 3).T
    turned.requires_grad = True
    (turned * fb.arange(6.0).view(3, 2)).sum().backward()
    assert turned.grad.tolist() == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    base = fb.arange(4.0)
    with pytest.warns(UserWarning, match=r"\[requires_grad_\] a leaf has elements of its own"):
        part = base[:2].requires_grad_()
    (part**2).sum().backward()
    assert part.is_leaf and part.grad.tolist() == [0.0, 2.0] and not base.requires_grad
    step = fb.optim.SGD([part], lr=1.0).step
    for write in (
        lambda: part.detach().zero_(),
        lambda: part.data.add_(1),
        step,
    ):  # which the base would see in PyTorch
        with pytest.raises(RuntimeError, match=r"\[write\] this leaf was made of a view"):
            write()
    assert base.tolist() == [0, 1, 2, 3] and part.tolist() == [0, 1]
    part.data = fb.ones(2)
    assert part.data.add_(1).tolist() == [2, 2]


def test_what_a_leaf_made_of_a_view_refuses_no_later_tensor_does():
    """Its memory of the refusal went to the next tensor, where its values had never been computed."""
    for _ in range(4):
        base = fb.ones(3, requires_grad=True)
        with fb.no_grad():
            part = base.view(3)
        with pytest.warns(UserWarning, match="a leaf has elements of its own"):
            part.requires_grad_()
        del base, part
        for _ in range(4):
            assert fb.ones(3).mul_(2).tolist() == [2, 2, 2]


# ---- the inputs of backward -----------------------------------------------------------------------------------


@pytest.mark.parametrize("create_graph", [False, True])
def test_backward_adds_to_the_gradients_of_results(create_graph):
    x = fb.ones(3, requires_grad=True)
    y = x * 2
    loss = (y * y).sum()
    loss.backward(inputs=[y, loss], retain_graph=True, create_graph=create_graph)
    assert y.grad.tolist() == [4, 4, 4] and loss.grad.item() == 1 and x.grad is None
    assert y.grad.requires_grad is create_graph
    loss.backward(inputs=y, retain_graph=True)
    assert y.grad.tolist() == [8, 8, 8] and x.grad is None
    loss.backward(inputs=[x])  # y keeps its gradient from now on, as after retain_grad()
    assert y.grad.tolist() == [12, 12, 12] and x.grad.tolist() == [8, 8, 8] and y.retains_grad


def test_inputs_of_backward_are_checked_before_it_begins():
    x, plain = fb.ones(3, requires_grad=True), fb.ones(3)
    y = x * 2 * plain
    for given in ([], (), [plain], [x, plain], [3]):
        with pytest.raises(RuntimeError, match=r"\[backward\] (an item of |an )?input"):
            y.sum().backward(inputs=given)
        with pytest.raises(RuntimeError, match=r"\[backward\] (an item of |an )?input"):
            fb.autograd.backward([y.sum()], inputs=given)
    with pytest.raises(RuntimeError, match=r"\[grad\] inputs is empty"):
        fb.autograd.grad(y.sum(), [])
    assert x.grad is None and plain.grad is None
    y.sum().backward()
    assert x.grad.tolist() == [2, 2, 2]


# ---- views made under no_grad ---------------------------------------------------------------------------------

_WRITES = {
    "mul_": lambda v: v.mul_(2),
    "zero_": lambda v: v.zero_(),
    "copy_": lambda v: v.copy_(fb.ones(2)),
    "index": lambda v: v.__setitem__(0, 1.0),
    "of a view of it": lambda v: v[:1].add_(1),
    "out": lambda v: fb.add(fb.ones(2), 1, out=v),
    "random": lambda v: v.normal_(),
}


@pytest.mark.parametrize("is_leaf", [True, False])
@pytest.mark.parametrize("write", list(_WRITES))
def test_views_made_under_no_grad_are_not_written_where_gradients_are_recorded(write, is_leaf):
    for _ in range(4):
        x = fb.ones(3, requires_grad=True)
        y = x if is_leaf else x * 2
        before = y.tolist()
        with fb.no_grad():
            v = y[:2]
        with pytest.raises(
            RuntimeError, match=r"\[write\] this view was made under no_grad|\[add\] out|requires? grad"
        ):
            _WRITES[write](v)
        assert y.tolist() == before
        v.detach().mul_(3)
        with fb.no_grad():
            v.mul_(2)
        assert y.tolist() == [before[0] * 6, before[1] * 6, before[2]]


def test_views_made_under_no_grad_of_plain_tensors_may_be_written():
    x = fb.ones(3)
    with fb.no_grad():
        v = x[:2]
    v.mul_(2)
    assert x.tolist() == [2, 2, 1]


def test_a_write_aside_of_the_history_changes_no_gradient():
    def gradients(written):
        w = fb.tensor([2.0, 3.0], requires_grad=True)
        table = fb.zeros(2, 2) + w * 0
        product = table * w
        if written:
            table.data[0] = 7.0
        (product + table * w * w).sum().backward()
        return w.grad.tolist(), table.tolist()

    assert gradients(False) == ([0.0, 0.0], [[0.0, 0.0], [0.0, 0.0]])
    changed, table = gradients(True)
    assert table == [[7.0, 7.0], [0.0, 0.0]]
    assert changed == [2 * 7 * 2.0, 2 * 7 * 3.0], (
        "what was read before the write keeps its values, what is read after has the new"
    )
