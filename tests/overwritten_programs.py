"""Programs that overwrite what a gradient reads, or seem to: in the API common to Flambeau and PyTorch.

In: the library, and a `look` at tensors that may cut a trace. Out: a gradient, or the refusal. Next: `test_overwritten_inputs.py`.
"""

REFUSED = "refused"
NUMBERS = [0.1, 0.2, 0.3]
PROGRAMS = {}


def program(run):
    """`run(T, look)` gives a gradient from library T; `look(tensors)` may look at them. Its docstring: what PyTorch does."""
    PROGRAMS[run.__name__] = run
    return run


def numbers(T):
    return T.tensor(NUMBERS, dtype=T.float64, requires_grad=True)


def ones(T):
    return T.ones(3, dtype=T.float64)


def gradient(a, y):
    y.sum().backward()
    return a.grad


@program
def a_result(T, look):
    """refused"""
    a = numbers(T)
    look(h := a.sin())
    look(y := h * h)
    look(h.mul_(2))
    return gradient(a, y)


@program
def a_part_of_a_result(T, look):
    """refused"""
    a = numbers(T)
    look(h := a.sin())
    look(y := h * h)
    h[0].mul_(2)
    look(h)
    return gradient(a, y)


@program
def a_result_read_through_a_view(T, look):
    """refused"""
    a = numbers(T)
    look(h := a.sin())
    v = h[1:]
    look(y := v * v)
    look(h.mul_(2))
    return gradient(a, y)


@program
def a_factor(T, look):
    """refused"""
    a = numbers(T)
    look(c := ones(T))
    look(y := a * c)
    look(c.mul_(2))
    return gradient(a, y)


@program
def a_factor_that_was_computed(T, look):
    """refused"""
    a = numbers(T)
    look(c := ones(T))
    d = c + 1
    look(y := a * d)
    look(d.mul_(2))
    return gradient(a, y)


@program
def a_term(T, look):
    """not read: allowed"""
    a = numbers(T)
    look(c := ones(T))
    look(y := a + c)
    look(c.mul_(2))
    return gradient(a, y)


@program
def a_result_that_its_own_gradient_reads(T, look):
    """refused"""
    a = numbers(T)
    look(y := a.tanh())
    look(z := y * 2)
    look(y.mul_(2))
    return gradient(a, z)


@program
def before_it_is_read(T, look):
    """allowed"""
    a = numbers(T)
    look(h := a * 3)
    look(h.mul_(2))
    look(y := h * h)
    return gradient(a, y)


@program
def before_it_is_read_without_history(T, look):
    """allowed"""
    a = numbers(T)
    look(h := a * 3)
    with T.no_grad():
        h.mul_(2)
    look(h)
    look(y := h * h)
    return gradient(a, y)


@program
def before_and_after_it_is_read(T, look):
    """refused"""
    a = numbers(T)
    h = a * 3
    with T.no_grad():
        h.mul_(2)
    look(h)
    look(y := h * h)
    with T.no_grad():
        h.mul_(2)
    look(h)
    return gradient(a, y)


@program
def a_leaf(T, look):
    """refused"""
    a = numbers(T)
    look(y := a * a)
    with T.no_grad():
        a.mul_(2)
    look(a)
    return gradient(a, y)


@program
def a_leaf_read_by_several(T, look):
    """refused"""
    a = numbers(T)
    look(y := a.sin())
    look(z := y * a)
    with T.no_grad():
        a.mul_(2)
    look(a)
    return gradient(a, z)


@program
def a_part_of_a_leaf(T, look):
    """refused"""
    a = numbers(T)
    look(y := a * a)
    with T.no_grad():
        a[0].mul_(2)
    look(a)
    return gradient(a, y)


@program
def a_leaf_through_an_alias_without_history(T, look):
    """refused"""
    a = numbers(T)
    look(y := a * a)
    a.detach().mul_(2)
    look(a)
    return gradient(a, y)


@program
def a_leaf_through_its_data_and_then_in_place(T, look):
    """refused"""
    a = numbers(T)
    look(y := a * a)
    look(a.data.mul_(2))
    with T.no_grad():
        a.mul_(2)
    look(a)
    return gradient(a, y)


@program
def a_leaf_through_its_data_and_then_in_place_after_a_derivative(T, look):
    """refused"""
    a = numbers(T)
    y = a * a * a
    look(a.data.mul_(2))
    (g,) = T.autograd.grad(y.sum(), a, create_graph=True)
    look(g)
    with T.no_grad():
        a.mul_(2)
    look(a)
    return gradient(a, g)


@program
def a_result_through_its_data_and_then_in_place(T, look):
    """refused"""
    a = numbers(T)
    look(h := a.sin())
    look(y := h * h)
    look(h.data.mul_(2))
    look(h.mul_(2))
    return gradient(a, y)


@program
def a_leaf_through_its_data_before_a_derivative_and_then_in_place(T, look):
    """refused"""
    a = numbers(T)
    y = a.cos()
    look(a.data.mul_(2))
    (g,) = T.autograd.grad(y.sum(), a, create_graph=True)
    look(g)
    with T.no_grad():
        a.add_(1)
    look(a)
    return gradient(a, g)


@program
def a_leaf_that_derivatives_of_it_read(T, look):
    """refused"""
    a = numbers(T)
    look(y := a.cos())
    (g,) = T.autograd.grad(y.sum(), a, create_graph=True)
    look(g)
    with T.no_grad():
        a.add_(1)
    look(a)
    return gradient(a, g)


@program
def a_leaf_that_a_derivative_reads(T, look):
    """refused"""
    a = numbers(T)
    h = a.cos()
    look(y := h.sin())
    (g,) = T.autograd.grad(y.sum(), h, create_graph=True)
    look(z := g * a)
    with T.no_grad():
        a[0] = 0.3
    look(a)
    return gradient(a, z)


@program
def after_a_backward_that_kept_the_graph(T, look):
    """refused"""
    a = numbers(T)
    h = a.sin()
    look(y := h * h)
    y.sum().backward(retain_graph=True)
    look(a.grad)
    look(h.mul_(2))
    return gradient(a, y)


@program
def between_derivatives(T, look):
    """refused"""
    a = numbers(T)
    look(h := a.sin())
    y = h * h * h
    (g,) = T.autograd.grad(y.sum(), a, create_graph=True)
    look(g)
    look(h.mul_(2))
    return gradient(a, g)


@program
def a_cotangent(T, look):
    """refused"""
    a = numbers(T)
    look(ct := ones(T))
    look(y := a * a)
    (g,) = T.autograd.grad(y, a, ct, create_graph=True)
    look(g)
    look(ct.mul_(2))
    return gradient(a, g)


@program
def by_a_copy(T, look):
    """refused"""
    a = numbers(T)
    look(h := a.sin())
    look(y := h * h)
    look(h.copy_(a))
    return gradient(a, y)


@program
def by_the_call_that_reads_it(T, look):
    """allowed: it had the old value"""
    a = numbers(T)
    look(h := a * 2)
    look(other := a.cos())
    look(h.mul_(other))
    return gradient(a, h)


@program
def by_the_call_whose_derivative_reads_it(T, look):
    """allowed: it had the old value, in derivatives of every order"""
    a = numbers(T)
    look(h := a.sin())
    look(h.sin_())
    (g,) = T.autograd.grad(h.sum(), a, create_graph=True)
    look(g)
    return gradient(a, g)


@program
def what_a_call_in_place_reads(T, look):
    """refused"""
    a = numbers(T)
    look(h := a * 2)
    other = a.cos()
    look(h.mul_(other))
    look(other.mul_(2))
    return gradient(a, h)


@program
def an_index(T, look):
    """refused"""
    a = numbers(T)
    look(i := T.tensor([0, 2]))
    look(y := a.index_select(0, i))
    look(i.zero_())
    return gradient(a, y)


@program
def a_mask(T, look):
    """refused"""
    a = numbers(T)
    look(m := T.tensor([True, False, True]))
    look(y := T.where(m, a, a * 2))
    look(m.logical_not_())
    return gradient(a, y)


@program
def a_result_with_a_hook(T, look):
    """refused"""
    a = numbers(T)
    h = a.sin()
    h.register_hook(lambda g: g * 1.0)
    look(h)
    look(y := h * h)
    look(h.mul_(2))
    return gradient(a, y)


@program
def through_an_alias_without_history(T, look):
    """refused"""
    a = numbers(T)
    look(h := a.sin())
    look(y := h * h)
    h.detach().mul_(2)
    look(h)
    return gradient(a, y)


@program
def running_statistics(T, look):
    """allowed: no gradient reads them"""
    a = numbers(T)
    look(r := ones(T))
    look(y := (a - r) * a)
    look(r.mul_(0.9).add_(a.detach() * 0.1))
    return gradient(a, y.detach() + a * 2)


@program
def a_factor_of_two_products(T, look):
    """refused"""
    a = numbers(T)
    c = ones(T)
    look(y := a * c)
    look(z := y * c)
    look(c.add_(1))
    return gradient(a, z)
