"""Loads and stores of kernel text, on raw pointers.

In: pointers (`Emitter.buffer`), element indices. Out: text of llvm loads, stores and masked intrinsics.
Every access is aligned to its element only, so unaligned vectors are correct; bools are bytes in memory
and i1 in registers. Next: `emitter.py`, which mixes this in.
"""

from __future__ import annotations

from flambeau.compiler.codegen.arithmetic import Arithmetic
from flambeau.compiler.codegen.values import POINTER, Operand, Val, spell_type, storage_bytes, storage_type

Index = Val | int


class Memory(Arithmetic):
    """Mixed into `Emitter`, which provides `line` and `emit`."""

    def emit(self, text: str, element: str, lanes: int = 1) -> Val:
        raise NotImplementedError

    def line(self, text: str) -> None:
        raise NotImplementedError

    def address(self, pointer: Val, index: Index, element: str) -> Val:
        """The address of element `index`, counted in elements of type `element` from `pointer`."""
        if isinstance(index, int) and index == 0:
            return pointer
        unit = storage_type(element)
        if isinstance(index, int):
            text = f"llvm.getelementptr inbounds {pointer.name}[{index}] : ({POINTER}) -> {POINTER}, {unit}"
            return self.emit(text, POINTER)
        result = spell_type(POINTER, index.lanes)
        text = (
            f"llvm.getelementptr inbounds {pointer.name}[{index.name}] : ({POINTER}, {index.mlir}) -> {result}, {unit}"
        )
        return self.emit(text, POINTER, index.lanes)

    def place(self, pointer: Val, index: Val, element: str) -> Val:
        """The address of element `index`, which may lie outside of any buffer: only lanes that lie inside may be accessed."""
        text = (
            f"llvm.getelementptr {pointer.name}[{index.name}] : ({POINTER}, i64) -> {POINTER}, {storage_type(element)}"
        )
        return self.emit(text, POINTER)

    def nowhere(self) -> Val:
        """The address of nothing."""
        return self.emit(f"llvm.mlir.zero : {POINTER}", POINTER)

    def exists(self, pointer: Val) -> Val:
        """Whether (i1) there is something at an address."""
        return self.emit(f'llvm.icmp "ne" {pointer.name}, {self.nowhere().name} : {POINTER}', "i1")

    def load(
        self, pointer: Val, index: Index, element: str, lanes: int = 1, mask: Val | None = None, other: Operand = 0
    ) -> Val:
        """`lanes` adjacent elements from `index` on; lanes where `mask` is false are not read and become `other`."""
        unit = storage_type(element)
        address = self.address(pointer, index, element)
        if mask is None:
            text = f"llvm.load {address.name} {self._alignment(element)} : {POINTER} -> {spell_type(unit, lanes)}"
            return self._loaded(self.emit(text, unit, lanes), element)
        passthru, mask = self._passthru(other, element, lanes), self.splat(mask, lanes)
        text = (
            f"llvm.intr.masked.load {address.name}, {mask.name}, {passthru.name} {self._alignment(element, 32)} : "
            f"({POINTER}, {mask.mlir}, {passthru.mlir}) -> {passthru.mlir}"
        )
        return self._loaded(self.emit(text, unit, lanes), element)

    def store(self, x: Val, pointer: Val, index: Index, mask: Val | None = None) -> None:
        """Write the lanes of `x` to adjacent elements from `index` on, only where `mask` is true."""
        stored = self._stored(x)
        address = self.address(pointer, index, x.type)
        if mask is None:
            self.line(f"llvm.store {stored.name}, {address.name} {self._alignment(x.type)} : {stored.mlir}, {POINTER}")
            return
        self.line(
            f"llvm.intr.masked.store {stored.name}, {address.name}, {mask.name} {self._alignment(x.type, 32)} : "
            f"{stored.mlir}, {mask.mlir} into {POINTER}"
        )

    def load_every_second(
        self,
        pointer: Val,
        index: Index,
        element: str,
        lanes: int,
        masks: tuple[Val | None, Val | None] = (None, None),
        other: Operand = 0,
    ) -> Val:
        """Every second element from `index` on, as the parts of complex numbers lie: two loads that reach no further than the last
        one, and a shuffle. A gather takes an access for each lane. `masks` say which of the `lanes` elements from the first one
        on, and of those from the one after `lanes - 1` on, are read; the rest become `other`."""
        half, behind = lanes // 2, index + lanes - 1 if isinstance(index, int) else self.add(index, lanes - 1)
        first = self.load(pointer, index, element, lanes, masks[0], other)
        second = self.load(pointer, behind, element, lanes, masks[1], other)
        return self.shuffle(first, second, [*range(0, lanes, 2), *(lanes + 2 * k + 1 for k in range(half))])

    def store_every_second(
        self, x: Val, pointer: Val, index: Val, count: Val | None = None, masks: bool = True
    ) -> None:
        """Write the lanes of `x`, or the first `count`, to every second element from `index` on; those between them stay. Where the
        machine has no `masks`, a whole vector's lanes go one by one."""
        lanes, half = x.lanes, x.lanes // 2
        if count is None and not masks:
            for k in range(lanes):
                self.store(self.extract(x, k), pointer, self.add(index, 2 * k))
            return
        lane = self.iota(lanes, "i32")
        second = self.cmp("eq", self.and_(lane, self.const(1, lane)), self.const(0, lane))
        for start in (0, half):
            mask = second
            if count is not None:
                left = self.maximum(self.sub(self.mul(count, 2), 2 * start), 0)
                mask = self.and_(second, self.tail_mask(left, lanes))
            spread = self.shuffle(x, x, [start + k // 2 for k in range(lanes)])
            self.store(spread, pointer, self.add(index, 2 * start) if start else index, mask)

    def prefetch(self, pointer: Val, index: Val, element: str) -> None:
        """Bring the cache line of an element nearer, which may lie outside of any buffer."""
        address = self.place(pointer, index, element)
        self.line(
            f'"llvm.intr.prefetch"({address.name}) <{{rw = 0 : i32, hint = 3 : i32, cache = 1 : i32}}> : ({POINTER}) -> ()'
        )

    def gather(self, pointer: Val, indices: Val, element: str, mask: Val | None = None, other: Operand = 0) -> Val:
        """One element per lane of `indices` (i64)."""
        if indices.lanes == 1 and mask is None:
            return self.load(pointer, indices, element)
        unit, lanes = storage_type(element), indices.lanes
        addresses = self.address(pointer, indices, element)
        mask, passthru = mask or self.const(True, "i1", lanes), self._passthru(other, element, lanes)
        text = (
            f"llvm.intr.masked.gather {addresses.name}, {mask.name}, {passthru.name} {self._alignment(element, 32)} : "
            f"({addresses.mlir}, {mask.mlir}, {passthru.mlir}) -> {passthru.mlir}"
        )
        return self._loaded(self.emit(text, unit, lanes), element)

    def scatter(self, x: Val, pointer: Val, indices: Val, mask: Val | None = None) -> None:
        """Write each lane to its own index; where two lanes share one, the later lane stays."""
        if x.lanes == 1 and mask is None:
            return self.store(x, pointer, indices)
        stored, addresses = self._stored(x), self.address(pointer, indices, x.type)
        mask = mask or self.const(True, "i1", x.lanes)
        self.line(
            f"llvm.intr.masked.scatter {stored.name}, {addresses.name}, {mask.name} {self._alignment(x.type, 32)} : "
            f"{stored.mlir}, {mask.mlir} into {addresses.mlir}"
        )

    def tail_mask(self, count: Val, lanes: int) -> Val:
        """True in the first `count` (i64, not negative) lanes."""
        near = self.truncate(self.minimum(count, lanes), "i32")
        return self.cmp("lt", self.iota(lanes, "i32"), near)

    def atomic_min(self, pointer: Val, x: Val) -> None:
        """Lower the i64 at `pointer` to `x`, safely against other threads."""
        self.emit(f"llvm.atomicrmw min {pointer.name}, {x.name} monotonic : {POINTER}, i64", "i64")

    def _loaded(self, x: Val, element: str) -> Val:
        return self.cmp("ne", x, self.const(0, x)) if element == "i1" else x._replace(type=element)

    def _stored(self, x: Val) -> Val:
        return self.extend_unsigned(x, "i8") if x.type == "i1" else x

    def _passthru(self, other: Operand, element: str, lanes: int) -> Val:
        unit = storage_type(element)
        if not isinstance(other, Val):
            return self.const(other, unit, lanes)
        return self.splat(self._stored(other), lanes)

    @staticmethod
    def _alignment(element: str, bits: int = 64) -> str:
        return f"{{alignment = {storage_bytes(element)} : i{bits}}}"
