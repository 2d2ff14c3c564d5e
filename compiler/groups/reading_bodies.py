"""Regions as `Body`s: the scalar code of a linalg.generic, of structured control flow, of an op of ours.

In: operations of a region. Out: a `Body`, and the values that it reads from outside, in the order of their first use.
Numbers of type index that a pass has moved out of a body are put back into it; arithmetic on indices becomes linear forms.
Next: `reading.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flambeau.compiler.codegen.spelling import CONVERSIONS
from flambeau.compiler.codegen.values import is_unsigned
from flambeau.compiler.groups.form import Affine, Body, BodyOp, Order
from flambeau.compiler.groups.reading_types import CONSTANTS, Structure, Types, refuse
from flambeau.dialects.flambeau_ops import linear
from flambeau.dialects.orders import Place
from flambeau.dialects.size import Int, Size
from flambeau.dialects.size_text import parse

#: Attributes that scalar ops may have: what says that something cannot happen is left out, which gives the same bits.
_HARMLESS = frozenset({"overflowFlags", "isExact", "nonNeg", "fastmath"})
_PREDICATES = {  # in the order of their numbers
    "arith.cmpf": [
        "false",
        "oeq",
        "ogt",
        "oge",
        "olt",
        "ole",
        "one",
        "ord",
        "ueq",
        "ugt",
        "uge",
        "ult",
        "ule",
        "une",
        "uno",
        "true",
    ],
    "arith.cmpi": ["eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge"],
}


class Indices:
    """What stands for index arithmetic around a body: `numbers` that are known outside of it; in tiling loops, `tiles`,
    where the tile at hand begins along each loop, as a linear form of induction variables (`variables`, numbered from -1
    down)."""

    def __init__(
        self,
        numbers: Callable[[Any], Int | None],
        tiles: Mapping[int, Place] | None = None,
        variables: Mapping[Any, int] | None = None,
    ) -> None:
        self.numbers, self.tiles, self.variables = numbers, tiles or {}, variables or {}


class BodyReader:
    """Reads the regions of one function."""

    def __init__(self, structure: Structure, types: Types) -> None:
        self.structure, self.types = structure, types

    def body(self, op: Any, indices: Indices) -> tuple[Body, list[Any]]:
        """The body of an op, and its captures."""
        ((arguments, operations),) = self.structure.blocks(op)
        outer = [v for v in self.structure.used(op) if not self.is_put_in(v)]
        return _BlockReader(self, indices, [*arguments, *outer]).read(operations), outer

    def block(self, arguments: Sequence[Any], operations: Sequence[Any], indices: Indices) -> Body:
        """A region that reads nothing from outside."""
        return _BlockReader(self, indices, arguments).read(operations)

    def reads_outside(self, op: Any) -> bool:
        """Whether regions of an op of ours read what cannot be put into them."""
        return any(not self.structure.is_constant(v) for v in self.structure.used(op))

    def is_put_in(self, value: Any) -> bool:
        """Whether a value from outside is made again in the body that reads it: indices, and tables, which passes of MLIR's move
        out of bodies as they do with all constants."""
        return self.types.text(value) == "index" or self.structure.is_table(value, self.types)


class _BlockReader:
    """A block being read: its arguments are numbered first, then the results of its ops."""

    def __init__(self, reader: BodyReader, indices: Indices, arguments: Sequence[Any]) -> None:
        self.reader, self.indices = reader, indices
        self.types = [reader.types.text(v) for v in arguments]
        self.count = len(arguments)
        self.numbers: dict[Any, int] = {v: k for k, v in enumerate(arguments)}
        self.begins: dict[Any, Place] = {}  # indices that count from their tile's begin, and where that is
        self.ops: list[BodyOp] = []
        self.places: dict[int, int] = {}  # where in `ops` the op of a first result stands
        self.outside: dict[Any, int] = {}  # numbers of type index and tables from outside

    def read(self, operations: Sequence[Any]) -> Body:
        *inner, last = operations
        for op in inner:
            self._op(op)
        return Body(tuple(self.types), tuple(self.ops), tuple(self._operands(last)))

    def _append(self, op: BodyOp) -> int:
        self.places[self.count] = len(self.ops)
        self.ops.append(op)
        self.count += len(op.types)
        return self.count - len(op.types)

    def _operands(self, op: Any) -> list[int]:
        return [self._number(op, v) for v in op.operands]

    def _number(self, op: Any, value: Any) -> int:
        number = self.numbers.get(value)
        if number is None:
            number = self._from_outside(op, value)
        if value in self.begins:
            raise refuse(op, "it takes the index of a tiled loop, which counts from the tile's begin. Add the begin.")
        return number

    def _from_outside(self, op: Any, value: Any) -> int:
        """A constant, or a number of type index, that stands outside of the body, put into it."""
        reader = self.reader
        if value not in self.outside and reader.structure.is_constant(value):
            name, literal = _constant(reader.structure.definitions[value], reader.types)
            self.outside[value] = self._append(BodyOp(name, (), literal, (reader.types.text(value),)))
        return self._index_from_outside(op, value)

    def _index_from_outside(self, op: Any, value: Any) -> int:
        """A number of type index that stands outside of the body, put into it."""
        if value not in self.outside:
            number = self.indices.numbers(value)
            if number is None:
                raise refuse(op, f"it takes {value}, an index that is not known. Compute it in the body.")
            known = ("flambeau.size", number) if isinstance(number, Size) else ("arith.constant", str(number))
            self.outside[value] = self._append(BodyOp(known[0], (), known[1], ("index",)))
        return self.outside[value]

    def _op(self, op: Any) -> None:
        if op.name == "affine.apply":
            self.numbers[op.results[0]] = self._apply(op)
            return
        if op.name == "linalg.index":
            self.numbers[op.results[0]] = self._index(op)
            return
        if op.name == "builtin.unrealized_conversion_cast":
            self.numbers[op.results[0]] = self._recast(op)
            return
        made = self._structured(op) if len(op.regions) else self._scalar(op)
        first = self._append(made)
        self.numbers.update((r, first + k) for k, r in enumerate(op.results))

    def _recast(self, op: Any) -> int:
        """The number of a value whose integers are taken for signed ones or not: registers do not tell them apart, so an op gives
        what is asked for."""
        (value,), (text,) = self._operands(op), map(self.reader.types.text, op.results)
        if not is_unsigned(text):
            return value
        at = self.places.get(value)
        if at is not None and not self.ops[at].regions:
            self.ops[at] = self.ops[at]._replace(types=(text,))
            return value
        return self._append(BodyOp("arith.bitcast", (value,), None, (text,)))

    # ---- indices -------------------------------------------------------------------------------------------------

    def _index(self, op: Any) -> int:
        loop = self.reader.types.ir.IntegerAttr(op.attributes["dim"]).value
        number = self._append(BodyOp("linalg.index", (), loop, ("index",)))
        if loop in self.indices.tiles:
            self.begins[op.results[0]] = self.indices.tiles[loop]
        return number

    def _apply(self, op: Any) -> int:
        """A linear form of values of the body. In tiling loops indices are those of the whole op again."""
        map_ = op.attributes["map"].value
        given = [self._place(op, v) for v in op.operands]
        form = linear(map_.results[0], given[: map_.n_dims], given[map_.n_dims :])
        if form is None:
            raise refuse(op, f"{map_} is not linear. Compute it with arith on i64.")
        terms, constant = form
        if any(number < 0 for number, _ in terms):
            raise refuse(
                op, "it adds something else than the tile's begin to the index of a tiled loop. Add the begin."
            )
        if not terms:
            return self._append(BodyOp("arith.constant", (), str(constant), ("index",)))
        if not constant and len(terms) == 1 and terms[0][1] == 1:
            return terms[0][0]
        shifted = tuple((k, c) for k, (_, c) in enumerate(terms))
        return self._append(BodyOp("affine.apply", tuple(n for n, _ in terms), Affine(shifted, constant), ("index",)))

    def _place(self, op: Any, value: Any) -> Place:
        """An operand of affine.apply: an induction variable, a number, or a value of the body. The index of a tiled loop is
        that of the whole loop less the tile's begin."""
        if value in self.indices.variables:
            return ((self.indices.variables[value], 1),), 0
        if value in self.begins:
            terms, constant = self.begins[value]
            return (*((v, -c) for v, c in terms), (self.numbers[value], 1)), -constant
        if value in self.numbers:
            return ((self.numbers[value], 1),), 0
        known = self.indices.numbers(value)
        if isinstance(known, int):
            return (), known
        return ((self._index_from_outside(op, value), 1),), 0

    # ---- scalar ops ----------------------------------------------------------------------------------------------

    def _scalar(self, op: Any) -> BodyOp:
        results = tuple(map(self.reader.types.text, op.results))
        operands = tuple(self._operands(op))
        name, attribute = _ATTRIBUTES.get(op.name, _plain)(op, self.reader.types)
        return BodyOp(name, operands, attribute, results)

    # ---- structured control flow ---------------------------------------------------------------------------------

    def _structured(self, op: Any) -> BodyOp:
        if op.name not in ("scf.if", "scf.while"):
            raise refuse(op, "bodies have scf.if and scf.while only. Write it with these.")
        reader = self.reader
        used = [v for v in reader.structure.used(op) if reader.types.text(v) != "index"]
        free = [v for v in used if v in self.numbers or not reader.is_put_in(v)]
        regions = []
        for arguments, operations in self.reader.structure.blocks(op):
            block = _BlockReader(self.reader, self.indices, [*arguments, *free])
            regions.append(block.read(operations))
        operands = (*self._operands(op), *(self._number(op, v) for v in free))
        return BodyOp(op.name, operands, None, tuple(map(self.reader.types.text, op.results)), tuple(regions))


# ---- what ops say besides their operands ------------------------------------------------------------------------


def _plain(op: Any, types: Types) -> tuple[str, Any]:
    """An op of arith or math that is told nothing else, of one type or a conversion."""
    dialect, _, name = op.name.partition(".")
    kinds = {types.text(v) for v in (*op.operands, *op.results)}
    if dialect not in ("arith", "math") or len(op.results) != 1 or (len(kinds) > 1 and name not in CONVERSIONS):
        raise refuse(op, "it is no scalar op of a body. Use arith and math on one type, conversions, or ops of ours.")
    _check_flags(op, types, _HARMLESS)
    return op.name, None


def _check_flags(op: Any, types: Types, known: frozenset[str]) -> None:
    if unknown := set(op.attributes) - known:
        raise refuse(op, f"it has an attribute '{min(unknown)}'. Scalar ops mean what they say: leave it out.")
    if types.has_flags and "fastmath" in op.attributes and "<none>" not in str(op.attributes["fastmath"]):
        raise refuse(op, f"it has {op.attributes['fastmath']}. Scalar ops mean what they say: set no fastmath flags.")


def _constant(op: Any, types: Types) -> tuple[str, Any]:
    return "arith.constant", types.literal(op.attributes["value"])


def _comparison(op: Any, types: Types) -> tuple[str, Any]:
    _check_flags(op, types, _HARMLESS | {"predicate"})
    return op.name, _PREDICATES[op.name][op.attributes["predicate"].value]


def _select(op: Any, types: Types) -> tuple[str, Any]:
    return op.name, None


def _intrinsic(op: Any, types: Types) -> tuple[str, Any]:
    """Named without the types that its name ends in."""
    suffix = "." + ".".join(str(v.type) for v in (*op.results, *op.operands))
    name = op.attributes["intrin"].value
    known = name.removesuffix(suffix)
    if not name.endswith(suffix) or len(op.operands) != 1 or known not in _SATURATING:
        raise refuse(op, f"the intrinsic {name} is not known. Use {' or '.join(_SATURATING)}.")
    return known, None


_SATURATING = ("llvm.fptosi.sat", "llvm.fptoui.sat")


def _fold(op: Any, types: Types) -> tuple[str, Any]:
    return op.name, Order(op.attributes["order"].value, types.literal(op.attributes["identity"]))


def _check(op: Any, types: Types) -> tuple[str, Any]:
    return op.name, op.attributes["code"].value


def _size(op: Any, types: Types) -> tuple[str, Any]:
    return op.name, parse(op.attributes["size"].value)


_ATTRIBUTES: dict[str, Callable[[Any, Types], tuple[str, Any]]] = {
    **dict.fromkeys(CONSTANTS, _constant),
    "arith.cmpf": _comparison,
    "arith.cmpi": _comparison,
    "arith.select": _select,
    "tensor.extract": _select,
    "llvm.call_intrinsic": _intrinsic,
    "flambeau.fold": _fold,
    "flambeau.check": _check,
    "flambeau.size": _size,
    "flambeau.any_lane": _select,
}
