"""`flambeau.return_types`: the named tuples that functions with several results return, by PyTorch's names.

In: a name. Out: its class, made when first asked for: making all takes as long as some imports. Next: `functions/sort.py`.
"""

from __future__ import annotations

from collections import namedtuple
from typing import Any

from flambeau import missing as _missing

_FIELDS = {
    **dict.fromkeys(("max", "min", "sort", "topk", "kthvalue", "mode"), "values indices"),
    **dict.fromkeys(("median", "nanmedian", "cummax", "cummin"), "values indices"),
    **dict.fromkeys(("qr", "linalg_qr"), "Q R"),
    **dict.fromkeys(("linalg_eig", "linalg_eigh"), "eigenvalues eigenvectors"),
    **dict.fromkeys(("slogdet", "linalg_slogdet"), "sign logabsdet"),
    **dict.fromkeys(("lu_unpack", "linalg_lu"), "P L U"),
    **dict.fromkeys(("histogram", "histogramdd"), "hist bin_edges"),
    "aminmax": "min max",
    "frexp": "mantissa exponent",
    "geqrf": "a tau",
    "triangular_solve": "solution cloned_coefficient",
    "linalg_cholesky_ex": "L info",
    "linalg_inv_ex": "inverse info",
    "linalg_ldl_factor": "LD pivots",
    "linalg_ldl_factor_ex": "LD pivots info",
    "linalg_lstsq": "solution residuals rank singular_values",
    "linalg_lu_factor": "LU pivots",
    "linalg_lu_factor_ex": "LU pivots info",
    "linalg_solve_ex": "result info",
    "linalg_svd": "U S Vh",
    "svd": "U S V",
}

_absent = _missing.module_getattr("flambeau.return_types")


def _written(self: Any) -> str:
    """As PyTorch writes it."""
    shown = ",\n".join(f"{field}={value!r}" for field, value in zip(self._fields, self, strict=True))
    return f"{__name__}.{type(self).__name__}(\n{shown})"


def __getattr__(name: str) -> Any:
    """A class by its name, which is there from then on. Raises AttributeError for others."""
    if name not in _FIELDS:
        return _absent(name)
    base = namedtuple(name, _FIELDS[name], module=__name__)  # type: ignore[misc]
    members = {"__repr__": _written, "__slots__": (), "__module__": __name__, "__doc__": None}
    globals()[name] = made = type(name, (base,), members)
    return made


def __dir__() -> list[str]:
    return sorted(_FIELDS)
