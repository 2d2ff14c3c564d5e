"""Kernel text to object code, one function per stage.

    text -> parse -> lower (llvm dialect; with nvvm for GPUs) -> translate (LLVM IR) -> optimise -> emit object, or PTX

In: `KernelSource`, `Target`. Out: the bytes of an object file that defines `kernel` and needs nothing else.
Nothing is ever contracted or reassociated. `Options.dump` is a folder for what every stage made.
Next: `kernel_cache.py`, which asks for objects, and `loader.py`, which maps them.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from flambeau.compiler.backend import literals, mlir
from flambeau.compiler.export import elf
from flambeau.compiler.kernel import KernelSource
from flambeau.compiler.options import Options
from flambeau.compiler.targets import Target, find
from flambeau.dialects.aval import CPU
from flambeau.dialects.locks import process_lock

#: MLIR's passes from kernel text to the llvm dialect, by family of targets. For GPUs, `math` goes first: what is left of it
#: `convert-gpu-to-nvvm` makes calls of CUDA's library. That pass takes arith, cf and memref along, and vector it does not.
LOWERING = {
    "cpu": "builtin.module(loop-invariant-code-motion,convert-scf-to-cf,convert-vector-to-llvm,convert-math-to-llvm,"
    "convert-arith-to-llvm,convert-cf-to-llvm,reconcile-unrealized-casts)",
    "gpu": "builtin.module(convert-vector-to-llvm,gpu.module(convert-math-to-llvm,convert-scf-to-cf,"
    "convert-gpu-to-nvvm{index-bitwidth=64},reconcile-unrealized-casts))",
}

#: LLVM's passes over a kernel of a CPU, in order. The pipeline of its level 1 takes three times as long, most of it for combining
#: instructions again behind passes that find nothing in kernels. What loops do not change MLIR moves out of them: llvmlite does
#: not offer LLVM's pass for that by itself.
SIMPLIFICATION = ("loop_rotate", "simplify_cfg", "instruction_combine", "new_gvn", "simplify_cfg")

_lock = process_lock()  # MLIR's context and LLVM's passes are shared by all threads


class CompileError(RuntimeError):
    """A kernel that did not compile. The message names the kernel, the stage and a file that reproduces it."""


def compile_object(source: KernelSource, options: Options) -> bytes:
    """The object code of a kernel. Raises CompileError."""
    return _compile(source, options, emit_object)


def compile_code(source: KernelSource, options: Options) -> bytes:
    """What a kernel's device loads: object code, or PTX. Raises CompileError."""
    if source.device == CPU:
        return compile_object(source, options)
    return compile_assembly(source, replace(options, target=options.target_of(source.device))).encode()


def compile_module(source: KernelSource, options: Options) -> Any:
    """The optimised llvmlite module of a kernel. Raises CompileError."""
    return _compile(source, options, lambda module, target: module)


def compile_assembly(source: KernelSource, options: Options) -> str:
    """The assembly text of a kernel; PTX for GPUs. Raises CompileError."""
    return _compile(source, options, emit_assembly)


def prepare(target: str) -> None:
    """Load what compiling for a target needs, so that the first kernel takes no longer than others."""
    with _lock:
        mlir.prepare(LOWERING[find(target).family], verify=False)
        machine(find(target))


def _compile(source: KernelSource, options: Options, finish: Callable[[Any, Target], Any]) -> Any:
    target = find(options.target)
    dump = _Dump(source, options.dump)
    stage = "parse"
    with _lock:
        try:
            dump.write("0-kernel.mlir", source.text)
            parsed = mlir.parse(source.text)
            stage = "lower"
            lower(parsed, target)
            dump.write(f"1-{target.dialect}.mlir", parsed)
            stage = "translate"
            ir_text = translate(parsed)
            dump.write("2-translated.ll", ir_text)
            stage = "optimise"
            module = optimise(ir_text, target)
            dump.write("3-optimised.ll", module)
            stage = "emit"
            if dump.folder:
                dump.write("4-assembly.s", emit_assembly(module, target))
            return finish(module, target)
        except (mlir.MlirError, RuntimeError) as error:
            raise CompileError(_failure(source, options, stage, error)) from error


def lower(parsed: Any, target: Target) -> None:
    """From arith, math, vector, scf and gpu to the llvm dialect, or nvvm, in place. What comes out is verified by `translate`."""
    mlir.run(parsed, LOWERING[target.family], verify=False)


def translate(parsed: Any) -> str:
    """LLVM IR text that llvmlite's LLVM accepts."""
    return literals.to_hexadecimal(mlir.translate(parsed))


def optimise(ir_text: str, target: Target) -> Any:
    """An optimised llvmlite module. Kernels are vectorised explicitly, so LLVM's vectorisers stay off, and have nothing to inline:
    for CPUs LLVM simplifies each function once (`SIMPLIFICATION`)."""
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(ir_text)
    module.triple = target.triple
    module.data_layout = str(machine(target).target_data)
    module.verify()
    builder, passes = _passes(target)
    if target.family != "cpu":
        builder.getModulePassManager().run(module, builder)
        return module
    for function in module.functions:
        if not function.is_declaration:
            passes.run(function, builder)
    return module


@cache
def _passes(target: Target) -> tuple[Any, Any]:
    """LLVM's passes for a target, and those of one function."""
    import llvmlite.binding as llvm

    tuning = llvm.create_pipeline_tuning_options(speed_level=2)
    tuning.loop_vectorization = tuning.slp_vectorization = tuning.loop_interleaving = False
    tuning.loop_unrolling = False
    passes = llvm.create_new_function_pass_manager()
    for name in SIMPLIFICATION:
        getattr(passes, f"add_{name}_pass")()
    return llvm.create_pass_builder(machine(target), tuning), passes


def emit_object(module: Any, target: Target) -> bytes:
    """Machine code. Raises RuntimeError if it would call a library: kernels stand alone."""
    if target.family == "gpu":
        raise RuntimeError(f"code for {target.name} is PTX text, not an object file: ask for assembly")
    code = machine(target).emit_object(module)
    if undefined := elf.undefined_symbols(code):
        raise RuntimeError(f"the code calls {', '.join(undefined)}, and kernels may call nothing")
    return code


def emit_assembly(module: Any, target: Target) -> str:
    """Assembly text; PTX for GPUs, which has to stand alone as it is. Raises RuntimeError if that would call a library."""
    text = str(machine(target).emit_assembly(module))
    if target.family == "gpu" and (called := re.findall(r"^\.extern .*?(\w+)$", text, re.MULTILINE)):
        raise RuntimeError(f"the code calls {', '.join(called)}, and kernels may call nothing")
    return text


@cache
def machine(target: Target) -> Any:
    """llvmlite's target machine: position-independent code, no contraction."""
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    found = llvm.Target.from_triple(target.triple)
    return found.create_target_machine(cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="small")


def _failure(source: KernelSource, options: Options, stage: str, error: Exception) -> str:
    folder = Path(options.dump) if options.dump else Path(tempfile.mkdtemp(prefix="flambeau-"))
    path = folder / f"{_stem(source)}.failed.mlir"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(source.text)
    except OSError:
        path = Path("(could not be written)")
    return f"[compile] kernel '{source.label}' failed at stage '{stage}': {error}. The kernel's text is in {path}."


def _stem(source: KernelSource) -> str:
    """A file name: the label and a hash of the text."""
    label = "".join(c if c.isalnum() or c in "-_" else "-" for c in source.label)[:80]
    return f"{label}-{hashlib.sha256(source.text.encode()).hexdigest()[:12]}"


class _Dump:
    """Writes what the stages made under `<label>-<hash>.<stage>`; does nothing without a folder."""

    def __init__(self, source: KernelSource, folder: str | None) -> None:
        self.folder = Path(folder) if folder else None
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.stem = _stem(source)

    def write(self, stage: str, content: Any) -> None:
        if self.folder:
            (self.folder / f"{self.stem}.{stage}").write_text(str(content))
