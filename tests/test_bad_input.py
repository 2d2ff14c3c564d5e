"""Bad input: the class and text of each error, that it comes from the user's line, and that nothing is lost."""

import inspect

import flambeau as fb
import flambeau.nn as nn
import flambeau.nn.functional as F
import pytest


def here() -> int:
    """The line number of the caller."""
    return inspect.currentframe().f_back.f_lineno


@pytest.mark.accept("ERR-01", "ERR-07")
def test_shapes_that_do_not_broadcast():
    with pytest.raises(RuntimeError, match=r"\[add\].*\(2, 3\).*\(2, 4\)"):
        fb.zeros(2, 3) + fb.zeros(2, 4)


def test_matmul_of_incompatible_shapes():
    with pytest.raises(RuntimeError, match=r"\[matmul\].*\(2, 3\).*\(4, 5\)"):
        fb.zeros(2, 3) @ fb.zeros(4, 5)


def test_dtype_mismatch_in_matmul():
    with pytest.raises(RuntimeError, match=r"\[matmul\].*float32.*float64"):
        fb.zeros(2, 3) @ fb.zeros(3, 2, dtype=fb.float64)


def test_axis_out_of_range():
    with pytest.raises(IndexError, match=r"\[sum\] dim 2 is out of range.*-2 to 1"):
        fb.zeros(2, 3).sum(dim=2)


def test_in_place_result_of_another_category():
    with pytest.raises(RuntimeError, match=r"float32.*int64|int64.*float32"):
        x = fb.tensor([1, 2])
        x += 0.5


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin"])
def test_zero_size_reductions_without_identity(name):
    with pytest.raises((RuntimeError, IndexError), match=rf"\[(arg)?{name}\] dimension 0 of shape .* is empty"):
        getattr(fb.zeros(0, 3), name)(dim=0)


def test_sum_of_nothing_is_zero():
    assert fb.zeros(0, 3).sum(dim=0).tolist() == [0.0, 0.0, 0.0]
    assert fb.zeros(0).prod().item() == 1.0


def test_integer_division_by_zero():
    x, y = fb.tensor([4, 5]), fb.tensor([2, 0])
    z = x // y
    with pytest.raises(RuntimeError, match=r"division by zero|ZeroDivision"):
        z.tolist()
    assert (x + y).tolist() == [6, 5]


def test_gather_index_out_of_range_names_the_recording_line():
    x, index = fb.arange(6).reshape(2, 3), fb.tensor([[0, 1], [3, 2]])
    line = here() + 1
    y = x.gather(1, index)
    z = y * 2
    with pytest.raises(
        IndexError, match=r"\[gather\] index\[1, 0\] is out of range for axis 1 of shape \(2, 3\)"
    ) as caught:
        z.tolist()
    assert f"{__file__.rsplit('/', 1)[1]}" in str(caught.value) and str(line) in str(caught.value)
    with pytest.raises(IndexError, match=r"\[gather\]"):
        z.tolist()
    assert (x + 1).tolist() == [[1, 2, 3], [4, 5, 6]]


def test_a_failed_op_does_not_undo_or_lose_what_came_before_it():
    x = fb.zeros(3)
    x += 1
    good = x * 2
    bad = x.gather(0, fb.tensor([5]))
    x += 10
    with pytest.raises(IndexError):
        bad.tolist()
    assert good.tolist() == [2.0, 2.0, 2.0]


def test_class_index_out_of_range_in_cross_entropy():
    loss = F.cross_entropy(fb.zeros(2, 3), fb.tensor([0, 3]))
    with pytest.raises(IndexError, match=r"3"):
        loss.item()


@pytest.mark.accept("AG-10")
def test_backward_twice():
    x = fb.tensor([1.0, 2.0], requires_grad=True)
    loss = (x * x).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match=r"second time.*retain_graph"):
        loss.backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_backward_twice_with_retain_graph():
    x = fb.tensor([1.0, 2.0], requires_grad=True)
    loss = (x * x).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    assert x.grad.tolist() == [4.0, 8.0]


def test_backward_twice_across_a_flush():
    x = fb.tensor([1.0, 2.0], requires_grad=True)
    loss = (x * x).sum()
    loss.item()
    loss.backward()
    x.grad.tolist()
    with pytest.raises(RuntimeError, match=r"second time.*retain_graph"):
        loss.backward()


@pytest.mark.accept("AG-02")
def test_backward_from_a_non_scalar():
    x = fb.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(RuntimeError, match=r"scalar"):
        (x * 2).backward()


def test_backward_without_history():
    with pytest.raises(RuntimeError, match=r"does not require grad"):
        fb.ones(1).sum().backward()


def test_in_place_on_a_leaf():
    x = fb.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(RuntimeError, match=r"leaf"):
        x += 1
    with fb.no_grad():
        x += 1
    assert x.tolist() == [2.0, 3.0]


def test_saved_tensor_changed_in_place():
    x = fb.tensor([1.0, 2.0], requires_grad=True)
    y = x.exp()
    z = y * y
    y.add_(1)
    with pytest.raises(RuntimeError, match=r"modified.*in.?place"):
        z.sum().backward()


def test_saved_tensor_changed_in_place_across_a_flush():
    x = fb.tensor([1.0, 2.0], requires_grad=True)
    y = x.exp()
    z = y * y
    z.tolist()
    y.add_(1)
    y.tolist()
    with pytest.raises(RuntimeError, match=r"modified.*in.?place"):
        z.sum().backward()


@pytest.mark.accept("CRE-02", "T-13")
def test_element_counts_are_checked():
    with pytest.raises((RuntimeError, ValueError), match=r"16|4"):
        fb.from_buffer(bytes(16), dtype=fb.float32, shape=(5,))
    with pytest.raises(RuntimeError, match=r"\[(reshape|view)\].*6"):
        fb.arange(6).reshape(4, 2)


@pytest.mark.accept("CRE-05", "T-12")
def test_item_keeps_the_type_and_refuses_many_elements():
    assert type(fb.tensor(3).item()) is int and type(fb.tensor(True).item()) is bool
    assert type(fb.tensor(2.5).item()) is float
    with pytest.raises((RuntimeError, ValueError), match=r"2"):
        fb.ones(2).item()


def test_cuda_is_refused_clearly():
    with pytest.raises(RuntimeError, match=r"cuda"):
        fb.zeros(2, device=fb.device("cuda"))


@pytest.mark.accept("NN-04")
def test_module_used_before_init():
    class Forgot(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(2, 2)

    with pytest.raises(AttributeError, match=r"__init__"):
        Forgot()


@pytest.mark.accept("T-27", "NN-06")
def test_strict_loading_reports_missing_and_unexpected():
    model = nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match=r"(?s)bias.*extra|extra.*bias"):
        model.load_state_dict({"weight": fb.zeros(2, 2), "extra": fb.zeros(1)})
    report = model.load_state_dict({"weight": fb.zeros(2, 2), "extra": fb.zeros(1)}, strict=False)
    assert report.missing_keys == ["bias"] and report.unexpected_keys == ["extra"]


def test_a_gradient_through_what_failed_says_so():
    """The values from before the call that fails are there; their graph is not, and nobody has freed it."""
    w = fb.tensor([1.0, 2.0], requires_grad=True)
    y = w * 2.0
    lost = fb.tensor([1.0, 2.0]).index_select(0, fb.tensor([5]))
    with pytest.raises(IndexError):
        lost.tolist()
    assert y.tolist() == [2.0, 4.0]
    for gradient in (y.sum().backward, lambda: fb.autograd.grad(y.sum(), w, create_graph=True)):
        with pytest.raises(RuntimeError, match=r"no gradient history any more: an operation .* has failed"):
            gradient()
    (w * 2.0).sum().backward()
    assert w.grad.tolist() == [2.0, 2.0]


@pytest.mark.accept("ERR-01")
@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda m: m.bitwise_not(m.ones(2)), NotImplementedError, r"\[bitwise_not\] input has dtype flambeau.float32"),
        (lambda m: m.ones(2) & m.tensor([1, 2]), NotImplementedError, r"\[bitwise_and\] operands have dtype"),
        (lambda m: m.ones(2) << 1, NotImplementedError, r"\[bitwise_left_shift\] operands have dtype"),
        (lambda m: ~m.ones(2), TypeError, r"\[bitwise_not\] input has dtype flambeau.float32"),
        (lambda m: int(m.ones(2)), ValueError, r"\[int\] a tensor of shape \(2,\) has 2 elements, not one"),
        (lambda m: float(m.ones(0)), ValueError, r"\[float\] a tensor of shape \(0,\) has 0 elements"),
        (lambda m: range(3)[m.tensor([1, 2])], TypeError, r"\[index\] a tensor of shape \(2,\) has 2 elements"),
        (lambda m: m.ones(2).item(), RuntimeError, r"\[item\] a tensor of shape \(2,\) has 2 elements"),
        (lambda m: "a" in m.ones(2), RuntimeError, r"\[contains\] a str is no number and no tensor"),
        (
            lambda m: m.nn.functional.threshold(m.tensor([True]), 0, 1),
            NotImplementedError,
            r"\[threshold\] input has dtype",
        ),
    ],
)
def test_classes_of_errors_are_those_of_pytorch(call, error, text):
    with pytest.raises(error, match=text) as caught:
        call(fb)
    assert type(caught.value) is error
    torch = pytest.importorskip("torch", reason="could not import 'torch'")
    with pytest.raises(error) as theirs:
        call(torch)
    assert type(theirs.value) is error


NO_INTS = {
    "unfold": lambda x: x.unfold(0, 2, 1.0),
    "roll": lambda x: x.roll(1.0, 0),
    "select": lambda x: x.select(0, None),
    "select of a list": lambda x: x.select(0, [1]),
    "select of a slice": lambda x: fb.select(x, 0, slice(0, 1)),
    "diagonal": lambda x: x.diagonal(1.0),
    "split": lambda x: x.split(2.0),
    "split by sizes": lambda x: x.split([1, 3.0]),
    "chunk": lambda x: x.chunk(2.0),
    "tensor_split": lambda x: x.tensor_split(2.0),
}


@pytest.mark.parametrize("name", NO_INTS)
def test_what_is_no_int_is_a_type_error_each_time(name):
    x = fb.ones(4, 6)
    for _ in range(2):
        with pytest.raises(TypeError, match=rf"\[{name.split()[0]}\] "):
            NO_INTS[name](x)


def test_bools_are_added_at_positions():
    x = fb.tensor([False, True, False, False])
    x.index_add_(0, fb.tensor([0, 0, 2]), fb.tensor([True, False, False]))
    assert x.tolist() == [True, True, False, False]
    assert x.index_add(0, fb.tensor([3]), fb.tensor([True]), alpha=0).tolist() == x.tolist()
