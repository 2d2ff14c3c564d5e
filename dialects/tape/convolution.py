"""Convolutions: one sum over three tensors, and the three ops that it has.

    T(x, w, y) = sum over n, g, o, c, p, r of  x[n, g c, p * stride + r * dilation - padding] * w[g o, c, r] * y[n, g o, p]

(`g` group, `o` and `c` output and input channels of a group, `p` and `r` places in the maps of y and of w, along one to three axes;
x is 0 where there is none). `convolution` is its derivative by y, `convolution_input` (a transposed convolution) by x,
`convolution_weight` by w: each is linear in both of its operands, and their derivatives are the other two, so the set is
closed. The spatial extents of the result are the attribute `sizes`, and the zeros on the far side follow from it.

The order of the sums is fixed (docs/architecture.md): fused multiply-adds along k in blocks of 256 that are added in order. k is
(c, r) for y, (o, the taps that meet the place, ascending) for x, (n, p) for w. A place outside of the map that is read is a zero
that takes part. The NumPy references sum more accurately instead, so they are not `exact`. Next: `indexing.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import ARITHMETIC, from_numpy
from flambeau.dialects.record import Kind, OpRecord, Sample
from flambeau.dialects.tape import complex_formulas as formulas
from flambeau.dialects.tape.common import check_dtype, ops, quiet, random

_ATTRIBUTES = ("sizes", "stride", "padding", "dilation", "groups")
#: Which of the three tensors the operands and the result of each op are.
ROLES = {"convolution": "xwy", "convolution_input": "ywx", "convolution_weight": "xyw"}


def by_role(op: str, values: Sequence[Any]) -> tuple[Any, Any, Any]:
    """Of operands and result: what belongs to x, to w and to y."""
    x, w, y = (values[ROLES[op].index(role)] for role in "xwy")
    return x, w, y


# ---- types ------------------------------------------------------------------------------------------------------


def _check(name: str, a: Aval, b: Aval, size: Any, stride: Any, padding: Any, dilation: Any, groups: Any) -> None:
    check_dtype(name, a, ARITHMETIC)
    if a.dtype is not b.dtype:
        raise RuntimeError(
            f"[{name}] operands have dtypes {a.dtype.name} and {b.dtype.name}. Cast them to one dtype first."
        )
    if a.rank != b.rank or not 3 <= a.rank <= 5:
        raise RuntimeError(
            f"[{name}] operands have shapes {a.shape} and {b.shape}. Give both two axes and one to three spatial ones."
        )
    numbers = {"sizes": (size, 0), "stride": (stride, 1), "padding": (padding, 0), "dilation": (dilation, 1)}
    for what, (given, least) in numbers.items():
        if len(given) != a.rank - 2 or any(n < least for n in given):
            raise RuntimeError(f"[{name}] {what} is {given}. Give {a.rank - 2} ints of at least {least}.")
    if groups < 1:
        raise RuntimeError(f"[{name}] groups is {groups}. Give at least 1.")


def _divided(name: str, channels: Any, groups: int) -> Any:
    if channels % groups != 0:
        raise RuntimeError(f"[{name}] {channels} channels do not divide into {groups} groups. Give a divisor.")
    return channels // groups


def _meet(name: str, a: Any, b: Any, what: str) -> None:
    if a != b:
        raise RuntimeError(f"[{name}] operands have {a} and {b} {what}. Make them agree.")


def _infer(x: Aval, w: Aval, sizes: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Aval:
    _check("convolution", x, w, sizes, stride, padding, dilation, groups)
    _divided("convolution", w.shape[0], groups)
    _meet("convolution", x.shape[1], w.shape[1] * groups, "input channels")
    return Aval((x.shape[0], w.shape[0], *sizes), x.dtype)


def _infer_input(y: Aval, w: Aval, sizes: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Aval:
    _check("convolution_input", y, w, sizes, stride, padding, dilation, groups)
    _divided("convolution_input", w.shape[0], groups)
    _meet("convolution_input", y.shape[1], w.shape[0], "output channels")
    return Aval((y.shape[0], w.shape[1] * groups, *sizes), y.dtype)


def _infer_weight(x: Aval, y: Aval, sizes: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Aval:
    _check("convolution_weight", x, y, sizes, stride, padding, dilation, groups)
    _divided("convolution_weight", y.shape[1], groups)
    _meet("convolution_weight", x.shape[0], y.shape[0], "samples")
    return Aval((y.shape[1], _divided("convolution_weight", x.shape[1], groups), *sizes), x.dtype)


# ---- references -------------------------------------------------------------------------------------------------


def _exact(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Floats are added up in float64, and rounded to the dtype that they accumulate in, then to their own."""

    @quiet
    def reference(a: np.ndarray, b: np.ndarray, *attrs: Any) -> np.ndarray:
        dtype = from_numpy(a.dtype)
        if not dtype.is_floating_point:
            return function(a, b, *attrs)
        exact = function(a.astype(np.float64), b.astype(np.float64), *attrs)
        return exact.astype(dtype.accumulation.numpy).astype(a.dtype)

    return reference


def _grouped(x: np.ndarray, axis: int, groups: int) -> np.ndarray:
    """`x` with the groups of the channels along `axis` as an axis before them."""
    return x.reshape(*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])


def _margins(x: np.ndarray, low: Sequence[int], length: Sequence[int]) -> np.ndarray:
    """`x` with zeros before its spatial axes, and behind them up to `length`."""
    rank = len(low)
    margins = [(a, n - a - m) for a, n, m in zip(low, length, x.shape[-rank:], strict=True)]
    return np.pad(x, [(0, 0)] * (x.ndim - rank) + margins)


def _taps(kernel: Any, map: Any, stride: Any, dilation: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of the kernel, and what it meets of a map with margins, as indices of their last axes."""
    for r in product(*[range(n) for n in kernel]):
        starts = [k * d for k, d in zip(r, dilation, strict=True)]
        yield (..., *r), (..., *(slice(a, a + n * s, s) for a, n, s in zip(starts, map, stride, strict=True)))


def _length(kernel: Sequence[int], map: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """The extents that all taps meet."""
    rows = zip(kernel, map, stride, dilation, strict=True)
    return [max(0, (n - 1) * s) + s + max(0, (r - 1) * d) for r, n, s, d in rows]


def _padded(x: np.ndarray, kernel: Any, map: Any, stride: Any, padding: Any, dilation: Any) -> np.ndarray:
    """The map that is read, in zeros as far as taps reach."""
    reached = _length(kernel, map, stride, dilation)
    needed = [max(n, p + m) for n, p, m in zip(reached, padding, x.shape[-len(padding) :], strict=True)]
    return _margins(x, padding, needed)


def _convolution(x: np.ndarray, w: np.ndarray, size: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    kernel = w.shape[2:]
    x, w = _grouped(_padded(x, kernel, size, stride, padding, dilation), 1, groups), _grouped(w, 0, groups)
    found = np.zeros((x.shape[0], *w.shape[:2], *size), x.dtype)
    for r, met in _taps(kernel, size, stride, dilation):
        found += np.einsum("ngc...,goc->ngo...", x[met], w[r])
    return found.reshape(x.shape[0], w.shape[0] * w.shape[1], *size)


def _convolution_input(
    y: np.ndarray, w: np.ndarray, size: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> np.ndarray:
    kernel = w.shape[2:]
    rows = list(zip(y.shape[2:], kernel, size, stride, padding, dilation, strict=True))
    before = [max(0, -(-((r - 1) * d - p) // s)) for _, r, _, s, p, d in rows]
    after = [max(0, (x - 1 + p) // s - (n - 1)) for n, _, x, s, p, _ in rows]
    wide = [a + n + b for a, n, b in zip(before, y.shape[2:], after, strict=True)]
    y, w = _grouped(_margins(y, before, wide), 1, groups), _grouped(w, 0, groups)
    starts = [p + a * s for a, p, s in zip(before, padding, stride, strict=True)]
    reached = _length(kernel, wide, stride, dilation)
    needed = [max(n, a + x) for n, a, x in zip(reached, starts, size, strict=True)]
    found = np.zeros((y.shape[0], groups, w.shape[2], *needed), y.dtype)
    for r, met in _taps(kernel, wide, stride, dilation):
        found[met] += np.einsum("ngo...,goc->ngc...", y, w[r])
    inside: Any = (..., *(slice(a, a + n) for a, n in zip(starts, size, strict=True)))
    return found[inside].reshape(y.shape[0], groups * w.shape[2], *size)


def _convolution_weight(
    x: np.ndarray, y: np.ndarray, size: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> np.ndarray:
    map, rank = y.shape[2:], len(size)
    x = _grouped(_padded(x, size, map, stride, padding, dilation), 1, groups)
    y = _grouped(y, 1, groups)
    found = np.zeros((groups, y.shape[2], x.shape[2], *size), x.dtype)
    for r, met in _taps(size, map, stride, dilation):
        places = "pqs"[:rank]
        found[r] = np.einsum(f"ngo{places},ngc{places}->goc", y, x[met])
    return found.reshape(groups * y.shape[2], x.shape[2], *size)


# ---- samples ----------------------------------------------------------------------------------------------------


def _cases() -> list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]]:
    """Shapes of x and w, and attributes; far sides that no tap reaches, and that taps reach beyond, among them."""

    def case(x: Any, w: Any, size: Any, stride: Any, padding: Any, dilation: Any, groups: int = 1) -> Any:
        return x, w, dict(sizes=size, stride=stride, padding=padding, dilation=dilation, groups=groups)

    return [
        case((2, 3, 9), (4, 3, 3), (4,), (2,), (1,), (1,)),
        case((2, 4, 5, 6), (6, 2, 3, 2), (5, 7), (1, 1), (1, 1), (1, 1), 2),
        case((1, 2, 7, 8), (3, 2, 3, 3), (3, 3), (2, 3), (2, 1), (2, 2)),
        case((2, 3, 4, 5), (3, 1, 2, 2), (5, 4), (1, 1), (1, 0), (1, 1), 3),
        case((1, 2, 3, 4, 5), (2, 2, 2, 1, 3), (3, 2, 3), (1, 2, 2), (1, 0, 1), (1, 1, 1)),
        case((2, 3, 6, 6), (5, 3, 1, 1), (6, 6), (1, 1), (0, 0), (1, 1)),
        case((1, 2, 5), (2, 2, 1), (2,), (3,), (0,), (1,)),
        case((0, 2, 4, 4), (3, 2, 3, 3), (2, 2), (1, 1), (0, 0), (1, 1)),
        case((1, 1, 1), (1, 1, 2), (6,), (1,), (3,), (2,)),
    ]


def _long() -> list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]]:
    """Several blocks of k, tiles and images that do not divide, whatever the op."""
    attrs = dict(sizes=(13, 12), stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
    strided = dict(sizes=(10, 9), stride=(2, 2), padding=(1, 1), dilation=(1, 1), groups=2)
    return [((3, 33, 13, 12), (35, 33, 3, 3), attrs), ((2, 66, 19, 17), (70, 33, 3, 3), strided)]


def _samples(name: str) -> Callable[[], list[Sample]]:
    """Samples of the op that takes two of x, w and y and gives the third."""
    roles, missing = ROLES[name][:2], ROLES[name][2]

    def made(case: Any, gradient: bool) -> Sample:
        x, w, attrs = case
        shapes = {"x": x, "w": w, "y": (x[0], w[0], *attrs["sizes"])}
        size = shapes[missing][2:]
        operands = tuple(random(shapes[role], seed=k) for k, role in enumerate(roles))
        return Sample(operands, {**attrs, "sizes": size}, gradient=gradient)

    def samples() -> list[Sample]:
        good = [made(case, 0 < math.prod(case[0]) < 80) for case in _cases()]
        long = [made(case, False) for case in _long()]
        x, w, attrs = _cases()[1]
        a, b = made((x, w, attrs), False).operands
        plain = made((x, w, attrs), False).attrs
        bad: list[tuple[Any, dict[str, Any], str]] = [
            ((a, b), {"stride": (0, 1)}, f"[{name}] stride is (0, 1). Give 2 ints of at least 1."),
            ((a, b), {"padding": (1,)}, f"[{name}] padding is (1,). Give 2 ints of at least 0."),
            ((a, b), {"groups": 0}, f"[{name}] groups is 0. Give at least 1."),
            ((a, b[0]), {}, f"[{name}] operands have shapes {a.shape} and {b[0].shape}."),
            ((a, b.astype(np.float32)), {}, f"[{name}] operands have dtypes float64 and float32."),
            ((a != a, b != b), {}, f"[{name}] operand has dtype bool, not one of"),
            ((a, b), {"groups": 5}, f"[{name}] "),
        ]
        errors = [Sample(given, {**plain, **other}, error=(RuntimeError, text)) for given, other, text in bad]
        return [*good, *long, *errors]

    return samples


# ---- records ----------------------------------------------------------------------------------------------------


def _as(name: str, like: Any, *attrs: Any) -> Callable[[Any, Any], Any]:
    """The op of that name with the attributes of another, and the spatial extents of `like`."""
    how = dict(zip(_ATTRIBUTES[1:], attrs, strict=True))
    return lambda a, b: getattr(ops, name)(a, b, sizes=like.shape[2:], **how)


def _vjp(ct, r, x, w, size, *how):
    return _as("convolution_input", x, *how)(ct, w.conj()), _as("convolution_weight", w, *how)(x.conj(), ct)


def _vjp_input(ct, r, y, w, size, *how):
    return _as("convolution", y, *how)(ct, w.conj()), _as("convolution_weight", w, *how)(ct, y.conj())


def _vjp_weight(ct, r, x, y, size, *how):
    return _as("convolution_input", x, *how)(y.conj(), ct), _as("convolution", y, *how)(x.conj(), ct)


def _record(name: str, infer: Any, reference: Any, vjp: Any, doc: str) -> OpRecord:
    return OpRecord(
        name=name,
        kind=Kind.CONVOLUTION,
        attrs=_ATTRIBUTES,
        infer=infer,
        reference=_exact(reference),
        vjp=vjp,
        parts=lambda a, b, *how: formulas.bilinear(
            lambda x, y: getattr(ops, name)(x, y, **dict(zip(_ATTRIBUTES, how))), a, b
        ),
        lower=None,
        dtypes=ARITHMETIC,
        exact=False,
        keep=True,
        samples=_samples(name),
        doc=doc,
    )


convolution = _record(
    "convolution",
    _infer,
    _convolution,
    _vjp,
    "The convolution of maps [N, C, *size] with a kernel [O, C / groups, *size]: [N, O, *size].",
)
convolution_input = _record(
    "convolution_input",
    _infer_input,
    _convolution_input,
    _vjp_input,
    "The transposed convolution, the gradient of one by its maps: [N, O, *size] and a kernel [O, C / groups, *size] give "
    "[N, C, *size].",
)
convolution_weight = _record(
    "convolution_weight",
    _infer_weight,
    _convolution_weight,
    _vjp_weight,
    "The gradient of a convolution by its kernel: maps [N, C, *size] and [N, O, *size] give [O, C / groups, *size].",
)
