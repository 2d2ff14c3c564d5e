"""`torch.testing`: whether tensors, numbers and containers of them are close.

In: what came out and what should have. Out: nothing, or an AssertionError that says where and by how much they differ. Next:
`stand_ins.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from flambeau.functions.from_data import as_tensor
from flambeau.runtime.recorder import Tensor

#: dtype -> (rtol, atol), PyTorch's.
_TOLERANCES = {
    "float16": (1e-3, 1e-5), "bfloat16": (1.6e-2, 1e-5), "float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7),
    "complex64": (1.3e-6, 1e-5), "complex128": (1e-7, 1e-7),
}  # fmt: skip


def assert_close(
    actual: Any,
    expected: Any,
    *,
    allow_subclasses: bool = True,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_device: bool = True,
    check_dtype: bool = True,
    check_layout: bool = True,
    check_stride: bool = False,
    msg: str | Callable[[str], str] | None = None,
) -> None:
    """Raise AssertionError unless `actual` is `expected` to `atol + rtol * |expected|`, by default what PyTorch allows of the
    dtype, and of its shape, dtype and device. Mappings and sequences are compared item by item; ValueError for one tolerance alone.
    """
    if (rtol is None) != (atol is None):
        raise ValueError(f"[assert_close] rtol is {rtol} and atol {atol}. Give both or neither.")
    checks = {
        "check_dtype": check_dtype,
        "check_device": check_device,
        "equal_nan": equal_nan,
        "rtol": rtol,
        "atol": atol,
    }
    if text := _difference(actual, expected, checks):
        raise AssertionError(msg(text) if callable(msg) else msg or text)


def _difference(actual: Any, expected: Any, checks: dict[str, Any], where: str = "") -> str:
    if isinstance(expected, Mapping):
        if not isinstance(actual, Mapping) or actual.keys() != expected.keys():
            return f"[assert_close] the mappings{where} have other keys."
        pairs = [(f"{where}[{key!r}]", actual[key], expected[key]) for key in expected]
        return next(filter(None, (_difference(a, e, checks, at) for at, a, e in pairs)), "")
    if isinstance(expected, Sequence) and not isinstance(expected, str):
        if not isinstance(actual, Sequence) or len(actual) != len(expected):
            return f"[assert_close] the sequences{where} have other lengths."
        pairs = [(f"{where}[{i}]", a, e) for i, (a, e) in enumerate(zip(actual, expected))]
        return next(filter(None, (_difference(a, e, checks, at) for at, a, e in pairs)), "")
    if expected is None or isinstance(expected, str):
        return "" if actual == expected else f"[assert_close] {actual!r}{where} is not {expected!r}."
    return _of_tensors(actual, expected, checks, where)


def _of_tensors(actual: Any, expected: Any, checks: dict[str, Any], where: str) -> str:
    if isinstance(actual, Tensor) != isinstance(expected, Tensor):
        return f"[assert_close] {type(actual).__name__}{where} is compared with {type(expected).__name__}."
    x, y = as_tensor(actual), as_tensor(expected)
    for fact in ("shape", *(f for f in ("dtype", "device") if checks[f"check_{f}"] and isinstance(actual, Tensor))):
        if getattr(x, fact) != getattr(y, fact):
            return f"[assert_close] the {fact}s{where} differ: {getattr(x, fact)} and {getattr(y, fact)}."
    allowed = [_TOLERANCES.get(z.dtype.name, (0.0, 0.0)) for z in (x, y)]
    rtol, atol = (
        max(each) if (given := checks[f]) is None else given for f, each in zip(("rtol", "atol"), zip(*allowed))
    )
    a, b = (_wide(z) for z in (x, y))
    far = ~np.isclose(a, b, rtol=rtol, atol=atol, equal_nan=checks["equal_nan"])
    if not far.any():
        return ""
    worst = np.nanmax(np.abs(a - b), initial=0.0, where=far)
    return (
        f"[assert_close] {far.sum()} of {far.size} elements{where} differ, by up to {worst} (rtol {rtol}, atol {atol})."
    )


def _wide(x: Tensor) -> np.ndarray:
    array = x.detach().cpu().resolve_conj().numpy()
    return array.astype(np.complex128 if x.dtype.is_complex else np.float64)


def names() -> dict[str, Any]:
    """What stands in the module."""
    return {"assert_close": assert_close}
