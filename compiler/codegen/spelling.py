"""How an op of kernel text is written: one function per form of assembly, by the op's name.

In: an op's name, operands, attribute and result type. Out: its text. Ops of arith and math whose operands and result have one
type are written alike, and need no entry. Next: `emitter.py`, which names the result and keeps the line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flambeau.compiler.codegen.values import Val, register_type, spell_type

#: (name, operands, attribute, a value of the result's type) -> text
_Form = Callable[[str, Sequence[Val], str, Val], str]


def spell(name: str, operands: Sequence[Val], attribute: str, result: Val) -> str:
    return _FORMS.get(name, _uniform)(name, operands, attribute, result)


def _uniform(name: str, operands: Sequence[Val], attribute: str, result: Val) -> str:
    return f"{name} {', '.join([x.name for x in operands])} : {operands[0].mlir}"


def _comparison(name: str, operands: Sequence[Val], attribute: str, result: Val) -> str:
    x, y = operands
    return f"{name} {attribute}, {x.name}, {y.name} : {x.mlir}"


def _select(name: str, operands: Sequence[Val], attribute: str, result: Val) -> str:
    c, x, y = operands
    types = x.mlir if c.lanes == 1 and x.lanes == 1 else f"{c.mlir}, {x.mlir}"
    return f"{name} {c.name}, {x.name}, {y.name} : {types}"


def _conversion(name: str, operands: Sequence[Val], attribute: str, result: Val) -> str:
    (x,) = operands
    return f"{name} {x.name} : {x.mlir} to {result.mlir}"


def _intrinsic(name: str, operands: Sequence[Val], attribute: str, result: Val) -> str:
    """An intrinsic whose name ends in the types of its result and its operand."""
    (x,) = operands
    suffix = f"v{x.lanes}" if x.lanes > 1 else ""
    full = f"{name}.{suffix}{register_type(result.type)}.{suffix}{register_type(x.type)}"
    return f'llvm.call_intrinsic "{full}"({x.name}) : ({x.mlir}) -> {result.mlir}'


def _by_width(name: str, operands: Sequence[Val], attribute: str, result: Val) -> str:
    """An intrinsic whose name ends in the bits of its vectors."""
    names, types = ", ".join([x.name for x in operands]), ", ".join([x.mlir for x in operands])
    return f'llvm.call_intrinsic "{name}.{result.lanes * result.bits}"({names}) : ({types}) -> {result.mlir}'


def _extract(name: str, operands: Sequence[Val], attribute: str, result: Val) -> str:
    (x,) = operands
    return f"{name} {x.name}[{attribute}] : {spell_type(x.type)} from {x.mlir}"


def _insert(name: str, operands: Sequence[Val], attribute: str, result: Val) -> str:
    x, into = operands
    return f"{name} {x.name}, {into.name}[{attribute}] : {spell_type(x.type)} into {into.mlir}"


def _shuffle(name: str, operands: Sequence[Val], attribute: str, result: Val) -> str:
    x, y = operands
    return f"{name} {x.name}, {y.name} [{attribute}] : {x.mlir}, {y.mlir}"


def _lanes_folded(name: str, operands: Sequence[Val], attribute: str, result: Val) -> str:
    (x,) = operands
    return f"{name} <{attribute}>, {x.name} : {x.mlir} into {result.mlir}"


CONVERSIONS = (
    "bitcast",
    "extf",
    "truncf",
    "extsi",
    "extui",
    "trunci",
    "fptosi",
    "sitofp",
    "uitofp",
    "index_cast",
    "index_castui",
)
_FORMS: dict[str, _Form] = {
    **{f"arith.{name}": _conversion for name in CONVERSIONS},
    "arith.cmpf": _comparison,
    "arith.cmpi": _comparison,
    "arith.select": _select,
    "llvm.bitcast": _conversion,
    "llvm.fptosi.sat": _intrinsic,
    "llvm.fptoui.sat": _intrinsic,
    "llvm.x86.avx512.vpdpbusd": _by_width,
    "vector.broadcast": _conversion,
    "vector.extract": _extract,
    "vector.insert": _insert,
    "vector.shuffle": _shuffle,
    "vector.reduction": _lanes_folded,
}
