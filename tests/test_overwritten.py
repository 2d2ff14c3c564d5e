"""Results that are overwritten in place: what they came from gets the gradient that PyTorch gives it, zeros included."""

import flambeau as fb
import numpy as np
import pytest
from flambeau import declarations

#: In-place calls after which nothing is left of the tensor, in both libraries.
WHOLE = {
    "zero_": lambda y, other: y.zero_(),
    "fill_": lambda y, other: y.fill_(3.0),
    "fill_(tensor)": lambda y, other: y.fill_(other[0, 0]),
    "copy_": lambda y, other: y.copy_(other),
    "copy_(row)": lambda y, other: y.copy_(other[0]),
    "copy_(itself, counted)": lambda y, other: y.copy_(y > 0),
    "normal_": lambda y, other: y.normal_(),
    "uniform_": lambda y, other: y.uniform_(),
    "bernoulli_": lambda y, other: y.bernoulli_(0.5),
    "[:] =": lambda y, other: y.__setitem__(slice(None), 0.0),
    "[...] = tensor": lambda y, other: y.__setitem__(..., other),
    "view(-1).zero_": lambda y, other: y.view(-1).zero_(),
    "t().copy_": lambda y, other: y.t().copy_(other),
    "t()[:].fill_": lambda y, other: y.t()[:].fill_(1.0),
    "by halves": lambda y, other: (y[:1].zero_(), y[1:].fill_(2.0)),
    "masked": lambda y, other: y.masked_fill_(y == y, 0.0),
    "[mask] =": lambda y, other: y.__setitem__(y == y, 0.0),
    "eq_": lambda y, other: y.eq_(other),
    "sign_": lambda y, other: y.sign_(),
    "mul_(0)": lambda y, other: y.mul_(0.0),
    "data, then itself": lambda y, other: (y.data.zero_(), y.zero_()),
}
NUMBERS = np.arange(1.0, 10.0).reshape(3, 3)


def overwritten(write, library=fb):
    x = library.tensor(NUMBERS.copy(), requires_grad=True)
    y = x * 2
    write(y, library.tensor(NUMBERS * 0.1))
    return x, y


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("look", [False, True])
def test_gradient_of_an_overwritten_result_is_zero(name, look):
    x, y = overwritten(WHOLE[name])
    assert y.requires_grad and not y.is_leaf
    if look:
        y.tolist()
    y.sum().backward(retain_graph=True)
    assert x.grad.tolist() == np.zeros((3, 3)).tolist()
    (g,) = fb.autograd.grad(y.sum(), [x])
    assert g.tolist() == np.zeros((3, 3)).tolist()


@pytest.mark.parametrize("name", WHOLE)
def test_what_was_read_before_keeps_its_gradient(name):
    x = fb.tensor(NUMBERS, requires_grad=True)
    y = x * 2
    before = y.sum()
    WHOLE[name](y, fb.ones(3, 3, dtype=fb.float64))
    (before + (y * y).sum()).backward()
    assert x.grad.tolist() == np.full((3, 3), 2.0).tolist()


def test_what_is_written_has_its_gradient_too():
    x, z = (fb.tensor(NUMBERS, requires_grad=True) for _ in range(2))
    y = x * 2
    y.copy_(z * 3)
    y.sum().backward()
    assert x.grad.tolist() == np.zeros((3, 3)).tolist()
    assert z.grad.tolist() == np.full((3, 3), 3.0).tolist()


def test_writes_outside_of_grad_mode_leave_the_gradient_alone():
    for write in (lambda y: y.data.zero_(), lambda y: y.detach().fill_(1.0)):
        x = fb.tensor(NUMBERS, requires_grad=True)
        y = x * 2
        write(y)
        y.sum().backward()
        assert x.grad.tolist() == np.full((3, 3), 2.0).tolist()


#: What may be done with a view between a write through its data and a gradient by it.
BETWEEN = {
    "nothing": lambda x, v: None,
    "read": lambda x, v: v * 1,
    "part": lambda x, v: v[:] * v[:],
    "gradient": lambda x, v: fb.autograd.grad(v.sum(), [v]),
    "look": lambda x, v: v.tolist(),
}


@pytest.mark.parametrize("name", BETWEEN)
@pytest.mark.parametrize("view", [lambda x: x[1:], lambda x: x.view_as(x)[1:], lambda x: x.t()[:, 1:].t()])
def test_gradient_by_a_view_reads_the_data_that_were_there(name, view):
    """Those of each read of the view, though it is the same view and what gradients by it ask for is one."""
    x = fb.tensor(NUMBERS, requires_grad=True)
    v = view(x)
    y = (v * v).sum()
    v.data.mul_(3.0)
    z = (v * v).sum()
    BETWEEN[name](x, v)
    (g,) = fb.autograd.grad(y, [v], retain_graph=True)
    assert g.tolist() == (2 * NUMBERS[1:]).tolist()
    (g,) = fb.autograd.grad(y + z, [v])
    assert g.tolist() == (8 * NUMBERS[1:]).tolist()


def test_weight_decay_follows():
    w, free = (fb.ones(2, requires_grad=True) for _ in range(2))
    optimizer = fb.optim.SGD([w, free], lr=0.5, weight_decay=1.0)
    y = w * 3
    y.zero_()
    y.sum().backward()
    optimizer.step()
    assert w.tolist() == [0.5, 0.5]
    assert free.grad is None and free.tolist() == [1.0, 1.0]


#: PyTorch lets gradients pass through the logical ones as if they had left the tensor as it was, and has none for
#: floor_divide_ and heaviside_; ours are zeros. It has no rsub_, and no derivatives of acosh_, asinh_ and atanh_; that of
#: digamma_ is good to eleven digits only, igamma_ and igammac_ have none by their first operand. nextafter_ raises here.
APART = {"logical_and_", "logical_or_", "logical_xor_", "logical_not_", "floor_divide_", "heaviside_", "rsub_"}
APART |= {"acosh_", "asinh_", "atanh_", "digamma_", "igamma_", "igammac_", "nextafter_"}


#: In-place forms of declared functions, whatever they are.
FORMS = {d.name + "_" for d in declarations.DECLARED if d.in_place is not None}


@pytest.mark.parametrize("name", sorted(FORMS - APART))
def test_every_form_agrees_with_pytorch_on_who_gets_a_gradient(name):
    """Zeros or none at all."""
    torch = pytest.importorskip("torch")
    arguments = {
        "lerp_": lambda t: (t, 0.3), "addcmul_": lambda t: (t, t), "addcdiv_": lambda t: (t, t + 3),
        "masked_fill_": lambda t: (t > 0, 0.0), "clamp_min_": lambda t: (0.5,), "clamp_max_": lambda t: (0.5,),
        "addmm_": lambda t: (t, t),
    }  # fmt: skip

    def run(library):
        x = library.tensor(NUMBERS.copy(), requires_grad=True)
        y = x * 0.1
        other = library.tensor(NUMBERS * 0.07)
        call = getattr(y, name)
        try:
            call(*arguments[name](other)) if name in arguments else call()
        except TypeError:
            call(other)
        y.sum().backward()
        return None if x.grad is None else (x.grad + 0).tolist()  # PyTorch's zeros may have no memory to read

    try:
        expected = run(torch)
    except (RuntimeError, TypeError):  # not for floating-point numbers
        with pytest.raises((RuntimeError, TypeError)):
            run(fb)
        return
    found = run(fb)
    assert (found is None) == (expected is None)
    np.testing.assert_allclose(found, expected, 1e-12)
