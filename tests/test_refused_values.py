"""What PyTorch refuses by its values is refused here, when the values are read, at the user's line, op by op and fused alike;
nothing else of the program is lost."""

import math

import flambeau as fb
import flambeau.nn.functional as F
import pytest

REFUSED = {
    "an input above 1": (lambda: F.binary_cross_entropy(fb.tensor([0.5, 1.5]), fb.tensor([1.0, 0.0])), r"input\[1\]"),
    "an input below 0": (lambda: F.binary_cross_entropy(fb.tensor([-0.1, 0.5]), fb.tensor([0.0, 0.0])), r"input\[0\]"),
    "an input of NaN": (lambda: F.binary_cross_entropy(fb.tensor([[math.nan]]), fb.tensor([[1.0]])), r"input\[0, 0\]"),
    "a target of 3": (lambda: F.binary_cross_entropy(fb.tensor([0.5]), fb.tensor([3.0])), r"target\[0\]"),
    "a target of NaN": (lambda: F.binary_cross_entropy(fb.tensor([0.5]), fb.tensor([math.nan])), r"target\[0\]"),
    "a module": (lambda: fb.nn.BCELoss()(fb.tensor([2.0]), fb.tensor([1.0])), r"\[binary_cross_entropy\] input\[0\]"),
    "bernoulli": (lambda: fb.bernoulli(fb.tensor([0.5, 1.5])), r"\[bernoulli\] input\[1\] is not between 0 and 1"),
    "bernoulli of NaN": (lambda: fb.bernoulli(fb.tensor(math.nan)), r"\[bernoulli\] input is not between 0 and 1"),
    "bernoulli_ of a tensor": (lambda: fb.zeros(2).bernoulli_(fb.tensor(1.5)), r"\[bernoulli_\] p is not between 0"),
    "bernoulli_": (lambda: fb.zeros(2).bernoulli_(math.nan), r"\[bernoulli_\] p is nan"),
    "normal_": (lambda: fb.zeros(2).normal_(0.0, math.nan), r"\[normal_\] std is nan"),
    "uniform_": (lambda: fb.zeros(2).uniform_(0.0, math.inf), r"\[uniform_\] from 0.0 to inf is no finite range"),
    "randperm": (lambda: fb.randperm(-1), r"\[randperm\] n is -1"),
    "huber_loss of no width": (
        lambda: F.huber_loss(fb.ones(2), fb.zeros(2), delta=0.0),
        r"\[huber_loss\] delta is not",
    ),
    "huber_loss of an int": (lambda: F.huber_loss(fb.ones(2), fb.zeros(2), delta=-1), r"\[huber_loss\] delta is not"),
    "smooth_l1_loss": (lambda: F.smooth_l1_loss(fb.ones(2), fb.zeros(2), beta=-1.0), r"\[smooth_l1_loss\] beta is neg"),
    "full": (lambda: fb.full((2,), math.nan, dtype=fb.int64), r"\[full\] fill_value is no value of int64"),
}


@pytest.mark.parametrize("mode", ["off", "blocking"])
@pytest.mark.parametrize("name", REFUSED)
def test_refused_at_the_users_line(name, mode):
    make, text = REFUSED[name]
    with fb.compiler_options(mode=mode):
        for _ in range(3):
            with pytest.raises(RuntimeError, match=text):
                make().tolist()


def test_a_number_that_changes_is_refused_as_one_that_does_not():
    for number in (1.5, 2.5, 3.5, 4.5):
        assert fb.full((2,), number, dtype=fb.int32).tolist() == [int(number)] * 2
    for number in (math.nan, math.inf, -math.inf):
        with pytest.raises(RuntimeError, match=r"\[full\] fill_value is no value of int32"):
            fb.full((2,), number, dtype=fb.int32).tolist()


@pytest.mark.parametrize("mode", ["off", "blocking"])
def test_a_refused_step_loses_nothing(mode):
    """The parameters, their gradients and the optimizer's state are those of before; the next good step goes on."""
    with fb.compiler_options(mode=mode):
        histories = []
        for spoiled in (False, True):
            w = fb.nn.Parameter(fb.tensor([0.5, -0.25]))
            optimizer = fb.optim.Adam([w], lr=0.1)
            seen = []
            for step in range(4):
                if spoiled and step == 2:
                    optimizer.zero_grad()
                    with pytest.raises(
                        RuntimeError, match=r"\[binary_cross_entropy\] input\[0\] is not between 0 and 1"
                    ):
                        F.binary_cross_entropy(w * 100.0, fb.tensor([1.0, 0.0])).backward()
                        optimizer.step()
                    assert w.tolist() == seen[-1]
                optimizer.zero_grad()
                F.binary_cross_entropy(fb.sigmoid(w), fb.tensor([1.0, 0.0])).backward()
                optimizer.step()
                seen.append(w.tolist())
            histories.append(seen)
        assert histories[0] == histories[1]


def test_what_lies_on_the_bounds_is_fine():
    ends = fb.tensor([0.0, 1.0])
    assert F.binary_cross_entropy(ends, ends).item() == 0.0
    assert fb.bernoulli(ends).tolist() == [0.0, 1.0]
    assert F.smooth_l1_loss(fb.ones(2), fb.zeros(2), beta=0).item() == 1.0
    assert F.huber_loss(fb.ones(2), fb.zeros(2), delta=math.inf).item() == 0.5


def test_floats_are_converted_as_by_cast_where_an_int_holds_them():
    values = [-2.7, 2.7, -0.5, 2.0**30]
    for dtype in (fb.int32, fb.int64):
        assert fb.tensor(values, dtype=dtype).tolist() == fb.tensor(values, dtype=fb.float64).to(dtype).tolist()
        for lost in (math.nan, math.inf, -math.inf, 1e30):
            with pytest.raises(RuntimeError, match=rf"\[tensor\] .* is no value of {dtype.name}\."):
                fb.tensor([lost], dtype=dtype)
