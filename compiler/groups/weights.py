"""The work of a body's point, in additions: the `weight` of the built-in record with the same code.

In: a `Body`. Out: its weight; bodies that no light record has are heavy. Next: `replay.py`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator
from functools import cache
from itertools import product

from flambeau.compiler.groups import bodies
from flambeau.compiler.groups.form import Body
from flambeau.dialects import tape
from flambeau.dialects.aval import Aval
from flambeau.dialects.dtypes import REAL, DType, bool_
from flambeau.dialects.record import HEAVY, OpRecord

_Code = tuple[Hashable, ...]
_Types = tuple[DType, ...]
_LONGEST = 16  # ops of a light body
_MOST = 3  # operands of a light record
_RECORDS = [record for record in vars(tape).values() if isinstance(record, OpRecord) and record.weight < HEAVY]
#: The built-in records that are light, by name. What packages' ops weigh is asked where ops join; their bodies weigh as these.
LIGHT = {record.name: record for record in _RECORDS}


def weight(body: Body, name: str = "") -> int:
    """The weight of a body, which may be that of the record called `name`: if it is, no other one has to be looked at."""
    if len(body.ops) > _LONGEST:
        return HEAVY
    return _weight(_code(body), tuple(dict.fromkeys(body.types)), name if name in LIGHT else "")


@cache
def _weight(code: _Code, types: tuple[str, ...], name: str) -> int:
    if name and any(code in _codes(name, type) for type in types):
        return LIGHT[name].weight
    return min((_light(type).get(code, HEAVY) for type in types), default=HEAVY)


def _code(body: Body) -> _Code:
    """What a body does, whichever of its arguments are captured."""
    return tuple((op.name, op.attribute, op.types) for op in body.ops)


@cache
def _light(type: str) -> dict[_Code, int]:
    """The weights of the light records whose operands have an element type; the lightest of those that do the same, as `abs` does
    nothing to what has no sign."""
    heaviest_first = sorted(LIGHT.values(), key=lambda record: (-record.weight, record.name))
    return {code: record.weight for record in heaviest_first for code in _codes(record.name, type)}


@cache
def _codes(name: str, type: str) -> frozenset[_Code]:
    """What the bodies of a light record do whose operands have an element type."""
    record, dtype = LIGHT[name], next((d for d in REAL if d.mlir == type), None)
    found = set()
    for operands, attrs in _calls(record, dtype) if dtype is not None and dtype in record.dtypes else ():
        with contextlib.suppress(TypeError):  # a dtype that is only stored has no arithmetic
            found.add(_code(_body(record, operands, attrs)))
    return frozenset(found)


def _body(record: OpRecord, operands: _Types, attrs: _Types) -> Body:
    (result,) = record.infer_results([Aval((), d) for d in operands], attrs)
    return bodies.elementwise(record, attrs, tuple(d.mlir for d in operands), (result.dtype.mlir,), None)


def _calls(record: OpRecord, dtype: DType) -> Iterator[tuple[_Types, _Types]]:
    """(operands, attributes) of a light record on operands of a type, but for a condition in front; its attributes are dtypes."""
    counts = range(1, _MOST + 1)
    operands = [found for n in counts for found in ((dtype,) * n, (bool_, *(dtype,) * (n - 1)))]
    for attrs in product(REAL, repeat=len(record.attrs)):
        taken = next((found for found in operands if _takes(record, found, attrs)), None)
        if taken is not None:
            yield taken, attrs


def _takes(record: OpRecord, operands: _Types, attrs: _Types) -> bool:
    try:
        record.infer_results([Aval((), d) for d in operands], attrs)
    except (TypeError, RuntimeError):
        return False
    return True
