"""Text of tensors, exactly as PyTorch writes it.

In: a host array and what its tensor is (dtype, gradient). Out: `tensor([[1., 2.]], requires_grad=True)`. The rules
are those of `torch/_tensor_str.py`. Next: `methods.py`, which reads the tensor back and calls `tensor_text`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flambeau.declarations import Unsampled, declared
from flambeau.dialects.dtypes import is_inexact
from flambeau.dialects.tape.common import widened


@dataclass(frozen=True)
class PrintOptions:
    """How tensors are written: digits after the point, the size from which the middle is left out, and so on."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


_PROFILES = {
    "default": PrintOptions(),
    "short": PrintOptions(precision=2, edgeitems=2),
    "full": PrintOptions(threshold=math.inf),
}
_options = PrintOptions()


@declared(free="flambeau", samples=Unsampled("changes or tells what the process does next"))
def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Change how tensors print; `profile` ("default", "short" or "full") resets the others first.

    Raises ValueError for an unknown profile. `sci_mode=None` chooses by the values.
    """
    global _options
    if profile is not None and profile not in _PROFILES:
        raise ValueError(f"[set_printoptions] profile {profile!r} is unknown. Use one of {sorted(_PROFILES)}.")
    base = _PROFILES[profile] if profile is not None else _options
    given: dict[str, Any] = {
        "precision": precision,
        "threshold": threshold,
        "edgeitems": edgeitems,
        "linewidth": linewidth,
    }
    _options = replace(base, sci_mode=sci_mode, **{k: v for k, v in given.items() if v is not None})


class _Formatter:
    """One width and one notation for all elements of an array."""

    def __init__(self, values: np.ndarray, options: PrintOptions) -> None:
        self.options = options
        self.floating = is_inexact(values)
        self.integral = True
        self.scientific = False
        self.width = 1
        if not self.floating:
            self.width = max((len(str(v)) for v in values.ravel().tolist()), default=1)
            return
        finite = values[np.isfinite(values) & (values != 0)].astype(np.float64)
        if finite.size:
            self._choose(finite)

    def _choose(self, finite: np.ndarray) -> None:
        low, high = np.abs(finite).min(), np.abs(finite).max()
        self.integral = bool((finite == np.ceil(finite)).all())
        with np.errstate(over="ignore"):
            spread = high / low > 1000.0 or high > 1.0e8 or low < 1.0e-4
        self.scientific = bool(spread) if self.options.sci_mode is None else self.options.sci_mode
        self.width = max(len(self._number(v)) for v in finite.tolist())

    def _number(self, value: float) -> str:
        if self.scientific:
            return f"{value:.{self.options.precision}e}"
        if self.integral:
            return f"{value:.0f}" + ("." if math.isfinite(value) else "")
        return f"{value:.{self.options.precision}f}"

    def __call__(self, value: float | int | bool) -> str:
        return (self._number(value) if self.floating else str(value)).rjust(self.width)


class _PairFormatter:
    """The same for complex numbers, whose parts have a width and a notation each."""

    def __init__(self, values: np.ndarray, options: PrintOptions) -> None:
        self.options = options
        self.re, self.im = (_Formatter(part, options) for part in (values.real, values.imag))
        self.width = self.re.width + self.im.width + 1

    def __call__(self, value: complex) -> str:
        imaginary = self.im(value.imag).lstrip()
        sign = "" if imaginary.startswith(("+", "-")) else "+"
        return f"{self.re(value.real)}{sign}{imaginary}j"


_Formatters = _Formatter | _PairFormatter


def _vector(values: np.ndarray, indent: int, summarize: bool, fmt: _Formatters) -> str:
    edge = fmt.options.edgeitems
    per_line = max(1, (fmt.options.linewidth - indent) // (fmt.width + 2))
    if summarize and len(values) > 2 * edge:
        head, tail = values[:edge].tolist(), values[len(values) - edge :].tolist()
        items = [*map(fmt, head), " ..." if edge else "...", *map(fmt, tail)]
    else:
        items = [fmt(v) for v in values.tolist()]
    lines = [", ".join(items[i : i + per_line]) for i in range(0, len(items), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _nested(values: np.ndarray, indent: int, summarize: bool, fmt: _Formatters) -> str:
    if values.ndim == 0:
        return fmt(values.item())
    if values.ndim == 1:
        return _vector(values, indent, summarize, fmt)
    edge = fmt.options.edgeitems
    rows: list[np.ndarray | None] = list(values)
    if summarize and len(values) > 2 * edge:
        rows = [*values[:edge], None, *values[len(values) - edge :]]
    parts = ["..." if row is None else _nested(row, indent + 1, summarize, fmt) for row in rows]
    return "[" + ("," + "\n" * (values.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def _edges(values: np.ndarray, edge: int) -> np.ndarray:
    """The elements that a summary shows; they alone decide its notation."""
    for axis, extent in enumerate(values.shape):
        if extent > 2 * edge:
            values = np.take(values, [*range(edge), *range(extent - edge, extent)], axis=axis)
    return values


def array_text(values: np.ndarray, indent: int = 0) -> str:
    """The elements in nested brackets, following lines indented by `indent`."""
    if values.size == 0:
        return "[]"
    values = widened(values)
    summarize = values.size > _options.threshold
    shown = _edges(values, _options.edgeitems) if summarize else values
    make = _PairFormatter if values.dtype.kind == "c" else _Formatter
    return _nested(values, indent, summarize, make(shown, _options))


def tensor_text(
    values: np.ndarray,
    *,
    dtype: str | None = None,
    size: bool = False,
    gradient: str | None = None,
    name: str = "tensor",
    device: str | None = None,
) -> str:
    """`name(elements, suffixes)`.

    `device` and `dtype` are written if given, the shape if `size` (or if the tensor is empty and not one-dimensional), `gradient`
    (such as "requires_grad=True") last. Lines longer than the limit are broken before a suffix.
    """
    prefix = f"{name}("
    text = prefix + array_text(values, len(prefix))
    size = size or (values.size == 0 and values.ndim != 1)
    suffixes = [device] if device else []
    suffixes += [f"size={values.shape}"] if size else []
    suffixes += [f"dtype={dtype}"] if dtype else []
    suffixes += [gradient] if gradient else []
    length = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if length + len(suffix) + 2 > _options.linewidth:
            text += ",\n" + " " * len(prefix) + suffix
            length = len(prefix) + len(suffix)
        else:
            text += ", " + suffix
            length += len(suffix) + 2
    return text + ")"
