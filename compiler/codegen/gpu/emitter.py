"""Writes the MLIR text of one GPU kernel in the `gpu` dialect: the scalar emitter plus threads, barriers, shuffles and
workgroup memory.

In: calls by `loops.py` and `matmul.py`, and by the `lower` functions of records. Out: `source(label)`, a module
whose `gpu.module` has the kernel `@kernel` with one pointer per operand, then one i64 per extent. Operands lie behind
raw pointers, as on CPUs, for their parameters say what a memref cannot: that no two overlap, and which are only read.
Workgroup memory is a memref, indexed from 0. Next: `points.py`; `backend/object_code.py`, which lowers the text to `nvvm`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from flambeau.compiler.codegen.emitter import Emitter
from flambeau.compiler.codegen.memory import Index
from flambeau.compiler.codegen.values import POINTER, Operand, Val, storage_bytes, storage_type
from flambeau.compiler.kernel import KernelSource
from flambeau.dialects.size import Size

#: Threads of a warp, which run in step.
WARP = 32
_WORKGROUP = "#gpu.address_space<workgroup>"
_SHUFFLED = 32  # the bits of a register that threads exchange: narrower numbers travel in one
_ALIGNMENT = 16  # of workgroup memory: the widest access of a thread
#: Ops that `convert-gpu-to-nvvm` makes calls of CUDA's library of, and whose llvm ops it refuses: as intrinsics they pass it.
_INTRINSICS = {
    "math.absf": "fabs",
    "math.sqrt": "sqrt",
    "math.floor": "floor",
    "math.ceil": "ceil",
    "math.copysign": "copysign",
    "math.roundeven": "roundeven",
}


class GpuEmitter(Emitter):
    """Text of one kernel for blocks of `threads` threads in one dimension. Every value is a scalar of one thread."""

    def __init__(self, threads: int, size: Callable[[Size], Val] | None = None) -> None:
        super().__init__(size)
        self.threads = threads
        self.resident = 0  # blocks of a processor that registers have to suffice for; 0: as the assembler finds best
        self._pointers: list[bool] = []  # per operand: whether the kernel writes to it
        self._extents = 0
        self._numbers: dict[tuple[str, str], Val] = {}  # of threads and blocks, by op and axis
        self._workgroup: list[Val] = []

    # ---- text ----------------------------------------------------------------------------------------------

    def source(self, label: str, overlapping: Collection[int] = ()) -> KernelSource:
        """The finished kernel, where no two operands overlap but, maybe, those at the positions `overlapping`."""
        parameters = [_pointer(k, written, k in overlapping) for k, written in enumerate(self._pointers)]
        parameters += [f"%dim{k}: i64" for k in range(self._extents)]
        attributions = [f"{x.name}: {x.type} {{llvm.align = {_ALIGNMENT} : i64}}" for x in self._workgroup]
        workgroup = f" workgroup({', '.join(attributions)})" if attributions else ""
        # Not known_block_size: it becomes "at most so many threads", which PTX does not take beside "so many threads".
        block = f"nvvm.reqntid = array<i32: {self.threads}, 1, 1>"
        if self.resident:
            block += f", nvvm.minctasm = {self.resident} : i32"
        attributes = f'{block}, llvm.passthrough = ["nounwind", "no-builtins"]'
        lines = [
            "gpu.module @kernels {",
            *self._globals,
            f"  gpu.func @kernel({', '.join(parameters)}){workgroup} kernel attributes {{{attributes}}} {{",
            *self.entry_lines(),
            *self._lines,
            "    gpu.return",
            "  }",
            "}",
            "",
        ]
        return KernelSource("\n".join(lines), label)

    def op(self, name: str, operands: Sequence[Val], element: str, lanes: int = 1, attribute: str = "") -> Val:
        intrinsic = _INTRINSICS.get(name)
        if intrinsic is None:
            return super().op(name, operands, element, lanes, attribute)
        names, types = ", ".join(x.name for x in operands), ", ".join(x.mlir for x in operands)
        return self.emit(f'llvm.call_intrinsic "llvm.{intrinsic}.{element}"({names}) : ({types}) -> {element}', element)

    # ---- arguments -----------------------------------------------------------------------------------------

    def pointer(self, written: bool) -> Val:
        """One more operand."""
        self._pointers.append(written)
        return Val(f"%buf{len(self._pointers) - 1}", POINTER)

    def extent(self) -> Val:
        """One more number of the launch."""
        self._extents += 1
        return Val(f"%dim{self._extents - 1}", "i64")

    # ---- threads -------------------------------------------------------------------------------------------

    def thread(self) -> Val:
        """The thread's number in its block (i64)."""
        return self._number("thread_id", "x", f" upper_bound {self.threads}")

    def block(self, axis: str = "x") -> Val:
        """The block's number in the grid (i64)."""
        return self._number("block_id", axis)

    def _number(self, op: str, axis: str, bound: str = "") -> Val:
        """A number of the thread's own, read at the kernel's entry."""
        if (op, axis) not in self._numbers:
            name = f"%{op}_{axis}"
            self._entry[name] = [
                f"    {name}_index = gpu.{op} {axis}{bound}",
                f"    {name} = arith.index_castui {name}_index : index to i64",
            ]
            self._numbers[op, axis] = Val(name, "i64")
        return self._numbers[op, axis]

    def barrier(self) -> None:
        """All threads of the block arrive before any goes on; they must all come here."""
        self.line("gpu.barrier")

    def shuffle_down(self, x: Val, distance: int) -> Val:
        """The value that the thread `distance` further in the warp holds; all threads of the warp must come here."""
        if x.bits < _SHUFFLED:
            return self.cast(self.shuffle_down(self.extend_unsigned(x, "i32"), distance), x.type)
        offset, width = self.const(distance, "i32"), self.const(WARP, "i32")
        name = self._name()
        self.line(f"{name}:2 = gpu.shuffle down {x.name}, {offset.name}, {width.name} : {x.mlir}")
        return Val(f"{name}#0", x.type)

    # ---- workgroup memory ----------------------------------------------------------------------------------

    def shared(self, count: int, element: str) -> Val:
        """`count` elements that the threads of a block share, aligned to 16 bytes."""
        x = Val(f"%shared{len(self._workgroup)}", f"memref<{count}x{storage_type(element)}, {_WORKGROUP}>")
        self._workgroup.append(x)
        return x

    def load(
        self, pointer: Val, index: Index, element: str, lanes: int = 1, mask: Val | None = None, other: Operand = 0
    ) -> Val:
        if pointer not in self._workgroup:
            return super().load(pointer, index, element, lanes, mask, other)
        text = f"memref.load {pointer.name}[{self._subscript(index)}] : {pointer.type}"
        return self._loaded(self.emit(text, storage_type(element)), element)

    def store(self, x: Val, pointer: Val, index: Index, mask: Val | None = None) -> None:
        if pointer not in self._workgroup:
            return super().store(x, pointer, index, mask)
        stored = self._stored(x)
        self.line(f"memref.store {stored.name}, {pointer.name}[{self._subscript(index)}] : {pointer.type}")

    def load_vector(self, shared: Val, index: Val, element: str, lanes: int) -> list[Val]:
        """`lanes` adjacent elements of workgroup memory from `index` on, which lie at a multiple of their total size or of
        16 bytes."""
        if lanes == 1:
            return [self.load(shared, index, element)]
        alignment = min(_ALIGNMENT, lanes * storage_bytes(element))
        whole = self.emit(
            f"vector.load {shared.name}[{self._subscript(index)}] {{alignment = {alignment} : i64}} : "
            f"{shared.type}, vector<{lanes}x{element}>",
            element,
            lanes,
        )
        return [self.extract(whole, lane) for lane in range(lanes)]

    def _subscript(self, index: Index) -> str:
        """The name of an index of a memref."""
        if isinstance(index, int):
            return self.constant_name(str(index), "index")
        return self.emit(f"arith.index_castui {index.name} : i64 to index", "index").name


def _pointer(k: int, written: bool, overlaps: bool) -> str:
    alone = "" if overlaps else ", llvm.noalias" if written else ", llvm.noalias, llvm.readonly"
    return f"%buf{k}: {POINTER} {{llvm.align = 16 : i64{alone}}}"
