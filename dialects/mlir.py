"""The one place that imports MLIR's Python bindings: from the wheel that carries them, or a standard `mlir` package.

In: nothing. Out: `ir`, `ext`, `passmanager`, `module(name)`. Importing this module costs about 0.1 s, so import
it where MLIR is needed, never at start-up. `flambeau.compiler.backend.mlir` re-exports it.
"""

from __future__ import annotations

import importlib
from types import ModuleType

try:
    import torch_mlir.ir as ir

    PACKAGE = "torch_mlir"
except ImportError:  # pragma: no cover - depends on which wheel is installed
    import mlir.ir as ir

    PACKAGE = "mlir"


def module(name: str) -> ModuleType:
    """`module("dialects.scf")`: a submodule of the bindings, whichever package carries them."""
    return importlib.import_module(f"{PACKAGE}.{name}")


ext = module("dialects.ext")
passmanager = module("passmanager")

__all__ = ["PACKAGE", "ext", "ir", "module", "passmanager"]
