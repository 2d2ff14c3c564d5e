"""Runs PTX text in NumPy, all threads of all blocks at once, no GPU needed: what LLVM made of a kernel, to the bit.

In: a `Launch`, its PTX and its operands as arrays. Out: the arrays as the kernel leaves them. Threads that stand at the
least place in the text run on together, up to where others may join them, so they meet again behind every branch. As
`gpu_simulator.py` does, it checks accesses, alignment, barriers, shuffles and the use of shared memory; beyond that, that
nothing read as constant (`ld.global.nc`) was written, and that every instruction is one it knows.
"""

from __future__ import annotations

import re

import numpy as np
import ptx_operations
from flambeau.compiler.kernel import Launch
from gpu_simulator import InPlace, Memory, Shared, memories
from ptx_operations import PRED, dtype
from ptx_text import Instruction, Kernel, parse

_WARP = 32
_PLACE = 40  # addresses: which operand in the bits from here on, where in it below
_ACCESS = re.compile(
    r"(?P<op>ld|st)\.(?P<space>global|shared)(?P<constant>\.nc)?(?:\.v(?P<count>[24]))?\.[bsuf](?P<bits>8|16|32|64)"
)
_ADDRESS = re.compile(r"\[(?P<base>[%\w$]+)(?:\+(?P<offset>-?\d+))?\]")
_IMMEDIATE = re.compile(r"0[fF](?P<single>[0-9A-F]{8})|0[dD](?P<double>[0-9A-F]{16})|(?P<integer>-?\d+)")
_STOPS = ("bra", "ret", "bar")


def run(launch: Launch, ptx: str, operands: list[np.ndarray]) -> None:
    """Run one launch on contiguous arrays, which it writes to."""
    with np.errstate(all="ignore"):
        _Machine(launch, parse(ptx), memories(launch, operands)).run()


class _Machine:
    """All threads of a launch. `active` (indices) says which of them execute the current instruction."""

    def __init__(self, launch: Launch, kernel: Kernel, operands: list[Memory]) -> None:
        self.kernel, self.code = kernel, kernel.code
        self.per_block, self.blocks = int(np.prod(launch.block)), int(np.prod(launch.grid))
        self.count = self.per_block * self.blocks
        self.threads = np.arange(self.count)
        self.active: np.ndarray = self.threads
        self.next = np.zeros(self.count, np.int64)
        self.waiting = np.zeros(self.count, bool)
        self.shared = Shared(kernel.shared_bytes, self.blocks, self.per_block)
        self.in_place = {id(m): m for m in operands if isinstance(m, InPlace)}.values()
        self.memories = [*operands, *map(Memory, kernel.constants.values())]
        self.registers: dict[str, np.ndarray] = self._special(launch)
        addresses = [(k + 1) << _PLACE for k in range(len(self.memories))]
        named = {**kernel.shared, **dict(zip(kernel.constants, addresses[len(operands) :], strict=True))}
        self.registers.update({name: np.full(self.count, at, np.uint64) for name, at in named.items()})
        given = [*addresses[: len(operands)], *(int(d) & (2**64 - 1) for d in launch.dims)]
        self.parameters = dict(zip(kernel.parameters, given, strict=True))
        branches = {k + 1 for k, i in enumerate(self.code) if i.opcode.split(".")[0] in _STOPS}
        self.joins = {*kernel.labels.values(), *branches, len(self.code)}

    def _special(self, launch: Launch) -> dict[str, np.ndarray]:
        block, (x, y, _) = self.threads // self.per_block, launch.grid
        found = {"tid.x": self.threads % self.per_block, "ctaid.x": block % x} | {
            "ctaid.y": block // x % y, "ctaid.z": block // (x * y),
        }  # fmt: skip
        return {f"%{name}": at.astype(np.uint64) for name, at in found.items()}

    # ---- order of execution --------------------------------------------------------------------------------

    def run(self) -> None:
        while True:
            runnable = (self.next < len(self.code)) & ~self.waiting
            if runnable.any():
                at = int(self.next[runnable].min())
                self.active = np.flatnonzero(runnable & (self.next == at))
                self._straight(at)
            elif self.waiting.any():
                self._meet()
            else:
                return

    def _straight(self, at: int) -> None:
        """Execute up to where other threads may join, or the active ones part."""
        while True:
            self._execute(self.code[at], at)
            at += 1
            if at in self.joins:
                return

    def _execute(self, i: Instruction, at: int) -> None:
        everyone = self.active
        if i.predicate is not None:
            self.active = everyone[self.read(i.predicate, PRED) ^ i.negated]
        self.next[everyone] = at + 1
        kind = i.opcode.split(".")[0]
        special = getattr(self, f"_{kind}", None)
        if special is not None:
            special(i)
        elif self.active.size:
            operation = ptx_operations.find(i.opcode)
            more = (
                1 if kind in ("min", "max") and len(i.operands) == 4 else 0
            )  # later architectures have those of three numbers
            types = [*operation.operands, *operation.operands[:more]]
            first, *rest = [self.read(x, t) for x, t in zip(i.operands[1:], types, strict=True)]
            value = operation.function(first, *rest[: len(rest) - more])
            for x in rest[len(rest) - more :]:
                value = operation.function(value, x)
            self.write(i.operands[0], value, operation.result)
        self.active = everyone

    def _bra(self, i: Instruction) -> None:
        assert i.opcode in ("bra", "bra.uni"), i.text
        self.next[self.active] = self.kernel.labels[i.operands[0]]

    def _ret(self, i: Instruction) -> None:
        self.next[self.active] = len(self.code)

    def _bar(self, i: Instruction) -> None:
        assert i.opcode == "bar.sync" and i.operands == ("0",), i.text
        self.waiting[self.active] = True

    def _meet(self) -> None:
        """Everyone who can run waits: let go the blocks that are complete, of which there must be no other."""
        waiting = self.waiting.reshape(self.blocks, self.per_block)
        places = np.where(waiting, self.next.reshape(waiting.shape), -1)
        assert np.all(places == places[:, :1]), "only some threads of a block reach a barrier"
        for memory in (self.shared, *self.in_place):
            memory.barrier(waiting[:, 0])
        self.waiting[:] = False

    # ---- registers -----------------------------------------------------------------------------------------

    def _bits(self, name: str) -> np.ndarray:
        """What a register, a constant or the address of an array holds, as 64 bits per active thread."""
        if found := _IMMEDIATE.fullmatch(name):
            number = int(found["single"] or found["double"] or found["integer"], 10 if found["integer"] else 16)
            return np.full(self.active.size, number & (2**64 - 1), np.uint64)
        return self.registers[name][self.active]  # KeyError: nobody has written it

    def read(self, name: str, type: str) -> np.ndarray:
        found = self._bits(name)
        if type == PRED:
            return found.astype(bool)
        return found.astype(f"u{ptx_operations.bits(type) // 8}").view(dtype(type))

    def write(self, name: str, values: np.ndarray, type: str) -> None:
        assert values.dtype == dtype(type), f"{name} gets {values.dtype}, not {type}"
        if name == "_" or name == "tmp":
            return
        if type != PRED:
            values = np.ascontiguousarray(values).view(f"u{values.itemsize}")
        self.registers.setdefault(name, np.zeros(self.count, np.uint64))[self.active] = values

    def _mov(self, i: Instruction) -> None:
        """Also takes a word apart into equal pieces, the lowest first, or joins them."""
        type, (to, source) = i.opcode.removeprefix("mov."), i.operands
        if type == PRED:
            self.write(to, self.read(source, PRED), PRED)
            return
        width = ptx_operations.bits(type)
        pieces = (to, source) if isinstance(to, str) and isinstance(source, str) else None
        if pieces is not None:
            self.write(to, self.read(source, f"u{width}"), f"u{width}")
        elif isinstance(to, tuple):
            part = width // len(to)
            for k, name in enumerate(to):
                self.write(name, (self._bits(source) >> np.uint64(k * part)).astype(f"u{part // 8}"), f"u{part}")
        else:
            part = width // len(source)
            words = [
                self.read(name, f"u{part}").astype(np.uint64) << np.uint64(k * part) for k, name in enumerate(source)
            ]
            self.write(to, np.bitwise_or.reduce(words).astype(f"u{width // 8}"), f"u{width}")

    def _cvta(self, i: Instruction) -> None:
        assert i.opcode == "cvta.to.global.u64", i.text
        self.write(i.operands[0], self.read(i.operands[1], "u64"), "u64")

    # ---- memory --------------------------------------------------------------------------------------------

    def _ld(self, i: Instruction) -> None:
        if re.fullmatch(r"ld\.param\.[bu]64", i.opcode):
            parameter = self.parameters[i.operands[1].strip("[]")]
            self.write(i.operands[0], np.full(self.active.size, parameter, np.uint64), "u64")
        else:
            self._access(i, i.operands[1], i.operands[0])

    def _st(self, i: Instruction) -> None:
        self._access(i, i.operands[0], i.operands[1])

    def _access(self, i: Instruction, place: str, names: str | tuple[str, ...]) -> None:
        found, address = _ACCESS.fullmatch(i.opcode), _ADDRESS.fullmatch(place)
        if found is None or address is None:
            raise NotImplementedError(f"the interpreter does not know {i.text}")
        names = names if isinstance(names, tuple) else (names,)
        type = f"u{found['bits']}"
        width = int(found["bits"]) // 8 * len(names)
        assert len(names) == int(found["count"] or 1), i.text
        at = self._bits(address["base"]).astype(np.int64) + int(address["offset"] or 0)
        if not at.size:
            return
        assert np.all((at & ((1 << _PLACE) - 1)) % width == 0), f"not aligned: {i.text}"
        if found["op"] == "st":
            data = np.stack([self.read(name, type) for name in names], axis=1).view(np.uint8)
            self._each(found["space"], at, width, data)
            return
        data = self._each(found["space"], at, width, None, constant=bool(found["constant"])).view(dtype(type))
        for k, name in enumerate(names):
            self.write(name, _widened(data[:, k]), f"u{max(16, int(found['bits']))}")

    def _each(self, space: str, at: np.ndarray, width: int, data: np.ndarray | None, constant: bool = False):
        """Read (or write) `width` bytes at every active thread's address."""
        result = np.zeros((at.size, width), np.uint8)
        places = at >> _PLACE
        for place in np.unique(places):
            here = places == place
            assert (place == 0) == (space == "shared") and place <= len(self.memories), "no address of this space"
            memory = self.memories[place - 1] if place else self.shared
            index = (at[here] & ((1 << _PLACE) - 1))[:, None] + np.arange(width)
            if data is None:
                result[here] = memory.read(index, self.active[here])
                assert not (constant and memory.written[index].any()), "what is read as constant was written"
            else:
                memory.write(index, data[here], self.active[here])
        return result

    # ---- between threads -----------------------------------------------------------------------------------

    def _shfl(self, i: Instruction) -> None:
        to, x, distance, clamp, members = i.operands
        assert i.opcode == "shfl.sync.down.b32" and (clamp, members) == ("31", "-1"), i.text
        whole = np.zeros(self.count, bool)
        whole[self.active] = True
        warps = whole.reshape(-1, _WARP)
        assert np.all(warps.all(1) | ~warps.any(1)), "only some threads of a warp reach a shuffle"
        lane = self.active % _WARP
        source = np.where(lane + int(distance) < _WARP, self.active + int(distance), self.active)
        self.write(to.split("|")[0], self.registers[x][source].astype(np.uint32), "b32")


def _widened(x: np.ndarray) -> np.ndarray:
    """Bytes are loaded into registers of 16 bits."""
    return x.astype(np.uint16) if x.itemsize == 1 else x
