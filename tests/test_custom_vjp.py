"""`autograd.custom_vjp`: gradients that are functions, inside transforms too."""

import flambeau as fb
import pytest
from flambeau.autograd import custom_vjp
from flambeau.func import grad, vmap


@custom_vjp
def clipped(x, low, scale):
    """x * scale, whose gradient is held above `low`."""
    return x * scale


clipped.defvjp(
    lambda x, low, scale: (x * scale, {"scale": scale, "low": low, "x": x}),
    lambda kept, ct: ((ct * kept["scale"]).clamp(min=kept["low"]), None, (ct * kept["x"]).sum()),
)


@pytest.mark.accept("AG-13")
def test_gradients_are_those_of_the_rule():
    x, scale = fb.tensor([1.0, 2.0], requires_grad=True), fb.tensor(3.0, requires_grad=True)
    y = clipped(x, 0.5, scale)
    assert y.tolist() == [3.0, 6.0] and clipped.__name__ == "clipped" and "held above" in clipped.__doc__
    (y * fb.tensor([1.0, -1.0])).sum().backward()
    assert x.grad.tolist() == [3.0, 0.5] and scale.grad.item() == -1.0
    assert not clipped(x.detach(), 0.5, 2.0).requires_grad


def test_within_transforms_and_of_second_order():
    f = lambda x: clipped(x.sin(), 0.5, fb.tensor(3.0))  # noqa: E731
    x = fb.tensor([0.1, 2.0, 0.3])
    expected = (3.0 * x.cos()).tolist()
    found = vmap(grad(f))(x).tolist()
    assert found == pytest.approx(expected)
    assert vmap(grad(grad(f)))(x).tolist() == pytest.approx((-3.0 * x.sin()).tolist())


def test_results_may_be_nested():
    @custom_vjp
    def both(x):
        return {"sum": x.sum(), "twice": 2 * x}

    both.defvjp(lambda x: (both(x.detach()), None), lambda kept, ct: (ct["sum"] + 10 * ct["twice"],))
    x = fb.ones(2, requires_grad=True)
    found = both(x)
    (found["sum"] * 3 + found["twice"].sum()).backward()
    assert x.grad.tolist() == [13.0, 13.0]


def test_what_is_refused():
    f = custom_vjp(lambda x: x * 2)
    x = fb.ones(2, requires_grad=True)
    assert f(x.detach()).tolist() == [2.0, 2.0]
    with pytest.raises(RuntimeError, match=r"\[custom_vjp\] <lambda> has no gradient yet\. Give one with defvjp"):
        f(x)
    f.defvjp(lambda x: (x * 2, x), lambda kept, ct: (ct, ct))
    with pytest.raises(RuntimeError, match=r"\[custom_vjp\] the gradient of <lambda> gives 2 for 1 arguments"):
        f(x).sum().backward()
