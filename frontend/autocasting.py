"""Autocast: in which dtype a function computes while it is on, after PyTorch's lists.

In: the mode of the recorder, whose bits say whether it is on, and the arguments of a call, when the call is expanded: that is,
once. Out: the same arguments, converted. So a call costs nothing more when it is off, and nothing more when it is on; a weight
that many calls convert is converted once, as any value that is computed twice. Next: `amp/autocast_mode.py`, what users touch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from flambeau.dialects.builder import Value
from flambeau.dialects.dtypes import DType, bfloat16, float16, float32


class Bits(NamedTuple):
    """The bits of a device in the mode: whether autocast is on, and whether its dtype is the less usual one; both dtypes."""

    enabled: int
    unusual: int
    usual_dtype: DType
    unusual_dtype: DType

    def dtype(self, mode: int) -> DType:
        return self.unusual_dtype if mode & self.unusual else self.usual_dtype


#: By type of device.
DEVICES = {
    "cpu": Bits(1 << 2, 1 << 3, bfloat16, float16),
    "cuda": Bits(1 << 4, 1 << 5, float16, bfloat16),
}
UNCACHED = 1 << 6  # that users asked for no cache of weights; it changes nothing
ON = DEVICES["cpu"].enabled | DEVICES["cuda"].enabled

_LOSSES = (
    *("nll_loss", "cross_entropy", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "kl_div", "poisson_nll_loss"),
    *(
        "cosine_embedding_loss",
        "hinge_embedding_loss",
        "margin_ranking_loss",
        "soft_margin_loss",
        "triplet_margin_loss",
    ),
    *("multi_margin_loss", "multilabel_margin_loss", "binary_cross_entropy_with_logits"),
)
_PRODUCTS = (
    *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "mm", "bmm", "addmm"),
    *("baddbmm", "addbmm", "matmul", "linear", "prelu", "multi_dot", "scaled_dot_product_attention"),
)
#: Functions that compute in the lower dtype, by type of device.
LOWER = {
    "cpu": {*_PRODUCTS, "vecdot", "inner", "tensordot", "matrix_power", "LSTM", "RNN", "RNNCell"},
    "cuda": {*_PRODUCTS, "mv", "addmv", "addr", "inner", "LSTM", "RNN", "GRU", "LSTMCell", "GRUCell", "RNNCell"},
}
#: Functions that compute in float32.
HIGHER = {
    "cpu": {
        *(
            *_LOSSES,
            "binary_cross_entropy",
            "ctc_loss",
            "grid_sample",
            "prod",
            "quantile",
            "nanquantile",
            "stft",
            "cdist",
            "trace",
        ),
        *(
            "avg_pool3d",
            "max_pool3d",
            "adaptive_avg_pool3d",
            "adaptive_max_pool3d",
            "max_unpool2d",
            "max_unpool3d",
            "fractional_max_pool2d",
        ),
        *(
            "fractional_max_pool3d",
            "cholesky",
            "cholesky_inverse",
            "cholesky_solve",
            "inv",
            "lu_solve",
            "ormqr",
            "pinv",
            "qr",
            "lstsq",
        ),
        *(
            "matrix_rank",
            "cond",
            "solve",
            "tensorsolve",
            "tensorinv",
            "svd",
            "svdvals",
            "eig",
            "eigvals",
            "eigh",
            "eigvalsh",
        ),
    },
    "cuda": {
        *(
            *_LOSSES,
            "acos",
            "asin",
            "cosh",
            "erfinv",
            "exp",
            "expm1",
            "log",
            "log10",
            "log2",
            "log1p",
            "reciprocal",
            "rsqrt",
            "sinh",
        ),
        *(
            "tan",
            "pow",
            "softplus",
            "layer_norm",
            "group_norm",
            "norm",
            "cosine_similarity",
            "dist",
            "pdist",
            "cdist",
            "renorm",
        ),
        *("logsumexp", "softmax", "log_softmax", "sum", "prod", "cumsum", "cumprod", "vector_norm", "matrix_norm"),
    },
}
#: Functions that compute in float32 if one of their tensors is of it.
WIDEST = {
    "cpu": {"stack", "cat", "index_copy"},
    "cuda": {
        "stack",
        "cat",
        "addcdiv",
        "addcmul",
        "atan2",
        "bilinear",
        "cross",
        "dot",
        "vdot",
        "index_put",
        "tensordot",
        "scatter_add",
    },
}
#: Functions whose parameters may be wider than the input, whose dtype their results have.
AS_INPUT = {"layer_norm", "rms_norm", "group_norm", "batch_norm", "instance_norm", "GRU", "GRUCell", "LSTMCell"}


def cast(function: Any, arguments: dict[str, Any], device: str, mode: int) -> tuple[dict[str, Any], DType | None]:
    """The arguments of a call on `device` in the dtype that autocast says, and the dtype of its results where that is another than
    they make of them."""
    kind = device.partition(":")[0]
    bits = DEVICES.get(kind)
    if bits is None or not mode & bits.enabled or not _is_ours(function):
        return arguments, None
    found = [v.dtype for v in _eligible(arguments)]
    name, lower = function.name, bits.dtype(mode)
    if not found:
        return arguments, None
    if name in LOWER[kind] or (name == "einsum" and _contracts(arguments)):
        return _converted(arguments, lower), None
    if name in HIGHER[kind] or (name == "pad" and arguments.get("mode") in ("reflect", "replicate")):
        return _converted(arguments, float32) if arguments.get("dtype") is None else arguments, None
    if name in WIDEST[kind] and float32 in found:
        return _converted(arguments, float32), None
    if name in AS_INPUT and len(set(found)) > 1:
        return _converted(arguments, float32), found[0]
    return arguments, None


def _is_ours(function: Any) -> bool:
    """Whether users call it: a pure function that computes something new, and no op of a gradient."""
    return function.kind == "pure" and (function.rule.__module__ or "").startswith("flambeau.functions.")


def _is_eligible(value: Any) -> bool:
    return (
        isinstance(value, Value) and not getattr(value, "weak", False) and value.dtype in (float32, float16, bfloat16)
    )


def _eligible(arguments: dict[str, Any]) -> Iterator[Value]:
    for argument in arguments.values():
        for value in argument if isinstance(argument, list) else [argument]:
            if _is_eligible(value):
                yield value


def _converted(arguments: dict[str, Any], dtype: DType) -> dict[str, Any]:
    def one(value: Any) -> Any:
        return value.cast(dtype) if _is_eligible(value) else value

    each: Callable[[Any], Any] = lambda a: [one(v) for v in a] if isinstance(a, list) else one(a)  # noqa: E731
    return {name: each(argument) for name, argument in arguments.items()}


def _contracts(arguments: dict[str, Any]) -> bool:
    """Whether the operands of an `einsum` share a label that the result has not: then it is a product of matrices."""
    seen: set[int] = set()
    for labels in arguments["labels"]:
        if seen & set(labels) - set(arguments["output"]):
            return True
        seen |= set(labels)
    return False
