"""Elementwise functions against NumPy, and against PyTorch where it is installed: values, dtypes, gradients, errors."""

import math

import flambeau as fb
import flambeau.nn.functional as F
import numpy as np
import pytest
from support import against_numpy, against_torch, arrays, gradients_against_torch

FLOATS = {
    "x": arrays(3, 5),
    "y": arrays(3, 5, seed=1),
    "row": arrays(5, seed=2),
    "positive": np.abs(arrays(3, 5)) + 0.5,
}
UNARY = {
    "abs": np.abs, "neg": np.negative, "exp": np.exp, "expm1": np.expm1, "sin": np.sin, "cos": np.cos, "tan": np.tan,
    "tanh": np.tanh, "floor": np.floor, "ceil": np.ceil, "round": np.rint, "trunc": np.trunc, "sign": np.sign,
    "square": np.square, "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite, "logical_not": np.logical_not,
    "relu": lambda x: np.maximum(x, 0), "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "frac": lambda x: x - np.trunc(x),
}  # fmt: skip
POSITIVE = {
    "log": np.log, "log2": np.log2, "log10": np.log10, "log1p": np.log1p, "sqrt": np.sqrt, "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x, "exp2": np.exp2,
}  # fmt: skip
ROWS = {
    "neg": "PW-04", "exp": "PW-05", "log": "PW-05", "sqrt": "PW-05", "abs": "PW-06", "log1p": "PW-08", "expm1": "PW-08",
    "log2": "PW-08", "log10": "PW-08", "sign": "PW-10", "floor": "PW-10", "ceil": "PW-10", "round": "PW-10",
    "trunc": "PW-10", "frac": "PW-10", "relu": "PW-29", "sigmoid": "PW-31", "tanh": "PW-31", "isnan": "PW-21", "isinf": "PW-21",
    "isfinite": "PW-21", "sin": "PW-09", "cos": "PW-09", "tan": "PW-09",
}  # fmt: skip


def marked(names):
    return [pytest.param(n, marks=pytest.mark.accept(ROWS[n]) if n in ROWS else ()) for n in names]


@pytest.mark.accept("PW-26")
@pytest.mark.parametrize("name", marked(UNARY))
def test_unary_function_and_method(name):
    for dtype in (np.float32, np.float64):
        x = np.concatenate([FLOATS["x"].ravel(), [0.0, -0.0, 0.5, 1.5, -2.5]]).astype(dtype)
        for result in (getattr(fb, name)(fb.tensor(x)), getattr(fb.tensor(x), name)()):
            against_numpy(result, np.asarray(UNARY[name](x)))


@pytest.mark.parametrize("name", marked(POSITIVE))
def test_unary_function_of_positive_numbers(name):
    for dtype in (np.float32, np.float64):
        x = FLOATS["positive"].astype(dtype)
        against_numpy(getattr(fb, name)(fb.tensor(x)), POSITIVE[name](x).astype(dtype))


@pytest.mark.parametrize(
    "name", [n for n in {**UNARY, **POSITIVE} if n not in ("isnan", "isinf", "isfinite", "logical_not")]
)
def test_unary_gradient_is_that_of_torch(name):
    gradients_against_torch(lambda m, x: getattr(m, name)(x), FLOATS["positive"] if name in POSITIVE else FLOATS["x"])


@pytest.mark.parametrize(
    "name", ["exp", "log", "sqrt", "sigmoid", "tanh", "floor", "round", "abs", "neg", "sign", "square", "relu"]
)
def test_unary_of_integers_has_the_dtype_of_torch(name):
    against_torch(lambda m, x: getattr(m, name)(x), np.arange(1, 7))


BINARY = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.true_divide, "maximum": np.maximum,
    "minimum": np.minimum, "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal,
}  # fmt: skip


@pytest.mark.accept("PW-01", "PW-16", "PW-17", "PW-18", "PW-26")
@pytest.mark.parametrize("name", BINARY)
def test_binary_function_and_method_broadcast(name):
    for x, y in (("x", "y"), ("x", "row"), ("row", "x")):
        x, y = FLOATS[x], FLOATS[y]
        wanted = BINARY[name](x, y)
        against_numpy(getattr(fb, name)(fb.tensor(x), fb.tensor(y)), wanted)
        against_numpy(getattr(fb.tensor(x), name)(fb.tensor(y)), wanted)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "maximum", "minimum"])
def test_binary_gradient_is_that_of_torch(name):
    x, y = FLOATS["x"].copy(), FLOATS["y"].copy()
    y[0] = x[0]  # ties
    gradients_against_torch(lambda m, x, y: getattr(m, name)(x, y), x, y)
    gradients_against_torch(lambda m, x, y: getattr(m, name)(x, y), x, FLOATS["row"])


DTYPES = ["bool", "int32", "int64", "float32", "float64"]


@pytest.mark.accept("PW-01")
@pytest.mark.parametrize("name", ["add", "mul", "div", "sub", "maximum", "lt", "eq"])
@pytest.mark.parametrize("left", DTYPES)
@pytest.mark.parametrize("right", DTYPES)
def test_promotion_is_that_of_torch(name, left, right):
    if name == "sub" and "bool" in (left, right):
        return  # refused by PyTorch: see test_bool_arithmetic
    x, y = np.array([0, 1, 1, 3]).astype(left), np.array([1, 1, 0, 2]).astype(right)
    if name == "div":
        y = np.ones(4, right)
    against_torch(lambda m, x, y: getattr(m, name)(x, y), x, y)
    against_torch(lambda m, x, y: getattr(m, name)(x, y[1]), x, y)
    against_torch(lambda m, x, y: getattr(m, name)(x[1], y), x, y)


@pytest.mark.accept("PW-03", "PW-19")
@pytest.mark.parametrize("number", [2, 2.5, True, -1, 0.1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_are_weak(number, dtype):
    x = np.array([0, 1, 3, 5]).astype(dtype)
    for op in (
        lambda m, x: x + number, lambda m, x: number + x, lambda m, x: x * number, lambda m, x: x / number,
        lambda m, x: x < number, lambda m, x: number >= x, lambda m, x: x == number, lambda m, x: x != number,
        lambda m, x: m.add(x, number), lambda m, x: m.where(x > 0, x, number),
    ):  # fmt: skip
        against_torch(op, x)


@pytest.mark.accept("PW-02")
def test_alpha():
    x, y = FLOATS["x"], FLOATS["y"]
    against_numpy(fb.add(fb.tensor(x), fb.tensor(y), alpha=2.5), x + np.float32(2.5) * y)
    against_numpy(fb.tensor(x).sub(fb.tensor(y), alpha=3), x - 3 * y)
    gradients_against_torch(lambda m, x, y: m.sub(x, y, alpha=0.5), x, y)
    with pytest.raises(RuntimeError, match=r"\[add\] alpha is a float but the result is int64"):
        fb.add(fb.tensor([1]), fb.tensor([2]), alpha=0.5)


def test_bool_arithmetic():
    x, y = np.array([True, True, False]), np.array([True, False, False])
    against_torch(lambda m, x, y: x + y, x, y)
    against_torch(lambda m, x, y: x * y, x, y)
    for op in (lambda x: x - x, lambda x: -x):
        with pytest.raises(RuntimeError, match="not defined for bool"):
            op(fb.tensor(x))


@pytest.mark.accept("PW-07")
@pytest.mark.parametrize("exponent", [2, 3, 0.5, -1, 0, 1, 2.5, -0.5, 7])
def test_pow_by_a_number(exponent):
    x = FLOATS["positive"]
    against_torch(lambda m, x: x**exponent, x, ulp=8)
    against_torch(lambda m, x: m.pow(x, exponent), x, ulp=8)
    gradients_against_torch(lambda m, x: x**exponent, x)


@pytest.mark.accept("PW-07")
def test_numbers_beside_float64_tensors_are_not_rounded_to_the_default_dtype():
    x = np.array([0.3, 1.7, 2.9])
    for i in range(5):  # the first values are compiled in, later ones enter as operands
        number = 0.1 + i / 7
        t = fb.tensor(x)
        assert np.array_equal(t.add(t, alpha=number).numpy(), x + number * x)
        assert np.array_equal(t.sub_(fb.ones(3, dtype=fb.float64), alpha=number).numpy(), x - number)
        np.testing.assert_allclose((fb.tensor(x) ** number).numpy(), x**number, 1e-14)


@pytest.mark.accept("PW-07")
def test_pow_of_tensors_and_integers():
    x, y = FLOATS["positive"], FLOATS["y"]
    against_torch(lambda m, x, y: x**y, x, y, ulp=8)
    against_torch(lambda m, x: 2**x, x, ulp=8)
    gradients_against_torch(lambda m, x, y: x**y, x, y)
    against_torch(lambda m, x: x**3, np.arange(-3, 4))
    against_torch(lambda m, x, y: x**y, np.array([2, 3]), np.array([5, 2]))
    with pytest.raises(RuntimeError, match=r"\[pow\] an integer tensor cannot be raised to -1"):
        fb.tensor([2]) ** -1


@pytest.mark.accept("PW-12")
@pytest.mark.parametrize("name", ["floor_divide", "remainder", "fmod"])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32])
def test_division_with_remainder(name, dtype):
    x = np.array([7, -7, 7, -7, 6, 0, 5]).astype(dtype)
    y = np.array([2, 2, -2, -2, 3, 5, 7]).astype(dtype)
    against_torch(lambda m, x, y: getattr(m, name)(x, y), x, y)
    against_torch(lambda m, x: getattr(m, name)(x, 3), x)
    against_torch(lambda m, x, y: m.div(x, y, rounding_mode="trunc"), x, y)
    against_torch(lambda m, x, y: m.div(x, y, rounding_mode="floor"), x, y)


def test_float_floor_division_does_not_round_up():
    against_torch(lambda m, x: x // 0.1, np.array([1.0, 0.3, -1.0], np.float32))


@pytest.mark.parametrize("op", [lambda x, y: x // y, lambda x, y: x % y, lambda x, y: x.fmod(y)])
def test_integer_division_by_zero(op):
    x, y = fb.tensor([4, 3]), fb.tensor([2, 0])
    with pytest.raises(RuntimeError, match=r"integer division by zero at \[1\]"):
        op(x, y).tolist()
    assert x.tolist() == [4, 3]


@pytest.mark.accept("PW-14")
@pytest.mark.parametrize("bounds", [(-0.5, 0.5), (None, 0.25), (0.1, None), (0.5, -0.5), (0, 1)])
def test_clamp_by_numbers(bounds):
    against_torch(lambda m, x: m.clamp(x, *bounds), FLOATS["x"])
    against_torch(lambda m, x: x.clip(min=bounds[0], max=bounds[1]), FLOATS["x"])
    gradients_against_torch(lambda m, x: m.clamp(x, *bounds), np.array([-0.5, 0.5, 0.0, 2.0, -3.0], np.float32))


@pytest.mark.accept("PW-14")
def test_clamp_by_tensors_and_nan():
    x, low, high = FLOATS["x"], FLOATS["row"] - 0.5, FLOATS["row"] + 0.5
    against_torch(lambda m, x, a, b: m.clamp(x, a, b), x, low, high)
    gradients_against_torch(lambda m, x, a, b: m.clamp(x, a, b), x, low, high)
    against_torch(lambda m, x: m.clamp(x, 0.0, 1.0), np.array([np.nan, 2.0, -1.0], np.float32))
    with pytest.raises(RuntimeError, match=r"\[clamp\] both bounds are None"):
        fb.clamp(fb.tensor([1.0]))


@pytest.mark.accept("PW-24")
def test_where():
    condition, x, y = FLOATS["x"] > 0, FLOATS["x"], FLOATS["row"]
    against_torch(lambda m, c, x, y: m.where(c, x, y), condition, x, y)
    against_torch(lambda m, c, x: m.where(c, x, 0), condition, x)
    against_torch(lambda m, c: m.where(c, 1, 2.5), condition)
    gradients_against_torch(lambda m, x, y: m.where(x > 0, x, y), x, y)
    with pytest.raises(RuntimeError, match=r"\[where\] the condition has dtype flambeau.float32"):
        fb.where(fb.tensor(x), 1.0, 2.0)


@pytest.mark.accept("PW-24")
def test_where_keeps_nan_out_of_the_other_branch():
    x = fb.tensor([0.0, 4.0], requires_grad=True)
    y = fb.where(x > 0, x, fb.ones_like(x))
    fb.where(x > 0, fb.sqrt(y), fb.zeros_like(x)).sum().backward()
    assert x.grad.tolist() == [0.0, 0.25]


@pytest.mark.accept("PW-13", "PW-25")
def test_masked_fill_lerp_addcmul():
    x, y, mask = FLOATS["x"], FLOATS["y"], FLOATS["x"] > 0
    against_torch(lambda m, x, k: m.masked_fill(x, k, -1.5), x, mask)
    against_torch(lambda m, x, y: m.lerp(x, y, 0.3), x, y, ulp=32)
    against_torch(lambda m, x, y: m.addcmul(x, x, y, value=0.5), x, y, ulp=32)
    against_torch(lambda m, x, y: m.addcdiv(x, x, y, value=0.5), x, y, ulp=32)


def test_logic_and_bits():
    x, y = np.array([0, 1, 2, 5]), np.array([0, 4, 3, 5])
    for op in (
        lambda m, x, y: x & y, lambda m, x, y: x | y, lambda m, x, y: x ^ y, lambda m, x, y: ~x, lambda m, x, y: x << 2,
        lambda m, x, y: x >> 1, lambda m, x, y: m.logical_and(x, y), lambda m, x, y: m.logical_or(x, y),
        lambda m, x, y: m.logical_xor(x, y), lambda m, x, y: (x > 1) & (y > 1), lambda m, x, y: ~(x > 1),
    ):  # fmt: skip
        against_torch(op, x, y)
    with pytest.raises(RuntimeError, match=r"\[bitwise_and\] operands have dtype flambeau.float32"):
        fb.tensor([1.0]) & fb.tensor([2.0])


@pytest.mark.accept("PW-21", "PW-23")
def test_closeness():
    x = fb.tensor([1.0, 2.0, math.inf, math.nan])
    assert fb.isclose(x, x).tolist() == [True, True, True, False]
    assert fb.allclose(x, x, equal_nan=True) and not fb.allclose(x, x)
    assert fb.allclose(x[:2], x[:2] + 1e-6) and not x[:2].allclose(x[:2] + 1e-3)
    assert fb.equal(x[:3], x[:3]) and not fb.equal(x, x) and not fb.equal(x[:2], x[:1])


ACTIVATIONS = {
    "leaky_relu": (0.1,), "gelu": (), "silu": (), "elu": (0.7,), "selu": (), "softplus": (), "logsigmoid": (), "mish": (),
    "hardtanh": (), "relu6": (), "hardsigmoid": (), "hardswish": (), "relu": (), "sigmoid": (), "tanh": (),
}  # fmt: skip
ACTIVATION_ROWS = {
    "leaky_relu": "PW-30", "gelu": "PW-32", "silu": "PW-33", "relu": "PW-29", "sigmoid": "PW-31", "tanh": "PW-31",
    "elu": "PW-34", "selu": "PW-34", "softplus": "PW-34", "logsigmoid": "PW-34", "mish": "PW-34", "hardtanh": "PW-34",
    "relu6": "PW-34", "hardsigmoid": "PW-34", "hardswish": "PW-34",
}  # fmt: skip


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.accept(ACTIVATION_ROWS[n])) for n in ACTIVATIONS])
def test_activation(name):
    torch = pytest.importorskip("torch")
    x = np.concatenate([arrays(40) * 4, [0.0, -0.0, 30.0, -30.0, 3.0, -3.0]]).astype(np.float32)
    arguments = ACTIVATIONS[name]
    wanted = getattr(torch.nn.functional, "logsigmoid" if name == "logsigmoid" else name)(torch.tensor(x), *arguments)
    np.testing.assert_allclose(getattr(F, name)(fb.tensor(x), *arguments).numpy(), wanted.numpy(), rtol=2e-6, atol=1e-6)
    pick = lambda m, x: getattr(F if m is fb else torch.nn.functional, name)(x, *arguments)  # noqa: E731
    gradients_against_torch(pick, x[:-4], rtol=1e-5)


@pytest.mark.accept("PW-32")
def test_gelu_tanh():
    torch = pytest.importorskip("torch")
    x = arrays(40) * 3
    wanted = torch.nn.functional.gelu(torch.tensor(x), approximate="tanh").numpy()
    np.testing.assert_allclose(F.gelu(fb.tensor(x), approximate="tanh").numpy(), wanted, rtol=2e-6, atol=2e-7)
    with pytest.raises(RuntimeError, match=r"\[gelu\] approximate is 'fast'"):
        F.gelu(fb.tensor(x), approximate="fast")


@pytest.mark.accept("PW-35", "PW-36")
@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(name, dim):
    x = arrays(7, 9) * 5
    x[0] += 1000
    gradients_against_torch(lambda m, x: getattr(m, name)(x, dim) * getattr(m, name)(x, dim), x, rtol=1e-5)
    x64 = x.astype(np.float64)
    e = np.exp(x64 - x64.max(dim, keepdims=True))
    p = e / e.sum(dim, keepdims=True)
    np.testing.assert_allclose(
        getattr(fb.tensor(x), name)(dim).numpy(),
        p if name == "softmax" else np.log(np.maximum(p, 1e-300)),
        rtol=3e-6,
        atol=1e-30,
    ) if name == "softmax" else None
    with pytest.raises(IndexError, match=rf"\[{name}\] dim 2 is out of range"):
        getattr(fb, name)(fb.tensor(x), 2)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: fb.ones(2, 3) + fb.ones(4),
            RuntimeError,
            r"\[add\] shapes \(2, 3\) and \(4,\) do not broadcast: sizes 3 and 4 at",
        ),
        (lambda: fb.ones(2) + "a", TypeError, "unsupported operand"),
        (lambda: fb.add(fb.ones(2), "a"), TypeError, r"\[add\] argument 'other' must be a Tensor or a number"),
        (lambda: fb.add(fb.ones(2)), TypeError, r"\[add\] argument 'other' is missing"),
        (lambda: fb.relu(fb.tensor([True])), RuntimeError, r"\[relu\] is not defined for bool"),
        (lambda: F.gelu(fb.tensor([1])), RuntimeError, r"\[gelu\] input has dtype flambeau.int64"),
        (lambda: fb.div(fb.ones(2), 2, rounding_mode="up"), RuntimeError, r"\[div\] rounding_mode is 'up'"),
    ],
)
def test_bad_operands(call, error, text):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.accept("PW-27")
@pytest.mark.parametrize(
    "op",
    [
        lambda x, y: x.add_(y), lambda x, y: x.sub_(y, alpha=2), lambda x, y: x.mul_(y), lambda x, y: x.div_(y),
        lambda x, y: x.exp_(), lambda x, y: x.relu_(), lambda x, y: x.clamp_(-0.5, 0.5), lambda x, y: x.clamp_(min=0.0),
        lambda x, y: x.zero_(), lambda x, y: x.fill_(2), lambda x, y: x.copy_(y), lambda x, y: x.neg_(), lambda x, y: x.pow_(2),
        lambda x, y: x.add_(y[0]), lambda x, y: x[1].mul_(y[0]), lambda x, y: x.t().add_(1), lambda x, y: x[:, ::2].fill_(7),
        lambda x, y: x.masked_fill_(y > 0, 3.0), lambda x, y: x.abs_().sqrt_(), lambda x, y: x.copy_(y[0]),
        lambda x, y: x.addcmul_(y, y, value=0.5), lambda x, y: x.view(-1)[3:7].sub_(1.0), lambda x, y: x.add_(True),
    ],
)  # fmt: skip
def test_in_place(op):
    torch = pytest.importorskip("torch")
    x, y = FLOATS["x"], FLOATS["y"]
    ours, theirs = fb.tensor(x), torch.tensor(x)
    alias, view = ours.detach(), ours[1:]
    op(ours, fb.tensor(y)), op(theirs, torch.tensor(y))
    np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=3e-7, atol=3e-7)
    np.testing.assert_array_equal(alias.numpy(), ours.numpy())
    np.testing.assert_array_equal(view.numpy(), ours.numpy()[1:])


@pytest.mark.accept("PW-27")
def test_in_place_operators_keep_the_object():
    x = y = fb.tensor([1.0, 2.0])
    x += 1
    x *= 2
    x -= 0.5
    x /= 2
    x **= 2
    assert x is y
    assert y.tolist() == [((1 + 1) * 2 - 0.5) ** 2 / 4, ((2 + 1) * 2 - 0.5) ** 2 / 4]


def test_in_place_refuses_other_dtypes_and_shapes():
    with pytest.raises(RuntimeError, match=r"\[add_\] the result is float32 and cannot be stored in int64"):
        fb.tensor([1, 2]).add_(0.5)
    with pytest.raises(RuntimeError, match=r"\[add_\] the result has shape \(2, 2\)"):
        fb.tensor([1.0, 2.0]).add_(fb.ones(2, 2))
    with pytest.raises(RuntimeError, match=r"\[mul_\] a leaf tensor that requires grad is changed in place"):
        fb.ones(2, requires_grad=True).mul_(2)


def test_results_are_stored_in_out():
    """One function of each file of what is computed element by element."""
    x, y = fb.tensor([0.25, 0.5, 0.75]), fb.tensor([2.0, fb.nan, 0.125])
    m, n = fb.tensor([12, 18, 7]), fb.tensor([18, 27, 0])
    cases = [
        (fb.asin, (x,)),
        (fb.atan2, (x, y)),
        (fb.fmax, (x, y)),
        (fb.gcd, (m, n)),
        (fb.lcm, (m, n)),
        (fb.polygamma, (1, x)),
        (fb.xlogy, (2.0, x)),
        (fb.special.i0e, (x,)),
        (fb.special.zeta, (2.0, x)),
        (fb.isposinf, (1 / (x - 0.25),)),
    ]
    for function, operands in cases:
        expected = function(*operands)
        out = fb.empty(3, dtype=expected.dtype)
        assert function(*operands, out=out) is out
        assert np.array_equal(out.numpy(), expected.numpy(), equal_nan=expected.dtype is fb.float32)
