"""Writes the MLIR text of one kernel.

In: calls of the methods of `Emitter`, made by code generators and by the `lower` functions of records.
Out: `source(label)`, a canonical `KernelSource`: the same calls give the same text. Constants are
deduplicated at the function's entry, pointers and extents are loaded there once. Values: `values.py`;
operations: `arithmetic.py`; loads and stores: `memory.py`. Next: `backend/object_code.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from flambeau.compiler.codegen.memory import Memory
from flambeau.compiler.codegen.spelling import spell
from flambeau.compiler.codegen.values import POINTER, Number, Operand, Val, spell_number, spell_type
from flambeau.compiler.kernel import KernelSource
from flambeau.dialects.size import Size

__all__ = ["Emitter", "Loop", "Val"]

_PARAMETERS = f"%bufs: {POINTER}, %dims: {POINTER}, %lo: i64, %hi: i64, %scratch: {POINTER}"
# no-builtins: or LLVM makes loops that fill or copy into calls of memset and memcpy, which kernels may not call.
_HEADER = f"""  llvm.func @kernel({_PARAMETERS}) attributes {{passthrough = ["nounwind", "no-builtins"]}} {{"""
#: What functions beside the kernel are given first.
_COMMON = {"%bufs": POINTER, "%dims": POINTER, "%scratch": POINTER}
_NAME = re.compile(r"%\w+(?:#\d+)?")


class Loop:
    """The loop being written: `index` (i64), `args` (the carried values on entry to an iteration).

    Call `carry` once with their values for the next iteration; after the `with` block `results` holds
    the last ones.
    """

    def __init__(self, index: Val, args: list[Val]) -> None:
        self.index, self.args, self.results = index, args, list[Val]()
        self.carried: list[Val] | None = None if args else []

    def carry(self, vals: Sequence[Val]) -> None:
        if [v.mlir for v in vals] != [a.mlir for a in self.args]:
            raise TypeError(
                f"[emitter] loop carries {[a.mlir for a in self.args]}, got {[v.mlir for v in vals]}. Keep the types."
            )
        self.carried = list(vals)


class Emitter(Memory):
    """Text of one kernel under construction: SSA names, nesting, constants, control flow."""

    def __init__(self, size: Callable[[Size], Val] | None = None) -> None:
        self._size = size
        self.lo, self.hi, self.scratch = Val("%lo", "i64"), Val("%hi", "i64"), Val("%scratch", POINTER)
        self._constants: dict[tuple[str, str], str] = {}
        self._globals: list[str] = []
        self._entry: dict[str, list[str]] = {}
        self._values = {x.name: x for x in (self.lo, self.hi)}
        self._functions: list[str] = []
        self._arguments: dict[tuple[str, int], Val] = {}
        self._tables: dict[tuple[str, str], str] = {}
        self._lines: list[str] = []
        self._depth = 2
        self._names = 0
        self._position: Val | None = None
        self._indices: Sequence[Val] = ()

    # ---- text ----------------------------------------------------------------------------------------------

    def source(self, label: str) -> KernelSource:
        """The finished kernel."""
        lines = [
            "module {",
            *self._globals,
            _HEADER,
            *self.entry_lines(),
            *self._lines,
            "    llvm.return",
            "  }",
            *self._functions,
            "}",
            "",
        ]
        return KernelSource("\n".join(lines), label)

    def entry_lines(self) -> list[str]:
        """What a kernel begins with: constants, and what is loaded once."""
        return [*self._spelled_constants().values(), *(line for lines in self._entry.values() for line in lines)]

    def _spelled_constants(self) -> dict[str, str]:
        """The lines of constants by their names."""
        return {  # MLIR refuses a type after `true` and `false`
            name: f"    {name} = arith.constant {text}{'' if type == 'i1' else f' : {type}'}"
            for (text, type), name in self._constants.items()
        }

    def line(self, text: str) -> None:
        """Append an op without results."""
        self._lines.append("  " * self._depth + text)

    def op(self, name: str, operands: Sequence[Val], element: str, lanes: int = 1, attribute: str = "") -> Val:
        return self.emit(spell(name, operands, attribute, Val("", element, lanes)), element, lanes)

    def emit(self, text: str, element: str, lanes: int = 1) -> Val:
        """Append an op with one result of the given type."""
        name = self._name()
        self._lines.append(f"{'  ' * self._depth}{name} = {text}")
        return self._noted(Val(name, element, lanes))

    def _noted(self, x: Val) -> Val:
        """`x`, which functions may be given by its name."""
        self._values[x.name] = x
        return x

    def constant_name(self, literal: str, type: str) -> str:
        """The name of a constant at the function's entry, made on first use."""
        return self._constants.setdefault((literal, type), f"%c{len(self._constants)}")

    def _name(self) -> str:
        self._names += 1
        return f"%{self._names - 1}"

    # ---- places --------------------------------------------------------------------------------------------

    @contextmanager
    def into(self, lines: list[str]) -> Iterator[None]:
        """Append to `lines` instead of the current place."""
        outer, self._lines = self._lines, lines
        yield
        self._lines = outer

    def here(self) -> list[str]:
        """The place being written to."""
        return self._lines

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Write a block that is appended when it ends, after whatever is written meanwhile to the current place."""
        outer, self._lines = self._lines, []
        yield
        block, self._lines = self._lines, outer
        self._lines += block

    # ---- arguments -----------------------------------------------------------------------------------------

    def buffer(self, k: int) -> Val:
        """The pointer `bufs[k]`, loaded at entry."""
        return self._argument("bufs", k, POINTER)

    def dim(self, k: int) -> Val:
        """The number `dims[k]` (i64), loaded at entry."""
        return self._argument("dims", k, "i64")

    def size(self, number: Size) -> Val:
        """The value (i64) of a size that is known when the kernel is called."""
        if self._size is None:
            raise RuntimeError("[emitter] this kernel has no place for sizes known at run time only. Bind them first.")
        return self._size(number)

    def _argument(self, array: str, k: int, element: str) -> Val:
        known = self._arguments.get((array, k))
        if known is not None:
            return known
        name = f"%{array[:-1]}{k}"
        self._entry[name] = [
            f"    {name}_at = llvm.getelementptr inbounds %{array}[{k}] : ({POINTER}) -> {POINTER}, {element}",
            f"    {name} = llvm.load {name}_at {{alignment = 8 : i64}} : {POINTER} -> {element}",
        ]
        return self._arguments.setdefault((array, k), Val(name, element))

    def table(self, numbers: Sequence[Number], element: str) -> Val:
        """A pointer to constant numbers in memory, to be read with `load` and `gather`."""
        literals = ", ".join(spell_number(x, element) for x in numbers)
        count, register = len(numbers), spell_type(element)
        name = self._tables.get((literals, element))
        if name is None:
            name = self._tables[(literals, element)] = f"table{len(self._tables)}"
            value = f"dense<[{literals}]> : tensor<{count}x{register}>"
            type = f"!llvm.array<{count} x {register}>"
            self._globals.append(f"  llvm.mlir.global private constant @{name}({value}) : {type}")
            self._entry[f"%{name}"] = [f"    %{name} = llvm.mlir.addressof @{name} : {POINTER}"]
        return Val(f"%{name}", POINTER)

    # ---- where in the result -------------------------------------------------------------------------------

    @contextmanager
    def at(self, position: Val | None, indices: Sequence[Val] = ()) -> Iterator[None]:
        """Say which elements are being computed, for lowerings of source ops."""
        before = self._position, self._indices
        self._position, self._indices = position, indices
        yield
        self._position, self._indices = before

    def position(self) -> Val:
        """The row-major linear index (i64) of each element being computed."""
        if self._position is None:
            raise RuntimeError("[emitter] position() outside of `with b.at(position)`. Set the position first.")
        return self._position

    def index(self, dim: int) -> Val:
        """The coordinate (i64) along `dim` of each element being computed."""
        return self._indices[dim]

    # ---- control flow --------------------------------------------------------------------------------------

    @contextmanager
    def loop(self, lo: Operand, hi: Operand, step: Operand = 1, carried: Sequence[Val] = ()) -> Iterator[Loop]:
        """for index in range(lo, hi, step), all i64, step positive. See `Loop` for carried values."""
        lo, hi, step = (x if isinstance(x, Val) else self.const(x, "i64") for x in (lo, hi, step))
        index = self._noted(Val(self._name(), "i64"))
        args = [self._noted(Val(self._name(), x.type, x.lanes)) for x in carried]
        head = f"scf.for {index.name} = {lo.name} to {hi.name} step {step.name}"
        base = self._name() if args else ""
        if args:
            pairs = ", ".join(f"{a.name} = {x.name}" for a, x in zip(args, carried))
            head = f"{base}:{len(args)} = {head} iter_args({pairs}) -> ({', '.join(a.mlir for a in args)})"
        loop = Loop(index, args)
        self.line(f"{head} : i64 {{")
        with self._nested():
            yield loop
            self._yield(loop.carried)
        self.line("}")
        loop.results = [self._noted(Val(f"{base}#{i}", a.type, a.lanes)) for i, a in enumerate(args)]

    @contextmanager
    def if_(self, condition: Val) -> Iterator[None]:
        """Run the block only where the scalar i1 `condition` holds."""
        self.line(f"scf.if {condition.name} {{")
        with self._nested():
            yield
        self.line("}")

    def if_else(
        self, condition: Val, then: Callable[[], Sequence[Val]], otherwise: Callable[[], Sequence[Val]]
    ) -> list[Val]:
        """The values that `then()` or `otherwise()` returns (equal types), whichever branch runs."""
        base = self._name()
        branches = [self._branch(then), self._branch(otherwise)]
        results, others = (vals for vals, _ in branches)
        if [v.mlir for v in results] != [v.mlir for v in others]:
            raise TypeError(
                f"[emitter] branches give {[v.mlir for v in results]} and {[v.mlir for v in others]}. Make them agree."
            )
        types = ", ".join(v.mlir for v in results)
        self.line(
            f"{base}:{len(results)} = scf.if {condition.name} -> ({types}) {{"
            if results
            else f"scf.if {condition.name} {{"
        )
        self._lines += branches[0][1]
        self.line("} else {")
        self._lines += branches[1][1]
        self.line("}")
        return [self._noted(Val(f"{base}#{i}", v.type, v.lanes)) for i, v in enumerate(results)]

    def while_(
        self, carried: Sequence[Val], condition: Callable[..., Val], body: Callable[..., Sequence[Val]]
    ) -> list[Val]:
        """The values after `body(*values)` was applied while `condition(*values)`, a scalar i1, holds."""
        before, inside = ([self._noted(Val(self._name(), x.type, x.lanes)) for x in carried] for _ in range(2))
        base, types = self._name(), ", ".join(x.mlir for x in before)
        pairs = ", ".join(f"{a.name} = {x.name}" for a, x in zip(before, carried))
        self.line(f"{base}:{len(before)} = scf.while ({pairs}) : ({types}) -> ({types}) {{")
        with self._nested():
            more = condition(*before)
            self.line(f"scf.condition({more.name}) {', '.join(x.name for x in before)} : {types}")
        self.line("} do {")
        self.line(f"^bb0({', '.join(f'{x.name}: {x.mlir}' for x in inside)}):")
        with self._nested():
            loop = Loop(inside[0], inside)
            loop.carry(body(*inside))
            self._yield(loop.carried)
        self.line("}")
        return [self._noted(Val(f"{base}#{i}", x.type, x.lanes)) for i, x in enumerate(before)]

    @contextmanager
    def function(self) -> Iterator[None]:
        """Write the block as a function of its own, which is called here and gives no values. Constants of its vectors so take no
        registers from loops around the call: LLVM takes loops for the hotter the deeper they are, and keeps what the deepest ones
        read in registers, also where these loops turn once and those of tiles, which then spill, 256 times."""
        first, outer, depth = self._names, self._lines, self._depth
        self._lines, self._depth = [], 2
        yield
        lines, self._lines, self._depth = self._lines, outer, depth
        entry, given = self._read_in("\n".join(lines), first)
        own = {name: f"%given{k}" for k, name in enumerate(given)}
        types = {**_COMMON, **{name: self._values[name].mlir for name in given}}
        name = f"@part{len(self._functions)}"
        parameters = ", ".join(f"{own.get(x, x)}: {type}" for x, type in types.items())
        head = f"  llvm.func internal {name}({parameters}) attributes "
        body = [_NAME.sub(lambda m: own.get(m[0], m[0]), line) for line in lines]
        text = [f'{head}{{passthrough = ["noinline", "nounwind", "no-builtins"]}} {{', *entry, *body]
        self._functions.append("\n".join([*text, "    llvm.return", "  }"]))
        self.line(f"llvm.call {name}({', '.join(types)}) : ({', '.join(types.values())}) -> ()")

    def _read_in(self, text: str, first: int) -> tuple[list[str], list[str]]:
        """What a function reads that its text does not make: lines for what can be made again at its entry, names of the others;
        values from the number `first` on are its own."""
        constants, entry, given = self._spelled_constants(), list[str](), list[str]()
        for name in dict.fromkeys(_NAME.findall(text)):
            number = name[1:].partition("#")[0]
            if name in constants:
                entry.append(constants[name])
            elif name in self._entry:
                entry += self._entry[name]
            elif name not in _COMMON and not (number.isdigit() and int(number) >= first):
                given.append(name)
        return entry, given

    def report(self, failed: Val, status: Val, code: int, position: Val) -> None:
        """Where `failed` (i1 lanes): lower the status word to (code << 48 | position), the first position winning."""
        with self.if_(self.any(failed)):
            word = self.or_(self.const(code << 48, position), position)
            none = self.const((1 << 63) - 1, position)
            self.atomic_min(status, self.reduce("minsi", self.select(failed, word, none)))

    def _branch(self, body: Callable[[], Sequence[Val]]) -> tuple[list[Val], list[str]]:
        outer, self._lines = self._lines, []
        with self._nested():
            vals = list(body())
            if vals:
                self._yield(vals)
        lines, self._lines = self._lines, outer
        return vals, lines

    @contextmanager
    def _nested(self) -> Iterator[None]:
        self._depth += 1
        yield
        self._depth -= 1

    def _yield(self, vals: Sequence[Val] | None) -> None:
        if vals is None:
            raise RuntimeError("[emitter] loop body ended without carry(). Call it with the next values.")
        if vals:
            self.line(f"scf.yield {', '.join(v.name for v in vals)} : {', '.join(v.mlir for v in vals)}")
