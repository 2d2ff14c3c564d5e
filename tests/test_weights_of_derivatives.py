"""What derivatives are weighted by, or taken along, has the structure and shapes of what it belongs to: `vjp`, `jvp`, ..."""

import math

import flambeau as fb
import numpy as np
import pytest
from flambeau import func, trees
from flambeau.autograd import functional

ONE, LONGER = [1.0, 2.0], [1.0, 2.0, 3.0]
#: name -> (function of one tensor, weights that fit)
VALUES = {
    "tensor": (lambda x: x * 2, lambda t: t),
    "tuple": (lambda x: (x * 2, x * 3), lambda t: (t, t)),
    "list": (lambda x: [x * 2, x * 3], lambda t: [t, t]),
    "dict": (lambda x: {"a": x * 2, "b": x * 3}, lambda t: {"a": t, "b": t}),
    "nested": (lambda x: {"a": (x * 2, [x * 3])}, lambda t: {"a": (t, [t])}),
}
OTHERS = [
    lambda t: (t,),
    lambda t: [t],
    lambda t: (t, t, t),
    lambda t: {"b": t, "a": t},
    lambda t: {"a": t, "c": t},
    lambda t: ((t, t),),
    lambda t: {"a": (t, (t,))},
]


@pytest.mark.accept("AG-15")
@pytest.mark.parametrize("name", VALUES)
def test_weights_of_vjp_are_nested_as_the_value(name):
    function, fitting = VALUES[name]
    _, gradients = func.vjp(function, fb.tensor(ONE))
    t = fb.tensor([1.0, 10.0])
    assert gradients(fitting(t))[0].tolist() == ([2, 20] if name == "tensor" else [5, 50])
    for other in [*OTHERS, *(fits for n, (_, fits) in VALUES.items() if n != name)]:
        with pytest.raises(RuntimeError, match=r"\[vjp\] weights are nested as .*, the value as .*\. Nest them alike"):
            gradients(other(t))
    with pytest.raises(RuntimeError, match=r"\[vjp\] weights have shapes"):
        gradients(fitting(fb.tensor(LONGER)))
    with pytest.raises(TypeError, match=r"\[vjp\] weights have a float among them"):
        gradients(fitting(1.0))


@pytest.mark.parametrize("name", VALUES)
def test_tangents_are_nested_as_the_primals(name):
    def total(tree):
        first, *rest = trees.leaves(tree)
        return sum(rest, first * 2)

    _, fitting = VALUES[name]
    x, t = fitting(fb.tensor(ONE)), fb.tensor([1.0, 10.0])
    wanted = [2, 20] if name == "tensor" else [3, 30]
    assert func.jvp(total, (x,), (fitting(t),))[1].tolist() == wanted
    _, along = func.linearize(total, x)
    assert along(fitting(t)).tolist() == wanted
    for other in [*OTHERS, *(fits for n, (_, fits) in VALUES.items() if n != name)]:
        with pytest.raises(RuntimeError, match=r"\[jvp\] tangents are nested as"):
            func.jvp(total, (x,), (other(t),))
        with pytest.raises(RuntimeError, match=r"\[linearize\] tangents are nested as"):
            along(other(t))
    with pytest.raises(RuntimeError, match=r"\[jvp\] tangents are nested as \(.*, \*\), the primals as"):
        func.jvp(total, (x,), (fitting(t), t))
    with pytest.raises(RuntimeError, match=r"\[jvp\] tangents have shapes"):
        func.jvp(total, (x,), (fitting(fb.tensor(LONGER)),))
    with pytest.raises(ValueError, match=r"\[jvp\] a tangent is int64"):
        func.jvp(total, (x,), (fitting(fb.tensor([1, 2])),))
    with pytest.raises(RuntimeError, match=r"\[linearize\] a tangent is float64, its primal float32"):
        along(fitting(t.double()))


def test_functional_takes_tensors_and_tuples_of_tensors():
    x, t = fb.tensor(ONE), fb.tensor([1.0, 10.0])
    square = lambda x: (x * x).sum()  # noqa: E731
    calls = [
        lambda v: functional.vjp(lambda x: x * 2, x, v),
        lambda v: functional.jvp(lambda x: x * 2, x, v),
        lambda v: functional.hvp(square, x, v),
        lambda v: functional.vhp(square, x, v),
    ]
    for call in calls:
        assert call(t)[1].tolist() == call((t,))[1].tolist() == [2, 20]
        assert call(fb.tensor([1, 10]))[1].tolist() == call(t.double())[1].tolist() == [2, 20]
        with pytest.raises(TypeError, match=r"v has a list\. Pass a tensor, or a tuple of tensors"):
            call([t])
        with pytest.raises(RuntimeError, match="v has shapes"):
            call((t, t))
        with pytest.raises(RuntimeError, match="v has shapes"):
            call(fb.tensor(LONGER))
    with pytest.raises(TypeError, match="what the function gave has a list"):
        functional.vjp(lambda x: [x * 2], x, t)
    with pytest.raises(TypeError, match="inputs has a list"):
        functional.jacobian(lambda x: x * 2, [x])


@pytest.mark.accept("PW-07")
def test_nothing_times_a_logarithm_is_a_positive_zero():
    at = np.array([-np.inf, -2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 2.0, np.inf, np.nan], np.float32)
    for function in (fb.xlogy, fb.special.xlog1py):
        for x in (0.0, -0.0):
            found = function(fb.full((len(at),), x), fb.tensor(at)).tolist()
            assert all(y == 0 and math.copysign(1, y) == 1 for y in found[:-1]) and math.isnan(found[-1])
    assert math.copysign(1, fb.xlogy(fb.tensor(-2.0), fb.tensor(1.0)).item()) == -1  # a product like others
    x = fb.tensor([0.0, -0.0, 3.0], requires_grad=True)
    fb.xlogy(x, fb.tensor([2.0, 0.5, 4.0])).sum().backward()
    assert np.allclose(x.grad.numpy(), np.log([2.0, 0.5, 4.0]))
