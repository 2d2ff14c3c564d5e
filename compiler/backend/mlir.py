"""The one door to the MLIR Python bindings, opened on first use.

In: MLIR text. Out: modules, passes run on them, LLVM IR text. The bindings come from the `torch_mlir`
wheel or from a standard `mlir` package. Errors raise `MlirError` with MLIR's diagnostics; misuse that
would abort the process is checked first. Next: `object_code.py`.
"""

from __future__ import annotations

import importlib
from functools import cache
from types import ModuleType
from typing import Any

_PACKAGES = ("torch_mlir", "mlir")


class MlirError(RuntimeError):
    """Text that does not parse or verify, or a pass that failed; the message is MLIR's."""


@cache
def _package() -> str:
    for name in _PACKAGES:
        try:
            importlib.import_module(f"{name}.ir")
        except ModuleNotFoundError as error:
            if error.name not in (name, f"{name}.ir"):
                raise
        else:
            return name
    raise ModuleNotFoundError("[mlir] no MLIR bindings found. Install torch-mlir (or a package named mlir).")


def module(name: str) -> ModuleType:
    """A submodule of the bindings, such as "ir", "passmanager" or "dialects.scf"."""
    return importlib.import_module(f"{_package()}.{name}")


def __getattr__(name: str) -> Any:
    """`mlir.ir`, `mlir.passmanager`, `mlir.rewrite`, `mlir.dialects`: the bindings' modules."""
    if name in ("ir", "passmanager", "rewrite", "dialects"):
        return module(name)
    raise AttributeError(f"module 'flambeau.compiler.backend.mlir' has no attribute '{name}'")


@cache
def context() -> Any:
    """The process's context, single-threaded so that it survives forks and starts fast."""
    context = module("ir").Context()
    context.enable_multithreading(False)
    return context


def parse(text: str) -> Any:
    """A verified module. Raises MlirError."""
    ir = module("ir")
    with context(), ir.Location.unknown():
        try:
            return ir.Module.parse(text)
        except ir.MLIRError as error:
            raise MlirError(_describe(error)) from None


@cache
def _pass_manager(pipeline: str, verify: bool) -> Any:
    passmanager, ir = module("passmanager"), module("ir")
    with context():
        try:
            manager = passmanager.PassManager.parse(pipeline)
        except (ValueError, ir.MLIRError) as error:
            raise MlirError(str(error)) from None
    manager.enable_verifier(verify)
    return manager


def prepare(pipeline: str, verify: bool = True) -> None:
    """Load the bindings and the passes of a pipeline."""
    _pass_manager(pipeline, verify)


def run(parsed: Any, pipeline: str, verify: bool = True) -> None:
    """Run a pass pipeline, such as "builtin.module(canonicalize,cse)", on a module in place, verified after every pass unless
    somebody does at the end. Raises MlirError."""
    ir = module("ir")
    manager = _pass_manager(pipeline, verify)
    with context(), ir.Location.unknown():
        try:
            manager.run(parsed.operation)
        except ir.MLIRError as error:
            raise MlirError(_describe(error)) from None


_TRANSLATED = frozenset({"llvm", "nvvm", "builtin"})


def foreign_ops(parsed: Any) -> list[str]:
    """Names of ops outside of the dialects that become LLVM IR, and leftover casts: translating any would end the process."""
    ir = module("ir")
    found: set[str] = set()

    def visit(op: Any) -> Any:
        known = op.name.partition(".")[0] in _TRANSLATED or op.name == "gpu.module"
        if not known or op.name == "builtin.unrealized_conversion_cast":
            found.add(op.name)
        return ir.WalkResult.ADVANCE

    parsed.operation.walk(visit)
    return sorted(found)


def translate(parsed: Any) -> str:
    """LLVM IR text of a module in the llvm dialect, or of the one `gpu.module` that is all there is in it. Raises MlirError if
    other ops are left."""
    if foreign := foreign_ops(parsed):
        raise MlirError(f"ops not lowered to the llvm dialect: {', '.join(foreign)}")
    parsed.operation.verify()
    # The extension itself, not "dialects.llvm", which imports some 30 ms of op classes besides.
    return module("_mlir_libs._mlirDialectsLLVM").translate_module_to_llvmir(_translated(parsed))


def _translated(parsed: Any) -> Any:
    """The op whose body is translated. A `gpu.module` beside other ops would be left out without a word."""
    ir = module("ir")
    inside: list[Any] = []

    def visit(op: Any) -> Any:
        """Iterating over a body would look for the class of every op in it, which imports all of a dialect's."""
        if op.parent is None:
            return ir.WalkResult.ADVANCE
        inside.append(op)
        return ir.WalkResult.SKIP

    parsed.operation.walk(visit, ir.WalkOrder.PRE_ORDER)
    gpu = [op for op in inside if op.name == "gpu.module"]
    if gpu and len(inside) > 1:
        raise MlirError(f"a gpu.module beside {len(inside) - 1} other ops. Give one kernel at a time.")
    return gpu[0] if gpu else parsed.operation


def _describe(error: Any) -> str:
    """MLIR's diagnostics, one per line, notes included."""
    lines = []
    for diagnostic in error.error_diagnostics:
        lines.append(f"{diagnostic.location}: {diagnostic.message}")
        lines += [f"  {note.location}: {note.message}" for note in diagnostic.notes]
    return "\n".join(lines) or str(error)
