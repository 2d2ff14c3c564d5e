"""LAPACK in this process: SciPy's, by the addresses of its routines.

Out: the addresses of kernels; the runtime has them (`runtime/binding/lapack.c`), and is handed the routines that they call when
one is first asked for. Only then is SciPy imported. Next: `families/linear_algebra.py`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from flambeau.runtime import _binding as runtime


@cache
def kernels() -> Mapping[str, Sequence[int]]:
    """The addresses of each kernel, for the dtypes of `addresses.DTYPES`. Raises RuntimeError where SciPy cannot be
    imported, or has no such routines."""
    try:
        from scipy.linalg import cython_blas, cython_lapack
    except ImportError as error:
        raise RuntimeError(f"[linalg] SciPy cannot be imported: {error}. Run: pip install scipy.") from error
    routines = {**cython_blas.__pyx_capi__, **cython_lapack.__pyx_capi__}
    return runtime.lapack_kernels(routines, *_threads())


def _threads() -> tuple[int | None, int | None]:
    """The addresses of what gets and sets how many threads OpenBLAS uses, of the one that comes with SciPy; None for others, which
    split no matrices or are told by their own variables."""
    import scipy

    home = Path(scipy.__file__).parent
    for folder in (home.parent / "scipy.libs", home / ".dylibs"):
        for path in sorted(folder.glob("*openblas*")):
            library = ctypes.CDLL(str(path))
            for prefix in ("scipy_openblas", "openblas"):
                get, set_ = (getattr(library, f"{prefix}_{verb}_num_threads", None) for verb in ("get", "set"))
                if get is not None and set_ is not None:
                    return _address(get), _address(set_)
    return None, None


def _address(function: Any) -> int | None:
    return ctypes.cast(function, ctypes.c_void_p).value
