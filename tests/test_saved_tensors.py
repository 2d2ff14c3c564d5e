"""Hooks on what an `autograd.Function` saves for its backward, here and in PyTorch."""

import warnings

import flambeau as fb
import numpy as np
import pytest

VALUES = [1.0, 2.0, 3.0]
TOLD = pytest.warns(UserWarning, match=r"\[saved_tensors_hooks\] the hooks see what autograd.Function saves")


def cube(module):
    class Cube(module.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = x**3
            ctx.save_for_backward(x, None, y)
            return y

        @staticmethod
        def backward(ctx, grad):
            x, none, y = ctx.saved_tensors
            assert none is None
            return 3 * x**2 * grad + 0 * y

    return Cube.apply


def packed_as_arrays(module):
    """First and second derivatives of x ** 3 whose saved tensors are kept as arrays, and what the hooks saw."""
    seen = []

    def pack(tensor):
        seen.append(("pack", tensor.requires_grad, module.is_grad_enabled()))
        return tensor.detach().numpy().copy()

    def unpack(array):
        seen.append(("unpack", type(array), module.is_grad_enabled()))
        return module.tensor(array)

    x = module.tensor(VALUES, dtype=module.float64, requires_grad=True)
    with module.autograd.graph.saved_tensors_hooks(pack, unpack):
        y = cube(module)(x)
    (first,) = module.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = module.autograd.grad(first.sum(), x)
    return first.tolist(), second.tolist(), seen


def test_hooks_pack_and_unpack_what_a_function_saves():
    with TOLD:
        first, second, seen = packed_as_arrays(fb)
    assert (first, second) == ([3.0, 12.0, 27.0], [6.0, 12.0, 18.0])
    assert [s[0] for s in seen] == ["pack"] * 2 + ["unpack"] * 4 and seen[2][1] is np.ndarray


def test_hooks_are_called_as_pytorch_calls_them():
    torch = pytest.importorskip("torch", reason="could not import 'torch'")
    with TOLD:
        mine = packed_as_arrays(fb)
    assert mine == packed_as_arrays(torch)


def test_what_is_unpacked_counts_and_the_inner_hooks_do():
    x = fb.tensor(VALUES, requires_grad=True)
    hooks = fb.autograd.graph.saved_tensors_hooks
    outer, inner = hooks(lambda t: t, lambda t: t * 0), hooks(lambda t: t.to(fb.bfloat16), lambda t: t.float() + 1)
    with TOLD, outer, inner:
        y = cube(fb)(x)
    y.sum().backward()
    assert x.grad.tolist() == [12.0, 27.0, 48.0]
    cube(fb)(x).sum().backward()  # no hooks any more
    assert x.grad.tolist() == [15.0, 39.0, 75.0]


def test_a_tensor_that_was_packed_may_be_modified():
    start = fb.tensor(VALUES, requires_grad=True)
    x = start * 1
    with TOLD, fb.autograd.graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t):
        y = cube(fb)(x)
    x.add_(1)
    y.sum().backward()
    assert start.grad.tolist() == [3.0, 12.0, 27.0]


def test_rules_of_custom_vjp_save_through_the_hooks():
    square = fb.autograd.custom_vjp(lambda x: x * x)
    square.defvjp(lambda x: (x * x, {"x": x}), lambda kept, ct: 2 * kept["x"] * ct)
    x = fb.tensor(VALUES, requires_grad=True)
    with TOLD, fb.autograd.graph.saved_tensors_hooks(lambda t: (t,), lambda t: t[0] * 10):
        y = square(x)
    y.sum().backward()
    assert x.grad.tolist() == [20.0, 40.0, 60.0]


def test_save_on_cpu_and_disabled_hooks():
    graph = fb.autograd.graph
    x = fb.tensor(VALUES, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with graph.save_on_cpu(pin_memory=True):
            y = cube(fb)(x)
            with pytest.raises(RuntimeError, match="not here"), graph.disable_saved_tensors_hooks("not here"):
                pass
    y.sum().backward()
    assert x.grad.tolist() == [3.0, 12.0, 27.0]
    with graph.disable_saved_tensors_hooks("outer"):
        with graph.disable_saved_tensors_hooks("inner"), pytest.raises(RuntimeError, match="inner"):
            graph.save_on_cpu().__enter__()
        with pytest.raises(RuntimeError, match="outer"):
            graph.save_on_cpu().__enter__()
    with graph.save_on_cpu():  # allowed again
        assert cube(fb)(x).tolist() == [1.0, 8.0, 27.0]


def test_what_is_wrong_is_said():
    with pytest.raises(TypeError, match=r"\[saved_tensors_hooks\] unpack_hook is a int. Pass a function."):
        fb.autograd.graph.saved_tensors_hooks(lambda t: t, 3)
    x = fb.tensor(VALUES, requires_grad=True)
    with TOLD, fb.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: 3):
        y = cube(fb)(x)
    with pytest.raises(TypeError, match=r"\[saved_tensors_hooks\] unpack_hook gave a int"):
        y.sum().backward()
