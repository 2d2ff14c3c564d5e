"""Maps object code into the process.

In: the bytes of an object file that defines `kernel`. Out: its address, valid for the life of the process. The runtime maps what
needs nothing but itself, so that a start from the caches loads no LLVM. Others go to one LLJIT, in which each is a library of
its own, so equal symbol names do not meet. Next: `kernel_cache.py`.
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

from flambeau.dialects.locks import process_lock
from flambeau.runtime import _binding

SYMBOL = "kernel"

_lock = process_lock()
_numbers = itertools.count()
_kept: list[Any] = []  # llvmlite unmaps a library when its tracker is collected


class LoadError(RuntimeError):
    """Object code that could not be linked."""


def load(code: bytes) -> int:
    """The address of `kernel`. Raises LoadError for bytes that are not an object or lack the symbol."""
    return _binding.map_object(code, SYMBOL) or link(code)


def link(code: bytes) -> int:
    """As `load`, by LLVM's linker, which takes every object."""
    import llvmlite.binding as llvm

    library = llvm.JITLibraryBuilder().add_object_img(code)
    library.export_symbol(SYMBOL)
    with _lock:
        try:
            tracker = library.link(_jit(), f"kernel{next(_numbers)}")
        except RuntimeError as error:
            raise LoadError(
                f"[load] object code of {len(code)} bytes does not link: {error}. Compile it again."
            ) from None
        _kept.append(tracker)
    return tracker[SYMBOL]


@cache
def _jit() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.create_lljit_compiler(use_jit_link=True, suppress_errors=True)
