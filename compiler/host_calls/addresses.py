"""Where kernels are that are functions of this process: C code of a library, or a call of Python.

In: a kernel whose text describes what is called (JSON). Out: its address. Next: `lapack.py`, `fourier.py`, `reference_kernel.py`;
`caches/kernel_cache.py`, which asks.
"""

from __future__ import annotations

import json
from importlib import import_module

from flambeau.compiler.host_calls import reference_kernel
from flambeau.compiler.kernel import KernelSource

#: Modules of kernels that are C code throughout, as descriptions name them; each has an address per dtype.
_LIBRARIES = frozenset({"lapack", "fourier"})
DTYPES = ("float32", "float64", "complex64", "complex128")


def address(source: KernelSource) -> int:
    """Where the kernel is in this process. Raises KeyError where its op is not there any more, RuntimeError without what it
    calls."""
    description = json.loads(source.text)
    for library in _LIBRARIES.intersection(description):
        table = import_module(f"{__package__}.{library}").kernels()  # imports what it calls
        return table[description[library]][DTYPES.index(description["dtype"])]
    return reference_kernel.address(source.text)
