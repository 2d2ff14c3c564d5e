"""Bodies as MLIR text: the region of a linalg.generic, of structured control flow, of an op of ours.

In: a `Body`, and what its captures are called outside. Out: the block's lines, made once each. Values have the types of elements,
as tensors have them. The ops of arith know no unsigned integers, so around these stand `builtin.unrealized_conversion_cast`s,
which mean nothing. Next: `text.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import count
from typing import cast

from flambeau.compiler.codegen.spelling import spell
from flambeau.compiler.codegen.values import Val, is_unsigned, register_type, unsigned
from flambeau.compiler.groups.form import Affine, Body, BodyOp, Order
from flambeau.dialects.dtypes import by_mlir, carrier_of
from flambeau.dialects.size import Int, repr_of

_Namer = Callable[[], str]


@lru_cache(maxsize=4096)
def body_text(body: Body, captured: tuple[str, ...], terminator: str = "linalg.yield") -> str:
    """The block of a region: its arguments, its ops and what it yields. `captured` are names of outer values."""
    own = len(body.types) - len(captured)
    names = [*(f"%a{k}" for k in range(own)), *captured]
    head = ", ".join(f"{n}: {t}" for n, t in zip(names, body.types[:own]))
    numbers = count()
    return "\n".join([f"    ^bb0({head}):", *_block(body, names, lambda: f"%b{next(numbers)}", "      ", terminator)])


class _Element(Val):
    """A value of the text: what registers carry as an integer (bfloat16) is of its own type here."""

    __slots__ = ()

    @property
    def mlir(self) -> str:
        return self.type if carrier_of(self.type) else super().mlir


def literal_text(literal: str, type: str) -> str:
    """The op that makes a constant. MLIR refuses a type after `true` and `false`, and arith unsigned integers."""
    if is_unsigned(type):
        return f'"flambeau.number"() {{value = {unsigned(literal, type)} : {type}}} : () -> {type}'
    if carrier := carrier_of(type):
        bits = int(literal) & ((1 << by_mlir(carrier).bits) - 1)
        return f"arith.constant 0x{bits:0{by_mlir(carrier).bits // 4}X} : {type}"
    return f"arith.constant {literal}" + ("" if literal in ("true", "false") else f" : {type}")


def affine_text(e: Affine, dim: str = "d") -> str:
    """A linear form, such as `d0 * 2 + d3 + 1`."""
    terms = [f"{dim}{d}" if c == 1 else f"{dim}{d} * {c}" for d, c in e.terms]
    return " + ".join([*terms, *([str(e.constant)] if e.constant or not terms else [])])


def _block(body: Body, names: Sequence[str], fresh: _Namer, pad: str, terminator: str) -> list[str]:
    """The ops of a body whose arguments are called `names`, and its terminator."""
    values: list[Val] = [_Element(n, t) for n, t in zip(names, body.types)]
    lines = []
    for op in body.ops:
        given, name = [values[k] for k in op.operands], fresh() if op.types else ""
        results = [_Element(n, t) for n, t in zip(result_names(name, len(op.types)), op.types)]
        lines += _op(op, given, name, fresh, pad)
        values += results
    return [*lines, pad + _terminator(terminator, [values[k] for k in body.results])]


def result_names(name: str, results: int) -> list[str]:
    """What the results of an op are called that is assigned to `name`."""
    return [name] if results == 1 else [f"{name}#{k}" for k in range(results)]


def _assigned(name: str, results: int) -> str:
    return "" if results == 0 else f"{name} = " if results == 1 else f"{name}:{results} = "


def _terminator(name: str, values: Sequence[Val]) -> str:
    given, types = ", ".join(v.name for v in values), ", ".join(v.type for v in values)
    if name == "flambeau.yield":
        return f'"flambeau.yield"({given}) : ({types}) -> ()'
    if name == "scf.condition":
        first, *rest = values
        return f"scf.condition({first.name}) {', '.join(v.name for v in rest)} : {', '.join(v.type for v in rest)}"
    return f"{name} {given} : {types}" if values else name


def _op(op: BodyOp, given: list[Val], name: str, fresh: _Namer, pad: str) -> list[str]:
    """The lines of one op."""
    head = pad + _assigned(name, len(op.types))
    if op.name == "scf.if":
        return _if(op, given, head, fresh, pad)
    if op.name == "scf.while":
        return _while(op, given, head, fresh, pad)
    form = _FORMS.get(op.name)
    if form is not None:
        return [head + form(op, given)]
    if len(op.types) != 1 or op.regions:
        raise ValueError(f"[{op.name}] has no text in a body. Use ops with one result, scf.if and scf.while.")
    return _plain(op, given, name, fresh, pad)


def _plain(op: BodyOp, given: list[Val], name: str, fresh: _Namer, pad: str) -> list[str]:
    """An op of arith, math or llvm, whose integers have no sign."""
    lines, operands = [], []
    for v in given:
        if is_unsigned(v.type):
            v, before = _Element(fresh(), register_type(v.type)), v
            lines.append(f"{pad}{v.name} = {_CAST} {before.name} : {before.type} to {v.type}")
        operands.append(v)
    (type,) = op.types
    made = _Element(fresh() if is_unsigned(type) else name, register_type(type) if is_unsigned(type) else type)
    lines.append(f"{pad}{made.name} = " + spell(op.name, operands, str(op.attribute or ""), made))
    if is_unsigned(type):
        lines.append(f"{pad}{name} = {_CAST} {made.name} : {made.type} to {type}")
    return lines


_CAST = "builtin.unrealized_conversion_cast"


# ---- ops with a form of their own -------------------------------------------------------------------------------


def _constant(op: BodyOp, given: list[Val]) -> str:
    return literal_text(str(op.attribute), op.types[0])


def _index(op: BodyOp, given: list[Val]) -> str:
    return f"linalg.index {op.attribute} : index"


def _apply(op: BodyOp, given: list[Val]) -> str:
    dims = ", ".join(f"d{k}" for k in range(len(given)))
    form = affine_text(cast(Affine, op.attribute))
    return f"affine.apply affine_map<({dims}) -> ({form})>({', '.join(v.name for v in given)})"


def _extract(op: BodyOp, given: list[Val]) -> str:
    table, *indices = given
    return f"tensor.extract {table.name}[{', '.join(v.name for v in indices)}] : {table.type}"


def _fold(op: BodyOp, given: list[Val]) -> str:
    order = cast(Order, op.attribute)
    type = given[0].type
    number = unsigned(order.identity, type) if is_unsigned(type) else order.identity
    identity = number if type == "i1" else f"{number} : {type}"
    return _generic(op, given, f'{{identity = {identity}, order = "{order.name}"}}')


def _check(op: BodyOp, given: list[Val]) -> str:
    return _generic(op, given, f"{{code = {op.attribute} : i64}}")


def _size(op: BodyOp, given: list[Val]) -> str:
    return _generic(op, given, f'{{size = "{repr_of(cast(Int, op.attribute))}"}}')


def _any_lane(op: BodyOp, given: list[Val]) -> str:
    return _generic(op, given, "")


def _generic(op: BodyOp, given: list[Val], attributes: str) -> str:
    """MLIR's form for ops without a syntax of their own."""
    results = f"({', '.join(op.types)})" if len(op.types) != 1 else op.types[0]
    text = f'"{op.name}"({", ".join(v.name for v in given)}) {attributes}'.rstrip()
    return f"{text} : ({', '.join(v.type for v in given)}) -> {results}"


_FORMS: dict[str, Callable[[BodyOp, list[Val]], str]] = {
    "arith.constant": _constant,
    "linalg.index": _index,
    "affine.apply": _apply,
    "tensor.extract": _extract,
    "flambeau.fold": _fold,
    "flambeau.check": _check,
    "flambeau.size": _size,
    "flambeau.any_lane": _any_lane,
}


# ---- structured control flow ------------------------------------------------------------------------------------


def _if(op: BodyOp, given: list[Val], head: str, fresh: _Namer, pad: str) -> list[str]:
    condition, *free = given
    names = [v.name for v in free]
    types = f" -> ({', '.join(op.types)})" if op.types else ""
    lines = [f"{head}scf.if {condition.name}{types} {{"]
    for k, region in enumerate(op.regions):
        lines += [f"{pad}}} else {{"] if k else []
        lines += _block(region, names, fresh, pad + "  ", "scf.yield")
    return [*lines, f"{pad}}}"]


def _while(op: BodyOp, given: list[Val], head: str, fresh: _Namer, pad: str) -> list[str]:
    before, after = op.regions
    carried = len(given) - free_values(op)
    initial, free = given[:carried], [v.name for v in given[carried:]]
    names = [fresh() for _ in initial]
    pairs = ", ".join(f"{n} = {v.name}" for n, v in zip(names, initial))
    lines = [
        f"{head}scf.while ({pairs}) : ({', '.join(v.type for v in initial)}) -> ({', '.join(op.types)}) {{",
        *_block(before, [*names, *free], fresh, pad + "  ", "scf.condition"),
        f"{pad}}} do {{",
    ]
    names = [fresh() for _ in op.types]
    arguments = ", ".join(f"{n}: {t}" for n, t in zip(names, op.types))
    body = _block(after, [*names, *free], fresh, pad + "  ", "scf.yield")
    return [*lines, f"{pad}^bb0({arguments}):", *body, f"{pad}}}"]


def free_values(op: BodyOp) -> int:
    """How many values the regions of a scf.while read from outside: the second one takes the results, then these."""
    return len(op.regions[1].types) - len(op.types)
