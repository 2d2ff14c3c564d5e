"""Every public differentiable function at the points where gradients go wrong: zeros, ties, kinks, infinities, NaN, equal
rows, nothing at all. Written once for any module with PyTorch's API: `tools/pytorch_facts.py` runs the cases on PyTorch and
stores what it finds, `test_special_points.py` compares."""

import itertools
import math

NAN, INF = math.nan, math.inf
#: Zeros, kinks of all activations (and beside them), ordinary numbers, large ones, infinities, NaN.
POINTS = [
    *(0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 6.0, 0.5, -0.5, 0.25, 2.0, -2.0, 2.5, -7.0, 1e-8, -1e-8, 20.0, 21.0, -21.0),
    *(1e3, -1e3, 1e200, -1e200, INF, -INF, NAN),
]
FEW = [0.0, -0.0, 1.0, -1.0, 2.0, -3.0, 0.5, INF, -INF, NAN]
PROBABILITIES = [0.0, 1.0, 0.5, 0.25, 0.75]
#: Equal elements, zeros, ties, NaN at both ends, infinities, signed zeros.
ROWS = [
    [2.0, 2.0, 2.0, 2.0],
    [0.0, 0.0, 0.0, 0.0],
    [-0.0, 0.0, -0.0, 0.0],
    [1.0, 4.0, 4.0, -2.0],
    [-1.0, -1.0, 3.0, 3.0],
    [1.0, NAN, -3.0, 2.0],
    [NAN, NAN, 1.0, 0.0],
    [INF, 1.0, 2.0, INF],
    [-INF, 1.0, 2.0, 3.0],
    [-INF, -INF, -INF, -INF],
    [INF, -INF, 0.0, 1.0],
    [0.0, 2.0, 0.0, 3.0],
    [0.0, 2.0, 5.0, 3.0],
    [1.0, 2.0, 3.0, 5.0],
    [1e100, 1.0, 2.0, 0.5],
]


class Case:
    """`call(m, *tensors)` with the module `m`; `operands` are nested lists, each made a float64 leaf; `covers`: functions."""

    def __init__(self, call, operands, covers):
        self.call, self.operands, self.covers = call, operands, covers


CASES: dict[str, Case] = {}
#: Functions of the table, by the name they have in `flambeau`, `Tensor` or `nn.functional`.
COVERED: set[str] = set()


def case(name, call, *operands, covers=()):
    assert name not in CASES, name
    CASES[name] = Case(call, operands, covers or (name.split(" ")[0],))
    COVERED.update(CASES[name].covers)


def functional(name, **options):
    return lambda m, *xs: getattr(m.nn.functional, name)(*xs, **options)


def method(name, *arguments, **options):
    return lambda m, x, *xs: getattr(x, name)(*xs, *arguments, **options)


def grid(*axes):
    """Every combination, one list per operand."""
    return [list(column) for column in zip(*itertools.product(*axes))]


# ---- element by element -------------------------------------------------------------------------------------------

for _name in (
    *("abs", "neg", "sign", "square", "reciprocal", "exp", "expm1", "log", "log1p", "log2", "log10", "exp2", "sqrt"),
    *("rsqrt", "sin", "cos", "tan", "erf", "floor", "ceil", "trunc", "frac", "round", "relu", "sigmoid", "tanh"),
    *("positive", "clone"),
):
    case(_name, method(_name), POINTS)
case("round decimals=1", method("round", decimals=1), POINTS)
for _exponent in (0, 1, 2, 3, -1, -2, 0.5, -0.5, 1.5, 0.0, 2.5):
    case(f"pow {_exponent}", method("pow", _exponent), POINTS)
    case(f"pow base {_exponent}", lambda m, x, n=_exponent: n**x, POINTS)
case("pow tensors", lambda m, x, y: m.pow(x, y), *grid(FEW, FEW))
for _name in ("add", "sub", "mul", "div", "maximum", "minimum", "fmod", "remainder"):
    case(_name, method(_name), *grid(FEW, FEW))
case("rsub", lambda m, x, y: m.rsub(x, y), *grid(FEW, FEW))
case("fmod number", method("fmod", 2.0), POINTS)
case("remainder number", method("remainder", -2.0), POINTS)
case("div floor", method("div", rounding_mode="floor"), *grid(FEW, FEW))
case("div trunc", method("div", rounding_mode="trunc"), *grid(FEW, FEW))
case("floor_divide", lambda m, x: x + m.floor_divide(x.detach(), 2.0), POINTS)
case("max two", lambda m, x, y: m.max(x, y), *grid(FEW, FEW))
case("min two", lambda m, x, y: m.min(x, y), *grid(FEW, FEW))
case(
    "lerp",
    lambda m, x, y, w: m.lerp(x, y, w),
    *grid([0.0, 1.0, INF, NAN], [2.0, -1.0, INF], [0.0, 0.5, 0.25, 1.0, 2.0]),
)
case("addcmul", lambda m, x, y, z: m.addcmul(x, y, z, value=0.5), *grid([0.0, INF, NAN], FEW, [0.0, 2.0, INF]))
case("addcdiv", lambda m, x, y, z: m.addcdiv(x, y, z, value=0.5), *grid([0.0, INF, NAN], FEW, [0.0, 2.0, INF]))
case("heaviside", lambda m, x: x * m.heaviside(x.detach(), x.detach() * 0 + 0.5), POINTS)

for _name in (
    *("asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "deg2rad", "rad2deg", "sinc"),
    *("erfc", "erfinv", "lgamma", "digamma", "i0", "logit", "nan_to_num"),
):
    case(_name, method(_name), POINTS)
for _name in ("erfcx", "ndtr", "ndtri", "log_ndtr", "entr", "i0e", "i1", "i1e"):
    case(_name, lambda m, x, n=_name: getattr(m.special, n)(x), POINTS)
for _name in ("atan2", "hypot", "copysign", "fmax", "fmin", "logaddexp", "logaddexp2", "xlogy", "ldexp"):
    case(_name, method(_name), *grid(FEW, FEW))
case("xlog1py", lambda m, x, y: m.special.xlog1py(x, y), *grid(FEW, FEW))
case("float_power", lambda m, x: m.float_power(x, 3.0), POINTS)
case("copysign number", method("copysign", -2.0), POINTS)
case("logit eps", method("logit", eps=0.25), POINTS)
case("polygamma", lambda m, x: m.polygamma(2, x), POINTS)
case("mvlgamma", method("mvlgamma", 2), [0.75, 1.0, 1.5, 2.0, 7.0, INF, NAN])
case(
    "zeta",
    lambda m, x, q: m.special.zeta(x.detach(), q),
    *grid([1.0, 2.0, 2.5, 30.0, 0.5], [1.0, 0.5, 0.0, 9.0, -2.0, NAN]),
)
case("nan_to_num numbers", method("nan_to_num", 1.0, 2.0, -2.0), POINTS)

_LOW, _HIGH = [-1.0, 0.0, -INF, NAN], [1.0, 0.0, INF, -2.0, NAN]
_SOME = [0.0, 1.0, -1.0, 0.5, 3.0, INF, -INF, NAN]
case("clamp", method("clamp", -1.0, 3.0), POINTS)
case("clamp crossed", method("clamp", 3.0, -1.0), POINTS)
case("clamp equal", method("clamp", 1.0, 1.0), POINTS)
case("clamp nan", method("clamp", NAN, 1.0), POINTS)
case("clamp min only", method("clamp", min=0.0), POINTS)
case("clamp max only", method("clamp", max=0.5), POINTS)
case("clamp tensors", lambda m, x, low, high: m.clamp(x, low, high), *grid(_SOME, _LOW, _HIGH))
case("clamp tensor min", lambda m, x, low: m.clamp(x, min=low), *grid(_SOME, _SOME))
case("clamp tensor max", lambda m, x, high: m.clamp(x, max=high), *grid(_SOME, _SOME))
case("clamp_min", method("clamp_min", 0.0), POINTS)
case("clamp_max", method("clamp_max", 0.0), POINTS)
case("where", lambda m, x, y: m.where(x > y, x, y), *grid(FEW, FEW))
case("where guards sqrt", lambda m, x: m.where(x > 0, x.sqrt(), x * 0), POINTS)
case("where guards log", lambda m, x: m.where(x > 0, m.where(x > 0, x, x * 0 + 1).log(), x * 0), POINTS)
case("masked_fill", lambda m, x: m.masked_fill(x.log(), x <= 0, 0.0), POINTS)
case("hypot by hand", lambda m, x, y: (x * x + y * y).sqrt(), *grid(FEW, FEW), covers=["sqrt"])
case("frexp mantissa", lambda m, x: m.frexp(x)[0], POINTS, covers=["frexp"])
case("frexp both", lambda m, x: m.frexp(x)[0] * m.frexp(x)[1], POINTS, covers=["frexp"])
case("abs squared", lambda m, x: x.abs() * x.abs(), POINTS, covers=["abs"])

# ---- activations --------------------------------------------------------------------------------------------------

for _name in (
    *("relu", "relu6", "elu", "selu", "gelu", "silu", "mish", "softplus", "logsigmoid", "leaky_relu", "hardtanh"),
    *("hardsigmoid", "hardswish", "sigmoid", "tanh", "celu", "rrelu"),
):
    case(f"{_name} functional", functional(_name), POINTS)
case("celu 0.5", functional("celu", alpha=0.5), POINTS)
case("prelu", lambda m, x, w: m.nn.functional.prelu(x, w), POINTS, [0.25])
case("gelu tanh", functional("gelu", approximate="tanh"), POINTS)
case("elu 0.5", functional("elu", alpha=0.5), POINTS)
case("softplus 2", functional("softplus", beta=2.0, threshold=4.0), POINTS)
case("leaky_relu 0.3", functional("leaky_relu", negative_slope=0.3), POINTS)
case("leaky_relu 0", functional("leaky_relu", negative_slope=0.0), POINTS)
case("hardtanh 0 6", functional("hardtanh", min_val=0.0, max_val=6.0), POINTS)

# ---- rows ---------------------------------------------------------------------------------------------------------

for _name in ("softmax", "log_softmax", "logsumexp", "amax", "amin", "sum", "mean", "prod", "var", "std", "norm"):
    _dim = {"dim": 1} if _name == "norm" else {}
    _arguments = () if _dim else (1,)
    case(_name, method(_name, *_arguments, **_dim), ROWS)
    _options = {"dim": 0} if _name == "norm" else {}
    case(f"{_name} columns", method(_name, *(() if _options else (0,)), **_options), [list(r) for r in zip(*ROWS)])
for _name in ("amax", "amin", "sum", "mean", "prod", "var", "std", "norm", "max", "min"):
    for _i, _row in enumerate(ROWS):
        case(f"{_name} whole {_i}", method(_name), _row)
for _name in ("max", "min"):
    case(f"{_name} along", lambda m, x, n=_name: getattr(x, n)(1)[0], ROWS)
    case(f"{_name} along columns", lambda m, x, n=_name: getattr(x, n)(0)[0], [list(r) for r in zip(*ROWS)])
for _p in (0, 0.5, 1, 1.5, 2, 3, INF, -INF):
    case(f"norm p={_p}", method("norm", _p, 1), ROWS)
case("std correction=0", method("std", 1, correction=0), ROWS)
case("var correction=0", method("var", 1, correction=0), ROWS)
case("std of one", method("std", 1), [[1.0], [0.0], [NAN]])
case("std of one correction=0", method("std", 1, correction=0), [[1.0], [0.0], [NAN]])
case("normalize", functional("normalize", dim=1), ROWS)
case("normalize p=1", functional("normalize", p=1.0, dim=1), ROWS)
case("layer_norm", lambda m, x, w, b: m.nn.functional.layer_norm(x, (4,), w, b), ROWS, [1.0, 0.5, 0.0, 2.0], [0.0] * 4)
for _name in ("sum", "mean", "prod", "var", "std", "norm"):
    case(f"{_name} of nothing", method(_name), [])
for _name in ("sum", "prod", "var", "norm", "softmax", "log_softmax"):
    case(f"{_name} of empty rows", method(_name, dim=1), [[], []])

# ---- losses -------------------------------------------------------------------------------------------------------

_ERRORS = [0.0, -0.0, 0.2, -0.1, 0.5, -0.5, 1.0, -1.0, 3.0, -3.0, INF, -INF, NAN]
_ZEROS = [0.0] * len(_ERRORS)
for _name in ("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss"):
    case(_name, functional(_name, reduction="none"), _ERRORS, _ZEROS)
case("huber_loss 0.5", functional("huber_loss", reduction="sum", delta=0.5), _ERRORS[:10], _ZEROS[:10])
case("smooth_l1_loss 0.5", functional("smooth_l1_loss", reduction="sum", beta=0.5), _ERRORS[:10], _ZEROS[:10])
case("smooth_l1_loss 0", functional("smooth_l1_loss", reduction="none", beta=0.0), _ERRORS, _ZEROS)
case(
    "binary_cross_entropy", functional("binary_cross_entropy", reduction="none"), *grid(PROBABILITIES, [0.0, 1.0, 0.25])
)
case(
    "binary_cross_entropy_with_logits",
    functional("binary_cross_entropy_with_logits", reduction="none"),
    *grid(POINTS, [0.0, 1.0, 0.25]),
)
case("kl_div", functional("kl_div", reduction="none"), *grid([-1.0, 0.0, -INF, NAN], [0.0, 0.5, 1.0, -1.0, NAN]))
case("kl_div log", functional("kl_div", reduction="none", log_target=True), *grid([-1.0, 0.0, -INF], [0.0, -0.5, -INF]))


def _classes(m, x):
    return m.tensor([i % x.shape[1] for i in range(x.shape[0])])


case("cross_entropy", lambda m, x: m.nn.functional.cross_entropy(x, _classes(m, x), reduction="none"), ROWS)
case(
    "cross_entropy smoothed",
    lambda m, x: m.nn.functional.cross_entropy(x, _classes(m, x), reduction="none", label_smoothing=0.1),
    ROWS,
)
case(
    "cross_entropy ignored",
    lambda m, x: m.nn.functional.cross_entropy(x, _classes(m, x), reduction="none", ignore_index=1),
    ROWS,
)
case(
    "cross_entropy probabilities",
    lambda m, x, p: m.nn.functional.cross_entropy(x, p, reduction="none"),
    ROWS,
    [[0.0, 1.0, 0.0, 0.0]] * len(ROWS),
)
case("nll_loss", lambda m, x: m.nn.functional.nll_loss(x, _classes(m, x), reduction="none"), ROWS)

_KINKS = [0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 3.0, INF, -INF, NAN]


def _signs(m, x):
    return m.tensor([1.0, -1.0]).unsqueeze(1).expand(2, x.shape[1]).contiguous()


for _name, _options in (("hinge_embedding_loss", {"margin": 0.5}), ("soft_margin_loss", {})):
    case(
        _name,
        lambda m, x, f=_name, o=_options: getattr(m.nn.functional, f)(x, _signs(m, x), reduction="none", **o),
        [_KINKS, _KINKS],
    )
case(
    "margin_ranking_loss",
    lambda m, x: m.nn.functional.margin_ranking_loss(x, m.zeros(x.shape), _signs(m, x), margin=0.5, reduction="none"),
    [_KINKS, _KINKS],
)
case("multi_margin_loss", lambda m, x: m.nn.functional.multi_margin_loss(x, _classes(m, x), reduction="none"), ROWS)
case(
    "poisson_nll_loss",
    lambda m, x: m.nn.functional.poisson_nll_loss(x, m.tensor([0.0, 1.0, 2.0, 9.0]), reduction="none"),
    [[x] * 4 for x in _KINKS],
)

# ---- products and movement ----------------------------------------------------------------------------------------

_A, _B = [[0.0, 1.0], [NAN, 2.0], [INF, 1.0]], [[0.0, 1.0], [2.0, -INF]]
for _name in ("matmul", "mm"):
    case(_name, method(_name), _A, _B)
case("mv", method("mv"), _A, [0.0, 2.0])
case("dot", method("dot"), [0.0, NAN, 1.0], [INF, 1.0, 2.0])
case("outer", method("outer"), [0.0, NAN, 1.0], [INF, 1.0, 2.0])
case("bmm", method("bmm"), [_A], [_B])
case("addmm", method("addmm"), [[0.0, NAN]], _A, _B)
case("linear", functional("linear"), _A, _B, [0.0, NAN])
for _name, _arguments in {
    "flip": ((0,),), "roll": (1, 0), "tril": (), "triu": (), "t": (), "permute": (1, 0), "reshape": (-1,), "flatten": (),
    "select": (0, 1), "narrow": (0, 0, 2), "unsqueeze": (0,), "squeeze": (), "tile": ((2, 1),), "transpose": (0, 1),
    "movedim": (0, 1), "expand": (3, 2), "repeat": (2, 1), "view": (-1,), "contiguous": (), "swapaxes": (0, 1),
}.items():  # fmt: skip
    case(_name, method(_name, *_arguments), _A)
case("unflatten", method("unflatten", 0, (3, 1)), _A)
case("broadcast_to", lambda m, x: m.broadcast_to(x, (2, 3, 2)), _A)
for _name, _pick in {"chunk": 1, "split": 0, "unbind": 1}.items():
    _arguments = {"chunk": (2,), "split": (2,), "unbind": ()}[_name]
    case(_name, lambda m, x, n=_name, i=_pick, a=_arguments: getattr(x, n)(*a)[i], _A)
case("cat", lambda m, x, y: m.cat([x, y, x]), _A, _B)
case("stack", lambda m, x: m.stack([x, x]), _A)
case("pad", functional("pad", pad=(1, 0), value=0.5), _A)
case("gather", lambda m, x: m.gather(x, 0, m.tensor([[0, 0], [2, 0]])), _A)
case("index_select", lambda m, x: m.index_select(x, 0, m.tensor([1, 1, 0])), _A)
case("index_add", lambda m, x, y: m.index_add(x, 0, m.tensor([1, 1]), y), _A, _B)
case("scatter_add", lambda m, x, y: m.scatter_add(x, 0, m.tensor([[1, 1], [1, 0]]), y), _A, _B)
case("scatter", lambda m, x, y: m.scatter(x, 0, m.tensor([[0, 1], [2, 0]]), y), _A, _B)
for _name in ("sum", "prod", "mean", "amax", "amin"):
    _reduced = lambda m, x, y, r=_name: m.scatter_reduce(x, 0, m.tensor([[1, 1], [1, 0]]), y, r)  # noqa: E731
    case(f"scatter_reduce {_name}", _reduced, _A, _B)
case("index_reduce", lambda m, x, y: m.index_reduce(x, 0, m.tensor([1, 1]), y, "mean"), _A, _B)
case("index_copy", lambda m, x, y: m.index_copy(x, 0, m.tensor([2, 1]), y), _A, _B)
case("index_fill", lambda m, x: m.index_fill(x, 0, m.tensor([2, 1]), 0.5), _A)
case("put", lambda m, x, y: x.put(m.tensor([[2, 1], [0, 5]]), y), _A, _B)
case("index_put", lambda m, x, y: m.index_put(x, (m.tensor([2, 1]),), y, True), _A, _B)
case("take", lambda m, x: m.take(x, m.tensor([[2, 1], [2, 5]])), _A)
case("take_along_dim", lambda m, x: m.take_along_dim(x, m.tensor([[2, 1], [2, 0]]), 0), _A)
case("masked_select", lambda m, x: m.masked_select(x, m.tensor([True, False])), _A)
case("masked_scatter", lambda m, x, y: m.masked_scatter(x, m.tensor([True, False]), y), _A, _B)
for _name in ("cumsum", "cumprod", "logcumsumexp"):
    case(_name, lambda m, x, n=_name: getattr(m, n)(x, 0), _A)
case("cummax", lambda m, x: m.cummax(x, 0)[0], _A)
case("cummin", lambda m, x: m.cummin(x, 0)[0], _A)
case("embedding", lambda m, x: m.nn.functional.embedding(m.tensor([1, 1, 0]), x), _A)
case("to", lambda m, x: x.to(m.float32).to(m.float64), POINTS)

# ---- windows ------------------------------------------------------------------------------------------------------

_PLANE = [1.0, 2.0, 2.0, NAN, 0.0, -0.0, -INF, -INF, INF, 3.0, 3.0, 1.0]
_EXTENTS = {1: (1, 12), 2: (1, 3, 4), 3: (1, 2, 3, 2)}


def _pooled(name, dims, *args, **kwargs):
    case(name, lambda m, x: getattr(m.nn.functional, name)(x.reshape(_EXTENTS[dims]), *args, **kwargs), _PLANE)


for _dims in (1, 2, 3):
    _pooled(f"max_pool{_dims}d", _dims, 2, 1, 1)
    _pooled(f"avg_pool{_dims}d", _dims, 2, 1, 1, True, False)
    _pooled(f"adaptive_avg_pool{_dims}d", _dims, 2)
    _pooled(f"adaptive_max_pool{_dims}d", _dims, 2)
    case(
        f"lp_pool{_dims}d",
        lambda m, x, n=_dims: getattr(m.nn.functional, f"lp_pool{n}d")(x.reshape(_EXTENTS[n]), 2.0, 2),
        [1.0, 2.0, 2.0, 0.5, 3.0, 1.0, 4.0, 1.5, 2.5, 3.0, 3.0, 1.0],
    )
    case(
        f"max_unpool{_dims}d",
        lambda m, x, n=_dims: getattr(m.nn.functional, f"max_unpool{n}d")(
            x.reshape((1, 2) + (1,) * (n - 1)), m.tensor([1, 0]).reshape((1, 2) + (1,) * (n - 1)), 2
        ),
        [1.0, NAN],
    )
case("unfold", method("unfold", 0, 3, 2), _PLANE)
case("fold", functional("fold", output_size=(3, 3), kernel_size=2), [[1.0, NAN, 0.0, 2.0]] * 4)
_CHANNELS = [[[1.0, 2.0], [NAN, 0.0]], [[3.0, 0.5], [1.0, 2.0]]]
case("batch_norm", lambda m, x: m.nn.functional.batch_norm(x, None, None, training=True), _CHANNELS)
case("instance_norm", functional("instance_norm"), _CHANNELS)
case("group_norm", functional("group_norm", num_groups=2), _CHANNELS)
case("rms_norm", functional("rms_norm", normalized_shape=(2,)), [[0.0, 0.0], [1.0, NAN], [3.0, 4.0]])
case("local_response_norm", functional("local_response_norm", size=2), _CHANNELS)
for _name in ("softsign", "tanhshrink", "softshrink", "hardshrink"):
    case(_name, functional(_name), POINTS)
case("threshold", functional("threshold", threshold=0.5, value=2.0), POINTS)
case("softmin", functional("softmin", dim=1), [[0.0, 1.0], [NAN, 2.0]])
case("glu", functional("glu"), [[0.0, 1.0], [NAN, 2.0], [1.0, -INF]])
case("pixel_shuffle", functional("pixel_shuffle", upscale_factor=2), [[[1.0]], [[NAN]], [[0.0]], [[2.0]]])
case("pixel_unshuffle", functional("pixel_unshuffle", downscale_factor=2), [[[1.0, 2.0], [NAN, 0.0]]])
case("channel_shuffle", functional("channel_shuffle", groups=2), [[[1.0], [NAN], [0.0], [2.0]]])


# ---- running a case -----------------------------------------------------------------------------------------------


def facts(m, name):
    """Value, first and second derivatives of a case on module `m`, as nested lists; None where there is no gradient.

    Every result element and every gradient element has a weight of its own, so that none can stand in for another.
    """
    one = CASES[name]
    leaves = [m.tensor(data, dtype=m.float64, requires_grad=True) for data in one.operands]
    result = one.call(m, *leaves)
    found = {"value": None, "first": None, "second": None}
    if result.requires_grad:
        found.update(_derivatives(m, result, leaves))
    found["value"] = result.detach().tolist()
    return found


def _derivatives(m, result, leaves):
    first = _gradients(m, [result], leaves)
    again, second = [g for g in first if g is not None and g.requires_grad], None
    if again:
        try:
            second = _gradients(m, again, leaves)
        except RuntimeError as error:  # PyTorch has no second derivative of some activations
            if "is not implemented" not in str(error):
                raise
            return {"first": _lists(first), "second": "not implemented"}
    return {"first": _lists(first), "second": second and _lists(second)}


def _gradients(m, results, leaves):
    weighted = [(r * _weights(m, r) * 0.5**i).sum() for i, r in enumerate(results)]
    total = weighted[0]
    for more in weighted[1:]:
        total = total + more
    return m.autograd.grad(total, leaves, create_graph=True, allow_unused=True)


def _weights(m, r):
    return (m.arange(r.numel(), dtype=m.float64) % 5 * 0.25 + 1).reshape(r.shape)


def _lists(gradients):
    return [None if g is None else (g.detach() + 0.0).tolist() for g in gradients]
