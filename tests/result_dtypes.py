"""The dtype of every function's result for operands of every dtype, for any module with PyTorch's API:
`tools/pytorch_facts.py` runs the calls on PyTorch and stores what it finds, `test_result_dtypes.py` compares."""

#: All pairs of these are operands of every call; of the others only some, but for the calls in `WHOLE`.
COMMON = ("bool", "int32", "int64", "float32", "float64")
OTHERS = ("uint8", "int8", "int16", "float16", "bfloat16", "complex64")
WHOLE = ("add", "div", "pow", "eq", "where", "cat", "matmul", "add_", "copy_")
#: Dtypes that have a common one, or have not.
NAMED = (*COMMON, *OTHERS, "uint16", "uint32", "uint64", "complex128", "float8_e4m3fn", "float8_e5m2")
CALLS = {}


def call(name, run, operands=1):
    """`run(m, *tensors)` with every combination of dtypes for `operands` matrices."""
    assert name not in CALLS, name
    CALLS[name] = (run, operands)


def method(name, *arguments, **options):
    return lambda m, x, *xs: getattr(x, name)(*xs, *arguments, **options)


def functional(name, *arguments, **options):
    return lambda m, x, *xs: getattr(m.nn.functional, name)(x, *xs, *arguments, **options)


for _name in (
    *(
        "abs",
        "neg",
        "positive",
        "sign",
        "square",
        "reciprocal",
        "exp",
        "expm1",
        "log",
        "log1p",
        "log2",
        "log10",
        "exp2",
    ),
    *(
        "sqrt",
        "rsqrt",
        "sin",
        "cos",
        "tan",
        "erf",
        "floor",
        "ceil",
        "trunc",
        "frac",
        "round",
        "relu",
        "sigmoid",
        "tanh",
    ),
    *("isnan", "isinf", "isfinite", "logical_not", "bitwise_not", "sum", "mean", "prod", "amax", "amin", "max", "min"),
    *("argmax", "argmin", "any", "all", "var", "std", "norm", "count_nonzero", "clone", "tril", "triu", "flatten"),
):
    call(_name, method(_name))
for _name in ("sum", "mean", "prod", "amax", "amin", "argmax", "any", "all", "logsumexp", "softmax", "log_softmax"):
    call(f"{_name} along", method(_name, 1))
for _name in ("max", "min"):
    call(f"{_name} along", lambda m, x, n=_name: getattr(x, n)(1)[0])
for _name in (
    *("add", "sub", "mul", "div", "floor_divide", "remainder", "fmod", "pow", "maximum", "minimum", "eq", "lt"),
    *("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift", "logical_and"),
    *("logical_or", "logical_xor", "matmul", "outer vectors", "where", "isclose"),
):
    if _name == "where":
        call(_name, lambda m, x, y: m.where(x != 0, x, y), 2)
    elif _name == "outer vectors":
        call(_name, lambda m, x, y: m.outer(x[0], y[0]), 2)
    else:
        call(_name, method(_name), 2)
call("div floor", method("div", rounding_mode="floor"), 2)
call("div trunc", method("div", rounding_mode="trunc"), 2)
call("lerp", lambda m, x, y: m.lerp(x, y, 0.5), 2)
call("cat", lambda m, x, y: m.cat([x, y]), 2)
call("heaviside", method("heaviside"), 2)
call("masked_fill number", lambda m, x: x.masked_fill(x != 0, 1))
call("masked_fill float", lambda m, x: x.masked_fill(x != 0, 0.5))
for _number in (True, 2, 2.5):
    for _name in ("add", "sub", "mul", "div", "floor_divide", "remainder", "fmod", "pow", "clamp_min", "clamp"):
        call(f"{_name} {_number}", method(_name, _number))
    call(f"where {_number}", lambda m, x, n=_number: m.where(x != 0, x, n))
    call(f"{_number} ** x", lambda m, x, n=_number: n**x)
    call(f"{_number} / x", lambda m, x, n=_number: n / x)
    call(f"{_number} // x", lambda m, x, n=_number: n // x)
    call(f"{_number} % x", lambda m, x, n=_number: n % x)
    call(f"{_number} < x", lambda m, x, n=_number: n < x)
    call(f"full_like {_number}", lambda m, x, n=_number: m.full_like(x, n))
for _name in (
    *("relu", "relu6", "elu", "selu", "gelu", "silu", "mish", "softplus", "logsigmoid", "leaky_relu", "hardtanh"),
    *("hardsigmoid", "hardswish", "sigmoid", "tanh"),
):
    call(f"{_name} functional", functional(_name))
for _name in ("softmax", "log_softmax"):
    call(f"{_name} functional", functional(_name, dim=1))
call("normalize", functional("normalize"))
call("layer_norm", functional("layer_norm", (2,)))
call("pad", functional("pad", (1, 1)))
for _name in ("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss", "binary_cross_entropy_with_logits", "kl_div"):
    call(_name, functional(_name), 2)
for _name in ("add_", "mul_", "div_", "pow_", "sub_", "copy_"):
    call(_name, method(_name), 2)
for _name in ("zero_", "sqrt_", "exp_", "abs_", "square_", "neg_", "sign_", "reciprocal_"):
    call(_name, method(_name))


def facts(m):
    return {name: facts_of(m, name) for name in CALLS}


def facts_of(m, name):
    """The name of the result's dtype, or of the class of the error, by the dtypes of the operands."""
    return {" ".join(d): _result(m, name, d) for d in _combinations(name)}


def _combinations(name):
    every = [*COMMON, *OTHERS]
    if CALLS[name][1] == 1:
        return [(d,) for d in every]
    if name in WHOLE:
        return [(d, e) for d in every for e in every]
    others = [pair for d in OTHERS for pair in ((d, d), (d, "float32"), ("int64", d))]
    return [*((d, e) for d in COMMON for e in COMMON), *others]


def promotion(m):
    """The common dtype of each two, or the class of the error."""
    return {d: {e: _promoted(m, d, e) for e in NAMED} for d in NAMED}


def _promoted(m, d, e):
    try:
        return str(m.promote_types(getattr(m, d), getattr(m, e))).split(".")[-1]
    except (RuntimeError, TypeError) as error:
        return type(error).__name__


def _result(m, name, dtypes):
    operands = [
        m.tensor([[1, 0], [1, 1]] if i == 0 else [[1, 1], [1, 1]], dtype=getattr(m, d)) for i, d in enumerate(dtypes)
    ]
    try:
        return str(CALLS[name][0](m, *operands).dtype).split(".")[-1]
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        return "RuntimeError" if isinstance(error, NotImplementedError) else type(error).__name__
