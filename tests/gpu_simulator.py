"""Runs GPU kernels in NumPy as their code generators wrote them, in the `gpu` dialect: all threads of all blocks in lock
step, no GPU needed.

In: a `Launch` and its operands as arrays. Out: the arrays as the kernel leaves them. Beyond the numbers it checks what a
GPU would not tell: every access lies inside its operand, no operand's byte is written twice, all threads of a block
meet at barriers and all threads of a warp at shuffles, and no thread reads or overwrites what another thread wrote to
shared memory since the last barrier. Shared memory starts as garbage.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from flambeau.compiler.backend import mlir
from flambeau.compiler.kernel import Launch
from flambeau.dialects.tape.elementwise import maximum, minimum, saturate
from fused import fma

_DTYPES = {
    "i1": np.bool_, "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64, "f32": np.float32, "f64": np.float64,
    "index": np.int64,
}  # fmt: skip
_WARP = 32
_NONE, _SEVERAL = -1, -2
_LAST = np.iinfo(np.int64).max


class Memory:
    """One operand: bytes that all threads see."""

    def __init__(self, array: np.ndarray) -> None:
        self.bytes = array.reshape(-1).view(np.uint8)
        self.written = np.zeros(self.bytes.size, bool)

    def check(self, index: np.ndarray) -> None:
        assert index.size == 0 or (index.min() >= 0 and index.max() < self.bytes.size), "access outside of an operand"

    def read(self, index: np.ndarray, threads: np.ndarray) -> np.ndarray:
        self.check(index)
        return self.bytes[index]

    def write(self, index: np.ndarray, data: np.ndarray, threads: np.ndarray) -> None:
        self.check(index)
        assert not self.written[index].any() and np.unique(index).size == index.size, "an element is written twice"
        self.bytes[index], self.written[index] = data, True


class InPlace(Memory):
    """Two operands that are one buffer: no thread may write what a thread of another block has read, or one of its own block
    since they last met at a barrier, nor read what another has written."""

    def __init__(self, array: np.ndarray, per_block: int) -> None:
        super().__init__(array)
        self.per_block = per_block
        self.threads, self.blocks = ([np.full(self.bytes.size, x, np.int64) for x in (_LAST, _NONE)] for _ in range(2))
        self.writer = np.full(self.bytes.size, _NONE, np.int64)

    def read(self, index: np.ndarray, threads: np.ndarray) -> np.ndarray:
        me, found = np.broadcast_to(threads[:, None], index.shape), super().read(index, threads)
        assert np.all((self.writer[index] == _NONE) | (self.writer[index] == me)), (
            "a thread reads what another overwrote"
        )
        for (first, last), who in ((self.threads, me), (self.blocks, me // self.per_block)):
            np.minimum.at(first, index, who)
            np.maximum.at(last, index, who)
        return found

    def write(self, index: np.ndarray, data: np.ndarray, threads: np.ndarray) -> None:
        me = threads[:, None]
        super().write(index, data, threads)
        for (first, last), who in ((self.threads, me), (self.blocks, me // self.per_block)):
            alone = (last[index] == _NONE) | ((first[index] == who) & (last[index] == who))
            assert np.all(alone), "a thread overwrites what another reads"
        self.writer[index] = me

    def barrier(self, blocks: np.ndarray) -> None:
        """What only threads of one of these blocks have read, the block's threads may write from here on."""
        first, last = self.blocks
        met = (first == last) & blocks[np.where(first == last, last, 0)]
        self.threads[0][met], self.threads[1][met] = _LAST, _NONE


def memories(launch: Launch, operands: list[np.ndarray]) -> list[Memory]:
    """The memory of every operand; operands that are one buffer have one."""
    places = [a.__array_interface__["data"][0] if a.size else k for k, a in enumerate(operands)]
    per_block = int(np.prod(launch.block))
    made = {
        p: InPlace(a, per_block) if places.count(p) > 1 else Memory(a) for p, a in zip(places, operands, strict=True)
    }
    return [made[p] for p in places]


class Shared:
    """A shared array of every block, with the last writer and reader of each byte since the last barrier."""

    def __init__(self, size: int, blocks: int, per_block: int, element: str = "i8") -> None:
        self.element = element
        self.bytes = np.full((blocks, size), 0xA5, np.uint8)
        self.writer, self.reader = (np.full((blocks, size), _NONE, np.int64) for _ in range(2))
        self.per_block = per_block

    def read(self, index: np.ndarray, threads: np.ndarray) -> np.ndarray:
        at = self._at(index, threads)
        writer, reader, me = self.writer[at], self.reader[at], threads[:, None]
        assert np.all((writer == _NONE) | (writer == me)), "a thread reads what another wrote before the barrier"
        self.reader[at] = np.where((reader == _NONE) | (reader == me), me, _SEVERAL)
        claimed = self.reader[at]
        self.reader[at] = np.where(claimed == me, claimed, _SEVERAL)
        return self.bytes[at]

    def write(self, index: np.ndarray, data: np.ndarray, threads: np.ndarray) -> None:
        at = self._at(index, threads)
        me = threads[:, None]
        for others in (self.writer[at], self.reader[at]):
            assert np.all((others == _NONE) | (others == me)), (
                "a thread overwrites what another used before the barrier"
            )
        self.writer[at], self.bytes[at] = me, data
        assert np.all(self.writer[at] == me), "two threads write one element"

    def barrier(self, blocks: np.ndarray) -> None:
        self.writer[blocks] = self.reader[blocks] = _NONE

    def _at(self, index: np.ndarray, threads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert index.size == 0 or (index.min() >= 0 and index.max() < self.bytes.shape[1]), "access outside of shared"
        return threads[:, None] // self.per_block, index


@dataclass(frozen=True)
class Pointer:
    memory: Memory | Shared
    offset: np.ndarray  # bytes

    def moved(self, distance: np.ndarray) -> Pointer:
        return Pointer(self.memory, self.offset + distance)


def run(launch: Launch, operands: list[np.ndarray]) -> None:
    """Run one launch on contiguous arrays, which it writes to."""
    with np.errstate(all="ignore"):
        _Machine(launch, memories(launch, operands)).run()


def _unsigned(x: np.ndarray) -> np.ndarray:
    return x.view(x.dtype.str.replace("i", "u"))


def _on_unsigned(function):
    def call(x, y):
        found = function(_unsigned(x), _unsigned(y))
        return found if found.dtype == bool else found.view(x.dtype)

    return call


def _divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    quotient = x // y
    return np.where((quotient * y != x) & ((x < 0) != (y < 0)), quotient + 1, quotient)


def _leading_zeros(x: np.ndarray) -> np.ndarray:
    """Of each integer, its width for 0."""
    left, count = _unsigned(x), np.zeros(x.shape, x.dtype)
    for k in range(x.dtype.itemsize * 8 - 1, -1, -1):
        count += (left >> left.dtype.type(k)) == 0
    return count


_BINARY = {
    "arith.addi": np.add, "arith.subi": np.subtract, "arith.muli": np.multiply, "arith.divsi": _divide,
    "arith.divui": _on_unsigned(np.floor_divide), "arith.remui": _on_unsigned(np.remainder),
    "arith.andi": np.bitwise_and, "arith.ori": np.bitwise_or, "arith.xori": np.bitwise_xor,
    "arith.shli": np.left_shift, "arith.shrsi": np.right_shift, "arith.shrui": _on_unsigned(np.right_shift),
    "arith.minsi": np.minimum, "arith.maxsi": np.maximum,
    "arith.minui": _on_unsigned(np.minimum), "arith.maxui": _on_unsigned(np.maximum),
    "arith.addf": np.add, "arith.subf": np.subtract, "arith.mulf": np.multiply, "arith.divf": np.divide,
    "arith.minimumf": minimum.reference, "arith.maximumf": maximum.reference, "math.fma": fma, "math.absi": np.abs,
    "math.trunc": np.trunc, "math.ctlz": _leading_zeros, "arith.negf": np.negative, "arith.select": np.where,
}  # fmt: skip
_INTRINSICS = {
    "fabs": np.abs, "sqrt": np.sqrt, "floor": np.floor, "ceil": np.ceil, "copysign": np.copysign, "roundeven": np.rint,
}  # fmt: skip
_SIGNED = (np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal)
_CMPI = (*_SIGNED, *(_on_unsigned(f) for f in _SIGNED[2:]))
_CMPF = {1: np.equal, 2: np.greater, 3: np.greater_equal, 4: np.less, 5: np.less_equal, 13: np.not_equal}


class _Machine:
    """All threads of a launch; `active` says which of them execute the current op."""

    def __init__(self, launch: Launch, operands: list[Memory]) -> None:
        self.per_block = int(np.prod(launch.block))
        self.blocks = int(np.prod(launch.grid))
        self.count = self.per_block * self.blocks
        self.threads = np.arange(self.count)
        self.active = np.ones(self.count, bool)
        block = self.threads // self.per_block
        x, y, _ = launch.grid
        self.numbers = {
            ("thread", "x"): self.threads % self.per_block, ("block", "x"): block % x, ("block", "y"): block // x % y,
            ("block", "z"): block // (x * y),
        }  # fmt: skip
        self.in_place = {id(m): m for m in operands if isinstance(m, InPlace)}.values()
        self.values: dict = {}
        self.tables: dict[str, Memory] = {}
        self.module = module = mlir.parse(launch.source.text)
        (kernels,) = (op.operation for op in module.body.operations)
        assert kernels.name == "gpu.module"
        for op in kernels.regions[0].blocks[0].operations:
            if op.operation.name == "llvm.mlir.global":
                self._define(op.operation)
            else:
                self._enter(op.operation, launch, operands)

    def _define(self, op) -> None:
        """A table of constants."""
        ir = mlir.module("ir")
        numbers = np.array(ir.DenseElementsAttr(op.attributes["value"]))
        self.tables[ir.StringAttr(op.attributes["sym_name"]).value] = Memory(numbers)

    def _enter(self, op, launch: Launch, operands: list[Memory]) -> None:
        """The kernel's arguments are the operands, the numbers of the launch, and arrays that a block shares."""
        assert op.name == "gpu.func" and "kernel" in op.attributes
        block = [int(n) for n in mlir.module("ir").DenseI32ArrayAttr(op.attributes["nvvm.reqntid"])]
        assert block == list(launch.block), "the launch has another number of threads than the kernel"
        self.entry = op.regions[0].blocks[0]
        shared = list(self.entry.arguments)[len(operands) + len(launch.dims) :]
        self.workgroup = [self._shared(str(x.type)) for x in shared]
        zero = np.zeros(self.count, np.int64)
        given = [Pointer(m, zero) for m in operands] + [np.full(self.count, d, np.int64) for d in launch.dims]
        self.values.update(zip(self.entry.arguments, [*given, *self.workgroup], strict=True))

    def _shared(self, type: str) -> Shared:
        found = re.fullmatch(r"memref<(\d+)x(\w+), #gpu.address_space<workgroup>>", type)
        assert found is not None, type
        size = int(found[1]) * np.dtype(_DTYPES[found[2]]).itemsize
        return Shared(size, self.blocks, self.per_block, found[2])

    def run(self) -> None:
        self._block(self.entry)

    def _block(self, block) -> list:
        for op in block.operations:
            op = op.operation
            operands = [self.values[v] for v in op.operands]
            if op.name in ("scf.yield", "scf.condition", "gpu.return"):
                return operands
            results = self._op(op, operands)
            self.values.update(zip(op.results, results, strict=True))
        return []

    def _op(self, op, operands: list) -> list:
        if function := _BINARY.get(op.name):
            return [self._typed(op, function(*operands))]
        special = getattr(self, "_" + op.name.replace(".", "_"), None)
        assert special is not None, f"the simulator does not know {op.name}"
        result = special(op, *operands)
        return result if isinstance(result, list) else [result]

    def _dtype(self, op):
        return _DTYPES[str(op.results[0].type)]

    def _typed(self, op, x: np.ndarray) -> np.ndarray:
        assert x.dtype == self._dtype(op), f"{op.name} gave {x.dtype}"
        return x

    # ---- arithmetic ----------------------------------------------------------------------------------------

    def _arith_constant(self, op):
        value = op.attributes["value"]
        number = value.value if hasattr(value, "value") else bool(str(value) == "true")
        return np.full(self.count, number, self._dtype(op))

    def _arith_cmpi(self, op, x, y):
        predicate = op.attributes["predicate"].value
        return (
            (x > y if predicate == 8 else _CMPI[predicate](x, y))
            if x.dtype == bool
            else _CMPI[predicate](x, y).astype(bool)
        )

    def _arith_cmpf(self, op, x, y):
        return _CMPF[op.attributes["predicate"].value](x, y)

    def _cast(self, op, x):
        return x.astype(self._dtype(op))

    _arith_extsi = _arith_trunci = _arith_sitofp = _arith_extf = _arith_truncf = _cast

    def _arith_extui(self, op, x):
        return (x if x.dtype == bool else _unsigned(x)).astype(self._dtype(op))

    _arith_uitofp = _arith_extui

    def _arith_bitcast(self, op, x):
        return np.ascontiguousarray(x).view(self._dtype(op))

    # ---- global memory -------------------------------------------------------------------------------------

    def _llvm_mlir_addressof(self, op):
        name = mlir.module("ir").FlatSymbolRefAttr(op.attributes["global_name"]).value
        return Pointer(self.tables[name], np.zeros(self.count, np.int64))

    def _llvm_getelementptr(self, op, pointer, *indices):
        element = str(mlir.module("ir").TypeAttr(op.attributes["elem_type"]).value)
        (constant,) = list(mlir.module("ir").DenseI32ArrayAttr(op.attributes["rawConstantIndices"]))
        index = indices[0] if indices else np.full(self.count, constant, np.int64)
        return pointer.moved(index * np.dtype(_DTYPES[element]).itemsize)

    def _llvm_load(self, op, pointer):
        return self._read(op, pointer)

    def _llvm_store(self, op, x, pointer):
        return self._write(op, x, pointer)

    # ---- workgroup memory ----------------------------------------------------------------------------------

    def _memref_load(self, op, shared, index):
        return self._read(op, self._element(shared, index))

    _vector_load = _memref_load

    def _memref_store(self, op, x, shared, index):
        return self._write(op, x, self._element(shared, index))

    def _element(self, shared: Shared, index: np.ndarray) -> Pointer:
        return Pointer(shared, index * np.dtype(_DTYPES[shared.element]).itemsize)

    # ---- memory of both kinds ------------------------------------------------------------------------------

    def _bytes(self, pointer: Pointer, size: int) -> np.ndarray:
        return pointer.offset[self.active][:, None] + np.arange(size)

    def _read(self, op, pointer: Pointer) -> np.ndarray:
        lanes, element = _vector(str(op.results[0].type))
        dtype = np.dtype(_DTYPES[element])
        self._check_alignment(op, pointer)
        read = pointer.memory.read(self._bytes(pointer, dtype.itemsize * lanes), self.threads[self.active])
        result = np.zeros((self.count, lanes), dtype)
        result[self.active] = np.ascontiguousarray(read).view(dtype)
        return result if lanes > 1 else result[:, 0]

    def _write(self, op, x: np.ndarray, pointer: Pointer) -> list:
        self._check_alignment(op, pointer)
        data = np.ascontiguousarray(x[self.active])[:, None].view(np.uint8)
        pointer.memory.write(self._bytes(pointer, x.dtype.itemsize), data, self.threads[self.active])
        return []

    def _check_alignment(self, op, pointer: Pointer) -> None:
        """Elements of memrefs are aligned by themselves; vectors and what lies behind pointers says how."""
        if "alignment" in op.attributes:
            alignment = op.attributes["alignment"].value
            assert np.all(pointer.offset[self.active] % alignment == 0), f"{op.name} is not aligned"

    def _vector_extract(self, op, x):
        (lane,) = list(mlir.module("ir").DenseI64ArrayAttr(op.attributes["static_position"]))
        return x[:, lane]

    # ---- threads -------------------------------------------------------------------------------------------

    def _gpu_thread_id(self, op):
        return self.numbers["thread", _word(op, "dimension")]

    def _gpu_block_id(self, op):
        return self.numbers["block", _word(op, "dimension")]

    def _arith_index_castui(self, op, x):
        assert np.all(x[self.active] >= 0), "an index below zero"
        return x.astype(self._dtype(op))

    def _gpu_barrier(self, op):
        arrived = self.active.reshape(self.blocks, self.per_block)
        assert np.all(arrived.all(1) | ~arrived.any(1)), "only some threads of a block reach a barrier"
        for memory in (*self.workgroup, *self.in_place):
            memory.barrier(arrived.all(1))
        return []

    def _gpu_shuffle(self, op, x, distance, width):
        warps = self.active.reshape(-1, _WARP)
        assert np.all(warps.all(1) | ~warps.any(1)), "only some threads of a warp reach a shuffle"
        assert _word(op, "mode") == "down" and np.all(width == _WARP)
        valid = self.threads % _WARP + distance < _WARP
        return [x[np.where(valid, self.threads + distance, self.threads) % self.count], valid]

    def _llvm_call_intrinsic(self, op, *operands):
        """Those that no op stands for, or none that goes through `convert-gpu-to-nvvm`."""
        name, result = mlir.module("ir").StringAttr(op.attributes["intrin"]).value, str(op.results[0].type)
        if name.startswith("llvm.fptosi.sat."):
            return saturate(operands[0], _dtype_named(result))
        llvm, short, type = name.split(".")
        assert (llvm, type) == ("llvm", result), name
        return self._typed(op, _INTRINSICS[short](*operands))

    # ---- control flow --------------------------------------------------------------------------------------

    def _within(self, mask: np.ndarray, block) -> list:
        outer, self.active = self.active, self.active & mask
        results = self._block(block)
        self.active = outer
        return results

    def _scf_if(self, op, condition):
        branches = [r.blocks[0] for r in op.regions if len(r.blocks)]
        if not len(op.results):
            if (self.active & condition).any():
                self._within(condition, branches[0])
            return []
        results = [self._within(mask, block) for mask, block in zip((condition, ~condition), branches, strict=True)]
        return [np.where(condition, x, y) for x, y in zip(*results, strict=True)]

    def _scf_for(self, op, lower, upper, step, *carried):
        block, index, carried = op.regions[0].blocks[0], lower.copy(), list(carried)
        while (running := self.active & (index < upper)).any():
            self.values.update(zip(block.arguments, [index, *carried], strict=True))
            following = self._within(running, block)
            carried = [np.where(running, x, y) for x, y in zip(following, carried, strict=True)]
            index = np.where(running, index + step, index)
        return carried

    def _scf_while(self, op, *carried):
        before, after = (region.blocks[0] for region in op.regions)
        outer, running, carried = self.active, self.active.copy(), list(carried)
        while running.any():
            self.active = running
            self.values.update(zip(before.arguments, carried, strict=True))
            more, *passed = self._block(before)
            carried = [np.where(running, x, y) for x, y in zip(passed, carried, strict=True)]
            running = running & more
            if running.any():
                self.active = running
                self.values.update(zip(after.arguments, carried, strict=True))
                carried = [np.where(running, x, y) for x, y in zip(self._block(after), carried, strict=True)]
        self.active = outer
        return carried


def _vector(type: str) -> tuple[int, str]:
    if not type.startswith("vector<"):
        return 1, type
    lanes, element = type[len("vector<") : -1].split("x")
    return int(lanes), element


def _word(op, attribute: str) -> str:
    """The last word of an attribute such as `#gpu<dim x>`."""
    return str(op.attributes[attribute]).rstrip(">").split()[-1]


def _dtype_named(element: str):
    from flambeau.dialects.dtypes import by_mlir

    return by_mlir(element)
