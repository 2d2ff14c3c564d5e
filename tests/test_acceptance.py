"""Features of the acceptance table that no other test file covers: seeds, `.grad`, detaching, leaves, errors in chains."""

import inspect

import flambeau as fb
import pytest


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
    with pytest.raises(RuntimeError, match=r"\[backward\] the gradient is float64"):
        (x * 2).backward(fb.ones(3, dtype=fb.float64))
    assert x.grad is None


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


@pytest.mark.accept("AG-09")
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


@pytest.mark.accept("AG-09")
def test_an_error_in_the_forward_reaches_the_gradient_and_leaves_the_leaf_intact():
    x = leaf([1.0, 2.0, 3.0])
    x.index_select(0, fb.tensor([0, 7])).sum().backward()
    with pytest.raises(IndexError, match=r"index\[1\] is out of range"):
        x.grad.tolist()
    assert x.tolist() == [1.0, 2.0, 3.0]
    x.grad = None
    (x * 2).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0, 2.0]
