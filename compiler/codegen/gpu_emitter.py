"""Writes the MLIR text of one GPU kernel: the scalar emitter plus threads, shared memory, barriers and shuffles.

In: calls by `gpu_loops.py` and `gpu_matmul.py`, and by the `lower` functions of records. Out: `source(label)`, a
module that defines the entry `@kernel` with one pointer per operand, then one i64 per extent. The text holds arith,
math, scf and llvm ops only, so that the passes of `backend.py` lower it as they do any other kernel. Next:
`gpu_points.py`.
"""

from __future__ import annotations

from flambeau.compiler.codegen.emitter import Emitter
from flambeau.compiler.codegen.values import POINTER, Val, storage_bytes, storage_type
from flambeau.compiler.kernel import KernelSource

_BARRIER = "llvm.nvvm.barrier.cta.sync.aligned.all"
_SHUFFLE = "llvm.nvvm.shfl.sync.down.i32"


class GpuEmitter(Emitter):
    """Text of one kernel for blocks of `threads` threads in one dimension. Every value is a scalar of one thread."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self.threads = threads
        self._pointers: list[bool] = []  # per operand: whether the kernel writes to it
        self._extents = 0
        self._special: dict[str, Val] = {}
        self._shared = 0

    # ---- text ----------------------------------------------------------------------------------------------

    def source(self, label: str) -> KernelSource:
        """The finished kernel."""
        parameters = [_pointer(k, written) for k, written in enumerate(self._pointers)]
        parameters += [f"%dim{k}: i64" for k in range(self._extents)]
        constants = [
            f"    {name} = arith.constant {text}{'' if type == 'i1' else f' : {type}'}"
            for (text, type), name in self._constants.items()
        ]
        attributes = f'passthrough = ["nounwind", "no-builtins", ["nvvm.reqntid", "{self.threads}"]]'
        lines = [
            "module {",
            *self._globals,
            f"  llvm.func ptx_kernelcc @kernel({', '.join(parameters)}) attributes {{{attributes}}} {{",
            *constants,
            *self._entry,
            *self._lines,
            "    llvm.return",
            "  }",
            "}",
            "",
        ]
        return KernelSource("\n".join(lines), label)

    # ---- arguments -----------------------------------------------------------------------------------------

    def pointer(self, written: bool) -> Val:
        """One more operand; no two may overlap."""
        self._pointers.append(written)
        return Val(f"%buf{len(self._pointers) - 1}", POINTER)

    def extent(self) -> Val:
        """One more number of the launch."""
        self._extents += 1
        return Val(f"%dim{self._extents - 1}", "i64")

    # ---- threads -------------------------------------------------------------------------------------------

    def thread(self) -> Val:
        """The thread's number in its block (i64)."""
        return self._register("tid.x")

    def block(self, axis: str = "x") -> Val:
        """The block's number in the grid (i64)."""
        return self._register(f"ctaid.{axis}")

    def _register(self, name: str) -> Val:
        if name not in self._special:
            short = name.replace(".", "_")
            self._entry += [
                f'    %{short}_32 = llvm.call_intrinsic "llvm.nvvm.read.ptx.sreg.{name}"() : () -> i32',
                f"    %{short} = arith.extui %{short}_32 : i32 to i64",
            ]
            self._special[name] = Val(f"%{short}", "i64")
        return self._special[name]

    def barrier(self) -> None:
        """All threads of the block arrive before any goes on; they must all come here."""
        zero = self.const(0, "i32")
        self.line(f'llvm.call_intrinsic "{_BARRIER}"({zero.name}) : (i32) -> ()')

    def shuffle_down(self, x: Val, distance: int) -> Val:
        """The value that the thread `distance` further in the warp holds; all threads of the warp must come here."""
        if x.type == "i1":
            return self.cast(self.shuffle_down(self.extend_unsigned(x, "i32"), distance), "i1")
        if x.bits == 64:
            return self._shuffle_halves(x, distance)
        result = self._shuffle_word(self.bitcast(x, "i32"), distance)
        return self.bitcast(result, x.type)

    def _shuffle_halves(self, x: Val, distance: int) -> Val:
        bits = self.bitcast(x, "i64")
        low = self._shuffle_word(self.truncate(bits, "i32"), distance)
        high = self._shuffle_word(self.truncate(self.shru(bits, 32), "i32"), distance)
        joined = self.or_(self.shl(self.extend_unsigned(high, "i64"), 32), self.extend_unsigned(low, "i64"))
        return self.bitcast(joined, x.type)

    def _shuffle_word(self, x: Val, distance: int) -> Val:
        operands = (self.const(-1, "i32"), x, self.const(distance, "i32"), self.const(31, "i32"))
        names = ", ".join(v.name for v in operands)
        return self.emit(f'llvm.call_intrinsic "{_SHUFFLE}"({names}) : (i32, i32, i32, i32) -> i32', "i32")

    # ---- shared memory -------------------------------------------------------------------------------------

    def shared(self, count: int, element: str) -> Val:
        """A pointer to `count` elements that the threads of a block share, aligned to 16 bytes."""
        name = f"shared{self._shared}"
        self._shared += 1
        self._globals.append(
            f"  llvm.mlir.global internal @{name}() {{addr_space = 3 : i32, alignment = 16 : i64}} : "
            f"!llvm.array<{count} x {storage_type(element)}>"
        )
        self._entry += [
            f"    %{name}_at = llvm.mlir.addressof @{name} : !llvm.ptr<3>",
            f"    %{name} = llvm.addrspacecast %{name}_at : !llvm.ptr<3> to {POINTER}",
        ]
        return Val(f"%{name}", POINTER)

    def load_vector(self, pointer: Val, index: Val, element: str, lanes: int) -> list[Val]:
        """`lanes` adjacent elements from `index` on, which lie at a multiple of their total size or of 16 bytes."""
        address = self.address(pointer, index, element)
        alignment = min(16, lanes * storage_bytes(element))
        whole = self.emit(
            f"llvm.load {address.name} {{alignment = {alignment} : i64}} : {POINTER} -> vector<{lanes}x{element}>",
            element,
            lanes,
        )
        return [self.extract(whole, lane) for lane in range(lanes)]


def _pointer(k: int, written: bool) -> str:
    read_only = "" if written else ", llvm.readonly"
    return f"%buf{k}: {POINTER} {{llvm.noalias, llvm.align = 16 : i64{read_only}}}"
