"""`flambeau.array_api`: the namespace of the Python array API standard, what `x.__array_namespace__()` gives.

Its arrays are tensors; its functions have the standard's names, arguments and promotion (0-d arrays count like others), where
`flambeau`'s own have PyTorch's. In: calls by SciPy, scikit-learn and such. Out: calls of the package's functions. What the standard
asks of operators and attributes of arrays is as in PyTorch: see `docs/differences.md`. Next: `operands.py`.
"""

from __future__ import annotations

from flambeau import border as _border
from flambeau import missing as _missing
from flambeau.array_api import creation, elementwise, fft, linalg, manipulation, reductions, searching, types
from flambeau.array_api.operands import names_of as _names_of
from flambeau.public import NAMES as _NAMES

__array_api_version__ = "2024.12"

_MODULES = (types, creation, elementwise, manipulation, reductions, searching)
_CONSTANTS = ("e", "inf", "nan", "pi")
_found = {name: value for module in _MODULES for name, value in _names_of(module).items()}
_found |= {name: getattr(linalg, name) for name in ("matmul", "matrix_transpose", "tensordot", "vecdot")}
_found |= {name: _NAMES[name] for name in _CONSTANTS}
_found |= {"newaxis": None, **types.DTYPES}

globals().update(_found)
__all__ = [*sorted(_found), "__array_namespace_info__", "fft", "linalg"]
__array_namespace_info__ = types.Info

_border.publish(globals(), list(_found))
for _module in (linalg, fft):
    _border.publish(vars(_module), _module.__all__)
__getattr__ = _missing.module_getattr("flambeau.array_api")
