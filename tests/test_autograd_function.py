"""Gradients that users write, gradcheck, functions of functions, and modules called with other state."""

import functools
import gc
import weakref

import flambeau as fb
import flambeau.nn as nn
import numpy as np
import pytest
from flambeau import tensor_hooks
from flambeau.autograd import Function, gradcheck, gradgradcheck
from flambeau.autograd.function import FunctionCtx, once_differentiable
from support import arrays

X, Y = arrays(3, 4), arrays(3, 4, seed=1)


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grad


class Exp(Function):
    @staticmethod
    def forward(x):
        return x.exp()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return y * grad


def wide(array):
    return fb.tensor(array.astype(np.float64), requires_grad=True)


@pytest.mark.parametrize("function", [Cube, Exp])
def test_gradients_of_any_order(function):
    x = wide(X)
    assert gradcheck(function.apply, (x,)) and gradgradcheck(function.apply, (x,))
    gradgradcheck(lambda x: function.apply(x.sin()) * x, (x,))


def test_a_wrong_gradient_is_found():
    class Wrong(Cube):
        @staticmethod
        def backward(ctx, grad):
            return 2 * ctx.saved_tensors[0] ** 2 * grad

    with pytest.raises(RuntimeError, match=r"\[gradcheck\] the gradient of result 0 with respect to input 0 differs"):
        gradcheck(Wrong.apply, (wide(X),))
    assert not gradcheck(Wrong.apply, (wide(X),), raise_exception=False)


class Pair(Function):
    """Two results of two tensors and a number, of which some matter."""

    seen = []

    @staticmethod
    def forward(ctx, x, scale, y, kept=True):
        ctx.set_materialize_grads(kept)
        ctx.scale = scale
        ctx.save_for_backward(x, None, y)
        return x * y * scale, x + y, 7

    @staticmethod
    def backward(ctx, product, total, number):
        Pair.seen.append((ctx.needs_input_grad, product is None, total is None, number))
        x, none, y = ctx.saved_tensors
        assert none is None
        zero = 0.0
        product = zero if product is None else product
        total = zero if total is None else total
        return product * y * ctx.scale + total, None, product * x * ctx.scale + total, None


def test_several_inputs_and_results():
    Pair.seen.clear()
    x, y = wide(X), wide(Y)
    product, total, number = Pair.apply(x, 2.0, y)
    assert number == 7
    (product.sum() + (total * 3).sum()).backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * y.detach().numpy() + 3)
    np.testing.assert_allclose(y.grad.numpy(), 2 * x.detach().numpy() + 3)
    assert Pair.seen == [((True, False, True), False, False, None)]


def test_results_that_do_not_matter():
    Pair.seen.clear()
    x, y = wide(X), fb.tensor(Y).double()
    for kept in (True, False):
        (gradient,) = fb.autograd.grad(Pair.apply(x, 2.0, y, kept)[1].sum(), x)
        assert gradient.tolist() == np.ones((3, 4)).tolist()
    assert Pair.seen == [
        ((True, False, False, False), False, False, None),
        ((True, False, False, False), True, False, None),
    ]


def test_one_call_goes_through_many_backwards():
    x = wide(X)
    y = Cube.apply(x)
    for times in (1, 2):
        y.sum().backward(retain_graph=True)
        np.testing.assert_allclose(x.grad.numpy(), times * 3 * x.detach().numpy() ** 2)


def test_without_gradients_nothing_is_recorded():
    x = wide(X)
    with fb.no_grad():
        assert not Cube.apply(x).requires_grad
    assert not Cube.apply(x.detach()).requires_grad and Cube.apply(x).requires_grad


def test_what_is_marked():
    class Sorted(Function):
        @staticmethod
        def forward(ctx, x):
            x.mul_(2)
            ctx.mark_dirty(x)
            sign = x.sign()
            ctx.mark_non_differentiable(sign)
            return x, sign

        @staticmethod
        def backward(ctx, grad, _):
            return grad * 2

    leaf = wide(X)
    x = leaf * 1
    result, sign = Sorted.apply(x)
    assert result is x and not sign.requires_grad
    np.testing.assert_allclose(x.detach().numpy(), 2 * X.astype(np.float64))
    (x * 3).sum().backward()
    assert leaf.grad.tolist() == np.full((3, 4), 6.0).tolist()
    with pytest.raises(RuntimeError, match="a leaf that requires grad was modified in place"):
        Sorted.apply(wide(X))


def test_once_differentiable():
    class Once(Cube):
        @staticmethod
        @once_differentiable
        def backward(ctx, grad):
            return 3 * ctx.saved_tensors[0] ** 2 * grad

    x = wide(X)
    assert gradcheck(Once.apply, (x,))
    (gradient,) = fb.autograd.grad(Once.apply(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"cannot be differentiated"):
        gradient.sum().backward()


def test_wrong_backwards_are_told():
    class Short(Pair):
        @staticmethod
        def backward(ctx, *grads):
            return grads[0]

    class Odd(Cube):
        @staticmethod
        def backward(ctx, grad):
            return fb.ones(7, dtype=grad.dtype)

    with pytest.raises(RuntimeError, match=r"\[Short\] backward gave 1 gradients for 3 inputs"):
        Short.apply(wide(X), 1.0, wide(Y))[0].sum().backward()
    with pytest.raises(RuntimeError, match=r"\[Odd\] backward gave a gradient of shape \(7,\) for input 0"):
        Odd.apply(wide(X)).sum().backward()
    x = wide(X) * 1
    y = Cube.apply(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match=r"\[Cube\] a tensor of shape \(3, 4\) that was saved .* modified in place"):
        y.sum().backward()


def test_a_training_step_through_a_function():
    layer = nn.Linear(4, 2)
    x = fb.tensor(X)
    Cube.apply(layer(x)).sum().backward()
    found = [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    (layer(x) ** 3).sum().backward()
    for mine, p in zip(found, layer.parameters(), strict=True):
        np.testing.assert_allclose(mine.numpy(), p.grad.numpy(), rtol=1e-5)


class Kept(Function):
    """Keeps an input as an attribute, goes through another function, and another one's backward."""

    @staticmethod
    def forward(ctx, x):
        ctx.x, ctx.alias = x, x.detach()
        return Cube.apply(x)

    @staticmethod
    def backward(ctx, grad):
        return Cube.apply(ctx.x) / ctx.x * 3 * grad


def through_pair(x, y):
    product, total, _ = Pair.apply(x, 2.0, y)
    return product + total


#: Of one tensor; with what each is, written out.
CALLS = {
    "an input": (Cube.apply, lambda x: x**3),
    "a result": (Exp.apply, lambda x: x.exp()),
    "an attribute": (Kept.apply, lambda x: x**3),
    "one after another": (lambda x: Exp.apply(Cube.apply(x)), lambda x: (x**3).exp()),
    "one tensor twice": (lambda x: through_pair(x, x), lambda x: 2 * x * x + 2 * x),
    "two tensors": (lambda x: through_pair(x.sin(), x.cos()), lambda x: 2 * x.sin() * x.cos() + x.sin() + x.cos()),
    "views of one tensor": (lambda x: through_pair(x[0], x[1]), lambda x: 2 * x[0] * x[1] + x[0] + x[1]),
    "a tensor and a view": (lambda x: through_pair(x, x[0]), lambda x: 2 * x * x[0] + x + x[0]),
}
#: What becomes of results.
ENDS = {
    "dropped": lambda leaf, y: None,
    "read": lambda leaf, y: y.tolist(),
    "differentiated": lambda leaf, y: y.sum().backward(),
    "retained": lambda leaf, y: [y.sum().backward(retain_graph=True) for _ in range(2)],
    "with history": lambda leaf, y: fb.autograd.grad(y.sum(), leaf, create_graph=True),
    "twice": lambda leaf, y: fb.autograd.grad(
        fb.autograd.grad(y.sum(), leaf, create_graph=True)[0].sum(), leaf, retain_graph=True
    ),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("call", CALLS)
def test_contexts_die_with_their_results(call, end, monkeypatch):
    """The history holds the context, which holds tensors with that history."""
    alive = weakref.WeakSet()
    made = FunctionCtx.__init__
    monkeypatch.setattr(FunctionCtx, "__init__", lambda ctx: (made(ctx), alive.add(ctx))[0])
    leaf = wide(X)
    for before in (lambda: leaf, lambda: leaf * 1, lambda: fb.stack([leaf, leaf])[1]):
        x = before()
        y = CALLS[call][0](x)
        assert alive
        ENDS[end](leaf, y)
        del x, y
        fb.flush()
        gc.collect()
        assert not alive and not tensor_hooks.hooked()


@pytest.mark.parametrize("form", ["closure", "default", "partial"])
def test_hooks_that_keep_tensors_die_with_the_history(form):
    def made():
        leaf = wide(X)
        x = leaf * 2
        y = x * 3
        view = x[0]
        hook = {
            "closure": lambda g: g * x * view,
            "default": lambda g, x=x, view=view: g * x * view,
            "partial": functools.partial(lambda x, view, g: g * x * view, x, view),
        }[form]
        y.register_hook(hook)
        y.sum().backward(retain_graph=True)
        doubled = 2 * X.astype(np.float64)
        np.testing.assert_allclose(leaf.grad.numpy(), 6 * doubled * doubled[0])
        return weakref.ref(hook)

    hook = made()
    fb.flush()
    gc.collect()
    assert hook() is None and not tensor_hooks.hooked()


@pytest.mark.parametrize("call", CALLS)
def test_second_gradients_when_all_but_the_leaf_is_gone(call):
    leaf, found = wide(X), []
    for function in CALLS[call]:
        (gradient,) = fb.autograd.grad((function(leaf * 1) * Y[0].astype(np.float64)).sum(), leaf, create_graph=True)
        fb.flush()
        gc.collect()
        found.append(fb.autograd.grad((gradient * gradient).sum(), leaf)[0].numpy())
    np.testing.assert_allclose(*found, rtol=1e-9)


def test_a_gradient_of_a_result_is_forgotten():
    """A backward that ends at a result leaves nothing to a later one that comes through another."""
    x, y = wide(X), wide(Y)
    product, total, _ = Pair.apply(x, 2.0, y)
    fb.autograd.grad((product * 5).sum(), product, retain_graph=True)
    (gradient,) = fb.autograd.grad(total.sum(), x)
    assert gradient.tolist() == np.ones((3, 4)).tolist()


def test_saved_results_that_are_overwritten_are_told():
    y = Exp.apply(wide(X))
    y.mul_(2)
    with pytest.raises(RuntimeError, match=r"\[Exp\] a tensor of shape \(3, 4\) that was saved .* modified in place"):
        y.sum().backward()


# ---- functions of functions


def f(x, y):
    return (x.sin() * y).sum()


def test_functional_against_pytorch():
    torch = pytest.importorskip("torch")
    for name, call in {
        "jacobian": lambda m, a, x, y: a.jacobian(lambda x, y: (x * y).sum(0), (x, y)),
        "hessian": lambda m, a, x, y: a.hessian(f, (x, y)),
        "vjp": lambda m, a, x, y: a.vjp(lambda x: x.exp() * y, x, y),
        "jvp": lambda m, a, x, y: a.jvp(lambda x: x.exp() * y, x, y),
        "vhp": lambda m, a, x, y: a.vhp(lambda x: f(x, y), x, y),
        "hvp": lambda m, a, x, y: a.hvp(lambda x: f(x.exp(), y), x, y),
    }.items():
        mine = call(fb, fb.autograd.functional, fb.tensor(X), fb.tensor(Y))
        other = call(torch, torch.autograd.functional, torch.tensor(X), torch.tensor(Y))
        for x, y in zip(flat(mine), flat(other), strict=True):
            assert not x.requires_grad
            np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=2e-5, atol=1e-6, err_msg=name)


def flat(value):
    return [t for v in value for t in flat(v)] if isinstance(value, tuple | list) else [value]


def test_func():
    x, y = fb.tensor(X), fb.tensor(Y)
    both, value = fb.func.grad_and_value(f, (0, 1))(x, y)
    np.testing.assert_allclose(both[0].numpy(), np.cos(X) * Y, rtol=1e-5)
    np.testing.assert_allclose(both[1].numpy(), np.sin(X), rtol=1e-5)
    np.testing.assert_allclose(value.item(), (np.sin(X) * Y).sum(), rtol=1e-5)
    third = fb.func.grad(fb.func.grad(fb.func.grad(lambda x: x**4)))
    assert third(fb.tensor(2.0)).item() == 48.0 and not third(fb.tensor(2.0)).requires_grad
    tree, aux = fb.func.grad(lambda p: ((p["a"] * p["b"][0]).sum(), "kept"), has_aux=True)({"a": x, "b": [y]})
    assert aux == "kept" and tree["a"].tolist() == Y.tolist() and tree["b"][0].tolist() == X.tolist()
    value, pull = fb.func.vjp(lambda x: (x.exp(), x * 2), x)
    np.testing.assert_allclose(pull((y, y))[0].numpy(), (np.exp(X) + 2) * Y, rtol=1e-5)
    assert fb.func.jacrev(lambda x: x * y)(x).shape == (3, 4, 3, 4)
    np.testing.assert_allclose(fb.func.hessian(lambda v: (v**3).sum())(x[0]).numpy(), np.diag(6 * X[0]), rtol=1e-5)


def test_gradients_through_a_gradient_function():
    x = fb.tensor(X, requires_grad=True)
    fb.func.grad(lambda z: (z**3).sum())(x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 6 * X, rtol=1e-5)
    w = fb.tensor(2.0, requires_grad=True)
    with pytest.raises(RuntimeError, match="has to give one number"):
        fb.func.grad(lambda z: z * w)(fb.tensor(X))


def test_modules_with_other_state():
    layer, x = (
        nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3) if hasattr(nn, "BatchNorm1d") else nn.ReLU()),
        fb.tensor(X),
    )
    other = {k: v * 0 for k, v in layer.state_dict().items() if k.startswith("0.")}
    before = layer(x).tolist()
    assert not fb.func.functional_call(layer[0], {"weight": fb.zeros(3, 4), "bias": fb.ones(3)}, x).sub(1).any()
    assert fb.func.functional_call(layer, other, (x,)).shape == (3, 3) and layer[0].weight.any()
    assert isinstance(layer[0].weight, nn.Parameter) and layer(x).tolist() == before
    gradient = fb.func.grad(lambda p: fb.func.functional_call(layer[0], p, x).sum())(dict(layer[0].named_parameters()))
    np.testing.assert_allclose(gradient["bias"].detach().numpy(), np.full(3, 3.0))
    with pytest.raises(KeyError, match="no parameter or buffer 'nothing'"):
        fb.func.functional_call(layer, {"nothing": x}, x)
    layers = [nn.Linear(4, 3) for _ in range(2)]
    parameters, buffers = fb.func.stack_module_state(layers)
    assert parameters["weight"].shape == (2, 3, 4) and parameters["weight"].requires_grad and buffers == {}
    with pytest.raises(RuntimeError, match="several classes"):
        fb.func.stack_module_state([layers[0], nn.ReLU()])


@pytest.mark.accept("AG-16", "T-29")
def test_checkpoints_compute_what_the_function_does():
    from flambeau.utils.checkpoint import checkpoint, checkpoint_sequential

    net, x = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 2)), fb.tensor(X, requires_grad=True)
    found = []
    for call in (
        lambda: net(x),
        lambda: checkpoint(net, x, use_reentrant=False),
        lambda: checkpoint_sequential(net, 2, x),
    ):
        fb.manual_seed(3)
        found.append(fb.autograd.grad(call().sum(), x)[0].tolist())
    assert found[0] == found[1] == found[2]


def test_a_hook_after_the_gradient_has_been_added():
    x, seen = wide(X), []
    handle = x.register_post_accumulate_grad_hook(lambda leaf: seen.append((leaf is x, leaf.grad.sum().item())))
    for _ in range(2):
        (x * 2).sum().backward()
    assert seen == [(True, 24.0), (True, 48.0)]
    handle.remove()
    (x * 2).sum().backward()
    assert len(seen) == 2
    with pytest.raises(RuntimeError, match=r"\[register_post_accumulate_grad_hook\] the tensor is no leaf"):
        (x * 2).register_post_accumulate_grad_hook(print)


def test_functionalize_gives_the_function_itself():
    def f(x):
        y = x.clone()
        y[0] = 3
        return y

    assert fb.func.functionalize(f) is f and fb.func.functionalize(f, remove="mutations_and_views") is f
    with pytest.raises(RuntimeError, match=r"\[functionalize\] remove is 'all'"):
        fb.func.functionalize(f, remove="all")
