"""What is said of types: `finfo`, `iinfo`.

In: dtypes. Out: their limits. Next: `promotion.py`.
"""

from __future__ import annotations

from flambeau.dialects.dtypes import DType, of_python
from flambeau.promotion import get_default_dtype


class _Info:
    """Limits of a dtype, as attributes."""

    bits: int
    _shown: tuple[str, ...]

    def __init__(self, dtype: DType) -> None:
        self.dtype, self.bits = dtype.name, dtype.itemsize * 8

    def __repr__(self) -> str:
        shown = ((name, getattr(self, name)) for name in self._shown)
        limits = ", ".join(
            f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in shown
        )
        return f"{type(self).__name__}({limits}, dtype={self.dtype})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.dtype == other.dtype  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self), self.dtype))


def _check(op: str, dtype: object, is_kind: str) -> DType:
    dtype = of_python(dtype)
    if not isinstance(dtype, DType):
        raise TypeError(f"[{op}] dtype is a {type(dtype).__name__}. Pass a dtype.")
    if not getattr(dtype, is_kind):
        other = "iinfo" if op == "finfo" else "finfo"
        raise TypeError(f"[{op}] {dtype!r} is not of this kind. Use {other}, or another dtype.")
    return dtype


class finfo(_Info):
    """Limits of a floating-point dtype, or of a complex one's parts: `bits`, `eps`, `max`, `min`, `tiny`, `smallest_normal`,
    `resolution`.

    Raises TypeError for other dtypes.
    """

    _shown = ("resolution", "min", "max", "eps", "smallest_normal", "tiny")

    def __init__(self, type: DType | None = None) -> None:
        import ml_dtypes  # here, as it takes its time

        dtype = _check("finfo", get_default_dtype() if type is None else type, "is_inexact").to_real()
        super().__init__(dtype)
        found = ml_dtypes.finfo(dtype.numpy)
        self.eps, self.max, self.min = float(found.eps), float(found.max), float(found.min)
        self.tiny = self.smallest_normal = float(found.smallest_normal)
        self.resolution = float(f"{float(found.resolution):.0e}")


class iinfo(_Info):
    """Limits of an integer dtype: `bits`, `max`, `min`. Raises TypeError for other dtypes."""

    _shown = ("min", "max")

    def __init__(self, type: DType) -> None:
        dtype = _check("iinfo", type, "is_integer")
        super().__init__(dtype)
        self.max, self.min = int(dtype.greatest), int(dtype.least)
