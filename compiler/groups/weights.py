"""The work of a body's point, in additions: that of the record with the same code, as `codegen/loops/phases.py` has it.

In: a `Body`. Out: its weight; bodies that no light record has are heavy. Next: `replay.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator
from functools import cache

from flambeau.compiler.codegen.loops.phases import HEAVY, LIGHT, weight_of
from flambeau.compiler.groups import bodies
from flambeau.compiler.groups.form import Body
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import REAL, DType, bool_
from flambeau.dialects.record import OpRecord, find

_Code = tuple[Hashable, ...]
_Types = tuple[DType, ...]
_UNARY = frozenset(
    (
        "neg",
        "abs",
        "sign",
        "floor",
        "ceil",
        "round",
        "trunc",
        "sqrt",
        "rsqrt",
        "not_",
        "canonical_nan",
        "canonical_nan_of_root",
    )
)
_LONGEST = 16  # ops of a light body


def weight(body: Body, name: str = "") -> int:
    """The weight of a body, which may be that of the record called `name`: if it is, no other one has to be looked at."""
    if len(body.ops) > _LONGEST:
        return HEAVY
    return _weight(_code(body), tuple(dict.fromkeys(body.types)), name if name in LIGHT else "")


@cache
def _weight(code: _Code, types: tuple[str, ...], name: str) -> int:
    if name and any(code in _codes(name, type) for type in types):
        return weight_of(name)
    return min((_light(type).get(code, HEAVY) for type in types), default=HEAVY)


def _code(body: Body) -> _Code:
    """What a body does, whichever of its arguments are captured."""
    return tuple((op.name, op.attribute, op.types) for op in body.ops)


@cache
def _light(type: str) -> dict[_Code, int]:
    """The weights of the light records whose operands have an element type; the lightest of those that do the same, as `abs` does
    nothing to what has no sign."""
    heaviest_first = sorted(LIGHT, key=lambda name: (-weight_of(name), name))
    return {code: weight_of(name) for name in heaviest_first for code in _codes(name, type)}


@cache
def _codes(name: str, type: str) -> frozenset[_Code]:
    """What the bodies of a light record do whose operands have an element type."""
    record, dtype = find(name), next((d for d in REAL if d.mlir == type), None)
    found = set()
    for operands, attrs in _calls(record, dtype) if dtype is not None and dtype in record.dtypes else ():
        with contextlib.suppress(TypeError):  # a dtype that is only stored has no arithmetic
            found.add(_code(_body(record, operands, attrs)))
    return frozenset(found)


def _body(record: OpRecord, operands: _Types, attrs: _Types) -> Body:
    (result,) = record.infer_results([Aval((), d) for d in operands], attrs)
    return bodies.elementwise(record, attrs, tuple(d.mlir for d in operands), (result.dtype.mlir,), None)


def _calls(record: OpRecord, dtype: DType) -> Iterator[tuple[_Types, _Types]]:
    """(operands, attributes) of a light record on operands of a type."""
    if record.name == "cast":
        yield from (((dtype,), (to,)) for to in REAL)
    elif record.name == "select":
        yield (bool_, dtype, dtype), ()
    else:
        yield (dtype,) * (1 if record.name in _UNARY else 2), ()
