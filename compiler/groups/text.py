"""Groups as MLIR text. The text is a group's identity: memo key, dump, what `flambeau-opt` reads and writes.

In: `Group`s. Out: a module with one `func.func` each, the same for equal groups; with notes, also what makes no difference
(lines of user code, the values that sizes had). Needs no MLIR. Next: `body_text.py`; `reading.py`, the way back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

from flambeau.compiler.groups.body_text import affine_text, body_text, literal_text, result_names
from flambeau.compiler.groups.form import Call, Generic, Group, Map, StructuredOp, scalars
from flambeau.compiler.groups.slices import limits
from flambeau.dialects.graph import Loc
from flambeau.dialects.size import Int, Size, repr_of

_KEPT = "_text"


def print_group(group: Group, notes: bool = False) -> str:
    """The group as a module with one function. Without notes it is kept with the group, which is asked for it as its identity."""
    if notes:
        return print_groups({"group": group}, notes)
    kept: dict[str, Any] = vars(group)
    if _KEPT not in kept:
        kept[_KEPT] = print_groups({"group": group})
    text: str = kept[_KEPT]
    return text


def print_groups(
    groups: Mapping[str, Group], notes: bool = False, schedules: Mapping[str, Sequence[str]] | None = None
) -> str:
    """A module with a function for every group. `notes`: with locations and the values that sizes had. `schedules`: the texts of
    the schedules of each group's nests, in order, which the function then says."""
    said = schedules or {}
    return "module {\n" + "".join(_Printer(g, notes).function(n, said.get(n, ())) for n, g in groups.items()) + "}\n"


class _Printer:
    """The text of one group: values' names and types, and what stands at the function's entry."""

    def __init__(self, group: Group, notes: bool) -> None:
        self.group, self.notes = group, notes
        scalar = scalars(group)
        self.types = [a.dtype.mlir if v in scalar else a.mlir for v, a in enumerate(group.avals)]
        self.names = [f"%v{v}" for v in range(len(group.avals))]
        for op in group.ops:
            for v, name in zip(op.results, result_names(f"%v{op.results[0]}", len(op.results))):
                self.names[v] = name
        self.entry: dict[str, str] = {}  # the text of an op -> the name of its result

    def function(self, name: str, schedules: Sequence[str] = ()) -> str:
        group = self.group
        lines = [self._located(op) for op in group.ops]
        inputs = ", ".join(f"{self.names[v]}: {self.types[v]}" for v in group.inputs)
        types, values = self._types(group.outputs), self._names(group.outputs)
        sizes = ", ".join(f"{n} : i64" for n in group.sizes) if self.notes else ""
        said = [f"flambeau.sizes = [{sizes}]"] if sizes else []
        if schedules:
            said.append("flambeau.schedules = [\n      " + ",\n      ".join(map(_attribute, schedules)) + "\n    ]")
        attributes = f" attributes {{{', '.join(said)}}}" if said else ""
        entry = [f"    {name} = {text}" for text, name in self.entry.items()]
        end = f"    return {values} : {types}" if values else "    return"
        head = f"  func.func @{name}({inputs}) -> ({types}){attributes} {{"
        return "\n".join([head, *entry, *lines, end, "  }", ""])

    def _located(self, op: StructuredOp) -> str:
        text = "\n".join(self._generic(op) if isinstance(op, Generic) else self._call(op))
        return text + _location(op.loc) if self.notes and op.loc else text

    def _names(self, values: Sequence[int]) -> str:
        return ", ".join([self.names[v] for v in values])

    def _types(self, values: Sequence[int]) -> str:
        return ", ".join([self.types[v] for v in values])

    def at_entry(self, text: str, prefix: str) -> str:
        """The name of an op's result; the op stands at the function's entry, once."""
        return self.entry.setdefault(text, f"%{prefix}{len(self.entry)}")

    def index(self, size: Int) -> str:
        """An extent as ops list them: a number, or the name of one known at run time only."""
        if not isinstance(size, Size):
            return str(size)
        return self.at_entry(f'"flambeau.size"() {{size = "{repr_of(size)}"}} : () -> index', "n")

    def indices(self, sizes: Sequence[Int]) -> str:
        return f"[{', '.join(map(self.index, sizes))}]"

    # ---- linalg.generic ------------------------------------------------------------------------------------------

    def _generic(self, op: Generic) -> list[str]:
        lines: list[str] = []
        outs = ", ".join([self._init(v, init, lines) for v, init in zip(op.results, op.inits)])
        maps = ", ".join([map_text(m, len(op.iterators)) for m in op.maps])
        iterators = ", ".join([f'"{i}"' for i in op.iterators])
        ins = f" ins({self._names(op.operands)} : {self._types(op.operands)})" if op.operands else ""
        types = self._types(op.results)
        tiles = ", ".join([f"[{loop} : i64, {size} : i64]" for loop, size in op.tiles])
        # With the maps that say what the loops are: who changes their order may leave the attributes as they are.
        hints = [f"flambeau.tiled_maps = [{maps}]", f"flambeau.tiles = [{tiles}]"] if tiles else []
        if self.notes and op.name:
            hints.append(f"flambeau.name = {_attribute(op.name)}")
        attributes = f" attrs = {{{', '.join(hints)}}}" if hints else ""
        body = body_text(op.body, tuple(self.names[v] for v in op.captures))
        lines += [
            f"    {self._assigned(op)}linalg.generic {{",
            f"        indexing_maps = [{maps}],",
            f"        iterator_types = [{iterators}]",
            f"      }}{ins} outs({outs} : {types}){attributes} {{",
        ]
        return [*lines, body, f"    }} -> {types}" if len(op.results) == 1 else f"    }} -> ({types})"]

    def _assigned(self, op: StructuredOp) -> str:
        if not op.results:
            return ""
        count = f":{len(op.results)}" if len(op.results) > 1 else ""
        return f"%v{op.results[0]}{count} = "

    def _init(self, v: int, init: str | None, lines: list[str]) -> str:
        """What a result starts from: nothing, or a number."""
        aval, type_ = self.group.avals[v], self.types[v]
        lines.append(f"    {self._empty(v, f'%e{v}')}")
        if init is None:
            return f"%e{v}"
        element = aval.dtype.mlir
        number = self.at_entry(literal_text(init, element), "c")
        lines.append(f"    %i{v} = linalg.fill ins({number} : {element}) outs(%e{v} : {type_}) -> {type_}")
        return f"%i{v}"

    def _empty(self, v: int, name: str) -> str:
        sizes = ", ".join([self.index(n) for n in self.group.avals[v].shape if isinstance(n, Size)])
        return f"{name} = tensor.empty({sizes}) : {self.types[v]}"

    # ---- other ops -----------------------------------------------------------------------------------------------

    def _call(self, op: Call) -> list[str]:
        return _CALLS.get(op.name, _Printer._ours)(self, op, op.attribute)

    def _constant(self, op: Call, attrs: Mapping[str, Any]) -> list[str]:
        return [f"    {self._assigned(op)}{literal_text(attrs['value'], self.types[op.results[0]])}"]

    def _size(self, op: Call, attrs: Mapping[str, Any]) -> list[str]:
        text = f'"flambeau.size"() {{size = "{repr_of(attrs["size"])}"}} : () -> {self._types(op.results)}'
        return [f"    {self._assigned(op)}{text}"]

    def _extract(self, op: Call, attrs: Mapping[str, Any]) -> list[str]:
        return [f"    {self._assigned(op)}tensor.extract {self._names(op.operands)}[] : {self._types(op.operands)}"]

    def _no_elements(self, op: Call, attrs: Mapping[str, Any]) -> list[str]:
        return [f"    {self._empty(op.results[0], self.names[op.results[0]])}"]

    def _collapse(self, op: Call, attrs: Mapping[str, Any]) -> list[str]:
        runs = _runs(attrs["reassociation"])
        types = f"{self._types(op.operands)} into {self._types(op.results)}"
        return [f"    {self._assigned(op)}tensor.collapse_shape {self._names(op.operands)} {runs} : {types}"]

    def _expand(self, op: Call, attrs: Mapping[str, Any]) -> list[str]:
        runs, shape = _runs(attrs["reassociation"]), self.indices(self.group.avals[op.results[0]].shape)
        types = f"{self._types(op.operands)} into {self._types(op.results)}"
        given = self._names(op.operands)
        return [f"    {self._assigned(op)}tensor.expand_shape {given} {runs} output_shape {shape} : {types}"]

    def _concat(self, op: Call, attrs: Mapping[str, Any]) -> list[str]:
        types = f"({self._types(op.operands)}) -> {self._types(op.results)}"
        return [f"    {self._assigned(op)}tensor.concat dim({attrs['dim']}) {self._names(op.operands)} : {types}"]

    def _pad(self, op: Call, attrs: Mapping[str, Any]) -> list[str]:
        x, value = op.operands
        low, high = self.indices(attrs["low"]), self.indices(attrs["high"])
        arguments = ", ".join(f"%p{k}: index" for k in range(self.group.avals[x].rank))
        return [
            f"    {self._assigned(op)}tensor.pad {self.names[x]} low{low} high{high} {{",
            *([f"    ^bb0({arguments}):"] if arguments else []),
            f"      tensor.yield {self.names[value]} : {self.types[value]}",
            f"    }} : {self.types[x]} to {self._types(op.results)}",
        ]

    def _slice(self, op: Call, attrs: Mapping[str, Any]) -> list[str]:
        x, *given = op.operands
        window = self.group.avals[op.results[0]].shape
        lines, starts = self._starts(op, self.group.avals[x].shape, window, given)
        place = f"[{starts}] {self.indices(window)} {list(attrs['steps'])}"
        text = f"tensor.extract_slice {self.names[x]}{place} : {self.types[x]} to {self._types(op.results)}"
        return [*lines, f"    {self._assigned(op)}{text}"]

    def _insert(self, op: Call, attrs: Mapping[str, Any]) -> list[str]:
        part, x, *given = op.operands
        window = self.group.avals[part].shape
        lines, starts = self._starts(op, self.group.avals[x].shape, window, given)
        place = f"[{starts}] {self.indices(window)} {list(attrs['steps'])}"
        text = f"tensor.insert_slice {self.names[part]} into {self.names[x]}{place}"
        return [*lines, f"    {self._assigned(op)}{text} : {self.types[part]} into {self.types[x]}"]

    def _starts(self, op: Call, whole: tuple, window: tuple, given: list[int]) -> tuple[list[str], str]:
        """Where a slice begins: the ops that move run-time starts to where it fits, and all starts."""
        names, lines, numbers = [], [], iter(given)
        for k, (start, limit) in enumerate(zip(op.attribute["starts"], limits(whole, window, op.attribute["steps"]))):
            if start != "clamped":
                names.append(self.index(start))
                continue
            v, name = next(numbers), f"%s{op.results[0]}_{k}"
            attribute = f'{{limit = "{repr_of(limit)}"}}'
            lines.append(f'    {name} = "flambeau.start"({self.names[v]}) {attribute} : ({self.types[v]}) -> index')
            names.append(name)
        return lines, ", ".join(names)

    def _ours(self, op: Call, attrs: Mapping[str, Any]) -> list[str]:
        """MLIR's form for ops without a syntax of their own."""
        regions = ", ".join("{\n" + body_text(r, (), "flambeau.yield") + "\n    }" for r in op.regions)
        attributes = ", ".join(f"{k} = {_attribute(v)}" for k, v in attrs.items())
        results = self._types(op.results) if len(op.results) == 1 else f"({self._types(op.results)})"
        head = f'"{op.name}"({self._names(op.operands)})' + (f" ({regions})" if regions else "")
        return [f"    {self._assigned(op)}{head} {{{attributes}}} : ({self._types(op.operands)}) -> {results}"]


_CALLS: dict[str, Callable[[_Printer, Call, Mapping[str, Any]], list[str]]] = {
    "arith.constant": _Printer._constant,
    "flambeau.size": _Printer._size,
    "tensor.extract": _Printer._extract,
    "tensor.empty": _Printer._no_elements,
    "tensor.collapse_shape": _Printer._collapse,
    "tensor.expand_shape": _Printer._expand,
    "tensor.extract_slice": _Printer._slice,
    "tensor.insert_slice": _Printer._insert,
    "tensor.concat": _Printer._concat,
    "tensor.pad": _Printer._pad,
}


@lru_cache(maxsize=4096)
def map_text(map_: Map, rank: int) -> str:
    dims = ", ".join(f"d{k}" for k in range(rank))
    return f"affine_map<({dims}) -> ({', '.join(map(affine_text, map_))})>"


def _runs(reassociation: Sequence[Sequence[int]]) -> str:
    return "[" + ", ".join(str(list(run)) for run in reassociation) + "]"


def _location(loc: Loc) -> str:
    return f' loc("{_escaped(loc.file)}":{loc.line}:0)'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _attribute(x: object) -> str:
    if isinstance(x, tuple):
        return "[" + ", ".join(map(_attribute, x)) + "]"
    if isinstance(x, Size):
        return f'{{size = "{repr_of(cast(Int, x))}"}}'
    return f"{x} : i64" if isinstance(x, int) else f'"{_escaped(str(x))}"'
