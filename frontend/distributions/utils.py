"""What distributions share: parameters of one shape, probabilities and logits, properties computed once, checks of values.

In: numbers and tensors. Out: tensors. Next: `distribution.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import update_wrapper
from importlib import import_module
from typing import Any

from flambeau.autograd import enable_grad
from flambeau.dialects.dtypes import bool_, float64
from flambeau.function import Static, Tensor_, function
from flambeau.functions.common import check_between, ops
from flambeau.runtime.recorder import Tensor

#: The package, whose functions distributions are composed of.
fb: Any = import_module("flambeau")

#: Euler's and Mascheroni's constant.
EULER = 0.5772156649015329

Number = bool | int | float


def broadcast_all(*values: Tensor | float) -> tuple[Tensor, ...]:
    """The values as tensors of one shape. Numbers get dtype and device of the first tensor, the default dtype where there is none.

    Raises ValueError for what is neither number nor tensor.
    """
    for v in values:
        if not isinstance(v, Tensor | Number):
            raise ValueError(f"[broadcast_all] an argument is a {type(v).__name__}. Pass numbers and tensors.")
    first = next((v for v in values if isinstance(v, Tensor)), None)
    dtype, device = (fb.get_default_dtype(), None) if first is None else (first.dtype, first.device)
    made = [v if isinstance(v, Tensor) else fb.tensor(v, dtype=dtype, device=device) for v in values]
    return tuple(fb.broadcast_tensors(*made))


def sum_rightmost(value: Tensor, count: int) -> Tensor:
    """The sums over the last `count` dimensions."""
    return value.sum(tuple(range(-count, 0))) if count else value


def uniform_inside(shape: Sequence[int], like: Tensor) -> Tensor:
    """Uniform numbers in (0, 1), in the dtype of `like` and on its device: neither end, where quantiles are infinite."""
    info = fb.finfo(like.dtype)
    return fb.rand(tuple(shape), dtype=like.dtype, device=like.device).clamp(info.tiny, 1 - info.eps)


def logits_to_probs(logits: Tensor, is_binary: bool = False) -> Tensor:
    """Probabilities of log odds, or of unnormalized log probabilities along the last dimension."""
    return fb.sigmoid(logits) if is_binary else fb.softmax(logits, -1)


def clamp_probs(probs: Tensor) -> Tensor:
    """Probabilities kept eps away from 0 and 1, the distance of 1 from the next number of their dtype."""
    eps = fb.finfo(probs.dtype).eps
    return probs.clamp(eps, 1 - eps)


def probs_to_logits(probs: Tensor, is_binary: bool = False) -> Tensor:
    """Log odds, or log probabilities, of probabilities that are clamped."""
    inner = clamp_probs(probs)
    return inner.log() - (-inner).log1p() if is_binary else inner.log()


def tril_matrix_to_vec(mat: Tensor, diag: int = 0) -> Tensor:
    """The elements on and below diagonal `diag` of matrices [..., n, n], row by row. Raises ValueError for a diagonal outside."""
    n = mat.shape[-1]
    rows, columns = _below("tril_matrix_to_vec", n, diag)
    return mat[..., rows, columns]


def vec_to_tril_matrix(vec: Tensor, diag: int = 0) -> Tensor:
    """Matrices [..., n, n] whose elements on and below diagonal `diag` are those of vectors, row by row; the others are 0.

    Raises ValueError where no matrix has as many.
    """
    count = vec.shape[-1]
    root = (1 + 8 * count) ** 0.5
    n = round((root - 1) / 2) - diag
    rows, columns = _below("vec_to_tril_matrix", n, diag)
    if len(rows) != count:
        raise ValueError(
            f"[vec_to_tril_matrix] no matrix has {count} elements below diagonal {diag}. Pass n (n + 1) / 2."
        )
    mat = fb.zeros((*vec.shape[:-1], n, n), dtype=vec.dtype, device=vec.device)
    mat[..., rows, columns] = vec
    return mat


def _below(name: str, n: int, diag: int) -> Any:
    if not -n <= diag < max(n, 1):
        raise ValueError(f"[{name}] diagonal {diag} is outside of a matrix of {n} rows. Use {-n} to {n - 1}.")
    return fb.tril_indices(n, n, diag)


class lazy_property:
    """A property that is computed when first read, with gradients, and then an attribute. Validation leaves it alone."""

    def __init__(self, wrapped: Callable[[Any], Any]) -> None:
        self.wrapped = wrapped
        update_wrapper(self, wrapped)  # type: ignore[arg-type]

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        with enable_grad():
            value = self.wrapped(instance)
        setattr(instance, self.wrapped.__name__, value)
        return value


@function(name="Distribution", fallible=True)
def _checked(value: Tensor_, valid: Tensor_, what: Static, text: Static):
    one = valid.builder.constant(1.0, float64, valid.shape)
    flag = check_between("Distribution", what, ops.select(valid, one, one * float("nan")), 1, 1, text, "ValueError")
    if value.dtype is bool_:
        return ops.and_(value, flag.eq(flag.like(1.0)).expand(value.shape))
    return value * flag.cast(value.dtype).expand(value.shape)


def checked(value: Tensor, valid: Tensor, event_dim: int, what: str, text: str) -> Tensor:
    """`value`, where `valid` holds everywhere: ValueError "[Distribution] what[place] text" where its values are computed. `valid`
    lacks the last `event_dim` dimensions of `value`, and may have others more, to which `value` is expanded."""
    batch = value.shape[: value.ndim - event_dim]
    if event_dim:
        valid = valid.reshape((*valid.shape, *(1,) * event_dim))
    if batch != valid.shape[: valid.ndim - event_dim]:
        value = value.expand(fb.broadcast_shapes(tuple(value.shape), tuple(valid.shape)))
    return _checked(value, valid, what, text)
